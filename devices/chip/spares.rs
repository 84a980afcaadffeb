//! The controller's remapping: a bad sector's place is taken by a spare, while spares last.
//!
//! A medium over a medium. A bad sector that is written goes to a spare; one that is read is
//! recovered once, for its data are still there, and copied to a spare. Its old place is not
//! touched again. Where the host has no room for the spare it is recovered anew each time. Without
//! a spare left it is a medium error.
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
    /// It has been said that data cannot be saved.
    is_told: bool,
}

/// Why a bad sector has no spare.
struct Unspared {
    error: IoError,
    /// Its data are well, but the host does not let them be saved: why.
    unsaved: Option<String>,
}

impl From<IoError> for Unspared {
    fn from(error: IoError) -> Unspared {
        Unspared { error, unsaved: None }
    }
}

impl From<Unspared> for IoError {
    fn from(why: Unspared) -> IoError {
        why.error
    }
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
        Ok(Arc::new(FileMedium::open(path, options).map_err(|why| why.words)?))
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
            // Nothing is lost where that cannot be kept: its data have not moved yet.
            if let Err(why) = self.keep(&mut table, &format!("bad {sector}\n")) {
                log::warn!(target: "chip", "sector {sector} is bad until power-off only: {why}");
            }
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

    /// Adds a line to the table's text, or says why it cannot be kept.
    fn keep(&self, table: &mut Table, line: &str) -> Result<(), String> {
        let store = self.store(table)?;
        let text = if table.text == 0 { format!("{HEAD}{line}") } else { line.to_string() };
        let end = table.text + text.len() as u64;
        if end > TABLE_BYTES {
            return Err("its table is full".into());
        }
        store.write_at(table.text, text.as_bytes()).map_err(|why| why.to_string())?;
        table.text = end;
        Ok(())
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
    fn spare(&self, table: &mut Table, sector: u64) -> Result<(Arc<dyn Medium>, u64), Unspared> {
        let lost = || IoError::Media(Sector(sector * self.sector_bytes / SECTOR_SIZE as u64));
        let store = self.store(table);
        if let Some(Some(spare)) = table.bad.get(&sector) {
            return store.map(|store| (store, place_of(*spare))).map_err(|_| lost().into());
        }
        let spare = table.used;
        if spare >= self.spares {
            return Err(lost().into());
        }
        let mut data = vec![0; usize::try_from(self.sector_bytes).unwrap_or(0)];
        self.inner.read_at(sector * self.sector_bytes, &mut data)?;
        let unsaved = |error, why| Unspared { error, unsaved: Some(why) };
        let store = store.map_err(|why| unsaved(lost(), why))?;
        let written = store.write_at(place_of(spare), &data);
        written.map_err(|error| unsaved(error, error.to_string()))?;
        // Before anything relies on it: what is in a spare that nobody remembers is lost.
        self.keep(table, &format!("map {sector} {spare}\n"))
            .map_err(|why| unsaved(IoError::NoSpace, why))?;
        table.used += 1;
        table.is_told = false;
        table.bad.insert(sector, Some(spare));
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

/// Says once that what was recovered stays where it is, until it can be saved.
fn tell_unsaved(table: &mut Table, sector: u64, why: &str) {
    if !std::mem::replace(&mut table.is_told, true) {
        log::warn!(target: "chip", "sector {sector} is recovered but cannot be saved: {why}");
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
                Place::Bad(sector) => match self.spare(&mut table, sector) {
                    Ok((store, spare)) => store.read_at(spare + at % self.sector_bytes, part)?,
                    Err(Unspared { unsaved: Some(why), .. }) => {
                        self.inner.read_at(at, part)?;
                        tell_unsaved(&mut table, sector, &why);
                    }
                    Err(lost) => return Err(lost.into()),
                },
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
#[path = "spares_tests.rs"]
mod tests;
