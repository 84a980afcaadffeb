//! Device commands: their words, their sizes, and the ones that every disk obeys.
//!
//! A command whose number encodes its size arrives with its bytes. One that does not (`_IO`, and
//! the older numbers) arrives bare; its structure is fetched from the caller's memory.

use crate::disk::{Clearing, Disk, Opening, Window};
use crate::error::{Errno, Error};
use crate::file::{Answer, Call, IoctlAnswer, IoctlCall};
use crate::own;
use crate::scsi;
use crate::sync::Arc;
use devices::SECTOR_SIZE;
use std::os::unix::fs::MetadataExt;

// linux/fs.h, linux/hdreg.h. Those without a size in their number pass a pointer to what is said,
// or (RASET, FRASET) the number itself.
macro_rules! commands {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "`: ", $doc)]
            pub const $name: u32 = $number;
        )*
    };
}

commands! {
    BLKROSET = 0x125d, "protects the disk (not 0) or not (0), by an `int`.";
    BLKROGET = 0x125e, "whether writes are refused, as an `int`.";
    BLKRRPART = 0x125f, "reads the partition table again.";
    BLKGETSIZE = 0x1260, "the size in sectors of 512 bytes, as an `unsigned long`.";
    BLKFLSBUF = 0x1261, "writes what is dirty and drops what is clean.";
    BLKRASET = 0x1262, "sets how far is read ahead, in sectors of 512 bytes.";
    BLKRAGET = 0x1263, "how far is read ahead, as a `long`.";
    BLKFRASET = 0x1264, "the same as `BLKRASET`.";
    BLKFRAGET = 0x1265, "the same as `BLKRAGET`.";
    BLKSECTGET = 0x1267, "sectors in the longest transfer, as an `unsigned short`.";
    BLKSSZGET = 0x1268, "bytes in a sector of the unit, as an `int`.";
    BLKDISCARD = 0x1277, "gives a range back: first byte and length, of 64 bits each.";
    BLKIOMIN = 0x1278, "bytes in the shortest transfer that is not slowed, as an `unsigned int`.";
    BLKIOOPT = 0x1279, "bytes in the best transfer, 0 where none is: as an `unsigned int`.";
    BLKALIGNOFF = 0x127a, "bytes to the first aligned sector, as an `int`.";
    BLKPBSZGET = 0x127b, "bytes in a physical sector, as an `unsigned int`.";
    BLKDISCARDZEROES = 0x127c, "whether what was discarded reads as zeros, as an `unsigned int`.";
    BLKROTATIONAL = 0x127e, "whether the medium turns, as an `unsigned short`.";
    BLKZEROOUT = 0x127f, "zeroes a range, as for `BLKDISCARD`.";
    HDIO_GETGEO = 0x0301, "heads, sectors, cylinders and start: a `struct hd_geometry`.";
    BLKBSZGET = 0x8008_1270, "the block size of the cache, in bytes.";
    BLKBSZSET = 0x4008_1271, "the same, which cannot be another.";
    BLKGETSIZE64 = 0x8008_1272, "the size in bytes.";
}

/// The same of a caller whose words are of 32 bits.
const BLKBSZGET_32: u32 = 0x8004_1270;
const BLKGETSIZE64_32: u32 = 0x8004_1272;

/// Which of the caller's open(2) modes a command asks for.
fn for_writing(call: &Call) -> Result<(), Error> {
    use crate::error::flags::{O_ACCMODE, O_RDONLY};
    let is_reading = call.flags & O_ACCMODE == O_RDONLY;
    if is_reading { Err(Error::plain(Errno::EBADF)) } else { Ok(()) }
}

