//! Verbs on one unit, of either switch: its properties, its controller, its medium.

use super::{DONE, later};
use crate::character::CharNode;
use crate::ctl::{refuse, shown};
use crate::disk::Disk;
use crate::error::{Errno, Error};
use crate::file::{Answer, Caller};
use crate::holders::Wait;
use crate::kernel::Kernel;
use crate::sync::Arc;
use crate::words;
use devices::reserve::Reservation;
use devices::value::parse_time;
use devices::{Interrupt, IoError, PropertyError, Protect, UnitCommand};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an exchange of media waits for a close that is under way, and how often it tries.
const RELEASE_WAIT: Duration = Duration::from_millis(50);
const TRIES_MAX: usize = 16;

/// A unit that a command names.
pub(super) enum Unit {
    Disk(Arc<Disk>),
    Char(CharNode),
}

impl Unit {
    /// The unit of that name, with or without `/dev/` before it.
    ///
    /// # Errors
    /// `ENXIO`, naming what may be meant.
    pub(super) fn find(kernel: &Kernel, verb: &str, name: &str) -> Result<Unit, Error> {
        let plain = name.strip_prefix("/dev/").unwrap_or(name);
        if let Some(disk) = kernel.special.disk(plain) {
            return Ok(Unit::Disk(Arc::clone(disk)));
        }
        // A printer's hardware is meant by the name of its queue too.
        let hardware = || kernel.special.character(&format!("r{plain}"));
        let found = kernel.special.character(plain).or_else(hardware);
        found.map(Unit::Char).ok_or_else(|| {
            let rows = kernel.special.switch().units().iter();
            let names = rows.filter(|row| !row.is_raw).map(|row| row.name.as_str());
            let hint = match words::closest(plain, names) {
                Some(near) => format!(" (did you mean {near}?)"),
                None => String::new(),
            };
            Error::new(Errno::ENXIO, format!("{verb}: no device {}{hint}", shown(name)))
        })
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Unit::Disk(disk) => &disk.name,
            Unit::Char(node) => &node.name,
        }
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        match self {
            Unit::Disk(disk) => {
                let mut all = disk.unit.properties();
                let is_synchronous = if disk.cached.is_synchronous() { "on" } else { "off" };
                all.push(("sync", is_synchronous.to_owned()));
                all
            }
            Unit::Char(node) => node.unit.properties(),
        }
    }

    /// Sets a property.
    ///
    /// # Errors
    /// `EINVAL`, with what would be right.
    pub(super) fn set(&self, property: &str, value: &str) -> Result<(), Error> {
        let set = match self {
            Unit::Disk(disk) if property == "sync" => {
                let is_on = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(refuse("set", &format!("{}: on or off", shown(value)))),
                };
                disk.cached.set_synchronous(is_on);
                Ok(())
            }
            Unit::Disk(disk) => disk.unit.set_property(property, value),
            Unit::Char(node) => node.unit.set_property(property, value),
        };
        set.map_err(|error| match error {
            PropertyError::Unknown => self.has_no("set", property),
            PropertyError::Value(words) => {
                refuse("set", &format!("{}.{property}: {words}", self.name()))
            }
        })
    }

    /// What a property is.
    ///
    /// # Errors
    /// `EINVAL`, with those that there are.
    pub(super) fn get(&self, property: &str) -> Result<String, Error> {
        let found = self.properties().into_iter().find(|(name, _)| *name == property);
        found.map(|(_, value)| value).ok_or_else(|| self.has_no("get", property))
    }

    fn has_no(&self, verb: &str, property: &str) -> Error {
        let known: Vec<&str> = self.properties().iter().map(|(name, _)| *name).collect();
        let words = format!("{} has no property {}", self.name(), shown(property));
        refuse(verb, &format!("{words} (there are: {})", known.join(", ")))
    }

    fn command(&self, command: UnitCommand) -> Result<(), IoError> {
        match self {
            Unit::Disk(disk) => disk.unit.command(command),
            Unit::Char(node) => node.unit.command(command),
        }
    }
}

/// Does to a unit what the operator says.
pub(super) fn command(
    kernel: &Arc<Kernel>,
    verb: &str,
    command: UnitCommand,
    name: &str,
) -> Result<Answer<String>, Error> {
    let unit = Unit::find(kernel, verb, name)?;
    unit.command(command).map_err(|error| {
        let why = match (&unit, error) {
            (Unit::Char(node), IoError::Unsupported) => not_for(kernel, verb, &node.name),
            _ => error.to_string(),
        };
        Error::new(Errno::EOPNOTSUPP, format!("{verb}: {}: {why}", unit.name()))
    })?;
    kernel.machine.engine.crank();
    if let (Unit::Disk(disk), UnitCommand::Repair) = (&unit, command) {
        disk.cached.retry(); // what could not be written is still dirty
    }
    Ok(Answer::Now(DONE.to_owned()))
}

