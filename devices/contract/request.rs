//! One transfer: it owns its memory from submission until it is finished, and is finished once.

use super::{Failure, IoError, SECTOR_SIZE, Sector, SimTime};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Medium to memory.
    Read,
    /// Memory to medium.
    Write,
    /// Everything finished before is durable after.
    Flush,
    /// These sectors are of no more use; they read as zeros and their room is given back.
    Discard,
    /// These sectors read as zeros; their room is kept.
    Zero,
}

impl Op {
    /// As shown in reports: `read`, `write`, `flush`, `discard`, `zero`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Op::Read => "read",
            Op::Write => "write",
            Op::Flush => "flush",
            Op::Discard => "discard",
            Op::Zero => "zero",
        }
    }
}

/// How urgent: lower comes first when a queue must choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Memory management waits: a page of a mapped file.
    PageIn,
    /// A program waits.
    Caller,
    /// Nobody waits yet: delayed writes, read-ahead.
    Background,
}

impl Class {
    /// As shown in reports: `page-in`, `caller`, `background`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::PageIn => "page-in",
            Class::Caller => "caller",
            Class::Background => "background",
        }
    }
}

/// Who asked, how urgently, and under which number it is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Thread that made the system call; 0 is the kernel.
    pub pid: u32,
    /// How urgent.
    pub class: Class,
    /// Number of the system call in trace and log; 0 when there was none.
    pub id: u64,
}

impl Origin {
    /// The kernel's own housekeeping.
    pub const KERNEL: Origin = Origin { pid: 0, class: Class::Background, id: 0 };
}

/// Gets the memory back and the fate. Runs once, in interrupt context: it must not wait.
pub type Done = Box<dyn FnOnce(Vec<u8>, Result<(), Failure>) + Send>;

/// One transfer. A request dropped unfinished finishes itself with [`IoError::Timeout`].
pub struct Request {
    /// What is to be done.
    pub op: Op,
    /// First sector of the unit; 0 for a flush.
    pub sector: Sector,
    /// Length, in sectors; 0 for a flush.
    pub sectors: u64,
    /// The memory of a read or write, `sectors` * [`SECTOR_SIZE`] bytes; empty for the rest.
    pub data: Vec<u8>,
    /// A write that is durable when finished (force unit access).
    pub fua: bool,
    /// Who asked.
    pub origin: Origin,
    /// When the queue accepted it; set by the queue.
    pub queued_at: SimTime,
    done: Option<Done>,
}

/// A request refused at the door: why, and the request, untouched.
pub struct Rejected(pub Failure, pub Request);

impl Request {
    fn new(op: Op, sector: Sector, sectors: u64, data: Vec<u8>, o: Origin, done: Done) -> Request {
        let queued_at = SimTime(0);
        Request { op, sector, sectors, data, fua: false, origin: o, queued_at, done: Some(done) }
    }

    /// Reads into `memory`, whose length is a multiple of [`SECTOR_SIZE`].
    #[must_use]
    pub fn read(sector: Sector, memory: Vec<u8>, origin: Origin, done: Done) -> Request {
        let sectors = (memory.len() / SECTOR_SIZE) as u64;
        Request::new(Op::Read, sector, sectors, memory, origin, done)
    }

    /// Writes `memory`, whose length is a multiple of [`SECTOR_SIZE`].
    #[must_use]
    pub fn write(sector: Sector, memory: Vec<u8>, origin: Origin, done: Done) -> Request {
        let sectors = (memory.len() / SECTOR_SIZE) as u64;
        Request::new(Op::Write, sector, sectors, memory, origin, done)
    }

    /// Makes everything finished before durable.
    #[must_use]
    pub fn flush(origin: Origin, done: Done) -> Request {
        Request::new(Op::Flush, Sector(0), 0, Vec::new(), origin, done)
    }

    /// Gives `sectors` sectors back; they read as zeros.
    #[must_use]
    pub fn discard(sector: Sector, sectors: u64, origin: Origin, done: Done) -> Request {
        Request::new(Op::Discard, sector, sectors, Vec::new(), origin, done)
    }

    /// Makes `sectors` sectors read as zeros, keeping their room.
    #[must_use]
    pub fn zero(sector: Sector, sectors: u64, origin: Origin, done: Done) -> Request {
        Request::new(Op::Zero, sector, sectors, Vec::new(), origin, done)
    }

    /// The first sector after this request.
    #[must_use]
    pub fn end(&self) -> Sector {
        Sector(self.sector.0 + self.sectors)
    }

    /// Hands memory and fate back to who submitted it.
    pub fn finish(mut self, result: Result<(), Failure>) {
        if let Some(done) = self.done.take() {
            done(std::mem::take(&mut self.data), result);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            let (op, sector) = (self.op.name(), self.sector.0);
            log::error!(target: "queue", "{op} at {sector} was dropped unfinished");
            done(std::mem::take(&mut self.data), Err(IoError::Timeout.into()));
        }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}+{} pid {}", self.op.name(), self.sector.0, self.sectors, self.origin.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_dropped_request_finishes_itself_with_a_timeout_and_returns_its_memory() {
        let (tx, rx) = channel();
        let done: Done = Box::new(move |data, fate| tx.send((data.len(), fate)).unwrap());
        drop(Request::read(Sector(7), vec![0; 1024], Origin::KERNEL, done));
        assert_eq!(rx.recv().unwrap(), (1024, Err(IoError::Timeout.into())));
    }

    #[test]
    fn a_finished_request_finishes_once() {
        let (tx, rx) = channel();
        let done: Done = Box::new(move |_, fate| tx.send(fate).unwrap());
        Request::flush(Origin::KERNEL, done).finish(Ok(()));
        assert_eq!(rx.recv().unwrap(), Ok(()));
        assert!(rx.recv().is_err());
    }
}
