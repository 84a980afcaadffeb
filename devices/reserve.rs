//! Reservation of a unit: allocated to an owner, opened under share modes, waited for in order.
//!
//! It knows nothing of devices: whoever opens units keeps one for each, and says who counts as one
//! owner (a process, a session). No call waits but
//! [`Reservation::share_soon`].
//!
//! 1. At most one owner holds the allocation; as long as it does nobody else opens the unit.
//! 2. Of two open handles each one's access is within what the other shares.
//! 3. Who waits is served in the order of asking, and nobody overtakes: the allocation goes from
//!    who gives it up to the first in the line, with nothing in between. (The line is for the
//!    allocation: what is shared is opened meanwhile as ever.)
//! 4. An owner that is gone ([`Reservation::release_owner`]) holds nothing and waits for nothing.
//!    Its open handles are closed by whoever opened them.

use crate::contract::{Interrupt, WaitQueue};
use crate::engine::{Engine, EventId};
use crate::sync::{Arc, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

/// Those who can wait for a unit at once.
pub const WAITERS_MAX: usize = 1024;

/// Who reserves: whatever number the kernel half gives those who belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub u32);

/// What a handle does, or lets others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Neither.
    None,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    /// As in `open --share`: `none`, `read`, `write`, `rw`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Access::None => "none",
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "rw",
        }
    }

    /// The access of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Access> {
        let all = [Access::None, Access::Read, Access::Write, Access::ReadWrite];
        all.into_iter().find(|access| access.name() == name)
    }

    fn reads(self) -> bool {
        matches!(self, Access::Read | Access::ReadWrite)
    }

    fn writes(self) -> bool {
        matches!(self, Access::Write | Access::ReadWrite)
    }

    /// Whether all of it is in `other`.
    #[must_use]
    pub fn is_within(self, other: Access) -> bool {
        (!self.reads() || other.reads()) && (!self.writes() || other.writes())
    }
}

/// How many handles a unit bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Openings {
    /// One: a tape, a printer.
    One,
    /// As many as share.
    Many,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Held, by that owner where one of them is to be named. EBUSY.
    Busy(Option<Owner>),
    /// What is not yours you cannot give back. EPERM.
    NotOwner,
    /// [`WAITERS_MAX`] wait already. EAGAIN.
    TooMany,
}

/// An open handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle(u64);

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u64);

/// See the head of this file.
pub struct Reservation {
    openings: Openings,
    state: Mutex<State>,
    waits: Arc<WaitQueue>,
}

#[derive(Default)]
struct State {
    owner: Option<Owner>,
    /// The place to which the allocation was given, until it is told.
    served: Option<u64>,
    /// Places of those who held it already, until they are told.
    needless: Vec<u64>,
    handles: BTreeMap<Handle, Held>,
    line: VecDeque<(u64, Owner)>,
    last: u64,
}

struct Held {
    owner: Owner,
    access: Access,
    share: Access,
}

impl State {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Who is in the way of an allocation to `owner`.
    fn in_the_way(&self, owner: Owner) -> Option<Owner> {
        let other = self.owner.filter(|holder| *holder != owner);
        other.or_else(|| self.handles.values().map(|held| held.owner).find(|o| *o != owner))
    }

    fn is_served(&self, place: Place) -> bool {
        self.served == Some(place.0) || self.needless.contains(&place.0)
    }

    /// Nobody holds the allocation any more. Who had found that he had it, and does not know yet,
    /// waits for it like others, where he came to stand.
    fn free(&mut self) {
        self.served = None;
        let Some(owner) = self.owner.take() else { return };
        for place in self.needless.drain(..) {
            let at = self.line.partition_point(|(other, _)| *other < place);
            self.line.insert(at, (place, owner));
        }
    }

    fn has_place(&self, place: Place) -> bool {
        self.is_served(place) || self.line.iter().any(|(other, _)| *other == place.0)
    }

