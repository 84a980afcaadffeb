//! Two terminals on a cable, in simulated time, as open files use them.

use super::*;
use crate::error::flags::O_NONBLOCK;
use crate::file::{Answer, Blocked, Call, Caller, CallerMemory, FileOps, IoctlCall, Turn};
use devices::conf::attach_all;
use devices::engine::Time;
use devices::machine::Machine;
use devices::switch::CharUnit;
use devices::{DevId, UnitConfig, Value};
use termios::TERMIOS_BYTES;

struct Scene {
    engine: Arc<Engine>,
    ttys: [Arc<Tty>; 2],
}

fn scene() -> Scene {
    let engine = Engine::new(Time::Simulated);
    let machine = Machine::new(Arc::clone(&engine), None, 1);
    let unit = |number: u32| {
        let mut unit = UnitConfig {
            name: format!("ttyS{number}"),
            driver: "ttyS".into(),
            unit: number,
            ..UnitConfig::default()
        };
        let peer = format!("ttyS{}", 1 - number);
        unit.values.insert("peer".into(), Value::Text(peer));
        unit.values.insert("pacing".into(), Value::Flag(true));
        unit
    };
    let (switch, _) = attach_all(&machine, &[unit(0), unit(1)]);
    let ttys = [64, 65].map(|minor| {
        let dev = DevId { major: 4, minor };
        let Ok(CharUnit::Device(name, _, unit)) = switch.character(dev) else { panic!("{dev}") };
        Tty::new(&name, unit.serial().unwrap(), Arc::clone(&engine))
    });
    Scene { engine, ttys }
}

impl Scene {
    fn run(&self) {
        while self.engine.skip_to_next() {}
    }

    /// Opens both, raw, with MIN and TIME at the second.
    fn open_raw(&self, min: u8, time: u8) -> [TtyFile; 2] {
        let files = [0, 1].map(|number| {
            let file = self.ttys[number].open(false, None).unwrap();
            let mut termios = Termios {
                iflag: 0,
                oflag: 0,
                lflag: 0,
                cflag: Termios::default().cflag & !termios::CBAUD | 0o10002,
                ospeed: 115_200,
                ..Termios::default()
            };
            (termios.cc[6], termios.cc[5]) = (min, time);
            self.ttys[number].set_termios(termios);
            file
        });
        self.run();
        files
    }

    fn millis(&self) -> u64 {
        self.engine.now().0 / 1_000_000
    }
}

fn call(flags: i32) -> Call {
    Call { caller: Caller { pid: 1, uid: 1, gid: 1 }, flags, id: 1 }
}

fn write(file: &TtyFile, data: &[u8]) -> usize {
    match file.write(&call(O_NONBLOCK), 0, data).unwrap() {
        Answer::Now(done) => done,
        _ => panic!("it should not wait"),
    }
}

fn read(file: &TtyFile) -> Result<Vec<u8>, Errno> {
    let mut buf = vec![0; 100];
    match file.read(&call(O_NONBLOCK), 0, &mut buf) {
        Ok(Answer::Now(len)) => Ok(buf[..len].to_vec()),
        Ok(_) => panic!("it should not wait"),
        Err(error) => Err(error.errno),
    }
}

fn blocked(file: &TtyFile) -> Blocked<Vec<u8>> {
    match file.read(&call(0), 0, &mut vec![0; 100]) {
        Ok(Answer::Blocked(blocked)) => blocked,
        _ => panic!("it should block"),
    }
}

fn again(blocked: &mut Blocked<Vec<u8>>) -> Option<Vec<u8>> {
    (blocked.retry)(Turn::Rung).map(Result::unwrap)
}

#[test]
fn a_blocked_read_is_answered_when_characters_come() {
    let scene = scene();
    let [a, b] = scene.open_raw(1, 0);
    assert_eq!(read(&b), Err(Errno::EAGAIN));
    assert_eq!(b.poll(&call(0)).ready & 1, 0);
    let mut reader = blocked(&b);
    let seen = reader.queue.generation();
    write(&a, b"hello");
    scene.run();
    assert!(reader.queue.generation() > seen && b.poll(&call(0)).ready & 1 == 1);
    assert_eq!(again(&mut reader).unwrap(), b"hello");
}

#[test]
fn news_for_who_polls_is_counted_when_it_can_be_seen() {
    let scene = scene();
    let [a, b] = scene.open_raw(1, 0);
    let before = b.poll(&call(0)).news;
    write(&a, b"x");
    scene.run();
    let polled = b.poll(&call(0));
    assert_eq!(polled.news, [before[0] + 1, before[1]]);
    assert_eq!(b.poll(&call(0)), polled);
    // The ring is filled, then has room again.
    let before = a.poll(&call(0)).news;
    assert!(matches!(a.write(&call(O_NONBLOCK), 0, &[b'y'; 10_000]), Ok(Answer::Now(_))));
    assert_eq!((a.poll(&call(0)).ready & 4, a.poll(&call(0)).news), (0, before));
    scene.run();
    let polled = a.poll(&call(0));
    assert_eq!((polled.ready & 4, polled.news), (4, [before[0], before[1] + 1]));
}

