//! The line discipline: what typed characters become before they are read, what is echoed, and
//! what written ones become before they are sent. Bytes in, bytes out: no port, no time, no locks.
//!
//! As in Linux (termios(3)), save where nobody can be told: there is no controlling terminal, so
//! INTR, QUIT, SUSP and BRKINT flush, and send no signal.
//!
//! 1. In canonical mode a reader gets at most one line, and none that is not finished.
//! 2. Nothing is kept beyond [`LINE_MAX`] characters of an unfinished line and [`KEPT_MAX`] of
//!    finished ones; what is thrown away is counted.

use super::termios::{
    BRKINT, ECHO, ECHOCTL, ECHOE, ECHOK, ECHOKE, ECHONL, ICANON, ICRNL, IEXTEN, IGNBRK, IGNCR,
    IGNPAR, IMAXBEL, INLCR, INPCK, ISIG, ISTRIP, IUCLC, IUTF8, IXANY, IXON, NOFLSH, OCRNL, OLCUC,
    ONLCR, ONLRET, ONOCR, OPOST, PARMRK, Termios, XTABS, cc,
};
use devices::{Heard, Mark};
use std::collections::VecDeque;

/// Most characters of a line being typed.
pub const LINE_MAX: usize = 4095;
/// Most characters that wait for a reader.
pub const KEPT_MAX: usize = 64 << 10;
/// Most characters that one becomes on its way out.
const EXPANSION_MAX: usize = 8;

/// What a character brings about besides being kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// To be sent back.
    pub echo: Vec<u8>,
    /// STOP or START was typed.
    pub stop: Option<bool>,
    /// What waits to be sent is forgotten.
    pub flushes_output: bool,
}

