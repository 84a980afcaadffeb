//! The device-status table for people and for programs.
//!
//! `proc/status` has a line a device, its words apart by blanks: device, `b` or `c`, major:minor,
//! type, address (its blanks are commas), state, the words of the current request if there is one,
//! and last `queue=N`.

use serde_json::Value;

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

/// The columns, and the keys of JSON.
const COLUMNS: [&str; 7] = ["device", "numbers", "type", "address", "state", "request", "queue"];

/// Shows the text of `proc/status`.
pub(super) fn show(text: &str, style: Style) -> String {
    let rows: Vec<[String; 7]> = text.lines().filter_map(columns).collect();
    match style {
        Style::Json => json(&rows),
        Style::Plain => aligned(&rows, |_, cell| cell),
        Style::Coloured => aligned(&rows, coloured),
    }
}

/// A line, taken apart; none when it is no device's.
fn columns(line: &str) -> Option<[String; 7]> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [device, letter, number, kind, address, state, request @ .., queue] = &words[..] else {
        return None;
    };
    let request = if request.is_empty() { "-".into() } else { request.join(" ") };
    let queue = queue.strip_prefix("queue=").unwrap_or(queue);
    let numbers = format!("{letter} {number}");
    let address = address.replace(',', " ");
    let [device, kind, state, queue] = [device, kind, state, &queue].map(ToString::to_string);
    Some([device, numbers, kind, address, state, request, queue])
}

fn aligned(rows: &[[String; 7]], paint: fn(&str, String) -> String) -> String {
    let heading = COLUMNS.map(str::to_uppercase);
    let all = || std::iter::once(&heading).chain(rows);
    let width = |at: usize| all().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let cells = row.iter().zip(&widths);
        let line: String =
            cells.map(|(cell, width)| paint(cell, format!("{cell:width$}  "))).collect();
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

fn json(rows: &[[String; 7]]) -> String {
    let object = |row: &[String; 7]| {
        let cells = COLUMNS.iter().zip(row);
        let mut object: serde_json::Map<String, Value> =
            cells.map(|(name, cell)| (String::from(*name), value(cell))).collect();
        object.insert("details".into(), details(&row[5]));
        Value::Object(object)
    };
    let all: Value = rows.iter().map(object).collect();
    format!("{all:#}\n")
}

/// The words of the request, or of where a tape stands, one by one.
fn details(words: &str) -> Value {
    let mut all = serde_json::Map::new();
    for word in words.split(' ').filter(|word| *word != "-") {
        let (name, cell) = word.split_once('=').unwrap_or(("operation", word));
        all.insert(name.into(), value(cell));
    }
    Value::Object(all)
}

/// A number is a number, `-` is nothing.
fn value(cell: &str) -> Value {
    match cell.parse::<u64>() {
        Ok(number) => number.into(),
        Err(_) if cell == "-" => Value::Null,
        Err(_) => cell.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\
sd0 b 8:0 sd port,0x1f0,irq,14 busy read block=3 count=8 age_ms=2 queue=4
ram0 b 1:0 ram memory idle queue=0
";

    #[test]
    fn columns_are_aligned_under_their_names() {
        let lines = "\
DEVICE  NUMBERS  TYPE  ADDRESS            STATE  REQUEST                        QUEUE
sd0     b 8:0    sd    port 0x1f0 irq 14  busy   read block=3 count=8 age_ms=2  4
ram0    b 1:0    ram   memory             idle   -                              0
";
        assert_eq!(show(TEXT, Style::Plain), lines);
        let heading = lines.lines().next().unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(show("", Style::Plain).split_whitespace().collect::<Vec<_>>(), heading);
    }

    #[test]
    fn colour_is_for_terminals_and_for_states_that_matter() {
        let shown = show(TEXT, Style::Coloured);
        assert!(shown.contains("\x1b[32mbusy") && !shown.contains("\x1b[32midle"), "{shown}");
    }

    #[test]
    fn json_has_an_object_a_device() {
        let all: Value = serde_json::from_str(&show(TEXT, Style::Json)).unwrap();
        assert_eq!((&all[0]["device"], &all[0]["numbers"]), (&"sd0".into(), &"b 8:0".into()));
        assert_eq!(all[0]["request"], "read block=3 count=8 age_ms=2");
        assert_eq!((&all[0]["queue"], &all[1]["request"]), (&Value::from(4), &Value::Null));
        let details: Value = serde_json::json!(
            { "operation": "read", "block": 3, "count": 8, "age_ms": 2 }
        );
        assert_eq!((&all[0]["details"], &all[1]["details"]), (&details, &serde_json::json!({})));
        let tape = "st0 c 9:0 st port,0x6000 idle medium=in file=0 density=- owner=9 queue=0\n";
        let all: Value = serde_json::from_str(&show(tape, Style::Json)).unwrap();
        let details = serde_json::json!(
            { "medium": "in", "file": 0, "density": null, "owner": 9 }
        );
        assert_eq!(all[0]["details"], details);
        assert_eq!(show("", Style::Json), "[]\n");
    }

    proptest! {
        #[test]
        fn no_report_is_too_strange(text in "(\\PC{0,9}[ \n]){0,20}") {
            for style in [Style::Plain, Style::Coloured, Style::Json] {
                show(&text, style);
            }
        }
    }
}
