//! The buffer cache as seen from outside: what is read once, what is written when, what is lost
//! when: rows BC of the block path.

use crate::house::{House, wait_for};
use crate::{Check, check};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

pub const CHECKS: &[Check] = &[
    check("bc_01_a_hit_needs_no_physical_read", &[], hits),
    check("bc_02_the_least_recently_used_goes", &[], replacement),
    check("bc_03_writes_are_delayed_and_rewrites_cost_nothing", &[], delayed),
    check("bc_04_nothing_stays_dirty_longer_than_flush_age", &[], flush_age),
    check("bc_04_thirty_seconds_by_default", &[], thirty_seconds),
    check("bc_05_synchronous_when_asked", &["blockdev"], synchronous),
    check("bc_07_readers_see_what_is_not_yet_written", &[], shared),
    check("bc_08_delayed_writes_are_gathered", &[], gathered),
    check("bc_09_the_only_copy_is_not_dropped", &[], only_copy),
    check("bc_10_raw_needs_whole_sectors_also_of_4096_bytes", &[], big_sectors),
    check("bc_11_raw_bypasses_the_cache", &[], raw_bypass),
    check("bc_12_direct_io_is_unbuffered_and_aligned", &[], direct),
    check("bc_13_direct_io_is_coherent", &[], coherent),
    check("if_19_a_vector_is_one_request", &[], vectored),
    check("a_disk_can_be_mapped", &["python3"], mapped),
    check("ioctls_of_a_disk", &["python3", "blockdev"], ioctls),
    check("holes_come_back", &["fallocate", "python3"], holes),
];

/// A number of `proc/bufcache`.
fn bufcache(h: &House, key: &str) -> u64 {
    let text = h.text("proc/bufcache");
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("{key} ")));
    found.unwrap_or_else(|| panic!("no {key} in {text}")).trim().parse().expect("a number")
}

/// Fields of a disk's line of `proc/diskstats`, from the reads completed on.
fn diskstats(h: &House, disk: &str) -> Vec<u64> {
    let text = h.text("proc/diskstats");
    let line = text.lines().find(|line| line.split_whitespace().nth(2) == Some(disk));
    let line = line.unwrap_or_else(|| panic!("no {disk} in {text}"));
    line.split_whitespace().skip(3).map(|field| field.parse().expect("a number")).collect()
}

fn reads(h: &House, disk: &str) -> u64 {
    diskstats(h, disk)[0]
}

fn writes(h: &House, disk: &str) -> u64 {
    diskstats(h, disk)[4]
}

fn open(h: &House, node: &str) -> File {
    File::options().read(true).write(true).open(h.tree().join("dev").join(node)).expect("it opens")
}

fn image_byte(h: &House, image: &str, at: u64) -> u8 {
    let mut byte = [0];
    let file = File::open(h.state().join(image)).expect("the image opens");
    file.read_exact_at(&mut byte, at).expect("a byte");
    byte[0]
}

fn hits() {
    let h = House::new();
    let disk = open(&h, "hd0");
    h.ctl("cache drop");
    let mut block = [0; 512];
    let (hits, misses, physical) = (bufcache(&h, "hits"), bufcache(&h, "misses"), reads(&h, "hd0"));
    let begun = Instant::now();
    disk.read_exact_at(&mut block, 8 << 20).expect("a read");
    let cold = begun.elapsed();
    assert_eq!((bufcache(&h, "misses"), reads(&h, "hd0")), (misses + 1, physical + 1));
    let begun = Instant::now();
    disk.read_exact_at(&mut block, 8 << 20).expect("a read");
    let warm = begun.elapsed();
    assert_eq!((bufcache(&h, "hits"), reads(&h, "hd0")), (hits + 1, physical + 1));
    assert!(warm * 10 < cold, "warm {warm:?}, cold {cold:?}");

    let disk = open(&h, "sd0");
    disk.read_exact_at(&mut block, 40960).expect("a read");
    let image = File::options().write(true).open(h.state().join("sd0.img")).expect("the image");
    image.write_all_at(b"behind", 40960).expect("a write behind its back");
    disk.read_exact_at(&mut block, 40960).expect("a read");
    assert_eq!(block[0], 0, "a hit shows what the medium had when it was read");
    h.ctl("cache drop");
    disk.read_exact_at(&mut block, 40960).expect("a read");
    assert_eq!(&block[..6], b"behind");
}

