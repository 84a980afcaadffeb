//! What can be chosen for a disk's queue, when it is made and at run time.

use super::scheduler::SCHEDULERS;
use crate::contract::PropertyError;
use crate::sync::Arc;
use crate::trace::Trace;
use std::path::PathBuf;

/// Further tries that may be asked for.
pub const RETRIES_MAX: u32 = 1000;

/// What can be chosen for a disk's queue.
#[derive(Clone)]
pub struct QueueOptions {
    /// One of [`SCHEDULERS`]; an ordered medium has `fifo` whatever stands here.
    pub scheduler: String,
    /// How often a request that failed with `Transient` is tried again.
    pub retries: u32,
    /// After how many nanoseconds without a sign of life the hardware is given up.
    pub timeout_nanos: u64,
    /// The image of its medium, beside which is kept what went wrong; `None`: nothing is kept.
    pub image: Option<PathBuf>,
    /// Where it is noted what is done with each request.
    pub trace: Option<Arc<Trace>>,
}

impl Default for QueueOptions {
    fn default() -> QueueOptions {
        let (scheduler, timeout_nanos) = ("clook".into(), 5_000_000_000);
        QueueOptions { scheduler, retries: 5, timeout_nanos, image: None, trace: None }
    }
}

/// One of [`SCHEDULERS`], or a refusal that lists them.
pub(super) fn check_scheduler(value: &str, is_ordered: bool) -> Result<(), PropertyError> {
    if is_ordered && value != "fifo" {
        let why = "fifo: this medium is served in the order in which requests come";
        return Err(PropertyError::Value(why.into()));
    }
    if SCHEDULERS.contains(&value) {
        return Ok(());
    }
    Err(PropertyError::Value(format!("one of {}", SCHEDULERS.join(" "))))
}

/// A number of further tries.
pub(super) fn parse_retries(value: &str) -> Result<u32, PropertyError> {
    let number = value.parse().ok().filter(|number| *number <= RETRIES_MAX);
    number.ok_or_else(|| PropertyError::Value(format!("a whole number up to {RETRIES_MAX}")))
}

const UNITS: [(&str, u64); 4] = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];

/// A time as written: `5s`, `250ms`. Not 0.
pub(super) fn parse_time(value: &str) -> Result<u64, PropertyError> {
    let refusal = || PropertyError::Value("a time, as 5s or 250ms".into());
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refusal)?.1;
    let nanos = number.parse().ok().and_then(|number: u64| number.checked_mul(unit));
    nanos.filter(|nanos| *nanos > 0).ok_or_else(refusal)
}

/// As [`parse_time`] reads it, in the largest unit that fits.
pub(super) fn format_time(nanos: u64) -> String {
    let fits = UNITS.iter().rev().find(|(_, unit)| nanos.is_multiple_of(*unit));
    let (name, unit) = fits.copied().unwrap_or(UNITS[0]);
    format!("{}{name}", nanos / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for text in ["5s", "250ms", "1500us", "7ns"] {
            assert_eq!(format_time(parse_time(text).unwrap()), text);
        }
        for text in ["", "5", "s", "0s", "-1s", "5 s", "99999999999999999999s", "5h"] {
            assert!(matches!(parse_time(text), Err(PropertyError::Value(_))), "{text}");
        }
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        let Err(PropertyError::Value(words)) = check_scheduler("elevator", false) else { panic!() };
        assert!(words.contains("clook"));
        assert!(check_scheduler("clook", true).is_err() && check_scheduler("fifo", true).is_ok());
        assert!(parse_retries("1001").is_err() && parse_retries("x").is_err());
        assert_eq!(parse_retries("0"), Ok(0));
    }
}
