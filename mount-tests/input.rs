//! Bad input: each is refused in words, exit 1, and nothing has changed.

use crate::house::House;
use crate::{Check, check};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

pub const CHECKS: &[Check] = &[
    check("machine_files_with_a_wrong_word", &[], machine_files),
    check("a_refused_machine_leaves_no_images", &[], no_images),
    check("a_door_that_cannot_open_refuses_the_machine", &[], doors),
    check("settings_with_a_wrong_word", &[], settings),
    check("what_the_start_finds_out_is_told_at_its_line", &[], keys_at_start),
    check("state_directories_that_cannot_be", &[], state_directories),
    check("mount_points_that_cannot_be", &[], mount_points),
    check("garbage_to_ctl", &[], garbage_to_ctl),
    check("wrong_command_lines_exit_2", &[], command_lines),
    check("no_machine_to_talk_to", &[], no_machine),
    check("a_refusal_is_told_in_one_piece", &[], one_piece),
];

fn machine_files() {
    let h = House::unmounted(&[]);
    let cases = [
        (
            "[[disk]]\nname = \"sd0\"\nsise = \"64M\"\n",
            "m.toml:3: unknown key \"sise\", did you mean \"size\"?",
        ),
        ("[[disk]]\nname = \"sd0\"\nsize = \"64Q\"\n", "m.toml:3:"),
        ("[[disk]]\nname = \"sd0\"\nsize = \"1000\"\n", "m.toml:3:"),
        ("[[disk]]\nname = \"sd0\"\nsize = true\n", "m.toml:3:"),
        ("[[disk]]\nname = \"sd0\"\n[[disk]]\nname = \"sd0\"\n", "m.toml:4:"),
        ("[[dsik]]\nname = \"sd0\"\n", "m.toml:1:"),
        ("[[disk]]\nname = \"xx0\"\n", "m.toml:2:"),
        (
            "[[disk]]\nname = \"sd0\"\nsize = \"1M\"\nport = 0x300\n\
             [[disk]]\nname = \"sd1\"\nsize = \"1M\"\nport = 0x304\n",
            "port",
        ),
        ("[[disk]]\nname = \"sd0\"\nsize = \"1M\"\nirq = 999\n", "no irq 999: the last is 223"),
        ("[cache]\nsize = \"0\"\n", "m.toml:2: \"size\" of [cache] is at least"),
        ("[[disk]\n", "m.toml:1"),
        ("[cache]\nsize = \"lots\"\n", "m.toml:2:"),
        ("[[printer]]\nname = \"lp0\"\nsink = \"|\"\n", "m.toml:3: \"sink\" of lp0: no command"),
        ("[[printer]]\nname = \"lp0\"\nsink = \"no/out\"\n", "there is no directory"),
        (
            "[[disk]]\nname = \"sd0\"\n[[printer]]\nname = \"lp0\"\nsink = \"sd0.img\"\n",
            "m.toml:5: \"sink\" of lp0: file \"sd0.img\" is the image of \"sd0\" already; name",
        ),
        ("[[serial]]\nname = \"ttyS0\"\npeer = \"ttyS1\"\n", "m.toml:3: \"peer\" of ttyS0: "),
    ];
    for (text, words) in cases {
        std::fs::write(h.scratch().join("m.toml"), text).expect("a machine file");
        let said = h.try_sh("cd $T; spindle mount $M --state $S --machine m.toml");
        assert!(said.status == 1, "{text}: {said:?}");
        assert!(said.err.starts_with("spindle: ") && said.err.contains(words), "{text}: {said:?}");
        h.sh("! mountpoint -q $M");
    }
    for script in ["--machine $T/none.toml", "--machine $T", "--machine /dev/null/x"] {
        let said = h.try_sh(&format!("spindle mount $M --state $S {script}"));
        assert!(said.status == 1 && said.err.starts_with("spindle: "), "{said:?}");
    }
}

