//! The machine's description: `machine.toml` and the command line in, a checked [`Config`] out.
//!
//! 1. Every key stands in one table: those of the fixed sections here, those of a unit with its
//!    driver. Checks, defaults, suggestions and the reference are made from these tables.
//! 2. Nothing is half accepted: a description with a mistake gives [`Complaints`], which name
//!    every mistake with its file and line.
//! 3. No text and no file makes anything here panic or wait.

mod cables;
mod door;
mod parse;
mod queue;
mod reference;
mod schema;
mod unit;

#[cfg(test)]
mod tests;

use crate::words;
use devices::{Driver, Kind, UnitConfig, Value};
use parse::{Section, Written};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

pub use devices::value::{format_size as show_size, format_time as show_time};
pub use door::DoorConfig;
pub use queue::QueueConfig;
pub use reference::print_machine;

/// The machine as shipped.
pub const DEFAULT_MACHINE: &str = include_str!("../devices/machine.toml");

/// What the machine as shipped is called in complaints.
const DEFAULT_NAME: &str = "machine.toml (as shipped)";

/// Longest machine file, in bytes.
pub const MACHINE_BYTES_MAX: usize = 1 << 20;

/// Most mistakes that are told at once.
const COMPLAINTS_MAX: usize = 20;

/// Which clock the machine runs by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// The host's: a unit with a timing model takes its time.
    Real,
    /// Its own: nobody waits for a device.
    Virtual,
}

/// `[machine]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    /// Which clock.
    pub time: Time,
    /// From which all random choices come; `None`: from the host, new at each start.
    pub seed: Option<u64>,
}

/// `[cache]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Bound of the buffers' memory.
    pub size_bytes: u64,
    /// Longest stay of a delayed write.
    pub flush_age_nanos: u64,
    /// Hundredths of the cache that delayed writes may fill before they begin early.
    pub wake_percent: u8,
    /// Hundredths of the cache that delayed writes may fill before writers wait.
    pub high_percent: u8,
}

impl CacheConfig {
    /// Bounds of the cache: a block, and what no host has.
    pub const SIZE_BYTES: RangeInclusive<u64> = 4096..=1 << 40;
}

/// `[tree]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeConfig {
    /// Other users may use the tree.
    pub allow_other: bool,
}

/// A machine, checked, with every default filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// The whole.
    pub machine: MachineConfig,
    /// The buffer cache.
    pub cache: CacheConfig,
    /// The tree.
    pub tree: TreeConfig,
    /// Its units, as they are written: the order in which they are to be attached. What has no
    /// section is always there and not among them.
    pub units: Vec<UnitConfig>,
    /// The print queues that are described beside those of the printers.
    pub queues: Vec<QueueConfig>,
    /// Where RFC 1179 is served; `None`: nowhere.
    pub lpd: Option<DoorConfig>,
    /// Queues, and where every connection is a job of theirs.
    pub jetdirect: Vec<(String, DoorConfig)>,
    /// Of units (`sd0`) and of their keys (`sd0.image`).
    places: BTreeMap<String, Place>,
}

impl Config {
    /// Where a unit is described (`my.toml:7`), to say with what is wrong about it.
    #[must_use]
    pub fn place(&self, unit: &str) -> String {
        self.places.get(unit).map_or_else(|| DEFAULT_NAME.into(), Place::to_string)
    }

    /// Where a key of a unit is written; else where the unit is described.
    #[must_use]
    pub fn place_of(&self, unit: &str, key: &str) -> String {
        let place = self.places.get(&format!("{unit}.{key}"));
        place.map_or_else(|| self.place(unit), Place::to_string)
    }
}

/// From where a machine's description comes.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--machine FILE`; `None`: the machine as shipped.
    pub machine: Option<PathBuf>,
    /// `--disk NAME=FILE[,ro]`, as typed.
    pub disks: Vec<String>,
    /// `--set KEY=VALUE`, as typed.
    pub sets: Vec<String>,
    /// `--time`, as typed.
    pub time: Option<String>,
    /// `--allow-other`.
    pub allow_other: bool,
}

/// Where something is written: file and line, or an option of the command line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    label: String,
    /// From 1; 0 where there are no lines.
    line: usize,
}

impl Place {
    fn option(label: impl Into<String>) -> Place {
        Place { label: label.into(), line: 0 }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.label),
            line => write!(f, "{}:{line}", self.label),
        }
    }
}

