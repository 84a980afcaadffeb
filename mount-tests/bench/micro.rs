//! Microbenchmarks: what a copy, a hit, a miss, a write, a flush, a queued request and a walk cost.
//!
//! No FUSE and no thread: the callers' work alone, on a unit that is done at the next crank, in the
//! daemon's own kind of memory.

#[path = "../../src/allocator.rs"]
mod allocator;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use devices::engine::{Engine, Time};
use devices::queue::{
    Controller, DiskQueue, Entry, Progress, QueueOptions, SCHEDULERS, Transfer, scheduler,
};
use devices::{
    BlockDevice, Class, Failure, Geometry, Interrupt, IoError, Op, Origin, Rejected, Request,
    Sector, SimTime, State, Status, UnitCommand,
};
use spindle::cache::{BLOCK_BYTES, BufferCache, CacheConfig, CachedDevice};
use spindle::error::{Errno, Error};
use spindle::file::{Caller, Device, FileOps, SpecialFiles};
use spindle::sync::Arc;
use spindle::vfs::MemFs;
use spindle::vfs::{Follow, Vfs};
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, Weak};

const BLOCK: u64 = BLOCK_BYTES as u64;
const READER: Origin = Origin { pid: 7, class: Class::Caller, id: 1 };
const SEED: u64 = 1;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    copies(&mut criterion);
    hits(&mut criterion);
    misses(&mut criterion);
    writes(&mut criterion);
    flushes(&mut criterion);
    schedulers(&mut criterion);
    queues(&mut criterion);
    walks(&mut criterion);
    criterion.final_summary();
}

/// A disk without a medium: it reads as ones, takes every write, and is done at the next crank.
struct Instantly {
    engine: Arc<Engine>,
    sectors: u64,
}

fn geometry(sectors: u64) -> Geometry {
    Geometry { sectors, sector_bytes: 512, transfer_max: 2048, ordered: false, read_only: false }
}

impl BlockDevice for Instantly {
    fn geometry(&self) -> Result<Geometry, IoError> {
        Ok(geometry(self.sectors))
    }

    fn submit(&self, mut request: Request) -> Result<(), Box<Rejected>> {
        if request.op == Op::Read {
            request.data.fill(1); // its pages become real
        }
        self.engine.after(0, move || request.finish(Ok(())));
        Ok(())
    }

    fn status(&self) -> Status {
        Status { state: State::Idle, current: None, queued: 0 }
    }
}

/// A cache of so many blocks over a disk of so many; nothing is written but by a sync.
fn disk(cache_blocks: u64, disk_blocks: u64) -> Arc<CachedDevice> {
    let engine = Engine::new(Time::Real);
    let config = CacheConfig {
        size_bytes: cache_blocks * BLOCK,
        flush_age_nanos: u64::MAX,
        wake_percent: 100,
        high_percent: 100,
    };
    let cache = BufferCache::new(Arc::clone(&engine), config);
    let unit = Instantly { engine, sectors: disk_blocks * BLOCK / 512 };
    cache.attach("sd0", Arc::new(unit)).expect("a new cache takes a unit")
}

fn fetch(disk: &Arc<CachedDevice>, block: u64, buf: &mut [u8]) {
    disk.read_wait(READER, block * BLOCK, buf, &Interrupt::default()).expect("it never fails");
}

fn put(disk: &Arc<CachedDevice>, block: u64, data: &[u8]) {
    let taken = disk.write(READER, block * BLOCK, data).expect("it never fails");
    assert_eq!(taken, data.len(), "a cache with room takes all of it");
}

fn available_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib << 10)
}

/// Numbers of blocks, the greatest only where there is memory for it.
fn sizes() -> Vec<u64> {
    let has_room = |blocks: &u64| {
        let needed = blocks * BLOCK * 3 / 2;
        let has_room = available_bytes() > needed;
        if !has_room {
            let words = format!("{blocks} blocks are left out: they need {} MiB", needed >> 20);
            let _ = writeln!(std::io::stderr(), "{words}");
        }
        has_room
    };
    [1 << 10, 1 << 20].into_iter().filter(has_room).collect()
}

