//! Old dirty buffers go to the medium by themselves.
//!
//! A buffer is due when it has been dirty for the flush age less the lead, counted from its first
//! dirtying. The lead is 2 s, or what the unit will need for all that is dirty of it at the pace it
//! has shown so far (a floppy disk takes half a minute for what it holds). With what is due go
//! those of its neighbours (its group) that will be within the slack, so that there are few, large
//! and ascending transfers. After that the unit is flushed: the promise is of durable bytes. The
//! thread sleeps until something is due; with nothing dirty, for ever.
//!
//! A buffer whose write fails is tried again after a pause that doubles, without holding up others.

use super::BufferCache;
use super::books::{Due, Key};
use super::buffer::{BLOCK_SECTORS, Buffer};
use super::device::CachedDevice;
use super::writeout::{Batch, Order, UNDER_WAY_MAX};
use crate::sync::{Arc, Mutex};
use devices::engine::Time;
use devices::{Clock, SimTime, WaitQueue};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long before the flush age a write begins, on a unit that is not slow.
const LEAD_NANOS: u64 = 2_000_000_000;
/// A buffer that will be due within this goes along with one that is.
const SLACK_NANOS_MAX: u64 = 1_000_000_000;
/// Nothing younger goes along with others.
const NEW_NANOS: u64 = 2_000_000_000;
/// Longest sleep while something is dirty: the lead may grow meanwhile.
const NAP_MAX: Duration = Duration::from_secs(5);
/// The same where time may be skipped.
const VIRTUAL_NAP_MAX: Duration = Duration::from_millis(500);

/// State of the updater.
pub(super) struct Updater {
    flush_age: AtomicU64,
    bell: Arc<WaitQueue>,
    /// The thread is about to sleep, or sleeps, because nothing is dirty.
    is_idle: AtomicBool,
    is_stopping: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Updater {
    pub fn new(flush_age_nanos: u64) -> Updater {
        Updater {
            flush_age: AtomicU64::new(flush_age_nanos),
            bell: Arc::new(WaitQueue::default()),
            is_idle: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            thread: Mutex::new(None),
        }
    }

    /// Something became dirty; `is_over`: the wake mark was crossed.
    pub fn dirtied(&self, is_over: bool) {
        if is_over || self.is_idle.load(Ordering::SeqCst) {
            self.ring();
        }
    }

    /// Rung when it should look again.
    #[cfg(test)]
    pub fn bell(&self) -> &Arc<WaitQueue> {
        &self.bell
    }

    /// Lets it look again.
    pub fn ring(&self) {
        self.is_idle.store(false, Ordering::SeqCst);
        self.bell.ring();
    }

    /// A write-out is over: a flush will be due, or another attempt.
    pub fn landed(&self, has_failed: bool) {
        if has_failed || self.is_idle.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// The age at which a dirty buffer is due, and the one at which it goes along with one that
    /// is, on a unit that needs so many nanoseconds for all that is dirty.
    fn ages(&self, need_nanos: u64) -> Option<(u64, u64)> {
        let age = self.flush_age.load(Ordering::Acquire);
        let usual = age - LEAD_NANOS.min(age / 4);
        let start = usual.min(age.saturating_sub(need_nanos)).max(NEW_NANOS.min(usual));
        let along = start.saturating_sub(SLACK_NANOS_MAX.min(start / 16));
        (age < u64::MAX).then_some((start, along.max(NEW_NANOS.min(start))))
    }
}

impl CachedDevice {
    /// What it will need to write all that is dirty of it, in nanoseconds, with a quarter more,
    /// by the pace it has shown.
    fn need_nanos(&self) -> u64 {
        let counters = self.unit.counters();
        let sectors = counters.read.sectors + counters.write.sectors;
        let dirty = self.dirty_blocks() as u64 * u64::from(BLOCK_SECTORS);
        let need = u128::from(counters.busy_nanos) * u128::from(dirty) * 5 / 4;
        let need = need.checked_div(u128::from(sectors)).unwrap_or(0);
        u64::try_from(need).unwrap_or(u64::MAX)
    }

    /// When the next thing of it is due; MAX: nothing is, or the updater is at it.
    fn next_due(&self) -> SimTime {
        let ages = self.cache.updater.ages(self.need_nanos());
        let Some((start, _)) = ages.filter(|_| !self.is_sweeping.load(Ordering::SeqCst)) else {
            return SimTime(u64::MAX);
        };
        let keys = self.all_keys();
        let (mut from, mut next) = (*self.durability.oldest.lock(), SimTime(u64::MAX));
        if self.dirty_blocks() > 0 {
            let oldest = self.cache.each_shard(|shard, out| out.push(shard.oldest(&keys)));
            for (oldest, retry) in oldest {
                (from, next) = (from.min(oldest), next.min(retry));
            }
        }
        next.min(from.after(start))
    }

    /// Begins to write, and then to flush, what is due of it, and where too much is dirty the
    /// next that can be written: at most as many as may be under way; their landing rings.
    fn write_due(self: &Arc<Self>, now: SimTime, is_over: bool) {
        let ages = self.cache.updater.ages(self.need_nanos());
        let Some((age, along)) = ages.filter(|_| !self.is_sweeping.load(Ordering::SeqCst)) else {
            return;
        };
        let mut keys = Vec::new();
        if self.dirty_blocks() > 0 {
            let due = Due { now, age, along };
            let (all, share) = (self.all_keys(), self.cache.share());
            // What a change of size moves out of sight meanwhile is found the next time.
            for shard in &self.cache.shards {
                shard.lock().due(&all, due, share, &mut keys);
            }
            if is_over && keys.len() < UNDER_WAY_MAX {
                keys.extend(self.next_ready());
            }
        }
        keys.sort_unstable();
        keys.dedup();
        self.write_batch(&keys, keys.len() < UNDER_WAY_MAX);
        if now.since(*self.durability.oldest.lock()) >= age && self.needs_flush() {
            self.begin_flush(|_| {});
        }
    }

    /// Begins to write buffers, and to flush after.
    fn write_batch(self: &Arc<Self>, keys: &[Key], then_flush: bool) {
        if keys.is_empty() {
            return;
        }
        let batch = Batch::new(self, then_flush);
        let mut order = Order::of_batch(&batch);
        for key in keys {
            self.launch(*key, &mut order);
        }
        drop(order);
        Batch::leave(batch);
    }

    /// Tries now what could not be written before: for the operator who has repaired the unit.
    pub fn retry(self: &Arc<Self>) {
        self.write_batch(&self.cache.unsaved(&self.all_keys(), Buffer::is_stuck), true);
        self.cache.engine.crank();
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
        let thread =
            std::thread::Builder::new().name("updater".into()).spawn(move || cache.update())?;
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
                let is_real = self.engine.time() == Time::Real;
                let most = if is_real { NAP_MAX } else { VIRTUAL_NAP_MAX };
                Duration::from_nanos(due.since(self.engine.now())).min(most)
            });
            updater.bell.wait(seen, nap);
        }
    }

    /// When something is due next; `None` while nothing will be without a new write.
    #[must_use]
    pub fn next_due(&self) -> Option<SimTime> {
        let next = self.devices().iter().map(|device| device.next_due()).min()?;
        (next.0 < u64::MAX).then_some(next)
    }

    /// One round: begins to write what is due now, and to flush where that is. Does not wait.
    pub fn tick(&self) {
        if self.flush_age() == u64::MAX {
            return;
        }
        let (now, is_over) = (self.engine.now(), self.is_over_wake_mark());
        for device in self.devices() {
            device.write_due(now, is_over);
        }
        self.engine.crank();
    }
}
