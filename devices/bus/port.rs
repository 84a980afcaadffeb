//! The port space: 65536 addresses at which chips show their registers.
//!
//! 1. No two chips and no two claims overlap; a refusal names both owners.
//! 2. Where nobody lives every read gives all ones, as on a bus that floats.
//! 3. A register is read and written with no lock of this bus held.

use super::Conflict;
use crate::sync::{Arc, RwLock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Ports there are.
pub const PORTS: u32 = 0x1_0000;

/// How many bytes one access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One.
    Byte,
    /// Two.
    Word,
    /// Four.
    Long,
}

impl Width {
    /// How many bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Long => 4,
        }
    }

    /// As many ones as fit: what a floating bus gives, and the mask of a value.
    #[must_use]
    pub fn ones(self) -> u32 {
        match self {
            Width::Byte => 0xff,
            Width::Word => 0xffff,
            Width::Long => u32::MAX,
        }
    }
}

/// The registers of a chip, as the bus sees them; `offset` counts from the chip's first port.
pub trait Registers: Send + Sync {
    /// A read; it may change the chip (a data register moves on). It does not wait.
    fn read(&self, offset: u16, width: Width) -> u32;
    /// A write. It does not wait, and raises no line before it returns.
    fn write(&self, offset: u16, width: Width, value: u32);
}

/// See the head of this file.
#[derive(Default)]
pub struct PortBus {
    space: RwLock<Space>,
}

#[derive(Default)]
struct Space {
    chips: BTreeMap<u16, Chip>,
    claims: BTreeMap<u16, Arc<Range>>,
}

#[derive(Clone)]
struct Chip {
    name: String,
    first: u16,
    ports: u16,
    registers: Arc<dyn Registers>,
}

struct Range {
    owner: String,
    first: u16,
    ports: u16,
    reads: AtomicU64,
    writes: AtomicU64,
}

/// A line of `proc/ioports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
    /// Who claimed it.
    pub owner: String,
    /// Reads since it was claimed.
    pub reads: u64,
    /// Writes since it was claimed.
    pub writes: u64,
}

fn overlap(a: (u16, u16), b: (u16, u16)) -> bool {
    let end = |(first, ports): (u16, u16)| u32::from(first) + u32::from(ports);
    u32::from(a.0) < end(b) && u32::from(b.0) < end(a)
}

fn check(
    wanted: (u16, u16),
    by: &str,
    taken: impl Iterator<Item = (u16, u16, String)>,
) -> Result<(), Conflict> {
    let (first, ports) = wanted;
    if ports == 0 || u32::from(first) + u32::from(ports) > PORTS {
        return Err(Conflict(format!("{by}: ports {first:#x}+{ports} are not in the port space")));
    }
    for (other, len, owner) in taken {
        if overlap(wanted, (other, len)) {
            let (last, other_last) = (first + (ports - 1), other + (len - 1));
            return Err(Conflict(format!(
                "{by}: ports {first:#x}-{last:#x} overlap {other:#x}-{other_last:#x} of {owner}"
            )));
        }
    }
    Ok(())
}

impl PortBus {
    /// Puts a chip on the bus.
    ///
    /// # Errors
    /// [`Conflict`] where another chip sits.
    pub fn install(
        &self,
        name: &str,
        first: u16,
        ports: u16,
        registers: Arc<dyn Registers>,
    ) -> Result<(), Conflict> {
        let mut space = self.space.write();
        let taken = space.chips.values().map(|c| (c.first, c.ports, c.name.clone()));
        check((first, ports), name, taken)?;
        space.chips.insert(first, Chip { name: name.into(), first, ports, registers });
        Ok(())
    }

    /// Takes the chip that sits at `first` from the bus. A claim that has it keeps it.
    pub fn remove(&self, first: u16) {
        let chip = self.space.write().chips.remove(&first);
        drop(chip); // with no lock held: a chip closes its medium
    }

