//! The verbs of `ctl`: each a row of one table, obeyed by the kernel half's rooms.

mod unit;

use crate::ctl::{Action, Verb, refuse, shown};
use crate::disk::Disk;
use crate::error::{Errno, Error};
use crate::file::{Answer, Caller, Device, DeviceKind};
use crate::kernel::Kernel;
use crate::sync::Arc;
use crate::vfs::{Change, Follow, Make, MemFs, Unmount};
use crate::words;
use devices::switch::Table;
use devices::{DevId, Interrupt, UnitCommand};
use std::ffi::OsStr;
use std::path::Path;
use unit::Unit;

/// The answer of a verb that has nothing to tell.
const DONE: &str = "ok\n";

/// All verbs of a machine.
#[must_use]
pub fn table(kernel: &Arc<Kernel>) -> Vec<Verb> {
    let mut verbs = names(kernel);
    verbs.extend(settings(kernel));
    verbs.extend(cache(kernel));
    verbs.extend(units(kernel));
    verbs.extend(media(kernel));
    verbs.extend(machine(kernel));
    verbs.extend(printers(kernel));
    verbs.extend(crate::serial::verbs(kernel));
    verbs
}

/// Obeys a verb, given the words behind it.
pub(crate) type Obey = fn(&Arc<Kernel>, &Caller, &[String]) -> Result<Answer<String>, Error>;

/// A row of the table.
pub(crate) fn verb(
    kernel: &Arc<Kernel>,
    (name, usage): (&'static str, &'static str),
    arity: std::ops::RangeInclusive<usize>,
    help: &'static str,
    obey: Obey,
) -> Verb {
    let kernel = Arc::clone(kernel);
    let action: Action = Box::new(move |caller, words| obey(&kernel, caller, words));
    Verb { name, usage, arity, help, action }
}

/// The answer of a verb that has nothing to tell.
pub(crate) fn done() -> Result<Answer<String>, Error> {
    Ok(Answer::Now(DONE.to_owned()))
}

/// Runs `work` where waiting stalls nobody, and answers that it is done.
fn later(
    work: impl FnOnce(&Interrupt) -> Result<(), Error> + Send + 'static,
) -> Result<Answer<String>, Error> {
    Ok(Answer::Later(Box::new(move |interrupt| {
        work(interrupt)?;
        Ok(DONE.to_owned())
    })))
}

fn names(k: &Arc<Kernel>) -> Vec<Verb> {
    vec![
        verb(k, ("mount", "[-t TYPE] DEV DIR [OPTS]"), 2..=5, "mounts a file system", mount),
        verb(k, ("umount", "DIR"), 1..=1, "takes a mount away", umount),
        verb(k, ("mknod", "PATH b|c MAJOR MINOR [MODE]"), 4..=5, "makes a device inode", mknod),
        verb(k, ("resolve", "PATH"), 1..=1, "shows how a path becomes a device", resolve),
    ]
}

fn settings(k: &Arc<Kernel>) -> Vec<Verb> {
    vec![
        verb(k, ("set", "KEY VALUE"), 2..=2, "sets DEVICE.PROPERTY or cache.KEY", set),
        verb(k, ("get", "KEY"), 1..=1, "tells a setting", get),
    ]
}

fn cache(k: &Arc<Kernel>) -> Vec<Verb> {
    vec![
        verb(k, ("sync", "[DEV]"), 0..=1, "writes every delayed write", sync),
        verb(k, ("cache", "drop"), 1..=1, "forgets every clean buffer", cache_drop),
        verb(k, ("rescan", "[DEV]"), 0..=1, "reads partition tables again", rescan),
    ]
}

macro_rules! unit_verbs {
    ($k:ident, $(($name:literal, $command:ident, $help:literal)),*) => {
        vec![$(verb($k, ($name, "DEV"), 1..=1, $help, |kernel, _, words| {
            unit::command(kernel, $name, UnitCommand::$command, &words[0])
        })),*]
    };
}

fn units(k: &Arc<Kernel>) -> Vec<Verb> {
    unit_verbs![
        k,
        ("pause", Pause, "holds a queue: requests wait in it"),
        ("resume", Resume, "lets a held queue go on"),
        ("freeze", Freeze, "stops a controller in mid-work"),
        ("thaw", Thaw, "lets a stopped controller go on"),
        ("repair", Repair, "makes a not-functioning unit serve again"),
        ("reset", Reset, "resets a controller; what is in flight starts again")
    ]
}

