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
/// That there is none, or several, or that nothing of ours is mounted where it should be, or that
/// its daemon is gone.
pub fn find(at: Option<&Path>) -> Result<PathBuf, Error> {
    let path = look(at)?;
    match death(&path) {
        Some(words) => Err(Error::new(Errno::EIO, words)),
        None => Ok(path),
    }
}

/// What to say of a machine whose daemon is gone; `None` of any other.
#[must_use]
pub fn death(path: &Path) -> Option<String> {
    host::is_dead(path).then(|| {
        format!(
            "{at}: its daemon has died (killed, or crashed; the log in its state \
             directory may tell)\n\
             {at}: safe is what fsync, O_SYNC or umount answered for, and jobs whose close was \
             answered; what was only delayed is lost\n\
             {at}: the way out: `spindle umount {at}`, then `spindle mount {at}` again, with the \
             --state and --machine it had (without them another machine is mounted)",
            at = path.display()
        )
    })
}

fn look(at: Option<&Path>) -> Result<PathBuf, Error> {
    let table = host::mounts();
    let table = table.map_err(|e| Error::new(Errno::EIO, format!("{}: {e}", host::MOUNTINFO)))?;
    let machines: Vec<HostMount> = table.into_iter().filter(|mount| mount.kind == KIND).collect();
    match named(at, std::env::var_os(AT_VARIABLE)) {
        None => {
            let mine = machines.iter().filter(|mount| mount.is_ours());
            only(mine.map(|mount| (&*mount.path, host::is_dead(&mount.path))))
        }
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

/// The only one of these; of each, whether its daemon is gone.
fn only<'a>(mine: impl Iterator<Item = (&'a Path, bool)>) -> Result<PathBuf, Error> {
    let mine: Vec<(&Path, bool)> = mine.collect();
    let Some((first, _)) = mine.first() else {
        let words = "no machine: you have mounted none; `spindle mount MOUNTPOINT` does";
        return Err(Error::new(Errno::ENOENT, words));
    };
    if mine.len() == 1 {
        return Ok(first.to_path_buf());
    }
    let name = |(path, is_dead): &(&Path, bool)| match is_dead {
        true => format!("{} (dead)", path.display()),
        false => path.display().to_string(),
    };
    let all = mine.iter().map(name).collect::<Vec<_>>().join(", ");
    let words = format!("which machine: you have mounted {all}; say which with --at");
    Err(Error::new(Errno::EINVAL, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_machine_is_found_and_none_or_several_are_told() {
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        assert_eq!(only([(a, false)].into_iter()).unwrap(), a);
        assert!(only([].into_iter()).unwrap_err().what.starts_with("no machine: "));
        let several = only([(a, false), (b, true)].into_iter()).unwrap_err().what;
        assert!(several.contains("/a, /b (dead);") && several.contains("--at"), "{several}");
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
