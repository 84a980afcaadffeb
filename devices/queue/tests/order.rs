//! Who is served when: scheduling, classes, fairness, merging, splitting, holding the queue.

use super::*;
use crate::contract::UnitCommand::{Pause, Resume};

#[test]
fn end_beginning_middle_are_served_as_2_3_1_except_by_fifo() {
    for name in SCHEDULERS {
        let (engine, disk, _) = disk(32768, with_scheduler(name), |_| ());
        let log = Log::default();
        disk.command(Pause).unwrap();
        read(&disk, &log, 1, 32000, 8);
        read(&disk, &log, 2, 100, 8);
        read(&disk, &log, 3, 16000, 8);
        disk.command(Resume).unwrap();
        settle(&engine);
        let want = if name == "fifo" { [1, 2, 3] } else { [2, 3, 1] };
        assert_eq!(log.names(), want, "{name}");
    }
}

#[test]
fn where_hardware_does_not_tell_the_arm_stands_at_the_end_of_the_last_transfer() {
    let (engine, disk, _) = disk(32768, with_scheduler("sstf"), |plate| plate.tells_head = false);
    let log = Log::default();
    read(&disk, &log, 1, 20000, 8);
    for (name, at) in [(2, 100), (3, 19000), (4, 20009)] {
        read(&disk, &log, name, at, 8);
    }
    settle(&engine);
    assert_eq!(log.names(), [1, 4, 3, 2]);
}

#[test]
fn a_page_in_goes_before_ten_reads() {
    for name in SCHEDULERS {
        let (engine, disk, plate) = disk(32768, with_scheduler(name), |_| ());
        let log = Log::default();
        disk.command(Pause).unwrap();
        for n in 0..10 {
            read(&disk, &log, n, u64::from(n) * 1000, 8);
        }
        let who = origin(99, Class::PageIn);
        let done = log.done(99);
        disk.submit(Request::read(Sector(20000), vec![0; 4096], who, done)).ok().unwrap();
        disk.command(Resume).unwrap();
        settle(&engine);
        assert_eq!(sectors_served(&plate)[0], 20000, "{name}");
        assert_eq!(log.names().len(), 11);
    }
}

#[test]
fn the_single_request_of_one_is_served_among_the_first_of_fifty_of_another() {
    for name in SCHEDULERS {
        let (engine, disk, _) = disk(32768, with_scheduler(name), |_| ());
        let log = Log::default();
        disk.command(Pause).unwrap();
        for n in 0..50 {
            let (who, done) = (origin(7, Class::Caller), log.done(n));
            let at = Sector(u64::from(n) * 100);
            disk.submit(Request::read(at, vec![0; 4096], who, done)).ok().unwrap();
        }
        read(&disk, &log, 51, 32000, 8);
        disk.command(Resume).unwrap();
        settle(&engine);
        let place = log.names().iter().position(|name| *name == 51).unwrap();
        assert!(place <= 4, "{name}: served after {place} others");
    }
}

#[test]
fn background_is_passed_over_but_not_for_ever() {
    let (engine, disk, _) = disk(32768, with_scheduler("clook"), |_| ());
    let log = Log::default();
    disk.command(Pause).unwrap();
    for n in 0..100 {
        read(&disk, &log, n, u64::from(n) * 100, 8);
    }
    let who = origin(0, Class::Background);
    disk.submit(Request::write(Sector(20000), vec![0; 4096], who, log.done(500))).ok().unwrap();
    disk.command(Resume).unwrap();
    settle(&engine);
    let place = log.names().iter().position(|name| *name == 500).unwrap();
    assert_eq!(place, SHARE as usize);
}

#[test]
fn background_that_has_aged_gets_every_other_turn() {
    let (engine, disk, _) = disk(32768, with_scheduler("clook"), |_| ());
    let log = Log::default();
    disk.command(Pause).unwrap();
    for n in 0..10 {
        let (who, done) = (origin(0, Class::Background), log.done(500));
        let at = Sector(20000 + 100 * n);
        disk.submit(Request::write(at, vec![0; 4096], who, done)).ok().unwrap();
    }
    let resumed = Arc::clone(&disk);
    engine.after(2 * AGED_NANOS, move || resumed.command(Resume).unwrap());
    for n in 0..20 {
        read(&disk, &log, n, u64::from(n) * 100, 8);
    }
    settle(&engine);
    let background = log.names()[..20].iter().filter(|name| **name == 500).count();
    assert!(background >= 9, "{:?}", log.names());
}