fn media(k: &Arc<Kernel>) -> Vec<Verb> {
    vec![
        verb(k, ("load", "DEV FILE [ro]"), 2..=3, "puts a tape in", unit::load),
        verb(k, ("eject", "DEV"), 1..=1, "takes a tape out", unit::eject),
        verb(
            k,
            ("allocate", "DEV [TIMEOUT|forever]"),
            1..=2,
            "reserves it for a session",
            unit::allocate,
        ),
        verb(k, ("deallocate", "DEV"), 1..=1, "gives a reserved unit back", unit::deallocate),
    ]
}

fn machine(k: &Arc<Kernel>) -> Vec<Verb> {
    vec![
        verb(k, ("irq", "off|on DEV"), 2..=2, "masks or unmasks a unit's interrupt", irq),
        verb(k, ("trace", "on|off|clear"), 1..=1, "starts, stops or empties proc/trace", trace),
        verb(k, ("fault", "add|list|remove|clear ..."), 1..=32, "faults on purpose", fault),
    ]
}

fn printers(k: &Arc<Kernel>) -> Vec<Verb> {
    macro_rules! panel {
        ($name:literal, $usage:literal, $words:literal, $help:literal) => {
            verb(k, ($name, $usage), $words..=$words, $help, |kernel, _, words| {
                panel(kernel, $name, words)
            })
        };
    }
    vec![
        panel!("paper", "PRINTER SHEETS|endless", 2, "puts paper into a printer; 0: takes it out"),
        panel!("ribbon", "PRINTER LETTERS|endless", 2, "puts a ribbon into a printer"),
        panel!("jam", "PRINTER", 1, "jams a printer's paper"),
        panel!("unjam", "PRINTER", 1, "clears a paper jam"),
        panel!("offline", "PRINTER", 1, "switches a printer off line"),
        panel!("online", "PRINTER", 1, "switches a printer on line"),
        panel!("cover", "PRINTER open|closed", 2, "opens or closes a printer's cover"),
    ]
}

/// Works the panel of a printer.
fn panel(kernel: &Kernel, verb: &str, words: &[String]) -> Result<Answer<String>, Error> {
    let plain = words[0].strip_prefix("/dev/").unwrap_or(&words[0]);
    let switch = kernel.special.switch();
    let rows: Vec<_> = switch.units().iter().filter(|row| row.driver == "lp").collect();
    let of =
        |row: &devices::switch::UnitRow| row.name.strip_prefix('r').unwrap_or(&row.name).to_owned();
    let found = rows.iter().find(|row| of(row) == plain || row.name == plain);
    let unit = found.and_then(|row| switch.character(row.dev).ok());
    let Some(devices::switch::CharUnit::Device(_, _, unit)) = unit else {
        let names: Vec<String> = rows.iter().map(|row| of(row)).collect();
        let hint = match words::closest(plain, names.iter().map(String::as_str)) {
            Some(near) => format!(" (did you mean {near}?)"),
            None if names.is_empty() => String::new(),
            None => format!(" (there are {})", names.join(", ")),
        };
        let words = format!("{verb}: no printer {}{hint}", shown(plain));
        return Err(Error::new(Errno::ENXIO, words));
    };
    let said = [&[verb.to_owned()], &words[1..]].concat().join(" ");
    let mut call = devices::Ioctl {
        cmd: devices::lp::commands::PANEL,
        input: said.as_bytes(),
        output: &mut [],
    };
    unit.ioctl(&mut call).map_err(|_| {
        let word = words.get(1).map_or("", String::as_str);
        let right = match verb {
            "cover" => "open or closed is right".into(),
            _ => format!("a number up to {} or endless is right", u32::MAX),
        };
        refuse(verb, &format!("{}: {right}", shown(word)))
    })?;
    kernel.machine.engine.crank();
    done()
}

fn find_disk<'a>(kernel: &'a Kernel, verb: &str, name: &str) -> Result<&'a Arc<Disk>, Error> {
    let plain = name.strip_prefix("/dev/").unwrap_or(name);
    kernel.special.disk(plain).ok_or_else(|| {
        let names = kernel.special.disks().map(|disk| disk.name.as_str());
        let hint = match words::closest(plain, names) {
            Some(near) => format!(" (did you mean {near}?)"),
            None => String::new(),
        };
        Error::new(Errno::ENXIO, format!("{verb}: no disk {}{hint}", shown(name)))
    })
}

