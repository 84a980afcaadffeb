//! Two serial ports on a cable, as a line discipline uses them.

use crate::conf::attach_all;
use crate::contract::{Clock, LineSettings, Mark, Parity, SerialPort, Signals, UnitConfig, Value};
use crate::engine::{Engine, Time};
use crate::machine::Machine;
use crate::switch::CharUnit;
use crate::sync::Arc;

const PLAIN: LineSettings = LineSettings {
    rate: 115_200,
    data_bits: 8,
    parity: Parity::None,
    two_stops: false,
    obeys_cts: false,
    receives: true,
};

fn unit(number: u32, peer: &str, is_paced: bool) -> UnitConfig {
    let mut unit = UnitConfig {
        name: format!("ttyS{number}"),
        driver: "ttyS".into(),
        unit: number,
        ..UnitConfig::default()
    };
    unit.values.insert("peer".into(), Value::Text(peer.into()));
    unit.values.insert("pacing".into(), Value::Flag(is_paced));
    unit
}

struct Pair {
    machine: Machine,
    ports: [Arc<dyn SerialPort>; 2],
}

fn pair(is_paced: bool) -> Pair {
    let machine = Machine::new(Engine::new(Time::Simulated), None, 1);
    let units = [unit(0, "ttyS1", is_paced), unit(1, "ttyS0", is_paced)];
    let (switch, report) = attach_all(&machine, &units);
    assert_eq!(report.refusals().count(), 0);
    let ports = [64, 65].map(|minor| {
        let dev = crate::contract::DevId { major: 4, minor };
        let Ok(CharUnit::Device(_, _, unit)) = switch.character(dev) else { panic!("no {dev}") };
        unit.serial().unwrap()
    });
    for port in &ports {
        port.open();
        assert_eq!(port.configure(&PLAIN), 115_200);
    }
    let pair = Pair { machine, ports };
    pair.run();
    pair
}

fn millis(pair: &Pair) -> u64 {
    pair.machine.engine.now().0 / 1_000_000
}

impl Pair {
    fn run(&self) {
        while self.machine.engine.skip_to_next() {}
    }

    fn heard(&self, port: usize) -> Vec<u8> {
        let mut all = Vec::new();
        self.ports[port].receive(&mut all);
        all.iter().map(|heard| heard.byte).collect()
    }
}

#[test]
fn what_is_sent_arrives_and_both_ends_are_told() {
    for is_paced in [false, true] {
        let pair = pair(is_paced);
        let bells = [0, 1].map(|port| pair.ports[port].bell().generation());
        let data: Vec<u8> = (0..1000).map(|n| u8::try_from(n % 251).unwrap()).collect();
        assert_eq!(pair.ports[0].send(&data), 1000);
        assert!(pair.ports[0].unsent() > 0);
        let begun = millis(&pair);
        pair.run();
        assert_eq!(pair.heard(1), data);
        assert_eq!(pair.ports[0].unsent(), 0);
        for (port, bell) in pair.ports.iter().zip(bells) {
            assert!(port.bell().generation() > bell);
        }
        let took = millis(&pair) - begun;
        let right = if is_paced { 86..=88 } else { 0..=0 };
        assert!(right.contains(&took), "1000 characters at 115200 took {took} ms");
    }
}

#[test]
fn more_than_the_ring_holds_is_taken_bit_by_bit() {
    let pair = pair(false);
    let sent = pair.ports[0].send(&[7; 10_000]);
    assert_eq!((sent, pair.ports[0].room()), (super::OUT_MAX, 0));
    assert_eq!(pair.ports[0].send(&[7]), 0);
    pair.run();
    assert_eq!(pair.ports[0].room(), super::OUT_MAX);
    assert_eq!(pair.heard(1).len(), super::OUT_MAX);
}

