//! Mounting, unmounting, dying and coming back.

use crate::house::House;
use crate::{Check, check};
use std::time::Duration;

pub const CHECKS: &[Check] = &[
    check("ns_01_sigterm_writes_everything_and_unmounts", &[], sigterm),
    check("ns_01_fusermount_unmounts_and_the_daemon_ends", &["fusermount3"], fusermount),
    check("umount_lets_go_of_disks_that_are_held", &[], held),
    check("umount_tells_what_a_full_host_did_not_take", &["root", "mount"], full_host),
    check("umount_all_and_list", &[], umount_all),
    check("a_killed_daemon_is_followed_by_a_new_one", &[], killed),
    check("two_daemons_cannot_share_a_state_directory", &[], shared_state),
    check("several_mounts_at_once_in_one_place_make_one", &[], at_once),
    check("a_script_may_hold_a_lock_on_the_mount_point", &["flock"], own_lock),
    check("a_pipe_in_the_state_directory_makes_no_start_wait", &["mkfifo"], pipes),
    check("the_daemon_keeps_nothing_of_its_caller", &[], descriptors),
    check("a_disk_on_an_existing_image", &[], existing_image),
    check("in_a_user_name_space_without_fusermount", &["unshare"], user_name_space),
    check("anothers_proc_is_refused_in_words", &["root", "unshare"], anothers_proc),
    check("an_ordinary_users_life", &["root", "setpriv", "unshare", "fusermount3"], ordinary_user),
    check("a_caller_that_ignores_signals_is_no_hindrance", &[], ignored_signals),
    check("the_state_is_its_owners_whatever_the_umask", &[], umasks),
    check(
        "a_daemon_killed_while_it_mounts_leaves_no_dead_mount",
        &["root", "strace"],
        killed_at_mount,
    ),
    check("foreground_logs_to_stderr", &["timeout"], foreground),
    check("kd_01_an_idle_daemon_costs_nothing", &[], idle),
];

fn sigterm() {
    for signal in ["TERM", "INT"] {
        let h = House::new();
        h.sh("printf Z | dd of=$M/dev/sd0 bs=1 seek=9000 conv=notrunc status=none");
        let pid = h.pid();
        h.sh(&format!("kill -{signal} {pid}"));
        h.await_end(pid);
        h.sh("! mountpoint -q $M; [ -z \"$(ls $M)\" ]");
        assert_eq!(h.sh("dd if=$S/sd0.img bs=1 skip=9000 count=1 status=none"), "Z");
    }
}

fn fusermount() {
    let h = House::new();
    h.sh("printf Z | dd of=$M/dev/sd0 bs=1 seek=9000 conv=notrunc status=none");
    let pid = h.pid();
    h.sh(
        "exec 6<$M/dev/sd0; ! fusermount3 -u $M 2>/dev/null; exec 6<&-
          for i in $(seq 100); do fusermount3 -u $M 2>/dev/null && break; done; ! mountpoint -q $M",
    );
    h.await_end(pid);
    assert_eq!(h.sh("dd if=$S/sd0.img bs=1 skip=9000 count=1 status=none"), "Z");
}

fn held() {
    for hold in ["pause sd0", "freeze sd0", "irq off sd0"] {
        let h = House::new();
        h.sh("printf Z | dd of=$M/dev/sd0 bs=1 seek=9000 conv=notrunc status=none");
        h.ctl(hold);
        let pid = h.pid();
        let said = h.try_sh("timeout 20 spindle umount $M");
        if said.status != 0 {
            h.sh(&format!("kill -9 {pid}"));
        }
        assert!(said.status == 0, "{hold}: {said:?}");
        assert_eq!(h.sh("dd if=$S/sd0.img bs=1 skip=9000 count=1 status=none"), "Z", "{hold}");
    }
}

