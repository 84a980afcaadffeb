//! What is done to jobs and queues: by their owners, and by the operator.
//!
//! 1. An operation is a [`Plan`] first. Its records are one append: after a crash all of it has
//!    been done, or nothing; a refusal has changed nothing.
//! 2. What it did is durable before it is answered, and before any file goes ([`Spool::settle`]).

use super::job::{Job, PRIORITY_MAX, Phase};
use super::journal::Mark;
use super::queue::{Core, Finished, Flags, Record, Wish};
use super::text::STAGED_BY_LPR;
use super::{GHOST_SECONDS, Spool, journal, no_job, now};
use crate::error::{Errno, Error};
use crate::file::Caller;
use crate::sync::Arc;
use std::ffi::OsStr;
use std::path::PathBuf;

/// What an operation comes to.
#[derive(Default)]
pub(super) struct Plan {
    records: Vec<Record>,
    /// What the printers are to do with their jobs.
    wishes: Vec<(u64, Wish)>,
    /// For the logs of their queues.
    notes: Vec<Finished>,
    /// Files that are nobody's then.
    files: Vec<PathBuf>,
}

impl Plan {
    fn put(&mut self, job: Job) {
        self.records.push(Record::Job(Box::new(job)));
    }

    /// Says something of a queue.
    pub(super) fn flags(
        &mut self,
        core: &Core,
        queue: &str,
        change: impl FnOnce(&mut Flags),
    ) -> Result<(), Error> {
        let known = core.queues.get(queue);
        let known =
            known.ok_or_else(|| Error::new(Errno::ENOENT, format!("{queue}: unknown printer")))?;
        let mut flags = known.flags.clone();
        change(&mut flags);
        if flags != known.flags {
            flags.since = now();
            self.records.push(Record::Flags(queue.to_owned(), flags));
        }
        Ok(())
    }

    /// Holds a job, or lets it go. One that is being printed goes back to the queue first.
    pub(super) fn hold(&mut self, core: &Core, id: u64, is_held: bool) -> Result<(), Error> {
        let mut job = core.job(id)?.clone();
        if job.active.is_some() && is_held {
            core.check_not_ending(id)?;
            self.wishes.push((id, Wish::Requeue));
        }
        (job.is_held, job.until) = (is_held, 0);
        self.put(job);
        Ok(())
    }

    /// Holds a job until a time, in seconds since 1970; [`Spool::let_go_at`] ends that.
    pub(super) fn hold_until(&mut self, core: &Core, id: u64, until: u64) -> Result<(), Error> {
        self.hold(core, id, true)?;
        if let Some(Record::Job(job)) = self.records.last_mut() {
            (job.is_held, job.until) = (false, until);
        }
        Ok(())
    }

    /// Puts jobs at the top of their queue, in the order given.
    pub(super) fn top(&mut self, core: &Core, ids: &[u64]) -> Result<(), Error> {
        let first = core.front - i64::try_from(ids.len()).unwrap_or(0);
        for (front, id) in (first..).zip(ids) {
            let mut job = core.job(*id)?.clone();
            job.front = front;
            self.put(job);
        }
        Ok(())
    }

    /// Puts jobs behind all others of their priority.
    pub(super) fn bottom(&mut self, core: &Core, ids: &[u64]) -> Result<(), Error> {
        for (seq, id) in (core.next_seq..).zip(ids) {
            let mut job = core.job(*id)?.clone();
            (job.front, job.seq) = (0, seq);
            self.put(job);
        }
        Ok(())
    }

    /// Moves a job to another queue, under a name; it keeps its number, owner, priority, hold and
    /// time, and its file stays where it is until the next start.
    pub(super) fn shift(
        &mut self,
        core: &Core,
        mut job: Job,
        to: &str,
        name: Option<&OsStr>,
    ) -> Result<(), Error> {
        if job.active.is_some() {
            let id = job.id;
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
        if job.queue != to {
            (job.queue, job.front) = (to.to_owned(), 0);
        }
        if let Some(name) = name {
            job.name = name.to_owned();
        }
        self.put(job);
        Ok(())
    }
}

/// What was carried out: [`Spool::settle`] waits for it.
#[must_use]
pub(super) struct Done {
    mark: Mark,
    files: Vec<PathBuf>,
}

impl Spool {
    /// Does all of a plan, or nothing of it.
    ///
    /// # Errors
    /// That the journal cannot be written.
    pub(super) fn carry_out(&self, core: &mut Core, plan: Plan) -> Result<Done, Error> {
        let mark = self.commit(core, &plan.records)?;
        core.wishes.extend(plan.wishes);
        for record in &plan.records {
            if let Record::Gone(id) = record {
                core.written.remove(id);
            }
        }
        for job in plan.notes {
            core.note(job);
        }
        Ok(Done { mark, files: plan.files })
    }

