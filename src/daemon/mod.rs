//! The daemon's life: from `spindle mount` to the end of the process, and the commands about it.
//!
//! 1. `mount` returns when the tree answers, or with the reason why it does not; then nothing is
//!    mounted, and no daemon is left.
//! 2. The daemon in the background keeps nothing of its caller: no descriptor, no session, no
//!    working directory.
//! 3. However the end comes (asked for, or the host let go of the tree), everything is written
//!    before the process ends; only SIGKILL is faster.
//!
//! It goes into the background by starting the same program again with the same arguments, rather
//! than by fork(2) alone, which may not be followed by threads, locks and memory as Rust uses them.

mod end;
mod find;
mod host;
mod start;
mod state;

pub use end::{Daemon, Mounted, list, umount};
pub use find::{AT_VARIABLE, death, find};
pub use start::mount;
pub use state::Report;

use crate::error::Error;
use crate::file::OpenFiles;
use crate::fuse::session::Users;
use crate::sync::Arc;
use crate::vfs::Vfs;
use std::path::{Path, PathBuf};

/// Where the daemon's life is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `mount` returns when the tree answers; the daemon logs to the state directory.
    Background,
    /// `mount` returns when the daemon's life is over; it logs to its standard error.
    Foreground,
}

/// What to mount where. Relative paths are the caller's.
#[derive(Clone, Debug)]
pub struct MountPlan {
    /// Where; made if there is no such directory.
    pub mountpoint: PathBuf,
    /// The state directory; made if there is none.
    pub state: PathBuf,
    /// Where the daemon lives.
    pub place: Place,
    /// Who may use the tree.
    pub users: Users,
}

/// A machine that runs, and the tree that shows it.
pub struct Booted {
    /// The tree.
    pub vfs: Arc<Vfs>,
    /// Its open files.
    pub files: Arc<OpenFiles>,
    /// Writes everything that is still to be written and stops the machine. Returns a line for
    /// each device where that failed. Called once, when nothing more can be written to the tree.
    pub shutdown: Box<dyn FnOnce() -> Vec<String> + Send>,
}

/// Boots the machine with its state in the directory given, which is held and writable.
pub type Boot<'a> = Box<dyn FnOnce(&Path) -> Result<Booted, Error> + 'a>;
