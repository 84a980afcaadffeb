//! The language of fault rules: from words to a [`Rule`], or to a refusal that names the word.
//!
//! `NAME on DEVICE [op=read|write|flush|any] [block=A-B] [when=N|N+|N-M|every:N] [pid=N] do ACTION`

use super::{Action, Ops, Rule, When};
use crate::contract::Sense;

/// Characters in a name at most.
const NAME_MAX: usize = 32;

const ACTIONS: &str = "error ERRNO, transient N, permanent, hang, panic, delay T or badsector";

/// The errnos that `error` can cause, and the sense that stands for each.
const ERRNOS: &[(&str, Option<Sense>)] = &[
    ("EIO", None),
    ("EINVAL", Some(Sense { key: 5, asc: 0x24, ascq: 0, info: None })),
    ("ENOSPC", Some(Sense { key: 7, asc: 0x27, ascq: 7, info: None })),
    ("ENXIO", Some(Sense { key: 2, asc: 0x3a, ascq: 0, info: None })),
    ("EROFS", Some(Sense { key: 7, asc: 0x27, ascq: 0, info: None })),
];

/// Parses what stands behind `fault add`.
///
/// # Errors
/// The refusal: which word is wrong, and what would be right.
pub fn parse(words: &[&str]) -> Result<Rule, String> {
    let usage = "wants NAME on DEVICE [op=...] [block=...] [when=...] [pid=...] do ACTION";
    let [name, "on", device, rest @ ..] = words else {
        return Err(match words {
            [_, word, _, ..] => refuse(word, "`on`"),
            _ => format!("fault add: {usage}"),
        });
    };
    let of_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.len() > NAME_MAX || !name.chars().all(of_name) || name.is_empty() {
        return Err(refuse(name, "a name of at most 32 letters, digits, `_`, `-` and `.`"));
    }
    let mut rule = Rule {
        name: (*name).into(),
        device: (*device).into(),
        ops: Ops::Any,
        blocks: None,
        when: When::Between(1, u64::MAX),
        pid: None,
        action: Action::Hang,
        text: words[1..].join(" "),
    };
    let mut rest = rest.iter();
    let mut seen = Vec::new();
    for word in rest.by_ref() {
        if *word == "do" {
            rule.action = action(rest.as_slice())?;
            return Ok(rule);
        }
        let (key, value) =
            word.split_once('=').ok_or_else(|| refuse(word, "op=, block=, when=, pid= or `do`"))?;
        if seen.contains(&key) {
            return Err(refuse(word, &format!("only one {key}=")));
        }
        seen.push(key);
        rule.condition(word, key, value)?;
    }
    Err("fault add: `do` and an action are missing".into())
}

fn refuse(word: &str, wanted: &str) -> String {
    let word = word.chars().take(60).collect::<String>().escape_debug().to_string();
    format!("fault add: `{word}`: should be {wanted}")
}

fn number(word: &str, value: &str) -> Result<u64, String> {
    // `parse` would take a sign.
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { value.parse().ok() } else { None };
    number.ok_or_else(|| refuse(word, "a whole number"))
}

impl Rule {
    fn condition(&mut self, word: &str, key: &str, value: &str) -> Result<(), String> {
        match key {
            "op" => {
                self.ops = match value {
                    "any" => Ops::Any,
                    "read" => Ops::Read,
                    "write" => Ops::Write,
                    "flush" => Ops::Flush,
                    _ => return Err(refuse(word, "op=read, op=write, op=flush or op=any")),
                }
            }
            "block" => {
                let (first, last) = value.split_once('-').unwrap_or((value, value));
                let blocks = (number(word, first)?, number(word, last)?);
                if blocks.0 > blocks.1 {
                    return Err(refuse(word, "block=A-B with A not above B"));
                }
                self.blocks = Some(blocks);
            }
            "when" => self.when = when(word, value)?,
            "pid" => {
                let pid = u32::try_from(number(word, value)?).ok();
                self.pid = Some(pid.ok_or_else(|| refuse(word, "a process number"))?);
            }
            _ => return Err(refuse(word, "op=, block=, when= or pid=")),
        }
        Ok(())
    }
}

