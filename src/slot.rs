//! Waiting for one request: the slot its completion fills, with memory and fate.

use crate::error::{Errno, Error};
use crate::sync::{Arc, Mutex};
use devices::engine::Engine;
use devices::{BlockDevice, Done, Failure, Interrupt, Request, WaitQueue};

/// Memory and fate of a finished request.
type Finished = (Vec<u8>, Result<(), Failure>);

/// A request under way; its memory comes back through here.
pub struct Slot {
    filled: Arc<Mutex<Option<Finished>>>,
    bell: Arc<WaitQueue>,
}

impl Slot {
    /// Submits the request that `make` makes around a completion, and turns the crank once: a unit
    /// without a timing model has then already served it.
    ///
    /// # Errors
    /// The device's refusal, with the memory that was not used.
    pub fn submit(
        engine: &Engine,
        device: &dyn BlockDevice,
        make: impl FnOnce(Done) -> Request,
    ) -> Result<Slot, (Failure, Vec<u8>)> {
        let slot = Slot { filled: Arc::default(), bell: Arc::default() };
        let (filled, bell) = (Arc::clone(&slot.filled), Arc::clone(&slot.bell));
        let done: Done = Box::new(move |memory, fate| {
            *filled.lock() = Some((memory, fate));
            bell.ring();
        });
        if let Err(rejected) = device.submit(make(done)) {
            let devices::Rejected(failure, mut request) = *rejected;
            let memory = std::mem::take(&mut request.data);
            request.finish(Err(failure));
            return Err((failure, memory));
        }
        engine.crank();
        Ok(slot)
    }

    /// What came back, if it has.
    #[must_use]
    pub fn take(&self) -> Option<Finished> {
        self.filled.lock().take()
    }

    /// Waits for it.
    ///
    /// # Errors
    /// `EINTR`; the request goes on, and its memory is dropped when it ends.
    pub fn wait(self, engine: &Engine, interrupt: &Interrupt) -> Result<Finished, Error> {
        let is_filled = || self.filled.lock().is_some();
        if engine.wait(&self.bell, Some(interrupt), is_filled).is_err() {
            return Err(Error::plain(Errno::EINTR));
        }
        self.take().ok_or_else(|| Error::plain(Errno::EIO))
    }
}
