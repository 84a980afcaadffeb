//! One read or write of several pieces of memory: readv(2) and writev(2).

use super::hall::Hall;
use super::node::{For, Node};
use super::shape;
use crate::words;
use serde_json::json;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};

/// Pieces that one call takes (`UIO_MAXIOV`).
const PIECES_MAX: usize = 1024;
/// Most bytes of all pieces.
const BYTES_MAX: usize = 64 << 20;

/// The pieces that words stand for.
///
/// # Errors
/// In words: one is no hexadecimal digits.
pub(super) fn given(words: &[String], is_hex: bool) -> Result<Vec<Vec<u8>>, String> {
    let piece = |word: &String| {
        let bytes = if is_hex { shape::unhex(word) } else { Some(word.clone().into_bytes()) };
        let wrong = || format!("devctl: writev --hex: pairs of hexadecimal digits, not {word:?}");
        bytes.ok_or_else(wrong)
    };
    words.iter().map(piece).collect()
}

fn at(node: &Node<'_>, mut file: &File, offset: Option<u64>) -> Result<(), String> {
    let Some(offset) = offset else { return Ok(()) };
    let moved = file.seek(SeekFrom::Start(offset));
    moved.map(drop).map_err(|error| node.told(&format!("--offset: {}", words::of_host(&error))))
}

fn checked(node: &Node<'_>, operation: &str, lens: &[usize]) -> Result<(), String> {
    let wrong = |what: &str| Err(node.told(&format!("{operation}: {what}")));
    if lens.len() > PIECES_MAX {
        return wrong("at most 1024 pieces go in one call");
    }
    let all = lens.iter().try_fold(0_usize, |all, len| all.checked_add(*len));
    if all.is_none_or(|all| all > BYTES_MAX) {
        wrong("at most 64 MiB go in one call")
    } else {
        Ok(())
    }
}

/// Reads once into pieces of these lengths; a line for each that got something.
pub(super) fn readv(
    node: &Node<'_>,
    lens: &[usize],
    offset: Option<u64>,
    hall: &mut Hall<'_>,
) -> Result<(), String> {
    checked(node, "readv", lens)?;
    let mut file = node.open_for(For::Reading, true)?;
    at(node, &file, offset)?;
    let mut pieces: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; *len]).collect();
    let mut slices: Vec<_> = pieces.iter_mut().map(|piece| IoSliceMut::new(piece)).collect();
    let read = file.read_vectored(&mut slices);
    let got = read.map_err(|e| node.told(&format!("readv: {}", words::of_host(&e))))?;
    let mut left = got;
    for piece in &mut pieces {
        piece.truncate(left);
        left -= piece.len();
    }
    if hall.is_json {
        let pieces: Vec<_> = pieces.iter().map(|piece| shape::hex(piece)).collect();
        return hall.object(&json!({ "device": node.name, "bytes": got, "pieces": pieces }));
    }
    let lines = pieces.iter().filter(|piece| !piece.is_empty());
    hall.text(&lines.map(|p| format!("{} {}\n", p.len(), p.escape_ascii())).collect::<String>())
}

/// Writes these pieces at once; how many bytes were taken.
pub(super) fn writev(
    node: &Node<'_>,
    pieces: &[Vec<u8>],
    offset: Option<u64>,
    hall: &mut Hall<'_>,
) -> Result<(), String> {
    checked(node, "writev", &pieces.iter().map(Vec::len).collect::<Vec<_>>())?;
    let mut file = node.open_for(For::Writing, true)?;
    at(node, &file, offset)?;
    let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let told = |e: std::io::Error| node.told(&format!("writev: {}", words::of_host(&e)));
    let taken = file.write_vectored(&slices).map_err(told)?;
    // A delayed error is told at the close, which a file that is dropped does not hear.
    nix::unistd::close(file).map_err(|e| told(e.into()))?;
    if hall.is_json {
        return hall.object(&json!({ "device": node.name, "bytes": taken }));
    }
    hall.text(&format!("{taken}\n"))
}
