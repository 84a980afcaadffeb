//! Tables made by hand, by real tools, and by chance.

use super::*;
use crate::error::Errno;
use proptest::prelude::*;
use std::io::Write;
use std::process::{Command, Stdio};

/// An image in memory; sectors in the range cannot be read.
struct Image(Vec<u8>, std::ops::Range<u64>);

impl ReadAt for Image {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<(), Error> {
        let from = usize::try_from(at).unwrap();
        if self.1.contains(&at) {
            return Err(Error::plain(Errno::EIO));
        }
        buf.copy_from_slice(self.0.get(from..from + buf.len()).ok_or(Errno::EIO)?);
        Ok(())
    }
}

const MIB: usize = 1 << 20;

fn parse(image: &[u8], sector: u32) -> Vec<Partition> {
    read(&Image(image.to_vec(), 0..0), image.len() as u64, sector).unwrap()
}

fn places(found: &[Partition]) -> Vec<(u32, u64, u64)> {
    found.iter().map(|p| (p.number, p.start_sector, p.sectors)).collect()
}

/// Writes a table of two-to-four entries of (type, start, sectors) into the sector at `at`.
fn put_table(image: &mut [u8], at: usize, entries: &[(u8, u32, u32)]) {
    for (n, (kind, start, sectors)) in entries.iter().enumerate() {
        let entry = &mut image[at + ENTRIES_AT + 16 * n..][..16];
        entry[4] = *kind;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..].copy_from_slice(&sectors.to_le_bytes());
    }
    image[at + 510..at + 512].copy_from_slice(&[0x55, 0xaa]);
}

