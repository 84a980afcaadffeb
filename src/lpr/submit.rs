//! `lpr` and `lp`: a job is staged under a name with a dot, then submitted by one command, whose
//! answer is its number.

use super::{LprArgs, Office, Said, cannot_open};
use crate::words;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes copied at a time.
const PIECE_BYTES: usize = 1 << 20;

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
    /// Hold it, or, with -i, let it go or put it first
    #[arg(short = 'H', value_name = "WHEN", value_parser = ["hold", "resume", "immediate"])]
    pub when: Option<String>,
    /// Change this job instead
    #[arg(short = 'i', value_name = "JOB")]
    pub id: Option<String>,
    /// Say nothing of the job's number
    #[arg(short)]
    pub silent: bool,
    /// The files; standard input without any
    pub files: Vec<PathBuf>,
}

/// What is to be submitted, however it was asked for.
struct Order<'a> {
    queue: String,
    copies: u32,
    priority: u8,
    is_held: bool,
    name: Option<&'a str>,
    files: &'a [PathBuf],
}

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

impl Office {
    fn stage(&self, queue: &str) -> Result<(Staged, File), String> {
        for number in 0..100_000 {
            let name = format!(".lpr-{}-{number}", std::process::id());
            let path = self.path(queue, &name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((Staged { path, name, is_submitted: false }, file)),
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
        let (mut staged, mut out) = self.stage(&order.queue)?;
        let (mut parts, mut wrong) = (Vec::new(), Vec::new());
        if order.files.is_empty() {
            let bytes = copy(&mut std::io::stdin(), &mut out, &order.queue)?;
            if bytes == 0 {
                return Err("standard input is empty".into());
            }
        }
        for path in order.files {
            match part(path) {
                Ok(mut file) => {
                    let bytes = copy(&mut file, &mut out, &order.queue)?;
                    parts.push((path.display().to_string(), bytes));
                }
                Err(words) => wrong.push(words),
            }
        }
        if parts.is_empty() && !order.files.is_empty() {
            return Err(wrong.join("\n"));
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

fn copy(from: &mut impl Read, to: &mut File, queue: &str) -> Result<u64, String> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    loop {
        let len = match from.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(words::of_host(&error)),
        };
        to.write_all(&piece[..len])
            .map_err(|error| format!("{queue}: {}", words::of_host(&error)))?;
        bytes += len as u64;
    }
}

/// Submits files, as BSD's `lpr`.
///
/// # Errors
/// Why there is no job.
pub fn lpr(office: &Office, args: &LprArgs) -> Result<Said, String> {
    let order = Order {
        queue: office.queue(args.queue.as_deref())?,
        copies: args.copies,
        priority: args.priority,
        is_held: args.hold,
        name: args.job.as_deref(),
        files: &args.files,
    };
    let (_, mut wrong) = office.submit(&order)?;
    if args.remove && wrong.is_empty() {
        for path in &args.files {
            if let Err(error) = std::fs::remove_file(path) {
                wrong.push(format!("{}: {}", path.display(), words::of_host(&error)));
            }
        }
    }
    Ok(Said { out: String::new(), wrong })
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
        is_held: args.when.as_deref() == Some("hold"),
        name: args.title.as_deref(),
        files: &args.files,
    };
    let (id, wrong) = office.submit(&order)?;
    if args.when.as_deref() == Some("immediate") {
        office.ctl(&order.queue, &["top", &id.to_string()])?;
    }
    let files = args.files.len() - wrong.len();
    let out = match args.silent {
        true => String::new(),
        false => format!("request id is {}-{id} ({files} file(s))\n", order.queue),
    };
    Ok(Said { out, wrong })
}

fn alter(office: &Office, job: &str, args: &LpArgs) -> Result<Said, String> {
    let (queue, id) = office.find(job)?;
    let id = id.to_string();
    if let Some(priority) = args.priority {
        office.ctl(&queue, &["pri", &id, &priority.to_string()])?;
    }
    match args.when.as_deref() {
        Some("hold") => office.ctl(&queue, &["hold", &id])?,
        Some("resume") => office.ctl(&queue, &["release", &id])?,
        Some(_) => office.ctl(&queue, &["top", &id])?,
        None => String::new(),
    };
    Ok(Said::default())
}
