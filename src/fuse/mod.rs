//! The door: the only place that knows fuser. It decodes a request, makes one call, replies.
//!
//! 1. Two threads read requests; each answers what can be answered at once and hands the rest to
//!    workers. None waits for a device. What a caller asks after his close(2) begins when the
//!    RELEASE has ended, though another thread has that: see [`order`]. Where one is only in the
//!    other's way, it rests: see [`readers`].
//! 2. No operation answers ENOSYS: for most of them the host would never ask again.
//! 3. A panic in a call answers EIO; no request stays unanswered.
//! 4. Permissions are the host's business (`default_permissions`), decided at open(2).

/// A request begins: after what was queued before it (`order.rs`).
macro_rules! begin {
    ($door:expr, $req:expr, $($what:tt)+) => {
        let _long = $door.readers.long(); // until the caller of this has ended
        $door.order.fence($req.unique().0);
        tell!($req, $($what)+)
    };
}

/// The same for what needs no fence, or another one.
macro_rules! tell {
    ($req:expr, $($what:tt)+) => {
        // The arguments are formatted only when somebody listens.
        log::debug!(
            target: "fuse", "{} pid={} {}",
            $req.unique().0, $req.pid(), format_args!($($what)+)
        )
    };
}

mod argument;
mod attr;
mod backing;
mod closing;
mod gate;
mod io;
mod lobby;
mod look;
mod names;
mod order;
pub mod os;
mod pages;
pub mod park;
mod readers;
mod reply;
pub mod session;
mod wire;
pub mod work;

use crate::file::{OpenFiles, SyncKind};
use crate::sync::{Arc, Mutex};
use crate::vfs::Vfs;
use backing::Backings;
use closing::Closing;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use gate::Gate;
use lobby::Lobby;
use order::Order;
use pages::Pages;
use park::Park;
use readers::Readers;
use std::ffi::OsStr;
use std::io::PipeWriter;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wire::Wire;
use work::Workers;

/// Attributes of the root that tell commands which daemon this is: its state directory, its
/// process, and when it was mounted (seconds since 1970).
pub const OWN_XATTRS: [&str; 3] = ["user.spindle.state", "user.spindle.pid", "user.spindle.since"];

/// What the daemon says of itself in [`OWN_XATTRS`].
#[derive(Clone, Debug)]
pub struct About {
    /// Its state directory, absolute.
    pub state: PathBuf,
    /// When it was mounted.
    pub since: SystemTime,
}

impl About {
    fn value(&self, name: &OsStr) -> Option<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt;
        let which = OWN_XATTRS.iter().position(|own| OsStr::new(own) == name)?;
        let since = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some(match which {
            0 => self.state.as_os_str().as_bytes().to_vec(),
            1 => std::process::id().to_string().into_bytes(),
            _ => since.as_secs().to_string().into_bytes(),
        })
    }
}

/// The one who answers the host's kernel.
pub struct Door {
    vfs: Arc<Vfs>,
    files: Arc<OpenFiles>,
    workers: Workers,
    park: Park,
    lobby: Lobby,
    about: About,
    /// What comes after what: see [`order`].
    order: Order,
    /// Who reads requests.
    readers: Readers,
    /// Files being closed: see [`closing`].
    closing: Arc<Closing>,
    /// Closed when the machine is unmounted: nothing is opened, nothing written any more.
    gate: Arc<Gate>,
    /// The host's pages: see [`pages`].
    pages: Arc<Pages>,
    /// Files that stand in for ours: see [`backing`].
    backings: Arc<Backings>,
    /// The way of answers to writes and long reads: see [`wire`].
    wire: Wire,
    /// Closed when the session ends: see [`session::Session::ended`].
    hold: Mutex<Option<PipeWriter>>,
}

