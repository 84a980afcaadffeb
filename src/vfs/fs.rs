//! What a file system does to be mounted: inodes by their number within it, names by directory.
//!
//! 1. A call that finds or makes an inode by name takes one hold on it, which the caller gives
//!    back by [`FileSystem::put`]. An inode without names lives as long as it is held.
//! 2. A number is not used again while it is held, and none is above [`LOCAL_MAX`].
//! 3. Attributes and listings carry the number within the file system as their `ino`; the tree
//!    makes it a number of its own.
//! 4. No call comes back up into the tree or waits without bound; each is atomic. Those of
//!    [`FileSystem::waits`] may wait for the host, no other.
//!
//! A read-only file system of generated files implements five methods; the rest refuses.

use super::{Attr, Change, DirEntry, Ino, NodeLine, RenameMode, StatFs, XattrMode};
use crate::error::{Errno, Error};
use crate::file::{Caller, Device, FileOps};
use crate::sync::Arc;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Number of an inode within its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Local(pub u64);

/// Largest number of an inode within its file system: the rest of [`Ino`] says which one.
pub const LOCAL_MAX: u64 = (1 << 40) - 1;
/// Most names of an inode, or directories in a directory; then `EMLINK`.
pub const LINKS_MAX: u32 = 65000;

/// `O_ACCMODE` of open(2): which bits say read, write or both.
pub const O_ACCMODE: i32 = 0o3;
/// `O_RDONLY` of open(2).
pub const O_RDONLY: i32 = 0o0;
/// `O_EXCL` of open(2).
pub const O_EXCL: i32 = 0o200;
/// `O_TRUNC` of open(2).
pub const O_TRUNC: i32 = 0o1000;

/// The set-user-id bit.
pub const S_ISUID: u16 = 0o4000;
/// The set-group-id bit.
pub const S_ISGID: u16 = 0o2000;
/// The sticky bit.
pub const S_ISVTX: u16 = 0o1000;

impl From<Ino> for Local {
    /// Of an inode of a file system's own attributes (rule 3).
    fn from(ino: Ino) -> Local {
        Local(ino.0)
    }
}

/// The content of a new inode.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A regular file, empty.
    Regular,
    /// A directory, empty.
    Directory,
    /// A symbolic link that leads there.
    Symlink(&'a OsStr),
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A special file.
    Device(Device),
}

/// A new inode.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    /// What it is.
    pub content: Content<'a>,
    /// Permission bits, umask applied.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group; a set-group-id directory gives its own instead.
    pub gid: u32,
}

/// A file that is made anew at every open: a report, `ctl`.
pub trait Served: Send + Sync {
    /// An open file on it.
    ///
    /// # Errors
    /// Those of open(2).
    fn open(&self, caller: &Caller, flags: i32) -> Result<Arc<dyn FileOps>, Error>;
}

fn read_only<T>() -> Result<T, Error> {
    Err(Error::plain(Errno::EROFS))
}

/// See the head of this file.
pub trait FileSystem: Send + Sync {
    /// The root directory.
    fn root(&self) -> Local;

    /// Finds a name in a directory and holds what it finds; the name may be `..`, which is the
    /// root itself at the root.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ESTALE`.
    fn lookup(&self, dir: Local, name: &OsStr) -> Result<Attr, Error>;

    /// As [`FileSystem::lookup`], where a name may mean different files to different users.
    ///
    /// # Errors
    /// As there.
    fn lookup_by(&self, _by: &Caller, dir: Local, name: &OsStr) -> Result<Attr, Error> {
        self.lookup(dir, name)
    }

    /// Takes a hold on an inode known by number.
    ///
    /// # Errors
    /// `ESTALE` when there is none.
    fn hold(&self, node: Local) -> Result<Attr, Error>;

    /// Gives a hold back.
    fn put(&self, node: Local);

    /// What stat(2) tells.
    ///
    /// # Errors
    /// `ESTALE`.
    fn getattr(&self, node: Local) -> Result<Attr, Error>;

