//! Hits, misses, order of use, read-ahead, partial validity.

use super::fake::initial;
use super::*;
use crate::error::Errno;
use devices::{IoError, Op};

fn fresh(at: u64, len: usize) -> Vec<u8> {
    let at = usize::try_from(at).unwrap();
    (at..at + len).map(initial).collect()
}

#[test]
fn a_second_read_is_a_hit_without_physical_work() {
    let house = House::new(1024, 8192);
    let mut buf = [0; 4096];
    assert!(house.dev.read(READER, 40960, &mut buf).unwrap(), "the crank completes it");
    assert_eq!(buf[..], fresh(40960, 4096));
    let first = house.cache.stats();
    assert_eq!((first.hits, first.misses, first.physical_reads), (0, 1, 1));
    house.fake.poke(40960, &[1; 4096]);
    assert!(house.dev.read(READER, 40960, &mut buf).unwrap());
    assert_eq!(buf[..], fresh(40960, 4096), "the cached copy");
    let second = house.cache.stats();
    assert_eq!((second.hits, second.misses, second.physical_reads), (1, 1, 1));
    house.cache.drop_clean();
    assert_eq!(house.read(40960, 4096), [1; 4096]);
}

#[test]
fn a_quick_read_of_a_slow_unit_would_wait_and_the_patient_one_finds_it_under_way() {
    let house = House::new(1024, 8192).timed();
    let mut buf = [0; 8192];
    assert!(!house.dev.read(READER, 0, &mut buf).unwrap());
    assert_eq!(house.fake.submitted(), 2);
    assert_eq!(house.read(0, 8192), fresh(0, 8192));
    assert_eq!(house.fake.submitted(), 2);
    let stats = house.cache.stats();
    assert_eq!((stats.hits, stats.misses), (0, 2));
}

#[test]
fn all_misses_are_submitted_before_the_first_wait() {
    let house = House::new(1024, 8192).timed();
    house.read(4096, 4096);
    let before = house.fake.submitted();
    assert!(!house.dev.read(READER, 0, &mut [0; 16 * 4096]).unwrap());
    assert_eq!(house.fake.submitted() - before, 15);
}

#[test]
fn the_least_recently_used_block_gives_way() {
    let house = House::new(8, 8192);
    for block in 1..=8 {
        house.read(block * 4096, 4096);
    }
    house.read(4096, 4096);
    house.read(9 * 4096, 4096);
    let blocks: Vec<u64> = house.states().iter().map(|(block, _)| *block).collect();
    assert_eq!(blocks, [9, 1, 8, 7, 6, 5, 4, 3]);
    let before = house.cache.stats();
    house.read(4096, 4096);
    assert_eq!(house.cache.stats().hits, before.hits + 1);
    house.read(2 * 4096, 4096);
    assert_eq!(house.cache.stats().misses, before.misses + 1);
}

#[test]
fn a_dirty_victim_is_written_before_its_buffer_is_reused() {
    let house = House::new(8, 8192);
    house.write(4096, &[0xaa; 4096]);
    for block in 2..=8 {
        house.read(block * 4096, 4096);
    }
    assert_ne!(house.fake.byte(4096), 0xaa);
    house.read(9 * 4096, 4096);
    assert_eq!(house.fake.byte(4096), 0xaa);
    assert!(house.states().iter().all(|(block, _)| *block != 1), "exactly the oldest gave way");
    assert_eq!(house.read(4096, 4096), [0xaa; 4096]);
}

#[test]
fn a_request_larger_than_the_whole_cache_is_served() {
    for blocks in [1, 2, 7, 64] {
        let house = House::new(blocks, 4096).timed();
        assert_eq!(house.read(100, 1 << 20), fresh(100, 1 << 20));
        let data: Vec<u8> = (0..1 << 20).map(|n| u8::try_from(n % 255).unwrap()).collect();
        house.write(513, &data);
        assert!(house.cache.stats().used <= blocks * 4096);
        assert_eq!(house.read(513, 1 << 20), data);
        house.sync();
        assert_eq!(house.fake.medium()[513..513 + (1 << 20)], data);
    }
}

