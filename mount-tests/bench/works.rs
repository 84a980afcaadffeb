//! What is measured beside whom, and the gates: the one table of this bench.

use serde::Serialize;

/// Where caller and daemon run. A round trip within one core costs a fifth of one between two,
/// more than all else here, so both are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Caller and daemon on one core.
    Same,
    /// Wherever the kernel puts them.
    Free,
}

impl Place {
    /// As typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Place::Same => "same",
            Place::Free => "free",
        }
    }
}

/// The order and direction of the calls of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Reads at random places.
    RandomRead,
    /// Writes at random places.
    RandomWrite,
    /// Reads one behind the other.
    Read,
    /// Writes one behind the other.
    Write,
}

impl Shape {
    /// fio's word.
    pub fn name(self) -> &'static str {
        match self {
            Shape::RandomRead => "randread",
            Shape::RandomWrite => "randwrite",
            Shape::Read => "read",
            Shape::Write => "write",
        }
    }

    /// Whether it changes the file.
    pub fn writes(self) -> bool {
        matches!(self, Shape::RandomWrite | Shape::Write)
    }
}

/// What the host's page cache may keep between two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostCache {
    /// Nothing: emptied before each run, so that every call reaches the daemon.
    Emptied,
    /// All it has: that is what is measured.
    Kept,
}

/// One fio job, the same for every target.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Order and direction.
    pub shape: Shape,
    /// Bytes a call.
    pub block_bytes: u64,
    /// Callers at a time, each in its own part of the file.
    pub callers: u64,
    /// What the host's page cache may keep.
    pub host_cache: HostCache,
}

const fn job(shape: Shape, block_bytes: u64, callers: u64) -> Job {
    Job { shape, block_bytes, callers, host_cache: HostCache::Emptied }
}

/// What of two targets is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Calls a second.
    Rate,
    /// The daemon's processor time a call.
    Cpu,
}

/// The bound of a ratio.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

impl Bound {
    /// Whether a ratio keeps it.
    pub fn holds(self, ratio: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => ratio >= bound,
            Bound::AtMost(bound) => ratio <= bound,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bound::AtLeast(bound) => write!(f, ">= {bound:.2}"),
            Bound::AtMost(bound) => write!(f, "<= {bound:.2}"),
        }
    }
}

/// A promise: ours over theirs keeps a bound.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// In which place it is promised.
    pub place: Place,
    /// What is compared.
    pub metric: Metric,
    /// The other target.
    pub beside: &'static str,
    /// The bound.
    pub bound: Bound,
}

const fn gate(place: Place, metric: Metric, beside: &'static str, bound: Bound) -> Gate {
    Gate { place, metric, beside, bound }
}

/// A work: one job, done by ours and by others in turn.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// As typed after `--only`.
    pub name: &'static str,
    /// In words.
    pub title: &'static str,
    /// The job.
    pub job: Job,
    /// Whose it is.
    pub ours: &'static str,
    /// Beside whom.
    pub beside: &'static [&'static str],
    /// What is promised.
    pub gates: &'static [Gate],
    /// Left out of a quick run: it needs gibibytes.
    pub is_big: bool,
}

impl Work {
    /// Beside whom it is done: never beside itself.
    pub fn others(&self) -> impl Iterator<Item = &'static str> {
        self.beside.iter().copied().filter(|name| *name != self.ours)
    }

    /// All who do it, ours first.
    pub fn all(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.ours).chain(self.others())
    }
}

/// Our cached disk.
pub const SPINDLE: &str = "spindle";
/// The raw twin of our disk in memory.
pub const RAW: &str = "spindle-raw-ram";
/// Our disk with `host_cache = true`.
pub const HOST_CACHED: &str = "spindle-host-cache";
/// The raw twin of our disk with `passthrough = true`.
pub const PASSTHROUGH: &str = "spindle-passthrough";
/// Our disk, all of it in a cache of 1 Ki buffers.
pub const FEW: &str = "spindle-1ki";
/// Our disk, all of it in a cache of 1 Mi buffers.
pub const MANY: &str = "spindle-1mi";
/// A file in memory behind fuser.
pub const FLOOR: &str = "floor";
/// A file in the host's memory, without FUSE.
pub const TMPFS: &str = "tmpfs";
/// qemu-storage-daemon's FUSE export of a raw file.
pub const QEMU: &str = "qemu-storage-daemon";
/// nbdkit's memory disk through nbdfuse.
pub const NBD: &str = "nbdkit+nbdfuse";
/// A file in an ext4 image behind fuse2fs.
pub const FUSE2FS: &str = "fuse2fs";

/// Measured only with `--peers`.
pub const PEERS: [&str; 3] = [QEMU, NBD, FUSE2FS];

const FLOOR_AND_PEERS: &[&str] = &[FLOOR, QEMU, NBD, FUSE2FS];
const KIB4: u64 = 4 << 10;
const MIB: u64 = 1 << 20;

use Bound::{AtLeast, AtMost};
use Metric::{Cpu, Rate};
use Place::{Free, Same};

