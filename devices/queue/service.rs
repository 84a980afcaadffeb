//! The service of one disk: starts transfers, hears interrupts, decides what a failure means.
//!
//! All of it runs under the queue's lock; what is over is collected in [`Fates`] and told after.
//!
//! 1. At most one transfer is under way, and none starts while the queue is held or the unit
//!    broken. A transfer that is over has the next one started before anybody is told.
//! 2. A transfer of several requests that fails is undone: each is tried alone, so that a bad
//!    sector fails those only who asked for it.
//! 3. `Transient` is tried again, up to `retries` times. `Hardware`, `Timeout` and silence break
//!    the unit: everything fails, at once, until it is repaired.
//! 4. A controller that panics fails the request it was given, and is reset.

use super::disk::{DiskQueue, block_sectors};
use super::options::{QueueOptions, check_scheduler};
use super::scheduler::{Scheduler, scheduler};
use super::waits::{Job, Waits};
use super::{Controller, Piece, Progress, Transfer, accounts::Accounts};
use crate::contract::{
    Clock, Failure, IoError, LoggedError, Op, Origin, Request, SECTOR_SIZE, Sector, SimTime,
    UnitCommand, Waiting,
};
use crate::engine::{Engine, EventId};
use crate::sync::Arc;
use crate::trace::Trace;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;

/// Failures kept in a unit's error log; the oldest gives way.
pub const ERRORS_MAX: usize = 64;

/// Requests that are over and what became of them, to be told with no lock held.
#[derive(Default)]
pub(super) struct Fates(Vec<(Request, Result<(), Failure>)>);

impl Fates {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn tell(self) {
        for (request, fate) in self.0 {
            request.finish(fate);
        }
    }
}

/// See the head of this file. The queue's lock guards all of it.
pub(super) struct Service {
    name: String,
    engine: Arc<Engine>,
    me: Weak<DiskQueue>,
    pub(super) controller: Box<dyn Controller>,
    pub(super) waits: Waits,
    active: Option<Active>,
    /// The end of the last transfer.
    head: Sector,
    pub(super) accounts: Accounts,
    /// The last failure, none after a success.
    pub(super) sense: Option<Failure>,
    /// The last failures, oldest first.
    pub(super) errors: VecDeque<LoggedError>,
    pub(super) trace: Option<Arc<Trace>>,
    /// Why the unit does not function.
    pub(super) broken: Option<Failure>,
    pub(super) is_paused: bool,
    pub(super) is_frozen: bool,
    pub(super) retries: u32,
    pub(super) timeout_nanos: u64,
    /// Looks whether the hardware is silent. There is none while nothing is active.
    watchdog: Option<EventId>,
    /// Empty, kept for their room.
    spare: (Vec<Job>, Vec<Piece>),
}

struct Active {
    transfer: Transfer,
    jobs: Vec<Job>,
    /// When it was started, or last gave a sign of life.
    alive_at: SimTime,
}

/// How a transfer ended.
enum End {
    Done,
    Failed(Failure),
    Panicked,
}

impl Service {
    pub(super) fn new(
        name: String,
        engine: Arc<Engine>,
        controller: Box<dyn Controller>,
        options: QueueOptions,
        me: Weak<DiskQueue>,
    ) -> Service {
        let is_ordered = controller.geometry().is_ok_and(|geometry| geometry.ordered);
        let wanted = if is_ordered { "fifo".to_string() } else { options.scheduler };
        if check_scheduler(&wanted, is_ordered).is_err() {
            log::warn!(target: "queue", "{name}: no scheduler is called {wanted:?}");
        }
        let make = || scheduler(&wanted).unwrap_or_default();
        Service {
            waits: Waits::new(make, is_ordered),
            name,
            engine,
            me,
            controller,
            active: None,
            head: Sector(0),
            accounts: Accounts::default(),
            sense: None,
            errors: VecDeque::new(),
            trace: options.trace,
            broken: None,
            is_paused: false,
            is_frozen: false,
            retries: options.retries,
            timeout_nanos: options.timeout_nanos.max(1),
            watchdog: None,
            spare: (Vec::new(), Vec::new()),
        }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.waits.is_ordered()
    }

    /// What is being served.
    pub(super) fn current(&self) -> Option<Waiting> {
        let active = self.active.as_ref()?;
        let first = &active.jobs.first()?.request;
        let end = active.jobs.last()?.request.end();
        let age_nanos = self.engine.now().since(first.queued_at);
        let (origin, op, sector) = (first.origin, first.op, first.sector);
        Some(Waiting { origin, op, sector, sectors: end.0 - sector.0, age_nanos })
    }

