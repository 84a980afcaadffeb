//! Everything that waits for one disk, and what may be served next.
//!
//! 1. Requests that share a sector, one of them changing it, are served in the order in which they
//!    came: the later is held until the earlier is over. It lends the earlier its urgency.
//! 2. Page-ins go before callers, callers before background; a class that is passed over gets one
//!    dispatch in [`SHARE`], and every other one when it has waited for [`AGED_NANOS`].
//! 3. Flushes that wait are served by one command, and never twice in a row while others wait.
//! 4. Of an ordered medium everything is served exactly as it came.
//! 5. Requests that lie together, of the same kind and class, are served by one command.

use super::extents::Extents;
use super::lane::Lane;
use super::scheduler::{Entry, Scheduler};
use crate::contract::{Class, Op, Request, Sector, SimTime};
use std::collections::{BTreeMap, VecDeque};

/// Dispatches of more urgent classes that a class waits out.
pub const SHARE: u32 = 8;
/// A class that has waited this long gets every other dispatch.
pub const AGED_NANOS: u64 = 1_000_000_000;

/// A request on its way.
pub(super) struct Job {
    /// Number of its arrival; kept through all tries.
    pub(super) id: u64,
    pub(super) request: Request,
    /// How urgent, also for those whom it holds up.
    class: Class,
    /// Sectors already served.
    pub(super) served: u64,
    /// Sectors in the transfer under way.
    pub(super) part: u64,
    /// Tries that failed, but may succeed when repeated.
    pub(super) tries: u32,
    /// Not to be merged any more: a transfer it was merged into failed.
    pub(super) is_alone: bool,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Behind the request of this number.
    Held(u64),
    /// In the lane of its class.
    Lane,
    /// In a list of its own: a flush, or one to be tried again.
    Listed,
    /// Being served.
    Serving,
}

impl Job {
    /// First sector not yet served.
    pub(super) fn at(&self) -> Sector {
        Sector(self.request.sector.0 + self.served)
    }

    /// Sectors not yet served.
    pub(super) fn left(&self) -> u64 {
        self.request.sectors - self.served
    }

    fn entry(&self) -> Entry {
        let (op, queued_at) = (self.request.op, self.request.queued_at);
        Entry { id: self.id, sector: self.at(), op, queued_at }
    }

    fn kind(&self) -> Kind {
        (self.request.op, self.request.fua, self.class)
    }

    fn may_join(&self) -> bool {
        self.place == Place::Lane && self.served == 0 && !self.is_alone
    }
}

/// What is being served, in the eyes of those who overlap it.
struct Serving {
    id: u64,
    start: u64,
    end: u64,
    is_change: bool,
}

/// See the head of this file.
pub(super) struct Waits {
    /// All who wait, by arrival.
    jobs: BTreeMap<u64, Job>,
    /// One a class, most urgent first.
    lanes: [Lane; 3],
    /// Dispatches since each lane was served, or had nothing waiting.
    passed_over: [u32; 3],
    flushes: VecDeque<u64>,
    flush_passed_over: u32,
    last_was_flush: bool,
    /// To be tried again, before everything else.
    again: VecDeque<u64>,
    reads: Extents,
    changes: Extents,
    /// Who is held behind whom.
    held: BTreeMap<u64, Vec<u64>>,
    serving: Option<Serving>,
    arrivals: u64,
    is_ordered: bool,
}

impl Waits {
    pub(super) fn new(make: impl Fn() -> Box<dyn Scheduler>, is_ordered: bool) -> Waits {
        Waits {
            jobs: BTreeMap::new(),
            lanes: [Lane::new(make()), Lane::new(make()), Lane::new(make())],
            passed_over: [0; 3],
            flushes: VecDeque::new(),
            flush_passed_over: 0,
            last_was_flush: false,
            again: VecDeque::new(),
            reads: Extents::default(),
            changes: Extents::default(),
            held: BTreeMap::new(),
            serving: None,
            arrivals: 0,
            is_ordered,
        }
    }

