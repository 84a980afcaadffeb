//! What `lpq` and its family print of a queue: from one view of it, for people and for programs.
//!
//! The formats are those of 4.4BSD's commands, but that nothing is cut: a long name pushes the rest
//! of its line to the right.

use serde_json::{Value, json};
use std::fmt::Write;

/// How the names of files begin that `lpr` stages; a submission that ended in it will not be
/// finished by anybody.
pub const STAGED_BY_LPR: &str = ".lpr-";

/// Column in which `Total Size` begins.
const SIZE_COLUMN: usize = 61;
/// Names of files end before this column, or ` ...` stands for the rest.
const NAMES_END: usize = 58;

/// A job as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobView {
    /// Its number.
    pub id: u64,
    /// `active`, `1st`, `held`, `spooling`.
    pub rank: String,
    /// Name of its owner.
    pub owner: String,
    /// Names and bytes of its files.
    pub files: Vec<(String, u64)>,
    /// Bytes of all copies.
    pub bytes: u64,
    /// How many copies.
    pub copies: u32,
    /// 1 to 100.
    pub priority: u8,
    /// When it was submitted, in seconds since 1970.
    pub time: u64,
    /// Until when it is held, in seconds since 1970; 0: not for a time.
    pub until: u64,
    /// The number that a client on the network gave it.
    pub client: Option<u64>,
    /// The printer that prints it.
    pub printer: Option<String>,
}

/// A queue as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// The printers of a class.
    pub members: Vec<String>,
    /// Nothing is printed.
    pub is_stopped: bool,
    /// Nothing is taken.
    pub is_disabled: bool,
    /// What the operator said.
    pub message: String,
    /// What the printer says: `lp0: out of paper`; empty when it is ready.
    pub trouble: String,
    /// When its operator last said something of it, or its start, in seconds since 1970.
    pub since: u64,
    /// Where its output goes.
    pub sink: String,
    /// Name of the machine.
    pub host: String,
    /// Its jobs, in the order of printing; those still being written come last.
    pub jobs: Vec<JobView>,
}

/// A job that is no more, as `.log` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinishedView {
    /// When, in seconds since 1970.
    pub time: u64,
    /// Its number.
    pub id: u64,
    /// Name of its owner.
    pub owner: String,
    /// Its name.
    pub title: String,
    /// Bytes of all copies.
    pub bytes: u64,
    /// `printed on lp0`, `removed by root`, `dropped: why`, `lost: why`.
    pub fate: String,
}

/// How a fate begins.
const FATES: [&str; 4] = [" printed on ", " removed by ", " dropped: ", " lost: "];

impl FinishedView {
    /// Its line, with the line end.
    #[must_use]
    pub fn line(&self) -> String {
        let FinishedView { time, id, owner, title, bytes, fate } = self;
        // The title may have blanks: it is what is left between the others.
        let owner: String =
            owner.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
        format!("{time} {id} {owner} {title} {bytes} {fate}\n")
    }

    /// The job of a line; `None`: it is none.
    #[must_use]
    pub fn parse(line: &str) -> Option<FinishedView> {
        let at = FATES.iter().filter_map(|fate| line.rfind(fate)).max()?;
        let (job, fate) = line.split_at(at);
        let mut words = job.splitn(4, ' ');
        let (time, id) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let owner = words.next()?.to_owned();
        let (title, bytes) = words.next()?.rsplit_once(' ')?;
        let (title, fate) = (title.to_owned(), fate.trim_start().to_owned());
        Some(FinishedView { time, id, owner, title, bytes: bytes.parse().ok()?, fate })
    }
}

