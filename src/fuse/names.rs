//! Requests on names and inodes: they wait for nothing but a host's disk that keeps them.

use super::attr::{decode, is_placeholder, listed, placeholder, shown, ttl};
use super::reply::{caller, guarded};
use super::{Door, OWN_XATTRS};
use crate::error::{Errno, Error};
use crate::file::{Device, DeviceKind};
use crate::sync::Arc;
use crate::vfs::{Attr, Change, FileKind, Ino, Make, RenameMode, SetTime, Vfs, XattrMode};
use fuser::{
    FileHandle, Generation, INodeNo, RenameFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyStatfs, ReplyXattr, Request, TimeOrNow,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

/// Our inode numbers are never used again, so every node is its number's first.
pub(super) const GENERATION: Generation = Generation(0);

fn inode(node: INodeNo) -> Result<Ino, Error> {
    // Somebody still holds the answer to his mknod; by name he gets the real one.
    if is_placeholder(node) { Err(Errno::ESTALE.into()) } else { Ok(Ino(node.0)) }
}

fn entry(attr: Attr, reply: ReplyEntry) {
    reply.entry(&ttl(&attr), &shown(&attr), GENERATION);
}

fn done((): (), reply: ReplyEmpty) {
    reply.ok();
}

fn time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::SpecificTime(at) => SetTime::To(mended(at)),
        TimeOrNow::Now => SetTime::Now,
    }
}

/// fuser 0.18 counts the nanoseconds of a time before 1970 away from it; they count towards it.
fn mended(at: SystemTime) -> SystemTime {
    let Err(before) = at.duration_since(SystemTime::UNIX_EPOCH) else { return at };
    let nanos = Duration::from_nanos(u64::from(before.duration().subsec_nanos()));
    at.checked_add(nanos * 2).unwrap_or(at)
}

impl Door {
    pub(super) fn on_lookup(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        begin!(self, req, "lookup {parent} {name:?}");
        let run = || self.vfs.lookup(&caller(req), inode(parent)?, name);
        self.answer(req, reply, run, entry);
    }

    pub(super) fn on_forget(&self, req: &Request, node: INodeNo, count: u64) {
        self.order.note(req.unique().0);
        // Nobody waits for an answer, so nobody hears of a placeholder either.
        let _ = guarded(req.unique().0, || {
            self.vfs.forget(inode(node)?, count);
            Ok(())
        });
    }

    pub(super) fn on_getattr(&self, req: &Request, node: INodeNo, reply: ReplyAttr) {
        begin!(self, req, "getattr {node}");
        let run = || self.vfs.getattr(inode(node)?);
        self.answer(req, reply, run, |attr, reply| reply.attr(&ttl(&attr), &shown(&attr)));
    }

    pub(super) fn on_setattr(
        &self,
        req: &Request,
        node: INodeNo,
        (mode, uid, gid, size): (Option<u32>, Option<u32>, Option<u32>, Option<u64>),
        (atime, mtime): (Option<TimeOrNow>, Option<TimeOrNow>),
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (atime.map(time), mtime.map(time));
        let change = Change { mode, uid, gid, size, atime, mtime };
        begin!(self, req, "setattr {node} {change:?}");
        let by = caller(req);
        let run = move |vfs: &Vfs, ino| vfs.setattr(&by, ino, &change);
        let send = |attr: Attr, reply: ReplyAttr| reply.attr(&ttl(&attr), &shown(&attr));
        self.answer_at(req, inode(node), reply, run, send);
    }

    pub(super) fn on_readlink(&self, req: &Request, node: INodeNo, reply: ReplyData) {
        begin!(self, req, "readlink {node}");
        let run = || self.vfs.readlink(inode(node)?);
        self.answer(req, reply, run, |target, reply| reply.data(target.as_bytes()));
    }

    pub(super) fn on_mknod(
        &self,
        req: &Request,
        (parent, name): (INodeNo, &OsStr),
        (mode, umask): (u32, u32),
        rdev: u32,
        reply: ReplyEntry,
    ) {
        begin!(self, req, "mknod {parent} {name:?} {mode:o} {rdev:#x}");
        let (by, name, vfs) = (caller(req), name.to_owned(), Arc::clone(&self.vfs));
        let run = move |vfs: &Vfs, parent| {
            let make = make(mode, rdev)?;
            vfs.mknod(&by, parent, &name, make, mode & 0o7777, umask)
        };
        self.answer_at(req, inode(parent), reply, run, move |attr: Attr, reply: ReplyEntry| {
            if matches!(attr.kind, FileKind::Device(_)) && !attr.shows_device {
                // The host does not learn the real number here, so it will never give it back.
                vfs.forget(attr.ino, 1);
                reply.entry(&Duration::ZERO, &placeholder(&attr), GENERATION);
            } else {
                entry(attr, reply);
            }
        });
    }

