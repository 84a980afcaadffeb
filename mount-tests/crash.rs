//! Crashes: the daemon is killed at random moments, and nothing that was promised is lost.
//!
//! `SOAK_ROUNDS` says how many rounds (`scripts/soak` wants 200), `SEED` replays their moments.

use crate::house::{Dice, House};
use crate::{Check, check};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

pub const CHECKS: &[Check] = &[
    check("bc_06_what_was_fsynced_survives_kill_9", &[], fsynced_records),
    check("bc_06_what_is_older_than_flush_age_survives_kill_9", &[], old_records),
];

/// Bytes in a record: two sectors, so that a torn one can be told.
const RECORD_BYTES: usize = 1024;

/// Records read back by one call: a round must not take longer with every one before it.
const RECORDS_AT_ONCE: usize = 256;

/// Records that fit on the disk used here.
const SLOTS: u64 = (64 << 20) / RECORD_BYTES as u64;

fn rounds(few: u64) -> u64 {
    std::env::var("SOAK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(few)
}

fn record(number: u64) -> Vec<u8> {
    let mut dice = Dice::new(number + 1);
    let mut bytes = number.to_le_bytes().to_vec();
    while bytes.len() < RECORD_BYTES {
        bytes.extend(dice.below(u64::MAX).to_le_bytes());
    }
    bytes
}

fn place(number: u64) -> u64 {
    number % SLOTS * RECORD_BYTES as u64
}

/// Writes records from `first` on until the daemon is gone; answers the first not written, and the
/// first not known to be durable.
fn write_until_killed(h: &House, first: u64) -> (u64, u64) {
    let Ok(node) = File::options().write(true).open(h.tree().join("dev/sd0")) else {
        return (first, first);
    };
    let mut durable = first;
    for number in first.. {
        if node.write_all_at(&record(number), place(number)).is_err() {
            return (number, durable);
        }
        if number % 10 == 9 {
            if node.sync_data().is_err() {
                return (number + 1, durable);
            }
            durable = number + 1;
        }
    }
    unreachable!("numbers do not end")
}

/// Every record of the last lap below `durable` must be there, whole.
fn assert_whole(h: &House, durable: u64, written: u64, round: u64) {
    let node = File::open(h.tree().join("dev/sd0")).expect("sd0 opens");
    let mut number = durable.saturating_sub(SLOTS - (written - durable).min(SLOTS));
    let mut bytes = vec![0; RECORDS_AT_ONCE * RECORD_BYTES];
    while number < durable {
        let count = (durable - number).min(SLOTS - number % SLOTS).min(RECORDS_AT_ONCE as u64);
        let bytes = &mut bytes[..usize::try_from(count).unwrap() * RECORD_BYTES];
        node.read_exact_at(bytes, place(number)).expect("records are read");
        for found in bytes.chunks_exact(RECORD_BYTES) {
            assert!(found == record(number), "round {round}: record {number} is missing or torn");
            number += 1;
        }
    }
}

fn fsynced_records() {
    let mut dice = Dice::from_env(0xc0ffee);
    let h = House::new();
    let mut first = 0;
    let mut survived = 0;
    for round in 0..rounds(6) {
        let pid = h.pid();
        let moment = Duration::from_micros(dice.below(120_000));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(moment); // the moment is random on purpose
            let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
        });
        let (written, durable) = write_until_killed(&h, first);
        killer.join().expect("the killer ends");
        h.await_end(pid);
        h.mount();
        assert_whole(&h, durable, written, round);
        survived += durable - first;
        if round % 20 == 19 {
            eprintln!("{} rounds, {survived} fsynced records survived", round + 1);
        }
        first = durable; // what was not fsynced is written again
    }
    eprintln!("{survived} fsynced records survived");
    assert!(survived > 0, "no round fsynced anything: nothing was tried");
}

fn old_records() {
    let mut dice = Dice::from_env(0xbeef);
    let age = Duration::from_secs(3);
    let h = House::with(&["--set", "cache.flush_age=3s"]);
    for round in 0..rounds(2).min(20) {
        let node = File::options().write(true).open(h.tree().join("dev/sd1")).expect("sd1 opens");
        let begun = Instant::now();
        let run = age + Duration::from_millis(500 + dice.below(2000));
        let mut written: Vec<(u64, Instant)> = Vec::new();
        for number in (round * 1000).. {
            if begun.elapsed() >= run {
                break;
            }
            node.write_all_at(&record(number), place(number)).expect("a record is written");
            written.push((number, Instant::now()));
            std::thread::sleep(Duration::from_millis(20)); // one record, then a while: age is tried
        }
        let killed = Instant::now();
        h.kill();
        drop(node);
        h.mount();
        let node = File::open(h.tree().join("dev/sd1")).expect("sd1 opens");
        let mut bytes = vec![0; RECORD_BYTES];
        for (number, when) in written {
            if killed.duration_since(when) > age {
                node.read_exact_at(&mut bytes, place(number)).expect("a record is read");
                assert!(bytes == record(number), "round {round}: old record {number} is missing");
            }
        }
    }
}