/// What a hit cannot beat: the copy alone, of a block at a random place.
fn copies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("copy");
    for blocks in sizes() {
        group.bench_function(BenchmarkId::from_parameter(blocks), |bencher| {
            let memory = (0..blocks).map(|_| vec![1; BLOCK_BYTES]).collect::<Vec<Vec<u8>>>();
            let mut buf = vec![0; BLOCK_BYTES];
            let mut rng = fastrand::Rng::with_seed(SEED);
            bencher.iter(|| {
                black_box(&mut buf).copy_from_slice(&memory[rng.usize(..memory.len())]);
            });
        });
    }
}

fn hits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hit");
    for blocks in sizes() {
        // One for all its samples: a cache and its disks hold each other until the machine ends.
        let disk = disk(blocks + blocks / 2, blocks); // shards are not filled evenly
        let mut buf = vec![0; BLOCK_BYTES];
        (0..blocks).for_each(|block| fetch(&disk, block, &mut buf));
        group.bench_function(BenchmarkId::from_parameter(blocks), |bencher| {
            let mut rng = fastrand::Rng::with_seed(SEED);
            bencher.iter(|| {
                let is_hit = disk.read(READER, rng.u64(..blocks) * BLOCK, black_box(&mut buf));
                assert!(is_hit.is_ok_and(|is_hit| is_hit));
            });
        });
    }
}

fn misses(criterion: &mut Criterion) {
    const DISK: u64 = 1 << 20;
    let disk = disk(1 << 10, DISK);
    criterion.bench_function("miss", |bencher| {
        let mut buf = vec![0; BLOCK_BYTES];
        let mut rng = fastrand::Rng::with_seed(SEED);
        bencher.iter(|| fetch(&disk, rng.u64(..DISK), black_box(&mut buf)));
    });
}

fn writes(criterion: &mut Criterion) {
    const DISK: u64 = 1 << 10;
    let disk = disk(2 * DISK, DISK);
    criterion.bench_function("write", |bencher| {
        let data = vec![7; BLOCK_BYTES];
        let mut rng = fastrand::Rng::with_seed(SEED);
        bencher.iter(|| put(&disk, rng.u64(..DISK), black_box(&data)));
    });
}

/// Every second block is dirty, in random order of dirtying: none joins another on its way.
fn flushes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flush");
    group.sample_size(10);
    for dirty in [1 << 10, 1 << 13, 1 << 16] {
        let disk = disk(3 * dirty, 2 * dirty);
        let data = vec![7; BLOCK_BYTES];
        let mut order = (0..dirty).map(|block| block * 2).collect::<Vec<_>>();
        fastrand::Rng::with_seed(SEED).shuffle(&mut order);
        group.throughput(Throughput::Elements(dirty));
        group.bench_function(BenchmarkId::from_parameter(dirty), |bencher| {
            bencher.iter_batched(
                || order.iter().for_each(|block| put(&disk, *block, &data)),
                |()| disk.sync(None, &Interrupt::default()).expect("it never fails"),
                BatchSize::PerIteration,
            );
        });
    }
}

const QUEUED: u64 = 10_000;

/// One out and one in, with 10,000 waiting.
fn schedulers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler");
    for name in SCHEDULERS {
        let mut scheduler = scheduler(name).expect("each name has a scheduler");
        let mut rng = fastrand::Rng::with_seed(SEED);
        let mut entry = |id| {
            let sector = Sector(rng.u64(..1 << 24));
            let op = if rng.bool() { Op::Read } else { Op::Write };
            Entry { id, sector, op, queued_at: SimTime(id) }
        };
        (0..QUEUED).for_each(|id| scheduler.add(entry(id)));
        let mut id = QUEUED;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let served = scheduler.next(Sector(id << 8 & 0xff_ffff), SimTime(id));
                assert!(black_box(served).is_some());
                scheduler.add(entry(id));
                id += 1;
            });
        });
    }
}

/// A controller whose every transfer is over at the next crank.
struct Ready {
    engine: Arc<Engine>,
    queue: Arc<OnceLock<Weak<DiskQueue>>>,
}

