//! The answers to writes and to long reads, straight to the host, past fuser.
//!
//! fuser answers with two pieces of memory, a head and one run of bytes, and the host looks up each
//! piece by itself. So these answers are written here, to a descriptor of the same session: the
//! head that the FUSE protocol has for every answer (`fuse_out_header`: length, error, number of
//! the request; in the machine's own order of bytes), and what follows it.
//!
//! - To a write, 24 bytes in one piece and one write(2).
//! - To a long read, one writev(2) of many runs from where the bytes lie; to gather them first
//!   would be a third of all that a read of 1 MiB costs us.
//!
//! 1. The request is answered once. When our answer was taken, fuser's reply must not be dropped,
//!    which would answer EIO; it is forgotten, and with it one count of the session's descriptor,
//!    which stays open until the process ends in any case ([`super::session`]).
//! 2. When nobody has asked (the caller was killed), it is forgotten too. When our answer was not
//!    taken for another reason, fuser's reply answers.
//! 3. The host has copied all bytes when the call returns; what was lent can go back then.

use crate::lent::Lent;
use crate::sync::Arc;
use fuser::{ReplyData, ReplyWrite};
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// The length of a `fuse_out_header`.
const HEAD_BYTES: usize = 16;
/// The length of a `fuse_write_out`: how many bytes, and four of nothing.
const WRITTEN_BYTES: usize = 8;
/// Most runs of one answer: `IOV_MAX`, less the head.
pub(super) const RUNS_MAX: usize = 1023;

/// The way to the host past fuser; closed until the session has begun.
#[derive(Clone, Default)]
pub(super) struct Wire(Arc<OnceLock<OwnedFd>>);

impl Wire {
    /// Opens it, with a descriptor of the session.
    pub(super) fn open(&self, session: OwnedFd) {
        // There is one session; a second call would bring the same.
        let _ = self.0.set(session);
    }

    /// Whether answers can go this way.
    pub(super) fn is_open(&self) -> bool {
        self.0.get().is_some()
    }

    /// Answers request `id`, a read whose reply this is, with bytes that are lent.
    pub(super) fn lent(&self, id: u64, runs: &[Lent], reply: ReplyData) {
        settle(id, self.send_runs(id, runs), reply, |reply| reply.error(fuser::Errno::EIO));
    }

    /// Answers request `id`, a write whose reply this is, with how many bytes were taken.
    pub(super) fn written(&self, id: u64, bytes: u32, reply: ReplyWrite) {
        let sent = written(id, bytes).and_then(|answer| self.send(&answer));
        settle(id, sent, reply, |reply| reply.written(bytes));
    }

    fn session(&self) -> nix::Result<&OwnedFd> {
        self.0.get().ok_or(nix::Error::EBADF)
    }

    /// The device takes an answer whole or not at all.
    fn send(&self, answer: &[u8]) -> nix::Result<()> {
        nix::unistd::write(self.session()?, answer).map(drop)
    }

    fn send_runs(&self, id: u64, runs: &[Lent]) -> nix::Result<()> {
        let session = self.session()?;
        let head = head(id, runs.iter().map(|run| run.bytes().len()).sum())?;
        let mut slices = Vec::with_capacity(runs.len() + 1);
        slices.push(IoSlice::new(&head));
        slices.extend(runs.iter().map(|run| IoSlice::new(run.bytes())));
        nix::sys::uio::writev(session, &slices).map(drop)
    }
}

/// Has fuser's reply forgotten, or answer `otherwise`.
fn settle<R>(id: u64, sent: nix::Result<()>, reply: R, otherwise: impl FnOnce(R)) {
    match sent {
        Ok(()) => std::mem::forget(reply),
        Err(nix::Error::ENOENT) => {
            log::debug!(target: "fuse", "{id}: whoever asked has gone");
            std::mem::forget(reply);
        }
        Err(refusal) => {
            log::debug!(target: "fuse", "{id}: its answer was not taken: {refusal}");
            otherwise(reply);
        }
    }
}

fn head(id: u64, data_bytes: usize) -> nix::Result<[u8; HEAD_BYTES]> {
    let whole = u32::try_from(HEAD_BYTES + data_bytes).map_err(|_| nix::Error::EINVAL)?;
    let mut head = [0; HEAD_BYTES]; // no error: bytes 4 to 7
    head[..4].copy_from_slice(&whole.to_ne_bytes());
    head[8..].copy_from_slice(&id.to_ne_bytes());
    Ok(head)
}

fn written(id: u64, bytes: u32) -> nix::Result<[u8; HEAD_BYTES + WRITTEN_BYTES]> {
    let mut whole = [0; HEAD_BYTES + WRITTEN_BYTES];
    whole[..HEAD_BYTES].copy_from_slice(&head(id, WRITTEN_BYTES)?);
    whole[HEAD_BYTES..HEAD_BYTES + 4].copy_from_slice(&bytes.to_ne_bytes());
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lent::Memory;
    use std::io::Read;

    #[test]
    fn an_answer_is_its_head_and_the_runs_in_order() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let wire = Wire::default();
        assert!(!wire.is_open());
        wire.open(writer.into());
        let mut memory = Memory::from(b"abcdefgh".to_vec());
        wire.send_runs(0x1122, &[memory.lend(4, 8), memory.lend(0, 2)]).unwrap();
        drop(wire);
        let mut sent = Vec::new();
        reader.read_to_end(&mut sent).unwrap();
        assert_eq!(sent[..4], 22_u32.to_ne_bytes());
        assert_eq!(sent[4..8], [0; 4]);
        assert_eq!(sent[8..16], 0x1122_u64.to_ne_bytes());
        assert_eq!(&sent[16..], b"efghab");
    }

    #[test]
    fn a_write_is_answered_in_one_piece_with_what_was_taken() {
        let whole = written(0x1122, 0x1234).unwrap();
        assert_eq!(whole[..HEAD_BYTES], head(0x1122, 8).unwrap());
        assert_eq!(whole[..4], 24_u32.to_ne_bytes());
        assert_eq!(whole[16..20], 0x1234_u32.to_ne_bytes());
        assert_eq!(whole[20..], [0; 4]);
    }

    #[test]
    fn nothing_is_sent_before_the_session_or_beyond_the_protocol() {
        assert_eq!(Wire::default().send_runs(1, &[]), Err(nix::Error::EBADF));
        assert_eq!(Wire::default().send(&[]), Err(nix::Error::EBADF));
        assert_eq!(head(1, usize::try_from(u32::MAX).unwrap()), Err(nix::Error::EINVAL));
    }
}
