//! What a control file of RFC 1179 asks for, as all its clients write it.

use std::collections::BTreeMap;

/// See the head of this file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) user: String,
    pub(super) name: String,
    pub(super) class: String,
    /// Whether a banner page is asked for, where the queue has them.
    pub(super) has_banner: bool,
    /// The data files, and their names for people.
    pub(super) files: Vec<(String, String)>,
    pub(super) copies: u32,
    /// The number that the client gave the job.
    pub(super) number: Option<u64>,
}

fn is_stdin(name: &str) -> bool {
    matches!(name, "" | "(STDIN)" | "stdin" | "(standard input)")
}

/// The number in the name of a data file, `dfA017host`; of three digits unless the host is known.
fn number(file: &str, host: &str) -> Option<u64> {
    let rest = file.get(3..)?;
    let known = rest.strip_suffix(host).and_then(|digits| digits.parse().ok());
    known.or_else(|| rest.get(..3)?.parse().ok())
}

impl Order {
    pub(super) fn parse(text: &str) -> Order {
        let mut order = Order { copies: 1, ..Order::default() };
        // How many lines name a data file, and which of them is the first to.
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let (mut firsts, mut lines) = (Vec::new(), 0);
        let (mut names, mut title, mut host) = (Vec::new(), String::new(), "");
        for line in text.lines() {
            let Some(code) = line.chars().next() else { continue };
            let rest = &line[code.len_utf8()..];
            let plain: String =
                rest.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
            match code {
                'H' => host = rest,
                'P' => order.user = plain,
                'J' => title = plain,
                'C' => order.class = plain,
                'L' => order.has_banner = true,
                'N' => names.push(rest.rsplit('/').next().unwrap_or("").trim().to_owned()),
                'a'..='z' => {
                    let count = counts.entry(rest.to_owned()).or_insert(0);
                    *count += 1;
                    if *count == 1 {
                        order.files.push((rest.to_owned(), String::new()));
                        firsts.push(lines);
                    }
                    order.copies = order.copies.max(*count);
                    lines += 1;
                }
                _ => {}
            }
        }
        // A name before its file or behind it; one a file, or one a copy.
        let is_each_copy = names.len() == lines && lines > order.files.len();
        for (at, (file, first)) in order.files.iter_mut().zip(firsts).enumerate() {
            let name = names.get(if is_each_copy { first } else { at });
            name.filter(|name| !is_stdin(name))
                .cloned()
                .unwrap_or_default()
                .clone_into(&mut file.1);
        }
        order.number = order.files.first().and_then(|(file, _)| number(file, host));
        let first = names.into_iter().next().unwrap_or_default();
        let name = if is_stdin(&title) { first } else { title };
        order.name = if is_stdin(&name) { String::new() } else { name };
        order.name = order.name.trim_start_matches('.').to_owned();
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_files_of_all_clients_are_understood() {
        let bsd = "Hvm\nPalice\nJreport\nCvm\nLalice\nfdfA001vm\nUdfA001vm\nN/home/alice/report\n";
        let order = Order::parse(bsd);
        assert_eq!((order.user.as_str(), order.name.as_str()), ("alice", "report"));
        assert_eq!(order.files, [("dfA001vm".to_owned(), "report".to_owned())]);
        let lprng = "Hvm\nPbob\nJ(STDIN)\nN(STDIN)\nfdfA002vm\nfdfA002vm\n";
        let order = Order::parse(lprng);
        assert_eq!((order.copies, order.name.as_str(), order.files.len()), (2, "", 1));
        let order = Order::parse("P../x\nNa/../..\nldfA1h\nldfB1h\n");
        assert_eq!((order.user.as_str(), order.files.len()), (".._x", 2));
        assert_eq!(order.name, "", "a name never begins with a dot");
        assert_eq!(Order::parse("\u{0}\n\n"), Order { copies: 1, ..Order::default() });
    }

    #[test]
    fn a_name_belongs_to_its_file_also_where_each_copy_has_one() {
        let names = |text: &str| -> Vec<String> {
            Order::parse(text).files.into_iter().map(|(_, name)| name).collect()
        };
        assert_eq!(names("fdfA1h\nNa\nfdfB1h\nNa\n"), ["a", "a"]);
        assert_eq!(names("Na\nfdfA1h\nNa\nfdfA1h\nNb\nfdfB1h\nNb\nfdfB1h\n"), ["a", "b"]);
        assert_eq!(names("fdfA1h\nfdfA1h\nNa\nfdfB1h\nfdfB1h\nNb\n"), ["a", "b"]);
    }

    #[test]
    fn the_clients_number_is_heard_of_three_digits_or_six() {
        let number = |text: &str| Order::parse(text).number;
        assert_eq!(number("Hvm\nfdfA017vm\n"), Some(17));
        assert_eq!(number("H9vm\nfdfA0179vm\n"), Some(17));
        assert_eq!(number("Hvm\nfdfA123456vm\n"), Some(123_456));
        assert_eq!(number("Hother\nfdfA017vm\n"), Some(17));
        assert_eq!(number("fdf\u{e9}\nfdfA\n"), None);
    }

    #[test]
    fn class_and_banner_are_heard() {
        let order = Order::parse("Csecret\nLalice\nfdfA1h\n");
        assert_eq!((order.class.as_str(), order.has_banner), ("secret", true));
        assert!(!Order::parse("fdfA1h\n").has_banner);
    }
}
