//! One tape drive: whose turn it is, and the call under way.
//!
//! A call is a little program over [`Tape`] that stops wherever the hardware takes its time. Its
//! caller is answered `WouldBlock` then, and goes on with it by making the same call again.
//!
//! 1. A call belongs to whoever has the turn ([`Drive::begin`]). Its first try begins it, the
//!    further tries only go on; the last one hands out the answer.
//! 2. A call whose caller is gone ([`Drive::end`]) is brought to its end by the engine. What a read
//!    had got then is kept for the next one.
//! 3. The engine is cranked, and queues are rung, with no lock held.

use super::link::Link;
use super::mtio::MtOp;
use super::tape::Tape;
use crate::contract::{Failure, IoError, Origin, WaitQueue};
use crate::engine::Engine;
use crate::sync::{Arc, Mutex, MutexGuard};
use std::future::Future;
use std::pin::Pin;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What a call is: a further try must be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Read {
        at: u64,
        len: usize,
    },
    Write {
        at: u64,
        len: usize,
    },
    Operate(MtOp, i32),
    /// A command that leaves the tape where it is.
    Ask,
    Sync,
    Close,
    Insert,
    Remove,
}

pub(super) type Answer = Result<usize, IoError>;
type Program = Pin<Box<dyn Future<Output = (Box<Tape>, Answer)> + Send>>;

/// How often a call waits for another thread that runs the hardware's event, a millisecond each.
const PATIENCE: u32 = 2;

enum Work {
    Idle(Box<Tape>),
    Busy {
        call: Call,
        program: Program,
        is_orphan: bool,
    },
    /// A program broke down and took the tape's state with it.
    Lost,
}

struct Desk {
    work: Work,
    turn: Option<Origin>,
    is_open: bool,
    /// An opening has ended, and this was not yet begun: whether it rewinds.
    close_due: Option<bool>,
    failure: Option<Failure>,
    place: Place,
}

/// Where a tape stood after the last call, in the words of `MTIOCGET`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: i32,
    pub(super) block: i32,
    pub(super) density: u8,
}

impl Place {
    fn of(tape: &Tape) -> Place {
        let told = tape.told_status();
        Place { file: told.fileno, block: told.blkno, density: tape.density }
    }
}

/// See the head of this file.
pub(super) struct Drive {
    me: Weak<Drive>,
    engine: Arc<Engine>,
    pub(super) link: Arc<Link>,
    desk: Mutex<Desk>,
    /// Whether the engine must bring the call under way to its end; written under `desk`.
    is_forsaken: AtomicBool,
}

impl Drive {
    pub(super) fn new(engine: Arc<Engine>, link: Arc<Link>, tape: Tape) -> Arc<Drive> {
        let place = Place::of(&tape);
        let work = Work::Idle(Box::new(tape));
        Arc::new_cyclic(|me| Drive {
            me: me.clone(),
            engine,
            link,
            desk: Mutex::new(Desk {
                work,
                turn: None,
                is_open: false,
                close_due: None,
                failure: None,
                place,
            }),
            is_forsaken: AtomicBool::new(false),
        })
    }

    pub(super) fn waits(&self) -> &Arc<WaitQueue> {
        &self.link.waits
    }

    /// Takes the drive for one opener.
    pub(super) fn take(&self) -> Result<(), IoError> {
        let mut desk = self.desk.lock();
        if std::mem::replace(&mut desk.is_open, true) { Err(IoError::Busy) } else { Ok(()) }
    }

    /// Gives it back.
    pub(super) fn give_back(&self) {
        self.desk.lock().is_open = false;
        self.waits().ring();
    }

