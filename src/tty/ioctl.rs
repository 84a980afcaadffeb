//! The device commands of a terminal, as in Linux (ioctl_tty(2)).

use super::Tty;
use super::file::TtyFile;
use super::termios::{CLOCAL, TERMIOS_BYTES, TERMIOS2_BYTES, Termios, cc};
use crate::error::{Errno, Error};
use crate::file::{Answer, Blocked, Call, IoctlAnswer, IoctlCall, Turn};
use crate::sync::Arc;
use devices::Clock;

macro_rules! commands {
    ($($name:ident = $number:literal;)*) => {
        $(const $name: u32 = $number;)*

        /// The commands of a terminal: number and name, for `proc/ioctls`.
        pub const COMMANDS: &[(u32, &str)] = &[$(($name, stringify!($name)),)*];
    };
}

// asm-generic/ioctls.h
commands! {
    TCGETS = 0x5401;
    TCSETS = 0x5402;
    TCSETSW = 0x5403;
    TCSETSF = 0x5404;
    TCSBRK = 0x5409;
    TCXONC = 0x540a;
    TCFLSH = 0x540b;
    TIOCEXCL = 0x540c;
    TIOCNXCL = 0x540d;
    TIOCOUTQ = 0x5411;
    TIOCGWINSZ = 0x5413;
    TIOCSWINSZ = 0x5414;
    TIOCMGET = 0x5415;
    TIOCMBIS = 0x5416;
    TIOCMBIC = 0x5417;
    TIOCMSET = 0x5418;
    TIOCGSOFTCAR = 0x5419;
    TIOCSSOFTCAR = 0x541a;
    // Also `FIONREAD`, which the host answers for a regular file before it reaches us.
    TIOCINQ = 0x541b;
    TIOCGSERIAL = 0x541e;
    TIOCSETD = 0x5423;
    TIOCGETD = 0x5424;
    TCSBRKP = 0x5425;
    TIOCSBRK = 0x5427;
    TIOCCBRK = 0x5428;
    TIOCVHANGUP = 0x5437;
    TIOCMIWAIT = 0x545c;
    TIOCGICOUNT = 0x545d;
    TIOCGRS485 = 0x542e;
    TIOCSRS485 = 0x542f;
    TIOCGEXCL = 0x8004_5440;
    TCGETS2 = 0x802c_542a;
    TCSETS2 = 0x402c_542b;
    TCSETSW2 = 0x402c_542c;
    TCSETSF2 = 0x402c_542d;
}

// The modem lines of TIOCMGET.
const TIOCM_DTR: u32 = 0x002;
const TIOCM_RTS: u32 = 0x004;
const TIOCM_CTS: u32 = 0x020;
const TIOCM_CAR: u32 = 0x040;
const TIOCM_RNG: u32 = 0x080;
const TIOCM_DSR: u32 = 0x100;

/// How long TCSBRK holds the line, in nanoseconds.
const BREAK: u64 = 250_000_000;
/// The unit of TCSBRKP's argument.
const TENTH: u64 = 100_000_000;
/// `PORT_16550A`.
const KIND_16550A: u32 = 4;
/// Bytes of `struct serial_struct` where a pointer has 64 bits.
const SERIAL_BYTES: usize = 72;
/// Bytes of `struct serial_rs485`: flags, two delays, five that are reserved.
const RS485_BYTES: usize = 32;
/// `SER_RS485_ENABLED`: the line goes one way at a time,
const RS485_ENABLED: u32 = 0x01;
/// `SER_RS485_RX_DURING_TX`: and yet is heard while it sends.
const RS485_RX_DURING_TX: u32 = 0x10;
/// Numbers in `struct serial_icounter_struct`.
const COUNTS: usize = 20;

fn done() -> Result<Answer<IoctlAnswer>, Error> {
    Ok(Answer::Now((0, Vec::new())))
}

/// Gives the caller a structure: as the bytes that the number sizes, or in its memory.
fn give(ioctl: &IoctlCall<'_>, bytes: Vec<u8>) -> Result<Answer<IoctlAnswer>, Error> {
    if ioctl.out_bytes >= bytes.len() {
        return Ok(Answer::Now((0, bytes)));
    }
    ioctl.memory.write(ioctl.memory.argument()?, &bytes)?;
    done()
}

