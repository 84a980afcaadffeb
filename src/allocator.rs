//! The daemon's memory: who hands it out, and how. The microbenchmarks have the same.

/// Blocks of the cache lie on whole pages, and these in large ones, where the host's kernel copies
/// them for half the price.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How: large pages of the host's where it has them, one arena (two threads do nearly all of the
/// work), and what is free is given back within 50 ms: kept for a second it stood above the
/// bound of our memory, and no write was faster. What is larger than a block no thread keeps for
/// itself, which was 4 MiB more. The allocator looks for this name.
#[allow(unsafe_code)] // exporting a name could take another's place; this one is there to be taken
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static CONF: &[u8; 94] =
    b"thp:always,cache_oblivious:false,narenas:1,dirty_decay_ms:50,muzzy_decay_ms:0,\
    tcache_max:4096\0";
