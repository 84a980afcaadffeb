//! Walking: from a path to an inode, through `.`, `..`, symbolic links and mounts.
//!
//! The host's kernel walks its callers' paths itself, a component a call, and checks who may
//! search. These walks are for those whom it does not serve: the verbs of `ctl`, the spooler. They
//! hold every inode on the way, so that none changes under them into another.

use super::mounts::Mount;
use super::tree::{Access, Follow, Resolution, Vfs};
use super::{Attr, FileKind, Ino, NAME_BYTES_MAX, PATH_BYTES_MAX, SYMLINKS_MAX};
use crate::error::{Errno, Error};
use crate::file::Caller;
use crate::sync::Arc;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// An inode that stays as long as this does: a hold that gives itself back.
pub(super) struct Held {
    pub(super) mount: Arc<Mount>,
    pub(super) attr: Attr,
    is_kept: bool,
}

impl Held {
    /// Takes charge of a hold that the file system has given.
    pub(super) fn new(mount: Arc<Mount>, attr: Attr) -> Held {
        Held { mount, attr, is_kept: false }
    }

    /// Leaves the hold to the caller, who gives it back.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_kept {
            self.mount.fs.put(self.attr.ino.split().1);
        }
    }
}

/// How far a walk came.
struct Walked {
    /// What it went through, outermost first, without the root.
    way: Vec<(OsString, Held)>,
    /// What it looked for there and did not find, next name first.
    missing: Vec<OsString>,
}

impl Walked {
    fn path(&self) -> PathBuf {
        Path::new("/").join(self.way.iter().map(|(name, _)| name).collect::<PathBuf>())
    }
}

/// Refuses what can be no name.
///
/// # Errors
/// `ENOENT` for none, `ENAMETOOLONG`, `EINVAL` with a slash or NUL in it.
pub(super) fn check_name(name: &OsStr) -> Result<(), Error> {
    let bytes = name.as_bytes();
    match bytes.len() {
        0 => Err(Error::plain(Errno::ENOENT)),
        len if len > NAME_BYTES_MAX => Err(Error::plain(Errno::ENAMETOOLONG)),
        _ if bytes.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(Error::plain(Errno::EINVAL)),
        _ => Ok(()),
    }
}

/// The components of a path, last first: a walk pops the next one off. An empty one, such as that
/// behind a slash at the end, is a directory's name for itself.
fn components(path: &OsStr) -> Vec<OsString> {
    let names = path.as_bytes().split(|byte| *byte == b'/').rev();
    names.map(|name| OsString::from_vec(name.to_vec())).collect()
}

impl Vfs {
    /// Holds an inode known by number.
    pub(super) fn held(&self, ino: Ino) -> Result<Held, Error> {
        let (mount, node) = self.mounts.of(ino)?;
        let attr = mount.fs.hold(node)?;
        let attr = self.shown(&mount, attr);
        Ok(Held::new(mount, attr))
    }

    /// One step: a name in a directory; over the edge of a mount, either way.
    pub(super) fn step(&self, dir: Ino, name: &OsStr) -> Result<Held, Error> {
        self.step_as(None, dir, name)
    }

    /// One step for somebody, to whom a name may mean a file of his own.
    pub(super) fn step_as(
        &self,
        caller: Option<&Caller>,
        dir: Ino,
        name: &OsStr,
    ) -> Result<Held, Error> {
        check_name(name)?;
        let (mut mount, mut node) = self.mounts.of(dir)?;
        if name == "." {
            let held = self.held(dir)?;
            return match held.attr.kind {
                FileKind::Directory => Ok(held),
                _ => Err(Error::plain(Errno::ENOTDIR)),
            };
        }
        if name == ".." {
            while let (true, Some(covered)) = (node == mount.fs.root(), mount.covers) {
                (mount, node) = self.mounts.of(covered)?;
            }
        }
        let attr = match caller {
            Some(caller) => mount.fs.lookup_by(caller, node, name)?,
            None => mount.fs.lookup(node, name)?,
        };
        let attr = self.shown(&mount, attr);
        let mut held = Held::new(mount, attr);
        while held.attr.kind == FileKind::Directory
            && let Some(over) = self.mounts.over(held.attr.ino)
        {
            held = self.held(over.root())?;
        }
        Ok(held)
    }

    fn go(&self, caller: Option<&Caller>, path: &Path, follow: Follow) -> Result<Walked, Error> {
        match path.as_os_str().len() {
            0 => return Err(Error::plain(Errno::ENOENT)),
            len if len > PATH_BYTES_MAX => return Err(Error::plain(Errno::ENAMETOOLONG)),
            _ => {}
        }
        let mut left = components(path.as_os_str());
        let mut walked = Walked { way: Vec::new(), missing: Vec::new() };
        let root = self.held(Ino::ROOT)?;
        let mut links = 0;
        while let Some(name) = left.pop() {
            let at = walked.way.last().map_or(&root, |(_, held)| held);
            if at.attr.kind != FileKind::Directory {
                return Err(Error::plain(Errno::ENOTDIR));
            }
            if let Some(caller) = caller {
                may(caller, &at.attr, Access::Execute)?;
            }
            match name.as_bytes() {
                b"" | b"." => continue,
                b".." => {
                    walked.way.pop();
                    continue;
                }
                _ => {}
            }
            let next = match self.step(at.attr.ino, &name) {
                Ok(next) => next,
                Err(refusal) if refusal.errno == Errno::ENOENT => {
                    left.push(name);
                    walked.missing = left.into_iter().rev().collect();
                    return Ok(walked);
                }
                Err(refusal) => return Err(refusal),
            };
            let is_last = left.is_empty() && follow == Follow::No;
            if next.attr.kind != FileKind::Symlink || is_last {
                walked.way.push((name, next));
                continue;
            }
            links += 1;
            if links > SYMLINKS_MAX {
                return Err(Error::plain(Errno::ELOOP));
            }
            let target = next.mount.fs.readlink(next.attr.ino.split().1)?;
            if target.as_bytes().first() == Some(&b'/') {
                walked.way.clear();
            }
            left.extend(components(&target));
        }
        Ok(walked)
    }

