//! Waiting: blocked calls by the hundred, what ends them, who polls, who would not wait.

use crate::house::{House, wait_for};
use crate::serial::{RAW, py};
use crate::{Check, check};
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

pub const CHECKS: &[Check] = &[
    check("if_17_a_blocked_read_ends_by_timeout_and_by_data", &["timeout", "stty"], blocked_read),
    check("if_17_a_blocked_call_is_seen_on_its_queue", &[], seen_waiting),
    check("if_17_without_waiting_there_is_what_there_is", &["python3"], nonblocking),
    check("ns_13_five_hundred_blocked_readers_cost_little", &["stty"], five_hundred),
    check("ns_13_signals_end_stop_and_resume_in_time", &["stty"], signals),
    check("ns_13_signals_are_seen_with_few_descriptors", &["stty"], few_descriptors),
    check("ns_13_unmounting_ends_every_blocked_call", &["stty"], unmounted_while_blocked),
    check("a_close_in_another_thread_ends_a_blocked_read", &["python3"], closed_elsewhere),
    check("a_blocked_writer_stalls_no_other", &["python3"], two_writers),
    check("if_11_poll_select_and_epoll_are_told", &["python3"], polling),
];

fn blocked_read() {
    let h = House::new();
    h.sh(RAW);
    let said = h.try_sh("timeout 1 cat $M/dev/ttyS0");
    assert_eq!(said.status, 124, "{said:?}");
    let said = h.try_sh("timeout -s INT 1 cat $M/dev/ttyS0");
    assert_eq!(said.status, 124, "{said:?}");
    h.sh("head -c 6 $M/dev/ttyS1 > $T/out & job=$!
          until grep -q 'ttyS1 .*open=1' $M/proc/serial; do :; done
          printf 'hello\\n' > $M/dev/ttyS0; wait $job; [ \"$(cat $T/out)\" = hello ]");
}

/// A blocked call is on its device's queue, and costs its caller and us nothing there.
fn seen_waiting() {
    let h = House::new();
    h.sh(RAW);
    h.sh("! grep wait $M/proc/queues
          cat $M/dev/ttyS1 > $T/out & cat=$!
          until grep -qx \"ttyS1 wait pid=$cat\" $M/proc/queues; do :; done
          ticks() { sed 's/.*) //' /proc/$cat/stat | awk '{print $12 + $13}'; }
          before=$(ticks); sleep 2; [ $(($(ticks) - before)) -le 1 ]
          printf hello > $M/dev/ttyS0
          until [ \"$(cat $T/out)\" = hello ]; do :; done
          until grep -qx \"ttyS1 wait pid=$cat\" $M/proc/queues; do :; done
          kill $cat; ! wait $cat; ! grep wait $M/proc/queues");
}

fn nonblocking() {
    let h = House::new();
    py(
        &h,
        "
a, b = port(0), port(1, os.O_NONBLOCK)
raw(a); raw(b)
try:
    os.read(b, 10); sys.exit('no EAGAIN')
except BlockingIOError:
    pass
for count, wanted, got in [(3, 10, 3), (20, 10, 10)]:
    os.write(a, b'x' * count)
    deadline = time.time() + 10
    while not select.select([b], [], [], 1)[0] and time.time() < deadline: pass
    time.sleep(0.1)
    assert len(os.read(b, wanted)) == got, (count, wanted)
    termios.tcflush(b, termios.TCIFLUSH)
os.set_blocking(a, False)
sent = 0
try:
    while sent < 1 << 20: sent += os.write(a, b'y' * 4096)
    sys.exit('endless room')
except BlockingIOError:
    assert sent >= 4096, sent
",
    );
}

fn resident(house: &House) -> u64 {
    let pid = house.pid();
    house.sh(&format!("awk '/VmRSS/{{print $2}}' /proc/{pid}/status")).parse().unwrap()
}

/// Blocked readers of ttyS0, killed at the end whatever happens.
struct Readers(Vec<std::process::Child>);

impl Readers {
    fn new(house: &House, count: usize) -> Readers {
        let cat = || {
            let mut command = std::process::Command::new("cat");
            command.arg(house.tree().join("dev/ttyS0")).stdin(std::process::Stdio::null());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            // A group of its own, which has us as a parent outside of it: SIGTSTP does nothing to
            // an orphaned one (setpgid(2)), and without a terminal ours may be.
            command.process_group(0).spawn().expect("cat")
        };
        let readers = Readers((0..count).map(|_| cat()).collect());
        let open = format!("open={count} ");
        wait_for("all readers", || house.text("proc/serial").contains(&open));
        // Opened, they read at once.
        std::thread::sleep(Duration::from_millis(200));
        readers
    }

    fn signal(&self, signal: &str) {
        let pids: Vec<String> = self.0.iter().map(|child| child.id().to_string()).collect();
        let status = std::process::Command::new("kill").arg(signal).args(&pids).status();
        assert!(status.expect("kill").success());
    }

    /// How long until all are in one of these states; `-` is gone.
    fn until(&mut self, states: &str) -> Duration {
        let begun = Instant::now();
        wait_for("the readers' state", || {
            self.0.iter_mut().all(|child| {
                let is_gone = child.try_wait().expect("wait").is_some();
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()));
                let state = stat.ok().and_then(|s| s.rsplit(") ").next()?.chars().next());
                states.contains(if is_gone { '-' } else { state.unwrap_or('-') })
            })
        });
        begun.elapsed()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn five_hundred() {
    let h = House::new();
    h.sh(RAW);
    h.sh("dd if=$M/dev/sd0 of=/dev/null bs=4k count=256 status=none; ls $M/dev");
    let (before, quiet) = (resident(&h), time_of(&h));
    let mut readers = Readers::new(&h, 500);
    let grown = resident(&h).saturating_sub(before);
    assert!(grown < 500 * 10, "500 blocked readers take {grown} KiB");
    let busy = time_of(&h);
    assert!(busy < quiet * 3 + Duration::from_millis(100), "{quiet:?} became {busy:?}");
    let before = h.processor_time();
    std::thread::sleep(Duration::from_secs(3));
    let used = h.processor_time() - before;
    assert!(used <= Duration::from_millis(170), "{used:?} of processor in 3 s");
    let threads = h.sh(&format!("ls /proc/{}/task | wc -l", h.pid()));
    assert!(threads.parse::<u32>().unwrap() < 20, "{threads} threads");
    readers.signal("-KILL");
    let took = readers.until("-");
    assert!(took < Duration::from_secs(2), "500 ended in {took:?}");
}

fn time_of(house: &House) -> Duration {
    let times = (0..5).map(|_| {
        let begun = Instant::now();
        house.sh("ls $M/dev >/dev/null; dd if=$M/dev/sd0 of=/dev/null bs=4k count=64 status=none");
        begun.elapsed()
    });
    times.min().expect("some")
}

fn signals() {
    let h = House::new();
    h.sh(RAW);
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 400 } else { 200 });
    for signal in ["-TERM", "-INT", "-KILL"] {
        let mut readers = Readers::new(&h, 20);
        readers.signal(signal);
        let took = readers.until("-");
        assert!(took < limit, "{signal}: {took:?}");
    }
    let mut readers = Readers::new(&h, 20);
    readers.signal("-TSTP");
    let took = readers.until("T");
    assert!(took < limit, "TSTP: {took:?}");
    readers.signal("-CONT");
    readers.until("SD");
    std::thread::sleep(Duration::from_millis(100));
    readers.signal("-TERM");
    readers.until("-");
    one_of_many(&h, limit);
}

/// Among many a signal is found as soon, one that wakes its process and one that does not. The best
/// of three: other work of the machine's is not ours.
fn one_of_many(house: &House, limit: Duration) {
    let mut readers = Readers::new(house, 500);
    for (signal, then) in [("-TSTP", "T"), ("-KILL", "-"), ("-TERM", "-")] {
        let took = (0..3).map(|_| {
            let mut one = Readers(vec![readers.0.pop().expect("one")]);
            one.signal(signal);
            one.until(then)
        });
        let best = took.min().expect("three");
        assert!(best < limit, "{signal} to one of 500: {best:?}");
    }
    readers.signal("-TSTP");
    readers.until("T");
}

/// More callers wait than the daemon may have files open.
fn few_descriptors() {
    let h = House::unmounted(&[]);
    h.sh("ulimit -n 128; spindle mount $M --state $S");
    h.sh(RAW);
    let mut readers = Readers::new(&h, 400);
    h.sh("date >$M/dev/st0; printf x | dd of=$M/dev/sd0 conv=notrunc status=none
          for i in $(seq 50); do date >$M/dev/lp0; done; ! grep 'Too many open' $S/log");
    let mut last = Readers(vec![readers.0.pop().expect("one")]);
    last.signal("-TERM");
    last.until("-");
    readers.signal("-TERM");
    readers.until("-");
}

fn unmounted_while_blocked() {
    let h = House::new();
    h.sh(RAW);
    let mut readers = Readers::new(&h, 100);
    let begun = Instant::now();
    h.umount();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "umount took {took:?}");
    readers.until("-");
}

fn closed_elsewhere() {
    let h = House::new();
    py(
        &h,
        "
a = port(0); raw(a)
def read():
    try: os.read(a, 1)
    except OSError as e: return e.errno
later(lambda: os.close(a))
errno, seconds = took(read)
assert errno == 9 and seconds < 2, (errno, seconds)   # EBADF: Python tries again after EINTR

# Another process that closes its own descriptor ends nothing.
a, b = port(0), port(1); raw(a); raw(b)
def child():
    if os.fork() == 0:
        os.close(a); os._exit(0)
    time.sleep(0.3); os.write(b, b'x')
later(child)
assert os.read(a, 1) == b'x'
os.wait()
",
    );
}

fn two_writers() {
    let h = House::new();
    py(
        &h,
        "
a = port(0); raw(a); termios.tcflow(a, termios.TCOOFF)
b = port(0, os.O_NONBLOCK)
def child(run):
    pid = os.fork()
    if pid == 0:
        run(); os._exit(0)
    return pid
def ended(pid):
    end = time.time() + 5
    while True:
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone: return status
        if time.time() > end: sys.exit('still there')
        time.sleep(0.001)
first = child(lambda: os.write(a, b'x' * 100000))
while not struct.unpack('i', fcntl.ioctl(a, termios.TIOCOUTQ, bytes(4)))[0]: time.sleep(0.01)
def impatient():
    try: os.write(b, b'y')
    except BlockingIOError: os._exit(0)
    os._exit(1)
assert ended(child(impatient)) == 0
second = child(lambda: os.write(a, b'z'))
time.sleep(0.1); os.kill(second, 15); assert ended(second) == 15
os.kill(first, 9); assert ended(first) == 9
termios.tcflow(a, termios.TCOON)
",
    );
}

fn polling() {
    let h = House::new();
    py(
        &h,
        "
a, b = port(0), port(1); raw(a); raw(b)
r, seconds = took(lambda: select.select([b], [], [], 1))
assert r[0] == [] and 0.9 < seconds < 1.3, (r, seconds)
r, seconds = took(lambda: select.select([b], [], [], 0))
assert r[0] == [] and seconds < 0.1, (r, seconds)
t = later(lambda: os.write(a, b'x'))
r, seconds = took(lambda: select.select([a, b], [], [], 10))
assert r[0] == [b] and 0.25 < seconds < 0.6, (r, seconds)
t.join(); assert os.read(b, 9) == b'x'
assert select.select([], [a], [], 0)[1] == [a]

p = select.poll(); p.register(b, select.POLLIN)
t = later(lambda: os.write(a, b'x'))
r, seconds = took(lambda: p.poll(10000))
assert r == [(b, select.POLLIN)] and seconds < 0.6, (r, seconds)
t.join()

e = select.epoll(); e.register(b, select.EPOLLIN | select.EPOLLET)
assert e.poll(1) == [(b, select.EPOLLIN)] and e.poll(0.2) == []
t = later(lambda: os.write(a, b'y'))
r, seconds = took(lambda: e.poll(10))
assert r == [(b, select.EPOLLIN)] and seconds < 0.6, (r, seconds)
t.join(); assert os.read(b, 9) == b'xy' and e.poll(0.2) == []
l = select.epoll(); l.register(b, select.EPOLLIN)
assert l.poll(0.1) == []
os.write(a, b'zz')
assert l.poll(10) and l.poll(10) and os.read(b, 1) == b'z' and l.poll(0) and os.read(b, 1) == b'z'
assert l.poll(0.1) == []

# Not writable while the ring is full, and told when it no longer is.
os.set_blocking(a, False)
try:
    while True: os.write(a, b'w' * 4096)
except BlockingIOError: pass
assert select.select([], [a], [], 0)[1] == []
assert select.select([], [a], [], 10)[1] == [a]
",
    );
    // Idle costs nothing: a poller without an event.
    let before = h.processor_time();
    py(&h, "b = port(1); raw(b); select.select([b], [], [], 3)");
    let used = h.processor_time() - before;
    assert!(used <= Duration::from_millis(50), "an idle poller cost {used:?}");
}
