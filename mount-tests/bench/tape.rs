//! A tape without a timing model beside the floor: records of 256 KiB read, written over others,
//! and written behind the last.
//!
//! A turn is one pass over the tape and one over the floor's file, by the same calls of this very
//! program; winding, opening and closing are not in the time.

use crate::args::Args;
use crate::clock::{Trouble, go_on, now};
use crate::host::Cores;
use crate::report::{Promise, Verdict};
use crate::stand::Stand;
use crate::stats;
use crate::targets::{self, Setup, Target};
use crate::works::{Bound, FLOOR, Place};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// The name in the report.
const TAPE: &str = "tape";
/// Works, what they measure, and the least rate beside the floor.
pub const TAPE_WORKS: [(&str, &str, f64); 3] = [
    ("tape-read", "256 KiB records read from a tape", 0.8),
    ("tape-overwrite", "256 KiB records written over others", 0.8),
    ("tape-extend", "256 KiB records written on a blank tape", 0.5),
];
const RECORD_BYTES: usize = 256 << 10;
/// Of one pass.
const RECORDS: usize = 512;
const PASS_BYTES: u64 = (RECORDS * RECORD_BYTES) as u64;
const NODE: &str = "dev/st0";

/// Measures those that are wanted.
pub fn works(
    setup: &Setup,
    args: &Args,
    cores: &Cores,
    floor: Option<&Target>,
) -> Result<Vec<Promise>, Trouble> {
    let wanted = TAPE_WORKS.iter().filter(|(name, ..)| args.wants(name, false));
    let mut promises = wanted
        .flat_map(|(name, _, least)| args.places().into_iter().map(|p| promise(name, p, *least)))
        .collect::<Vec<_>>();
    let Some(floor) = floor.filter(|floor| floor.bytes >= PASS_BYTES) else {
        let why = format!("{FLOOR} not offered with {PASS_BYTES} bytes");
        return Ok(promises.into_iter().map(|p| Promise { why: Some(why.clone()), ..p }).collect());
    };
    if promises.is_empty() {
        return Ok(promises);
    }
    let mut stand = Stand::new(&setup.scratch, TAPE)?;
    let machine = format!("[[tape]]\nname = \"st0\"\nsize = \"{}M\"\n", PASS_BYTES >> 19);
    let pid = targets::mount(&mut stand, setup, &machine, NODE)?;
    let mut bench = Bench { stand, blanks: 0 };
    bench.pass("tape-extend")?; // something to read, and to write over
    let pids = [&floor.pids[..], &[pid]].concat();
    for promise in &mut promises {
        let place = promise.place.unwrap_or(Place::Free);
        cores.pin(&pids, place);
        let mut pairs = Vec::new();
        for _ in 0..args.rounds() {
            go_on()?;
            let ours = bench.timed(promise.work, (cores, place))?;
            let theirs = cores.start_in(place, || floor_pass(&floor.file, promise.work));
            let theirs = theirs.map_err(|error| Trouble::new("processors", error))??;
            pairs.push((1.0 / ours, 1.0 / theirs));
        }
        *promise = promise.clone().judge(stats::ratio(&pairs));
    }
    Ok(promises)
}

fn promise(work: &'static str, place: Place, least: f64) -> Promise {
    Promise {
        work,
        place: Some(place),
        metric: "rate",
        ours: TAPE,
        beside: FLOOR,
        bound: Bound::AtLeast(least),
        ratio: None,
        verdict: Verdict::Unmeasured,
        why: None,
    }
}

struct Bench {
    stand: Stand,
    blanks: u32,
}

impl Bench {
    fn timed(&mut self, work: &str, (cores, place): (&Cores, Place)) -> Result<f64, Trouble> {
        let timed = cores.start_in(place, || self.pass(work));
        timed.map_err(|error| Trouble::new("processors", error))?
    }

    /// One pass; seconds.
    fn pass(&mut self, work: &str) -> Result<f64, Trouble> {
        let tree = self.stand.path("mnt");
        if work == "tape-extend" {
            let blank = self.stand.path(&format!("blank{}.tap", self.blanks));
            self.blanks += 1;
            let ctl = |line: &str| fs::write(tree.join("ctl"), line);
            let name = blank.display();
            ctl("eject st0")
                .and_then(|()| ctl(&format!("load st0 {name}")))
                .map_err(|error| Trouble::new("an exchange of tapes", error))?;
            if self.blanks > 1 {
                let old = self.stand.path(&format!("blank{}.tap", self.blanks - 2));
                let _ = fs::remove_file(old); // the room is wanted, nothing else
            }
        }
        pass(&tree.join(NODE), work).map_err(|error| Trouble::new(work, error))
    }
}

fn floor_pass(file: &Path, work: &str) -> Result<f64, Trouble> {
    pass(file, work).map_err(|error| Trouble::new(FLOOR, error))
}

/// Reads or writes all records; seconds.
fn pass(node: &Path, work: &str) -> std::io::Result<f64> {
    let mut record = vec![0x5a; RECORD_BYTES];
    let is_reading = work == "tape-read";
    let mut file = File::options().read(is_reading).write(!is_reading).open(node)?;
    let _ = file.rewind(); // a tape is rewound by its last close, and cannot seek
    let begin = now();
    for _ in 0..RECORDS {
        if is_reading {
            file.read_exact(&mut record)?;
        } else {
            file.write_all(&record)?;
        }
    }
    Ok(begin.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_moves_every_record() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plain");
        File::create(&file).unwrap();
        assert!(pass(&file, "tape-read").is_err());
        assert!(pass(&file, "tape-extend").unwrap() > 0.0);
        assert_eq!(fs::metadata(&file).unwrap().len(), PASS_BYTES);
        assert!(pass(&file, "tape-read").unwrap() > 0.0);
    }
}
