//! Sense: why a command was not done, in the bytes that a host expects (SPC-4, 4.5).

use crate::own::Field;
use devices::{Failure, Sense};

/// Sense that goes with CHECK CONDITION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Key, code, qualifier, information.
    pub sense: Sense,
    /// What of the command is in error.
    pub field: Option<Field>,
    /// The unit itself has said so.
    pub is_units: bool,
}

const fn at(byte: usize, bit: Option<u8>, is_data: bool) -> Option<Field> {
    Some(Field { byte, bit, is_data })
}

const fn illegal(asc: u8) -> Sense {
    Sense { key: 5, asc, ascq: 0, info: None }
}

impl Check {
    /// ILLEGAL REQUEST: INVALID COMMAND OPERATION CODE.
    pub const INVALID_OPCODE: Check =
        Check { sense: illegal(0x20), field: at(0, None, false), is_units: false };
    /// ILLEGAL REQUEST: LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const OUT_OF_RANGE: Check = Check { sense: illegal(0x21), field: None, is_units: false };
    /// ILLEGAL REQUEST: INVALID FIELD IN PARAMETER LIST.
    pub const PARAMETER: Check = Check { sense: illegal(0x26), field: None, is_units: false };
    /// ILLEGAL REQUEST: PARAMETER LIST LENGTH ERROR.
    pub const PARAMETER_LENGTH: Check =
        Check { sense: illegal(0x1a), field: None, is_units: false };
    /// ILLEGAL REQUEST: SAVING PARAMETERS NOT SUPPORTED.
    pub const NO_SAVING: Check = Check { sense: illegal(0x39), field: None, is_units: false };
    /// ABORTED COMMAND: DATA PHASE ERROR; the caller's memory is shorter than its command says.
    pub const DATA_PHASE: Check = Check {
        sense: Sense { key: 0xb, asc: 0x4b, ascq: 0, info: None },
        field: None,
        is_units: false,
    };
    /// DATA PROTECT: WRITE PROTECTED.
    pub const PROTECTED: Check = Check {
        sense: Sense { key: 7, asc: 0x27, ascq: 0, info: None },
        field: None,
        is_units: false,
    };
    /// NOT READY: MEDIUM NOT PRESENT.
    pub const NO_MEDIUM: Check = Check {
        sense: Sense { key: 2, asc: 0x3a, ascq: 0, info: None },
        field: None,
        is_units: false,
    };
    /// NOT READY: CAUSE NOT REPORTABLE.
    pub const NOT_READY: Check = Check {
        sense: Sense { key: 2, asc: 0x04, ascq: 0, info: None },
        field: None,
        is_units: false,
    };

    /// ILLEGAL REQUEST: INVALID FIELD IN CDB, at that byte.
    #[must_use]
    pub const fn field(byte: usize) -> Check {
        Check { sense: illegal(0x24), field: at(byte, None, false), is_units: false }
    }

    /// The same, at that bit of it.
    #[must_use]
    pub const fn field_bit(byte: usize, bit: u8) -> Check {
        Check { sense: illegal(0x24), field: at(byte, Some(bit), false), is_units: false }
    }

    /// ILLEGAL REQUEST: INVALID FIELD IN PARAMETER LIST, at that byte of it, and bit.
    #[must_use]
    pub const fn parameter(byte: usize, bit: Option<u8>) -> Check {
        Check { field: at(byte, bit, true), ..Check::PARAMETER }
    }

    /// The three bytes that point to the field in error.
    fn pointer(&self) -> Option<[u8; 3]> {
        let Field { byte, bit, is_data } = self.field?;
        // SKSV, and whether it lies in the command block.
        let flags = if is_data { 0x80 } else { 0xc0 } | bit.map_or(0, |bit| 0x08 | bit & 7);
        let [high, low] = u16::try_from(byte).unwrap_or(u16::MAX).to_be_bytes();
        Some([flags, high, low])
    }

    /// In the fixed format.
    #[must_use]
    pub fn fixed(&self) -> Vec<u8> {
        let Sense { key, asc, ascq, info } = self.sense;
        let mut bytes = vec![0; 18];
        (bytes[0], bytes[2], bytes[7]) = (0x70, key & 0xf, 10);
        if let Some(short) = info.and_then(|info| u32::try_from(info).ok()) {
            bytes[0] |= 0x80; // the information is valid
            bytes[3..7].copy_from_slice(&short.to_be_bytes());
        }
        (bytes[12], bytes[13]) = (asc, ascq);
        if let Some(pointer) = self.pointer() {
            bytes[15..18].copy_from_slice(&pointer);
        }
        bytes
    }

    /// In the descriptor format.
    #[must_use]
    pub fn descriptor(&self) -> Vec<u8> {
        let Sense { key, asc, ascq, info } = self.sense;
        let mut bytes = vec![0x72, key & 0xf, asc, ascq, 0, 0, 0, 0];
        if let Some(info) = info {
            bytes.extend([0x00, 0x0a, 0x80, 0]);
            bytes.extend(info.to_be_bytes());
        }
        if let Some([flags, high, low]) = self.pointer() {
            bytes.extend([0x02, 0x06, 0, 0, flags, high, low, 0]);
        }
        bytes[7] = u8::try_from(bytes.len() - 8).unwrap_or(u8::MAX);
        bytes
    }
}

impl From<Sense> for Check {
    fn from(sense: Sense) -> Check {
        Check { sense, field: None, is_units: true }
    }
}

impl From<Failure> for Check {
    fn from(failure: Failure) -> Check {
        failure.sense.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devices::{IoError, Sector};

    #[test]
    fn a_medium_error_names_its_sector_in_both_formats() {
        let check = Check::from(Failure::from(IoError::Media(Sector(0x1234))));
        let fixed = check.fixed();
        assert_eq!((fixed[0], fixed[2], fixed[12]), (0xf0, 3, 0x11));
        assert_eq!(fixed[3..7], [0, 0, 0x12, 0x34]);
        let long = check.descriptor();
        assert_eq!(long[..12], [0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 10, 0x80, 0]);
        assert_eq!(long[18..], [0x12, 0x34]);
    }

    #[test]
    fn a_sector_of_more_than_32_bits_is_told_by_descriptors_alone() {
        let check = Check::from(Failure::from(IoError::Media(Sector(1 << 40))));
        assert_eq!(check.fixed()[0], 0x70);
        assert_eq!(check.descriptor()[12..20], (1_u64 << 40).to_be_bytes());
    }

    #[test]
    fn a_field_in_error_is_pointed_to() {
        assert_eq!(Check::field_bit(2, 7).fixed()[15..], [0xcf, 0, 2]);
        assert_eq!(Check::field(8).fixed()[15..], [0xc0, 0, 8]);
        assert_eq!(Check::field(8).descriptor()[12..15], [0xc0, 0, 8]);
        assert_eq!(Check::parameter(300, Some(2)).fixed()[12..], [0x26, 0, 0, 0x8a, 1, 0x2c]);
    }
}
