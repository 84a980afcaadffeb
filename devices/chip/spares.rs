//! The controller's remapping: a bad sector's place is taken by a spare, while spares last.
//!
//! A medium over a medium. A bad sector that is written goes to a spare; one that is read is
//! recovered once, for its data are still there, and copied to a spare. Its old place is not
//! touched again. Without a spare left it is a medium error.
//!
//! What is bad, and where its data went, is kept beside the image, in `IMAGE.spares`: a text of
//! lines in the first 64 KiB (`spindle spares 1`, then `bad N` and `map N SPARE`, N counted in
//! sectors of the medium's own size), zeros behind it; then the spares, one each 4096 bytes. The
//! file appears with the first bad sector. A line is written after the data it tells of. One that
//! is older than its image tells of another image, and is refused: its data are not this one's.

use crate::contract::{IoError, SECTOR_SIZE, Sector};
use crate::medium::{FileMedium, FileOptions, Medium, RamMedium, Run};
use crate::sync::{Arc, Mutex};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Spares a controller can have.
pub const SPARES_MAX: u32 = 512;

const TABLE_BYTES: u64 = 64 * 1024;
const SPARE_BYTES: u64 = 4096;
const STORE_BYTES: u64 = TABLE_BYTES + SPARES_MAX as u64 * SPARE_BYTES;
const HEAD: &str = "spindle spares 1\n";

/// See the head of this file.
pub(super) struct Spares {
    inner: Arc<dyn Medium>,
    sector_bytes: u64,
    spares: u32,
    /// Where the store is, or will be: `None`: in memory.
    path: Option<PathBuf>,
    host_sync: bool,
    is_any: AtomicBool,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Bad sectors, and their spares.
    bad: BTreeMap<u64, Option<u32>>,
    used: u32,
    store: Option<Arc<dyn Medium>>,
    /// Bytes of the table's text.
    text: u64,
}

/// Where a run of bytes is.
enum Place {
    Plain,
    Bad(u64),
}

impl Spares {
    /// Remapping over `inner`, with what was remembered of it.
    ///
    /// # Errors
    /// In words, when the store beside the image cannot be used.
    pub(super) fn open(
        inner: Arc<dyn Medium>,
        sector_bytes: u32,
        spares: u32,
        path: Option<PathBuf>,
        host_sync: bool,
    ) -> Result<Spares, String> {
        let remapping = Spares {
            inner,
            sector_bytes: sector_bytes.into(),
            spares: spares.min(SPARES_MAX),
            path,
            host_sync,
            is_any: AtomicBool::new(false),
            table: Mutex::default(),
        };
        if let Some(path) = remapping.path.as_ref().filter(|path| path.exists()) {
            check_age(path)?;
            let mut table = remapping.table.lock();
            table.load(remapping.open_store()?).map_err(|why| {
                let name = remapping.path.as_ref().map(|path| path.display().to_string());
                format!("{}: {why}", name.unwrap_or_default())
            })?;
            remapping.is_any.store(!table.bad.is_empty(), Ordering::Release);
            drop(table);
        }
        Ok(remapping)
    }

    fn open_store(&self) -> Result<Arc<dyn Medium>, String> {
        let Some(path) = &self.path else { return Ok(Arc::new(RamMedium::new(STORE_BYTES))) };
        let read_only = self.inner.is_read_only();
        let (bytes, host_sync) = (Some(STORE_BYTES), self.host_sync);
        let options = FileOptions { bytes, sector_bytes: 512, read_only, host_sync };
        Ok(Arc::new(FileMedium::open(path, options)?))
    }

    /// The sector at byte `at` goes bad.
    pub(super) fn mark_bad(&self, at: u64) {
        if at >= self.inner.bytes() {
            return;
        }
        let sector = at / self.sector_bytes;
        let mut table = self.table.lock();
        if let Entry::Vacant(place) = table.bad.entry(sector) {
            place.insert(None);
            self.is_any.store(true, Ordering::Release);
            self.note(&mut table, &format!("bad {sector}\n"));
        }
    }

    /// Whether the sector at byte `at` is bad and has no spare.
    pub(super) fn is_lost(&self, at: u64) -> bool {
        self.table.lock().bad.get(&(at / self.sector_bytes)) == Some(&None)
    }

