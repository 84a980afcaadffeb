//! A disk made of memory and engine events, whose failures a test writes the script of.

use super::{Controller, DiskQueue, Progress, QueueOptions, Transfer};
use crate::contract::*;
use crate::engine::{Engine, Time};
use crate::sync::{Arc, Mutex};
use std::sync::{OnceLock, Weak};

/// What becomes of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Serve,
    /// Refused by `start`.
    Refuse(IoError),
    /// Fails when it is over; a write has changed nothing.
    Fail(IoError),
    /// No interrupt ever.
    Silent,
    /// Interrupts before the last say `Continues`.
    Piecemeal(u32),
    /// In `start`, which leaves the memory where it is.
    PanicAtStart,
    /// In `interrupt`, and the memory is lost.
    PanicAtInterrupt,
}

/// One command as the hardware saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) op: Op,
    pub(super) sector: u64,
    pub(super) sectors: u64,
}

type Script = Box<dyn FnMut(&Command) -> Fate + Send>;

/// The hardware; the test has one handle of it, the controller another.
pub(super) struct Plate {
    pub(super) bytes: Vec<u8>,
    pub(super) geometry: Geometry,
    pub(super) script: Script,
    /// Every command, in order.
    pub(super) commands: Vec<Command>,
    pub(super) resets: u32,
    pub(super) arm: u64,
    /// Sectors the arm has moved over.
    pub(super) travel: u64,
    /// Nanoseconds a command takes, and further ones for each sector the arm moves over.
    pub(super) nanos: (u64, u64),
    pub(super) knows_freeze: bool,
    pub(super) tells_head: bool,
    is_frozen: bool,
    under_way: Option<(Fate, u64)>,
    serial: u64,
}

pub(super) struct Simulated {
    pub(super) plate: Arc<Mutex<Plate>>,
    engine: Arc<Engine>,
    disk: Arc<OnceLock<Weak<DiskQueue>>>,
}

/// A disk of `sectors` sectors, and its hardware.
pub(super) fn disk(
    sectors: u64,
    options: QueueOptions,
    change: impl FnOnce(&mut Plate),
) -> (Arc<Engine>, Arc<DiskQueue>, Arc<Mutex<Plate>>) {
    disk_in(Time::Simulated, sectors, options, change)
}

/// The same in another time.
pub(super) fn disk_in(
    time: Time,
    sectors: u64,
    options: QueueOptions,
    change: impl FnOnce(&mut Plate),
) -> (Arc<Engine>, Arc<DiskQueue>, Arc<Mutex<Plate>>) {
    let engine = Engine::new(time);
    let geometry =
        Geometry { sectors, sector_bytes: 512, transfer_max: 64, ordered: false, read_only: false };
    let mut plate = Plate {
        bytes: vec![0; usize::try_from(sectors).unwrap() * SECTOR_SIZE],
        geometry,
        script: Box::new(|_| Fate::Serve),
        commands: Vec::new(),
        resets: 0,
        arm: 0,
        travel: 0,
        nanos: (1000, 10),
        knows_freeze: true,
        tells_head: true,
        is_frozen: false,
        under_way: None,
        serial: 0,
    };
    change(&mut plate);
    let plate = Arc::new(Mutex::new(plate));
    let line = Arc::new(OnceLock::new());
    let controller = Simulated {
        plate: Arc::clone(&plate),
        engine: Arc::clone(&engine),
        disk: Arc::clone(&line),
    };
    let disk = DiskQueue::new("sim0".into(), engine.clone(), Box::new(controller), options);
    line.set(Arc::downgrade(&disk)).unwrap();
    (engine, disk, plate)
}

impl Simulated {
    /// The interrupt of command `serial`, unless it was reset meanwhile.
    fn after(&self, nanos: u64, serial: u64) {
        let (plate, line) = (Arc::clone(&self.plate), Arc::clone(&self.disk));
        self.engine.after(nanos, move || {
            let disk = line.get().and_then(Weak::upgrade);
            let is_ours = {
                let plate = plate.lock();
                plate.serial == serial && plate.under_way.is_some() && !plate.is_frozen
            };
            if let Some(disk) = disk.filter(|_| is_ours) {
                disk.interrupt();
            }
        });
    }
}

