//! Calls that wait: who sent them, and whether their senders are wanted elsewhere.
//!
//! fuser answers the kernel's FUSE_INTERRUPT with ENOSYS, after which a caller sleeps until its
//! call is answered, whatever signals it is sent. So this room looks for the signals itself, at
//! `/proc/<tid>/status`, and raises the call's [`Interrupt`]; the call then answers EINTR.
//!
//! 1. A call is looked at once it has waited a whole sweep: a short wait costs two lock takings.
//! 2. There is a sweeping thread only while calls wait, and [`LINGER`] sweeps longer.
//! 3. Sweeping never takes more than a twentieth of a processor ([`period`]).
//! 4. After [`Park::close`] every call that waits, or comes to wait, is called away.

use crate::sync::{Arc, Condvar, Mutex};
use devices::Interrupt;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Sweeps with nothing parked after which the thread ends.
const LINGER: u32 = 10;
/// The part of a processor that sweeping may take: one in so many.
const SHARE: u32 = 20;
/// The file is about 1,400 bytes; the signals stand in its second half.
const STATUS_BYTES_MAX: usize = 4096;

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
    status: Status,
}

#[derive(Clone)]
enum Status {
    Unopened,
    Open(Arc<File>),
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
            lot: Arc::new(Lot { calls: Mutex::default(), changed: Condvar::new(), called_away }),
        }
    }

    /// Enters a call of thread `tid`; 0 is the host's kernel, which no signal calls away.
    #[must_use]
    pub fn enter(&self, tid: u32) -> Parked {
        let interrupt = Arc::new(Interrupt::default());
        let mut calls = self.lot.calls.lock();
        calls.last_key += 1;
        let key = calls.last_key;
        let status = if tid == 0 { Status::Unseen } else { Status::Unopened };
        let waiting = Waiting { tid, interrupt: Arc::clone(&interrupt), sweeps: 0, status };
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

/// Time until the next sweep over `calls` calls, when the last one took `cost` of a processor.
/// (A look takes some 7 us, so a sweep over 500 calls fits the pace.)
fn period(calls: usize, cost: Duration) -> Duration {
    let pace = if calls <= 50 { 20 } else { 80 };
    Duration::from_millis(pace).max(cost * SHARE)
}

/// Processor time that this thread has taken.
fn processor_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock.now().map_or(Duration::ZERO, Into::into)
}

impl Lot {
    fn sweep_while_needed(&self) {
        let (mut idle_sweeps, mut cost) = (0, Duration::ZERO);
        loop {
            let mut calls = self.calls.lock();
            let wait = period(calls.waiting.len(), cost);
            if !calls.is_closed {
                self.changed.wait_for(&mut calls, wait);
            }
            idle_sweeps = if calls.waiting.is_empty() { idle_sweeps + 1 } else { 0 };
            if calls.is_closed || idle_sweeps > LINGER {
                calls.has_sweeper = false;
                return;
            }
            drop(calls);
            let begun = processor_time();
            if self.sweep() {
                (self.called_away)();
            }
            cost = processor_time().saturating_sub(begun);
        }
    }

    /// Looks at everybody who has waited a whole sweep. `true` when somebody was called away.
    fn sweep(&self) -> bool {
        let mut due = Vec::new();
        for (key, waiting) in &mut self.calls.lock().waiting {
            waiting.sweeps = waiting.sweeps.saturating_add(1);
            let is_seen = !matches!(waiting.status, Status::Unseen);
            if waiting.sweeps > 1 && is_seen && !waiting.interrupt.is_raised() {
                let status = waiting.status.clone();
                due.push((*key, waiting.tid, Arc::clone(&waiting.interrupt), status));
            }
        }
        let mut any = false;
        for (key, tid, interrupt, status) in due {
            let (file, is_new) = match status {
                Status::Open(file) => (file, false),
                _ => match File::open(format!("/proc/{tid}/status")) {
                    Ok(file) => (Arc::new(file), true),
                    Err(refusal) => {
                        log::debug!(target: "fuse", "signals of thread {tid} unseen: {refusal}");
                        // Without descriptors (EMFILE) the next sweep tries again.
                        if refusal.kind() == std::io::ErrorKind::NotFound {
                            self.note(key, Status::Unseen);
                        }
                        continue;
                    }
                },
            };
            if has_signal(&file) {
                log::debug!(target: "fuse", "thread {tid} has a signal: its call is called away");
                interrupt.raise();
                any = true;
            }
            if is_new {
                self.note(key, Status::Open(file));
            }
        }
        any
    }

    fn note(&self, key: u64, status: Status) {
        if let Some(waiting) = self.calls.lock().waiting.get_mut(&key) {
            waiting.status = status;
        }
    }
}

fn has_signal(status: &File) -> bool {
    let mut text = [0; STATUS_BYTES_MAX];
    // A thread that is gone (ESRCH) waits for no answer.
    let len = status.read_at(&mut text, 0).unwrap_or(0);
    is_wanted(&text[..len])
}

/// The process that a thread belongs to.
pub(super) fn process_of(tid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// Whether a signal is pending that is neither blocked nor ignored, by the text of
/// `/proc/<tid>/status`.
fn is_wanted(status: &[u8]) -> bool {
    let Some(at) = status.windows(8).position(|word| word == b"\nSigPnd:") else { return false };
    let mut lines = status[at + 1..].split(|byte| *byte == b'\n');
    // These four always follow each other (fs/proc/array.c).
    let mut set = |name: &[u8]| {
        let digits = lines.next()?.strip_prefix(name)?.trim_ascii();
        u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut set = |name| set(name).unwrap_or(0);
    let pending = set(b"SigPnd:") | set(b"ShdPnd:");
    pending & !set(b"SigBlk:") & !set(b"SigIgn:") != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn text(own: u64, shared: u64, blocked: u64, ignored: u64) -> Vec<u8> {
        format!(
            "Name:\tcat\nSigQ:\t1/15\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\n\
             SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t0000000000000000\n"
        )
        .into_bytes()
    }

    #[test]
    fn a_pending_signal_calls_away_unless_blocked_or_ignored() {
        assert!(!is_wanted(&text(0, 0, 0, 0)));
        assert!(is_wanted(&text(1 << 1, 0, 0, 0)));
        assert!(is_wanted(&text(0, 1 << 8, 0, 0)));
        assert!(!is_wanted(&text(1 << 1, 0, 1 << 1, 0)));
        assert!(!is_wanted(&text(0, 1 << 14, 0, 1 << 14)));
        assert!(is_wanted(&text(1 << 1, 1 << 2, 1 << 1, 0)));
    }

    #[test]
    fn a_text_that_is_no_status_calls_nobody_away() {
        for garbage in ["", "\nSigPnd:", "\nSigPnd:\tzz\n", "\nShdPnd: 1x\n"] {
            assert!(!is_wanted(garbage.as_bytes()));
        }
    }

    #[test]
    fn sweeping_stays_below_a_twentieth_of_a_processor() {
        let millis = Duration::from_millis;
        assert_eq!(period(0, Duration::ZERO), millis(20));
        assert_eq!(period(50, millis(1)), millis(20));
        assert_eq!(period(51, millis(1)), millis(80));
        for cost in [millis(0), millis(4), millis(5), millis(90), Duration::from_secs(3)] {
            for calls in [1, 50, 51, 500, 60_000] {
                assert!(cost * SHARE <= period(calls, cost), "{calls} {cost:?}");
            }
        }
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
