//! Serial lines for people: `proc/serial`, and the operator's hand on a line.

use crate::ctl::{Verb, refuse, shown};
use crate::error::{Errno, Error};
use crate::file::{Answer, Caller};
use crate::kernel::Kernel;
use crate::sync::Arc;
use crate::verbs::{done, verb};
use crate::words;
use devices::RingState;
use devices::bus::cable::{Frame, Socket};
use devices::value::format_time;
use std::fmt::Write;

/// Most characters that `noise` spoils.
const NOISE_MAX: u32 = 1_000_000;

/// `proc/serial`: a paragraph a port, `key=value` in each line.
#[must_use]
pub fn report(kernel: &Kernel) -> String {
    let mut text = String::new();
    for tty in kernel.special.ttys() {
        let shown = tty.shown();
        let (port, irq) = shown.place;
        let name = &shown.name;
        let peer = kernel.machine.cables.peer(name).unwrap_or_else(|| "none".into());
        let held = kernel.machine.irqs.list().iter().any(|l| l.line == irq && l.is_masked);
        let _ = write!(text, "{name} port={port:#x} irq={irq} line={:?}", shown.settings);
        let duplex = if shown.is_half_duplex { "half" } else { "full" };
        let _ = write!(text, " open={} peer={peer:?} duplex={duplex}", shown.opens);
        if let Some(nanos) = shown.poll_nanos {
            let _ = write!(text, " polled={}", format_time(nanos));
        }
        text.push_str(if held { " held\n" } else { "\n" });
        let s = shown.signals;
        let lines = [
            ("dtr", s.dtr),
            ("rts", s.rts),
            ("cts", s.cts),
            ("dsr", s.dsr),
            ("dcd", s.dcd),
            ("ri", s.ri),
        ];
        let _ = write!(text, "{name} modem");
        for (line, is_up) in lines {
            let _ = write!(text, " {line}={}", u8::from(is_up));
        }
        let (to_read, to_send) = shown.waiting;
        let _ = writeln!(text, " to_read={to_read} to_send={to_send}");
        let c = shown.counters;
        let _ = write!(text, "{name} driver received={} sent={}", c.received, c.sent);
        let _ =
            write!(text, " dropped={} buffer_overrun={}", c.dropped, c.overflow + shown.dropped);
        let _ = writeln!(text, " changes={} polls={}", c.changes.iter().sum::<u64>(), c.polls);
        for (way, ring) in ["in", "out"].into_iter().zip(shown.rings) {
            let RingState { size, head, tail, wraps: [heads, tails] } = ring;
            let _ = write!(text, "{name} ring {way} size={size} head={head} tail={tail}");
            let _ = writeln!(text, " wraps={heads},{tails}");
        }
        if let Some(socket) = kernel.machine.cables.find(name) {
            chip(&mut text, name, &*socket);
        }
    }
    text
}

fn chip(text: &mut String, name: &str, socket: &dyn Socket) {
    let g = socket.gauge();
    let [ier, lcr, mcr, lsr, msr] = g.registers;
    let (received, to_send) = g.levels;
    let _ = write!(text, "{name} chip fifo_size={}", devices::serial_manual::FIFO);
    let _ = write!(text, " fifo_level={received} fifo_to_send={to_send} heard={}", g.heard);
    let _ = write!(text, " sent={} overrun={} parity={}", g.sent, g.overrun, g.parity);
    let _ = writeln!(text, " framing={} break={} collided={}", g.framing, g.breaks, g.collided);
    let _ = write!(text, "{name} registers divisor={} ier={ier:#04x}", g.divisor);
    let _ = writeln!(text, " lcr={lcr:#04x} mcr={mcr:#04x} lsr={lsr:#04x} msr={msr:#04x}");
}

/// The verbs that take a serial port.
#[must_use]
pub fn verbs(k: &Arc<Kernel>) -> Vec<Verb> {
    vec![
        verb(k, ("hold", "PORT"), 1..=1, "keeps a serial port's driver from its chip", hold),
        verb(k, ("release", "PORT"), 1..=1, "lets the driver of a held port serve it", release),
        verb(k, ("inject", "PORT TEXT"), 2..=2, "has characters arrive (\\n, \\xHH)", inject),
        verb(k, ("noise", "PORT N"), 2..=2, "spoils a bit of the next N characters", noise),
    ]
}

fn find(kernel: &Kernel, verb: &str, name: &str) -> Result<(String, Arc<dyn Socket>), Error> {
    let plain = name.strip_prefix("/dev/").unwrap_or(name);
    if let Some(socket) = kernel.machine.cables.find(plain) {
        return Ok((plain.to_owned(), socket));
    }
    let joints = kernel.machine.cables.list();
    let hint = match words::closest(plain, joints.iter().map(|joint| joint.name.as_str())) {
        Some(near) => format!(" (did you mean {near}?)"),
        None => String::new(),
    };
    Err(Error::new(Errno::ENXIO, format!("{verb}: no serial port {}{hint}", shown(name))))
}

fn mask(kernel: &Kernel, verb: &str, name: &str, is_masked: bool) -> Result<Answer<String>, Error> {
    let (name, _) = find(kernel, verb, name)?;
    let Some(line) = kernel.machine.irqs.line_of(&name) else {
        return Err(refuse(verb, &format!("{name} has no interrupt line")));
    };
    kernel.machine.irqs.mask(line, is_masked);
    kernel.machine.engine.crank();
    done()
}

fn hold(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    mask(kernel, "hold", &words[0], true)
}

fn release(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    mask(kernel, "release", &words[0], false)
}

fn inject(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    let (_, socket) = find(kernel, "inject", &words[0])?;
    let bytes = unescaped(&words[1]).ok_or_else(|| {
        refuse("inject", &format!("{}: after \\ comes n, r, t, \\ or xHH", shown(&words[1])))
    })?;
    let frames: Vec<Frame> = bytes.iter().map(|byte| socket.frame(*byte)).collect();
    socket.hear(&frames);
    kernel.machine.engine.crank();
    done()
}

fn noise(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    let (_, socket) = find(kernel, "noise", &words[0])?;
    let count = words[1].parse().ok().filter(|count| *count <= NOISE_MAX).ok_or_else(|| {
        refuse("noise", &format!("{}: a number up to {NOISE_MAX} is wanted", shown(&words[1])))
    })?;
    socket.disturb(count);
    done()
}

/// The bytes that a text with escapes stands for.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'\\' => b'\\',
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(unescaped(r"a\n\r\t\\\x03").unwrap(), b"a\n\r\t\\\x03");
        assert_eq!(unescaped(r"\xff").unwrap(), [0xff]);
        for wrong in [r"\", r"\q", r"\x1", r"\xzz"] {
            assert!(unescaped(wrong).is_none(), "{wrong}");
        }
    }
}
