//! Calls that wait: who sent them, and whether their senders are wanted elsewhere.
//!
//! fuser answers the kernel's FUSE_INTERRUPT with ENOSYS, after which a caller sleeps until its
//! call is answered, whatever signals it is sent. So this room looks for the signals itself
//! (`look.rs` says how), and raises the call's [`Interrupt`]; the call then answers EINTR.
//!
//! 1. A call is looked at once it has waited a whole sweep: a short wait costs two lock takings.
//! 2. A sweep over many asks a third of them whether they have run, and looks at those; at all,
//!    until as many are found, when more signals are queued for their user; at each in turn.
//! 3. There is a sweeping thread only while calls wait, and [`LINGER`] sweeps longer.
//! 4. Sweeping never takes more than a twentieth of a processor. What it saves while nobody is
//!    signalled it spends on searches ([`Purse`]).
//! 5. At most half of the descriptors that we may have stay open for it; where more calls wait, a
//!    status is opened for each look.
//! 6. After [`Park::close`] every call that waits, or comes to wait, is called away.

use super::look::Watched;
use crate::sync::{Arc, Condvar, Mutex};
use devices::Interrupt;
use nix::sys::resource::{Resource, getrlimit};
use std::collections::BTreeMap;
use std::time::Duration;

/// Sweeps with nothing parked after which the thread ends.
const LINGER: u32 = 10;
/// The part of a processor that sweeping may take: one in so many.
const SHARE: u32 = 20;
/// So many calls are looked at closely in every sweep, more in turns.
const FEW: usize = 50;
/// So many of them have their turn to be looked at in a sweep, whatever else is known.
const TURNS: usize = 16;
/// Sweeps in which everybody was asked whether he has run, as SIGKILL makes him.
const ASKS: u64 = 3;
/// Most processor time that is saved: for some 20 searches among 500 calls.
const SAVINGS_MAX: Duration = Duration::from_millis(100);
/// Least time between two sweeps.
const PACE: Duration = Duration::from_millis(20);

/// Every call that waits.
#[derive(Clone)]
pub struct Park {
    lot: Arc<Lot>,
}

struct Lot {
    calls: Mutex<Calls>,
    /// Rung when the lot closes, so that its thread ends at once, and when that has ended.
    changed: Condvar,
    /// Told after a sweep that called somebody away.
    called_away: Box<dyn Fn() + Send + Sync>,
    /// While no more calls wait, their status stays open.
    open_max: usize,
}

#[derive(Default)]
struct Calls {
    waiting: BTreeMap<u64, Waiting>,
    last_key: u64,
    has_sweeper: bool,
    is_closed: bool,
}

struct Waiting {
    tid: u32,
    interrupt: Arc<Interrupt>,
    sweeps: u32,
    sight: Sight,
}

#[derive(Clone)]
enum Sight {
    Unopened,
    Open(Arc<Watched>),
    /// No such file, or not for us: a kernel thread, a caller outside our pid name space.
    Unseen,
}

/// A call in the lot; dropping it takes it out.
pub struct Parked {
    lot: Arc<Lot>,
    key: u64,
    interrupt: Arc<Interrupt>,
}

impl Parked {
    /// What calls it away.
    #[must_use]
    pub fn interrupt(&self) -> &Arc<Interrupt> {
        &self.interrupt
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.lot.calls.lock().waiting.remove(&self.key);
    }
}

impl Park {
    /// An empty lot. `called_away` is told after each sweep that raised an interrupt.
    pub fn new(called_away: impl Fn() + Send + Sync + 'static) -> Park {
        let called_away = Box::new(called_away);
        Park {
            lot: Arc::new(Lot {
                calls: Mutex::default(),
                changed: Condvar::new(),
                called_away,
                open_max: descriptors() / 2,
            }),
        }
    }

    /// Enters a call of thread `tid`; 0 is the host's kernel, which no signal calls away.
    #[must_use]
    pub fn enter(&self, tid: u32) -> Parked {
        let interrupt = Arc::new(Interrupt::default());
        let mut calls = self.lot.calls.lock();
        calls.last_key += 1;
        let key = calls.last_key;
        let sight = if tid == 0 { Sight::Unseen } else { Sight::Unopened };
        let waiting = Waiting { tid, interrupt: Arc::clone(&interrupt), sweeps: 0, sight };
        calls.waiting.insert(key, waiting);
        let is_closed = calls.is_closed;
        let needs_sweeper = !calls.has_sweeper && !is_closed;
        calls.has_sweeper |= needs_sweeper;
        drop(calls);
        if is_closed {
            interrupt.raise();
        }
        if needs_sweeper {
            self.start();
        }
        Parked { lot: Arc::clone(&self.lot), key, interrupt }
    }

