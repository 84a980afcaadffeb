//! Names: what a UNIX user expects of the tree, its mounts, its nodes and their numbers.

use crate::house::House;
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("ns_02_shell_tools_work_on_the_tree", &[], shell_tools),
    check("ns_03_longest_prefix_by_whole_components", &[], longest_prefix),
    check("ns_04_mount_and_umount_at_run_time", &[], run_time_mounts),
    check("ns_05_nodes_carry_their_numbers", &["getfattr"], numbers),
    check("ns_06_mknod_makes_a_second_name", &["root"], mknod_by_root),
    check("ns_06_mknod_by_ctl", &["getfattr"], mknod_by_ctl),
    check("ns_06_mknod_by_others_is_refused", &["root", "setpriv"], mknod_by_others),
    check("ns_07_every_stage_of_a_name", &[], stages),
    check("ns_07_no_driver_and_no_unit_differ_in_the_log", &[], absent_devices),
    check("ns_09_modes_are_enforced_and_kept", &["root", "setpriv"], modes),
    check("links_renames_and_loops", &[], links),
    check("names_have_255_bytes", &[], long_names),
    check("user_xattrs_are_kept", &["setfattr", "getfattr"], xattrs),
    check("a_listing_is_stable_under_change", &[], stable_listing),
];

fn shell_tools() {
    let h = House::new();
    h.sh("ls $M | tr '\\n' ' ' | grep -q 'ctl dev mnt nodes proc spool tmp'");
    h.sh("ctl 'mkdir -p' 2>/dev/null || true
          mkdir $M/mnt/a; ctl mount -t mem none /mnt/a
          cp /etc/services $M/mnt/a/x || cp /etc/passwd $M/mnt/a/x
          (cmp /etc/services $M/mnt/a/x || cmp /etc/passwd $M/mnt/a/x)
          cd $M/mnt/a; mv x y; ln -s y z; cat z >/dev/null; mkdir -p d/e; echo 1 > d/e/f
          echo 2 >> d/e/f; [ \"$(cat d/e/f)\" = \"$(printf '1\\n2')\" ]
          truncate -s 1 d/e/f; [ \"$(cat d/e/f)\" = 1 ]; echo t | tee d/t >/dev/null
          od -c d/t | head -1 >/dev/null; rm -r d; [ ! -e d ]");
    h.sh("echo hi > $M/dev/null; [ $(stat -c %s $M/dev/sd0) = $((64<<20)) ]");
    h.sh("dd if=/dev/urandom of=$M/dev/sd0 bs=4k count=64 status=none
          [ $(stat -c %s $M/dev/sd0) = $((64<<20)) ]; truncate -s 0 $M/dev/sd0
          [ $(stat -c %s $M/dev/sd0) = $((64<<20)) ]");
    h.sh("[ $(stat -c %a $M/tmp) = 1777 ]; [ -z \"$(ls $M/mnt | grep -v a)\" ]; ls $M/spool/lp0");
}

fn longest_prefix() {
    let h = House::new();
    h.sh("mkdir $M/mnt/a; ctl mount -t mem none /mnt/a; mkdir $M/mnt/a/b $M/mnt/a/bc
          ctl mount -t mem none /mnt/a/b; echo deep > $M/mnt/a/b/f");
    let resolved = h.sh("spindle --at $M resolve /mnt/a/b/f");
    assert!(resolved.contains("prefix=/mnt/a/b "), "{resolved}");
    let resolved = h.sh("spindle --at $M resolve /mnt/a/bc");
    assert!(resolved.contains("prefix=/mnt/a "), "{resolved}");
    let said = h.try_sh("ctl umount /mnt/a/b; cat $M/mnt/a/b/f");
    assert!(said.status != 0 && said.err.contains("No such file"), "{said:?}");
}

fn run_time_mounts() {
    let h = House::new();
    h.sh("mkdir $M/mnt/a; ctl mount -t mem none /mnt/a; echo x > $M/mnt/a/f");
    assert!(h.text("proc/mounts").lines().any(|l| l.starts_with("none /mnt/a mem ")));
    let said = h.try_sh("exec 5<$M/mnt/a/f; ctl umount /mnt/a");
    assert!(said.status == 1 && said.err.contains("in use"), "{said:?}");
    h.ctl("umount /mnt/a");
    assert!(!h.text("proc/mounts").contains("/mnt/a"));
    h.sh("echo x > $M/mnt/file");
    assert!(h.refused("mount -t mem none /mnt/file").contains("not a directory"));
    assert!(h.refused("mount -t mem none /mnt/missing").contains("/mnt/missing"));
    assert!(h.refused("mount -t tarfs none /mnt/a").contains("tarfs"));
    assert!(h.refused("umount /mnt/a").contains("/mnt/a"));
    h.ctl("mount -t mem none /mnt/a");
    let again = h.refused("mount -t mem none /mnt/a");
    assert!(again.contains("/mnt/a"), "{again}");
}

fn numbers() {
    let h = House::new();
    let nodes = h.text("proc/nodes");
    assert!(nodes.lines().count() >= 10, "{nodes}");
    for line in nodes.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [path, kind, major, minor, ..] = words[..] else { panic!("{line}") };
        let script = format!("getfattr --only-values -n user.spindle.dev $M{path}");
        if path.starts_with("/dev/lp") && !crate::house::is_root() {
            // The host shows attributes to those who may read; nobody reads a printer.
            assert!(h.try_sh(&script).err.contains("Permission denied"), "{line}");
        } else {
            assert_eq!(h.sh(&script), format!("{kind} {major} {minor}"), "{line}");
        }
        let name = path.strip_prefix("/dev/").expect("under /dev");
        let (major, minor): (u32, u32) = (major.parse().unwrap(), minor.parse().unwrap());
        let special = if kind == "b" { "block" } else { "character" };
        let stat = h.sh(&format!("stat -c '%F %t:%T' $M/nodes/{name}"));
        assert_eq!(stat, format!("{special} special file {major:x}:{minor:x}"), "{line}");
    }
    h.sh("grep \" $M fuse.spindle \" /proc/mounts | grep -q nodev");
    h.sh("printf HOST | dd of=$M/dev/sd0 conv=notrunc status=none; sync $M/dev/sd0
          dd if=$M/dev/sd0 bs=512 count=1 status=none | cmp - <(head -c 512 $S/sd0.img)");
    let said = h.try_sh("head -c1 $M/nodes/sd0");
    assert!(said.err.contains("Permission denied"), "{said:?}");
}

fn mknod_by_root() {
    let h = House::new();
    h.sh("mknod $M/dev/mydisk b 8 16
          printf Q | dd of=$M/dev/mydisk bs=1 seek=77 conv=notrunc status=none
          [ \"$(dd if=$M/dev/sd1 bs=1 skip=77 count=1 status=none)\" = Q ]
          rm $M/dev/sd1; [ \"$(dd if=$M/dev/mydisk bs=1 skip=77 count=1 status=none)\" = Q ]
          mknod $M/dev/x c 77 0; mknod $M/tmp/null c 1 3; echo hi > $M/tmp/null
          mkfifo $M/tmp/fifo; [ -p $M/tmp/fifo ]");
    let said = h.try_sh("cat $M/dev/x");
    assert!(said.err.contains("No such device or address"), "{said:?}");
    h.umount();
    h.mount();
    h.sh(
        "[ \"$(dd if=$M/dev/mydisk bs=1 skip=77 count=1 status=none)\" = Q ]; [ ! -e $M/dev/sd1 ]",
    );
}

fn mknod_by_ctl() {
    let h = House::new();
    h.ctl("mknod /dev/mine c 1 5 0644");
    h.sh("[ $(head -c 5 $M/dev/mine | od -An -tx1 | tr -d ' \\n') = 0000000000 ]
          [ $(stat -c %a $M/dev/mine) = 644 ]
          [ \"$(getfattr --only-values -n user.spindle.dev $M/dev/mine)\" = 'c 1 5' ]");
    assert!(h.refused("mknod /dev/mine c 1 5").contains("/dev/mine"));
    assert!(h.refused("mknod /dev/other x 1 5").contains('x'));
    assert!(h.refused("mknod /dev/other c one 5").contains("one"));
    h.sh("[ ! -e $M/dev/other ]");
}

fn mknod_by_others() {
    let h = House::new();
    h.sh("chmod 711 $T; chmod 777 $M/dev");
    let said = h.try_sh("setpriv --reuid 65534 --clear-groups mknod $M/dev/y b 8 0");
    assert!(said.err.contains("Operation not permitted"), "{said:?}");
}

fn stages() {
    let h = House::new();
    let resolved = h.sh("spindle --at $M resolve /dev/sd1");
    for stage in ["prefix=/dev ", "inode=", "8,16", "driver=sd", "unit=1", "address="] {
        assert!(resolved.contains(stage), "no {stage} in {resolved}");
    }
    let address = resolved.split("address=").nth(1).expect("an address").trim().to_owned();
    let devtab = h.text("proc/devtab");
    let row = devtab.lines().find(|l| l.starts_with("sd 16 ")).expect("a row of sd1");
    assert!(row.contains(&address), "{row} against {address}");
    assert!(h.text("proc/devices").lines().any(|l| l.split_whitespace().take(2).eq(["8", "sd"])));
}

fn absent_devices() {
    let h = House::new();
    h.ctl("mknod /dev/nodriver b 77 0");
    h.ctl("mknod /dev/nounit b 8 144");
    for node in ["nodriver", "nounit"] {
        let said = h.try_sh(&format!("cat $M/dev/{node}"));
        assert!(said.err.contains("No such device or address"), "{said:?}");
    }
    let log = h.log();
    assert!(log.contains("no driver for major 77"), "{log}");
    assert!(log.contains("driver sd: no unit 9"), "{log}");
}

fn modes() {
    let h = House::new();
    h.sh("chmod 711 $T; chmod 600 $M/dev/sd0");
    let other = "setpriv --reuid 65534 --clear-groups dd count=1 status=none";
    let said = h.try_sh(&format!("{other} if=$M/dev/sd0 of=/dev/null"));
    assert!(said.err.contains("Permission denied"), "{said:?}");
    h.sh(&format!("chmod 644 $M/dev/sd0; {other} if=$M/dev/sd0 of=/dev/null"));
    let said = h.try_sh(&format!("{other} if=/dev/zero of=$M/dev/sd0 conv=notrunc"));
    assert!(said.err.contains("Permission denied"), "{said:?}");
    h.sh("chown 65534 $M/dev/ram0; touch -d @1000000000 $M/dev/ram0");
    h.umount();
    h.mount();
    assert_eq!(h.sh("stat -c %a $M/dev/sd0"), "644");
    assert_eq!(h.sh("stat -c '%u %Y' $M/dev/ram0"), "65534 1000000000");
}

fn links() {
    let h = House::new();
    h.sh("cd $M/tmp; echo 1 > a; ln a b; [ $(stat -c %h a) = 2 ]; rm a; [ $(cat b) = 1 ]
          mkdir d; ln -s ../b d/l; [ $(cat d/l) = 1 ]; ln -s loop loop
          mv d e; mkdir f; echo x > f/x; ! mv -T e f 2>/dev/null; mv e f/
          exec 7< b; rm b; [ $(cat <&7) = 1 ]");
    let said = h.try_sh("cat $M/tmp/loop");
    assert!(said.err.contains("Too many levels of symbolic links"), "{said:?}");
    let said = h.try_sh("mv $M/tmp/f $M/tmp/f/e/");
    assert!(said.status != 0, "{said:?}");
}

fn long_names() {
    let h = House::new();
    h.sh("cd $M/tmp; n=$(printf 'n%.0s' $(seq 255)); echo x > $n; [ $(cat $n) = x ]");
    let said = h.try_sh("cd $M/tmp; n=$(printf 'n%.0s' $(seq 256)); echo x > $n");
    assert!(said.err.contains("File name too long"), "{said:?}");
}

fn xattrs() {
    let h = House::new();
    h.sh("cd $M/tmp; echo x > f; setfattr -n user.note -v hello f
          [ \"$(getfattr --only-values -n user.note f)\" = hello ]
          setfattr -x user.note f; ! getfattr --only-values -n user.note f 2>/dev/null");
    let said = h.try_sh("setfattr -n user.spindle.dev -v 'b 1 1' $M/dev/sd0");
    assert!(said.status != 0, "{said:?}");
}

fn stable_listing() {
    let h = House::new();
    h.sh("mkdir $M/tmp/many; cd $M/tmp/many; touch $(seq -f keep%g 1000)");
    let out = h.sh("cd $M/tmp/many
         (for i in $(seq 300); do touch come$i; rm come$i; done) & churn=$!
         for i in 1 2 3 4 5; do ls -U | grep -c '^keep' ; ls -U | sort | uniq -d | wc -l; done
         wait $churn");
    let counts: Vec<&str> = out.lines().collect();
    assert_eq!(counts, ["1000", "0"].repeat(5));
}
