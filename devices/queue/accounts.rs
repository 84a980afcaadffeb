//! The books of one disk: its counters in Linux's sense, and its latencies.

use super::kept::{Pages, SECTORS_MAX};
use crate::contract::{Counters, Direction, Histogram, Latencies, Mishaps, Op, Request, SimTime};

/// See the head of this file.
#[derive(Default)]
pub(super) struct Accounts {
    counters: Counters,
    latencies: Latencies,
    /// Mishaps, or enough sectors, to be written down.
    is_news: bool,
    /// Mishaps are written down: sectors are too.
    is_kept: bool,
    /// Sectors not written down yet.
    unkept: u64,
    /// Until when `busy_nanos` and `queue_nanos` are summed.
    summed_until: SimTime,
}

impl Accounts {
    /// The counters as they are now.
    pub(super) fn counters(&mut self, now: SimTime) -> Counters {
        self.sum_until(now);
        self.counters
    }

    pub(super) fn latencies(&self) -> Latencies {
        self.latencies
    }

    /// A request came in.
    pub(super) fn came(&mut self, now: SimTime) {
        self.sum_until(now);
        self.counters.in_flight += 1;
    }

    /// `requests` left that never reached the hardware.
    pub(super) fn gave_up(&mut self, requests: u64, now: SimTime) {
        self.sum_until(now);
        self.counters.in_flight -= requests;
    }

    /// The hardware was given a command.
    pub(super) fn commanded(&mut self) {
        self.counters.commands += 1;
    }

    /// A failure is tried again.
    pub(super) fn retried(&mut self) {
        self.counters.retries += 1;
    }

    /// A request that had been tried `tries` times in vain is over.
    pub(super) fn settled(&mut self, op: Op, tries: u32, is_good: bool) {
        let Some(mishaps) = self.mishaps(op) else { return };
        mishaps.retries += u64::from(tries);
        mishaps.recovered += u64::from(is_good && tries > 0);
        mishaps.failed += u64::from(!is_good);
        self.is_news |= tries > 0 || !is_good;
    }

    /// What went wrong in a direction; discards and flushes are not counted.
    fn mishaps(&mut self, op: Op) -> Option<&mut Mishaps> {
        match op {
            Op::Read => Some(&mut self.counters.read_mishaps),
            Op::Write | Op::Zero => Some(&mut self.counters.write_mishaps),
            Op::Discard | Op::Flush => None,
        }
    }

    /// Counts from zero again what goes wrong in the direction of `op`, or in both.
    pub(super) fn forget_mishaps(&mut self, op: Option<Op>) {
        for op in op.map_or(vec![Op::Read, Op::Write], |op| vec![op]) {
            if let Some(mishaps) = self.mishaps(op) {
                *mishaps = Mishaps::default();
            }
        }
        self.is_news |= self.is_kept;
    }

    /// What was kept since before power-off.
    pub(super) fn remember(&mut self, pages: Pages) {
        [self.counters.read_mishaps, self.counters.write_mishaps] = pages;
        self.is_kept = true;
    }

    /// Whether there is something to be written down.
    pub(super) fn has_news(&self) -> bool {
        self.is_news
    }

    /// What is to be written down, at power-off whatever was counted; `None`: nothing is.
    pub(super) fn news(&mut self, is_last: bool) -> Option<Pages> {
        let is_news = std::mem::take(&mut self.is_news) || is_last && self.unkept > 0;
        if !is_news {
            return None;
        }
        (self.is_kept, self.unkept) = (true, 0);
        Some([self.counters.read_mishaps, self.counters.write_mishaps])
    }

    /// `sectors` were transferred.
    pub(super) fn transferred(&mut self, op: Op, sectors: u64) {
        self.direction(op).sectors += sectors;
        let Some(mishaps) = self.mishaps(op) else { return };
        mishaps.sectors += sectors;
        if self.is_kept {
            self.unkept += sectors;
            self.is_news |= self.unkept >= SECTORS_MAX;
        }
    }

