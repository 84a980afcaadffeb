//! The targets: how each one is started, where its file is, and which processes serve it.
//!
//! Every file is filled and read once before it is measured, so that memory is really there and
//! our cache holds all of it.

use crate::clock::{Trouble, go_on};
use crate::floor;
use crate::host;
use crate::stand::{Scratch, Stand};
use crate::works::{
    FEW, FLOOR, FUSE2FS, HOST_CACHED, MANY, NBD, PASSTHROUGH, QEMU, RAW, SPINDLE, TMPFS,
};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What INTERFACE calls the nodes of a machine with the disks `sd0` and `ram0`.
pub const DISK_NODE: &str = "dev/sd0";
const RAW_DISK_NODE: &str = "dev/rsd0";
const RAW_RAM_NODE: &str = "dev/rram0";
/// The report that counts the misses of the cache.
const CACHE_REPORT: &str = "proc/bufcache";

/// Buffers of the two caches of the scale work, and the bytes of one.
const FEW_BUFFERS: u64 = 1 << 10;
const MANY_BUFFERS: u64 = 1 << 20;
const BUFFER_BYTES: u64 = 4 << 10;

const MIB: u64 = 1 << 20;
/// A file is filled and read in calls of this length: those of a mebibyte would be cut where the
/// memory is not on a page's edge, and the raw node takes whole sectors only.
const FILL_BYTES: usize = 512 << 10;

/// What all targets are made from.
pub struct Setup {
    /// Where they stand.
    pub scratch: Scratch,
    /// Length of each file.
    pub bytes: u64,
    /// Our daemon.
    pub spindle: PathBuf,
    /// More arguments for each `spindle mount`.
    pub mount_args: Vec<String>,
    /// Threads of the floor that read requests.
    pub floor_threads: usize,
}

/// A file that is measured.
pub struct Target {
    /// As shown.
    pub name: &'static str,
    /// The file.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The processes that serve it.
    pub pids: Vec<u32>,
    /// The report that counts what missed our cache.
    report: Option<PathBuf>,
}

impl Target {
    /// Of a file that is there.
    pub fn new(name: &'static str, file: PathBuf, bytes: u64, pids: &[u32]) -> Target {
        Target { name, file, bytes, pids: pids.to_vec(), report: None }
    }

    /// How many reads missed our cache so far; `None` where nobody counts.
    pub fn misses(&self) -> Option<u64> {
        let text = fs::read_to_string(self.report.as_ref()?).ok()?;
        count_of("misses", &text)
    }

    /// Writes the whole file, has it kept, and reads it back.
    pub fn fill(&self) -> Result<(), Trouble> {
        let fail = |error| Trouble::new(format!("{}: filling", self.name), error);
        let mut chunk = vec![0; FILL_BYTES];
        fastrand::Rng::with_seed(crate::stats::SEED).fill(&mut chunk);
        let file = File::options().read(true).write(true).open(&self.file).map_err(fail)?;
        for at in (0..self.bytes).step_by(chunk.len()) {
            go_on()?;
            file.write_all_at(&chunk, at).map_err(fail)?;
        }
        file.sync_all().map_err(fail)?;
        drop(file);
        let last = self.warm()?;
        match last == chunk {
            true => Ok(()),
            false => Err(Trouble::new(self.name, "reads back other bytes than were written")),
        }
    }

    /// Reads the whole file; its last piece.
    pub fn warm(&self) -> Result<Vec<u8>, Trouble> {
        let fail = |error| Trouble::new(format!("{}: reading", self.name), error);
        let mut file = File::open(&self.file).map_err(fail)?;
        let mut chunk = vec![0; FILL_BYTES];
        for _ in (0..self.bytes).step_by(chunk.len()) {
            go_on()?;
            file.read_exact(&mut chunk).map_err(fail)?;
        }
        Ok(chunk)
    }

    /// Has written data kept, so that it is not written during the next run.
    pub fn settle(&self) -> Result<(), Trouble> {
        let file = File::options().write(true).open(&self.file);
        file.and_then(|file| file.sync_all())
            .map_err(|error| Trouble::new(format!("{}: fsync", self.name), error))
    }
}

/// The number behind a word in a report of `name value` lines or `name=value` words.
fn count_of(word: &str, text: &str) -> Option<u64> {
    let mut words = text.split(|c: char| c.is_whitespace() || c == ':' || c == '=');
    words.find(|seen| *seen == word)?;
    words.find(|seen| !seen.is_empty())?.parse().ok()
}

