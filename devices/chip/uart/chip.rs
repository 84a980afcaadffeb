//! Registers and FIFOs of the serial chip, and how characters become bits. No time passes here.

use crate::bus::cable::{Frame, Gauge};
use crate::contract::{Parity, SimTime};
use crate::serial_manual::{
    BASE_RATE, DATA, FCR, FCR_CLEAR_IN, FCR_CLEAR_OUT, FCR_ON, FIFO, IER, IER_EMPTY, IER_LINE,
    IER_MODEM, IER_RECEIVED, IIR, IIR_EMPTY, IIR_FIFO, IIR_LINE, IIR_MODEM, IIR_NONE, IIR_RECEIVED,
    IIR_TIMEOUT, LCR, LCR_BITS, LCR_BREAK, LCR_DLAB, LCR_EVEN, LCR_PARITY, LCR_STICK,
    LCR_TWO_STOPS, LSR, LSR_BAD, LSR_EMPTY, LSR_FRAMING, LSR_IDLE, LSR_OVERRUN, LSR_PARITY,
    LSR_READY, MCR, MCR_DTR, MCR_HALF, MCR_LOOP, MCR_OUT1, MCR_OUT2, MCR_RTS, MSR, MSR_CHANGES,
    MSR_CTS, MSR_DCD, MSR_DSR, MSR_RI, SCR,
};
use std::collections::VecDeque;

/// FIFO levels of the two high bits of FCR.
const TRIGGERS: [usize; 4] = [1, 4, 8, 14];

#[derive(Default)]
pub(in crate::chip) struct Chip {
    pub(super) divisor: u16,
    pub(super) ier: u8,
    pub(super) lcr: u8,
    pub(super) mcr: u8,
    pub(super) scr: u8,
    /// Levels above, changes below, as in MSR.
    pub(super) msr: u8,
    pub(super) has_fifo: bool,
    pub(super) trigger: usize,
    /// Characters, with their errors as in LSR.
    pub(super) received: VecDeque<(u8, u8)>,
    pub(super) has_overrun: bool,
    pub(super) is_timed_out: bool,
    pub(super) is_timeout_armed: bool,
    pub(super) heard_at: SimTime,
    /// Characters to send, those under way included.
    pub(super) to_send: VecDeque<u8>,
    /// An event will come, or is, that takes characters out of `to_send`.
    pub(super) is_sending: bool,
    /// The sender has run empty: that is being told, and what is written now follows without gap.
    pub(super) is_refilling: bool,
    pub(super) sent_at: SimTime,
    pub(super) is_empty_told: bool,
    pub(super) is_up: bool,
    pub(super) noise: u32,
    pub(super) gauge: Gauge,
}

/// What an access to a register does besides.
#[derive(Default)]
pub(super) struct Effects {
    /// The line went up.
    pub(super) rises: bool,
    /// There is something to send, and nobody sends.
    pub(super) sends: bool,
    /// Few characters are left in the FIFO, which may have to be told of later.
    pub(super) waits: bool,
    /// RTS and DTR have changed.
    pub(super) outputs: Option<(bool, bool)>,
    pub(super) holds_line: bool,
}

impl Chip {
    pub(super) fn character_nanos(&self) -> u64 {
        let bits = 2
            + self.data_bits()
            + u64::from(self.lcr & LCR_PARITY != 0)
            + u64::from(self.lcr & LCR_TWO_STOPS != 0);
        bits * 1_000_000_000 * self.divisor().max(1) / u64::from(BASE_RATE)
    }

    pub(super) fn divisor(&self) -> u64 {
        if self.divisor == 0 { 0x1_0000 } else { self.divisor.into() }
    }

    pub(super) fn rate(&self) -> u32 {
        BASE_RATE / u32::try_from(self.divisor()).unwrap_or(u32::MAX)
    }

    pub(super) fn data_bits(&self) -> u64 {
        5 + u64::from(self.lcr & LCR_BITS)
    }

    pub(super) fn parity(&self) -> Parity {
        match self.lcr & (LCR_PARITY | LCR_STICK | LCR_EVEN) {
            flags if flags & LCR_PARITY == 0 => Parity::None,
            flags if flags & LCR_STICK == 0 && flags & LCR_EVEN == 0 => Parity::Odd,
            flags if flags & LCR_STICK == 0 => Parity::Even,
            flags if flags & LCR_EVEN == 0 => Parity::Mark,
            _ => Parity::Space,
        }
    }

