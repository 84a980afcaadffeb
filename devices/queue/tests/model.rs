//! Random requests with overlaps, against a plain array.

use super::super::simulated::{Command, Fate};
use super::*;
use proptest::prelude::*;

const BLOCKS: u64 = 48;

#[derive(Clone, Debug)]
enum Step {
    Ask(Op, u64, u64, u8, u32),
    Crank,
    Pause,
    Resume,
    Reset,
    Repair,
    Scheduler(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop::sample::select(vec![
        Op::Read,
        Op::Write,
        Op::Write,
        Op::Discard,
        Op::Zero,
        Op::Flush,
    ]);
    prop_oneof![
        12 => (op, 0..BLOCKS, 1..12u64, any::<u8>(), 0..9u32).prop_map(|(op, at, len, byte, who)| {
            Step::Ask(op, at, len.min(BLOCKS - at), byte, who)
        }),
        6 => Just(Step::Crank),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => Just(Step::Reset),
        1 => Just(Step::Repair),
        1 => (0..SCHEDULERS.len()).prop_map(Step::Scheduler),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        40 => Just(Fate::Serve),
        4 => Just(Fate::Fail(IoError::Transient)),
        1 => Just(Fate::Refuse(IoError::Transient)),
        1 => Just(Fate::Fail(IoError::NotReady)),
        1 => Just(Fate::Fail(IoError::Hardware)),
        1 => Just(Fate::Silent),
        1 => Just(Fate::Piecemeal(3)),
        1 => Just(Fate::PanicAtStart),
        1 => Just(Fate::PanicAtInterrupt),
    ]
}

/// What a request must find, or leave, given all that came before it.
struct Asked {
    op: Op,
    at: u64,
    len: u64,
    byte: u8,
    ending: Arc<exam::Ending>,
}

/// The last request to change each block, by order of submission, that succeeded: since requests
/// that overlap keep their order, it decides what a later reader sees, and what is there in the
/// end. One that failed may have changed what it was split into so far, so its blocks may hold
/// either.
fn allowed(asked: &[(Asked, Vec<u8>, bool)], block: u64) -> Vec<u8> {
    let mut values = vec![0];
    for (request, _, is_ok) in asked {
        let byte = match request.op {
            Op::Read | Op::Flush => continue,
            Op::Write => request.byte,
            Op::Discard | Op::Zero => 0,
        };
        if (request.at..request.at + request.len).contains(&block) {
            if *is_ok {
                values.clear();
            }
            values.push(byte);
        }
    }
    values
}

fn bytes_of(memory: &[u8], block: u64, size: u64) -> &[u8] {
    let at = usize::try_from(block * size).unwrap() * SECTOR_SIZE;
    &memory[at..at + usize::try_from(size).unwrap() * SECTOR_SIZE]
}

fn play(steps: &[Step], fates: &[Fate], block: u64, longest: u32, bad: Option<u64>) {
    let mut next = 0;
    let fates = fates.to_vec();
    let script = move |command: &Command| {
        next += 1;
        let hits = |bad: &u64| (command.sector..command.sector + command.sectors).contains(bad);
        match bad.filter(hits) {
            Some(bad) => Fate::Fail(IoError::Media(Sector(bad))),
            None => fates.get(next).copied().unwrap_or(Fate::Serve),
        }
    };
    let (engine, disk, plate) = disk(BLOCKS * block, QueueOptions::default(), |plate| {
        plate.geometry.sector_bytes = 512 * u32::try_from(block).unwrap();
        plate.geometry.transfer_max = longest;
        plate.script = Box::new(script);
    });
    let mut asked = Vec::new();
    for step in steps {
        match step {
            Step::Ask(op, at, len, byte, who) => {
                let ending = Arc::new(exam::Ending::default());
                let mut request = exam::request(*op, at * block, len * block, *byte, ending.done());
                let class = [Class::PageIn, Class::Caller, Class::Background][*who as usize % 3];
                request.origin = origin(who / 3, class);
                if let Err(rejected) = disk.submit(request) {
                    assert_eq!(disk.status().state, State::NotFunctioning);
                    assert_eq!(rejected.0.error, IoError::Hardware);
                    drop(rejected);
                    continue;
                }
                asked.push(Asked { op: *op, at: *at, len: *len, byte: *byte, ending });
            }
            Step::Crank => {
                engine.skip_to_next();
            }
            Step::Pause => disk.command(UnitCommand::Pause).unwrap(),
            Step::Resume => disk.command(UnitCommand::Resume).unwrap(),
            Step::Reset => disk.command(UnitCommand::Reset).unwrap(),
            Step::Repair => disk.command(UnitCommand::Repair).unwrap(),
            Step::Scheduler(which) => disk.set_property("scheduler", SCHEDULERS[*which]).unwrap(),
        }
    }
    disk.command(UnitCommand::Resume).unwrap();
    settle(&engine);
    let mut over: Vec<(Asked, Vec<u8>, bool)> = Vec::new();
    for request in asked {
        let (memory, fate) = request.ending.wait(&engine);
        check_read(&over, &request, &memory, fate.is_ok(), block);
        over.push((request, memory, fate.is_ok()));
    }
    for at in 0..BLOCKS {
        let allowed = allowed(&over, at);
        let plate = plate.lock();
        let stored = bytes_of(&plate.bytes, at, block);
        assert!(stored.iter().all(|byte| allowed.contains(byte)), "block {at}");
    }
    let counters = disk.counters();
    let counted: u64 = [counters.read, counters.write, counters.discard, counters.flush]
        .iter()
        .map(|direction| direction.ios + direction.merges)
        .sum();
    assert!(counters.in_flight == 0 && counted <= over.len() as u64, "{counters:?}");
    let status = disk.status();
    assert_eq!((status.current, status.queued), (None, 0));
}

fn check_read(over: &[(Asked, Vec<u8>, bool)], read: &Asked, memory: &[u8], ok: bool, size: u64) {
    if read.op != Op::Read || !ok {
        return;
    }
    for n in 0..read.len {
        let allowed = allowed(over, read.at + n);
        let found = bytes_of(memory, n, size);
        assert!(found.iter().all(|byte| allowed.contains(byte)), "block {}", read.at + n);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Every request is finished exactly once, sees what came before it and nothing later, and
    /// leaves what it should, whatever is merged, split, tried again, reset or failing.
    #[test]
    fn the_disk_agrees_with_a_plain_array(
        steps in prop::collection::vec(step(), 1..80),
        fates in prop::collection::vec(fate(), 0..60),
        (block, longest) in prop::sample::select(vec![(1, 64), (1, 4), (1, 1), (8, 64), (8, 19)]),
        bad in prop::option::weighted(0.3, 0..BLOCKS),
        is_faulty in any::<bool>(),
    ) {
        let fates = if is_faulty { fates } else { Vec::new() };
        play(&steps, &fates, block, longest, bad.map(|bad| bad * block));
    }
}

#[test]
fn several_threads_read_what_they_wrote_while_others_work_beside_them() {
    let (engine, disk, plate) = disk(4096, QueueOptions::default(), |_| ());
    let turn = std::sync::atomic::AtomicU64::new(0);
    plate.lock().script = Box::new(move |_| {
        let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if turn % 7 == 3 { Fate::Fail(IoError::Transient) } else { Fate::Serve }
    });
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (engine, disk) = (&engine, &disk);
            scope.spawn(move || {
                for round in 0..200u64 {
                    let byte = u8::try_from((round + thread) % 251).unwrap();
                    let at = thread * 1024 + round * 8 % 512;
                    exam::run(&**disk, engine, Op::Write, at, 8, byte).unwrap();
                    if round % 10 == 0 {
                        exam::run(&**disk, engine, Op::Flush, 0, 0, 0).unwrap();
                    }
                    let read = exam::run(&**disk, engine, Op::Read, at, 8, 0).unwrap();
                    assert!(read.iter().all(|read| *read == byte));
                }
            });
        }
    });
    let counters = disk.counters();
    assert_eq!((counters.in_flight, counters.read.ios + counters.read.merges), (0, 800));
    assert!(counters.retries > 0);
}
