//! What the reports say, held against what else can be seen.

use crate::house::{House, wait_for};
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("kd_01_the_open_file_table", &[], open_files),
    check("kd_05_the_bus_is_probed", &[], probing),
    check("sc_03_the_device_status_table", &[], status),
    check("devices_and_devtab_agree_with_the_nodes", &[], tables),
    check("pf_09_what_is_said_of_a_device_is_so", &[], policies),
    check("pr_01_offsets_and_lengths_out_of_range", &["python3"], out_of_range),
];

fn open_files() {
    let h = House::new();
    let before = h.text("proc/files").lines().count();
    h.sh("exec 6<$M/dev/sd0; head -c 1000 <&6 >/dev/null
          grep \" /dev/sd0 \" $M/proc/files > $T/line; [ $(wc -l < $T/line) = 1 ]
          grep -q \" $$ \" $T/line; (true; [ $(grep -c ' /dev/sd0 ' $M/proc/files) = 1 ])
          exec 6<&-");
    let line = h.sh("cat $T/line");
    assert!(line.contains("block"), "{line}");
    let offset: u64 =
        line.split("offset=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(offset >= 1000, "{line}");
    h.sh("for i in $(seq 1000); do : <$M/dev/sd0; done");
    wait_for("the table to shrink", || h.text("proc/files").lines().count() <= before);
}

fn probing() {
    let h = House::unmounted(&[]);
    h.sh("spindle mount --print-machine > $T/m.toml
          printf '\\n[[disk]]\\nname = \"sd2\"\\nsize = \"1M\"\\nabsent = true\\n' >> $T/m.toml
          spindle mount $M --state $S --machine $T/m.toml; [ ! -e $M/dev/sd2 ]; ls $M/dev/sd1");
    let probe = h.text("proc/probe");
    let line = |name: &str| probe.lines().find(|l| l.starts_with(name)).unwrap_or("").to_owned();
    assert!(line("sd2 ").contains("absent"), "{probe}");
    assert!(line("sd1 ").contains("found"), "{probe}");
}

fn status() {
    let h = House::new();
    let table = h.text("proc/status");
    for device in ["sd0", "sd1", "ram0"] {
        let line = table.lines().find(|l| l.starts_with(&format!("{device} "))).expect("a line");
        assert!(line.contains(" idle ") && line.ends_with("queue=0"), "{line}");
    }
    let json = h.sh("spindle --at $M status --json");
    assert!(json.contains("\"sd0\"") && json.trim_start().starts_with('['), "{json}");
}

/// Two have what is shared, one has what is dedicated, and what two spool is not mixed.
fn policies() {
    let h = House::new();
    h.sh("spindle --at $M lpc stop lp0; spindle --at $M lpc stop lp1
          sed -n 's/^\\([^ ]*\\) access=\\([a-z]*\\) .*/\\1 \\2/p' $M/proc/policy > $T/all
          [ $(wc -l < $T/all) = $(wc -l < $M/proc/policy) ]; grep -q 'lp0 spooled' $T/all
          while read -r node access; do
              [ $access != spooled ] || continue
              ( exec 5<>$M/dev/$node ) 2>/dev/null || continue # no medium, no leave
              exec 5<>$M/dev/$node; tried=$((${tried:-0} + 1))
              if ( exec 6<>$M/dev/$node ) 2>$T/why; then second=shared
              else grep -q busy $T/why; second=dedicated; fi
              exec 5>&-
              [ $second = $access ] || { echo $node is $access: $second; exit 1; }
          done < $T/all; [ $tried -gt 12 ]
          exec 5>$M/dev/lp0 6>$M/dev/lp0
          for i in 1 2 3; do echo a >&5; echo b >&6; done; exec 5>&- 6>&-");
    wait_for("two whole jobs", || h.sh("spindle --at $M lpq -P lp0 | grep -c bytes").trim() == "2");
    h.sh("spindle --at $M lpc start lp0");
    wait_for("both printed", || h.sh("tr -d '\\f' < $S/lp0.out | wc -c").trim() == "12");
    let out = h.sh("tr -d '\\n\\f' < $S/lp0.out");
    assert!(out == "aaabbb" || out == "bbbaaa", "{out}");
}

fn tables() {
    let h = House::new();
    let devices = h.text("proc/devices");
    assert!(devices.contains("Character devices:") && devices.contains("Block devices:"));
    for line in h.text("proc/nodes").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let known = devices.lines().any(|l| l.split_whitespace().next() == Some(words[2]));
        assert!(known, "major {} of {} is not in proc/devices", words[2], words[0]);
    }
}

fn out_of_range() {
    let h = House::new();
    h.sh("cat > $T/p.py <<'E'
import os, sys, errno, fcntl
m = sys.argv[1]
refusals = (errno.EINVAL, errno.ENOSPC, errno.EOVERFLOW, errno.EFBIG, errno.ESPIPE)
sized = lambda way: (way << 30) | (16383 << 16)
for name in sorted(os.listdir(m + '/dev')):
    try: fd = os.open(m + '/dev/' + name, os.O_RDWR)
    except OSError as e: continue
    for at in (0, 1, 2**31, 2**62, 2**63 - 4096, 2**63 - 1):
        for call in (lambda: os.pread(fd, 0, at), lambda: os.pread(fd, 1, at),
                     lambda: os.pwrite(fd, b'', at)):
            try: call()
            except OSError as e:
                is_tape = name.endswith('st0') and e.errno == errno.ESPIPE
                assert e.errno in refusals or is_tape, (name, at, e)
    if not name.startswith(('zero', 'full', 'random', 'urandom', 'null', 'st0', 'nst0')):
        try: assert os.pread(fd, 512, 2**62) == b'', name
        except OSError as e: assert e.errno in (errno.EINVAL, errno.ESPIPE), (name, e)
        try: os.pwrite(fd, b'x' * 512, 2**62); assert False, name
        except OSError as e: assert e.errno in refusals, (name, e)
    for cmd in (0, 0xdead, 0xffffffff, sized(3), sized(2), 0x40000000):
        try: fcntl.ioctl(fd, cmd, bytearray(16383)); assert False, (name, cmd)
        except OSError as e: assert e.errno in (errno.ENOTTY, errno.EINVAL), (name, hex(cmd), e)
    os.close(fd)
    try: os.read(fd, 1); assert False
    except OSError as e: assert e.errno == errno.EBADF
E
          python3 $T/p.py $M; ls $M/dev/sd0");
}