fn doors() {
    let h = House::unmounted(&[]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let lpd = format!("[lpd]\nlisten = \"127.0.0.1:{port}\"\n");
    let raw = format!(
        "[[disk]]\nname = \"sd0\"\nsize = \"1M\"\n[[printer]]\nname = \"lp0\"\n\
         [jetdirect]\nlp0 = \"127.0.0.1:{port}\"\n"
    );
    for (text, place) in [
        (lpd, "m.toml:2: \"listen\" of [lpd]: "),
        (raw, "m.toml:7: \"lp0\" of [jetdirect]: "),
        ("[lpd]\nlisten = \"192.0.2.1:5515\"\n".into(), "m.toml:2: \"listen\" of [lpd]: "),
    ] {
        std::fs::write(h.scratch().join("m.toml"), &text).expect("a machine file");
        let said = h.try_sh("cd $T; spindle mount $M --state $S --machine m.toml");
        assert!(said.status == 1 && said.err.contains(place), "{text}: {said:?}");
        assert!(said.err.contains("; another program listens there") || place.contains(":2:"));
        h.sh("! mountpoint -q $M; ! ls $S/*.img");
    }
}

fn no_images() {
    let h = House::unmounted(&[]);
    for text in [
        "[[disk]]\nname = \"sd0\"\nsize = \"1M\"\n\
         [[disk]]\nname = \"sd1\"\nsize = \"1M\"\nport = 0x4001\n",
        "[[disk]]\nname = \"sd0\"\nsize = \"8191T\"\n",
    ] {
        std::fs::write(h.scratch().join("m.toml"), text).expect("a machine file");
        let said = h.try_sh("spindle mount $M --state $S --machine $T/m.toml");
        assert!(said.status == 1, "{text}: {said:?}");
        h.sh("! ls $S/*.img 2>/dev/null");
    }
    // The default machine, with disks of other sizes, finds nothing in its way.
    h.mount();
    h.sh("echo kept | dd of=$M/dev/sd1 conv=notrunc,fsync status=none");
    h.umount();
    // What was there before stays.
    let said = h.try_sh("spindle mount $M --state $S --set sd0.port=0x4101");
    assert!(said.status == 1, "{said:?}");
    assert_eq!(h.sh("head -c 4 $S/sd1.img; [ -f $S/sd0.img ]"), "kept");
}

fn settings() {
    let h = House::unmounted(&[]);
    for (setting, word) in [
        ("cache.sise=1M", "size"),
        ("sd0.sise=1M", "size"),
        ("cache.size", "="),
        ("sd9.size=1M", "sd9"),
    ] {
        let said = h.try_sh(&format!("spindle mount $M --state $S --set {setting}"));
        assert!(said.status == 1 && said.err.contains(word), "{setting}: {said:?}");
    }
    for disk in ["sd5", "sd5=", "sd5=$T/none.img", "sd0=$T/x", "5=x"] {
        let said = h.try_sh(&format!("spindle mount $M --state $S --disk {disk}"));
        assert!(said.status == 1 && said.err.starts_with("spindle: "), "{disk}: {said:?}");
    }
}

/// What only the start finds out is told with the line of the key that says it.
fn keys_at_start() {
    let h = House::unmounted(&[]);
    h.sh("mkdir -p $S/dir; truncate -s 1M $S/small; echo thesis >$S/taken");
    let machine = h.scratch().join("machine.toml");
    let table = [
        ("[[disk]]; name = 'sd0'; size = '2M'; image = 'small'", "3: \"size\" of sd0: image "),
        ("[[disk]]; name = 'sd0'; size = '2M'; image = 'dir'", "4: \"image\" of sd0: image "),
        ("[[disk]]; name = 'sd0'; image = 'none'", "3: \"image\" of sd0: image "),
        ("[[tape]]; name = 'st0'; image = 'dir'", "3: \"image\" of st0: tape "),
        ("[[tape]]; name = 'st0'; block = '16M'", "3: \"block\" of st0: must be less than 16M"),
        ("[[serial]]; name = 'ttyS0'; peer = 'unix:taken'", "3: \"peer\" of ttyS0: "),
        ("[[serial]]; name = 'ttyS0'; peer = 'unix:no/s'", "3: \"peer\" of ttyS0: "),
        ("[[serial]]; name = 'ttyS0'; peer = 'file:dir'", "3: \"peer\" of ttyS0: "),
        ("[[printer]]; name = 'lp0'; sink = 'dir'", "3: \"sink\" of lp0: "),
    ];
    for (text, words) in table {
        std::fs::write(&machine, text.replace("; ", "\n")).expect("a description");
        let said = h.try_sh("spindle mount $M --state $S --machine $T/machine.toml");
        let place = format!("{}:{words}", machine.display());
        assert!(said.status == 1 && said.err.contains(&place), "{text}: {said:?}");
    }
    h.sh("[ $(cat $S/taken) = thesis ]; ! mountpoint -q $M");
}

fn state_directories() {
    let h = House::unmounted(&[]);
    h.sh("echo x > $T/file");
    for state in ["$T/file", "/proc/nothing", "/dev/null/x"] {
        let said = h.try_sh(&format!("spindle mount $M --state {state}"));
        assert!(said.status == 1 && said.err.starts_with("spindle: "), "{state}: {said:?}");
        h.sh("! mountpoint -q $M");
    }
    h.sh("mkdir $T/old; echo 'spindle state 99' > $T/old/version");
    let said = h.try_sh("spindle mount $M --state $T/old");
    assert!(said.status == 1 && said.err.contains("version"), "{said:?}");
}

fn mount_points() {
    let h = House::new();
    h.sh("echo x > $T/file");
    for place in ["$T/file", "$M", "/proc/nothing/here"] {
        let said = h.try_sh(&format!("spindle mount {place} --state $T/s2"));
        assert!(said.status == 1 && said.err.starts_with("spindle: "), "{place}: {said:?}");
    }
    h.sh("ls $M/dev/sd0; [ $(spindle list | grep -c $M) = 1 ]");
}

fn garbage_to_ctl() {
    let h = House::new();
    let before = h.text("proc/mounts");
    let error = h.refused("frobnicate now");
    assert!(error.contains("no such command: frobnicate"), "{error}");
    assert!(h.refused("puase sd0").contains("did you mean pause?"));
    assert!(h.refused("pause").contains("pause DEV"));
    assert!(h.refused("pause sd7").contains("sd7"));
    assert!(h.refused("trace maybe").contains("trace: maybe is not on, off or clear"));
    for (line, words) in [
        ("umount /mnt", "umount: /mnt: "),
        ("mount -t mem none /nope", "mount: /nope: "),
        ("mknod /nope/x b 8 0", "mknod: /nope: "),
        ("mknod /dev/sd0 b 8 0", "mknod: /dev/sd0: "),
        ("paper lp0 x", "paper: x: a number up to 4294967295 or endless is right"),
        ("cover lp0 ajar", "cover: ajar: open or closed is right"),
        ("jam nosuch", "jam: no printer nosuch (there are lp0, lp1)"),
        ("pause lp0", "pause: rlp0: pause is for disks; lpc stop stops a printer"),
        ("freeze ttyS0", "freeze: ttyS0: freeze is for disks; hold keeps a port's driver from it"),
        ("fault add x on sd0 block=9-131072 do hang", "block 131072: the last of sd0 is 131071"),
        ("fault add x on sd0 block=9-1 do hang", "block=A-B with A not above B"),
    ] {
        let error = h.refused(line);
        assert!(error.contains(words), "{line}: {error}");
    }
    for script in [
        "printf 'pa\\0use sd0\\n' > $M/ctl",
        "head -c 1M /dev/zero | tr '\\0' x > $M/ctl",
        "head -c 1000 /dev/urandom > $M/ctl",
        "echo 'pause \"sd0' > $M/ctl",
        "echo frob > $M/ctl",
    ] {
        let said = h.try_sh(script);
        assert!(said.status != 0, "{script}: {said:?}");
    }
    assert!(h.text("ctl").contains("no such command: frob"), "{}", h.text("ctl"));
    assert_eq!(h.text("proc/mounts"), before);
    h.sh("spindle --at $M status | grep sd0 | grep -q idle");
    let said = h.try_sh("spindle --at $M resolve /dev/nope");
    let words = "spindle: resolve: /dev/nope: No such file or directory";
    assert!(said.status == 1 && said.err == words, "{said:?}");
    assert!(said.out.starts_with("prefix=/dev type=dev\n"), "{said:?}");
}

fn command_lines() {
    let h = House::unmounted(&[]);
    for script in ["spindle", "spindle mont $M", "spindle mount", "spindle mount $M --time dali"] {
        let said = h.try_sh(script);
        assert!(said.status == 2, "{script}: {said:?}");
    }
    h.sh("spindle --help >/dev/null; spindle mount --help | grep -qi example
          spindle mount --print-machine > $T/m.toml; grep -q sd0 $T/m.toml
          spindle completions bash >/dev/null; spindle man | grep -q SPINDLE");
}

fn no_machine() {
    let h = House::unmounted(&[]);
    let said = h.try_sh("spindle --at $T status");
    assert!(said.status == 1 && said.err.starts_with("spindle: "), "{said:?}");
}

/// Several that tell of errors to one file or terminal do not tear each other's lines apart.
fn one_piece() {
    let h = House::unmounted(&[]);
    let (ctl, lpq) = (["--at", "/", "ctl", "help"], ["--at", "/", "lpq", "-P", "a\nb"]);
    for words in [&ctl[..], &lpq, &["mont", "/m"], &["mount", ""]] {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair of sockets");
        let mut command = h.spindle();
        let status = command.args(words).stderr(OwnedFd::from(theirs)).status();
        drop(command); // and with it our copy of its end
        assert!(!status.expect("it runs").success(), "{words:?}");
        ours.set_nonblocking(true).expect("it does not wait");
        let mut bytes = [0; 4096];
        let len = ours.recv(&mut bytes).expect("words");
        let told = String::from_utf8_lossy(&bytes[..len]).into_owned();
        assert!(told.starts_with("spindle: ") && told.ends_with('\n'), "{words:?}: {told:?}");
        assert!(
            ours.recv(&mut bytes).map_or(true, |len| len == 0),
            "{words:?}: more than {told:?}"
        );
    }
}
