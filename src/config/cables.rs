//! Serial cables: each leads to a port that there is, and no port has two.

use super::Complaints;
use super::parse::{Entry, Section, Written};
use crate::words;
use std::collections::BTreeMap;

const RIGHT: &str = "a port, pty, unix:PATH or file:PATH is";

/// Complains of the peers of serial ports that could never be joined.
pub(super) fn check(sections: &[Section], wrong: &mut Complaints) {
    let of_ports = || sections.iter().filter(|section| section.name == "serial");
    let ports: Vec<&str> = of_ports().filter_map(Section::unit).collect();
    let peers: Vec<(&str, &Entry, &str)> = of_ports().filter_map(peer).collect();
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, entry, peer) in &peers {
        let told = |why: &str| format!("\"peer\" of {name}: {why}");
        if let Err(why) = is_place(peer, &ports) {
            wrong.add(&entry.place, told(&why));
            continue;
        }
        // What the other's own description says goes before what the others say of it.
        let own = peers.iter().find(|(other, ..)| other == peer).map(|(_, _, peer)| *peer);
        let first = own.or_else(|| taken.get(peer).copied()).filter(|first| first != name);
        if let Some(first) = first.filter(|_| ports.contains(peer)) {
            let why = format!("the cable of {peer} leads to {first}; a port has one cable");
            wrong.add(&entry.place, told(&why));
        } else {
            taken.insert(peer, name);
        }
    }
}

/// A port's name, and what is written of its peer.
fn peer(section: &Section) -> Option<(&str, &Entry, &str)> {
    let entry = section.entry("peer")?;
    match &entry.value {
        Written::Text(peer) | Written::Bare(peer) => Some((section.unit()?, entry, peer)),
        _ => None,
    }
}

fn is_place(peer: &str, ports: &[&str]) -> Result<(), String> {
    match peer.split_once(':') {
        Some(("unix" | "file", path)) if !path.is_empty() => return Ok(()),
        Some(_) => return Err(format!("{peer:?} is none; {RIGHT}")),
        None if peer == "pty" || ports.contains(&peer) => return Ok(()),
        None => {}
    }
    Err(match words::closest(peer, ports.iter().copied().chain(["pty"])) {
        Some(near) => format!("there is no serial port {peer:?}, did you mean {near:?}?"),
        None => format!("there is no serial port {peer:?}; {RIGHT}"),
    })
}
