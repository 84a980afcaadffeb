//! A printer on a parallel port: byte by byte with a strobe, or block by block from memory.
//!
//! 1. A byte is on paper once. What hinders the printer (no paper, cover, jam, off line) stops it
//!    between two bytes, and it goes on there by itself.
//! 2. The line is raised with no lock held, after [`manual::RESULT`] says why.
//! 3. After a reset nothing more of the block before it is printed, but for a piece under way.
//! 4. Jobs begin and end on a thread of their own, for what is printed on may make them wait. They
//!    do so in the order of their commands: one that was overtaken does nothing.

use super::panel::{half, narrow, with_half};
use super::paper::{Paper, Refused, Running, When};
use crate::bus::dma::Segment;
use crate::bus::port::{Registers, Width};
use crate::bus::{BusAddress, DmaBus, IrqBus};
use crate::contract::host_file::PRINTER_SINK;
use crate::contract::{AttachError, UnitConfig};
use crate::engine::Engine;
use crate::machine::Machine;
use crate::manual::printer as manual;
use crate::sink::Sink;
use crate::sync::{Arc, Mutex};
use std::collections::VecDeque;
use std::sync::Weak;

/// Bytes printed in one event.
const PIECE_BYTES: u32 = 64 << 10;
/// Lines on a sheet.
const LINES: u32 = 66;
/// A printer with a speed prints so often a second.
const TURNS: u32 = 50;
/// When to look again whether a slow output takes more.
const AGAIN_NANOS: u64 = 2_000_000;

struct ParallelChip {
    me: Weak<ParallelChip>,
    engine: Arc<Engine>,
    irqs: Arc<IrqBus>,
    dma: Arc<DmaBus>,
    line: u8,
    state: Mutex<State>,
    /// Taken with no other lock held.
    paper: Arc<Mutex<Paper>>,
    /// Ends what the end of a job waits for.
    running: Arc<Running>,
}

#[derive(Default)]
struct State {
    op: Option<u32>,
    generation: u64,
    result: u32,
    address: u64,
    count: u32,
    done: u32,
    /// Bytes that came by strobe and are not on paper yet, and how many there may be.
    fifo: VecDeque<u8>,
    buffer: usize,
    data: u8,
    control: u8,
    has_line: bool,
    panel: u32,
    sheets: Option<u32>,
    pages: u32,
    is_on_page: bool,
    lines: u32,
    /// Letters that the ribbon is good for; none: no end of them.
    ribbon: Option<u32>,
    rate: u32,
    /// It waits for somebody at the panel.
    is_stalled: bool,
}

/// Puts the printer of a unit on the bus.
///
/// # Errors
/// `Conflict` for a place that is taken or missing, or a sink that cannot be had.
pub fn install(machine: &Machine, unit: &UnitConfig) -> Result<(), AttachError> {
    let wrong = |key| AttachError::Conflict(format!("{}: {key} is missing or wrong", unit.name));
    let port = unit.number("port").and_then(|port| u16::try_from(port).ok());
    let line = unit.number("irq").and_then(|line| u8::try_from(line).ok());
    let (port, line) = (port.ok_or_else(|| wrong("port"))?, line.ok_or_else(|| wrong("irq"))?);
    let number = |key: &str| unit.number(key).and_then(|number| u32::try_from(number).ok());
    let state = State {
        result: manual::GOOD,
        sheets: number("paper"),
        rate: number("rate").unwrap_or(0),
        ribbon: number("ribbon"),
        buffer: number("buffer").map_or(1, |bytes| bytes.max(1) as usize),
        control: manual::NOT_INIT,
        ..State::default()
    };
    let dir = machine.state_dir.as_deref();
    let sink =
        Sink::parse(&PRINTER_SINK.name(unit), dir).and_then(|sink| sink.check(dir).map(|()| sink));
    let no_sink = |why| AttachError::value(unit, PRINTER_SINK.key, why);
    let paper = Paper::new(sink.map_err(no_sink)?);
    let chip = Arc::new_cyclic(|me| ParallelChip {
        me: me.clone(),
        engine: Arc::clone(&machine.engine),
        irqs: Arc::clone(&machine.irqs),
        dma: Arc::clone(&machine.dma),
        line,
        state: Mutex::new(state),
        running: paper.running(),
        paper: Arc::new(Mutex::new(paper)),
    });
    machine.ports.install(&unit.name, port, manual::PORTS, chip)?;
    Ok(())
}

