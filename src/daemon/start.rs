//! `spindle mount`: into the background, boot, mount, tell the caller, serve.

use super::end::serve;
use super::state::State;
use super::{Boot, MountPlan, Place, host};
use crate::error::{Errno, Error};
use crate::fuse::session::Session;
use crate::fuse::{About, Door, os};
use crate::sync::Arc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// Set for the daemon's process to the number of the one that started it, so that it means
/// nothing to what the daemon itself starts.
const CHILD_OF: &str = "SPINDLE_DAEMON_OF";
/// What the daemon says when the tree answers; anything else is why it does not.
const READY: &str = "ready\n";
/// Descriptors wanted: one for each parked caller (`fuse::park`), and for the images.
const DESCRIPTORS_WANTED: u64 = 8192;

/// Mounts a machine as planned. In the background this returns when the tree answers; in the
/// foreground, when the tree was unmounted and all is written.
///
/// # Errors
/// In words for the user. In the foreground also what could not be written.
pub fn mount(plan: &MountPlan, boot: Boot<'_>) -> Result<(), Error> {
    match plan.place {
        Place::Foreground => live(plan, boot, |_| Ok(()), || Ok(())),
        Place::Background if is_child() => {
            let caller = leave_caller().map_err(|e| plain("cannot leave the caller", &e))?;
            let caller = RefCell::new(Some(caller));
            // Told once; then his end of the pipe sees its end.
            let tell = |words: &str| match caller.take() {
                Some(mut caller) => caller.write_all(words.as_bytes()),
                None => Ok(()),
            };
            let ready = || tell(READY).map_err(|e| plain("the caller is gone", &e));
            let has_log = Cell::new(false);
            let housed = |state: &State| log_to(&state.log()?).map(|()| has_log.set(true));
            let life = live(plan, boot, housed, ready);
            let status = i32::from(life.is_err());
            if let Err(error) = life {
                if has_log.get() {
                    log::error!(target: "life", "{error}");
                }
                // If he is gone, the log has it.
                let _ = tell(&error.to_string());
            }
            std::process::exit(status)
        }
        Place::Background => start_child(&plan.mountpoint),
    }
}

/// Starts this program again, as the daemon, and waits until the tree answers.
fn start_child(mountpoint: &Path) -> Result<(), Error> {
    os::keep_descriptors_from_children().map_err(|e| plain("descriptors", &e))?;
    let (mut answer, writer) = io::pipe().map_err(|e| plain("pipe", &e))?;
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("spindle"));
    // The file we run, also when another has taken its name.
    let program = std::env::current_exe().ok().filter(|program| program.exists());
    let child = Command::new(program.unwrap_or_else(|| "/proc/self/exe".into()))
        .arg0(name)
        .args(arguments)
        .env(CHILD_OF, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(writer)
        .spawn();
    let mut child = child.map_err(|e| plain("the daemon cannot be started", &e))?;
    let mut words = String::new();
    answer.read_to_string(&mut words).map_err(|e| plain("the daemon's answer", &e))?;
    if words == READY {
        return Ok(());
    }
    let status = child.wait().map_err(|e| plain("the daemon", &e))?;
    if words.is_empty() {
        words = format!("the daemon ended before the tree answered ({status}); its log tells why");
        // Killed, or out of memory, it took nothing away.
        if let Err(refusal) = host::canonical(mountpoint).and_then(|path| host::bury(&path)) {
            words += &format!("; and its dead mount stays: {refusal}");
        }
    }
    Err(Error::new(Errno::EIO, words))
}

fn is_child() -> bool {
    let parent = nix::unistd::getppid().as_raw().to_string();
    std::env::var_os(CHILD_OF).is_some_and(|of| of == OsString::from(parent))
}

