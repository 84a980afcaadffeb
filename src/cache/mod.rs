//! The buffer cache: blocks of all block units in memory, written to the medium later.
//!
//! ```text
//! CachedDevice::read, write          transfer.rs   bytes <-> buffers, misses, waits, throttle
//!              sync, write_through   writeout.rs   buffers -> medium
//!              discard, zero         discard.rs    what others change on the medium
//! BufferCache: Shard { Buffer }      shard.rs, books.rs, buffer.rs   order of use, counts, states
//!              tick, start_updater   updater.rs    what is old goes out by itself
//! ```
//!
//! 1. A block is in at most one buffer, found by its key in one shard. `used <= capacity`.
//! 2. A byte acknowledged by a write is in a buffer that is dirty or flying, or it is on the
//!    medium. Only [`CachedDevice::forget`] and what uses it break this, and say so.
//! 3. A buffer takes on another block only when it is clean and idle.
//! 4. Busy buffers (filling, writing) are never removed: who waits for one finds it again.
//! 5. No lock is held while submitting, waiting, cranking or ringing a bell. A shard's lock is
//!    innermost but for the leaf locks of `errors.rs` and of bells; only `resize` takes several.
//! 6. Above the high mark writers wait, so that reads always find something clean to give way;
//!    a unit whose writes fail gives errors to its writers then, and does not stop the others'.
//! 7. A dirty buffer is written at the latest when it has been dirty for the flush age less the
//!    lead of `updater.rs`, counted from its first dirtying; the unit is flushed after.
//! 8. A hit takes the shard's lock once per 64 KiB, copies once, allocates nothing, and does not
//!    turn the engine's crank.

mod ahead;
mod books;
mod buffer;
mod copy;
mod device;
mod discard;
mod errors;
mod shard;
#[cfg(test)]
mod tests;
mod transfer;
mod updater;
mod writeout;

pub use buffer::BLOCK_BYTES;
pub use device::CachedDevice;
pub use errors::{ERRORS_MAX, ErrorCursor, WriteError};

use crate::error::{Errno, Error};
use crate::sync::{Arc, Mutex, MutexGuard, RwLock};
use books::Key;
use buffer::Buffer;
use devices::engine::Engine;
use devices::trace::Trace;
use devices::{BlockDevice, Clock, Interrupt, Origin, WaitQueue};
use shard::{Room, Shard};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use updater::Updater;
use writeout::{Order, UNDER_WAY_MAX};

/// Most shards; a small cache has fewer, the smallest one, whose order of use is exact then.
const SHARDS_MAX: usize = 16;
/// Fewest blocks of a shard where there are several.
const SHARD_BLOCKS_MIN: u64 = 512;
/// What a buffer takes beside its block: its entry in the order of use (112 bytes), in the index
/// (up to 34), what lends it (48), the allocator's note of it (144; blocks that shared one could
/// not be given back one by one when the cache shrinks), and what is not yet given back.
const OVERHEAD_BYTES: u64 = 448;
/// So much of that comes on top of the bound; a cache of 64 MiB has all the blocks it could.
const OVERHEAD_FREE_BYTES: u64 = 8 << 20;
/// Bells on which waiters for a buffer wait, by key.
const BELLS: usize = 64;

/// What the machine's description says of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Bound of the buffers' memory, in bytes; at least one block is kept.
    pub size_bytes: u64,
    /// Nothing stays off the medium for longer, in nanoseconds; `u64::MAX`: nothing is written
    /// by itself.
    pub flush_age_nanos: u64,
    /// Percentage of the cache that may be unsaved before the updater begins early.
    pub wake_percent: u8,
    /// Percentage that may be unsaved before writers wait.
    pub high_percent: u8,
}

impl Default for CacheConfig {
    fn default() -> CacheConfig {
        CacheConfig {
            size_bytes: 64 << 20,
            flush_age_nanos: 30_000_000_000,
            wake_percent: 60,
            high_percent: 80,
        }
    }
}

/// The counters of `proc/bufcache`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes of blocks that the buffers may hold.
    pub capacity: u64,
    /// Bytes that they hold.
    pub used: u64,
    /// Bytes of buffers that are the only copy of something.
    pub dirty: u64,
    /// Blocks found by reads.
    pub hits: u64,
    /// Blocks fetched because somebody asked.
    pub misses: u64,
    /// Blocks fetched before anybody asked.
    pub read_ahead: u64,
    /// Runs of neighbouring sectors fetched.
    pub physical_reads: u64,
    /// Runs of neighbouring sectors written.
    pub physical_writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

impl CacheStats {
    /// Bytes a physical write carried, on the average.
    #[must_use]
    pub fn bytes_per_write(&self) -> u64 {
        self.written_bytes.checked_div(self.physical_writes).unwrap_or(0)
    }
}

