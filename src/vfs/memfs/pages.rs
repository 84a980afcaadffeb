//! The bytes of a memory file: pages where something was written, holes elsewhere.
//!
//! 1. Whatever lies behind the length reads as zeros once the length grows over it.
//! 2. Every page is charged to the budget of the file system while it exists.

use crate::error::{Errno, Error};
use crate::sync::Arc;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in a page.
pub(super) const PAGE_BYTES: usize = 4096;
const PAGE: u64 = PAGE_BYTES as u64;
/// Longest file, in bytes: the largest offset of lseek(2).
pub(super) const LENGTH_MAX: u64 = i64::MAX as u64;

/// What a file system may take of the host's memory, in bytes.
pub(super) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Arc<Budget> {
        Arc::new(Budget { limit, used: AtomicU64::new(0) })
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Charges `bytes`, or nothing: `ENOSPC`.
    pub(super) fn take(&self, bytes: u64) -> Result<(), Error> {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::plain(Errno::ENOSPC)),
        }
    }

    pub(super) fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// See the head of this file.
pub(super) struct Pages {
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
    length: u64,
    budget: Arc<Budget>,
}

/// The pieces of pages that `len` bytes at `at` cover: page, offset in it, bytes.
fn pieces(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0_usize;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let position = at + done as u64;
        let inside = usize::try_from(position % PAGE).unwrap_or(0);
        let bytes = (PAGE_BYTES - inside).min(len - done);
        done += bytes;
        Some((position / PAGE, inside, bytes))
    })
}

impl Pages {
    pub(super) fn new(budget: Arc<Budget>) -> Pages {
        Pages { pages: BTreeMap::new(), length: 0, budget }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Pages that exist.
    pub(super) fn count(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Copies what is at `at`; the number of bytes, 0 behind the end.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) -> usize {
        let left = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = left.min(buf.len());
        let mut done = 0;
        for (page, inside, bytes) in pieces(at, len) {
            let to = &mut buf[done..done + bytes];
            match self.pages.get(&page) {
                Some(from) => to.copy_from_slice(&from[inside..inside + bytes]),
                None => to.fill(0),
            }
            done += bytes;
        }
        done
    }

    fn page(&mut self, page: u64) -> Result<&mut [u8; PAGE_BYTES], Error> {
        match self.pages.entry(page) {
            std::collections::btree_map::Entry::Occupied(found) => Ok(found.into_mut()),
            std::collections::btree_map::Entry::Vacant(free) => {
                self.budget.take(PAGE)?;
                Ok(free.insert(Box::new([0; PAGE_BYTES])))
            }
        }
    }

    /// Stores `data` at `at`; fewer bytes than given when the budget ends, `ENOSPC` if none.
    pub(super) fn write(&mut self, at: u64, data: &[u8]) -> Result<usize, Error> {
        if data.is_empty() {
            return Ok(0);
        }
        let room = LENGTH_MAX.saturating_sub(at);
        let len = data.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if len == 0 {
            return Err(Error::plain(Errno::EFBIG));
        }
        let mut done = 0;
        for (page, inside, bytes) in pieces(at, len) {
            match self.page(page) {
                Ok(to) => to[inside..inside + bytes].copy_from_slice(&data[done..done + bytes]),
                Err(refusal) if done == 0 => return Err(refusal),
                Err(_) => break,
            }
            done += bytes;
        }
        self.length = self.length.max(at + done as u64);
        Ok(done)
    }

    /// Cuts the file, or lets it grow by a hole.
    pub(super) fn set_length(&mut self, length: u64) -> Result<(), Error> {
        if length > LENGTH_MAX {
            return Err(Error::plain(Errno::EFBIG));
        }
        if length < self.length {
            let gone = self.pages.split_off(&length.div_ceil(PAGE));
            self.budget.give(gone.len() as u64 * PAGE);
            let inside = usize::try_from(length % PAGE).unwrap_or(0);
            if inside > 0
                && let Some(page) = self.pages.get_mut(&(length / PAGE))
            {
                page[inside..].fill(0);
            }
        }
        self.length = length;
        Ok(())
    }

    /// Makes the pages of a range exist; all or none. The length stays.
    pub(super) fn allocate(&mut self, at: u64, len: u64) -> Result<(), Error> {
        let end = at.checked_add(len).filter(|end| *end <= LENGTH_MAX);
        let end = end.ok_or_else(|| Error::plain(Errno::EFBIG))?;
        let (first, last) = (at / PAGE, end.div_ceil(PAGE));
        let there = self.pages.range(first..last).count() as u64;
        self.budget.take((last - first - there).saturating_mul(PAGE))?;
        for page in first..last {
            self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE_BYTES]));
        }
        Ok(())
    }

    /// Makes a range read as zeros; whole pages of it become holes. The length stays.
    pub(super) fn punch(&mut self, at: u64, len: u64) {
        let end = at.saturating_add(len).min(LENGTH_MAX);
        if at >= end {
            return;
        }
        let whole = at.div_ceil(PAGE)..end / PAGE;
        if !whole.is_empty() {
            let mut from = self.pages.split_off(&whole.start);
            let mut behind = from.split_off(&whole.end);
            self.budget.give(from.len() as u64 * PAGE);
            self.pages.append(&mut behind);
        }
        for (page, from, to) in edges(at, end) {
            if let Some(bytes) = self.pages.get_mut(&page) {
                bytes[from..to].fill(0);
            }
        }
    }

    /// Where data begins at or behind `at`; none when the rest is a hole.
    pub(super) fn data_from(&self, at: u64) -> Option<u64> {
        let (page, _) = self.pages.range(at / PAGE..).next()?;
        Some((page * PAGE).max(at)).filter(|found| *found < self.length)
    }

    /// Where a hole begins at or behind `at`; the end is one.
    pub(super) fn hole_from(&self, at: u64) -> u64 {
        let mut next = at / PAGE;
        for (page, _) in self.pages.range(next..) {
            if *page != next {
                break;
            }
            next += 1;
        }
        (next * PAGE).max(at).min(self.length)
    }
}

