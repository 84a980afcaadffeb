//! What the user changed of the device inodes under `/dev`, kept in the file `nodes` of the state
//! directory from one life of the machine to the next.
//!
//! 1. The file is replaced as a whole: written beside, synced, renamed. After a crash it is the old
//!    one or the new one.
//! 2. It holds what differs from the machine's own nodes: those changed (mode, owner, times), those
//!    made, and the names of those removed.
//! 3. What it says of units that the machine has not now stays in it for when they come back.
//!
//! Its form is text, a line a node, in any order; spaces, `%` and all that is not printable ASCII
//! stand as `%XX` in paths. The last line counts the others, so that a torn file is known for one.
//!
//! ```text
//! spindle nodes 1
//! node PATH b|c MAJOR MINOR MODE UID GID ATIME MTIME installed|made
//! gone PATH
//! end LINES
//! ```

use super::memfs::DeviceName;
use crate::error::{Errno, Error};
use crate::file::{Device, DeviceKind};
use crate::sync::Mutex;
use devices::{DevId, plain};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

const HEAD: &str = "spindle nodes 1";
/// Longest file, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What is kept of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// A node of the machine, changed.
    Changed(DeviceName),
    /// A node that somebody made.
    Made(DeviceName),
    /// A node of the machine, removed.
    Gone,
}

/// See the head of this file.
pub(super) struct NodeStore {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: BTreeMap<PathBuf, Kept>,
    /// The machine's own nodes, as they are now.
    installed: BTreeMap<PathBuf, Device>,
    /// The count of changes that the file has seen.
    saved: u64,
}

impl NodeStore {
    /// Reads the file of a state directory; none is as good as an empty one.
    ///
    /// # Errors
    /// `EINVAL` in words when it is of another version or garbled; the host's.
    pub(super) fn load(dir: &Path) -> Result<NodeStore, Error> {
        let path = dir.join("nodes");
        let kept = match read(&path) {
            Ok(text) => parse(&text).map_err(|why| {
                let way = "put it right or move it away; nodes then have their default modes";
                Error::new(Errno::EINVAL, format!("{}:{why}; {way}", path.display()))
            })?,
            Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(failure) => return Err(host_error(&path, &failure)),
        };
        let state = State { kept, ..State::default() };
        Ok(NodeStore { path, state: Mutex::new(state) })
    }

    /// What is kept of a path.
    pub(super) fn kept(&self, path: &Path) -> Option<Kept> {
        self.state.lock().kept.get(path).cloned()
    }

    /// The nodes that somebody made.
    pub(super) fn made(&self) -> Vec<DeviceName> {
        let state = self.state.lock();
        let made = state.kept.values().filter_map(|kept| match kept {
            Kept::Made(node) => Some(node.clone()),
            _ => None,
        });
        made.collect()
    }

    /// The machine has this node now; or, with `None`, no longer.
    pub(super) fn install(&self, path: &Path, device: Option<Device>) {
        let mut state = self.state.lock();
        match device {
            Some(device) => state.installed.insert(path.to_owned(), device),
            None => state.installed.remove(path),
        };
    }

    /// Writes the file anew unless it has seen the change numbered `changes`. `nodes` are all there
    /// are now. The lock is held while writing: whoever comes meanwhile has a newer state to write.
    ///
    /// # Errors
    /// The host's; the file is as it was then.
    pub(super) fn save(
        &self,
        changes: impl Fn() -> u64,
        nodes: impl FnOnce() -> Vec<DeviceName>,
    ) -> Result<(), Error> {
        let mut state = self.state.lock();
        let seen = changes();
        if state.saved == seen {
            return Ok(());
        }
        let kept = state.now(nodes());
        if kept != state.kept {
            replace(&self.path, &print(&kept)).map_err(|why| host_error(&self.path, &why))?;
            state.kept = kept;
        }
        state.saved = seen;
        Ok(())
    }
}

impl State {
    /// What is worth keeping, with the nodes as they are.
    fn now(&self, nodes: Vec<DeviceName>) -> BTreeMap<PathBuf, Kept> {
        let mut kept = BTreeMap::new();
        for path in self.installed.keys() {
            kept.insert(path.clone(), Kept::Gone);
        }
        for node in nodes {
            let path = node.path.clone();
            if self.installed.get(&path) != Some(&node.device) {
                kept.insert(path, Kept::Made(node));
            } else if node.is_kept {
                kept.insert(path, Kept::Changed(node));
            } else {
                kept.remove(&path);
            }
        }
        for (path, old) in &self.kept {
            let is_absent = !self.installed.contains_key(path) && !kept.contains_key(path);
            if is_absent && !matches!(old, Kept::Made(_)) {
                kept.insert(path.clone(), old.clone());
            }
        }
        kept
    }
}