impl Door {
    /// A door to `vfs`, whose open files are in `files`.
    #[must_use]
    pub fn new(vfs: Arc<Vfs>, files: Arc<OpenFiles>, about: About) -> Door {
        let workers = Workers::default();
        let called_away = workers.clone();
        let park = Park::new(move || called_away.refuse_called_away());
        let (closing, gate) = (Arc::default(), Arc::default());
        let (wire, hold, lobby) = (Wire::default(), Mutex::new(None), Lobby::default());
        files.list_blocked_by(lobby.lister());
        let (pages, backings) = (Arc::default(), Arc::default());
        let (order, readers) = (Order::default(), Readers::default());
        Door {
            vfs,
            files,
            workers,
            park,
            lobby,
            about,
            order,
            readers,
            closing,
            gate,
            pages,
            backings,
            wire,
            hold,
        }
    }
}

/// What we ask of the host's kernel, if it can. Left off on purpose:
///
/// - `WRITEBACK_CACHE`: an error would reach somebody else than the writer; we have a cache.
/// - `POSIX_LOCKS`, `FLOCK_LOCKS`: the host does them, among all its processes, as they should be.
/// - `DO_READDIRPLUS`: attributes of devices may not be remembered, so they would be asked twice.
/// - `CACHE_SYMLINKS`: saves a request where nobody waits, and would outlive a changed link.
/// - `POSIX_ACL`, `DONT_MASK`: the host applies the umask; access lists we do not keep.
/// - `HAS_IOCTL_DIR`: no directory has device commands, so ENOTTY needs no request.
/// - `ASYNC_DIO`: changes nothing for files that are always direct (measured).
const WANTED: [InitFlags; 6] = [
    // `> file` is one request; on a device it changes nothing.
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    // A disk can be mapped shared though its pages are not the host's to keep.
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    // Two lookups in a directory need not wait for each other in the host.
    InitFlags::FUSE_PARALLEL_DIROPS,
    // Else each write to a file of the tree asks for its capabilities first (`clear_set_id`).
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    // The raw node of a disk with `passthrough` is its image (`backing.rs`).
    InitFlags::FUSE_PASSTHROUGH,
    // What we change ourselves (length, time) throws the host's pages of it away.
    InitFlags::FUSE_AUTO_INVAL_DATA,
];

/// Longest write; the host's own limit is the same unless its administrator raised it.
const WRITE_BYTES_MAX: u32 = 1 << 20;
/// So many that a RELEASE never queues in the host behind reading ahead.
const BACKGROUND_MAX: u16 = 512;

