//! A mounted tree: how it is mounted, that it has ended, how it closes.
//!
//! As root and in a user name space the mount is made by mount(2); for an ordinary user fuser
//! falls back to `fusermount3`. The session ends when the host lets go of it: after umount(8),
//! `fusermount3 -u`, or the last close behind a lazy unmount; reading the device then gives ENODEV.

use super::Door;
use super::gate::Gate;
use super::lobby::Lobby;
use super::park::Park;
use super::work::Workers;
use crate::error::{Errno, Error};
use crate::sync::Arc;
use fuser::{Config, MountOption, SessionACL};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

/// The file system type in the host's mount table.
pub const KIND: &str = "fuse.spindle";

/// Who may use the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// Only who mounted it; also root may not.
    Owner,
    /// Everybody, as far as modes let them.
    All,
}

/// A mounted tree, served by threads of its own until it ends.
pub struct Session {
    workers: Workers,
    park: Park,
    lobby: Lobby,
    gate: Arc<Gate>,
    ended: io::PipeReader,
}

impl Session {
    /// Mounts `door` at `mountpoint`, an absolute path. The tree answers on return.
    ///
    /// # Errors
    /// In words: no FUSE device, or none for us; whatever mount(2) or fusermount3 say.
    pub fn start(door: Door, mountpoint: &Path, users: Users) -> Result<Session, Error> {
        check_device(Path::new("/dev/fuse"))?;
        let (workers, park) = (door.workers.clone(), door.park.clone());
        let lobby = door.lobby.clone();
        let (gate, wire) = (Arc::clone(&door.gate), door.wire.clone());
        let pages = Arc::clone(&door.pages);
        let (ended, hold) = io::pipe().map_err(|e| no_thread(&e))?;
        *door.hold.lock() = Some(hold);
        let session = fuser::Session::new(door, mountpoint, &options(users))
            .map_err(|refusal| explain(mountpoint, &refusal))?;
        match session.as_fd().try_clone_to_owned() {
            Ok(descriptor) => wire.open(descriptor),
            // Without it long answers are gathered, and sent as short ones are.
            Err(refusal) => log::warn!(target: "fuse", "one descriptor short: {refusal}"),
        }
        pages.open(session.notifier()).map_err(|e| no_thread(&e))?;
        // It reads on a thread of its own. Kept until the process ends: dropped, it unmounts
        // whatever is mounted at the same place by then, as it would when the session has ended.
        std::mem::forget(session.spawn().map_err(|e| no_thread(&e))?);
        Ok(Session { workers, park, lobby, gate, ended })
    }

    /// Polls as hung up once the session has ended.
    #[must_use]
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// From now on refuses what opens a file or leaves something to be written, and calls all
    /// that wait away with EIO.
    pub fn close(&self) {
        self.gate.close();
        self.park.close();
    }

    /// Waits for the calls that readers have begun, wait in the lobby or are with workers, at most
    /// `limit` for each. `false`: some are left.
    #[must_use]
    pub fn settle(&self, limit: Duration) -> bool {
        // In the order in which a call is handed on; one that hangs is no excuse for the next.
        let have_left = self.gate.settle(limit);
        let is_empty = self.lobby.settle(limit);
        self.workers.settle(limit) && is_empty && have_left
    }

    /// Ends the workers, waiting at most `limit`. `false`: some are left.
    #[must_use]
    pub fn end_workers(&self, limit: Duration) -> bool {
        self.workers.close(limit)
    }
}

fn options(users: Users) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("spindle".into()),
        // As an option of the kernel's, since fuser gives a `Subtype` only to fusermount3.
        MountOption::CUSTOM("subtype=spindle".into()),
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::DefaultPermissions,
    ];
    config.acl = match users {
        Users::Owner => SessionACL::Owner,
        Users::All => SessionACL::All,
    };
    config.n_threads = Some(super::readers::READERS);
    config
}

/// Whether we can have the FUSE device at all; fuser's own words for that help nobody.
fn check_device(device: &Path) -> Result<(), Error> {
    let Err(refusal) = OpenOptions::new().read(true).write(true).open(device) else {
        return Ok(());
    };
    let name = device.display();
    let (errno, why) = match refusal.kind() {
        io::ErrorKind::NotFound => (Errno::ENODEV, "is missing; as root: modprobe fuse".into()),
        io::ErrorKind::PermissionDenied => {
            (Errno::EACCES, "is not for this user; as root: chmod 666 /dev/fuse".into())
        }
        _ => (Errno::ENODEV, format!("does not open: {refusal}")),
    };
    Err(Error::new(errno, format!("{name} {why}")))
}

fn explain(mountpoint: &Path, refusal: &io::Error) -> Error {
    let host = refusal.raw_os_error().map(nix::errno::Errno::from_raw);
    let words = host.map_or_else(|| refusal.to_string(), |host| host.desc().to_owned());
    let words = words.trim();
    let why = if host == Some(nix::errno::Errno::EMFILE) {
        "too many open files: a machine wants 64 descriptors or more (ulimit -Hn)"
    } else if refusal.kind() == io::ErrorKind::NotFound {
        "cannot be mounted without fusermount3, which is not installed (package fuse3)"
    } else if words.is_empty() {
        "fusermount3 refused, and did not say why"
    } else {
        words
    };
    Error::new(Errno::EACCES, format!("{}: {why}", mountpoint.display()))
}

fn no_thread(refusal: &io::Error) -> Error {
    Error::new(Errno::ENOMEM, format!("no thread to serve the tree: {refusal}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_is_explained() {
        let error = check_device(Path::new("/nowhere/fuse")).unwrap_err();
        assert_eq!(error.errno, Errno::ENODEV);
        assert_eq!(error.what, "/nowhere/fuse is missing; as root: modprobe fuse");
    }

    #[test]
    fn the_tree_never_has_devices_or_set_id_programs_of_the_hosts() {
        for users in [Users::Owner, Users::All] {
            let options = options(users).mount_options;
            for must in [MountOption::NoDev, MountOption::NoSuid, MountOption::DefaultPermissions] {
                assert!(options.contains(&must));
            }
        }
        assert_eq!(options(Users::Owner).acl, SessionACL::Owner);
        assert_eq!(options(Users::All).acl, SessionACL::All);
    }

    #[test]
    fn a_refusal_without_words_gets_some() {
        let refusal = io::Error::other("fusermount3: user has no write access\n");
        assert_eq!(
            explain(Path::new("/m"), &refusal).what,
            "/m: fusermount3: user has no write access"
        );
        assert!(explain(Path::new("/m"), &io::Error::other("")).what.contains("fusermount3"));
        let full = io::Error::from(nix::errno::Errno::EMFILE);
        assert!(explain(Path::new("/m"), &full).what.ends_with("(ulimit -Hn)"));
        let host = io::Error::from(nix::errno::Errno::EINVAL);
        assert_eq!(explain(Path::new("/m"), &host).what, "/m: Invalid argument");
        let none = io::Error::from(io::ErrorKind::NotFound);
        assert!(explain(Path::new("/m"), &none).what.contains("package fuse3"));
    }
}
