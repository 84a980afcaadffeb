//! What can go wrong, in the device's words, and the sense data that says it exactly.

use super::Sector;

/// What went wrong. Only `src/error.rs` turns it into an errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoError {
    /// A bad sector: this block fails, its neighbours do not. EIO.
    Media(Sector),
    /// The unit itself is broken; it stays so until repaired. EIO.
    Hardware,
    /// Failed, but may succeed when tried again. EIO once the retries are used up.
    Transient,
    /// Past the end of the unit. ENOSPC for writes, end of file for reads.
    Range,
    /// Alignment or argument refused. EINVAL.
    Invalid,
    /// The medium is read-only. EROFS.
    WriteProtected,
    /// No unit, no paper, no tape. ENXIO.
    NotReady,
    /// Held by another opener. EBUSY.
    Busy,
    /// Would wait without bound; parked above. EAGAIN.
    WouldBlock,
    /// Hardware silent, or a request was dropped. EIO.
    Timeout,
    /// No room where the medium is kept. ENOSPC.
    NoSpace,
    /// The record on the tape is longer than the buffer. ENOMEM.
    RecordTooLong,
    /// No such operation. ENOTTY for an ioctl, EOPNOTSUPP else.
    Unsupported,
}

/// Sense data, in SCSI's published codes (SPC-4, tables of sense keys and of additional codes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sense {
    /// The general nature: 2 not ready, 3 medium error, 4 hardware error, 5 illegal request, ...
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
    /// The information field: the first sector that failed.
    pub info: Option<u64>,
}

impl std::fmt::Display for Sense {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}/{:02x}/{:02x}", self.key, self.asc, self.ascq)
    }
}

/// An error and its sense: the fate of a request that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The general nature, from which the errno comes.
    pub error: IoError,
    /// The exact story.
    pub sense: Sense,
}

impl From<IoError> for Failure {
    fn from(error: IoError) -> Failure {
        Failure { error, sense: error.sense() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (sense {})", self.error, self.sense)
    }
}

impl std::error::Error for Failure {}

impl IoError {
    /// The sense data that says just this much, where the device said no more.
    #[must_use]
    pub fn sense(self) -> Sense {
        let (key, asc, ascq) = match self {
            IoError::Media(_) => (3, 0x11, 0x00), // unrecovered read error
            IoError::Hardware => (4, 0x44, 0x00), // internal target failure
            IoError::Transient => (0xb, 0x47, 0x00), // aborted: parity error
            IoError::Range => (5, 0x21, 0x00),    // address out of range
            IoError::Invalid => (5, 0x24, 0x00),  // invalid field in command
            IoError::WriteProtected => (7, 0x27, 0x00), // write protected
            IoError::NotReady => (2, 0x04, 0x00), // not ready, cause not reportable
            // A tape tells of the length by a flag beside the key.
            IoError::Busy | IoError::WouldBlock | IoError::RecordTooLong => (0, 0, 0),
            IoError::Timeout => (0xb, 0x08, 0x01), // communication time-out
            IoError::NoSpace => (7, 0x27, 0x07),   // space allocation failed
            IoError::Unsupported => (5, 0x20, 0x00), // invalid command
        };
        let info = if let IoError::Media(sector) = self { Some(sector.0) } else { None };
        Sense { key, asc, ascq, info }
    }
}

impl std::fmt::Display for IoError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = match self {
            IoError::Media(sector) => return write!(f, "medium error at sector {}", sector.0),
            IoError::Hardware => "hardware error",
            IoError::Transient => "transient error",
            IoError::Range => "past the end of the unit",
            IoError::Invalid => "invalid alignment or argument",
            IoError::WriteProtected => "write protected",
            IoError::NotReady => "not ready",
            IoError::Busy => "held by another",
            IoError::WouldBlock => "would wait",
            IoError::Timeout => "no answer from the hardware",
            IoError::NoSpace => "no space on the host for the medium",
            IoError::RecordTooLong => "the record is longer than the buffer",
            IoError::Unsupported => "no such operation",
        };
        f.write_str(words)
    }
}

impl std::error::Error for IoError {}
