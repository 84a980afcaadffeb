//! SCSI commands: what sg3-utils asks of a disk, and what a program hears that asks for itself.

use crate::house::House;
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("if_07_tools_that_ask", &["sg_inq", "sg_vpd", "sg_logs"], tools),
    check("commands_are_coherent_with_the_cache", &["python3"], coherent),
    check("er_04_sense_names_what_was_wrong", &["python3"], senses),
    check("er_04_error_counters_are_those_of_the_driver", &["python3", "sg_logs"], counters),
    check("er_04_error_counters_survive_a_remount", &["python3", "sg_logs"], kept_counters),
    check("er_04_three_faults_give_three_senses_and_one_errno", &["python3"], triples),
    check("data_in_pieces_and_short_answers", &["python3"], pieces),
    check("er_04_mode_select_changes_what_it_says", &["sdparm", "sg_wr_mode", "python3"], modes),
    check("a_command_that_takes_too_long_is_ended", &["sg_turs", "python3"], late),
    check("a_program_of_32_bits_is_served", &["python3"], narrow),
];

/// `sg(fd, cdb, size or data)` gives status, sense, data, and what was left over.
const SG: &str = r"
import ctypes, errno, fcntl, mmap, os, struct, sys
m = sys.argv[1]
def fails(name, call, *args):
    try: call(*args)
    except OSError as e: assert errno.errorcode[e.errno] == name, (name, e)
    else: raise AssertionError(name)
def address(thing): return ctypes.addressof(thing)
def memory(data): return ctypes.create_string_buffer(data, max(len(data), 1))
def sg(fd, cdb, want=0, pieces=None, interface='S', millis=60000):
    out = isinstance(want, bytes)
    size = len(want) if out else want
    data, cdb, sense = memory(want if out else bytes(size)), memory(bytes(cdb)), memory(bytes(64))
    at, count = address(data), 0
    if pieces:
        list, place = b'', at
        for piece in pieces: list, place = list + struct.pack('QQ', place, piece), place + piece
        list = memory(list)
        at, count = address(list), len(pieces)
    hdr = bytearray(struct.pack('=iiBBHIQQQIIi4xQ24x', ord(interface), -2 if out else -3 if size
        else -1, len(cdb), 64, count, size, at, address(cdb), address(sense), millis, 0, 0, 0))
    fcntl.ioctl(fd, 0x2285, hdr, True)
    answer = struct.unpack_from('=BBBBHHiII', hdr, 64)
    status, masked, _, sense_len, host, driver, left, _, info = answer
    if host: return 'host %d' % host, driver, status, left
    assert masked == status >> 1 and info == (status != 0), hdr[64:]
    return status, sense.raw[:sense_len], b'' if out else data.raw[:size - left], left
def key(sense): return '%x/%02x/%02x' % (sense[2], sense[12], sense[13])
def last(fd): return fcntl.ioctl(fd, 0x8018b501, bytes(24))
def read10(lba, count): return struct.pack('>BBIBHB', 0x28, 0, lba, 0, count, 0)
def write10(lba, count): return struct.pack('>BBIBHB', 0x2a, 0, lba, 0, count, 0)
";

fn python(h: &House, program: &str) {
    h.sh(&format!("cat > $T/p.py <<'END'\n{SG}\n{program}\nEND\npython3 $T/p.py $M"));
}

