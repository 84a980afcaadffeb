//! The driver through its two minors, down to the tape's file: what programs see.

mod closing;
mod large;
mod model;
mod motions;
mod slow;

use super::*;
use crate::conf::attach_all;
use crate::contract::{DevId, Value};
use crate::engine::{Engine, Time};
use crate::switch::{CharUnit, Switch};

struct Bench {
    machine: Machine,
    rewinding: Arc<dyn CharDevice>,
    /// What most tests use: nst0.
    unit: Arc<dyn CharDevice>,
    _switch: Switch,
}

fn config(values: &[(&str, Value)]) -> UnitConfig {
    let mut unit = UnitConfig { name: "st0".into(), driver: "st".into(), ..UnitConfig::default() };
    unit.values.insert("size".into(), Value::Number(8 << 20));
    for (key, value) in values {
        unit.values.insert((*key).into(), value.clone());
    }
    unit
}

fn boot(machine: Machine, values: &[(&str, Value)]) -> Bench {
    let (switch, report) = attach_all(&machine, &[config(values)]);
    assert_eq!(report.refusals().collect::<Vec<_>>(), Vec::<String>::new());
    let unit = |minor| match switch.character(DevId { major: 9, minor }) {
        Ok(CharUnit::Device(_, _, unit)) => unit,
        _ => panic!("no unit {minor}"),
    };
    Bench { rewinding: unit(0), unit: unit(128), machine, _switch: switch }
}

#[test]
fn a_drive_is_found_at_its_place_or_left_out() {
    let lines = |units: &[UnitConfig]| {
        let machine = Machine::new(Engine::new(Time::Simulated), None, 1);
        let (_switch, report) = attach_all(&machine, units);
        let lines = report.probes.iter().map(ToString::to_string);
        lines.filter(|line| line.contains(" st ")).collect::<Vec<_>>()
    };
    let absent = config(&[("absent", Value::Flag(true))]);
    let wrong = config(&[("block", number(1 << 24))]);
    assert_eq!(lines(&[config(&[])]), ["st0 st found at port 0x6000 irq 64 dma 64"]);
    assert_eq!(lines(&[absent]), ["st0 st absent"]);
    assert_eq!(lines(&[wrong]), ["st0 st refused: \"block\" of st0: must be less than 16M"]);
    let far = UnitConfig { unit: 128, name: "st128".into(), ..config(&[("port", number(0x7000))]) };
    assert!(lines(&[far])[0].contains("the last tape is st127"));
    let second = UnitConfig { unit: 1, name: "st1".into(), ..config(&[]) };
    let both = lines(&[config(&[]), second]);
    assert_eq!(both[1], "st1 st found at port 0x6100 irq 65 dma 65");
}

fn bench_with(values: &[(&str, Value)]) -> Bench {
    let bench = boot(Machine::new(Engine::new(Time::Simulated), None, 1), values);
    bench.unit.open().unwrap();
    bench
}

fn bench() -> Bench {
    bench_with(&[])
}

fn number(value: u64) -> Value {
    Value::Number(value)
}

fn mtop(op: i16, count: i32) -> Vec<u8> {
    let mut bytes = op.to_le_bytes().to_vec();
    bytes.extend([0; 2]);
    bytes.extend(count.to_le_bytes());
    bytes
}

const FSF: i16 = 1;
const BSF: i16 = 2;
const FSR: i16 = 3;
const BSR: i16 = 4;
const WEOF: i16 = 5;
const REW: i16 = 6;
const OFFL: i16 = 7;
const NOP: i16 = 8;
const RETEN: i16 = 9;
const BSFM: i16 = 10;
const FSFM: i16 = 11;
const EOM: i16 = 12;
const ERASE: i16 = 13;
const SETBLK: i16 = 20;
const SETDENSITY: i16 = 21;
const SEEK: i16 = 22;
const SETDRVBUFFER: i16 = 24;
const LOCK: i16 = 28;
const UNLOCK: i16 = 29;
const LOAD: i16 = 30;
const UNLOAD: i16 = 31;
const WEOFI: i16 = 35;

/// What `mt status` reads.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    file: i32,
    block: i32,
    gstat: u64,
    dsreg: u64,
}

/// The words of a `struct mtget`.
fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

