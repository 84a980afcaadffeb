//! Terminals: a serial port below, a line discipline upon it, open files above.
//!
//! They stand in the kernel half, as in UNIX: a discipline knows open files, `O_NONBLOCK` and the
//! memory of its callers, of which a driver knows nothing; and one discipline serves every port.
//!
//! 1. Characters go through the discipline when they come in, not when they are read: so they are
//!    echoed, and START and STOP obeyed, at once.
//! 2. Nobody opens a terminal in vain: open never waits for a carrier.
//! 3. After a hangup every file that was open reads what had come in, then end of file, and writes
//!    EIO.
//! 4. The port is called with the terminal's lock held; it calls nothing back before it returns.
//!    Queues are rung, and the crank is turned, with no lock held.

pub mod discipline;
mod file;
mod ioctl;
pub mod termios;

pub use file::TtyFile;
pub use ioctl::COMMANDS;

use crate::error::{Errno, Error};
use crate::holders::Claim;
use crate::sync::{Arc, Mutex};
use devices::engine::Engine;
use devices::{Clock, Heard, RingState, SerialCounters, SerialPort, Signals, SimTime, WaitQueue};
use discipline::{Discipline, Effects, KEPT_MAX};
use termios::{CLOCAL, CRTSCTS, HUPCL, ICANON, IXOFF, Termios, cc};

/// The size that stat(2) shows. The host answers FIONREAD of a regular file itself: size less
/// offset, as an `int`, and would raise a smaller size with every write. Of this one an `int` holds
/// 0: "nothing to read", after which a program reads, or polls, and finds out; of any other it
/// would be told of characters that are not there (sz(1) waits for them forever).
pub const SHOWN_BYTES: u64 = 1 << 32;

/// So much waits to be read: the other end is asked to hold.
const HIGH: usize = KEPT_MAX * 3 / 4;
/// So little: it is asked to go on.
const LOW: usize = KEPT_MAX / 4;

/// A terminal.
pub struct Tty {
    name: String,
    port: Arc<dyn SerialPort>,
    engine: Arc<Engine>,
    state: Mutex<State>,
    /// Characters that the port takes when it has none.
    room_max: usize,
    /// Rung when there is something to read.
    readable: Arc<WaitQueue>,
    /// Rung when there is room, all is sent, or a modem line changed.
    writable: Arc<WaitQueue>,
}

struct State {
    discipline: Discipline,
    /// Kept for its room.
    heard: Vec<Heard>,
    heard_at: SimTime,
    opens: u32,
    /// How often it was hung up.
    hangups: u64,
    /// News so far for who polls, to read and to write.
    news: [u64; 2],
    /// The port would take what a poller wants to write.
    has_room: bool,
    /// DTR and RTS are raised.
    is_up: bool,
    has_carrier: bool,
    /// The other end was asked to hold.
    is_held: bool,
    /// Output is stopped by TCXONC.
    is_stopped: bool,
    is_exclusive: bool,
    /// Rows, columns, and two more that nobody looks at.
    window: [u16; 4],
}

/// A line of `proc/serial`.
pub struct Shown {
    /// Name of its node.
    pub name: String,
    /// First port and interrupt line.
    pub place: (u16, u8),
    /// As people write it: `9600 8N1`.
    pub settings: String,
    /// Open files.
    pub opens: u32,
    /// What arrives while it sends is lost.
    pub is_half_duplex: bool,
    /// How often its chip is looked at, in nanoseconds; `None`: it interrupts.
    pub poll_nanos: Option<u64>,
    /// The driver's rings, of what came in and of what is to be sent.
    pub rings: [RingState; 2],
    /// The modem lines.
    pub signals: Signals,
    /// What the driver counted.
    pub counters: SerialCounters,
    /// What the discipline threw away.
    pub dropped: u64,
    /// Characters that wait to be read, and to be sent.
    pub waiting: (usize, usize),
}

