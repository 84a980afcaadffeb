//! lp: printers on parallel ports. Their nodes are rlp0, rlp1; lp0 and lp1 are the spooler's.
//!
//! One block is on its way at a time. Who has the printer open has it alone.

use crate::bus::irq::Sharing;
use crate::bus::{BusAddress, DmaChannel, PortIo};
use crate::contract::host_file::PRINTER_SINK;
use crate::contract::{
    AttachError, Attached, CharDevice, Driver, IoError, Ioctl, Key, Kind, PropertyError,
    State as UnitState, Status, UnitConfig, WaitQueue,
};
use crate::machine::Machine;
use crate::manual::printer as manual;
use crate::sink::Sink;
use crate::sync::{Arc, Mutex};
use crate::value::{format_rate, parse_rate};

/// Commands of [`CharDevice::ioctl`], for the spooler and for the machine's operator.
pub mod commands {
    /// A job begins: its number, a blank, and its name.
    pub const BEGIN: u32 = 0x4c50_0001;
    /// The job is over. Any input means that it was cut short.
    pub const END: u32 = 0x4c50_0002;
    /// How the last block ended: `WouldBlock` while it has not; `NoSpace`, `Hardware`. The output
    /// is the number of its bytes that are on paper, in 8 bytes.
    pub const OUTCOME: u32 = 0x4c50_0003;
    /// Stops what is under way, at once. Any input means: as if it were switched off.
    pub const RESET: u32 = 0x4c50_0004;
    /// What hinders it, in one byte of output: the bits of [`super::conditions`].
    pub const CONDITIONS: u32 = 0x4c50_0005;
    /// Works its panel: words such as `paper 10`, `jam`, `cover open`.
    pub const PANEL: u32 = 0x4c50_0006;
    /// `LPGETIRQ` of linux/lp.h: its interrupt line, as an `int`.
    pub const LPGETIRQ: u32 = 0x0606;
    /// `LPGETSTATUS` of linux/lp.h: the status register, as an `int`.
    pub const LPGETSTATUS: u32 = 0x060b;
    /// `LPRESET` of linux/lp.h: resets it; what it was doing is lost.
    pub const LPRESET: u32 = 0x060c;
    /// Those of linux/lp.h, which are anybody's.
    pub(super) const LISTED: &[(u32, &str)] =
        &[(LPGETIRQ, "LPGETIRQ"), (LPGETSTATUS, "LPGETSTATUS"), (LPRESET, "LPRESET")];
}

/// What hinders a printer, in words, by the bits of [`commands::CONDITIONS`].
#[must_use]
pub fn conditions(bits: u8) -> String {
    let table = [
        (manual::OFFLINE, "off line"),
        (manual::COVER, "cover open"),
        (manual::JAM, "paper jam"),
        (manual::OUT, "out of paper"),
        (manual::WORN, "out of ribbon"),
    ];
    let holds = |(bit, _): &&(u32, &str)| u32::from(bits) & bit != 0;
    table.iter().filter(holds).map(|(_, words)| *words).collect::<Vec<_>>().join(", ")
}

/// The driver.
pub struct Lp;

/// Longest block.
const BLOCK_BYTES_MAX: usize = 256 << 10;

const KEYS: &[Key] = &[
    Key {
        name: "sink",
        kind: Kind::Text,
        default: "",
        doc: "a file (NAME.out), a pattern \"DIR/%j-%n\", \"|COMMAND\" or \"tcp://HOST:9100\"",
    },
    Key { name: "rate", kind: Kind::Rate, default: "0/s", doc: "bytes a second; 0: at once" },
    Key {
        name: "paper",
        kind: Kind::Number,
        default: "",
        doc: "sheets in it; not written: no end of them",
    },
    Key {
        name: "ribbon",
        kind: Kind::Number,
        default: "",
        doc: "letters its ribbon is good for; not written: no end of them",
    },
    Key {
        name: "buffer",
        kind: Kind::Size,
        default: "1",
        doc: "bytes it takes by strobe before it has printed them",
    },
    Key { name: "port", kind: Kind::Number, default: "", doc: "its first port" },
    Key { name: "irq", kind: Kind::Number, default: "", doc: "its interrupt line" },
    Key { name: "dma", kind: Kind::Number, default: "", doc: "its channel on the memory bus" },
    Key {
        name: "absent",
        kind: Kind::Flag,
        default: "false",
        doc: "described, but not on the bus",
    },
];

