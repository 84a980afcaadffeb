//! Banner pages: whose job it is, on a page before it or on one line.

use font8x8::legacy::BASIC_LEGACY;

/// Most big letters of a word: what a page of 132 columns holds.
const LETTERS_MAX: usize = 16;

/// The page before each job of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Banner {
    /// There is none.
    #[default]
    None,
    /// A line.
    Short,
    /// Big letters.
    Long,
}

/// What a banner tells.
pub(super) struct Facts<'a> {
    pub(super) user: &'a str,
    pub(super) name: &'a str,
    /// May be empty.
    pub(super) class: &'a str,
    /// As ctime(3) tells it.
    pub(super) date: &'a str,
}

impl Banner {
    /// The page, to its form feed; empty where there is none.
    pub(super) fn page(self, facts: &Facts<'_>) -> Vec<u8> {
        let Facts { user, name, class, date } = facts;
        match self {
            Banner::None => Vec::new(),
            Banner::Short => {
                let colon = if class.is_empty() { "" } else { ":" };
                format!("{class}{colon}{user}  Job: {name}  Date: {date}\n\r\x0c").into_bytes()
            }
            Banner::Long => {
                let mut text = "\n\r".repeat(3);
                for word in [user, name, class].into_iter().filter(|word| !word.is_empty()) {
                    text += &big(word);
                    text += "\n\r\n\r";
                }
                text += &format!("\t\t\t\t\tJob:  {name}\n\r\t\t\t\t\tDate: {date}\n\r\x0c");
                text.into_bytes()
            }
        }
    }
}

/// A word in big letters, each drawn with itself.
fn big(word: &str) -> String {
    let rows_of = |letter: char| {
        let letter = if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
        (letter, BASIC_LEGACY[letter as usize])
    };
    let letters: Vec<(char, [u8; 8])> = word.chars().take(LETTERS_MAX).map(rows_of).collect();
    let mut text = String::new();
    for row in 0..8 {
        let drawn = |(letter, rows): &(char, [u8; 8])| -> String {
            let dot = |bit: u8| if rows[row] >> bit & 1 == 1 { *letter } else { ' ' };
            (0..8).map(dot).collect()
        };
        let line: String = letters.iter().map(drawn).collect();
        text += line.trim_end();
        text += "\n\r";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts<'_> = Facts {
        user: "alice",
        name: "Quarterly",
        class: "secret",
        date: "Fri Nov 20 12:57:53 2026",
    };

    #[test]
    fn a_short_banner_is_bsds_line() {
        let line = b"secret:alice  Job: Quarterly  Date: Fri Nov 20 12:57:53 2026\n\r\x0c";
        assert_eq!(Banner::Short.page(&FACTS), line);
        let line = b"alice  Job: Quarterly  Date: Fri Nov 20 12:57:53 2026\n\r\x0c";
        assert_eq!(Banner::Short.page(&Facts { class: "", ..FACTS }), line);
        assert_eq!(Banner::None.page(&FACTS), b"");
    }

    #[test]
    fn a_long_banner_has_user_name_and_class_in_big_letters_and_ends_the_page() {
        let page = String::from_utf8(Banner::Long.page(&FACTS)).unwrap();
        assert!(page.starts_with("\n\r\n\r\n\r"));
        let end = "\t\t\t\t\tJob:  Quarterly\n\r\t\t\t\t\tDate: Fri Nov 20 12:57:53 2026\n\r\x0c";
        assert!(page.ends_with(end), "{page}");
        assert!(page.contains("QQQ") && page.contains("lll") && page.contains("rrr"), "{page}");
        let rows = page.lines().count();
        let without = Banner::Long.page(&Facts { class: "", ..FACTS });
        assert_eq!(String::from_utf8(without).unwrap().lines().count() + 10, rows);
        assert!(page.lines().all(|line| line.trim_start_matches('\r').len() <= 132));
    }

    #[test]
    fn no_letter_is_too_strange() {
        let facts = Facts { user: "\u{e4}\u{0}\u{1f600}", ..FACTS };
        assert!(Banner::Long.page(&facts).windows(3).any(|three| three == b"???"));
    }
}
