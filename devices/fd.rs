//! fd: diskettes, by programmed I/O: every byte goes through the data register, and every sector
//! has an interrupt of its own.

use crate::contract::host_file::DISK_IMAGE;
use crate::contract::{
    AttachError, Attached, Driver, Failure, Geometry, HostFile, IoError, Key, Op, PropertyError,
    Sector, UnitCommand, UnitConfig,
};
use crate::controller::{self, Console, opcode};
use crate::machine::Machine;
use crate::manual;
use crate::queue::{Controller, Progress, Transfer};
use crate::sync::Arc;

/// The driver.
pub struct Fd;

/// A cylinder a command, so that a diskette never looks silent.
static KEYS: [Key; 18] = controller::keys("1440K", "floppy", "18K");

impl Driver for Fd {
    fn name(&self) -> &'static str {
        "fd"
    }

    fn block_major(&self) -> Option<u16> {
        Some(2)
    }

    fn char_major(&self) -> Option<u16> {
        Some(2)
    }

    fn section(&self) -> &'static str {
        "disk"
    }

    fn keys(&self) -> &'static [Key] {
        &KEYS
    }

    fn image(&self) -> Option<HostFile> {
        Some(DISK_IMAGE)
    }

    fn attach(&self, unit: &UnitConfig, machine: &Machine) -> Result<Attached, AttachError> {
        let console = Console::probe(unit, machine, manual::DISKETTE_ID)?;
        let line = Arc::clone(&console.line);
        let address = format!("port {:#x} irq {}", console.io.first(), line.number());
        let controller = Box::new(DisketteController { console, left: 0, piece: 0, byte: 0 });
        Ok(controller::attached(unit, machine, controller, &line, address))
    }
}

/// A controller that is fed and emptied by hand.
struct DisketteController {
    console: Console,
    /// Sectors of the medium's own size that are still to come.
    left: u64,
    /// Which byte of which piece is next.
    piece: usize,
    byte: usize,
}

impl DisketteController {
    /// Moves one sector between the data register and the transfer's memory.
    fn move_sector(&mut self, transfer: &mut Transfer) {
        for _ in 0..self.console.geometry().sector_bytes {
            let piece = transfer.pieces.get_mut(self.piece);
            let place = piece.and_then(|piece| piece.memory.get_mut(piece.from + self.byte));
            match (place, transfer.op) {
                (Some(place), Op::Read) => *place = self.console.io.inb(manual::DATA),
                (Some(place), _) => self.console.io.outb(manual::DATA, *place),
                (None, _) => return, // a transfer with less memory than sectors
            }
            self.byte += 1;
            if transfer.pieces.get(self.piece).is_some_and(|piece| self.byte >= piece.len) {
                (self.piece, self.byte) = (self.piece + 1, 0);
            }
        }
    }

    fn is_data_ready(&self) -> bool {
        self.console.status() & manual::DATA_READY != 0
    }
}

impl Drop for DisketteController {
    fn drop(&mut self) {
        self.console.control(manual::RESET);
    }
}

impl Controller for DisketteController {
    fn geometry(&self) -> Result<Geometry, IoError> {
        Ok(self.console.geometry())
    }

    fn start(&mut self, transfer: &mut Transfer) -> Result<(), Failure> {
        let count = u32::try_from(transfer.sectors).map_err(|_| IoError::Invalid)?;
        let grain = u64::from(self.console.geometry().sector_bytes / 512).max(1);
        let moves = matches!(transfer.op, Op::Read | Op::Write);
        self.left = if moves { transfer.sectors.div_ceil(grain) } else { 1 };
        (self.piece, self.byte) = (0, 0);
        let flags = if transfer.fua { manual::FUA } else { 0 };
        let io = &self.console.io;
        io.outq(manual::SECTOR, transfer.sector.0);
        io.outl(manual::COUNT, count);
        io.outl(manual::TAG, transfer.pid);
        io.outl(manual::COMMAND, u32::from_le_bytes([opcode(transfer.op), flags, 0, 0]));
        if transfer.op == Op::Write && self.is_data_ready() {
            self.move_sector(transfer);
        }
        Ok(())
    }

    fn interrupt(&mut self, transfer: &mut Transfer) -> Progress {
        let status = self.console.status();
        if status & manual::DONE == 0 {
            return Progress::Spurious;
        }
        if status & manual::ERROR != 0 {
            let failure = self.console.failure(transfer.sector);
            self.console.control(manual::ACK);
            return Progress::Finished(Err(failure));
        }
        if transfer.op == Op::Read {
            self.move_sector(transfer);
        }
        self.console.control(manual::ACK);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return Progress::Finished(Ok(()));
        }
        if transfer.op == Op::Write && self.is_data_ready() {
            self.move_sector(transfer);
        }
        Progress::Continues
    }

    fn reset(&mut self, _active: Option<&mut Transfer>) {
        self.console.control(manual::RESET); // the memory never left the transfer
    }

    fn stored_from(&self, from: Sector) -> Option<(Sector, Sector)> {
        self.console.stored_from(from)
    }

    fn command(&mut self, command: UnitCommand) -> Result<(), IoError> {
        self.console.command(command)
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        self.console.properties()
    }

    fn set_property(&mut self, name: &str, value: &str) -> Result<(), PropertyError> {
        self.console.set_property(name, value)
    }
}
