//! The order of requests, with several threads that read them.
//!
//! The host queues requests, numbers them as it does, and gives them to readers in that order. For
//! the answers to nearly all of them somebody waits, so that what he asks next comes later. But
//! close(2) returns without waiting for RELEASE: a reader that has just taken it may be overtaken
//! by another with what the closer asks next. Then a tape would be busy though nobody has it, and
//! a printed file not yet a job.
//!
//! 1. A fenced request begins when every RELEASE queued before it has ended. All are fenced but
//!    FORGET, and READ and WRITE of disks, of which none cares.
//! 2. The numbers are even, two apart. One that nobody has seen may be a RELEASE in another
//!    reader's hands; that of a RELEASE is seen when it has ended, others when they begin.
//! 3. The number of a request whose caller was killed before anybody read it is never seen: a
//!    fence waits [`PATIENCE`] for it, and nobody waits for it again.
//! 4. Where many fences wait in vain, the host counts in another way, and none waits any more.
//! 5. A request waits for lower numbers only, and a RELEASE for none: there is always one that
//!    goes on.

use crate::sync::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::time::Duration;

/// From one number to the next (`FUSE_REQ_ID_STEP`); what lies between is an INTERRUPT's.
const STEP: u64 = 2;
/// How long a fence waits for a number: much longer than a reader takes from its read(2) to us.
const PATIENCE: Duration = Duration::from_millis(50);
/// What a wait in vain weighs against fences that need none, and when there were too many.
const VAIN_WEIGHT: u32 = 64;
const VAIN_MAX: u32 = 16 * VAIN_WEIGHT;
/// A longer gap is none: the numbers are of another kind than we know.
const GAP_MAX: u64 = 1 << 16;

/// Which numbers were seen.
#[derive(Default)]
pub(super) struct Order {
    seen: Mutex<Seen>,
    /// Rung when a number that was missing has been seen.
    found: Condvar,
}

#[derive(Default)]
struct Seen {
    /// All below have been seen or are missing; 0: none has been seen.
    next: u64,
    missing: BTreeSet<u64>,
    /// Waits in vain, weighed.
    vain: u32,
}

impl Seen {
    /// Whether the number was missing.
    fn note(&mut self, id: u64) -> bool {
        if self.vain > VAIN_MAX {
            return false;
        }
        if id < self.next {
            return self.missing.remove(&id);
        }
        let gap = (id - self.next) / STEP;
        if self.next != 0 && gap > 0 && gap <= GAP_MAX {
            self.missing.extend((0..gap).map(|n| self.next + n * STEP));
        }
        self.next = id + STEP;
        false
    }

    /// A fence waited in vain: whoever is missing up to `id` is waited for no more.
    fn give_up(&mut self, id: u64) {
        self.missing.retain(|missing| *missing > id);
        self.vain += VAIN_WEIGHT;
        if self.vain > VAIN_MAX {
            self.missing.clear();
            log::warn!(target: "fuse", "requests come without an order: a close may be late");
        }
    }

    fn misses_before(&self, id: u64) -> bool {
        self.missing.first().is_some_and(|first| *first < id)
    }
}

impl Order {
    /// Request `id` begins, or, if it is a RELEASE, has ended.
    pub(super) fn note(&self, id: u64) {
        if self.seen.lock().note(id) {
            self.found.notify_all();
        }
    }

    /// Request `id` begins, after each RELEASE before it. Waits for another reader to go on.
    pub(super) fn fence(&self, id: u64) {
        let mut seen = self.seen.lock();
        if seen.note(id) {
            self.found.notify_all();
        }
        if seen.vain <= VAIN_MAX && !seen.misses_before(id) {
            seen.vain = seen.vain.saturating_sub(1);
        }
        while seen.misses_before(id) {
            if self.found.wait_for(&mut seen, PATIENCE).timed_out() && seen.misses_before(id) {
                log::debug!(target: "fuse", "{id} waited for a request that nobody read");
                seen.give_up(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;

    fn missing(order: &Order) -> Vec<u64> {
        order.seen.lock().missing.iter().copied().collect()
    }

    #[test]
    fn numbers_in_order_leave_nothing_missing() {
        let order = Order::default();
        for id in [6, 8, 10, 12] {
            order.note(id);
            order.fence(id);
        }
        assert!(missing(&order).is_empty());
    }

    #[test]
    fn a_host_that_counts_otherwise_is_fenced_no_more() {
        let order = Order::default();
        order.note(2);
        for id in (6..).step_by(4).take(64) {
            order.fence(id); // each passes over a number that never comes
        }
        assert!(missing(&order).is_empty());
        assert!(order.seen.lock().vain > VAIN_MAX);
        let now_and_then = Order::default();
        for id in (2..2000).step_by(2).filter(|id| id % 1000 != 0) {
            now_and_then.fence(id);
        }
        assert_eq!(now_and_then.seen.lock().vain, 0, "one in many is no pattern");
    }

    #[test]
    fn what_was_passed_over_is_missing_until_it_is_seen() {
        let order = Order::default();
        for id in [6, 12, 8] {
            order.note(id);
        }
        assert_eq!(missing(&order), [10]);
        order.fence(8); // 10 comes later
        order.note(10);
        assert!(missing(&order).is_empty());
    }

    #[test]
    fn a_fence_waits_for_a_release_that_another_reader_has() {
        let order = Arc::new(Order::default());
        order.note(4);
        let (ended, release) = (Arc::new(Mutex::new(false)), Arc::clone(&order));
        let end = Arc::clone(&ended);
        let held = ended.lock();
        let reader = std::thread::spawn(move || {
            *end.lock() = true;
            release.note(6);
        });
        drop(held);
        order.fence(8);
        assert!(*ended.lock());
        reader.join().unwrap();
    }

    #[test]
    fn a_number_that_nobody_sees_is_waited_for_once() {
        let order = Order::default();
        order.note(4);
        order.fence(10);
        assert!(missing(&order).is_empty());
        order.note(6); // late, and nobody's any more
        order.fence(12);
    }

    #[test]
    fn numbers_of_another_kind_are_not_waited_for() {
        let order = Order::default();
        order.note(4);
        order.fence(1 << 40);
        order.fence((1 << 40) + STEP);
        assert!(missing(&order).is_empty());
    }
}
