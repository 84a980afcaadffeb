//! What a failure does, to whom, and how the unit comes back.

use super::super::simulated::{Fate, disk_in};

use super::*;
use crate::contract::UnitCommand::{Freeze, Pause, Repair, Reset, Resume, Thaw};
use crate::engine::Time;
use std::collections::VecDeque;

/// The fates of the first commands; the others are served.
fn script(plate: &Mutex<Plate>, fates: impl IntoIterator<Item = Fate>) {
    let mut fates: VecDeque<Fate> = fates.into_iter().collect();
    plate.lock().script = Box::new(move |_| fates.pop_front().unwrap_or(Fate::Serve));
}

/// Whatever touches `sector` fails.
fn bad_sector(plate: &Mutex<Plate>, sector: u64) {
    plate.lock().script = Box::new(move |command| {
        let hits = command.sector <= sector && sector < command.sector + command.sectors;
        if hits { Fate::Fail(IoError::Media(Sector(sector))) } else { Fate::Serve }
    });
}

fn run(disk: &DiskQueue, engine: &Engine, op: Op, at: u64) -> Result<Vec<u8>, IoError> {
    exam::run(disk, engine, op, at, 8, 1).map_err(|failure| failure.error)
}

#[test]
fn transient_failures_are_tried_again_and_counted() {
    for kind in [Fate::Fail(IoError::Transient), Fate::Refuse(IoError::Transient)] {
        let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
        script(&plate, [kind, kind]);
        run(&disk, &engine, Op::Write, 48).unwrap();
        assert_eq!((disk.counters().retries, disk.sense()), (2, None));
        assert_eq!(disk.counters().write.ios, 1);
    }
}

#[test]
fn a_transient_failure_that_stays_fails_after_exactly_the_limit() {
    for retries in [0, 1, 5] {
        let options = QueueOptions { retries, ..QueueOptions::default() };
        let (engine, disk, plate) = disk(4096, options, |_| ());
        plate.lock().script = Box::new(|_| Fate::Fail(IoError::Transient));
        assert_eq!(run(&disk, &engine, Op::Read, 48), Err(IoError::Transient));
        assert_eq!(plate.lock().commands.len(), 1 + retries as usize);
        assert_eq!(disk.counters().retries, u64::from(retries));
        assert_eq!(disk.status().state, State::Idle, "only permanent failures break a unit");
        assert_eq!(disk.sense().unwrap().error, IoError::Transient);
    }
}

#[test]
fn a_bad_sector_fails_those_only_who_asked_for_it() {
    let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
    bad_sector(&plate, 20);
    let log = Log::default();
    disk.command(Pause).unwrap();
    for n in 0..6 {
        write(&disk, &log, n, u64::from(n) * 8, 8);
    }
    disk.command(Resume).unwrap();
    settle(&engine);
    assert_eq!(log.names().len(), 6);
    assert_eq!(log.errors(), [(2, IoError::Media(Sector(20)))]);
    for (at, byte) in [(0, 0), (8, 1), (16, 0), (24, 3), (32, 4), (40, 5)] {
        assert_eq!(plate.lock().bytes[at * SECTOR_SIZE], byte);
    }
    let sense = Failure::from(IoError::Media(Sector(20)));
    bad_sector(&plate, 100);
    assert_eq!(run(&disk, &engine, Op::Read, 96), Err(IoError::Media(Sector(100))));
    assert_eq!(disk.sense().unwrap().sense.info, Some(100));
    assert_eq!(sense.sense.info, Some(20));
}

#[test]
fn the_exam_with_faults_is_passed() {
    let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
    let mended = Arc::clone(&plate);
    exam::sit_with_faults(&*disk, &engine, &|sector| bad_sector(&plate, sector.0), &move || {
        script(&mended, [])
    });
}

#[test]
fn a_failure_found_while_submitting_is_told_later() {
    let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
    script(&plate, [Fate::Refuse(IoError::NotReady)]);
    let log = Log::default();
    read(&disk, &log, 1, 0, 8);
    assert!(log.names().is_empty(), "done ran inside submit");
    assert!(engine.crank());
    assert_eq!(log.errors(), [(1, IoError::NotReady)]);
}