fn replacement() {
    let h = House::with(&["--set", "cache.size=32K"]);
    let disk = open(&h, "sd0");
    h.ctl("cache drop");
    let mut half = [0; 512]; // less than a block: one read to its end would age at once
    let mut read = |block: u64| {
        let before = bufcache(&h, "misses");
        disk.read_exact_at(&mut half, block * 4096).expect("a read");
        bufcache(&h, "misses") - before
    };
    for block in [10, 30, 20, 50, 40, 70, 60, 80] {
        assert_eq!(read(block), 1);
    }
    assert_eq!(read(10), 0);
    assert_eq!(read(99), 1);
    assert_eq!(read(10), 0, "the one just touched stayed");
    assert_eq!(read(30), 1, "the least recently used went");
    assert!(bufcache(&h, "used") <= bufcache(&h, "capacity"));

    let pattern: Vec<u8> = (0..255_u8).cycle().take(1 << 20).collect();
    disk.write_all_at(&pattern, 1 << 20).expect("a write 32 times the cache");
    let mut back = vec![0; 1 << 20];
    disk.read_exact_at(&mut back, 1 << 20).expect("a read");
    assert!(back == pattern);
    assert!(bufcache(&h, "used") <= bufcache(&h, "capacity"));
}

fn delayed() {
    let h = House::new();
    let disk = open(&h, "sd0");
    disk.write_all_at(b"X", 4096).expect("a write");
    assert_eq!(image_byte(&h, "sd0.img", 4096), 0);
    assert_eq!(bufcache(&h, "dirty"), 1);
    for round in 0..10_u8 {
        disk.write_all_at(&[b'a' + round], 4096).expect("a write");
    }
    let before = writes(&h, "sd0");
    disk.sync_all().expect("fsync");
    assert_eq!(writes(&h, "sd0"), before + 1);
    assert_eq!(image_byte(&h, "sd0.img", 4096), b'j');
    assert_eq!(bufcache(&h, "dirty"), 0);
}