    pub(super) fn on_mkdir(
        &self,
        req: &Request,
        (parent, name): (INodeNo, &OsStr),
        (mode, umask): (u32, u32),
        reply: ReplyEntry,
    ) {
        begin!(self, req, "mkdir {parent} {name:?} {mode:o}");
        let run = || self.vfs.mkdir(&caller(req), inode(parent)?, name, mode & 0o7777, umask);
        self.answer(req, reply, run, entry);
    }

    pub(super) fn on_symlink(
        &self,
        req: &Request,
        (parent, name): (INodeNo, &OsStr),
        target: &OsStr,
        reply: ReplyEntry,
    ) {
        begin!(self, req, "symlink {parent} {name:?} {target:?}");
        let run = || self.vfs.symlink(&caller(req), inode(parent)?, name, target);
        self.answer(req, reply, run, entry);
    }

    pub(super) fn on_link(
        &self,
        req: &Request,
        node: INodeNo,
        (parent, name): (INodeNo, &OsStr),
        reply: ReplyEntry,
    ) {
        begin!(self, req, "link {node} {parent} {name:?}");
        let run = || self.vfs.link(&caller(req), inode(node)?, inode(parent)?, name);
        self.answer(req, reply, run, entry);
    }

    pub(super) fn on_unlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEmpty,
    ) {
        begin!(self, req, "unlink {parent} {name:?}");
        let (by, name) = (caller(req), name.to_owned());
        let run = move |vfs: &Vfs, parent| vfs.unlink(&by, parent, &name);
        self.answer_at(req, inode(parent), reply, run, done);
    }

    pub(super) fn on_rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        begin!(self, req, "rmdir {parent} {name:?}");
        let run = || self.vfs.rmdir(&caller(req), inode(parent)?, name);
        self.answer(req, reply, run, done);
    }

    pub(super) fn on_rename(
        &self,
        req: &Request,
        (parent, name): (INodeNo, &OsStr),
        (to_parent, to_name): (INodeNo, &OsStr),
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        begin!(self, req, "rename {parent} {name:?} {to_parent} {to_name:?} {flags}");
        let (by, name, to_name) = (caller(req), name.to_owned(), to_name.to_owned());
        let run = move |vfs: &Vfs, from| {
            let mode = match flags {
                RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
                RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
                plain if plain.is_empty() => RenameMode::Replace,
                _ => return Err(Errno::EINVAL.into()),
            };
            vfs.rename(&by, from, &name, inode(to_parent)?, &to_name, mode)
        };
        self.answer_at(req, inode(parent), reply, run, done);
    }

    pub(super) fn on_opendir(&self, req: &Request, node: INodeNo, reply: fuser::ReplyOpen) {
        begin!(self, req, "opendir {node}");
        let run = || self.vfs.opendir(inode(node)?);
        self.answer(req, reply, run, |handle, reply| {
            reply.opened(FileHandle(handle), fuser::FopenFlags::empty());
        });
    }

    pub(super) fn on_readdir(
        &self,
        req: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        begin!(self, req, "readdir {node} {offset}");
        // Filled outside of `answer`, which takes the reply only when all is in it.
        let run = || {
            self.vfs.readdir(inode(node)?, handle.0, offset, &mut |entry| {
                reply.add(INodeNo(entry.ino.0), entry.next, listed(entry.kind), entry.name)
            })
        };
        let filled = guarded(req.unique().0, run);
        self.answer(req, reply, || filled, |(), reply| reply.ok());
    }

    pub(super) fn on_releasedir(&self, req: &Request, handle: FileHandle, reply: ReplyEmpty) {
        begin!(self, req, "releasedir {handle}");
        let run = || {
            self.vfs.releasedir(handle.0);
            Ok(())
        };
        self.answer(req, reply, run, done);
    }

    pub(super) fn on_statfs(&self, req: &Request, node: INodeNo, reply: ReplyStatfs) {
        begin!(self, req, "statfs {node}");
        let run = || self.vfs.statfs(inode(node)?);
        self.answer(req, reply, run, |s, reply| {
            // One number for both kinds of free blocks: none are kept back for the superuser.
            reply.statfs(s.blocks, s.bfree, s.bfree, s.files, s.ffree, s.bsize, s.namelen, s.bsize);
        });
    }

    pub(super) fn on_getxattr(
        &self,
        req: &Request,
        node: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        begin!(self, req, "getxattr {node} {name:?}");
        let run = || {
            let ino = inode(node)?;
            let own = (ino == Ino::ROOT).then(|| self.about.value(name)).flatten();
            own.map_or_else(|| self.vfs.getxattr(ino, name), Ok)
        };
        self.answer(req, reply, run, |value, reply| sized(&value, size, reply));
    }

    pub(super) fn on_setxattr(
        &self,
        req: &Request,
        (node, name): (INodeNo, &OsStr),
        value: &[u8],
        flags: i32,
        reply: ReplyEmpty,
    ) {
        begin!(self, req, "setxattr {node} {name:?} {} bytes", value.len());
        let run = || {
            let ino = writable_xattr(node, name)?;
            let mode = match flags {
                0 => XattrMode::Any,
                libc::XATTR_CREATE => XattrMode::Create,
                libc::XATTR_REPLACE => XattrMode::Replace,
                _ => return Err(Errno::EINVAL.into()),
            };
            self.vfs.setxattr(&caller(req), ino, name, value, mode)
        };
        self.answer(req, reply, run, done);
    }

    pub(super) fn on_listxattr(&self, req: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        begin!(self, req, "listxattr {node}");
        let run = || {
            let ino = inode(node)?;
            let mut names = self.vfs.listxattr(ino)?;
            for own in OWN_XATTRS.iter().filter(|_| ino == Ino::ROOT) {
                names.extend_from_slice(own.as_bytes());
                names.push(0);
            }
            Ok(names)
        };
        self.answer(req, reply, run, |names, reply| sized(&names, size, reply));
    }

    pub(super) fn on_removexattr(
        &self,
        req: &Request,
        node: INodeNo,
        name: &OsStr,
        reply: ReplyEmpty,
    ) {
        begin!(self, req, "removexattr {node} {name:?}");
        let run = || self.vfs.removexattr(&caller(req), writable_xattr(node, name)?, name);
        self.answer(req, reply, run, done);
    }
}