fn host_error(path: &Path, failure: &std::io::Error) -> Error {
    let errno = failure.raw_os_error().map_or(Errno::EIO, Errno);
    Error::new(errno, format!("{}: {failure}", path.display()))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    plain::read(path, FILE_BYTES_MAX + 1)
}

/// Replaces a file as a whole.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let how = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
    let mut file = plain::open(&beside, &how)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn print(kept: &BTreeMap<PathBuf, Kept>) -> String {
    let mut text = format!("{HEAD}\n");
    for (path, what) in kept {
        let path = escape(path);
        let (node, origin) = match what {
            Kept::Gone => {
                text += &format!("gone {path}\n");
                continue;
            }
            Kept::Changed(node) => (node, "installed"),
            Kept::Made(node) => (node, "made"),
        };
        let DeviceName { device, mode, uid, gid, atime, mtime, .. } = node;
        let (atime, mtime) = (print_time(*atime), print_time(*mtime));
        text += &format!("node {path} {device} {mode:04o} {uid} {gid} {atime} {mtime} {origin}\n");
    }
    text + &format!("end {}\n", kept.len())
}

/// Seconds and nanoseconds since 1970; a time before is told by a minus sign.
fn print_time(time: SystemTime) -> String {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => format!("{}.{:09}", since.as_secs(), since.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            format!("-{}.{:09}", before.as_secs(), before.subsec_nanos())
        }
    }
}

fn parse_time(text: &str) -> Option<SystemTime> {
    let (digits, is_before) = match text.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let (secs, nanos) = digits.split_once('.')?;
    let nanos = Some(nanos).filter(|nanos| nanos.len() == 9)?.parse().ok()?;
    let span = Duration::new(secs.parse().ok()?, nanos);
    match is_before {
        true => SystemTime::UNIX_EPOCH.checked_sub(span),
        false => SystemTime::UNIX_EPOCH.checked_add(span),
    }
}

fn escape(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_graphic() && *byte != b'%' {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}"); // writing to a String does not fail
        }
    }
    text
}

/// A path below `/dev`, or nothing.
fn unescape(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    let path = PathBuf::from(OsString::from_vec(bytes));
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    (is_below && path.file_name().is_some()).then_some(path)
}

/// What the file keeps; else the number of the line that is wrong, and why.
fn parse(bytes: &[u8]) -> Result<BTreeMap<PathBuf, Kept>, String> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("1: too long for a list of nodes".into());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "1: not text".to_owned())?;
    let mut lines = (1..).zip(text.lines());
    match lines.next() {
        Some((_, HEAD)) => {}
        Some((_, line)) if line.starts_with("spindle nodes ") => {
            return Err(format!("1: \"{line}\" is of another version; this one reads \"{HEAD}\""));
        }
        _ => return Err(format!("1: \"{HEAD}\" is missing: not a list of nodes")),
    }
    let mut kept = BTreeMap::new();
    for (number, line) in lines {
        if let Some(count) = line.strip_prefix("end ") {
            if count.parse() == Ok(kept.len()) && text.ends_with(&format!("\nend {count}\n")) {
                return Ok(kept);
            }
            return Err(format!("{number}: the file says \"{line}\" but has {}", kept.len()));
        }
        let (path, what) =
            parse_line(line).ok_or_else(|| format!("{number}: \"{line}\" is no node"))?;
        kept.insert(path, what);
    }
    Err(format!("{}: the last line is missing: the file is torn", text.lines().count()))
}

fn parse_line(line: &str) -> Option<(PathBuf, Kept)> {
    let words: Vec<&str> = line.split(' ').collect();
    match *words {
        ["gone", path] => Some((unescape(path)?, Kept::Gone)),
        ["node", path, kind, major, minor, mode, uid, gid, atime, mtime, origin] => {
            let path = unescape(path)?;
            let kind = match kind {
                "b" => DeviceKind::Block,
                "c" => DeviceKind::Char,
                _ => return None,
            };
            let id = DevId { major: major.parse().ok()?, minor: minor.parse().ok()? };
            let node = DeviceName {
                path: path.clone(),
                device: Device { kind, id },
                mode: u16::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777)?,
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                atime: parse_time(atime)?,
                mtime: parse_time(mtime)?,
                is_kept: true,
            };
            match origin {
                "installed" => Some((path, Kept::Changed(node))),
                "made" => Some((path, Kept::Made(node))),
                _ => None,
            }
        }
        _ => None,
    }
}
