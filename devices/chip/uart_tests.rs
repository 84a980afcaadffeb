//! The serial chip by its registers alone, and two of them on a cable.

use super::*;
use crate::bus::PortIo;
use crate::bus::irq::Sharing;
use crate::contract::Value;
use crate::engine::Time;
use crate::serial_manual::*;
use std::sync::atomic::{AtomicU32, Ordering};

fn unit(name: &str, port: u64, irq: u64, peer: &str, pacing: bool) -> UnitConfig {
    let mut unit = UnitConfig { name: name.into(), driver: "ttyS".into(), ..UnitConfig::default() };
    let values = [
        ("port", Value::Number(port)),
        ("irq", Value::Number(irq)),
        ("peer", Value::Text(peer.into())),
        ("pacing", Value::Flag(pacing)),
    ];
    unit.values = values.map(|(key, value)| (key.to_owned(), value)).into();
    unit
}

struct Scene {
    machine: Machine,
    ends: [PortIo; 2],
    raised: [Arc<AtomicU32>; 2],
    _lines: [Arc<crate::bus::IrqLine>; 2],
}

/// Two chips on a null-modem cable, FIFOs on, 8N1 at 9600, trigger 14.
fn scene(pacing: bool) -> Scene {
    scene_of(pacing, false)
}