/// Takes the caller's structure.
fn take(ioctl: &IoctlCall<'_>, len: usize) -> Result<Vec<u8>, Error> {
    if ioctl.input.len() >= len {
        return Ok(ioctl.input[..len].to_vec());
    }
    let mut bytes = vec![0; len];
    ioctl.memory.read(ioctl.memory.argument()?, &mut bytes)?;
    Ok(bytes)
}

fn take_number(ioctl: &IoctlCall<'_>) -> Result<u32, Error> {
    let bytes = take(ioctl, 4)?;
    Ok(bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes)))
}

fn give_number(ioctl: &IoctlCall<'_>, number: usize) -> Result<Answer<IoctlAnswer>, Error> {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    give(ioctl, number.to_ne_bytes().to_vec())
}

/// Does what a command says.
///
/// # Errors
/// `ENOTTY` for an unknown one, or where the caller's memory is out of reach; `EINVAL` for an
/// argument that is none; `EIO` after a hangup.
pub(super) fn obey(
    file: &TtyFile,
    tty: &Arc<Tty>,
    call: &Call,
    ioctl: &IoctlCall<'_>,
) -> Result<Answer<IoctlAnswer>, Error> {
    if file.is_hung_up(&tty.state.lock()) {
        return Err(Error::plain(Errno::EIO));
    }
    match ioctl.cmd {
        TCGETS | TCGETS2 | TCSETS | TCSETS2 | TCSETSW | TCSETSW2 | TCSETSF | TCSETSF2 => {
            settings(file, tty, ioctl)
        }
        TCSBRK | TCSBRKP | TIOCSBRK | TIOCCBRK => breaks(file, tty, ioctl),
        TIOCGRS485 | TIOCSRS485 => duplex(tty, ioctl),
        TCXONC => flow(tty, ioctl),
        TCFLSH => flush(tty, ioctl),
        TIOCEXCL | TIOCNXCL => {
            tty.state.lock().is_exclusive = ioctl.cmd == TIOCEXCL;
            done()
        }
        TIOCGEXCL => give_number(ioctl, usize::from(tty.state.lock().is_exclusive)),
        TIOCOUTQ => give_number(ioctl, tty.port.unsent()),
        TIOCINQ => {
            let (kept, _) = tty.state.lock().discipline.held();
            give_number(ioctl, kept)
        }
        TIOCGWINSZ => {
            let window = tty.state.lock().window;
            give(ioctl, window.iter().flat_map(|number| number.to_ne_bytes()).collect())
        }
        TIOCSWINSZ => {
            let bytes = take(ioctl, 8)?;
            let mut numbers = bytes.chunks_exact(2).map(|two| u16::from_ne_bytes([two[0], two[1]]));
            tty.state.lock().window = std::array::from_fn(|_| numbers.next().unwrap_or(0));
            done()
        }
        TIOCMGET | TIOCMBIS | TIOCMBIC | TIOCMSET | TIOCMIWAIT => modem(tty, ioctl),
        TIOCGSOFTCAR => {
            let is_local = tty.state.lock().discipline.termios().has_control(CLOCAL);
            give_number(ioctl, usize::from(is_local))
        }
        TIOCSSOFTCAR => {
            let mut termios = tty.state.lock().discipline.termios().clone();
            let is_local = take_number(ioctl)? != 0;
            termios.cflag = termios.cflag & !CLOCAL | if is_local { CLOCAL } else { 0 };
            tty.set_termios(termios);
            done()
        }
        TIOCGSERIAL => about_port(tty, ioctl),
        TIOCGICOUNT => counts(tty, ioctl),
        TIOCGETD => give_number(ioctl, 0),
        TIOCSETD if take_number(ioctl)? == 0 => done(), // there is one discipline
        TIOCSETD => Err(Error::plain(Errno::EINVAL)),
        TIOCVHANGUP if call.caller.uid == 0 => {
            tty.hang_up();
            done()
        }
        TIOCVHANGUP => Err(Error::plain(Errno::EPERM)),
        _ => Err(Error::plain(Errno::ENOTTY)),
    }
}

