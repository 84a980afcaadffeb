//! A job while it is written: from open(2) to the last close.
//!
//! The host tells of each close of a descriptor (FLUSH, before the first write too, where a shell
//! redirects) and of the end of the last one (RELEASE). A flush makes durable what was written, so
//! that it is queued even if nobody lives to see the release; the release queues it.

use super::job::{Job, Phase};
use super::journal::Mark;
use super::queue::{Core, Finished, Record};
use super::{Spool, journal, now};
use crate::error::{Errno, Error};
use crate::file::{Answer, Call, Caller, FileOps, Nature, Seek, SyncKind};
use crate::sync::{Arc, Mutex};
use crate::vfs::fs::{O_ACCMODE, O_RDONLY};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// In the ninth field of proc_pid_stat(5): the process ends by a signal (`PF_SIGNALED`).
const PF_SIGNALED: u64 = 0x400;

/// A job that has been begun: its number, and its file in the host.
pub(super) struct Begun {
    pub(super) id: u64,
    pub(super) file: File,
}

/// An open job.
pub(super) struct JobWriter(Arc<Pen>);

/// What its calls need that are finished elsewhere.
struct Pen {
    spool: Arc<Spool>,
    id: u64,
    file: File,
    bytes_max: Option<u64>,
    /// Without offsets: a device.
    is_stream: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the next bytes go that come without a place.
    end: u64,
    /// How many writes there were.
    writes: u64,
    /// How many of them are durable.
    flushed: u64,
    /// A write failed: it is not to be printed, whatever its writer makes of that.
    failed: Option<Errno>,
    /// The last to close was ended by a signal.
    is_aborted: bool,
}

impl Spool {
    /// Begins a job, which is being written from now on if it `is_open`. Waits for the host. Of
    /// the queue's own refusals this is the place: programs look at open(2).
    pub(super) fn begin(
        &self,
        queue: &str,
        name: &OsStr,
        who: (u32, u32),
        is_open: bool,
    ) -> Result<Begun, Error> {
        let id = {
            let mut core = self.core.lock();
            let known = core.queues.get(queue).ok_or_else(|| Error::plain(Errno::ENOENT))?;
            if known.flags.is_disabled {
                let words = format!("{queue}: the queue is disabled: {}", known.flags.message);
                return Err(Error::new(Errno::EACCES, words));
            }
            let id = core.next_id;
            let next = Record::Next(id + 1, core.next_seq);
            self.commit(&mut core, &[next])?;
            id
        };
        self.queue_dir(queue)?;
        let path = self.data(queue, id);
        let options = File::options().read(true).write(true).create_new(true).clone();
        let file = options.open(&path).map_err(|error| journal::host(&path, &error))?;
        let mut job = Job::new(id, queue, name, who);
        job.time = now();
        let mut core = self.core.lock();
        core.apply(&Record::Job(Box::new(job)));
        if is_open {
            core.written.insert(id);
        }
        Ok(Begun { id, file })
    }

    /// An open file on a job that is being written from now on.
    pub(super) fn writer(
        self: &Arc<Self>,
        id: u64,
        file: File,
        is_stream: bool,
    ) -> Result<Arc<dyn FileOps>, Error> {
        let end = file.metadata().map_err(|e| journal::host(Path::new("spool"), &e))?.len();
        let mut core = self.core.lock();
        let job = core.job(id)?;
        let bytes_max = core.queues.get(&job.queue).and_then(|queue| queue.bytes_max);
        core.written.insert(id);
        let (spool, state) = (Arc::clone(self), State { end, ..State::default() });
        let state = Mutex::new(state);
        Ok(Arc::new(JobWriter(Arc::new(Pen { spool, id, file, bytes_max, is_stream, state }))))
    }

    /// Queues a job that is whole, under `name` and in `queue` where they are given.
    ///
    /// # Errors
    /// That the journal could not be written; nothing has changed then.
    pub(super) fn queue_job(
        &self,
        core: &mut Core,
        id: u64,
        size: u64,
        place: Option<(&str, &OsStr)>,
    ) -> Result<Mark, Error> {
        let record = self.queued(core, core.job(id)?.clone(), size, place);
        self.commit(core, &[record])
    }

    /// The record that queues a job.
    pub(super) fn queued(
        &self,
        core: &Core,
        mut job: Job,
        size: u64,
        place: Option<(&str, &OsStr)>,
    ) -> Record {
        if let Some((queue, name)) = place {
            queue.clone_into(&mut job.queue);
            name.clone_into(&mut job.name);
        }
        job.is_held |= core.queues.get(&job.queue).is_some_and(|queue| queue.flags.holds_all);
        (job.phase, job.seq, job.size) = (Phase::Queued, core.next_seq, size);
        Record::Job(Box::new(job))
    }

    /// Queues a job whose close was made durable already: should the journal fail now, the next
    /// start queues it.
    fn queue_closed(&self, core: &mut Core, id: u64, size: u64) -> Result<(), Error> {
        let record = self.queued(core, core.job(id)?.clone(), size, None);
        if let Err(error) = self.commit(core, std::slice::from_ref(&record)) {
            log::error!(target: "spool", "job {id} is queued, but not in the journal: {error}");
            core.apply(&record);
        }
        Ok(())
    }

