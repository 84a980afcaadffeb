//! Disks by SCSI commands (SG_IO): what a command block asks is done by the unit, and what the unit
//! says comes back as status, sense and data.
//!
//! 1. Block addresses are of the whole unit, in its own blocks; a partition's node is refused.
//! 2. Reads and writes are coherent with the cache as `O_DIRECT` is, on either node: what is dirty
//!    in their range is written first, what is cached of it is dropped.
//! 3. A refused command has changed nothing; its sense names the byte in error, and is kept until
//!    the unit has obeyed another ([`Disk::told`]).
//! 4. A failure of the unit is told by its own sense, with the block in the unit's blocks.

mod cdb;
mod modes;
mod pages;
mod sense;
mod sg;

pub use sg::{COMMANDS, is_ours, obey};

use crate::disk::Disk;
use crate::error::{Errno, Error};
use crate::file::{Answer, Later};
use crate::own::Told;
use crate::slot::Slot;
use crate::sync::Arc;
use cdb::{Blocks, Command};
use devices::{Done, Failure, Interrupt, Origin, Request, SECTOR_SIZE, Sector, State};
use pages::Facts;
use sense::Check;
use std::ops::Range;

/// Most bytes that one command moves.
pub const TRANSFER_BYTES_MAX: u64 = 16 << 20;
/// Bytes written at once by a WRITE SAME that is not of zeros.
const SAME_BYTES: usize = 1 << 20;
/// A write error, where nobody has told more: MEDIUM ERROR, WRITE ERROR.
const WRITE_ERROR: devices::Sense = devices::Sense { key: 3, asc: 0x0c, ascq: 0, info: None };

/// Data for the caller, or why not.
type Outcome = Result<Vec<u8>, Check>;

/// A unit that obeys commands, and on whose behalf.
#[derive(Clone)]
struct Unit {
    disk: Arc<Disk>,
    from: Origin,
    /// Bytes in a block.
    block: u64,
    blocks: u64,
}

impl Unit {
    fn new(disk: &Arc<Disk>, from: Origin) -> Result<Unit, Check> {
        let geometry = disk.unit.geometry().map_err(|_| Check::NO_MEDIUM)?;
        let block = u64::from(geometry.sector_bytes);
        Ok(Unit { disk: Arc::clone(disk), from, block, blocks: geometry.bytes() / block })
    }

