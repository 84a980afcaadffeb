//! How flushing grows with the number of dirty buffers, and that memory stays within its bound.

use crate::args::Args;
use crate::clock::{Trouble, go_on, now};
use crate::fio;
use crate::host::{self, Cores};
use crate::report::{Promise, Verdict};
use crate::stand::Stand;
use crate::stats;
use crate::targets::{self, Setup, Target};
use crate::works::{Bound, HostCache, Job, Place, SPINDLE, Shape};
use std::fs::File;
use std::os::unix::fs::FileExt;

const KIB4: u64 = 4 << 10;
const MIB: u64 = 1 << 20;
/// Of the memory work: small, so that the disk does not fit.
const CACHE_BYTES: u64 = 64 * MIB;
const DISK_BYTES: u64 = 256 * MIB;
const CALLERS: u64 = 4;
/// What the daemon may have resident beyond its buffers and what is in flight.
const SPARE_BYTES: u64 = 32 * MIB;
/// Rounds of the flush: each is a whole measurement of its own.
const FLUSHES: usize = 5;

fn promise(work: &'static str, metric: &'static str, beside: &'static str, most: f64) -> Promise {
    Promise {
        work,
        place: None,
        metric,
        ours: SPINDLE,
        beside,
        bound: Bound::AtMost(most),
        ratio: None,
        verdict: Verdict::Unmeasured,
        why: None,
    }
}

/// The time an fsync takes a dirty buffer and power of two, with many beside few. 1 is n log n;
/// the bound leaves room for the processor's caches.
pub fn flush_growth(target: Option<&Target>) -> Result<Promise, Trouble> {
    let promise = promise("flush-growth", "time", "1 Ki dirty buffers", 1.5);
    let Some(target) = target else {
        return Ok(Promise { why: Some(format!("{SPINDLE} not offered")), ..promise });
    };
    let (few, many) = (1 << 10, (target.bytes / KIB4 / 2).min(1 << 16));
    let mut pairs = Vec::new();
    for seed in 0..FLUSHES as u64 {
        pairs.push((flush(target, many, seed)?, flush(target, few, seed)?));
    }
    Ok(promise.judge(stats::ratio(&pairs)))
}

/// Dirties `buffers`, every second block of the file so that none joins another, in random order,
/// and has them written: seconds over n log n.
fn flush(target: &Target, buffers: u64, seed: u64) -> Result<f64, Trouble> {
    let fail = |error| Trouble::new("flush-growth", error);
    let file = File::options().write(true).open(&target.file).map_err(fail)?;
    let mut order = (0..buffers).collect::<Vec<_>>();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    let block = vec![u8::try_from(seed).unwrap_or_default(); 4096];
    for at in order {
        file.write_all_at(&block, at * 2 * KIB4).map_err(fail)?;
    }
    go_on()?;
    let begin = now();
    file.sync_data().map_err(fail)?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(seconds / (buffers as f64 * (buffers as f64).log2()))
}

/// The most our daemon ever has resident while four callers read and write four times what its
/// cache holds, over what it may have.
pub fn memory(setup: &Setup, args: &Args, cores: &Cores) -> Result<Promise, Trouble> {
    let promise = promise("memory", "bytes", "cache + in flight + 32 MiB", 1.0);
    let mut stand = Stand::new(&setup.scratch, "memory")?;
    let machine = targets::machine(CACHE_BYTES, &[("sd0", DISK_BYTES, "")]);
    let pid = match targets::mount(&mut stand, setup, &machine, targets::DISK_NODE) {
        Ok(pid) => pid,
        Err(Trouble::Stopped) => return Err(Trouble::Stopped),
        Err(Trouble::Failed(why)) => {
            return Ok(Promise { why: Some(format!("{SPINDLE} not offered: {why}")), ..promise });
        }
    };
    let file = stand.path("mnt").join(targets::DISK_NODE);
    let milliseconds = args.milliseconds();
    let run = fio::Run { file: &file, span_bytes: DISK_BYTES, milliseconds, place: Place::Free };
    let small = (Shape::RandomWrite, KIB4);
    for (shape, block_bytes) in [(Shape::Write, MIB), (Shape::Read, MIB), small] {
        let job = Job { shape, block_bytes, callers: CALLERS, host_cache: HostCache::Emptied };
        fio::run(&job, &run, cores)?;
    }
    let bound = CACHE_BYTES + CALLERS * MIB + SPARE_BYTES;
    let pairs = host::peak_bytes(pid).map(|peak| vec![(peak as f64, bound as f64)]);
    Ok(promise.judge(stats::ratio(&pairs.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushing_a_plain_file_is_measured_and_every_second_block_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        File::create(&path).unwrap().set_len(64 * KIB4).unwrap();
        let target = Target::new("plain", path.clone(), 64 * KIB4, &[]);
        assert!(flush(&target, 32, 7).unwrap() > 0.0);
        let bytes = std::fs::read(path).unwrap();
        let first_of = |block: usize| bytes[block * 4096];
        assert!((0..64).all(|block| first_of(block) == if block % 2 == 0 { 7 } else { 0 }));
    }
}
