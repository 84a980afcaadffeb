//! The disk controller alone, by its registers.

use super::*;
use crate::bus::port::PortIo;
use crate::bus::{DmaChannel, irq::Sharing};
use crate::contract::Value;
use crate::engine::Time;
use crate::manual::*;
use std::sync::atomic::{AtomicU64, Ordering};

struct Bench {
    machine: Machine,
    io: PortIo,
    channel: DmaChannel,
    interrupts: Arc<AtomicU64>,
    _line: Arc<crate::bus::IrqLine>,
}

fn bench(values: &[(&str, Value)]) -> Bench {
    let machine = Machine::new(Engine::new(Time::Simulated), None, 1);
    let mut unit = UnitConfig { name: "sd0".into(), driver: "sd".into(), ..UnitConfig::default() };
    let number = |n| Value::Number(n);
    for (key, value) in [("size", 1 << 20), ("port", 0x100), ("irq", 9), ("dma", 1)] {
        unit.values.insert(key.into(), number(value));
    }
    for (key, value) in values {
        unit.values.insert((*key).into(), value.clone());
    }
    install(&machine, &unit).unwrap();
    let io = machine.ports.claim("sd0", 0x100, PORTS).unwrap();
    let channel = machine.dma.claim("sd0", 1).unwrap();
    let line = machine.irqs.claim("sd0", 9, Sharing::Exclusive).unwrap();
    let interrupts = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&interrupts);
    line.connect(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    Bench { machine, io, channel, interrupts, _line: line }
}

/// A command block.
fn block(opcode: u8, sector: u64, sectors: u64, segments: &[(BusAddress, u32)]) -> Vec<u8> {
    let mut bytes = vec![opcode, 0];
    bytes.extend(u16::try_from(segments.len()).unwrap().to_le_bytes());
    bytes.extend(77u32.to_le_bytes());
    bytes.extend(sector.to_le_bytes());
    bytes.extend(sectors.to_le_bytes());
    for (address, len) in segments {
        bytes.extend(address.0.to_le_bytes());
        bytes.extend(u64::from(*len).to_le_bytes());
    }
    bytes
}

impl Bench {
    fn ring(&self, block: Vec<u8>) -> BusAddress {
        let address = self.channel.map(block).unwrap();
        self.io.outq(BLOCK, address.0);
        self.io.outl(DOORBELL, 1);
        address
    }

    /// Runs a command to its end: status and sense.
    fn run(&self, block: Vec<u8>) -> (u32, u32) {
        let address = self.ring(block);
        assert_eq!(self.io.inl(STATUS) & BUSY, BUSY);
        while self.machine.engine.skip_to_next() {}
        let answer = (self.io.inl(STATUS), self.io.inl(SENSE));
        self.io.outl(CONTROL, ACK);
        self.channel.unmap(address).unwrap();
        answer
    }

    fn write(&self, sector: u64, data: Vec<u8>) -> (u32, u32) {
        let len = u32::try_from(data.len()).unwrap();
        let at = self.channel.map(data).unwrap();
        let answer = self.run(block(WRITE, sector, u64::from(len) / 512, &[(at, len)]));
        self.channel.unmap(at).unwrap();
        answer
    }

    fn read(&self, sector: u64, len: u32) -> ((u32, u32), Vec<u8>) {
        let at = self.channel.map(vec![0xee; usize::try_from(len).unwrap()]).unwrap();
        let answer = self.run(block(READ, sector, u64::from(len) / 512, &[(at, len)]));
        (answer, self.channel.unmap(at).unwrap())
    }

    fn fault(&self, rule: &str) {
        let words = rule.split_whitespace().collect::<Vec<_>>();
        self.machine.faults.command(&words).unwrap();
    }
}

#[test]
fn it_tells_who_it_is_and_how_large() {
    let bench = bench(&[("sector", Value::Number(4096)), ("spares", Value::Number(7))]);
    assert_eq!((bench.io.inl(ID), bench.io.inl(SECTOR_BYTES)), (DISK_ID, 4096));
    assert_eq!((bench.io.inq(SECTORS), bench.io.inl(TRANSFER_MAX)), (2048, 2048));
    assert_eq!((bench.io.inl(SPARES), bench.io.inl(STATUS)), (7, 0));
    assert_eq!((bench.io.inb(ID + 3), bench.io.inw(ID + 2)), (0x44, 0x4443));
}

#[test]
fn data_go_from_memory_to_medium_and_back() {
    let bench = bench(&[]);
    assert_eq!(bench.write(5, vec![7; 1024]), (DONE, 0));
    let (answer, data) = bench.read(4, 2048);
    assert_eq!(answer, (DONE, 0));
    let sectors = data.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>();
    assert_eq!(sectors, [0, 7, 7, 0]);
    assert_eq!((bench.io.inl(STATUS), bench.interrupts.load(Ordering::Relaxed)), (0, 2));
    let line = &bench.machine.dma.list()[0];
    assert_eq!((line.blocks, line.to_memory, line.from_memory, line.mapped), (2, 2048, 1024, 0));
}

