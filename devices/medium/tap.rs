//! A tape: records and marks, one after another, in the SIMH magnetic tape format (`.tap`).
//!
//! The format is that of "SIMH Magtape Representation and Handling" (Supnik, Bryan): a record is
//! its length in 4 bytes, least first, its data, a byte more where the length is odd, and the
//! length again; a mark is a length of 0. Erase gaps, and what others keep privately between the
//! records, are stepped over. Data end at an end-of-medium marker or at the end of the file.
//!
//! 1. What is written is in the file (the host's page cache) when the call returns, and whatever
//!    kills this process leaves a tape on which all of it stands: data and trailer are written
//!    beyond the end-of-medium marker, which the header then replaces.
//! 2. What follows a write is no more: the tape ends there.
//! 3. A file that breaks off, or makes no sense from somewhere on, ends before that place; it is
//!    not changed before the first write. One that makes none from its first byte on is no tape.

use super::tap_host::{Backing, TapOptions};
use crate::contract::IoError;
use std::path::Path;

/// Data end here.
const END_OF_MEDIUM: u32 = 0xffff_ffff;
/// Nothing was recorded in these 4 bytes.
const GAP: u32 = 0xffff_fffe;
/// Gaps read 2 bytes off, as something of odd words written over some of them leaves it.
const HALF_GAP: u32 = 0xfffe_ffff;
/// The bits of a header that are a length; those above are a class.
const LENGTH: u32 = 0x0fff_ffff;
const CLASS_BAD: u32 = 8;
/// The longest record that every reader of the format takes, in bytes.
const RECORD_BYTES_MAX: u64 = 0x00ff_ffff;

/// Marks that are written at once.
static MARKS: [u8; 64 * 1024] = [0; 64 * 1024];

/// What stands on a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A record.
    Record {
        /// Length, in bytes.
        bytes: u32,
        /// It cannot be read without errors.
        is_bad: bool,
    },
    /// A file mark.
    Mark,
}

/// An item, and from which byte up to which.
#[derive(Clone, Copy)]
struct Place {
    item: Item,
    first: u64,
    end: u64,
}

/// What a word says about the bytes from it on.
enum Word {
    Item(Item),
    /// To be stepped over: so many bytes.
    Skip(u64),
    /// A private record, of that word.
    Private,
    End,
    Nonsense,
}

/// See the head of this file.
pub struct Tap {
    backing: Backing,
    options: TapOptions,
    /// Byte at which the head stands.
    at: u64,
    /// Items before the head.
    block: u64,
    /// Byte at which data end.
    end: u64,
    /// Items there are.
    blocks: u64,
    /// An end-of-medium marker stands at `end`.
    is_sealed: bool,
    /// Something was written since the last flush.
    is_dirty: bool,
    /// Something was written since the file was last cut to its data.
    is_ragged: bool,
    /// The word at that byte, read along with what is before it.
    known: Option<(u64, u32)>,
    /// First byte of the record before the head, where it can be extended.
    extensible: Option<u64>,
}

fn padded(bytes: u32) -> u64 {
    u64::from(bytes) + u64::from(bytes % 2)
}

fn meaning(word: u32) -> Word {
    match (word, word >> 28) {
        (0, _) => Word::Item(Item::Mark),
        (END_OF_MEDIUM, _) => Word::End,
        (GAP, _) | (_, 0xe) => Word::Skip(4),
        (HALF_GAP, _) => Word::Skip(2),
        (_, 0xf) | (0x8000_0000, _) => Word::Nonsense,
        (_, class @ (0 | CLASS_BAD)) => {
            Word::Item(Item::Record { bytes: word & LENGTH, is_bad: class == CLASS_BAD })
        }
        _ => Word::Private,
    }
}

/// The word before and behind an item.
fn header(item: Item) -> u32 {
    match item {
        Item::Mark => 0,
        Item::Record { bytes, is_bad: false } => bytes,
        Item::Record { bytes, is_bad: true } => bytes | CLASS_BAD << 28,
    }
}

