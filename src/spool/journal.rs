//! The spool's journal: lines appended to a file, durable before anything is acknowledged.
//!
//! 1. What is appended at once stands whole or not at all: it is one line with one checksum, and
//!    what follows the first line that is torn is not read.
//! 2. A failed append leaves the file as it was; where even that fails, nothing is taken any more.
//! 3. [`Journal::sync`] makes durable all that was appended before it; those who come together
//!    share one sync.
//! 4. Compaction replaces the file in one rename. Before it what is appended goes into both files,
//!    so that a crash finds either complete; no append waits for the host's disk.

use crate::error::{Errno, Error};
use crate::sync::{Arc, Mutex};
use devices::plain;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// First line of the file.
pub(super) const VERSION: &str = "spindle spool 1\n";
/// A journal shorter than this is not worth compacting.
const COMPACT_BYTES_MIN: u64 = 1 << 20;
/// Between the records of a line; within a record it is escaped.
const SEPARATOR: char = ';';

/// How far the journal had come: what [`Journal::sync`] is to make durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark(u64);

/// See the head of this file.
pub(super) struct Journal {
    path: PathBuf,
    tail: Mutex<Tail>,
    /// How far it is durable. Held while the host writes, so that others join the same sync.
    synced: Mutex<Mark>,
}

struct Tail {
    file: Arc<File>,
    /// Length of the file.
    bytes: u64,
    /// Length just after the last compaction.
    bytes_compacted: u64,
    appended: u64,
    /// What was appended since a compaction began.
    meanwhile: Option<Vec<u8>>,
    /// The file that is to take the other's place, and its length: all is appended to both.
    next: Option<(Arc<File>, u64)>,
    broken: Option<Errno>,
}

impl Tail {
    /// Appends to the file, and to the one that is to take its place.
    fn put(&mut self, text: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(text, self.bytes)?;
        if let Some((next, end)) = &mut self.next {
            next.write_all_at(text, *end)?;
            *end += text.len() as u64;
        }
        self.bytes += text.len() as u64;
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.extend(text);
        }
        Ok(())
    }

    /// Takes back what a failed [`Tail::put`] may have left.
    fn undo(&mut self) {
        let next = self.next.as_ref().map_or(Ok(()), |(next, end)| next.set_len(*end));
        if self.file.set_len(self.bytes).is_err() || next.is_err() {
            self.broken = Some(Errno::EIO);
        }
    }
}

/// The host's error, with what it was about.
pub(super) fn host(what: &Path, error: &std::io::Error) -> Error {
    let errno = error.raw_os_error().map_or(Errno::EIO, Errno);
    Error::new(errno, format!("{}: {}", what.display(), crate::words::of_host(error)))
}

/// FNV-1a of 64 bits: tells a torn line from a whole one.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn line(record: &str) -> String {
    format!("{:016x} {record}\n", checksum(record.as_bytes()))
}

/// The whole records at the beginning of a journal's bytes, and where they end. `None`: the file
/// is no journal of this version.
fn whole(bytes: &[u8]) -> Option<(Vec<String>, u64)> {
    let mut rest = bytes.strip_prefix(VERSION.as_bytes())?;
    let (mut records, mut end) = (Vec::new(), VERSION.len());
    while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
        let Ok(text) = std::str::from_utf8(&rest[..at]) else { break };
        let Some((sum, record)) = text.split_once(' ') else { break };
        if u64::from_str_radix(sum, 16) != Ok(checksum(record.as_bytes())) {
            break;
        }
        records.extend(record.split(SEPARATOR).map(str::to_owned));
        end += at + 1;
        rest = &rest[at + 1..];
    }
    Some((records, end as u64))
}