    /// Takes a request that was checked, and starts it if nothing is under way.
    pub(super) fn accept(&mut self, mut request: Request, fates: &mut Fates) {
        request.queued_at = self.engine.now();
        self.accounts.came(request.queued_at);
        log::debug!(target: "queue", "{}: {request:?} id {} comes", self.name, request.origin.id);
        self.note(request.origin, "insert step=3", &request);
        if self.may_start() && self.waits.len() == 0 {
            let (mut jobs, pieces) = std::mem::take(&mut self.spare);
            self.waits.pass(request, self.longest(), &mut jobs);
            self.start(jobs, pieces, fates);
        } else {
            self.waits.put(request);
        }
        self.start_next(fates);
    }

    /// Notes what is done with a request.
    fn note(&self, origin: Origin, event: &'static str, request: &Request) {
        if let Some(trace) = self.trace.as_ref().filter(|trace| trace.is_on()) {
            let (op, at, count) = (request.op.name(), request.sector.0, request.sectors);
            let detail = || format!("{} {op} sector={at} count={count}", self.name);
            trace.note(origin, "queue", event, detail);
        }
    }

    /// The controller raised its line.
    pub(super) fn interrupt(&mut self, fates: &mut Fates) {
        if let Some(job) = self.active.as_ref().and_then(|active| active.jobs.first()) {
            self.note(job.request.origin, "handle step=7", &job.request);
        }
        let Some(active) = self.active.as_mut() else { return };
        let controller = &mut self.controller;
        match guarded(&self.name, || controller.interrupt(&mut active.transfer)) {
            Some(Progress::Spurious) => return,
            Some(Progress::Continues) => {
                active.alive_at = self.engine.now();
                return;
            }
            Some(Progress::Finished(Ok(()))) => self.end(End::Done, fates),
            Some(Progress::Finished(Err(failure))) => self.end(End::Failed(failure), fates),
            None => self.end(End::Panicked, fates),
        }
        self.start_next(fates);
    }

    /// The watchdog's event: has the hardware given a sign of life in time?
    pub(super) fn look(&mut self, fates: &mut Fates) {
        self.watchdog = None;
        let Some(active) = self.active.as_mut() else { return };
        let quiet = self.engine.now().since(active.alive_at);
        if quiet < self.timeout_nanos {
            return self.arm(self.timeout_nanos - quiet);
        }
        // Another event runs: it may be this hardware's, kept by a slow host (fdatasync).
        if self.engine.running() > 1 {
            return self.arm(self.timeout_nanos);
        }
        let controller = &mut self.controller;
        guarded(&self.name, || controller.reset(Some(&mut active.transfer)));
        self.end(End::Failed(IoError::Timeout.into()), fates);
    }

    /// Does what the operator says.
    pub(super) fn command(&mut self, word: UnitCommand, fates: &mut Fates) -> Result<(), IoError> {
        if matches!(word, UnitCommand::Repair | UnitCommand::Reset) {
            self.disarm(); // while nothing is under way nothing can be silent
        }
        let controller = &mut self.controller;
        let answer = match word {
            UnitCommand::Pause | UnitCommand::Resume => Ok(()),
            _ => guarded(&self.name, || controller.command(word)).unwrap_or(Err(IoError::Hardware)),
        };
        match word {
            UnitCommand::Pause => self.is_paused = true,
            UnitCommand::Resume => self.is_paused = false,
            UnitCommand::Freeze => {
                answer?;
                self.is_frozen = true;
                self.disarm();
            }
            UnitCommand::Thaw => {
                answer?;
                self.thaw();
            }
            UnitCommand::Repair | UnitCommand::Reset => {
                if answer != Err(IoError::Unsupported) {
                    answer?;
                }
                self.reset(fates);
                if word == UnitCommand::Repair {
                    self.broken = None;
                    self.sense = None;
                }
            }
        }
        self.start_next(fates);
        Ok(())
    }

    /// Takes the watchdog's event back.
    pub(super) fn disarm(&mut self) {
        if let Some(event) = self.watchdog.take() {
            self.engine.cancel(event);
        }
    }

    fn arm(&mut self, nanos: u64) {
        if self.watchdog.is_none() && !self.is_frozen {
            let me = self.me.clone();
            let look = move || {
                if let Some(disk) = me.upgrade() {
                    disk.look();
                }
            };
            self.watchdog = Some(self.engine.after(nanos, look));
        }
    }

    fn thaw(&mut self) {
        self.is_frozen = false;
        if let Some(active) = &mut self.active {
            active.alive_at = self.engine.now();
            self.arm(self.timeout_nanos);
        }
    }

