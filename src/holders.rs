//! Who holds which unit: allocations to sessions, and the claims of open files.
//!
//! 1. Owner of an allocation is a *session* (setsid(2)): the shell that you logged in with and all
//!    that it started. `spindle ctl` itself is gone when it has answered; its session is not.
//! 2. An allocation ends with its session's leader or, where none was to be seen, with the last
//!    process of the session: within [`LOOK_EVERY`] somebody has looked. Nobody looks while nothing
//!    is allocated. Sessions begun outside of our pid name space are one to us, number 0.
//! 3. Every open file of a unit has a claim; one that shares all it can stands in nobody's way but
//!    that of an allocation by another session.

use crate::error::{Errno, Error, flags};
use crate::file::{Answer, Blocked, Caller};
use crate::sync::{Arc, Mutex};
use devices::WaitQueue;
use devices::engine::Engine;
use devices::reserve::{Access, Handle, Openings, Owner, Refusal, Reservation, Turn};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often the leaders of sessions that hold something are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long an allocation waits for a close that the host has begun but not yet told us of.
const RELEASE_NANOS: u64 = 50_000_000;

/// The owner that a caller is whom the host does not show; no process has this number.
const STRANGER: Owner = Owner(u32::MAX);

/// With what a session ends, for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With its leader, who began at this moment: another may have the number later.
    Leader(u64),
    /// With its last process: the leader has ended, or lives outside of our pid name space. This is
    /// one of them, or was.
    Last(u32),
}

/// The session of a caller, and what ends it, by `/proc`; `None` where the host does not show it.
fn session(pid: u32) -> Option<(Owner, End)> {
    let owner = Owner(stat(pid)?.session);
    Some((owner, leader(owner).map_or(End::Last(pid), End::Leader)))
}

/// The same for callers that only have to be told from others.
fn owner(pid: u32) -> Owner {
    stat(pid).map_or(STRANGER, |found| Owner(found.session))
}

/// When the leader of a session began; `None`: it has ended, or is not to be seen.
fn leader(owner: Owner) -> Option<u64> {
    let found = stat(owner.0).filter(|_| owner.0 > 0)?;
    (found.session == owner.0 && !found.is_dead).then_some(found.began)
}

fn is_member(owner: Owner, pid: u32) -> bool {
    stat(pid).is_some_and(|found| found.session == owner.0 && !found.is_dead)
}

/// A process of a session that lives. Looks at every process there is until it has found one.
fn any_member(owner: Owner) -> Option<u32> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| is_member(owner, *pid))
}

/// With what a session ends that has not ended yet; `None`: it has. Others are looked for only when
/// the process known of it is gone: among 10,000 that takes the host 0.1 s.
fn next_end(owner: Owner, end: End) -> Option<End> {
    match end {
        End::Leader(began) => (leader(owner) == Some(began)).then_some(end),
        End::Last(pid) if is_member(owner, pid) => Some(end),
        End::Last(_) => any_member(owner).map(End::Last),
    }
}

struct Stat {
    session: u32,
    began: u64,
    is_dead: bool,
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A line of proc_pid_stat(5); the name in it may have blanks and parentheses.
fn parse(line: &str) -> Option<Stat> {
    let words: Vec<&str> = line.rsplit_once(") ")?.1.split(' ').collect();
    Some(Stat {
        session: words.get(3)?.parse().ok()?,
        began: words.get(19)?.parse().ok()?,
        is_dead: matches!(words.first(), Some(&("Z" | "X"))),
    })
}

/// What an open file does to its unit, and lets others do; dropped, it is given up.
pub struct Claim {
    holders: Arc<Holders>,
    reservation: Arc<Reservation>,
    handle: Handle,
}

impl Claim {
    /// A claim for what open(2) with these flags may do; all is shared.
    ///
    /// # Errors
    /// `EBUSY` where another session holds the unit, or another open file does not share it.
    pub fn new(
        holders: &Arc<Holders>,
        (name, reservation): (&str, &Arc<Reservation>),
        caller: &Caller,
        flags: i32,
    ) -> Result<Claim, Error> {
        let access = match flags & flags::O_ACCMODE {
            flags::O_RDONLY => Access::Read,
            flags::O_WRONLY => Access::Write,
            _ => Access::ReadWrite,
        };
        let opened = reservation.open(owner(caller.pid), access, Access::ReadWrite);
        let handle = opened.map_err(|why| refused(name, why))?;
        let (holders, reservation) = (Arc::clone(holders), Arc::clone(reservation));
        Ok(Claim { holders, reservation, handle })
    }

    /// Allocates the unit: see [`Holders::allocate`].
    ///
    /// # Errors
    /// As there.
    pub fn allocate(
        &self,
        name: &str,
        caller: &Caller,
        wait: Wait,
        engine: &Arc<Engine>,
    ) -> Result<Answer<()>, Error> {
        self.holders.allocate((name, &self.reservation), caller, wait, engine)
    }

