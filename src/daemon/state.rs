//! The state directory: made, held against a second daemon, of the right version.
//!
//! `lock` is held (flock) for the daemon's life, so a killed daemon holds nothing; `pid` says who
//! holds it; `version` what the rest of the directory is; `last-unmount` how the last life ended,
//! for which room is kept (`last-unmount.new`): a full disk is what there is then to tell of.

use super::host::why;
use crate::error::{Errno, Error};
use crate::fuse::os;
use devices::plain;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What `version` says; another number is another arrangement of the directory.
const VERSION: &str = "spindle state 1\n";
/// First line of `last-unmount`.
const REPORT: &str = "spindle last-unmount 1";
/// Bytes for which `last-unmount` has room however full the disk is.
const REPORT_BYTES: usize = 4096;
/// Milliseconds that a mount waits for the daemon before it to end.
const DYING_MS_MAX: u16 = 2000;
/// A log longer than this is put aside when a new life begins.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// A state directory that is ours for as long as this lives.
#[derive(Debug)]
pub(super) struct State {
    dir: PathBuf,
    _lock: Flock<File>,
}

/// How an unmount went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A line for each device with delayed writes that could not be written, or why a dead mount
    /// is left over.
    pub errors: Vec<String>,
    /// A line for each file that was still open.
    pub still_open: Vec<String>,
    /// Whether there was no daemon any more: nothing was written, only the mount taken away.
    pub was_dead: bool,
}

impl State {
    /// Makes the directory if need be, and takes it; a daemon that is just ending is waited for,
    /// two seconds at most, unless `mounted` tells where its machine is: then it is not ending at
    /// all.
    ///
    /// # Errors
    /// In words: cannot be made or written; in use by a daemon; of another version.
    pub(super) fn take(dir: &Path, mounted: impl Fn() -> Option<PathBuf>) -> Result<State, Error> {
        let refuse = |errno, why: &dyn std::fmt::Display| {
            Error::new(errno, format!("state directory {}: {why}", dir.display()))
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| refuse(Errno::EACCES, &format!("cannot be made: {}", why(&e))))?;
        let options =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
        let unwritable = |name: &'static str| {
            move |e: io::Error| {
                refuse(Errno::EACCES, &format!("{name} cannot be written: {}", why(&e)))
            }
        };
        let mut file = plain::open(&dir.join("lock"), &options).map_err(unwritable("lock"))?;
        let mut has_waited = false;
        let lock = loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((file, nix::errno::Errno::EWOULDBLOCK)) => file,
                Err((_, other)) => return Err(refuse(Errno::EIO, &other)),
            };
            let holder = plain::read_text(&dir.join("pid"), 64).unwrap_or_default();
            let holder = holder.trim().parse().unwrap_or(0);
            let mounted = mounted();
            if has_waited || mounted.is_some() {
                let place = mounted.map_or_else(String::new, |at| {
                    format!(", whose machine is mounted at {}", at.display())
                });
                let why = format!("state in use by pid {holder}{place}; --state names another");
                return Err(refuse(Errno::EBUSY, &why));
            }
            wait_for_end(holder);
            has_waited = true;
        };
        check_version(dir).map_err(|why| refuse(Errno::EINVAL, &why))?;
        let put = |name, text: &[u8]| plain::write(&dir.join(name), text).map_err(unwritable(name));
        put("pid", format!("{}\n", std::process::id()).as_bytes())?;
        put("last-unmount.new", &[b' '; REPORT_BYTES])?;
        Ok(State { dir: dir.to_owned(), _lock: lock })
    }

    /// Opens the log for appending; a long one becomes `log.old`.
    ///
    /// # Errors
    /// In words.
    pub(super) fn log(&self) -> Result<File, Error> {
        let path = self.dir.join("log");
        let old_len = path.metadata().map_or(0, |metadata| metadata.len());
        if old_len > LOG_BYTES_MAX {
            // Else it only grows on.
            let _ = std::fs::rename(&path, self.dir.join("log.old"));
        }
        let how = OpenOptions::new().append(true).create(true).mode(0o600).clone();
        let log = plain::open(&path, &how);
        log.map_err(|e| Error::new(Errno::EACCES, format!("{}: {}", path.display(), why(&e))))
    }

    /// Leaves word of how this life ended.
    pub(super) fn leave(&self, report: &Report) {
        let mut text = format!("{REPORT}\npid {}\n", std::process::id());
        let lines = |word: &'static str, lines: &'_ [String]| {
            lines
                .iter()
                .map(|line| format!("{word} {}\n", line.replace('\n', " ")))
                .collect::<String>()
        };
        text += &lines("error", &report.errors);
        text += &lines("open", &report.still_open);
        let room = self.dir.join("last-unmount.new");
        // Over what is there already, which wants no room of the disk.
        let how = OpenOptions::new().write(true).create(true).truncate(false).clone();
        let written = plain::open(&room, &how);
        let left = written.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)?;
            std::fs::rename(&room, self.dir.join("last-unmount"))
        });
        if let Err(refusal) = left {
            log::error!(target: "life", "last-unmount: {}", why(&refusal));
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // While we still hold the lock: the next daemon's is not ours to remove.
        let _ = std::fs::remove_file(self.dir.join("pid"));
        let _ = std::fs::remove_file(self.dir.join("last-unmount.new"));
    }
}

