//! What the driver knows of the tape between two calls, and what reading, writing and closing do
//! to it: the rules of Linux's st (Documentation/scsi/st.rst, st(4)).
//!
//! 1. Records keep their boundaries. A system call that comes in parts (the host hands on about
//!    1 MiB at a time, the further parts at `at` > 0) is one record: written, the first part is a
//!    record at once and each further part makes it longer; read, the rest of the record is kept
//!    for the further parts, and the next call gets the next record.
//! 2. What a write has answered is on the tape: nothing is buffered, but for the piece of a fixed
//!    record at the end of a part.
//! 3. `file` and `block` are where Linux would say that they are, -1 where Linux would not know.

use super::link::{Link, Order, Reply};
use super::mtio;
use crate::contract::{Failure, IoError, Sector};
use crate::sync::Arc;
use crate::tape_manual as manual;

/// The least that the first part of a call in several parts can be: the host takes 256 pages at
/// most at a time, of which the first may be used in part.
pub(super) const PART_BYTES_MIN: usize = (1 << 20) - 4096 + 1;

/// What the last transfer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Nothing,
    Reading,
    Writing,
}

/// What ended the data before the head, in the order in which reads pass on from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// Nothing.
    None,
    /// A mark was passed that no read has told of.
    MarkHit,
    /// The head is behind a mark.
    Mark,
    /// The early warning was met by the last write.
    Warning,
    /// The tape is full.
    Full,
    /// A write was told of the warning; the next may go on.
    Warned,
    /// The end of the data was met, and one read was told of it.
    Data,
    /// All were told: from now on it is an error.
    Past,
}

/// See the head of this file.
pub(super) struct Tape {
    pub(super) link: Arc<Link>,
    /// Lent for transfers, kept for its room.
    pub(super) memory: Vec<u8>,
    /// Length of a fixed record in bytes; 0: records are of any length.
    pub(super) fixed: u32,
    pub(super) density: u8,
    pub(super) drive_buffer: u8,
    pub(super) booleans: u32,
    pub(super) doing: Doing,
    pub(super) end: End,
    pub(super) file: i32,
    pub(super) block: i32,
    /// Bytes of the record that the call under way has written or read so far, and how many it has.
    record: Option<(u64, u64)>,
    /// Fixed records: what was read and not asked for, or written and not a whole record.
    piece: Vec<u8>,
    /// What a read answered whose caller had gone: bytes in `memory`.
    pub(super) kept: Option<usize>,
    /// The sense of the last failure.
    pub(super) failure: Option<Failure>,
}

impl Tape {
    pub(super) fn new(link: Arc<Link>, fixed: u32) -> Tape {
        Tape {
            link,
            memory: Vec::new(),
            fixed,
            density: 0x41, // DLT 8000, 40 Gbytes
            drive_buffer: 1,
            booleans: mtio::DEFAULT_BOOLEANS,
            doing: Doing::Nothing,
            end: End::None,
            file: 0,
            block: 0,
            record: None,
            piece: Vec::new(),
            kept: None,
            failure: None,
        }
    }

    /// Another tape is in the drive, or none.
    pub(super) fn changed(&mut self) {
        let place = if self.is_loaded() { 0 } else { -1 };
        (self.file, self.block) = (place, place);
        (self.doing, self.end, self.record, self.kept) = (Doing::Nothing, End::None, None, None);
        self.piece.clear();
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.link.status() & manual::LOADED != 0
    }

    /// Whether `at` goes on where the record under way stands.
    fn goes_on(&self, at: u64) -> bool {
        at > 0 && self.record.is_some_and(|(done, _)| done == at)
    }

    fn advance(&mut self, blocks: usize) {
        if self.block >= 0 {
            let blocks = i32::try_from(blocks).unwrap_or(i32::MAX);
            self.block = self.block.saturating_add(blocks);
        }
    }

    /// The head is behind a mark that somebody was told of.
    pub(super) fn behind_mark(&mut self) {
        (self.end, self.block) = (End::Mark, 0);
        self.next_file();
    }

    pub(super) fn next_file(&mut self) {
        if self.file >= 0 {
            self.file = self.file.saturating_add(1);
        }
    }

    fn nothing_here() -> IoError {
        IoError::Media(Sector(0))
    }

    /// Notes a failure.
    pub(super) fn failed(&mut self, reply: &Reply) -> IoError {
        let failure = reply.failure();
        self.failure = Some(failure);
        failure.error
    }

