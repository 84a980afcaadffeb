//! Values as people write them: sizes `64M`, times `30s`, rates `8M/s`, numbers, words.
//!
//! 1. What a formatter here writes, the parser here reads back to the same number.
//! 2. No text makes a parser panic; a number that does not come out whole is refused, not rounded.

use crate::{Kind, Value};

const SIZE_UNITS: [(&str, u64); 5] =
    [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10), ("", 1)];

const TIME_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Digits that a written number may have.
const DIGITS_MAX: usize = 20;

impl Kind {
    /// What `text` means.
    ///
    /// # Errors
    /// What would be right: `a size such as 512, 64K or 64M`.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let number = match self {
            Kind::Size => parse_size(text),
            Kind::Time => parse_time(text),
            Kind::Rate => parse_rate(text),
            Kind::Number => parse_number(text),
            Kind::Flag => {
                return match text {
                    "true" => Ok(Value::Flag(true)),
                    "false" => Ok(Value::Flag(false)),
                    _ => Err(self.wanted()),
                };
            }
            Kind::Text | Kind::Path => {
                let is_plain = !text.is_empty() && !text.chars().any(char::is_control);
                return is_plain.then(|| Value::Text(text.into())).ok_or_else(|| self.wanted());
            }
            Kind::Choice(words) => {
                let is_known = words.contains(&text);
                return is_known.then(|| Value::Text(text.into())).ok_or_else(|| self.wanted());
            }
        };
        number.map(Value::Number).ok_or_else(|| self.wanted())
    }

    /// `value` as it would be written.
    #[must_use]
    pub fn format(self, value: &Value) -> String {
        match (self, value) {
            (Kind::Size, Value::Number(number)) => format_size(*number),
            (Kind::Time, Value::Number(number)) => format_time(*number),
            (Kind::Rate, Value::Number(number)) => format_rate(*number),
            (_, Value::Number(number)) => number.to_string(),
            (_, Value::Flag(flag)) => flag.to_string(),
            (_, Value::Text(text)) => text.clone(),
        }
    }

    /// What may be written, with an example: `a time such as 250us, 8ms or 30s`.
    #[must_use]
    pub fn wanted(self) -> String {
        match self {
            Kind::Size => "a size such as 512, 64K or 64M".into(),
            Kind::Time => "a time such as 250us, 8ms or 30s".into(),
            Kind::Rate => "a rate such as 500K/s or 8M/s".into(),
            Kind::Number => "a whole number such as 14 or 0x1f0".into(),
            Kind::Flag => "true or false".into(),
            Kind::Text => "one line of text".into(),
            Kind::Path => "the name of a file".into(),
            Kind::Choice(words) => match words {
                [] => "nothing".into(),
                [only] => (*only).into(),
                [head @ .., last] => format!("{} or {last}", head.join(", ")),
            },
        }
    }
}

/// Bytes: `512`, `64K`, `64MiB`, `1.5G`; `None` for anything else and above `i64::MAX`.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, suffix) = split_number(text)?;
    let letter = suffix.strip_suffix("iB").unwrap_or(suffix).to_ascii_uppercase();
    if letter.is_empty() && !suffix.is_empty() {
        return None;
    }
    let (_, unit) = SIZE_UNITS.iter().find(|(name, _)| *name == letter)?;
    scale(number, *unit).filter(|bytes| i64::try_from(*bytes).is_ok())
}

/// The shortest way to write a number of bytes exactly.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    format_with(bytes, &SIZE_UNITS)
}

/// Nanoseconds: `250us`, `8.5ms`, `30s`, `5m`; a lone `0` needs no unit.
#[must_use]
pub fn parse_time(text: &str) -> Option<u64> {
    let (number, suffix) = split_number(text)?;
    if suffix.is_empty() {
        return scale(number, 1).filter(|nanos| *nanos == 0);
    }
    let (_, unit) = TIME_UNITS.iter().find(|(name, _)| *name == suffix)?;
    scale(number, *unit)
}

/// The shortest way to write a number of nanoseconds exactly.
#[must_use]
pub fn format_time(nanos: u64) -> String {
    if nanos == 0 { "0s".into() } else { format_with(nanos, &TIME_UNITS) }
}

/// Bytes a second: `8M/s`.
#[must_use]
pub fn parse_rate(text: &str) -> Option<u64> {
    parse_size(text.strip_suffix("/s")?)
}