#[test]
fn requests_that_lie_together_share_one_command() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
        let log = Log::default();
        disk.command(Pause).unwrap();
        for n in order {
            write(&disk, &log, n + 1, 100 + 8 * u64::from(n), 8);
        }
        disk.command(Resume).unwrap();
        settle(&engine);
        let commands = plate.lock().commands.clone();
        assert_eq!((commands.len(), commands[0].sector, commands[0].sectors), (1, 100, 32));
        for n in 0..4u8 {
            let at = (100 + 8 * usize::from(n)) * SECTOR_SIZE;
            assert!(plate.lock().bytes[at..at + 4096].iter().all(|byte| *byte == n + 1));
        }
        let counters = disk.counters();
        assert_eq!((counters.write.ios, counters.write.merges, counters.commands), (1, 3, 1));
        assert_eq!(counters.write.sectors, 32);
        assert_eq!(disk.latencies().write.iter().sum::<u64>(), 4);
    }
}

#[test]
fn what_differs_in_kind_or_class_is_not_merged_nor_beyond_the_longest_transfer() {
    let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
    let log = Log::default();
    disk.command(Pause).unwrap();
    write(&disk, &log, 1, 0, 8);
    read(&disk, &log, 2, 8, 8);
    let who = origin(3, Class::Background);
    disk.submit(Request::write(Sector(16), vec![3; 4096], who, log.done(3))).ok().unwrap();
    let mut fua = Request::write(Sector(24), vec![4; 4096], origin(4, Class::Caller), log.done(4));
    fua.fua = true;
    disk.submit(fua).ok().unwrap();
    for n in 0..3 {
        write(&disk, &log, 5, 1000 + 32 * n, 32);
    }
    write(&disk, &log, 6, 2000, 40);
    write(&disk, &log, 7, 2040, 28);
    disk.command(Resume).unwrap();
    settle(&engine);
    let mut commands: Vec<(u64, u64)> =
        plate.lock().commands.iter().map(|c| (c.sector, c.sectors)).collect();
    commands.sort_unstable();
    let apart = [(0, 8), (8, 8), (16, 8), (24, 8)];
    assert_eq!(commands[..4], apart);
    assert_eq!(commands[4..], [(1000, 64), (1064, 32), (2000, 40), (2040, 28)]);
}

#[test]
fn a_long_request_is_split_and_a_page_in_goes_between_its_parts() {
    let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
    let log = Log::default();
    write(&disk, &log, 1, 0, 200);
    let who = origin(2, Class::PageIn);
    disk.submit(Request::read(Sector(3000), vec![0; 4096], who, log.done(2))).ok().unwrap();
    settle(&engine);
    assert_eq!(sectors_served(&plate), [0, 3000, 64, 128, 192]);
    assert_eq!(log.names(), [2, 1]);
    assert!(plate.lock().bytes[..200 * 512].iter().all(|byte| *byte == 1));
    assert_eq!((disk.counters().write.ios, disk.counters().write.sectors), (1, 200));
    assert_eq!(disk.counters().commands, 5);
}

#[test]
fn one_flush_serves_all_that_wait_and_never_goes_twice_in_a_row() {
    let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
    let log = Log::default();
    disk.command(Pause).unwrap();
    write(&disk, &log, 1, 0, 8);
    for _ in 0..5 {
        let request = Request::flush(origin(2, Class::Caller), log.done(2));
        disk.submit(request).ok().unwrap();
    }
    disk.command(Resume).unwrap();
    assert_eq!(disk.status().current.unwrap().op, Op::Flush);
    disk.submit(Request::flush(origin(3, Class::Caller), log.done(3))).ok().unwrap();
    settle(&engine);
    let ops: Vec<Op> = plate.lock().commands.iter().map(|command| command.op).collect();
    assert_eq!(ops, [Op::Flush, Op::Write, Op::Flush]);
    assert_eq!(log.names(), [2, 2, 2, 2, 2, 1, 3]);
}

#[test]
fn a_flush_lets_page_ins_go_first_but_not_for_ever() {
    let (engine, disk, _) = disk(4096, QueueOptions::default(), |_| ());
    let log = Log::default();
    disk.command(Pause).unwrap();
    disk.submit(Request::flush(origin(1, Class::Caller), log.done(100))).ok().unwrap();
    for n in 0..20 {
        let (who, at) = (origin(2, Class::PageIn), Sector(u64::from(n) * 100));
        disk.submit(Request::read(at, vec![0; 4096], who, log.done(n))).ok().unwrap();
    }
    disk.command(Resume).unwrap();
    settle(&engine);
    let place = log.names().iter().position(|name| *name == 100).unwrap();
    assert_eq!(place, SHARE as usize);
}