impl Driver for Lp {
    fn name(&self) -> &'static str {
        "lp"
    }

    fn char_major(&self) -> Option<u16> {
        Some(66)
    }

    fn section(&self) -> &'static str {
        "printer"
    }

    fn keys(&self) -> &'static [Key] {
        KEYS
    }

    fn check(&self, unit: &UnitConfig) -> Result<(), (&'static str, String)> {
        let sink = Sink::parse(&PRINTER_SINK.name(unit), None).and_then(|sink| sink.check(None));
        sink.map_err(|words| (PRINTER_SINK.key, words))
    }

    fn attach(&self, unit: &UnitConfig, machine: &Machine) -> Result<Attached, AttachError> {
        let missing = |key: &str| AttachError::Conflict(format!("{}: {key} is wrong", unit.name));
        let number = |key: &str| unit.number(key).ok_or_else(|| missing(key));
        let port = u16::try_from(number("port")?).map_err(|_| missing("port"))?;
        let irq = u8::try_from(number("irq")?).map_err(|_| missing("irq"))?;
        let dma = u8::try_from(number("dma")?).map_err(|_| missing("dma"))?;
        let io = machine.ports.claim(&unit.name, port, manual::PORTS)?;
        match io.inl(manual::ID) {
            u32::MAX => return Err(AttachError::Absent),
            manual::PRINTER_ID => {}
            id => return Err(AttachError::Unknown(format!("port {port:#x} answers {id:#010x}"))),
        }
        let line = machine.irqs.claim(&unit.name, irq, Sharing::Shared)?;
        let channel = machine.dma.claim(&unit.name, dma)?;
        let printer =
            Arc::new(Printer { io, irq, channel, state: Mutex::default(), bell: Arc::default() });
        let listener = Arc::downgrade(&printer);
        line.connect(move || {
            if let Some(printer) = listener.upgrade() {
                printer.interrupt();
            }
        });
        *printer.state.lock() = Desk { _line: Some(line), ..Desk::default() };
        let address = format!("port {port:#x} irq {irq} dma {dma}");
        let character: Vec<(String, u32, Arc<dyn CharDevice>)> =
            vec![(format!("r{}", unit.name), unit.unit, printer)];
        Ok(Attached { address, block: None, character })
    }
}

/// The nodes that the spooler serves past the switch: lp0, lp1. It has no units of its own.
pub struct Spooled;

impl Driver for Spooled {
    fn name(&self) -> &'static str {
        "spool"
    }

    fn char_major(&self) -> Option<u16> {
        Some(6)
    }

    fn section(&self) -> &'static str {
        "" // always there
    }

    fn keys(&self) -> &'static [Key] {
        &[]
    }

    fn attach(&self, _unit: &UnitConfig, _machine: &Machine) -> Result<Attached, AttachError> {
        Ok(Attached { address: "memory".into(), ..Attached::default() })
    }
}

struct Printer {
    io: PortIo,
    irq: u8,
    channel: DmaChannel,
    state: Mutex<Desk>,
    bell: Arc<WaitQueue>,
}

#[derive(Default)]
struct Desk {
    /// Kept for as long as the printer is: dropped, the line is free.
    _line: Option<Arc<crate::bus::IrqLine>>,
    is_open: bool,
    is_begun: bool,
    /// What is under way, or was last.
    op: u32,
    lent: Option<BusAddress>,
    /// The block to print once the job has begun, for who writes without saying so.
    waiting: Option<Vec<u8>>,
    failure: Option<IoError>,
    done: u64,
    /// Its opener is gone: what he began ends with what is under way.
    is_left: bool,
}

impl Printer {
    fn is_busy(desk: &Desk) -> bool {
        desk.lent.is_some()
    }

    /// Lends a block and has the chip do `op` with it.
    fn start(&self, desk: &mut Desk, op: u32, mut bytes: Vec<u8>) -> Result<(), IoError> {
        let count = u32::try_from(bytes.len()).map_err(|_| IoError::Invalid)?;
        if bytes.is_empty() {
            bytes.push(0); // no block of no bytes can be lent; the count says that it is none
        }
        let address = self.channel.map(bytes).map_err(|_| IoError::WouldBlock)?;
        desk.lent = Some(address);
        (desk.failure, desk.done, desk.op) = (None, 0, op);
        self.io.outq(manual::ADDRESS, address.0);
        self.io.outl(manual::COUNT, count);
        self.io.outl(manual::OP, op);
        match op {
            manual::BEGIN => desk.is_begun = true,
            manual::END => desk.is_begun = false,
            _ => {}
        }
        Ok(())
    }

