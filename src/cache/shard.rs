//! A shard of the cache: its buffers in order of use, its books, and what gives way when it is full.
//!
//! 1. `used <= quota`, except while the quota has just been made smaller.
//! 2. What gives way is the buffer not used for longest that is clean and idle. A dirty one that
//!    would be next is pushed to the medium first; busy ones, and those whose write fails, stay.
//! 3. The books (`Counts`, `groups`, the ledgers) are right whenever the lock is free: every change
//!    of a buffer that they note goes through [`Shard::change`] or [`Shard::book`].
//! 4. Buffers of a group ([`GROUP_BLOCKS`] neighbours) are always in the same shard.

use super::buffer::{BLOCK_BYTES, Buffer, Part, Sectors, Span, Tally};
use devices::SimTime;
use devices::engine::Engine;
use lru::LruCache;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blocks side by side that share a shard, a lock round and an entry of the dirty list: 64 KiB.
pub(super) const GROUP_BLOCKS: u64 = 16;

const DEV_SHIFT: u32 = 40;

/// Names a block of the machine: device and block number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    /// Most blocks of one device.
    pub const BLOCKS_MAX: u64 = 1 << DEV_SHIFT;
    /// Most devices over the life of a cache.
    pub const DEVICES_MAX: u64 = (1 << (u64::BITS - DEV_SHIFT)) - 1;
    /// All blocks of all devices.
    pub const ALL: Range<Key> = Key(0)..Key(u64::MAX);

    /// Block `block` of device `dev`.
    pub fn new(dev: u64, block: u64) -> Key {
        Key(dev << DEV_SHIFT | block)
    }

    pub fn dev(self) -> u64 {
        self.0 >> DEV_SHIFT
    }

    pub fn block(self) -> u64 {
        self.0 & (Key::BLOCKS_MAX - 1)
    }

    /// The next block of the same device.
    pub fn next(self) -> Key {
        Key(self.0 + 1)
    }

    fn group(self) -> u64 {
        self.0 / GROUP_BLOCKS
    }

    fn bit(self) -> u16 {
        1 << (self.0 % GROUP_BLOCKS)
    }

    /// Two bytes that spread neighbouring groups evenly (Fibonacci hashing, Knuth 6.4).
    pub fn spread(self) -> [usize; 2] {
        let [a, b, ..] = self.group().wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        [usize::from(a), usize::from(b)]
    }
}

/// What is counted of each device, and once more of the whole cache. Changed under shard locks.
#[derive(Default)]
pub(super) struct Ledger {
    /// Buffers that are the only copy of something.
    pub unsaved: AtomicUsize,
    /// Of these, those whose last write-out failed.
    pub stuck: AtomicUsize,
}

/// The two ledgers that a change of a buffer is entered into.
#[derive(Clone, Copy)]
pub(super) struct Ledgers<'a> {
    pub device: &'a Ledger,
    pub cache: &'a Ledger,
}

impl Ledgers<'_> {
    fn enter(self, was: Tally, is: Tally) {
        for ledger in [self.device, self.cache] {
            shift(&ledger.unsaved, was.is_unsaved, is.is_unsaved);
            shift(&ledger.stuck, was.is_stuck, is.is_stuck);
        }
    }
}

fn shift(counter: &AtomicUsize, was: bool, is: bool) {
    if is && !was {
        counter.fetch_add(1, Ordering::AcqRel);
    } else if was && !is {
        counter.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How many buffers of a shard are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub busy: usize,
    pub writing: usize,
    pub unsaved: usize,
    pub stuck: usize,
}

impl Counts {
    fn enter(&mut self, was: Tally, is: Tally) {
        for (count, was, is) in [
            (&mut self.busy, was.is_busy, is.is_busy),
            (&mut self.writing, was.is_writing, is.is_writing),
            (&mut self.unsaved, was.is_unsaved, is.is_unsaved),
            (&mut self.stuck, was.is_stuck, is.is_stuck),
        ] {
            *count = (*count + usize::from(is)) - usize::from(was);
        }
    }
}

/// The unsaved buffers among neighbours.
#[derive(Clone, Copy)]
struct Group {
    unsaved: u16,
    /// None of them has been dirty for longer; `u64::MAX` where all are on their way.
    from: SimTime,
}

/// How much of a shard may be unsaved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    /// The updater begins early.
    pub wake: usize,
    /// Writers wait.
    pub high: usize,
    /// Writers get errors: nothing more is taken while what is stuck stays stuck.
    pub top: usize,
    /// What healthy devices may have unsaved while others' stuck buffers fill `high`.
    pub spare: usize,
}

