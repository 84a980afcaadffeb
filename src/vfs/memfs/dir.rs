//! A directory in memory: names, each at a place of its own.
//!
//! 1. A name keeps its place as long as it stands, also when another inode takes it over, and no
//!    place is given twice: a listing in steps sees what stands throughout exactly once.
//! 2. Places begin behind those of `.` and `..`.

use crate::vfs::fs::Local;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::ops::Bound;

/// Place of `.`, in a listing of any file system here.
pub(crate) const PLACE_OF_SELF: u64 = 1;
/// Place of `..`.
pub(crate) const PLACE_OF_PARENT: u64 = 2;

/// See the head of this file.
pub(super) struct Directory {
    /// The directory it is in; itself at the root.
    pub(super) parent: Local,
    /// Something is mounted on it.
    pub(super) is_covered: bool,
    /// How many covered directories are in it or beneath, itself among them.
    pub(super) covered_below: u32,
    places: HashMap<OsString, u64>,
    entries: BTreeMap<u64, (OsString, Local)>,
    last_place: u64,
}

impl Directory {
    pub(super) fn new(parent: Local) -> Directory {
        Directory {
            parent,
            is_covered: false,
            covered_below: 0,
            places: HashMap::new(),
            entries: BTreeMap::new(),
            last_place: PLACE_OF_PARENT,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn get(&self, name: &OsStr) -> Option<Local> {
        let place = self.places.get(name)?;
        self.entries.get(place).map(|(_, node)| *node)
    }

    /// Puts `node` under `name`; what stood there loses it and is returned.
    pub(super) fn set(&mut self, name: &OsStr, node: Local) -> Option<Local> {
        if let Some(place) = self.places.get(name) {
            return self.entries.insert(*place, (name.to_owned(), node)).map(|(_, old)| old);
        }
        self.last_place += 1;
        self.places.insert(name.to_owned(), self.last_place);
        self.entries.insert(self.last_place, (name.to_owned(), node));
        None
    }

    pub(super) fn remove(&mut self, name: &OsStr) -> Option<Local> {
        let place = self.places.remove(name)?;
        self.entries.remove(&place).map(|(_, node)| node)
    }

    /// At most `count` names behind `place`, with their places.
    pub(super) fn behind(&self, place: u64, count: usize) -> Vec<(u64, OsString, Local)> {
        self.entries
            .range((Bound::Excluded(place.max(PLACE_OF_PARENT)), Bound::Unbounded))
            .take(count)
            .map(|(place, (name, node))| (*place, name.clone(), *node))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Directory, place: u64, count: usize) -> Vec<String> {
        dir.behind(place, count).into_iter().map(|(_, n, _)| n.into_string().unwrap()).collect()
    }

    #[test]
    fn a_name_that_another_inode_takes_over_keeps_its_place() {
        let mut dir = Directory::new(Local(1));
        for (name, node) in [("a", 2), ("b", 3), ("c", 4)] {
            assert_eq!(dir.set(OsStr::new(name), Local(node)), None);
        }
        assert_eq!(dir.set(OsStr::new("a"), Local(9)), Some(Local(2)));
        assert_eq!(names(&dir, 0, 9), ["a", "b", "c"]);
        assert_eq!(dir.get(OsStr::new("a")), Some(Local(9)));
    }

    #[test]
    fn a_name_made_anew_comes_behind_all_others() {
        let mut dir = Directory::new(Local(1));
        dir.set(OsStr::new("a"), Local(2));
        dir.set(OsStr::new("b"), Local(3));
        assert_eq!(dir.remove(OsStr::new("a")), Some(Local(2)));
        assert_eq!(dir.remove(OsStr::new("a")), None);
        dir.set(OsStr::new("a"), Local(4));
        assert_eq!(names(&dir, 0, 9), ["b", "a"]);
        assert_eq!(names(&dir, 0, 1), ["b"]);
        assert_eq!(names(&dir, dir.last_place - 1, 9), ["a"]);
    }
}