/// See the head of this file.
#[derive(Default)]
pub struct Discipline {
    /// The settings.
    termios: Termios,
    /// What a reader gets, line after line.
    kept: VecDeque<u8>,
    /// Lengths of the lines in `kept`; 0 is an end of file.
    lines: VecDeque<usize>,
    /// The line being typed.
    typed: Vec<u8>,
    /// The next character is taken as it is.
    is_literal: bool,
    /// Where the cursor of the other end is, and was when the line began.
    column: usize,
    line_column: usize,
    is_stopped: bool,
    dropped: u64,
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

impl Discipline {
    /// The settings.
    #[must_use]
    pub fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Characters thrown away because nobody had read those before.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Characters kept, and those of an unfinished line.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.kept.len(), self.typed.len())
    }

    /// Whether STOP was typed, and START not yet.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    fn is_canonical(&self) -> bool {
        self.termios.has_local(ICANON)
    }

    fn has(&self, flag: u32) -> bool {
        self.termios.has_local(flag)
    }

    /// Changes the settings; what was typed stays readable.
    pub fn set_termios(&mut self, termios: Termios) {
        let was_canonical = self.is_canonical();
        self.termios = termios;
        match (was_canonical, self.is_canonical()) {
            (true, false) => {
                self.lines.clear();
                self.kept.extend(self.typed.drain(..));
                self.is_literal = false;
            }
            (false, true) if !self.kept.is_empty() => self.lines.push_back(self.kept.len()),
            _ => {}
        }
        if !self.termios.has_input(IXON) {
            self.is_stopped = false;
        }
    }

    /// Forgets what was typed.
    pub fn flush_input(&mut self) {
        self.kept.clear();
        self.lines.clear();
        self.typed.clear();
        self.is_literal = false;
        self.line_column = self.column;
    }

    /// Forgets STOP, as at the last close.
    pub fn start(&mut self) {
        self.is_stopped = false;
    }

    /// Whether a read that wants `least` characters (a line, in canonical mode) gets them now.
    #[must_use]
    pub fn has_input(&self, least: usize) -> bool {
        if self.is_canonical() { !self.lines.is_empty() } else { self.kept.len() >= least }
    }

    /// Moves at most `len` characters to a reader, of one line only in canonical mode.
    pub fn read(&mut self, len: usize) -> Vec<u8> {
        if !self.is_canonical() {
            return self.kept.drain(..len.min(self.kept.len())).collect();
        }
        let Some(line) = self.lines.front_mut() else { return Vec::new() };
        let taken = len.min(*line);
        *line -= taken;
        if *line == 0 {
            self.lines.pop_front();
        }
        self.kept.drain(..taken).collect()
    }

    /// Moves at most `len` characters to a reader, whatever the mode: none will follow.
    pub fn read_rest(&mut self, len: usize) -> Vec<u8> {
        self.kept.extend(self.typed.drain(..));
        self.lines.clear();
        self.kept.drain(..len.min(self.kept.len())).collect()
    }

    /// A character came in.
    pub fn receive(&mut self, heard: Heard, effects: &mut Effects) {
        match heard.mark {
            Mark::Good => self.receive_good(heard.byte, effects),
            Mark::Break => self.receive_break(effects),
            Mark::Parity | Mark::Framing => self.receive_bad(heard.byte),
        }
    }

    fn receive_break(&mut self, effects: &mut Effects) {
        if self.termios.has_input(IGNBRK) {
            return;
        }
        if self.termios.has_input(BRKINT) {
            self.flush_input();
            effects.flushes_output = true;
        } else if self.termios.has_input(PARMRK) {
            self.keep(&[0xff, 0, 0]);
        } else {
            self.keep(&[0]);
        }
    }

    fn receive_bad(&mut self, byte: u8) {
        let has = |flag| self.termios.has_input(flag);
        match (has(INPCK), has(IGNPAR), has(PARMRK)) {
            (false, ..) => self.keep(&[byte]),
            (true, true, _) => {}
            (true, false, true) => self.keep(&[0xff, 0, byte]),
            (true, false, false) => self.keep(&[0]),
        }
    }

    fn receive_good(&mut self, byte: u8, effects: &mut Effects) {
        let mut byte = byte;
        if self.termios.has_input(ISTRIP) {
            byte &= 0x7f;
        }
        if self.termios.has_input(IUCLC) && self.has(IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if std::mem::take(&mut self.is_literal) {
            return self.type_in(byte, effects);
        }
        if self.is_flow(byte, effects) || self.is_signal(byte, effects) {
            return;
        }
        byte = match byte {
            b'\r' if self.termios.has_input(IGNCR) => return,
            b'\r' if self.termios.has_input(ICRNL) => b'\n',
            b'\n' if self.termios.has_input(INLCR) => b'\r',
            byte => byte,
        };
        if !(self.is_canonical() && self.edit(byte, effects)) {
            self.type_in(byte, effects);
        }
    }

    /// START, STOP: obeyed, not kept.
    fn is_flow(&mut self, byte: u8, effects: &mut Effects) -> bool {
        if !self.termios.has_input(IXON) {
            return false;
        }
        let is_stop = self.termios.is_special(byte, cc::STOP);
        let is_start = self.termios.is_special(byte, cc::START);
        let wanted = match (is_start, is_stop) {
            (true, true) => !self.is_stopped, // one character for both
            (true, false) => false,
            (false, true) => true,
            (false, false) if self.is_stopped && self.termios.has_input(IXANY) => false,
            (false, false) => return false,
        };
        if wanted != self.is_stopped {
            self.is_stopped = wanted;
            effects.stop = Some(wanted);
        }
        is_start || is_stop
    }

    /// INTR, QUIT, SUSP: shown, and what waits is forgotten.
    fn is_signal(&mut self, byte: u8, effects: &mut Effects) -> bool {
        let places = [cc::INTR, cc::QUIT, cc::SUSP];
        if !self.has(ISIG) || !places.iter().any(|at| self.termios.is_special(byte, *at)) {
            return false;
        }
        if !self.has(NOFLSH) {
            self.flush_input();
            effects.flushes_output = true;
            effects.echo.clear();
        }
        if self.termios.has_input(IXON) && std::mem::take(&mut self.is_stopped) {
            effects.stop = Some(false);
        }
        if self.has(ECHO) {
            self.echo(byte, effects);
        }
        true
    }

    /// The characters that edit or end a line.
    fn edit(&mut self, byte: u8, effects: &mut Effects) -> bool {
        let is = |place| self.termios.is_special(byte, place);
        let is_extended = self.has(IEXTEN);
        if is(cc::ERASE) {
            self.erase(effects);
        } else if is(cc::KILL) {
            self.kill(effects);
        } else if is_extended && is(cc::WERASE) {
            self.erase_word(effects);
        } else if is_extended && is(cc::LNEXT) {
            self.is_literal = true;
            if self.has(ECHO) && self.has(ECHOCTL) {
                effects.echo.extend(b"^\x08");
            }
        } else if is_extended && self.has(ECHO) && is(cc::REPRINT) {
            self.echo(byte, effects);
            self.show(b'\n', effects);
            self.line_column = self.column;
            for byte in self.typed.clone() {
                self.echo(byte, effects);
            }
        } else if is(cc::EOF) {
            self.end_line(None);
        } else if byte == b'\n' {
            if self.has(ECHO) || self.has(ECHONL) {
                self.show(b'\n', effects);
            }
            self.end_line(Some(byte));
        } else if is(cc::EOL) || (is_extended && is(cc::EOL2)) {
            if self.has(ECHO) {
                self.echo(byte, effects);
            }
            self.end_line(Some(byte));
        } else {
            return false;
        }
        true
    }

    /// An ordinary character.
    fn type_in(&mut self, byte: u8, effects: &mut Effects) {
        if self.is_canonical() && self.typed.len() >= LINE_MAX {
            self.dropped += 1;
            if self.termios.has_input(IMAXBEL) {
                effects.echo.push(7);
            }
            return;
        }
        if self.has(ECHO) {
            if byte == b'\n' {
                self.show(byte, effects);
            } else {
                self.echo(byte, effects);
            }
        }
        if self.termios.has_input(PARMRK) && byte == 0xff {
            self.keep(&[0xff, 0xff]);
        } else {
            self.keep(&[byte]);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.is_canonical() {
            self.typed.extend(bytes);
        } else if self.kept.len() + bytes.len() <= KEPT_MAX {
            self.kept.extend(bytes);
        } else {
            self.dropped += bytes.len() as u64;
        }
    }

    fn end_line(&mut self, last: Option<u8>) {
        self.typed.extend(last);
        self.line_column = self.column;
        if self.kept.len() + self.typed.len() > KEPT_MAX {
            self.dropped += self.typed.len() as u64;
            self.typed.clear();
            return;
        }
        self.lines.push_back(self.typed.len());
        self.kept.extend(self.typed.drain(..));
    }

    /// Echoes a character, as `^X` if it is one of control.
    fn echo(&mut self, byte: u8, effects: &mut Effects) {
        if self.has(ECHOCTL) && is_control(byte) && byte != b'\t' {
            effects.echo.extend([b'^', byte ^ 0x40]);
            self.column += 2;
        } else {
            self.show(byte, effects);
        }
    }

    fn show(&mut self, byte: u8, effects: &mut Effects) {
        self.process(byte, &mut effects.echo);
    }

    fn erase(&mut self, effects: &mut Effects) {
        if self.typed.is_empty() {
            return;
        }
        if self.has(ECHO) && !self.has(ECHOE) {
            self.echo(self.termios.special(cc::ERASE), effects);
        }
        let rubs = self.has(ECHO) && self.has(ECHOE);
        self.take_back(rubs, effects);
    }

    /// Takes one character back, of all its bytes.
    fn take_back(&mut self, rubs: bool, effects: &mut Effects) {
        let Some(mut byte) = self.typed.pop() else { return };
        while self.termios.has_input(IUTF8) && is_continuation(byte) {
            let Some(before) = self.typed.pop() else { break };
            byte = before;
        }
        if !rubs {
            return;
        }
        let width = match byte {
            b'\t' => {
                let before =
                    self.typed.iter().fold(self.line_column, |at, b| at + self.width(*b, at));
                self.column.saturating_sub(before)
            }
            byte => self.width(byte, self.column),
        };
        for _ in 0..width {
            // Where there is nothing but a tab, blanks need not be written over it.
            effects.echo.extend(if byte == b'\t' { &b"\x08"[..] } else { &b"\x08 \x08"[..] });
        }
        self.column = self.column.saturating_sub(width);
    }

    /// Columns that an echoed character takes, at a column.
    fn width(&self, byte: u8, at: usize) -> usize {
        match byte {
            b'\t' => 8 - at % 8,
            byte if is_control(byte) => {
                if self.has(ECHOCTL) {
                    2
                } else {
                    0
                }
            }
            byte if self.termios.has_input(IUTF8) && is_continuation(byte) => 0,
            _ => 1,
        }
    }

    fn erase_word(&mut self, effects: &mut Effects) {
        let rubs = self.has(ECHO) && self.has(ECHOE);
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        while self.typed.last().is_some_and(|last| !is_letter(*last)) {
            self.take_back(rubs, effects);
        }
        while self.typed.last().is_some_and(|last| is_letter(*last)) {
            self.take_back(rubs, effects);
        }
    }

    fn kill(&mut self, effects: &mut Effects) {
        let rubs = [ECHO, ECHOK, ECHOKE, ECHOE].iter().all(|flag| self.has(*flag));
        if rubs {
            while !self.typed.is_empty() {
                self.take_back(true, effects);
            }
            return;
        }
        self.typed.clear();
        if self.has(ECHO) {
            self.echo(self.termios.special(cc::KILL), effects);
            if self.has(ECHOK) {
                self.show(b'\n', effects);
            }
        }
        self.line_column = self.column;
    }

    /// What written characters become, as far as `room` bytes hold them; answers how many were
    /// used up.
    pub fn write(&mut self, data: &[u8], room: usize, out: &mut Vec<u8>) -> usize {
        if !self.termios.has_output(OPOST) {
            let taken = data.len().min(room);
            out.extend(&data[..taken]);
            return taken;
        }
        let end = out.len() + room;
        for (taken, byte) in data.iter().enumerate() {
            if out.len() + EXPANSION_MAX > end {
                return taken;
            }
            self.process(*byte, out);
        }
        self.line_column = self.column;
        data.len()
    }

    /// A character on its way out.
    fn process(&mut self, byte: u8, out: &mut Vec<u8>) {
        let has = |flag| self.termios.has_output(flag);
        if !has(OPOST) {
            return out.push(byte);
        }
        match byte {
            b'\n' if has(ONLCR) => {
                out.extend(b"\r\n");
                self.column = 0;
            }
            b'\n' => {
                out.push(byte);
                self.column = if has(ONLRET) { 0 } else { self.column };
            }
            b'\r' if has(ONOCR) && self.column == 0 => {}
            b'\r' if has(OCRNL) => {
                out.push(b'\n');
                self.column = if has(ONLRET) { 0 } else { self.column };
            }
            b'\r' => {
                out.push(byte);
                self.column = 0;
            }
            b'\t' => {
                let width = 8 - self.column % 8;
                self.column += width;
                if self.termios.oflag & XTABS == XTABS {
                    out.extend(std::iter::repeat_n(b' ', width));
                } else {
                    out.push(byte);
                }
            }
            b'\x08' => {
                out.push(byte);
                self.column = self.column.saturating_sub(1);
            }
            byte => {
                out.push(if has(OLCUC) { byte.to_ascii_uppercase() } else { byte });
                self.column += if is_control(byte) { 0 } else { self.width(byte, 0) };
            }
        }
    }
}

#[cfg(test)]
#[path = "discipline_tests.rs"]
mod tests;
