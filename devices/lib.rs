//! The machine beneath Spindle: contract, engine, buses, chips, queues and drivers.
//!
//! Nothing here knows of FUSE, of names or of caches.
//!
//! # A new driver in ten steps
//!
//! 1. Write down the chip's manual: its registers as constants, with the manual's names
//!    ([`manual`] is the disk controllers').
//! 2. Build the chip: state, [`bus::port::Registers`], one event, one interrupt line; test it by
//!    its registers alone.
//! 3. Write the driver: a [`queue::Controller`] for a disk, a [`CharDevice`] for the rest. It
//!    speaks through [`bus::PortIo`], [`bus::IrqLine`] and [`bus::DmaChannel`] only.
//! 4. Give each way to fail one [`IoError`], and its exact sense.
//! 5. State limits and [`Geometry`].
//! 6. Add ioctls only where the generic ones do not do.
//! 7. `Driver::attach`: claim, probe, build, return the rows, start nothing.
//! 8. A line in [`conf`], a section in the default description.
//! 9. Let it take the exam (`exam.rs`), with its faults.
//! 10. A row in the README, a test on a mounted tree.
//!
//! [`mem`] is the worked example.

pub mod bus;
pub mod chip;
pub mod com;
pub mod conf;
pub mod contract;
pub mod controller;
pub mod copy;
pub mod engine;
#[cfg(test)]
mod exam;
pub mod fault;
pub mod fd;
pub mod hd;
pub mod ioport;
pub mod lp;
pub mod machine;
pub mod manual;
pub mod medium;
pub mod mem;
pub mod plain;
pub mod queue;
pub mod ram;
pub mod reserve;
pub mod ring;
pub mod sd;
pub mod serial_manual;
pub mod sink;
pub mod st;
pub mod switch;
pub mod sync;
pub mod tape_manual;
pub mod tape_timing;
pub mod timing;
pub mod trace;
pub mod value;

pub use contract::*;
