//! Mounting and unmounting at run time.

use super::fs::{FileSystem, Local};
use super::inode::FsNumber;
use super::mounts::{Mounted, Origin};
use super::tree::{Follow, MountLine, Unmount, Vfs};
use super::{FileKind, Ino};
use crate::error::{Errno, Error};
use crate::file::{Answer, Device};
use crate::sync::Arc;
use devices::Interrupt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An unmount waits so long in all for a RELEASE under way, in slices, should it miss the bell.
const SLICES: u32 = 10;
const SLICE: Duration = Duration::from_millis(5);
/// Most times that an unmount looks again because something, but not all, was closed.
const LOOKS_MAX: u32 = 1000;

/// The mount table and what can be done to it.
pub struct Mounts<'a> {
    pub(super) vfs: &'a Vfs,
}

impl Vfs {
    /// The mount table.
    #[must_use]
    pub fn mounts(&self) -> Mounts<'_> {
        Mounts { vfs: self }
    }
}

impl Mounts<'_> {
    /// Mounts `fs` on the directory `path`. `device` is what it is made of: the path of a device
    /// inode, or a word such as `none`. Of the options, `ro` is obeyed here.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`; `EBUSY` for a device or a directory in use; those of walk.
    pub fn mount(
        &self,
        fs: Arc<dyn FileSystem>,
        path: &Path,
        device: &str,
        kind: &str,
        options: &str,
    ) -> Result<(), Error> {
        let (prefix, on) = self.vfs.find(path, Follow::Yes)?;
        let shown = prefix.display().to_string();
        let story = |refusal: Error| match refusal.errno {
            Errno::ENOTDIR => Error::new(Errno::ENOTDIR, format!("{shown}: not a directory")),
            Errno::EBUSY => {
                Error::new(Errno::EBUSY, format!("{shown}: something is mounted there"))
            }
            _ => refusal,
        };
        let node = on.attr.ino.split().1;
        if on.attr.kind != FileKind::Directory {
            return Err(story(Error::plain(Errno::ENOTDIR)));
        }
        if node == on.mount.fs.root() {
            return Err(story(Error::plain(Errno::EBUSY))); // the walk has crossed a mount to here
        }
        let special = self.special(device);
        // Covering comes first: it keeps the directory where it is, and others from mounting on it.
        on.mount.fs.cover(node).map_err(story)?;
        let what = Mounted {
            prefix,
            device: device.to_owned(),
            special,
            kind: kind.to_owned(),
            options: normal(options),
            origin: Origin::User,
        };
        self.vfs.mounts.add(fs, what, Some(on.attr.ino)).inspect_err(|_| {
            on.mount.fs.uncover(node);
        })?;
        log::info!(target: "vfs", "{device} is mounted on {shown}, type {kind}");
        Ok(())
    }

    fn special(&self, device: &str) -> Option<Device> {
        if !device.starts_with('/') {
            return None;
        }
        match self.vfs.find(Path::new(device), Follow::Yes).ok()?.1.attr.kind {
            FileKind::Device(device) => Some(device),
            _ => None,
        }
    }

    /// Takes a mount away. `Later` waits up to 50 ms for a close under way, then says `EBUSY`.
    ///
    /// # Errors
    /// `EINVAL` unless something is mounted there; `EBUSY` with open files, with mounts inside, and
    /// for what belongs to the machine; the file system's when it could not write what it holds.
    pub fn umount(&self, path: &Path, how: Unmount) -> Result<Answer<()>, Error> {
        let (prefix, on) = self.vfs.find(path, Follow::Yes)?;
        let (number, node) = on.attr.ino.split();
        if node != on.mount.fs.root() {
            let words = format!("{}: nothing is mounted there", prefix.display());
            return Err(Error::new(Errno::EINVAL, words));
        }
        drop(on);
        let is_open = self.vfs.user_of(number).is_some();
        if how == Unmount::Polite && is_open {
            let me = self.vfs.me.upgrade().ok_or_else(|| Error::plain(Errno::EBUSY))?;
            return Ok(Answer::Later(Box::new(move |interrupt| me.detach_soon(number, interrupt))));
        }
        self.vfs.detach(number, how).map(Answer::Now)
    }

    /// All mounts, by age.
    #[must_use]
    pub fn list(&self) -> Vec<MountLine> {
        let line = |mount: Arc<super::mounts::Mount>| MountLine {
            device: mount.what.device.clone(),
            prefix: mount.what.prefix.clone(),
            kind: mount.what.kind.clone(),
            options: mount.what.options.clone(),
        };
        self.vfs.mounts.list().into_iter().map(line).collect()
    }

    /// Where a device is mounted, by whatever name.
    #[must_use]
    pub fn of_device(&self, device: Device) -> Option<PathBuf> {
        let all = self.vfs.mounts.list();
        let found = all.into_iter().find(|mount| mount.what.special == Some(device))?;
        Some(found.what.prefix.clone())
    }
}

/// Options as they are shown: `rw` or `ro` first.
fn normal(options: &str) -> String {
    let is_read_only = options.split(',').rfind(|option| matches!(*option, "ro" | "rw"));
    let mut all = vec![is_read_only.unwrap_or("rw")];
    all.extend(options.split(',').filter(|option| !matches!(*option, "" | "ro" | "rw")));
    all.join(",")
}

impl Vfs {
    /// Who has something of a file system open. It asks the tables of open files and directories
    /// alone, and may be asked with the mount table locked.
    fn user_of(&self, number: FsNumber) -> Option<String> {
        let is_in = |ino: Ino| ino.split().0 == number;
        if let Some(file) = self.files.list().into_iter().find(|file| is_in(Ino(file.ino))) {
            return Some(format!("process {} has {} open", file.opener.pid, file.path));
        }
        self.dirs.find(is_in).map(|_| "somebody lists a directory of it".to_owned())
    }

    fn detach(&self, number: FsNumber, how: Unmount) -> Result<(), Error> {
        let (mount, _) = self.mounts.of(Ino::of(number, Local(0)))?;
        mount.fs.sync()?;
        // The order of locks is mounts, then open files and directories; see `crate::sync`.
        let mount = self.mounts.remove(number, || match how {
            Unmount::Polite => self.user_of(number),
            Unmount::Force => None,
        })?;
        self.inodes.forget_all(number);
        if let Some(dir) = mount.covers
            && let Ok((above, node)) = self.mounts.of(dir)
        {
            above.fs.uncover(node);
        }
        log::info!(target: "vfs", "{} is mounted no longer", mount.what.prefix.display());
        Ok(())
    }

    /// Unmounts as soon as what is being closed is closed.
    fn detach_soon(&self, number: FsNumber, interrupt: &Interrupt) -> Result<(), Error> {
        interrupt.watch(&self.closed);
        let mut slices = 0;
        for _ in 0..LOOKS_MAX {
            let seen = self.closed.generation();
            match self.detach(number, Unmount::Polite) {
                Err(refusal) if refusal.errno == Errno::EBUSY && slices < SLICES => {
                    if interrupt.is_raised() {
                        return Err(Error::plain(Errno::EINTR));
                    }
                    if !self.closed.wait(seen, Some(SLICE)) {
                        slices += 1;
                    }
                }
                outcome => return outcome,
            }
        }
        self.detach(number, Unmount::Polite)
    }
}
