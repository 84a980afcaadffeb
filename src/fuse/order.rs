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
//!    reader's hands, who was taken off his processor before he could say so. Whoever reads a
//!    number has read all lower ones or left them to others: each reader holds one at most.
//! 3. The number of a request whose caller was killed before anybody read it is never seen. A fence
//!    gives it up when no other reader can hold it: each has said something since, or sleeps (in
//!    his read(2), or in what he has told of). Nobody waits for it again.
//! 4. Where many fences wait in vain, the host counts in another way, and none waits for a number
//!    any more.
//! 5. A request waits for lower numbers only, and a RELEASE for none: there is always one that
//!    goes on. None waits longer than [`LOOKS_MAX`] looks: a RELEASE may write to the host.

use crate::sync::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// From one number to the next (`FUSE_REQ_ID_STEP`); what lies between is an INTERRUPT's.
const STEP: u64 = 2;
/// From one look of a waiting fence at the other readers to the next.
const LOOK: Duration = Duration::from_millis(20);
/// How often a reader must be seen asleep in a row: once he may only be waiting for our lock.
const ASLEEP_MIN: u32 = 2;
/// How often a fence looks before it lets go of everything: 5 s.
const LOOKS_MAX: u32 = 250;
/// What a wait in vain weighs against fences that need none, and when there were too many.
const VAIN_WEIGHT: u32 = 64;
const VAIN_MAX: u32 = 16 * VAIN_WEIGHT;
/// A longer gap is none: the numbers are of another kind than we know.
const GAP_MAX: u64 = 1 << 16;

/// Which numbers were seen.
#[derive(Default)]
pub(super) struct Order {
    seen: Mutex<Seen>,
    /// Rung when a number that was missing has been seen, and when a RELEASE has ended.
    found: Condvar,
}

#[derive(Default)]
struct Seen {
    /// All below have been seen or are missing; 0: none has been seen.
    next: u64,
    missing: BTreeSet<u64>,
    /// RELEASEs that have begun.
    ending: BTreeSet<u64>,
    /// Waits in vain, weighed.
    vain: u32,
    readers: Vec<Reader>,
}

/// A thread that reads requests.
struct Reader {
    thread: usize,
    /// What the host says of it (proc_pid_stat(5)); none where it says nothing.
    stat: Option<File>,
    /// How often it has told of a request.
    told: u64,
}

thread_local! {
    static HERE: u8 = const { 0 };
}

