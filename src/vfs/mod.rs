//! Names: one tree over many file systems; plain structs in, plain structs out, no FUSE.

use crate::file::Device;
use std::time::SystemTime;

/// Number of an inode in the whole tree: the FUSE node id. The root is [`Ino::ROOT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the tree.
    pub const ROOT: Ino = Ino(1);
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Bytes.
    Regular,
    /// Names.
    Directory,
    /// Another name.
    Symlink,
    /// A name for two processes to meet at; the host serves it.
    Fifo,
    /// The same for sockets.
    Socket,
    /// A special file. To the host it is a regular file, unless `Attr::shows_device`.
    Device(Device),
}

/// What stat(2) tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Which inode.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// Show the host a block or character inode (only under `/nodes`, where none can be opened).
    pub shows_device: bool,
    /// Permission bits, with set-id and sticky.
    pub mode: u16,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Room taken, in units of 512 bytes.
    pub blocks: u64,
    /// Preferred transfer, in bytes.
    pub blksize: u32,
    /// Last read.
    pub atime: SystemTime,
    /// Last change of the bytes.
    pub mtime: SystemTime,
    /// Last change of the inode.
    pub ctime: SystemTime,
    /// Whether the host may remember name and attributes for a second.
    pub may_be_remembered: bool,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// This one.
    To(SystemTime),
    /// The time of the call.
    Now,
}

/// What setattr changes; `None` stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length; on a device it succeeds and changes nothing.
    pub size: Option<u64>,
    /// Last read.
    pub atime: Option<SetTime>,
    /// Last change of the bytes.
    pub mtime: Option<SetTime>,
}

/// What mknod makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// A regular file, empty.
    Regular,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A special file.
    Device(Device),
}

/// How rename treats the new name (renameat2(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces what stands there.
    Replace,
    /// `RENAME_NOREPLACE`.
    NoReplace,
    /// `RENAME_EXCHANGE`.
    Exchange,
}

/// How setxattr treats what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Either.
    Any,
    /// `XATTR_CREATE`.
    Create,
    /// `XATTR_REPLACE`.
    Replace,
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its inode.
    pub ino: Ino,
    /// Where the listing goes on behind it. Stays valid while names come and go.
    pub next: u64,
    /// What it is.
    pub kind: FileKind,
    /// Its name.
    pub name: std::ffi::OsString,
}

/// What statfs(2) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// Blocks in all, free, and free for everybody, in units of `bsize`.
    pub blocks: u64,
    /// Free ones.
    pub bfree: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free ones.
    pub ffree: u64,
    /// Bytes in a block.
    pub bsize: u32,
    /// Longest name, in bytes.
    pub namelen: u32,
}

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Most symbolic links followed in one walk.
pub const SYMLINKS_MAX: usize = 40;
/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;

pub mod fs;
mod furnish;
mod inode;
mod memfs;
mod mounting;
mod mounts;
mod names;
mod nodesfs;
mod nodestore;
mod opens;
mod prefixes;
#[cfg(test)]
mod tests;
mod textfs;
mod tree;
mod walk;
mod xattr;

pub use fs::FileSystem;
pub use memfs::MemFs;
pub use mounting::Mounts;
pub use textfs::{ControlFile, ReportFile};
pub use tree::{Access, Follow, MountLine, NodeLine, Resolution, Unmount, Vfs};
