//! The machine beneath Spindle: contract, engine, buses, chips, queues, filters and drivers.
//!
//! Nothing here knows of FUSE, of names or of caches.

pub mod bus;
pub mod chip;
pub mod contract;
pub mod engine;
pub mod fault;
pub mod machine;
pub mod manual;
pub mod medium;
pub mod queue;
pub mod sync;
pub mod trace;
pub mod value;
pub mod timing;

pub use contract::*;