#[test]
fn the_bound_is_of_the_buffers_with_what_they_take_beside() {
    let blocks = super::super::blocks_within;
    for exact in [1, 8, 1000, 16384] {
        assert_eq!(blocks(exact * 4096), exact);
    }
    assert_eq!((blocks(0), blocks(4095)), (1, 1));
    let gib = blocks(1 << 30);
    assert!(gib < 262_144 && gib * (4096 + 448) <= (1 << 30) + (8 << 20), "{gib}");
    assert!(gib > 235_000 && blocks(u64::MAX) > 1 << 39);
}

#[test]
fn used_never_exceeds_capacity() {
    for blocks in [3, 1024, 2000] {
        let house = House::new(blocks, 65536);
        let mut rng = super::fake::Rng::new(blocks);
        for step in 0..5000u64 {
            let at = rng.below(65536 * 512 - 4096);
            if step % 3 == 0 {
                house.write(at, &[9; 700])
            } else {
                drop(house.read(at, 1000))
            }
            let stats = house.cache.stats();
            assert!(stats.used <= stats.capacity && stats.capacity == blocks * 4096);
        }
    }
}

#[test]
fn a_sequential_reader_finds_what_it_will_ask_for() {
    let house = House::new(16384, 65536).timed();
    for n in 0..512 {
        house.read(n * 4096, 4096);
        house.settle();
    }
    let stats = house.cache.stats();
    assert!(stats.misses <= 4, "{stats:?}");
    assert!(stats.read_ahead >= 500, "{stats:?}");
    assert!(house.fake.log().iter().any(|done| done.origin.class == Class::Background));
    let submitted = house.fake.submitted();
    for n in 0..512 {
        house.read(n * 4096, 4096);
    }
    assert!(house.fake.submitted() - submitted <= 256, "nothing cached is read ahead again");
}

#[test]
fn a_random_reader_gets_nothing_read_ahead() {
    let house = House::new(16384, 65536);
    for n in 0..100 {
        house.read(n * 3 * 4096 % (4 << 20), 4096);
    }
    assert_eq!(house.cache.stats().read_ahead, 0);
}

#[test]
fn a_long_scan_does_not_drive_out_what_others_use() {
    let house = House::new(1024, 65536);
    for block in 0..64 {
        house.read((8000 + block) * 4096, 4096);
    }
    for block in 0..4000 {
        house.read(block * 4096, 4096);
    }
    let misses = house.cache.stats().misses;
    for block in 0..64 {
        house.read((8000 + block) * 4096, 4096);
    }
    assert_eq!(house.cache.stats().misses, misses);
}

#[test]
fn the_short_last_block_works() {
    for sectors in [1, 7, 8, 9, 4093] {
        let house = House::new(1024, sectors);
        let size = sectors * 512;
        let len = usize::try_from(size).unwrap();
        assert_eq!(house.read(0, len), fresh(0, len));
        house.write(size - 3, b"end");
        house.sync();
        assert_eq!(&house.fake.medium()[len - 3..], b"end");
        house.cache.drop_clean();
        assert_eq!(house.read(size - 3, 3), b"end");
        let error = house.dev.write(READER, size - 1, b"xx").unwrap_err();
        assert_eq!(error.errno, Errno::ENOSPC);
        assert!(house.dev.read(READER, u64::MAX, &mut [0; 2]).is_err());
        assert!(house.dev.read(READER, size, &mut []).unwrap());
    }
}

#[test]
fn a_bad_sector_fails_alone() {
    let house = House::new(1024, 8192);
    house.fake.script(|script| _ = script.bad_to_read.insert(21));
    assert_eq!(house.read(20 * 512, 512), fresh(20 * 512, 512));
    let mut buf = [0; 512];
    let error = house.dev.read(READER, 21 * 512, &mut buf).unwrap_err();
    assert_eq!((error.errno, error.to_string().contains("sector 21")), (Errno::EIO, true));
    assert_eq!(house.read(22 * 512, 512), fresh(22 * 512, 512));
    house.fake.script(|script| script.bad_to_read.clear());
    assert_eq!(house.read(21 * 512, 512), fresh(21 * 512, 512), "tried again");
}

