//! The path against a plain array: random work through every node, with faults, from one thread
//! and from several; and the countdown that fails each command of the controller once.
//!
//! `SEED=123` runs that seed alone, `RUNS=10000` that many.

use super::*;
use crate::error::flags::{O_DIRECT, O_DSYNC};
use crate::file::Seek;
use crate::ioctl::{BLKFLSBUF, BLKRRPART};

/// The table is here, and nobody's.
const HEAD: usize = 8192;
/// Below, bytes belong to the threads; above, whole sectors do.
const WHOLE: usize = 160 * 1024;
/// Bytes on end that belong to one thread: odd, so that sectors and blocks are shared.
const STRIPE: usize = 777;

/// Small random numbers, the same every run (xorshift64*).
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(word).unwrap() % limit
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

/// One window on the disk, through both switches.
struct Node {
    start: usize,
    end: usize,
    block: Arc<dyn FileOps>,
    raw: Arc<dyn FileOps>,
}

/// The machine of one run, with two partitions and everything open.
struct Bench {
    house: House,
    nodes: Vec<Node>,
    bytes: usize,
    sector: usize,
}

impl Bench {
    fn new(plan: Plan) -> Bench {
        let house = House::new(plan);
        let sector = usize::try_from(plan.sector_bytes).unwrap();
        let bytes = usize::try_from(plan.sectors).unwrap() * 512;
        let parts: [(u32, u32); 2] =
            if sector == 512 { [(33, 300), (333, 280)] } else { [(5, 36), (41, 34)] };
        write(&*house.open(DeviceKind::Char, 0), &call(1, 0), 0, &table(&parts, sector)).unwrap();
        house.disk.rescan(&Interrupt::default()).unwrap();
        let mut windows = vec![(0, bytes)];
        windows.extend(parts.map(|(start, count)| {
            let start = start as usize * sector;
            (start, start + count as usize * sector)
        }));
        let nodes = (0..).zip(windows).map(|(part, (start, end))| Node {
            start,
            end,
            block: house.open(DeviceKind::Block, part),
            raw: house.open(DeviceKind::Char, part),
        });
        let nodes = nodes.collect();
        Bench { house, nodes, bytes, sector }
    }

    fn whole(&self) -> &Node {
        &self.nodes[0]
    }

    /// A node through which a range can be reached.
    fn node(&self, rng: &mut Rng, at: usize, len: usize) -> &Node {
        let reach = |node: &&Node| node.start <= at && at + len <= node.end;
        let nodes: Vec<&Node> = self.nodes.iter().filter(reach).collect();
        nodes[rng.below(nodes.len())]
    }

    /// What the medium holds, past every cache.
    fn medium(&self, at: usize, len: usize) -> Option<Vec<u8>> {
        read(&*self.whole().raw, &call(99, 0), at, len).ok()
    }
}

/// Where one thread of several writes, and what must stand there.
struct Owner {
    number: usize,
    of: usize,
    expected: Vec<u8>,
    rng: Rng,
    pid: u32,
    words: String,
    /// Errors that this one was told.
    told: u32,
}

/// What is known of a write.
type Fate = Result<usize, Error>;

impl Owner {
    fn width(at: usize) -> usize {
        if at < WHOLE { STRIPE } else { 3 * 4096 }
    }

    /// First byte of the stripe with `at` in it, and the first after it.
    fn stripe(at: usize) -> (usize, usize) {
        let base = if at < HEAD {
            return (0, HEAD);
        } else if at < WHOLE {
            HEAD
        } else {
            WHOLE
        };
        let width = Owner::width(at);
        let from = base + (at - base) / width * width;
        let limit = if at < WHOLE { WHOLE } else { usize::MAX };
        (from, (from + width).min(limit))
    }

    fn owns(&self, at: usize) -> bool {
        at >= HEAD && (Owner::stripe(at).0 / Owner::width(at)) % self.of == self.number
    }