fn mount(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    let (kind, rest) = match words {
        [flag, kind, rest @ ..] if flag == "-t" => (kind.as_str(), rest),
        rest => ("mem", rest),
    };
    let (device, dir, options) = match rest {
        [device, dir] => (device, dir, "rw"),
        [device, dir, options] => (device, dir, options.as_str()),
        _ => return Err(refuse("mount", "the form is: mount [-t TYPE] DEV DIR [OPTS]")),
    };
    if kind != "mem" {
        let words = format!("mount: no file system type {} (there is: mem)", shown(kind));
        return Err(Error::new(Errno::ENODEV, words));
    }
    if device != "none" {
        let words = format!("a mem file system is on no device: write none, not {}", shown(device));
        return Err(refuse("mount", &words));
    }
    let fs = MemFs::from_options(options, kernel.owner)?;
    kernel.vfs.mounts().mount(fs, Path::new(dir), device, kind, options)?;
    done()
}

fn umount(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    let answer = kernel.vfs.mounts().umount(Path::new(&words[0]), Unmount::Polite)?;
    answer.map(|done| done.map(|()| DONE.to_owned()))
}

fn number(verb: &str, what: &str, word: &str) -> Result<u32, Error> {
    word.parse().map_err(|_| refuse(verb, &format!("{what} {} is no number", shown(word))))
}

fn mknod(kernel: &Arc<Kernel>, who: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    let kind = match words[1].as_str() {
        "b" => DeviceKind::Block,
        "c" => DeviceKind::Char,
        other => {
            return Err(refuse("mknod", &format!("kind {} is neither b nor c", shown(other))));
        }
    };
    let major = number("mknod", "major", &words[2])?;
    let major = u16::try_from(major)
        .map_err(|_| refuse("mknod", &format!("major {major} is above {}", u16::MAX)))?;
    let minor = number("mknod", "minor", &words[3])?;
    let mode = words.get(4).map_or("0660", String::as_str);
    let mode = u32::from_str_radix(mode, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| refuse("mknod", &format!("mode {} is not octal", shown(mode))))?;
    let path = Path::new(&words[0]);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refuse("mknod", &format!("{} names no file", shown(&words[0]))));
    };
    let parent = kernel.vfs.walk_as(who, parent, Follow::Yes).map_err(|e| named(&words[0], e))?;
    let device = Device { kind, id: DevId { major, minor } };
    // Whoever may write to ctl may name devices: the owner of the machine is its administrator.
    let maker = Caller { uid: 0, ..*who };
    let made = kernel.vfs.mknod(&maker, parent, name, Make::Device(device), mode, 0);
    let attr = made.map_err(|error| named(&words[0], error))?;
    let owner =
        Change { uid: Some(who.uid), gid: Some(who.gid), mode: Some(mode), ..Default::default() };
    kernel.vfs.setattr(&maker, attr.ino, &owner)?;
    kernel.vfs.forget(attr.ino, 1);
    done()
}

/// The error, with the words `NAME: why`, where it has none of its own.
fn named(name: &str, error: Error) -> Error {
    if error.what.is_empty() {
        let words = words::of_host(&std::io::Error::from_raw_os_error(error.errno.0));
        return Error::new(error.errno, format!("{}: {words}", shown(name)));
    }
    error
}

fn resolve(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    let path = Path::new(OsStr::new(&words[0]));
    let found = kernel.vfs.resolve(path).map_err(|error| named(&words[0], error))?;
    let mut text = format!("prefix={} type={}\n", found.prefix.display(), found.kind);
    text.push_str(&format!("device={}\n", found.device));
    let Some((ino, device)) = found.special else {
        match found.inode {
            Some((ino, _)) => text.push_str(&format!("inode={}\n", ino.0)),
            None => text.push_str("inode=none (no such file)\n"),
        }
        return Ok(Answer::Now(text));
    };
    let numbers = device.id;
    text.push_str(&format!("inode={}\nnumbers={} {numbers}\n", ino.0, device.kind.letter()));
    text.push_str(&stages(kernel, device));
    Ok(Answer::Now(text))
}

/// The stages behind the numbers: driver, unit, address.
fn stages(kernel: &Kernel, device: Device) -> String {
    let table = match device.kind {
        DeviceKind::Block => Table::Block,
        DeviceKind::Char => Table::Character,
    };
    let switch = kernel.special.switch();
    let minors = switch.minors(device.id.major).unwrap_or(1).max(1);
    let first = DevId { minor: device.id.minor - device.id.minor % minors, ..device.id };
    let row = switch.units().iter().find(|row| row.table == table && row.dev == first);
    let Some(row) = row else {
        let absent = kernel.special.open_check(device);
        return format!("driver=none ({absent})\n");
    };
    let (unit, part) = (device.id.minor / minors, device.id.minor % minors);
    let part = if part > 0 { format!(" partition={part}") } else { String::new() };
    format!("driver={}\nunit={unit}{part}\naddress={}\n", row.driver, row.address)
}

