//! Windows on files of a real tmpfs: what is put there, and what becomes of it when somebody else
//! cuts the file. Where the host has no tmpfs, or makes no large pages, they only see that.

use super::super::tap::{Item, Tap};
use super::super::tap_host::TapOptions;
use super::*;
use std::path::PathBuf;

const MIB: u64 = 1 << 20;

/// A file on tmpfs and a window on it, of which the first extent is one page.
fn window() -> Option<(tempfile::NamedTempFile, Window)> {
    let host = tempfile::NamedTempFile::new_in("/dev/shm").ok()?;
    let mut window = Window::over(host.as_file(), 7 * MIB)?;
    window.put(host.as_file(), 0, &[1; WRITE_BYTES_MIN], &[]).then_some((host, window))
}

fn bytes(host: &tempfile::NamedTempFile) -> Vec<u8> {
    std::fs::read(host.path()).unwrap()
}

#[test]
fn what_is_put_is_in_the_file_at_its_place() {
    let Some((host, mut window)) = window() else { return };
    let data: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
    for at in [4, 17, 0x1f_fff1, 0x20_0000] {
        let before = bytes(&host);
        let end = at + data.len() + 9;
        assert!(window.put(host.as_file(), at as u64, &data, b"behind it"));
        let now = bytes(&host);
        assert_eq!(now[at..end], [&data[..], b"behind it"].concat());
        assert_eq!(now[..at], before[..at]);
        assert!(before.len() <= end || now[end..before.len()] == before[end..]);
        assert!(now[before.len().max(end)..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn short_writes_and_places_outside_are_left_to_others() {
    let Some((host, mut window)) = window() else { return };
    let before = bytes(&host);
    let data = [7; WRITE_BYTES_MIN];
    assert!(!window.put(host.as_file(), 0, &data[1..], &[]));
    for at in [8 * MIB, 8 * MIB - 1, u64::MAX] {
        assert!(!window.put(host.as_file(), at, &data, &[]));
    }
    assert!(window.put(host.as_file(), 8 * MIB - data.len() as u64, &data, &[]));
    assert_eq!(bytes(&host)[..before.len()], before);
}

#[test]
fn a_refusal_leaves_the_file_as_it_was() {
    let Some((host, mut window)) = window() else { return };
    let len = bytes(&host).len();
    let read_only = File::open(host.path()).unwrap();
    assert!(!window.put(&read_only, 2 * MIB, &[7; WRITE_BYTES_MIN], &[]));
    assert!(window.is_spent);
    assert!(!window.put(host.as_file(), 2 * MIB, &[7; WRITE_BYTES_MIN], &[]));
    assert_eq!(bytes(&host).len(), len);
    assert!(window.put(host.as_file(), 0, &[7; WRITE_BYTES_MIN], &[]));
}

#[test]
fn what_was_cut_off_is_made_again() {
    let Some((host, mut window)) = window() else { return };
    for len in [0, 5, 4096, 2 * MIB] {
        assert!(window.put(host.as_file(), MIB, &vec![3; 3 << 20], &[]));
        host.as_file().set_len(len).unwrap();
        window.cut(len);
        assert!(window.put(host.as_file(), MIB, &vec![4; 3 << 20], &[]));
        let now = bytes(&host);
        assert!(now[1 << 20..4 << 20].iter().all(|byte| *byte == 4));
    }
}

#[test]
fn a_file_cut_by_somebody_else_is_found_out_and_ends_nobody() {
    let Some((host, mut window)) = window() else { return };
    host.as_file().set_len(8192).unwrap();
    assert!(!window.put(host.as_file(), 4096, &[9; WRITE_BYTES_MIN], &[]));
    assert!(window.is_spent);
    assert!(!window.put(host.as_file(), 0, &[9; WRITE_BYTES_MIN], &[]));
    assert_eq!(bytes(&host).len(), 8192);
}

#[test]
fn nothing_is_mapped_when_it_is_closed() {
    let Some((host, window)) = window() else { return };
    let name = host.path().display().to_string();
    let is_mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().contains(&name);
    assert!(is_mapped());
    drop(window);
    assert!(!is_mapped());
}

#[test]
fn a_disk_has_no_window() {
    assert!(Window::over(&File::open("/proc/self/maps").unwrap(), MIB).is_none());
}

/// A tape on tmpfs, whatever the host makes of it.
fn tape() -> Option<(tempfile::TempDir, PathBuf, Tap)> {
    let dir = tempfile::tempdir_in("/dev/shm").ok()?;
    let path = dir.path().join("st0.tap");
    let tap = open(&path);
    Some((dir, path, tap))
}

fn open(path: &std::path::Path) -> Tap {
    let options = TapOptions { size_bytes: 64 * MIB, read_only: false, host_sync: false };
    Tap::open(path, options).unwrap()
}

fn record(number: u8) -> Vec<u8> {
    vec![number; 300_000 + usize::from(number)]
}

/// Reads so many records from the beginning, and finds nothing behind them.
fn check(tap: &mut Tap, count: u8) {
    tap.rewind();
    let mut into = vec![0; 1 << 20];
    for number in 0..count {
        let Ok(Some(Item::Record { bytes, .. })) = tap.read(&mut into) else { panic!("{number}") };
        assert_eq!(into[..bytes.try_into().unwrap()], record(number));
    }
    assert_eq!(tap.peek(), Ok(None));
}

#[test]
fn after_any_record_the_file_is_a_tape_that_ends_there() {
    let Some((dir, path, mut tap)) = tape() else { return };
    for number in 0..20 {
        tap.write(&record(number)).unwrap();
        // What a kill of the daemon would leave.
        let left = dir.path().join("left.tap");
        std::fs::copy(&path, &left).unwrap();
        check(&mut open(&left), number + 1);
    }
    let len = tap.end_byte() + 4;
    tap.trim().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
    tap.rewind();
    for number in 0..5 {
        tap.write(&record(number)).unwrap();
    }
    check(&mut tap, 5);
    drop(tap);
    check(&mut open(&path), 5);
}

#[test]
fn a_tape_whose_file_is_cut_in_mid_write_goes_on_by_system_calls() {
    let Some((_dir, path, mut tap)) = tape() else { return };
    for number in 0..10 {
        tap.write(&record(number)).unwrap();
    }
    // Cut behind the last record, but before the end of the extent that it lies in.
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(tap.end_byte() + 4).unwrap();
    for number in 10..30 {
        tap.write(&record(number)).unwrap();
    }
    check(&mut tap, 30);
}