impl Filesystem for Door {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for flag in WANTED {
            if config.add_capabilities(flag).is_err() {
                log::info!(target: "fuse", "this kernel has no {flag:?}");
            }
        }
        // Both are within fuser's bounds.
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        let _ = config.set_max_background(BACKGROUND_MAX);
        let _ = config.set_max_stack_depth(1); // what stands in lies on a file system of disks
        Ok(())
    }

    fn destroy(&mut self) {
        log::info!(target: "fuse", "the host has let go of the tree");
        drop(self.hold.lock().take());
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.on_lookup(req, parent, name, reply);
    }

    fn forget(&self, req: &Request, node: INodeNo, count: u64) {
        self.on_forget(req, node, count);
    }

    fn getattr(&self, req: &Request, node: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.on_getattr(req, node, reply);
    }

    #[rustfmt::skip] // the wire's fifteen, of which Linux fills seven
    fn setattr(
        &self, req: &Request, node: INodeNo, mode: Option<u32>, uid: Option<u32>,
        gid: Option<u32>, size: Option<u64>, atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>, _fh: Option<FileHandle>, _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>, _bkuptime: Option<SystemTime>, _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.on_setattr(req, node, (mode, uid, gid, size), (atime, mtime), reply);
    }

    fn readlink(&self, req: &Request, node: INodeNo, reply: ReplyData) {
        self.on_readlink(req, node, reply);
    }

    #[rustfmt::skip]
    fn mknod(
        &self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32,
        reply: ReplyEntry,
    ) {
        self.on_mknod(req, (parent, name), (mode, umask), rdev, reply);
    }

    #[rustfmt::skip]
    fn mkdir(
        &self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32,
        reply: ReplyEntry,
    ) {
        self.on_mkdir(req, (parent, name), (mode, umask), reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.on_unlink(req, parent, name, reply);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.on_rmdir(req, parent, name, reply);
    }

    #[rustfmt::skip]
    fn symlink(
        &self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry,
    ) {
        self.on_symlink(req, (parent, name), target.as_os_str(), reply);
    }

    #[rustfmt::skip]
    fn rename(
        &self, req: &Request, parent: INodeNo, name: &OsStr, to_parent: INodeNo, to_name: &OsStr,
        flags: RenameFlags, reply: ReplyEmpty,
    ) {
        self.on_rename(req, (parent, name), (to_parent, to_name), flags, reply);
    }

    #[rustfmt::skip]
    fn link(
        &self, req: &Request, node: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry,
    ) {
        self.on_link(req, node, (parent, name), reply);
    }

    fn open(&self, req: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.on_open(req, node, flags.0, reply);
    }

    #[rustfmt::skip]
    fn create(
        &self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, flags: i32,
        reply: ReplyCreate,
    ) {
        self.on_create(req, (parent, name), (mode, umask), flags, reply);
    }

    #[rustfmt::skip]
    fn read(
        &self, req: &Request, _node: INodeNo, fh: FileHandle, at: u64, size: u32,
        flags: OpenFlags, _owner: Option<LockOwner>, reply: ReplyData,
    ) {
        self.on_read(req, fh, (at, size), flags.0, reply);
        self.readers.answered();
    }

    #[rustfmt::skip]
    fn write(
        &self, req: &Request, _node: INodeNo, fh: FileHandle, at: u64, data: &[u8],
        kind: WriteFlags, flags: OpenFlags, _owner: Option<LockOwner>, reply: ReplyWrite,
    ) {
        self.on_write(req, fh, (at, data), (kind, flags.0), reply);
        self.readers.answered();
    }

    #[rustfmt::skip]
    fn flush(
        &self, req: &Request, _node: INodeNo, fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty,
    ) {
        self.on_flush(req, fh, reply);
    }

    #[rustfmt::skip]
    fn release(
        &self, req: &Request, _node: INodeNo, fh: FileHandle, _flags: OpenFlags,
        _owner: Option<LockOwner>, _flush: bool, reply: ReplyEmpty,
    ) {
        self.on_release(req, fh, reply);
    }

    #[rustfmt::skip]
    fn fsync(
        &self, req: &Request, _node: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty,
    ) {
        let kind = if datasync { SyncKind::Data } else { SyncKind::All };
        self.on_fsync(req, fh, kind, reply);
    }

    fn opendir(&self, req: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.on_opendir(req, node, reply);
    }

    #[rustfmt::skip]
    fn readdir(
        &self, req: &Request, node: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory,
    ) {
        self.on_readdir(req, node, fh, offset, reply);
    }

    #[rustfmt::skip]
    fn readdirplus(
        &self, _req: &Request, _node: INodeNo, _fh: FileHandle, _offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        // Never asked for, so never sent.
        reply.error(fuser::Errno::EOPNOTSUPP);
    }

    #[rustfmt::skip]
    fn releasedir(
        &self, req: &Request, _node: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty,
    ) {
        self.on_releasedir(req, fh, reply);
    }

    #[rustfmt::skip]
    fn fsyncdir(
        &self, req: &Request, node: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty,
    ) {
        begin!(self, req, "fsyncdir {node}");
        // Names are in memory, or written as they are made.
        reply.ok();
    }

    fn statfs(&self, req: &Request, node: INodeNo, reply: ReplyStatfs) {
        self.on_statfs(req, node, reply);
    }

    #[rustfmt::skip]
    fn setxattr(
        &self, req: &Request, node: INodeNo, name: &OsStr, value: &[u8], flags: i32,
        _position: u32, reply: ReplyEmpty,
    ) {
        self.on_setxattr(req, (node, name), value, flags, reply);
    }

    #[rustfmt::skip]
    fn getxattr(
        &self, req: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr,
    ) {
        self.on_getxattr(req, node, name, size, reply);
    }

    fn listxattr(&self, req: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        self.on_listxattr(req, node, size, reply);
    }

    fn removexattr(&self, req: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.on_removexattr(req, node, name, reply);
    }

    fn access(&self, req: &Request, node: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        begin!(self, req, "access {node}");
        // The host decides by the permission bits; it asks only where it has decided.
        reply.ok();
    }

    #[rustfmt::skip]
    fn getlk(
        &self, _req: &Request, _node: INodeNo, _fh: FileHandle, _owner: LockOwner, _start: u64,
        _end: u64, _typ: i32, _pid: u32, reply: ReplyLock,
    ) {
        // The host keeps the locks: never asked for, so never sent. So is setlk.
        reply.error(fuser::Errno::EOPNOTSUPP);
    }

    #[rustfmt::skip]
    fn setlk(
        &self, _req: &Request, _node: INodeNo, _fh: FileHandle, _owner: LockOwner, _start: u64,
        _end: u64, _typ: i32, _pid: u32, _sleep: bool, reply: ReplyEmpty,
    ) {
        reply.error(fuser::Errno::EOPNOTSUPP);
    }

    fn bmap(&self, _req: &Request, _node: INodeNo, _bytes: u32, _index: u64, reply: ReplyBmap) {
        // Our blocks are on no device of the host's.
        reply.error(fuser::Errno::EINVAL);
    }

    #[rustfmt::skip]
    fn ioctl(
        &self, req: &Request, _node: INodeNo, fh: FileHandle, flags: IoctlFlags, cmd: u32,
        input: &[u8], out_size: u32, reply: ReplyIoctl,
    ) {
        self.on_ioctl(req, fh, flags, (cmd, input, out_size), reply);
    }

    #[rustfmt::skip]
    fn poll(
        &self, req: &Request, _node: INodeNo, fh: FileHandle, notifier: PollNotifier,
        events: PollEvents, flags: PollFlags, reply: ReplyPoll,
    ) {
        self.on_poll(req, fh, notifier, (events, flags), reply);
    }

    #[rustfmt::skip]
    fn fallocate(
        &self, req: &Request, _node: INodeNo, fh: FileHandle, at: u64, len: u64, mode: i32,
        reply: ReplyEmpty,
    ) {
        self.on_allocate(req, fh, (at, len), mode, reply);
    }

    #[rustfmt::skip]
    fn lseek(
        &self, req: &Request, _node: INodeNo, fh: FileHandle, offset: i64, whence: i32,
        reply: ReplyLseek,
    ) {
        self.on_lseek(req, fh, (offset, whence), reply);
    }

    #[rustfmt::skip]
    fn copy_file_range(
        &self, req: &Request, _from: INodeNo, fh: FileHandle, _from_at: u64, _to: INodeNo,
        _to_fh: FileHandle, _to_at: u64, _len: u64, _flags: CopyFileRangeFlags, reply: ReplyWrite,
    ) {
        begin!(self, req, "copy_file_range {fh}");
        // Then the host reads and writes.
        reply.error(fuser::Errno::EOPNOTSUPP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_daemon_says_who_it_is() {
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        let about = About { state: "/var/s".into(), since };
        let value =
            |name: &str| about.value(OsStr::new(name)).map(|v| String::from_utf8(v).unwrap());
        assert_eq!(value("user.spindle.state").as_deref(), Some("/var/s"));
        assert_eq!(value("user.spindle.pid"), Some(std::process::id().to_string()));
        assert_eq!(value("user.spindle.since").as_deref(), Some("86400"));
        assert_eq!(value("user.spindle.dev"), None);
    }
}