#[test]
fn min_and_time_have_four_cases() {
    let scene = scene();
    let [a, b] = scene.open_raw(0, 0);
    assert_eq!(read(&b).unwrap(), b"");
    let set = |min, time| {
        let mut termios = scene.ttys[1].state.lock().discipline.termios().clone();
        (termios.cc[6], termios.cc[5]) = (min, time);
        scene.ttys[1].set_termios(termios);
    };
    // TIME alone: the whole read has a limit.
    set(0, 5);
    let (mut reader, begun) = (blocked(&b), scene.millis());
    assert!(again(&mut reader).is_none());
    scene.run();
    assert_eq!(again(&mut reader).unwrap(), b"");
    assert_eq!(scene.millis() - begun, 500);
    // MIN alone: all of them, however long it takes.
    set(3, 0);
    let mut reader = blocked(&b);
    write(&a, b"ab");
    scene.run();
    assert!(again(&mut reader).is_none());
    write(&a, b"c");
    scene.run();
    assert_eq!(again(&mut reader).unwrap(), b"abc");
    // Both: the limit begins with the first character, and is between characters.
    set(3, 4);
    let mut reader = blocked(&b);
    assert!(!scene.engine.skip_to_next(), "no limit before the first");
    write(&a, b"ab");
    while scene.ttys[1].state.lock().discipline.held().0 < 2 {
        assert!(scene.engine.skip_to_next());
    }
    let begun = scene.millis();
    assert!(again(&mut reader).is_none());
    scene.run();
    assert_eq!(again(&mut reader).unwrap(), b"ab");
    assert!((399..=401).contains(&(scene.millis() - begun)));
}

