//! What a serial port must be able to do for a line discipline above it.

use super::WaitQueue;
use crate::sync::Arc;

/// The extra bit of a character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parity {
    /// There is none.
    #[default]
    None,
    /// The number of ones is even.
    Even,
    /// The number of ones is odd.
    Odd,
    /// Always one.
    Mark,
    /// Always zero.
    Space,
}

/// How a port sends and understands characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineSettings {
    /// Bits a second; 0 keeps the rate.
    pub rate: u32,
    /// Data bits, 5 to 8.
    pub data_bits: u8,
    /// The extra bit.
    pub parity: Parity,
    /// Two stop bits instead of one.
    pub two_stops: bool,
    /// Sends only while the other end asks for it (CTS).
    pub obeys_cts: bool,
    /// Takes characters in at all.
    pub receives: bool,
}

/// How a character came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// As it should.
    Good,
    /// With a wrong parity bit.
    Parity,
    /// Without its stop bit.
    Framing,
    /// No character: the line was held.
    Break,
}

/// A character that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its bits.
    pub byte: u8,
    /// How it came.
    pub mark: Mark,
}

/// The modem lines: out the first two, in the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Data terminal ready, ours.
    pub dtr: bool,
    /// Request to send, ours.
    pub rts: bool,
    /// Clear to send.
    pub cts: bool,
    /// Data set ready.
    pub dsr: bool,
    /// Carrier.
    pub dcd: bool,
    /// Ring.
    pub ri: bool,
}

/// What a driver has counted since power-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SerialCounters {
    /// Characters taken from the chip.
    pub received: u64,
    /// Characters given to it.
    pub sent: u64,
    /// How often the chip said that it had lost some.
    pub overrun: u64,
    /// Characters with a wrong parity bit.
    pub parity: u64,
    /// Characters without a stop bit.
    pub framing: u64,
    /// Breaks.
    pub breaks: u64,
    /// Characters thrown away because nobody had the port open, or it receives nothing.
    pub dropped: u64,
    /// Characters thrown away because nobody had read those before.
    pub overflow: u64,
    /// How often the driver looked at the chip by itself.
    pub polls: u64,
    /// Changes of CTS, DSR, DCD and RI.
    pub changes: [u64; 4],
}

/// Where the pointers of a circular buffer stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingState {
    /// Elements that it holds.
    pub size: usize,
    /// Where the next one goes.
    pub head: usize,
    /// The first that was not taken yet.
    pub tail: usize,
    /// How often each of the two has gone round.
    pub wraps: [u64; 2],
}

/// A serial port. No call waits; all of them may be made with a lock of the caller's held, since
/// nothing is called back before they return.
pub trait SerialPort: Send + Sync {
    /// Raises DTR and RTS, and takes characters in.
    fn open(&self);
    /// Throws characters away from now on; with `hangs_up` drops DTR and RTS once all is sent.
    fn close(&self, hangs_up: bool);
    /// Sets how characters are sent; answers the rate that came of it.
    fn configure(&self, settings: &LineSettings) -> u32;
    /// The characters that came in since the last call, appended to `into`.
    fn receive(&self, into: &mut Vec<Heard>);
    /// Takes what there is room for; answers how much.
    fn send(&self, data: &[u8]) -> usize;
    /// Sends a character before all that wait, also while stopped.
    fn send_first(&self, byte: u8);
    /// Characters that [`SerialPort::send`] would take.
    fn room(&self) -> usize;
    /// Characters not sent yet, those in the chip included (as one, if it does not tell).
    fn unsent(&self) -> usize;
    /// Forgets what is not sent yet.
    fn flush_output(&self);
    /// Holds what is to be sent, or lets it go on.
    fn stop(&self, is_stopped: bool);
    /// Holds the line (a break), or lets go of it.
    fn set_break(&self, is_held: bool);
    /// The modem lines now.
    fn signals(&self) -> Signals;
    /// Raises or drops DTR and RTS; `None` leaves one as it is.
    fn set_signals(&self, dtr: Option<bool>, rts: Option<bool>);
    /// Makes it deaf while it sends (half duplex), or not.
    fn set_half_duplex(&self, is_half: bool);
    /// Whether it is.
    fn is_half_duplex(&self) -> bool;
    /// How often the driver looks at the chip, in nanoseconds; `None`: it is interrupted.
    fn poll_nanos(&self) -> Option<u64>;
    /// The rings of what came in, and of what is to be sent.
    fn rings(&self) -> [RingState; 2];
    /// What was counted.
    fn counters(&self) -> SerialCounters;
    /// First port and interrupt line.
    fn place(&self) -> (u16, u8);
    /// Rung when characters came in, room was made, all was sent, or a modem line changed.
    fn bell(&self) -> Arc<WaitQueue>;
}
