//! The generic disk: everything between `submit` and the registers that all disks share.
//!
//! `disk` is the door, `waits` knows who waits and who may go (through `lane`, which keeps the
//! limits, and a scheduler, which chooses), `service` drives the one [`Controller`] and decides
//! what a failure means, `accounts` counts, `kept` remembers what went wrong beyond power-off.

mod accounts;
mod clook;
mod deadline;
mod disk;
#[cfg(test)]
pub(crate) mod exam;
mod extents;
mod fifo;
mod kept;
mod lane;
mod options;
mod scan;
mod scheduler;
mod service;
#[cfg(test)]
mod simulated;
mod sstf;
#[cfg(test)]
mod tests;
mod waits;

pub use disk::{DiskQueue, REQUESTS_MAX};
pub use lane::{STARVATION, TURN, starvation_bound};
pub use options::{QueueOptions, RETRIES_MAX};
pub use scheduler::{Entry, SCHEDULERS, Scheduler, scheduler};
pub use waits::{AGED_NANOS, SHARE};

use crate::contract::{Failure, Geometry, IoError, Op, PropertyError, Sector, UnitCommand};

/// A run of a request's memory that takes part in a transfer.
#[derive(Debug, Default)]
pub struct Piece {
    /// The memory; it moves to the hardware while the transfer is under way.
    pub memory: Vec<u8>,
    /// First byte that takes part.
    pub from: usize,
    /// How many bytes take part.
    pub len: usize,
}

/// What the hardware is asked to do in one command: one or several requests that lie together.
#[derive(Debug)]
pub struct Transfer {
    /// What.
    pub op: Op,
    /// First sector.
    pub sector: Sector,
    /// Length, in sectors.
    pub sectors: u64,
    /// Durable when finished.
    pub fua: bool,
    /// On whose behalf: the thread that made the first of its requests.
    pub pid: u32,
    /// Where it goes to or comes from, in order; empty unless `op` is a read or a write.
    pub pieces: Vec<Piece>,
}

/// What an interrupt meant for the active transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is over. The pieces have their memory again.
    Finished(Result<(), Failure>),
    /// There is more to come (programmed I/O: an interrupt a sector).
    Continues,
    /// It was for somebody else.
    Spurious,
}

/// All a disk controller driver must do; queueing, splitting, merging and retry are done for it.
pub trait Controller: Send {
    /// Size and nature. Does not wait.
    ///
    /// # Errors
    /// `NotReady` if the unit is absent.
    fn geometry(&self) -> Result<Geometry, IoError>;

    /// Programs the idle hardware through its ports, and returns. Called with the queue's lock
    /// held: it must not raise a line inside this call (the chip schedules an event).
    ///
    /// # Errors
    /// `NotReady`; the pieces have their memory again.
    fn start(&mut self, transfer: &mut Transfer) -> Result<(), Failure>;

    /// Interrupt: reads status, acknowledges, moves the data where there is no DMA.
    fn interrupt(&mut self, transfer: &mut Transfer) -> Progress;

    /// Stops whatever is going on, gives the memory back to `active`; the next call is `start`.
    fn reset(&mut self, active: Option<&mut Transfer>);

    /// The first run of stored sectors at or after `from`: see `BlockDevice::stored_from`.
    fn stored_from(&self, from: Sector) -> Option<(Sector, Sector)>;

    /// Where the arm stands, for the scheduler; `None` where the queue should assume the end of
    /// the last transfer.
    fn head(&self) -> Option<Sector> {
        None
    }

    /// Tells the hardware what the operator does: `Freeze` stops it in mid-work, `Thaw` lets it go
    /// on, `Repair` mends what was broken by hand. `Repair` and `Reset` are followed by a call of
    /// [`Controller::reset`] in any case.
    ///
    /// # Errors
    /// `Unsupported` unless the hardware can; the unit then refuses `Freeze` and `Thaw`.
    fn command(&mut self, _command: UnitCommand) -> Result<(), IoError> {
        Err(IoError::Unsupported)
    }

    /// Properties of the hardware that can be set at run time (`timing`, `transfer`).
    fn properties(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Sets one.
    ///
    /// # Errors
    /// `Unknown` or `Value`; nothing has changed then.
    fn set_property(&mut self, _name: &str, _value: &str) -> Result<(), PropertyError> {
        Err(PropertyError::Unknown)
    }
}
