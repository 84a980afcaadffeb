//! `lpr` and `lp`: a job is staged under a name with a dot, then submitted by one command, whose
//! answer is its number.

use super::dress::Dress;
use super::{LprArgs, Office, Said, cannot_open};
use crate::spool::text::STAGED_BY_LPR;
use crate::words;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write, stdin};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// `lp`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  spindle lp -d lp0 -n 2 -t report /etc/motd")]
pub struct LpArgs {
    /// Which queue [default: $PRINTER, else lp0]
    #[arg(short, value_name = "QUEUE")]
    pub dest: Option<String>,
    /// How many copies
    #[arg(short, value_name = "N", default_value_t = 1)]
    pub number: u32,
    /// The job's name
    #[arg(short, value_name = "TITLE")]
    pub title: Option<String>,
    /// 1 to 100; 100 comes first
    #[arg(short = 'q', value_name = "PRIORITY")]
    pub priority: Option<u8>,
    /// hold; HH:MM, to hold it until that time of the day (UTC); immediate: first; and with -i
    /// resume, or restart: from its beginning
    #[arg(short = 'H', value_name = "WHEN", value_parser = when)]
    pub when: Option<When>,
    /// nobanner: no banner page, where the queue has them
    #[arg(short = 'o', value_name = "OPTION", value_parser = ["nobanner", "raw"])]
    pub options: Vec<String>,
    /// Change this job instead
    #[arg(short = 'i', value_name = "JOB")]
    pub id: Option<String>,
    /// Say nothing of the job's number
    #[arg(short)]
    pub silent: bool,
    /// The files; standard input without any
    pub files: Vec<PathBuf>,
}

/// Columns of `lpr -i` without a number, and the most there are.
const INDENT: usize = 8;
const INDENT_MAX: usize = 1000;

/// When a job is to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Not until it is let go.
    Held,
    /// Now that it was held.
    Resumed,
    /// Before all others.
    Immediate,
    /// From its beginning again.
    Again,
    /// Not before then, in seconds since 1970.
    Until(u64),
}

impl When {
    fn until(self) -> Option<u64> {
        match self {
            When::Until(until) => Some(until),
            _ => None,
        }
    }
}

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The next time after `now` that the clock says `HH:MM`, in seconds.
fn next(now: u64, clock: &str) -> Option<u64> {
    let (hours, minutes) = clock.split_once(':')?;
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let at = (hours < 24 && minutes < 60).then_some((hours * 60 + minutes) * 60)?;
    let today = now / DAY_SECONDS * DAY_SECONDS + at;
    Some(if today > now { today } else { today + DAY_SECONDS })
}

fn when(word: &str) -> Result<When, String> {
    match word {
        "hold" => Ok(When::Held),
        "resume" => Ok(When::Resumed),
        "immediate" => Ok(When::Immediate),
        "restart" => Ok(When::Again),
        clock => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            next(now.map_or(0, |now| now.as_secs()), clock)
                .map(When::Until)
                .ok_or_else(|| "hold, resume, immediate, restart or HH:MM is right".into())
        }
    }
}

/// What is to be submitted, however it was asked for.
struct Order<'a> {
    queue: String,
    copies: u32,
    priority: u8,
    is_held: bool,
    /// Until when it is held, in seconds since 1970.
    until: Option<u64>,
    name: Option<&'a str>,
    class: Option<&'a str>,
    /// Whose job it is to be; none: the caller's.
    user: Option<&'a str>,
    is_plain: bool,
    dress: Dress<'a>,
    files: &'a [PathBuf],
}

/// What stands for standard input among files.
const STDIN: &str = "-";

/// A staged file, removed again unless it was submitted.
struct Staged {
    path: PathBuf,
    name: String,
    is_submitted: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_submitted {
            let _ = std::fs::remove_file(&self.path); // it ends with the machine at the latest
        }
    }
}

/// A staged file that is made with its first byte: what has none uses up no job number.
struct Draft<'a> {
    office: &'a Office,
    queue: &'a str,
    /// Closed before it is removed.
    staged: Option<(File, Staged)>,
    /// Why it could not be made.
    refusal: Option<String>,
}

impl Write for Draft<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.staged.is_none() {
            let staged = self.office.stage(self.queue);
            self.staged = Some(staged.map_err(|why| {
                self.refusal = Some(why.clone());
                std::io::Error::other(why)
            })?);
        }
        self.staged.as_mut().map_or(Ok(0), |(file, _)| file.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.staged.as_mut().map_or(Ok(()), |(file, _)| file.flush())
    }
}

