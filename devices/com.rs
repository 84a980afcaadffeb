//! com: serial ports ttyS0, ttyS1, ... Everything is said to the chip through its registers, and
//! heard from it by its interrupt. What a terminal makes of the characters is decided above.
//!
//! 1. The chip's FIFOs are served by the interrupt alone; calls from above touch the software
//!    rings and the control registers.
//! 2. What the rings cannot take is thrown away and counted.
//! 3. The bell is rung with no lock held.

use crate::bus::irq::Sharing;
use crate::bus::{IrqLine, PortIo};
use crate::contract::{
    AttachError, Attached, CharDevice, Driver, Heard, IoError, Key, Kind, LineSettings, Mark,
    Parity, SerialCounters, SerialPort, Signals, UnitConfig, WaitQueue,
};
use crate::machine::Machine;
use crate::serial_manual::{
    BASE_RATE, DATA, FCR, FCR_CLEAR_IN, FCR_CLEAR_OUT, FCR_ON, FCR_TRIGGER_14, FIFO, IER,
    IER_EMPTY, IER_LINE, IER_MODEM, IER_RECEIVED, IIR, IIR_EMPTY, IIR_FIFO, IIR_MODEM, IIR_NONE,
    LCR, LCR_BREAK, LCR_DLAB, LCR_EVEN, LCR_PARITY, LCR_STICK, LCR_TWO_STOPS, LSR, LSR_BREAK,
    LSR_FRAMING, LSR_OVERRUN, LSR_PARITY, LSR_READY, MCR, MCR_DTR, MCR_OUT2, MCR_RTS, MSR, MSR_CTS,
    MSR_DCD, MSR_DSR, MSR_RI, PORTS, SCR,
};
use crate::sync::{Arc, Mutex};
use std::collections::VecDeque;

/// Characters that the ring of what came in holds.
const IN_MAX: usize = 4096;
/// Characters that the ring of what is to be sent holds.
pub const OUT_MAX: usize = 4096;
/// So many left to send: whoever waits for room is woken.
const OUT_LOW: usize = OUT_MAX / 2;
/// Most causes served in one interrupt.
const CAUSES_MAX: u32 = 256;

const KEYS: &[Key] = &[
    Key {
        name: "peer",
        kind: Kind::Text,
        default: "",
        doc: "what its cable leads to: another port (ttyS1), pty, unix:PATH or file:PATH",
    },
    Key {
        name: "pacing",
        kind: Kind::Flag,
        default: "true",
        doc: "characters take the time that the rate says; false: none",
    },
    Key {
        name: "half_duplex",
        kind: Kind::Flag,
        default: "false",
        doc: "a paced line is deaf while it sends: what arrives then is lost, and counted",
    },
    Key { name: "port", kind: Kind::Number, default: "", doc: "first port of its chip" },
    Key { name: "irq", kind: Kind::Number, default: "", doc: "interrupt line of its chip" },
    Key {
        name: "absent",
        kind: Kind::Flag,
        default: "false",
        doc: "described, but its chip is not on the bus",
    },
];

/// The driver.
pub struct Com;

impl Driver for Com {
    fn name(&self) -> &'static str {
        "ttyS"
    }

    fn char_major(&self) -> Option<u16> {
        Some(4)
    }

    fn section(&self) -> &'static str {
        "serial"
    }

    fn keys(&self) -> &'static [Key] {
        KEYS
    }

    /// Minors as in Linux: the first 63 of this major are consoles.
    fn attach(&self, unit: &UnitConfig, machine: &Machine) -> Result<Attached, AttachError> {
        let name = &unit.name;
        let place = |key: &str| {
            let missing = || AttachError::Conflict(format!("{name}: {key} must be given"));
            unit.number(key).ok_or_else(missing)
        };
        let none = |key| AttachError::Conflict(format!("{name}: {key}: there is none of that"));
        let first = u16::try_from(place("port")?).map_err(|_| none("port"))?;
        let number = u8::try_from(place("irq")?).map_err(|_| none("irq"))?;
        let io = machine.ports.claim(name, first, PORTS)?;
        probe(&io, first)?;
        let line = machine.irqs.claim(name, number, Sharing::Shared)?;
        let port = Arc::new(ComPort::new(io, Arc::clone(&line)));
        port.begin();
        let listener = Arc::downgrade(&port);
        line.connect(move || {
            if let Some(port) = listener.upgrade() {
                port.interrupt();
            }
        });
        let device: Arc<dyn CharDevice> = Arc::new(Unit { port });
        let address = format!("port {first:#x} irq {number}");
        let character = vec![(name.clone(), 64 + unit.unit, device)];
        Ok(Attached { address, block: None, character })
    }
}

