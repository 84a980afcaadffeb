//! What the host's page cache keeps of a disk (`host_cache`): by which inodes, and how it forgets.
//!
//! 1. An inode is entered before the host may keep a page of it, and stays: pages outlive closes.
//! 2. Who changes the medium past the host's pages (a raw or direct write, a discard, zeroing) is
//!    answered when they are gone: [`HostPages::changed`] waits, so no reader of requests calls it.
//! 3. Who writes through the pages of one node has those of the other nodes of the disk dropped
//!    soon, without waiting: two such writers hold pages of their own, and would wait for each
//!    other's. (Linux does not even do that between a disk and its partitions.)

use crate::sync::{Arc, Mutex};
use std::ops::Range;
use std::sync::OnceLock;

/// The way to the host's page cache.
pub trait Forget: Send + Sync {
    /// Has the host forget `len` bytes at `at` of an inode. Waits for pages that are being read.
    fn forget(&self, ino: u64, at: u64, len: u64);

    /// The same, by another thread, soon.
    fn forget_soon(&self, ino: u64, at: u64, len: u64);
}

/// An inode through which the host keeps pages.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shown {
    ino: u64,
    /// Which part of the disk it shows.
    part: u32,
    start: u64,
    len: u64,
}

impl Shown {
    /// The bytes of a range of the disk, as the inode counts them.
    fn of(&self, range: &Range<u64>) -> Option<(u64, u64)> {
        let from = range.start.max(self.start);
        let to = range.end.min(self.start + self.len);
        (from < to).then(|| (from - self.start, to - from))
    }
}

/// The pages of one disk.
#[derive(Default)]
pub struct HostPages {
    shown: Mutex<Vec<Shown>>,
    host: OnceLock<Arc<dyn Forget>>,
}

impl HostPages {
    /// The host may keep pages of `ino`, which shows `len` bytes from `start` on, as `part`.
    pub fn show(&self, ino: u64, part: u32, start: u64, len: u64, host: &Arc<dyn Forget>) {
        self.host.get_or_init(|| Arc::clone(host));
        let shown = Shown { ino, part, start, len };
        let mut all = self.shown.lock();
        if !all.contains(&shown) {
            all.retain(|other| other.ino != ino); // its partition has moved
            all.push(shown);
        }
    }

    /// This range of the disk was changed past the host. Waits until the host has forgotten it.
    pub fn changed(&self, range: &Range<u64>) {
        self.tell(range, |_| true, |host, ino, at, len| host.forget(ino, at, len));
    }

    /// This range was written through the pages of `part`.
    pub fn changed_through(&self, part: u32, range: &Range<u64>) {
        // The pages written through are right, as long as they are those of one inode.
        let is_only = self.shown.lock().iter().filter(|shown| shown.part == part).count() == 1;
        let others = |shown: &Shown| !is_only || shown.part != part;
        self.tell(range, others, |host, ino, at, len| host.forget_soon(ino, at, len));
    }

    fn tell(
        &self,
        range: &Range<u64>,
        whose: impl Fn(&Shown) -> bool,
        how: impl Fn(&dyn Forget, u64, u64, u64),
    ) {
        let Some(host) = self.host.get() else { return };
        let all: Vec<Shown> = self.shown.lock().iter().copied().filter(whose).collect();
        for shown in all {
            if let Some((at, len)) = shown.of(range) {
                how(&**host, shown.ino, at, len);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Host(Mutex<Vec<(&'static str, u64, u64, u64)>>);

    impl Forget for Host {
        fn forget(&self, ino: u64, at: u64, len: u64) {
            self.0.lock().push(("now", ino, at, len));
        }

        fn forget_soon(&self, ino: u64, at: u64, len: u64) {
            self.0.lock().push(("soon", ino, at, len));
        }
    }

    fn pages() -> (HostPages, Arc<Host>) {
        let (pages, host) = (HostPages::default(), Arc::new(Host::default()));
        let way: Arc<dyn Forget> = Arc::clone(&host) as _;
        pages.show(10, 0, 0, 1000, &way);
        pages.show(11, 1, 100, 50, &way);
        (pages, host)
    }

    #[test]
    fn a_change_is_told_to_every_inode_that_shows_it_in_its_own_bytes() {
        let (pages, host) = pages();
        pages.changed(&(120..400));
        assert_eq!(*host.0.lock(), [("now", 10, 120, 280), ("now", 11, 20, 30)]);
        host.0.lock().clear();
        pages.changed(&(150..151));
        assert_eq!(*host.0.lock(), [("now", 10, 150, 1)]);
    }

    #[test]
    fn a_write_through_one_node_drops_the_pages_of_the_others_soon() {
        let (pages, host) = pages();
        pages.changed_through(1, &(100..110));
        assert_eq!(*host.0.lock(), [("soon", 10, 100, 10)]);
        host.0.lock().clear();
        let way: Arc<dyn Forget> = Arc::clone(&host) as _;
        pages.show(12, 1, 100, 50, &way);
        pages.changed_through(1, &(100..101));
        assert_eq!(host.0.lock().len(), 3, "two inodes of one part do not see each other's pages");
    }

    #[test]
    fn an_inode_is_entered_once_and_moves_with_its_partition() {
        let (pages, host) = pages();
        let way: Arc<dyn Forget> = Arc::clone(&host) as _;
        pages.show(11, 1, 100, 50, &way);
        pages.show(11, 1, 200, 50, &way);
        pages.changed(&(100..150));
        assert_eq!(*host.0.lock(), [("now", 10, 100, 50)]);
    }
}
