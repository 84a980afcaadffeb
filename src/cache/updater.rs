//! Old dirty buffers go to the medium by themselves.
//!
//! A buffer is due when it has been dirty for the flush age less the lead, counted from its first
//! dirtying: the lead is what the unit needs to have it on the medium in time. With it go the
//! neighbours (its group) that are not quite new, and what will be due within the slack, so that
//! there are few, large and ascending transfers. After that the unit is flushed: the promise is of
//! durable bytes. The thread sleeps until the oldest buffer is due; with nothing dirty, for ever.
//!
//! A buffer whose write fails is tried again after a pause that doubles, without holding up others.

use super::buffer::Buffer;
use super::device::CachedDevice;
use super::shard::Key;
use super::writeout::{Batch, Order};
use super::BufferCache;
use crate::sync::{Arc, Mutex};
use devices::engine::Time;
use devices::{Clock, SimTime, WaitQueue};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long before the flush age a write begins, at most.
const LEAD_NANOS_MAX: u64 = 2_000_000_000;
/// A buffer that will be due within this goes along with one that is.
const SLACK_NANOS_MAX: u64 = 1_000_000_000;
/// Nothing younger goes along with others.
const NEW_NANOS: u64 = 2_000_000_000;
/// Longest sleep while something is dirty and time may be skipped.
const VIRTUAL_NAP: Duration = Duration::from_millis(500);

/// State of the updater.
pub(super) struct Updater {
    flush_age: AtomicU64,
    bell: Arc<WaitQueue>,
    /// The thread is about to sleep, or sleeps, because nothing is dirty.
    is_idle: AtomicBool,
    /// Too much is dirty.
    is_urged: AtomicBool,
    is_stopping: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Updater {
    pub fn new(flush_age_nanos: u64) -> Updater {
        Updater {
            flush_age: AtomicU64::new(flush_age_nanos),
            bell: Arc::new(WaitQueue::default()),
            is_idle: AtomicBool::new(false),
            is_urged: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            thread: Mutex::new(None),
        }
    }

    /// Something became dirty; `is_over`: the wake mark was crossed.
    pub fn dirtied(&self, is_over: bool) {
        if is_over {
            self.is_urged.store(true, Ordering::SeqCst);
        }
        if is_over || self.is_idle.load(Ordering::SeqCst) {
            self.is_idle.store(false, Ordering::SeqCst);
            self.bell.ring();
        }
    }

    /// The age at which a dirty buffer is due.
    pub fn start_age(&self) -> u64 {
        match self.flush_age.load(Ordering::Acquire) {
            u64::MAX => u64::MAX,
            age => age - LEAD_NANOS_MAX.min(age / 4),
        }
    }

    /// The age from which a buffer goes along with one that is due.
    fn along_age(&self) -> u64 {
        let start = self.start_age();
        start.saturating_sub(SLACK_NANOS_MAX.min(start / 16)).max(NEW_NANOS.min(start))
    }
}

impl BufferCache {
    /// Nothing stays off the medium for longer, in nanoseconds.
    #[must_use]
    pub fn flush_age(&self) -> u64 {
        self.updater.flush_age.load(Ordering::Acquire)
    }

    /// Changes that, for what is dirty already too. `u64::MAX`: nothing is written by itself.
    pub fn set_flush_age(&self, nanos: u64) {
        self.updater.flush_age.store(nanos, Ordering::Release);
        self.updater.bell.ring();
    }

    /// Starts the thread that writes what is old; without it, call [`BufferCache::tick`].
    ///
    /// # Errors
    /// The host's, when it refuses a thread.
    pub fn start_updater(self: &Arc<Self>) -> std::io::Result<()> {
        let cache = Arc::clone(self);
        self.updater.is_stopping.store(false, Ordering::SeqCst);
        let thread = std::thread::Builder::new().name("updater".into()).spawn(move || cache.update())?;
        *self.updater.thread.lock() = Some(thread);
        Ok(())
    }

    /// Ends the thread and waits for it. What is dirty stays so: sync the units first.
    pub fn stop(&self) {
        self.updater.is_stopping.store(true, Ordering::SeqCst);
        self.updater.bell.ring();
        let thread = self.updater.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            log::error!(target: "cache", "the updater panicked");
        }
    }

    fn update(&self) {
        let updater = &self.updater;
        loop {
            let seen = updater.bell.generation();
            if updater.is_stopping.load(Ordering::SeqCst) {
                return;
            }
            self.tick();
            updater.is_idle.store(true, Ordering::SeqCst);
            let nap = self.next_due().map(|due| {
                updater.is_idle.store(false, Ordering::SeqCst);
                let nap = Duration::from_nanos(due.since(self.engine.now()));
                if self.engine.time() == Time::Real { nap } else { nap.min(VIRTUAL_NAP) }
            });
            updater.bell.wait(seen, nap);
        }
    }

    /// When something is due next; `None` while nothing will be without a new write.
    #[must_use]
    pub fn next_due(&self) -> Option<SimTime> {
        let start = self.updater.start_age();
        if start == u64::MAX {
            return None;
        }
        let dirty = self.shards.iter().filter_map(|shard| shard.lock().oldest());
        let oldest = dirty.min();
        let unflushed = self.devices().iter().map(|device| *device.durability.oldest.lock()).min();
        let first = oldest.into_iter().chain(unflushed).min().filter(|first| first.0 < u64::MAX)?;
        Some(first.after(start))
    }

    /// One round: begins to write what is due now, and to flush where that is. Does not wait.
    pub fn tick(&self) {
        let start = self.updater.start_age();
        let is_urged = self.updater.is_urged.swap(false, Ordering::SeqCst);
        if start == u64::MAX {
            return;
        }
        let now = self.engine.now();
        let mut keys = Vec::new();
        if is_urged {
            keys = self.unsaved(&Key::ALL, Buffer::is_ready);
        } else if let (Some(first), Some(along)) =
            (now.0.checked_sub(start), now.0.checked_sub(self.updater.along_age()))
        {
            for shard in &self.shards {
                shard.lock().due(SimTime(first), SimTime(along), &mut keys);
            }
            keys.sort_unstable();
        }
        let devices = self.devices();
        for keys in keys.chunk_by(|a, b| a.dev() == b.dev()) {
            let found = keys.first().and_then(|key| devices.iter().find(|d| d.index() == key.dev()));
            if let Some(device) = found {
                write_batch(device, keys);
            }
        }
        for device in &devices {
            let oldest = *device.durability.oldest.lock();
            if oldest.after(start) <= now && device.needs_flush() {
                device.begin_flush(|_| {});
            }
        }
        self.engine.crank();
    }
}

/// Begins to write a unit's buffers, and to flush it after.
fn write_batch(device: &Arc<CachedDevice>, keys: &[Key]) {
    let batch = Batch::new(device);
    let mut order = Order::of_batch(&batch);
    for key in keys {
        device.launch(*key, &mut order);
    }
    drop(order);
    Batch::leave(batch);
}
