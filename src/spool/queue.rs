//! The queues and the jobs in them, in memory: changed only by records of the journal, so that what
//! is read back at the next start is what stood here.
//!
//! 1. A number is given once, ever.
//! 2. The order of a queue is that of [`Job::place`]: front, priority, submission.
//! 3. Nothing here waits or touches the host.

use super::banner::Banner;
use super::job::{Job, Phase, Place, escape, unescape};
use super::no_job;
use crate::error::{Errno, Error};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};

/// Most lines of a queue's log of finished jobs.
const LOG_LINES_MAX: usize = 200;
/// Most finished jobs that are remembered by name.
const GHOSTS_MAX: usize = 1024;

/// What the operator has said of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// Nothing is printed.
    pub(super) is_stopped: bool,
    /// Nothing is taken.
    pub(super) is_disabled: bool,
    /// New jobs are held.
    pub(super) holds_all: bool,
    /// Said of the queue by its operator.
    pub(super) message: String,
    /// When any of that was said, in seconds since 1970; 0: never.
    pub(super) since: u64,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The job is so from now on.
    Job(Box<Job>),
    /// The job is no more.
    Gone(u64),
    /// The queue is so from now on.
    Flags(String, Flags),
    /// The next number, and the next place in the order.
    Next(u64, u64),
}

impl Record {
    pub(super) fn line(&self) -> String {
        match self {
            Record::Job(job) => job.record(),
            Record::Gone(id) => format!("gone {id}"),
            Record::Next(id, seq) => format!("next {id} {seq}"),
            Record::Flags(queue, flags) => {
                let bits = [flags.is_stopped, flags.is_disabled, flags.holds_all].map(u8::from);
                let [a, b, c] = bits;
                let (queue, said) = (escape(queue.as_bytes()), escape(flags.message.as_bytes()));
                format!("queue {queue} {a} {b} {c} {said} {}", flags.since)
            }
        }
    }

    pub(super) fn parse(line: &str) -> Option<Record> {
        let words: Vec<&str> = line.split(' ').collect();
        let text = |word: &str| String::from_utf8(unescape(word)?).ok();
        match *words.as_slice() {
            ["job", ..] => Job::parse(&words[1..]).map(|job| Record::Job(Box::new(job))),
            ["gone", id] => Some(Record::Gone(id.parse().ok()?)),
            ["next", id, seq] => Some(Record::Next(id.parse().ok()?, seq.parse().ok()?)),
            ["queue", name, stopped, disabled, holds, message, ref more @ ..] => {
                let flags = Flags {
                    is_stopped: stopped == "1",
                    is_disabled: disabled == "1",
                    holds_all: holds == "1",
                    message: text(message)?,
                    // The first journals did not say.
                    since: more.first().map_or(Some(0), |word| word.parse().ok())?,
                };
                Some(Record::Flags(text(name)?, flags))
            }
            _ => None,
        }
    }
}

/// A job that is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) queue: String,
    /// When, in seconds since 1970.
    pub(super) time: u64,
    pub(super) id: u64,
    pub(super) uid: u32,
    pub(super) agent: String,
    pub(super) title: String,
    /// Bytes of all copies.
    pub(super) bytes: u64,
    /// What became of it: `printed on lp0`.
    pub(super) fate: String,
}

impl Finished {
    pub(super) fn new(job: &Job, bytes: u64, time: u64, fate: String) -> Finished {
        let (queue, agent, title) = (job.queue.clone(), job.agent.clone(), job.title());
        Finished { queue, time, id: job.id, uid: job.uid, agent, title, bytes, fate }
    }
}

/// A queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Its number: that of its directory.
    pub(super) number: u64,
    /// The printers of a class; empty for the queue of one printer.
    pub(super) members: Vec<String>,
    /// Longest job, in bytes; none: no limit.
    pub(super) bytes_max: Option<u64>,
    /// The page before each job.
    pub(super) banner: Banner,
    pub(super) flags: Flags,
    /// What is submitted, in the order of printing.
    pub(super) order: BTreeMap<Place, u64>,
    /// What of that may be printed: neither held nor being printed. The printers look here at
    /// every change, however many jobs are held.
    ready: BTreeMap<Place, u64>,
    /// All that is in it, also what is being written.
    pub(super) ids: BTreeSet<u64>,
    /// The last finished jobs.
    pub(super) log: VecDeque<Finished>,
}

