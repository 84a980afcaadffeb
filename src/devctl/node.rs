//! A file of the machine's tree that a command is for: what it is, and who is in its way.
//!
//! Who may not write to `ctl` has the reports to find a node in: its driver is known by the major
//! number, but not which other nodes are the same unit.

use crate::client;
use crate::words;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file of the machine at `point`.
pub(super) struct Node<'a> {
    pub(super) point: &'a Path,
    /// Its name, without the directory.
    pub(super) name: String,
    /// Empty of a file that is no device.
    pub(super) driver: String,
    path: PathBuf,
    /// What nodes of one unit have in common.
    unit: Option<String>,
}

/// A file opened, and why it could not be opened for writing, if so.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) refusal: Option<Error>,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum For {
    #[value(name = "read")]
    Reading,
    #[value(name = "write")]
    Writing,
    #[value(name = "rw", alias = "both")]
    Both,
}

impl For {
    /// As it is typed.
    pub(super) fn name(self) -> &'static str {
        match self {
            For::Reading => "read",
            For::Writing => "write",
            For::Both => "rw",
        }
    }
}

impl Node<'_> {
    /// A node of a device, by its name or by a path as the user or the machine knows it.
    ///
    /// # Errors
    /// In words: there is no such node, or no machine.
    pub(super) fn find<'a>(point: &'a Path, device: &Path) -> Result<Node<'a>, String> {
        let path = path_of(device);
        let shown = device.display();
        let none = |why: &str| format!("devctl: {shown}: no node of a device ({why})");
        if let Some(why) = of_the_tree(point, device) {
            return Err(format!("devctl: {shown}: {why}"));
        }
        match client::resolve(point, &path) {
            Ok(text) => Node::resolved(point, &text).ok_or_else(|| {
                let why = text.lines().find_map(|line| line.strip_prefix("inode=none ("));
                none(why.map_or("another kind of file", |why| why.trim_end_matches(')')))
            }),
            Err(why) => match Node::listed(point, &client::inside(point, &path)) {
                Ok(found) => found.ok_or_else(|| none("proc/nodes has none of that name")),
                Err(_) => Err(why),
            },
        }
    }

    /// The same, or a file that is none.
    ///
    /// # Errors
    /// In words: neither is there.
    pub(super) fn find_file<'a>(point: &'a Path, file: &Path) -> Result<Node<'a>, String> {
        Node::find(point, file).or_else(|why| {
            let inside = client::inside(point, &path_of(file));
            let path = inside.strip_prefix("/").unwrap_or(&inside);
            let (path, name) = (point.join(path), file.display().to_string());
            let is_there = path.is_file();
            let (driver, unit) = (String::new(), None);
            if is_there { Ok(Node { point, name, driver, path, unit }) } else { Err(why) }
        })
    }

    fn resolved<'a>(point: &'a Path, text: &str) -> Option<Node<'a>> {
        let device = Path::new(value(text, "device")?);
        // Of a queue's node it is "none (why)".
        let driver = value(text, "driver")?.split(' ').next()?.to_owned();
        let name = device.file_name()?.to_str()?.to_owned();
        let path = point.join(device.strip_prefix("/").ok()?);
        Some(Node { point, name, driver, path, unit: unit_of(text) })
    }

    /// By the reports.
    fn listed<'a>(point: &'a Path, inside: &Path) -> Result<Option<Node<'a>>, String> {
        let nodes = report(point, "nodes")?;
        let Some(words) = inside.to_str().and_then(|path| {
            let rest = |line: &'_ str| line.strip_prefix(path)?.strip_prefix(' ').map(String::from);
            nodes.lines().find_map(rest)
        }) else {
            return Ok(None);
        };
        let mut words = words.split(' ');
        let (kind, major) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let devices = report(point, "devices")?;
        let driver = driver_of(&devices, kind, major);
        let name = inside.file_name().map(|name| name.to_string_lossy().into_owned());
        let path = point.join(inside.strip_prefix("/").unwrap_or(inside));
        Ok(name.zip(driver).map(|(name, driver)| Node { point, name, driver, path, unit: None }))
    }

    pub(super) fn told(&self, why: &str) -> String {
        format!("devctl: {}: {why}", self.name)
    }

    pub(super) fn report(&self, name: &str) -> Result<String, String> {
        report(self.point, name)
    }

    /// The lines of a report whose first word is the node's name.
    pub(super) fn lines_of(&self, name: &str) -> Result<Vec<String>, String> {
        let text = self.report(name)?;
        let own = text.lines().filter(|line| line.split(' ').next() == Some(&self.name));
        Ok(own.map(ToOwned::to_owned).collect())
    }

    /// Its file: for both ways, else as it may be; no medium or carrier is waited for.
    ///
    /// # Errors
    /// The host's, in words; of a unit that is held, with who holds it.
    pub(super) fn open(&self) -> Result<Opened, String> {
        let refusal = match self.open_once(For::Both, libc::O_NONBLOCK) {
            Ok(file) => return Ok(Opened { file, refusal: None }),
            Err(error) => error,
        };
        let opened = self.open_once(For::Reading, libc::O_NONBLOCK).or_else(|error| {
            // What can only be written refuses to be read; any other refusal stands.
            if error.kind() == ErrorKind::PermissionDenied {
                self.open_once(For::Writing, libc::O_NONBLOCK).map_err(|_| error)
            } else {
                Err(error)
            }
        });
        let file = opened.map_err(|error| self.told(&self.refused(&error)))?;
        Ok(Opened { file, refusal: Some(refusal) })
    }

    /// Its file for this; a read or write of it waits if `is_patient`.
    ///
    /// # Errors
    /// As for [`Node::open`].
    pub(super) fn open_for(&self, purpose: For, is_patient: bool) -> Result<File, String> {
        let flags = if is_patient { 0 } else { libc::O_NONBLOCK };
        self.open_once(purpose, flags).map_err(|error| self.told(&self.refused(&error)))
    }

    fn open_once(&self, purpose: For, flags: i32) -> Result<File, Error> {
        let mut options = OpenOptions::new();
        options.read(purpose != For::Writing).write(purpose != For::Reading);
        options.custom_flags(flags | libc::O_NOCTTY).open(&self.path)
    }

    /// The host's words; where the unit is held, with who holds it.
    pub(super) fn refused(&self, error: &Error) -> String {
        let words = words::of_host(error);
        let is_held = error.kind() == ErrorKind::ResourceBusy;
        let holders = if is_held { self.holders() } else { Vec::new() };
        if holders.is_empty() { words } else { format!("{words} ({})", holders.join("; ")) }
    }

    /// Who stands in the way of opening it or reserving it, in words.
    pub(super) fn holders(&self) -> Vec<String> {
        let own = std::process::id().to_string();
        let mut all = Vec::new();
        for line in self.report("status").unwrap_or_default().lines() {
            let mut words = line.split(' ');
            let path = format!("/dev/{}", words.next().unwrap_or_default());
            let owner = words.find_map(|word| word.strip_prefix("owner="));
            let owner = owner.filter(|_| self.is_unit_of(&path));
            let text = owner.map(|owner| format!("reserved by session {owner}{}", program(owner)));
            all.extend(text.filter(|text| !all.contains(text)));
        }
        for line in self.report("files").unwrap_or_default().lines() {
            let Some((pid, path)) = opened(line).filter(|(_, path)| self.is_unit_of(path)) else {
                continue;
            };
            if pid == own {
                continue;
            }
            all.push(format!("{path} opened by process {pid}{}", program(pid)));
        }
        for line in self.report("mounts").unwrap_or_default().lines() {
            if let Some((device, rest)) = line.split_once(' ').filter(|(d, _)| self.is_unit_of(d)) {
                let prefix = rest.split(' ').next().unwrap_or_default();
                all.push(format!("{device} is mounted at {prefix}"));
            }
        }
        let server = format!("service={}", self.name);
        for line in self.report("policy").unwrap_or_default().lines() {
            let mut words = line.split(' ');
            let queue = words.next().unwrap_or_default();
            if words.any(|word| word == server) {
                all.push(format!("the queue {queue} prints on it, until spindle lpc stop {queue}"));
            }
        }
        all
    }

    /// Whether that path leads to the same unit.
    fn is_unit_of(&self, path: &str) -> bool {
        if !path.starts_with('/') {
            return false;
        }
        let own = self.path.strip_prefix(self.point).unwrap_or(&self.path);
        let is_same_file = Path::new("/").join(own) == Path::new(path);
        is_same_file
            || self.unit.as_ref().is_some_and(|unit| {
                let text = client::resolve(self.point, Path::new(path)).ok();
                text.and_then(|text| unit_of(&text)).as_ref() == Some(unit)
            })
    }
}