/// The commands that every disk obeys: number and name, as in `proc/ioctls`.
pub const DISK_COMMANDS: &[(u32, &str)] = &[
    (BLKROSET, "BLKROSET"),
    (BLKROGET, "BLKROGET"),
    (BLKRRPART, "BLKRRPART"),
    (BLKGETSIZE, "BLKGETSIZE"),
    (BLKFLSBUF, "BLKFLSBUF"),
    (BLKRASET, "BLKRASET"),
    (BLKRAGET, "BLKRAGET"),
    (BLKFRASET, "BLKFRASET"),
    (BLKFRAGET, "BLKFRAGET"),
    (BLKSECTGET, "BLKSECTGET"),
    (BLKSSZGET, "BLKSSZGET"),
    (BLKDISCARD, "BLKDISCARD"),
    (BLKIOMIN, "BLKIOMIN"),
    (BLKIOOPT, "BLKIOOPT"),
    (BLKALIGNOFF, "BLKALIGNOFF"),
    (BLKPBSZGET, "BLKPBSZGET"),
    (BLKDISCARDZEROES, "BLKDISCARDZEROES"),
    (BLKROTATIONAL, "BLKROTATIONAL"),
    (BLKZEROOUT, "BLKZEROOUT"),
    (HDIO_GETGEO, "HDIO_GETGEO"),
    (BLKBSZGET, "BLKBSZGET"),
    (BLKBSZSET, "BLKBSZSET"),
    (BLKGETSIZE64, "BLKGETSIZE64"),
];

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
    let last = || own::Last { failure: disk.unit.sense(), refused: disk.told() };
    if let Some(answer) = own::obey(call, ioctl, (&disk.name, &open.claim), &disk.engine, last) {
        return answer;
    }
    match ioctl.cmd {
        BLKGETSIZE64 => Ok(Answer::Now((0, window.len.to_ne_bytes().to_vec()))),
        // The number says 4 bytes; 8 are meant.
        BLKGETSIZE64_32 => put(ioctl, &window.len.to_ne_bytes()),
        // An int: its number says size_t by an old mistake (block/ioctl.c), its callers do not.
        BLKBSZGET | BLKBSZGET_32 => Ok(Answer::Now((0, BLOCK_BYTES_INT.to_ne_bytes().to_vec()))),
        BLKBSZSET => set_block(ioctl),
        BLKROSET => protect(disk, call, ioctl),
        cmd if scsi::is_ours(cmd) => scsi::obey(open, call, ioctl),
        BLKRASET | BLKFRASET => set_read_ahead(disk, ioctl),
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
        _ => inquiry(disk, *window, ioctl).unwrap_or_else(|| drivers_own(disk, ioctl)),
    }
}

const DONE: IoctlAnswer = (0, Vec::new());

/// Puts `data` where the third argument points.
fn put(ioctl: &IoctlCall<'_>, data: &[u8]) -> Result<Answer<IoctlAnswer>, Error> {
    ioctl.memory.write(ioctl.memory.argument()?, data)?;
    Ok(Answer::Now(DONE))
}

/// Puts a number of the caller's `long` there.
fn put_long(ioctl: &IoctlCall<'_>, number: u64) -> Result<Answer<IoctlAnswer>, Error> {
    if !ioctl.is_32_bit {
        return put(ioctl, &number.to_ne_bytes());
    }
    let short = u32::try_from(number).map_err(|_| Error::plain(Errno::EFBIG))?;
    put(ioctl, &short.to_ne_bytes())
}

fn put_int(ioctl: &IoctlCall<'_>, number: u32) -> Result<Answer<IoctlAnswer>, Error> {
    put(ioctl, &number.to_ne_bytes())
}

fn put_short(ioctl: &IoctlCall<'_>, number: u32) -> Result<Answer<IoctlAnswer>, Error> {
    put(ioctl, &u16::try_from(number).unwrap_or(u16::MAX).to_ne_bytes())
}

/// What is told of a disk through its caller's memory; `None`: not a command of these.
fn inquiry(
    disk: &Disk,
    window: Window,
    ioctl: &IoctlCall<'_>,
) -> Option<Result<Answer<IoctlAnswer>, Error>> {
    let geometry = match disk.geometry() {
        Ok(geometry) => geometry,
        Err(error) => return Some(Err(error)),
    };
    let sector = geometry.sector_bytes;
    Some(match ioctl.cmd {
        BLKSSZGET | BLKPBSZGET | BLKIOMIN => put_int(ioctl, sector),
        BLKIOOPT | BLKALIGNOFF => put_int(ioctl, 0),
        BLKDISCARDZEROES => put_int(ioctl, 1),
        BLKROGET => match disk.is_read_only() {
            Ok(is_read_only) => put_int(ioctl, u32::from(is_read_only)),
            Err(error) => Err(error),
        },
        BLKROTATIONAL => put_short(ioctl, u32::from(is_rotational(disk))),
        BLKSECTGET => put_short(ioctl, geometry.transfer_max),
        BLKGETSIZE => put_long(ioctl, window.len / SECTOR_SIZE as u64),
        BLKRAGET | BLKFRAGET => put_long(ioctl, disk.cached.read_ahead_max() / SECTOR_SIZE as u64),
        HDIO_GETGEO => put_geometry(window, geometry.bytes(), ioctl),
        _ => return None,
    })
}