fn tools() {
    let h = House::new();
    h.sh("d=$M/dev/sd0; sg_inq $d | grep -q 'Product identification: sd0 disk'
          sg_turs $d; sg_turs $M/dev/rhd0; sg_inq $M/dev/fd0 | grep -q 'RMB=1'
          sg_readcap $d | grep -q 'Number of logical blocks=131072'
          sg_readcap -l $d | grep -q 'lbpme=1, lbprz=1'
          sg_vpd -p bdc $M/dev/hd0 | grep -q '7200 rpm'; sg_vpd -p sn $d | grep -q sd0
          sg_vpd -p di $d | grep -q SPINDLE; sg_vpd -p bl $d | grep -q 'length: 32768 blocks'
          sg_vpd -p lbpv $d | grep -q 'LBPU): 1'; ! sg_vpd -p 0x99 $d 2>/dev/null
          sg_modes $d | grep -q 'WP=0'; sg_modes -p 8 $d | grep -qF '08 12 04'
          blockdev --setro $d; sg_modes $d | grep -q 'WP=1'; blockdev --setrw $d
          sg_luns $d | grep -q '1 lun entry'; sg_requests $d 2>&1 | grep -q 'No Sense'
          sg_logs $d | grep -q 'Read error'; ! sg_logs -t $d 2>/dev/null
          sg_sync $d; sg_scan $d | grep -q 'scsi0 channel=0 id=0 lun=0'
          dd if=/dev/urandom of=$d bs=4k count=4 status=none
          sg_unmap --force --lba=8 --num=8 $d; cmp -n 4096 -i 4096:0 $d /dev/zero
          sg_dd if=$d of=$T/x bs=512 count=32 2>/dev/null; cmp -n 16384 $T/x $d
          sg_raw -r 8 $d ff 0 0 0 0 0 >$T/e 2>&1 || [ $? = 9 ]
          grep -q 'Invalid command operation code' $T/e
          for c in SG_IO SPINDLE_SENSE BLKGETSIZE64; do grep -q \"^sd 0x.* $c\" $M/proc/ioctls; done
          grep -q '^st .* SPINDLE_SENSE' $M/proc/ioctls");
}

fn coherent() {
    let h = House::new();
    python(
        &h,
        r"
b, r = os.open(m + '/dev/sd0', os.O_RDWR), os.open(m + '/dev/rsd0', os.O_RDWR)
one, two = b'A' * 4096, b'B' * 512
os.pwrite(b, one, 1 << 20)
assert os.pread(r, 512, 1 << 20) == bytes(512), 'it is not on the medium yet'
assert sg(b, read10(2048, 8), 4096)[2] == one, 'what is dirty is read'
assert os.pread(r, 512, 1 << 20) == b'A' * 512
assert sg(r, write10(2049, 1), two)[0] == 0
assert os.pread(b, 1024, 1 << 20) == b'A' * 512 + two, 'what was cached is dropped'
os.pwrite(b, b'C', 1 << 20)
assert sg(b, [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0])[0] == 0
assert os.pread(r, 512, 1 << 20)[:1] == b'C', 'synchronized'
same = struct.pack('>BBQIBB', 0x93, 0, 2050, 3, 0, 0)
assert sg(b, same, b'D' * 512)[0] == 0
assert os.pread(b, 2560, (1 << 20) + 512) == two + b'D' * 1536 + b'A' * 512
unmap = struct.pack('>HH4xQI4x', 22, 16, 2049, 2)
assert sg(b, [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], unmap)[0] == 0
assert os.pread(b, 1536, (1 << 20) + 512) == bytes(1024) + b'D' * 512
big = os.urandom(1 << 20)
assert sg(b, struct.pack('>BBQIBB', 0x8a, 8, 4096, 2048, 0, 0), big)[0] == 0
assert sg(b, struct.pack('>BBQIBB', 0x88, 0, 4096, 2048, 0, 0), 1 << 20)[2] == big
assert os.pread(r, 1 << 19, 2 << 20) == big[:1 << 19]
assert sg(b, [8, 0, 0x10, 0, 2, 0], 1024)[2] == big[:1024], 'READ (6)'
assert sg(b, [10, 0, 0x10, 0, 1, 0], two)[0] == 0 and os.pread(b, 512, 2 << 20) == two
table = bytearray(512); table[510:] = b'\x55\xaa'
table[446:462] = struct.pack('<B3xB3xII', 0, 0x83, 64, 128)
assert sg(b, write10(0, 1), bytes(table))[0] == 0
os.close(b); os.close(r)
assert os.path.exists(m + '/dev/sd0p1'), 'a table written so is read at the close'
",
    );
}

fn senses() {
    let h = House::new();
    h.ctl("fault add bad on sd0 op=read block=100 do error EIO sense=3/11/04");
    python(
        &h,
        r"
d = os.open(m + '/dev/sd0', os.O_RDWR)
def refused(cdb, want=0):
    status, sense, data, left = sg(d, cdb, want)
    assert status == 2 and data == b'', (status, data)
    assert left == (len(want) if isinstance(want, bytes) else want)
    return sense
assert last(d) == bytes(24)
s = refused(read10(96, 8), 4096)
assert key(s) == '3/11/04' and s[0] == 0xf0 and s[3:7] == struct.pack('>I', 100), s
l = last(d)
assert l[:4] == b'\x03\x11\x04\x03' and struct.unpack('=iQ', l[4:16]) == (errno.EIO, 100), l
assert key(sg(d, [3, 0, 0, 0, 18, 0], 18)[2]) == '3/11/04', 'REQUEST SENSE tells the same'
s = refused([0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0], 512)
assert key(s) == '5/24/00' and s[15:18] == b'\xcd\x00\x01', 'the byte and the bit in error'
l = last(d)
assert l[:4] == b'\x05\x24\x00\x05' and l[16:19] == b'\x01\x00\x05', l
assert key(refused([0xff] * 16)) == '5/20/00'
assert key(refused(read10(131072, 1), 512)) == '5/21/00'
assert key(refused(read10(0, 8), 512)) == 'b/4b/00', 'no room for the data'
assert key(refused(write10(0, 8), b'x' * 512)) == 'b/4b/00', 'not enough of them'
assert key(refused([0x4d, 0, 0x4d, 0, 0, 0, 0, 0, 64, 0], 64)) == '5/24/00', 'no temperature'
assert sg(d, read10(0, 1), 512)[0] == 0 and last(d) == bytes(24), 'a good command clears it'
fails('EIO', os.pread, os.open(m + '/dev/rsd0', os.O_RDONLY), 512, 51200)
assert last(d)[:3] == b'\x03\x11\x04'
os.pread(os.open(m + '/dev/rsd0', os.O_RDONLY), 512, 0)
assert last(d) == bytes(24)
fcntl.ioctl(d, 0x125d, struct.pack('i', 1))
before = os.pread(d, 512, 0)
for cdb, data in [(write10(0, 1), b'x' * 512), ([0x41] + [0] * 9, bytes(512)),
        ([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], struct.pack('>HH4xQI4x', 22, 16, 0, 1))]:
    assert key(refused(cdb, data)) == '7/27/00', 'protected'
assert os.pread(d, 512, 0) == before
fcntl.ioctl(d, 0x125d, struct.pack('i', 0))
reader = os.open(m + '/dev/sd0', os.O_RDONLY)
assert sg(reader, read10(0, 1), 512)[0] == 0
fails('EPERM', sg, reader, write10(0, 1), bytes(512))
fails('EINVAL', sg, d, [0] * 6, 0, None, 'Q')
fails('EINVAL', sg, d, [0] * 5)
fails('EINVAL', sg, d, read10(0, 0), (16 << 20) + 1)
fails('ENOTTY', sg, os.open(m + '/dev/null', os.O_RDWR), [0] * 6)
fails('ENOTTY', last, os.open(m + '/dev/null', os.O_RDWR))
def wild(at): fcntl.ioctl(d, 0x2285, at)
for at in [0, 8, 0x7fffffff]: fails('EFAULT', wild, at)
",
    );
}

fn counters() {
    let h = House::new();
    h.ctl("fault add bad on sd0 op=read block=100 do error EIO");
    h.ctl("fault add shy on sd0 op=read block=300 do transient 2");
    h.sh("for i in 1 2 3; do ! dd if=$M/dev/rsd0 of=/dev/null skip=100 count=1 2>/dev/null; done
          dd if=$M/dev/rsd0 of=/dev/null skip=300 count=1 status=none
          sg_logs -p 3 $M/dev/sd0 >$T/log; grep -q 'uncorrected errors = 3' $T/log
          grep -q 'rereads = 2' $T/log; grep -q 'errors corrected = 1' $T/log
          sg_logs -p 2 $M/dev/sd0 | grep -q 'uncorrected errors = 0'");
    python(
        &h,
        r"
d = os.open(m + '/dev/sd0', os.O_RDONLY)
assert sg(d, [0x4d, 0, 0x43, 0, 0, 0, 6, 0, 64, 0], 64)[2][8:16] == struct.pack('>Q', 3)
",
    );
}

/// Also after a remount, and after a death without one.
fn kept_counters() {
    let h = House::new();
    h.sh("sg_logs -p 3 $M/dev/sd0 | grep -q 'uncorrected errors = 0'
          [ ! -e $S/sd0.img.counters ]");
    let bad = "fault add bad on sd0 op=read block=100 do error EIO";
    let read = "! dd if=$M/dev/rsd0 of=/dev/null skip=100 count=1 2>/dev/null";
    let is = |h: &House, count: u32| {
        h.sh(&format!("sg_logs -p 3 $M/dev/sd0 | grep -q 'uncorrected errors = {count}'"));
    };
    h.ctl(bad);
    h.sh(&format!("for i in $(seq 7); do {read}; done"));
    is(&h, 7);
    let bytes = || -> u64 {
        let told = h.sh("sg_logs -p 3 $M/dev/sd0 | sed -n 's/.*bytes processed = //p'");
        told.parse().expect("a number of bytes")
    };
    let before = bytes();
    h.umount();
    h.mount();
    is(&h, 7);
    assert!(bytes() > before, "counted on, with the reading of the table");
    h.ctl(bad);
    h.sh(read);
    h.kill();
    h.mount();
    is(&h, 8);
    h.ctl("fault add shy on sd0 op=write block=300 do transient 2");
    h.sh("dd if=/dev/zero of=$M/dev/rsd0 seek=300 count=1 status=none
          sg_logs -p 2 $M/dev/sd0 >$T/log; grep -q 'rewrites .* = 2' $T/log
          grep -q 'errors corrected = 1' $T/log");
    let reset = "d = os.open(m + '/dev/sd0', os.O_RDWR)
reader = os.open(m + '/dev/sd0', os.O_RDONLY)
fails('EPERM', sg, reader, [0x4c, 2, 0xc3, 0, 0, 0, 0, 0, 0, 0])
assert key(sg(d, [0x4c, 2, 0xcd, 0, 0, 0, 0, 0, 0, 0])[1]) == '5/24/00'
assert sg(d, [0x4c, 2, 0xc3, 0, 0, 0, 0, 0, 0, 0])[0] == 0";
    python(&h, reset);
    is(&h, 0);
    h.umount();
    h.mount();
    is(&h, 0);
    h.sh("sg_logs -p 2 $M/dev/sd0 | grep -q 'errors corrected = 1'; sg_logs --reset $M/dev/sd0
          sg_logs -p 2 $M/dev/sd0 | grep -q 'errors corrected = 0'");
}

/// Three that differ in all but their errno.
fn triples() {
    let h = House::new();
    h.ctl("fault add one on sd0 op=read block=100 do error EIO sense=3/11/04");
    h.ctl("fault add two on sd0 op=read block=200 do error EIO sense=3/10/00");
    h.ctl("fault add three on sd0 op=write block=300 do error EIO sense=3/0c/02");
    python(
        &h,
        r"
r = os.open(m + '/dev/rsd0', os.O_RDWR)
seen = set()
for block, call in [(100, lambda at: os.pread(r, 512, at)), (200, lambda at: os.pread(r, 512, at)),
        (300, lambda at: os.pwrite(r, bytes(512), at))]:
    fails('EIO', call, block * 512)
    told = last(r)
    assert struct.unpack('=iQ', told[4:16]) == (errno.EIO, block), told
    seen.add(told[:3])
    assert sg(r, [3, 0, 0, 0, 18, 0], 18)[2][2:14:10] == told[:2], 'REQUEST SENSE, the same'
    assert last(r) == told, 'asking clears nothing'
    assert len(os.pread(r, 512, 0)) == 512 and last(r) == bytes(24), 'a good command does'
assert seen == {b'\x03\x11\x04', b'\x03\x10\x00', b'\x03\x0c\x02'}, seen
",
    );
}

fn modes() {
    let h = House::new();
    h.sh("d=$M/dev/sd0; is() { ctl get sd0.$1 | grep -qw $2; }
          on_medium() { dd if=$M/dev/rsd0 bs=512 skip=8 count=1 status=none | head -c 4; }
          told() { sdparm -l --get $1 $d || [ $? = 5 ]; } # nothing is saved
          printf held | dd of=$d bs=4 seek=1024 conv=notrunc status=none
          told WCE | grep -q 'WCE .*1 .*cha: y, def:  1'
          on_medium | cmp -n 4 - /dev/zero; sdparm --clear WCE $d >$T/x; is sync on
          [ $(on_medium) = held ]
          printf more | dd of=$d bs=4 seek=1024 conv=notrunc status=none
          [ $(on_medium) = more ]
          told WCE | grep -q 'WCE .*0 .*def:  1'
          sdparm --set WCE $d >$T/x; is sync off
          sdparm --set DRA $d >$T/x; [ $(blockdev --getra $d) = 0 ]
          sdparm --clear DRA $d >$T/x; [ $(blockdev --getra $d) = 2048 ]
          sdparm --set RRC=2 $d >$T/x; is retries 2
          for no in RCD SWP AWRE=0 WRC=9; do ! sdparm --set $no $d >$T/x 2>&1; done
          ! sdparm --save --set RRC=9 $d >$T/x 2>&1; is retries 2
          sg_modes -p 1 $d | grep -q '01 0a c0 02 00 00 00 00  02'
          sg_modes -p 1 -c 2 $d | grep -q '01 0a c0 05'
          sg_modes -p 1 -c 1 $d | grep -q '01 0a 00 ff 00 00 00 00  00'
          sg_wr_mode -p 8 -c 08,12,00,0,0,0,0,0,0,0,0,0,20,0,0,0,0,0,0,0 $d
          is sync on; [ $(blockdev --getra $d) = 0 ]");
    h.ctl("set sd0.retries 0");
    h.ctl("fault add shy on sd0 op=read block=300 do transient 2");
    python(
        &h,
        r"
d = os.open(m + '/dev/sd0', os.O_RDWR)
assert sg(d, read10(300, 1), 512)[0] == 2, 'no further try'
page = sg(d, [0x1a, 8, 1, 0, 64, 0], 64)[2]
assert sg(d, [0x15, 0x10, 0, 0, 16, 0], bytes(4) + bytes([1, 10, 0xc0, 4]) + page[8:])[0] == 0
assert sg(d, read10(300, 1), 512)[0] == 0, 'tried again'
status, sense, _, _ = sg(d, [0x15, 0x10, 0, 0, 16, 0], bytes(4) + bytes([1, 10, 0xd0]) + bytes(9))
assert status == 2 and key(sense) == '5/26/00' and sense[15:18] == b'\x8c\x00\x06', sense
assert last(d)[:4] == b'\x05\x26\x00\x09' and last(d)[16:19] == b'\x06\x00\x04'
reader = os.open(m + '/dev/sd0', os.O_RDONLY)
fails('EPERM', sg, reader, [0x15, 0x10, 0, 0, 4, 0], bytes(4))
",
    );
}

fn late() {
    let h = House::new();
    python(
        &h,
        r"
import time
d = os.open(m + '/dev/sd0', os.O_RDWR)
def ctl(words): open(m + '/ctl', 'w').write(words)
def timed_out(cdb, want):
    begun = time.time()
    assert sg(d, cdb, want, millis=300) == ('host 3', 0, 0, len(want) if want != 512 else 512)
    assert 0.25 < time.time() - begun < 2, time.time() - begun
for hold, go_on in [('pause sd0', 'resume sd0'), ('freeze sd0', 'thaw sd0')]:
    ctl(hold)
    timed_out(read10(7, 1), 512)
    timed_out(write10(9, 1), b'w' * 512)
    ctl(go_on)
    assert sg(d, read10(7, 1), 512, millis=3000)[0] == 0
    assert last(d) == bytes(24)
assert os.pread(d, 1, 9 * 512) == b'w', 'what was in the queue was done'
ctl('fault add dead on sd0 op=read block=50 do hang')
timed_out(read10(50, 1), 512)
",
    );
    h.ctl("reset sd0");
    h.sh("sg_turs $M/dev/sd0");
}

fn pieces() {
    let h = House::new();
    python(
        &h,
        r"
d = os.open(m + '/dev/sd0', os.O_RDWR)
data = os.urandom(4096)
assert sg(d, write10(0, 8), data, [1, 511, 3000, 584])[0] == 0
assert os.pread(d, 4096, 0) == data
status, _, got, left = sg(d, read10(0, 8), 4096, [4000, 0, 96])
assert (status, left) == (0, 0) and got == data
_, _, got, left = sg(d, [0x12, 0, 0, 0, 36, 0], 96)
assert len(got) == 36 and left == 60, 'no more than was allowed'
_, _, got, left = sg(d, [0x12, 0, 0, 0, 96, 0], 10)
assert len(got) == 10 and left == 0, 'no more than there is room for'
n = fcntl.ioctl(d, 0x2282, bytes(4)); assert struct.unpack('i', n)[0] >= 30000
assert fcntl.ioctl(d, 0x5382, bytes(8)) == bytes(8)
",
    );
}

/// The system call of 32-bit programs, made by a program of 64.
fn narrow() {
    let h = House::new();
    python(
        &h,
        r"
LOW = 0x40 # MAP_32BIT
def low(size, prot): return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | LOW, prot)
def place(area): return ctypes.addressof(ctypes.c_char.from_buffer(area))
try: code = low(4096, 7)
except OSError: sys.exit(0) # the host allows no such memory
if os.uname().machine != 'x86_64': sys.exit(0)
code.write(bytes.fromhex('53 89fb 89f1 b836000000 cd80 5b c3'))
ioctl = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)(place(code))
area = low(8192, 3)
at = place(area)
d = os.open(m + '/dev/sd0', os.O_RDWR)
os.pwrite(d, b'narrow' * 10, 0)
area[128:138] = read10(0, 1)
area[:64] = struct.pack('=iiBBHIIIIIIiI20x', ord('S'), -3, 10, 32, 0, 512, at + 4096, at + 128,
    at + 256, 60000, 0, 0, 0)
assert ioctl(d, 0x2285, at) == 0
assert area[44] == 0 and area[4096:4102] == b'narrow', bytes(area[:64])
area[128:138] = read10(0xffffff, 1)
assert ioctl(d, 0x2285, at) == 0
assert area[44] == 2 and area[256 + 2] == 5 and area[256 + 12] == 0x21
assert ioctl(d, 0x1260, at) == 0 and area[:4] == struct.pack('I', 131072)
assert ioctl(d, 0x8018b501, at) == 0 and area[:3] == b'\x05\x21\x00'
",
    );
}
