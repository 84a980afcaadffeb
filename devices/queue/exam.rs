//! The exam that every block unit takes, whatever is beneath: `exam::sit(&unit, &engine)`.
//!
//! The unit has at least 256 blocks, is writable and functioning; its contents are lost. Whoever
//! can make the unit fail sits [`sit_with_faults`] as well.

use crate::contract::*;
use crate::engine::Engine;
use crate::sync::{Arc, Mutex};

type Over = (Vec<u8>, Result<(), Failure>);

/// What became of a request: its memory and its fate, once it is over.
#[derive(Default)]
pub(crate) struct Ending {
    over: Mutex<Vec<Over>>,
    bell: Arc<WaitQueue>,
}

impl Ending {
    /// A `Done` that notes the ending here.
    pub(crate) fn done(self: &Arc<Self>) -> Done {
        let ending = Arc::clone(self);
        Box::new(move |memory, fate| {
            ending.over.lock().push((memory, fate));
            ending.bell.ring();
        })
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        !self.over.lock().is_empty()
    }

    /// Waits for the end, which must come once.
    pub(crate) fn wait(&self, engine: &Engine) -> (Vec<u8>, Result<(), Failure>) {
        engine.wait(&self.bell, None, || self.is_over()).unwrap();
        let mut over = self.over.lock();
        assert_eq!(over.len(), 1, "finished more than once");
        over.remove(0)
    }
}

const WHO: Origin = Origin { pid: 1, class: Class::Caller, id: 0 };

/// A request of any kind; of a write the memory is filled with `byte`.
pub(crate) fn request(op: Op, sector: u64, sectors: u64, byte: u8, done: Done) -> Request {
    let memory = || vec![byte; usize::try_from(sectors).unwrap() * SECTOR_SIZE];
    match op {
        Op::Read => Request::read(Sector(sector), memory(), WHO, done),
        Op::Write => Request::write(Sector(sector), memory(), WHO, done),
        Op::Flush => Request::flush(WHO, done),
        Op::Discard => Request::discard(Sector(sector), sectors, WHO, done),
        Op::Zero => Request::zero(Sector(sector), sectors, WHO, done),
    }
}

/// Submits what must be taken.
pub(crate) fn submit(unit: &dyn BlockDevice, op: Op, at: u64, len: u64, byte: u8) -> Arc<Ending> {
    let ending = Arc::new(Ending::default());
    if let Err(rejected) = unit.submit(request(op, at, len, byte, ending.done())) {
        panic!("{:?} refused: {}", rejected.1, rejected.0);
    }
    ending
}

/// Submits and waits.
pub(crate) fn run(
    unit: &dyn BlockDevice,
    engine: &Engine,
    op: Op,
    at: u64,
    len: u64,
    byte: u8,
) -> Result<Vec<u8>, Failure> {
    let (memory, fate) = submit(unit, op, at, len, byte).wait(engine);
    let carries = matches!(op, Op::Read | Op::Write);
    let bytes = if carries { usize::try_from(len).unwrap() * SECTOR_SIZE } else { 0 };
    assert_eq!(memory.len(), bytes, "the memory of {op:?} {at}+{len} came back changed");
    fate.map(|()| memory)
}

fn refusal(unit: &dyn BlockDevice, op: Op, at: u64, len: u64) -> IoError {
    let ending = Arc::new(Ending::default());
    let rejected = unit.submit(request(op, at, len, 7, ending.done())).expect_err("taken");
    assert!(!ending.is_over(), "refused and finished");
    let Rejected(failure, request) = *rejected;
    assert_eq!((request.sector, request.sectors), (Sector(at), len));
    assert!(request.data.iter().all(|byte| *byte == 7), "the request was touched");
    request.finish(Ok(()));
    failure.error
}

/// Sits the exam.
pub(crate) fn sit(unit: &dyn BlockDevice, engine: &Engine) {
    let geometry = unit.geometry().unwrap();
    let block = u64::from(geometry.sector_bytes) / SECTOR_SIZE as u64;
    assert!(!geometry.read_only && geometry.sectors >= 256 * block);
    bounds(unit, engine, geometry.sectors, block);
    data(unit, engine, geometry.sectors, block);
    order(unit, engine, block);
    assert_eq!(unit.counters().in_flight, 0);
    assert_eq!(unit.status(), Status { state: State::Idle, current: None, queued: 0 });
}

