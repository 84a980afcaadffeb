//! `lpstat`: queues, printers and jobs in System V's words.

use super::{Office, Said};
use crate::spool::text::{FinishedView, QueueView, ctime};
use serde_json::Value;

/// `lpstat`.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example:\n  spindle lpstat -t")]
pub struct LpstatArgs {
    /// All there is to tell
    #[arg(short = 't')]
    pub total: bool,
    /// Whether queues take jobs
    #[arg(short = 'a')]
    pub accepting: bool,
    /// The classes and their printers
    #[arg(short = 'c')]
    pub classes: bool,
    /// The queue that is meant where none is named
    #[arg(short = 'd')]
    pub default: bool,
    /// The names of the queues
    #[arg(short = 'e')]
    pub names: bool,
    /// More about each job
    #[arg(short = 'l')]
    pub long: bool,
    /// The jobs
    #[arg(short = 'o')]
    pub jobs: bool,
    /// What the printers do
    #[arg(short = 'p')]
    pub printers: bool,
    /// With the ranks of the jobs
    #[arg(short = 'R')]
    pub ranks: bool,
    /// A summary: the default queue, the classes, where the output goes
    #[arg(short)]
    pub summary: bool,
    /// The jobs of this user only
    #[arg(short, value_name = "USER")]
    pub user: Option<String>,
    /// Whether the scheduler runs
    #[arg(short = 'r')]
    pub running: bool,
    /// Where the output goes
    #[arg(short = 'v')]
    pub devices: bool,
    /// Which jobs: those that finished since the machine was mounted (the last 200 of a queue),
    /// those that did not, or all
    #[arg(short = 'W', value_name = "WHICH", value_parser = which)]
    pub which: Option<Which>,
    /// As JSON
    #[arg(long, conflicts_with = "which")]
    pub json: bool,
    /// These queues only
    pub queues: Vec<String>,
}

/// Which jobs `lpstat` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// What is in the queues.
    #[default]
    Waiting,
    /// What was printed, removed, or dropped.
    Finished,
    /// Both.
    All,
}

fn which(word: &str) -> Result<Which, String> {
    match word {
        "not-completed" => Ok(Which::Waiting),
        "completed" => Ok(Which::Finished),
        "all" => Ok(Which::All),
        _ => Err("completed, not-completed or all is right".into()),
    }
}

/// What `lpstat` prints.
///
/// # Errors
/// That there is no such queue.
pub fn lpstat(office: &Office, args: &LpstatArgs) -> Result<Said, String> {
    let all = office.queues()?;
    let mut names = if args.queues.is_empty() { all.clone() } else { args.queues.clone() };
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone())); // `-p lp0 -a lp0`
    if let Some(name) = names.iter().find(|name| !all.contains(name)) {
        return Err(format!("Invalid destination name in list \"{name}\"."));
    }
    let views = names.iter().map(|name| office.view(name)).collect::<Result<Vec<_>, _>>()?;
    let mut said = Said::default();
    if args.json {
        let all: Vec<Value> = views.iter().map(QueueView::json).collect();
        said.out = format!("{:#}\n", Value::Array(all));
        return Ok(said);
    }
    let is_plain = [
        args.total,
        args.accepting,
        args.classes,
        args.default,
        args.names,
        args.jobs,
        args.printers,
        args.running,
        args.devices,
        args.summary,
    ];
    let is_plain = !is_plain.contains(&true);
    let is = |asked: bool| asked || args.total;
    let text = &mut said.out;
    if is(args.running) {
        text.push_str("scheduler is running\n");
    }
    if is(args.default || args.summary) {
        *text += &format!("system default destination: {}\n", office.queue(None)?);
    }
    if args.names {
        text.extend(names.iter().map(|name| format!("{name}\n")));
    }
    type Part = fn(&QueueView) -> String;
    let parts: [(bool, Part); 4] = [
        (is(args.classes || args.summary), class),
        (is(args.devices || args.summary), device),
        (is(args.accepting), accepting),
        (is(args.printers), printer),
    ];
    for (_, part) in parts.iter().filter(|(is_asked, _)| *is_asked) {
        text.extend(views.iter().map(part));
    }
    let which = args.which.unwrap_or_default();
    if is(args.jobs) || is_plain {
        if which != Which::Waiting {
            for name in &names {
                text.push_str(&finished(name, &office.text(name, ".log")?, args));
            }
        }
        if which != Which::Finished {
            text.extend(views.iter().map(|view| jobs(view, args)));
        }
    }
    Ok(said)
}

fn class(view: &QueueView) -> String {
    if view.members.is_empty() {
        return String::new();
    }
    let members: String = view.members.iter().map(|name| format!("\t{name}\n")).collect();
    format!("members of class {}:\n{members}", view.name)
}

fn device(view: &QueueView) -> String {
    if view.sink.is_empty() {
        return String::new();
    }
    format!("device for {}: {}\n", view.name, view.sink)
}

fn accepting(view: &QueueView) -> String {
    let name = &view.name;
    if !view.is_disabled {
        return format!("{name} accepting requests since {}\n", ctime(view.since));
    }
    let why = if view.message.is_empty() { "reason unknown" } else { &view.message };
    format!("{name} not accepting requests since {} -\n\t{why}\n", ctime(view.since))
}