#[test]
fn a_full_ring_blocks_the_writer_and_takes_the_rest_later() {
    let scene = scene();
    let [a, b] = scene.open_raw(1, 0);
    let data: Vec<u8> = (0..10_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let Ok(Answer::Blocked(mut writer)) = a.write(&call(0), 0, &data) else {
        panic!("it should block");
    };
    assert_eq!(a.poll(&call(0)).ready & 4, 0);
    let mut got = Vec::new();
    let mut done = None;
    while done.is_none() {
        scene.run();
        got.extend(read(&b).unwrap_or_default());
        done = (writer.retry)(Turn::Rung);
    }
    assert_eq!(done.unwrap().unwrap(), data.len());
    scene.run();
    while let Ok(more) = read(&b) {
        got.extend(more);
    }
    assert_eq!(got, data);
}

#[test]
fn a_writer_called_away_tells_what_was_taken() {
    let scene = scene();
    let [a, _b] = scene.open_raw(1, 0);
    let Ok(Answer::Blocked(mut writer)) = a.write(&call(0), 0, &[7; 10_000]) else {
        panic!("it should block");
    };
    let taken = (writer.retry)(Turn::Last).unwrap().unwrap();
    assert!(taken > 0 && taken < 10_000);
}

#[test]
fn stop_holds_output_and_start_lets_it_go() {
    let scene = scene();
    let [a, b] = scene.open_raw(1, 0);
    let mut termios = scene.ttys[0].state.lock().discipline.termios().clone();
    termios.iflag = termios::IXON;
    scene.ttys[0].set_termios(termios);
    write(&b, b"\x13");
    scene.run();
    write(&a, b"held");
    scene.run();
    assert_eq!(read(&b), Err(Errno::EAGAIN));
    write(&b, b"\x11");
    scene.run();
    assert_eq!(read(&b).unwrap(), b"held");
}

#[test]
fn a_reader_who_is_late_holds_the_sender() {
    for flag in [CRTSCTS, 0] {
        let scene = scene();
        let [a, b] = scene.open_raw(1, 0);
        for (tty, input) in scene.ttys.iter().zip([termios::IXON, IXOFF]) {
            let mut termios = tty.state.lock().discipline.termios().clone();
            termios.cflag |= flag;
            termios.iflag = if flag == 0 { input } else { 0 };
            tty.set_termios(termios);
        }
        let mut sent = 0;
        for _ in 0..100 {
            sent += match a.write(&call(O_NONBLOCK), 0, &[b'x'; 4096]) {
                Ok(Answer::Now(done)) => done,
                _ => 0,
            };
            scene.run();
        }
        assert!(sent < 2 * KEPT_MAX, "the sender was not held: {sent}");
        let mut got = 0;
        while let Ok(data) = read(&b) {
            got += data.len();
            scene.run();
        }
        assert_eq!(got, sent);
        assert_eq!(scene.ttys[1].shown().dropped, 0);
    }
}

#[test]
fn a_hangup_ends_those_who_had_it_open_and_no_others() {
    let scene = scene();
    let [a, b] = scene.open_raw(1, 0);
    let mut termios = scene.ttys[1].state.lock().discipline.termios().clone();
    termios.cflag &= !CLOCAL;
    scene.ttys[1].set_termios(termios);
    write(&a, b"last words");
    scene.run();
    a.release();
    scene.run();
    assert_eq!(b.poll(&call(0)).ready & 0x10, 0x10);
    assert_eq!(read(&b).unwrap(), b"last words");
    assert_eq!(read(&b).unwrap(), b"");
    let refused = b.write(&call(0), 0, b"x").err().unwrap();
    assert_eq!(refused.errno, Errno::EIO);
    let [a, new] = [0, 1].map(|number| scene.ttys[number].open(false, None).unwrap());
    scene.run();
    write(&a, b"new");
    scene.run();
    assert_eq!(read(&b).unwrap(), b"");
    assert_eq!(read(&new).unwrap(), b"new");
}

#[test]
fn who_has_it_for_himself_is_not_joined_except_by_root() {
    let scene = scene();
    let file = scene.ttys[0].open(false, None).unwrap();
    scene.ttys[0].state.lock().is_exclusive = true;
    assert_eq!(scene.ttys[0].open(false, None).err().unwrap().errno, Errno::EBUSY);
    let root = scene.ttys[0].open(true, None).unwrap();
    root.release();
    file.release();
    assert!(scene.ttys[0].open(false, None).is_ok());
}

/// A caller whose argument is a number, or points to these bytes.
struct Memory {
    argument: u64,
    bytes: Mutex<Vec<u8>>,
}

impl CallerMemory for Memory {
    fn argument(&self) -> Result<u64, Error> {
        Ok(self.argument)
    }

    fn read(&self, _at: u64, buf: &mut [u8]) -> Result<(), Error> {
        buf.copy_from_slice(&self.bytes.lock()[..buf.len()]);
        Ok(())
    }

    fn write(&self, _at: u64, data: &[u8]) -> Result<(), Error> {
        self.bytes.lock()[..data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn ioctl(file: &TtyFile, cmd: u32, memory: &Arc<Memory>) -> Result<Option<Vec<u8>>, Errno> {
    let size = usize::try_from(cmd >> 16 & 0x3fff).unwrap();
    let (reads, writes) = (cmd >> 31 & 1 == 1, cmd >> 30 & 1 == 1);
    let input = if writes { memory.bytes.lock()[..size].to_vec() } else { Vec::new() };
    let memory: Arc<dyn CallerMemory> = Arc::clone(memory) as _;
    let out_bytes = if reads { size } else { 0 };
    let call_ = IoctlCall { cmd, input: &input, out_bytes, is_32_bit: false, memory };
    match file.ioctl(&call(0), &call_) {
        Ok(Answer::Now((_, data))) => Ok(Some(data)),
        Ok(_) => Ok(None),
        Err(error) => Err(error.errno),
    }
}

#[test]
fn settings_are_got_and_set_through_memory_and_by_size() {
    let scene = scene();
    let file = scene.ttys[0].open(false, None).unwrap();
    let memory = Arc::new(Memory { argument: 4096, bytes: Mutex::new(vec![0; 100]) });
    ioctl(&file, 0x5401, &memory).unwrap();
    let got = memory.bytes.lock()[..TERMIOS_BYTES].to_vec();
    assert_eq!(got, Termios::default().to_bytes(TERMIOS_BYTES));
    memory.bytes.lock()[12..16].fill(0);
    ioctl(&file, 0x5402, &memory).unwrap();
    let sized = ioctl(&file, 0x802c_542a, &memory).unwrap().unwrap();
    let termios = Termios::from_bytes(&sized).unwrap();
    assert_eq!((termios.lflag, termios.ospeed), (0, 9600));
    file.release();
    assert_eq!(scene.ttys[0].state.lock().discipline.termios().lflag, 0);
}

#[test]
fn draining_waits_until_all_is_sent() {
    let scene = scene();
    let [a, b] = scene.open_raw(1, 0);
    write(&a, b"some characters");
    let memory = Arc::new(Memory { argument: 1, bytes: Mutex::default() });
    assert_eq!(ioctl(&a, 0x5409, &memory), Ok(None));
    scene.run();
    assert_eq!(ioctl(&a, 0x5409, &memory), Ok(Some(Vec::new())));
    assert_eq!(read(&b).unwrap(), b"some characters");
}

#[test]
fn what_is_no_command_is_enotty_and_what_is_no_argument_einval() {
    let scene = scene();
    let file = scene.ttys[0].open(false, None).unwrap();
    let memory = Arc::new(Memory { argument: 77, bytes: Mutex::new(vec![1; 20_000]) });
    for cmd in [0, 0x1260, 0x540e, 0x540f, 0x5412, 0x4028_5412, u32::MAX] {
        assert_eq!(ioctl(&file, cmd, &memory), Err(Errno::ENOTTY), "{cmd:#x}");
    }
    for cmd in [0x540a, 0x540b, 0x5423] {
        assert_eq!(ioctl(&file, cmd, &memory), Err(Errno::EINVAL), "{cmd:#x}");
    }
}
