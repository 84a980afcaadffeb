//! The machine beneath Spindle: contract, engine, buses, chips, queues, filters and drivers.
//!
//! Nothing here knows of FUSE, of names or of caches.

pub mod bus;
pub mod chip;
pub mod conf;
pub mod contract;
pub mod controller;
pub mod engine;
#[cfg(test)]
mod exam;
pub mod fault;
pub mod fd;
pub mod hd;
pub mod ioport;
pub mod machine;
pub mod manual;
pub mod medium;
pub mod mem;
pub mod queue;
pub mod ram;
pub mod reserve;
pub mod sd;
pub mod st;
pub mod switch;
pub mod sync;
pub mod tape_manual;
pub mod tape_timing;
pub mod timing;

pub use contract::*;