impl State {
    fn conditions(&self) -> u32 {
        let is_out = self.sheets == Some(0) && !self.is_on_page;
        let bit = |holds: bool, bit: u32| if holds { bit } else { 0 };
        self.panel | bit(is_out, manual::OUT) | bit(self.ribbon == Some(0), manual::WORN)
    }

    fn status(&self) -> u8 {
        let conditions = self.conditions();
        let bit = |holds: bool, bit: u8| if holds { bit } else { 0 };
        bit(self.has_room() && conditions == 0, manual::NOT_BUSY)
            | bit(!self.fifo.is_empty() || self.op.is_none(), manual::NOT_ACK)
            | bit(conditions & manual::OUT != 0, manual::PAPER_OUT)
            | bit(conditions & manual::OFFLINE == 0, manual::SELECTED)
            | bit(conditions == 0, manual::NO_ERROR)
    }

    /// Whether it would take a byte that is strobed in.
    fn has_room(&self) -> bool {
        let is_strobing = self.op.is_none() || !self.fifo.is_empty();
        is_strobing && self.fifo.len() < self.buffer
    }

    /// How much of `bytes` the ribbon is good for, and fits on the sheet in the printer; takes one
    /// if there is none.
    fn fit(&mut self, bytes: &[u8]) -> usize {
        let letters = |byte: &&u8| byte.is_ascii_graphic();
        let bytes = match self.ribbon.and_then(|left| usize::try_from(left).ok()) {
            Some(left) if left < bytes.len() => {
                let last = bytes.iter().enumerate().filter(|(_, b)| letters(b)).nth(left);
                &bytes[..last.map_or(bytes.len(), |(at, _)| at)]
            }
            _ => bytes,
        };
        if self.sheets.is_none() {
            return bytes.len();
        }
        if !self.is_on_page {
            self.sheets = self.sheets.map(|left| left.saturating_sub(1));
            (self.is_on_page, self.lines) = (true, 0);
        }
        let mut lines = self.lines;
        let is_end = |byte: &u8| {
            lines += u32::from(*byte == b'\n');
            *byte == 0x0c || lines >= LINES
        };
        bytes.iter().position(is_end).map_or(bytes.len(), |at| at + 1)
    }

    /// Notes that `bytes` are on paper.
    fn printed(&mut self, bytes: &[u8]) {
        if let Some(left) = &mut self.ribbon {
            let letters = bytes.iter().filter(|byte| byte.is_ascii_graphic()).count();
            *left = left.saturating_sub(u32::try_from(letters).unwrap_or(u32::MAX));
        }
        if self.sheets.is_none() {
            return;
        }
        for byte in bytes {
            self.lines += u32::from(*byte == b'\n');
            if *byte == 0x0c || self.lines >= LINES {
                (self.is_on_page, self.lines) = (false, 0);
                self.pages = self.pages.saturating_add(1);
            }
        }
    }
}

impl ParallelChip {
    fn later(&self, nanos: u64, generation: u64) {
        let me = self.me.clone();
        // Never at once: who wrote the register may neither wait nor turn the crank.
        self.engine.after(nanos.max(1), move || {
            if let Some(chip) = me.upgrade() {
                chip.turn(generation);
            }
        });
    }

    fn start(&self, op: u32) {
        let generation = {
            let mut state = self.state.lock();
            state.generation += 1;
            if op == manual::RESET {
                state.op = None;
                state.fifo.clear();
                state.result = manual::BROKEN;
                drop(state);
                return self.running.end(When::Waited);
            }
            (state.op, state.done, state.result) = (Some(op), 0, manual::RUNNING);
            (state.has_line, state.is_stalled) = (true, false);
            state.generation
        };
        self.later(0, generation);
    }

