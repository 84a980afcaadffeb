//! Command blocks: bytes into commands, or into the sense that names the byte in error.
//!
//! Codes and layouts are those of SPC-4 and SBC-3. Nothing here knows a unit: whatever can be said
//! of the bytes alone is said here, and no bytes make it panic.

use super::sense::Check;

/// Operation codes.
pub mod opcode {
    #![allow(missing_docs)] // the standard's names
    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const READ_6: u8 = 0x08;
    pub const WRITE_6: u8 = 0x0a;
    pub const INQUIRY: u8 = 0x12;
    pub const MODE_SELECT_6: u8 = 0x15;
    pub const MODE_SENSE_6: u8 = 0x1a;
    pub const READ_CAPACITY_10: u8 = 0x25;
    pub const READ_10: u8 = 0x28;
    pub const WRITE_10: u8 = 0x2a;
    pub const SYNCHRONIZE_CACHE_10: u8 = 0x35;
    pub const WRITE_SAME_10: u8 = 0x41;
    pub const UNMAP: u8 = 0x42;
    pub const LOG_SELECT: u8 = 0x4c;
    pub const LOG_SENSE: u8 = 0x4d;
    pub const MODE_SELECT_10: u8 = 0x55;
    pub const MODE_SENSE_10: u8 = 0x5a;
    pub const READ_16: u8 = 0x88;
    pub const WRITE_16: u8 = 0x8a;
    pub const SYNCHRONIZE_CACHE_16: u8 = 0x91;
    pub const WRITE_SAME_16: u8 = 0x93;
    pub const SERVICE_ACTION_IN_16: u8 = 0x9e;
    pub const REPORT_LUNS: u8 = 0xa0;
    pub const READ_12: u8 = 0xa8;
    pub const WRITE_12: u8 = 0xaa;
}

/// Service action of READ CAPACITY (16).
const READ_CAPACITY_16: u8 = 0x10;
/// A command with fewer bytes than REPORT LUNS has to have room for (SPC-3).
const REPORT_LUNS_ROOM_MIN: u32 = 16;

/// A range of logical blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The first.
    pub lba: u64,
    /// How many.
    pub count: u64,
}

/// What MODE SENSE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeQuery {
    /// The command of 10 bytes, and its longer header.
    pub is_long: bool,
    /// 0 current, 1 changeable, 2 default.
    pub control: u8,
    /// Which page; 0x3f is all.
    pub page: u8,
    /// Its subpage: 0, or 0xff for all.
    pub subpage: u8,
    /// No block descriptor.
    pub has_no_descriptor: bool,
    /// A block descriptor with 64 bits for the length.
    pub is_long_lba: bool,
    /// Room for the answer.
    pub room: u32,
}

/// A command that the bytes spell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the standard's words
pub enum Command {
    TestUnitReady,
    RequestSense {
        is_descriptor: bool,
        room: u32,
    },
    /// `page`: the vital product data page; `None`: the standard data.
    Inquiry {
        page: Option<u8>,
        room: u32,
    },
    ReadCapacity10,
    ReadCapacity16 {
        room: u32,
    },
    ModeSense(ModeQuery),
    /// `is_long`: the longer header; `len`: bytes of the list.
    ModeSelect {
        is_long: bool,
        len: u32,
    },
    /// `page`: 0 is all of them.
    LogReset {
        page: u8,
    },
    LogSense {
        page: u8,
        subpage: u8,
        from: u16,
        room: u32,
    },
    ReportLuns {
        room: u32,
    },
    Read {
        blocks: Blocks,
    },
    /// `is_durable`: force unit access.
    Write {
        blocks: Blocks,
        is_durable: bool,
    },
    SynchronizeCache {
        blocks: Blocks,
    },
    Unmap {
        len: u32,
    },
    /// `is_unmap`: the blocks may be given back; `has_data`: a block of data comes along.
    WriteSame {
        blocks: Blocks,
        is_unmap: bool,
        has_data: bool,
    },
}

/// A command block that is at least as long as its operation code says.
struct Block<'a>(&'a [u8]);

impl Block<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    /// The number of `len` bytes at `at`, most significant first.
    fn number(&self, at: usize, len: usize) -> u64 {
        (at..at + len).fold(0, |number, at| number << 8 | u64::from(self.byte(at)))
    }

    fn short(&self, at: usize) -> u32 {
        u32::from(self.byte(at)) << 8 | u32::from(self.byte(at + 1))
    }

    fn long(&self, at: usize) -> u32 {
        self.short(at) << 16 | self.short(at + 2)
    }

    fn bit(&self, at: usize, bit: u8) -> bool {
        self.byte(at) & 1 << bit != 0
    }

    /// Refuses a byte of which a bit of `mask` is set.
    fn clear(&self, at: usize, mask: u8) -> Result<(), Check> {
        match self.byte(at) & mask {
            0 => Ok(()),
            // The most significant bit of what is wrong, as the standard wants.
            wrong => {
                Err(Check::field_bit(at, 7 - u8::try_from(wrong.leading_zeros()).unwrap_or(0)))
            }
        }
    }
}

