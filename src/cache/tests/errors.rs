//! Failed delayed writes: kept, retried, listed, told once to every open file.

use super::*;
use crate::error::Errno;
use devices::Op;

#[test]
fn a_failed_delayed_write_is_told_once_to_every_open_file() {
    let house = House::new(1024, 8192).timed();
    let (first, second) = (house.dev.open_errors(), house.dev.open_errors());
    house.fake.script(|script| _ = script.bad_to_write.insert(8));
    house.write(4096, &[1; 4096]);
    first.take().unwrap();
    house.pass(60 * SECOND);
    assert_eq!(first.take().unwrap_err().errno, Errno::EIO);
    first.take().unwrap();
    house.pass(60 * SECOND);
    first.take().unwrap();
    let third = house.dev.open_errors();
    assert_eq!(second.take().unwrap_err().errno, Errno::EIO);
    second.take().unwrap();
    third.take().unwrap();
    let errors = house.dev.write_errors();
    assert_eq!((errors.len(), errors[0].block, errors[0].is_pending), (1, Some(1), true));
    assert!(errors[0].count >= 4, "{errors:?} {:?}", house.fake.log());
    assert_eq!(errors[0].failure.sense.key, 3);
    assert_eq!(house.states(), [(1, "failed")]);
    assert_eq!(house.read(4096, 4096), [1; 4096]);
    house.fake.script(|script| script.bad_to_write.clear());
    house.pass(31 * SECOND);
    assert_eq!(house.fake.durable()[4096], 1, "tried again by the updater");
    assert!(!house.dev.write_errors()[0].is_pending);
    first.take().unwrap();
}

#[test]
fn news_that_nobody_was_told_wait_for_the_next_open_file() {
    let house = House::new(1024, 8192);
    house.fake.script(|script| _ = script.bad_to_write.insert(0));
    house.write(0, &[1; 512]);
    house.pass(40 * SECOND);
    let late = house.dev.open_errors();
    assert_eq!(late.take().unwrap_err().errno, Errno::EIO);
    assert!(house.dev.open_errors().take().is_ok());
    house.fake.script(|script| script.bad_to_write.clear());
    house.sync();
}

#[test]
fn sync_fails_as_long_as_the_bytes_are_not_down() {
    let house = House::new(1024, 8192);
    let cursor = house.dev.open_errors();
    house.write(0, &[1; 12288]);
    house.fake.script(|script| _ = script.bad_to_write.insert(9));
    let interrupt = Interrupt::default();
    for _ in 0..3 {
        let error = cursor.after(house.dev.sync(None, &interrupt)).unwrap_err();
        assert_eq!(error.errno, Errno::EIO);
        assert!(error.to_string().contains("sd0"), "{error}");
    }
    cursor.take().unwrap();
    assert_eq!(house.fake.durable()[..4096], [1; 4096], "the others are down");
    assert_eq!(house.fake.durable()[8192..12288], [1; 4096]);
    house.dev.sync(Some(0..4096), &interrupt).unwrap();
    house.fake.script(|script| script.bad_to_write.clear());
    house.sync();
    assert_eq!(house.fake.durable()[..12288], [1; 12288]);
}

#[test]
fn a_failed_flush_is_told_and_the_next_sync_asks_again() {
    let house = House::new(1024, 8192);
    let other = house.dev.open_errors();
    house.write(0, &[1; 4096]);
    house.fake.script(|script| script.fail_in = Some(2));
    assert!(house.dev.sync(None, &Interrupt::default()).is_err());
    assert!(house.dev.has_unsynced());
    assert!(other.take().is_err());
    house.sync();
    assert_eq!(house.fake.durable()[0], 1);
}

#[test]
fn a_failing_buffer_does_not_hold_up_the_others() {
    let house = House::new(1024, 8192).timed();
    house.fake.script(|script| _ = script.bad_to_write.insert(0));
    house.write(0, &[1; 512]);
    for second in 0..100u64 {
        house.write((second + 10) * 4096, &[2; 512]);
        house.pass(SECOND);
    }
    let durable = house.fake.durable();
    for second in 0..70usize {
        assert_eq!(durable[(second + 10) * 4096], 2, "written at {second} s");
    }
    let tries = house.fake.log().iter().filter(|d| d.op == Op::Write && !d.is_ok).count();
    assert!((4..12).contains(&tries), "{tries} tries: the pause doubles");
    house.fake.script(|script| script.bad_to_write.clear());
}

#[test]
fn a_broken_unit_keeps_what_is_dirty_until_it_is_repaired() {
    let house = House::new(1024, 8192);
    let cursor = house.dev.open_errors();
    house.write(0, &[1; 4096]);
    house.fake.script(|script| script.is_broken = true);
    assert!(cursor.after(house.dev.sync(None, &Interrupt::default())).is_err());
    assert_eq!(house.states(), [(0, "failed")]);
    house.fake.script(|script| script.is_broken = false);
    house.pass(31 * SECOND);
    assert_eq!(house.fake.durable()[0], 1);
    cursor.take().unwrap();
}

#[test]
fn memory_lost_by_a_driver_is_an_error_and_no_hang() {
    let house = House::new(1024, 8192);
    let cursor = house.dev.open_errors();
    house.write(0, &[1; 4096]);
    house.fake.script(|script| script.lose_one_in = 1);
    let _ = house.dev.sync(None, &Interrupt::default());
    assert!(cursor.take().is_err());
    assert!(house.dev.read_wait(READER, 40960, &mut [0; 9], &Interrupt::default()).is_err());
    house.fake.script(|script| script.lose_one_in = 0);
    house.read(0, 4096);
    house.read(40960, 4096);
}
