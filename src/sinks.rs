//! Whether printing would go over what the machine keeps: a printer's file that is the image of a
//! disk or a tape, or is kept beside one, or is another printer's.
//!
//! Files that are there are told apart by device and inode, through links; others by their path.

use crate::config::Config;
use crate::error::{Errno, Error};
use devices::contract::host_file::PRINTER_SINK;
use devices::sink::Sink;
use devices::{Driver, conf};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Most links that lead to one file, as in the host.
const LINKS_MAX: usize = 40;

/// A file of the host, whether there yet or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    There(u64, u64),
    Missing(PathBuf),
}

/// A file that may not be printed on.
struct Kept {
    path: PathBuf,
    /// The image of "sd0".
    what: String,
}

/// Refuses a printer whose output would go into what another unit keeps. `state` is the state
/// directory, in which relative names are.
///
/// # Errors
/// `EINVAL` with a line for each: where it is described, what its file is, and the way out.
pub fn check(config: &Config, state: &Path) -> Result<(), Error> {
    let kept = kept(config, state);
    let by_identity: BTreeMap<Identity, &Kept> =
        kept.iter().filter_map(|kept| Some((identity(&kept.path)?, kept))).collect();
    let mut printers: BTreeMap<Identity, &str> = BTreeMap::new();
    let mut wrong = Vec::new();
    for unit in config.units.iter().filter(|unit| unit.driver == "lp" && !unit.flag("absent")) {
        let text = PRINTER_SINK.name(unit);
        let clash = match Sink::parse(&text, Some(state)) {
            Ok(Sink::File(path)) => identity(&path).and_then(|is| {
                let first = printers.get(&is).map(|first| format!("that of \"{first}\""));
                let what = by_identity.get(&is).map(|kept| kept.what.clone()).or(first);
                printers.entry(is).or_insert(&unit.name);
                what
            }),
            Ok(Sink::Files(dir, pattern)) => {
                let dir = identity(&dir);
                let found = kept.iter().find(|kept| is_hit(kept, dir.as_ref(), &pattern));
                found.map(|kept| format!("for some job {}", kept.what))
            }
            _ => None,
        };
        if let Some(what) = clash {
            let (place, name) = (config.place_of(&unit.name, PRINTER_SINK.key), &unit.name);
            wrong.push(format!(
                "{place}: \"sink\" of {name}: file \"{text}\" is {what} already; \
                 name another"
            ));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Error::new(Errno::EINVAL, wrong.join("\n"))) }
}

/// What the units with images keep.
fn kept(config: &Config, state: &Path) -> Vec<Kept> {
    let mut all = Vec::new();
    for unit in &config.units {
        let Some(file) = conf::driver(&unit.driver).and_then(Driver::image) else { continue };
        let Some(image) = file.path(unit, Some(state)) else { continue };
        let beside = file.beside.iter().map(|beside| (beside.path(&image), beside.what));
        let kept = [(image.clone(), "image")].into_iter().chain(beside);
        all.extend(
            kept.map(|(path, what)| Kept {
                path,
                what: format!("the {what} of \"{}\"", unit.name),
            }),
        );
    }
    all
}

/// The file at `path`; `None` of one that may be shared: a character device, a pipe.
fn identity(path: &Path) -> Option<Identity> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        if let Ok(found) = path.metadata() {
            let kind = found.file_type();
            let is_shared = kind.is_char_device() || kind.is_fifo() || kind.is_socket();
            return (!is_shared).then(|| Identity::There(found.dev(), found.ino()));
        }
        // A link that leads nowhere yet: opening it makes the file it names.
        let Ok(aim) = path.read_link() else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(aim);
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    let parent = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
    Some(Identity::Missing(parent.join(path.file_name().unwrap_or_default())))
}

/// Whether a file a job could be this one, which is kept.
fn is_hit(kept: &Kept, dir: Option<&Identity>, pattern: &str) -> bool {
    let is_there = kept.path.parent().and_then(identity).as_ref() == dir;
    let name = kept.path.file_name().map(|name| name.to_string_lossy().into_owned());
    dir.is_some() && is_there && name.is_some_and(|name| could_be(pattern, &name))
}

