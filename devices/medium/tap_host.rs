//! Where the bytes of a tape are kept: a file on the host that grows and is ours alone while it
//! is loaded, or memory.

use super::file::{errno, lock, offset, told};
use super::window::Window;
use crate::contract::IoError;
use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::sys::uio::{preadv, pwritev};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How a tape is opened.
#[derive(Clone, Copy, Debug)]
pub struct TapOptions {
    /// How much the tape holds, in bytes of the file.
    pub size_bytes: u64,
    /// Writes are refused, and the file is opened for reading only.
    pub read_only: bool,
    /// Whether a flush asks the host to keep what was written (fdatasync).
    pub host_sync: bool,
}

/// See the head of this file.
pub(super) enum Backing {
    File(Flock<File>, Option<Window>),
    Memory(Vec<u8>),
    /// Memory, and all that was written to it, write by write.
    #[cfg(test)]
    Journal(Vec<u8>, Vec<(u64, Vec<u8>)>),
}

impl Backing {
    /// Opens the file, making it when it is missing and may be written.
    pub(super) fn open(path: &Path, options: &TapOptions) -> Result<Backing, String> {
        let read_only = options.read_only;
        match std::fs::metadata(path) {
            Ok(meta) if !meta.is_file() => return Err("is not a plain file".into()),
            Err(why) if why.kind() == ErrorKind::NotFound && read_only => {
                return Err("is missing".into());
            }
            _ => {}
        }
        let mut how = OpenOptions::new();
        how.read(true).write(!read_only).create(!read_only).truncate(false);
        let file = how.open(path).map_err(|why| match why.kind() {
            ErrorKind::PermissionDenied if !read_only => format!("{why} (`ro` would do to read)"),
            _ => why.to_string(),
        })?;
        let file = lock(path, file, read_only)?;
        let is_written = !read_only;
        let window = is_written.then(|| Window::over(&file, options.size_bytes)).flatten();
        Ok(Backing::File(file, window))
    }

    pub(super) fn len(&self) -> Result<u64, IoError> {
        match self {
            Backing::File(file, _) => {
                file.metadata().map(|meta| meta.len()).map_err(|why| failed(&why, 0))
            }
            Backing::Memory(bytes) => Ok(bytes.len() as u64),
            #[cfg(test)]
            Backing::Journal(bytes, _) => Ok(bytes.len() as u64),
        }
    }

    /// Fills `first` and then `then` from byte `at`, as far as there are bytes; says how far.
    pub(super) fn read(
        &self,
        at: u64,
        first: &mut [u8],
        then: &mut [u8],
    ) -> Result<usize, IoError> {
        let wanted = first.len() + then.len();
        match self {
            Backing::File(file, _) => {
                let (len, mut got) = (first.len(), 0);
                while got < wanted {
                    let from = offset(at + got as u64)?;
                    let head = &mut first[got.min(len)..];
                    let tail = &mut then[got.saturating_sub(len)..];
                    let mut runs = [IoSliceMut::new(head), IoSliceMut::new(tail)];
                    match preadv(&**file, &mut runs, from) {
                        Ok(0) => break,
                        Ok(more) => got += more,
                        Err(Errno::EINTR) => {}
                        Err(why) => return Err(told(why, at)),
                    }
                }
                Ok(got)
            }
            Backing::Memory(bytes) => Ok(copy_out(bytes, at, first, then)),
            #[cfg(test)]
            Backing::Journal(bytes, _) => Ok(copy_out(bytes, at, first, then)),
        }
    }

    /// Writes `first` and then `then` at byte `at`, all of it.
    pub(super) fn write(&mut self, at: u64, first: &[u8], then: &[u8]) -> Result<(), IoError> {
        match self {
            Backing::File(file, window) => {
                if window.as_mut().is_some_and(|window| window.put(file, at, first, then)) {
                    return Ok(());
                }
                let runs = [IoSlice::new(first), IoSlice::new(then)];
                let put = pwritev(&**file, &runs, offset(at)?).unwrap_or(0);
                // The host stopped short, or refused: the rest by itself, so that the error tells.
                let (head, tail) = (put.min(first.len()), put.saturating_sub(first.len()));
                let at = at + put as u64;
                file.write_all_at(&first[head..], at).map_err(|why| failed(&why, at))?;
                let at = at + (first.len() - head) as u64;
                file.write_all_at(&then[tail..], at).map_err(|why| failed(&why, at))
            }
            Backing::Memory(bytes) => copy_in(bytes, at, first, then),
            #[cfg(test)]
            Backing::Journal(bytes, writes) => {
                writes.push((at, [first, then].concat()));
                copy_in(bytes, at, first, then)
            }
        }
    }

    pub(super) fn set_len(&mut self, len: u64) -> Result<(), IoError> {
        match self {
            Backing::File(file, window) => {
                if let Some(window) = window {
                    window.cut(len);
                }
                file.set_len(len).map_err(|why| failed(&why, len))
            }
            Backing::Memory(bytes) => {
                bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
                Ok(())
            }
            #[cfg(test)]
            Backing::Journal(..) => Ok(()),
        }
    }

    pub(super) fn sync(&self) -> Result<(), IoError> {
        match self {
            // Nobody knows what a failed fdatasync(2) lost.
            Backing::File(file, _) => file.sync_data().map_err(|why| match errno(&why) {
                Errno::ENOSPC | Errno::EDQUOT => IoError::NoSpace,
                _ => IoError::Hardware,
            }),
            Backing::Memory(_) => Ok(()),
            #[cfg(test)]
            Backing::Journal(..) => Ok(()),
        }
    }
}

/// Fills `first` and `then` from byte `at`, as far as there are bytes; says how far.
fn copy_out(bytes: &[u8], at: u64, first: &mut [u8], then: &mut [u8]) -> usize {
    let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    let there = &bytes[from..];
    let head = first.len().min(there.len());
    first[..head].copy_from_slice(&there[..head]);
    let tail = then.len().min(there.len() - head);
    then[..tail].copy_from_slice(&there[head..head + tail]);
    head + tail
}

/// Puts `first` and `then` at byte `at`.
fn copy_in(bytes: &mut Vec<u8>, at: u64, first: &[u8], then: &[u8]) -> Result<(), IoError> {
    let from = usize::try_from(at).map_err(|_| IoError::NoSpace)?;
    let end = from + first.len() + then.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[from..from + first.len()].copy_from_slice(first);
    bytes[from + first.len()..end].copy_from_slice(then);
    Ok(())
}

fn failed(why: &std::io::Error, at: u64) -> IoError {
    log::warn!(target: "medium", "tape, byte {at}: {why}");
    told(errno(why), at)
}
