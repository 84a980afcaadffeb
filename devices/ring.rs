//! A circular buffer with two pointers: where the next element goes, and the first not yet taken.
//!
//! Both go round. They are kept as the numbers of elements ever put and taken, so that a full ring
//! and an empty one, whose pointers stand at the same place, are told apart. What does not fit is
//! not put: nothing that waits is ever written over.

use crate::contract::RingState;

/// See the head of this file.
pub struct Ring<T> {
    slots: Vec<T>,
    put: u64,
    taken: u64,
}

impl<T: Copy> Ring<T> {
    /// An empty ring with room for `size` elements, at least one; `blank` is what its slots hold.
    #[must_use]
    pub fn new(size: usize, blank: T) -> Ring<T> {
        Ring { slots: vec![blank; size.max(1)], put: 0, taken: 0 }
    }

    fn size(&self) -> u64 {
        self.slots.len() as u64
    }

    fn slot(&self, count: u64) -> usize {
        usize::try_from(count % self.size()).unwrap_or(0)
    }

    /// Elements that wait to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.put - self.taken).unwrap_or(0)
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.put == self.taken
    }

    /// Elements that can be put.
    #[must_use]
    pub fn room(&self) -> usize {
        self.slots.len() - self.len()
    }

    /// Puts as many as there is room for; answers how many.
    pub fn put(&mut self, elements: &[T]) -> usize {
        let count = elements.len().min(self.room());
        let at = self.slot(self.put);
        let (first, second) = elements[..count].split_at(count.min(self.slots.len() - at));
        self.slots[at..at + first.len()].copy_from_slice(first);
        self.slots[..second.len()].copy_from_slice(second);
        self.put += count as u64;
        count
    }

    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let element = self.slots[self.slot(self.taken)];
        self.taken += 1;
        Some(element)
    }

    /// Takes at most `count`, the oldest first, to the end of `into`; answers how many.
    pub fn take(&mut self, count: usize, into: &mut Vec<T>) -> usize {
        let count = count.min(self.len());
        let at = self.slot(self.taken);
        let first = count.min(self.slots.len() - at);
        into.extend_from_slice(&self.slots[at..at + first]);
        into.extend_from_slice(&self.slots[..count - first]);
        self.taken += count as u64;
        count
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.taken = self.put;
    }

    /// Where its pointers stand.
    #[must_use]
    pub fn state(&self) -> RingState {
        RingState {
            size: self.slots.len(),
            head: self.slot(self.put),
            tail: self.slot(self.taken),
            wraps: [self.put / self.size(), self.taken / self.size()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// Does the same to a ring and to a queue, `steps` times; how often the ring was full and empty
    /// with its pointers at the same place.
    fn compare(size: usize, steps: impl Iterator<Item = (bool, usize)>) -> (Ring<u32>, [u32; 2]) {
        let (mut ring, mut queue) = (Ring::new(size, 0), VecDeque::new());
        let (mut next, mut met) = (0, [0; 2]);
        for (is_put, len) in steps {
            if is_put {
                let elements: Vec<u32> = (0..len)
                    .map(|_| {
                        next += 1;
                        next
                    })
                    .collect();
                let count = ring.put(&elements);
                assert_eq!(count, len.min(size - queue.len()), "the newest are left out");
                queue.extend(&elements[..count]);
            } else if len == 1 {
                assert_eq!(ring.pop(), queue.pop_front());
            } else {
                let mut taken = vec![7];
                let count = ring.take(len, &mut taken);
                let wanted: Vec<u32> = queue.drain(..len.min(queue.len())).collect();
                assert_eq!((count, &taken[1..]), (wanted.len(), &wanted[..]));
            }
            assert_eq!((ring.len(), ring.is_empty()), (queue.len(), queue.is_empty()));
            assert_eq!(ring.room(), size - queue.len());
            let RingState { head, tail, .. } = ring.state();
            assert_eq!((head + size - tail) % size, queue.len() % size);
            if head == tail {
                met[usize::from(queue.is_empty())] += 1;
            }
        }
        (ring, met)
    }

    #[test]
    fn a_hundred_thousand_random_lengths_are_as_in_a_queue() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let steps = (0..100_000).map(|_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random & 1 == 0, usize::try_from(random >> 1 & 0x7f).unwrap())
        });
        let (ring, [full, empty]) = compare(97, steps);
        let wraps = ring.state().wraps;
        assert!(wraps.iter().all(|wraps| *wraps > 10_000), "{wraps:?}");
        assert!(full > 1_000 && empty > 1_000, "{full} {empty}");
    }

    #[test]
    fn three_times_the_size_in_pieces_goes_round_three_times() {
        let mut ring = Ring::new(64, 0_u8);
        for piece in (0..192_u8).collect::<Vec<_>>().chunks(10) {
            assert_eq!(ring.put(piece), piece.len());
            let mut out = Vec::new();
            ring.take(usize::MAX, &mut out);
            assert_eq!(out, piece);
        }
        assert_eq!(ring.state(), RingState { size: 64, head: 0, tail: 0, wraps: [3, 3] });
    }

    #[test]
    fn what_is_forgotten_makes_room_and_the_pointers_meet() {
        let mut ring = Ring::new(4, 0_u8);
        assert_eq!(ring.put(b"abcdef"), 4);
        ring.clear();
        assert_eq!((ring.room(), ring.pop()), (4, None));
        assert_eq!(ring.state(), RingState { size: 4, head: 0, tail: 0, wraps: [1, 1] });
    }

    proptest! {
        #[test]
        fn rings_of_every_size_are_as_queues(
            size in 1..40_usize,
            steps in prop::collection::vec((any::<bool>(), 0..60_usize), 0..200),
        ) {
            compare(size, steps.into_iter());
        }
    }
}
