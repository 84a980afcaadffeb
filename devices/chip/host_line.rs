//! A serial cable that leads to the host: a pseudo terminal, a UNIX socket, or a file.
//!
//! Two threads for each, one a direction, because the host makes them wait. What comes from the
//! host arrives at the port's pace, and only while the port says RTS; what the host does not take
//! is kept up to [`KEPT_MAX`], then lost, as on a line without handshake.

use super::uart::Uart;
use crate::bus::cable::{FarEnd, Frame, Socket};
use crate::contract::{AttachError, UnitConfig, WaitQueue};
use crate::engine::Engine;
use crate::machine::Machine;
use crate::sync::{Arc, Mutex};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Weak;

/// Most characters that wait for the host to take them.
const KEPT_MAX: usize = 64 << 10;
/// Characters that arrive at the port at once: fewer than its FIFO holds.
const PIECE: usize = 8;

/// What a written peer stands for.
#[derive(Debug, PartialEq, Eq)]
enum Peer<'a> {
    Nobody,
    Port(&'a str),
    Pty,
    Unix(&'a str),
    File(&'a str),
}

fn parse(peer: &str) -> Option<Peer<'_>> {
    match peer.split_once(':') {
        Some(("unix", path)) if !path.is_empty() => Some(Peer::Unix(path)),
        Some(("file", path)) if !path.is_empty() => Some(Peer::File(path)),
        Some(_) => None,
        None if peer.is_empty() => Some(Peer::Nobody),
        None if peer == "pty" => Some(Peer::Pty),
        None if peer.ends_with(|c: char| c.is_ascii_digit()) => Some(Peer::Port(peer)),
        None => None,
    }
}

/// Enters a chip's socket, and joins it to what is described.
pub(super) fn install(
    machine: &Machine,
    unit: &UnitConfig,
    uart: &Arc<Uart>,
    peer: &str,
) -> Result<(), AttachError> {
    let name = &unit.name;
    let peer = parse(peer).ok_or_else(|| {
        let right = "another port's name, pty, unix:PATH or file:PATH";
        AttachError::value(unit, "peer", format!("{peer:?} is none; {right} is"))
    })?;
    let wants = if let Peer::Port(other) = peer { Some(other) } else { None };
    machine.cables.socket(name, Arc::clone(uart) as _, wants)?;
    let place = |path: &str| match &machine.state_dir {
        Some(dir) => dir.join(path),
        None => PathBuf::from(path),
    };
    let host = |path: &Path, error: std::io::Error| {
        AttachError::value(unit, "peer", format!("{}: {error}", path.display()))
    };
    let line = |is_carrier| Arc::new(HostLine::new(uart, &machine.engine, is_carrier));
    match peer {
        Peer::Nobody | Peer::Port(_) => {}
        Peer::Pty => {
            let (line, nowhere) = (line(true), Path::new("a pseudo terminal"));
            let (master, path) = pseudo_terminal().map_err(|e| host(nowhere, e))?;
            let writer = master.try_clone().map_err(|e| host(nowhere, e))?;
            let words = format!("pty {}", path.display());
            machine.cables.join(name, Arc::clone(&line) as _, &words);
            start(&line, "in", move |line| line.carry_in(master));
            start(&line, "out", move |line| line.carry_out(writer));
        }
        Peer::Unix(path) => {
            let (line, path) = (line(false), place(path));
            let listener = listen(&path).map_err(|e| host(&path, e))?;
            machine.cables.join(name, Arc::clone(&line) as _, &format!("unix {}", path.display()));
            start(&line, "net", move |line| line.serve(&listener));
        }
        Peer::File(path) => {
            let (line, path) = (line(true), place(path));
            let file = output(&path).map_err(|e| host(&path, e))?;
            machine.cables.join(name, Arc::clone(&line) as _, &format!("file {}", path.display()));
            start(&line, "out", move |line| line.carry_out(file));
        }
    }
    Ok(())
}

/// A pseudo terminal that passes everything as it is, and its path. The other side is kept open:
/// without it the host would take nothing.
fn pseudo_terminal() -> std::io::Result<(PtyEnd, PathBuf)> {
    let pair = nix::pty::openpty(None, None)?;
    let mut raw = termios::tcgetattr(&pair.slave)?;
    termios::cfmakeraw(&mut raw);
    termios::tcsetattr(&pair.slave, termios::SetArg::TCSANOW, &raw)?;
    let path = nix::unistd::ttyname(&pair.slave)?;
    Ok((PtyEnd { master: File::from(pair.master), slave: Arc::new(File::from(pair.slave)) }, path))
}

struct PtyEnd {
    master: File,
    slave: Arc<File>,
}

impl PtyEnd {
    fn try_clone(&self) -> std::io::Result<File> {
        self.master.try_clone()
    }
}

impl Read for PtyEnd {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        debug_assert!(Arc::strong_count(&self.slave) > 0);
        self.master.read(buf)
    }
}

fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if !path.symlink_metadata()?.file_type().is_socket() {
                let words = "is there already, and no socket: remove it, or name another";
                return Err(Error::new(ErrorKind::AddrInUse, words));
            }
            // Left over, unless somebody answers there.
            if UnixStream::connect(path).is_ok() {
                let words = "somebody listens there already: name another";
                return Err(Error::new(ErrorKind::AddrInUse, words));
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

/// Opens what is written to; a pipe too, but none whose reader would have to be waited for.
fn output(path: &Path) -> std::io::Result<File> {
    let mut how = File::options();
    how.append(true).create(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = how.open(path).map_err(|error| match error.raw_os_error() {
        Some(number) if number == Errno::ENXIO as i32 => {
            Error::new(ErrorKind::NotConnected, "nobody reads it: start its reader first")
        }
        _ => error,
    })?;
    // Writing has a thread of its own that may wait.
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(file)
}

fn start(line: &Arc<HostLine>, way: &str, run: impl FnOnce(&HostLine) + Send + 'static) {
    let line = Arc::clone(line);
    let thread = std::thread::Builder::new().name(format!("serial-{way}"));
    if let Err(refusal) = thread.stack_size(128 << 10).spawn(move || run(&line)) {
        log::error!(target: "serial", "no thread for a serial line: {refusal}");
    }
}

/// The end of a cable that is on the host.
struct HostLine {
    uart: Weak<Uart>,
    engine: Arc<Engine>,
    kept: Mutex<VecDeque<u8>>,
    is_wanted: Mutex<bool>,
    /// Rung when there is something for the host, or the port's state has changed.
    bell: Arc<WaitQueue>,
    /// Whether somebody is always there.
    has_carrier: bool,
}

impl FarEnd for HostLine {
    fn hear(&self, frames: &[Frame]) {
        let mut kept = self.kept.lock();
        let room = KEPT_MAX - kept.len();
        kept.extend(frames.iter().take(room).map(|frame| frame.byte));
        drop(kept);
        self.bell.ring();
    }

    fn signals(&self, rts: bool, _dtr: bool) {
        *self.is_wanted.lock() = rts;
        self.bell.ring();
        self.tell(self.has_carrier);
    }

    fn hear_break(&self) {}
}

impl HostLine {
    fn new(uart: &Arc<Uart>, engine: &Arc<Engine>, has_carrier: bool) -> HostLine {
        HostLine {
            uart: Arc::downgrade(uart),
            engine: Arc::clone(engine),
            kept: Mutex::default(),
            is_wanted: Mutex::new(false),
            bell: Arc::default(),
            has_carrier,
        }
    }

    /// The port sees CTS, DSR and DCD while somebody is there.
    fn tell(&self, is_there: bool) {
        if is_there && let Some(uart) = self.uart.upgrade() {
            uart.signals(true, true);
            self.engine.after(0, || ());
        }
    }

    /// Brings what the host sends to the port, until it sends no more.
    fn carry_in(&self, mut from: impl Read) {
        let mut buf = [0; 256];
        loop {
            let len = match from.read(&mut buf) {
                Ok(0) => return,
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return log::info!(target: "serial", "the host's end: {error}"),
            };
            for piece in buf[..len].chunks(PIECE) {
                if !self.arrive(piece) {
                    return;
                }
            }
        }
    }

    /// Lets characters arrive in their time. `false`: the port is gone.
    fn arrive(&self, piece: &[u8]) -> bool {
        loop {
            let seen = self.bell.generation();
            if *self.is_wanted.lock() {
                break;
            }
            self.bell.wait(seen, None);
        }
        let Some(uart) = self.uart.upgrade() else { return false };
        let frames: Vec<Frame> = piece.iter().map(|byte| uart.frame(*byte)).collect();
        let nanos = uart.character_nanos() * piece.len() as u64;
        if nanos == 0 {
            uart.hear(&frames);
            self.engine.crank();
            return true;
        }
        let done = Arc::new(WaitQueue::default());
        let seen = done.generation();
        let bell = Arc::clone(&done);
        self.engine.after(nanos, move || {
            uart.hear(&frames);
            bell.ring();
        });
        done.wait(seen, None);
        true
    }

    /// Brings what the port sends to the host, until the host takes no more.
    fn carry_out(&self, mut to: impl Write + AsFd) {
        loop {
            let seen = self.bell.generation();
            let piece: Vec<u8> = self.kept.lock().drain(..).collect();
            if piece.is_empty() {
                self.bell.wait(seen, None);
                continue;
            }
            if let Err(error) = give(&mut to, &piece) {
                log::info!(target: "serial", "the host's end takes no more: {error}");
                return;
            }
        }
    }

    /// Serves whoever connects, one after another.
    fn serve(&self, listener: &UnixListener) {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let Ok(writer) = stream.try_clone() else { continue };
            self.tell(true);
            self.engine.crank();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    self.carry_in(&stream);
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    self.bell.ring();
                });
                self.carry_out_while(&writer, || is_open(&stream));
            });
            if let Some(uart) = self.uart.upgrade() {
                uart.signals(false, false);
                self.engine.crank();
            }
        }
    }

    fn carry_out_while(&self, mut to: &UnixStream, is_open: impl Fn() -> bool) {
        while is_open() {
            let seen = self.bell.generation();
            let piece: Vec<u8> = self.kept.lock().drain(..).collect();
            if piece.is_empty() {
                self.bell.wait(seen, None);
            } else if give(&mut to, &piece).is_err() {
                let _ = to.shutdown(std::net::Shutdown::Both);
                return;
            }
        }
    }
}

