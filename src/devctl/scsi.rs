//! Command blocks: one typed, LOG SENSE taken apart, and the sense that a refusal goes with.

use super::call::{self, Argument, Memory, Obeyed, Sent};
use super::hall::Hall;
use super::ioctl::{commands, refused};
use super::node::Node;
use super::refusal::Refusal;
use super::shape;
use super::words_of_sense::{code_of, key_of};
use crate::words;
use serde_json::{Value, json};
use std::io::{Error, Read};

const SPINDLE_SENSE: u32 = 0x8018_b501;
const SPINDLE_SENSE_BYTES: usize = 24;
const GOOD: u8 = 0;
const CHECK_CONDITION: u8 = 2;
/// Most bytes of a command block.
const CDB_BYTES: std::ops::RangeInclusive<usize> = 6..=32;
const LOG_SENSE: u8 = 0x4d;

/// Why something went wrong: key, code, qualifier, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sense {
    key: u8,
    code: u8,
    qualifier: u8,
    /// The first sector that failed.
    sector: Option<u64>,
    field: Option<Field>,
}

/// The place of what is wrong in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    byte: u16,
    bit: Option<u8>,
    /// Of the data sent with the command block, not of the block itself.
    is_data: bool,
}

impl Sense {
    /// Of the fixed format (SPC-4, 4.5.3).
    fn fixed(bytes: &[u8]) -> Option<Sense> {
        let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
        if at(0) & 0x7e != 0x70 {
            return None;
        }
        let sector = u32::from_be_bytes([at(3), at(4), at(5), at(6)]);
        let pointer = u16::from_be_bytes([at(16), at(17)]);
        let bit = (at(15) & 0x08 != 0).then_some(at(15) & 7);
        Some(Sense {
            key: at(2) & 0xf,
            code: at(12),
            qualifier: at(13),
            sector: (at(0) & 0x80 != 0).then_some(sector.into()),
            field: (at(15) & 0x80 != 0).then_some(Field {
                byte: pointer,
                bit,
                is_data: at(15) & 0x40 == 0,
            }),
        })
    }

    /// Of our own command, with the errno; `None`: nothing went wrong.
    fn own(bytes: &[u8]) -> Option<(Sense, i32)> {
        let [key, code, qualifier, flags, rest @ ..] =
            bytes.first_chunk::<SPINDLE_SENSE_BYTES>()?;
        let errno = i32::from_ne_bytes(*rest.first_chunk()?);
        let sector = u64::from_ne_bytes(*rest[4..].first_chunk()?);
        let byte = u16::from_ne_bytes(*rest[12..].first_chunk()?);
        let bit = Some(rest[14]).filter(|bit| *bit != u8::MAX);
        let sense = Sense {
            key: *key,
            code: *code,
            qualifier: *qualifier,
            sector: (flags & 2 != 0).then_some(sector),
            field: (flags & 12 != 0).then_some(Field { byte, bit, is_data: flags & 8 != 0 }),
        };
        (flags & 1 != 0).then_some((sense, errno))
    }

    fn words(self) -> String {
        format!("{}, {}", key_of(self.key), code_of(self.code, self.qualifier))
    }

    fn json(self) -> Value {
        let (byte, bit) = (self.field.map(|f| f.byte), self.field.and_then(|f| f.bit));
        let part = self.field.map(|f| if f.is_data { "data" } else { "block" });
        json!({ "key": self.key, "code": self.code, "qualifier": self.qualifier,
            "sector": self.sector, "byte": byte, "bit": bit, "of": part, "words": self.words() })
    }
}

impl std::fmt::Display for Sense {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sense { key, code, qualifier, sector, field } = self;
        write!(f, "key={key:x} code={code:02x} qualifier={qualifier:02x}")?;
        if let Some(sector) = sector {
            write!(f, " sector={sector}")?;
        }
        if let Some(Field { byte, bit, is_data }) = field {
            write!(f, " {}={byte}", if *is_data { "data_byte" } else { "byte" })?;
            bit.map_or(Ok(()), |bit| write!(f, " bit={bit}"))?;
        }
        Ok(())
    }
}

