//! The contract between the kernel half (`src/`) and the drivers: what goes down, what comes back.
//!
//! Requests go down by value; results come up through the request itself. A lower layer never
//! knows who is above. Rules every implementor keeps:
//!
//! 1. `submit` returns at once; a request's `done` never runs inside the call that submitted it.
//! 2. `Ok` from `submit` means `done` runs exactly once, later; `Err` means it never runs, and the
//!    request comes back whole.
//! 3. A request dropped unfinished finishes itself with [`IoError::Timeout`].
//! 4. No driver call waits without bound: a character device answers [`IoError::WouldBlock`].
//! 5. No lock is held while a request is finished, a line is raised, or a queue is rung.

mod device;
mod driver;
mod error;
pub mod host_file;
mod request;
mod serial;
mod time;
mod wait;

pub use device::{
    BlockDevice, CharDevice, Counters, Direction, Geometry, Histogram, Ioctl, Latencies,
    LoggedError, Mishaps, Opening, PropertyError, Protect, Ready, State, Status, UnitCommand,
    Waiting,
};
pub use driver::{AttachError, Attached, Driver, Key, Kind, UnitConfig, Value};
pub use error::{Failure, IoError, Sense};
pub use host_file::HostFile;
pub use request::{Class, Done, Op, Origin, Rejected, Request};
pub use serial::{
    Heard, LineSettings, Mark, Parity, RingState, SerialCounters, SerialPort, Signals,
};
pub use time::{Clock, SimTime};
pub use wait::{Interrupt, WaitQueue};

/// Bytes in the unit in which every disk is addressed, whatever its own sector size.
pub const SECTOR_SIZE: usize = 512;

/// Row (driver) and column (unit, partition, density...) of the device switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevId {
    /// Selects the driver.
    pub major: u16,
    /// The driver's own: which unit, and what of it.
    pub minor: u32,
}

impl std::fmt::Display for DevId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.major, self.minor)
    }
}

/// Sector number from the start of the unit, in units of [`SECTOR_SIZE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sector(pub u64);

impl Sector {
    /// The byte at which this sector begins.
    #[must_use]
    pub fn byte(self) -> u64 {
        self.0 * SECTOR_SIZE as u64
    }
}
