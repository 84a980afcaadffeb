//! The disk controller: fetches a command block from memory, takes its time, moves the data, raises
//! its line. Registers and block are described in `manual.rs`.
//!
//! 1. One command at a time. Its data move in one event, between the medium and the memory that
//!    the block's segments name, with no copy in between.
//! 2. The line is raised with no lock held, after the status says why.
//! 3. After a reset nothing of the command before it touches the medium or memory: work under way
//!    is waited for by the next command, and work not yet begun never begins.
//! 4. If the controller's own program breaks down, that command is aborted, and no more.

use super::drive::{BREAKDOWN, DATA_PHASE, Drive, INVALID_FIELD, INVALID_OPCODE, operation};
use super::panel::{Panel, half, narrow, stored_from, with_half};
use crate::bus::dma::{Direction, Segment};
use crate::bus::port::{Registers, Width};
use crate::bus::{BusAddress, DmaBus, IrqBus};
use crate::contract::{AttachError, Clock, Op, SECTOR_SIZE, Sense, UnitConfig};
use crate::engine::{Engine, EventId};
use crate::fault::{Command, End, Verdict};
use crate::machine::Machine;
use crate::manual;
use crate::medium::Medium;
use crate::sync::{Arc, Mutex};
use crate::timing::Access;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;

struct DiskChip {
    me: Weak<DiskChip>,
    engine: Arc<Engine>,
    irqs: Arc<IrqBus>,
    dma: Arc<DmaBus>,
    line: u8,
    channel: u8,
    drive: Drive,
    state: Mutex<State>,
    /// Held while data move; taken with no other lock held.
    motion: Mutex<()>,
}

struct State {
    panel: Panel,
    block: u64,
    phase: Phase,
    /// Counts commands and resets: an event of another one is of no account.
    generation: u64,
    event: Option<EventId>,
    is_frozen: bool,
    /// The event came while frozen.
    is_parked: bool,
    segments: Vec<Segment>,
}

enum Phase {
    Idle,
    /// Seeking, turning, transferring: what will happen at the event.
    Timed(Job),
    /// Data move, or nothing ever will.
    Busy,
    Done,
}

struct Job {
    command: Command,
    fua: bool,
    segments: Vec<Segment>,
    verdict: Verdict,
}

/// Puts the controller of a described unit on the bus.
///
/// # Errors
/// `Conflict` where its place is taken or a value does not fit, `Host` where the image cannot be
/// used.
pub fn install(machine: &Machine, unit: &UnitConfig) -> Result<(), AttachError> {
    let missing = |key| AttachError::Conflict(format!("{}: {key} must be given", unit.name));
    let place = |key| unit.number(key).ok_or_else(|| missing(key));
    let wrong = |key| move |_| AttachError::Conflict(format!("{}: no such {key}", unit.name));
    let port = u16::try_from(place("port")?).map_err(wrong("port"))?;
    let line = u8::try_from(place("irq")?).map_err(wrong("irq"))?;
    let channel = u8::try_from(place("dma")?).map_err(wrong("dma"))?;
    let id = unit.number("id").and_then(|id| u32::try_from(id).ok()).unwrap_or(manual::DISK_ID);
    let (drive, mechanism) = Drive::open(machine, unit)?;
    let chip = DiskChip::new(machine, (line, channel), drive, Panel::new(id, mechanism));
    machine.ports.install(&unit.name, port, manual::PORTS, chip)?;
    Ok(())
}

impl DiskChip {
    fn new(
        machine: &Machine,
        (line, channel): (u8, u8),
        drive: Drive,
        panel: Panel,
    ) -> Arc<DiskChip> {
        Arc::new_cyclic(|me| DiskChip {
            me: me.clone(),
            engine: Arc::clone(&machine.engine),
            irqs: Arc::clone(&machine.irqs),
            dma: Arc::clone(&machine.dma),
            line,
            channel,
            drive,
            state: Mutex::new(State {
                panel,
                block: 0,
                phase: Phase::Idle,
                generation: 0,
                event: None,
                is_frozen: false,
                is_parked: false,
                segments: Vec::new(),
            }),
            motion: Mutex::new(()),
        })
    }

    fn status(&self, state: &State) -> u32 {
        let phase = match state.phase {
            Phase::Idle => 0,
            Phase::Timed(_) | Phase::Busy => manual::BUSY,
            Phase::Done if state.panel.sense == Sense::default() => manual::DONE,
            Phase::Done => manual::DONE | manual::ERROR,
        };
        let frozen = if state.is_frozen { manual::FROZEN } else { 0 };
        let read_only = self.drive.medium.is_read_only();
        let protected = if read_only { manual::WRITE_PROTECTED } else { 0 };
        phase | frozen | protected
    }

