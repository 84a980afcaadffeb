//! The transport of a tape drive: a slot, a cartridge, and what each command does to the tape.
//!
//! It answers at once; time, registers and faults are the controller's. Outcomes follow SCSI (SSC):
//! a command that meets a mark stops behind it in the direction of travel; data that end are a
//! blank check; near its end the tape still takes what is written, and says so; what does not fit
//! is a volume overflow, and is not on the tape at all.

use super::drive::{INVALID_FIELD, INVALID_OPCODE};
use crate::contract::{IoError, Sector, Sense};
use crate::medium::{Item, Tap, TapOptions};
use crate::tape_manual as manual;
use crate::tape_timing::Motion;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Part of the tape behind the early warning, and how much that is at most, in bytes.
const WARNING_PART: u64 = 16;
const WARNING_BYTES_MAX: u64 = 4 << 20;

/// A command, as fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) opcode: u8,
    pub(super) flags: u8,
    /// Length of records, in bytes, where it is fixed.
    pub(super) fixed: Option<u32>,
    pub(super) count: i64,
    pub(super) tag: u32,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) sense: Sense,
    pub(super) flags: u8,
    pub(super) residual: i64,
    /// Bytes to or from memory.
    pub(super) moved: u64,
}

enum Cartridge {
    File(PathBuf, TapOptions),
    /// A tape in memory, while it is not threaded.
    Memory(Option<Tap>),
}

/// See the head of this file.
pub(super) struct Transport {
    cartridge: Option<Cartridge>,
    tap: Option<Tap>,
    is_locked: bool,
    state_dir: Option<PathBuf>,
    /// What a cartridge put in later is like.
    options: TapOptions,
    /// Spots gone bad by a fault: records by their number. They can be neither read nor written.
    bad: BTreeSet<u64>,
}

const fn sense(key: u8, asc: u8, ascq: u8) -> Sense {
    Sense { key, asc, ascq, info: None }
}

const FILEMARK: Sense = sense(manual::NO_SENSE, 0x00, 0x01);
const END_OF_MEDIUM: Sense = sense(manual::NO_SENSE, 0x00, 0x02);
const BEGINNING: Sense = sense(manual::NO_SENSE, 0x00, 0x04);
const END_OF_DATA: Sense = sense(manual::BLANK_CHECK, 0x00, 0x05);
const OVERFLOW: Sense = sense(manual::VOLUME_OVERFLOW, 0x00, 0x02);
const NOT_PRESENT: Sense = sense(2, 0x3a, 0x00);
const NOT_LOADED: Sense = sense(2, 0x04, 0x02);
const REMOVAL_PREVENTED: Sense = sense(5, 0x53, 0x02);
const READ_ERROR: Sense = sense(3, 0x11, 0x00);
const WRITE_ERROR: Sense = sense(3, 0x0c, 0x00);

impl From<Sense> for Outcome {
    fn from(sense: Sense) -> Outcome {
        Outcome { sense, ..Outcome::default() }
    }
}

impl Outcome {
    fn of(sense: Sense, flags: u8, residual: i64) -> Outcome {
        Outcome { sense, flags, residual, moved: 0 }
    }

    fn moving(self, bytes: usize) -> Outcome {
        Outcome { moved: bytes as u64, ..self }
    }
}

