//! Failed delayed writes of a device: the table for `proc/errors`, and who has been told.
//!
//! 1. An error is counted when a block that could be written so far no longer can; trying it again
//!    in vain adds to the count of its line, not to the news.
//! 2. Every open file is told of news once, by its [`ErrorCursor`]. News that came while no file
//!    was there to be told wait for the next one opened.

use super::device::CachedDevice;
use crate::error::Error;
use crate::sync::{Arc, Mutex};
use devices::{Failure, SimTime};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines kept of one device; then the oldest gives way.
pub const ERRORS_MAX: usize = 256;

/// A line of `proc/errors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteError {
    /// Block of the unit, in blocks of the cache (4096 bytes); `None`: a flush of the device.
    pub block: Option<u64>,
    /// What the device said last, with its sense.
    pub failure: Failure,
    /// How often.
    pub count: u64,
    /// When it failed first.
    pub first: SimTime,
    /// When it failed last.
    pub last: SimTime,
    /// It is still not on the medium.
    pub is_pending: bool,
}

/// The errors of one device.
#[derive(Default)]
pub(super) struct ErrorLog {
    /// Counts the news; changed under `state`.
    news: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: BTreeMap<Option<u64>, WriteError>,
    last: Option<Failure>,
    is_told: bool,
}

impl ErrorLog {
    /// Notes a failure. `is_news`: the open files are to be told.
    pub fn note(&self, block: Option<u64>, failure: Failure, now: SimTime, is_news: bool) {
        let mut state = self.state.lock();
        if state.lines.len() >= ERRORS_MAX && !state.lines.contains_key(&block) {
            let oldest = state.lines.values().min_by_key(|e| (e.is_pending, e.last));
            if let Some(block) = oldest.map(|e| e.block) {
                state.lines.remove(&block);
            }
        }
        let line = state.lines.entry(block).or_insert(WriteError {
            block,
            failure,
            count: 0,
            first: now,
            last: now,
            is_pending: true,
        });
        line.failure = failure;
        line.count += 1;
        line.last = now;
        line.is_pending = true;
        state.last = Some(failure);
        if is_news {
            state.is_told = false;
            self.news.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Notes that what failed before is on the medium now.
    pub fn settle(&self, block: Option<u64>) {
        if self.news.load(Ordering::Acquire) == 0 {
            return;
        }
        if let Some(line) = self.state.lock().lines.get_mut(&block) {
            line.is_pending = false;
        }
    }

    /// The last failure.
    pub fn last(&self) -> Option<Failure> {
        self.state.lock().last
    }

    /// All lines, by block.
    pub fn list(&self) -> Vec<WriteError> {
        self.state.lock().lines.values().copied().collect()
    }

    fn position_for_opener(&self) -> u64 {
        let state = self.state.lock();
        let news = self.news.load(Ordering::Acquire);
        if state.last.is_some() && !state.is_told { news.saturating_sub(1) } else { news }
    }

    fn tell(&self) -> Option<Failure> {
        let mut state = self.state.lock();
        state.is_told = true;
        state.last
    }
}

/// What an open file has been told of its device's delayed writes.
pub struct ErrorCursor {
    device: Arc<CachedDevice>,
    seen: AtomicU64,
}

impl ErrorCursor {
    pub(super) fn new(device: Arc<CachedDevice>) -> ErrorCursor {
        let seen = AtomicU64::new(device.errors.position_for_opener());
        ErrorCursor { device, seen }
    }

    /// Call it at fsync and at close: tells an error of a delayed write not yet told to this file.
    ///
    /// # Errors
    /// Of the last failure; once for all that failed since the last call.
    pub fn take(&self) -> Result<(), Error> {
        let log = &self.device.errors;
        let news = log.news.load(Ordering::Acquire);
        if self.seen.load(Ordering::Acquire) == news
            || self.seen.swap(news, Ordering::AcqRel) == news
        {
            return Ok(());
        }
        let failure = log.tell();
        failure.map_or(Ok(()), |failure| Err(Error::device(self.device.name(), failure)))
    }

    /// [`ErrorCursor::take`] after a sync of one's own: its error and the one not yet told are
    /// told as one.
    ///
    /// # Errors
    /// That of the sync, or else that of `take`.
    pub fn after(&self, synced: Result<(), Error>) -> Result<(), Error> {
        let told = self.take();
        synced.and(told)
    }
}
