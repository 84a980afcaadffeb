//! The host's mount table, and what of it is ours.

use crate::doctor::shows_us;
use crate::error::{Errno, Error};
use crate::fuse::session::KIND;
use crate::fuse::{OWN_XATTRS, os};
use nix::mount::{MntFlags, umount2};
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where the host tells of its mounts; polls as exceptional when they change.
pub(super) const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Where the helper of FUSE is looked for.
const HELPERS: [&str; 3] = ["fusermount3", "/usr/bin/fusermount3", "/bin/fusermount3"];

/// A line of the host's mount table (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostMount {
    /// Where it is mounted.
    pub(super) path: PathBuf,
    /// Type of the file system.
    pub(super) kind: String,
    /// `major:minor` of the file system, the same wherever it is mounted.
    pub(super) device: String,
    /// Who mounted it, where FUSE says so.
    user: Option<u32>,
}

impl HostMount {
    /// Whether a daemon of this user's serves it, or served it.
    pub(super) fn is_ours(&self) -> bool {
        self.kind == KIND && self.user == Some(nix::unistd::getuid().as_raw())
    }
}

/// Sees that `/proc` shows processes by the numbers that we know them by; else a caller would be
/// taken for whoever has his number in another pid name space.
///
/// # Errors
/// In words.
pub(super) fn check_proc() -> Result<(), Error> {
    let refuse = |what: &str| {
        let words = format!("/proc: {what}; `mount -t proc proc /proc` mends it");
        Err(Error::new(Errno::EIO, words))
    };
    match shows_us(Path::new("/proc/self")) {
        Ok(true) => Ok(()),
        Ok(false) => refuse("shows another pid name space than ours (unshare has --mount-proc)"),
        Err(refusal) => refuse(&why(&refusal)),
    }
}

/// All mounts of our mount name space, those mounted later behind.
pub(super) fn mounts() -> io::Result<Vec<HostMount>> {
    Ok(parse(&std::fs::read(MOUNTINFO)?))
}

/// What is mounted at `path`, topmost.
pub(super) fn mounted_at(path: &Path) -> io::Result<Option<HostMount>> {
    Ok(mounts()?.into_iter().rev().find(|mount| mount.path == path))
}

fn parse(table: &[u8]) -> Vec<HostMount> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<HostMount> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    // A number of optional fields ends with a dash.
    let dash = words.iter().position(|word| *word == b"-")?;
    let text = |at: usize| words.get(at).map(|word| String::from_utf8_lossy(word).into_owned());
    let options = text(dash + 3)?;
    let user = options.split(',').find_map(|option| option.strip_prefix("user_id="));
    Some(HostMount {
        path: unescape(words.get(4)?),
        kind: text(dash + 1)?,
        device: text(2)?,
        user: user.and_then(|id| id.parse().ok()),
    })
}

/// Blanks, newlines and backslashes stand as three octal digits.
fn unescape(word: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(byte) => {
                path.push(byte);
                rest = &tail[3..];
            }
            None => {
                path.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(path).into()
}

/// Whether a mount is there whose daemon is not.
pub(super) fn is_dead(path: &Path) -> bool {
    let refusal = std::fs::metadata(path).err().and_then(|refusal| refusal.raw_os_error());
    refusal == Some(nix::errno::Errno::ENOTCONN as i32)
}

/// The absolute path without symbolic links, also of a mount point whose daemon is gone, which
/// nobody can look at, or of what does not exist yet in a directory that does.
///
/// # Errors
/// In words, when the directory it is in does not exist.
pub(super) fn canonical(path: &Path) -> Result<PathBuf, Error> {
    if let Ok(canonical) = path.canonicalize() {
        return Ok(canonical);
    }
    let refuse = |why: &dyn std::fmt::Display| {
        Error::new(Errno::ENOENT, format!("{}: {why}", path.display()))
    };
    let absolute = std::path::absolute(path).map_err(|e| refuse(&why(&e)))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(refuse(&"no such directory"));
    };
    // What is below a directory still to be made is taken as written.
    let parent = match parent.canonicalize() {
        Ok(parent) => parent,
        Err(refusal) if refusal.kind() == io::ErrorKind::NotFound => canonical(parent)?,
        Err(refusal) => return Err(refuse(&why(&refusal))),
    };
    Ok(parent.join(name))
}

