//! The serial chip, a 16550A: what it does to the bus and the cable, and when.
//!
//! Its registers and FIFOs are in `uart/chip.rs`.
//!
//! 1. What arrives at a full FIFO is lost and counted; what is in it stays.
//! 2. Characters leave in order, each after its time; those of a FIFO filled at once leave
//!    together, at the end of the last, unless the other end is looked at. Without pacing they
//!    take no time.
//! 3. A line is raised by events and arriving characters, never inside an access to a register.
//! 4. The interrupt line is up while a wanted cause holds and OUT2 lets it through; each time it
//!    goes up it is raised once on the bus.

mod chip;

use crate::bus::IrqBus;
use crate::bus::cable::{FarEnd, Frame, Gauge, Socket};
use crate::bus::port::{Registers, Width};
use crate::contract::{AttachError, Clock, UnitConfig};
use crate::engine::Engine;
use crate::machine::Machine;
use crate::serial_manual::{
    DATA, LSR_BREAK, MCR, MCR_HALF, MCR_LOOP, MCR_OUT2, MSR_CHANGES, MSR_CTS, MSR_DCD, MSR_DSR,
    MSR_RI, PORTS,
};
use crate::sync::{Arc, Mutex};
use chip::{Chip, Effects};
use std::sync::Weak;

/// So many characters' time may pass without another before a few are told of (the manual's 4).
const TIMEOUT_CHARACTERS: u64 = 4;

/// See the head of this file.
pub(super) struct Uart {
    me: Weak<Uart>,
    engine: Arc<Engine>,
    irqs: Arc<IrqBus>,
    line: u8,
    is_paced: bool,
    chip: Mutex<Chip>,
    far: Mutex<Option<Weak<dyn FarEnd>>>,
}

/// Puts a described chip on the bus, its cable in the cables' list.
///
/// # Errors
/// `Conflict` where something is taken or a value does not fit; `Host` for a peer on the host
/// that cannot be had.
pub fn install(machine: &Machine, unit: &UnitConfig) -> Result<(), AttachError> {
    let place = |key: &str| unit.number(key).unwrap_or(u64::MAX);
    let wrong = |key: &str| {
        AttachError::Conflict(format!("{}: {key} = {}: there is none", unit.name, place(key)))
    };
    let port = u16::try_from(place("port")).map_err(|_| wrong("port"))?;
    let line = u8::try_from(place("irq")).map_err(|_| wrong("irq"))?;
    let uart = Uart::new(machine, line, unit);
    machine.ports.install(&unit.name, port, PORTS, Arc::clone(&uart) as _)?;
    let peer = unit.text("peer").unwrap_or_default();
    let joined = super::host_line::install(machine, unit, &uart, peer);
    if joined.is_err() {
        machine.ports.remove(port);
    }
    joined
}

impl Uart {
    pub(super) fn new(machine: &Machine, line: u8, unit: &UnitConfig) -> Arc<Uart> {
        let chip = Chip { divisor: 96, lcr: 3, trigger: 1, ..Chip::default() };
        Arc::new_cyclic(|me| Uart {
            me: Weak::clone(me),
            engine: Arc::clone(&machine.engine),
            irqs: Arc::clone(&machine.irqs),
            line,
            is_paced: unit.flag("pacing"),
            chip: Mutex::new(chip),
            far: Mutex::new(None),
        })
    }

    fn far(&self) -> Option<Arc<dyn FarEnd>> {
        self.far.lock().as_ref()?.upgrade()
    }

    fn after(&self, nanos: u64, event: impl FnOnce(&Uart) + Send + 'static) {
        let me = Weak::clone(&self.me);
        self.engine.after(nanos, move || {
            if let Some(uart) = me.upgrade() {
                event(&uart);
            }
        });
    }

    /// Does what an access to a register brought with it, with no lock held.
    fn follow(&self, effects: &Effects) {
        if effects.rises {
            self.after(0, Uart::raise);
        }
        if effects.sends {
            self.send_soon();
        }
        if effects.waits {
            self.arm_timeout();
        }
        if effects.outputs.is_none() && !effects.holds_line {
            return;
        }
        if let Some(far) = self.far() {
            if let Some((rts, dtr)) = effects.outputs {
                far.signals(rts, dtr);
            }
            if effects.holds_line {
                far.hear_break();
            }
        }
    }