impl Bench {
    /// Makes a call again and again until it is answered, as whoever parks it does.
    fn settle<T>(&self, mut attempt: impl FnMut() -> Result<T, IoError>) -> Result<T, IoError> {
        loop {
            match attempt() {
                Err(IoError::WouldBlock) => {
                    assert!(self.machine.engine.skip_to_next(), "nothing will ever happen");
                }
                answer => return answer,
            }
        }
    }

    fn write(&self, data: &[u8]) -> Result<usize, IoError> {
        self.settle(|| self.unit.write(0, data))
    }

    fn read(&self, len: usize) -> Result<Vec<u8>, IoError> {
        let mut into = vec![0xee; len];
        let got = self.settle(|| self.unit.read(0, &mut into))?;
        assert!(into[got..].iter().all(|byte| *byte == 0xee));
        into.truncate(got);
        Ok(into)
    }

    fn mt(&self, op: i16, count: i32) -> Result<(), IoError> {
        let input = mtop(op, count);
        self.settle(|| {
            let cmd = mtio::MTIOCTOP;
            self.unit.ioctl(&mut Ioctl { cmd, input: &input, output: &mut [] })
        })
    }

    fn ask(&self, cmd: u32, len: usize) -> Result<Vec<u8>, IoError> {
        let mut output = vec![0xaa; len];
        self.settle(|| self.unit.ioctl(&mut Ioctl { cmd, input: &[], output: &mut output }))?;
        Ok(output)
    }

    fn told(&self) -> Told {
        let get = self.ask(mtio::MTIOCGET, 48).unwrap();
        assert_eq!((long(&get, 0), long(&get, 8), long(&get, 32)), (0x72, 0, 0));
        let int = |at: usize| i32::from_le_bytes(get[at..at + 4].try_into().unwrap());
        Told { file: int(40), block: int(44), gstat: long(&get, 24), dsreg: long(&get, 16) }
    }

    /// File and block, as `mt status` shows them.
    fn place(&self) -> (i32, i32) {
        let told = self.told();
        (told.file, told.block)
    }

    fn has(&self, bit: u64) -> bool {
        self.told().gstat & bit != 0
    }

    /// Records and marks before the head.
    fn tell(&self) -> u64 {
        long(&self.ask(mtio::MTIOCPOS, 8).unwrap(), 0)
    }

    /// Records by their bytes, marks as empty ones.
    fn record(&self, items: &[&str]) {
        for item in items {
            match item.len() {
                0 => self.mt(WEOFI, 1).unwrap(),
                len => assert_eq!(self.write(item.as_bytes()), Ok(len)),
            }
        }
    }

    fn reopen(&self) {
        self.unit.close();
        self.unit.open_for(Opening { reads: true, writes: true, waits: false }).unwrap();
    }
}

fn is_eio<T: std::fmt::Debug>(answer: &Result<T, IoError>) -> bool {
    matches!(answer, Err(IoError::Media(_)))
}

#[test]
fn records_come_back_one_a_read_whatever_the_buffer() {
    let bench = bench();
    bench.record(&["first", "second record", "3"]);
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(5).unwrap(), b"first");
    assert_eq!(bench.read(100).unwrap(), b"second record");
    assert_eq!(bench.read(1).unwrap(), b"3");
}

#[test]
fn memory_is_exchanged_where_a_read_allows_it() {
    let bench = bench();
    bench.record(&["four", "more", "a longer one"]);
    bench.mt(REW, 1).unwrap();
    let mut memory = vec![0; 4];
    assert_eq!((bench.unit.read_into(0, &mut memory), &memory[..]), (Ok(4), &b"four"[..]));
    let place = memory.as_ptr();
    assert_eq!((bench.unit.read_into(0, &mut memory), &memory[..]), (Ok(4), &b"more"[..]));
    assert_ne!(memory.as_ptr(), place);
    assert_eq!(bench.unit.read_into(0, &mut memory), Err(IoError::RecordTooLong));
    bench.mt(REW, 1).unwrap();
    let mut memory = vec![0; 9];
    assert_eq!((bench.unit.read_into(0, &mut memory), &memory[..4]), (Ok(4), &b"four"[..]));
    assert_eq!(memory.len(), 9);
}

#[test]
fn a_record_longer_than_the_buffer_is_enomem_and_is_passed() {
    let bench = bench();
    bench.record(&["long record", "next"]);
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(4), Err(IoError::RecordTooLong));
    assert_eq!(bench.place(), (0, 1));
    assert_eq!(bench.read(4).unwrap(), b"next");
}

