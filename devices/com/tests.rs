//! Two serial ports on a cable, as a line discipline uses them.

use crate::conf::attach_all;
use crate::contract::{
    CharDevice, Clock, LineSettings, Mark, Parity, PropertyError, RingState, SerialPort, Signals,
    UnitConfig, Value,
};
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
    units: [Arc<dyn CharDevice>; 2],
    ports: [Arc<dyn SerialPort>; 2],
}

fn pair(is_paced: bool) -> Pair {
    pair_of(is_paced, &[])
}

/// With these values for the second of them.
fn pair_of(is_paced: bool, values: &[(&str, Value)]) -> Pair {
    let machine = Machine::new(Engine::new(Time::Simulated), None, 1);
    let mut units = [unit(0, "ttyS1", is_paced), unit(1, "ttyS0", is_paced)];
    units[1].values.extend(values.iter().map(|(key, value)| ((*key).into(), value.clone())));
    let (switch, report) = attach_all(&machine, &units);
    assert_eq!(report.refusals().count(), 0);
    let units = [64, 65].map(|minor| {
        let dev = crate::contract::DevId { major: 4, minor };
        let Ok(CharUnit::Device(_, _, unit)) = switch.character(dev) else { panic!("no {dev}") };
        unit
    });
    let ports = units.each_ref().map(|unit| unit.serial().unwrap());
    for port in &ports {
        port.open();
        assert_eq!(port.configure(&PLAIN), 115_200);
    }
    let pair = Pair { machine, units, ports };
    pair.run_for(1);
    pair
}

fn millis(pair: &Pair) -> u64 {
    pair.machine.engine.now().0 / 1_000_000
}

impl Pair {
    fn run(&self) {
        while self.machine.engine.skip_to_next() {}
    }

