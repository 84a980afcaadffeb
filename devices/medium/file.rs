//! A medium that is a file on the host: a plain raw image, sparse, ours alone while it is open.
//!
//! 1. Nobody else of this or another daemon writes the image: it carries a lock (flock(2)) for as
//!    long as it is open, exclusive or, where it is only read, shared.
//! 2. An image is never resized, and one of another size than described is refused.
//! 3. What the host refuses comes up in the device's words: no room is `NoSpace`, an I/O error is
//!    `Media` with its sector, a failed fdatasync(2) `Hardware`: nobody knows what it lost.

use super::{Medium, Run, sector_of};
use crate::contract::{IoError, SECTOR_SIZE};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use nix::sys::uio::{preadv, pwritev};
use nix::unistd::{Whence, lseek};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs of memory that one system call takes (`IOV_MAX`).
const RUNS_MAX: usize = 1024;

/// Zeros are written in pieces of this size where the host cannot make them itself.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// How an image is opened.
#[derive(Clone, Copy, Debug)]
pub struct FileOptions {
    /// How long it must be, in bytes, and is made when missing; `None`: as long as it is.
    pub bytes: Option<u64>,
    /// Its length must be a multiple of this, in bytes.
    pub sector_bytes: u32,
    /// Open it for reading only.
    pub read_only: bool,
    /// Whether a flush asks the host to keep what was written (fdatasync).
    pub host_sync: bool,
}

impl Default for FileOptions {
    fn default() -> FileOptions {
        FileOptions {
            bytes: None,
            sector_bytes: 512, // SECTOR_SIZE
            read_only: false,
            host_sync: true,
        }
    }
}

/// Why an image cannot be opened, in words that name it and the way out.
#[derive(Debug)]
pub struct Refusal {
    /// The words.
    pub words: String,
    /// The image is well, but has another length than is described.
    pub is_of_size: bool,
}

impl From<String> for Refusal {
    fn from(words: String) -> Refusal {
        Refusal { words, is_of_size: false }
    }
}

/// See the head of this file.
pub struct FileMedium {
    file: Flock<File>,
    bytes: u64,
    options: FileOptions,
    /// Written since the last flush that succeeded.
    is_dirty: AtomicBool,
}

impl FileMedium {
    /// Opens the image at `path`, making it sparse when it is missing and a length is given.
    ///
    /// # Errors
    /// In words that name the image, what is wrong, and the way out.
    pub fn open(path: &Path, options: FileOptions) -> Result<FileMedium, Refusal> {
        let name = path.display();
        let file = open(path, options).map_err(|why| format!("image {name}: {why}"))?;
        let file =
            lock(path, file, options.read_only).map_err(|why| format!("image {name}: {why}"))?;
        let found = seek(&file, 0, Whence::SeekEnd)
            .map_err(|why| format!("image {name}: its size cannot be told: {}", why.desc()))?;
        let bytes = match options.bytes {
            Some(bytes) if found == 0 && bytes > 0 && !options.read_only => {
                file.set_len(bytes).map_err(|why| format!("image {name}: {}", words(&why)))?;
                bytes
            }
            Some(bytes) if bytes != found => {
                let words = format!(
                    "image {name}: has {found} bytes, but size = {bytes} is described: \
                     set size = {found}, or name another image"
                );
                return Err(Refusal { words, is_of_size: true });
            }
            _ => found,
        };
        let sector = u64::from(options.sector_bytes);
        if bytes == 0 || !bytes.is_multiple_of(sector) {
            let words = format!("image {name}: its size, {bytes}, is no multiple of {sector}");
            return Err(words.into());
        }
        Ok(FileMedium { file, bytes, options, is_dirty: AtomicBool::new(false) })
    }

    fn failed(&self, why: Errno, at: u64) -> IoError {
        log::warn!(target: "medium", "host, byte {at}: {}", why.desc());
        told(why, at)
    }

    fn write_zeros(&self, at: u64, len: u64) -> Result<(), IoError> {
        let (mut at, end) = (at, at + len);
        while at < end {
            let part = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write_at(at, &ZEROS[..part])?;
            at += part as u64;
        }
        Ok(())
    }