fn full_host() {
    let h = House::unmounted(&[]);
    h.sh("mkdir $T/small; mount -t tmpfs -o size=1M none $T/small");
    let said = h.try_sh(
        "spindle mount $M --state $T/small/s
         dd if=/dev/urandom of=$M/dev/sd0 bs=64k count=40 conv=notrunc status=none
         ! sync $M/dev/sd0 2>/dev/null
         dd if=/dev/zero of=$T/small/fill bs=4k status=none || true
         spindle umount $M",
    );
    h.sh("umount -l $T/small; ! mountpoint -q $M");
    assert!(said.status == 1, "{said:?}");
    assert!(said.err.contains("sd0: delayed writes could not be written"), "{said:?}");
}

fn umount_all() {
    let h = House::new();
    let list = h.sh("spindle list");
    assert!(list.contains(&h.tree().display().to_string()), "{list}");
    assert!(list.contains(&h.pid().to_string()), "{list}");
    let json = h.sh("spindle list --json");
    assert!(json.contains("\"mountpoint\""), "{json}");
    h.umount();
    h.sh("! spindle list | grep -q \"$M\"");
    let said = h.try_sh("spindle umount $M");
    assert!(said.status == 1 && said.err.starts_with("spindle: "), "{said:?}");
}

fn killed() {
    let h = House::new();
    h.sh("echo synced | dd of=$M/dev/sd0 conv=notrunc,fsync status=none");
    h.kill();
    let said = h.try_sh("ls $M");
    assert!(said.err.contains("not connected"), "{said:?}");
    h.mount();
    assert_eq!(h.sh("head -c 6 $M/dev/sd0"), "synced");
}

fn shared_state() {
    let h = House::new();
    let said = h.try_sh("spindle mount $T/other --state $S");
    assert!(said.status == 1, "{said:?}");
    assert!(said.err.contains(&format!("state in use by pid {}", h.pid())), "{said:?}");
    let place = format!("whose machine is mounted at {};", h.tree().display());
    assert!(said.err.contains(&place), "{said:?}");
    h.sh("! mountpoint -q $T/other; ls $M/dev/sd0");
}

fn at_once() {
    let h = House::unmounted(&[]);
    let said = h.try_sh(
        "for i in 1 2 3 4 5 6 7 8; do
             spindle mount $M --state $S/$i 2>>$T/e && echo $i >>$T/done & done; wait
         cat $T/done; cat $T/e >&2",
    );
    h.sh("[ $(grep -c \" $M \" /proc/mounts) = 1 ]; spindle umount $M");
    assert_eq!(said.out.lines().count(), 1, "{said:?}");
    assert_eq!(said.err.lines().count(), 7, "{said:?}");
    for line in said.err.lines() {
        let is_ours = line.contains("another `spindle mount` is about to mount here")
            || line.contains("a machine is mounted here already");
        assert!(is_ours, "{line}");
    }
}

