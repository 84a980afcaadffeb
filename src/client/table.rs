//! The device-status table for people and for programs.
//!
//! `proc/status` has a line a device, its columns apart by a tab or by two blanks and more, so that
//! a column may hold single blanks (`port 0x1f0 irq 14`). A first line of names is taken as such.

use serde_json::{Map, Value};

/// How a table is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Aligned, for files and pipes.
    Plain,
    /// Aligned and coloured, for a terminal.
    Coloured,
    /// JSON: an array with an object a device.
    Json,
}

/// The columns, where the report does not name them.
const COLUMNS: [&str; 7] = ["device", "numbers", "type", "address", "state", "request", "queue"];

/// Shows the text of `proc/status`.
pub(super) fn show(text: &str, style: Style) -> String {
    let mut rows: Vec<Vec<&str>> =
        text.lines().map(columns).filter(|row| !row.is_empty()).collect();
    let is_named = rows.first().is_some_and(|row| row[0].eq_ignore_ascii_case("device"));
    let names = if is_named { rows.remove(0) } else { COLUMNS.to_vec() };
    match style {
        Style::Json => json(&names, &rows),
        Style::Plain => aligned(&names, &rows, |_, cell| cell),
        Style::Coloured => aligned(&names, &rows, coloured),
    }
}

/// A line without its `#`, taken apart.
fn columns(line: &str) -> Vec<&str> {
    let line = line.trim_start_matches('#').trim();
    let apart: Vec<&str> = match line.contains('\t') {
        true => line.split('\t').collect(),
        false => line.split("  ").filter(|cell| !cell.is_empty()).collect(),
    };
    let cells = apart.into_iter().map(str::trim);
    if line.is_empty() { Vec::new() } else { cells.collect() }
}

fn aligned(names: &[&str], rows: &[Vec<&str>], paint: fn(&str, String) -> String) -> String {
    let longest = rows.iter().map(Vec::len).chain([names.len()]).max().unwrap_or_default();
    let all = || std::iter::once(names).chain(rows.iter().map(Vec::as_slice));
    let widths: Vec<usize> = (0..longest)
        .map(|at| all().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut text = String::new();
    for (number, row) in all().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let padded = format!("{cell:width$}  ");
            line += &if number == 0 { padded } else { paint(cell, padded) };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// A state in its colour: green at work, yellow held, red out of order.
fn coloured(cell: &str, padded: String) -> String {
    let colour = match cell {
        "busy" => 32,
        "paused" | "frozen" | "offline" => 33,
        "not-functioning" => 31,
        _ => return padded,
    };
    format!("\x1b[{colour}m{padded}\x1b[0m")
}

fn json(names: &[&str], rows: &[Vec<&str>]) -> String {
    let object = |row: &Vec<&str>| {
        let mut object = Map::new();
        for (at, cell) in row.iter().enumerate() {
            let name = names.get(at).map_or_else(|| format!("column{at}"), ToString::to_string);
            object.insert(name.to_lowercase(), value(&name, cell));
        }
        Value::Object(object)
    };
    let all = Value::Array(rows.iter().map(object).collect());
    format!("{all:#}\n")
}

/// `queue=3` in the column `queue` is the number 3; `-` is nothing.
fn value(name: &str, cell: &str) -> Value {
    let bare = cell.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
    if let Some(number) = bare.and_then(|bare| bare.parse::<u64>().ok()) {
        return number.into();
    }
    if cell == "-" { Value::Null } else { bare.unwrap_or(cell).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
device\tnumbers\ttype\taddress\tstate\trequest\tqueue
sd0\tb 8:0\tdisk\tport 0x1f0 irq 14\tbusy\tread block=3 count=8 age_ms=2\tqueue=4
ram0\tb 1:0\tmemory\tmemory\tidle\t-\tqueue=0
";

    #[test]
    fn columns_are_aligned_under_their_names() {
        let shown = show(TEXT, Style::Plain);
        let lines: Vec<_> = shown.lines().collect();
        let at = lines[0].find("state").unwrap();
        assert!(lines[1][at..].starts_with("busy   read block=3"), "{shown}");
        assert!(lines[2][at..].starts_with("idle   - "), "{shown}");
        assert!(lines[2].ends_with("queue=0") && !shown.contains('\x1b'));
    }

    #[test]
    fn blanks_part_columns_as_tabs_do() {
        assert_eq!(show(&TEXT.replace('\t', "   "), Style::Plain), show(TEXT, Style::Plain));
        let nameless = TEXT.split_once('\n').unwrap().1;
        assert_eq!(show(nameless, Style::Plain), show(TEXT, Style::Plain));
    }

    #[test]
    fn colour_is_for_terminals_and_for_states_that_matter() {
        let shown = show(TEXT, Style::Coloured);
        assert!(shown.contains("\x1b[32mbusy") && !shown.contains("\x1b[32midle"), "{shown}");
    }

    #[test]
    fn json_has_an_object_a_device() {
        let all: Value = serde_json::from_str(&show(TEXT, Style::Json)).unwrap();
        assert_eq!(all[0]["device"], "sd0");
        assert_eq!(all[0]["request"], "read block=3 count=8 age_ms=2");
        assert_eq!((&all[0]["queue"], &all[1]["request"]), (&Value::from(4), &Value::Null));
        assert_eq!(show("", Style::Json), "[]\n");
    }
}
