//! The memory bus: buffers lent to chips, which read and write them by bus address.
//!
//! A driver *maps* a buffer: the memory itself moves onto the bus, and comes back when unmapped.
//! So data goes between a medium and the memory of a request with no copy in between.
//!
//! 1. An address names one mapping; after unmapping it is good for nothing, not even by accident.
//! 2. Unmapping a buffer that a chip is at work on waits for the end of that work (bounded: one
//!    access to the medium), then the chip meets a [`BusFault`] at its next access.
//! 3. A chip never waits for memory: what is in use by another is a [`BusFault`].

use super::Conflict;
use crate::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

/// Buffers that can be mapped at once.
pub const BUFFERS_MAX: usize = 1 << 16;

/// Bytes of a mapped buffer at most: an address has 32 bits for the place inside.
pub const BUFFER_BYTES_MAX: u64 = 1 << 32;

/// Where a byte of a mapped buffer lies on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BusAddress(pub u64);

impl BusAddress {
    /// `bytes` further on.
    #[must_use]
    pub fn plus(self, bytes: u64) -> BusAddress {
        BusAddress(self.0.wrapping_add(bytes))
    }
}

/// A run of mapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first byte.
    pub address: BusAddress,
    /// Its length, in bytes.
    pub bytes: u32,
}

/// Nothing is mapped there, or not so much, or somebody else is at work on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusFault;

/// Which way data went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the device.
    ToMemory,
    /// To the device.
    FromMemory,
}

/// See the head of this file.
#[derive(Default)]
pub struct DmaBus {
    memory: RwLock<Memory>,
    channels: Mutex<BTreeMap<u8, Arc<Channel>>>,
}

#[derive(Default)]
struct Memory {
    slots: Vec<Arc<Slot>>,
    free: VecDeque<u16>,
}

#[derive(Default)]
struct Slot {
    buffer: Mutex<Buffer>,
}

#[derive(Default)]
struct Buffer {
    /// Counts the mappings of this slot: part of the address, so that an old one misses.
    mapping: u16,
    bytes: Option<Vec<u8>>,
}

struct Channel {
    owner: String,
    blocks: AtomicU64,
    to_memory: AtomicU64,
    from_memory: AtomicU64,
    mapped: AtomicU64,
}

/// A line of `proc/dma`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelCounters {
    /// The channel.
    pub channel: u8,
    /// Who claimed it.
    pub owner: String,
    /// Command blocks fetched by its chip.
    pub blocks: u64,
    /// Bytes from the device.
    pub to_memory: u64,
    /// Bytes to the device.
    pub from_memory: u64,
    /// Buffers mapped now.
    pub mapped: u64,
}

impl DmaBus {
    /// Claims a channel for a driver.
    ///
    /// # Errors
    /// [`Conflict`] when it is taken.
    pub fn claim(self: &Arc<Self>, owner: &str, number: u8) -> Result<DmaChannel, Conflict> {
        let mut channels = self.channels.lock();
        if let Some(other) = channels.get(&number) {
            let by = &other.owner;
            return Err(Conflict(format!("{owner}: dma channel {number} is taken by {by}")));
        }
        let channel = Arc::new(Channel {
            owner: owner.into(),
            blocks: AtomicU64::new(0),
            to_memory: AtomicU64::new(0),
            from_memory: AtomicU64::new(0),
            mapped: AtomicU64::new(0),
        });
        channels.insert(number, Arc::clone(&channel));
        Ok(DmaChannel { bus: Arc::clone(self), number, channel })
    }

    /// What is claimed, in order of channel.
    #[must_use]
    pub fn list(&self) -> Vec<ChannelCounters> {
        let channels = self.channels.lock();
        let line = |(&channel, of): (&u8, &Arc<Channel>)| ChannelCounters {
            channel,
            owner: of.owner.clone(),
            blocks: of.blocks.load(Ordering::Relaxed),
            to_memory: of.to_memory.load(Ordering::Relaxed),
            from_memory: of.from_memory.load(Ordering::Relaxed),
            mapped: of.mapped.load(Ordering::Relaxed),
        };
        channels.iter().map(line).collect()
    }

