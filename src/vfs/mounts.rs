//! The mount table: what is mounted where, by path, by covered directory and by number.
//!
//! 1. The longest prefix wins, by whole components: `/mnt/a` is no prefix of `/mnt/ab`. Finding it
//!    costs a step per component of the path, however many mounts there are.
//! 2. A file system is mounted once, a device too, and one on a directory at most.
//! 3. What is mounted on a directory of a mount keeps that mount where it is.

use super::Ino;
use super::fs::{FileSystem, Local};
use super::inode::{FS_NUMBER_MAX, FsNumber};
use crate::error::{Errno, Error};
use crate::file::Device;
use crate::sync::{Arc, RwLock};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Values by path, of which the one with the longest prefix of a path is found.
pub(super) struct Prefixes<T> {
    below: HashMap<OsString, Prefixes<T>>,
    value: Option<T>,
}

/// The names in a path.
fn names(path: &Path) -> impl Iterator<Item = &std::ffi::OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

impl<T> Prefixes<T> {
    pub(super) fn new() -> Prefixes<T> {
        Prefixes { below: HashMap::new(), value: None }
    }

    /// Puts a value at a path; what was there is returned.
    pub(super) fn insert(&mut self, path: &Path, value: T) -> Option<T> {
        let mut at = self;
        for name in names(path) {
            at = at.below.entry(name.to_owned()).or_insert_with(Prefixes::new);
        }
        at.value.replace(value)
    }

    /// Takes the value at just this path away, and what only led to it.
    pub(super) fn remove(&mut self, path: &Path) -> Option<T> {
        let mut rest = names(path);
        let Some(name) = rest.next() else { return self.value.take() };
        let below = self.below.get_mut(name)?;
        let taken = below.remove(rest.collect::<PathBuf>().as_path());
        if below.value.is_none() && below.below.is_empty() {
            self.below.remove(name);
        }
        taken
    }

    /// The value of the longest prefix of a path that has one.
    pub(super) fn longest(&self, path: &Path) -> Option<&T> {
        let mut at = self;
        let mut found = at.value.as_ref();
        for name in names(path) {
            let Some(below) = at.below.get(name) else { break };
            at = below;
            found = at.value.as_ref().or(found);
        }
        found
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefixes(paths: &[&str]) -> Prefixes<String> {
        let mut all = Prefixes::new();
        for path in paths {
            all.insert(Path::new(path), (*path).to_owned());
        }
        all
    }

    fn longest<'a>(all: &'a Prefixes<String>, path: &str) -> Option<&'a str> {
        all.longest(Path::new(path)).map(String::as_str)
    }

    #[test]
    fn the_longest_prefix_wins_by_whole_components() {
        let all = prefixes(&["/", "/mnt/a", "/mnt/a/b"]);
        for (path, prefix) in [
            ("/mnt/a/b/f", "/mnt/a/b"),
            ("/mnt/a/b", "/mnt/a/b"),
            ("/mnt/a/bc", "/mnt/a"),
            ("/mnt/ab", "/"),
            ("/mnt", "/"),
            ("/", "/"),
        ] {
            assert_eq!(longest(&all, path), Some(prefix), "{path}");
        }
    }

    #[test]
    fn a_prefix_that_was_removed_leaves_its_neighbours_and_nothing_else() {
        let mut all = prefixes(&["/a/b/c", "/a"]);
        assert_eq!(all.remove(Path::new("/a/b")), None);
        assert_eq!(all.remove(Path::new("/a/b/c")).as_deref(), Some("/a/b/c"));
        assert_eq!(longest(&all, "/a/b/c/d"), Some("/a"));
        assert_eq!(all.remove(Path::new("/a")).as_deref(), Some("/a"));
        assert!(all.below.is_empty() && longest(&all, "/a").is_none());
    }

    /// Reads the whole list, as a table without an index would.
    fn naive<'a>(paths: &'a [PathBuf], path: &Path) -> Option<&'a PathBuf> {
        let prefixes = paths.iter().filter(|prefix| path.starts_with(prefix));
        prefixes.max_by_key(|prefix| prefix.components().count())
    }

    fn path() -> impl Strategy<Value = PathBuf> {
        prop::collection::vec("[ab]{1,2}", 0..6)
            .prop_map(|names| Path::new("/").join(names.iter().collect::<PathBuf>()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn ten_thousand_paths_find_what_a_scan_finds_in_both_orders(
            mounts in prop::collection::vec(path(), 1..40),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
            paths in prop::collection::vec(path(), 100),
        ) {
            let (mut there, mut back) = (Prefixes::new(), Prefixes::new());
            for mount in &mounts {
                there.insert(mount, mount.clone());
            }
            for mount in mounts.iter().rev() {
                back.insert(mount, mount.clone());
            }
            let mut list = mounts.clone();
            for index in removed {
                let gone = index.get(&mounts);
                there.remove(gone);
                back.remove(gone);
                list.retain(|mount| mount != gone);
            }
            for path in paths {
                let expected = naive(&list, &path);
                prop_assert_eq!(there.longest(&path), expected);
                prop_assert_eq!(back.longest(&path), expected);
            }
        }
    }
}
