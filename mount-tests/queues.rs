//! Queues and errors: requests held, ordered, retried, failed and told.

use crate::house::{Dice, House, wait_for};
use crate::{Check, check};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub const CHECKS: &[Check] = &[
    check("sc_01_the_arm_is_spared", &[], spared_arm),
    check("sc_01_many_in_flight_cost_less_travel", &[], less_travel),
    check("sc_01_virtual_time_moves_the_arm_the_same_way", &[], same_travel),
    check("sc_03_a_held_queue_shows_who_waits", &[], held_queue),
    check("a_reader_of_a_held_disk_can_be_killed", &[], killable),
    check("umount_writes_what_a_held_disk_kept", &[], held_at_umount),
    check("schedulers_are_chosen_at_run_time", &[], choosing),
    check("er_01_transient_failures_are_tried_again", &[], transient),
    check("er_02_a_broken_unit_fails_fast_until_repaired", &[], broken),
    check("er_02_a_panicking_driver_fails_its_request_only", &[], panicking),
    check("er_02_a_silent_controller_is_not_waited_for", &[], silent),
    check("er_05_a_failed_delayed_write_is_not_swallowed", &[], failed_delayed_write),
    check("er_05_repair_writes_what_could_not_be_written", &[], repaired),
    check("a_medium_error_fails_its_blocks_only", &[], medium_error),
    check("hw_04_bad_sectors_go_to_spares", &[], bad_sectors),
    check("a_full_host_disk_is_told", &["root", "mount"], full_host),
    check("what_a_full_host_cannot_save_is_read", &["root", "mount"], full_host_bad_sector),
    check("kd_04_a_hit_takes_the_short_path", &[], short_path),
    check("virtual_time_does_not_sleep", &[], virtual_time),
];

fn queue_length(h: &House, disk: &str) -> usize {
    h.text("proc/queues").lines().filter(|line| line.starts_with(&format!("{disk} "))).count()
}

fn retries(h: &House, disk: &str) -> u64 {
    let text = h.text("proc/errors");
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("{disk} retries ")));
    found.unwrap_or_else(|| panic!("{text}")).parse().expect("a number")
}

fn state_of(h: &House, disk: &str) -> String {
    let text = h.text("proc/status");
    let line = text.lines().find(|line| line.starts_with(&format!("{disk} "))).expect("a line");
    line.split_whitespace().nth(5).expect("a state").to_owned()
}

/// Starts raw reads of these sectors of hd0, each in its own process and queued in this order.
fn queue_reads(h: &House, sectors: &[u64]) -> String {
    let mut script = String::from("ctl pause hd0 >/dev/null; ctl trace on >/dev/null\n");
    for (n, sector) in sectors.iter().enumerate() {
        script.push_str(&format!(
            "dd if=$M/dev/rhd0 of=/dev/null bs=512 skip={sector} count=1 status=none &
             for i in $(seq 1000); do [ $(grep -c ^hd0 $M/proc/queues) = {} ] && break; done\n",
            n + 1
        ));
    }
    script.push_str("ctl resume hd0 >/dev/null; wait; grep ' dispatch ' $M/proc/trace");
    h.sh(&script)
}

fn dispatched(trace: &str) -> Vec<u64> {
    let sector = |line: &str| {
        let rest = line.split("sector=").nth(1).expect("a sector");
        rest.split(' ').next().expect("a number").parse().expect("a number")
    };
    trace.lines().map(sector).collect()
}

fn spared_arm() {
    let (end, beginning, middle) = (32_000, 100, 16_000);
    for (scheduler, order) in
        [("clook", [beginning, middle, end]), ("fifo", [end, beginning, middle])]
    {
        let h = House::new();
        h.sh("dd if=$M/dev/rhd0 of=/dev/null bs=512 count=1 status=none");
        h.ctl(&format!("set hd0.scheduler {scheduler}"));
        let trace = queue_reads(&h, &[end, beginning, middle]);
        assert_eq!(dispatched(&trace), order, "{scheduler}: {trace}");
    }
}

