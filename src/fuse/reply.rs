//! Answering: one way for what is done at once, and one for what must wait first.
//!
//! Every request is answered exactly once: a reply that is dropped, by a panic too, answers EIO
//! (fuser sees to that). With the log's level `debug` a request makes a line when it begins and
//! one with the same number when it ends.

use super::Door;
use super::lobby::{Entry, Guest};
use super::park::Park;
use super::work::Job;
use crate::error::{Errno, Error};
use crate::file::{Answer, Blocked, Call, Caller, Later, Turn};
use crate::sync::Arc;
use crate::vfs::{Ino, Vfs};
use fuser::Request;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A reply that can carry an error.
pub(super) trait Refuse: Send + 'static {
    fn refuse(self, errno: fuser::Errno);
}

macro_rules! refuse {
    ($($reply:ident)*) => {
        $(impl Refuse for fuser::$reply {
            fn refuse(self, errno: fuser::Errno) {
                self.error(errno);
            }
        })*
    };
}

refuse! {
    ReplyAttr ReplyCreate ReplyData ReplyDirectory ReplyEmpty ReplyEntry ReplyIoctl ReplyLseek
    ReplyOpen ReplyPoll ReplyStatfs ReplyWrite ReplyXattr
}

/// Who asks.
pub(super) fn caller(req: &Request) -> Caller {
    Caller { pid: req.pid(), uid: req.uid(), gid: req.gid() }
}

/// A call of `req` on a file with `flags`.
pub(super) fn call(req: &Request, flags: i32) -> Call {
    Call { caller: caller(req), flags, id: req.unique().0 }
}

/// Runs a call; a panic in it is an EIO.
pub(super) fn guarded<T>(id: u64, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        log::error!(target: "fuse", "{id} panicked; it answers EIO");
        Err(Error::plain(Errno::EIO))
    })
}

/// Sends what a call came to. Sending is trivial, but the reading thread must outlive it too.
pub(super) fn conclude<T, R: Refuse>(
    id: u64,
    result: Result<T, Error>,
    reply: R,
    send: impl FnOnce(T, R),
) {
    match result {
        Ok(answer) => {
            log::debug!(target: "fuse", "{id} done");
            // A panic drops the reply, which answers EIO.
            let _ = guarded(id, || {
                send(answer, reply);
                Ok(())
            });
        }
        Err(error) => {
            log::debug!(target: "fuse", "{id} {}: {error}", error.errno.name());
            reply.refuse(wire(error.errno));
        }
    }
}

/// An error number that the host takes. ENOSYS would switch the operation off for good, and a
/// number that is none would be refused, leaving the caller without an answer.
pub(super) fn wire(errno: Errno) -> fuser::Errno {
    match errno.0 {
        libc::ENOSYS => fuser::Errno::EOPNOTSUPP,
        number @ 1..512 => fuser::Errno::from_i32(number),
        _ => fuser::Errno::EIO,
    }
}

impl Door {
    /// Answers a call that never waits.
    pub(super) fn answer<T, R: Refuse>(
        &self,
        req: &Request,
        reply: R,
        run: impl FnOnce() -> Result<T, Error>,
        send: impl FnOnce(T, R),
    ) {
        let id = req.unique().0;
        conclude(id, guarded(id, run), reply, send);
    }

    /// Answers a call that changes the tree at `ino`, which takes a worker where it is slow.
    pub(super) fn answer_at<T: Send + 'static, R: Refuse>(
        &self,
        req: &Request,
        ino: Result<Ino, Error>,
        reply: R,
        run: impl FnOnce(&Vfs, Ino) -> Result<T, Error> + Send + 'static,
        send: impl FnOnce(T, R) + Clone + Send + 'static,
    ) {
        let settled = || {
            let ino = ino?;
            if !self.vfs.waits_at(ino) {
                return run(&self.vfs, ino).map(Answer::Now);
            }
            let vfs = Arc::clone(&self.vfs);
            Ok(Answer::Later(Box::new(move |_| run(&vfs, ino))))
        };
        self.answer_or_wait(req, 0, reply, settled, send.clone(), send);
    }

    /// Answers a call, on the open file `handle` if there is one, that may have to wait: then a
    /// worker does, or the lobby, holding the reply.
    pub(super) fn answer_or_wait<N, L: Send + 'static, R: Refuse>(
        &self,
        req: &Request,
        handle: u64,
        reply: R,
        run: impl FnOnce() -> Result<Answer<N, L>, Error>,
        send_now: impl FnOnce(N, R),
        send_later: impl FnOnce(L, R) + Send + 'static,
    ) {
        let id = req.unique().0;
        match guarded(id, run) {
            Ok(Answer::Now(answer)) => conclude(id, Ok(answer), reply, send_now),
            Ok(Answer::Later(later)) => self.wait(id, req.pid(), later, reply, send_later),
            Ok(Answer::Blocked(blocked)) => {
                self.block((id, handle, req.pid()), blocked, reply, send_later);
            }
            Err(error) => conclude::<N, R>(id, Err(error), reply, |_, _| ()),
        }
    }

    /// Hands the rest of a call to a worker; the caller's signals, and the unmount, end it.
    pub(super) fn wait<L: Send + 'static, R: Refuse>(
        &self,
        id: u64,
        tid: u32,
        later: Later<L>,
        reply: R,
        send: impl FnOnce(L, R) + Send + 'static,
    ) {
        log::debug!(target: "fuse", "{id} waits");
        let parked = self.park.enter(tid);
        let park = self.park.clone();
        let interrupt = Arc::clone(parked.interrupt());
        let run = Box::new(move |go: Result<(), Errno>| {
            let result = match go {
                Ok(()) => guarded(id, || later(parked.interrupt())),
                Err(errno) => Err(errno.into()),
            };
            drop(parked);
            conclude(id, result.map_err(|error| at_unmount(error, park.is_closed())), reply, send);
        });
        self.workers.run(Job { interrupt, run });
    }
}

