//! The manual of the disk and diskette controllers: registers, bits, command block, sense.
//!
//! Chips are built after it and drivers are written after it; they share nothing else. Numbers
//! are little-endian, sectors of 512 bytes whatever the medium's own sector is.
//!
//! Registers are 4 bytes wide. Those marked 64 take two, the low half first. A narrower read gives
//! that part of the register; a narrower write is ignored, except to [`DATA`].

/// Read: which controller this is: [`DISK_ID`] or [`DISKETTE_ID`].
pub const ID: u16 = 0x00;
/// Read: the bits [`BUSY`] to [`WRITE_PROTECTED`].
pub const STATUS: u16 = 0x04;
/// Write: one of the words [`ACK`] to [`REPAIR`].
pub const CONTROL: u16 = 0x08;
/// Write anything: the controller fetches its command block and starts. Ignored while busy.
pub const DOORBELL: u16 = 0x0c;
/// 64. Bus address of the command block.
pub const BLOCK: u16 = 0x10;
/// Read: sense of the last command: key in bits 16-23, additional code in 8-15, qualifier in 0-7.
pub const SENSE: u16 = 0x18;
/// Read: bytes in a sector of the medium.
pub const SECTOR_BYTES: u16 = 0x1c;
/// 64. Read: first sector that failed, [`NO_INFO`] where none is to blame.
pub const INFO: u16 = 0x20;
/// 64. Read: length of the medium, in sectors.
pub const SECTORS: u16 = 0x28;
/// Read: longest transfer, in sectors.
pub const TRANSFER_MAX: u16 = 0x30;
/// Read and write: number of the timing model.
pub const TIMING: u16 = 0x34;
/// 64. Write: the sector that [`QUERY`] and [`MARK_BAD`] are about.
pub const SECTOR: u16 = 0x38;
/// 64. Read: first sector of the stored run that [`QUERY`] found.
pub const STORED_FIRST: u16 = 0x40;
/// 64. Read: its end; not above [`STORED_FIRST`] where there is none.
pub const STORED_END: u16 = 0x48;
/// 64. Read: the sector at which the arm stands.
pub const POSITION: u16 = 0x50;
/// 64. Read: cylinders that the arm has crossed.
pub const TRAVEL: u16 = 0x58;
/// 64. Read: accesses to the medium that took the mechanism's time.
pub const ACCESSES: u16 = 0x60;
/// 64. Read: reads served from the track cache.
pub const HITS: u16 = 0x68;
/// Read: spare sectors there are.
pub const SPARES: u16 = 0x70;
/// Read: sectors remapped to spares.
pub const REMAPS: u16 = 0x74;
/// Write: chooses which remapped sector, from 0, the next two tell of.
pub const REMAP_INDEX: u16 = 0x78;
/// Read: its spare.
pub const REMAP_SPARE: u16 = 0x7c;
/// 64. Read: the sector; [`NO_INFO`] where there are not so many.
pub const REMAP_SECTOR: u16 = 0x80;
/// Diskette. Write: opcode in bits 0-7, flags in bits 8-15; the controller starts. Ignored while
/// busy.
pub const COMMAND: u16 = 0x88;
/// Diskette. Write: how many sectors; the first is in [`SECTOR`].
pub const COUNT: u16 = 0x8c;
/// Diskette. Write: the tag of the command.
pub const TAG: u16 = 0x90;
/// Diskette. The sector buffer, 1, 2 or 4 bytes an access, one after another.
pub const DATA: u16 = 0x94;
/// Ports a controller takes.
pub const PORTS: u16 = 0x98;

/// Answer of a disk controller in [`ID`]: "DC", revision 1.
pub const DISK_ID: u32 = 0x4443_0001;
/// Answer of a diskette controller in [`ID`]: "FC", revision 1.
pub const DISKETTE_ID: u32 = 0x4643_0001;
/// [`INFO`] where no sector is to blame.
pub const NO_INFO: u64 = u64::MAX;

/// [`STATUS`]: at work on a command.
pub const BUSY: u32 = 1;
/// [`STATUS`]: something is to be acknowledged; the line was raised for it.
pub const DONE: u32 = 2;
/// [`STATUS`], with [`DONE`]: the command failed, see [`SENSE`].
pub const ERROR: u32 = 4;
/// [`STATUS`]: stopped by [`FREEZE`].
pub const FROZEN: u32 = 8;
/// [`STATUS`]: the medium cannot be written.
pub const WRITE_PROTECTED: u32 = 16;
/// [`STATUS`], diskette: the sector buffer waits to be read or filled.
pub const DATA_READY: u32 = 32;

/// [`CONTROL`]: what was done is seen. A diskette controller goes on with its next sector.
pub const ACK: u32 = 1;
/// [`CONTROL`]: drop what is under way, as after power-on.
pub const RESET: u32 = 2;
/// [`CONTROL`]: stop in mid-work.
pub const FREEZE: u32 = 3;
/// [`CONTROL`]: go on.
pub const THAW: u32 = 4;
/// [`CONTROL`]: look up the first stored run at or behind [`SECTOR`].
pub const QUERY: u32 = 5;
/// [`CONTROL`]: the sector in [`SECTOR`] goes bad (a test of the remapping).
pub const MARK_BAD: u32 = 6;
/// [`CONTROL`]: the service switch: what was broken is mended.
pub const REPAIR: u32 = 7;