#[test]
fn a_read_at_a_mark_gives_nothing_and_the_next_goes_on_behind_it() {
    let bench = bench();
    bench.record(&["a", "", "b"]);
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(9).unwrap(), b"a");
    assert_eq!(bench.read(9).unwrap(), b"");
    assert_eq!(bench.place(), (1, 0));
    assert!(bench.has(mtio::GMT_EOF));
    assert_eq!(bench.read(9).unwrap(), b"b");
    assert_eq!(bench.place(), (1, 1));
}

#[test]
fn the_end_of_the_data_is_two_empty_reads_and_then_an_error() {
    let bench = bench();
    bench.record(&["a"]);
    bench.reopen();
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(9).unwrap(), b"a");
    assert_eq!(bench.read(9).unwrap(), b"");
    assert_eq!(bench.read(9).unwrap(), b"");
    assert!(bench.has(mtio::GMT_EOD));
    assert!(is_eio(&bench.read(9)));
    assert!(is_eio(&bench.read(9)));
}

#[test]
fn data_without_a_mark_behind_them_end_in_an_error_with_its_sense() {
    let bench = bench();
    bench.record(&["a"]);
    bench.mt(BSR, 1).unwrap();
    bench.read(9).unwrap();
    assert!(is_eio(&bench.read(9)));
    let sense = bench.unit.sense().unwrap().sense;
    assert_eq!((sense.key, sense.asc, sense.ascq), (8, 0, 5));
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.unit.sense(), None);
}

#[test]
fn a_write_after_reading_ends_the_tape_there() {
    let bench = bench();
    bench.record(&["a", "b", "c"]);
    bench.mt(REW, 1).unwrap();
    bench.read(9).unwrap();
    bench.record(&["new"]);
    assert!(is_eio(&bench.read(9)));
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(9).unwrap(), b"a");
    assert_eq!(bench.read(9).unwrap(), b"new");
}

#[test]
fn only_one_opener_at_a_time_on_either_minor() {
    let bench = bench();
    assert_eq!(bench.unit.open(), Err(IoError::Busy));
    assert_eq!(bench.rewinding.open(), Err(IoError::Busy));
    let seen = bench.unit.waits().unwrap().generation();
    bench.unit.close();
    assert!(bench.unit.waits().unwrap().generation() > seen, "who waits for it is told");
    for _ in 0..1000 {
        assert_eq!(bench.rewinding.open(), Ok(()));
        bench.rewinding.close();
        assert_eq!(bench.unit.open(), Ok(()));
        bench.unit.close();
    }
}

#[test]
fn the_early_warning_refuses_every_second_write_and_the_end_refuses_all() {
    let bench = bench_with(&[("size", number(1 << 20))]);
    let record = vec![7; 16 * 1024 - 8];
    let mut answers = Vec::new();
    for _ in 0..70 {
        answers.push(bench.write(&record));
    }
    let whole = Ok(record.len());
    // 64 records fill the tape; the last sixteenth is 4 of them, and the 60th touches it.
    assert!(answers[..60].iter().all(|answer| *answer == whole));
    let full = Err(IoError::Range);
    assert_eq!(answers[60..68], [full, whole, full, whole, full, whole, full, whole]);
    assert_eq!(answers[68], full);
    assert!(is_eio(&answers[69]), "{:?}", answers[69]);
    assert!(is_eio(&bench.write(&record)));
    assert!(bench.has(mtio::GMT_EOT));
    assert_eq!(bench.place(), (0, 64));
    bench.mt(BSR, 1).unwrap();
    assert_eq!(bench.read(1 << 16).unwrap(), record);
}

#[test]
fn marks_can_be_written_behind_the_early_warning() {
    let bench = bench_with(&[("size", number(1000))]);
    assert_eq!(bench.write(&[1; 950]), Ok(950));
    assert_eq!(bench.mt(WEOF, 2), Ok(()));
    assert_eq!(bench.place(), (2, 0));
    assert!(is_eio(&bench.mt(WEOF, 100)));
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(1000).unwrap(), [1; 950]);
}