/// Looks whether a chip with FIFOs answers: the scratch register keeps what it is told.
fn probe(io: &PortIo, first: u16) -> Result<(), AttachError> {
    for pattern in [0x5a, 0xa5] {
        io.outb(SCR, pattern);
        match io.inb(SCR) {
            answer if answer == pattern => {}
            u8::MAX => return Err(AttachError::Absent),
            answer => {
                let words = format!("port {first:#x} keeps {answer:#04x} for {pattern:#04x}");
                return Err(AttachError::Unknown(words));
            }
        }
    }
    io.outb(FCR, FCR_ON);
    if io.inb(IIR) & IIR_FIFO != IIR_FIFO {
        return Err(AttachError::Unknown(format!("port {first:#x} has no FIFOs")));
    }
    Ok(())
}

/// The unit of the character switch: what it serves is its port.
struct Unit {
    port: Arc<ComPort>,
}

impl CharDevice for Unit {
    fn read(&self, _at: u64, _buf: &mut [u8]) -> Result<usize, IoError> {
        Err(IoError::WouldBlock) // a line discipline reads the port
    }

    fn write(&self, _at: u64, _data: &[u8]) -> Result<usize, IoError> {
        Err(IoError::WouldBlock)
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn serial(&self) -> Option<Arc<dyn SerialPort>> {
        Some(Arc::clone(&self.port) as _)
    }
}

/// See the head of this file.
struct ComPort {
    io: PortIo,
    line: Arc<IrqLine>,
    rings: Mutex<Rings>,
    bell: Arc<WaitQueue>,
}

struct Rings {
    came: VecDeque<Heard>,
    to_send: VecDeque<u8>,
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
    fn new(io: PortIo, line: Arc<IrqLine>) -> ComPort {
        let rings = Rings {
            came: VecDeque::new(),
            to_send: VecDeque::new(),
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
        };
        ComPort { io, line, rings: Mutex::new(rings), bell: Arc::default() }
    }

    /// Brings the chip into a known state, and lets its interrupts through.
    fn begin(&self) {
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
    }

    fn interrupt(&self) {
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
            let status = self.io.inb(LSR);
            if status & LSR_OVERRUN != 0 {
                rings.counters.overrun += 1;
            }
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
            } else if rings.came.len() < IN_MAX {
                rings.came.push_back(Heard { byte, mark });
            } else {
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
                None if rings.may_send() => rings.to_send.pop_front(),
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

    fn look_at_modem(&self, rings: &mut Rings) {
        let status = self.io.inb(MSR);
        for (number, count) in [0, 1, 3, 2].into_iter().zip(&mut rings.counters.changes) {
            *count += u64::from(status >> number & 1);
        }
        rings.msr = status;
        if rings.has_some() {
            self.want_empty(rings, true);
        }
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
        rings.is_open = true;
        rings.hangs_up = false;
        rings.mcr |= MCR_DTR | MCR_RTS;
        self.io.outb(MCR, rings.mcr);
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
        into.extend(self.rings.lock().came.drain(..));
    }

    fn send(&self, data: &[u8]) -> usize {
        let mut rings = self.rings.lock();
        let len = data.len().min(OUT_MAX - rings.to_send.len());
        rings.to_send.extend(&data[..len]);
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
        OUT_MAX - self.rings.lock().to_send.len()
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

#[cfg(test)]
#[path = "com_tests.rs"]
mod tests;