    /// Reads into `memory`, `len` bytes at most; says how many.
    pub(super) async fn read(&mut self, at: u64, len: usize) -> Result<usize, IoError> {
        if let Some(kept) = self.kept.take().filter(|_| at == 0) {
            if kept > len && self.fixed == 0 {
                return Err(IoError::RecordTooLong);
            }
            let got = kept.min(len);
            self.piece.splice(..0, self.memory[got..kept].iter().copied());
            return Ok(got);
        }
        if self.doing == Doing::Writing {
            self.flush_blocks(Seek::Back).await?;
        }
        self.doing = Doing::Reading;
        if at == 0 {
            self.failure = None;
        }
        if at > 0 && self.fixed == 0 {
            return self.read_rest(at, len).await;
        }
        self.record = None;
        if self.piece.is_empty() && self.end >= End::Warned {
            return match self.end {
                End::Warned => self.told(End::Data),
                End::Data => self.told(End::Past),
                _ => Err(Tape::nothing_here()),
            };
        }
        let got = match self.fixed {
            0 => self.read_record(len).await?,
            _ => self.read_blocks(len).await?,
        };
        self.passed(at, got);
        Ok(got)
    }

    fn told(&mut self, end: End) -> Result<usize, IoError> {
        self.end = end;
        Ok(0)
    }

    /// A read of `got` bytes is answered: what it told of the end of the data.
    fn passed(&mut self, at: u64, got: usize) {
        match (got, self.end) {
            // A part that gets nothing tells nobody: its call answers the parts before.
            (0, _) if at > 0 => {}
            (0, End::MarkHit) => self.behind_mark(),
            (0, End::Warned) => {
                self.behind_mark();
                self.end = End::Data;
            }
            (0, End::Data) => self.end = End::Past,
            (1.., End::Mark) => self.end = End::None,
            _ => {}
        }
    }

    /// One record of any length.
    async fn read_record(&mut self, len: usize) -> Result<usize, IoError> {
        if self.end == End::MarkHit {
            return Ok(0);
        }
        let reply = self.fetch(0, len, Order::new(manual::READ, 0)).await;
        let got = match () {
            () if reply.has_filemark() => {
                self.end = End::MarkHit;
                0
            }
            () if reply.has_wrong_length() && reply.residual < 0 => {
                self.advance(1);
                if len < PART_BYTES_MIN {
                    self.failure = Some(reply.failure());
                    return Err(IoError::RecordTooLong);
                }
                let total = reply.moved as u64 + reply.residual.unsigned_abs();
                self.record = Some((reply.moved as u64, total));
                return Ok(reply.moved);
            }
            () if reply.is_clear() || reply.has_wrong_length() => {
                self.record = Some((reply.moved as u64, reply.moved as u64));
                reply.moved
            }
            () => return self.unread(&reply),
        };
        self.advance(1);
        Ok(got)
    }

    /// A read failed and got nothing. Behind a mark the end of the data is no error yet.
    fn unread(&mut self, reply: &Reply) -> Result<usize, IoError> {
        self.block = -1;
        if reply.is_blank() && self.end == End::Mark {
            self.end = End::Data;
            return Ok(0);
        }
        Err(self.failed(reply))
    }

    /// A further part of a call that reads a record.
    async fn read_rest(&mut self, at: u64, len: usize) -> Result<usize, IoError> {
        let Some((done, total)) = self.record.filter(|(done, total)| *done == at && done < total)
        else {
            return Ok(0); // the record was read to its end: so is the call
        };
        let from = i64::try_from(done).map_err(|_| IoError::Invalid)?;
        let reply = self.fetch(0, len, Order::new(manual::READ_MORE, from)).await;
        if !reply.is_clear() {
            return Err(self.failed(&reply));
        }
        self.record = Some((done + reply.moved as u64, total));
        Ok(reply.moved)
    }

    /// Has `len` bytes brought to byte `from` of the memory.
    async fn fetch(&mut self, from: usize, len: usize, order: Order) -> Reply {
        let mut memory = std::mem::take(&mut self.memory);
        // No longer either: memory of the caller's length can be exchanged for the caller's.
        memory.resize(from + len, 0);
        let (reply, memory) = self.link.transfer(order, memory, from, len).await;
        self.memory = memory;
        reply
    }

