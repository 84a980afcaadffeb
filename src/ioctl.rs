//! Device commands: their words, their sizes, and the ones that every disk obeys.
//!
//! A command whose number encodes its size arrives with its bytes. One that does not (`_IO`, and
//! the older numbers) arrives bare; its structure is fetched from the caller's memory.

use crate::disk::{Clearing, Disk, Opening};
use crate::error::{Errno, Error};
use crate::file::{Answer, Call, IoctlAnswer, IoctlCall};
use crate::raw;
use crate::sync::Arc;

// linux/fs.h
/// `BLKROGET`: whether it is read-only, as an `int`.
pub const BLKROGET: u32 = 0x125e;
/// `BLKGETSIZE`: the size in units of 512 bytes, as an `unsigned long`.
pub const BLKGETSIZE: u32 = 0x1260;
/// `BLKIOMIN`: the smallest transfer worth while, in bytes, as an `unsigned int`.
pub const BLKIOMIN: u32 = 0x1278;
/// `BLKRRPART`: reads the partition table again.
pub const BLKRRPART: u32 = 0x125f;
/// `BLKFLSBUF`: writes what is dirty and drops what is clean.
pub const BLKFLSBUF: u32 = 0x1261;
/// `BLKSSZGET`: bytes in a sector of the unit, as an `int`.
pub const BLKSSZGET: u32 = 0x1268;
/// `BLKDISCARD`: gives a range back; the range is two 64-bit numbers, first byte and length.
pub const BLKDISCARD: u32 = 0x1277;
/// `BLKPBSZGET`: bytes in a physical sector, as an `unsigned int`.
pub const BLKPBSZGET: u32 = 0x127b;
/// `BLKZEROOUT`: zeroes a range; the range is as for `BLKDISCARD`.
pub const BLKZEROOUT: u32 = 0x127f;
/// `BLKBSZGET`: the block size of the cache, in bytes.
pub const BLKBSZGET: u32 = 0x8008_1270;
/// `BLKGETSIZE64`: the size in bytes.
pub const BLKGETSIZE64: u32 = 0x8008_1272;

/// What `BLKBSZGET` tells.
const BLOCK_BYTES_INT: u32 = 4096;
const _: () = assert!(BLOCK_BYTES_INT as usize == crate::cache::BLOCK_BYTES);

/// A command on a disk, its partition or its raw twin.
///
/// # Errors
/// `ENOTTY` unless the command is known here or by the driver; `EBADF` for a clearing command on
/// a file not open for writing; the device's own.
pub fn disk(
    open: &Opening,
    call: &Call,
    ioctl: &IoctlCall<'_>,
) -> Result<Answer<IoctlAnswer>, Error> {
    let Opening { disk, window, .. } = open;
    match ioctl.cmd {
        BLKGETSIZE64 => Ok(Answer::Now((0, window.len.to_ne_bytes().to_vec()))),
        // An int: its number says size_t by an old mistake (block/ioctl.c), its callers do not.
        BLKBSZGET => Ok(Answer::Now((0, BLOCK_BYTES_INT.to_ne_bytes().to_vec()))),
        BLKSSZGET | BLKPBSZGET | BLKIOMIN => {
            told(ioctl, &disk.geometry()?.sector_bytes.to_ne_bytes())
        }
        BLKROGET => told(ioctl, &u32::from(disk.geometry()?.read_only).to_ne_bytes()),
        BLKGETSIZE => {
            let sectors = (window.len / 512).to_ne_bytes();
            let long = if ioctl.is_32_bit { 4 } else { 8 };
            told(ioctl, &sectors[..long])
        }
        BLKDISCARD => clear(open, call, ioctl, Clearing::Discard),
        BLKZEROOUT => clear(open, call, ioctl, Clearing::Zero),
        BLKFLSBUF => {
            let disk = Arc::clone(disk);
            let range = window.start..window.start + window.len;
            Ok(Answer::Later(Box::new(move |interrupt| {
                disk.cached.sync(Some(range.clone()), interrupt)?;
                disk.cached.invalidate(range);
                Ok((0, Vec::new()))
            })))
        }
        BLKRRPART => {
            let disk = Arc::clone(disk);
            Ok(Answer::Later(Box::new(move |interrupt| {
                disk.rescan(interrupt)?;
                Ok((0, Vec::new()))
            })))
        }
        _ => drivers_own(disk, ioctl),
    }
}

/// Puts the answer where the caller's argument points.
fn told(ioctl: &IoctlCall<'_>, answer: &[u8]) -> Result<Answer<IoctlAnswer>, Error> {
    ioctl.memory.write(ioctl.memory.argument()?, answer)?;
    Ok(Answer::Now((0, Vec::new())))
}

fn clear(
    open: &Opening,
    call: &Call,
    ioctl: &IoctlCall<'_>,
    how: Clearing,
) -> Result<Answer<IoctlAnswer>, Error> {
    use crate::error::flags::{O_ACCMODE, O_RDONLY};
    if call.flags & O_ACCMODE == O_RDONLY {
        return Err(Error::plain(Errno::EBADF));
    }
    let mut range = [[0; 8]; 2];
    ioctl.memory.read(ioctl.memory.argument()?, range.as_flattened_mut())?;
    let [at, len] = range.map(u64::from_ne_bytes);
    open.note_write(open.window.start.saturating_add(at), len);
    Ok(match open.disk.clear(open.window, raw::origin(call), how, at, len)? {
        Answer::Now(()) => Answer::Now((0, Vec::new())),
        Answer::Later(rest) => Answer::Later(Box::new(move |interrupt| {
            rest(interrupt)?;
            Ok((0, Vec::new()))
        })),
    })
}

fn drivers_own(disk: &Arc<Disk>, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
    let mut output = vec![0; ioctl.out_bytes];
    let (cmd, input) = (ioctl.cmd, ioctl.input);
    let mut command = devices::Ioctl { cmd, input, output: &mut output };
    disk.unit.ioctl(&mut command).map_err(|error| Error::plain(Errno::from(error)))?;
    Ok(Answer::Now((0, output)))
}