/// Bytes in a command block with that operation code; `None`: of the vendor's or of any length.
fn length(opcode: u8) -> Option<usize> {
    match opcode >> 5 {
        0 => Some(6),
        1 | 2 => Some(10),
        4 => Some(16),
        5 => Some(12),
        _ => None,
    }
}

impl Command {
    /// The command that `cdb` spells.
    ///
    /// # Errors
    /// ILLEGAL REQUEST: INVALID COMMAND OPERATION CODE, or INVALID FIELD IN CDB with the place.
    pub fn decode(cdb: &[u8]) -> Result<Command, Check> {
        let code = cdb.first().copied().unwrap_or(0);
        let block = Block(cdb);
        if length(code).is_none_or(|len| cdb.len() < len) {
            return Err(Check::INVALID_OPCODE);
        }
        match code {
            opcode::TEST_UNIT_READY => Ok(Command::TestUnitReady),
            opcode::REQUEST_SENSE => Ok(Command::RequestSense {
                is_descriptor: block.bit(1, 0),
                room: u32::from(block.byte(4)),
            }),
            opcode::INQUIRY => inquiry(&block),
            opcode::READ_CAPACITY_10 => {
                let is_plain = block.number(2, 4) == 0 && !block.bit(8, 0);
                if is_plain { Ok(Command::ReadCapacity10) } else { Err(Check::field(2)) }
            }
            opcode::SERVICE_ACTION_IN_16 if block.byte(1) & 0x1f == READ_CAPACITY_16 => {
                let is_plain = block.number(2, 8) == 0 && !block.bit(14, 0);
                let room = block.long(10);
                if is_plain { Ok(Command::ReadCapacity16 { room }) } else { Err(Check::field(2)) }
            }
            opcode::SERVICE_ACTION_IN_16 => Err(Check::field_bit(1, 4)),
            opcode::MODE_SENSE_6 | opcode::MODE_SENSE_10 => Ok(mode_sense(&block)),
            opcode::MODE_SELECT_6 | opcode::MODE_SELECT_10 => mode_select(&block),
            opcode::LOG_SENSE => log_sense(&block),
            opcode::LOG_SELECT => log_select(&block),
            opcode::REPORT_LUNS => match block.long(6) {
                room if room < REPORT_LUNS_ROOM_MIN => Err(Check::field(6)),
                room => Ok(Command::ReportLuns { room }),
            },
            _ => on_blocks(code, &block),
        }
    }

    /// Whether it changes the medium.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        matches!(self, Command::Write { .. } | Command::Unmap { .. } | Command::WriteSame { .. })
    }

    /// Whether only who may write may have it done.
    #[must_use]
    pub fn is_for_writers(&self) -> bool {
        matches!(self, Command::ModeSelect { .. } | Command::LogReset { .. }) || self.is_writing()
    }

    /// Bytes that it takes from its caller, on a unit with blocks of `block` bytes.
    #[must_use]
    pub fn takes(&self, block: u64) -> u64 {
        match self {
            Command::Write { blocks, .. } => blocks.count.saturating_mul(block),
            Command::WriteSame { has_data: true, .. } => block,
            Command::Unmap { len } | Command::ModeSelect { len, .. } => u64::from(*len),
            _ => 0,
        }
    }
}

fn inquiry(block: &Block<'_>) -> Result<Command, Check> {
    block.clear(1, 0xfe)?;
    let (page, room) = (block.byte(2), block.short(3));
    match block.bit(1, 0) {
        true => Ok(Command::Inquiry { page: Some(page), room }),
        false if page != 0 => Err(Check::field(2)),
        false => Ok(Command::Inquiry { page: None, room }),
    }
}

fn mode_sense(block: &Block<'_>) -> Command {
    let is_long = block.byte(0) == opcode::MODE_SENSE_10;
    Command::ModeSense(ModeQuery {
        is_long,
        control: block.byte(2) >> 6,
        page: block.byte(2) & 0x3f,
        subpage: block.byte(3),
        has_no_descriptor: block.bit(1, 3),
        is_long_lba: is_long && block.bit(1, 4),
        room: if is_long { block.short(7) } else { u32::from(block.byte(4)) },
    })
}

