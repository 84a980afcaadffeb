//! The house rules that no compiler knows, as a test that reads the whole tree.
//!
//! Who may import whom, where a crate may appear, how long a file and a line may be, that no file
//! is forgotten. Each rule is itself shown to fail on a bad sample.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;
const MAIN_LINES_MAX: usize = 80;
const COLUMNS_MAX: usize = 100;

/// A file of the tree: its path from the root of the repository, and its text.
struct Source {
    path: String,
    text: String,
}

/// Words that may appear only in some files. A place that ends in `/` is a folder.
const CONFINED: &[(&str, &[&str])] = &[
    ("fuser", &["src/fuse/"]),
    (
        "libc",
        &[
            "src/error.rs",
            "src/ioctl.rs",
            "src/fuse/",
            "src/run/",
            "src/devctl",
            "devices/medium/bus_error.rs",
            "devices/medium/window.rs",
        ],
    ),
    ("lru", &["src/cache/shard.rs"]),
    ("parking_lot", &["src/sync.rs", "devices/sync.rs"]),
    ("env_logger", &["src/main.rs"]),
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &[
    "devices/copy.rs",
    "devices/medium/bus_error.rs",
    "devices/medium/window.rs",
    "src/allocator.rs",
    "src/devctl/call.rs",
    "src/error.rs",
    "src/fuse/",
    "src/ioctl.rs",
    "src/run/",
];

/// Who may print.
const PRINTERS: &[&str] = &["src/main.rs", "src/cli.rs", "src/commands.rs"];

/// The arrows of the kernel half: a room, and the rooms that it may import. `*` is all.
const ARROWS: &[(&str, &str)] = &[
    ("allocator", ""),
    ("error", ""),
    ("sync", ""),
    ("words", ""),
    ("lent", "sync"),
    ("pages", "sync"),
    ("file", "error lent pages sync"),
    ("ctl", "error file sync words"),
    ("config", "words"),
    ("devctl", "client words"),
    ("cli", "config devctl lpr words"),
    ("lpr", "spool words"),
    ("client", "words"),
    ("commands", "cli client config daemon devctl doctor error fuse lpr words"),
    ("doctor", "words"),
    ("cache", "error lent sync"),
    ("partition", "error sync"),
    ("sinks", "config error"),
    ("slot", "error sync"),
    ("passage", "error sync"),
    ("disk", "cache error file holders own pages partition passage sync"),
    ("scsi", "cache disk error file own slot sync"),
    ("own", "error file holders sync"),
    ("ioctl", "cache disk error file holders own scsi sync"),
    ("raw", "cache disk error file ioctl passage slot sync"),
    ("streams", "error file sync"),
    ("holders", "error file sync"),
    ("character", "error file holders own sync"),
    ("tty", "character error file holders own sync"),
    (
        "spec",
        "cache character disk error file holders ioctl lent pages passage raw streams sync tty",
    ),
    ("vfs", "cache ctl error file spec sync"),
    ("spool", "ctl error file sync vfs words"),
    ("fuse", "error file ioctl lent pages sync vfs"),
    ("block_tests", "cache disk error file ioctl spec sync"),
    ("kernel", "cache config disk error file spec sync vfs"),
    ("serial", "ctl error file kernel sync tty words verbs"),
    ("reports", "cache disk error file ioctl kernel own scsi serial spec sync tty vfs words"),
    (
        "verbs",
        "cache character config ctl disk error file holders kernel serial spec sync vfs words",
    ),
    (
        "boot",
        "cache config ctl daemon disk error file kernel reports sinks spec spool sync verbs vfs \
         words",
    ),
    ("daemon", "doctor error file fuse sync vfs words"),
    ("lib", "*"),
    ("main", "*"),
    ("tidy", "*"),
    ("block_tests", "*"), // rooms of tests examine whom they like
];

/// The arrows of the machine. A file that is not here is a driver.
const MACHINE_ARROWS: &[(&str, &str)] = &[
    ("sync", ""),
    ("contract", "machine sync"),
    ("value", "contract"),
    ("manual", ""),
    ("engine", "contract sync"),
    ("trace", "contract engine sync"),
    ("fault", "contract sync value"),
    ("bus", "contract engine serial_manual sync trace"),
    ("copy", ""),
    ("medium", "contract copy sync"),
    ("timing", "contract value"),
    ("tape_manual", ""),
    ("tape_timing", "contract value"),
    ("reserve", "contract engine sync"),
    ("machine", "bus contract engine fault medium sync trace"),
    ("serial_manual", ""),
    ("sink", ""),
    (
        "chip",
        "bus contract engine fault machine manual medium serial_manual sink sync tape_manual \
         tape_timing timing trace value",
    ),
    ("ring", "contract"),
    ("com", "bus contract engine machine ring serial_manual sync value"),
    ("plain", ""),
    ("queue", "contract engine plain sync trace value"),
    ("filter", "contract engine fault sync value"),
    ("ioport", "bus contract sync"),
    ("controller", "bus contract engine machine manual queue sync timing value"),
    ("switch", "contract sync"),
    ("conf", "*"),
    ("exam", "*"),
    ("lib", "*"),
];
const DRIVER_ARROWS: &str = "bus chip contract controller engine fault filter ioport machine \
                             manual medium queue sink sync tape_manual tape_timing timing trace \
                             value";

#[test]
fn the_tree_keeps_the_house_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for folder in ["src", "devices", "mount-tests"] {
        gather(root, &root.join(folder), &mut sources);
    }
    assert!(sources.len() > 20, "the tree was not found at {}", root.display());
    let mut wrong: Vec<String> = sources.iter().flat_map(complaints).collect();
    wrong.extend(unreachable(&sources));
    wrong.extend(scripts(root));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// All `.rs` files below `folder`.
fn gather(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            gather(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            sources.push(Source { path: name, text });
        }
    }
}

