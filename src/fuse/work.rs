//! Threads for calls that must wait.
//!
//! 1. A job never waits behind another while fewer than [`THREADS_MAX`] run: a thread is idle, or
//!    one is made. Beyond that jobs queue, and those called away are answered in the queue.
//! 2. A thread with nothing to do for [`IDLE_MAX`] ends.
//! 3. A panicking job takes neither the thread nor the count of threads with it.

use crate::error::Errno;
use crate::sync::{Arc, Condvar, Mutex};
use devices::Interrupt;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Most threads at once.
pub const THREADS_MAX: usize = 1024;
/// How long a thread stays without work.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Calls are shallow and keep their data on the heap; memory is taken only where touched.
const STACK_BYTES: usize = 256 << 10;

/// A call's rest. Told `Err` it does not run, but answers that.
pub struct Job {
    /// What calls it away.
    pub interrupt: Arc<Interrupt>,
    /// Runs it, or refuses it; either way its caller is answered.
    pub run: Box<dyn FnOnce(Result<(), Errno>) + Send>,
}

/// The threads.
#[derive(Clone)]
pub struct Workers {
    hall: Arc<Hall>,
}

struct Hall {
    threads_max: usize,
    idle_max: Duration,
    state: Mutex<State>,
    /// Rung for a new job, and for the end.
    bell: Condvar,
    /// Rung when a thread ends or a job is done while somebody waits for that.
    quiet: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    idle: usize,
    threads: usize,
    made: u64,
    is_closed: bool,
}

impl Default for Workers {
    fn default() -> Workers {
        Workers::new(THREADS_MAX, IDLE_MAX)
    }
}

impl Workers {
    fn new(threads_max: usize, idle_max: Duration) -> Workers {
        let (state, bell, quiet) = (Mutex::default(), Condvar::new(), Condvar::new());
        Workers { hall: Arc::new(Hall { threads_max, idle_max, state, bell, quiet }) }
    }

    /// Runs a job on a thread that may wait. Does not wait itself.
    pub fn run(&self, job: Job) {
        let mut state = self.hall.state.lock();
        state.queue.push_back(job);
        // Every idle thread will take one of the queue; one more than they are needs a thread.
        if state.idle >= state.queue.len() {
            drop(state);
            self.hall.bell.notify_one();
        } else if state.threads < self.hall.threads_max {
            state.threads += 1;
            state.made += 1;
            let name = format!("work-{}", state.made);
            drop(state);
            self.start(name);
        }
    }

    fn start(&self, name: String) {
        let hall = Arc::clone(&self.hall);
        let thread = std::thread::Builder::new().name(name).stack_size(STACK_BYTES);
        let Err(refusal) = thread.spawn(move || hall.work()) else { return };
        log::error!(target: "fuse", "no thread for a call that waits: {refusal}");
        let mut state = self.hall.state.lock();
        state.threads -= 1;
        // Somebody who works will take it; without anybody it must not wait forever.
        let orphans =
            if state.threads == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
        drop(state);
        for job in orphans {
            refuse(job, Errno::ENOMEM);
        }
    }

    /// Answers EINTR to every queued job that was called away.
    pub fn refuse_called_away(&self) {
        let mut state = self.hall.state.lock();
        let queue = std::mem::take(&mut state.queue);
        let (away, stay): (VecDeque<Job>, VecDeque<Job>) =
            queue.into_iter().partition(|job| job.interrupt.is_raised());
        state.queue = stay;
        drop(state);
        for job in away {
            refuse(job, Errno::EINTR);
        }
    }

    /// Whether no job runs or waits. Waits for that, at most `limit`.
    #[must_use]
    pub fn settle(&self, limit: Duration) -> bool {
        let mut state = self.hall.state.lock();
        let is_quiet = |s: &mut State| s.queue.is_empty() && s.idle == s.threads;
        !self.hall.quiet.wait_while_for(&mut state, |s| !is_quiet(s), limit).timed_out()
    }

    /// Ends all threads that are idle or become so. `true` when none is left after `limit`.
    #[must_use]
    pub fn close(&self, limit: Duration) -> bool {
        let mut state = self.hall.state.lock();
        state.is_closed = true;
        self.hall.bell.notify_all();
        !self.hall.quiet.wait_while_for(&mut state, |s| s.threads > 0, limit).timed_out()
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.hall.state.lock().threads
    }
}