    /// Spares there are.
    pub(super) fn spares(&self) -> u32 {
        self.spares
    }

    /// Sectors with a spare.
    pub(super) fn remaps(&self) -> u32 {
        self.table.lock().used
    }

    /// The `index`th sector that has a spare, in order of sectors: its number in sectors of 512
    /// bytes, and the spare.
    pub(super) fn remap(&self, index: u32) -> Option<(u64, u32)> {
        let table = self.table.lock();
        let mut all = table.bad.iter().filter_map(|(sector, spare)| Some((*sector, (*spare)?)));
        let (sector, spare) = all.nth(usize::try_from(index).ok()?)?;
        Some((sector * (self.sector_bytes / SECTOR_SIZE as u64), spare))
    }

    /// Adds a line to the table's text. Where it cannot be kept, the remapping lasts until power
    /// goes: said in the log, for nothing is lost yet.
    fn note(&self, table: &mut Table, line: &str) {
        let kept = self.store(table).and_then(|store| {
            let text = if table.text == 0 { format!("{HEAD}{line}") } else { line.to_string() };
            let end = table.text + text.len() as u64;
            if end > TABLE_BYTES {
                return Err("its table is full".into());
            }
            store.write_at(table.text, text.as_bytes()).map_err(|why| why.to_string())?;
            table.text = end;
            Ok(())
        });
        if let Err(why) = kept {
            log::warn!(target: "chip", "remapping kept until power-off only: {why}");
        }
    }

    fn store(&self, table: &mut Table) -> Result<Arc<dyn Medium>, String> {
        if let Some(store) = &table.store {
            return Ok(Arc::clone(store));
        }
        let store = self.open_store().or_else(|why| match self.inner.is_read_only() {
            true => Ok::<Arc<dyn Medium>, String>(Arc::new(RamMedium::new(STORE_BYTES))),
            false => Err(why),
        })?;
        table.store = Some(Arc::clone(&store));
        Ok(store)
    }

    /// Store and place of the spare of a bad sector; gives it one if it has none.
    fn spare(&self, table: &mut Table, sector: u64) -> Result<(Arc<dyn Medium>, u64), IoError> {
        let lost = || IoError::Media(Sector(sector * self.sector_bytes / SECTOR_SIZE as u64));
        let store = self.store(table).map_err(|_| lost())?;
        if let Some(Some(spare)) = table.bad.get(&sector) {
            return Ok((store, place_of(*spare)));
        }
        let spare = table.used;
        if spare >= self.spares {
            return Err(lost());
        }
        let mut data = vec![0; usize::try_from(self.sector_bytes).unwrap_or(0)];
        self.inner.read_at(sector * self.sector_bytes, &mut data)?;
        store.write_at(place_of(spare), &data)?;
        table.used += 1;
        table.bad.insert(sector, Some(spare));
        self.note(table, &format!("map {sector} {spare}\n"));
        log::info!(target: "chip", "sector {sector} -> spare{spare}");
        Ok((store, place_of(spare)))
    }

    /// What lies at byte `at`, and how many of `len` bytes lie in the same place.
    fn place(&self, table: &Table, at: u64, len: u64) -> (Place, u64) {
        let sector = at / self.sector_bytes;
        match table.bad.range(sector..).next() {
            Some((&bad, _)) if bad == sector => {
                (Place::Bad(sector), len.min((sector + 1) * self.sector_bytes - at))
            }
            Some((&bad, _)) => (Place::Plain, len.min(bad * self.sector_bytes - at)),
            None => (Place::Plain, len),
        }
    }

    fn is_plain(&self) -> bool {
        !self.is_any.load(Ordering::Acquire)
    }
}

/// That the store beside an image was not made before it; where the host keeps no such times,
/// nothing is said.
fn check_age(store: &Path) -> Result<(), String> {
    let image = store.with_extension("");
    let born = |path: &Path| std::fs::metadata(path).and_then(|data| data.created()).ok();
    if let (Some(image_born), Some(store_born)) = (born(&image), born(store))
        && image_born > store_born
    {
        let (image, store) = (image.display(), store.display());
        return Err(format!(
            "{store} is older than {image}: remove it if it is another image's; if both were \
             copied, copy it again"
        ));
    }
    Ok(())
}

