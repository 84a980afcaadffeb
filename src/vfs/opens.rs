//! Calls that open, and what follows from them: files, directories, listings.

use super::fs::{Content, O_ACCMODE, O_EXCL, O_RDONLY, O_TRUNC};
use super::tree::Vfs;
use super::walk::Held;
use super::{Attr, Change, DirEntry, FileKind, Ino};
use crate::error::{Errno, Error};
use crate::file::{Caller, OPEN_FILES_MAX, OpenFile};
use crate::sync::{Arc, Mutex};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::atomic::AtomicU64;

/// Entries asked of a file system at a time.
const BATCH: usize = 64;
/// How often an opening by name begins anew when the name comes and goes meanwhile.
const CREATE_TRIES: usize = 8;

/// The open directories.
#[derive(Default)]
pub(super) struct DirHandles {
    table: Mutex<DirTable>,
}

#[derive(Default)]
struct DirTable {
    open: HashMap<u64, Ino>,
    last: u64,
}

impl DirHandles {
    fn insert(&self, ino: Ino) -> Result<u64, Error> {
        let mut table = self.table.lock();
        if table.open.len() >= OPEN_FILES_MAX {
            return Err(Error::new(Errno::ENFILE, "too many directories are open"));
        }
        table.last += 1;
        let handle = table.last;
        table.open.insert(handle, ino);
        Ok(handle)
    }

    fn get(&self, handle: u64) -> Option<Ino> {
        self.table.lock().open.get(&handle).copied()
    }

    fn remove(&self, handle: u64) -> Option<Ino> {
        self.table.lock().open.remove(&handle)
    }

    /// An open directory for which `is_it` holds.
    pub(super) fn find(&self, is_it: impl Fn(Ino) -> bool) -> Option<Ino> {
        self.table.lock().open.values().copied().find(|ino| is_it(*ino))
    }
}

impl Vfs {
    /// Opens, and enters the file in the open-file table; `O_TRUNC` is obeyed here on what has a
    /// length, and ignored on devices. Leave by [`Vfs::close`].
    ///
    /// # Errors
    /// `EISDIR`, `EROFS`, `ENFILE`, `ENXIO` for a FIFO or socket, `EACCES` under `/nodes`; the
    /// device's.
    pub fn open(&self, caller: &Caller, ino: Ino, flags: i32) -> Result<Arc<OpenFile>, Error> {
        self.open_held(caller, &self.held(ino)?, flags)
    }

    /// Whether opening waits for something slow, such as the host's disk.
    #[must_use]
    pub fn opens_slowly(&self, ino: Ino) -> bool {
        let Ok((mount, node)) = self.mounts.of(ino) else { return false };
        mount.fs.waits()
            || match mount.fs.getattr(node).map(|attr| attr.kind) {
                Ok(FileKind::Device(device)) => self.special.opens_slowly(device),
                _ => false,
            }
    }

    fn open_held(&self, caller: &Caller, held: &Held, flags: i32) -> Result<Arc<OpenFile>, Error> {
        let Held { mount, attr, .. } = held;
        let node = attr.ino.split().1;
        let ops = match attr.kind {
            FileKind::Device(_) if attr.shows_device => return Err(Error::plain(Errno::EACCES)),
            FileKind::Device(device) => self.special.open(device, caller, flags)?,
            kind => {
                let is_writing = flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0;
                if kind == FileKind::Regular && is_writing && mount.is_read_only() {
                    return Err(Error::plain(Errno::EROFS));
                }
                let ops = mount.fs.open(caller, node, flags)?;
                let is_done = mount.fs.truncates_at_open();
                if kind == FileKind::Regular && flags & O_TRUNC != 0 && !is_done {
                    let empty = Change { size: Some(0), ..Change::default() };
                    mount.fs.setattr(caller, node, &empty).inspect_err(|_| ops.release())?;
                }
                ops
            }
        };
        let path = match self.path(attr.ino) {
            Some(path) => path.to_string_lossy().into_owned(),
            None => format!("#{}", attr.ino.0),
        };
        let entered = self.files.insert(|handle| OpenFile {
            handle,
            ino: attr.ino.0,
            opener: *caller,
            path,
            flags,
            ops: Arc::clone(&ops),
            offset: AtomicU64::new(0),
        });
        let file = entered.inspect_err(|_| ops.release())?;
        // An unmount either saw the file in the table, or is seen here.
        if self.mounts.of(attr.ino).is_err() {
            self.close(file.handle);
            return Err(Error::plain(Errno::ESTALE));
        }
        Ok(file)
    }