    fn facts(&self) -> Facts {
        let properties = self.disk.unit.properties();
        let property = |name: &str| {
            let found = properties.iter().find(|(known, _)| *known == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let (turns, is_removable) = match property("timing") {
            "disk7200" => (7200, false),
            "floppy" => (300, true),
            _ => (0, false),
        };
        let is_protected = self.disk.check_unprotected().is_err();
        let transfer = self.disk.unit.geometry().map_or(0, |g| u64::from(g.transfer_max));
        Facts {
            name: self.disk.name.clone(),
            block: self.block,
            blocks: self.blocks,
            transfer_max: transfer * SECTOR_SIZE as u64 / self.block,
            is_read_only: self.disk.is_read_only().unwrap_or(true),
            is_protected,
            is_removable,
            turns,
            tracks: if is_removable { (2, 18) } else { (16, 63) },
            modes: self.disk.modes(),
            defaults: self.disk.default_modes(),
            counters: self.disk.unit.counters(),
        }
    }

    /// Does what a command says with the `data` that came with it; `room` is what the caller has
    /// for an answer.
    fn obey(&self, command: Command, data: Vec<u8>, room: usize) -> Answer<Outcome> {
        match command {
            Command::Read { blocks } => self.read(blocks, room),
            Command::Write { blocks, is_durable } => self.write(blocks, data, is_durable),
            Command::SynchronizeCache { blocks } => self.synchronize(blocks),
            Command::Unmap { .. } => self.unmap(&data),
            Command::WriteSame { blocks, is_unmap, has_data } => {
                let data = if has_data { data } else { vec![0; self.block_len()] };
                self.write_same(blocks, is_unmap, data)
            }
            Command::ModeSelect { is_long, .. } => self.select(&data, is_long),
            _ => Answer::Now(self.tell(command)),
        }
    }

    /// Has the disk work as a list says. What was written is on the medium when writes no longer
    /// wait in the cache.
    fn select(&self, list: &[u8], is_long: bool) -> Answer<Outcome> {
        let before = self.disk.modes();
        let wanted = match self.facts().selected(list, is_long) {
            Ok(wanted) => wanted,
            Err(check) => return Answer::Now(Err(check)),
        };
        if self.disk.set_modes(wanted).is_err() {
            return Answer::Now(Err(Check::PARAMETER));
        }
        if before.is_write_back && !wanted.is_write_back {
            return self.work(|unit, interrupt| unit.disk.cached.sync(None, interrupt));
        }
        Answer::Now(Ok(Vec::new()))
    }

    fn block_len(&self) -> usize {
        usize::try_from(self.block).unwrap_or(SECTOR_SIZE)
    }

    /// What is told without touching the medium, cut to the room that the command names.
    fn tell(&self, command: Command) -> Outcome {
        let facts = || self.facts();
        let (data, room) = match command {
            Command::TestUnitReady => return self.ready().map(|()| Vec::new()),
            Command::RequestSense { is_descriptor, room } => {
                let last = last_sense(&self.disk).unwrap_or(devices::Sense::default().into());
                let last = self.in_blocks(last);
                (if is_descriptor { last.descriptor() } else { last.fixed() }, room)
            }
            Command::Inquiry { page: None, room } => (facts().inquiry(), room),
            Command::Inquiry { page: Some(page), room } => {
                (facts().vital(page).ok_or(Check::field(2))?, room)
            }
            Command::ReadCapacity10 => (facts().capacity(), u32::MAX),
            Command::ReadCapacity16 { room } => (facts().long_capacity(), room),
            Command::ModeSense(query) => (facts().modes(&query)?, query.room),
            Command::LogSense { page, subpage, from, room } => {
                (facts().log(page, subpage, from)?, room)
            }
            Command::LogReset { page } => {
                return pages::reset(page).map(|op| {
                    self.disk.unit.forget_mishaps(op);
                    Vec::new()
                });
            }
            Command::ReportLuns { room } => {
                let mut data = vec![0; 16]; // one: number 0
                data[3] = 8;
                (data, room)
            }
            _ => return Err(Check::INVALID_OPCODE),
        };
        let mut data = data;
        data.truncate(room as usize);
        Ok(data)
    }

    fn ready(&self) -> Result<(), Check> {
        match self.disk.unit.status().state {
            State::Frozen | State::Offline => Err(Check::NOT_READY),
            State::NotFunctioning => {
                let why = self.disk.unit.sense().map(Check::from);
                Err(why.unwrap_or(devices::IoError::Hardware.sense().into()))
            }
            State::Idle | State::Busy | State::Paused => Ok(()),
        }
    }

    /// Sense with its sector as the number of a block.
    fn in_blocks(&self, mut check: Check) -> Check {
        let sectors = (self.block / SECTOR_SIZE as u64).max(1);
        if check.sense.key != 5 {
            check.sense.info = check.sense.info.map(|sector| sector / sectors);
        }
        check
    }

    fn failed(&self, failure: Failure) -> Check {
        self.in_blocks(failure.into())
    }

    /// What the cache has been told of the unit.
    fn passed_on(&self, error: Error) -> Result<Check, Error> {
        if error.errno == Errno::EINTR {
            return Err(error);
        }
        let told = self.disk.unit.sense().map(Check::from);
        Ok(self.in_blocks(told.unwrap_or(WRITE_ERROR.into())))
    }

    /// The bytes of blocks that are all there.
    fn range(&self, blocks: Blocks) -> Result<Range<u64>, Check> {
        match blocks.lba.checked_add(blocks.count) {
            Some(end) if end <= self.blocks => Ok(blocks.lba * self.block..end * self.block),
            _ => {
                let mut check = Check::OUT_OF_RANGE;
                check.sense.info = Some(blocks.lba);
                Err(check)
            }
        }
    }

    /// The same of a transfer, which may not be too long.
    fn transfer(&self, blocks: Blocks) -> Result<Range<u64>, Check> {
        let range = self.range(blocks)?;
        let is_short = range.end - range.start <= TRANSFER_BYTES_MAX;
        if is_short { Ok(range) } else { Err(Check { field: None, ..Check::field(0) }) }
    }

    /// The same of a change.
    fn change(&self, range: Result<Range<u64>, Check>) -> Result<Range<u64>, Check> {
        let range = range?;
        if self.disk.is_read_only().unwrap_or(true) { Err(Check::PROTECTED) } else { Ok(range) }
    }

    /// Has the unit serve one request.
    fn serve(
        &self,
        make: impl FnOnce(Done) -> Request,
        interrupt: &Interrupt,
    ) -> Result<Outcome, Error> {
        match Slot::submit(&self.disk.engine, &*self.disk.unit, make) {
            Err((failure, _)) => Ok(Err(self.failed(failure))),
            Ok(slot) => {
                let (memory, fate) = slot.wait(&self.disk.engine, interrupt)?;
                Ok(fate.map(|()| memory).map_err(|failure| self.failed(failure)))
            }
        }
    }

    /// The rest of a command, after what is dirty in its range was written.
    fn coherent(
        &self,
        range: Range<u64>,
        rest: impl FnOnce(&Unit, &Interrupt) -> Result<Outcome, Error> + Send + 'static,
    ) -> Answer<Outcome> {
        let unit = self.clone();
        Answer::Later(Box::new(move |interrupt| {
            if let Err(error) = unit.disk.cached.flush_range(range, interrupt) {
                return unit.passed_on(error).map(Err);
            }
            rest(&unit, interrupt)
        }))
    }

    fn read(&self, blocks: Blocks, room: usize) -> Answer<Outcome> {
        let range = match self.transfer(blocks) {
            Ok(range) if range.is_empty() => return Answer::Now(Ok(Vec::new())),
            Ok(range) if range.end - range.start > room as u64 => {
                return Answer::Now(Err(Check::DATA_PHASE));
            }
            Ok(range) => range,
            Err(check) => return Answer::Now(Err(check)),
        };
        let (sector, len) = (sector(range.start), len(&range));
        self.coherent(range, move |unit, interrupt| {
            let from = unit.from;
            unit.serve(|done| Request::read(sector, vec![0; len], from, done), interrupt)
        })
    }

    fn write(&self, blocks: Blocks, data: Vec<u8>, is_durable: bool) -> Answer<Outcome> {
        let range = match self.change(self.transfer(blocks)) {
            Ok(range) if range.is_empty() => return Answer::Now(Ok(Vec::new())),
            Ok(range) if len(&range) != data.len() => return Answer::Now(Err(Check::DATA_PHASE)),
            Ok(range) => range,
            Err(check) => return Answer::Now(Err(check)),
        };
        let is_durable = is_durable || self.disk.cached.is_synchronous();
        self.coherent(range.clone(), move |unit, interrupt| {
            let outcome = unit.put(&range, data, interrupt)?;
            if outcome.is_ok()
                && is_durable
                && let Err(error) = unit.disk.cached.flush(interrupt)
            {
                return unit.passed_on(error).map(Err);
            }
            Ok(outcome)
        })
    }

    /// Writes `data`; what is cached of it is dropped when the write ends, well or not.
    fn put(
        &self,
        range: &Range<u64>,
        data: Vec<u8>,
        interrupt: &Interrupt,
    ) -> Result<Outcome, Error> {
        let (from, sector) = (self.from, sector(range.start));
        let (cached, range) = (Arc::clone(&self.disk.cached), range.clone());
        let changed = range.clone();
        let make = |done: Done| {
            let done = Box::new(move |memory, fate| {
                cached.invalidate(range);
                done(memory, fate);
            });
            Request::write(sector, data, from, done)
        };
        let outcome = self.serve(make, interrupt)?.map(|_| Vec::new());
        self.forget(&changed);
        Ok(outcome)
    }

    /// Has the host drop what it keeps of a range that was changed behind its back.
    fn forget(&self, range: &Range<u64>) {
        if let Some(pages) = &self.disk.pages {
            pages.changed(range);
        }
    }

    fn discard(&self, range: Range<u64>, interrupt: &Interrupt) -> Result<(), Error> {
        let result = self.disk.cached.discard(self.from, range.clone(), interrupt);
        self.forget(&range);
        result
    }

    fn zero(&self, range: Range<u64>, interrupt: &Interrupt) -> Result<(), Error> {
        let result = self.disk.cached.zero(self.from, range.clone(), interrupt);
        self.forget(&range);
        result
    }

    fn synchronize(&self, blocks: Blocks) -> Answer<Outcome> {
        let range = match self.range(self.to_the_end(blocks)) {
            Ok(range) => range,
            Err(check) => return Answer::Now(Err(check)),
        };
        self.work(move |unit, interrupt| unit.disk.cached.sync(Some(range), interrupt))
    }

    /// A number of no blocks means all that follow.
    fn to_the_end(&self, blocks: Blocks) -> Blocks {
        let all = self.blocks.saturating_sub(blocks.lba);
        Blocks { count: if blocks.count == 0 { all } else { blocks.count }, ..blocks }
    }

    /// Work of the cache's.
    fn work(
        &self,
        work: impl FnOnce(&Unit, &Interrupt) -> Result<(), Error> + Send + 'static,
    ) -> Answer<Outcome> {
        let unit = self.clone();
        let later: Later<Outcome> = Box::new(move |interrupt| match work(&unit, interrupt) {
            Ok(()) => Ok(Ok(Vec::new())),
            Err(error) => unit.passed_on(error).map(Err),
        });
        Answer::Later(later)
    }

    fn unmap(&self, list: &[u8]) -> Answer<Outcome> {
        let ranges = cdb::unmap_ranges(list).and_then(|ranges| {
            let ranges = ranges.into_iter().map(|blocks| self.change(self.range(blocks)));
            ranges.collect::<Result<Vec<_>, _>>()
        });
        let ranges = match ranges {
            Ok(ranges) => ranges,
            Err(check) => return Answer::Now(Err(check)),
        };
        self.work(move |unit, interrupt| {
            let mut ranges = ranges.into_iter().filter(|range| !range.is_empty());
            ranges.try_for_each(|range| unit.discard(range, interrupt))
        })
    }

    fn write_same(&self, blocks: Blocks, is_unmap: bool, data: Vec<u8>) -> Answer<Outcome> {
        let range = match self.change(self.range(self.to_the_end(blocks))) {
            Ok(range) if range.end - range.start > pages::WRITE_SAME_BYTES_MAX => {
                return Answer::Now(Err(Check { field: None, ..Check::field(0) }));
            }
            Ok(range) if range.is_empty() => return Answer::Now(Ok(Vec::new())),
            Ok(_) if data.len() != self.block_len() => {
                return Answer::Now(Err(Check::DATA_PHASE));
            }
            Ok(range) => range,
            Err(check) => return Answer::Now(Err(check)),
        };
        let is_zero = data.iter().all(|byte| *byte == 0);
        match (is_zero, is_unmap) {
            (true, true) => self.work(move |unit, i| unit.discard(range, i)),
            (true, false) => self.work(move |unit, i| unit.zero(range, i)),
            (false, _) => self.coherent(range.clone(), move |unit, interrupt| {
                let some = data.repeat((SAME_BYTES / data.len()).max(1));
                let mut at = range.start;
                while at < range.end {
                    let end = range.end.min(at + some.len() as u64);
                    let part = at..end;
                    let data = some[..len(&part)].to_vec();
                    if let Err(check) = unit.put(&part, data, interrupt)? {
                        return Ok(Err(check));
                    }
                    at = end;
                }
                Ok(Ok(Vec::new()))
            }),
        }
    }
}

fn sector(byte: u64) -> Sector {
    Sector(byte / SECTOR_SIZE as u64)
}

/// Bytes in a range that is short enough for memory.
fn len(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
}

/// The sense of what went wrong last on a disk, whether a command was refused or the unit failed;
/// none after a success.
fn last_sense(disk: &Disk) -> Option<Check> {
    let told = disk.told().map(|Told { sense, field }| Check { sense, field, is_units: false });
    told.or_else(|| disk.unit.sense().map(Check::from))
}
