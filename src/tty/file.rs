//! An open terminal: reads, writes and polls, none of which waits here.

use super::termios::{ICANON, Termios, cc};
use super::{State, Tty, ioctl};
use crate::character::{POLL_HUNG_UP, POLL_READ, POLL_WRITE};
use crate::error::{Errno, Error, flags};
use crate::file::{
    Answer, Blocked, Call, FileOps, IoctlAnswer, IoctlCall, Nature, Polled, Seek, SyncKind, Turn,
};
use crate::holders::Claim;
use crate::own;
use crate::sync::Arc;
use devices::{Clock, SimTime, WaitQueue};

/// `POLLERR`.
const POLL_ERROR: u32 = 0x8;
/// Nanoseconds in the unit of TIME.
const TENTH: u64 = 100_000_000;

/// An open terminal.
pub struct TtyFile {
    tty: Arc<Tty>,
    /// Hangups before it was opened.
    hangups: u64,
    claim: Option<Claim>,
}

/// A read under way.
struct Reading {
    tty: Arc<Tty>,
    hangups: u64,
    len: usize,
    begun: SimTime,
    /// When the readers will be rung for its sake.
    alarm: SimTime,
}

impl Reading {
    /// What there is to read; `None`: it must wait.
    fn take(&mut self, is_impatient: bool) -> Option<Vec<u8>> {
        let tty = Arc::clone(&self.tty);
        let mut state = tty.state.lock();
        if self.len == 0 {
            return Some(Vec::new());
        }
        if state.hangups != self.hangups {
            // Nobody has opened it anew: what is left came in before the hangup.
            let rest = if state.is_up { 0 } else { self.len };
            return Some(state.discipline.read_rest(rest));
        }
        let termios = state.discipline.termios();
        let time = u64::from(termios.special(cc::TIME)) * TENTH;
        let least = Tty::least(termios, self.len);
        let has_any = state.discipline.has_input(1);
        let is_due = match least {
            None => has_any,
            Some(0) => has_any || time == 0 || self.is_late(self.begun, time),
            Some(least) => {
                let first = state.heard_at.max(self.begun);
                state.discipline.has_input(least)
                    || (has_any && (is_impatient || (time > 0 && self.is_late(first, time))))
            }
        };
        if !is_due {
            return None;
        }
        let data = state.discipline.read(self.len);
        tty.hold_or_not(&mut state);
        Some(data)
    }

    /// Whether the time since `start` is over; if not, has the readers rung when it will be.
    fn is_late(&mut self, start: SimTime, time: u64) -> bool {
        let (now, end) = (self.tty.engine.now(), start.after(time));
        if now >= end {
            return true;
        }
        if self.alarm <= now {
            self.alarm = end;
            let bell = Arc::clone(&self.tty.readable);
            self.tty.engine.after(end.since(now), move || bell.ring());
        }
        false
    }
}

/// A write under way.
struct Writing {
    tty: Arc<Tty>,
    hangups: u64,
    data: Vec<u8>,
    done: usize,
}

impl Writing {
    /// Gives the port what it takes. `None`: there is more.
    fn give(&mut self) -> Option<Result<usize, Error>> {
        let given = give(&self.tty, self.hangups, &self.data[self.done..]);
        self.tty.engine.crank();
        match given {
            Ok(taken) => self.done += taken,
            Err(error) => return Some(if self.done > 0 { Ok(self.done) } else { Err(error) }),
        }
        (self.done == self.data.len()).then_some(Ok(self.done))
    }
}

/// Gives the port what it takes of `data`; answers how much that was.
fn give(tty: &Tty, hangups: u64, data: &[u8]) -> Result<usize, Error> {
    let mut state = tty.state.lock();
    if state.hangups != hangups {
        return Err(Error::plain(Errno::EIO));
    }
    let mut out = Vec::new();
    let room = tty.port.room();
    let taken = state.discipline.write(data, room, &mut out);
    // Only this terminal sends to its port, under its lock: the room is still there.
    tty.port.send(&out);
    tty.note_room(&mut state);
    Ok(taken)
}

impl TtyFile {
    pub(super) fn new(tty: Arc<Tty>, hangups: u64, claim: Option<Claim>) -> TtyFile {
        TtyFile { tty, hangups, claim }
    }

    pub(super) fn is_hung_up(&self, state: &State) -> bool {
        state.hangups != self.hangups
    }

    /// Waits until everything is sent, then does the rest.
    pub(super) fn drained<T: 'static>(
        &self,
        then: impl FnOnce(&Tty) -> Result<T, Error> + Send + 'static,
    ) -> Answer<T> {
        let (tty, hangups) = (Arc::clone(&self.tty), self.hangups);
        let mut then = Some(then);
        let mut attempt = move || {
            let is_over = {
                let state = tty.state.lock();
                state.hangups != hangups || tty.port.unsent() == 0
            };
            is_over.then(|| then.take().map(|then| then(&tty)))?
        };
        self.tty.engine.crank();
        let (queue, seen) = (Arc::clone(&self.tty.writable), self.tty.writable.generation());
        match attempt() {
            Some(Ok(value)) => Answer::Now(value),
            Some(Err(error)) => Answer::Later(Box::new(move |_| Err(error))),
            None => {
                let retry = Box::new(move |_: Turn| attempt());
                Answer::Blocked(Blocked { queue, seen, retry })
            }
        }
    }
}

