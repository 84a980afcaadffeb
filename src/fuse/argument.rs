//! The caller's third argument and memory, for device commands whose number encodes no size.
//!
//! The FUSE protocol hands such a command over bare. Its caller sleeps in ioctl(2) until we answer,
//! so `/proc/<tid>/syscall` shows the argument, and process_vm_readv(2) reaches what it points to.
//! Where the host forbids that (Yama, another user's process, a caller outside our process
//! numbers) the command is ENOTTY, as it would be without this file.

use crate::error::{Errno, Error};
use crate::file::CallerMemory;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use std::io::{IoSlice, IoSliceMut};

/// Most looks at a caller that has not fallen asleep yet: its request reaches us before it does.
const LOOKS_MAX: u32 = 10_000;

/// A caller asleep in ioctl(2).
pub struct Asleep {
    /// Its thread id.
    pub tid: u32,
}

fn forbidden() -> Error {
    Error::plain(Errno::ENOTTY)
}

/// The third argument in a line of `/proc/<tid>/syscall` (proc(5)): number, then six arguments.
fn third(line: &str) -> Option<u64> {
    let word = line.split_whitespace().nth(3)?;
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

impl Asleep {
    fn pid(&self) -> Result<Pid, Error> {
        i32::try_from(self.tid).ok().filter(|tid| *tid > 0).map(Pid::from_raw).ok_or_else(forbidden)
    }

    fn span(at: u64, len: usize) -> Result<[RemoteIoVec; 1], Error> {
        let base = usize::try_from(at).map_err(|_| Error::plain(Errno::EFAULT))?;
        Ok([RemoteIoVec { base, len }])
    }
}

fn moved(result: nix::Result<usize>, len: usize) -> Result<(), Error> {
    match result {
        Ok(moved) if moved == len => Ok(()),
        Ok(_) | Err(nix::Error::EFAULT) => Err(Error::plain(Errno::EFAULT)),
        Err(_) => Err(forbidden()),
    }
}

impl CallerMemory for Asleep {
    fn argument(&self) -> Result<u64, Error> {
        let path = format!("/proc/{}/syscall", self.tid);
        for _ in 0..LOOKS_MAX {
            let line = std::fs::read_to_string(&path).map_err(|_| forbidden())?;
            if !line.starts_with("running") {
                return third(&line).ok_or_else(forbidden);
            }
            std::thread::yield_now();
        }
        Err(forbidden())
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> Result<(), Error> {
        let len = buf.len();
        moved(
            process_vm_readv(self.pid()?, &mut [IoSliceMut::new(buf)], &Asleep::span(at, len)?),
            len,
        )
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<(), Error> {
        let span = Asleep::span(at, data.len())?;
        moved(process_vm_writev(self.pid()?, &[IoSlice::new(data)], &span), data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_argument_is_found_in_its_line() {
        let line = "16 0x3 0x1268 0x7ffd5a8c 0x0 0x0 0x1 0x7ffd5a00 0x7f2b\n";
        assert_eq!(third(line), Some(0x7ffd_5a8c));
        assert_eq!(third("-1 0x7ffd 0x7f2b"), None);
        assert_eq!(third(""), None);
    }

    #[test]
    fn memory_of_our_own_can_be_read_and_written_and_a_bad_address_is_a_fault() {
        let me = Asleep { tid: std::process::id() };
        let mut there = *b"there";
        let at = there.as_mut_ptr().addr() as u64;
        let mut back = [0; 5];
        me.read(at, &mut back).unwrap();
        assert_eq!(&back, b"there");
        assert_eq!(me.read(8, &mut back).unwrap_err().errno, Errno::EFAULT);
        assert_eq!(Asleep { tid: 0 }.read(at, &mut back).unwrap_err().errno, Errno::ENOTTY);
        assert_eq!(&there, b"there");
    }
}
