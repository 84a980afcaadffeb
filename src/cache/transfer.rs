//! Bytes in and out of the cache: hits, misses, waits, and the throttle of writers.
//!
//! A call comes in two tempers. The quick one never sleeps: it is done with what is cached, and
//! with what turning the engine's crank completes at once; otherwise it says that it would wait.
//! The patient one is called then, on a thread that may wait, and finds under way what the quick
//! one began. All that a call misses is submitted before its first wait.

use super::books::{Admission, GROUP, GROUP_BLOCKS, Key};
use super::buffer::{BLOCK_BYTES, Buffer, Part, Span};
use super::copy;
use super::device::CachedDevice;
use super::shard::{Copied, Fill, Place, Room, Stop, Taking, Victims};
use crate::error::Error;
use crate::lent::Lent;
use crate::sync::Arc;
use devices::{Class, Clock, Failure, Interrupt, Origin, Rejected, Request, Sector};
use std::sync::atomic::Ordering::Relaxed;

/// Times that a quick call looks again after turning the crank.
const QUICK_ROUNDS: u32 = 4;

/// Bytes of a group of blocks, which one lock round may take.
const GROUP_BYTES: u64 = GROUP_BLOCKS * BLOCK_BYTES as u64;

/// Whether a call may sleep.
#[derive(Clone, Copy)]
enum Temper<'a> {
    Quick,
    Patient(&'a Interrupt),
}

/// How far fills were begun.
struct Begun {
    /// All before this byte are there or under way.
    until: u64,
    /// Why not all.
    stop: Option<Room>,
}

/// Bytes from `at` on that lie in one group of blocks, at most `left`.
fn in_group(at: u64, left: usize) -> usize {
    let room = GROUP_BYTES - at % GROUP_BYTES;
    left.min(usize::try_from(room).unwrap_or(left))
}

/// The parts of `len` bytes from `at` on that lie in one group of blocks each.
fn groups(at: u64, len: usize) -> impl Iterator<Item = (u64, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let pos = at + done as u64;
        let part = in_group(pos, len - done);
        done += part;
        (part > 0).then_some((pos, part))
    })
}

/// The place of byte `at` in its block.
fn offset(at: u64) -> usize {
    usize::try_from(at % BLOCK_BYTES as u64).unwrap_or(0)
}

/// The part of block that bytes `at..` of a length `left` touch.
fn span(at: u64, left: usize) -> Span {
    let from = offset(at);
    Span { from, to: BLOCK_BYTES.min(from + left) }
}

impl CachedDevice {
    /// Reads, without sleeping. `false`: it would have to; call [`CachedDevice::read_wait`], the
    /// bytes are undefined until then.
    ///
    /// # Errors
    /// The device's where a block cannot be read; `ENOSPC` outside the unit.
    pub fn read(self: &Arc<Self>, origin: Origin, at: u64, buf: &mut [u8]) -> Result<bool, Error> {
        self.read_as(origin, at, buf, Temper::Quick)
    }

    /// Reads, waiting for the device where it must.
    ///
    /// # Errors
    /// As [`CachedDevice::read`]; `EINTR` when called away.
    pub fn read_wait(
        self: &Arc<Self>,
        origin: Origin,
        at: u64,
        buf: &mut [u8],
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        self.read_as(origin, at, buf, Temper::Patient(interrupt)).map(drop)
    }

    /// Whether all of these bytes are in the cache now.
    #[must_use]
    pub fn holds(&self, at: u64, len: usize) -> bool {
        groups(at, len).all(|(pos, len)| {
            let key = self.key(pos);
            self.cache.shard(key).holds(key, offset(pos), len)
        })
    }

