//! Bytes taken into a shard: what stands in the way of a write, and what it does to a buffer.
//!
//! The blocks of a group are looked up twice: all of them at first, so that the processor waits for
//! their places in memory together, and each again where it is written, cheaply by then.

use super::{Room, Shard, Victims};
use crate::cache::books::{Admission, GROUP, Key, Ledger};
use crate::cache::buffer::{Buffer, Span, Tally};
use crate::cache::copy::Copy;
use devices::SimTime;
use devices::engine::Engine;

/// Why a write stopped.
pub(in crate::cache) enum Stop {
    /// The block must be fetched first.
    Fill,
    /// The buffer's memory is away.
    Away,
    /// There is no room for the buffer.
    Room(Room),
    /// Too much is unsaved.
    Throttle(Admission),
}

/// How bytes are taken in.
pub(in crate::cache) struct Taking<'a> {
    /// log2 of the bytes that the unit can write by themselves.
    pub unit_shift: u32,
    /// The unit's writes fail: at the high mark no more is taken for it.
    pub is_failing: bool,
    /// How they are copied.
    pub copy: Copy,
    /// What may give way.
    pub victims: Victims,
    /// For the time, asked only when a buffer becomes dirty.
    pub engine: &'a Engine,
    pub ledger: &'a Ledger,
}

/// What is known of a block that is to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) enum Place {
    /// It was not looked up.
    Unknown,
    /// It is not here.
    Nowhere,
    /// It is here, where it may stay in the order of use.
    Recent,
    /// It is here, and is to be moved to the front.
    LongAgo,
}

impl Shard {
    /// What is known of neighbouring blocks before they are written. All are looked up, so that the
    /// processor waits for their places in memory together.
    pub fn stand(&self, key: Key, blocks: usize) -> [Place; GROUP] {
        self.look_up(key, blocks).map(|buffer| match buffer {
            None => Place::Nowhere,
            Some(buffer) if self.arrivals.is_long_ago(buffer.used_at) => Place::LongAgo,
            Some(_) => Place::Recent,
        })
    }

    /// Takes bytes into one block, whose `place` was looked up, if it was.
    pub fn copy_in(
        &mut self,
        key: Key,
        span: Span,
        data: &[u8],
        place: Place,
        taking: &Taking<'_>,
    ) -> Result<(), Stop> {
        let shift = taking.unit_shift;
        let (touched, covered) = (span.touched(shift), span.covered(shift));
        let admission = match self.admission() {
            _ if taking.is_failing && self.counts.unsaved >= self.marks.high => Admission::Full,
            admission => admission,
        };
        let found = match place {
            Place::Nowhere => None,
            // Moved to the front as it is found; a write that is refused comes again.
            Place::LongAgo => self.lru.get_mut(&key),
            Place::Recent | Place::Unknown => self.lru.peek_mut(&key),
        };
        if let Some(buffer) = found {
            if buffer.is_away() {
                return Err(Stop::Away);
            }
            let in_part = touched & !covered;
            if in_part != 0 && !buffer.holds(in_part) {
                return Err(Stop::Fill);
            }
            if !buffer.is_unsaved() && admission != Admission::Yes {
                return Err(Stop::Throttle(admission));
            }
            let is_long_ago = self.arrivals.is_long_ago(buffer.used_at);
            if is_long_ago {
                buffer.used_at = self.arrivals.tick;
            }
            // Nothing in the books depends on which of its sectors are dirty.
            let was = (!buffer.is_dirty()).then(|| buffer.tally());
            buffer.write_in(span, data, touched, taking.copy, taking.engine);
            if let Some(was) = was {
                let is = buffer.tally();
                self.book(key, was, is, taking.ledger);
            }
            if is_long_ago && place != Place::LongAgo {
                self.lru.promote(&key);
            }
            return Ok(());
        }
        if touched != covered {
            return Err(Stop::Fill);
        }
        if admission != Admission::Yes {
            return Err(Stop::Throttle(admission));
        }
        match self.make_room(taking.victims) {
            Room::Memory(memory) => {
                let mut buffer = Buffer::empty(memory, SimTime(0));
                buffer.write_in(span, data, touched, taking.copy, taking.engine);
                let is = buffer.tally();
                self.insert(key, buffer);
                self.book(key, Tally::default(), is, taking.ledger);
                Ok(())
            }
            room => Err(Stop::Room(room)),
        }
    }
}