    /// Changes attributes, all or none.
    ///
    /// # Errors
    /// `EROFS`, `EISDIR`, `EINVAL`, `EFBIG`, `ENOSPC`, `ESTALE`.
    fn setattr(&self, _by: &Caller, _node: Local, _change: &Change) -> Result<Attr, Error> {
        read_only()
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// `EINVAL` for anything else; `ESTALE`.
    fn readlink(&self, _node: Local) -> Result<OsString, Error> {
        Err(Error::plain(Errno::EINVAL))
    }

    /// Makes an inode under a name that is free, and holds it.
    ///
    /// # Errors
    /// `EEXIST`, `ENOSPC`, `EMLINK`, `EROFS`; `ENOENT` in a directory that was removed.
    fn make(&self, _dir: Local, _name: &OsStr, _new: &New<'_>) -> Result<Attr, Error> {
        read_only()
    }

    /// Gives an inode another name, and holds it once more.
    ///
    /// # Errors
    /// `EEXIST`, `EPERM` for a directory, `EMLINK`, `EROFS`, `ENOENT`.
    fn link(&self, _node: Local, _dir: Local, _name: &OsStr) -> Result<Attr, Error> {
        read_only()
    }

    /// Takes a name away that is no directory's.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EPERM` for what belongs to the machine, `EROFS`.
    fn unlink(&self, _dir: Local, _name: &OsStr) -> Result<(), Error> {
        read_only()
    }

    /// As [`FileSystem::unlink`], where a name may mean different files to different users.
    ///
    /// # Errors
    /// As there.
    fn unlink_by(&self, _by: &Caller, dir: Local, name: &OsStr) -> Result<(), Error> {
        self.unlink(dir, name)
    }

    /// Takes an empty directory away.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EBUSY` for a covered one, `EROFS`.
    fn rmdir(&self, _dir: Local, _name: &OsStr) -> Result<(), Error> {
        read_only()
    }

    /// Renames within the file system.
    ///
    /// # Errors
    /// Those of rename(2); `EBUSY` for a covered directory, or one above it.
    fn rename(
        &self,
        _dir: Local,
        _name: &OsStr,
        _to_dir: Local,
        _to_name: &OsStr,
        _mode: RenameMode,
    ) -> Result<(), Error> {
        read_only()
    }

    /// As [`FileSystem::rename`], where a name may mean different files to different users.
    ///
    /// # Errors
    /// As there.
    fn rename_by(
        &self,
        _by: &Caller,
        (dir, name): (Local, &OsStr),
        (to_dir, to_name): (Local, &OsStr),
        mode: RenameMode,
    ) -> Result<(), Error> {
        self.rename(dir, name, to_dir, to_name, mode)
    }

    /// Whether [`FileSystem::open`] obeys `O_TRUNC` itself; else the tree sets the length.
    fn truncates_at_open(&self) -> bool {
        false
    }

    /// Whether making, opening, changing, renaming and removing wait for something slow, such as
    /// the host's disk: then they are called where that stalls nobody else.
    fn waits(&self) -> bool {
        false
    }

    /// Opens an inode that is no device.
    ///
    /// # Errors
    /// `EISDIR`, `ENXIO`, `EACCES`, `ESTALE`.
    fn open(&self, caller: &Caller, node: Local, flags: i32) -> Result<Arc<dyn FileOps>, Error>;

    /// At most `count` entries behind `offset`, `.` and `..` among them; none in a directory that
    /// was removed. Places stay valid while names come and go.
    ///
    /// # Errors
    /// `ENOTDIR`, `ESTALE`.
    fn readdir(&self, dir: Local, offset: u64, count: usize) -> Result<Vec<DirEntry>, Error>;

    /// What statfs(2) tells.
    fn statfs(&self) -> StatFs {
        let namelen = 255;
        StatFs { blocks: 0, bfree: 0, files: 0, ffree: 0, bsize: 4096, namelen }
    }

    /// Value of an attribute in `user.`.
    ///
    /// # Errors
    /// `ENODATA`.
    fn getxattr(&self, _node: Local, _name: &OsStr) -> Result<Vec<u8>, Error> {
        Err(Error::plain(Errno::ENODATA))
    }

    /// Sets an attribute in `user.`, or removes it: `None`.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA`, `ENOSPC`, `EPERM`, `EROFS`.
    fn setxattr(
        &self,
        _node: Local,
        _name: &OsStr,
        _value: Option<&[u8]>,
        _mode: XattrMode,
    ) -> Result<(), Error> {
        read_only()
    }

    /// Names of the attributes.
    ///
    /// # Errors
    /// `ESTALE`.
    fn listxattr(&self, _node: Local) -> Result<Vec<OsString>, Error> {
        Ok(Vec::new())
    }

    /// Something is mounted here from now on: neither this directory nor one above it may be
    /// renamed or removed.
    ///
    /// # Errors
    /// `ENOTDIR`; `EBUSY` when it is covered already; `ENOENT` when it was removed.
    fn cover(&self, _dir: Local) -> Result<(), Error> {
        Err(Error::new(Errno::EINVAL, "nothing can be mounted in this file system"))
    }

    /// Ends [`FileSystem::cover`].
    fn uncover(&self, _dir: Local) {}

    /// Puts a file into a directory that is made anew at every open, and that users cannot remove.
    ///
    /// # Errors
    /// `EEXIST`, `ENOSPC`, `ENOTDIR`, `ESTALE`; `EOPNOTSUPP` unless the file system can.
    fn serve(
        &self,
        _dir: Local,
        _name: &OsStr,
        _served: Arc<dyn Served>,
        _mode: u16,
        _owner: (u32, u32),
    ) -> Result<(), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// A name of the inode, from the root of the file system: the last one it was found by.
    fn path(&self, node: Local) -> Option<PathBuf>;

    /// All device inodes, with paths from the root of the file system.
    fn devices(&self) -> Vec<NodeLine> {
        Vec::new()
    }

    /// Durable on return.
    ///
    /// # Errors
    /// Those of fsync(2).
    fn sync(&self) -> Result<(), Error> {
        Ok(())
    }
}
