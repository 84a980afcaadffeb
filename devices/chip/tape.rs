//! The tape controller: fetches a command block from memory, moves the tape and the data, takes its
//! time, raises its line. Registers and block are described in `tape_manual.rs`.
//!
//! 1. One command at a time. Its data move in one event, between the tape's file and the memory
//!    that the block names; the line is raised when the time of that motion has passed.
//! 2. The line is raised with no lock held, after the status says why.
//! 3. After a reset nothing of the command before it touches tape or memory: work under way is
//!    waited for by the next command, and work not yet begun never begins.
//! 4. If the controller's own program breaks down, that command is aborted, and no more.

use super::drive::{BREAKDOWN, DATA_PHASE};
use super::panel::{half, narrow, with_half};
use super::transport::{Order, Outcome, Transport};
use crate::bus::dma::{Direction, Segment};
use crate::bus::port::{Registers, Width};
use crate::bus::{BusAddress, DmaBus, IrqBus};
use crate::contract::host_file::TAPE_IMAGE;
use crate::contract::{AttachError, Op, Sense, UnitConfig, Value};
use crate::engine::{Engine, EventId};
use crate::fault::{Command, End, Faults, Verdict};
use crate::machine::Machine;
use crate::medium::TapOptions;
use crate::sync::{Arc, Mutex};
use crate::tape_manual as manual;
use crate::tape_timing::TapeModel;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;

struct TapeChip {
    me: Weak<TapeChip>,
    name: String,
    engine: Arc<Engine>,
    irqs: Arc<IrqBus>,
    dma: Arc<DmaBus>,
    faults: Arc<Faults>,
    line: u8,
    channel: u8,
    state: Mutex<State>,
    /// Held while the tape moves; taken with no other lock held.
    transport: Mutex<Transport>,
}

struct State {
    block: u64,
    phase: Phase,
    outcome: Outcome,
    model: TapeModel,
    /// Of the transport when it last stood still: its status bits, position, size.
    still: (u32, u64, u64),
    /// Counts commands and resets: an event of another one is of no account.
    generation: u64,
    event: Option<EventId>,
    is_frozen: bool,
    /// The event came while frozen.
    is_parked: bool,
}

enum Phase {
    Idle,
    /// What will be done at the event.
    Begun(Box<Job>),
    /// The tape moves, or nothing ever will.
    Busy,
    /// The data have moved; the time of the motion passes.
    Moving,
    Done,
}

struct Job {
    order: Order,
    memory: Segment,
    verdict: Verdict,
    /// Refused before it began.
    refusal: Option<Sense>,
}

/// Puts the controller of a described unit on the bus, its tape loaded.
///
/// # Errors
/// `Conflict` where its place is taken or a value does not fit, `Host` where the tape's file cannot
/// be used.
pub fn install(machine: &Machine, unit: &UnitConfig) -> Result<(), AttachError> {
    let name = &unit.name;
    let missing = |key| AttachError::Conflict(format!("{name}: {key} must be given"));
    let place = |key| unit.number(key).ok_or_else(|| missing(key));
    let wrong = |key| move |_| AttachError::Conflict(format!("{name}: no such {key}"));
    let port = u16::try_from(place("port")?).map_err(wrong("port"))?;
    let line = u8::try_from(place("irq")?).map_err(wrong("irq"))?;
    let channel = u8::try_from(place("dma")?).map_err(wrong("dma"))?;
    let model = unit.text("timing").unwrap_or("none");
    let model = TapeModel::named(model)
        .ok_or_else(|| AttachError::Conflict(format!("{name}: timing = \"{model}\"")))?;
    let file = TAPE_IMAGE.path(unit, machine.state_dir.as_deref());
    let options = TapOptions {
        size_bytes: unit.number("size").unwrap_or(64 << 20),
        read_only: unit.flag("read_only"),
        host_sync: unit.values.get("host_sync") != Some(&Value::Flag(false)),
    };
    let transport = Transport::new(file.as_deref(), options, machine.state_dir.clone())
        .map_err(|why| AttachError::value(unit, TAPE_IMAGE.key, why))?;
    let chip = TapeChip::new(machine, unit, (line, channel), model, transport);
    machine.ports.install(name, port, manual::PORTS, chip)?;
    machine.faults.register(name);
    Ok(())
}

impl Drop for TapeChip {
    fn drop(&mut self) {
        self.faults.forget(&self.name);
    }
}

