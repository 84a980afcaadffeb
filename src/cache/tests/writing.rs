//! Delayed writes: what needs no read, when it goes out by itself, who waits.

use super::fake::initial;
use super::*;
use crate::error::Errno;
use devices::engine::Time;
use devices::{Op, SimTime};
use std::time::Duration;

#[test]
fn a_write_is_delayed_and_ten_rewrites_become_one() {
    let house = House::new(1024, 8192);
    for n in 0..10 {
        house.write(4096, &[n; 4096]);
    }
    assert_eq!(house.fake.submitted(), 0);
    assert_eq!(house.states(), [(1, "dirty")]);
    assert_eq!(house.cache.stats().dirty, 4096);
    house.sync();
    assert_eq!(house.fake.count(Op::Write), 1);
    assert_eq!(house.cache.stats().physical_writes, 1);
    assert_eq!(house.states(), [(1, "clean")]);
    assert_eq!(house.fake.durable()[4096..8192], [9; 4096]);
    assert_eq!(house.read(4096, 4096), [9; 4096]);
    assert_eq!(house.cache.stats().physical_reads, 0, "after writing the memory is the cache");
}

#[test]
fn whole_sectors_need_no_read_and_go_out_alone() {
    let house = House::new(1024, 8192);
    house.write(512, &[1; 1024]);
    house.write(3072, &[2; 512]);
    assert_eq!(house.fake.count(Op::Read), 0);
    house.sync();
    let writes: Vec<_> = house.fake.log().into_iter().filter(|d| d.op == Op::Write).collect();
    let places: Vec<_> = writes.iter().map(|d| (d.sector, d.sectors)).collect();
    assert_eq!(places, [(1, 2), (6, 1)]);
}

#[test]
fn part_of_a_sector_reads_first_and_keeps_the_rest() {
    for house in [House::new(1024, 8192), House::new(1024, 8192).timed()] {
        house.write(4096 + 100, b"hello");
        house.sync();
        let mut expected: Vec<u8> = (4096..8192).map(initial).collect();
        expected[100..105].copy_from_slice(b"hello");
        assert_eq!(house.fake.medium()[4096..8192], expected);
        let writes = house.fake.log().into_iter().find(|d| d.op == Op::Write).unwrap();
        assert_eq!((writes.sector, writes.sectors), (8, 1));
    }
}

#[test]
fn both_ends_of_a_write_are_fetched_together() {
    let house = House::new(1024, 8192).timed();
    assert_eq!(house.dev.write(READER, 100, &[1; 12288]).unwrap(), 0);
    assert_eq!(house.fake.submitted(), 2);
}

#[test]
fn a_read_of_a_partly_known_block_fetches_only_what_is_missing() {
    let house = House::new(1024, 8192);
    house.write(0, &[7; 1024]);
    assert_eq!(house.read(0, 1024), [7; 1024]);
    assert_eq!(house.fake.submitted(), 0);
    let block = house.read(0, 4096);
    assert_eq!(block[..1024], [7; 1024]);
    assert!(block[1024..].iter().zip(1024..).all(|(byte, at)| *byte == initial(at)));
    assert_eq!(house.fake.log()[0].sectors, 6);
}

#[test]
fn a_write_while_the_block_is_being_fetched_is_not_overwritten() {
    let house = House::new(1024, 8192).timed();
    assert!(!house.dev.read(READER, 0, &mut [0; 4096]).unwrap());
    assert_eq!(house.dev.write(READER, 512, &[9; 512]).unwrap(), 512, "whole sectors: at once");
    house.settle();
    let block = house.read(0, 4096);
    assert_eq!(block[512..1024], [9; 512]);
    assert!(block[..512].iter().zip(0..).all(|(byte, at)| *byte == initial(at)));
    assert_eq!(house.fake.submitted(), 1);
}

