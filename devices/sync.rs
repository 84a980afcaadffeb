//! Locks of this crate, from one place, so that they can be changed in one place.
//!
//! Order, outermost first: queue < chip < memory of the DMA bus < event wheel. An event runs, and a
//! line is raised, with none of them held.

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub use std::sync::Arc;
