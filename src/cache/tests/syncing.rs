//! Sync, write-through, gathering, and being called away in the middle.

use super::fake::Rng;
use super::*;
use crate::error::Errno;
use devices::Op;

#[test]
fn scattered_neighbours_are_gathered_and_go_out_ascending() {
    let house = House::new(4096, 65536);
    let mut order: Vec<u64> = (0..256).collect();
    let mut rng = Rng::new(1);
    for n in (1..order.len()).rev() {
        order.swap(n, rng.index(n + 1));
    }
    for sector in order {
        house.write(sector * 512, &[3; 512]);
    }
    house.sync();
    let writes: Vec<_> = house.fake.log().into_iter().filter(|d| d.op == Op::Write).collect();
    assert!(writes.windows(2).all(|w| w[0].sector + w[0].sectors == w[1].sector));
    assert_eq!(writes.len(), 32, "one a block, memory moved; the queue makes one transfer of them");
    let stats = house.cache.stats();
    assert_eq!((stats.physical_writes, stats.bytes_per_write()), (1, 256 * 512));
}

#[test]
fn a_sync_of_a_range_leaves_other_blocks_delayed() {
    let house = House::new(1024, 8192);
    house.write(0, &[1; 4096]);
    house.write(40960, &[2; 4096]);
    house.dev.sync(Some(0..100), &Interrupt::default()).unwrap();
    assert_eq!((house.fake.durable()[0], house.fake.count(Op::Write)), (1, 1));
    assert_eq!(house.cache.stats().dirty, 4096);
    assert!(house.dev.has_unsynced());
}

#[test]
fn a_sync_with_nothing_to_do_asks_nothing_of_the_unit() {
    let house = House::new(1024, 8192);
    house.read(0, 4096);
    let before = house.fake.submitted();
    house.sync();
    assert_eq!(house.fake.submitted(), before);
}

#[test]
fn write_through_is_durable_on_return_with_one_command_each() {
    let house = House::new(1024, 8192).timed();
    house.write(1 << 20, &[1; 4096]);
    for n in 0..256u64 {
        let byte = u8::try_from(n).unwrap();
        let interrupt = Interrupt::default();
        house.dev.write_through(READER, n * 512, &[byte; 512], &interrupt).unwrap();
        assert_eq!(house.fake.durable()[usize::try_from(n).unwrap() * 512], byte);
    }
    assert_eq!(house.fake.log().len(), 256);
    assert_eq!(house.cache.stats().dirty, 4096, "the other block stays delayed");
}

#[test]
fn a_synchronous_unit_takes_nothing_quickly_and_delays_nothing() {
    let house = House::new(1024, 8192);
    house.dev.set_synchronous(true);
    assert_eq!(house.dev.write(READER, 100, &[1; 5000]).unwrap(), 0);
    house.write(100, &[1; 5000]);
    assert_eq!(house.fake.durable()[100..5100], [1; 5000]);
    assert!(!house.dev.has_unsynced());
    house.dev.set_synchronous(false);
    house.write(100, &[2; 5000]);
    assert!(house.dev.has_unsynced());
}

#[test]
fn sync_waits_for_what_somebody_else_is_writing() {
    let house = House::new(1024, 8192).timed();
    house.write(0, &[1; 4096]);
    house.write(8192, &[1; 512]);
    house.cache.push(&[house.dev.key(0), house.dev.key(8192)]);
    house.write(8192, &[2; 512]);
    assert_eq!(house.states()[0].1, "writing");
    house.sync();
    assert_eq!((house.fake.durable()[0], house.fake.durable()[8192]), (1, 2));
}

#[test]
fn flush_range_writes_and_does_not_flush() {
    let house = House::new(1024, 8192);
    house.write(0, &[1; 512]);
    house.dev.flush_range(0..512, &Interrupt::default()).unwrap();
    assert_eq!((house.fake.byte(0), house.fake.count(Op::Flush)), (1, 0));
    assert!(house.dev.has_unsynced(), "written, not flushed");
    house.pass(30 * SECOND);
    assert!(!house.dev.has_unsynced(), "the flush comes in time by itself");
}

#[test]
fn cache_drop_removes_all_that_is_clean_and_nothing_dirty() {
    let house = House::new(1024, 8192);
    house.read(0, 40960);
    house.write(4096, &[1; 512]);
    house.cache.drop_clean();
    assert_eq!(house.states(), [(1, "dirty")]);
}

#[test]
fn called_away_from_a_paused_unit_nothing_is_lost() {
    let house = House::new(1024, 8192).timed();
    house.fake.pause();
    house.write(0, &[1; 8192]);
    let gone = Interrupt::default();
    gone.raise();
    assert_eq!(house.dev.sync(None, &gone).unwrap_err().errno, Errno::EINTR);
    let through = house.dev.write_through(READER, 40960, &[2; 512], &gone);
    assert_eq!(through.unwrap_err().errno, Errno::EINTR);
    let mut buf = [0; 512];
    let read = house.dev.read_wait(READER, 81920, &mut buf, &gone);
    assert_eq!(read.unwrap_err().errno, Errno::EINTR);
    let part = house.dev.write_wait(READER, 122_880 + 4000, &[3; 400], &gone);
    assert_eq!(part.unwrap_err().errno, Errno::EINTR);
    let short = house.dev.write_wait(READER, 200_704, &[4; 5000], &gone);
    assert_eq!(short.unwrap(), 4096, "what was taken is told");
    house.fake.resume();
    house.sync();
    let durable = house.fake.durable();
    assert_eq!(durable[..8192], [1; 8192]);
    assert_eq!(durable[40960..41472], [2; 512]);
    assert_eq!(durable[200_704..200_704 + 4096], [4; 4096]);
}

#[test]
fn a_large_cache_flushes_in_good_time() {
    let house = House::new(16384, 131_072);
    for block in (0..8000).rev() {
        house.write(block * 8192 % (64 << 20), &[1; 4096]);
    }
    house.sync();
    let writes: Vec<_> = house.fake.log().into_iter().filter(|d| d.op == Op::Write).collect();
    assert!(writes.windows(2).all(|w| w[0].sector < w[1].sector));
}
