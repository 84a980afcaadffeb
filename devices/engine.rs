//! The event wheel and the clock: what happens later, and who makes it happen.
//!
//! An event is a call at a time. Whoever waits turns the crank: [`Engine::wait`] runs what is due
//! on the waiting thread, so that a unit without a timing model is served without a change of
//! thread. One thread of the engine's own ([`Engine::start`]) runs what is due later; without it
//! (in tests) a waiter in [`Time::Simulated`] also moves the clock.
//!
//! 1. Events run in order of time, then of scheduling, with no lock held.
//! 2. An event that panics is logged and lost; a request it held finishes itself (contract).
//! 3. An event due at once wakes nobody: whoever scheduled it cranks, or waits.
//! 4. Time is not skipped while an event runs: what it will schedule may come first.

use crate::contract::{Clock, Interrupt, SimTime, WaitQueue};
use crate::sync::{Arc, Condvar, Mutex};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How the machine's time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// With the host's.
    Real,
    /// With the host's, but never sleeping on a device: the time to its next event is skipped.
    Virtual,
    /// Only from event to event: the same every run. For tests.
    Simulated,
}

/// Names an event, to cancel it: when, which, and whether it was due at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId(SimTime, u64, bool);

/// The wait was called off by [`Interrupt::raise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

type Event = Box<dyn FnOnce() + Send>;

/// See the head of this file.
pub struct Engine {
    time: Time,
    switched_on: Instant,
    /// Nanoseconds skipped (virtual), or all there were (simulated).
    skipped: AtomicU64,
    wheel: Mutex<Wheel>,
    /// Time of the first event, `u64::MAX` when there is none; written under `wheel`.
    first: AtomicU64,
    /// Events that run now; counted up under `wheel`.
    running: AtomicU32,
    /// Wakes the engine's thread: a new first event, or the end.
    turned: Condvar,
    has_thread: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Wheel {
    events: BTreeMap<EventId, Event>,
    scheduled: u64,
    is_stopping: bool,
    /// Until when the engine's thread sleeps if nobody wakes it; `None` while it is awake. What is
    /// scheduled for later than that need not wake it.
    asleep_until: Option<SimTime>,
}

impl Clock for Engine {
    fn now(&self) -> SimTime {
        let skipped = self.skipped.load(Ordering::Acquire);
        match self.time {
            Time::Simulated => SimTime(skipped),
            Time::Real | Time::Virtual => {
                let passed = self.switched_on.elapsed().as_nanos();
                SimTime(u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(skipped))
            }
        }
    }
}

impl Engine {
    /// A machine's engine, switched on now, without a thread.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // this is the clock that all others ask
    pub fn new(time: Time) -> Arc<Engine> {
        Arc::new(Engine {
            time,
            switched_on: Instant::now(),
            skipped: AtomicU64::new(0),
            wheel: Mutex::default(),
            first: AtomicU64::new(u64::MAX),
            running: AtomicU32::new(0),
            turned: Condvar::new(),
            has_thread: AtomicBool::new(false),
            thread: Mutex::new(None),
        })
    }

    /// How time passes here.
    #[must_use]
    pub fn time(&self) -> Time {
        self.time
    }

