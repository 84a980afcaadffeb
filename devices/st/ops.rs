//! The commands of a tape: `MTIOCTOP` with its operations, and what `MTIOCGET` tells.
//!
//! Counts, errors and the place told afterwards are those of Linux's st: a motion that meets
//! something before its count is used up is EIO, and the place is where it stopped.

use super::link::{Order, Reply};
use super::mtio::{self, MtGet, MtOp};
use super::tape::{Doing, End, Seek, Tape};
use crate::contract::IoError;
use crate::tape_manual as manual;

/// More files than fit on any tape.
const FILES_MAX: i32 = 0x7f_ffff;

/// What bounds the length of a fixed record, in bytes.
const FIXED_BYTES_MAX: u32 = 0xff_ffff;

impl Tape {
    /// One `MTIOCTOP`.
    pub(super) async fn operate(&mut self, op: MtOp, count: i32) -> Result<(), IoError> {
        self.failure = None;
        self.kept = None;
        let (op, mut count) = forward(op, count)?;
        if op == MtOp::Reset {
            self.link.control(manual::RESET);
            return Ok(());
        }
        let spaces = matches!(op, MtOp::Fsr | MtOp::Bsr | MtOp::Fsf | MtOp::Bsf)
            || matches!(op, MtOp::Fsfm | MtOp::Bsfm);
        if spaces && count == 0 {
            return Ok(());
        }
        let files = matches!(op, MtOp::Fsf | MtOp::Fsfm | MtOp::Eom | MtOp::Bsf | MtOp::Bsfm);
        if self.end == End::MarkHit && files {
            let one = if matches!(op, MtOp::Bsf | MtOp::Bsfm) { 1 } else { -1 };
            count = count.saturating_add(one);
            self.next_file();
        }
        if self.is_loaded() {
            let is_on = files
                || matches!(
                    op,
                    MtOp::Rew | MtOp::Offl | MtOp::Reten | MtOp::Lock | MtOp::Load | MtOp::Seek
                );
            self.leave(if is_on { Seek::On } else { Seek::Back }, files).await?;
            count = count.saturating_add(self.mark_before(op).await?);
        }
        let keeps_doing = [MtOp::Nop, MtOp::SetBlk, MtOp::SetDensity, MtOp::SetDrvBuffer];
        if !keeps_doing.contains(&op) && op != MtOp::Tell {
            self.doing = Doing::Nothing;
        }
        match op {
            MtOp::SetDrvBuffer => self.set_options(count),
            MtOp::Seek => self.seek(count).await,
            MtOp::Offl | MtOp::Unload => {
                self.simple(manual::LOCK, 0).await?;
                self.exchange(manual::UNLOAD).await
            }
            MtOp::Load => self.exchange(manual::LOAD).await,
            MtOp::Lock => self.simple(manual::LOCK, 1).await,
            MtOp::Unlock => self.simple(manual::LOCK, 0).await,
            MtOp::Compression => match count & 1 {
                0 => Ok(()),
                _ => Err(IoError::Invalid), // it has none
            },
            _ => self.motion(op, count).await,
        }
    }

    /// Forgets what was read ahead. A mark that was passed unseen has been counted by the caller
    /// where the operation counts files.
    async fn leave(&mut self, seek: Seek, is_counted: bool) -> Result<(), IoError> {
        let before = self.file;
        self.flush_blocks(seek).await?;
        if is_counted && seek == Seek::On {
            self.file = before;
        }
        Ok(())
    }

    /// What was written gets its mark before the tape is moved away from it. Says by how much the
    /// count of a motion back grows.
    async fn mark_before(&mut self, op: MtOp) -> Result<i32, IoError> {
        let leaves = [MtOp::Rew, MtOp::Offl, MtOp::Unload, MtOp::Seek, MtOp::Bsf, MtOp::Bsfm];
        if self.doing != Doing::Writing || !leaves.contains(&op) {
            return Ok(0);
        }
        self.motion(MtOp::Weof, 1).await?;
        self.doing = Doing::Nothing;
        Ok(i32::from(matches!(op, MtOp::Bsf | MtOp::Bsfm)))
    }

    async fn simple(&mut self, opcode: u8, count: i64) -> Result<(), IoError> {
        let reply = self.link.command(Order::new(opcode, count)).await;
        if reply.is_clear() { Ok(()) } else { Err(self.failed(&reply)) }
    }

    /// Loads or unloads.
    async fn exchange(&mut self, opcode: u8) -> Result<(), IoError> {
        let done = self.simple(opcode, 0).await;
        self.changed();
        done
    }