    /// How many calls wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lot.calls.lock().waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether [`Park::close`] was called: who is called away now answers EIO.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lot.calls.lock().is_closed
    }

    /// Calls everybody away, now and from now on.
    pub fn close(&self) {
        let mut calls = self.lot.calls.lock();
        calls.is_closed = true;
        let all: Vec<_> = calls.waiting.values().map(|w| Arc::clone(&w.interrupt)).collect();
        drop(calls);
        for interrupt in all {
            interrupt.raise();
        }
        self.lot.changed.notify_all();
        (self.lot.called_away)();
    }

    /// Whether a thread sweeps now.
    #[must_use]
    pub fn has_sweeper(&self) -> bool {
        self.lot.calls.lock().has_sweeper
    }

    fn start(&self) {
        let lot = Arc::clone(&self.lot);
        let thread = std::thread::Builder::new().name("park".into()).stack_size(128 << 10);
        if let Err(refusal) = thread.spawn(move || lot.sweep_while_needed()) {
            // Uninterruptible until the next call is parked and tries again; it still ends.
            log::error!(target: "fuse", "no thread to look for signals: {refusal}");
            self.lot.calls.lock().has_sweeper = false;
        }
    }
}

/// A call that is due.
struct Due {
    key: u64,
    tid: u32,
    interrupt: Arc<Interrupt>,
    sight: Sight,
}

/// The same, with its status open: one at a time, but for those that stay open anyway.
struct Looked {
    key: u64,
    tid: u32,
    interrupt: Arc<Interrupt>,
    watched: Arc<Watched>,
}

impl From<Looked> for Due {
    fn from(looked: Looked) -> Due {
        let Looked { key, tid, interrupt, watched } = looked;
        Due { key, tid, interrupt, sight: Sight::Open(watched) }
    }
}

/// What a sweep has seen.
#[derive(Default)]
struct Seen {
    users: BTreeMap<u32, User>,
    called_away: bool,
}

/// A user's signals in one sweep.
#[derive(Default)]
struct User {
    queued: u64,
    found: u64,
    /// In whose status they stand.
    probe: Option<Arc<Watched>>,
}

impl Seen {
    /// Looks at a call: who has a signal is called away.
    fn look(&mut self, looked: &Looked) {
        let Some(signals) = looked.watched.signals() else { return };
        let user = self.users.entry(signals.user).or_default();
        user.queued = user.queued.max(signals.queued);
        if signals.is_wanted {
            user.found += signals.pending;
            self.called_away = true;
            log::debug!(target: "fuse", "thread {} has a signal: it is called away", looked.tid);
            looked.interrupt.raise();
        } else {
            user.probe = Some(Arc::clone(&looked.watched));
        }
    }
}

/// What the sweeper keeps from one sweep to the next.
#[derive(Default)]
struct Memory {
    sweeps: u64,
    users: BTreeMap<u32, Others>,
}

/// A user's queued signals that are not for us.
#[derive(Default)]
struct Others {
    count: u64,
    was_in_vain: bool,
    probe: Option<Arc<Watched>>,
}

impl Others {
    /// So many were not found. Only the second search in vain is believed: during the first one
    /// may have come to who had been looked at.
    fn learn(&mut self, count: u64) {
        let is_first = count > self.count && !self.was_in_vain;
        self.was_in_vain = is_first;
        if !is_first {
            self.count = count;
        }
    }
}

impl Memory {
    /// How many signals are queued for users of whom nobody had his turn; who is gone is
    /// forgotten.
    fn probe(&mut self, seen: &mut Seen) {
        self.users.retain(|user, others| {
            if seen.users.contains_key(user) {
                return true;
            }
            let signals = others.probe.as_ref().and_then(|probe| probe.signals());
            let Some(signals) = signals.filter(|signals| signals.user == *user) else {
                return false;
            };
            let found = User { queued: signals.queued, ..User::default() };
            seen.users.insert(*user, found);
            true
        });
    }

    /// Whether more are queued for a user than were found and are known to be for others.
    fn is_missing_some(&self, seen: &Seen) -> bool {
        let others = |user| self.users.get(user).map_or(0, |others| others.count);
        seen.users.iter().any(|(user, now)| now.queued > now.found + others(user))
    }

