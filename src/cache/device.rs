//! A unit under the cache: what is known of it, and what is counted of it.

use super::BufferCache;
use super::ahead::Readers;
use super::books::{Key, Ledger};
use super::buffer::{BLOCK_BYTES, BLOCK_SECTORS, Sectors, sectors};
use super::errors::{ErrorCursor, ErrorLog, WriteError};
use crate::error::{Errno, Error};
use crate::sync::{Arc, Mutex};
use devices::{BlockDevice, Geometry, IoError, SECTOR_SIZE, SimTime};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How much of what was written is durable.
pub(super) struct Durability {
    /// Counts write-outs and discards that ended well; raised before their buffers are clean,
    /// with `oldest` locked.
    pub written: AtomicU64,
    /// `written` as it was when the last flush that ended well was submitted.
    pub flushed: AtomicU64,
    /// Since when the oldest of what is written and not flushed was dirty; MAX: there is nothing.
    pub oldest: Mutex<SimTime>,
}

/// A block unit under the buffer cache. Byte addresses are of the whole unit.
pub struct CachedDevice {
    pub(super) cache: Arc<BufferCache>,
    pub(super) unit: Arc<dyn BlockDevice>,
    pub(super) errors: ErrorLog,
    pub(super) ledger: Ledger,
    pub(super) readers: Readers,
    pub(super) durability: Durability,
    /// The block where the sweep over the dirty ones goes on when too much is dirty.
    pub(super) swept: AtomicU64,
    /// The updater's write-outs are under way.
    pub(super) is_sweeping: AtomicBool,
    name: Arc<str>,
    index: u64,
    geometry: Geometry,
    is_synchronous: AtomicBool,
}

impl CachedDevice {
    pub(super) fn new(
        cache: &Arc<BufferCache>,
        index: u64,
        name: &str,
        unit: Arc<dyn BlockDevice>,
        geometry: Geometry,
    ) -> Result<Arc<CachedDevice>, Error> {
        let sector_bytes = geometry.sector_bytes as usize;
        if !sector_bytes.is_power_of_two() || !(SECTOR_SIZE..=BLOCK_BYTES).contains(&sector_bytes) {
            let what = format!("{name}: sectors of {sector_bytes} bytes are not 512 to 4096");
            return Err(Error::new(Errno::EINVAL, what));
        }
        if geometry.sectors / u64::from(BLOCK_SECTORS) >= Key::BLOCKS_MAX {
            return Err(Error::new(Errno::EFBIG, format!("{name}: larger than 4 PiB")));
        }
        Ok(Arc::new(CachedDevice {
            cache: Arc::clone(cache),
            unit,
            errors: ErrorLog::default(),
            ledger: Ledger::default(),
            readers: Readers::default(),
            durability: Durability {
                written: AtomicU64::new(0),
                flushed: AtomicU64::new(0),
                oldest: Mutex::new(SimTime(u64::MAX)),
            },
            swept: AtomicU64::new(0),
            is_sweeping: AtomicBool::new(false),
            name: name.into(),
            index,
            geometry,
            is_synchronous: AtomicBool::new(geometry.ordered),
        }))
    }

    /// Name of its node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// The unit itself, past the cache.
    #[must_use]
    pub fn unit(&self) -> &Arc<dyn BlockDevice> {
        &self.unit
    }

    /// Size and nature, as they were when it was attached.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Length, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.geometry.bytes()
    }

    /// How far ahead of a sequential reader is read at most, in bytes.
    #[must_use]
    pub fn read_ahead_max(&self) -> u64 {
        self.readers.window_max()
    }

    /// Sets that; 0 reads nothing ahead.
    pub fn set_read_ahead_max(&self, bytes: u64) {
        self.readers.set_window_max(bytes);
    }

    /// Whether every write is on the medium before it returns.
    #[must_use]
    pub fn is_synchronous(&self) -> bool {
        self.is_synchronous.load(Ordering::Relaxed)
    }

    /// Makes every write go to the medium before it returns, or later. A unit that wants its
    /// writes in order stays synchronous. What is dirty already waits for a sync.
    pub fn set_synchronous(&self, is_synchronous: bool) {
        self.is_synchronous.store(is_synchronous || self.geometry.ordered, Ordering::Relaxed);
    }

    /// Whether something written is not yet durable: dirty, in flight, or written but not flushed.
    #[must_use]
    pub fn has_unsynced(&self) -> bool {
        self.dirty_blocks() > 0 || self.needs_flush()
    }

    /// Buffers that are the only copy of something.
    #[must_use]
    pub fn dirty_blocks(&self) -> usize {
        self.ledger.unsaved()
    }

    /// Most of what is to be written cannot be: its writers are told, instead of waiting.
    pub(super) fn is_failing(&self) -> bool {
        let stuck = self.ledger.stuck();
        stuck > 0 && stuck * 2 >= self.dirty_blocks()
    }

    pub(super) fn needs_flush(&self) -> bool {
        let durability = &self.durability;
        durability.written.load(Ordering::Acquire) != durability.flushed.load(Ordering::Acquire)
    }

    /// The lines of `proc/errors` for its delayed writes.
    #[must_use]
    pub fn write_errors(&self) -> Vec<WriteError> {
        self.errors.list()
    }

    /// For a file just opened: from now on it will be told of failed delayed writes.
    #[must_use]
    pub fn open_errors(self: &Arc<Self>) -> ErrorCursor {
        ErrorCursor::new(Arc::clone(self))
    }

    /// log2 of the bytes that can be written by themselves.
    pub(super) fn unit_shift(&self) -> u32 {
        self.geometry.sector_bytes.trailing_zeros()
    }

    /// The block with a byte in it.
    pub(super) fn key(&self, at: u64) -> Key {
        Key::new(self.index, at / BLOCK_BYTES as u64)
    }

    /// Whether a buffer of this range of bytes holds what is not on the medium yet.
    #[must_use]
    pub fn is_dirty(&self, range: Range<u64>) -> bool {
        self.dirty_blocks() > 0 && !self.cache.unsaved(&self.keys(&range), |_| true).is_empty()
    }

    /// The blocks with a byte of a range.
    pub(super) fn keys(&self, range: &Range<u64>) -> Range<Key> {
        let end = range.end.min(self.size());
        let block = BLOCK_BYTES as u64;
        let (start, end) =
            if range.start < end { (range.start / block, end.div_ceil(block)) } else { (0, 0) };
        Key::new(self.index, start)..Key::new(self.index, end)
    }

    pub(super) fn all_keys(&self) -> Range<Key> {
        self.keys(&(0..self.size()))
    }

    /// All sectors of a block: the last one of the unit may be short.
    pub(super) fn full(&self, key: Key) -> Sectors {
        let first = key.block() * u64::from(BLOCK_SECTORS);
        let left = self.geometry.sectors.saturating_sub(first).min(u64::from(BLOCK_SECTORS));
        sectors(0, u8::try_from(left).unwrap_or(BLOCK_SECTORS))
    }

    /// That `at..at + len` is in the unit.
    pub(super) fn check(&self, at: u64, len: u64) -> Result<(), Error> {
        match at.checked_add(len) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(Error::device(&self.name, IoError::Range.into())),
        }
    }

    /// That it may be written.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        if self.geometry.read_only {
            return Err(Error::device(&self.name, IoError::WriteProtected.into()));
        }
        Ok(())
    }

    /// The error of a caller for whom there is never going to be room.
    pub(super) fn no_room(&self) -> Error {
        match self.errors.last() {
            Some(failure) if self.is_failing() => Error::device(&self.name, failure),
            _ => super::full_of_failures(),
        }
    }
}
