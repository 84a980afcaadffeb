//! The end of a daemon's life, from within (`serve`) and from without (`umount`, `list`).

use super::state::{Report, State};
use super::{Booted, host};
use crate::error::{Errno, Error};
use crate::file::OpenFiles;
use crate::fuse::park::process_of;
use crate::fuse::session::Session;
use crate::fuse::{OWN_XATTRS, os};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime};

/// How long calls under way are waited for before the last writing out begins.
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// How long mapped pages that the host still holds are waited for.
const MAPPED_MAX: Duration = Duration::from_secs(2);
/// How long the host may take to let go of the tree.
const LET_GO_MS_MAX: u16 = 500;
/// How long a daemon whose tree is gone may take for the rest.
const REST_MS_MAX: u16 = 2000;
/// How often `umount` looks whether the tree is gone.
const LOOK_MS: u16 = 100;

/// A daemon that serves.
pub(super) struct Life {
    /// Where the tree is mounted.
    pub(super) mountpoint: PathBuf,
    /// `major:minor` of its file system in the host.
    pub(super) device: String,
    pub(super) session: Session,
    pub(super) state: State,
    pub(super) signals: SignalFd,
}

/// Why a daemon's life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A signal asks for it; `spindle umount` sends SIGTERM.
    Asked,
    /// The tree was taken out of the mount table, but somebody is still in it.
    Detached,
    /// The host has let go of the tree.
    Over,
}

impl Life {
    /// Waits for the end of this life.
    fn wait(&self) -> std::io::Result<End> {
        let table = File::open(host::MOUNTINFO)?;
        loop {
            // Also before the first wait: it may have gone since it answered.
            if !self.is_mounted() {
                let is_over = is_ready(self.session.ended(), LET_GO_MS_MAX);
                return Ok(if is_over { End::Over } else { End::Detached });
            }
            let mut watched = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.session.ended(), PollFlags::POLLIN),
                PollFd::new(table.as_fd(), PollFlags::POLLPRI),
            ];
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(refusal) => return Err(refusal.into()),
            }
            if watched[1].any() == Some(true) {
                return Ok(End::Over);
            }
            if watched[0].any() == Some(true) {
                let signal = self.signals.read_signal()?.map_or(0, |info| info.ssi_signo);
                log::info!(target: "life", "signal {signal}: unmounting");
                return Ok(End::Asked);
            }
        }
    }

    fn is_mounted(&self) -> bool {
        match host::mounts() {
            Ok(mounts) => mounts.iter().any(|mount| mount.device == self.device),
            Err(refusal) => {
                log::warn!(target: "life", "{}: {refusal}", host::MOUNTINFO);
                true
            }
        }
    }

    /// Takes the tree out of the mount table, wherever it is by now, unless somebody mounted
    /// something in front of it.
    fn detach(&self) {
        for mount in host::mounts().unwrap_or_default() {
            if mount.device != self.device {
                continue;
            }
            let top = host::mounted_at(&mount.path);
            let is_covered = top.is_ok_and(|top| top.is_some_and(|top| top.device != self.device));
            if is_covered {
                log::error!(target: "life", "{}: covered, so it stays", mount.path.display());
            } else if let Err(refusal) = host::detach(&mount.path) {
                log::error!(target: "life", "the tree stays in the mount table: {refusal}");
            }
        }
        if !is_ready(self.session.ended(), LET_GO_MS_MAX) {
            log::info!(target: "life", "somebody is still in the tree, which ends with us");
        }
    }

    /// Has nothing change any more. `false`: calls are left that cannot be called away.
    fn quiet(&self, end: End) -> bool {
        self.session.close();
        if end == End::Asked {
            // Requests are read in order: once this one is answered, none is under way that
            // came in before we closed. What it answers does not matter.
            let _ = os::xattr(&self.mountpoint, OWN_XATTRS[0]);
        }
        self.session.settle(SETTLE_MAX)
    }
}