/// The shortest way to write a number of bytes a second exactly.
#[must_use]
pub fn format_rate(bytes_per_second: u64) -> String {
    format_size(bytes_per_second) + "/s"
}

/// A whole number: `14`, `0x1f0`.
#[must_use]
pub fn parse_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let is_plain = !digits.starts_with('+');
    if is_plain { u64::from_str_radix(digits, radix).ok() } else { None }
}

/// The largest unit that divides `number`.
fn format_with(number: u64, units: &[(&str, u64)]) -> String {
    let fits = |unit: u64| number.is_multiple_of(unit) && (number != 0 || unit == 1);
    let (name, unit) = units.iter().find(|(_, unit)| fits(*unit)).unwrap_or(&("", 1));
    format!("{}{name}", number / unit)
}

/// `8.5ms` is `8.5` and `ms`.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    (!number.is_empty() && number.len() <= DIGITS_MAX).then_some((number, suffix))
}

/// `number` times `unit`, if that is whole and fits.
fn scale(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let tenths = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts = whole.parse::<u128>().ok()?.checked_mul(tenths)?;
    let product = parts.checked_add(fraction.parse().ok()?)?.checked_mul(u128::from(unit))?;
    if product % tenths != 0 { None } else { u64::try_from(product / tenths).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_written() {
        let table = [
            ("0", 0),
            ("512", 512),
            ("1440K", 1440 << 10),
            ("64M", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("2T", 2 << 40),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_that_could_mean_two_things_are_refused() {
        for text in ["", "M", "64Q", "64MB", "iB", "1iB", "-1", "+1", "1..5M", ".5M", "5.M", "1 M"]
        {
            assert_eq!(parse_size(text), None, "{text}");
        }
        for text in ["0.3", "1.44M", "8388608T", "18446744073709551616", "9223372036854775808"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn times_need_a_unit_unless_they_are_nothing() {
        assert_eq!(parse_time("30s"), Some(30_000_000_000));
        assert_eq!(parse_time("8.5ms"), Some(8_500_000));
        assert_eq!(parse_time("5m"), Some(300_000_000_000));
        assert_eq!(parse_time("0"), Some(0));
        assert_eq!(parse_time("30"), None);
        assert_eq!(parse_time("30 s"), None);
    }

    #[test]
    fn rates_numbers_flags_and_words() {
        assert_eq!(parse_rate("8M/s"), Some(8 << 20));
        assert_eq!(parse_rate("8M"), None);
        assert_eq!(parse_number("0x1f0"), Some(0x1f0));
        assert_eq!(parse_number("0x+1"), None);
        assert_eq!(Kind::Flag.parse("true"), Ok(Value::Flag(true)));
        assert_eq!(Kind::Choice(&["a", "b"]).parse("b"), Ok(Value::Text("b".into())));
        assert_eq!(Kind::Choice(&["a", "b", "c"]).parse("d"), Err("a, b or c".into()));
        assert!(Kind::Path.parse("").is_err() && Kind::Path.parse("a\0b").is_err());
    }

    proptest! {
        #[test]
        fn what_is_formatted_is_read_back(number in any::<u64>(), shift in 0u32..64) {
            let bytes = (number >> shift) & (u64::MAX >> 1);
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
            prop_assert_eq!(parse_rate(&format_rate(bytes)), Some(bytes));
            prop_assert_eq!(parse_number(&bytes.to_string()), Some(bytes));
            prop_assert_eq!(parse_number(&format!("{number:#x}")), Some(number));
        }

        #[test]
        fn round_amounts_are_read_back(count in 0u64..10_000, unit in 0usize..7) {
            let bytes = count * SIZE_UNITS[unit % 5].1;
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
            let nanos = count * TIME_UNITS[unit].1;
            prop_assert_eq!(parse_time(&format_time(nanos)), Some(nanos));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,30}|[0-9.]{0,40}[KMGTiBsmunhd/]{0,4}") {
            for kind in [Kind::Size, Kind::Time, Kind::Rate, Kind::Number, Kind::Path] {
                if let Ok(value) = kind.parse(&text) {
                    prop_assert_eq!(kind.parse(&kind.format(&value)), Ok(value));
                }
            }
        }
    }
}
