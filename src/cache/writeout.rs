//! Buffers to the medium: write-outs, sync, flush, writes that are durable on return.
//!
//! A write-out goes down as one request a buffer (its memory moves), ascending, so that the unit's
//! queue merges neighbours into large transfers. Who syncs waits for what was unsaved when it
//! came, also where somebody else is writing it, and for nothing that came later.

use super::books::Key;
use super::buffer::{Buffer, Landing, Part};
use super::device::CachedDevice;
use crate::error::{Errno, Error};
use crate::sync::{Arc, Mutex};
use devices::{
    Class, Clock, Failure, Interrupt, Origin, Rejected, Request, Sector, SimTime, WaitQueue,
};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Buffers that a sync, the updater, or a writer above the high mark has under way at once: 4 MiB.
/// Their memory is away, so that readers of them wait no longer than for so much.
pub(super) const UNDER_WAY_MAX: usize = 1024;
/// Time until a failed write is tried again, doubled with each failure up to a limit.
const RETRY_NANOS: u64 = 1_000_000_000;
const RETRY_NANOS_MAX: u64 = 30_000_000_000;

/// How write-outs that go down one after the other are to be made.
pub(super) struct Order {
    origin: Origin,
    fua: bool,
    batch: Option<Arc<Batch>>,
    /// Where the last one ended: what goes on there is the same physical write.
    behind: Option<(u64, Sector)>,
}

impl Order {
    /// Nobody waits for it.
    pub fn background() -> Order {
        Order { origin: Origin::KERNEL, fua: false, batch: None, behind: None }
    }

    /// Nobody waits for it; the unit is flushed once the batch is down.
    pub fn of_batch(batch: &Arc<Batch>) -> Order {
        Order { batch: Some(Arc::clone(batch)), ..Order::background() }
    }

    fn awaited() -> Order {
        let origin = Origin { class: Class::Caller, ..Origin::KERNEL };
        Order { origin, ..Order::background() }
    }
}

/// Write-outs of the updater: whoever lets go last flushes the unit, and lets the updater go on.
pub(super) struct Batch {
    device: Arc<CachedDevice>,
    then_flush: bool,
}

impl Batch {
    /// A batch of a unit that has none under way.
    pub fn new(device: &Arc<CachedDevice>, then_flush: bool) -> Arc<Batch> {
        device.is_sweeping.store(true, Ordering::SeqCst);
        Arc::new(Batch { device: Arc::clone(device), then_flush })
    }

    /// Lets go.
    pub fn leave(batch: Arc<Batch>) {
        let Some(batch) = Arc::into_inner(batch) else { return };
        if batch.then_flush && batch.device.needs_flush() {
            batch.device.begin_flush(|_| {});
        }
        batch.device.is_sweeping.store(false, Ordering::SeqCst);
        batch.device.cache.updater.ring();
    }
}

/// What [`CachedDevice::launch`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Launch {
    /// Nothing unsaved.
    Clean,
    /// Somebody's write-out under way, its number; what is dirty beside it comes after.
    Flying(u32),
    /// Begun, with this number.
    Begun(u32),
}

impl CachedDevice {
    /// Begins the write-out of a buffer, if it is dirty and none is under way. Does not wait.
    pub(super) fn launch(self: &Arc<Self>, key: Key, order: &mut Order) -> Launch {
        let found = {
            let mut shard = self.cache.shard(key);
            shard.change(key, &self.ledger, |buffer| {
                if buffer.is_writing() {
                    return Err(Launch::Flying(buffer.launches()));
                }
                if !buffer.is_dirty() {
                    return Err(Launch::Clean);
                }
                let since = buffer.since();
                Ok((buffer.take_dirty(self.full(key)), since, buffer.launches()))
            })
        };
        let (parts, since, number) = match found {
            None => return Launch::Clean,
            Some(Err(other)) => return other,
            Some(Ok(taken)) => taken,
        };
        for Part { first, count, memory } in parts {
            let sector = Sector(key.block() * 8 + u64::from(first));
            self.cache.work.written_bytes.fetch_add(memory.len() as u64, Ordering::Relaxed);
            if order.behind != Some((self.index(), sector)) {
                self.cache.work.writes.fetch_add(1, Ordering::Relaxed);
            }
            order.behind = Some((self.index(), Sector(sector.0 + u64::from(count))));
            let (device, fua, batch) = (Arc::clone(self), order.fua, order.batch.clone());
            let done = Box::new(move |memory, fate| {
                device.landed(key, Part { first, count, memory }, fate, since, fua);
                if let Some(batch) = batch {
                    Batch::leave(batch);
                }
            });
            let mut request = Request::write(sector, memory, order.origin, done);
            request.fua = order.fua;
            if let Err(rejected) = self.unit.submit(request) {
                let Rejected(failure, request) = *rejected;
                request.finish(Err(failure));
            }
        }
        Launch::Begun(number)
    }

