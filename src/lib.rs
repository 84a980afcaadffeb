//! Spindle, the kernel half: names, special files, buffer cache, and the door to FUSE.

pub mod error;
pub mod file;
pub mod partition;
pub mod sync;
pub mod vfs;