    /// A range of its own; in whole sectors where that is wanted.
    fn range(&mut self, bench: &Bench, is_whole: bool) -> (usize, usize) {
        loop {
            let (from, to) = if is_whole { (WHOLE, bench.bytes) } else { (HEAD, bench.bytes) };
            let unit = if is_whole { bench.sector } else { 1 };
            let at = from + self.rng.below((to - from) / unit) * unit;
            if !self.owns(at) {
                continue;
            }
            let room = Owner::stripe(at).1.min(bench.bytes) - at;
            return (at, (1 + self.rng.below(room / unit)) * unit);
        }
    }

    fn check(&self, at: usize, found: &[u8], what: &str) {
        let mut from = at;
        while from < at + found.len() {
            let to = Owner::stripe(from).1.min(at + found.len());
            let is = &found[from - at..to - at];
            if self.owns(from) && is != &self.expected[from..to] {
                let n = is.iter().zip(&self.expected[from..to]).position(|(a, b)| a != b).unwrap();
                let (is, should) = (is[n], self.expected[from + n]);
                panic!("{what} at {}: {is} instead of {should}; {}", from + n, self.words);
            }
            from = to;
        }
    }

    fn call(&self, flags: i32) -> Call {
        call(self.pid, flags)
    }

    fn tell(&mut self, error: &Error) {
        assert_eq!(error.errno, Errno::EIO, "{error}; {}", self.words);
        self.told += 1;
    }

    /// Nothing is known of the range after a failed change: says what stands there.
    fn settle(&mut self, bench: &Bench, at: usize, fate: Fate, data: &[u8]) {
        let done = match fate {
            Ok(done) => {
                self.expected[at..at + done].copy_from_slice(&data[..done]);
                done
            }
            Err(error) => {
                if error.errno != Errno::EINTR {
                    self.tell(&error);
                }
                0
            }
        };
        if done < data.len() {
            self.write_all(bench, at + done, &data[done..]);
        }
    }

    /// Buffered, until all is taken.
    fn write_all(&mut self, bench: &Bench, at: usize, data: &[u8]) {
        let (mut done, file) = (0, &*bench.whole().block);
        for attempt in 0.. {
            if done == data.len() {
                return;
            }
            if attempt % 20 == 19 {
                // A small cache full of what cannot be written takes nothing more; others may
                // have broken it again.
                bench.house.heal();
                let _ = sync(file, &self.call(0));
            }
            assert!(attempt < 400, "never taken; {}", self.words);
            match write(file, &self.call(0), at + done, &data[done..]) {
                Ok(more) => {
                    assert!(more > 0, "nothing taken, and no reason; {}", self.words);
                    let to = at + done..at + done + more;
                    self.expected[to].copy_from_slice(&data[done..done + more]);
                    done += more;
                }
                Err(error) => self.tell(&error),
            }
        }
    }
}

fn buffered(bench: &Bench, owner: &mut Owner, flags: i32) {
    let (at, len) = owner.range(bench, false);
    let data = owner.rng.bytes(len);
    let node = bench.node(&mut owner.rng, at, len);
    let fate = write(&*node.block, &owner.call(flags), at - node.start, &data);
    let is_durable = fate.is_ok() && flags & O_DSYNC != 0;
    owner.settle(bench, at, fate, &data);
    if is_durable
        && let Some(found) =
            bench.medium(at / 4096 * 4096, 16384.min(bench.bytes - at / 4096 * 4096))
    {
        let skip = at % 4096;
        owner.check(at, &found[skip..(skip + len).min(found.len())], "the medium after O_DSYNC");
    }
}

fn reading(bench: &Bench, owner: &mut Owner, flags: i32) {
    let unit = if flags & O_DIRECT != 0 { bench.sector } else { 1 };
    let most = if owner.rng.below(20) == 0 { bench.bytes } else { 9000 };
    let at = owner.rng.below(bench.bytes / unit) * unit;
    let len = (1 + owner.rng.below(most / unit)) * unit;
    // Past the end of a node less is read.
    let node = bench.node(&mut owner.rng, at, 1);
    match read(&*node.block, &owner.call(flags), at - node.start, len) {
        Ok(found) => {
            assert_eq!(found.len(), len.min(node.end - at), "{}", owner.words);
            owner.check(at, &found, if flags == 0 { "read" } else { "direct read" });
        }
        Err(error) => owner.tell(&error),
    }
}

