//! Pages: what a disk tells of itself, as INQUIRY, READ CAPACITY and LOG SENSE lay it out.
//!
//! Layouts are those of SPC-4 and SBC-3. Made of [`Facts`] alone; a page that would have to invent
//! something (a temperature, a world-wide name) does not exist.

use super::sense::Check;
use crate::disk::Modes;
use devices::{Counters, Mishaps, Op};

/// What is known of a unit.
pub struct Facts {
    /// Its node: `sd0`.
    pub name: String,
    /// Bytes in a logical block.
    pub block: u64,
    /// Logical blocks.
    pub blocks: u64,
    /// Logical blocks in the longest transfer that is not split.
    pub transfer_max: u64,
    /// Writes are refused.
    pub is_read_only: bool,
    /// By command, so that a command may lift it.
    pub is_protected: bool,
    /// The medium can be taken out, as diskettes can.
    pub is_removable: bool,
    /// Revolutions a minute; 0: it does not turn.
    pub turns: u16,
    /// Heads and sectors of a track, as `HDIO_GETGEO` tells them.
    pub tracks: (u32, u32),
    /// What MODE SELECT changes.
    pub modes: Modes,
    /// The same, as it was at power-on.
    pub defaults: Modes,
    /// Its counters.
    pub counters: Counters,
}

const VENDOR: &[u8; 8] = b"SPINDLE ";
/// The code for all subpages.
pub const ALL_SUBPAGES: u8 = 0xff;
/// Most bytes that are written by one WRITE SAME: as much as Linux asks for at once.
pub const WRITE_SAME_BYTES_MAX: u64 = 1 << 30;
/// Most ranges in one UNMAP.
pub const UNMAP_RANGES_MAX: u32 = 256;

pub(super) fn byte(number: impl TryInto<u8>) -> u8 {
    number.try_into().unwrap_or(u8::MAX)
}

pub(super) fn short(number: impl TryInto<u16>) -> [u8; 2] {
    number.try_into().unwrap_or(u16::MAX).to_be_bytes()
}

pub(super) fn long(number: impl TryInto<u32>) -> [u8; 4] {
    number.try_into().unwrap_or(u32::MAX).to_be_bytes()
}

/// `text`, cut or filled with blanks to `len` bytes of ASCII.
fn padded(text: &str, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        text.bytes().filter(|byte| matches!(byte, b' '..=b'~')).take(len).collect();
    bytes.resize(len, b' ');
    bytes
}

impl Facts {
    /// Standard INQUIRY data.
    #[must_use]
    pub fn inquiry(&self) -> Vec<u8> {
        let removable = if self.is_removable { 0x80 } else { 0 };
        // A direct-access device of SPC-4, sense data in format 2, commands may be queued.
        let mut data = vec![0x00, removable, 0x06, 0x02, 0, 0, 0, 0x02];
        data.extend(VENDOR);
        data.extend(padded(&format!("{} disk", self.name), 16));
        data.extend(padded(env!("CARGO_PKG_VERSION").trim_end_matches(".0"), 4));
        data.resize(96, 0);
        // SAM-5, SPC-4, SBC-3: versions it follows.
        for (place, version) in [(58, 0x00a0_u16), (60, 0x0460), (62, 0x04c0)] {
            data[place..place + 2].copy_from_slice(&version.to_be_bytes());
        }
        data[4] = byte(data.len() - 5);
        data
    }

    /// A page of vital product data.
    #[must_use]
    pub fn vital(&self, page: u8) -> Option<Vec<u8>> {
        let body = match page {
            0x00 => vec![0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2],
            0x80 => padded(&self.name, self.name.len().max(8)),
            0x83 => {
                // A T10 vendor identification in ASCII, of the logical unit.
                let mut name = VENDOR.to_vec();
                name.extend(padded(&self.name, self.name.len()));
                let mut body = vec![0x02, 0x01, 0, byte(name.len())];
                body.extend(name);
                body
            }
            0xb0 => self.limits(),
            0xb1 => {
                // 1: it does not turn; 0: too slow to be told.
                let rate = match self.turns {
                    0 => 1,
                    1..=0x400 => 0,
                    turns => turns,
                };
                let mut body = rate.to_be_bytes().to_vec();
                body.resize(60, 0);
                body
            }
            // UNMAP, WRITE SAME (16) and (10) give back; what was given back reads as zeros.
            0xb2 => vec![0, 0x80 | 0x40 | 0x20 | 0x04, 0x02, 0],
            _ => return None,
        };
        let mut data = vec![0x00, page];
        data.extend(short(body.len()));
        data.extend(body);
        Some(data)
    }

    fn limits(&self) -> Vec<u8> {
        let mut body = vec![0; 60];
        body[4..8].copy_from_slice(&long(super::TRANSFER_BYTES_MAX / self.block));
        body[8..12].copy_from_slice(&long(self.transfer_max));
        body[16..20].copy_from_slice(&long(self.blocks)); // blocks in one UNMAP
        body[20..24].copy_from_slice(&UNMAP_RANGES_MAX.to_be_bytes());
        body[24..28].copy_from_slice(&1_u32.to_be_bytes()); // they may begin anywhere
        body[32..40].copy_from_slice(&(WRITE_SAME_BYTES_MAX / self.block).to_be_bytes());
        body
    }

