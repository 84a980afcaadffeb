//! `clook`: the circular elevator. The arm serves on its way up only, from the lowest request to
//! the highest, then jumps back: the edges wait no longer than the middle.

use super::scheduler::{Entry, Scheduler};
use crate::contract::{Sector, SimTime};
use std::collections::BTreeSet;

/// See the head of this file.
#[derive(Default)]
pub struct Clook {
    waiting: BTreeSet<(Sector, u64)>,
}

impl Scheduler for Clook {
    fn name(&self) -> &'static str {
        "clook"
    }

    fn add(&mut self, entry: Entry) {
        self.waiting.insert((entry.sector, entry.id));
    }

    fn next(&mut self, head: Sector, _now: SimTime) -> Option<u64> {
        let ahead = self.waiting.range((head, 0)..).next();
        let chosen = *ahead.or_else(|| self.waiting.first())?;
        self.waiting.remove(&chosen);
        Some(chosen.1)
    }

    fn remove(&mut self, entry: &Entry) -> bool {
        self.waiting.remove(&(entry.sector, entry.id))
    }
}
