//! How many threads read requests: two, but one while a second would only be in the way.
//!
//! Two answer several callers on two processors, and a single caller on another processor than
//! ours sooner. But where one caller and the readers share a processor, two readers take turns:
//! each answer lets the caller run before its reader is back at its read(2), the other reader gets
//! the next request, and the first one only goes to sleep. That costs every call a switch more.
//! One reader finds the next request waiting when it comes back, and never sleeps.
//!
//! 1. A reader looks once in [`WINDOW`] transfers at how often it was switched: [`Switches`].
//! 2. It rests where it was switched more often than it answered, one at most at a time.
//! 3. The one at work calls it back as soon as its switches are of another kind, at any request
//!    but READ and WRITE (which may take long), and when it ends. Nobody rests during such a
//!    request: it may even wait for another (SG_IO into memory that is a file of ours).

use crate::sync::{Arc, Condvar, Mutex};
use nix::sys::resource::{UsageWho, getrusage};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Threads that read requests.
pub(super) const READERS: usize = 2;
/// Transfers from one look to the next.
const WINDOW: u32 = 256;

/// How often a thread was taken off its processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Switches {
    /// It slept: there was no request.
    asleep: u32,
    /// Another was let run: mostly the caller that it had just answered.
    pushed: u32,
}

impl Switches {
    /// The calling thread's since it began.
    fn now() -> Switches {
        let whole = |n: i64| u32::try_from(n & i64::from(u32::MAX)).unwrap_or_default();
        getrusage(UsageWho::RUSAGE_THREAD).map_or_else(
            |_| Switches::default(),
            |used| Switches {
                asleep: whole(used.voluntary_context_switches()),
                pushed: whole(used.involuntary_context_switches()),
            },
        )
    }

    fn since(self, before: Switches) -> Switches {
        Switches {
            asleep: self.asleep.wrapping_sub(before.asleep),
            pushed: self.pushed.wrapping_sub(before.pushed),
        }
    }

    /// Whether one of two readers is in the way. Measured in a window, with one caller on our
    /// processor 330 to 350, with one on another 256 (all asleep), with four callers at most 240.
    fn are_too_many(self) -> bool {
        self.asleep + self.pushed > WINDOW + WINDOW / 8
    }

    /// Whether the only reader has one caller, on its processor. Measured: 250 and more; four
    /// callers push it 100 times, a caller elsewhere never.
    fn are_one_callers(self) -> bool {
        self.pushed > WINDOW * 3 / 4
    }
}

/// The readers of one door.
#[derive(Clone, Default)]
pub(super) struct Readers(Arc<Inner>);

#[derive(Default)]
struct Inner {
    duty: Mutex<Duty>,
    /// How often one began or ended to rest: odd while one rests. Changed under the lock, looked at
    /// without.
    turns: AtomicU32,
    /// Requests under way that may take long. Either who begins one sees who rests, or who rests
    /// sees it: the first counts and then looks at the turn, the second the other way round.
    long: AtomicUsize,
    called: Condvar,
}

/// A request that may take long; dropped, it has ended.
pub(super) struct Long<'a>(&'a Inner);

impl Drop for Long<'_> {
    fn drop(&mut self) {
        self.0.long.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Duty {
    /// Readers that have answered a transfer, and will call when they end.
    known: usize,
}

/// What a reader knows of itself.
struct Shift {
    readers: Readers,
    transfers: u32,
    /// Since which turn it counts its switches.
    turn: u32,
    before: Switches,
}

impl Shift {
    fn begin(readers: &Readers) -> Shift {
        readers.0.duty.lock().known += 1;
        let (readers, turn) = (readers.clone(), readers.turn());
        Shift { readers, transfers: 0, turn, before: Switches::now() }
    }

    /// The switches of the window that ends now, and the turn in which all of it was.
    fn look(&mut self) -> Option<(u32, Switches)> {
        let (turn, now) = (self.readers.turn(), Switches::now());
        let switches = now.since(std::mem::replace(&mut self.before, now));
        let is_whole = std::mem::replace(&mut self.turn, turn) == turn;
        is_whole.then_some((turn, switches))
    }
}

impl Drop for Shift {
    /// The thread ends, and with it the session: nobody may rest for ever.
    fn drop(&mut self) {
        self.readers.0.duty.lock().known -= 1;
        self.readers.call();
    }
}

thread_local! {
    static SHIFT: RefCell<Option<Shift>> = const { RefCell::new(None) };
}

impl Readers {
    /// The calling reader has answered a READ or a WRITE. Rests if it is in the other's way.
    pub(super) fn answered(&self) {
        let look = SHIFT.with_borrow_mut(|shift| {
            let shift = shift.get_or_insert_with(|| Shift::begin(self));
            shift.transfers = (shift.transfers + 1) % WINDOW;
            (shift.transfers == 0).then(|| shift.look()).flatten()
        });
        match look {
            Some((turn, switches)) if is_rest(turn) && !switches.are_one_callers() => self.call(),
            Some((turn, switches)) if !is_rest(turn) && switches.are_too_many() => self.rest(),
            _ => (),
        }
    }

    /// A request begins that may take long. Calls whoever rests; nobody does until it has ended.
    pub(super) fn long(&self) -> Long<'_> {
        self.0.long.fetch_add(1, Ordering::SeqCst);
        self.call();
        Long(&self.0)
    }

    /// Calls whoever rests.
    fn call(&self) {
        if is_rest(self.turn()) {
            let _duty = self.0.duty.lock();
            if is_rest(self.turn()) {
                self.0.turns.fetch_add(1, Ordering::SeqCst);
                self.0.called.notify_one();
            }
        }
    }

    /// Rests until called, unless another does already or has a request that may take long.
    fn rest(&self) {
        let mut duty = self.0.duty.lock();
        if is_rest(self.turn()) || duty.known < READERS {
            return;
        }
        let turn = self.0.turns.fetch_add(1, Ordering::SeqCst) + 1;
        if self.0.long.load(Ordering::SeqCst) > 0 {
            self.0.turns.fetch_add(1, Ordering::SeqCst);
            return;
        }
        while self.turn() == turn {
            self.0.called.wait(&mut duty);
        }
    }

    fn turn(&self) -> u32 {
        self.0.turns.load(Ordering::SeqCst) // on x86 an ordinary load
    }
}

