//! The print spool: files written into it become jobs, jobs are printed one after another.
//!
//! 1. A job is kept once its close(2) has returned: what the journal says of it is durable by then.
//! 2. A number is given once. What is printed or removed never comes back; what was interrupted is
//!    printed again whole, first.
//! 3. No queue is stopped by anything but its operator.
//!
//! 4. Nothing that waits for the host's disk is done with the queues locked, but appending to the
//!    journal, which the host keeps in memory.
//!
//! `journal.rs` keeps the records, `queue.rs` what they come to, `fs.rs` shows it as a directory,
//! `writer.rs` is a job being written, `ops.rs` what is done to jobs, `control.rs` the commands,
//! `text.rs` their formats, `printer.rs` the thread that prints, `keeper.rs` one that cleans up.

mod banner;
mod control;
mod door;
mod fs;
mod job;
mod journal;
mod keeper;
mod lpd;
mod ops;
mod order;
mod printer;
mod queue;
mod recover;
#[cfg(test)]
mod tests;
pub mod text;
mod view;
mod writer;

pub use banner::Banner;
pub use fs::SpoolFs;

use crate::error::{Errno, Error};
use crate::file::{Caller, FileOps};
use crate::sync::{Arc, Mutex};
use devices::CharDevice;
use devices::engine::Engine;
use job::Job;
use journal::{Journal, Mark};
use keeper::Keeper;
use printer::Printer;
use queue::{Core, Record};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How long the name of a finished job is still found: programs set modes and times of a file by
/// its name after they have closed it.
const GHOST_SECONDS: u64 = 5;

/// A queue as it is described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// Its name: that of its directory.
    pub name: String,
    /// The printers of a class; empty for that of one printer.
    pub members: Vec<String>,
    /// Longest job, in bytes; `None`: no limit.
    pub bytes_max: Option<u64>,
    /// The page before each job.
    pub banner: Banner,
}

/// A printer: the name of its queue, and its hardware.
pub struct PrinterUnit {
    /// As of its queue: `lp0`.
    pub name: String,
    /// Its hardware: `rlp0`.
    pub unit: Arc<dyn CharDevice>,
    /// Where its output goes, in words.
    pub sink: String,
}

/// What a spool is made of.
pub struct Settings {
    /// Where it keeps its jobs and its journal.
    pub dir: PathBuf,
    /// User and group of the machine: its operator.
    pub owner: (u32, u32),
    /// The queues besides those of the printers, and what is set of those.
    pub queues: Vec<QueueSettings>,
    /// The printers.
    pub printers: Vec<PrinterUnit>,
    /// The machine's.
    pub engine: Arc<Engine>,
}

