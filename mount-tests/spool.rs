//! The print spool on real mounts: submission, order, removal, faults, crashes, the commands.

use crate::house::{House, Said, wait_for};
use crate::{Check, check};
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

pub const CHECKS: &[Check] = &[
    check("sp_01_files_are_jobs", &[], files_are_jobs),
    check("sp_02_output_to_the_printer_is_intercepted", &[], intercepted),
    check("sp_03_the_last_close_completes_a_job", &[], close_completes),
    check("sp_04_jobs_are_never_interleaved", &[], never_interleaved),
    check("sp_05_lpq_shows_the_queue", &[], shows_the_queue),
    check("sp_06_jobs_are_removed_by_owner_or_operator", &[], removed),
    check("sp_06_another_user_is_refused", &["root", "setpriv"], another_user),
    check("sp_07_stop_hold_disable", &[], stop_hold_disable),
    check("sp_07_out_of_paper_in_mid_job_loses_nothing", &[], out_of_paper),
    check("sp_08_jobs_are_moved", &[], moved),
    check("sp_09_priorities_reorder", &[], priorities),
    check("sp_10_a_class_prints_on_what_is_free", &[], class),
    check("sp_11_kill_9_in_mid_job_prints_it_whole_first", &[], killed_in_mid_job),
    check("sp_submission_by_200_processes", &[], two_hundred),
    check("sp_a_full_disk_is_told_at_the_write", &["root"], full_disk),
    check("sp_an_output_without_room_is_waited_for", &["root"], full_output),
    check("sp_100_mib_come_out_as_they_went_in", &[], hundred_mib),
    check("sp_100_mib_are_submitted_at_the_disks_speed_in_little_memory", &[], paced),
    check("sp_10000_jobs_are_listed_within_a_second", &[], ten_thousand),
    check("sp_exec_closes_a_job", &["python3"], closed_by_exec),
    check("sp_names_stage_and_jobs_are_immutable", &[], staged),
];

/// Runs a script whose `spindle` finds this machine among others; it must succeed.
pub fn sh(h: &House, script: &str) -> String {
    h.sh(&format!("export SPINDLE_AT=$M\n{script}"))
}

/// The same; it may fail.
pub fn try_sh(h: &House, script: &str) -> Said {
    h.try_sh(&format!("export SPINDLE_AT=$M\n{script}"))
}

/// Waits until a queue has nothing to print.
pub fn drained(h: &House, queue: &str) {
    wait_for("an empty queue", || h.text(&format!("spool/{queue}/.status")) == "no entries\n");
}

pub fn out(h: &House, name: &str) -> String {
    std::fs::read_to_string(h.state().join(name)).unwrap_or_default()
}

