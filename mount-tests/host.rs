//! Disks that the host's page cache, or the host itself, serves: `host_cache` and `passthrough`.

use crate::house::House;
use crate::{Check, check};
use std::fs::File;
use std::os::unix::fs::FileExt;

pub const CHECKS: &[Check] = &[
    check("host_cache_serves_a_second_read_without_us", &[], second_read),
    check("host_cache_sees_every_change_behind_its_back", &["fallocate"], behind_its_back),
    check("host_cache_of_a_disk_and_of_its_partition_agree", &["sfdisk"], partition),
    check("host_cache_and_faults_exclude_each_other", &[], no_faults),
    check("passthrough_is_the_image_itself", &["root"], passed),
    check("passthrough_writers_and_block_nodes_exclude_each_other", &["root"], exclusive),
    check("passthrough_is_refused_with_a_reason", &[], refused),
];

/// A house with a disk of 16 MiB, `sd0`, that has these keys.
fn house(keys: &str) -> House {
    let dir = crate::house::directory();
    let machine = dir.path().join("machine.toml");
    let text = format!("[[disk]]\nname = \"sd0\"\nsize = \"16M\"\n{keys}\n");
    std::fs::write(&machine, text).expect("a description");
    House::with(&["--machine", machine.to_str().expect("a path")])
}

fn node(h: &House, name: &str) -> File {
    let path = h.tree().join("dev").join(name);
    File::options().read(true).write(true).open(&path).expect(name)
}

fn hits(h: &House) -> u64 {
    h.sh("val hits bufcache").parse().expect("a count")
}

fn second_read() {
    let h = house("host_cache = true");
    let disk = node(&h, "sd0");
    let mut page = [0; 4096];
    disk.write_all_at(&[7; 65536], 0).expect("a write");
    disk.read_exact_at(&mut page, 8192).expect("a read");
    let before = hits(&h);
    for _ in 0..1000 {
        disk.read_exact_at(&mut page, 8192).expect("a read");
    }
    drop(disk);
    node(&h, "sd0").read_exact_at(&mut page, 8192).expect("a read after another open");
    assert!(page == [7; 4096], "what was written is not read back");
    let asked = hits(&h) - before; // the host may have been reading ahead still
    assert!(asked < 10, "{asked} of 1000 reads came to us");
}