    /// Claims a range for a driver.
    ///
    /// # Errors
    /// [`Conflict`] when any of it is claimed.
    pub fn claim(
        self: &Arc<Self>,
        owner: &str,
        first: u16,
        ports: u16,
    ) -> Result<PortIo, Conflict> {
        let mut space = self.space.write();
        let taken = space.claims.values().map(|r| (r.first, r.ports, r.owner.clone()));
        check((first, ports), owner, taken)?;
        let range = Arc::new(Range {
            owner: owner.into(),
            first,
            ports,
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        });
        space.claims.insert(first, Arc::clone(&range));
        let chip = space.at(first);
        drop(space);
        Ok(PortIo { bus: Arc::clone(self), range, chip })
    }

    /// Reads a port by its address, whoever owns it.
    #[must_use]
    pub fn read(&self, port: u16, width: Width) -> u32 {
        let (chip, claim) = self.find(port);
        if let Some(claim) = claim {
            claim.reads.fetch_add(1, Ordering::Relaxed);
        }
        chip.map_or(width.ones(), |chip| chip.registers.read(port - chip.first, width))
    }

    /// Writes a port by its address, whoever owns it; where nobody lives nothing happens.
    pub fn write(&self, port: u16, width: Width, value: u32) {
        let (chip, claim) = self.find(port);
        if let Some(claim) = claim {
            claim.writes.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(chip) = chip {
            chip.registers.write(port - chip.first, width, value & width.ones());
        }
    }

    /// What is claimed, in order of address.
    #[must_use]
    pub fn list(&self) -> Vec<PortRange> {
        let line = |range: &Arc<Range>| PortRange {
            first: range.first,
            last: range.first + (range.ports - 1),
            owner: range.owner.clone(),
            reads: range.reads.load(Ordering::Relaxed),
            writes: range.writes.load(Ordering::Relaxed),
        };
        self.space.read().claims.values().map(line).collect()
    }

    fn find(&self, port: u16) -> (Option<Chip>, Option<Arc<Range>>) {
        let space = self.space.read();
        let claim = space.claims.range(..=port).next_back().map(|(_, range)| range);
        let claim = claim.filter(|range| port - range.first < range.ports).cloned();
        (space.at(port), claim)
    }
}

impl Space {
    fn at(&self, port: u16) -> Option<Chip> {
        let (_, chip) = self.chips.range(..=port).next_back()?;
        (port - chip.first < chip.ports).then(|| chip.clone())
    }
}

/// A claimed range: a driver's way to its chip. Dropped, the range is free again.
pub struct PortIo {
    bus: Arc<PortBus>,
    range: Arc<Range>,
    chip: Option<Chip>,
}

impl Drop for PortIo {
    fn drop(&mut self) {
        self.bus.space.write().claims.remove(&self.range.first);
    }
}

impl PortIo {
    fn place(&self, offset: u16) -> Option<(&Chip, u16)> {
        let chip = self.chip.as_ref().filter(|_| offset < self.range.ports)?;
        let within = self.range.first - chip.first + offset;
        (within < chip.ports).then_some((chip, within))
    }

    fn get(&self, offset: u16, width: Width) -> u32 {
        self.range.reads.fetch_add(1, Ordering::Relaxed);
        let place = self.place(offset);
        place.map_or(width.ones(), |(chip, within)| chip.registers.read(within, width))
            & width.ones()
    }

    fn put(&self, offset: u16, width: Width, value: u32) {
        self.range.writes.fetch_add(1, Ordering::Relaxed);
        if let Some((chip, within)) = self.place(offset) {
            chip.registers.write(within, width, value);
        }
    }

    /// Reads one byte, `offset` ports into the range.
    #[must_use]
    pub fn inb(&self, offset: u16) -> u8 {
        self.get(offset, Width::Byte).to_le_bytes()[0]
    }