    fn allocate(&self, mode: FallocateFlags, at: u64, len: u64) -> Result<(), IoError> {
        let fits = at.checked_add(len).is_some_and(|end| end <= self.bytes);
        if !fits {
            return Err(IoError::Range);
        }
        if self.options.read_only {
            return Err(IoError::WriteProtected);
        }
        if len == 0 {
            return Ok(());
        }
        self.is_dirty.store(true, Ordering::Release);
        let mode = mode | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        loop {
            match fallocate(&*self.file, mode, offset(at)?, offset(len)?) {
                Ok(()) => return Ok(()),
                Err(Errno::EINTR) => {}
                // A host file system that cannot do it: zeros are the same to whoever reads.
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return self.write_zeros(at, len),
                Err(why) => return Err(self.failed(why, at)),
            }
        }
    }

    /// Whether `len` bytes at `at` lie in the image.
    fn check(&self, at: u64, len: u64) -> Result<(), IoError> {
        let fits = at.checked_add(len).is_some_and(|end| end <= self.bytes);
        if fits { Ok(()) } else { Err(IoError::Range) }
    }
}

/// The device's words for the host's, at byte `at`.
pub(super) fn told(why: Errno, at: u64) -> IoError {
    match why {
        Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG => IoError::NoSpace,
        Errno::EROFS | Errno::EPERM | Errno::EACCES | Errno::EBADF => IoError::WriteProtected,
        Errno::EIO | Errno::EILSEQ | Errno::ENODATA => IoError::Media(sector_of(at)),
        _ => IoError::Hardware,
    }
}

pub(super) fn errno(why: &std::io::Error) -> Errno {
    match why.kind() {
        // The file is shorter than it was: what is gone cannot be read.
        ErrorKind::UnexpectedEof => Errno::EIO,
        _ => why.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
    }
}

/// The host's own words for an error, without its number.
fn words(why: &std::io::Error) -> String {
    why.raw_os_error().map_or_else(|| why.to_string(), |raw| Errno::from_raw(raw).desc().into())
}

pub(super) fn offset(bytes: u64) -> Result<i64, IoError> {
    i64::try_from(bytes).map_err(|_| IoError::Range)
}

fn seek(file: &File, at: u64, whence: Whence) -> Result<u64, Errno> {
    let at = i64::try_from(at).map_err(|_| Errno::ENXIO)?;
    u64::try_from(lseek(file, at, whence)?).map_err(|_| Errno::EOVERFLOW)
}

fn open(path: &Path, options: FileOptions) -> Result<File, String> {
    match std::fs::metadata(path) {
        // Others would hang at open, or are no place for sectors.
        Ok(meta) if !meta.is_file() && !meta.file_type().is_block_device() => {
            return Err("is neither a file nor a block device".into());
        }
        Ok(_) => {}
        Err(why) if why.kind() != ErrorKind::NotFound => return Err(words(&why)),
        Err(_) if options.read_only => return Err("is missing".into()),
        Err(_) if options.bytes.is_none() => {
            return Err("is missing, and no size is given to make it with".into());
        }
        Err(_) => {}
    }
    let mut how = OpenOptions::new();
    how.read(true).write(!options.read_only).create(!options.read_only).truncate(false);
    how.open(path).map_err(|why| match why.kind() {
        ErrorKind::PermissionDenied if !options.read_only => {
            format!("{} (read_only = true would do with reading)", words(&why))
        }
        _ => words(&why),
    })
}

/// Locks the file opened at `path`; those who only read may share it.
///
/// # Errors
/// In words: somebody else has it, or took it away before it was ours.
pub(super) fn lock(path: &Path, file: File, read_only: bool) -> Result<Flock<File>, String> {
    let how = match read_only {
        true => FlockArg::LockSharedNonblock,
        false => FlockArg::LockExclusiveNonblock,
    };
    let file = Flock::lock(file, how).map_err(|(_, why)| match why {
        Errno::EWOULDBLOCK => "is in use by another unit or daemon".to_owned(),
        _ => format!("cannot be locked: {}", why.desc()),
    })?;
    // What has no name any more would be gone with us, and all that was written to it; unless it
    // was given to us so (`/dev/fd/3`).
    let found = file.metadata().map_err(|why| words(&why))?;
    let is_there = |there: Metadata| (there.dev(), there.ino()) == (found.dev(), found.ino());
    if found.nlink() == 0 && !std::fs::metadata(path).is_ok_and(is_there) {
        return Err("was taken away just now: try again".into());
    }
    Ok(file)
}

impl Medium for FileMedium {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<(), IoError> {
        self.check(at, into.len() as u64)?;
        self.file.read_exact_at(into, at).map_err(|why| self.failed(errno(&why), at))
    }

