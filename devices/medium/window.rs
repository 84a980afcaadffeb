//! A tape's file as memory, where the host keeps it in memory anyway (tmpfs): long records are put
//! there without a system call, into pages of 2 MiB.
//!
//! On tmpfs the host takes and looks up each page of 4 KiB by itself, and copies into it as if it
//! would be read soon: for 256 KiB 90 us where the file grows and 45 us where it does not; by way
//! of this window, 30 us and 12 us (measured).
//!
//! 1. Only an extent of 2 MiB that the host has made one page on our word is written in this way:
//!    its room is there. Where the host does not want to, records are written as on any disk.
//! 2. For that the file is made longer by zeros, up to the end of the extent. It is cut to its data
//!    as after writing over a longer tape, and until then an end-of-medium marker stands before
//!    them.
//! 3. Somebody else may still cut the file: see `bus_error.rs`. Then nothing is written in this way
//!    any more, and the record that found out is written again.

#![allow(unsafe_code)] // mapped memory has no safe form; each block says why it is sound

use super::bus_error::Watched;
use crate::copy::past_caches_to;
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use std::ffi::c_void;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

/// What is made one page, in bytes.
const EXTENT_BYTES: usize = 2 << 20;
/// Most of a tape that is mapped, in bytes; what is behind is written as on any disk.
const WINDOW_BYTES_MAX: u64 = 16 << 30;
/// Shorter writes are not worth a page, in bytes.
const WRITE_BYTES_MIN: usize = 64 << 10;
/// `MADV_COLLAPSE` of linux/mman.h, since Linux 6.1.
const COLLAPSE: i32 = 25;

/// See the head of this file.
pub(super) struct Window {
    /// Where the file begins, on the edge of an extent.
    base: NonNull<c_void>,
    bytes: usize,
    /// What was taken for it, to be given back.
    taken: (NonNull<c_void>, usize),
    /// While it is mapped.
    watched: Option<Watched>,
    /// The extents that are one page.
    ready: Vec<bool>,
    /// No further extent is made one page.
    is_spent: bool,
}

// SAFETY: the memory belongs to no thread, and all that touches it needs the window for itself.
unsafe impl Send for Window {}

impl Window {
    /// A window on a tape of `tape_bytes` bytes; `None` where it would be of no use.
    pub(super) fn over(file: &File, tape_bytes: u64) -> Option<Window> {
        if fstatfs(file).ok()?.filesystem_type() != TMPFS_MAGIC {
            return None;
        }
        let bytes = tape_bytes.min(WINDOW_BYTES_MAX).next_multiple_of(EXTENT_BYTES as u64);
        let bytes = NonZeroUsize::new(usize::try_from(bytes).ok()?)?;
        let room = bytes.checked_add(EXTENT_BYTES)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: new memory, which the host puts where there is none.
        let start = unsafe { mmap_anonymous(None, room, ProtFlags::PROT_NONE, flags) }.ok()?;
        let pad = start.addr().get().next_multiple_of(EXTENT_BYTES) - start.addr().get();
        // SAFETY: less than an extent further on, and by an extent longer is what was taken.
        let base = unsafe { start.byte_add(pad) };
        let mut window = Window {
            base,
            bytes: bytes.get(),
            taken: (start, room.get()),
            watched: None,
            ready: Vec::new(),
            is_spent: false,
        };
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: it takes the place of what was just taken, which nobody else knows.
        unsafe { mmap(Some(base.addr()), bytes, prot, flags, file, 0) }.ok()?;
        let first = base.as_ptr().expose_provenance();
        window.watched = Some(Watched::over(first, bytes.get())?);
        Some(window)
    }

    /// Writes `first` and then `then` at byte `at`. `false`: it must be done in another way.
    pub(super) fn put(&mut self, file: &File, at: u64, first: &[u8], then: &[u8]) -> bool {
        let len = first.len() + then.len();
        let Ok(at) = usize::try_from(at) else { return false };
        let Some(end) = at.checked_add(len).filter(|end| *end <= self.bytes) else { return false };
        if len < WRITE_BYTES_MIN
            || !(at / EXTENT_BYTES..end.div_ceil(EXTENT_BYTES)).all(|n| self.prepare(file, n))
        {
            return false;
        }
        // SAFETY: `at..end` lies in the window, which is mapped, and no reference leads there; what
        // the host cannot give any more is replaced by memory when it is touched.
        unsafe {
            let to = self.base.as_ptr().cast::<u8>().add(at);
            past_caches_to(to, first);
            past_caches_to(to.add(first.len()), then);
        }
        if self.watched.as_ref().is_some_and(|watched| !watched.is_lost()) {
            return true;
        }
        log::warn!(target: "medium", "tape: its file was cut by somebody else");
        self.ready.clear();
        self.is_spent = true;
        false
    }

    /// The file was cut to `len` bytes: an extent of which a part is gone is no page any more.
    pub(super) fn cut(&mut self, len: u64) {
        self.ready.truncate(usize::try_from(len).unwrap_or(usize::MAX) / EXTENT_BYTES);
    }

    /// Has an extent made one page; whether it is.
    fn prepare(&mut self, file: &File, extent: usize) -> bool {
        if self.ready.get(extent).is_some_and(|ready| *ready) {
            return true;
        }
        if self.is_spent {
            return false;
        }
        match self.collapse(file, extent * EXTENT_BYTES) {
            Ok(()) => {
                if self.ready.len() <= extent {
                    self.ready.resize(extent + 1, false);
                }
                self.ready[extent] = true;
                true
            }
            Err(why) => {
                // A page of it may be in use just now; else the host will not, or cannot.
                self.is_spent = !matches!(why, Errno::EAGAIN | Errno::EBUSY);
                false
            }
        }
    }

    /// On refusal the file is as it was.
    fn collapse(&self, file: &File, from: usize) -> Result<(), Errno> {
        // A machine with a small cache has them forbidden, for its buffers' sake; what the buffers
        // take of them then is little beside a tape that is written in this way.
        let _ = nix::sys::prctl::set_thp_disable(false); // else the host refuses below
        let errno = |why: std::io::Error| why.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        let (len, end) = (file.metadata().map_err(errno)?.len(), (from + EXTENT_BYTES) as u64);
        if len < end {
            // What has no page at all is not made one.
            file.write_all_at(&[0], end - 1).map_err(errno)?;
        }
        // SAFETY: the extent lies in the window; what it holds stays as it is.
        let done =
            unsafe { libc::madvise(self.base.as_ptr().byte_add(from), EXTENT_BYTES, COLLAPSE) };
        let done = Errno::result(done).map(drop);
        if done.is_err() && len < end {
            file.set_len(len).map_err(errno)?;
        }
        done
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.watched = None; // soon somebody else's memory may be there
        let (start, bytes) = self.taken;
        // SAFETY: it was taken by this window, which alone knows of it.
        if let Err(why) = unsafe { munmap(start, bytes) } {
            log::warn!(target: "medium", "tape: a window is left open: {}", why.desc());
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
