//! Spindle, the kernel half: names, special files, buffer cache, and the door to FUSE.

pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod doctor;
pub mod error;
pub mod file;
pub mod fuse;
pub mod slot;
pub mod sync;
#[cfg(test)]
mod tidy;
pub mod vfs;
pub mod words;
