//! com: serial ports ttyS0, ttyS1, ... Everything is said to the chip through its registers, and
//! heard from it by its interrupt, or by looking at it every so often. What a terminal makes of the
//! characters is decided above.
//!
//! 1. The chip's FIFOs are served by the interrupt, or by the look, alone; calls from above touch
//!    the software rings and the control registers.
//! 2. What the rings cannot take is thrown away and counted.
//! 3. The bell is rung with no lock held.

mod port;

use crate::bus::PortIo;
use crate::bus::irq::Sharing;
use crate::contract::{
    AttachError, Attached, CharDevice, Driver, IoError, Key, Kind, PropertyError, SerialPort,
    UnitConfig, Value,
};
use crate::machine::Machine;
use crate::serial_manual::{FCR, FCR_ON, IIR, IIR_FIFO, PORTS, SCR};
use crate::sync::{Arc, Mutex};
use crate::value::{format_time, parse_time};
use port::ComPort;

const COMPLETIONS: &[&str] = &["irq", "polled"];
/// The shortest time between two looks, in nanoseconds.
const POLL_MIN: u64 = 100_000;
/// The usual one: at 115,200 bits a second the FIFO holds what comes in 1.4 ms.
const POLL: u64 = 1_000_000;

const KEYS: &[Key] = &[
    Key {
        name: "peer",
        kind: Kind::Text,
        default: "",
        doc: "what its cable leads to: another port (ttyS1), pty, unix:PATH or file:PATH",
    },
    Key {
        name: "pacing",
        kind: Kind::Flag,
        default: "true",
        doc: "characters take the time that the rate says; false: none",
    },
    Key {
        name: "half_duplex",
        kind: Kind::Flag,
        default: "false",
        doc: "a paced line is deaf while it sends: what arrives then is lost, and counted",
    },
    Key {
        name: "completion",
        kind: Kind::Choice(COMPLETIONS),
        default: "irq",
        doc: "how the host learns what the chip has: by interrupt, or polled: by looking",
    },
    Key { name: "poll_interval", kind: Kind::Time, default: "1ms", doc: "how often it looks" },
    Key { name: "port", kind: Kind::Number, default: "", doc: "first port of its chip" },
    Key { name: "irq", kind: Kind::Number, default: "", doc: "interrupt line of its chip" },
    Key {
        name: "absent",
        kind: Kind::Flag,
        default: "false",
        doc: "described, but its chip is not on the bus",
    },
];

/// The driver.
pub struct Com;

impl Driver for Com {
    fn name(&self) -> &'static str {
        "ttyS"
    }

    fn char_major(&self) -> Option<u16> {
        Some(4)
    }

    fn section(&self) -> &'static str {
        "serial"
    }

    fn keys(&self) -> &'static [Key] {
        KEYS
    }

    fn check(&self, unit: &UnitConfig) -> Result<(), (&'static str, String)> {
        if let Some(nanos) = unit.number("poll_interval").filter(|nanos| *nanos < POLL_MIN) {
            let (given, least) = (format_time(nanos), format_time(POLL_MIN));
            return Err(("poll_interval", format!("{given} is too short: at least {least}")));
        }
        if unit.flag("half_duplex") && unit.values.get("pacing") == Some(&Value::Flag(false)) {
            let why = "without pacing a line sends in no time, and so is never deaf";
            return Err(("half_duplex", format!("{why}: pacing = true goes with it")));
        }
        Ok(())
    }

    /// Minors as in Linux: the first 63 of this major are consoles.
    fn attach(&self, unit: &UnitConfig, machine: &Machine) -> Result<Attached, AttachError> {
        let name = &unit.name;
        let place = |key: &str| {
            let missing = || AttachError::Conflict(format!("{name}: {key} must be given"));
            unit.number(key).ok_or_else(missing)
        };
        let none = |key| AttachError::Conflict(format!("{name}: {key}: there is none of that"));
        let first = u16::try_from(place("port")?).map_err(|_| none("port"))?;
        let number = u8::try_from(place("irq")?).map_err(|_| none("irq"))?;
        let io = machine.ports.claim(name, first, PORTS)?;
        probe(&io, first)?;
        let line = machine.irqs.claim(name, number, Sharing::Shared)?;
        let poll_nanos = unit.number("poll_interval").unwrap_or(POLL);
        self.check(unit).map_err(|(key, why)| AttachError::value(unit, key, why))?;
        let port = ComPort::new(&machine.engine, io, Arc::clone(&line));
        port.begin();
        port.set_half_duplex(unit.flag("half_duplex"));
        if unit.text("completion") == Some("polled") {
            port.set_polled(Some(poll_nanos));
        }
        let listener = Arc::downgrade(&port);
        line.connect(move || {
            if let Some(port) = listener.upgrade() {
                port.interrupt();
            }
        });
        let device: Arc<dyn CharDevice> =
            Arc::new(Unit { port, poll_nanos: Mutex::new(poll_nanos) });
        let address = format!("port {first:#x} irq {number}");
        let character = vec![(name.clone(), 64 + unit.unit, device)];
        Ok(Attached { address, block: None, character })
    }
}

