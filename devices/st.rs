//! st: tape drives, as Linux's st serves them: `st0` rewinds at close, `nst0` does not.
//!
//! Records, file marks, end of data, early warning and end of tape are told as there (st(4) and
//! Documentation/scsi/st.rst), by the same commands. What differs is said where it does:
//!
//! 1. At the physical end a write is EIO (st: ENOSPC again); before it every second is ENOSPC.
//! 2. Without a tape, ENXIO; a protected tape, EROFS.
//! 3. A record of 1 MiB - 4 KiB + 1 or more that fills a read's buffer to the last byte may be
//!    longer than that buffer without ENOMEM: the driver cannot know that no further part of the
//!    call will come.
//! 4. A read whose caller was called away while the tape moved is not lost: the next gets it.
//!
//! Minors are Linux's: the unit's number, and 128 more for the one that does not rewind.

mod drive;
mod link;
mod mtio;
mod ops;
mod tape;

use crate::bus::irq::Sharing;
use crate::contract::host_file::TAPE_IMAGE;
use crate::contract::{
    AttachError, Attached, CharDevice, Driver, Failure, HostFile, IoError, Ioctl, Key, Kind,
    Opening, Origin, PropertyError, Protect, Ready, State, Status, UnitCommand, UnitConfig,
    WaitQueue,
};
use crate::machine::Machine;
use crate::sync::Arc;
use crate::tape_manual as manual;
use crate::tape_timing::{TAPE_NAMES, TapeModel};
use drive::{Call, Drive};
use link::{Link, Order};
use std::path::Path;
use tape::Tape;

/// The driver.
pub struct St;

/// Minor of the unit that does not rewind, less that of the one that does.
const NO_REWIND: u32 = 128;

/// Room for a file's name, and for the words that refuse it, in bytes.
const WORDS_BYTES_MAX: usize = 4096;

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}

static KEYS: &[Key] = &[
    key(
        "size",
        Kind::Size,
        "64M",
        "how much a tape holds; the last 1/16, at most 4M, is warned of",
    ),
    key("image", Kind::Path, "", "SIMH tape file, made empty when missing; NAME.tap"),
    key("block", Kind::Size, "0", "length of fixed records; 0: of any length"),
    key("read_only", Kind::Flag, "false", "the tape is write-protected"),
    key("timing", Kind::Choice(TAPE_NAMES), "none", "how long it takes"),
    key("host_sync", Kind::Flag, "true", "fsync asks the host to keep the tape (fdatasync)"),
    key("port", Kind::Number, "", "first port of its controller; the driver's own places"),
    key("irq", Kind::Number, "", "interrupt line of its controller"),
    key("dma", Kind::Number, "", "channel on the memory bus"),
    key("absent", Kind::Flag, "false", "described, but its controller is not on the bus"),
];

impl Driver for St {
    fn name(&self) -> &'static str {
        "st"
    }

    fn char_major(&self) -> Option<u16> {
        Some(9)
    }

    fn section(&self) -> &'static str {
        "tape"
    }

    fn keys(&self) -> &'static [Key] {
        KEYS
    }

    fn image(&self) -> Option<HostFile> {
        Some(TAPE_IMAGE)
    }

    fn attach(&self, unit: &UnitConfig, machine: &Machine) -> Result<Attached, AttachError> {
        let name = &unit.name;
        let wrong = |key: &str| AttachError::Conflict(format!("{name}: {key}: there is none"));
        let place = |key| unit.number(key).ok_or_else(|| wrong(key));
        if unit.unit >= NO_REWIND {
            return Err(AttachError::Conflict(format!("{name}: the last tape is st127")));
        }
        let port = u16::try_from(place("port")?).map_err(|_| wrong("port"))?;
        let line = u8::try_from(place("irq")?).map_err(|_| wrong("irq"))?;
        let channel = u8::try_from(place("dma")?).map_err(|_| wrong("dma"))?;
        let fixed = unit.number("block").unwrap_or(0);
        let fixed = u32::try_from(fixed).ok().filter(|bytes| *bytes <= 0xff_ffff);
        let too_long = || AttachError::value(unit, "block", "must be less than 16M");
        let fixed = fixed.ok_or_else(too_long)?;
        let io = machine.ports.claim(name, port, manual::PORTS)?;
        match io.inl(manual::ID) {
            u32::MAX => return Err(AttachError::Absent),
            manual::TAPE_ID => {}
            answer => {
                let words = format!("port {port:#x} answers {answer:#010x}, no tape controller");
                return Err(AttachError::Unknown(words));
            }
        }
        let line = machine.irqs.claim(name, line, Sharing::Shared)?;
        let channel = machine.dma.claim(name, channel)?;
        let link = Link::new(io, Arc::clone(&line), channel, Arc::clone(&machine.engine));
        let address = link.address();
        let tape = Tape::new(Arc::clone(&link), fixed);
        let drive = Drive::new(Arc::clone(&machine.engine), link, tape);
        let listener = Arc::downgrade(&drive);
        line.connect(move || {
            if let Some(drive) = listener.upgrade() {
                drive.interrupt();
            }
        });
        let units =
            [(name.clone(), unit.unit, true), (format!("n{name}"), unit.unit + NO_REWIND, false)];
        let character = units.map(|(name, minor, rewinds)| {
            let unit: Arc<dyn CharDevice> = Arc::new(Unit { drive: Arc::clone(&drive), rewinds });
            (name, minor, unit)
        });
        Ok(Attached { address, block: None, character: character.into() })
    }
}

