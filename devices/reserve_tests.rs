//! Reservation: every pair of share modes, the line, and a model of all of it.

use super::*;
use crate::contract::{Clock, SimTime};
use crate::engine::Time;
use proptest::prelude::*;

const A: Owner = Owner(1);
const B: Owner = Owner(2);
const C: Owner = Owner(3);
const ALL: [Access; 4] = [Access::None, Access::Read, Access::Write, Access::ReadWrite];

fn many() -> Reservation {
    Reservation::new(Openings::Many)
}

fn one() -> Reservation {
    Reservation::new(Openings::One)
}

const RW: Access = Access::ReadWrite;

#[test]
fn an_allocated_unit_is_its_owners_alone() {
    let unit = many();
    assert_eq!((unit.allocate(A), unit.allocate(A)), (Ok(()), Ok(())));
    assert_eq!(unit.allocate(B), Err(Refusal::Busy(Some(A))));
    assert_eq!(unit.open(B, Access::Read, RW), Err(Refusal::Busy(Some(A))));
    let handle = unit.open(A, RW, RW).unwrap();
    assert_eq!(unit.deallocate(B), Err(Refusal::NotOwner));
    assert_eq!((unit.deallocate(A), unit.deallocate(A)), (Ok(()), Err(Refusal::NotOwner)));
    assert_eq!(unit.allocate(B), Err(Refusal::Busy(Some(A))), "opened by another");
    unit.close(handle);
    assert_eq!((unit.allocate(B), unit.owner()), (Ok(()), Some(B)));
}

#[test]
fn who_stood_for_what_was_given_back_before_he_looked_has_it_again() {
    let unit = many();
    unit.allocate(A).unwrap();
    let (late, other) = (unit.stand(A).unwrap(), unit.stand(B).unwrap());
    unit.deallocate(A).unwrap();
    assert!(unit.is_served(late) && !unit.is_served(other));
    assert_eq!((unit.owner(), unit.waiting()), (Some(A), 1));
    unit.leave(late);
    assert!(unit.is_served(other), "given up untold, it goes on");
}

#[test]
fn who_waits_for_an_owner_that_is_gone_is_told() {
    let (unit, engine) = (Arc::new(many()), Engine::new(Time::Simulated));
    unit.allocate(A).unwrap();
    let [mine, late] = [B, A].map(|owner| unit.wait(&engine, owner, None).unwrap());
    unit.release_owner(B);
    unit.release_owner(A);
    assert_eq!((mine.look(), late.look()), (Turn::Gone, Turn::Gone));
    drop((mine, late));
    assert_eq!((unit.owner(), unit.allocate(C)), (None, Ok(())));
}

#[test]
fn what_a_dead_owner_held_is_free() {
    let unit = many();
    unit.allocate(A).unwrap();
    let place = unit.stand(B).unwrap();
    unit.stand(C).unwrap();
    unit.release_owner(C);
    assert_eq!(unit.waiting(), 1);
    unit.release_owner(A);
    assert!(unit.is_served(place));
    unit.release_owner(B);
    assert_eq!((unit.owner(), unit.waiting()), (None, 0));
}

#[test]
fn a_dedicated_unit_has_one_handle_whatever_is_shared() {
    let unit = one();
    let handle = unit.open(A, Access::Read, RW).unwrap();
    assert_eq!(unit.open(A, Access::Read, RW), Err(Refusal::Busy(Some(A))));
    unit.close(handle);
    unit.close(handle);
    assert!(unit.open(B, RW, Access::None).is_ok());
}

