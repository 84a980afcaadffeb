//! Calls that wait for a device without a thread each, and those who poll.
//!
//! A blocked call leaves its reply here with what tries it again. One thread does that for all of
//! them, when a queue they wait for is rung, or when they are called away.
//!
//! 1. A ring between a call's last try and its entering here is not missed: the queue's generation
//!    tells ([`Blocked::seen`]).
//! 2. Calls on one queue are tried in the order in which they came.
//! 3. Each call is answered exactly once; one that panics answers EIO.
//! 4. A poller is told once, when something it asked for holds, and must poll again.
//! 5. While nothing is rung the thread sleeps, and ends when nobody has come for [`IDLE_MAX`].

use super::park::Parked;
use crate::error::Errno;
use crate::file::{Call, FileOps, Turn};
use crate::sync::{Arc, Condvar, Mutex};
use devices::WaitQueue;
use fuser::PollNotifier;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;
use std::time::Duration;

/// `POLLERR | POLLHUP`: told to whoever polls, asked for or not.
const ALWAYS: u32 = 0x18;

/// How long the thread stays without anybody to serve.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// A blocked call, with its reply.
pub(super) trait Guest: Send {
    /// Tries again. `true`: it was answered.
    fn try_again(&mut self, turn: Turn) -> bool;
    /// Answers an error without trying.
    fn refuse(&mut self, errno: Errno);
}

/// Who waits for what.
pub(super) struct Entry {
    /// The queue, and its generation before the last try.
    pub(super) queue: Arc<WaitQueue>,
    pub(super) seen: u64,
    /// On which open file.
    pub(super) handle: u64,
    /// By which thread.
    pub(super) tid: u32,
    /// What calls it away.
    pub(super) parked: Parked,
    pub(super) guest: Box<dyn Guest>,
}

/// See the head of this file.
#[derive(Clone)]
pub(super) struct Lobby {
    hall: Arc<Hall>,
}

struct Hall {
    me: Weak<Hall>,
    state: Mutex<State>,
    /// Rung when something was rung.
    bell: Condvar,
    /// Rung when a call was answered.
    left: Condvar,
    /// Rung by the interrupts of the calls here.
    away: Arc<WaitQueue>,
}

#[derive(Default)]
struct State {
    /// By arrival. A call being tried is not among them.
    entries: BTreeMap<u64, Entry>,
    last_key: u64,
    being_tried: usize,
    /// By the handle of their open file.
    pollers: BTreeMap<u64, Poller>,
    queues: Vec<Watched>,
    is_away: bool,
    has_thread: bool,
}

/// A queue that is listened to. There are as many as devices have, and they stay.
struct Watched {
    queue: Arc<WaitQueue>,
    calls: BTreeSet<u64>,
    pollers: BTreeSet<u64>,
    is_rung: bool,
}

struct Poller {
    ops: Arc<dyn FileOps>,
    call: Call,
    events: u32,
    notifier: PollNotifier,
}

impl Default for Lobby {
    fn default() -> Lobby {
        let hall = Arc::new_cyclic(|me| Hall {
            me: Weak::clone(me),
            state: Mutex::default(),
            bell: Condvar::new(),
            left: Condvar::new(),
            away: Arc::default(),
        });
        let listener = Weak::clone(&hall.me);
        hall.away.listen(Arc::new(move || {
            let Some(hall) = listener.upgrade() else { return false };
            hall.state.lock().is_away = true;
            hall.bell.notify_one();
            true
        }));
        Lobby { hall }
    }
}

impl Lobby {
    /// Takes a call in. Does not wait.
    pub(super) fn enter(&self, entry: Entry) {
        let interrupt = Arc::clone(entry.parked.interrupt());
        let mut state = self.hall.state.lock();
        let index = self.hall.watch(&mut state, &entry.queue);
        state.last_key += 1;
        let key = state.last_key;
        let watched = &mut state.queues[index];
        watched.calls.insert(key);
        let mut is_due = entry.queue.generation() != entry.seen;
        watched.is_rung |= is_due;
        state.entries.insert(key, entry);
        interrupt.watch(&self.hall.away);
        if interrupt.is_raised() {
            state.is_away = true;
            is_due = true;
        }
        let needs_thread = !state.has_thread;
        state.has_thread = true;
        drop(state);
        if needs_thread {
            self.start();
        } else if is_due {
            self.hall.bell.notify_one();
        }
    }

    /// Whether no call is left. Waits for that, at most `limit`.
    pub(super) fn settle(&self, limit: Duration) -> bool {
        let mut state = self.hall.state.lock();
        let is_busy = |s: &mut State| !s.entries.is_empty() || s.being_tried > 0;
        !self.hall.left.wait_while_for(&mut state, is_busy, limit).timed_out()
    }

    /// The threads that wait on an open file.
    pub(super) fn waiting_on(&self, handle: u64) -> Vec<u32> {
        let state = self.hall.state.lock();
        let on_it = state.entries.values().filter(|entry| entry.handle == handle);
        on_it.map(|entry| entry.tid).collect()
    }