impl FileOps for TtyFile {
    fn kind(&self) -> &'static str {
        "char"
    }

    fn nature(&self) -> Nature {
        // Else the host would have a second writer wait, deaf, until the first is answered. (It
        // does so still where a write begins or ends past the size that is shown.)
        let has_parallel_writes = true;
        Nature { is_direct: true, is_stream: true, has_parallel_writes, ..Nature::default() }
    }

    fn read(
        &self,
        call: &Call,
        _at: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Answer<usize, Vec<u8>>, Error> {
        let is_impatient = call.flags & flags::O_NONBLOCK != 0;
        let mut reading = Reading {
            tty: Arc::clone(&self.tty),
            hangups: self.hangups,
            len: buf.len(),
            begun: self.tty.engine.now(),
            alarm: SimTime(0),
        };
        let (queue, seen) = (Arc::clone(&self.tty.readable), self.tty.readable.generation());
        if let Some(data) = reading.take(is_impatient) {
            self.tty.engine.crank();
            buf[..data.len()].copy_from_slice(&data);
            return Ok(Answer::Now(data.len()));
        }
        if is_impatient {
            return Err(Error::plain(Errno::EAGAIN));
        }
        let retry = Box::new(move |_: Turn| {
            let data = reading.take(false)?;
            reading.tty.engine.crank();
            Some(Ok(data))
        });
        Ok(Answer::Blocked(Blocked { queue, seen, retry }))
    }

    fn write(&self, call: &Call, _at: u64, data: &[u8]) -> Result<Answer<usize>, Error> {
        let (queue, mut seen) = (Arc::clone(&self.tty.writable), self.tty.writable.generation());
        let mut done = give(&self.tty, self.hangups, data)?;
        if self.tty.engine.crank() && done < data.len() {
            seen = queue.generation();
            done += give(&self.tty, self.hangups, &data[done..]).unwrap_or(0);
        }
        let is_impatient = call.flags & flags::O_NONBLOCK != 0;
        if done == data.len() || (is_impatient && done > 0) {
            return Ok(Answer::Now(done));
        }
        if is_impatient {
            return Err(Error::plain(Errno::EAGAIN));
        }
        let (tty, hangups) = (Arc::clone(&self.tty), self.hangups);
        let mut writing = Writing { tty, hangups, data: data.to_vec(), done };
        let retry = Box::new(move |turn| match (writing.give(), turn) {
            (None, Turn::Last) if writing.done > 0 => Some(Ok(writing.done)),
            (answer, _) => answer,
        });
        Ok(Answer::Blocked(Blocked { queue, seen, retry }))
    }

    /// Until everything is sent, as tcdrain(3).
    fn sync(&self, _call: &Call, _kind: SyncKind) -> Result<Answer<()>, Error> {
        Ok(self.drained(|_| Ok(())))
    }

    fn release(&self) {
        self.tty.close();
        if let Some(claim) = &self.claim {
            claim.give_up();
        }
    }

    fn ioctl(&self, call: &Call, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
        if let Some(claim) = self.claim.as_ref().filter(|_| ioctl.cmd != own::SPINDLE_SENSE) {
            let (unit, last) = ((&*self.tty.name, claim), own::Last::default);
            if let Some(answer) = own::obey(call, ioctl, unit, &self.tty.engine, last) {
                return answer;
            }
        }
        ioctl::obey(self, &self.tty, call, ioctl)
    }

    fn seek(&self, _at: u64, _which: Seek) -> Result<Answer<u64>, Error> {
        Err(Error::plain(Errno::ESPIPE))
    }

    fn poll_queues(&self) -> Vec<Arc<WaitQueue>> {
        vec![Arc::clone(&self.tty.readable), Arc::clone(&self.tty.writable)]
    }

    fn poll(&self, _call: &Call) -> Polled {
        let mut state = self.tty.state.lock();
        self.tty.note_room(&mut state);
        let news = state.news;
        if self.is_hung_up(&state) {
            return Polled { ready: POLL_READ | POLL_WRITE | POLL_HUNG_UP | POLL_ERROR, news };
        }
        let least = poll_least(state.discipline.termios());
        let mut ready = 0;
        if state.discipline.has_input(least) {
            ready |= POLL_READ;
        }
        if state.has_room {
            ready |= POLL_WRITE;
        }
        Polled { ready, news }
    }
}

/// Characters that make a terminal readable for poll(2): MIN, unless TIME has a say.
fn poll_least(termios: &Termios) -> usize {
    let min = usize::from(termios.special(cc::MIN));
    if termios.has_local(ICANON) || termios.special(cc::TIME) > 0 { 1 } else { min.max(1) }
}