fn settings(
    file: &TtyFile,
    tty: &Arc<Tty>,
    ioctl: &IoctlCall<'_>,
) -> Result<Answer<IoctlAnswer>, Error> {
    let is_sized = matches!(ioctl.cmd, TCGETS2 | TCSETS2 | TCSETSW2 | TCSETSF2);
    let len = if is_sized { TERMIOS2_BYTES } else { TERMIOS_BYTES };
    if matches!(ioctl.cmd, TCGETS | TCGETS2) {
        let bytes = tty.state.lock().discipline.termios().to_bytes(len);
        return give(ioctl, bytes);
    }
    let mut bytes = take(ioctl, len)?;
    if !is_sized {
        // A rate that is a number stays what it is.
        let old = tty.state.lock().discipline.termios().to_bytes(TERMIOS2_BYTES);
        bytes.extend(&old[TERMIOS_BYTES..]);
    }
    let wanted = Termios::from_bytes(&bytes).ok_or_else(|| Error::plain(Errno::EINVAL))?;
    let flushes = matches!(ioctl.cmd, TCSETSF | TCSETSF2);
    let change = move |tty: &Tty| {
        if flushes {
            tty.state.lock().discipline.flush_input();
        }
        tty.set_termios(wanted);
        Ok((0, Vec::new()))
    };
    if matches!(ioctl.cmd, TCSETS | TCSETS2) {
        return change(tty).map(Answer::Now);
    }
    Ok(file.drained(change))
}

fn argument(ioctl: &IoctlCall<'_>) -> Result<u64, Error> {
    ioctl.memory.argument()
}

fn breaks(
    file: &TtyFile,
    tty: &Arc<Tty>,
    ioctl: &IoctlCall<'_>,
) -> Result<Answer<IoctlAnswer>, Error> {
    let nanos = match ioctl.cmd {
        TIOCSBRK | TIOCCBRK => {
            tty.port.set_break(ioctl.cmd == TIOCSBRK);
            tty.tell();
            return done();
        }
        // tcdrain(3)
        TCSBRK if argument(ioctl)? != 0 => return Ok(file.drained(|_| Ok((0, Vec::new())))),
        TCSBRK => BREAK,
        _ => match argument(ioctl)?.min(600) {
            0 => BREAK,
            tenths => tenths * TENTH,
        },
    };
    let mut end = None;
    let me = Arc::clone(tty);
    let mut attempt = move || match end {
        None if me.port.unsent() > 0 => None,
        None => {
            end = Some(me.engine.now().after(nanos));
            me.port.set_break(true);
            let tty = Arc::clone(&me);
            me.engine.after(nanos, move || {
                tty.port.set_break(false);
                tty.writable.ring();
            });
            me.engine.crank();
            None
        }
        Some(end) => (me.engine.now() >= end).then(|| Ok((0, Vec::new()))),
    };
    tty.engine.crank();
    let (queue, seen) = (Arc::clone(&tty.writable), tty.writable.generation());
    match attempt() {
        Some(answer) => answer.map(Answer::Now),
        None => {
            let retry = Box::new(move |_: Turn| attempt());
            Ok(Answer::Blocked(Blocked { queue, seen, retry }))
        }
    }
}

/// Half duplex, as linux/serial.h has it: an RS-485 line that isn't heard while it sends. Of all
/// that can be asked for, what is not told back is not there.
fn duplex(tty: &Tty, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
    if ioctl.cmd == TIOCSRS485 {
        let bytes = take(ioctl, RS485_BYTES)?;
        let flags = bytes.first_chunk().map_or(0, |flags| u32::from_ne_bytes(*flags));
        tty.port.set_half_duplex(flags & (RS485_ENABLED | RS485_RX_DURING_TX) == RS485_ENABLED);
    }
    let flags = if tty.port.is_half_duplex() { RS485_ENABLED } else { 0 };
    let mut bytes = flags.to_ne_bytes().to_vec();
    bytes.resize(RS485_BYTES, 0);
    give(ioctl, bytes)
}

fn flow(tty: &Tty, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
    let action = argument(ioctl)?;
    let mut state = tty.state.lock();
    match action {
        0 | 1 => {
            state.is_stopped = action == 0;
            tty.port.stop(state.is_stopped || state.discipline.is_stopped());
        }
        2 => tty.port.send_first(state.discipline.termios().special(cc::STOP)),
        3 => tty.port.send_first(state.discipline.termios().special(cc::START)),
        _ => return Err(Error::plain(Errno::EINVAL)),
    }
    drop(state);
    tty.tell();
    done()
}

