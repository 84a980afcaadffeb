//! The mount table: what is mounted where, by path, by covered directory and by number.
//!
//! 1. The longest prefix of a path wins, by whole components (`prefixes.rs`).
//! 2. A file system is mounted once, a device too, and one on a directory at most.
//! 3. What is mounted on a directory of a mount keeps that mount where it is.

use super::Ino;
use super::fs::{FileSystem, Local};
use super::inode::{FS_NUMBER_MAX, FsNumber};
use super::prefixes::Prefixes;
use crate::error::{Errno, Error};
use crate::file::Device;
use crate::sync::{Arc, RwLock};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Whom a mount belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The machine: `/`, `/dev`, `/proc`; it stays.
    Machine,
    /// Whoever mounted it.
    User,
}

/// A mounted file system.
pub(super) struct Mount {
    pub(super) number: FsNumber,
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) what: Mounted,
    /// The directory it is mounted on; none for the root.
    pub(super) covers: Option<Ino>,
}

/// What is mounted, and where.
pub(super) struct Mounted {
    pub(super) prefix: PathBuf,
    pub(super) device: String,
    /// The numbers behind `device`, where it is the path of a device inode.
    pub(super) special: Option<Device>,
    pub(super) kind: String,
    pub(super) options: String,
    pub(super) origin: Origin,
}

impl Mount {
    pub(super) fn root(&self) -> Ino {
        Ino::of(self.number, self.fs.root())
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.what.options.split(',').any(|option| option == "ro")
    }
}

/// See the head of this file.
pub(super) struct MountTable {
    state: RwLock<State>,
}

struct State {
    by_number: HashMap<FsNumber, Arc<Mount>>,
    by_prefix: Prefixes<Arc<Mount>>,
    by_covered: HashMap<Ino, Arc<Mount>>,
    next: u32,
}

impl MountTable {
    pub(super) fn new() -> MountTable {
        MountTable {
            state: RwLock::new(State {
                by_number: HashMap::new(),
                by_prefix: Prefixes::new(),
                by_covered: HashMap::new(),
                next: 0,
            }),
        }
    }

    /// The mount that an inode is of, and its number there.
    ///
    /// # Errors
    /// `ESTALE` when it is mounted no longer.
    pub(super) fn of(&self, ino: Ino) -> Result<(Arc<Mount>, Local), Error> {
        let (number, node) = ino.split();
        let found = self.state.read().by_number.get(&number).cloned();
        Ok((found.ok_or_else(|| Error::plain(Errno::ESTALE))?, node))
    }

    /// What is mounted on a directory.
    pub(super) fn over(&self, dir: Ino) -> Option<Arc<Mount>> {
        self.state.read().by_covered.get(&dir).cloned()
    }

    /// What is mounted at the longest prefix of a path without `.`, `..` and links.
    pub(super) fn longest(&self, path: &Path) -> Option<Arc<Mount>> {
        self.state.read().by_prefix.longest(path).cloned()
    }

    pub(super) fn list(&self) -> Vec<Arc<Mount>> {
        let mut all: Vec<_> = self.state.read().by_number.values().cloned().collect();
        all.sort_by_key(|mount| mount.number);
        all
    }

    /// Enters a mount.
    ///
    /// # Errors
    /// `EBUSY` where its device or its directory is taken; `ENOSPC` when the numbers are used up.
    pub(super) fn add(
        &self,
        fs: Arc<dyn FileSystem>,
        what: Mounted,
        covers: Option<Ino>,
    ) -> Result<(), Error> {
        let mut state = self.state.write();
        let same_device = |mount: &&Arc<Mount>| {
            let by_name = what.device.starts_with('/') && mount.what.device == what.device;
            by_name || (what.special.is_some() && mount.what.special == what.special)
        };
        if let Some(mount) = state.by_number.values().find(same_device) {
            let (device, prefix) = (&what.device, mount.what.prefix.display());
            return Err(Error::new(Errno::EBUSY, format!("{device}: already mounted on {prefix}")));
        }
        let same_fs =
            |mount: &Arc<Mount>| std::ptr::addr_eq(Arc::as_ptr(&mount.fs), Arc::as_ptr(&fs));
        if state.by_number.values().any(same_fs) {
            return Err(Error::new(Errno::EBUSY, "this file system is mounted already"));
        }
        if covers.is_some_and(|dir| state.by_covered.contains_key(&dir)) {
            let words = format!("{}: something is mounted there", what.prefix.display());
            return Err(Error::new(Errno::EBUSY, words));
        }
        if state.next > FS_NUMBER_MAX {
            return Err(Error::new(Errno::ENOSPC, "the numbers of file systems are used up"));
        }
        let number = FsNumber(state.next);
        state.next += 1;
        let mount = Arc::new(Mount { number, fs, what, covers });
        state.by_prefix.insert(&mount.what.prefix, Arc::clone(&mount));
        if let Some(dir) = covers {
            state.by_covered.insert(dir, Arc::clone(&mount));
        }
        state.by_number.insert(number, mount);
        Ok(())
    }

    /// Takes a mount out, unless `in_use` tells (under the lock of this table, so that nothing can
    /// be opened meanwhile) who uses it.
    ///
    /// # Errors
    /// `EBUSY` for the machine's own, with mounts inside, or in use; `EINVAL` when it is not there.
    pub(super) fn remove(
        &self,
        number: FsNumber,
        in_use: impl FnOnce() -> Option<String>,
    ) -> Result<Arc<Mount>, Error> {
        let busy = |why: String| Err(Error::new(Errno::EBUSY, why));
        let mut state = self.state.write();
        let Some(mount) = state.by_number.get(&number).cloned() else {
            return Err(Error::plain(Errno::EINVAL));
        };
        let prefix = mount.what.prefix.display();
        if mount.what.origin == Origin::Machine {
            return busy(format!("{prefix}: belongs to the machine"));
        }
        let is_inside = |other: &&Arc<Mount>| other.covers.is_some_and(|at| at.split().0 == number);
        if let Some(inside) = state.by_number.values().find(is_inside) {
            let inside = inside.what.prefix.display();
            return busy(format!("{prefix}: {inside} is mounted in it; unmount that first"));
        }
        if let Some(user) = in_use() {
            return busy(format!("{prefix}: in use: {user}"));
        }
        state.by_number.remove(&number);
        state.by_prefix.remove(&mount.what.prefix);
        if let Some(dir) = mount.covers {
            state.by_covered.remove(&dir);
        }
        Ok(mount)
    }
}