    /// Back to the state after power-on; what was under way is to be started again.
    fn reset(&mut self, fates: &mut Fates) {
        if self.is_frozen {
            let controller = &mut self.controller;
            guarded(&self.name, || controller.command(UnitCommand::Thaw));
            self.is_frozen = false;
        }
        let mut active = self.active.take();
        let controller = &mut self.controller;
        let transfer = active.as_mut().map(|active| &mut active.transfer);
        let is_reset = guarded(&self.name, || controller.reset(transfer)).is_some();
        if let Some(mut active) = active {
            let is_whole = take_memory_back(&mut active);
            self.waits.served();
            if is_whole {
                self.waits.put_again(active.jobs);
            } else {
                self.finish(&mut active.jobs, Err(IoError::Hardware.into()), fates);
            }
        }
        if !is_reset {
            self.break_down(IoError::Hardware.into(), fates);
        }
    }

    fn may_start(&self) -> bool {
        self.active.is_none() && !self.is_paused && !self.is_frozen && self.broken.is_none()
    }

    fn start_next(&mut self, fates: &mut Fates) {
        while self.may_start() && self.waits.len() > 0 {
            let (mut jobs, pieces) = std::mem::take(&mut self.spare);
            let head = self.controller.head().unwrap_or(self.head);
            self.waits.next(head, self.engine.now(), self.longest(), &mut jobs);
            if jobs.is_empty() {
                break;
            }
            self.start(jobs, pieces, fates);
        }
        if self.active.is_none() {
            self.disarm();
        }
    }

    fn start(&mut self, mut jobs: Vec<Job>, pieces: Vec<Piece>, fates: &mut Fates) {
        for job in &jobs {
            self.note(job.request.origin, "dispatch step=4", &job.request);
        }
        let Some(transfer) = transfer_of(&mut jobs, pieces) else { return };
        let active = self.active.insert(Active { transfer, jobs, alive_at: SimTime(0) });
        let controller = &mut self.controller;
        match guarded(&self.name, || controller.start(&mut active.transfer)) {
            Some(Ok(())) => {
                active.alive_at = self.engine.now(); // the host may have taken its time
                self.accounts.commanded();
                self.arm(self.timeout_nanos);
            }
            Some(Err(failure)) => self.end(End::Failed(failure), fates),
            None => self.end(End::Panicked, fates),
        }
    }

    /// Longest transfer, in sectors: what the hardware takes, in whole blocks, at least one.
    fn longest(&self) -> u64 {
        let Ok(geometry) = self.controller.geometry() else { return 1 };
        let block = block_sectors(&geometry);
        let longest = u64::from(geometry.transfer_max);
        (longest - longest % block).max(block)
    }

    /// The active transfer is over.
    fn end(&mut self, end: End, fates: &mut Fates) {
        let Some(mut active) = self.active.take() else { return };
        let controller = &mut self.controller;
        let is_reset = match &end {
            End::Panicked => {
                guarded(&self.name, || controller.reset(Some(&mut active.transfer))).is_some()
            }
            End::Done | End::Failed(_) => true,
        };
        self.head = Sector(active.transfer.sector.0 + active.transfer.sectors);
        let is_whole = take_memory_back(&mut active);
        self.waits.served();
        let mut jobs = active.jobs;
        match end {
            End::Failed(failure) if breaks(failure) => self.failed(failure, &mut jobs, fates),
            // What was to be written is gone: there is nothing to try again with.
            _ if !is_whole => self.finish(&mut jobs, Err(IoError::Hardware.into()), fates),
            End::Done => self.succeeded(&mut jobs, fates),
            End::Failed(failure) => self.failed(failure, &mut jobs, fates),
            End::Panicked if jobs.len() > 1 && is_reset => self.undo(&mut jobs, 0),
            End::Panicked => self.finish(&mut jobs, Err(IoError::Hardware.into()), fates),
        }
        active.transfer.pieces.clear();
        jobs.clear();
        self.spare = (jobs, active.transfer.pieces);
        if !is_reset {
            self.break_down(IoError::Hardware.into(), fates);
        }
    }

    fn succeeded(&mut self, jobs: &mut Vec<Job>, fates: &mut Fates) {
        let Some(op) = jobs.first().map(|job| job.request.op) else { return };
        let mut left = 0;
        for job in jobs.iter_mut() {
            self.accounts.transferred(op, job.part);
            job.served += job.part;
            left += job.left();
        }
        self.sense = None;
        if left == 0 {
            return self.finish(jobs, Ok(()), fates);
        }
        for job in jobs.drain(..) {
            self.waits.put_rest(job);
        }
    }

    fn failed(&mut self, failure: Failure, jobs: &mut Vec<Job>, fates: &mut Fates) {
        match failure.error {
            _ if breaks(failure) => {
                self.finish(jobs, Err(failure), fates);
                let controller = &mut self.controller;
                guarded(&self.name, || controller.reset(None));
                self.break_down(failure, fates);
            }
            IoError::Transient => {
                let is_last = jobs.iter().any(|job| job.tries >= self.retries);
                if is_last && jobs.len() == 1 {
                    self.finish(jobs, Err(failure), fates);
                } else {
                    self.undo(jobs, 1);
                }
            }
            _ if jobs.len() > 1 => self.undo(jobs, 0),
            _ => self.finish(jobs, Err(failure), fates),
        }
    }

