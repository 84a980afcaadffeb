//! The spool as a file system: a directory for each queue, a file for each job.
//!
//! 1. Making a file begins a job, its last close queues it; a name that begins with a dot stages
//!    one, and renaming it submits it. Removing is lprm, renaming into another directory lpmove.
//! 2. The listing shows `NUMBER-NAME`. The name a user gave finds his newest job of that name.
//! 3. A job that is queued is not changed: opening it with `O_TRUNC` begins another.
//! 4. The host's kernel has checked the permission bits: jobs are their owner's alone, directories
//!    are sticky.

use super::control::QueueControl;
use super::job::{Job, Phase};
use super::ops::Plan;
use super::queue::Core;
use super::view::user_name;
use super::writer::JobReader;
use super::{Spool, journal, now};
use crate::error::{Errno, Error};
use crate::file::{Caller, FileOps};
use crate::sync::Arc;
use crate::vfs::fs::{Content, FileSystem, Local, New, O_ACCMODE, O_RDONLY, O_TRUNC, Served};
use crate::vfs::{
    Attr, Change, ControlFile, DirEntry, FileKind, Ino, RenameMode, ReportFile, StatFs,
};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const ROOT: Local = Local(1);
/// Number of the first queue's directory; each queue has so many numbers.
const QUEUES: u64 = 0x100;
const QUEUE_NODES: u64 = 16;
/// A job's number is above this by its own.
const JOBS: u64 = 1 << 32;
/// Place of the first job in a listing.
const PLACE_OF_JOBS: u64 = 0x100;

/// The files of a queue beside its jobs, by their numbers from 1.
const FILES: [&str; 9] =
    [".ctl", ".status", ".status-l", ".lpc", ".log", ".queue", ".json", ".members", "members"];
const CTL: u64 = 1;

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Root,
    Queue(String),
    /// A queue, and which of its [`FILES`], from 1.
    File(String, u64),
    Job(u64),
}

/// See the head of this file.
pub struct SpoolFs {
    spool: Arc<Spool>,
    controls: BTreeMap<String, ControlFile>,
}

impl SpoolFs {
    /// The file system of a spool.
    #[must_use]
    pub fn new(spool: &Arc<Spool>) -> SpoolFs {
        let queues: Vec<String> = spool.core.lock().queues.keys().cloned().collect();
        let control = |queue: String| {
            let file = ControlFile::default();
            let ear = QueueControl { spool: Arc::clone(spool), queue: queue.clone() };
            file.set(Arc::new(ear));
            (queue, file)
        };
        let controls = queues.into_iter().map(control).collect();
        SpoolFs { spool: Arc::clone(spool), controls }
    }

    fn node(core: &Core, node: Local) -> Result<Node, Error> {
        if node == ROOT {
            return Ok(Node::Root);
        }
        if let Some(id) = node.0.checked_sub(JOBS) {
            return Ok(Node::Job(id));
        }
        let stale = || Error::plain(Errno::ESTALE);
        let at = node.0.checked_sub(QUEUES).ok_or_else(stale)?;
        let (name, _) = core.queue_numbered(at / QUEUE_NODES).ok_or_else(stale)?;
        Ok(match at % QUEUE_NODES {
            0 => Node::Queue(name.to_owned()),
            file => Node::File(name.to_owned(), file),
        })
    }

    fn queue_of(core: &Core, dir: Local) -> Result<String, Error> {
        match SpoolFs::node(core, dir)? {
            Node::Queue(name) => Ok(name),
            Node::Root => Err(Error::new(Errno::EPERM, "the queues are in the machine's file")),
            _ => Err(Error::plain(Errno::ENOTDIR)),
        }
    }

