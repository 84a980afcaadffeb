//! The spool's journal: lines appended to a file, durable before anything is acknowledged.
//!
//! 1. A record stands whole or not at all: each line carries its checksum, and what follows the
//!    first line that is torn is not read.
//! 2. A failed append leaves the file as it was; where even that fails, nothing is taken any more.
//! 3. [`Journal::sync`] makes durable all that was appended before it; those who come together
//!    share one sync.
//! 4. Compaction replaces the file in one rename; a record appended meanwhile is in both.

use crate::error::{Errno, Error};
use crate::sync::{Arc, Mutex};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// First line of the file.
pub(super) const VERSION: &str = "spindle spool 1\n";
/// A journal shorter than this is not worth compacting.
const COMPACT_BYTES_MIN: u64 = 1 << 20;

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
    broken: Option<Errno>,
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
        records.push(record.to_owned());
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
        let bytes = match std::fs::read(&path) {
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
        let file = options.open(&path).map_err(told)?;
        file.set_len(end).map_err(told)?;
        let mut bytes = end;
        if is_new {
            file.write_all_at(VERSION.as_bytes(), 0).map_err(told)?;
            bytes = VERSION.len() as u64;
        }
        file.sync_data().map_err(told)?;
        sync_dir(dir)?;
        let file = Arc::new(file);
        let tail =
            Tail { file, bytes, bytes_compacted: 0, appended: 0, meanwhile: None, broken: None };
        let (tail, synced) = (Mutex::new(tail), Mutex::new(Mark(0)));
        Ok((Journal { path, tail, synced }, records))
    }

    /// Appends records, all or none; they survive this process, and a crash of the host once
    /// [`Journal::sync`] has returned.
    ///
    /// # Errors
    /// The host's: `ENOSPC`; `EIO` once an append could not be undone.
    pub(super) fn append(&self, records: &[String]) -> Result<Mark, Error> {
        let text: String = records.iter().map(|record| line(record)).collect();
        let mut tail = self.tail.lock();
        if let Some(errno) = tail.broken {
            return Err(Error::new(errno, "the journal of the spool is broken; mount again"));
        }
        let at = tail.bytes;
        if let Err(error) = tail.file.write_all_at(text.as_bytes(), at) {
            if tail.file.set_len(at).is_err() {
                tail.broken = Some(Errno::EIO);
            }
            return Err(host(&self.path, &error));
        }
        tail.bytes += text.len() as u64;
        if let Some(meanwhile) = &mut tail.meanwhile {
            meanwhile.extend(text.bytes());
        }
        tail.appended += 1;
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

    /// Whether most of the journal is history.
    pub(super) fn is_long(&self) -> bool {
        let tail = self.tail.lock();
        tail.meanwhile.is_none()
            && tail.broken.is_none()
            && tail.bytes > COMPACT_BYTES_MIN.max(4 * tail.bytes_compacted)
    }

    /// From now on what is appended is kept for [`Journal::compact`] too. Call it where nothing is
    /// appended between it and the taking of the snapshot.
    pub(super) fn begin_compaction(&self) {
        self.tail.lock().meanwhile = Some(Vec::new());
    }

    /// Puts `snapshot`, and what was appended since it began, in the place of the journal.
    ///
    /// # Errors
    /// The host's; the journal is as it was then.
    pub(super) fn compact(&self, snapshot: &[String]) -> Result<(), Error> {
        let path = self.path.with_extension("new");
        let result = self.replace(&path, snapshot);
        if result.is_err() {
            self.tail.lock().meanwhile = None;
            let _ = std::fs::remove_file(&path); // the next compaction would overwrite it
        }
        result
    }

    fn replace(&self, path: &Path, snapshot: &[String]) -> Result<(), Error> {
        let told = |error: std::io::Error| host(path, &error);
        let mut text = String::from(VERSION);
        text.extend(snapshot.iter().map(|record| line(record)));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(told)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).map_err(told)?;
        // First: whoever syncs the old file now must not come back after the new one is in place.
        let mut synced = self.synced.lock();
        let mut tail = self.tail.lock();
        let meanwhile = tail.meanwhile.take().unwrap_or_default();
        file.write_all(&meanwhile).and_then(|()| file.sync_data()).map_err(told)?;
        std::fs::rename(path, &self.path).map_err(told)?;
        tail.file = Arc::new(file);
        tail.bytes = (text.len() + meanwhile.len()) as u64;
        tail.bytes_compacted = tail.bytes;
        let reached = Mark(tail.appended);
        drop(tail);
        if let Some(dir) = self.path.parent() {
            sync_dir(dir)?;
        }
        *synced = reached;
        Ok(())
    }
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
    fn a_torn_tail_is_not_read_and_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(&words(&["first", "second"])).unwrap();
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
    }

    #[test]
    fn a_changed_byte_ends_the_reading() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(&words(&["first", "second", "third"])).unwrap();
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
        journal.begin_compaction();
        journal.append(&words(&["meanwhile"])).unwrap();
        journal.compact(&words(&["snapshot"])).unwrap();
        let mark = journal.append(&words(&["after"])).unwrap();
        journal.sync(mark).unwrap();
        let (_, records) = Journal::open(dir.path()).unwrap();
        assert_eq!(records, ["snapshot", "meanwhile", "after"]);
    }
}
