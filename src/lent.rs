//! Bytes lent to a reader instead of copied for it: memory that several may hold at a time.
//!
//! 1. Who holds [`Lent`] bytes sees them as they were when they were lent: whoever changes the
//!    memory meanwhile changes a copy.
//! 2. Memory that was lent and has come back is its owner's alone again, without being copied.
//! 3. To read memory that was lent costs no more than to read other memory: where it lies is known
//!    at once, and not by way of a count kept elsewhere, which nobody has near.

use bytes::Bytes;

/// A run of bytes that stays as it is for as long as this is held.
#[derive(Clone, Debug)]
pub struct Lent(Bytes);

impl Lent {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Memory that its owner alone changes, and that it may lend.
#[derive(Debug)]
pub enum Memory {
    /// Not lent since it was last changed.
    Own(Vec<u8>),
    /// Lent, perhaps still.
    Shared(Bytes),
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::Own(Vec::new())
    }
}

impl From<Vec<u8>> for Memory {
    fn from(bytes: Vec<u8>) -> Memory {
        Memory::Own(bytes)
    }
}

impl Memory {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Memory::Own(bytes) => bytes,
            Memory::Shared(bytes) => bytes,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Changes the bytes; a copy where somebody holds them.
    pub fn change(&mut self, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self.take();
        change(&mut bytes);
        *self = Memory::Own(bytes);
    }

    /// Lends bytes `from..to`.
    pub fn lend(&mut self, from: usize, to: usize) -> Lent {
        let shared = match std::mem::take(self) {
            Memory::Own(bytes) => Bytes::from(bytes),
            Memory::Shared(bytes) => bytes,
        };
        let is_inside = from <= to && to <= shared.len();
        let lent = if is_inside { shared.slice(from..to) } else { Bytes::new() };
        *self = Memory::Shared(shared);
        Lent(lent)
    }

    /// Takes the bytes out; a copy where somebody holds them.
    pub fn take(&mut self) -> Vec<u8> {
        match std::mem::take(self) {
            Memory::Own(bytes) => bytes,
            Memory::Shared(bytes) => bytes.into(),
        }
    }

    /// Takes the memory out, whatever it holds; none where somebody holds it.
    pub fn salvage(&mut self) -> Vec<u8> {
        match std::mem::take(self) {
            Memory::Own(bytes) => bytes,
            Memory::Shared(bytes) if bytes.is_unique() => bytes.into(),
            Memory::Shared(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_stays_as_it_was_when_the_owner_changes_it() {
        let mut memory = Memory::from(vec![1, 2, 3, 4]);
        let lent = memory.lend(1, 3);
        memory.change(|bytes| bytes[1] = 9);
        assert_eq!((lent.bytes(), memory.bytes()), (&[2, 3][..], &[1, 9, 3, 4][..]));
        assert_eq!(memory.take(), [1, 9, 3, 4]);
        assert_eq!(lent.bytes(), [2, 3]);
    }

    #[test]
    fn what_has_come_back_is_not_copied() {
        let mut memory = Memory::from(vec![7; 64]);
        let place = memory.bytes().as_ptr();
        drop((memory.lend(0, 8), memory.lend(8, 16)));
        memory.change(|bytes| bytes[0] = 8);
        assert_eq!(memory.bytes().as_ptr(), place);
        let taken = memory.take();
        assert_eq!(taken.as_ptr(), place);
        assert!(memory.is_empty());
    }

    #[test]
    fn memory_is_salvaged_only_from_who_does_not_lend_it() {
        let mut memory = Memory::from(vec![7; 64]);
        let lent = memory.lend(0, 64);
        assert!(memory.salvage().is_empty());
        assert_eq!(lent.bytes(), [7; 64]);
        let mut memory = Memory::from(vec![7; 64]);
        drop(memory.lend(0, 64));
        assert_eq!(memory.salvage().len(), 64);
    }

    #[test]
    fn a_run_outside_the_memory_is_empty() {
        assert!(Memory::from(vec![0; 4]).lend(2, 9).bytes().is_empty());
    }
}
