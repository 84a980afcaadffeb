//! A serial port over its chip: the two rings, the control registers, and who serves the FIFOs.
//!
//! That is the interrupt, or, where the port is polled, a look every so often: the interrupt line
//! is then cut off from the bus (OUT2), and what the FIFO cannot hold until the next look is lost.
//! Nobody looks while the port is closed and has nothing to send.

use crate::bus::{IrqLine, PortIo};
use crate::contract::{
    Heard, LineSettings, Mark, Parity, RingState, SerialCounters, SerialPort, Signals, WaitQueue,
};
use crate::engine::Engine;
use crate::ring::Ring;
use crate::serial_manual::{
    BASE_RATE, DATA, FCR, FCR_CLEAR_IN, FCR_CLEAR_OUT, FCR_ON, FCR_TRIGGER_14, FIFO, IER,
    IER_EMPTY, IER_LINE, IER_MODEM, IER_RECEIVED, IIR, IIR_EMPTY, IIR_MODEM, IIR_NONE, LCR,
    LCR_BREAK, LCR_DLAB, LCR_EVEN, LCR_PARITY, LCR_STICK, LCR_TWO_STOPS, LSR, LSR_BREAK, LSR_EMPTY,
    LSR_FRAMING, LSR_OVERRUN, LSR_PARITY, LSR_READY, MCR, MCR_DTR, MCR_HALF, MCR_OUT2, MCR_RTS,
    MSR, MSR_CHANGES, MSR_CTS, MSR_DCD, MSR_DSR, MSR_RI,
};
use crate::sync::{Arc, Mutex};
use std::collections::VecDeque;
use std::sync::Weak;

/// Characters that the ring of what came in holds.
const IN_MAX: usize = 4096;
/// Characters that the ring of what is to be sent holds.
pub(super) const OUT_MAX: usize = 4096;
/// So many left to send: whoever waits for room is woken.
const OUT_LOW: usize = OUT_MAX / 2;
/// Most causes served in one interrupt.
const CAUSES_MAX: u32 = 256;

/// See the head of this file.
pub(super) struct ComPort {
    me: Weak<ComPort>,
    engine: Arc<Engine>,
    io: PortIo,
    line: Arc<IrqLine>,
    rings: Mutex<Rings>,
    bell: Arc<WaitQueue>,
}

struct Rings {
    came: Ring<Heard>,
    to_send: Ring<u8>,
    /// Sent before all others.
    first: VecDeque<u8>,
    is_open: bool,
    /// DTR and RTS fall when all is sent.
    hangs_up: bool,
    is_stopped: bool,
    obeys_cts: bool,
    /// MSR as the last interrupt found it.
    msr: u8,
    /// All that was given to the chip has left it.
    is_chip_idle: bool,
    receives: bool,
    /// What the control registers hold.
    ier: u8,
    lcr: u8,
    mcr: u8,
    counters: SerialCounters,
    /// How often the host looks, in nanoseconds; `None`: it is interrupted.
    poll_nanos: Option<u64>,
    /// The next look is scheduled.
    will_poll: bool,
}

impl Rings {
    fn may_send(&self) -> bool {
        !self.is_stopped && (self.msr & MSR_CTS != 0 || !self.obeys_cts)
    }

    fn has_some(&self) -> bool {
        !self.first.is_empty() || (self.may_send() && !self.to_send.is_empty())
    }
}

impl ComPort {
    pub(super) fn new(engine: &Arc<Engine>, io: PortIo, line: Arc<IrqLine>) -> Arc<ComPort> {
        let rings = Rings {
            came: Ring::new(IN_MAX, Heard { byte: 0, mark: Mark::Good }),
            to_send: Ring::new(OUT_MAX, 0),
            first: VecDeque::new(),
            is_open: false,
            hangs_up: false,
            is_stopped: false,
            obeys_cts: false,
            msr: 0,
            is_chip_idle: true,
            receives: true,
            ier: IER_RECEIVED | IER_LINE | IER_MODEM,
            lcr: 3,
            mcr: MCR_OUT2,
            counters: SerialCounters::default(),
            poll_nanos: None,
            will_poll: false,
        };
        Arc::new_cyclic(|me| ComPort {
            me: Weak::clone(me),
            engine: Arc::clone(engine),
            io,
            line,
            rings: Mutex::new(rings),
            bell: Arc::default(),
        })
    }