    async fn seek(&mut self, count: i32) -> Result<(), IoError> {
        let done = self.simple(manual::LOCATE, i64::from(count)).await;
        let place = if done.is_ok() && count == 0 { 0 } else { -1 };
        (self.file, self.block, self.end) = (place, place, End::None);
        done
    }

    fn set_options(&mut self, count: i32) -> Result<(), IoError> {
        let word = u32::from_le_bytes(count.to_le_bytes());
        let value = word & !mtio::OPTIONS;
        let booleans = match word & mtio::OPTIONS {
            0 => {
                self.drive_buffer = word.to_le_bytes()[0] & 7;
                return Ok(());
            }
            mtio::BOOLEANS => value,
            mtio::SET_BOOLEANS => self.booleans | value,
            mtio::CLEAR_BOOLEANS => self.booleans & !value,
            // Nothing is buffered, and the time a command may take is the drive's.
            mtio::WRITE_THRESHOLD | mtio::TIMEOUTS => return Ok(()),
            _ => return Err(IoError::Invalid),
        };
        if booleans & mtio::CAN_PARTITIONS != 0 {
            return Err(IoError::Invalid);
        }
        self.booleans = booleans;
        Ok(())
    }

    /// An operation that is one motion, or two.
    async fn motion(&mut self, op: MtOp, count: i32) -> Result<(), IoError> {
        match op {
            MtOp::Fsf => self.space_files(count).await,
            MtOp::Bsf => self.space_files_back(count).await,
            // On, and back before the mark; or back, and on behind it.
            MtOp::Fsfm => {
                self.space_files(count).await?;
                self.space_files_back(1).await
            }
            MtOp::Bsfm => {
                self.space_files_back(count).await?;
                self.space_files(1).await
            }
            MtOp::Fsr => self.space_records(count).await,
            MtOp::Bsr => self.space_records_back(count).await,
            MtOp::Weof | MtOp::Weofi => self.write_marks(op, count).await,
            MtOp::Rew => self.wind_back(&[manual::REWIND]).await,
            MtOp::Reten => self.wind_back(&[manual::SPACE_END, manual::REWIND]).await,
            MtOp::Erase => self.wind_back(&[manual::ERASE, manual::REWIND]).await,
            MtOp::Eom => self.wind_on().await,
            MtOp::SetBlk => {
                let bytes = u32::try_from(count).ok().filter(|bytes| *bytes <= FIXED_BYTES_MAX);
                self.fixed = bytes.ok_or(IoError::Invalid)?;
                Ok(())
            }
            MtOp::SetDensity => {
                self.density = u8::try_from(count).map_err(|_| IoError::Invalid)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What a motion left undone.
    fn undone(reply: &Reply) -> i32 {
        i32::try_from(reply.residual).unwrap_or(i32::MAX)
    }

    fn file_after(&self, files: i32) -> i32 {
        if self.file >= 0 { self.file.saturating_add(files) } else { self.file }
    }

    async fn space_files(&mut self, count: i32) -> Result<(), IoError> {
        let reply = self.link.command(Order::new(manual::SPACE_MARKS, i64::from(count))).await;
        if reply.is_clear() {
            (self.file, self.block, self.end) = (self.file_after(count), 0, End::Mark);
            return Ok(());
        }
        (self.file, self.block) = (self.file_after(count - Tape::undone(&reply)), -1);
        self.end = if reply.is_blank() { End::Past } else { End::None };
        Err(self.failed(&reply))
    }

    async fn space_files_back(&mut self, count: i32) -> Result<(), IoError> {
        let reply = self.link.command(Order::new(manual::SPACE_MARKS, -i64::from(count))).await;
        self.end = End::None;
        if reply.is_clear() {
            (self.file, self.block) = (self.file_after(-count), -1);
            return Ok(());
        }
        (self.file, self.block) = (self.file_after(Tape::undone(&reply) - count), 0);
        Err(self.failed(&reply))
    }

    async fn space_records(&mut self, count: i32) -> Result<(), IoError> {
        let reply = self.link.command(Order::new(manual::SPACE_RECORDS, i64::from(count))).await;
        let done = count - if reply.is_clear() { 0 } else { Tape::undone(&reply) };
        if self.block >= 0 {
            self.block = self.block.saturating_add(done);
        }
        self.end = End::None;
        if reply.is_clear() {
            return Ok(());
        }
        if reply.has_filemark() {
            self.behind_mark();
        } else if reply.is_blank() {
            self.end = End::Past;
        }
        Err(self.failed(&reply))
    }

    async fn space_records_back(&mut self, count: i32) -> Result<(), IoError> {
        let reply = self.link.command(Order::new(manual::SPACE_RECORDS, -i64::from(count))).await;
        let done = count - if reply.is_clear() { 0 } else { Tape::undone(&reply) };
        self.end = End::None;
        if self.block >= 0 {
            self.block = (self.block - done).max(-1);
        }
        if reply.is_clear() {
            return Ok(());
        }
        if reply.has_filemark() {
            (self.file, self.block) = (self.file_after(-1), -1);
        } else if reply.has_end_of_tape() {
            self.block = 0;
        }
        Err(self.failed(&reply))
    }

    async fn write_marks(&mut self, op: MtOp, count: i32) -> Result<(), IoError> {
        let reply = self.link.command(Order::new(manual::MARKS, i64::from(count))).await;
        if !reply.is_written() {
            if reply.is_overflow() {
                self.file = self.file_after(count - Tape::undone(&reply));
                self.end = End::Full;
            }
            return Err(self.failed(&reply));
        }
        self.doing = Doing::Nothing; // closing writes no further mark
        (self.file, self.block, self.end) = (self.file_after(count), 0, End::None);
        if op == MtOp::Weof {
            // Not the immediate kind: what is before the marks is kept by the host too.
            return self.simple(manual::FLUSH, 0).await;
        }
        Ok(())
    }

    async fn wind_back(&mut self, opcodes: &[u8]) -> Result<(), IoError> {
        for opcode in opcodes {
            self.simple(*opcode, 0).await?;
        }
        (self.file, self.block, self.end) = (0, 0, End::None);
        Ok(())
    }

    async fn wind_on(&mut self) -> Result<(), IoError> {
        if self.booleans & mtio::FAST_MTEOM == 0 {
            // File by file, so that the number of the last is known.
            let done = self.space_files(FILES_MAX).await;
            if self.end == End::Past {
                self.failure = None;
                return Ok(());
            }
            return done;
        }
        let done = self.simple(manual::SPACE_END, 0).await;
        (self.file, self.block, self.end) = (-1, -1, End::Past);
        done
    }

    /// What `MTIOCGET` tells.
    pub(super) fn told_status(&self) -> MtGet {
        let bit = |holds: bool, bit: u64| if holds { bit } else { 0 };
        let is_loaded = self.is_loaded();
        let is_protected = self.link.status() & manual::WRITE_PROTECTED != 0;
        let at_start = self.block == 0 && self.file == 0;
        let gstat = bit(is_protected, mtio::GMT_WR_PROT)
            | bit(at_start, mtio::GMT_BOT)
            | bit(self.block == 0 && !at_start, mtio::GMT_EOF)
            | bit(matches!(self.end, End::Warning | End::Full), mtio::GMT_EOT)
            | bit(self.end >= End::Warned, mtio::GMT_EOD)
            | bit(is_loaded, mtio::GMT_ONLINE)
            | bit(!is_loaded, mtio::GMT_DR_OPEN)
            | bit(self.drive_buffer != 0, mtio::GMT_IM_REP_EN);
        let dsreg = u64::from(self.density) << 24 | u64::from(self.fixed);
        let ahead = self.records_ahead();
        MtGet { dsreg, gstat, fileno: self.file, blkno: self.block - ahead }
    }

    /// Makes what was written durable.
    pub(super) async fn sync(&mut self) -> Result<(), IoError> {
        if self.is_loaded() { self.simple(manual::FLUSH, 0).await } else { Ok(()) }
    }
}

/// A count below 0 means the other way.
fn forward(op: MtOp, count: i32) -> Result<(MtOp, i32), IoError> {
    let turned = match op {
        _ if count >= 0 => return Ok((op, count)),
        MtOp::Fsf => MtOp::Bsf,
        MtOp::Bsf => MtOp::Fsf,
        MtOp::Fsr => MtOp::Bsr,
        MtOp::Bsr => MtOp::Fsr,
        MtOp::SetDrvBuffer => return Ok((op, count)), // bits, not a number
        MtOp::Fsfm | MtOp::Bsfm | MtOp::Weof | MtOp::Weofi | MtOp::Seek | MtOp::SetBlk => {
            return Err(IoError::Invalid);
        }
        _ => return Ok((op, count)),
    };
    Ok((turned, count.checked_neg().ok_or(IoError::Invalid)?))
}