fn mode_select(block: &Block<'_>) -> Result<Command, Check> {
    if !block.bit(1, 4) {
        return Err(Check::field_bit(1, 4)); // PF: pages there are, and no other format
    }
    block.clear(1, 0x03)?; // nothing is saved, nor restored
    let is_long = block.byte(0) == opcode::MODE_SELECT_10;
    let len = if is_long { block.short(7) } else { u32::from(block.byte(4)) };
    Ok(Command::ModeSelect { is_long, len })
}

/// LOG SELECT: what it may do is set the cumulative counters to zero, their default.
fn log_select(block: &Block<'_>) -> Result<Command, Check> {
    block.clear(1, 0x01)?;
    let is_reset = block.bit(1, 1) || block.byte(2) >> 6 == 3;
    match (is_reset, block.byte(3), block.short(7)) {
        (false, ..) => Err(Check::field_bit(2, 7)),
        (true, 1.., _) => Err(Check::field(3)),
        (true, 0, 1..) => Err(Check::field(7)), // no value but zero can be set
        (true, 0, 0) => Ok(Command::LogReset { page: block.byte(2) & 0x3f }),
    }
}

fn log_sense(block: &Block<'_>) -> Result<Command, Check> {
    block.clear(1, 0x03)?; // nothing is saved, nor are parameters told by what has changed
    let page = block.byte(2) & 0x3f;
    // Threshold and default values there are none; cumulative ones are.
    if matches!(block.byte(2) >> 6, 0 | 2) {
        return Err(Check::field_bit(2, 7));
    }
    let from = u16::try_from(block.short(5)).unwrap_or(u16::MAX);
    Ok(Command::LogSense { page, subpage: block.byte(3), from, room: block.short(7) })
}

fn on_blocks(code: u8, block: &Block<'_>) -> Result<Command, Check> {
    let six = || Blocks {
        lba: block.number(1, 3) & 0x1f_ffff,
        count: match block.byte(4) {
            0 => 256,
            count => u64::from(count),
        },
    };
    let ten = || Blocks { lba: block.number(2, 4), count: u64::from(block.short(7)) };
    let twelve = || Blocks { lba: block.number(2, 4), count: u64::from(block.long(6)) };
    let sixteen = || Blocks { lba: block.number(2, 8), count: u64::from(block.long(10)) };
    let read = |blocks| {
        block.clear(1, 0xe0)?; // no protection information
        Ok(Command::Read { blocks })
    };
    let write = |blocks| {
        block.clear(1, 0xe0)?;
        Ok(Command::Write { blocks, is_durable: block.bit(1, 3) })
    };
    match code {
        opcode::READ_6 => Ok(Command::Read { blocks: six() }),
        opcode::READ_10 => read(ten()),
        opcode::READ_12 => read(twelve()),
        opcode::READ_16 => read(sixteen()),
        opcode::WRITE_6 => Ok(Command::Write { blocks: six(), is_durable: false }),
        opcode::WRITE_10 => write(ten()),
        opcode::WRITE_12 => write(twelve()),
        opcode::WRITE_16 => write(sixteen()),
        opcode::SYNCHRONIZE_CACHE_10 => Ok(Command::SynchronizeCache { blocks: ten() }),
        opcode::SYNCHRONIZE_CACHE_16 => Ok(Command::SynchronizeCache { blocks: sixteen() }),
        opcode::UNMAP => {
            block.clear(1, 0x01)?;
            Ok(Command::Unmap { len: block.short(7) })
        }
        opcode::WRITE_SAME_10 => write_same(block, ten()),
        opcode::WRITE_SAME_16 => write_same(block, sixteen()),
        _ => Err(Check::INVALID_OPCODE),
    }
}

fn write_same(block: &Block<'_>, blocks: Blocks) -> Result<Command, Check> {
    block.clear(1, 0xf6)?; // no protection, no anchors, no numbers written into the blocks
    let is_without_data = block.bit(1, 0);
    if is_without_data && block.byte(0) == opcode::WRITE_SAME_10 {
        return Err(Check::field_bit(1, 0));
    }
    Ok(Command::WriteSame { blocks, is_unmap: block.bit(1, 3), has_data: !is_without_data })
}

