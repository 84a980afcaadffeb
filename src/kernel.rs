//! The running machine: every room of the kernel half, and the way down.

use crate::cache::BufferCache;
use crate::config::CacheConfig;
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
                let bytes = parse_size(value).filter(|b| CacheConfig::SIZE_BYTES.contains(b));
                let bytes = bytes.ok_or_else(|| wrong("a size of 4K to 1T is wanted, as 64M"))?;
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

    /// Writes every delayed write and what was changed of nodes, and stops; answers a line for each
    /// device that lost some. What
    /// the operator held is let go first: nobody is left who could do it later.
    #[must_use]
    pub fn shut_down(&self) -> Vec<String> {
        let mut lost = Vec::new();
        self.let_go();
        for disk in self.special.disks() {
            let synced: Result<(), Error> = disk.cached.sync(None, &Interrupt::default());
            if let Err(error) = synced {
                lost.push(format!("{}: delayed writes could not be written: {error}", disk.name));
            }
        }
        if let Err(error) = self.vfs.sync_nodes() {
            lost.push(format!("changes of device nodes could not be stored: {error}"));
        }
        self.cache.stop();
        self.machine.engine.stop();
        lost
    }

    /// Takes back `pause`, `freeze` and `irq off` of every disk.
    fn let_go(&self) {
        for disk in self.special.disks() {
            for command in [UnitCommand::Thaw, UnitCommand::Resume] {
                if let Err(error) = disk.unit.command(command) {
                    log::debug!(target: "life", "{}: {command:?}: {error}", disk.name);
                }
            }
            if let Some(line) = self.machine.irqs.line_of(&disk.name) {
                self.machine.irqs.mask(line, false);
            }
        }
        self.machine.engine.crank();
    }
}