/// See the head of this file.
pub struct Spool {
    dir: PathBuf,
    owner: (u32, u32),
    engine: Arc<Engine>,
    core: Mutex<Core>,
    journal: Journal,
    keeper: Keeper,
    printers: Vec<Arc<Printer>>,
    doors: Mutex<Vec<door::Door>>,
    made: SystemTime,
    host: String,
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Spool {
    /// Reads what the last run left, and makes it good; nothing is printed before
    /// [`Spool::start`].
    ///
    /// # Errors
    /// The host's; `EINVAL` in words for a journal of another version.
    pub fn open(settings: Settings) -> Result<Arc<Spool>, Error> {
        let Settings { dir, owner, queues, printers, engine } = settings;
        std::fs::create_dir_all(&dir).map_err(|error| journal::host(&dir, &error))?;
        let (journal, lines) = Journal::open(&dir)?;
        let mut core = Core::default();
        core.next_id = 1;
        for printer in &printers {
            core.queue_mut(&printer.name);
        }
        for line in &lines {
            match Record::parse(line) {
                Some(record) => core.apply(&record),
                None => log::error!(target: "spool", "the journal says {line:?}"),
            }
        }
        for settings in queues {
            let queue = core.queue_mut(&settings.name);
            queue.members = settings.members;
            queue.bytes_max = settings.bytes_max;
            queue.banner = settings.banner;
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let printers = printers.into_iter().map(Printer::new).collect();
        let spool = Spool {
            dir,
            owner,
            engine,
            core: Mutex::new(core),
            journal,
            keeper: Keeper::default(),
            printers,
            doors: Mutex::default(),
            made: SystemTime::now(),
            host: host.trim().to_owned(),
        };
        spool.recover()?;
        Ok(Arc::new(spool))
    }

    /// Starts a thread for each printer, and the keeper's.
    ///
    /// # Errors
    /// The host's, when it refuses a thread.
    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        self.keeper.start(self)?;
        let held: Vec<(u64, u64)> = {
            let core = self.core.lock();
            let held = core.jobs.values().filter(|job| job.until != 0);
            held.map(|job| (job.id, job.until)).collect()
        };
        for (id, until) in held {
            self.let_go_at(id, until);
        }
        self.printers.iter().try_for_each(|printer| printer.start(self))
    }

    /// Opens the network door: RFC 1179 at an address.
    ///
    /// # Errors
    /// The host's, such as that the address is taken.
    pub fn listen(self: &Arc<Self>, address: &str) -> Result<(), Error> {
        let door = door::open_lpd(self, address)?;
        self.doors.lock().push(door);
        Ok(())
    }

    /// Opens a door at which every connection is a job of `queue`, as of a printer at port 9100.
    ///
    /// # Errors
    /// As [`Spool::listen`].
    pub fn listen_raw(self: &Arc<Self>, queue: &str, address: &str) -> Result<(), Error> {
        let door = door::open_raw(self, queue, address)?;
        self.doors.lock().push(door);
        Ok(())
    }

    /// Ends the threads; a job that is being printed begins anew at the next start.
    pub fn stop(&self) {
        let doors = std::mem::take(&mut *self.doors.lock());
        for door in doors {
            door.close();
        }
        for printer in &self.printers {
            printer.call_away();
        }
        for printer in &self.printers {
            printer.join();
        }
        self.keeper.stop();
        let mark = self.journal.append(&[]);
        if let Err(error) = mark.and_then(|mark| self.journal.sync(mark)) {
            log::error!(target: "spool", "{error}");
        }
    }

    /// An open file of the device node of a queue: what is written to it becomes a job.
    ///
    /// # Errors
    /// `EACCES` for reading, or while the queue is disabled; `ENXIO` for no such queue.
    pub fn open_device(
        self: &Arc<Self>,
        queue: &str,
        caller: &Caller,
        flags: i32,
    ) -> Result<Arc<dyn FileOps>, Error> {
        writer::open_device(self, queue, caller, flags)
    }

    /// Whether somebody may do what is the operator's.
    fn is_operator(&self, caller: &Caller) -> bool {
        caller.uid == 0 || caller.uid == self.owner.0
    }

    /// Where a job's bytes are.
    fn path_of(&self, job: &Job) -> PathBuf {
        self.data(&job.home, job.id)
    }

    /// Where the bytes are of a job that began in that queue.
    fn data(&self, queue: &str, id: u64) -> PathBuf {
        self.dir.join(queue).join(id.to_string())
    }

    /// The directory of a queue in the host, made if it is missing.
    fn queue_dir(&self, queue: &str) -> Result<PathBuf, Error> {
        let dir = self.dir.join(queue);
        if !dir.is_dir() {
            std::fs::create_dir_all(&dir).map_err(|error| journal::host(&dir, &error))?;
            journal::sync_dir(&self.dir)?;
        }
        Ok(dir)
    }

    /// Writes records to the journal, and does what they say; all or nothing.
    fn commit(&self, core: &mut Core, records: &[Record]) -> Result<Mark, Error> {
        let lines: Vec<String> = records.iter().map(Record::line).collect();
        let mark = self.journal.append(&lines)?;
        for record in records {
            core.apply(record);
        }
        if self.journal.is_long() {
            self.keeper.tidy();
        }
        Ok(mark)
    }

    /// Changes a job.
    fn change(
        &self,
        core: &mut Core,
        id: u64,
        change: impl FnOnce(&mut Job),
    ) -> Result<Mark, Error> {
        let mut job = core.job(id)?.clone();
        change(&mut job);
        self.commit(core, &[Record::Job(Box::new(job))])
    }

    /// Lets the printers look at the queues again.
    fn ring(&self) {
        for printer in &self.printers {
            printer.ring();
        }
    }

    /// Shortens the journal when it has become long.
    fn tidy(&self) {
        if !self.journal.is_long() {
            return;
        }
        let snapshot = {
            let core = self.core.lock();
            if !self.journal.begin_compaction() {
                return;
            }
            core.snapshot()
        };
        let snapshot: Vec<String> = snapshot.iter().map(Record::line).collect();
        if let Err(error) = self.journal.compact(&snapshot) {
            log::warn!(target: "spool", "the journal stays long: {error}");
        }
    }

    /// Takes a job's bytes away. What cannot be removed now is at the next start.
    fn discard(&self, path: &Path) {
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            log::warn!(target: "spool", "{}: {error}", path.display());
        }
    }
}

fn no_job(id: u64) -> Error {
    Error::new(Errno::ENOENT, format!("no job {id}"))
}