/// Writes a byte, rewriting it every half second, and says when the image had one of them.
fn time_to_image(h: &House, rewrites: bool, limit: Duration) -> Duration {
    let disk = open(h, "sd0");
    disk.write_all_at(b"1", 9000).expect("a write");
    let begun = Instant::now();
    let mut rewritten = Instant::now();
    while image_byte(h, "sd0.img", 9000) == 0 {
        assert!(begun.elapsed() < limit, "not in the image after {limit:?}");
        if rewrites && rewritten.elapsed() > Duration::from_millis(500) {
            disk.write_all_at(b"2", 9000).expect("a rewrite");
            rewritten = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

fn flush_age() {
    for rewrites in [false, true] {
        let h = House::with(&["--set", "cache.flush_age=5s"]);
        let took = time_to_image(&h, rewrites, Duration::from_millis(5500));
        assert!(took > Duration::from_secs(2), "already there after {took:?}");
    }
}

fn thirty_seconds() {
    let h = House::new();
    let took = time_to_image(&h, true, Duration::from_millis(30_500));
    assert!(took > Duration::from_secs(20), "already there after {took:?}");
}

fn synchronous() {
    let h = House::with(&["--set", "cache.flush_age=1000s"]);
    let ways = [
        "printf 1 | dd of=$M/dev/sd0 bs=1 seek=4096 conv=notrunc status=none; sync $M/dev/sd0",
        "printf 2 | dd of=$M/dev/sd0 bs=1 seek=4096 conv=notrunc oflag=sync status=none",
        "printf 3 | dd of=$M/dev/sd0 bs=1 seek=4096 conv=notrunc,fsync status=none",
        "printf 4 | dd of=$M/dev/sd0 bs=1 seek=4096 conv=notrunc status=none
         blockdev --flushbufs $M/dev/sd0",
        "ctl set sd0.sync on
         printf 5 | dd of=$M/dev/sd0 bs=1 seek=4096 conv=notrunc status=none",
        "ctl set sd0.sync off
         printf 6 | dd of=$M/dev/sd0 bs=1 seek=4096 conv=notrunc status=none; ctl sync sd0",
    ];
    for (way, byte) in ways.iter().zip(b"123456") {
        h.sh(way);
        assert_eq!(image_byte(&h, "sd0.img", 4096), *byte, "{way}");
        assert_eq!(bufcache(&h, "dirty"), 0, "{way}");
    }
    h.sh(
        "ctl set sd0.sync on; printf 7 | dd of=$M/dev/sd1 bs=1 seek=4096 conv=notrunc status=none",
    );
    assert_eq!(image_byte(&h, "sd1.img", 4096), 0, "another disk's writes stay delayed");
}

fn shared() {
    let h = House::with(&["--set", "cache.flush_age=1000s"]);
    h.sh(
        "head -c 1M /dev/urandom > $T/f; dd if=$T/f of=$M/dev/sd0 bs=64k conv=notrunc status=none",
    );
    let before = reads(&h, "sd0");
    h.sh("head -c 1M $M/dev/sd0 | cmp - $T/f");
    assert_eq!(reads(&h, "sd0"), before, "read from the cache");
    assert_eq!(h.sh("head -c 1M $S/sd0.img | tr -d '\\0' | wc -c"), "0");
    h.ctl("sync");
    h.ctl("cache drop");
    let disk = open(&h, "sd0");
    disk.write_all_at(b"mid", 5000).expect("a partial write over a cold block");
    h.sh("printf mid | dd of=$T/f bs=1 seek=5000 conv=notrunc status=none
          head -c 1M $M/dev/sd0 | cmp - $T/f; sync $M/dev/sd0; head -c 1M $S/sd0.img | cmp - $T/f");
}

fn commands(h: &House, disk: &str) -> u64 {
    let text = h.text("proc/perf");
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("{disk} commands ")));
    found.expect("a count of commands").parse().expect("a number")
}

fn gathered() {
    let h = House::with(&["--set", "cache.flush_age=1000s"]);
    let disk = open(&h, "sd0");
    let piece = |n: u64| vec![u8::try_from(n % 251).unwrap() + 1; 512];
    let before = commands(&h, "sd0");
    for n in 0..256_u64 {
        let n = n * 167 % 256; // each once, in no order
        disk.write_all_at(&piece(n), n * 512).expect("a write");
    }
    disk.sync_all().expect("fsync");
    let used = commands(&h, "sd0") - before;
    assert!(used <= 4, "{used} commands for 256 adjacent pieces");
    let image = std::fs::read(h.state().join("sd0.img")).expect("the image");
    for n in 0..256_usize {
        assert_eq!(image[n * 512..(n + 1) * 512], piece(n as u64)[..]);
    }
    let before = writes(&h, "sd0");
    h.sh("dd if=/dev/urandom of=$M/dev/sd0 bs=512 count=256 oflag=sync conv=notrunc status=none");
    assert_eq!(writes(&h, "sd0") - before, 256);
}

fn only_copy() {
    let h = House::with(&["--set", "cache.flush_age=1000s"]);
    let disk = open(&h, "sd0");
    disk.write_all_at(&[7; 4096], 0).expect("a write");
    disk.read_exact_at(&mut [0; 512], 1 << 20).expect("a read");
    h.ctl("cache drop");
    assert_eq!((bufcache(&h, "used"), bufcache(&h, "dirty")), (1, 1));
    disk.sync_all().expect("fsync");
    let before = reads(&h, "sd0");
    let mut back = [0; 4096];
    disk.read_exact_at(&mut back, 0).expect("a read");
    assert_eq!((back[0], reads(&h, "sd0")), (7, before));
    assert!(h.text("proc/bufcache").lines().any(|line| line.starts_with("sd0 0 clean")));
}

fn big_sectors() {
    let h = House::with(&["--set", "sd1.sector=4096"]);
    h.sh("dd if=$M/dev/rsd1 of=/dev/null bs=4096 count=3 status=none
          printf hello | dd of=$M/dev/sd1 bs=1 seek=70000 conv=notrunc,fsync status=none
          [ \"$(tail -c +70001 $S/sd1.img | head -c 5)\" = hello ]");
    for script in [
        "dd if=$M/dev/rsd1 of=/dev/null bs=512 count=1",
        "dd if=/dev/zero of=$M/dev/rsd1 bs=512 count=1 conv=notrunc",
        "dd if=$M/dev/sd1 of=/dev/null bs=512 count=1 iflag=direct",
    ] {
        let said = h.try_sh(script);
        assert!(said.err.contains("Invalid argument"), "{script}: {said:?}");
    }
}

fn raw_bypass() {
    let h = House::with(&["--set", "cache.flush_age=1000s"]);
    let (disk, raw) = (open(&h, "sd0"), open(&h, "rsd0"));
    disk.write_all_at(&[9; 512], 8192).expect("a write");
    let mut sector = [1; 512];
    raw.read_exact_at(&mut sector, 8192).expect("a raw read");
    assert_eq!(sector[0], 0, "the raw node shows the medium");
    let said = h.try_sh("cmp $M/dev/sd0 $M/dev/rsd0");
    assert!(said.out.contains(" 8193,"), "what a power cut would lose: {said:?}");
    let (before, stats) = (reads(&h, "sd0"), ["hits", "misses", "used"].map(|k| bufcache(&h, k)));
    for _ in 0..100 {
        raw.read_exact_at(&mut sector, 4096).expect("a raw read");
    }
    assert_eq!(reads(&h, "sd0"), before + 100);
    assert_eq!(["hits", "misses", "used"].map(|k| bufcache(&h, k)), stats);
    raw.write_all_at(&[3; 512], 1 << 20).expect("a raw write");
    assert_eq!(image_byte(&h, "sd0.img", 1 << 20), 3, "in the image on return");
    disk.sync_all().expect("fsync");
    raw.read_exact_at(&mut sector, 8192).expect("a raw read");
    assert_eq!(sector[0], 9);
    // A dirty buffer stays under a raw write, and overwrites only its dirty sectors.
    disk.write_all_at(&[5; 512], 16384).expect("a write");
    raw.write_all_at(&[6; 4096], 16384).expect("a raw write");
    disk.sync_all().expect("fsync");
    assert_eq!([16384, 16896].map(|at| image_byte(&h, "sd0.img", at)), [5, 6]);
}

fn direct() {
    let h = House::new();
    h.ctl("cache drop");
    let (before, used) = (reads(&h, "sd0"), bufcache(&h, "used"));
    h.sh("for i in $(seq 100); do
            dd if=$M/dev/sd0 of=/dev/null bs=4096 count=1 iflag=direct status=none; done");
    assert_eq!((reads(&h, "sd0"), bufcache(&h, "used")), (before + 100, used));
    h.sh("fill D 4096 > $T/d
          dd if=$T/d of=$M/dev/sd0 bs=4096 seek=500 count=1 oflag=direct conv=notrunc status=none");
    assert_eq!((image_byte(&h, "sd0.img", 501 * 4096 - 1), bufcache(&h, "used")), (b'D', used));
    for script in [
        "dd if=$M/dev/sd0 of=/dev/null bs=100 count=1 iflag=direct",
        "dd if=$M/dev/sd0 of=/dev/null bs=512 skip=7 count=1 iflag=direct,skip_bytes",
    ] {
        let said = h.try_sh(script);
        assert!(said.err.contains("Invalid argument"), "{script}: {said:?}");
    }
}

fn coherent() {
    let h = House::with(&["--set", "cache.flush_age=1000s"]);
    h.sh("printf NEW | dd of=$M/dev/sd0 bs=1 seek=4096 conv=notrunc status=none
          direct=$(dd if=$M/dev/sd0 bs=4096 skip=1 count=1 iflag=direct status=none | tr -d '\\0')
          [ $direct = NEW ]
          head -c 3 $M/dev/sd0 >/dev/null
          fill D 8192 | dd of=$M/dev/sd0 bs=8192 oflag=direct conv=notrunc status=none
          [ \"$(head -c 3 $M/dev/sd0)\" = DDD ]");
}

fn vectored() {
    use std::io::{IoSlice, Seek, SeekFrom, Write};
    let h = House::new();
    h.ctl("trace on");
    let mut disk = open(&h, "sd0");
    disk.seek(SeekFrom::Start(100)).expect("a seek");
    let parts = [vec![1; 10], vec![2; 5000], vec![3; 3]];
    let vector: Vec<IoSlice> = parts.iter().map(|part| IoSlice::new(part)).collect();
    assert_eq!(disk.write_vectored(&vector).expect("writev"), 5013);
    let calls = |h: &House| h.text("proc/trace").matches(" call step=1 sd0 write ").count();
    assert_eq!(calls(&h), 1, "{}", h.text("proc/trace"));
    for part in &parts {
        disk.write_all(part).expect("a write");
    }
    assert_eq!(calls(&h), 4);
    let mut back = vec![0; 5013];
    disk.read_exact_at(&mut back, 100).expect("a read");
    assert!(back == parts.concat());
}

fn mapped() {
    let h = House::new();
    h.sh("python3 - $M/dev/sd0 <<'E'
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
m = mmap.mmap(fd, 1 << 20, mmap.MAP_SHARED)
assert m[5000] == 0
m[5000:5005] = b'hello'
m.flush()
os.fsync(fd)
assert os.pread(fd, 5, 5000) == b'hello'
E
          [ \"$(tail -c +5001 $S/sd0.img | head -c 5)\" = hello ]");
}

fn ioctls() {
    let h = House::new();
    assert_eq!(
        h.sh(
            "blockdev --getbsz --getss --getpbsz --getiomin --getsize64 --getsz --getro $M/dev/sd0"
        ),
        "4096\n512\n512\n512\n67108864\n131072\n0"
    );
    h.sh("head -c 8M /dev/urandom | dd of=$M/dev/sd0 bs=1M conv=notrunc,fsync status=none
          python3 - $M/dev/sd0 $S/sd0.img <<'E'
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
M, DISCARD, ZEROOUT = 1 << 20, 0x1277, 0x127f
full = os.stat(sys.argv[2]).st_blocks
fcntl.ioctl(fd, DISCARD, struct.pack('QQ', M, 2 * M))
assert os.pread(fd, 2 * M, M) == bytes(2 * M)
punched = os.stat(sys.argv[2]).st_blocks
assert punched + 4096 <= full, (punched, full)
fcntl.ioctl(fd, ZEROOUT, struct.pack('QQ', 4 * M, M))
assert os.pread(fd, M, 4 * M) == bytes(M)
assert os.stat(sys.argv[2]).st_blocks == punched, 'zeroing keeps the room'
def refused(fd, number, at, count):
    try: fcntl.ioctl(fd, number, struct.pack('QQ', at, count))
    except OSError as e: return e.errno
for at, count in (100, 512), (0, 100), (64 * M, 512), (2**64 - 512, 1024):
    assert refused(fd, DISCARD, at, count) == 22, (at, count)
assert refused(os.open(sys.argv[1], os.O_RDONLY), DISCARD, 0, 512) == 9
assert refused(fd, 0x1299, 0, 0) == 25
E");
}

fn holes() {
    let h = House::new();
    h.sh("head -c 4M /dev/urandom | dd of=$M/dev/sd0 bs=1M conv=notrunc,fsync status=none");
    let blocks = || h.sh("stat -c %b $S/sd0.img").parse::<u64>().expect("a number");
    let full = blocks();
    h.sh("fallocate -p -o 1M -l 2M $M/dev/sd0; sync $M/dev/sd0
          piece $M/dev/sd0 $((1<<20)) $((2<<20)) | cmp -n $((2<<20)) - /dev/zero");
    assert!(blocks() + 4096 <= full, "{} blocks after, {full} before", blocks());
    h.sh("python3 - $M/dev/sd0 <<'E'
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
M = 1 << 20
assert os.lseek(fd, 0, os.SEEK_HOLE) == 1 * M
assert os.lseek(fd, 1 * M, os.SEEK_DATA) == 3 * M
assert os.lseek(fd, 3 * M, os.SEEK_HOLE) == 4 * M
os.pwrite(fd, b'x' * 4096, 2 * M)
assert os.lseek(fd, 1 * M, os.SEEK_DATA) == 2 * M, 'a dirty buffer is data'
try: os.lseek(fd, 5 * M, os.SEEK_DATA); assert False
except OSError as e: assert e.errno == 6
E");
    h.sh("fallocate -z -o 0 -l 4096 $M/dev/sd0; cmp -n 4096 $M/dev/sd0 /dev/zero");
    let said = h.try_sh("fallocate -l 1M $M/dev/sd0");
    assert!(said.err.contains("not supported"), "{said:?}");
    wait_for("the disk to be idle", || h.text("proc/status").contains("sd0 b 8:0"));
}
