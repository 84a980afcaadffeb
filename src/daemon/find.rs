//! Which machine a command means: `--at`, else `$SPINDLE_AT`, else the only one of this user.

use super::host::{self, HostMount};
use crate::error::{Errno, Error};
use crate::fuse::session::KIND;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variable that names the machine meant when `--at` does not.
pub const AT_VARIABLE: &str = "SPINDLE_AT";

/// The mount point of the machine meant.
///
/// # Errors
/// That there is none, or several, or that nothing of ours is mounted where it should be.
pub fn find(at: Option<&Path>) -> Result<PathBuf, Error> {
    let table = host::mounts();
    let table = table.map_err(|e| Error::new(Errno::EIO, format!("{}: {e}", host::MOUNTINFO)))?;
    let machines: Vec<HostMount> = table.into_iter().filter(|mount| mount.kind == KIND).collect();
    match named(at, std::env::var_os(AT_VARIABLE)) {
        None => only(machines.iter().filter(|mount| mount.is_ours()).map(|mount| &*mount.path)),
        Some(named) => {
            let path = host::canonical(&named)?;
            if machines.iter().any(|mount| mount.path == path) {
                return Ok(path);
            }
            let words = format!("{}: no machine is mounted here", named.display());
            Err(Error::new(Errno::ENOENT, words))
        }
    }
}

fn named(at: Option<&Path>, variable: Option<OsString>) -> Option<PathBuf> {
    let variable = variable.filter(|value| !value.is_empty());
    at.map(Path::to_owned).or_else(|| variable.map(PathBuf::from))
}

fn only<'a>(mut mine: impl Iterator<Item = &'a Path>) -> Result<PathBuf, Error> {
    let Some(first) = mine.next() else {
        let words = "no machine: you have mounted none; `spindle mount MOUNTPOINT` does";
        return Err(Error::new(Errno::ENOENT, words));
    };
    let rest: Vec<String> = mine.map(|path| path.display().to_string()).collect();
    if rest.is_empty() {
        return Ok(first.to_owned());
    }
    let all = format!("{}, {}", first.display(), rest.join(", "));
    let words = format!("which machine: you have mounted {all}; say which with --at");
    Err(Error::new(Errno::EINVAL, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_machine_is_found_and_none_or_several_are_told() {
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        assert_eq!(only([a].into_iter()).unwrap(), a);
        assert!(only([].into_iter()).unwrap_err().what.starts_with("no machine: "));
        let several = only([a, b].into_iter()).unwrap_err().what;
        assert!(several.contains("/a, /b") && several.contains("--at"), "{several}");
    }

    #[test]
    fn the_option_goes_before_the_variable_and_an_empty_variable_is_none() {
        let (at, variable) = (Path::new("/a"), OsString::from("/b"));
        assert_eq!(named(Some(at), Some(variable.clone())), Some("/a".into()));
        assert_eq!(named(None, Some(variable)), Some("/b".into()));
        assert_eq!(named(None, Some(OsString::new())), None);
    }

    #[test]
    fn a_directory_without_a_machine_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let words = find(Some(dir.path())).unwrap_err().what;
        assert!(words.ends_with(": no machine is mounted here"), "{words}");
    }
}