#[test]
fn all_pairs_of_access_and_share_mode() {
    let bits = |access| match access {
        Access::None => 0u8,
        Access::Read => 1,
        Access::Write => 2,
        Access::ReadWrite => 3,
    };
    let mut pairs = 0;
    for first in ALL[1..].iter().flat_map(|access| ALL.map(|share| (*access, share))) {
        for second in ALL[1..].iter().flat_map(|access| ALL.map(|share| (*access, share))) {
            let unit = many();
            let handle = unit.open(A, first.0, first.1).unwrap();
            let fits = bits(second.0) & !bits(first.1) == 0 && bits(first.0) & !bits(second.1) == 0;
            let answer = unit.open(B, second.0, second.1);
            assert_eq!(answer.is_ok(), fits, "{first:?} {second:?}");
            unit.close(handle);
            if let Ok(other) = answer {
                unit.close(other);
            }
            assert!(unit.open(B, second.0, second.1).is_ok());
            pairs += 1;
        }
    }
    assert_eq!(pairs, 144);
}

#[test]
fn share_modes_have_names() {
    for access in ALL {
        assert_eq!(Access::named(access.name()), Some(access));
    }
    assert_eq!(Access::named("all"), None);
}

#[test]
fn ten_share_what_can_be_shared() {
    let unit = many();
    let handles = (0..10).map(|pid| unit.open(Owner(pid), RW, RW).unwrap()).collect::<Vec<_>>();
    assert_eq!(unit.open(A, RW, Access::None), Err(Refusal::Busy(Some(Owner(0)))));
    handles.into_iter().for_each(|handle| unit.close(handle));
    assert!(unit.open(A, RW, Access::None).is_ok());
}

#[test]
fn the_line_is_served_in_order_and_nobody_overtakes() {
    let unit = many();
    unit.allocate(A).unwrap();
    let places = [B, C, Owner(4)].map(|owner| unit.stand(owner).unwrap());
    unit.deallocate(A).unwrap();
    assert_eq!(unit.allocate(A), Err(Refusal::Busy(Some(B))));
    for (place, owner) in places.into_iter().zip([B, C, Owner(4)]) {
        assert!(unit.is_served(place));
        assert_eq!(unit.owner(), Some(owner));
        unit.deallocate(owner).unwrap();
    }
    assert_eq!((unit.owner(), unit.allocate(A)), (None, Ok(())));
}

#[test]
fn an_open_handle_of_another_keeps_the_line_waiting() {
    let unit = many();
    let handle = unit.open(A, Access::Read, RW).unwrap();
    let place = unit.stand(B).unwrap();
    assert!(!unit.is_served(place));
    assert_eq!(unit.allocate(A), Err(Refusal::Busy(None)), "B came first");
    unit.close(handle);
    assert!(unit.is_served(place));
}

#[test]
fn who_leaves_after_being_served_unawares_passes_it_on() {
    let unit = many();
    unit.allocate(A).unwrap();
    let (b, c) = (unit.stand(B).unwrap(), unit.stand(C).unwrap());
    unit.deallocate(A).unwrap();
    unit.leave(b);
    assert!(unit.is_served(c) && !unit.is_served(b));
    assert_eq!(unit.owner(), Some(C));
}

/// Waits on this thread; `None`: called away.
fn waited(
    unit: &Arc<Reservation>,
    engine: &Arc<Engine>,
    owner: Owner,
    nanos_max: Option<u64>,
    interrupt: Option<&Interrupt>,
) -> Option<Turn> {
    let waiting = unit.wait(engine, owner, nanos_max).unwrap();
    let mut turn = Turn::NotYet;
    let done = || {
        turn = waiting.look();
        turn != Turn::NotYet
    };
    engine.wait(&unit.waits(), interrupt, done).ok()?;
    Some(turn)
}

#[test]
fn an_owner_waits_for_what_it_has_no_time_at_all() {
    let (unit, engine) = (Arc::new(many()), Engine::new(Time::Simulated));
    unit.allocate(A).unwrap();
    assert_eq!(waited(&unit, &engine, A, Some(0), None), Some(Turn::Served));
    assert_eq!(unit.owner(), Some(A));
}