/// What is wrong with a description: one line a mistake, `FILE:LINE: what`, in their order.
#[derive(Debug, Default)]
pub struct Complaints {
    list: Vec<(Place, String)>,
}

impl Complaints {
    fn add(&mut self, place: &Place, words: impl Into<String>) {
        self.list.push((place.clone(), words.into()));
    }

    fn one(place: Place, words: impl Into<String>) -> Complaints {
        Complaints { list: vec![(place, words.into())] }
    }

    /// The mistakes, one a line, without line ends; of very many the first.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let told = self.list.iter().take(COMPLAINTS_MAX);
        let rest = self.list.len().saturating_sub(COMPLAINTS_MAX);
        let more = (rest > 0).then(|| format!("and {rest} more mistakes"));
        told.map(|(place, words)| format!("{place}: {words}")).chain(more)
    }

    fn or(mut self, config: Config) -> Result<Config, Complaints> {
        if self.list.is_empty() {
            return Ok(config);
        }
        self.list.sort_by_key(|(place, _)| (place.line == 0, place.line));
        Err(self)
    }
}

impl Display for Complaints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for Complaints {}

/// Reads, overlays and checks a description against `drivers`.
///
/// # Errors
/// Every mistake of file and command line, in words.
pub fn load(sources: &Sources, drivers: &[&'static dyn Driver]) -> Result<Config, Complaints> {
    match &sources.machine {
        None => from_text(DEFAULT_NAME, DEFAULT_MACHINE, sources, drivers),
        Some(file) => {
            let text = read_file(file)?;
            from_text(&file.display().to_string(), &text, sources, drivers)
        }
    }
}

/// Bytes, as written in a description or in a command: `64M`.
///
/// # Errors
/// What would be right.
pub fn parse_size(text: &str) -> Result<u64, String> {
    devices::value::parse_size(text).ok_or_else(|| wanted(Kind::Size, text))
}

/// Nanoseconds, as written in a description or in a command: `30s`.
///
/// # Errors
/// What would be right.
pub fn parse_time(text: &str) -> Result<u64, String> {
    devices::value::parse_time(text).ok_or_else(|| wanted(Kind::Time, text))
}

fn wanted(kind: Kind, text: &str) -> String {
    format!("{text:?} is not {}", kind.wanted())
}

/// Checks the description `text`, called `label` in complaints, with the command line over it.
fn from_text(
    label: &str,
    text: &str,
    sources: &Sources,
    drivers: &[&'static dyn Driver],
) -> Result<Config, Complaints> {
    let mut sections = parse::sections(label, text)?;
    let mut wrong = Complaints::default();
    overlay(&mut sections, sources, &mut wrong);
    schema::check_sections(&mut sections, drivers, &mut wrong);
    let mut fixed = BTreeMap::new();
    for (name, keys) in schema::FIXED {
        let written = sections.iter().filter(|section| section.name == *name);
        let entries = written.flat_map(|section| &section.entries);
        fixed.insert(*name, schema::values(entries, keys, &format!("[{name}]"), &mut wrong));
    }
    let (units, places) = unit::units(&sections, drivers, &mut wrong);
    let queues = queue::queues(&sections, &units, &mut wrong);
    cables::check(&sections, &mut wrong);
    let lpd = door::lpd(&sections, &mut wrong);
    let jetdirect = door::jetdirect(&sections, &units, &queues, &mut wrong);
    let fixed = |section: &str, key: &str| fixed.get(section).and_then(|values| values.get(key));
    let number = |section, key| match fixed(section, key) {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    };
    let percent = |key| number("cache", key).and_then(|n| u8::try_from(n).ok()).unwrap_or(u8::MAX);
    if !(percent("wake_percent") <= percent("high_percent") && percent("high_percent") <= 100) {
        let place = place_of(&sections, "cache", &["high_percent", "wake_percent"], label);
        wrong.add(&place, "wake_percent is at most high_percent, and that is at most 100");
    }
    let is_virtual = matches!(fixed("machine", "time"), Some(Value::Text(t)) if t == "virtual");
    let config = Config {
        machine: MachineConfig {
            time: if is_virtual { Time::Virtual } else { Time::Real },
            seed: number("machine", "seed"),
        },
        cache: CacheConfig {
            size_bytes: number("cache", "size").unwrap_or_default(),
            flush_age_nanos: number("cache", "flush_age").unwrap_or_default(),
            wake_percent: percent("wake_percent"),
            high_percent: percent("high_percent"),
        },
        tree: TreeConfig {
            allow_other: matches!(fixed("tree", "allow_other"), Some(Value::Flag(true))),
        },
        units,
        queues,
        lpd,
        jetdirect,
        places,
    };
    check_cache(&sections, label, &config.cache, &mut wrong);
    wrong.or(config)
}

/// Complains of a cache that could hold nothing, or more than there can be.
fn check_cache(sections: &[Section], label: &str, cache: &CacheConfig, wrong: &mut Complaints) {
    let place = |key| place_of(sections, "cache", &[key], label);
    if !CacheConfig::SIZE_BYTES.contains(&cache.size_bytes) {
        wrong.add(&place("size"), "\"size\" of [cache] is at least 4K and at most 1T");
    }
    if cache.flush_age_nanos == 0 {
        wrong.add(&place("flush_age"), "\"flush_age\" of [cache] is longer than nothing, as 30s");
    }
}

/// Where the first of `keys` that is written in a section stands.
fn place_of(sections: &[Section], name: &str, keys: &[&str], label: &str) -> Place {
    let written = sections.iter().filter(|section| section.name == name);
    let mut entries = written.flat_map(|section| &section.entries);
    let found = entries.find(|entry| keys.contains(&entry.key.as_str()));
    found.map_or(Place { label: label.into(), line: 0 }, |entry| entry.place.clone())
}

/// Reads a machine file, which may be a pipe, but no endless one.
fn read_file(file: &Path) -> Result<String, Complaints> {
    let place = |line| Place { label: file.display().to_string(), line };
    let refused = |error: std::io::Error| Complaints::one(place(0), words::of_host(&error));
    let mut bytes = Vec::new();
    let limit = MACHINE_BYTES_MAX as u64 + 1;
    std::fs::File::open(file)
        .and_then(|opened| opened.take(limit).read_to_end(&mut bytes))
        .map_err(refused)?;
    if bytes.len() > MACHINE_BYTES_MAX {
        return Err(Complaints::one(place(0), "longer than 1M, this is no machine file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count();
        Complaints::one(place(line), "not UTF-8 text")
    })
}

/// Lays the command line over the file's sections.
fn overlay(sections: &mut Vec<Section>, sources: &Sources, wrong: &mut Complaints) {
    if let Some(time) = &sources.time {
        let place = Place::option("--time");
        parse::put(sections, "machine", "time", Written::Bare(time.clone()), &place);
    }
    if sources.allow_other {
        let place = Place::option("--allow-other");
        parse::put(sections, "tree", "allow_other", Written::Flag(true), &place);
    }
    let mut named = Vec::new();
    for typed in &sources.disks {
        let place = Place::option(format!("--disk {typed}"));
        match unit::disk(typed, &mut named) {
            Ok(disk) => disk.put(sections, &place),
            Err(words) => wrong.add(&place, words),
        }
    }
    for typed in &sources.sets {
        let place = Place::option(format!("--set {typed}"));
        if let Err(words) = set(sections, typed, &place) {
            wrong.add(&place, words);
        }
    }
}

/// Lays one `--set KEY=VALUE` over the sections.
fn set(sections: &mut Vec<Section>, typed: &str, place: &Place) -> Result<(), String> {
    let example = "sd0.size=128M or cache.size=32M is right";
    let (path, value) = typed.split_once('=').ok_or_else(|| format!("no value, {example}"))?;
    let (owner, key) = path.split_once('.').ok_or_else(|| format!("no key, {example}"))?;
    let value = Written::Bare(value.into());
    if schema::FIXED.iter().any(|(name, _)| *name == owner) {
        parse::put(sections, owner, key, value, place);
        return Ok(());
    }
    let units = sections.iter().filter_map(Section::unit).collect::<Vec<_>>();
    if !units.contains(&owner) {
        let fixed = schema::FIXED.iter().map(|(name, _)| *name);
        let near = words::closest(owner, units.iter().copied().chain(fixed));
        let near = near.map_or(String::new(), |near| format!(", did you mean \"{near}\"?"));
        return Err(format!("no unit or section \"{owner}\"{near}"));
    }
    if key == "name" || key == "driver" {
        return Err(format!("\"{key}\" of a unit can only be written in a machine file"));
    }
    let owner = owner.to_owned();
    let mut owned = sections.iter_mut().filter(|section| section.unit() == Some(&owner));
    if let Some(section) = owned.next() {
        section.put(key, value, place);
    }
    Ok(())
}