    /// The line went up: its handlers run.
    fn raise(&self) {
        let is_up = self.chip.lock().is_up;
        if is_up {
            self.irqs.raise(self.line);
        }
    }

    fn nanos(&self, chip: &Chip, characters: usize) -> u64 {
        if self.is_paced { chip.character_nanos() * characters as u64 } else { 0 }
    }

    /// Has characters leave, unless some already do.
    fn send_soon(&self) {
        let mut chip = self.chip.lock();
        if chip.is_sending || chip.is_refilling || chip.to_send.is_empty() {
            return;
        }
        chip.is_sending = true;
        chip.sent_at = self.engine.now();
        // The first alone: whoever waits for one character has it at its time.
        let nanos = self.nanos(&chip, 1);
        drop(chip);
        self.after(nanos, |uart| uart.sent(1));
    }

    /// So many characters have left; without pacing, all.
    fn sent(&self, count: usize) {
        let mut chip = self.chip.lock();
        chip.sent_at = chip.sent_at.after(self.nanos(&chip, count));
        let count = if self.is_paced { count.min(chip.to_send.len()) } else { chip.to_send.len() };
        let bytes: Vec<u8> = chip.to_send.iter().take(count).copied().collect();
        let frames: Vec<Frame> = bytes.iter().map(|byte| chip.frame(*byte)).collect();
        let is_loop = chip.mcr & MCR_LOOP != 0;
        chip.gauge.sent += count as u64;
        drop(chip);
        let far = self.far();
        if is_loop {
            self.hear(&frames);
        } else if let Some(far) = &far {
            far.hear(&frames);
        }
        let is_one_by_one = self.is_paced && far.is_some_and(|far| far.hears_each());
        let mut chip = self.chip.lock();
        let gone = count.min(chip.to_send.len()); // unless they were flushed meanwhile
        chip.to_send.drain(..gone);
        if chip.to_send.is_empty() {
            chip.is_refilling = true;
            chip.is_sending = false;
            chip.is_empty_told = false;
            let rises = chip.settle();
            drop(chip);
            if rises {
                self.irqs.raise(self.line);
            }
            chip = self.chip.lock();
            chip.is_refilling = false;
        }
        let rest = match chip.to_send.len() {
            0 => return,
            _ if is_one_by_one => 1,
            rest => rest,
        };
        chip.is_sending = true;
        let due = chip.sent_at.after(self.nanos(&chip, rest));
        drop(chip);
        self.after(due.since(self.engine.now()), move |uart| uart.sent(rest));
    }

    fn arm_timeout(&self) {
        let mut chip = self.chip.lock();
        if chip.is_timeout_armed || chip.is_timed_out || !chip.has_few() {
            return;
        }
        chip.is_timeout_armed = true;
        let due = chip.heard_at.after(TIMEOUT_CHARACTERS * self.nanos(&chip, 1));
        drop(chip);
        self.after(due.since(self.engine.now()), Uart::timed_out);
    }

    fn timed_out(&self) {
        let mut chip = self.chip.lock();
        chip.is_timeout_armed = false;
        if !chip.has_few() {
            return;
        }
        let due = chip.heard_at.after(TIMEOUT_CHARACTERS * self.nanos(&chip, 1));
        if due > self.engine.now() {
            drop(chip);
            return self.arm_timeout();
        }
        chip.is_timed_out = true;
        let rises = chip.settle();
        drop(chip);
        if rises {
            self.irqs.raise(self.line);
        }
    }

    /// MSR, with these lines up.
    fn take_signals(&self, up: u8) {
        let mut chip = self.chip.lock();
        let old = chip.msr & !MSR_CHANGES;
        let mut changes = (old ^ up) >> 4;
        if up & MSR_RI != 0 {
            changes &= !(MSR_RI >> 4); // only its end is told
        }
        chip.msr = up | (chip.msr & MSR_CHANGES) | changes;
        let rises = chip.settle();
        drop(chip);
        if rises {
            self.after(0, Uart::raise);
        }
    }
}

