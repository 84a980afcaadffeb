//! The spooler's commands: lpr, lpq, lprm, lpc, lp, lpstat, cancel, lpmove. They reach the spool
//! only through the files under the mount, and their exit status tells the truth.

mod dress;
mod lpc;
mod lpstat;
mod submit;

pub use lpc::{LpcArgs, lpc};
pub use lpstat::{LpstatArgs, lpstat};
pub use submit::{LpArgs, lp, lpr};

use crate::spool::text::QueueView;
use crate::words;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// The names of the commands, as the binary may be called by them.
pub const NAMES: [&str; 8] = ["lpr", "lpq", "lprm", "lpc", "lp", "lpstat", "cancel", "lpmove"];

/// What a command prints, and what it could not do, a line each.
#[derive(Debug, Default)]
pub struct Said {
    /// For standard output.
    pub out: String,
    /// For standard error; with any the exit status is 1.
    pub wrong: Vec<String>,
    /// For standard error, of what was done in another way than asked.
    pub notes: Vec<String>,
}

impl Said {
    fn add(&mut self, result: Result<String, String>) {
        match result {
            Ok(text) => self.out += &text,
            Err(words) => self.wrong.push(words),
        }
    }
}

/// `lpr`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  spindle lpr -P lp0 -J report /etc/motd")]
pub struct LprArgs {
    /// Which queue [default: $PRINTER, else lp0]
    #[arg(short = 'P', value_name = "QUEUE")]
    pub queue: Option<String>,
    /// How many copies
    #[arg(short = '#', value_name = "N", default_value_t = 1)]
    pub copies: u32,
    /// The job's name [default: that of the first file]
    #[arg(short = 'J', value_name = "NAME")]
    pub job: Option<String>,
    /// 1 to 100; 100 comes first
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub priority: u8,
    /// Hold it
    #[arg(long)]
    pub hold: bool,
    /// Remove the files once they are submitted
    #[arg(short)]
    pub remove: bool,
    /// No banner page, where the queue has them
    #[arg(short = 'h')]
    pub no_banner: bool,
    /// What sort of job it is, for the banner page
    #[arg(short = 'C', value_name = "CLASS")]
    pub class: Option<String>,
    /// The bytes as they are; that is so without -p and -i
    #[arg(short, conflicts_with_all = ["is_paged", "indent"])]
    pub literal: bool,
    /// Set text in pages, with pr(1)
    #[arg(short = 'p')]
    pub is_paged: bool,
    /// The title of these pages, and on the banner page; without -J the job's name too
    #[arg(short = 'T', value_name = "TITLE")]
    pub title: Option<String>,
    /// Columns of these pages
    #[arg(short, value_name = "COLUMNS", requires = "is_paged",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub width: Option<u32>,
    /// Indent text by so many columns
    #[arg(short, value_name = "COLUMNS", num_args = 0..=1, default_missing_value = "8")]
    pub indent: Option<String>,
    /// Whose job it is; only root may say so
    #[arg(short = 'U', value_name = "USER")]
    pub user: Option<String>,
    /// Print large files without copying them; they are copied all the same, and it is said so
    #[arg(short)]
    pub symlink: bool,
    /// Mail on completion: refused, there is no mail
    #[arg(short)]
    pub mail: bool,
    /// Help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// The files; - is standard input, and so is none
    pub files: Vec<PathBuf>,
}

/// `lpq`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  spindle lpq -P lp0 alice")]
pub struct LpqArgs {
    /// Which queue [default: $PRINTER, else lp0]
    #[arg(short = 'P', value_name = "QUEUE")]
    pub queue: Option<String>,
    /// All queues
    #[arg(short)]
    pub all: bool,
    /// More about each job
    #[arg(short)]
    pub long: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Numbers of jobs, and names of users
    pub jobs: Vec<String>,
}

/// `lprm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  spindle lprm -P lp0 17")]
pub struct LprmArgs {
    /// Which queue [default: the job's]
    #[arg(short = 'P', value_name = "QUEUE")]
    pub queue: Option<String>,
    /// Numbers of jobs, names of users, - for all of your own; without any the active job
    pub jobs: Vec<String>,
}

/// `cancel`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  spindle cancel lp0-17")]
pub struct CancelArgs {
    /// All jobs of yours, in the queues named or in all
    #[arg(short)]
    pub all: bool,
    /// All jobs of that user
    #[arg(short, value_name = "USER")]
    pub user: Option<String>,
    /// Jobs, as 17 or lp0-17; or queues: the job that each prints
    pub jobs: Vec<String>,
}