/// The parts of pages at the two ends of a range that are not whole: page, from, to.
fn edges(at: u64, end: u64) -> Vec<(u64, usize, usize)> {
    let inside = |position: u64| usize::try_from(position % PAGE).unwrap_or(0);
    let (first, last) = (at / PAGE, end / PAGE);
    if first == last {
        return vec![(first, inside(at), inside(end))];
    }
    let head = (inside(at) > 0).then(|| (first, inside(at), PAGE_BYTES));
    let tail = (inside(end) > 0).then(|| (last, 0, inside(end)));
    head.into_iter().chain(tail).collect()
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.budget.give(self.count() * PAGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: u64 = 64 * PAGE;

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let mut pages = Pages::new(Budget::new(LIMIT));
        assert_eq!(pages.write(0, &[7; 5000]).unwrap(), 5000);
        pages.set_length(10).unwrap();
        pages.set_length(6000).unwrap();
        let mut buf = [1; 6000];
        assert_eq!(pages.read(0, &mut buf), 6000);
        assert!(buf[..10].iter().all(|byte| *byte == 7) && buf[10..].iter().all(|b| *b == 0));
        assert_eq!(pages.count(), 1);
    }

    #[test]
    fn a_write_over_the_budget_is_short_and_the_next_one_refused() {
        let budget = Budget::new(2 * PAGE);
        let mut pages = Pages::new(Arc::clone(&budget));
        assert_eq!(pages.write(0, &[1; 3 * PAGE_BYTES]).unwrap(), 2 * PAGE_BYTES);
        assert_eq!(pages.write(2 * PAGE, &[1]).unwrap_err().errno, Errno::ENOSPC);
        assert_eq!(pages.length(), 2 * PAGE);
        drop(pages);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn offsets_at_the_edge_of_the_numbers_are_refused() {
        let mut pages = Pages::new(Budget::new(LIMIT));
        assert_eq!(pages.write(u64::MAX, &[1]).unwrap_err().errno, Errno::EFBIG);
        assert_eq!(pages.write(LENGTH_MAX - 1, &[1, 2]).unwrap(), 1);
        assert_eq!(pages.set_length(LENGTH_MAX + 1).unwrap_err().errno, Errno::EFBIG);
        assert_eq!(pages.allocate(LENGTH_MAX, 1).unwrap_err().errno, Errno::EFBIG);
        assert_eq!(pages.allocate(0, LENGTH_MAX).unwrap_err().errno, Errno::ENOSPC);
        assert_eq!(pages.read(u64::MAX, &mut [0; 8]), 0);
        pages.punch(u64::MAX - 1, u64::MAX);
        assert_eq!(pages.data_from(0), Some((LENGTH_MAX - 1) / PAGE * PAGE));
    }

    #[test]
    fn data_and_holes_are_found() {
        let mut pages = Pages::new(Budget::new(LIMIT));
        pages.write(2 * PAGE, &[1; 10]).unwrap();
        pages.set_length(5 * PAGE).unwrap();
        assert_eq!(pages.data_from(0), Some(2 * PAGE));
        assert_eq!(pages.data_from(2 * PAGE + 5), Some(2 * PAGE + 5));
        assert_eq!(pages.data_from(3 * PAGE), None);
        assert_eq!(pages.hole_from(0), 0);
        assert_eq!(pages.hole_from(2 * PAGE), 3 * PAGE);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, u8, usize),
        Length(u64),
        Punch(u64, u64),
        Allocate(u64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let place = 0..6 * PAGE;
        let step = prop_oneof![
            (place.clone(), any::<u8>(), 0..9000_usize).prop_map(|(a, b, n)| Step::Write(a, b, n)),
            place.clone().prop_map(Step::Length),
            (place.clone(), place.clone()).prop_map(|(a, n)| Step::Punch(a, n)),
            (place.clone(), place).prop_map(|(a, n)| Step::Allocate(a, n)),
        ];
        prop::collection::vec(step, 1..40)
    }

    proptest! {
        #[test]
        fn pages_behave_like_an_array(steps in steps()) {
            let budget = Budget::new(LIMIT);
            let mut pages = Pages::new(Arc::clone(&budget));
            let mut model: Vec<u8> = Vec::new();
            for step in steps {
                match step {
                    Step::Write(at, byte, len) => {
                        prop_assert_eq!(pages.write(at, &vec![byte; len]).unwrap(), len);
                        let at = usize::try_from(at).unwrap();
                        let end = at + len;
                        if len > 0 && end > model.len() {
                            model.resize(end, 0);
                        }
                        if len > 0 {
                            model[at..end].fill(byte);
                        }
                    }
                    Step::Length(length) => {
                        pages.set_length(length).unwrap();
                        model.resize(usize::try_from(length).unwrap(), 0);
                    }
                    Step::Punch(at, len) => {
                        pages.punch(at, len);
                        let end = usize::try_from(at + len).unwrap().min(model.len());
                        if let Some(hole) = model.get_mut(usize::try_from(at).unwrap()..end) {
                            hole.fill(0);
                        }
                    }
                    Step::Allocate(at, len) => pages.allocate(at, len).unwrap(),
                }
                let mut read = vec![1; model.len() + 10];
                let got = pages.read(0, &mut read);
                prop_assert_eq!(&read[..got], &model[..]);
                prop_assert_eq!(budget.used(), pages.count() * PAGE);
                let at = pages.data_from(0).unwrap_or(pages.length());
                let hole = usize::try_from(at).unwrap();
                prop_assert!(model[..hole].iter().all(|byte| *byte == 0));
            }
        }
    }
}
