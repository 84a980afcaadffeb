//! A drive that takes its time: calls that are parked, gone on with, given up.

use super::*;
use crate::contract::{Class, Clock};

fn slow() -> Bench {
    let bench = bench();
    bench.record(&["one", "two", ""]);
    bench.mt(REW, 1).unwrap();
    bench.unit.set_property("timing", "dlt8000").unwrap();
    bench
}

fn origin(id: u64) -> Origin {
    Origin { pid: 7, class: Class::Caller, id }
}

fn run_on(bench: &Bench) {
    while bench.machine.engine.skip_to_next() {}
}

#[test]
fn a_call_that_takes_time_is_parked_and_answered_when_made_again() {
    let bench = slow();
    let mut into = [0; 9];
    assert_eq!(bench.unit.read(0, &mut into), Err(IoError::WouldBlock));
    assert!(!bench.unit.poll().readable);
    assert_eq!(bench.unit.status().state, State::Busy);
    assert_eq!(bench.unit.read(0, &mut into), Err(IoError::WouldBlock));
    let seen = bench.unit.waits().unwrap().generation();
    assert!(bench.machine.engine.skip_to_next());
    assert!(bench.unit.waits().unwrap().generation() > seen);
    assert_eq!((bench.unit.read(0, &mut into), &into[..3]), (Ok(3), &b"one"[..]));
    assert_eq!(bench.tell(), 1);
}

#[test]
fn a_rewind_takes_as_long_as_the_drive_says() {
    let bench = bench_with(&[("size", number(64 << 20))]);
    for _ in 0..60 {
        bench.write(&vec![1; 1 << 20]).unwrap();
    }
    bench.unit.set_property("timing", "dlt8000").unwrap();
    let before = bench.machine.engine.now();
    bench.mt(REW, 1).unwrap();
    let seconds = bench.machine.engine.now().since(before) / 1_000_000_000;
    assert_eq!(seconds, 9);
    let before = bench.machine.engine.now();
    bench.read(1 << 20).unwrap();
    let millis = bench.machine.engine.now().since(before) / 1_000_000;
    assert!((165..180).contains(&millis), "{millis} ms");
}

#[test]
fn one_call_at_a_time_has_its_turn() {
    let bench = slow();
    let (one, two) = (origin(1), origin(2));
    assert_eq!((bench.unit.begin(&one), bench.unit.begin(&one)), (Ok(()), Ok(())));
    assert_eq!(bench.unit.begin(&two), Err(IoError::WouldBlock));
    let seen = bench.unit.waits().unwrap().generation();
    bench.unit.end(&two);
    assert_eq!(bench.unit.begin(&two), Err(IoError::WouldBlock));
    bench.unit.end(&one);
    assert!(bench.unit.waits().unwrap().generation() > seen);
    assert_eq!(bench.unit.begin(&two), Ok(()));
}

#[test]
fn a_turn_ends_with_the_last_close() {
    let bench = bench();
    bench.unit.begin(&origin(1)).unwrap();
    bench.unit.close();
    bench.unit.open().unwrap();
    assert_eq!(bench.unit.begin(&origin(2)), Ok(()));
}

#[test]
fn what_a_reader_who_left_would_have_got_the_next_one_gets() {
    let bench = slow();
    let mut into = [0; 9];
    bench.unit.begin(&origin(1)).unwrap();
    assert_eq!(bench.unit.read(0, &mut into), Err(IoError::WouldBlock));
    bench.unit.end(&origin(1));
    bench.unit.begin(&origin(2)).unwrap();
    assert_eq!(bench.read(9).unwrap(), b"one");
    assert_eq!(bench.read(9).unwrap(), b"two");
    assert_eq!(bench.read(9).unwrap(), b"");
}

#[test]
fn what_a_reader_of_fixed_records_left_is_handed_out_in_pieces() {
    let bench = bench_with(&[("block", number(4))]);
    bench.write(b"aaaabbbb").unwrap();
    bench.mt(REW, 1).unwrap();
    bench.unit.set_property("timing", "dlt8000").unwrap();
    bench.unit.begin(&origin(1)).unwrap();
    assert_eq!(bench.unit.read(0, &mut [0; 8]), Err(IoError::WouldBlock));
    bench.unit.end(&origin(1));
    assert_eq!(bench.read(3).unwrap(), b"aaa");
    assert_eq!(bench.read(3).unwrap(), b"abb");
    assert_eq!(bench.read(3).unwrap(), b"bb");
}

#[test]
fn a_write_whose_caller_left_is_done_once() {
    let bench = slow();
    bench.unit.begin(&origin(1)).unwrap();
    assert_eq!(bench.unit.write(0, b"new"), Err(IoError::WouldBlock));
    bench.unit.end(&origin(1));
    assert_eq!(bench.write(b"other"), Ok(5));
    bench.mt(REW, 1).unwrap();
    assert_eq!(bench.read(9).unwrap(), b"new");
    assert_eq!(bench.read(9).unwrap(), b"other");
    assert_eq!(bench.read(9).unwrap(), b"");
}