    /// Reads without copying: the bytes, in order, if all of them are there, as
    /// [`CachedDevice::holds`] has told. `None`: they have gone meanwhile.
    ///
    /// # Errors
    /// `ENOSPC` outside the unit.
    pub fn lend(
        self: &Arc<Self>,
        origin: Origin,
        at: u64,
        len: usize,
    ) -> Result<Option<Vec<Lent>>, Error> {
        self.check(at, len as u64)?;
        let run = self.readers.note(origin.pid, at, len as u64);
        let is_ageing = run.is_ageing(self.cache.capacity());
        let mut lent = Vec::with_capacity(len / BLOCK_BYTES + 2);
        let (mut hits, mut was_ahead) = (0, false);
        for (pos, part) in groups(at, len) {
            let key = self.key(pos);
            let read = self.cache.shard(key).lend_out(key, offset(pos), part, is_ageing, &mut lent);
            hits += read.hits;
            was_ahead |= read.was_ahead;
            if read.bytes < part {
                self.come_again(origin, at, at + len as u64, hits);
                return Ok(None);
            }
        }
        if was_ahead {
            self.read_ahead(origin, run, at + len as u64);
        }
        self.cache.note(origin, "hit step=2", || format!("{} {len} at {at}", self.name()));
        Ok(Some(lent))
    }

    /// Takes bytes, without sleeping: how many. What is taken is in the cache and will be written
    /// within the flush age. For the rest call [`CachedDevice::write_wait`]. A synchronous unit
    /// takes none.
    ///
    /// # Errors
    /// The device's where nothing could be taken; `EROFS`; `ENOSPC` outside the unit.
    pub fn write(self: &Arc<Self>, origin: Origin, at: u64, data: &[u8]) -> Result<usize, Error> {
        if self.is_synchronous() {
            self.check_writable()?;
            return self.check(at, data.len() as u64).map(|()| 0);
        }
        self.write_as(origin, at, data, Temper::Quick)
    }

    /// Takes bytes, waiting for the device where it must: how many, short of all of them only
    /// where an error stopped it; the next call tells which. On a synchronous unit they are
    /// durable on return.
    ///
    /// # Errors
    /// As [`CachedDevice::write`]; `EINTR` when called away before anything was taken.
    pub fn write_wait(
        self: &Arc<Self>,
        origin: Origin,
        at: u64,
        data: &[u8],
        interrupt: &Interrupt,
    ) -> Result<usize, Error> {
        if self.is_synchronous() {
            return self.write_through(origin, at, data, interrupt).map(|()| data.len());
        }
        self.take_delayed(origin, at, data, interrupt)
    }

    /// [`CachedDevice::write_wait`] of a unit that is not synchronous.
    pub(super) fn take_delayed(
        self: &Arc<Self>,
        origin: Origin,
        at: u64,
        data: &[u8],
        interrupt: &Interrupt,
    ) -> Result<usize, Error> {
        self.write_as(origin, at, data, Temper::Patient(interrupt))
    }

    fn read_as(
        self: &Arc<Self>,
        origin: Origin,
        at: u64,
        buf: &mut [u8],
        temper: Temper<'_>,
    ) -> Result<bool, Error> {
        self.check(at, buf.len() as u64)?;
        let end = at + buf.len() as u64;
        let run = self.readers.note(origin.pid, at, buf.len() as u64);
        let is_ageing = run.is_ageing(self.cache.capacity());
        let (mut pos, mut wants_more, mut hits) = (at, false, 0);
        let (mut tried, mut rounds) = (at, 0);
        while let Some(rest) = buf.get_mut(index(at, pos)..).filter(|rest| !rest.is_empty()) {
            let copied = self.copy_out(pos, rest, is_ageing);
            pos += copied.bytes as u64;
            hits += copied.hits;
            wants_more |= copied.was_ahead;
            if pos == end {
                break;
            }
            wants_more = true;
            let left = index(pos, end);
            if pos < tried
                && let Some(failure) = self.unread(pos, left)
            {
                return Err(Error::device(self.name(), failure));
            }
            if tried == at && matches!(temper, Temper::Quick) {
                self.cache
                    .note(origin, "miss step=2", || format!("{} {left} at {pos}", self.name()));
            }
            let begun = self.begin_rest(origin, pos, end, tried);
            tried = tried.max(begun.until);
            rounds += 1;
            match temper {
                Temper::Quick if rounds > QUICK_ROUNDS || !self.may_go_on(pos) => {
                    self.come_again(origin, at, end, hits);
                    return Ok(false);
                }
                Temper::Quick => {}
                Temper::Patient(i) if begun.until > pos => self.cache.wait_for(self.key(pos), i)?,
                Temper::Patient(i) => self.wait_for_memory(self.key(pos), begun.stop, i)?,
            }
        }
        if wants_more {
            self.read_ahead(origin, run, end);
        }
        let is_hit = tried == at && matches!(temper, Temper::Quick);
        let event = if is_hit { "hit step=2" } else { "copy step=9" };
        self.cache.note(origin, event, || format!("{} {} at {at}", self.name(), buf.len()));
        Ok(true)
    }

