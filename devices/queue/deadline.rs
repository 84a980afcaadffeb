//! `deadline`: a circular elevator for reads and one for writes; reads go first, within reason,
//! and whoever has waited past its deadline begins the next sweep.
//!
//! The figures are those of Linux's mq-deadline (block/mq-deadline.c).

use super::scheduler::{Entry, Scheduler};
use crate::contract::{Op, Sector, SimTime};
use std::collections::{BTreeMap, BTreeSet};

/// A read should begin within this time.
pub const READ_DEADLINE_NANOS: u64 = 500_000_000;
/// Anything else should begin within this time.
pub const WRITE_DEADLINE_NANOS: u64 = 5_000_000_000;
/// Requests in one sweep, before deadlines are looked at again.
pub const BATCH: u32 = 16;
/// Sweeps of reads that may go before a waiting write.
pub const WRITES_STARVED_MAX: u32 = 2;

/// See the head of this file.
#[derive(Default)]
pub struct Deadline {
    reads: Side,
    writes: Side,
    sweeps_writes: bool,
    left_in_batch: u32,
    writes_starved: u32,
}

#[derive(Default)]
struct Side {
    by_sector: BTreeMap<(Sector, u64), SimTime>,
    by_deadline: BTreeSet<(SimTime, u64, Sector)>,
}

impl Side {
    fn take(&mut self, key: (Sector, u64)) -> Option<u64> {
        let deadline = self.by_sector.remove(&key)?;
        self.by_deadline.remove(&(deadline, key.1, key.0));
        Some(key.1)
    }

    fn ahead(&self, head: Sector) -> Option<(Sector, u64)> {
        self.by_sector.range((head, 0)..).next().map(|(key, _)| *key)
    }

    fn overdue(&self, now: SimTime) -> Option<(Sector, u64)> {
        let (deadline, id, sector) = self.by_deadline.first()?;
        (*deadline <= now).then_some((*sector, *id))
    }

    fn is_empty(&self) -> bool {
        self.by_sector.is_empty()
    }
}

impl Deadline {
    fn side(&mut self, is_write: bool) -> &mut Side {
        if is_write { &mut self.writes } else { &mut self.reads }
    }

    /// Which side the next sweep serves.
    fn turn(&mut self) -> bool {
        if self.writes.is_empty() {
            return false;
        }
        if !self.reads.is_empty() && self.writes_starved < WRITES_STARVED_MAX {
            self.writes_starved += 1;
            return false;
        }
        self.writes_starved = 0;
        true
    }
}

fn nanos_allowed(op: Op) -> u64 {
    if op == Op::Read { READ_DEADLINE_NANOS } else { WRITE_DEADLINE_NANOS }
}

impl Scheduler for Deadline {
    fn name(&self) -> &'static str {
        "deadline"
    }

    fn add(&mut self, entry: Entry) {
        let deadline = entry.queued_at.after(nanos_allowed(entry.op));
        let side = self.side(entry.op != Op::Read);
        side.by_sector.insert((entry.sector, entry.id), deadline);
        side.by_deadline.insert((deadline, entry.id, entry.sector));
    }

    fn next(&mut self, head: Sector, now: SimTime) -> Option<u64> {
        let sweeps_writes = self.sweeps_writes;
        let goes_on =
            if self.left_in_batch > 0 { self.side(sweeps_writes).ahead(head) } else { None };
        if let Some(key) = goes_on {
            self.left_in_batch -= 1;
            return self.side(sweeps_writes).take(key);
        }
        let writes = self.turn();
        let side = self.side(writes);
        let first = side.by_sector.first_key_value().map(|(key, _)| *key);
        let key = side.overdue(now).or_else(|| side.ahead(head)).or(first)?;
        let id = side.take(key);
        self.sweeps_writes = writes;
        self.left_in_batch = BATCH - 1;
        id
    }

    fn remove(&mut self, entry: &Entry) -> bool {
        self.side(entry.op != Op::Read).take((entry.sector, entry.id)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, sector: u64, op: Op) -> Entry {
        Entry { id, sector: Sector(sector), op, queued_at: SimTime(0) }
    }

    #[test]
    fn reads_go_before_writes_but_not_for_ever() {
        let mut deadline = Deadline::default();
        deadline.add(entry(1, 0, Op::Write));
        let mut reads_first = 0;
        for id in 2..1000 {
            deadline.add(entry(id, 5000 - id, Op::Read));
            if deadline.next(Sector(5000), SimTime(0)) == Some(1) {
                break;
            }
            reads_first += 1;
        }
        assert_eq!(reads_first, WRITES_STARVED_MAX);
    }

    #[test]
    fn a_read_past_its_deadline_begins_the_next_sweep() {
        let mut deadline = Deadline::default();
        deadline.add(entry(1, 9000, Op::Read));
        let late = SimTime(READ_DEADLINE_NANOS);
        deadline.add(Entry { queued_at: late, ..entry(2, 10, Op::Read) });
        assert_eq!(deadline.next(Sector(0), late), Some(1));
        assert_eq!(deadline.next(Sector(9008), late), Some(2));
    }
}