/// What is wrong with one file: `PATH:LINE: what`.
fn complaints(source: &Source) -> Vec<String> {
    let mut wrong = shape(source);
    wrong.extend(words(source));
    wrong.extend(arrows(source));
    wrong
}

/// First line, length, width, letters.
fn shape(source: &Source) -> Vec<String> {
    let Source { path, text } = source;
    let mut wrong = Vec::new();
    if !text.starts_with("//! ") {
        wrong.push(format!("{path}:1: begins with no `//!` sentence that says what it is"));
    }
    let most = if path == "src/main.rs" { MAIN_LINES_MAX } else { LINES_MAX };
    let lines = text.lines().count();
    if lines > most {
        wrong.push(format!("{path}:{most}: {lines} lines, more than {most}"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if line.chars().count() > COLUMNS_MAX {
            wrong.push(format!("{path}:{number}: more than {COLUMNS_MAX} columns"));
        }
        if let Some(strange) = line.chars().find(|c| !c.is_ascii()) {
            wrong.push(format!("{path}:{number}: not ASCII: {strange:?}"));
        }
    }
    wrong
}

/// Words in places where they have no business.
fn words(source: &Source) -> Vec<String> {
    let Source { path, text } = source;
    let mut wrong = Vec::new();
    if path == "src/tidy.rs" {
        return wrong; // it names them all
    }
    let is_in = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    let tests_begin = tests_begin(source);
    let mut tell = |number, what| wrong.push(format!("{path}:{number}: {what}"));
    for (number, line) in (1..).zip(text.lines()) {
        for unfinished in ["TODO", "FIXME", "XXX"] {
            if line.contains(unfinished) {
                tell(number, format!("{unfinished}: say it in an issue"));
            }
        }
        let code = line.split("//").next().unwrap_or_default();
        for (name, places) in CONFINED {
            if has_path(code, name) && !is_in(places) && !path.starts_with("mount-tests/") {
                tell(number, format!("{name}:: may stand only in {}", places.join(", ")));
            }
        }
        if has_word(code, "unsafe") && !is_in(UNSAFE) {
            tell(number, format!("unsafe may stand only in {}", UNSAFE.join(", ")));
        }
        for name in ["dbg", "todo", "unimplemented"] {
            if has_macro(code, name) {
                tell(number, format!("{name}! is unfinished work"));
            }
        }
        let may_print = is_in(PRINTERS) || number >= tests_begin;
        for name in ["println", "print", "eprintln", "eprint"] {
            if has_macro(code, name) && !may_print {
                tell(number, format!("{name}! may stand only in {}", PRINTERS.join(", ")));
            }
        }
    }
    wrong
}

/// Imports against the arrows.
fn arrows(source: &Source) -> Vec<String> {
    let Source { path, text } = source;
    let (folder, rest) = path.split_once('/').unwrap_or(("", path));
    let room = rest.split(['/', '.']).next().unwrap_or_default();
    let allowed = match folder {
        "src" => ARROWS.iter().find(|(name, _)| *name == room).map(|(_, rooms)| *rooms),
        "devices" => {
            let found = MACHINE_ARROWS.iter().find(|(name, _)| *name == room);
            Some(found.map_or(DRIVER_ARROWS, |(_, rooms)| *rooms))
        }
        _ => return Vec::new(),
    };
    let Some(allowed) = allowed else {
        return vec![format!("{path}:1: room {room} is not in the arrows of src/tidy.rs")];
    };
    let last = tests_begin(source);
    let imports = rooms_named(text).into_iter().filter(|(number, _)| *number < last);
    let is_allowed = |import: &str| {
        import == room || allowed == "*" || allowed.split(' ').any(|name| name == import)
    };
    let wrong = imports.filter(|(_, import)| !is_allowed(import));
    let told = |(number, import)| format!("{path}:{number}: {room} may not import {import}");
    wrong.map(told).collect()
}

/// The rooms that a text names by `crate::`, with their lines. What a crate's root exports is
/// `contract`.
fn rooms_named(text: &str) -> Vec<(usize, String)> {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    let text = text.lines().map(code).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, prefix) in text.match_indices("crate::") {
        let number = 1 + text[..at].matches('\n').count();
        let rest = &text[at + prefix.len()..];
        let mut names = Vec::new();
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                    c if depth == 0 => name.push(c),
                    _ => {}
                }
            }
            names.push(name);
        } else {
            names.push(rest.to_owned());
        }
        for name in names {
            let name = name.trim();
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            match &name[..end] {
                "" => {}
                name if name.starts_with(char::is_uppercase) || name == "SECTOR_SIZE" => {
                    found.push((number, "contract".into()));
                }
                name => found.push((number, name.into())),
            }
        }
    }
    found
}

