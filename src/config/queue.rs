//! `[[queue]]` sections: classes of printers, and what is set of a printer's own queue.

use super::parse::Section;
use super::{Complaints, schema};
use crate::words;
use devices::{UnitConfig, Value};

/// A print queue as it is described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueConfig {
    /// Its name.
    pub name: String,
    /// The printers of a class; none: the queue of the printer of its name.
    pub members: Vec<String>,
    /// Longest job, in bytes; `None`: no limit.
    pub bytes_max: Option<u64>,
    /// The page before each job: `none`, `short`, `long`.
    pub banner: String,
}

/// The queues of a description.
pub(super) fn queues(
    sections: &[Section],
    units: &[UnitConfig],
    wrong: &mut Complaints,
) -> Vec<QueueConfig> {
    let printers = || units.iter().filter(|u| u.driver == "lp").map(|u| u.name.as_str());
    let is_printer = |name: &str| printers().any(|printer| printer == name);
    let mut queues: Vec<QueueConfig> = Vec::new();
    for section in sections.iter().filter(|section| section.name == "queue") {
        let Some(name) = section.unit() else {
            wrong.add(&section.place, "[[queue]] has no name; name = \"laser\" is one");
            continue;
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
            wrong.add(
                section.place_of("name"),
                format!("{name:?} is no name of a queue: letters and digits"),
            );
            continue;
        }
        let mut values = schema::values(section.entries.iter(), schema::QUEUE, name, wrong);
        let members = match values.remove("members") {
            Some(Value::Text(text)) => {
                text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        for member in members.iter().filter(|member| !is_printer(member)) {
            let way_out = match words::closest(member, printers()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None if printers().next().is_none() => {
                    "nor any other: [[printer]] makes one".into()
                }
                None => format!("there are: {}", printers().collect::<Vec<_>>().join(" ")),
            };
            let words = format!("there is no printer \"{member}\", {way_out}");
            wrong.add(section.place_of("members"), format!("\"members\" of {name}: {words}"));
        }
        if members.is_empty() != is_printer(name) {
            let words = match members.is_empty() {
                true => format!(
                    "queue {name}: no printer of that name, and no members; members = \"lp0 lp1\" \
                     makes it a class"
                ),
                false => format!(
                    "\"members\" of {name}: the queue of printer {name} has no others; leave them \
                     out, or name the queue otherwise"
                ),
            };
            wrong.add(section.place_of(if members.is_empty() { "name" } else { "members" }), words);
        }
        if queues.iter().any(|queue| queue.name == name) {
            wrong
                .add(section.place_of("name"), format!("duplicate queue \"{name}\": name another"));
        }
        let bytes_max = match values.get("max_size") {
            Some(Value::Number(bytes)) => Some(*bytes),
            _ => None,
        };
        let banner = match values.remove("banner") {
            Some(Value::Text(text)) => text,
            _ => "none".into(),
        };
        queues.push(QueueConfig { name: name.to_owned(), members, bytes_max, banner });
    }
    queues
}