/// `1st`, `2nd`, `3rd`, `4th`, `11th`, `21st`.
#[must_use]
pub fn rank(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// A time as ctime(3) writes it, without the line end, in Universal Time.
#[must_use]
pub fn ctime(seconds: u64) -> String {
    let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    let utc = crate::words::utc(at);
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let day = DAYS[usize::try_from(seconds / 86_400 % 7).unwrap_or(0)];
    let part = |range: std::ops::Range<usize>| utc.get(range).unwrap_or("0");
    let month = part(5..7).parse::<usize>().unwrap_or(1).clamp(1, 12);
    let date = part(8..10).trim_start_matches('0');
    format!("{day} {} {date:>2} {} {}", MONTHS[month - 1], part(11..19), part(0..4))
}

impl QueueView {
    /// Whether anything is wrong with it that a user should know.
    fn warnings(&self) -> String {
        let mut text = String::new();
        if self.is_stopped {
            let why = if self.message.is_empty() { "printing disabled" } else { &self.message };
            let _ = writeln!(text, "Warning: {} is down: {why}", self.name); // a String takes all
        }
        if self.is_disabled {
            let _ = writeln!(text, "Warning: {} queue is turned off", self.name);
        }
        text
    }

    /// The one line of status: what the operator said, what the printer says, or that it prints.
    #[must_use]
    pub fn state(&self) -> String {
        match () {
            () if !self.message.is_empty() => self.message.clone(),
            () if self.is_stopped => "printing disabled".into(),
            () if !self.trouble.is_empty() => self.trouble.clone(),
            () => format!("{} is ready and printing", self.name),
        }
    }

    /// The view of those jobs only that are asked for, by number or by owner; with their ranks. A
    /// number that is none of ours is one that a client gave.
    #[must_use]
    pub fn of(mut self, wanted: &[String]) -> QueueView {
        if !wanted.is_empty() {
            let is_ours = |number: u64| self.jobs.iter().any(|job| job.id == number);
            let is_meant = |job: &JobView, word: &String| match word.parse::<u64>() {
                _ if *word == job.owner => true,
                Ok(number) if is_ours(number) => job.id == number,
                Ok(number) => job.client == Some(number),
                Err(_) => false,
            };
            let is_wanted = |job: &&JobView| wanted.iter().any(|word| is_meant(job, word));
            self.jobs = self.jobs.iter().filter(is_wanted).cloned().collect();
        }
        self
    }

    fn head(&self) -> String {
        let is_idle = self.jobs.is_empty() && !self.is_stopped && self.trouble.is_empty();
        let state =
            if is_idle && self.message.is_empty() { String::new() } else { self.state() + "\n" };
        self.warnings() + &state
    }

    /// As `lpq` prints it.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.head();
        if self.jobs.is_empty() {
            return text + "no entries\n";
        }
        let _ = writeln!(text, "{:<7}{:<11}{:<5}{:<38}Total Size", "Rank", "Owner", "Job", "Files");
        for job in &self.jobs {
            let mut line = format!("{:<6} {:<10} {:<3}  ", job.rank, job.owner, job.id);
            for (number, (name, _)) in job.files.iter().enumerate() {
                let comma = if number == 0 { "" } else { ", " };
                if number > 0 && line.chars().count() + name.chars().count() + 2 > NAMES_END {
                    line.push_str(" ...");
                    break;
                }
                line.push_str(comma);
                line.push_str(name);
            }
            let width = line.chars().count();
            let gap = if width < SIZE_COLUMN { SIZE_COLUMN - width } else { 1 };
            let _ = writeln!(text, "{line}{:gap$}{} bytes", "", job.bytes);
        }
        text
    }

    /// As `lpq -l` prints it.
    #[must_use]
    pub fn long(&self) -> String {
        let mut text = self.head();
        if self.jobs.is_empty() {
            return text + "no entries\n";
        }
        for job in &self.jobs {
            let who = format!("{}: {}", job.owner, job.rank);
            let _ = writeln!(text, "\n{who:<40} [job {:03}{}]", job.id, self.host);
            let time = ctime(job.time);
            for (name, bytes) in &job.files {
                let name = match job.copies {
                    1 => format!("{name:<32}"),
                    copies => format!("{copies:<2} copies of {name:<19}"),
                };
                let _ = writeln!(text, "\t{name} {bytes:>8} bytes -- {time}");
            }
        }
        text
    }

    /// As `lpc status` prints it.
    #[must_use]
    pub fn lpc(&self) -> String {
        let on = |is_off: bool| if is_off { "disabled" } else { "enabled" };
        let entries = match self.jobs.len() {
            0 => "no entries".into(),
            1 => "1 entry in spool area".into(),
            many => format!("{many} entries in spool area"),
        };
        let state = if self.jobs.is_empty() && self.trouble.is_empty() && self.message.is_empty() {
            "printer idle".into()
        } else {
            self.state()
        };
        format!(
            "{}:\n\tqueuing is {}\n\tprinting is {}\n\t{entries}\n\t{state}\n",
            self.name,
            on(self.is_disabled),
            on(self.is_stopped)
        )
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let jobs: Vec<Value> = self.jobs.iter().map(JobView::json).collect();
        json!({
            "queue": self.name, "members": self.members, "stopped": self.is_stopped,
            "disabled": self.is_disabled, "message": self.message, "trouble": self.trouble,
            "since": self.since,
            "sink": self.sink, "host": self.host, "jobs": jobs,
        })
    }

    /// The view that [`QueueView::json`] has written; what is missing is empty.
    #[must_use]
    pub fn from_json(value: &Value) -> QueueView {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let list = |key: &str| value[key].as_array().cloned().unwrap_or_default();
        let names = |value: &Value| value.as_str().map(str::to_owned);
        QueueView {
            name: text("queue"),
            members: list("members").iter().filter_map(names).collect(),
            is_stopped: value["stopped"] == true,
            is_disabled: value["disabled"] == true,
            message: text("message"),
            trouble: text("trouble"),
            since: value["since"].as_u64().unwrap_or_default(),
            sink: text("sink"),
            host: text("host"),
            jobs: list("jobs").iter().map(JobView::from_json).collect(),
        }
    }
}

