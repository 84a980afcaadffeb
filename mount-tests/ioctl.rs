//! Device commands: what real tools ask of a disk, and what nobody should.

use crate::house::House;
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("if_07_all_of_blockdev", &["blockdev"], all_of_blockdev),
    check("if_07_geometry_for_hdparm_and_fdisk", &["hdparm", "fdisk"], geometry),
    check("a_protected_disk_refuses_writes", &["blockdev"], protection),
    check("if_07_a_thousand_bytes_go_both_ways", &["python3"], both_ways),
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
          grep -qx 'ttyS 0x5401 TCGETS' $M/proc/ioctls
          [ \"$(grep '^mem ' $M/proc/ioctls)\" = 'mem 0xc3e8b510 NULL_REVERSE null' ]
          blockdev --report $M/dev/sd0 | grep -q '^rw .*67108864'
          ! blockdev --getsz $M/dev/null 2>$T/e; ! blockdev --getra $M/dev/st0 2>$T/e");
}

/// What null makes of a structure, and that its number with another size, or given the other way,
/// is another command.
const BOTH_WAYS: &str = r"
import ctypes, errno, os, random, sys
dice = random.Random(int(sys.argv[2]))
libc = ctypes.CDLL(None, use_errno=True)
libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
null, zero = (os.open(sys.argv[1] + '/dev/' + name, os.O_RDWR) for name in ['null', 'zero'])
def given(fd, data, way=3, number=0x10, size=1000):
    area = ctypes.create_string_buffer(data + b'beyond', 5000)
    done = libc.ioctl(fd, way << 30 | size << 16 | 0xb5 << 8 | number, area)
    assert area[len(data):5000] == b'beyond' + bytes(4994 - len(data)), 'written beyond'
    return area[:len(data)] if done == 0 else errno.errorcode[ctypes.get_errno()]
for turn in range(100):
    data = dice.randbytes(1000)
    assert given(null, data) == data[::-1], turn
other = [dict(size=size) for size in [0, 1, 8, 999, 1001, 4000]]
other += [dict(way=way) for way in [0, 1, 2]] + [dict(number=n) for n in [0, 1, 0xf, 0x11]]
for wrong in other:
    assert given(null, data, **wrong) == 'ENOTTY', (wrong, given(null, data, **wrong))
assert given(zero, data) == 'ENOTTY' and given(null, data) == data[::-1]
";