#[test]
fn a_scattered_read_fills_every_segment() {
    let bench = bench(&[]);
    let pattern = (0..4096u32).map(|i| u8::try_from(i / 512).unwrap()).collect();
    bench.write(0, pattern);
    let one = bench.channel.map(vec![0xee; 1024]).unwrap();
    let two = bench.channel.map(vec![0xee; 4096]).unwrap();
    let list = [(one.plus(512), 512), (two, 1536)];
    assert_eq!(bench.run(block(READ, 2, 4, &list)), (DONE, 0));
    let (one, two) = (bench.channel.unmap(one).unwrap(), bench.channel.unmap(two).unwrap());
    assert_eq!((one[0], one[512], two[0], two[1535], two[1536]), (0xee, 2, 3, 5, 0xee));
}

#[test]
fn flush_discard_and_zero_need_no_memory() {
    let bench = bench(&[]);
    bench.write(0, vec![7; 8192]);
    assert_eq!(bench.run(block(FLUSH, 0, 0, &[])), (DONE, 0));
    assert_eq!(bench.run(block(DISCARD, 0, 8, &[])), (DONE, 0));
    assert_eq!(bench.run(block(ZERO, 8, 1, &[])), (DONE, 0));
    let (_, data) = bench.read(7, 1536);
    assert_eq!((data[0], data[512], data[1024]), (0, 0, 7));
    bench.io.outq(SECTOR, 0);
    bench.io.outl(CONTROL, QUERY);
    assert_eq!((bench.io.inq(STORED_FIRST), bench.io.inq(STORED_END)), (8, 16));
}

#[test]
fn a_wrong_command_block_is_told_exactly() {
    let bench = bench(&[("sector", Value::Number(4096))]);
    let at = bench.channel.map(vec![0; 4096]).unwrap();
    let failed = DONE | ERROR;
    let table = [
        (block(9, 0, 8, &[(at, 4096)]), 0x05_20_00),
        (block(READ, 2048, 8, &[(at, 4096)]), 0x05_21_00),
        (block(READ, u64::MAX - 7, 8, &[(at, 4096)]), 0x05_21_00),
        (block(READ, 4, 8, &[(at, 4096)]), 0x05_24_00),
        (block(READ, 0, 8, &[(at, 4095)]), 0x05_24_00),
        (block(READ, 0, 8, &[(at.plus(1), 4096)]), 0x0b_4b_00),
        (block(READ, 0, 8, &[(BusAddress(4096), 4096)]), 0x0b_4b_00),
        (block(FLUSH, 0, 0, &[(at, 1)]), 0x05_24_00),
        (vec![READ, 0], 0x0b_4b_00),
    ];
    for (block, sense) in table {
        assert_eq!(bench.run(block), (failed, sense));
    }
    let mut short = block(READ, 0, 8, &[(at, 4096)]);
    short.truncate(30);
    assert_eq!(bench.run(short), (failed, 0x0b_4b_00));
    assert_eq!(bench.run(block(READ, 0, 8, &[(at, 4096)])), (DONE, 0));
}

#[test]
fn an_error_comes_with_the_sectors_before_it_and_its_sense() {
    let bench = bench(&[]);
    bench.write(0, vec![7; 4096]);
    bench.fault("add bad on sd0 op=read block=3-3 pid=77 do error EIO");
    let (answer, data) = bench.read(0, 4096);
    assert_eq!(answer, (DONE | ERROR, 0x03_11_00));
    assert_eq!(bench.io.inq(INFO), 3);
    assert_eq!((data[1535], data[1536]), (7, 0xee));
    let (answer, _) = bench.read(4, 512);
    assert_eq!((answer, bench.io.inq(INFO)), ((DONE, 0), NO_INFO));
}

#[test]
fn a_hang_raises_no_line_until_reset() {
    let bench = bench(&[]);
    bench.fault("add stuck on sd0 when=1 do hang");
    let address = bench.ring(block(FLUSH, 0, 0, &[]));
    assert!(!bench.machine.engine.skip_to_next());
    assert_eq!((bench.io.inl(STATUS), bench.interrupts.load(Ordering::Relaxed)), (BUSY, 0));
    bench.io.outl(DOORBELL, 1); // ignored
    bench.io.outl(CONTROL, RESET);
    assert_eq!(bench.io.inl(STATUS), 0);
    bench.channel.unmap(address).unwrap();
    assert_eq!(bench.run(block(FLUSH, 0, 0, &[])), (DONE, 0));
}