/// That a command is not for a unit, and what is to the same end.
fn not_for(kernel: &Kernel, verb: &str, name: &str) -> String {
    let driver = kernel.special.switch().units().iter().find(|row| row.name == name);
    let instead = match (driver.map_or("", |row| row.driver), verb) {
        ("lp", "pause") => "; lpc stop stops a printer",
        ("lp", "resume") => "; lpc start starts a printer",
        ("lp", "freeze") => "; offline holds a printer in mid-job",
        ("lp", "thaw") => "; online lets a printer go on",
        ("ttyS", "pause" | "freeze") => "; hold keeps a port's driver from it",
        ("ttyS", "resume" | "thaw") => "; release lets a port's driver serve it",
        _ => "",
    };
    format!("{verb} is for disks{instead}")
}

/// A unit that takes media; a disk of ours keeps its own.
fn drive(kernel: &Kernel, verb: &str, name: &str) -> Result<CharNode, Error> {
    match Unit::find(kernel, verb, name)? {
        Unit::Char(node) => Ok(node),
        Unit::Disk(disk) => {
            let words = format!("{verb}: {} takes no media", disk.name);
            Err(Error::new(Errno::EOPNOTSUPP, words))
        }
    }
}

fn told(verb: &str, name: &str, words: &str) -> Error {
    Error::new(Errno::EBUSY, format!("{verb}: {name}: {words}"))
}

/// `load DEV FILE [ro]`: a file named without a `/` before it is looked for where the caller
/// stands; where the host does not say where that is, in the state directory.
pub(super) fn load(
    kernel: &Arc<Kernel>,
    who: &Caller,
    words: &[String],
) -> Result<Answer<String>, Error> {
    let node = drive(kernel, "load", &words[0])?;
    let protect = match words.get(2).map(String::as_str) {
        None => Protect::Off,
        Some("ro") => Protect::On,
        Some(other) => {
            return Err(refuse("load", &format!("{} is not ro", shown(other))));
        }
    };
    let file = Path::new(&words[1]);
    if file.as_os_str().is_empty() {
        return Err(refuse("load", "an empty name is no file"));
    }
    let file = standing(kernel, who).map_or_else(|| file.to_owned(), |dir| dir.join(file));
    later(move |interrupt| {
        once_closed(&node, interrupt, || node.unit.load(&file, protect))
            .map_err(|why| told("load", &node.name, &why))
    })
}

fn standing(kernel: &Kernel, who: &Caller) -> Option<PathBuf> {
    let link = std::fs::read_link(format!("/proc/{}/cwd", who.pid)).ok();
    link.or_else(|| kernel.machine.state_dir.clone())
}

/// Whoever closed the drive and exchanges its tape must not find himself in his own way: close(2)
/// returns before we hear of it.
fn once_closed(
    node: &CharNode,
    interrupt: &Interrupt,
    exchange: impl Fn() -> Result<(), String>,
) -> Result<(), String> {
    let Some(queue) = node.unit.waits() else { return exchange() };
    for _ in 0..TRIES_MAX {
        let seen = queue.generation();
        interrupt.watch(&queue);
        let result = exchange();
        if result.is_ok() || interrupt.is_raised() || !queue.wait(seen, Some(RELEASE_WAIT)) {
            return result;
        }
    }
    exchange()
}

/// `eject DEV`.
pub(super) fn eject(
    kernel: &Arc<Kernel>,
    _: &Caller,
    words: &[String],
) -> Result<Answer<String>, Error> {
    let node = drive(kernel, "eject", &words[0])?;
    later(move |interrupt| {
        once_closed(&node, interrupt, || node.unit.eject())
            .map_err(|why| told("eject", &node.name, &why))
    })
}

/// The reservation of a unit.
fn reservation(
    kernel: &Kernel,
    verb: &str,
    name: &str,
) -> Result<(String, Arc<Reservation>), Error> {
    let unit = Unit::find(kernel, verb, name)?;
    let found = kernel.special.reservation(unit.name()).ok_or_else(|| {
        let words = format!("{verb}: {} is for everybody", unit.name());
        Error::new(Errno::EOPNOTSUPP, words)
    })?;
    Ok((format!("{verb}: {}", unit.name()), Arc::clone(found)))
}

/// `allocate DEV [TIMEOUT]`: without a time it does not wait.
pub(super) fn allocate(
    kernel: &Arc<Kernel>,
    who: &Caller,
    words: &[String],
) -> Result<Answer<String>, Error> {
    let (name, unit) = reservation(kernel, "allocate", &words[0])?;
    let wait = match words.get(1).map(String::as_str) {
        None => Wait::No,
        Some("forever") => Wait::Forever,
        Some(time) => Wait::Nanos(parse_time(time).ok_or_else(|| {
            let words = format!("{} is no time such as 10s, nor forever", shown(time));
            refuse("allocate", &words)
        })?),
    };
    let (holders, engine) = (kernel.special.holders(), &kernel.machine.engine);
    let answer = holders.allocate((&name, &unit), who, wait, engine)?;
    answer.map(|allocated| allocated.map(|()| DONE.to_owned()))
}

/// `deallocate DEV`.
pub(super) fn deallocate(
    kernel: &Arc<Kernel>,
    who: &Caller,
    words: &[String],
) -> Result<Answer<String>, Error> {
    let (name, unit) = reservation(kernel, "deallocate", &words[0])?;
    kernel.special.holders().deallocate((&name, &unit), who)?;
    Ok(Answer::Now(DONE.to_owned()))
}