impl Office {
    fn stage(&self, queue: &str) -> Result<(File, Staged), String> {
        for number in 0..100_000 {
            let name = format!("{STAGED_BY_LPR}{}-{number}", std::process::id());
            let path = self.path(queue, &name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, Staged { path, name, is_submitted: false })),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err("Printer queue is disabled".into());
                }
                Err(error) => return Err(format!("{queue}: {}", words::of_host(&error))),
            }
        }
        Err(format!("{queue}: too many staged files"))
    }

    /// Submits the files as one job; its number, and what could not be read.
    fn submit(&self, order: &Order<'_>) -> Result<(u64, Vec<String>), String> {
        let (queue, staged, refusal) = (order.queue.as_str(), None, None);
        let mut draft = Draft { office: self, queue, staged, refusal };
        let (mut parts, mut wrong) = (Vec::new(), Vec::new());
        let only_stdin = [PathBuf::from(STDIN)];
        let files = if order.files.is_empty() { &only_stdin[..] } else { order.files };
        for path in files {
            let name = path.display().to_string();
            match part(path) {
                Ok(file) => {
                    let is_stdin = name == STDIN;
                    let shown = if is_stdin { "(standard input)".into() } else { name };
                    let title = if is_stdin { "" } else { &shown };
                    let copied = order.dress.copy(file, title, &mut draft, &order.queue);
                    let bytes = copied.map_err(|why| draft.refusal.take().unwrap_or(why))?;
                    match bytes {
                        0 if is_stdin => wrong.push("standard input is empty".into()),
                        0 => wrong.push(format!("{shown} is an empty file")),
                        _ => parts.push((shown, bytes)),
                    }
                }
                Err(words) => wrong.push(words),
            }
        }
        let Some((out, mut staged)) = draft.staged.take().filter(|_| !parts.is_empty()) else {
            return Err(wrong.join("\n"));
        };
        let is_stdin = |(name, _): &(String, u64)| name == "(standard input)";
        if parts.len() == 1 && is_stdin(&parts[0]) {
            parts.clear(); // what has no name is standard input
        }
        out.sync_all().map_err(|error| format!("{}: {}", order.queue, words::of_host(&error)))?;
        drop(out);
        let file_name = |path: &str| {
            Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned())
        };
        let first = parts.first().and_then(|(path, _)| file_name(path)).unwrap_or_default();
        let name = order.name.map_or(first, str::to_owned);
        let mut command = vec!["submit".to_owned(), staged.name.clone(), format!("name={name}")];
        command.push(format!("copies={}", order.copies));
        command.push(format!("priority={}", order.priority));
        command.push(format!("hold={}", u8::from(order.is_held)));
        command.extend(order.until.map(|until| format!("until={until}")));
        command.extend(order.class.map(|class| format!("class={class}")));
        command.extend(order.user.map(|user| format!("user={user}")));
        if order.is_plain {
            command.push("banner=0".into());
        }
        if parts.len() > 1 || order.name.is_none() {
            command.extend(parts.iter().map(|(path, bytes)| format!("file={bytes}:{path}")));
        }
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let answer = self.ctl(&order.queue, &words)?;
        staged.is_submitted = true;
        let id = answer.trim().parse().map_err(|_| format!("{}: {answer}", order.queue))?;
        Ok((id, wrong))
    }
}

/// Opens a file to print.
fn part(path: &Path) -> Result<File, String> {
    let told = |error: std::io::Error| cannot_open(path, &error);
    if path == Path::new(STDIN) {
        return stdin().as_fd().try_clone_to_owned().map(File::from).map_err(told);
    }
    let file = File::open(path).map_err(told)?;
    let data = file.metadata().map_err(told)?;
    if data.is_dir() {
        return Err(format!("{} is a directory", path.display()));
    }
    if !data.is_file() {
        return Err(format!("{} is not a regular file", path.display()));
    }
    if data.len() == 0 {
        return Err(format!("{} is an empty file", path.display()));
    }
    Ok(file)
}