/// Starts what `name` needs. One stand may bring several targets.
pub fn start(name: &'static str, setup: &Setup) -> Result<(Stand, Vec<Target>), Trouble> {
    go_on()?;
    let mut stand = Stand::new(&setup.scratch, name)?;
    let targets = match name {
        SPINDLE | RAW => disk_and_raw(&mut stand, setup)?,
        HOST_CACHED => {
            vec![with_key(&mut stand, setup, HOST_CACHED, "host_cache", DISK_NODE)?]
        }
        PASSTHROUGH => {
            vec![with_key(&mut stand, setup, PASSTHROUGH, "passthrough", RAW_DISK_NODE)?]
        }
        FEW => vec![scaled(&mut stand, setup, FEW, FEW_BUFFERS)?],
        MANY => vec![scaled(&mut stand, setup, MANY, MANY_BUFFERS)?],
        FLOOR => vec![fuse_floor(&mut stand, setup)?],
        QEMU => vec![qemu(&mut stand, setup)?],
        NBD => vec![nbd(&mut stand, setup)?],
        FUSE2FS => vec![fuse2fs(&mut stand, setup)?],
        _ => {
            need(setup.bytes)?;
            let file = stand.file("disk", setup.bytes)?;
            vec![Target::new(TMPFS, file, setup.bytes, &[])]
        }
    };
    let is_sparse = matches!(name, FEW | MANY); // its medium need not exist, only its buffers
    for target in &targets {
        if is_sparse { target.warm().map(drop)? } else { target.fill()? }
    }
    Ok((stand, targets))
}

/// Refuses what would make the host swap.
fn need(bytes: u64) -> Result<(), Trouble> {
    const SPARE: u64 = 512 * MIB;
    let available = host::available_bytes();
    match available >= bytes + SPARE {
        true => Ok(()),
        false => Err(Trouble::Failed(format!(
            "needs {} MiB of memory, {} MiB are free",
            (bytes + SPARE) / MIB,
            available / MIB
        ))),
    }
}

fn installed(programs: &[&str]) -> Result<(), Trouble> {
    match programs.iter().find(|program| !host::has(program)) {
        Some(missing) => Err(Trouble::new(missing, "not installed")),
        None => Ok(()),
    }
}

/// A machine with a cache of `cache_bytes` and these disks: name, bytes, more keys.
pub fn machine(cache_bytes: u64, disks: &[(&str, u64, &str)]) -> String {
    let mut text = format!("[cache]\nsize = \"{}M\"\n", cache_bytes.div_ceil(MIB));
    for (name, bytes, more) in disks {
        let size = bytes.div_ceil(MIB);
        text += &format!("\n[[disk]]\nname = \"{name}\"\nsize = \"{size}M\"\n{more}\n");
    }
    text
}

/// Mounts that machine at `mnt` of the stand and waits for `node`; the daemon's number.
pub fn mount(stand: &mut Stand, setup: &Setup, machine: &str, node: &str) -> Result<u32, Trouble> {
    let (mnt, state) = (stand.directory("mnt")?, stand.directory("state")?);
    let description = stand.path("machine.toml");
    fs::write(&description, machine).map_err(|error| Trouble::new(description.display(), error))?;
    let mut daemon = Command::new(&setup.spindle);
    daemon.arg("mount").arg(&mnt).arg("--machine").arg(&description).arg("--state").arg(&state);
    stand.will_mount(&mnt);
    let pid = stand.start(daemon.arg("--foreground").args(&setup.mount_args))?;
    stand.wait_until(node, || host::is_mounted(&mnt) && mnt.join(node).exists())?;
    Ok(pid)
}

fn disk_and_raw(stand: &mut Stand, setup: &Setup) -> Result<Vec<Target>, Trouble> {
    let bytes = setup.bytes;
    need(3 * bytes)?; // buffers, image, disk in memory
    let machine = machine(2 * bytes, &[("ram0", bytes, ""), ("sd0", bytes, "")]);
    let pid = mount(stand, setup, &machine, DISK_NODE)?;
    let mut disk = Target::new(SPINDLE, stand.path("mnt").join(DISK_NODE), bytes, &[pid]);
    disk.report = Some(stand.path("mnt").join(CACHE_REPORT));
    let raw = Target::new(RAW, stand.path("mnt").join(RAW_RAM_NODE), bytes, &[pid]);
    let has_raw = raw.file.exists();
    Ok([Some(disk), has_raw.then_some(raw)].into_iter().flatten().collect())
}

/// Our disk with `key = true`.
fn with_key(
    stand: &mut Stand,
    setup: &Setup,
    name: &'static str,
    key: &str,
    node: &str,
) -> Result<Target, Trouble> {
    need(3 * setup.bytes)?; // buffers, image, the host's pages
    let key = format!("{key} = true");
    let machine = machine(2 * setup.bytes, &[("sd0", setup.bytes, &key)]);
    let pid = mount(stand, setup, &machine, node)?;
    Ok(Target::new(name, stand.path("mnt").join(node), setup.bytes, &[pid]))
}

fn scaled(
    stand: &mut Stand,
    setup: &Setup,
    name: &'static str,
    buffers: u64,
) -> Result<Target, Trouble> {
    let bytes = buffers * BUFFER_BYTES;
    need(bytes + bytes / 4)?;
    let pid = mount(stand, setup, &machine(2 * bytes, &[("sd0", bytes, "")]), DISK_NODE)?;
    let mut target = Target::new(name, stand.path("mnt").join(DISK_NODE), bytes, &[pid]);
    target.report = Some(stand.path("mnt").join(CACHE_REPORT));
    Ok(target)
}

