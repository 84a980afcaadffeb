//! ioctl(2) with a number that is known only when it is typed, and with a command block.

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

/// Most bytes that one command block moves.
pub(super) const DATA_BYTES_MAX: usize = 16 << 20;
const SG_IO: u32 = 0x2285;
const SENSE_BYTES: u8 = 64;

/// What goes with a command block.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent<'a> {
    /// These bytes go to the unit.
    Data(&'a [u8]),
    /// So many may come from it.
    Room(usize),
}

/// What a unit made of a command block.
pub(super) struct Obeyed {
    pub(super) status: u8,
    pub(super) sense: Vec<u8>,
    pub(super) data: Vec<u8>,
}

/// `struct sg_io_hdr` of scsi/sg.h.
#[repr(C)]
struct Header {
    interface: libc::c_int,
    direction: libc::c_int,
    cdb_len: u8,
    sense_room: u8,
    pieces: u16,
    len: libc::c_uint,
    data: *mut u8,
    cdb: *const u8,
    sense: *mut u8,
    timeout_ms: libc::c_uint,
    flags: libc::c_uint,
    pack_id: libc::c_int,
    user: *mut u8,
    status: u8,
    masked_status: u8,
    message: u8,
    sense_len: u8,
    host_status: u16,
    driver_status: u16,
    left: libc::c_int,
    duration: libc::c_uint,
    info: libc::c_uint,
}

/// Has a unit obey a command block.
///
/// # Errors
/// The host's; `InvalidInput` for a block longer than 255 bytes, or too much data.
#[allow(unsafe_code)] // SG_IO has no safe form
pub(super) fn command_block(file: &File, cdb: &[u8], sent: Sent<'_>) -> io::Result<Obeyed> {
    let (direction, mut data) = match sent {
        Sent::Data(bytes) => (-2, bytes.to_vec()),
        Sent::Room(room) => (-3, vec![0; room.min(DATA_BYTES_MAX)]),
    };
    let wrong = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut sense = vec![0; usize::from(SENSE_BYTES)];
    let mut header = Header {
        interface: libc::c_int::from(b'S'),
        direction,
        cdb_len: u8::try_from(cdb.len()).map_err(wrong)?,
        sense_room: SENSE_BYTES,
        pieces: 0,
        len: libc::c_uint::try_from(data.len()).map_err(wrong)?,
        data: data.as_mut_ptr(),
        cdb: cdb.as_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_ms: 60_000,
        flags: 0,
        pack_id: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        message: 0,
        sense_len: 0,
        host_status: 0,
        driver_status: 0,
        left: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the file is open; the structure is that of SG_IO, and its pointers lead to memory of
    // the lengths beside them that outlives the call. Data to the unit are only read.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), libc::Ioctl::from(SG_IO), &raw mut header) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let moved = data.len().saturating_sub(usize::try_from(header.left).unwrap_or(0));
    data.truncate(if direction == -3 { moved } else { 0 });
    sense.truncate(usize::from(header.sense_len));
    Ok(Obeyed { status: header.status, sense, data })
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

    #[test]
    fn a_command_block_to_no_disk_is_refused() {
        let null = File::open("/dev/null").unwrap();
        let refused = command_block(&null, &[0; 6], Sent::Room(8)).err().unwrap();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOTTY));
        let long = command_block(&null, &[0; 256], Sent::Data(&[])).err().unwrap();
        assert_eq!(long.kind(), io::ErrorKind::InvalidInput);
        let words = if cfg!(target_pointer_width = "64") { 88 } else { 64 };
        assert_eq!(size_of::<Header>(), words);
    }
}
