//! The thread that prints: one for each printer, one job at a time.
//!
//! 1. While its queue is started it has the printer for itself; stopped and idle, it lets go of it.
//! 2. A job that cannot be printed is tried again, ever later, until somebody removes it: no
//!    trouble of a printer stops a queue or loses a job.
//! 3. A job is over when all of it is on paper and the journal says so, in that order. Once its
//!    last byte is with the printer it does not go back to the queue, but for trouble; it can be
//!    removed.

use super::banner::Facts;
use super::job::Job;
use super::queue::{Core, Record, Wish};
use super::text::ctime;
use super::view::user_name;
use super::{PrinterUnit, Spool};
use crate::error::Error;
use crate::sync::{Arc, Mutex};
use devices::engine::Time;
use devices::lp::{commands, conditions};
use devices::sink::Sink;
use devices::{CharDevice, Clock, Interrupt, IoError, Ioctl, WaitQueue};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// Bytes read of a job at a time.
const PIECE_BYTES: usize = 256 << 10;
/// First and longest wait before another try.
const TRY_NANOS: u64 = 250_000_000;
const TRY_NANOS_MAX: u64 = 30_000_000_000;

/// A printer and its thread.
pub(super) struct Printer {
    pub(super) name: String,
    pub(super) sink: String,
    unit: Arc<dyn CharDevice>,
    bell: Arc<WaitQueue>,
    away: Interrupt,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Why the last try failed.
    failed: Mutex<Failed>,
    /// Something was tried with it: what is wrong is seen by that, not by a look at its output.
    is_tried: AtomicBool,
    /// It would print what it is given: its hardware says so, and the last try did not just fail.
    is_well: AtomicBool,
}

/// Why a try failed.
#[derive(Clone, Debug, Default)]
struct Failed {
    words: String,
    /// Of a job in the printer's own queue, with which it is forgotten.
    job: Option<u64>,
}

/// Why the printing of a job ended before its end.
enum Cut {
    /// Somebody wished it.
    Wish(Wish),
    /// The same, when all was on paper but not handed out yet: its removal.
    LateWish(Wish),
    /// The printer could not; the job begins anew.
    Trouble(String),
    /// The machine is switched off.
    Away,
}

impl Printer {
    pub(super) fn new(unit: PrinterUnit) -> Arc<Printer> {
        let PrinterUnit { name, unit, sink } = unit;
        let bell: Arc<WaitQueue> = Arc::default();
        if let Some(waits) = unit.waits() {
            let listener = Arc::downgrade(&bell);
            waits.listen(Arc::new(move || {
                let bell = listener.upgrade();
                if let Some(bell) = &bell {
                    bell.ring();
                }
                bell.is_some()
            }));
        }
        let (away, thread, failed) = (Interrupt::default(), Mutex::default(), Mutex::default());
        let (is_well, is_tried) = (AtomicBool::new(true), AtomicBool::new(false));
        Arc::new(Printer { name, sink, unit, bell, away, thread, failed, is_tried, is_well })
    }

    pub(super) fn start(self: &Arc<Self>, spool: &Arc<Spool>) -> std::io::Result<()> {
        let is_stopped = {
            let core = spool.core.lock();
            core.queues.get(&self.name).is_none_or(|queue| queue.flags.is_stopped)
        };
        // Now, so that nobody is before us.
        let is_open = !is_stopped && self.unit.open().is_ok();
        // Weak: the spool has its printers.
        let (me, spool) = (Arc::clone(self), Arc::downgrade(spool));
        let thread = std::thread::Builder::new().name(format!("spool-{}", self.name));
        let handle = thread.spawn(move || {
            if let Some(spool) = spool.upgrade() {
                me.run(&spool, is_open);
            }
        })?;
        *self.thread.lock() = Some(handle);
        self.examine();
        Ok(())
    }

    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    pub(super) fn call_away(&self) {
        self.away.raise();
        self.bell.ring();
    }