/// The line from which on a file is tests: they may print, and import whom they examine.
fn tests_begin(source: &Source) -> usize {
    if source.path.ends_with("tests.rs") || source.path.contains("tests/") {
        return 0;
    }
    let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
    let is_begin = |pair: &[&str]| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    };
    let found = lines.windows(2).position(is_begin);
    found.map_or(usize::MAX, |index| index + 1)
}

fn has_word(code: &str, word: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_letter) && !code[at + word.len()..].starts_with(is_letter)
    })
}

fn has_path(code: &str, name: &str) -> bool {
    let is_used = code.trim_start().trim_start_matches("pub ").starts_with("use ");
    has_word(code, name) && (is_used || code.contains(&format!("{name}::")))
}

fn has_macro(code: &str, name: &str) -> bool {
    has_word(code, name) && code.contains(&format!("{name}!("))
}

/// Files that no `mod` leads to.
fn unreachable(sources: &[Source]) -> Vec<String> {
    let roots = ["src/lib.rs", "src/main.rs", "devices/lib.rs", "mount-tests/main.rs"];
    let mut reached = BTreeSet::new();
    let mut next: Vec<String> = roots.iter().map(ToString::to_string).collect();
    while let Some(path) = next.pop() {
        let Some(source) = sources.iter().find(|source| source.path == path) else { continue };
        if !reached.insert(path.clone()) {
            continue;
        }
        let stem = path.trim_end_matches(".rs");
        let is_head = ["lib", "main", "mod"].iter().any(|name| stem.ends_with(&format!("/{name}")));
        let folder = if is_head { stem.rsplit_once('/').unwrap_or_default().0 } else { stem };
        let mut beside = None;
        for line in source.text.lines() {
            let elsewhere = line.trim().strip_prefix("#[path = \"");
            if let Some(name) = elsewhere.and_then(|name| name.strip_suffix("\"]")) {
                beside = Some(name); // of the file's own folder, whatever its name
                continue;
            }
            let line = line.trim().trim_start_matches("pub(super) ").trim_start_matches("pub ");
            let line = line.trim_start_matches("pub(crate) ");
            let module = line.strip_prefix("mod ").and_then(|name| name.strip_suffix(';'));
            let own = path.rsplit_once('/').unwrap_or_default().0;
            if let (Some(name), true) = (beside.take(), module.is_some()) {
                next.push(format!("{own}/{name}"));
            } else if let Some(module) = module {
                next.push(format!("{folder}/{module}.rs"));
                next.push(format!("{folder}/{module}/mod.rs"));
            }
        }
    }
    let is_bench = |path: &str| path.starts_with("mount-tests/bench/"); // each its own program
    let lost = sources.iter().filter(|one| !reached.contains(&one.path) && !is_bench(&one.path));
    lost.map(|source| format!("{}:1: no `mod` leads here", source.path)).collect()
}

