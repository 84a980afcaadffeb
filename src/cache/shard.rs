//! A shard of the cache: its buffers in order of use, its books, and what gives way when full.
//!
//! 1. `used <= quota`, except while the quota has just been made smaller.
//! 2. What gives way is the buffer not used for longest that is clean and idle. A dirty one that
//!    would be next is pushed to the medium first; busy ones, and those whose write fails, stay.
//! 3. The books (`Counts`, `groups`, the ledger) are right whenever the lock is free: every change
//!    of a buffer that they note goes through [`Shard::change`] or [`Shard::book`].
//! 4. Buffers of a group ([`GROUP_BLOCKS`] neighbours) are always in the same shard.

mod intake;

pub(super) use intake::{Place, Stop, Taking};

use super::books::{Admission, Counts, Due, GROUP, GROUP_BLOCKS, Group, Key, Ledger, Marks};
use super::buffer::{BLOCK_BYTES, Buffer, Part, Sectors, Span, Tally};
use crate::lent::Lent;
use devices::SimTime;
use lru::LruCache;
use std::collections::BTreeMap;
use std::ops::Range;

/// Room for one more buffer.
pub(super) enum Room {
    /// Here, with memory that may hold anything.
    Memory(Vec<u8>),
    /// When these dirty ones have been written.
    Push(Vec<Key>),
    /// When something busy has landed.
    Wait,
    /// Never, as long as the writes of those that fill the shard fail.
    Full,
}

/// What was copied out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    pub bytes: usize,
    /// Blocks that nobody had to wait for.
    pub hits: u64,
    /// One of the blocks had been read ahead.
    pub was_ahead: bool,
}

/// Whether a full shard may begin to write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Victims {
    /// Ask for a push where the oldest is dirty.
    InOrder,
    /// Take the oldest clean one.
    Clean,
}

/// How a buffer was used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Again, before enough others came in that it need move in the order of use.
    Recent,
    /// It becomes the last one to give way.
    Now,
    /// It will not be used again before it is gone: it becomes the first one to give way.
    Last,
}

/// A shard for fewer buffers keeps the exact order of use; a larger one leaves a buffer where it
/// is until an eighth of as many others have come in since it was moved: where nothing comes in,
/// nothing gives way, and the order of use is nobody's business.
const EXACT_BUFFERS: usize = 1024;

/// The clock of the order of use.
#[derive(Default)]
struct Arrivals {
    /// Buffers that have come in so far, wrapping.
    tick: u32,
    /// After how many of them a buffer moves to the front when it is used again.
    slack: u32,
}

impl Arrivals {
    /// Whether a buffer that moved at that tick is to move to the front when it is used again: that
    /// touches its neighbours in the order, which costs more than reading a block.
    fn is_long_ago(&self, used_at: u32) -> bool {
        self.tick.wrapping_sub(used_at) >= self.slack
    }
}

/// See the head of this file.
pub(super) struct Shard {
    /// log2 of the number of shards that this one was filled for.
    pub bits: u32,
    pub counts: Counts,
    pub marks: Marks,
    /// Of all shards together, wrapping: a read that comes again is taken back from any of them.
    pub hits: u64,
    pub misses: u64,
    quota: usize,
    arrivals: Arrivals,
    lru: LruCache<Key, Buffer>,
    groups: BTreeMap<u64, Group>,
}

impl Shard {
    /// An empty shard that may hold nothing yet.
    pub fn new() -> Shard {
        Shard {
            bits: 0,
            counts: Counts::default(),
            marks: Marks::default(),
            hits: 0,
            misses: 0,
            quota: 0,
            arrivals: Arrivals::default(),
            lru: LruCache::unbounded(),
            groups: BTreeMap::new(),
        }
    }

    /// Sets how many buffers it may hold, and of these how many percent may be unsaved before the
    /// updater begins early, and before writers wait.
    pub fn set_quota(&mut self, quota: usize, wake_percent: usize, high_percent: usize) {
        self.quota = quota;
        let is_exact = quota < EXACT_BUFFERS;
        self.arrivals.slack =
            if is_exact { 0 } else { u32::try_from(quota / 8).unwrap_or(u32::MAX) };
        self.marks = Marks::new(quota, wake_percent, high_percent);
    }

    /// Buffers in it.
    pub fn used(&self) -> usize {
        self.lru.len()
    }

    /// Buffers it may hold.
    pub fn quota(&self) -> usize {
        self.quota
    }

    /// A buffer, without using it.
    pub fn peek(&self, key: Key) -> Option<&Buffer> {
        self.lru.peek(&key)
    }