#[test]
fn a_closed_port_throws_away_and_counts() {
    let pair = pair(false);
    pair.ports[1].close(true);
    pair.run();
    assert!(!pair.ports[0].signals().dcd);
    pair.ports[0].send(b"nobody hears");
    pair.run();
    pair.ports[1].open();
    assert_eq!(pair.heard(1), b"");
    assert_eq!(pair.ports[1].counters().dropped, 12);
}

#[test]
fn the_last_close_sends_what_is_left_before_it_hangs_up() {
    let pair = pair(true);
    pair.ports[0].send(b"goodbye");
    pair.ports[0].close(true);
    assert!(pair.ports[0].signals().dtr);
    pair.run();
    assert_eq!(pair.heard(1), b"goodbye");
    let down = Signals { dtr: true, rts: true, ..Signals::default() };
    assert_eq!(pair.ports[1].signals(), down);
}

#[test]
fn with_handshake_nothing_is_sent_until_the_other_end_asks() {
    let pair = pair(false);
    pair.ports[0].configure(&LineSettings { obeys_cts: true, ..PLAIN });
    pair.ports[1].set_signals(None, Some(false));
    pair.run();
    pair.ports[0].send(b"wait");
    pair.ports[0].send_first(b'!');
    pair.run();
    assert_eq!(pair.heard(1), b"!");
    pair.ports[1].set_signals(None, Some(true));
    pair.run();
    assert_eq!(pair.heard(1), b"wait");
    pair.ports[0].stop(true);
    pair.ports[0].send(b"stopped");
    pair.run();
    assert_eq!(pair.heard(1), b"");
    pair.ports[0].flush_output();
    pair.ports[0].stop(false);
    pair.run();
    assert_eq!((pair.heard(1), pair.ports[0].unsent()), (vec![], 0));
}

#[test]
fn a_host_that_is_late_loses_what_the_fifo_cannot_hold() {
    let pair = pair(true);
    pair.machine.irqs.mask(5, true);
    pair.ports[0].send(b"abcdefghijklmnopqrst");
    pair.run();
    assert_eq!(pair.heard(1), b"");
    pair.machine.irqs.mask(5, false);
    pair.run();
    assert_eq!(pair.heard(1), b"abcdefghijklmnop");
    assert_eq!(pair.machine.cables.find("ttyS1").unwrap().gauge().overrun, 4);
    assert_eq!(pair.ports[1].counters().overrun, 1);
}

#[test]
fn wrong_characters_are_marked_and_counted() {
    let pair = pair(false);
    for port in &pair.ports {
        port.configure(&LineSettings { parity: Parity::Even, ..PLAIN });
    }
    pair.machine.cables.find("ttyS1").unwrap().disturb(1);
    pair.ports[0].send(b"ab");
    pair.ports[0].set_break(true);
    pair.run();
    pair.ports[0].set_break(false);
    let mut all = Vec::new();
    pair.ports[1].receive(&mut all);
    let marks: Vec<Mark> = all.iter().map(|heard| heard.mark).collect();
    assert_eq!(marks, [Mark::Break, Mark::Parity, Mark::Good]);
    let counters = pair.ports[1].counters();
    assert_eq!((counters.parity, counters.breaks, counters.received), (1, 1, 3));
}

#[test]
fn a_port_without_a_chip_is_absent() {
    let machine = Machine::new(Engine::new(Time::Simulated), None, 1);
    let mut missing = unit(0, "", true);
    missing.values.insert("absent".into(), Value::Flag(true));
    let (_, report) = attach_all(&machine, &[missing]);
    assert_eq!(report.probes[0].to_string(), "ttyS0 ttyS absent");
    assert!(machine.ports.list().is_empty());
}

#[test]
fn what_came_before_the_carrier_was_lost_is_there_before_that_is_told() {
    let pair = pair(true);
    pair.ports[0].send(b"last words"); // too few for the FIFO to tell of
    pair.ports[0].close(true);
    while pair.ports[1].signals().dcd {
        assert!(pair.machine.engine.skip_to_next());
    }
    assert_eq!(pair.heard(1), b"last words");
}