fn behind_its_back() {
    let h = house("host_cache = true");
    let (disk, raw) = (node(&h, "sd0"), node(&h, "rsd0"));
    let mut page = [0; 4096];
    for round in 1..=100_u8 {
        let at = u64::from(round) * 4096;
        disk.read_exact_at(&mut page, at).expect("a read");
        raw.write_all_at(&[round; 4096], at).expect("a raw write");
        disk.read_exact_at(&mut page, at).expect("a read");
        assert!(page == [round; 4096], "a page older than the raw write, round {round}");
    }
    h.sh("head -c 4096 /dev/zero | tr '\\0' D >$T/d
          dd if=$T/d of=$M/dev/sd0 bs=4096 seek=1 oflag=direct conv=notrunc status=none
          dd if=$M/dev/sd0 bs=4096 skip=1 count=1 status=none | cmp - $T/d
          fallocate -p -o 8192 -l 4096 $M/dev/rsd0
          dd if=$M/dev/sd0 bs=4096 skip=2 count=1 status=none | cmp -n 4096 - /dev/zero
          fallocate -z -o 12288 -l 4096 $M/dev/rsd0
          dd if=$M/dev/sd0 bs=4096 skip=3 count=1 status=none | cmp -n 4096 - /dev/zero");
    // What is written through the pages is delayed by us alone.
    disk.write_all_at(b"delayed", 0).expect("a write");
    disk.sync_all().expect("fsync");
    let mut sector = [0; 512];
    raw.read_exact_at(&mut sector, 0).expect("a raw read");
    assert_eq!(&sector[..7], b"delayed");
}

fn partition() {
    let h = house("host_cache = true");
    h.sh("printf 'label: dos\\nstart=2048,size=4096\\n' | sfdisk -q $M/dev/sd0");
    crate::house::wait_for("the partition", || h.tree().join("dev/sd0p1").exists());
    let (disk, part) = (node(&h, "sd0"), node(&h, "sd0p1"));
    let (start, mut byte) = (2048 * 512, [0]);
    for round in 1..=20 {
        part.write_all_at(&[round], 5000).expect("a write");
        crate::house::wait_for("the disk to show it", || {
            disk.read_exact_at(&mut byte, start + 5000).is_ok() && byte == [round]
        });
        disk.write_all_at(&[round + 100], start + 5000).expect("a write");
        crate::house::wait_for("the partition to show it", || {
            part.read_exact_at(&mut byte, 5000).is_ok() && byte == [round + 100]
        });
    }
}

fn no_faults() {
    let h = house("host_cache = true");
    let said = h.refused("fault add broken on sd0 op=read do error EIO");
    assert!(said.contains("sd0 has host_cache"), "{said}");
    assert!(h.refused("set sd0.badsector 5").contains("sd0 has host_cache"));
    assert_eq!(h.ctl("fault list").trim(), "");
}

fn passed() {
    let h = house("passthrough = true");
    h.sh("head -c 1M /dev/urandom >$T/f
          dd if=$T/f of=$M/dev/rsd0 bs=64k conv=notrunc,fsync status=none
          cmp -n 1048576 $T/f $S/sd0.img
          cmp -n 1048576 $T/f $M/dev/rsd0
          cmp -n 1048576 $T/f $M/dev/sd0
          head -c 4096 /dev/zero | dd of=$M/dev/rsd0 bs=4k conv=notrunc status=none
          cmp -n 4096 $M/dev/sd0 /dev/zero");
    // The host does the work: our counters do not move.
    let reads = |h: &House| -> u64 {
        let count = h.sh("awk '$3==\"sd0\"{print $4}' $M/proc/diskstats");
        count.parse().expect("a count")
    };
    let raw = node(&h, "rsd0");
    let before = reads(&h);
    let mut bytes = [0; 4096];
    for _ in 0..100 {
        raw.read_exact_at(&mut bytes, 8192).expect("a read");
    }
    let more = reads(&h) - before; // the partition table is read again after a writer's close
    assert!(more < 10, "{more} of 100 reads came to us");
}

fn exclusive() {
    let h = house("passthrough = true");
    let raw = node(&h, "rsd0");
    let said = h.try_sh("head -c 1 $M/dev/sd0");
    assert!(said.err.contains("busy"), "{said:?}");
    drop(raw);
    let disk = node(&h, "sd0");
    let said = h.try_sh("printf x | dd of=$M/dev/rsd0 conv=notrunc");
    assert!(said.err.contains("busy"), "{said:?}");
    h.sh("head -c 512 $M/dev/rsd0 | cmp -n 512 - /dev/zero"); // reading is in nobody's way
    drop(disk);
}

fn refused() {
    let h = House::unmounted(&[]);
    let machine = h.scratch().join("machine.toml");
    let try_with = |keys: &str| {
        let text = format!("[[disk]]\nname = \"sd0\"\nsize = \"16M\"\n{keys}\n");
        std::fs::write(&machine, text).expect("a description");
        h.try_sh("spindle mount $M --state $S --machine $T/machine.toml").err
    };
    let said = try_with("passthrough = true\nhost_cache = true");
    assert!(said.contains("either host_cache or passthrough"), "{said}");
    let said = try_with("passthrough = true\ntiming = \"disk7200\"");
    assert!(said.contains("timing"), "{said}");
    if !crate::house::is_root() {
        let said = try_with("passthrough = true");
        assert!(said.contains("only root"), "{said}");
    }
}
