//! The requests of one class: a scheduler, and the two limits to what it may do to anybody.
//!
//! 1. Nobody starves. A request that has seen enough dispatches goes next, wherever the arm
//!    stands: it is served within [`starvation_bound`] dispatches of its class.
//! 2. Nobody is crowded out. A caller (pid) that waits while others, who have more waiting, are
//!    served, gets a turn: with one other such caller after [`TURN`] dispatches. Callers with one
//!    request each never crowd anybody out, so the scheduler is left alone with them.

use super::scheduler::{Entry, Scheduler};
use crate::contract::{Sector, SimTime};
use std::collections::{BTreeSet, HashMap};

/// A far request under a continuous stream of near ones is served within this many dispatches.
pub const STARVATION: u64 = 50;
/// Dispatches to a caller with many requests that another waits out before it gets its turn.
pub const TURN: u64 = 4;
/// A caller with many requests waiting, which has one near the arm soon, gets its turn only after
/// this many times as long.
const TURN_FACTOR_MAX: u64 = 8;

/// Within how many dispatches of its class a request is served, `waiting` being there in all at the
/// first dispatch after it came.
#[must_use]
pub fn starvation_bound(waiting: usize) -> u64 {
    STARVATION.max(5 * waiting as u64)
}

/// Dispatches after which it goes next: those who came before it may have to as well, so a fifth
/// of the bound is left for them.
fn patience(waiting: usize) -> u64 {
    starvation_bound(waiting) / 5 * 4
}

/// See the head of this file.
pub(super) struct Lane {
    scheduler: Box<dyn Scheduler>,
    tickets: HashMap<u64, Ticket>,
    /// Those who came since the last dispatch.
    fresh: Vec<u64>,
    /// At which dispatch each other has waited long enough.
    due: BTreeSet<(u64, u64)>,
    dispatches: u64,
    callers: HashMap<u32, Caller>,
    /// At which `crowded` each caller gets a turn.
    turns: BTreeSet<(u64, u32)>,
    /// Dispatches to callers who then still had requests waiting.
    crowded: u64,
}

struct Ticket {
    entry: Entry,
    pid: u32,
    due: u64,
}

#[derive(Default)]
struct Caller {
    waiting: BTreeSet<u64>,
    turn: u64,
}

impl Lane {
    pub(super) fn new(scheduler: Box<dyn Scheduler>) -> Lane {
        Lane {
            scheduler,
            tickets: HashMap::new(),
            fresh: Vec::new(),
            due: BTreeSet::new(),
            dispatches: 0,
            callers: HashMap::new(),
            turns: BTreeSet::new(),
            crowded: 0,
        }
    }

