//! What the machine's description accepts, and the words with which it refuses.

use super::*;
use devices::contract::host_file::DISK_IMAGE;
use devices::machine::Machine;
use devices::{AttachError, Attached, HostFile, Key, Kind};
use proptest::prelude::*;

const fn key(name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { name, kind, default, doc: "as its name says" }
}

const DISK: &[Key] = &[
    key("size", Kind::Size, "64M"),
    key("image", Kind::Path, ""),
    key("irq", Kind::Number, ""),
    key("sector", Kind::Size, "512"),
    key("read_only", Kind::Flag, "false"),
    key("timing", Kind::Choice(&["none", "disk7200", "ssd"]), "none"),
    key("timeout", Kind::Time, "5s"),
    key("rate", Kind::Rate, ""),
];
const SERIAL: &[Key] =
    &[key("peer", Kind::Text, ""), key("port", Kind::Number, ""), key("irq", Kind::Number, "")];
const RAM: &[Key] = &[key("size", Kind::Size, "16M")];

struct TestDriver(&'static str, &'static str, &'static [Key], Option<u16>);

impl Driver for TestDriver {
    fn name(&self) -> &'static str {
        self.0
    }
    fn block_major(&self) -> Option<u16> {
        self.3
    }
    fn char_major(&self) -> Option<u16> {
        self.3
    }
    fn minors(&self) -> u32 {
        16
    }
    fn section(&self) -> &'static str {
        self.1
    }
    fn keys(&self) -> &'static [Key] {
        self.2
    }
    fn image(&self) -> Option<HostFile> {
        self.2.iter().any(|key| key.name == "image").then_some(DISK_IMAGE)
    }
    fn attach(&self, _: &UnitConfig, _: &Machine) -> Result<Attached, AttachError> {
        Err(AttachError::Absent)
    }
}

const DRIVERS: &[&'static dyn Driver] = &[
    &TestDriver("mem", "", &[], None),
    &TestDriver("ram", "disk", RAM, None),
    &TestDriver("sd", "disk", DISK, Some(8)),
    &TestDriver("hd", "disk", DISK, Some(3)),
    &TestDriver("fd", "disk", DISK, Some(2)),
    &TestDriver("rsd", "disk", DISK, None),
    &TestDriver("com", "serial", SERIAL, None),
    &TestDriver("st", "tape", DISK, None),
    &TestDriver("lp", "printer", &[], None),
];

fn read(text: &str) -> Result<Config, Complaints> {
    from_text("my.toml", text, &Sources::default(), DRIVERS)
}

fn refusal(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

fn typed(sources: Sources) -> Result<Config, Complaints> {
    load(&sources, DRIVERS)
}

fn set(words: &str) -> Result<Config, Complaints> {
    typed(Sources { sets: vec![words.into()], ..Sources::default() })
}

fn unit<'a>(config: &'a Config, name: &str) -> &'a UnitConfig {
    config.units.iter().find(|unit| unit.name == name).expect(name)
}

#[test]
fn the_machine_as_shipped_has_its_units_in_order() {
    let config = load(&Sources::default(), DRIVERS).unwrap();
    let names: Vec<_> = config.units.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(names, ["ram0", "sd0", "sd1", "hd0", "fd0", "st0", "lp0", "lp1", "ttyS0", "ttyS1"]);
    assert_eq!((config.cache.size_bytes, config.cache.flush_age_nanos), (64 << 20, 30_000_000_000));
    assert_eq!((config.cache.wake_percent, config.cache.high_percent), (60, 80));
    assert_eq!(config.machine, MachineConfig { time: Time::Real, seed: None });
    assert_eq!(unit(&config, "sd1").number("size"), Some(256 << 20));
    assert_eq!(unit(&config, "hd0").text("timing"), Some("disk7200"));
    assert_eq!((unit(&config, "sd1").unit, unit(&config, "sd1").driver.as_str()), (1, "sd"));
}

#[test]
fn defaults_are_filled_in_and_places_kept() {
    let config = read("\n[[disk]]\nname = 'sd0'\nirq = 0xe\n").unwrap();
    let sd0 = unit(&config, "sd0");
    assert_eq!((sd0.number("size"), sd0.number("irq")), (Some(64 << 20), Some(14)));
    assert_eq!((sd0.number("sector"), sd0.number("timeout")), (Some(512), Some(5_000_000_000)));
    assert_eq!((sd0.flag("read_only"), sd0.text("image"), sd0.text("name")), (false, None, None));
    assert_eq!(config.place("sd0"), "my.toml:3");
}