    /// Starts the thread that runs what is due later.
    ///
    /// # Errors
    /// The host's, when it refuses a thread.
    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let engine = Arc::clone(self);
        self.has_thread.store(true, Ordering::Release);
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || engine.run());
        match thread {
            Ok(handle) => *self.thread.lock() = Some(handle),
            Err(refusal) => {
                self.has_thread.store(false, Ordering::Release);
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Ends the thread and waits for it; what is left in the wheel is dropped.
    pub fn stop(&self) {
        self.wheel.lock().is_stopping = true;
        self.turned.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            log::error!(target: "engine", "the engine's thread panicked");
        }
        self.has_thread.store(false, Ordering::Release);
        let left = std::mem::take(&mut self.wheel.lock().events);
        self.first.store(u64::MAX, Ordering::Release);
        drop(left);
    }

    /// Runs `event` in `nanos` nanoseconds of machine time; with 0 at the next crank.
    pub fn after(&self, nanos: u64, event: impl FnOnce() + Send + 'static) -> EventId {
        let at = self.now().after(nanos);
        let mut wheel = self.wheel.lock();
        wheel.scheduled += 1;
        let id = EventId(at, wheel.scheduled, nanos == 0);
        wheel.events.insert(id, Box::new(event));
        self.publish_first(&wheel);
        let sleeps_past_it = nanos > 0 && wheel.asleep_until.is_some_and(|until| at < until);
        if sleeps_past_it {
            wheel.asleep_until = Some(at); // it is woken once
        }
        drop(wheel);
        if sleeps_past_it {
            self.turned.notify_all();
        }
        id
    }

    /// Takes an event back. `false` when it has run, or runs now.
    pub fn cancel(&self, id: EventId) -> bool {
        let mut wheel = self.wheel.lock();
        let event = wheel.events.remove(&id);
        self.publish_first(&wheel);
        drop(wheel);
        event.is_some()
    }

    /// Runs everything that is due. `true` when there was something.
    pub fn crank(&self) -> bool {
        let mut any = false;
        while self.first.load(Ordering::Acquire) <= self.now().0 {
            let Some(event) = self.take(self.now()) else { break };
            self.run_event(event);
            any = true;
        }
        any
    }

    /// Waits, turning the crank, until `done` says so. Ring `queue` when it may have come true.
    ///
    /// # Errors
    /// [`Interrupted`] when `interrupt` was raised first.
    pub fn wait(
        &self,
        queue: &Arc<WaitQueue>,
        interrupt: Option<&Interrupt>,
        mut done: impl FnMut() -> bool,
    ) -> Result<(), Interrupted> {
        loop {
            let seen = queue.generation();
            if done() {
                return Ok(());
            }
            if let Some(interrupt) = interrupt {
                interrupt.watch(queue);
                if interrupt.is_raised() {
                    return Err(Interrupted);
                }
            }
            if self.crank() {
                continue;
            }
            if self.has_thread.load(Ordering::Acquire) {
                queue.wait(seen, None);
            } else if !self.skip_to_next() {
                // Another thread stands between claiming and submitting: nothing is due yet.
                queue.wait(seen, Some(Duration::from_millis(1)));
            }
        }
    }

    /// Moves simulated or virtual time to the next event and runs it. `false`: there is none, or
    /// time is real and it is not due, or another event still runs.
    pub fn skip_to_next(&self) -> bool {
        let horizon = if self.time == Time::Real { self.now() } else { SimTime(u64::MAX) };
        let Some(event) = self.take(horizon) else { return false };
        self.run_event(event);
        true
    }

    /// How many events run at this moment, an asking one included: while there are others, the
    /// machine is at work, however long the host takes.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Acquire)
    }

    fn run_event(&self, event: Event) {
        run(event);
        let left = self.running.fetch_sub(1, Ordering::AcqRel) - 1;
        if left == 0 && self.time == Time::Virtual {
            drop(self.wheel.lock()); // whoever looked at `running` waits by now
            self.turned.notify_all();
        }
    }

    /// Takes the first event, if due by `horizon`, and moves the clock to it.
    fn take(&self, horizon: SimTime) -> Option<Event> {
        let mut wheel = self.wheel.lock();
        let horizon = if self.running() > 0 { horizon.min(self.now()) } else { horizon };
        let first = wheel.events.first_entry().filter(|e| e.key().0 <= horizon)?;
        let (id, event) = first.remove_entry();
        self.running.fetch_add(1, Ordering::AcqRel);
        self.publish_first(&wheel);
        let early = id.0.since(self.now());
        if early > 0 && self.time != Time::Real {
            self.skipped.fetch_add(early, Ordering::AcqRel);
        }
        Some(event)
    }

    fn publish_first(&self, wheel: &Wheel) -> u64 {
        let first = wheel.events.first_key_value().map_or(u64::MAX, |(id, _)| id.0.0);
        self.first.store(first, Ordering::Release);
        first
    }

    fn run(&self) {
        loop {
            let mut wheel = self.wheel.lock();
            if wheel.is_stopping {
                return;
            }
            // What was due at once is left to whoever scheduled it: he may have more to submit
            // first, so that it can be served together.
            let ahead = wheel.events.keys().find(|id| !id.2).map(|id| id.0);
            let nanos = ahead.map(|ahead| ahead.since(self.now()));
            wheel.asleep_until = Some(ahead.unwrap_or(SimTime(u64::MAX)));
            match nanos {
                None => self.turned.wait(&mut wheel),
                Some(nanos) if nanos > 0 && self.time == Time::Real => {
                    self.turned.wait_for(&mut wheel, Duration::from_nanos(nanos));
                }
                Some(nanos) if nanos > 0 && self.running() > 0 => self.turned.wait(&mut wheel),
                Some(_) => {
                    wheel.asleep_until = None;
                    drop(wheel);
                    self.skip_to_next();
                    self.crank(); // what that scheduled for at once is ours
                    continue;
                }
            }
            wheel.asleep_until = None;
        }
    }
}