    /// Gives the unit back.
    ///
    /// # Errors
    /// `EPERM` for what is not the session's.
    pub fn deallocate(&self, name: &str, caller: &Caller) -> Result<(), Error> {
        self.holders.deallocate((name, &self.reservation), caller)
    }

    /// Others may have no more than `share` from now on. Where another has more, it is waited a
    /// moment for: it may have been closed, and we not told yet.
    ///
    /// # Errors
    /// `EBUSY` where another open file has more; `EINTR`.
    pub fn share(
        &self,
        name: &str,
        share: Access,
        engine: &Arc<Engine>,
    ) -> Result<Answer<()>, Error> {
        let (unit, handle) = (Arc::clone(&self.reservation), self.handle);
        if unit.share(handle, share).is_ok() {
            return Ok(Answer::Now(()));
        }
        let (name, engine) = (name.to_owned(), Arc::clone(engine));
        Ok(Answer::Later(Box::new(move |interrupt| {
            unit.share_soon(handle, share, (&engine, interrupt), RELEASE_NANOS)
                .map_err(|why| why.map_or(Errno::EINTR.into(), |why| refused(&name, why)))
        })))
    }

    /// The file was closed.
    pub fn give_up(&self) {
        self.reservation.close(self.handle);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn refused(name: &str, why: Refusal) -> Error {
    match why {
        Refusal::Busy(Some(Owner(session))) => {
            Error::new(Errno::EBUSY, format!("{name}: held by session {session}"))
        }
        Refusal::Busy(None) => Error::new(Errno::EBUSY, format!("{name}: others wait for it")),
        Refusal::NotOwner => {
            Error::new(Errno::EPERM, format!("{name}: not allocated to your session"))
        }
        Refusal::TooMany => Error::new(Errno::EAGAIN, format!("{name}: too many wait for it")),
    }
}

/// See the head of this file.
#[derive(Default)]
pub struct Holders {
    units: Mutex<Vec<Arc<Reservation>>>,
    watched: Mutex<Watched>,
    bell: WaitQueue,
}

#[derive(Default)]
struct Watched {
    /// Sessions that hold something, and what ends them.
    sessions: BTreeMap<Owner, End>,
    has_thread: bool,
}

impl Holders {
    /// A reservation for one more unit.
    pub fn unit(&self) -> Arc<Reservation> {
        let unit = Arc::new(Reservation::new(Openings::Many)); // drivers say who may be alone
        self.units.lock().push(Arc::clone(&unit));
        unit
    }

    /// Allocates a unit to the caller's session; blocked, the call stands in its line for as long
    /// as it may wait.
    ///
    /// # Errors
    /// `ETIMEDOUT`; `EBUSY` where no wait was wanted; `EPERM` for a caller who is not to be seen,
    /// or whose session ends meanwhile; `EAGAIN` where too many wait.
    pub fn allocate(
        self: &Arc<Self>,
        (name, unit): (&str, &Arc<Reservation>),
        caller: &Caller,
        wait: Wait,
        engine: &Arc<Engine>,
    ) -> Result<Answer<()>, Error> {
        let (owner, end) = session(caller.pid).ok_or_else(|| {
            let words = "your process is not to be seen (another pid name space?)";
            Error::new(Errno::EPERM, format!("{name}: {words}"))
        })?;
        let queue = unit.waits();
        let seen = queue.generation();
        let Err(why) = unit.allocate(owner) else {
            self.watch(owner, end);
            return Ok(Answer::Now(()));
        };
        let nanos = match wait {
            Wait::No => Some(RELEASE_NANOS),
            Wait::Nanos(nanos) => Some(nanos),
            Wait::Forever => None,
        };
        let late = match wait {
            Wait::No => refused(name, why),
            _ => Error::new(Errno::ETIMEDOUT, format!("{name}: still held by another")),
        };
        let waiting = unit.wait(engine, owner, nanos).map_err(|why| refused(name, why))?;
        let (all, mut late) = (Arc::clone(self), Some(late));
        let retry = Box::new(move |_| match waiting.look() {
            Turn::NotYet => None,
            Turn::Served => {
                all.watch(owner, end);
                Some(Ok(()))
            }
            Turn::TimedOut => late.take().map(Err),
            // Its session ended meanwhile: it would wait for ever.
            Turn::Gone => Some(Err(Error::plain(Errno::EPERM))),
        });
        Ok(Answer::Blocked(Blocked { queue, seen, retry }))
    }

    /// Gives a unit back.
    ///
    /// # Errors
    /// `EPERM` for what is not the session's.
    pub fn deallocate(
        &self,
        (name, unit): (&str, &Arc<Reservation>),
        caller: &Caller,
    ) -> Result<(), Error> {
        unit.deallocate(owner(caller.pid)).map_err(|why| refused(name, why))
    }

    fn watch(self: &Arc<Self>, owner: Owner, end: End) {
        let mut watched = self.watched.lock();
        watched.sessions.insert(owner, end);
        if std::mem::replace(&mut watched.has_thread, true) {
            return;
        }
        drop(watched);
        let all = Arc::clone(self);
        let thread = std::thread::Builder::new().name("holders".into()).stack_size(128 << 10);
        if let Err(refusal) = thread.spawn(move || all.look_while_held()) {
            // The next allocation tries again; until then a dead session keeps what it has.
            log::error!(target: "spec", "no thread to look after allocations: {refusal}");
            self.watched.lock().has_thread = false;
        }
    }

    fn look_while_held(&self) {
        loop {
            self.bell.wait(self.bell.generation(), Some(LOOK_EVERY));
            let units = self.units.lock().clone();
            let sessions = self.watched.lock().sessions.clone();
            for (owner, end) in sessions {
                let next = next_end(owner, end);
                if next.is_none() {
                    for unit in &units {
                        unit.release_owner(owner);
                    }
                }
                let mut watched = self.watched.lock();
                match next.filter(|_| units.iter().any(|unit| unit.owner() == Some(owner))) {
                    Some(next) => watched.sessions.insert(owner, next),
                    None => watched.sessions.remove(&owner),
                };
            }
            let mut watched = self.watched.lock();
            if watched.sessions.is_empty() {
                watched.has_thread = false;
                return;
            }
        }
    }
}

/// How long an allocation may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// So many nanoseconds of machine time.
    Nanos(u64),
    /// Until it is served.
    Forever,
}

#[cfg(test)]
mod tests {
    use super::*;
    use devices::engine::Time;