/// `lpmove`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  spindle lpmove lp0-17 lp1")]
pub struct LpmoveArgs {
    /// A job, as 17 or lp0-17; or a queue: all its jobs
    pub what: String,
    /// To which queue
    pub queue: String,
}

/// The spool of a machine, seen from outside.
pub struct Office {
    dir: PathBuf,
}

impl Office {
    /// The spool under a mount point.
    #[must_use]
    pub fn at(point: &Path) -> Office {
        Office { dir: point.join("spool") }
    }

    /// The queues, by name.
    fn queues(&self) -> Result<Vec<String>, String> {
        let told = |e: std::io::Error| format!("{}: {}", self.dir.display(), words::of_host(&e));
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(told)? {
            let name = entry.map_err(told)?.file_name();
            names.extend(name.to_str().map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// The queue asked for, or the one that is meant where none is.
    fn queue(&self, asked: Option<&str>) -> Result<String, String> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let asked = asked.map(str::to_owned);
        let named = asked.or_else(|| variable("PRINTER")).or_else(|| variable("LPDEST"));
        if let Some(name) = named {
            let is_there = !name.contains('/') && self.dir.join(&name).is_dir();
            return if is_there { Ok(name) } else { Err(format!("{name}: unknown printer")) };
        }
        let all = self.queues()?;
        let first = all.iter().find(|name| *name == "lp0").or(all.first());
        first.cloned().ok_or_else(|| "there is no printer".into())
    }

    fn path(&self, queue: &str, name: &str) -> PathBuf {
        self.dir.join(queue).join(name)
    }

    fn text(&self, queue: &str, name: &str) -> Result<String, String> {
        let path = self.path(queue, name);
        std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {}", path.display(), words::of_host(&error)))
    }

    fn json(&self, queue: &str) -> Result<Value, String> {
        let text = self.text(queue, ".json")?;
        serde_json::from_str(&text).map_err(|error| format!("{queue}: {error}"))
    }

    fn view(&self, queue: &str) -> Result<QueueView, String> {
        Ok(QueueView::from_json(&self.json(queue)?))
    }

    /// Gives a queue a command; its answer, or the words of its refusal.
    fn ctl(&self, queue: &str, words: &[&str]) -> Result<String, String> {
        self.order(queue, words).map_err(|(words, _)| words)
    }

    /// As [`Office::ctl`]; of a refusal also its kind.
    fn order(&self, queue: &str, words: &[&str]) -> Result<String, (String, ErrorKind)> {
        let path = self.path(queue, ".ctl");
        let told =
            |e: &std::io::Error| (format!("{}: {}", path.display(), words::of_host(e)), e.kind());
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let mut file = opened.map_err(|error| told(&error))?;
        let line: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        // One write(2): each is a command.
        let written = file.write(format!("{}\n", line.join(" ")).as_bytes());
        let mut answer = String::new();
        let read = file.read_to_string(&mut answer);
        match (written, read) {
            (Ok(_), Ok(_)) => Ok(answer),
            (Err(error), _) if !answer.trim().is_empty() => {
                Err((answer.trim_end().to_owned(), error.kind()))
            }
            (Err(error), _) | (_, Err(error)) => Err(told(&error)),
        }
    }

    /// The queue of a job named `17` or `lp0-17`, and its number.
    fn find(&self, job: &str) -> Result<(String, u64), String> {
        let unknown = || format!("Job #{job} does not exist.");
        let (queue, number) = match job.rsplit_once('-') {
            Some((queue, number)) => (Some(queue), number),
            None => (None, job),
        };
        let id: u64 = number.parse().map_err(|_| unknown())?;
        let queues = match queue {
            Some(queue) => vec![queue.to_owned()],
            None => self.queues()?,
        };
        for queue in queues {
            let view = self.view(&queue).map_err(|_| unknown())?;
            if view.jobs.iter().any(|job| job.id == id) {
                return Ok((queue, id));
            }
        }
        Err(unknown())
    }
}

/// A word as the machine takes it for one: in quotes, without what no command may have.
fn quoted(word: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    let word: String = word.chars().map(plain).collect();
    if word.contains('\'') {
        return format!("\"{}\"", word.replace('"', "'"));
    }
    format!("'{word}'")
}

/// What `lpq` prints.
///
/// # Errors
/// Why it could not be had.
pub fn lpq(office: &Office, args: &LpqArgs) -> Result<Said, String> {
    let queues = match args.all {
        true => office.queues()?,
        false => vec![office.queue(args.queue.as_deref())?],
    };
    let (mut said, mut views) = (Said::default(), Vec::new());
    for queue in &queues {
        let view = office.view(queue)?.of(&args.jobs);
        if args.json {
            views.push(view.json());
            continue;
        }
        if args.all {
            said.out += &format!("{queue}:\n");
        }
        said.out += &if args.long { view.long() } else { view.short() };
        if args.all {
            said.out.push('\n');
        }
    }
    if args.json {
        let all = if args.all { Value::Array(views) } else { views.remove(0) };
        said.out = format!("{all:#}\n");
    }
    Ok(said)
}

/// Removes jobs.
///
/// # Errors
/// That there is no such queue.
pub fn lprm(office: &Office, args: &LprmArgs) -> Result<Said, String> {
    let mut said = Said::default();
    let default = office.queue(args.queue.as_deref());
    if args.jobs.is_empty() {
        said.add(office.ctl(&default?, &["rm"]));
        return Ok(said);
    }
    for job in &args.jobs {
        let is_number = job.parse::<u64>().is_ok();
        let queue = match (&args.queue, is_number) {
            (None, true) => match office.find(job) {
                Ok((queue, _)) => queue,
                Err(words) => {
                    said.wrong.push(words);
                    continue;
                }
            },
            _ => default.clone()?,
        };
        said.add(office.ctl(&queue, &["rm", job]));
    }
    Ok(said)
}

/// Removes jobs, by System V's names for them.
///
/// # Errors
/// That no job is named, or the spool cannot be read.
pub fn cancel(office: &Office, args: &CancelArgs) -> Result<Said, String> {
    let mut said = Said::default();
    if args.all || args.user.is_some() {
        let queues = if args.jobs.is_empty() { office.queues()? } else { args.jobs.clone() };
        let who = args.user.as_deref().unwrap_or("-");
        let mut has_any = false;
        for queue in &queues {
            match office.order(queue, &["rm", who]) {
                Ok(_) => has_any = true,
                // He may have some in the other queues.
                Err((_, ErrorKind::NotFound)) if office.dir.join(queue).is_dir() => {}
                Err((words, _)) => said.wrong.push(words),
            }
        }
        if !has_any && said.wrong.is_empty() {
            said.wrong.push(format!("{who}: no jobs of that user"));
        }
        return Ok(said);
    }
    if args.jobs.is_empty() {
        return Err("which job? lp0-17, 17, or a queue for the job that it prints".into());
    }
    let queues = office.queues()?;
    for job in &args.jobs {
        let done = match queues.contains(job) {
            true => office.ctl(job, &["rm"]).map_err(|why| format!("{job}: {why}")),
            false => office
                .find(job)
                .and_then(|(queue, id)| office.ctl(&queue, &["rm", &id.to_string()])),
        };
        said.add(done.map(|_| String::new()).map_err(|why| format!("cancel-job failed: {why}")));
    }
    Ok(said)
}

/// Moves jobs to another queue.
///
/// # Errors
/// That there is no such job or queue, or why it may not be.
pub fn lpmove(office: &Office, args: &LpmoveArgs) -> Result<Said, String> {
    let to = office.queue(Some(&args.queue))?;
    if office.queues()?.contains(&args.what) {
        office.ctl(&args.what, &["move", "*", &to])?;
    } else {
        let (from, id) = office.find(&args.what)?;
        office.ctl(&from, &["move", &id.to_string(), &to])?;
    }
    Ok(Said::default())
}

/// Why a file could not be opened or read, as BSD's commands say it.
fn cannot_open(path: &Path, error: &std::io::Error) -> String {
    let verb = if error.kind() == ErrorKind::NotFound { "cannot open" } else { "cannot access" };
    format!("{verb} {}: {}", path.display(), words::of_host(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_so_that_it_stays_one() {
        for (word, shown) in
            [("17", "'17'"), ("a b", "'a b'"), ("it's", "\"it's\""), ("a\nb", "'a?b'")]
        {
            assert_eq!(quoted(word), shown);
        }
    }

    #[test]
    fn a_queue_that_is_not_there_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let office = Office::at(dir.path());
        assert_eq!(office.queue(Some("nosuch")).unwrap_err(), "nosuch: unknown printer");
        assert_eq!(office.queue(Some("../tmp")).unwrap_err(), "../tmp: unknown printer");
    }
}
