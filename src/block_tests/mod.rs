//! The whole block path without FUSE: nodes, cache, queue, controller and medium of a small
//! machine, driven through the operations of its open files.

mod model;
mod paths;

use crate::cache::{BufferCache, CacheConfig};
use crate::disk::Disk;
use crate::error::{Errno, Error};
use crate::file::{
    Answer, Call, Caller, CallerMemory, Device, DeviceKind, FileOps, IoctlAnswer, IoctlCall,
    SpecialFiles, SyncKind,
};
use crate::spec::Special;
use crate::sync::Arc;
use devices::conf;
use devices::engine::{Engine, Time};
use devices::machine::Machine;
use devices::{DevId, Interrupt, State, UnitCommand, UnitConfig, Value};

/// `O_RDWR`: files are opened so.
const READ_WRITE: i32 = 2;

/// What a machine is made of.
#[derive(Clone, Copy, Debug)]
struct Plan {
    seed: u64,
    cache_blocks: u64,
    sectors: u64,
    sector_bytes: u64,
    timing: &'static str,
    scheduler: &'static str,
    transfer_max: u64,
    is_read_only: bool,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            seed: 1,
            cache_blocks: 64,
            sectors: 640,
            sector_bytes: 512,
            timing: "disk7200",
            scheduler: "clook",
            transfer_max: 64 << 10,
            is_read_only: false,
        }
    }
}

/// A machine with one disk, `sd0`, whose media are in memory.
struct House {
    machine: Machine,
    cache: Arc<BufferCache>,
    special: Special,
    disk: Arc<Disk>,
    /// Where a protected image is.
    _dir: Option<tempfile::TempDir>,
}

/// Caller `pid`, on a file whose flags are now these beside `O_RDWR`.
fn call(pid: u32, flags: i32) -> Call {
    Call { caller: Caller { pid, uid: 0, gid: 0 }, flags: READ_WRITE | flags, id: 1 }
}

/// The rest of a call, here and now.
fn finish<T>(answer: Answer<T>, interrupt: &Interrupt) -> Result<T, Error> {
    match answer {
        Answer::Now(value) => Ok(value),
        Answer::Later(rest) => rest(interrupt),
        Answer::Blocked(rest) => rest.wait(interrupt),
    }
}

/// For commands that look at no memory.
struct NoMemory;

impl CallerMemory for NoMemory {
    fn argument(&self) -> Result<u64, Error> {
        Err(Error::plain(Errno::ENOTTY))
    }

    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::plain(Errno::ENOTTY))
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), Error> {
        Err(Error::plain(Errno::ENOTTY))
    }
}

impl House {
    fn new(plan: Plan) -> House {
        let engine = Engine::new(Time::Simulated);
        // Only an image can be protected.
        let dir = plan.is_read_only.then(|| tempfile::tempdir().unwrap());
        if let Some(dir) = &dir {
            let image = std::fs::File::create(dir.path().join("sd0.img")).unwrap();
            image.set_len(plan.sectors * 512).unwrap();
        }
        let state = dir.as_ref().map(|dir| dir.path().to_owned());
        let machine = Machine::new(Arc::clone(&engine), state, plan.seed);
        let mut unit = UnitConfig { name: "sd0".into(), driver: "sd".into(), ..Default::default() };
        let numbers = [
            ("size", plan.sectors * 512),
            ("sector", plan.sector_bytes),
            ("transfer_max", plan.transfer_max),
        ];
        let texts = [("timing", plan.timing), ("scheduler", plan.scheduler)];
        unit.values.extend(numbers.map(|(key, n)| (key.to_owned(), Value::Number(n))));
        unit.values.extend(texts.map(|(key, text)| (key.to_owned(), Value::Text(text.into()))));
        unit.values.insert("read_only".into(), Value::Flag(plan.is_read_only));
        let (switch, _) = conf::attach_all(&machine, &[unit]);
        let size_bytes = plan.cache_blocks * 4096;
        let cache = BufferCache::new(engine, CacheConfig { size_bytes, ..CacheConfig::default() });
        let special =
            Special::new(Arc::new(switch), &cache, &machine, (&[], &|_, _| String::new())).unwrap();
        let disk = Arc::clone(special.disk("sd0").unwrap());
        House { machine, cache, special, disk, _dir: dir }
    }

