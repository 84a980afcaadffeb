//! The host's clock, bounded waits, and the wish to stop: Ctrl-C ends every wait.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at what is waited for: short beside a run, long beside a look.
const LOOK: Duration = Duration::from_millis(10);

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Why something was not done.
#[derive(Debug)]
pub enum Trouble {
    /// The user wants us to stop.
    Stopped,
    /// In words.
    Failed(String),
}

impl Trouble {
    /// `what: why`.
    pub fn new(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Trouble {
        Trouble::Failed(format!("{what}: {why}"))
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Stopped => f.write_str("interrupted"),
            Trouble::Failed(words) => f.write_str(words),
        }
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP ask us to stop instead of ending us on the spot.
pub fn listen() -> std::io::Result<()> {
    let flag = STOP.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, 1] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// `Err` once we are asked to stop.
pub fn go_on() -> Result<(), Trouble> {
    match STOP.get().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
        true => Err(Trouble::Stopped),
        false => Ok(()),
    }
}

/// The host's clock.
#[allow(clippy::disallowed_methods, reason = "a bench measures the host's time, not a machine's")]
pub fn now() -> Instant {
    Instant::now()
}

/// Looks until `done` or until `limit` is over; true when done.
#[allow(clippy::disallowed_methods, reason = "other processes are waited for, not a machine")]
pub fn wait(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let begin = now();
    loop {
        if done() {
            return true;
        }
        if begin.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_done_or_when_its_time_is_over() {
        let mut looks = 0;
        assert!(wait(Duration::from_secs(60), || {
            looks += 1;
            looks == 3
        }));
        assert_eq!(looks, 3);
        assert!(!wait(Duration::from_millis(1), || false));
    }
}
