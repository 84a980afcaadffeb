//! sd: fast disks, each behind a controller that fetches its commands and data from memory.

use crate::contract::host_file::DISK_IMAGE;
use crate::contract::{AttachError, Attached, Driver, HostFile, Key, UnitConfig};
use crate::controller;
use crate::machine::Machine;

/// The driver.
pub struct Sd;

static KEYS: [Key; 18] = controller::keys("", "none", "1M");

impl Driver for Sd {
    fn name(&self) -> &'static str {
        "sd"
    }

    fn block_major(&self) -> Option<u16> {
        Some(8)
    }

    fn char_major(&self) -> Option<u16> {
        Some(8)
    }

    fn minors(&self) -> u32 {
        16
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
