//! Commands for a running machine. They reach it only through the files under its mount point.
//!
//! Every function answers what is to be printed, or why not: `what: why`, without `spindle: `.

mod table;

use crate::words;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

pub use table::Style;

/// Most that is read of an answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// The device-status table of the machine at `point`.
///
/// # Errors
/// That it cannot be read.
pub fn status(point: &Path, style: Style) -> Result<String, String> {
    let path = point.join("proc/status");
    let told = |error: std::io::Error| format!("{}: {}", path.display(), words::of_host(&error));
    let mut text = String::new();
    let file = File::open(&path).map_err(told)?;
    file.take(ANSWER_BYTES_MAX).read_to_string(&mut text).map_err(told)?;
    Ok(table::show(&text, style))
}

/// Lines of the device-status table, shown.
#[must_use]
pub fn status_of(lines: &str, style: Style) -> String {
    table::show(lines, style)
}

/// Gives the machine at `point` one command; what it answers, with its line end.
///
/// # Errors
/// The machine's words of refusal; where it has none, the host's.
pub fn ctl(point: &Path, command: &str) -> Result<String, String> {
    let path = point.join("ctl");
    if command.contains('\n') {
        return Err("ctl: a command is one line".into());
    }
    let told = |error: &std::io::Error| format!("{}: {}", path.display(), words::of_host(error));
    let opened = OpenOptions::new().read(true).write(true).open(&path);
    let mut file = opened.map_err(|error| told(&error))?;
    // One write(2): the machine takes each for a command.
    let written = file.write(format!("{command}\n").as_bytes());
    let mut answer = Vec::new();
    let read = file.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    match (written, read) {
        (Ok(_), Ok(_)) => Ok(answer),
        (Ok(_), Err(error)) => Err(told(&error)),
        (Err(_), _) if !answer.trim().is_empty() => Err(format!("ctl: {}", answer.trim_end())),
        (Err(error), _) if is_gone(&error) => Err(format!("ctl: {}", gone(point))),
        (Err(error), _) => Err(told(&error)),
    }
}

/// That nobody is there any more who could answer, in words.
#[must_use]
pub fn gone(point: &Path) -> String {
    format!("{}: the machine was unmounted before it answered", point.display())
}

/// Whether nobody is there who could answer: what the machine refuses, it refuses in words.
#[must_use]
pub fn is_gone(error: &std::io::Error) -> bool {
    use nix::errno::Errno;
    let gone = [Errno::EIO, Errno::ENODEV, Errno::ENOTCONN, Errno::ECONNABORTED];
    error.raw_os_error().is_some_and(|number| gone.contains(&Errno::from_raw(number)))
}

/// How `path` becomes a device on the machine at `point`: as far as there is a way, also of a file
/// that is not there ([`is_missing`]).
///
/// # Errors
/// As [`ctl`].
pub fn resolve(point: &Path, path: &Path) -> Result<String, String> {
    let inside = inside(point, path);
    let inside = inside.to_str().ok_or_else(|| format!("{}: not UTF-8", path.display()))?;
    ctl(point, &format!("resolve {}", quoted(inside)))
}

/// Whether the stages that [`resolve`] answers lead to no file.
#[must_use]
pub fn is_missing(stages: &str) -> bool {
    stages.lines().any(|line| line.starts_with("inode=none"))
}

/// `path` as the machine knows it: without the mount point, from wherever it is seen.
pub fn inside(point: &Path, path: &Path) -> PathBuf {
    let seen = path.parent().and_then(|parent| {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        Some(parent.canonicalize().ok()?.join(path.file_name()?))
    });
    let absolute = std::path::absolute(path).ok();
    for outside in [absolute, seen].into_iter().flatten() {
        if let Ok(rest) = outside.strip_prefix(point) {
            return Path::new("/").join(rest);
        }
    }
    path.to_owned()
}

/// A word of a command: as it is, or in quotes where blanks would take it apart.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:,@%=~".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_with_or_without_the_mount_point() {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().canonicalize().unwrap();
        std::fs::create_dir(point.join("dev")).unwrap();
        std::os::unix::fs::symlink(&point, point.join("loop")).unwrap();
        let table = [
            (point.join("dev/sd0"), "/dev/sd0"),
            (point.clone(), "/"),
            (point.join("loop/dev/sd0"), "/loop/dev/sd0"),
            ("/dev/sd0".into(), "/dev/sd0"),
            ("dev/sd0".into(), "dev/sd0"),
            ("C:\\F.TXT".into(), "C:\\F.TXT"),
        ];
        for (path, seen) in table {
            assert_eq!(inside(&point, &path), Path::new(seen), "{}", path.display());
        }
        let link = point.with_extension("link");
        std::os::unix::fs::symlink(&point, &link).unwrap();
        assert_eq!(inside(&point, &link.join("dev/sd0")), Path::new("/dev/sd0"));
        std::fs::remove_file(link).unwrap();
    }

    #[test]
    fn words_with_blanks_are_quoted() {
        assert_eq!(quoted("/dev/sd0p1"), "/dev/sd0p1");
        assert_eq!(quoted("/a b"), "'/a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_command_of_two_lines_is_refused() {
        assert_eq!(ctl(Path::new("/"), "a\nb").unwrap_err(), "ctl: a command is one line");
    }

    #[test]
    fn a_mount_point_without_its_files_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let words = status(dir.path(), Style::Plain).unwrap_err();
        assert!(words.ends_with("proc/status: No such file or directory"), "{words}");
    }
}