#[test]
fn a_hardware_error_breaks_the_unit_until_it_is_repaired() {
    for fate in [Fate::Fail(IoError::Hardware), Fate::Refuse(IoError::Hardware)] {
        let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
        script(&plate, [Fate::Serve, fate]);
        let log = Log::default();
        for n in 1..6 {
            read(&disk, &log, n, u64::from(n) * 64, 8);
        }
        settle(&engine);
        assert_eq!(log.errors(), [2, 3, 4, 5].map(|name| (name, IoError::Hardware)));
        assert_eq!(disk.status().state, State::NotFunctioning);
        assert_eq!(plate.lock().resets, 1);
        let commands = plate.lock().commands.len();
        let request = exam::request(Op::Read, 0, 8, 0, log.done(9));
        let Rejected(failure, request) = *disk.submit(request).unwrap_err();
        assert_eq!(failure.error, IoError::Hardware);
        request.finish(Ok(()));
        assert_eq!(plate.lock().commands.len(), commands, "it fails fast");
        disk.command(Reset).unwrap();
        assert_eq!(disk.status().state, State::NotFunctioning, "a reset repairs nothing");
        disk.command(Repair).unwrap();
        assert_eq!((disk.status().state, disk.sense()), (State::Idle, None));
        run(&disk, &engine, Op::Read, 0).unwrap();
        assert_eq!(disk.counters().in_flight, 0);
    }
}

#[test]
fn silent_hardware_is_given_up_after_the_timeout() {
    let options = QueueOptions { timeout_nanos: 1_000_000, ..QueueOptions::default() };
    let (engine, disk, plate) = disk(4096, options, |_| ());
    script(&plate, [Fate::Serve, Fate::Serve, Fate::Silent]);
    let log = Log::default();
    for n in 1..5 {
        read(&disk, &log, n, u64::from(n) * 64, 8);
    }
    settle(&engine);
    assert_eq!(log.errors(), [(3, IoError::Timeout), (4, IoError::Hardware)]);
    let given_up = engine.now().0;
    assert!((1_000_000..1_100_000).contains(&given_up), "given up at {given_up} ns");
    assert_eq!(disk.status().state, State::NotFunctioning);
    disk.command(Repair).unwrap();
    run(&disk, &engine, Op::Read, 0).unwrap();
}

#[test]
fn an_idle_disk_leaves_no_event_behind() {
    let (engine, disk, _) = disk(4096, QueueOptions::default(), |_| ());
    run(&disk, &engine, Op::Read, 0).unwrap();
    let now = engine.now();
    assert!(!engine.skip_to_next());
    assert_eq!(engine.now(), now);
    let log = Log::default();
    read(&disk, &log, 1, 0, 8);
    drop(disk);
    settle(&engine);
    assert!(engine.now().0 < 1_000_000_000, "the watchdog of a disk that is gone ran");
    assert_eq!(log.errors(), [(1, IoError::Timeout)], "what waited has finished itself");
}

#[test]
fn signs_of_life_keep_the_watchdog_quiet() {
    let options = QueueOptions { timeout_nanos: 1_500, ..QueueOptions::default() };
    let (engine, disk, plate) = disk(4096, options, |plate| plate.nanos = (1_000, 0));
    script(&plate, [Fate::Piecemeal(20)]);
    run(&disk, &engine, Op::Read, 0).unwrap();
    assert!(engine.now().0 > 20_000);
}

