//! `ctl`: "verb arg arg" is split, looked up in one table, checked for arity, and obeyed.
//!
//! A refusal names the command, the word that is wrong, and what would be right; nothing is half
//! done. Words are separated by blanks; a word with blanks stands in double or single quotes.

use crate::error::{Errno, Error};
use crate::file::{Answer, Caller, Control};
use crate::words;

/// Longest line, in bytes, without its newline.
pub const LINE_BYTES_MAX: usize = 4096;

/// What obeys a verb: it gets the caller and the words behind the verb.
pub type Action = Box<dyn Fn(&Caller, &[String]) -> Result<Answer<String>, Error> + Send + Sync>;

/// A row of the table of verbs.
pub struct Verb {
    /// The first word.
    pub name: &'static str,
    /// The words behind it, as shown in help: `DEV`, `[-t TYPE] DEV DIR [OPTS]`.
    pub usage: &'static str,
    /// Fewest and most words behind it.
    pub arity: std::ops::RangeInclusive<usize>,
    /// What it does, in one line.
    pub help: &'static str,
    /// Does it.
    pub action: Action,
}

/// The table.
pub struct Verbs {
    verbs: Vec<Verb>,
}

impl Verbs {
    /// A table of these verbs and `help`.
    #[must_use]
    pub fn new(mut verbs: Vec<Verb>) -> Verbs {
        verbs.sort_by_key(|verb| verb.name);
        Verbs { verbs }
    }

    fn help(&self, words: &[String]) -> Result<String, Error> {
        let line = |verb: &Verb| format!("{:42} {}\n", form(verb), verb.help);
        match words {
            [] => Ok(self.verbs.iter().map(line).collect()),
            [name] => self.find(name).map(line),
            _ => Err(refuse("help", "takes at most one verb")),
        }
    }

    fn find(&self, name: &str) -> Result<&Verb, Error> {
        let found = self.verbs.iter().find(|verb| verb.name == name);
        found.ok_or_else(|| {
            let names = self.verbs.iter().map(|verb| verb.name).chain(["help"]);
            let hint = match words::closest(name, names) {
                Some(near) => format!("did you mean {near}?"),
                None => "try help".to_owned(),
            };
            Error::new(Errno::EINVAL, format!("no such command: {} ({hint})", shown(name)))
        })
    }
}

impl Control for Verbs {
    fn run(&self, caller: &Caller, line: &str) -> Result<Answer<String>, Error> {
        let words = split(line)?;
        let Some((name, rest)) = words.split_first() else {
            return Err(Error::new(Errno::EINVAL, "an empty command (try help)"));
        };
        if name == "help" {
            return self.help(rest).map(Answer::Now);
        }
        let verb = self.find(name)?;
        if !verb.arity.contains(&rest.len()) {
            let got = rest.len();
            let plural = if got == 1 { "" } else { "s" };
            let words = format!("got {got} word{plural} behind it; the form is: {}", form(verb));
            return Err(refuse(verb.name, &words));
        }
        log::debug!(target: "ctl", "pid {} uid {}: {line}", caller.pid, caller.uid);
        let name = verb.name;
        let answer = (verb.action)(caller, rest).map_err(|error| of_verb(name, error))?;
        answer.map(move |result| result.map_err(|error| of_verb(name, error)))
    }
}

/// The error with the words `verb: what`, where they do not begin so already.
fn of_verb(verb: &str, error: Error) -> Error {
    let rest = error.what.strip_prefix(verb);
    if error.what.is_empty() || rest.is_some_and(|rest| rest.starts_with([':', ' '])) {
        return error;
    }
    Error::new(error.errno, format!("{verb}: {}", error.what))
}

fn form(verb: &Verb) -> String {
    format!("{} {}", verb.name, verb.usage).trim_end().to_owned()
}

/// `EINVAL` with the words `verb: what`.
#[must_use]
pub fn refuse(verb: &str, what: &str) -> Error {
    Error::new(Errno::EINVAL, format!("{verb}: {what}"))
}

