//! The tape controller alone, by its registers.

use super::*;
use crate::bus::port::PortIo;
use crate::bus::{DmaChannel, irq::Sharing};
use crate::contract::Clock;
use crate::engine::Time;
use crate::tape_manual::*;
use std::sync::atomic::{AtomicU64, Ordering};

struct Bench {
    machine: Machine,
    io: PortIo,
    channel: DmaChannel,
    interrupts: Arc<AtomicU64>,
    _line: Arc<crate::bus::IrqLine>,
}

fn bench_on(machine: Machine, values: &[(&str, Value)]) -> Bench {
    let mut unit = UnitConfig { name: "st0".into(), driver: "st".into(), ..UnitConfig::default() };
    for (key, value) in [("size", 4096), ("port", 0x100), ("irq", 9), ("dma", 1)] {
        unit.values.insert(key.into(), Value::Number(value));
    }
    for (key, value) in values {
        unit.values.insert((*key).into(), value.clone());
    }
    install(&machine, &unit).unwrap();
    let io = machine.ports.claim("st0", 0x100, PORTS).unwrap();
    let channel = machine.dma.claim("st0", 1).unwrap();
    let line = machine.irqs.claim("st0", 9, Sharing::Exclusive).unwrap();
    let interrupts = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&interrupts);
    line.connect(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    Bench { machine, io, channel, interrupts, _line: line }
}

fn bench(values: &[(&str, Value)]) -> Bench {
    bench_on(Machine::new(Engine::new(Time::Simulated), None, 1), values)
}

/// What a command ended with: sense (flags, key, code, qualifier), residual, bytes moved.
type End = (u32, i64, u64);

const GOOD: u32 = 0;
const MARK: u32 = 0x8000_0001;
const BLANK: u32 = 0x0008_0005;
const WARNING: u32 = 0x4000_0002;
const OVERFLOW: u32 = 0x400d_0002;
const AT_BEGINNING: u32 = 0x4000_0004;
const LENGTH: u32 = 0x2000_0000;

impl Bench {
    fn ring(&self, opcode: u8, fixed: u32, count: i64, memory: (BusAddress, u32)) -> BusAddress {
        let mut block = vec![opcode, 0, 0, 0];
        block.extend(fixed.to_le_bytes());
        block.extend(count.to_le_bytes());
        block.extend(memory.0.0.to_le_bytes());
        block.extend(memory.1.to_le_bytes());
        block.extend(77u32.to_le_bytes());
        let address = self.channel.map(block).unwrap();
        self.io.outq(BLOCK, address.0);
        self.io.outl(DOORBELL, 1);
        address
    }

    /// Runs a command to its end.
    fn run(&self, opcode: u8, fixed: u32, count: i64, memory: Vec<u8>) -> (End, Vec<u8>) {
        let len = u32::try_from(memory.len()).unwrap();
        let at = self.channel.map(memory).unwrap();
        let block = self.ring(opcode, fixed, count, (at, len));
        assert_eq!(self.io.inl(STATUS) & (BUSY | DONE), BUSY);
        while self.machine.engine.skip_to_next() {}
        let (status, sense) = (self.io.inl(STATUS), self.io.inl(SENSE));
        assert_eq!(status & (BUSY | DONE), DONE);
        assert_eq!(status & CHECK != 0, sense & 0xffff_0000 != 0);
        let residual = i64::from_le_bytes(self.io.inq(RESIDUAL).to_le_bytes());
        let end = (sense, residual, self.io.inq(MOVED));
        self.io.outl(CONTROL, ACK);
        self.channel.unmap(block).unwrap();
        (end, self.channel.unmap(at).unwrap())
    }

    fn do_(&self, opcode: u8, count: i64) -> (u32, i64) {
        let ((sense, residual, _), _) = self.run(opcode, 0, count, Vec::new());
        (sense, residual)
    }

    fn write(&self, data: &[u8]) -> End {
        self.run(WRITE, 0, 0, data.to_vec()).0
    }

    fn read(&self, len: usize) -> (End, Vec<u8>) {
        let (end, mut memory) = self.run(READ, 0, 0, vec![0xee; len]);
        memory.truncate(usize::try_from(end.2).unwrap());
        (end, memory)
    }

    fn fault(&self, rule: &str) {
        let words = rule.split_whitespace().collect::<Vec<_>>();
        self.machine.faults.command(&words).unwrap();
    }
}