    pub(super) fn join(&self) {
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            log::error!(target: "spool", "the thread of {} panicked", self.name);
        }
    }

    /// What its hardware says hinders it, in words; empty when nothing does.
    fn hindrance(&self) -> String {
        let mut output = [0];
        let mut call = Ioctl { cmd: commands::CONDITIONS, input: &[], output: &mut output };
        let bits = match self.unit.ioctl(&mut call) {
            Ok(()) => output[0],
            Err(error) => return error.to_string(),
        };
        conditions(bits)
    }

    /// What hinders it, or why its last try failed: not of a job that its queue has no more.
    pub(super) fn trouble(&self, spool: &Spool) -> String {
        let hindrance = self.hindrance();
        if !hindrance.is_empty() {
            return hindrance;
        }
        let Failed { words, job } = self.failed.lock().clone();
        if job.is_some_and(|id| !self.is_own(spool, id)) { String::new() } else { words }
    }

    /// Whether a job is in the printer's own queue.
    fn is_own(&self, spool: &Spool, id: u64) -> bool {
        spool.core.lock().jobs.get(&id).is_some_and(|job| job.queue == self.name)
    }

    fn note_failure(&self, spool: &Spool, id: Option<u64>, words: impl Into<String>) {
        let job = id.filter(|id| self.is_own(spool, *id));
        *self.failed.lock() = Failed { words: words.into(), job };
    }

    fn forget_failure(&self) {
        *self.failed.lock() = Failed::default();
    }

    /// Says what of its output is not there; it may come. On a thread of its own, for names of
    /// hosts may be waited for long.
    fn examine(self: &Arc<Self>) {
        let Ok(sink) = Sink::parse(&self.sink, None) else { return };
        let me = Arc::downgrade(self);
        let look = move || {
            let Some(words) = sink.absence() else { return };
            let Some(me) = me.upgrade() else { return };
            log::warn!(target: "spool", "{}: {words}", me.name);
            let mut failed = me.failed.lock();
            if !me.is_tried.load(Ordering::Acquire) {
                *failed = Failed { words, job: None };
            }
        };
        let thread = std::thread::Builder::new().name(format!("sink-{}", self.name));
        if let Err(refusal) = thread.spawn(look) {
            log::warn!(target: "spool", "{}: its output is not looked at: {refusal}", self.name);
        }
    }

    /// Looks whether it may have a class's job; the others hear when that has changed, for a job
    /// that it would have had is theirs then.
    fn look(&self, spool: &Spool) -> bool {
        let is_well = self.hindrance().is_empty();
        if self.is_well.swap(is_well, Ordering::AcqRel) != is_well {
            self.stand(spool, is_well);
            spool.ring();
        }
        is_well
    }

    /// Stands among the idle ones, or no longer.
    fn stand(&self, spool: &Spool, is_idle: bool) {
        let mut core = spool.core.lock();
        if is_idle {
            core.idle.insert(self.name.clone());
        } else {
            core.idle.remove(&self.name);
        }
    }

    fn ioctl(&self, cmd: u32, input: &[u8]) -> Result<u64, IoError> {
        let mut output = [0; 8];
        self.unit.ioctl(&mut Ioctl { cmd, input, output: &mut output })?;
        Ok(u64::from_le_bytes(output))
    }

    /// Waits, turning the crank, until `done` says so. `false`: called away.
    fn wait(&self, spool: &Spool, done: impl FnMut() -> bool) -> bool {
        spool.engine.wait(&self.bell, Some(&self.away), done).is_ok()
    }

    fn run(&self, spool: &Spool, mut is_open: bool) {
        let mut pause = TRY_NANOS;
        loop {
            let is_stopped = || {
                let core = spool.core.lock();
                core.queues.get(&self.name).is_none_or(|queue| queue.flags.is_stopped)
            };
            let has_job = || {
                let is_well = self.look(spool);
                spool.core.lock().next_for(&self.name, is_well).is_some()
            };
            if is_stopped() == is_open {
                if is_open {
                    self.stand(spool, false);
                    self.unit.close();
                    is_open = false;
                    spool.ring();
                } else if let Err(error) = self.unit.open() {
                    // Somebody prints past us; he will be through some time.
                    self.is_tried.store(true, Ordering::Release);
                    self.note_failure(spool, None, error.to_string());
                    if !self.pause(spool, &mut pause, None) {
                        return;
                    }
                    continue;
                } else {
                    if self.is_tried.load(Ordering::Acquire) {
                        self.forget_failure();
                    }
                    is_open = true;
                }
                continue;
            }
            if is_open {
                let is_well = self.look(spool);
                self.stand(spool, is_well);
            }
            if !self.wait(spool, || is_stopped() == is_open || (is_open && has_job())) {
                break;
            }
            if is_stopped() == is_open {
                continue;
            }
            match self.take(spool) {
                Some((id, path)) => {
                    if !self.serve(spool, id, &path, &mut pause) {
                        break;
                    }
                }
                None => continue, // another printer was faster
            }
        }
        if is_open {
            self.unit.close();
        }
    }

    /// Makes the next job ours.
    fn take(&self, spool: &Spool) -> Option<(u64, PathBuf)> {
        let is_well = self.look(spool);
        let found = self.take_next(&mut spool.core.lock(), spool, is_well);
        // It is not idle any more: what it leaves to the others is theirs now.
        spool.ring();
        found
    }

    fn take_next(&self, core: &mut Core, spool: &Spool, is_well: bool) -> Option<(u64, PathBuf)> {
        let mut job = core.next_for(&self.name, is_well)?.clone();
        core.idle.remove(&self.name);
        job.active = Some(self.name.clone());
        let found = (job.id, spool.path_of(&job));
        let record = Record::Job(Box::new(job));
        if let Err(error) = spool.commit(core, std::slice::from_ref(&record)) {
            // Should we die now, it is printed again all the same, though perhaps not first.
            log::warn!(target: "spool", "{error}");
            core.apply(&record);
        }
        core.wishes.remove(&found.0);
        log::debug!(target: "spool", "{}: takes job {}", self.name, found.0);
        Some(found)
    }

    /// Prints a job and puts it where it belongs then. `false`: called away.
    fn serve(&self, spool: &Spool, id: u64, path: &PathBuf, pause: &mut u64) -> bool {
        self.is_tried.store(true, Ordering::Release);
        let outcome = self.print(spool, id, path);
        if outcome.is_err() {
            spool.core.lock().ending.remove(&id);
        }
        if let Ok(()) = outcome {
            self.forget_failure();
            *pause = TRY_NANOS;
            while let Err(error) = spool.printed(id, &self.name) {
                // It must not be printed again: nothing else is until this is written down.
                self.note_failure(spool, None, error.to_string());
                if !self.pause(spool, pause, None) {
                    return false;
                }
            }
            self.forget_failure();
            let mut core = spool.core.lock();
            core.wishes.remove(&id);
            core.ending.remove(&id);
            return true;
        }
        let wish = match outcome {
            Err(Cut::Away) => {
                // Switched off with us; what it says does not matter any more.
                let _ = self.ioctl(commands::RESET, b"hard");
                return false;
            }
            Err(Cut::LateWish(wish)) => {
                let _ = self.ioctl(commands::RESET, &[]); // it has nothing to hand out now
                wish
            }
            Err(Cut::Wish(wish)) => {
                self.eject(spool);
                wish
            }
            Err(Cut::Trouble(why)) => {
                log::warn!(target: "spool", "{}: job {id}: {why}", self.name);
                let _ = self.ioctl(commands::RESET, &[]); // what it says does not matter
                let _ = self.ioctl(commands::END, b"cut");
                self.note_failure(spool, Some(id), why);
                return self.fail(spool, id, pause);
            }
            Ok(()) => return true,
        };
        self.put_back(spool, id, wish);
        true
    }

    /// After a try that failed. A job of its own waits with it; one of a class is for the others,
    /// who may do better.
    fn fail(&self, spool: &Spool, id: u64, pause: &mut u64) -> bool {
        let is_own = {
            let core = spool.core.lock();
            core.jobs.get(&id).is_none_or(|job| job.queue == self.name)
        };
        if !is_own {
            self.put_back(spool, id, Wish::Requeue);
        }
        // The next try is to find it at rest.
        if matches!(self.outcome(spool, is_own.then_some(id)), Err(Cut::Away)) {
            let _ = self.ioctl(commands::RESET, b"hard");
            return false;
        }
        if !self.pause(spool, pause, is_own.then_some(id)) {
            return false;
        }
        if is_own {
            self.put_back(spool, id, Wish::Requeue);
        }
        true
    }

    /// Puts a job whose printing was cut short where it belongs.
    fn put_back(&self, spool: &Spool, id: u64, wish: Wish) {
        log::debug!(target: "spool", "{}: job {id} is cut short: {wish:?}", self.name);
        let mut core = spool.core.lock();
        core.wishes.remove(&id);
        if wish == Wish::Requeue && core.jobs.contains_key(&id) {
            let front = core.front - 1;
            let back = spool.change(&mut core, id, |job| {
                (job.active, job.front, job.restarts) = (None, front, job.restarts + 1);
            });
            if let Err(error) = back {
                log::error!(target: "spool", "job {id}: {error}");
            }
        }
        drop(core);
        spool.ring();
    }

    /// Waits before another try, ever longer; a wish ends it, and so does who stops the queue. What
    /// failed is the host's: it gets its own time, also where the machine's is skipped.
    fn pause(&self, spool: &Spool, pause: &mut u64, id: Option<u64>) -> bool {
        let is_stopped =
            |core: &Core| core.queues.get(&self.name).is_none_or(|queue| queue.flags.is_stopped);
        let was_stopped = is_stopped(&spool.core.lock());
        let nanos = *pause;
        *pause = (*pause * 2).min(TRY_NANOS_MAX);
        let is_wished = || {
            id.is_some_and(|id| {
                let core = spool.core.lock();
                let is_gone = core.wishes.contains_key(&id) || !core.jobs.contains_key(&id);
                is_gone || (!was_stopped && is_stopped(&core))
            })
        };
        if spool.engine.time() == Time::Virtual {
            return self.rest(Duration::from_nanos(nanos), is_wished);
        }
        let until = spool.engine.now().after(nanos);
        let bell = Arc::clone(&self.bell);
        let event = spool.engine.after(nanos, move || bell.ring());
        let went_on = self.wait(spool, || is_wished() || spool.engine.now() >= until);
        spool.engine.cancel(event);
        went_on
    }

    /// Waits by the host's clock, at most until `is_over`. `false`: called away.
    fn rest(&self, time: Duration, is_over: impl Fn() -> bool) -> bool {
        let begun = SystemTime::now();
        loop {
            let seen = self.bell.generation();
            if self.away.is_raised() {
                return false;
            }
            // A clock that is set back ends it.
            let passed = begun.elapsed().unwrap_or(Duration::MAX);
            if is_over() || passed >= time {
                return true;
            }
            self.bell.wait(seen, Some(time - passed));
        }
    }

    /// Waits for the end of what is under way; how much of it is on paper.
    fn outcome(&self, spool: &Spool, id: Option<u64>) -> Result<u64, Cut> {
        let mut outcome = Err(IoError::WouldBlock);
        let mut wish = None;
        let went_on = self.wait(spool, || {
            if let Some(id) = id {
                wish = spool.core.lock().wishes.get(&id).copied();
            }
            outcome = self.ioctl(commands::OUTCOME, &[]);
            wish.is_some() || outcome != Err(IoError::WouldBlock)
        });
        match (went_on, wish) {
            (false, _) => Err(Cut::Away),
            (_, Some(wish)) => Err(Cut::Wish(wish)),
            _ => outcome.map_err(|error| Cut::Trouble(self.failure(error))),
        }
    }

    /// Why a try failed, in words for the queue's users; the log has the host's.
    fn failure(&self, error: IoError) -> String {
        match error {
            IoError::Hardware => format!("its output {} failed; it is tried again", self.sink),
            other => other.to_string(),
        }
    }

    fn print(&self, spool: &Spool, id: u64, path: &PathBuf) -> Result<(), Cut> {
        let told = |error: std::io::Error| Cut::Trouble(format!("{}: {error}", path.display()));
        let (name, copies, banner) = {
            let core = spool.core.lock();
            let job = core.jobs.get(&id).ok_or(Cut::Wish(Wish::Drop))?;
            (format!("{id} {}", job.title()), job.copies, banner(&core, job))
        };
        let ended = |error: IoError| Cut::Trouble(error.to_string());
        self.ioctl(commands::BEGIN, name.as_bytes()).map_err(ended)?;
        self.outcome(spool, Some(id))?;
        self.put(spool, id, &banner)?;
        // The last byte so far is kept back: a job is on paper whole only when it has been decided,
        // by whoever wishes otherwise or here, that it is.
        let mut piece = Vec::with_capacity(PIECE_BYTES + 1);
        for _ in 0..copies {
            let mut file = File::open(path).map_err(told)?;
            loop {
                let limit = PIECE_BYTES as u64;
                let read = file.by_ref().take(limit).read_to_end(&mut piece).map_err(told)?;
                if read == 0 {
                    break;
                }
                let last = piece.len() - 1;
                self.put(spool, id, &piece[..last])?;
                piece.drain(..last);
            }
        }
        spool.core.lock().begin_end(id).map_err(Cut::Wish)?;
        self.put(spool, id, &piece)?;
        self.ioctl(commands::END, &[]).map_err(ended)?;
        match self.outcome(spool, Some(id)) {
            Ok(_) => Ok(()),
            Err(Cut::Wish(wish)) => Err(Cut::LateWish(wish)),
            Err(cut) => Err(cut),
        }
    }

    /// Has a piece printed, to its last byte. Where there is no room for it, the rest waits.
    fn put(&self, spool: &Spool, id: u64, piece: &[u8]) -> Result<(), Cut> {
        let (mut rest, mut pause) = (piece, TRY_NANOS);
        while !rest.is_empty() {
            let taken = self.unit.write(0, rest).map_err(|e| Cut::Trouble(e.to_string()))?;
            let mut done = [0; 8];
            let outcome = self.outcome(spool, Some(id));
            let mut call = Ioctl { cmd: commands::OUTCOME, input: &[], output: &mut done };
            // How much is on paper it tells also when it could not do more.
            let is_told = self.unit.ioctl(&mut call).is_ok();
            match outcome {
                Ok(_) => {
                    rest = &rest[taken..];
                    pause = TRY_NANOS;
                    self.forget_failure();
                }
                Err(Cut::Trouble(why)) if why == IoError::NoSpace.to_string() && is_told => {
                    let done = usize::try_from(u64::from_le_bytes(done)).unwrap_or(0);
                    rest = &rest[done.min(taken)..];
                    self.note_failure(spool, Some(id), "no room for its output on the host");
                    if !self.pause(spool, &mut pause, Some(id)) {
                        return Err(Cut::Away);
                    }
                    let wish = spool.core.lock().wishes.get(&id).copied();
                    if let Some(wish) = wish {
                        return Err(Cut::Wish(wish));
                    }
                }
                Err(cut) => return Err(cut),
            }
        }
        Ok(())
    }

    /// Ends a job that was cut short, on a page of its own.
    fn eject(&self, spool: &Spool) {
        let step = || -> Result<(), Cut> {
            let told = |error: IoError| Cut::Trouble(error.to_string());
            self.ioctl(commands::RESET, &[]).map_err(told)?;
            if self.hindrance().is_empty() {
                self.unit.write(0, b"\x0c").map_err(told)?;
                self.outcome(spool, None)?;
            }
            self.ioctl(commands::END, b"cut").map_err(told)?;
            self.outcome(spool, None)?;
            Ok(())
        };
        if let Err(Cut::Trouble(why)) = step() {
            log::warn!(target: "spool", "{}: {why}", self.name);
        }
    }
}

/// The page before a job, if there is one.
fn banner(core: &Core, job: &Job) -> Vec<u8> {
    let kind = core.queues.get(&job.queue).map(|queue| queue.banner).unwrap_or_default();
    if job.is_plain {
        return Vec::new();
    }
    let user = if job.agent.is_empty() { user_name(job.uid) } else { job.agent.clone() };
    let (name, date) = (job.title(), ctime(job.time));
    kind.page(&Facts { user: &user, name: &name, class: &job.class, date: &date })
}

/// What went wrong, for the log.
impl From<Error> for Cut {
    fn from(error: Error) -> Cut {
        Cut::Trouble(error.to_string())
    }
}

#[cfg(test)]
#[path = "printer_tests.rs"]
mod tests;
