//! The diskette controller alone, by its registers.

use super::*;
use crate::bus::port::PortIo;
use crate::contract::Value;
use crate::engine::Time;
use crate::manual::*;

struct Bench {
    machine: Machine,
    io: PortIo,
}

fn bench(timing: &str) -> Bench {
    let machine = Machine::new(Engine::new(Time::Simulated), None, 1);
    let mut unit = UnitConfig { name: "fd0".into(), driver: "fd".into(), ..UnitConfig::default() };
    for (key, value) in [("size", 1440 * 1024), ("port", 0x100), ("irq", 6), ("spares", 0)] {
        unit.values.insert(key.into(), Value::Number(value));
    }
    unit.values.insert("timing".into(), Value::Text(timing.into()));
    install(&machine, &unit).unwrap();
    let io = machine.ports.claim("fd0", 0x100, PORTS).unwrap();
    Bench { machine, io }
}

impl Bench {
    fn command(&self, opcode: u8, sector: u64, sectors: u32) {
        self.io.outq(SECTOR, sector);
        self.io.outl(COUNT, sectors);
        self.io.outl(COMMAND, opcode.into());
    }

    fn interrupts(&self) -> u64 {
        self.machine.irqs.list().first().map_or(0, |line| line.raised)
    }

    fn run(&self) -> u32 {
        while self.machine.engine.skip_to_next() {}
        self.io.inl(STATUS)
    }

    fn write(&self, sector: u64, sectors: &[u8]) {
        self.command(WRITE, sector, u32::try_from(sectors.len()).unwrap());
        for fill in sectors {
            assert_eq!(self.io.inl(STATUS), BUSY | DATA_READY);
            (0..256).for_each(|_| self.io.outw(DATA, u16::from_le_bytes([*fill, *fill])));
            assert_eq!(self.run(), DONE);
            self.io.outl(CONTROL, ACK);
        }
        assert_eq!(self.io.inl(STATUS), 0);
    }
}

#[test]
fn sectors_go_through_the_data_register_with_an_interrupt_each() {
    let bench = bench("none");
    assert_eq!((bench.io.inl(ID), bench.io.inq(SECTORS)), (DISKETTE_ID, 2880));
    bench.write(7, &[1, 2, 3]);
    assert_eq!(bench.interrupts(), 3);
    bench.command(READ, 8, 2);
    for fill in [2, 3] {
        assert_eq!(bench.run(), DONE | DATA_READY);
        let bytes = (0..512).map(|_| bench.io.inb(DATA)).collect::<Vec<_>>();
        assert_eq!(bytes, [fill; 512]);
        assert_eq!(bench.io.inb(DATA), 0xff);
        bench.io.outl(CONTROL, ACK);
    }
    assert_eq!((bench.io.inl(STATUS), bench.interrupts()), (0, 5));
}

#[test]
fn words_and_longs_take_fewer_accesses_than_bytes() {
    let bench = bench("none");
    bench.write(0, &[9]);
    for width in [1, 2, 4] {
        bench.command(READ, 0, 1);
        bench.run();
        let before = bench.machine.ports.list()[0].reads;
        let sum = (0..512 / width).map(|_| match width {
            1 => u32::from(bench.io.inb(DATA)),
            2 => u32::from(bench.io.inw(DATA)),
            _ => bench.io.inl(DATA),
        });
        assert!(sum.map(|value| value & 0xff).all(|value| value == 9));
        assert_eq!(bench.machine.ports.list()[0].reads - before, 512 / width);
        bench.io.outl(CONTROL, ACK);
    }
}

#[test]
fn a_fault_ends_the_command_at_its_sector() {
    let bench = bench("none");
    let rule = "add bad on fd0 block=9-9 do error EIO".split(' ').collect::<Vec<_>>();
    bench.machine.faults.command(&rule).unwrap();
    bench.command(READ, 8, 4);
    assert_eq!(bench.run(), DONE | DATA_READY);
    bench.io.outl(CONTROL, ACK);
    assert_eq!(bench.run(), DONE | ERROR);
    assert_eq!((bench.io.inl(SENSE), bench.io.inq(INFO)), (0x03_11_00, 9));
    bench.io.outl(CONTROL, ACK);
    assert_eq!(bench.io.inl(STATUS), 0);
}

#[test]
fn hang_panic_delay_freeze_and_reset_work_as_on_the_disk() {
    let bench = bench("none");
    for rule in [
        "add a on fd0 when=1 do hang",
        "add b on fd0 when=2 do panic",
        "add c on fd0 when=3 do delay 5ms",
    ] {
        bench.machine.faults.command(&rule.split(' ').collect::<Vec<_>>()).unwrap();
    }
    bench.command(FLUSH, 0, 0);
    assert_eq!(bench.run(), BUSY);
    bench.io.outl(CONTROL, RESET);
    bench.command(READ, 0, 2);
    assert_eq!((bench.run(), bench.io.inl(SENSE)), (DONE | ERROR, 0x0b_44_00));
    bench.io.outl(CONTROL, ACK);
    let before = bench.machine.engine.now();
    bench.write(0, &[1]);
    assert_eq!(bench.machine.engine.now().since(before), 5_000_000);
    bench.io.outl(CONTROL, FREEZE);
    bench.command(READ, 0, 1);
    assert_eq!(bench.run(), BUSY | FROZEN);
    bench.io.outl(CONTROL, THAW);
    assert_eq!(bench.run(), DONE | DATA_READY);
}

#[test]
fn wrong_commands_are_told_exactly() {
    let bench = bench("none");
    for (opcode, sector, sense) in
        [(9, 0, 0x05_20_00), (READ, 2880, 0x05_21_00), (WRITE, 2880, 0x05_21_00)]
    {
        bench.command(opcode, sector, 1);
        assert_eq!((bench.run(), bench.io.inl(SENSE)), (DONE | ERROR, sense));
        bench.io.outl(CONTROL, ACK);
    }
    bench.write(0, &[1, 1]);
    bench.command(ZERO, 0, 1);
    assert_eq!(bench.run(), DONE);
    bench.io.outl(CONTROL, ACK);
    bench.command(READ, 0, 1);
    bench.run();
    assert_eq!(bench.io.inl(DATA), 0);
}

#[test]
fn a_track_takes_one_turn_of_the_disk() {
    let bench = bench("floppy");
    bench.command(READ, 0, 19);
    let mut first = None;
    for _ in 0..19 {
        assert_eq!(bench.run(), DONE | DATA_READY);
        first.get_or_insert(bench.machine.engine.now());
        bench.io.outl(CONTROL, ACK);
    }
    let nanos = bench.machine.engine.now().since(first.unwrap());
    assert!((199_000_000..=200_000_000).contains(&nanos), "{nanos}");
}