/// Writes a GPT header and the entries (start, end, name) for sector size `sector`.
fn put_gpt(image: &mut [u8], sector: usize, at: u64, array_at: u64, entries: &[(u64, u64, &str)]) {
    let offset = usize::try_from(array_at).unwrap() * sector;
    let array = &mut image[offset..offset + 128 * 128];
    array.fill(0);
    for (n, (start, end, name)) in entries.iter().enumerate() {
        let entry = &mut array[128 * n..][..128];
        entry[..16]
            .copy_from_slice(&[0xaf, 0x3d, 0xc6, 0x0f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        entry[32..40].copy_from_slice(&start.to_le_bytes());
        entry[40..48].copy_from_slice(&end.to_le_bytes());
        for (n, unit) in name.encode_utf16().enumerate() {
            entry[56 + 2 * n..][..2].copy_from_slice(&unit.to_le_bytes());
        }
    }
    let sum = crc32(array);
    let last = (image.len() / sector) as u64 - 1;
    let header = &mut image[usize::try_from(at).unwrap() * sector..][..sector];
    header.fill(0);
    header[..8].copy_from_slice(b"EFI PART");
    header[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
    header[24..32].copy_from_slice(&at.to_le_bytes());
    header[32..40].copy_from_slice(&(last + 1 - at).to_le_bytes());
    header[72..80].copy_from_slice(&array_at.to_le_bytes());
    header[80..88].copy_from_slice(&[128, 0, 0, 0, 128, 0, 0, 0]);
    header[88..92].copy_from_slice(&sum.to_le_bytes());
    let sum = crc32(&header[..92]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
}

fn gpt_image(sector: usize, entries: &[(u64, u64, &str)]) -> Vec<u8> {
    let mut image = vec![0; 4 * MIB];
    let last = (image.len() / sector) as u64 - 1;
    let array_sectors = (16384 / sector) as u64;
    put_table(&mut image, 0, &[(PROTECTIVE, 1, u32::MAX)]);
    put_gpt(&mut image, sector, 1, 2, entries);
    put_gpt(&mut image, sector, last, last - array_sectors, entries);
    image
}

#[test]
fn checksums_are_those_of_the_standard() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn a_disk_without_a_table_has_no_partitions() {
    assert_eq!(parse(&vec![0; MIB], 512), []);
    assert_eq!(parse(&[], 512), []);
    assert_eq!(parse(&vec![0xff; MIB], 4096), []);
}

#[test]
fn primary_partitions_keep_the_number_of_their_entry() {
    for sector in [512, 4096] {
        let mut image = vec![0; 4 * MIB];
        put_table(&mut image, 0, &[(0, 0, 0), (0x83, 64, 100), (0, 9, 9), (0x0c, 300, 50)]);
        let found = parse(&image, sector);
        let units = u64::from(sector / 512);
        assert_eq!(places(&found), [(2, 64 * units, 100 * units), (4, 300 * units, 50 * units)]);
        assert_eq!((found[0].kind.as_str(), found[1].kind.as_str()), ("0x83", "0x0c"));
    }
}

#[test]
fn what_reaches_beyond_the_disk_is_clipped_or_left_out_and_overlaps_stay() {
    let mut image = vec![0; MIB];
    let all = u32::MAX;
    put_table(&mut image, 0, &[(0x83, 2000, all), (0x83, 2048, 8), (0x83, all, all), (7, 0, 64)]);
    assert_eq!(places(&parse(&image, 512)), [(1, 2000, 48), (4, 0, 64)]);
}

#[test]
fn a_boot_sector_of_a_file_system_is_no_table() {
    let mut image = vec![0; MIB];
    put_table(&mut image, 0, &[(0x83, 64, 100)]);
    image[ENTRIES_AT + 16] = 0x42;
    assert_eq!(parse(&image, 512), []);
    image[ENTRIES_AT + 16] = 0x80;
    assert_eq!(parse(&image, 512).len(), 1);
}

#[test]
fn logical_partitions_begin_with_five() {
    let mut image = vec![0; 4 * MIB];
    put_table(&mut image, 0, &[(0x83, 64, 100), (0x05, 1000, 3000)]);
    put_table(&mut image, 1000 * 512, &[(0x83, 10, 100), (0x05, 500, 200)]);
    put_table(&mut image, 1500 * 512, &[(0x82, 20, 50)]);
    let found = places(&parse(&image, 512));
    assert_eq!(found, [(1, 64, 100), (2, 1000, 2), (5, 1010, 100), (6, 1520, 50)]);
}

#[test]
fn a_chain_that_loops_is_cut() {
    let mut image = vec![0; 4 * MIB];
    put_table(&mut image, 0, &[(0x0f, 1000, 3000), (0x05, 1000, 3000)]);
    put_table(&mut image, 1000 * 512, &[(0x83, 10, 100), (0x05, 500, 200)]);
    put_table(&mut image, 1500 * 512, &[(0x83, 10, 100), (0x05, 0, 200)]);
    let found = parse(&image, 512);
    assert_eq!(found.len(), 2 + CHAIN_MAX as usize);
    put_table(&mut image, 0, &[(0x0f, 0, 3000), (0, 0, 0)]);
    assert_eq!(parse(&image, 512).len(), 1, "an extended partition that holds the MBR");
}

#[test]
fn a_gpt_is_read_with_names_and_types() {
    for sector in [512, 4096] {
        let entries = [(64, 127, "boot"), (0, 0, ""), (200, 200, "na\u{ef}ve\n"), (128, 900, "")];
        let mut image = gpt_image(sector, &entries);
        let found = parse(&image, u32::try_from(sector).unwrap());
        let units = (sector / 512) as u64;
        let want = [(1, 64, 64), (2, 0, 1), (3, 200, 1), (4, 128, 773)];
        assert_eq!(places(&found), want.map(|(n, at, len)| (n, at * units, len * units)));
        assert_eq!((found[0].name.as_str(), found[2].name.as_str()), ("boot", "na\u{ef}ve?"));
        assert_eq!(found[0].kind, "0FC63DAF-0201-0403-0506-0708090A0B0C");
        image[sector + 60] ^= 1; // a header that is damaged
        assert_eq!(parse(&image, u32::try_from(sector).unwrap()), found);
        image[2 * sector + 130] ^= 1; // and its entries
        assert_eq!(parse(&image, u32::try_from(sector).unwrap()), found);
        let last = image.len() - 1 - 100;
        image[last - sector / 2] ^= 1;
        let end = image.len();
        image[end - sector..].fill(0);
        assert_eq!(parse(&image, u32::try_from(sector).unwrap()), [], "not even the backup");
    }
}

#[test]
fn entries_that_are_damaged_are_taken_from_the_backup() {
    let mut image = gpt_image(512, &[(64, 127, "a")]);
    image[1024 + 40] ^= 1;
    assert_eq!(places(&parse(&image, 512)), [(1, 64, 64)]);
}

#[test]
fn a_gpt_on_a_disk_that_grew_finds_its_backup_where_the_header_says() {
    let mut image = gpt_image(512, &[(64, 127, "a")]);
    image.resize(8 * MIB, 0);
    image[1024 + 40] ^= 1;
    assert_eq!(places(&parse(&image, 512)), [(1, 64, 64)]);
}

#[test]
fn sectors_that_cannot_be_read_are_done_without_where_possible() {
    let image = gpt_image(512, &[(64, 127, "a")]);
    let len = image.len() as u64;
    let found = read(&Image(image.clone(), 512..1024), len, 512).unwrap();
    assert_eq!(places(&found), [(1, 64, 64)]);
    assert!(read(&Image(image, 0..512), len, 512).is_err());
}

#[test]
fn a_write_to_the_table_is_told_from_a_write_elsewhere() {
    let disk = 64 << 20;
    for (at, len, touches) in [
        (0, 1, true),
        (512, 512, true),
        (16896, 512, true),
        (1 << 20, 4096, false),
        (disk - 512, 512, true),
        (disk - 17000, 1, true),
        (disk - (1 << 20), 4096, false),
        (disk - (1 << 20), 1 << 20, true),
        (1 << 20, u64::MAX, true),
        (0, 0, false),
        (disk, 5, false),
    ] {
        assert_eq!(touches_table(at, len, disk), touches, "{at}+{len}");
    }
    assert!(touches_table(100, 1, 512) && !touches_table(0, 1, 0));
}

/// Runs a partitioning tool on a sparse file and gives its first bytes back; `None`, loudly, when
/// this machine does not have the tool.
fn by_tool(tool: &str, args: &[&str], input: &str, bytes: u64) -> Option<Vec<u8>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(bytes).unwrap();
    let mut child = match Command::new(tool)
        .args(args)
        .arg(file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => {
            eprintln!("SKIPPED: a partition table made by {tool}: {error}");
            return None;
        }
    };
    // A tool that refuses its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    if words.contains("unrecognized option") {
        eprintln!("SKIPPED: a partition table made by {tool} {args:?}: {words}");
        return None;
    }
    assert!(output.status.success(), "{tool} {args:?}: {words}");
    Some(std::fs::read(file.path()).unwrap())
}

#[test]
fn tables_of_sfdisk_are_understood() {
    let script =
        "label: dos\n2048 8192 83\n16384 8192 c\n32768 65536 5\n34816 4096\n43008 4096 82\n";
    if let Some(image) = by_tool("sfdisk", &["-q"], script, 64 << 20) {
        let found = parse(&image, 512);
        let want = [(1, 2048, 8192), (2, 16384, 8192), (3, 32768, 2), (5, 34816, 4096)];
        assert_eq!(places(&found)[..4], want);
        assert_eq!((places(&found)[4], found[4].kind.as_str()), ((6, 43008, 4096), "0x82"));
    }
    let script = "label: gpt\nstart=2048, size=8192, name=boot\nsize=16384, type=U\n";
    if let Some(image) = by_tool("sfdisk", &["-q"], script, 64 << 20) {
        let found = parse(&image, 512);
        assert_eq!(places(&found), [(1, 2048, 8192), (2, 10240, 16384)]);
        assert_eq!(found[0].name, "boot");
        assert_eq!(found[0].kind, "0FC63DAF-8483-4772-8E79-3D69D8477DE4");
        assert_eq!(found[1].kind, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B");
    }
    let script = "label: gpt\nstart=256, size=1024\nsize=2048\n";
    if let Some(image) = by_tool("sfdisk", &["-q", "--sector-size", "4096"], script, 64 << 20) {
        assert_eq!(places(&parse(&image, 4096)), [(1, 2048, 8192), (2, 10240, 16384)]);
    }
}

#[test]
fn tables_of_sgdisk_are_understood_and_its_backup_too() {
    let args = ["-n", "1:2048:10239", "-c", "1:first", "-n", "5:20480:+8M", "-t", "5:8200"];
    let Some(mut image) = by_tool("sgdisk", &args, "", 64 << 20) else { return };
    let found = parse(&image, 512);
    assert_eq!(places(&found), [(1, 2048, 8192), (5, 20480, 16384)]);
    assert_eq!(
        (found[0].name.as_str(), found[1].kind.as_str()),
        ("first", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F")
    );
    image[512..1024].fill(0xff);
    assert_eq!(parse(&image, 512), found);
}

proptest! {
    /// Whatever stands in the sectors that a table may be in: no panic, no endless loop, nothing
    /// outside the disk.
    #[test]
    fn hostile_tables_do_no_harm(
        is_gpt in any::<bool>(),
        big_sector in any::<bool>(),
        entries in prop::collection::vec((0..64u64, 0..64u64), 1..6),
        noise in prop::collection::vec((0..40000usize, any::<u8>()), 0..40),
        links in prop::collection::vec((0..9000u32, any::<u8>(), any::<u32>(), 0..9000u32), 0..8),
        mends_sums in any::<bool>(),
    ) {
        let sector = if big_sector { 4096 } else { 512 };
        let entries: Vec<_> = entries.iter().map(|(a, b)| (*a, *b, "x")).collect();
        let mut image = gpt_image(sector, &entries);
        for (at, byte) in &noise {
            // Most of the noise goes where it matters.
            let at = if at % 4 == 0 { *at } else { [446 + at % 66, sector + at % 92][at % 2] };
            image[at] = *byte;
        }
        if !is_gpt {
            for n in 0..4 {
                image[446 + 16 * n + 4] = [0x05, 0x83, 0x0f, 0x07][n];
                image[446 + 16 * n] = 0;
            }
        }
        for (at, kind, start, next) in &links {
            let at = usize::try_from(*at).unwrap() % 1000 * sector;
            put_table(&mut image, at, &[(*kind, *start, *next), (0x05, next % 1000, 1)]);
        }
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        if mends_sums {
            let len = usize::try_from(u32_at(&image, sector + 12)).unwrap().clamp(20, sector);
            image[sector + 16..sector + 20].fill(0);
            let sum = crc32(&image[sector..sector + len]);
            image[sector + 16..sector + 20].copy_from_slice(&sum.to_le_bytes());
        }
        let found = parse(&image, u32::try_from(sector).unwrap());
        let end = (image.len() / 512) as u64;
        prop_assert!(found.iter().all(|p| p.sectors > 0 && p.start_sector + p.sectors <= end));
        prop_assert!(found.is_sorted_by_key(|p| p.number));
    }

    #[test]
    fn random_bytes_do_no_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..9000),
        odd in any::<bool>(),
    ) {
        let mut image = bytes;
        if odd && image.len() > 512 {
            image[510..512].copy_from_slice(&[0x55, 0xaa]);
            (0..4).for_each(|n| image[446 + 16 * n] = 0);
        }
        parse(&image, 512);
        parse(&image, 4096);
    }
}
