//! Tapes: records, files, ends, and the programs that have used them for fifty years.

use crate::house::House;
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("three_archives_and_the_second_comes_back", &["mt-st", "tar"], three_archives),
    check("finished_files_outlive_a_kill", &["mt-st", "tar"], kill_between_files),
    check("if_02_records_marks_and_directions", &["python3", "mt-st"], records),
    check("records_longer_than_the_host_moves_at_once", &["python3"], long_records),
    check("long_records_on_tmpfs_go_into_large_pages", &["/dev/shm"], large_pages),
    check("a_tape_is_measured_as_amtapetype_does", &["python3"], measured),
    check("rs_02_a_tape_has_one_opener", &[], one_opener),
    check("closing_and_opening_again_is_never_busy", &["python3"], never_busy),
    check("if_07_every_command_of_mt", &["mt-st"], commands),
    check("the_end_of_a_tape_is_told_in_time", &["python3"], end_of_tape),
    check("an_archive_of_several_volumes", &["tar", "mt-st"], volumes),
    check("blocking_appending_and_cpio", &["tar", "cpio", "mt-st"], other_programs),
    check("tapes_are_loaded_and_ejected", &["mt-st"], media),
    check("a_slow_tape_is_left_at_a_signal", &["mt-st", "timeout"], called_away),
    check("a_write_called_away_tells_what_was_written", &["python3"], called_away_in_mid_record),
    check("er_04_a_bad_tape_tells_its_sense", &["python3"], bad_tape),
];

/// A tree of `$T/tree` with files of all sizes, and a copy of it for each archive.
const TREE: &str = "mkdir -p $T/tree/sub; for i in 0 1 511 512 513 10240 100000 1000000; do \
    head -c $i /dev/urandom > $T/tree/f$i; done; ln -s ../f1 $T/tree/sub/link; ";

fn three_archives() {
    let h = House::new();
    h.sh(&format!(
        "{TREE} for i in 1 2 3; do echo $i > $T/tree/which; tar cf $M/dev/nst0 -C $T/tree .; done
         export TAPE=$M/dev/nst0
         mt-st rewind; mt-st fsf 1; mkdir $T/x; tar xf $TAPE -C $T/x
         echo 2 > $T/tree/which; diff -r $T/tree $T/x
         mt-st eod; mt-st status | grep -q 'File number=3,'
         mt-st seod; mt-st bsfm 3; mt-st status | grep -q 'File number=1, block number=0'
         mkdir $T/y; tar xf $TAPE -C $T/y; diff -r $T/tree $T/y
         mt-st rewind; mt-st fsf 2; tar xf $TAPE -C $T/y; [ $(cat $T/y/which) = 3 ]"
    ));
}

