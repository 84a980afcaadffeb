//! Extended attributes: `user.` of whoever, and `user.spindle.dev` of every device inode.
//!
//! Other name spaces are refused: their meaning is the host's. Who may read and write the kernel
//! has checked by the permission bits.

use super::tree::Vfs;
use super::{FileKind, Ino, NAME_BYTES_MAX, XattrMode};
use crate::error::{Errno, Error};
use crate::file::Caller;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Kind and numbers of a device inode, as `b 8 0`. Made when asked for; nobody sets it.
const DEV: &str = "user.spindle.dev";
/// Longest value, in bytes: `XATTR_SIZE_MAX` of Linux.
const VALUE_BYTES_MAX: usize = 65536;

fn check_xattr_name(name: &OsStr) -> Result<(), Error> {
    let bytes = name.as_bytes();
    match bytes.strip_prefix(b"user.") {
        None => Err(Error::plain(Errno::EOPNOTSUPP)),
        Some(b"") => Err(Error::plain(Errno::EINVAL)),
        Some(_) if bytes.len() > NAME_BYTES_MAX => Err(Error::plain(Errno::ERANGE)),
        Some(_) if bytes.contains(&0) => Err(Error::plain(Errno::EINVAL)),
        Some(_) => Ok(()),
    }
}

impl Vfs {
    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`; `EOPNOTSUPP` outside `user.`.
    pub fn getxattr(&self, ino: Ino, name: &OsStr) -> Result<Vec<u8>, Error> {
        check_xattr_name(name)?;
        let (mount, node) = self.mounts.of(ino)?;
        if name == DEV {
            return match mount.fs.getattr(node)?.kind {
                FileKind::Device(device) => Ok(device.to_string().into_bytes()),
                _ => Err(Error::plain(Errno::ENODATA)),
            };
        }
        mount.fs.getxattr(node, name)
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA`, `ENOSPC`, `E2BIG`, `EPERM`, `EROFS`; `EOPNOTSUPP` outside `user.`.
    pub fn setxattr(
        &self,
        _caller: &Caller,
        ino: Ino,
        name: &OsStr,
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), Error> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::plain(Errno::E2BIG));
        }
        self.change_xattr(ino, name, Some(value), mode)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`, `EPERM`, `EROFS`; `EOPNOTSUPP` outside `user.`.
    pub fn removexattr(&self, _caller: &Caller, ino: Ino, name: &OsStr) -> Result<(), Error> {
        self.change_xattr(ino, name, None, XattrMode::Replace)
    }

    fn change_xattr(
        &self,
        ino: Ino,
        name: &OsStr,
        value: Option<&[u8]>,
        mode: XattrMode,
    ) -> Result<(), Error> {
        check_xattr_name(name)?;
        if name == DEV {
            return Err(Error::plain(Errno::EPERM));
        }
        let (mount, node) = self.writable(ino)?;
        mount.fs.setxattr(node, name, value, mode)
    }

    /// The names of the extended attributes, each ended by a NUL, as listxattr(2) gives them.
    ///
    /// # Errors
    /// `ESTALE`.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>, Error> {
        let (mount, node) = self.mounts.of(ino)?;
        let is_device = matches!(mount.fs.getattr(node)?.kind, FileKind::Device(_));
        let mut list = Vec::new();
        if is_device {
            list.extend_from_slice(DEV.as_bytes());
            list.push(0);
        }
        for name in mount.fs.listxattr(node)? {
            list.extend_from_slice(name.as_bytes());
            list.push(0);
        }
        Ok(list)
    }
}