    fn attr(&self, core: &mut Core, node: Local) -> Result<Attr, Error> {
        let (uid, gid) = self.spool.owner;
        let mut attr = Attr {
            ino: Ino(node.0),
            kind: FileKind::Regular,
            shows_device: false,
            mode: 0o444,
            nlink: 1,
            uid,
            gid,
            size: 0,
            blocks: 0,
            blksize: 128 << 10,
            atime: self.spool.made,
            mtime: self.spool.made,
            ctime: self.spool.made,
            may_be_remembered: false,
        };
        match SpoolFs::node(core, node)? {
            Node::Root => (attr.kind, attr.mode, attr.nlink) = (FileKind::Directory, 0o755, 2),
            Node::Queue(_) => (attr.kind, attr.mode, attr.nlink) = (FileKind::Directory, 0o1777, 2),
            // Whoever writes a command may read its answer.
            Node::File(_, CTL) => attr.mode = 0o666,
            Node::File(..) => {}
            Node::Job(id) => {
                let job = match core.jobs.get(&id) {
                    Some(job) => job.clone(),
                    None => {
                        let ghost = core.ghost(now(), |job| job.id == id);
                        ghost.ok_or_else(|| Error::plain(Errno::ESTALE))?
                    }
                };
                (attr.uid, attr.gid, attr.mode) = (job.uid, job.gid, 0o600);
                attr.size = job.size;
                if job.phase != Phase::Queued {
                    let path = self.spool.path_of(&job);
                    attr.size = std::fs::metadata(path).map_or(job.size, |data| data.len());
                }
                attr.blocks = attr.size.div_ceil(512);
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(job.time);
                (attr.atime, attr.mtime, attr.ctime) = (time, time, time);
            }
        }
        Ok(attr)
    }

    /// The number that a name has in a directory for a user; `None`: for everybody.
    fn find(core: &mut Core, dir: Local, name: &OsStr, uid: Option<u32>) -> Result<Local, Error> {
        let none = || Error::plain(Errno::ENOENT);
        let queue = match SpoolFs::node(core, dir)? {
            Node::Root if name == ".." => return Ok(ROOT),
            Node::Root => {
                let known = name.to_str().and_then(|name| core.queues.get(name));
                let number = known.ok_or_else(none)?.number;
                return Ok(Local(QUEUES + number * QUEUE_NODES));
            }
            Node::Queue(_) if name == ".." => return Ok(ROOT),
            Node::Queue(queue) => queue,
            _ => return Err(Error::plain(Errno::ENOTDIR)),
        };
        if let Some(file) = FILES.iter().position(|file| name == *file) {
            return Ok(Local(dir.0 + file as u64 + 1));
        }
        let own = uid.unwrap_or(u32::MAX);
        let id =
            core.listed(&queue, name).or_else(|| core.named(&queue, own, name)).or_else(|| {
                let is_it = |job: &Job| job.queue == queue && job.uid == own && job.name == name;
                core.ghost(now(), is_it).map(|job| job.id)
            });
        Ok(Local(JOBS + id.ok_or_else(none)?))
    }

    fn take_hold(core: &mut Core, node: Local) {
        if let Some(id) = node.0.checked_sub(JOBS) {
            *core.holds.entry(id).or_insert(0) += 1;
        }
    }

    fn look_up(&self, uid: Option<u32>, dir: Local, name: &OsStr) -> Result<Attr, Error> {
        let mut core = self.spool.core.lock();
        let node = SpoolFs::find(&mut core, dir, name, uid)?;
        let attr = self.attr(&mut core, node)?;
        SpoolFs::take_hold(&mut core, node);
        Ok(attr)
    }

    fn text(&self, queue: &str, file: u64) -> String {
        let view = self.spool.view(queue);
        let index = usize::try_from(file - 1).unwrap_or(0);
        match FILES.get(index).copied().unwrap_or_default() {
            ".status" | ".queue" => view.short(),
            ".status-l" => view.long(),
            ".lpc" => view.lpc(),
            ".log" => self.spool.log_text(queue),
            ".json" => format!("{}\n", view.json()),
            _ => view.members.iter().flat_map(|name| [name.as_str(), "\n"]).collect(),
        }
    }