impl Journal {
    /// Opens the journal of a spool directory, new if there is none; with all whole records.
    ///
    /// # Errors
    /// The host's; `EINVAL` in words for a journal of another version.
    pub(super) fn open(dir: &Path) -> Result<(Journal, Vec<String>), Error> {
        let path = dir.join("journal");
        let told = |error: std::io::Error| host(&path, &error);
        let bytes = match plain::read(&path, u64::MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(told(error)),
        };
        let is_new = VERSION.as_bytes().starts_with(&bytes); // also one torn at its first line
        let (records, end) = if is_new {
            (Vec::new(), 0)
        } else {
            whole(&bytes).ok_or_else(|| {
                let words = format!("{}: not a journal of this version", path.display());
                Error::new(Errno::EINVAL, words)
            })?
        };
        if end < bytes.len() as u64 && !is_new {
            let torn = bytes.len() as u64 - end;
            log::warn!(target: "spool", "{}: {torn} torn bytes are dropped", path.display());
        }
        let options = File::options().read(true).write(true).create(true).truncate(false).clone();
        let file = plain::open(&path, &options).map_err(told)?;
        file.set_len(end).map_err(told)?;
        let mut bytes = end;
        if is_new {
            file.write_all_at(VERSION.as_bytes(), 0).map_err(told)?;
            bytes = VERSION.len() as u64;
        }
        file.sync_data().map_err(told)?;
        // A compaction that was not finished is none.
        match std::fs::remove_file(draft_of(&path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(told(error)),
            _ => sync_dir(dir)?,
        }
        let file = Arc::new(file);
        let (meanwhile, next) = (None, None);
        let (bytes_compacted, appended, broken) = (0, 0, None);
        let tail = Tail { file, bytes, bytes_compacted, appended, meanwhile, next, broken };
        let (tail, synced) = (Mutex::new(tail), Mutex::new(Mark(0)));
        Ok((Journal { path, tail, synced }, records))
    }

    /// Appends records, all or none; they survive this process, and a crash of the host once
    /// [`Journal::sync`] has returned.
    ///
    /// # Errors
    /// The host's: `ENOSPC`; `EIO` once an append could not be undone.
    pub(super) fn append(&self, records: &[String]) -> Result<Mark, Error> {
        let mut tail = self.tail.lock();
        if let Some(errno) = tail.broken {
            return Err(Error::new(errno, "the journal of the spool is broken; mount again"));
        }
        if !records.is_empty() {
            let text = line(&records.join(&SEPARATOR.to_string()));
            if let Err(error) = tail.put(text.as_bytes()) {
                tail.undo();
                return Err(host(&self.path, &error));
            }
            tail.appended += 1;
        }
        Ok(Mark(tail.appended))
    }

    /// Waits until all up to `mark` is durable.
    ///
    /// # Errors
    /// The host's. Nothing is taken any more then: what it lost cannot be known.
    pub(super) fn sync(&self, mark: Mark) -> Result<(), Error> {
        let mut synced = self.synced.lock();
        if *synced >= mark {
            return Ok(());
        }
        let (file, reached) = {
            let tail = self.tail.lock();
            (Arc::clone(&tail.file), Mark(tail.appended))
        };
        if let Err(error) = file.sync_data() {
            self.tail.lock().broken = Some(Errno::EIO);
            return Err(host(&self.path, &error));
        }
        *synced = reached;
        Ok(())
    }

    /// A host's disk that does not answer, until what is returned is dropped.
    #[cfg(test)]
    pub(super) fn stall(&self) -> crate::sync::MutexGuard<'_, Mark> {
        self.synced.lock()
    }

    /// Whether most of the journal is history.
    pub(super) fn is_long(&self) -> bool {
        let tail = self.tail.lock();
        tail.broken.is_none() && tail.bytes > COMPACT_BYTES_MIN.max(4 * tail.bytes_compacted)
    }

    /// From now on what is appended is kept for [`Journal::compact`] too. Call it where nothing is
    /// appended between it and the taking of the snapshot. `false`: another is at it.
    pub(super) fn begin_compaction(&self) -> bool {
        let mut tail = self.tail.lock();
        let is_first = tail.meanwhile.is_none() && tail.next.is_none();
        if is_first {
            tail.meanwhile = Some(Vec::new());
        }
        is_first
    }

