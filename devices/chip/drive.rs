//! What disk and diskette controllers have in common beneath their registers: the medium with its
//! spares, the faults, and the sense that says what went wrong.

use super::spares::{SPARES_MAX, Spares};
use crate::contract::host_file::{DISK_IMAGE, SPARES};
use crate::contract::{AttachError, IoError, Op, SECTOR_SIZE, Sense, UnitConfig, Value};
use crate::fault::{Command, Faults, Verdict};
use crate::machine::Machine;
use crate::manual;
use crate::medium::{FileMedium, FileOptions, Medium, RamMedium};
use crate::sync::Arc;
use crate::timing::{Mechanism, Model};
use std::fmt::Display;
use std::path::PathBuf;

/// An illegal request: invalid operation code.
pub(super) const INVALID_OPCODE: Sense = Sense { key: 5, asc: 0x20, ascq: 0, info: None };
/// An illegal request: address out of range.
const OUT_OF_RANGE: Sense = Sense { key: 5, asc: 0x21, ascq: 0, info: None };
/// An illegal request: invalid field in the command.
pub(super) const INVALID_FIELD: Sense = Sense { key: 5, asc: 0x24, ascq: 0, info: None };
/// Aborted: the data phase failed, memory was not where it should be.
pub(super) const DATA_PHASE: Sense = Sense { key: 0xb, asc: 0x4b, ascq: 0, info: None };
/// Aborted: internal target failure. The controller's program broke down over this command.
pub(super) const BREAKDOWN: Sense = Sense { key: 0xb, asc: 0x44, ascq: 0, info: None };

/// See the head of this file.
pub(super) struct Drive {
    pub(super) name: String,
    pub(super) medium: Spares,
    pub(super) sector_bytes: u32,
    pub(super) transfer_max: u32,
    faults: Arc<Faults>,
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.faults.forget(&self.name);
    }
}

/// The number written for `key`, in the range that fits.
fn number(
    unit: &UnitConfig,
    key: &str,
    fits: std::ops::RangeInclusive<u64>,
    default: u64,
) -> Result<u64, AttachError> {
    let number = unit.number(key).unwrap_or(default);
    if fits.contains(&number) {
        return Ok(number);
    }
    let (name, low, high) = (&unit.name, fits.start(), fits.end());
    Err(AttachError::Conflict(format!("{name}: {key} = {number}: must be from {low} to {high}")))
}

/// The image of a unit, and where it is; in memory without a state directory.
fn medium(
    machine: &Machine,
    unit: &UnitConfig,
    sector_bytes: u32,
) -> Result<(Arc<dyn Medium>, Option<PathBuf>), AttachError> {
    let bytes = unit.number("size");
    let Some(path) = machine.image(unit) else {
        let wrong = |why: &str| AttachError::value(unit, "size", why);
        let bytes = bytes.filter(|bytes| *bytes > 0);
        let bytes = bytes.ok_or_else(|| wrong("kept in memory, it must have one"))?;
        if !bytes.is_multiple_of(sector_bytes.into()) {
            return Err(wrong(&format!("{bytes} is no multiple of {sector_bytes}")));
        }
        return Ok((Arc::new(RamMedium::new(bytes)), None));
    };
    let read_only = unit.flag("read_only");
    let host_sync = is_synced(unit);
    let options = FileOptions { bytes, sector_bytes, read_only, host_sync };
    let medium = FileMedium::open(&path, options);
    let medium = medium.map_err(|why| {
        let key = if why.is_of_size { "size" } else { DISK_IMAGE.key };
        AttachError::value(unit, key, why.words)
    })?;
    Ok((Arc::new(medium), Some(path)))
}

/// The place on a bus that is described by `key`, at most `last`.
///
/// # Errors
/// `Conflict` where it is not given, or beyond.
pub(super) fn place<T>(unit: &UnitConfig, key: &str, last: T) -> Result<T, AttachError>
where
    T: TryFrom<u64> + PartialOrd + Display,
{
    let wrong = |words| AttachError::Conflict(format!("{}: {words}", unit.name));
    let number = unit.number(key).ok_or_else(|| wrong(format!("{key} must be given")))?;
    let place = T::try_from(number).ok().filter(|place| *place <= last);
    place.ok_or_else(|| wrong(format!("no {key} {number}: the last is {last}")))
}

fn is_synced(unit: &UnitConfig) -> bool {
    unit.values.get("host_sync") != Some(&Value::Flag(false))
}

