//! A block unit for tests: memory, seeded delays, faults by script, a pause, a log.
//!
//! Requests end in the order of their delays, so neighbours overtake each other. What was written
//! is durable only after a flush that was submitted after it ended, or with force unit access.

use crate::sync::{Arc, Mutex};
use devices::engine::{Engine, Time};
use devices::{
    BlockDevice, Clock, Failure, Geometry, IoError, Op, Origin, Rejected, Request, SECTOR_SIZE,
    Sector, SimTime, State, Status,
};
use std::collections::BTreeSet;

/// Small random numbers, the same every run (xorshift64*).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    pub fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap()
    }

    pub fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

/// One request that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub op: Op,
    pub sector: u64,
    pub sectors: u64,
    pub fua: bool,
    pub origin: Origin,
    pub at: SimTime,
    pub is_ok: bool,
}

/// How it behaves.
pub struct Script {
    /// Longest delay, in nanoseconds; 0: all is over at the next crank.
    pub delay_max: u64,
    /// Counts down with each request; the one that brings it to 0 fails.
    pub fail_in: Option<u64>,
    /// One request in so many fails.
    pub fail_one_in: u64,
    /// One request in so many is refused when submitted.
    pub reject_one_in: u64,
    /// One request in so many is dropped with its memory, as by a driver that panics.
    pub lose_one_in: u64,
    pub error: IoError,
    pub bad_to_read: BTreeSet<u64>,
    pub bad_to_write: BTreeSet<u64>,
    /// All is refused.
    pub is_broken: bool,
    pub is_paused: bool,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            delay_max: 0,
            fail_in: None,
            fail_one_in: 0,
            reject_one_in: 0,
            lose_one_in: 0,
            error: IoError::Transient,
            bad_to_read: BTreeSet::new(),
            bad_to_write: BTreeSet::new(),
            is_broken: false,
            is_paused: false,
        }
    }
}

struct Inside {
    script: Script,
    medium: Vec<u8>,
    durable: Vec<u8>,
    log: Vec<Done>,
    held: Vec<(Request, Option<Vec<u8>>)>,
    rng: Rng,
    submitted: u64,
}

/// See the head of this file.
pub struct Fake {
    engine: Arc<Engine>,
    geometry: Geometry,
    inside: Mutex<Inside>,
    this: std::sync::Weak<Fake>,
}

impl Fake {
    pub fn new(engine: &Arc<Engine>, sectors: u64, sector_bytes: u32, seed: u64) -> Arc<Fake> {
        let geometry = Geometry {
            sectors,
            sector_bytes,
            transfer_max: 256,
            ordered: false,
            read_only: false,
        };
        let bytes = usize::try_from(geometry.bytes()).unwrap();
        // Every sector of a new medium tells where it is.
        let medium: Vec<u8> = (0..bytes).map(initial).collect();
        Arc::new_cyclic(|this| Fake {
            engine: Arc::clone(engine),
            geometry,
            inside: Mutex::new(Inside {
                script: Script::default(),
                durable: medium.clone(),
                medium,
                log: Vec::new(),
                held: Vec::new(),
                rng: Rng::new(seed),
                submitted: 0,
            }),
            this: this.clone(),
        })
    }

