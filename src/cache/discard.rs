//! What others change on the medium, and ranges given back: keeping the cache in step.
//!
//! Two ways to drop: [`CachedDevice::invalidate`] drops what is clean, and leaves what is dirty to
//! overwrite the medium later (a raw write). [`CachedDevice::forget`] drops the only copy too (a
//! discard). What is being fetched meanwhile is not used, what is being written is not kept.

use super::BLOCK_BYTES;
use super::books::{GROUP_BLOCKS, Key};
use super::buffer::{Sectors, Span};
use super::device::CachedDevice;
use super::shard::Shard;
use super::transfer::index;
use crate::error::{Errno, Error};
use crate::sync::Arc;
use devices::{Interrupt, Op, Origin, Rejected, Request, SECTOR_SIZE, Sector};
use std::ops::Range;

/// Bytes zeroed by one write where the unit cannot zero by itself.
const ZEROS: &[u8] = &[0; 64 << 10];

impl CachedDevice {
    /// The medium was changed in this range, past the cache: drops the clean copies of every
    /// sector touched. A dirty sector stays, and is written later. Call it after the change; the
    /// next sync flushes the unit.
    pub fn invalidate(&self, range: Range<u64>) {
        self.note_change();
        let range = range.start..range.end.min(self.size());
        self.sweep(&range, Span::touched, |buffer, set| buffer.drop_clean(set));
    }

    /// Drops all that lies wholly in this range, also what was never written. Waits for what is
    /// being written.
    ///
    /// # Errors
    /// `EINTR` when called away.
    pub fn forget(&self, range: Range<u64>, interrupt: &Interrupt) -> Result<(), Error> {
        let range = range.start..range.end.min(self.size());
        for _ in 0..2 {
            // A second time for what was being written, failed, and so became dirty again.
            self.sweep(&range, Span::covered, |buffer, set| buffer.forget(set));
            for key in self.cache.unsaved(&self.keys(&range), |buffer| buffer.is_writing()) {
                self.cache.wait(self.cache.bell(key), interrupt, || {
                    !self.cache.shard(key).peek(key).is_some_and(|b| b.is_writing())
                })?;
            }
        }
        Ok(())
    }

    /// Changes the buffers of a range of bytes.
    fn sweep(
        &self,
        range: &Range<u64>,
        part: impl Fn(Span, u32) -> Sectors,
        change: impl Fn(&mut super::buffer::Buffer, Sectors),
    ) {
        let keys = self.keys(range);
        let sweep = |shard: &mut Shard, keys: &Range<Key>| {
            shard.sweep(keys, &self.ledger, |key, buffer| {
                let base = key.block() * BLOCK_BYTES as u64;
                let from = index(base, range.start.max(base));
                let to = BLOCK_BYTES.min(index(base, range.end));
                change(buffer, part(Span { from, to }, self.unit_shift()) & self.full(key));
            });
        };
        if keys.end.0 - keys.start.0 > self.cache.capacity() / BLOCK_BYTES as u64 {
            self.cache.each_shard(|shard, _: &mut Vec<()>| sweep(shard, &keys));
        } else {
            // Fewer blocks than buffers: where a group of them is, if it is anywhere, is known.
            let mut first = keys.start;
            while first < keys.end {
                let behind = Key((first.group() + 1) * GROUP_BLOCKS).min(keys.end);
                sweep(&mut self.cache.shard(first), &(first..behind));
                first = behind;
            }
        }
        self.cache.room.ring();
    }

    /// Gives a range back: it reads as zeros. What is no whole sector of it is written with zeros.
    /// What was dirty in it is dropped, also where the unit then fails.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the unit cannot discard; the device's; `EINTR` when called away.
    pub fn discard(
        self: &Arc<Self>,
        origin: Origin,
        range: Range<u64>,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        let refused = match self.without(Op::Discard, origin, &range, interrupt) {
            Err(error) if error.errno == Errno::ENOTTY => error,
            other => return other,
        };
        Err(Error::new(Errno::EOPNOTSUPP, refused.what))
    }

    /// Makes a range read as zeros, keeping its room; writes them where the unit cannot.
    ///
    /// # Errors
    /// The device's; `EINTR` when called away.
    pub fn zero(
        self: &Arc<Self>,
        origin: Origin,
        range: Range<u64>,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        match self.without(Op::Zero, origin, &range, interrupt) {
            Err(error) if error.errno == Errno::ENOTTY => {
                self.write_zeros(origin, &range, interrupt)
            }
            other => other,
        }
    }

    /// Does away with what a range holds.
    fn without(
        self: &Arc<Self>,
        op: Op,
        origin: Origin,
        range: &Range<u64>,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        self.check_writable()?;
        self.check(range.start, range.end.saturating_sub(range.start))?;
        let unit = u64::from(self.geometry().sector_bytes);
        let start = range.start.next_multiple_of(unit);
        let end = range.end - range.end % unit;
        if start >= end {
            return self.write_zeros(origin, range, interrupt);
        }
        self.write_zeros(origin, &(range.start..start), interrupt)?;
        self.write_zeros(origin, &(end..range.end), interrupt)?;
        self.forget(start..end, interrupt)?;
        let (sector, sectors) =
            (Sector(start / SECTOR_SIZE as u64), (end - start) / SECTOR_SIZE as u64);
        self.ask(interrupt, |answer| {
            let device = Arc::clone(self);
            let done = Box::new(move |_, fate: Result<(), _>| {
                // What was fetched or written out meanwhile may be older than the zeros.
                device.invalidate(start..end);
                answer(fate);
            });
            let request = match op {
                Op::Zero => Request::zero(sector, sectors, origin, done),
                _ => Request::discard(sector, sectors, origin, done),
            };
            if let Err(rejected) = self.unit.submit(request) {
                let Rejected(failure, request) = *rejected;
                request.finish(Err(failure));
            }
        })
    }

    fn write_zeros(
        self: &Arc<Self>,
        origin: Origin,
        range: &Range<u64>,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        let mut at = range.start;
        while at < range.end {
            let some = &ZEROS[..ZEROS.len().min(index(at, range.end))];
            at += self.write_wait(origin, at, some, interrupt)? as u64;
        }
        Ok(())
    }
}