    /// Fixed records: as many as there are, up to a mark.
    async fn read_blocks(&mut self, len: usize) -> Result<usize, IoError> {
        let fixed = usize::try_from(self.fixed).map_err(|_| IoError::Invalid)?;
        let before = self.piece.len();
        if self.memory.len() < before {
            self.memory.resize(before, 0);
        }
        self.memory[..before].copy_from_slice(&self.piece);
        let mut there = before;
        if len > before && self.end != End::MarkHit && self.end < End::Warned {
            let blocks = (len - before).div_ceil(fixed);
            let order = Order { fixed: self.fixed, ..Order::new(manual::READ, 0) };
            let reply = self.fetch(before, blocks * fixed, order).await;
            there += reply.moved;
            self.advance(reply.moved / fixed);
            if reply.has_filemark() {
                self.end = End::MarkHit;
            } else if reply.has_wrong_length() {
                self.back_over_odd(&reply, there).await?;
            } else if !reply.is_clear() && there == 0 {
                return self.unread(&reply);
            } else if !reply.is_clear() && !reply.is_blank() {
                // What came before the bad spot is handed out; the next read meets it again.
                self.back_over_odd(&reply, there).await?;
            }
        }
        let got = there.min(len);
        self.piece.clear();
        self.piece.extend_from_slice(&self.memory[got..there]);
        Ok(got)
    }

    /// The head is behind a record that cannot be handed out: back before it.
    async fn back_over_odd(&mut self, reply: &Reply, there: usize) -> Result<(), IoError> {
        let back = self.link.command(Order::new(manual::SPACE_RECORDS, -1)).await;
        self.end = End::None;
        if there > 0 && back.is_clear() { Ok(()) } else { Err(self.failed(reply)) }
    }

    /// Writes what is in `memory`, of which the first bytes are the piece left by the part before;
    /// says how many bytes of this part were taken.
    pub(super) async fn write(&mut self, at: u64, len: usize) -> Result<usize, IoError> {
        self.kept = None;
        if self.doing == Doing::Reading {
            self.flush_blocks(Seek::Back).await?;
        }
        self.doing = Doing::Writing;
        if at == 0 {
            self.failure = None;
            (self.record, self.end) = (None, self.before_write()?);
        }
        let outcome = match self.fixed {
            0 => self.write_record(at, len).await,
            _ => self.write_blocks(at, len).await,
        };
        if outcome.is_err() {
            self.record = None;
        }
        outcome
    }

    /// Every second write behind the early warning is refused, until the tape is full.
    fn before_write(&mut self) -> Result<End, IoError> {
        match self.end {
            End::Warning => {
                self.end = End::Warned;
                let reply = Reply::early_warning();
                self.failure = Some(Failure { error: IoError::Range, ..reply.failure() });
                Err(IoError::Range)
            }
            End::Full => Err(Tape::nothing_here()),
            end => Ok(end),
        }
    }

    async fn write_record(&mut self, at: u64, len: usize) -> Result<usize, IoError> {
        let is_new = at == 0;
        if !is_new && !self.goes_on(at) {
            return Err(IoError::Invalid);
        }
        let order = Order::new(if is_new { manual::WRITE } else { manual::WRITE_MORE }, 0);
        let reply = self.store(len, order).await;
        self.wrote(&reply)?;
        if is_new {
            self.advance(1);
        }
        self.record = Some((at + len as u64, 0));
        Ok(len)
    }

    /// Has the first `len` bytes of the memory put on the tape.
    async fn store(&mut self, len: usize, order: Order) -> Reply {
        let memory = std::mem::take(&mut self.memory);
        let (reply, memory) = self.link.transfer(order, memory, 0, len).await;
        self.memory = memory;
        reply
    }

    /// What a write ended with, when all of it is on the tape or nothing.
    fn wrote(&mut self, reply: &Reply) -> Result<(), IoError> {
        if reply.is_written() {
            self.end = if reply.is_clear() { End::None } else { End::Warning };
            return Ok(());
        }
        let error = self.failed(reply);
        if reply.is_overflow() {
            self.end = End::Full;
        } else if !matches!(error, IoError::NoSpace | IoError::WriteProtected) {
            self.block = -1;
        }
        Err(error)
    }

    /// Fixed records: all that are whole; the rest waits for the next part.
    async fn write_blocks(&mut self, at: u64, len: usize) -> Result<usize, IoError> {
        let fixed = usize::try_from(self.fixed).map_err(|_| IoError::Invalid)?;
        let before = if at == 0 { 0 } else { self.piece.len() };
        self.piece.clear();
        let there = before + len;
        let odd = there % fixed;
        if odd != 0 && len < PART_BYTES_MIN {
            return Err(IoError::Invalid);
        }
        self.piece.extend_from_slice(&self.memory[there - odd..there]);
        if there > odd {
            let order = Order { fixed: self.fixed, ..Order::new(manual::WRITE, 0) };
            let reply = self.store(there - odd, order).await;
            self.advance(reply.moved / fixed);
            if let Err(why) = self.wrote(&reply) {
                self.piece.clear();
                // What is on the tape counts, less what an earlier part has answered already.
                return match reply.moved.saturating_sub(before) {
                    0 => Err(why),
                    some => Ok(some),
                };
            }
        }
        Ok(len)
    }

