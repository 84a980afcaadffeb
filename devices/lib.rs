//! The machine beneath Spindle: contract, engine, buses, chips, queues, filters and drivers.
//!
//! Nothing here knows of FUSE, of names or of caches.

pub mod contract;
pub mod engine;
pub mod machine;
pub mod queue;
pub mod sync;
pub mod trace;
pub mod value;

pub use contract::*;