fn direct(bench: &Bench, owner: &mut Owner, flags: i32) {
    let (at, len) = owner.range(bench, true);
    let data = owner.rng.bytes(len);
    let node = bench.node(&mut owner.rng, at, len);
    let fate = write(&*node.block, &owner.call(O_DIRECT | flags), at - node.start, &data);
    if fate.is_ok()
        && let Some(found) = bench.medium(at, len)
    {
        assert!(found == data, "the medium after a direct write at {at}; {}", owner.words);
    }
    owner.settle(bench, at, fate, &data);
}

/// The raw node is not coherent with dirty buffers: the range is synced before.
fn raw(bench: &Bench, owner: &mut Owner, flags: i32) {
    let (at, len) = owner.range(bench, true);
    let data = owner.rng.bytes(len);
    let node = bench.node(&mut owner.rng, at, len);
    if let Err(error) = sync(&*node.block, &owner.call(0)) {
        return owner.tell(&error);
    }
    let fate = write(&*node.raw, &owner.call(flags), at - node.start, &data);
    owner.settle(bench, at, fate, &data);
}

fn synced(bench: &Bench, owner: &mut Owner) {
    let node = bench.whole();
    let result = match owner.rng.below(4) {
        0 => ioctl(&*node.block, &owner.call(0), BLKFLSBUF).map(drop),
        _ => sync(&*node.block, &owner.call(0)),
    };
    match result {
        Err(error) => owner.tell(&error),
        Ok(()) => {
            if let Some(found) = bench.medium(0, bench.bytes) {
                owner.check(0, &found, "the medium after fsync");
            }
        }
    }
}

fn cleared(bench: &Bench, owner: &mut Owner) {
    let (at, len) = owner.range(bench, true);
    let node = bench.node(&mut owner.rng, at, len);
    let mode = [0x03, 0x10][owner.rng.below(2)]; // punch and keep size, zero
    let file = if owner.rng.below(3) == 0 { &node.raw } else { &node.block };
    let (from, bytes) = ((at - node.start) as u64, len as u64);
    let answer = file.allocate(&owner.call(0), mode, from, bytes);
    match answer.and_then(|answer| finish(answer, &Interrupt::default())) {
        Ok(()) => owner.expected[at..at + len].fill(0),
        fate => {
            let data = owner.rng.bytes(len);
            owner.settle(bench, at, fate.map(|()| 0), &data);
        }
    }
}

/// A write whose caller is called away: it may be done or not, now or later.
fn interrupted(bench: &Bench, owner: &mut Owner) {
    let (at, len) = owner.range(bench, true);
    let old = owner.rng.bytes(len);
    let node = bench.node(&mut owner.rng, at, len);
    let interrupt = Interrupt::default();
    interrupt.raise();
    let kind = owner.rng.below(3);
    if kind == 0 && sync(&*node.block, &owner.call(0)).is_err() {
        return;
    }
    let (file, flags) = match kind {
        0 => (&node.raw, 0),
        1 => (&node.block, O_DIRECT),
        _ => (&node.block, O_DSYNC),
    };
    let answer = file.write(&owner.call(flags), (at - node.start) as u64, &old);
    let fate = answer.and_then(|answer| finish(answer, &interrupt));
    // With others at work, what is under way when we look may not be by the next line.
    if kind < 2 && owner.of == 1 && owner.rng.below(2) == 0 {
        let look = || read(&*node.block, &owner.call(0), at - node.start, len).ok();
        let _ = look(); // so that there are copies to go stale
        bench.house.settle();
        // It is all there by now, or nothing of it; the cache must agree with the medium.
        if let (Some(cached), Some(medium)) = (look(), bench.medium(at, len)) {
            assert!(cached == medium, "stale after an interrupted write; {}", owner.words);
        }
    }
    let new = owner.rng.bytes(len);
    match fate {
        Ok(done) if done == len => owner.expected[at..at + len].copy_from_slice(&old),
        fate => owner.settle(bench, at, fate.and(Ok(0)), &new),
    }
}