#[test]
fn a_motion_in_two_steps_goes_on_though_its_caller_left() {
    let bench = slow();
    bench.mt(FSR, 1).unwrap();
    bench.record(&["three"]);
    bench.unit.begin(&origin(1)).unwrap();
    let input = mtop(REW, 1); // writes a mark first
    let cmd = mtio::MTIOCTOP;
    let answer = bench.unit.ioctl(&mut Ioctl { cmd, input: &input, output: &mut [] });
    assert_eq!(answer, Err(IoError::WouldBlock));
    bench.unit.end(&origin(1));
    run_on(&bench);
    assert_eq!(bench.unit.status().state, State::Idle);
    assert_eq!((bench.place(), bench.tell()), ((0, 0), 0));
    bench.mt(EOM, 1).unwrap();
    assert_eq!(bench.tell(), 3);
}

#[test]
fn closing_waits_for_nobody_and_the_next_opener_finds_it_done() {
    let bench = slow();
    bench.unit.close();
    bench.rewinding.open().unwrap();
    assert_eq!(bench.settle(|| bench.rewinding.write(0, b"new")), Ok(3));
    bench.rewinding.close();
    bench.unit.open().unwrap();
    assert_eq!((bench.place(), bench.read(9).unwrap()), ((0, 0), b"new".to_vec()));
    assert_eq!(bench.read(9).unwrap(), b"");
    bench.unit.close();
    run_on(&bench);
    assert_eq!(bench.unit.status().state, State::Idle);
}

#[test]
fn a_silent_controller_is_reset_and_the_call_fails() {
    let bench = bench();
    let rule = "add stuck on st0 op=write when=1 do hang".split(' ').collect::<Vec<_>>();
    bench.machine.faults.command(&rule).unwrap();
    let before = bench.machine.engine.now();
    assert_eq!(bench.write(b"a"), Err(IoError::Timeout));
    assert_eq!(bench.machine.engine.now().since(before) / 1_000_000_000, 10);
    assert_eq!(bench.write(b"b"), Ok(1));
}

#[test]
fn a_controller_that_breaks_down_fails_the_call_and_no_more() {
    let bench = bench();
    let rule = "add mad on st0 op=write when=1 do panic".split(' ').collect::<Vec<_>>();
    bench.machine.faults.command(&rule).unwrap();
    assert!(is_eio(&bench.write(b"a")));
    assert_eq!(bench.write(b"b"), Ok(1));
    assert_eq!(bench.tell(), 1);
}

#[test]
fn the_operator_freezes_thaws_and_resets() {
    let bench = bench();
    bench.unit.command(UnitCommand::Freeze).unwrap();
    assert_eq!(bench.unit.status().state, State::Frozen);
    assert_eq!(bench.unit.write(0, b"a"), Err(IoError::WouldBlock));
    bench.unit.command(UnitCommand::Thaw).unwrap();
    assert_eq!(bench.write(b"a"), Ok(1));
    bench.unit.command(UnitCommand::Freeze).unwrap();
    assert_eq!(bench.unit.write(0, b"b"), Err(IoError::WouldBlock));
    bench.unit.command(UnitCommand::Reset).unwrap();
    assert_eq!(bench.write(b"b"), Err(IoError::Timeout));
    assert_eq!(bench.write(b"b"), Ok(1));
    assert_eq!(bench.tell(), 2);
    assert_eq!(bench.unit.command(UnitCommand::Pause), Err(IoError::Unsupported));
}

#[test]
fn many_threads_take_turns_in_real_time() {
    let engine = Engine::new(Time::Real);
    engine.start().unwrap();
    let bench = Arc::new(boot(Machine::new(Arc::clone(&engine), None, 1), &[]));
    bench.unit.open().unwrap();
    let threads = (0..4u8).map(|writer| {
        let bench = Arc::clone(&bench);
        std::thread::spawn(move || {
            let waits = bench.unit.waits().unwrap();
            for number in 0..50u8 {
                let origin = origin(u64::from(writer) * 100 + u64::from(number));
                loop {
                    let seen = waits.generation();
                    let done = bench.unit.begin(&origin);
                    let done = done.and_then(|()| bench.unit.write(0, &[writer, number]));
                    if done != Err(IoError::WouldBlock) {
                        assert_eq!(done, Ok(2));
                        break;
                    }
                    waits.wait(seen, None);
                }
                bench.unit.end(&origin);
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
    bench.mt(REW, 1).unwrap();
    let mut next = [0; 4];
    for _ in 0..200 {
        let record = bench.read(9).unwrap();
        let [writer, number] = record[..] else { panic!("{record:?}") };
        assert_eq!(std::mem::replace(&mut next[usize::from(writer)], number + 1), number);
    }
    assert_eq!(next, [50; 4]);
    engine.stop();
}
