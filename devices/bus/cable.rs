//! Serial cables: what one chip sends, the chip or the host at the other end hears.
//!
//! Each socket is known by its unit's name, for those who describe what is joined to what, and for
//! the operator's hand on the line (noise, characters from nowhere).

use super::Conflict;
use crate::contract::Signals;
use crate::sync::{Arc, Mutex};
use std::collections::BTreeMap;
use std::sync::Weak;

/// A character on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What was meant.
    pub byte: u8,
    /// What is on the wire behind the start bit: data, lowest first, parity, and ones for ever.
    pub bits: u16,
    /// Bits a second.
    pub rate: u32,
}

/// Who hears what a chip sends.
pub trait FarEnd: Send + Sync {
    /// Characters arrive, the last one now. Call it with no lock held: lines may be raised.
    fn hear(&self, frames: &[Frame]);
    /// Whether it must hear each character at its time: somebody looks what has come so far.
    fn hears_each(&self) -> bool {
        false
    }
    /// The other's RTS and DTR are so now. Raises nothing before it returns.
    fn signals(&self, rts: bool, dtr: bool);
    /// The line is held, which is heard as a break. Raises nothing before it returns.
    fn hear_break(&self);
}

/// What a chip shows on a service technician's gauge. Looking changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// IER, LCR, MCR, LSR, MSR as they would be read.
    pub registers: [u8; 5],
    /// The divisor.
    pub divisor: u16,
    /// Characters in the two FIFOs: received, to be sent.
    pub levels: (usize, usize),
    /// Characters that arrived, and that left.
    pub heard: u64,
    /// See `heard`.
    pub sent: u64,
    /// Characters lost because the FIFO was full.
    pub overrun: u64,
    /// Characters with a wrong parity bit.
    pub parity: u64,
    /// Characters without a stop bit.
    pub framing: u64,
    /// Breaks.
    pub breaks: u64,
    /// Characters lost because a half-duplex line was sending when they came.
    pub collided: u64,
}

/// A chip's end of a cable.
pub trait Socket: FarEnd {
    /// Puts the cable in: from now on `far` hears it.
    fn plug(&self, far: Weak<dyn FarEnd>);
    /// Its RTS and DTR.
    fn outputs(&self) -> (bool, bool);
    /// A character as the chip itself would send it now.
    fn frame(&self, byte: u8) -> Frame;
    /// How long a character takes now, in nanoseconds; 0 without pacing.
    fn character_nanos(&self) -> u64;
    /// The next characters that arrive have one bit wrong each.
    fn disturb(&self, characters: u32);
    /// What it shows.
    fn gauge(&self) -> Gauge;
}

/// A line of the list of cables.
pub struct Joint {
    /// The unit.
    pub name: String,
    /// What is at the other end: `ttyS1`, `pty /dev/pts/3`, `none`.
    pub peer: String,
    /// Its end.
    pub socket: Arc<dyn Socket>,
}

/// See the head of this file.
#[derive(Default)]
pub struct Cables {
    ends: Mutex<BTreeMap<String, End>>,
}

struct End {
    socket: Arc<dyn Socket>,
    peer: String,
    /// Which other socket it is to be joined to.
    wants: Option<String>,
    /// Kept for it: what is at the other end when it is none of ours.
    _far: Option<Arc<dyn FarEnd>>,
}

fn as_far(socket: &Arc<dyn Socket>) -> Weak<dyn FarEnd> {
    let far: Arc<dyn FarEnd> = Arc::clone(socket) as _;
    Arc::downgrade(&far)
}

impl Cables {
    /// A chip has a socket called `name`; the cable in it leads to the socket `wants`, as soon as
    /// there is one.
    ///
    /// # Errors
    /// [`Conflict`] where the other is joined to somebody else.
    pub fn socket(
        &self,
        name: &str,
        socket: Arc<dyn Socket>,
        wants: Option<&str>,
    ) -> Result<(), Conflict> {
        let mut ends = self.ends.lock();
        let asked = ends.iter().find(|(_, end)| end.wants.as_deref() == Some(name));
        let asked = asked.map(|(other, _)| other.clone());
        let other = wants.map(ToOwned::to_owned).or(asked);
        let mut peer = "none".to_owned();
        let mut joined = None;
        if let Some(other) = other.filter(|other| other != name) {
            if let Some(end) = ends.get_mut(&other) {
                let is_free = end.wants.is_none() && end.peer == "none";
                if !is_free && end.wants.as_deref() != Some(name) {
                    let words = format!("{name}: {other} is joined to {} already", end.peer);
                    return Err(Conflict(words));
                }
                end.peer = name.to_owned();
                end.wants = Some(name.to_owned());
                joined = Some(Arc::clone(&end.socket));
                peer = other;
            }
        } else if wants == Some(name) {
            // A plug that leads back: the port hears itself.
            joined = Some(Arc::clone(&socket));
            peer = name.to_owned();
        }
        let wants = wants.map(ToOwned::to_owned);
        let end = End { socket: Arc::clone(&socket), peer, wants, _far: None };
        ends.insert(name.to_owned(), end);
        drop(ends);
        if let Some(other) = joined {
            socket.plug(as_far(&other));
            other.plug(as_far(&socket));
            let ((rts, dtr), (far_rts, far_dtr)) = (socket.outputs(), other.outputs());
            other.signals(rts, dtr);
            socket.signals(far_rts, far_dtr);
        }
        Ok(())
    }

    /// Joins a socket to something on the host, which `words` describe.
    pub fn join(&self, name: &str, far: Arc<dyn FarEnd>, words: &str) {
        let mut ends = self.ends.lock();
        let Some(end) = ends.get_mut(name) else { return };
        words.clone_into(&mut end.peer);
        end._far = Some(Arc::clone(&far));
        let socket = Arc::clone(&end.socket);
        drop(ends);
        socket.plug(Arc::downgrade(&far));
        let (rts, dtr) = socket.outputs();
        far.signals(rts, dtr);
    }

    /// Whether `name` is joined to something.
    #[must_use]
    pub fn peer(&self, name: &str) -> Option<String> {
        self.ends.lock().get(name).map(|end| end.peer.clone())
    }

    /// The socket of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<dyn Socket>> {
        self.ends.lock().get(name).map(|end| Arc::clone(&end.socket))
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Joint> {
        let line = |(name, end): (&String, &End)| Joint {
            name: name.clone(),
            peer: end.peer.clone(),
            socket: Arc::clone(&end.socket),
        };
        self.ends.lock().iter().map(line).collect()
    }
}

impl Gauge {
    /// The modem lines that the registers show.
    #[must_use]
    pub fn signals(&self) -> Signals {
        use crate::serial_manual as manual;
        let (mcr, msr) = (self.registers[2], self.registers[4]);
        Signals {
            dtr: mcr & manual::MCR_DTR != 0,
            rts: mcr & manual::MCR_RTS != 0,
            cts: msr & manual::MSR_CTS != 0,
            dsr: msr & manual::MSR_DSR != 0,
            dcd: msr & manual::MSR_DCD != 0,
            ri: msr & manual::MSR_RI != 0,
        }
    }
}