/// Reads 200 random blocks of hd0 by so many threads, with all queued before the first is served.
/// Answers the cylinders that the arm crossed, and the longest that a reader waited.
fn travel(h: &House, scheduler: &str, in_flight: usize) -> (u64, Duration) {
    let crossed = || h.ctl("get hd0.arm_travel").parse::<u64>().expect("a number");
    h.ctl(&format!("set hd0.scheduler {scheduler}"));
    let disk = File::open(h.tree().join("dev/rhd0")).expect("rhd0 opens");
    disk.read_exact_at(&mut [0; 4096], 0).expect("a read: the arm is at the first cylinder");
    let mut dice = Dice::new(7);
    let blocks: Vec<u64> = (0..200).map(|_| dice.below(4096)).collect();
    let (before, next) = (crossed(), AtomicUsize::new(0));
    h.ctl("pause hd0");
    let longest = std::thread::scope(|scope| {
        let read = || {
            let mut longest = Duration::ZERO;
            while let Some(block) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let begun = Instant::now();
                disk.read_exact_at(&mut [0; 4096], block * 4096).expect("a read");
                longest = longest.max(begun.elapsed());
            }
            longest
        };
        let readers: Vec<_> = (0..in_flight).map(|_| scope.spawn(read)).collect();
        wait_for("all to be queued", || queue_length(h, "hd0") >= in_flight);
        h.ctl("resume hd0");
        readers.into_iter().map(|reader| reader.join().expect("a reader ends")).max()
    });
    (crossed() - before, longest.expect("readers"))
}

fn less_travel() {
    let h = House::new();
    for (in_flight, part) in [(64, 10), (16, 4)] {
        let (fifo, _) = travel(&h, "fifo", in_flight);
        let (clook, longest) = travel(&h, "clook", in_flight);
        eprintln!("{in_flight} in flight: clook {clook}, fifo {fifo} cylinders, {longest:?}");
        assert!(clook * part < fifo, "{in_flight} in flight: clook {clook}, fifo {fifo}");
        // The bound: 5 dispatches for each that waits, of at most 25 ms.
        assert!(longest < Duration::from_millis(25 * 5 * 64), "somebody waited {longest:?}");
    }
}

/// With all of them queued beforehand, so that the order does not depend on the readers' speed.
fn same_travel() {
    let ways = ["real", "virtual"].map(|time| {
        let h = House::with(&["--time", time]);
        ["fifo", "clook"].map(|scheduler| travel(&h, scheduler, 200).0)
    });
    let [[_, real], [_, skipped]] = ways;
    assert_eq!(real, skipped, "clook: {ways:?}");
    assert!(ways.iter().all(|[fifo, clook]| clook * 20 < *fifo), "{ways:?}");
}

