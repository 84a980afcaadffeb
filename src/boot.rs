//! Switching on: description, machine, switch, cache, names, reports, control, in that order.

use crate::cache::{BufferCache, CacheConfig};
use crate::config::{Config, DoorConfig};
use crate::ctl::Verbs;
use crate::daemon::Booted;
use crate::error::{Errno, Error};
use crate::file::{Device, OpenFiles, SpecialFiles};
use crate::kernel::{DISK_MODE, Kernel, kind_of};
use crate::spec::Special;
use crate::spool::{Banner, PrinterUnit, QueueSettings, Settings, Spool, SpoolFs};
use crate::sync::{Arc, Mutex};
use crate::vfs::Vfs;
use crate::{reports, sinks, verbs};
use devices::conf::{self, Outcome, ProbeReport};
use devices::contract::host_file::PRINTER_SINK;
use devices::engine::{Engine, Time};
use devices::machine::Machine;
use devices::switch::{CharUnit, Table};
use devices::{AttachError, DevId, Interrupt, UnitConfig, plain};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Switches a machine on for whoever runs this process, as the daemon wants it.
///
/// # Errors
/// As [`boot`].
pub fn booted(config: &Config, state: &Path) -> Result<Booted, Error> {
    let me = std::fs::metadata("/proc/self").map_err(|e| {
        Error::new(Errno::ENOENT, format!("/proc/self: {}", crate::words::of_host(&e)))
    })?;
    let missing = missing_images(config, state);
    let kernel = boot(config, state, (me.uid(), me.gid()))?;
    let (vfs, files) = (Arc::clone(&kernel.vfs), Arc::clone(&kernel.files));
    let spool = start_spool(&kernel, config, state).inspect_err(|_| {
        for line in kernel.shut_down() {
            log::error!(target: "boot", "{line}");
        }
        remove_unwritten(&missing, Lock::Held);
    })?;
    let shutdown = Box::new(move || {
        spool.stop();
        kernel.shut_down()
    });
    Ok(Booted { vfs, files, shutdown })
}

/// Major of the nodes that make jobs: Linux's of line printers.
const LP_MAJOR: u16 = 6;

/// Puts the spool under `/spool`, and its nodes `lp0`, `lp1` under `/dev`.
fn start_spool(kernel: &Arc<Kernel>, config: &Config, state: &Path) -> Result<Arc<Spool>, Error> {
    let mut printers = Vec::new();
    let mut nodes = Vec::new();
    for row in kernel.special.switch().units().iter().filter(|row| row.driver == "lp") {
        let Ok(CharUnit::Device(name, _, unit)) = kernel.special.switch().character(row.dev) else {
            continue;
        };
        let name = name.strip_prefix('r').unwrap_or(&name).to_owned();
        let described = config.units.iter().find(|unit| unit.name == name);
        let sink = described.map_or_else(String::new, |unit| PRINTER_SINK.name(unit));
        nodes.push((name.clone(), DevId { major: LP_MAJOR, minor: row.dev.minor }));
        printers.push(PrinterUnit { name, unit, sink });
    }
    let queue = |queue: &crate::config::QueueConfig| QueueSettings {
        name: queue.name.clone(),
        members: queue.members.clone(),
        bytes_max: queue.bytes_max,
        banner: match queue.banner.as_str() {
            "short" => Banner::Short,
            "long" => Banner::Long,
            _ => Banner::None,
        },
    };
    let spool = Spool::open(Settings {
        dir: state.join("spool"),
        owner: kernel.owner,
        queues: config.queues.iter().map(queue).collect(),
        printers,
        engine: Arc::clone(&kernel.machine.engine),
    })?;
    let (uid, gid) = kernel.owner;
    for (name, id) in nodes {
        let device = Device { kind: kind_of(Table::Character), id };
        let (owned, queue) = (Arc::clone(&spool), name.clone());
        let open = move |caller: &_, flags| owned.open_device(&queue, caller, flags);
        kernel.special.serve(id, Arc::new(open));
        kernel.vfs.install_node(&name, device, 0o222, uid, gid)?;
    }
    let fs = Arc::new(SpoolFs::new(&spool));
    kernel.vfs.mounts().mount(fs, Path::new("/spool"), "spool", "spool", "rw")?;
    let told =
        |door: &DoorConfig, why: Error| Error::new(why.errno, format!("{}: {why}", door.place));
    if let Some(door) = &config.lpd {
        spool.listen(&door.address).map_err(|why| told(door, why))?;
    }
    for (queue, door) in &config.jetdirect {
        spool.listen_raw(queue, &door.address).map_err(|why| told(door, why))?;
    }
    let no_thread = |e| Error::new(Errno::EAGAIN, format!("a printer's thread: {e}"));
    spool.start().map_err(no_thread)?;
    Ok(spool)
}

/// Switches a machine on; `state` is its state directory, `owner` who owns its nodes.
///
/// # Errors
/// What could not be had, in words that name it; nothing goes on running then, and no image is
/// left over that was made for it.
pub fn boot(config: &Config, state: &Path, owner: (u32, u32)) -> Result<Arc<Kernel>, Error> {
    sinks::check(config, state)?;
    let missing = missing_images(config, state);
    let kernel = switch_on(config, state, owner);
    if kernel.is_err() {
        remove_unwritten(&missing, Lock::Free);
    }
    kernel
}

/// The images of the described units that are not there yet.
fn missing_images(config: &Config, state: &Path) -> Vec<PathBuf> {
    let image = |unit: &UnitConfig| conf::driver(&unit.driver)?.image()?.path(unit, Some(state));
    let is_missing = |path: &PathBuf| path.symlink_metadata().is_err();
    config.units.iter().filter_map(image).filter(is_missing).collect()
}