impl Plate {
    fn carry_out(&mut self, transfer: &mut Transfer) {
        let start = usize::try_from(transfer.sector.byte()).unwrap();
        let end = start + usize::try_from(transfer.sectors).unwrap() * SECTOR_SIZE;
        if matches!(transfer.op, Op::Zero | Op::Discard) {
            self.bytes[start..end].fill(0);
        }
        let mut at = start;
        for piece in &mut transfer.pieces {
            let memory = &mut piece.memory[piece.from..piece.from + piece.len];
            let medium = &mut self.bytes[at..at + piece.len];
            match transfer.op {
                Op::Read => memory.copy_from_slice(medium),
                _ => medium.copy_from_slice(memory),
            }
            at += piece.len;
        }
        assert!(transfer.pieces.is_empty() || at == end, "pieces do not fill the transfer");
    }
}

impl Controller for Simulated {
    fn geometry(&self) -> Result<Geometry, IoError> {
        Ok(self.plate.lock().geometry)
    }

    fn start(&mut self, transfer: &mut Transfer) -> Result<(), Failure> {
        let mut plate = self.plate.lock();
        assert!(plate.under_way.is_none(), "started while under way");
        assert!(transfer.sectors <= u64::from(plate.geometry.transfer_max));
        let command =
            Command { op: transfer.op, sector: transfer.sector.0, sectors: transfer.sectors };
        let fate = (plate.script)(&command);
        match fate {
            Fate::Refuse(error) => return Err(error.into()),
            Fate::PanicAtStart => {
                drop(plate);
                panic!("start, on purpose");
            }
            _ => {}
        }
        plate.commands.push(command);
        let way = if command.op == Op::Flush { 0 } else { plate.arm.abs_diff(command.sector) };
        plate.travel += way;
        if command.op != Op::Flush {
            plate.arm = command.sector + command.sectors;
        }
        plate.serial += 1;
        plate.under_way = Some((fate, way));
        let (serial, nanos) = (plate.serial, plate.nanos.0 + plate.nanos.1 * way);
        drop(plate);
        if fate != Fate::Silent {
            self.after(nanos, serial);
        }
        Ok(())
    }

    fn interrupt(&mut self, transfer: &mut Transfer) -> Progress {
        let mut plate = self.plate.lock();
        let Some((fate, way)) = plate.under_way.take() else { return Progress::Spurious };
        match fate {
            Fate::Piecemeal(left) if left > 0 => {
                plate.under_way = Some((Fate::Piecemeal(left - 1), way));
                let (serial, nanos) = (plate.serial, plate.nanos.0);
                drop(plate);
                self.after(nanos, serial);
                return Progress::Continues;
            }
            Fate::Fail(error) => return Progress::Finished(Err(error.into())),
            Fate::PanicAtInterrupt => {
                drop(plate);
                transfer.pieces.clear();
                panic!("interrupt, on purpose");
            }
            _ => plate.carry_out(transfer),
        }
        Progress::Finished(Ok(()))
    }

    fn reset(&mut self, _active: Option<&mut Transfer>) {
        let mut plate = self.plate.lock();
        plate.resets += 1;
        plate.under_way = None;
        plate.is_frozen = false;
    }

    fn stored_from(&self, from: Sector) -> Option<(Sector, Sector)> {
        let end = Sector(self.plate.lock().geometry.sectors);
        (from < end).then_some((from, end))
    }

    fn head(&self) -> Option<Sector> {
        let plate = self.plate.lock();
        plate.tells_head.then_some(Sector(plate.arm))
    }

    fn command(&mut self, command: UnitCommand) -> Result<(), IoError> {
        let mut plate = self.plate.lock();
        match command {
            UnitCommand::Freeze | UnitCommand::Thaw if plate.knows_freeze => {
                plate.is_frozen = command == UnitCommand::Freeze;
                let (serial, nanos) = (plate.serial, plate.nanos.0);
                let goes_on = !plate.is_frozen && plate.under_way.is_some();
                drop(plate);
                if goes_on {
                    self.after(nanos, serial);
                }
                Ok(())
            }
            _ => Err(IoError::Unsupported),
        }
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        vec![("nanos", self.plate.lock().nanos.0.to_string())]
    }

    fn set_property(&mut self, name: &str, value: &str) -> Result<(), PropertyError> {
        if name != "nanos" {
            return Err(PropertyError::Unknown);
        }
        let refusal = |_| PropertyError::Value("a number".into());
        self.plate.lock().nanos.0 = value.parse().map_err(refusal)?;
        Ok(())
    }
}
