//! Bytes lent to a reader instead of copied for it: memory that several may hold at a time.
//!
//! 1. Who holds [`Lent`] bytes sees them as they were when they were lent: whoever changes the
//!    memory meanwhile changes a copy.
//! 2. Memory that was lent and has come back is its owner's alone again, without being copied.

use crate::sync::Arc;

/// A run of bytes that stays as it is for as long as this is held.
#[derive(Clone, Debug)]
pub struct Lent {
    memory: Arc<Vec<u8>>,
    from: usize,
    to: usize,
}

impl Lent {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.from..self.to).unwrap_or(&[])
    }
}

/// Memory that its owner alone changes, and that it may lend.
#[derive(Debug)]
pub enum Memory {
    /// Never lent.
    Own(Vec<u8>),
    /// Lent, perhaps still.
    Shared(Arc<Vec<u8>>),
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

    /// The bytes, to change them; a copy where somebody holds them.
    pub fn to_mut(&mut self) -> &mut Vec<u8> {
        match self {
            Memory::Own(bytes) => bytes,
            Memory::Shared(bytes) => Arc::make_mut(bytes),
        }
    }

    /// Lends bytes `from..to`.
    pub fn lend(&mut self, from: usize, to: usize) -> Lent {
        let memory = match self {
            Memory::Own(bytes) => Arc::new(std::mem::take(bytes)),
            Memory::Shared(bytes) => Arc::clone(bytes),
        };
        if matches!(self, Memory::Own(_)) {
            *self = Memory::Shared(Arc::clone(&memory));
        }
        Lent { memory, from, to }
    }

    /// Takes the bytes out; a copy where somebody holds them.
    pub fn take(&mut self) -> Vec<u8> {
        match std::mem::take(self) {
            Memory::Own(bytes) => bytes,
            Memory::Shared(bytes) => Arc::unwrap_or_clone(bytes),
        }
    }

    /// Takes the memory out, whatever it holds; none where somebody holds it.
    pub fn salvage(&mut self) -> Vec<u8> {
        match std::mem::take(self) {
            Memory::Own(bytes) => bytes,
            Memory::Shared(bytes) => Arc::try_unwrap(bytes).unwrap_or_default(),
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
        memory.to_mut()[1] = 9;
        assert_eq!((lent.bytes(), memory.bytes()), (&[2, 3][..], &[1, 9, 3, 4][..]));
        assert_eq!(memory.take(), [1, 9, 3, 4]);
        assert_eq!(lent.bytes(), [2, 3]);
    }

    #[test]
    fn what_has_come_back_is_not_copied() {
        let mut memory = Memory::from(vec![7; 64]);
        let place = memory.bytes().as_ptr();
        drop((memory.lend(0, 8), memory.lend(8, 16)));
        memory.to_mut()[0] = 8;
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