/// Tells the calling thread from others, at every request: an address costs less than a name.
fn this_thread() -> usize {
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

impl Reader {
    /// The calling thread.
    fn here() -> Reader {
        let stat = File::open("/proc/thread-self/stat").ok();
        Reader { thread: this_thread(), stat, told: 0 }
    }

    /// Whether it waits for something, or has ended. What the host does not tell is taken for yes.
    fn is_asleep(&self) -> bool {
        let mut line = [0; 64]; // the name, in brackets, has 15 bytes at most
        let len = self.stat.as_ref().and_then(|stat| stat.read_at(&mut line, 0).ok());
        let line = line.get(..len.unwrap_or(0)).unwrap_or_default();
        let state = line.rsplit(|byte| *byte == b')').next().and_then(|rest| rest.get(1));
        !matches!(state, Some(b'R' | b'D'))
    }
}

/// A reader who may hold what a fence waits for: how often he had told of a request when it began
/// to wait, and how often in a row he was seen asleep.
struct Suspect {
    thread: usize,
    told: u64,
    asleep: u32,
}

impl Seen {
    /// The calling reader tells of request `id`. Answers whether it was missing.
    fn note(&mut self, id: u64) -> bool {
        self.heard();
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

    fn heard(&mut self) {
        let us = this_thread();
        match self.readers.iter_mut().find(|reader| reader.thread == us) {
            Some(reader) => reader.told += 1,
            None => self.readers.push(Reader::here()),
        }
    }

    fn suspects(&self) -> Vec<Suspect> {
        let us = this_thread();
        let others = self.readers.iter().filter(|reader| reader.thread != us);
        others
            .map(|reader| Suspect { thread: reader.thread, told: reader.told, asleep: 0 })
            .collect()
    }

    /// Looks at the suspects and lets those go who can't hold what is missing.
    fn question(&self, suspects: &mut Vec<Suspect>) {
        suspects.retain_mut(|suspect| {
            let reader = self.readers.iter().find(|reader| reader.thread == suspect.thread);
            let reader = reader.filter(|reader| reader.told == suspect.told);
            let is_asleep = reader.is_some_and(Reader::is_asleep);
            suspect.asleep = if is_asleep { suspect.asleep + 1 } else { 0 };
            reader.is_some() && suspect.asleep < ASLEEP_MIN
        });
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

    /// Whether request `id` has to wait.
    fn is_held(&self, id: u64) -> bool {
        self.misses_before(id) || self.ending.first().is_some_and(|first| *first < id)
    }
}

/// A RELEASE that has begun; dropped, it has ended.
pub(super) struct Release<'a> {
    order: &'a Order,
    id: u64,
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.order.seen.lock().ending.remove(&self.id);
        self.order.found.notify_all();
    }
}

impl Order {
    /// Request `id` begins; nothing that comes later waits for its end.
    pub(super) fn note(&self, id: u64) {
        if self.seen.lock().note(id) {
            self.found.notify_all();
        }
    }

    /// RELEASE `id` begins: what comes later waits until the answer is dropped.
    pub(super) fn release(&self, id: u64) -> Release<'_> {
        let mut seen = self.seen.lock();
        seen.note(id);
        seen.ending.insert(id);
        Release { order: self, id }
    }

    /// Request `id` begins, after each RELEASE before it. Waits for another reader to go on.
    pub(super) fn fence(&self, id: u64) {
        let mut seen = self.seen.lock();
        if seen.note(id) {
            self.found.notify_all();
        }
        if !seen.is_held(id) {
            seen.vain = seen.vain.saturating_sub(u32::from(seen.vain <= VAIN_MAX));
            return;
        }
        let (mut suspects, mut looks) = (seen.suspects(), 0);
        while seen.is_held(id) {
            if !self.found.wait_for(&mut seen, LOOK).timed_out() {
                continue;
            }
            looks += 1;
            seen.question(&mut suspects);
            if seen.misses_before(id) && (suspects.is_empty() || looks > LOOKS_MAX) {
                log::debug!(target: "fuse", "{id} waited for a request that nobody read");
                seen.give_up(id);
            }
            if looks > LOOKS_MAX {
                log::warn!(target: "fuse", "{id} goes on before a close that takes too long");
                seen.ending.retain(|ending| *ending > id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread;

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

    /// A fence that another thread waits at; tells when it is open.
    fn fenced(order: &Arc<Order>, id: u64) -> mpsc::Receiver<()> {
        let (order, (tell, told)) = (Arc::clone(order), mpsc::channel());
        thread::spawn(move || {
            order.fence(id);
            let _ = tell.send(());
        });
        told
    }

    #[test]
    fn a_fence_waits_for_a_release_however_long_it_takes() {
        let order = Arc::new(Order::default());
        order.note(4);
        let release = order.release(6); // asleep in it, as on a slow disk of the host
        let open = fenced(&order, 8);
        assert!(open.recv_timeout(8 * LOOK).is_err(), "it has not ended");
        drop(release);
        open.recv().unwrap();
    }

    #[test]
    fn a_fence_waits_for_a_reader_that_was_taken_off_its_processor() {
        let order = Arc::new(Order::default());
        let ((begun, has_begun), go) = (mpsc::channel(), Arc::new(AtomicBool::new(false)));
        let (other, told) = (Arc::clone(&order), Arc::clone(&go));
        let reader = thread::spawn(move || {
            other.note(4);
            begun.send(()).unwrap();
            // It has read 6 and comes to say so very late.
            while !told.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            drop(other.release(6));
        });
        has_begun.recv().unwrap();
        let open = fenced(&order, 8);
        assert!(open.recv_timeout(8 * LOOK).is_err(), "nobody has asked the other reader");
        go.store(true, Ordering::Relaxed);
        open.recv().unwrap();
        reader.join().unwrap();
        assert_eq!(order.seen.lock().vain, 0);
    }

    #[test]
    fn a_fence_does_not_wait_for_a_reader_who_sleeps_or_has_told_of_another() {
        let order = Arc::new(Order::default());
        let ((begun, has_begun), (end, ended)) = (mpsc::channel(), mpsc::channel::<()>());
        let other = Arc::clone(&order);
        let reader = thread::spawn(move || {
            other.note(4);
            begun.send(()).unwrap();
            let _ = ended.recv();
            other.note(12);
        });
        has_begun.recv().unwrap();
        order.fence(8); // nobody has 6
        assert!(missing(&order).is_empty());
        let mut suspects = order.seen.lock().suspects();
        drop(end);
        reader.join().unwrap();
        order.seen.lock().question(&mut suspects);
        assert!(suspects.is_empty());
    }

    #[test]
    fn whoever_runs_is_not_asleep() {
        assert!(!Reader::here().is_asleep());
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