    /// Fixed records that were read and not asked for yet, also in part.
    pub(super) fn records_ahead(&self) -> i32 {
        if self.doing != Doing::Reading || self.fixed == 0 {
            return 0;
        }
        let bytes = u32::try_from(self.piece.len()).unwrap_or(u32::MAX);
        i32::try_from(bytes.div_ceil(self.fixed)).unwrap_or(i32::MAX)
    }

    /// The bytes that a further part of a write must be put behind.
    pub(super) fn piece_before(&self, at: u64) -> &[u8] {
        if at > 0 && self.fixed > 0 && self.doing == Doing::Writing { &self.piece } else { &[] }
    }

    /// Fixed records: forgets what was read and not asked for, and puts the head where the caller
    /// believes it to be: before a mark that nobody was told of, or (`Seek::On`) behind it.
    pub(super) async fn flush_blocks(&mut self, seek: Seek) -> Result<(), IoError> {
        let fixed = usize::try_from(self.fixed).unwrap_or(usize::MAX);
        let ahead = if fixed == 0 || self.doing != Doing::Reading { 0 } else { self.piece.len() };
        self.piece.clear();
        let blocks = ahead.checked_div(fixed).unwrap_or(0);
        if self.end == End::MarkHit {
            if seek == Seek::On {
                self.end = End::None;
                self.next_file();
                self.block = 0;
                return Ok(());
            }
            let reply = self.link.command(Order::new(manual::SPACE_MARKS, -1)).await;
            if !reply.is_clear() {
                return Err(self.failed(&reply));
            }
            self.end = End::None;
        }
        if blocks > 0 && seek == Seek::Back {
            let count = i64::try_from(blocks).unwrap_or(i64::MAX);
            let reply = self.link.command(Order::new(manual::SPACE_RECORDS, -count)).await;
            if !reply.is_clear() {
                return Err(self.failed(&reply));
            }
            self.block = self.block.saturating_sub(i32::try_from(blocks).unwrap_or(i32::MAX));
        }
        Ok(())
    }

    /// The last close: a mark behind what was written, and the tape where the next opener of this
    /// minor expects it.
    pub(super) async fn close(&mut self, rewinds: bool) -> Result<(), IoError> {
        let mut done = Ok(());
        if self.is_loaded() {
            done = self.finish_file(rewinds).await;
            if rewinds {
                let reply = self.link.command(Order::new(manual::REWIND, 0)).await;
                if reply.is_clear() {
                    (self.file, self.block, self.end) = (0, 0, End::None);
                } else if done.is_ok() {
                    done = Err(self.failed(&reply));
                }
            }
        }
        (self.doing, self.record, self.kept) = (Doing::Nothing, None, None);
        self.piece.clear();
        done
    }

    async fn finish_file(&mut self, rewinds: bool) -> Result<(), IoError> {
        if self.doing == Doing::Writing {
            let marks = if self.booleans & mtio::TWO_FM == 0 { 1 } else { 2 };
            let reply = self.link.command(Order::new(manual::MARKS, marks)).await;
            if !reply.is_written() {
                return Err(self.failed(&reply));
            }
            if marks > 1 {
                self.link.command(Order::new(manual::SPACE_MARKS, -1)).await;
            }
            self.behind_mark();
            return Ok(());
        }
        if rewinds {
            return Ok(());
        }
        if self.booleans & mtio::SYSV == 0 || self.doing != Doing::Reading {
            return self.flush_blocks(Seek::Back).await;
        }
        // System V: the next reader gets the next file.
        if self.end == End::None {
            let reply = self.link.command(Order::new(manual::SPACE_MARKS, 1)).await;
            if !reply.is_clear() {
                return Err(self.failed(&reply));
            }
            self.behind_mark();
        } else if self.end == End::MarkHit {
            self.behind_mark();
        }
        Ok(())
    }
}

/// Where to when what was read ahead is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seek {
    /// Where the caller believes the head to be.
    Back,
    /// On: the next motion is from here.
    On,
}