    fn take_back(&self, desk: &mut Desk) {
        if let Some(address) = desk.lent.take() {
            drop(self.channel.unmap(address));
        }
    }

    fn reset(&self, desk: &mut Desk, is_hard: bool) {
        if is_hard {
            self.io.outb(manual::CONTROL, 0);
            self.io.outb(manual::CONTROL, manual::NOT_INIT);
        } else {
            self.io.outl(manual::OP, manual::RESET);
        }
        self.take_back(desk);
        (desk.failure, desk.waiting) = (None, None);
    }

    fn interrupt(&self) {
        {
            let mut desk = self.state.lock();
            let result = self.io.inl(manual::RESULT);
            if desk.lent.is_none() || result == manual::RUNNING {
                return;
            }
            self.take_back(&mut desk);
            desk.done = self.io.inl(manual::DONE).into();
            desk.failure = match result {
                manual::GOOD => None,
                manual::NO_SPACE => Some(IoError::NoSpace),
                _ => Some(IoError::Hardware),
            };
            if desk.failure.is_some() && desk.op == manual::BEGIN {
                desk.is_begun = false;
            }
            let waiting = desk.waiting.take().filter(|_| desk.failure.is_none());
            let refused = match waiting {
                Some(bytes) => self.start(&mut desk, manual::PRINT, bytes),
                None if desk.is_left && desk.is_begun => {
                    self.start(&mut desk, manual::END, Vec::new())
                }
                None => Ok(()),
            };
            if let Err(refused) = refused {
                desk.failure = Some(refused);
            }
        }
        self.bell.ring();
    }

    fn panel(&self, words: &str) -> Result<(), IoError> {
        let words: Vec<&str> = words.split(' ').collect();
        let set = |bit: u32, on: bool| {
            let bits = self.io.inl(manual::PANEL) & 7;
            self.io.outl(manual::PANEL, if on { bits | bit } else { bits & !bit });
        };
        match *words.as_slice() {
            ["paper", "endless"] => self.io.outl(manual::PAPER, u32::MAX),
            ["paper", sheets] => {
                let sheets: u32 = sheets.parse().map_err(|_| IoError::Invalid)?;
                self.io.outl(manual::PAPER, sheets.min(u32::MAX - 1));
            }
            ["ribbon", "endless"] => self.io.outl(manual::RIBBON, u32::MAX),
            ["ribbon", letters] => {
                let letters: u32 = letters.parse().map_err(|_| IoError::Invalid)?;
                self.io.outl(manual::RIBBON, letters.min(u32::MAX - 1));
            }
            ["jam"] => set(manual::JAM, true),
            ["unjam"] => set(manual::JAM, false),
            ["offline"] => set(manual::OFFLINE, true),
            ["online"] => set(manual::OFFLINE, false),
            ["cover", "open"] => set(manual::COVER, true),
            ["cover", "closed"] => set(manual::COVER, false),
            _ => return Err(IoError::Invalid),
        }
        self.bell.ring();
        Ok(())
    }
}

/// Bytes of a C `int`.
const INT_BYTES: usize = 4;

fn tell(call: &mut Ioctl<'_>, number: u32) -> Result<(), IoError> {
    let output = call.output.get_mut(..INT_BYTES).ok_or(IoError::Invalid)?;
    output.copy_from_slice(&number.to_ne_bytes());
    Ok(())
}

impl CharDevice for Printer {
    fn open(&self) -> Result<(), IoError> {
        let mut desk = self.state.lock();
        if desk.is_open {
            return Err(IoError::Busy);
        }
        (desk.is_open, desk.is_left) = (true, false);
        Ok(())
    }

    fn close(&self) {
        let mut desk = self.state.lock();
        desk.is_open = false;
        if desk.is_begun && !Printer::is_busy(&desk) {
            // Should it be refused, the next job begins a new one all the same.
            let _ = self.start(&mut desk, manual::END, Vec::new());
        } else {
            desk.is_left = desk.is_begun;
        }
    }

    fn read(&self, _at: u64, _buf: &mut [u8]) -> Result<usize, IoError> {
        Err(IoError::Invalid)
    }

