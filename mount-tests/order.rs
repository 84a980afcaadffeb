//! What comes after a close(2): whoever has closed finds it done, though another reader has the
//! RELEASE.

use crate::house::House;
use crate::{Check, check};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub const CHECKS: &[Check] = &[
    check("a_file_closed_is_gone_from_the_open_file_table", &[], gone_at_once),
    check("a_file_closed_in_the_spool_is_a_job_for_whoever_asks_next", &[], job_at_once),
    check("a_tape_closed_is_free_for_who_opens_it_next", &[], tape_at_once),
    check("several_processes_find_their_jobs_in_lpq_at_once", &[], listed_at_once),
];

/// Callers at the same time: more than there are readers, so that both have always something.
const CALLERS: u64 = 4;

fn seconds() -> Duration {
    let text = std::env::var("ORDER_SECONDS").ok();
    Duration::from_secs(text.and_then(|text| text.parse().ok()).unwrap_or(3))
}

/// Runs `turn` of each caller, again and again, beside one who reads a disk without a fence; how
/// often it went wrong, of how many times.
fn repeat(h: &House, turn: impl Fn(u64, u64) -> bool + Sync) -> (u64, u64) {
    let is_over = AtomicBool::new(false);
    let disk = File::open(h.tree().join("dev/sd0")).expect("sd0 opens");
    std::thread::scope(|scope| {
        let (turn, is_over) = (&turn, &is_over);
        let reader = scope.spawn(move || {
            let mut bytes = vec![0; 64 << 10];
            while !is_over.load(Ordering::Relaxed) {
                disk.read_exact_at(&mut bytes, 0).expect("a read");
            }
        });
        let run = move |caller| {
            let (begun, mut wrong, mut turns) = (Instant::now(), 0, 0);
            while begun.elapsed() < seconds() {
                wrong += u64::from(!turn(caller, turns));
                turns += 1;
            }
            (wrong, turns)
        };
        let callers: Vec<_> = (0..CALLERS).map(|n| scope.spawn(move || run(n))).collect();
        let all = callers.into_iter().map(|caller| caller.join().expect("a caller"));
        let sum = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        is_over.store(true, Ordering::Relaxed);
        reader.join().expect("the reader");
        sum
    })
}

fn assert_never(h: &House, turn: impl Fn(u64, u64) -> bool + Sync) {
    let (wrong, turns) = repeat(h, turn);
    eprintln!("{wrong} of {turns} turns came before the close");
    assert!(turns > 100, "only {turns} turns: nothing was tried");
    assert!(wrong == 0, "{wrong} of {turns} turns came before the close");
}

/// The quickest of them, with the most turns: no worker and no host's disk in between.
fn gone_at_once() {
    let h = House::new();
    let (node, table) = (h.tree().join("dev/zero"), h.tree().join("proc/files"));
    assert_never(&h, |_, _| {
        let us = nix::unistd::gettid().to_string(); // the host tells of threads
        drop(File::open(&node).expect("a node opens"));
        let files = std::fs::read_to_string(&table).expect("the table");
        let is_ours = |line: &str| {
            line.contains("/dev/zero") && line.split_whitespace().any(|word| word == us)
        };
        !files.lines().any(is_ours)
    });
}

fn job_at_once() {
    let h = House::new();
    h.sh("spindle --at $M lpc stop all >/dev/null");
    let queue = h.tree().join("spool/lp0");
    assert_never(&h, |caller, turn| {
        let name = format!("c{caller}t{turn}");
        let mut file = File::create(queue.join(&name)).expect("a spool file");
        file.write_all(b"x").expect("a write");
        drop(file);
        let mut jobs = std::fs::read_dir(&queue).expect("the queue").map(|job| job.expect("a job"));
        let job = jobs.find(|job| {
            job.file_name().to_str().is_some_and(|job| job.ends_with(&format!("-{name}")))
        });
        // What is still being written is no job, and stands in the queue by its bare name.
        job.inspect(|job| std::fs::remove_file(job.path()).expect("it is removed")).is_some()
    });
}

fn tape_at_once() {
    let h = House::unmounted(&[]);
    let tapes: String =
        (0..CALLERS).map(|n| format!("[[tape]]\nname = \"st{n}\"\nsize = \"16M\"\n")).collect();
    let disk = "[[disk]]\nname = \"sd0\"\nsize = \"16M\"\n";
    std::fs::write(h.scratch().join("machine.toml"), format!("{disk}{tapes}")).expect("written");
    h.sh("spindle mount $M --state $S --machine $T/machine.toml");
    assert_never(&h, |caller, _| {
        let node = h.tree().join(format!("dev/nst{caller}"));
        drop(File::open(&node).expect("the tape opens"));
        File::open(&node).is_ok()
    });
}

fn listed_at_once() {
    let h = House::new();
    h.sh("export SPINDLE_AT=$M; spindle lpc stop all >/dev/null
          turns() { for n in $(seq 25); do
              echo $n >$M/spool/lp0/p$1n$n
              spindle lpq -P lp0 | grep -q \"p$1n$n\\b\" || {
                  echo \"p$1n$n is not there\"; return 1
              }
              rm $M/spool/lp0/*-p$1n$n
          done; }
          for p in 1 2 3 4; do turns $p & jobs=\"${jobs:-} $!\"; done
          for job in $jobs; do wait $job; done");
}
