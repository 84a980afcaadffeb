//! Raw and direct transfers: between the caller and the medium, past the cache (V7's physio).
//!
//! Offset and length are multiples of the unit's sector, or EINVAL. The memory of a read moves
//! down with the request and back. Two flavours share this path:
//!
//! 1. The *raw node* shows the medium: a read never sees a dirty buffer; a write drops clean cached
//!    copies of its range, while a dirty buffer stays and later overwrites its dirty sectors.
//! 2. *Direct I/O* (`O_DIRECT` on a block node) is coherent: dirty buffers of the range are
//!    written first, and a write drops the cached copies of the range.

use crate::disk::{Disk, Opening};
use crate::error::flags::O_DSYNC;
use crate::error::{Errno, Error};
use crate::file::{Answer, Call, FileOps, IoctlAnswer, IoctlCall, Nature, Seek, SyncKind};
use crate::ioctl;
use crate::slot::Slot;
use crate::sync::Arc;
use devices::{Done, Origin, Request, SECTOR_SIZE, Sector};
use std::fs::File;

/// An open raw node of a disk or partition.
pub struct RawFile {
    open: Opening,
    passed: Option<Passed>,
}

/// What stands in for a raw node with `passthrough`.
struct Passed {
    image: Arc<File>,
    is_writing: bool,
}

/// Checks a raw transfer's offset and length against the unit's sector.
///
/// # Errors
/// `EINVAL`, naming the sector.
pub fn aligned(disk: &Disk, at: u64, len: usize) -> Result<(), Error> {
    let sector = u64::from(disk.geometry()?.sector_bytes);
    if at.is_multiple_of(sector) && (len as u64).is_multiple_of(sector) {
        return Ok(());
    }
    let words = format!("{}: {len} bytes at {at} are off the {sector}-byte sector", disk.name);
    Err(Error::new(Errno::EINVAL, words))
}

fn sector_at(byte: u64) -> Sector {
    Sector(byte / SECTOR_SIZE as u64)
}

/// Reads from the medium into `buf`; `at` counts from the start of the unit.
///
/// # Errors
/// The device's.
pub fn read(
    disk: &Arc<Disk>,
    from: Origin,
    at: u64,
    buf: &mut Vec<u8>,
) -> Result<Answer<usize, Vec<u8>>, Error> {
    let memory = std::mem::take(buf);
    let make = |done| Request::read(sector_at(at), memory, from, done);
    let slot = Slot::submit(&disk.engine, &*disk.unit, make).map_err(|(failure, memory)| {
        *buf = memory;
        Error::device(&disk.name, failure)
    })?;
    if let Some((memory, fate)) = slot.take() {
        *buf = memory;
        fate.map_err(|failure| Error::device(&disk.name, failure))?;
        return Ok(Answer::Now(buf.len()));
    }
    let disk = Arc::clone(disk);
    Ok(Answer::Later(Box::new(move |interrupt| {
        let (memory, fate) = slot.wait(&disk.engine, interrupt)?;
        fate.map_err(|failure| Error::device(&disk.name, failure))?;
        Ok(memory)
    })))
}

/// Writes `data` to the medium; `is_durable`: it is also flushed before the answer. Clean cached
/// copies of the range go when the write ends, whether or not it went well and somebody still waits
/// for it: a write that failed may have changed some of its sectors.
///
/// # Errors
/// The device's.
pub fn write(
    disk: &Arc<Disk>,
    from: Origin,
    at: u64,
    data: Vec<u8>,
    is_durable: bool,
) -> Result<Answer<usize>, Error> {
    let len = data.len();
    let make = |done: Done| {
        let (cached, range) = (Arc::clone(&disk.cached), at..at + len as u64);
        let done = Box::new(move |memory, fate| {
            cached.invalidate(range);
            done(memory, fate);
        });
        Request::write(sector_at(at), data, from, done)
    };
    let slot = Slot::submit(&disk.engine, &*disk.unit, make)
        .map_err(|(failure, _)| Error::device(&disk.name, failure))?;
    if let Some((_, fate)) = slot.take() {
        fate.map_err(|failure| Error::device(&disk.name, failure))?;
        if !is_durable {
            return Ok(Answer::Now(len));
        }
        let cached = Arc::clone(&disk.cached);
        return Ok(Answer::Later(Box::new(move |interrupt| cached.flush(interrupt).map(|()| len))));
    }
    let disk = Arc::clone(disk);
    Ok(Answer::Later(Box::new(move |interrupt| {
        let (_, fate) = slot.wait(&disk.engine, interrupt)?;
        fate.map_err(|failure| Error::device(&disk.name, failure))?;
        if is_durable { disk.cached.flush(interrupt).map(|()| len) } else { Ok(len) }
    })))
}