fn printer(view: &QueueView) -> String {
    let (name, since) = (&view.name, ctime(view.since));
    if !view.members.is_empty() {
        return String::new();
    }
    if view.is_stopped {
        let why = if view.message.is_empty() { "reason unknown" } else { &view.message };
        return format!("printer {name} disabled since {since} -\n\t{why}\n");
    }
    let active = view.jobs.iter().find(|job| job.printer.as_deref() == Some(name));
    let does = match active {
        Some(job) => {
            format!("printer {name} now printing {name}-{}.  enabled since {since}\n", job.id)
        }
        None => format!("printer {name} is idle.  enabled since {since}\n"),
    };
    if view.trouble.is_empty() { does } else { format!("{does}\t{}\n", view.trouble) }
}

fn line(queue: &str, id: u64, owner: &str, bytes: u64, time: u64) -> String {
    let id = format!("{queue}-{id}");
    format!("{id:<23} {owner:<13} {bytes:>8}   {}\n", ctime(time))
}

/// The finished jobs of a queue, from its log: the last one first, as CUPS lists them.
fn finished(queue: &str, log: &str, args: &LpstatArgs) -> String {
    let all = log.lines().rev().filter_map(FinishedView::parse);
    let is_asked = |job: &FinishedView| args.user.as_ref().is_none_or(|user| *user == job.owner);
    let mut text = String::new();
    for job in all.filter(is_asked) {
        text += &line(queue, job.id, &job.owner, job.bytes, job.time);
        if args.long {
            let alert = match job.fate.split(' ').next() {
                Some("printed") => "job-completed-successfully",
                Some("removed") => "job-canceled-by-user",
                _ => "aborted-by-system",
            };
            text += &format!("\tStatus: {}\n\tAlerts: {alert}\n\tqueued for {queue}\n", job.fate);
        }
    }
    text
}

fn jobs(view: &QueueView, args: &LpstatArgs) -> String {
    let mut text = String::new();
    for (rank, job) in (1..).zip(view.jobs.iter().filter(|job| job.rank != "spooling")) {
        if args.user.as_ref().is_some_and(|user| *user != job.owner) {
            continue;
        }
        if args.ranks {
            text += &format!("{rank:>3} ");
        }
        text += &line(&view.name, job.id, &job.owner, job.bytes, job.time);
        if args.long {
            let alert = match job.rank.as_str() {
                "active" => "job-printing",
                "held" => "job-hold-until-specified",
                _ if view.is_stopped => "printer-stopped",
                _ => "none",
            };
            if !view.message.is_empty() {
                text += &format!("\tStatus: {}\n", view.message);
            }
            text += &format!("\tAlerts: {alert}\n\tqueued for {}\n", view.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::text::JobView;

    #[test]
    fn jobs_are_listed_with_real_owners_and_exact_sizes() {
        let job = JobView {
            id: 5,
            owner: "bob".into(),
            bytes: 1025,
            time: 1_795_179_759,
            ..JobView::default()
        };
        let view = QueueView { name: "lp0".into(), jobs: vec![job], ..QueueView::default() };
        let line = "lp0-5                   bob               1025   Fri Nov 20 13:02:39 2026\n";
        assert_eq!(jobs(&view, &LpstatArgs::default()), line);
        let args = LpstatArgs { ranks: true, ..LpstatArgs::default() };
        assert_eq!(jobs(&view, &args), format!("  1 {line}"));
        let args = LpstatArgs { user: Some("alice".into()), ..LpstatArgs::default() };
        assert_eq!(jobs(&view, &args), "");
    }

    #[test]
    fn finished_jobs_are_listed_the_last_one_first() {
        let log = "1795179759 5 bob a b 1025 printed on lp0\n\
                   1795179760 6 eve x 3 removed by root\n";
        let bobs = "lp0-5                   bob               1025   Fri Nov 20 13:02:39 2026\n";
        let eves = "lp0-6                   eve                  3   Fri Nov 20 13:02:40 2026\n";
        assert_eq!(finished("lp0", log, &LpstatArgs::default()), format!("{eves}{bobs}"));
        let args = LpstatArgs { user: Some("bob".into()), long: true, ..LpstatArgs::default() };
        let more = "\tStatus: printed on lp0\n\tAlerts: job-completed-successfully\n\
                    \tqueued for lp0\n";
        assert_eq!(finished("lp0", log, &args), format!("{bobs}{more}"));
        assert_eq!((which("completed"), which("x").is_err()), (Ok(Which::Finished), true));
    }

    #[test]
    fn the_reason_of_a_stop_is_not_lost() {
        let view = QueueView {
            name: "lp1".into(),
            is_stopped: true,
            is_disabled: true,
            message: "paper jam, technician called".into(),
            since: 1_795_179_761,
            ..QueueView::default()
        };
        let since = "since Fri Nov 20 13:02:41 2026 -\n\tpaper jam, technician called\n";
        assert_eq!(printer(&view), format!("printer lp1 disabled {since}"));
        assert_eq!(accepting(&view), format!("lp1 not accepting requests {since}"));
        let view = QueueView { name: "lp2".into(), since: 1_795_179_761, ..QueueView::default() };
        let line = "printer lp2 is idle.  enabled since Fri Nov 20 13:02:41 2026\n";
        assert_eq!(printer(&view), line);
    }
}
