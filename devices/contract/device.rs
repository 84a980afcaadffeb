//! What a unit of the device switch must be able to do: block units and character units.

use super::{
    Failure, IoError, Op, Origin, Rejected, Request, SECTOR_SIZE, Sector, SerialPort, SimTime,
    WaitQueue,
};
use crate::sync::Arc;
use std::path::Path;

/// Size and nature of one block unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Length, in sectors of [`SECTOR_SIZE`] bytes.
    pub sectors: u64,
    /// Bytes in a sector of the unit itself: 512 or 4096. Requests are multiples of it.
    pub sector_bytes: u32,
    /// Longest transfer the hardware takes at once, in sectors; the queue splits what is longer.
    pub transfer_max: u32,
    /// Tape: writes may be neither delayed nor reordered.
    pub ordered: bool,
    /// Writes are refused.
    pub read_only: bool,
}

impl Geometry {
    /// Length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sectors * SECTOR_SIZE as u64
    }
}

/// The state column of the device-status table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing asked of it.
    Idle,
    /// From submission to completion.
    Busy,
    /// Its queue is held.
    Paused,
    /// Its controller is stopped.
    Frozen,
    /// Out of service by hand.
    Offline,
    /// Broken until repaired; fails fast.
    NotFunctioning,
}

impl State {
    /// As shown in `proc/status`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Busy => "busy",
            State::Paused => "paused",
            State::Frozen => "frozen",
            State::Offline => "offline",
            State::NotFunctioning => "not-functioning",
        }
    }
}

/// A request in a unit's queue, or being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Who asked.
    pub origin: Origin,
    /// What.
    pub op: Op,
    /// First sector.
    pub sector: Sector,
    /// Length, in sectors.
    pub sectors: u64,
    /// For how long, in nanoseconds of machine time.
    pub age_nanos: u64,
}

/// One line of the device-status table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// The request being served.
    pub current: Option<Waiting>,
    /// How many wait behind it.
    pub queued: usize,
}

/// One direction of Linux's /proc/diskstats (Documentation/admin-guide/iostats.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    /// Requests completed; those merged into one transfer count as one, as in Linux.
    pub ios: u64,
    /// Requests merged into another before they reached the hardware.
    pub merges: u64,
    /// Sectors transferred.
    pub sectors: u64,
    /// Nanoseconds from queueing to completion, summed.
    pub nanos: u64,
}

/// What went wrong in one direction since the medium was made, as far as a unit remembers, or its
/// counters began anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mishaps {
    /// Tries that were not the first of their request.
    pub retries: u64,
    /// Requests that a further try served.
    pub recovered: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Sectors transferred in that time.
    pub sectors: u64,
}

/// Counters of one block unit, in the sense of /proc/diskstats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads.
    pub read: Direction,
    /// Writes.
    pub write: Direction,
    /// Discards.
    pub discard: Direction,
    /// Flushes.
    pub flush: Direction,
    /// Requests in the queue or being served now.
    pub in_flight: u64,
    /// Nanoseconds during which something was in flight.
    pub busy_nanos: u64,
    /// Nanoseconds weighted by the number in flight.
    pub queue_nanos: u64,
    /// Commands given to the hardware: merged requests share one, split ones take several, and
    /// each further try is one more.
    pub commands: u64,
    /// Failures that were tried again.
    pub retries: u64,
    /// What went wrong with reads; kept beyond power-off, as the next.
    pub read_mishaps: Mishaps,
    /// What went wrong with writes, and with zeroing.
    pub write_mishaps: Mishaps,
}

/// How many requests took how long, from queueing to completion: element `n` counts those of at
/// least 2^n and less than 2^(n+1) nanoseconds; the first has 0 too, the last all that is longer.
pub type Histogram = [u64; 40];

/// Latencies of one block unit since power-on, request by request, merged ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latencies {
    /// Reads.
    pub read: Histogram,
    /// Writes, and zeroing.
    pub write: Histogram,
    /// Discards.
    pub discard: Histogram,
    /// Flushes.
    pub flush: Histogram,
}

impl Default for Latencies {
    fn default() -> Latencies {
        let none: Histogram = [0; 40];
        Latencies { read: none, write: none, discard: none, flush: none }
    }
}

/// A line of a unit's error log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedError {
    /// When.
    pub at: SimTime,
    /// What was asked.
    pub op: Op,
    /// First sector asked for.
    pub sector: Sector,
    /// On whose behalf.
    pub origin: Origin,
    /// What the device said.
    pub failure: Failure,
}