/// A word of the user's, safe to print: control characters escaped, cut to 64 characters.
#[must_use]
pub fn shown(word: &str) -> String {
    let mut text: String = word.chars().take(64).flat_map(char::escape_default).collect();
    if word.chars().nth(64).is_some() {
        text.push_str("...");
    }
    text
}

/// Splits a line into words.
///
/// # Errors
/// `E2BIG` for a line longer than [`LINE_BYTES_MAX`]; `EINVAL` for a control character in it or a
/// quote left open.
pub fn split(line: &str) -> Result<Vec<String>, Error> {
    if line.len() > LINE_BYTES_MAX {
        let words = format!("a command of {} bytes; at most {LINE_BYTES_MAX} fit", line.len());
        return Err(Error::new(Errno::E2BIG, words));
    }
    if let Some(control) = line.chars().find(|c| c.is_control() && *c != '\t') {
        let words = format!("a control character ({}) in the command", control.escape_default());
        return Err(Error::new(Errno::EINVAL, words));
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t') => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(Error::new(Errno::EINVAL, format!("the quote {open} is not closed")));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table() -> Verbs {
        let echo: Action = Box::new(|_, words| Ok(Answer::Now(words.join("|"))));
        let verb = Verb { name: "pause", usage: "DEV", arity: 1..=1, help: "holds", action: echo };
        Verbs::new(vec![verb])
    }

    fn run(line: &str) -> Result<String, Error> {
        match table().run(&Caller { pid: 1, uid: 0, gid: 0 }, line)? {
            Answer::Now(text) => Ok(text),
            Answer::Later(_) | Answer::Blocked(_) => panic!("no verb here waits"),
        }
    }

    #[test]
    fn words_are_split_at_blanks_and_kept_by_quotes() {
        assert_eq!(split("a  b\tc").unwrap(), ["a", "b", "c"]);
        assert_eq!(split("a 'b c' \"\" d\"e f\"").unwrap(), ["a", "b c", "", "de f"]);
        assert!(split("").unwrap().is_empty());
    }

    #[test]
    fn an_unknown_verb_is_refused_with_the_near_one() {
        let error = run("puase sd0").unwrap_err();
        assert_eq!(error.to_string(), "no such command: puase (did you mean pause?)");
        assert_eq!(error.errno, Errno::EINVAL);
    }

    #[test]
    fn a_wrong_number_of_words_is_refused_with_the_form() {
        let error = run("pause").unwrap_err();
        assert_eq!(error.to_string(), "pause: got 0 words behind it; the form is: pause DEV");
    }

    #[test]
    fn a_refusal_names_the_command_once() {
        let named = |words: &str| of_verb("umount", Error::new(Errno::EINVAL, words)).to_string();
        assert_eq!(
            named("/mnt: nothing is mounted there"),
            "umount: /mnt: nothing is mounted there"
        );
        assert_eq!(named("umount: /mnt: busy"), "umount: /mnt: busy");
        assert_eq!(named("umounted: x"), "umount: umounted: x");
        assert!(of_verb("umount", Error::plain(Errno::EINTR)).what.is_empty());
    }

    #[test]
    fn garbage_nuls_and_long_lines_are_refused_in_words() {
        assert!(run("pause \0").unwrap_err().to_string().contains("control character"));
        assert!(run("pause 'x").unwrap_err().to_string().contains("not closed"));
        assert_eq!(run(&"x".repeat(1 << 20)).unwrap_err().errno, Errno::E2BIG);
    }

    #[test]
    fn help_lists_every_verb_with_its_form() {
        assert!(run("help").unwrap().starts_with("pause DEV"));
        assert!(run("help pause").unwrap().contains("holds"));
    }

    proptest! {
        #[test]
        fn no_line_panics(line in ".{0,200}") {
            let _ = run(&line);
        }

        #[test]
        fn quoted_words_come_back_whole(word in "[^'\\p{Cc}]{0,40}") {
            prop_assert_eq!(split(&format!("pause '{word}'")).unwrap(), ["pause".to_owned(), word]);
        }
    }
}
