//! The buses of the machine: where chips sit, and through which drivers reach and hear them.
//!
//! A driver claims what it uses, and a claim given back (dropped) leaves nothing behind. What two
//! would use at once is refused, naming both.

pub mod cable;
pub mod dma;
pub mod irq;
pub mod port;

pub use cable::Cables;
pub use dma::{BusAddress, DmaBus, DmaChannel};
pub use irq::{IrqBus, IrqLine};
pub use port::{PortBus, PortIo};

use crate::contract::AttachError;

/// Something is taken: what, by whom, and who wanted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict(pub String);

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Conflict {}

impl From<Conflict> for AttachError {
    fn from(conflict: Conflict) -> AttachError {
        AttachError::Conflict(conflict.0)
    }
}