#[test]
fn a_write_to_a_buffer_that_is_being_written_is_not_lost() {
    for (at, len) in [(0, 4096), (512, 512)] {
        let house = House::new(1024, 8192).timed();
        house.write(at, &vec![1; len]);
        house.cache.push(&[house.dev.key(at)]);
        assert_eq!(house.cache.stats().dirty, 4096);
        assert_eq!(house.states()[0].1, "writing");
        house.write(at, &vec![2; len]);
        house.settle();
        assert_eq!(house.cache.stats().dirty, 4096, "dirty again, a new age");
        house.sync();
        let from = usize::try_from(at).unwrap();
        assert!(house.fake.durable()[from..from + len] == vec![2; len]);
        assert_eq!(house.fake.count(Op::Write), 2);
    }
}

#[test]
fn nothing_is_written_in_the_first_two_seconds_and_all_within_thirty() {
    let house = House::new(1024, 8192).timed();
    house.write(4096, &[1; 10]);
    house.pass(2 * SECOND);
    assert_eq!(house.fake.count(Op::Write), 0);
    house.pass(25 * SECOND);
    assert_eq!(house.fake.count(Op::Write), 0, "nor long before it must");
    house.pass(3 * SECOND);
    assert_eq!(house.fake.durable()[4096..4106], [1; 10]);
    assert!(!house.dev.has_unsynced());
}

#[test]
fn a_block_rewritten_every_second_goes_out_within_thirty_of_its_first() {
    let house = House::new(1024, 8192).timed();
    for second in 0..95u8 {
        house.write(4096, &[second; 512]);
        house.pass(SECOND);
        let age = second.saturating_sub(house.fake.durable()[4096]);
        assert!(second < 29 || age <= 30, "{age} s behind at {second}");
    }
    assert_eq!(house.fake.count(Op::Write), 3);
}

#[test]
fn the_flush_age_can_be_set_while_something_is_dirty() {
    let house = House::new(1024, 8192).timed();
    house.write(0, &[1; 512]);
    house.cache.set_flush_age(3 * SECOND);
    house.pass(2 * SECOND);
    assert_eq!(house.fake.count(Op::Write), 0);
    house.pass(SECOND);
    assert_eq!(house.fake.durable()[0], 1);
    house.write(0, &[2; 512]);
    house.cache.set_flush_age(u64::MAX);
    house.pass(1000 * SECOND);
    assert_eq!((house.fake.durable()[0], house.cache.next_due()), (1, None), "stopped");
}

#[test]
fn old_buffers_go_out_ascending_with_their_neighbours() {
    let house = House::new(4096, 65536);
    for n in [40, 8, 9, 200, 10, 100] {
        house.write(n * 4096, &[1; 4096]);
    }
    house.pass(20 * SECOND);
    house.write(11 * 4096, &[1; 4096]);
    house.pass(9 * SECOND);
    let log = house.fake.log();
    let blocks: Vec<u64> = log.iter().filter(|d| d.op == Op::Write).map(|d| d.sector / 8).collect();
    assert_eq!(blocks, [8, 9, 10, 40, 100, 200]);
    assert_eq!(log.iter().filter(|d| d.op == Op::Flush).count(), 1);
    assert_eq!(house.cache.stats().physical_writes, 4);
}

#[test]
fn a_slow_unit_begins_so_early_that_it_is_done_in_time() {
    let house = House::new(1024, 8192);
    house.fake.script(|script| {
        // A floppy disk: 62.5 KB/s.
        script.counters.write.sectors = 1000;
        script.counters.busy_nanos = 8_192_000_000;
    });
    house.write(0, &[1; 512]);
    assert_eq!(house.cache.next_due(), Some(SimTime(28 * SECOND)));
    house.write(0, &vec![1; 1 << 20]);
    let need = 2048 * 8_192_000 * 5 / 4;
    assert_eq!(house.cache.next_due(), Some(SimTime(30 * SECOND - need)));
    house.write(1 << 20, &vec![1; 1 << 20]);
    assert_eq!(house.cache.next_due(), Some(SimTime(2 * SECOND)), "never sooner");
}