fn seeking(bench: &Bench, owner: &mut Owner) {
    let at = owner.rng.below(bench.bytes);
    let answer = bench.whole().block.seek(at as u64, Seek::Data);
    match answer.and_then(|answer| finish(answer, &Interrupt::default())) {
        Ok(data) => {
            let data = usize::try_from(data).unwrap();
            assert!((at..bench.bytes).contains(&data));
            let hole = vec![0; data - at];
            // Others may have written there meanwhile.
            if owner.of == 1 {
                owner.check(at, &hole, "a hole");
            }
        }
        Err(error) if error.errno == Errno::ENXIO => {}
        Err(error) => owner.tell(&error),
    }
}

/// What is done to the machine and not to a byte.
fn machine(bench: &Bench, owner: &mut Owner) {
    let house = &bench.house;
    match owner.rng.below(8) {
        0 => house.cache.drop_clean(),
        1 => {
            let blocks = [2, 8, 30, 64, 1100][owner.rng.below(5)];
            let _ = house.cache.resize(blocks * 4096, &Interrupt::default());
        }
        2 => drop(ioctl(&*bench.whole().block, &owner.call(0), BLKRRPART)),
        3 => drop(house.disk.unit.command(UnitCommand::Reset)),
        4 => {
            let schedulers = ["fifo", "sstf", "scan", "clook", "deadline"];
            let name = schedulers[owner.rng.below(5)];
            house.disk.unit.set_property("scheduler", name).unwrap();
        }
        5 => house.settle(),
        _ => house.pass(owner.rng.below(20_000_000_000) as u64),
    }
}

fn fault(bench: &Bench, owner: &mut Owner) {
    let faults = &bench.house.machine.faults;
    if owner.rng.below(3) == 0 {
        bench.house.heal();
        return;
    }
    let op = ["any", "read", "write", "flush"][owner.rng.below(4)];
    let first = owner.rng.below(bench.bytes / 512);
    let last = first + owner.rng.below(40);
    let when = ["1", "2-3", "every:5", "every:2"][owner.rng.below(4)];
    let what =
        ["error EIO", "transient 2", "transient 9", "permanent", "panic", "hang", "delay 7ms"]
            [owner.rng.below(7)];
    let name = format!("f{}", owner.rng.below(1 << 30));
    let line = format!("add {name} on sd0 op={op} block={first}-{last} when={when} do {what}");
    let line =
        if op == "flush" { line.replace(&format!("block={first}-{last} "), "") } else { line };
    let words: Vec<&str> = line.split(' ').collect();
    faults.command(&words).unwrap();
}

fn step(bench: &Bench, owner: &mut Owner, has_faults: bool) {
    match owner.rng.below(100) {
        0..26 => buffered(bench, owner, 0),
        26..32 => buffered(bench, owner, O_DSYNC),
        32..54 => reading(bench, owner, 0),
        54..62 => reading(bench, owner, O_DIRECT),
        62..69 => direct(bench, owner, 0),
        69..72 => direct(bench, owner, O_DSYNC),
        72..76 => raw(bench, owner, 0),
        76..78 => raw(bench, owner, O_DSYNC),
        78..82 => synced(bench, owner),
        82..86 => cleared(bench, owner),
        86..89 => interrupted(bench, owner),
        89..91 => seeking(bench, owner),
        91..97 => machine(bench, owner),
        _ if has_faults => fault(bench, owner),
        _ => {}
    }
}

fn owners(bench: &Bench, seed: u64, of: usize, words: &str) -> Vec<Owner> {
    let owner = |number: usize| Owner {
        number,
        of,
        expected: vec![0; bench.bytes],
        rng: Rng::new(seed * 64 + number as u64 + 1),
        pid: 100 + u32::try_from(number).unwrap(),
        words: format!("SEED={seed} {words}"),
        told: 0,
    };
    (0..of).map(owner).collect()
}