    /// Brings the chip into a known state, and lets its interrupts through.
    pub(super) fn begin(&self) {
        let mut rings = self.rings.lock();
        self.io.outb(FCR, FCR_ON | FCR_CLEAR_IN | FCR_CLEAR_OUT | FCR_TRIGGER_14);
        self.io.outb(LCR, rings.lcr);
        self.io.outb(MCR, rings.mcr);
        self.io.outb(IER, rings.ier);
        rings.msr = self.io.inb(MSR);
    }

    /// Asks to be told when the chip takes more, or no longer.
    fn want_empty(&self, rings: &mut Rings, is_wanted: bool) {
        let ier = if is_wanted { rings.ier | IER_EMPTY } else { rings.ier & !IER_EMPTY };
        if ier != rings.ier {
            rings.ier = ier;
            self.io.outb(IER, ier);
        }
        if is_wanted {
            self.poll_later(rings);
        }
    }

    /// Has the chip served every so often, or, with `None`, by its interrupt.
    pub(super) fn set_polled(&self, nanos: Option<u64>) {
        let mut rings = self.rings.lock();
        rings.poll_nanos = nanos;
        rings.mcr = if nanos.is_some() { rings.mcr & !MCR_OUT2 } else { rings.mcr | MCR_OUT2 };
        self.io.outb(MCR, rings.mcr);
        self.poll_later(&mut rings);
    }

    /// Schedules the next look, if the port is polled.
    fn poll_later(&self, rings: &mut Rings) {
        let Some(nanos) = rings.poll_nanos.filter(|_| !rings.will_poll) else { return };
        rings.will_poll = true;
        let me = Weak::clone(&self.me);
        self.engine.after(nanos, move || {
            if let Some(port) = me.upgrade() {
                port.poll();
            }
        });
    }

    /// Looks at the chip.
    fn poll(&self) {
        let mut rings = self.rings.lock();
        rings.will_poll = false;
        if rings.poll_nanos.is_none() {
            return;
        }
        rings.counters.polls += 1;
        let received = rings.counters.received;
        self.take(&mut rings);
        let mut is_news = self.look_at_modem(&mut rings);
        is_news |= rings.counters.received != received;
        let is_sending = |rings: &Rings| rings.has_some() || !rings.is_chip_idle || rings.hangs_up;
        if is_sending(&rings) && self.line_status(&mut rings) & LSR_EMPTY != 0 {
            is_news |= self.refill(&mut rings);
        }
        // Also where all that is left waits for CTS, which only a look sees.
        if rings.is_open || is_sending(&rings) || !rings.to_send.is_empty() {
            self.poll_later(&mut rings);
        }
        drop(rings);
        if is_news {
            self.bell.ring();
        }
    }

    /// What the chip says of the line; it says once that it had lost some.
    fn line_status(&self, rings: &mut Rings) -> u8 {
        let status = self.io.inb(LSR);
        rings.counters.overrun += u64::from(status & LSR_OVERRUN != 0);
        status
    }

    pub(super) fn interrupt(&self) {
        let mut is_news = false;
        let mut rings = self.rings.lock();
        for _ in 0..CAUSES_MAX {
            match self.io.inb(IIR) & 0x0f {
                IIR_NONE => break,
                IIR_EMPTY => is_news |= self.refill(&mut rings),
                IIR_MODEM => {
                    self.take(&mut rings); // a few may wait in the FIFO, and came before this
                    self.look_at_modem(&mut rings);
                    is_news = true;
                }
                _ => {
                    self.take(&mut rings);
                    is_news = true;
                }
            }
        }
        drop(rings);
        if is_news {
            self.bell.ring();
        }
    }

