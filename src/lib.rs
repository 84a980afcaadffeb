//! Spindle, the kernel half: names, special files, buffer cache, and the door to FUSE.

#[cfg(test)]
mod block_tests;
pub mod boot;
pub mod cache;
pub mod character;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod devctl;
pub mod disk;
pub mod doctor;
pub mod error;
pub mod file;
pub mod fuse;
pub mod holders;
pub mod ioctl;
pub mod kernel;
pub mod lent;
pub mod lpr;
pub mod own;
pub mod pages;
pub mod partition;
pub mod passage;
pub mod raw;
pub mod reports;
pub mod scsi;
pub mod serial;
pub mod sinks;
pub mod slot;
pub mod spec;
pub mod spool;
pub mod sync;
#[cfg(test)]
mod tidy;
pub mod tty;
pub mod verbs;
pub mod vfs;
pub mod words;