#[test]
fn a_transient_read_error_is_told_and_not_kept() {
    for house in [House::new(1024, 8192), House::new(1024, 8192).timed()] {
        house.fake.script(|script| script.fail_in = Some(2));
        let mut buf = vec![0; 4 * 4096];
        let interrupt = Interrupt::default();
        let error = house.dev.read_wait(READER, 0, &mut buf, &interrupt).unwrap_err();
        assert_eq!(error.errno, Errno::EIO);
        assert_eq!(house.read(0, 4 * 4096), fresh(0, 4 * 4096));
    }
}

#[test]
fn cached_blocks_of_a_broken_unit_still_read() {
    let house = House::new(1024, 8192);
    house.read(0, 4096);
    house.fake.script(|script| script.is_broken = true);
    assert_eq!(house.read(0, 4096), fresh(0, 4096));
    assert_eq!(house.dev.read(READER, 8192, &mut [0; 1]).unwrap_err().errno, Errno::EIO);
}

#[test]
fn a_raw_change_shows_after_invalidate_and_a_dirty_sector_stays() {
    let house = House::new(1024, 8192);
    house.read(0, 8192);
    house.write(512, &[7; 512]);
    house.fake.poke(0, &[1; 8192]);
    house.dev.invalidate(0..4096);
    let block = house.read(0, 8192);
    assert_eq!(block[..512], [1; 512]);
    assert_eq!(block[512..1024], [7; 512]);
    assert_eq!(block[1024..4096], [1; 3072]);
    assert_eq!(block[4096..], fresh(4096, 4096));
    house.sync();
    assert_eq!(house.fake.medium()[512..1024], [7; 512]);
    assert_eq!(house.fake.medium()[..512], [1; 512], "only the dirty sector was written");
}

#[test]
fn what_is_being_fetched_when_the_medium_changes_is_not_used() {
    let house = House::new(1024, 8192).timed();
    assert!(!house.dev.read(READER, 0, &mut [0; 4096]).unwrap());
    let mut raw = house.fake.log().len();
    while raw == house.fake.log().len() {
        // The fake reads the medium when the request ends: stop it just before.
        raw = house.fake.log().len();
        house.dev.invalidate(0..4096);
        house.fake.poke(0, &[3; 512]);
        assert!(house.engine.skip_to_next());
    }
    house.fake.poke(0, &[4; 512]);
    assert_eq!(house.read(0, 512), [4; 512]);
}

#[test]
fn discarded_bytes_read_as_zeros_and_the_rest_stays() {
    let house = House::new(1024, 8192);
    let interrupt = Interrupt::default();
    house.write(0, &[5; 12288]);
    house.dev.discard(READER, 1000..9000, &interrupt).unwrap();
    let now = house.read(0, 12288);
    assert!(now[..1000].iter().chain(&now[9000..]).all(|b| *b == 5));
    assert!(now[1000..9000].iter().all(|b| *b == 0));
    house.sync();
    assert_eq!(house.fake.durable()[..12288], now);
    let sectors = house.fake.log().iter().find(|d| d.op == Op::Discard).unwrap().sectors;
    assert_eq!(sectors, (8704 - 1024) / 512);
    house.dev.zero(READER, 100..200, &interrupt).unwrap();
    assert_eq!(house.read(100, 100), [0; 100]);
}

#[test]
fn a_failed_discard_is_told() {
    let house = House::new(1024, 8192);
    house.fake.script(|script| script.error = IoError::Unsupported);
    house.fake.script(|script| script.fail_one_in = 1);
    let interrupt = Interrupt::default();
    let error = house.dev.discard(READER, 0..4096, &interrupt).unwrap_err();
    assert_eq!(error.errno, Errno::EOPNOTSUPP);
    house.dev.zero(READER, 0..8192, &interrupt).unwrap();
    house.fake.script(|script| script.fail_one_in = 0);
    assert_eq!(house.read(0, 8192), [0; 8192]);
}

#[test]
fn units_with_sectors_of_4096_bytes_are_written_in_whole_blocks() {
    let house = House::of(1024, 8192, 4096);
    house.write(4096 + 512, &[8; 512]);
    assert_eq!(house.fake.count(Op::Read), 1, "the rest of the block is needed");
    house.sync();
    let write = house.fake.log().into_iter().find(|d| d.op == Op::Write).unwrap();
    assert_eq!((write.sector, write.sectors), (8, 8));
    assert_eq!(house.fake.medium()[4096..4608], fresh(4096, 512));
    assert_eq!(house.fake.medium()[4608..5120], [8; 512]);
}