    /// All buffers, the last used first.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Buffer)> {
        self.lru.iter().map(|(key, buffer)| (*key, buffer))
    }

    /// Copies bytes of neighbouring blocks of a group out, from byte `offset` of block `key` on, up
    /// to the first one that is not there. What is read to the end of its block sinks where
    /// `is_ageing`.
    pub fn copy_out(&mut self, key: Key, offset: usize, out: &mut [u8], is_ageing: bool) -> Copied {
        let mut done = 0;
        self.read_out((key, offset), out.len(), is_ageing, |buffer, span| {
            let len = span.to - span.from;
            out[done..done + len].copy_from_slice(buffer.bytes(span));
            done += len;
        })
    }

    /// The same without a copy: lends the bytes.
    pub fn lend_out(
        &mut self,
        key: Key,
        offset: usize,
        len: usize,
        is_ageing: bool,
        out: &mut Vec<Lent>,
    ) -> Copied {
        let (mut spans, mut blocks) = ([Span::default(); GROUP], 0);
        let copied = self.read_out((key, offset), len, is_ageing, |_, span| {
            spans[blocks] = span;
            blocks += 1;
        });
        let mut key = key;
        for span in &spans[..blocks] {
            out.extend(self.lru.peek_mut(&key).map(|buffer| buffer.lend(*span)));
            key = key.next();
        }
        copied
    }

    /// Whether neighbouring blocks of a group hold `len` bytes from byte `offset` of the first on.
    pub fn holds(&self, key: Key, offset: usize, len: usize) -> bool {
        let blocks = (offset + len).div_ceil(BLOCK_BYTES);
        let spans = (0..blocks).map(|n| Span {
            from: if n == 0 { offset } else { 0 },
            to: BLOCK_BYTES.min(offset + len - n * BLOCK_BYTES),
        });
        let found = self.look_up(key, blocks);
        let holds = |(buffer, span): (&Option<&Buffer>, Span)| {
            buffer.is_some_and(|buffer| buffer.holds(span.touched(9)))
        };
        found.iter().zip(spans).all(holds)
    }

    /// Reads bytes of neighbouring blocks of a group, block by block, as far as they are there.
    fn read_out(
        &mut self,
        (key, offset): (Key, usize),
        len: usize,
        is_ageing: bool,
        mut read: impl FnMut(&Buffer, Span),
    ) -> Copied {
        let found = self.look_up(key, (offset + len).div_ceil(BLOCK_BYTES));
        let (mut copied, mut from, mut blocks) = (Copied::default(), offset, 0);
        let mut uses = [Use::Recent; GROUP];
        for (buffer, mark) in found.iter().map_while(|buffer| *buffer).zip(&mut uses) {
            let span = Span { from, to: BLOCK_BYTES.min(from + len - copied.bytes) };
            if !buffer.holds(span.touched(9)) {
                break;
            }
            let len = span.to - span.from;
            read(buffer, span);
            copied.hits += u64::from(!buffer.is_fresh);
            copied.was_ahead |= buffer.is_ahead;
            if is_ageing && span.to == BLOCK_BYTES {
                *mark = Use::Last;
            } else if buffer.is_fresh
                || buffer.is_ahead
                || self.arrivals.is_long_ago(buffer.used_at)
            {
                *mark = Use::Now;
            }
            copied.bytes += len;
            (from, blocks) = (0, blocks + 1);
        }
        let mut key = key;
        for mark in &uses[..blocks] {
            self.mark_used(key, *mark);
            key = key.next();
        }
        self.hits = self.hits.wrapping_add(copied.hits);
        copied
    }

    /// The buffers of neighbouring blocks. All are looked up before the first is used, so that the
    /// processor waits for their places in memory together and not for one after the other.
    fn look_up(&self, key: Key, blocks: usize) -> [Option<&Buffer>; GROUP] {
        let (mut found, mut key) = ([None; GROUP], key);
        for place in found.iter_mut().take(blocks) {
            *place = self.lru.peek(&key);
            key = key.next();
        }
        found
    }

    /// One more, the last to give way.
    fn insert(&mut self, key: Key, mut buffer: Buffer) {
        self.arrivals.tick = self.arrivals.tick.wrapping_add(1);
        buffer.used_at = self.arrivals.tick;
        self.lru.push(key, buffer);
    }

    fn mark_used(&mut self, key: Key, how: Use) {
        if how == Use::Recent {
            return;
        }
        if let Some(buffer) = self.lru.get_mut(&key) {
            buffer.is_fresh = false;
            buffer.is_ahead = false;
            buffer.used_at = self.arrivals.tick;
        }
        if how == Use::Last {
            self.lru.demote(&key);
        }
    }

    /// Begins to fetch a block, as far as it is not there: `Ok(None)` where nothing is to fetch.
    pub fn begin_fill(
        &mut self,
        key: Key,
        fill: Fill,
        now: SimTime,
        ledger: &Ledger,
    ) -> Result<Option<Part>, Room> {
        if self.lru.peek(&key).is_none() {
            match self.make_room(fill.victims) {
                Room::Memory(memory) => self.insert(key, Buffer::empty(memory, now)),
                room => return Err(room),
            };
        }
        let part = self.change(key, ledger, |buffer| {
            if buffer.holds(fill.need) {
                return None;
            }
            let part = buffer.begin_fill(fill.need, fill.full);
            if part.is_some() {
                buffer.is_fresh = !fill.is_ahead;
                buffer.is_ahead = fill.is_ahead;
            }
            part
        });
        let part = part.flatten();
        self.misses += u64::from(part.is_some() && !fill.is_ahead);
        Ok(part)
    }

    /// Changes a buffer and enters that into the books. `None`: there is no such buffer.
    pub fn change<R>(
        &mut self,
        key: Key,
        ledger: &Ledger,
        change: impl FnOnce(&mut Buffer) -> R,
    ) -> Option<R> {
        let buffer = self.lru.peek_mut(&key)?;
        let was = buffer.tally();
        let result = change(buffer);
        let is = buffer.tally();
        let is_void = buffer.is_void();
        self.book(key, was, is, ledger);
        if is_void {
            // Kept for the reason why it could not be read, but the first to give way.
            self.lru.demote(&key);
        }
        Some(result)
    }

    fn book(&mut self, key: Key, was: Tally, is: Tally, ledger: &Ledger) {
        if was != is {
            ledger.enter(key, was, is);
            self.enter(key, was, is);
        }
    }

    fn enter(&mut self, key: Key, was: Tally, is: Tally) {
        self.counts.enter(was, is);
        if is.is_unsaved {
            let group = self.groups.entry(key.group()).or_insert(Group::EMPTY);
            group.unsaved |= key.bit();
            group.note(is);
        } else if was.is_unsaved
            && let Some(group) = self.groups.get_mut(&key.group())
        {
            group.unsaved &= !key.bit();
            if group.unsaved == 0 {
                self.groups.remove(&key.group());
            }
        }
    }

    /// Whether one more buffer may become dirty.
    pub fn admission(&self) -> Admission {
        self.marks.admission(self.counts)
    }

    /// Whether [`Shard::make_room`] could now do better than [`Room::Wait`].
    pub fn may_make_room(&self) -> bool {
        let (used, counts) = (self.lru.len(), self.counts);
        used < self.quota || used > counts.busy + counts.stuck || used == counts.stuck
    }

    /// Makes room for one more buffer; see invariant 2.
    pub fn make_room(&mut self, victims: Victims) -> Room {
        let mut memory = Vec::new();
        while self.lru.len() >= self.quota {
            match self.evict(victims) {
                Room::Memory(found) => memory = found,
                room => return room,
            }
        }
        Room::Memory(memory)
    }

    /// Drops buffers until the quota holds. `Room::Memory`: it does.
    pub fn shrink(&mut self) -> Room {
        while self.lru.len() > self.quota {
            match self.evict(Victims::InOrder) {
                Room::Memory(_) => {}
                room => return room,
            }
        }
        Room::Memory(Vec::new())
    }

    fn evict(&mut self, victims: Victims) -> Room {
        let (mut push, mut stay, mut victim) = (Vec::new(), Vec::new(), None);
        for (key, buffer) in self.lru.iter().rev() {
            if buffer.is_stuck() {
                stay.push(*key);
            } else if !buffer.is_busy() && !buffer.is_unsaved() {
                victim = Some(*key);
                break;
            } else if buffer.is_ready() && victims == Victims::InOrder {
                push = self.dirty_beside(*key);
                break;
            }
        }
        for key in &stay {
            self.lru.promote(key); // not looked at again and again
        }
        if let Some(buffer) = victim.and_then(|key| self.lru.pop(&key)) {
            return Room::Memory(buffer.into_memory());
        }
        if !push.is_empty() {
            return Room::Push(push);
        }
        if self.counts.stuck >= self.lru.len() { Room::Full } else { Room::Wait }
    }

    /// The dirty buffers of a group that can be written now.
    fn dirty_beside(&self, key: Key) -> Vec<Key> {
        let first = key.group() * GROUP_BLOCKS;
        let neighbours = (first..first + GROUP_BLOCKS).map(Key);
        neighbours.filter(|key| self.lru.peek(key).is_some_and(Buffer::is_ready)).collect()
    }

    /// The unsaved buffers of `keys`, ascending.
    pub fn unsaved(&self, keys: &Range<Key>) -> impl Iterator<Item = (Key, &Buffer)> {
        let groups = keys.start.group()..=keys.end.group();
        let found = self.groups.range(groups).flat_map(|(group, held)| held.keys(*group));
        let found = found.filter(move |key| keys.contains(key));
        found.filter_map(|key| Some((key, self.lru.peek(&key)?)))
    }

    /// The buffers of `keys` that are due, and their neighbours that go along; no further group
    /// once `most` are found.
    pub fn due(&mut self, keys: &Range<Key>, due: Due, most: usize, out: &mut Vec<Key>) {
        let most = out.len() + most;
        for (group, held) in self.groups.range_mut(keys.start.group()..=keys.end.group()) {
            if out.len() >= most {
                break;
            }
            if !due.has(held) {
                continue;
            }
            let mut left = Group { unsaved: held.unsaved, ..Group::EMPTY };
            for key in held.keys(*group).filter(|key| keys.contains(key)) {
                // What is on its way is noted again when it lands.
                let tally = self.lru.peek(&key).map(Buffer::tally).unwrap_or_default();
                if due.takes(tally) {
                    out.push(key);
                } else {
                    left.note(tally);
                }
            }
            *held = left;
        }
    }

    /// Of `keys`: since when the oldest is dirty, and when the first is to be tried again; or
    /// before that.
    pub fn oldest(&self, keys: &Range<Key>) -> (SimTime, SimTime) {
        let groups = self.groups.range(keys.start.group()..=keys.end.group());
        groups.fold((SimTime(u64::MAX), SimTime(u64::MAX)), |(from, retry), (_, group)| {
            (from.min(group.from), retry.min(group.retry))
        })
    }

    /// The keys of `range` that have a buffer here.
    fn present(&self, range: &Range<Key>) -> Vec<Key> {
        if range.end.0 - range.start.0 <= GROUP_BLOCKS * 4 {
            let keys = (range.start.0..range.end.0).map(Key);
            keys.filter(|key| self.lru.contains(key)).collect()
        } else {
            let keys = self.lru.iter().map(|(key, _)| *key);
            keys.filter(|key| range.contains(key)).collect()
        }
    }

    /// Changes all buffers of `range`, and removes those that know nothing after.
    pub fn sweep(
        &mut self,
        range: &Range<Key>,
        ledger: &Ledger,
        mut change: impl FnMut(Key, &mut Buffer),
    ) {
        for key in self.present(range) {
            let is_void = self.change(key, ledger, |buffer| {
                change(key, buffer);
                buffer.is_void()
            });
            if is_void == Some(true) {
                self.lru.pop(&key);
            }
        }
    }

    /// Removes the buffers of `range` that are clean and idle.
    pub fn drop_clean(&mut self, range: &Range<Key>) {
        for key in self.present(range) {
            if self.lru.peek(&key).is_some_and(|b| !b.is_busy() && !b.is_unsaved()) {
                self.lru.pop(&key);
            }
        }
    }

    /// Takes everything out, the last used last. The books are empty then.
    pub fn drain(&mut self) -> Vec<(Key, Buffer)> {
        self.groups.clear();
        self.counts = Counts::default();
        std::iter::from_fn(|| self.lru.pop_lru()).collect()
    }

    /// Puts in what was drained from another shard; the ledger has it already.
    pub fn refill(&mut self, key: Key, buffer: Buffer) {
        let is = buffer.tally();
        self.insert(key, buffer);
        self.enter(key, Tally::default(), is);
    }

    /// Whether the books are right: for tests.
    #[cfg(test)]
    pub fn audit(&self) {
        let mut counts = Counts::default();
        for (key, buffer) in self.iter() {
            counts.enter(Tally::default(), buffer.tally());
            let group = self.groups.get(&key.group());
            let is_listed = group.is_some_and(|g| g.unsaved & key.bit() != 0);
            assert_eq!(is_listed, buffer.is_unsaved(), "dirty list, {key:?}");
            if let Some(from) = buffer.tally().dirty_from {
                assert!(group.is_some_and(|g| g.from <= from), "age of the group of {key:?}");
            }
        }
        assert_eq!(counts, self.counts);
        assert!(self.used() <= self.quota, "{} buffers of {}", self.used(), self.quota);
    }
}

/// What is fetched, and how hard it is tried.
#[derive(Clone, Copy)]
pub(super) struct Fill {
    /// The sectors asked for.
    pub need: Sectors,
    /// All sectors of the block.
    pub full: Sectors,
    /// Nobody has asked for it yet.
    pub is_ahead: bool,
    /// What may give way.
    pub victims: Victims,
}
