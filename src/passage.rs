//! A disk whose raw node the host reads and writes by itself (`passthrough`): its image, and who
//! may have it open meanwhile.
//!
//! We do not see such transfers, so they can neither drop cached copies nor fail on purpose:
//!
//! 1. The raw node shows the medium, as every raw node does: no delayed write is in it yet.
//! 2. While it is open for writing, the block node and those of partitions are not, and the other
//!    way round: EBUSY. Who has it open for reading only is in nobody's way.
//! 3. When the last writer has closed it, no clean copy is left in the cache.

use crate::error::{Errno, Error};
use crate::sync::Mutex;
use std::fs::{File, OpenOptions};
use std::path::PathBuf;

/// See the head of this file.
pub struct Passage {
    image: PathBuf,
    is_read_only: bool,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    blocks: u32,
    writers: u32,
}

impl Passage {
    /// To this image.
    #[must_use]
    pub fn new(image: PathBuf, is_read_only: bool) -> Passage {
        Passage { image, is_read_only, held: Mutex::default() }
    }

    /// Opens the image for a handle of the raw node. The host asks nobody's leave again: it opens
    /// the image once more for each handle, with that handle's own flags.
    ///
    /// # Errors
    /// The host's.
    pub fn open(&self) -> Result<File, Error> {
        let file = OpenOptions::new().read(true).write(!self.is_read_only).open(&self.image);
        file.map_err(|refusal| {
            let errno = refusal.raw_os_error().map_or(Errno::EIO, Errno);
            Error::new(errno, format!("image {}: {refusal}", self.image.display()))
        })
    }

    /// Counts an open of a block node.
    ///
    /// # Errors
    /// `EBUSY` while the raw node is open for writing.
    pub fn enter_block(&self, name: &str) -> Result<(), Error> {
        let mut held = self.held.lock();
        if held.writers > 0 {
            let words = format!("{name}: its raw node is open for writing, with passthrough");
            return Err(Error::new(Errno::EBUSY, words));
        }
        held.blocks += 1;
        Ok(())
    }

    /// Counts a last close of a block node.
    pub fn leave_block(&self) {
        let mut held = self.held.lock();
        held.blocks = held.blocks.saturating_sub(1);
    }

    /// Counts an open of the raw node for writing.
    ///
    /// # Errors
    /// `EBUSY` while a block node is open.
    pub fn enter_writer(&self, name: &str) -> Result<(), Error> {
        let mut held = self.held.lock();
        if held.blocks > 0 {
            let words =
                format!("{name}: a block node of it is open, which passthrough would not see");
            return Err(Error::new(Errno::EBUSY, words));
        }
        held.writers += 1;
        Ok(())
    }

    /// Counts a last close of the raw node that was open for writing; `last` runs while nobody can
    /// open a block node yet.
    pub fn leave_writer(&self, last: impl FnOnce()) {
        {
            let mut held = self.held.lock();
            if held.writers > 1 {
                held.writers -= 1;
                return;
            }
        }
        last();
        let mut held = self.held.lock();
        held.writers = held.writers.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_and_the_block_nodes_exclude_each_other() {
        let passage = Passage::new("/nowhere".into(), false);
        passage.enter_block("sd0").unwrap();
        assert_eq!(passage.enter_writer("sd0").unwrap_err().errno, Errno::EBUSY);
        passage.leave_block();
        passage.enter_writer("sd0").unwrap();
        passage.enter_writer("sd0").unwrap();
        assert_eq!(passage.enter_block("sd0").unwrap_err().errno, Errno::EBUSY);
        let mut dropped = 0;
        passage.leave_writer(|| dropped += 1);
        assert_eq!(passage.enter_block("sd0").unwrap_err().errno, Errno::EBUSY);
        passage.leave_writer(|| dropped += 1);
        assert_eq!(dropped, 1);
        passage.enter_block("sd0").unwrap();
    }

    #[test]
    fn an_image_that_is_gone_is_named() {
        let error = Passage::new("/nowhere/sd0.img".into(), false).open().unwrap_err();
        assert_eq!(error.errno, Errno::ENOENT);
        assert!(error.what.starts_with("image /nowhere/sd0.img: "), "{}", error.what);
    }
}