#[test]
fn who_was_served_keeps_it_and_who_never_looked_does_not() {
    let (unit, engine) = (Arc::new(many()), Engine::new(Time::Simulated));
    unit.allocate(A).unwrap();
    let (b, c) = (unit.wait(&engine, B, None).unwrap(), unit.wait(&engine, C, Some(9)).unwrap());
    assert_eq!((b.look(), c.look()), (Turn::NotYet, Turn::NotYet));
    unit.deallocate(A).unwrap();
    assert_eq!((c.look(), b.look()), (Turn::NotYet, Turn::Served));
    drop(b);
    assert_eq!(unit.owner(), Some(B));
    unit.deallocate(B).unwrap();
    drop(c);
    assert_eq!((unit.owner(), unit.waiting(), engine.skip_to_next()), (None, 0, false));
}

#[test]
fn waiting_for_what_one_has_puts_nothing_at_stake() {
    let unit = many();
    unit.allocate(A).unwrap();
    let places = [unit.stand(A).unwrap(), unit.stand(A).unwrap()];
    assert!(places.iter().all(|place| unit.is_served(*place)));
    places.into_iter().for_each(|place| unit.leave(place));
    assert_eq!(unit.owner(), Some(A));
}

#[test]
fn a_wait_ends_at_its_time_and_leaves_the_line() {
    let (unit, engine) = (Arc::new(many()), Engine::new(Time::Simulated));
    unit.allocate(A).unwrap();
    let second = 1_000_000_000;
    assert_eq!(waited(&unit, &engine, B, Some(second), None), Some(Turn::TimedOut));
    assert_eq!((engine.now(), unit.waiting()), (SimTime(second), 0));
}

#[test]
fn a_wait_ends_when_its_caller_is_called_away() {
    let (unit, engine) = (Arc::new(many()), Engine::new(Time::Simulated));
    unit.allocate(A).unwrap();
    let interrupt = Interrupt::default();
    interrupt.raise();
    let ended = waited(&unit, &engine, B, None, Some(&interrupt));
    assert_eq!((ended, unit.waiting()), (None, 0));
}

#[test]
fn the_line_has_an_end() {
    let (unit, engine) = (Arc::new(many()), Engine::new(Time::Simulated));
    unit.allocate(A).unwrap();
    for _ in 0..WAITERS_MAX {
        unit.stand(B).unwrap();
    }
    assert_eq!(unit.stand(C), Err(Refusal::TooMany));
    assert_eq!(unit.wait(&engine, C, None).err(), Some(Refusal::TooMany));
}