#[test]
fn what_an_operator_has_repaired_is_tried_at_once() {
    let house = House::new(1024, 8192);
    house.write(0, &[1; 512]);
    house.fake.script(|script| script.is_broken = true);
    assert!(house.dev.sync(None, &Interrupt::default()).is_err());
    house.fake.script(|script| script.is_broken = false);
    house.dev.retry();
    assert_eq!(house.fake.durable()[0], 1);
}

#[test]
fn much_that_falls_due_at_once_goes_out_in_pieces_and_in_time() {
    let house = House::new(16384, 131_072).timed();
    house.write(0, &vec![1; 20 << 20]);
    house.pass(28 * SECOND - SECOND / 2);
    assert_eq!(house.fake.submitted(), 0);
    house.fake.pause();
    house.pass(SECOND);
    let writing = house.states().iter().filter(|(_, state)| *state == "writing").count();
    assert!((1024..=4352).contains(&writing), "{writing} buffers away at once");
    house.fake.resume();
    house.pass(SECOND);
    assert!(house.fake.durable()[..20 << 20] == vec![1; 20 << 20]);
    assert!(!house.dev.has_unsynced());
}

#[test]
fn with_nothing_dirty_nothing_is_due() {
    let house = House::new(1024, 8192);
    assert_eq!(house.cache.next_due(), None);
    house.read(0, 4096);
    assert_eq!(house.cache.next_due(), None);
    house.write(0, &[1; 512]);
    assert_eq!(house.cache.next_due(), Some(SimTime(28 * SECOND)));
    house.pass(30 * SECOND);
    assert_eq!(house.cache.next_due(), None);
}

#[test]
fn too_much_dirty_wakes_the_updater_early_and_makes_writers_wait() {
    let house = House::new(100, 65536).timed();
    house.fake.pause();
    let taken = house.dev.write(READER, 0, &vec![1; 100 * 4096]).unwrap();
    assert_eq!(taken, 80 * 4096, "the high mark");
    assert_eq!(house.cache.stats().dirty, 80 * 4096);
    assert_eq!(house.fake.submitted(), 0);
    house.cache.tick();
    assert_eq!(house.fake.submitted(), 80, "the updater was urged");
    let interrupt = Interrupt::default();
    interrupt.raise();
    let error = house.dev.write_wait(READER, 400_000, &[1; 4096], &interrupt).unwrap_err();
    assert_eq!(error.errno, Errno::EINTR);
    house.fake.resume();
    house.write(taken as u64, &vec![1; 20 * 4096]);
    house.sync();
    assert!(house.fake.medium()[..100 * 4096] == vec![1; 100 * 4096]);
}

#[test]
fn writers_above_the_mark_write_out_by_themselves() {
    let house = House::new(100, 65536).timed();
    for n in 0..2000u64 {
        house.write(n * 7919 * 4096 % (32 << 20), &[2; 4096]);
        let stats = house.cache.stats();
        assert!(stats.dirty <= 80 * 4096 && stats.used <= stats.capacity);
    }
    assert!(house.fake.count(Op::Write) > 1000);
}

#[test]
fn reads_go_on_while_what_is_dirty_cannot_be_written() {
    let house = House::new(10, 65536);
    house.write(0, &[1; 8 * 4096]);
    house.fake.script(|script| script.bad_to_write = (0..64).collect());
    let interrupt = Interrupt::default();
    assert!(house.dev.sync(None, &interrupt).is_err());
    for block in 100..200 {
        house.read(block * 4096, 4096);
    }
    let error = house.dev.write_wait(READER, 50 * 4096, &[1; 4096], &interrupt).unwrap_err();
    assert_eq!(error.errno, Errno::EIO, "no more is taken for a unit that fails");
    assert_eq!(house.read(0, 8 * 4096), [1; 8 * 4096]);
    house.fake.script(|script| script.bad_to_write.clear());
    house.sync();
    assert_eq!(house.fake.durable()[..8 * 4096], [1; 8 * 4096]);
}