impl FarEnd for Uart {
    fn hear(&self, frames: &[Frame]) {
        let mut chip = self.chip.lock();
        let is_looped = chip.mcr & MCR_LOOP != 0;
        let is_half_duplex = chip.mcr & MCR_HALF != 0;
        if is_half_duplex && self.is_paced && chip.is_sending && !is_looped {
            chip.gauge.collided += frames.len() as u64;
            return;
        }
        chip.heard_at = self.engine.now();
        let mut has_asked = false;
        for frame in frames {
            if chip.is_full() && chip.is_up && !has_asked {
                // The line is up: its handler may be at work on another thread, which the host
                // runs late. Only what a masked line or a slow machine cannot take is lost.
                has_asked = true;
                drop(chip);
                self.irqs.raise(self.line);
                chip = self.chip.lock();
            }
            chip.hear(*frame);
            if chip.settle() {
                drop(chip);
                self.irqs.raise(self.line);
                chip = self.chip.lock();
            }
        }
        let is_few = chip.has_few();
        drop(chip);
        if is_few {
            self.arm_timeout();
        }
    }

    fn hears_each(&self) -> bool {
        self.chip.lock().mcr & MCR_OUT2 == 0 // no interrupt will tell of them
    }

    fn signals(&self, rts: bool, dtr: bool) {
        if self.chip.lock().mcr & MCR_LOOP != 0 {
            return;
        }
        // A null modem: their RTS is our CTS, their DTR our DSR and DCD.
        let cts = if rts { MSR_CTS } else { 0 };
        self.take_signals(cts | if dtr { MSR_DSR | MSR_DCD } else { 0 });
    }

    fn hear_break(&self) {
        let mut chip = self.chip.lock();
        chip.heard_at = self.engine.now();
        chip.gauge.breaks += 1;
        chip.push(0, LSR_BREAK);
        let rises = chip.settle();
        drop(chip);
        if rises {
            self.after(0, Uart::raise);
        }
        self.arm_timeout();
    }
}

impl Socket for Uart {
    fn plug(&self, far: Weak<dyn FarEnd>) {
        *self.far.lock() = Some(far);
    }

    fn outputs(&self) -> (bool, bool) {
        self.chip.lock().outputs()
    }

    fn frame(&self, byte: u8) -> Frame {
        self.chip.lock().frame(byte)
    }

    fn character_nanos(&self) -> u64 {
        self.nanos(&self.chip.lock(), 1)
    }

    fn disturb(&self, characters: u32) {
        self.chip.lock().noise = characters;
    }

    fn gauge(&self) -> Gauge {
        let chip = self.chip.lock();
        let registers = [chip.ier, chip.lcr, chip.mcr, chip.line_status(), chip.msr];
        let levels = (chip.received.len(), chip.to_send.len());
        Gauge { registers, divisor: chip.divisor, levels, ..chip.gauge }
    }
}

impl Registers for Uart {
    fn read(&self, offset: u16, width: Width) -> u32 {
        if width != Width::Byte {
            return width.ones(); // the chip sits on eight wires
        }
        let mut chip = self.chip.lock();
        let value = chip.read(offset);
        let effects =
            Effects { rises: chip.settle(), waits: chip.has_untold(), ..Effects::default() };
        drop(chip);
        if effects.rises || (effects.waits && offset == DATA) {
            self.follow(&effects);
        }
        value.into()
    }

    fn write(&self, offset: u16, width: Width, value: u32) {
        if width != Width::Byte {
            return;
        }
        let mut chip = self.chip.lock();
        let mut effects = chip.write(offset, value.to_le_bytes()[0]);
        effects.rises = chip.settle();
        let looped = (offset == MCR && chip.mcr & MCR_LOOP != 0).then(|| chip.looped());
        drop(chip);
        self.follow(&effects);
        if let Some(up) = looped {
            self.take_signals(up);
        }
    }
}

#[cfg(test)]
#[path = "uart_tests.rs"]
mod tests;