#[test]
fn a_reader_behind_a_background_write_lends_it_its_urgency() {
    let (engine, disk, _) = disk(32768, with_scheduler("fifo"), |_| ());
    let log = Log::default();
    disk.command(Pause).unwrap();
    let who = origin(0, Class::Background);
    for (name, at) in [(1, 0), (2, 4), (3, 9000)] {
        disk.submit(Request::write(Sector(at), vec![1; 4096], who, log.done(name))).ok().unwrap();
    }
    for n in 10..30 {
        let (who, done) = (origin(10, Class::Caller), log.done(n));
        let at = Sector(u64::from(n) * 100);
        disk.submit(Request::read(at, vec![0; 4096], who, done)).ok().unwrap();
    }
    let who = origin(4, Class::PageIn);
    disk.submit(Request::read(Sector(8), vec![0; 2048], who, log.done(4))).ok().unwrap();
    disk.command(Resume).unwrap();
    settle(&engine);
    assert_eq!(log.names()[..3], [1, 2, 4]);
}

#[test]
fn a_paused_queue_shows_who_waits_while_others_go_on() {
    let (engine, held, _) = disk(4096, QueueOptions::default(), |_| ());
    let log = Log::default();
    read(&held, &log, 1, 0, 8);
    assert_eq!(held.status().state, State::Busy);
    held.command(Pause).unwrap();
    for n in 2..6 {
        read(&held, &log, n, u64::from(n) * 64, 8);
    }
    settle(&engine);
    assert_eq!(log.names(), [1], "what is active finishes, nothing else starts");
    let status = held.status();
    assert_eq!((status.state, status.current, status.queued), (State::Paused, None, 4));
    let waiting = held.waiting();
    assert_eq!(waiting.iter().map(|w| w.origin.pid).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!((waiting[0].op, waiting[0].sector, waiting[0].sectors), (Op::Read, Sector(128), 8));
    assert!(waiting[0].age_nanos > 0);
    assert_eq!(held.counters().in_flight, 4);
    held.command(Resume).unwrap();
    settle(&engine);
    assert_eq!((log.names().len(), held.status().state), (5, State::Idle));
}

#[test]
fn a_change_of_scheduler_takes_those_who_wait_along() {
    let (engine, disk, _) = disk(32768, with_scheduler("fifo"), |_| ());
    let log = Log::default();
    disk.command(Pause).unwrap();
    for (name, at) in [(1, 30000), (2, 20000), (3, 10000)] {
        read(&disk, &log, name, at, 8);
    }
    disk.set_property("scheduler", "clook").unwrap();
    assert!(disk.properties().contains(&("scheduler", "clook".to_string())));
    disk.command(Resume).unwrap();
    settle(&engine);
    assert_eq!(log.names(), [3, 2, 1]);
    let refusal = disk.set_property("scheduler", "lift").unwrap_err();
    assert!(matches!(refusal, PropertyError::Value(words) if words.contains("deadline")));
    assert_eq!(disk.set_property("colour", "red"), Err(PropertyError::Unknown));
    disk.set_property("nanos", "5").unwrap();
    disk.set_property("timeout", "250ms").unwrap();
    disk.set_property("retries", "2").unwrap();
    let want = [("retries", "2"), ("timeout", "250ms"), ("nanos", "5")];
    for (name, value) in want {
        assert!(disk.properties().contains(&(name, value.to_string())), "{name}");
    }
}

#[test]
fn an_ordered_medium_is_served_as_requests_come() {
    let (engine, disk, plate) =
        disk(4096, with_scheduler("clook"), |plate| plate.geometry.ordered = true);
    let log = Log::default();
    disk.command(Pause).unwrap();
    for (name, at) in [(1, 3000), (2, 8), (3, 16), (4, 0)] {
        write(&disk, &log, name, at, 8);
    }
    disk.submit(Request::flush(origin(5, Class::PageIn), log.done(5))).ok().unwrap();
    write(&disk, &log, 6, 8, 8);
    disk.command(Resume).unwrap();
    settle(&engine);
    assert_eq!(log.names(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(plate.lock().commands.len(), 6);
    assert!(disk.set_property("scheduler", "clook").is_err());
}

#[test]
fn counters_say_how_long_something_was_in_flight() {
    let (engine, disk, _) = disk(4096, QueueOptions::default(), |plate| plate.nanos = (1000, 0));
    let log = Log::default();
    read(&disk, &log, 1, 0, 8);
    read(&disk, &log, 2, 1000, 8);
    settle(&engine);
    engine.after(5000, || ());
    settle(&engine);
    let counters = disk.counters();
    assert_eq!((counters.busy_nanos, counters.queue_nanos), (2000, 3000));
    assert_eq!(counters.read, Direction { ios: 2, merges: 0, sectors: 16, nanos: 3000 });
    assert_eq!((counters.commands, counters.in_flight), (2, 0));
}