impl Tty {
    /// The terminal over a port.
    #[must_use]
    pub fn new(name: &str, port: Arc<dyn SerialPort>, engine: Arc<Engine>) -> Arc<Tty> {
        let state = State {
            discipline: Discipline::default(),
            heard: Vec::new(),
            heard_at: SimTime(0),
            opens: 0,
            hangups: 0,
            news: [0; 2],
            has_room: true,
            is_up: false,
            has_carrier: false,
            is_held: false,
            is_stopped: false,
            is_exclusive: false,
            window: [0; 4],
        };
        let room_max = port.room();
        let tty = Arc::new(Tty {
            name: name.into(),
            port,
            engine,
            state: Mutex::new(state),
            room_max,
            readable: Arc::default(),
            writable: Arc::default(),
        });
        let settings = tty.state.lock().discipline.termios().settings();
        tty.port.configure(&settings);
        let listener = Arc::downgrade(&tty);
        tty.port.bell().listen(Arc::new(move || {
            let tty = listener.upgrade();
            tty.as_ref().inspect(|tty| tty.news()).is_some()
        }));
        tty
    }

    /// Opens it for a caller, `is_root` or not, who has a `claim` to it.
    ///
    /// # Errors
    /// `EBUSY` while somebody has it for himself (TIOCEXCL), unless root asks.
    pub fn open(self: &Arc<Self>, is_root: bool, claim: Option<Claim>) -> Result<TtyFile, Error> {
        let mut state = self.state.lock();
        if state.is_exclusive && state.opens > 0 && !is_root {
            return Err(Error::new(Errno::EBUSY, format!("{}: held for one user", self.name)));
        }
        state.opens += 1;
        if !state.is_up {
            state.discipline.flush_input(); // what a hangup left unread
            state.is_up = true;
            self.port.open();
        }
        state.has_carrier = self.port.signals().dcd;
        let hangups = state.hangups;
        drop(state);
        self.engine.crank();
        Ok(TtyFile::new(Arc::clone(self), hangups, claim))
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.opens = state.opens.saturating_sub(1);
        if state.opens > 0 {
            return;
        }
        state.discipline.flush_input();
        self.stop_holding(&mut state);
        if state.is_stopped || state.discipline.is_stopped() {
            // Nobody is left who could let it go on.
            self.port.flush_output();
            state.discipline.start();
            state.is_stopped = false;
            self.port.stop(false);
        }
        state.is_exclusive = false;
        let hangs_up = state.discipline.termios().has_control(HUPCL);
        state.is_up = false;
        self.port.close(hangs_up);
        drop(state);
        self.engine.crank();
    }

    /// The port has news: characters, room, a modem line.
    fn news(&self) {
        let mut state = self.state.lock();
        let mut heard = std::mem::take(&mut state.heard);
        self.port.receive(&mut heard);
        let has_input = !heard.is_empty();
        if has_input {
            state.heard_at = self.engine.now();
            state.news[0] += 1;
        }
        let mut effects = Effects::default();
        for character in heard.drain(..) {
            state.discipline.receive(character, &mut effects);
            if effects.flushes_output || effects.stop.is_some() {
                self.follow(&mut state, &mut effects);
            }
        }
        state.heard = heard;
        self.follow(&mut state, &mut effects);
        self.hold_or_not(&mut state);
        self.note_room(&mut state);
        let has_carrier = self.port.signals().dcd;
        let is_lost = std::mem::replace(&mut state.has_carrier, has_carrier) && !has_carrier;
        let hangs_up = is_lost && state.opens > 0;
        if hangs_up && !state.discipline.termios().has_control(CLOCAL) {
            self.hang_up_locked(&mut state);
        }
        drop(state);
        if has_input || is_lost {
            self.readable.ring();
        }
        self.writable.ring();
    }

    /// Room that comes back is news for who polls. Noted whenever the port was given something, or
    /// has news, or is looked at.
    fn note_room(&self, state: &mut State) {
        let has_room = self.port.room() * 2 >= self.room_max;
        let had_room = std::mem::replace(&mut state.has_room, has_room);
        state.news[1] += u64::from(has_room && !had_room);
    }

