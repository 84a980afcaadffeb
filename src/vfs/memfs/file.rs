//! An open regular file in memory.
//!
//! The host's page cache stands before it, so that it can be mapped; but not across opens, as
//! programs within the daemon write such files too.

use super::inode::{Body, Inode};
use super::pages::Pages;
use crate::error::{Errno, Error};
use crate::file::{Answer, Call, FileOps, Nature, Seek};
use crate::sync::{Arc, RwLock};

/// `FALLOC_FL_KEEP_SIZE` of fallocate(2).
const KEEP_SIZE: i32 = 0x01;
/// `FALLOC_FL_PUNCH_HOLE`.
const PUNCH_HOLE: i32 = 0x02;
/// `FALLOC_FL_ZERO_RANGE`.
const ZERO_RANGE: i32 = 0x10;

/// See the head of this file.
pub(super) struct MemFile {
    inode: Arc<Inode>,
}

impl MemFile {
    pub(super) fn new(inode: Arc<Inode>) -> MemFile {
        MemFile { inode }
    }

    fn pages(&self) -> Result<&RwLock<Pages>, Error> {
        match &self.inode.body {
            Body::Regular(pages) => Ok(pages),
            _ => Err(Error::plain(Errno::EBADF)),
        }
    }
}

impl FileOps for MemFile {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn nature(&self) -> Nature {
        Nature::default()
    }

    fn read(
        &self,
        _call: &Call,
        at: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Answer<usize, Vec<u8>>, Error> {
        let got = self.pages()?.read().read(at, buf);
        self.inode.was_read();
        Ok(Answer::Now(got))
    }

    fn write(&self, call: &Call, at: u64, data: &[u8]) -> Result<Answer<usize>, Error> {
        let stored = self.pages()?.write().write(at, data)?;
        if stored > 0 {
            self.inode.written(&call.caller);
        }
        Ok(Answer::Now(stored))
    }

    fn allocate(&self, call: &Call, mode: i32, at: u64, len: u64) -> Result<Answer<()>, Error> {
        let end = at.checked_add(len).ok_or_else(|| Error::plain(Errno::EFBIG))?;
        if len == 0 {
            return Err(Error::plain(Errno::EINVAL));
        }
        {
            let mut pages = self.pages()?.write();
            match mode & !KEEP_SIZE {
                0 => pages.allocate(at, len)?,
                PUNCH_HOLE if mode & KEEP_SIZE != 0 => pages.punch(at, len),
                ZERO_RANGE => pages.punch(at, len),
                _ => return Err(Error::plain(Errno::EOPNOTSUPP)),
            }
            if mode & KEEP_SIZE == 0 && end > pages.length() {
                pages.set_length(end)?;
            }
        }
        self.inode.written(&call.caller);
        Ok(Answer::Now(()))
    }

    fn seek(&self, at: u64, which: Seek) -> Result<u64, Error> {
        let pages = self.pages()?.read();
        let found = match which {
            _ if at >= pages.length() => None,
            Seek::Data => pages.data_from(at),
            Seek::Hole => Some(pages.hole_from(at)),
        };
        found.ok_or_else(|| Error::plain(Errno::ENXIO))
    }
}
