//! Switching on: description, machine, switch, cache, names, reports, control, in that order.

use crate::cache::{BufferCache, CacheConfig};
use crate::config::Config;
use crate::ctl::Verbs;
use crate::error::{Errno, Error};
use crate::file::{Device, DeviceKind, OpenFiles, SpecialFiles};
use crate::kernel::Kernel;
use crate::spec::Special;
use crate::sync::{Arc, Mutex};
use crate::vfs::Vfs;
use crate::{reports, verbs};
use devices::engine::{Engine, Time};
use devices::machine::Machine;
use devices::{Interrupt, conf};
use std::path::Path;

/// Switches a machine on; `state` is its state directory, `owner` who owns its nodes.
///
/// # Errors
/// What could not be had, in words that name it; nothing goes on running then.
pub fn boot(config: &Config, state: &Path, owner: (u32, u32)) -> Result<Arc<Kernel>, Error> {
    let time = match config.machine.time {
        crate::config::Time::Real => Time::Real,
        crate::config::Time::Virtual => Time::Virtual,
    };
    let engine = Engine::new(time);
    let seed = config.machine.seed.unwrap_or_else(random_seed);
    let machine = Machine::new(Arc::clone(&engine), Some(state.to_owned()), seed);
    let (switch, probe) = conf::attach_all(&machine, &config.units).map_err(|refusal| {
        let place = config.place(&refusal.unit);
        Error::new(Errno::EINVAL, format!("{place}: {}: {}", refusal.unit, refusal.error))
    })?;
    let switch = Arc::new(switch);
    let cache = BufferCache::new(
        Arc::clone(&engine),
        CacheConfig { size_bytes: config.cache.size, flush_age: config.cache.flush_age },
    );
    let special = Arc::new(Special::new(Arc::clone(&switch), &cache, &engine)?);
    let files = Arc::new(OpenFiles::default());
    let doors: Arc<dyn SpecialFiles> = Arc::clone(&special) as _;
    let vfs = Vfs::new(doors, Arc::clone(&files), owner);
    vfs.load_nodes(state)?;
    let partition_nodes = Mutex::default();
    let kernel =
        Kernel { machine, probe, cache, special, files, vfs, owner, partition_nodes };
    let kernel = Arc::new(kernel);
    engine.start().map_err(|e| Error::new(Errno::EAGAIN, format!("the engine's thread: {e}")))?;
    install_nodes(&kernel)?;
    kernel.vfs.set_reports(reports::all(&kernel));
    kernel.vfs.set_control(Arc::new(Verbs::new(verbs::table(&kernel))));
    kernel.cache.start_updater().map_err(|e| {
        Error::new(Errno::EAGAIN, format!("the updater's thread: {e}"))
    })?;
    log::info!(target: "boot", "the machine is up, {} units", switch.units().count());
    Ok(kernel)
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Puts a node under `/dev` for every unit, and follows the partitions of every disk.
fn install_nodes(kernel: &Arc<Kernel>) -> Result<(), Error> {
    let (uid, gid) = kernel.owner;
    for node in kernel.special.switch().nodes() {
        let kind = if node.is_block { DeviceKind::Block } else { DeviceKind::Char };
        let device = Device { kind, id: node.id };
        kernel.vfs.install_node(&node.name, device, node.mode, uid, gid)?;
    }
    kernel.special.set_on_rescan(|| {
        // Weak: a disk must not keep its kernel alive.
        let kernel = Arc::downgrade(kernel);
        Box::new(move |disk| {
            if let Some(kernel) = kernel.upgrade() {
                kernel.follow_partitions(disk);
            }
        })
    });
    for disk in kernel.special.disks() {
        if let Err(error) = disk.rescan(&Interrupt::default()) {
            log::warn!(target: "boot", "{}: its partition table cannot be read: {error}", disk.name);
        }
    }
    Ok(())
}