    /// Drops what is no job: never finished, or empty.
    pub(super) fn drop_unfinished(&self, core: &mut Core, id: u64) {
        let Some(job) = core.jobs.get(&id) else { return };
        let path = self.path_of(job);
        let is_known = job.phase != Phase::Spooling { flushed: None };
        core.written.remove(&id);
        let mark = if is_known { self.commit(core, &[Record::Gone(id)]).ok() } else { None };
        if mark.is_none() {
            core.apply(&Record::Gone(id));
        }
        self.keeper.discard(self, mark, vec![path]);
    }
}

/// See [`Spool::open_device`].
pub(super) fn open_device(
    spool: &Arc<Spool>,
    queue: &str,
    caller: &Caller,
    flags: i32,
) -> Result<Arc<dyn FileOps>, Error> {
    if flags & O_ACCMODE == O_RDONLY || flags & O_ACCMODE == O_ACCMODE - 1 {
        return Err(Error::new(Errno::EACCES, format!("{queue}: a printer is only written to")));
    }
    let begun = spool.begin(queue, OsStr::new(""), (caller.uid, caller.gid), true)?;
    spool.writer(begun.id, begun.file, true)
}

/// Whether a thread ends by a signal. One that cannot be looked at does not.
///
/// Only of a thread that ends may `stat` be read: exec(2) keeps it locked while it closes what was
/// opened with `O_CLOEXEC`, and waits there for our answer. `status` is never locked.
fn is_killed(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    if has_memory(&status) {
        return false;
    }
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name, in brackets, may hold anything; field 3 follows it.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let flags = rest.split_whitespace().nth(6).and_then(|word| word.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & PF_SIGNALED != 0)
}

/// Whether a thread has memory, by its `status`: one that ends gives it back before its files.
fn has_memory(status: &str) -> bool {
    status.lines().any(|line| line.starts_with("VmSize:"))
}

impl Pen {
    /// A write failed: what there is of the job is not printed, so it need not lie on a disk that
    /// may be full.
    fn fail(&self, refusal: Error) -> Error {
        self.state.lock().failed.get_or_insert(refusal.errno);
        if let Err(error) = self.file.set_len(0) {
            log::warn!(target: "spool", "job {}: {error}", self.id);
        }
        refusal
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<usize, Error> {
        if !self.spool.core.lock().written.contains(&self.id) {
            return Err(Error::new(Errno::EIO, format!("job {} was removed", self.id)));
        }
        let (at, end) = {
            let mut state = self.state.lock();
            if let Some(errno) = state.failed {
                return Err(Error::new(errno, format!("job {}: a write failed before", self.id)));
            }
            let at = if self.is_stream { state.end } else { at };
            let end = at.saturating_add(data.len() as u64);
            state.end = state.end.max(end);
            state.writes += 1;
            (at, end)
        };
        if let Some(max) = self.bytes_max.filter(|max| end > *max) {
            let words = format!("job {}: more than {max} bytes, the queue's limit", self.id);
            return Err(self.fail(Error::new(Errno::EFBIG, words)));
        }
        match self.file.write_all_at(data, at) {
            Ok(()) => Ok(data.len()),
            Err(error) => Err(self.fail(journal::host(Path::new("spool"), &error))),
        }
    }

    /// Makes durable what is written, and notes in the journal that it is whole so far.
    fn close_so_far(&self, writes: u64) -> Result<(), Error> {
        let told = |error: std::io::Error| journal::host(Path::new("spool"), &error);
        self.file.sync_data().map_err(told)?;
        let end = self.len();
        let (mark, dir) = {
            let mut core = self.spool.core.lock();
            let Some(job) = core.jobs.get(&self.id) else { return Ok(()) };
            let dir = self.spool.dir.join(&job.home);
            let mut job = job.clone();
            match job.phase {
                Phase::Queued => return Ok(()), // released meanwhile
                Phase::Spooling { .. } if !Job::is_staging_name(&job.name) => {
                    job.phase = Phase::Spooling { flushed: Some(end) };
                }
                _ => job.phase = Phase::Staged,
            }
            job.size = end;
            (self.spool.commit(&mut core, &[Record::Job(Box::new(job))])?, dir)
        };
        journal::sync_dir(&dir)?;
        self.spool.journal.sync(mark)?;
        self.state.lock().flushed = writes;
        Ok(())
    }

    /// Its length; ftruncate(2) may have changed it.
    fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |data| data.len())
    }
}