    /// Copies up to the first byte that is not there.
    fn copy_out(&self, at: u64, out: &mut [u8], is_ageing: bool) -> Copied {
        let mut sum = Copied::default();
        while sum.bytes < out.len() {
            let pos = at + sum.bytes as u64;
            let len = in_group(pos, out.len() - sum.bytes);
            let key = self.key(pos);
            let room = &mut out[sum.bytes..sum.bytes + len];
            let copied = self.cache.shard(key).copy_out(key, offset(pos), room, is_ageing);
            sum.bytes += copied.bytes;
            sum.hits += copied.hits;
            sum.was_ahead |= copied.was_ahead;
            if copied.bytes < len {
                break;
            }
        }
        sum
    }

    /// A quick read gives up: the patient one will read it all, and is to be counted alone.
    fn come_again(&self, origin: Origin, at: u64, end: u64, hits: u64) {
        self.readers.retract(origin.pid, at, end - at);
        let mut shard = self.cache.shard(self.key(at));
        shard.hits = shard.hits.wrapping_sub(hits);
    }

    /// Why the block at `at` could not be read, after somebody tried.
    fn unread(&self, at: u64, left: usize) -> Option<Failure> {
        let key = self.key(at);
        self.cache.shard(key).peek(key)?.unread(span(at, left).touched(self.unit_shift()))
    }

    /// Begins to fetch the block at `pos`, and what of the rest has not been tried by this call.
    fn begin_rest(self: &Arc<Self>, origin: Origin, pos: u64, end: u64, tried: u64) -> Begun {
        let block = span(pos, index(pos, end));
        let block_end = pos + (block.to - block.from) as u64;
        if tried <= pos {
            return self.begin_fills(origin, pos, index(pos, end), false);
        }
        let begun = self.begin_fills(origin, pos, index(pos, block_end), false);
        if begun.stop.is_some() {
            return begun;
        }
        self.begin_fills(origin, tried.max(block_end), index(tried.max(block_end), end), false)
    }

    /// For the quick: turns the crank. Whether the block at `pos` is worth another look.
    fn may_go_on(&self, pos: u64) -> bool {
        let key = self.key(pos);
        let is_under_way = || self.cache.shard(key).peek(key).is_none_or(Buffer::is_busy);
        self.cache.engine.crank() || !is_under_way()
    }

    /// Begins to fetch all that is not there of the bytes from `at` on.
    fn begin_fills(self: &Arc<Self>, origin: Origin, at: u64, len: usize, is_ahead: bool) -> Begun {
        let (mut pos, end) = (at, at + len as u64);
        let mut victims = if is_ahead { Victims::Clean } else { Victims::InOrder };
        let mut parts = Vec::new();
        let mut stop = None;
        while pos < end && stop.is_none() {
            let group_end = pos + in_group(pos, index(pos, end)) as u64;
            let mut shard = self.cache.shard(self.key(pos));
            while pos < group_end && stop.is_none() {
                let (key, span) = (self.key(pos), span(pos, index(pos, end)));
                let fill = Fill {
                    need: span.touched(self.unit_shift()),
                    full: self.full(key),
                    is_ahead,
                    victims,
                };
                match shard.begin_fill(key, fill, self.cache.engine.now(), &self.ledger) {
                    Ok(part) => {
                        parts.extend(part.map(|part| (key, part)));
                        pos += (span.to - span.from) as u64;
                    }
                    Err(room) => stop = Some(room),
                }
            }
            drop(shard);
            if let Some(Room::Push(keys)) = &stop
                && victims == Victims::InOrder
            {
                self.cache.push(keys);
                self.cache.engine.crank();
                victims = Victims::Clean;
                stop = None;
            }
        }
        self.submit_fills(origin, parts, is_ahead);
        Begun { until: pos, stop }
    }