/// What a name is, in words, that is no device's and yet one of the tree, and what is to be done
/// with it.
fn of_the_tree(point: &Path, name: &Path) -> Option<String> {
    let inside = client::inside(point, name);
    let inside = inside.strip_prefix("/").unwrap_or(&inside);
    let path = point.join(inside);
    let is_device = path.starts_with(point.join("dev")) || point.join("dev").join(name).exists();
    let found = path.symlink_metadata().ok().filter(|_| !is_device)?;
    let path = path.display();
    Some(match inside.to_str()? {
        "ctl" => "no device, but what commands to the machine go to: spindle ctl help".into(),
        inside if inside.starts_with("proc/") => format!("no device, but a report: cat {path}"),
        inside if inside.starts_with("nodes/") || inside.starts_with("mnt/") => return None,
        _ if found.is_dir() => format!("no device, but a directory: ls {path}"),
        _ => return None,
    })
}

/// A lone name is one under `/dev`.
fn path_of(device: &Path) -> PathBuf {
    let is_name = device.components().count() == 1 && !device.is_absolute();
    if is_name { Path::new("/dev").join(device) } else { device.to_owned() }
}

fn report(point: &Path, name: &str) -> Result<String, String> {
    let path = point.join("proc").join(name);
    let told = |e: Error| format!("{}: {}", path.display(), words::of_host(&e));
    std::fs::read_to_string(&path).map_err(told)
}