fn run(event: Event) {
    if catch_unwind(AssertUnwindSafe(event)).is_err() {
        log::error!(target: "engine", "an event panicked; its request fails, the machine goes on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noting(log: &Arc<Mutex<Vec<u32>>>, word: u32) -> impl FnOnce() + Send + use<> {
        let log = Arc::clone(log);
        move || log.lock().push(word)
    }

    #[test]
    fn events_run_in_order_of_time_then_of_scheduling() {
        let engine = Engine::new(Time::Simulated);
        let log = Arc::new(Mutex::new(Vec::new()));
        engine.after(20, noting(&log, 3));
        engine.after(10, noting(&log, 1));
        engine.after(10, noting(&log, 2));
        while engine.skip_to_next() {}
        assert_eq!(*log.lock(), [1, 2, 3]);
        assert_eq!(engine.now(), SimTime(20));
    }

    #[test]
    fn a_crank_runs_only_what_is_due() {
        let engine = Engine::new(Time::Simulated);
        let log = Arc::new(Mutex::new(Vec::new()));
        engine.after(0, noting(&log, 1));
        engine.after(5, noting(&log, 2));
        assert!(engine.crank());
        assert!(!engine.crank());
        assert_eq!(*log.lock(), [1]);
    }

    #[test]
    fn time_is_not_skipped_while_an_event_runs() {
        for time in [Time::Simulated, Time::Virtual] {
            let engine = Engine::new(time);
            if time == Time::Virtual {
                engine.start().unwrap();
            }
            let (begun, go_on) = (Arc::new(WaitQueue::default()), Arc::new(WaitQueue::default()));
            let (bell, waits) = (Arc::clone(&begun), Arc::clone(&go_on));
            engine.after(0, move || {
                bell.ring();
                waits.wait(0, None);
            });
            let (late, hour) = (Arc::new(WaitQueue::default()), 3_600_000_000_000);
            let bell = Arc::clone(&late);
            engine.after(hour, move || bell.ring());
            std::thread::scope(|scope| {
                scope.spawn(|| engine.crank());
                begun.wait(0, None);
                assert_eq!((engine.skip_to_next(), engine.running()), (false, 1));
                assert!(engine.now().0 < hour);
                go_on.ring();
            });
            engine.wait(&late, None, || late.generation() > 0).unwrap();
            assert!(engine.now().0 >= hour);
            engine.stop();
        }
    }

    #[test]
    fn a_cancelled_event_never_runs() {
        let engine = Engine::new(Time::Simulated);
        let log = Arc::new(Mutex::new(Vec::new()));
        let id = engine.after(5, noting(&log, 1));
        assert!(engine.cancel(id));
        assert!(!engine.cancel(id));
        assert!(!engine.skip_to_next());
        assert!(log.lock().is_empty());
    }

    #[test]
    fn a_panicking_event_does_not_stop_the_wheel() {
        let engine = Engine::new(Time::Simulated);
        let log = Arc::new(Mutex::new(Vec::new()));
        engine.after(1, || panic!("on purpose"));
        engine.after(2, noting(&log, 1));
        while engine.skip_to_next() {}
        assert_eq!(*log.lock(), [1]);
    }

    #[test]
    fn whoever_waits_turns_the_crank() {
        for time in [Time::Simulated, Time::Virtual, Time::Real] {
            let engine = Engine::new(time);
            let queue = Arc::new(WaitQueue::default());
            let fired = Arc::new(AtomicBool::new(false));
            let (bell, flag) = (Arc::clone(&queue), Arc::clone(&fired));
            engine.after(1_000_000, move || {
                flag.store(true, Ordering::Release);
                bell.ring();
            });
            engine.wait(&queue, None, || fired.load(Ordering::Acquire)).unwrap();
            assert!(engine.now() >= SimTime(1_000_000));
        }
    }

    #[test]
    fn the_engines_thread_runs_what_is_due_later_and_ends() {
        for time in [Time::Real, Time::Virtual] {
            let engine = Engine::new(time);
            engine.start().unwrap();
            let queue = Arc::new(WaitQueue::default());
            let bell = Arc::clone(&queue);
            let seen = queue.generation();
            engine.after(1_000_000, move || bell.ring());
            assert!(queue.wait(seen, Some(Duration::from_secs(60))));
            engine.stop();
        }
    }

    #[test]
    fn what_is_due_at_once_does_not_hide_what_is_due_later_from_the_thread() {
        let engine = Engine::new(Time::Real);
        engine.start().unwrap();
        for _ in 0..200 {
            let queue = Arc::new(WaitQueue::default());
            let bell = Arc::clone(&queue);
            engine.after(0, || {});
            engine.after(1_000_000, move || bell.ring());
            engine.crank();
            assert!(queue.wait(0, Some(Duration::from_secs(60))));
        }
        engine.stop();
    }

    #[test]
    fn an_interrupted_wait_says_so() {
        let engine = Engine::new(Time::Simulated);
        let queue = Arc::new(WaitQueue::default());
        let interrupt = Interrupt::default();
        interrupt.raise();
        assert_eq!(engine.wait(&queue, Some(&interrupt), || false), Err(Interrupted));
    }
}
