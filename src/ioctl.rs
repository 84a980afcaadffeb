//! Device commands: their words, their sizes, and the ones that every disk obeys.
//!
//! A command whose number encodes its size arrives with its bytes. One that does not (`_IO`, and
//! the older numbers) arrives bare; of those, the ones that need no bytes are obeyed too.

use crate::disk::{Disk, Window};
use crate::error::{Errno, Error};
use crate::file::{Answer, Call, IoctlAnswer};
use crate::raw;
use crate::sync::Arc;

/// `BLKFLSBUF`: writes what is dirty and drops what is clean (linux/fs.h).
pub const BLKFLSBUF: u32 = 0x1261;
/// `BLKRRPART`: reads the partition table again.
pub const BLKRRPART: u32 = 0x125f;
/// `BLKGETSIZE64`: the size in bytes.
pub const BLKGETSIZE64: u32 = 0x8008_1272;
/// `BLKBSZGET`: the block size of the cache, in bytes.
pub const BLKBSZGET: u32 = 0x8008_1270;

/// A command on a disk, its partition or its raw twin.
///
/// # Errors
/// `ENOTTY` unless the command is known here or by the driver; the device's own.
pub fn disk(
    disk: &Arc<Disk>,
    window: Window,
    call: &Call,
    cmd: u32,
    input: &[u8],
    out_bytes: usize,
) -> Result<Answer<IoctlAnswer>, Error> {
    match cmd {
        BLKGETSIZE64 => Ok(Answer::Now((0, window.len.to_ne_bytes().to_vec()))),
        BLKBSZGET => {
            let bytes = crate::cache::BLOCK_BYTES as u64;
            Ok(Answer::Now((0, bytes.to_ne_bytes().to_vec())))
        }
        BLKFLSBUF => {
            let disk = Arc::clone(disk);
            let range = window.start..window.start + window.len;
            Ok(Answer::Later(Box::new(move |interrupt| {
                disk.cached.sync(Some(range.clone()), interrupt)?;
                disk.cached.drop_clean_range(range);
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
        _ => drivers_own(disk, call, cmd, input, out_bytes),
    }
}

fn drivers_own(
    disk: &Arc<Disk>,
    call: &Call,
    cmd: u32,
    input: &[u8],
    out_bytes: usize,
) -> Result<Answer<IoctlAnswer>, Error> {
    log::debug!(target: "ioctl", "{} pid {}: {cmd:#x}", disk.name, raw::origin(call).pid);
    let mut output = vec![0; out_bytes];
    let mut command = devices::Ioctl { cmd, input, output: &mut output };
    disk.unit.ioctl(&mut command).map_err(|error| Error::plain(Errno::from(error)))?;
    Ok(Answer::Now((0, output)))
}