impl Report {
    /// What the daemon `pid` left in its state directory; none if it left nothing.
    pub(super) fn of(dir: &Path, pid: u32) -> Option<Report> {
        let text = plain::read_text(&dir.join("last-unmount"), u64::MAX).ok()?;
        let mut lines = text.lines();
        if lines.next()? != REPORT || lines.next()? != format!("pid {pid}") {
            return None;
        }
        let mut report = Report::default();
        for line in lines {
            match line.split_once(' ') {
                Some(("error", rest)) => report.errors.push(rest.to_owned()),
                Some(("open", rest)) => report.still_open.push(rest.to_owned()),
                _ => {}
            }
        }
        Some(report)
    }
}

/// Waits until the process has ended, two seconds at most; one that cannot be seen is given them.
fn wait_for_end(pid: u32) {
    let process = os::process(pid);
    let gone = |e: &io::Error| e.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32);
    let mut watched = match &process {
        Ok(process) => vec![PollFd::new(process.as_fd(), PollFlags::POLLIN)],
        Err(refusal) if pid != 0 && gone(refusal) => return,
        Err(_) => Vec::new(),
    };
    // Interrupted or not: the lock is tried next.
    let _ = poll(&mut watched, PollTimeout::from(DYING_MS_MAX));
}

fn check_version(dir: &Path) -> Result<(), String> {
    let path = dir.join("version");
    match plain::read_text(&path, 4096) {
        Ok(text) if text == VERSION => Ok(()),
        Ok(text) => Err(format!(
            "of another version: it says {:?}, this program knows {:?}; --state names another",
            text.lines().next().unwrap_or_default(),
            VERSION.trim_end()
        )),
        Err(refusal) if refusal.kind() == io::ErrorKind::NotFound => {
            plain::write(&path, VERSION.as_bytes())
                .map_err(|e| format!("cannot be written: {}", why(&e)))
        }
        Err(refusal) => Err(format!("version: {}", why(&refusal))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    #[test]
    fn a_state_directory_is_made_private_and_marked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/state");
        let state = State::take(&path, || None).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_to_string(path.join("version")).unwrap(), VERSION);
        let pid = std::fs::read_to_string(path.join("pid")).unwrap();
        assert_eq!(pid, format!("{}\n", std::process::id()));
        drop(state);
        assert!(!path.join("pid").exists());
        State::take(&path, || None).unwrap();
    }

    #[test]
    fn two_daemons_cannot_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let _held = State::take(dir.path(), || None).unwrap();
        let error = State::take(dir.path(), || Some("/m".into())).unwrap_err();
        assert_eq!(error.errno, Errno::EBUSY);
        let pid = std::process::id();
        let words = format!(
            "state in use by pid {pid}, whose machine is mounted at /m; --state names another"
        );
        assert!(error.what.ends_with(&words), "{error}");
    }

    #[test]
    fn a_dying_daemon_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let held = RefCell::new(Some(State::take(dir.path(), || None).unwrap()));
        let mut daemon = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        std::fs::write(dir.path().join("pid"), daemon.id().to_string()).unwrap();
        let stdin = RefCell::new(daemon.stdin.take());
        let next = State::take(dir.path(), || {
            // Its last moments: it lets go of the lock and ends.
            drop(held.take());
            drop(stdin.take());
            None
        });
        assert!(next.is_ok());
        daemon.wait().unwrap();
    }

    #[test]
    fn another_version_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("version"), "spindle state 9\n").unwrap();
        let error = State::take(dir.path(), || None).unwrap_err();
        assert!(error.what.contains("it says \"spindle state 9\""), "{error}");
    }

    #[test]
    fn what_cannot_be_a_directory_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let error = State::take(&dir.path().join("file/state"), || None).unwrap_err();
        assert!(error.what.contains("cannot be made"), "{error}");
        std::fs::create_dir(dir.path().join("lock")).unwrap();
        let error = State::take(dir.path(), || None).unwrap_err();
        assert!(error.what.contains("lock cannot be written: Is a directory"), "{error}");
    }

    #[test]
    fn a_long_log_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::take(dir.path(), || None).unwrap();
        let log = state.log().unwrap();
        log.set_len(LOG_BYTES_MAX + 1).unwrap();
        assert_eq!(state.log().unwrap().metadata().unwrap().len(), 0);
        assert!(dir.path().join("log.old").exists());
    }

    #[test]
    fn a_report_is_read_back_by_who_waited_for_that_life() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::take(dir.path(), || None).unwrap();
        let report = Report {
            errors: vec!["sd0: medium error\nat 9".into()],
            still_open: vec!["pid 7 (cat) /dev/ttyS0".into()],
            was_dead: false,
        };
        state.leave(&report);
        let read = Report::of(dir.path(), std::process::id()).unwrap();
        assert_eq!(read.errors, ["sd0: medium error at 9"]);
        assert_eq!(read.still_open, report.still_open);
        assert_eq!(Report::of(dir.path(), std::process::id() + 1), None);
    }
}
