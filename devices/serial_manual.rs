//! The manual of the serial chip: a 16550A (National PC16550D) at 14.7456 MHz, so that divisor 1
//! is 921,600 bits a second and 115,200 is divisor 8. Eight ports, one byte wide.

/// Ports that the chip takes.
pub const PORTS: u16 = 8;
/// Bits a second with divisor 1.
pub const BASE_RATE: u32 = 921_600;
/// Characters that each FIFO holds.
pub const FIFO: usize = 16;

/// Read: the character that came first (RBR). Write: a character to send (THR). With `LCR_DLAB`:
/// the low half of the divisor (DLL).
pub const DATA: u16 = 0;
/// Interrupts wanted (IER). With `LCR_DLAB`: the high half of the divisor (DLM).
pub const IER: u16 = 1;
/// Read: what the interrupt is for (IIR). Write: control of the FIFOs (FCR).
pub const IIR: u16 = 2;
/// See [`IIR`].
pub const FCR: u16 = IIR;
/// Format of characters (LCR).
pub const LCR: u16 = 3;
/// Modem lines out (MCR).
pub const MCR: u16 = 4;
/// State of the line (LSR).
pub const LSR: u16 = 5;
/// Modem lines in (MSR).
pub const MSR: u16 = 6;
/// A byte that does nothing (SCR).
pub const SCR: u16 = 7;

/// Wanted: characters came in.
pub const IER_RECEIVED: u8 = 0x01;
/// Wanted: nothing is left to send.
pub const IER_EMPTY: u8 = 0x02;
/// Wanted: an error of the line.
pub const IER_LINE: u8 = 0x04;
/// Wanted: a modem line changed.
pub const IER_MODEM: u8 = 0x08;

/// The causes, the most urgent first, and none.
pub const IIR_LINE: u8 = 0x06;
/// The FIFO has reached its trigger.
pub const IIR_RECEIVED: u8 = 0x04;
/// Characters below the trigger have waited for the time of four.
pub const IIR_TIMEOUT: u8 = 0x0c;
/// Nothing is left to send; reading it is the acknowledgement.
pub const IIR_EMPTY: u8 = 0x02;
/// A modem line changed.
pub const IIR_MODEM: u8 = 0x00;
/// No interrupt.
pub const IIR_NONE: u8 = 0x01;
/// The FIFOs are on.
pub const IIR_FIFO: u8 = 0xc0;

/// FIFOs on.
pub const FCR_ON: u8 = 0x01;
/// Empties the receiver's.
pub const FCR_CLEAR_IN: u8 = 0x02;
/// Empties the sender's.
pub const FCR_CLEAR_OUT: u8 = 0x04;
/// Interrupts at 14 characters (00: 1, 40: 4, 80: 8).
pub const FCR_TRIGGER_14: u8 = 0xc0;

/// Data bits less 5.
pub const LCR_BITS: u8 = 0x03;
/// Two stop bits.
pub const LCR_TWO_STOPS: u8 = 0x04;
/// A parity bit.
pub const LCR_PARITY: u8 = 0x08;
/// An even one.
pub const LCR_EVEN: u8 = 0x10;
/// One that is always the same: with `LCR_EVEN` zero, else one.
pub const LCR_STICK: u8 = 0x20;
/// The line is held.
pub const LCR_BREAK: u8 = 0x40;
/// The first two ports are the divisor.
pub const LCR_DLAB: u8 = 0x80;

/// Data terminal ready.
pub const MCR_DTR: u8 = 0x01;
/// Request to send.
pub const MCR_RTS: u8 = 0x02;
/// In loopback it is RI; else nothing.
pub const MCR_OUT1: u8 = 0x04;
/// Lets interrupts through to the bus; in loopback it is DCD.
pub const MCR_OUT2: u8 = 0x08;
/// The chip hears itself.
pub const MCR_LOOP: u8 = 0x10;

/// The line goes one way at a time: what arrives while characters leave is not heard. Of this chip
/// only; a plain 16550A has a zero here.
pub const MCR_HALF: u8 = 0x40;

/// A character is there.
pub const LSR_READY: u8 = 0x01;
/// Characters were lost.
pub const LSR_OVERRUN: u8 = 0x02;
/// The first character has a wrong parity bit.
pub const LSR_PARITY: u8 = 0x04;
/// It has no stop bit.
pub const LSR_FRAMING: u8 = 0x08;
/// It is a break.
pub const LSR_BREAK: u8 = 0x10;
/// The sender takes characters: its FIFO is empty.
pub const LSR_EMPTY: u8 = 0x20;
/// Everything is sent.
pub const LSR_IDLE: u8 = 0x40;
/// An error is somewhere in the FIFO.
pub const LSR_BAD: u8 = 0x80;

/// Changed since the last look: CTS, DSR, RI (fell), DCD.
pub const MSR_CHANGES: u8 = 0x0f;
/// Clear to send.
pub const MSR_CTS: u8 = 0x10;
/// Data set ready.
pub const MSR_DSR: u8 = 0x20;
/// Ring.
pub const MSR_RI: u8 = 0x40;
/// Carrier.
pub const MSR_DCD: u8 = 0x80;
