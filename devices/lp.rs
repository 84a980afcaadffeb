//! lp: printers on parallel ports. Their nodes are rlp0, rlp1; lp0 and lp1 are the spooler's.
//!
//! One block is on its way at a time. Who has the printer open has it alone.

use crate::bus::irq::Sharing;
use crate::bus::{BusAddress, DmaChannel, PortIo};
use crate::contract::{
    AttachError, Attached, CharDevice, Driver, IoError, Ioctl, Key, Kind, State as UnitState,
    Status, UnitConfig, WaitQueue,
};
use crate::machine::Machine;
use crate::manual::printer as manual;
use crate::sync::{Arc, Mutex};

/// Commands of [`CharDevice::ioctl`], for the spooler and for the machine's operator.
pub mod commands {
    /// A job begins: its number, a blank, and its name.
    pub const BEGIN: u32 = 0x4c50_0001;
    /// The job is over. Any input means that it was cut short.
    pub const END: u32 = 0x4c50_0002;
    /// How the last block ended: `WouldBlock` while it has not; `NoSpace`, `Hardware`. The output
    /// is the number of its bytes that are on paper, in 8 bytes.
    pub const OUTCOME: u32 = 0x4c50_0003;
    /// Stops what is under way, at once.
    pub const RESET: u32 = 0x4c50_0004;
    /// What hinders it, in one byte of output: the bits of [`super::conditions`].
    pub const CONDITIONS: u32 = 0x4c50_0005;
    /// Works its panel: words such as `paper 10`, `jam`, `cover open`.
    pub const PANEL: u32 = 0x4c50_0006;
}

/// What hinders a printer, in words, by the bits of [`commands::CONDITIONS`].
#[must_use]
pub fn conditions(bits: u8) -> String {
    let table = [
        (manual::OFFLINE, "off line"),
        (manual::COVER, "cover open"),
        (manual::JAM, "paper jam"),
        (manual::OUT, "out of paper"),
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
            Arc::new(Printer { io, channel, state: Mutex::default(), bell: Arc::default() });
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
        (desk.failure, desk.done) = (None, 0);
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
                self.io.outl(manual::OP, manual::RESET);
                self.take_back(&mut desk);
                (desk.failure, desk.waiting) = (None, None);
                Ok(())
            }
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
mod tests {
    use super::*;
    use crate::contract::Value;
    use crate::engine::{Engine, Time};

    struct Office {
        machine: Machine,
        dir: tempfile::TempDir,
        unit: Arc<dyn CharDevice>,
    }

    fn office(keys: &[(&str, Value)]) -> Office {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::new(Time::Simulated);
        let machine = Machine::new(engine, Some(dir.path().to_owned()), 1);
        let places = [("port", 0x378), ("irq", 7), ("dma", 3)];
        let mut unit = UnitConfig { name: "lp0".into(), driver: "lp".into(), ..Default::default() };
        unit.values.extend(places.map(|(key, n)| (key.to_owned(), Value::Number(n))));
        unit.values.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        crate::chip::install_printer(&machine, &unit).unwrap();
        let attached = Lp.attach(&unit, &machine).unwrap();
        Office { machine, dir, unit: Arc::clone(&attached.character[0].2) }
    }

    impl Office {
        fn ioctl(&self, cmd: u32, input: &[u8]) -> Result<u64, IoError> {
            let mut output = [0; 8];
            self.unit.ioctl(&mut Ioctl { cmd, input, output: &mut output })?;
            Ok(u64::from_le_bytes(output))
        }

        fn settle(&self) -> Result<u64, IoError> {
            let mut outcome = Err(IoError::WouldBlock);
            let done = || {
                outcome = self.ioctl(commands::OUTCOME, &[]);
                outcome != Err(IoError::WouldBlock)
            };
            self.machine.engine.wait(&self.unit.waits().unwrap(), None, done).unwrap();
            outcome
        }

        fn out(&self) -> String {
            std::fs::read_to_string(self.dir.path().join("lp0.out")).unwrap_or_default()
        }
    }

    #[test]
    fn a_job_is_begun_printed_and_ended() {
        let office = office(&[]);
        office.ioctl(commands::BEGIN, b"1 x").unwrap();
        office.settle().unwrap();
        assert_eq!(office.unit.write(0, b"hello"), Ok(5));
        assert_eq!(office.unit.write(0, b"again"), Err(IoError::WouldBlock));
        assert_eq!(office.settle(), Ok(5));
        office.ioctl(commands::END, b"").unwrap();
        office.settle().unwrap();
        assert_eq!(office.out(), "hello");
    }

    #[test]
    fn who_writes_without_a_job_gets_one_and_has_the_printer_alone() {
        let office = office(&[]);
        office.unit.open().unwrap();
        assert_eq!(office.unit.open(), Err(IoError::Busy));
        assert_eq!(office.unit.write(0, b"direct"), Ok(6));
        office.unit.close();
        office.settle().unwrap();
        assert_eq!(office.out(), "direct");
        office.unit.open().unwrap();
    }

    #[test]
    fn the_panel_stops_it_and_lets_it_go_on() {
        let office = office(&[]);
        for (stop, words, go) in [
            ("jam", "paper jam", "unjam"),
            ("offline", "off line", "online"),
            ("cover open", "cover open", "cover closed"),
            ("paper 0", "out of paper", "paper 5"),
        ] {
            office.ioctl(commands::PANEL, stop.as_bytes()).unwrap();
            let mut output = [0];
            let mut call = Ioctl { cmd: commands::CONDITIONS, input: &[], output: &mut output };
            office.unit.ioctl(&mut call).unwrap();
            assert_eq!(conditions(output[0]), words);
            assert_eq!(office.unit.status().state, UnitState::Offline);
            office.ioctl(commands::PANEL, go.as_bytes()).unwrap();
            assert_eq!(office.unit.status().state, UnitState::Idle);
        }
        assert_eq!(office.ioctl(commands::PANEL, b"paper x"), Err(IoError::Invalid));
    }

    #[test]
    fn an_output_that_cannot_be_had_is_told() {
        let office = office(&[("sink", Value::Text("no/such/dir/x".into()))]);
        office.ioctl(commands::BEGIN, b"1 x").unwrap();
        assert_eq!(office.settle(), Err(IoError::Hardware));
    }

    #[test]
    fn a_printer_with_a_speed_takes_its_time() {
        use crate::contract::Clock;
        let office = office(&[("rate", Value::Number(1000))]);
        office.ioctl(commands::BEGIN, b"1 x").unwrap();
        office.settle().unwrap();
        let begun = office.machine.engine.now();
        office.unit.write(0, &[b'x'; 2000]).unwrap();
        office.settle().unwrap();
        let seconds = office.machine.engine.now().since(begun) as f64 / 1e9;
        assert!((1.9..2.1).contains(&seconds), "{seconds}");
    }
}