    fn write(&self, _at: u64, data: &[u8]) -> Result<usize, IoError> {
        let mut desk = self.state.lock();
        if Printer::is_busy(&desk) {
            return Err(IoError::WouldBlock);
        }
        if let Some(failure) = desk.failure.take() {
            return Err(failure);
        }
        let bytes = data[..data.len().min(BLOCK_BYTES_MAX)].to_vec();
        let len = bytes.len();
        if desk.is_begun {
            self.start(&mut desk, manual::PRINT, bytes)?;
        } else {
            self.start(&mut desk, manual::BEGIN, b"0 direct".to_vec())?;
            desk.waiting = Some(bytes);
        }
        Ok(len)
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn ioctl(&self, call: &mut Ioctl<'_>) -> Result<(), IoError> {
        let mut desk = self.state.lock();
        let is_busy = Printer::is_busy(&desk);
        match call.cmd {
            commands::BEGIN | commands::END if is_busy => Err(IoError::WouldBlock),
            commands::BEGIN => self.start(&mut desk, manual::BEGIN, call.input.to_vec()),
            commands::END => self.start(&mut desk, manual::END, call.input.to_vec()),
            commands::OUTCOME => {
                if let Some(output) = call.output.get_mut(..8) {
                    output.copy_from_slice(&desk.done.to_le_bytes());
                }
                match desk.failure.take() {
                    _ if is_busy => Err(IoError::WouldBlock),
                    Some(failure) => Err(failure),
                    None => Ok(()),
                }
            }
            commands::RESET => {
                self.reset(&mut desk, !call.input.is_empty());
                Ok(())
            }
            commands::LPRESET => {
                self.reset(&mut desk, true);
                // What it had begun is cut short, or the next job would go on in it.
                if desk.is_begun {
                    self.start(&mut desk, manual::END, b"cut".to_vec())
                } else {
                    Ok(())
                }
            }
            commands::LPGETSTATUS => tell(call, self.io.inb(manual::STATUS).into()),
            commands::LPGETIRQ => tell(call, self.irq.into()),
            commands::CONDITIONS => {
                if let Some(output) = call.output.first_mut() {
                    *output = self.io.inl(manual::PANEL).to_le_bytes()[0];
                }
                Ok(())
            }
            commands::PANEL => {
                drop(desk);
                self.panel(std::str::from_utf8(call.input).map_err(|_| IoError::Invalid)?)
            }
            _ => Err(IoError::Unsupported),
        }
    }

    fn commands(&self) -> &'static [(u32, &'static str)] {
        commands::LISTED
    }

    fn bare_answer(&self, cmd: u32) -> Option<usize> {
        match cmd {
            commands::LPGETSTATUS | commands::LPGETIRQ => Some(INT_BYTES),
            commands::LPRESET => Some(0),
            _ => None,
        }
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        let count = |register| match self.io.inl(register) {
            u32::MAX => "endless".to_owned(),
            number => number.to_string(),
        };
        vec![
            ("rate", format_rate(self.io.inl(manual::RATE).into())),
            ("paper", count(manual::PAPER)),
            ("ribbon", count(manual::RIBBON)),
            ("buffer", count(manual::BUFFER)),
            ("pages", count(manual::PAGES)),
        ]
    }

    fn set_property(&self, name: &str, value: &str) -> Result<(), PropertyError> {
        match name {
            "rate" => {
                let rate = parse_rate(value).and_then(|rate| u32::try_from(rate).ok());
                let right = "a rate such as 500K/s, 0/s for at once";
                let rate = rate.ok_or_else(|| PropertyError::Value(right.into()))?;
                self.io.outl(manual::RATE, rate);
                Ok(())
            }
            "paper" | "ribbon" => self
                .panel(&format!("{name} {value}"))
                .map_err(|_| PropertyError::Value("a number, or endless".into())),
            "buffer" | "pages" => Err(PropertyError::Value("it is only told".into())),
            _ => Err(PropertyError::Unknown),
        }
    }

    fn waits(&self) -> Option<Arc<WaitQueue>> {
        Some(Arc::clone(&self.bell))
    }

    fn status(&self) -> Status {
        let is_busy = Printer::is_busy(&self.state.lock());
        let hindered = self.io.inl(manual::PANEL) != 0;
        let state = match (hindered, is_busy) {
            (true, _) => UnitState::Offline,
            (_, true) => UnitState::Busy,
            _ => UnitState::Idle,
        };
        Status { state, current: None, queued: 0 }
    }
}

#[cfg(test)]
#[path = "lp_tests.rs"]
mod tests;
