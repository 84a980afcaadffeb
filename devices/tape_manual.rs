//! The manual of the tape controller: registers, bits, command block, sense.
//!
//! The chip is built after it and the driver is written after it; they share nothing else. Numbers
//! are little-endian. Registers are 4 bytes wide; those marked wide take two, the low half first.
//! What a command does and how it ends follows SCSI (SSC: stream commands), and so does the sense.

/// Read: which controller this is: [`TAPE_ID`].
pub const ID: u16 = 0x00;
/// Read: the bits [`BUSY`] to [`MOVING`].
pub const STATUS: u16 = 0x04;
/// Write: one of the words [`ACK`] to [`REPAIR`].
pub const CONTROL: u16 = 0x08;
/// Write anything: the controller fetches its command block and starts. Ignored while busy.
pub const DOORBELL: u16 = 0x0c;
/// Wide. Bus address of the command block.
pub const BLOCK: u16 = 0x10;
/// Read: sense of the last command: qualifier in bits 0-7, additional code in 8-15, key in 16-23,
/// the flags [`FILEMARK`], [`END_OF_TAPE`], [`WRONG_LENGTH`] in 24-31.
pub const SENSE: u16 = 0x18;
/// Read: number of the timing model. Write: choose it.
pub const TIMING: u16 = 0x1c;
/// Wide. Read: what the last command left undone: records of fixed length, items to be spaced over,
/// or bytes of a variable record (in two's complement: below 0 where the record was longer).
pub const RESIDUAL: u16 = 0x20;
/// Wide. Read: bytes that the last command moved.
pub const MOVED: u16 = 0x28;
/// Wide. Read: records and marks before the head.
pub const POSITION: u16 = 0x30;
/// Wide. Read: how much the tape holds, in bytes.
pub const SIZE: u16 = 0x38;
/// Ports a controller takes.
pub const PORTS: u16 = 0x40;

/// Answer in [`ID`]: "TC", revision 1.
pub const TAPE_ID: u32 = 0x5443_0001;

/// [`STATUS`]: at work on a command.
pub const BUSY: u32 = 1;
/// [`STATUS`]: something is to be acknowledged; the line was raised for it.
pub const DONE: u32 = 2;
/// [`STATUS`], with [`DONE`]: there is something to tell, see [`SENSE`].
pub const CHECK: u32 = 4;
/// [`STATUS`]: stopped by [`FREEZE`].
pub const FROZEN: u32 = 8;
/// [`STATUS`]: the tape cannot be written.
pub const WRITE_PROTECTED: u32 = 16;
/// [`STATUS`]: a tape is loaded.
pub const LOADED: u32 = 32;
/// [`STATUS`]: the door is locked.
pub const LOCKED: u32 = 64;
/// [`STATUS`]: a cartridge is in the slot, loaded or not.
pub const PRESENT: u32 = 128;
/// [`STATUS`], with [`BUSY`]: the tape moves, there is time until something happens.
pub const MOVING: u32 = 256;

/// [`CONTROL`]: what was done is seen.
pub const ACK: u32 = 1;
/// [`CONTROL`]: drop what is under way, as after power-on. The tape stays where it is.
pub const RESET: u32 = 2;
/// [`CONTROL`]: stop in mid-work.
pub const FREEZE: u32 = 3;
/// [`CONTROL`]: go on.
pub const THAW: u32 = 4;
/// [`CONTROL`]: the service switch: what was broken is mended.
pub const REPAIR: u32 = 7;

/// Opcode: the next record, or with a record length the next records, to memory.
pub const READ: u8 = 1;
/// Opcode: the record before the head, from byte `count` of it, to memory; the head stays.
pub const READ_MORE: u8 = 2;
/// Opcode: memory to a record, or with a record length to records.
pub const WRITE: u8 = 3;
/// Opcode: memory to the end of the record just written, which becomes so much longer.
pub const WRITE_MORE: u8 = 4;
/// Opcode: `count` file marks.
pub const MARKS: u8 = 5;
/// Opcode: over `count` records, back where it is negative; a mark ends it.
pub const SPACE_RECORDS: u8 = 6;
/// Opcode: over `count` marks, back where it is negative.
pub const SPACE_MARKS: u8 = 7;
/// Opcode: behind all data.
pub const SPACE_END: u8 = 8;
/// Opcode: to where `count` records and marks are before the head.
pub const LOCATE: u8 = 9;
/// Opcode: to the beginning.
pub const REWIND: u8 = 10;
/// Opcode: erases all from the head on.
pub const ERASE: u8 = 11;
/// Opcode: threads the cartridge in the slot.
pub const LOAD: u8 = 12;
/// Opcode: rewinds and unthreads it.
pub const UNLOAD: u8 = 13;
/// Opcode: locks the door with a `count` of 1, unlocks it with 0.
pub const LOCK: u8 = 14;
/// Opcode: what was written is made durable.
pub const FLUSH: u8 = 15;
/// Opcode: the hand that puts a cartridge in and threads it. The memory names the file of the
/// host, up to a 0; where it is refused the memory holds the words, [`MOVED`] bytes of them.
pub const INSERT: u8 = 16;
/// Opcode: the hand that takes the cartridge out.
pub const REMOVE: u8 = 17;

/// Command block: opcode, 1 byte at 0; flags, 1 byte at 1; length of records where it is fixed, 4
/// bytes at 4, else 0; `count`, 8 bytes at 8; address of the memory, 8 bytes at 16; its length in
/// bytes, 4 bytes at 24; tag, 4 bytes at 28.
pub const BLOCK_BYTES: usize = 32;
/// Flag of [`INSERT`]: the cartridge is write-protected.
pub const PROTECT: u8 = 1;

/// [`SENSE`]: a file mark was met.
pub const FILEMARK: u8 = 0x80;
/// [`SENSE`]: the tape is near its end, or the head met its end or its beginning.
pub const END_OF_TAPE: u8 = 0x40;
/// [`SENSE`]: the record is not as long as asked.
pub const WRONG_LENGTH: u8 = 0x20;

/// Sense key: nothing the data are worse for.
pub const NO_SENSE: u8 = 0;
/// Sense key: nothing was ever recorded here.
pub const BLANK_CHECK: u8 = 8;
/// Sense key: the tape ended before the data.
pub const VOLUME_OVERFLOW: u8 = 0xd;
