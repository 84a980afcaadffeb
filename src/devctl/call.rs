//! ioctl(2) with a number that is known only when it is typed.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Bytes that a number can encode as its structure's size, and room behind them.
const ROOM_BYTES: usize = 0x4000 + 0x1000;

/// Memory for whatever a command passes; longer than any of them.
pub(super) struct Memory(Vec<u8>);

impl Memory {
    /// Zeros, begun by `bytes`; `None`: they are too many.
    pub(super) fn new(bytes: &[u8]) -> Option<Memory> {
        let mut memory = vec![0; ROOM_BYTES];
        memory.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Memory(memory))
    }

    /// Its first `len` bytes.
    pub(super) fn first(&self, len: usize) -> &[u8] {
        &self.0[..len.min(self.0.len())]
    }
}

/// The third argument.
pub(super) enum Argument<'a> {
    /// A number, for a command that takes it for one, and not for an address.
    Number(u64),
    /// A structure.
    Memory(&'a mut Memory),
}

/// Bytes of the structure that a number encodes; 0 where it encodes none.
pub(super) fn size(number: u32) -> usize {
    (number >> 16 & 0x3fff) as usize
}

/// Makes the call. Waits as long as the command does.
///
/// # Errors
/// The host's; `InvalidInput` for a bare number where a structure belongs.
#[allow(unsafe_code)] // the one system call that has no safe form
pub(super) fn ioctl(file: &File, number: u32, argument: Argument<'_>) -> io::Result<i32> {
    let argument = match argument {
        Argument::Number(_) if size(number) > 0 => return Err(io::ErrorKind::InvalidInput.into()),
        Argument::Number(value) => value as libc::c_ulong,
        Argument::Memory(memory) => memory.0.as_mut_ptr() as libc::c_ulong,
    };
    // SAFETY: the file is open; the host writes no more than the number encodes, and the machine
    // no more than the shapes of `shape.rs`, both less than ROOM_BYTES of memory that we own. A
    // number that is no address is passed only to commands that take none.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::Ioctl::from(number), argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_number_encodes_fits_the_memory() {
        assert_eq!((size(0x5401), size(0x8008_1272)), (0, 8));
        assert!(size(u32::MAX) < ROOM_BYTES);
        assert!(Memory::new(&vec![0; ROOM_BYTES]).is_some());
        assert!(Memory::new(&vec![0; ROOM_BYTES + 1]).is_none());
    }

    #[test]
    fn a_number_where_an_address_belongs_is_refused() {
        let null = File::open("/dev/null").unwrap();
        let refused = ioctl(&null, 0x8008_1272, Argument::Number(1)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        let mut memory = Memory::new(&[]).unwrap();
        assert!(ioctl(&null, 0x5401, Argument::Memory(&mut memory)).is_err());
    }
}