#[test]
fn waiting_threads_get_it_one_by_one_in_order() {
    let engine = Engine::new(Time::Real);
    engine.start().unwrap();
    let unit = Arc::new(many());
    unit.allocate(A).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let threads = [2, 3, 4].map(|number| {
        let (unit, order, inner) = (Arc::clone(&unit), Arc::clone(&order), Arc::clone(&engine));
        let waiting = unit.waiting();
        let thread = std::thread::spawn(move || {
            assert_eq!(waited(&unit, &inner, Owner(number), None, None), Some(Turn::Served));
            order.lock().push(number);
            unit.deallocate(Owner(number)).unwrap();
        });
        (thread, waiting)
    });
    // They came in some order: each was in the line or not yet. Let all of them stand first.
    let bell = unit.waits();
    loop {
        let seen = bell.generation();
        if unit.waiting() == 3 {
            break;
        }
        bell.wait(seen, None);
    }
    let line = unit.state.lock().line.iter().map(|(_, owner)| owner.0).collect::<Vec<_>>();
    unit.deallocate(A).unwrap();
    for (thread, _) in threads {
        thread.join().unwrap();
    }
    assert_eq!((*order.lock()).clone(), line);
    engine.stop();
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(u32),
    Deallocate(u32),
    Open(u32, usize, usize),
    Close(usize),
    Stand(u32),
    Leave(usize),
    Die(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let owner = 0..4u32;
    prop_oneof![
        owner.clone().prop_map(Step::Allocate),
        owner.clone().prop_map(Step::Deallocate),
        (owner.clone(), 1..4usize, 0..4usize).prop_map(|(o, a, s)| Step::Open(o, a, s)),
        (0..8usize).prop_map(Step::Close),
        owner.clone().prop_map(Step::Stand),
        (0..8usize).prop_map(Step::Leave),
        owner.prop_map(Step::Die),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_nobody_holds_what_another_holds(
        steps in prop::collection::vec(step(), 0..80)
    ) {
        let unit = many();
        let (mut handles, mut places) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Allocate(owner) => drop(unit.allocate(Owner(owner))),
                Step::Deallocate(owner) => {
                    let held = unit.owner() == Some(Owner(owner));
                    prop_assert_eq!(unit.deallocate(Owner(owner)).is_ok(), held);
                }
                Step::Open(owner, access, share) => {
                    let holder = unit.owner();
                    if let Ok(handle) = unit.open(Owner(owner), ALL[access], ALL[share]) {
                        prop_assert!(holder.is_none_or(|holder| holder == Owner(owner)));
                        handles.push(handle);
                    }
                }
                Step::Close(at) if at < handles.len() => unit.close(handles.swap_remove(at)),
                Step::Stand(owner) => places.push(unit.stand(Owner(owner)).unwrap()),
                Step::Leave(at) if at < places.len() => unit.leave(places.swap_remove(at)),
                Step::Close(_) | Step::Leave(_) => {}
                Step::Die(owner) => {
                    unit.release_owner(Owner(owner));
                    prop_assert!(unit.owner() != Some(Owner(owner)));
                }
            }
            let state = unit.state.lock();
            prop_assert!(state.line.iter().is_sorted_by_key(|(place, _)| *place));
            let held = state.handles.values().collect::<Vec<_>>();
            for (at, one) in held.iter().enumerate() {
                for other in &held[at + 1..] {
                    prop_assert!(one.access.is_within(other.share));
                    prop_assert!(other.access.is_within(one.share));
                }
            }
            // Nobody waits for what is free.
            if let (None, Some((_, first))) = (state.owner, state.line.front()) {
                prop_assert!(state.in_the_way(*first).is_some());
            }
        }
    }
}

#[test]
fn a_handle_shares_less_later_unless_another_has_more() {
    let unit = Reservation::new(Openings::Many);
    let (first, second) = (Owner(1), Owner(2));
    let reads = unit.open(first, Access::Read, Access::ReadWrite).unwrap();
    let writes = unit.open(second, Access::Write, Access::ReadWrite).unwrap();
    assert_eq!(unit.share(reads, Access::Read), Err(Refusal::Busy(Some(second))));
    assert_eq!(unit.share(reads, Access::Write), Ok(()));
    assert!(unit.open(first, Access::Read, Access::ReadWrite).is_err());
    unit.close(writes);
    assert_eq!(unit.share(reads, Access::None), Ok(()));
    assert!(unit.open(second, Access::Write, Access::ReadWrite).is_err());
    unit.close(reads);
    assert!(unit.open(second, Access::Write, Access::ReadWrite).is_ok());
}

#[test]
fn a_share_waits_a_moment_for_another_handle_to_be_closed() {
    let (unit, engine) = (Arc::new(many()), Engine::new(Time::Simulated));
    let first = unit.open(A, RW, RW).unwrap();
    let mine = unit.open(B, Access::Read, RW).unwrap();
    let calm = Interrupt::default();
    let busy = unit.share_soon(mine, Access::Read, (&engine, &calm), 1000);
    assert_eq!(busy, Err(Some(Refusal::Busy(Some(A)))), "the time is over");
    assert!(engine.now() >= SimTime(1000));
    let other = Arc::clone(&unit);
    let closer = engine.after(500, move || other.close(first));
    assert_eq!(unit.share_soon(mine, Access::Read, (&engine, &calm), 1000), Ok(()));
    assert!(!engine.cancel(closer));
    let writer = unit.open(A, Access::Write, RW).err();
    assert_eq!(writer, Some(Refusal::Busy(Some(B))), "others may only read");
    let _reader = unit.open(A, Access::Read, RW).unwrap();
    calm.raise();
    assert_eq!(unit.share_soon(mine, Access::None, (&engine, &calm), 1000), Err(None));
}