/// What went wrong last, and what the reports tell of earlier failures.
pub(super) fn sense(node: &Node<'_>, hall: &mut Hall<'_>) -> Result<(), String> {
    let is_told = commands(node)?.iter().any(|command| command.number == SPINDLE_SENSE);
    let lines = node.lines_of("errors")?;
    let last = if is_told { last(node) } else { Ok(None) };
    if hall.is_json {
        let last = match last {
            Ok(last) => last.map(|(sense, errno)| {
                let mut object = sense.json();
                object["errno"] = json!(errno);
                object
            }),
            Err(why) => return Err(why),
        };
        return hall.object(&json!({ "device": node.name, "sense": last, "errors": lines }));
    }
    if !is_told && lines.is_empty() {
        return Err(node.told("sense: it keeps none"));
    }
    let name = &node.name;
    let mut text = match &last {
        Ok(Some((sense, errno))) => {
            let told = words::of_host(&Error::from_raw_os_error(*errno));
            format!("{name} last {sense}: {} ({told})\n", sense.words())
        }
        Ok(None) if is_told => format!("{name} last none\n"),
        Ok(None) => String::new(),
        // Held by another, or not ours, it tells nobody, but the reports do.
        Err(why) if lines.is_empty() => return Err(why.clone()),
        Err(why) => {
            let own = format!("devctl: {name}: sense: ");
            format!("{name} last unknown: {}\n", why.strip_prefix(&own).unwrap_or(why))
        }
    };
    text.extend(lines.iter().map(|line| format!("{line}\n")));
    hall.text(&text)?;
    last.map(drop)
}

fn last(node: &Node<'_>) -> Result<Option<(Sense, i32)>, String> {
    let mut opened = node.open();
    if let Err(why) = &mut opened {
        let own = node.told("");
        *why = node.told(&format!("sense: {}", why.strip_prefix(&own).unwrap_or(why)));
    }
    let opened = opened?;
    let mut memory = Memory::new(&[]).ok_or("no memory")?;
    call::ioctl(&opened.file, SPINDLE_SENSE, Argument::Memory(&mut memory))
        .map_err(|error| node.told(&format!("sense: {}", refused(node, &opened, &error))))?;
    Ok(Sense::own(memory.first(SPINDLE_SENSE_BYTES)))
}

/// Has the node obey a command block; what it made of it.
fn obey(node: &Node<'_>, name: &str, cdb: &[u8], sent: Sent<'_>) -> Result<Obeyed, String> {
    let told = |why: &str| node.told(&format!("{name}: {why}"));
    let opened = node.open()?;
    call::command_block(&opened.file, cdb, sent).map_err(|error| {
        if error.raw_os_error() == Some(libc::ENOTTY) {
            let words = "it takes no SCSI commands (whole disks and their raw twins do)";
            return told(words);
        }
        told(&refused(node, &opened, &error))
    })
}

/// That it was obeyed; else why not, in words.
fn check(node: &Node<'_>, name: &str, done: &Obeyed) -> Result<(), String> {
    let told = |why: &str| node.told(&format!("{name}: {why}"));
    match (done.status, Sense::fixed(&done.sense)) {
        (GOOD, _) => Ok(()),
        (CHECK_CONDITION, Some(sense)) => Err(told(&format!("{} ({sense})", sense.words()))),
        (status, _) => Err(told(&format!("status {status:#04x}"))),
    }
}