impl JobView {
    fn json(&self) -> Value {
        let file = |(name, bytes): &(String, u64)| json!({ "name": name, "bytes": bytes });
        let files: Vec<Value> = self.files.iter().map(file).collect();
        json!({
            "job": self.id, "rank": self.rank, "owner": self.owner, "files": files,
            "bytes": self.bytes, "copies": self.copies, "priority": self.priority,
            "submitted": self.time, "printer": self.printer,
            "held_until": self.until, "client_number": self.client,
        })
    }

    fn from_json(value: &Value) -> JobView {
        let number = |key: &str| value[key].as_u64().unwrap_or_default();
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let file =
            |value: &Value| Some((value["name"].as_str()?.to_owned(), value["bytes"].as_u64()?));
        let files = value["files"].as_array().cloned().unwrap_or_default();
        JobView {
            id: number("job"),
            rank: text("rank"),
            owner: text("owner"),
            files: files.iter().filter_map(file).collect(),
            bytes: number("bytes"),
            copies: u32::try_from(number("copies")).unwrap_or(1),
            priority: u8::try_from(number("priority")).unwrap_or(0),
            time: number("submitted"),
            until: number("held_until"),
            client: value["client_number"].as_u64(),
            printer: value["printer"].as_str().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: u64, rank: &str, owner: &str, files: &[(&str, u64)], copies: u32) -> JobView {
        let files: Vec<(String, u64)> =
            files.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        let bytes = files.iter().map(|(_, bytes)| bytes).sum::<u64>() * u64::from(copies);
        let (rank, owner) = (rank.to_owned(), owner.to_owned());
        let time = 1_795_179_416; // Fri Nov 20 12:56:56 2026
        let priority = 50;
        JobView { id, rank, owner, files, bytes, copies, priority, time, ..JobView::default() }
    }

    fn view() -> QueueView {
        let jobs = vec![
            job(0, "active", "alice", &[("a.txt", 10)], 1),
            job(2, "1st", "bob", &[("(standard input)", 8)], 1),
            job(
                4,
                "2nd",
                "bob",
                &[("c.txt", 8), ("/home/alice/b.txt", 1141), ("notes.txt.old", 18)],
                1,
            ),
            job(3, "3rd", "bob", &[("c.txt", 8)], 3),
            job(1, "4th", "alice", &[("b.txt", 1141), ("a.txt", 10)], 1),
        ];
        QueueView { name: "lp".into(), host: "vm".into(), jobs, ..QueueView::default() }
    }

    #[test]
    fn the_short_list_is_bsds_byte_for_byte() {
        let text = "\
lp is ready and printing
Rank   Owner      Job  Files                                 Total Size
active alice      0    a.txt                                 10 bytes
1st    bob        2    (standard input)                      8 bytes
2nd    bob        4    c.txt, /home/alice/b.txt ...          1167 bytes
3rd    bob        3    c.txt                                 24 bytes
4th    alice      1    b.txt, a.txt                          1151 bytes
";
        assert_eq!(view().short(), text);
        let text = "\
lp is ready and printing
Rank   Owner      Job  Files                                 Total Size
active alice      0    a.txt                                 10 bytes
4th    alice      1    b.txt, a.txt                          1151 bytes
";
        assert_eq!(view().of(&["alice".into()]).short(), text, "a filter keeps the ranks");
        assert_eq!(view().of(&["3".into()]).jobs.len(), 1);
    }

    #[test]
    fn the_long_list_is_bsds_byte_for_byte() {
        let text = view().long();
        let begin = "\
lp is ready and printing

alice: active                            [job 000vm]
\ta.txt                                  10 bytes -- Fri Nov 20 12:56:56 2026

bob: 1st                                 [job 002vm]
\t(standard input)                        8 bytes -- Fri Nov 20 12:56:56 2026
";
        assert!(text.starts_with(begin), "{text}");
        let three = "
bob: 3rd                                 [job 003vm]
\t3  copies of c.txt                      8 bytes -- Fri Nov 20 12:56:56 2026
";
        assert!(text.contains(three), "{text}");
    }

    #[test]
    fn a_queue_that_is_down_says_so_first() {
        let mut view = view().of(&["2".into()]);
        view.is_stopped = true;
        assert!(
            view.short()
                .starts_with("Warning: lp is down: printing disabled\nprinting disabled\nRank ")
        );
        (view.is_disabled, view.message) = (true, "paper jam, technician called".into());
        let text = "\
Warning: lp is down: paper jam, technician called
Warning: lp queue is turned off
paper jam, technician called
";
        assert!(view.short().starts_with(text));
        let block = "lp:\n\tqueuing is disabled\n\tprinting is disabled\n\t1 entry in spool area\n";
        assert!(view.lpc().starts_with(block));
    }

    #[test]
    fn an_idle_queue_has_no_entries() {
        let idle = QueueView { name: "lp".into(), ..QueueView::default() };
        assert_eq!((idle.short(), idle.long()), ("no entries\n".into(), "no entries\n".into()));
        let block =
            "lp:\n\tqueuing is enabled\n\tprinting is enabled\n\tno entries\n\tprinter idle\n";
        assert_eq!(idle.lpc(), block);
    }

    #[test]
    fn columns_never_run_together() {
        let mut view = view();
        view.jobs =
            vec![job(1_234_567, "10000th", "a_very_long_owner", &[(&"x".repeat(80), 5)], 1)];
        let text = view.short();
        let line: Vec<&str> = text.lines().nth(2).unwrap().split_whitespace().collect();
        let words = ["10000th", "a_very_long_owner", "1234567", &"x".repeat(80), "5", "bytes"];
        assert_eq!(line, words);
    }

    #[test]
    fn ranks_are_english() {
        let table = [
            (1, "1st"),
            (2, "2nd"),
            (3, "3rd"),
            (4, "4th"),
            (11, "11th"),
            (12, "12th"),
            (13, "13th"),
            (21, "21st"),
            (102, "102nd"),
            (111, "111th"),
        ];
        for (number, word) in table {
            assert_eq!(rank(number), word);
        }
    }

    #[test]
    fn a_finished_job_comes_back_from_its_line() {
        for (title, fate) in [
            ("report", "printed on lp0"),
            ("a b 17 printed on lp1", "removed by root"),
            ("(standard input)", "dropped: its writer was killed"),
            ("", "lost: its file is gone"),
        ] {
            let (title, fate) = (title.to_owned(), fate.to_owned());
            let job = FinishedView { time: 9, id: 17, owner: "bob".into(), title, bytes: 3, fate };
            assert_eq!(FinishedView::parse(job.line().trim_end()), Some(job));
        }
        let job =
            FinishedView { owner: "a b".into(), fate: "lost: x".into(), ..Default::default() };
        assert_eq!(job.line(), "0 0 a_b  0 lost: x\n");
        assert_eq!(FinishedView::parse("what is this?"), None);
    }

    #[test]
    fn a_view_comes_back_from_its_json() {
        let view = view();
        assert_eq!(QueueView::from_json(&view.json()), view);
        assert_eq!(QueueView::from_json(&json!(7)), QueueView::default());
    }
}
