//! Waiting for a device, and being called away from it.

use crate::sync::{Arc, Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Rung whenever a wait might be over. Who waits reads the generation first, then looks whether
/// there is something to wait for, then waits: a ring in between is not missed.
#[derive(Default)]
pub struct WaitQueue {
    state: Mutex<Bell>,
    rung: Condvar,
}

#[derive(Default)]
struct Bell {
    generation: u64,
    sleepers: u32,
    listeners: Vec<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl WaitQueue {
    /// How often it has been rung.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    /// Wakes everybody who waits. Call it with no lock held.
    pub fn ring(&self) {
        let listeners = {
            let mut bell = self.state.lock();
            bell.generation += 1;
            if bell.sleepers > 0 {
                self.rung.notify_all();
            }
            if bell.listeners.is_empty() {
                return;
            }
            bell.listeners.clone()
        };
        let gone: Vec<_> = listeners.into_iter().filter(|listener| !listener()).collect();
        if !gone.is_empty() {
            let mut bell = self.state.lock();
            bell.listeners.retain(|kept| !gone.iter().any(|lost| Arc::ptr_eq(kept, lost)));
        }
    }

    /// Calls `listener` at every ring until it answers `false`. It must not wait, nor listen here.
    pub fn listen(&self, listener: Arc<dyn Fn() -> bool + Send + Sync>) {
        self.state.lock().listeners.push(listener);
    }

    /// Waits until it has been rung since `seen`, at most `limit`. `false` when the limit ended it.
    pub fn wait(&self, seen: u64, limit: Option<Duration>) -> bool {
        let mut bell = self.state.lock();
        bell.sleepers += 1;
        let mut in_time = true;
        while bell.generation == seen && in_time {
            in_time = match limit {
                None => {
                    self.rung.wait(&mut bell);
                    true
                }
                Some(limit) => !self.rung.wait_for(&mut bell, limit).timed_out(),
            };
        }
        bell.sleepers -= 1;
        bell.generation != seen
    }
}

/// Calls a waiting caller away: set once by whoever sees its signal, its timeout or the unmount.
#[derive(Default)]
pub struct Interrupt {
    raised: AtomicBool,
    waiting_on: Mutex<Option<Arc<WaitQueue>>>,
    led: Mutex<Option<Arc<Interrupt>>>,
}

impl Interrupt {
    /// Whether the caller is called away.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Calls the caller away, and wakes it where it waits.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        let waiting_on = self.waiting_on.lock().clone();
        if let Some(queue) = waiting_on {
            queue.ring();
        }
        let led = self.led.lock().clone();
        if let Some(other) = led {
            other.raise();
        }
    }

    /// Has `other` raised whenever this one is: who waits by `other` can be called away by somebody
    /// else as well, without this one being raised.
    pub fn lead(&self, other: &Arc<Interrupt>) {
        *self.led.lock() = Some(Arc::clone(other));
        if self.is_raised() {
            other.raise();
        }
    }

    /// Says which queue the caller is about to wait on, so that [`Interrupt::raise`] can ring it.
    pub fn watch(&self, queue: &Arc<WaitQueue>) {
        *self.waiting_on.lock() = Some(Arc::clone(queue));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_between_look_and_wait_is_not_missed() {
        let queue = WaitQueue::default();
        let seen = queue.generation();
        queue.ring();
        assert!(queue.wait(seen, Some(Duration::from_secs(60))));
    }

    #[test]
    fn a_wait_that_nobody_ends_is_ended_by_its_limit() {
        let queue = WaitQueue::default();
        assert!(!queue.wait(queue.generation(), Some(Duration::from_millis(1))));
    }

    #[test]
    fn an_interrupt_wakes_the_queue_it_watches() {
        let queue = Arc::new(WaitQueue::default());
        let interrupt = Interrupt::default();
        interrupt.watch(&queue);
        let seen = queue.generation();
        interrupt.raise();
        assert!(interrupt.is_raised() && queue.wait(seen, Some(Duration::from_secs(60))));
    }

    #[test]
    fn an_interrupt_raises_the_one_it_leads_and_not_the_other_way_round() {
        let (one, other) = (Interrupt::default(), Arc::new(Interrupt::default()));
        one.lead(&other);
        other.raise();
        assert!(!one.is_raised());
        let (late, third) = (Arc::new(Interrupt::default()), Arc::new(Interrupt::default()));
        one.lead(&late);
        one.raise();
        assert!(late.is_raised());
        one.lead(&third);
        assert!(third.is_raised(), "it was raised before");
    }

    #[test]
    fn a_listener_hears_rings_until_it_declines() {
        let queue = WaitQueue::default();
        let heard = Arc::new(Mutex::new(0));
        let count = Arc::clone(&heard);
        queue.listen(Arc::new(move || {
            *count.lock() += 1;
            *count.lock() < 2
        }));
        for _ in 0..5 {
            queue.ring();
        }
        assert_eq!(*heard.lock(), 2);
    }
}