/// What is to become of the job that a printer prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Back to the queue, in front, from its beginning.
    Requeue,
    /// No more of it.
    Drop,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Core {
    pub(super) jobs: BTreeMap<u64, Job>,
    pub(super) queues: BTreeMap<String, Queue>,
    pub(super) next_id: u64,
    pub(super) next_seq: u64,
    /// The smallest [`Job::front`] so far.
    pub(super) front: i64,
    names: HashMap<(String, u32, OsString), BTreeSet<u64>>,
    /// Finished jobs, with the second until which their names are found.
    ghosts: VecDeque<(u64, Job)>,
    /// What was asked of the jobs that are being printed.
    pub(super) wishes: BTreeMap<u64, Wish>,
    /// Jobs whose last byte the printer was given: they are printed whole now, and so not again.
    pub(super) ending: BTreeSet<u64>,
    /// Jobs that somebody has open for writing.
    pub(super) written: BTreeSet<u64>,
    /// How often the host's kernel holds a job's inode.
    pub(super) holds: BTreeMap<u64, u64>,
    /// The printers that have nothing to do, and could.
    pub(super) idle: BTreeSet<String>,
}

/// Everybody may mean a staged file by its name, a job only its owner.
fn name_key(job: &Job) -> (String, u32, OsString) {
    let uid = if Job::is_staging_name(&job.name) { u32::MAX } else { job.uid };
    (job.queue.clone(), uid, job.name.clone())
}

impl Core {
    /// The queue of that name, which is made when it is missing.
    pub(super) fn queue_mut(&mut self, name: &str) -> &mut Queue {
        let number = self.queues.len() as u64;
        self.queues.entry(name.to_owned()).or_insert_with(|| Queue { number, ..Queue::default() })
    }

    /// The name and the queue of a number.
    pub(super) fn queue_numbered(&self, number: u64) -> Option<(&str, &Queue)> {
        let found = self.queues.iter().find(|(_, queue)| queue.number == number)?;
        Some((found.0.as_str(), found.1))
    }

    /// The job of that number.
    ///
    /// # Errors
    /// `ENOENT`.
    pub(super) fn job(&self, id: u64) -> Result<&Job, Error> {
        self.jobs.get(&id).ok_or_else(|| no_job(id))
    }