#[test]
fn what_is_printed_is_the_machine_as_shipped_with_every_key_of_every_driver() {
    let printed = print_machine(DRIVERS);
    let again = from_text("printed", &printed, &Sources::default(), DRIVERS).unwrap();
    let shipped = load(&Sources::default(), DRIVERS).unwrap();
    assert_eq!(again.units, shipped.units);
    assert_eq!((again.cache, again.tree), (shipped.cache, shipped.tree));
    assert_eq!(again.machine, shipped.machine);
    let keys = DRIVERS.iter().flat_map(|driver| driver.keys());
    for key in keys.chain(schema::FIXED.iter().flat_map(|(_, keys)| keys.iter())) {
        assert!(printed.contains(&format!("#   {} =", key.name)), "{}", key.name);
    }
    assert!(printed.contains("#       a size such as 512, 64K or 64M: as its name says\n"));
    assert!(printed.lines().all(|line| line.len() <= 100));
}

/// Every key of a list, as the reference writes it.
fn lines<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<String> {
    keys.into_iter().map(|key| format!("#   {} =", key.name)).collect()
}

#[test]
fn the_machine_as_shipped_fits_the_drivers_that_there_are() {
    let drivers = devices::conf::drivers();
    let shipped = load(&Sources::default(), &drivers).unwrap();
    let printed = print_machine(&drivers);
    let again = from_text("printed", &printed, &Sources::default(), &drivers).unwrap();
    assert_eq!(again.units, shipped.units);
    for driver in &drivers {
        for line in lines(driver.keys()) {
            assert!(printed.contains(&line), "{}: {line}", driver.name());
        }
    }
}

#[test]
fn every_default_of_every_driver_is_a_value_of_its_kind_and_every_key_is_explained() {
    let drivers = devices::conf::drivers();
    let fixed = schema::FIXED.iter().flat_map(|(_, keys)| keys.iter());
    for key in drivers.iter().flat_map(|driver| driver.keys()).chain(fixed) {
        let is_value = key.default.is_empty() || key.kind.parse(key.default).is_ok();
        assert!(is_value, "{} = {:?}", key.name, key.default);
        assert!(!key.doc.is_empty() && !key.doc.ends_with('.'), "{}: {}", key.name, key.doc);
    }
}

#[test]
fn an_empty_description_is_a_machine_without_units() {
    let config = read("").unwrap();
    assert!(config.units.is_empty());
    assert_eq!(config.cache.size_bytes, 64 << 20);
}

/// A description, and behind it the line and the words with which it is refused. A `;` is a line
/// end, a `$` the begin of a disk called sd0, a `&` that of a port called ttyS0, with its peer.
const MISTAKES: &str = r#"
$; sise = '64M'
    3: unknown key "sise", did you mean "size"?
[cache]; sice = '1M'
    2: unknown key "sice", did you mean "size"?
[tree]; wibble = 1
    2: unknown key "wibble", [tree] has allow_other
[[dsik]]; name = 'sd0'
    1: unknown section [[dsik]], did you mean [[disk]]?
[wibble]
    1: unknown section [wibble]
[disk]; name = 'sd0'
    1: a unit is written [[disk]], with two brackets
; [[cache]]
    2: there is only one [cache], write it with one bracket
size = 1
    1: "size" stands in no section such as [cache]
[cache]; wake_percent = 90
    2: wake_percent is at most high_percent, and that is at most 100
[cache]; size = '1M'; high_percent = 101
    3: wake_percent is at most high_percent, and that is at most 100
[[disk]]; size = '1M'
    1: [[disk]] has no name; name = "sd0" is one
[[disk]]; name = 'sd0p1'
    2: "sd0p1" is no name of a unit: letters and a number, such as sd0, are right
[[disk]]; name = 'sd00'
    2: "sd00" is no name of a unit: letters and a number, such as sd0, are right
[[disk]]; name = 3
    2: a name stands in quotes, as in name = "sd0"
[[disk]]; name = 'sx0'
    2: unknown driver "sx", did you mean "sd"?
[[disk]]; name = 'a0'; driver = 'wibble'
    3: unknown driver "wibble", here there are fd, hd, ram, rsd, sd