/// Takes a mount out of the tree, also a busy or dead one: by umount2(2), else by fusermount3.
///
/// # Errors
/// In words.
pub(super) fn detach(path: &Path) -> Result<(), Error> {
    let refuse = |why: String| Error::new(Errno::EBUSY, format!("{}: {why}", path.display()));
    let refusal = match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    if refusal != nix::errno::Errno::EPERM {
        return Err(refuse(refusal.desc().to_owned()));
    }
    let output = fusermount(path);
    let output = output.map_err(|e| refuse(format!("fusermount3 (package fuse3): {}", why(&e))))?;
    if output.status.success() {
        return Ok(());
    }
    Err(refuse(String::from_utf8_lossy(output.stderr.trim_ascii()).into_owned()))
}

/// The helper takes the mount away: that of `$FUSERMOUNT_PATH`, that in `$PATH`, or that where it
/// mostly is, as for mounting.
fn fusermount(path: &Path) -> io::Result<Output> {
    let named = std::env::var_os("FUSERMOUNT_PATH").filter(|name| !name.is_empty());
    let places = HELPERS.iter().map(OsString::from);
    let mut last = io::ErrorKind::NotFound.into();
    for program in named.into_iter().chain(places) {
        match Command::new(program).args(["-u", "-z", "--"]).arg(path).output() {
            Err(refusal) => last = refusal,
            done => return done,
        }
    }
    Err(last)
}

/// Takes a mount away whose daemon is gone, if there is one that is ours.
///
/// # Errors
/// In words.
pub(super) fn bury(path: &Path) -> Result<(), Error> {
    let is_ours = mounted_at(path).is_ok_and(|mount| mount.is_some_and(|mount| mount.is_ours()));
    if is_ours && is_dead(path) { detach(path) } else { Ok(()) }
}

/// Makes sure that a tree can be mounted at `path`, making the directory if there is none; a
/// mount of ours whose daemon is gone is taken away. `true` when the directory was made.
///
/// # Errors
/// In words: a file, a directory with something in it, something else mounted, already ours.
pub(super) fn clear(path: &Path) -> Result<bool, Error> {
    let refuse = |errno, why: String| Error::new(errno, format!("{}: {why}", path.display()));
    clear_mounts(path)?;
    let was_made = !path.exists();
    if was_made {
        let made = std::fs::create_dir_all(path);
        made.map_err(|e| refuse(Errno::EACCES, format!("cannot be made: {}", why(&e))))?;
    }
    let listing = match std::fs::read_dir(path) {
        Ok(listing) => listing,
        Err(refusal) if refusal.kind() == io::ErrorKind::NotADirectory => {
            return Err(refuse(Errno::ENOTDIR, "is a file, not a directory".to_owned()));
        }
        Err(refusal) => return Err(refuse(Errno::EACCES, why(&refusal))),
    };
    if listing.take(1).count() > 0 {
        clear_mounts(path)?; // or somebody has mounted here since we looked: that is to be told
        let why = "is not empty; what is in it would be hidden".to_owned();
        return Err(refuse(Errno::ENOTEMPTY, why));
    }
    Ok(was_made)
}

/// Takes away mounts of ours at `path` whose daemons are gone.
///
/// # Errors
/// In words: something else mounted, already ours.
fn clear_mounts(path: &Path) -> Result<(), Error> {
    let refuse = |errno, why: String| Error::new(errno, format!("{}: {why}", path.display()));
    let table = |e: io::Error| refuse(Errno::EIO, format!("{MOUNTINFO}: {}", why(&e)));
    while let Some(mount) = mounted_at(path).map_err(table)? {
        if !is_dead(path) {
            let why = if mount.is_ours() {
                let state = os::xattr(path, OWN_XATTRS[0]).map(path_from);
                let state = state.map_or_else(
                    |_| String::new(),
                    |state| format!(" (with state {})", state.display()),
                );
                format!("a machine is mounted here already{state}; spindle umount takes it away")
            } else {
                format!("busy: a file system of type {} is mounted here", mount.kind)
            };
            return Err(refuse(Errno::EBUSY, why));
        }
        if !mount.is_ours() {
            let why = format!("busy: a dead mount of type {} is here, not ours", mount.kind);
            return Err(refuse(Errno::EBUSY, why));
        }
        log::info!(target: "life", "{}: taking away a mount left dead", path.display());
        detach(path)?;
    }
    Ok(())
}