    fn control(&self, word: u32) {
        let mut state = self.state.lock();
        match word {
            manual::ACK => {
                if matches!(state.phase, Phase::Done) {
                    state.phase = Phase::Idle;
                }
            }
            manual::RESET => {
                state.generation += 1;
                state.phase = Phase::Idle;
                state.panel.sense = Sense::default();
                (state.is_frozen, state.is_parked) = (false, false);
                if let Some(event) = state.event.take() {
                    self.engine.cancel(event);
                }
            }
            manual::FREEZE => state.is_frozen = true,
            manual::THAW => {
                state.is_frozen = false;
                if std::mem::take(&mut state.is_parked) {
                    self.schedule(&mut state, 0);
                }
            }
            manual::QUERY => {
                let sector = state.panel.sector;
                drop(state); // the host may take its time
                let stored = stored_from(&self.drive, sector);
                self.state.lock().panel.answer(stored);
            }
            manual::MARK_BAD => {
                let sector = state.panel.sector;
                drop(state);
                self.drive.medium.mark_bad(sector.saturating_mul(SECTOR_SIZE as u64));
            }
            manual::REPAIR => {
                drop(state);
                self.drive.repair();
            }
            _ => {}
        }
    }

    fn schedule(&self, state: &mut State, nanos: u64) {
        let (me, generation) = (self.me.clone(), state.generation);
        let event = move || {
            if let Some(chip) = me.upgrade() {
                chip.finish(generation);
            }
        };
        state.event = Some(self.engine.after(nanos, event));
    }

