//! One buffer: a block of a device in memory, its states, and who may do what in each.
//!
//! ```text
//!            begin_fill             land_fill
//!  (absent) ------------> filling ------------> clean <------------+
//!      |                     |                    |                | land_write, ok
//!      | write_in            | write_in           | write_in       |
//!      v                     v                    v   take_dirty   |
//!    dirty           filling and dirty          dirty ---------> writing
//!                                                 ^                |
//!                                      failed ----+----------------+ land_write, not ok
//! ```
//!
//! | state | may be read | may be written | may be evicted |
//! |---|---|---|---|
//! | clean, dirty, failed | yes, its valid sectors | yes | only when clean |
//! | filling | its valid sectors | whole sectors | no |
//! | writing, wholly dirty: its memory is away | no, wait | no, wait | no |
//! | writing, partly dirty or filling: a copy of the sectors is away | yes | yes | no |
//!
//! 1. What is known is kept per sector: `valid` (the memory holds it), `dirty` (the medium does
//!    not yet), `flying` (on its way there). Dirty and flying sectors are valid.
//! 2. A fill never overwrites a valid sector, so a write need not wait for a fill under way.
//! 3. One write-out at a time: the device may reorder, so two could end in the wrong order.
//! 4. Bytes may be lent to readers; who changes or takes the memory meanwhile does so with a copy.
//! 5. `stale` sectors were changed on the medium by others while something was under way; what
//!    was read of them before is not used, what was written is not kept.
//!
//! A wholly dirty buffer gives its memory away, because bulk writing should not copy; who wants it
//! meanwhile waits, which on a unit without a timing model is the time of the copy it saves.

use super::copy::Copy;
use crate::lent::{Lent, Memory};
use devices::{Clock, Failure, IoError, SECTOR_SIZE, SimTime};

/// Bytes in a block, the unit of the cache.
pub const BLOCK_BYTES: usize = 4096;
/// Sectors in a block.
pub(super) const BLOCK_SECTORS: u8 = 8;

/// A set of sectors of one block; bit 0 is the first.
pub(super) type Sectors = u8;

/// `count` sectors from `first` on.
pub(super) fn sectors(first: u8, count: u8) -> Sectors {
    let low = u8::MAX.checked_shr(u32::from(BLOCK_SECTORS.saturating_sub(count)));
    low.unwrap_or(0).checked_shl(u32::from(first)).unwrap_or(0)
}

/// Sectors as a run: first, and how many up to the last one of the set.
pub(super) fn hull(set: Sectors) -> (u8, u8) {
    let first = small(set.trailing_zeros() as usize);
    (first, BLOCK_SECTORS.saturating_sub(small(set.leading_zeros() as usize) + first))
}

fn small(sectors: usize) -> u8 {
    u8::try_from(sectors).unwrap_or(BLOCK_SECTORS)
}

/// Bytes `from..to` of one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub from: usize,
    pub to: usize,
}

impl Span {
    /// The sectors that have a byte in the span, in whole units of `1 << shift` bytes.
    pub fn touched(self, shift: u32) -> Sectors {
        self.units(self.from >> shift, self.to.div_ceil(1 << shift), shift)
    }

    /// The sectors that lie wholly in the span, in whole units of `1 << shift` bytes.
    pub fn covered(self, shift: u32) -> Sectors {
        self.units(self.from.div_ceil(1 << shift), self.to >> shift, shift)
    }

    fn units(self, first: usize, end: usize, shift: u32) -> Sectors {
        let per_unit = (1 << shift) / SECTOR_SIZE;
        sectors(small(first * per_unit), small(end.saturating_sub(first) * per_unit))
    }
}

/// What the books of a shard say of a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Something is under way.
    pub is_busy: bool,
    /// A write-out is under way.
    pub is_writing: bool,
    /// The only copy: dirty or flying.
    pub is_unsaved: bool,
    /// Dirty, idle, and the last write-out failed.
    pub is_stuck: bool,
    /// Dirty, since then, and nothing speaks against writing it.
    pub dirty_from: Option<SimTime>,
    /// Dirty, and to be tried again then.
    pub retry_at: Option<SimTime>,
}

