//! The tree: every call on names, over all that is mounted.
//!
//! Permission bits, the sticky bit and who may chmod, chown or mknod what are checked by the host's
//! kernel (`default_permissions`); [`Vfs::check`] and [`Vfs::walk_as`] serve those whom it does not
//! check, such as the verbs of `ctl`. No call here waits without bound.

use super::{Attr, Change, DirEntry, FileKind, Ino, Make, RenameMode, StatFs, XattrMode};
use crate::error::{Errno, Error};
use crate::file::{Answer, Caller, Control, Device, OpenFile, OpenFiles, Report, SpecialFiles};
use crate::sync::Arc;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What somebody wants to do to an inode (access(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `R_OK`.
    Read,
    /// `W_OK`.
    Write,
    /// `X_OK`: execute, or search a directory.
    Execute,
}

/// Whether a walk follows a symbolic link that is the last component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// As stat(2).
    Yes,
    /// As lstat(2).
    No,
}

/// How a mount is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmount {
    /// Refused while a file of it is open.
    Polite,
    /// Also with open files: they go on, their names are gone.
    Force,
}

/// A line of `proc/mounts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountLine {
    /// What is mounted: `/dev/sd0`, `none`.
    pub device: String,
    /// Where.
    pub prefix: PathBuf,
    /// Type of the file system: `mem`.
    pub kind: String,
    /// Its options, separated by commas; begins with `rw` or `ro`.
    pub options: String,
}

/// A device inode, for `proc/nodes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLine {
    /// Its name in the whole tree.
    pub path: PathBuf,
    /// Kind and numbers.
    pub device: Device,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How a path becomes a device, as far as names go; driver, unit and address are the switch's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The path without `.`, `..` and symbolic links.
    pub path: PathBuf,
    /// The longest mount prefix of it.
    pub prefix: PathBuf,
    /// What is mounted there: `/dev/sd0`, `none`; for a device inode its own path.
    pub device: String,
    /// Type of the mounted file system.
    pub kind: String,
    /// Inode of the path and what it is; none when there is no such file.
    pub inode: Option<(Ino, FileKind)>,
    /// The device inode it comes down to, and its numbers: the path's own, or the one that the
    /// mounted volume is on.
    pub special: Option<(Ino, Device)>,
}

/// See the head of this file.
pub struct Vfs {
    special: Arc<dyn SpecialFiles>,
    files: Arc<OpenFiles>,
    owner: (u32, u32),
}

/// The mount table and what can be done to it.
pub struct Mounts<'a> {
    vfs: &'a Vfs,
}

impl Vfs {
    /// The tree as it is before devices, reports and control are put in: `/`, `/dev`, `/nodes`,
    /// `/proc`, `/tmp` (1777), `/mnt`, `/spool`. All belongs to `owner` (user, group).
    #[must_use]
    pub fn new(
        special: Arc<dyn SpecialFiles>,
        files: Arc<OpenFiles>,
        owner: (u32, u32),
    ) -> Arc<Vfs> {
        Arc::new(Vfs { special, files, owner })
    }
}