    fn open(&self, kind: DeviceKind, part: u32) -> Arc<dyn FileOps> {
        self.try_open(kind, part, READ_WRITE).unwrap()
    }

    fn try_open(&self, kind: DeviceKind, part: u32, flags: i32) -> Result<Arc<dyn FileOps>, Error> {
        let device = Device { kind, id: DevId { major: 8, minor: part } };
        self.special.open(device, &call(1, 0).caller, flags)
    }

    /// What is due and what will be: until nothing is under way.
    fn settle(&self) {
        while self.machine.engine.skip_to_next() {}
    }

    /// Time passes, the updater looks.
    fn pass(&self, nanos: u64) {
        self.machine.engine.after(nanos, || {});
        self.settle();
        self.cache.tick();
    }

    /// Nothing goes wrong any more, and what did is repaired.
    fn heal(&self) {
        self.machine.faults.fail_nth(0);
        self.machine.faults.command(&["clear"]).unwrap();
        self.disk.unit.command(UnitCommand::Repair).unwrap();
        self.machine.engine.crank();
    }

    /// Nothing is under way, nothing unsaved, nothing stuck.
    fn audit(&self) {
        self.settle();
        let status = self.disk.unit.status();
        assert_eq!((status.state, status.current, status.queued), (State::Idle, None, 0));
        assert_eq!(self.disk.unit.counters().in_flight, 0);
        assert_eq!(self.cache.stats().dirty, 0);
        for buffer in self.cache.list() {
            assert_eq!(buffer.state, "clean", "block {}", buffer.block);
        }
    }
}

/// Reads, whatever it takes.
fn read(file: &dyn FileOps, call: &Call, at: usize, len: usize) -> Result<Vec<u8>, Error> {
    let mut memory = vec![0xee; len];
    match file.read(call, at as u64, &mut memory)? {
        Answer::Now(count) => {
            assert_eq!(memory.len(), len, "the memory of a read comes back whole");
            memory.truncate(count);
            Ok(memory)
        }
        Answer::Later(rest) => rest(&Interrupt::default()),
        Answer::Blocked(rest) => rest.wait(&Interrupt::default()),
    }
}

fn write(file: &dyn FileOps, call: &Call, at: usize, data: &[u8]) -> Result<usize, Error> {
    finish(file.write(call, at as u64, data)?, &Interrupt::default())
}

fn sync(file: &dyn FileOps, call: &Call) -> Result<(), Error> {
    finish(file.sync(call, SyncKind::All)?, &Interrupt::default())
}

fn ioctl(file: &dyn FileOps, call: &Call, cmd: u32) -> Result<IoctlAnswer, Error> {
    let memory = Arc::new(NoMemory);
    let ioctl = IoctlCall { cmd, input: &[], out_bytes: 8, is_32_bit: false, memory };
    finish(file.ioctl(call, &ioctl)?, &Interrupt::default())
}

/// A sector with a table of two partitions, in sectors of the disk: first sector and length.
fn table(parts: &[(u32, u32)], sector_bytes: usize) -> Vec<u8> {
    let mut sector = vec![0; sector_bytes];
    for (n, (start, count)) in parts.iter().enumerate() {
        let entry = 446 + 16 * n;
        sector[entry + 4] = 0x83;
        sector[entry + 8..entry + 12].copy_from_slice(&start.to_le_bytes());
        sector[entry + 12..entry + 16].copy_from_slice(&count.to_le_bytes());
    }
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    sector
}
