//! What the host knows of processes, processors, memory and mounts, from `/proc`; pinning.

use crate::works::Place;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The processors we may use, and the one of "same core".
pub struct Cores {
    all: CpuSet,
    one: CpuSet,
}

impl Cores {
    /// Those of this process; the first of them is the one.
    pub fn here() -> nix::Result<Cores> {
        let all = sched_getaffinity(Pid::from_raw(0))?;
        let mut one = CpuSet::new();
        let first = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap_or(false));
        one.set(first.unwrap_or(0))?;
        Ok(Cores { all, one })
    }

    /// How many.
    pub fn count(&self) -> usize {
        (0..CpuSet::count()).filter(|cpu| self.all.is_set(*cpu).unwrap_or(false)).count()
    }

    fn of(&self, place: Place) -> &CpuSet {
        match place {
            Place::Same => &self.one,
            Place::Free => &self.all,
        }
    }

    /// Puts all threads of `pids` in their place, also those that are born meanwhile.
    pub fn pin(&self, pids: &[u32], place: Place) {
        for pid in pids {
            let mut seen = HashSet::new();
            loop {
                let tasks = numbers_in(format!("/proc/{pid}/task"));
                let new = tasks.into_iter().filter(|task| seen.insert(*task)).collect::<Vec<_>>();
                if new.is_empty() {
                    break;
                }
                for task in new {
                    // A thread that ended meanwhile needs no place.
                    let _ = sched_setaffinity(Pid::from_raw(task), self.of(place));
                }
            }
        }
    }

    /// Runs `start` in its place: what it starts inherits that.
    pub fn start_in<T>(&self, place: Place, start: impl FnOnce() -> T) -> nix::Result<T> {
        sched_setaffinity(Pid::from_raw(0), self.of(place))?;
        let started = start();
        sched_setaffinity(Pid::from_raw(0), &self.all)?;
        Ok(started)
    }
}

fn numbers_in(dir: impl AsRef<Path>) -> Vec<i32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn ticks_per_second() -> f64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64
}

/// Seconds of processor time that `pids` have used, all their threads, also ended ones.
pub fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks = pids.iter().filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat_ticks(&stat)
    });
    ticks.sum::<f64>() / ticks_per_second()
}

/// utime + stime: fields 14 and 15, counted behind the name, which may hold anything.
fn stat_ticks(stat: &str) -> Option<f64> {
    let fields = stat.rsplit_once(')')?.1.split_whitespace().collect::<Vec<_>>();
    Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
}

/// Seconds of processor time of our ended children, fio among them.
pub fn children_seconds() -> f64 {
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN);
    usage.map_or(0.0, |usage| seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Seconds that all processors were busy since boot, whoever it was.
pub fn busy_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let fields = line.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0.0));
    // user nice system (idle iowait) irq softirq steal
    let busy = fields.take(8).enumerate().filter(|(at, _)| *at != 3 && *at != 4);
    busy.map(|(_, ticks)| ticks).sum::<f64>() / ticks_per_second()
}

/// The line `key: N kB` of a file of `/proc`, in bytes.
fn kib_line(file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// The most memory a process ever had resident, in bytes.
pub fn peak_bytes(pid: u32) -> Option<u64> {
    kib_line(&format!("/proc/{pid}/status"), "VmHWM")
}

/// What can still be had without swapping, in bytes.
pub fn available_bytes() -> u64 {
    kib_line("/proc/meminfo", "MemAvailable").unwrap_or(u64::MAX)
}

/// Kernel and processor in a line.
pub fn describe() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |line| line.trim_start_matches([' ', '\t', ':']));
    format!("Linux {}, {model}", kernel.trim())
}

/// Mount points at or under `path`, the deepest first.
pub fn mounts_under(path: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| Some(PathBuf::from(line.split(' ').nth(4)?)));
    let mut under = points.filter(|point| point.starts_with(path)).collect::<Vec<_>>();
    under.reverse();
    under
}

/// Whether something is mounted exactly there.
pub fn is_mounted(path: &Path) -> bool {
    mounts_under(path).iter().any(|point| point == path)
}

/// Takes away what is mounted there: by the system call (root), else by fusermount3.
pub fn unmount(path: &Path) {
    use nix::mount::{MntFlags, umount2};
    let _ = umount2(path, MntFlags::empty());
    for flags in ["-u", "-uz"] {
        if !is_mounted(path) {
            return;
        }
        let _ = Command::new("fusermount3").args([flags, "-q"]).arg(path).status();
    }
    if is_mounted(path) {
        let _ = umount2(path, MntFlags::MNT_DETACH);
    }
}

/// Whether `program` stands in one of the directories of PATH (or in those of root).
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_spaces_and_brackets() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 25 75 0 0 20 0 3 0 9";
        assert_eq!(stat_ticks(stat), Some(100.0));
        assert_eq!(stat_ticks("7 (a"), None);
    }

    #[test]
    fn this_process_has_a_core_memory_and_no_mount_of_its_own() {
        assert!(Cores::here().unwrap().count() >= 1);
        assert!(peak_bytes(std::process::id()).unwrap() > 1 << 16);
        assert!(is_mounted(Path::new("/proc")) && !is_mounted(Path::new("/proc/self")));
        assert!(has("sh") && !has("no-such-program"));
    }

    #[test]
    fn a_thread_started_in_the_same_core_has_one_core_and_we_keep_ours() {
        let cores = Cores::here().unwrap();
        let count = || Cores::here().unwrap().count();
        let inside = cores.start_in(Place::Same, || std::thread::spawn(count).join().unwrap());
        assert_eq!(inside.unwrap(), 1);
        assert_eq!(count(), cores.count());
    }
}