#[test]
fn one_units_failures_do_not_stop_the_writers_of_another() {
    let house = House::new(20, 65536);
    let other = Fake::new(&house.engine, 65536, 512, 2);
    let sd1 = house.cache.attach("sd1", Arc::clone(&other) as _).unwrap();
    house.write(0, &[1; 16 * 4096]);
    house.fake.script(|script| script.is_broken = true);
    assert!(house.dev.sync(None, &Interrupt::default()).is_err());
    for n in 0..100 {
        let mut done = 0;
        while done < 4096 {
            let at = n * 4096 + done as u64;
            done += sd1.write_wait(READER, at, &[3; 4096][done..], &Interrupt::default()).unwrap();
        }
    }
    sd1.sync(None, &Interrupt::default()).unwrap();
    assert!(other.durable()[..100 * 4096] == vec![3; 100 * 4096]);
    house.fake.script(|script| script.is_broken = false);
    house.sync();
    assert_eq!(house.fake.durable()[..16 * 4096], [1; 16 * 4096]);
}

#[test]
fn a_read_only_unit_refuses_writes() {
    let house = House::new(16, 64);
    struct Protected(Arc<Fake>);
    impl devices::BlockDevice for Protected {
        fn geometry(&self) -> Result<devices::Geometry, devices::IoError> {
            self.0.geometry().map(|g| devices::Geometry { read_only: true, ..g })
        }
        fn submit(&self, request: devices::Request) -> Result<(), Box<devices::Rejected>> {
            self.0.submit(request)
        }
        fn status(&self) -> devices::Status {
            self.0.status()
        }
    }
    let fake = Arc::clone(&house.fake);
    let dev = house.cache.attach("cd0", Arc::new(Protected(fake))).unwrap();
    assert_eq!(dev.write(READER, 0, &[1]).unwrap_err().errno, Errno::EROFS);
}

#[test]
fn the_thread_writes_what_is_old_and_ends() {
    for time in [Time::Real, Time::Virtual] {
        let engine = Engine::new(time);
        engine.start().unwrap();
        let config = CacheConfig { flush_age_nanos: 80_000_000, ..CacheConfig::default() };
        let cache = BufferCache::new(Arc::clone(&engine), config);
        let fake = Fake::new(&engine, 8192, 512, 1);
        fake.script(|script| script.delay_max = 1_000_000);
        let dev = cache.attach("sd0", Arc::clone(&fake) as _).unwrap();
        cache.start_updater().unwrap();
        for round in 1..=3 {
            dev.write(READER, 8192, &[round; 512]).unwrap();
            while fake.durable()[8192] != round {
                let seen = fake.ended.generation();
                if fake.durable()[8192] != round {
                    assert!(fake.ended.wait(seen, Some(Duration::from_secs(60))));
                }
            }
        }
        cache.stop();
        engine.stop();
        cache.detach(&dev).unwrap();
    }
}

#[test]
fn a_write_that_needs_two_blocks_which_cannot_be_read_fails_also_in_a_full_cache() {
    let house = House::new(8, 400);
    for block in 0..8 {
        house.read(block * 4096, 4096);
    }
    house.fake.script(|script| script.is_broken = true);
    let data = [1; 9000];
    let at = 20 * 4096 + 73;
    let quick = house.dev.write(READER, at, &data);
    let error = match quick {
        Ok(0) => house.dev.write_wait(READER, at, &data, &Interrupt::default()).unwrap_err(),
        other => other.unwrap_err(),
    };
    assert_eq!(error.errno, Errno::EIO);
}

#[test]
fn after_a_failed_read_whole_sectors_of_the_unit_are_asked_for() {
    let house = House::of(64, 800, 4096);
    house.fake.script(|script| script.fail_in = Some(1));
    let mut some = [0; 512];
    let interrupt = Interrupt::default();
    assert!(house.dev.read_wait(READER, 8192, &mut some, &interrupt).is_err());
    house.dev.read_wait(READER, 8192, &mut some, &interrupt).unwrap();
    assert_eq!(some[0], initial(8192));
}
