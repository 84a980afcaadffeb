//! `scan`: the elevator. The arm goes up as long as somebody waits above, then down.

use super::scheduler::{Entry, Scheduler};
use crate::contract::{Sector, SimTime};
use std::collections::BTreeSet;

/// See the head of this file.
#[derive(Default)]
pub struct Scan {
    waiting: BTreeSet<(Sector, u64)>,
    goes_down: bool,
}

impl Scan {
    /// The next on the way on, the arm standing at `head`.
    fn ahead(&self, head: Sector) -> Option<(Sector, u64)> {
        if !self.goes_down {
            return self.waiting.range((head, 0)..).next().copied();
        }
        let below = self.waiting.range(..=(head, u64::MAX)).next_back()?.0;
        self.waiting.range((below, 0)..).next().copied()
    }
}

impl Scheduler for Scan {
    fn name(&self) -> &'static str {
        "scan"
    }

    fn add(&mut self, entry: Entry) {
        self.waiting.insert((entry.sector, entry.id));
    }

    fn next(&mut self, head: Sector, _now: SimTime) -> Option<u64> {
        let chosen = self.ahead(head).or_else(|| {
            self.goes_down = !self.goes_down;
            self.ahead(head)
        })?;
        self.waiting.remove(&chosen);
        Some(chosen.1)
    }

    fn remove(&mut self, entry: &Entry) -> bool {
        self.waiting.remove(&(entry.sector, entry.id))
    }
}
