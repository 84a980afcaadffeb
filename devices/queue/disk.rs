//! The door of a disk: checks what comes in, tells what is going on, finishes what is over.
//!
//! 1. A request is refused at the door, untouched, or finished exactly once, with its memory.
//! 2. Requests are finished with no lock held, after the next transfer was started.
//! 3. A failure found while submitting is told by an event, not inside the call.

use super::kept::Kept;
use super::options::{QueueOptions, check_scheduler, format_time, parse_retries, parse_time};
use super::service::{Fates, Service};
use super::{Controller, scheduler};
use crate::contract::{
    BlockDevice, Clock, Counters, Failure, Geometry, IoError, Latencies, LoggedError, Op,
    PropertyError, Rejected, Request, SECTOR_SIZE, Sector, State, Status, UnitCommand, Waiting,
};
use crate::engine::Engine;
use crate::sync::{Arc, Mutex};

/// Most requests that may wait for one disk; more are refused with `Busy`.
pub const REQUESTS_MAX: usize = 1 << 18;

/// A disk: one controller and those who wait for it.
pub struct DiskQueue {
    engine: Arc<Engine>,
    service: Mutex<Service>,
    /// Taken before the service's lock: what is newest is written last.
    kept: Mutex<Kept>,
}

impl DiskQueue {
    /// A disk called `name`, served by `controller`, whose interrupt line calls
    /// [`DiskQueue::interrupt`]. An unknown scheduler is replaced by the default one.
    pub fn new(
        name: String,
        engine: Arc<Engine>,
        controller: Box<dyn Controller>,
        options: QueueOptions,
    ) -> Arc<DiskQueue> {
        Arc::new_cyclic(|me| {
            let clock = Arc::clone(&engine);
            let (kept, pages) = Kept::open(options.image.as_deref());
            let mut service = Service::new(name, engine, controller, options, me.clone());
            if let Some(pages) = pages {
                service.accounts.remember(pages);
            }
            DiskQueue { engine: clock, service: Mutex::new(service), kept: Mutex::new(kept) }
        })
    }

    /// The interrupt handler. Call it with no lock held; it runs the `Done` of what is over.
    pub fn interrupt(&self) {
        self.tell(Service::interrupt);
    }

    /// The hardware may have fallen silent.
    pub(super) fn look(&self) {
        self.tell(Service::look);
    }

    fn tell<T>(&self, work: impl FnOnce(&mut Service, &mut Fates) -> T) -> T {
        let mut fates = Fates::default();
        let (answer, is_news) = {
            let mut service = self.service.lock();
            (work(&mut service, &mut fates), service.accounts.has_news())
        };
        if is_news {
            self.keep();
        }
        fates.tell();
        answer
    }

    /// Writes down what went wrong. Waits for the host.
    fn keep(&self) {
        let mut kept = self.kept.lock();
        let news = self.service.lock().accounts.news(false);
        if let Some(pages) = news {
            kept.save(&pages);
        }
    }
}

impl Drop for DiskQueue {
    fn drop(&mut self) {
        let service = self.service.get_mut();
        service.disarm();
        if let Some(pages) = service.accounts.news(true) {
            self.kept.get_mut().save(&pages);
        }
    }
}

/// Why a request cannot be taken by a unit of this geometry.
fn check(request: &Request, geometry: &Geometry) -> Result<(), IoError> {
    if request.op == Op::Flush {
        return Ok(());
    }
    let carries_data = matches!(request.op, Op::Read | Op::Write);
    let data = if carries_data { request.sectors.checked_mul(SECTOR_SIZE as u64) } else { Some(0) };
    let block = block_sectors(geometry);
    let is_aligned =
        request.sector.0.is_multiple_of(block) && request.sectors.is_multiple_of(block);
    if request.sectors == 0 || !is_aligned || data != Some(request.data.len() as u64) {
        return Err(IoError::Invalid);
    }
    let end = request.sector.0.checked_add(request.sectors);
    if end.is_none_or(|end| end > geometry.sectors) {
        return Err(IoError::Range);
    }
    if geometry.read_only && request.op != Op::Read {
        return Err(IoError::WriteProtected);
    }
    Ok(())
}