    /// A part of a write-out is over.
    fn landed(
        self: &Arc<Self>,
        key: Key,
        part: Part,
        fate: Result<(), Failure>,
        since: SimTime,
        fua: bool,
    ) {
        let now = self.cache.engine.now();
        if fate.is_ok() && !fua {
            self.note_written(since);
        }
        let landing = self.cache.shard(key).change(key, &self.ledger, |buffer| {
            let landing = buffer.land_write(part, fate, since, now);
            if matches!(landing, Landing::Failed { .. }) {
                let doublings = buffer.failures().saturating_sub(1).min(16);
                let pause = (RETRY_NANOS << doublings).min(RETRY_NANOS_MAX);
                buffer.retry_at(now.after(pause));
            }
            (landing, buffer.unwritten())
        });
        match landing {
            Some((Landing::Failed { is_first }, unwritten)) => {
                if let Some(failure) = unwritten.or(fate.err()) {
                    self.note_failure(Some(key.block()), failure, now, is_first);
                }
            }
            Some((Landing::Saved, _)) => self.errors.settle(Some(key.block())),
            _ => {}
        }
        self.cache.ring(key);
        self.cache.updater.landed(fate.is_err());
    }

    fn note_written(&self, since: SimTime) {
        let mut oldest = self.durability.oldest.lock();
        *oldest = since.min(*oldest);
        self.durability.written.fetch_add(1, Ordering::AcqRel);
    }

    /// Something that the flush age and every sync must see was changed on the medium.
    pub(super) fn note_change(&self) {
        self.note_written(self.cache.engine.now());
        self.cache.updater.landed(false);
    }

    fn note_failure(&self, block: Option<u64>, failure: Failure, now: SimTime, is_news: bool) {
        self.errors.note(block, failure, now, is_news);
        let what = block.map_or("flush".to_owned(), |block| format!("write of block {block}"));
        let level = if is_news { log::Level::Warn } else { log::Level::Debug };
        log::log!(target: "cache", level, "{}: delayed {what}: {failure}", self.name());
    }

    /// Submits a flush; `then` gets its fate, in interrupt context.
    pub(super) fn begin_flush(
        self: &Arc<Self>,
        then: impl FnOnce(Result<(), Failure>) + Send + 'static,
    ) {
        let (noted, oldest) = {
            let mut oldest = self.durability.oldest.lock();
            let noted = self.durability.written.load(Ordering::Acquire);
            (noted, std::mem::replace(&mut *oldest, SimTime(u64::MAX)))
        };
        let device = Arc::clone(self);
        let done = Box::new(move |_, fate: Result<(), Failure>| {
            let now = device.cache.engine.now();
            match fate {
                Ok(()) => {
                    device.durability.flushed.fetch_max(noted, Ordering::AcqRel);
                    device.errors.settle(None);
                }
                Err(failure) => {
                    if oldest.0 < u64::MAX {
                        let mut next = device.durability.oldest.lock();
                        *next = now.min(*next); // tried again in a flush age
                    }
                    device.note_failure(None, failure, now, true);
                }
            }
            then(fate);
        });
        if let Err(rejected) = self.unit.submit(Request::flush(Order::awaited().origin, done)) {
            let Rejected(failure, request) = *rejected;
            request.finish(Err(failure));
        }
    }

    /// Makes what was written before durable: all, or the blocks with a byte of the range.
    ///
    /// # Errors
    /// The device's, where something could not be written or flushed: it stays dirty, and is
    /// tried again by the updater and by each sync. `EINTR` when called away; nothing is lost.
    pub fn sync(
        self: &Arc<Self>,
        range: Option<Range<u64>>,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        let written = self.flush_range(range.unwrap_or(0..self.size()), interrupt);
        if let Err(error) = &written
            && error.errno == Errno::EINTR
        {
            return written;
        }
        let flushed = if self.needs_flush() { self.flush(interrupt) } else { Ok(()) };
        written.and(flushed)
    }

    /// Writes the dirty buffers of a range out, ascending, and waits for them and for those that
    /// others are writing; the unit is not flushed. For direct I/O.
    ///
    /// # Errors
    /// As [`CachedDevice::sync`].
    pub fn flush_range(
        self: &Arc<Self>,
        range: Range<u64>,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        self.write_out(&self.keys(&range), &mut Order::awaited(), interrupt)
    }