impl Tap {
    /// Loads the tape at `path`, making an empty one when it is missing.
    ///
    /// # Errors
    /// In words that name the file, what is wrong, and the way out.
    pub fn open(path: &Path, options: TapOptions) -> Result<Tap, String> {
        let name = path.display();
        let backing = Backing::open(path, &options);
        let backing = backing.map_err(|why| format!("tape {name}: {why}"))?;
        let mut tap = Tap::new(backing, options);
        tap.survey().map_err(|why| format!("tape {name}: cannot be read: {why}"))?;
        if tap.is_foreign() {
            return Err(format!(
                "{name} is no tape image (SIMH .tap): its first record makes no sense; \
                 name another file, or empty it"
            ));
        }
        Ok(tap)
    }

    /// Whether nothing in the file is a tape's, not even its beginning: it is something else, which
    /// the first write would destroy. One that makes no sense further on was a tape.
    fn is_foreign(&self) -> bool {
        let is_bare = self.blocks == 0 && self.end == 0 && !self.is_sealed;
        is_bare && self.backing.len().is_ok_and(|len| len > 0)
    }

    /// An empty tape in memory.
    #[must_use]
    pub fn in_memory(size_bytes: u64) -> Tap {
        let options = TapOptions { size_bytes, read_only: false, host_sync: false };
        Tap::new(Backing::Memory(Vec::new()), options)
    }

    fn new(backing: Backing, options: TapOptions) -> Tap {
        Tap {
            backing,
            options,
            at: 0,
            block: 0,
            end: 0,
            blocks: 0,
            is_sealed: false,
            is_dirty: false,
            is_ragged: false,
            known: None,
            extensible: None,
        }
    }

    /// Walks over all of it and finds where the data end.
    fn survey(&mut self) -> Result<(), IoError> {
        self.end = self.backing.len()?;
        loop {
            match self.find(self.at) {
                Ok(Some(place)) => {
                    // The next header is read along with the trailer.
                    let mut words = [0; 8];
                    let whole = match place.item {
                        Item::Mark => true,
                        Item::Record { .. } => {
                            let got = self.backing.read(place.end - 4, &mut words, &mut [])?;
                            let [a, b, c, d, e, f, g, h] = words;
                            if got == 8 {
                                self.known = Some((place.end, u32::from_le_bytes([e, f, g, h])));
                            }
                            got >= 4 && u32::from_le_bytes([a, b, c, d]) == header(place.item)
                        }
                    };
                    if !whole {
                        self.end = place.first;
                        break;
                    }
                    (self.at, self.block) = (place.end, self.block + 1);
                }
                Ok(None) => break,
                Err(IoError::Media(_)) => {
                    self.end = self.at;
                    break;
                }
                Err(why) => return Err(why),
            }
        }
        // Gaps before the end of the data stay, whatever is written next comes behind them.
        self.end = self.end_from(self.at)?;
        self.is_sealed = self.word(self.end)? == Some(END_OF_MEDIUM);
        self.blocks = self.block;
        let rest = self.backing.len()?.saturating_sub(self.end);
        if rest > 0 && !self.is_sealed {
            log::warn!(target: "medium", "tape: {rest} bytes from byte {} make no sense", self.end);
        }
        (self.at, self.block) = (0, 0);
        Ok(())
    }

    /// The byte behind the gaps at `at`, at most the end of the data.
    fn end_from(&self, at: u64) -> Result<u64, IoError> {
        let mut at = at;
        while at < self.end {
            match self.word(at)?.map(meaning) {
                Some(Word::Skip(bytes)) if at + bytes <= self.end => at += bytes,
                _ => break,
            }
        }
        Ok(at)
    }

    /// The word at a byte; `None` where the file has ended.
    fn word(&self, at: u64) -> Result<Option<u32>, IoError> {
        if let Some((place, word)) = self.known
            && place == at
        {
            return Ok(Some(word));
        }
        let mut bytes = [0; 4];
        let got = self.backing.read(at, &mut bytes, &mut [])?;
        Ok((got == 4).then(|| u32::from_le_bytes(bytes)))
    }

    fn nonsense(at: u64) -> IoError {
        IoError::Media(super::sector_of(at))
    }

