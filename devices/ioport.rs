//! The port space as a file: the offset is the port address, every byte an access of its own.

use crate::bus::PortBus;
use crate::bus::port::Width;
use crate::contract::{CharDevice, IoError};
use crate::sync::Arc;

/// See the head of this file.
pub struct PortFile {
    ports: Arc<PortBus>,
}

impl PortFile {
    /// The file of these ports.
    #[must_use]
    pub fn new(ports: Arc<PortBus>) -> PortFile {
        PortFile { ports }
    }
}

/// The port at offset `at`, if there is one.
fn port(at: u64) -> Option<u16> {
    u16::try_from(at).ok()
}

impl CharDevice for PortFile {
    fn read(&self, at: u64, buf: &mut [u8]) -> Result<usize, IoError> {
        for (done, byte) in buf.iter_mut().enumerate() {
            let Some(port) = port(at.saturating_add(done as u64)) else { return Ok(done) };
            *byte = self.ports.read(port, Width::Byte).to_le_bytes()[0];
        }
        Ok(buf.len())
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<usize, IoError> {
        for (done, byte) in data.iter().enumerate() {
            match port(at.saturating_add(done as u64)) {
                Some(port) => self.ports.write(port, Width::Byte, (*byte).into()),
                None if done == 0 => return Err(IoError::Range),
                None => return Ok(done),
            }
        }
        Ok(data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::port::PORTS;

    #[test]
    fn an_unowned_port_reads_all_ones_and_the_file_ends_with_the_ports() {
        let file = PortFile::new(Arc::default());
        let mut buf = [0; 4];
        assert_eq!((file.read(0x3f8, &mut buf), buf), (Ok(4), [0xff; 4]));
        assert_eq!(file.read(u64::from(PORTS) - 2, &mut buf), Ok(2));
        assert_eq!(file.read(u64::from(PORTS), &mut buf), Ok(0));
        assert_eq!(file.write(0xffff, &buf), Ok(1));
        assert_eq!(file.write(u64::from(PORTS), &buf), Err(IoError::Range));
    }
}