/// A line of `proc/bufcache`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferReport {
    /// Name of the unit.
    pub device: Arc<str>,
    /// Which block of it, in blocks of [`BLOCK_BYTES`].
    pub block: u64,
    /// `clean`, `dirty`, `failed` (dirty, and the write failed), `writing` or `filling`.
    pub state: &'static str,
    /// Nanoseconds since it became dirty; where it is clean, since it did.
    pub age_nanos: u64,
}

/// Work really done.
#[derive(Default)]
struct Work {
    read_ahead: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
}

/// See the head of this file.
pub struct BufferCache {
    engine: Arc<Engine>,
    shards: [Mutex<Shard>; SHARDS_MAX],
    /// log2 of the number of shards in use; changed with all shards locked.
    bits: AtomicU32,
    /// How often that was done; changed likewise.
    layouts: AtomicU64,
    bells: [Arc<WaitQueue>; BELLS],
    /// Rung when a buffer has landed, if somebody waits for room.
    room: Arc<WaitQueue>,
    waiting_for_room: AtomicUsize,
    work: Work,
    devices: RwLock<Devices>,
    trace: OnceLock<Arc<Trace>>,
    capacity: AtomicU64,
    /// One change of size at a time.
    resizing: Mutex<CacheConfig>,
    updater: Updater,
}

#[derive(Default)]
struct Devices {
    by_index: BTreeMap<u64, Arc<CachedDevice>>,
    attached: u64,
}

/// How many buffers fit in so many bytes, with what they take beside.
fn blocks_within(size_bytes: u64) -> u64 {
    let bare = size_bytes / BLOCK_BYTES as u64;
    let housed =
        size_bytes.saturating_add(OVERHEAD_FREE_BYTES) / (BLOCK_BYTES as u64 + OVERHEAD_BYTES);
    bare.min(housed).clamp(1, Key::BLOCKS_MAX)
}

