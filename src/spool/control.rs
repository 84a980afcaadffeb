//! The commands of a queue's `.ctl`: one a write, as of lpc, lprm, lp.
//!
//! `stop start abort disable enable down MESSAGE up hold N.. release N.. top N.. bottom N pri N P
//! until N SECONDS rm N|USER|- ... move N|* QUEUE redo N clean tclean msg MESSAGE status
//! submit STAGED KEY=VALUE..`

use super::Spool;
use super::job::{Job, PRIORITY_MAX, Phase};
use super::ops::{Done, Plan};
use super::queue::{Core, Flags, Wish};
use super::view::{user_name, user_number, user_of};
use crate::ctl;
use crate::error::{Errno, Error};
use crate::file::{Answer, Caller, Control};
use crate::sync::Arc;
use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

/// The commands that only an operator may give.
const OPERATORS: [&str; 13] = [
    "stop",
    "start",
    "abort",
    "disable",
    "enable",
    "down",
    "up",
    "top",
    "bottom",
    "msg",
    "holdall",
    "noholdall",
    "clean",
];
/// The others; some of them only for the job's owner.
const ANYBODYS: [&str; 10] =
    ["hold", "release", "pri", "rm", "move", "redo", "status", "submit", "until", "tclean"];

/// A staged file that was written so long ago is no submission that is just under way.
const STAGED_MIN: Duration = Duration::from_secs(60);

/// Most copies of a job.
const COPIES_MAX: u32 = 9999;

/// The ear of a queue.
#[derive(Clone)]
pub(super) struct QueueControl {
    pub(super) spool: Arc<Spool>,
    pub(super) queue: String,
}

/// What was done, to be durable before it is told, and what is told.
type Outcome = Result<(Option<Done>, String), Error>;

fn wrong(words: impl Into<String>) -> Error {
    Error::new(Errno::EINVAL, words)
}

fn number(word: &str) -> Result<u64, Error> {
    word.parse().map_err(|_| wrong(format!("{}: no number of a job", ctl::shown(word))))
}

impl Control for QueueControl {
    fn run(&self, caller: &Caller, line: &str) -> Result<Answer<String>, Error> {
        let words = ctl::split(line)?;
        let Some((verb, words)) = words.split_first() else {
            return Err(wrong("an empty command"));
        };
        let (ear, caller, verb, words) = (self.clone(), *caller, verb.clone(), words.to_vec());
        // All of it: the host's disk may be slow, and somebody else may have to be asked who a
        // user is.
        Ok(Answer::Later(Box::new(move |_| {
            let (done, text) = ear.obey(&caller, &verb, &words)?;
            match done {
                Some(done) => ear.spool.settle(done)?,
                None => ear.spool.ring(),
            }
            Ok(text)
        })))
    }
}

impl QueueControl {
    fn obey(&self, caller: &Caller, verb: &str, words: &[String]) -> Outcome {
        if OPERATORS.contains(&verb) && !self.spool.is_operator(caller) {
            return Err(Error::new(Errno::EPERM, format!("{verb}: Privileged command")));
        }
        match verb {
            "status" => Ok((None, self.spool.view(&self.queue).lpc())),
            "rm" => self.remove(caller, words),
            "submit" => self.submit(caller, words),
            "hold" | "release" => {
                self.each(caller, words, |core, plan, id| plan.hold(core, id, verb == "hold"))
            }
            "top" | "bottom" => self.reorder(verb, words),
            "pri" => self.prioritise(caller, words),
            "until" => self.until(caller, words),
            "move" => self.move_jobs(caller, words),
            "redo" => self.redo(caller, words),
            "clean" => self.clean(Some(&user_name(caller.uid))),
            "tclean" => self.clean(None),
            _ => self.flag(verb, words),
        }
    }

