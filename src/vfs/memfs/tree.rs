//! The names of a memory file system: which inodes there are, and which directory names which.
//!
//! 1. An inode is in the table as long as it has a name or is held; only then has it a number.
//! 2. A directory has one name, and `nlink` 2 + its directories; once removed it has 0.
//! 3. `covered_below` of a directory counts what is mounted on it or beneath; as long as it is not
//!    0 the directory stays where it is.

use super::dir::Directory;
use super::inode::Inode;
use crate::error::{Errno, Error};
use crate::sync::Arc;
use crate::vfs::fs::{LINKS_MAX, LOCAL_MAX, Local};
use crate::vfs::{FileKind, RenameMode};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::SystemTime;

/// The number of the root.
pub(super) const ROOT: Local = Local(1);

/// An inode in the table.
pub(super) struct Slot {
    pub(super) inode: Arc<Inode>,
    pub(super) holds: u64,
    /// A name it is found by: the directory and the name in it.
    known: (Local, OsString),
    pub(super) dir: Option<Directory>,
}

/// See the head of this file.
pub(super) struct Tree {
    slots: HashMap<Local, Slot>,
    last: u64,
}

/// Where a name is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) dir: Local,
    pub(super) name: &'a OsStr,
}

fn fail<T>(errno: Errno) -> Result<T, Error> {
    Err(Error::plain(errno))
}

impl Tree {
    /// A tree of which `root` is all, and is held for good.
    pub(super) fn new(root: Arc<Inode>) -> Tree {
        root.meta.lock().nlink = 2;
        let dir = Some(Directory::new(ROOT));
        let slot = Slot { inode: root, holds: 1, known: (ROOT, OsString::new()), dir };
        Tree { slots: HashMap::from([(ROOT, slot)]), last: ROOT.0 }
    }

    /// The number of the next inode.
    pub(super) fn next_number(&mut self) -> Result<Local, Error> {
        if self.last == LOCAL_MAX {
            return fail(Errno::ENOSPC);
        }
        self.last += 1;
        Ok(Local(self.last))
    }

    pub(super) fn slot(&self, node: Local) -> Result<&Slot, Error> {
        self.slots.get(&node).ok_or_else(|| Error::plain(Errno::ESTALE))
    }

    pub(super) fn slot_mut(&mut self, node: Local) -> Result<&mut Slot, Error> {
        self.slots.get_mut(&node).ok_or_else(|| Error::plain(Errno::ESTALE))
    }

    pub(super) fn dir(&self, node: Local) -> Result<&Directory, Error> {
        self.slot(node)?.dir.as_ref().ok_or_else(|| Error::plain(Errno::ENOTDIR))
    }

    fn dir_mut(&mut self, node: Local) -> Result<&mut Directory, Error> {
        self.slot_mut(node)?.dir.as_mut().ok_or_else(|| Error::plain(Errno::ENOTDIR))
    }

    /// A directory into which a name may be put: `ENOENT` when it was removed.
    pub(super) fn living_dir(&self, node: Local) -> Result<&Directory, Error> {
        let dir = self.dir(node)?;
        if self.slot(node)?.inode.meta.lock().nlink == 0 {
            return fail(Errno::ENOENT);
        }
        Ok(dir)
    }

    pub(super) fn find(&self, at: Place<'_>) -> Result<&Slot, Error> {
        let found = self.dir(at.dir)?.get(at.name);
        self.slot(found.ok_or_else(|| Error::plain(Errno::ENOENT))?)
    }

    /// As [`Tree::find`], and holds it; of several names this one is known from now on.
    pub(super) fn find_and_hold(&mut self, at: Place<'_>) -> Result<Arc<Inode>, Error> {
        let found =
            if at.name == ".." { self.dir(at.dir)?.parent } else { self.find(at)?.inode.number };
        let slot = self.slot_mut(found)?;
        slot.holds += 1;
        if slot.dir.is_none() && slot.known != (at.dir, at.name.to_owned()) {
            slot.known = (at.dir, at.name.to_owned());
        }
        Ok(Arc::clone(&slot.inode))
    }

    /// Names a new inode, which is held once; the place is free and its directory lives.
    pub(super) fn add(&mut self, at: Place<'_>, inode: &Arc<Inode>) -> Result<(), Error> {
        let node = inode.number;
        let is_dir = inode.is_directory();
        if is_dir && self.slot(at.dir)?.inode.meta.lock().nlink >= LINKS_MAX {
            return fail(Errno::EMLINK);
        }
        let dir = is_dir.then(|| Directory::new(at.dir));
        if is_dir {
            inode.meta.lock().nlink = 2;
        }
        let known = (at.dir, at.name.to_owned());
        self.dir_mut(at.dir)?.set(at.name, node);
        self.slots.insert(node, Slot { inode: Arc::clone(inode), holds: 1, known, dir });
        self.names_changed(at.dir, i64::from(is_dir));
        Ok(())
    }