    /// Calls away the calls of these threads on an open file.
    pub(super) fn call_away(&self, handle: u64, tids: &[u32]) {
        let state = self.hall.state.lock();
        let on_it = state.entries.values().filter(|entry| entry.handle == handle);
        let theirs = on_it.filter(|entry| tids.contains(&entry.tid));
        let all: Vec<_> = theirs.map(|entry| Arc::clone(entry.parked.interrupt())).collect();
        drop(state);
        for interrupt in all {
            interrupt.raise();
        }
    }

    /// Has whoever polls an open file told when one of `events` holds.
    pub(super) fn watch_poll(
        &self,
        handle: u64,
        ops: &Arc<dyn FileOps>,
        call: Call,
        events: u32,
        notifier: PollNotifier,
    ) {
        let queues = ops.poll_queues();
        if queues.is_empty() {
            return;
        }
        let mut state = self.hall.state.lock();
        for queue in &queues {
            let index = self.hall.watch(&mut state, queue);
            state.queues[index].pollers.insert(handle);
        }
        // Several may poll one open file; the host knows them all by the same number.
        let others = state.pollers.get(&handle).map_or(0, |poller| poller.events);
        let events = events | others;
        state.pollers.insert(handle, Poller { ops: Arc::clone(ops), call, events, notifier });
        let needs_thread = !state.has_thread;
        state.has_thread = true;
        drop(state);
        if needs_thread {
            self.start();
        }
    }

    /// An open file is gone: nobody polls it.
    pub(super) fn forget(&self, handle: u64) {
        let mut state = self.hall.state.lock();
        if state.pollers.remove(&handle).is_some() {
            for watched in &mut state.queues {
                watched.pollers.remove(&handle);
            }
        }
    }

    fn start(&self) {
        let hall = Arc::clone(&self.hall);
        let thread = std::thread::Builder::new().name("lobby".into()).stack_size(256 << 10);
        let Err(refusal) = thread.spawn(move || hall.serve()) else { return };
        log::error!(target: "fuse", "no thread for calls that wait: {refusal}");
        let mut state = self.hall.state.lock();
        state.has_thread = false;
        let left = std::mem::take(&mut state.entries);
        for watched in &mut state.queues {
            watched.calls.clear();
        }
        drop(state);
        for mut entry in left.into_values() {
            entry.guest.refuse(Errno::ENOMEM);
        }
    }
}

impl Hall {
    /// The place of a queue among those listened to.
    fn watch(&self, state: &mut State, queue: &Arc<WaitQueue>) -> usize {
        let known = state.queues.iter().position(|watched| Arc::ptr_eq(&watched.queue, queue));
        if let Some(index) = known {
            return index;
        }
        let index = state.queues.len();
        let (calls, pollers) = (BTreeSet::new(), BTreeSet::new());
        let queue = Arc::clone(queue);
        let me = Weak::clone(&self.me);
        queue.listen(Arc::new(move || {
            let Some(hall) = me.upgrade() else { return false };
            let mut state = hall.state.lock();
            if let Some(watched) = state.queues.get_mut(index)
                && !watched.is_rung
                && !(watched.calls.is_empty() && watched.pollers.is_empty())
            {
                watched.is_rung = true;
                drop(state);
                hall.bell.notify_one();
            }
            true
        }));
        state.queues.push(Watched { queue, calls, pollers, is_rung: false });
        index
    }

    fn serve(&self) {
        loop {
            self.round();
            let mut state = self.state.lock();
            if state.is_away || state.queues.iter().any(|watched| watched.is_rung) {
                continue;
            }
            if !state.entries.is_empty() || !state.pollers.is_empty() {
                self.bell.wait(&mut state);
            } else if self.bell.wait_for(&mut state, IDLE_MAX).timed_out()
                && state.entries.is_empty()
                && state.pollers.is_empty()
            {
                state.has_thread = false;
                return;
            }
        }
    }

    /// Tries whatever is due, once.
    fn round(&self) {
        let mut due = BTreeMap::new();
        let mut polled = BTreeSet::new();
        {
            let mut state = self.state.lock();
            for watched in state.queues.iter_mut().filter(|watched| watched.is_rung) {
                watched.is_rung = false;
                due.extend(watched.calls.iter().map(|key| (*key, Turn::Rung)));
                polled.extend(watched.pollers.iter().copied());
            }
            if std::mem::take(&mut state.is_away) {
                let away = state.entries.iter().filter(|(_, e)| e.parked.interrupt().is_raised());
                due.extend(away.map(|(key, _)| (*key, Turn::Last)));
            }
        }
        for handle in polled {
            self.tell(handle);
        }
        for (key, turn) in due {
            self.try_again(key, turn);
        }
    }

