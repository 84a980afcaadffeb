//! The operations of `MTIOCTOP`, one by one.

use super::*;

/// Three files of 3, 1 and 2 records, each with its mark; the head at the beginning.
fn three_files() -> Bench {
    let bench = bench();
    bench.record(&["a0", "a1", "a2", "", "b0", "", "c0", "c1", ""]);
    bench.mt(REW, 1).unwrap();
    bench
}

#[test]
fn over_files_forward() {
    let bench = three_files();
    bench.mt(FSF, 1).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((1, 0), 4));
    bench.mt(FSF, 2).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((3, 0), 9));
    assert!(is_eio(&bench.mt(FSF, 1)));
    bench.mt(REW, 1).unwrap();
    assert!(is_eio(&bench.mt(FSF, 5)));
    assert_eq!(bench.place(), (3, -1));
    assert!(bench.has(mtio::GMT_EOD));
}

#[test]
fn over_files_backward_stops_before_the_mark() {
    let bench = three_files();
    bench.mt(FSF, 2).unwrap();
    assert_eq!(bench.read(9).unwrap(), b"c0");
    bench.mt(BSF, 1).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((1, -1), 5));
    assert_eq!(bench.read(9).unwrap(), b"");
    assert_eq!(bench.read(9).unwrap(), b"c0");
    assert!(is_eio(&bench.mt(BSF, 3)));
    assert_eq!((bench.place(), bench.tell()), ((0, 0), 0));
    assert!(bench.has(mtio::GMT_BOT));
}

#[test]
fn to_the_beginning_of_this_file_and_of_those_before() {
    let bench = three_files();
    bench.mt(FSF, 2).unwrap();
    bench.read(9).unwrap();
    bench.mt(BSFM, 1).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((2, 0), 6));
    bench.mt(BSFM, 2).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((1, 0), 4));
    bench.mt(FSFM, 2).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((2, -1), 8));
}

#[test]
fn over_records_and_no_further_than_a_mark() {
    let bench = three_files();
    bench.mt(FSR, 2).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((0, 2), 2));
    bench.mt(BSR, 1).unwrap();
    assert_eq!(bench.read(9).unwrap(), b"a1");
    assert!(is_eio(&bench.mt(FSR, 5)));
    assert_eq!((bench.place(), bench.tell()), ((1, 0), 4));
    assert!(is_eio(&bench.mt(BSR, 1)));
    assert_eq!((bench.place(), bench.tell()), ((0, -1), 3));
    bench.mt(REW, 1).unwrap();
    assert!(is_eio(&bench.mt(BSR, 1)));
    assert_eq!(bench.place(), (0, 0));
    bench.mt(FSF, 3).unwrap();
    assert!(is_eio(&bench.mt(FSR, 1)));
    assert_eq!(bench.place(), (3, 0));
}

#[test]
fn a_count_below_0_goes_the_other_way_and_0_nowhere() {
    let bench = three_files();
    bench.mt(BSF, -2).unwrap();
    assert_eq!(bench.place(), (2, 0));
    bench.mt(FSR, 1).unwrap();
    bench.mt(FSR, -1).unwrap();
    assert_eq!(bench.place(), (2, 0));
    bench.mt(FSR, 1).unwrap();
    for op in [FSF, BSF, FSR, BSR, FSFM, BSFM] {
        bench.mt(op, 0).unwrap();
        assert_eq!((bench.place(), bench.tell()), ((2, 1), 7), "{op}");
    }
    bench.mt(FSF, i32::MIN).unwrap_err();
}

#[test]
fn to_the_end_of_the_data_to_append() {
    let bench = three_files();
    bench.mt(EOM, 1).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((3, -1), 9));
    assert!(bench.has(mtio::GMT_EOD));
    assert!(is_eio(&bench.read(9)));
    bench.record(&["d0"]);
    bench.reopen();
    assert_eq!(bench.place(), (4, 0));
    bench.mt(SETDRVBUFFER, 0x3000_0020).unwrap();
    bench.mt(REW, 1).unwrap();
    bench.mt(EOM, 1).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((-1, -1), 11));
}

#[test]
fn moving_away_from_what_was_written_leaves_a_mark_behind_it() {
    let bench = bench();
    bench.record(&["a"]);
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(9).unwrap(), b"a");
    assert_eq!(bench.read(9).unwrap(), b"");
    bench.record(&["b"]);
    bench.mt(BSF, 1).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((0, -1), 1));
    bench.mt(EOM, 1).unwrap();
    bench.record(&["c"]);
    bench.mt(BSFM, 1).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((2, 0), 4));
    bench.mt(EOM, 1).unwrap();
    bench.record(&["d"]);
    bench.mt(SEEK, 4).unwrap();
    assert_eq!(bench.read(9).unwrap(), b"c");
    bench.mt(EOM, 1).unwrap();
    assert_eq!(bench.tell(), 8);
}

#[test]
fn a_writer_that_goes_back_over_a_record_writes_over_it() {
    let bench = bench();
    bench.record(&["one", "two"]);
    bench.mt(BSR, 1).unwrap();
    bench.record(&["other"]);
    bench.reopen();
    bench.mt(REW, 1).unwrap();
    let read = (0..3).map(|_| bench.read(9).unwrap()).collect::<Vec<_>>();
    assert_eq!(read, [b"one".to_vec(), b"other".to_vec(), Vec::new()]);
}

#[test]
fn to_a_block_by_its_number() {
    let bench = three_files();
    for (target, data) in [(6, "c0"), (1, "a1"), (4, "b0"), (0, "a0")] {
        bench.mt(SEEK, target).unwrap();
        let place = if target == 0 { (0, 0) } else { (-1, -1) };
        assert_eq!((bench.place(), bench.tell()), (place, u64::try_from(target).unwrap()));
        assert_eq!(bench.read(9).unwrap(), data.as_bytes());
    }
    assert!(is_eio(&bench.mt(SEEK, 99)));
    assert_eq!((bench.place(), bench.tell()), ((-1, -1), 9));
}

#[test]
fn an_erased_tape_ends_where_it_was_erased() {
    let bench = three_files();
    bench.mt(FSF, 1).unwrap();
    bench.mt(ERASE, 1).unwrap();
    assert_eq!(bench.place(), (0, 0));
    bench.mt(EOM, 1).unwrap();
    assert_eq!((bench.place(), bench.tell()), ((1, -1), 4));
}

#[test]
fn what_winds_back_is_at_the_beginning() {
    let bench = three_files();
    for op in [REW, RETEN, LOAD] {
        bench.mt(FSF, 1).unwrap();
        bench.mt(op, 1).unwrap();
        assert_eq!((bench.place(), bench.tell()), ((0, 0), 0), "{op}");
    }
    bench.mt(UNLOAD, 1).unwrap();
    assert!(bench.has(mtio::GMT_DR_OPEN));
}

#[test]
fn what_asks_for_nothing_changes_nothing() {
    let bench = bench();
    bench.record(&["a"]);
    for (op, count) in [(NOP, 1), (23, 0), (SETDRVBUFFER, 0x2000_0040), (SETDRVBUFFER, 0x7000_0100)]
    {
        assert_eq!(bench.mt(op, count), Ok(()));
        assert_eq!(bench.place(), (0, 1));
    }
    assert_eq!((bench.mt(32, 0), bench.mt(32, 1)), (Ok(()), Err(IoError::Invalid)));
    assert_eq!(bench.mt(SETDRVBUFFER, 0x5000_0200), Err(IoError::Invalid));
    assert_eq!(bench.mt(SETDRVBUFFER, 0x3000_0400), Err(IoError::Invalid));
}
