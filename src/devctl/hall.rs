//! Where answers go, and how long is waited for them.

use crate::words;
use devices::value;
use std::io::{ErrorKind, Write};
use std::time::Duration;

/// Standard output, as text or as JSON.
pub(super) struct Hall<'a> {
    out: &'a mut dyn Write,
    pub(super) is_json: bool,
    /// The reader has gone away (`| head`), which is no failure.
    pub(super) is_left: bool,
}

impl<'a> Hall<'a> {
    pub(super) fn new(out: &'a mut dyn Write, is_json: bool) -> Hall<'a> {
        Hall { out, is_json, is_left: false }
    }

    /// # Errors
    /// In words, why nothing can be printed.
    pub(super) fn text(&mut self, text: &str) -> Result<(), String> {
        self.bytes(&[text.as_bytes()])
    }

    /// # Errors
    /// As [`Hall::text`].
    pub(super) fn line(&mut self, line: &str) -> Result<(), String> {
        self.bytes(&[line.as_bytes(), b"\n"])
    }

    /// # Errors
    /// As [`Hall::text`].
    pub(super) fn object(&mut self, object: &serde_json::Value) -> Result<(), String> {
        self.line(&format!("{object:#}"))
    }

    /// `name: line`, whose bytes may be any.
    ///
    /// # Errors
    /// As [`Hall::text`].
    pub(super) fn labelled(&mut self, name: &str, line: &[u8]) -> Result<(), String> {
        self.bytes(&[name.as_bytes(), b": ", line])
    }

    fn bytes(&mut self, parts: &[&[u8]]) -> Result<(), String> {
        let all = parts.concat();
        match self.out.write_all(&all).and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_left = true;
                Ok(())
            }
            Err(error) => Err(format!("standard output: {}", words::of_host(&error))),
            Ok(()) => Ok(()),
        }
    }
}

/// How long something is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// By the host's monotonic clock; `None`: for ever.
    until: Option<Duration>,
}

impl Patience {
    /// So long from now on.
    pub(super) fn of(time: Wait) -> Patience {
        Patience { until: time.0.map(|time| now().saturating_add(time)) }
    }

    pub(super) fn none() -> Patience {
        Patience { until: Some(Duration::ZERO) }
    }

    /// The same, but no longer than that.
    pub(super) fn at_most(self, time: Duration) -> Patience {
        let then = now().saturating_add(time);
        Patience { until: Some(self.until.map_or(then, |until| until.min(then))) }
    }

    pub(super) fn is_over(self) -> bool {
        self.until.is_some_and(|until| until <= now())
    }

    /// What is left of it, and no less; a day at most.
    pub(super) fn slice(self) -> Duration {
        const DAY: Duration = Duration::from_secs(86_400);
        let left = self.until.map_or(DAY, |until| until.saturating_sub(now()).min(DAY));
        // poll(2) counts milliseconds, and is not to end before its time.
        Duration::from_millis(u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(0))
    }
}

fn now() -> Duration {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    nix::time::clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

/// A time as people write it: `5` and `0.5` seconds, `500ms`, `10s`, `forever`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait(pub(super) Option<Duration>);

impl std::str::FromStr for Wait {
    type Err = String;

    fn from_str(word: &str) -> Result<Wait, String> {
        if word == "forever" {
            return Ok(Wait(None));
        }
        let plain = word.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let time = plain.or_else(|| value::parse_time(word).map(Duration::from_nanos));
        time.map(|time| Wait(Some(time)))
            .ok_or_else(|| "no time such as 5, 500ms, 10s or forever".into())
    }
}

impl std::fmt::Display for Wait {
    /// As `ctl` reads it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => f.write_str("forever"),
            Some(time) => {
                let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                f.write_str(&value::format_time(nanos))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let mut gone = Gone;
        let mut hall = Hall::new(&mut gone, false);
        assert_eq!((hall.text("x"), hall.is_left), (Ok(()), true));
        let mut all = Vec::new();
        Hall::new(&mut all, false).labelled("ttyS0", &[0xff, b'\n']).unwrap();
        assert_eq!(all, b"ttyS0: \xff\n");
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let read = |word: &str| word.parse::<Wait>().map(|wait| wait.to_string());
        let table = [("5", "5s"), ("0.5", "500ms"), ("250ms", "250ms"), ("1m", "1m"), ("0", "0s")];
        for (word, meant) in table {
            assert_eq!(read(word).as_deref(), Ok(meant), "{word}");
        }
        assert_eq!(read("forever").as_deref(), Ok("forever"));
        for word in ["", "-1", "soon", "NaN", "inf", "5 s"] {
            assert!(read(word).is_err(), "{word}");
        }
    }

    #[test]
    fn patience_ends_and_is_never_cut_short() {
        assert!(Patience::none().is_over() && Patience::none().slice().is_zero());
        let forever = Patience::of(Wait(None));
        assert!(!forever.is_over() && forever.slice() > Duration::from_secs(3600));
        assert!(forever.at_most(Duration::ZERO).is_over());
        let short = Patience::of(Wait(Some(Duration::from_micros(1_000_100))));
        assert!(short.slice() > Duration::from_millis(900));
        assert!(short.at_most(Duration::from_secs(9)).slice() <= Duration::from_millis(1001));
    }
}
