//! Reservation: a unit for one session, waited for in order, freed when its holder is gone.

use crate::house::House;
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("rs_01_allocated_to_a_session", &["setsid"], allocated),
    check("rs_01_freed_when_the_holder_dies", &["setsid"], holder_dies),
    check("rs_01_allocated_without_a_leader", &["setsid"], no_leader),
    check("rs_01_allocated_in_a_pid_name_space", &["root", "unshare"], name_space),
    check("rs_03_waiters_are_served_in_order", &["setsid"], in_order),
    check("rs_04_every_pair_of_access_and_share", &["python3"], pairs),
    check("rs_01_allocated_by_a_command_on_the_node", &["python3"], by_command),
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

/// The leader of the session has ended; what it has left behind allocates, and ends.
fn no_leader() {
    let h = House::new();
    h.sh(&format!(
        "{OTHERS} cat >$T/member.sh <<'END'
while [ -e /proc/$1 ]; do sleep 0.01; done
spindle --at $M ctl allocate st0 && echo $$ >$T/holder
read -t 30 x <>$T/go
END
         setsid -w bash -c 'bash $T/member.sh $$ >/dev/null 2>&1 &'
         until [ -s $T/holder ]; do sleep 0.01; done; [ ! -e /proc/$(leader) ]
         ! mine ': <$M/dev/st0' 2>$T/e; grep -q busy $T/e
         grep -q \"^st0 .* owner=$(leader) \" $M/proc/status
         echo >$T/go; mine 'spindle --at $M ctl allocate st0 5s; echo x >$M/dev/st0'"
    ));
}

/// In a container the leaders of sessions may be outside: then all are session 0.
fn name_space() {
    let h = House::new();
    h.umount();
    h.sh("unshare -pf --mount-proc bash -euc '
              [ $(cut -d\" \" -f6 /proc/$$/stat) = 0 ]; mkdir -p $T/n
              spindle mount $T/n --state $T/s2; c=\"spindle --at $T/n ctl\"
              $c allocate st0; grep -q \"^st0 .* owner=0 \" $T/n/proc/status; echo x >$T/n/dev/st0
              if setsid -w sh -c \": <$T/n/dev/st0\" 2>$T/e; then exit 9; fi; grep -q busy $T/e
              $c deallocate st0; setsid -w $c allocate st0 5s
              spindle umount $T/n'");
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

/// Files opened with an access and a share: the second comes in if and only if each one's access is
/// within what the other shares.
const PAIRS: &str = r"
import os, sys, errno, fcntl, struct
node = sys.argv[1] + '/dev/sd1'
ways = {1: os.O_RDONLY, 2: os.O_WRONLY, 3: os.O_RDWR}
def opened(access, share):
    fd = None
    try:
        fd = os.open(node, ways[access])
        fcntl.ioctl(fd, 0x4004b504, struct.pack('i', share))
        return fd
    except OSError as e:
        assert e.errno == errno.EBUSY, e
        if fd is not None: os.close(fd)
all = [(access, share) for access in (1, 2, 3) for share in range(4)]
let_in = 0
for a in all:
    for b in all:
        first = opened(*a)
        assert first is not None, a
        second = opened(*b)
        fits = b[0] & ~a[1] == 0 and a[0] & ~b[1] == 0
        assert (second is not None) == fits, (a, b)
        let_in += fits
        os.close(first)
        if second is None:
            second = opened(*b)
            assert second is not None, ('the first is closed', a, b)
        os.close(second)
print(len(all) ** 2, let_in)
fd = os.open(node, os.O_RDONLY)
try: fcntl.ioctl(fd, 0x4004b504, struct.pack('i', 4))
except OSError as e: assert e.errno == errno.EINVAL
else: raise AssertionError('share 4')
";

fn pairs() {
    let h = House::new();
    let said = h.sh(&format!("cat > $T/p.py <<'END'\n{PAIRS}\nEND\npython3 $T/p.py $M"));
    assert_eq!(said, "144 25");
}

fn by_command() {
    let h = House::new();
    h.sh(&format!(
        "{OTHERS} hold sd1; cat > $T/p.py <<'END'
import os, sys, errno, fcntl, struct, time
node = sys.argv[1] + '/dev/'
def fails(name, call, *args):
    try: call(*args)
    except OSError as e: assert errno.errorcode[e.errno] == name, (name, e)
    else: raise AssertionError(name)
def allocate(fd, millis): fcntl.ioctl(fd, 0x4008b502, struct.pack('Q', millis))
def deallocate(fd): fcntl.ioctl(fd, 0xb503)
st, sd = os.open(node + 'st0', os.O_RDWR), os.open(node + 'sd0', os.O_RDONLY)
fails('EPERM', deallocate, st)
allocate(st, 0); allocate(st, 0)
assert f'owner={{os.getpid()}} ' in open(sys.argv[1] + '/proc/status').read()
if os.fork() == 0:
    os.setsid()
    fails('EBUSY', allocate, sd, 0)
    began = time.monotonic(); fails('ETIMEDOUT', allocate, sd, 1000)
    assert 1 <= time.monotonic() - began < 1.2
    os._exit(0)
assert os.wait()[1] == 0
deallocate(st); fails('EPERM', deallocate, st)
fails('ENOTTY', allocate, os.open(node + 'null', os.O_RDONLY), 0)
fails('EBUSY', os.open, node + 'sd1', os.O_RDONLY)
a, b = os.open(node + 'ttyS0', os.O_RDWR), os.open(node + 'ttyS1', os.O_RDWR)
allocate(a, 0); fcntl.ioctl(b, 0x4004b504, struct.pack('i', 1))
fails('EBUSY', os.open, node + 'ttyS1', os.O_WRONLY)
fails('ENOTTY', fcntl.ioctl, a, 0x8018b501, bytes(24))
if os.fork() == 0:
    os.setsid(); fails('EBUSY', os.open, node + 'ttyS0', os.O_RDONLY); os._exit(0)
assert os.wait()[1] == 0
deallocate(a)
listed = open(sys.argv[1] + '/proc/ioctls').read()
assert 'ttyS 0x4004b504 SPINDLE_SHARE' in listed and 'ttyS 0x8018b501' not in listed, listed
END
         setsid -w python3 $T/p.py $M; let_go"
    ));
}
