//! Serial lines: line discipline, device commands, real tools across the null-modem cable.

use crate::house::{House, Said};
use crate::{Check, check};
use std::time::{Duration, Instant};

pub const CHECKS: &[Check] = &[
    check("stty_gets_and_sets_everything", &["stty"], stty),
    check("if_05_lines_are_edited_and_echoed", &["python3"], editing),
    check("min_and_time_in_all_four_cases", &["python3"], min_and_time),
    check("device_commands_of_a_terminal", &["python3"], commands),
    check("hw_09_a_held_fifo_keeps_sixteen", &["stty"], held_fifo),
    check("hw_06_parity_noise_and_pace", &["stty", "python3"], control_register),
    check("hw_06_a_line_is_set_while_it_works", &["stty"], run_time),
    check("hw_09_who_looks_too_rarely_loses_characters", &["stty"], polled),
    check("bu_05_rings_go_round", &["stty"], rings),
    check("hw_06_half_duplex_is_deaf_while_it_sends", &["stty"], half_duplex),
    check("a_megabyte_at_115200_in_virtual_time", &["stty"], megabyte),
    check("handshake_and_xoff_hold_a_fast_sender", &["python3"], flow_control),
    check("a_lost_carrier_hangs_up", &["python3"], hangup),
    check("input_to_a_closed_port_is_counted", &["stty"], closed_port),
    check("peers_on_the_host", &["python3"], peers),
    check("wrong_peers_are_refused", &[], wrong_peers),
    check("sz_and_rz_across_the_cable", &["sz", "rz", "stty"], zmodem),
    check("socat_on_both_ends", &["socat"], socat),
    check("picocom_talks_to_the_other_end", &["picocom", "script"], picocom),
    check("minicom_talks_to_the_other_end", &["minicom", "script"], minicom),
    check("pyserial_on_both_ends", &["/usr/bin/python3"], pyserial),
];

/// Both ports as they are for programs: nothing changed, nothing echoed.
pub const RAW: &str = "for t in 0 1; do stty -F $M/dev/ttyS$t raw -echo 115200; done\n";

/// What a Python program finds: the ports, and a thread that does something later.
const PYTHON: &str = "
import fcntl, os, select, struct, sys, termios, threading, time, tty
M = os.environ['M']
def port(n, flags=0):
    return os.open(M + '/dev/ttyS%d' % n, os.O_RDWR | os.O_NOCTTY | flags)
def raw(fd, vmin=1, vtime=0, control=0):
    a = termios.tcgetattr(fd)
    a[0] = a[1] = a[3] = 0
    a[2] = termios.CS8 | termios.CREAD | termios.CLOCAL | termios.HUPCL | control
    a[4] = a[5] = termios.B115200
    a[6][termios.VMIN], a[6][termios.VTIME] = vmin, vtime
    termios.tcsetattr(fd, termios.TCSANOW, a)
def later(run, after=0.3):
    def wait():
        time.sleep(after)
        run()
    t = threading.Thread(target=wait)
    t.start()
    return t
def took(run):
    begun = time.time()
    result = run()
    return result, time.time() - begun
";

fn python(house: &House, program: &str) -> Said {
    let path = house.scratch().join("program.py");
    std::fs::write(&path, format!("{PYTHON}{program}")).unwrap();
    house.try_sh("timeout 60 python3 $T/program.py")
}

/// Runs a program that must end well.
pub fn py(house: &House, program: &str) -> String {
    let said = python(house, program);
    assert!(said.status == 0, "{program}\n{said:?}\n{}", house.text("proc/serial"));
    said.out
}