/// What the operator can do to a unit (`ctl`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitCommand {
    /// Hold the queue: requests wait.
    Pause,
    /// Let it go on.
    Resume,
    /// Stop the controller in mid-work.
    Freeze,
    /// Let it go on.
    Thaw,
    /// A broken unit serves again.
    Repair,
    /// Back to the state after power-on; what is in flight is started again.
    Reset,
}

/// A property was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyError {
    /// The unit has no such property.
    Unknown,
    /// The value does not fit: what would.
    Value(String),
}

/// What a character unit is ready for now (poll(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// A read would not answer `WouldBlock`.
    pub readable: bool,
    /// A write would not.
    pub writable: bool,
    /// The other end is gone.
    pub hung_up: bool,
}

/// What a character unit is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Reading.
    pub reads: bool,
    /// Writing.
    pub writes: bool,
    /// The caller wants a unit that is ready; without it (`O_NONBLOCK`) one without a medium will
    /// do, for commands.
    pub waits: bool,
}

/// Whether a medium may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protect {
    /// It may.
    Off,
    /// It may not.
    On,
}

/// One ioctl; `cmd` is `_IOC`-encoded and sizes both buffers, in bytes.
pub struct Ioctl<'a> {
    /// The command word.
    pub cmd: u32,
    /// What the caller passes.
    pub input: &'a [u8],
    /// What the caller gets.
    pub output: &'a mut [u8],
}

/// A unit of the block switch. Filters (delay, fault...) implement it over another.
pub trait BlockDevice: Send + Sync {
    /// Size and nature. Does not wait.
    ///
    /// # Errors
    /// `NotReady` if the unit is absent.
    fn geometry(&self) -> Result<Geometry, IoError>;

    /// Queues and returns. `Ok`: the request is finished exactly once, later, never inside this
    /// call. Whoever submits must then wait in, or call, `Engine::crank`: a unit without a timing
    /// model is served by the thread that does so.
    ///
    /// # Errors
    /// The request, untouched, with `Range`, `Invalid`, `WriteProtected`, `NotReady`, `Hardware`
    /// where the unit is `not-functioning`, or `Busy` where far too many wait already.
    fn submit(&self, request: Request) -> Result<(), Box<Rejected>>;

    /// What it is doing.
    fn status(&self) -> Status;

    /// The requests that wait, in the order in which they came.
    fn waiting(&self) -> Vec<Waiting> {
        Vec::new()
    }

    /// Its counters since power-on.
    fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Counts what goes wrong from zero again: with reads or with writes, as `op` is one; with
    /// both where it is `None`.
    fn forget_mishaps(&self, _op: Option<Op>) {}

    /// Its latencies since power-on.
    fn latencies(&self) -> Latencies {
        Latencies::default()
    }

    /// The sense of the last failure, as `REQUEST SENSE` would tell; none after a success.
    fn sense(&self) -> Option<Failure> {
        None
    }

    /// The last failures of requests, oldest first.
    fn error_log(&self) -> Vec<LoggedError> {
        Vec::new()
    }

    /// Does what the operator says.
    ///
    /// # Errors
    /// `Unsupported` unless the unit knows the command.
    fn command(&self, _command: UnitCommand) -> Result<(), IoError> {
        Err(IoError::Unsupported)
    }

    /// Names and values of the properties that can be set at run time (`scheduler clook`).
    fn properties(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Sets a property.
    ///
    /// # Errors
    /// `Unknown` or `Value`; nothing has changed then.
    fn set_property(&self, _name: &str, _value: &str) -> Result<(), PropertyError> {
        Err(PropertyError::Unknown)
    }

    /// The first run of sectors at or after `from` that is stored on the medium, as first sector
    /// and end; `None` when the rest is a hole. A unit that cannot tell calls all of it stored.
    fn stored_from(&self, from: Sector) -> Option<(Sector, Sector)> {
        let end = Sector(self.geometry().ok()?.sectors);
        (from < end).then_some((from, end))
    }

    /// A command of the driver's own.
    ///
    /// # Errors
    /// `Unsupported` unless the driver knows the command.
    fn ioctl(&self, _call: &mut Ioctl<'_>) -> Result<(), IoError> {
        Err(IoError::Unsupported)
    }
}

/// A unit of the character switch. No call waits without bound: it answers `WouldBlock`.
///
/// Whoever is answered `WouldBlock` waits for [`CharDevice::waits`] and makes the same call again.
/// Some units (a tape) begin at the first try what the last one answers: there the call is framed
/// by [`CharDevice::begin`], before each try, and [`CharDevice::end`], once, when it was answered
/// or given up. Other units ignore the frame.
pub trait CharDevice: Send + Sync {
    /// Every open.
    ///
    /// # Errors
    /// `NotReady`, `Busy`.
    fn open(&self) -> Result<(), IoError> {
        Ok(())
    }

