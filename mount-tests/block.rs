//! Blocks: bytes through the cache, whole disks, real file systems and partition tables.

use crate::house::{Dice, House};
use crate::{Check, check};
use std::os::unix::fs::FileExt;

pub const CHECKS: &[Check] = &[
    check("if_04_random_pieces_equal_a_shadow", &[], random_pieces),
    check("if_04_the_end_of_a_disk", &["blockdev"], the_end),
    check("a_whole_disk_is_written_and_read_back", &[], whole_disk),
    check("an_ext4_volume_survives_umount_and_mount", &["mke2fs", "e2fsck", "debugfs"], ext4),
    check("a_gpt_makes_partitions_with_files_in_them", &["sfdisk", "mkfs.vfat", "mcopy"], gpt),
    check("redirections_and_truncation_on_nodes", &[], redirections),
    check("null_zero_full_random", &[], small_devices),
    check(
        "a_loop_device_on_a_node_can_be_mounted",
        &["/dev/loop-control", "root", "losetup", "mke2fs"],
        loop_device,
    ),
    check("if_02_raw_transfers_off_the_sector_are_refused", &[], raw_alignment),
    check("raw_and_block_nodes_share_the_medium", &[], raw_twin),
];

fn random_pieces() {
    let h = House::new();
    let mut dice = Dice::from_env(0x5eed);
    let size = 64 << 20;
    let mut shadow = vec![0_u8; size];
    let node = std::fs::File::options().read(true).write(true).open(h.tree().join("dev/sd0"));
    let node = node.expect("sd0 opens");
    for round in 0..200 {
        let at = usize::try_from(dice.below(size as u64)).unwrap();
        let len = usize::try_from(1 + dice.below(300_000)).unwrap().min(size - at);
        if dice.below(2) == 0 {
            let byte = u8::try_from(dice.below(256)).unwrap();
            shadow[at..at + len].fill(byte);
            node.write_all_at(&shadow[at..at + len], at as u64).expect("a write");
        } else {
            let mut read = vec![0; len];
            node.read_exact_at(&mut read, at as u64).expect("a read");
            assert!(read == shadow[at..at + len], "round {round}: {len} bytes at {at} differ");
        }
    }
    node.sync_all().expect("fsync");
    let image = std::fs::read(h.state().join("sd0.img")).expect("the image");
    assert!(image == shadow, "the image differs from the shadow after fsync");
}

fn the_end() {
    let h = House::new();
    assert_eq!(h.sh("blockdev --getsize64 $M/dev/sd0"), (64 << 20).to_string());
    assert_eq!(h.sh("stat -c %s $M/dev/sd0 $S/sd0.img | uniq"), (64 << 20).to_string());
    assert_eq!(h.sh("dd if=$M/dev/sd0 bs=1M skip=64 count=1 status=none | wc -c"), "0");
    let said = h.try_sh("printf xy | dd of=$M/dev/sd0 bs=2 seek=$((32<<20)) conv=notrunc");
    assert!(said.err.contains("No space left"), "{said:?}");
    let said = h.try_sh("dd if=/dev/zero of=$M/dev/sd0 bs=1M seek=63 count=2 conv=notrunc");
    assert!(said.err.contains("No space left") && said.err.contains("1+0 records out"), "{said:?}");
}