[[disk]]; name = 'a0'; driver = 'com'
    3: driver "com" stands under [[serial]]
[[disk]]; name = 'a0'; driver = 'mem'
    3: driver "mem" is always there and has no section
$; size = '64Q'
    3: "size" of sd0: "64Q" is not a size such as 512, 64K or 64M
$; size = -1
    3: "size" of sd0: -1 is not a size such as 512, 64K or 64M
$; size = true
    3: "size" of sd0: true is not a size such as 512, 64K or 64M
$; size = []
    3: "size" of sd0: an array is not a size such as 512, 64K or 64M
$; timeout = 5
    3: "timeout" of sd0: 5 is not a time such as 250us, 8ms or 30s
$; rate = '8M'
    3: "rate" of sd0: "8M" is not a rate such as 500K/s or 8M/s
$; read_only = 'true'
    3: "read_only" of sd0: the text "true" is not true or false
$; timing = 'disk720'
    3: "timing" of sd0: "disk720" is not none, disk7200 or ssd, did you mean "disk7200"?
$; sector = 1024
    3: a sector of sd0 has 512 or 4096 bytes, not 1024
$; size = 1000
    3: size 1000 of sd0 is no multiple of its sector of 512 bytes; 1K is one
$; size = 512; sector = 4096
    3: size 512 of sd0 is no multiple of its sector of 4096 bytes; 4K is one
$; size = 0
    3: size 0 of sd0 is no multiple of its sector of 512 bytes; 512 is one
$; $
    4: duplicate name "sd0", first at my.toml:2
$; [[disk]]; name = 'a0'; driver = 'sd'
    4: unit 0 of driver sd is "sd0" already, at my.toml:2
[[disk]]; name = 'sd99999'
    2: unit number 99999 is too large: at most 65535
$; [[disk]]; name = 'rsd0'
    4: "rsd0" is the name of the raw twin of "sd0"
[[disk]]; name = 'rsd0'; $
    4: "rsd0" is the name of the raw twin of "sd0"
$; [[disk]]; name = 'sd1'; image = 'sd0.img'
    5: image "sd0.img" is that of "sd0" already
& 'ttyS7'
    3: "peer" of ttyS0: there is no serial port "ttyS7", did you mean "ttyS0"?
& 'modem'
    3: "peer" of ttyS0: there is no serial port "modem"; a port, pty, unix:PATH or file:PATH is
& 'unix:'
    3: "peer" of ttyS0: "unix:" is none; a port, pty, unix:PATH or file:PATH is
& 'ttyS1'; [[serial]]; name = 'ttyS1'; [[serial]]; name = 'ttyS2'; peer = 'ttyS1'
    8: "peer" of ttyS2: the cable of ttyS1 leads to ttyS0; a port has one cable
& 'ttyS1'; [[serial]]; name = 'ttyS1'; peer = 'pty'
    3: "peer" of ttyS0: the cable of ttyS1 leads to pty; a port has one cable
& 'ttyS0'; [[serial]]; name = 'ttyS1'; peer = 'ttyS0'
    6: "peer" of ttyS1: the cable of ttyS0 leads to ttyS0; a port has one cable
[lpd]; listen = 'nonsense'
    2: "listen" of [lpd]: "nonsense" is no HOST:PORT; "127.0.0.1:5515" is one
[lpd]; listen = ':515'
    2: "listen" of [lpd]: ":515" is no HOST:PORT; "127.0.0.1:5515" is one
[lpd]; listen = '::1'
    2: "listen" of [lpd]: "::1" is no HOST:PORT; "127.0.0.1:5515" is one
[lpd]; listen = 'localhost:99999'
    2: "listen" of [lpd]: "localhost:99999" is no HOST:PORT; "127.0.0.1:5515" is one
[lpd]; listen = 515
    2: "listen" of [lpd]: 515 is not one line of text
[[printer]]; name = 'lp0'; [jetdirect]; lp0 = 'localhost'
    4: "lp0" of [jetdirect]: "localhost" is no HOST:PORT; "127.0.0.1:9100" is one
"#;

