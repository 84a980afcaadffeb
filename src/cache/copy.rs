//! Copying what is not read again soon, past the processor's caches.
//!
//! An ordinary copy fetches from memory the place that it then overwrites, and drives out of the
//! caches what somebody needs there. In a long write that is half of what the copy costs (measured:
//! 90 us a MiB against 40), and what it wrote is gone from the caches before anybody reads it. A
//! short write copies as usual: who wrote one block may well read it.

#![allow(unsafe_code)] // streaming stores have no safe form; each block says why it is sound

/// A write of so many bytes goes past the caches.
pub(super) const LONG_BYTES: usize = 128 << 10;

/// Copies between two slices of one length.
pub(super) type Copy = fn(&mut [u8], &[u8]);

/// How a write of so many bytes copies them.
pub(super) fn for_write(bytes: usize) -> Copy {
    if bytes < LONG_BYTES { <[u8]>::copy_from_slice } else { past_caches }
}

#[cfg(target_arch = "x86_64")]
fn past_caches(to: &mut [u8], from: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    const LANE: usize = size_of::<__m128i>();
    if !to.as_ptr().cast::<__m128i>().is_aligned() || to.len() != from.len() {
        return to.copy_from_slice(from);
    }
    let ((to, to_rest), (from, from_rest)) = (to.as_chunks_mut::<LANE>(), from.as_chunks::<LANE>());
    for (to, from) in to.iter_mut().zip(from) {
        // SAFETY: both are one lane long, borrowed, and `to` is aligned as the first lane is; every
        // x86_64 has SSE2.
        unsafe {
            _mm_stream_si128(to.as_mut_ptr().cast(), _mm_loadu_si128(from.as_ptr().cast()));
        }
    }
    // SAFETY: as above. Such stores may be seen late; after this they are not.
    unsafe { _mm_sfence() };
    to_rest.copy_from_slice(from_rest);
}

#[cfg(not(target_arch = "x86_64"))]
fn past_caches(to: &mut [u8], from: &[u8]) {
    to.copy_from_slice(from);
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
