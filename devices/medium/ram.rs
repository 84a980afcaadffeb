//! A medium in memory, sparse by pages: what was never written, or was discarded, takes no room.

use super::{Medium, Run};
use crate::contract::IoError;
use crate::sync::RwLock;
use std::collections::BTreeMap;

const PAGE: usize = 4096;
const PAGE_BYTES: u64 = PAGE as u64;

/// See the head of this file.
pub struct RamMedium {
    bytes: u64,
    pages: RwLock<BTreeMap<u64, Box<[u8; PAGE]>>>,
}

/// A part of one page: the page, first byte inside, length.
type Part = (u64, usize, usize);

/// The parts of pages that make up `len` bytes from `at`, in order.
fn parts(at: u64, len: u64) -> impl Iterator<Item = Part> {
    let end = at + len;
    let mut at = at;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let from = at % PAGE_BYTES;
        let part = (PAGE_BYTES - from).min(end - at);
        let page = at / PAGE_BYTES;
        at += part;
        // Both are at most PAGE.
        Some((page, usize::try_from(from).ok()?, usize::try_from(part).ok()?))
    })
}

impl RamMedium {
    /// A medium of `bytes` bytes, all of them zero.
    #[must_use]
    pub fn new(bytes: u64) -> RamMedium {
        RamMedium { bytes, pages: RwLock::default() }
    }

    fn check(&self, at: u64, len: usize) -> Result<u64, IoError> {
        let len = len as u64;
        let fits = at.checked_add(len).is_some_and(|end| end <= self.bytes);
        if fits { Ok(len) } else { Err(IoError::Range) }
    }

    /// How many bytes are stored.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.pages.read().len() as u64 * PAGE_BYTES
    }

    fn clear(&self, at: u64, len: u64, keep_room: bool) -> Result<(), IoError> {
        if at.checked_add(len).is_none_or(|end| end > self.bytes) {
            return Err(IoError::Range);
        }
        let mut pages = self.pages.write();
        if !keep_room {
            let (first, end) = (at.div_ceil(PAGE_BYTES), (at + len) / PAGE_BYTES);
            if first < end {
                let mut gone = pages.split_off(&first);
                pages.append(&mut gone.split_off(&end));
            }
        }
        for (page, from, len) in parts(at, len) {
            if keep_room {
                let page = pages.entry(page).or_insert_with(|| Box::new([0; PAGE]));
                page[from..from + len].fill(0);
            } else if let Some(page) = pages.get_mut(&page) {
                page[from..from + len].fill(0);
            }
        }
        Ok(())
    }
}

impl Medium for RamMedium {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<(), IoError> {
        let len = self.check(at, into.len())?;
        let pages = self.pages.read();
        let mut rest = into;
        for (page, from, len) in parts(at, len) {
            let (part, behind) = rest.split_at_mut(len);
            match pages.get(&page) {
                Some(page) => part.copy_from_slice(&page[from..from + len]),
                None => part.fill(0),
            }
            rest = behind;
        }
        Ok(())
    }

    fn write_at(&self, at: u64, from: &[u8]) -> Result<(), IoError> {
        let len = self.check(at, from.len())?;
        let mut pages = self.pages.write();
        let mut rest = from;
        for (page, from, len) in parts(at, len) {
            let (part, behind) = rest.split_at(len);
            let page = pages.entry(page).or_insert_with(|| Box::new([0; PAGE]));
            page[from..from + len].copy_from_slice(part);
            rest = behind;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn discard(&self, at: u64, len: u64) -> Result<(), IoError> {
        self.clear(at, len, false)
    }

    fn zero(&self, at: u64, len: u64) -> Result<(), IoError> {
        self.clear(at, len, true)
    }

    fn stored_from(&self, from: u64) -> Option<Run> {
        let pages = self.pages.read();
        let mut stored = pages.range(from / PAGE_BYTES..).map(|(page, _)| *page);
        let first = stored.next()?;
        let mut end = first + 1;
        while stored.next() == Some(end) {
            end += 1;
        }
        let first = (first * PAGE_BYTES).max(from);
        let end = (end * PAGE_BYTES).min(self.bytes);
        (first < end).then_some((first, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_written_reads_as_zeros_and_takes_no_room() {
        let medium = RamMedium::new(1 << 40);
        let mut into = [1; 512];
        medium.read_at(1 << 39, &mut into).unwrap();
        assert_eq!(into, [0; 512]);
        assert_eq!((medium.stored_bytes(), medium.stored_from(0)), (0, None));
    }

    #[test]
    fn discard_gives_whole_pages_back_and_zero_does_not() {
        let medium = RamMedium::new(64 * 1024);
        medium.write_at(0, &[7; 12288]).unwrap();
        medium.discard(512, 12288 - 512).unwrap();
        assert_eq!(medium.stored_bytes(), 4096);
        medium.zero(0, 8192).unwrap();
        assert_eq!(medium.stored_bytes(), 8192);
        assert_eq!(medium.stored_from(512), Some((512, 8192)));
    }

    #[test]
    fn past_the_end_is_refused() {
        let medium = RamMedium::new(1024);
        assert_eq!(medium.write_at(512, &[0; 1024]), Err(IoError::Range));
        assert_eq!(medium.read_at(u64::MAX, &mut [0; 2]), Err(IoError::Range));
        assert_eq!(medium.discard(0, 1025), Err(IoError::Range));
    }
}