    /// Waits until it is durable, then takes the files away that are nobody's.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn settle(&self, done: Done) -> Result<(), Error> {
        self.ring();
        self.journal.sync(done.mark)?;
        for path in done.files {
            self.discard(&path);
        }
        Ok(())
    }

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

    /// Plans to take a job out of its queue, wherever it is by now. Its name in the listing.
    pub(super) fn plan_removal(
        &self,
        core: &Core,
        plan: &mut Plan,
        id: u64,
        by: &str,
    ) -> Result<String, Error> {
        let job = core.job(id)?;
        plan.records.push(Record::Gone(id));
        if job.active.is_some() {
            plan.wishes.push((id, Wish::Drop));
        }
        // What lpr has staged and taken back was refused: it was never a job.
        let is_of_lpr = job.name.as_encoded_bytes().starts_with(STAGED_BY_LPR.as_bytes());
        if job.phase == Phase::Queued || !is_of_lpr {
            let fate = format!("removed by {by}");
            plan.notes.push(Finished::new(job, job.total(), now(), fate));
        }
        plan.files.push(self.path_of(job));
        Ok(job.file_name().to_string_lossy().into_owned())
    }

    /// Notes that a job was printed, before its bytes are taken away.
    pub(super) fn printed(&self, id: u64, printer: &str) -> Result<(), Error> {
        let done = {
            let mut core = self.core.lock();
            let Some(job) = core.jobs.get(&id).cloned() else { return Ok(()) };
            let fate = format!("printed on {printer}");
            let plan = Plan {
                records: vec![Record::Gone(id)],
                notes: vec![Finished::new(&job, job.total(), now(), fate)],
                files: vec![self.path_of(&job)],
                ..Plan::default()
            };
            let done = self.carry_out(&mut core, plan)?;
            core.haunt(job, now() + GHOST_SECONDS);
            done
        };
        self.settle(done)
    }

    /// Has a job that is held until then, in seconds since 1970, let go.
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

    /// Plans another priority for a job; only the operator may raise one.
    pub(super) fn plan_priority(
        &self,
        core: &Core,
        plan: &mut Plan,
        caller: &Caller,
        (id, priority): (u64, u8),
    ) -> Result<(), Error> {
        let mut job = core.job(id)?.clone();
        if !(1..=PRIORITY_MAX).contains(&priority) {
            let words = format!("priority {priority}: 1 to {PRIORITY_MAX} are right");
            return Err(Error::new(Errno::EINVAL, words));
        }
        if priority > job.priority && !self.is_operator(caller) {
            return Err(Error::new(Errno::EPERM, "only the operator raises a priority"));
        }
        job.priority = priority;
        plan.put(job);
        Ok(())
    }

    /// Plans to submit a staged file under a name.
    pub(super) fn plan_staged(
        &self,
        core: &Core,
        plan: &mut Plan,
        mut job: Job,
        (to, name): (&str, &OsStr),
    ) -> Result<(), Error> {
        let disabled = core.queues.get(to).is_none_or(|queue| queue.flags.is_disabled);
        if disabled {
            return Err(Error::new(Errno::EACCES, format!("{to}: the queue is disabled")));
        }
        if core.written.contains(&job.id) {
            // It is queued when its writer lets go of it, which he may have done: the host tells of
            // that later than close(2) returns. What that close has kept is kept under the name.
            if job.phase == Phase::Staged {
                let flushed = (job.size > 0).then_some(job.size);
                job.phase = Phase::Spooling { flushed };
            }
            return plan.shift(core, job, to, Some(name));
        }
        let path = self.path_of(&job);
        let len = std::fs::metadata(&path).map_err(|e| journal::host(&path, &e))?.len();
        if len == 0 {
            return Err(Error::new(Errno::EINVAL, "an empty file is no job"));
        }
        let record = self.queued(core, job, len, Some((to, name)));
        plan.records.push(record);
        Ok(())
    }

    /// Ends the printing of a queue's job now; it goes back, in front of the others. What is said
    /// of that.
    pub(super) fn abort(&self, core: &mut Core, queue: &str) -> String {
        let is_here = |job: &&Job| {
            job.active.as_deref() == Some(queue) || (job.active.is_some() && job.queue == queue)
        };
        let Some(id) = core.jobs.values().find(is_here).map(|job| job.id) else {
            return "\tno daemon to abort\n".into();
        };
        if let Err(refusal) = core.check_not_ending(id) {
            return format!("\t{}\n", refusal);
        }
        core.wishes.entry(id).or_insert(Wish::Requeue);
        format!("\tjob {id} goes back to the queue\n")
    }
}