impl Vfs {
    /// Finds a name, and counts one reference to what it finds, until [`Vfs::forget`].
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENAMETOOLONG`, `ESTALE`.
    pub fn lookup(&self, _caller: &Caller, _parent: Ino, _name: &OsStr) -> Result<Attr, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// What stat(2) tells. Counts nothing.
    ///
    /// # Errors
    /// `ESTALE`.
    pub fn getattr(&self, _ino: Ino) -> Result<Attr, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Changes attributes; chown and a truncation clear the set-id bits.
    ///
    /// # Errors
    /// `EROFS`, `EISDIR`, `EINVAL`, `EFBIG`, `ENOSPC`, `ESTALE`.
    pub fn setattr(&self, _caller: &Caller, _ino: Ino, _change: &Change) -> Result<Attr, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// `EINVAL` for anything else; `ESTALE`.
    pub fn readlink(&self, _ino: Ino) -> Result<OsString, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Makes a file that is no directory; counts a reference, as do the next three.
    ///
    /// # Errors
    /// `EEXIST`, `ENOSPC`, `EROFS`; `EPERM` for a device unless user 0; those of lookup.
    pub fn mknod(
        &self,
        _caller: &Caller,
        _parent: Ino,
        _name: &OsStr,
        _make: Make,
        _mode: u32,
        _umask: u32,
    ) -> Result<Attr, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// Those of mknod; `EMLINK`.
    pub fn mkdir(
        &self,
        _caller: &Caller,
        _parent: Ino,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
    ) -> Result<Attr, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// Those of mknod; `ENAMETOOLONG`, `ENOENT` for a target too long or empty.
    pub fn symlink(
        &self,
        _caller: &Caller,
        _parent: Ino,
        _name: &OsStr,
        _target: &OsStr,
    ) -> Result<Attr, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Gives an inode another name.
    ///
    /// # Errors
    /// `EPERM` for a directory, `EXDEV` across mounts, `EMLINK`; those of mknod.
    pub fn link(
        &self,
        _caller: &Caller,
        _ino: Ino,
        _parent: Ino,
        _name: &OsStr,
    ) -> Result<Attr, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Takes a name away; what is open under it lives on.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EPERM`, `EBUSY`, `EROFS`.
    pub fn unlink(&self, _caller: &Caller, _parent: Ino, _name: &OsStr) -> Result<(), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Takes an empty directory away.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EROFS`; `EBUSY` where something is mounted.
    pub fn rmdir(&self, _caller: &Caller, _parent: Ino, _name: &OsStr) -> Result<(), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Renames (renameat2(2)).
    ///
    /// # Errors
    /// `EXDEV` across mounts, `EBUSY` for a mount point or what one is beneath, `EINVAL` into itself, `ENOTEMPTY`, `EISDIR`, `ENOTDIR`, `EEXIST`, `ENOENT`, `EROFS`.
    pub fn rename(
        &self,
        _caller: &Caller,
        _parent: Ino,
        _name: &OsStr,
        _to_parent: Ino,
        _to_name: &OsStr,
        _mode: RenameMode,
    ) -> Result<(), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Opens, and enters the file in the open-file table; `O_TRUNC` is obeyed here on what has a length. Leave by [`Vfs::close`].
    ///
    /// # Errors
    /// `EISDIR`, `EROFS`, `ENFILE`, `ENXIO` for a FIFO or socket, `EACCES` under `/nodes`; the device's.
    pub fn open(&self, _caller: &Caller, _ino: Ino, _flags: i32) -> Result<Arc<OpenFile>, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Opens by name, making a regular file where there is none; counts a reference.
    ///
    /// # Errors
    /// Those of mknod and open; `EEXIST` with `O_EXCL`.
    pub fn create(
        &self,
        _caller: &Caller,
        _parent: Ino,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
    ) -> Result<(Attr, Arc<OpenFile>), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// A handle for [`Vfs::readdir`], until [`Vfs::releasedir`].
    ///
    /// # Errors
    /// `ENOTDIR`, `ENFILE`, `ESTALE`.
    pub fn opendir(&self, _ino: Ino) -> Result<u64, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Calls `entry` for `.`, `..` and the names behind `offset` (0, or a [`DirEntry::next`]) until it says `true`: full, this one was not taken. A name that is there from first to last call comes once.
    ///
    /// # Errors
    /// `EBADF`, `ENOTDIR`, `ESTALE`.
    pub fn readdir(
        &self,
        _ino: Ino,
        _handle: u64,
        _offset: u64,
        _entry: &mut dyn FnMut(DirEntry) -> bool,
    ) -> Result<(), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// What statfs(2) tells.
    ///
    /// # Errors
    /// `ESTALE`.
    pub fn statfs(&self, _ino: Ino) -> Result<StatFs, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`; `EOPNOTSUPP` outside `user.`.
    pub fn getxattr(&self, _ino: Ino, _name: &OsStr) -> Result<Vec<u8>, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA`, `ENOSPC`, `EPERM`, `EROFS`; `EOPNOTSUPP` outside `user.`.
    pub fn setxattr(
        &self,
        _caller: &Caller,
        _ino: Ino,
        _name: &OsStr,
        _value: &[u8],
        _mode: XattrMode,
    ) -> Result<(), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// The names of the extended attributes, each ended by a NUL.
    ///
    /// # Errors
    /// `ESTALE`.
    pub fn listxattr(&self, _ino: Ino) -> Result<Vec<u8>, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`, `EPERM`, `EROFS`; `EOPNOTSUPP` outside `user.`.
    pub fn removexattr(&self, _caller: &Caller, _ino: Ino, _name: &OsStr) -> Result<(), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Whether the permission bits let `caller` do it, for calls that the kernel does not check.
    ///
    /// # Errors
    /// `EACCES`, `ESTALE`.
    pub fn check(&self, _caller: &Caller, _ino: Ino, _access: Access) -> Result<(), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// The inode of a path from the root, with nobody's permissions asked. Counts nothing.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ELOOP`, `ENAMETOOLONG`.
    pub fn walk(&self, _path: &Path, _follow: Follow) -> Result<Ino, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// The same, searching only directories that `caller` may search.
    ///
    /// # Errors
    /// Those of walk; `EACCES`.
    pub fn walk_as(&self, _caller: &Caller, _path: &Path, _follow: Follow) -> Result<Ino, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// How a path becomes a device. What is missing from the tree is taken as written.
    ///
    /// # Errors
    /// `ENOTDIR`, `ELOOP`, `ENAMETOOLONG`.
    pub fn resolve(&self, _path: &Path) -> Result<Resolution, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Puts a device inode under `/dev`; what the user changed of it in an earlier life wins.
    ///
    /// # Errors
    /// `EEXIST`, `EINVAL`, `ENOSPC`.
    pub fn install_node(
        &self,
        _name: &str,
        _device: Device,
        _mode: u16,
        _uid: u32,
        _gid: u32,
    ) -> Result<(), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Takes away what [`Vfs::install_node`] put there.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn remove_node(&self, _name: &str) -> Result<(), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Reads the file `nodes` of the state directory, and keeps it up to date from now on. Call it before the first [`Vfs::install_node`].
    ///
    /// # Errors
    /// `EINVAL` in words for a file of another version or garbled; the host's.
    pub fn load_nodes(&self, _state: &Path) -> Result<(), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Gives back `count` references that lookups counted.
    pub fn forget(&self, _ino: Ino, _count: u64) {}