/// A length as the residual register counts it.
fn signed(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

/// What the tape could not do, from record `block` on.
fn refused(why: IoError, block: u64) -> Sense {
    match why {
        IoError::Range => OVERFLOW,
        IoError::Media(_) => Sense { info: Some(block), ..READ_ERROR },
        why => why.sense(),
    }
}

impl Transport {
    /// A drive with a cartridge in it: a file, or without one a tape in memory.
    ///
    /// # Errors
    /// In words, where the file cannot be used.
    pub(super) fn new(
        file: Option<&Path>,
        options: TapOptions,
        state_dir: Option<PathBuf>,
    ) -> Result<Transport, String> {
        let (cartridge, tap) = match file {
            Some(file) => {
                let tap = Tap::open(file, options)?;
                (Cartridge::File(file.into(), options), tap)
            }
            None => (Cartridge::Memory(None), Tap::in_memory(options.size_bytes)),
        };
        let options = TapOptions { read_only: false, ..options };
        let (cartridge, tap) = (Some(cartridge), Some(tap));
        let bad = BTreeSet::new();
        Ok(Transport { cartridge, tap, is_locked: false, state_dir, options, bad })
    }

    /// Its part of the status register.
    pub(super) fn status(&self) -> u32 {
        let bit = |holds: bool, bit: u32| if holds { bit } else { 0 };
        let is_protected = self.tap.as_ref().is_some_and(Tap::is_read_only);
        bit(is_protected, manual::WRITE_PROTECTED)
            | bit(self.tap.is_some(), manual::LOADED)
            | bit(self.is_locked, manual::LOCKED)
            | bit(self.cartridge.is_some(), manual::PRESENT)
    }

    /// Records and marks before the head.
    pub(super) fn block(&self) -> u64 {
        self.tap.as_ref().map_or(0, Tap::block)
    }

    /// Byte of the tape at which the head stands.
    pub(super) fn byte(&self) -> u64 {
        self.tap.as_ref().map_or(0, Tap::byte)
    }

    /// How much the tape holds, in bytes.
    pub(super) fn size_bytes(&self) -> u64 {
        self.tap.as_ref().map_or(0, Tap::size_bytes)
    }

    /// The record of that number goes bad.
    pub(super) fn mark_bad(&mut self, block: u64) {
        self.bad.insert(block);
    }

    /// A record is passed that a fault has spoiled.
    pub(super) fn pass(&mut self, order: &Order) {
        if order.opcode == manual::READ
            && let Some(tap) = &mut self.tap
        {
            let _ = tap.forward(); // what it says is of no account: the command fails anyway
        }
    }

    /// What was broken by a fault is mended.
    pub(super) fn repair(&mut self) {
        self.bad.clear();
    }

    /// What the tape moved for a command that began at byte `from`.
    pub(super) fn motion(&self, order: &Order, from: u64) -> Option<Motion> {
        let to = self.byte();
        match order.opcode {
            manual::READ | manual::WRITE | manual::WRITE_MORE | manual::MARKS => {
                Some(Motion::Stream { from, to })
            }
            manual::ERASE => Some(Motion::Stream { from, to: self.size_bytes().max(from) }),
            manual::SPACE_RECORDS
            | manual::SPACE_MARKS
            | manual::SPACE_END
            | manual::LOCATE
            | manual::REWIND => Some(Motion::Search { from, to }),
            manual::LOAD | manual::INSERT if self.tap.is_some() => Some(Motion::Load),
            manual::UNLOAD => Some(Motion::Unload { from }),
            _ => None,
        }
    }

    /// Does what is ordered.
    pub(super) fn run(&mut self, order: &Order, memory: &mut [u8]) -> Outcome {
        match order.opcode {
            manual::LOAD => return self.load(),
            manual::UNLOAD => return self.unload(),
            manual::LOCK => {
                self.is_locked = order.count != 0;
                return Outcome::default();
            }
            manual::INSERT => return self.insert(order, memory),
            manual::REMOVE => return self.remove(),
            _ => {}
        }
        let Some(tap) = &mut self.tap else {
            let is_present = self.cartridge.is_some();
            return if is_present { NOT_LOADED } else { NOT_PRESENT }.into();
        };
        let block = tap.block();
        let outcome = match order.opcode {
            manual::READ => match order.fixed {
                None => read(tap, &self.bad, memory),
                Some(bytes) => read_fixed(tap, &self.bad, bytes, memory),
            },
            manual::READ_MORE => read_more(tap, order.count, memory),
            manual::WRITE | manual::WRITE_MORE | manual::MARKS => {
                write(tap, &self.bad, order, memory)
            }
            manual::SPACE_RECORDS => space_records(tap, order.count),
            manual::SPACE_MARKS => space_marks(tap, order.count),
            manual::SPACE_END => {
                tap.to_end();
                Ok(Outcome::default())
            }
            manual::LOCATE => locate(tap, order.count),
            manual::REWIND => {
                tap.rewind();
                Ok(Outcome::default())
            }
            manual::ERASE => tap.erase().map(|()| Outcome::default()),
            manual::FLUSH => tap.trim().and_then(|()| tap.flush()).map(|()| Outcome::default()),
            _ => Ok(INVALID_OPCODE.into()),
        };
        outcome.unwrap_or_else(|why| refused(why, block).into())
    }

    fn load(&mut self) -> Outcome {
        if let Some(tap) = &mut self.tap {
            tap.rewind();
            return Outcome::default();
        }
        self.tap = match &mut self.cartridge {
            None => return NOT_PRESENT.into(),
            Some(Cartridge::Memory(tap)) => tap.take(),
            Some(Cartridge::File(path, options)) => match Tap::open(path, *options) {
                Ok(tap) => Some(tap),
                Err(why) => {
                    log::warn!(target: "chip", "{why}");
                    return sense(3, 0x53, 0x00).into(); // media load failed
                }
            },
        };
        Outcome::default()
    }

    /// Unthreads; what was written is kept by the host first.
    fn unload(&mut self) -> Outcome {
        let Some(mut tap) = self.tap.take() else { return Outcome::default() };
        let kept = tap.trim().and_then(|()| tap.flush());
        let block = tap.block();
        if let Some(Cartridge::Memory(place)) = &mut self.cartridge {
            tap.rewind();
            *place = Some(tap);
        }
        kept.map_or_else(|why| refused(why, block).into(), |()| Outcome::default())
    }

    /// Puts the named cartridge in and threads it; on refusal the old one stays.
    fn insert(&mut self, order: &Order, memory: &mut [u8]) -> Outcome {
        let name = memory.split(|byte| *byte == 0).next().unwrap_or_default();
        let words = match std::str::from_utf8(name) {
            _ if self.is_locked => "the door is locked".to_string(),
            Err(_) => "a file name that is no text".into(),
            Ok(name) => {
                let place = self.state_dir.as_deref().unwrap_or(Path::new("")).join(name);
                let read_only = order.flags & manual::PROTECT != 0;
                let options = TapOptions { read_only, ..self.options };
                // The same file again: let it go first.
                let is_same =
                    matches!(&self.cartridge, Some(Cartridge::File(old, _)) if *old == place);
                if is_same {
                    self.unload();
                }
                match Tap::open(&place, options) {
                    Ok(tap) => {
                        self.unload();
                        self.cartridge = Some(Cartridge::File(place, options));
                        self.tap = Some(tap);
                        self.bad.clear();
                        return Outcome::default();
                    }
                    Err(why) => {
                        if is_same {
                            self.load();
                        }
                        why
                    }
                }
            }
        };
        let len = words.len().min(memory.len());
        memory[..len].copy_from_slice(&words.as_bytes()[..len]);
        Outcome::from(sense(3, 0x53, 0x00)).moving(len)
    }

    fn remove(&mut self) -> Outcome {
        if self.is_locked {
            return REMOVAL_PREVENTED.into();
        }
        if self.cartridge.is_none() {
            return NOT_PRESENT.into();
        }
        let outcome = self.unload();
        self.cartridge = None;
        self.bad.clear();
        outcome
    }
}

fn blank(residual: i64) -> Outcome {
    Outcome::of(END_OF_DATA, 0, residual)
}

/// One record of any length.
fn read(tap: &mut Tap, bad: &BTreeSet<u64>, memory: &mut [u8]) -> Result<Outcome, IoError> {
    let (asked, block) = (signed(memory.len()), tap.block());
    let (bytes, is_bad) = match tap.read(memory)? {
        None => return Ok(blank(asked)),
        Some(Item::Mark) => return Ok(Outcome::of(FILEMARK, manual::FILEMARK, asked)),
        Some(Item::Record { bytes, is_bad }) => (bytes, is_bad),
    };
    let residual = asked - i64::from(bytes);
    let moved = memory.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
    if is_bad || bad.contains(&block) {
        let sense = Sense { info: Some(block), ..READ_ERROR };
        return Ok(Outcome::of(sense, 0, asked).moving(moved));
    }
    let flags = if residual == 0 { 0 } else { manual::WRONG_LENGTH };
    Ok(Outcome::of(Sense::default(), flags, residual).moving(moved))
}

/// As many records of `bytes` bytes as fit.
fn read_fixed(
    tap: &mut Tap,
    bad: &BTreeSet<u64>,
    bytes: u32,
    memory: &mut [u8],
) -> Result<Outcome, IoError> {
    let len = usize::try_from(bytes).map_err(|_| IoError::Invalid)?;
    if len == 0 || !memory.len().is_multiple_of(len) {
        return Ok(INVALID_FIELD.into());
    }
    let (mut left, mut moved) = (signed(memory.len() / len), 0);
    for room in memory.chunks_exact_mut(len) {
        let block = tap.block();
        let outcome = match tap.read(room)? {
            None => blank(left),
            Some(Item::Mark) => Outcome::of(FILEMARK, manual::FILEMARK, left),
            Some(Item::Record { is_bad, .. }) if is_bad || bad.contains(&block) => {
                Outcome::of(Sense { info: Some(block), ..READ_ERROR }, 0, left)
            }
            Some(Item::Record { bytes: found, .. }) if found != bytes => {
                Outcome::of(Sense::default(), manual::WRONG_LENGTH, left)
            }
            Some(Item::Record { .. }) => {
                (left, moved) = (left - 1, moved + len);
                continue;
            }
        };
        return Ok(outcome.moving(moved));
    }
    Ok(Outcome::default().moving(moved))
}

fn read_more(tap: &mut Tap, from: i64, memory: &mut [u8]) -> Result<Outcome, IoError> {
    let from = u64::try_from(from).map_err(|_| IoError::Invalid)?;
    let moved = tap.read_more(from, memory)?;
    Ok(Outcome::default().moving(moved))
}

/// Records, the rest of a record, or marks.
fn write(
    tap: &mut Tap,
    bad: &BTreeSet<u64>,
    order: &Order,
    memory: &[u8],
) -> Result<Outcome, IoError> {
    let (done, left, moved) = match order.opcode {
        manual::MARKS => {
            let count = u64::try_from(order.count).map_err(|_| IoError::Invalid)?;
            let (done, left) = write_marks(tap, count);
            (done, i64::try_from(left).unwrap_or(i64::MAX), 0)
        }
        manual::WRITE_MORE => match tap.extend(memory) {
            Ok(()) => (Ok(()), 0, memory.len()),
            refusal => (refusal, signed(memory.len()), 0),
        },
        _ => {
            let fixed = order.fixed.and_then(|fixed| usize::try_from(fixed).ok());
            let len = fixed.unwrap_or(memory.len());
            if len == 0 || !memory.len().is_multiple_of(len) {
                return Ok(INVALID_FIELD.into());
            }
            let (done, moved) = write_records(tap, bad, len, memory);
            // What is left undone is counted in records where they are fixed, else in bytes.
            let unit = if fixed.is_some() { len } else { 1 };
            (done, signed((memory.len() - moved) / unit), moved)
        }
    };
    let outcome = match done {
        Err(IoError::Range) => Outcome::of(OVERFLOW, manual::END_OF_TAPE, left),
        Err(IoError::Media(_)) => {
            let sense = Sense { info: Some(tap.block()), ..WRITE_ERROR };
            Outcome::of(sense, 0, left)
        }
        Err(why) => Outcome::of(why.sense(), 0, left),
        Ok(()) if is_near_end(tap) => Outcome::of(END_OF_MEDIUM, manual::END_OF_TAPE, 0),
        Ok(()) => Outcome::default(),
    };
    Ok(outcome.moving(moved))
}

/// Marks; and how many it did not come to.
fn write_marks(tap: &mut Tap, count: u64) -> (Result<(), IoError>, u64) {
    let mut left = count;
    while left > 0 {
        match tap.mark(left) {
            Ok(some) => left -= some,
            Err(why) => return (Err(why), left),
        }
    }
    // A file is complete: what was recorded here before need not be kept any longer.
    (tap.trim(), 0)
}

/// Records of `len` bytes each, and how many bytes of them are on the tape.
fn write_records(
    tap: &mut Tap,
    bad: &BTreeSet<u64>,
    len: usize,
    memory: &[u8],
) -> (Result<(), IoError>, usize) {
    let mut moved = 0;
    for record in memory.chunks_exact(len) {
        let block = tap.block();
        let done = match bad.contains(&block) {
            true => Err(IoError::Media(Sector(block))),
            false => tap.write(record),
        };
        if done.is_err() {
            return (done, moved);
        }
        moved += len;
    }
    (Ok(()), moved)
}

/// Whether the head is behind the early warning.
fn is_near_end(tap: &Tap) -> bool {
    let size = tap.size_bytes();
    tap.byte() >= size - (size / WARNING_PART).min(WARNING_BYTES_MAX)
}

fn space_records(tap: &mut Tap, count: i64) -> Result<Outcome, IoError> {
    let left = |done: u64| i64::try_from(count.unsigned_abs() - done).unwrap_or(i64::MAX);
    for done in 0..count.unsigned_abs() {
        let item = if count > 0 { tap.forward()? } else { tap.backward()? };
        match item {
            Some(Item::Record { .. }) => {}
            Some(Item::Mark) => return Ok(Outcome::of(FILEMARK, manual::FILEMARK, left(done))),
            None if count > 0 => return Ok(blank(left(done))),
            None => return Ok(Outcome::of(BEGINNING, manual::END_OF_TAPE, left(done))),
        }
    }
    Ok(Outcome::default())
}

fn space_marks(tap: &mut Tap, count: i64) -> Result<Outcome, IoError> {
    let mut left = count.unsigned_abs();
    while left > 0 {
        let residual = i64::try_from(left).unwrap_or(i64::MAX);
        let item = if count > 0 { tap.forward()? } else { tap.backward()? };
        match item {
            Some(Item::Record { .. }) => {}
            Some(Item::Mark) => left -= 1,
            None if count > 0 => return Ok(blank(residual)),
            None => return Ok(Outcome::of(BEGINNING, manual::END_OF_TAPE, residual)),
        }
    }
    Ok(Outcome::default())
}

fn locate(tap: &mut Tap, count: i64) -> Result<Outcome, IoError> {
    let target = u64::try_from(count).map_err(|_| IoError::Invalid)?;
    if target < tap.block() / 2 {
        tap.rewind();
    }
    while tap.block() > target {
        tap.backward()?;
    }
    while tap.block() < target {
        if tap.forward()?.is_none() {
            return Ok(blank(0));
        }
    }
    Ok(Outcome::default())
}