/// Scripts that mount what is not mounted yet take turns by the directory itself (flock(1)).
fn own_lock() {
    let h = House::unmounted(&[]);
    h.sh("mkdir $M; flock $M spindle mount $M --state $S; ls $M/dev/sd0; spindle umount $M
          exec 9<$M; flock 9; spindle mount $M --state $S; ls $M/dev/sd0");
}

fn pipes() {
    let h = House::unmounted(&["--set", "ttyS0.peer=file:line", "--set", "ttyS1.peer=pty"]);
    h.sh("mkdir -p $S/spool; mkfifo $S/sd0.img.counters");
    let mount = "timeout 60 spindle mount $M --state $S --set ttyS0.peer=file:line \
                 --set ttyS1.peer=pty";
    for name in [
        "version",
        "lock",
        "pid",
        "log",
        "last-unmount.new",
        "nodes",
        "spool/journal",
        "sd0.img",
        "sd0.img.spares",
        "st0.tap",
        "line",
    ] {
        let said = h.try_sh(&format!("rm -f $S/{name}; mkfifo $S/{name}; {mount}"));
        let is_told = said.err.starts_with("spindle: ") && said.err.contains(name);
        assert!(said.status == 1 && is_told, "{name}: {said:?}");
        h.sh(&format!("! mountpoint -q $M; [ -p $S/{name} ]; rm $S/{name}"));
    }
    h.mount();
    h.sh("[ -p $S/sd0.img.counters ]; grep -q 'sd0.img.counters: is a pipe' $S/log");
}

fn descriptors() {
    let h = House::unmounted(&[]);
    h.sh("exec 9> $T/kept; spindle mount $M --state $S");
    let open = h.sh(&format!("ls -l /proc/{}/fd", h.pid()));
    assert!(!open.contains("kept") && !open.contains("/dev/pts"), "{open}");
    let cwd = h.sh(&format!("readlink /proc/{}/cwd", h.pid()));
    assert_eq!(cwd, "/");
}

fn existing_image() {
    let h = House::unmounted(&[]);
    h.sh("truncate -s 3M $T/my.img; printf MINE | dd of=$T/my.img conv=notrunc status=none
          cd $T; spindle mount $M --state $S --disk sd5=my.img --disk sd6=$T/my2.img,ro && exit 1
          truncate -s 1M $T/my2.img
          spindle mount $M --state $S --disk sd5=my.img --disk sd6=$T/my2.img,ro
          [ $(head -c 4 $M/dev/sd5) = MINE ]; [ $(stat -c %s $M/dev/sd5) = $((3<<20)) ]
          printf YOUR | dd of=$M/dev/sd5 conv=notrunc,fsync status=none
          [ $(head -c 4 my.img) = YOUR ]");
    let said = h.try_sh("printf x | dd of=$M/dev/sd6 conv=notrunc");
    assert!(said.err.contains("Read-only file system"), "{said:?}");
}

fn user_name_space() {
    let h = House::unmounted(&[]);
    let said = h.try_sh("unshare -Urm true");
    if said.status != 0 {
        eprintln!("no user name spaces here: {}", said.err);
        return;
    }
    h.sh("unshare -Urm bash -c '
            set -e; export FUSERMOUNT_PATH=/nonexistent
            spindle mount $M --state $S; printf U | dd of=$M/dev/sd0 conv=notrunc status=none
            [ $(head -c 1 $M/dev/sd0) = U ]; spindle umount $M'
          [ $(head -c 1 $S/sd0.img) = U ]");
}

/// Whoever sends a call would be looked up under a number that is another's there.
fn anothers_proc() {
    let h = House::unmounted(&[]);
    let said = h.try_sh("unshare -pf sh -c 'spindle mount $M --state $S && spindle umount $M'");
    let told = said.err.contains("/proc: shows another pid name space") && said.status == 1;
    assert!(told && said.err.contains("mount -t proc"), "{said:?}");
    h.sh("[ ! -e $M ]; ! unshare -pf sh -c 'spindle doctor' >$T/d; grep -q '^lacks  /proc ' $T/d");
}

fn ordinary_user() {
    // A mount name space of our own, in which /dev/fuse is open to all, leaves the host as it is.
    let h = House::unmounted(&[]);
    h.sh(
        "mkdir -p $T/home $T/bin; cp $(command -v spindle) $T/bin/; chmod -R a+rX $T; chmod 755 $T
          chown 65534:65534 $T/home
          unshare -m bash -c '
            set -euo pipefail
            mkdir $T/bin2; mount -t tmpfs -o dev none $T/bin2
            mknod -m 666 $T/bin2/fuse c 10 229; mount --bind $T/bin2/fuse /dev/fuse
            export HOME=$T/home PATH=$T/bin:$PATH; unset M S
            setpriv --reuid 65534 --regid 65534 --clear-groups bash -euo pipefail -c \"
              cd \\$HOME; spindle mount io; spindle list | grep -q io; spindle status | grep -q sd0
              grep -q home/io.fuse.spindle /proc/mounts
              echo me | dd of=io/dev/sd0 conv=notrunc,fsync status=none
              [ \\$(head -c 2 io/dev/sd0) = me ]
              [ \\$(stat -c %u io/dev/sd0) = 65534 ]
              p=\\$(cat .local/state/spindle/default/pid); kill -9 \\$p
              while grep -qs ^State:.[^ZX] /proc/\\$p/status; do :; done
              spindle mount io; [ \\$(head -c 2 io/dev/sd0) = me ]; spindle umount io
              ! grep -q home/io.fuse.spindle /proc/mounts
              PATH= $T/bin/spindle mount io; PATH= $T/bin/spindle umount io
              ! grep -q home/io.fuse.spindle /proc/mounts\"'",
    );
}

/// Some that start programs (shells, schedulers, supervisors) ignore SIGCHLD, and so do their
/// children: wait(2) then tells nobody anything.
fn ignored_signals() {
    let h = House::unmounted(&[]);
    h.sh("trap '' CHLD PIPE HUP INT TERM QUIT USR1 USR2
          spindle mount $M --state $S --set 'lp0.sink=|cat >>'$T/paper
          echo once | spindle --at $M lpr
          for i in $(seq 500); do spindle --at $M lpq | grep -q 'no entries' && break; done
          [ \"$(cat $T/paper)\" = once ]
          if spindle mount $T/m2 --state $S 2>$T/e; then exit 9; fi; grep -q 'in use' $T/e
          spindle umount $M; ! grep -q \" $M \" /proc/mounts
          spindle mount $M --state $S; read -r pid <$S/pid; kill -9 $pid
          while grep -qs '^State:.[^ZX]' /proc/$pid/status; do :; done
          spindle umount $M; ! grep -q \" $M \" /proc/mounts");
}

fn umasks() {
    let h = House::unmounted(&[]);
    for mask in ["000", "077", "777"] {
        h.sh(&format!(
            "mkdir $T/m{mask}; (umask {mask}; spindle mount $T/m{mask} --state $T/s{mask})
             printf Z | dd of=$T/m{mask}/dev/sd0 conv=notrunc,fsync status=none
             [ -z \"$(find $T/s{mask} -perm /077)\" ]
             spindle umount $T/m{mask}; [ -z \"$(find $T/s{mask} -perm /077)\" ]"
        ));
    }
}

/// Killed in the moment between mounting and answering, as one that runs out of memory may be.
fn killed_at_mount() {
    let h = House::unmounted(&[]);
    let said = h.try_sh(
        "timeout 60 strace -f -o $T/calls -e inject=getxattr:signal=SIGKILL \
             spindle mount $M --state $S",
    );
    let words = "the daemon ended before the tree answered";
    assert!(said.status == 1 && said.err.contains(words), "{said:?}");
    h.sh("grep -q KILL $T/calls; ! grep \" $M fuse\" /proc/mounts; [ -z \"$(ls $M)\" ]");
}

fn foreground() {
    let h = House::unmounted(&[]);
    let said = h.try_sh(
        "timeout -s INT 5 spindle mount $M --state $S --foreground 2>$T/err & job=$!
         for i in $(seq 500); do mountpoint -q $M && break; read -t 0.01 <> <(:) || true; done
         mountpoint -q $M; kill -INT $(cat $S/pid); wait $job; cat $T/err",
    );
    assert!(said.status == 0 && !said.out.is_empty(), "{said:?}");
    h.sh("! mountpoint -q $M");
}

fn idle() {
    let h = House::new();
    h.sh("ls $M/dev >/dev/null; spindle --at $M status >/dev/null");
    let pid = h.pid();
    let in_ten_seconds = |_| {
        let before = h.processor_time();
        std::thread::sleep(Duration::from_secs(10));
        h.processor_time() - before
    };
    // What is left of its start, on a machine that does much else, is no idleness.
    let is_idle = (0..3).map(in_ten_seconds).any(|used| used <= Duration::from_millis(10));
    assert!(is_idle, "an idle daemon used more than 10 ms of processor in each of 3 times 10 s");
    // Memory of its own. The program's file comes to 6 MiB of pages more, in a debug build to 15.
    let rss = h.sh(&format!("awk '/RssAnon/{{print $2}}' /proc/{pid}/status"));
    assert!(rss.parse::<u64>().unwrap() < 10 * 1024, "{rss} KiB resident");
}