#[test]
fn it_tells_who_it_is_and_what_is_loaded() {
    let bench = bench(&[("read_only", Value::Flag(false))]);
    assert_eq!((bench.io.inl(ID), bench.io.inq(SIZE)), (TAPE_ID, 4096));
    assert_eq!(bench.io.inl(STATUS), LOADED | PRESENT);
    assert_eq!(bench.io.inl(PORTS - 4 + 4), u32::MAX);
}

#[test]
fn records_and_marks_come_back_in_order_and_block_numbers_count_both() {
    let bench = bench(&[]);
    assert_eq!(bench.write(b"one"), (GOOD, 0, 3));
    assert_eq!(bench.do_(MARKS, 1), (GOOD, 0));
    assert_eq!(bench.write(b"three"), (GOOD, 0, 5));
    assert_eq!(bench.io.inq(POSITION), 3);
    assert_eq!(bench.do_(REWIND, 0), (GOOD, 0));
    assert_eq!(bench.read(3), ((GOOD, 0, 3), b"one".to_vec()));
    assert_eq!(bench.read(9), ((MARK, 9, 0), Vec::new()));
    assert_eq!(bench.read(9), ((LENGTH, 4, 5), b"three".to_vec()));
    assert_eq!(bench.read(9), ((BLANK, 9, 0), Vec::new()));
    assert_eq!(bench.interrupts.load(Ordering::Relaxed), 8);
    let line = &bench.machine.dma.list()[0];
    assert_eq!((line.blocks, line.to_memory, line.from_memory, line.mapped), (8, 8, 8, 0));
}

#[test]
fn a_record_too_long_is_told_with_a_negative_residual_and_its_rest_can_be_had() {
    let bench = bench(&[]);
    bench.write(b"0123456789");
    assert_eq!(bench.run(WRITE_MORE, 0, 0, b"ab".to_vec()).0, (GOOD, 0, 2));
    bench.do_(REWIND, 0);
    assert_eq!(bench.read(4), ((LENGTH, -8, 4), b"0123".to_vec()));
    let (end, rest) = bench.run(READ_MORE, 0, 4, vec![0; 8]);
    assert_eq!((end, &rest[..]), ((GOOD, 0, 8), &b"456789ab"[..]));
}

#[test]
fn fixed_records_go_many_at_once_and_stop_at_what_is_different() {
    let bench = bench(&[]);
    assert_eq!(bench.run(WRITE, 4, 0, b"aaaabbbbcccc".to_vec()).0, (GOOD, 0, 12));
    bench.do_(MARKS, 1);
    bench.write(b"long!");
    bench.do_(REWIND, 0);
    let (end, memory) = bench.run(READ, 4, 0, vec![0; 8]);
    assert_eq!((end, &memory[..]), ((GOOD, 0, 8), &b"aaaabbbb"[..]));
    assert_eq!(bench.run(READ, 4, 0, vec![0; 8]).0, (MARK, 1, 4));
    assert_eq!(bench.run(READ, 4, 0, vec![0; 8]).0, (LENGTH, 2, 0));
    assert_eq!(bench.run(READ, 4, 0, vec![0; 8]).0, (BLANK, 2, 0));
    assert_eq!(bench.run(WRITE, 4, 0, vec![0; 7]).0.0, 0x0005_2400);
}

#[test]
fn spacing_stops_at_marks_and_at_both_ends() {
    let bench = bench(&[]);
    for data in [&b"a"[..], b"b", b"", b"c", b"", b"d"] {
        if data.is_empty() {
            bench.do_(MARKS, 1)
        } else {
            (bench.write(data).0, 0)
        };
    }
    assert_eq!(bench.do_(SPACE_RECORDS, -3), (MARK, 2));
    assert_eq!(bench.io.inq(POSITION), 4);
    assert_eq!(bench.do_(SPACE_MARKS, -2), (AT_BEGINNING, 1));
    assert_eq!(bench.do_(SPACE_RECORDS, 5), (MARK, 3));
    assert_eq!(bench.do_(SPACE_RECORDS, -9), (MARK, 9));
    assert_eq!(bench.do_(SPACE_RECORDS, -9), (AT_BEGINNING, 7));
    assert_eq!(bench.do_(SPACE_MARKS, 2), (GOOD, 0));
    assert_eq!(bench.do_(SPACE_RECORDS, 3), (BLANK, 2));
    bench.do_(REWIND, 0);
    assert_eq!(bench.do_(SPACE_MARKS, 9), (BLANK, 7));
    bench.do_(REWIND, 0);
    assert_eq!((bench.do_(SPACE_END, 0), bench.io.inq(POSITION)), ((GOOD, 0), 6));
    for target in [0, 5, 1, 6, 3] {
        assert_eq!(bench.do_(LOCATE, target), (GOOD, 0));
        assert_eq!(bench.io.inq(POSITION), u64::try_from(target).unwrap());
    }
    assert_eq!(bench.do_(LOCATE, 7).0, BLANK);
}