#[test]
fn mistakes_are_told_with_file_line_and_the_right_word() {
    let lines: Vec<_> = MISTAKES.trim().lines().collect();
    for case in lines.chunks(2) {
        let text = case[0].replace('$', "[[disk]]; name = 'sd0'");
        let text = text.replace('&', "[[serial]]; name = 'ttyS0'; peer =").replace(';', "\n");
        assert_eq!(refusal(&text), format!("my.toml:{}", case[1].trim()), "{text}");
    }
}

#[test]
fn cables_that_can_be_joined_are_taken() {
    let port = |name: &str, peer: &str| format!("[[serial]]\nname = '{name}'\npeer = '{peer}'\n");
    for text in [
        port("ttyS0", "ttyS1") + &port("ttyS1", "ttyS0"),
        port("ttyS0", "ttyS1") + "[[serial]]\nname = 'ttyS1'\n",
        port("ttyS0", "ttyS0"), // a plug that leads back
        port("ttyS0", "pty") + &port("ttyS1", "pty") + &port("ttyS2", "file:/tmp/x"),
    ] {
        assert!(read(&text).is_ok(), "{text}");
    }
}

#[test]
fn doors_are_kept_with_the_place_of_their_key() {
    let text = "[[printer]]\nname = 'lp0'\n[lpd]\nlisten = '[::1]:5515'\n\
                [jetdirect]\nlp0 = 'localhost:0'\n";
    let config = read(text).unwrap();
    let lpd = config.lpd.unwrap();
    assert_eq!(lpd.address, "[::1]:5515");
    assert_eq!(lpd.place, "my.toml:4: \"listen\" of [lpd]");
    assert_eq!(config.jetdirect[0].1.place, "my.toml:6: \"lp0\" of [jetdirect]");
    let lpd = set("lpd.listen=127.0.0.1:1").unwrap().lpd.unwrap();
    assert_eq!(lpd.place, "--set lpd.listen=127.0.0.1:1: \"listen\" of [lpd]");
}

#[test]
fn sinks_that_could_only_fail_later_are_refused_at_their_line() {
    let refused = |sink: &str| {
        let text = format!("[[printer]]\nname = 'lp0'\nrate = '1K/s'\nsink = '{sink}'\n");
        let drivers = devices::conf::drivers();
        from_text("my.toml", &text, &Sources::default(), &drivers).unwrap_err().to_string()
    };
    let table = [
        ("|", "no command behind the |; \"|cat >/tmp/out\" has one"),
        ("tcp://x", "no port; tcp://x:9100 has one"),
        ("%z", "%z stands for nothing; %j is the job's number, %n its name"),
        ("/nope/out", "there is no directory /nope; mkdir /nope makes it"),
        ("/dev/null/%j", "/dev/null is no directory; name another"),
    ];
    for (sink, words) in table {
        assert_eq!(refused(sink), format!("my.toml:4: \"sink\" of lp0: {words}"));
    }
}

#[test]
fn what_no_driver_takes_is_refused_at_its_line() {
    let refused = |text: &str| {
        let drivers = devices::conf::drivers();
        from_text("my.toml", text, &Sources::default(), &drivers).unwrap_err().to_string()
    };
    let port = "[[serial]]\nname = 'ttyS0'\nport = 1\nirq = 1\n";
    let class = "[[printer]]\nname = 'lp0'\n[[queue]]\nname = 'any'\n";
    let table = [
        (
            format!("{port}completion = 'polled'\npoll_interval = '1us'\n"),
            "6: \"poll_interval\" of ttyS0: 1us is too short: at least 100us",
        ),
        (
            format!("{port}half_duplex = true\npacing = false\n"),
            "5: \"half_duplex\" of ttyS0: without pacing a line sends in no time, and so is never \
             deaf: pacing = true goes with it",
        ),
        (
            format!("{class}members = 'lp0 lp1'\n"),
            "5: \"members\" of any: there is no printer \"lp1\", did you mean \"lp0\"?",
        ),
        (
            format!("{class}members = 'laser'\n"),
            "5: \"members\" of any: there is no printer \"laser\", there are: lp0",
        ),
        (
            "[[queue]]\nname = 'any'\nmembers = 'lp0'\n".into(),
            "3: \"members\" of any: there is no printer \"lp0\", nor any other: [[printer]] makes \
             one",
        ),
        (
            class.into(),
            "4: queue any: no printer of that name, and no members; members = \"lp0 lp1\" makes it \
             a class",
        ),
        (
            "[[printer]]\nname = 'lp0'\n[[queue]]\nname = 'lp0'\nmembers = 'lp0'\n".into(),
            "5: \"members\" of lp0: the queue of printer lp0 has no others; leave them out, or \
             name the queue otherwise",
        ),
    ];
    for (text, words) in table {
        assert_eq!(refused(&text), format!("my.toml:{words}"), "{text}");
    }
}