fn held_queue() {
    let h = House::new();
    h.ctl("cache drop");
    h.ctl("pause sd0");
    h.sh("for i in 1 2 3 4 5; do
            (dd if=$M/dev/sd0 bs=4096 skip=$((i*100)) count=1 status=none > $T/out$i) & done
          for i in 1 2; do
            dd if=$M/dev/sd1 of=/dev/null bs=4096 skip=$((i*50)) count=1 status=none; done
          for i in $(seq 2000); do [ $(grep -c ^sd0 $M/proc/queues) = 5 ] && break; done
          grep ^sd0 $M/proc/queues > $T/queue; ls $M/dev >/dev/null
          grep ^sd0 $M/proc/status > $T/status; ctl resume sd0; wait
          for i in 1 2 3 4 5; do [ $(stat -c %s $T/out$i) = 4096 ]; done");
    let queue = h.sh("cat $T/queue");
    assert_eq!(queue.lines().count(), 5, "{queue}");
    assert!(queue.lines().all(|l| l.contains("read block=") && l.contains("pid=")), "{queue}");
    let status = h.sh("cat $T/status");
    assert!(status.contains(" paused ") && status.contains("queue=5"), "{status}");
    assert_eq!((queue_length(&h, "sd0"), state_of(&h, "sd0")), (0, "idle".into()));
}

fn killable() {
    let h = House::new();
    h.ctl("cache drop");
    h.ctl("pause sd0");
    for signal in ["TERM", "KILL", "HUP"] {
        h.sh(&format!(
            "dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=9 count=1 status=none & p=$!
             for i in $(seq 2000); do [ $(grep -c ^sd0 $M/proc/queues) -ge 1 ] && break; done
             a=$(date +%s%N); kill -{signal} $p; wait $p || true; b=$(date +%s%N)
             [ $((b-a)) -lt 500000000 ]"
        ));
    }
    let said = h.try_sh("timeout 1 dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=77 count=1");
    assert_eq!(said.status, 124, "{said:?}");
    h.sh("dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=99 count=1 2>/dev/null & p=$!
          for i in $(seq 2000); do [ $(grep -c ^sd0 $M/proc/queues) -ge 1 ] && break; done
          a=$(date +%s%N); spindle umount $M; b=$(date +%s%N); [ $((b-a)) -lt 3000000000 ]");
}

fn held_at_umount() {
    for held in ["pause sd0", "freeze sd0", "irq off sd0"] {
        let h = House::new();
        h.ctl(held);
        h.sh("fill H 512 | dd of=$M/dev/sd0 bs=512 seek=8 conv=notrunc status=none
              timeout 10 spindle umount $M
              [ \"$(piece $S/sd0.img 4096 1)\" = H ]");
    }
}

fn choosing() {
    let h = House::new();
    for scheduler in ["fifo", "sstf", "scan", "clook", "deadline"] {
        h.ctl(&format!("set sd0.scheduler {scheduler}"));
        assert_eq!(h.ctl("get sd0.scheduler"), scheduler);
        h.sh("dd if=$M/dev/rsd0 of=/dev/null bs=1M count=4 status=none");
    }
    let words = h.refused("set sd0.scheduler elevator");
    assert!(words.contains("clook"), "{words}");
    assert!(h.refused("set sd0.shceduler fifo").contains("scheduler"));
    assert!(h.refused("set sd9.scheduler fifo").contains("sd9"));
}

fn transient() {
    let h = House::new();
    h.sh("fill T 512 | dd of=$M/dev/sd0 seek=50 conv=notrunc,fsync status=none
          ctl cache drop >/dev/null");
    h.ctl("fault add t on sd0 op=read block=50 do transient 2");
    let before = retries(&h, "sd0");
    assert_eq!(h.sh("dd if=$M/dev/sd0 skip=50 count=1 status=none | head -c 1"), "T");
    assert_eq!(retries(&h, "sd0"), before + 2);
    h.ctl("fault clear");
    h.ctl("cache drop");
    h.ctl("fault add t on sd0 op=read block=50 do transient 100");
    let before = retries(&h, "sd0");
    let said = h.try_sh("dd if=$M/dev/rsd0 skip=50 count=1");
    assert!(said.err.contains("Input/output error"), "{said:?}");
    let tries = retries(&h, "sd0") - before;
    assert!((4..=5).contains(&tries), "{tries} retries, five tries in all");
}

fn broken() {
    let h = House::new();
    h.sh("dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=3 count=1 status=none");
    h.ctl("fault add p on sd0 do permanent");
    let said = h.try_sh("dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=2000 count=1");
    assert!(said.err.contains("Input/output error"), "{said:?}");
    assert_eq!(state_of(&h, "sd0"), "not-functioning");
    h.sh("a=$(date +%s%N)
          for i in $(seq 20); do
            ! dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=3000 count=1 2>/dev/null; done
          b=$(date +%s%N); [ $((b-a)) -lt 2000000000 ]
          dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=3 count=1 status=none
          dd if=$M/dev/sd1 of=/dev/null bs=4096 count=1 status=none; ls $M/spool");
    h.ctl("fault clear sd0");
    h.ctl("repair sd0");
    assert_eq!(state_of(&h, "sd0"), "idle");
    h.sh("dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=2000 count=1 status=none");
}

fn panicking() {
    let h = House::new();
    h.ctl("fault add p on sd0 op=read block=800-807 when=1 do panic");
    let said = h.try_sh("dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=100 count=1");
    assert!(said.err.contains("Input/output error"), "{said:?}");
    h.sh("[ -d /proc/$(cat $S/pid) ]; ctl fault clear; ctl repair sd0
          dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=100 count=1 status=none");
}

fn silent() {
    let h = House::with(&["--set", "sd0.timeout=200ms"]);
    h.ctl("fault add h on sd0 op=read block=800-807 do hang");
    let said = h.try_sh("timeout 20 dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=100 count=1");
    assert!(said.err.contains("Input/output error"), "{said:?}");
    assert_eq!(state_of(&h, "sd0"), "not-functioning");
    h.sh("ctl fault clear; ctl repair sd0; dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=100 count=1");
}

fn failed_delayed_write() {
    let h = House::with(&["--set", "cache.flush_age=1000s"]);
    h.ctl("fault add w on sd0 op=write block=8-15 do error EIO");
    let said = h.try_sh(
        "exec 5<>$M/dev/sd0 6<>$M/dev/sd0
         printf W | dd of=$M/dev/sd0 bs=1 seek=4096 conv=notrunc status=none
         ! sync $M/dev/sd0 2>$T/first; ! python3 -c 'import os; os.fsync(5)' 2>$T/five
         ! python3 -c 'import os; os.fsync(6)' 2>$T/six
         cat $T/first $T/five $T/six",
    );
    assert!(said.out.matches("Input/output error").count() >= 2, "{said:?}");
    let dirty = h.sh("val dirty bufcache");
    assert_eq!(dirty, "1", "the only copy stays");
    let errors = h.text("proc/errors");
    assert!(errors.lines().any(|l| l.starts_with("sd0") && l.contains("block")), "{errors}");
    let log = h.log();
    assert!(log.contains("WARN") && log.contains("sd0"), "{log}");
    h.ctl("fault clear");
    h.sh("sync $M/dev/sd0 || sync $M/dev/sd0
          [ \"$(tail -c +4097 $S/sd0.img | head -c 1)\" = W ]; [ $(val dirty bufcache) = 0 ]");
}

fn repaired() {
    let h = House::with(&["--set", "cache.flush_age=1000s"]);
    h.ctl("fault add p on sd0 op=write do permanent");
    let said = h.try_sh(
        "printf W | dd of=$M/dev/sd0 bs=1 seek=4096 conv=notrunc status=none; sync $M/dev/sd0",
    );
    assert!(said.err.contains("Input/output error"), "{said:?}");
    assert_eq!(
        (state_of(&h, "sd0"), h.sh("val dirty bufcache")),
        ("not-functioning".into(), "1".into())
    );
    // After the fourth failure in vain the next try would come 8 s later by itself.
    wait_for("the pauses to grow", || h.text("proc/errors").contains(" count=4 "));
    h.ctl("fault clear");
    let begun = Instant::now();
    h.ctl("repair sd0");
    wait_for("what was dirty to be written", || h.sh("val dirty bufcache") == "0");
    assert!(begun.elapsed() < Duration::from_secs(5), "not by the repair");
    h.sh("[ \"$(piece $S/sd0.img 4096 1)\" = W ]");
}

fn medium_error() {
    let h = House::new();
    h.sh("head -c 1M /dev/urandom > $T/f
          dd if=$T/f of=$M/dev/sd0 conv=notrunc,fsync bs=64k status=none
          ctl cache drop");
    h.ctl("fault add m on sd0 op=read block=800 do error EIO sense=3/11/00");
    let said = h.try_sh("dd if=$M/dev/sd0 of=/dev/null bs=4096 skip=100 count=1");
    assert!(said.err.contains("Input/output error"), "{said:?}");
    assert_eq!(state_of(&h, "sd0"), "idle");
    h.sh("cmp -n $((100*4096)) $T/f $M/dev/sd0
          cmp <(piece $T/f $((101*4096)) 634880) <(piece $M/dev/sd0 $((101*4096)) 634880)");
    assert!(h.text("proc/errors").contains("3/11/00"), "{}", h.text("proc/errors"));
}

fn bad_sectors() {
    let h = House::with(&["--set", "sd0.spares=2"]);
    h.ctl("fault add b on sd0 block=100-101 do badsector");
    h.sh("fill B 512 > $T/b
          dd if=$T/b of=$M/dev/rsd0 seek=100 conv=notrunc status=none
          dd if=$M/dev/rsd0 skip=100 count=1 status=none | cmp - $T/b
          [ $(piece $S/sd0.img 51200 512 | tr -d '\\0' | wc -c) = 0 ]
          dd if=$T/b of=$M/dev/rsd0 seek=101 conv=notrunc status=none");
    h.ctl("fault add c on sd0 block=102 do badsector");
    let said = h.try_sh("dd if=$T/b of=$M/dev/rsd0 seek=102 conv=notrunc");
    assert!(said.err.contains("Input/output error"), "{said:?}");
    h.umount();
    h.mount();
    let remaps = h.ctl("get sd0.remaps");
    assert!(remaps.contains("100 -> spare") && remaps.contains("101 -> spare"), "{remaps}");
    h.sh("dd if=$M/dev/rsd0 skip=100 count=1 status=none | cmp - $T/b
          dd if=$M/dev/sd0 skip=101 count=1 status=none | cmp - $T/b");
    let said = h.try_sh("dd if=$M/dev/rsd0 of=/dev/null skip=102 count=1");
    assert!(said.err.contains("Input/output error"), "still bad, and no spare: {said:?}");
}

fn full_host() {
    let h = House::unmounted(&[]);
    h.sh("mkdir $S; mount -t tmpfs -o size=8M none $S");
    let said = h.try_sh(
        "trap 'spindle umount $M >/dev/null 2>&1 || true; umount $S' EXIT
         head -c 32M /dev/urandom > $T/f
         spindle mount $M --state $S --set cache.size=4M
         dd if=$T/f of=$M/dev/sd0 bs=1M conv=notrunc,fsync 2>$T/said && exit 1
         grep -q -e 'No space left' -e 'Input/output error' $T/said || exit 2
         printf W | dd of=$M/dev/sd0 bs=1 conv=notrunc,fsync 2>/dev/null && exit 3
         grep -q '^sd0 delayed-write .*pending' $M/proc/errors || exit 4
         head -c 4096 $M/dev/sd0 >/dev/null || exit 5
         mount -o remount,size=80M $S; ctl repair sd0 >/dev/null
         sync $M/dev/sd0 || sync $M/dev/sd0 || exit 6
         dd if=$T/f of=$M/dev/sd0 bs=1M conv=notrunc,fsync status=none || exit 7
         cmp -n $((32<<20)) $T/f $S/sd0.img || exit 8
         grep -q '^sd0 .* idle ' $M/proc/status || exit 9
         ! grep -q pending $M/proc/errors || exit 10",
    );
    assert!(said.status == 0, "{said:?}");
}

fn full_host_bad_sector() {
    let h = House::unmounted(&[]);
    h.sh("mkdir $S; mount -t tmpfs -o size=4M none $S");
    let said = h.try_sh(
        "trap 'spindle umount $M >/dev/null 2>&1 || true; umount $S' EXIT
         head -c 512 /dev/urandom >$T/b
         spindle mount $M --state $S
         for n in 100 200; do
             dd if=$T/b of=$M/dev/rsd0 seek=$n conv=notrunc,fsync status=none
             ctl set sd0.badsector $n >/dev/null
         done
         head -c 64M /dev/zero >$S/filler 2>/dev/null || true
         dd if=$M/dev/rsd0 skip=100 count=1 status=none | cmp - $T/b || exit 1
         dd if=$M/dev/sd0 skip=200 count=1 status=none | cmp - $T/b || exit 2
         dd if=$T/b of=$M/dev/rsd0 seek=100 conv=notrunc 2>$T/said && exit 3
         grep -q 'No space left' $T/said || exit 4
         grep -q 'recovered but cannot be saved' $S/log || exit 5
         ctl get sd0.remaps | grep -q spare && exit 6
         rm $S/filler; dd if=$M/dev/rsd0 skip=100 count=1 status=none | cmp - $T/b || exit 7
         ctl get sd0.remaps | grep -q '100 -> spare' || exit 8",
    );
    assert!(said.status == 0, "{said:?}");
}

fn short_path() {
    let h = House::new();
    h.sh("dd if=$M/dev/sd0 of=/dev/null bs=512 skip=777 count=1 status=none");
    h.ctl("pause sd0");
    h.ctl("trace on");
    h.ctl("trace clear");
    h.sh("dd if=$M/dev/sd0 of=/dev/null bs=512 skip=777 count=1 status=none");
    let trace = h.text("proc/trace");
    assert!(trace.contains("cache hit"), "{trace}");
    for word in ["queue insert", "dispatch", "raise"] {
        assert!(!trace.contains(word), "a hit needs no {word}: {trace}");
    }
}

fn virtual_time() {
    let h = House::with(&["--time", "virtual"]);
    let begun = std::time::Instant::now();
    h.sh("for i in $(seq 0 199); do echo $((i*7919%4096)); done | while read b; do
            dd if=$M/dev/rhd0 of=/dev/null bs=4096 skip=$b count=1 status=none; done");
    let stats = h.text("proc/diskstats");
    let line = stats.lines().find(|line| line.contains(" hd0 ")).expect("hd0");
    let busy: u64 = line.split_whitespace().nth(6).expect("ms reading").parse().expect("a number");
    assert!(busy > 800, "200 random reads take {busy} ms of the machine's time");
    eprintln!("{busy} ms of machine time in {:?}", begun.elapsed());
    wait_for("hd0 to be idle", || state_of(&h, "hd0") == "idle");
}
