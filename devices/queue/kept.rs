//! What a disk keeps of its mishaps beyond power-off: its error log pages.
//!
//! A text beside the image, `IMAGE.counters`: a line that tells its version, then one each for
//! reads and writes. It appears with the first mishap, and is written again, whole and in place,
//! with every further one, before its caller is told; so it is true whenever the daemon dies.
//! Sectors are counted along while the file is there, and written now and then.
//!
//! Nothing depends on it: a file that is no such text, or is older than the image beside it, and so
//! another's, is begun anew; what is no plain file is left alone.

use crate::contract::Mishaps;
use crate::contract::host_file::COUNTERS;
use crate::plain;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Sectors transferred after which they are written down without a mishap: 64 MiB.
pub(super) const SECTORS_MAX: u64 = 1 << 17;

/// More than such a text ever has.
const BYTES_MAX: u64 = 4096;

const HEAD: &str = "spindle counters 1\n";
const NAMES: [&str; 2] = ["read", "write"];

/// Of reads, and of writes.
pub(super) type Pages = [Mishaps; 2];

/// See the head of this file.
#[derive(Default)]
pub(super) struct Kept {
    /// Where it is, or will be; `None`: nowhere, any more.
    path: Option<PathBuf>,
    file: Option<File>,
}

impl Kept {
    /// What was kept beside an image, and how to go on; of a disk in memory nothing is.
    pub(super) fn open(image: Option<&Path>) -> (Kept, Option<Pages>) {
        let Some(image) = image else { return Default::default() };
        let path = COUNTERS.path(image);
        let pages = match plain::read_text(&path, BYTES_MAX) {
            Ok(text) => parse(&text).filter(|_| !is_older(&path, image)),
            Err(why) if why.kind() == ErrorKind::InvalidData => None,
            Err(why) => {
                if why.kind() != ErrorKind::NotFound {
                    refuse(&path, &why);
                    return Default::default();
                }
                return (Kept { path: Some(path), file: None }, None);
            }
        };
        if pages.is_none() {
            log::warn!(target: "queue", "{}: not of this image: begun anew", path.display());
        }
        (Kept { path: Some(path), file: None }, pages)
    }

    /// Writes what was counted. Where that fails it is counted until power-off only: said in the
    /// log, once. Waits for the host.
    pub(super) fn save(&mut self, pages: &Pages) {
        let Some(path) = &self.path else { return };
        let file = match self.file.take() {
            Some(file) => Ok(file),
            // Not cut before it is written: at no moment is nothing there.
            None => plain::open(path, File::options().write(true).create(true).truncate(false)),
        };
        let text = text(pages);
        let write = |file: File| {
            file.write_all_at(text.as_bytes(), 0)?;
            file.set_len(text.len() as u64)?; // of what is not ours it may be longer
            Ok(file)
        };
        match file.and_then(write) {
            Ok(file) => self.file = Some(file),
            Err(why) => {
                refuse(path, &why);
                self.path = None;
            }
        }
    }
}

fn refuse(path: &Path, why: &std::io::Error) {
    let path = path.display();
    log::warn!(target: "queue", "{path}: {why}: mishaps are counted until power-off only");
}

/// Whether a file was made before another; not where the host keeps no such times.
fn is_older(path: &Path, than: &Path) -> bool {
    let born = |path: &Path| std::fs::metadata(path).and_then(|data| data.created()).ok();
    matches!((born(path), born(than)), (Some(path), Some(than)) if path < than)
}

/// Always of the same length, so that it is written over in one piece.
fn text(pages: &Pages) -> String {
    let mut text = HEAD.to_owned();
    for (name, page) in NAMES.iter().zip(pages) {
        let Mishaps { retries, recovered, failed, sectors } = page;
        text += &format!(
            "{name} retries={retries:020} recovered={recovered:020} failed={failed:020} \
             sectors={sectors:020}\n"
        );
    }
    text
}