    /// Gives an inode one more name, and holds it.
    pub(super) fn link(&mut self, node: Local, at: Place<'_>) -> Result<Arc<Inode>, Error> {
        let inode = Arc::clone(&self.slot(node)?.inode);
        if inode.is_directory() || inode.is_served() {
            return fail(Errno::EPERM);
        }
        if self.living_dir(at.dir)?.get(at.name).is_some() {
            return fail(Errno::EEXIST);
        }
        {
            let mut meta = inode.meta.lock();
            match meta.nlink {
                0 => return fail(Errno::ENOENT),
                LINKS_MAX.. => return fail(Errno::EMLINK),
                _ => meta.nlink += 1,
            }
            meta.ctime = SystemTime::now();
            meta.is_kept |= inode.is_device();
        }
        self.dir_mut(at.dir)?.set(at.name, node);
        let slot = self.slot_mut(node)?;
        slot.known = (at.dir, at.name.to_owned());
        slot.holds += 1;
        self.names_changed(at.dir, 0);
        Ok(inode)
    }

    /// Takes a name away from what is no directory; what is gone is to be dropped outside the lock.
    pub(super) fn unlink(&mut self, at: Place<'_>) -> Result<Arc<Inode>, Error> {
        let inode = Arc::clone(&self.find(at)?.inode);
        if inode.is_directory() {
            return fail(Errno::EISDIR);
        }
        if inode.is_served() {
            return fail(Errno::EPERM);
        }
        self.dir_mut(at.dir)?.remove(at.name);
        self.names_changed(at.dir, 0);
        self.lose_name(inode.number);
        Ok(inode)
    }

    /// Takes an empty directory away.
    pub(super) fn rmdir(&mut self, at: Place<'_>) -> Result<Arc<Inode>, Error> {
        let slot = self.find(at)?;
        let inode = Arc::clone(&slot.inode);
        let Some(dir) = slot.dir.as_ref() else { return fail(Errno::ENOTDIR) };
        if dir.covered_below > 0 {
            return fail(Errno::EBUSY);
        }
        if !dir.is_empty() {
            return fail(Errno::ENOTEMPTY);
        }
        self.dir_mut(at.dir)?.remove(at.name);
        self.names_changed(at.dir, -1);
        self.lose_name(inode.number);
        Ok(inode)
    }

    /// Gives a hold back; what is gone is to be dropped outside the lock.
    pub(super) fn put(&mut self, node: Local) -> Option<Slot> {
        let slot = self.slots.get_mut(&node)?;
        slot.holds = slot.holds.saturating_sub(1);
        if slot.holds == 0 && slot.inode.meta.lock().nlink == 0 {
            return self.slots.remove(&node);
        }
        None
    }

    /// An inode has lost a name: a directory its only one.
    fn lose_name(&mut self, node: Local) {
        let Some(slot) = self.slots.get_mut(&node) else { return };
        let is_gone = {
            let mut meta = slot.inode.meta.lock();
            meta.nlink = if slot.dir.is_some() { 0 } else { meta.nlink.saturating_sub(1) };
            meta.ctime = SystemTime::now();
            meta.nlink == 0 && slot.holds == 0
        };
        if is_gone {
            self.slots.remove(&node);
        }
    }

    /// The names in `dir` have changed, and the number of its directories by `more`.
    fn names_changed(&mut self, dir: Local, more: i64) {
        if let Some(slot) = self.slots.get(&dir) {
            let mut meta = slot.inode.meta.lock();
            meta.modified();
            let nlink = i64::from(meta.nlink) + more;
            meta.nlink = u32::try_from(nlink).unwrap_or(0);
        }
    }

    /// Whether `node` is `above`, or in it at any depth.
    fn is_within(&self, mut node: Local, above: Local) -> bool {
        while node != above {
            match self.dir(node) {
                Ok(dir) if dir.parent != node => node = dir.parent,
                _ => return false,
            }
        }
        true
    }

