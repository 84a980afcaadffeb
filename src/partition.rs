//! Partition tables: what MBR and GPT say about a disk, whatever wrote them.
//!
//! 1. Every byte read is hostile: wrong figures are refused or clipped, chains that loop are cut,
//!    nothing panics and nothing is read more than [`CHAIN_MAX`] times.
//! 2. A disk is a GPT disk when its MBR protects one. The GPT counts whose checksums are right:
//!    the first, else the backup at the end. With neither there are no partitions.
//! 3. The rules of doubt are those of Linux (block/partitions/msdos.c, efi.c), so that the same
//!    image shows the same partitions here and there.

use crate::error::Error;

/// From where a table is read.
pub trait ReadAt {
    /// Fills `buf` with the bytes from `at`; both are multiples of the disk's own sector.
    ///
    /// # Errors
    /// The medium's, or the disk ends before.
    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<(), Error>;
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// From 1, as in `sd0p1`. Logical ones in an extended one begin with 5.
    pub number: u32,
    /// First sector, in units of 512 bytes.
    pub start_sector: u64,
    /// Length, in units of 512 bytes; at least 1, and within the disk.
    pub sectors: u64,
    /// `0x83` in an MBR; the type's GUID in a GPT.
    pub kind: String,
    /// Its name in a GPT; empty in an MBR.
    pub name: String,
}

/// Most links of a chain of logical partitions that are followed.
pub const CHAIN_MAX: u32 = 100;
/// Longest array of GPT entries that is read: 8192 of the usual size.
pub const ENTRIES_BYTES_MAX: usize = 1 << 20;

/// Bytes at the start of a disk that an MBR and a GPT take, with sectors of up to 4096 bytes: one
/// sector each and 16 KiB of entries.
const HEAD_BYTES: u64 = 2 * 4096 + 16384;
/// Bytes at its end that the backup takes.
const TAIL_BYTES: u64 = 4096 + 16384;

/// Whether bytes `at..at + len` of a disk may hold a part of its table.
#[must_use]
pub fn touches_table(at: u64, len: u64, disk_bytes: u64) -> bool {
    let end = at.saturating_add(len).min(disk_bytes);
    at < end && (at < HEAD_BYTES || end > disk_bytes.saturating_sub(TAIL_BYTES))
}

/// The partitions of a disk of `disk_bytes` with sectors of `sector_bytes` (512 or 4096), by
/// number. They may overlap. A disk without a table has none.
///
/// # Errors
/// Those of the source, where nothing can be said without the sector that failed.
pub fn read(
    source: &dyn ReadAt,
    disk_bytes: u64,
    sector_bytes: u32,
) -> Result<Vec<Partition>, Error> {
    let sector = u64::from(sector_bytes).max(512);
    let disk = Disk { source, sector, sectors: disk_bytes / sector };
    if disk.sectors == 0 {
        return Ok(Vec::new());
    }
    let first = disk.read(0, 1)?;
    let Some(entries) = entries(&first) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    if entries.iter().any(|entry| entry.kind == PROTECTIVE) {
        disk.read_gpt(&mut found);
    } else {
        disk.read_mbr(&entries, &mut found);
    }
    found.sort_by_key(|partition| partition.number);
    Ok(found)
}

/// Where the four entries of an MBR begin.
const ENTRIES_AT: usize = 446;
/// Type of the entry by which an MBR protects a GPT.
const PROTECTIVE: u8 = 0xee;
/// Types of the entries that hold logical partitions: of DOS, of Windows, of Linux.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// An entry of an MBR, in sectors of the disk.
#[derive(Clone, Copy)]
struct Entry {
    kind: u8,
    start: u32,
    sectors: u32,
}

impl Entry {
    fn is_extended(self) -> bool {
        EXTENDED.contains(&self.kind)
    }
}

/// The four entries, if this is a sector with a table: signature, and flags that can be right.
fn entries(sector: &[u8]) -> Option<[Entry; 4]> {
    if sector.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let table = sector.get(ENTRIES_AT..510)?;
    if table.chunks_exact(16).any(|entry| entry[0] & 0x7f != 0) {
        return None; // the boot sector of a file system, most likely
    }
    let entry = |n: usize| {
        let (start, sectors) = (u32_at(table, 16 * n + 8), u32_at(table, 16 * n + 12));
        Entry { kind: table[16 * n + 4], start, sectors }
    };
    Some([entry(0), entry(1), entry(2), entry(3)])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// A disk whose table is read; all numbers are in its own sectors.
struct Disk<'a> {
    source: &'a dyn ReadAt,
    /// Bytes in a sector.
    sector: u64,
    sectors: u64,
}

