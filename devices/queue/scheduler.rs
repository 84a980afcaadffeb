//! The order in which waiting requests reach the disk: one trait, five schedulers.
//!
//! A scheduler knows places and times, nothing else. Who may go at all (classes, fairness among
//! callers, starvation, requests that overlap) is settled around it, the same for all five:
//! `lane.rs` and `waits.rs`. Every call costs the logarithm of what waits.

use super::clook::Clook;
use super::deadline::Deadline;
use super::fifo::Fifo;
use super::scan::Scan;
use super::sstf::Sstf;
use crate::contract::{Op, Sector, SimTime};

/// What a scheduler knows of a waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of its arrival: the smaller came earlier.
    pub id: u64,
    /// Where it begins.
    pub sector: Sector,
    /// What it does.
    pub op: Op,
    /// When it came.
    pub queued_at: SimTime,
}

/// The order in which waiting requests reach the disk.
pub trait Scheduler: Send {
    /// As written in `scheduler clook`.
    fn name(&self) -> &'static str;

    /// One more waits.
    fn add(&mut self, entry: Entry);

    /// Takes out the one to serve next, the arm standing at `head`.
    fn next(&mut self, head: Sector, now: SimTime) -> Option<u64>;

    /// Takes one out of turn. `false` when it is not here.
    fn remove(&mut self, entry: &Entry) -> bool;
}

/// The names of all schedulers.
pub const SCHEDULERS: [&str; 5] = ["fifo", "sstf", "scan", "clook", "deadline"];

/// An empty scheduler of that name.
#[must_use]
pub fn scheduler(name: &str) -> Option<Box<dyn Scheduler>> {
    Some(match name {
        "fifo" => Box::new(Fifo::default()),
        "sstf" => Box::new(Sstf::default()),
        "scan" => Box::new(Scan::default()),
        "clook" => Box::new(Clook::default()),
        "deadline" => Box::new(Deadline::default()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(id: u64, sector: u64) -> Entry {
        Entry { id, sector: Sector(sector), op: Op::Read, queued_at: SimTime(id) }
    }

    fn order(name: &str, sectors: &[u64]) -> Vec<u64> {
        let mut scheduler = scheduler(name).unwrap();
        for (id, sector) in (1..).zip(sectors) {
            scheduler.add(entry(id, *sector));
        }
        let mut head = 0;
        let mut served = Vec::new();
        while let Some(id) = scheduler.next(Sector(head), SimTime(0)) {
            served.push(id);
            head = sectors[usize::try_from(id - 1).unwrap()] + 8;
        }
        served
    }

    #[test]
    fn each_is_known_by_its_name() {
        for name in SCHEDULERS {
            assert_eq!(scheduler(name).unwrap().name(), name);
        }
        assert!(scheduler("elevator").is_none());
    }

    #[test]
    fn end_beginning_middle_are_served_as_2_3_1_except_by_fifo() {
        for name in SCHEDULERS {
            let want = if name == "fifo" { [1, 2, 3] } else { [2, 3, 1] };
            assert_eq!(order(name, &[32000, 100, 16000]), want, "{name}");
        }
    }

    #[test]
    fn of_two_at_the_same_place_the_earlier_goes_first() {
        for name in SCHEDULERS {
            assert_eq!(order(name, &[64, 64, 64]), [1, 2, 3], "{name}");
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u64, bool),
        Next,
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..1000u64, any::<bool>()).prop_map(|(sector, read)| Step::Add(sector, read)),
            2 => Just(Step::Next),
            1 => (0..64usize).prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// The exam: whatever is added comes out exactly once, by `next` or by `remove`, and what
        /// `next` gives keeps the scheduler's own promise.
        #[test]
        fn each_serves_everything_exactly_once(steps in prop::collection::vec(step(), 1..200)) {
            for name in SCHEDULERS {
                sit(name, &steps);
            }
        }
    }

    fn sit(name: &str, steps: &[Step]) {
        let mut scheduler = scheduler(name).unwrap();
        let mut waiting: Vec<Entry> = Vec::new();
        let (mut head, mut ids) = (Sector(0), 0);
        for step in steps.iter().chain(std::iter::repeat_n(&Step::Next, steps.len() + 1)) {
            match step {
                Step::Add(sector, is_read) => {
                    ids += 1;
                    let op = if *is_read { Op::Read } else { Op::Write };
                    let added = Entry { op, ..entry(ids, *sector) };
                    scheduler.add(added);
                    waiting.push(added);
                }
                Step::Remove(which) if !waiting.is_empty() => {
                    let removed = waiting.remove(which % waiting.len());
                    assert!(scheduler.remove(&removed), "{name}");
                    assert!(!scheduler.remove(&removed), "{name}");
                }
                Step::Remove(_) => {}
                Step::Next => {
                    let Some(id) = scheduler.next(head, SimTime(ids)) else {
                        assert!(waiting.is_empty(), "{name} forgot {waiting:?}");
                        continue;
                    };
                    let at = waiting.iter().position(|entry| entry.id == id).expect("unknown id");
                    assert!(keeps_promise(name, &waiting, &waiting[at], head), "{name}");
                    head = Sector(waiting.remove(at).sector.0 + 1);
                }
            }
        }
        assert!(waiting.is_empty() && scheduler.next(head, SimTime(0)).is_none());
    }

    fn keeps_promise(name: &str, waiting: &[Entry], chosen: &Entry, head: Sector) -> bool {
        let way = |entry: &Entry| entry.sector.0.abs_diff(head.0);
        let ahead = |entry: &Entry| (entry.sector < head, entry.sector, entry.id);
        match name {
            "fifo" => waiting.iter().all(|entry| entry.id >= chosen.id),
            "sstf" => waiting.iter().all(|entry| way(entry) >= way(chosen)),
            "clook" => waiting.iter().all(|entry| ahead(entry) >= ahead(chosen)),
            // Nothing lies between the arm and what either chooses, except reads before writes.
            "scan" => !waiting.iter().any(|entry| {
                let (low, high) = (head.min(chosen.sector), head.max(chosen.sector));
                low < entry.sector && entry.sector < high
            }),
            _ => true,
        }
    }
}