fn files_are_jobs() {
    let h = House::new();
    sh(
        &h,
        "spindle lpc stop lp0; printf 'first\\n' >$T/a.txt; seq 1000 >$T/b.txt
          cp $T/a.txt $T/b.txt $M/spool/lp0/; [ $(ls $M/spool/lp0 | wc -l) = 2 ]
          cmp $T/a.txt $M/spool/lp0/1-a.txt; cmp $T/b.txt $M/spool/lp0/2-b.txt
          [ $(stat -c %a $M/spool/lp0/1-a.txt) = 600 ]
          [ $(ls $S/spool/lp0 | wc -l) = 2 ]; spindle lpc start lp0",
    );
    drained(&h, "lp0");
    sh(
        &h,
        "cat $T/a.txt $T/b.txt | cmp - $S/lp0.out; [ -z \"$(ls $M/spool/lp0)\" ]
          [ -z \"$(ls $S/spool/lp0)\" ]",
    );
}

fn intercepted() {
    let h = House::new();
    sh(
        &h,
        "seq 500 >$T/f; spindle lpc stop lp0; cat $T/f >$M/dev/lp0; [ ! -s $S/lp0.out ]
          spindle lpq | grep -q '1st '; spindle lpq | grep -q \"$(stat -c %s $T/f) bytes\"
          spindle lpc start lp0",
    );
    drained(&h, "lp0");
    sh(&h, "cmp $T/f $S/lp0.out");
    let said = try_sh(&h, "echo x >$M/dev/rlp0");
    assert!(said.status != 0 && said.err.contains("busy"), "{said:?}");
    assert!(try_sh(&h, "cat $M/dev/lp0").err.contains("Permission denied"));
    // Stopped and idle, the spooler lets go of the hardware.
    sh(&h, "spindle lpc stop lp0");
    wait_for("the printer to be free", || try_sh(&h, "echo direct >$M/dev/rlp0").status == 0);
    wait_for("the direct output", || out(&h, "lp0.out").ends_with("direct\n"));
}

fn close_completes() {
    let h = House::new();
    sh(
        &h,
        "exec 3>$M/spool/lp0/j; echo a >&3; sleep 0.5; [ ! -s $S/lp0.out ]
          spindle lpq | grep -q spooling; echo b >&3; exec 3>&-",
    );
    drained(&h, "lp0");
    assert_eq!(out(&h, "lp0.out"), "a\nb\n");
    sh(
        &h,
        "spindle lpc stop lp0; sh -c 'echo hi >$M/dev/lp0'; ls $M/spool/lp0 | wc -l | grep -qx 1
          spindle lpq | grep -q '3 bytes'; rm $M/spool/lp0/*",
    );
    for signal in ["KILL", "TERM", "SEGV"] {
        try_sh(&h, &format!("bash -c 'echo junk; kill -{signal} $$' >$M/spool/lp0/k"));
        assert_eq!(sh(&h, "ls $M/spool/lp0"), "", "a writer killed by {signal}");
    }
    sh(
        &h,
        "python3 -c 'import os; os.write(1,b\"x\"); os._exit(3)' >$M/spool/lp0/e || true
          ls $M/spool/lp0 | grep -q -- -e",
    );
    sh(
        &h,
        "rm $M/spool/lp0/*; exec 3>$M/spool/lp0/f; (sleep 0.3; echo child >&3) & echo parent >&3
          exec 3>&-; [ -z \"$(spindle lpq | grep 1st)\" ]; wait; spindle lpq | grep -q 1st",
    );
}

fn never_interleaved() {
    let h = House::new();
    sh(
        &h,
        "for p in 1 2 3 4 5 6 7 8; do (for n in $(seq 100); do echo $p; [ $((n % 25)) = 0 ] && \
          sleep 0.01; done >$M/dev/lp0; true) & done; wait",
    );
    drained(&h, "lp0");
    sh(&h, "[ $(cut -c1 $S/lp0.out | uniq -c | awk '$1==100' | wc -l) = 8 ]");
    sh(
        &h,
        "spindle lpc stop lp1; for n in 1 2 3 4 5; do echo $n >$M/spool/lp1/n; done
          spindle lpc start lp1",
    );
    drained(&h, "lp1");
    assert_eq!(out(&h, "lp1.out"), "1\n2\n3\n4\n5\n");
}

fn shows_the_queue() {
    let h = House::new();
    assert_eq!(sh(&h, "spindle lpq"), "no entries");
    sh(
        &h,
        "ctl paper lp0 0; printf 0123456789 >$M/spool/lp0/a.txt; seq 9 >$M/spool/lp0/b.txt
          printf xyz >$M/spool/lp0/c.txt",
    );
    wait_for("the first to be active", || sh(&h, "spindle lpq").contains("active"));
    let me = sh(&h, "id -un");
    let row = |rank: &str, job: u32, name: &str, bytes: u32| {
        format!("{rank:<7}{me:<10} {job:<3}  {name:<38}{bytes} bytes\n")
    };
    let text = format!(
        "lp0: out of paper\nRank   Owner      Job  Files                                 \
         Total Size\n{}{}{}",
        row("active", 1, "a.txt", 10),
        row("1st", 2, "b.txt", 18),
        row("2nd", 3, "c.txt", 3)
    );
    assert_eq!(sh(&h, "spindle lpq") + "\n", text);
    assert_eq!(h.text("spool/lp0/.status"), text);
    sh(
        &h,
        "spindle lpq --json | python3 -c 'import json,sys; q=json.load(sys.stdin); \
          assert [j[\"job\"] for j in q[\"jobs\"]] == [1,2,3]'
          spindle lpq -l | grep -q 'active .*\\[job 001'; spindle lpstat -t >/dev/null
          ln -s $(command -v spindle) $T/lpq; SPINDLE_AT=$M $T/lpq -Plp0 3 | grep -q '2nd .* 3 '",
    );
    let said = try_sh(&h, "spindle lpq -P nosuch");
    assert!(said.status == 1 && said.err.contains("lpq: nosuch: unknown printer"), "{said:?}");
    sh(&h, "ctl paper lp0 endless");
    drained(&h, "lp0");
}

fn removed() {
    let h = House::new();
    sh(
        &h,
        "spindle lpc stop lp0; for n in one two three; do echo $n >$M/spool/lp0/$n; done
          spindle lprm -P lp0 2 | grep -qx '2-two dequeued'; spindle lpc start lp0",
    );
    drained(&h, "lp0");
    assert_eq!(out(&h, "lp0.out"), "one\nthree\n");
    let said = try_sh(&h, "spindle lprm 99");
    assert!(said.status == 1 && !said.err.is_empty(), "{said:?}");
    // The active one stops at once, and the next begins on a page of its own.
    let h = House::with(&["--set", "lp0.rate=2000/s"]);
    sh(&h, "seq 100000 >$M/spool/lp0/long; echo next >$M/spool/lp0/next");
    wait_for("some output", || out(&h, "lp0.out").len() > 100);
    sh(&h, "spindle lprm -P lp0 1");
    drained(&h, "lp0");
    assert!(out(&h, "lp0.out").ends_with("\u{c}next\n"), "{}", out(&h, "lp0.out").len());
}

fn another_user() {
    let h = House::new();
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    sh(
        &h,
        &format!(
            "chmod 755 $T; spindle lpc stop lp0; echo a >$M/spool/lp0/a
         {nobody} sh -c \"echo b >$M/spool/lp0/b\"
         ! {nobody} rm -f $M/spool/lp0/1-a 2>/dev/null; ! {nobody} cat $M/spool/lp0/1-a 2>/dev/null
         ({nobody} spindle --at $M lprm -P lp0 1 2>&1 || true) | grep 'Permission denied'
         ({nobody} spindle --at $M lpc stop lp1 2>&1 || true) | grep Privileged
         {nobody} spindle --at $M lprm -P lp0 2; [ $(ls $M/spool/lp0) = 1-a ]
         {nobody} sh -c \"echo b >$M/spool/lp0/b\"; rm $M/spool/lp0/3-b"
        ),
    );
}

fn stop_hold_disable() {
    let h = House::with(&["--set", "lp0.rate=20000/s"]);
    sh(&h, "seq 4000 >$T/long; cp $T/long $M/spool/lp0/; echo next >$M/spool/lp0/next");
    wait_for("some output", || out(&h, "lp0.out").len() > 100);
    sh(&h, "spindle lpc stop lp0; echo third >$M/spool/lp0/third");
    wait_for("the end of the job", || sh(&h, "ls $M/spool/lp0") == "2-next\n3-third");
    sh(
        &h,
        "cmp $T/long $S/lp0.out; spindle lpc hold lp0 2; spindle lpq | grep -q '^held .* 2 '
          spindle lpc start lp0",
    );
    wait_for("the third to pass", || out(&h, "lp0.out").ends_with("third\n"));
    sh(&h, "spindle lpc release lp0 2");
    drained(&h, "lp0");
    assert!(out(&h, "lp0.out").ends_with("third\nnext\n"));
    sh(&h, "spindle lpc disable lp0");
    let said = try_sh(&h, "echo x >$M/spool/lp0/x");
    assert!(said.status != 0 && said.err.contains("Permission denied"), "{said:?}");
    let said = try_sh(&h, "echo x | spindle lpr");
    assert!(said.status == 1 && said.err.contains("lpr: Printer queue is disabled"), "{said:?}");
    sh(&h, "spindle lpc enable lp0; echo x | spindle lpr");
    drained(&h, "lp0");
    // Abort puts it back, first, and it is printed whole then.
    sh(&h, "cp $T/long $M/spool/lp0/; echo late >$M/spool/lp0/late");
    wait_for("the job to be active", || sh(&h, "spindle lpq").contains("active"));
    sh(&h, "spindle lpc abort lp0");
    let is_first = |line: &str| line.starts_with("1st ") && line.contains("long");
    wait_for("the job to be back", || sh(&h, "spindle lpq").lines().any(is_first));
    sh(&h, "spindle lpc start lp0");
    drained(&h, "lp0");
    sh(&h, "(cat $T/long; echo late) | cmp - <(tail -c $(($(stat -c %s $T/long) + 5)) $S/lp0.out)");
}

fn out_of_paper() {
    let h = House::with(&["--set", "lp0.rate=20000/s"]);
    sh(&h, "for n in $(seq 3000); do echo line $n; done >$T/f; cp $T/f $M/spool/lp0/");
    for (trouble, words, cure) in [
        ("paper lp0 0", "lp0: out of paper", "paper lp0 100"),
        ("jam lp0", "lp0: paper jam", "unjam lp0"),
        ("offline lp0", "lp0: off line", "online lp0"),
        ("cover lp0 open", "lp0: cover open", "cover lp0 closed"),
    ] {
        let before = out(&h, "lp0.out").len();
        wait_for("some output", || out(&h, "lp0.out").len() > before);
        h.ctl(trouble);
        assert!(sh(&h, "spindle lpq").starts_with(words), "{trouble}");
        assert!(sh(&h, "grep rlp0 $M/proc/status").contains("offline"));
        sh(
            &h,
            "sleep 0.1; s=$(stat -c %s $S/lp0.out); sleep 0.2; [ $s = $(stat -c %s $S/lp0.out) ]
              echo other >$M/spool/lp1/x",
        );
        drained(&h, "lp1");
        h.ctl(cure);
    }
    drained(&h, "lp0");
    sh(&h, "cmp $T/f $S/lp0.out");
}

fn moved() {
    let h = House::new();
    sh(
        &h,
        "spindle lpc stop lp0; spindle lpc stop lp1; echo a >$M/spool/lp0/a; echo b >$M/spool/lp0/b
          spindle lpc hold lp0 1; spindle lpmove lp0-1 lp1; mv $M/spool/lp0/2-b $M/spool/lp1/
          spindle lpq -P lp1 | grep -q '^held .* 1    a '; spindle lpq -P lp1 | grep -q '^1st .* 2 '
          [ -z \"$(ls $M/spool/lp0)\" ]; spindle lpc release lp1 1; spindle lpc start lp1
          spindle lpc start lp0",
    );
    drained(&h, "lp1");
    assert_eq!((out(&h, "lp1.out"), out(&h, "lp0.out")), ("a\nb\n".into(), String::new()));
    sh(&h, "ctl jam lp0; echo c >$M/spool/lp0/c");
    wait_for("the job to be active", || sh(&h, "spindle lpq").contains("active"));
    let said = try_sh(&h, "mv $M/spool/lp0/3-c $M/spool/lp1/");
    assert!(said.status != 0 && said.err.contains("busy"), "{said:?}");
    assert!(try_sh(&h, "spindle lpmove lp0-3 nosuch").status == 1);
    sh(&h, "ls $M/spool/lp0 | grep -qx 3-c; ctl unjam lp0");
    drained(&h, "lp0");
}

fn priorities() {
    let h = House::new();
    sh(
        &h,
        "spindle lpc stop lp0; for n in A B C D; do echo $n >$M/spool/lp0/$n; done
          spindle lpc pri lp0 3 80; spindle lpq | awk '$1 ~ /st|nd|rd|th/ {print $4}' \
          | tr -d '\\n' \
          | grep -qx CABD; spindle lp -i lp0-4 -q 90
          spindle lpc topq lp0 2; spindle lpc start lp0",
    );
    drained(&h, "lp0");
    assert_eq!(out(&h, "lp0.out"), "B\nD\nC\nA\n");
}

fn class() {
    // Slow, so that neither is done with a job before the other has one.
    let h = House::with(&["--set", "lp0.rate=40/s", "--set", "lp1.rate=40/s"]);
    sh(&h, "for n in 1 2 3 4; do (for l in $(seq 400); do echo $n; done) >$M/spool/any/j$n; done");
    wait_for("both printers", || sh(&h, "spindle lpq -P any").matches("active").count() == 2);
    sh(&h, "ctl set lp0.rate 4000/s; ctl set lp1.rate 4000/s");
    drained(&h, "any");
    sh(
        &h,
        "cat $S/lp0.out $S/lp1.out | uniq -c | awk '$1 != 400 {exit 1} END {exit NR != 4}'
          [ -s $S/lp0.out ] && [ -s $S/lp1.out ]; spindle lpc stop lp0; n=$(stat -c %s $S/lp0.out)
          echo only >$M/spool/any/x; echo mine >$M/spool/lp0/y",
    );
    drained(&h, "any");
    sh(&h, "tail -1 $S/lp1.out | grep -qx only; spindle lpq -P lp0 | grep -q ' y '");
}

fn killed_in_mid_job() {
    let h = House::with(&["--set", "lp0.rate=200/s"]);
    // Slowly, until all are in their order behind the first.
    sh(
        &h,
        "for n in 1 2 3 4 5; do seq $((n * 1000)) >$T/$n; done; cp $T/1 $M/spool/lp0/
          until spindle lpq | grep -q ^active; do :; done
          for n in 2 3 4 5; do cp $T/$n $M/spool/lp0/; done; spindle lp -i lp0-5 -q 80
          ctl set lp0.rate 20000/s",
    );
    let first = std::fs::metadata(h.scratch().join("1")).unwrap().len();
    wait_for("the second job", || out(&h, "lp0.out").len() as u64 > first + 2000);
    h.kill();
    let begun = out(&h, "lp0.out").len();
    sh(&h, "mv $S/lp0.out $T/first.out");
    h.mount();
    h.ctl("set lp0.rate 1M/s");
    drained(&h, "lp0");
    sh(
        &h,
        "cmp -n $(stat -c %s $T/1) $T/1 $T/first.out
          cat $T/5 $T/2 $T/3 $T/4 | cmp - $S/lp0.out",
    );
    assert!(begun > 0);
}

fn two_hundred() {
    let h = House::new();
    sh(
        &h,
        "for q in lp0 lp1 any; do spindle lpc stop $q; done
          for n in $(seq 200); do set -- lp0 lp1 any; shift $((n % 3))
          (printf '%03d %s\\n' $n \"$(seq -s, 400)\" >$M/spool/$1/job$n) & done; wait
          [ $(ls $M/spool/lp0 $M/spool/lp1 $M/spool/any | grep -c -- -job) = 200 ]
          [ $(ls $M/spool/lp0 $M/spool/lp1 $M/spool/any | grep -- -job | cut -d- -f1 | sort -u \
          | wc -l) = 200 ]; for q in lp0 lp1 any; do spindle lpc start $q; done",
    );
    for queue in ["lp0", "lp1", "any"] {
        drained(&h, queue);
    }
    sh(
        &h,
        "cat $S/lp0.out $S/lp1.out >$T/all; [ $(wc -l <$T/all) = 200 ]
          [ $(cut -d' ' -f1 $T/all | sort -u | wc -l) = 200 ]
          [ $(cut -d' ' -f2 $T/all | sort -u) = \"$(seq -s, 400)\" ]",
    );
}

fn full_disk() {
    let h = House::unmounted(&[]);
    sh(&h, "mkdir $S && mount -t tmpfs -o size=2m spool $S");
    h.mount();
    let said =
        try_sh(&h, "ctl paper lp0 0; head -c 8M /dev/urandom >$T/big; cp $T/big $M/spool/lp0/");
    assert!(said.status != 0 && said.err.contains("No space left"), "{said:?}");
    assert_eq!(sh(&h, "ls $M/spool/lp0"), "", "a truncated job must not be queued");
    let said = try_sh(&h, "spindle lpr $T/big");
    assert!(said.status == 1 && said.err.contains("No space left"), "{said:?}");
    sh(&h, "[ -z \"$(ls $S/spool/lp0)\" ]; ctl paper lp0 endless; echo fits >$M/spool/lp0/small");
    drained(&h, "lp0");
    assert_eq!(out(&h, "lp0.out"), "fits\n");
    h.umount();
    sh(&h, "umount -l $S");
}

fn full_output() {
    let dir = crate::house::directory();
    let sink = format!("lp0.sink={}/o/out", dir.path().display());
    let h = House::unmounted(&["--set", &sink]);
    let o = dir.path().join("o");
    sh(&h, &format!("mkdir {0} && mount -t tmpfs -o size=1m sink {0}", o.display()));
    h.mount();
    sh(&h, "head -c 3M /dev/urandom >$T/f; cp $T/f $M/spool/lp0/");
    wait_for("the trouble to be told", || sh(&h, "spindle lpq").contains("no room for its output"));
    sh(&h, "echo other >$M/spool/lp1/x");
    drained(&h, "lp1");
    sh(&h, &format!("mount -o remount,size=8m {}", o.display()));
    drained(&h, "lp0");
    sh(&h, &format!("cmp $T/f {}/out", o.display()));
    h.umount();
    sh(&h, &format!("umount {}", o.display()));
}

fn hundred_mib() {
    let h = House::new();
    sh(&h, "head -c 100M /dev/urandom >$T/f");
    for submit in [
        "cp $T/f $M/spool/lp0/f",
        "cat $T/f >$M/dev/lp0",
        "tee $M/spool/lp0/f <$T/f >/dev/null",
        "dd if=$T/f of=$M/spool/lp0/f bs=1M status=none",
        "spindle lpr $T/f",
    ] {
        sh(&h, submit);
        drained(&h, "lp0");
        sh(&h, "cmp $T/f $S/lp0.out; rm $S/lp0.out");
    }
}

/// A job much longer than what its printer prints in the meantime, and than the daemon may grow.
fn paced() {
    const KIB_MAX: u64 = 8 << 10;
    let h = House::with(&["--set", "lp0.rate=10000000/s"]);
    sh(&h, "head -c 100M /dev/urandom >$T/f; head -c 4M $T/f >$T/warm; cp $T/warm $M/spool/lp0/");
    drained(&h, "lp0");
    let peak = || -> u64 {
        let words = sh(&h, "awk '/VmHWM/ {print $2}' /proc/$(cat $S/pid)/status");
        words.trim().parse().unwrap()
    };
    sh(&h, "rm $S/lp0.out; echo 5 >/proc/$(cat $S/pid)/clear_refs");
    let before = peak();
    sh(&h, "cp $T/f $M/spool/lp0/f");
    // All of it is there, and most of it is not printed yet.
    let printed = std::fs::metadata(h.state().join("lp0.out")).map_or(0, |file| file.len());
    assert!(printed < 50 << 20, "{printed} bytes were printed when cp returned");
    assert!(h.text("spool/lp0/.status").contains("104857600 bytes"));
    drained(&h, "lp0");
    sh(&h, "cmp $T/f $S/lp0.out");
    let grown = peak().saturating_sub(before);
    assert!(grown < KIB_MAX, "{grown} KiB more than {before} KiB");
    eprintln!("{printed} bytes printed when cp returned; {grown} KiB of memory");
}

/// Submits a thousand jobs; the processor time of the daemon that each took. Not how long: others
/// are at the processors too.
fn submit_thousand(h: &House) -> Duration {
    let before = h.processor_time();
    for _ in 0..1000 {
        let mut file = File::create(h.tree().join("spool/lp0/j")).unwrap();
        file.write_all(b"text\n").unwrap();
        nix::unistd::close(file).unwrap();
    }
    (h.processor_time() - before) / 1000
}

/// How long the quickest of three tries took: the others may have waited for a processor.
fn quickest(mut run: impl FnMut()) -> Duration {
    let tries = (0..3).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed()
    });
    tries.min().unwrap_or_default()
}

fn ten_thousand() {
    let h = House::new();
    // Held, not stopped: so the printers look for what they may print at each of them.
    sh(&h, "spindle lpc holdall lp0");
    submit_thousand(&h); // the daemon has all its memory
    let times: Vec<Duration> = (1..10).map(|_| submit_thousand(&h)).collect();
    let (first, last) = (times[0].min(times[1]), times[7].min(times[8]));
    let ratio = last.as_secs_f64() / first.as_secs_f64();
    eprintln!("submission: {first:?} at first, {last:?} behind 10,000: ratio {ratio:.2}");
    assert!(ratio < 1.5, "{times:?}");
    // Users run what is optimised.
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 4 } else { 1 });
    for command in ["spindle lpq", "ls $M/spool/lp0"] {
        let taken = quickest(|| {
            let lines = sh(&h, command).lines().count();
            assert!(lines >= 10_000, "{command}: {lines}");
        });
        eprintln!("{command}: {taken:?}");
        assert!(taken < limit, "{command}: {taken:?}");
    }
    let taken = quickest(|| {
        h.kill();
        h.mount();
    });
    eprintln!("recovery: {taken:?}");
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 4 } else { 2 });
    assert!(taken < limit, "{taken:?}");
    assert!(sh(&h, "spindle lpq").lines().count() >= 10_000);
}

/// exec(2) closes descriptors while it keeps parts of /proc locked: no close may look there.
fn closed_by_exec() {
    let h = House::new();
    sh(
        &h,
        "spindle lpc stop lp0
          timeout 20 python3 -c 'import os,sys; f=os.open(sys.argv[1], os.O_WRONLY|os.O_CREAT)
os.write(f, b\"text\"); os.execvp(\"true\", [\"true\"])' $M/spool/lp0/x
          [ $(cat $M/spool/lp0/1-x) = text ]",
    );
}

fn staged() {
    let h = House::new();
    sh(
        &h,
        "spindle lpc stop lp0; echo a >$M/spool/lp0/.tmp; [ -z \"$(ls $M/spool/lp0)\" ]
          mv $M/spool/lp0/.tmp $M/spool/lp0/final; [ $(ls $M/spool/lp0) = 1-final ]
          echo again >$M/spool/lp0/final; [ $(cat $M/spool/lp0/1-final) = a ]
          [ $(ls $M/spool/lp0 | wc -l) = 2 ]; install -m 600 $T/../$(basename $T)/s/version \
          $M/spool/lp0/inst; [ $(ls $M/spool/lp0 | wc -l) = 3 ]
          touch $M/spool/lp0/nothing; [ $(ls $M/spool/lp0 | wc -l) = 3 ]",
    );
    for refused in [
        "echo x >>$M/spool/lp0/1-final",
        "mkdir $M/spool/lp0/d",
        "ln $M/spool/lp0/1-final $M/spool/lp0/l",
        "chmod +x $M/spool/lp0/1-final",
        "truncate -s 0 $M/spool/lp0/1-final",
        "echo wibble >$M/spool/lp0/.ctl",
        "echo 'rm 99' >$M/spool/lp0/.ctl",
        "rm -f $M/spool/lp0/.ctl",
    ] {
        assert!(try_sh(&h, refused).status != 0, "{refused}");
    }
    sh(
        &h,
        "echo 'hold 1' >$M/spool/lp0/.ctl; rm $M/spool/lp0/2-final
          mv $M/spool/lp0/3-inst $T/back
          cmp $T/back $S/version; grep -q removed $M/spool/lp0/.log
          echo start >$M/spool/lp0/.ctl
          echo 'release 1' >$M/spool/lp0/.ctl",
    );
    drained(&h, "lp0");
    assert_eq!(out(&h, "lp0.out"), "a\n");
}