    /// Puts `snapshot`, and what was appended since it began, in the place of the journal. Waits
    /// for the host's disk.
    ///
    /// # Errors
    /// The host's; the journal is as it was then, or nothing is taken any more.
    pub(super) fn compact(&self, snapshot: &[String]) -> Result<(), Error> {
        let draft = draft_of(&self.path);
        let told = |error: std::io::Error| host(&draft, &error);
        let joined = self.draft(&draft, snapshot).and_then(|(file, end)| self.join(file, end));
        // From here on nothing is said to be durable until the new file is in place.
        let mut synced = self.synced.lock();
        let reached = joined.and_then(|(file, reached)| file.sync_data().map(|()| reached));
        let reached = match reached.and_then(|at| std::fs::rename(&draft, &self.path).map(|()| at))
        {
            Ok(reached) => reached,
            Err(error) => {
                let mut tail = self.tail.lock();
                (tail.meanwhile, tail.next) = (None, None);
                let _ = std::fs::remove_file(&draft); // the next compaction would overwrite it
                return Err(told(error));
            }
        };
        self.switch();
        if let Some(dir) = self.path.parent()
            && let Err(error) = sync_dir(dir)
        {
            // Which of the two files a crash of the host would leave cannot be known.
            self.tail.lock().broken = Some(Errno::EIO);
            return Err(error);
        }
        *synced = (*synced).max(reached);
        Ok(())
    }

    /// Writes a snapshot beside the journal; its file and length.
    fn draft(&self, path: &Path, snapshot: &[String]) -> std::io::Result<(Arc<File>, u64)> {
        let mut text = String::from(VERSION);
        text.extend(snapshot.iter().map(|record| line(record)));
        let options = File::options().read(true).write(true).create(true).truncate(true).clone();
        let mut file = plain::open(path, &options)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?; // most of it now, where nobody waits for it
        Ok((Arc::new(file), text.len() as u64))
    }

    /// Adds what was appended meanwhile; from now on the new file gets everything, too. The file,
    /// and how far it says what the journal says.
    fn join(&self, file: Arc<File>, mut end: u64) -> std::io::Result<(Arc<File>, Mark)> {
        let mut tail = self.tail.lock();
        let meanwhile = tail.meanwhile.take().unwrap_or_default();
        file.write_all_at(&meanwhile, end)?;
        end += meanwhile.len() as u64;
        tail.next = Some((Arc::clone(&file), end));
        Ok((file, Mark(tail.appended)))
    }

    /// The new file is the journal from now on.
    fn switch(&self) {
        let mut tail = self.tail.lock();
        if let Some((file, end)) = tail.next.take() {
            (tail.file, tail.bytes, tail.bytes_compacted) = (file, end, end);
        }
    }
}

