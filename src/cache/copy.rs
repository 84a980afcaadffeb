//! How a write's bytes get into the cache: a long one's past the processor's caches, a short one's
//! as usual, since who wrote one block may well read it.

use devices::copy::past_caches;

/// A write of so many bytes goes past the caches.
pub(super) const LONG_BYTES: usize = 128 << 10;

/// Copies between two slices of one length.
pub(super) type Copy = fn(&mut [u8], &[u8]);

/// How a write of so many bytes copies them.
pub(super) fn for_write(bytes: usize) -> Copy {
    if bytes < LONG_BYTES { <[u8]>::copy_from_slice } else { past_caches }
}