    fn open_job(&self, caller: &Caller, id: u64, flags: i32) -> Result<Arc<dyn FileOps>, Error> {
        let is_writing = flags & O_ACCMODE != O_RDONLY;
        let mut core = self.spool.core.lock();
        let known = match core.jobs.get(&id) {
            Some(job) => Some(job.clone()),
            None => core.ghost(now(), |job| job.id == id),
        };
        let job = known.ok_or_else(|| Error::plain(Errno::ESTALE))?;
        let is_free = core.jobs.contains_key(&id) && !core.written.contains(&id);
        let is_new = job.phase == Phase::Spooling { flushed: None } && is_free;
        let is_staged = job.phase == Phase::Staged && is_free;
        let path = self.spool.path_of(&job);
        let told = |error: std::io::Error| journal::host(&path, &error);
        if is_writing && (is_new || is_staged) {
            core.written.insert(id); // so that it is nobody else's from here on
        }
        drop(core);
        if !is_writing {
            let file = File::open(&path).map_err(|_| Error::plain(Errno::ESTALE))?;
            let len = file.metadata().map_err(told)?.len();
            return Ok(Arc::new(JobReader { file, len }));
        }
        if is_new || is_staged {
            let options = File::options().read(true).write(true).clone();
            let opened = options.open(&path).and_then(|file| {
                if flags & O_TRUNC != 0 {
                    file.set_len(0)?;
                }
                Ok(file)
            });
            let opened = opened.inspect_err(|_| {
                self.spool.core.lock().written.remove(&id);
            });
            return self.spool.writer(id, opened.map_err(told)?, false);
        }
        if flags & O_TRUNC == 0 {
            let words = format!("job {id} is submitted, and not changed any more");
            return Err(Error::new(Errno::EPERM, words));
        }
        let who = (caller.uid, caller.gid);
        let begun = self.spool.begin(&job.queue, &job.name, who, true)?;
        self.spool.writer(begun.id, begun.file, false)
    }

    fn take_away(&self, uid: Option<u32>, dir: Local, name: &OsStr) -> Result<(), Error> {
        let by = uid.map_or("-".into(), user_name); // asks the host
        let done = {
            let mut core = self.spool.core.lock();
            SpoolFs::queue_of(&core, dir)?;
            let node = SpoolFs::find(&mut core, dir, name, uid)?;
            let id = node.0.checked_sub(JOBS).ok_or_else(|| Error::plain(Errno::EPERM))?;
            if !core.jobs.contains_key(&id) {
                core.exorcise(id);
                return Ok(());
            }
            let mut plan = Plan::default();
            self.spool.plan_removal(&core, &mut plan, id, &by)?;
            self.spool.carry_out(&mut core, plan)?
        };
        self.spool.settle(done)
    }

    fn move_away(
        &self,
        uid: Option<u32>,
        (dir, name): (Local, &OsStr),
        (to_dir, to_name): (Local, &OsStr),
        mode: RenameMode,
    ) -> Result<(), Error> {
        if mode == RenameMode::Exchange {
            return Err(Error::plain(Errno::EINVAL));
        }
        let done = {
            let mut core = self.spool.core.lock();
            SpoolFs::queue_of(&core, dir)?;
            let to = SpoolFs::queue_of(&core, to_dir)?;
            let node = SpoolFs::find(&mut core, dir, name, uid)?;
            let id = node.0.checked_sub(JOBS).ok_or_else(|| Error::plain(Errno::EPERM))?;
            if FILES.iter().any(|file| to_name == *file) {
                return Err(Error::plain(Errno::EPERM));
            }
            let job = core.job(id)?.clone();
            let (new, mut plan) = (plain_name(id, to_name), Plan::default());
            match (Job::is_staging_name(&job.name), Job::is_staging_name(to_name)) {
                (true, false) => {
                    self.spool.plan_staged(&core, &mut plan, job, (&to, &new))?;
                }
                (false, true) => {
                    return Err(Error::new(Errno::EPERM, "a job cannot be taken back to staging"));
                }
                _ => plan.shift(&core, job, &to, Some(&new))?,
            }
            self.spool.carry_out(&mut core, plan)?
        };
        self.spool.settle(done)
    }
}

/// The name a user means by `17-report` for job 17.
fn plain_name(id: u64, name: &OsStr) -> OsString {
    let prefix = format!("{id}-");
    match name.to_str().and_then(|name| name.strip_prefix(&prefix)) {
        Some("stdin") => OsString::new(),
        Some(rest) => rest.into(),
        None => name.to_owned(),
    }
}

impl FileSystem for SpoolFs {
    fn root(&self) -> Local {
        ROOT
    }

    fn lookup(&self, dir: Local, name: &OsStr) -> Result<Attr, Error> {
        self.look_up(None, dir, name)
    }

    fn lookup_by(&self, by: &Caller, dir: Local, name: &OsStr) -> Result<Attr, Error> {
        self.look_up(Some(by.uid), dir, name)
    }

