//! Generated text: the reports under `/proc`, and `ctl`, where the operator gives commands.
//!
//! 1. A report is made when it is opened, and stays as it was then for this open file.
//! 2. To `ctl` one write is one command. Its answer, or the words of its refusal, is what the same
//!    handle reads next; a fresh open reads the last answer to the same user.
//! 3. What is no command (NULs, several lines, too long a line) is refused in words and runs
//!    nothing.

use super::fs::{FileSystem, Local, O_ACCMODE, O_RDONLY, Served};
use super::memfs::{PLACE_OF_PARENT, PLACE_OF_SELF};
use super::{Attr, DirEntry, FileKind, Ino};
use crate::error::{Errno, Error};
use crate::file::{Answer, Call, Caller, Control, FileOps, Nature, Report, Seek};
use crate::sync::{Arc, Mutex, RwLock};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::SystemTime;

/// Longest command of `ctl`, in bytes.
pub const CTL_LINE_BYTES_MAX: usize = 4096;
/// Most users whose last answer is kept.
const ANSWERS_MAX: usize = 1024;

/// The bytes of a text from `at`, as many as fit.
fn read_text(text: &[u8], at: u64, buf: &mut [u8]) -> usize {
    let rest = usize::try_from(at).ok().and_then(|at| text.get(at..)).unwrap_or(&[]);
    let len = rest.len().min(buf.len());
    buf[..len].copy_from_slice(&rest[..len]);
    len
}

/// Where data or a hole begins: a text is all data.
fn seek_text(length: usize, at: u64, which: Seek) -> Result<u64, Error> {
    let length = length as u64;
    match which {
        _ if at >= length => Err(Error::plain(Errno::ENXIO)),
        Seek::Data => Ok(at),
        Seek::Hole => Ok(length),
    }
}

const NATURE: Nature =
    Nature { is_direct: true, has_parallel_writes: false, is_stream: false, keeps_cache: false };

/// An open report: its text as it was when it was opened.
pub struct ReportFile {
    text: Vec<u8>,
}

impl ReportFile {
    /// Of this text.
    #[must_use]
    pub fn new(text: String) -> ReportFile {
        ReportFile { text: text.into_bytes() }
    }
}

impl FileOps for ReportFile {
    fn kind(&self) -> &'static str {
        "report"
    }

    fn nature(&self) -> Nature {
        NATURE
    }

    fn read(
        &self,
        _call: &Call,
        at: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Answer<usize, Vec<u8>>, Error> {
        Ok(Answer::Now(read_text(&self.text, at, buf)))
    }

    fn write(&self, _call: &Call, _at: u64, _data: &[u8]) -> Result<Answer<usize>, Error> {
        Err(Error::plain(Errno::EBADF))
    }

    fn seek(&self, at: u64, which: Seek) -> Result<Answer<u64>, Error> {
        seek_text(self.text.len(), at, which).map(Answer::Now)
    }
}