fn parse(text: &str) -> Option<Pages> {
    let mut lines = text.strip_prefix(HEAD)?.lines();
    let mut pages = Pages::default();
    for (name, page) in NAMES.iter().zip(&mut pages) {
        let mut words = lines.next()?.strip_prefix(name)?.split_whitespace();
        let mut number = |key| words.next()?.strip_prefix(key)?.strip_prefix('=')?.parse().ok();
        *page = Mishaps {
            retries: number("retries")?,
            recovered: number("recovered")?,
            failed: number("failed")?,
            sectors: number("sectors")?,
        };
    }
    Some(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page() -> impl Strategy<Value = Mishaps> {
        any::<[u64; 4]>().prop_map(|[retries, recovered, failed, sectors]| Mishaps {
            retries,
            recovered,
            failed,
            sectors,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pages in [page(), page()]) {
            prop_assert_eq!(parse(&text(&pages)), Some(pages));
            prop_assert_eq!(text(&pages).len(), text(&Pages::default()).len());
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,80}") {
            prop_assert_eq!(parse(&text), None);
            prop_assert_eq!(parse(&format!("{HEAD}{text}")), None);
        }
    }

    #[test]
    fn what_is_kept_is_there_after_power_off_and_one_of_another_image_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("sd0.img");
        std::fs::write(&image, "old").unwrap();
        let store = dir.path().join("sd0.img.counters");
        let (mut kept, found) = Kept::open(Some(&image));
        assert_eq!(found, None);
        assert!(!store.exists(), "nothing has happened yet");
        let pages = [Mishaps { failed: 3, ..Mishaps::default() }, Mishaps::default()];
        kept.save(&Pages::default());
        kept.save(&pages);
        assert_eq!(Kept::open(Some(&image)).1, Some(pages));
        std::fs::write(&store, "something else").unwrap();
        assert_eq!(Kept::open(Some(&image)).1, None);
        Kept::open(Some(&image)).0.save(&pages);
        assert_eq!(Kept::open(Some(&image)).1, Some(pages));
        std::fs::remove_file(&image).unwrap();
        std::fs::write(&image, "new").unwrap();
        let is_dated = std::fs::metadata(&image).unwrap().created().is_ok();
        assert!(Kept::open(Some(&image)).1.is_none() || !is_dated);
    }

    #[test]
    fn what_is_no_plain_file_keeps_nothing_and_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("sd0.img");
        let store = dir.path().join("sd0.img.counters");
        nix::unistd::mkfifo(&store, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (mut kept, found) = Kept::open(Some(&image));
        assert_eq!(found, None);
        kept.save(&Pages::default());
        assert!(kept.path.is_none() && !store.metadata().unwrap().is_file());
    }

    #[test]
    fn whoever_looks_while_it_is_written_finds_it_whole() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("sd0.img");
        std::fs::write(&image, "").unwrap();
        let pages = [Mishaps { failed: 3, ..Mishaps::default() }, Mishaps::default()];
        Kept::open(Some(&image)).0.save(&pages);
        let (theirs, all) = (image.clone(), 2_000);
        let daemons = std::thread::spawn(move || {
            for _ in 0..all {
                Kept::open(Some(&theirs)).0.save(&pages); // each its first mishap
            }
        });
        while !daemons.is_finished() {
            assert_eq!(Kept::open(Some(&image)).1, Some(pages));
        }
        daemons.join().unwrap();
        std::fs::write(dir.path().join("sd0.img.counters"), "x".repeat(4096)).unwrap();
        Kept::open(Some(&image)).0.save(&pages);
        assert_eq!(Kept::open(Some(&image)).1, Some(pages));
        let left = std::fs::read_to_string(dir.path().join("sd0.img.counters")).unwrap();
        assert_eq!(left, text(&pages));
    }

    #[test]
    fn where_nothing_can_be_written_the_disk_goes_on() {
        let (mut kept, found) = Kept::open(Some(Path::new("/nowhere/at/all/sd0.img")));
        kept.save(&Pages::default());
        assert!(found.is_none() && kept.path.is_none());
        kept.save(&Pages::default());
    }
}
