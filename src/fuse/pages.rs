//! Telling the host to forget pages of its cache.
//!
//! The host takes the lock of each page it drops, and a page being read is locked until we have
//! answered: so this must never run on a thread that reads requests. Workers may wait here;
//! what need not be waited for is done by a thread of its own, the ranges of an inode taken
//! together, so that what waits is bounded by the number of inodes.

use crate::pages::Forget;
use crate::sync::{Arc, Condvar, Mutex};
use fuser::{INodeNo, Notifier};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;

/// The way to the host's page cache; it leads nowhere until the session has begun.
#[derive(Default)]
pub(super) struct Pages {
    host: OnceLock<Notifier>,
    soon: Mutex<BTreeMap<u64, Range<u64>>>,
    bell: Condvar,
}

impl Pages {
    /// Opens the way, and starts the thread for what is to be forgotten soon.
    pub(super) fn open(self: &Arc<Self>, host: Notifier) -> io::Result<()> {
        let _ = self.host.set(host); // there is one session
        let pages = Arc::clone(self);
        let thread = std::thread::Builder::new().name("pages".into()).stack_size(128 << 10);
        thread.spawn(move || pages.forget_what_comes()).map(drop)
    }

    fn forget_what_comes(&self) {
        loop {
            let mut soon = self.soon.lock();
            let Some((ino, range)) = soon.pop_first() else {
                self.bell.wait(&mut soon);
                continue;
            };
            drop(soon);
            self.forget(ino, range.start, range.end - range.start);
        }
    }
}

impl Forget for Pages {
    fn forget(&self, ino: u64, at: u64, len: u64) {
        let Some(host) = self.host.get() else { return };
        // A length of 0 would mean all of it, but no change is that short.
        let (at, len) = (i64::try_from(at).unwrap_or(0), i64::try_from(len).unwrap_or(0));
        if let Err(refusal) = host.inval_inode(INodeNo(ino), at, len) {
            log::debug!(target: "fuse", "pages of inode {ino}: {refusal}");
        }
    }

    fn forget_soon(&self, ino: u64, at: u64, len: u64) {
        let mut soon = self.soon.lock();
        let range = soon.entry(ino).or_insert(at..at + len);
        *range = range.start.min(at)..range.end.max(at + len);
        drop(soon);
        self.bell.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_of_an_inode_is_one_range() {
        let pages = Pages::default();
        pages.forget_soon(7, 100, 10);
        pages.forget_soon(8, 0, 1);
        pages.forget_soon(7, 50, 10);
        assert_eq!(*pages.soon.lock(), BTreeMap::from([(7, 50..110), (8, 0..1)]));
        pages.forget(7, 0, 1); // no session yet: nobody keeps pages
    }
}