    /// What is said of the whole queue.
    fn flag(&self, verb: &str, words: &[String]) -> Outcome {
        let said = words.join(" ");
        let (change, answer): (fn(&mut Flags, String), &str) = match verb {
            "stop" => (|flags, _| flags.is_stopped = true, "\tprinting disabled\n"),
            "abort" => (|flags, _| flags.is_stopped = true, "\tprinting disabled\n"),
            "start" => {
                (|flags, _| flags.is_stopped = false, "\tprinting enabled\n\tdaemon started\n")
            }
            "disable" => (|flags, _| flags.is_disabled = true, "\tqueuing disabled\n"),
            "enable" => (|flags, _| flags.is_disabled = false, "\tqueuing enabled\n"),
            "down" => (
                |flags, said| {
                    (flags.is_stopped, flags.is_disabled, flags.message) = (true, true, said);
                },
                "\tprinter and queuing disabled\n",
            ),
            "up" => (
                |flags, _| {
                    let holds_all = flags.holds_all;
                    *flags = Flags { holds_all, ..Flags::default() };
                },
                "\tprinting enabled\n\tdaemon started\n",
            ),
            "msg" => (|flags, said| flags.message = said, ""),
            "holdall" => (|flags, _| flags.holds_all = true, "\tnew jobs are held\n"),
            "noholdall" => (|flags, _| flags.holds_all = false, "\tnew jobs are not held\n"),
            _ => {
                let near = crate::words::closest(verb, OPERATORS.into_iter().chain(ANYBODYS));
                let near = near.map_or(String::new(), |near| format!(" (did you mean {near}?)"));
                return Err(wrong(format!("no such command: {}{near}", ctl::shown(verb))));
            }
        };
        let takes_words = matches!(verb, "down" | "msg");
        if !words.is_empty() && !takes_words {
            return Err(wrong(format!("{verb}: takes no words")));
        }
        let mut core = self.spool.core.lock();
        let mut plan = Plan::default();
        plan.flags(&core, &self.queue, |flags| change(flags, said))?;
        let done = self.spool.carry_out(&mut core, plan)?;
        let mut text = format!("{}:\n{answer}", self.queue);
        if verb == "abort" {
            text += &self.spool.abort(&mut core, &self.queue);
        }
        Ok((Some(done), text))
    }

    /// Removes the staged files that nobody has open or has touched for a while: whoever left them
    /// will hardly rename them any more. Without `by` it only tells which.
    fn clean(&self, by: Option<&str>) -> Outcome {
        let now = SystemTime::now();
        let is_old = |job: &&Job| {
            let data = std::fs::metadata(self.spool.path_of(job));
            let age = data.and_then(|data| data.modified()).map(|at| now.duration_since(at));
            matches!(age, Ok(Ok(age)) if age >= STAGED_MIN)
        };
        let mut core = self.spool.core.lock();
        let ids = core.queues.get(&self.queue).map(|queue| &queue.ids);
        let jobs = ids.into_iter().flatten().filter_map(|id| core.jobs.get(id));
        let is_left = |job: &&Job| job.phase == Phase::Staged && !core.written.contains(&job.id);
        let left: Vec<&Job> = jobs.filter(is_left).filter(is_old).collect();
        let (mut plan, mut text) = (Plan::default(), format!("{}:\n", self.queue));
        for job in left {
            let name = job.name.to_string_lossy();
            if let Some(by) = by {
                self.spool.plan_removal(&core, &mut plan, job.id, by)?;
                text += &format!("\tremoved {name}\n");
            } else {
                text += &format!("\twould remove {name}\n");
            }
        }
        Ok((Some(self.spool.carry_out(&mut core, plan)?), text))
    }

    /// Does the same to each of the jobs named; all of them must be the caller's.
    fn each(
        &self,
        caller: &Caller,
        words: &[String],
        act: impl Fn(&Core, &mut Plan, u64) -> Result<(), Error>,
    ) -> Outcome {
        let ids = words.iter().map(|word| number(word)).collect::<Result<Vec<_>, _>>()?;
        if ids.is_empty() {
            return Err(wrong("which job? Its number is wanted"));
        }
        let mut core = self.spool.core.lock();
        let mut plan = Plan::default();
        for id in ids {
            let job = self.spool.job_in(&core, &self.queue, id)?;
            self.spool.check_owner(caller, job)?;
            act(&core, &mut plan, id)?;
        }
        Ok((Some(self.spool.carry_out(&mut core, plan)?), String::new()))
    }