#[test]
fn fixed_records_are_written_and_read_many_at_a_time() {
    let bench = bench();
    bench.mt(SETBLK, 4).unwrap();
    assert_eq!(bench.told().dsreg & 0xff_ffff, 4);
    assert_eq!(bench.write(b"aaaabbbbccccdddd"), Ok(16));
    assert_eq!(bench.place(), (0, 4));
    assert_eq!(bench.write(b"odd"), Err(IoError::Invalid));
    bench.mt(WEOF, 1).unwrap();
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(8).unwrap(), b"aaaabbbb");
    assert_eq!((bench.tell(), bench.place()), (2, (0, 2)));
    assert_eq!(bench.read(100).unwrap(), b"ccccdddd");
    assert_eq!(bench.read(100).unwrap(), b"");
    assert_eq!(bench.place(), (1, 0));
    bench.mt(SETBLK, 0).unwrap();
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(100).unwrap(), b"aaaa");
}

#[test]
fn fixed_records_can_be_read_byte_by_byte() {
    let bench = bench_with(&[("block", number(4))]);
    bench.write(b"abcdefgh").unwrap();
    bench.mt(WEOF, 1).unwrap();
    bench.mt(REW, 1).unwrap();
    let mut got = Vec::new();
    for _ in 0..8 {
        got.extend(bench.read(1).unwrap());
    }
    assert_eq!(got, b"abcdefgh");
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(6).unwrap(), b"abcdef");
    assert_eq!(bench.read(6).unwrap(), b"gh");
    assert_eq!(bench.read(6).unwrap(), b"");
}

#[test]
fn a_mark_passed_behind_fixed_records_is_told_by_the_next_read_or_counted_by_the_next_motion() {
    let bench = bench_with(&[("block", number(4))]);
    bench.record(&["aaaa", "", "bbbb", "", "cccc"]);
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(100).unwrap(), b"aaaa");
    assert_eq!(bench.place(), (0, 1));
    bench.mt(FSF, 1).unwrap();
    assert_eq!((bench.place(), bench.read(4).unwrap()), ((1, 0), b"bbbb".to_vec()));
    assert_eq!(bench.read(4).unwrap(), b"");
    bench.mt(BSF, 2).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((0, -1), 1));
    bench.mt(REW, 1).unwrap();
    bench.read(100).unwrap();
    bench.mt(BSFM, 1).unwrap_err();
    assert_eq!((bench.place(), bench.tell()), ((0, 0), 0));
}

#[test]
fn a_record_of_another_length_in_fixed_mode_is_an_error_that_stays() {
    let bench = bench();
    bench.record(&["aaaa", "longer"]);
    bench.mt(REW, 1).unwrap();
    bench.mt(SETBLK, 4).unwrap();
    assert_eq!(bench.read(8).unwrap(), b"aaaa");
    assert!(is_eio(&bench.read(8)));
    assert!(is_eio(&bench.read(8)));
    bench.mt(SETBLK, 0).unwrap();
    assert_eq!(bench.read(8).unwrap(), b"longer");
}

#[test]
fn a_bad_spot_among_fixed_records_is_never_skipped() {
    let bench = bench_with(&[("block", number(4))]);
    bench.write(b"aaaabbbbcccc").unwrap();
    bench.mt(REW, 1).unwrap();
    let rule = "add spot on st0 op=read block=1 do badsector".split(' ').collect::<Vec<_>>();
    bench.machine.faults.command(&rule).unwrap();
    assert_eq!(bench.read(12).unwrap(), b"aaaa");
    assert!(is_eio(&bench.read(12)));
    let sense = bench.unit.sense().unwrap().sense;
    assert_eq!((sense.key, sense.asc, sense.info), (3, 0x11, Some(1)));
}