impl BufferCache {
    /// An empty cache on a machine's engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>, config: CacheConfig) -> Arc<BufferCache> {
        let cache = BufferCache {
            engine,
            shards: std::array::from_fn(|_| Mutex::new(Shard::new())),
            bits: AtomicU32::new(0),
            layouts: AtomicU64::new(0),
            bells: std::array::from_fn(|_| Arc::new(WaitQueue::default())),
            room: Arc::new(WaitQueue::default()),
            waiting_for_room: AtomicUsize::new(0),
            work: Work::default(),
            devices: RwLock::default(),
            trace: OnceLock::new(),
            capacity: AtomicU64::new(0),
            resizing: Mutex::new(config),
            updater: Updater::new(config.flush_age_nanos),
        };
        cache.set_quotas(config.size_bytes);
        Arc::new(cache)
    }

    /// From now on notes in `trace` which reads were hits. The first call counts.
    pub fn trace_into(&self, trace: &Arc<Trace>) {
        let _ = self.trace.set(Arc::clone(trace));
    }

    fn note(&self, origin: Origin, event: &'static str, detail: impl FnOnce() -> String) {
        if let Some(trace) = self.trace.get() {
            trace.note(origin, "cache", event, detail);
        }
    }

    /// Takes a unit under the cache. Its size is read now.
    ///
    /// # Errors
    /// Those of its geometry; `EINVAL` for sectors larger than a block, `EFBIG` for a unit of
    /// 4 PiB and more, `ENFILE` after 16 million units.
    pub fn attach(
        self: &Arc<Self>,
        name: &str,
        device: Arc<dyn BlockDevice>,
    ) -> Result<Arc<CachedDevice>, Error> {
        let geometry = device.geometry().map_err(|error| Error::device(name, error.into()))?;
        let mut devices = self.devices.write();
        let index = devices.attached;
        if index >= Key::DEVICES_MAX {
            return Err(Error::new(Errno::ENFILE, "too many units for the buffer cache"));
        }
        let unit = CachedDevice::new(self, index, name, device, geometry)?;
        devices.attached += 1;
        devices.by_index.insert(index, Arc::clone(&unit));
        Ok(unit)
    }

    /// Lets go of a unit and drops its buffers. Sync it before.
    ///
    /// # Errors
    /// `EBUSY` while something of it is unsaved or under way: sync again, or `forget` it.
    pub fn detach(&self, device: &CachedDevice) -> Result<(), Error> {
        let all = device.all_keys();
        let held: Vec<Key> = self.each_shard(|shard, held| {
            shard.drop_clean(&all);
            held.extend(shard.iter().map(|(key, _)| key).filter(|key| all.contains(key)));
        });
        if !held.is_empty() {
            let what = format!("{}: some of its buffers are not yet written", device.name());
            return Err(Error::new(Errno::EBUSY, what));
        }
        self.devices.write().by_index.remove(&device.index());
        Ok(())
    }

    /// The units, in the order of their attaching.
    #[must_use]
    pub fn devices(&self) -> Vec<Arc<CachedDevice>> {
        self.devices.read().by_index.values().cloned().collect()
    }

    /// Removes every clean buffer (`cache drop`); no dirty one.
    pub fn drop_clean(&self) {
        self.each_shard(|shard, _: &mut Vec<()>| shard.drop_clean(&Key::ALL));
        self.room.ring();
    }

    /// Bound of the buffers' memory, in bytes, as it was set.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.resizing.lock().size_bytes
    }

    /// Bytes of blocks that it has room for.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Acquire)
    }

    /// Changes the bound; where it becomes smaller, waits until enough is written and dropped.
    ///
    /// # Errors
    /// `EINTR`, and `EIO` where what fills the cache cannot be written: the bound holds then for
    /// all that comes after.
    pub fn resize(&self, size_bytes: u64, interrupt: &Interrupt) -> Result<(), Error> {
        {
            let mut config = self.resizing.lock();
            config.size_bytes = size_bytes;
            self.set_quotas_as(*config);
        }
        for index in 0..SHARDS_MAX {
            loop {
                let step = {
                    let mut shard = self.shards[index].lock();
                    shard.shrink()
                };
                match step {
                    Room::Memory(_) => break,
                    Room::Push(keys) => self.push(&keys),
                    Room::Full => return Err(full_of_failures()),
                    Room::Wait => self.wait_for_room(interrupt, || {
                        let shard = self.shards[index].lock();
                        shard.used() <= shard.quota() || shard.may_make_room()
                    })?,
                }
                self.engine.crank();
            }
        }
        self.room.ring();
        Ok(())
    }

    fn set_quotas(&self, size_bytes: u64) {
        let config = CacheConfig { size_bytes, ..*self.resizing.lock() };
        self.set_quotas_as(config);
    }

    /// Divides the bound among as many shards as it is worth.
    fn set_quotas_as(&self, config: CacheConfig) {
        let blocks = blocks_within(config.size_bytes);
        let count = (blocks / SHARD_BLOCKS_MIN).clamp(1, SHARDS_MAX as u64);
        let bits = count.ilog2();
        let mut shards: Vec<MutexGuard<'_, Shard>> = self.shards.iter().map(Mutex::lock).collect();
        if bits != self.bits.load(Ordering::Acquire) {
            redistribute(&mut shards, bits);
            self.layouts.fetch_add(1, Ordering::AcqRel);
            self.bits.store(bits, Ordering::Release);
        }
        let quota = |index: u64| match index {
            index if index < 1 << bits => {
                (blocks >> bits) + u64::from(index < blocks % (1 << bits))
            }
            _ => 0,
        };
        for (index, shard) in (0..).zip(&mut shards) {
            let quota = usize::try_from(quota(index)).unwrap_or(usize::MAX);
            shard.set_quota(quota, config.wake_percent.into(), config.high_percent.into());
            shard.bits = bits;
        }
        self.capacity.store(blocks * BLOCK_BYTES as u64, Ordering::Release);
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let mut stats = CacheStats {
            capacity: self.capacity(),
            read_ahead: self.work.read_ahead.load(Ordering::Relaxed),
            physical_reads: self.work.reads.load(Ordering::Relaxed),
            physical_writes: self.work.writes.load(Ordering::Relaxed),
            written_bytes: self.work.written_bytes.load(Ordering::Relaxed),
            ..CacheStats::default()
        };
        let counts = self.each_shard(|shard, out| {
            let [used, dirty] =
                [shard.used(), shard.counts.unsaved].map(|blocks| (blocks * BLOCK_BYTES) as u64);
            out.push((used, dirty, shard.hits, shard.misses));
        });
        for (used, dirty, hits, misses) in counts {
            stats.used += used;
            stats.dirty += dirty;
            stats.hits = stats.hits.wrapping_add(hits);
            stats.misses += misses;
        }
        stats
    }

    /// The buffers, the last used first: exactly so in a cache of one shard (below 4 MiB), else
    /// by their rank in each shard.
    #[must_use]
    pub fn list(&self) -> Vec<BufferReport> {
        let now = self.engine.now();
        let devices = self.devices.read();
        let mut ranked = self.each_shard(|shard, ranked| {
            for (rank, (key, buffer)) in shard.iter().enumerate() {
                let Some(device) = devices.by_index.get(&key.dev()) else { continue };
                let report = BufferReport {
                    device: device.shared_name(),
                    block: key.block(),
                    state: buffer.state(),
                    age_nanos: now.since(buffer.since()),
                };
                ranked.push((rank, report));
            }
        });
        drop(devices);
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, report)| report).collect()
    }

    /// The shard that a key is in, locked.
    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        let [place, _] = key.spread();
        loop {
            let bits = self.bits.load(Ordering::Acquire);
            let shard = self.shards[place >> (8 - bits)].lock();
            if shard.bits == bits {
                return shard;
            }
        }
    }

    /// Visits all shards, one after the other, and again from the start where a change of size
    /// moved buffers between them meanwhile: what the visits collect is complete.
    fn each_shard<T>(&self, mut visit: impl FnMut(&mut Shard, &mut Vec<T>)) -> Vec<T> {
        loop {
            let layout = self.layouts.load(Ordering::Acquire);
            let mut out = Vec::new();
            for shard in &self.shards {
                visit(&mut shard.lock(), &mut out);
            }
            if self.layouts.load(Ordering::Acquire) == layout {
                return out;
            }
        }
    }

    fn bell(&self, key: Key) -> &Arc<WaitQueue> {
        &self.bells[key.spread()[1] % BELLS]
    }

    /// Says that a buffer has landed.
    fn ring(&self, key: Key) {
        self.bell(key).ring();
        if self.waiting_for_room.load(Ordering::SeqCst) > 0 {
            self.room.ring();
        }
    }

    /// Waits until a buffer's memory is there and nothing fills it, or it is gone.
    fn wait_for(&self, key: Key, interrupt: &Interrupt) -> Result<(), Error> {
        let is_ready = || {
            let shard = self.shard(key);
            !shard.peek(key).is_some_and(|buffer| buffer.is_filling() || buffer.is_away())
        };
        self.wait(self.bell(key), interrupt, is_ready)
    }

    /// Waits for something that comes true when buffers land.
    fn wait_for_room(&self, i: &Interrupt, done: impl FnMut() -> bool) -> Result<(), Error> {
        self.waiting_for_room.fetch_add(1, Ordering::SeqCst);
        let result = self.wait(&self.room, i, done);
        self.waiting_for_room.fetch_sub(1, Ordering::SeqCst);
        result
    }

    fn wait(
        &self,
        bell: &Arc<WaitQueue>,
        interrupt: &Interrupt,
        done: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        self.engine.wait(bell, Some(interrupt), done).map_err(|_| Error::plain(Errno::EINTR))
    }

    /// Writes dirty buffers of whatever unit out, so that they can give way. Does not wait.
    fn push(&self, keys: &[Key]) {
        let mut order = Order::background();
        for key in keys {
            let device = self.devices.read().by_index.get(&key.dev()).cloned();
            if let Some(device) = device {
                device.launch(*key, &mut order);
            }
        }
    }

    /// The unsaved keys of a range that are `wanted`, ascending.
    fn unsaved(&self, range: &Range<Key>, wanted: impl Fn(&Buffer) -> bool) -> Vec<Key> {
        let mut keys = self.each_shard(|shard, keys| {
            let found = shard.unsaved(range).filter(|(_, buffer)| wanted(buffer));
            keys.extend(found.map(|(key, _)| key));
        });
        keys.sort_unstable();
        keys
    }
}