/// Sectors in a block of the unit itself: everything is a multiple of it.
pub(super) fn block_sectors(geometry: &Geometry) -> u64 {
    (u64::from(geometry.sector_bytes) / SECTOR_SIZE as u64).max(1)
}

impl BlockDevice for DiskQueue {
    fn geometry(&self) -> Result<Geometry, IoError> {
        self.service.lock().controller.geometry()
    }

    fn submit(&self, request: Request) -> Result<(), Box<Rejected>> {
        let mut fates = Fates::default();
        let mut service = self.service.lock();
        let refusal = match (service.broken, service.controller.geometry()) {
            (Some(failure), _) => Some(failure),
            (None, Err(error)) => Some(error.into()),
            (None, Ok(_)) if service.waits.len() >= REQUESTS_MAX => Some(IoError::Busy.into()),
            (None, Ok(geometry)) => check(&request, &geometry).err().map(Failure::from),
        };
        if let Some(failure) = refusal {
            return Err(Box::new(Rejected(failure, request)));
        }
        service.accept(request, &mut fates);
        let is_news = service.accounts.has_news();
        drop(service);
        if is_news {
            self.keep();
        }
        if !fates.is_empty() {
            self.engine.after(0, move || fates.tell());
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let service = self.service.lock();
        let current = service.current();
        let state = if service.broken.is_some() {
            State::NotFunctioning
        } else if service.is_frozen {
            State::Frozen
        } else if service.is_paused {
            State::Paused
        } else if current.is_some() {
            State::Busy
        } else {
            State::Idle
        };
        Status { state, current, queued: service.waits.len() }
    }

    fn waiting(&self) -> Vec<Waiting> {
        let service = self.service.lock();
        let now = self.engine.now();
        let waiting = |request: &Request| Waiting {
            origin: request.origin,
            op: request.op,
            sector: request.sector,
            sectors: request.sectors,
            age_nanos: now.since(request.queued_at),
        };
        service.waits.iter().map(|job| waiting(&job.request)).collect()
    }

    fn counters(&self) -> Counters {
        self.service.lock().accounts.counters(self.engine.now())
    }

    fn forget_mishaps(&self, op: Option<Op>) {
        self.service.lock().accounts.forget_mishaps(op);
        self.keep();
    }

    fn latencies(&self) -> Latencies {
        self.service.lock().accounts.latencies()
    }

    fn sense(&self) -> Option<Failure> {
        self.service.lock().sense
    }

    fn error_log(&self) -> Vec<LoggedError> {
        self.service.lock().errors.iter().copied().collect()
    }

    fn command(&self, command: UnitCommand) -> Result<(), IoError> {
        self.tell(|service, fates| service.command(command, fates))
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        let service = self.service.lock();
        let mut properties = vec![
            ("scheduler", service.waits.scheduler_name().to_string()),
            ("retries", service.retries.to_string()),
            ("timeout", format_time(service.timeout_nanos)),
        ];
        properties.extend(service.controller.properties());
        properties
    }

    fn set_property(&self, name: &str, value: &str) -> Result<(), PropertyError> {
        let mut service = self.service.lock();
        match name {
            "scheduler" => {
                check_scheduler(value, service.is_ordered())?;
                service.waits.change_scheduler(|| scheduler(value).unwrap_or_default());
            }
            "retries" => service.retries = parse_retries(value)?,
            "timeout" => service.timeout_nanos = parse_time(value)?,
            _ => service.controller.set_property(name, value)?,
        }
        Ok(())
    }

    fn stored_from(&self, from: Sector) -> Option<(Sector, Sector)> {
        self.service.lock().controller.stored_from(from)
    }
}
