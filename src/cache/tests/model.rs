//! The cache against a plain array: random work, faults and evictions, from one and from several
//! threads; and the countdown that fails each request once.
//!
//! `SEED=123` runs that seed alone, `RUNS=10000` that many.

use super::fake::{Rng, initial};
use super::*;
use crate::error::{Errno, Error};
use devices::{BlockDevice, IoError, Op, Request};

const SECTORS: u64 = 400;
const BYTES: usize = 400 * 512 - 512; // the last block is short
/// Bytes on end that belong to one thread: odd, so that sectors and blocks are shared.
const STRIPE: usize = 777;
/// Above this whole sectors belong to the threads, for discards and direct writes.
const WHOLE: usize = 64 * 2048;

/// Where one thread of several writes, and what must stand there.
struct Owner {
    number: usize,
    of: usize,
    expected: Vec<u8>,
    rng: Rng,
    words: String,
}

impl Owner {
    fn owns(&self, at: usize) -> bool {
        let stripe = if at < WHOLE { at / STRIPE } else { at / 1536 };
        stripe % self.of == self.number
    }

    /// A range of its own; above `WHOLE` in whole sectors.
    fn range(&mut self, is_whole: bool) -> (usize, usize) {
        let width = if is_whole { 1536 } else { STRIPE };
        let (first, end) =
            if is_whole { (WHOLE / width + 1, BYTES / width) } else { (0, WHOLE / width) };
        let stripes = (end - first) / self.of;
        let stripe =
            first.next_multiple_of(self.of) + self.rng.index(stripes - 1) * self.of + self.number;
        let unit = if is_whole { 512 } else { 1 };
        let from = self.rng.index(width / unit);
        let len = 1 + self.rng.index(width / unit - from);
        let at = stripe * width + from * unit;
        assert!(self.owns(at) && at + len * unit <= BYTES);
        (at, len * unit)
    }

    fn check(&self, at: usize, found: &[u8], what: &str) {
        let mut from = at;
        while from < at + found.len() {
            let width = if from < WHOLE { STRIPE } else { 1536 };
            let end = if from < WHOLE { WHOLE } else { BYTES };
            let to = ((from / width + 1) * width).min(end).min(at + found.len());
            let is = &found[from - at..to - at];
            if self.owns(from) && is != &self.expected[from..to] {
                let n = is.iter().zip(&self.expected[from..to]).position(|(a, b)| a != b).unwrap();
                let (is, should) = (is[n], self.expected[from + n]);
                panic!("{what} at {}: {is} instead of {should}; {}", from + n, self.words);
            }
            from = to;
        }
    }
}

fn write_all(house: &House, owner: &mut Owner, at: usize, data: &[u8]) {
    let interrupt = Interrupt::default();
    let mut done = house.dev.write(READER, at as u64, data).unwrap_or(0);
    owner.expected[at..at + done].copy_from_slice(&data[..done]);
    for attempt in 0.. {
        if done == data.len() {
            return;
        }
        if attempt == 20 {
            // A small cache full of what cannot be written takes nothing more: repair the unit.
            heal(house);
            let _ = house.dev.sync(None, &interrupt);
        }
        assert!(attempt < 100, "never taken; {}", owner.words);
        let (from, rest) = (at + done, &data[done..]);
        if let Ok(more) = house.dev.write_wait(READER, from as u64, rest, &interrupt) {
            owner.expected[from..from + more].copy_from_slice(&rest[..more]);
            done += more;
        }
    }
}

fn read_some(house: &House, owner: &mut Owner) {
    let at = owner.rng.index(BYTES);
    let most = if owner.rng.below(20) == 0 { BYTES } else { 9000 };
    let len = (1 + owner.rng.index(most)).min(BYTES - at);
    let mut buf = vec![0xee; len];
    let quick = house.dev.read(READER, at as u64, &mut buf);
    let outcome = match quick {
        Ok(true) => Ok(()),
        Ok(false) => house.dev.read_wait(READER, at as u64, &mut buf, &Interrupt::default()),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => owner.check(at, &buf, "read"),
        Err(error) => assert_eq!(error.errno, Errno::EIO),
    }
}

