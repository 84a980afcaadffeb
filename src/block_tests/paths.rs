//! Single promises of special files, each by the shortest way to it.

use super::*;
use crate::error::flags::{O_DIRECT, O_DSYNC};
use crate::ioctl::{BLKBSZGET, BLKGETSIZE64};
use crate::sync::Mutex;

fn house() -> House {
    House::new(Plan::default())
}

fn fail(house: &House, rule: &str) {
    let words: Vec<&str> = rule.split(' ').collect();
    house.machine.faults.command(&words).unwrap();
}

/// Lets a direct or raw write begin, and calls its caller away.
fn call_away(house: &House, file: &dyn FileOps, flags: i32, data: &[u8]) {
    house.disk.unit.command(UnitCommand::Pause).unwrap();
    let interrupt = Interrupt::default();
    interrupt.raise();
    let answer = file.write(&call(1, flags), 0, data).unwrap();
    assert_eq!(finish(answer, &interrupt).unwrap_err().errno, Errno::EINTR);
    house.disk.unit.command(UnitCommand::Resume).unwrap();
    house.settle();
}

#[test]
fn a_write_past_the_cache_drops_copies_also_when_its_caller_is_gone() {
    for (kind, flags) in [(DeviceKind::Char, 0), (DeviceKind::Block, O_DIRECT)] {
        let house = house();
        let cached = house.open(DeviceKind::Block, 0);
        assert_eq!(read(&*cached, &call(1, 0), 0, 512).unwrap(), [0; 512]);
        call_away(&house, &*house.open(kind, 0), flags, &[7; 512]);
        assert_eq!(read(&*cached, &call(1, 0), 0, 512).unwrap(), [7; 512], "{kind:?}");
    }
}

#[test]
fn a_write_past_the_cache_that_fails_halfway_drops_copies_of_what_it_changed() {
    for (kind, flags) in [(DeviceKind::Char, 0), (DeviceKind::Block, O_DIRECT)] {
        let house = house();
        let cached = house.open(DeviceKind::Block, 0);
        assert_eq!(read(&*cached, &call(1, 0), 0, 4096).unwrap(), [0; 4096]);
        fail(&house, "add x on sd0 op=write block=7 do error EIO");
        let error = write(&*house.open(kind, 0), &call(1, flags), 0, &[7; 8192]).unwrap_err();
        assert_eq!(error.errno, Errno::EIO);
        let medium = read(&*house.open(DeviceKind::Char, 0), &call(1, 0), 0, 4096).unwrap();
        assert_eq!(medium[..512], [7; 512], "the sectors before the bad one are written");
        assert_eq!(read(&*cached, &call(1, 0), 0, 4096).unwrap(), medium, "{kind:?}");
    }
}

fn close(file: &dyn FileOps) -> Result<(), Error> {
    finish(file.flush(&call(1, 0))?, &Interrupt::default())
}

fn is_durable(house: &House) -> bool {
    house.disk.unit.counters().flush.ios > 0 && !house.disk.cached.has_unsynced()
}

#[test]
fn a_synchronous_write_past_the_cache_leaves_nothing_to_flush() {
    for (kind, flags) in [(DeviceKind::Char, 0), (DeviceKind::Block, O_DIRECT)] {
        let house = house();
        let file = house.open(kind, 0);
        write(&*file, &call(1, flags | O_DSYNC), 0, &[7; 512]).unwrap();
        assert!(is_durable(&house), "{kind:?}");
    }
}

#[test]
fn on_a_synchronous_device_every_write_is_durable_on_return() {
    for (kind, flags) in [(DeviceKind::Char, 0), (DeviceKind::Block, O_DIRECT)] {
        let house = house();
        house.disk.cached.set_synchronous(true);
        write(&*house.open(kind, 0), &call(1, flags), 0, &[7; 512]).unwrap();
        assert!(is_durable(&house), "{kind:?}");
    }
}

#[test]
fn an_fsync_that_tells_an_old_error_has_written_what_can_be_written() {
    let house = house();
    let file = house.open(DeviceKind::Block, 0);
    fail(&house, "add x on sd0 op=write block=8 when=1 do error EIO");
    write(&*file, &call(1, 0), 4096, &[1; 512]).unwrap();
    house.pass(40_000_000_000);
    house.settle();
    write(&*file, &call(1, 0), 65536, &[2; 512]).unwrap();
    assert_eq!(sync(&*file, &call(1, 0)).unwrap_err().errno, Errno::EIO);
    let raw = house.open(DeviceKind::Char, 0);
    assert_eq!(read(&*raw, &call(1, 0), 65536, 512).unwrap(), [2; 512]);
    sync(&*file, &call(1, 0)).unwrap();
}

