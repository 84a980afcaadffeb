//! The host's error numbers, and the one table from a device's words to them.

use devices::{Failure, IoError};

/// Flags of open(2) that change how a transfer is made; they may change while a file is open.
pub mod flags {
    /// Past every cache.
    pub const O_DIRECT: i32 = libc::O_DIRECT;
    /// Durable on return (also set in `O_SYNC`).
    pub const O_DSYNC: i32 = libc::O_DSYNC;
    /// `EAGAIN` instead of waiting.
    pub const O_NONBLOCK: i32 = libc::O_NONBLOCK;
    /// Which way: reading is 0.
    pub const O_ACCMODE: i32 = libc::O_ACCMODE;
    /// Reading only.
    pub const O_RDONLY: i32 = libc::O_RDONLY;
    /// Writing only.
    pub const O_WRONLY: i32 = libc::O_WRONLY;
}

/// An error number of the host.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident)*) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "` of errno(3).")]
                pub const $name: Errno = Errno(libc::$name);
            )*

            /// Its name: `EIO`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Errno::$name => stringify!($name),)*
                    _ => "unknown errno",
                }
            }
        }
    };
}

errnos! {
    E2BIG EACCES EAGAIN EBADF EBUSY EDEADLK EEXIST EFAULT EFBIG EINTR EINVAL EIO EISDIR ELOOP
    EMLINK ENAMETOOLONG ENFILE ENODATA ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENOTEMPTY ENOTTY ENXIO
    EOPNOTSUPP EOVERFLOW EPERM EPIPE ERANGE EROFS ESPIPE ESTALE ETIMEDOUT EXDEV
}

impl std::fmt::Debug for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

/// An error of a call: the number for the host, the story for the log and for `ctl`.
#[derive(Debug)]
pub struct Error {
    /// What the system call returns.
    pub errno: Errno,
    /// What happened, to whom, and the way out; empty where the number says it all.
    pub what: String,
}

impl Error {
    /// An error with its story.
    pub fn new(errno: Errno, what: impl Into<String>) -> Error {
        Error { errno, what: what.into() }
    }

    /// An error whose number says it all.
    #[must_use]
    pub fn plain(errno: Errno) -> Error {
        Error { errno, what: String::new() }
    }

    /// A device's failure, told of the named device.
    #[must_use]
    pub fn device(name: &str, failure: Failure) -> Error {
        Error::new(failure.error.into(), format!("{name}: {failure}"))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.what.is_empty() { f.write_str(self.errno.name()) } else { f.write_str(&self.what) }
    }
}

impl std::error::Error for Error {}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::plain(errno)
    }
}

impl From<IoError> for Errno {
    fn from(error: IoError) -> Errno {
        match error {
            IoError::Media(_) | IoError::Hardware | IoError::Transient | IoError::Timeout => {
                Errno::EIO
            }
            IoError::Range | IoError::NoSpace => Errno::ENOSPC,
            IoError::Invalid => Errno::EINVAL,
            IoError::WriteProtected => Errno::EROFS,
            IoError::NotReady => Errno::ENXIO,
            IoError::Busy => Errno::EBUSY,
            IoError::WouldBlock => Errno::EAGAIN,
            IoError::RecordTooLong => Errno::ENOMEM,
            IoError::Unsupported => Errno::ENOTTY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_becomes_the_errno_a_unix_programmer_expects() {
        let table = [
            (IoError::Media(devices::Sector(1)), Errno::EIO),
            (IoError::Range, Errno::ENOSPC),
            (IoError::Invalid, Errno::EINVAL),
            (IoError::WriteProtected, Errno::EROFS),
            (IoError::NotReady, Errno::ENXIO),
            (IoError::RecordTooLong, Errno::ENOMEM),
            (IoError::Unsupported, Errno::ENOTTY),
        ];
        for (error, errno) in table {
            assert_eq!(Errno::from(error), errno);
        }
    }

    #[test]
    fn an_error_names_the_device_and_the_sense() {
        let error = Error::device("sd0", IoError::Media(devices::Sector(9)).into());
        assert_eq!(error.to_string(), "sd0: medium error at sector 9 (sense 3/11/00)");
    }
}
