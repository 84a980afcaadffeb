//! The printer's chip by its registers alone.

use super::*;
use crate::bus::PortIo;
use crate::contract::{Value, WaitQueue};
use crate::engine::Time;

struct Desk {
    machine: Machine,
    dir: tempfile::TempDir,
    io: PortIo,
}

impl Desk {
    fn new() -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::new(Time::Simulated);
        let machine = Machine::new(engine, Some(dir.path().to_owned()), 1);
        let places = [("port", 0x378), ("irq", 7)];
        let values = places.map(|(key, n)| (key.to_owned(), Value::Number(n))).into();
        let unit = UnitConfig { name: "lp0".into(), driver: "lp".into(), unit: 0, values };
        install(&machine, &unit).unwrap();
        let io = machine.ports.claim("test", 0x378, manual::PORTS).unwrap();
        Desk { machine, dir, io }
    }

    fn strobe(&self, byte: u8) {
        self.io.outb(manual::DATA, byte);
        self.io.outb(manual::CONTROL, manual::NOT_INIT | manual::STROBE);
        self.io.outb(manual::CONTROL, manual::NOT_INIT);
    }

    fn settle(&self) {
        let bell = Arc::new(WaitQueue::default());
        let is_idle = || self.io.inl(manual::RESULT) != manual::RUNNING;
        self.machine.engine.wait(&bell, None, is_idle).unwrap();
    }

    fn out(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("lp0.out")).unwrap_or_default()
    }
}

#[test]
fn bytes_are_strobed_in_one_by_one() {
    let desk = Desk::new();
    assert_eq!(desk.io.inl(manual::ID), manual::PRINTER_ID);
    for byte in *b"hello" {
        assert_ne!(desk.io.inb(manual::STATUS) & manual::NOT_BUSY, 0);
        desk.strobe(byte);
        assert_eq!(desk.io.inb(manual::STATUS) & manual::NOT_BUSY, 0, "busy with {byte}");
        desk.settle();
    }
    assert_eq!(desk.out(), "hello");
}

#[test]
fn the_status_bits_tell_what_hinders() {
    let desk = Desk::new();
    let healthy = manual::NOT_BUSY | manual::NOT_ACK | manual::SELECTED | manual::NO_ERROR;
    assert_eq!(desk.io.inb(manual::STATUS), healthy);
    desk.io.outl(manual::PAPER, 0);
    let bits = desk.io.inb(manual::STATUS);
    assert_eq!(bits & (manual::PAPER_OUT | manual::NO_ERROR), manual::PAPER_OUT);
    desk.io.outl(manual::PAPER, 10);
    desk.io.outl(manual::PANEL, manual::OFFLINE);
    assert_eq!(desk.io.inb(manual::STATUS) & manual::SELECTED, 0);
    desk.strobe(b'x');
    assert_eq!(desk.io.inl(manual::RESULT), manual::GOOD, "a printer off line takes nothing");
    desk.io.outl(manual::PANEL, 0);
    assert_eq!(desk.io.inb(manual::STATUS), healthy);
}

#[test]
fn an_unready_printer_goes_on_where_it_stopped() {
    let desk = Desk::new();
    let channel = desk.machine.dma.claim("test", 1).unwrap();
    let block = |op: u32, bytes: &[u8]| {
        let address = channel.map(bytes.to_vec()).unwrap();
        desk.io.outq(manual::ADDRESS, address.0);
        desk.io.outl(manual::COUNT, u32::try_from(bytes.len()).unwrap());
        desk.io.outl(manual::OP, op);
    };
    block(manual::BEGIN, b"1 x");
    desk.settle();
    desk.io.outl(manual::PAPER, 2);
    let text: String = (0..200).map(|line| format!("line {line}\n")).collect();
    block(manual::PRINT, text.as_bytes());
    while desk.machine.engine.skip_to_next() {}
    assert_eq!(desk.out().lines().count(), 132, "two sheets of 66 lines");
    assert_eq!(desk.io.inl(manual::PANEL), manual::OUT);
    desk.io.outl(manual::PAPER, 1);
    while desk.machine.engine.skip_to_next() {}
    assert_eq!(desk.out().lines().count(), 198);
    desk.io.outl(manual::PAPER, u32::MAX);
    desk.settle();
    assert_eq!(desk.out(), text, "each line once");
    assert_eq!(desk.io.inl(manual::RESULT), manual::GOOD);
}

#[test]
fn a_reset_ends_the_block() {
    let desk = Desk::new();
    desk.io.outl(manual::PANEL, manual::JAM);
    desk.io.outl(manual::COUNT, 5);
    desk.io.outl(manual::OP, manual::PRINT);
    while desk.machine.engine.skip_to_next() {}
    assert_eq!(desk.io.inl(manual::RESULT), manual::RUNNING);
    desk.io.outl(manual::OP, manual::RESET);
    desk.io.outl(manual::PANEL, 0);
    while desk.machine.engine.skip_to_next() {}
    assert_eq!((desk.io.inl(manual::RESULT), desk.out()), (manual::BROKEN, String::new()));
}