    fn reorder(&self, verb: &str, words: &[String]) -> Outcome {
        let mut core = self.spool.core.lock();
        let mut ids = Vec::new();
        for word in words {
            let found: Vec<u64> = match word.parse::<u64>() {
                Ok(id) => self.spool.job_in(&core, &self.queue, id).map(|job| vec![job.id])?,
                Err(_) => {
                    let uid = user_number(word);
                    let all = core.ranked(&self.queue);
                    let own = all.iter().filter(|job| Some(job.uid) == uid || job.agent == *word);
                    own.map(|job| job.id).collect()
                }
            };
            ids.extend(found);
        }
        if ids.is_empty() {
            return Err(Error::new(
                Errno::ENOENT,
                format!("{}:\n\tqueue order unchanged", self.queue),
            ));
        }
        let mut plan = Plan::default();
        if verb == "top" {
            plan.top(&core, &ids)?;
        } else {
            plan.bottom(&core, &ids)?;
        }
        let done = self.spool.carry_out(&mut core, plan)?;
        let mut text = format!("{}:\n", self.queue);
        for job in ids.iter().filter_map(|id| core.jobs.get(id)) {
            text += &format!("\tmoved {}\n", job.file_name().to_string_lossy());
        }
        Ok((Some(done), text))
    }

    fn prioritise(&self, caller: &Caller, words: &[String]) -> Outcome {
        let [id, priority] = words else { return Err(wrong("pri: the form is: pri N PRIORITY")) };
        let priority = priority.parse::<u8>().map_err(|_| {
            wrong(format!("{}: 1 to {PRIORITY_MAX} are right", ctl::shown(priority)))
        })?;
        self.each(caller, std::slice::from_ref(id), |core, plan, id| {
            self.spool.plan_priority(core, plan, caller, (id, priority))
        })
    }

    /// `rm` of numbers, users, `-` for all of one's own; without words the active job.
    fn remove(&self, caller: &Caller, words: &[String]) -> Outcome {
        let mut core = self.spool.core.lock();
        let all: Vec<u64> = core
            .queues
            .get(&self.queue)
            .map_or_else(Vec::new, |queue| queue.ids.iter().copied().collect());
        let mut ids = Vec::new();
        if words.is_empty() {
            let active =
                core.ranked(&self.queue).first().filter(|job| job.active.is_some()).map(|j| j.id);
            ids.push(active.ok_or_else(|| Error::new(Errno::ENOENT, "no job is being printed"))?);
        }
        for word in words {
            let is_meant = |id: &u64| {
                let Some(job) = core.jobs.get(id) else { return false };
                let is_own = job.uid == caller.uid && job.agent.is_empty();
                match word.as_str() {
                    "-" => is_own || self.spool.is_operator(caller),
                    name => {
                        job.agent == name
                            || (job.agent.is_empty() && Some(job.uid) == user_number(name))
                    }
                }
            };
            match word.parse::<u64>() {
                Ok(id) => ids.push(self.spool.job_in(&core, &self.queue, id)?.id),
                Err(_) => {
                    let before = ids.len();
                    ids.extend(all.iter().copied().filter(is_meant));
                    if ids.len() == before && word != "-" {
                        let words = format!("no jobs of that user in {}", self.queue);
                        let words = format!("{}: {words}", ctl::shown(word));
                        return Err(Error::new(Errno::ENOENT, words));
                    }
                }
            }
        }
        if ids.is_empty() {
            return Ok((None, format!("no jobs of yours in {}\n", self.queue)));
        }
        ids.sort_unstable();
        ids.dedup();
        let (mut plan, mut text, by) = (Plan::default(), String::new(), user_name(caller.uid));
        for id in ids {
            self.spool.check_owner(caller, core.job(id)?)?;
            let name = self.spool.plan_removal(&core, &mut plan, id, &by)?;
            text += &format!("{name} dequeued\n");
        }
        Ok((Some(self.spool.carry_out(&mut core, plan)?), text))
    }

    /// Holds a job until a time.
    fn until(&self, caller: &Caller, words: &[String]) -> Outcome {
        let [id, until] = words else { return Err(wrong("until: the form is: until N SECONDS")) };
        let until = until.parse::<u64>().map_err(|_| {
            let words = "seconds since 1970 are right";
            wrong(format!("until: {}: {words}", ctl::shown(until)))
        })?;
        let done = self.each(caller, std::slice::from_ref(id), |core, plan, id| {
            plan.hold_until(core, id, until)
        })?;
        self.spool.let_go_at(number(id)?, until);
        Ok(done)
    }

