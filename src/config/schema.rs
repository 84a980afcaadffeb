//! The sections of a description, their keys, and the check of entries against keys.

use super::parse::{Entry, Section, Written};
use super::{Complaints, words};
use devices::{Driver, Key, Kind, Value};
use std::collections::BTreeMap;

/// The sections that are there once, with their keys.
pub(super) const FIXED: &[(&str, &[Key])] =
    &[("machine", MACHINE), ("cache", CACHE), ("tree", TREE), ("lpd", LPD)];

/// A section whose keys are the names of queues.
pub(super) const JETDIRECT: &str = "jetdirect";

const LPD: &[Key] = &[Key {
    name: "listen",
    kind: Kind::Text,
    default: "",
    doc: "where to serve RFC 1179 (lpr of other hosts), as in \"127.0.0.1:5515\"; else nowhere",
}];

const MACHINE: &[Key] = &[
    Key {
        name: "time",
        kind: Kind::Choice(&["real", "virtual"]),
        default: "real",
        doc: "which clock: the host's, or one that never makes anybody wait for a device",
    },
    Key {
        name: "seed",
        kind: Kind::Number,
        default: "",
        doc: "from which all random choices come; not written: new ones at each start",
    },
];

const CACHE: &[Key] = &[
    Key {
        name: "size",
        kind: Kind::Size,
        default: "64M",
        doc: "memory for buffers, shared by all block devices",
    },
    Key {
        name: "flush_age",
        kind: Kind::Time,
        default: "30s",
        doc: "a delayed write is on its medium this long after it was made, at the latest",
    },
    Key {
        name: "wake_percent",
        kind: Kind::Number,
        default: "60",
        doc: "delayed writes begin early when they fill so many hundredths of the cache",
    },
    Key {
        name: "high_percent",
        kind: Kind::Number,
        default: "80",
        doc: "who writes must wait when delayed writes fill so many hundredths of the cache",
    },
];

const TREE: &[Key] = &[Key {
    name: "allow_other",
    kind: Kind::Flag,
    default: "false",
    doc: "other users may use the tree (always so when root mounts it)",
}];

/// The sections of which there may be several and that describe no unit.
pub(super) const SEVERAL: &[(&str, &[Key])] = &[("queue", QUEUE)];

pub(super) const QUEUE: &[Key] = &[
    Key {
        name: "name",
        kind: Kind::Text,
        default: "",
        doc: "that of its directory: a printer's, or a new one for a class of printers",
    },
    Key {
        name: "members",
        kind: Kind::Text,
        default: "",
        doc: "the printers of a class, as in \"lp0 lp1\": the first that is free prints",
    },
    Key {
        name: "max_size",
        kind: Kind::Size,
        default: "",
        doc: "longest job; not written: no limit",
    },
    Key {
        name: "banner",
        kind: Kind::Choice(&["none", "short", "long"]),
        default: "none",
        doc: "a page before each job that tells whose it is (not with lpr -h)",
    },
];

/// The keys that every unit has, besides those of its driver.
pub(super) const UNIT: &[Key] = &[
    Key {
        name: "name",
        kind: Kind::Text,
        default: "",
        doc: "its node's name: letters and a number",
    },
    Key {
        name: "driver",
        kind: Kind::Text,
        default: "",
        doc: "whose it is; not written: that of the name's letters",
    },
];

/// The names of the sections that describe units, each once, in the drivers' order.
pub(super) fn unit_sections(drivers: &[&'static dyn Driver]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for driver in drivers {
        if !driver.section().is_empty() && !names.contains(&driver.section()) {
            names.push(driver.section());
        }
    }
    names
}