    fn try_again(&self, key: u64, turn: Turn) {
        let mut state = self.state.lock();
        let Some(mut entry) = state.entries.remove(&key) else { return };
        state.being_tried += 1;
        drop(state);
        let turn = if entry.parked.interrupt().is_raised() { Turn::Last } else { turn };
        let is_answered = entry.guest.try_again(turn);
        let mut state = self.state.lock();
        state.being_tried -= 1;
        if is_answered {
            for watched in &mut state.queues {
                watched.calls.remove(&key);
            }
            self.left.notify_all();
        } else {
            state.is_away |= entry.parked.interrupt().is_raised();
            state.entries.insert(key, entry);
            return;
        }
        drop(state);
        drop(entry); // it leaves the park, which has a lock of its own
    }

    /// Tells a poller, if what it asked for holds.
    fn tell(&self, handle: u64) {
        let state = self.state.lock();
        let Some(poller) = state.pollers.get(&handle) else { return };
        let (ops, call) = (Arc::clone(&poller.ops), poller.call);
        drop(state);
        let ready = ops.poll(&call);
        let mut state = self.state.lock();
        let wanted = |poller: &Poller| ready & (poller.events | ALWAYS) != 0;
        if !state.pollers.get(&handle).is_some_and(wanted) {
            return;
        }
        let poller = state.pollers.remove(&handle);
        for watched in &mut state.queues {
            watched.pollers.remove(&handle);
        }
        drop(state);
        if let Some(poller) = poller
            && let Err(refusal) = poller.notifier.notify()
        {
            log::debug!(target: "fuse", "poll of {handle}: {refusal}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::park::Park;
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const LONG: Duration = Duration::from_secs(60);
    /// A guest's number, and what it was answered.
    type Told = (u32, Result<(), Errno>);

    /// Is answered with a piece of `store`, one a call; tells its number and what it came to.
    struct Reader {
        number: u32,
        store: Arc<Mutex<u32>>,
        tell: Sender<Told>,
    }

    impl Guest for Reader {
        fn try_again(&mut self, turn: Turn) -> bool {
            let mut store = self.store.lock();
            let result = if *store > 0 {
                *store -= 1;
                Ok(())
            } else if turn == Turn::Last {
                Err(Errno::EINTR)
            } else {
                return false;
            };
            self.tell.send((self.number, result)).unwrap();
            true
        }

        fn refuse(&mut self, errno: Errno) {
            self.tell.send((self.number, Err(errno))).unwrap();
        }
    }

    struct Scene {
        lobby: Lobby,
        park: Park,
        queue: Arc<WaitQueue>,
        store: Arc<Mutex<u32>>,
        tell: Sender<Told>,
    }

    impl Scene {
        fn enter(&self, number: u32, seen: u64) -> Arc<devices::Interrupt> {
            let parked = self.park.enter(0);
            let interrupt = Arc::clone(parked.interrupt());
            let (store, tell) = (Arc::clone(&self.store), self.tell.clone());
            let guest = Box::new(Reader { number, store, tell });
            let queue = Arc::clone(&self.queue);
            self.lobby.enter(Entry { queue, seen, handle: 1, tid: number, parked, guest });
            interrupt
        }
    }

    fn scene() -> (Scene, Receiver<Told>) {
        let (tell, told) = channel();
        let (queue, store) = Default::default();
        let (lobby, park) = (Lobby::default(), Park::new(|| {}));
        (Scene { lobby, park, queue, store, tell }, told)
    }

    #[test]
    fn thousands_wait_without_a_thread_each_and_are_served_in_order() {
        let (scene, told) = scene();
        for number in 0..3000 {
            scene.enter(number, 0);
        }
        *scene.store.lock() = 3000;
        scene.queue.ring();
        for number in 0..3000 {
            assert_eq!(told.recv_timeout(LONG).unwrap(), (number, Ok(())));
        }
        assert!(scene.lobby.settle(LONG));
        assert!(scene.park.is_empty());
    }

    #[test]
    fn a_ring_before_the_entry_is_not_missed() {
        let (scene, told) = scene();
        let seen = scene.queue.generation();
        *scene.store.lock() = 1;
        scene.queue.ring();
        scene.enter(7, seen);
        assert_eq!(told.recv_timeout(LONG).unwrap(), (7, Ok(())));
    }

    #[test]
    fn who_is_called_away_is_answered_and_the_others_go_on_waiting() {
        let (scene, told) = scene();
        scene.enter(1, 0);
        let interrupt = scene.enter(2, 0);
        interrupt.raise();
        assert_eq!(told.recv_timeout(LONG).unwrap(), (2, Err(Errno::EINTR)));
        assert_eq!(scene.lobby.waiting_on(1), [1]);
        scene.lobby.call_away(1, &[1]);
        assert_eq!(told.recv_timeout(LONG).unwrap(), (1, Err(Errno::EINTR)));
    }

    #[test]
    fn closing_the_park_answers_everybody_also_who_comes_later() {
        let (scene, told) = scene();
        for number in 0..10 {
            scene.enter(number, 0);
        }
        scene.park.close();
        scene.enter(10, 0);
        for _ in 0..=10 {
            assert_eq!(told.recv_timeout(LONG).unwrap().1, Err(Errno::EINTR));
        }
        assert!(scene.lobby.settle(LONG));
    }
}