#[test]
fn bad_toml_is_told_with_its_line() {
    for (text, line) in [("[[disk]]\nname =", 2), ("[a]\n[b\n", 2), ("a = 1\na = 2", 2)] {
        let words = refusal(text);
        assert!(words.starts_with(&format!("my.toml:{line}: ")) && words.len() > 14, "{words}");
        assert!(!words.contains('\n'), "{words}");
    }
    let words = refusal("[cache]\n\nsize = 64M # big\n");
    assert!(words.starts_with("my.toml:3: ") && words.contains("it wants quotes"), "{words}");
}

#[test]
fn every_mistake_is_told_in_the_order_of_the_lines() {
    let words = refusal("[[disk]]\nname = 'sd0'\nsize = 'x'\nirk = 1\n[cash]\n");
    let lines: Vec<_> = words.lines().map(|line| &line[..10]).collect();
    assert_eq!(lines, ["my.toml:3:", "my.toml:4:", "my.toml:5:"]);
}

#[test]
fn two_disks_may_read_one_image() {
    let disk = |name| format!("[[disk]]\nname = '{name}'\nimage = 'a.img'\nread_only = true\n");
    assert!(read(&(disk("sd0") + &disk("sd1"))).is_ok());
}

#[test]
fn a_section_with_one_driver_needs_not_name_it() {
    let config = read("[[serial]]\nname = 'ttyS1'").unwrap();
    assert_eq!((config.units[0].driver.as_str(), config.units[0].unit), ("com", 1));
}

#[test]
fn values_of_commands_are_read_and_shown_as_in_a_description() {
    assert_eq!(parse_size("64M").map(show_size), Ok("64M".into()));
    assert_eq!(parse_time("30s").map(show_time), Ok("30s".into()));
    assert_eq!(parse_size("lots").unwrap_err(), "\"lots\" is not a size such as 512, 64K or 64M");
    assert!(parse_time("30").is_err());
}

#[test]
fn set_changes_sections_and_units() {
    assert_eq!(set("cache.size=1M").unwrap().cache.size_bytes, 1 << 20);
    assert_eq!(unit(&set("sd0.size=1M").unwrap(), "sd0").number("size"), Some(1 << 20));
    assert!(unit(&set("sd0.read_only=true").unwrap(), "sd0").flag("read_only"));
    assert_eq!(unit(&set("sd0.sector=4096").unwrap(), "sd0").number("sector"), Some(4096));
    assert_eq!(set("machine.seed=7").unwrap().machine.seed, Some(7));
    let options = Sources { time: Some("virtual".into()), allow_other: true, ..Sources::default() };
    let config = typed(options).unwrap();
    assert_eq!((config.machine.time, config.tree.allow_other), (Time::Virtual, true));
}

#[test]
fn set_refuses_in_words() {
    let table = [
        ("sd0.sise=1M", "unknown key \"sise\", did you mean \"size\"?"),
        ("sd0.size=1X", "\"size\" of sd0: \"1X\" is not a size such as 512, 64K or 64M"),
        ("cach.size=1M", "no unit or section \"cach\", did you mean \"cache\"?"),
        ("sd7.size=1M", "no unit or section \"sd7\", did you mean \"sd0\"?"),
        ("size=1M", "no key, sd0.size=128M or cache.size=32M is right"),
        ("cache.size", "no value, sd0.size=128M or cache.size=32M is right"),
        ("cache.size=0", "\"size\" of [cache] is at least 4K and at most 1T"),
        ("cache.size=9999999G", "\"size\" of [cache] is at least 4K and at most 1T"),
        ("cache.flush_age=0s", "\"flush_age\" of [cache] is longer than nothing, as 30s"),
        ("sd0.name=sd5", "\"name\" of a unit can only be written in a machine file"),
    ];
    for (typed, words) in table {
        assert_eq!(set(typed).unwrap_err().to_string(), format!("--set {typed}: {words}"));
    }
}