#[test]
fn a_breakdown_aborts_its_command_only() {
    let bench = bench(&[]);
    bench.fault("add oops on sd0 when=1 do panic");
    assert_eq!(bench.write(0, vec![1; 512]), (DONE | ERROR, 0x0b_44_00));
    assert_eq!(bench.write(0, vec![2; 512]), (DONE, 0));
    assert_eq!(bench.read(0, 512).1[0], 2);
}

#[test]
fn a_frozen_controller_stops_and_goes_on() {
    let bench = bench(&[]);
    bench.io.outl(CONTROL, FREEZE);
    let address = bench.ring(block(FLUSH, 0, 0, &[]));
    while bench.machine.engine.skip_to_next() {}
    assert_eq!(bench.io.inl(STATUS), BUSY | FROZEN);
    bench.io.outl(CONTROL, THAW);
    while bench.machine.engine.skip_to_next() {}
    assert_eq!((bench.io.inl(STATUS), bench.interrupts.load(Ordering::Relaxed)), (DONE, 1));
    bench.channel.unmap(address).unwrap();
}

#[test]
fn a_reset_command_never_touches_the_medium() {
    let bench = bench(&[]);
    let data = bench.channel.map(vec![9; 512]).unwrap();
    let address = bench.ring(block(WRITE, 0, 1, &[(data, 512)]));
    bench.io.outl(CONTROL, RESET);
    assert!(!bench.machine.engine.skip_to_next());
    assert_eq!(bench.interrupts.load(Ordering::Relaxed), 0);
    bench.channel.unmap(address).unwrap();
    bench.channel.unmap(data).unwrap();
    assert_eq!(bench.read(0, 512).1[0], 0);
}

#[test]
fn a_command_takes_its_models_time_and_a_delay_more() {
    let bench = bench(&[("timing", Value::Text("ssd".into()))]);
    let before = bench.machine.engine.now();
    bench.read(0, 4096);
    assert_eq!(bench.machine.engine.now().since(before), 50_000 + 8_192);
    bench.fault("add slow on sd0 do delay 8ms");
    let before = bench.machine.engine.now();
    bench.read(0, 4096);
    assert_eq!(bench.machine.engine.now().since(before), 8_000_000 + 50_000 + 8_192);
}

#[test]
fn the_arm_is_read_from_registers_and_the_model_can_be_changed() {
    let bench = bench(&[("timing", Value::Text("disk7200".into()))]);
    bench.read(1080, 512);
    assert_eq!((bench.io.inq(POSITION), bench.io.inq(TRAVEL)), (1081, 5));
    assert_eq!((bench.io.inq(ACCESSES), bench.io.inq(HITS)), (1, 0));
    bench.io.outl(TIMING, 0);
    assert_eq!((bench.io.inl(TIMING), bench.io.inq(TRAVEL)), (0, 5));
    bench.io.outl(TIMING, 99);
    assert_eq!(bench.io.inl(TIMING), 0);
}

#[test]
fn bad_sectors_are_remapped_until_spares_run_out() {
    let bench = bench(&[("spares", Value::Number(1))]);
    bench.write(0, vec![7; 4096]);
    bench.io.outq(SECTOR, 3);
    bench.io.outl(CONTROL, MARK_BAD);
    assert_eq!(bench.read(0, 4096), ((DONE, 0), vec![7; 4096]));
    assert_eq!((bench.io.inl(REMAPS), bench.io.inq(REMAP_SECTOR)), (1, 3));
    assert_eq!(bench.io.inl(REMAP_SPARE), 0);
    bench.io.outl(REMAP_INDEX, 1);
    assert_eq!(bench.io.inq(REMAP_SECTOR), NO_INFO);
    bench.fault("add worn on sd0 block=5-6 when=1 do badsector");
    let (answer, _) = bench.read(0, 4096);
    assert_eq!((answer, bench.io.inq(INFO)), ((DONE | ERROR, 0x03_11_04), 5));
    assert_eq!(bench.write(5, vec![0; 512]), (DONE | ERROR, 0x03_0c_02));
    assert_eq!(bench.read(3, 512), ((DONE, 0), vec![7; 512]));
}

#[test]
fn a_write_protected_medium_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ro.img");
    std::fs::write(&path, vec![3; 1 << 20]).unwrap();
    let image = Value::Text(path.to_str().unwrap().into());
    let bench = bench(&[("image", image), ("read_only", Value::Flag(true))]);
    assert_eq!(bench.io.inl(STATUS), WRITE_PROTECTED);
    let failed = DONE | ERROR | WRITE_PROTECTED;
    assert_eq!(bench.write(0, vec![0; 512]), (failed, 0x07_27_00));
    assert_eq!(bench.read(0, 512).1[0], 3);
    bench.io.outq(SECTOR, 0);
    bench.io.outl(CONTROL, MARK_BAD);
    assert_eq!(bench.read(0, 512).1[0], 3);
}
