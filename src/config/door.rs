//! `[lpd]` and `[jetdirect]`: where the spool listens on the network.

use super::parse::{Entry, Section, Written};
use super::{Complaints, QueueConfig, schema};
use devices::UnitConfig;

/// A door as it is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorConfig {
    /// Where it listens: `HOST:PORT`.
    pub address: String,
    /// Where that is written, and by which key, to say with what the host says against it.
    pub place: String,
}

/// `[lpd]`: the address written for `listen`.
pub(super) fn lpd(sections: &[Section], wrong: &mut Complaints) -> Option<DoorConfig> {
    let written = sections.iter().filter(|section| section.name == "lpd");
    let mut entries = written.flat_map(|section| &section.entries);
    let entry = entries.find(|entry| entry.key == "listen")?;
    // What is no text has been complained of with the other keys.
    let (Written::Text(address) | Written::Bare(address)) = &entry.value else { return None };
    door(entry, address, "\"listen\" of [lpd]", 5515, wrong)
}

/// `[jetdirect]`: the queues named, and their addresses.
pub(super) fn jetdirect(
    sections: &[Section],
    units: &[UnitConfig],
    queues: &[QueueConfig],
    wrong: &mut Complaints,
) -> Vec<(String, DoorConfig)> {
    let mut doors = Vec::new();
    let section = sections.iter().filter(|section| section.name == schema::JETDIRECT);
    for entry in section.flat_map(|section| &section.entries) {
        let is_printer = units.iter().any(|unit| unit.driver == "lp" && unit.name == entry.key);
        let is_queue = is_printer || queues.iter().any(|queue| queue.name == entry.key);
        match &entry.value {
            Written::Text(address) | Written::Bare(address) if is_queue => {
                let key = format!("\"{}\" of [jetdirect]", entry.key);
                let door = door(entry, address, &key, 9100, wrong);
                doors.extend(door.map(|door| (entry.key.clone(), door)));
            }
            _ if is_queue => wrong.add(&entry.place, "an address is text: \"127.0.0.1:9100\""),
            _ => wrong.add(&entry.place, format!("there is no queue \"{}\"", entry.key)),
        }
    }
    doors
}

/// Checks the form of an address; whether the host knows it is seen when the door is opened.
fn door(
    entry: &Entry,
    address: &str,
    key: &str,
    port: u16,
    wrong: &mut Complaints,
) -> Option<DoorConfig> {
    let (host, digits) = address.rsplit_once(':').unwrap_or((address, ""));
    // An IPv6 address stands in brackets; its last colon without them begins no port.
    let is_host = !host.is_empty() && (!host.contains(':') || host.ends_with(']'));
    let is_plain = digits.starts_with(|c: char| c.is_ascii_digit());
    if is_host && is_plain && digits.parse::<u16>().is_ok() {
        let place = format!("{}: {key}", entry.place);
        return Some(DoorConfig { address: address.into(), place });
    }
    let words = format!("{key}: {address:?} is no HOST:PORT; \"127.0.0.1:{port}\" is one");
    wrong.add(&entry.place, words);
    None
}