fn stty() {
    let h = House::new();
    let all = h.sh("stty -F $M/dev/ttyS0 -a");
    for word in ["speed 9600 baud", "icanon", " echo ", "icrnl", "onlcr", "cs8", "clocal", "hupcl"]
    {
        assert!(all.contains(word), "{word}: {all}");
    }
    h.sh("saved=$(stty -F $M/dev/ttyS0 -g)
          stty -F $M/dev/ttyS0 raw -echo 19200 cs7 parenb parodd cstopb crtscts
          stty -F $M/dev/ttyS0 -a | grep -q 'speed 19200 baud'
          stty -F $M/dev/ttyS0 -a | grep -q -- '-icanon'
          stty -F $M/dev/ttyS0 -a | grep -q 'parenb parodd'
          grep -q 'ttyS0 .*\"19200 7O2\"' $M/proc/serial
          stty -F $M/dev/ttyS0 9600 # stty(1) 9.1 compares the rate it does not restore
          stty -F $M/dev/ttyS0 $saved; [ \"$(stty -F $M/dev/ttyS0 -g)\" = $saved ]
          stty -F $M/dev/ttyS0 rows 24 cols 80; [ \"$(stty -F $M/dev/ttyS0 size)\" = '24 80' ]
          stty -F $M/dev/ttyS0 erase ^H intr ^X min 3 time 7
          stty -F $M/dev/ttyS0 -a | grep -q 'intr = ^X'
          [ $(stty -F $M/dev/ttyS0 speed) = 9600 ]
          ! stty -F $M/dev/sd0 -a 2>/dev/null");
}

fn editing() {
    let h = House::new();
    py(
        &h,
        "
os.system('stty -F $M/dev/ttyS0 115200; stty -F $M/dev/ttyS1 115200')
a, b = port(0), port(1); raw(a)
t = later(lambda: os.write(a, b'ab\\x7f\\x7fxyz\\r'))
assert os.read(b, 100) == b'xyz\\n'
t.join()
echo = b''
while not echo.endswith(b'\\r\\n'): echo += os.read(a, 100)
assert echo == b'ab\\x08 \\x08\\x08 \\x08xyz\\r\\n', echo
os.write(a, b'one\\rtwo\\r\\x04'); time.sleep(0.3)
assert [os.read(b, 100) for _ in range(3)] == [b'one\\n', b'two\\n', b'']
os.write(b, b'out\\n')
termios.tcdrain(b); time.sleep(0.2)
assert os.read(a, 100).endswith(b'out\\r\\n')
assert os.isatty(a) and os.isatty(b)
",
    );
}

fn min_and_time() {
    let h = House::new();
    py(
        &h,
        "
a, b = port(0), port(1); raw(a)
raw(b, 0, 0)
r, s = took(lambda: os.read(b, 10)); assert r == b'' and s < 0.2, (r, s)
raw(b, 0, 5)
r, s = took(lambda: os.read(b, 10)); assert r == b'' and 0.4 < s < 0.9, (r, s)
t = later(lambda: os.write(a, b'x'), 0.2)
r, s = took(lambda: os.read(b, 10)); assert r == b'x' and s < 0.45, (r, s)
t.join(); raw(b, 3, 0)
os.write(a, b'ab'); t = later(lambda: os.write(a, b'c'))
r, s = took(lambda: os.read(b, 10)); assert r == b'abc' and 0.25 < s < 0.8, (r, s)
t.join(); raw(b, 3, 4)
t = later(lambda: os.write(a, b'ab'), 0.6)
r, s = took(lambda: os.read(b, 10)); assert r == b'ab' and 0.9 < s < 1.6, (r, s)
t.join()
",
    );
}

fn commands() {
    let h = House::new();
    py(
        &h,
        "
a, b = port(0), port(1); raw(a); raw(b)
def get(fd, cmd, kind='i'):
    return struct.unpack(kind, fcntl.ioctl(fd, cmd, bytes(struct.calcsize(kind))))
DTR, RTS, CTS, CAR, DSR = 2, 4, 0x20, 0x40, 0x100
time.sleep(0.1)
assert get(a, termios.TIOCMGET)[0] == DTR | RTS | CTS | CAR | DSR
fcntl.ioctl(a, termios.TIOCMBIC, struct.pack('i', RTS)); time.sleep(0.1)
assert get(b, termios.TIOCMGET)[0] & CTS == 0
fcntl.ioctl(a, termios.TIOCMSET, struct.pack('i', RTS)); time.sleep(0.1)
assert get(b, termios.TIOCMGET)[0] & (CTS | CAR) == CTS
fcntl.ioctl(a, termios.TIOCMBIS, struct.pack('i', DTR))
before = get(b, 0x545d, '20I')
os.write(a, b'12345'); assert os.read(b, 5)
time.sleep(0.1)
assert get(b, 0x545d, '20I')[4] >= before[4] + 1
assert get(a, termios.TIOCOUTQ)[0] == 0
termios.tcflow(a, termios.TCOOFF); os.write(a, b'held')
assert get(a, termios.TIOCOUTQ)[0] == 4
termios.tcflush(a, termios.TCOFLUSH); termios.tcflow(a, termios.TCOON)
assert get(a, termios.TIOCOUTQ)[0] == 0
_, seconds = took(lambda: termios.tcsendbreak(a, 0))
assert 0.2 < seconds < 0.8, seconds
assert os.read(b, 10) == b'\\0'
assert get(a, 0x541e, '18I')[0] == 4
os.write(a, b'x' * 2000)
_, seconds = took(lambda: termios.tcdrain(a)); assert 0.1 < seconds < 0.5, seconds
fcntl.ioctl(a, termios.TIOCEXCL)
termios2 = fcntl.ioctl(a, 0x802c542a, bytes(44))
assert struct.unpack('I', termios2[40:])[0] == 115200
flags = struct.unpack('I', termios2[8:12])[0] & ~0o10017 | 0o10000
other = termios2[:8] + struct.pack('I', flags) + termios2[12:40] + struct.pack('I', 57600)
fcntl.ioctl(a, 0x402c542b, other)
assert struct.unpack('I', fcntl.ioctl(a, 0x802c542a, bytes(44))[40:])[0] == 57600
for cmd in (0x541a5a, 0x5410, 0x540f, 0x1261, 0x80041272):
    try: fcntl.ioctl(a, cmd, bytes(8)); sys.exit(hex(cmd))
    except OSError as e: assert e.errno == 25, (hex(cmd), e)
",
    );
}

fn held_fifo() {
    let h = House::new();
    h.sh(RAW);
    h.sh("exec 3<>$M/dev/ttyS0; ctl hold ttyS0; ctl inject ttyS0 abcdefghijklmnop
          ctl release ttyS0; [ $(timeout 5 head -c 16 <&3) = abcdefghijklmnop ]
          grep -q 'ttyS0 chip .*overrun=0 ' $M/proc/serial
          ctl hold ttyS0; ctl inject ttyS0 abcdefghijklmnopqrst
          grep -q 'ttyS0 .* held' $M/proc/serial; grep -q 'fifo_level=16' $M/proc/serial
          ctl release ttyS0; [ $(timeout 5 head -c 16 <&3) = abcdefghijklmnop ]
          grep -q 'ttyS0 chip .*overrun=4 ' $M/proc/serial
          ctl inject ttyS0 z; [ $(timeout 5 head -c 1 <&3) = z ]");
    assert!(h.refused("hold sd0").contains("no serial port sd0"));
    assert!(h.refused("inject ttyS0 '\\q'").contains("inject"));
    assert!(h.refused("noise ttyS0 some").contains("number"));
}

fn control_register() {
    let h = House::new();
    h.sh("for t in 0 1; do stty -F $M/dev/ttyS$t raw -echo 9600 cs7; done
          exec 3<>$M/dev/ttyS1; printf '\\301' > $M/dev/ttyS0
          [ $(timeout 5 head -c 1 <&3) = A ]
          for t in 0 1; do stty -F $M/dev/ttyS$t cs8 parenb -parodd inpck; done
          ctl noise ttyS1 1; printf A > $M/dev/ttyS0
          [ \"$(timeout 5 head -c 1 <&3 | od -An -tx1)\" = ' 00' ]
          grep -q 'ttyS1 chip .*parity=1 ' $M/proc/serial
          for t in 0 1; do stty -F $M/dev/ttyS$t -parenb; done
          ctl noise ttyS1 1; printf A > $M/dev/ttyS0; [ $(timeout 5 head -c 1 <&3) = @ ]
          grep -q 'ttyS1 chip .*parity=1 ' $M/proc/serial");
    py(
        &h,
        "
a, b = port(0), port(1)
for fd in (a, b):
    raw(fd); t = termios.tcgetattr(fd); t[4] = t[5] = termios.B9600
    termios.tcsetattr(fd, termios.TCSANOW, t)
begun = time.time(); os.write(a, b'x' * 960); termios.tcdrain(a)
seconds = time.time() - begun
assert 0.85 < seconds < 1.15, seconds
",
    );
}

fn half_duplex() {
    for (duplex, collided) in [("true", 3), ("false", 0)] {
        let h = House::with(&["--set", &format!("ttyS0.half_duplex={duplex}")]);
        h.sh(&format!(
            "for t in 0 1; do stty -F $M/dev/ttyS$t raw -echo 9600; done
             exec 3<>$M/dev/ttyS0; fill x 960 >&3
             ctl inject ttyS0 abc; grep -q 'ttyS0 chip .*collided={collided}$' $M/proc/serial
             until grep -q 'ttyS0 modem .*to_send=0' $M/proc/serial; do sleep 0.1; done
             ctl inject ttyS0 d; got=$(timeout 5 head -c {} <&3); [ $got = {} ]",
            4 - collided,
            if collided > 0 { "d" } else { "abcd" },
        ));
    }
}

/// A line's duplex, its completion and its rings, all while it works.
fn run_time() {
    let h = House::new();
    h.sh("dev() { spindle --at $M devctl ttyS0 serial $*; }
          [ $(dev 9600,7,even,half) = 9600,7,even,1,half ]; [ $(dev) = 9600,7,even,1,half ]
          grep -q 'ttyS0 .*9600 7E1.* duplex=half' $M/proc/serial
          grep -q 'ttyS0 registers .* lcr=0x1a mcr=0x4' $M/proc/serial
          [ $(dev 9600,8,none,full) = 9600,8,none,1 ]; ctl get ttyS0.duplex | grep -q full
          ! dev 9600,8,none,neither 2>/dev/null; ! ctl set ttyS0.duplex neither 2>/dev/null
          for t in 0 1; do stty -F $M/dev/ttyS$t raw -echo 9600; done; exec 3<>$M/dev/ttyS0
          idle() { until grep -q 'ttyS0 modem .*to_send=0' $M/proc/serial; do sleep 0.05; done; }
          dev 9600,8,none,half; fill x 400 >&3; ctl inject ttyS0 abc; idle
          grep -q 'ttyS0 chip .*collided=3$' $M/proc/serial
          dev 9600,8,none,full; fill x 400 >&3; ctl inject ttyS0 abc; idle
          grep -q 'ttyS0 chip .*collided=3$' $M/proc/serial
          [ $(timeout 5 head -c 3 <&3) = abc ]");
}

fn polled() {
    let h = House::with(&["--set", "ttyS1.completion=polled", "--set", "ttyS1.poll_interval=60ms"]);
    h.sh("for t in 0 1; do stty -F $M/dev/ttyS$t raw -echo 9600; done; exec 3<>$M/dev/ttyS1
          grep -q 'ttyS1 .* polled=60ms' $M/proc/serial
          lost() { sed -n 's/^ttyS1 chip .* overrun=\\([0-9]*\\) .*/\\1/p' $M/proc/serial; }
          send() { fill x 200 >$M/dev/ttyS0
              until grep -q \"ttyS1 chip .* heard=$1 \" $M/proc/serial; do sleep 0.02; done; }
          send 200; n=$(lost); [ $n -gt 0 ]
          timeout 5 head -c $((200 - n)) <&3 | wc -c | grep -qw $((200 - n))
          ctl set ttyS1.completion irq; send 400; [ $(lost) = $n ]
          timeout 5 head -c 200 <&3 | wc -c | grep -qw 200");
    assert!(h.refused("set ttyS1.poll_interval 1us").contains("at least 100us"));
}

fn rings() {
    let h = House::with(&["--set", "ttyS0.pacing=false", "--set", "ttyS1.pacing=false"]);
    h.sh(RAW);
    h.sh("timeout 20 head -c 12288 $M/dev/ttyS1 | wc -c > $T/n & job=$!
          until grep -q 'ttyS1 .*open=1' $M/proc/serial; do :; done
          fill x 12288 > $M/dev/ttyS0; wait $job; [ $(cat $T/n) = 12288 ]
          grep -q '^ttyS0 ring out size=4096 head=0 tail=0 wraps=3,3' $M/proc/serial
          grep -q '^ttyS1 ring in size=4096 head=0 tail=0 wraps=3,3' $M/proc/serial");
}

fn megabyte() {
    let h = House::with(&["--time", "virtual"]);
    h.sh(RAW);
    h.sh("for t in 0 1; do stty -F $M/dev/ttyS$t crtscts; done
          head -c 1M /dev/urandom > $T/data; ctl 'trace on'");
    let begun = Instant::now();
    h.sh("timeout 60 head -c 1M $M/dev/ttyS1 > $T/out & job=$!
          until grep -q 'ttyS1 .*open=1' $M/proc/serial; do :; done
          timeout 60 dd if=$T/data of=$M/dev/ttyS0 bs=64k status=none; wait $job
          cmp $T/data $T/out");
    let took = begun.elapsed();
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 20_000 } else { 1500 });
    assert!(took < limit, "1 MiB took {took:?}");
    let usecs = h.sh("awk '/line=[34]/{print $2}' $M/proc/trace | tail -n 1; ctl 'trace off'");
    let usecs: f64 = usecs.lines().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    assert!(usecs > 91e6, "1 MiB at 115200 took {usecs} us of machine time");
}

fn flow_control() {
    let h = House::with(&["--time", "virtual"]);
    for control in ["termios.CRTSCTS", "0"] {
        py(
            &h,
            &format!(
                "
control = {control}
a, b = port(0), port(1); raw(a, control=control); raw(b, control=control)
if not control:
    for fd, flag in ((a, termios.IXON), (b, termios.IXOFF)):
        t = termios.tcgetattr(fd); t[0] |= flag; termios.tcsetattr(fd, termios.TCSANOW, t)
data = bytes(n % 251 + 32 & 0x7f or 65 for n in range(300000))
data = data.replace(b'\\x11', b'A').replace(b'\\x13', b'B')
def send():
    for n in range(0, len(data), 5000): os.write(a, data[n:n + 5000])
t = threading.Thread(target=send)
t.start(); time.sleep(1)     # nobody reads: the sender must be held
got = b''
while len(got) < len(data): got += os.read(b, 65536)
t.join(); assert got == data
"
            ),
        );
    }
}

fn hangup() {
    let h = House::new();
    py(
        &h,
        "
a, b = port(0), port(1); raw(a); raw(b)
t = termios.tcgetattr(b); t[2] &= ~termios.CLOCAL; termios.tcsetattr(b, termios.TCSANOW, t)
p = select.poll(); p.register(b, select.POLLIN)
later(lambda: os.close(a))
assert took(lambda: os.read(b, 10))[0] == b''
assert p.poll(1000)[0][1] & select.POLLHUP
try: os.write(b, b'x'); sys.exit('no EIO')
except OSError as e: assert e.errno == 5, e
c, a = port(1), port(0); raw(a)
t = termios.tcgetattr(c); t[2] |= termios.CLOCAL; t[3] = 0; t[6][termios.VMIN] = 1
termios.tcsetattr(c, termios.TCSANOW, t)
os.write(a, b'again'); assert os.read(c, 1) == b'a'
",
    );
}

fn closed_port() {
    let h = House::new();
    h.sh(RAW);
    h.sh("printf 'nobody hears' > $M/dev/ttyS0
          for i in $(seq 500); do grep -q 'ttyS1 driver .*dropped=12' $M/proc/serial && exit 0; done
          exit 1");
}

fn peers() {
    let toml = "[[serial]]\nname = \"ttyS0\"\npeer = \"pty\"\n\
                [[serial]]\nname = \"ttyS1\"\npeer = \"unix:line.sock\"\n\
                [[serial]]\nname = \"ttyS2\"\npeer = \"file:line.out\"\n";
    let h = House::unmounted(&["--machine"]);
    std::fs::write(h.scratch().join("m.toml"), toml).unwrap();
    h.sh("spindle mount $M --state $S --machine $T/m.toml");
    h.sh("for t in 0 1 2; do stty -F $M/dev/ttyS$t raw -echo 115200; done");
    py(
        &h,
        "
import re, socket
text = open(M + '/proc/serial').read()
path = re.search(r'ttyS0 .*peer=\"pty (\\S+)\"', text).group(1)
p = os.open(path, os.O_RDWR | os.O_NOCTTY); a = port(0)
os.write(p, b'from the host'); got = b''
while len(got) < 13: got += os.read(a, 100)
assert got == b'from the host', got
os.write(a, b'to the host'); got = b''
while len(got) < 11: got += os.read(p, 100)
assert got == b'to the host', got

b = port(1)
for turn in range(2):
    s = socket.socket(socket.AF_UNIX); s.connect(os.environ['S'] + '/line.sock')
    data = os.urandom(20000)
    t = threading.Thread(target=s.sendall, args=(data,)); t.start()
    got = b''
    while len(got) < len(data): got += os.read(b, 65536)
    t.join(); assert got == data
    os.write(b, b'answer'); assert s.recv(100)
    s.close(); time.sleep(0.2)
c = port(2); os.write(c, b'logged'); termios.tcdrain(c)
for _ in range(100):
    if open(os.environ['S'] + '/line.out').read() == 'logged': break
    time.sleep(0.02)
else: sys.exit('not in the file')
",
    );
    h.umount();
}

fn wrong_peers() {
    let h = House::unmounted(&[]);
    for (peer, word) in [("modem", "pty"), ("unix:", "unix:PATH"), ("unix:/nowhere/x", "/nowhere")]
    {
        let toml = format!("[[serial]]\nname = \"ttyS0\"\npeer = \"{peer}\"\n");
        std::fs::write(h.scratch().join("m.toml"), toml).unwrap();
        let said = h.try_sh("spindle mount $M --state $S --machine $T/m.toml");
        assert!(said.status == 1 && said.err.contains(word), "{peer}: {said:?}");
        h.sh("! mountpoint -q $M");
    }
}

fn zmodem() {
    let h = House::with(&["--time", "virtual"]);
    h.sh(RAW);
    h.sh("for t in 0 1; do stty -F $M/dev/ttyS$t crtscts; done
          head -c 60000 /dev/urandom > $T/sent; mkdir $T/in; cd $T/in
          timeout 60 rz -q -b <>$M/dev/ttyS1 >&0 & job=$!
          timeout 60 sz -q -b $T/sent <>$M/dev/ttyS0 >&0; wait $job; cmp $T/sent $T/in/sent");
}

fn socat() {
    let h = House::new();
    h.sh(RAW); // else the writer, which does not drain, sends its last at the rate of before
    h.sh("head -c 20000 /dev/urandom > $T/sent
          timeout 20 socat -u $M/dev/ttyS1,rawer,b115200 - > $T/out & job=$!
          until grep -q 'ttyS1 .*115200.*open=1' $M/proc/serial; do :; done
          timeout 20 socat -u OPEN:$T/sent $M/dev/ttyS0,rawer,b115200
          for i in $(seq 400); do [ $(stat -c %s $T/out) = 20000 ] && break; sleep 0.02; done
          kill $job 2>/dev/null || true; cmp $T/sent $T/out");
}

/// Types into a terminal program and hears what it says (`$T/said`); it has 20 s for each thing.
const TERMINAL: &str = "stty -F $M/dev/ttyS1 57600
    shown() { for i in $(seq 1000); do grep -q \"$1\" $T/said && return; sleep 0.02; done
              echo \"never said: $1\" >&2; return 1; }
    answered() { timeout 20 head -c 11 $M/dev/ttyS1 > $T/heard
                 printf 'from there to you' > $M/dev/ttyS1; }
    : > $T/said\n";

/// Terminal programs want a terminal of their own: script(1) is one. What is typed before they are
/// ready is theirs to discard, and they do.
fn picocom() {
    let h = House::new();
    h.sh(RAW);
    h.sh(&(TERMINAL.to_owned()
        + "( shown 'Terminal ready'; printf 'to the line'
            shown 'there to you'; printf '\\001\\030' ) |
          timeout 60 script -qefc \"picocom -b 57600 $M/dev/ttyS0\" /dev/null > $T/said & job=$!
          answered; wait $job
          [ \"$(cat $T/heard)\" = 'to the line' ]; grep -q 'from there to you' $T/said
          grep -q 'ttyS0 .*115200.*open=0' $M/proc/serial")); // as it was before
}

fn minicom() {
    let h = House::new();
    h.sh(RAW);
    h.sh(&(TERMINAL.to_owned()
        + "export HOME=$T TERM=vt100
          ( shown 'CTRL-A Z for help on'; printf 'to the line'
            shown 'there to you'; printf '\\001q'
            shown 'Leave without reset'; printf '\\r' ) |
          timeout 60 script -qefc \"minicom -o -b 57600 -D $M/dev/ttyS0\" /dev/null > $T/said &
          job=$!
          answered; wait $job
          [ \"$(cat $T/heard)\" = 'to the line' ]; grep -q 'from there to you' $T/said"));
}

fn pyserial() {
    let h = House::new();
    if h.try_sh("/usr/bin/python3 -c 'import serial'").status != 0 {
        eprintln!("no pyserial here: nothing was checked");
        return;
    }
    std::fs::write(
        h.scratch().join("p.py"),
        "
import os, serial
M = os.environ['M']
a = serial.Serial(M + '/dev/ttyS0', 57600, timeout=5, rtscts=True)
b = serial.Serial(M + '/dev/ttyS1', 57600, timeout=5, rtscts=True)
a.write(b'hello\\n'); assert b.readline() == b'hello\\n'
b.write(bytes(range(256))); assert a.read(256) == bytes(range(256))
a.dtr = False
for _ in range(100):
    if not b.dsr and not b.cd: break
assert not b.dsr and not b.cd and b.cts
a.rts = False
a.timeout = 0.3; assert a.read(1) == b''
b.send_break(0.1); a.baudrate = 9600; b.baudrate = 9600
a.reset_input_buffer(); a.dtr = True; a.rts = True
b.write(b'slow'); a.timeout = 5; assert a.read(4) == b'slow'
a.close(); b.close()
",
    )
    .unwrap();
    h.sh("timeout 60 /usr/bin/python3 $T/p.py");
}