/// What went wrong with a buffer; most have none.
#[derive(Default)]
struct Trouble {
    /// Why the last fill failed, and for which sectors it was.
    unread: Option<(Failure, Sectors)>,
    /// Why the last write-out failed.
    unwritten: Option<Failure>,
    /// Why a part of the write-out under way failed.
    mishap: Option<Failure>,
    /// Write-outs failed in a row.
    failures: u32,
    /// When the next attempt is due.
    retry_at: SimTime,
}

/// How a write-out ended, once its last part is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// Other parts are still under way.
    Partly,
    /// All is on the medium.
    Saved,
    /// Not all is. `is_first`: the write-out before had not failed.
    Failed { is_first: bool },
}

/// A part of a write-out: where in the block, and the memory.
pub(super) struct Part {
    pub first: u8,
    pub count: u8,
    pub memory: Vec<u8>,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Buffer {
    /// [`BLOCK_BYTES`] bytes; empty while away or not yet needed.
    memory: Memory,
    /// When it became dirty; where it is clean, when it became so.
    since: SimTime,
    trouble: Option<Box<Trouble>>,
    /// How often its write-out was begun.
    launches: u32,
    valid: Sectors,
    dirty: Sectors,
    flying: Sectors,
    stale: Sectors,
    /// Parts of the write-out that are under way.
    flights: u8,
    is_filling: bool,
    /// Fetched because somebody asked, and not yet read: it was counted as a miss.
    pub is_fresh: bool,
    /// Fetched ahead, and not yet read.
    pub is_ahead: bool,
    /// The shard's tick when it last moved to the front.
    pub used_at: u32,
}

impl Buffer {
    /// A buffer that knows nothing, with memory to use when it needs some.
    pub fn empty(memory: Vec<u8>, now: SimTime) -> Buffer {
        Buffer { memory: memory.into(), since: now, ..Buffer::default() }
    }

    /// Whether all of `need` can be read now.
    pub fn holds(&self, need: Sectors) -> bool {
        self.valid & need == need && !self.memory.is_empty()
    }

    /// The bytes of a span that it holds.
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.memory.bytes().get(span.from..span.to).unwrap_or(&[])
    }

    /// Lends the bytes of a span that it holds.
    pub fn lend(&mut self, span: Span) -> Lent {
        self.memory.lend(span.from, span.to)
    }

    /// The only copy of something.
    pub fn is_unsaved(&self) -> bool {
        self.dirty | self.flying != 0
    }

    /// Something is under way.
    pub fn is_busy(&self) -> bool {
        self.is_filling || self.flights > 0
    }

    /// Its memory is with a write-out: neither read nor write it.
    pub fn is_away(&self) -> bool {
        self.flights > 0 && self.memory.is_empty()
    }

    /// A fill is under way.
    pub fn is_filling(&self) -> bool {
        self.is_filling
    }

    /// A write-out is under way.
    pub fn is_writing(&self) -> bool {
        self.flights > 0
    }

    /// Something is to be written out.
    pub fn is_dirty(&self) -> bool {
        self.dirty != 0
    }

    /// Knows nothing, waits for nothing.
    pub fn is_void(&self) -> bool {
        self.valid == 0 && !self.is_busy()
    }

    /// Dirty, and the last attempt to write it failed.
    pub fn is_stuck(&self) -> bool {
        self.dirty != 0 && self.flights == 0 && self.unwritten().is_some()
    }

    /// Dirty, and nothing speaks against writing it out.
    pub fn is_ready(&self) -> bool {
        self.dirty != 0 && self.flights == 0 && !self.is_stuck()
    }

    /// How often its write-out was begun.
    pub fn launches(&self) -> u32 {
        self.launches
    }

    /// When it became dirty, or clean.
    pub fn since(&self) -> SimTime {
        self.since
    }

    /// Why the last write-out failed.
    pub fn unwritten(&self) -> Option<Failure> {
        self.trouble.as_ref()?.unwritten
    }

    /// Why the last fill failed, if that concerns the sectors in `need`.
    pub fn unread(&self, need: Sectors) -> Option<Failure> {
        let (failure, asked) = self.trouble.as_ref()?.unread?;
        let named = match failure.error {
            IoError::Media(sector) => {
                let place = usize::try_from(sector.0 % u64::from(BLOCK_SECTORS)).unwrap_or(0);
                asked & sectors(small(place), 1)
            }
            _ => 0,
        };
        let bad = if named == 0 { asked } else { named };
        (need & bad != 0).then_some(failure)
    }