    /// Gives what is free to the first in the line.
    fn pass_on(&mut self) {
        if self.owner.is_some() {
            return;
        }
        if let Some(&(place, owner)) = self.line.front()
            && self.in_the_way(owner).is_none()
        {
            self.line.pop_front();
            (self.owner, self.served) = (Some(owner), Some(place));
        }
    }
}

impl Reservation {
    /// A free unit.
    #[must_use]
    pub fn new(openings: Openings) -> Reservation {
        Reservation { openings, state: Mutex::default(), waits: Arc::default() }
    }

    /// Rung whenever something is given up.
    #[must_use]
    pub fn waits(&self) -> Arc<WaitQueue> {
        Arc::clone(&self.waits)
    }

    /// Who holds the allocation.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.state.lock().owner
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().line.len()
    }

    /// Changes something, passes on what became free, and tells.
    fn give<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let answer = change(&mut state);
        state.pass_on();
        drop(state);
        self.waits.ring();
        answer
    }

    /// Allocates the unit, if it is idle and nobody waits for it. Again is no error.
    ///
    /// # Errors
    /// `Busy`.
    pub fn allocate(&self, owner: Owner) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if let Some(other) = state.in_the_way(owner) {
            return Err(Refusal::Busy(Some(other)));
        }
        if state.owner.is_none() && !state.line.is_empty() {
            return Err(Refusal::Busy(None));
        }
        state.owner = Some(owner);
        Ok(())
    }

    /// Gives the allocation back.
    ///
    /// # Errors
    /// `NotOwner`.
    pub fn deallocate(&self, owner: Owner) -> Result<(), Refusal> {
        self.give(|state| {
            if state.owner != Some(owner) {
                return Err(Refusal::NotOwner);
            }
            state.free();
            Ok(())
        })
    }

    /// Opens the unit for `access`, letting others have `share` meanwhile.
    ///
    /// # Errors
    /// `Busy` where another holds the unit, has opened it and does not share that much, or has
    /// opened it for more than is shared here.
    pub fn open(&self, owner: Owner, access: Access, share: Access) -> Result<Handle, Refusal> {
        let mut state = self.state.lock();
        if let Some(holder) = state.owner.filter(|holder| *holder != owner) {
            return Err(Refusal::Busy(Some(holder)));
        }
        let in_the_way = |held: &&Held| {
            self.openings == Openings::One
                || !access.is_within(held.share)
                || !held.access.is_within(share)
        };
        if let Some(held) = state.handles.values().find(in_the_way) {
            return Err(Refusal::Busy(Some(held.owner)));
        }
        let handle = Handle(state.number());
        state.handles.insert(handle, Held { owner, access, share });
        Ok(handle)
    }

    /// From now on others may have `share` while that handle is open.
    ///
    /// # Errors
    /// `Busy` where another handle has more; nothing has changed then.
    pub fn share(&self, handle: Handle, share: Access) -> Result<(), Refusal> {
        self.give(|state| {
            let mut others = state.handles.iter().filter(|(other, _)| **other != handle);
            if let Some((_, held)) = others.find(|(_, held)| !held.access.is_within(share)) {
                return Err(Refusal::Busy(Some(held.owner)));
            }
            if let Some(held) = state.handles.get_mut(&handle) {
                held.share = share;
            }
            Ok(())
        })
    }

    /// The same, trying again whenever something is given up, for at most `nanos_max` of machine
    /// time.
    ///
    /// # Errors
    /// `Some`: as above, at the end of that time; `None`: the caller was called away.
    pub fn share_soon(
        &self,
        handle: Handle,
        share: Access,
        (engine, interrupt): (&Engine, &Interrupt),
        nanos_max: u64,
    ) -> Result<(), Option<Refusal>> {
        let is_over = Arc::new(AtomicBool::new(false));
        let alarm = self.alarm(engine, nanos_max, &is_over);
        let mut last = self.share(handle, share);
        let waited = engine.wait(&self.waits, Some(interrupt), || {
            last.is_ok() || is_over.load(Ordering::Acquire) || {
                last = self.share(handle, share);
                last.is_ok()
            }
        });
        engine.cancel(alarm);
        match (last, waited) {
            (Ok(()), _) => Ok(()),
            (Err(_), Err(_)) => Err(None),
            (Err(why), Ok(())) => Err(Some(why)),
        }
    }

    /// Raises `is_over` after so much time, and rings.
    fn alarm(&self, engine: &Engine, nanos: u64, is_over: &Arc<AtomicBool>) -> EventId {
        let (bell, is_over) = (self.waits(), Arc::clone(is_over));
        engine.after(nanos, move || {
            is_over.store(true, Ordering::Release);
            bell.ring();
        })
    }

    /// Closes a handle; again, nothing happens.
    pub fn close(&self, handle: Handle) {
        self.give(|state| state.handles.remove(&handle));
    }

    /// The owner is gone: what it holds and where it waits is given up.
    pub fn release_owner(&self, owner: Owner) {
        self.give(|state| {
            if state.owner == Some(owner) {
                state.free();
            }
            state.line.retain(|(_, other)| *other != owner);
        });
    }

    /// Stands in the line for the allocation.
    ///
    /// # Errors
    /// `TooMany`.
    pub fn stand(&self, owner: Owner) -> Result<Place, Refusal> {
        self.give(|state| {
            if state.line.len() >= WAITERS_MAX {
                return Err(Refusal::TooMany);
            }
            let place = state.number();
            if state.owner == Some(owner) {
                state.needless.push(place); // it has what it would wait for
            } else {
                state.line.push_back((place, owner));
            }
            Ok(Place(place))
        })
    }

    /// Whether that place has been served; who was at it then holds the allocation.
    #[must_use]
    pub fn is_served(&self, place: Place) -> bool {
        self.state.lock().is_served(place)
    }

    /// What has become of a place, asked by who is at it: once it was served, it knows.
    fn look(&self, place: Place) -> Turn {
        let mut state = self.state.lock();
        if !state.has_place(place) {
            return Turn::Gone;
        }
        let is_served = state.is_served(place);
        state.needless.retain(|other| *other != place.0);
        state.served = state.served.filter(|other| *other != place.0);
        if is_served { Turn::Served } else { Turn::NotYet }
    }

    /// Leaves the line. Who was served meanwhile, and does not know, gives it up again.
    pub fn leave(&self, place: Place) {
        self.give(|state| {
            state.line.retain(|(other, _)| *other != place.0);
            state.needless.retain(|other| *other != place.0);
            if state.served == Some(place.0) {
                state.free();
            }
        });
    }

    /// Stands in the line for the allocation, for at most `nanos_max` of machine time.
    ///
    /// # Errors
    /// `TooMany`.
    pub fn wait(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        owner: Owner,
        nanos_max: Option<u64>,
    ) -> Result<Waiting, Refusal> {
        let place = self.stand(owner)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let alarm = nanos_max.map(|nanos| self.alarm(engine, nanos, &is_over));
        let (unit, engine) = (Arc::clone(self), Arc::clone(engine));
        Ok(Waiting { unit, engine, place, alarm, is_over })
    }
}

/// Somebody in the line, who looks whenever [`Reservation::waits`] is rung. Dropped, the place is
/// left, and what it was served without having looked is given up.
pub struct Waiting {
    unit: Arc<Reservation>,
    engine: Arc<Engine>,
    place: Place,
    alarm: Option<EventId>,
    is_over: Arc<AtomicBool>,
}

/// What somebody in the line sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Others come first.
    NotYet,
    /// The unit is allocated.
    Served,
    /// The time is over. ETIMEDOUT.
    TimedOut,
    /// The owner is gone, and its place with it; or it was served and knows. EPERM.
    Gone,
}

impl Waiting {
    /// What has become of it. Does not wait.
    #[must_use]
    pub fn look(&self) -> Turn {
        let is_over = self.is_over.load(Ordering::Acquire);
        match self.unit.look(self.place) {
            Turn::NotYet if is_over => Turn::TimedOut,
            turn => turn, // served at the last moment too
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm {
            self.engine.cancel(alarm);
        }
        self.unit.leave(self.place);
    }
}

#[cfg(test)]
#[path = "reserve_tests.rs"]
mod tests;
