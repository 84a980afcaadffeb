//! The diskette controller: programmed I/O, sector by sector, through a data register.
//!
//! 1. A command moves its sectors one at a time through the sector buffer, and raises the line for
//!    each; the next is sought when the driver has acknowledged the one before, so that a driver
//!    that is late waits a turn of the disk.
//! 2. The line is raised with no lock held, after the status says why.
//! 3. After a reset nothing of the command before it touches the medium: work under way is waited
//!    for by the next command, and work not yet begun never begins.
//! 4. If the controller's own program breaks down, that command is aborted, and no more.

use super::drive::{BREAKDOWN, Drive, INVALID_OPCODE, operation};
use super::panel::{Panel, narrow, stored_from};
use crate::bus::IrqBus;
use crate::bus::port::{Registers, Width};
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

struct FloppyChip {
    me: Weak<FloppyChip>,
    engine: Arc<Engine>,
    irqs: Arc<IrqBus>,
    line: u8,
    drive: Drive,
    state: Mutex<State>,
    /// Held while a sector moves; taken with no other lock held.
    motion: Mutex<()>,
}

struct State {
    panel: Panel,
    count: u32,
    tag: u32,
    phase: Phase,
    job: Job,
    /// The sector buffer, and the byte that the data register gives or takes next.
    buffer: Vec<u8>,
    next_byte: usize,
    generation: u64,
    event: Option<EventId>,
    is_frozen: bool,
    is_parked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// A write: the buffer is to be filled.
    Filling,
    /// Seeking, turning, transferring.
    Timed,
    /// A sector moves, or nothing ever will.
    Busy,
    Done,
}

/// The command under way; `sector` and `sectors` are what is left of it.
struct Job {
    op: Op,
    is_fua: bool,
    sector: u64,
    sectors: u64,
    verdict: Verdict,
}

/// Puts the controller of a described unit on the bus.
///
/// # Errors
/// `Conflict` where its place is taken or a value does not fit, `Host` where the image cannot be
/// used.
pub fn install(machine: &Machine, unit: &UnitConfig) -> Result<(), AttachError> {
    let wrong = |key| AttachError::Conflict(format!("{}: {key} is missing or wrong", unit.name));
    let port = unit.number("port").and_then(|port| u16::try_from(port).ok());
    let line = unit.number("irq").and_then(|line| u8::try_from(line).ok());
    let (port, line) = (port.ok_or_else(|| wrong("port"))?, line.ok_or_else(|| wrong("irq"))?);
    let id = unit.number("id").and_then(|id| u32::try_from(id).ok());
    let (drive, mechanism) = Drive::open(machine, unit)?;
    let panel = Panel::new(id.unwrap_or(manual::DISKETTE_ID), mechanism);
    let chip = FloppyChip::new(machine, line, drive, panel);
    machine.ports.install(&unit.name, port, manual::PORTS, chip)?;
    Ok(())
}

fn empty_sector(drive: &Drive) -> Vec<u8> {
    vec![0; usize::try_from(drive.sector_bytes).unwrap_or(SECTOR_SIZE)]
}

impl FloppyChip {
    fn new(machine: &Machine, line: u8, drive: Drive, panel: Panel) -> Arc<FloppyChip> {
        let buffer = empty_sector(&drive);
        let verdict = Verdict::default();
        Arc::new_cyclic(|me| FloppyChip {
            me: me.clone(),
            engine: Arc::clone(&machine.engine),
            irqs: Arc::clone(&machine.irqs),
            line,
            drive,
            state: Mutex::new(State {
                panel,
                count: 0,
                tag: 0,
                phase: Phase::Idle,
                job: Job { op: Op::Flush, is_fua: false, sector: 0, sectors: 0, verdict },
                buffer,
                next_byte: 0,
                generation: 0,
                event: None,
                is_frozen: false,
                is_parked: false,
            }),
            motion: Mutex::new(()),
        })
    }

