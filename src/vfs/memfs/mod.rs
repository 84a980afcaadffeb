//! The in-memory file system: the root, `/dev`, `/tmp`, and `mount -t mem none DIR`.
//!
//! 1. All of it together takes no more memory than its size says: pages, names and extended
//!    attributes are charged, and at the limit comes `ENOSPC`.
//! 2. Locks: the names, then an inode's, then nothing. None is held while memory is freed, nor
//!    while anybody else is called.
//! 3. Times are noted as by Linux with `relatime`. The time of a read or write through a device
//!    inode is not: it goes to the device, not here.
//!
//! The host's kernel decides who may do what (sticky directories and set-group-id bits of those
//! outside the group included); what it leaves to the file system is done here: the group of a
//! set-group-id directory, and taking set-id bits away from what others write.

mod dir;
mod file;
mod inode;
mod pages;
mod tree;

pub(crate) use dir::{PLACE_OF_PARENT, PLACE_OF_SELF};

use super::fs::{Content, FileSystem, Local, New, S_ISGID, Served};
use super::{Attr, Change, DirEntry, FileKind, Ino, NodeLine, RenameMode, StatFs, XattrMode};
use crate::error::{Errno, Error};
use crate::file::{Caller, Device, FileOps};
use crate::sync::{Arc, Mutex, RwLock};
use file::MemFile;
use inode::{Body, INODE_BYTES, Inode, Meta};
use pages::{Budget, PAGE_BYTES, Pages};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use tree::{Place, ROOT, Tree};

/// Size of a memory file system of which nothing was said, in bytes.
pub const SIZE_DEFAULT: u64 = 256 << 20;

/// A name of a device inode, with what is kept of it from one life to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceName {
    pub(crate) path: PathBuf,
    pub(crate) device: Device,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) atime: SystemTime,
    pub(crate) mtime: SystemTime,
    /// The user made or changed it.
    pub(crate) is_kept: bool,
}

/// See the head of this file.
pub struct MemFs {
    names: Mutex<Tree>,
    budget: Arc<Budget>,
    /// Counts what happens to device inodes and their names.
    device_changes: AtomicU64,
}

impl MemFs {
    /// An empty one of at most `size` bytes, with the mode and owner of its root directory.
    ///
    /// # Errors
    /// `ENOSPC` when not even the root fits.
    pub fn new(size: u64, mode: u16, uid: u32, gid: u32) -> Result<Arc<MemFs>, Error> {
        let budget = Budget::new(size);
        let root = Inode::new(ROOT, Body::Directory, &budget, Meta::new(mode, uid, gid))?;
        let names = Mutex::new(Tree::new(root));
        Ok(Arc::new(MemFs { names, budget, device_changes: AtomicU64::new(0) }))
    }

