//! The FUSE floor: one file in memory behind fuser, and nothing else; what no daemon can beat.
//!
//! The file lies in one contiguous buffer, lent out in stripes, each with its lock, so that two
//! callers share memory without unsafe code. Uncontended, a lock costs about 20 ns of a round trip
//! of 9000 ns. Reads are answered from the buffer itself; writes copy once into it.

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, ReplyXattr, Request, Session, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spindle::sync::RwLock;

/// The name of the file.
pub const FILE: &str = "disk";
const FILE_INODE: INodeNo = INodeNo(2);
/// A stripe is as long as the longest request the kernel makes, so an aligned one lies in one.
const STRIPE_BYTES: usize = 1 << 20;
/// Long enough that no attribute is asked for twice in a run.
const ATTRIBUTES_HOLD: Duration = Duration::from_secs(3600);

struct Floor {
    stripes: Vec<RwLock<&'static mut [u8]>>,
    bytes: u64,
}

/// The part of a request that lies in one stripe: which, and which of its bytes.
struct Part {
    stripe: usize,
    from: usize,
    to: usize,
}

/// Cuts `bytes` from `offset` on into stripes.
fn parts(offset: u64, bytes: usize, end: u64) -> Vec<Part> {
    let mut at = usize::try_from(offset.min(end)).unwrap_or(usize::MAX);
    let end = at.saturating_add(bytes).min(usize::try_from(end).unwrap_or(usize::MAX));
    let mut parts = Vec::with_capacity(1);
    while at < end {
        let (stripe, from) = (at / STRIPE_BYTES, at % STRIPE_BYTES);
        let to = (from + (end - at)).min(STRIPE_BYTES);
        parts.push(Part { stripe, from, to });
        at += to - from;
    }
    parts
}

impl Floor {
    fn new(bytes: u64) -> Floor {
        // It lives as long as the process, so it may as well be leaked: the stripes borrow it.
        let buffer = Box::leak(vec![0u8; usize::try_from(bytes).unwrap_or(0)].into_boxed_slice());
        Floor { stripes: buffer.chunks_mut(STRIPE_BYTES).map(RwLock::new).collect(), bytes }
    }

    fn attr(&self, inode: INodeNo) -> FileAttr {
        let is_file = inode == FILE_INODE;
        let (kind, perm) =
            if is_file { (FileType::RegularFile, 0o600) } else { (FileType::Directory, 0o700) };
        FileAttr {
            ino: inode,
            size: if is_file { self.bytes } else { 0 },
            blocks: if is_file { self.bytes / 512 } else { 0 },
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Floor {
    fn init(&mut self, _: &Request, _: &mut KernelConfig) -> std::io::Result<()> {
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == FILE {
            true => reply.entry(&ATTRIBUTES_HOLD, &self.attr(FILE_INODE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&ATTRIBUTES_HOLD, &self.attr(inode));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&ATTRIBUTES_HOLD, &self.attr(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let parts = parts(offset, usize::try_from(bytes).unwrap_or(0), self.bytes);
        match parts.as_slice() {
            [] => reply.data(&[]),
            [part] => reply.data(&self.stripes[part.stripe].read()[part.from..part.to]),
            parts => {
                let mut gathered = Vec::new();
                for part in parts {
                    gathered
                        .extend_from_slice(&self.stripes[part.stripe].read()[part.from..part.to]);
                }
                reply.data(&gathered);
            }
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut rest = data;
        for part in parts(offset, data.len(), self.bytes) {
            let (now, later) = rest.split_at(part.to - part.from);
            self.stripes[part.stripe].write()[part.from..part.to].copy_from_slice(now);
            rest = later;
        }
        match u32::try_from(data.len() - rest.len()) {
            Ok(0) if !data.is_empty() => reply.error(Errno::ENOSPC),
            Ok(written) => reply.written(written),
            Err(_) => reply.error(Errno::EINVAL),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS); // never ask again: the floor has no attributes
    }
}

/// Serves a file of `bytes` at `mountpoint` until standard input ends, that is, until whoever
/// started us closes it or is gone.
pub fn serve(mountpoint: &Path, bytes: u64, threads: usize) -> std::io::Result<()> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("floor".into()), MountOption::NoDev];
    config.n_threads = Some(threads);
    let session = Session::new(Floor::new(bytes), mountpoint, &config)?.spawn()?;
    let mut nothing = [0];
    while std::io::stdin().read(&mut nothing)? > 0 {}
    drop(session); // unmounts
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_cut_at_stripes_and_at_the_end() {
        let cut = |offset, bytes| {
            let parts = parts(offset, bytes, 3 << 20);
            parts.iter().map(|part| (part.stripe, part.from, part.to)).collect::<Vec<_>>()
        };
        assert_eq!(cut(4096, 4096), [(0, 4096, 8192)]);
        assert_eq!(cut((1 << 20) - 1, 2), [(0, (1 << 20) - 1, 1 << 20), (1, 0, 1)]);
        assert_eq!(cut((3 << 20) - 5, 4096), [(2, (1 << 20) - 5, 1 << 20)]);
        assert_eq!(cut(3 << 20, 1), []);
        assert_eq!(cut(u64::MAX, 1), []);
    }
}