    fn submit_fills(self: &Arc<Self>, origin: Origin, parts: Vec<(Key, Part)>, is_ahead: bool) {
        let work = &self.cache.work;
        if is_ahead {
            work.read_ahead.fetch_add(parts.len() as u64, Relaxed);
        }
        let mut behind = None;
        for (key, Part { first, count, memory }) in parts {
            let sector = Sector(key.block() * 8 + u64::from(first));
            if behind != Some(sector) {
                work.reads.fetch_add(1, Relaxed);
            }
            behind = Some(Sector(sector.0 + u64::from(count)));
            let device = Arc::clone(self);
            let done = Box::new(move |memory, fate| {
                device.filled(key, Part { first, count, memory }, fate);
            });
            if let Err(rejected) = self.unit.submit(Request::read(sector, memory, origin, done)) {
                let Rejected(failure, request) = *rejected;
                request.finish(Err(failure));
            }
        }
    }

    /// A fill is over.
    fn filled(&self, key: Key, part: Part, fate: Result<(), Failure>) {
        let now = self.cache.engine.now();
        if let Err(failure) = fate {
            log::debug!(target: "cache", "{}: block {}: {failure}", self.name(), key.block());
        }
        let ledger = &self.ledger;
        self.cache.shard(key).change(key, ledger, |buffer| buffer.land_fill(part, fate, now));
        self.cache.ring(key);
    }

    fn read_ahead(self: &Arc<Self>, origin: Origin, run: super::ahead::Run, end: u64) {
        let plan = self.readers.plan(origin.pid, run, end, self.size(), self.cache.capacity());
        if let Some(range) = plan {
            let origin = Origin { class: Class::Background, ..origin };
            self.begin_fills(origin, range.start, index(range.start, range.end), true);
            self.cache.engine.crank();
        }
    }

    /// Waits until there may be room for a buffer.
    fn wait_for_memory(&self, key: Key, stop: Option<Room>, i: &Interrupt) -> Result<(), Error> {
        match stop {
            Some(Room::Full) => Err(self.no_room()),
            _ => self.cache.wait_for_room(i, || self.cache.shard(key).may_make_room()),
        }
    }

