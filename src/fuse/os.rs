//! The few words to the host's kernel that neither the standard library nor nix has.
//!
//! Every `unsafe` of this room is here, one system call each.

#![allow(unsafe_code)] // system calls without a safe wrapper; each block says why it is sound

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Lets no process started from here inherit a descriptor beyond 0, 1 and 2.
///
/// # Errors
/// The host's.
pub fn keep_descriptors_from_children() -> io::Result<()> {
    // SAFETY: marks descriptors, closes none; no memory is handed over.
    let done = unsafe { libc::close_range(3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Of linux/close_range.h; libc has the type wrong for the call.
const CLOSE_RANGE_CLOEXEC: libc::c_int = 1 << 2;

/// Has us hear how a process that we started ended, also where whoever started us ignores SIGCHLD,
/// which is inherited: the host would throw its status away, and wait(2) say ECHILD.
pub fn hear_of_children() {
    // SAFETY: the default action is no handler of ours; no memory is handed over.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// A descriptor that polls readable when the process has ended.
///
/// # Errors
/// `ESRCH` when there is no such process.
pub fn process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers, gives a descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel made it for us just now; nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The value of an extended attribute, at most 64 KiB.
///
/// # Errors
/// Those of getxattr(2).
pub fn xattr(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let path = terminated(path.as_os_str())?;
    let name = terminated(OsStr::new(name))?;
    let mut value = vec![0_u8; 65536];
    // SAFETY: both strings end in NUL, and the length is that of the memory lent.
    let len = unsafe {
        libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    value.truncate(len);
    Ok(value)
}

fn terminated(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    #[test]
    fn a_child_inherits_nothing_beyond_the_first_three() {
        let leak = nix::fcntl::open(
            "/dev/null",
            nix::fcntl::OFlag::O_RDONLY,
            nix::sys::stat::Mode::empty(),
        );
        let leak = leak.unwrap();
        keep_descriptors_from_children().unwrap();
        let seen = Command::new("ls").arg("/proc/self/fd").output().unwrap();
        let seen = String::from_utf8(seen.stdout).unwrap();
        // 3 is ls's own, of the directory it lists.
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
        drop(leak);
    }

    #[test]
    fn the_end_of_a_process_is_seen() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let watch = process(child.id()).unwrap();
        let ended = |limit: u16| {
            let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(limit)).unwrap() == 1
        };
        assert!(!ended(0));
        drop(child.stdin.take());
        assert!(ended(60_000));
        child.wait().unwrap();
        assert_eq!(process(child.id()).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn an_attribute_that_is_not_there_is_an_error() {
        let missing = xattr(Path::new("/"), "user.spindle.none").unwrap_err();
        assert!(missing.raw_os_error().is_some());
        assert!(xattr(Path::new("a\0b"), "user.x").is_err());
    }
}
