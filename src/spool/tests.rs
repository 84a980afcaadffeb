//! The spool without a mount.
