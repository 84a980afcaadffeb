//! Commands for a running machine. They reach it only through the files under its mount point.
//!
//! Every function answers what is to be printed, or why not: `what: why`, without `spindle: `.

mod mounts;
mod table;

use crate::words;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

pub use mounts::{Mounted, mounted};
pub use table::Style;

/// The variable that names the machine meant when `--at` does not.
pub const AT_VARIABLE: &str = "SPINDLE_AT";

/// Most that is read of an answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// The mount point of the machine meant: `--at`, else `$SPINDLE_AT`, else the only one of this
/// user.
///
/// # Errors
/// That there is none, or several, or that nothing is mounted where it should be.
pub fn find(at: Option<&Path>) -> Result<PathBuf, String> {
    let from_environment = std::env::var_os(AT_VARIABLE).filter(|value| !value.is_empty());
    let named = at.map(Path::to_owned).or_else(|| from_environment.map(PathBuf::from));
    let all = mounted()?;
    let Some(named) = named else {
        return only(all.iter().filter(|one| one.is_mine));
    };
    let told = |error: std::io::Error| format!("{}: {}", named.display(), words::of_host(&error));
    let point = match named.canonicalize() {
        // A machine whose daemon has died cannot be looked at, but it is in the table.
        Err(error) => std::path::absolute(&named).map_err(|_| told(error))?,
        Ok(point) => point,
    };
    if all.iter().any(|one| one.point == point) {
        return Ok(point);
    }
    named.metadata().map_err(told)?;
    Err(format!("{}: no machine is mounted here", named.display()))
}

fn only<'a>(mut mine: impl Iterator<Item = &'a Mounted>) -> Result<PathBuf, String> {
    let Some(first) = mine.next() else {
        return Err("no machine: you have mounted none; `spindle mount MOUNTPOINT` does".into());
    };
    let rest = mine.map(|one| one.point.display().to_string()).collect::<Vec<_>>();
    if rest.is_empty() {
        return Ok(first.point.clone());
    }
    let all = format!("{}, {}", first.point.display(), rest.join(", "));
    Err(format!("which machine: you have mounted {all}; say which with --at"))
}

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
        (Err(error), _) => Err(told(&error)),
    }
}

/// How `path` becomes a device on the machine at `point`.
///
/// # Errors
/// As [`ctl`].
pub fn resolve(point: &Path, path: &Path) -> Result<String, String> {
    let inside = inside(point, path);
    let inside = inside.to_str().ok_or_else(|| format!("{}: not UTF-8", path.display()))?;
    ctl(point, &format!("resolve {}", quoted(inside)))
}

/// `path` as the machine knows it: without the mount point, from wherever it is seen.
fn inside(point: &Path, path: &Path) -> PathBuf {
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

    fn machine(point: &str, is_mine: bool) -> Mounted {
        Mounted { point: point.into(), is_mine }
    }

    #[test]
    fn the_only_machine_is_found_and_none_or_several_are_told() {
        assert_eq!(only([machine("/a", true)].iter()).unwrap(), Path::new("/a"));
        assert!(only([].iter()).unwrap_err().starts_with("no machine: "));
        let several = only([machine("/a", true), machine("/b", true)].iter()).unwrap_err();
        assert!(several.contains("/a, /b") && several.contains("--at"), "{several}");
    }

    #[test]
    fn a_directory_without_a_machine_is_told_apart_from_none() {
        let dir = tempfile::tempdir().unwrap();
        let words = find(Some(dir.path())).unwrap_err();
        assert!(words.ends_with(": no machine is mounted here"), "{words}");
        let words = find(Some(&dir.path().join("x"))).unwrap_err();
        assert!(words.ends_with(": No such file or directory"), "{words}");
    }

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