/// Complains of sections that nobody knows or that are written with the wrong brackets, and takes
/// them out.
pub(super) fn check_sections(
    sections: &mut Vec<Section>,
    drivers: &[&'static dyn Driver],
    wrong: &mut Complaints,
) {
    let mut of_units = unit_sections(drivers);
    of_units.extend(SEVERAL.iter().map(|(name, _)| *name));
    let fixed = FIXED.iter().map(|(name, _)| *name).chain([JETDIRECT]).collect::<Vec<_>>();
    let shown = |name: &str| match of_units.contains(&name) {
        true => format!("[[{name}]]"),
        false => format!("[{name}]"),
    };
    sections.retain(|section| {
        let name = section.name.as_str();
        let words = match (of_units.contains(&name), fixed.contains(&name)) {
            (true, _) if section.is_one_of_many => return true,
            (_, true) if !section.is_one_of_many => return true,
            (true, _) => format!("a unit is written [[{name}]], with two brackets"),
            (_, true) => format!("there is only one [{name}], write it with one bracket"),
            _ => {
                let asked = if section.is_one_of_many { "[[" } else { "[" };
                let ends = asked.replace('[', "]");
                let near = words::closest(name, of_units.iter().chain(&fixed).copied());
                let near = near.map(|near| format!(", did you mean {}?", shown(near)));
                format!("unknown section {asked}{name}{ends}{}", near.unwrap_or_default())
            }
        };
        wrong.add(&section.place, words);
        false
    });
}

/// The values of `entries` by the keys in `keys`, defaults filled in. `owner` is what they are of.
pub(super) fn values<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    keys: &[Key],
    owner: &str,
    wrong: &mut Complaints,
) -> BTreeMap<String, Value> {
    let mut values = defaults(keys);
    for entry in entries {
        let Some(key) = keys.iter().find(|key| key.name == entry.key) else {
            wrong.add(&entry.place, unknown_key(&entry.key, keys, owner));
            continue;
        };
        match value(key.kind, &entry.value) {
            Ok(value) => {
                values.insert(entry.key.clone(), value);
            }
            Err(words) => wrong.add(&entry.place, format!("\"{}\" of {owner}: {words}", key.name)),
        }
    }
    values
}

/// What holds when nothing is written.
pub(super) fn defaults(keys: &[Key]) -> BTreeMap<String, Value> {
    let value = |key: &Key| Some((key.name.to_owned(), key.kind.parse(key.default).ok()?));
    keys.iter().filter(|key| !key.default.is_empty()).filter_map(value).collect()
}

fn unknown_key(key: &str, keys: &[Key], owner: &str) -> String {
    let near = words::closest(key, keys.iter().map(|key| key.name));
    match near {
        Some(near) => format!("unknown key \"{key}\", did you mean \"{near}\"?"),
        None => {
            let known = keys.iter().map(|key| key.name).collect::<Vec<_>>();
            format!("unknown key \"{key}\", {owner} has {}", known.join(", "))
        }
    }
}

/// What is written, as a value of that kind, or what would be right instead.
fn value(kind: Kind, written: &Written) -> Result<Value, String> {
    let fits = match written {
        Written::Bare(_) => true,
        Written::Text(_) => kind != Kind::Flag,
        Written::Flag(_) => kind == Kind::Flag,
        Written::Number(_) => matches!(kind, Kind::Size | Kind::Number | Kind::Choice(_)),
        Written::Other(_) => false,
    };
    let text = match written {
        Written::Text(text) | Written::Bare(text) | Written::Other(text) => text.clone(),
        Written::Number(number) => number.to_string(),
        Written::Flag(flag) => flag.to_string(),
    };
    if fits && let Ok(value) = kind.parse(&text) {
        return Ok(value);
    }
    let shown = match written {
        Written::Text(_) if kind == Kind::Flag => format!("the text {text:?}"),
        Written::Text(_) | Written::Bare(_) => format!("{text:?}"),
        _ => text.clone(),
    };
    let choices = if let Kind::Choice(choices) = kind { choices } else { &[] };
    let near = words::closest(&text, choices.iter().copied());
    let near = near.map_or(String::new(), |near| format!(", did you mean \"{near}\"?"));
    Err(format!("{shown} is not {}{near}", kind.wanted()))
}