    /// READ CAPACITY (10).
    #[must_use]
    pub fn capacity(&self) -> Vec<u8> {
        [long(self.blocks.saturating_sub(1)), long(self.block)].concat()
    }

    /// READ CAPACITY (16).
    #[must_use]
    pub fn long_capacity(&self) -> Vec<u8> {
        let mut data = self.blocks.saturating_sub(1).to_be_bytes().to_vec();
        data.extend(long(self.block));
        data.extend([0, 0, 0xc0, 0]); // thin provisioning, and what is given back reads as zeros
        data.resize(32, 0);
        data
    }

    /// LOG SENSE: the parameters of a page from number `from` on.
    ///
    /// # Errors
    /// ILLEGAL REQUEST: INVALID FIELD IN CDB where there is no such page, or no such parameter.
    pub fn log(&self, page: u8, subpage: u8, from: u16) -> Result<Vec<u8>, Check> {
        let c = &self.counters;
        let body = match (page, subpage) {
            (0x00, 0) => vec![0x00, 0x02, 0x03],
            (0x00, ALL_SUBPAGES) => vec![0, 0, 0, ALL_SUBPAGES, 2, 0, 3, 0],
            (0x02, 0) => errors(c.write_mishaps, from),
            (0x03, 0) => errors(c.read_mishaps, from),
            (0x00 | 0x02 | 0x03, _) => return Err(Check::field(3)),
            _ => return Err(Check::field_bit(2, 5)),
        };
        if body.is_empty() {
            return Err(Check::field(5));
        }
        let spf = if subpage == ALL_SUBPAGES { 0x40 } else { 0 };
        let mut data = vec![page | spf, subpage];
        data.extend(short(body.len()));
        data.extend(body);
        Ok(data)
    }
}

/// LOG SELECT: whose mishaps are forgotten when a page's counters begin anew; `None`: everybody's.
///
/// # Errors
/// ILLEGAL REQUEST: INVALID FIELD IN CDB where there is no such page.
pub fn reset(page: u8) -> Result<Option<Op>, Check> {
    match page {
        0x00 => Ok(None),
        0x02 => Ok(Some(Op::Write)),
        0x03 => Ok(Some(Op::Read)),
        _ => Err(Check::field_bit(2, 5)),
    }
}

/// An error counter page: further tries, what they saved, bytes, what was lost.
fn errors(mishaps: Mishaps, from: u16) -> Vec<u8> {
    let bytes = mishaps.sectors.saturating_mul(512);
    let all = [(2_u16, mishaps.retries), (3, mishaps.recovered), (5, bytes), (6, mishaps.failed)];
    let mut body = Vec::new();
    for (code, value) in all.into_iter().filter(|(code, _)| *code >= from) {
        body.extend(code.to_be_bytes());
        body.extend([0x02, 8]); // binary, format and linking as SPC-4 wants them of counters
        body.extend(value.to_be_bytes());
    }
    body
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn facts() -> Facts {
        let mishaps = Mishaps { retries: 7, recovered: 2, failed: 1, sectors: 100 };
        let counters = Counters { read_mishaps: mishaps, ..Counters::default() };
        Facts {
            name: "sd0".into(),
            block: 512,
            blocks: 131_072,
            transfer_max: 2048,
            is_read_only: false,
            is_protected: false,
            is_removable: false,
            turns: 7200,
            tracks: (16, 63),
            modes: Modes { retries: 5, is_write_back: true, reads_ahead: true },
            defaults: Modes { retries: 5, is_write_back: true, reads_ahead: true },
            counters,
        }
    }

    #[test]
    fn every_page_tells_its_length() {
        let facts = facts();
        assert_eq!(usize::from(facts.inquiry()[4]) + 5, facts.inquiry().len());
        for page in facts.vital(0).unwrap()[4..].iter().copied() {
            let data = facts.vital(page).unwrap();
            assert_eq!(usize::from(data[3]) + 4, data.len(), "page {page:#x}");
            assert_eq!(data[1], page);
        }
        assert_eq!(facts.vital(0x99), None);
        for page in [0, 2, 3] {
            let data = facts.log(page, 0, 0).unwrap();
            assert_eq!(usize::from(data[3]) + 4, data.len());
        }
    }

    #[test]
    fn counters_of_errors_are_those_of_the_driver() {
        let log = facts().log(3, 0, 5).unwrap();
        assert_eq!(log[4..8], [0, 5, 2, 8]);
        assert_eq!(log[8..16], 51_200_u64.to_be_bytes());
        assert_eq!(log[20..28], 1_u64.to_be_bytes());
    }

    #[test]
    fn what_there_is_not_is_refused_at_its_place() {
        let facts = facts();
        assert_eq!(facts.log(0x0d, 0, 0), Err(Check::field_bit(2, 5)));
        assert_eq!(facts.log(3, 1, 0), Err(Check::field(3)));
        assert_eq!(facts.log(3, 0, 7), Err(Check::field(5)));
        assert_eq!(reset(0x0d), Err(Check::field_bit(2, 5)));
    }
}
