//! The round trip of a byte over a serial line without pacing, beside a hit of 4 KiB.
//!
//! Written to one port and read from the other, by one thread: two calls, and all of the line
//! between them. Beside it one call that finds its block in the buffer cache of the same daemon.

use crate::args::Args;
use crate::clock::{Trouble, go_on, now};
use crate::host::Cores;
use crate::report::{Promise, Verdict};
use crate::stand::Stand;
use crate::stats;
use crate::targets::{self, Setup};
use crate::works::{Bound, Place};
use std::fs::File;
use std::io::{Error, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// The work, and what it measures.
pub const LINE_WORK: (&str, &str) = ("line-trip", "a byte from ttyS0 to ttyS1, without pacing");
/// So many hits may one take.
pub const TRIP_MOST: f64 = 4.0;
/// Beside what.
pub const HIT: &str = "a 4 KiB hit";
const TRIPS: u32 = 5000;
const DISK_NODE: &str = "dev/ram0";
const LINE_NODES: [&str; 2] = ["dev/ttyS0", "dev/ttyS1"];

/// Measures it, if wanted.
pub fn works(setup: &Setup, args: &Args, cores: &Cores) -> Result<Vec<Promise>, Trouble> {
    if !args.wants(LINE_WORK.0, false) {
        return Ok(Vec::new());
    }
    let mut promises: Vec<_> = args.places().into_iter().map(promise).collect();
    let mut stand = Stand::new(&setup.scratch, "line")?;
    let port = |name: &str, peer: &str| {
        format!("\n[[serial]]\nname = \"{name}\"\npeer = \"{peer}\"\npacing = false\n")
    };
    let machine = targets::machine(64 << 20, &[("ram0", 16 << 20, "")])
        + &port("ttyS0", "ttyS1")
        + &port("ttyS1", "ttyS0");
    let pid = targets::mount(&mut stand, setup, &machine, DISK_NODE)?;
    let ends = Ends::open(&stand.path("mnt")).map_err(|error| Trouble::new("a line", error))?;
    for promise in &mut promises {
        let place = promise.place.unwrap_or(Place::Free);
        cores.pin(&[pid], place);
        let mut pairs = Vec::new();
        for _ in 0..args.rounds() {
            go_on()?;
            let pair = cores.start_in(place, || Ok((ends.trips()?, ends.hits()?)));
            let pair = pair.map_err(|error| Trouble::new("processors", error))?;
            pairs.push(pair.map_err(|error: Error| Trouble::new(LINE_WORK.0, error))?);
        }
        *promise = promise.clone().judge(stats::ratio(&pairs));
    }
    Ok(promises)
}

fn promise(place: Place) -> Promise {
    Promise {
        work: LINE_WORK.0,
        place: Some(place),
        metric: "time",
        ours: "ttyS0",
        beside: HIT,
        bound: Bound::AtMost(TRIP_MOST),
        ratio: None,
        verdict: Verdict::Unmeasured,
        why: None,
    }
}

/// Both ends of the line, and a disk.
struct Ends {
    from: File,
    to: File,
    disk: File,
}

impl Ends {
    fn open(mnt: &Path) -> Result<Ends, Error> {
        for node in LINE_NODES {
            let mut stty = Command::new("stty");
            let status = stty.arg("-F").arg(mnt.join(node)).args(["raw", "-echo"]).status()?;
            if !status.success() {
                return Err(Error::other(format!("stty: {status}")));
            }
        }
        let [from, to] = LINE_NODES.map(|node| mnt.join(node));
        let (from, to) = (File::options().write(true).open(from)?, File::open(to)?);
        Ok(Ends { from, to, disk: File::open(mnt.join(DISK_NODE))? })
    }

    /// Seconds for all round trips.
    fn trips(&self) -> Result<f64, Error> {
        let mut byte = [0];
        let begin = now();
        for _ in 0..TRIPS {
            (&self.from).write_all(b"x")?;
            (&self.to).read_exact(&mut byte)?;
        }
        Ok(begin.elapsed().as_secs_f64())
    }

    /// Seconds for as many hits.
    fn hits(&self) -> Result<f64, Error> {
        let mut block = [0; 4096];
        let begin = now();
        for _ in 0..TRIPS {
            self.disk.read_exact_at(&mut block, 0)?;
        }
        Ok(begin.elapsed().as_secs_f64())
    }
}