/// Whether the unit has a timing model with turns in it.
fn is_rotational(disk: &Disk) -> bool {
    let properties = disk.unit.properties();
    let timing = properties.iter().find(|(name, _)| *name == "timing");
    timing.is_some_and(|(_, model)| !["none", "ssd"].contains(&model.as_str()))
}

/// A `struct hd_geometry`: 16 heads of 63 sectors, or what a floppy has (Linux's sd and floppy).
fn put_geometry(
    window: Window,
    bytes: u64,
    ioctl: &IoctlCall<'_>,
) -> Result<Answer<IoctlAnswer>, Error> {
    const FLOPPY_BYTES: u64 = 1440 << 10;
    let (heads, sectors) = if bytes <= FLOPPY_BYTES { (2_u8, 18_u8) } else { (16, 63) };
    let sector = SECTOR_SIZE as u64;
    let cylinders = bytes / sector / (u64::from(heads) * u64::from(sectors));
    let start = window.start / sector;
    let mut data = vec![heads, sectors];
    data.extend(u16::try_from(cylinders).unwrap_or(u16::MAX).to_ne_bytes());
    if ioctl.is_32_bit {
        data.extend(u32::try_from(start).unwrap_or(u32::MAX).to_ne_bytes());
    } else {
        data.extend([0; 4]);
        data.extend(start.to_ne_bytes());
    }
    put(ioctl, &data)
}

/// `BLKROSET`: only who may write may protect. Root and who has mounted the machine may without:
/// what is protected cannot be opened for writing, and has to be got back.
fn protect(disk: &Disk, call: &Call, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
    let uid = call.caller.uid;
    if uid != 0 && !std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == uid) {
        for_writing(call)?;
    }
    let mut flag = [0; 4];
    ioctl.memory.read(ioctl.memory.argument()?, &mut flag)?;
    disk.protect(flag != [0; 4]);
    Ok(Answer::Now(DONE))
}

/// `BLKBSZSET`: the block of the cache is what it is.
fn set_block(ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
    let low = ioctl.input.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let is_ours = low.is_some_and(|bytes| bytes as usize == crate::cache::BLOCK_BYTES);
    if is_ours { Ok(Answer::Now(DONE)) } else { Err(Error::plain(Errno::EINVAL)) }
}

fn set_read_ahead(disk: &Disk, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
    let bytes = ioctl.memory.argument()?.checked_mul(SECTOR_SIZE as u64);
    disk.cached.set_read_ahead_max(bytes.ok_or_else(|| Error::plain(Errno::EINVAL))?);
    Ok(Answer::Now(DONE))
}

fn clear(
    open: &Opening,
    call: &Call,
    ioctl: &IoctlCall<'_>,
    how: Clearing,
) -> Result<Answer<IoctlAnswer>, Error> {
    for_writing(call)?;
    let mut range = [[0; 8]; 2];
    ioctl.memory.read(ioctl.memory.argument()?, range.as_flattened_mut())?;
    let [at, len] = range.map(u64::from_ne_bytes);
    open.note_write(open.window.start.saturating_add(at), len);
    let answer = open.disk.clear(open.window, call.origin(), how, at, len)?;
    answer.map(|done| done.map(|()| (0, Vec::new())))
}

fn drivers_own(disk: &Arc<Disk>, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
    let mut output = vec![0; ioctl.out_bytes];
    let (cmd, input) = (ioctl.cmd, ioctl.input);
    let mut command = devices::Ioctl { cmd, input, output: &mut output };
    disk.unit.ioctl(&mut command).map_err(|error| Error::plain(Errno::from(error)))?;
    Ok(Answer::Now((0, output)))
}