fn whole_disk() {
    let h = House::new();
    let said = h.try_sh("dd if=/dev/urandom of=$M/dev/sd0 bs=1M");
    assert!(
        said.err.contains("No space left") && said.err.contains("64+0 records out"),
        "{said:?}"
    );
    h.sh("sync $M/dev/sd0; cmp $M/dev/sd0 $S/sd0.img; cmp $M/dev/sd0 $M/dev/rsd0");
    h.sh("head -c 1000003 /dev/urandom > $T/odd
          dd if=$T/odd of=$M/dev/sd0 bs=77777 seek=131 conv=notrunc status=none
          piece $M/dev/sd0 $((131*77777)) 1000003 | cmp - $T/odd");
}

fn ext4() {
    let h = House::new();
    h.sh("mkdir $T/tree; cp -r /etc/s* $T/tree/ 2>/dev/null || true; echo hello > $T/tree/hello
          mke2fs -q -t ext4 -d $T/tree $M/dev/sd1; e2fsck -fn $M/dev/sd1");
    h.umount();
    h.mount();
    h.sh("e2fsck -fn $M/dev/sd1; debugfs -R 'ls -p /' $M/dev/sd1 2>/dev/null | grep -q hello
          [ \"$(debugfs -R 'cat /hello' $M/dev/sd1 2>/dev/null)\" = hello ]");
}

fn gpt() {
    let h = House::new();
    h.sh("printf 'label: gpt\\nsize=20M\\nsize=30M\\n' | sfdisk -q $M/dev/sd0
          ls $M/dev/sd0p1 $M/dev/sd0p2 $M/dev/rsd0p1 >/dev/null
          [ $(stat -c %s $M/dev/sd0p1) = $((20<<20)) ]
          [ $(stat -c %s $M/dev/sd0p2) = $((30<<20)) ]");
    h.sh("mkfs.vfat $M/dev/sd0p1 >/dev/null; mkdir $T/in $T/out
          for i in 1 2 3; do head -c 100000 /dev/urandom > $T/in/f$i; done; mkdir $T/in/d
          cp /etc/passwd $T/in/d/; export MTOOLS_SKIP_CHECK=1
          mcopy -s -i $M/dev/sd0p1 $T/in ::; mcopy -s -i $M/dev/sd0p1 ::in $T/out
          diff -r $T/in $T/out/in");
    h.sh("sync $M/dev/sd0p1
          start=$(sfdisk -d $M/dev/sd0 | sed -n 's/.*start= *\\([0-9]*\\).*/\\1/p' | head -1)
          [ $start -gt 0 ]; piece $S/sd0.img $((start*512)) $((20<<20)) | cmp - $M/dev/sd0p1
          cmp $M/dev/sd0p1 $M/dev/rsd0p1");
    let resolved = h.sh("spindle --at $M resolve /dev/sd0p1");
    assert!(resolved.contains("8,1") && resolved.contains("driver=sd"), "{resolved}");
    let said = h.try_sh("dd if=/dev/zero of=$M/dev/sd0p1 bs=1M");
    assert!(said.err.contains("20+0 records out"), "{said:?}");
    h.umount();
    h.mount();
    h.sh("ls $M/dev/sd0p2; printf 'label: dos\\nsize=10M\\n' | sfdisk -q $M/dev/sd0
          ls $M/dev/sd0p1; [ ! -e $M/dev/sd0p2 ]; [ $(stat -c %s $M/dev/sd0p1) = $((10<<20)) ]");
}

fn redirections() {
    let h = House::new();
    h.sh("printf abc > $M/dev/sd0; printf def >> $M/dev/null; [ $(head -c 3 $M/dev/sd0) = abc ]
          head -c 5000 /dev/urandom > $T/f; cp $T/f $M/dev/sd0; cmp -n 5000 $T/f $M/dev/sd0
          cat $T/f > $M/dev/sd0; [ $(stat -c %s $M/dev/sd0) = $((64<<20)) ]
          truncate -s 0 $M/dev/sd0; cmp -n 5000 $T/f $M/dev/sd0");
}

fn small_devices() {
    let h = House::new();
    h.sh("[ $(head -c 1000 $M/dev/zero | tr -d '\\0' | wc -c) = 0 ]
          cat $M/dev/null | cmp - /dev/null
          echo x > $M/dev/null; head -c 100 $M/dev/random > $T/a; head -c 100 $M/dev/urandom > $T/b
          ! cmp -s $T/a $T/b; [ $(head -c 10 $M/dev/full | wc -c) = 10 ]
          dd if=$M/dev/zero of=$M/dev/ram0 bs=64k count=4 status=none");
    let said = h.try_sh("echo x > $M/dev/full");
    assert!(said.err.contains("No space left"), "{said:?}");
}

fn loop_device() {
    let h = House::new();
    h.sh("mke2fs -q -t ext4 $M/dev/sd1; l=$(losetup -f --show $M/dev/sd1)
          trap 'umount $T/l 2>/dev/null || true; losetup -d $l' EXIT
          mkdir $T/l; mount $l $T/l; cp /etc/passwd $T/l/; umount $T/l; mount $l $T/l
          cmp /etc/passwd $T/l/passwd; umount $T/l");
    h.sh("e2fsck -fn $M/dev/sd1");
}

fn raw_alignment() {
    let h = House::new();
    h.sh("dd if=$M/dev/rsd0 bs=512 count=1 status=none | wc -c | grep -qx 512");
    for (script, what) in [
        ("dd if=$M/dev/rsd0 of=/dev/null bs=100 count=1", "short"),
        ("dd if=$M/dev/rsd0 of=/dev/null bs=512 skip=7 iflag=skip_bytes count=1", "skewed"),
        ("head -c 100 /dev/urandom | dd of=$M/dev/rsd0 bs=100 conv=notrunc", "short write"),
    ] {
        let said = h.try_sh(script);
        assert!(said.err.contains("Invalid argument"), "{what}: {said:?}");
    }
    h.sh("[ $(tr -d '\\0' < $S/sd0.img | wc -c) = 0 ]");
}

fn raw_twin() {
    let h = House::new();
    h.sh(
        "head -c 1M /dev/urandom > $T/f; dd if=$T/f of=$M/dev/rsd0 bs=64k conv=notrunc status=none
          cmp -n 1048576 $T/f $S/sd0.img; cmp -n 1048576 $T/f $M/dev/sd0
          dd if=/dev/zero of=$M/dev/rsd0 bs=4k count=1 conv=notrunc status=none
          cmp -n 4096 /dev/zero $M/dev/sd0
          dd if=$T/f of=$M/dev/rram0 bs=64k conv=notrunc status=none
          cmp -n 1048576 $T/f $M/dev/ram0; cmp -n 1048576 $T/f $M/dev/rram0",
    );
}
