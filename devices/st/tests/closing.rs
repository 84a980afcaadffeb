//! What open, close, load and a dead daemon leave on the tape.

use super::*;

fn on_disk(dir: &Path) -> Bench {
    boot(Machine::new(Engine::new(Time::Simulated), Some(dir.into()), 1), &[])
}

#[test]
fn closing_after_writing_writes_one_mark() {
    let bench = bench();
    bench.record(&["a"]);
    bench.reopen();
    assert_eq!((bench.place(), bench.tell()), ((1, 0), 2));
    bench.reopen();
    assert_eq!(bench.tell(), 2, "nothing was written since");
    bench.record(&["b", ""]);
    bench.reopen();
    assert_eq!(bench.tell(), 4, "its writer has written the mark");
}

#[test]
fn st0_rewinds_at_close_and_nst0_does_not() {
    let bench = bench();
    bench.unit.close();
    bench.rewinding.open().unwrap();
    assert_eq!(bench.rewinding.write(0, b"one"), Ok(3));
    bench.rewinding.close();
    bench.unit.open().unwrap();
    assert_eq!(bench.place(), (0, 0));
    assert_eq!(bench.read(9).unwrap(), b"one");
    bench.reopen();
    assert_eq!((bench.place(), bench.tell()), ((0, 1), 1));
    assert_eq!(bench.read(9).unwrap(), b"");
}

#[test]
fn with_two_fm_a_second_mark_is_written_and_the_head_is_before_it() {
    let bench = bench();
    bench.mt(SETDRVBUFFER, 0x3000_0010).unwrap();
    bench.record(&["a"]);
    bench.reopen();
    assert_eq!((bench.place(), bench.tell()), ((1, 0), 2));
    assert_eq!(bench.read(9).unwrap(), b"");
    assert_eq!(bench.tell(), 3);
    bench.mt(SETDRVBUFFER, 0x4000_0010).unwrap();
    bench.record(&["b"]);
    bench.reopen();
    assert_eq!(bench.tell(), 5);
}

#[test]
fn with_sysv_a_reader_leaves_the_tape_at_the_next_file() {
    let bench = bench();
    bench.record(&["a", "b", "", "c"]);
    bench.mt(SETDRVBUFFER, 0x1000_1000).unwrap();
    bench.mt(REW, 1).unwrap();
    bench.read(9).unwrap();
    bench.reopen();
    assert_eq!((bench.place(), bench.tell()), ((1, 0), 3));
}

#[test]
fn a_reader_of_fixed_records_leaves_an_unseen_mark_to_the_next() {
    let bench = bench_with(&[("block", number(4))]);
    bench.record(&["aaaa", "", "bbbb"]);
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(8).unwrap(), b"aaaa");
    bench.reopen();
    assert_eq!(bench.tell(), 1);
    assert_eq!(bench.read(8).unwrap(), b"");
    assert_eq!(bench.read(8).unwrap(), b"bbbb");
}

#[test]
fn what_a_dead_daemon_had_answered_is_on_the_tape() {
    let dir = tempfile::tempdir().unwrap();
    let bench = on_disk(dir.path());
    bench.unit.open().unwrap();
    bench.record(&["first file", ""]);
    bench.record(&["second file"]);
    // Not a line of the daemon's runs any more: another finds what is in the file.
    let image = std::fs::read(dir.path().join("st0.tap")).unwrap();
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("st0.tap"), image).unwrap();
    let bench = on_disk(other.path());
    bench.unit.open().unwrap();
    assert_eq!(bench.read(99).unwrap(), b"first file");
    assert_eq!(bench.read(99).unwrap(), b"");
    assert_eq!(bench.read(99).unwrap(), b"second file");
    assert!(is_eio(&bench.read(99)));
}

#[test]
fn a_tape_that_goes_offline_is_in_its_file_and_can_be_loaded_again() {
    let dir = tempfile::tempdir().unwrap();
    let bench = on_disk(dir.path());
    bench.unit.open().unwrap();
    bench.record(&["kept"]);
    bench.mt(OFFL, 1).unwrap();
    assert_eq!(bench.place(), (-1, -1));
    let image = std::fs::read(dir.path().join("st0.tap")).unwrap();
    assert_eq!(image, b"\x04\0\0\0kept\x04\0\0\0\0\0\0\0\xff\xff\xff\xff");
    assert_eq!(bench.read(9), Err(IoError::NotReady));
    bench.unit.close();
    assert_eq!(bench.unit.open(), Err(IoError::NotReady));
    bench.unit.open_for(Opening { reads: true, writes: false, waits: false }).unwrap();
    bench.mt(LOAD, 1).unwrap();
    assert_eq!((bench.place(), bench.read(9).unwrap()), ((0, 0), b"kept".to_vec()));
}

#[test]
fn a_locked_door_keeps_the_tape_in() {
    let bench = bench();
    bench.mt(LOCK, 1).unwrap();
    bench.unit.close();
    assert_eq!(bench.unit.eject(), Err("the door is locked".into()));
    assert_eq!(
        bench.unit.load(Path::new("/dev/null"), Protect::Off).unwrap_err(),
        "the door is locked"
    );
    bench.unit.open().unwrap();
    bench.mt(UNLOCK, 1).unwrap();
    bench.unit.close();
    bench.unit.eject().unwrap();
}

#[test]
fn several_volumes_are_one_drive() {
    let dir = tempfile::tempdir().unwrap();
    let bench = on_disk(dir.path());
    for volume in ["one.tap", "two.tap", "one.tap"] {
        bench.unit.load(Path::new(volume), Protect::Off).unwrap();
        bench.rewinding.open().unwrap();
        bench.rewinding.write(0, volume.as_bytes()).unwrap();
        bench.rewinding.close();
    }
    for volume in ["two.tap", "one.tap"] {
        bench.unit.load(Path::new(volume), Protect::On).unwrap();
        bench.unit.open().unwrap();
        assert_eq!(bench.read(99).unwrap(), volume.as_bytes());
        assert_eq!(bench.read(99).unwrap(), b"");
        bench.unit.close();
    }
}

#[test]
fn an_fsync_and_a_mark_make_the_tape_durable_and_a_record_does_not() {
    let bench = bench();
    let rules =
        |words: &str| bench.machine.faults.command(&words.split(' ').collect::<Vec<_>>()).unwrap();
    rules("add sync on st0 op=flush do error EIO");
    bench.record(&["a", ""]);
    assert!(is_eio(&bench.settle(|| bench.unit.sync())));
    assert!(is_eio(&bench.mt(WEOF, 1)));
    rules("clear");
    assert_eq!(bench.settle(|| bench.unit.sync()), Ok(()));
    assert_eq!(bench.mt(WEOF, 1), Ok(()));
}