/// Past the cache, as O_DIRECT does it.
fn direct(house: &House, owner: &mut Owner) -> Result<(), Error> {
    let (at, len) = owner.range(true);
    let (range, interrupt) = (at as u64..(at + len) as u64, Interrupt::default());
    let data = vec![owner.rng.byte(); len];
    house.dev.flush_range(range.clone(), &interrupt)?;
    let result = house.dev.ask(&interrupt, |answer| {
        let done = Box::new(move |_, fate| answer(fate));
        let sector = devices::Sector(at as u64 / 512);
        let request = Request::write(sector, data.clone(), READER, done);
        if let Err(rejected) = house.fake.submit(request) {
            rejected.1.finish(Err(rejected.0));
        }
    });
    house.dev.invalidate(range);
    result?;
    owner.expected[at..at + len].copy_from_slice(&data);
    Ok(())
}

fn discard(house: &House, owner: &mut Owner) {
    let (at, len) = owner.range(true);
    let range = at as u64..(at + len) as u64;
    let outcome = if owner.rng.below(2) == 0 {
        house.dev.discard(READER, range, &Interrupt::default())
    } else {
        house.dev.zero(READER, range, &Interrupt::default())
    };
    match outcome {
        Ok(()) => owner.expected[at..at + len].fill(0),
        // What a failed discard leaves is not known: say what stands there.
        Err(_) => {
            let byte = owner.rng.byte();
            write_all(house, owner, at, &vec![byte; len]);
        }
    }
}

fn through(house: &House, owner: &mut Owner) {
    let (at, len) = owner.range(false);
    let data: Vec<u8> = (0..len).map(|_| owner.rng.byte()).collect();
    match house.dev.write_through(READER, at as u64, &data, &Interrupt::default()) {
        Ok(()) => {
            owner.expected[at..at + len].copy_from_slice(&data);
            owner.check(at, &house.fake.durable()[at..at + len], "write-through");
        }
        Err(_) => write_all(house, owner, at, &data),
    }
}

fn step(house: &House, owner: &mut Owner) {
    let interrupt = Interrupt::default();
    match owner.rng.below(100) {
        0..40 => {
            let (at, len) = owner.range(false);
            let data: Vec<u8> = (0..len).map(|_| owner.rng.byte()).collect();
            write_all(house, owner, at, &data);
        }
        40..50 => {
            let (at, len) = owner.range(true);
            let data = vec![owner.rng.byte(); len];
            write_all(house, owner, at, &data);
        }
        50..80 => read_some(house, owner),
        80..84 => {
            if house.dev.sync(None, &interrupt).is_ok() {
                owner.check(0, &house.fake.durable()[..BYTES], "sync");
            }
        }
        84..87 => {
            let (at, len) = owner.range(false);
            if house.dev.sync(Some(at as u64..(at + len) as u64), &interrupt).is_ok() {
                owner.check(at, &house.fake.durable()[at..at + len], "sync of a range");
            }
        }
        87..90 => drop(direct(house, owner)),
        90..92 => discard(house, owner),
        92..94 => through(house, owner),
        94 => house.cache.drop_clean(),
        95 => house.dev.invalidate(0..BYTES as u64),
        96 => {
            let blocks = [2, 8, 30, 64, 1100][owner.rng.index(5)];
            let _ = house.cache.resize(blocks * 4096, &interrupt);
        }
        97 => house.settle(),
        _ => {
            house.engine.after(owner.rng.below(20 * SECOND), || {});
            house.settle();
            house.cache.tick();
        }
    }
}

fn owners(seed: u64, of: usize) -> Vec<Owner> {
    let all = 0..of;
    all.map(|number| Owner {
        number,
        of,
        expected: (0..BYTES).map(initial).collect(),
        rng: Rng::new(seed * 64 + number as u64),
        words: format!("SEED={seed}"),
    })
    .collect()
}

