//! Tests of the whole disk, over simulated hardware.

mod failures;
mod model;
mod order;
mod travel;

use super::simulated::{Plate, disk};
use super::*;
use crate::contract::*;
use crate::engine::Engine;
use crate::sync::{Arc, Mutex};

/// Notes in which order requests finished, and how.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Over>>>);

type Over = (u32, Result<(), Failure>);

impl Log {
    /// A `Done` that notes `name`.
    fn done(&self, name: u32) -> Done {
        let log = self.clone();
        Box::new(move |_, fate| log.0.lock().push((name, fate)))
    }

    fn names(&self) -> Vec<u32> {
        self.0.lock().iter().map(|(name, _)| *name).collect()
    }

    fn errors(&self) -> Vec<(u32, IoError)> {
        let failed = |(name, fate): &Over| Some((*name, fate.err()?.error));
        self.0.lock().iter().filter_map(failed).collect()
    }
}

fn origin(pid: u32, class: Class) -> Origin {
    Origin { pid, class, id: 0 }
}

/// Reads `sectors` at `at`; pid and name in the log are `name`.
fn read(disk: &DiskQueue, log: &Log, name: u32, at: u64, sectors: usize) {
    let who = origin(name, Class::Caller);
    let memory = vec![0; sectors * SECTOR_SIZE];
    disk.submit(Request::read(Sector(at), memory, who, log.done(name))).ok().unwrap();
}

fn write(disk: &DiskQueue, log: &Log, name: u32, at: u64, sectors: usize) {
    let who = origin(name, Class::Caller);
    let memory = vec![u8::try_from(name).unwrap(); sectors * SECTOR_SIZE];
    disk.submit(Request::write(Sector(at), memory, who, log.done(name))).ok().unwrap();
}

/// Lets everything happen that will.
fn settle(engine: &Engine) {
    while engine.skip_to_next() {}
}

fn with_scheduler(name: &str) -> QueueOptions {
    QueueOptions { scheduler: name.into(), ..QueueOptions::default() }
}

fn sectors_served(plate: &Mutex<Plate>) -> Vec<u64> {
    plate.lock().commands.iter().map(|command| command.sector).collect()
}

#[test]
fn a_simulated_disk_passes_the_exam_with_every_scheduler() {
    for name in SCHEDULERS {
        for (sector_bytes, transfer_max) in [(512, 64), (512, 1), (4096, 64), (4096, 13)] {
            let (engine, disk, _plate) = disk(4096, with_scheduler(name), |plate| {
                plate.geometry.sector_bytes = sector_bytes;
                plate.geometry.transfer_max = transfer_max;
            });
            exam::sit(&*disk, &engine);
        }
    }
}
