//! The running machine: every room of the kernel half, and the way down.

use crate::cache::BufferCache;
use crate::disk::Disk;
use crate::error::Error;
use crate::file::{Device, DeviceKind, OpenFiles};
use crate::spec::Special;
use crate::sync::{Arc, Mutex};
use crate::vfs::Vfs;
use devices::conf::ProbeReport;
use devices::machine::Machine;
use devices::{DevId, Interrupt};

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
        let Some(unit) = self.special.switch().unit_of(&disk.name) else { return };
        let found = disk.partitions();
        let wanted: Vec<(String, u32)> =
            found.iter().map(|part| (format!("{}p{}", disk.name, part.number), part.number)).collect();
        let mut nodes = self.partition_nodes.lock();
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
        for (name, number) in wanted {
            let minor = unit.first_minor + number;
            let rows = [
                (DeviceKind::Block, unit.block_major, name.clone()),
                (DeviceKind::Char, unit.raw_major, format!("r{name}")),
            ];
            for (kind, major, name) in rows {
                let Some(major) = major else { continue };
                if nodes.contains(&name) {
                    continue;
                }
                let device = Device { kind, id: DevId { major, minor } };
                let (uid, gid) = self.owner;
                match self.vfs.install_node(&name, device, 0o660, uid, gid) {
                    Ok(()) => nodes.push(name),
                    Err(error) => log::warn!(target: "boot", "/dev/{name}: {error}"),
                }
            }
        }
    }

    /// Sets `cache.PROPERTY`.
    ///
    /// # Errors
    /// What is wrong, in words; nothing has changed then.
    pub fn set_cache(&self, property: &str, value: &str) -> Result<(), String> {
        match property {
            "size" => self.cache.set_size(crate::config::parse_size(value)?),
            "flush_age" => self.cache.set_flush_age(crate::config::parse_time(value)?),
            _ => return Err(format!("no key cache.{property} (there are: size, flush_age)")),
        }
        Ok(())
    }

    /// What `cache.PROPERTY` is.
    ///
    /// # Errors
    /// That there is no such key, in words.
    pub fn get_cache(&self, property: &str) -> Result<String, String> {
        match property {
            "size" => Ok(crate::config::show_size(self.cache.size())),
            "flush_age" => Ok(crate::config::show_time(self.cache.flush_age())),
            _ => Err(format!("no key cache.{property} (there are: size, flush_age)")),
        }
    }

    /// Writes every delayed write and stops; answers a line for each device that lost some.
    #[must_use]
    pub fn shut_down(&self) -> Vec<String> {
        let mut lost = Vec::new();
        for disk in self.special.disks() {
            let synced: Result<(), Error> = disk.cached.sync(None, &Interrupt::default());
            if let Err(error) = synced {
                lost.push(format!("{}: delayed writes could not be written: {error}", disk.name));
            }
        }
        self.cache.stop_updater();
        self.machine.engine.stop();
        lost
    }
}
