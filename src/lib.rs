//! Spindle, the kernel half: names, special files, buffer cache, and the door to FUSE.

pub mod daemon;
pub mod error;
pub mod file;
pub mod fuse;
pub mod sync;
pub mod vfs;
