//! An inode in memory: what it is, its attributes, its bytes.
//!
//! Its two locks are taken one at a time, behind that of the tree of names. It outlives its names
//! and its number while a file on it is open, and its memory is charged until then.

use super::pages::{Budget, Pages};
use crate::error::{Errno, Error};
use crate::file::{Caller, Device};
use crate::sync::{Arc, Mutex, RwLock};
use crate::vfs::fs::{Local, S_ISGID, S_ISUID, Served};
use crate::vfs::{Attr, Change, FileKind, Ino, SetTime, XattrMode};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::{Duration, SystemTime};

/// Length shown of a file that is made anew at every open. Within it the host lets several write
/// at once (fuse_dio_wr_exclusive_lock); else a command that waits would hold up all others.
const SERVED_BYTES: u64 = 8192;

/// Charged for an inode and its name, in bytes; so that names alone cannot fill the host.
pub(super) const INODE_BYTES: u64 = 512;
/// Most bytes of extended attributes of an inode, names and values.
const XATTRS_BYTES_MAX: usize = 65536;
/// A read notes its time when the last note is older than this, or than the last change.
const ATIME_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What an inode is.
pub(super) enum Body {
    Regular(RwLock<Pages>),
    Directory,
    Symlink(OsString),
    Fifo,
    Socket,
    Device(Device),
    Served(Arc<dyn Served>),
}

/// What changes about an inode.
pub(super) struct Meta {
    pub(super) mode: u16,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) atime: SystemTime,
    pub(super) mtime: SystemTime,
    pub(super) ctime: SystemTime,
    /// A device inode that the user made or changed: its state is worth keeping.
    pub(super) is_kept: bool,
    xattrs: BTreeMap<OsString, Vec<u8>>,
}

/// See the head of this file.
pub(super) struct Inode {
    pub(super) number: Local,
    pub(super) body: Body,
    budget: Arc<Budget>,
    pub(super) meta: Mutex<Meta>,
}

impl Meta {
    pub(super) fn new(mode: u16, uid: u32, gid: u32) -> Meta {
        let now = SystemTime::now();
        Meta {
            mode: mode & 0o7777,
            nlink: 1,
            uid,
            gid,
            atime: now,
            mtime: now,
            ctime: now,
            is_kept: false,
            xattrs: BTreeMap::new(),
        }
    }

    /// The bytes, or the names, have changed.
    pub(super) fn modified(&mut self) {
        self.mtime = SystemTime::now();
        self.ctime = self.mtime;
    }

    /// A program that others changed must not run with its owner's rights: what the kernel leaves
    /// to the file system (`FUSE_HANDLE_KILLPRIV_V2`). The group bit without group execution is
    /// mandatory locking of old, and stays.
    fn drop_privileges(&mut self) {
        self.mode &= !S_ISUID;
        if self.mode & 0o010 != 0 {
            self.mode &= !S_ISGID;
        }
    }