fn both_ways() {
    let h = House::new();
    let seed = std::env::var("SEED").unwrap_or_else(|_| "7".into());
    eprintln!("SEED={seed}");
    let script = format!("cat > $T/p.py <<'END'\n{BOTH_WAYS}\nEND\npython3 $T/p.py $M {seed}");
    h.sh(&script);
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

/// Random numbers, sizes, contents and pointers at every node; random command blocks, too. The
/// host's own commands (they never reach us) are left out, and those that are meant to change
/// something and may: of read-ahead, of protection, of reservation.
const RANDOM: &str = r"
import ctypes, errno, os, random, struct, sys
m, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dice = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
fds = {}
for n in sorted(os.listdir(m + '/dev')):
    try: fds[n] = os.open(m + '/dev/' + n, os.O_RDONLY)
    except OSError as e: assert e.errno in (errno.EACCES, errno.EPERM, errno.EBUSY), (n, e)
meant = {0x125d, 0x1262, 0x1264, 0xb502, 0xb504}
# Of a terminal's: the host's own, those that wait, hangup.
not_asked = {0x1b, 0x21, 0x50, 0x51, 0x52, 0x60, 0x09, 0x25, 0x5c, 0x37}
known = {errno.ENOTTY, errno.EINVAL, errno.EBADF, errno.EFAULT, errno.EPERM, errno.EACCES,
    errno.EOPNOTSUPP, errno.ENXIO, errno.EROFS, errno.EIO, errno.EBUSY, errno.ENOMEM}
area = ctypes.create_string_buffer(1 << 16)
here = ctypes.addressof(area)
def pointer(): return dice.choice([here + dice.randrange(1 << 15), 0, dice.randrange(1 << 12),
    dice.getrandbits(64), dice.getrandbits(47) | 1 << 63])
answers = {}
for i in range(count):
    area[:4096] = dice.randbytes(4096)
    if dice.randrange(6) == 0:
        cmd, at = 0x2285, here
        code = dice.choice([0, 3, 8, 0x12, 0x1a, 0x25, 0x28, 0x35, 0x4d, 0x5a, 0x88, 0x91, 0x9e,
            0xa0, 0xa8, 0x0a, 0x2a, 0x41, 0x42, 0x8a, 0x93, dice.randrange(256)])
        area[4096:4112] = bytes([code]) + dice.choice([bytes(15), dice.randbytes(15)])
        area[:56] = struct.pack('=iiBBHIQQQIIi', ord('S'), -dice.randrange(6), dice.choice([6, 10,
            12, 16, dice.randrange(40)]), dice.randrange(64), dice.choice([0, 0, 0, 1, 9, 2000]),
            dice.choice([0, 512, 4096, 1 << 15, dice.getrandbits(32)]), dice.choice([here + 8192,
            pointer()]), dice.choice([here + 4096, here + 4096, pointer()]), dice.choice([here +
            5000, pointer()]), 1000, 0, 0) + bytes(4)
    else:
        group = dice.choice([0x12, 0x03, 0x22, ord('m'), ord('S'), 0xb5, 0x54, dice.randrange(256)])
        size = dice.choice([0, 1, 4, 8, 16, 24, 48, 100, 1000, 1024, 4000])
        cmd = dice.randrange(4) << 30 | size << 16 | group << 8 | dice.randrange(256)
        if cmd & 0xffff in meant or group in (0x66, 0x58, 0x15): continue
        at = dice.choice([here, pointer()])
    name = dice.choice(list(fds))
    if cmd >> 8 & 255 == 0x54 and (name[:3] != 'tty' or cmd & 0xff in not_asked): continue
    ctypes.set_errno(0)
    done = libc.ioctl(fds[name], cmd, at)
    told = ctypes.get_errno() if done < 0 else 0
    assert told == 0 or told in known, (name, hex(cmd), errno.errorcode[told])
    answers[told] = answers.get(told, 0) + 1
print({errno.errorcode.get(told, 'done'): n for told, n in answers.items()}, len(fds))
";

fn random_commands() {
    let total = std::env::var("SPINDLE_IOCTLS").ok().and_then(|s| s.parse().ok());
    let each = total.unwrap_or(8000_u32) / 8;
    let seed = std::env::var("SEED").unwrap_or_else(|_| "7".into());
    eprintln!("SEED={seed}");
    let h = House::new();
    let said = h.sh(&format!(
        "cat > $T/p.py <<'END'\n{RANDOM}\nEND
         dd if=/dev/urandom of=$M/dev/sd0 bs=1M count=8 status=none; sync $M/dev/sd0
         echo tape >$M/dev/st0; until ctl eject st0; do sleep 0.01; done; ctl load st0 $S/st0.tap ro
         sum() {{ sha256sum <$M/dev/sd0; blockdev --getra --getro --getsz $M/dev/sd0
             sha256sum <$S/st0.tap; ls /proc/$(cat $S/pid)/fd | wc -l; }}
         size() {{ awk '/VmRSS/ {{print $2}}' /proc/$(cat $S/pid)/status; }}
         a=$(sum); r=$(size); for i in 1 2 3 4 5 6 7 8; do
             timeout 280 python3 $T/p.py $M $(({seed} + i)) {each} & all=\"${{all:-}} $!\"; done
         for p in $all; do wait $p; done
         while awk '$4 ~ /^(char|block|raw)$/' $M/proc/files | grep -q .; do sleep 0.01; done
         b=$(sum); [ \"$a\" = \"$b\" ] || {{ echo \"$a\" \"$b\"; exit 1; }}
         echo grown by $(($(size) - r)) KiB; [ $(($(size) - r)) -lt 65536 ]"
    ));
    eprintln!("{said}");
}