impl Drive {
    /// The drive of a described unit, and its mechanism.
    ///
    /// # Errors
    /// `Conflict` where a value does not fit, `Host` where the image cannot be used.
    pub(super) fn open(
        machine: &Machine,
        unit: &UnitConfig,
    ) -> Result<(Drive, Mechanism), AttachError> {
        let name = unit.name.clone();
        let wrong = |words: String| AttachError::Conflict(format!("{name}: {words}"));
        let sector_bytes = match unit.number("sector") {
            None | Some(512) => 512,
            Some(4096) => 4096,
            Some(other) => return Err(wrong(format!("sector = {other}: must be 512 or 4096"))),
        };
        let model = unit.text("timing").unwrap_or("none");
        let model = Model::named(model).ok_or_else(|| wrong(format!("timing = \"{model}\"")))?;
        let longest = number(unit, "transfer_max", u64::from(sector_bytes)..=1 << 30, 1 << 20)?;
        let transfer_max = longest / u64::from(sector_bytes) * u64::from(sector_bytes) / 512;
        let spares = number(unit, "spares", 0..=SPARES_MAX.into(), 64)?;
        let (inner, path) = medium(machine, unit, sector_bytes)?;
        let mechanism = Mechanism::new(model, inner.bytes() / SECTOR_SIZE as u64);
        let beside = path.map(|path| SPARES.path(&path));
        let spares = u32::try_from(spares).unwrap_or(SPARES_MAX);
        let medium = Spares::open(inner, sector_bytes, spares, beside, is_synced(unit))
            .map_err(|why| AttachError::value(unit, DISK_IMAGE.key, why))?;
        machine.faults.register(&name);
        let faults = Arc::clone(&machine.faults);
        let transfer_max = u32::try_from(transfer_max).unwrap_or(u32::MAX);
        Ok((Drive { name, medium, sector_bytes, transfer_max, faults }, mechanism))
    }

    /// Length, in sectors of 512 bytes.
    pub(super) fn sectors(&self) -> u64 {
        self.medium.bytes() / SECTOR_SIZE as u64
    }

    /// Sectors of 512 bytes in one of the medium's own.
    pub(super) fn grain(&self) -> u64 {
        u64::from(self.sector_bytes) / SECTOR_SIZE as u64
    }

    /// Whether a command can be done at all.
    pub(super) fn check(&self, command: &Command) -> Result<(), Sense> {
        let Command { op, sector, sectors, .. } = *command;
        if op == Op::Flush {
            return Ok(());
        }
        if !sector.is_multiple_of(self.grain()) || !sectors.is_multiple_of(self.grain()) {
            return Err(INVALID_FIELD);
        }
        match sector.checked_add(sectors) {
            Some(end) if end <= self.sectors() => {}
            _ => return Err(OUT_OF_RANGE),
        }
        if matches!(op, Op::Read | Op::Write) && sectors > u64::from(self.transfer_max) {
            return Err(INVALID_FIELD);
        }
        if self.medium.is_read_only() && op != Op::Read {
            return Err(IoError::WriteProtected.sense());
        }
        Ok(())
    }

    /// What the faults make of it.
    pub(super) fn consult(&self, command: &Command) -> Verdict {
        self.faults.consult(&self.name, command)
    }

    /// The service switch: what a fault broke for good is mended.
    pub(super) fn repair(&self) {
        self.faults.repair(&self.name);
    }

    /// Medium to memory.
    pub(super) fn read(&self, sector: u64, runs: &mut [&mut [u8]]) -> Result<(), Sense> {
        let outcome = self.medium.read_runs(sector * SECTOR_SIZE as u64, runs);
        outcome.map_err(|error| self.sense(error, Op::Read))
    }

    /// Memory to medium.
    pub(super) fn write(&self, sector: u64, runs: &[&[u8]]) -> Result<(), Sense> {
        let outcome = self.medium.write_runs(sector * SECTOR_SIZE as u64, runs);
        outcome.map_err(|error| self.sense(error, Op::Write))
    }

    /// What needs no memory: flush, discard, zero.
    pub(super) fn arrange(&self, op: Op, sector: u64, sectors: u64) -> Result<(), Sense> {
        let (at, len) = (sector * SECTOR_SIZE as u64, sectors * SECTOR_SIZE as u64);
        let outcome = match op {
            Op::Discard => self.medium.discard(at, len),
            Op::Zero => self.medium.zero(at, len),
            Op::Flush | Op::Read | Op::Write => self.medium.flush(),
        };
        outcome.map_err(|error| self.sense(error, op))
    }

    /// The sense of what the medium says.
    fn sense(&self, error: IoError, op: Op) -> Sense {
        let IoError::Media(sector) = error else { return error.sense() };
        let is_lost = self.medium.is_lost(sector.byte());
        let (asc, ascq) = match (op, is_lost) {
            (Op::Read, false) => (0x11, 0x00), // unrecovered read error
            (Op::Read, true) => (0x11, 0x04),  // the same, automatic reallocation failed
            (_, false) => (0x0c, 0x00),        // write error
            (_, true) => (0x0c, 0x02),         // the same, automatic reallocation failed
        };
        Sense { key: 3, asc, ascq, info: Some(sector.0) }
    }
}

/// The operation of an opcode.
pub(super) fn operation(opcode: u8) -> Option<Op> {
    Some(match opcode {
        manual::READ => Op::Read,
        manual::WRITE => Op::Write,
        manual::FLUSH => Op::Flush,
        manual::DISCARD => Op::Discard,
        manual::ZERO => Op::Zero,
        _ => return None,
    })
}
