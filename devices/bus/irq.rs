//! Interrupt lines: a chip raises one, the handlers of those who claimed it run, one after another.
//!
//! 1. Handlers run on the thread that raised the line, with no lock of this bus held.
//! 2. A masked line keeps what was raised: unmasked, its handlers run once.
//! 3. A line nobody claimed counts as spurious and does nothing else.
//!
//! Line N is vector 32 + N: the first 32 vectors belong to the processor.

use super::Conflict;
use crate::contract::Origin;
use crate::sync::{Arc, Mutex};
use crate::trace::Trace;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines there are.
pub const LINES: u8 = 224;

/// Vectors below the first line's.
pub const FIRST_VECTOR: u8 = 32;

/// Whether others may claim the same line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else.
    Exclusive,
    /// All who say so too: their handlers form a chain, and each looks at its own chip.
    Shared,
}

type Handler = Arc<dyn Fn() + Send + Sync>;

/// See the head of this file.
pub struct IrqBus {
    lines: Vec<Line>,
    trace: OnceLock<Arc<Trace>>,
}

#[derive(Default)]
struct Line {
    state: Mutex<LineState>,
    raised: AtomicU64,
    handled: AtomicU64,
    spurious: AtomicU64,
}

#[derive(Default)]
struct LineState {
    is_masked: bool,
    is_pending: bool,
    claims: Vec<Claim>,
    claimed_ever: u64,
    /// The chain as it is called: swapped when a claim comes or goes, never changed in place.
    chain: Arc<[Handler]>,
}

struct Claim {
    id: u64,
    owner: String,
    sharing: Sharing,
    handler: Option<Handler>,
}

/// A line of `proc/interrupts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IrqCounters {
    /// The line.
    pub line: u8,
    /// Its vector.
    pub vector: u8,
    /// Who claimed it, in the order in which their handlers run.
    pub owners: Vec<String>,
    /// How often it was raised.
    pub raised: u64,
    /// How often the chain ran.
    pub handled: u64,
    /// How often nobody was there.
    pub spurious: u64,
    /// Whether it is masked.
    pub is_masked: bool,
    /// Whether something waits behind the mask.
    pub is_pending: bool,
}

impl Default for IrqBus {
    fn default() -> IrqBus {
        IrqBus { lines: (0..LINES).map(|_| Line::default()).collect(), trace: OnceLock::new() }
    }
}

impl LineState {
    fn link(&mut self) {
        self.chain = self.claims.iter().filter_map(|claim| claim.handler.clone()).collect();
    }
}

impl IrqBus {
    /// Claims a line; nothing is called before [`IrqLine::connect`].
    ///
    /// # Errors
    /// [`Conflict`] when there is no such line, or it is taken and not shared by both.
    pub fn claim(
        self: &Arc<Self>,
        owner: &str,
        line: u8,
        sharing: Sharing,
    ) -> Result<Arc<IrqLine>, Conflict> {
        let Some(place) = self.lines.get(usize::from(line)) else {
            return Err(Conflict(format!("{owner}: no irq {line}: the last is {}", LINES - 1)));
        };
        let mut state = place.state.lock();
        let shared = sharing == Sharing::Shared;
        let in_the_way = |claim: &&Claim| !shared || claim.sharing == Sharing::Exclusive;
        if let Some(other) = state.claims.iter().find(in_the_way) {
            return Err(Conflict(format!("{owner}: irq {line} is taken by {}", other.owner)));
        }
        state.claimed_ever += 1;
        let id = state.claimed_ever;
        state.claims.push(Claim { id, owner: owner.into(), sharing, handler: None });
        drop(state);
        Ok(Arc::new(IrqLine { bus: Arc::clone(self), line, id }))
    }

    /// From now on notes in `trace` when a line is raised. The first call counts.
    pub fn trace_into(&self, trace: &Arc<Trace>) {
        let _ = self.trace.set(Arc::clone(trace));
    }

    /// A chip raises its line. Call it with no lock held.
    pub fn raise(&self, line: u8) {
        let Some(place) = self.lines.get(usize::from(line)) else { return };
        place.raised.fetch_add(1, Ordering::Relaxed);
        if let Some(trace) = self.trace.get() {
            trace.note(Origin::KERNEL, "irq", "raise step=6", || format!("line={line}"));
        }
        let mut state = place.state.lock();
        if state.is_masked {
            state.is_pending = true;
            return;
        }
        let chain = Arc::clone(&state.chain);
        drop(state);
        place.call(&chain);
    }

    /// Masks a line, or unmasks it and delivers what waited.
    pub fn mask(&self, line: u8, is_masked: bool) {
        let Some(place) = self.lines.get(usize::from(line)) else { return };
        let mut state = place.state.lock();
        state.is_masked = is_masked;
        if is_masked || !std::mem::take(&mut state.is_pending) {
            return;
        }
        let chain = Arc::clone(&state.chain);
        drop(state);
        place.call(&chain);
    }

    /// The line that `owner` claimed, if any.
    #[must_use]
    pub fn line_of(&self, owner: &str) -> Option<u8> {
        let has = |line: &Line| line.state.lock().claims.iter().any(|claim| claim.owner == owner);
        (0..LINES).find(|&number| has(&self.lines[usize::from(number)]))
    }

