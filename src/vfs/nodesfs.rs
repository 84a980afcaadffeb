//! `/nodes`: the names of `/dev` as real block and character inodes, for `ls -l` and `test -b`.
//!
//! Nothing here can be opened or changed: the host would open its own device of those numbers
//! (and refuses, as the tree is mounted `nodev`). Names lead to the very inodes of `/dev`; other
//! files that somebody put there are not shown.

use super::fs::{FileSystem, Local};
use super::memfs::MemFs;
use super::{Attr, DirEntry, FileKind, StatFs};
use crate::error::{Errno, Error};
use crate::file::{Caller, FileOps};
use crate::sync::Arc;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// See the head of this file.
pub struct NodesFs {
    dev: Arc<MemFs>,
}

fn is_shown(kind: FileKind) -> bool {
    matches!(kind, FileKind::Device(_) | FileKind::Directory | FileKind::Symlink)
}

fn shown(mut attr: Attr) -> Attr {
    attr.shows_device = matches!(attr.kind, FileKind::Device(_));
    attr.may_be_remembered = false; // whoever changes `/dev` is not seen to change this
    attr
}

impl NodesFs {
    /// A view of `dev`.
    #[must_use]
    pub fn new(dev: Arc<MemFs>) -> NodesFs {
        NodesFs { dev }
    }
}

impl FileSystem for NodesFs {
    fn root(&self) -> Local {
        self.dev.root()
    }

    fn lookup(&self, dir: Local, name: &OsStr) -> Result<Attr, Error> {
        let attr = self.dev.lookup(dir, name)?;
        if is_shown(attr.kind) {
            return Ok(shown(attr));
        }
        self.dev.put(attr.ino.into());
        Err(Error::plain(Errno::ENOENT))
    }

    fn hold(&self, node: Local) -> Result<Attr, Error> {
        self.dev.hold(node).map(shown)
    }

    fn put(&self, node: Local) {
        self.dev.put(node);
    }

    fn getattr(&self, node: Local) -> Result<Attr, Error> {
        self.dev.getattr(node).map(shown)
    }

    fn readlink(&self, node: Local) -> Result<OsString, Error> {
        self.dev.readlink(node)
    }

    fn open(&self, _caller: &Caller, _node: Local, _flags: i32) -> Result<Arc<dyn FileOps>, Error> {
        Err(Error::plain(Errno::EACCES))
    }

    fn readdir(&self, dir: Local, mut offset: u64, count: usize) -> Result<Vec<DirEntry>, Error> {
        loop {
            let mut batch = self.dev.readdir(dir, offset, count)?;
            let Some(last) = batch.last() else { return Ok(batch) };
            offset = last.next;
            batch.retain(|entry| is_shown(entry.kind));
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }

    fn statfs(&self) -> StatFs {
        self.dev.statfs()
    }

    fn path(&self, node: Local) -> Option<PathBuf> {
        self.dev.path(node)
    }
}