    fn hold(&self, node: Local) -> Result<Attr, Error> {
        let mut core = self.spool.core.lock();
        let attr = self.attr(&mut core, node)?;
        SpoolFs::take_hold(&mut core, node);
        Ok(attr)
    }

    fn put(&self, node: Local) {
        let Some(id) = node.0.checked_sub(JOBS) else { return };
        let mut core = self.spool.core.lock();
        let Some(count) = core.holds.get_mut(&id) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        core.holds.remove(&id);
        // Made, but never opened.
        let is_nothing = core.jobs.get(&id).is_some_and(|job| {
            job.phase == Phase::Spooling { flushed: None } && !core.written.contains(&id)
        });
        if is_nothing {
            self.spool.drop_unfinished(&mut core, id);
        }
    }

    fn getattr(&self, node: Local) -> Result<Attr, Error> {
        self.attr(&mut self.spool.core.lock(), node)
    }

    fn setattr(&self, by: &Caller, node: Local, change: &Change) -> Result<Attr, Error> {
        let mut core = self.spool.core.lock();
        let Node::Job(id) = SpoolFs::node(&core, node)? else {
            // `> .ctl` truncates what has no length.
            let is_plain = change.mode.is_none() && change.uid.is_none() && change.gid.is_none();
            return if is_plain {
                self.attr(&mut core, node)
            } else {
                Err(Error::plain(Errno::EPERM))
            };
        };
        if change.mode.is_some_and(|mode| mode & 0o111 != 0) {
            return Err(Error::new(Errno::EPERM, "a job is no program"));
        }
        if let Some(size) = change.size
            && let Some(job) = core.jobs.get(&id)
        {
            let path = self.spool.path_of(job);
            if job.phase == Phase::Queued {
                return Err(Error::new(Errno::EPERM, "a submitted job is not changed any more"));
            }
            let cut = File::options().write(true).open(&path).and_then(|file| file.set_len(size));
            cut.map_err(|error| journal::host(&path, &error))?;
        }
        let is_given = change.uid.is_some_and(|uid| uid != by.uid) || change.gid.is_some();
        if is_given && by.uid == 0 && core.jobs.contains_key(&id) {
            self.spool.change(&mut core, id, |job| {
                job.uid = change.uid.unwrap_or(job.uid);
                job.gid = change.gid.unwrap_or(job.gid);
            })?;
        }
        self.attr(&mut core, node)
    }

    fn make(&self, dir: Local, name: &OsStr, new: &New<'_>) -> Result<Attr, Error> {
        let core = self.spool.core.lock();
        let queue = SpoolFs::queue_of(&core, dir)?;
        if !matches!(new.content, Content::Regular) {
            return Err(Error::new(Errno::EPERM, "only files are printed"));
        }
        let is_taken = FILES.iter().any(|file| name == *file)
            || (Job::is_staging_name(name) && core.named(&queue, new.uid, name).is_some())
            || core.listed(&queue, name).is_some();
        if is_taken {
            return Err(Error::plain(Errno::EEXIST));
        }
        drop(core);
        let begun = self.spool.begin(&queue, name, (new.uid, new.gid), false)?;
        let node = Local(JOBS + begun.id);
        let mut core = self.spool.core.lock();
        SpoolFs::take_hold(&mut core, node);
        self.attr(&mut core, node)
    }

    fn link(&self, _node: Local, _dir: Local, _name: &OsStr) -> Result<Attr, Error> {
        Err(Error::plain(Errno::EPERM))
    }

    fn unlink(&self, dir: Local, name: &OsStr) -> Result<(), Error> {
        self.take_away(None, dir, name)
    }

    fn unlink_by(&self, by: &Caller, dir: Local, name: &OsStr) -> Result<(), Error> {
        self.take_away(Some(by.uid), dir, name)
    }

    fn rmdir(&self, _dir: Local, _name: &OsStr) -> Result<(), Error> {
        Err(Error::plain(Errno::EPERM))
    }

    fn rename(
        &self,
        dir: Local,
        name: &OsStr,
        to_dir: Local,
        to_name: &OsStr,
        mode: RenameMode,
    ) -> Result<(), Error> {
        self.move_away(None, (dir, name), (to_dir, to_name), mode)
    }