/// A name that has its number for good, and the report if there is one now.
type Numbered = (&'static str, Option<Arc<Report>>);

/// A directory of reports.
pub struct TextFs {
    owner: (u32, u32),
    made: SystemTime,
    /// In the order of their numbers; a report that was taken away keeps its number, empty.
    reports: RwLock<Vec<Numbered>>,
}

const ROOT: Local = Local(1);
const FIRST: u64 = 2;

impl TextFs {
    /// An empty one.
    #[must_use]
    pub fn new(owner: (u32, u32)) -> TextFs {
        TextFs { owner, made: SystemTime::now(), reports: RwLock::default() }
    }

    /// Shows these reports from now on; those of the same name keep their numbers.
    pub fn set(&self, new: Vec<Report>) {
        let mut reports = self.reports.write();
        for (_, report) in reports.iter_mut() {
            *report = None;
        }
        for report in new {
            let name = report.name;
            let report = Some(Arc::new(report));
            match reports.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = report,
                None => reports.push((name, report)),
            }
        }
    }

    fn report(&self, node: Local) -> Result<Arc<Report>, Error> {
        let index = node.0.checked_sub(FIRST).and_then(|index| usize::try_from(index).ok());
        let reports = self.reports.read();
        let found = index.and_then(|index| reports.get(index)).and_then(|(_, it)| it.clone());
        found.ok_or_else(|| Error::plain(Errno::ESTALE))
    }

    fn attr(&self, node: Local) -> Attr {
        let (kind, mode, nlink) = match node {
            ROOT => (FileKind::Directory, 0o555, 2),
            _ => (FileKind::Regular, 0o444, 1),
        };
        let made = self.made;
        Attr {
            ino: Ino(node.0),
            kind,
            shows_device: false,
            mode,
            nlink,
            uid: self.owner.0,
            gid: self.owner.1,
            size: 0,
            blocks: 0,
            blksize: 4096,
            atime: made,
            mtime: made,
            ctime: made,
            may_be_remembered: false,
        }
    }

    /// What is in the directory, with the places: `.`, `..`, and the reports.
    fn entries(&self) -> Vec<DirEntry> {
        let dir = |place, name: &str| DirEntry {
            ino: Ino(ROOT.0),
            next: place,
            kind: FileKind::Directory,
            name: name.into(),
        };
        let mut entries = vec![dir(PLACE_OF_SELF, "."), dir(PLACE_OF_PARENT, "..")];
        for (node, (name, report)) in (FIRST..).zip(self.reports.read().iter()) {
            if report.is_some() {
                let (ino, next) = (Ino(node), node + PLACE_OF_PARENT);
                let name = (*name).into();
                entries.push(DirEntry { ino, next, kind: FileKind::Regular, name });
            }
        }
        entries
    }
}

impl FileSystem for TextFs {
    fn root(&self) -> Local {
        ROOT
    }

    fn lookup(&self, dir: Local, name: &OsStr) -> Result<Attr, Error> {
        if dir != ROOT {
            return Err(Error::plain(Errno::ENOTDIR));
        }
        let found = self.entries().into_iter().find(|entry| entry.name == name);
        let found = found.ok_or_else(|| Error::plain(Errno::ENOENT))?;
        Ok(self.attr(found.ino.into()))
    }

    fn hold(&self, node: Local) -> Result<Attr, Error> {
        self.getattr(node)
    }

    fn put(&self, _node: Local) {
        // Reports and their numbers stay.
    }

    fn getattr(&self, node: Local) -> Result<Attr, Error> {
        if node != ROOT {
            self.report(node)?;
        }
        Ok(self.attr(node))
    }

    fn open(&self, caller: &Caller, node: Local, flags: i32) -> Result<Arc<dyn FileOps>, Error> {
        if node == ROOT {
            return Err(Error::plain(Errno::EISDIR));
        }
        if flags & O_ACCMODE != O_RDONLY {
            return Err(Error::plain(Errno::EACCES)); // also for user 0, whom the mode lets through
        }
        let report = self.report(node)?;
        Ok(Arc::new(ReportFile::new((report.text)(caller))))
    }

    fn readdir(&self, dir: Local, offset: u64, count: usize) -> Result<Vec<DirEntry>, Error> {
        if dir != ROOT {
            return Err(Error::plain(Errno::ENOTDIR));
        }
        Ok(self.entries().into_iter().filter(|entry| entry.next > offset).take(count).collect())
    }

    fn path(&self, node: Local) -> Option<PathBuf> {
        if node == ROOT { Some(PathBuf::new()) } else { Some(self.report(node).ok()?.name.into()) }
    }
}

/// `ctl`: what is opened, and the last answer to each user.
#[derive(Default)]
pub struct ControlFile {
    control: RwLock<Option<Arc<dyn Control>>>,
    last: Arc<Mutex<BTreeMap<u32, String>>>,
}

impl ControlFile {
    /// Gives commands to `control` from now on; whether it is the first.
    pub fn set(&self, control: Arc<dyn Control>) -> bool {
        self.control.write().replace(control).is_none()
    }
}

impl Served for ControlFile {
    fn open(&self, caller: &Caller, _flags: i32) -> Result<Arc<dyn FileOps>, Error> {
        let control = self.control.read().clone();
        let control = control.ok_or_else(|| Error::plain(Errno::ENXIO))?;
        let text = self.last.lock().get(&caller.uid).cloned().unwrap_or_default();
        let answer = Arc::new(Mutex::new(Dialogue { text, origin: 0 }));
        Ok(Arc::new(ControlHandle { control, last: Arc::clone(&self.last), answer }))
    }
}

