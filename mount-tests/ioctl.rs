//! Device commands: what real tools ask of a disk, and what nobody should.

use crate::house::House;
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("if_07_all_of_blockdev", &["blockdev"], all_of_blockdev),
    check("if_07_geometry_for_hdparm_and_fdisk", &["hdparm", "fdisk"], geometry),
    check("a_protected_disk_refuses_writes", &["blockdev"], protection),
    check("if_08_random_commands_change_nothing", &["python3"], random_commands),
];

fn all_of_blockdev() {
    let h = House::new();
    h.sh("is() { [ \"$(blockdev $1 $M/dev/$2)\" = $3 ] || { echo $*; blockdev $1 $M/dev/$2; }; }
          out=$(is --getsize64 sd0 67108864; is --getsz sd0 131072; is --getss sd0 512
            is --getpbsz sd0 512; is --getbsz sd0 4096; is --getro sd0 0; is --getra sd0 2048
            is --getfra sd0 2048; is --getiomin sd0 512; is --getioopt sd0 0
            is --getalignoff sd0 0; is --getsz rsd0 131072; is --getsz fd0 2880
            is --getdiscardzeroes sd0 1 || :); echo \"$out\"; [ -z \"$out\" ]
          blockdev --getmaxsect $M/dev/sd0 | grep -qx '[1-9][0-9]*'
          blockdev --setra 512 $M/dev/sd0; [ $(blockdev --getra $M/dev/sd0) = 512 ]
          blockdev --setfra 0 $M/dev/sd0; [ $(blockdev --getfra $M/dev/sd0) = 0 ]
          ctl cache drop; a=$(val read_ahead bufcache)
          dd if=$M/dev/sd0 of=/dev/null bs=4k count=256 status=none
          [ $(val read_ahead bufcache) = $a ]
          blockdev --setbsz 4096 $M/dev/sd0; ! blockdev --setbsz 1024 $M/dev/sd0 2>/dev/null
          blockdev --flushbufs $M/dev/sd0; blockdev --rereadpt $M/dev/sd0
          grep -qx 'sd 0x1260 BLKGETSIZE' $M/proc/ioctls
          grep -qx 'st 0x40086d01 MTIOCTOP' $M/proc/ioctls
          grep -qx 'ttyS 0x5401 TCGETS' $M/proc/ioctls; ! grep -q '^mem ' $M/proc/ioctls
          blockdev --report $M/dev/sd0 | grep -q '^rw .*67108864'
          ! blockdev --getsz $M/dev/null 2>$T/e; ! blockdev --getra $M/dev/st0 2>$T/e");
}

fn geometry() {
    let h = House::new();
    h.sh("hdparm -g $M/dev/sd0 | grep -q '130/16/63, sectors = 131072, start = 0'
          hdparm -g $M/dev/fd0 | grep -q '80/2/18'; hdparm -r $M/dev/sd0 | grep -q 'off'
          fdisk -l $M/dev/sd0 | grep -q '64 MiB, 67108864 bytes, 131072 sectors'
          printf 'o\\nn\\np\\n1\\n2048\\n+8M\\nw\\n' | fdisk $M/dev/sd0 >/dev/null
          until [ -e $M/dev/sd0p1 ]; do sleep 0.01; done
          hdparm -g $M/dev/sd0p1 | grep -q 'start = 2048'
          [ $(blockdev --getsz $M/dev/sd0p1) = 16384 ]");
}

fn protection() {
    let h = House::new();
    h.sh("exec 3<>$M/dev/sd1; blockdev --setro $M/dev/sd1; [ $(blockdev --getro $M/dev/sd1) = 1 ]
          ! echo x 2>$T/e >&3; grep -q 'Read-only' $T/e
          for d in sd1 rsd1; do ! : 2>$T/e >$M/dev/$d; grep -q 'Read-only' $T/e; : <$M/dev/$d; done
          blockdev --setrw $M/dev/sd1; echo x >&3; [ $(head -c 1 $M/dev/sd1) = x ]");
}

/// Random numbers, sizes and contents at a node. A number that begins a real command of the host's
/// own (it never reaches us) or of a disk's that is meant to change it is left out.
const RANDOM: &str = r"
import os, sys, fcntl, random, errno
m, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dice = random.Random(seed)
nodes = [n for n in sorted(os.listdir(m + '/dev')) if not n.endswith('st0')]
fds = {}
for n in nodes:
    try: fds[n] = os.open(m + '/dev/' + n, os.O_RDONLY)
    except OSError as e: assert e.errno in (errno.EACCES, errno.EPERM, errno.EBUSY), (n, e)
meant = {0x125d, 0x1262, 0x1264}
# Of a terminal's: the host's own, those that wait, hangup.
not_asked = {0x1b, 0x21, 0x50, 0x51, 0x52, 0x60, 0x09, 0x25, 0x5c, 0x37}
for i in range(count):
    kind = dice.randrange(4)
    size = dice.choice([0, 1, 4, 8, 16, 48, 100, 1024, 4000])
    group = dice.choice([0x12, 0x03, 0x22, ord('m'), 0xb5, 0x54, dice.randrange(256)])
    cmd = kind << 30 | size << 16 | group << 8 | dice.randrange(256)
    if cmd & 0xffff in meant or group in (0x66, 0x58, 0x15): continue
    name = dice.choice(list(fds))
    if group == 0x54 and (name[:3] != 'tty' or cmd & 0xff in not_asked): continue
    try: fcntl.ioctl(fds[name], cmd, bytearray(dice.randbytes(4096)), True)
    except OSError as e:
        assert e.errno in (errno.ENOTTY, errno.EINVAL, errno.EBADF, errno.EFAULT, errno.EPERM,
            errno.EACCES, errno.EOPNOTSUPP, errno.ENXIO), (name, hex(cmd), e)
";

fn random_commands() {
    let total = std::env::var("SPINDLE_IOCTLS").ok().and_then(|s| s.parse().ok());
    let each = total.unwrap_or(8000_u32) / 8;
    let seed = std::env::var("SEED").unwrap_or_else(|_| "7".into());
    eprintln!("SEED={seed}");
    let h = House::new();
    h.sh(&format!(
        "cat > $T/p.py <<'END'\n{RANDOM}\nEND
         dd if=/dev/urandom of=$M/dev/sd0 bs=1M count=8 status=none; sync $M/dev/sd0
         sum() {{ sha256sum <$M/dev/sd0; blockdev --getra --getro --getsz $M/dev/sd0; }}
         a=$(sum); for i in 1 2 3 4 5 6 7 8; do
             timeout 200 python3 $T/p.py $M $(({seed} + i)) {each} & all=\"${{all:-}} $!\"; done
         for p in $all; do wait $p; done; [ \"$a\" = \"$(sum)\" ]"
    ));
}
