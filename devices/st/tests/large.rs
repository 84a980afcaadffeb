//! System calls that come in parts: records longer than the host hands on at once.

use super::*;

const PART: usize = 1 << 20;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at / 4093).to_le_bytes()[0]).collect()
}

/// A write(2), as the host cuts it.
fn write(bench: &Bench, data: &[u8]) -> Result<usize, IoError> {
    let mut done = 0;
    for part in data.chunks(PART) {
        match bench.unit.write(done as u64, part) {
            Ok(put) if put < part.len() => return Ok(done + put),
            Ok(put) => done += put,
            Err(why) => return if done > 0 { Ok(done) } else { Err(why) },
        }
    }
    Ok(done)
}

/// A read(2), as the host cuts it.
fn read(bench: &Bench, len: usize) -> Result<Vec<u8>, IoError> {
    let mut into = vec![0; len];
    let mut done = 0;
    for part in into.chunks_mut(PART) {
        match bench.unit.read(done as u64, part) {
            Ok(got) => {
                done += got;
                if got < part.len() {
                    break;
                }
            }
            Err(why) if done == 0 => return Err(why),
            Err(_) => break,
        }
    }
    into.truncate(done);
    Ok(into)
}

#[test]
fn a_long_record_is_one_record() {
    let bench = bench_with(&[("size", number(64 << 20))]);
    for len in [PART - 4096, PART, PART + 1, 3 * PART, 3 * PART + 77] {
        bench.mt(REW, 1).unwrap();
        let data = pattern(len);
        assert_eq!(write(&bench, &data), Ok(len));
        assert_eq!(write(&bench, b"next"), Ok(4));
        assert_eq!((bench.place(), bench.tell()), ((0, 2), 2));
        bench.mt(REW, 1).unwrap();
        assert_eq!(read(&bench, 4 * PART).unwrap(), data, "{len}");
        assert_eq!(read(&bench, 4 * PART).unwrap(), b"next");
        bench.mt(REW, 1).unwrap();
        assert_eq!(read(&bench, len).unwrap(), data, "{len}");
        assert_eq!(read(&bench, 4).unwrap(), b"next");
    }
}

#[test]
fn every_part_is_in_the_file_when_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::new(Engine::new(Time::Simulated), Some(dir.path().into()), 1);
    let bench = boot(machine, &[]);
    bench.unit.open().unwrap();
    let data = pattern(2 * PART);
    for part in 0..2 {
        let from = part * PART;
        bench.unit.write(from as u64, &data[from..from + PART]).unwrap();
        let image = std::fs::read(dir.path().join("st0.tap")).unwrap();
        let len = u32::try_from(from + PART).unwrap().to_le_bytes();
        assert_eq!(image[..4], len);
        assert_eq!(image[4..4 + from + PART], data[..from + PART]);
        assert_eq!(image[4 + from + PART..8 + from + PART], len);
    }
}

#[test]
fn a_part_that_belongs_to_nothing_is_refused() {
    let bench = bench();
    assert_eq!(bench.unit.write(PART as u64, b"x"), Err(IoError::Invalid));
    bench.record(&["a"]);
    assert_eq!(bench.unit.write(PART as u64, b"x"), Err(IoError::Invalid));
    bench.record(&["b"]);
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.unit.read(PART as u64, &mut [0; 9]), Ok(0));
    assert_eq!(bench.read(9).unwrap(), b"a");
    assert_eq!(bench.unit.write(1, b"x"), Err(IoError::Invalid));
}

#[test]
fn a_call_longer_than_the_record_ends_with_it() {
    let bench = bench();
    let data = pattern(PART);
    write(&bench, &data).unwrap();
    write(&bench, &data).unwrap();
    bench.mt(WEOF, 1).unwrap();
    bench.mt(REW, 1).unwrap();
    for _ in 0..2 {
        assert_eq!(bench.unit.read(0, &mut vec![0; PART]), Ok(PART));
        assert_eq!(bench.unit.read(PART as u64, &mut vec![0; PART]), Ok(0));
    }
    assert_eq!(bench.unit.read(0, &mut vec![0; PART]), Ok(0));
    assert_eq!(bench.place(), (1, 0));
}