/// One minor of a drive.
struct Unit {
    drive: Arc<Drive>,
    rewinds: bool,
}

impl Unit {
    fn is_status(&self, bit: u32) -> bool {
        self.drive.link.status() & bit != 0
    }

    fn operate(&self, input: &[u8]) -> Result<(), IoError> {
        let (op, count) = mtio::operation(input).ok_or(IoError::Invalid)?;
        self.drive.call(
            Call::Operate(op, count),
            |mut tape| async move {
                let done = tape.operate(op, count).await;
                (tape, done.map(|()| 0))
            },
            |_, _| (),
        )
    }

    /// Reads into the tape's memory, and hands it out.
    fn fetch(
        &self,
        at: u64,
        len: usize,
        hand_out: impl FnOnce(&mut Tape, usize) -> usize,
    ) -> Result<usize, IoError> {
        if len == 0 {
            return Ok(0);
        }
        self.drive.call(
            Call::Read { at, len },
            |mut tape| async move {
                let got = tape.read(at, len).await;
                (tape, got)
            },
            hand_out,
        )
    }

    /// Answers from what is known, when the tape stands still.
    fn ask<R>(&self, answer: impl FnOnce(&mut Tape) -> R) -> Result<R, IoError> {
        self.drive.call(Call::Ask, |tape| async move { (tape, Ok(0)) }, |tape, _| answer(tape))
    }

    /// The operator's hand: a cartridge in, or out.
    fn exchange(&self, file: Option<&Path>, protect: Protect) -> Result<(), String> {
        if self.drive.is_open() {
            return Err("it is in use".into());
        }
        let name = match file.map(Path::to_str) {
            Some(None) => return Err("a file name that is no text".into()),
            Some(Some(name)) if name.len() >= WORDS_BYTES_MAX => {
                return Err("too long a name".into());
            }
            Some(Some(name)) => name,
            None => "",
        };
        let mut words = name.as_bytes().to_vec();
        words.resize(WORDS_BYTES_MAX, 0);
        let opcode = if file.is_some() { manual::INSERT } else { manual::REMOVE };
        let flags = if protect == Protect::On { manual::PROTECT } else { 0 };
        let order = Order { opcode, flags, ..Order::default() };
        let call = if file.is_some() { Call::Insert } else { Call::Remove };
        let program = |mut tape: Box<Tape>| async move {
            let link = Arc::clone(&tape.link);
            let (reply, words) = link.transfer(order, words, 0, WORDS_BYTES_MAX).await;
            if reply.is_clear() {
                tape.changed();
                return (tape, Ok(0));
            }
            let why = tape.failed(&reply);
            tape.memory.clear();
            tape.memory.extend(words.into_iter().take(reply.moved));
            let told = tape.memory.len();
            (tape, if told > 0 { Ok(told) } else { Err(why) })
        };
        let told = self.drive.call(call, program, |tape, told| {
            String::from_utf8_lossy(&tape.memory[..told]).into_owned()
        });
        match told {
            Ok(words) if words.is_empty() => Ok(()),
            Ok(words) => Err(words),
            // The motion goes on by itself; whoever opens the drive waits for it.
            Err(IoError::WouldBlock) => {
                self.drive.leave();
                Ok(())
            }
            Err(IoError::Busy) => Err("the door is locked".into()),
            Err(IoError::NotReady) => Err("there is no tape in it".into()),
            Err(why) => Err(why.to_string()),
        }
    }
}

impl CharDevice for Unit {
    fn open(&self) -> Result<(), IoError> {
        self.open_for(Opening { reads: true, writes: false, waits: true })
    }

    fn open_for(&self, opening: Opening) -> Result<(), IoError> {
        self.drive.take()?;
        let refusal = match opening {
            Opening { waits: false, .. } => None,
            _ if !self.is_status(manual::LOADED) => Some(IoError::NotReady),
            Opening { writes: true, .. } if self.is_status(manual::WRITE_PROTECTED) => {
                Some(IoError::WriteProtected)
            }
            _ => None,
        };
        match refusal {
            None => Ok(()),
            Some(why) => {
                self.drive.give_back();
                Err(why)
            }
        }
    }

    fn close(&self) {
        self.drive.close(self.rewinds);
    }

    fn begin(&self, origin: &Origin) -> Result<(), IoError> {
        self.drive.begin(origin)
    }

    fn end(&self, origin: &Origin) {
        self.drive.end(origin);
    }