    /// Empties the receiver's FIFO.
    fn take(&self, rings: &mut Rings) {
        for _ in 0..4 * FIFO {
            let status = self.line_status(rings);
            if status & LSR_READY == 0 {
                return;
            }
            let byte = self.io.inb(DATA);
            rings.counters.received += 1;
            let mark = match status {
                _ if status & LSR_BREAK != 0 => Mark::Break,
                _ if status & LSR_PARITY != 0 => Mark::Parity,
                _ if status & LSR_FRAMING != 0 => Mark::Framing,
                _ => Mark::Good,
            };
            match mark {
                Mark::Break => rings.counters.breaks += 1,
                Mark::Parity => rings.counters.parity += 1,
                Mark::Framing => rings.counters.framing += 1,
                Mark::Good => {}
            }
            if !rings.is_open || !rings.receives {
                rings.counters.dropped += 1;
            } else if rings.came.put(&[Heard { byte, mark }]) == 0 {
                rings.counters.overflow += 1;
            }
        }
    }

    /// Gives the chip what it takes. `true`: somebody may be waiting for that.
    fn refill(&self, rings: &mut Rings) -> bool {
        let before = rings.to_send.len();
        let mut is_chip_idle = true;
        for _ in 0..FIFO {
            let byte = match rings.first.pop_front() {
                Some(byte) => Some(byte),
                None if rings.may_send() => rings.to_send.pop(),
                None => None,
            };
            let Some(byte) = byte else { break };
            self.io.outb(DATA, byte);
            is_chip_idle = false;
            rings.counters.sent += 1;
        }
        // The chip tells of emptiness when the last has left it.
        rings.is_chip_idle = is_chip_idle;
        if is_chip_idle {
            self.want_empty(rings, false);
        }
        let is_all = is_chip_idle && rings.to_send.is_empty();
        if is_all && rings.hangs_up {
            self.drop_lines(rings);
        }
        is_all || (before > OUT_LOW && rings.to_send.len() <= OUT_LOW)
    }

    /// `true`: a modem line has changed.
    fn look_at_modem(&self, rings: &mut Rings) -> bool {
        let status = self.io.inb(MSR);
        for (number, count) in [0, 1, 3, 2].into_iter().zip(&mut rings.counters.changes) {
            *count += u64::from(status >> number & 1);
        }
        rings.msr = status;
        if rings.has_some() {
            self.want_empty(rings, true);
        }
        status & MSR_CHANGES != 0
    }

    fn drop_lines(&self, rings: &mut Rings) {
        rings.hangs_up = false;
        rings.mcr &= !(MCR_DTR | MCR_RTS);
        self.io.outb(MCR, rings.mcr);
    }
}

impl SerialPort for ComPort {
    fn open(&self) {
        let mut rings = self.rings.lock();
        if rings.poll_nanos.is_some() && !rings.is_open {
            self.take(&mut rings); // what came while nobody looked is thrown away
            self.look_at_modem(&mut rings);
        }
        rings.is_open = true;
        rings.hangs_up = false;
        rings.mcr |= MCR_DTR | MCR_RTS;
        self.io.outb(MCR, rings.mcr);
        self.poll_later(&mut rings);
    }

    fn close(&self, hangs_up: bool) {
        let mut rings = self.rings.lock();
        rings.is_open = false;
        rings.counters.dropped += rings.came.len() as u64;
        rings.came.clear();
        if !hangs_up {
            return;
        }
        if rings.to_send.is_empty() && rings.is_chip_idle {
            self.drop_lines(&mut rings);
        } else {
            rings.hangs_up = true;
            self.want_empty(&mut rings, true);
        }
    }