    fn rename_by(
        &self,
        by: &Caller,
        from: (Local, &OsStr),
        to: (Local, &OsStr),
        mode: RenameMode,
    ) -> Result<(), Error> {
        self.move_away(Some(by.uid), from, to, mode)
    }

    fn truncates_at_open(&self) -> bool {
        true
    }

    fn waits(&self) -> bool {
        true
    }

    fn open(&self, caller: &Caller, node: Local, flags: i32) -> Result<Arc<dyn FileOps>, Error> {
        let node = SpoolFs::node(&self.spool.core.lock(), node)?;
        match node {
            Node::Root | Node::Queue(_) => Err(Error::plain(Errno::EISDIR)),
            Node::Job(id) => self.open_job(caller, id, flags),
            Node::File(queue, CTL) => {
                let control = self.controls.get(&queue);
                control.ok_or_else(|| Error::plain(Errno::ENXIO))?.open(caller, flags)
            }
            Node::File(..) if flags & O_ACCMODE != O_RDONLY => Err(Error::plain(Errno::EACCES)),
            Node::File(queue, file) => Ok(Arc::new(ReportFile::new(self.text(&queue, file)))),
        }
    }

    fn readdir(&self, dir: Local, offset: u64, count: usize) -> Result<Vec<DirEntry>, Error> {
        let core = self.spool.core.lock();
        let mut entries = Vec::new();
        let directory = |ino: Local, next: u64, name: &str| DirEntry {
            ino: Ino(ino.0),
            next,
            kind: FileKind::Directory,
            name: name.into(),
        };
        entries.extend([directory(dir, 1, "."), directory(ROOT, 2, "..")]);
        match SpoolFs::node(&core, dir)? {
            Node::Root => entries.extend(core.queues.iter().map(|(name, queue)| {
                let node = Local(QUEUES + queue.number * QUEUE_NODES);
                directory(node, PLACE_OF_JOBS + queue.number, name)
            })),
            Node::Queue(name) => {
                let hidden = FILES.iter().filter(|file| file.starts_with('.'));
                for (number, file) in (1..).zip(hidden) {
                    let ino = Ino(dir.0 + number);
                    let (next, name) = (2 + number, (*file).into());
                    entries.push(DirEntry { ino, next, kind: FileKind::Regular, name });
                }
                let from = (offset + 1).saturating_sub(PLACE_OF_JOBS);
                let ids = core.queues.get(&name).map(|queue| queue.ids.range(from..));
                let jobs = ids.into_iter().flatten().filter_map(|id| core.jobs.get(id));
                entries.extend(jobs.take(count).map(|job| DirEntry {
                    ino: Ino(JOBS + job.id),
                    next: PLACE_OF_JOBS + job.id,
                    kind: FileKind::Regular,
                    name: job.file_name(),
                }));
            }
            _ => return Err(Error::plain(Errno::ENOTDIR)),
        }
        entries.retain(|entry| entry.next > offset);
        if matches!(SpoolFs::node(&core, dir)?, Node::Root) {
            entries.sort_by_key(|entry| entry.next);
        }
        entries.truncate(count);
        Ok(entries)
    }

    fn statfs(&self) -> StatFs {
        let files = self.spool.core.lock().jobs.len() as u64;
        match nix::sys::statvfs::statvfs(&self.spool.dir) {
            Ok(host) => StatFs {
                blocks: host.blocks(),
                bfree: host.blocks_available(),
                files,
                ffree: host.files_available(),
                bsize: u32::try_from(host.fragment_size()).unwrap_or(4096),
                namelen: 255,
            },
            Err(_) => StatFs { blocks: 0, bfree: 0, files, ffree: 0, bsize: 4096, namelen: 255 },
        }
    }

    fn path(&self, node: Local) -> Option<PathBuf> {
        let core = self.spool.core.lock();
        match SpoolFs::node(&core, node).ok()? {
            Node::Root => Some(PathBuf::new()),
            Node::Queue(name) => Some(name.into()),
            Node::File(queue, file) => {
                let index = usize::try_from(file - 1).ok()?;
                Some(PathBuf::from(queue).join(FILES.get(index)?))
            }
            Node::Job(id) => {
                let job = core.jobs.get(&id)?;
                Some(PathBuf::from(&job.queue).join(job.file_name()))
            }
        }
    }
}