    /// Whether a rename may be done: what moves, and what stands at its goal.
    fn check_rename(
        &self,
        from: Place<'_>,
        to: Place<'_>,
        mode: RenameMode,
    ) -> Result<(Local, Option<Local>), Error> {
        let moved = self.find(from)?;
        let node = moved.inode.number;
        let target = self.living_dir(to.dir)?.get(to.name);
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return fail(Errno::EEXIST),
            (RenameMode::Exchange, None) => return fail(Errno::ENOENT),
            _ if target == Some(node) => return Ok((node, target)),
            _ => {}
        }
        let target_slot = target.map(|target| self.slot(target)).transpose()?;
        for slot in [Some(moved), target_slot].into_iter().flatten() {
            if slot.inode.is_served() {
                return fail(Errno::EPERM);
            }
            if slot.dir.as_ref().is_some_and(|dir| dir.covered_below > 0) {
                return fail(Errno::EBUSY);
            }
        }
        if moved.dir.is_some() && self.is_within(to.dir, node) {
            return fail(Errno::EINVAL);
        }
        let target_dir = target_slot.and_then(|slot| slot.dir.as_ref());
        if mode == RenameMode::Exchange {
            if target.is_some_and(|target| self.is_within(from.dir, target)) {
                return fail(Errno::EINVAL);
            }
        } else if target.is_some() {
            match (moved.dir.is_some(), target_dir) {
                (true, None) => return fail(Errno::ENOTDIR),
                (false, Some(_)) => return fail(Errno::EISDIR),
                (true, Some(dir)) if !dir.is_empty() => return fail(Errno::ENOTEMPTY),
                _ => {}
            }
        }
        let is_new_dir = moved.dir.is_some() && target_dir.is_none() && from.dir != to.dir;
        if is_new_dir && self.slot(to.dir)?.inode.meta.lock().nlink >= LINKS_MAX {
            return fail(Errno::EMLINK);
        }
        Ok((node, target))
    }

    /// Renames (renameat2(2)); whether a device, or a directory that may hold some, was renamed.
    /// What is gone is to be dropped outside the lock.
    pub(super) fn rename(
        &mut self,
        from: Place<'_>,
        to: Place<'_>,
        mode: RenameMode,
    ) -> Result<(bool, Option<Arc<Inode>>), Error> {
        let (moved, target) = self.check_rename(from, to, mode)?;
        if target == Some(moved) {
            return Ok((false, None)); // two names of one inode: POSIX says nothing happens
        }
        let old = target.and_then(|target| self.slots.get(&target));
        let old = old.map(|slot| Arc::clone(&slot.inode));
        let moved_dirs = i64::from(self.slot(moved)?.dir.is_some());
        let old_dirs = old.as_ref().map_or(0, |inode| i64::from(inode.is_directory()));
        self.dir_mut(to.dir)?.set(to.name, moved);
        self.moved_to(moved, to);
        match target {
            Some(target) if mode == RenameMode::Exchange => {
                self.dir_mut(from.dir)?.set(from.name, target);
                self.moved_to(target, from);
                self.names_changed(from.dir, old_dirs - moved_dirs);
                self.names_changed(to.dir, moved_dirs - old_dirs);
            }
            _ => {
                self.dir_mut(from.dir)?.remove(from.name);
                self.names_changed(from.dir, -moved_dirs);
                self.names_changed(to.dir, moved_dirs - old_dirs);
                if let Some(target) = target {
                    self.lose_name(target);
                }
            }
        }
        let matters = |inode: &Inode| inode.is_device() || inode.is_directory();
        let has_devices = matters(&self.slot(moved)?.inode) || old.as_deref().is_some_and(matters);
        Ok((has_devices, old))
    }

    /// An inode has its name at another place from now on.
    fn moved_to(&mut self, node: Local, to: Place<'_>) {
        if let Some(slot) = self.slots.get_mut(&node) {
            slot.known = (to.dir, to.name.to_owned());
            if let Some(dir) = slot.dir.as_mut() {
                dir.parent = to.dir;
            }
            let mut meta = slot.inode.meta.lock();
            meta.ctime = SystemTime::now();
            meta.is_kept |= slot.inode.is_device();
        }
    }

    /// Marks a directory as covered by a mount, or no longer.
    pub(super) fn set_covered(&mut self, node: Local, is_covered: bool) -> Result<(), Error> {
        if is_covered && self.living_dir(node)?.is_covered {
            return fail(Errno::EBUSY);
        }
        let dir = self.dir_mut(node)?;
        if dir.is_covered == is_covered {
            return Ok(());
        }
        dir.is_covered = is_covered;
        let mut above = node;
        loop {
            let dir = self.dir_mut(above)?;
            dir.covered_below = if is_covered {
                dir.covered_below.saturating_add(1)
            } else {
                dir.covered_below.saturating_sub(1)
            };
            if dir.parent == above {
                return Ok(());
            }
            above = dir.parent;
        }
    }

    /// The path by which an inode is known.
    pub(super) fn path(&self, node: Local) -> Option<PathBuf> {
        let mut names = Vec::new();
        let mut at = node;
        while at != ROOT {
            let (dir, name) = &self.slots.get(&at)?.known;
            names.push(name);
            at = *dir;
        }
        Some(names.into_iter().rev().collect())
    }

    /// All names of device inodes, by path.
    pub(super) fn devices(&self) -> Vec<(PathBuf, Arc<Inode>)> {
        let mut found = Vec::new();
        let mut dirs = vec![(PathBuf::new(), ROOT)];
        while let Some((path, node)) = dirs.pop() {
            let Ok(dir) = self.dir(node) else { continue };
            for (_, name, child) in dir.behind(0, usize::MAX) {
                let Some(slot) = self.slots.get(&child) else { continue };
                match slot.inode.kind() {
                    FileKind::Directory => dirs.push((path.join(name), child)),
                    FileKind::Device(_) => found.push((path.join(name), Arc::clone(&slot.inode))),
                    _ => {}
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}