    pub fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.inside.lock().script);
    }

    pub fn medium(&self) -> Vec<u8> {
        self.inside.lock().medium.clone()
    }

    pub fn durable(&self) -> Vec<u8> {
        self.inside.lock().durable.clone()
    }

    pub fn byte(&self, at: usize) -> u8 {
        self.inside.lock().medium[at]
    }

    /// Changes the medium behind everybody's back.
    pub fn poke(&self, at: usize, data: &[u8]) {
        let mut inside = self.inside.lock();
        inside.medium[at..at + data.len()].copy_from_slice(data);
        inside.durable[at..at + data.len()].copy_from_slice(data);
    }

    pub fn log(&self) -> Vec<Done> {
        self.inside.lock().log.clone()
    }

    pub fn count(&self, op: Op) -> usize {
        self.inside.lock().log.iter().filter(|done| done.op == op).count()
    }

    pub fn clear_log(&self) {
        self.inside.lock().log.clear();
    }

    pub fn submitted(&self) -> u64 {
        self.inside.lock().submitted
    }

    pub fn pause(&self) {
        self.script(|script| script.is_paused = true);
    }

    pub fn resume(&self) {
        let held = {
            let mut inside = self.inside.lock();
            inside.script.is_paused = false;
            std::mem::take(&mut inside.held)
        };
        for (request, snapshot) in held {
            self.schedule(request, snapshot, 0);
        }
    }

    fn schedule(&self, request: Request, snapshot: Option<Vec<u8>>, delay: u64) {
        let this = self.this.clone();
        self.engine.after(delay, move || {
            if let Some(fake) = this.upgrade() {
                fake.serve(request, snapshot);
            }
        });
    }

    fn serve(&self, mut request: Request, snapshot: Option<Vec<u8>>) {
        let mut inside = self.inside.lock();
        if inside.script.is_paused {
            inside.held.push((request, snapshot));
            return;
        }
        let fate = inside.fate(&request);
        if fate.is_ok() {
            inside.perform(&mut request, snapshot);
        }
        inside.log.push(Done {
            op: request.op,
            sector: request.sector.0,
            sectors: request.sectors,
            fua: request.fua,
            origin: request.origin,
            at: self.engine.now(),
            is_ok: fate.is_ok(),
        });
        let lose = inside.script.lose_one_in;
        if lose > 0 && inside.rng.below(lose) == 0 {
            request.data = Vec::new();
            drop(inside);
            request.finish(Err(IoError::Timeout.into()));
            return;
        }
        drop(inside);
        request.finish(fate);
    }
}

/// What stands at a byte of a new medium.
pub fn initial(at: usize) -> u8 {
    u8::try_from((at / SECTOR_SIZE * 7 + at % 13) % 251).unwrap()
}

impl Inside {
    fn fate(&mut self, request: &Request) -> Result<(), Failure> {
        if let Some(left) = &mut self.script.fail_in {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.script.fail_in = None;
                return Err(self.script.error.into());
            }
        }
        let odds = self.script.fail_one_in;
        if odds > 0 && self.rng.below(odds) == 0 {
            return Err(self.script.error.into());
        }
        let bad = match request.op {
            Op::Read => &self.script.bad_to_read,
            _ => &self.script.bad_to_write,
        };
        match bad.range(request.sector.0..request.end().0).next() {
            Some(sector) => Err(IoError::Media(Sector(*sector)).into()),
            None => Ok(()),
        }
    }

    fn perform(&mut self, request: &mut Request, snapshot: Option<Vec<u8>>) {
        let from = usize::try_from(request.sector.byte()).unwrap();
        let to = usize::try_from(request.end().byte()).unwrap();
        match request.op {
            Op::Read => request.data.copy_from_slice(&self.medium[from..to]),
            Op::Write => {
                self.medium[from..to].copy_from_slice(&request.data);
                if request.fua {
                    self.durable[from..to].copy_from_slice(&request.data);
                }
            }
            Op::Flush => self.durable = snapshot.unwrap(),
            Op::Discard | Op::Zero => self.medium[from..to].fill(0),
        }
    }
}

impl BlockDevice for Fake {
    fn geometry(&self) -> Result<Geometry, IoError> {
        Ok(self.geometry)
    }

    fn submit(&self, request: Request) -> Result<(), Box<Rejected>> {
        let mut inside = self.inside.lock();
        inside.submitted += 1;
        let odds = inside.script.reject_one_in;
        if inside.script.is_broken || (odds > 0 && inside.rng.below(odds) == 0) {
            return Err(Box::new(Rejected(IoError::Hardware.into(), request)));
        }
        assert!(request.end().0 <= self.geometry.sectors, "{request:?} past the end");
        if matches!(request.op, Op::Read | Op::Write) {
            let unit = u64::from(self.geometry.sector_bytes) / SECTOR_SIZE as u64;
            assert!(request.sectors > 0 && request.sectors % unit == 0, "{request:?}");
            assert!(request.sector.0 % unit == 0, "{request:?}");
            assert_eq!(request.data.len() as u64, request.sectors * SECTOR_SIZE as u64);
        }
        // The least that a flush must make durable is what had ended when it was submitted.
        let snapshot = (request.op == Op::Flush).then(|| inside.medium.clone());
        let delay = match inside.script.delay_max {
            0 => 0,
            most => inside.rng.below(most) + 1,
        };
        drop(inside);
        self.schedule(request, snapshot, delay);
        Ok(())
    }

    fn status(&self) -> Status {
        Status { state: State::Idle, current: None, queued: 0 }
    }
}

/// An engine whose time passes only from event to event.
pub fn simulated() -> Arc<Engine> {
    Engine::new(Time::Simulated)
}