fn flush(tty: &Tty, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
    let queue = argument(ioctl)?;
    if queue > 2 {
        return Err(Error::plain(Errno::EINVAL));
    }
    let mut state = tty.state.lock();
    if queue != 1 {
        state.discipline.flush_input();
        tty.hold_or_not(&mut state);
    }
    if queue != 0 {
        tty.port.flush_output();
    }
    drop(state);
    tty.tell();
    done()
}

fn modem(tty: &Arc<Tty>, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
    let lines = |bits: u32| (bits & TIOCM_DTR != 0, bits & TIOCM_RTS != 0);
    match ioctl.cmd {
        TIOCMGET => {
            let signals = tty.port.signals();
            let table = [
                (signals.dtr, TIOCM_DTR),
                (signals.rts, TIOCM_RTS),
                (signals.cts, TIOCM_CTS),
                (signals.dcd, TIOCM_CAR),
                (signals.ri, TIOCM_RNG),
                (signals.dsr, TIOCM_DSR),
            ];
            let bits: u32 = table.iter().filter(|(is_up, _)| *is_up).map(|(_, bit)| bit).sum();
            return give(ioctl, bits.to_ne_bytes().to_vec());
        }
        TIOCMIWAIT => return wait_for_change(tty, ioctl),
        TIOCMBIS | TIOCMBIC => {
            let (dtr, rts) = lines(take_number(ioctl)?);
            let is_up = ioctl.cmd == TIOCMBIS;
            tty.port.set_signals(dtr.then_some(is_up), rts.then_some(is_up));
        }
        _ => {
            let (dtr, rts) = lines(take_number(ioctl)?);
            tty.port.set_signals(Some(dtr), Some(rts));
        }
    }
    tty.tell();
    done()
}

/// Until one of the lines asked for has changed.
fn wait_for_change(tty: &Arc<Tty>, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
    let asked = argument(ioctl)?;
    let bits = [TIOCM_CTS, TIOCM_DSR, TIOCM_CAR, TIOCM_RNG];
    let (queue, seen) = (Arc::clone(&tty.writable), tty.writable.generation());
    let before = tty.port.counters().changes;
    let me = Arc::clone(tty);
    let retry = Box::new(move |_: Turn| {
        let now = me.port.counters().changes;
        let mut pairs = bits.iter().zip(before.iter().zip(now));
        let is_over = pairs.any(|(bit, (old, new))| asked & u64::from(*bit) != 0 && *old != new);
        is_over.then(|| Ok((0, Vec::new())))
    });
    Ok(Answer::Blocked(Blocked { queue, seen, retry }))
}

fn about_port(tty: &Tty, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
    if ioctl.is_32_bit {
        return Err(Error::plain(Errno::ENOTTY)); // another layout
    }
    let (port, irq) = tty.port.place();
    let rate = devices::serial_manual::BASE_RATE;
    let mut bytes = Vec::with_capacity(SERIAL_BYTES);
    let fifo = u32::try_from(devices::serial_manual::FIFO).unwrap_or(0);
    // type, line, port, irq, flags, xmit_fifo_size, custom_divisor, baud_base
    for number in [KIND_16550A, 0, u32::from(port), u32::from(irq), 0, fifo, 0, rate] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes.resize(SERIAL_BYTES, 0);
    give(ioctl, bytes)
}

fn counts(tty: &Tty, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
    let dropped = tty.state.lock().discipline.dropped();
    let c = tty.port.counters();
    let [cts, dsr, dcd, rng] = c.changes;
    let numbers = [
        cts,
        dsr,
        rng,
        dcd,
        c.received,
        c.sent,
        c.framing,
        c.overrun,
        c.parity,
        c.breaks,
        c.overflow + dropped,
    ];
    let mut bytes: Vec<u8> = Vec::with_capacity(4 * COUNTS);
    for number in numbers {
        bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes());
    }
    bytes.resize(4 * COUNTS, 0);
    give(ioctl, bytes)
}