    /// Writes out what is unsaved of `keys`.
    fn write_out(
        self: &Arc<Self>,
        keys: &Range<Key>,
        order: &mut Order,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        if self.dirty_blocks() == 0 {
            return Ok(());
        }
        let mut failure = None;
        for keys in self.cache.unsaved(keys, Buffer::is_unsaved).chunks(UNDER_WAY_MAX) {
            let begun: Vec<Launch> = keys.iter().map(|key| self.launch(*key, order)).collect();
            self.cache.engine.crank();
            for (key, begun) in keys.iter().zip(begun) {
                self.wait_landed(*key, begun, interrupt)?;
                if matches!(begun, Launch::Flying(_)) {
                    let rest = self.launch(*key, order);
                    self.wait_landed(*key, rest, interrupt)?;
                }
                let shard = self.cache.shard(*key);
                failure = failure.or(shard.peek(*key).and_then(|buffer| buffer.unwritten()));
            }
        }
        failure.map_or(Ok(()), |failure| Err(Error::device(self.name(), failure)))
    }

    /// Waits until a write-out has landed.
    fn wait_landed(&self, key: Key, begun: Launch, interrupt: &Interrupt) -> Result<(), Error> {
        let (Launch::Begun(number) | Launch::Flying(number)) = begun else { return Ok(()) };
        self.cache.wait(self.cache.bell(key), interrupt, || {
            let shard = self.cache.shard(key);
            !shard.peek(key).is_some_and(|b| b.is_writing() && b.launches() == number)
        })
    }

    /// Makes all that the unit has finished before durable.
    ///
    /// # Errors
    /// The device's; `EINTR` when called away.
    pub fn flush(self: &Arc<Self>, interrupt: &Interrupt) -> Result<(), Error> {
        self.ask(interrupt, |done| self.begin_flush(done))
    }

    /// Begins something and waits for its fate.
    pub(super) fn ask(
        &self,
        interrupt: &Interrupt,
        begin: impl FnOnce(Answer),
    ) -> Result<(), Error> {
        let bell = Arc::new(WaitQueue::default());
        let fate = Arc::new(Mutex::new(None));
        let (answer_bell, answer_fate) = (Arc::clone(&bell), Arc::clone(&fate));
        begin(Box::new(move |result| {
            *answer_fate.lock() = Some(result);
            answer_bell.ring();
        }));
        self.cache.wait(&bell, interrupt, || fate.lock().is_some())?;
        let result = fate.lock().take().unwrap_or(Ok(()));
        result.map_err(|failure| Error::device(self.name(), failure))
    }

    /// Writes; the bytes are durable on return (`O_SYNC`). Other dirty bytes stay delayed.
    ///
    /// # Errors
    /// As [`CachedDevice::write_wait`] and [`CachedDevice::sync`]; some of the bytes may be taken
    /// then, as delayed ones.
    pub fn write_through(
        self: &Arc<Self>,
        origin: Origin,
        at: u64,
        data: &[u8],
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            done += self.take_delayed(origin, at + done as u64, rest, interrupt)?;
        }
        let mut order = Order { origin, fua: true, ..Order::background() };
        let keys = self.keys(&(at..at + data.len() as u64));
        self.write_out(&keys, &mut order, interrupt)?;
        // Others may have written the bytes out meanwhile, without force unit access.
        if self.needs_flush() { self.flush(interrupt) } else { Ok(()) }
    }

    /// For writers above the high mark: begins to write the next dirty blocks of this unit, or
    /// where it has none, of any. Does not wait.
    pub(super) fn relieve(self: &Arc<Self>) {
        let has_own = self.dirty_blocks() > self.ledger.stuck();
        let keys = if has_own { self.next_ready() } else { self.cache.first_ready(&Key::ALL) };
        self.cache.push(&keys);
    }

    /// The next blocks that can be written, ascending, from where the last call ended, around.
    pub(super) fn next_ready(&self) -> Vec<Key> {
        let all = self.all_keys();
        let from = Key::new(self.index(), self.swept.load(Ordering::Relaxed));
        let mut keys = self.cache.first_ready(&(from.min(all.end)..all.end));
        if keys.is_empty() {
            keys = self.cache.first_ready(&all);
        }
        self.swept.store(keys.last().map_or(0, |key| key.block() + 1), Ordering::Relaxed);
        keys
    }
}

/// What runs when something begun is over.
pub(super) type Answer = Box<dyn FnOnce(Result<(), Failure>) + Send>;