    fn arrive(
        &self,
        caller: Option<&Caller>,
        path: &Path,
        follow: Follow,
    ) -> Result<Walked, Error> {
        let walked = self.go(caller, path, follow)?;
        if walked.missing.is_empty() {
            return Ok(walked);
        }
        Err(Error::new(Errno::ENOENT, format!("{}: no such file or directory", path.display())))
    }

    /// The path of an inode without `.`, `..` and links, and the inode held.
    pub(super) fn find(&self, path: &Path, follow: Follow) -> Result<(PathBuf, Held), Error> {
        let mut walked = self.arrive(None, path, follow)?;
        let whole = walked.path();
        match walked.way.pop() {
            Some((_, held)) => Ok((whole, held)),
            None => Ok((whole, self.held(Ino::ROOT)?)),
        }
    }

    /// The inode of a path from the root, with nobody's permissions asked. Counts nothing.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ELOOP`, `ENAMETOOLONG`.
    pub fn walk(&self, path: &Path, follow: Follow) -> Result<Ino, Error> {
        Ok(self.find(path, follow)?.1.attr.ino)
    }

    /// The same, through directories that `caller` may search (by user and group alone: of further
    /// groups nothing is known here).
    ///
    /// # Errors
    /// Those of walk; `EACCES`.
    pub fn walk_as(&self, caller: &Caller, path: &Path, follow: Follow) -> Result<Ino, Error> {
        let walked = self.arrive(Some(caller), path, follow)?;
        Ok(walked.way.last().map_or(Ino::ROOT, |(_, held)| held.attr.ino))
    }

    /// Whether the permission bits let `caller` do it, for calls that the kernel does not check.
    ///
    /// # Errors
    /// `EACCES`, `ESTALE`.
    pub fn check(&self, caller: &Caller, ino: Ino, access: Access) -> Result<(), Error> {
        may(caller, &self.getattr(ino)?, access)
    }

    /// How a path becomes a device. What is missing from the tree is taken as written.
    ///
    /// # Errors
    /// `ENOTDIR`, `ELOOP`, `ENAMETOOLONG`.
    pub fn resolve(&self, path: &Path) -> Result<Resolution, Error> {
        let walked = self.go(None, path, Follow::Yes)?;
        let mut whole = walked.path();
        for name in &walked.missing {
            match name.as_bytes() {
                b"" | b"." => {}
                b".." => drop(whole.pop()),
                _ => whole.push(name),
            }
        }
        let mount = self.mounts.longest(&whole).ok_or_else(|| Error::plain(Errno::ENOENT))?;
        let attr = match (walked.way.last(), walked.missing.is_empty()) {
            (Some((_, held)), true) => Some(held.attr.clone()),
            (None, true) => Some(self.getattr(Ino::ROOT)?),
            (_, false) => None,
        };
        let own = attr.as_ref().and_then(special);
        let special = match own {
            None if mount.what.device.starts_with('/') => {
                let volume = self.find(Path::new(&mount.what.device), Follow::Yes);
                volume.ok().and_then(|(_, held)| special(&held.attr))
            }
            _ => own,
        };
        let device = if own.is_some() {
            whole.to_string_lossy().into_owned()
        } else {
            mount.what.device.clone()
        };
        Ok(Resolution {
            path: whole,
            prefix: mount.what.prefix.clone(),
            device,
            kind: mount.what.kind.clone(),
            inode: attr.map(|attr| (attr.ino, attr.kind)),
            special,
        })
    }
}

fn special(attr: &Attr) -> Option<(Ino, crate::file::Device)> {
    match attr.kind {
        FileKind::Device(device) => Some((attr.ino, device)),
        _ => None,
    }
}

/// What the permission bits say; user 0 may all, but execute only what somebody may.
fn may(caller: &Caller, attr: &Attr, access: Access) -> Result<(), Error> {
    let bit = match access {
        Access::Read => 4,
        Access::Write => 2,
        Access::Execute => 1,
    };
    let shift = match () {
        () if caller.uid == attr.uid => 6,
        () if caller.gid == attr.gid => 3,
        () => 0,
    };
    let is_search = access != Access::Execute || attr.kind == FileKind::Directory;
    let is_allowed = match caller.uid {
        0 => is_search || attr.mode & 0o111 != 0,
        _ => attr.mode >> shift & bit != 0,
    };
    if is_allowed { Ok(()) } else { Err(Error::plain(Errno::EACCES)) }
}
