//! The inode table: which inodes the host's kernel knows, and how often it looked them up.
//!
//! 1. A number in the tree is the number of the file system and the number within it, so it is the
//!    same for as long as both are. File systems are numbered once and never again; within one,
//!    no number is used again while it is held.
//! 2. An inode in the table is held once in its file system, however often it was looked up.

use super::Ino;
use super::fs::{LOCAL_MAX, Local};
use crate::sync::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Number of a mounted file system, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FsNumber(pub(super) u32);

/// Largest [`FsNumber`]. The two highest bits of an [`Ino`] stay 0, for those who pass it on to
/// mark it.
pub(super) const FS_NUMBER_MAX: u32 = (1 << 22) - 1;
const LOCAL_BITS: u32 = LOCAL_MAX.count_ones();

impl Ino {
    /// The number in the tree of an inode of a file system.
    pub(super) fn of(fs: FsNumber, node: Local) -> Ino {
        Ino(u64::from(fs.0) << LOCAL_BITS | (node.0 & LOCAL_MAX))
    }

    /// Whose it is, and which there.
    pub(super) fn split(self) -> (FsNumber, Local) {
        let fs = u32::try_from(self.0 >> LOCAL_BITS).unwrap_or(FS_NUMBER_MAX);
        (FsNumber(fs), Local(self.0 & LOCAL_MAX))
    }
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Inodes {
    lookups: Mutex<HashMap<Ino, u64>>,
}

impl Inodes {
    /// Counts a lookup; whether it is the first, which keeps the hold.
    pub(super) fn remember(&self, ino: Ino) -> bool {
        let mut lookups = self.lookups.lock();
        let count = lookups.entry(ino).or_insert(0);
        *count += 1;
        *count == 1
    }

    /// Gives lookups back; whether they were the last, and the hold is to be given back too.
    pub(super) fn forget(&self, ino: Ino, count: u64) -> bool {
        match self.lookups.lock().entry(ino) {
            Entry::Vacant(_) => false,
            Entry::Occupied(mut found) => {
                *found.get_mut() = found.get().saturating_sub(count);
                let is_last = *found.get() == 0;
                if is_last {
                    found.remove();
                }
                is_last
            }
        }
    }

    /// Forgets all of a file system.
    pub(super) fn forget_all(&self, fs: FsNumber) {
        self.lookups.lock().retain(|ino, _| ino.split().0 != fs);
    }

    /// How many are known.
    pub(super) fn count(&self) -> usize {
        self.lookups.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_its_file_system_and_the_root_is_one() {
        assert_eq!(Ino::of(FsNumber(0), Local(1)), Ino::ROOT);
        for (fs, node) in [(0, 1), (3, LOCAL_MAX), (FS_NUMBER_MAX, 7)] {
            let parts = (FsNumber(fs), Local(node));
            assert_eq!(Ino::of(parts.0, parts.1).split(), parts);
        }
    }

    #[test]
    fn only_the_first_lookup_and_the_last_forget_touch_the_hold() {
        let inodes = Inodes::default();
        let ino = Ino(5);
        assert!(inodes.remember(ino));
        assert!(!inodes.remember(ino));
        assert!(!inodes.forget(ino, 1));
        assert!(inodes.forget(ino, 1));
        assert!(!inodes.forget(ino, 1), "forgotten twice");
        assert!(inodes.remember(ino));
        assert!(inodes.forget(ino, u64::MAX));
        assert_eq!(inodes.count(), 0);
    }
}