/// Bounds on the rate beside the floor, qemu-storage-daemon and nbdkit.
macro_rules! rates {
    ($place:expr, $floor:literal, $qemu:literal, $nbd:literal $(, $more:expr)*) => {
        &[
            gate($place, Rate, FLOOR, AtLeast($floor)),
            gate($place, Rate, QEMU, AtLeast($qemu)),
            gate($place, Rate, NBD, AtLeast($nbd)),
            $($more),*
        ]
    };
}

const fn disk(name: &'static str, title: &'static str, job: Job, gates: &'static [Gate]) -> Work {
    Work { name, title, job, ours: SPINDLE, beside: FLOOR_AND_PEERS, gates, is_big: false }
}

/// All works, in the order of a round.
pub const WORKS: &[Work] = &[
    disk(
        "randread-4k",
        "4 KiB random reads, all hits, 1 caller",
        job(Shape::RandomRead, KIB4, 1),
        rates!(
            Same,
            0.90,
            2.3,
            5.0,
            gate(Same, Cpu, FLOOR, AtMost(1.25)),
            gate(Same, Cpu, QEMU, AtMost(0.30))
        ),
    ),
    disk(
        "randwrite-4k",
        "4 KiB random writes, 1 caller",
        job(Shape::RandomWrite, KIB4, 1),
        rates!(Same, 0.90, 2.3, 5.0),
    ),
    disk(
        "randread-4k-j4",
        "4 KiB random reads, all hits, 4 callers",
        job(Shape::RandomRead, KIB4, 4),
        rates!(Free, 0.90, 2.5, 5.0),
    ),
    disk(
        "randwrite-4k-j4",
        "4 KiB random writes, 4 callers",
        job(Shape::RandomWrite, KIB4, 4),
        rates!(Free, 0.90, 2.5, 5.0),
    ),
    disk(
        "read-1m",
        "1 MiB sequential reads, all hits",
        job(Shape::Read, MIB, 1),
        rates!(Free, 0.80, 1.8, 2.0),
    ),
    disk(
        "write-1m",
        "1 MiB sequential writes",
        job(Shape::Write, MIB, 1),
        rates!(Free, 0.80, 1.8, 2.0),
    ),
    Work {
        name: "raw-read-1m",
        title: "1 MiB sequential reads of the raw node of a disk in memory",
        job: job(Shape::Read, MIB, 1),
        ours: RAW,
        beside: &[FLOOR],
        gates: &[gate(Free, Rate, FLOOR, AtLeast(0.80))],
        is_big: false,
    },
    Work {
        name: "raw-write-1m",
        title: "1 MiB sequential writes to the raw node of a disk in memory",
        job: job(Shape::Write, MIB, 1),
        ours: RAW,
        beside: &[FLOOR],
        gates: &[gate(Free, Rate, FLOOR, AtLeast(0.80))],
        is_big: false,
    },
    Work {
        name: "host-cache",
        title: "repeated 4 KiB reads with host_cache beside direct ones",
        job: Job { host_cache: HostCache::Kept, ..job(Shape::RandomRead, KIB4, 1) },
        ours: HOST_CACHED,
        beside: &[SPINDLE],
        gates: &[gate(Same, Rate, SPINDLE, AtLeast(4.0)), gate(Free, Rate, SPINDLE, AtLeast(15.0))],
        is_big: false,
    },
    Work {
        name: "passthrough-4k",
        title: "4 KiB random raw reads with passthrough beside tmpfs",
        job: Job { host_cache: HostCache::Kept, ..job(Shape::RandomRead, KIB4, 1) },
        ours: PASSTHROUGH,
        beside: &[TMPFS],
        gates: &[gate(Same, Rate, TMPFS, AtLeast(0.75)), gate(Free, Rate, TMPFS, AtLeast(0.75))],
        is_big: false,
    },
    Work {
        name: "passthrough-1m",
        title: "1 MiB sequential raw reads with passthrough beside tmpfs",
        job: Job { host_cache: HostCache::Kept, ..job(Shape::Read, MIB, 1) },
        ours: PASSTHROUGH,
        beside: &[TMPFS],
        gates: &[gate(Same, Rate, TMPFS, AtLeast(0.75)), gate(Free, Rate, TMPFS, AtLeast(0.75))],
        is_big: false,
    },
    Work {
        name: "hit-scale",
        title: "4 KiB random hits among 1 Mi buffers beside 1 Ki",
        job: job(Shape::RandomRead, KIB4, 1),
        ours: MANY,
        beside: &[FEW],
        gates: &[gate(Same, Rate, FEW, AtLeast(0.83))], // within 20 %: 1 / 1.2
        is_big: true,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_each_gate_stands_beside_somebody_of_its_work() {
        let mut names = WORKS.iter().map(|work| work.name).collect::<Vec<_>>();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), WORKS.len());
        for work in WORKS {
            assert!(work.gates.iter().all(|gate| work.beside.contains(&gate.beside)));
        }
    }

    #[test]
    fn a_bound_holds_at_the_bound() {
        assert!(AtLeast(0.9).holds(0.9) && !AtLeast(0.9).holds(0.89));
        assert!(AtMost(1.25).holds(1.25) && !AtMost(1.25).holds(1.26));
    }
}