    fn is_committed(&self, origin: &Origin) -> bool {
        self.drive.is_writing(origin)
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> Result<usize, IoError> {
        self.fetch(at, buf.len(), |tape, got| {
            buf[..got].copy_from_slice(&tape.memory[..got]);
            got
        })
    }

    fn read_into(&self, at: u64, memory: &mut Vec<u8>) -> Result<usize, IoError> {
        self.fetch(at, memory.len(), |tape, got| {
            if tape.memory.len() == memory.len() {
                std::mem::swap(&mut tape.memory, memory);
            } else {
                memory[..got].copy_from_slice(&tape.memory[..got]);
            }
            got
        })
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<usize, IoError> {
        let len = data.len();
        if len == 0 {
            return Ok(0);
        }
        self.drive.call(
            Call::Write { at, len },
            |mut tape| {
                // The one copy: what is lent to the hardware must be the driver's.
                let mut memory = std::mem::take(&mut tape.memory);
                memory.clear();
                memory.extend_from_slice(tape.piece_before(at));
                memory.extend_from_slice(data);
                tape.memory = memory;
                async move {
                    let put = tape.write(at, len).await;
                    (tape, put)
                }
            },
            |_, put| put,
        )
    }

    fn sync(&self) -> Result<(), IoError> {
        self.drive.call(
            Call::Sync,
            |mut tape| async move {
                let done = tape.sync().await;
                (tape, done.map(|()| 0))
            },
            |_, _| (),
        )
    }

    fn poll(&self) -> Ready {
        let is_ready = !self.drive.is_busy();
        Ready { readable: is_ready, writable: is_ready, hung_up: false }
    }

    fn takes_its_time(&self) -> bool {
        true
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn ioctl(&self, call: &mut Ioctl<'_>) -> Result<(), IoError> {
        let answer = match call.cmd {
            mtio::MTIOCTOP => return self.operate(call.input),
            mtio::MTIOCGET => self.ask(|tape| tape.told_status().encode(8))?,
            mtio::MTIOCGET_32 => self.ask(|tape| tape.told_status().encode(4))?,
            mtio::MTIOCPOS | mtio::MTIOCPOS_32 => {
                let place = self.ask(|tape| tape.is_loaded().then(|| tape.link.position()))?;
                let place = place.ok_or(IoError::NotReady)?.to_le_bytes();
                place[..if call.cmd == mtio::MTIOCPOS { 8 } else { 4 }].to_vec()
            }
            _ => return Err(IoError::Unsupported),
        };
        let room = call.output.get_mut(..answer.len()).ok_or(IoError::Invalid)?;
        room.copy_from_slice(&answer);
        Ok(())
    }

    fn commands(&self) -> &'static [(u32, &'static str)] {
        mtio::COMMANDS
    }

    fn waits(&self) -> Option<Arc<WaitQueue>> {
        Some(Arc::clone(self.drive.waits()))
    }

    fn status(&self) -> Status {
        let state = match self.drive.is_busy() {
            _ if self.is_status(manual::FROZEN) => State::Frozen,
            true => State::Busy,
            false => State::Idle,
        };
        Status { state, current: None, queued: 0 }
    }

    fn sense(&self) -> Option<Failure> {
        self.drive.failure()
    }

    fn command(&self, command: UnitCommand) -> Result<(), IoError> {
        match command {
            UnitCommand::Freeze => self.drive.link.control(manual::FREEZE),
            UnitCommand::Thaw => self.drive.link.control(manual::THAW),
            UnitCommand::Repair => self.drive.link.control(manual::REPAIR),
            UnitCommand::Reset => self.drive.link.abort(),
            UnitCommand::Pause | UnitCommand::Resume => return Err(IoError::Unsupported),
        }
        Ok(())
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        let (link, place) = (&self.drive.link, self.drive.place());
        let timing = TapeModel::numbered(link.timing()).map_or("unknown", TapeModel::name);
        let medium = match link.status() {
            status if status & manual::PRESENT == 0 => "none",
            status if status & manual::LOADED == 0 => "unloaded",
            status if status & manual::WRITE_PROTECTED != 0 => "protected",
            _ => "loaded",
        };
        vec![
            ("timing", timing.into()),
            ("medium", medium.into()),
            ("size", link.size_bytes().to_string()),
            ("position", link.position().to_string()),
            ("file", place.file.to_string()),
            ("block", place.block.to_string()),
            ("density", format!("{:#04x}", place.density)),
        ]
    }

    fn set_property(&self, name: &str, value: &str) -> Result<(), PropertyError> {
        if name != "timing" {
            return Err(PropertyError::Unknown);
        }
        let model = TapeModel::named(value)
            .ok_or_else(|| PropertyError::Value(format!("one of {}", TAPE_NAMES.join(", "))))?;
        self.drive.link.set_timing(model.number());
        Ok(())
    }

    fn load(&self, file: &Path, protect: Protect) -> Result<(), String> {
        self.exchange(Some(file), protect)
    }

    fn eject(&self) -> Result<(), String> {
        self.exchange(None, Protect::Off)
    }
}

#[cfg(test)]
mod tests;