fn fuse_floor(stand: &mut Stand, setup: &Setup) -> Result<Target, Trouble> {
    need(setup.bytes)?;
    let mnt = stand.directory("mnt")?;
    let us = std::env::current_exe().map_err(|error| Trouble::new("this program", error))?;
    let mut daemon = Command::new(us);
    daemon.arg("floor").arg(&mnt).arg(setup.bytes.to_string()).arg(setup.floor_threads.to_string());
    stand.will_mount(&mnt);
    let pid = stand.start(&mut daemon)?;
    let file = mnt.join(floor::FILE);
    stand.wait_until(floor::FILE, || file.exists())?;
    Ok(Target::new(FLOOR, file, setup.bytes, &[pid]))
}

fn qemu(stand: &mut Stand, setup: &Setup) -> Result<Target, Trouble> {
    installed(&["qemu-storage-daemon"])?;
    need(setup.bytes)?;
    let image = stand.file("image", setup.bytes)?;
    let export = stand.file("export", 0)?; // a file: it is mounted upon
    let mut daemon = Command::new("qemu-storage-daemon");
    daemon.arg("--blockdev");
    daemon.arg(format!("driver=file,node-name=disk,filename={}", image.display()));
    daemon.arg("--export").arg(format!(
        "type=fuse,id=export,node-name=disk,mountpoint={},writable=on,allow-other=off",
        export.display()
    ));
    stand.will_mount(&export);
    let pid = stand.start(&mut daemon)?;
    stand.wait_until(QEMU, || host::is_mounted(&export))?;
    Ok(Target::new(QEMU, export, setup.bytes, &[pid]))
}

fn nbd(stand: &mut Stand, setup: &Setup) -> Result<Target, Trouble> {
    installed(&["nbdkit", "nbdfuse"])?;
    need(setup.bytes)?;
    let (socket, mnt) = (stand.path("socket"), stand.directory("mnt")?);
    let mut server = Command::new("nbdkit");
    server.arg("-f").arg("-U").arg(&socket).args(["memory", &setup.bytes.to_string()]);
    let server = stand.start(&mut server)?;
    stand.wait_until(NBD, || socket.exists())?;
    let mut client = Command::new("nbdfuse");
    client.arg(&mnt).arg(format!("nbd+unix:///?socket={}", socket.display()));
    stand.will_mount(&mnt);
    let client = stand.start(&mut client)?;
    let file = mnt.join("nbd");
    stand.wait_until(NBD, || host::is_mounted(&mnt) && file.exists())?;
    Ok(Target::new(NBD, file, setup.bytes, &[server, client]))
}

fn fuse2fs(stand: &mut Stand, setup: &Setup) -> Result<Target, Trouble> {
    const TABLES: u64 = 64 * MIB; // room for the file system's own tables
    installed(&["fuse2fs", "mkfs.ext4"])?;
    need(setup.bytes + TABLES)?;
    let image = stand.file("image", setup.bytes + setup.bytes / 16 + TABLES)?;
    make_ext4(&image)?;
    let mnt = stand.directory("mnt")?;
    let mut daemon = Command::new("fuse2fs");
    daemon.args(["-f", "-o", "rw,fakeroot"]).arg(&image).arg(&mnt);
    stand.will_mount(&mnt);
    let pid = stand.start(&mut daemon)?;
    stand.wait_until(FUSE2FS, || host::is_mounted(&mnt) && mnt.join("lost+found").exists())?;
    let file = mnt.join("disk");
    File::create(&file).map_err(|error| Trouble::new(file.display(), error))?;
    Ok(Target::new(FUSE2FS, file, setup.bytes, &[pid]))
}

fn make_ext4(image: &Path) -> Result<(), Trouble> {
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]);
    let made = mkfs.arg(image).env("PATH", sbin_path()).output();
    match made {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Trouble::new("mkfs.ext4", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(Trouble::new("mkfs.ext4", error)),
    }
}

/// An ordinary user's PATH often lacks the directories of root's tools.
fn sbin_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_found_in_either_style_of_report() {
        assert_eq!(count_of("misses", "hits 7\nmisses 12\n"), Some(12));
        assert_eq!(count_of("misses", "hits=7 misses=3 reads=1"), Some(3));
        assert_eq!(count_of("misses", "misses: 4"), Some(4));
        assert_eq!(count_of("misses", "hits 7"), None);
    }

    #[test]
    fn a_machine_has_its_cache_and_its_disks() {
        let text = machine(1 << 30, &[("sd0", 512 << 20, "host_cache = true")]);
        assert_eq!(
            text,
            "[cache]\nsize = \"1024M\"\n\n[[disk]]\nname = \"sd0\"\nsize = \"512M\"\n\
             host_cache = true\n"
        );
    }
}