/// Looks whether a chip with FIFOs answers: the scratch register keeps what it is told.
fn probe(io: &PortIo, first: u16) -> Result<(), AttachError> {
    for pattern in [0x5a, 0xa5] {
        io.outb(SCR, pattern);
        match io.inb(SCR) {
            answer if answer == pattern => {}
            u8::MAX => return Err(AttachError::Absent),
            answer => {
                let words = format!("port {first:#x} keeps {answer:#04x} for {pattern:#04x}");
                return Err(AttachError::Unknown(words));
            }
        }
    }
    io.outb(FCR, FCR_ON);
    if io.inb(IIR) & IIR_FIFO != IIR_FIFO {
        return Err(AttachError::Unknown(format!("port {first:#x} has no FIFOs")));
    }
    Ok(())
}

/// The unit of the character switch: what it serves is its port.
struct Unit {
    port: Arc<ComPort>,
    /// How often it is looked at when it is polled.
    poll_nanos: Mutex<u64>,
}

impl CharDevice for Unit {
    fn read(&self, _at: u64, _buf: &mut [u8]) -> Result<usize, IoError> {
        Err(IoError::WouldBlock) // a line discipline reads the port
    }

    fn write(&self, _at: u64, _data: &[u8]) -> Result<usize, IoError> {
        Err(IoError::WouldBlock)
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn serial(&self) -> Option<Arc<dyn SerialPort>> {
        Some(Arc::clone(&self.port) as _)
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        let is_polled = self.port.poll_nanos().is_some();
        let duplex = if self.port.is_half_duplex() { "half" } else { "full" };
        vec![
            ("duplex", duplex.into()),
            ("completion", if is_polled { "polled" } else { "irq" }.into()),
            ("poll_interval", format_time(*self.poll_nanos.lock())),
        ]
    }

    fn set_property(&self, name: &str, value: &str) -> Result<(), PropertyError> {
        let wrong = |words: &str| PropertyError::Value(words.into());
        let mut nanos = self.poll_nanos.lock();
        match (name, value) {
            ("duplex", "half" | "full") => self.port.set_half_duplex(value == "half"),
            ("duplex", _) => return Err(wrong("half or full")),
            ("completion", "irq") => self.port.set_polled(None),
            ("completion", "polled") => self.port.set_polled(Some(*nanos)),
            ("completion", _) => return Err(wrong("irq or polled")),
            ("poll_interval", _) => {
                let wanted = parse_time(value).filter(|nanos| *nanos >= POLL_MIN);
                *nanos = wanted.ok_or_else(|| wrong("a time such as 5ms, at least 100us"))?;
                if self.port.poll_nanos().is_some() {
                    self.port.set_polled(Some(*nanos));
                }
            }
            _ => return Err(PropertyError::Unknown),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