    fn write_at(&self, at: u64, from: &[u8]) -> Result<(), IoError> {
        self.check(at, from.len() as u64)?;
        if self.options.read_only {
            return Err(IoError::WriteProtected);
        }
        self.is_dirty.store(true, Ordering::Release);
        self.file.write_all_at(from, at).map_err(|why| self.failed(errno(&why), at))
    }

    fn read_runs(&self, at: u64, into: &mut [&mut [u8]]) -> Result<(), IoError> {
        let mut at = at;
        for runs in into.chunks_mut(RUNS_MAX) {
            let len = runs.iter().map(|run| run.len() as u64).sum::<u64>();
            self.check(at, len)?;
            let mut slices = runs.iter_mut().map(|run| IoSliceMut::new(run)).collect::<Vec<_>>();
            let got = match slices.len() {
                1 => 0, // one run goes the short way below
                _ => preadv(&*self.file, &mut slices, offset(at)?).unwrap_or(0),
            };
            if got as u64 != len {
                // The host stopped short: run by run, so that an error has its sector.
                let mut from = at;
                for run in runs.iter_mut() {
                    self.read_at(from, run)?;
                    from += run.len() as u64;
                }
            }
            at += len;
        }
        Ok(())
    }

    fn write_runs(&self, at: u64, from: &[&[u8]]) -> Result<(), IoError> {
        let mut at = at;
        for runs in from.chunks(RUNS_MAX) {
            let len = runs.iter().map(|run| run.len() as u64).sum::<u64>();
            self.check(at, len)?;
            let slices = runs.iter().map(|run| IoSlice::new(run)).collect::<Vec<_>>();
            let put = match slices.len() {
                1 => 0,
                _ if self.options.read_only => 0,
                _ => {
                    self.is_dirty.store(true, Ordering::Release);
                    pwritev(&*self.file, &slices, offset(at)?).unwrap_or(0)
                }
            };
            if put as u64 != len {
                let mut to = at;
                for run in runs {
                    self.write_at(to, run)?;
                    to += run.len() as u64;
                }
            }
            at += len;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IoError> {
        if !self.options.host_sync || !self.is_dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.file.sync_data().map_err(|why| {
            self.is_dirty.store(true, Ordering::Release);
            match self.failed(errno(&why), 0) {
                IoError::NoSpace => IoError::NoSpace,
                _ => IoError::Hardware,
            }
        })
    }

    fn discard(&self, at: u64, len: u64) -> Result<(), IoError> {
        self.allocate(FallocateFlags::FALLOC_FL_PUNCH_HOLE, at, len)
    }

    fn zero(&self, at: u64, len: u64) -> Result<(), IoError> {
        self.allocate(FallocateFlags::FALLOC_FL_ZERO_RANGE, at, len)
    }

    fn stored_from(&self, from: u64) -> Option<Run> {
        if from >= self.bytes {
            return None;
        }
        match seek(&self.file, from, Whence::SeekData) {
            Ok(first) => {
                let end = seek(&self.file, first, Whence::SeekHole).unwrap_or(self.bytes);
                let sector = SECTOR_SIZE as u64;
                let first = (first / sector * sector).max(from);
                let end = end.next_multiple_of(sector).min(self.bytes);
                (first < end).then_some((first, end))
            }
            Err(Errno::ENXIO) => None,
            Err(_) => Some((from, self.bytes)), // a host that cannot tell
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    const MIB: u64 = 1 << 20;

    fn sized(bytes: u64) -> FileOptions {
        FileOptions { bytes: Some(bytes), ..FileOptions::default() }
    }

    fn refusal(path: &Path, options: FileOptions) -> String {
        FileMedium::open(path, options).err().unwrap().words
    }

    #[test]
    fn a_missing_image_is_made_sparse_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sd0.img");
        let medium = FileMedium::open(&path, sized(64 * MIB)).unwrap();
        medium.write_at(MIB, &[5; 512]).unwrap();
        medium.flush().unwrap();
        drop(medium);
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!(meta.len(), 64 * MIB);
        assert!(meta.blocks() * 512 < MIB);
        let medium = FileMedium::open(&path, sized(64 * MIB)).unwrap();
        let mut into = [0; 512];
        medium.read_at(MIB, &mut into).unwrap();
        assert_eq!(into, [5; 512]);
    }

    #[test]
    fn an_image_of_another_size_is_refused_or_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old.img");
        std::fs::write(&path, vec![1; 4096]).unwrap();
        let words = refusal(&path, sized(8192));
        assert!(words.contains("has 4096 bytes, but size = 8192"), "{words}");
        let adopted = FileMedium::open(&path, FileOptions::default()).unwrap();
        assert_eq!(adopted.bytes(), 4096);
        drop(adopted);
        std::fs::write(&path, vec![1; 1000]).unwrap();
        assert!(refusal(&path, FileOptions::default()).contains("no multiple of 512"));
        assert!(std::fs::read(&path).unwrap().len() == 1000);
    }

    #[test]
    fn what_cannot_be_an_image_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none");
        assert!(refusal(dir.path(), sized(512)).contains("neither a file nor"));
        assert!(refusal(&missing, FileOptions::default()).contains("missing"));
        let read_only = FileOptions { read_only: true, ..sized(512) };
        assert!(refusal(&missing, read_only).contains("missing"));
        assert!(!missing.exists());
        assert!(refusal(&dir.path().join("no/dir"), sized(512)).contains("No such file"));
    }

    #[test]
    fn an_image_that_loses_its_name_before_it_is_locked_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sd0.img");
        let opened = || open(&path, sized(MIB)).unwrap();
        let lock = |file| lock(&path, file, false);
        let file = opened();
        std::fs::remove_file(&path).unwrap();
        assert!(lock(file.try_clone().unwrap()).unwrap_err().contains("taken away just now"));
        let other = opened();
        assert!(lock(file).is_err() && lock(other.try_clone().unwrap()).is_ok());
        std::fs::remove_file(&path).unwrap();
        let given = PathBuf::from(format!("/dev/fd/{}", other.as_raw_fd()));
        assert!(super::lock(&given, other, false).is_ok());
    }