    pub(super) fn is_open(&self) -> bool {
        self.desk.lock().is_open
    }

    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.desk.lock().work, Work::Idle(_))
    }

    pub(super) fn place(&self) -> Place {
        self.desk.lock().place
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        self.desk.lock().failure
    }

    /// A call of `origin` wants its turn.
    pub(super) fn begin(&self, origin: &Origin) -> Result<(), IoError> {
        let mut desk = self.desk.lock();
        match &desk.turn {
            Some(other) if other != origin => Err(IoError::WouldBlock),
            _ => {
                desk.turn = Some(*origin);
                self.link.pid.store(origin.pid, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// The call of `origin` was answered, or its caller is gone.
    pub(super) fn end(&self, origin: &Origin) {
        let mut desk = self.desk.lock();
        if desk.turn != Some(*origin) {
            return;
        }
        desk.turn = None;
        self.forsake(desk);
        self.waits().ring();
    }

    /// Whether the call under way is of `origin`, and puts something on the tape.
    pub(super) fn is_writing(&self, origin: &Origin) -> bool {
        let desk = self.desk.lock();
        let Work::Busy { call, is_orphan: false, .. } = &desk.work else { return false };
        let is_writing = match call {
            Call::Write { .. } => true,
            Call::Operate(op, _) => matches!(op, MtOp::Weof | MtOp::Weofi),
            _ => false,
        };
        is_writing && desk.turn == Some(*origin)
    }

    /// Makes a call, or goes on with it. `make` gets the tape ready where the call is new; the
    /// program runs; `hand_out` gets what it answered.
    pub(super) fn call<F, R>(
        &self,
        call: Call,
        make: impl FnOnce(Box<Tape>) -> F,
        hand_out: impl FnOnce(&mut Tape, usize) -> R,
    ) -> Result<R, IoError>
    where
        F: Future<Output = (Box<Tape>, Answer)> + Send + 'static,
    {
        let (mut make, mut patience) = (Some(make), PATIENCE);
        loop {
            let seen = self.waits().generation();
            let mut desk = self.desk.lock();
            desk.start_due();
            match &mut desk.work {
                Work::Lost => return Err(IoError::Hardware),
                Work::Idle(_) => {
                    if let Some(make) = make.take() {
                        desk.start(call, make);
                    }
                }
                Work::Busy { call: other, is_orphan, .. } => {
                    // Without turns, who makes another call has left the first.
                    *is_orphan |= *other != call;
                    if !*is_orphan {
                        make = None;
                    }
                }
            }
            let is_mine = make.is_none();
            match desk.go_on() {
                Some(answer) if is_mine => {
                    let Work::Idle(tape) = &mut desk.work else { return Err(IoError::Hardware) };
                    return answer.map(|count| hand_out(tape, count));
                }
                Some(_) => continue, // what was left by others is over
                None => drop(desk),
            }
            if !self.turn_over(seen, &mut patience) {
                if !is_mine {
                    self.leave();
                }
                return Err(IoError::WouldBlock);
            }
        }
    }

    /// Lets the hardware do what takes no time. `false`: what is under way takes time.
    fn turn_over(&self, seen: u64, patience: &mut u32) -> bool {
        self.engine.crank();
        if self.link.is_done() {
            return true;
        }
        // Nothing takes time, but another thread runs the event: it will not be long.
        if !self.link.is_moving() && *patience > 0 {
            *patience -= 1;
            self.waits().wait(seen, Some(Duration::from_millis(1)));
            return true;
        }
        self.link.watch();
        false
    }

    /// The last close. Nobody waits for it; whoever calls next does.
    pub(super) fn close(&self, rewinds: bool) {
        let mut desk = self.desk.lock();
        desk.close_due = Some(desk.close_due.unwrap_or(false) | rewinds);
        desk.turn = None; // no call of this opening can come any more
        drop(desk);
        let mut patience = PATIENCE;
        loop {
            let seen = self.waits().generation();
            let mut desk = self.desk.lock();
            desk.start_due();
            if !matches!(desk.work, Work::Busy { .. }) {
                break;
            }
            let is_over = desk.go_on().is_some();
            drop(desk);
            if !is_over && !self.turn_over(seen, &mut patience) {
                self.leave();
                break;
            }
        }
        self.desk.lock().is_open = false;
        self.waits().ring();
    }

    /// Nobody waits for the call under way any more.
    pub(super) fn leave(&self) {
        self.forsake(self.desk.lock());
    }

    /// From now on the engine sees to the call under way, if there is one.
    fn forsake(&self, mut desk: MutexGuard<'_, Desk>) {
        let Work::Busy { is_orphan, .. } = &mut desk.work else { return };
        *is_orphan = true;
        self.is_forsaken.store(true, Ordering::Release);
        drop(desk);
        self.nudge();
    }

    fn nudge(&self) {
        let me = self.me.clone();
        // Not at once: that would wake nobody.
        self.engine.after(1, move || {
            if let Some(drive) = me.upgrade() {
                drive.go_on_for_nobody();
            }
        });
    }

    fn go_on_for_nobody(&self) {
        let mut desk = self.desk.lock();
        let mut over = false;
        while !over {
            desk.start_due();
            if !matches!(desk.work, Work::Busy { is_orphan: true, .. }) {
                over = true;
            } else if desk.go_on().is_none() {
                break;
            }
        }
        self.is_forsaken.store(!over, Ordering::Release);
        drop(desk);
        if over {
            self.waits().ring();
        } else {
            self.link.watch();
        }
    }

    /// The interrupt.
    pub(super) fn interrupt(&self) {
        self.link.interrupt();
        if self.is_forsaken.load(Ordering::Acquire) {
            self.nudge();
        }
    }
}

impl Desk {
    fn start<F>(&mut self, call: Call, make: impl FnOnce(Box<Tape>) -> F)
    where
        F: Future<Output = (Box<Tape>, Answer)> + Send + 'static,
    {
        if let Work::Idle(tape) = std::mem::replace(&mut self.work, Work::Lost) {
            self.work = Work::Busy { call, program: Box::pin(make(tape)), is_orphan: false };
        }
    }

    /// Starts the end of the last opening, when the tape is free.
    fn start_due(&mut self) {
        if !matches!(self.work, Work::Idle(_)) {
            return;
        }
        if let Some(rewinds) = self.close_due.take() {
            self.start(Call::Close, |mut tape| async move {
                let done = tape.close(rewinds).await;
                (tape, done.map(|()| 0))
            });
            if let Work::Busy { is_orphan, .. } = &mut self.work {
                *is_orphan = true;
            }
        }
    }

    /// Lets the call under way go on until it must wait; its answer when it is over.
    fn go_on(&mut self) -> Option<Answer> {
        let work = std::mem::replace(&mut self.work, Work::Lost);
        let Work::Busy { call, mut program, is_orphan } = work else {
            self.work = work;
            return None;
        };
        match program.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => {
                self.work = Work::Busy { call, program, is_orphan };
                None
            }
            Poll::Ready((mut tape, answer)) => {
                self.failure = tape.failure;
                self.place = Place::of(&tape);
                match (call, is_orphan, answer) {
                    (Call::Read { .. }, true, Ok(got)) => tape.kept = Some(got),
                    (_, true, Err(why)) => log::warn!(target: "st", "{call:?}: {why}"),
                    _ => {}
                }
                self.work = Work::Idle(tape);
                Some(answer)
            }
        }
    }
}