#[test]
fn near_its_end_the_tape_warns_and_at_its_end_it_overflows() {
    let bench = bench(&[]);
    let mut ends = Vec::new();
    for _ in 0..18 {
        ends.push(bench.write(&[1; 248])); // 256 bytes on the tape
    }
    // 4096 bytes; the last sixteenth, from 3840 on, is behind the early warning.
    assert!(ends[..14].iter().all(|end| *end == (GOOD, 0, 248)));
    assert_eq!(
        ends[14..],
        [(WARNING, 0, 248), (WARNING, 0, 248), (OVERFLOW, 248, 0), (OVERFLOW, 248, 0),]
    );
    assert_eq!(bench.do_(MARKS, 2), (OVERFLOW, 2));
    bench.do_(SPACE_RECORDS, -1);
    assert_eq!(bench.do_(MARKS, 2), (WARNING, 0));
    let half = bench.run(WRITE, 100, 0, vec![2; 300]).0;
    assert_eq!(half, (OVERFLOW, 1, 200));
}

#[test]
fn a_protected_tape_refuses_what_would_change_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("st0.tap"), b"\x02\0\0\0hi\x02\0\0\0").unwrap();
    let machine = Machine::new(Engine::new(Time::Simulated), Some(dir.path().into()), 1);
    let bench = bench_on(machine, &[("read_only", Value::Flag(true))]);
    assert_eq!(bench.io.inl(STATUS), LOADED | PRESENT | WRITE_PROTECTED);
    assert_eq!(bench.write(b"x").0, 0x0007_2700);
    assert_eq!(bench.do_(MARKS, 1).0, 0x0007_2700);
    assert_eq!(bench.do_(ERASE, 0).0, 0x0007_2700);
    assert_eq!(bench.read(2), ((GOOD, 0, 2), b"hi".to_vec()));
}

#[test]
fn an_unloaded_tape_is_not_ready_and_comes_back_at_its_beginning() {
    let bench = bench(&[]);
    bench.write(b"kept");
    assert_eq!(bench.do_(UNLOAD, 0), (GOOD, 0));
    assert_eq!(bench.io.inl(STATUS), PRESENT);
    assert_eq!(bench.read(4).0.0, 0x0002_0402);
    assert_eq!(bench.do_(LOAD, 0), (GOOD, 0));
    assert_eq!(bench.read(4), ((GOOD, 0, 4), b"kept".to_vec()));
    assert_eq!(bench.do_(REMOVE, 0), (GOOD, 0));
    assert_eq!(bench.io.inl(STATUS), 0);
    assert_eq!(bench.read(4).0.0, 0x0002_3a00);
    assert_eq!(bench.do_(LOAD, 0).0, 0x0002_3a00);
}

#[test]
fn another_cartridge_is_put_in_by_name_or_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::new(Engine::new(Time::Simulated), Some(dir.path().into()), 1);
    let bench = bench_on(machine, &[]);
    bench.write(b"first");
    assert_eq!(bench.run(INSERT, 0, 0, b"two.tap".to_vec()).0, (GOOD, 0, 0));
    assert_eq!(bench.read(5).0.0, BLANK);
    assert_eq!(bench.run(INSERT, 0, 0, b"st0.tap".to_vec()).0, (GOOD, 0, 0));
    assert_eq!(bench.run(INSERT, 0, 0, b"st0.tap".to_vec()).0, (GOOD, 0, 0));
    assert_eq!(bench.read(5), ((GOOD, 0, 5), b"first".to_vec()));
    let mut name = b".".to_vec();
    name.resize(300, 0);
    let (end, memory) = bench.run(INSERT, 0, 0, name);
    assert_eq!(end.0, 0x0003_5300);
    let words = String::from_utf8_lossy(&memory[..usize::try_from(end.2).unwrap()]).into_owned();
    assert!(words.contains("not a plain file"), "{words}");
    assert_eq!(bench.do_(LOCK, 1), (GOOD, 0));
    assert_eq!(bench.do_(REMOVE, 0).0, 0x0005_5302);
    assert_eq!(bench.run(INSERT, 0, 0, b"two.tap".to_vec()).0.0, 0x0003_5300);
    assert_eq!(bench.io.inl(STATUS) & (LOCKED | LOADED), LOCKED | LOADED);
}

