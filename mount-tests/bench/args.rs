//! The command line of the bench, and what follows from it.

use crate::line::LINE_WORK;
use crate::tape::TAPE_WORKS;
use crate::works::{Place, WORKS};
use std::path::PathBuf;

/// Where caller and daemon run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Places {
    /// Both on one core
    Same,
    /// Wherever the kernel puts them
    Free,
    /// Each work in both places
    Both,
}

/// Measures our disk beside the FUSE floor and the peers.
#[derive(Debug, clap::Parser)]
#[command(name = "bench")]
pub struct Args {
    /// Rounds, in each of which every target does every work, those of four callers, free to move,
    /// three times [default: 15; quick: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,

    /// Caller and daemon on one core, wherever the kernel puts them, or both in turn
    #[arg(long, value_enum, default_value = "both")]
    place: Places,

    /// Also measure qemu-storage-daemon, nbdkit with nbdfuse, and fuse2fs
    #[arg(long)]
    pub peers: bool,

    /// Write every single run, and what follows from them, to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Draw a chart (SVG)
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,

    /// Few short rounds on a small disk: shows that it works, not how fast it is
    #[arg(long)]
    pub quick: bool,

    /// Only these works (see --list)
    #[arg(long, value_name = "WORK", value_delimiter = ',', value_parser = work_name)]
    pub only: Vec<String>,

    /// Exit with status 1 when a promise is not kept
    #[arg(long)]
    pub gate: bool,

    /// List the works and promises, measure nothing
    #[arg(long)]
    pub list: bool,

    /// Length of a run [default: 600; quick: 200]
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(50..))]
    runtime: Option<u64>,

    /// Length of the disk; the cache has twice as much [default: 512; quick: 64]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..))]
    size: Option<u64>,

    /// Put another target in our disk's place: floor, tmpfs, qemu-storage-daemon ...
    #[arg(long, value_name = "TARGET")]
    pub subject: Option<String>,

    /// The daemon to measure [default: the one built beside this program]
    #[arg(long, value_name = "FILE")]
    pub spindle: Option<PathBuf>,

    /// One more argument for `spindle mount`; may be repeated
    #[arg(long = "mount-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub mount_args: Vec<String>,

    /// Threads of the floor that read requests
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub floor_threads: usize,

    /// Where images stand while it runs; tmpfs, or the medium is measured too
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    pub scratch: PathBuf,
}

/// Works that are no fio job, and what they measure (`scale.rs`).
pub const SCALE_WORKS: [(&str, &str); 2] = [
    ("flush-growth", "fsync of n dirty buffers, time over n log n, many beside few"),
    ("memory", "peak resident bytes over cache size + bytes in flight + 32 MiB"),
];

fn work_name(typed: &str) -> Result<String, String> {
    let fio = WORKS.iter().map(|work| work.name);
    let others = SCALE_WORKS
        .map(|(name, _)| name)
        .into_iter()
        .chain(TAPE_WORKS.map(|work| work.0))
        .chain([LINE_WORK.0]);
    let names = fio.chain(others).collect::<Vec<_>>();
    match names.contains(&typed) {
        true => Ok(typed.to_owned()),
        false => Err(format!("no such work; there are {}", names.join(", "))),
    }
}

impl Args {
    /// How many rounds.
    pub fn rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { 3 } else { 15 }, usize::from)
    }

    /// How long a run is.
    pub fn milliseconds(&self) -> u64 {
        self.runtime.unwrap_or(if self.quick { 200 } else { 600 })
    }

    /// How long each file is.
    pub fn bytes(&self) -> u64 {
        self.size.unwrap_or(if self.quick { 64 } else { 512 }) << 20
    }

    /// In which places.
    pub fn places(&self) -> Vec<Place> {
        match self.place {
            Places::Same => vec![Place::Same],
            Places::Free => vec![Place::Free],
            Places::Both => vec![Place::Same, Place::Free],
        }
    }

    /// Whether a work was asked for; big ones are left out of a quick run unless named.
    pub fn wants(&self, name: &str, is_big: bool) -> bool {
        match self.only.is_empty() {
            true => !(is_big && self.quick),
            false => self.only.iter().any(|only| only == name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn args(words: &str) -> Args {
        Args::try_parse_from(format!("bench {words}").split_whitespace()).unwrap()
    }

    #[test]
    fn quick_is_short_and_what_is_typed_wins() {
        let (full, quick) = (args(""), args("--quick --rounds 5"));
        assert_eq!((full.rounds(), full.bytes()), (15, 512 << 20));
        assert_eq!((quick.rounds(), quick.bytes()), (5, 64 << 20));
        assert!(quick.milliseconds() < full.milliseconds());
        assert!(full.wants("hit-scale", true) && !quick.wants("hit-scale", true));
        assert!(args("--quick --only hit-scale").wants("hit-scale", true));
    }

    #[test]
    fn a_wrong_work_is_refused_with_the_right_ones() {
        let refusal = Args::try_parse_from(["bench", "--only", "read-1m,writ"]).unwrap_err();
        assert!(refusal.to_string().contains("write-1m"));
    }
}