    fn learn(&mut self, seen: &Seen) {
        for (user, now) in &seen.users {
            let others = self.users.entry(*user).or_default();
            others.learn(now.queued.saturating_sub(now.found));
            if let Some(probe) = &now.probe {
                others.probe = Some(Arc::clone(probe));
            }
        }
    }
}

/// Processor time that sweeping may take: a twentieth of the time that has passed, less what it
/// took.
#[derive(Default)]
struct Purse {
    saved: Duration,
    owed: Duration,
}

impl Purse {
    /// A sweep took `cost`, `passed` after the one before.
    fn settle(&mut self, passed: Duration, cost: Duration) {
        let (has, owes) = (self.saved + passed / SHARE, self.owed + cost);
        self.saved = has.saturating_sub(owes).min(SAVINGS_MAX);
        self.owed = owes.saturating_sub(has);
    }

    /// Time until the next sweep.
    fn pause(&self) -> Duration {
        PACE.max(self.owed * SHARE)
    }
}

fn clock(id: nix::time::ClockId) -> Duration {
    id.now().map_or(Duration::ZERO, Into::into)
}

/// Time by a clock that only goes forward.
fn wall_time() -> Duration {
    clock(nix::time::ClockId::CLOCK_MONOTONIC)
}

/// Processor time that this thread has taken.
fn processor_time() -> Duration {
    clock(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
}

impl Lot {
    fn sweep_while_needed(&self) {
        let (mut idle_sweeps, mut purse) = (0, Purse::default());
        let (mut at, mut spent) = (wall_time(), processor_time());
        let mut memory = Memory::default();
        loop {
            let mut calls = self.calls.lock();
            if !calls.is_closed {
                self.changed.wait_for(&mut calls, purse.pause());
            }
            idle_sweeps = if calls.waiting.is_empty() { idle_sweeps + 1 } else { 0 };
            if calls.is_closed || idle_sweeps > LINGER {
                calls.has_sweeper = false;
                return;
            }
            drop(calls);
            if self.sweep(&mut memory) {
                (self.called_away)();
            }
            let (was_at, had_spent) = (at, spent);
            (at, spent) = (wall_time(), processor_time());
            purse.settle(at.saturating_sub(was_at), spent.saturating_sub(had_spent));
        }
    }

    /// One sweep. `true` when somebody was called away.
    fn sweep(&self, memory: &mut Memory) -> bool {
        memory.sweeps = memory.sweeps.wrapping_add(1);
        let (count, sweeps) = (self.count_sweep(), memory.sweeps);
        let (turns, asks) = if count <= FEW { (1, 1) } else { ((count / TURNS) as u64, ASKS) };
        let is_in = |key: u64, rounds| key.wrapping_add(sweeps).is_multiple_of(rounds);
        let mut seen = Seen::default();
        let mut left = Vec::new();
        for due in self.due(|key| is_in(key, turns) || is_in(key, asks)) {
            let Some(looked) = self.open(due) else { continue };
            if is_in(looked.key, turns) || looked.watched.has_run() {
                seen.look(&looked);
            } else {
                left.push(looked.into());
            }
        }
        memory.probe(&mut seen);
        // More was queued for their user than was found: somebody else of his may have it.
        if memory.is_missing_some(&seen) {
            left.extend(self.due(|key| !is_in(key, turns) && !is_in(key, asks)));
            for due in left {
                if !memory.is_missing_some(&seen) {
                    break;
                }
                if let Some(looked) = self.open(due) {
                    seen.look(&looked);
                }
            }
        }
        memory.learn(&seen);
        seen.called_away
    }

    /// Who waits has waited one sweep more; how many wait.
    fn count_sweep(&self) -> usize {
        let mut calls = self.calls.lock();
        calls.waiting.values_mut().for_each(|w| w.sweeps = w.sweeps.saturating_add(1));
        calls.waiting.len()
    }

    /// Who has waited a whole sweep and is wanted by `wants`.
    fn due(&self, wants: impl Fn(u64) -> bool) -> Vec<Due> {
        let mut due = Vec::new();
        for (key, waiting) in &self.calls.lock().waiting {
            if waiting.sweeps > 1 && wants(*key) && !waiting.interrupt.is_raised() {
                let (interrupt, sight) = (Arc::clone(&waiting.interrupt), waiting.sight.clone());
                due.push(Due { key: *key, tid: waiting.tid, interrupt, sight });
            }
        }
        due
    }

    fn open(&self, due: Due) -> Option<Looked> {
        let Due { key, tid, interrupt, sight } = due;
        let watched = match sight {
            Sight::Unseen => None,
            Sight::Open(watched) => Some(watched),
            Sight::Unopened => self.watch(key, tid),
        };
        watched.map(|watched| Looked { key, tid, interrupt, watched })
    }

    fn watch(&self, key: u64, tid: u32) -> Option<Arc<Watched>> {
        match Watched::open(tid) {
            Ok(watched) => {
                let watched = Arc::new(watched);
                self.keep(key, &watched);
                Some(watched)
            }
            Err(refusal) => {
                log::debug!(target: "fuse", "signals of thread {tid} unseen: {refusal}");
                // Without descriptors (EMFILE) the next sweep tries again.
                if refusal.kind() == std::io::ErrorKind::NotFound {
                    self.note(key, Sight::Unseen);
                }
                None
            }
        }
    }

    fn keep(&self, key: u64, watched: &Arc<Watched>) {
        let mut calls = self.calls.lock();
        if calls.waiting.len() <= self.open_max
            && let Some(waiting) = calls.waiting.get_mut(&key)
        {
            waiting.sight = Sight::Open(Arc::clone(watched));
        }
    }

    fn note(&self, key: u64, sight: Sight) {
        if let Some(waiting) = self.calls.lock().waiting.get_mut(&key) {
            waiting.sight = sight;
        }
    }
}

/// How many descriptors this process may have.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The process that a thread belongs to.
#[must_use]
pub fn process_of(tid: u32) -> Option<u32> {
    let text = std::fs::read(format!("/proc/{tid}/status")).ok()?;
    super::look::process(&text).and_then(|pid| u32::try_from(pid).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn sweeping_stays_below_a_twentieth_of_a_processor() {
        let (mut purse, mut passed, mut spent) = (Purse::default(), PACE, Duration::ZERO);
        for cost in [0, 4, 1, 90, 0, 3000, 5, 5, 5].map(Duration::from_millis) {
            purse.settle(passed, cost);
            passed = purse.pause();
            spent += cost;
        }
        assert!(purse.owed > Duration::ZERO);
        purse.settle(passed, Duration::ZERO);
        assert_eq!((purse.owed, purse.pause()), (Duration::ZERO, PACE), "{spent:?}");
    }

    #[test]
    fn what_was_saved_pays_for_searches_without_a_pause() {
        let (mut purse, search) = (Purse::default(), Duration::from_millis(5));
        for _ in 0..10_000 {
            purse.settle(PACE, Duration::ZERO);
        }
        assert_eq!(purse.saved, SAVINGS_MAX);
        let paid = (0..).take_while(|_| {
            purse.settle(PACE, search);
            purse.pause() == PACE
        });
        assert_eq!(paid.count(), 25, "five hundredths, and a millisecond at each");
    }

    #[test]
    fn signals_that_are_not_found_are_searched_for_twice() {
        let mut others = Others::default();
        let mut after = |count| {
            others.learn(count);
            others.count
        };
        assert_eq!([3, 3, 4, 2, 3, 3].map(&mut after), [0, 3, 3, 2, 2, 3]);
    }

    #[test]
    fn processor_time_counts_work() {
        let begun = processor_time();
        while processor_time() == begun {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_caller_with_a_signal_is_called_away_and_another_is_not() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        let heard = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&heard);
        let park = Park::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let quiet = park.enter(std::process::id());
        let parked = park.enter(child.id());
        // A stopped process keeps SIGUSR1 pending until it is continued.
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).unwrap();
        while !parked.interrupt().is_raised() {
            std::thread::yield_now();
        }
        assert!(!quiet.interrupt().is_raised());
        while heard.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_sweeper_ends_when_nothing_is_parked() {
        let park = Park::new(|| {});
        assert!(!park.has_sweeper());
        let parked = park.enter(std::process::id());
        assert!(park.has_sweeper());
        drop(parked);
        assert!(park.is_empty());
        while park.has_sweeper() {
            std::thread::yield_now();
        }
        let _again = park.enter(std::process::id());
        assert!(park.has_sweeper());
    }

    #[test]
    fn closing_calls_everybody_away_also_who_comes_later() {
        let park = Park::new(|| {});
        let early = park.enter(0);
        assert!(!early.interrupt().is_raised() && !park.is_closed());
        park.close();
        let late = park.enter(0);
        assert!(early.interrupt().is_raised() && late.interrupt().is_raised());
        assert!(park.is_closed());
        assert_eq!(park.len(), 2);
    }
}
