//! The host's file in which a unit's bytes are: which key names it, what it is called where none
//! is given, and what stands beside it.

use super::UnitConfig;
use std::path::{Path, PathBuf};

/// A file of the host that a unit's description names.
#[derive(Clone, Copy, Debug)]
pub struct HostFile {
    /// The key whose text is its name.
    pub key: &'static str,
    /// Where no name is given it is the unit's, and this: `.img`.
    pub ending: &'static str,
    /// What its driver keeps beside it.
    pub beside: &'static [Beside],
}

/// A file beside another, whose name is the other's and an ending more.
#[derive(Clone, Copy, Debug)]
pub struct Beside {
    /// What comes behind the other's name: `.spares`.
    pub ending: &'static str,
    /// What it is, in words.
    pub what: &'static str,
}

/// What is bad of a disk's medium, and where its data went.
pub const SPARES: Beside = Beside { ending: ".spares", what: "list of spares" };
/// What went wrong with a disk, beyond power-off.
pub const COUNTERS: Beside = Beside { ending: ".counters", what: "counters" };

/// A disk's medium.
pub const DISK_IMAGE: HostFile =
    HostFile { key: "image", ending: ".img", beside: &[SPARES, COUNTERS] };
/// A tape.
pub const TAPE_IMAGE: HostFile = HostFile { key: "image", ending: ".tap", beside: &[] };
/// What a printer prints on; as written it need not be a file.
pub const PRINTER_SINK: HostFile = HostFile { key: "sink", ending: ".out", beside: &[] };

impl HostFile {
    /// As written for `unit`; where nothing is, or an empty text, by the unit's own name.
    #[must_use]
    pub fn name(&self, unit: &UnitConfig) -> String {
        let written = unit.text(self.key).filter(|text| !text.is_empty());
        written.map_or_else(|| format!("{}{}", unit.name, self.ending), str::to_owned)
    }

    /// Where it is; relative names are in `dir`. Without `dir` it is `None` where the unit names
    /// none: then its bytes are in memory.
    #[must_use]
    pub fn path(&self, unit: &UnitConfig, dir: Option<&Path>) -> Option<PathBuf> {
        let is_written = unit.text(self.key).is_some_and(|text| !text.is_empty());
        match dir {
            Some(dir) => Some(dir.join(self.name(unit))),
            None => is_written.then(|| self.name(unit).into()),
        }
    }
}

impl Beside {
    /// Where it is, beside that file.
    #[must_use]
    pub fn path(&self, file: &Path) -> PathBuf {
        let mut name = file.as_os_str().to_owned();
        name.push(self.ending);
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Value;

    fn unit(written: Option<&str>) -> UnitConfig {
        let values = written.map(|text| ("image".to_owned(), Value::Text(text.into())));
        UnitConfig {
            name: "sd0".into(),
            values: values.into_iter().collect(),
            ..UnitConfig::default()
        }
    }

    #[test]
    fn a_file_that_is_not_named_has_its_units_name() {
        let dir = Some(Path::new("/s"));
        let table = [
            (None, DISK_IMAGE, "sd0.img", Some("/s/sd0.img"), None),
            (Some(""), DISK_IMAGE, "sd0.img", Some("/s/sd0.img"), None),
            (None, TAPE_IMAGE, "sd0.tap", Some("/s/sd0.tap"), None),
            (None, PRINTER_SINK, "sd0.out", Some("/s/sd0.out"), None),
            (Some("a/b"), DISK_IMAGE, "a/b", Some("/s/a/b"), Some("a/b")),
            (Some("/a"), TAPE_IMAGE, "/a", Some("/a"), Some("/a")),
        ];
        for (written, file, name, inside, bare) in table {
            let unit = unit(written);
            assert_eq!(file.name(&unit), name);
            assert_eq!(file.path(&unit, dir).as_deref(), inside.map(Path::new));
            assert_eq!(file.path(&unit, None).as_deref(), bare.map(Path::new));
        }
    }

    #[test]
    fn what_stands_beside_keeps_the_whole_name() {
        assert_eq!(SPARES.path(Path::new("/s/sd0.img")), Path::new("/s/sd0.img.spares"));
        assert_eq!(COUNTERS.path(Path::new("x")), Path::new("x.counters"));
    }
}