impl BufferCache {
    /// The first of a range that can be written, ascending, as many as may be under way.
    fn first_ready(&self, range: &Range<Key>) -> Vec<Key> {
        let share = self.share();
        let mut keys = self.each_shard(|shard, keys| {
            let found = shard.unsaved(range).filter(|(_, buffer)| buffer.is_ready());
            keys.extend(found.map(|(key, _)| key).take(share));
        });
        keys.sort_unstable();
        keys.truncate(UNDER_WAY_MAX);
        keys
    }

    /// Most blocks that one shard adds to what is under way: neighbours spread evenly, so that
    /// four times the average is more than it is likely to have.
    fn share(&self) -> usize {
        UNDER_WAY_MAX >> self.bits.load(Ordering::Acquire).saturating_sub(2)
    }

    /// Whether too much is unsaved for the updater to wait for its time.
    fn is_over_wake_mark(&self) -> bool {
        self.shards.iter().any(|shard| {
            let shard = shard.lock();
            shard.quota() > 0 && shard.counts.unsaved >= shard.marks.wake
        })
    }
}

/// Moves all buffers to the shards where they belong when there are `1 << bits`.
fn redistribute(shards: &mut [MutexGuard<'_, Shard>], bits: u32) {
    let mut buffers = Vec::new();
    for shard in shards.iter_mut() {
        let drained = shard.drain();
        let age = drained.len();
        buffers.extend(drained.into_iter().enumerate().map(|(n, found)| (age - n, found)));
    }
    buffers.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    for (_, (key, buffer)) in buffers {
        shards[key.spread()[0] >> (8 - bits)].refill(key, buffer);
    }
}

fn full_of_failures() -> Error {
    Error::new(Errno::EIO, "the buffer cache is full of blocks that cannot be written")
}