    /// The first item at or behind a byte; `None`: the data end before.
    fn find(&self, from: u64) -> Result<Option<Place>, IoError> {
        let mut at = from;
        while at < self.end {
            let Some(word) = self.word(at)? else { return Ok(None) };
            let after = match meaning(word) {
                Word::End => return Ok(None),
                Word::Nonsense => return Err(Tap::nonsense(at)),
                Word::Skip(bytes) => at + bytes,
                Word::Private => {
                    let after = at + 8 + padded(word & LENGTH);
                    if after > self.end || self.word(after - 4)? != Some(word) {
                        return Err(Tap::nonsense(at));
                    }
                    after
                }
                Word::Item(item) => {
                    let end = match item {
                        Item::Mark => at + 4,
                        Item::Record { bytes, .. } => at + 8 + padded(bytes),
                    };
                    if end > self.end {
                        return Err(Tap::nonsense(at));
                    }
                    return Ok(Some(Place { item, first: at, end }));
                }
            };
            at = after;
        }
        Ok(None)
    }

    /// The last item that ends at or before a byte; `None`: the beginning of the tape.
    fn find_back(&self, from: u64) -> Result<Option<Place>, IoError> {
        let mut at = from;
        while at >= 4 {
            let word = self.word(at - 4)?.ok_or_else(|| Tap::nonsense(at))?;
            let back = match meaning(word) {
                // The upper half of a gap, behind something that ends with whatever it ends.
                _ if word >> 16 == 0xffff && word != GAP => 2,
                Word::Skip(bytes) => bytes,
                Word::End | Word::Nonsense => return Err(Tap::nonsense(at)),
                Word::Private => 8 + padded(word & LENGTH),
                Word::Item(item) => {
                    let bytes = match item {
                        Item::Mark => 4,
                        Item::Record { bytes, .. } => 8 + padded(bytes),
                    };
                    let first = at.checked_sub(bytes).ok_or_else(|| Tap::nonsense(at))?;
                    return Ok(Some(Place { item, first, end: at }));
                }
            };
            at = at.checked_sub(back).ok_or_else(|| Tap::nonsense(at))?;
        }
        Ok(None)
    }

    /// Items before the head.
    #[must_use]
    pub fn block(&self) -> u64 {
        self.block
    }

    /// Byte of the file at which the head stands: how far along the tape it is.
    #[must_use]
    pub fn byte(&self) -> u64 {
        self.at
    }

    /// Byte at which the data end.
    #[must_use]
    pub fn end_byte(&self) -> u64 {
        self.end
    }

