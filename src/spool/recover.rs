//! What is done at a start: the journal and the files of jobs are made to agree.

use super::job::{Job, Phase};
use super::queue::{Finished, Record};
use super::text::STAGED_BY_LPR;
use super::{Spool, journal, now};
use crate::error::Error;
use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::path::{Path, PathBuf};

impl Spool {
    /// Queues what a close had made durable, drops what nobody finished, puts what was being
    /// printed in front, and removes files that are no job's.
    pub(super) fn recover(&self) -> Result<(), Error> {
        self.sweep();
        let mut files = self.files()?;
        let mut core = self.core.lock();
        let mut records = Vec::new();
        let (mut front, mut seq) = (core.front, core.next_seq.max(1));
        let (mut lost, mut dropped) = (Vec::new(), Vec::new());
        let mut interrupted: Vec<&Job> = Vec::new();
        for job in core.jobs.values() {
            let file = files.remove(&job.id);
            match (job.phase, &file) {
                (Phase::Spooling { flushed: Some(bytes) }, Some((_, len))) if bytes == *len => {
                    let Record::Job(mut job) = self.queued(&core, job.clone(), *len, None) else {
                        continue;
                    };
                    job.seq = seq;
                    seq += 1;
                    records.push(Record::Job(job));
                }
                (phase, _) if phase != Phase::Queued && is_abandoned(job) => {
                    records.push(Record::Gone(job.id));
                    dropped.extend(file.map(|(path, _)| path));
                    continue;
                }
                (_, None) => {
                    records.push(Record::Gone(job.id));
                    lost.push(Finished::new(
                        job,
                        job.total(),
                        now(),
                        "lost: its file is gone".into(),
                    ));
                    continue;
                }
                _ if job.active.is_some() => interrupted.push(job),
                _ => {}
            }
            // A job that was moved: its file follows it now.
            if let Some((path, _)) = file
                && path != self.data(&job.queue, job.id)
            {
                self.queue_dir(&job.queue)?;
                let to = self.data(&job.queue, job.id);
                std::fs::rename(&path, &to).map_err(|error| journal::host(&to, &error))?;
            }
        }
        // Those of a class behind: any of its printers may take them, before what is its own.
        let is_class =
            |job: &Job| core.queues.get(&job.queue).is_some_and(|q| !q.members.is_empty());
        interrupted.sort_by_key(|job| std::cmp::Reverse((is_class(job), job.place())));
        for job in interrupted {
            let mut job = job.clone();
            front -= 1;
            (job.active, job.front, job.restarts) = (None, front, job.restarts + 1);
            records.push(Record::Job(Box::new(job)));
        }
        if !records.is_empty() {
            let mark = self.commit(&mut core, &records)?;
            self.journal.sync(mark)?;
        }
        core.next_seq = core.next_seq.max(seq);
        for job in lost {
            core.note(job);
        }
        let jobs = core.jobs.len();
        drop(core);
        dropped.extend(files.into_values().map(|(path, _)| path));
        for path in dropped {
            self.discard(&path);
        }
        log::info!(target: "spool", "{jobs} jobs are in the spool");
        self.tidy();
        Ok(())
    }

    /// Takes away what connections of the last run have left.
    fn sweep(&self) {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for entry in
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".incoming-"))
        {
            if let Err(error) = std::fs::remove_dir_all(entry.path()) {
                log::warn!(target: "spool", "{}: {error}", entry.path().display());
            }
        }
    }

    /// The files of jobs that there are, with their lengths: also of queues that are no more, for
    /// a job may have been moved out of one.
    fn files(&self) -> Result<BTreeMap<u64, (PathBuf, u64)>, Error> {
        let queues: Vec<String> = self.core.lock().queues.keys().cloned().collect();
        for queue in queues {
            self.queue_dir(&queue)?;
        }
        let mut files = BTreeMap::new();
        for dir in entries(&self.dir)? {
            let is_queue = dir.file_type().is_ok_and(|kind| kind.is_dir());
            if !is_queue || dir.file_name().as_encoded_bytes().first() == Some(&b'.') {
                continue;
            }
            for entry in entries(&dir.path())? {
                let id = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
                if let Some(id) = id {
                    let told = |error: std::io::Error| journal::host(&entry.path(), &error);
                    let found = entry.metadata().map_err(told)?;
                    // What somebody put there that is no plain file was never a job's.
                    if found.is_file() {
                        files.insert(id, (entry.path(), found.len()));
                    }
                }
            }
        }
        Ok(files)
    }
}

/// Whether nobody will finish it: its writer died with the mount. What somebody else has staged,
/// and closed, may yet be renamed.
fn is_abandoned(job: &Job) -> bool {
    let is_of_lpr = job.name.as_encoded_bytes().starts_with(STAGED_BY_LPR.as_bytes());
    job.phase != Phase::Staged || is_of_lpr
}

fn entries(dir: &Path) -> Result<Vec<DirEntry>, Error> {
    let all = std::fs::read_dir(dir).and_then(Iterator::collect);
    all.map_err(|error| journal::host(dir, &error))
}
