//! What `lpr` does to text on its way into the spool: `-p` has pr(1) set it in pages, `-i` indents.

use crate::words;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Bytes copied at a time.
const PIECE_BYTES: usize = 1 << 20;

/// How text is dressed; as shipped, not at all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dress<'a> {
    /// Blanks before each line.
    pub(super) indent: usize,
    /// pr(1) sets it in pages.
    pub(super) is_paged: bool,
    /// The title of the pages; none: the file's name.
    pub(super) title: Option<&'a str>,
    /// Columns of a page; none: what pr(1) takes.
    pub(super) width: Option<u32>,
}

impl Dress<'_> {
    /// Brings all of `from`, which is called `name`, to `to`; how many bytes that were.
    ///
    /// # Errors
    /// The host's, in words; of `to` as one of `queue`.
    pub(super) fn copy(
        &self,
        from: impl Read + Into<Stdio>,
        name: &str,
        to: &mut impl Write,
        queue: &str,
    ) -> Result<u64, String> {
        let mut to = Indented { to, blanks: self.indent, is_inside: false, bytes: 0 };
        if !self.is_paged {
            copy(from, &mut to, queue)?;
            return Ok(to.bytes);
        }
        let mut child = self.pr(from, name).map_err(|e| format!("pr: {}", words::of_host(&e)))?;
        let copied = match child.stdout.take() {
            Some(pages) => copy(pages, &mut to, queue),
            None => Err("pr: it has no output".into()),
        };
        let ended = child.wait().map_err(|e| format!("pr: {}", words::of_host(&e)))?;
        copied?;
        if ended.success() { Ok(to.bytes) } else { Err(format!("pr: it ended with {ended}")) }
    }

    fn pr(&self, from: impl Into<Stdio>, name: &str) -> std::io::Result<Child> {
        let last = Path::new(name).file_name().map(|name| name.to_string_lossy().into_owned());
        let mut command = Command::new("pr");
        command.arg("-h").arg(self.title.map_or(last.unwrap_or_default(), str::to_owned));
        command.args(self.width.map(|columns| format!("-w{columns}")));
        command.stdin(from).stdout(Stdio::piped()).spawn()
    }
}

fn copy(mut from: impl Read, to: &mut impl Write, queue: &str) -> Result<(), String> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let len = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(words::of_host(&error)),
        };
        to.write_all(&piece[..len])
            .map_err(|error| format!("{queue}: {}", words::of_host(&error)))?;
    }
}

/// Puts blanks before each line that is not empty, and counts what comes out.
struct Indented<'a, W> {
    to: &'a mut W,
    blanks: usize,
    /// Something of the line has been written.
    is_inside: bool,
    bytes: u64,
}

impl<W: Write> Write for Indented<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.blanks == 0 {
            self.to.write_all(bytes)?;
            self.bytes += bytes.len() as u64;
            return Ok(bytes.len());
        }
        let mut text = Vec::with_capacity(bytes.len() * 2);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.is_inside && line != b"\n" {
                text.resize(text.len() + self.blanks, b' ');
            }
            text.extend_from_slice(line);
            self.is_inside = !line.ends_with(b"\n");
        }
        self.to.write_all(&text)?;
        self.bytes += text.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn dressed(dress: &Dress<'_>, text: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        std::fs::write(&path, text).unwrap();
        let mut out = Vec::new();
        let bytes = dress.copy(File::open(&path).unwrap(), "/x/notes", &mut out, "lp0")?;
        assert_eq!(bytes, out.len() as u64);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn text_goes_as_it_is_unless_it_is_dressed() {
        assert_eq!(dressed(&Dress::default(), "a\n\nb").unwrap(), "a\n\nb");
        let indented = Dress { indent: 3, ..Dress::default() };
        assert_eq!(dressed(&indented, "a\n\nb c\nd").unwrap(), "   a\n\n   b c\n   d");
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_indented_once() {
        let mut out = Vec::new();
        let mut to = Indented { to: &mut out, blanks: 2, is_inside: false, bytes: 0 };
        for piece in ["a", "b\n", "\n", "c", "\n"] {
            to.write_all(piece.as_bytes()).unwrap();
        }
        assert_eq!(String::from_utf8(out).unwrap(), "  ab\n\n  c\n");
    }

    #[test]
    fn pages_have_a_title_and_a_width() {
        if Command::new("pr").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: there is no pr(1)");
            return;
        }
        let paged = Dress { is_paged: true, width: Some(60), ..Dress::default() };
        let text = dressed(&paged, "one\n").unwrap();
        assert!(text.lines().count() > 60 && text.contains(" notes "), "{text}");
        assert!(text.lines().any(|line| line.len() == 60), "{text}");
        let text = dressed(&Dress { title: Some("Quarterly"), ..paged }, "one\n").unwrap();
        assert!(text.contains(" Quarterly "), "{text}");
        assert!(dressed(&Dress { width: Some(0), ..paged }, "one\n").unwrap_err().contains("pr: "));
    }
}