impl Hall {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                if catch_unwind(AssertUnwindSafe(|| (job.run)(Ok(())))).is_err() {
                    log::error!(target: "fuse", "a waiting call panicked; it answers EIO");
                }
                state = self.state.lock();
                continue;
            }
            if state.is_closed {
                break;
            }
            state.idle += 1;
            self.quiet.notify_all();
            let is_bored = self.bell.wait_for(&mut state, self.idle_max).timed_out();
            state.idle -= 1;
            if is_bored && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        self.quiet.notify_all();
    }
}

fn refuse(job: Job, errno: Errno) {
    if catch_unwind(AssertUnwindSafe(|| (job.run)(Err(errno)))).is_err() {
        log::error!(target: "fuse", "refusing a waiting call panicked; it answers EIO");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const LONG: Duration = Duration::from_secs(60);

    fn job(run: impl FnOnce(Result<(), Errno>) + Send + 'static) -> Job {
        Job { interrupt: Arc::default(), run: Box::new(run) }
    }

    /// A job that runs until its end is sent or dropped, and tells that it began.
    fn long_job(begun: &Sender<()>) -> (Job, Sender<()>) {
        let (end, wait): (Sender<()>, Receiver<()>) = channel();
        let begun = begun.clone();
        let run = move |_| {
            begun.send(()).unwrap();
            let _ = wait.recv();
        };
        (job(run), end)
    }

    #[test]
    fn jobs_that_wait_do_not_wait_for_each_other() {
        let workers = Workers::default();
        let (begun, all) = channel();
        let ends: Vec<_> = (0..50)
            .map(|_| {
                let (job, end) = long_job(&begun);
                workers.run(job);
                end
            })
            .collect();
        for _ in 0..50 {
            all.recv_timeout(LONG).unwrap();
        }
        assert_eq!(workers.threads(), 50);
        assert!(!workers.settle(Duration::ZERO));
        drop(ends);
        assert!(workers.settle(LONG));
        assert!(workers.close(LONG));
        assert_eq!(workers.threads(), 0);
    }

    #[test]
    fn an_idle_thread_takes_the_next_job() {
        let workers = Workers::default();
        for _ in 0..100 {
            let (done, end) = channel();
            workers.run(job(move |_| done.send(()).unwrap()));
            end.recv_timeout(LONG).unwrap();
            assert!(workers.settle(LONG));
        }
        assert_eq!(workers.threads(), 1);
    }

    #[test]
    fn an_idle_thread_ends_after_a_while() {
        let workers = Workers::new(4, Duration::from_millis(1));
        workers.run(job(|_| {}));
        while workers.threads() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn beyond_the_bound_jobs_queue_and_one_called_away_is_answered_there() {
        let workers = Workers::new(1, LONG);
        let (begun, all) = channel();
        let (first, end) = long_job(&begun);
        workers.run(first);
        all.recv_timeout(LONG).unwrap();
        let (told, answers) = channel();
        let tell = told.clone();
        let away = job(move |go| tell.send(("away", go)).unwrap());
        let interrupt = Arc::clone(&away.interrupt);
        workers.run(away);
        workers.run(job(move |go| told.send(("stays", go)).unwrap()));
        assert_eq!(workers.threads(), 1);
        workers.refuse_called_away();
        assert!(answers.try_recv().is_err());
        interrupt.raise();
        workers.refuse_called_away();
        assert_eq!(answers.recv_timeout(LONG).unwrap(), ("away", Err(Errno::EINTR)));
        drop(end);
        assert_eq!(answers.recv_timeout(LONG).unwrap(), ("stays", Ok(())));
    }

    #[test]
    fn a_panicking_job_leaves_the_hall_in_order() {
        let workers = Workers::new(1, LONG);
        workers.run(job(|_| panic!("on purpose")));
        let (done, end) = channel();
        workers.run(job(move |_| done.send(()).unwrap()));
        end.recv_timeout(LONG).unwrap();
        assert!(workers.settle(LONG));
        assert_eq!(workers.threads(), 1);
    }
}
