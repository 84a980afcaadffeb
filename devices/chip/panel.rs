//! The registers that disk and diskette controllers have in common: identity, size, sense, stored
//! runs, arm, spares.

use super::drive::Drive;
use crate::bus::port::Width;
use crate::contract::{SECTOR_SIZE, Sense};
use crate::manual::{
    ACCESSES, HITS, ID, INFO, NO_INFO, POSITION, REMAP_INDEX, REMAP_SECTOR, REMAP_SPARE, REMAPS,
    SECTOR, SECTOR_BYTES, SECTORS, SENSE, SPARES, STORED_END, STORED_FIRST, TIMING, TRANSFER_MAX,
    TRAVEL,
};
use crate::medium::Medium;
use crate::timing::{Mechanism, Model};

/// See the head of this file. Guarded by the chip's lock.
pub(super) struct Panel {
    pub(super) id: u32,
    pub(super) sense: Sense,
    pub(super) sector: u64,
    pub(super) mechanism: Mechanism,
    stored: (u64, u64),
    remap_index: u32,
}

/// One half of a register of 64 bits.
pub(super) fn half(value: u64, is_high: bool) -> u32 {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    u32::from_le_bytes(if is_high { [e, f, g, h] } else { [a, b, c, d] })
}

/// A register of 64 bits with one half replaced.
pub(super) fn with_half(old: u64, is_high: bool, value: u32) -> u64 {
    let value = u64::from(value);
    if is_high { old & u64::from(u32::MAX) | value << 32 } else { old >> 32 << 32 | value }
}

/// The part of a register that a read of `width` at `offset` gets.
pub(super) fn narrow(register: u32, offset: u16, width: Width) -> u32 {
    register >> (8 * (offset % 4)) & width.ones()
}

impl Panel {
    pub(super) fn new(id: u32, mechanism: Mechanism) -> Panel {
        let (sense, stored) = (Sense::default(), (0, 0));
        Panel { id, sense, sector: 0, mechanism, stored, remap_index: 0 }
    }

    /// Reads the register at `offset`, a multiple of 4. `None`: it is not one of these.
    pub(super) fn read(&self, drive: &Drive, offset: u16) -> Option<u32> {
        let wide = |value: u64| Some(half(value, offset % 8 == 4));
        let remap = || drive.medium.remap(self.remap_index);
        match offset {
            ID => Some(self.id),
            SENSE => {
                let Sense { key, asc, ascq, .. } = self.sense;
                Some(u32::from_le_bytes([ascq, asc, key, 0]))
            }
            SECTOR_BYTES => Some(drive.sector_bytes),
            TRANSFER_MAX => Some(drive.transfer_max),
            TIMING => Some(self.mechanism.model().number()),
            SPARES => Some(drive.medium.spares()),
            REMAPS => Some(drive.medium.remaps()),
            REMAP_INDEX => Some(self.remap_index),
            REMAP_SPARE => Some(remap().map_or(u32::MAX, |(_, spare)| spare)),
            _ => match offset / 8 * 8 {
                INFO => wide(self.sense.info.unwrap_or(NO_INFO)),
                SECTORS => wide(drive.sectors()),
                SECTOR => wide(self.sector),
                STORED_FIRST => wide(self.stored.0),
                STORED_END => wide(self.stored.1),
                POSITION => wide(self.mechanism.position()),
                TRAVEL => wide(self.mechanism.travel),
                ACCESSES => wide(self.mechanism.media_accesses),
                HITS => wide(self.mechanism.cache_hits),
                REMAP_SECTOR => wide(remap().map_or(NO_INFO, |(sector, _)| sector)),
                _ => None,
            },
        }
    }

    /// Writes the register at `offset`, a multiple of 4; nothing happens if it is not one of these.
    pub(super) fn write(&mut self, drive: &Drive, offset: u16, value: u32) {
        match offset {
            TIMING => {
                if let Some(model) = Model::numbered(value) {
                    let travel = self.mechanism.travel;
                    self.mechanism = Mechanism::new(model, drive.sectors());
                    self.mechanism.travel = travel;
                }
            }
            REMAP_INDEX => self.remap_index = value,
            _ if offset / 8 * 8 == SECTOR => {
                self.sector = with_half(self.sector, offset % 8 == 4, value);
            }
            _ => {}
        }
    }

    /// Keeps the answer of a query, in sectors.
    pub(super) fn answer(&mut self, stored: Option<(u64, u64)>) {
        self.stored = stored.unwrap_or((0, 0));
    }
}

/// The first stored run at or behind `sector`, in sectors.
pub(super) fn stored_from(drive: &Drive, sector: u64) -> Option<(u64, u64)> {
    let size = SECTOR_SIZE as u64;
    let (first, end) = drive.medium.stored_from(sector.checked_mul(size)?)?;
    Some((first / size, end.div_ceil(size)))
}
