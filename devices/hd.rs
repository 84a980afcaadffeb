//! hd: a disk with a moving arm, behind the same controller as sd's; it takes its drive's time.

use crate::contract::host_file::DISK_IMAGE;
use crate::contract::{AttachError, Attached, Driver, HostFile, Key, UnitConfig};
use crate::controller;
use crate::machine::Machine;

/// The driver.
pub struct Hd;

static KEYS: [Key; 18] = controller::keys("16M", "disk7200", "1M");

impl Driver for Hd {
    fn name(&self) -> &'static str {
        "hd"
    }

    fn block_major(&self) -> Option<u16> {
        Some(3)
    }

    fn char_major(&self) -> Option<u16> {
        Some(3)
    }

    /// Linux has 64 a unit on this major.
    fn minors(&self) -> u32 {
        64
    }

    fn section(&self) -> &'static str {
        "disk"
    }

    fn keys(&self) -> &'static [Key] {
        &KEYS
    }

    fn image(&self) -> Option<HostFile> {
        Some(DISK_IMAGE)
    }

    fn attach(&self, unit: &UnitConfig, machine: &Machine) -> Result<Attached, AttachError> {
        controller::attach(unit, machine)
    }
}
