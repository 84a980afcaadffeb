//! The running machine: every room of the kernel half, and the way down.

use crate::cache::BufferCache;
use crate::disk::Disk;
use crate::error::{Errno, Error};
use crate::file::{Answer, Device, DeviceKind, OpenFiles};
use crate::spec::Special;
use crate::sync::{Arc, Mutex};
use crate::vfs::Vfs;
use devices::conf::ProbeReport;
use devices::machine::Machine;
use devices::switch::Table;
use devices::value::{format_size, format_time, parse_size, parse_time};
use devices::{DevId, Interrupt, UnitCommand};

/// Permission bits of disks, their partitions and raw twins.
pub const DISK_MODE: u16 = 0o660;

/// Which switch a table of the machine is.
#[must_use]
pub fn kind_of(table: Table) -> DeviceKind {
    match table {
        Table::Block => DeviceKind::Block,
        Table::Character => DeviceKind::Char,
    }
}

/// See the head of this file; [`crate::boot`] makes it.
pub struct Kernel {
    /// What the drivers are attached to.
    pub machine: Machine,
    /// What the buses answered at boot.
    pub probe: ProbeReport,
    /// The buffer cache.
    pub cache: Arc<BufferCache>,
    /// Special files and the disks behind them.
    pub special: Arc<Special>,
    /// The open-file table.
    pub files: Arc<OpenFiles>,
    /// Names.
    pub vfs: Arc<Vfs>,
    /// User and group that own the machine.
    pub owner: (u32, u32),
    /// Names of the partition nodes that stand under `/dev` now.
    pub partition_nodes: Mutex<Vec<String>>,
}

impl Kernel {
    /// Makes the nodes of a disk's partitions agree with its table, in both switches.
    pub fn follow_partitions(&self, disk: &Disk) {
        let mut nodes = self.partition_nodes.lock();
        // Asked under the lock: who comes last here knows the latest.
        let found = disk.partitions();
        let wanted: Vec<(String, u32)> = found
            .iter()
            .map(|part| (format!("{}p{}", disk.name, part.number), part.number))
            .collect();
        let prefix = format!("{}p", disk.name);
        nodes.retain(|name| {
            let plain = name.strip_prefix('r').filter(|_| !name.starts_with(&prefix));
            let plain = plain.unwrap_or(name);
            let is_ours = plain.strip_prefix(&prefix).is_some_and(|n| n.parse::<u32>().is_ok());
            let is_gone = is_ours && !wanted.iter().any(|(wanted, _)| wanted == plain);
            if is_gone && let Err(error) = self.vfs.remove_node(name) {
                log::warn!(target: "boot", "/dev/{name}: {error}");
            }
            !is_gone
        });
        let rows = self.special.switch().units().iter();
        for row in rows.filter(|row| row.name == disk.name || row.name == format!("r{}", disk.name))
        {
            for (name, number) in &wanted {
                let name = if row.is_raw { format!("r{name}") } else { name.clone() };
                if !nodes.contains(&name) {
                    let id = DevId { minor: row.dev.minor + number, ..row.dev };
                    self.install(&name, row.table, id, &mut nodes);
                }
            }
        }
    }

    fn install(&self, name: &str, table: Table, id: DevId, nodes: &mut Vec<String>) {
        let device = Device { kind: kind_of(table), id };
        let (uid, gid) = self.owner;
        match self.vfs.install_node(name, device, DISK_MODE, uid, gid) {
            Ok(()) => nodes.push(name.to_owned()),
            Err(error) => log::warn!(target: "boot", "/dev/{name}: {error}"),
        }
    }

    /// Sets `cache.PROPERTY`; a smaller cache first writes what it must give up.
    ///
    /// # Errors
    /// `EINVAL` in words; nothing has changed then.
    pub fn set_cache(&self, property: &str, value: &str) -> Result<Answer<String>, Error> {
        let wrong = |right: &str| {
            Error::new(Errno::EINVAL, format!("set: cache.{property} {value}: {right}"))
        };
        match property {
            "size" => {
                let bytes = parse_size(value).filter(|bytes| *bytes > 0);
                let bytes = bytes.ok_or_else(|| wrong("a size is wanted, as in 64M"))?;
                let cache = Arc::clone(&self.cache);
                return Ok(Answer::Later(Box::new(move |interrupt| {
                    cache.resize(bytes, interrupt)?;
                    Ok("ok\n".to_owned())
                })));
            }
            "flush_age" => {
                let nanos = parse_time(value).filter(|nanos| *nanos > 0);
                let nanos = nanos.ok_or_else(|| wrong("a time is wanted, as in 30s"))?;
                self.cache.set_flush_age(nanos);
            }
            _ => return Err(wrong("not known; there are size, flush_age")),
        }
        Ok(Answer::Now("ok\n".to_owned()))
    }

    /// What `cache.PROPERTY` is.
    ///
    /// # Errors
    /// That there is no such key, in words.
    pub fn get_cache(&self, property: &str) -> Result<String, String> {
        match property {
            "size" => Ok(format_size(self.cache.size())),
            "flush_age" => Ok(format_time(self.cache.flush_age())),
            _ => Err(format!("no key cache.{property} (there are: size, flush_age)")),
        }
    }

    /// Lets everything go on that somebody holds: it would hold the delayed writes for ever.
    fn release_all(&self) {
        for line in self.machine.irqs.list() {
            self.machine.irqs.mask(line.line, false);
        }
        for disk in self.special.disks() {
            for command in [UnitCommand::Thaw, UnitCommand::Resume] {
                // A unit that knows no such command is not held by it either.
                let _ = disk.unit.command(command);
            }
        }
        self.machine.engine.crank();
    }

    /// Writes every delayed write and stops; answers a line for each device that lost some.
    #[must_use]
    pub fn shut_down(&self) -> Vec<String> {
        self.release_all();
        let mut lost = Vec::new();
        for disk in self.special.disks() {
            let synced: Result<(), Error> = disk.cached.sync(None, &Interrupt::default());
            if let Err(error) = synced {
                lost.push(format!("{}: delayed writes could not be written: {error}", disk.name));
            }
        }
        self.cache.stop();
        self.machine.engine.stop();
        lost
    }
}