    fn move_jobs(&self, caller: &Caller, words: &[String]) -> Outcome {
        let [which, to] = words else { return Err(wrong("move: the form is: move N|* QUEUE")) };
        if which != "*" {
            return self.each(caller, std::slice::from_ref(which), |core, plan, id| {
                plan.shift(core, core.job(id)?.clone(), to, None)
            });
        }
        let mut core = self.spool.core.lock();
        let mut plan = Plan::default();
        for job in core.ranked(&self.queue).into_iter().filter(|job| job.active.is_none()) {
            self.spool.check_owner(caller, job)?;
            plan.shift(&core, job.clone(), to, None)?;
        }
        Ok((Some(self.spool.carry_out(&mut core, plan)?), String::new()))
    }

    /// Prints the active job from its beginning again.
    fn redo(&self, caller: &Caller, words: &[String]) -> Outcome {
        let [id] = words else { return Err(wrong("redo: the form is: redo N")) };
        let id = number(id)?;
        let mut core = self.spool.core.lock();
        let job = self.spool.job_in(&core, &self.queue, id)?;
        self.spool.check_owner(caller, job)?;
        if job.active.is_none() {
            return Err(wrong(format!("job {id} is not being printed")));
        }
        core.check_not_ending(id)?;
        core.wishes.entry(id).or_insert(Wish::Requeue);
        Ok((None, String::new()))
    }

    /// `submit .STAGED [name=N] [copies=N] [priority=N] [hold=1] [until=SECONDS] [class=C]
    /// [banner=0] [user=NAME] [file=BYTES:NAME]..`
    fn submit(&self, caller: &Caller, words: &[String]) -> Outcome {
        let Some((staged, options)) = words.split_first() else {
            return Err(wrong("submit: which staged file?"));
        };
        let user = options.iter().find_map(|option| option.strip_prefix("user="));
        if user.is_some() && caller.uid != 0 {
            return Err(Error::new(Errno::EPERM, "only root prints for another user"));
        }
        // Before the queues are locked: somebody else may have to be asked.
        let owner = user.and_then(user_of);
        let mut core = self.spool.core.lock();
        let id = core.named(&self.queue, caller.uid, OsStr::new(staged));
        let id = id.ok_or_else(|| {
            Error::new(Errno::ENOENT, format!("submit: no staged file {}", ctl::shown(staged)))
        })?;
        let mut job = core.job(id)?.clone();
        if job.uid != caller.uid {
            return Err(Error::plain(Errno::EPERM));
        }
        let mut name = String::new();
        match (owner, user) {
            (Some(owner), _) => (job.uid, job.gid) = owner,
            (None, Some(user)) => user.clone_into(&mut job.agent),
            (None, None) => {}
        }
        for option in options.iter().filter(|option| !option.starts_with("user=")) {
            order(&mut job, &mut name, option)
                .ok_or_else(|| wrong(format!("submit: {} is wrong", ctl::shown(option))))?;
        }
        if !(1..=COPIES_MAX).contains(&job.copies) {
            return Err(wrong(format!("copies: 1 to {COPIES_MAX} are right")));
        }
        if !(1..=PRIORITY_MAX).contains(&job.priority) {
            return Err(wrong(format!("priority: 1 to {PRIORITY_MAX} are right")));
        }
        if job.priority > super::job::PRIORITY && !self.spool.is_operator(caller) {
            return Err(Error::new(Errno::EPERM, "only the operator raises a priority"));
        }
        let (until, mut plan) = (job.until, Plan::default());
        self.spool.plan_staged(&core, &mut plan, job, (&self.queue, OsStr::new(&name)))?;
        let done = self.spool.carry_out(&mut core, plan)?;
        drop(core);
        if until != 0 {
            self.spool.let_go_at(id, until);
        }
        Ok((Some(done), format!("{id}\n")))
    }
}

/// One wish of whoever submits; `None`: it is wrong.
fn order(job: &mut Job, name: &mut String, option: &str) -> Option<()> {
    let (key, value) = option.split_once('=')?;
    match key {
        "name" => value.replace('/', "_").trim_start_matches('.').clone_into(name),
        "copies" => job.copies = value.parse().ok()?,
        "priority" => job.priority = value.parse().ok()?,
        "hold" => job.is_held = value == "1",
        "until" => job.until = value.parse().ok()?,
        "class" => value.clone_into(&mut job.class),
        "banner" => job.is_plain = value == "0",
        "file" => {
            let (bytes, name) = value.split_once(':')?;
            job.files.push((name.to_owned(), bytes.parse().ok()?));
        }
        _ => return None,
    }
    Some(())
}
