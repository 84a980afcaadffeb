//! Calls that wait for a device without a thread each, and those who poll.
//!
//! A blocked call leaves its reply here with what tries it again. One thread does that for all of
//! them, when a queue they wait for is rung, or when they are called away.
//!
//! 1. A ring between a call's last try and its entering here is not missed: the queue's generation
//!    tells ([`Blocked::seen`]).
//! 2. Calls on one queue are tried in the order in which they came.
//! 3. Each call is answered exactly once; one that panics answers EIO.
//! 4. A poller is told once, of news since it looked that make something it asked for hold, and
//!    must poll again.
//! 5. While nothing is rung the thread sleeps, and ends when nobody has come for [`IDLE_MAX`].

use super::park::Parked;
use crate::error::Errno;
use crate::file::{Call, FileOps, Polled, Turn};
use crate::sync::{Arc, Condvar, Mutex};
use devices::WaitQueue;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Weak;
use std::time::Duration;

/// `POLLERR | POLLHUP`: told to whoever polls, asked for or not.
const ALWAYS: u32 = 0x18;
/// `POLLOUT | POLLWRNORM | POLLWRBAND`
const WRITING: u32 = 0x304;
/// What news for readers, and for writers, may bring.
const SIDES: [u32; 2] = [!WRITING, WRITING | ALWAYS];

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
    /// News when it last looked; of several pollers, when the first did.
    seen: [u64; 2],
    tell: Tell,
}

/// Has the host ask anew.
type Tell = Box<dyn FnOnce() -> io::Result<()> + Send>;

impl Poller {
    /// Whether a look shows what was asked for, and it is news.
    fn has_news(&self, now: Polled) -> bool {
        let sides = SIDES.iter().zip(self.seen.iter().zip(now.news));
        let new =
            sides.filter(|(_, (seen, now))| **seen != *now).fold(0, |all, (side, _)| all | side);
        now.ready & new & (self.events | ALWAYS) != 0
    }

    /// Makes this one do for an older one too: several may poll one open file, and the host knows
    /// them all by the same number.
    fn join(&mut self, older: &Poller) {
        for (index, side) in SIDES.iter().enumerate() {
            if older.events & side & !ALWAYS != 0 {
                self.seen[index] = older.seen[index];
            }
        }
        self.events |= older.events;
    }
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

    /// What lists all who wait: handle and thread, in the order of their coming.
    pub(super) fn lister(&self) -> impl Fn() -> Vec<(u64, u32)> + Send + Sync + 'static {
        let hall = Arc::downgrade(&self.hall);
        move || {
            let Some(hall) = hall.upgrade() else { return Vec::new() };
            hall.state.lock().entries.values().map(|entry| (entry.handle, entry.tid)).collect()
        }
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

    /// Has whoever polls an open file, and `looked`, told when news make one of `events` hold.
    pub(super) fn watch_poll(
        &self,
        handle: u64,
        ops: &Arc<dyn FileOps>,
        call: Call,
        (events, looked): (u32, Polled),
        tell: Tell,
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
        let ops = Arc::clone(ops);
        let mut poller = Poller { ops, call, events, seen: looked.news, tell };
        if let Some(older) = state.pollers.get(&handle) {
            poller.join(older);
        }
        state.pollers.insert(handle, poller);
        let needs_thread = !state.has_thread;
        state.has_thread = true;
        drop(state);
        if needs_thread {
            self.start();
        }
        // What came between the look and now was rung when nobody was here.
        self.hall.tell(handle);
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

    /// Tells a poller, if there is news and what it asked for holds.
    fn tell(&self, handle: u64) {
        let state = self.state.lock();
        let Some(poller) = state.pollers.get(&handle) else { return };
        let (ops, call) = (Arc::clone(&poller.ops), poller.call);
        drop(state);
        let now = ops.poll(&call);
        let mut state = self.state.lock();
        if !state.pollers.get(&handle).is_some_and(|poller| poller.has_news(now)) {
            return;
        }
        let poller = state.pollers.remove(&handle);
        for watched in &mut state.queues {
            watched.pollers.remove(&handle);
        }
        drop(state);
        if let Some(poller) = poller
            && let Err(refusal) = (poller.tell)()
        {
            log::debug!(target: "fuse", "poll of {handle}: {refusal}");
        }
    }
}

#[cfg(test)]
#[path = "lobby_tests.rs"]
mod tests;
