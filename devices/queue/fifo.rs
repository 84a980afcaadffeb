//! `fifo`: in the order of arrival.

use super::scheduler::{Entry, Scheduler};
use crate::contract::{Sector, SimTime};
use std::collections::BTreeSet;

/// See the head of this file.
#[derive(Default)]
pub struct Fifo {
    waiting: BTreeSet<u64>,
}

impl Scheduler for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn add(&mut self, entry: Entry) {
        self.waiting.insert(entry.id);
    }

    fn next(&mut self, _head: Sector, _now: SimTime) -> Option<u64> {
        self.waiting.pop_first()
    }

    fn remove(&mut self, entry: &Entry) -> bool {
        self.waiting.remove(&entry.id)
    }
}