/// A command block as typed, each word a byte or several in hexadecimal.
pub(super) fn cdb(
    node: &Node<'_>,
    typed: &[String],
    (input, room): (Option<&str>, u32),
    hall: &mut Hall<'_>,
) -> Result<(), Refusal> {
    let wrong = |what: &str| Refusal::Usage(node.told(&format!("cdb: {what}")));
    let bytes = typed.iter().map(|word| {
        let word = word.strip_prefix("0x").unwrap_or(word);
        if word.len() == 1 { shape::unhex(&format!("0{word}")) } else { shape::unhex(word) }
    });
    let bytes: Option<Vec<Vec<u8>>> = bytes.collect();
    let bytes = bytes.ok_or_else(|| wrong("its bytes are hexadecimal digits: 12 0 0 0 24 0"))?;
    let bytes = bytes.concat();
    if !CDB_BYTES.contains(&bytes.len()) {
        return Err(wrong(&format!("a command block has 6 to 32 bytes, not {}", bytes.len())));
    }
    let given = match input {
        None => None,
        Some("-") => Some(from_input().map_err(|why| node.told(&format!("cdb: {why}")))?),
        Some(digits) => {
            let bytes = shape::unhex(digits);
            Some(bytes.ok_or_else(|| wrong("--in wants pairs of hexadecimal digits"))?)
        }
    };
    let sent = given.as_deref().map_or(Sent::Room(room as usize), Sent::Data);
    let name = format!("cdb {:02x}", bytes[0]);
    let done = obey(node, &name, &bytes, sent)?;
    let digits = shape::hex(&done.data);
    if hall.is_json {
        // What is refused is told to a program, too.
        let sense = Sense::fixed(&done.sense).filter(|_| done.status != GOOD).map(Sense::json);
        let object = json!({ "device": node.name, "cdb": shape::hex(&bytes), "data": digits,
            "status": done.status, "sense": sense });
        hall.object(&object)?;
    }
    check(node, &name, &done)?;
    if hall.is_json || digits.is_empty() { Ok(()) } else { Ok(hall.line(&digits)?) }
}

fn from_input() -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let input = std::io::stdin().lock();
    let read = input.take(call::DATA_BYTES_MAX as u64 + 1).read_to_end(&mut all);
    read.map_err(|error| format!("standard input: {}", words::of_host(&error)))?;
    Ok(all)
}

/// A page of LOG SENSE: `3`, `0x2f`, `3,1` with a subpage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page(u8, u8);

impl std::str::FromStr for Page {
    type Err = String;

    fn from_str(word: &str) -> Result<Page, String> {
        let (page, subpage) = word.split_once(',').unwrap_or((word, "0"));
        let byte = |word| u8::try_from(shape::number(word)?).ok();
        let page = byte(page).filter(|page| *page < 0x40);
        let both = page.zip(byte(subpage)).map(|(page, subpage)| Page(page, subpage));
        both.ok_or_else(|| "a page is 0 to 63, with a subpage: 3,1".into())
    }
}

/// A parameter of a log page: its code, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parameter<'a>(u16, &'a [u8]);

impl Parameter<'_> {
    fn number(self) -> Option<u64> {
        let short = self.1.len() <= 8;
        short.then(|| self.1.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Of an error counter page (SPC-4, 7.2.5).
    fn name(self) -> &'static str {
        match self.0 {
            0 => "corrected_without_delay",
            1 => "corrected_with_delay",
            2 => "retries",
            3 => "corrected",
            4 => "corrections",
            5 => "bytes",
            6 => "uncorrected",
            _ => "parameter",
        }
    }
}

/// What stands behind the header of a page.
fn parameters(mut body: &[u8]) -> Vec<Parameter<'_>> {
    let mut all = Vec::new();
    while let [high, low, _, len, rest @ ..] = body {
        let (own, behind) = rest.split_at(usize::from(*len).min(rest.len()));
        all.push(Parameter(u16::from_be_bytes([*high, *low]), own));
        body = behind;
    }
    all
}

fn page_name(page: u8) -> &'static str {
    match page {
        0x00 => "supported pages",
        0x02 => "write errors",
        0x03 => "read errors",
        0x05 => "verify errors",
        0x06 => "other errors",
        0x0d => "temperature",
        _ => "page",
    }
}