impl Disk<'_> {
    fn read(&self, at: u64, sectors: u64) -> Result<Vec<u8>, Error> {
        let bytes = usize::try_from(sectors * self.sector).unwrap_or(0);
        let mut memory = vec![0; bytes];
        self.source.read_at(at * self.sector, &mut memory)?;
        Ok(memory)
    }

    /// Notes a partition, clipped to the disk; one beyond its end is left out.
    fn note(&self, found: &mut Vec<Partition>, at: (u32, u64, u64), kind: String, name: String) {
        let (number, start, sectors) = at;
        let left = self.sectors.saturating_sub(start);
        if left == 0 || sectors == 0 {
            return;
        }
        let units = self.sector / 512;
        let (start_sector, sectors) = (start * units, sectors.min(left) * units);
        found.push(Partition { number, start_sector, sectors, kind, name });
    }

    fn note_mbr(&self, found: &mut Vec<Partition>, number: u32, start: u64, entry: Entry) {
        let whole = u64::from(entry.sectors);
        // Of an extended one only the first KiB can be used, as a place for a boot loader.
        let room = if entry.is_extended() { whole.min((1024 / self.sector).max(1)) } else { whole };
        let kind = format!("{:#04x}", entry.kind);
        self.note(found, (number, start, room), kind, String::new());
    }

    fn read_mbr(&self, entries: &[Entry; 4], found: &mut Vec<Partition>) {
        let mut last_number = 4;
        let mut links = CHAIN_MAX;
        for (number, entry) in (1..).zip(entries) {
            if entry.kind == 0 || entry.sectors == 0 {
                continue;
            }
            self.note_mbr(found, number, u64::from(entry.start), *entry);
            if entry.is_extended() {
                let base = u64::from(entry.start);
                self.follow_chain(base, &mut last_number, &mut links, found);
            }
        }
    }

    /// The logical partitions of the extended one at `base`: each link is a table of two, the
    /// partition (counted from the link) and the next link (counted from `base`).
    fn follow_chain(
        &self,
        base: u64,
        last_number: &mut u32,
        links: &mut u32,
        found: &mut Vec<Partition>,
    ) {
        let mut at = base;
        while *links > 0 && at < self.sectors && at > 0 {
            *links -= 1;
            let Ok(sector) = self.read(at, 1) else { return };
            let Some(table) = entries(&sector) else { return };
            let used = |entry: &&Entry| entry.kind != 0 && entry.sectors != 0;
            for entry in table[..2].iter().filter(used).filter(|entry| !entry.is_extended()) {
                *last_number += 1;
                self.note_mbr(found, *last_number, at + u64::from(entry.start), *entry);
            }
            let next = table.iter().filter(used).find(|entry| entry.is_extended());
            let Some(next) = next else { return };
            at = base + u64::from(next.start);
        }
    }

    fn read_gpt(&self, found: &mut Vec<Partition>) {
        let last = self.sectors - 1;
        let first = self.gpt_header(1);
        let elsewhere = first.as_ref().map(|header| header.backup);
        let Some(entries) =
            first.as_ref().and_then(|header| self.gpt_entries(header)).or_else(|| {
                log::warn!(target: "partition", "the GPT is damaged; looking for its backup");
                let backups = [Some(last), elsewhere].into_iter().flatten();
                backups.filter_map(|at| self.gpt_entries(&self.gpt_header(at)?)).next()
            })
        else {
            log::warn!(target: "partition", "neither the GPT nor its backup can be used");
            return;
        };
        for (number, entry) in (1..).zip(entries) {
            let (start, end) = (u64_at(&entry, 32), u64_at(&entry, 40));
            if entry[..16] == [0; 16] || end < start || start >= self.sectors {
                continue;
            }
            let sectors = (end - start).saturating_add(1);
            let (kind, name) = (guid(&entry), name(&entry[56..128]));
            self.note(found, (number, start, sectors), kind, name);
        }
    }

    /// The header in sector `at`, if it is whole and says that it is there.
    fn gpt_header(&self, at: u64) -> Option<GptHeader> {
        if at == 0 || at >= self.sectors {
            return None;
        }
        let mut sector = self.read(at, 1).ok()?;
        let len = usize::try_from(u32_at(&sector, 12)).ok()?;
        if &sector[..8] != b"EFI PART"
            || len < 92
            || len > sector.len()
            || u64_at(&sector, 24) != at
        {
            return None;
        }
        let sum = u32_at(&sector, 16);
        sector[16..20].fill(0);
        let header = GptHeader {
            backup: u64_at(&sector, 32),
            entries_at: u64_at(&sector, 72),
            entries: u32_at(&sector, 80),
            entry_bytes: u32_at(&sector, 84),
            entries_sum: u32_at(&sector, 88),
        };
        (crc32(&sector[..len]) == sum).then_some(header)
    }

    /// The entries that belong to a header, if they are whole.
    fn gpt_entries(&self, header: &GptHeader) -> Option<Vec<Vec<u8>>> {
        let entry_bytes = usize::try_from(header.entry_bytes).ok()?;
        let bytes = usize::try_from(header.entries).ok()?.checked_mul(entry_bytes)?;
        if !entry_bytes.is_power_of_two() || entry_bytes < 128 || bytes > ENTRIES_BYTES_MAX {
            return None;
        }
        let sectors = (bytes as u64).div_ceil(self.sector);
        let end = header.entries_at.checked_add(sectors)?;
        if header.entries_at < 2 || end > self.sectors || bytes == 0 {
            return None;
        }
        let mut array = self.read(header.entries_at, sectors).ok()?;
        array.truncate(bytes);
        let is_whole = crc32(&array) == header.entries_sum;
        is_whole.then(|| array.chunks_exact(entry_bytes).map(<[u8]>::to_vec).collect())
    }
}

/// What a GPT header (UEFI 2.10, table 5.5) says of its entries and of its twin.
struct GptHeader {
    backup: u64,
    entries_at: u64,
    entries: u32,
    entry_bytes: u32,
    entries_sum: u32,
}

/// A GUID as it is written: the first three fields are little-endian (UEFI 2.10, appendix A).
fn guid(bytes: &[u8]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::new();
    for (place, byte) in order.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02X}", bytes[*byte]));
    }
    text
}

/// A name in UTF-16, up to its NUL. What cannot be shown on one line becomes `?`.
fn name(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text = char::decode_utf16(units.take_while(|unit| *unit != 0));
    text.map(|c| c.ok().filter(|c| !c.is_control()).unwrap_or('?')).collect()
}

/// CRC-32 as in Ethernet: polynomial 0x04c11db7, reflected.
fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
        }
    }
    !sum
}

#[cfg(test)]
mod tests;