/// The ranges of an UNMAP's parameter list; an empty list is none.
///
/// # Errors
/// ILLEGAL REQUEST: PARAMETER LIST LENGTH ERROR, INVALID FIELD IN PARAMETER LIST.
pub fn unmap_ranges(list: &[u8]) -> Result<Vec<Blocks>, Check> {
    const HEADER: usize = 8;
    const DESCRIPTOR: usize = 16;
    if list.is_empty() {
        return Ok(Vec::new());
    }
    if list.len() < HEADER {
        return Err(Check::PARAMETER_LENGTH);
    }
    let told = Block(list).short(2) as usize;
    let descriptors = &list[HEADER..list.len().min(HEADER + told)];
    let (whole, _) = descriptors.as_chunks::<DESCRIPTOR>();
    if whole.len() > super::pages::UNMAP_RANGES_MAX as usize {
        return Err(Check::PARAMETER);
    }
    let blocks = |one: &[u8; DESCRIPTOR]| {
        let one = Block(one);
        Blocks { lba: one.number(0, 8), count: u64::from(one.long(8)) }
    };
    Ok(whole.iter().map(blocks).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own::Field;
    use proptest::prelude::*;

    #[test]
    fn a_command_is_what_its_bytes_say() {
        let blocks = |lba, count| Blocks { lba, count };
        let table: &[(&[u8], Command)] = &[
            (&[0, 0, 0, 0, 0, 0], Command::TestUnitReady),
            (&[0x12, 1, 0xb0, 1, 2, 0], Command::Inquiry { page: Some(0xb0), room: 258 }),
            (&[0x08, 0xff, 1, 2, 0, 0], Command::Read { blocks: blocks(0x1f_0102, 256) }),
            (
                &[0x2a, 8, 1, 2, 3, 4, 0, 5, 6, 0],
                Command::Write { blocks: blocks(0x0102_0304, 0x0506), is_durable: true },
            ),
            (
                &[0x88, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
                Command::Read { blocks: blocks(0x0102_0304_0506_0708, 0x090a_0b0c) },
            ),
            (&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], Command::Unmap { len: 24 }),
            (
                &[0x93, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0],
                Command::WriteSame { blocks: blocks(1, 2), is_unmap: true, has_data: true },
            ),
        ];
        for (bytes, command) in table {
            assert_eq!(Command::decode(bytes), Ok(*command), "{bytes:02x?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        for unknown in [&[0x85; 16][..], &[], &[0x28; 9], &[0xc0; 32], &[0x7f; 32]] {
            assert_eq!(Command::decode(unknown), Err(Check::INVALID_OPCODE), "{unknown:02x?}");
        }
        let field = |bytes: &[u8]| Command::decode(bytes).unwrap_err().field;
        let at = |byte, bit| Some(Field { byte, bit, is_data: false });
        assert_eq!(field(&[0x12, 0, 0x80, 0, 96, 0]), at(2, None));
        assert_eq!(field(&[0x12, 2, 0, 0, 96, 0]), at(1, Some(1)));
        assert_eq!(field(&[0x28, 0x60, 0, 0, 0, 0, 0, 0, 1, 0]), at(1, Some(6)));
        assert_eq!(field(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0]), at(6, None));
        assert_eq!(field(&[0x4d, 0, 0x03, 0, 0, 0, 0, 0, 8, 0]), at(2, Some(7)));
        assert_eq!(field(&[0x15, 0x00, 0, 0, 24, 0]), at(1, Some(4)), "not the vendor's format");
        assert_eq!(field(&[0x15, 0x11, 0, 0, 24, 0]), at(1, Some(0)), "nothing is saved");
        assert_eq!(field(&[0x4c, 0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0]), at(1, Some(0)));
        assert_eq!(field(&[0x4c, 0, 0, 0, 0, 0, 0, 0, 0, 0]), at(2, Some(7)));
        assert_eq!(field(&[0x4c, 0, 0xc0, 0, 0, 0, 0, 0, 8, 0]), at(7, None));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(command) = Command::decode(&bytes) {
                prop_assert!(command.takes(4096) == 0 || command.is_for_writers());
            }
        }

        #[test]
        fn no_list_of_ranges_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let ranges = unmap_ranges(&bytes).map_or(0, |ranges| ranges.len());
            prop_assert!(ranges * 16 <= bytes.len());
        }

        #[test]
        fn every_code_is_read_to_its_length_and_no_further(
            code in any::<u8>(),
            rest in prop::collection::vec(any::<u8>(), 31..32),
            more in any::<u8>(),
        ) {
            let whole: Vec<u8> = std::iter::once(code).chain(rest).collect();
            let Some(len) = length(code) else { return Ok(()) };
            let mut longer = whole[..len].to_vec();
            longer.push(more);
            prop_assert_eq!(Command::decode(&whole[..len]), Command::decode(&longer));
        }
    }
}
