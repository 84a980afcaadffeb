//! A driver that the house has never heard of, with a command of its own: nothing between open(2)
//! and the driver knows the number, so nothing but this file says it.

use super::*;
use crate::cache::CacheConfig;
use crate::file::CallerMemory;
use devices::engine::Time;
use devices::{AttachError, Attached, CharDevice, Driver, Interrupt, IoError, Ioctl, Key};

/// `_IOWR('~', 0x5d, 6 bytes)`: adds what was added before to each byte, and counts how often.
const ADD: u32 = 0xc006_7e5d;
/// `_IOW('~', 0x5e, 1 byte)`: what is added.
const ADDEND: u32 = 0x4001_7e5e;
/// `_IOR('~', 0x5f, 2 bytes)`: how often it was, and what.
const TOLD: u32 = 0x8002_7e5f;
const MAJOR: u16 = 240;
/// `O_RDWR`.
const READ_WRITE: i32 = 2;

struct Abacus;

impl Driver for Abacus {
    fn name(&self) -> &'static str {
        "abacus"
    }

    fn char_major(&self) -> Option<u16> {
        Some(MAJOR)
    }

    fn section(&self) -> &'static str {
        "abacus"
    }

    fn keys(&self) -> &'static [Key] {
        &[]
    }

    fn attach(&self, _unit: &UnitConfig, _machine: &Machine) -> Result<Attached, AttachError> {
        let unit = Arc::new(Unit::default());
        let character = vec![("abacus0".to_owned(), 0, unit as Arc<dyn CharDevice>)];
        Ok(Attached { address: "nowhere".into(), block: None, character })
    }
}

#[derive(Default)]
struct Unit {
    /// How often, and what.
    state: Mutex<[u8; 2]>,
}

impl CharDevice for Unit {
    fn read(&self, _at: u64, _buf: &mut [u8]) -> Result<usize, IoError> {
        Ok(0)
    }

    fn write(&self, _at: u64, data: &[u8]) -> Result<usize, IoError> {
        Ok(data.len())
    }

    fn ioctl(&self, call: &mut Ioctl<'_>) -> Result<(), IoError> {
        let mut state = self.state.lock();
        match call.cmd {
            ADD => {
                state[0] += 1;
                for (to, from) in call.output.iter_mut().zip(call.input) {
                    *to = from.wrapping_add(state[1]);
                }
            }
            ADDEND => state[1] = call.input[0],
            TOLD => call.output.copy_from_slice(&*state),
            _ => return Err(IoError::Unsupported),
        }
        Ok(())
    }

    fn commands(&self) -> &'static [(u32, &'static str)] {
        &[(ADD, "ABACUS_ADD"), (ADDEND, "ABACUS_ADDEND"), (TOLD, "ABACUS_TOLD")]
    }
}

/// Its commands carry their sizes, so that nobody has to look at the caller's memory.
struct NoMemory;

impl CallerMemory for NoMemory {
    fn argument(&self) -> Result<u64, Error> {
        panic!("looked at the argument of a command that has its size");
    }

    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Error> {
        panic!("read the caller's memory");
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), Error> {
        panic!("wrote the caller's memory");
    }
}

const CALLER: Caller = Caller { pid: 1, uid: 0, gid: 0 };

fn special() -> Special {
    let machine = Machine::new(Engine::new(Time::Simulated), None, 1);
    let cache = BufferCache::new(Arc::clone(&machine.engine), CacheConfig::default());
    let mut switch = Switch::default();
    switch.add_driver(&Abacus);
    let attached = Abacus.attach(&UnitConfig::default(), &machine).unwrap();
    switch.add_unit(&Abacus, "abacus0", 0, attached);
    Special::new(Arc::new(switch), &cache, &machine, (&[], &|_, _| String::new())).unwrap()
}

/// A command as the host passes it on: with as many bytes each way as its number says.
fn given(file: &dyn FileOps, cmd: u32, data: &[u8]) -> Result<Vec<u8>, Errno> {
    let size = (cmd >> 16 & 0x3fff) as usize;
    let input = if cmd & 1 << 30 == 0 { &[] } else { &data[..size] };
    let out_bytes = if cmd & 1 << 31 == 0 { 0 } else { size };
    let memory = Arc::new(NoMemory);
    let ioctl = IoctlCall { cmd, input, out_bytes, is_32_bit: false, memory };
    let call = Call { caller: CALLER, flags: READ_WRITE, id: 1 };
    let answer = match file.ioctl(&call, &ioctl).map_err(|error| error.errno)? {
        Answer::Now(answer) => Ok(answer),
        Answer::Later(rest) => rest(&Interrupt::default()),
        Answer::Blocked(rest) => rest.wait(&Interrupt::default()),
    };
    answer.map(|(result, bytes)| (assert_eq!(result, 0), bytes).1).map_err(|error| error.errno)
}

#[test]
fn a_new_drivers_own_command_reaches_it_with_its_bytes_both_ways() {
    let special = special();
    let id = DevId { major: MAJOR, minor: 0 };
    let file = special.open(Device { kind: DeviceKind::Char, id }, &CALLER, READ_WRITE).unwrap();
    assert_eq!(given(&*file, ADDEND, &[3]), Ok(vec![]));
    assert_eq!(given(&*file, ADD, b"abcXYZ"), Ok(b"def[\\]".to_vec()));
    assert_eq!(given(&*file, ADD, &[255; 6]), Ok(vec![2; 6]));
    assert_eq!(given(&*file, TOLD, &[]), Ok(vec![2, 3]));
    let of_other_sizes = [ADD - (1 << 16), ADD + (1 << 16), ADD & !(0x3fff << 16)];
    for cmd in of_other_sizes.into_iter().chain([ADD & !(1 << 30), ADD & !(1 << 31), ADD + 0x10]) {
        assert_eq!(given(&*file, cmd, b"abcdefg"), Err(Errno::ENOTTY), "{cmd:#x}");
    }
    assert_eq!(given(&*file, TOLD, &[]), Ok(vec![2, 3]), "a refused command changed something");
    let listed = special.character("abacus0").unwrap().unit.commands();
    assert!(listed.contains(&(ADD, "ABACUS_ADD")), "this is what proc/ioctls shows");
}