    /// So many milliseconds; a port that is polled and open never rests.
    fn run_for(&self, nanos: u64) {
        let end = self.machine.engine.now().after(nanos * 1_000_000);
        let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        self.machine.engine.after(nanos * 1_000_000, move || {
            flag.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
            assert!(self.machine.engine.skip_to_next());
        }
        assert!(self.machine.engine.now() >= end);
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
    assert_eq!((sent, pair.ports[0].room()), (super::port::OUT_MAX, 0));
    assert_eq!(pair.ports[0].send(&[7]), 0);
    pair.run();
    assert_eq!(pair.ports[0].room(), super::port::OUT_MAX);
    assert_eq!(pair.heard(1).len(), super::port::OUT_MAX);
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

fn polled(interval: u64) -> [(&'static str, Value); 2] {
    let millis = Value::Number(interval * 1_000_000);
    [("completion", Value::Text("polled".into())), ("poll_interval", millis)]
}

#[test]
fn who_looks_too_rarely_loses_what_the_fifo_cannot_hold() {
    const SLOW: LineSettings = LineSettings { rate: 9600, ..PLAIN };
    // 16 characters take 16.7 ms at 9600.
    for (values, is_lost) in [(&polled(50)[..], true), (&polled(10), false), (&[], false)] {
        let pair = pair_of(true, values);
        pair.ports.iter().for_each(|port| assert_eq!(port.configure(&SLOW), 9600));
        pair.ports[0].send(&[b'x'; 200]);
        pair.run_for(400);
        let (heard, gauge) = (pair.heard(1), pair.machine.cables.find("ttyS1").unwrap().gauge());
        assert_eq!((heard.len() as u64, gauge.heard), (200 - gauge.overrun, 200));
        assert_eq!(gauge.overrun > 0, is_lost, "{values:?}");
        let counters = pair.ports[1].counters();
        assert_eq!((counters.overrun > 0, counters.polls > 0), (is_lost, !values.is_empty()));
        assert_eq!(pair.ports[1].poll_nanos().is_some(), !values.is_empty());
    }
}

#[test]
fn a_polled_port_sends_a_fifo_a_look_and_is_not_interrupted() {
    let pair = pair_of(true, &polled(10));
    pair.ports[1].send(&[b'x'; 100]);
    pair.run_for(65);
    assert_eq!(pair.heard(0).len(), 96);
    pair.run_for(20);
    assert_eq!((pair.heard(0).len(), pair.ports[1].unsent()), (4, 0));
    let raised = pair.machine.irqs.list().into_iter().find(|line| line.line == 5);
    assert_eq!(raised.map_or(0, |line| line.raised), 0);
    let before = pair.ports[1].bell().generation();
    pair.ports[0].set_signals(None, Some(false));
    pair.run_for(20);
    assert!(!pair.ports[1].signals().cts && pair.ports[1].bell().generation() > before);
}

#[test]
fn nobody_looks_at_a_closed_port_once_all_is_sent() {
    let pair = pair_of(true, &polled(10));
    pair.ports[1].send(&[b'x'; 40]);
    pair.ports[1].close(true);
    pair.run(); // it ends
    assert_eq!(pair.heard(0).len(), 40);
    assert!(!pair.ports[0].signals().dcd, "hung up after the last");
    pair.ports[0].send(b"too early");
    pair.run();
    pair.ports[1].open();
    pair.ports[0].send(b"in time");
    pair.run_for(30);
    assert_eq!((pair.heard(1), pair.ports[1].counters().dropped), (b"in time".to_vec(), 9));
}

#[test]
fn what_is_held_back_goes_when_the_other_end_asks_though_the_port_is_closed() {
    for values in [&[][..], &polled(10)] {
        let pair = pair_of(true, values);
        pair.ports[1].configure(&LineSettings { obeys_cts: true, ..PLAIN });
        pair.ports[0].set_signals(None, Some(false));
        pair.run_for(30);
        pair.ports[1].send(b"late");
        pair.ports[1].close(false);
        pair.run_for(100);
        assert_eq!(pair.heard(0), b"");
        pair.ports[0].set_signals(None, Some(true));
        pair.run_for(30);
        assert_eq!(pair.heard(0), b"late", "{values:?}");
        pair.run(); // it ends
    }
}

#[test]
fn how_a_port_is_served_can_be_changed_while_it_works() {
    let pair = pair(true);
    let unit = &pair.units[1];
    let is = |name: &str| unit.properties().into_iter().find(|(known, _)| *known == name);
    assert_eq!(is("completion").unwrap().1, "irq");
    unit.set_property("poll_interval", "20ms").unwrap();
    unit.set_property("completion", "polled").unwrap();
    assert_eq!(is("poll_interval").unwrap().1, "20ms");
    pair.ports[0].send(b"a");
    pair.run_for(10);
    assert_eq!(pair.heard(1), b"");
    pair.run_for(20);
    assert_eq!(pair.heard(1), b"a");
    pair.ports[0].send(b"bcd");
    pair.run_for(2);
    unit.set_property("completion", "irq").unwrap();
    pair.run();
    assert_eq!(pair.heard(1), b"bcd", "what waited in the FIFO is told of");
    for (name, value) in
        [("completion", "dma"), ("poll_interval", "1us"), ("poll_interval", "x"), ("duplex", "no")]
    {
        assert!(matches!(unit.set_property(name, value), Err(PropertyError::Value(_))));
    }
    assert_eq!(unit.set_property("parity", "even"), Err(PropertyError::Unknown));
}

#[test]
fn duplex_is_a_bit_of_the_control_register() {
    let pair = pair(true);
    let socket = pair.machine.cables.find("ttyS1").unwrap();
    for (is_half, lost) in [(true, 3), (false, 0), (true, 3)] {
        pair.ports[1].set_half_duplex(is_half);
        assert_eq!(socket.gauge().registers[2] & crate::serial_manual::MCR_HALF != 0, is_half);
        assert_eq!(pair.ports[1].is_half_duplex(), is_half);
        let before = socket.gauge().collided;
        pair.ports[1].send(&[b'x'; 40]);
        pair.run_for(1);
        let frames: Vec<_> = b"abc".iter().map(|byte| socket.frame(*byte)).collect();
        socket.hear(&frames);
        pair.run();
        assert_eq!(socket.gauge().collided - before, lost);
        assert_eq!(pair.heard(1).len() as u64, 3 - lost);
    }
}

#[test]
fn three_rings_full_go_round_three_times() {
    let pair = pair(false);
    for _ in 0..12 {
        assert_eq!(pair.ports[0].send(&[b'x'; 1024]), 1024);
        pair.run();
        assert_eq!(pair.heard(1).len(), 1024);
    }
    let [_, sent] = pair.ports[0].rings();
    let [came, _] = pair.ports[1].rings();
    let round = RingState { size: 4096, head: 0, tail: 0, wraps: [3, 3] };
    assert_eq!((sent, came), (round, round));
    pair.ports[0].send(&[b'a'; 4096]);
    pair.run();
    pair.ports[0].send(b"more");
    pair.run();
    assert_eq!(pair.ports[1].counters().overflow, 4, "the newest are thrown away");
    assert_eq!(pair.ports[1].rings()[0], RingState { wraps: [4, 3], ..round }, "full");
    assert_eq!(pair.heard(1), [b'a'; 4096]);
}
