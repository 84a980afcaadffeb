//! Locks of the kernel half, from one place; the order in which they may be taken.
//!
//! Outermost first: `mounts < inodes < handles < cache shard`, then those of the machine
//! (`devices/sync.rs`). No lock is held while calling up, sideways, or into anything that waits.

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use std::sync::Arc;