/// One of the unit's log pages, a parameter a line; page 0 tells which there are.
pub(super) fn log_page(node: &Node<'_>, page: Page, hall: &mut Hall<'_>) -> Result<(), String> {
    let Page(page, subpage) = page;
    let [high, low] = u16::MAX.to_be_bytes();
    // The counters as they have added up until now.
    let cdb = [LOG_SENSE, 0, 0x40 | page, subpage, 0, 0, 0, high, low, 0];
    let name = format!("log-page {page}");
    let done = obey(node, &name, &cdb, Sent::Room(usize::from(u16::MAX)))?;
    check(node, &name, &done)?;
    let body = done.data.get(4..).unwrap_or_default();
    if page == 0 {
        let wide = if subpage == 0 { 1 } else { 2 };
        let pages: Vec<u8> = body.chunks(wide).map(|entry| entry[0]).collect();
        if hall.is_json {
            return hall.object(&json!({ "device": node.name, "page": page, "pages": pages }));
        }
        let line = |page: &u8| format!("{page} {}\n", page_name(*page));
        return hall.text(&pages.iter().map(line).collect::<String>());
    }
    let all = parameters(body);
    if hall.is_json {
        let object = |p: &Parameter<'_>| {
            let (name, value, bytes) = (p.name(), p.number(), shape::hex(p.1));
            json!({ "code": p.0, "name": name, "value": value, "bytes": bytes })
        };
        let all: Vec<_> = all.iter().map(object).collect();
        let name = page_name(page);
        return hall.object(
            &json!({ "device": node.name, "page": page, "name": name, "parameters": all }),
        );
    }
    let value = |p: &Parameter<'_>| p.number().map_or_else(|| shape::hex(p.1), |n| n.to_string());
    let line = |p: &Parameter<'_>| format!("{} {} {}\n", p.0, p.name(), value(p));
    hall.text(&all.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sense_is_read_as_a_unit_writes_it() {
        let mut bytes = [0; 18];
        (bytes[0], bytes[2], bytes[12]) = (0x70, 5, 0x24);
        bytes[15..18].copy_from_slice(&[0xcf, 0, 2]);
        let sense = Sense::fixed(&bytes).unwrap();
        assert_eq!(sense.to_string(), "key=5 code=24 qualifier=00 byte=2 bit=7");
        assert_eq!(sense.words(), "illegal request, invalid field in the command block");
        (bytes[0], bytes[2], bytes[12], bytes[15]) = (0xf0, 3, 0x11, 0);
        bytes[3..7].copy_from_slice(&9_u32.to_be_bytes());
        let sense = Sense::fixed(&bytes).unwrap();
        assert_eq!(sense.to_string(), "key=3 code=11 qualifier=00 sector=9");
        assert_eq!((Sense::fixed(&[]), Sense::fixed(&[0x72; 18])), (None, None));
    }

    #[test]
    fn our_own_sense_is_what_the_machine_tells() {
        use crate::own::{Last, Told};
        assert_eq!(Sense::own(&Last::default().bytes()), None);
        let failure = Some(devices::IoError::Media(devices::Sector(9)).into());
        let (sense, errno) = Sense::own(&Last { failure, refused: None }.bytes()).unwrap();
        assert_eq!((sense.to_string().as_str(), errno), ("key=3 code=11 qualifier=00 sector=9", 5));
        let sense = devices::Sense { key: 5, asc: 0x24, ascq: 0, info: None };
        for is_data in [false, true] {
            let field = crate::own::Field { byte: 8, bit: None, is_data };
            let refused = Some(Told { sense, field: Some(field) });
            let (sense, errno) = Sense::own(&Last { failure: None, refused }.bytes()).unwrap();
            let field = Field { byte: 8, bit: None, is_data };
            assert_eq!((sense.field, errno), (Some(field), 22));
            assert!(sense.to_string().ends_with(if is_data { "data_byte=8" } else { " byte=8" }));
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_machine() {
        use crate::own;
        assert_eq!(SPINDLE_SENSE, own::SPINDLE_SENSE);
        assert_eq!(SPINDLE_SENSE_BYTES, own::Last::default().bytes().len());
    }

    #[test]
    fn a_log_page_is_taken_apart_whatever_it_says() {
        let body = [0, 5, 2, 8, 0, 0, 0, 0, 0, 0, 1, 0, 0, 9, 0, 2, 1];
        let all = parameters(&body);
        assert_eq!((all[0].name(), all[0].number()), ("bytes", Some(256)));
        assert_eq!(all[1], Parameter(9, &[1]));
        assert_eq!(parameters(&[0, 1, 2]), []);
    }

    #[test]
    fn a_page_is_a_number_and_perhaps_another() {
        let read = |word: &str| word.parse::<Page>().ok();
        assert_eq!(read("3"), Some(Page(3, 0)));
        assert_eq!(read("0x0,0xff"), Some(Page(0, 255)));
        for word in ["", "64", "-1", "3,", "3,256", "x"] {
            assert_eq!(read(word), None, "{word}");
        }
    }
}
