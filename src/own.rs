//! Commands of our own, that every unit obeys which somebody could want for himself: what went
//! wrong last, and reservation.
//!
//! Their numbers encode their sizes, so they reach us from every caller. Numbers are of the host's
//! byte order.

use crate::error::{Errno, Error};
use crate::file::{Answer, Call, IoctlAnswer, IoctlCall};
use crate::holders::{Claim, Wait};
use crate::sync::Arc;
use devices::engine::Engine;
use devices::reserve::Access;
use devices::{Failure, Sense};

/// `_IOR(0xb5, 1, 24 bytes)`: see [`Last`].
pub const SPINDLE_SENSE: u32 = 0x8018_b501;
/// `_IOW(0xb5, 2, 8 bytes)`: allocates the unit to the caller's session; waits for at most so many
/// milliseconds, 0 not at all, all ones for ever.
pub const SPINDLE_ALLOCATE: u32 = 0x4008_b502;
/// `_IO(0xb5, 3)`: gives it back.
pub const SPINDLE_DEALLOCATE: u32 = 0x0000_b503;
/// `_IOW(0xb5, 4, 4 bytes)`: what others may do while this file is open: 1 reading, 2 writing, or
/// both.
pub const SPINDLE_SHARE: u32 = 0x4004_b504;

/// Number and name, as in `proc/ioctls`.
pub const COMMANDS: &[(u32, &str)] = &[
    (SPINDLE_SENSE, "SPINDLE_SENSE"),
    (SPINDLE_ALLOCATE, "SPINDLE_ALLOCATE"),
    (SPINDLE_DEALLOCATE, "SPINDLE_DEALLOCATE"),
    (SPINDLE_SHARE, "SPINDLE_SHARE"),
];

/// Those of a unit that tells no sense: a terminal.
pub const HOLDING: &[(u32, &str)] = COMMANDS.split_at(1).1;

/// Why a command block was refused that never came to the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its sense.
    pub sense: Sense,
    /// What of it is in error.
    pub field: Option<Field>,
}

/// The place of what is wrong in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Which byte.
    pub byte: usize,
    /// Which bit of it, where it is one.
    pub bit: Option<u8>,
    /// Of the data that came with the command block, not of the block itself.
    pub is_data: bool,
}

/// What went wrong last on a unit; none after a success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// What the unit said of its last request.
    pub failure: Option<Failure>,
    /// The command block that was refused since.
    pub refused: Option<Told>,
}

impl Last {
    /// As the caller gets it: key, code, qualifier; flags (1 something went wrong, 2 `info` is
    /// told, 4 the byte of a command block is told, 8 that of the data sent with it); errno, of
    /// 32 bits; `info`, of 64, the first sector that failed; the byte in error, of 16, and its bit,
    /// 255 for none; zeros.
    #[must_use]
    pub fn bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let (sense, errno, field) = match (self.refused, self.failure) {
            (Some(Told { sense, field }), _) => (sense, Errno::EINVAL, field),
            (None, Some(failure)) => (failure.sense, failure.error.into(), None),
            (None, None) => return bytes,
        };
        let place = field.map_or(0, |field| if field.is_data { 8 } else { 4 });
        let flags = 1 | u8::from(sense.info.is_some()) << 1 | place;
        bytes[..4].copy_from_slice(&[sense.key, sense.asc, sense.ascq, flags]);
        bytes[4..8].copy_from_slice(&errno.0.to_ne_bytes());
        bytes[8..16].copy_from_slice(&sense.info.unwrap_or(0).to_ne_bytes());
        if let Some(Field { byte, bit, .. }) = field {
            let byte = u16::try_from(byte).unwrap_or(u16::MAX);
            bytes[16..18].copy_from_slice(&byte.to_ne_bytes());
            bytes[18] = bit.unwrap_or(u8::MAX);
        }
        bytes
    }
}

/// Obeys one of these commands; `None`: it is another.
pub fn obey(
    call: &Call,
    ioctl: &IoctlCall<'_>,
    (name, claim): (&str, &Claim),
    engine: &Arc<Engine>,
    last: impl FnOnce() -> Last,
) -> Option<Result<Answer<IoctlAnswer>, Error>> {
    Some(match ioctl.cmd {
        SPINDLE_SENSE => Ok(Answer::Now((0, last().bytes().to_vec()))),
        SPINDLE_ALLOCATE => wanted(ioctl)
            .and_then(|wait| claim.allocate(name, &call.caller, wait, engine))
            .and_then(done),
        SPINDLE_DEALLOCATE => claim.deallocate(name, &call.caller).map(|()| Answer::Now(DONE)),
        SPINDLE_SHARE => {
            shared(ioctl).and_then(|share| claim.share(name, share, engine)).and_then(done)
        }
        _ => return None,
    })
}

const DONE: IoctlAnswer = (0, Vec::new());

fn done(answer: Answer<()>) -> Result<Answer<IoctlAnswer>, Error> {
    answer.map(|done| done.map(|()| DONE))
}

fn number<const N: usize>(ioctl: &IoctlCall<'_>) -> Result<[u8; N], Error> {
    let found = ioctl.input.first_chunk().copied();
    found.ok_or_else(|| Error::plain(Errno::EINVAL))
}

fn wanted(ioctl: &IoctlCall<'_>) -> Result<Wait, Error> {
    Ok(match u64::from_ne_bytes(number(ioctl)?) {
        0 => Wait::No,
        u64::MAX => Wait::Forever,
        millis => Wait::Nanos(millis.saturating_mul(1_000_000)),
    })
}

fn shared(ioctl: &IoctlCall<'_>) -> Result<Access, Error> {
    match u32::from_ne_bytes(number(ioctl)?) {
        0 => Ok(Access::None),
        1 => Ok(Access::Read),
        2 => Ok(Access::Write),
        3 => Ok(Access::ReadWrite),
        _ => Err(Error::new(Errno::EINVAL, "share: 0 to 3, 1 for reading and 2 for writing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devices::{IoError, Sector};

    #[test]
    fn the_numbers_encode_the_sizes() {
        for (cmd, name) in COMMANDS {
            assert_eq!((cmd >> 8) & 0xff, 0xb5, "{name}");
        }
        assert!(HOLDING.iter().all(|(cmd, _)| *cmd != SPINDLE_SENSE) && HOLDING.len() == 3);
        assert_eq!((SPINDLE_SENSE >> 16) & 0x3fff, 24);
    }

    #[test]
    fn nothing_wrong_is_all_zeros() {
        assert_eq!(Last::default().bytes(), [0; 24]);
    }

    #[test]
    fn what_went_wrong_is_told_with_errno_and_place() {
        let failure = Some(IoError::Media(Sector(9)).into());
        let bytes = Last { failure, refused: None }.bytes();
        assert_eq!(bytes[..4], [3, 0x11, 0, 3]);
        assert_eq!(bytes[4..8], Errno::EIO.0.to_ne_bytes());
        assert_eq!(bytes[8..16], 9_u64.to_ne_bytes());
        let sense = Sense { key: 5, asc: 0x24, ascq: 0, info: None };
        for (is_data, flags) in [(false, 5), (true, 9)] {
            let field = Some(Field { byte: 2, bit: Some(7), is_data });
            let bytes = Last { failure, refused: Some(Told { sense, field }) }.bytes();
            assert_eq!(bytes[..4], [5, 0x24, 0, flags]);
            assert_eq!(bytes[16..19], [2, 0, 7]);
        }
    }
}