/// Submits files, as BSD's `lpr`.
///
/// # Errors
/// Why there is no job.
pub fn lpr(office: &Office, args: &LprArgs) -> Result<Said, String> {
    if args.mail {
        let words = "nobody here sends mail; lpq tells of a job, and .log of its queue of its end";
        return Err(format!("-m: {words}"));
    }
    let (dress, files) = args.dress()?;
    let order = Order {
        queue: office.queue(args.queue.as_deref())?,
        copies: args.copies,
        priority: args.priority,
        is_held: args.hold,
        until: None,
        name: args.job.as_deref().or(args.title.as_deref()),
        class: args.class.as_deref(),
        user: args.user.as_deref(),
        is_plain: args.no_banner,
        dress,
        files: &files,
    };
    let (_, mut wrong) = office.submit(&order)?;
    if args.remove && wrong.is_empty() {
        for path in files.iter().filter(|path| **path != Path::new(STDIN)) {
            if let Err(error) = std::fs::remove_file(path) {
                wrong.push(format!("{}: {}", path.display(), words::of_host(&error)));
            }
        }
    }
    let notes = match args.symlink {
        true => vec!["-s: the files are copied all the same; they may be removed now".into()],
        false => Vec::new(),
    };
    Ok(Said { out: String::new(), wrong, notes })
}

impl LprArgs {
    /// How text is dressed, and the files. `-i` takes the next word only where that is a number,
    /// as BSD's does.
    fn dress(&self) -> Result<(Dress<'_>, Vec<PathBuf>), String> {
        let mut files = self.files.clone();
        let indent = match self.indent.as_deref() {
            None => 0,
            Some(word) => word.parse().unwrap_or_else(|_| {
                files.insert(0, word.into());
                INDENT
            }),
        };
        if indent > INDENT_MAX {
            return Err(format!("-i: {indent}: at most {INDENT_MAX} columns are right"));
        }
        let title = self.title.as_deref();
        Ok((Dress { indent, is_paged: self.is_paged, title, width: self.width }, files))
    }
}

/// Submits files, or changes a job, as System V's `lp`.
///
/// # Errors
/// Why there is no job, or why it is not changed.
pub fn lp(office: &Office, args: &LpArgs) -> Result<Said, String> {
    if let Some(job) = &args.id {
        return alter(office, job, args);
    }
    let order = Order {
        queue: office.queue(args.dest.as_deref())?,
        copies: args.number,
        priority: args.priority.unwrap_or(50),
        is_held: args.when == Some(When::Held),
        until: args.when.and_then(When::until),
        name: args.title.as_deref(),
        class: None,
        user: None,
        is_plain: args.options.iter().any(|option| option == "nobanner"),
        dress: Dress::default(),
        files: &args.files,
    };
    let (id, wrong) = office.submit(&order)?;
    if args.when == Some(When::Immediate) {
        office.ctl(&order.queue, &["top", &id.to_string()])?;
    }
    let named = args.files.iter().filter(|path| **path != Path::new(STDIN)).count();
    let files = named.saturating_sub(wrong.len());
    let out = match args.silent {
        true => String::new(),
        false => format!("request id is {}-{id} ({files} file(s))\n", order.queue),
    };
    Ok(Said { out, wrong, ..Said::default() })
}

fn alter(office: &Office, job: &str, args: &LpArgs) -> Result<Said, String> {
    let (queue, id) = office.find(job)?;
    let id = id.to_string();
    if let Some(priority) = args.priority {
        office.ctl(&queue, &["pri", &id, &priority.to_string()])?;
    }
    match args.when {
        Some(When::Held) => office.ctl(&queue, &["hold", &id])?,
        Some(When::Resumed) => office.ctl(&queue, &["release", &id])?,
        Some(When::Again) => office.ctl(&queue, &["redo", &id])?,
        Some(When::Immediate) => office.ctl(&queue, &["top", &id])?,
        Some(When::Until(until)) => office.ctl(&queue, &["until", &id, &until.to_string()])?,
        None => String::new(),
    };
    Ok(Said::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_day_is_the_next_one() {
        let noon = 1_795_176_000; // Fri Nov 20 12:00:00 2026
        assert_eq!(next(noon, "12:30"), Some(noon + 1800));
        assert_eq!(next(noon, "12:00"), Some(noon + DAY_SECONDS));
        assert_eq!(next(noon, "0:05"), Some(noon + 43_500));
        for wrong in ["24:00", "12:60", "12", "", "-1:00", "now", "1:2:3"] {
            assert_eq!(next(noon, wrong), None, "{wrong}");
        }
        assert_eq!(when("hold"), Ok(When::Held));
        assert!(when("soon").is_err());
    }
}