#[test]
fn without_a_tape_and_with_a_protected_one() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::new(Engine::new(Time::Simulated), Some(dir.path().into()), 1);
    let bench = boot(machine, &[]);
    bench.unit.eject().unwrap();
    assert_eq!(bench.unit.open(), Err(IoError::NotReady));
    assert!(bench.unit.eject().unwrap_err().contains("no tape"));
    let waits = false;
    bench.unit.open_for(Opening { reads: true, writes: true, waits }).unwrap();
    assert_eq!(bench.place(), (-1, -1));
    assert!(bench.has(mtio::GMT_DR_OPEN) && !bench.has(mtio::GMT_ONLINE));
    assert_eq!(bench.read(9), Err(IoError::NotReady));
    assert_eq!(bench.mt(REW, 1), Err(IoError::NotReady));
    assert_eq!(bench.ask(mtio::MTIOCPOS, 8), Err(IoError::NotReady));
    assert!(bench.unit.load(Path::new("x.tap"), Protect::Off).unwrap_err().contains("in use"));
    bench.unit.close();
    std::fs::write(dir.path().join("x.tap"), b"\x02\0\0\0hi\x02\0\0\0").unwrap();
    bench.unit.load(Path::new("x.tap"), Protect::On).unwrap();
    let opening = Opening { reads: true, writes: true, waits: true };
    assert_eq!(bench.unit.open_for(opening), Err(IoError::WriteProtected));
    bench.unit.open().unwrap();
    assert_eq!(bench.place(), (0, 0));
    assert!(bench.has(mtio::GMT_WR_PROT | mtio::GMT_ONLINE));
    assert_eq!(bench.write(b"x"), Err(IoError::WriteProtected));
    assert_eq!(bench.mt(WEOF, 1), Err(IoError::WriteProtected));
    assert_eq!(bench.mt(ERASE, 1), Err(IoError::WriteProtected));
    assert_eq!(bench.read(9).unwrap(), b"hi");
    bench.unit.close();
    let words = bench.unit.load(Path::new("no/such/dir"), Protect::Off).unwrap_err();
    assert!(words.contains("no/such/dir") && words.contains("No such file"), "{words}");
    bench.unit.open().unwrap();
    assert!(is_eio(&bench.read(9)), "the old one is still in, behind its record");
}

#[test]
fn unknown_commands_and_sizes_are_refused_and_change_nothing() {
    let bench = bench();
    bench.record(&["a", ""]);
    let before = (bench.told(), bench.tell());
    for cmd in [0, 0x5401, 0x4008_6d02, 0x4010_6d01, 0x8030_6d01, 0x8004_6d02] {
        assert_eq!(bench.ask(cmd, 64), Err(IoError::Unsupported), "{cmd:#x}");
    }
    for op in [14, 15, 25, 26, 27, 33, 34, 36, -1, 1000] {
        assert_eq!(bench.mt(op, 1), Err(IoError::Invalid), "{op}");
    }
    assert_eq!(bench.ask(mtio::MTIOCGET, 47), Err(IoError::Invalid));
    let call = &mut Ioctl { cmd: mtio::MTIOCTOP, input: &[1, 2], output: &mut [] };
    assert_eq!(bench.unit.ioctl(call), Err(IoError::Invalid));
    for (op, count) in [(SETBLK, -1), (SETBLK, 1 << 24), (SETDENSITY, 256), (WEOF, -1), (SEEK, -1)]
    {
        assert_eq!(bench.mt(op, count), Err(IoError::Invalid), "{op} {count}");
    }
    assert_eq!((bench.told(), bench.tell()), before);
}

#[test]
fn a_caller_of_32_bits_gets_its_own_structures() {
    let bench = bench();
    bench.record(&["a", "", "b"]);
    let get = bench.ask(mtio::MTIOCGET_32, 28).unwrap();
    let words =
        get.chunks(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())).collect::<Vec<_>>();
    assert_eq!(words, [0x72, 0, 0x4100_0000, 0x0101_0000, 0, 1, 1]);
    assert_eq!(bench.ask(mtio::MTIOCPOS_32, 4).unwrap(), [3, 0, 0, 0]);
}

#[test]
fn status_bits_properties_and_readiness_are_told() {
    let bench = bench();
    assert!(bench.has(mtio::GMT_BOT | mtio::GMT_ONLINE | mtio::GMT_IM_REP_EN));
    let gstat = mtio::GMT_BOT | mtio::GMT_ONLINE | mtio::GMT_IM_REP_EN;
    assert_eq!(bench.told(), Told { file: 0, block: 0, gstat, dsreg: 0x4100_0000 });
    bench.mt(SETDENSITY, 0x42).unwrap();
    bench.mt(SETDRVBUFFER, 0).unwrap();
    assert_eq!(bench.told().dsreg, 0x4200_0000);
    assert!(!bench.has(mtio::GMT_IM_REP_EN));
    assert!(!bench.unit.is_seekable());
    assert_eq!(bench.unit.poll(), Ready { readable: true, writable: true, hung_up: false });
    assert_eq!(
        bench.unit.properties()[..2],
        [("timing", "none".into()), ("medium", "loaded".into())]
    );
    assert_eq!(bench.unit.set_property("speed", "9"), Err(PropertyError::Unknown));
    assert!(matches!(bench.unit.set_property("timing", "x"), Err(PropertyError::Value(_))));
    bench.unit.set_property("timing", "dlt8000").unwrap();
    assert_eq!(bench.unit.properties()[0], ("timing", "dlt8000".into()));
}