/// Whether the other side has not gone.
fn is_open(stream: &UnixStream) -> bool {
    let mut watched = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut watched, PollTimeout::ZERO).is_ok() && watched[0].any() != Some(true)
}

/// Writes all of it, waiting where the host does.
fn give(to: &mut (impl Write + AsFd), mut piece: &[u8]) -> std::io::Result<()> {
    while !piece.is_empty() {
        match to.write(piece) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(len) => piece = &piece[len..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut watched = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
                poll(&mut watched, PollTimeout::NONE)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_port_or_a_place_on_the_host() {
        assert_eq!(parse(""), Some(Peer::Nobody));
        assert_eq!(parse("ttyS1"), Some(Peer::Port("ttyS1")));
        assert_eq!(parse("pty"), Some(Peer::Pty));
        assert_eq!(parse("unix:s"), Some(Peer::Unix("s")));
        assert_eq!(parse("file:/tmp/x"), Some(Peer::File("/tmp/x")));
        for wrong in ["ptty", "unix:", "tcp:1", "modem"] {
            assert_eq!(parse(wrong), None);
        }
    }

    #[test]
    fn a_socket_takes_the_place_of_one_left_over_and_of_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, "a thesis").unwrap();
        let words = listen(&path).unwrap_err().to_string();
        assert_eq!(words, "is there already, and no socket: remove it, or name another");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a thesis");
        std::fs::remove_file(&path).unwrap();
        drop(listen(&path).unwrap());
        let first = listen(&path).unwrap();
        assert!(listen(&path).unwrap_err().to_string().contains("listens there already"));
        drop(first);
    }

    #[test]
    fn a_pipe_is_written_to_once_it_has_a_reader_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let words = output(&path).unwrap_err().to_string();
        assert_eq!(words, "nobody reads it: start its reader first");
        let mut how = File::options();
        let reader = how.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).unwrap();
        let writer = output(&path).unwrap();
        let flags = OFlag::from_bits_retain(fcntl(&writer, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK) && flags.contains(OFlag::O_APPEND));
        drop(reader);
        output(&dir.path().join("new")).unwrap().write_all(b"x").unwrap();
    }
}