    /// Reads two bytes.
    #[must_use]
    pub fn inw(&self, offset: u16) -> u16 {
        let [low, high, ..] = self.get(offset, Width::Word).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Reads four bytes.
    #[must_use]
    pub fn inl(&self, offset: u16) -> u32 {
        self.get(offset, Width::Long)
    }

    /// Reads eight bytes from a pair of registers, the low half first.
    #[must_use]
    pub fn inq(&self, offset: u16) -> u64 {
        u64::from(self.inl(offset)) | u64::from(self.inl(offset + 4)) << 32
    }

    /// Writes one byte.
    pub fn outb(&self, offset: u16, value: u8) {
        self.put(offset, Width::Byte, value.into());
    }

    /// Writes two bytes.
    pub fn outw(&self, offset: u16, value: u16) {
        self.put(offset, Width::Word, value.into());
    }

    /// Writes four bytes.
    pub fn outl(&self, offset: u16, value: u32) {
        self.put(offset, Width::Long, value);
    }

    /// Writes eight bytes to a pair of registers, the low half first.
    pub fn outq(&self, offset: u16, value: u64) {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        self.outl(offset, u32::from_le_bytes([a, b, c, d]));
        self.outl(offset + 4, u32::from_le_bytes([e, f, g, h]));
    }

    /// The first port of the range.
    #[must_use]
    pub fn first(&self) -> u16 {
        self.range.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Mutex;

    #[derive(Default)]
    struct Latch(Mutex<[u8; 16]>);

    impl Registers for Latch {
        fn read(&self, offset: u16, _width: Width) -> u32 {
            self.0.lock()[usize::from(offset)].into()
        }
        fn write(&self, offset: u16, _width: Width, value: u32) {
            self.0.lock()[usize::from(offset)] = u8::try_from(value).unwrap();
        }
    }

    fn bus() -> Arc<PortBus> {
        let bus = Arc::new(PortBus::default());
        bus.install("latch", 0x100, 16, Arc::new(Latch::default())).unwrap();
        bus
    }

    #[test]
    fn a_claim_reaches_the_chip_and_counts() {
        let bus = bus();
        let io = bus.claim("sd0", 0x100, 16).unwrap();
        io.outb(3, 0x42);
        assert_eq!(io.inb(3), 0x42);
        assert_eq!(bus.read(0x103, Width::Byte), 0x42);
        let [line] = &bus.list()[..] else { panic!("one range") };
        assert_eq!((line.first, line.last, line.reads, line.writes), (0x100, 0x10f, 2, 1));
        assert_eq!(line.owner, "sd0");
    }

    #[test]
    fn where_nobody_lives_reads_give_all_ones() {
        let bus = bus();
        assert_eq!(bus.read(0x90, Width::Byte), 0xff);
        bus.write(0x90, Width::Byte, 1);
        let io = bus.claim("hd0", 0x200, 4).unwrap();
        assert_eq!((io.inb(0), io.inw(0), io.inl(0)), (0xff, 0xffff, u32::MAX));
        assert_eq!(io.inb(9), 0xff);
        io.outl(0, 5);
    }

    #[test]
    fn an_overlap_is_refused_and_names_both() {
        let bus = bus();
        let kept = bus.claim("sd0", 0x100, 16).unwrap();
        let refused = bus.claim("sd1", 0x10f, 2).err().unwrap().to_string();
        assert_eq!(refused, "sd1: ports 0x10f-0x110 overlap 0x100-0x10f of sd0");
        assert!(bus.claim("sd1", 0x110, 16).is_ok());
        drop(kept);
        assert!(bus.claim("sd1", 0x10f, 2).is_ok());
        assert!(bus.install("other", 0xff, 2, Arc::new(Latch::default())).is_err());
    }

    #[test]
    fn the_last_ports_can_be_claimed_and_no_more() {
        let bus = bus();
        assert!(bus.claim("a", 0xfff0, 16).is_ok());
        assert!(bus.claim("a", 0xfff0, 17).is_err());
        assert!(bus.claim("a", 0, 0).is_err());
    }

    #[test]
    fn a_removed_chip_leaves_a_floating_bus() {
        let bus = bus();
        bus.remove(0x100);
        assert_eq!(bus.claim("sd0", 0x100, 16).unwrap().inl(0), u32::MAX);
    }
}
