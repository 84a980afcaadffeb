//! Read-ahead: when it begins, how far it goes, when it stops; and which blocks age.
//!
//! A reader (by its thread) that goes on where it stopped is sequential. From its second read on,
//! what it will ask for next is fetched, twice as far each time, from [`WINDOW_MIN`] to
//! [`WINDOW_MAX`] and never more than 1/64 of the cache. It goes on only when the reader comes to
//! what had been read ahead, or misses: where all is cached nothing is looked up in vain. It stops
//! with the first read elsewhere.
//!
//! A run longer than a quarter of the cache (and than [`AGE_MIN`]) will not be read again before
//! it is gone: what it has read to the end of the block sinks to the end of the order of use, so
//! that a long scan does not drive out what others need.

use super::buffer::BLOCK_BYTES;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first window, in bytes.
const WINDOW_MIN: u64 = 64 << 10;
/// The largest window, in bytes.
const WINDOW_MAX: u64 = 1 << 20;
/// The shortest run that ages, in bytes.
const AGE_MIN: u64 = 1 << 20;
/// Readers told apart; two of them that share a slot merely look less sequential.
const SLOTS: usize = 16;

/// The readers of one device.
pub(super) struct Readers {
    slots: [Slot; SLOTS],
    /// The largest window of this device, in bytes.
    window_max: AtomicU64,
}

impl Default for Readers {
    fn default() -> Readers {
        Readers { slots: Default::default(), window_max: AtomicU64::new(WINDOW_MAX) }
    }
}

/// One reader. Races on it cost a wrong guess, so each word stands for itself.
#[derive(Default)]
#[repr(align(64))]
struct Slot {
    /// Where its last read ended, in bytes.
    next: AtomicU64,
    /// Bytes read on end.
    run: AtomicU64,
    /// Read ahead up to here, in bytes.
    ahead: AtomicU64,
}

/// How a read continues the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Bytes on end, this read included.
    pub bytes: u64,
    /// Not the first one.
    pub is_sequential: bool,
}

impl Run {
    /// Whether its blocks sink once read, in a cache of so many bytes.
    pub fn is_ageing(self, cache_bytes: u64) -> bool {
        self.bytes > AGE_MIN.max(cache_bytes / 4)
    }
}

impl Readers {
    /// The largest window, in bytes.
    pub fn window_max(&self) -> u64 {
        self.window_max.load(Ordering::Relaxed)
    }

    /// Sets the largest window; 0 reads nothing ahead.
    pub fn set_window_max(&self, bytes: u64) {
        self.window_max.store(bytes, Ordering::Relaxed);
    }

    fn slot(&self, pid: u32) -> &Slot {
        &self.slots[pid as usize % SLOTS]
    }

    /// Notes a read.
    pub fn note(&self, pid: u32, at: u64, len: u64) -> Run {
        let slot = self.slot(pid);
        let is_sequential = at > 0 && slot.next.load(Ordering::Relaxed) == at;
        let before = if is_sequential { slot.run.load(Ordering::Relaxed) } else { 0 };
        slot.next.store(at + len, Ordering::Relaxed);
        slot.run.store(before + len, Ordering::Relaxed);
        if !is_sequential {
            slot.ahead.store(0, Ordering::Relaxed);
        }
        Run { bytes: before + len, is_sequential }
    }

    /// Takes a note back: the read comes again.
    pub fn retract(&self, pid: u32, at: u64, len: u64) {
        let slot = self.slot(pid);
        let before = slot.run.load(Ordering::Relaxed).saturating_sub(len);
        // What began a run is to begin it again, not to look like going on where it begins.
        let next = if before > 0 { at } else { u64::MAX };
        slot.next.store(next, Ordering::Relaxed);
        slot.run.store(before, Ordering::Relaxed);
    }

    /// What to fetch now for a sequential reader who came to `end`: bytes, of a unit of `size`.
    pub fn plan(
        &self,
        pid: u32,
        run: Run,
        end: u64,
        size: u64,
        cache_bytes: u64,
    ) -> Option<Range<u64>> {
        let most = self.window_max().min(cache_bytes / 64);
        if !run.is_sequential || most < BLOCK_BYTES as u64 {
            return None;
        }
        let slot = self.slot(pid);
        let window = (run.bytes.max(WINDOW_MIN / 2) * 2).min(most);
        let ahead = slot.ahead.load(Ordering::Relaxed).max(end);
        let until = (end + window).min(size);
        if ahead >= size || ahead > end + window / 2 {
            return None;
        }
        slot.ahead.store(until, Ordering::Relaxed);
        (until > ahead).then_some(ahead..until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_single_read_is_not_sequential_and_the_second_on_end_is() {
        let readers = Readers::default();
        let run = readers.note(7, 0, 4096);
        assert_eq!(readers.plan(7, run, 4096, MIB, 64 * MIB), None);
        let run = readers.note(7, 4096, 4096);
        assert_eq!(readers.plan(7, run, 8192, MIB, 64 * MIB), Some(8192..8192 + WINDOW_MIN));
    }

    #[test]
    fn a_first_read_that_comes_again_is_not_sequential() {
        let readers = Readers::default();
        readers.note(7, 512, 512);
        readers.retract(7, 512, 512);
        let run = readers.note(7, 512, 512);
        assert!(!run.is_sequential);
        readers.note(7, 1024, 512);
        readers.retract(7, 1024, 512);
        let run = readers.note(7, 1024, 512);
        assert_eq!((run.is_sequential, run.bytes), (true, 1024));
    }

    #[test]
    fn the_window_doubles_up_to_its_limit_and_ends_with_the_unit() {
        let readers = Readers::default();
        let size = 8 * MIB + 512;
        let (mut at, mut windows) = (0, Vec::new());
        while at < size {
            let len = (64 << 10).min(size - at);
            let run = readers.note(1, at, len);
            at += len;
            if let Some(range) = readers.plan(1, run, at, size, 64 * MIB) {
                assert!(range.end <= size && range.end - at <= WINDOW_MAX);
                windows.push(range);
            }
        }
        assert!(windows.windows(2).all(|w| w[0].end == w[1].start), "{windows:?}");
        assert_eq!(windows.last().unwrap().end, size);
        assert!(windows.len() < 24, "{windows:?}");
    }

    #[test]
    fn a_read_elsewhere_stops_it() {
        let readers = Readers::default();
        readers.note(1, 0, 4096);
        assert!(readers.note(1, 4096, 4096).is_sequential);
        assert!(!readers.note(1, 65536, 4096).is_sequential);
    }

    #[test]
    fn a_small_cache_reads_nothing_ahead() {
        let readers = Readers::default();
        readers.note(1, 0, 4096);
        let run = readers.note(1, 4096, 4096);
        assert_eq!(readers.plan(1, run, 8192, MIB, 8 * 4096), None);
    }

    #[test]
    fn only_a_run_longer_than_a_quarter_of_the_cache_ages() {
        let run = Run { bytes: 17 * MIB, is_sequential: true };
        assert!(run.is_ageing(64 * MIB));
        assert!(!run.is_ageing(128 * MIB));
        assert!(!Run { bytes: MIB, is_sequential: true }.is_ageing(MIB));
    }
}