impl FileOps for JobWriter {
    fn kind(&self) -> &'static str {
        "job"
    }

    fn nature(&self) -> Nature {
        Nature { is_direct: true, is_stream: self.0.is_stream, ..Nature::default() }
    }

    fn read(
        &self,
        _call: &Call,
        at: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Answer<usize, Vec<u8>>, Error> {
        let read = self.0.file.read_at(buf, at);
        read.map(Answer::Now).map_err(|error| journal::host(Path::new("spool"), &error))
    }

    fn write(&self, _call: &Call, at: u64, data: &[u8]) -> Result<Answer<usize>, Error> {
        // The host makes who fills its memory faster than its disk empties it wait.
        let (pen, data) = (Arc::clone(&self.0), data.to_vec());
        Ok(Answer::Later(Box::new(move |_| pen.write(at, &data))))
    }

    fn sync(&self, _call: &Call, _kind: SyncKind) -> Result<Answer<()>, Error> {
        let pen = Arc::clone(&self.0);
        Ok(Answer::Later(Box::new(move |_| {
            pen.file.sync_data().map_err(|error| journal::host(Path::new("spool"), &error))
        })))
    }

    fn flush(&self, call: &Call) -> Result<Answer<()>, Error> {
        let is_aborted = is_killed(call.caller.pid);
        let writes = {
            let mut state = self.0.state.lock();
            state.is_aborted = is_aborted;
            if let Some(errno) = state.failed {
                return Err(Error::plain(errno));
            }
            if is_aborted || state.flushed == state.writes {
                return Ok(Answer::Now(()));
            }
            state.writes
        };
        let pen = Arc::clone(&self.0);
        Ok(Answer::Later(Box::new(move |_| {
            // What its close says is not kept must not be printed.
            pen.close_so_far(writes).inspect_err(|refusal| {
                pen.state.lock().failed.get_or_insert(refusal.errno);
            })
        })))
    }

    fn release(&self) {
        let pen = &*self.0;
        let (spool, id) = (&pen.spool, pen.id);
        let (failed, is_aborted) = {
            let state = pen.state.lock();
            (state.failed, state.is_aborted)
        };
        let end = pen.len();
        let mut core = spool.core.lock();
        core.written.remove(&id);
        let Some(job) = core.jobs.get(&id) else { return };
        let why = match failed {
            _ if is_aborted => Some("its writer was killed".to_owned()),
            Some(errno) => Some(format!("writing it failed, {}", errno.name())),
            None => None,
        };
        if let Some(why) = why {
            let dropped = Finished::new(job, end, now(), format!("dropped: {why}"));
            spool.drop_unfinished(&mut core, id);
            core.note(dropped);
        } else if Job::is_staging_name(&job.name) {
            let mut staged = job.clone();
            (staged.phase, staged.size) = (Phase::Staged, end);
            core.apply(&Record::Job(Box::new(staged)));
        } else if end == 0 {
            spool.drop_unfinished(&mut core, id);
        } else if let Err(error) = spool.queue_closed(&mut core, id, end) {
            log::error!(target: "spool", "job {id}: {error}");
        }
        drop(core);
        spool.ring();
    }

    fn seek(&self, at: u64, which: Seek) -> Result<Answer<u64>, Error> {
        let end = self.0.len();
        match which {
            _ if self.0.is_stream => Err(Error::plain(Errno::ESPIPE)),
            _ if at >= end => Err(Error::plain(Errno::ENXIO)),
            Seek::Data => Ok(Answer::Now(at)),
            Seek::Hole => Ok(Answer::Now(end)),
        }
    }
}

/// A job that is read by its owner.
pub(super) struct JobReader {
    pub(super) file: File,
    pub(super) len: u64,
}

impl FileOps for JobReader {
    fn kind(&self) -> &'static str {
        "job"
    }

    fn nature(&self) -> Nature {
        Nature { is_direct: true, ..Nature::default() }
    }

    fn read(
        &self,
        _call: &Call,
        at: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Answer<usize, Vec<u8>>, Error> {
        let read = self.file.read_at(buf, at);
        read.map(Answer::Now).map_err(|error| journal::host(Path::new("spool"), &error))
    }

    fn write(&self, _call: &Call, _at: u64, _data: &[u8]) -> Result<Answer<usize>, Error> {
        Err(Error::plain(Errno::EBADF))
    }

    fn seek(&self, at: u64, which: Seek) -> Result<Answer<u64>, Error> {
        match which {
            _ if at >= self.len => Err(Error::plain(Errno::ENXIO)),
            Seek::Data => Ok(Answer::Now(at)),
            Seek::Hole => Ok(Answer::Now(self.len)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_lives_has_memory_and_is_not_killed() {
        let me = std::process::id();
        assert!(has_memory(&std::fs::read_to_string(format!("/proc/{me}/status")).unwrap()));
        assert!(!is_killed(me));
        assert!(!is_killed(0));
        assert!(!has_memory("Name:\tVmSize:\nState:\tS (sleeping)\nThreads:\t1\n"));
    }

    #[test]
    fn a_process_that_was_killed_is_known() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        child.kill().unwrap();
        // A zombie until it is waited for: as in exit(2), its memory is gone.
        while has_memory(&std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap())
        {
            std::thread::yield_now();
        }
        assert!(is_killed(child.id()));
        child.wait().unwrap();
    }
}