    /// As shown in `proc/bufcache`.
    pub fn state(&self) -> &'static str {
        if self.flights > 0 {
            "writing"
        } else if self.is_stuck() {
            "failed"
        } else if self.dirty != 0 {
            "dirty"
        } else if self.is_filling {
            "filling"
        } else {
            "clean"
        }
    }

    /// What the books say of it.
    pub fn tally(&self) -> Tally {
        let retry_at = self.trouble.as_ref().filter(|_| self.is_stuck()).map(|t| t.retry_at);
        Tally {
            is_busy: self.is_busy(),
            is_writing: self.flights > 0,
            is_unsaved: self.is_unsaved(),
            is_stuck: self.is_stuck(),
            dirty_from: self.is_ready().then_some(self.since),
            retry_at,
        }
    }

    /// Takes bytes in. The caller has seen that the buffer is not away, and that sectors which
    /// `data` fills only in part are valid.
    pub fn write_in(
        &mut self,
        span: Span,
        data: &[u8],
        touched: Sectors,
        copy: Copy,
        clock: &impl Clock,
    ) {
        if self.memory.is_empty() {
            self.memory = vec![0; BLOCK_BYTES].into();
        }
        self.memory.change(|bytes| {
            if let Some(room) = bytes.get_mut(span.from..span.to) {
                copy(room, data);
            }
        });
        if self.dirty == 0 {
            self.since = clock.now();
        }
        self.valid |= touched;
        self.dirty |= touched;
        self.stale &= !touched;
        self.is_fresh = false;
        self.is_ahead = false;
    }

    /// Begins to fetch what of `full`, the sectors of the block, is not there; where the last
    /// fill failed, only what of `need` is not there. Hands out the memory for it.
    pub fn begin_fill(&mut self, need: Sectors, full: Sectors) -> Option<Part> {
        if self.is_filling || self.is_away() {
            return None;
        }
        let failed = self.trouble.as_mut().and_then(|t| t.unread.take());
        let missing = if failed.is_some() { need } else { full } & !self.valid;
        if missing == 0 {
            return None;
        }
        let (first, count) = hull(missing);
        let mut memory = Vec::new();
        if self.valid == 0 {
            memory = self.memory.salvage();
        }
        memory.resize(usize::from(count) * SECTOR_SIZE, 0);
        self.is_filling = true;
        Some(Part { first, count, memory })
    }

    /// A fill is over: its memory comes back.
    pub fn land_fill(&mut self, part: Part, fate: Result<(), Failure>, now: SimTime) {
        let Part { first, count, memory } = part;
        let asked = sectors(first, count);
        self.is_filling = false;
        if self.dirty == 0 {
            self.since = now;
        }
        let fate = match fate {
            Ok(()) if memory.len() != usize::from(count) * SECTOR_SIZE => {
                Err(IoError::Hardware.into())
            }
            fate => fate,
        };
        match fate {
            Ok(()) => self.merge(first, asked, memory),
            Err(failure) => {
                self.trouble.get_or_insert_default().unread = Some((failure, asked));
                self.is_fresh = false;
                self.is_ahead = false;
            }
        }
        self.stale &= self.flying;
    }

    fn merge(&mut self, first: u8, asked: Sectors, mut memory: Vec<u8>) {
        let news = asked & !self.valid & !self.stale;
        if self.memory.is_empty() && first == 0 {
            memory.resize(BLOCK_BYTES, 0);
            self.memory = memory.into();
        } else {
            if self.memory.is_empty() {
                self.memory = vec![0; BLOCK_BYTES].into();
            }
            self.memory.change(|bytes| {
                let rooms = bytes.chunks_exact_mut(SECTOR_SIZE).skip(usize::from(first));
                for (n, (room, sector)) in rooms.zip(memory.chunks_exact(SECTOR_SIZE)).enumerate() {
                    if news & sectors(first + small(n), 1) != 0 {
                        room.copy_from_slice(sector);
                    }
                }
            });
        }
        self.valid |= news;
    }

    /// Begins a write-out of all dirty sectors, unless one is under way: the parts, ascending.
    pub fn take_dirty(&mut self, full: Sectors) -> Vec<Part> {
        let mut parts = Vec::new();
        if self.dirty == 0 || self.flights > 0 {
            return parts;
        }
        // A fill still under way would take the place of memory that is away for its own.
        if self.dirty == full && !self.is_filling {
            let mut memory = self.memory.take();
            let count = small(full.count_ones() as usize);
            memory.truncate(usize::from(count) * SECTOR_SIZE);
            parts.push(Part { first: 0, count, memory });
        } else {
            let mut left = self.dirty;
            while left != 0 {
                let first = small(left.trailing_zeros() as usize);
                let count = small((left >> first).trailing_ones() as usize);
                let from = usize::from(first) * SECTOR_SIZE;
                let to = from + usize::from(count) * SECTOR_SIZE;
                let memory = self.bytes(Span { from, to }).to_vec();
                parts.push(Part { first, count, memory });
                left &= !sectors(first, count);
            }
        }
        self.flights = small(parts.len());
        self.flying = self.dirty;
        self.dirty = 0;
        self.launches = self.launches.wrapping_add(1);
        parts
    }

    /// A part of a write-out is over. `since`: when what it wrote had become dirty.
    pub fn land_write(
        &mut self,
        part: Part,
        fate: Result<(), Failure>,
        since: SimTime,
        now: SimTime,
    ) -> Landing {
        let Part { first, count, mut memory } = part;
        let mask = sectors(first, count);
        self.flights = self.flights.saturating_sub(1);
        let is_lost = self.memory.is_empty() && memory.len() != usize::from(count) * SECTOR_SIZE;
        if is_lost {
            // A driver that panicked lost the memory: nothing is left that could be tried again.
            self.valid &= !mask;
        } else if self.memory.is_empty() {
            memory.resize(BLOCK_BYTES, 0);
            self.memory = memory.into();
        }
        self.flying &= !mask;
        if let Err(failure) = fate {
            self.trouble.get_or_insert_default().mishap = Some(failure);
            let again = mask & self.valid;
            if again != 0 {
                self.since = if self.dirty == 0 { since } else { self.since.min(since) };
                self.dirty |= again;
            }
        }
        self.valid &= !(self.stale & mask & !self.dirty);
        if !self.is_filling {
            self.stale &= self.flying;
        }
        if self.flights > 0 {
            return Landing::Partly;
        }
        self.conclude(now)
    }

    fn conclude(&mut self, now: SimTime) -> Landing {
        let mishap = self.trouble.as_mut().and_then(|t| t.mishap.take());
        let Some(failure) = mishap else {
            if let Some(trouble) = self.trouble.as_mut() {
                trouble.unwritten = None;
                trouble.failures = 0;
            }
            if self.dirty == 0 {
                self.since = now;
            }
            return Landing::Saved;
        };
        let trouble = self.trouble.get_or_insert_default();
        let is_first = trouble.unwritten.is_none();
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.unwritten = (self.dirty != 0).then_some(failure);
        Landing::Failed { is_first }
    }

    /// How often in a row it could not be written.
    pub fn failures(&self) -> u32 {
        self.trouble.as_ref().map_or(0, |t| t.failures)
    }

    /// Says when the next attempt is due.
    pub fn retry_at(&mut self, at: SimTime) {
        self.trouble.get_or_insert_default().retry_at = at;
    }

    /// The medium was changed by others: drops what is clean of `set`.
    pub fn drop_clean(&mut self, set: Sectors) {
        self.valid &= !(set & !self.dirty & !self.flying);
        self.stale |= self.flying & set;
        if self.is_filling {
            self.stale |= set & !self.dirty;
        }
    }

    /// Drops all of `set`, also the only copy. What flies lands, and is not kept then.
    pub fn forget(&mut self, set: Sectors) {
        self.dirty &= !set;
        self.drop_clean(set);
        if self.dirty == 0
            && let Some(trouble) = self.trouble.as_mut()
        {
            trouble.unwritten = None;
        }
    }

    /// Takes the memory of a buffer that is given up.
    pub fn into_memory(mut self) -> Vec<u8> {
        self.memory.salvage()
    }
}
