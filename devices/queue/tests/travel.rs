//! How far the arm moves, and how long anybody waits for it.

use super::*;

/// A stream of random numbers; the seed is printed by whoever fails.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Sectors of a disk of 16 MiB.
const SECTORS: u64 = 32768;

#[derive(Clone, Copy, Debug)]
enum Who {
    One,
    EachItsOwn,
}

/// Sends 200 random reads of 4 KiB, `depth` in flight, and returns how far the arm moved and how
/// many commands anybody waited for at most.
fn ride(name: &str, depth: u32, who: Who, seed: u64) -> (u64, u64) {
    let (engine, disk, plate) = disk(SECTORS, with_scheduler(name), |_| ());
    let mut random = Random(seed);
    let mut sent = 0;
    let log = Log::default();
    let mut served = 0;
    let mut came = Vec::new();
    let mut longest = 0;
    while served < 200 {
        while sent < 200 && sent - served < depth {
            let pid = if let Who::One = who { 1 } else { sent };
            let at = Sector(random.below(SECTORS / 8) * 8);
            let who = origin(pid, Class::Caller);
            came.push(plate.lock().commands.len() as u64);
            disk.submit(Request::read(at, vec![0; 4096], who, log.done(sent))).ok().unwrap();
            sent += 1;
        }
        assert!(engine.skip_to_next());
        let names = log.names();
        for name in &names[served as usize..] {
            let waited = plate.lock().commands.len() as u64 - came[*name as usize];
            longest = longest.max(waited);
        }
        served = u32::try_from(names.len()).unwrap();
    }
    (plate.lock().travel, longest)
}

#[test]
fn clook_moves_the_arm_a_tenth_of_fifos_way_and_nobody_waits_beyond_the_bound() {
    for (depth, part) in [(64, 10), (16, 4)] {
        for who in [Who::One, Who::EachItsOwn] {
            for seed in 1..=20 {
                let (fifo, _) = ride("fifo", depth, who, seed);
                let (clook, longest) = ride("clook", depth, who, seed);
                let words = format!("{who:?}, {depth} in flight, seed {seed}");
                assert!(part * clook < fifo, "{words}: fifo {fifo}, clook {clook}");
                assert!(longest <= starvation_bound(depth as usize) + 1, "{words}: {longest}");
            }
        }
    }
}

#[test]
fn no_scheduler_lets_anybody_wait_beyond_the_bound() {
    for name in SCHEDULERS {
        for depth in [4, 16, 64] {
            let (_, longest) = ride(name, depth, Who::One, 7);
            assert!(longest <= starvation_bound(depth as usize) + 1, "{name}, {depth}: {longest}");
        }
    }
}

#[test]
fn a_far_request_under_a_continuous_stream_near_the_arm_is_served_within_fifty() {
    for name in SCHEDULERS {
        let (engine, disk, plate) = disk(SECTORS, with_scheduler(name), |_| ());
        let log = Log::default();
        for n in 0..4 {
            read(&disk, &log, n, u64::from(n) * 16, 8);
        }
        let before = plate.lock().commands.len();
        read(&disk, &log, 99, 32000, 8);
        let mut near = 4;
        while !log.names().contains(&99) {
            engine.skip_to_next();
            // The stream goes on right ahead of the arm, always.
            let at = (plate.lock().arm + 16) % 30000;
            while disk.status().queued < 4 {
                read(&disk, &log, 100 + near % 3, at + u64::from(near % 2) * 16, 8);
                near += 1;
            }
            assert!(near < 1000, "{name} starves it");
        }
        let dispatches = (plate.lock().commands.len() - before) as u64;
        assert!(dispatches <= STARVATION, "{name}: {dispatches}");
    }
}