    /// How much the tape holds, in bytes of the file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.options.size_bytes
    }

    /// Whether writes are refused.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    /// To the beginning.
    pub fn rewind(&mut self) {
        (self.at, self.block, self.extensible) = (0, 0, None);
    }

    /// Behind the last item.
    pub fn to_end(&mut self) {
        (self.at, self.block, self.extensible) = (self.end, self.blocks, None);
    }

    /// What the head would meet next.
    ///
    /// # Errors
    /// `Media` where the file makes no sense; the host's.
    pub fn peek(&self) -> Result<Option<Item>, IoError> {
        Ok(self.find(self.at)?.map(|place| place.item))
    }

    /// Over the next item; `None`: the data end here, the head has not moved.
    ///
    /// # Errors
    /// Those of [`Tap::peek`].
    pub fn forward(&mut self) -> Result<Option<Item>, IoError> {
        self.extensible = None;
        let Some(place) = self.find(self.at)? else { return Ok(None) };
        (self.at, self.block) = (place.end, self.block + 1);
        Ok(Some(place.item))
    }

    /// Back over the item before; `None`: the tape begins here.
    ///
    /// # Errors
    /// Those of [`Tap::peek`].
    pub fn backward(&mut self) -> Result<Option<Item>, IoError> {
        self.extensible = None;
        let Some(place) = self.find_back(self.at)? else {
            self.at = 0;
            return Ok(None);
        };
        (self.at, self.block) = (place.first, self.block.saturating_sub(1));
        Ok(Some(place.item))
    }

    /// Over the next item; of a record as much as fits goes into `into`.
    ///
    /// # Errors
    /// `Media` where the file makes no sense or ends early; the host's.
    pub fn read(&mut self, into: &mut [u8]) -> Result<Option<Item>, IoError> {
        self.extensible = None;
        let Some(place) = self.find(self.at)? else { return Ok(None) };
        if let Item::Record { bytes, .. } = place.item {
            self.fetch(place, 0, bytes, into)?;
        }
        (self.at, self.block) = (place.end, self.block + 1);
        Ok(Some(place.item))
    }

    /// More of the record before the head, from byte `from` of it; says how much. The head stays.
    ///
    /// # Errors
    /// Those of [`Tap::read`]; `Invalid` where no record is before the head.
    pub fn read_more(&mut self, from: u64, into: &mut [u8]) -> Result<usize, IoError> {
        let place = self.find_back(self.at)?.filter(|place| place.end == self.at);
        let Some(place @ Place { item: Item::Record { bytes, .. }, .. }) = place else {
            return Err(IoError::Invalid);
        };
        self.fetch(place, from, bytes, into)
    }

    /// Part of a record from byte `from`, and the next header with it when it goes to the end.
    fn fetch(
        &mut self,
        place: Place,
        from: u64,
        bytes: u32,
        into: &mut [u8],
    ) -> Result<usize, IoError> {
        let there = u64::from(bytes).saturating_sub(from);
        let len = usize::try_from(there).unwrap_or(usize::MAX).min(into.len());
        let mut tail = [0; 9];
        let pad = usize::from(bytes % 2 == 1);
        let tail_len = if len as u64 == there { pad + 8 } else { 0 };
        let at = place.first + 4 + from;
        let got = self.backing.read(at, &mut into[..len], &mut tail[..tail_len])?;
        if got < len {
            return Err(Tap::nonsense(at));
        }
        if tail_len > 0 && got == len + tail_len {
            let [a, b, c, d] = [4, 5, 6, 7].map(|byte| tail[pad + byte]);
            self.known = Some((place.end, u32::from_le_bytes([a, b, c, d])));
        }
        Ok(len)
    }

    /// Makes this the end of the data: nothing that stood behind the head is on the tape any more.
    fn cut(&mut self) -> Result<(), IoError> {
        if self.options.read_only {
            return Err(IoError::WriteProtected);
        }
        if self.at < self.end || !self.is_sealed {
            (self.is_dirty, self.is_ragged) = (true, true);
            (self.known, self.extensible) = (None, None);
            self.backing.write(self.at, &END_OF_MEDIUM.to_le_bytes(), &[])?;
            (self.end, self.blocks, self.is_sealed) = (self.at, self.block, true);
        }
        Ok(())
    }

    fn check_room(&self, first: u64, bytes: u64) -> Result<(), IoError> {
        let after = first.saturating_add(bytes);
        if after > self.options.size_bytes { Err(IoError::Range) } else { Ok(()) }
    }

    /// Writes a record.
    ///
    /// # Errors
    /// `Range` when it does not fit on the tape, `Invalid` when it is empty or longer than a record
    /// can be, `WriteProtected`; the host's. The tape then ends where the head stands.
    pub fn write(&mut self, data: &[u8]) -> Result<(), IoError> {
        let bytes = record_bytes(data.len() as u64)?;
        if self.options.read_only {
            return Err(IoError::WriteProtected);
        }
        let first = self.at;
        self.check_room(first, 8 + padded(bytes))?;
        self.cut()?;
        self.known = None;
        self.is_ragged = true; // the file may be longer now than its data, also where that fails
        let mut tail = [0; 9];
        let tail = closing(bytes, &mut tail);
        self.backing.write(first + 4, data, tail)?;
        self.backing.write(first, &bytes.to_le_bytes(), &[])?;
        self.wrote(first + 8 + padded(bytes), 1);
        self.extensible = Some(first);
        Ok(())
    }

    /// Makes the record just written longer.
    ///
    /// # Errors
    /// Those of [`Tap::write`]; `Invalid` unless the last thing done was to write a record. After
    /// `Range` and `Invalid` the record is as it was; after others it may be off the tape.
    pub fn extend(&mut self, data: &[u8]) -> Result<(), IoError> {
        let first = self.extensible.ok_or(IoError::Invalid)?;
        let before = self.word(first)?.ok_or_else(|| Tap::nonsense(first))?;
        let bytes = record_bytes(u64::from(before) + data.len() as u64)?;
        self.check_room(first, 8 + padded(bytes))?;
        let mut tail = [0; 9];
        let tail = closing(bytes, &mut tail);
        // Until the header says otherwise the record breaks off: the tape ends before it.
        (self.at, self.end) = (first, first);
        (self.block, self.blocks) = (self.block - 1, self.blocks - 1);
        (self.is_sealed, self.is_ragged) = (false, true);
        self.extensible = None;
        self.backing.write(first + 4 + u64::from(before), data, tail)?;
        self.backing.write(first, &bytes.to_le_bytes(), &[])?;
        self.wrote(first + 8 + padded(bytes), 1);
        self.extensible = Some(first);
        Ok(())
    }

    /// Writes marks, `count` or as many as go at once; says how many.
    ///
    /// # Errors
    /// Those of [`Tap::write`]; `Range` when not one fits.
    pub fn mark(&mut self, count: u64) -> Result<u64, IoError> {
        if self.options.read_only {
            return Err(IoError::WriteProtected);
        }
        let first = self.at;
        let room = self.options.size_bytes.saturating_sub(first) / 4;
        let count = count.min(room).min(MARKS.len() as u64 / 4 + 1);
        if count == 0 {
            return Err(IoError::Range);
        }
        self.cut()?;
        self.known = None;
        // The last of them first, so that the first makes all of them valid.
        let rest = usize::try_from((count - 1) * 4).map_err(|_| IoError::Invalid)?;
        self.backing.write(first + 4, &MARKS[..rest], &END_OF_MEDIUM.to_le_bytes())?;
        self.backing.write(first, &[0; 4], &[])?;
        self.wrote(first + count * 4, count);
        self.extensible = None;
        Ok(count)
    }

    fn wrote(&mut self, end: u64, items: u64) {
        (self.is_dirty, self.is_ragged, self.is_sealed) = (true, true, true);
        (self.at, self.end) = (end, end);
        self.block += items;
        self.blocks = self.block;
    }

    /// Erases what is behind the head.
    ///
    /// # Errors
    /// `WriteProtected`; the host's.
    pub fn erase(&mut self) -> Result<(), IoError> {
        self.extensible = None;
        self.cut()?;
        self.trim()
    }

    /// Gives the host back what stands behind the end of the data, if it came there by writing.
    ///
    /// # Errors
    /// The host's.
    pub fn trim(&mut self) -> Result<(), IoError> {
        if std::mem::take(&mut self.is_ragged) && self.is_sealed {
            let len = self.end + 4;
            if self.backing.len()? > len {
                self.is_dirty = true;
                self.backing.set_len(len)?;
            }
        }
        Ok(())
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// `Hardware` when the host could not keep it; `NoSpace`.
    pub fn flush(&mut self) -> Result<(), IoError> {
        if self.is_dirty && self.options.host_sync {
            self.backing.sync()?;
        }
        self.is_dirty = false;
        Ok(())
    }
}

fn record_bytes(bytes: u64) -> Result<u32, IoError> {
    if bytes == 0 || bytes > RECORD_BYTES_MAX {
        return Err(IoError::Invalid);
    }
    u32::try_from(bytes).map_err(|_| IoError::Invalid)
}

/// What stands behind the data of a record that is the last: padding, trailer, end of medium.
fn closing(bytes: u32, into: &mut [u8; 9]) -> &[u8] {
    let pad = usize::from(bytes % 2 == 1);
    into[pad..pad + 4].copy_from_slice(&bytes.to_le_bytes());
    into[pad + 4..pad + 8].copy_from_slice(&END_OF_MEDIUM.to_le_bytes());
    &into[..pad + 8]
}

impl Drop for Tap {
    fn drop(&mut self) {
        if let Err(why) = self.trim() {
            log::warn!(target: "medium", "tape: cannot be cut to its data: {why}");
        }
    }
}

#[cfg(test)]
#[path = "tap_tests.rs"]
mod tests;