    /// The chip's side: `work` gets the bytes of `segment`.
    ///
    /// # Errors
    /// [`BusFault`]; `work` did not run.
    pub fn access<R>(
        &self,
        segment: Segment,
        work: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, BusFault> {
        let slot = self.slot(segment.address)?;
        let mut buffer = slot.buffer.try_lock().ok_or(BusFault)?;
        Ok(work(within(&mut buffer, segment)?))
    }

    /// The chip's side: `work` gets the bytes of all `segments`, no two in the same buffer.
    ///
    /// # Errors
    /// [`BusFault`]; `work` did not run.
    pub fn gather<R>(
        &self,
        segments: &[Segment],
        work: impl FnOnce(&mut [&mut [u8]]) -> R,
    ) -> Result<R, BusFault> {
        if let &[segment] = segments {
            return self.access(segment, |bytes| work(&mut [bytes]));
        }
        let slots = segments.iter().map(|s| self.slot(s.address)).collect::<Result<Vec<_>, _>>()?;
        let mut held = Vec::with_capacity(slots.len());
        for slot in &slots {
            held.push(slot.buffer.try_lock().ok_or(BusFault)?);
        }
        let runs = held.iter_mut().zip(segments).map(|(buffer, &segment)| within(buffer, segment));
        let mut runs = runs.collect::<Result<Vec<_>, _>>()?;
        Ok(work(&mut runs))
    }

    /// The chip's side: a command block was fetched over `channel`.
    pub fn count_block(&self, channel: u8) {
        if let Some(channel) = self.channels.lock().get(&channel) {
            channel.blocks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The chip's side: so many bytes went over `channel`.
    pub fn count_bytes(&self, channel: u8, direction: Direction, bytes: u64) {
        if let Some(channel) = self.channels.lock().get(&channel) {
            let counter = match direction {
                Direction::ToMemory => &channel.to_memory,
                Direction::FromMemory => &channel.from_memory,
            };
            counter.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn slot(&self, address: BusAddress) -> Result<Arc<Slot>, BusFault> {
        let (index, _, _) = parts(address);
        self.memory.read().slots.get(usize::from(index)).cloned().ok_or(BusFault)
    }

    fn map(&self, bytes: Vec<u8>) -> Result<BusAddress, Vec<u8>> {
        if bytes.len() as u64 > BUFFER_BYTES_MAX {
            return Err(bytes);
        }
        let mut memory = self.memory.write();
        if memory.free.is_empty() {
            let Ok(index) = u16::try_from(memory.slots.len()) else { return Err(bytes) };
            memory.slots.push(Arc::default());
            memory.free.push_back(index);
        }
        let Some(index) = memory.free.pop_front() else { return Err(bytes) };
        let slot = Arc::clone(&memory.slots[usize::from(index)]);
        drop(memory);
        let mut buffer = slot.buffer.lock();
        buffer.mapping = buffer.mapping.wrapping_add(1).max(1); // so that address 0 is nobody's
        buffer.bytes = Some(bytes);
        Ok(BusAddress(u64::from(buffer.mapping) << 48 | u64::from(index) << 32))
    }

    fn unmap(&self, address: BusAddress) -> Option<Vec<u8>> {
        let (index, mapping, _) = parts(address);
        let slot = self.slot(address).ok()?;
        let mut buffer = slot.buffer.lock();
        let bytes = if buffer.mapping == mapping { buffer.bytes.take() } else { None }?;
        drop(buffer);
        self.memory.write().free.push_back(index);
        Some(bytes)
    }
}

/// Slot, mapping, and place inside.
fn parts(address: BusAddress) -> (u16, u16, u32) {
    let [a, b, c, d, e, f, g, h] = address.0.to_le_bytes();
    let index = u16::from_le_bytes([e, f]);
    (index, u16::from_le_bytes([g, h]), u32::from_le_bytes([a, b, c, d]))
}

fn within<'a>(
    buffer: &'a mut MutexGuard<'_, Buffer>,
    segment: Segment,
) -> Result<&'a mut [u8], BusFault> {
    let (_, mapping, from) = parts(segment.address);
    if buffer.mapping != mapping {
        return Err(BusFault);
    }
    let bytes = buffer.bytes.as_mut().ok_or(BusFault)?;
    let from = usize::try_from(from).map_err(|_| BusFault)?;
    let len = usize::try_from(segment.bytes).map_err(|_| BusFault)?;
    bytes.get_mut(from..).and_then(|rest| rest.get_mut(..len)).ok_or(BusFault)
}

/// A claimed channel: a driver's way to lend memory to its chip.
pub struct DmaChannel {
    bus: Arc<DmaBus>,
    number: u8,
    channel: Arc<Channel>,
}

impl DmaChannel {
    /// Lends memory to the chip and says where it now lies.
    ///
    /// # Errors
    /// The memory, when [`BUFFERS_MAX`] or [`BUFFER_BYTES_MAX`] is reached.
    pub fn map(&self, bytes: Vec<u8>) -> Result<BusAddress, Vec<u8>> {
        let address = self.bus.map(bytes)?;
        self.channel.mapped.fetch_add(1, Ordering::Relaxed);
        Ok(address)
    }

    /// Takes memory back; waits for an access under way. `None` when nothing is mapped there.
    #[must_use]
    pub fn unmap(&self, address: BusAddress) -> Option<Vec<u8>> {
        let bytes = self.bus.unmap(address)?;
        self.channel.mapped.fetch_sub(1, Ordering::Relaxed);
        Some(bytes)
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }
}

impl Drop for DmaChannel {
    fn drop(&mut self) {
        self.bus.channels.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> (Arc<DmaBus>, DmaChannel) {
        let bus = Arc::new(DmaBus::default());
        let channel = bus.claim("sd0", 3).unwrap();
        (bus, channel)
    }

    #[test]
    fn memory_moves_onto_the_bus_and_back_without_a_copy() {
        let (bus, channel) = channel();
        let memory = vec![1u8; 4096];
        let place = memory.as_ptr();
        let address = channel.map(memory).unwrap();
        let segment = Segment { address: address.plus(100), bytes: 2 };
        bus.access(segment, |bytes| bytes.copy_from_slice(&[7, 8])).unwrap();
        assert_eq!(bus.list()[0].mapped, 1);
        let memory = channel.unmap(address).unwrap();
        assert_eq!((memory.as_ptr(), memory[99..103].to_vec()), (place, vec![1, 7, 8, 1]));
        assert_eq!(bus.list()[0].mapped, 0);
    }

    #[test]
    fn an_old_address_is_good_for_nothing() {
        let (bus, channel) = channel();
        let old = channel.map(vec![0; 8]).unwrap();
        channel.unmap(old).unwrap();
        let new = channel.map(vec![0; 8]).unwrap();
        assert_ne!(old, new);
        assert_eq!(bus.access(Segment { address: old, bytes: 8 }, |_| ()), Err(BusFault));
        assert!(channel.unmap(old).is_none());
        assert!(channel.unmap(new).is_some());
    }

    #[test]
    fn beyond_the_end_and_at_address_zero_is_a_bus_fault() {
        let (bus, channel) = channel();
        assert_eq!(bus.access(Segment { address: BusAddress(0), bytes: 1 }, |_| ()), Err(BusFault));
        let address = channel.map(vec![0; 8]).unwrap();
        for (from, bytes) in [(0, 9), (8, 1), (u64::from(u32::MAX), u32::MAX)] {
            let segment = Segment { address: address.plus(from), bytes };
            assert_eq!(bus.access(segment, |_| ()), Err(BusFault));
        }
        assert!(bus.access(Segment { address, bytes: 8 }, |_| ()).is_ok());
    }

    #[test]
    fn several_buffers_are_reached_at_once_but_none_twice() {
        let (bus, channel) = channel();
        let [one, two] = [4u32, 6].map(|len| Segment {
            address: channel.map(vec![0; usize::try_from(len).unwrap()]).unwrap(),
            bytes: len,
        });
        let lens = bus.gather(&[one, two], |runs| runs.iter().map(|r| r.len()).collect::<Vec<_>>());
        assert_eq!(lens, Ok(vec![4, 6]));
        assert_eq!(bus.gather(&[one, two, one], |_| ()), Err(BusFault));
        assert!(bus.gather(&[two, one], |_| ()).is_ok());
    }

    #[test]
    fn a_channel_is_refused_to_a_second_owner() {
        let (bus, channel) = channel();
        let refused = bus.claim("sd1", 3).err().unwrap();
        assert_eq!(refused.0, "sd1: dma channel 3 is taken by sd0");
        drop(channel);
        assert!(bus.claim("sd1", 3).is_ok());
    }

    #[test]
    fn at_the_limit_the_memory_comes_back() {
        let (_bus, channel) = channel();
        let all = (0..BUFFERS_MAX).map(|_| channel.map(Vec::new()).unwrap()).collect::<Vec<_>>();
        assert_eq!(channel.map(vec![9]), Err(vec![9]));
        assert!(channel.unmap(all[7]).is_some());
        assert!(channel.map(vec![9]).is_ok());
    }

    #[test]
    fn what_went_over_a_channel_is_counted() {
        let (bus, _channel) = channel();
        bus.count_block(3);
        bus.count_bytes(3, Direction::ToMemory, 512);
        bus.count_bytes(3, Direction::FromMemory, 4096);
        let line = &bus.list()[0];
        assert_eq!((line.blocks, line.to_memory, line.from_memory), (1, 512, 4096));
    }
}