/// Whether `name` can come of a pattern: `%j` is digits, `%n` anything.
fn could_be(pattern: &str, name: &str) -> bool {
    let Some((before, behind)) = pattern.split_once('%') else { return pattern == name };
    let Some(rest) = name.strip_prefix(before) else { return false };
    let (is_number, behind) = match behind.strip_prefix('j') {
        Some(behind) => (true, behind),
        None => (false, behind.strip_prefix('n').unwrap_or(behind)),
    };
    let ends = (0..=rest.len()).filter(|end| rest.is_char_boundary(*end));
    let fits = |end: usize| !is_number || rest[..end].bytes().all(|byte| byte.is_ascii_digit());
    let mut ends = ends.take_while(|end| fits(*end)).skip(usize::from(is_number));
    ends.any(|end| could_be(behind, &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};
    use std::os::unix::fs::symlink;

    const MACHINE: &str = "[[disk]]\nname = 'sd0'\nsize = '1M'\n[[tape]]\nname = 'st0'\n\
        image = 'reels/a.tap'\n[[disk]]\nname = 'fd0'\n[[printer]]\nname = 'lp0'\nsink = 'SINK'\n\
        [[printer]]\nname = 'lp1'\n";

    fn refusal(dir: &Path, sink: &str) -> Option<String> {
        let file = dir.join("m.toml");
        std::fs::write(&file, MACHINE.replace("SINK", sink)).unwrap();
        let sources = Sources { machine: Some(file.clone()), ..Sources::default() };
        let config = config::load(&sources, &conf::drivers()).unwrap();
        let words = check(&config, dir).err()?.what;
        Some(words.strip_prefix(&format!("{}:", file.display())).unwrap().to_owned())
    }

    #[test]
    fn what_the_machine_keeps_is_not_printed_on_whether_it_is_there_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        std::fs::create_dir(path.join("reels")).unwrap();
        symlink("sd0.img", path.join("link")).unwrap();
        symlink("reels", path.join("other")).unwrap();
        let whole = path.join("fd0.img");
        let whole = whole.to_str().unwrap();
        let table = [
            ("sd0.img", "the image of \"sd0\""),
            ("link", "the image of \"sd0\""),
            ("./reels/../sd0.img", "the image of \"sd0\""),
            ("other/a.tap", "the image of \"st0\""),
            (whole, "the image of \"fd0\""),
            ("sd0.img.spares", "the list of spares of \"sd0\""),
            ("fd0.img.counters", "the counters of \"fd0\""),
            ("%n", "for some job the image of \"sd0\""),
            ("reels/%n.tap", "for some job the image of \"st0\""),
            ("lp1.out", ""),
        ];
        let look = || {
            for (sink, what) in table {
                let words = refusal(path, sink).unwrap_or_else(|| panic!("{sink} is taken"));
                let (line, name, what) = match what {
                    "" => (12, "lp1", "that of \"lp0\""),
                    what => (11, "lp0", what),
                };
                let shown = if name == "lp1" { "lp1.out" } else { sink };
                let wanted =
                    format!("\"sink\" of {name}: file \"{shown}\" is {what} already; name another");
                assert!(words.contains(&wanted), "{sink}: {words}");
                assert!(words.starts_with(&format!("{line}: ")) || name == "lp1", "{words}");
            }
        };
        look();
        for name in ["sd0.img", "fd0.img", "sd0.img.spares", "reels/a.tap", "fd0.img.counters"] {
            std::fs::write(path.join(name), "x").unwrap();
        }
        std::fs::write(path.join("lp1.out"), "x").unwrap();
        look();
        std::fs::hard_link(path.join("sd0.img"), path.join("hard")).unwrap();
        assert!(refusal(path, "hard").is_some());
    }

    #[test]
    fn anything_else_is_printed_on() {
        let dir = tempfile::tempdir().unwrap();
        let sinks = ["lp0.out", "/dev/null", "|cat >sd0.img", "%j-%n", "o/%n", "sd0", "a.tap"];
        for sink in sinks {
            assert_eq!(refusal(dir.path(), sink), None, "{sink}");
        }
        symlink("loop", dir.path().join("loop")).unwrap();
        assert_eq!(refusal(dir.path(), "loop"), None);
    }

    #[test]
    fn a_name_that_can_come_of_a_pattern_is_known() {
        let table = [
            ("%n", "sd0.img", true),
            ("%j", "sd0.img", false),
            ("sd%j.img", "sd0.img", true),
            ("sd%j%n", "sd0.img", true),
            ("%j-%n", "sd0.img", false),
            ("sd%j0.img", "sd0.img", false),
            ("%n.tap", "sd0.img", false),
            ("sd0%n.img", "sd0.img", true),
        ];
        for (pattern, name, can) in table {
            assert_eq!(could_be(pattern, name), can, "{pattern}");
        }
    }
}