    /// The doorbell: fetches the block, and starts.
    fn start(&self) {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Idle) {
            return;
        }
        state.generation += 1;
        state.panel.sense = Sense::default();
        let mut segments = std::mem::take(&mut state.segments);
        let mut nanos = 0;
        let (command, fua) = match self.fetch(BusAddress(state.block), &mut segments) {
            Ok(fetched) => fetched,
            Err(sense) => {
                // Told as any other failure: by the event.
                let command = Command { op: Op::Flush, sector: 0, sectors: 0, pid: 0 };
                let end = Some(End::Fail { at: 0, sense });
                let verdict = Verdict { end, ..Verdict::default() };
                state.phase = Phase::Timed(Job { command, fua: false, segments, verdict });
                return self.schedule(&mut state, 0);
            }
        };
        let verdict = self.drive.consult(&command);
        if verdict.end != Some(End::Hang) {
            let Command { op, sector, sectors, .. } = command;
            let access = Access { op, sector, sectors };
            nanos = state.panel.mechanism.serve(self.engine.now(), access);
        }
        if verdict.end == Some(End::Hang) {
            state.phase = Phase::Busy;
            state.segments = segments;
            return;
        }
        let nanos = nanos.saturating_add(verdict.delay_nanos);
        state.phase = Phase::Timed(Job { command, fua, segments, verdict });
        self.schedule(&mut state, nanos);
    }

    /// Reads the command block from memory.
    fn fetch(
        &self,
        address: BusAddress,
        segments: &mut Vec<Segment>,
    ) -> Result<(Command, bool), Sense> {
        segments.clear();
        let segment = Segment { address, bytes: 24 }; // BLOCK_BYTES
        let mut head = [0; manual::BLOCK_BYTES];
        let fetched = self.dma.access(segment, |bytes| head.copy_from_slice(bytes));
        fetched.map_err(|_| DATA_PHASE)?;
        self.dma.count_block(self.channel);
        let op = operation(head[0]).ok_or(INVALID_OPCODE)?;
        let count = u16::from_le_bytes([head[2], head[3]]);
        let pid = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let long = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let command = Command { op, sector: long(8), sectors: long(16), pid };
        self.drive.check(&command)?;
        let list = Segment { address: address.plus(24), bytes: u32::from(count) * 16 };
        let listed = self.dma.access(list, |bytes| {
            let parts = bytes.chunks_exact(manual::SEGMENT_BYTES);
            segments.extend(parts.map(|part| {
                let [mut address, mut bytes] = [[0; 8], [0; 8]];
                address.copy_from_slice(&part[..8]);
                bytes[..4].copy_from_slice(&part[8..12]);
                let bytes = half(u64::from_le_bytes(bytes), false);
                Segment { address: BusAddress(u64::from_le_bytes(address)), bytes }
            }));
        });
        listed.map_err(|_| DATA_PHASE)?;
        let bytes = segments.iter().map(|segment| u64::from(segment.bytes)).sum::<u64>();
        let moves = matches!(op, Op::Read | Op::Write);
        let wanted = if moves { command.sectors * SECTOR_SIZE as u64 } else { 0 };
        if bytes != wanted {
            return Err(INVALID_FIELD);
        }
        Ok((command, head[1] & manual::FUA != 0))
    }

    /// The event: the time has passed, data move, and the line is raised.
    fn finish(&self, generation: u64) {
        let mut state = self.state.lock();
        if state.generation != generation {
            return;
        }
        if state.is_frozen {
            state.is_parked = true;
            return;
        }
        state.event = None;
        let Phase::Timed(job) = std::mem::replace(&mut state.phase, Phase::Busy) else { return };
        drop(state);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work(&job, generation)));
        let sense = match outcome {
            Ok(Ok(())) => Sense::default(),
            Ok(Err(sense)) => sense,
            Err(_) => {
                log::error!(target: "chip", "{}: the controller broke down", self.drive.name);
                BREAKDOWN
            }
        };
        let mut state = self.state.lock();
        state.segments = job.segments;
        if state.generation != generation {
            return;
        }
        state.panel.sense = sense;
        state.phase = Phase::Done;
        drop(state);
        self.irqs.raise(self.line);
    }

    fn work(&self, job: &Job, generation: u64) -> Result<(), Sense> {
        let Job { command, fua, segments, verdict } = job;
        let motion = self.motion.lock();
        if self.state.lock().generation != generation {
            return Ok(()); // reset meanwhile: nobody waits, and the memory is somebody else's
        }
        for sector in &verdict.bad_sectors {
            self.drive.medium.mark_bad(sector * SECTOR_SIZE as u64);
        }
        let (sectors, fate) = match &verdict.end {
            Some(End::Panic(rule)) => panic!("as fault rule {rule} says"),
            Some(End::Fail { at, sense }) => {
                let before = at.saturating_sub(command.sector).min(command.sectors);
                (before - before % self.drive.grain(), Err(*sense))
            }
            Some(End::Hang) | None => (command.sectors, Ok(())),
        };
        if fate.is_ok() || sectors > 0 {
            self.transfer(command, sectors, segments)?;
        }
        fate?;
        if *fua && command.op == Op::Write {
            self.drive.arrange(Op::Flush, 0, 0)?;
        }
        drop(motion);
        Ok(())
    }

    /// Does the first `sectors` of a command.
    fn transfer(&self, command: &Command, sectors: u64, segments: &[Segment]) -> Result<(), Sense> {
        let direction = match command.op {
            Op::Read => Direction::ToMemory,
            Op::Write => Direction::FromMemory,
            op => return self.drive.arrange(op, command.sector, sectors),
        };
        let shortened;
        let segments = if sectors == command.sectors {
            segments
        } else {
            shortened = shorten(segments, sectors * SECTOR_SIZE as u64);
            &shortened
        };
        let moved = self.dma.gather(segments, |runs| match direction {
            Direction::ToMemory => self.drive.read(command.sector, runs),
            Direction::FromMemory => {
                let runs = runs.iter().map(|run| &**run).collect::<Vec<_>>();
                self.drive.write(command.sector, &runs)
            }
        });
        moved.map_err(|_| DATA_PHASE)??;
        self.dma.count_bytes(self.channel, direction, sectors * SECTOR_SIZE as u64);
        Ok(())
    }
}

/// The first `bytes` of what `segments` name.
fn shorten(segments: &[Segment], bytes: u64) -> Vec<Segment> {
    let mut left = bytes;
    let parts = segments.iter().map(|segment| {
        let part = u32::try_from(left).unwrap_or(u32::MAX).min(segment.bytes);
        left -= u64::from(part);
        Segment { bytes: part, ..*segment }
    });
    parts.filter(|segment| segment.bytes > 0).collect()
}

impl Registers for DiskChip {
    fn read(&self, offset: u16, width: Width) -> u32 {
        let state = self.state.lock();
        let register = match offset / 4 * 4 {
            manual::STATUS => self.status(&state),
            manual::BLOCK => half(state.block, false),
            at if at == manual::BLOCK + 4 => half(state.block, true),
            at => state.panel.read(&self.drive, at).unwrap_or(u32::MAX),
        };
        narrow(register, offset, width)
    }

    fn write(&self, offset: u16, width: Width, value: u32) {
        if width != Width::Long {
            return;
        }
        match offset {
            manual::CONTROL => self.control(value),
            manual::DOORBELL => self.start(),
            _ if offset / 8 * 8 == manual::BLOCK => {
                let mut state = self.state.lock();
                state.block = with_half(state.block, offset % 8 == 4, value);
            }
            _ => self.state.lock().panel.write(&self.drive, offset, value),
        }
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
