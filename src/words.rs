//! Words for people: the word they may have meant, and the host's errors without numbers.

use std::time::SystemTime;

/// Longest word that is taken for a slip, in bytes.
const WORD_BYTES_MAX: usize = 64;

/// The one of `choices` that `word` is most likely a slip of; `None` when none is near.
pub fn closest<'a>(word: &str, choices: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let near = word.chars().count().max(3) / 3; // one slip in three letters
    let distance = |choice: &str| {
        strsim::damerau_levenshtein(&word.to_ascii_lowercase(), &choice.to_ascii_lowercase())
    };
    let best = choices.into_iter().map(|choice| (distance(choice), choice)).min();
    best.filter(|(far, _)| *far <= near).map(|(_, choice)| choice)
}

/// The host's own words for an error: `No such file or directory`.
#[must_use]
pub fn of_host(error: &std::io::Error) -> String {
    let words = error.to_string();
    match words.split_once(" (os error") {
        Some((plain, _)) => plain.into(),
        None => words,
    }
}

/// A time as RFC 3339 writes it: `2026-11-21T08:00:00Z`.
#[must_use]
pub fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    days %= 146_097 * 100; // 400 years are 146097 days; a clock that is far off costs no time
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{:02}Z", days + 1, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_none() {
        let words = ["size", "image", "irq", "read_only"];
        for (slip, word) in [("sise", "size"), ("iamge", "image"), ("readonly", "read_only")] {
            assert_eq!(closest(slip, words), Some(word));
        }
        for stranger in ["", "x", "colour", "wibble", &"size".repeat(99)] {
            assert_eq!(closest(stranger, words), None, "{stranger}");
        }
    }

    #[test]
    fn the_host_speaks_without_numbers() {
        let error = std::fs::read("/nonexistent").unwrap_err();
        assert_eq!(of_host(&error), "No such file or directory");
    }

    #[test]
    fn times_are_told_as_a_calendar_does() {
        // As `date -u -d @N +%FT%TZ` says.
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_795_248_000, "2026-11-21T08:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
        ];
        for (seconds, words) in table {
            assert_eq!(utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), words);
        }
    }
}
