//! What is done to jobs and queues: by their owners, and by the operator.
//!
//! Every change is in the journal before it holds, and durable before it is answered. A refusal
//! has changed nothing.

use super::job::{Job, PRIORITY_MAX, Phase};
use super::journal::Mark;
use super::queue::{Core, Flags, Record, Wish};
use super::{GHOST_SECONDS, Spool, journal, no_job, now};
use crate::error::{Errno, Error};
use crate::file::Caller;
use crate::sync::Arc;
use std::ffi::OsStr;

impl Spool {
    /// Refuses who is neither the owner of the job nor the operator.
    pub(super) fn check_owner(&self, caller: &Caller, job: &Job) -> Result<(), Error> {
        let is_own = job.uid == caller.uid && job.agent.is_empty();
        if is_own || self.is_operator(caller) {
            return Ok(());
        }
        let words = format!("{}: Permission denied", job.file_name().to_string_lossy());
        Err(Error::new(Errno::EPERM, words))
    }

    /// The job of that number in a queue.
    pub(super) fn job_in<'a>(
        &self,
        core: &'a Core,
        queue: &str,
        id: u64,
    ) -> Result<&'a Job, Error> {
        let found = core.jobs.get(&id).filter(|job| job.queue == queue);
        found.ok_or_else(|| no_job(id))
    }

    /// Takes a job out of its queue, wherever it is by now. Its name in the listing.
    pub(super) fn remove(
        &self,
        core: &mut Core,
        id: u64,
        by: &str,
    ) -> Result<(String, Mark), Error> {
        let job = core.jobs.get(&id).ok_or_else(|| no_job(id))?.clone();
        let path = self.data(&job.queue, id);
        let mark = self.commit(core, &[Record::Gone(id)])?;
        if job.active.is_some() {
            core.wishes.insert(id, Wish::Drop);
        }
        core.written.remove(&id);
        let name = job.file_name().to_string_lossy().into_owned();
        let line = format!("{} {id} {} {} removed by {by}", now(), job.title(), job.total());
        core.note(&job.queue, line);
        self.discard(&path);
        Ok((name, mark))
    }

    /// Notes that a job was printed, before its bytes are taken away.
    pub(super) fn printed(&self, id: u64, printer: &str) -> Result<(), Error> {
        let (mark, path) = {
            let mut core = self.core.lock();
            let Some(job) = core.jobs.get(&id).cloned() else { return Ok(()) };
            let mark = self.commit(&mut core, &[Record::Gone(id)])?;
            let line =
                format!("{} {id} {} {} printed on {printer}", now(), job.title(), job.total());
            core.note(&job.queue, line);
            let path = self.data(&job.queue, id);
            core.haunt(job, now() + GHOST_SECONDS);
            (mark, path)
        };
        self.journal.sync(mark)?;
        self.discard(&path);
        self.tidy();
        Ok(())
    }

    /// Holds a job, or lets it go. One that is being printed goes back to the queue first.
    pub(super) fn hold(&self, core: &mut Core, id: u64, is_held: bool) -> Result<Mark, Error> {
        let is_active = core.jobs.get(&id).is_some_and(|job| job.active.is_some());
        let mark = self.change(core, id, |job| (job.is_held, job.until) = (is_held, 0))?;
        if is_active && is_held {
            core.wishes.insert(id, Wish::Requeue);
        }
        Ok(mark)
    }

    /// Holds a job until a time, in seconds since 1970.
    pub(super) fn hold_until(
        self: &Arc<Self>,
        core: &mut Core,
        id: u64,
        until: u64,
    ) -> Result<Mark, Error> {
        let is_active = core.jobs.get(&id).is_some_and(|job| job.active.is_some());
        let mark = self.change(core, id, |job| (job.is_held, job.until) = (false, until))?;
        if is_active {
            core.wishes.insert(id, Wish::Requeue);
        }
        self.let_go_at(id, until);
        Ok(mark)
    }

    /// Has a job that is held until then let go.
    pub(super) fn let_go_at(self: &Arc<Self>, id: u64, until: u64) {
        let nanos = until.saturating_sub(now()).saturating_mul(1_000_000_000);
        let spool = Arc::downgrade(self);
        self.engine.after(nanos, move || {
            let Some(spool) = spool.upgrade() else { return };
            let mut core = spool.core.lock();
            // Held until another time meanwhile, or let go: that counts.
            if core.jobs.get(&id).is_some_and(|job| job.until == until)
                && let Err(error) = spool.change(&mut core, id, |job| job.until = 0)
            {
                log::error!(target: "spool", "job {id} stays held: {error}");
            }
            drop(core);
            spool.ring();
        });
    }

    /// Gives a job another priority; only the operator may raise one.
    pub(super) fn prioritise(
        &self,
        core: &mut Core,
        caller: &Caller,
        id: u64,
        priority: u8,
    ) -> Result<Mark, Error> {
        let job = core.jobs.get(&id).ok_or_else(|| no_job(id))?;
        if !(1..=PRIORITY_MAX).contains(&priority) {
            let words = format!("priority {priority}: 1 to {PRIORITY_MAX} are right");
            return Err(Error::new(Errno::EINVAL, words));
        }
        if priority > job.priority && !self.is_operator(caller) {
            return Err(Error::new(Errno::EPERM, "only the operator raises a priority"));
        }
        self.change(core, id, |job| job.priority = priority)
    }

    /// Puts jobs at the top of their queue, in the order given; or at its end.
    pub(super) fn to_top(&self, core: &mut Core, ids: &[u64]) -> Result<Mark, Error> {
        let first = core.front - i64::try_from(ids.len()).unwrap_or(0);
        let mut records = Vec::new();
        for (front, id) in (first..).zip(ids) {
            let mut job = core.jobs.get(id).ok_or_else(|| no_job(*id))?.clone();
            job.front = front;
            records.push(Record::Job(Box::new(job)));
        }
        self.commit(core, &records)
    }

    /// Puts a job behind all others of its priority.
    pub(super) fn to_bottom(&self, core: &mut Core, id: u64) -> Result<Mark, Error> {
        let seq = core.next_seq;
        self.change(core, id, |job| (job.front, job.seq) = (0, seq))
    }

    /// Moves a job to another queue; it keeps its number, owner, priority, hold and time.
    pub(super) fn move_job(
        &self,
        core: &mut Core,
        id: u64,
        to: &str,
        name: Option<&OsStr>,
    ) -> Result<Mark, Error> {
        let job = core.jobs.get(&id).ok_or_else(|| no_job(id))?;
        if job.active.is_some() {
            let words = format!("job {id} is being printed; stop the printer and abort it first");
            return Err(Error::new(Errno::EBUSY, words));
        }
        let target = core
            .queues
            .get(to)
            .ok_or_else(|| Error::new(Errno::ENOENT, format!("{to}: unknown printer")))?;
        if target.flags.is_disabled && job.queue != to {
            return Err(Error::new(Errno::EACCES, format!("{to}: the queue is disabled")));
        }
        let (from, queue) = (self.data(&job.queue, id), to.to_owned());
        self.queue_dir(to)?;
        let name = name.map(OsStr::to_owned);
        let mark = self.change(core, id, |job| {
            if job.queue != queue {
                (job.queue, job.front) = (queue, 0);
            }
            if let Some(name) = name {
                job.name = name;
            }
        })?;
        let path = self.data(to, id);
        if path != from {
            // The journal has it already; should this fail, the next start moves it.
            std::fs::rename(&from, &path).map_err(|error| journal::host(&path, &error))?;
        }
        Ok(mark)
    }

    /// Submits a staged file under a name.
    pub(super) fn submit_staged(
        &self,
        core: &mut Core,
        id: u64,
        to: &str,
        name: &OsStr,
    ) -> Result<Mark, Error> {
        let job = core.jobs.get(&id).ok_or_else(|| no_job(id))?;
        let disabled = core.queues.get(to).is_none_or(|queue| queue.flags.is_disabled);
        if disabled {
            return Err(Error::new(Errno::EACCES, format!("{to}: the queue is disabled")));
        }
        let path = self.data(&job.queue, id);
        let len = std::fs::metadata(&path).map_err(|e| journal::host(&path, &e))?.len();
        let is_open = core.written.contains(&id);
        if len == 0 && !is_open {
            return Err(Error::new(Errno::EINVAL, "an empty file is no job"));
        }
        if is_open {
            // Its writer is not through: it is queued when he closes it.
            self.move_job(core, id, to, Some(name))?;
            return self.change(core, id, |job| {
                if job.phase == Phase::Staged {
                    job.phase = Phase::Spooling { flushed: None };
                }
            });
        }
        self.queue_dir(to)?;
        let mark = self.queue_job(core, id, len, Some((to, name)))?;
        let moved = self.data(to, id);
        if moved != path {
            // The journal has it already; should this fail, the next start moves it.
            std::fs::rename(&path, &moved).map_err(|error| journal::host(&moved, &error))?;
        }
        Ok(mark)
    }

    /// Says something of a queue.
    pub(super) fn set_flags(
        &self,
        core: &mut Core,
        queue: &str,
        change: impl FnOnce(&mut Flags),
    ) -> Result<Mark, Error> {
        let known = core.queues.get(queue);
        let known =
            known.ok_or_else(|| Error::new(Errno::ENOENT, format!("{queue}: unknown printer")))?;
        let mut flags = known.flags.clone();
        change(&mut flags);
        if flags == known.flags {
            return self.commit(core, &[]);
        }
        flags.since = now();
        self.commit(core, &[Record::Flags(queue.to_owned(), flags)])
    }

    /// Ends the printing of a queue's job now; it goes back, in front of the others. Its number.
    pub(super) fn abort(&self, core: &mut Core, queue: &str) -> Option<u64> {
        let is_here = |job: &&Job| {
            job.active.as_deref() == Some(queue) || (job.active.is_some() && job.queue == queue)
        };
        let id = core.jobs.values().find(is_here)?.id;
        core.wishes.entry(id).or_insert(Wish::Requeue);
        Some(id)
    }
}