/// A blocked call in the lobby.
struct Held<L, R, S> {
    id: u64,
    park: Park,
    retry: Box<dyn FnMut(Turn) -> Option<Result<L, Error>> + Send>,
    /// Until it is answered.
    answer: Option<(R, S)>,
}

impl<L, R: Refuse, S: FnOnce(L, R) + Send> Held<L, R, S> {
    fn conclude(&mut self, result: Result<L, Error>) {
        if let Some((reply, send)) = self.answer.take() {
            let result = result.map_err(|error| at_unmount(error, self.park.is_closed()));
            conclude(self.id, result, reply, send);
        }
    }
}

impl<L: Send, R: Refuse, S: FnOnce(L, R) + Send> Guest for Held<L, R, S> {
    fn try_again(&mut self, turn: Turn) -> bool {
        let retry = &mut self.retry;
        let tried = guarded(self.id, || Ok(retry(turn)));
        match (tried, turn) {
            (Ok(Some(result)), _) => self.conclude(result),
            (Ok(None), Turn::Rung) => return false,
            (Ok(None), Turn::Last) => self.conclude(Err(Errno::EINTR.into())),
            (Err(error), _) => self.conclude(Err(error)),
        }
        true
    }

    fn refuse(&mut self, errno: Errno) {
        self.conclude(Err(errno.into()));
    }
}

impl Door {
    /// Leaves a call in the lobby until its queue is rung, or its caller called away.
    pub(super) fn block<L: Send + 'static, R: Refuse>(
        &self,
        (id, handle, tid): (u64, u64, u32),
        blocked: Blocked<L>,
        reply: R,
        send: impl FnOnce(L, R) + Send + 'static,
    ) {
        log::debug!(target: "fuse", "{id} blocks");
        let (parked, park) = (self.park.enter(tid), self.park.clone());
        let Blocked { queue, seen, retry } = blocked;
        let guest = Box::new(Held { id, park, retry, answer: Some((reply, send)) });
        self.lobby.enter(Entry { queue, seen, handle, tid, parked, guest });
    }
}

/// Who is called away by the unmount hears EIO: nobody sent it a signal.
fn at_unmount(error: Error, is_closed: bool) -> Error {
    if is_closed && error.errno == Errno::EINTR {
        return Error::new(Errno::EIO, "the machine is being unmounted");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_call_is_an_eio() {
        let result: Result<(), Error> = guarded(7, || panic!("on purpose"));
        assert_eq!(result.unwrap_err().errno, Errno::EIO);
        assert_eq!(guarded(7, || Ok(3)).unwrap(), 3);
    }

    #[test]
    fn no_error_number_switches_an_operation_off_or_loses_the_answer() {
        assert_eq!(wire(Errno::EINTR), fuser::Errno::EINTR);
        assert_eq!(wire(Errno(libc::ENOSYS)), fuser::Errno::EOPNOTSUPP);
        for none in [0, -5, 512, i32::MAX, i32::MIN] {
            assert_eq!(wire(Errno(none)), fuser::Errno::EIO);
        }
    }

    #[test]
    fn an_unmount_turns_interrupted_into_eio_and_leaves_other_errors() {
        assert_eq!(at_unmount(Errno::EINTR.into(), true).errno, Errno::EIO);
        assert_eq!(at_unmount(Errno::EINTR.into(), false).errno, Errno::EINTR);
        assert_eq!(at_unmount(Errno::ENOSPC.into(), true).errno, Errno::ENOSPC);
    }
}
