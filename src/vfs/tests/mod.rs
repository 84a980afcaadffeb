//! Tests of the tree as those who call it see it: no FUSE, and devices that only say their size.

mod listing;
mod model;
mod mounting;
mod names;
mod nodes;
mod opening;
mod walking;

use super::fs::O_TRUNC;
use super::*;
use crate::error::{Errno, Error};
use crate::file::{
    Answer, Call, Caller, Device, DeviceKind, FileOps, Nature, OpenFile, Seek, SpecialFiles,
};
use crate::sync::Arc;
use devices::{DevId, Interrupt};
use std::ffi::OsStr;
use std::path::Path;

pub(super) const ROOT_USER: Caller = Caller { pid: 1, uid: 0, gid: 0 };
pub(super) const USER: Caller = Caller { pid: 2, uid: 1000, gid: 1000 };
pub(super) const OTHER: Caller = Caller { pid: 3, uid: 2000, gid: 2000 };
pub(super) const SD0: Device = device(DeviceKind::Block, 8, 0);
pub(super) const SD1: Device = device(DeviceKind::Block, 8, 16);
const O_RDWR: i32 = 2;

pub(super) const fn device(kind: DeviceKind, major: u16, minor: u32) -> Device {
    Device { kind, id: DevId { major, minor } }
}

/// A switch in which row 8 has disks of 1 MiB, and no other row anything.
struct Disks;

struct Disk;

impl FileOps for Disk {
    fn kind(&self) -> &'static str {
        "block"
    }

    fn nature(&self) -> Nature {
        Nature::default()
    }

    fn read(&self, _: &Call, _: u64, _: &mut Vec<u8>) -> Result<Answer<usize, Vec<u8>>, Error> {
        Ok(Answer::Now(0))
    }

    fn write(&self, _: &Call, _: u64, data: &[u8]) -> Result<Answer<usize>, Error> {
        Ok(Answer::Now(data.len()))
    }

    fn seek(&self, at: u64, _: Seek) -> Result<Answer<u64>, Error> {
        Ok(Answer::Now(at))
    }
}

impl SpecialFiles for Disks {
    fn open(&self, device: Device, _: &Caller, _: i32) -> Result<Arc<dyn FileOps>, Error> {
        if device.id.major == 8 { Ok(Arc::new(Disk)) } else { Err(Error::plain(Errno::ENXIO)) }
    }

    fn size(&self, device: Device) -> u64 {
        if device.id.major == 8 { 1 << 20 } else { 0 }
    }
}

/// A tree that belongs to [`USER`].
pub(super) fn tree() -> Arc<Vfs> {
    Vfs::new(Arc::new(Disks), Arc::default(), (USER.uid, USER.gid))
}

pub(super) fn at(vfs: &Vfs, path: &str) -> Ino {
    vfs.walk(Path::new(path), Follow::No).unwrap_or_else(|refusal| panic!("{path}: {refusal}"))
}

/// The errno of a call that must fail.
pub(super) fn errno<T>(outcome: Result<T, Error>) -> Errno {
    match outcome {
        Ok(_) => panic!("it should have failed"),
        Err(refusal) => refusal.errno,
    }
}

fn split(path: &str) -> (&str, &OsStr) {
    let (dir, name) = path.rsplit_once('/').unwrap();
    (if dir.is_empty() { "/" } else { dir }, OsStr::new(name))
}

pub(super) fn mkdir(vfs: &Vfs, path: &str) -> Ino {
    let (dir, name) = split(path);
    let ino = vfs.mkdir(&USER, at(vfs, dir), name, 0o755, 0).unwrap().ino;
    vfs.forget(ino, 1);
    ino
}

pub(super) fn touch(vfs: &Vfs, path: &str) -> Ino {
    let (dir, name) = split(path);
    let ino = vfs.mknod(&USER, at(vfs, dir), name, Make::Regular, 0o644, 0).unwrap().ino;
    vfs.forget(ino, 1);
    ino
}

pub(super) fn mknod(vfs: &Vfs, path: &str, device: Device) -> Ino {
    let (dir, name) = split(path);
    let made = vfs.mknod(&ROOT_USER, at(vfs, dir), name, Make::Device(device), 0o640, 0);
    let ino = made.unwrap().ino;
    vfs.forget(ino, 1);
    ino
}

pub(super) fn symlink(vfs: &Vfs, path: &str, target: &str) {
    let (dir, name) = split(path);
    let ino = vfs.symlink(&USER, at(vfs, dir), name, OsStr::new(target)).unwrap().ino;
    vfs.forget(ino, 1);
}

pub(super) fn unlink(vfs: &Vfs, path: &str) -> Result<(), Error> {
    let (dir, name) = split(path);
    vfs.unlink(&USER, at(vfs, dir), name)
}

pub(super) fn rmdir(vfs: &Vfs, path: &str) -> Result<(), Error> {
    let (dir, name) = split(path);
    vfs.rmdir(&USER, at(vfs, dir), name)
}

pub(super) fn rename(vfs: &Vfs, from: &str, to: &str, mode: RenameMode) -> Result<(), Error> {
    let ((dir, name), (to_dir, to_name)) = (split(from), split(to));
    vfs.rename(&USER, at(vfs, dir), name, at(vfs, to_dir), to_name, mode)
}

pub(super) fn exists(vfs: &Vfs, path: &str) -> bool {
    vfs.walk(Path::new(path), Follow::No).is_ok()
}

pub(super) fn call(caller: Caller) -> Call {
    Call { caller, flags: 0, id: 0 }
}

pub(super) fn wait<N, L: From<N>>(answer: Answer<N, L>) -> Result<L, Error> {
    match answer {
        Answer::Now(now) => Ok(now.into()),
        Answer::Later(rest) => rest(&Interrupt::default()),
        Answer::Blocked(rest) => rest.wait(&Interrupt::default()),
    }
}

pub(super) fn write(file: &OpenFile, by: Caller, offset: u64, data: &[u8]) -> Result<usize, Error> {
    wait(file.ops.write(&call(by), offset, data)?)
}

pub(super) fn read(file: &OpenFile, by: Caller, offset: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    match file.ops.read(&call(by), offset, &mut buf).unwrap() {
        Answer::Now(got) => buf.truncate(got),
        Answer::Later(rest) => buf = rest(&Interrupt::default()).unwrap(),
        Answer::Blocked(rest) => buf = rest.wait(&Interrupt::default()).unwrap(),
    }
    buf
}

/// All names of a directory, in the order of its listing.
pub(super) fn names(vfs: &Vfs, path: &str) -> Vec<String> {
    let ino = at(vfs, path);
    let handle = vfs.opendir(ino).unwrap();
    let mut names = Vec::new();
    let mut take = |entry: DirEntry| {
        names.push(entry.name.into_string().unwrap());
        false
    };
    vfs.readdir(ino, handle, 0, &mut take).unwrap();
    vfs.releasedir(handle);
    names.retain(|name| name != "." && name != "..");
    names
}

pub(super) fn mount_mem(vfs: &Vfs, path: &str) -> Result<(), Error> {
    let fs = MemFs::from_options("size=1M", (USER.uid, USER.gid)).unwrap();
    vfs.mounts().mount(fs, Path::new(path), "none", "mem", "size=1M")
}

pub(super) fn umount(vfs: &Vfs, path: &str) -> Result<(), Error> {
    wait(vfs.mounts().umount(Path::new(path), Unmount::Polite)?)
}