fn place_of(spare: u32) -> u64 {
    TABLE_BYTES + u64::from(spare) * SPARE_BYTES
}

impl Table {
    fn load(&mut self, store: Arc<dyn Medium>) -> Result<(), String> {
        let mut bytes = vec![0; usize::try_from(TABLE_BYTES).unwrap_or(0)];
        store.read_at(0, &mut bytes).map_err(|why| why.to_string())?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let text = std::str::from_utf8(&bytes[..end]).map_err(|why| why.to_string())?;
        self.store = Some(store);
        if text.is_empty() {
            return Ok(());
        }
        let lines = text.strip_prefix(HEAD).ok_or("is no table of spares of version 1")?;
        // A line without its end was being written when power went.
        let whole = lines.rfind('\n').map_or(0, |last| last + 1);
        self.text = (HEAD.len() + whole) as u64;
        for line in lines[..whole].lines() {
            let wrong =
                || format!("has a line `{line}`, which is neither `bad N` nor `map N SPARE`");
            let words = line.split(' ').collect::<Vec<_>>();
            let number = |word: &str| word.parse::<u64>().map_err(|_| wrong());
            match words[..] {
                ["bad", sector] => {
                    self.bad.entry(number(sector)?).or_insert(None);
                }
                ["map", sector, spare] => {
                    let spare = u32::try_from(number(spare)?).map_err(|_| wrong())?;
                    if spare >= SPARES_MAX {
                        return Err(wrong());
                    }
                    self.bad.insert(number(sector)?, Some(spare));
                    self.used = self.used.max(spare + 1);
                }
                _ => return Err(wrong()),
            }
        }
        Ok(())
    }
}

impl Medium for Spares {
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<(), IoError> {
        if self.is_plain() {
            return self.inner.read_at(at, into);
        }
        let mut table = self.table.lock();
        let (mut at, mut rest) = (at, into);
        while !rest.is_empty() {
            let (place, len) = self.place(&table, at, rest.len() as u64);
            let (part, behind) = rest.split_at_mut(usize::try_from(len).unwrap_or(usize::MAX));
            match place {
                Place::Plain => self.inner.read_at(at, part)?,
                // What must not change is recovered anew each time.
                Place::Bad(sector)
                    if self.is_read_only() && table.bad.get(&sector) == Some(&None) =>
                {
                    self.inner.read_at(at, part)?;
                }
                Place::Bad(sector) => {
                    let (store, spare) = self.spare(&mut table, sector)?;
                    store.read_at(spare + at % self.sector_bytes, part)?;
                }
            }
            (at, rest) = (at + len, behind);
        }
        Ok(())
    }

    fn write_at(&self, at: u64, from: &[u8]) -> Result<(), IoError> {
        if self.is_plain() {
            return self.inner.write_at(at, from);
        }
        if self.is_read_only() {
            return Err(IoError::WriteProtected);
        }
        let mut table = self.table.lock();
        let (mut at, mut rest) = (at, from);
        while !rest.is_empty() {
            let (place, len) = self.place(&table, at, rest.len() as u64);
            let (part, behind) = rest.split_at(usize::try_from(len).unwrap_or(usize::MAX));
            match place {
                Place::Plain => self.inner.write_at(at, part)?,
                Place::Bad(sector) => {
                    let (store, spare) = self.spare(&mut table, sector)?;
                    store.write_at(spare + at % self.sector_bytes, part)?;
                }
            }
            (at, rest) = (at + len, behind);
        }
        Ok(())
    }

    fn read_runs(&self, at: u64, into: &mut [&mut [u8]]) -> Result<(), IoError> {
        if self.is_plain() {
            return self.inner.read_runs(at, into);
        }
        let mut at = at;
        for run in into {
            self.read_at(at, run)?;
            at += run.len() as u64;
        }
        Ok(())
    }