    #[test]
    fn a_session_is_found_behind_any_name() {
        let line = |state: &str| format!("7 (a) b (c) {state} 1 2 3 {}99 0\n", "0 ".repeat(15));
        let found = parse(&line("S")).unwrap();
        assert_eq!((found.session, found.began, found.is_dead), (3, 99, false));
        assert!(parse(&line("Z")).unwrap().is_dead);
        assert!(parse("7 (a").is_none() && parse("7 (a) S 1").is_none());
    }

    #[test]
    fn a_session_lives_as_long_as_its_leader_or_its_last_process() {
        assert_eq!(leader(Owner(0)), None);
        assert_eq!(session(u32::MAX), None);
        assert_eq!(owner(u32::MAX), STRANGER);
        let mine = owner(std::process::id());
        assert_eq!(next_end(STRANGER, End::Last(std::process::id())), None);
        assert_eq!(next_end(mine, End::Leader(u64::MAX)), None);
    }

    #[test]
    fn others_of_a_session_are_looked_for_when_the_one_known_is_gone() {
        let me = std::process::id();
        let mine = owner(me);
        assert_eq!(next_end(mine, End::Last(me)), Some(End::Last(me)));
        let Some(End::Last(other)) = next_end(mine, End::Last(u32::MAX)) else {
            panic!("we are of our session")
        };
        assert_eq!(owner(other), mine);
    }

    #[test]
    fn an_open_file_of_a_stranger_keeps_an_allocation_out() {
        let me = Caller { pid: std::process::id(), uid: 0, gid: 0 };
        let kernel = Caller { pid: 0, ..me };
        let (all, engine) = (Arc::new(Holders::default()), Engine::new(Time::Simulated));
        let unit = all.unit();
        let claim = Claim::new(&all, ("st0", &unit), &kernel, flags::O_RDONLY).unwrap();
        let allocate = |wait| {
            let Answer::Blocked(mut call) = all.allocate(("st0", &unit), &me, wait, &engine)?
            else {
                return Ok(());
            };
            assert!((call.retry)(crate::file::Turn::Rung).is_none() && engine.skip_to_next());
            (call.retry)(crate::file::Turn::Rung).expect("its time is over")
        };
        assert_eq!(allocate(Wait::No).unwrap_err().errno, Errno::EBUSY);
        assert_eq!(allocate(Wait::Nanos(1)).unwrap_err().errno, Errno::ETIMEDOUT);
        let waits = all.allocate(("st0", &unit), &me, Wait::Forever, &engine).unwrap();
        let Answer::Blocked(mut call) = waits else { panic!("nobody had it") };
        drop(claim);
        assert!((call.retry)(crate::file::Turn::Last).unwrap().is_ok());
        drop(call);
        let refused = Claim::new(&all, ("st0", &unit), &kernel, flags::O_RDONLY).err().unwrap();
        assert_eq!(refused.errno, Errno::EBUSY);
        assert_eq!(all.deallocate(("st0", &unit), &kernel).unwrap_err().errno, Errno::EPERM);
        all.deallocate(("st0", &unit), &me).unwrap();
        assert!(Claim::new(&all, ("st0", &unit), &kernel, flags::O_RDONLY).is_ok());
    }
}