#[test]
fn a_short_buffer_is_enomem_also_for_a_long_record() {
    let bench = bench();
    write(&bench, &pattern(2 * PART)).unwrap();
    write(&bench, b"next").unwrap();
    bench.mt(REW, 1).unwrap();
    assert_eq!(read(&bench, PART - 4096), Err(IoError::RecordTooLong));
    assert_eq!(read(&bench, 9).unwrap(), b"next");
}

#[test]
fn the_rest_of_a_long_record_is_passed_by_the_next_call() {
    let bench = bench();
    let data = pattern(2 * PART);
    write(&bench, &data).unwrap();
    write(&bench, b"next").unwrap();
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.unit.read(0, &mut vec![0; PART]), Ok(PART));
    assert_eq!(read(&bench, 9).unwrap(), b"next");
    assert_eq!(bench.place(), (0, 2));
}

#[test]
fn a_long_record_that_does_not_fit_is_as_long_as_it_could_be() {
    let bench = bench_with(&[("size", number(2_500_000))]);
    let data = pattern(4 * PART);
    assert_eq!(write(&bench, &data), Ok(2 * PART));
    assert!(is_eio(&bench.write(b"x")));
    bench.mt(REW, 1).unwrap();
    assert_eq!(read(&bench, 4 * PART).unwrap(), data[..2 * PART]);
}

#[test]
fn the_early_warning_does_not_cut_a_long_record() {
    let bench = bench_with(&[("size", number(4 << 20))]);
    write(&bench, &pattern(3 * PART - 100)).unwrap();
    write(&bench, &pattern(900_000)).unwrap();
    let data = pattern(PART);
    assert_eq!(bench.write(b"x"), Err(IoError::Range));
    assert_eq!(write(&bench, &data[..100_000]), Ok(100_000));
}

#[test]
fn fixed_records_across_parts_are_whole() {
    let bench = bench_with(&[("block", number(10_240)), ("size", number(64 << 20))]);
    let data = pattern(300 * 10_240);
    assert_eq!(write(&bench, &data), Ok(data.len()));
    assert_eq!(bench.tell(), 300);
    bench.mt(WEOF, 1).unwrap();
    bench.mt(REW, 1).unwrap();
    assert_eq!(read(&bench, data.len()).unwrap(), data);
    assert_eq!(read(&bench, PART).unwrap(), b"");
    assert_eq!(bench.place(), (1, 0));
    bench.mt(REW, 1).unwrap();
    assert_eq!(read(&bench, 8 * PART).unwrap(), data);
    assert_eq!(read(&bench, 8 * PART).unwrap(), b"");
}

#[test]
fn a_mark_at_the_end_of_a_part_is_told_by_the_next_call() {
    let bench = bench_with(&[("block", number(4096))]);
    let data = pattern(PART);
    write(&bench, &data).unwrap();
    bench.mt(WEOF, 1).unwrap();
    bench.mt(REW, 1).unwrap();
    assert_eq!(read(&bench, 2 * PART).unwrap(), data);
    assert_eq!(read(&bench, 2 * PART).unwrap(), b"");
    assert_eq!(read(&bench, 2 * PART).unwrap(), b"");
    assert!(is_eio(&read(&bench, 2 * PART)));
}

#[test]
fn a_call_that_is_no_multiple_of_the_fixed_length_is_refused_at_its_last_part() {
    let bench = bench_with(&[("block", number(10_240))]);
    let data = pattern(PART + 5);
    assert_eq!(bench.unit.write(0, &data[..PART]), Ok(PART));
    assert_eq!(bench.unit.write(PART as u64, &data[PART..]), Err(IoError::Invalid));
    assert_eq!(bench.tell(), 102);
    assert_eq!(bench.write(&data[..10_240]), Ok(10_240));
    assert_eq!(bench.tell(), 103);
}