    /// Every open, told what for.
    ///
    /// # Errors
    /// `NotReady`, `Busy`; `WriteProtected` when opened for writing.
    fn open_for(&self, _opening: Opening) -> Result<(), IoError> {
        self.open()
    }

    /// The last close only; the kernel half counts.
    fn close(&self) {}

    /// Before each try of a read, write or command: all tries of one call name the same origin.
    ///
    /// # Errors
    /// `WouldBlock` while another call has its turn.
    fn begin(&self, _origin: &Origin) -> Result<(), IoError> {
        Ok(())
    }

    /// The call was answered, or its caller was called away.
    fn end(&self, _origin: &Origin) {}

    /// Whether the call of that origin, not yet answered, is at work on the medium so that it
    /// cannot be taken back: its caller must be told how it ends.
    fn is_committed(&self, _origin: &Origin) -> bool {
        false
    }

    /// At most `buf.len()` bytes from byte `at`; `Ok(0)` is end of file. Where offsets mean
    /// nothing, `at` is 0 for a new system call and more for the further parts of a long one.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing yet; the device's own else.
    fn read(&self, at: u64, buf: &mut [u8]) -> Result<usize, IoError>;

    /// As [`CharDevice::read`], but the memory itself may be exchanged for other of the same length
    /// that holds the data, so that they need not be copied.
    ///
    /// # Errors
    /// Those of a read.
    fn read_into(&self, at: u64, memory: &mut Vec<u8>) -> Result<usize, IoError> {
        self.read(at, memory)
    }

    /// At most `data.len()` bytes; a short count means the rest would block. `at` as for a read.
    ///
    /// # Errors
    /// `WouldBlock` when nothing can be taken yet; the device's own else.
    fn write(&self, at: u64, data: &[u8]) -> Result<usize, IoError>;

    /// All that was written is durable when this answers.
    ///
    /// # Errors
    /// `WouldBlock` when that takes its time; the device's own else.
    fn sync(&self) -> Result<(), IoError> {
        Ok(())
    }

    /// What it is ready for.
    fn poll(&self) -> Ready {
        Ready { readable: true, writable: true, hung_up: false }
    }

    /// Whether a read or write once begun takes its time, whatever `O_NONBLOCK` says (a tape's).
    fn takes_its_time(&self) -> bool {
        false
    }

    /// The port, where a line discipline belongs above this unit.
    fn serial(&self) -> Option<Arc<dyn SerialPort>> {
        None
    }

    /// Whether `lseek` and offsets mean something.
    fn is_seekable(&self) -> bool {
        true
    }

    /// A command of the driver's own.
    ///
    /// # Errors
    /// `Unsupported` unless the driver knows the command.
    fn ioctl(&self, _call: &mut Ioctl<'_>) -> Result<(), IoError> {
        Err(IoError::Unsupported)
    }

    /// The commands that [`CharDevice::ioctl`] takes: number and name, for `proc/ioctls`.
    fn commands(&self) -> &'static [(u32, &'static str)] {
        &[]
    }

    /// Whether a command whose number encodes no size is one of the driver's; how many bytes it
    /// answers, which go where the caller's argument points.
    fn bare_answer(&self, _cmd: u32) -> Option<usize> {
        None
    }

    /// Rung whenever a `WouldBlock` might have become an answer.
    fn waits(&self) -> Option<Arc<WaitQueue>> {
        None
    }

    /// What it is doing.
    fn status(&self) -> Status {
        Status { state: State::Idle, current: None, queued: 0 }
    }

    /// The sense of the last failure; none after a success.
    fn sense(&self) -> Option<Failure> {
        None
    }

    /// Does what the operator says.
    ///
    /// # Errors
    /// `Unsupported` unless the unit knows the command.
    fn command(&self, _command: UnitCommand) -> Result<(), IoError> {
        Err(IoError::Unsupported)
    }

    /// Names and values of the properties that can be set at run time.
    fn properties(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Sets a property.
    ///
    /// # Errors
    /// `Unknown` or `Value`; nothing has changed then.
    fn set_property(&self, _name: &str, _value: &str) -> Result<(), PropertyError> {
        Err(PropertyError::Unknown)
    }

    /// The operator puts a medium in: a file of the host.
    ///
    /// # Errors
    /// In words.
    fn load(&self, _file: &Path, _protect: Protect) -> Result<(), String> {
        Err("takes no media".into())
    }

    /// The operator takes the medium out.
    ///
    /// # Errors
    /// In words.
    fn eject(&self) -> Result<(), String> {
        Err("takes no media".into())
    }
}
