//! Words for people: the word they may have meant, and the host's errors without numbers.

/// The one of `choices` that `word` is most likely a slip of; `None` when none is near.
pub fn closest<'a>(word: &str, choices: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_none() {
        let words = ["size", "image", "irq", "read_only"];
        for (slip, word) in [("sise", "size"), ("iamge", "image"), ("readonly", "read_only")] {
            assert_eq!(closest(slip, words), Some(word));
        }
        for stranger in ["", "x", "colour", "wibble"] {
            assert_eq!(closest(stranger, words), None, "{stranger}");
        }
    }

    #[test]
    fn the_host_speaks_without_numbers() {
        let error = std::fs::read("/nonexistent").unwrap_err();
        assert_eq!(of_host(&error), "No such file or directory");
    }
}