    pub(super) fn scheduler_name(&self) -> &'static str {
        self.scheduler.name()
    }

    /// Moves everything that waits over to `scheduler`.
    pub(super) fn change_scheduler(&mut self, scheduler: Box<dyn Scheduler>) {
        self.scheduler = scheduler;
        let mut entries: Vec<Entry> = self.tickets.values().map(|ticket| ticket.entry).collect();
        entries.sort_unstable_by_key(|entry| entry.id);
        for entry in entries {
            self.scheduler.add(entry);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Since when the request has waited that must be served first.
    pub(super) fn waits_since(&self) -> Option<SimTime> {
        let id = self.due.first().map(|(_, id)| id).or(self.fresh.first())?;
        self.tickets.get(id).map(|ticket| ticket.entry.queued_at)
    }

    pub(super) fn add(&mut self, entry: Entry, pid: u32) {
        self.fresh.push(entry.id);
        self.tickets.insert(entry.id, Ticket { entry, pid, due: 0 });
        let caller = self.callers.entry(pid).or_default();
        let is_new = caller.waiting.is_empty();
        caller.waiting.insert(entry.id);
        if is_new {
            self.grant_turn(pid);
        }
        self.scheduler.add(entry);
    }

    /// Takes out the one to serve next.
    pub(super) fn next(&mut self, head: Sector, now: SimTime) -> Option<u64> {
        self.set_due();
        let id = match self.entitled() {
            Some(id) => {
                let entry = self.tickets.get(&id)?.entry;
                self.scheduler.remove(&entry);
                id
            }
            None => self.scheduler.next(head, now)?,
        };
        self.dispatches += 1;
        if let Some(pid) = self.leave(id)
            && self.callers.contains_key(&pid)
        {
            self.crowded += 1;
            self.grant_turn(pid);
        }
        Some(id)
    }

    /// Takes one out of turn: it is merged into another, or changes its class.
    pub(super) fn remove(&mut self, id: u64) {
        if let Some(ticket) = self.tickets.get(&id) {
            self.scheduler.remove(&ticket.entry);
            self.leave(id);
        }
    }

    /// A burst is one arrival: all of it may see all of it go first.
    fn set_due(&mut self) {
        let due = self.dispatches + patience(self.tickets.len());
        for id in self.fresh.drain(..) {
            if let Some(ticket) = self.tickets.get_mut(&id) {
                ticket.due = due;
                self.due.insert((due, id));
            }
        }
    }

    /// Who must be served now, whatever the scheduler thinks.
    fn entitled(&self) -> Option<u64> {
        let (due, id) = *self.due.first()?;
        if due <= self.dispatches {
            return Some(id);
        }
        let (turn, pid) = *self.turns.first()?;
        if self.callers.len() < 2 || turn > self.crowded {
            return None;
        }
        self.callers.get(&pid)?.waiting.first().copied()
    }

    /// Strikes it from the lists; the scheduler has let go of it. Whose it was.
    fn leave(&mut self, id: u64) -> Option<u32> {
        let ticket = self.tickets.remove(&id)?;
        if !self.due.remove(&(ticket.due, id)) {
            self.fresh.retain(|fresh| *fresh != id);
        }
        let caller = self.callers.get_mut(&ticket.pid)?;
        caller.waiting.remove(&id);
        if caller.waiting.is_empty() {
            self.turns.remove(&(caller.turn, ticket.pid));
            self.callers.remove(&ticket.pid);
        }
        Some(ticket.pid)
    }

    fn grant_turn(&mut self, pid: u32) {
        let others = self.callers.len().saturating_sub(1) as u64;
        let Some(caller) = self.callers.get_mut(&pid) else { return };
        let factor = (caller.waiting.len() as u64).min(TURN_FACTOR_MAX);
        self.turns.remove(&(caller.turn, pid));
        caller.turn = self.crowded + TURN.max(2 * others) * factor;
        self.turns.insert((caller.turn, pid));
    }
}

#[cfg(test)]
mod tests {
    use super::super::scheduler::{SCHEDULERS, scheduler};
    use super::*;
    use crate::contract::Op;

    fn lane(name: &str) -> Lane {
        Lane::new(scheduler(name).unwrap())
    }

    fn entry(id: u64, sector: u64) -> Entry {
        Entry { id, sector: Sector(sector), op: Op::Read, queued_at: SimTime(id) }
    }

    #[test]
    fn a_far_request_under_a_near_stream_is_served_within_the_bound() {
        for name in SCHEDULERS {
            for (depth, pids) in [(1, 1), (4, 1), (9, 1), (4, 4), (9, 9)] {
                let mut lane = lane(name);
                for id in 1..=depth {
                    lane.add(entry(id, 8 * id), u32::try_from(id % pids).unwrap());
                }
                lane.add(entry(1000, 1_000_000), 0);
                let mut dispatches = 1;
                let mut head = Sector(0);
                while let Some(id) = lane.next(head, SimTime(0))
                    && id != 1000
                {
                    let next = 1000 + dispatches;
                    lane.add(entry(next, head.0 + 1), u32::try_from(next % pids).unwrap());
                    head = Sector(head.0 + 1);
                    dispatches += 1;
                }
                assert!(dispatches <= STARVATION, "{name}, {depth} deep: {dispatches}");
            }
        }
    }

    #[test]
    fn a_single_request_is_not_crowded_out_by_fifty() {
        for name in SCHEDULERS {
            let mut lane = lane(name);
            for id in 1..=50 {
                lane.add(entry(id, id * 8), 7);
            }
            lane.add(entry(51, 1_000_000), 8);
            let place = (1..).find(|_| lane.next(Sector(0), SimTime(0)) == Some(51)).unwrap();
            assert!(place <= TURN + 1, "{name}: served as number {place}");
        }
    }

    #[test]
    fn callers_with_one_request_each_leave_the_scheduler_alone() {
        let mut lane = lane("clook");
        for pid in 0..64 {
            lane.add(entry(u64::from(pid) + 1, u64::from(pid) * 37 % 64), pid);
        }
        let mut last = 0;
        while let Some(id) = lane.next(Sector(0), SimTime(0)) {
            let sector = (id - 1) * 37 % 64;
            assert!(sector >= last, "the arm went back from {last} to {sector}");
            last = sector;
        }
    }

    #[test]
    fn who_waits_moves_over_to_a_new_scheduler() {
        for from in SCHEDULERS {
            for to in SCHEDULERS {
                let mut lane = lane(from);
                for id in 1..=20 {
                    lane.add(entry(id, 8 * (id * 7 % 20)), 1);
                }
                let mut served = vec![lane.next(Sector(0), SimTime(0)).unwrap()];
                lane.change_scheduler(scheduler(to).unwrap());
                assert_eq!(lane.scheduler_name(), to);
                served.extend(std::iter::from_fn(|| lane.next(Sector(0), SimTime(0))));
                served.sort_unstable();
                assert_eq!(served, (1..=20).collect::<Vec<u64>>());
                assert!(lane.is_empty() && lane.waits_since().is_none());
            }
        }
    }

    #[test]
    fn what_is_removed_is_not_served_and_leaves_no_trace() {
        let mut lane = lane("clook");
        lane.add(entry(1, 0), 1);
        lane.add(entry(2, 8), 2);
        lane.remove(1);
        lane.remove(1);
        assert_eq!(lane.next(Sector(0), SimTime(0)), Some(2));
        assert_eq!(lane.next(Sector(0), SimTime(0)), None);
        assert!(lane.callers.is_empty() && lane.turns.is_empty() && lane.due.is_empty());
    }
}