    /// Every line that is claimed, masked, or was ever raised.
    #[must_use]
    pub fn list(&self) -> Vec<IrqCounters> {
        let all = (0..LINES).map(|number| {
            let line = &self.lines[usize::from(number)];
            let state = line.state.lock();
            IrqCounters {
                line: number,
                vector: FIRST_VECTOR + number,
                owners: state.claims.iter().map(|claim| claim.owner.clone()).collect(),
                raised: line.raised.load(Ordering::Relaxed),
                handled: line.handled.load(Ordering::Relaxed),
                spurious: line.spurious.load(Ordering::Relaxed),
                is_masked: state.is_masked,
                is_pending: state.is_pending,
            }
        });
        all.filter(|line| !line.owners.is_empty() || line.raised > 0 || line.is_masked).collect()
    }
}

impl Line {
    fn call(&self, chain: &[Handler]) {
        let counter = if chain.is_empty() { &self.spurious } else { &self.handled };
        counter.fetch_add(1, Ordering::Relaxed);
        for handler in chain {
            handler();
        }
    }
}

/// A claimed line. Dropped, its handler is out of the chain.
pub struct IrqLine {
    bus: Arc<IrqBus>,
    line: u8,
    id: u64,
}

impl IrqLine {
    /// From now on `handler` runs when the line is raised. It must not wait.
    pub fn connect(&self, handler: impl Fn() + Send + Sync + 'static) {
        let mut state = self.bus.lines[usize::from(self.line)].state.lock();
        if let Some(claim) = state.claims.iter_mut().find(|claim| claim.id == self.id) {
            claim.handler = Some(Arc::new(handler));
        }
        state.link();
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.line
    }
}

impl Drop for IrqLine {
    fn drop(&mut self) {
        let mut state = self.bus.lines[usize::from(self.line)].state.lock();
        let gone = state.claims.extract_if(.., |claim| claim.id == self.id).collect::<Vec<_>>();
        let old = std::mem::take(&mut state.chain);
        state.link();
        drop(state);
        drop((gone, old)); // a handler may own what claims other things
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(line: &IrqLine) -> Arc<AtomicU64> {
        let count = Arc::new(AtomicU64::new(0));
        let inner = Arc::clone(&count);
        line.connect(move || {
            inner.fetch_add(1, Ordering::Relaxed);
        });
        count
    }

    #[test]
    fn a_raised_line_calls_its_handler_and_counts() {
        let bus = Arc::new(IrqBus::default());
        let line = bus.claim("sd0", 14, Sharing::Exclusive).unwrap();
        let count = counting(&line);
        bus.raise(14);
        bus.raise(14);
        assert_eq!(count.load(Ordering::Relaxed), 2);
        let [row] = &bus.list()[..] else { panic!("one line") };
        assert_eq!((row.vector, row.raised, row.handled, row.spurious), (46, 2, 2, 0));
        assert_eq!(bus.line_of("sd0"), Some(14));
    }

    #[test]
    fn a_masked_line_delivers_once_when_unmasked() {
        let bus = Arc::new(IrqBus::default());
        let line = bus.claim("sd0", 14, Sharing::Exclusive).unwrap();
        let count = counting(&line);
        bus.mask(14, true);
        bus.raise(14);
        bus.raise(14);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(bus.list()[0].is_pending);
        bus.mask(14, false);
        bus.mask(14, false);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_shared_line_calls_the_whole_chain() {
        let bus = Arc::new(IrqBus::default());
        let first = bus.claim("a", 5, Sharing::Shared).unwrap();
        let second = bus.claim("b", 5, Sharing::Shared).unwrap();
        let (one, two) = (counting(&first), counting(&second));
        bus.raise(5);
        drop(first);
        bus.raise(5);
        assert_eq!((one.load(Ordering::Relaxed), two.load(Ordering::Relaxed)), (1, 2));
    }

    #[test]
    fn an_exclusive_line_is_refused_to_others_until_given_back() {
        let bus = Arc::new(IrqBus::default());
        let kept = bus.claim("a", 5, Sharing::Exclusive).unwrap();
        let refused = bus.claim("b", 5, Sharing::Shared).err().unwrap();
        assert_eq!(refused.0, "b: irq 5 is taken by a");
        drop(kept);
        let _kept = bus.claim("b", 5, Sharing::Shared).unwrap();
        assert!(bus.claim("c", 5, Sharing::Exclusive).is_err());
        assert!(bus.claim("c", 224, Sharing::Exclusive).is_err());
    }

    #[test]
    fn a_line_without_a_handler_is_spurious() {
        let bus = Arc::new(IrqBus::default());
        bus.raise(9);
        bus.raise(255);
        assert_eq!(bus.list()[0].spurious, 1);
    }

    #[test]
    fn a_handler_may_raise_another_line_and_claim() {
        let bus = Arc::new(IrqBus::default());
        let line = bus.claim("a", 1, Sharing::Exclusive).unwrap();
        let other = bus.claim("b", 2, Sharing::Exclusive).unwrap();
        let count = counting(&other);
        let inner = Arc::downgrade(&bus);
        line.connect(move || {
            let bus = inner.upgrade().unwrap();
            bus.raise(2);
            assert!(bus.claim("c", 1, Sharing::Shared).is_err());
        });
        bus.raise(1);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