/// Keeps everybody else from mounting at `path` until what is returned is dropped; `None` where the
/// host has nothing for it. It is a name among those of the host's sockets, for a lock on the
/// directory may well be a script's that has one machine at a time mounted there, and waits for us.
///
/// # Errors
/// In words: somebody else is at it.
pub(super) fn take_turn(path: &Path) -> Result<Option<UnixListener>, Error> {
    let Ok(found) = path.metadata() else { return Ok(None) };
    let name = format!("spindle mount {}:{}", found.dev(), found.ino());
    let turn = SocketAddr::from_abstract_name(name).and_then(|name| UnixListener::bind_addr(&name));
    match turn {
        Ok(turn) => Ok(Some(turn)),
        Err(refusal) if refusal.kind() == io::ErrorKind::AddrInUse => {
            let path = path.display();
            let words = "busy: another `spindle mount` is about to mount here; wait for its end, \
                         or name another directory";
            Err(Error::new(Errno::EBUSY, format!("{path}: {words}")))
        }
        Err(_) => Ok(None),
    }
}

/// The host's reason, without the number that means nothing to a reader.
pub(super) fn why(refusal: &io::Error) -> String {
    match refusal.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => refusal.to_string(),
    }
}

/// The bytes of a path, for a line of text: what is not UTF-8 stays.
pub(super) fn path_from(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// Whether `inner` is `outer` or beneath it, by whole components.
pub(super) fn is_within(inner: &Path, outer: &Path) -> bool {
    debug_assert!(outer.as_os_str().as_bytes().starts_with(b"/"));
    inner.starts_with(outer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw
95 22 0:51 / /home/a\\040b/io rw,nosuid,nodev - fuse.spindle spindle rw,user_id=1000,group_id=5
96 22 0:52 / /m\\134x rw - fuse.spindle spindle rw,user_id=0,group_id=0,allow_other
torn line
97 22 0:53 / /other rw - fuse.sshfs h: rw,user_id=0
";

    #[test]
    fn the_mount_table_is_read() {
        let mounts = parse(TABLE);
        let paths: Vec<_> = mounts.iter().map(|mount| mount.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/", "/home/a b/io", "/m\\x", "/other"]);
        assert_eq!((mounts[1].kind.as_str(), mounts[1].user), (KIND, Some(1000)));
        assert_eq!((mounts[0].kind.as_str(), mounts[0].user), ("ext4", None));
        assert_eq!(mounts[2].device, "0:52");
    }

    #[test]
    fn only_what_this_user_mounted_is_ours() {
        let mut mount = parse(TABLE).remove(1);
        mount.user = Some(nix::unistd::getuid().as_raw());
        assert!(mount.is_ours());
        mount.user = Some(nix::unistd::getuid().as_raw() + 1);
        assert!(!mount.is_ours());
        mount.user = Some(nix::unistd::getuid().as_raw());
        mount.kind = "fuse.sshfs".into();
        assert!(!mount.is_ours());
    }

    #[test]
    fn escapes_that_are_none_stay_as_they_are() {
        for word in ["a\\", "a\\04", "a\\9zz", "plain"] {
            assert_eq!(unescape(word.as_bytes()), Path::new(word));
        }
    }

    #[test]
    fn a_path_is_made_canonical_though_its_end_does_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        let asked = dir.path().join("link/./a/b");
        assert_eq!(canonical(&asked).unwrap(), real.join("a/b"));
        assert_eq!(canonical(Path::new("/")).unwrap(), Path::new("/"));
    }

    #[test]
    fn one_at_a_time_mounts_in_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let turn = take_turn(dir.path()).unwrap();
        assert!(turn.is_some());
        let error = take_turn(dir.path()).unwrap_err();
        assert!(error.what.contains("another `spindle mount` is about to mount here"), "{error}");
        drop(turn);
        assert!(take_turn(dir.path()).unwrap().is_some());
    }

    #[test]
    fn a_mount_point_is_made_or_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let (new, file, full) =
            (dir.path().join("a/new"), dir.path().join("file"), dir.path().join("a"));
        assert!(clear(&new).unwrap());
        assert!(!clear(&new).unwrap());
        std::fs::write(&file, "").unwrap();
        assert!(clear(&file).unwrap_err().what.ends_with("is a file, not a directory"));
        assert!(clear(&full).unwrap_err().what.contains("is not empty"));
        assert!(
            clear(Path::new("/proc"))
                .unwrap_err()
                .what
                .contains("busy: a file system of type proc")
        );
    }
}