#[test]
fn the_size_can_change_while_in_use() {
    let house = House::new(4096, 65536).timed();
    house.write(0, &vec![6; 2 << 20]);
    house.read(4 << 20, 4 << 20);
    for blocks in [8, 1, 9000, 600, 2048] {
        house.cache.resize(blocks * 4096, &Interrupt::default()).unwrap();
        let stats = house.cache.stats();
        assert_eq!(stats.capacity, blocks * 4096);
        assert!(stats.used <= stats.capacity);
        house.settle();
        house.audit();
        assert!(house.read(1 << 20, 100_000) == vec![6; 100_000]);
    }
    house.sync();
    assert!(house.fake.medium()[..2 << 20] == vec![6; 2 << 20]);
}

#[test]
fn a_unit_is_let_go_only_when_nothing_of_it_is_unsaved() {
    let house = House::new(1024, 8192);
    house.write(0, &[1]);
    assert_eq!(house.cache.detach(&house.dev).unwrap_err().errno, Errno::EBUSY);
    house.sync();
    house.cache.detach(&house.dev).unwrap();
    assert_eq!((house.cache.stats().used, house.cache.devices().len()), (0, 0));
}

fn lend(house: &House, at: u64, len: usize) -> Option<Vec<crate::lent::Lent>> {
    let is_there = house.dev.holds(at, len);
    is_there.then(|| house.dev.lend(READER, at, len).unwrap().unwrap())
}

fn bytes(lent: &[crate::lent::Lent]) -> Vec<u8> {
    lent.iter().flat_map(|run| run.bytes().iter().copied()).collect()
}

#[test]
fn what_is_lent_are_the_bytes_of_a_read_and_counts_as_one() {
    let house = House::new(1024, 8192);
    assert!(lend(&house, 0, 100).is_none());
    house.read(0, 256 * 1024);
    let before = house.cache.stats();
    for (at, len) in [(0, 256 * 1024), (5, 3), (4095, 2), (65536 - 1, 65538), (8192, 4096)] {
        assert_eq!(bytes(&lend(&house, at, len).unwrap()), fresh(at, len));
    }
    let after = house.cache.stats();
    assert_eq!(after.hits - before.hits, 64 + 1 + 2 + 18 + 1);
    assert_eq!(after.misses, before.misses);
    assert!(house.dev.lend(READER, house.dev.size(), 1).is_err());
}

#[test]
fn what_is_lent_does_not_change_when_it_is_written_written_out_or_given_up() {
    let house = House::new(8, 8192);
    house.write(0, &[1; 8192]);
    let lent = lend(&house, 0, 8192).unwrap();
    house.sync();
    house.write(0, &[2; 4096]);
    house.write(5000, &[3; 10]);
    house.sync();
    for block in 2..20 {
        house.read(block * 4096, 4096);
    }
    house.dev.forget(0..8192, &Interrupt::default()).unwrap();
    assert!(bytes(&lent) == [1; 8192]);
    assert_eq!(house.fake.durable()[..4096], [2; 4096]);
    assert_eq!(house.read(5000, 11), [[3; 10].as_slice(), &[1]].concat());
}

#[test]
fn invalidating_drops_what_is_clean_of_a_range_of_any_length() {
    for blocks in [1, 15, 16, 17, 64, 65, 300, 1024] {
        let house = House::new(512, 8192);
        house.read(4096, 300 * 4096);
        house.write(3 * 4096, &[9; 4096]);
        house.dev.invalidate(4096..(1 + blocks) * 4096);
        let held = |block: u64| house.states().iter().any(|(held, _)| *held == block);
        let kept = (1..301).filter(|block| held(*block)).collect::<Vec<_>>();
        let dirty = (blocks >= 3).then_some(3);
        let expected = dirty.into_iter().chain(blocks + 1..301).collect::<Vec<_>>();
        assert_eq!(kept, expected, "{blocks} blocks");
        house.sync();
    }
}
