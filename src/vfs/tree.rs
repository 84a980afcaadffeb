//! The tree: every call on names, over all that is mounted.
//!
//! Permission bits, the sticky bit and who may chmod, chown or mknod what are checked by the host's
//! kernel (`default_permissions`); [`Vfs::check`] and [`Vfs::walk_as`] serve those whom it does not
//! check, such as the verbs of `ctl`. No call here waits without bound.

use super::fs::FileSystem;
use super::inode::Inodes;
use super::memfs::{MemFs, SIZE_DEFAULT};
use super::mounts::{Mount, MountTable, Mounted, Origin};
use super::nodesfs::NodesFs;
use super::nodestore::NodeStore;
use super::opens::DirHandles;
use super::textfs::{ControlFile, TextFs};
use super::walk::Held;
use super::{Attr, Change, FileKind, Ino, StatFs};
use crate::error::{Errno, Error};
use crate::file::{Caller, Device, OpenFiles, SpecialFiles};
use crate::sync::Arc;
use devices::WaitQueue;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, Weak};

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
    pub(super) me: Weak<Vfs>,
    pub(super) special: Arc<dyn SpecialFiles>,
    pub(super) files: Arc<OpenFiles>,
    pub(super) owner: (u32, u32),
    pub(super) mounts: MountTable,
    pub(super) inodes: Inodes,
    pub(super) dirs: DirHandles,
    pub(super) root: Arc<MemFs>,
    pub(super) dev: Arc<MemFs>,
    pub(super) proc: Arc<TextFs>,
    pub(super) control: Arc<ControlFile>,
    pub(super) nodes: OnceLock<NodeStore>,
    /// Rung at every close: an unmount may be waiting for it.
    pub(super) closed: Arc<WaitQueue>,
}

impl Vfs {
    /// The tree as it is before devices, reports and control are put in: `/`, `/dev`, `/nodes`,
    /// `/proc`, `/tmp` (1777), `/mnt`, `/spool`. All belongs to `owner` (user, group).
    ///
    /// # Panics
    /// Not: an empty tree fits into its default size.
    #[must_use]
    pub fn new(
        special: Arc<dyn SpecialFiles>,
        files: Arc<OpenFiles>,
        owner: (u32, u32),
    ) -> Arc<Vfs> {
        let mem =
            |mode| MemFs::new(SIZE_DEFAULT, mode, owner.0, owner.1).expect("a root directory fits");
        let (root, dev) = (mem(0o755), mem(0o755));
        let proc = Arc::new(TextFs::new(owner));
        let vfs = Arc::new_cyclic(|me| Vfs {
            me: Weak::clone(me),
            special,
            files,
            owner,
            mounts: MountTable::new(),
            inodes: Inodes::default(),
            dirs: DirHandles::default(),
            root: Arc::clone(&root),
            dev: Arc::clone(&dev),
            proc: Arc::clone(&proc),
            control: Arc::default(),
            nodes: OnceLock::new(),
            closed: Arc::default(),
        });
        vfs.furnish("/", root, "mem");
        vfs.furnish("/dev", Arc::clone(&dev) as Arc<dyn FileSystem>, "dev");
        vfs.furnish("/nodes", Arc::new(NodesFs::new(dev)), "nodes");
        vfs.furnish("/proc", proc, "proc");
        vfs.furnish("/tmp", mem(0o1777), "mem");
        vfs.furnish_dir("mnt");
        vfs.furnish_dir("spool");
        vfs
    }

    /// Mounts a file system of the machine's own, on a directory made for it.
    fn furnish(&self, prefix: &str, fs: Arc<dyn FileSystem>, kind: &str) {
        let covers = Path::new(prefix).file_name().map(|name| {
            let dir = self.furnish_dir(&name.to_string_lossy());
            self.root.cover(dir.split().1).expect("a new directory can be covered");
            dir
        });
        let what = Mounted {
            prefix: prefix.into(),
            device: "none".into(),
            special: None,
            kind: kind.into(),
            options: if kind == "nodes" || kind == "proc" { "ro" } else { "rw" }.into(),
            origin: Origin::Machine,
        };
        self.mounts.add(fs, what, covers).expect("an empty table has room");
    }

