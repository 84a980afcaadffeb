//! TOML to sections of entries, each with the line where it stands; what they mean comes later.

use super::{Complaints, Place};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// In quotes.
    Text(String),
    /// A whole number that is not negative.
    Number(u64),
    /// `true` or `false`.
    Flag(bool),
    /// On the command line, where there are no quotes.
    Bare(String),
    /// Something that no key takes: what it is.
    Other(String),
}

/// `key = value`.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Written,
}

/// `[name]` or `[[name]]` and what stands under it.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) place: Place,
    /// Written with two brackets: one of several.
    pub(super) is_one_of_many: bool,
    pub(super) entries: Vec<Entry>,
}

impl Section {
    /// The name of the unit that this section describes.
    pub(super) fn unit(&self) -> Option<&str> {
        match &self.entry("name")?.value {
            Written::Text(text) | Written::Bare(text) if self.is_one_of_many => Some(text),
            _ => None,
        }
    }

    /// What is written for a key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Where a key is written; else where the section is.
    pub(super) fn place_of(&self, key: &str) -> &Place {
        self.entry(key).map_or(&self.place, |entry| &entry.place)
    }

    /// Writes an entry, in the place of the one with that key if there is one.
    pub(super) fn put(&mut self, key: &str, value: Written, place: &Place) {
        self.entries.retain(|entry| entry.key != key);
        self.entries.push(Entry { key: key.into(), place: place.clone(), value });
    }
}

/// Writes an entry of the section `name`, which is there only once.
pub(super) fn put(
    sections: &mut Vec<Section>,
    name: &str,
    key: &str,
    value: Written,
    place: &Place,
) {
    let found = sections.iter_mut().find(|section| section.name == name);
    match found {
        Some(section) => section.put(key, value, place),
        None => {
            let mut section = Section {
                name: name.into(),
                place: place.clone(),
                is_one_of_many: false,
                entries: Vec::new(),
            };
            section.put(key, value, place);
            sections.push(section);
        }
    }
}

/// Reads the text of the file `label` into sections, in the order of their lines.
pub(super) fn sections(label: &str, text: &str) -> Result<Vec<Section>, Complaints> {
    let lines = Lines { label, starts: line_starts(text) };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let place = lines.place(at);
        let line = text.lines().nth(place.line - 1).unwrap_or_default();
        let hint = if wants_quotes(line) { "; it wants quotes, as in size = \"64M\"" } else { "" };
        Complaints::one(place, format!("{}{hint}", error.message()))
    })?;
    let mut wrong = Complaints::default();
    let mut sections = Vec::new();
    for (name, value) in table.get_ref() {
        let place = lines.place(name.span().start);
        let name = name.get_ref();
        match value.get_ref() {
            DeValue::Table(table) => sections.push(Section {
                name: name.to_string(),
                place,
                is_one_of_many: false,
                entries: entries(table, &lines),
            }),
            DeValue::Array(tables) if tables.iter().all(|one| one.get_ref().is_table()) => {
                sections.extend(tables.iter().filter_map(|one| many(name, one, &lines)));
            }
            _ => wrong.add(&place, format!("\"{name}\" stands in no section such as [cache]")),
        }
    }
    sections.sort_by_key(|section| section.place.line);
    if wrong.list.is_empty() { Ok(sections) } else { Err(wrong) }
}

fn many(name: &str, one: &Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Option<Section> {
    let table = one.get_ref().as_table()?;
    Some(Section {
        name: name.into(),
        place: lines.place(one.span().start),
        is_one_of_many: true,
        entries: entries(table, lines),
    })
}

fn entries(table: &DeTable<'_>, lines: &Lines<'_>) -> Vec<Entry> {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| Entry {
        key: std::borrow::Cow::to_string(key.get_ref()),
        place: lines.place(key.span().start),
        value: written(value.get_ref()),
    };
    let mut entries: Vec<Entry> = table.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.place.line);
    entries
}

fn written(value: &DeValue<'_>) -> Written {
    match value {
        DeValue::String(text) => Written::Text(text.to_string()),
        DeValue::Boolean(flag) => Written::Flag(*flag),
        DeValue::Integer(number) => match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Written::Number(number),
            Err(_) => Written::Other(number.as_str().into()),
        },
        other => Written::Other(match other.type_str() {
            kind @ ("array" | "integer") => format!("an {kind}"),
            kind => format!("a {kind}"),
        }),
    }
}

/// Whether the line looks like `size = 64M`.
fn wants_quotes(line: &str) -> bool {
    let Some((_, value)) = line.split_once('=') else { return false };
    let value = value.split('#').next().unwrap_or_default().trim();
    value.starts_with(|c: char| c.is_ascii_digit())
        && value.ends_with(|c: char| c.is_ascii_alphabetic())
        && !value.starts_with("0x")
}

/// Where the lines of a text begin.
struct Lines<'a> {
    label: &'a str,
    starts: Vec<usize>,
}

impl Lines<'_> {
    fn place(&self, byte: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= byte);
        Place { label: self.label.into(), line: line.max(1) }
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(end, _)| end + 1)).collect()
}