    /// Takes a file out of the open-file table and releases it.
    pub fn close(&self, _handle: u64) {}

    /// Ends a handle of [`Vfs::opendir`].
    pub fn releasedir(&self, _handle: u64) {}

    /// All device inodes, by path.
    #[must_use]
    pub fn list_nodes(&self) -> Vec<NodeLine> {
        Vec::new()
    }

    /// Puts the reports under `/proc`.
    pub fn set_reports(&self, _reports: Vec<Report>) {}

    /// Puts `ctl` at the root.
    pub fn set_control(&self, _control: Arc<dyn Control>) {}

    /// The mount table.
    #[must_use]
    pub fn mounts(&self) -> Mounts<'_> {
        Mounts { vfs: self }
    }
}

impl Mounts<'_> {
    /// Mounts `fs` on the directory `path`.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`; `EBUSY` for a device or a directory in use; those of walk.
    pub fn mount(
        &self,
        _fs: Arc<dyn FileSystem>,
        _path: &Path,
        _device: &str,
        _kind: &str,
        _options: &str,
    ) -> Result<(), Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Takes a mount away; `Later` waits up to 50 ms for a close under way.
    ///
    /// # Errors
    /// `EINVAL` unless something is mounted there; `EBUSY` with open files or mounts inside.
    pub fn umount(&self, _path: &Path, _how: Unmount) -> Result<Answer<()>, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// All mounts, by age.
    #[must_use]
    pub fn list(&self) -> Vec<MountLine> {
        Vec::new()
    }
}

/// A file system: inodes by number within it.
pub trait FileSystem: Send + Sync {}
