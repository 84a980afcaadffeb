//! mem: null, zero, full, random, urandom. The smallest driver, and the example to start from.
//!
//! It has no hardware, no keys, and nothing that could wait: a unit is a struct with two methods,
//! and two more where it has a command of its own, as null has. With them goes `port`, the
//! machine's port space as a file.

use crate::contract::{AttachError, Attached, CharDevice, Driver, IoError, Ioctl, Key, UnitConfig};
use crate::ioport::PortFile;
use crate::machine::Machine;
use crate::sync::Arc;

/// `_IOWR(0xb5, 0x10, 1000 bytes)`: gives the caller's bytes back, the last first.
pub const NULL_REVERSE: u32 = 0xc3e8_b510;

/// The driver.
pub struct Mem;

impl Driver for Mem {
    fn name(&self) -> &'static str {
        "mem"
    }

    fn char_major(&self) -> Option<u16> {
        Some(1)
    }

    fn section(&self) -> &'static str {
        "" // always there
    }

    fn keys(&self) -> &'static [Key] {
        &[]
    }

    /// Minors as in Linux.
    fn attach(&self, _unit: &UnitConfig, machine: &Machine) -> Result<Attached, AttachError> {
        let units: [(&str, u32, Arc<dyn CharDevice>); 6] = [
            ("null", 3, Arc::new(Null)),
            ("port", 4, Arc::new(PortFile::new(Arc::clone(&machine.ports)))),
            ("zero", 5, Arc::new(Zero)),
            ("full", 7, Arc::new(Full)),
            ("random", 8, Arc::new(Random)),
            ("urandom", 9, Arc::new(Random)),
        ];
        let character = units.map(|(name, minor, unit)| (name.to_string(), minor, unit)).into();
        Ok(Attached { address: "memory".into(), block: None, character })
    }
}

/// Nothing to read; takes everything. Its command shows that bytes go both ways.
struct Null;

impl CharDevice for Null {
    fn read(&self, _at: u64, _buf: &mut [u8]) -> Result<usize, IoError> {
        Ok(0)
    }

    fn write(&self, _at: u64, data: &[u8]) -> Result<usize, IoError> {
        Ok(data.len())
    }

    fn ioctl(&self, call: &mut Ioctl<'_>) -> Result<(), IoError> {
        if call.cmd != NULL_REVERSE {
            return Err(IoError::Unsupported);
        }
        if call.output.len() != call.input.len() {
            return Err(IoError::Invalid);
        }
        call.output.copy_from_slice(call.input);
        call.output.reverse();
        Ok(())
    }

    fn commands(&self) -> &'static [(u32, &'static str)] {
        &[(NULL_REVERSE, "NULL_REVERSE")]
    }
}

/// Zeros without end; takes everything.
struct Zero;

impl CharDevice for Zero {
    fn read(&self, _at: u64, buf: &mut [u8]) -> Result<usize, IoError> {
        buf.fill(0);
        Ok(buf.len())
    }

    fn write(&self, _at: u64, data: &[u8]) -> Result<usize, IoError> {
        Ok(data.len())
    }
}

/// Zeros without end; has no room.
struct Full;

impl CharDevice for Full {
    fn read(&self, _at: u64, buf: &mut [u8]) -> Result<usize, IoError> {
        buf.fill(0);
        Ok(buf.len())
    }

    fn write(&self, _at: u64, _data: &[u8]) -> Result<usize, IoError> {
        Err(IoError::NoSpace)
    }
}

/// Random bytes, from the host's generator; what is written to it changes nothing there.
struct Random;

impl CharDevice for Random {
    fn read(&self, _at: u64, buf: &mut [u8]) -> Result<usize, IoError> {
        getrandom::fill(buf).map_err(|_| IoError::Hardware)?;
        Ok(buf.len())
    }

    fn write(&self, _at: u64, data: &[u8]) -> Result<usize, IoError> {
        Ok(data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, Time};

    fn unit(name: &str) -> Arc<dyn CharDevice> {
        let machine = Machine::new(Engine::new(Time::Simulated), None, 1);
        let attached = Mem.attach(&UnitConfig::default(), &machine).unwrap();
        attached.character.into_iter().find(|unit| unit.0 == name).unwrap().2
    }

    #[test]
    fn each_reads_and_writes_as_everywhere() {
        let mut buf = [7; 16];
        assert_eq!(unit("null").read(0, &mut buf), Ok(0));
        assert_eq!(unit("null").write(9, &buf), Ok(16));
        for name in ["zero", "full"] {
            buf.fill(7);
            assert_eq!(unit(name).read(1 << 40, &mut buf), Ok(16));
            assert_eq!(buf, [0; 16]);
        }
        assert_eq!(unit("zero").write(0, &buf), Ok(16));
        assert_eq!(unit("full").write(0, &buf), Err(IoError::NoSpace));
    }

    #[test]
    fn null_gives_bytes_back_the_last_first_and_knows_no_other_size() {
        let obey = |name: &str, cmd, input: &[u8], room| {
            let mut output = vec![7; room];
            let answer = unit(name).ioctl(&mut Ioctl { cmd, input, output: &mut output });
            answer.map(|()| output)
        };
        let input: Vec<u8> = (0..1000).map(|n: u16| n.to_le_bytes()[0]).collect();
        let back = input.iter().rev().copied().collect();
        assert_eq!(obey("null", NULL_REVERSE, &input, 1000), Ok(back));
        assert_eq!((NULL_REVERSE >> 16) & 0x3fff, 1000);
        let shorter = NULL_REVERSE - (1 << 16);
        assert_eq!(obey("null", shorter, &input[1..], 999), Err(IoError::Unsupported));
        assert_eq!(obey("null", NULL_REVERSE, &input, 0), Err(IoError::Invalid));
        assert_eq!(obey("zero", NULL_REVERSE, &input, 1000), Err(IoError::Unsupported));
    }

    #[test]
    fn random_bytes_differ_and_cover_all_values() {
        for name in ["random", "urandom"] {
            let (mut one, mut two) = ([0; 4096], [0; 4096]);
            unit(name).read(0, &mut one).unwrap();
            unit(name).read(0, &mut two).unwrap();
            assert_ne!(one, two);
            let values = (0..=255).filter(|value| one.contains(value)).count();
            assert!(values > 240, "{values}");
            assert_eq!(unit(name).write(0, &one), Ok(4096));
        }
    }
}
