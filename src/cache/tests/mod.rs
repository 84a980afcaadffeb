//! The cache on a unit of memory: every promise at its head, in simulated time.

mod errors;
mod fake;
mod model;
mod reading;
mod syncing;
mod writing;

use super::{BufferCache, CacheConfig, CachedDevice};
use crate::sync::Arc;
use devices::engine::Engine;
use devices::{Class, Interrupt, Origin};
use fake::{Fake, simulated};

const SECOND: u64 = 1_000_000_000;
const READER: Origin = Origin { pid: 7, class: Class::Caller, id: 1 };

/// A cache with one unit.
struct House {
    engine: Arc<Engine>,
    cache: Arc<BufferCache>,
    fake: Arc<Fake>,
    dev: Arc<CachedDevice>,
}

impl House {
    fn new(cache_blocks: u64, sectors: u64) -> House {
        House::of(cache_blocks, sectors, 512)
    }

    fn of(cache_blocks: u64, sectors: u64, sector_bytes: u32) -> House {
        let engine = simulated();
        let config = CacheConfig { size_bytes: cache_blocks * 4096, ..CacheConfig::default() };
        let cache = BufferCache::new(Arc::clone(&engine), config);
        let fake = Fake::new(&engine, sectors, sector_bytes, 1);
        let dev = cache.attach("sd0", Arc::clone(&fake) as _).unwrap();
        House { engine, cache, fake, dev }
    }

    /// A timed unit instead of one that is done at the next crank.
    fn timed(self) -> House {
        self.fake.script(|script| script.delay_max = 1_000_000);
        self
    }

    fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        self.dev.read_wait(READER, at, &mut buf, &Interrupt::default()).unwrap();
        buf
    }

    fn write(&self, at: u64, data: &[u8]) {
        let mut done = self.dev.write(READER, at, data).unwrap();
        while done < data.len() {
            let (at, rest) = (at + done as u64, &data[done..]);
            done += self.dev.write_wait(READER, at, rest, &Interrupt::default()).unwrap();
        }
    }

    fn sync(&self) {
        self.dev.sync(None, &Interrupt::default()).unwrap();
        assert!(!self.dev.has_unsynced());
    }

    /// Lets so many nanoseconds pass, with the updater looking after the buffers.
    fn pass(&self, nanos: u64) {
        let end = self.engine_now().after(nanos);
        let bell = Arc::new(devices::WaitQueue::default());
        while self.engine_now() < end {
            let now = self.engine_now();
            let due = self.cache.next_due().filter(|due| *due < end).map_or(end, |due| due.max(now));
            let step = due.since(now).max(1);
            let rung = Arc::clone(&bell);
            self.engine.after(step, move || rung.ring());
            let until = now.after(step);
            self.engine.wait(&bell, None, || self.engine_now() >= until).unwrap();
            self.cache.tick();
        }
    }

    fn engine_now(&self) -> devices::SimTime {
        devices::Clock::now(&*self.engine)
    }

    /// Runs all that is scheduled.
    fn settle(&self) {
        while self.engine.skip_to_next() {}
    }

    fn states(&self) -> Vec<(u64, &'static str)> {
        self.cache.list().iter().map(|buffer| (buffer.block, buffer.state)).collect()
    }

    /// The books are right, and nothing is under way.
    fn audit(&self) {
        for shard in &self.cache.shards {
            let shard = shard.lock();
            shard.audit();
            assert_eq!(shard.counts.busy, 0, "a buffer is stuck");
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.fake.resume();
            self.settle();
            self.audit();
            self.cache.devices.write().by_index.clear();
        }
    }
}
