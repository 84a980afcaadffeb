//! Locks of this crate, from one place, so that they can be changed in one place.
//!
//! Order, outermost first: what a queue keeps < queue, or a serial port's poll interval < its rings
//! < a chip's motion < a chip < memory of the DMA bus < spares < faults < claims of a bus < event
//! wheel. An event runs, and a line is raised, with none of them held; the motion is taken by an
//! event only.

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub use std::sync::Arc;