    /// Does what a character brought about.
    fn follow(&self, state: &mut State, effects: &mut Effects) {
        if std::mem::take(&mut effects.flushes_output) {
            self.port.flush_output();
        }
        if let Some(is_stopped) = effects.stop.take() {
            self.port.stop(is_stopped || state.is_stopped);
        }
        // What does not fit is not echoed, as in Linux: an echo waits for nobody.
        self.port.send(&effects.echo);
        effects.echo.clear();
    }

    /// Asks the other end to hold, or to go on, as what waits to be read has grown or shrunk.
    fn hold_or_not(&self, state: &mut State) {
        let (kept, _) = state.discipline.held();
        if !state.is_held && kept > HIGH {
            let termios = state.discipline.termios();
            state.is_held = termios.has_control(CRTSCTS) || termios.has_input(IXOFF);
            if termios.has_control(CRTSCTS) {
                self.port.set_signals(None, Some(false));
            }
            if termios.has_input(IXOFF) {
                self.port.send_first(termios.special(cc::STOP));
            }
        } else if state.is_held && kept < LOW {
            self.stop_holding(state);
        }
    }

    fn stop_holding(&self, state: &mut State) {
        if !std::mem::take(&mut state.is_held) {
            return;
        }
        let termios = state.discipline.termios();
        if state.is_up {
            self.port.set_signals(None, Some(true));
        }
        if termios.has_input(IXOFF) {
            self.port.send_first(termios.special(cc::START));
        }
    }

    /// Ends every file that is open.
    fn hang_up(&self) {
        self.hang_up_locked(&mut self.state.lock());
        self.tell();
    }

    fn hang_up_locked(&self, state: &mut State) {
        state.hangups += 1;
        state.news = state.news.map(|news| news + 1);
        state.discipline.start();
        state.is_stopped = false;
        state.is_held = false;
        state.is_exclusive = false;
        state.is_up = false;
        self.port.flush_output();
        self.port.stop(false);
        if state.discipline.termios().has_control(HUPCL) {
            self.port.set_signals(Some(false), Some(false));
        }
    }

    /// Wakes everybody, and serves what is due at once.
    fn tell(&self) {
        self.note_room(&mut self.state.lock());
        self.readable.ring();
        self.writable.ring();
        self.engine.crank();
    }

    /// Changes the settings.
    fn set_termios(&self, wanted: Termios) {
        let mut state = self.state.lock();
        let old = state.discipline.termios().clone();
        let mut new = wanted;
        let rate = self.port.configure(&new.settings());
        new.set_rate(rate);
        let has_speed = |termios: &Termios| termios.ospeed > 0;
        match (has_speed(&old), has_speed(&new)) {
            (true, false) => self.port.set_signals(Some(false), Some(false)),
            (false, true) => self.port.set_signals(Some(true), Some(true)),
            _ => {}
        }
        let was_stopped = state.discipline.is_stopped();
        let lets_go = !new.has_control(CRTSCTS) && !new.has_input(IXOFF);
        state.discipline.set_termios(new);
        state.news[0] += 1; // another MIN, or no lines: what has come may be enough now
        if was_stopped && !state.discipline.is_stopped() {
            self.port.stop(state.is_stopped);
        }
        if lets_go {
            self.stop_holding(&mut state);
        }
        drop(state);
        self.tell();
    }

    /// Characters that a read of `len` waits for; `None`: a line.
    fn least(termios: &Termios, len: usize) -> Option<usize> {
        let min = usize::from(termios.special(cc::MIN));
        (!termios.has_local(ICANON)).then_some(min.min(len))
    }

    /// For `proc/serial`.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let state = self.state.lock();
        let (kept, typed) = state.discipline.held();
        Shown {
            name: self.name.clone(),
            place: self.port.place(),
            settings: state.discipline.termios().shown(),
            opens: state.opens,
            is_half_duplex: self.port.is_half_duplex(),
            poll_nanos: self.port.poll_nanos(),
            rings: self.port.rings(),
            signals: self.port.signals(),
            counters: self.port.counters(),
            dropped: state.discipline.dropped(),
            waiting: (kept + typed, self.port.unsent()),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
