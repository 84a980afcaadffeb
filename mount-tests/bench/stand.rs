//! What one target needs while it is measured: a directory, daemons, a mount; all undone by drop.
//!
//! 1. Only processes that were started here are ended, by their own number, while they are ours.
//! 2. Nothing is removed from a directory in which something is still mounted.

use crate::clock::{Trouble, go_on, wait};
use crate::host;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a daemon may take to come up, filling its memory included.
const START: Duration = Duration::from_secs(30);
/// How long a daemon may take to write what is delayed and end.
const END: Duration = Duration::from_secs(20);

/// The directory of a whole run, on tmpfs if there is one.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one under `parent`.
    pub fn new(parent: &Path) -> io::Result<Scratch> {
        let dir = parent.join(format!("spindle-bench.{}", std::process::id()));
        fs::create_dir_all(parent)?;
        fs::create_dir(&dir)?;
        Ok(Scratch(dir.canonicalize()?))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(dir: &Path) {
    match host::mounts_under(dir).first() {
        Some(mount) => {
            crate::tell(format!("bench: {} is still mounted; left as it is", mount.display()));
        }
        None => {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

enum Undo {
    Unmount(PathBuf),
    Stop(Child),
}

/// A target's place: undone in the opposite order of its making.
pub struct Stand {
    dir: PathBuf,
    undo: Vec<Undo>,
}

impl Stand {
    /// An empty one.
    pub fn new(scratch: &Scratch, name: &str) -> Result<Stand, Trouble> {
        let dir = scratch.0.join(name);
        fs::create_dir(&dir).map_err(|error| Trouble::new(dir.display(), error))?;
        Ok(Stand { dir, undo: Vec::new() })
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes an empty directory there.
    pub fn directory(&self, name: &str) -> Result<PathBuf, Trouble> {
        let path = self.path(name);
        fs::create_dir(&path).map_err(|error| Trouble::new(path.display(), error))?;
        Ok(path)
    }

    /// Makes a sparse file of `bytes` there.
    pub fn file(&self, name: &str, bytes: u64) -> Result<PathBuf, Trouble> {
        let path = self.path(name);
        let made = fs::File::create(&path).and_then(|file| file.set_len(bytes));
        made.map_err(|error| Trouble::new(path.display(), error))?;
        Ok(path)
    }

    /// Something will be mounted there.
    pub fn will_mount(&mut self, path: &Path) {
        self.undo.push(Undo::Unmount(path.to_owned()));
    }

    /// Starts a daemon, its words going to the log; its process number.
    pub fn start(&mut self, command: &mut Command) -> Result<u32, Trouble> {
        let name = command.get_program().display().to_string();
        let log = || fs::File::options().create(true).append(true).open(self.path("log"));
        // Its standard input ends when we do; a daemon that watches it ends too.
        let child = log()
            .and_then(|out| Ok((out, log()?)))
            .and_then(|(out, err)| {
                command.stdin(Stdio::piped()).stdout(out).stderr(err).process_group(0).spawn()
            })
            .map_err(|error| Trouble::new(name, error))?;
        let pid = child.id();
        self.undo.push(Undo::Stop(child));
        Ok(pid)
    }

    /// Waits until what was started is ready; fails in its words if it ends before.
    pub fn wait_until(&mut self, what: &str, ready: impl Fn() -> bool) -> Result<(), Trouble> {
        let mut over = Ok(());
        let is_up = wait(START, || {
            over = go_on();
            over.is_err() || ready() || self.has_ended()
        });
        over?;
        if is_up && ready() {
            return Ok(());
        }
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let last = log.lines().map(str::trim).rfind(|line| !line.is_empty());
        let silent = if is_up { "its daemon ended without a word" } else { "did not appear" };
        Err(Trouble::new(what, last.unwrap_or(silent)))
    }

    /// Whether one of its daemons is gone.
    pub fn has_ended(&mut self) -> bool {
        self.undo.iter_mut().any(|undo| match undo {
            Undo::Stop(child) => !matches!(child.try_wait(), Ok(None)),
            Undo::Unmount(_) => false,
        })
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Unmount(path) => host::unmount(&path),
                Undo::Stop(child) => stop(child),
            }
        }
        remove(&self.dir);
    }
}

/// Ends a child of ours: asks, and when it does not listen, kills. While it is not waited for, its
/// number cannot be another's.
fn stop(mut child: Child) {
    drop(child.stdin.take());
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
        wait(END, || !matches!(child.try_wait(), Ok(None)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_ends_its_daemons_and_removes_its_directory() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(parent.path()).unwrap();
        let mut stand = Stand::new(&scratch, "sleeper").unwrap();
        let pid = stand.start(Command::new("sleep").arg("1000")).unwrap();
        assert!(!stand.has_ended());
        let dir = stand.path("");
        drop(stand);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!dir.exists());
        drop(scratch);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_daemon_that_ends_early_is_told_in_its_words() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(parent.path()).unwrap();
        let mut stand = Stand::new(&scratch, "short").unwrap();
        stand.start(Command::new("sh").args(["-c", "echo no room >&2; exit 1"])).unwrap();
        let trouble = stand.wait_until("disk", || false).unwrap_err();
        assert_eq!(trouble.to_string(), "disk: no room");
    }
}