/// What mknod(2) with the type bits of `mode` makes.
fn make(mode: u32, rdev: u32) -> Result<Make, Error> {
    let device = |kind| Make::Device(Device { kind, id: decode(rdev) });
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Ok(Make::Regular),
        libc::S_IFIFO => Ok(Make::Fifo),
        libc::S_IFSOCK => Ok(Make::Socket),
        libc::S_IFBLK => Ok(device(DeviceKind::Block)),
        libc::S_IFCHR => Ok(device(DeviceKind::Char)),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// The inode, if this attribute of it is anybody's to change.
fn writable_xattr(node: INodeNo, name: &OsStr) -> Result<Ino, Error> {
    let ino = inode(node)?;
    if ino == Ino::ROOT && OWN_XATTRS.iter().any(|own| OsStr::new(own) == name) {
        return Err(Error::new(Errno::EPERM, "what the daemon says of itself is read only"));
    }
    Ok(ino)
}

/// Attributes are asked for twice: how long, then what.
fn sized(value: &[u8], size: u32, reply: ReplyXattr) {
    let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
    if size == 0 {
        reply.size(len);
    } else if len <= size {
        reply.data(value);
    } else {
        reply.error(fuser::Errno::ERANGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devices::DevId;

    #[test]
    fn mknod_makes_what_the_mode_says() {
        let sd1 = Device { kind: DeviceKind::Block, id: DevId { major: 8, minor: 16 } };
        assert_eq!(make(libc::S_IFBLK | 0o660, 0x810).unwrap(), Make::Device(sd1));
        assert_eq!(make(libc::S_IFREG | 0o644, 0).unwrap(), Make::Regular);
        assert_eq!(make(libc::S_IFIFO, 0).unwrap(), Make::Fifo);
        assert_eq!(make(libc::S_IFSOCK, 0).unwrap(), Make::Socket);
        assert_eq!(make(libc::S_IFLNK, 0).unwrap_err().errno, Errno::EINVAL);
    }

    #[test]
    fn what_the_daemon_says_of_itself_is_read_only() {
        let own = OsStr::new(OWN_XATTRS[0]);
        assert_eq!(writable_xattr(INodeNo(1), own).unwrap_err().errno, Errno::EPERM);
        assert_eq!(writable_xattr(INodeNo(2), own).unwrap(), Ino(2));
        assert_eq!(writable_xattr(INodeNo(1), OsStr::new("user.x")).unwrap(), Ino::ROOT);
    }

    #[test]
    fn a_time_before_1970_keeps_its_fraction() {
        // utimensat(2) with -5 s and 500,000,000 ns is 4.5 s before, and fuser says 5.5.
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(
            mended(epoch - Duration::from_millis(5500)),
            epoch - Duration::from_millis(4500)
        );
        for whole in [epoch, epoch - Duration::from_secs(5), epoch + Duration::from_millis(5500)] {
            assert_eq!(mended(whole), whole);
        }
    }

    #[test]
    fn a_placeholder_is_stale_to_every_call() {
        assert_eq!(inode(INodeNo(1 << 63 | 7)).unwrap_err().errno, Errno::ESTALE);
        assert_eq!(inode(INodeNo(7)).unwrap(), Ino(7));
    }
}
