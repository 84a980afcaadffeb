//! Reservation: a unit for this session, and a node held open under a share mode.

use super::call::{self, Argument, Memory};
use super::hall::{Hall, Wait};
use super::node::{For, Node};
use crate::client;
use crate::words;
use serde_json::json;
use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

// src/own.rs, as `proc/ioctls` tells them to everybody.
const SPINDLE_ALLOCATE: u32 = 0x4008_b502;
const SPINDLE_DEALLOCATE: u32 = 0x0000_b503;
const SPINDLE_SHARE: u32 = 0x4004_b504;

/// What others may do, or what is done here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Share {
    None,
    Read,
    Write,
    #[value(alias = "both")]
    Rw,
}

impl Share {
    fn name(self) -> &'static str {
        match self {
            Share::None => "none",
            Share::Read => "read",
            Share::Write => "write",
            Share::Rw => "rw",
        }
    }

    fn bits(self) -> u32 {
        match self {
            Share::None => 0,
            Share::Read => 1,
            Share::Write => 2,
            Share::Rw => 3,
        }
    }
}

/// Reserves the unit for this session.
///
/// A unit that another session has cannot be opened, so this goes through `ctl`; who may not write
/// there asks by the node itself, and so cannot wait for another's.
pub(super) fn allocate(node: &Node<'_>, wait: Wait, hall: &mut Hall<'_>) -> Result<(), String> {
    let time = wait.to_string();
    let time = if time == "0s" { "" } else { &time };
    if may_command(node) {
        let line = format!("allocate {} {time}", node.name);
        client::ctl(node.point, line.trim_end()).map_err(|why| held(node, why))?;
    } else {
        let millis = match wait.0 {
            None => u64::MAX,
            Some(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1),
        };
        by_node(node, SPINDLE_ALLOCATE, &millis.to_ne_bytes())?;
    }
    told(node, true, hall)
}

/// Gives it back.
pub(super) fn deallocate(node: &Node<'_>, hall: &mut Hall<'_>) -> Result<(), String> {
    if may_command(node) {
        client::ctl(node.point, &format!("deallocate {}", node.name))?;
    } else {
        by_node(node, SPINDLE_DEALLOCATE, &[])?;
    }
    told(node, false, hall)
}

fn told(node: &Node<'_>, is_reserved: bool, hall: &mut Hall<'_>) -> Result<(), String> {
    if hall.is_json {
        return hall.object(&json!({ "device": node.name, "reserved": is_reserved }));
    }
    hall.text("ok\n")
}

fn may_command(node: &Node<'_>) -> bool {
    let ctl = File::options().write(true).open(node.point.join("ctl"));
    !ctl.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// The refusal, with who holds the unit.
fn held(node: &Node<'_>, why: String) -> String {
    let holders = if why.contains("held") { node.holders() } else { Vec::new() };
    let (told, _) = why.split_once(" by ").unwrap_or((&why, ""));
    if holders.is_empty() { why } else { format!("{told} ({})", holders.join("; ")) }
}

fn by_node(node: &Node<'_>, command: u32, bytes: &[u8]) -> Result<(), String> {
    let file = node.open()?.file;
    let mut memory = Memory::new(bytes).ok_or("no memory")?;
    let done = call::ioctl(&file, command, Argument::Memory(&mut memory));
    done.map(drop).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) if command == SPINDLE_DEALLOCATE => {
            node.told("not reserved by your session")
        }
        // Nothing else goes wrong with it that has these numbers.
        _ if client::is_gone(&error) => node.told(&client::gone(node.point)),
        _ => node.told(&node.refused(&error)),
    })
}

/// Holds the node open for something, and lets others do no more than `share`, while a command
/// runs; without one until standard input ends. The exit status: the command's.
pub(super) fn open(
    node: &Node<'_>,
    (purpose, share): (For, Share),
    command: &[OsString],
    hall: &mut Hall<'_>,
) -> Result<u8, String> {
    let file = node.open_for(purpose, false)?;
    let mut memory = Memory::new(&share.bits().to_ne_bytes()).ok_or("no memory")?;
    let shared = call::ioctl(&file, SPINDLE_SHARE, Argument::Memory(&mut memory));
    if let Err(error) = shared {
        // What cannot be held alone is shared in any case.
        let is_for_all = error.raw_os_error() == Some(libc::ENOTTY);
        if is_for_all && share != Share::Rw {
            return Err(node.told("open: it is for everybody, whatever --share says"));
        }
        if !is_for_all {
            let why = node.refused(&error);
            return Err(node.told(&format!("open --share {}: {why}", share.name())));
        }
    }
    if let Some((program, arguments)) = command.split_first() {
        let status = Command::new(program).args(arguments).status().map_err(|error| {
            node.told(&format!("{}: {}", program.display(), words::of_host(&error)))
        })?;
        drop(file);
        let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
        return Ok(u8::try_from(code).unwrap_or(1));
    }
    if hall.is_json {
        let (ways, share) = (purpose.name(), share.name());
        hall.object(&json!({ "device": node.name, "for": ways, "share": share }))?;
    } else {
        hall.line(&format!("{} for={} share={}", node.name, purpose.name(), share.name()))?;
    }
    // Whatever ends it, the hold ends with it.
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    drop(file);
    Ok(0)
}