#[test]
fn disks_are_added_and_replaced_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("a,b.img");
    std::fs::write(&image, vec![0; 8192]).unwrap();
    let image = image.to_str().unwrap();
    let disks = vec![format!("sd7={image}"), format!("sd0={image}2,ro")];
    std::fs::copy(image, format!("{image}2")).unwrap();
    let config = typed(Sources { disks, ..Sources::default() }).unwrap();
    let sd7 = unit(&config, "sd7");
    assert_eq!((sd7.text("image"), sd7.number("size")), (Some(image), Some(8192)));
    assert!(!sd7.flag("read_only") && unit(&config, "sd0").flag("read_only"));
    assert_eq!(unit(&config, "sd0").number("size"), Some(8192));
    assert_eq!(config.units.len(), 11);
}

#[test]
fn disks_on_the_command_line_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("odd");
    std::fs::write(&odd, "x").unwrap();
    let (odd, dir) = (odd.display(), dir.path().display());
    let table = [
        ("sd7".to_owned(), "no file; sd2=my.img is right".to_owned()),
        ("sd7=,ro".into(), "no file; sd2=my.img is right".into()),
        ("sd7=/nonexistent".into(), "/nonexistent: No such file or directory".into()),
        (format!("sd7={dir}"), format!("{dir}: not a regular file")),
        (
            format!("sd7={odd}"),
            "size 1 of sd7 is no multiple of its sector of 512 bytes; 512 is one".into(),
        ),
        (
            format!("x={odd}"),
            "\"x\" is no name of a unit: letters and a number, such as sd0, are right".into(),
        ),
    ];
    for (disk, words) in table {
        let refused = typed(Sources { disks: vec![disk.clone()], ..Sources::default() });
        assert_eq!(refused.unwrap_err().to_string(), format!("--disk {disk}: {words}"));
    }
}

#[test]
fn files_that_are_no_machine_files_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("binary"), b"[cache]\n\n\xff").unwrap();
    let table = [
        (path("none"), ": No such file or directory"),
        (path(""), ": Is a directory"),
        (path("binary"), ":3: not UTF-8 text"),
        ("/dev/zero".into(), ": longer than 1M, this is no machine file"),
    ];
    for (file, words) in table {
        let sources = Sources { machine: Some(file.clone()), ..Sources::default() };
        let refused = typed(sources).unwrap_err().to_string();
        assert_eq!(refused, format!("{}{words}", file.display()));
    }
}

#[test]
fn there_is_a_most_of_units() {
    let disks: String = (0..=unit::UNITS_MAX)
        .fold(String::new(), |text, number| text + &format!("[[disk]]\nname = 'sd{number}'\n"));
    assert_eq!(refusal(&disks), format!("my.toml:2049: more than {} units", unit::UNITS_MAX));
}

#[test]
fn of_very_many_mistakes_the_first_are_told() {
    let words = refusal(&"[[dsik]]\n".repeat(1000));
    assert_eq!(words.lines().count(), COMPLAINTS_MAX + 1);
    assert!(words.ends_with("\nand 980 more mistakes"), "{words}");
}

#[test]
fn brackets_without_end_are_refused() {
    for text in ["[", "a = [", "a = {b = ", "a.", "[a."] {
        assert!(read(&text.repeat(100_000)).is_err(), "{text}");
    }
}

/// Text that is close enough to a machine file to get far.
fn nearly() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "\\[{0,2}(disk|cache|tree|serial|machine|x)\\]{0,2}",
        "(name|driver|size|sector|timing|image|x)(\\.a)? ?= ?'(sd|r|ram)?[0-9]{0,9}[KMs/]?'",
        "(name|size|sector|irq|read_only) ?= ?([-0-9x]{1,20}|true|\\[\\]|\\{\\})",
        "\\PC{0,20}",
        "[\\x00-\\x7f]{0,9}",
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_every_refusal_names_a_line(text in nearly()) {
        if let Err(complaints) = read(&text) {
            for line in complaints.lines() {
                prop_assert!(line.starts_with("my.toml:") && !line.contains('\n'), "{}", line);
            }
        }
    }

    #[test]
    fn no_option_makes_it_panic(text in "\\PC{0,20}|[a-z0-9.]{0,9}=[a-z0-9.]{0,9}") {
        let _ = set(&text);
        let _ = typed(Sources { disks: vec![text], ..Sources::default() });
    }
}