fn kill_between_files() {
    let h = House::new();
    h.sh(&format!("{TREE} tar cf $M/dev/nst0 -C $T/tree .; tar cf $M/dev/nst0 -C $T/tree ."));
    h.sh("until mt-st -f $M/dev/nst0 tell >/dev/null; do :; done"); // both closes were heard of
    h.kill();
    h.mount();
    h.sh("for i in 1 2; do mkdir $T/x$i; tar xf $M/dev/nst0 -C $T/x$i; diff -r $T/tree $T/x$i
            mt-st -f $M/dev/nst0 fsf 1 || [ $i = 2 ]; done
          mt-st -f $M/dev/nst0 eod; mt-st -f $M/dev/nst0 status | grep -q 'File number=2'");
}

/// A tape on tmpfs has the host's large pages, where it has any, whatever is done to save memory in
/// a machine with a small cache.
fn large_pages() {
    let Ok(place) = tempfile::tempdir_in("/dev/shm") else { return };
    let image = format!("st0.image={}/st0.tap", place.path().display());
    let mapped = ["cache.size=256M", "cache.size=16M"].map(|size| {
        let h = House::with(&["--set", &image, "--set", size]);
        h.sh("dd if=/dev/zero of=$M/dev/st0 bs=256K count=16 status=none");
        let rollup = format!("/proc/{}/smaps_rollup", h.pid());
        h.sh(&format!("awk '/^ShmemPmdMapped:/ {{ print ($2 > 0) }}' {rollup}"))
    });
    assert_eq!(mapped[0], mapped[1]);
}

/// What a program sees that writes and reads records itself. `errno` is told by name.
const RECORDS: &str = r"
import os, sys, errno, fcntl, struct
n, st = sys.argv[1] + '/dev/nst0', sys.argv[1] + '/dev/st0'
def fails(name, call, *args):
    try: call(*args)
    except OSError as e: assert errno.errorcode[e.errno] == name, (name, e)
    else: raise AssertionError(name)
def op(fd, op, count=1): fcntl.ioctl(fd, 0x40086d01, struct.pack('hxxi', op, count))
fd = os.open(n, os.O_RDWR)
fails('ESPIPE', os.lseek, fd, 0, 0)
big = os.urandom((1 << 20) - 4096)
for record in [b'a' * 100, b'b' * 5000, big, b'c']: assert os.write(fd, record) == len(record)
op(fd, 5); op(fd, 6)
fails('ENOMEM', os.read, fd, 99)
assert os.read(fd, 8192) == b'b' * 5000, 'a short read of the next record'
assert os.read(fd, 1 << 20) == big
assert os.read(fd, 10) == b'c'
assert os.read(fd, 10) == b'', 'a mark'
fails('EIO' if os.read(fd, 10) != b'' else 'EIO', os.read, fd, 10)
op(fd, 6)
assert os.readv(fd, [bytearray(60), bytearray(60)]) == 100
fails('EINVAL', op, fd, 19)
fails('ENOTTY', fcntl.ioctl, fd, 0x80081272, bytes(8))
fails('ENOTTY', fcntl.ioctl, fd, 0x400c6d01, bytes(12))
os.close(fd)
fd = os.open(n, os.O_RDONLY)
fails('EBADF', os.write, fd, b'x')
assert os.read(fd, 6000) == b'b' * 5000, 'nst0 stands where it was left'
os.close(fd)
fd = os.open(st, os.O_RDONLY); os.close(fd)
fd = os.open(st, os.O_RDONLY)
assert len(os.read(fd, 200)) == 100, 'st0 was rewound'
";

fn records() {
    let h = House::new();
    h.sh(&format!("cat > $T/p.py <<'END'\n{RECORDS}\nEND\npython3 $T/p.py $M"));
    h.sh("mt-st -f $M/dev/st0 rewind; echo x > $M/dev/st0
          ! dd if=$M/dev/st0 of=/dev/null bs=1 count=1 2>$T/e; grep -q 'Cannot allocate' $T/e
          [ $(cat $M/dev/st0) = x ]");
}

fn one_opener() {
    let h = House::new();
    let said = h.try_sh("exec 4<>$M/dev/st0; cat $M/dev/st0");
    assert!(said.status == 1 && said.err.contains("busy"), "{said:?}");
    h.sh("exec 4<>$M/dev/st0; ! : 2>$T/e <$M/dev/nst0; grep -q busy $T/e
          (echo inherited >&4); exec 5>&4 4>&-; echo more >&5; exec 5>&-; : <$M/dev/st0
          for i in 4 5 6 7 8 9; do eval \"exec $i<$M/dev/sd0\"; done");
}

/// Opens and closes; with `$2` processes, each after the other's close has returned.
const CYCLES: &str = r"
import os, sys
node, people, cycles = sys.argv[1] + '/dev/nst0', int(sys.argv[2]), int(sys.argv[3])
pipes = [os.pipe() for _ in range(people)]
for me in range(people):
    if os.fork() == 0:
        busy = 0
        for _ in range(cycles // people):
            os.read(pipes[me][0], 1)
            try: os.close(os.open(node, os.O_RDWR))
            except OSError as e: busy += 1; print(e)
            os.write(pipes[(me + 1) % people][1], b'x')
        os._exit(1 if busy else 0)
os.write(pipes[0][1], b'x')
sys.exit(max(os.wait()[1] for _ in range(people)) >> 8)
";

fn never_busy() {
    let cycles = std::env::var("SPINDLE_CYCLES").unwrap_or_else(|_| "2000".into());
    let h = House::new();
    h.sh(&format!("cat > $T/p.py <<'END'\n{CYCLES}\nEND"));
    for people in [1, 4] {
        let said = h.try_sh(&format!("python3 $T/p.py $M {people} {cycles} | sort | uniq -c"));
        assert!(said.status == 0, "{people} in turn: {said:?}");
    }
}

fn commands() {
    let h = House::new();
    h.sh("export TAPE=$M/dev/nst0; for i in 1 2 3; do for j in 1 2 3 4; do echo $i$j; done |
            dd of=$TAPE bs=3 status=none; done
          at() { mt-st status | grep -q \"File number=$1, block number=$2,\" || mt-st status; }
          [ -z \"$(at 3 0)\" ]; mt-st bsf 2; mt-st fsf 1; [ -z \"$(at 2 0)\" ]; mt-st fsr 3
          [ -z \"$(at 2 3)\" ]; mt-st bsr 1; [ $(dd if=$TAPE bs=3 count=1 status=none) = 33 ]
          mt-st asf 1; [ $(dd if=$TAPE bs=3 count=1 status=none) = 21 ]; mt-st fsfm 1
          mt-st rewind; mt-st seek 6; [ $(dd if=$TAPE bs=3 count=1 status=none) = 22 ]
          mt-st tell | grep -q 7; mt-st setblk 3; mt-st status | grep -q 'block size 3'
          [ \"$(dd if=$TAPE bs=6 count=1 status=none)\" = \"$(printf '23\\n24')\" ]; mt-st setblk 0
          mt-st weof 2; mt-st retension; mt-st setdensity 0x44; mt-st status | grep -q 0x44
          mt-st lock; mt-st unlock; mt-st rewind; mt-st erase; mt-st offline
          mt-st load; mt-st status | grep -q BOT");
    let said = h.try_sh("mt-st -f $M/dev/sd0 rewind");
    assert!(said.err.contains("Inappropriate ioctl"), "a tape command on a disk: {said:?}");
    let line = h.sh("grep '^nst0 c 9:128 st ' $M/proc/status");
    assert!(line.contains("medium=loaded position=0 file=0 block=0 density=0x44"), "{line}");
}

/// Writes until the very end: first each second write fails, in warning, then all do.
const END: &str = r"
import os, sys, errno
fd = os.open(sys.argv[1] + '/dev/nst0', os.O_RDWR)
told, wrote = [], 0
while wrote < 1000:
    try: os.write(fd, b'r' * 65536); wrote += 1; told.append('ok')
    except OSError as e:
        told.append(errno.errorcode[e.errno])
        if e.errno == errno.EIO: break
first = told.index('ENOSPC')
assert first > 10 and set(told[:first]) == {'ok'}, told
assert told[first + 1] == 'ok', 'a trailer fits behind the warning'
assert told[-1] == 'EIO'
os.close(fd)
fd = os.open(sys.argv[1] + '/dev/st0', os.O_RDWR); os.close(fd)
fd = os.open(sys.argv[1] + '/dev/nst0', os.O_RDONLY)
read = 0
while len(os.read(fd, 65536)) == 65536: read += 1
assert read == wrote, (read, wrote)
";

fn end_of_tape() {
    let h = House::with(&["--set", "st0.size=4M"]);
    h.sh(&format!("cat > $T/p.py <<'END'\n{END}\nEND\npython3 $T/p.py $M"));
}

fn volumes() {
    let h = House::with(&["--set", "st0.size=1M"]);
    h.sh("mkdir $T/tree; head -c 2500000 /dev/urandom > $T/tree/big; echo 1 > $T/n
          cat > $T/next <<'END'
#!/bin/sh
n=$(($(cat $T/n) + 1)); echo $n > $T/n
spindle --at $M ctl 'eject st0' >&2 && spindle --at $M ctl \"load st0 $T/volume$n.tap\" >&2
END
          chmod +x $T/next; ctl eject st0; ctl load st0 $T/volume1.tap
          tar cMf $M/dev/st0 -F $T/next -C $T/tree .; [ $(cat $T/n) = 3 ]
          ctl eject st0; ctl load st0 $T/volume1.tap; echo 1 > $T/n; mkdir $T/x
          tar xMf $M/dev/st0 -F $T/next -C $T/x; diff -r $T/tree $T/x");
}

fn other_programs() {
    let h = House::new();
    h.sh(&format!(
        "{TREE} export TAPE=$M/dev/nst0
         tar -b 128 -cf $TAPE -C $T/tree .; mt-st rewind
         [ $(dd if=$TAPE bs=1M count=1 status=none | wc -c) = 65536 ]; mt-st rewind
         mkdir $T/b; tar -b 128 -xf $TAPE -C $T/b; diff -r $T/tree $T/b; mt-st rewind
         echo more > $T/tree/more; tar -b 128 -rf $M/dev/st0 -C $T/tree more
         tar -b 128 -xf $M/dev/st0 -C $T/b; diff -r $T/tree $T/b
         (cd $T/tree; find . | cpio -o -H crc -C 65536 -O $TAPE 2>/dev/null); mt-st rewind
         mkdir $T/c; (cd $T/c; cpio -id -C 65536 -I $TAPE 2>/dev/null); diff -r $T/tree $T/c
         mt-st rewind; mt-st erase; dd if=$T/tree/f100000 of=$TAPE bs=10000 status=none
         mt-st rewind; dd if=$TAPE bs=32k status=none | cmp - $T/tree/f100000
         mt-st rewind; mt-st fsr 9; [ $(dd if=$TAPE bs=32k status=none | wc -c) = 10000 ]"
    ));
}

fn media() {
    let h = House::new();
    let letter = format!("load st0 {}/letter", h.scratch().display());
    h.sh(
        "echo mine > $M/dev/st0; ctl eject st0; ! : 2>$T/e <$M/dev/st0; grep -q 'No such dev' $T/e
          grep -q 'medium=none' $M/proc/status
          mt-st -f $M/dev/nst0 status | grep -q DR_OPEN
          cd $T; ctl load st0 s/st0.tap ro; [ $(cat $M/dev/st0) = mine ]
          ! echo x 2>$T/e >$M/dev/st0; grep -q 'Read-only' $T/e
          mt-st -f $M/dev/nst0 status | grep -q WR_PROT
          ctl eject st0; ctl load st0 other.tap; echo other > $M/dev/st0
          [ $(od -An -tu4 -N4 other.tap) = 6 ]; ctl eject st0; ctl load st0 s/st0.tap
          [ $(cat $M/dev/st0) = mine ]
          seq 9999 > $T/letter; cp $T/letter $T/copy",
    );
    for (line, words) in [
        ("load st0 /nowhere/x.tap", "st0"),
        ("load sd0 x", "sd0 takes no media"),
        (
            letter.as_str(),
            "letter is no tape image (SIMH .tap): its first record makes no sense; name",
        ),
        ("load st9 x", "no device st9 (did you mean st0?)"),
        ("load st0 x rw", "rw is not ro"),
        ("eject null", "takes no media"),
        ("set st0.timing warp", "st0.timing"),
        ("get st0.colour", "there are: timing"),
    ] {
        let said = h.refused(line);
        assert!(said.contains(words), "{line}: {said}");
    }
    h.sh("cmp $T/letter $T/copy; [ $(cat $M/dev/st0) = mine ]
          exec 3<$M/dev/nst0; ! ctl eject st0 2>$T/e; grep -q 'in use' $T/e");
    h.umount();
    // Nor is a machine switched on with it.
    let said = h.try_sh("spindle mount $M --state $S --set st0.image=$T/letter");
    let is_told = said.err.contains("letter is no tape image (SIMH .tap)");
    assert!(said.status == 1 && is_told, "{said:?}");
    h.sh("cmp $T/letter $T/copy");
}

/// A rewinding takes 1.6 s; the limit leaves room for a busy host.
fn called_away() {
    let h = House::with(&["--set", "st0.timing=dlt8000"]);
    h.sh("dd if=/dev/zero of=$M/dev/nst0 bs=256k count=40 status=none
          for s in TERM INT KILL; do
            a=$(date +%s%N); timeout -s $s 0.2 mt-st -f $M/dev/nst0 rewind && exit 1 || r=$?
            b=$(date +%s%N); [ $r = 124 ] || [ $r = 137 ]; [ $(((b - a) / 1000000)) -lt 600 ]
            until mt-st -f $M/dev/nst0 eod 2>/dev/null; do sleep 0.02; done # KILL is not waited for
          done");
}

fn bad_tape() {
    let h = House::new();
    h.sh("for i in 1 2 3; do echo $i; done | dd of=$M/dev/nst0 bs=2 status=none
          mt-st -f $M/dev/nst0 rewind 2>/dev/null || :
          ctl fault add bad on st0 op=read do error EIO
          ! cat $M/dev/nst0 2>$T/e; grep -q 'Input/output' $T/e
          grep -q '^nst0 .*sense 3/' $M/proc/errors
          exec 4<$M/dev/nst0; python3 -c 'import fcntl, struct
l = fcntl.ioctl(4, 0x8018b501, bytes(24))
assert l[0] == 3 and l[3] & 1 and struct.unpack(\"i\", l[4:8])[0] == 5, l'; exec 4<&-
          ctl fault clear; [ $(cat $M/dev/st0 | wc -c) -gt 0 ]");
}

/// Writes records under a rain of signals, each again that answered EINTR, as programs do.
const RAIN: &str = r"
import errno, fcntl, os, signal, struct, sys
node = sys.argv[1] + '/dev/nst0'
heard = 0
def drop(*_):
    global heard
    heard += 1
signal.signal(signal.SIGALRM, drop)
signal.siginterrupt(signal.SIGALRM, True)
fd = os.open(node, os.O_RDWR)
libc_write = __import__('ctypes').CDLL(None, use_errno=True).write
signal.setitimer(signal.ITIMER_REAL, 0.03, 0.03)
broken = 0
import ctypes
for i in range(12):
    record = struct.pack('I', i) * (128 << 10)
    while True:
        n = libc_write(fd, record, len(record))
        if n == len(record): break
        assert n == -1 and ctypes.get_errno() == errno.EINTR, (n, ctypes.get_errno())
        broken += 1
signal.setitimer(signal.ITIMER_REAL, 0)
os.close(fd)
fd = os.open(sys.argv[1] + '/dev/st0', os.O_RDONLY); os.close(fd)
fd = os.open(node, os.O_RDONLY)
seen = []
while True:
    data = os.read(fd, 1 << 20)
    if not data: break
    assert len(data) == 512 << 10
    seen.append(struct.unpack('I', data[:4])[0])
assert seen == list(range(12)), seen
assert heard >= 5, heard
";

fn called_away_in_mid_record() {
    let h = House::with(&["--set", "st0.timing=dlt8000"]);
    h.sh(&format!("cat > $T/p.py <<'END'\n{RAIN}\nEND\ntimeout 100 python3 $T/p.py $M"));
    h.sh("dd if=/dev/zero of=$M/dev/nst0 bs=512k count=1 status=none
          ctl freeze st0; timeout -s KILL 0.3 dd if=/dev/zero of=$M/dev/nst0 bs=512k count=1 \
              2>/dev/null && exit 1 || [ $? = 137 ]
          ctl thaw st0 || :; ctl repair st0
          until mt-st -f $M/dev/nst0 rewind; do sleep 0.05; done");
}

const LONG: &str = r"
import errno, fcntl, os, struct, sys
fd = os.open(sys.argv[1] + '/dev/nst0', os.O_RDWR)
sizes = [(1 << 20) - 4096, 1 << 20, (3 << 20) + 5, 10_000_001, 7]
records = [os.urandom(size) for size in sizes]
for record in records: assert os.write(fd, record) == len(record)
os.close(fd)
fd = os.open(sys.argv[1] + '/dev/st0', os.O_RDONLY); os.close(fd)
fd = os.open(sys.argv[1] + '/dev/nst0', os.O_RDONLY)
for record in records: assert os.read(fd, 12 << 20) == record, len(record)
assert os.read(fd, 10) == b'', 'the mark of the close'
fcntl.ioctl(fd, 0x40086d01, struct.pack('hxxi', 6, 1))
assert struct.unpack('q', fcntl.ioctl(fd, 0x80086d03, bytes(8)))[0] == 0, 'MTIOCPOS'
fcntl.ioctl(fd, 0x40086d01, struct.pack('hxxi', 3, 4))
assert struct.unpack('q', fcntl.ioctl(fd, 0x80086d03, bytes(8)))[0] == 4, 'five records, no more'
assert os.read(fd, 100) == records[4]
";

fn long_records() {
    let h = House::new();
    h.sh(&format!("cat > $T/p.py <<'END'\n{LONG}\nEND\npython3 $T/p.py $M"));
}

/// Fills a tape with blocks, then again with a mark after each few, and reads both back.
const MEASURED: &str = r"
import errno, fcntl, os, struct, sys
def op(fd, op, count=1): fcntl.ioctl(fd, 0x40086d01, struct.pack('hxxi', op, count))
def fill(every):
    fd = os.open(sys.argv[1] + '/dev/nst0', os.O_RDWR)
    op(fd, 6)
    blocks = marks = 0
    while True:
        try:
            assert os.write(fd, struct.pack('I', blocks) * 8192) == 32768
            blocks += 1
            if every and blocks % every == 0: op(fd, 5); marks += 1
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
            break
    op(fd, 5); op(fd, 6)
    seen = ends = 0
    while True:
        data = os.read(fd, 65536)
        if data:
            assert len(data) == 32768 and struct.unpack('I', data[:4])[0] == seen, seen
            seen, ends = seen + 1, 0
        elif ends: break
        else: ends += 1
    assert seen == blocks, (seen, blocks)
    os.close(fd)
    return blocks
plain, marked = fill(0), fill(10)
# A mark written in warning is a write that heard of it: one more block may follow.
assert 200 < marked <= plain + 1 < 256, (plain, marked)
";

fn measured() {
    let h = House::with(&["--set", "st0.size=8M"]);
    h.sh(&format!("cat > $T/p.py <<'END'\n{MEASURED}\nEND\npython3 $T/p.py $M"));
}