    /// A byte was strobed in.
    fn strobe(&self) {
        let generation = {
            let mut state = self.state.lock();
            if !state.has_room() || state.conditions() != 0 {
                return;
            }
            let data = state.data;
            state.fifo.push_back(data);
            if state.op.is_some() {
                return; // those before it are being printed
            }
            state.generation += 1;
            (state.op, state.done, state.count) = (Some(manual::PRINT), 0, 1);
            state.is_stalled = false;
            state.has_line = state.control & manual::IRQ_ENABLE != 0;
            state.result = manual::RUNNING;
            state.generation
        };
        self.later(0, generation);
    }

    fn turn(&self, generation: u64) {
        let mut state = self.state.lock();
        if state.generation != generation {
            return;
        }
        match state.op {
            None => {}
            Some(manual::PRINT) => {
                drop(state);
                self.print(generation);
            }
            Some(op) => {
                let name = self.block(&mut state, 4096);
                drop(state);
                self.begin_or_end(op, name, generation);
            }
        }
    }

    /// The next bytes of the block, at most `max`.
    fn block(&self, state: &mut State, max: u32) -> Option<Vec<u8>> {
        if !state.fifo.is_empty() {
            return Some(state.fifo.iter().copied().take(max as usize).collect());
        }
        let bytes = (state.count - state.done.min(state.count)).min(max);
        if bytes == 0 {
            return Some(Vec::new());
        }
        let address = BusAddress(state.address).plus(u64::from(state.done));
        self.dma.access(Segment { address, bytes }, |memory| memory.to_vec()).ok()
    }

    fn begin_or_end(&self, op: u32, name: Option<Vec<u8>>, generation: u64) {
        let (me, paper) = (self.me.clone(), Arc::clone(&self.paper));
        let work = move || {
            let name = String::from_utf8_lossy(&name.unwrap_or_default()).into_owned();
            let mut paper = paper.lock();
            let is_stale =
                || me.upgrade().is_some_and(|chip| chip.state.lock().generation != generation);
            let outcome = match op {
                _ if !paper.is_due(generation) => return,
                manual::BEGIN if is_stale() => return,
                manual::BEGIN => paper.begin(&name),
                _ => paper.end(name.is_empty() && !is_stale()),
            };
            drop(paper);
            if let Some(chip) = me.upgrade() {
                chip.finish(generation, result(outcome.err()));
            }
        };
        let thread = std::thread::Builder::new().name("paper".into());
        if let Err(refusal) = thread.spawn(work) {
            log::error!(target: "lp", "no thread for a printer: {refusal}");
            self.finish(generation, manual::BROKEN);
        }
    }

    fn print(&self, generation: u64) {
        let (bytes, rate) = {
            let mut state = self.state.lock();
            if state.conditions() != 0 {
                state.is_stalled = true;
                return;
            }
            let rate = state.rate;
            let piece = if rate == 0 { PIECE_BYTES } else { (rate / TURNS).clamp(1, PIECE_BYTES) };
            let Some(mut bytes) = self.block(&mut state, piece) else {
                drop(state);
                return self.finish(generation, manual::BROKEN);
            };
            let fits = state.fit(&bytes);
            bytes.truncate(fits);
            (bytes, rate)
        };
        let mut paper = self.paper.lock();
        if !paper.is_due(generation) {
            return; // it would go into another job
        }
        let put = match (paper.is_begun(), bytes.is_empty()) {
            (_, true) => Ok(0),
            (false, _) if !self.state.lock().fifo.is_empty() => {
                paper.begin("0 direct").and_then(|()| paper.put(&bytes))
            }
            _ => paper.put(&bytes),
        };
        drop(paper);
        let mut state = self.state.lock();
        if state.generation != generation {
            return;
        }
        match put {
            Ok(len) => {
                state.printed(&bytes[..len]);
                state.done = state.done.saturating_add(u32::try_from(len).unwrap_or(0));
                let is_over = if state.fifo.is_empty() {
                    state.done >= state.count
                } else {
                    state.fifo.drain(..len);
                    state.fifo.is_empty()
                };
                drop(state);
                if is_over {
                    self.finish(generation, manual::GOOD);
                } else if rate == 0 {
                    self.later(0, generation);
                } else {
                    self.later(len as u64 * 1_000_000_000 / u64::from(rate), generation);
                }
            }
            Err(Refused::NotYet) => {
                drop(state);
                self.later(AGAIN_NANOS, generation);
            }
            Err(refused) => {
                drop(state);
                self.finish(generation, result(Some(refused)));
            }
        }
    }

