//! The calls under way on the readers' threads, and how the unmount has them end.
//!
//! With several readers one may still be filling the cache while another answers whatever the
//! unmount asks. So each call that may leave something to be written goes through the gate: once
//! it is closed none enters, and who closed it waits for those that are inside. What a reader
//! hands on (to a worker, to the lobby) is known there before the reader has left.
//!
//! Either the call sees that the gate is closed, or who closed it sees the call: the first writes
//! its count and then reads the flag, the second the other way round, both `SeqCst`.

use devices::WaitQueue;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Counts, one a reader, and some for whoever else comes. Beyond that threads share.
const SLOTS: usize = 4;

/// A count with a cache line to itself: two readers that take one from each other pay for it.
#[derive(Default)]
#[repr(align(64))]
struct Slot(AtomicU32);

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Which slot is this thread's.
    static MINE: usize = THREADS.fetch_add(1, SeqCst) % SLOTS;
}

/// Who is inside, and whether anybody may still come.
#[derive(Default)]
pub(super) struct Gate {
    inside: [Slot; SLOTS],
    is_closed: AtomicBool,
    /// Rung when somebody leaves a closed gate.
    left: WaitQueue,
}

/// A call that is inside; dropping it lets it leave.
pub(super) struct Inside<'a> {
    gate: &'a Gate,
    slot: &'a AtomicU32,
}

impl Gate {
    /// Enters a call; `None` once the gate is closed. Never waits.
    pub(super) fn enter(&self) -> Option<Inside<'_>> {
        let slot = &self.inside[MINE.with(|mine| *mine)].0;
        slot.fetch_add(1, SeqCst);
        let inside = Inside { gate: self, slot };
        // Refused, it leaves again at once.
        (!self.is_closed.load(SeqCst)).then_some(inside)
    }

    /// From now on nobody enters.
    pub(super) fn close(&self) {
        self.is_closed.store(true, SeqCst);
    }

    /// Waits until all have left, at most `limit` for each. `false`: some are inside still.
    pub(super) fn settle(&self, limit: Duration) -> bool {
        loop {
            let seen = self.left.generation();
            if self.inside.iter().all(|slot| slot.0.load(SeqCst) == 0) {
                return true;
            }
            if !self.left.wait(seen, Some(limit)) {
                return false;
            }
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.slot.fetch_sub(1, SeqCst);
        if self.gate.is_closed.load(SeqCst) {
            self.gate.left.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc::channel;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn who_entered_before_the_end_is_waited_for_and_nobody_enters_after() {
        let gate = Arc::new(Gate::default());
        let (entered, begun) = channel();
        let (end, told) = channel::<()>();
        let (theirs, written) = (Arc::clone(&gate), Arc::new(AtomicBool::new(false)));
        let done = Arc::clone(&written);
        let writer = std::thread::spawn(move || {
            let inside = theirs.enter();
            entered.send(inside.is_some()).unwrap();
            let _ = told.recv();
            done.store(true, SeqCst);
        });
        assert!(begun.recv_timeout(LONG).unwrap());
        gate.close();
        assert!(gate.enter().is_none());
        assert!(!gate.settle(Duration::from_millis(1)), "it is inside still");
        drop(end);
        assert!(gate.settle(LONG));
        assert!(written.load(SeqCst));
        writer.join().unwrap();
    }

    #[test]
    fn nothing_is_changed_behind_a_closed_gate_by_anybody() {
        for _ in 0..200 {
            let (gate, bytes) = (Arc::new(Gate::default()), Arc::new(AtomicU64::new(0)));
            let write = |gate: Arc<Gate>, bytes: Arc<AtomicU64>| {
                move || {
                    while let Some(_inside) = gate.enter() {
                        bytes.fetch_add(1, SeqCst);
                    }
                }
            };
            let writers: Vec<_> = (0..3)
                .map(|_| std::thread::spawn(write(Arc::clone(&gate), Arc::clone(&bytes))))
                .collect();
            while bytes.load(SeqCst) < 50 {
                std::thread::yield_now();
            }
            gate.close();
            assert!(gate.settle(LONG));
            let written_out = bytes.load(SeqCst);
            for writer in writers {
                writer.join().unwrap();
            }
            assert_eq!(bytes.load(SeqCst), written_out);
        }
    }

    #[test]
    fn a_call_that_panics_leaves_too() {
        let gate = Gate::default();
        let call = std::panic::AssertUnwindSafe(|| {
            let _inside = gate.enter();
            panic!("on purpose");
        });
        assert!(std::panic::catch_unwind(call).is_err());
        gate.close();
        assert!(gate.settle(Duration::ZERO));
    }
}