/// The last answer on a handle.
struct Dialogue {
    text: String,
    /// The offset at which the text begins: where the command ended, for those who read on, and
    /// 0 for those who have gone back.
    origin: u64,
}

/// An open `ctl`.
struct ControlHandle {
    control: Arc<dyn Control>,
    last: Arc<Mutex<BTreeMap<u32, String>>>,
    answer: Arc<Mutex<Dialogue>>,
}

/// Keeps what a command was answered, for the handle and for the user.
#[derive(Clone)]
struct Keeper {
    last: Arc<Mutex<BTreeMap<u32, String>>>,
    answer: Arc<Mutex<Dialogue>>,
    uid: u32,
    origin: u64,
    written: usize,
}

impl Keeper {
    fn keep(self, outcome: Result<String, Error>) -> Result<usize, Error> {
        let (text, result) = match outcome {
            Ok(text) => (text, Ok(self.written)),
            Err(refusal) => (refusal.to_string(), Err(refusal)),
        };
        let text = if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" };
        {
            let mut last = self.last.lock();
            if last.len() >= ANSWERS_MAX && !last.contains_key(&self.uid) {
                last.pop_first();
            }
            last.insert(self.uid, text.clone());
        }
        // A refused write moves no offset: the next read comes where the write was.
        let origin = if result.is_ok() { self.origin + self.written as u64 } else { self.origin };
        *self.answer.lock() = Dialogue { text, origin };
        result
    }
}

/// The command in the bytes of a write.
///
/// # Errors
/// `E2BIG`, `EINVAL`, in words.
fn command(data: &[u8]) -> Result<&str, Error> {
    let refuse = |errno, why: &str| Err(Error::new(errno, why));
    let end = data.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
    let line = &data[..end];
    if line.len() > CTL_LINE_BYTES_MAX {
        return refuse(Errno::E2BIG, "a command has at most 4096 bytes");
    }
    if line.contains(&b'\n') {
        return refuse(Errno::EINVAL, "one command a write, please: this one has several lines");
    }
    match std::str::from_utf8(line) {
        Ok(line) if line.trim().is_empty() => refuse(Errno::EINVAL, "no command; try help"),
        Ok(line) if line.chars().any(|c| c.is_control() && c != '\t') => {
            refuse(Errno::EINVAL, "a command has no control characters in it")
        }
        Ok(line) => Ok(line),
        Err(_) => refuse(Errno::EINVAL, "a command is text (UTF-8)"),
    }
}

impl FileOps for ControlHandle {
    fn kind(&self) -> &'static str {
        "control"
    }

    fn nature(&self) -> Nature {
        Nature { has_parallel_writes: true, ..NATURE }
    }

    fn read(
        &self,
        _call: &Call,
        at: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Answer<usize, Vec<u8>>, Error> {
        let mut answer = self.answer.lock();
        if at < answer.origin {
            answer.origin = 0;
        }
        Ok(Answer::Now(read_text(answer.text.as_bytes(), at - answer.origin, buf)))
    }

    fn write(&self, call: &Call, at: u64, data: &[u8]) -> Result<Answer<usize>, Error> {
        let keeper = Keeper {
            last: Arc::clone(&self.last),
            answer: Arc::clone(&self.answer),
            uid: call.caller.uid,
            origin: at,
            written: data.len(),
        };
        // Should nobody answer any more, what was answered before is no answer to this.
        *self.answer.lock() = Dialogue { text: String::new(), origin: at };
        let outcome = command(data).and_then(|line| self.control.run(&call.caller, line));
        match outcome {
            Ok(answer) => answer.map(|text| keeper.keep(text)),
            Err(refusal) => keeper.keep(Err(refusal)).map(Answer::Now),
        }
    }

    fn seek(&self, at: u64, which: Seek) -> Result<Answer<u64>, Error> {
        seek_text(self.answer.lock().text.len(), at, which).map(Answer::Now)
    }
}