    pub(super) fn ones(&self) -> u8 {
        u8::MAX >> (3 - (self.lcr & LCR_BITS))
    }

    pub(super) fn outputs(&self) -> (bool, bool) {
        let is_loop = self.mcr & MCR_LOOP != 0;
        (!is_loop && self.mcr & MCR_RTS != 0, !is_loop && self.mcr & MCR_DTR != 0)
    }

    /// MSR in loopback: the outputs come back.
    pub(super) fn looped(&self) -> u8 {
        let table =
            [(MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD)];
        table.iter().filter(|(out, _)| self.mcr & out != 0).map(|(_, back)| back).sum()
    }

    pub(super) fn parity_bit(&self, byte: u8) -> Option<bool> {
        let is_odd = byte.count_ones() % 2 == 1;
        match self.parity() {
            Parity::None => None,
            Parity::Even => Some(is_odd),
            Parity::Odd => Some(!is_odd),
            Parity::Mark => Some(true),
            Parity::Space => Some(false),
        }
    }

    pub(super) fn frame(&self, byte: u8) -> Frame {
        let byte = byte & self.ones();
        let data = u32::try_from(self.data_bits()).unwrap_or(8);
        let mut bits = u16::MAX << data | u16::from(byte);
        if self.parity_bit(byte) == Some(false) {
            bits &= !(1 << data);
        }
        Frame { byte, bits, rate: self.rate() }
    }

    /// A character arrives: its bits are looked at when this chip expects them.
    pub(super) fn hear(&mut self, frame: Frame) {
        self.gauge.heard += 1;
        let mut bits = frame.bits;
        if self.noise > 0 {
            self.noise -= 1;
            bits ^= 1;
        }
        let own_rate = u64::from(self.rate()).max(1);
        let bit = |number: u64| {
            // In the middle of the bit, counted from the beginning of the start bit.
            let at = (2 * (number + 1) + 1) * u64::from(frame.rate);
            match at / (2 * own_rate) {
                0 => false, // still the start bit
                at => at > 16 || bits >> (at - 1) & 1 == 1,
            }
        };
        let data = self.data_bits();
        let byte = (0..data).fold(0_u8, |byte, number| byte | u8::from(bit(number)) << number);
        let mut flags = 0;
        let mut next = data;
        if let Some(expected) = self.parity_bit(byte) {
            if bit(next) != expected {
                flags |= LSR_PARITY;
                self.gauge.parity += 1;
            }
            next += 1;
        }
        if !bit(next) {
            flags |= LSR_FRAMING;
            self.gauge.framing += 1;
        }
        self.push(byte, flags);
    }

    pub(super) fn is_full(&self) -> bool {
        self.received.len() >= if self.has_fifo { FIFO } else { 1 }
    }

    pub(super) fn push(&mut self, byte: u8, flags: u8) {
        if !self.is_full() {
            self.received.push_back((byte, flags));
            return;
        }
        self.has_overrun = true;
        self.gauge.overrun += 1;
        if !self.has_fifo {
            self.received[0] = (byte, flags); // the newer stays, as in the 16450
        }
    }

    /// Characters are there, but too few to be told of at once.
    pub(super) fn has_few(&self) -> bool {
        self.has_fifo && (1..self.trigger).contains(&self.received.len())
    }

    /// Such, and nothing has been started to tell of them.
    pub(super) fn has_untold(&self) -> bool {
        self.has_few() && !self.is_timeout_armed && !self.is_timed_out
    }

    /// What the interrupt is for, as in IIR.
    pub(super) fn cause(&self) -> u8 {
        let is_wanted = |bit: u8| self.ier & bit != 0;
        let is_bad = self.has_overrun || self.received.front().is_some_and(|c| c.1 != 0);
        let level = self.received.len();
        if is_wanted(IER_LINE) && is_bad {
            IIR_LINE
        } else if is_wanted(IER_RECEIVED) && level >= if self.has_fifo { self.trigger } else { 1 } {
            IIR_RECEIVED
        } else if is_wanted(IER_RECEIVED) && self.is_timed_out && level > 0 {
            IIR_TIMEOUT
        } else if is_wanted(IER_EMPTY) && self.to_send.is_empty() && !self.is_empty_told {
            IIR_EMPTY
        } else if is_wanted(IER_MODEM) && self.msr & MSR_CHANGES != 0 {
            IIR_MODEM
        } else {
            IIR_NONE
        }
    }