#[test]
fn a_slow_host_is_not_taken_for_silent_hardware() {
    let options = QueueOptions { timeout_nanos: 1_000_000, ..QueueOptions::default() };
    let (engine, disk, plate) = disk_in(Time::Real, 4096, options, |_| ());
    script(&plate, [Fate::Silent]);
    let (begun, go_on) = (Arc::new(WaitQueue::default()), Arc::new(WaitQueue::default()));
    let (bell, held) = (Arc::clone(&begun), Arc::clone(&go_on));
    engine.after(0, move || {
        bell.ring();
        held.wait(0, None);
    });
    let log = Log::default();
    let never = Arc::new(WaitQueue::default());
    let state = std::thread::scope(|scope| {
        scope.spawn(|| engine.crank());
        begun.wait(0, None);
        read(&disk, &log, 1, 0, 8);
        let begun = engine.now();
        engine.wait(&never, None, || engine.now().since(begun) > 20_000_000).unwrap();
        let state = disk.status().state;
        go_on.ring();
        state
    });
    assert_eq!(state, State::Busy);
    engine.wait(&never, None, || !log.names().is_empty()).unwrap();
    assert_eq!(log.errors(), [(1, IoError::Timeout)]);
}

#[test]
fn a_panicking_driver_fails_its_request_and_nothing_else() {
    for fate in [Fate::PanicAtStart, Fate::PanicAtInterrupt] {
        let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
        script(&plate, [fate]);
        assert_eq!(run(&disk, &engine, Op::Write, 0), Err(IoError::Hardware));
        assert_eq!((disk.status().state, plate.lock().resets), (State::Idle, 1));
        run(&disk, &engine, Op::Write, 0).unwrap();
        // Of merged requests those that panic again, alone, fail; all, if their memory is lost.
        script(&plate, [fate, Fate::Serve, fate]);
        let log = Log::default();
        disk.command(Pause).unwrap();
        for n in 0..4 {
            write(&disk, &log, n, u64::from(n) * 8, 8);
        }
        disk.command(Resume).unwrap();
        settle(&engine);
        let all = [0, 1, 2, 3].map(|name| (name, IoError::Hardware));
        let want = if fate == Fate::PanicAtStart { &all[1..2] } else { &all };
        assert_eq!(log.errors(), want);
        assert_eq!(log.names().len(), 4);
    }
}

#[test]
fn a_frozen_controller_stops_in_mid_work_and_is_not_taken_for_silent() {
    let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
    let log = Log::default();
    read(&disk, &log, 1, 0, 8);
    read(&disk, &log, 2, 64, 8);
    disk.command(Freeze).unwrap();
    engine.after(60_000_000_000, || ());
    settle(&engine);
    assert_eq!((log.names().len(), disk.status().state), (0, State::Frozen));
    disk.command(Thaw).unwrap();
    settle(&engine);
    assert_eq!((log.names(), log.errors().len()), (vec![1, 2], 0));
    plate.lock().knows_freeze = false;
    assert_eq!(disk.command(Freeze), Err(IoError::Unsupported));
    assert_eq!(disk.status().state, State::Idle);
}

#[test]
fn a_reset_starts_what_was_in_flight_again() {
    for freeze in [false, true] {
        let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
        let log = Log::default();
        script(&plate, [Fate::Silent]);
        write(&disk, &log, 1, 0, 8);
        read(&disk, &log, 2, 0, 8);
        if freeze {
            disk.command(Freeze).unwrap();
        }
        disk.command(Reset).unwrap();
        settle(&engine);
        assert_eq!((log.names(), log.errors().len()), (vec![1, 2], 0));
        assert_eq!(plate.lock().commands.len(), 3);
        assert_eq!(plate.lock().resets, 1);
        assert_eq!(disk.counters().in_flight, 0);
    }
}

#[test]
fn requests_that_do_not_fit_are_refused_untouched() {
    let (_engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
    plate.lock().geometry.read_only = true;
    let log = Log::default();
    for op in [Op::Write, Op::Discard, Op::Zero] {
        let Rejected(failure, request) =
            *disk.submit(exam::request(op, 0, 8, 0, log.done(1))).unwrap_err();
        assert_eq!(failure.error, IoError::WriteProtected);
        request.finish(Ok(()));
    }
    let mut short = exam::request(Op::Read, 0, 8, 0, log.done(1));
    short.sectors = 9;
    let Rejected(failure, request) = *disk.submit(short).unwrap_err();
    assert_eq!((failure.error, request.sectors), (IoError::Invalid, 9));
    request.finish(Ok(()));
}