/// What stands behind `key=`.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

/// What all nodes of a unit have in common: the address, or the number where there is none.
fn unit_of(resolved: &str) -> Option<String> {
    let driver = value(resolved, "driver")?;
    let address = value(resolved, "address").filter(|address| address.starts_with("port "));
    let number = || value(resolved, "unit")?.split(' ').next();
    Some(format!("{driver} {}", address.or_else(number)?))
}

/// The driver of a major number, by `proc/devices`.
fn driver_of(devices: &str, kind: &str, major: &str) -> Option<String> {
    let title = if kind == "b" { "Block devices:" } else { "Character devices:" };
    let lines = devices.lines().skip_while(|line| *line != title).skip(1);
    let mut rows = lines.take_while(|line| !line.is_empty()).map(str::split_whitespace);
    let mut row = rows.find(|row| row.clone().next() == Some(major))?;
    row.nth(1).map(ToOwned::to_owned)
}

/// Process and path of a line of `proc/files`; a path may have blanks.
fn opened(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(' ')?;
    let (pid, rest) = rest.split_once(' ')?;
    let path = rest.rsplitn(5, ' ').nth(4)?;
    Some((pid, path))
}

/// ` (cat)`: what that process runs, where the host shows it.
fn program(pid: &str) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    name.map_or_else(|_| String::new(), |name| format!(" ({})", name.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_found_by_kind_and_number() {
        let text = "Character devices:\n  1 mem      memory loaded\n  8 rsd disk loaded\n\n\
                    Block devices:\n  1 ram      disk   loaded\n  8 sd disk loaded\n";
        assert_eq!(driver_of(text, "c", "1").unwrap(), "mem");
        assert_eq!(driver_of(text, "b", "8").unwrap(), "sd");
        assert_eq!(driver_of(text, "b", "9"), None);
    }

    #[test]
    fn nodes_of_one_unit_are_known_by_their_address() {
        let tape = "device=/dev/nst0\ndriver=st\nunit=128\naddress=port 0x6000 irq 64\n";
        assert_eq!(unit_of(tape).unwrap(), "st port 0x6000 irq 64");
        let memory = "driver=mem\nunit=3\naddress=memory\n";
        assert_eq!(unit_of(memory).unwrap(), "mem 3");
        assert_eq!(unit_of("driver=ram\nunit=0 partition=1\n").unwrap(), "ram 0");
        assert_eq!(unit_of("prefix=/dev\n"), None);
    }

    #[test]
    fn an_open_file_may_have_blanks_in_its_name() {
        let line = "4 300 /tmp/a b block 0o100000 offset=0 count=1";
        assert_eq!(opened(line), Some(("300", "/tmp/a b")));
        assert_eq!(opened("4 300"), None);
    }

    #[test]
    fn a_lone_name_is_a_device() {
        assert_eq!(path_of(Path::new("sd0")), Path::new("/dev/sd0"));
        assert_eq!(path_of(Path::new("./sd0")), Path::new("./sd0"));
        assert_eq!(path_of(Path::new("/mnt/x")), Path::new("/mnt/x"));
    }
}