    /// As mount(8) would: options `size=64M`, `mode=1777`, `uid=0`, `gid=0`, and `rw`, `ro`.
    ///
    /// # Errors
    /// `EINVAL`, naming the option that is wrong and what would be right.
    pub fn from_options(options: &str, owner: (u32, u32)) -> Result<Arc<MemFs>, Error> {
        let (mut size, mut mode, (mut uid, mut gid)) = (SIZE_DEFAULT, 0o755, owner);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let wrong = |right: &str| {
                Error::new(Errno::EINVAL, format!("mem: option \"{option}\": {right}"))
            };
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let id = || value.parse().map_err(|_| wrong("a number is wanted, as in uid=1000"));
            match key {
                "rw" | "ro" if value.is_empty() => {}
                "size" => {
                    let bytes = parse_size(value).filter(|bytes| *bytes >= INODE_BYTES);
                    size = bytes.ok_or_else(|| wrong("a size is wanted, as in size=64M"))?;
                }
                "mode" => {
                    let bits = u16::from_str_radix(value, 8).ok().filter(|bits| *bits <= 0o7777);
                    mode = bits.ok_or_else(|| wrong("octal is wanted, as in mode=1777"))?;
                }
                "uid" => uid = id()?,
                "gid" => gid = id()?,
                _ => return Err(wrong("not known; there are size, mode, uid, gid, ro, rw")),
            }
        }
        MemFs::new(size, mode, uid, gid)
    }

    fn inode(&self, node: Local) -> Result<Arc<Inode>, Error> {
        Ok(Arc::clone(&self.names.lock().slot(node)?.inode))
    }

    /// Makes an inode; `is_kept` is for devices.
    fn add(
        &self,
        at: Place<'_>,
        body: Body,
        (mode, uid, gid): (u16, u32, u32),
        is_kept: bool,
    ) -> Result<Attr, Error> {
        let is_device = matches!(body, Body::Device(_));
        let inode = {
            let mut names = self.names.lock();
            if names.living_dir(at.dir)?.get(at.name).is_some() {
                return Err(Error::plain(Errno::EEXIST));
            }
            let mut meta = Meta::new(mode, uid, gid);
            meta.is_kept = is_kept;
            {
                let above = names.slot(at.dir)?.inode.meta.lock();
                if above.mode & S_ISGID != 0 {
                    meta.gid = above.gid;
                    if matches!(body, Body::Directory) {
                        meta.mode |= S_ISGID;
                    }
                }
            }
            let inode = Inode::new(names.next_number()?, body, &self.budget, meta)?;
            names.add(at, &inode)?;
            inode
        };
        self.devices_changed(is_device);
        Ok(inode.attr())
    }

    /// Puts a device inode at a path, with the directories that lead there.
    pub(crate) fn install(&self, device: &DeviceName) -> Result<(), Error> {
        let (dir, name) = self.make_dirs(&device.path)?;
        let body = Body::Device(device.device);
        let owner = (device.mode, device.uid, device.gid);
        let attr = self.add(Place { dir, name: &name }, body, owner, device.is_kept);
        self.put(dir);
        let node = Local::from(attr?.ino);
        {
            let inode = self.inode(node)?;
            let mut meta = inode.meta.lock();
            (meta.atime, meta.mtime) = (device.atime, device.mtime);
        }
        self.put(node);
        Ok(())
    }

    /// Takes away what [`MemFs::install`] put there.
    pub(crate) fn uninstall(&self, path: &Path) -> Result<(), Error> {
        let name = path.file_name().ok_or_else(|| Error::plain(Errno::ENOENT))?;
        let mut dir = self.hold(ROOT)?;
        for above in path.parent().into_iter().flat_map(Path::iter) {
            let next = self.lookup(dir.ino.into(), above);
            self.put(dir.ino.into());
            dir = next?;
        }
        let gone = self.unlink(dir.ino.into(), name);
        self.put(dir.ino.into());
        gone
    }

    /// The directory of a path, held, made where it is missing; and the path's last name.
    fn make_dirs(&self, path: &Path) -> Result<(Local, OsString), Error> {
        let Some(name) = path.file_name() else {
            return Err(Error::new(Errno::EINVAL, format!("{}: no name", path.display())));
        };
        let (uid, gid) = {
            let root = self.getattr(ROOT)?;
            (root.uid, root.gid)
        };
        let mut dir = Local::from(self.hold(ROOT)?.ino);
        for above in path.parent().into_iter().flat_map(Path::iter) {
            let new = New { content: Content::Directory, mode: 0o755, uid, gid };
            let next = match self.make(dir, above, &new) {
                Err(refusal) if refusal.errno == Errno::EEXIST => self.lookup(dir, above),
                made => made,
            };
            self.put(dir);
            dir = next?.ino.into();
        }
        Ok((dir, name.to_owned()))
    }

    /// All names of device inodes, by path.
    pub(crate) fn device_names(&self) -> Vec<DeviceName> {
        if self.device_changes() == 0 {
            return Vec::new(); // there never was one: no need to look through all names
        }
        let found = self.names.lock().devices();
        let line = |(path, inode): (PathBuf, Arc<Inode>)| {
            let FileKind::Device(device) = inode.kind() else { return None };
            let meta = inode.meta.lock();
            let Meta { mode, uid, gid, atime, mtime, is_kept, .. } = *meta;
            Some(DeviceName { path, device, mode, uid, gid, atime, mtime, is_kept })
        };
        found.into_iter().filter_map(line).collect()
    }

    /// A number that grows with every change of a device inode or its names.
    pub(crate) fn device_changes(&self) -> u64 {
        self.device_changes.load(Ordering::Acquire)
    }

    fn devices_changed(&self, are_changed: bool) {
        if are_changed {
            self.device_changes.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// `64M`: a number of bytes, or of K, M, G, T.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text.get(digits.len()..)?.to_ascii_uppercase().as_str() {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

impl FileSystem for MemFs {
    fn root(&self) -> Local {
        ROOT
    }

    fn lookup(&self, dir: Local, name: &OsStr) -> Result<Attr, Error> {
        let found = self.names.lock().find_and_hold(Place { dir, name })?;
        Ok(found.attr())
    }

    fn hold(&self, node: Local) -> Result<Attr, Error> {
        let inode = {
            let mut names = self.names.lock();
            let slot = names.slot_mut(node)?;
            slot.holds += 1;
            Arc::clone(&slot.inode)
        };
        Ok(inode.attr())
    }

    fn put(&self, node: Local) {
        let gone = self.names.lock().put(node);
        drop(gone); // its memory is freed here, past the lock
    }

    fn getattr(&self, node: Local) -> Result<Attr, Error> {
        Ok(self.inode(node)?.attr())
    }

    fn setattr(&self, by: &Caller, node: Local, change: &Change) -> Result<Attr, Error> {
        let inode = self.inode(node)?;
        inode.change(by, change)?;
        self.devices_changed(inode.is_device());
        Ok(inode.attr())
    }

    fn readlink(&self, node: Local) -> Result<OsString, Error> {
        match &self.inode(node)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(Error::plain(Errno::EINVAL)),
        }
    }

    fn make(&self, dir: Local, name: &OsStr, new: &New<'_>) -> Result<Attr, Error> {
        let body = match new.content {
            Content::Regular => Body::Regular(RwLock::new(Pages::new(Arc::clone(&self.budget)))),
            Content::Directory => Body::Directory,
            Content::Symlink(target) => Body::Symlink(target.to_owned()),
            Content::Fifo => Body::Fifo,
            Content::Socket => Body::Socket,
            Content::Device(device) => Body::Device(device),
        };
        self.add(Place { dir, name }, body, (new.mode, new.uid, new.gid), true)
    }

    fn link(&self, node: Local, dir: Local, name: &OsStr) -> Result<Attr, Error> {
        let inode = self.names.lock().link(node, Place { dir, name })?;
        self.devices_changed(inode.is_device());
        Ok(inode.attr())
    }

    fn unlink(&self, dir: Local, name: &OsStr) -> Result<(), Error> {
        let inode = self.names.lock().unlink(Place { dir, name })?;
        self.devices_changed(inode.is_device());
        Ok(())
    }

    fn rmdir(&self, dir: Local, name: &OsStr) -> Result<(), Error> {
        let gone = self.names.lock().rmdir(Place { dir, name })?;
        drop(gone);
        Ok(())
    }

    fn rename(
        &self,
        dir: Local,
        name: &OsStr,
        to_dir: Local,
        to_name: &OsStr,
        mode: RenameMode,
    ) -> Result<(), Error> {
        let (from, to) = (Place { dir, name }, Place { dir: to_dir, name: to_name });
        let (has_devices, gone) = self.names.lock().rename(from, to, mode)?;
        drop(gone);
        self.devices_changed(has_devices);
        Ok(())
    }

    fn open(&self, caller: &Caller, node: Local, flags: i32) -> Result<Arc<dyn FileOps>, Error> {
        let inode = self.inode(node)?;
        match &inode.body {
            Body::Regular(_) => Ok(Arc::new(MemFile::new(inode))),
            Body::Served(served) => served.open(caller, flags),
            Body::Directory => Err(Error::plain(Errno::EISDIR)),
            Body::Symlink(_) => Err(Error::plain(Errno::ELOOP)),
            Body::Fifo | Body::Socket | Body::Device(_) => Err(Error::plain(Errno::ENXIO)),
        }
    }

    fn readdir(&self, dir: Local, offset: u64, count: usize) -> Result<Vec<DirEntry>, Error> {
        let names = self.names.lock();
        let listed = names.dir(dir)?;
        if names.slot(dir)?.inode.meta.lock().nlink == 0 {
            return Ok(Vec::new());
        }
        let entry = |node: Local, next: u64, kind: FileKind, name: OsString| DirEntry {
            ino: Ino(node.0),
            next,
            kind,
            name,
        };
        let dots = [(dir, PLACE_OF_SELF, "."), (listed.parent, PLACE_OF_PARENT, "..")];
        let dots = dots
            .into_iter()
            .filter(|(_, place, _)| *place > offset)
            .map(|(node, place, name)| entry(node, place, FileKind::Directory, name.into()));
        let rest = listed.behind(offset, count).into_iter().filter_map(|(place, name, node)| {
            let kind = names.slot(node).ok()?.inode.kind();
            Some(entry(node, place, kind, name))
        });
        Ok(dots.chain(rest).take(count).collect())
    }

    fn statfs(&self) -> StatFs {
        let page = PAGE_BYTES as u64;
        let free = self.budget.limit().saturating_sub(self.budget.used());
        StatFs {
            blocks: self.budget.limit() / page,
            bfree: free / page,
            files: self.budget.limit() / INODE_BYTES,
            ffree: free / INODE_BYTES,
            bsize: 4096,
            namelen: 255,
        }
    }

    fn getxattr(&self, node: Local, name: &OsStr) -> Result<Vec<u8>, Error> {
        self.inode(node)?.getxattr(name)
    }

    fn setxattr(
        &self,
        node: Local,
        name: &OsStr,
        value: Option<&[u8]>,
        mode: XattrMode,
    ) -> Result<(), Error> {
        self.inode(node)?.setxattr(name, value, mode)
    }

    fn listxattr(&self, node: Local) -> Result<Vec<OsString>, Error> {
        Ok(self.inode(node)?.listxattr())
    }

    fn cover(&self, dir: Local) -> Result<(), Error> {
        self.names.lock().set_covered(dir, true)
    }

    fn uncover(&self, dir: Local) {
        // It is there: as long as it is covered, neither it nor one above can be removed.
        if let Err(refusal) = self.names.lock().set_covered(dir, false) {
            log::error!(target: "vfs", "directory {} is covered no longer: {refusal}", dir.0);
        }
    }

    fn serve(
        &self,
        dir: Local,
        name: &OsStr,
        served: Arc<dyn Served>,
        mode: u16,
        owner: (u32, u32),
    ) -> Result<(), Error> {
        let attr =
            self.add(Place { dir, name }, Body::Served(served), (mode, owner.0, owner.1), false)?;
        self.put(attr.ino.into());
        Ok(())
    }

    fn path(&self, node: Local) -> Option<PathBuf> {
        self.names.lock().path(node)
    }

    fn devices(&self) -> Vec<NodeLine> {
        let line = |found: DeviceName| {
            let DeviceName { path, device, mode, uid, gid, .. } = found;
            NodeLine { path, device, mode, uid, gid }
        };
        self.device_names().into_iter().map(line).collect()
    }
}
