//! Memory of a file of the host, of which a page may be gone when it is touched: whoever touches
//! it finds out afterwards, and the daemon goes on.
//!
//! Where the host cannot give a mapped page (somebody has cut the file, its file system is full or
//! broken), it sends SIGBUS to the thread that touches it. Here that puts memory of nobody's in the
//! place of the page and what follows, and notes that the mapping is lost. What was put there is
//! gone: it must be written again in another way. A SIGBUS elsewhere does what it did before.

#![allow(unsafe_code)] // a handler of a signal has no safe form; each block says why it is sound

use nix::libc::{self, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many mappings can be watched at once: one for each tape.
const WATCHES: usize = 128;
/// How much is replaced at a time, in bytes: more than is ever touched before the next look.
const REPLACED_BYTES: usize = 64 << 20;
/// Addresses are cut to this: a multiple of every host's page, in bytes.
const PAGE_BYTES: usize = 64 << 10;

struct Watch {
    is_taken: AtomicBool,
    first: AtomicUsize,
    /// Byte behind the last; 0: nothing is watched.
    end: AtomicUsize,
    is_lost: AtomicBool,
}

static ALL: [Watch; WATCHES] = [const {
    Watch {
        is_taken: AtomicBool::new(false),
        first: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        is_lost: AtomicBool::new(false),
    }
}; WATCHES];

/// What SIGBUS did before; `None`: it could not be asked.
static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();

/// A mapping that is watched for as long as this is held. To be dropped before it is unmapped.
pub(super) struct Watched(&'static Watch);

impl Watched {
    /// Watches `bytes` bytes from address `first`, both multiples of 64 KiB. `None`: too many are
    /// watched already, or the host lets nobody listen to the signal.
    pub(super) fn over(first: usize, bytes: usize) -> Option<Watched> {
        BEFORE.get_or_init(listen).as_ref()?;
        let watch = ALL.iter().find(|watch| !watch.is_taken.swap(true, Ordering::Acquire))?;
        watch.is_lost.store(false, Ordering::Relaxed);
        watch.first.store(first, Ordering::Relaxed);
        watch.end.store(first + bytes, Ordering::Release);
        Some(Watched(watch))
    }

    /// Whether anything was put into the place of the file's.
    pub(super) fn is_lost(&self) -> bool {
        self.0.is_lost.load(Ordering::Acquire)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.end.store(0, Ordering::Release);
        self.0.is_taken.store(false, Ordering::Release);
    }
}

fn listen() -> Option<libc::sigaction> {
    // SAFETY: a structure of numbers, for which 0 is a value.
    let (mut ours, mut before): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_bus_error;
    ours.sa_sigaction = handler as *const () as usize;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both outlive the call, and the handler is of the kind that SA_SIGINFO announces.
    let done = unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, &raw mut before) };
    (done == 0).then_some(before)
}

/// Does only what a handler may: no lock, no memory, two system calls.
extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the host gives the handler of a signal what is known of it.
    let (code, at) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    if code > 0 && replace(at) {
        return;
    }
    if let Some(Some(before)) = BEFORE.get() {
        // SAFETY: it is what the host has told, and it lives for ever. A fault is met again on
        // return, and then ends as it did before; what somebody has sent must be sent again.
        unsafe {
            libc::sigaction(libc::SIGBUS, before, ptr::null_mut());
            if code <= 0 {
                libc::raise(signal);
            }
        }
    }
}

/// Puts memory of nobody's at and behind a watched address; `false`: it is none.
fn replace(at: usize) -> bool {
    for watch in &ALL {
        let end = watch.end.load(Ordering::Acquire);
        if !(watch.first.load(Ordering::Relaxed)..end).contains(&at) {
            continue;
        }
        let from = at - at % PAGE_BYTES;
        let bytes = REPLACED_BYTES.min(end - from);
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let place = ptr::with_exposed_provenance_mut(from);
        // SAFETY: the range lies in a mapping that its owner has handed over to be replaced.
        let put = unsafe { libc::mmap(place, bytes, prot, flags, -1, 0) };
        watch.is_lost.store(true, Ordering::Release);
        return put != libc::MAP_FAILED;
    }
    false
}
