//! Raw and direct transfers: between the caller and the medium, past the cache (V7's physio).
//!
//! Offset and length are multiples of the unit's sector, or EINVAL. The memory of a read moves
//! down with the request and back. Two flavours share this path:
//!
//! 1. The *raw node* shows the medium: a read never sees a dirty buffer; a write drops clean cached
//!    copies of its range, while a dirty buffer stays and later overwrites its dirty sectors.
//! 2. *Direct I/O* (`O_DIRECT` on a block node) is coherent: dirty buffers of the range are
//!    written first, and a write drops the cached copies of the range.

use crate::disk::{Disk, Window};
use crate::error::{Errno, Error};
use crate::file::{Answer, Call, FileOps, IoctlAnswer, IoctlCall, Nature, Seek, SyncKind};
use crate::ioctl;
use crate::slot::Slot;
use crate::sync::Arc;
use devices::{Class, Failure, Interrupt, Origin, Request, SECTOR_SIZE, Sector};

/// An open raw node of a disk or partition.
pub struct RawFile {
    disk: Arc<Disk>,
    window: Window,
    part: u32,
}

/// Who asks, as the machine's queues see it: the host's kernel alone asks for pages.
#[must_use]
pub fn origin(call: &Call) -> Origin {
    let class = if call.caller.pid == 0 { Class::PageIn } else { Class::Caller };
    Origin { pid: call.caller.pid, class, id: call.id }
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

/// Writes `data` to the medium; `after` runs, once it is there, before the answer.
///
/// # Errors
/// The device's.
pub fn write(
    disk: &Arc<Disk>,
    from: Origin,
    at: u64,
    data: Vec<u8>,
    after: impl FnOnce(&Disk) + Send + 'static,
) -> Result<Answer<usize>, Error> {
    let len = data.len();
    let make = |done| Request::write(sector_at(at), data, from, done);
    submit(disk, make, move |disk| {
        after(disk);
        len
    })
}

/// Submits a request that brings no data; `after` makes the answer once it is finished.
///
/// # Errors
/// The device's.
pub fn submit<T: Send + 'static>(
    disk: &Arc<Disk>,
    make: impl FnOnce(devices::Done) -> Request,
    after: impl FnOnce(&Disk) -> T + Send + 'static,
) -> Result<Answer<T>, Error> {
    let told = |name: &str, failure: Failure| Error::device(name, failure);
    let slot = Slot::submit(&disk.engine, &*disk.unit, make)
        .map_err(|(failure, _)| told(&disk.name, failure))?;
    if let Some((_, fate)) = slot.take() {
        fate.map_err(|failure| told(&disk.name, failure))?;
        return Ok(Answer::Now(after(disk)));
    }
    let disk = Arc::clone(disk);
    Ok(Answer::Later(Box::new(move |interrupt| {
        let (_, fate) = slot.wait(&disk.engine, interrupt)?;
        fate.map_err(|failure| told(&disk.name, failure))?;
        Ok(after(&disk))
    })))
}

/// Runs the rest of a call here and now: for a call that is already on a thread that may wait.
///
/// # Errors
/// The call's own.
pub fn finish<T>(answer: Answer<T>, interrupt: &Interrupt) -> Result<T, Error> {
    match answer {
        Answer::Now(value) => Ok(value),
        Answer::Later(rest) => rest(interrupt),
    }
}

impl RawFile {
    /// An open raw node; `part` is 0 for the whole disk.
    #[must_use]
    pub fn new(disk: Arc<Disk>, window: Window, part: u32) -> RawFile {
        RawFile { disk, window, part }
    }
}

impl FileOps for RawFile {
    fn kind(&self) -> &'static str {
        "raw"
    }

    fn nature(&self) -> Nature {
        Nature { is_direct: true, has_parallel_writes: true, ..Nature::default() }
    }

    fn read(
        &self,
        call: &Call,
        at: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Answer<usize, Vec<u8>>, Error> {
        aligned(&self.disk, at, buf.len())?;
        let len = self.window.clip(at, buf.len());
        if len == 0 {
            return Ok(Answer::Now(0));
        }
        let whole = buf.len();
        buf.truncate(len);
        self.disk.note(origin(call), "call step=1", || format!("raw read {len} at {at}"));
        let answer = read(&self.disk, origin(call), self.window.start + at, buf);
        if !matches!(answer, Ok(Answer::Later(_))) {
            buf.resize(whole, 0);
        }
        answer
    }

    fn write(&self, call: &Call, at: u64, data: &[u8]) -> Result<Answer<usize>, Error> {
        aligned(&self.disk, at, data.len())?;
        let len = self.window.clip_write(&self.disk.name, at, data.len())?;
        let start = self.window.start + at;
        self.disk.note_write(self.part, start, len as u64);
        write(&self.disk, origin(call), start, data[..len].to_vec(), move |disk| {
            disk.cached.invalidate(start..start + len as u64);
        })
    }

    fn sync(&self, call: &Call, _kind: SyncKind) -> Result<Answer<()>, Error> {
        submit(&self.disk, |done| Request::flush(origin(call), done), |_| ())
    }

    fn flush(&self, _call: &Call) -> Result<Answer<()>, Error> {
        self.disk.reread_if_touched()
    }

    fn release(&self) {
        self.disk.closed(self.part);
    }

    fn ioctl(&self, call: &Call, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
        ioctl::disk(&self.disk, self.window, call, ioctl)
    }

    fn allocate(&self, call: &Call, mode: i32, at: u64, len: u64) -> Result<Answer<()>, Error> {
        self.disk.allocate(self.window, origin(call), mode, at, len)
    }

    fn seek(&self, at: u64, which: Seek) -> Result<Answer<u64>, Error> {
        self.disk.seek(self.window, at, which).map(Answer::Now)
    }
}
