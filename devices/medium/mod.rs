//! What a chip keeps its sectors, or its records, on: a file on the host, or memory.
//!
//! A medium knows bytes and nothing of time, registers or faults. Every call may wait for the host
//! and none calls back.

mod bus_error;
mod file;
mod ram;
mod tap;
mod tap_host;
mod window;

pub use file::{FileMedium, FileOptions, Refusal};
pub use ram::RamMedium;
pub use tap::{Item, Tap};
pub use tap_host::TapOptions;

use crate::contract::{IoError, Sector};

/// A run of bytes: from the first up to, not including, the second.
pub type Run = (u64, u64);

/// See the head of this file.
pub trait Medium: Send + Sync {
    /// Length, in bytes.
    fn bytes(&self) -> u64;

    /// Whether writes are refused.
    fn is_read_only(&self) -> bool {
        false
    }

    /// Fills `into` from byte `at`.
    ///
    /// # Errors
    /// `Media` with the first sector that could not be read; `Hardware` when the host refuses.
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<(), IoError>;

    /// Writes all of `from` at byte `at`.
    ///
    /// # Errors
    /// `NoSpace` when the host has no room; `WriteProtected`; `Media`; `Hardware`.
    fn write_at(&self, at: u64, from: &[u8]) -> Result<(), IoError>;

    /// Fills several runs of memory, one after another, from byte `at`.
    ///
    /// # Errors
    /// Those of [`Medium::read_at`].
    fn read_runs(&self, at: u64, into: &mut [&mut [u8]]) -> Result<(), IoError> {
        let mut at = at;
        for run in into {
            self.read_at(at, run)?;
            at += run.len() as u64;
        }
        Ok(())
    }

    /// Writes several runs of memory, one after another, at byte `at`.
    ///
    /// # Errors
    /// Those of [`Medium::write_at`].
    fn write_runs(&self, at: u64, from: &[&[u8]]) -> Result<(), IoError> {
        let mut at = at;
        for run in from {
            self.write_at(at, run)?;
            at += run.len() as u64;
        }
        Ok(())
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// `Hardware` when the host could not keep it; `NoSpace`.
    fn flush(&self) -> Result<(), IoError>;

    /// Gives the room of `len` bytes back; they read as zeros.
    ///
    /// # Errors
    /// Those of [`Medium::write_at`].
    fn discard(&self, at: u64, len: u64) -> Result<(), IoError>;

    /// Makes `len` bytes read as zeros and keeps their room.
    ///
    /// # Errors
    /// Those of [`Medium::write_at`].
    fn zero(&self, at: u64, len: u64) -> Result<(), IoError>;

    /// The first run of bytes at or after `from` that is stored; `None` when the rest is a hole.
    fn stored_from(&self, from: u64) -> Option<Run>;
}

/// The sector that byte `at` lies in.
fn sector_of(at: u64) -> Sector {
    Sector(at / crate::contract::SECTOR_SIZE as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEN: usize = 64 * 1024;

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize, u8, Vec<usize>),
        Discard(usize, usize),
        Zero(usize, usize),
        Flush,
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = 0..LEN / 512;
        prop_oneof![
            (at.clone(), any::<u8>(), prop::collection::vec(1..9usize, 1..5))
                .prop_map(|(at, fill, runs)| Step::Write(at * 512, fill, runs)),
            (at.clone(), 0..40usize).prop_map(|(at, n)| Step::Discard(at * 512, n * 512)),
            (at, 0..40usize).prop_map(|(at, n)| Step::Zero(at * 512, n * 512)),
            Just(Step::Flush),
        ]
    }

    fn run(medium: &dyn Medium, steps: &[Step]) {
        let mut model = vec![0u8; LEN];
        for step in steps {
            match step {
                Step::Write(at, fill, runs) => {
                    let data = vec![*fill; 9 * 512];
                    let mut all = runs.iter().map(|n| &data[..n * 512]).collect::<Vec<_>>();
                    while at + all.iter().map(|r| r.len()).sum::<usize>() > LEN {
                        all.pop();
                    }
                    medium.write_runs(*at as u64, &all).unwrap();
                    let len = all.iter().map(|r| r.len()).sum::<usize>();
                    model[*at..at + len].fill(*fill);
                }
                Step::Discard(at, len) | Step::Zero(at, len) => {
                    let len = (*len).min(LEN - at);
                    let (from, bytes) = (*at as u64, len as u64);
                    if matches!(step, Step::Zero(..)) {
                        medium.zero(from, bytes).unwrap();
                    } else {
                        medium.discard(from, bytes).unwrap();
                    }
                    model[*at..at + len].fill(0);
                }
                Step::Flush => medium.flush().unwrap(),
            }
        }
        let mut found = vec![0xaa; LEN];
        let (left, right) = found.split_at_mut(LEN / 3);
        medium.read_runs(0, &mut [left, right]).unwrap();
        assert!(found == model);
        let mut at = 0; // what is called a hole reads as zeros
        while let Some((from, end)) = medium.stored_from(at) {
            assert!(from >= at && end > from && end <= LEN as u64);
            let (from, skipped) = (usize::try_from(from).unwrap(), usize::try_from(at).unwrap());
            assert!(model[skipped..from].iter().all(|&byte| byte == 0));
            at = end;
        }
        assert!(model[usize::try_from(at).unwrap()..].iter().all(|&byte| byte == 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_medium_is_an_array_of_bytes(steps in prop::collection::vec(step(), 0..40)) {
            run(&RamMedium::new(LEN as u64), &steps);
            let dir = tempfile::tempdir().unwrap();
            let options = FileOptions { bytes: Some(LEN as u64), ..FileOptions::default() };
            run(&FileMedium::open(&dir.path().join("image"), options).unwrap(), &steps);
        }
    }
}