/// Whether one more buffer may become dirty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Yes,
    /// When some have been written.
    Wait,
    /// Never, as long as the writes of the others fail.
    Full,
}

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

/// Why a write stopped.
pub(super) enum Stop {
    /// The block must be fetched first.
    Fill,
    /// The buffer's memory is away.
    Away,
    /// There is no room for the buffer.
    Room(Room),
    /// Too much is unsaved.
    Throttle(Admission),
}

/// How bytes are taken in.
pub(super) struct Taking<'a> {
    /// log2 of the bytes that the unit can write by themselves.
    pub unit_shift: u32,
    /// What may give way.
    pub victims: Victims,
    /// For the time, asked only when a buffer becomes dirty.
    pub engine: &'a Engine,
    pub ledgers: Ledgers<'a>,
}

/// Whether a full shard may begin to write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Victims {
    /// Ask for a push where the oldest is dirty.
    InOrder,
    /// Take the oldest clean one.
    Clean,
}

/// See the head of this file.
pub(super) struct Shard {
    /// log2 of the number of shards that this one was filled for.
    pub bits: u32,
    pub counts: Counts,
    pub marks: Marks,
    pub hits: u64,
    pub misses: u64,
    quota: usize,
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
            lru: LruCache::unbounded(),
            groups: BTreeMap::new(),
        }
    }

    /// Sets how many buffers it may hold, and of these how many percent may be unsaved before the
    /// updater begins early, and before writers wait.
    pub fn set_quota(&mut self, quota: usize, wake_percent: usize, high_percent: usize) {
        let part = |percent: usize| (quota * percent / 100).max(1);
        self.quota = quota;
        self.marks = Marks {
            wake: part(wake_percent),
            high: part(high_percent),
            top: part(high_percent + (100 - high_percent) / 2),
            spare: part(10),
        };
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

    /// Copies bytes of neighbouring blocks out, from byte `offset` of block `key` on, up to the
    /// first one that is not there: how many, and whether one of them had been read ahead. What
    /// is read to the end of its block sinks where `is_ageing`.
    pub fn copy_out(
        &mut self,
        mut key: Key,
        mut offset: usize,
        out: &mut [u8],
        is_ageing: bool,
    ) -> (usize, bool) {
        let (mut done, mut was_ahead) = (0, false);
        while let Some(left) = out.get_mut(done..).filter(|left| !left.is_empty()) {
            let span = Span { from: offset, to: BLOCK_BYTES.min(offset + left.len()) };
            let Some(buffer) = self.lru.get_mut(&key) else { break };
            if !buffer.holds(span.touched(9)) {
                break;
            }
            let len = span.to - span.from;
            left[..len].copy_from_slice(buffer.bytes(span));
            self.hits += u64::from(!buffer.is_fresh);
            was_ahead |= buffer.is_ahead;
            buffer.is_fresh = false;
            buffer.is_ahead = false;
            if is_ageing && span.to == BLOCK_BYTES {
                self.lru.demote(&key);
            }
            done += len;
            offset = 0;
            key = key.next();
        }
        (done, was_ahead)
    }

    /// Takes bytes into one block.
    pub fn copy_in(
        &mut self,
        key: Key,
        span: Span,
        data: &[u8],
        taking: &Taking<'_>,
    ) -> Result<(), Stop> {
        let shift = taking.unit_shift;
        let (touched, covered) = (span.touched(shift), span.covered(shift));
        let admission = self.admission();
        if let Some(buffer) = self.lru.get_mut(&key) {
            if buffer.is_away() {
                return Err(Stop::Away);
            }
            let in_part = touched & !covered;
            if in_part != 0 && !buffer.holds(in_part) {
                return Err(Stop::Fill);
            }
            if !buffer.is_unsaved() && admission != Admission::Yes {
                return Err(Stop::Throttle(admission));
            }
            let was = buffer.tally();
            buffer.write_in(span, data, touched, taking.engine);
            let is = buffer.tally();
            self.book(key, was, is, taking.ledgers);
            return Ok(());
        }
        if touched != covered {
            return Err(Stop::Fill);
        }
        if admission != Admission::Yes {
            return Err(Stop::Throttle(admission));
        }
        match self.make_room(taking.victims) {
            Room::Memory(memory) => {
                let mut buffer = Buffer::empty(memory, SimTime(0));
                buffer.write_in(span, data, touched, taking.engine);
                let is = buffer.tally();
                self.lru.push(key, buffer);
                self.book(key, Tally::default(), is, taking.ledgers);
                Ok(())
            }
            room => Err(Stop::Room(room)),
        }
    }

    /// Begins to fetch a block, as far as it is not there: `Ok(None)` where nothing is to fetch.
    pub fn begin_fill(
        &mut self,
        key: Key,
        fill: Fill,
        now: SimTime,
        ledgers: Ledgers<'_>,
    ) -> Result<Option<Part>, Room> {
        if self.lru.peek(&key).is_none() {
            match self.make_room(fill.victims) {
                Room::Memory(memory) => self.lru.push(key, Buffer::empty(memory, now)),
                room => return Err(room),
            };
        }
        let part = self.change(key, ledgers, |buffer| {
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
        ledgers: Ledgers<'_>,
        change: impl FnOnce(&mut Buffer) -> R,
    ) -> Option<R> {
        let buffer = self.lru.peek_mut(&key)?;
        let was = buffer.tally();
        let result = change(buffer);
        let is = buffer.tally();
        let is_void = buffer.is_void();
        self.book(key, was, is, ledgers);
        if is_void {
            // Kept for the reason why it could not be read, but the first to give way.
            self.lru.demote(&key);
        }
        Some(result)
    }

    fn book(&mut self, key: Key, was: Tally, is: Tally, ledgers: Ledgers<'_>) {
        if was == is {
            return;
        }
        self.counts.enter(was, is);
        ledgers.enter(was, is);
        if is.is_unsaved {
            let group = Group { unsaved: 0, from: SimTime(u64::MAX) };
            let group = self.groups.entry(key.group()).or_insert(group);
            group.unsaved |= key.bit();
            group.from = is.dirty_from.map_or(group.from, |from| group.from.min(from));
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
        let (marks, counts) = (self.marks, self.counts);
        let healthy = counts.unsaved - counts.stuck;
        if counts.unsaved < marks.high
            || (counts.stuck > 0 && counts.unsaved < marks.top && healthy < marks.spare)
        {
            Admission::Yes
        } else if healthy > 0 {
            Admission::Wait
        } else {
            Admission::Full
        }
    }

    /// Whether [`Shard::make_room`] could now do better than [`Room::Wait`].
    pub fn may_make_room(&self) -> bool {
        let (used, counts) = (self.lru.len(), self.counts);
        used < self.quota || used > counts.busy + counts.stuck || used == counts.stuck
    }

    /// Makes room for one more buffer; see invariant 2.
    pub fn make_room(&mut self, victims: Victims) -> Room {
        if self.lru.len() < self.quota { Room::Memory(Vec::new()) } else { self.evict(victims) }
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

    /// The buffers that were dirty at `cutoff`, in groups where one is that was at `first`.
    pub fn due(&mut self, first: SimTime, cutoff: SimTime, out: &mut Vec<Key>) {
        for (group, held) in &mut self.groups {
            if held.from > first {
                continue;
            }
            let mut from = SimTime(u64::MAX);
            for key in held.keys(*group) {
                let Some(buffer) = self.lru.peek(&key) else { continue };
                let Some(dirty_from) = buffer.tally().dirty_from else { continue };
                if dirty_from <= cutoff && !buffer.is_writing() {
                    out.push(key);
                } else {
                    from = from.min(dirty_from);
                }
            }
            held.from = from;
        }
    }

    /// Since when the oldest dirty buffer is dirty, or before that.
    pub fn oldest(&self) -> Option<SimTime> {
        self.groups.values().map(|group| group.from).min().filter(|from| from.0 < u64::MAX)
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
        ledgers: Ledgers<'_>,
        mut change: impl FnMut(Key, &mut Buffer),
    ) {
        for key in self.present(range) {
            let is_void = self.change(key, ledgers, |buffer| {
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

    /// Puts in what was drained from another shard; the ledgers have it already.
    pub fn refill(&mut self, key: Key, buffer: Buffer) {
        let none = Ledger::default();
        let is = buffer.tally();
        self.lru.push(key, buffer);
        self.book(key, Tally::default(), is, Ledgers { device: &none, cache: &none });
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

impl Group {
    fn keys(self, group: u64) -> impl Iterator<Item = Key> {
        let all = (0..GROUP_BLOCKS).map(move |n| Key(group * GROUP_BLOCKS + n));
        all.filter(move |key| self.unsaved & key.bit() != 0)
    }
}