fn is_rest(turn: u32) -> bool {
    turn % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    const ONE_CALLER_HERE: Switches = Switches { asleep: 208, pushed: 137 };
    const ONE_CALLER_ELSEWHERE: Switches = Switches { asleep: WINDOW, pushed: 0 };
    const FOUR_CALLERS: Switches = Switches { asleep: 6, pushed: 234 };

    #[test]
    fn a_second_reader_rests_only_where_one_caller_shares_its_processor() {
        assert!(ONE_CALLER_HERE.are_too_many());
        assert!(!ONE_CALLER_ELSEWHERE.are_too_many());
        assert!(!FOUR_CALLERS.are_too_many());
    }

    #[test]
    fn the_only_reader_calls_for_more_callers_and_for_one_that_moved_away() {
        assert!(Switches { asleep: 2, pushed: 254 }.are_one_callers());
        assert!(!Switches { asleep: 0, pushed: 96 }.are_one_callers());
        assert!(!ONE_CALLER_ELSEWHERE.are_one_callers());
    }

    #[test]
    fn counters_that_have_wrapped_still_tell_a_difference() {
        let before = Switches { asleep: u32::MAX, pushed: u32::MAX - 1 };
        let since = Switches { asleep: 1, pushed: 0 }.since(before);
        assert_eq!(since, Switches { asleep: 2, pushed: 2 });
    }

    /// Two readers: both have answered something, one of them rests until it is called.
    fn one_rests(then: impl FnOnce(&Readers) + Send + 'static) -> Readers {
        let readers = Readers::default();
        let (known, both) = mpsc::channel();
        let other = readers.clone();
        let at_work = thread::spawn(move || {
            other.answered();
            known.send(()).unwrap();
            while !is_rest(other.turn()) {
                thread::yield_now();
            }
            then(&other);
        });
        readers.answered();
        both.recv().unwrap();
        readers.rest(); // returns when called
        at_work.join().unwrap();
        readers
    }

    #[test]
    fn whoever_rests_is_called() {
        let readers = one_rests(|other| drop(other.long()));
        assert_eq!(readers.turn(), 2);
    }

    #[test]
    fn nobody_rests_while_the_other_has_a_request_that_may_take_long() {
        let readers = Readers::default();
        let (busy, begun) = mpsc::channel();
        let (end, told) = mpsc::channel::<()>();
        let other = readers.clone();
        let at_work = thread::spawn(move || {
            other.answered();
            let _long = other.long();
            busy.send(()).unwrap();
            let _ = told.recv();
        });
        readers.answered();
        begun.recv().unwrap();
        let (rested, back) = mpsc::channel();
        let idle = readers.clone();
        thread::spawn(move || {
            idle.rest();
            rested.send(()).unwrap();
        });
        let is_back = back.recv_timeout(std::time::Duration::from_secs(5)).is_ok();
        drop(end);
        at_work.join().unwrap();
        assert!(is_back, "the only reader has no time for others");
        assert!(!is_rest(readers.turn()));
    }

    #[test]
    fn whoever_rests_is_called_when_the_other_ends() {
        let readers = one_rests(|_| ());
        assert_eq!(readers.turn(), 2);
        readers.rest(); // alone now: returns at once
        assert_eq!(readers.turn(), 2);
    }

    #[test]
    fn whoever_rests_is_called_when_the_other_has_callers_on_other_processors() {
        let readers = one_rests(|other| {
            // Never pushed off its processor as often as it answers here.
            (0..8 * WINDOW).for_each(|_| other.answered());
            assert!(!is_rest(other.turn()));
        });
        assert!(!is_rest(readers.turn()));
    }

    #[test]
    fn a_window_that_saw_a_turn_is_not_judged() {
        let readers = Readers::default();
        let mut shift = Shift::begin(&readers);
        assert!(shift.look().is_some());
        readers.0.turns.fetch_add(1, Ordering::Relaxed);
        assert!(shift.look().is_none());
        assert!(shift.look().is_some());
    }
}
