//! Files that their users have closed, and of whose end we have not yet heard.
//!
//! The host tells of a close(2) twice: FLUSH while the caller waits, and RELEASE, when the last
//! descriptor is gone, some time after close has returned. In between an exclusive device is
//! still held, though nobody holds it. (A descriptor that was duplicated sends FLUSH and lives
//! on; then the wait here was in vain, and short.)

use crate::sync::{Arc, Mutex};
use devices::WaitQueue;
use std::collections::BTreeSet;
use std::time::Duration;

/// Handles between FLUSH and RELEASE.
#[derive(Default)]
pub(super) struct Closing {
    handles: Mutex<BTreeSet<u64>>,
    released: Arc<WaitQueue>,
}

impl Closing {
    /// A descriptor of this handle was closed.
    pub(super) fn insert(&self, handle: u64) {
        self.handles.lock().insert(handle);
    }

    /// The handle is gone.
    pub(super) fn remove(&self, handle: u64) {
        if self.handles.lock().remove(&handle) {
            self.released.ring();
        }
    }

    /// All handles being closed now.
    pub(super) fn snapshot(&self) -> BTreeSet<u64> {
        self.handles.lock().clone()
    }

    /// Waits until none of `closing` is left; gives up when nothing was released for `limit`, or
    /// `rings_max` others were.
    pub(super) fn wait_for(&self, closing: &BTreeSet<u64>, limit: Duration, rings_max: u32) {
        for _ in 0..rings_max {
            let seen = self.released.generation();
            let is_over = self.handles.lock().is_disjoint(closing);
            if is_over || !self.released.wait(seen, Some(limit)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_ends_with_the_release() {
        let closing = Arc::new(Closing::default());
        closing.insert(1);
        let awaited = closing.snapshot();
        closing.insert(2);
        let other = Arc::clone(&closing);
        let release = std::thread::spawn(move || other.remove(1));
        closing.wait_for(&awaited, Duration::from_secs(60), 64);
        release.join().unwrap();
        assert_eq!(closing.snapshot(), BTreeSet::from([2]));
    }

    #[test]
    fn the_wait_ends_without_a_release() {
        let closing = Closing::default();
        closing.insert(1);
        closing.wait_for(&closing.snapshot(), Duration::from_millis(1), 64);
        assert_eq!(closing.snapshot(), BTreeSet::from([1]));
    }
}
