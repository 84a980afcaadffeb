//! What the host tells of the signals of a thread that waits for us.
//!
//! Pending signals stand only in `/proc/<tid>/status`, whose making takes the host some 8 us. Two
//! cheaper things tell when a look at it is worth while:
//!
//! 1. How long its process has run (its clock, 0.4 us). A thread that waits for its call runs when
//!    it is answered, or when a deadly signal wakes it; the others leave it asleep.
//! 2. How many signals are queued for a user's processes, in the status of any of them. SIGKILL is
//!    not among them, but deadly.

use crate::sync::Mutex;
use nix::time::ClockId;
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// The file is about 1,400 bytes; the signals stand in its second half.
const STATUS_BYTES_MAX: usize = 4096;
/// The bit of SIGKILL in a set of signals.
const KILL: u64 = 1 << 8;

/// A thread that is looked at.
pub(super) struct Watched {
    status: File,
    /// Its process's; none when that is gone, or cannot be seen from here.
    clock: Option<ClockId>,
    ran: Mutex<Duration>,
}

/// What its status tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signals {
    /// Whether one is pending that is neither blocked nor ignored.
    pub(super) is_wanted: bool,
    /// How many are pending that count as queued.
    pub(super) pending: u64,
    /// Whose process it is.
    pub(super) user: u32,
    /// How many are queued for all processes of that user.
    pub(super) queued: u64,
}

impl Watched {
    /// # Errors
    /// Those of open(2): `ENOENT` for a thread that cannot be seen from here.
    pub(super) fn open(tid: u32) -> io::Result<Watched> {
        let status = File::open(format!("/proc/{tid}/status"))?;
        let mut text = [0; STATUS_BYTES_MAX];
        let len = status.read_at(&mut text, 0)?;
        let clock = process(&text[..len])
            .and_then(|pid| ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).ok());
        Ok(Watched { status, clock, ran: Mutex::default() })
    }

    /// Whether its process has run since this was last asked; also when nobody can say.
    pub(super) fn has_run(&self) -> bool {
        let Some(now) = self.clock.and_then(|clock| clock.now().ok()) else { return true };
        let now = Duration::from(now);
        std::mem::replace(&mut *self.ran.lock(), now) != now
    }

    /// Its signals; none of a thread that is gone (ESRCH), which waits for no answer.
    pub(super) fn signals(&self) -> Option<Signals> {
        let mut text = [0; STATUS_BYTES_MAX];
        let len = self.status.read_at(&mut text, 0).unwrap_or(0);
        signals(&text[..len])
    }
}

/// The process that a thread belongs to, by the text of `/proc/<tid>/status`.
pub(super) fn process(status: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(status).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// The signals by the text of `/proc/<tid>/status`.
fn signals(status: &[u8]) -> Option<Signals> {
    let text = std::str::from_utf8(status).ok()?;
    let user = text[text.find("\nUid:")? + 5..].split_ascii_whitespace().next()?.parse().ok()?;
    let mut lines = text[text.find("\nSigQ:")? + 1..].lines();
    let queued = lines.next()?.strip_prefix("SigQ:")?.split('/').next()?.trim().parse().ok()?;
    // These four always follow each other (fs/proc/array.c).
    let mut set = |name| u64::from_str_radix(lines.next()?.strip_prefix(name)?.trim(), 16).ok();
    let pending = set("SigPnd:")? | set("ShdPnd:")?;
    let is_wanted = pending & !set("SigBlk:")? & !set("SigIgn:")? != 0;
    let pending = u64::from((pending & !KILL).count_ones());
    Some(Signals { is_wanted, pending, user, queued })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(own: u64, shared: u64, blocked: u64, ignored: u64) -> Vec<u8> {
        format!(
            "Name:\tcat\nUid:\t7\t0\t0\t0\nSigQ:\t5/15\nSigPnd:\t{own:016x}\n\
             ShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\n\
             SigCgt:\t0000000000000000\n"
        )
        .into_bytes()
    }

    fn is_wanted(text: &[u8]) -> bool {
        signals(text).is_some_and(|signals| signals.is_wanted)
    }

    #[test]
    fn a_pending_signal_calls_away_unless_blocked_or_ignored() {
        assert!(!is_wanted(&text(0, 0, 0, 0)));
        assert!(is_wanted(&text(1 << 1, 0, 0, 0)));
        assert!(is_wanted(&text(0, 1 << 8, 0, 0)));
        assert!(!is_wanted(&text(1 << 1, 0, 1 << 1, 0)));
        assert!(!is_wanted(&text(0, 1 << 14, 0, 1 << 14)));
        assert!(is_wanted(&text(1 << 1, 1 << 2, 1 << 1, 0)));
    }

    #[test]
    fn signals_are_counted_but_for_the_one_that_is_never_queued() {
        let found = signals(&text(KILL, 1 << 14 | 1, 0, 0)).unwrap();
        assert_eq!(found, Signals { is_wanted: true, pending: 2, user: 7, queued: 5 });
    }

    #[test]
    fn a_text_that_is_no_status_calls_nobody_away() {
        for garbage in ["", "\nUid:", "\nUid:\t1\nSigQ:\t", "\nUid: 1\nSigQ: 1/2\nSigPnd:\tzz\n"] {
            assert_eq!(signals(garbage.as_bytes()), None);
        }
    }

    #[test]
    fn the_process_of_a_thread_stands_in_its_status() {
        assert_eq!(process(b"Name:\tcat\nTgid:\t17\nPid:\t18\n"), Some(17));
        for none in ["", "Tgid:", "Tgid:\tx\n", "Pid:\t1\n"] {
            assert_eq!(process(none.as_bytes()), None);
        }
    }

    #[test]
    fn who_sleeps_has_not_run_and_who_works_has() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let watched = Watched::open(child.id()).unwrap();
        let (mut quiet, mut line) = (0, [0; 2]);
        while quiet < 100 {
            quiet = if watched.has_run() { 0 } else { quiet + 1 };
            std::thread::yield_now();
        }
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"a\n").unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        assert!(watched.has_run());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(watched.has_run(), "it is gone: nobody can say");
        assert!(watched.signals().is_none());
    }

    #[test]
    fn a_thread_that_is_not_there_cannot_be_watched() {
        let refusal = Watched::open(u32::MAX).err().unwrap();
        assert_eq!(refusal.kind(), io::ErrorKind::NotFound);
    }
}