    #[test]
    fn two_units_cannot_share_an_image_unless_both_only_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sd0.img");
        let first = FileMedium::open(&path, sized(MIB)).unwrap();
        assert!(refusal(&path, sized(MIB)).contains("in use by another"));
        let read_only = FileOptions { read_only: true, ..sized(MIB) };
        assert!(refusal(&path, read_only).contains("in use by another"));
        drop(first);
        let one = FileMedium::open(&path, read_only).unwrap();
        let two = FileMedium::open(&path, read_only).unwrap();
        assert_eq!(one.write_at(0, &[0; 512]), Err(IoError::WriteProtected));
        assert_eq!(one.write_runs(0, &[&[0; 512], &[0; 512]]), Err(IoError::WriteProtected));
        assert_eq!(two.discard(0, 512), Err(IoError::WriteProtected));
    }

    #[test]
    fn a_discard_punches_a_hole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sd0.img");
        let medium = FileMedium::open(&path, sized(4 * MIB)).unwrap();
        medium.write_at(0, &vec![9; 2 << 20]).unwrap();
        assert_eq!(medium.stored_from(0), Some((0, 2 * MIB)));
        medium.discard(0, MIB).unwrap();
        assert_eq!(medium.stored_from(0), Some((MIB, 2 * MIB)));
        assert_eq!(medium.stored_from(2 * MIB), None);
        assert_eq!(medium.stored_from(5 * MIB), None);
    }

    #[test]
    fn a_shrunken_image_is_a_medium_error_at_its_sector() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sd0.img");
        let medium = FileMedium::open(&path, sized(4096)).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(2048).unwrap();
        let (mut one, mut two) = ([0; 1024], [0; 1024]);
        let outcome = medium.read_runs(1024, &mut [&mut one, &mut two]);
        assert_eq!(outcome, Err(IoError::Media(crate::contract::Sector(4))));
    }

    #[test]
    fn the_hosts_errors_come_in_the_devices_words() {
        assert_eq!(told(Errno::ENOSPC, 0), IoError::NoSpace);
        assert_eq!(told(Errno::EDQUOT, 0), IoError::NoSpace);
        assert_eq!(told(Errno::EIO, 1024), IoError::Media(crate::contract::Sector(2)));
        assert_eq!(told(Errno::EROFS, 0), IoError::WriteProtected);
        assert_eq!(told(Errno::ENOMEM, 0), IoError::Hardware);
    }

    #[test]
    fn a_full_host_is_told_as_no_space() {
        // A file size limit would kill the process with SIGXFSZ; /dev/full answers as a full disk.
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let why = file.write_all_at(&[0; 512], 0).unwrap_err();
        assert_eq!(told(errno(&why), 0), IoError::NoSpace);
    }
}