/// Leaves the caller's session, and his standard output, through which he is told; the standard
/// error follows when there is a log.
fn leave_caller() -> io::Result<PipeWriter> {
    let caller = PipeWriter::from(io::stdout().as_fd().try_clone_to_owned()?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::setsid()?;
    Ok(caller)
}

fn log_to(log: &File) -> Result<(), Error> {
    nix::unistd::dup2_stderr(log).map_err(|e| plain("log", &e.into()))
}

fn plain(what: &str, why: &io::Error) -> Error {
    Error::new(Errno::EIO, format!("{what}: {}", host::why(why)))
}

/// A directory made for this mount, removed again unless the mount comes to be.
struct MadeDirectory(Option<PathBuf>);

impl Drop for MadeDirectory {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Whoever put something into it meanwhile keeps it.
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// The daemon's life.
fn live(
    plan: &MountPlan,
    boot: Boot<'_>,
    housed: impl FnOnce(&State) -> Result<(), Error>,
    ready: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    host::check_proc()?;
    let mountpoint = host::canonical(&plan.mountpoint)?;
    let dir = host::canonical(&plan.state)?;
    if host::is_within(&dir, &mountpoint) {
        let words = format!("{}: the state directory lies beneath it", mountpoint.display());
        return Err(Error::new(Errno::EINVAL, words));
    }
    // Before any thread begins: all of them are to leave these signals to the one that waits.
    let signals = signals().map_err(|e| plain("signals", &e.into()))?;
    raise_descriptor_limit();
    // What the daemon makes in the state directory is its owner's, who can use it. The mount point
    // is made as he wants it.
    let private = Mode::from_bits_truncate(0o077);
    let his = umask(private);
    let state = State::take(&dir, || super::end::place_of(&dir))?;
    housed(&state)?;
    umask(his);
    let is_made = host::clear(&mountpoint)?;
    let turn = host::take_turn(&mountpoint)?; // who has it may need the directory that we made
    let is_made = host::clear(&mountpoint)? || is_made; // who had it before may have mounted
    let made = MadeDirectory(is_made.then(|| mountpoint.clone()));
    umask(private);
    // It is in nobody's way.
    std::env::set_current_dir("/").map_err(|e| plain("/", &e))?;
    let booted = boot(&dir)?;
    let about = About { state: dir.clone(), since: SystemTime::now() };
    let door = Door::new(Arc::clone(&booted.vfs), Arc::clone(&booted.files), about);
    let is_up = Session::start(door, &mountpoint, plan.users).and_then(|session| {
        let answers = answers(&mountpoint, &dir);
        Ok((session, answers?))
    });
    let (session, device) = match is_up {
        Ok(up) => up,
        Err(error) => {
            log_lines((booted.shutdown)());
            return Err(error);
        }
    };
    drop(turn);
    std::mem::forget(made);
    log::info!(target: "life", "mounted at {} with state {}", mountpoint.display(), dir.display());
    let is_wanted = ready();
    serve(&super::end::Life { mountpoint, device, session, state, signals }, booted, is_wanted)
}

/// Sees that the tree answers, as us, and tells the number of its file system.
fn answers(mountpoint: &Path, state: &Path) -> Result<String, Error> {
    let silent = |why: &dyn std::fmt::Display| {
        let words = format!("{}: mounted, but does not answer: {why}", mountpoint.display());
        Error::new(Errno::EIO, words)
    };
    let value = os::xattr(mountpoint, crate::fuse::OWN_XATTRS[0]).map_err(|e| silent(&e))?;
    if host::path_from(value) != state {
        return Err(silent(&"another file system is in front of it"));
    }
    let mount = host::mounted_at(mountpoint).map_err(|e| silent(&e))?;
    mount.map(|mount| mount.device).ok_or_else(|| silent(&"not in the mount table"))
}

fn log_lines(lines: Vec<String>) {
    for line in lines {
        log::error!(target: "life", "{line}");
    }
}

/// The signals that end the daemon in order, as a descriptor.
fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    // Past the limit of a file's size (setrlimit(2)) a write is to fail with EFBIG, not to end us.
    let mut deadly = SigSet::empty();
    deadly.add(Signal::SIGXFSZ);
    deadly.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = DESCRIPTORS_WANTED.min(hard);
        if soft < wanted { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    });
    if let Err(refusal) = raised {
        log::warn!(target: "life", "few descriptors: {refusal}");
    }
}