impl TapeChip {
    fn new(
        machine: &Machine,
        unit: &UnitConfig,
        (line, channel): (u8, u8),
        model: TapeModel,
        transport: Transport,
    ) -> Arc<TapeChip> {
        let still = (transport.status(), transport.block(), transport.size_bytes());
        Arc::new_cyclic(|me| TapeChip {
            me: me.clone(),
            name: unit.name.clone(),
            engine: Arc::clone(&machine.engine),
            irqs: Arc::clone(&machine.irqs),
            dma: Arc::clone(&machine.dma),
            faults: Arc::clone(&machine.faults),
            line,
            channel,
            state: Mutex::new(State {
                block: 0,
                phase: Phase::Idle,
                outcome: Outcome::default(),
                model,
                still,
                generation: 0,
                event: None,
                is_frozen: false,
                is_parked: false,
            }),
            transport: Mutex::new(transport),
        })
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
                state.outcome = Outcome::default();
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
            manual::REPAIR => {
                drop(state);
                self.faults.repair(&self.name);
                self.transport.lock().repair();
            }
            _ => {}
        }
    }

    fn schedule(&self, state: &mut State, nanos: u64) {
        let (me, generation) = (self.me.clone(), state.generation);
        let event = move || {
            if let Some(chip) = me.upgrade() {
                chip.step(generation);
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
        state.outcome = Outcome::default();
        let (order, memory, refusal) = match self.fetch(BusAddress(state.block)) {
            Ok((order, memory)) => (order, memory, None),
            Err(sense) => {
                // Told as any other failure: by the event.
                let order = Order { opcode: 0, flags: 0, fixed: None, count: 0, tag: 0 };
                (order, Segment { address: BusAddress(0), bytes: 0 }, Some(sense))
            }
        };
        let verdict = self.consult(&order, memory.bytes, state.still.1);
        if verdict.end == Some(End::Hang) {
            state.phase = Phase::Busy;
            return;
        }
        let nanos = verdict.delay_nanos;
        state.phase = Phase::Begun(Box::new(Job { order, memory, verdict, refusal }));
        self.schedule(&mut state, nanos);
    }

    /// Reads the command block from memory.
    fn fetch(&self, address: BusAddress) -> Result<(Order, Segment), Sense> {
        let mut block = [0; manual::BLOCK_BYTES];
        let bytes = u32::try_from(block.len()).unwrap_or(u32::MAX);
        let fetched = self.dma.access(Segment { address, bytes }, |b| block.copy_from_slice(b));
        fetched.map_err(|_| DATA_PHASE)?;
        self.dma.count_block(self.channel);
        let long = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&block[at..at + 8]);
            bytes
        };
        let word = |at: usize| half(u64::from_le_bytes(long(at / 8 * 8)), at % 8 == 4);
        let order = Order {
            opcode: block[0],
            flags: block[1],
            fixed: Some(word(4)).filter(|bytes| *bytes > 0),
            count: i64::from_le_bytes(long(8)),
            tag: word(28),
        };
        let address = BusAddress(u64::from_le_bytes(long(16)));
        Ok((order, Segment { address, bytes: word(24) }))
    }

    /// What the fault rules say: they see records and marks by their number, as disks' sectors.
    fn consult(&self, order: &Order, bytes: u32, block: u64) -> Verdict {
        let op = match order.opcode {
            manual::READ | manual::READ_MORE => Op::Read,
            manual::WRITE | manual::WRITE_MORE | manual::MARKS | manual::ERASE => Op::Write,
            manual::FLUSH => Op::Flush,
            _ => return Verdict::default(),
        };
        let sectors = match (order.opcode, order.fixed) {
            (manual::FLUSH, _) => 0,
            (manual::MARKS, _) => u64::try_from(order.count).unwrap_or(0),
            (_, Some(fixed)) => u64::from(bytes / fixed),
            _ => 1,
        };
        // The rest of a record is of the record behind which the head stands.
        let is_rest = matches!(order.opcode, manual::READ_MORE | manual::WRITE_MORE);
        let sector = block.saturating_sub(u64::from(is_rest));
        self.faults.consult(&self.name, &Command { op, sector, sectors, pid: order.tag })
    }

    /// An event: the command begins, or its time has passed.
    fn step(&self, generation: u64) {
        let mut state = self.state.lock();
        if state.generation != generation {
            return;
        }
        if state.is_frozen {
            state.is_parked = true;
            return;
        }
        state.event = None;
        let job = match std::mem::replace(&mut state.phase, Phase::Busy) {
            Phase::Begun(job) => job,
            Phase::Moving => {
                state.phase = Phase::Done;
                drop(state);
                return self.irqs.raise(self.line);
            }
            other => {
                state.phase = other;
                return;
            }
        };
        let model = state.model;
        drop(state);
        let worked = catch_unwind(AssertUnwindSafe(|| self.work(&job, model, generation)));
        let (outcome, nanos) = worked.unwrap_or_else(|_| {
            log::error!(target: "chip", "{}: the controller broke down", self.name);
            (BREAKDOWN.into(), 0)
        });
        let still = self.still();
        let mut state = self.state.lock();
        state.still = still;
        if state.generation != generation {
            return;
        }
        state.outcome = outcome;
        if nanos > 0 {
            state.phase = Phase::Moving;
            return self.schedule(&mut state, nanos);
        }
        state.phase = Phase::Done;
        drop(state);
        self.irqs.raise(self.line);
    }

    fn still(&self) -> (u32, u64, u64) {
        let transport = self.transport.lock();
        (transport.status(), transport.block(), transport.size_bytes())
    }

    /// Moves the tape and the data; says how it ended and how long it takes.
    fn work(&self, job: &Job, model: TapeModel, generation: u64) -> (Outcome, u64) {
        let Job { order, memory, verdict, refusal } = job;
        let mut transport = self.transport.lock();
        if self.state.lock().generation != generation {
            return (Outcome::default(), 0); // reset meanwhile: nobody waits
        }
        for block in &verdict.bad_sectors {
            transport.mark_bad(*block);
        }
        match &verdict.end {
            Some(End::Panic(rule)) => panic!("as fault rule {rule} says"),
            Some(End::Fail { sense, .. }) => {
                transport.pass(order);
                return ((*sense).into(), 0);
            }
            Some(End::Hang) | None => {}
        }
        if let Some(sense) = refusal {
            return ((*sense).into(), 0);
        }
        let from = transport.byte();
        let outcome = match memory.bytes {
            0 => Ok(transport.run(order, &mut [])),
            _ => self.dma.access(*memory, |bytes| transport.run(order, bytes)),
        };
        let Ok(outcome) = outcome else { return (DATA_PHASE.into(), 0) };
        let direction = match order.opcode {
            manual::WRITE | manual::WRITE_MORE => Direction::FromMemory,
            _ => Direction::ToMemory,
        };
        self.dma.count_bytes(self.channel, direction, outcome.moved);
        let nanos = transport.motion(order, from).map_or(0, |motion| model.nanos(motion));
        (outcome, nanos)
    }

    /// Reads the register at `offset`, a multiple of 4.
    fn register(&self, offset: u16) -> u32 {
        let state = self.state.lock();
        let wide = |value: u64| half(value, offset % 8 == 4);
        let Outcome { sense: Sense { key, asc, ascq, .. }, flags, residual, moved } = state.outcome;
        match offset {
            manual::ID => manual::TAPE_ID,
            manual::STATUS => {
                let is_clear = (key, flags) == (0, 0);
                let phase = match state.phase {
                    Phase::Idle => 0,
                    Phase::Begun(_) | Phase::Busy => manual::BUSY,
                    Phase::Moving => manual::BUSY | manual::MOVING,
                    Phase::Done if is_clear => manual::DONE,
                    Phase::Done => manual::DONE | manual::CHECK,
                };
                let frozen = if state.is_frozen { manual::FROZEN } else { 0 };
                phase | frozen | state.still.0
            }
            manual::SENSE => u32::from_le_bytes([ascq, asc, key, flags]),
            manual::TIMING => state.model.number(),
            _ => match offset / 8 * 8 {
                manual::BLOCK => wide(state.block),
                manual::RESIDUAL => wide(u64::from_le_bytes(residual.to_le_bytes())),
                manual::MOVED => wide(moved),
                manual::POSITION => wide(state.still.1),
                manual::SIZE => wide(state.still.2),
                _ => u32::MAX,
            },
        }
    }
}

impl Registers for TapeChip {
    fn read(&self, offset: u16, width: Width) -> u32 {
        narrow(self.register(offset / 4 * 4), offset, width)
    }

    fn write(&self, offset: u16, width: Width, value: u32) {
        if width != Width::Long {
            return;
        }
        match offset {
            manual::CONTROL => self.control(value),
            manual::DOORBELL => self.start(),
            manual::TIMING => {
                if let Some(model) = TapeModel::numbered(value) {
                    self.state.lock().model = model;
                }
            }
            _ if offset / 8 * 8 == manual::BLOCK => {
                let mut state = self.state.lock();
                state.block = with_half(state.block, offset % 8 == 4, value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "tape_tests.rs"]
mod tests;