    fn configure(&self, settings: &LineSettings) -> u32 {
        let mut rings = self.rings.lock();
        let mut lcr = (settings.data_bits.clamp(5, 8) - 5) | rings.lcr & LCR_BREAK;
        lcr |= if settings.two_stops { LCR_TWO_STOPS } else { 0 };
        lcr |= match settings.parity {
            Parity::None => 0,
            Parity::Odd => LCR_PARITY,
            Parity::Even => LCR_PARITY | LCR_EVEN,
            Parity::Mark => LCR_PARITY | LCR_STICK,
            Parity::Space => LCR_PARITY | LCR_STICK | LCR_EVEN,
        };
        rings.lcr = lcr;
        rings.obeys_cts = settings.obeys_cts;
        rings.receives = settings.receives;
        let wanted = (BASE_RATE + settings.rate / 2).checked_div(settings.rate);
        let divisor = wanted.map(|divisor| u16::try_from(divisor).unwrap_or(u16::MAX).max(1));
        if let Some([low, high]) = divisor.map(u16::to_le_bytes) {
            self.io.outb(LCR, lcr | LCR_DLAB);
            self.io.outb(DATA, low);
            self.io.outb(IER, high);
        }
        self.io.outb(LCR, lcr);
        if rings.has_some() {
            self.want_empty(&mut rings, true);
        }
        divisor.map_or(0, |divisor| BASE_RATE / u32::from(divisor))
    }

    fn receive(&self, into: &mut Vec<Heard>) {
        self.rings.lock().came.take(usize::MAX, into);
    }

    fn send(&self, data: &[u8]) -> usize {
        let mut rings = self.rings.lock();
        let len = rings.to_send.put(data);
        if rings.has_some() {
            self.want_empty(&mut rings, true);
        }
        len
    }

    fn send_first(&self, byte: u8) {
        let mut rings = self.rings.lock();
        rings.first.push_back(byte);
        self.want_empty(&mut rings, true);
    }

    fn room(&self) -> usize {
        self.rings.lock().to_send.room()
    }

    fn unsent(&self) -> usize {
        let rings = self.rings.lock();
        let in_chip = usize::from(!rings.is_chip_idle);
        rings.to_send.len() + rings.first.len() + in_chip
    }

    fn flush_output(&self) {
        let mut rings = self.rings.lock();
        rings.to_send.clear();
        self.io.outb(FCR, FCR_ON | FCR_CLEAR_OUT | FCR_TRIGGER_14);
    }

    fn stop(&self, is_stopped: bool) {
        let mut rings = self.rings.lock();
        rings.is_stopped = is_stopped;
        if rings.has_some() {
            self.want_empty(&mut rings, true);
        }
    }

    fn set_break(&self, is_held: bool) {
        let mut rings = self.rings.lock();
        rings.lcr = if is_held { rings.lcr | LCR_BREAK } else { rings.lcr & !LCR_BREAK };
        self.io.outb(LCR, rings.lcr);
    }

    fn signals(&self) -> Signals {
        let rings = self.rings.lock();
        let (mcr, msr) = (rings.mcr, rings.msr);
        Signals {
            dtr: mcr & MCR_DTR != 0,
            rts: mcr & MCR_RTS != 0,
            cts: msr & MSR_CTS != 0,
            dsr: msr & MSR_DSR != 0,
            dcd: msr & MSR_DCD != 0,
            ri: msr & MSR_RI != 0,
        }
    }

    fn set_signals(&self, dtr: Option<bool>, rts: Option<bool>) {
        let mut rings = self.rings.lock();
        for (wanted, bit) in [(dtr, MCR_DTR), (rts, MCR_RTS)] {
            match wanted {
                Some(true) => rings.mcr |= bit,
                Some(false) => rings.mcr &= !bit,
                None => {}
            }
        }
        self.io.outb(MCR, rings.mcr);
    }

    fn set_half_duplex(&self, is_half: bool) {
        let mut rings = self.rings.lock();
        rings.mcr = if is_half { rings.mcr | MCR_HALF } else { rings.mcr & !MCR_HALF };
        self.io.outb(MCR, rings.mcr);
    }

    fn is_half_duplex(&self) -> bool {
        self.rings.lock().mcr & MCR_HALF != 0
    }

    fn poll_nanos(&self) -> Option<u64> {
        self.rings.lock().poll_nanos
    }

    fn rings(&self) -> [RingState; 2] {
        let rings = self.rings.lock();
        [rings.came.state(), rings.to_send.state()]
    }

    fn counters(&self) -> SerialCounters {
        self.rings.lock().counters
    }

    fn place(&self) -> (u16, u8) {
        (self.io.first(), self.line.number())
    }

    fn bell(&self) -> Arc<WaitQueue> {
        Arc::clone(&self.bell)
    }
}