    /// Does what a record says.
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Job(job) => self.put(job.as_ref().clone()),
            Record::Gone(id) => {
                self.take(*id);
            }
            Record::Flags(queue, flags) => self.queue_mut(queue).flags = flags.clone(),
            Record::Next(id, seq) => {
                self.next_id = self.next_id.max(*id);
                self.next_seq = self.next_seq.max(*seq);
            }
        }
    }

    fn put(&mut self, job: Job) {
        self.take(job.id);
        self.next_id = self.next_id.max(job.id + 1);
        self.next_seq = self.next_seq.max(job.seq + 1);
        self.front = self.front.min(job.front);
        self.names.entry(name_key(&job)).or_default().insert(job.id);
        let queue = self.queue_mut(&job.queue);
        queue.ids.insert(job.id);
        if job.phase == Phase::Queued {
            queue.order.insert(job.place(), job.id);
            if !job.is_waiting() && job.active.is_none() {
                queue.ready.insert(job.place(), job.id);
            }
        }
        self.jobs.insert(job.id, job);
    }

    /// Takes a job out.
    fn take(&mut self, id: u64) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        let key = name_key(&job);
        if let Some(ids) = self.names.get_mut(&key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.names.remove(&key);
            }
        }
        let queue = self.queue_mut(&job.queue);
        queue.ids.remove(&id);
        queue.order.remove(&job.place());
        queue.ready.remove(&job.place());
        Some(job)
    }

    /// The newest job or staged file of `uid` that was written under `name`.
    pub(super) fn named(&self, queue: &str, uid: u32, name: &OsStr) -> Option<u64> {
        let uid = if Job::is_staging_name(name) { u32::MAX } else { uid };
        let ids = self.names.get(&(queue.to_owned(), uid, name.to_owned()))?;
        ids.last().copied()
    }

    /// The job that the listing shows under `name`: `17-report`.
    pub(super) fn listed(&self, queue: &str, name: &OsStr) -> Option<u64> {
        let text = name.as_encoded_bytes();
        let digits = text.iter().position(|byte| !byte.is_ascii_digit())?;
        let id: u64 = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
        let job = self.jobs.get(&id)?;
        (job.queue == queue && job.file_name() == name).then_some(id)
    }

    /// Keeps a finished job's name until the second `until`.
    pub(super) fn haunt(&mut self, job: Job, until: u64) {
        while self.ghosts.len() >= GHOSTS_MAX {
            self.ghosts.pop_front();
        }
        self.ghosts.push_back((until, job));
    }

    /// A job that has finished a moment ago.
    pub(super) fn ghost(&mut self, now: u64, is_it: impl Fn(&Job) -> bool) -> Option<Job> {
        while self.ghosts.front().is_some_and(|(until, _)| *until < now) {
            self.ghosts.pop_front();
        }
        let found = self.ghosts.iter().rev().find(|(_, job)| is_it(job));
        found.map(|(_, job)| job.clone())
    }

    /// Forgets the name of a finished job.
    pub(super) fn exorcise(&mut self, id: u64) {
        self.ghosts.retain(|(_, job)| job.id != id);
    }

    /// Notes in its queue's log what became of a job.
    pub(super) fn note(&mut self, job: Finished) {
        log::info!(target: "spool", "{}: job {} {}", job.queue, job.id, job.fate);
        let log = &mut self.queue_mut(&job.queue).log;
        if log.len() >= LOG_LINES_MAX {
            log.pop_front();
        }
        log.push_back(job);
    }

    /// The jobs of a queue in the order of printing: those being printed first.
    pub(super) fn ranked(&self, queue: &str) -> Vec<&Job> {
        let Some(queue) = self.queues.get(queue) else { return Vec::new() };
        let all = queue.order.values().filter_map(|id| self.jobs.get(id));
        let (mut first, rest): (Vec<&Job>, Vec<&Job>) = all.partition(|job| job.active.is_some());
        first.extend(rest);
        first
    }

    /// Whether a printer may serve a class: neither stopped nor disabled.
    fn serves_classes(&self, printer: &str) -> bool {
        let flags = self.queues.get(printer).map(|queue| &queue.flags);
        flags.is_some_and(|flags| !flags.is_stopped && !flags.is_disabled)
    }

    /// The first job that `printer` may print, of its own queue or of a class that has it. A job
    /// of a class is for the first of its printers that is idle; `is_well` says whether this one
    /// may have any.
    pub(super) fn next_for(&self, printer: &str, is_well: bool) -> Option<&Job> {
        if self.queues.get(printer)?.flags.is_stopped {
            return None;
        }
        let is_first = |members: &[String]| {
            let before = members.iter().take_while(|member| *member != printer);
            members.iter().any(|member| member == printer)
                && !before.into_iter().any(|m| self.idle.contains(m) && self.serves_classes(m))
        };
        let may_serve = is_well && self.serves_classes(printer);
        let serves = |(name, queue): &(&String, &Queue)| {
            *name == printer || (may_serve && is_first(&queue.members))
        };
        let queues = self.queues.iter().filter(serves).filter(|(_, q)| !q.flags.is_stopped);
        let first = queues.filter_map(|(_, queue)| queue.ready.first_key_value()).min()?;
        self.jobs.get(first.1)
    }

    /// Decides that a job is printed to its end, unless somebody wished otherwise before.
    pub(super) fn begin_end(&mut self, id: u64) -> Result<(), Wish> {
        match self.wishes.get(&id) {
            Some(wish) => Err(*wish),
            None => {
                self.ending.insert(id);
                Ok(())
            }
        }
    }

    /// Refuses to take a job back whose last byte is printed: it would be printed twice.
    pub(super) fn check_not_ending(&self, id: u64) -> Result<(), Error> {
        if !self.ending.contains(&id) {
            return Ok(());
        }
        let words = format!("job {id} is printed but for its end; it can only be removed now");
        Err(Error::new(Errno::EBUSY, words))
    }

    /// Records that make all this anew.
    pub(super) fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![Record::Next(self.next_id, self.next_seq)];
        for (name, queue) in &self.queues {
            if queue.flags != Flags::default() {
                records.push(Record::Flags(name.clone(), queue.flags.clone()));
            }
        }
        let is_kept = |job: &&Job| job.phase != Phase::Spooling { flushed: None };
        let jobs = self.jobs.values().filter(is_kept).cloned();
        records.extend(jobs.map(|job| Record::Job(Box::new(job))));
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(id: u64, priority: u8) -> Record {
        let mut job = Job::new(id, "lp0", "x".as_ref(), (1, 1));
        (job.phase, job.seq, job.priority) = (Phase::Queued, id, priority);
        Record::Job(Box::new(job))
    }

    fn ids(core: &Core) -> Vec<u64> {
        core.ranked("lp0").iter().map(|job| job.id).collect()
    }

    #[test]
    fn equal_priorities_stay_in_order_and_higher_ones_pass() {
        let mut core = Core::default();
        for (id, priority) in [(1, 50), (2, 50), (3, 90), (4, 50)] {
            core.apply(&queued(id, priority));
        }
        assert_eq!(ids(&core), [3, 1, 2, 4]);
        assert_eq!(core.next_for("lp0", true).unwrap().id, 3);
        core.apply(&queued(4, 100));
        assert_eq!(ids(&core), [4, 3, 1, 2]);
        core.apply(&Record::Gone(4));
        assert_eq!(core.next_id, 5);
    }

    #[test]
    fn held_and_active_jobs_are_passed_over() {
        let mut core = Core::default();
        for id in 1..=3 {
            core.apply(&queued(id, 50));
        }
        let mut held = core.jobs[&1].clone();
        held.is_held = true;
        core.apply(&Record::Job(Box::new(held)));
        let mut active = core.jobs[&2].clone();
        active.active = Some("lp0".into());
        core.apply(&Record::Job(Box::new(active)));
        assert_eq!(core.next_for("lp0", true).unwrap().id, 3);
        assert_eq!(ids(&core), [2, 1, 3]);
    }

    #[test]
    fn a_class_gives_its_jobs_to_its_members_and_stops_for_all() {
        let mut core = Core::default();
        core.queue_mut("lp0");
        core.queue_mut("lp1");
        core.queue_mut("laser").members = vec!["lp0".into(), "lp1".into()];
        let mut job = Job::new(7, "laser", "x".as_ref(), (1, 1));
        job.phase = Phase::Queued;
        core.apply(&Record::Job(Box::new(job)));
        assert_eq!(core.next_for("lp1", true).unwrap().id, 7);
        let stopped = Flags { is_stopped: true, ..Flags::default() };
        core.apply(&Record::Flags("lp1".into(), stopped.clone()));
        assert!(core.next_for("lp1", true).is_none());
        assert_eq!(core.next_for("lp0", true).unwrap().id, 7);
        core.apply(&Record::Flags("laser".into(), stopped));
        assert!(core.next_for("lp0", true).is_none());
    }

    #[test]
    fn a_class_takes_the_first_printer_that_is_idle_enabled_and_well() {
        let mut core = Core::default();
        for name in ["lp0", "lp1"] {
            core.queue_mut(name);
            core.idle.insert(name.to_owned());
        }
        core.queue_mut("laser").members = vec!["lp0".into(), "lp1".into()];
        let mut job = Job::new(7, "laser", "x".as_ref(), (1, 1));
        job.phase = Phase::Queued;
        core.apply(&Record::Job(Box::new(job.clone())));
        assert!(core.next_for("lp0", true).is_some());
        assert!(core.next_for("lp0", false).is_none(), "out of paper");
        assert!(core.next_for("lp1", true).is_none(), "the first is idle");
        core.idle.remove("lp0");
        assert!(core.next_for("lp1", true).is_some());
        core.idle.insert("lp0".into());
        core.queue_mut("lp0").flags.is_disabled = true;
        assert!(core.next_for("lp0", true).is_none() && core.next_for("lp1", true).is_some());
        job.until = 1;
        core.apply(&Record::Job(Box::new(job)));
        assert!(core.next_for("lp1", true).is_none(), "not yet");
    }

    #[test]
    fn a_name_is_that_of_the_owners_newest_job() {
        let mut core = Core::default();
        core.apply(&queued(1, 50));
        core.apply(&queued(2, 50));
        assert_eq!(core.named("lp0", 1, "x".as_ref()), Some(2));
        assert_eq!(core.named("lp0", 9, "x".as_ref()), None);
        assert_eq!(core.listed("lp0", "1-x".as_ref()), Some(1));
        for stranger in ["01-x", "1-y", "3-x", "1", "x", ""] {
            assert_eq!(core.listed("lp0", stranger.as_ref()), None, "{stranger}");
        }
    }

    #[test]
    fn every_record_comes_back_from_its_line() {
        let flags = Flags { is_stopped: true, message: "paper jam".into(), ..Flags::default() };
        let all =
            [queued(3, 9), Record::Gone(8), Record::Next(5, 6), Record::Flags("lp0".into(), flags)];
        for record in all {
            assert_eq!(Record::parse(&record.line()), Some(record));
        }
        assert_eq!(Record::parse("wibble 1"), None);
        let old = "queue lp0 1 0 0 -";
        assert_eq!(Record::parse(old), Record::parse(&format!("{old} 0")), "the first journals");
    }
}
