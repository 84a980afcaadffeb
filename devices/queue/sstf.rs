//! `sstf`: the shortest way of the arm first. Greedy: it moves little, and neglects the edges.

use super::scheduler::{Entry, Scheduler};
use crate::contract::{Sector, SimTime};
use std::collections::BTreeSet;

/// See the head of this file.
#[derive(Default)]
pub struct Sstf {
    waiting: BTreeSet<(Sector, u64)>,
}

impl Scheduler for Sstf {
    fn name(&self) -> &'static str {
        "sstf"
    }

    fn add(&mut self, entry: Entry) {
        self.waiting.insert((entry.sector, entry.id));
    }

    fn next(&mut self, head: Sector, _now: SimTime) -> Option<u64> {
        let above = self.waiting.range((head, 0)..).next().map(|(sector, _)| *sector);
        let below = self.waiting.range(..(head, 0)).next_back().map(|(sector, _)| *sector);
        let nearest = match (above, below) {
            (Some(above), Some(below)) if head.0 - below.0 < above.0 - head.0 => below,
            (Some(above), _) => above,
            (None, below) => below?,
        };
        let chosen = *self.waiting.range((nearest, 0)..).next()?;
        self.waiting.remove(&chosen);
        Some(chosen.1)
    }

    fn remove(&mut self, entry: &Entry) -> bool {
        self.waiting.remove(&(entry.sector, entry.id))
    }
}