    fn write_runs(&self, at: u64, from: &[&[u8]]) -> Result<(), IoError> {
        if self.is_plain() {
            return self.inner.write_runs(at, from);
        }
        let mut at = at;
        for run in from {
            self.write_at(at, run)?;
            at += run.len() as u64;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IoError> {
        let store = self.table.lock().store.clone();
        if let Some(store) = store {
            store.flush()?;
        }
        self.inner.flush()
    }

    fn discard(&self, at: u64, len: u64) -> Result<(), IoError> {
        self.clear(at, len, |at, len| self.inner.discard(at, len))
    }

    fn zero(&self, at: u64, len: u64) -> Result<(), IoError> {
        self.clear(at, len, |at, len| self.inner.zero(at, len))
    }

    fn stored_from(&self, from: u64) -> Option<Run> {
        let stored = self.inner.stored_from(from);
        if self.is_plain() {
            return stored;
        }
        let first = from / self.sector_bytes;
        let table = self.table.lock();
        let mut spares = table.bad.range(first..).filter(|(_, spare)| spare.is_some());
        let Some((sector, _)) = spares.next() else { return stored };
        let run = ((sector * self.sector_bytes).max(from), (sector + 1) * self.sector_bytes);
        match stored {
            Some(stored) if stored.0 <= run.0 => Some(stored),
            _ => Some(run),
        }
    }
}

impl Spares {
    fn clear(
        &self,
        at: u64,
        len: u64,
        plain: impl Fn(u64, u64) -> Result<(), IoError>,
    ) -> Result<(), IoError> {
        if self.is_plain() || self.is_read_only() {
            return plain(at, len);
        }
        let mut table = self.table.lock();
        let (mut at, end) = (at, at.checked_add(len).ok_or(IoError::Range)?);
        while at < end {
            let (place, len) = self.place(&table, at, end - at);
            match place {
                Place::Plain => plain(at, len)?,
                Place::Bad(sector) => {
                    let (store, spare) = self.spare(&mut table, sector)?;
                    store.zero(spare + at % self.sector_bytes, len)?;
                }
            }
            at += len;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(spares: u32) -> (Arc<RamMedium>, Spares) {
        let inner = Arc::new(RamMedium::new(64 * 1024));
        let over = Spares::open(Arc::clone(&inner) as Arc<dyn Medium>, 512, spares, None, false);
        (inner, over.unwrap())
    }

    fn read(medium: &dyn Medium, sector: u64) -> u8 {
        let mut into = [0xaa; 512];
        medium.read_at(sector * 512, &mut into).unwrap();
        assert!(into.iter().all(|byte| *byte == into[0]));
        into[0]
    }

    #[test]
    fn a_bad_sector_that_is_written_goes_to_a_spare_and_its_place_is_untouched() {
        let (inner, disk) = memory(4);
        disk.write_at(0, &[1; 200 * 64]).unwrap();
        disk.mark_bad(10 * 512);
        disk.write_at(8 * 512, &[2; 5 * 512]).unwrap();
        assert_eq!((read(&disk, 10), read(&*inner, 10), read(&*inner, 11)), (2, 1, 2));
        assert_eq!((disk.remaps(), disk.remap(0), disk.remap(1)), (1, Some((10, 0)), None));
    }

    #[test]
    fn a_bad_sector_that_is_read_is_recovered_once() {
        let (inner, disk) = memory(4);
        disk.write_at(10 * 512, &[7; 512]).unwrap();
        disk.mark_bad(10 * 512 + 100);
        assert_eq!(read(&disk, 10), 7);
        inner.write_at(10 * 512, &[0; 512]).unwrap(); // the old place decays
        assert_eq!(read(&disk, 10), 7);
        let mut runs = [[0; 512], [0; 512]];
        let [one, two] = &mut runs;
        disk.read_runs(9 * 512, &mut [one, two]).unwrap();
        assert_eq!((runs[0][0], runs[1][0]), (0, 7));
    }

    #[test]
    fn without_a_spare_left_it_is_a_medium_error() {
        let (_, disk) = memory(1);
        disk.mark_bad(3 * 512);
        disk.mark_bad(5 * 512);
        disk.write_at(5 * 512, &[1; 512]).unwrap();
        assert_eq!(disk.write_at(2 * 512, &[1; 1024]), Err(IoError::Media(Sector(3))));
        assert_eq!(disk.read_at(3 * 512, &mut [0; 512]), Err(IoError::Media(Sector(3))));
        assert_eq!((read(&disk, 2), read(&disk, 5)), (1, 1));
        assert!(disk.is_lost(3 * 512) && !disk.is_lost(5 * 512));
    }

    #[test]
    fn cleared_spares_read_as_zeros_and_stored_ones_are_found() {
        let (_, disk) = memory(4);
        disk.mark_bad(20 * 512);
        disk.write_at(20 * 512, &[1; 512]).unwrap();
        assert_eq!(disk.stored_from(0), Some((20 * 512, 21 * 512)));
        disk.write_at(0, &[1; 512]).unwrap();
        assert_eq!(disk.stored_from(0), Some((0, 4096)));
        disk.discard(0, 64 * 1024).unwrap();
        assert_eq!(read(&disk, 20), 0);
        disk.write_at(20 * 512, &[1; 512]).unwrap();
        disk.zero(20 * 512, 512).unwrap();
        assert_eq!(read(&disk, 20), 0);
    }

    #[test]
    fn remaps_outlive_the_daemon_and_a_torn_line_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (image, path) = (dir.path().join("sd0.img"), dir.path().join("sd0.img.spares"));
        let open = || {
            let options = FileOptions { bytes: Some(64 * 1024), ..FileOptions::default() };
            let inner = Arc::new(FileMedium::open(&image, options).unwrap());
            Spares::open(inner, 512, 4, Some(path.clone()), true)
        };
        let disk = open().unwrap();
        assert!(!path.exists());
        disk.mark_bad(10 * 512);
        disk.mark_bad(11 * 512);
        disk.write_at(11 * 512, &[9; 512]).unwrap();
        disk.flush().unwrap();
        drop(disk);
        let mut bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"spindle spares 1\nbad 10\nbad 11\nmap 11 0\n\0"));
        let torn = bytes.iter().position(|byte| *byte == 0).unwrap();
        bytes[torn..torn + 6].copy_from_slice(b"map 10");
        std::fs::write(&path, bytes).unwrap();
        let disk = open().unwrap();
        assert_eq!((read(&disk, 11), disk.remap(0)), (9, Some((11, 0))));
        assert_eq!((read(&disk, 10), disk.remaps()), (0, 2));
        drop(disk);
        assert!(
            std::fs::read(&path)
                .unwrap()
                .starts_with(b"spindle spares 1\nbad 10\nbad 11\nmap 11 0\nmap 10 1\n\0")
        );
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[0] = b'X';
        std::fs::write(&path, bytes).unwrap();
        let why = open().err().unwrap();
        assert!(why.contains("no table of spares of version 1"), "{why}");
    }

    #[test]
    fn spares_of_another_image_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (image, path) = (dir.path().join("a.img"), dir.path().join("a.img.spares"));
        let open = || {
            let options = FileOptions { bytes: Some(64 * 1024), ..FileOptions::default() };
            let inner = Arc::new(FileMedium::open(&image, options).unwrap());
            Spares::open(inner, 512, 4, Some(path.clone()), false)
        };
        let disk = open().unwrap();
        disk.mark_bad(10 * 512);
        drop(disk);
        let born = |path: &Path| std::fs::metadata(path).unwrap().created();
        let Ok(before) = born(&path) else { return }; // this host keeps no such times
        open().unwrap();
        std::fs::remove_file(&image).unwrap();
        loop {
            std::fs::write(&image, b"").unwrap(); // times go by the host's ticks
            if born(&image).unwrap() > before {
                break;
            }
            std::fs::remove_file(&image).unwrap();
        }
        let why = open().err().unwrap();
        assert!(why.contains("is older than"), "{why}");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(open().unwrap().remaps(), 0);
    }

    #[test]
    fn a_sector_of_4096_bytes_is_remapped_whole() {
        let inner = Arc::new(RamMedium::new(64 * 1024));
        let disk = Spares::open(inner, 4096, 4, None, false).unwrap();
        disk.write_at(4096, &[5; 4096]).unwrap();
        disk.mark_bad(9 * 512);
        assert_eq!(read(&disk, 15), 5);
        assert_eq!(disk.remap(0), Some((8, 0)));
    }
}