/// Opcode: medium to memory.
pub const READ: u8 = 1;
/// Opcode: memory to medium.
pub const WRITE: u8 = 2;
/// Opcode: what was written is made durable.
pub const FLUSH: u8 = 3;
/// Opcode: sectors are of no more use.
pub const DISCARD: u8 = 4;
/// Opcode: sectors become zeros.
pub const ZERO: u8 = 5;

/// Command block: opcode, 1 byte at 0; flags, 1 byte at 1; segments, 2 bytes at 2; tag, 4 bytes at
/// 4; first sector, 8 bytes at 8; sectors, 8 bytes at 16; behind it the segments.
pub const BLOCK_BYTES: usize = 24;
/// A segment: bus address, 8 bytes at 0; length in bytes, 4 bytes at 8; 4 bytes of zeros.
pub const SEGMENT_BYTES: usize = 16;
/// Flag of a command: durable when done.
pub const FUA: u8 = 1;

/// A printer's port: the parallel port's three registers (IEEE 1284, compatibility mode), and
/// beside them the means to give it a block at once and to work its panel.
pub mod printer {
    /// Ports it takes.
    pub const PORTS: u16 = 0x40;
    /// What [`ID`] answers.
    pub const PRINTER_ID: u32 = 0x5350_1284;

    /// R: who it is.
    pub const ID: u16 = 0x00;
    /// RW, a byte: the next byte to print; a strobe takes it.
    pub const DATA: u16 = 0x04;
    /// R, a byte: [`NOT_BUSY`], [`NOT_ACK`], [`PAPER_OUT`], [`SELECTED`], [`NO_ERROR`].
    pub const STATUS: u16 = 0x05;
    /// RW, a byte: [`STROBE`], [`NOT_INIT`], [`IRQ_ENABLE`].
    pub const CONTROL: u16 = 0x06;
    /// W: starts [`PRINT`], [`BEGIN`] or [`END`] with the block at [`ADDRESS`].
    pub const OP: u16 = 0x08;
    /// R: how the last block ended: [`RUNNING`], [`GOOD`], [`NO_SPACE`], [`BROKEN`].
    pub const RESULT: u16 = 0x0c;
    /// RW, 64 bits: where the block lies in memory.
    pub const ADDRESS: u16 = 0x10;
    /// RW: its length, in bytes.
    pub const COUNT: u16 = 0x18;
    /// R: how many of its bytes are on paper.
    pub const DONE: u16 = 0x1c;
    /// RW: sheets left; all ones: no end of them.
    pub const PAPER: u16 = 0x20;
    /// RW: what is set on its panel: [`OFFLINE`], [`COVER`], [`JAM`]. R also: [`OUT`], [`WORN`].
    pub const PANEL: u16 = 0x24;
    /// RW: bytes a second; 0: at once.
    pub const RATE: u16 = 0x28;
    /// R: sheets printed since power-on.
    pub const PAGES: u16 = 0x2c;
    /// RW: letters that its ribbon is good for; all ones: no end of them.
    pub const RIBBON: u16 = 0x30;
    /// R: how many bytes its buffer takes that come by strobe.
    pub const BUFFER: u16 = 0x34;

    /// Ready for a byte.
    pub const NOT_BUSY: u8 = 0x80;
    /// Low when a byte was taken.
    pub const NOT_ACK: u8 = 0x40;
    /// No paper.
    pub const PAPER_OUT: u8 = 0x20;
    /// On line.
    pub const SELECTED: u8 = 0x10;
    /// Nothing is wrong.
    pub const NO_ERROR: u8 = 0x08;

    /// The byte in [`DATA`] is good: acted upon when it rises.
    pub const STROBE: u8 = 0x01;
    /// Low resets it: what it was doing is lost.
    pub const NOT_INIT: u8 = 0x04;
    /// A line is raised for a byte that was taken by strobe.
    pub const IRQ_ENABLE: u8 = 0x10;

    /// Prints the block.
    pub const PRINT: u32 = 1;
    /// A job of the name in the block begins.
    pub const BEGIN: u32 = 2;
    /// The job is over: what it printed is handed out.
    pub const END: u32 = 3;
    /// Stops what is under way, at once.
    pub const RESET: u32 = 4;

    /// Not at its end yet.
    pub const RUNNING: u32 = 0;
    /// All is on paper.
    pub const GOOD: u32 = 1;
    /// The rest would not fit; it may be tried again from there.
    pub const NO_SPACE: u32 = 2;
    /// What the job printed so far is lost; it must begin anew.
    pub const BROKEN: u32 = 3;

    /// Switched off line.
    pub const OFFLINE: u32 = 1;
    /// Its cover is open.
    pub const COVER: u32 = 2;
    /// Paper is jammed.
    pub const JAM: u32 = 4;
    /// Out of paper.
    pub const OUT: u32 = 8;
    /// The ribbon is worn out.
    pub const WORN: u32 = 0x10;
}
