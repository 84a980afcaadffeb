//! Spindle, the kernel half: names, special files, buffer cache, and the door to FUSE.

pub mod cache;
pub mod error;
pub mod file;
pub mod sync;
pub mod vfs;
