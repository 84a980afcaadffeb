//! What an inode looks like to the host.
//!
//! A device inode is a regular file there: the host's kernel would open a block or character
//! inode itself, as its own device of that number, and we would never be asked. Its numbers are
//! lost in stat(2) by the same rule, hence the attribute `user.spindle.dev`.

use crate::file::{Device, DeviceKind};
use crate::vfs::{Attr, FileKind, Ino};
use devices::DevId;
use fuser::{FileAttr, FileType, INodeNo};
use std::time::{Duration, SystemTime};

/// How long the host may remember a name and its attributes.
pub(super) fn ttl(attr: &Attr) -> Duration {
    Duration::from_secs(u64::from(attr.may_be_remembered))
}

/// The type the host is told, and the numbers it shows.
fn kind(attr: &Attr) -> (FileType, u32) {
    match attr.kind {
        FileKind::Device(device) if attr.shows_device => (listed(attr.kind), encode(device.id)),
        FileKind::Device(_) => (FileType::RegularFile, 0),
        other => (listed(other), 0),
    }
}

/// The type in a directory listing. There a device may show itself: no kernel looks at it, and
/// `find -type b` finds disks.
pub(super) fn listed(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::Device(Device { kind: DeviceKind::Block, .. }) => FileType::BlockDevice,
        FileKind::Device(Device { kind: DeviceKind::Char, .. }) => FileType::CharDevice,
    }
}

/// Attributes as fuser takes them.
pub(super) fn shown(attr: &Attr) -> FileAttr {
    let (kind, rdev) = kind(attr);
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime,
        mtime: attr.mtime,
        ctime: attr.ctime,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: attr.mode & 0o7777,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev,
        blksize: attr.blksize,
        flags: 0,
    }
}

/// The first of the node numbers that answer mknod of a device, and stand for nothing.
const PLACEHOLDERS: u64 = 1 << 63;

/// What mknod of a device answers. The host insists on the type it asked for (else EIO), so it
/// gets that, under a number of its own and good for no time: its next lookup finds the real one.
pub(super) fn placeholder(attr: &Attr) -> FileAttr {
    let mut attr = attr.clone();
    attr.ino = Ino(attr.ino.0 | PLACEHOLDERS);
    attr.shows_device = true;
    shown(&attr)
}

/// Whether a node number is a placeholder's.
pub(super) fn is_placeholder(ino: INodeNo) -> bool {
    ino.0 & PLACEHOLDERS != 0
}

/// Device numbers as the FUSE protocol packs them (Linux's `new_encode_dev`): 12 bits of major,
/// the minor in two pieces about it.
fn encode(id: DevId) -> u32 {
    (id.minor & 0xff) | (u32::from(id.major) & 0xfff) << 8 | (id.minor & 0xf_ff00) << 12
}

/// The reverse.
pub(super) fn decode(rdev: u32) -> DevId {
    let major = u16::try_from(rdev >> 8 & 0xfff).unwrap_or(u16::MAX);
    DevId { major, minor: rdev & 0xff | rdev >> 12 & 0xf_ff00 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: FileKind) -> Attr {
        let epoch = SystemTime::UNIX_EPOCH;
        Attr {
            ino: Ino(7),
            kind,
            shows_device: false,
            mode: 0o660,
            nlink: 1,
            uid: 1,
            gid: 2,
            size: 3,
            blocks: 4,
            blksize: 4096,
            atime: epoch,
            mtime: epoch,
            ctime: epoch,
            may_be_remembered: true,
        }
    }

    const SD1: Device = Device { kind: DeviceKind::Block, id: DevId { major: 8, minor: 16 } };

    #[test]
    fn a_device_is_a_regular_file_unless_it_is_only_to_be_looked_at() {
        let mut sd1 = attr(FileKind::Device(SD1));
        assert_eq!((shown(&sd1).kind, shown(&sd1).rdev), (FileType::RegularFile, 0));
        sd1.shows_device = true;
        assert_eq!((shown(&sd1).kind, shown(&sd1).rdev), (FileType::BlockDevice, 0x810));
        assert_eq!(listed(sd1.kind), FileType::BlockDevice);
    }

    #[test]
    fn a_placeholder_has_the_asked_type_and_a_number_of_its_own() {
        let node = placeholder(&attr(FileKind::Device(SD1)));
        assert_eq!((node.kind, node.rdev, node.perm), (FileType::BlockDevice, 0x810, 0o660));
        assert!(is_placeholder(node.ino) && !is_placeholder(INodeNo(7)));
    }

    #[test]
    fn device_numbers_survive_their_packing() {
        assert_eq!(decode(0x801), DevId { major: 8, minor: 1 });
        assert_eq!(decode(0xfff1_03ff), DevId { major: 259, minor: 1_048_575 });
        for (major, minor) in [(0, 0), (8, 16), (259, 1_048_575), (4095, 0x1_2345)] {
            assert_eq!(decode(encode(DevId { major, minor })), DevId { major, minor });
        }
    }

    #[test]
    fn only_what_may_be_remembered_is() {
        let mut one = attr(FileKind::Regular);
        assert_eq!(ttl(&one), Duration::from_secs(1));
        one.may_be_remembered = false;
        assert_eq!(ttl(&one), Duration::ZERO);
    }
}
