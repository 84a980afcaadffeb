//! What is counted: names of blocks, how many buffers are what, how many may be.

use super::buffer::Tally;
use devices::SimTime;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bits of a block's number in a key.
const DEV_SHIFT: u32 = 40;

/// Blocks side by side that share a shard, a lock round and an entry of the dirty list: 64 KiB.
pub(super) const GROUP_BLOCKS: u64 = GROUP as u64;
/// The same, as the length of an array.
pub(super) const GROUP: usize = 16;

/// Names a block of the machine: device and block number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(pub u64);

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

    pub fn group(self) -> u64 {
        self.0 / GROUP_BLOCKS
    }

    pub fn bit(self) -> u16 {
        1 << (self.0 % GROUP_BLOCKS)
    }

    /// Two bytes that spread neighbouring groups evenly (Fibonacci hashing, Knuth 6.4).
    pub fn spread(self) -> [usize; 2] {
        let [a, b, ..] = self.group().wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        [usize::from(a), usize::from(b)]
    }
}

/// In so many parts a device's unsaved buffers are counted, each in a line of its own of the
/// processors' caches: two that dirty buffers at the same time would wait for each other's line.
const STRIPES: usize = 16;

/// What is counted of each device. Changed under shard locks; a buffer is always counted in the
/// same stripe, so that one which is unsaved all the while is never missed.
#[derive(Default)]
pub(super) struct Ledger {
    unsaved: [Stripe; STRIPES],
    stuck: AtomicUsize,
}

#[derive(Default)]
#[repr(align(64))]
struct Stripe(AtomicUsize);

impl Ledger {
    /// Buffers that are the only copy of something.
    pub fn unsaved(&self) -> usize {
        self.unsaved.iter().map(|stripe| stripe.0.load(Ordering::Acquire)).sum()
    }

    /// Of these, those whose last write-out failed.
    pub fn stuck(&self) -> usize {
        self.stuck.load(Ordering::Acquire)
    }

    /// Enters a change of a buffer.
    pub fn enter(&self, key: Key, was: Tally, is: Tally) {
        let [_, stripe] = key.spread();
        shift(&self.unsaved[stripe % STRIPES].0, was.is_unsaved, is.is_unsaved);
        shift(&self.stuck, was.is_stuck, is.is_stuck);
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
    pub fn enter(&mut self, was: Tally, is: Tally) {
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
pub(super) struct Group {
    pub unsaved: u16,
    /// None of them that can be written has been dirty for longer; MAX: there is none.
    pub from: SimTime,
    /// None of those that failed is to be tried again sooner; MAX: there is none.
    pub retry: SimTime,
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

impl Marks {
    /// For a shard of `quota` buffers; each mark is at least one.
    pub fn new(quota: usize, wake_percent: usize, high_percent: usize) -> Marks {
        let part = |percent: usize| (quota * percent / 100).max(1);
        Marks {
            wake: part(wake_percent),
            high: part(high_percent),
            top: part(high_percent + (100 - high_percent.min(100)) / 2),
            spare: part(10),
        }
    }

    /// Whether one more buffer may become dirty.
    pub fn admission(self, counts: Counts) -> Admission {
        let healthy = counts.unsaved - counts.stuck;
        if counts.unsaved < self.high
            || (counts.stuck > 0 && counts.unsaved < self.top && healthy < self.spare)
        {
            Admission::Yes
        } else if healthy > 0 {
            Admission::Wait
        } else {
            Admission::Full
        }
    }
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

impl Group {
    /// None.
    pub const EMPTY: Group =
        Group { unsaved: 0, from: SimTime(u64::MAX), retry: SimTime(u64::MAX) };

    /// Counts a buffer in.
    pub fn note(&mut self, is: Tally) {
        self.from = is.dirty_from.map_or(self.from, |from| self.from.min(from));
        self.retry = is.retry_at.map_or(self.retry, |at| self.retry.min(at));
    }

    /// Its keys; `group` is the number of the group.
    pub fn keys(self, group: u64) -> impl Iterator<Item = Key> {
        let all = (0..GROUP_BLOCKS).map(move |n| Key(group * GROUP_BLOCKS + n));
        all.filter(move |key| self.unsaved & key.bit() != 0)
    }
}

/// What is due: dirty for so long, or to be tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub now: SimTime,
    /// Dirty for so many nanoseconds: due.
    pub age: u64,
    /// Dirty for so many: goes along with a neighbour that is due.
    pub along: u64,
}

impl Due {
    /// Whether one of a group may be due.
    pub fn has(&self, group: &Group) -> bool {
        self.now.since(group.from) >= self.age || group.retry <= self.now
    }

    /// Whether a buffer is, or goes along.
    pub fn takes(&self, tally: Tally) -> bool {
        tally.dirty_from.is_some_and(|from| self.now.since(from) >= self.along)
            || tally.retry_at.is_some_and(|at| at <= self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_device_and_block_and_orders_by_both() {
        let key = Key::new(3, Key::BLOCKS_MAX - 1);
        assert_eq!((key.dev(), key.block()), (3, Key::BLOCKS_MAX - 1));
        assert!(Key::new(2, 900) < Key::new(3, 0) && Key::new(3, 0) < Key::new(3, 1));
    }

    #[test]
    fn neighbouring_groups_spread_evenly_over_shards() {
        for stride in [1, 2, 8, 64, 2048] {
            let mut found = [0; 16];
            for n in 0..1600 {
                found[Key::new(1, n * stride * GROUP_BLOCKS).spread()[0] >> 4] += 1;
            }
            let (least, most) = (found.iter().min().unwrap(), found.iter().max().unwrap());
            assert!(*least >= 60 && *most <= 140, "stride {stride}: {found:?}");
        }
    }

    #[test]
    fn writers_wait_at_the_high_mark_and_fail_when_all_is_stuck() {
        let marks = Marks::new(100, 40, 60);
        let admission =
            |unsaved, stuck| marks.admission(Counts { unsaved, stuck, ..Counts::default() });
        assert_eq!(admission(59, 0), Admission::Yes);
        assert_eq!(admission(60, 0), Admission::Wait);
        assert_eq!(admission(60, 55), Admission::Yes, "healthy units keep a little room");
        assert_eq!(admission(70, 60), Admission::Wait);
        assert_eq!(admission(80, 80), Admission::Full);
        let one = Marks::new(1, 40, 60).admission(Counts { unsaved: 0, ..Counts::default() });
        assert_eq!(one, Admission::Yes, "a cache of one block takes writes");
    }
}
