//! The spool as it is shown: views of its queues, owners' names, what the printers say.

use super::Spool;
use super::job::{Job, Phase};
use super::queue::{Core, Finished};
use super::text::{FinishedView, JobView, QueueView, rank};
use nix::unistd::{Uid, User};
use std::collections::HashMap;
use std::time::UNIX_EPOCH;

/// Names of users, each asked of the host once a view.
#[derive(Default)]
struct Names(HashMap<u32, String>);

impl Names {
    fn of(&mut self, uid: u32) -> String {
        let name = self.0.entry(uid).or_insert_with(|| user_name(uid));
        name.clone()
    }
}

/// The name of a user, or his number.
pub(super) fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// The number of a user.
pub(super) fn user_number(name: &str) -> Option<u32> {
    user_of(name).map(|(uid, _)| uid).or_else(|| name.parse().ok())
}

/// The numbers of a user that the host knows, and of his group.
pub(super) fn user_of(name: &str) -> Option<(u32, u32)> {
    let user = User::from_name(name).ok().flatten()?;
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn shown(job: &Job, rank: String, names: &mut Names) -> JobView {
    let mut files = job.files.clone();
    if files.is_empty() {
        files.push((job.title(), job.size));
    }
    let owner = if job.agent.is_empty() { names.of(job.uid) } else { job.agent.clone() };
    JobView {
        id: job.id,
        rank,
        owner,
        files,
        bytes: job.total(),
        copies: job.copies,
        priority: job.priority,
        time: job.time,
        until: job.until,
        client: job.client,
        printer: job.active.clone(),
    }
}

impl Spool {
    /// A queue as it is now.
    pub(super) fn view(&self, queue: &str) -> QueueView {
        // Asked before the queues are locked: it asks the hardware.
        let trouble = self.trouble(queue);
        let core = self.core.lock();
        let Some(known) = core.queues.get(queue) else { return QueueView::default() };
        let jobs = jobs(&core, queue, |job| {
            // What is being written grows in the host's file.
            std::fs::metadata(self.path_of(job)).map_or(0, |data| data.len())
        });
        let sink = self.printers.iter().find(|printer| printer.name == queue);
        QueueView {
            name: queue.to_owned(),
            members: known.members.clone(),
            is_stopped: known.flags.is_stopped,
            is_disabled: known.flags.is_disabled,
            message: known.flags.message.clone(),
            trouble,
            since: match known.flags.since {
                0 => self.made.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
                since => since,
            },
            sink: sink.map(|printer| printer.sink.clone()).unwrap_or_default(),
            host: self.host.clone(),
            jobs,
        }
    }

    /// What hinders the printer of a queue; of a class, when all of its printers are hindered.
    fn trouble(&self, queue: &str) -> String {
        if let Some(printer) = self.printers.iter().find(|printer| printer.name == queue) {
            let words = printer.trouble(self);
            return if words.is_empty() { words } else { format!("{queue}: {words}") };
        }
        let members = self.core.lock().queues.get(queue).map(|queue| queue.members.clone());
        let members = members.unwrap_or_default();
        if members.is_empty() {
            return format!("{queue}: no printer");
        }
        let all: Vec<String> = members.iter().map(|member| self.absence(member)).collect();
        if all.iter().any(String::is_empty) { String::new() } else { all.join("; ") }
    }

    /// Why a printer would not take a job of its class.
    fn absence(&self, member: &str) -> String {
        let (is_stopped, is_disabled) = {
            let core = self.core.lock();
            let flags = core.queues.get(member).map(|queue| &queue.flags);
            flags.map_or((false, false), |flags| (flags.is_stopped, flags.is_disabled))
        };
        match (is_stopped, is_disabled) {
            (true, _) => format!("{member}: printing disabled"),
            (false, true) => format!("{member}: queuing disabled"),
            (false, false) => self.trouble(member),
        }
    }

    /// The last finished jobs of a queue, a line each.
    pub(super) fn log_text(&self, queue: &str) -> String {
        let log = self.core.lock().queues.get(queue).map(|queue| queue.log.clone());
        let (mut text, mut names) = (String::new(), Names::default());
        for job in log.unwrap_or_default() {
            let owner = if job.agent.is_empty() { names.of(job.uid) } else { job.agent };
            let Finished { time, id, title, bytes, fate, .. } = job;
            text += &FinishedView { time, id, owner, title, bytes, fate }.line();
        }
        text
    }
}

fn jobs(core: &Core, queue: &str, size: impl Fn(&Job) -> u64) -> Vec<JobView> {
    let (mut names, mut number) = (Names::default(), 0);
    let mut views = Vec::new();
    for job in core.ranked(queue) {
        let rank = match (&job.active, job.is_waiting()) {
            (Some(_), _) => "active".into(),
            (None, true) => "held".into(),
            (None, false) => {
                number += 1;
                rank(number)
            }
        };
        views.push(shown(job, rank, &mut names));
    }
    for id in &core.written {
        let Some(job) = core.jobs.get(id).filter(|job| job.queue == queue) else { continue };
        if matches!(job.phase, Phase::Spooling { .. }) && !Job::is_staging_name(&job.name) {
            let mut job = job.clone();
            job.size = size(&job);
            views.push(shown(&job, "spooling".into(), &mut names));
        }
    }
    views
}