    fn xattr_bytes(&self) -> usize {
        self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

impl Inode {
    /// Charges the budget; it is given back when the inode is dropped.
    pub(super) fn new(
        number: Local,
        body: Body,
        budget: &Arc<Budget>,
        meta: Meta,
    ) -> Result<Arc<Inode>, Error> {
        budget.take(INODE_BYTES)?;
        let budget = Arc::clone(budget);
        Ok(Arc::new(Inode { number, body, budget, meta: Mutex::new(meta) }))
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory)
    }

    pub(super) fn is_device(&self) -> bool {
        matches!(self.body, Body::Device(_))
    }

    pub(super) fn is_served(&self) -> bool {
        matches!(self.body, Body::Served(_))
    }

    pub(super) fn kind(&self) -> FileKind {
        match self.body {
            Body::Regular(_) | Body::Served(_) => FileKind::Regular,
            Body::Directory => FileKind::Directory,
            Body::Symlink(_) => FileKind::Symlink,
            Body::Fifo => FileKind::Fifo,
            Body::Socket => FileKind::Socket,
            Body::Device(device) => FileKind::Device(device),
        }
    }

    /// The inode's own part of stat(2); a directory is never to be remembered, as something may be
    /// mounted on it behind the kernel's back, nor is what is served.
    pub(super) fn attr(&self) -> Attr {
        let (size, pages) = match &self.body {
            Body::Regular(pages) => {
                let pages = pages.read();
                (pages.length(), pages.count())
            }
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Served(_) => (SERVED_BYTES, 0),
            _ => (0, 0),
        };
        let meta = self.meta.lock();
        Attr {
            ino: Ino(self.number.0),
            kind: self.kind(),
            shows_device: false,
            mode: meta.mode,
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            size,
            blocks: pages * 8,
            blksize: 4096,
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            may_be_remembered: !(self.is_directory() || self.is_served() || self.is_device()),
        }
    }

    /// Changes attributes. The length first, as only it can fail.
    pub(super) fn change(&self, by: &Caller, change: &Change) -> Result<(), Error> {
        let mut change = *change;
        if let Some(length) = change.size {
            self.truncate(by, length)?;
            if self.is_device() || self.is_served() {
                change.mtime = None; // truncate(2) brings it along, but nothing was truncated
            }
        }
        let Change { mode, uid, gid, atime, mtime, .. } = change;
        if (mode, uid, gid) == (None, None, None) && (atime, mtime) == (None, None) {
            return Ok(());
        }
        let now = SystemTime::now();
        let time = |set: SetTime| match set {
            SetTime::To(time) => time,
            SetTime::Now => now,
        };
        let mut meta = self.meta.lock();
        if uid.is_some() || gid.is_some() {
            meta.uid = uid.unwrap_or(meta.uid);
            meta.gid = gid.unwrap_or(meta.gid);
            if !self.is_directory() {
                meta.drop_privileges();
            }
        }
        if let Some(mode) = mode {
            meta.mode = u16::try_from(mode & 0o7777).unwrap_or(0);
        }
        meta.atime = atime.map_or(meta.atime, time);
        meta.mtime = mtime.map_or(meta.mtime, time);
        meta.ctime = now;
        meta.is_kept |= self.is_device();
        Ok(())
    }

    /// Sets the length of a regular file; on a device and on what is served it does nothing.
    fn truncate(&self, by: &Caller, length: u64) -> Result<(), Error> {
        match &self.body {
            Body::Regular(pages) => {
                pages.write().set_length(length)?;
                self.written(by);
                Ok(())
            }
            Body::Device(_) | Body::Served(_) => Ok(()),
            Body::Directory => Err(Error::plain(Errno::EISDIR)),
            _ => Err(Error::plain(Errno::EINVAL)),
        }
    }

    /// Notes that `by` changed the bytes.
    pub(super) fn written(&self, by: &Caller) {
        let mut meta = self.meta.lock();
        meta.modified();
        if by.uid != 0 {
            meta.drop_privileges();
        }
    }

    /// Notes that somebody read the bytes, as with `relatime` of mount(8).
    pub(super) fn was_read(&self) {
        let now = SystemTime::now();
        let mut meta = self.meta.lock();
        let is_old = now.duration_since(meta.atime).is_ok_and(|age| age >= ATIME_AGE);
        if is_old || meta.atime <= meta.mtime || meta.atime <= meta.ctime {
            meta.atime = now;
        }
    }

    pub(super) fn getxattr(&self, name: &OsStr) -> Result<Vec<u8>, Error> {
        let found = self.meta.lock().xattrs.get(name).cloned();
        found.ok_or_else(|| Error::plain(Errno::ENODATA))
    }

    pub(super) fn listxattr(&self) -> Vec<OsString> {
        self.meta.lock().xattrs.keys().cloned().collect()
    }

    /// Attributes in `user.` belong to what has bytes or names, as on Linux; device inodes, which
    /// the host takes for regular files, may have some too.
    pub(super) fn setxattr(
        &self,
        name: &OsStr,
        value: Option<&[u8]>,
        mode: XattrMode,
    ) -> Result<(), Error> {
        if !matches!(self.body, Body::Regular(_) | Body::Directory | Body::Device(_)) {
            return Err(Error::plain(Errno::EPERM));
        }
        let mut meta = self.meta.lock();
        let old = meta.xattrs.get(name).map(|value| name.len() + value.len());
        match (old, mode, value) {
            (Some(_), XattrMode::Create, _) => return Err(Error::plain(Errno::EEXIST)),
            (None, XattrMode::Replace, _) | (None, _, None) => {
                return Err(Error::plain(Errno::ENODATA));
            }
            _ => {}
        }
        let old = old.unwrap_or(0);
        let new = value.map_or(0, |value| name.len() + value.len());
        if meta.xattr_bytes() - old + new > XATTRS_BYTES_MAX {
            return Err(Error::plain(Errno::ENOSPC));
        }
        self.budget.take(new as u64)?;
        self.budget.give(old as u64);
        match value {
            Some(value) => meta.xattrs.insert(name.to_owned(), value.to_vec()),
            None => meta.xattrs.remove(name),
        };
        meta.ctime = SystemTime::now();
        Ok(())
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        let xattrs = self.meta.get_mut().xattr_bytes() as u64;
        self.budget.give(INODE_BYTES + xattrs);
    }
}