/// Serves until the end of this life, then ends it in order.
///
/// # Errors
/// What could not be written, a line for each device; `is_wanted`, if that was an error.
pub(super) fn serve(
    life: &Life,
    booted: Booted,
    is_wanted: Result<(), Error>,
) -> Result<(), Error> {
    let end = match &is_wanted {
        Ok(()) => life.wait().unwrap_or_else(|refusal| {
            log::error!(target: "life", "cannot wait: {refusal}; unmounting");
            End::Asked
        }),
        Err(error) => {
            log::info!(target: "life", "nobody waits for the tree ({error}): unmounting");
            End::Asked
        }
    };
    let mut report = Report::default();
    if end == End::Asked {
        write_mapped(&life.mountpoint);
    }
    if !life.quiet(end) {
        log::warn!(target: "life", "calls that cannot be called away are still under way");
    }
    if end != End::Over {
        report.still_open = still_open(&booted.files);
    }
    report.errors = (booted.shutdown)();
    for line in &report.errors {
        log::error!(target: "life", "{line}");
    }
    life.state.leave(&report);
    if end == End::Asked {
        life.detach();
    }
    if !life.session.end_workers(Duration::ZERO) {
        log::debug!(target: "life", "workers are left");
    }
    log::info!(target: "life", "ended: {end:?}, {} errors", report.errors.len());
    is_wanted?;
    if report.errors.is_empty() {
        return Ok(());
    }
    Err(Error::new(Errno::EIO, report.errors.join("\n")))
}

/// Has the host write the pages of our files that are mapped and changed, while we still take
/// them. On a thread of its own: it waits for devices, and we must not for ever.
fn write_mapped(mountpoint: &Path) {
    let (done, wait) = channel();
    let mountpoint = mountpoint.to_owned();
    let sync = move || {
        let synced = File::open(&mountpoint).and_then(|dir| Ok(nix::unistd::syncfs(&dir)?));
        // Nobody listens when it took too long.
        let _ = done.send(synced);
    };
    let thread = std::thread::Builder::new().name("mapped".into()).spawn(sync);
    match thread.map(|_| wait.recv_timeout(MAPPED_MAX)) {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(refusal))) | Err(refusal) => {
            log::warn!(target: "life", "mapped pages may be lost: {refusal}");
        }
        Ok(Err(_)) => log::warn!(target: "life", "mapped pages may be lost: it takes too long"),
    }
}

/// Who has what open: by the name he opened it, as it is known of his process (the host tells
/// of threads).
fn still_open(files: &OpenFiles) -> Vec<String> {
    let line = |file: &crate::file::OpenFile| {
        let pid = process_of(file.opener.pid).unwrap_or(file.opener.pid);
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = if name.is_empty() { "?" } else { name.trim_end() };
        format!("{} is open by pid {pid} ({name})", file.path)
    };
    files.list().iter().map(|file| line(file)).collect()
}

/// Whether the descriptor becomes readable, or hangs up, within the time.
fn is_ready(fd: BorrowedFd<'_>, limit_ms: u16) -> bool {
    let mut watched = [PollFd::new(fd, PollFlags::POLLIN)];
    matches!(poll(&mut watched, PollTimeout::from(limit_ms)), Ok(1..))
}

/// A mounted machine of this user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub mountpoint: PathBuf,
    /// Who serves it; none when the daemon is gone and left the mount behind.
    pub daemon: Option<Daemon>,
}

/// A daemon, by its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Its process.
    pub pid: u32,
    /// Its state directory.
    pub state: PathBuf,
    /// When it was mounted.
    pub since: SystemTime,
}

/// Asks the tree at `mountpoint` who serves it.
fn daemon(mountpoint: &Path) -> Option<Daemon> {
    let [state, pid, since] = OWN_XATTRS.map(|name| os::xattr(mountpoint, name).ok());
    let number = |value: Vec<u8>| String::from_utf8(value).ok()?.parse::<u64>().ok();
    Some(Daemon {
        pid: u32::try_from(number(pid?)?).ok()?,
        state: host::path_from(state?),
        since: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(number(since?)?))?,
    })
}