fn house_of(seed: u64, time: Time) -> House {
    let mut rng = Rng::new(seed);
    let blocks = [1, 3, 8, 16, 40, 64, 1500][rng.index(7)];
    let house = match time {
        Time::Real => House::real(blocks, SECTORS - 1),
        _ => House::new(blocks, SECTORS - 1),
    };
    let slowest = if time == Time::Real { 300_000 } else { 50_000_000 };
    let delay_max = [0, 1000, slowest][rng.index(3)];
    let fail_one_in = [0, 0, 7, 40][rng.index(4)];
    let reject_one_in = [0, 0, 30][rng.index(3)];
    house.fake.script(|script| {
        script.delay_max = delay_max;
        script.fail_one_in = fail_one_in;
        script.reject_one_in = reject_one_in;
    });
    house
}

fn heal(house: &House) {
    house.fake.script(|script| {
        script.fail_one_in = 0;
        script.reject_one_in = 0;
        script.fail_in = None;
    });
}

/// No fault any more: everything acknowledged reaches the medium.
fn finish(house: &House, owners: &[Owner]) {
    heal(house);
    house.sync();
    house.cache.resize(house.cache.size(), &Interrupt::default()).unwrap();
    house.settle();
    house.audit();
    for owner in owners {
        owner.check(0, &house.read(0, BYTES), "the cache at the end");
        owner.check(0, &house.fake.durable(), "the medium at the end");
    }
}

fn seeds(runs: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RUNS").unwrap_or(runs),
    }
}

#[test]
fn random_work_against_an_array() {
    for seed in seeds(400) {
        let house = house_of(seed, Time::Simulated);
        let mut owners = owners(seed, 1);
        for _ in 0..120 {
            step(&house, &mut owners[0]);
        }
        finish(&house, &owners);
    }
}

fn three_threads(seed: u64, time: Time) {
    let house = house_of(seed, time);
    let mut owners = owners(seed, 3);
    std::thread::scope(|scope| {
        for owner in &mut owners {
            let house = &house;
            scope.spawn(move || {
                for _ in 0..60 {
                    step(house, owner);
                }
            });
        }
    });
    finish(&house, &owners);
}

#[test]
fn random_work_of_three_threads_against_an_array() {
    for seed in seeds(100) {
        three_threads(seed, Time::Simulated);
    }
}

#[test]
fn random_work_of_three_threads_beside_engine_and_updater() {
    for seed in seeds(20) {
        three_threads(seed, Time::Real);
    }
}

/// A fixed piece of work, with every kind of request in it.
fn errand(house: &House, owner: &mut Owner) {
    for round in 0..3u8 {
        write_all(house, owner, 100, &[round + 1; 9000]);
        write_all(house, owner, 40_000, &[round + 7; 4096]);
        let mut buf = vec![0; 30_000];
        if house.dev.read_wait(READER, 20_000, &mut buf, &Interrupt::default()).is_ok() {
            owner.check(20_000, &buf, "read");
        }
        write_all(house, owner, 60_000 + usize::from(round), &[round; 5]);
        if house.dev.sync(None, &Interrupt::default()).is_ok() {
            owner.check(0, &house.fake.durable(), "sync");
        }
    }
}

#[test]
fn whichever_request_fails_nothing_acknowledged_is_lost() {
    for blocks in [3, 64] {
        for error in [IoError::Transient, IoError::Hardware, IoError::Media(devices::Sector(80))] {
            let mut runs = 0;
            for k in 1.. {
                let house = House::new(blocks, SECTORS - 1).timed();
                house.fake.script(|script| {
                    script.fail_in = Some(k);
                    script.error = error;
                });
                let mut owner = owners(k, 1).remove(0);
                errand(&house, &mut owner);
                let mut has_passed = false;
                house.fake.script(|script| has_passed = script.fail_in.is_some());
                finish(&house, &[owner]);
                if has_passed {
                    break;
                }
                runs = k;
            }
            assert!(runs > 15, "only {runs} requests");
        }
    }
}

#[test]
fn the_model_itself_would_notice_a_lost_byte() {
    let house = House::new(64, SECTORS - 1);
    let owner = &mut owners(1, 1)[0];
    write_all(&house, owner, 5000, &[9; 100]);
    house.dev.forget(4096..8192, &Interrupt::default()).unwrap();
    let found = house.read(5000, 100);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        owner.check(5000, &found, "read");
    }));
    assert!(caught.is_err());
    assert_eq!(house.fake.count(Op::Write), 0);
}