#[test]
fn motions_take_the_drives_time() {
    let bench = bench(&[("timing", Value::Text("dlt8000".into()))]);
    let took = |work: &dyn Fn()| {
        let before = bench.machine.engine.now();
        work();
        bench.machine.engine.now().since(before) / 1_000_000
    };
    assert_eq!(took(&|| assert_eq!(bench.do_(UNLOAD, 0).0, GOOD)), 17_000);
    assert_eq!(took(&|| assert_eq!(bench.do_(LOAD, 0).0, GOOD)), 37_000);
    bench.io.outl(TIMING, 0);
    assert_eq!(took(&|| assert_eq!(bench.do_(LOAD, 0).0, GOOD)), 0);
    bench.io.outl(TIMING, 9);
    assert_eq!(bench.io.inl(TIMING), 0);
}

#[test]
fn faults_are_told_as_broken_tape_would_be() {
    let bench = bench(&[]);
    for data in [b"0", b"1", b"2"] {
        bench.write(data);
    }
    bench.do_(REWIND, 0);
    bench.fault("add spot on st0 op=read block=1 when=1 do badsector");
    assert_eq!(bench.read(1).0.0, GOOD);
    assert_eq!(bench.read(1).0.0, 0x0003_1100);
    assert_eq!(bench.read(1), ((GOOD, 0, 1), b"2".to_vec()));
    bench.do_(LOCATE, 1);
    assert_eq!(bench.write(b"x").0, 0x0003_0c00);
    bench.io.outl(CONTROL, REPAIR);
    assert_eq!(bench.write(b"x").0, GOOD);
    bench.fault("add broken on st0 op=write do error EIO");
    assert_eq!(bench.write(b"y").0, 0x0003_0c00);
    bench.fault("clear");
    bench.fault("add mad on st0 do panic");
    assert_eq!(bench.read(1).0.0, 0x000b_4400);
}

#[test]
fn a_hanging_command_is_ended_by_a_reset() {
    let bench = bench(&[]);
    bench.fault("add stuck on st0 when=1 do hang");
    let at = bench.channel.map(vec![1; 4]).unwrap();
    bench.ring(WRITE, 0, 0, (at, 4));
    assert!(!bench.machine.engine.skip_to_next());
    assert_eq!(bench.io.inl(STATUS) & BUSY, BUSY);
    bench.io.outl(CONTROL, RESET);
    assert_eq!(bench.io.inl(STATUS), LOADED | PRESENT);
    assert_eq!(bench.write(b"next"), (GOOD, 0, 4));
    assert_eq!(bench.interrupts.load(Ordering::Relaxed), 1);
}

#[test]
fn a_frozen_controller_goes_on_where_it_stopped() {
    let bench = bench(&[]);
    bench.io.outl(CONTROL, FREEZE);
    let at = bench.channel.map(vec![1; 4]).unwrap();
    bench.ring(WRITE, 0, 0, (at, 4));
    while bench.machine.engine.skip_to_next() {}
    assert_eq!(bench.io.inl(STATUS) & (BUSY | FROZEN), BUSY | FROZEN);
    bench.io.outl(CONTROL, THAW);
    while bench.machine.engine.skip_to_next() {}
    assert_eq!(bench.io.inl(STATUS) & (BUSY | DONE | FROZEN), DONE);
    assert_eq!(bench.io.inq(MOVED), 4);
}

#[test]
fn memory_that_is_not_there_and_orders_that_make_no_sense_are_refused() {
    let bench = bench(&[]);
    bench.io.outq(BLOCK, 0);
    bench.io.outl(DOORBELL, 1);
    while bench.machine.engine.skip_to_next() {}
    assert_eq!(bench.io.inl(SENSE), 0x000b_4b00);
    bench.io.outl(CONTROL, ACK);
    let block = bench.ring(WRITE, 0, 0, (BusAddress(0), 9));
    while bench.machine.engine.skip_to_next() {}
    assert_eq!(bench.io.inl(SENSE), 0x000b_4b00);
    bench.io.outl(CONTROL, ACK);
    assert!(bench.channel.unmap(block).is_some());
    for (opcode, count, sense) in [
        (0, 0, 0x0005_2000),
        (99, 0, 0x0005_2000),
        (MARKS, -1, 0x0005_2400),
        (LOCATE, -1, 0x0005_2400),
    ] {
        assert_eq!(bench.do_(opcode, count).0, sense, "{opcode}");
    }
}
