//! Simulated time, and the clock everybody asks.

/// Nanoseconds since the machine was switched on. Never runs backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SimTime(pub u64);

impl SimTime {
    /// This time plus `nanos` nanoseconds.
    #[must_use]
    pub fn after(self, nanos: u64) -> SimTime {
        SimTime(self.0.saturating_add(nanos))
    }

    /// Nanoseconds from `earlier` until now; 0 if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: SimTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The wall clock, or a virtual one. Everyone may ask.
pub trait Clock: Send + Sync {
    /// The time now. Does not wait.
    fn now(&self) -> SimTime;
}