    fn finish(&self, generation: u64, result: u32) {
        let has_line = {
            let mut state = self.state.lock();
            if state.generation != generation || state.op.is_none() {
                return;
            }
            state.op = None;
            state.fifo.clear();
            state.result = result;
            state.has_line
        };
        if has_line {
            self.irqs.raise(self.line);
        }
    }

    /// Somebody was at the panel: goes on where it stopped, if it can.
    fn go_on(&self, change: impl FnOnce(&mut State)) {
        let generation = {
            let mut state = self.state.lock();
            change(&mut state);
            if !state.is_stalled || state.conditions() != 0 {
                return;
            }
            state.is_stalled = false;
            state.generation
        };
        self.later(0, generation);
    }
}

fn result(refused: Option<Refused>) -> u32 {
    match refused {
        None => manual::GOOD,
        Some(Refused::NoSpace | Refused::NotYet) => manual::NO_SPACE,
        Some(Refused::Broken(why)) => {
            log::warn!(target: "lp", "{why}");
            manual::BROKEN
        }
    }
}

impl Registers for ParallelChip {
    fn read(&self, offset: u16, width: Width) -> u32 {
        let state = self.state.lock();
        match offset {
            manual::DATA => return state.data.into(),
            manual::STATUS => return state.status().into(),
            manual::CONTROL => return state.control.into(),
            _ => {}
        }
        let register = match offset / 4 * 4 {
            manual::ID => manual::PRINTER_ID,
            manual::RESULT => state.result,
            manual::ADDRESS => half(state.address, false),
            0x14 => half(state.address, true), // the other half of the address
            manual::COUNT => state.count,
            manual::DONE => state.done,
            manual::PAPER => state.sheets.unwrap_or(u32::MAX),
            manual::PANEL => state.conditions(),
            manual::RATE => state.rate,
            manual::PAGES => state.pages,
            manual::RIBBON => state.ribbon.unwrap_or(u32::MAX),
            manual::BUFFER => u32::try_from(state.buffer).unwrap_or(u32::MAX),
            _ => u32::MAX,
        };
        narrow(register, offset, width)
    }

    fn write(&self, offset: u16, width: Width, value: u32) {
        let byte = value.to_le_bytes()[0];
        match (offset, width) {
            (manual::DATA, _) => self.state.lock().data = byte,
            (manual::CONTROL, _) => {
                let before = std::mem::replace(&mut self.state.lock().control, byte);
                if byte & manual::NOT_INIT == 0 {
                    self.start(manual::RESET);
                    self.running.end(When::Always);
                } else if byte & !before & manual::STROBE != 0 {
                    self.strobe();
                }
            }
            (manual::OP, Width::Long) => self.start(value),
            (manual::ADDRESS | 0x14, Width::Long) => {
                let mut state = self.state.lock();
                state.address = with_half(state.address, offset == 0x14, value);
            }
            (manual::COUNT, Width::Long) => self.state.lock().count = value,
            (manual::RATE, Width::Long) => self.state.lock().rate = value,
            (manual::PANEL, Width::Long) => self.go_on(|state| state.panel = value & 7),
            (manual::RIBBON, Width::Long) => {
                self.go_on(|state| state.ribbon = (value != u32::MAX).then_some(value));
            }
            (manual::PAPER, Width::Long) => self.go_on(|state| {
                state.sheets = (value != u32::MAX).then_some(value);
                if value == 0 {
                    state.is_on_page = false; // also the sheet that was being printed
                }
            }),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "parallel_tests.rs"]
mod tests;