    /// Opens by name, making a regular file where there is none; counts a reference.
    ///
    /// # Errors
    /// Those of mknod and open; `EEXIST` with `O_EXCL`.
    pub fn create(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
    ) -> Result<(Attr, Arc<OpenFile>), Error> {
        for _ in 0..CREATE_TRIES {
            let made = self.make(caller, parent, name, Content::Regular, mode & !umask);
            let attr = match made {
                Err(refusal) if refusal.errno == Errno::EEXIST && flags & O_EXCL == 0 => {
                    match self.lookup(caller, parent, name) {
                        Err(gone) if gone.errno == Errno::ENOENT => continue,
                        found => found?,
                    }
                }
                made => made?,
            };
            return match self.open(caller, attr.ino, flags) {
                Ok(file) => Ok((self.getattr(attr.ino)?, file)),
                Err(refusal) => {
                    self.forget(attr.ino, 1);
                    Err(refusal)
                }
            };
        }
        Err(Error::plain(Errno::ENOENT))
    }

    /// Takes a file out of the open-file table and releases it. Wakes an unmount that waits for it.
    pub fn close(&self, handle: u64) {
        if let Some(file) = self.files.remove(handle) {
            file.ops.release();
            self.closed.ring();
        }
    }

    /// A handle for [`Vfs::readdir`], until [`Vfs::releasedir`].
    ///
    /// # Errors
    /// `ENOTDIR`, `ENFILE`, `ESTALE`.
    pub fn opendir(&self, ino: Ino) -> Result<u64, Error> {
        let held = self.held(ino)?;
        if held.attr.kind != FileKind::Directory {
            return Err(Error::plain(Errno::ENOTDIR));
        }
        let handle = self.dirs.insert(ino)?;
        if self.mounts.of(ino).is_err() {
            self.dirs.remove(handle);
            return Err(Error::plain(Errno::ESTALE));
        }
        held.keep();
        Ok(handle)
    }

    /// Calls `entry` for `.`, `..` and the names behind `offset` (0, or a [`DirEntry::next`]) until
    /// it says `true`: full, this one was not taken. A name that is there from the first call to
    /// the last comes once.
    ///
    /// # Errors
    /// `EBADF`, `ENOTDIR`, `ESTALE`.
    pub fn readdir(
        &self,
        ino: Ino,
        handle: u64,
        mut offset: u64,
        entry: &mut dyn FnMut(DirEntry) -> bool,
    ) -> Result<(), Error> {
        if self.dirs.get(handle) != Some(ino) {
            return Err(Error::plain(Errno::EBADF));
        }
        let (mount, node) = self.mounts.of(ino)?;
        loop {
            let batch = mount.fs.readdir(node, offset, BATCH)?;
            if batch.is_empty() {
                return Ok(());
            }
            for mut found in batch {
                offset = found.next;
                found.ino = Ino::of(mount.number, found.ino.into());
                self.cross(ino, &mut found);
                if entry(found) {
                    return Ok(());
                }
            }
        }
    }

    /// A listing shows the inode that a lookup would find: over the edge of a mount, either way.
    fn cross(&self, dir: Ino, found: &mut DirEntry) {
        if found.kind != FileKind::Directory {
            return;
        }
        if found.name == ".." {
            if let Ok(above) = self.step(dir, &found.name) {
                found.ino = above.attr.ino;
            }
        } else if let Some(over) = self.mounts.over(found.ino) {
            found.ino = over.root();
        }
    }

    /// Ends a handle of [`Vfs::opendir`].
    pub fn releasedir(&self, handle: u64) {
        let Some(ino) = self.dirs.remove(handle) else { return };
        if let Ok((mount, node)) = self.mounts.of(ino) {
            mount.fs.put(node);
        }
        self.closed.ring();
    }
}
