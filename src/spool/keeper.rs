//! The spool's housekeeper: a thread for what nobody waits for, and nobody may be held up by.
//!
//! 1. A file is taken away only when it is durable that it is nobody's.
//! 2. The journal is shortened here, by one at a time.

use super::Spool;
use super::journal::Mark;
use crate::sync::{Arc, Mutex};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Something to be done.
enum Chore {
    /// Take files away, once the journal is durable so far.
    Discard(Option<Mark>, Vec<PathBuf>),
    /// Look whether the journal is long.
    Tidy,
}

/// The thread, while the spool is started.
#[derive(Default)]
pub(super) struct Keeper {
    chores: Mutex<Option<Sender<Chore>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// The host's, when it refuses a thread.
    pub(super) fn start(&self, spool: &Arc<Spool>) -> std::io::Result<()> {
        let (sender, chores) = channel();
        // Weak: the spool has its keeper.
        let spool = Arc::downgrade(spool);
        let run = move || {
            if let Some(spool) = spool.upgrade() {
                work(&spool, &chores);
            }
        };
        let handle = std::thread::Builder::new().name("spool-keeper".into()).spawn(run)?;
        *self.thread.lock() = Some(handle);
        *self.chores.lock() = Some(sender);
        Ok(())
    }

    /// Ends the thread when all is done that it was given.
    pub(super) fn stop(&self) {
        drop(self.chores.lock().take());
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            log::error!(target: "spool", "the keeper panicked");
        }
    }

    /// Has files taken away once the journal is durable up to `mark`; does so itself where there
    /// is no thread.
    pub(super) fn discard(&self, spool: &Spool, mark: Option<Mark>, files: Vec<PathBuf>) {
        let chore = Chore::Discard(mark, files);
        let refused = match &*self.chores.lock() {
            Some(chores) => chores.send(chore).err().map(|refused| refused.0),
            None => Some(chore),
        };
        if let Some(chore) = refused {
            chore.run(spool);
        }
    }

    /// Has the journal looked at.
    pub(super) fn tidy(&self) {
        if let Some(chores) = &*self.chores.lock() {
            let _ = chores.send(Chore::Tidy); // nobody there: the next start does it
        }
    }
}

fn work(spool: &Spool, chores: &Receiver<Chore>) {
    while let Ok(chore) = chores.recv() {
        chore.run(spool);
    }
}

impl Chore {
    fn run(self, spool: &Spool) {
        match self {
            Chore::Tidy => spool.tidy(),
            Chore::Discard(mark, files) => {
                // What is not taken away is by the next start, which knows whose it is.
                match mark.map_or(Ok(()), |mark| spool.journal.sync(mark)) {
                    Ok(()) => files.iter().for_each(|path| spool.discard(path)),
                    Err(error) => log::warn!(target: "spool", "files are left: {error}"),
                }
            }
        }
    }
}