    /// Makes a directory in the root; it lives as long as the machine.
    fn furnish_dir(&self, name: &str) -> Ino {
        let by = Caller { pid: 0, uid: self.owner.0, gid: self.owner.1 };
        let made = self.mkdir(&by, Ino::ROOT, OsStr::new(name), 0o755, 0);
        made.expect("an empty tree has room for a directory").ino
    }

    /// What the tree shows of a file system's attributes: its own numbers, and for a device what
    /// only the device knows.
    pub(super) fn shown(&self, mount: &Mount, mut attr: Attr) -> Attr {
        attr.ino = Ino::of(mount.number, attr.ino.into());
        if let (FileKind::Device(device), false) = (attr.kind, attr.shows_device) {
            attr.size = self.special.size(device);
            attr.may_be_remembered = self.special.may_be_remembered(device);
            // As if all of it were stored: programs take a file without blocks for one hole.
            attr.blocks = attr.size.div_ceil(512);
        }
        attr
    }

    /// The mount of an inode about to be changed.
    ///
    /// # Errors
    /// `EROFS`, `ESTALE`.
    pub(super) fn writable(&self, ino: Ino) -> Result<(Arc<Mount>, super::fs::Local), Error> {
        let (mount, node) = self.mounts.of(ino)?;
        if mount.is_read_only() {
            return Err(Error::plain(Errno::EROFS));
        }
        Ok((mount, node))
    }

    /// Counts a lookup of a held inode, which keeps the hold if it is the first.
    pub(super) fn remember(&self, held: Held) -> Attr {
        let attr = held.attr.clone();
        if self.inodes.remember(attr.ino) {
            held.keep();
        }
        attr
    }

    /// Finds a name, and counts one reference to what it finds, until [`Vfs::forget`].
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENAMETOOLONG`, `ESTALE`.
    pub fn lookup(&self, caller: &Caller, parent: Ino, name: &OsStr) -> Result<Attr, Error> {
        Ok(self.remember(self.step_as(Some(caller), parent, name)?))
    }

    /// Gives back `count` references that lookups counted.
    pub fn forget(&self, ino: Ino, count: u64) {
        if self.inodes.forget(ino, count)
            && let Ok((mount, node)) = self.mounts.of(ino)
        {
            mount.fs.put(node);
        }
    }

    /// What stat(2) tells. Counts nothing.
    ///
    /// # Errors
    /// `ESTALE`.
    pub fn getattr(&self, ino: Ino) -> Result<Attr, Error> {
        let (mount, node) = self.mounts.of(ino)?;
        let attr = mount.fs.getattr(node)?;
        Ok(self.shown(&mount, attr))
    }

    /// Whether a change there waits for something slow, such as the host's disk.
    #[must_use]
    pub fn waits_at(&self, ino: Ino) -> bool {
        self.mounts.of(ino).is_ok_and(|(mount, _)| mount.fs.waits())
    }

    /// Changes attributes; chown and a truncation clear the set-id bits.
    ///
    /// # Errors
    /// `EROFS`, `EISDIR`, `EINVAL`, `EFBIG`, `ENOSPC`, `ESTALE`.
    pub fn setattr(&self, caller: &Caller, ino: Ino, change: &Change) -> Result<Attr, Error> {
        let (mount, node) = self.writable(ino)?;
        let attr = mount.fs.setattr(caller, node, change)?;
        self.keep_nodes(&mount);
        Ok(self.shown(&mount, attr))
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// `EINVAL` for anything else; `ESTALE`.
    pub fn readlink(&self, ino: Ino) -> Result<OsString, Error> {
        let (mount, node) = self.mounts.of(ino)?;
        mount.fs.readlink(node)
    }

    /// What statfs(2) tells.
    ///
    /// # Errors
    /// `ESTALE`.
    pub fn statfs(&self, ino: Ino) -> Result<StatFs, Error> {
        Ok(self.mounts.of(ino)?.0.fs.statfs())
    }

    /// A path of an inode in the whole tree: the one it was last found by.
    pub(super) fn path(&self, ino: Ino) -> Option<PathBuf> {
        let (mount, node) = self.mounts.of(ino).ok()?;
        let inside = mount.fs.path(node)?;
        Some(mount.what.prefix.join(inside))
    }

    /// How many inodes the host's kernel knows.
    #[must_use]
    pub fn known_inodes(&self) -> usize {
        self.inodes.count()
    }
}