    /// Brings the interrupt line up to date. `true`: it went up.
    pub(super) fn settle(&mut self) -> bool {
        let is_up = self.cause() != IIR_NONE && self.mcr & MCR_OUT2 != 0;
        let rises = is_up && !self.is_up;
        self.is_up = is_up;
        rises
    }

    pub(super) fn line_status(&self) -> u8 {
        let mut status = self.received.front().map_or(0, |(_, flags)| LSR_READY | flags);
        if self.has_overrun {
            status |= LSR_OVERRUN;
        }
        if self.to_send.is_empty() {
            status |= LSR_EMPTY | LSR_IDLE;
        }
        if self.has_fifo && self.received.iter().any(|(_, flags)| *flags != 0) {
            status |= LSR_BAD;
        }
        status
    }

    pub(super) fn read(&mut self, offset: u16) -> u8 {
        let [low, high] = self.divisor.to_le_bytes();
        let is_divisor = self.lcr & LCR_DLAB != 0;
        match offset {
            DATA if is_divisor => low,
            IER if is_divisor => high,
            DATA => {
                self.is_timed_out &= self.received.len() > 1;
                self.received.pop_front().map_or(0, |(byte, _)| byte)
            }
            IER => self.ier,
            IIR => {
                let cause = self.cause();
                self.is_empty_told |= cause == IIR_EMPTY;
                cause | if self.has_fifo { IIR_FIFO } else { 0 }
            }
            LCR => self.lcr,
            MCR => self.mcr,
            LSR => {
                let status = self.line_status();
                self.has_overrun = false;
                if let Some((_, flags)) = self.received.front_mut() {
                    *flags = 0;
                }
                status
            }
            MSR => {
                let value = self.msr;
                self.msr &= !MSR_CHANGES;
                value
            }
            SCR => self.scr,
            _ => u8::MAX,
        }
    }

    pub(super) fn write(&mut self, offset: u16, value: u8) -> Effects {
        let mut effects = Effects::default();
        let [low, high] = self.divisor.to_le_bytes();
        let is_divisor = self.lcr & LCR_DLAB != 0;
        match offset {
            DATA if is_divisor => self.divisor = u16::from_le_bytes([value, high]),
            IER if is_divisor => self.divisor = u16::from_le_bytes([low, value]),
            DATA => {
                if self.to_send.len() < if self.has_fifo { FIFO } else { 1 } {
                    self.to_send.push_back(value);
                }
                self.is_empty_told = false; // the next emptiness is another
                effects.sends = !self.is_sending;
            }
            IER => {
                // Wanting it anew tells of an emptiness already told of.
                self.is_empty_told &= value & !self.ier & IER_EMPTY == 0;
                self.ier = value & (IER_RECEIVED | IER_EMPTY | IER_LINE | IER_MODEM);
            }
            FCR => self.control_fifos(value),
            LCR => {
                effects.holds_line = value & !self.lcr & LCR_BREAK != 0;
                self.lcr = value;
            }
            MCR => {
                let old = self.outputs();
                self.mcr = value & (0x1f | MCR_HALF);
                effects.outputs = Some(self.outputs()).filter(|new| *new != old);
            }
            SCR => self.scr = value,
            _ => {} // LSR and MSR are the chip's own
        }
        effects
    }

    pub(super) fn control_fifos(&mut self, value: u8) {
        let is_on = value & FCR_ON != 0;
        let has_changed = is_on != self.has_fifo;
        self.has_fifo = is_on;
        if has_changed || value & FCR_CLEAR_IN != 0 {
            self.received.clear();
            self.is_timed_out = false;
        }
        if has_changed || value & FCR_CLEAR_OUT != 0 {
            self.to_send.clear();
        }
        if is_on {
            self.trigger = TRIGGERS[usize::from(value >> 6)];
        }
    }
}
