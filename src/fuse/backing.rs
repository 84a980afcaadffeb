//! Files of the host's that stand in for open files of ours: FUSE_PASSTHROUGH.
//!
//! The host then reads and writes them without asking us. All open files of an inode must stand
//! for the same registered file, which therefore lives from the first open to the last release.

use crate::error::{Errno, Error};
use crate::file::OpenFile;
use crate::sync::{Arc, Mutex};
use fuser::{BackingId, FileHandle, FopenFlags, ReplyOpen};
use std::collections::BTreeMap;

/// The files registered with the host, by inode.
#[derive(Default)]
pub(super) struct Backings {
    registered: Mutex<BTreeMap<u64, (Arc<BackingId>, u32)>>,
}

impl Backings {
    /// Registers the file that stands in for `file`, if none is yet, and counts it.
    pub(super) fn enter(
        &self,
        file: &OpenFile,
        reply: &ReplyOpen,
    ) -> Result<Option<Arc<BackingId>>, Error> {
        let Some(backing) = file.ops.backing() else { return Ok(None) };
        let mut registered = self.registered.lock();
        if let Some((id, opens)) = registered.get_mut(&file.ino) {
            *opens += 1;
            return Ok(Some(Arc::clone(id)));
        }
        let id = reply.open_backing(backing).map_err(|refusal| {
            let errno = Errno(refusal.raw_os_error().unwrap_or(libc::EIO));
            Error::new(errno, format!("{}: the host passes nothing through: {refusal}", file.path))
        })?;
        let id = Arc::new(id);
        registered.insert(file.ino, (Arc::clone(&id), 1));
        Ok(Some(id))
    }

    /// An open file was released.
    pub(super) fn leave(&self, file: &OpenFile) {
        if file.ops.backing().is_none() {
            return;
        }
        let mut registered = self.registered.lock();
        let Some((_, opens)) = registered.get_mut(&file.ino) else { return };
        *opens -= 1;
        if *opens == 0 {
            registered.remove(&file.ino);
        }
    }
}

/// Answers an open of a file that another stands in for.
pub(super) fn opened(file: &OpenFile, flags: FopenFlags, id: &BackingId, reply: ReplyOpen) {
    reply.opened_passthrough(FileHandle(file.handle), flags, id);
}