/// Whether a write through this call is to be durable on return.
#[must_use]
pub fn is_durable(disk: &Disk, call: &Call) -> bool {
    call.flags & O_DSYNC != 0 || disk.cached.is_synchronous()
}

impl RawFile {
    /// An open raw node.
    ///
    /// # Errors
    /// With `passthrough`: `EBUSY` for writing while a block node is open; for the image, the
    /// host's.
    pub fn new(open: Opening, is_writing: bool) -> Result<RawFile, Error> {
        let mut passed = None;
        if let Some(passage) = open.disk.passage.as_ref().filter(|_| open.part == 0) {
            let image = Arc::new(passage.open()?);
            if is_writing {
                passage.enter_writer(&open.disk.name)?;
            }
            passed = Some(Passed { image, is_writing });
        }
        Ok(RawFile { open, passed })
    }
}

impl FileOps for RawFile {
    fn kind(&self) -> &'static str {
        "raw"
    }

    fn backing(&self) -> Option<&File> {
        self.passed.as_ref().map(|passed| &*passed.image)
    }

    fn nature(&self) -> Nature {
        if self.passed.is_some() {
            return Nature::default(); // the host's own file says how
        }
        Nature { is_direct: true, has_parallel_writes: true, ..Nature::default() }
    }

    fn read(
        &self,
        call: &Call,
        at: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Answer<usize, Vec<u8>>, Error> {
        let Opening { disk, window, .. } = &self.open;
        aligned(disk, at, buf.len())?;
        let len = window.clip(at, buf.len());
        if len == 0 {
            return Ok(Answer::Now(0));
        }
        let whole = buf.len();
        buf.truncate(len);
        disk.note(call.origin(), "call step=1", || format!("raw read {len} at {at}"));
        let answer = read(disk, call.origin(), window.start + at, buf);
        if !matches!(answer, Ok(Answer::Later(_))) {
            buf.resize(whole, 0);
        }
        answer
    }

    fn write(&self, call: &Call, at: u64, data: &[u8]) -> Result<Answer<usize>, Error> {
        let Opening { disk, window, .. } = &self.open;
        disk.check_unprotected()?;
        aligned(disk, at, data.len())?;
        let len = window.clip_write(&disk.name, at, data.len())?;
        let start = window.start + at;
        self.open.note_write(start, len as u64);
        disk.note(call.origin(), "call step=1", || format!("raw write {len} at {at}"));
        let is_durable = is_durable(disk, call);
        let written = write(disk, call.origin(), start, data[..len].to_vec(), is_durable);
        disk.and_forget(start..start + len as u64, None, written)
    }

    fn sync(&self, _call: &Call, _kind: SyncKind) -> Result<Answer<()>, Error> {
        let disk = &self.open.disk;
        if let Some(passed) = &self.passed {
            let (image, name) = (Arc::clone(&passed.image), disk.name.clone());
            return Ok(Answer::Later(Box::new(move |_| {
                image.sync_data().map_err(|refusal| {
                    let errno = refusal.raw_os_error().map_or(Errno::EIO, Errno);
                    Error::new(errno, format!("{name}: fdatasync of its image: {refusal}"))
                })
            })));
        }
        let cached = Arc::clone(&disk.cached);
        Ok(Answer::Later(Box::new(move |interrupt| cached.flush(interrupt))))
    }

    fn flush(&self, _call: &Call) -> Result<Answer<()>, Error> {
        let Opening { disk, window, .. } = &self.open;
        if self.passed.as_ref().is_some_and(|passed| passed.is_writing) {
            // What was written nobody saw: perhaps the partition table.
            disk.cached.invalidate(window.start..window.start + window.len);
            self.open.note_write(window.start, window.len);
        }
        self.open.reread_if_touched()
    }

    fn release(&self) {
        let Opening { disk, window, .. } = &self.open;
        if let (Some(passage), Some(Passed { is_writing: true, .. })) =
            (&disk.passage, &self.passed)
        {
            let all = window.start..window.start + window.len;
            passage.leave_writer(|| disk.cached.invalidate(all));
        }
        self.open.close();
    }

    fn ioctl(&self, call: &Call, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
        ioctl::disk(&self.open, call, ioctl)
    }

    fn allocate(&self, call: &Call, mode: i32, at: u64, len: u64) -> Result<Answer<()>, Error> {
        self.open.allocate(call.origin(), mode, at, len)
    }

    fn seek(&self, at: u64, which: Seek) -> Result<Answer<u64>, Error> {
        self.open.disk.seek(self.open.window, at, which).map(Answer::Now)
    }
}
