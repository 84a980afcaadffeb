//! The table of drivers, and the boot of a described machine: what is on the bus, who knows it.
//!
//! A new driver is a file of its own and one line here. Nothing else names a driver.

use crate::contract::{AttachError, Driver, UnitConfig, Value};
use crate::machine::Machine;
use crate::switch::Switch;
use crate::{chip, com, fd, hd, lp, mem, ram, sd, st};

type Install = fn(&Machine, &UnitConfig) -> Result<(), AttachError>;

/// A driver, and the hardware it is for.
pub struct Row {
    /// The driver.
    pub driver: &'static dyn Driver,
    hardware: Option<Hardware>,
}

/// How a unit's hardware comes onto the bus.
#[derive(Clone, Copy)]
struct Hardware {
    install: Install,
    /// Where unit 0 is when the description does not say: port, irq, dma.
    first: [u64; 3],
}

/// Ports between the places of two units.
const STRIDE: u64 = 0x100;

const fn bare(driver: &'static dyn Driver) -> Row {
    Row { driver, hardware: None }
}

const fn over(install: Install, first: [u64; 3], driver: &'static dyn Driver) -> Row {
    Row { driver, hardware: Some(Hardware { install, first }) }
}

/// Every driver there is.
pub static DRIVERS: &[Row] = &[
    bare(&mem::Mem),
    bare(&lp::Spooled),
    bare(&ram::Ram),
    over(chip::install_floppy, [0x1000, 6, 2], &fd::Fd),
    over(chip::install_disk, [0x2000, 14, 8], &hd::Hd),
    over(chip::install_disk, [0x4000, 32, 32], &sd::Sd),
    over(chip::install_tape, [0x6000, 64, 64], &st::St),
    over(chip::install_printer, [0x7800, 160, 160], &lp::Lp),
    over(chip::install_uart, [0x3f8, 4, 0], &com::Com),
];

/// Every driver.
#[must_use]
pub fn drivers() -> Vec<&'static dyn Driver> {
    DRIVERS.iter().map(|row| row.driver).collect()
}

/// The driver of that name.
#[must_use]
pub fn driver(name: &str) -> Option<&'static dyn Driver> {
    row(name).map(|row| row.driver)
}

fn row(name: &str) -> Option<&'static Row> {
    DRIVERS.iter().find(|row| row.driver.name() == name)
}

/// What came of a described unit.
#[derive(Debug)]
pub enum Outcome {
    /// Its driver serves it, at this address.
    Found(String),
    /// It is left out: nobody answers ([`AttachError::Absent`]), or somebody else
    /// ([`AttachError::Unknown`]). With `Conflict` and `Host` the description or the host is at
    /// fault, and the machine should not be started.
    Left(AttachError),
}

/// A line of the probe report.
#[derive(Debug)]
pub struct Probe {
    /// The unit's name.
    pub unit: String,
    /// Its driver.
    pub driver: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Probe { unit, driver, outcome } = self;
        match outcome {
            Outcome::Found(address) => write!(f, "{unit} {driver} found at {address}"),
            Outcome::Left(AttachError::Absent) => write!(f, "{unit} {driver} absent"),
            Outcome::Left(AttachError::Unknown(why)) => write!(f, "{unit} {driver} unknown: {why}"),
            Outcome::Left(why) => write!(f, "{unit} {driver} refused: {why}"),
        }
    }
}

/// What was found, unit by unit, in the order of the description. What needs no hardware is always
/// there, and is not in it.
#[derive(Debug, Default)]
pub struct ProbeReport {
    /// The lines.
    pub probes: Vec<Probe>,
}

impl ProbeReport {
    fn note(&mut self, unit: &UnitConfig, outcome: Outcome) {
        let probe = Probe { unit: unit.name.clone(), driver: unit.driver.clone(), outcome };
        log::info!(target: "probe", "{probe}");
        self.probes.push(probe);
    }

    /// What must be mended before the machine can be started, in words.
    pub fn refusals(&self) -> impl Iterator<Item = String> + '_ {
        let at_fault = |probe: &&Probe| {
            let Outcome::Left(why) = &probe.outcome else { return false };
            why.is_fault()
        };
        self.probes.iter().filter(at_fault).map(|probe| match &probe.outcome {
            Outcome::Left(why) => why.to_string(),
            Outcome::Found(_) => String::new(),
        })
    }
}

/// Puts the described hardware on the bus and lets the drivers probe for it, in the order of the
/// description; drivers without a section come first, of themselves.
pub fn attach_all(machine: &Machine, units: &[UnitConfig]) -> (Switch, ProbeReport) {
    let (mut switch, mut report) = (Switch::default(), ProbeReport::default());
    for row in DRIVERS {
        switch.add_driver(row.driver);
    }
    let always = DRIVERS.iter().map(|row| row.driver).filter(|driver| driver.section().is_empty());
    for driver in always {
        let name = driver.name().to_string();
        let unit = UnitConfig { driver: name.clone(), name, ..UnitConfig::default() };
        match driver.attach(&unit, machine) {
            Ok(attached) => switch.add_unit(driver, &unit.name, 0, attached),
            Err(why) => report.note(&unit, Outcome::Left(why)),
        }
    }
    for unit in units {
        let outcome = match attach(machine, unit, &mut switch) {
            Ok(address) => Outcome::Found(address),
            Err(why) => Outcome::Left(why),
        };
        report.note(unit, outcome);
    }
    (switch, report)
}

fn attach(
    machine: &Machine,
    unit: &UnitConfig,
    switch: &mut Switch,
) -> Result<String, AttachError> {
    let name = &unit.name;
    let row = row(&unit.driver).ok_or_else(|| {
        let all = DRIVERS.iter().map(|row| row.driver.name()).collect::<Vec<_>>().join(", ");
        AttachError::Conflict(format!("{name}: no driver {} (there are {all})", unit.driver))
    })?;
    if switch.has_unit(row.driver, unit.unit) || switch.named(name).is_some() {
        let (driver, number) = (&unit.driver, unit.unit);
        let words = format!("{name}: there is a unit {number} of driver {driver} already");
        return Err(AttachError::Conflict(words));
    }
    let unit = placed(unit, row);
    let port = unit.number("port").and_then(|port| u16::try_from(port).ok());
    let mut is_installed = false;
    if let Some(hardware) = row.hardware.filter(|_| !unit.flag("absent")) {
        (hardware.install)(machine, &unit)?;
        is_installed = true;
    }
    let attached = row.driver.attach(&unit, machine).inspect_err(|_| {
        // Hardware that nobody serves would keep its image from others.
        if let Some(port) = port.filter(|_| is_installed) {
            machine.ports.remove(port);
        }
    })?;
    let address = attached.address.clone();
    switch.add_unit(row.driver, &unit.name, unit.unit, attached);
    Ok(address)
}

/// The unit, with its driver's own places where the description names none.
fn placed(unit: &UnitConfig, row: &Row) -> UnitConfig {
    let mut unit = unit.clone();
    if let Some(Hardware { first: [port, irq, dma], .. }) = row.hardware {
        let number = u64::from(unit.unit);
        let places =
            [("port", port + number * STRIDE), ("irq", irq + number), ("dma", dma + number)];
        for (key, place) in places {
            unit.values.entry(key.into()).or_insert(Value::Number(place));
        }
    }
    unit
}

#[cfg(test)]
#[path = "conf_tests.rs"]
mod tests;
