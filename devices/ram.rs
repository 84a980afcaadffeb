//! ram: a disk in memory. There is no controller: requests are served at the next crank, in the
//! order in which they came.

use crate::contract::{
    AttachError, Attached, BlockDevice, Clock, Counters, Driver, Failure, Geometry, IoError, Key,
    Kind, Op, Rejected, Request, SECTOR_SIZE, Sector, State, Status, UnitConfig,
};
use crate::engine::Engine;
use crate::machine::Machine;
use crate::medium::{Medium, RamMedium};
use crate::sync::{Arc, Mutex};
use std::collections::VecDeque;

/// The driver.
pub struct Ram;

static KEYS: [Key; 1] = [Key { name: "size", kind: Kind::Size, default: "16M", doc: "capacity" }];

/// Longest request, in sectors.
const TRANSFER_MAX: u32 = 1 << 20;

impl Driver for Ram {
    fn name(&self) -> &'static str {
        "ram"
    }

    fn block_major(&self) -> Option<u16> {
        Some(1)
    }

    /// Linux's number of raw devices: character row 1 is that of the memory devices.
    fn char_major(&self) -> Option<u16> {
        Some(162)
    }

    fn section(&self) -> &'static str {
        "disk"
    }

    fn keys(&self) -> &'static [Key] {
        &KEYS
    }

    fn attach(&self, unit: &UnitConfig, machine: &Machine) -> Result<Attached, AttachError> {
        let bytes = unit.number("size").unwrap_or(16 << 20);
        if bytes == 0 || !bytes.is_multiple_of(SECTOR_SIZE as u64) {
            let words = format!("{bytes} is no multiple of {SECTOR_SIZE}");
            return Err(AttachError::value(unit, "size", words));
        }
        let medium = RamMedium::new(bytes);
        let engine = Arc::clone(&machine.engine);
        let disk = RamUnit(Arc::new(RamDisk { engine, medium, work: Mutex::default() }));
        let (address, character) = ("memory".into(), Vec::new());
        Ok(Attached { address, block: Some(Arc::new(disk)), character })
    }
}

struct RamUnit(Arc<RamDisk>);

struct RamDisk {
    engine: Arc<Engine>,
    medium: RamMedium,
    work: Mutex<Work>,
}

#[derive(Default)]
struct Work {
    waiting: VecDeque<Request>,
    is_scheduled: bool,
    counters: Counters,
    sense: Option<Failure>,
}

impl RamDisk {
    /// Serves the first that waits, and sees to it that the next will be.
    fn serve(self: &Arc<Self>) {
        let Some(mut request) = self.work.lock().waiting.pop_front() else { return };
        let fate = self.transfer(&mut request).map_err(Failure::from);
        let nanos = self.engine.now().since(request.queued_at);
        let mut work = self.work.lock();
        work.sense = fate.err();
        count(&mut work.counters, &request, nanos);
        work.is_scheduled = !work.waiting.is_empty();
        if work.is_scheduled {
            self.schedule();
        }
        drop(work);
        request.finish(fate);
    }

    fn schedule(self: &Arc<Self>) {
        let disk = Arc::clone(self);
        self.engine.after(0, move || disk.serve());
    }

    fn transfer(&self, request: &mut Request) -> Result<(), IoError> {
        let (at, len) = (request.sector.byte(), request.sectors * SECTOR_SIZE as u64);
        match request.op {
            Op::Read => self.medium.read_at(at, &mut request.data),
            Op::Write => self.medium.write_at(at, &request.data),
            Op::Flush => Ok(()),
            Op::Discard => self.medium.discard(at, len),
            Op::Zero => self.medium.zero(at, len),
        }
    }

    fn check(&self, request: &Request) -> Result<(), IoError> {
        if request.op == Op::Flush {
            return Ok(());
        }
        let carries = matches!(request.op, Op::Read | Op::Write);
        let wanted =
            if carries { request.sectors.checked_mul(SECTOR_SIZE as u64) } else { Some(0) };
        if request.sectors == 0 || wanted != Some(request.data.len() as u64) {
            return Err(IoError::Invalid);
        }
        let end = request.sector.0.checked_add(request.sectors);
        let sectors = self.medium.bytes() / SECTOR_SIZE as u64;
        if end.is_some_and(|end| end <= sectors) { Ok(()) } else { Err(IoError::Range) }
    }
}

fn count(counters: &mut Counters, request: &Request, nanos: u64) {
    counters.in_flight -= 1;
    counters.commands += 1;
    counters.busy_nanos += nanos;
    counters.queue_nanos += nanos;
    let direction = match request.op {
        Op::Read => &mut counters.read,
        Op::Write | Op::Zero => &mut counters.write,
        Op::Discard => &mut counters.discard,
        Op::Flush => &mut counters.flush,
    };
    direction.ios += 1;
    direction.sectors += request.sectors;
    direction.nanos += nanos;
}

impl BlockDevice for RamUnit {
    fn geometry(&self) -> Result<Geometry, IoError> {
        let sectors = self.0.medium.bytes() / SECTOR_SIZE as u64;
        let (ordered, read_only) = (false, false);
        Ok(Geometry { sectors, sector_bytes: 512, transfer_max: TRANSFER_MAX, ordered, read_only })
    }

    fn submit(&self, mut request: Request) -> Result<(), Box<Rejected>> {
        if let Err(error) = self.0.check(&request) {
            return Err(Box::new(Rejected(error.into(), request)));
        }
        request.queued_at = self.0.engine.now();
        let mut work = self.0.work.lock();
        work.waiting.push_back(request);
        work.counters.in_flight += 1;
        if !std::mem::replace(&mut work.is_scheduled, true) {
            self.0.schedule();
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let work = self.0.work.lock();
        let state = if work.counters.in_flight > 0 { State::Busy } else { State::Idle };
        Status { state, current: None, queued: work.waiting.len() }
    }

    fn counters(&self) -> Counters {
        self.0.work.lock().counters
    }

    fn sense(&self) -> Option<Failure> {
        self.0.work.lock().sense
    }

    fn stored_from(&self, from: Sector) -> Option<(Sector, Sector)> {
        let (first, end) = self.0.medium.stored_from(from.byte())?;
        let size = SECTOR_SIZE as u64;
        Some((Sector(first / size), Sector(end.div_ceil(size))))
    }
}
