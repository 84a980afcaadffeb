//! What the machine puts into the tree: device inodes, reports, `ctl`, files that are served.

use super::fs::{FileSystem, Served};
use super::memfs::DeviceName;
use super::mounts::Mount;
use super::nodestore::{Kept, NodeStore};
use super::tree::{Follow, NodeLine, Vfs};
use crate::error::{Errno, Error};
use crate::file::{Control, Device, Report};
use crate::sync::Arc;
use std::path::{Component, Path};
use std::time::SystemTime;

/// Refuses what is no path below `/dev`.
fn check_node_path(name: &str) -> Result<&Path, Error> {
    let path = Path::new(name);
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    if is_below && path.file_name().is_some() {
        return Ok(path);
    }
    Err(Error::new(Errno::EINVAL, format!("\"{name}\": a name below /dev is wanted, as in sd0")))
}

impl Vfs {
    /// Reads the file `nodes` of the state directory, and keeps it up to date from now on. Call it
    /// before the first [`Vfs::install_node`].
    ///
    /// # Errors
    /// `EINVAL` in words for a file of another version or garbled, or when called twice; the host's.
    pub fn load_nodes(&self, state: &Path) -> Result<(), Error> {
        let store = NodeStore::load(state)?;
        for node in store.made() {
            self.dev.install(&node)?;
        }
        let refused = self.nodes.set(store).is_err();
        if refused { Err(Error::new(Errno::EINVAL, "nodes are loaded already")) } else { Ok(()) }
    }

    /// Writes the changes of device inodes to the state directory that are not there yet, such as
    /// those whose writing failed before. Every call that changes one does so.
    ///
    /// # Errors
    /// The host's.
    pub fn sync_nodes(&self) -> Result<(), Error> {
        match self.nodes.get() {
            Some(store) => store.save(|| self.dev.device_changes(), || self.dev.device_names()),
            None => Ok(()),
        }
    }

    /// As [`Vfs::sync_nodes`], after a call that has done what it was to do on a mount: a failure
    /// is logged, and the next call tries again.
    pub(super) fn keep_nodes(&self, mount: &Mount) {
        if !std::ptr::addr_eq(Arc::as_ptr(&mount.fs), Arc::as_ptr(&self.dev)) {
            return;
        }
        if let Err(failure) = self.sync_nodes() {
            log::error!(target: "vfs", "changes of device nodes are not stored: {failure}");
        }
    }

    /// Puts a device inode under `/dev`; what the user changed of it in an earlier life wins: its
    /// mode, owner and times, that he removed it, or made another of this name.
    ///
    /// # Errors
    /// `EEXIST`, `EINVAL`, `ENOSPC`.
    pub fn install_node(
        &self,
        name: &str,
        device: Device,
        mode: u16,
        uid: u32,
        gid: u32,
    ) -> Result<(), Error> {
        let path = check_node_path(name)?;
        let now = SystemTime::now();
        let mut node = DeviceName {
            path: path.to_owned(),
            device,
            mode,
            uid,
            gid,
            atime: now,
            mtime: now,
            is_kept: false,
        };
        if let Some(store) = self.nodes.get() {
            store.install(path, Some(device));
            match store.kept(path) {
                Some(Kept::Gone | Kept::Made(_)) => return Ok(()),
                Some(Kept::Changed(kept)) => node = DeviceName { device, ..kept },
                None => {}
            }
        }
        self.dev.install(&node)
    }

    /// Takes away what [`Vfs::install_node`] put there; what the user changed of it is kept for
    /// when it comes back.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn remove_node(&self, name: &str) -> Result<(), Error> {
        let path = check_node_path(name)?;
        if let Some(store) = self.nodes.get() {
            store.install(path, None);
            if matches!(store.kept(path), Some(Kept::Gone | Kept::Made(_))) {
                return Ok(());
            }
        }
        self.dev.uninstall(path)
    }

    /// All device inodes, by mount and path.
    #[must_use]
    pub fn list_nodes(&self) -> Vec<NodeLine> {
        let mut lines = Vec::new();
        for mount in self.mounts.list() {
            for line in mount.fs.devices() {
                lines.push(NodeLine { path: mount.what.prefix.join(&line.path), ..line });
            }
        }
        lines
    }

    /// Puts the reports under `/proc`; those set before are gone.
    pub fn set_reports(&self, reports: Vec<Report>) {
        self.proc.set(reports);
    }

    /// Puts `ctl` at the root, mode 0600, or gives it another ear. The control will want to call
    /// the tree: let it have a `Weak`, or neither is ever freed.
    pub fn set_control(&self, control: Arc<dyn Control>) {
        if self.control.set(control) {
            let ctl = Arc::clone(&self.control) as Arc<dyn Served>;
            let put = self.root.serve(self.root.root(), "ctl".as_ref(), ctl, 0o600, self.owner);
            if let Err(refusal) = put {
                log::error!(target: "vfs", "/ctl cannot be made: {refusal}");
            }
        }
    }

    /// Puts a file that is made anew at every open into a directory of a memory file system; users
    /// cannot remove it.
    ///
    /// # Errors
    /// `EEXIST`, `ENOSPC`, `EOPNOTSUPP` in other file systems; those of walk.
    pub fn serve(
        &self,
        path: &Path,
        served: Arc<dyn Served>,
        mode: u16,
        owner: (u32, u32),
    ) -> Result<(), Error> {
        let name = path.file_name().ok_or_else(|| Error::plain(Errno::EINVAL))?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        let (_, dir) = self.find(dir, Follow::Yes)?;
        dir.mount.fs.serve(dir.attr.ino.split().1, name, served, mode, owner)
    }
}
