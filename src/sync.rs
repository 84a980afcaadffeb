//! Locks of the kernel half, from one place; the order in which they may be taken.
//!
//! Outermost first: `mounts < inodes < handles < cache shard`, then those of the machine
//! (`devices/sync.rs`); `a terminal < its port's rings < its chip`. The lobby's stands alone, and
//! is taken by whoever rings a queue. Where names are kept: `node store < names of a file system <
//! one inode`. No lock is held while calling up, sideways, or into anything that waits; but the
//! node store waits for the host's disk, so that its file is written by one at a time.

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use std::sync::Arc;