fn when(word: &str, value: &str) -> Result<When, String> {
    let wanted = "when=N, when=N+, when=N-M or when=every:N, counted from 1";
    let counted = |text: &str| match number(word, text) {
        Ok(0) | Err(_) => Err(refuse(word, wanted)),
        Ok(number) => Ok(number),
    };
    if let Some(every) = value.strip_prefix("every:") {
        return counted(every).map(When::Every);
    }
    if let Some(first) = value.strip_suffix('+') {
        return Ok(When::Between(counted(first)?, u64::MAX));
    }
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    let (first, last) = (counted(first)?, counted(last)?);
    if first > last { Err(refuse(word, wanted)) } else { Ok(When::Between(first, last)) }
}

fn action(words: &[&str]) -> Result<Action, String> {
    match words {
        [] => Err(format!("fault add: an action is missing behind `do`: {ACTIONS}")),
        ["permanent"] => Ok(Action::Permanent),
        ["hang"] => Ok(Action::Hang),
        ["panic"] => Ok(Action::Panic),
        ["badsector"] => Ok(Action::BadSector),
        ["error", name] => Ok(Action::Error(errno(name)?)),
        ["error", name @ "EIO", sense] => {
            errno(name)?;
            Ok(Action::Error(Some(parse_sense(sense)?)))
        }
        ["transient", times] => match number(times, times)? {
            0 => Err(refuse(times, "a number from 1 on")),
            times => Ok(Action::Transient(times)),
        },
        ["delay", time] => Ok(Action::Delay(nanos(time)?)),
        [word @ ("error" | "transient" | "delay")] => {
            Err(format!("fault add: `{word}` wants a word behind it: {ACTIONS}"))
        }
        [known, more @ ..] => {
            let taken = match *known {
                "error" | "transient" | "delay" => 1,
                "permanent" | "hang" | "panic" | "badsector" => 0,
                _ => return Err(refuse(known, ACTIONS)),
            };
            let word = more.get(taken).or(more.last()).unwrap_or(known);
            Err(refuse(word, "nothing: the rule ends before it"))
        }
    }
}

fn errno(name: &str) -> Result<Option<Sense>, String> {
    let known = ERRNOS.iter().find(|(known, _)| *known == name);
    let names = || ERRNOS.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
    known.map(|(_, sense)| *sense).ok_or_else(|| refuse(name, &format!("one of {}", names())))
}

/// `sense=3/11/00`: key, additional code, qualifier, hexadecimal; a key that means EIO.
fn parse_sense(word: &str) -> Result<Sense, String> {
    let wanted = "sense=K/ASC/ASCQ in hexadecimal, K one of 3, 4 and b";
    let parts = word.strip_prefix("sense=").map(|text| text.split('/').collect::<Vec<_>>());
    let Some(&[key, asc, ascq]) = parts.as_deref() else { return Err(refuse(word, wanted)) };
    let byte = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        let byte = if digits { u8::from_str_radix(text, 16).ok() } else { None };
        byte.ok_or_else(|| refuse(word, wanted))
    };
    let sense = Sense { key: byte(key)?, asc: byte(asc)?, ascq: byte(ascq)?, info: None };
    if matches!(sense.key, 3 | 4 | 0xb) { Ok(sense) } else { Err(refuse(word, wanted)) }
}

/// `30s`, `8ms`, `250us`, `40ns` in nanoseconds.
fn nanos(word: &str) -> Result<u64, String> {
    let wanted = "a time like 30s, 8ms or 250us";
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match &word[digits..] {
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" => 1_000,
        "ns" => 1,
        _ => return Err(refuse(word, wanted)),
    };
    let number = word[..digits].parse::<u64>().ok();
    number.and_then(|n| n.checked_mul(unit)).ok_or_else(|| refuse(word, wanted))
}
