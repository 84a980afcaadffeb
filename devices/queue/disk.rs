//! A disk's queue at its simplest: one request after another, in the order in which they came.

use super::{Controller, Piece, Progress, Transfer};
use crate::contract::{
    BlockDevice, Clock, Failure, Geometry, IoError, Op, PropertyError, Rejected, Request, Sector,
    State, Status, UnitCommand,
};
use crate::engine::Engine;
use crate::sync::{Arc, Mutex};
use std::collections::VecDeque;

/// What can be chosen for a disk's queue.
#[derive(Clone, Debug)]
pub struct QueueOptions {
    /// Name of the scheduler.
    pub scheduler: String,
    /// How often a request that failed with `Transient` is tried again.
    pub retries: u32,
    /// After how many nanoseconds without a sign of life the hardware is given up.
    pub timeout_nanos: u64,
}

impl Default for QueueOptions {
    fn default() -> QueueOptions {
        QueueOptions { scheduler: "fifo".into(), retries: 5, timeout_nanos: 5_000_000_000 }
    }
}

/// See the head of this file.
pub struct DiskQueue {
    engine: Arc<Engine>,
    service: Mutex<Service>,
}

struct Service {
    controller: Box<dyn Controller>,
    waiting: VecDeque<Request>,
    active: Option<(Request, Transfer)>,
    sense: Option<Failure>,
}

type Fates = Vec<(Request, Result<(), Failure>)>;

impl DiskQueue {
    /// A disk called `name`, served by `controller`.
    pub fn new(
        _name: String,
        engine: Arc<Engine>,
        controller: Box<dyn Controller>,
        _options: QueueOptions,
    ) -> Arc<DiskQueue> {
        let (waiting, active, sense) = (VecDeque::new(), None, None);
        let service = Mutex::new(Service { controller, waiting, active, sense });
        Arc::new(DiskQueue { engine, service })
    }

    /// The interrupt handler. Call it with no lock held.
    pub fn interrupt(&self) {
        let mut fates = Fates::new();
        self.service.lock().interrupt(&mut fates);
        for (request, fate) in fates {
            request.finish(fate);
        }
    }
}

impl Service {
    fn start_next(&mut self, fates: &mut Fates) {
        while self.active.is_none() {
            let Some(mut request) = self.waiting.pop_front() else { return };
            let memory = std::mem::take(&mut request.data);
            let (len, pid) = (memory.len(), request.origin.pid);
            let carries = matches!(request.op, Op::Read | Op::Write);
            let pieces = if carries { vec![Piece { memory, from: 0, len }] } else { Vec::new() };
            let (op, sector, sectors, fua) =
                (request.op, request.sector, request.sectors, request.fua);
            let mut transfer = Transfer { op, sector, sectors, fua, pid, pieces };
            match self.controller.start(&mut transfer) {
                Ok(()) => self.active = Some((request, transfer)),
                Err(failure) => self.over(request, transfer, Err(failure), fates),
            }
        }
    }

    fn over(
        &mut self,
        mut request: Request,
        mut transfer: Transfer,
        fate: Result<(), Failure>,
        fates: &mut Fates,
    ) {
        self.sense = fate.err();
        request.data = transfer.pieces.pop().map(|piece| piece.memory).unwrap_or_default();
        fates.push((request, fate));
    }

    fn interrupt(&mut self, fates: &mut Fates) {
        let Some((request, mut transfer)) = self.active.take() else { return };
        match self.controller.interrupt(&mut transfer) {
            Progress::Finished(fate) => {
                self.over(request, transfer, fate, fates);
                self.start_next(fates);
            }
            Progress::Continues | Progress::Spurious => self.active = Some((request, transfer)),
        }
    }
}

impl BlockDevice for DiskQueue {
    fn geometry(&self) -> Result<Geometry, IoError> {
        self.service.lock().controller.geometry()
    }

    fn submit(&self, mut request: Request) -> Result<(), Box<Rejected>> {
        let mut fates = Fates::new();
        request.queued_at = self.engine.now();
        let mut service = self.service.lock();
        let geometry = service.controller.geometry();
        let refusal = match geometry {
            Err(error) => Some(error),
            Ok(g) if request.op == Op::Flush || g.sectors == 0 => None,
            Ok(g) => {
                let block = u64::from(g.sector_bytes) / 512;
                let end = request.sector.0.saturating_add(request.sectors);
                let aligned = [request.sector.0, request.sectors].map(|n| n.is_multiple_of(block));
                match aligned {
                    [true, true] if end > g.sectors => Some(IoError::Range),
                    [true, true] if g.read_only && request.op != Op::Read => {
                        Some(IoError::WriteProtected)
                    }
                    [true, true] => None,
                    _ => Some(IoError::Invalid),
                }
            }
        };
        if let Some(error) = refusal {
            return Err(Box::new(Rejected(error.into(), request)));
        }
        service.waiting.push_back(request);
        service.start_next(&mut fates);
        drop(service);
        for (request, fate) in fates {
            self.engine.after(0, move || request.finish(fate));
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let service = self.service.lock();
        let state = if service.active.is_some() { State::Busy } else { State::Idle };
        Status { state, current: None, queued: service.waiting.len() }
    }

    fn sense(&self) -> Option<Failure> {
        self.service.lock().sense
    }

    fn command(&self, command: UnitCommand) -> Result<(), IoError> {
        let mut fates = Fates::new();
        let mut service = self.service.lock();
        let answer = service.controller.command(command);
        if matches!(command, UnitCommand::Reset | UnitCommand::Repair) {
            let active = service.active.take();
            if let Some((mut request, mut transfer)) = active {
                service.controller.reset(Some(&mut transfer));
                let piece = transfer.pieces.pop();
                request.data = piece.map(|piece| piece.memory).unwrap_or_default();
                service.waiting.push_front(request);
            } else {
                service.controller.reset(None);
            }
            service.start_next(&mut fates);
        }
        drop(service);
        for (request, fate) in fates {
            request.finish(fate);
        }
        answer
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        self.service.lock().controller.properties()
    }

    fn set_property(&self, name: &str, value: &str) -> Result<(), PropertyError> {
        self.service.lock().controller.set_property(name, value)
    }

    fn stored_from(&self, from: Sector) -> Option<(Sector, Sector)> {
        self.service.lock().controller.stored_from(from)
    }
}
