//! The device switch: by the major number to a driver, by the minor to one of its units.
//!
//! A disk has one unit and two rows: its raw twin is the same unit, in the character row.

use crate::contract::{Attached, BlockDevice, CharDevice, DevId, Driver};
use crate::sync::Arc;
use std::collections::BTreeMap;

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Character devices.
    Character,
    /// Block devices.
    Block,
}

/// Why a number leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoDevice {
    /// No driver has that major.
    NoDriver {
        /// The major.
        major: u16,
    },
    /// The driver has no such unit.
    NoUnit {
        /// The driver.
        driver: &'static str,
        /// The unit that the minor stands for.
        unit: u32,
    },
}

impl std::fmt::Display for NoDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoDevice::NoDriver { major } => write!(f, "no driver for major {major}"),
            NoDevice::NoUnit { driver, unit } => write!(f, "driver {driver}: no unit {unit}"),
        }
    }
}

impl std::error::Error for NoDevice {}

/// A block unit, as found by its number.
#[derive(Clone)]
pub struct BlockUnit {
    /// Its name: `sd0`.
    pub name: Arc<str>,
    /// Its driver.
    pub driver: &'static str,
    /// Which part of it the minor stands for: 0 the whole, else a partition.
    pub part: u32,
    /// The unit.
    pub device: Arc<dyn BlockDevice>,
}

/// What a character number leads to.
#[derive(Clone)]
pub enum CharUnit {
    /// The raw twin of a block unit.
    Raw(BlockUnit),
    /// A character unit: its name, its driver, itself.
    Device(Arc<str>, &'static str, Arc<dyn CharDevice>),
}

/// A driver's row, as in `proc/devices`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriverRow {
    /// In which table.
    pub table: Table,
    /// Its major.
    pub major: u16,
    /// Its name.
    pub driver: &'static str,
    /// The section of the description its units stand in; `memory` where there is none.
    pub class: &'static str,
}

/// A unit, as in `proc/devtab`; and the node that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitRow {
    /// Name of its node: `sd0`, `rsd0`, `null`.
    pub name: String,
    /// Block or character.
    pub table: Table,
    /// Its number.
    pub dev: DevId,
    /// Its driver.
    pub driver: &'static str,
    /// Where its registers are, or `memory`.
    pub address: String,
    /// Whether it is the raw twin of a block unit.
    pub is_raw: bool,
}

/// See the head of this file.
#[derive(Default)]
pub struct Switch {
    block: BTreeMap<u16, Row<Arc<dyn BlockDevice>>>,
    character: BTreeMap<u16, Row<Arc<dyn CharDevice>>>,
    /// Character rows that lead to a block row.
    raw: BTreeMap<u16, u16>,
    drivers: Vec<DriverRow>,
    units: Vec<UnitRow>,
}

struct Row<T> {
    driver: &'static str,
    /// Minors a unit takes.
    minors: u32,
    /// By unit, or by minor where a unit takes one.
    units: BTreeMap<u32, (Arc<str>, T)>,
}

impl<T: Clone> Row<T> {
    fn find(&self, minor: u32) -> Result<(Arc<str>, u32, T), NoDevice> {
        let (unit, part) = (minor / self.minors, minor % self.minors);
        let found = self.units.get(&unit).cloned();
        let (name, device) = found.ok_or(NoDevice::NoUnit { driver: self.driver, unit })?;
        Ok((name, part, device))
    }
}

impl Switch {
    /// Gives a driver its rows, empty.
    pub fn add_driver(&mut self, driver: &dyn Driver) {
        let (name, minors) = (driver.name(), driver.minors().max(1));
        let class = if driver.section().is_empty() { "memory" } else { driver.section() };
        let mut row = |table, major| {
            self.drivers.push(DriverRow { table, major, driver: name, class });
        };
        if let Some(major) = driver.block_major() {
            row(Table::Block, major);
            self.block.insert(major, Row { driver: name, minors, units: BTreeMap::new() });
        }
        if let Some(major) = driver.char_major() {
            row(Table::Character, major);
            match driver.block_major() {
                Some(block) => {
                    self.raw.insert(major, block);
                }
                None => {
                    let row = Row { driver: name, minors: 1, units: BTreeMap::new() };
                    self.character.insert(major, row);
                }
            }
        }
        self.drivers.sort();
    }

    /// Whether the driver has that unit.
    #[must_use]
    pub fn has_unit(&self, driver: &dyn Driver, unit: u32) -> bool {
        let row = driver.block_major().and_then(|major| self.block.get(&major));
        row.is_some_and(|row| row.units.contains_key(&unit))
    }

    /// Enters what a driver attached as its unit number `unit`, called `name`.
    pub fn add_unit(&mut self, driver: &dyn Driver, name: &str, unit: u32, attached: Attached) {
        let (address, minors) = (attached.address, driver.minors().max(1));
        let mut enter = |name: &str, table, major, minor, is_raw| {
            let (name, address) = (name.to_string(), address.clone());
            let dev = DevId { major, minor };
            self.units.push(UnitRow { name, table, dev, driver: driver.name(), address, is_raw });
        };
        if let (Some(device), Some(major)) = (attached.block, driver.block_major()) {
            let minor = unit.saturating_mul(minors);
            enter(name, Table::Block, major, minor, false);
            if let Some(raw) = driver.char_major() {
                enter(&format!("r{name}"), Table::Character, raw, minor, true);
            }
            if let Some(row) = self.block.get_mut(&major) {
                row.units.insert(unit, (name.into(), device));
            }
        }
        let Some(major) = driver.char_major() else { return };
        for (name, minor, device) in attached.character {
            enter(&name, Table::Character, major, minor, false);
            if let Some(row) = self.character.get_mut(&major) {
                row.units.insert(minor, (name.into(), device));
            }
        }
    }

    /// The block unit of that number.
    ///
    /// # Errors
    /// [`NoDevice`]: there is no driver, or it has no such unit.
    pub fn block(&self, dev: DevId) -> Result<BlockUnit, NoDevice> {
        let row = self.block.get(&dev.major).ok_or(NoDevice::NoDriver { major: dev.major })?;
        let (name, part, device) = row.find(dev.minor)?;
        Ok(BlockUnit { name, driver: row.driver, part, device })
    }

    /// The character unit of that number.
    ///
    /// # Errors
    /// [`NoDevice`]: there is no driver, or it has no such unit.
    pub fn character(&self, dev: DevId) -> Result<CharUnit, NoDevice> {
        if let Some(&major) = self.raw.get(&dev.major) {
            return self.block(DevId { major, ..dev }).map(CharUnit::Raw);
        }
        let row = self.character.get(&dev.major).ok_or(NoDevice::NoDriver { major: dev.major })?;
        let (name, _, device) = row.find(dev.minor)?;
        Ok(CharUnit::Device(name, row.driver, device))
    }

    /// The block unit of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<BlockUnit> {
        let is_it = |unit: &&UnitRow| unit.table == Table::Block && unit.name == name;
        self.block(self.units.iter().find(is_it)?.dev).ok()
    }

    /// All drivers: character rows first, then by major.
    #[must_use]
    pub fn drivers(&self) -> &[DriverRow] {
        &self.drivers
    }

    /// All units, in the order in which they were attached.
    #[must_use]
    pub fn units(&self) -> &[UnitRow] {
        &self.units
    }

    /// Minors a unit of that block major takes: all but the first are its partitions.
    #[must_use]
    pub fn minors(&self, major: u16) -> Option<u32> {
        self.block.get(&major).map(|row| row.minors)
    }
}
