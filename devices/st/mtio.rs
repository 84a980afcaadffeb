//! The words of `<linux/mtio.h>`: commands, operations, and what they pass, as bytes.

/// `MTIOCTOP`, with a `struct mtop`.
pub(super) const MTIOCTOP: u32 = 0x4008_6d01;
/// `MTIOCGET`, with a `struct mtget`; and the same of a caller of 32 bits.
pub(super) const MTIOCGET: u32 = 0x8030_6d02;
pub(super) const MTIOCGET_32: u32 = 0x801c_6d02;
/// `MTIOCPOS`, with a `struct mtpos`; and the same of a caller of 32 bits.
pub(super) const MTIOCPOS: u32 = 0x8008_6d03;
pub(super) const MTIOCPOS_32: u32 = 0x8004_6d03;

/// What the driver takes.
pub(super) const COMMANDS: &[(u32, &str)] =
    &[(MTIOCTOP, "MTIOCTOP"), (MTIOCGET, "MTIOCGET"), (MTIOCPOS, "MTIOCPOS")];

/// An operation of `MTIOCTOP`, by its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MtOp {
    Reset = 0,
    Fsf = 1,
    Bsf = 2,
    Fsr = 3,
    Bsr = 4,
    Weof = 5,
    Rew = 6,
    Offl = 7,
    Nop = 8,
    Reten = 9,
    Bsfm = 10,
    Fsfm = 11,
    Eom = 12,
    Erase = 13,
    SetBlk = 20,
    SetDensity = 21,
    Seek = 22,
    Tell = 23,
    SetDrvBuffer = 24,
    Lock = 28,
    Unlock = 29,
    Load = 30,
    Unload = 31,
    Compression = 32,
    Weofi = 35,
}

const OPERATIONS: [MtOp; 25] = [
    MtOp::Reset,
    MtOp::Fsf,
    MtOp::Bsf,
    MtOp::Fsr,
    MtOp::Bsr,
    MtOp::Weof,
    MtOp::Rew,
    MtOp::Offl,
    MtOp::Nop,
    MtOp::Reten,
    MtOp::Bsfm,
    MtOp::Fsfm,
    MtOp::Eom,
    MtOp::Erase,
    MtOp::SetBlk,
    MtOp::SetDensity,
    MtOp::Seek,
    MtOp::Tell,
    MtOp::SetDrvBuffer,
    MtOp::Lock,
    MtOp::Unlock,
    MtOp::Load,
    MtOp::Unload,
    MtOp::Compression,
    MtOp::Weofi,
];

/// A `struct mtop`: which operation, and how many; `None` for one this driver does not do.
pub(super) fn operation(input: &[u8]) -> Option<(MtOp, i32)> {
    let &[low, high, _, _, a, b, c, d] = input else { return None };
    let number = i16::from_le_bytes([low, high]);
    let found = OPERATIONS.into_iter().find(|op| *op as i16 == number)?;
    Some((found, i32::from_le_bytes([a, b, c, d])))
}

/// Options of `MTSETDRVBUFFER`: which kind, in the top four bits of the count.
pub(super) const OPTIONS: u32 = 0xf000_0000;
pub(super) const BOOLEANS: u32 = 0x1000_0000;
pub(super) const WRITE_THRESHOLD: u32 = 0x2000_0000;
pub(super) const SET_BOOLEANS: u32 = 0x3000_0000;
pub(super) const CLEAR_BOOLEANS: u32 = 0x4000_0000;
pub(super) const TIMEOUTS: u32 = 0x7000_0000;

/// The booleans that change what this driver does: two marks at close, `MTEOM` without counting
/// files, the next file at close after reading.
pub(super) const TWO_FM: u32 = 0x10;
pub(super) const FAST_MTEOM: u32 = 0x20;
pub(super) const SYSV: u32 = 0x1000;
/// Partitions, of which this drive has none.
pub(super) const CAN_PARTITIONS: u32 = 0x400;
/// What they are at first: buffered and asynchronous writes, read-ahead, going back.
pub(super) const DEFAULT_BOOLEANS: u32 = 0x1 | 0x2 | 0x4 | 0x100;

/// Bits of `mt_gstat`.
pub(super) const GMT_EOF: u64 = 0x8000_0000;
pub(super) const GMT_BOT: u64 = 0x4000_0000;
pub(super) const GMT_EOT: u64 = 0x2000_0000;
pub(super) const GMT_EOD: u64 = 0x0800_0000;
pub(super) const GMT_WR_PROT: u64 = 0x0400_0000;
pub(super) const GMT_ONLINE: u64 = 0x0100_0000;
pub(super) const GMT_DR_OPEN: u64 = 0x0004_0000;
pub(super) const GMT_IM_REP_EN: u64 = 0x0001_0000;

/// `MT_ISSCSI2` of `mt_type`.
pub(super) const GENERIC_SCSI2: u64 = 0x72;

/// What a `struct mtget` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MtGet {
    pub(super) dsreg: u64,
    pub(super) gstat: u64,
    pub(super) fileno: i32,
    pub(super) blkno: i32,
}

impl MtGet {
    /// As the caller gets it: longs of 8 bytes, or of 4.
    pub(super) fn encode(self, long_bytes: usize) -> Vec<u8> {
        let longs = [GENERIC_SCSI2, 0, self.dsreg, self.gstat, 0];
        let mut bytes = Vec::with_capacity(48);
        for long in longs {
            bytes.extend_from_slice(&long.to_le_bytes()[..long_bytes]);
        }
        bytes.extend(self.fileno.to_le_bytes());
        bytes.extend(self.blkno.to_le_bytes());
        bytes
    }
}