fn plan(seed: u64) -> Plan {
    let mut rng = Rng::new(seed);
    let sector_bytes = [512, 512, 4096][rng.below(3)];
    let timing = ["none", "disk7200", "ssd", "floppy"][rng.below(4)];
    // At the speed of a diskette a long command would look like silence.
    let transfer_max = [4096, 16384, 1 << 20][rng.below(if timing == "floppy" { 2 } else { 3 })];
    Plan {
        seed,
        transfer_max,
        timing,
        cache_blocks: [1, 3, 8, 16, 40, 64, 1500][rng.below(7)],
        sectors: if sector_bytes == 512 { 637 } else { 640 },
        sector_bytes,
        scheduler: ["fifo", "sstf", "scan", "clook", "deadline"][rng.below(5)],
        is_read_only: false,
    }
}

/// No fault any more: everything acknowledged reaches the medium.
fn finish_run(bench: &Bench, owners: &[Owner]) {
    bench.house.heal();
    for node in &bench.nodes {
        let _ = sync(&*node.block, &call(1, 0)); // it may still have to be told of old errors
    }
    sync(&*bench.whole().block, &call(1, 0)).unwrap();
    bench.house.audit();
    for owner in owners {
        let cached = read(&*bench.whole().block, &call(1, 0), 0, bench.bytes).unwrap();
        owner.check(0, &cached, "the cache at the end");
        let medium = read(&*bench.whole().raw, &call(99, 0), 0, bench.bytes);
        let medium = medium.unwrap_or_else(|error| panic!("{error}; {}", owner.words));
        owner.check(0, &medium, "the medium at the end");
    }
}

fn seeds(runs: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RUNS").unwrap_or(runs),
    }
}

fn run(seed: u64, threads: usize, steps: usize) {
    let plan = plan(seed);
    let bench = Bench::new(plan);
    let mut owners = owners(&bench, seed, threads, &format!("{plan:?}"));
    let has_faults = !seed.is_multiple_of(3);
    if let [owner] = &mut owners[..] {
        (0..steps).for_each(|_| step(&bench, owner, has_faults));
    } else {
        std::thread::scope(|scope| {
            for owner in &mut owners {
                scope.spawn(|| (0..steps).for_each(|_| step(&bench, owner, has_faults)));
            }
        });
    }
    finish_run(&bench, &owners);
}

#[test]
fn random_work_through_all_nodes_against_an_array() {
    seeds(150).for_each(|seed| run(seed, 1, 120));
}

#[test]
fn random_work_of_three_threads_through_all_nodes() {
    seeds(60).for_each(|seed| run(seed, 3, 60));
}

/// A fixed piece of work, with every kind of command in it.
fn errand(bench: &Bench, owner: &mut Owner) {
    for round in 0..2_u8 {
        owner.write_all(bench, HEAD + 100, &[round + 1; 9000]);
        owner.write_all(bench, WHOLE + 4096, &[round + 7; 4096]);
        reading(bench, owner, 0);
        direct(bench, owner, 0);
        raw(bench, owner, O_DSYNC);
        reading(bench, owner, O_DIRECT);
        buffered(bench, owner, O_DSYNC);
        cleared(bench, owner);
        owner.write_all(bench, HEAD + 30_000 + usize::from(round), &[round; 5]);
        bench.house.pass(40_000_000_000);
        synced(bench, owner);
    }
}

#[test]
fn whichever_command_fails_nothing_is_lost_and_somebody_is_told() {
    for cache_blocks in [3, 64] {
        let (mut last, mut failures) = (0, 0);
        for k in 1.. {
            let bench = Bench::new(Plan { cache_blocks, ..Plan::default() });
            let mut owner = owners(&bench, 5, 1, &format!("k={k}")).remove(0);
            bench.house.machine.faults.fail_nth(k);
            errand(&bench, &mut owner);
            let has_passed = bench.house.machine.faults.countdown() > 0;
            let log = bench.house.disk.unit.error_log();
            let failed = log.iter().filter(|e| e.op != devices::Op::Read).count();
            // A command of several requests is taken apart and tried again: then none has failed.
            failures += log.len();
            assert!(failed == 0 || owner.told > 0, "k={k}: nobody was told; {log:?}");
            finish_run(&bench, &[owner]);
            if has_passed {
                break;
            }
            last = k;
        }
        assert!(last > 25 && failures > 15, "only {failures} failures of {last} commands");
    }
}