    pub(super) fn scheduler_name(&self) -> &'static str {
        self.lanes[0].scheduler_name()
    }

    pub(super) fn change_scheduler(&mut self, make: impl Fn() -> Box<dyn Scheduler>) {
        for lane in &mut self.lanes {
            lane.change_scheduler(make());
        }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Those who wait, in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// A new request, checked at the door.
    pub(super) fn put(&mut self, request: Request) {
        self.arrivals += 1;
        let (id, class) = (self.arrivals, request.origin.class);
        let place = Place::Listed;
        let job = Job { id, request, class, served: 0, part: 0, tries: 0, is_alone: false, place };
        let blocker = self.latest_before(&job);
        self.enter(job, blocker);
    }

    /// One whose rest waits like everybody.
    pub(super) fn put_rest(&mut self, job: Job) {
        self.enter(job, None);
    }

    /// Some who are to be tried again, before everybody.
    pub(super) fn put_again(&mut self, jobs: Vec<Job>) {
        for mut job in jobs.into_iter().rev() {
            job.place = Place::Listed;
            self.again.push_front(job.id);
            self.index(&job);
            self.jobs.insert(job.id, job);
        }
    }

    /// Takes out what to serve next, at most `longest` sectors, into the empty `batch`, in
    /// ascending order. It stays empty when nothing waits.
    pub(super) fn next(&mut self, head: Sector, now: SimTime, longest: u64, batch: &mut Vec<Job>) {
        let Some(lead) = self.choose(head, now).and_then(|id| self.take(id)) else { return };
        if lead.request.op == Op::Flush {
            return self.take_flushes(lead, batch);
        }
        if self.is_ordered || lead.is_alone || lead.left() > longest {
            batch.push(lead);
        } else {
            self.merge(lead, longest, batch);
        }
        for job in batch.iter_mut() {
            job.part = job.left().min(longest);
        }
        if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
            self.serving = Some(Serving {
                id: first.id,
                start: first.request.sector.0,
                end: last.request.end().0,
                is_change: first.request.op != Op::Read,
            });
        }
    }

    /// What was served is over, or put back next.
    pub(super) fn served(&mut self) {
        self.serving = None;
    }

    /// The request of this number is over: who was held by it may go, or waits for another.
    pub(super) fn release(&mut self, id: u64) {
        for waiter in self.held.remove(&id).into_iter().flatten() {
            let Some(job) = self.jobs.get(&waiter) else { continue };
            match self.any_before(job) {
                Some(blocker) => self.hold(waiter, blocker),
                None => self.make_ready(waiter),
            }
        }
    }

    /// Takes out everything, in the order in which it came.
    pub(super) fn drain(&mut self) -> Vec<Job> {
        let jobs = std::mem::take(&mut self.jobs);
        for job in jobs.values().filter(|job| job.place == Place::Lane) {
            self.lanes[job.class as usize].remove(job.id);
        }
        self.flushes.clear();
        self.again.clear();
        self.held.clear();
        self.reads = Extents::default();
        self.changes = Extents::default();
        jobs.into_values().collect()
    }

    fn enter(&mut self, mut job: Job, blocker: Option<u64>) {
        let id = job.id;
        job.place = Place::Listed;
        self.index(&job);
        self.jobs.insert(id, job);
        match blocker {
            Some(blocker) => self.hold(id, blocker),
            None => self.make_ready(id),
        }
    }

    fn hold(&mut self, id: u64, blocker: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.place = Place::Held(blocker);
        let class = job.class;
        self.held.entry(blocker).or_default().push(id);
        self.hurry(blocker, class);
    }

    /// Makes a request, and whom it waits for, as urgent as one that it holds up.
    fn hurry(&mut self, mut id: u64, class: Class) {
        while let Some(job) = self.jobs.get_mut(&id)
            && job.class > class
        {
            let old = std::mem::replace(&mut job.class, class);
            match job.place {
                Place::Held(blocker) => id = blocker,
                Place::Lane => {
                    let (entry, pid) = (job.entry(), job.request.origin.pid);
                    self.lanes[old as usize].remove(id);
                    self.lanes[class as usize].add(entry, pid);
                    return;
                }
                Place::Listed | Place::Serving => return,
            }
        }
    }

    fn make_ready(&mut self, id: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.request.op == Op::Flush {
            self.flushes.push_back(id);
        } else if !self.is_ordered {
            job.place = Place::Lane;
            self.lanes[job.class as usize].add(job.entry(), job.request.origin.pid);
        }
    }

    /// Some earlier request that this new one must not overtake, the latest if there are many of
    /// the same kind: each then waits in a chain for the one before, not all for the first.
    fn latest_before(&self, job: &Job) -> Option<u64> {
        let (start, end) = (job.request.sector.0, job.request.end().0);
        let changes = self.changes.overlapping(start, end);
        let reads =
            if job.request.op == Op::Read { None } else { self.reads.overlapping(start, end) };
        changes.max(reads).or_else(|| self.serving_before(job))
    }

    /// The same for one that has waited already: later ones do not count.
    fn any_before(&self, job: &Job) -> Option<u64> {
        let (start, end) = (job.request.sector.0, job.request.end().0);
        let earlier = |among: &Extents| among.overlapping_before(start, end, job.id);
        let reads = if job.request.op == Op::Read { None } else { earlier(&self.reads) };
        reads.or_else(|| earlier(&self.changes)).or_else(|| self.serving_before(job))
    }

    fn serving_before(&self, job: &Job) -> Option<u64> {
        let serving = self.serving.as_ref()?;
        let overlaps = serving.start < job.request.end().0 && serving.end > job.request.sector.0;
        let changes = serving.is_change || job.request.op != Op::Read;
        (overlaps && changes).then_some(serving.id)
    }

    fn extents(&mut self, op: Op) -> Option<&mut Extents> {
        match op {
            Op::Flush => None,
            Op::Read => Some(&mut self.reads),
            Op::Write | Op::Discard | Op::Zero => Some(&mut self.changes),
        }
    }

    fn index(&mut self, job: &Job) {
        let (start, end) = (job.request.sector.0, job.request.end().0);
        if let Some(extents) = self.extents(job.request.op) {
            extents.insert(start, end, job.id);
        }
    }

    /// Takes a request out of the books; the lane has let go of it.
    fn take(&mut self, id: u64) -> Option<Job> {
        let mut job = self.jobs.remove(&id)?;
        job.place = Place::Serving;
        let (start, end) = (job.request.sector.0, job.request.end().0);
        if let Some(extents) = self.extents(job.request.op) {
            extents.remove(start, end, id);
        }
        Some(job)
    }

    fn choose(&mut self, head: Sector, now: SimTime) -> Option<u64> {
        if let Some(id) = self.again.pop_front() {
            return Some(id);
        }
        if self.is_ordered {
            let id = *self.jobs.first_key_value()?.0;
            self.flushes.retain(|flush| *flush != id);
            return Some(id);
        }
        let lane = self.choose_lane(now);
        if self.is_turn_of_flush(lane) {
            self.last_was_flush = true;
            self.flush_passed_over = 0;
            return self.flushes.pop_front();
        }
        self.last_was_flush = false;
        let lane = lane?;
        for (other, passed_over) in self.passed_over.iter_mut().enumerate() {
            let waits = other != lane && !self.lanes[other].is_empty();
            *passed_over = if waits { *passed_over + 1 } else { 0 };
        }
        self.lanes[lane].next(head, now)
    }

    fn choose_lane(&self, now: SimTime) -> Option<usize> {
        let mut waiting = (0..self.lanes.len()).filter(|lane| !self.lanes[*lane].is_empty());
        let first = waiting.next()?;
        let neglected = waiting.find(|lane| {
            let since = self.lanes[*lane].waits_since().unwrap_or(now);
            let share = if now.since(since) > AGED_NANOS { 1 } else { SHARE };
            self.passed_over[*lane] >= share
        });
        Some(neglected.unwrap_or(first))
    }

    /// Whether the flushes go now, `lane` being whose turn it is else.
    fn is_turn_of_flush(&mut self, lane: Option<usize>) -> bool {
        let classes = self.flushes.iter().filter_map(|id| self.jobs.get(id));
        let Some(class) = classes.map(|job| job.class as usize).min() else { return false };
        let Some(lane) = lane else { return true };
        if self.last_was_flush || (lane < class && self.flush_passed_over < SHARE) {
            self.flush_passed_over += 1;
            return false;
        }
        true
    }

    /// One flush serves for all that wait: whatever was finished before any of them came was
    /// finished before this one starts.
    fn take_flushes(&mut self, lead: Job, batch: &mut Vec<Job>) {
        let shares = !lead.is_alone && !self.is_ordered;
        batch.push(lead);
        if shares {
            for id in std::mem::take(&mut self.flushes) {
                batch.extend(self.take(id));
            }
        }
    }

    /// Puts `lead` into `batch`, between all its neighbours that go with it.
    fn merge(&mut self, lead: Job, longest: u64, batch: &mut Vec<Job>) {
        let kind = lead.kind();
        let mut room = longest - lead.left();
        let mut start = lead.at();
        while lead.served == 0
            && let Some(job) = self.take_neighbour(kind, Side::Below(start), room)
        {
            room -= job.left();
            start = job.at();
            batch.push(job);
        }
        batch.reverse();
        let mut end = lead.request.end();
        batch.push(lead);
        while let Some(job) = self.take_neighbour(kind, Side::Above(end), room) {
            room -= job.left();
            end = job.request.end();
            batch.push(job);
        }
    }

    fn take_neighbour(&mut self, kind: Kind, side: Side, room: u64) -> Option<Job> {
        if room == 0 {
            return None;
        }
        let fits = |id: &u64| {
            let job = self.jobs.get(id);
            job.is_some_and(|job| job.may_join() && job.kind() == kind && job.left() <= room)
        };
        let extents = if kind.0 == Op::Read { &self.reads } else { &self.changes };
        let id = match side {
            Side::Below(at) => extents.ending_at(at.0).take(NEIGHBOURS_MAX).find(fits),
            Side::Above(at) => extents.starting_at(at.0).take(NEIGHBOURS_MAX).find(fits),
        }?;
        self.lanes[kind.2 as usize].remove(id);
        self.take(id)
    }
}

/// Requests at the same place that are looked at before merging is given up.
const NEIGHBOURS_MAX: usize = 8;

/// What must be the same in requests served by one command: op, FUA, class.
type Kind = (Op, bool, Class);

enum Side {
    Below(Sector),
    Above(Sector),
}