impl Controller for Ready {
    fn geometry(&self) -> Result<Geometry, IoError> {
        Ok(geometry(1 << 24))
    }

    fn start(&mut self, _: &mut Transfer) -> Result<(), Failure> {
        let queue = self.queue.get().and_then(Weak::upgrade);
        self.engine.after(0, move || queue.iter().for_each(|queue| queue.interrupt()));
        Ok(())
    }

    fn interrupt(&mut self, _: &mut Transfer) -> Progress {
        Progress::Finished(Ok(()))
    }

    fn reset(&mut self, _: Option<&mut Transfer>) {}

    fn stored_from(&self, _: Sector) -> Option<(Sector, Sector)> {
        None
    }
}

/// 10,000 requests all the way: into the held queue, then through it.
fn queues(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(QUEUED)).sample_size(20);
    for name in SCHEDULERS {
        let engine = Engine::new(Time::Real);
        let back = Arc::new(OnceLock::new());
        let ready = Ready { engine: Arc::clone(&engine), queue: Arc::clone(&back) };
        let options = QueueOptions { scheduler: name.into(), ..QueueOptions::default() };
        let queue = DiskQueue::new("sd0".into(), Arc::clone(&engine), Box::new(ready), options);
        assert!(back.set(Arc::downgrade(&queue)).is_ok());
        let mut rng = fastrand::Rng::with_seed(SEED);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (0..QUEUED).map(|pid| request(pid, rng.u64(..1 << 20) * 16)).collect(),
                |requests: Vec<Request>| serve(&engine, &queue, requests),
                BatchSize::PerIteration,
            );
        });
    }
}

/// 4 KiB with a gap before the next, from one of a hundred callers.
fn request(number: u64, sector: u64) -> Request {
    let pid = u32::try_from(number % 100).unwrap_or(0);
    let done = Box::new(|memory, fate: Result<(), Failure>| {
        black_box(memory);
        assert!(fate.is_ok());
    });
    Request::read(Sector(sector), vec![0; BLOCK_BYTES], Origin { pid, ..READER }, done)
}

fn serve(engine: &Engine, queue: &DiskQueue, requests: Vec<Request>) {
    queue.command(UnitCommand::Pause).expect("a queue can be paused");
    for request in requests {
        assert!(queue.submit(request).is_ok());
    }
    queue.command(UnitCommand::Resume).expect("and go on");
    while engine.crank() {}
    assert_eq!(queue.status().queued, 0);
}

/// A switch without devices.
struct Nothing;

impl SpecialFiles for Nothing {
    fn open(&self, _: Device, _: &Caller, _: i32) -> Result<Arc<dyn FileOps>, Error> {
        Err(Error::plain(Errno::ENXIO))
    }

    fn size(&self, _: Device) -> u64 {
        0
    }
}

/// Walks into the same ten mounts, of ten and of ten thousand.
fn walks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("walk");
    for mounts in [10, 10_000] {
        let vfs = Vfs::new(Arc::new(Nothing), Arc::default(), (0, 0));
        let path = |number: u32| PathBuf::from(format!("/mnt/m{number:05}"));
        (0..mounts).for_each(|number| mount(&vfs, &path(number)));
        let ten = (0..10).map(path).collect::<Vec<_>>();
        let mut turn = ten.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(mounts), |bencher| {
            bencher.iter(|| {
                let path = turn.next().expect("a cycle has no end");
                black_box(vfs.walk(path, Follow::Yes).expect("it is mounted"))
            });
        });
    }
}

fn mount(vfs: &Vfs, path: &Path) {
    let by = Caller { pid: 1, uid: 0, gid: 0 };
    let parent = vfs.walk(Path::new("/mnt"), Follow::Yes).expect("/mnt is always there");
    let name = path.file_name().expect("a mount point has a name");
    vfs.mkdir(&by, parent, name, 0o755, 0).expect("/mnt has room");
    let fs = MemFs::new(1 << 20, 0o755, 0, 0).expect("a root directory fits");
    vfs.mounts().mount(fs, path, "none", "mem", "rw").expect("the directory is free");
}
