//! Opening files of the host by names that are always looked for, whoever may have put something
//! else there: a pipe, whose open would wait for its other end; a directory; a device.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a plain file. Never waits for another process.
///
/// # Errors
/// The host's, `IsADirectory` too; `InvalidInput` in words for anything else that is no plain file,
/// which is not touched.
pub fn open(path: &Path, how: &OpenOptions) -> Result<File> {
    // Looked at first, for opening some things does something to them; and again when it is open,
    // for the name may lead elsewhere by then.
    match std::fs::metadata(path) {
        Ok(found) => check(&found)?,
        Err(why) if why.kind() == ErrorKind::NotFound => {}
        Err(why) => return Err(why),
    }
    let mut how = how.clone();
    let file = how.custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// The first `bytes_max` bytes of a plain file.
///
/// # Errors
/// Those of [`open`], and those of reading.
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path, File::options().read(true))?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text in the first `bytes_max` bytes of a plain file.
///
/// # Errors
/// Those of [`read`]; `InvalidData` for what is no UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String> {
    String::from_utf8(read(path, bytes_max)?)
        .map_err(|why| Error::new(ErrorKind::InvalidData, why.utf8_error().to_string()))
}

/// Makes a plain file of these bytes, in the place of what was in it.
///
/// # Errors
/// Those of [`open`], and those of writing.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    open(path, File::options().write(true).create(true).truncate(true))?.write_all(bytes)
}

fn check(found: &Metadata) -> Result<()> {
    if found.is_file() {
        return Ok(());
    }
    if found.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    let what = format!("is {}, no plain file: remove it, or move it away", kind(found.file_type()));
    Err(Error::new(ErrorKind::InvalidInput, what))
}

fn kind(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn what_is_no_plain_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("pipe", at("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        assert_eq!(read(&at("dir"), 9).unwrap_err().kind(), ErrorKind::IsADirectory);
        let table =
            [("pipe", "a pipe"), ("link", "a pipe"), ("socket", "a socket"), ("zero", "a device")];
        for (name, what) in table {
            let (tell, told) = channel();
            let path = at(name);
            std::thread::spawn(move || {
                let _ = tell.send([
                    read(&path, 9).map(|_| ()),
                    write(&path, b"x"),
                    open(&path, File::options().append(true).create(true)).map(|_| ()),
                ]);
            });
            let all = told.recv_timeout(Duration::from_secs(20)).expect("an answer, not a wait");
            for refusal in all {
                let words = refusal.unwrap_err().to_string();
                let wanted = format!("is {what}, no plain file: remove it, or move it away");
                assert_eq!(words, wanted, "{name}");
            }
        }
    }

    #[test]
    fn plain_files_are_read_and_written_and_links_to_them_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("a"), dir.path().join("b"));
        assert_eq!(read(&file, 9).unwrap_err().kind(), ErrorKind::NotFound);
        std::os::unix::fs::symlink("a", &link).unwrap();
        write(&link, b"text and more").unwrap();
        write(&file, b"text").unwrap();
        assert_eq!(read_text(&link, 9).unwrap(), "text");
        assert_eq!(read(&file, 2).unwrap(), b"te");
        write(&file, b"\xff").unwrap();
        assert_eq!(read_text(&file, 9).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
