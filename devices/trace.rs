//! The trace: what each layer really did, an event a line, in a ring that forgets the oldest.
//!
//! Off, a trace point costs one load. The events of a request's life carry its number, so that the
//! lines of one request tell its story.

use crate::contract::{Clock, Origin};
use crate::engine::Engine;
use crate::sync::{Arc, Mutex};
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most events kept; the oldest is forgotten for the next.
pub const EVENTS_MAX: usize = 65536;

/// See the head of this file.
pub struct Trace {
    clock: Arc<Engine>,
    is_on: AtomicBool,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Event>,
    seq: u64,
    dropped: u64,
}

struct Event {
    seq: u64,
    usec: u64,
    origin: Origin,
    layer: &'static str,
    event: &'static str,
    detail: String,
}

impl Trace {
    /// An empty trace, off.
    #[must_use]
    pub fn new(clock: Arc<Engine>) -> Arc<Trace> {
        Arc::new(Trace { clock, is_on: AtomicBool::new(false), ring: Mutex::default() })
    }

    /// Starts or stops noting.
    pub fn set(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Whether events are noted: ask before making a detail that costs.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Forgets every event.
    pub fn clear(&self) {
        let mut ring = self.ring.lock();
        ring.events.clear();
        ring.dropped = 0;
    }

    /// Notes that `layer` did `event` for `origin`.
    pub fn note(
        &self,
        origin: Origin,
        layer: &'static str,
        event: &'static str,
        detail: impl FnOnce() -> String,
    ) {
        if !self.is_on() {
            return;
        }
        let (usec, detail) = (self.clock.now().0 / 1000, detail());
        let mut ring = self.ring.lock();
        ring.seq += 1;
        let seq = ring.seq;
        if ring.events.len() == EVENTS_MAX {
            ring.events.pop_front();
            ring.dropped += 1;
        }
        ring.events.push_back(Event { seq, usec, origin, layer, event, detail });
    }

    /// The events as `seq usec req pid layer event detail`, oldest first; the first line says how
    /// many were forgotten, if any were.
    #[must_use]
    pub fn text(&self) -> String {
        let ring = self.ring.lock();
        let mut text = String::new();
        if ring.dropped > 0 {
            let _ = writeln!(text, "# {} older events were forgotten", ring.dropped);
        }
        for e in &ring.events {
            let (id, pid) = (e.origin.id, e.origin.pid);
            let words = format_args!("{} {} {id} {pid}", e.seq, e.usec);
            let _ = writeln!(text, "{words} {} {} {}", e.layer, e.event, e.detail);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Time;

    #[test]
    fn off_it_notes_nothing_and_makes_no_detail() {
        let trace = Trace::new(Engine::new(Time::Simulated));
        trace.note(Origin::KERNEL, "cache", "hit", || panic!("made in vain"));
        assert_eq!(trace.text(), "");
    }

    #[test]
    fn on_it_tells_who_did_what_when_for_whom() {
        let engine = Engine::new(Time::Simulated);
        let trace = Trace::new(Arc::clone(&engine));
        trace.set(true);
        engine.after(7000, || ());
        engine.skip_to_next();
        let origin = Origin { pid: 42, id: 9, ..Origin::KERNEL };
        trace.note(origin, "cache", "hit", || "block=3".into());
        assert_eq!(trace.text(), "1 7 9 42 cache hit block=3\n");
        trace.clear();
        assert_eq!(trace.text(), "");
    }

    #[test]
    fn a_full_ring_forgets_the_oldest_and_says_so() {
        let trace = Trace::new(Engine::new(Time::Simulated));
        trace.set(true);
        for _ in 0..=EVENTS_MAX {
            trace.note(Origin::KERNEL, "x", "y", String::new);
        }
        assert!(trace.text().starts_with("# 1 older events were forgotten\n2 "));
    }
}