    fn status(&self, state: &State) -> u32 {
        let is_failed = state.panel.sense != Sense::default();
        let has_data = state.job.op == Op::Read && !is_failed;
        let phase = match state.phase {
            Phase::Idle => 0,
            Phase::Filling => manual::BUSY | manual::DATA_READY,
            Phase::Timed | Phase::Busy => manual::BUSY,
            Phase::Done if is_failed => manual::DONE | manual::ERROR,
            Phase::Done if has_data => manual::DONE | manual::DATA_READY,
            Phase::Done => manual::DONE,
        };
        let frozen = if state.is_frozen { manual::FROZEN } else { 0 };
        let read_only = self.drive.medium.is_read_only();
        let protected = if read_only { manual::WRITE_PROTECTED } else { 0 };
        phase | frozen | protected
    }

    fn control(&self, word: u32) {
        let mut state = self.state.lock();
        match word {
            manual::ACK if state.phase == Phase::Done => self.go_on(&mut state),
            manual::RESET => {
                state.generation += 1;
                state.phase = Phase::Idle;
                state.panel.sense = Sense::default();
                (state.is_frozen, state.is_parked) = (false, false);
                if state.buffer.is_empty() {
                    state.buffer = empty_sector(&self.drive); // the other one is under way
                }
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

    /// A command: checked, and begun.
    fn start(&self, word: u32) {
        let [opcode, flags, ..] = word.to_le_bytes();
        let mut state = self.state.lock();
        if state.phase != Phase::Idle {
            return;
        }
        state.generation += 1;
        state.panel.sense = Sense::default();
        let (sector, sectors, pid) = (state.panel.sector, state.count.into(), state.tag);
        let op = operation(opcode);
        let command = Command { op: op.unwrap_or(Op::Flush), sector, sectors, pid };
        let refusal = match op {
            None => Err(INVALID_OPCODE),
            Some(_) => self.drive.check(&command),
        };
        let verdict = match refusal {
            Ok(()) => self.drive.consult(&command),
            Err(sense) => {
                let end = Some(End::Fail { at: sector, sense });
                Verdict { end, ..Verdict::default() }
            }
        };
        let is_fua = flags & manual::FUA != 0;
        state.job = Job { op: command.op, is_fua, sector, sectors, verdict };
        self.begin(&mut state);
    }

    /// The next sector of the command, or all of one that moves no data through the buffer.
    fn begin(&self, state: &mut State) {
        state.next_byte = 0;
        let delay = std::mem::take(&mut state.job.verdict.delay_nanos);
        if state.job.verdict.end == Some(End::Hang) {
            state.phase = Phase::Busy;
        } else if state.job.op == Op::Write && !state.job.fails_here(self.drive.grain()) {
            state.phase = Phase::Filling;
            // The delay comes when the buffer is full.
            state.job.verdict.delay_nanos = delay;
        } else {
            self.seek(state, delay);
        }
    }

    fn seek(&self, state: &mut State, delay: u64) {
        let Job { op, sector, sectors, .. } = state.job;
        let is_stepwise = matches!(op, Op::Read | Op::Write);
        let sectors = if is_stepwise { sectors.min(self.drive.grain()) } else { sectors };
        let access = Access { op, sector, sectors };
        let nanos = state.panel.mechanism.serve(self.engine.now(), access);
        state.phase = Phase::Timed;
        self.schedule(state, nanos.saturating_add(delay));
    }

    /// Acknowledged: on to the next sector, if there is one.
    fn go_on(&self, state: &mut State) {
        let is_failed = state.panel.sense != Sense::default();
        if is_failed || state.job.sectors == 0 {
            state.phase = Phase::Idle;
        } else {
            self.begin(state);
        }
    }

    /// The event: the sector is under the head.
    fn finish(&self, generation: u64) {
        let mut state = self.state.lock();
        if state.generation != generation || state.phase != Phase::Timed {
            return;
        }
        if state.is_frozen {
            state.is_parked = true;
            return;
        }
        state.event = None;
        state.phase = Phase::Busy;
        let mut buffer = std::mem::take(&mut state.buffer);
        let empty = Verdict::default();
        let verdict = std::mem::replace(&mut state.job.verdict, empty);
        let Job { op, is_fua, sector, sectors, .. } = state.job;
        let job = Job { op, is_fua, sector, sectors, verdict };
        drop(state);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work(&job, &mut buffer, generation)));
        let sense = match outcome {
            Ok(Ok(())) => Sense::default(),
            Ok(Err(sense)) => sense,
            Err(_) => {
                log::error!(target: "chip", "{}: the controller broke down", self.drive.name);
                BREAKDOWN
            }
        };
        let mut state = self.state.lock();
        if state.generation != generation {
            return;
        }
        state.buffer = buffer;
        let done = if matches!(op, Op::Read | Op::Write) { self.drive.grain() } else { sectors };
        state.job.sector += done;
        state.job.sectors = sectors.saturating_sub(done);
        state.job.verdict = Verdict { bad_sectors: Vec::new(), ..job.verdict };
        state.next_byte = 0;
        state.panel.sense = sense;
        state.phase = Phase::Done;
        drop(state);
        self.irqs.raise(self.line);
    }

    fn work(&self, job: &Job, buffer: &mut [u8], generation: u64) -> Result<(), Sense> {
        let motion = self.motion.lock();
        if self.state.lock().generation != generation {
            return Ok(()); // reset meanwhile
        }
        for sector in &job.verdict.bad_sectors {
            self.drive.medium.mark_bad(sector * SECTOR_SIZE as u64);
        }
        match &job.verdict.end {
            Some(End::Panic(rule)) => panic!("as fault rule {rule} says"),
            Some(End::Fail { sense, .. }) if job.fails_here(self.drive.grain()) => {
                return Err(*sense);
            }
            _ => {}
        }
        match job.op {
            Op::Read => self.drive.read(job.sector, &mut [buffer])?,
            Op::Write => {
                self.drive.write(job.sector, &[buffer])?;
                if job.is_fua && job.sectors <= self.drive.grain() {
                    self.drive.arrange(Op::Flush, 0, 0)?;
                }
            }
            op => self.drive.arrange(op, job.sector, job.sectors)?,
        }
        drop(motion);
        Ok(())
    }

    /// The data register gives the next bytes of the buffer.
    fn give(state: &mut State, width: Width) -> u32 {
        let mut bytes = [0; 4];
        for byte in &mut bytes[..width.bytes()] {
            *byte = state.buffer.get(state.next_byte).copied().unwrap_or(0xff);
            state.next_byte = state.next_byte.saturating_add(1);
        }
        u32::from_le_bytes(bytes)
    }

    /// The data register takes the next bytes of the buffer; full, it is written.
    fn take(&self, state: &mut State, width: Width, value: u32) {
        if state.phase != Phase::Filling {
            return;
        }
        for byte in &value.to_le_bytes()[..width.bytes()] {
            let at = state.next_byte;
            if let Some(place) = state.buffer.get_mut(at) {
                *place = *byte;
            }
            state.next_byte = at.saturating_add(1);
        }
        if state.next_byte >= state.buffer.len() {
            let delay = std::mem::take(&mut state.job.verdict.delay_nanos);
            self.seek(state, delay);
        }
    }
}

impl Job {
    /// Whether a fault ends the command at the sector that comes next.
    fn fails_here(&self, grain: u64) -> bool {
        let is_stepwise = matches!(self.op, Op::Read | Op::Write);
        let sectors = if is_stepwise { grain } else { self.sectors.max(1) };
        match self.verdict.end {
            Some(End::Fail { at, .. }) => at < self.sector.saturating_add(sectors),
            Some(End::Panic(_)) => true,
            Some(End::Hang) | None => false,
        }
    }
}

impl Registers for FloppyChip {
    fn read(&self, offset: u16, width: Width) -> u32 {
        let mut state = self.state.lock();
        let register = match offset / 4 * 4 {
            manual::DATA => return FloppyChip::give(&mut state, width),
            manual::STATUS => self.status(&state),
            manual::COUNT => state.count,
            manual::TAG => state.tag,
            at => state.panel.read(&self.drive, at).unwrap_or(u32::MAX),
        };
        narrow(register, offset, width)
    }

    fn write(&self, offset: u16, width: Width, value: u32) {
        if offset == manual::DATA {
            return self.take(&mut self.state.lock(), width, value);
        }
        if width != Width::Long {
            return;
        }
        match offset {
            manual::CONTROL => self.control(value),
            manual::COMMAND => self.start(value),
            manual::COUNT => self.state.lock().count = value,
            manual::TAG => self.state.lock().tag = value,
            _ => self.state.lock().panel.write(&self.drive, offset, value),
        }
    }
}

#[cfg(test)]
#[path = "floppy_tests.rs"]
mod tests;