    fn write_as(
        self: &Arc<Self>,
        origin: Origin,
        at: u64,
        data: &[u8],
        temper: Temper<'_>,
    ) -> Result<usize, Error> {
        self.check_writable()?;
        self.check(at, data.len() as u64)?;
        let end = at + data.len() as u64;
        let (mut done, mut rounds, mut tried) = (0, 0, None);
        let mut victims = Victims::InOrder;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let (taken, stop) = self.copy_in(at + done as u64, rest, victims);
            done += taken;
            let Some(stop) = stop else { continue };
            let pos = at + done as u64;
            if taken > 0 {
                (rounds, victims) = (0, Victims::InOrder);
            }
            rounds += 1;
            if matches!(stop, Stop::Room(Room::Push(_))) {
                victims = Victims::Clean;
            }
            let step = match (&stop, tried) {
                (Stop::Fill, Some(last)) if last == pos => self.after_fill(pos, end),
                _ => Ok(()),
            };
            tried = matches!(stop, Stop::Fill).then_some(pos);
            match step.and_then(|()| self.overcome(origin, pos..end, stop, temper, rounds)) {
                Ok(true) => {}
                Ok(false) => return Ok(done),
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            }
        }
        Ok(done)
    }

    /// The error of a fill that was tried for a write.
    fn after_fill(&self, pos: u64, end: u64) -> Result<(), Error> {
        match self.unread(pos, index(pos, end)) {
            Some(failure) => Err(Error::device(self.name(), failure)),
            None => Ok(()),
        }
    }

    /// Takes bytes in, up to the first block where something stands in the way.
    fn copy_in(&self, at: u64, data: &[u8], victims: Victims) -> (usize, Option<Stop>) {
        let taking = Taking {
            unit_shift: self.unit_shift(),
            is_failing: self.is_failing(),
            copy: copy::for_write(data.len()),
            victims,
            engine: &self.cache.engine,
            ledger: &self.ledger,
        };
        let (mut done, mut stop) = (0, None);
        while done < data.len() && stop.is_none() {
            let pos = at + done as u64;
            let group_end = done + in_group(pos, data.len() - done);
            let mut shard = self.cache.shard(self.key(pos));
            let was_below = shard.counts.unsaved < shard.marks.wake;
            let blocks = (offset(pos) + group_end - done).div_ceil(BLOCK_BYTES);
            let key = self.key(pos);
            // One block is looked up where it is written.
            let places =
                if blocks > 1 { shard.stand(key, blocks) } else { [Place::Unknown; GROUP] };
            for place in places {
                let pos = at + done as u64;
                let span = span(pos, group_end - done);
                let len = span.to - span.from;
                if len == 0 || stop.is_some() {
                    break;
                }
                match shard.copy_in(self.key(pos), span, &data[done..done + len], place, &taking) {
                    Ok(()) => done += len,
                    Err(why) => stop = Some(why),
                }
            }
            let is_over = was_below && shard.counts.unsaved >= shard.marks.wake;
            drop(shard);
            self.cache.updater.dirtied(is_over);
        }
        (done, stop)
    }

    /// Gets what stands in the way of a write out of it, in the so-manieth round at the same place.
    /// `false`: that would take sleep.
    fn overcome(
        self: &Arc<Self>,
        origin: Origin,
        range: std::ops::Range<u64>,
        stop: Stop,
        temper: Temper<'_>,
        round: u32,
    ) -> Result<bool, Error> {
        let (pos, key) = (range.start, self.key(range.start));
        let mut begun = Begun { until: pos, stop: None };
        let is_throttled = matches!(stop, Stop::Throttle(_));
        match stop {
            Stop::Fill => {
                let first = span(pos, index(pos, range.end));
                begun = self.begin_fills(origin, pos, first.to - first.from, false);
                if round == 1 {
                    // Not again: its buffer might take the place of one that tells why it failed.
                    self.begin_last_fill(origin, &range);
                }
            }
            Stop::Away => begun.until = range.end,
            Stop::Room(Room::Push(keys)) => {
                self.cache.push(&keys);
                self.cache.engine.crank();
                return Ok(true);
            }
            Stop::Room(room) => begun.stop = Some(room),
            Stop::Throttle(Admission::Wait) => {}
            Stop::Throttle(_) => return Err(self.no_room()),
        }
        match temper {
            Temper::Quick => Ok(!is_throttled && round <= QUICK_ROUNDS && self.may_go_on(pos)),
            Temper::Patient(i) if is_throttled => self.wait_until_admitted(key, i).map(|()| true),
            Temper::Patient(i) if begun.until > pos => self.cache.wait_for(key, i).map(|()| true),
            Temper::Patient(i) => self.wait_for_memory(key, begun.stop, i).map(|()| true),
        }
    }

    /// The last block of a write may have to be fetched too: begins that before the first wait.
    fn begin_last_fill(self: &Arc<Self>, origin: Origin, range: &std::ops::Range<u64>) {
        let last = range.end - 1 - (range.end - 1) % BLOCK_BYTES as u64;
        let span = Span { from: 0, to: index(last, range.end) };
        let shift = self.unit_shift();
        if last > range.start && span.touched(shift) != span.covered(shift) {
            self.begin_fills(origin, last, span.to, false);
        }
    }

    /// Writes something out and waits until one more buffer may become dirty.
    fn wait_until_admitted(self: &Arc<Self>, key: Key, i: &Interrupt) -> Result<(), Error> {
        self.relieve();
        self.cache.engine.crank();
        self.cache.wait_for_room(i, || {
            let shard = self.cache.shard(key);
            shard.admission() != Admission::Wait || shard.counts.writing == 0
        })
    }
}

/// Bytes from `from` to `to`.
pub(super) fn index(from: u64, to: u64) -> usize {
    usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX)
}