/// Whether we still have the lock on our images.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    /// On all of them, so that they are nobody else's.
    Held,
    /// On none. An image that is locked now is another machine's, which made it, or found it, while
    /// we were at it.
    Free,
}

/// Takes away images in which nothing was ever written: of a machine that is refused they would be
/// in the way of the next one, whose disks may have other sizes.
fn remove_unwritten(images: &[PathBuf], lock: Lock) {
    for image in images {
        let locked = match lock {
            Lock::Held => None,
            Lock::Free => {
                let file = plain::open(image, File::options().read(true)).ok();
                let locked =
                    file.and_then(|f| Flock::lock(f, FlockArg::LockExclusiveNonblock).ok());
                if locked.is_none() {
                    continue;
                }
                locked
            }
        };
        if image.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.blocks() == 0)
            && let Err(refusal) = std::fs::remove_file(image)
        {
            log::warn!(target: "boot", "{}: left over: {refusal}", image.display());
        }
        drop(locked); // whoever opened it meanwhile sees that it has no name any more
    }
}

fn switch_on(config: &Config, state: &Path, owner: (u32, u32)) -> Result<Arc<Kernel>, Error> {
    let time = match config.machine.time {
        crate::config::Time::Real => Time::Real,
        crate::config::Time::Virtual => Time::Virtual,
    };
    let engine = Engine::new(time);
    let seed = config.machine.seed.unwrap_or_else(random_seed);
    let machine = Machine::new(Arc::clone(&engine), Some(state.to_owned()), seed);
    let (switch, probe) = conf::attach_all(&machine, &config.units);
    refuse_what_is_at_fault(config, &probe)?;
    let switch = Arc::new(switch);
    let cache = BufferCache::new(
        Arc::clone(&engine),
        CacheConfig {
            size_bytes: config.cache.size_bytes,
            flush_age_nanos: config.cache.flush_age_nanos,
            wake_percent: config.cache.wake_percent,
            high_percent: config.cache.high_percent,
        },
    );
    let place = |unit: &str, key: &str| config.place_of(unit, key);
    let special = Special::new(Arc::clone(&switch), &cache, &machine, (&config.units, &place))?;
    let special = Arc::new(special);
    let files = Arc::new(OpenFiles::default());
    let doors: Arc<dyn SpecialFiles> = Arc::clone(&special) as _;
    let vfs = Vfs::new(doors, Arc::clone(&files), owner);
    vfs.load_nodes(state)?;
    let partition_nodes = Mutex::default();
    let kernel = Kernel { machine, probe, cache, special, files, vfs, owner, partition_nodes };
    let kernel = Arc::new(kernel);
    engine.start().map_err(|e| Error::new(Errno::EAGAIN, format!("the engine's thread: {e}")))?;
    install_nodes(&kernel)?;
    kernel.vfs.set_reports(reports::all(&kernel));
    kernel.vfs.set_control(Arc::new(Verbs::new(verbs::table(&kernel))));
    kernel
        .cache
        .start_updater()
        .map_err(|e| Error::new(Errno::EAGAIN, format!("the updater's thread: {e}")))?;
    log::info!(target: "boot", "the machine is up, {} units", switch.units().len());
    Ok(kernel)
}

/// A unit that is absent or unknown is left out; one whose description or image is at fault keeps
/// the machine from starting.
fn refuse_what_is_at_fault(config: &Config, probe: &ProbeReport) -> Result<(), Error> {
    let lines: Vec<String> = probe
        .probes
        .iter()
        .filter_map(|probe| match &probe.outcome {
            Outcome::Left(why @ AttachError::Value(key, _)) => {
                Some(format!("{}: {why}", config.place_of(&probe.unit, key)))
            }
            Outcome::Left(why) if why.is_fault() => {
                Some(format!("{}: {why}", config.place(&probe.unit)))
            }
            _ => None,
        })
        .collect();
    if lines.is_empty() { Ok(()) } else { Err(Error::new(Errno::EINVAL, lines.join("\n"))) }
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Puts a node under `/dev` for every unit, and follows the partitions of every disk.
fn install_nodes(kernel: &Arc<Kernel>) -> Result<(), Error> {
    let (uid, gid) = kernel.owner;
    for row in kernel.special.switch().units() {
        let device = Device { kind: kind_of(row.table), id: row.dev };
        let drivers = kernel.special.switch().drivers();
        let class = drivers.iter().find(|driver| driver.driver == row.driver).map(|d| d.class);
        let mode = match &*row.name {
            _ if row.is_raw || row.table == Table::Block || class != Some("memory") => DISK_MODE,
            "port" => 0o600, // the machine's ports are its owner's
            _ if row.driver == "ttyS" => DISK_MODE,
            _ => 0o666,
        };
        kernel.vfs.install_node(&row.name, device, mode, uid, gid)?;
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
            let name = &disk.name;
            log::warn!(target: "boot", "{name}: its partition table cannot be read: {error}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_another_machine_has_is_not_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["ours", "theirs", "written"] {
            std::fs::write(at(name), vec![1; if name == "written" { 1 << 16 } else { 0 }]).unwrap();
        }
        let theirs = File::open(at("theirs")).unwrap();
        let theirs = Flock::lock(theirs, FlockArg::LockSharedNonblock).unwrap();
        let all = ["ours", "theirs", "written", "none"].map(at);
        remove_unwritten(&all, Lock::Free);
        assert_eq!(all.each_ref().map(|path| path.exists()), [false, true, true, false]);
        drop(theirs);
        remove_unwritten(&all, Lock::Held);
        assert_eq!(all.each_ref().map(|path| path.exists()), [false, false, true, false]);
    }
}