    /// Requests that shared one command are completed: as in Linux they are one I/O, as old as the
    /// oldest, and the others were merged into it.
    pub(super) fn completed<'a>(
        &mut self,
        op: Op,
        requests: impl Iterator<Item = &'a Request>,
        now: SimTime,
    ) {
        let (mut number, mut longest) = (0, 0);
        for request in requests {
            let nanos = now.since(request.queued_at);
            number += 1;
            longest = longest.max(nanos);
            let histogram = self.histogram(op);
            let bucket = nanos.max(1).ilog2() as usize;
            histogram[bucket.min(histogram.len() - 1)] += 1;
        }
        if number > 0 {
            self.gave_up(number, now);
            let direction = self.direction(op);
            direction.ios += 1;
            direction.merges += number - 1;
            direction.nanos += longest;
        }
    }

    fn sum_until(&mut self, now: SimTime) {
        let nanos = now.since(self.summed_until);
        self.summed_until = self.summed_until.max(now);
        if self.counters.in_flight > 0 {
            self.counters.busy_nanos += nanos;
            self.counters.queue_nanos += nanos * self.counters.in_flight;
        }
    }

    /// Zeroing is a write, as in Linux (`op_stat_group`).
    fn direction(&mut self, op: Op) -> &mut Direction {
        match op {
            Op::Read => &mut self.counters.read,
            Op::Write | Op::Zero => &mut self.counters.write,
            Op::Discard => &mut self.counters.discard,
            Op::Flush => &mut self.counters.flush,
        }
    }

    fn histogram(&mut self, op: Op) -> &mut Histogram {
        match op {
            Op::Read => &mut self.latencies.read,
            Op::Write | Op::Zero => &mut self.latencies.write,
            Op::Discard => &mut self.latencies.discard,
            Op::Flush => &mut self.latencies.flush,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Origin, Sector};

    #[test]
    fn busy_and_weighted_time_are_summed_over_what_is_in_flight() {
        let mut accounts = Accounts::default();
        accounts.came(SimTime(100));
        accounts.came(SimTime(110));
        accounts.gave_up(2, SimTime(130));
        let counters = accounts.counters(SimTime(500));
        assert_eq!((counters.busy_nanos, counters.queue_nanos), (30, 10 + 2 * 20));
    }

    #[test]
    fn mishaps_are_counted_by_direction_and_end() {
        let mut accounts = Accounts::default();
        accounts.settled(Op::Read, 0, true);
        accounts.settled(Op::Read, 2, true);
        accounts.settled(Op::Write, 5, false);
        accounts.settled(Op::Flush, 1, false);
        let counters = accounts.counters(SimTime(0));
        assert_eq!(
            counters.read_mishaps,
            Mishaps { retries: 2, recovered: 1, ..Mishaps::default() }
        );
        assert_eq!(counters.write_mishaps, Mishaps { retries: 5, failed: 1, ..Mishaps::default() });
    }

    #[test]
    fn mishaps_are_news_and_sectors_only_where_there_were_mishaps() {
        let mut accounts = Accounts::default();
        accounts.settled(Op::Read, 0, true);
        accounts.transferred(Op::Read, SECTORS_MAX);
        assert_eq!((accounts.has_news(), accounts.news(true)), (false, None));
        accounts.settled(Op::Write, 0, false);
        let [read, write] = accounts.news(false).unwrap();
        assert_eq!((read.sectors, write.failed), (SECTORS_MAX, 1));
        accounts.transferred(Op::Write, SECTORS_MAX - 1);
        assert!(!accounts.has_news());
        accounts.transferred(Op::Write, 1);
        assert!(accounts.has_news() && accounts.news(false).is_some());
        accounts.transferred(Op::Write, 1);
        assert_eq!((accounts.has_news(), accounts.news(false)), (false, None));
        assert!(accounts.news(true).is_some(), "at power-off all are");
    }

    #[test]
    fn what_was_remembered_is_counted_on() {
        let mut accounts = Accounts::default();
        let kept = Mishaps { failed: 7, sectors: 90, ..Mishaps::default() };
        accounts.remember([kept, Mishaps::default()]);
        accounts.settled(Op::Read, 0, false);
        accounts.transferred(Op::Read, 10);
        let Some([read, _]) = accounts.news(false) else { panic!() };
        assert_eq!(read, Mishaps { failed: 8, sectors: 100, ..Mishaps::default() });
        accounts.forget_mishaps(Some(Op::Write));
        assert_eq!(accounts.news(false).unwrap()[0].failed, 8, "only that direction");
        accounts.forget_mishaps(None);
        assert_eq!(accounts.news(false), Some([Mishaps::default(); 2]));
    }

    #[test]
    fn two_that_share_a_command_are_one_io_and_one_merge() {
        let mut accounts = Accounts::default();
        let done = || Box::new(|_, _| ());
        let mut pair =
            [0, 1].map(|n| Request::read(Sector(n), vec![0; 512], Origin::KERNEL, done()));
        pair[1].queued_at = SimTime(60);
        accounts.came(SimTime(0));
        accounts.came(SimTime(60));
        accounts.transferred(Op::Read, 2);
        accounts.completed(Op::Read, pair.iter(), SimTime(100));
        let read = accounts.counters(SimTime(100)).read;
        assert_eq!(read, Direction { ios: 1, merges: 1, sectors: 2, nanos: 100 });
        let latencies = accounts.latencies().read;
        assert_eq!((latencies[5], latencies[6]), (1, 1)); // 40 ns and 100 ns
        for request in pair {
            request.finish(Ok(()));
        }
    }
}
