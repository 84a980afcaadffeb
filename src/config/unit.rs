//! Sections of units to checked [`UnitConfig`]s: names, drivers, values, and what may not be twice.

use super::parse::{Section, Written};
use super::{Complaints, Place, schema, words};
use devices::{Driver, Key, SECTOR_SIZE, UnitConfig};
use std::collections::BTreeMap;
use std::path::Path;

/// Most units of a machine.
pub(super) const UNITS_MAX: usize = 1024;
/// Minors that a row of a switch has room for, as in Linux's `dev_t`.
const MINORS_MAX: u32 = 1 << 20;
/// Longest name of a unit: it leaves room for `r`, partition and density letters.
const NAME_BYTES_MAX: usize = 64;

/// The units of a description, and where each is described.
pub(super) fn units(
    sections: &[Section],
    drivers: &[&'static dyn Driver],
    wrong: &mut Complaints,
) -> (Vec<UnitConfig>, BTreeMap<String, Place>) {
    let mut units = Vec::new();
    let mut taken = Taken::default();
    let is_unit = |section: &&Section| {
        let is_other = schema::SEVERAL.iter().any(|(name, _)| *name == section.name);
        section.is_one_of_many && !is_other
    };
    for section in sections.iter().filter(is_unit) {
        if units.len() >= UNITS_MAX {
            wrong.add(&section.place, format!("more than {UNITS_MAX} units"));
            break;
        }
        if let Some(unit) = unit(section, drivers, &mut taken, wrong) {
            units.push(unit);
        }
    }
    (units, taken.places)
}

/// What the units so far have, and where it was written.
#[derive(Default)]
struct Taken {
    places: BTreeMap<String, Place>,
    /// Names that raw twins have, with whose they are.
    twins: BTreeMap<String, String>,
    numbers: BTreeMap<(&'static str, u32), String>,
    /// Images that a unit writes, or only reads.
    images: BTreeMap<String, (String, bool)>,
}

/// Checks one section. Every mistake is told; only a unit without any comes out.
fn unit(
    section: &Section,
    drivers: &[&'static dyn Driver],
    taken: &mut Taken,
    wrong: &mut Complaints,
) -> Option<UnitConfig> {
    let kind = format!("[[{}]]", section.name);
    let (name, place) = match section.entry("name") {
        Some(entry) => match section.unit() {
            Some(name) => (name, &entry.place),
            None => {
                wrong.add(&entry.place, "a name stands in quotes, as in name = \"sd0\"");
                return None;
            }
        },
        None => {
            wrong.add(&section.place, format!("{kind} has no name; name = \"sd0\" is one"));
            return None;
        }
    };
    let Some((letters, number)) = split_name(name) else {
        let rule = "letters and a number, such as sd0, are right";
        wrong.add(place, format!("{name:?} is no name of a unit: {rule}"));
        return None;
    };
    let driver = match driver(section, letters, drivers) {
        Ok(driver) => driver,
        Err((place, words)) => {
            wrong.add(place, words);
            return None;
        }
    };
    let mut keys: Vec<Key> = schema::UNIT.to_vec();
    keys.extend_from_slice(driver.keys());
    let before = wrong.list.len();
    let mut values = schema::values(section.entries.iter(), &keys, name, wrong);
    for key in schema::UNIT {
        values.remove(key.name);
    }
    let unit = UnitConfig { name: name.into(), driver: driver.name().into(), unit: number, values };
    if let Err(words) = taken.enter(&unit, driver, place) {
        wrong.add(place, words);
        return None;
    }
    for entry in &section.entries {
        taken.places.insert(format!("{name}.{}", entry.key), entry.place.clone());
    }
    for (key, words) in misfits(&unit, driver, taken) {
        wrong.add(section.place_of(key), words);
    }
    if let Err((key, words)) = driver.check(&unit) {
        wrong.add(section.place_of(key), format!("\"{key}\" of {name}: {words}"));
    }
    (wrong.list.len() == before).then_some(unit)
}

/// `sd0` is `sd` and 0. A number has one spelling, so that no unit has two names.
pub(super) fn split_name(name: &str) -> Option<(&str, u32)> {
    let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &name[letters.len()..];
    let is_plain = !letters.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && letters.chars().all(|c| c.is_ascii_alphabetic())
        && (digits == "0" || !digits.starts_with('0'));
    Some((letters, digits.parse().ok()?)).filter(|_| is_plain)
}

/// The driver of a section's unit: the one it names, else that of its letters, else the only one.
fn driver<'a>(
    section: &'a Section,
    letters: &str,
    drivers: &[&'static dyn Driver],
) -> Result<&'static dyn Driver, (&'a Place, String)> {
    let of_section = drivers.iter().filter(|driver| driver.section() == section.name);
    let mut names = of_section.clone().map(|driver| driver.name()).collect::<Vec<_>>();
    let written = section.entry("driver");
    let (wanted, place) = match written.map(|entry| (&entry.value, &entry.place)) {
        Some((Written::Text(text) | Written::Bare(text), place)) => (text.as_str(), place),
        Some((_, place)) => ("", place),
        None if names.len() == 1 => (names[0], &section.place),
        None => (letters, section.place_of("name")),
    };
    if let Some(driver) = of_section.clone().find(|driver| driver.name() == wanted) {
        return Ok(*driver);
    }
    if let Some(other) = drivers.iter().find(|driver| driver.name() == wanted) {
        let words = match other.section() {
            "" => format!("driver \"{wanted}\" is always there and has no section"),
            right => format!("driver \"{wanted}\" stands under [[{right}]]"),
        };
        return Err((place, words));
    }
    names.sort_unstable();
    let words = match words::closest(wanted, names.iter().copied()) {
        Some(near) => format!("unknown driver \"{wanted}\", did you mean \"{near}\"?"),
        None => format!("unknown driver \"{wanted}\", here there are {}", names.join(", ")),
    };
    Err((place, words))
}

impl Taken {
    /// Enters name, number and raw twin of a unit.
    fn enter(
        &mut self,
        unit: &UnitConfig,
        driver: &'static dyn Driver,
        place: &Place,
    ) -> Result<(), String> {
        let name = &unit.name;
        if let Some(first) = self.places.get(name) {
            return Err(format!("duplicate name \"{name}\", first at {first}"));
        }
        let key = (driver.name(), unit.unit);
        if let Some(first) = self.numbers.get(&key) {
            let place = &self.places[first];
            let words = format!("unit {} of driver {} is \"{first}\" already", key.1, key.0);
            return Err(format!("{words}, at {place}"));
        }
        let units_max = MINORS_MAX / driver.minors().max(1);
        if unit.unit >= units_max {
            let words = format!("unit number {} is too large", unit.unit);
            return Err(format!("{words}: at most {}", units_max - 1));
        }
        let has_twin = driver.block_major().is_some() && driver.char_major().is_some();
        let twin = format!("r{name}");
        let clash = self.twins.get(name).map(|whose| (name, whose));
        let clash = clash.or_else(|| {
            let (whose, _) = self.places.get_key_value(&twin).filter(|_| has_twin)?;
            Some((whose, name))
        });
        if let Some((raw, whose)) = clash {
            return Err(format!("\"{raw}\" is the name of the raw twin of \"{whose}\""));
        }
        if has_twin {
            self.twins.insert(twin, name.clone());
        }
        self.numbers.insert(key, name.clone());
        self.places.insert(name.clone(), place.clone());
        Ok(())
    }
}

/// What does not fit among the values of a unit: at which key, and why.
fn misfits(
    unit: &UnitConfig,
    driver: &'static dyn Driver,
    taken: &mut Taken,
) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let name = &unit.name;
    let sector = sector_bytes(unit);
    if sector != 512 && sector != 4096 {
        wrong.push(("sector", format!("a sector of {name} has 512 or 4096 bytes, not {sector}")));
    } else if let Some(size) = unit.number("size") {
        let right = devices::value::format_size(size.next_multiple_of(sector).max(sector));
        if size == 0 || size % sector != 0 {
            let shown = devices::value::format_size(size);
            let words = format!("size {shown} of {name} is no multiple of its sector of {sector}");
            wrong.push(("size", format!("{words} bytes; {right} is one")));
        }
    }
    if unit.flag("passthrough") {
        if unit.flag("host_cache") {
            let words = format!("{name} has either host_cache or passthrough");
            wrong.push(("passthrough", words));
        }
        let timing = unit.text("timing").unwrap_or("none");
        if timing != "none" {
            let words = format!("with passthrough {name} takes no time: timing = \"none\"");
            wrong.push(("passthrough", format!("{words} goes with it, not \"{timing}\"")));
        }
    }
    if let Some(file) = driver.image() {
        let image = file.name(unit);
        let only_reads = unit.flag("read_only");
        match taken.images.get(&image) {
            Some((first, both_read)) if !(only_reads && *both_read) => {
                wrong.push((file.key, format!("image \"{image}\" is that of \"{first}\" already")));
            }
            _ => {
                taken.images.insert(image, (name.clone(), only_reads));
            }
        }
    }
    wrong
}

fn sector_bytes(unit: &UnitConfig) -> u64 {
    unit.number("sector").unwrap_or(SECTOR_SIZE as u64)
}

/// `--disk NAME=FILE[,ro]`.
pub(super) struct Disk {
    name: String,
    image: String,
    bytes: u64,
    read_only: bool,
}

/// Reads one `--disk`; `named` are the names of those before it.
pub(super) fn disk(typed: &str, named: &mut Vec<String>) -> Result<Disk, String> {
    const NO_FILE: &str = "no file; sd2=my.img is right";
    let (name, rest) = typed.split_once('=').ok_or(NO_FILE)?;
    let (file, read_only) = match rest.strip_suffix(",ro") {
        Some(file) => (file, true),
        None => (rest, false),
    };
    if file.is_empty() {
        return Err(NO_FILE.into());
    }
    if named.iter().any(|other| other == name) {
        return Err(format!("a second disk \"{name}\""));
    }
    named.push(name.into());
    let told = |error: std::io::Error| format!("{file}: {}", words::of_host(&error));
    let found = std::fs::metadata(file).map_err(told)?;
    if !found.is_file() {
        return Err(format!("{file}: not a regular file"));
    }
    // Relative paths of units are in the state directory; what is typed is relative to the caller.
    let image = std::path::absolute(Path::new(file)).map_err(told)?;
    let image = image.to_str().ok_or_else(|| format!("{file}: the path is not UTF-8"))?;
    Ok(Disk { name: name.into(), image: image.into(), bytes: found.len(), read_only })
}

impl Disk {
    /// Adds the disk, or puts its image under the unit that has its name.
    pub(super) fn put(self, sections: &mut Vec<Section>, place: &Place) {
        let found = sections.iter().position(|section| section.unit() == Some(&self.name));
        let index = found.unwrap_or_else(|| {
            sections.push(Section {
                name: "disk".into(),
                place: place.clone(),
                is_one_of_many: true,
                entries: Vec::new(),
            });
            sections.len() - 1
        });
        let section = &mut sections[index];
        if found.is_none() {
            section.put("name", Written::Text(self.name), place);
        }
        section.put("image", Written::Text(self.image), place);
        section.put("size", Written::Number(self.bytes), place);
        if self.read_only {
            section.put("read_only", Written::Flag(true), place);
        }
    }
}
