//! The machine as shipped, in full, with the reference of all keys, made from the tables.

use super::{DEFAULT_MACHINE, schema};
use devices::{Driver, Key, Kind};
use std::fmt::Write;

/// The default machine file and, as comments, every key with its default and its purpose.
#[must_use]
pub fn print_machine(drivers: &[&'static dyn Driver]) -> String {
    let mut text = String::from(DEFAULT_MACHINE);
    text.push_str("\n# Every key, with what holds when it is not written.\n");
    for (name, keys) in schema::FIXED {
        describe(&mut text, &format!("[{name}]"), keys);
    }
    for (name, keys) in schema::SEVERAL {
        describe(&mut text, &format!("[[{name}]]"), keys);
    }
    for section in schema::unit_sections(drivers) {
        describe(&mut text, &format!("[[{section}]]"), schema::UNIT);
        for driver in drivers.iter().filter(|driver| driver.section() == section) {
            let title = format!("[[{section}]] of driver \"{}\"", driver.name());
            describe(&mut text, &title, driver.keys());
        }
    }
    text
}

fn describe(text: &mut String, title: &str, keys: &[Key]) {
    let _ = writeln!(text, "#\n# {title}"); // a String takes all
    for key in keys {
        let assigned = if key.default.is_empty() {
            format!("{} =", key.name)
        } else {
            format!("{} = {}", key.name, quoted(key.kind, key.default))
        };
        let _ = writeln!(text, "#   {assigned}");
        for line in wrapped(&format!("{}: {}", key.kind.wanted(), key.doc)) {
            let _ = writeln!(text, "#       {line}");
        }
    }
}

/// Text in lines that fit a terminal behind the indent.
fn wrapped(text: &str) -> Vec<String> {
    const COLUMNS: usize = 72;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() < COLUMNS => *line += &format!(" {word}"),
            _ => lines.push(word.into()),
        }
    }
    lines
}

/// A value as it stands in a machine file.
fn quoted(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Flag | Kind::Number => value.into(),
        _ => format!("\"{value}\""),
    }
}
