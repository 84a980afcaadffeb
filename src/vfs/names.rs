//! Calls that make, move and remove names.
//!
//! Who may do so the host's kernel has checked before it asks (`default_permissions`): search and
//! write permission on the directories, the sticky bit, and `CAP_MKNOD` for devices. Whom else a
//! call serves must have asked [`Vfs::check`] himself.

use super::fs::{Content, New};
use super::tree::Vfs;
use super::walk::{Held, check_name};
use super::{Attr, Ino, Make, PATH_BYTES_MAX, RenameMode};
use crate::error::{Errno, Error};
use crate::file::Caller;
use std::ffi::OsStr;

/// Refuses a name that cannot be given to anything.
fn check_new_name(name: &OsStr) -> Result<(), Error> {
    check_name(name)?;
    if name == "." || name == ".." { Err(Error::plain(Errno::EEXIST)) } else { Ok(()) }
}

/// Refuses names that every directory has: they are not taken away or moved.
fn check_own_name(name: &OsStr, dot: Errno, dots: Errno) -> Result<(), Error> {
    match name.to_str() {
        Some(".") => Err(Error::plain(dot)),
        Some("..") => Err(Error::plain(dots)),
        _ => check_name(name),
    }
}

impl Vfs {
    pub(super) fn make(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &OsStr,
        content: Content<'_>,
        mode: u32,
    ) -> Result<Attr, Error> {
        check_new_name(name)?;
        let (mount, dir) = self.writable(parent)?;
        let mode = u16::try_from(mode & 0o7777).unwrap_or(0);
        let new = New { content, mode, uid: caller.uid, gid: caller.gid };
        let attr = mount.fs.make(dir, name, &new)?;
        let attr = self.shown(&mount, attr);
        self.keep_nodes(&mount);
        Ok(self.remember(Held::new(mount, attr)))
    }

    /// Makes a file that is no directory; counts a reference, as do the next three.
    ///
    /// # Errors
    /// `EEXIST`, `ENOSPC`, `EROFS`; `EPERM` for a device unless user 0 or the tree's owner; those
    /// of lookup.
    pub fn mknod(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &OsStr,
        make: Make,
        mode: u32,
        umask: u32,
    ) -> Result<Attr, Error> {
        let content = match make {
            Make::Regular => Content::Regular,
            Make::Fifo => Content::Fifo,
            Make::Socket => Content::Socket,
            // The kernel lets only the host's root come here; the owner comes through `ctl`.
            Make::Device(_) if caller.uid != 0 && caller.uid != self.owner.0 => {
                return Err(Error::plain(Errno::EPERM));
            }
            Make::Device(device) => Content::Device(device),
        };
        self.make(caller, parent, name, content, mode & !umask)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// Those of mknod; `EMLINK`.
    pub fn mkdir(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        umask: u32,
    ) -> Result<Attr, Error> {
        self.make(caller, parent, name, Content::Directory, mode & !umask)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// Those of mknod; `ENAMETOOLONG`, `ENOENT` for a target too long or empty.
    pub fn symlink(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &OsStr,
        target: &OsStr,
    ) -> Result<Attr, Error> {
        match target.len() {
            0 => Err(Error::plain(Errno::ENOENT)),
            PATH_BYTES_MAX.. => Err(Error::plain(Errno::ENAMETOOLONG)),
            _ => self.make(caller, parent, name, Content::Symlink(target), 0o777),
        }
    }

    /// Gives an inode another name.
    ///
    /// # Errors
    /// `EPERM` for a directory, `EXDEV` across mounts, `EMLINK`; those of mknod.
    pub fn link(
        &self,
        _caller: &Caller,
        ino: Ino,
        parent: Ino,
        name: &OsStr,
    ) -> Result<Attr, Error> {
        check_new_name(name)?;
        let (mount, dir) = self.writable(parent)?;
        let (fs, node) = ino.split();
        if fs != mount.number {
            return Err(Error::plain(Errno::EXDEV));
        }
        let attr = mount.fs.link(node, dir, name)?;
        let attr = self.shown(&mount, attr);
        self.keep_nodes(&mount);
        Ok(self.remember(Held::new(mount, attr)))
    }

    /// Takes a name away; what is open under it lives on.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EPERM` for what belongs to the machine, `EROFS`.
    pub fn unlink(&self, caller: &Caller, parent: Ino, name: &OsStr) -> Result<(), Error> {
        check_own_name(name, Errno::EISDIR, Errno::EISDIR)?;
        let (mount, dir) = self.writable(parent)?;
        mount.fs.unlink_by(caller, dir, name)?;
        self.keep_nodes(&mount);
        Ok(())
    }

    /// Takes an empty directory away.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EROFS`; `EBUSY` where something is mounted.
    pub fn rmdir(&self, _caller: &Caller, parent: Ino, name: &OsStr) -> Result<(), Error> {
        check_own_name(name, Errno::EINVAL, Errno::ENOTEMPTY)?;
        let (mount, dir) = self.writable(parent)?;
        mount.fs.rmdir(dir, name)
    }

    /// Renames (renameat2(2)).
    ///
    /// # Errors
    /// `EXDEV` across mounts, `EBUSY` for a mount point or what one is beneath, `EINVAL` into
    /// itself, `ENOTEMPTY`, `EISDIR`, `ENOTDIR`, `EEXIST`, `ENOENT`, `EROFS`.
    pub fn rename(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &OsStr,
        to_parent: Ino,
        to_name: &OsStr,
        mode: RenameMode,
    ) -> Result<(), Error> {
        check_own_name(name, Errno::EBUSY, Errno::EBUSY)?;
        check_own_name(to_name, Errno::EBUSY, Errno::EBUSY)?;
        let (mount, dir) = self.writable(parent)?;
        let (to_fs, to_dir) = to_parent.split();
        if to_fs != mount.number {
            return Err(Error::plain(Errno::EXDEV));
        }
        mount.fs.rename_by(caller, (dir, name), (to_dir, to_name), mode)?;
        self.keep_nodes(&mount);
        Ok(())
    }
}
