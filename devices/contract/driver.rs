//! How a line of the machine's description becomes a unit: drivers, their keys, their values.

use super::{BlockDevice, CharDevice, HostFile};
use crate::machine::Machine;
use crate::sync::Arc;
use std::collections::BTreeMap;

/// What may be written as the value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes: `64M`, `1440K`, `512`.
    Size,
    /// A time: `30s`, `8ms`, `250us`.
    Time,
    /// Bytes a second: `8M/s`.
    Rate,
    /// A whole number, also `0x1f0`.
    Number,
    /// `true` or `false`.
    Flag,
    /// Any text.
    Text,
    /// A file on the host; relative ones are in the state directory.
    Path,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// A value as written, in its base unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Bytes, bytes a second, nanoseconds, or a plain number.
    Number(u64),
    /// `true` or `false`.
    Flag(bool),
    /// Text, a path, or a word of a choice.
    Text(String),
}

/// A key that a section of the machine's description may have.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// What may stand behind it.
    pub kind: Kind,
    /// What holds when it is not written, as it would be written; empty: nothing.
    pub default: &'static str,
    /// What it is for, in one line: it appears in `--print-machine` and in the reference.
    pub doc: &'static str,
}

/// One unit of the machine's description, checked against its driver's keys, defaults filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitConfig {
    /// Name of its node: `sd0`.
    pub name: String,
    /// Which driver's: `sd`.
    pub driver: String,
    /// Number among its driver's units: 0 for `sd0`.
    pub unit: u32,
    /// The values of its keys.
    pub values: BTreeMap<String, Value>,
}

impl UnitConfig {
    /// The number (bytes, nanoseconds) written for `key`; `None` when there is none.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        if let Some(Value::Number(number)) = self.values.get(key) { Some(*number) } else { None }
    }

    /// Whether `key` is `true`.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.values.get(key), Some(Value::Flag(true)))
    }

    /// The text written for `key`; `None` when there is none.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        if let Some(Value::Text(text)) = self.values.get(key) { Some(text) } else { None }
    }
}

/// Why a unit could not be attached. Each says what the user can do about it.
#[derive(Debug)]
pub enum AttachError {
    /// Nobody answers at that address: the unit is left out, the machine goes on.
    Absent,
    /// Something answers, but not what this driver knows: left out, the machine goes on.
    Unknown(String),
    /// Port range, interrupt line or DMA channel is taken, or a value does not fit.
    Conflict(String),
    /// The host refuses: image missing, not writable, wrong size.
    Host(String),
    /// The value of this key is what is at fault: whose it is, why, and the way out.
    Value(&'static str, String),
}

impl AttachError {
    /// The value of a unit's key cannot be had: why, and the way out.
    #[must_use]
    pub fn value(unit: &UnitConfig, key: &'static str, why: impl std::fmt::Display) -> AttachError {
        AttachError::Value(key, format!("\"{key}\" of {}: {why}", unit.name))
    }

    /// Whether description or host are at fault, so that the machine should not be started.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        !matches!(self, AttachError::Absent | AttachError::Unknown(_))
    }
}

impl std::fmt::Display for AttachError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AttachError::Absent => f.write_str("nobody answers at that address"),
            AttachError::Unknown(words)
            | AttachError::Conflict(words)
            | AttachError::Host(words)
            | AttachError::Value(_, words) => f.write_str(words),
        }
    }
}

impl std::error::Error for AttachError {}

/// The rows a unit brings. A disk brings both (its raw twin is the same unit, in the other row).
#[derive(Default, Clone)]
pub struct Attached {
    /// Where its registers are (`port 0x1f0 irq 14`), or `memory`.
    pub address: String,
    /// Its unit of the block switch.
    pub block: Option<Arc<dyn BlockDevice>>,
    /// Its units of the character switch: name, minor, unit. A raw twin is not among them.
    pub character: Vec<(String, u32, Arc<dyn CharDevice>)>,
}

/// A driver: its name, its numbers, and how a line of the description becomes a unit.
pub trait Driver: Sync {
    /// As in the description and in `proc/devices`.
    fn name(&self) -> &'static str;
    /// Its row of the block switch, if it has one.
    fn block_major(&self) -> Option<u16> {
        None
    }
    /// Its row of the character switch, if it has one; of a disk, that of the raw twins.
    fn char_major(&self) -> Option<u16> {
        None
    }
    /// Minors a unit takes: 16 for disks with partitions, else 1.
    fn minors(&self) -> u32 {
        1
    }
    /// The section of the description its units stand in: `disk`, `tape`; empty: always there.
    fn section(&self) -> &'static str;
    /// The keys a unit may have, besides `name` and `driver`.
    fn keys(&self) -> &'static [Key];
    /// Where its units keep their media, if they do so in files of the host.
    fn image(&self) -> Option<HostFile> {
        None
    }
    /// Looks for values that fit their keys and could yet only fail later; claims nothing.
    ///
    /// # Errors
    /// The key, and what is wrong with its value and what would be right.
    fn check(&self, _unit: &UnitConfig) -> Result<(), (&'static str, String)> {
        Ok(())
    }
    /// Probes, claims ports, interrupt line and DMA channel, and returns the rows to install.
    ///
    /// # Errors
    /// See [`AttachError`]; whatever was claimed has been given back.
    fn attach(&self, unit: &UnitConfig, machine: &Machine) -> Result<Attached, AttachError>;
}