#[test]
fn a_close_tells_an_old_error_once() {
    let house = house();
    let [first, second] = [(); 2].map(|()| house.open(DeviceKind::Block, 0));
    fail(&house, "add x on sd0 op=write block=8 when=1 do error EIO");
    write(&*first, &call(1, 0), 4096, &[1; 512]).unwrap();
    house.pass(40_000_000_000);
    house.settle();
    assert!(house.disk.cached.write_errors().iter().any(|e| e.count > 0));
    for file in [&first, &second] {
        assert_eq!(close(&**file).unwrap_err().errno, Errno::EIO);
        close(&**file).unwrap();
    }
}

#[test]
fn numbers_told_by_commands_are_as_wide_as_their_callers_expect() {
    let house = house();
    let file = house.open(DeviceKind::Block, 0);
    let (_, bytes) = ioctl(&*file, &call(1, 0), BLKGETSIZE64).unwrap();
    assert_eq!(bytes, (640_u64 * 512).to_ne_bytes());
    // An int, though its number says size_t (block/ioctl.c).
    assert_eq!(ioctl(&*file, &call(1, 0), BLKBSZGET).unwrap().1, 4096_u32.to_ne_bytes());
}

#[test]
fn a_partition_ends_where_it_ends() {
    let house = house();
    write(&*house.open(DeviceKind::Char, 0), &call(1, 0), 0, &table(&[(64, 16)], 512)).unwrap();
    house.disk.rescan(&Interrupt::default()).unwrap();
    for (kind, flags) in
        [(DeviceKind::Block, 0), (DeviceKind::Block, O_DIRECT), (DeviceKind::Char, 0)]
    {
        let file = house.open(kind, 1);
        let from = 15 * 512;
        assert_eq!(write(&*file, &call(1, flags), from, &[7; 1024]).unwrap(), 512, "{kind:?}");
        assert_eq!(read(&*file, &call(1, flags), from, 1024).unwrap(), [7; 512], "{kind:?}");
        let error = write(&*file, &call(1, flags), from + 512, &[7; 512]).unwrap_err();
        assert_eq!(error.errno, Errno::ENOSPC);
        assert!(read(&*file, &call(1, flags), from + 512, 512).unwrap().is_empty());
    }
    sync(&*house.open(DeviceKind::Block, 1), &call(1, 0)).unwrap();
    let behind = read(&*house.open(DeviceKind::Char, 0), &call(1, 0), 80 * 512, 512).unwrap();
    assert_eq!(behind, [0; 512]);
}

#[test]
fn a_protected_medium_is_opened_for_reading_only() {
    let house = House::new(Plan { is_read_only: true, ..Plan::default() });
    for kind in [DeviceKind::Block, DeviceKind::Char] {
        assert_eq!(house.try_open(kind, 0, READ_WRITE).err().unwrap().errno, Errno::EROFS);
        let file = house.try_open(kind, 0, 0).unwrap();
        assert_eq!(read(&*file, &call(1, 0), 0, 512).unwrap(), [0; 512]);
        // The host refuses writing calls on such a file; were one to come, it would change nothing.
        let answer = file.allocate(&call(1, 0), 3, 0, 512);
        let error = answer.and_then(|answer| finish(answer, &Interrupt::default())).unwrap_err();
        assert_eq!(error.errno, Errno::EROFS);
    }
}

#[test]
fn the_table_is_read_again_at_the_close_of_the_file_that_wrote_it() {
    let house = house();
    let [other, ours] = [(); 2].map(|()| house.open(DeviceKind::Block, 0));
    write(&*ours, &call(1, 0), 0, &table(&[(64, 16)], 512)).unwrap();
    close(&*other).unwrap();
    assert_eq!(house.disk.partitions(), [], "another's close says nothing");
    close(&*ours).unwrap();
    assert_eq!(house.disk.partitions().len(), 1);
    let punched = ours.allocate(&call(1, 0), 3, 0, 512).unwrap();
    finish(punched, &Interrupt::default()).unwrap();
    close(&*ours).unwrap();
    assert_eq!(house.disk.partitions(), [], "a table given back is gone");
}

#[test]
fn a_table_that_could_not_be_read_is_read_at_the_next_close() {
    let house = house();
    let file = house.open(DeviceKind::Char, 0);
    write(&*file, &call(1, 0), 0, &table(&[(64, 16)], 512)).unwrap();
    fail(&house, "add x on sd0 op=read block=0 do error EIO");
    assert!(close(&*file).is_err());
    house.heal();
    close(&*file).unwrap();
    assert_eq!(house.disk.partitions().len(), 1);
}

#[test]
fn the_table_read_last_counts_whoever_is_told_last() {
    let house = house();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    house.disk.set_on_rescan(Box::new(move |disk| notes.lock().push(disk.partitions().len())));
    let file = house.open(DeviceKind::Block, 0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..50 {
                    house.disk.rescan(&Interrupt::default()).unwrap();
                }
            });
        }
        write(&*file, &call(1, 0), 0, &table(&[(64, 16)], 512)).unwrap();
        house.disk.rescan(&Interrupt::default()).unwrap();
        assert_eq!(house.disk.partitions().len(), 1);
    });
    assert_eq!(house.disk.partitions().len(), 1);
    assert_eq!(seen.lock().last(), Some(&1));
}
