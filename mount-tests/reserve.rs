//! Reservation: a unit for one session, waited for in order, freed when its holder is gone.

use crate::house::House;
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("rs_01_allocated_to_a_session", &["setsid"], allocated),
    check("rs_01_freed_when_the_holder_dies", &["setsid"], holder_dies),
    check("rs_03_waiters_are_served_in_order", &["setsid"], in_order),
    check("rs_03_a_wait_ends_by_time_and_signal", &["setsid", "timeout"], wait_ends),
];

/// `hold DEV`: another session allocates it and keeps it until `let_go` or its death.
const OTHERS: &str = "mkfifo $T/go; export -n BASH_ENV
    cat > $T/holder.sh <<'END'
spindle --at $M ctl allocate $1 && echo $$ >$T/holder
read -t 30 x <>$T/go
spindle --at $M ctl deallocate $1
END
    hold() { setsid -w timeout --foreground 60 bash $T/holder.sh $1 >/dev/null 2>&1 &
        until [ -s $T/holder ]; do sleep 0.01; done; }
    leader() { awk '{print $6}' /proc/$(cat $T/holder)/stat; }
    let_go() { echo >$T/go; wait; }
    mine() { timeout 60 setsid -w bash -c \"$*\"; }\n";

fn allocated() {
    let h = House::new();
    h.sh(&format!(
        "{OTHERS} hold st0
         for d in st0 nst0; do ! mine \": <$M/dev/$d\" 2>$T/e; grep -q busy $T/e; done
         ! mine 'spindle --at $M ctl allocate st0' 2>$T/e
         grep -q \"st0: held by session $(leader)\" $T/e
         ! mine 'spindle --at $M ctl deallocate st0' 2>$T/e; grep -q 'not allocated to your' $T/e
         grep -q \"^st0 .* owner=$(leader) \" $M/proc/status; let_go
         mine \": <$M/dev/st0; spindle --at $M ctl allocate st0; echo x >$M/dev/st0
             spindle --at $M ctl deallocate st0\"; [ $(cat $M/dev/nst0) = x ]
         ! grep -q owner= $M/proc/status
         exec 3<$M/dev/sd0p1 || exec 3<$M/dev/sd0
         ! mine 'spindle --at $M ctl allocate sd0' 2>$T/e; grep -q held $T/e; exec 3<&-
         mine 'spindle --at $M ctl allocate sd0; : <$M/dev/rsd0'"
    ));
    for (line, words) in [
        ("allocate null", "null is for everybody"),
        ("allocate st9", "did you mean st0?"),
        ("allocate st0 soon", "soon is no time"),
        ("deallocate st0", "not allocated to your session"),
    ] {
        let said = h.refused(line);
        assert!(said.contains(words), "{line}: {said}");
    }
}

fn holder_dies() {
    let h = House::new();
    h.sh(&format!(
        "{OTHERS} hold sd1; kill -9 $(leader); a=$(date +%s%N)
         mine 'spindle --at $M ctl allocate sd1 5s'; b=$(date +%s%N)
         [ $(((b - a) / 1000000)) -lt 1000 ]"
    ));
}

fn in_order() {
    let h = House::new();
    h.sh(&format!(
        "{OTHERS} hold st0; for i in 1 2 3; do
             setsid -w timeout --foreground 60 bash -c \"spindle --at $M ctl allocate st0 30s
                 echo $i >>$T/order; spindle --at $M ctl deallocate st0\" >/dev/null 2>&1 &
             until grep -q \" waiting=$i \" $M/proc/status; do sleep 0.01; done; done
         let_go; [ \"$(cat $T/order | tr -d '\\n')\" = 123 ]"
    ));
}

fn wait_ends() {
    let h = House::new();
    h.sh(&format!(
        "{OTHERS} hold st0; a=$(date +%s%N)
         ! mine 'spindle --at $M ctl allocate st0 1s' 2>$T/e; b=$(date +%s%N)
         grep -q 'still held' $T/e; t=$(((b - a) / 1000000)); [ $t -ge 1000 ]; [ $t -lt 1200 ]
         for s in TERM INT KILL; do a=$(date +%s%N)
           mine \"timeout -s $s 0.2 spindle --at $M ctl allocate st0 forever\" && exit 1
           b=$(date +%s%N); [ $(((b - a) / 1000000)) -lt 400 ]; done
         until ! grep -q waiting= $M/proc/status; do sleep 0.01; done; let_go
         mine 'spindle --at $M ctl allocate st0'"
    ));
}