fn bounds(unit: &dyn BlockDevice, engine: &Engine, sectors: u64, block: u64) {
    for op in [Op::Read, Op::Write, Op::Discard, Op::Zero] {
        assert_eq!(refusal(unit, op, sectors, block), IoError::Range);
        assert_eq!(refusal(unit, op, sectors - block, 2 * block), IoError::Range);
        let far = u64::MAX - u64::MAX % block - block;
        assert_eq!(refusal(unit, op, far, 2 * block), IoError::Range);
        assert_eq!(refusal(unit, op, 0, 0), IoError::Invalid);
        if block > 1 {
            assert_eq!(refusal(unit, op, 1, block), IoError::Invalid);
            assert_eq!(refusal(unit, op, 0, block + 1), IoError::Invalid);
        }
    }
    run(unit, engine, Op::Write, sectors - block, block, 9).unwrap();
    assert_eq!(run(unit, engine, Op::Read, sectors - block, block, 0).unwrap()[0], 9);
}

fn data(unit: &dyn BlockDevice, engine: &Engine, sectors: u64, block: u64) {
    for (byte, (at, len)) in (1..).zip([(0, 1), (1, 3), (100, 100), (255, 1)]) {
        run(unit, engine, Op::Write, at * block, len * block, byte).unwrap();
        let read = run(unit, engine, Op::Read, at * block, len * block, 0).unwrap();
        assert!(read.iter().all(|read| *read == byte));
    }
    for op in [Op::Discard, Op::Zero] {
        run(unit, engine, Op::Write, 0, 3 * block, 5).unwrap();
        match run(unit, engine, op, block, block, 0) {
            Ok(_) => {
                let read = run(unit, engine, Op::Read, 0, 3 * block, 1).unwrap();
                let third = read.len() / 3;
                let middle = third..2 * third;
                for (at, byte) in read.iter().enumerate() {
                    assert_eq!(*byte == 0, middle.contains(&at), "{op:?}, byte {at}");
                }
            }
            Err(failure) => assert_eq!(failure.error, IoError::Unsupported),
        }
    }
    // The whole unit at once is longer than any hardware takes.
    run(unit, engine, Op::Write, 0, sectors, 0xa5).unwrap();
    assert!(run(unit, engine, Op::Read, 0, sectors, 0).unwrap().iter().all(|byte| *byte == 0xa5));
}

/// Requests that overlap, submitted all at once, take effect in the order of submission.
fn order(unit: &dyn BlockDevice, engine: &Engine, block: u64) {
    let mut reads = Vec::new();
    let mut others = Vec::new();
    for byte in 1..=40u8 {
        let at = u64::from(byte) * 37 % 8;
        others.push(submit(unit, Op::Write, at * block, 8 * block, byte));
        reads.push((byte, submit(unit, Op::Read, at * block, 8 * block, 0)));
    }
    others.push(submit(unit, Op::Flush, 0, 0, 0));
    for (byte, read) in reads {
        let (memory, fate) = read.wait(engine);
        fate.unwrap();
        assert!(memory.iter().all(|read| *read == byte), "a read overtook write {byte}");
    }
    for other in others {
        other.wait(engine).1.unwrap();
    }
}

/// A sector fails, as `fail` arranges, for itself alone; then `mend` is called and it works.
pub(crate) fn sit_with_faults(
    unit: &dyn BlockDevice,
    engine: &Engine,
    fail: &dyn Fn(Sector),
    mend: &dyn Fn(),
) {
    let block = u64::from(unit.geometry().unwrap().sector_bytes) / SECTOR_SIZE as u64;
    let bad = 20 * block;
    run(unit, engine, Op::Write, 0, 64 * block, 3).unwrap();
    fail(Sector(bad));
    let around: Vec<_> =
        (0..40).map(|n| (n * block, submit(unit, Op::Read, n * block, block, 0))).collect();
    for (at, read) in around {
        let (memory, fate) = read.wait(engine);
        if at == bad {
            assert!(matches!(fate.unwrap_err().error, IoError::Media(_)));
        } else {
            assert_eq!((fate, memory[0]), (Ok(()), 3), "sector {at} fails with its neighbour");
        }
    }
    mend();
    assert_eq!(run(unit, engine, Op::Read, bad, block, 0).unwrap()[0], 3);
    assert_eq!(unit.sense(), None);
}