/// The machines mounted by this user in this mount name space, the oldest first.
///
/// # Errors
/// When the host's mount table cannot be read.
pub fn list() -> Result<Vec<Mounted>, Error> {
    let mounts = host::mounts()
        .map_err(|e| Error::new(Errno::EIO, format!("{}: {}", host::MOUNTINFO, host::why(&e))))?;
    let ours = mounts.into_iter().filter(host::HostMount::is_ours);
    let ours = ours.map(|m| Mounted { daemon: daemon(&m.path), mountpoint: m.path });
    Ok(ours.filter(|m| m.daemon.as_ref().is_none_or(is_own_process)).collect())
}

/// Whether the daemon's process may be this user's. In a user name space the mount table shows
/// root outside with the same number as root inside; his processes, though, as nobody's. One that
/// cannot be seen, or was made unreadable (then root's), gets the benefit of the doubt.
fn is_own_process(daemon: &Daemon) -> bool {
    let us = nix::unistd::getuid().as_raw();
    let process = std::fs::metadata(format!("/proc/{}", daemon.pid));
    process.map_or(true, |process| [us, 0].contains(&process.uid()))
}

/// Where the machine with this state directory is mounted, if it is.
pub(super) fn place_of(state: &Path) -> Option<PathBuf> {
    let serves = |mounted: &Mounted| mounted.daemon.as_ref().is_some_and(|d| d.state == state);
    list().ok()?.into_iter().find(serves).map(|mounted| mounted.mountpoint)
}

/// Unmounts the machine at `mountpoint`: asks its daemon to end, and waits until it has.
///
/// # Errors
/// In words: no machine of this user's there; the daemon does not end.
pub fn umount(mountpoint: &Path) -> Result<Report, Error> {
    let path = host::canonical(mountpoint)?;
    let refuse = |errno, why: String| Error::new(errno, format!("{}: {why}", path.display()));
    let mount = host::mounted_at(&path).map_err(|e| refuse(Errno::EIO, host::why(&e)))?;
    if !mount.is_some_and(|mount| mount.is_ours()) {
        return Err(refuse(Errno::EINVAL, "no machine of this user is mounted here".into()));
    }
    let Some(Daemon { pid, state, .. }) = daemon(&path) else {
        if host::is_dead(&path) {
            host::detach(&path)?;
            return Ok(Report { was_dead: true, ..Report::default() });
        }
        return Err(refuse(Errno::EIO, "does not say who serves it".into()));
    };
    let process = os::process(pid);
    let process = process
        .map_err(|e| refuse(Errno::EIO, format!("its daemon, pid {pid}: {}", host::why(&e))))?;
    // It answers with this number still, so the descriptor is no later process's.
    if daemon(&path).is_none_or(|now| now.pid != pid) {
        return Err(refuse(Errno::EIO, "is being unmounted by somebody else".into()));
    }
    // Never 0, which would be everybody here.
    let target = i32::try_from(pid).ok().filter(|pid| *pid > 0).map(Pid::from_raw);
    let target = target.ok_or_else(|| refuse(Errno::EIO, format!("pid {pid} is none")))?;
    kill(target, Signal::SIGTERM)
        .map_err(|e| refuse(Errno::EPERM, format!("pid {pid}: {}", e.desc())))?;
    // Writing out takes as long as the devices do; once the tree is gone, there is little left.
    while host::mounted_at(&path).is_ok_and(|mount| mount.is_some_and(|mount| mount.is_ours())) {
        if is_ready(process.as_fd(), LOOK_MS) {
            break;
        }
    }
    if !is_ready(process.as_fd(), REST_MS_MAX) {
        return Err(refuse(Errno::ETIMEDOUT, format!("unmounted, but pid {pid} does not end")));
    }
    if let Some(mut report) = Report::of(&state, pid) {
        // It may not have found the helper that takes the tree away; we may.
        let stays = host::bury(&path).err();
        report.errors.extend(stays.map(|why| format!("the dead mount stays: {why}")));
        return Ok(report);
    }
    let log = state.join("log");
    let mut why = format!(
        "pid {pid} ended without a word: what was delayed may be lost; {} may tell",
        log.display()
    );
    // Killed on its way: nobody but us takes that mount away.
    if let Err(refusal) = host::bury(&path) {
        why += &format!("; and the dead mount stays: {refusal}");
    }
    Err(refuse(Errno::EIO, why))
}