/// Where a journal is written anew.
fn draft_of(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| host(dir, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn records_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, records) = Journal::open(dir.path()).unwrap();
        assert!(records.is_empty());
        journal.append(&words(&["a", "b c"])).unwrap();
        let mark = journal.append(&words(&["d"])).unwrap();
        journal.sync(mark).unwrap();
        drop(journal);
        assert_eq!(Journal::open(dir.path()).unwrap().1, ["a", "b c", "d"]);
    }

    #[test]
    fn a_torn_append_is_not_read_nor_part_of_it_and_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(&words(&["first"])).unwrap();
        journal.append(&words(&["second", "with", "it"])).unwrap();
        let path = dir.path().join("journal");
        let all = std::fs::read(&path).unwrap();
        let first = VERSION.len() + line("first").len();
        for cut in 0..all.len() {
            std::fs::write(&path, &all[..cut]).unwrap();
            let (journal, records) = Journal::open(dir.path()).unwrap();
            assert_eq!(records.len(), usize::from(cut >= first), "cut at {cut}");
            journal.append(&words(&["third"])).unwrap();
            let (_, records) = Journal::open(dir.path()).unwrap();
            assert_eq!(records.last().unwrap(), "third", "cut at {cut}");
        }
        std::fs::write(&path, &all).unwrap();
        assert_eq!(Journal::open(dir.path()).unwrap().1, ["first", "second", "with", "it"]);
    }

    #[test]
    fn a_changed_byte_ends_the_reading() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        for word in ["first", "second", "third"] {
            journal.append(&words(&[word])).unwrap();
        }
        let path = dir.path().join("journal");
        let mut all = std::fs::read(&path).unwrap();
        let at = VERSION.len() + line("first").len() + 20;
        all[at] ^= 1;
        std::fs::write(&path, &all).unwrap();
        assert_eq!(Journal::open(dir.path()).unwrap().1, ["first"]);
    }

    #[test]
    fn another_version_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("journal"), "spindle spool 9\nx\n").unwrap();
        let refusal = Journal::open(dir.path()).err().unwrap();
        assert!(refusal.to_string().contains("not a journal of this version"));
    }

    #[test]
    fn compaction_keeps_what_is_appended_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(&words(&["old", "old", "old"])).unwrap();
        assert!(journal.begin_compaction());
        assert!(!journal.begin_compaction(), "one at a time");
        journal.append(&words(&["meanwhile"])).unwrap();
        journal.compact(&words(&["snapshot"])).unwrap();
        let mark = journal.append(&words(&["after"])).unwrap();
        journal.sync(mark).unwrap();
        let (_, records) = Journal::open(dir.path()).unwrap();
        assert_eq!(records, ["snapshot", "meanwhile", "after"]);
    }

    /// What a process that begins now would read, if this one were killed.
    fn read(dir: &Path) -> Vec<String> {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let (_, records) = Journal::open(copy.path()).unwrap();
        assert!(!draft_of(&copy.path().join("journal")).exists());
        records
    }

    #[test]
    fn a_crash_at_any_step_of_a_compaction_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        let path = dir.path().join("journal");
        let draft = draft_of(&path);
        let append = |word: &str| journal.append(&words(&[word])).map(drop).unwrap();
        append("a");
        assert!(journal.begin_compaction());
        append("b");
        let (file, end) = journal.draft(&draft, &words(&["a"])).unwrap();
        let whole = std::fs::read(&draft).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&draft, &whole[..cut]).unwrap();
            assert_eq!(read(dir.path()), ["a", "b"], "the draft cut at {cut}");
        }
        std::fs::write(&draft, &whole).unwrap();
        append("c");
        assert_eq!(read(dir.path()), ["a", "b", "c"]);
        journal.join(file, end).unwrap();
        append("d");
        assert_eq!(read(dir.path()), ["a", "b", "c", "d"], "before the rename");
        std::fs::rename(&draft, &path).unwrap();
        assert_eq!(read(dir.path()), ["a", "b", "c", "d"], "after it");
        append("e");
        assert_eq!(read(dir.path()), ["a", "b", "c", "d", "e"], "before the switch");
        journal.switch();
        append("f");
        assert_eq!(read(dir.path()), ["a", "b", "c", "d", "e", "f"]);
    }

    #[test]
    fn a_compaction_that_fails_leaves_the_journal_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(&words(&["a"])).unwrap();
        std::fs::create_dir(draft_of(&dir.path().join("journal"))).unwrap();
        assert!(journal.begin_compaction());
        journal.append(&words(&["b"])).unwrap();
        assert!(journal.compact(&words(&["a"])).is_err());
        std::fs::remove_dir(draft_of(&dir.path().join("journal"))).unwrap();
        let mark = journal.append(&words(&["c"])).unwrap();
        journal.sync(mark).unwrap();
        assert_eq!(read(dir.path()), ["a", "b", "c"]);
        assert!(journal.begin_compaction(), "and may be tried again");
        journal.compact(&words(&["a", "b", "c"])).unwrap();
        assert_eq!(read(dir.path()), ["a", "b", "c"]);
    }

    #[test]
    fn an_append_does_not_wait_for_a_sync() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        let _slow_disk = journal.synced.lock();
        journal.append(&words(&["a"])).unwrap();
        assert_eq!(read(dir.path()), ["a"]);
    }
}