    /// Puts the requests of a failed transfer back, each to be tried alone.
    fn undo(&mut self, jobs: &mut Vec<Job>, tries: u32) {
        self.accounts.retried();
        for job in jobs.iter_mut() {
            job.is_alone = true;
            job.tries += tries;
        }
        self.waits.put_again(std::mem::take(jobs));
    }

    /// These requests are over.
    fn finish(&mut self, jobs: &mut Vec<Job>, fate: Result<(), Failure>, fates: &mut Fates) {
        let Some(op) = jobs.first().map(|job| job.request.op) else { return };
        let now = self.engine.now();
        self.accounts.completed(op, jobs.iter().map(|job| &job.request), now);
        for job in jobs.drain(..) {
            let (name, request) = (&self.name, job.request);
            self.accounts.settled(request.op, job.tries, fate.is_ok());
            match fate {
                Ok(()) => {
                    let id = request.origin.id;
                    log::debug!(target: "queue", "{name}: {request:?} id {id} done");
                }
                Err(failure) => {
                    log::warn!(target: "queue", "{name}: {request:?}: {failure}");
                    self.sense = Some(failure);
                    log_error(&mut self.errors, &request, failure, now);
                }
            }
            self.waits.release(job.id);
            fates.0.push((request, fate));
        }
    }

    /// The unit does not function any more: whatever waits fails at once.
    fn break_down(&mut self, failure: Failure, fates: &mut Fates) {
        let is_hardware = failure.error == IoError::Hardware;
        let verdict = if is_hardware { failure } else { IoError::Hardware.into() };
        log::warn!(target: "queue", "{}: {failure}; not functioning until repaired", self.name);
        self.broken = Some(verdict);
        self.sense = Some(failure);
        let jobs = self.waits.drain();
        self.accounts.gave_up(jobs.len() as u64, self.engine.now());
        fates.0.extend(jobs.into_iter().map(|job| (job.request, Err(verdict))));
    }
}

/// Whether such a failure is the end of the unit, until it is repaired.
fn breaks(failure: Failure) -> bool {
    matches!(failure.error, IoError::Hardware | IoError::Timeout)
}

fn log_error(log: &mut VecDeque<LoggedError>, request: &Request, failure: Failure, at: SimTime) {
    if log.len() == ERRORS_MAX {
        log.pop_front();
    }
    let (op, sector, origin) = (request.op, request.sector, request.origin);
    log.push_back(LoggedError { at, op, sector, origin, failure });
}

/// Moves the memory of `jobs` into a transfer; `pieces` is empty, its room is used.
fn transfer_of(jobs: &mut [Job], mut pieces: Vec<Piece>) -> Option<Transfer> {
    let first = jobs.first()?;
    let (op, fua, sector) = (first.request.op, first.request.fua, first.at());
    let pid = first.request.origin.pid;
    let sectors = jobs.iter().map(|job| job.part).sum();
    if matches!(op, Op::Read | Op::Write) {
        for job in jobs {
            let memory = std::mem::take(&mut job.request.data);
            let (from, len) = (bytes(job.served), bytes(job.part));
            pieces.push(Piece { memory, from, len });
        }
    }
    Some(Transfer { op, sector, sectors, fua, pid, pieces })
}

/// Moves the memory back to the requests. `false` when a careless driver lost some: zeros take its
/// place, so that the length is what it was.
fn take_memory_back(active: &mut Active) -> bool {
    let mut is_whole = true;
    let mut pieces = active.transfer.pieces.drain(..);
    for job in &mut active.jobs {
        let request = &mut job.request;
        if matches!(request.op, Op::Read | Op::Write) {
            request.data = pieces.next().map(|piece| piece.memory).unwrap_or_default();
            is_whole &= request.data.len() == bytes(request.sectors);
            request.data.resize(bytes(request.sectors), 0);
        }
    }
    is_whole
}

/// A number of sectors that stands for memory there is.
fn bytes(sectors: u64) -> usize {
    usize::try_from(sectors).unwrap_or(usize::MAX).saturating_mul(SECTOR_SIZE)
}

/// `None` when the driver panicked.
fn guarded<T>(name: &str, call: impl FnOnce() -> T) -> Option<T> {
    let answer = catch_unwind(AssertUnwindSafe(call)).ok();
    if answer.is_none() {
        log::error!(target: "queue", "{name}: the driver panicked; its request fails");
    }
    answer
}

impl Default for Box<dyn Scheduler> {
    fn default() -> Self {
        Box::new(super::clook::Clook::default())
    }
}