/// What is wrong with the scripts.
fn scripts(root: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(root.join("scripts")) else { return Vec::new() };
    let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.flat_map(|path| script(&path.display().to_string(), &read(&path))).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn script(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let first = text.lines().next().unwrap_or_default();
    if !["#!/bin/sh", "#!/bin/bash", "#!/usr/bin/env bash"].contains(&first) {
        wrong.push(format!("{path}:1: begins with no #!/bin/sh"));
    }
    for needed in ["--help", "set -eu"] {
        if !text.contains(needed) {
            wrong.push(format!("{path}:1: has no {needed}"));
        }
    }
    if !text.is_ascii() {
        wrong.push(format!("{path}:1: not ASCII"));
    }
    wrong
}

mod samples {
    use super::*;

    fn told(path: &str, text: &str) -> Vec<String> {
        complaints(&Source { path: path.into(), text: format!("//! A sample.\n{text}") })
    }

    #[test]
    fn a_good_file_passes() {
        let text = "use crate::error::Errno;\nfn f() {} // libc::read is not called\n";
        assert_eq!(told("src/vfs/walk.rs", text), [""; 0]);
    }

    #[test]
    fn strangers_are_shown_the_door() {
        let table = [
            ("src/vfs/mod.rs", "fn f() { fuser::mount(); }"),
            ("src/vfs/mod.rs", "use libc;"),
            ("devices/sd.rs", "let fd = unsafe { libc::open() };"),
            ("src/cache/mod.rs", "use lru::LruCache;"),
            ("src/cache/mod.rs", "use parking_lot::Mutex;"),
            ("src/daemon.rs", "env_logger::init();"),
            ("src/vfs/mod.rs", "unsafe fn f() {}"),
            ("src/vfs/mod.rs", "fn f() { dbg!(1); }"),
            ("src/main.rs", "fn f() { todo!() }"),
            ("src/vfs/mod.rs", "fn f() { println!(\"x\"); }"),
            ("src/main.rs", "// TODO"),
        ];
        for (path, text) in table {
            assert!(!told(path, text).is_empty(), "{path}: {text}");
        }
    }

    #[test]
    fn what_is_at_home_may_stay() {
        let table = [
            ("src/fuse/io.rs", "use fuser::Request;"),
            ("src/error.rs", "const A: i32 = libc::EIO;"),
            ("src/cache/shard.rs", "use lru::LruCache;"),
            ("src/sync.rs", "pub use parking_lot::Mutex;"),
            ("src/main.rs", "fn f() { println!(\"x\"); env_logger::init(); }"),
            ("src/vfs/mod.rs", "#[cfg(test)]\nmod tests {\nfn f() { println!(\"x\"); }"),
            ("src/vfs/mod.rs", "#![deny(unsafe_code)]\nfn unsafely() {}"),
        ];
        for (path, text) in table {
            assert_eq!(told(path, text), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn imports_against_the_arrow_are_told() {
        let table = [
            ("src/cache/mod.rs", "use crate::vfs::Ino;", "cache may not import vfs"),
            (
                "src/vfs/walk.rs",
                "use crate::{error::{Errno, Error}, fuse};",
                "vfs may not import fuse",
            ),
            (
                "src/vfs/walk.rs",
                "use crate::{\n    error,\n    fuse::X,\n};",
                "vfs may not import fuse",
            ),
            ("src/error.rs", "fn f() { crate::vfs::f() }", "error may not import vfs"),
            ("devices/sd.rs", "use crate::hd::X;", "sd may not import hd"),
            ("devices/chip/disk.rs", "use crate::queue::X;", "chip may not import queue"),
            ("devices/queue/mod.rs", "use crate::{Op, bus};", "queue may not import bus"),
            ("src/newroom.rs", "", "room newroom is not in the arrows of src/tidy.rs"),
        ];
        for (path, text, words) in table {
            let told = told(path, text);
            assert!(told.len() == 1 && told[0].ends_with(words), "{told:?}");
        }
        assert_eq!(told("devices/sd.rs", "use crate::{Driver, bus, chip::x};"), [""; 0]);
        assert_eq!(told("src/vfs/x.rs", "#[cfg(test)]\nmod tests {\nuse crate::fuse;"), [""; 0]);
        assert_eq!(told("src/vfs/x.rs", "#[cfg(test)]\nmod tests;\nuse crate::fuse;").len(), 1);
    }

    #[test]
    fn files_without_shape_are_told() {
        let shapeless = Source { path: "src/vfs/a.rs".into(), text: "fn f() {}\n".into() };
        assert_eq!(shape(&shapeless).len(), 1);
        assert_eq!(told("src/vfs/a.rs", &"\n".repeat(LINES_MAX)).len(), 1);
        assert_eq!(told("src/main.rs", &"\n".repeat(MAIN_LINES_MAX)).len(), 1);
        assert_eq!(told("src/vfs/a.rs", &"x".repeat(COLUMNS_MAX + 1)).len(), 1);
        assert_eq!(told("src/vfs/a.rs", "// \u{e9}").len(), 1);
    }

    #[test]
    fn a_file_that_no_mod_leads_to_is_told() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let mut sources = vec![
            source(
                "src/lib.rs",
                "pub mod a;\n#[path = \"e_tests.rs\"]\nmod tests;\n#[cfg(test)]\nmod b;\n",
            ),
            source("src/a.rs", "pub(crate) mod c;\n"),
            source("src/a/c.rs", ""),
            source("src/b/mod.rs", "mod d;"),
            source("src/b/d.rs", ""),
            source("src/e_tests.rs", ""),
        ];
        assert_eq!(unreachable(&sources), [""; 0]);
        sources.push(source("src/a/lost.rs", ""));
        assert_eq!(unreachable(&sources), ["src/a/lost.rs:1: no `mod` leads here"]);
    }

    #[test]
    fn scripts_without_help_are_told() {
        assert_eq!(script("s", "#!/bin/sh\nset -eu\n# --help\n"), [""; 0]);
        assert_eq!(script("s", "echo\n").len(), 3);
    }
}