fn scene_of(pacing: bool, half_duplex: bool) -> Scene {
    let machine = Machine::new(Engine::new(Time::Simulated), None, 1);
    for (name, port, irq, peer) in [("ttyS0", 0x3f8, 4, "ttyS1"), ("ttyS1", 0x2f8, 3, "ttyS0")] {
        let unit = unit(name, port, irq, peer, pacing);
        install(&machine, &unit).unwrap();
    }
    let ends = [0x3f8, 0x2f8].map(|port| machine.ports.claim("test", port, PORTS).unwrap());
    let raised: [Arc<AtomicU32>; 2] = Default::default();
    let lines = [4, 3].map(|irq| machine.irqs.claim("test", irq, Sharing::Exclusive).unwrap());
    for (line, count) in lines.iter().zip(&raised) {
        let count = Arc::clone(count);
        line.connect(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }
    for io in &ends {
        io.outb(FCR, FCR_ON | FCR_TRIGGER_14);
        io.outb(MCR, MCR_OUT2 | if half_duplex { MCR_HALF } else { 0 });
    }
    Scene { machine, ends, raised, _lines: lines }
}

impl Scene {
    fn run(&self) {
        while self.machine.engine.skip_to_next() {}
    }

    fn send(&self, bytes: &[u8]) {
        for byte in bytes {
            self.ends[0].outb(DATA, *byte);
        }
    }

    fn received(&self) -> Vec<u8> {
        let io = &self.ends[1];
        std::iter::from_fn(|| (io.inb(LSR) & LSR_READY != 0).then(|| io.inb(DATA))).collect()
    }

    fn millis(&self) -> u64 {
        self.machine.engine.now().0 / 1_000_000
    }

    fn rate(&self, end: usize, divisor: u16) {
        let [low, high] = divisor.to_le_bytes();
        self.ends[end].outb(LCR, 3 | LCR_DLAB);
        self.ends[end].outb(DATA, low);
        self.ends[end].outb(IER, high);
        self.ends[end].outb(LCR, 3);
    }
}

#[test]
fn characters_cross_the_cable_in_order_and_take_their_time() {
    let scene = scene(true);
    scene.send(b"sixteen letters!");
    assert_eq!(scene.ends[0].inb(LSR) & LSR_EMPTY, 0);
    scene.run();
    assert_eq!(scene.received(), b"sixteen letters!");
    // 16 characters of 10 bits at 9600, and 4 more until the few left over are told of.
    assert!((16..=21).contains(&scene.millis()), "{} ms", scene.millis());
    assert_eq!(scene.ends[0].inb(LSR) & (LSR_EMPTY | LSR_IDLE), LSR_EMPTY | LSR_IDLE);
}

#[test]
fn a_half_duplex_line_is_deaf_while_it_sends_and_no_longer() {
    for (half_duplex, heard) in [(true, &b"c"[..]), (false, b"abc")] {
        let scene = scene_of(true, half_duplex);
        let socket = scene.machine.cables.find("ttyS1").unwrap();
        scene.ends[1].outb(DATA, b'x');
        socket.hear(&[socket.frame(b'a'), socket.frame(b'b')]);
        scene.run();
        socket.hear(&[socket.frame(b'c')]);
        assert_eq!(scene.received(), heard);
        assert_eq!(socket.gauge().collided, if half_duplex { 2 } else { 0 });
    }
}

#[test]
fn without_pacing_they_take_none() {
    let scene = scene(false);
    scene.send(b"now");
    assert!(scene.machine.engine.crank());
    assert_eq!(scene.received(), b"now");
    assert_eq!(scene.millis(), 0);
}

#[test]
fn a_full_fifo_keeps_what_is_in_it_and_counts_what_is_lost() {
    let scene = scene(false);
    let socket = scene.machine.cables.find("ttyS1").unwrap();
    let frames: Vec<Frame> = (b'a'..b'u').map(|byte| socket.frame(byte)).collect();
    socket.hear(&frames);
    assert_eq!(socket.gauge().overrun, 4);
    assert_eq!(scene.ends[1].inb(LSR) & LSR_OVERRUN, LSR_OVERRUN);
    assert_eq!(scene.ends[1].inb(LSR) & LSR_OVERRUN, 0);
    assert_eq!(scene.received(), b"abcdefghijklmnop");
}

#[test]
fn the_line_is_raised_at_the_trigger_and_for_a_few_after_four_characters() {
    let scene = scene(true);
    scene.ends[1].outb(IER, IER_RECEIVED);
    scene.send(b"abcdefghijklmn");
    scene.run();
    assert_eq!(scene.raised[1].load(Ordering::Relaxed), 1);
    assert_eq!(scene.ends[1].inb(IIR), IIR_RECEIVED | IIR_FIFO);
    scene.received();
    assert_eq!(scene.ends[1].inb(IIR), IIR_NONE | IIR_FIFO);
    scene.send(b"few");
    scene.run();
    assert_eq!(scene.raised[1].load(Ordering::Relaxed), 2);
    assert_eq!(scene.ends[1].inb(IIR), IIR_TIMEOUT | IIR_FIFO);
}

#[test]
fn wanting_to_send_is_told_once_until_something_was_sent() {
    let scene = scene(false);
    scene.ends[0].outb(IER, IER_EMPTY);
    scene.run();
    assert_eq!(scene.raised[0].load(Ordering::Relaxed), 1);
    assert_eq!(scene.ends[0].inb(IIR) & 0xf, IIR_EMPTY);
    assert_eq!(scene.ends[0].inb(IIR) & 0xf, IIR_NONE);
    scene.send(b"x");
    scene.run();
    assert_eq!(scene.raised[0].load(Ordering::Relaxed), 2);
    assert_eq!(scene.ends[0].inb(IIR) & 0xf, IIR_EMPTY);
}

#[test]
fn modem_lines_cross_over() {
    let scene = scene(true);
    scene.ends[1].outb(IER, IER_MODEM);
    scene.ends[0].outb(MCR, MCR_OUT2 | MCR_RTS | MCR_DTR);
    scene.run();
    assert_eq!(scene.raised[1].load(Ordering::Relaxed), 1);
    assert_eq!(scene.ends[1].inb(MSR), MSR_CTS | MSR_DSR | MSR_DCD | 0x0b);
    assert_eq!(scene.ends[1].inb(MSR), MSR_CTS | MSR_DSR | MSR_DCD);
    scene.ends[0].outb(MCR, MCR_OUT2 | MCR_DTR);
    assert_eq!(scene.ends[1].inb(MSR), MSR_DSR | MSR_DCD | 1);
}

#[test]
fn different_formats_are_heard_as_a_real_line_would_be_heard() {
    let scene = scene(false);
    let cases: [(u8, u8, u8, u8, u8); 6] = [
        (3, 3, 0xc1, 0xc1, 0),                                             // 8N1
        (2, 2, 0xc1, 0x41, 0),                                             // 7N1 cuts the eighth
        (2 | LCR_PARITY | LCR_EVEN, 3, 0x43, 0xc3, 0),                     // three ones: parity 1
        (3, 2 | LCR_PARITY | LCR_EVEN, 0x43, 0x43, LSR_PARITY),            // bit 7 is no parity
        (3 | LCR_PARITY, 3, 0x01, 0x01, LSR_FRAMING),                      // odd parity 0: no stop
        (3 | LCR_PARITY | LCR_STICK, 3 | LCR_PARITY | LCR_STICK, 5, 5, 0), // mark
    ];
    for (mine, yours, sent, heard, error) in cases {
        scene.ends[0].outb(LCR, mine);
        scene.ends[1].outb(LCR, yours);
        scene.send(&[sent]);
        scene.run();
        let status = scene.ends[1].inb(LSR) & (LSR_PARITY | LSR_FRAMING | LSR_BREAK);
        assert_eq!((scene.ends[1].inb(DATA), status), (heard, error), "{mine:#x} {yours:#x}");
    }
}

#[test]
fn another_rate_gives_another_character() {
    let scene = scene(false);
    scene.rate(0, 96);
    scene.rate(1, 192);
    scene.send(b"U");
    scene.run();
    assert_ne!(scene.received(), b"U");
    scene.rate(1, 98); // 2 % off does no harm
    scene.send(b"U");
    scene.run();
    assert_eq!(scene.received(), b"U");
}

#[test]
fn a_held_line_is_a_break_and_noise_is_a_wrong_bit() {
    let scene = scene(false);
    scene.ends[0].outb(LCR, 3 | LCR_BREAK);
    scene.run();
    assert_eq!(scene.ends[1].inb(LSR) & LSR_BREAK, LSR_BREAK);
    assert_eq!(scene.ends[1].inb(DATA), 0);
    let even = 3 | LCR_PARITY | LCR_EVEN;
    scene.ends[0].outb(LCR, even);
    scene.ends[1].outb(LCR, even);
    scene.machine.cables.find("ttyS1").unwrap().disturb(1);
    scene.send(b"@@");
    scene.run();
    assert_eq!(scene.ends[1].inb(LSR) & LSR_PARITY, LSR_PARITY);
    assert_eq!(scene.ends[1].inb(DATA), b'A');
    assert_eq!(scene.ends[1].inb(LSR) & LSR_PARITY, 0);
    assert_eq!(scene.ends[1].inb(DATA), b'@');
    assert_eq!(scene.machine.cables.find("ttyS1").unwrap().gauge().parity, 1);
}

#[test]
fn in_loopback_the_chip_hears_itself() {
    let scene = scene(false);
    scene.ends[0].outb(MCR, MCR_LOOP | MCR_RTS | MCR_OUT2);
    assert_eq!(scene.ends[0].inb(MSR) & !MSR_CHANGES, MSR_CTS | MSR_DCD);
    scene.send(b"me");
    scene.run();
    assert_eq!(scene.ends[0].inb(DATA), b'm');
    assert_eq!(scene.received(), b"");
}

#[test]
fn a_second_plug_in_a_socket_is_refused() {
    let scene = scene(false);
    let refused = install(&scene.machine, &unit("ttyS2", 0x3e8, 6, "ttyS0", true)).unwrap_err();
    assert_eq!(refused.to_string(), "ttyS2: ttyS0 is joined to ttyS1 already");
    let refused = install(&scene.machine, &unit("ttyS3", 0x2e8, 6, "modem", true)).unwrap_err();
    assert!(refused.to_string().contains("pty"), "{refused}");
}