fn set(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    let (key, value) = (words[0].as_str(), words[1].as_str());
    let Some((owner, property)) = key.split_once('.') else {
        return Err(refuse("set", &format!("{} is not of the form DEVICE.PROPERTY", shown(key))));
    };
    if owner == "cache" {
        return kernel.set_cache(property, value);
    }
    let unit = Unit::find(kernel, "set", owner)?;
    if let Unit::Disk(disk) = &unit
        && (property == "badsector" || (property == "timing" && disk.passage.is_some()))
    {
        check_faults(disk, "set")?;
    }
    unit.set(property, value)?;
    done()
}

fn get(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    let key = words[0].as_str();
    let Some((owner, property)) = key.split_once('.') else {
        return Err(refuse("get", &format!("{} is not of the form DEVICE.PROPERTY", shown(key))));
    };
    if owner == "cache" {
        let value = kernel.get_cache(property).map_err(|words| refuse("get", &words))?;
        return Ok(Answer::Now(format!("{value}\n")));
    }
    Ok(Answer::Now(format!("{}\n", Unit::find(kernel, "get", owner)?.get(property)?)))
}

fn sync(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    let disks = chosen(kernel, "sync", words)?;
    let vfs = Arc::clone(&kernel.vfs);
    later(move |interrupt| {
        let mut first = vfs.sync_nodes();
        for disk in disks {
            first = first.and(disk.cached.sync(None, interrupt));
        }
        first
    })
}

/// The disk named, or all.
fn chosen(kernel: &Kernel, verb: &str, words: &[String]) -> Result<Vec<Arc<Disk>>, Error> {
    match words.first() {
        Some(name) => Ok(vec![Arc::clone(find_disk(kernel, verb, name)?)]),
        None => Ok(kernel.special.disks().cloned().collect()),
    }
}

fn cache_drop(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    if words[0] != "drop" {
        let words = format!("cannot {}; the form is: cache drop", shown(&words[0]));
        return Err(refuse("cache", &words));
    }
    kernel.cache.drop_clean();
    done()
}

fn rescan(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    let disks = chosen(kernel, "rescan", words)?;
    later(move |interrupt| disks.iter().try_for_each(|disk| disk.rescan(interrupt)))
}

fn irq(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    let is_on = on_or_off("irq", &words[0])?;
    let unit = Unit::find(kernel, "irq", &words[1])?;
    let Some(line) = kernel.machine.irqs.line_of(unit.name()) else {
        return Err(refuse("irq", &format!("{} has no interrupt line", unit.name())));
    };
    kernel.machine.irqs.mask(line, !is_on);
    kernel.machine.engine.crank();
    done()
}

fn on_or_off(verb: &str, word: &str) -> Result<bool, Error> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(refuse(verb, &format!("{} is neither on nor off", shown(word)))),
    }
}

fn trace(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    match words[0].as_str() {
        "clear" => kernel.machine.trace.clear(),
        "on" => kernel.machine.trace.set(true),
        "off" => kernel.machine.trace.set(false),
        word => return Err(refuse("trace", &format!("{} is not on, off or clear", shown(word)))),
    }
    done()
}

/// Refuses to break what is also read past its controller.
fn check_faults(disk: &Disk, verb: &str) -> Result<(), Error> {
    match disk.spares_faults() {
        Some(why) => Err(refuse(verb, &format!("{} has {why}", disk.name))),
        None => Ok(()),
    }
}

fn fault(kernel: &Arc<Kernel>, _: &Caller, words: &[String]) -> Result<Answer<String>, Error> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["add", _, "on", name, ..] = words[..]
        && let Some(disk) = kernel.special.disk(name)
    {
        check_faults(disk, "fault")?;
        // A rule that could never match is a slip. What else is wrong with it is told below.
        let blocks = devices::fault::parse(&words[1..]).ok().and_then(|rule| rule.blocks);
        let sectors = disk.geometry()?.sectors;
        if let Some((_, last)) = blocks.filter(|(_, last)| *last >= sectors) {
            let words = format!("add: block {last}: the last of {name} is {}", sectors - 1);
            return Err(refuse("fault", &words));
        }
    }
    let answer = kernel.machine.faults.command(&words);
    answer.map(Answer::Now).map_err(|why| Error::new(Errno::EINVAL, why))
}
