//! `scripts/bench`: our disk beside the FUSE floor and the peers, as ratios of one run.
//!
//! 1. Everything it starts or mounts is undone when it ends, also by an error or Ctrl-C.
//! 2. It ends only processes it started.
//! 3. The same job is done by every target in turn, so that what slows a round slows all.
//!
//! `works.rs` is the table of what is measured and promised; the rest carries it out.

mod args;
mod clock;
mod fio;
mod floor;
mod host;
mod line;
mod measure;
mod plot;
mod report;
mod scale;
mod stand;
mod stats;
mod tape;
mod targets;
mod works;

use args::{Args, SCALE_WORKS};
use clap::Parser;
use clock::Trouble;
use host::Cores;
use measure::{Field, Run};
use report::{Promise, Report, Verdict};
use stand::Scratch;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use targets::Setup;
use works::{HOST_CACHED, PASSTHROUGH, PEERS, SPINDLE, WORKS, Work};

fn main() -> ExitCode {
    let words = std::env::args().collect::<Vec<_>>();
    if let [_, word, mountpoint, bytes, threads] = words.as_slice()
        && word == "floor"
    {
        return floor(mountpoint, bytes, threads);
    }
    let args = Args::parse();
    if args.list {
        return match show(&list()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    match bench(&args) {
        Ok(is_kept) if is_kept || !args.gate => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(Trouble::Stopped) => ExitCode::from(130),
        Err(trouble) => {
            tell(format!("bench: {trouble}"));
            ExitCode::FAILURE
        }
    }
}

/// A line on standard error; where nobody hears it, nothing is lost.
fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn show(text: &str) -> std::io::Result<()> {
    std::io::stdout().write_all(text.as_bytes())
}

fn floor(mountpoint: &str, bytes: &str, threads: &str) -> ExitCode {
    let served = match (bytes.parse(), threads.parse()) {
        (Ok(bytes), Ok(threads)) => floor::serve(Path::new(mountpoint), bytes, threads),
        _ => Err(std::io::Error::other("usage: floor MOUNTPOINT BYTES THREADS")),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format!("floor: {mountpoint}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn list() -> String {
    let mut text = String::new();
    for work in WORKS {
        text += &format!("{:<16} {}\n", work.name, work.title);
        for gate in work.gates {
            let metric = if gate.metric == works::Metric::Rate { "rate" } else { "cpu" };
            let (place, bound) = (gate.place.name(), gate.bound);
            text += &format!("{:17}{metric} {bound} beside {}, {place}\n", "", gate.beside);
        }
    }
    for (name, title) in SCALE_WORKS {
        text += &format!("{name:<16} {title}\n");
    }
    for (name, title, least) in tape::TAPE_WORKS {
        let bound = works::Bound::AtLeast(least);
        text += &format!("{name:<16} {title}\n{:17}rate {bound} beside ", "");
        text += &format!("{}, same and free\n", works::FLOOR);
    }
    let ((name, title), bound) = (line::LINE_WORK, works::Bound::AtMost(line::TRIP_MOST));
    text += &format!("{name:<16} {title}\n{:17}time {bound} beside ", "");
    text += &format!("{}, same and free\n", line::HIT);
    text
}

/// The works that were asked for, the subject in its place, without peers that were not.
fn chosen(args: &Args) -> Result<Vec<Work>, Trouble> {
    let known = |name: &str| WORKS.iter().flat_map(|work| work.beside).find(|it| **it == name);
    let subject = match args.subject.as_deref() {
        None | Some(SPINDLE) => SPINDLE,
        Some("tmpfs") => works::TMPFS,
        Some(name) => known(name).ok_or_else(|| Trouble::new(name, "no such target"))?,
    };
    let wanted = WORKS.iter().filter(|work| args.wants(work.name, work.is_big));
    Ok(wanted
        .map(|work| Work { ours: if work.ours == SPINDLE { subject } else { work.ours }, ..*work })
        .collect())
}

/// Measures and reports; whether every promise was kept.
fn bench(args: &Args) -> Result<bool, Trouble> {
    clock::listen().map_err(|error| Trouble::new("signals", error))?;
    let works = chosen(args)?;
    if !host::has("fio") {
        return Err(Trouble::new("fio", "not installed"));
    }
    let cores = Cores::here().map_err(|error| Trouble::new("processors", error))?;
    let scratch =
        Scratch::new(&args.scratch).map_err(|error| Trouble::new(args.scratch.display(), error))?;
    let setup = Setup {
        scratch,
        bytes: args.bytes(),
        spindle: spindle(args)?,
        mount_args: args.mount_args.clone(),
        floor_threads: args.floor_threads,
    };
    let mut field = Field::default();
    let mut runs = Vec::new();
    let mut more = Vec::new();
    let ended = (|| {
        raise(&works, args, &setup, &mut field)?;
        measure::measure(&works, args, &cores, &mut field, &mut runs)?;
        scale_works(args, &setup, &cores, &mut field, &mut more)
    })();
    let is_partial = match ended {
        Ok(()) => false,
        Err(Trouble::Stopped) if !runs.is_empty() => true,
        Err(trouble) => return Err(trouble),
    };
    let report = judge(&works, args, &cores, &field, (runs, more), is_partial);
    drop(field);
    publish(&report, &works, args)?;
    if is_partial {
        return Err(Trouble::Stopped);
    }
    match report.runs.is_empty() && report.promises.iter().all(|promise| promise.ratio.is_none()) {
        true => Err(Trouble::Failed("nothing could be measured".into())),
        false => Ok(is_kept(&report)),
    }
}

/// The daemon to measure: as typed, or the one built beside this program (`target/release/`).
fn spindle(args: &Args) -> Result<PathBuf, Trouble> {
    if let Some(typed) = &args.spindle {
        return Ok(typed.clone());
    }
    let us = std::env::current_exe().map_err(|error| Trouble::new("this program", error))?;
    let built = us.ancestors().skip(1).map(|dir| dir.join(SPINDLE)).find(|path| path.is_file());
    Ok(built.unwrap_or_else(|| PathBuf::from(SPINDLE)))
}

/// Starts every target that the works need.
fn raise(works: &[Work], args: &Args, setup: &Setup, field: &mut Field) -> Result<(), Trouble> {
    for work in works {
        field.start(work.ours, setup)?;
        if field.target(work.ours).is_none() {
            continue; // nobody to stand beside
        }
        for name in work.others().filter(|name| args.peers || !PEERS.contains(name)) {
            field.start(name, setup)?;
        }
    }
    if args.wants("flush-growth", false) {
        field.start(SPINDLE, setup)?;
    }
    if tape::TAPE_WORKS.iter().any(|(name, ..)| args.wants(name, false)) {
        field.start(works::FLOOR, setup)?;
    }
    Ok(())
}

fn scale_works(
    args: &Args,
    setup: &Setup,
    cores: &Cores,
    field: &mut Field,
    promises: &mut Vec<Promise>,
) -> Result<(), Trouble> {
    if args.wants("flush-growth", false) {
        promises.push(scale::flush_growth(field.target(SPINDLE))?);
    }
    if args.wants("memory", false) {
        promises.push(scale::memory(setup, args, cores)?);
    }
    promises.extend(tape::works(setup, args, cores, field.target(works::FLOOR))?);
    promises.extend(line::works(setup, args, cores)?);
    Ok(())
}

fn judge(
    works: &[Work],
    args: &Args,
    cores: &Cores,
    field: &Field,
    (runs, more): (Vec<Run>, Vec<Promise>),
    is_partial: bool,
) -> Report {
    let mut promises = report::promises(works, &args.places(), &runs, &field.absent);
    promises.retain(|promise| args.peers || !PEERS.contains(&promise.beside));
    promises.extend(more);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Report {
        version: 1,
        unix_seconds: now.map_or(0, |now| now.as_secs()),
        host: host::describe(),
        cores: cores.count(),
        rounds: args.rounds(),
        run_milliseconds: args.milliseconds(),
        file_bytes: args.bytes(),
        seed: stats::SEED,
        is_partial,
        absent: field.absent.clone(),
        promises,
        medians: report::medians(works, &runs),
        runs,
    }
}

fn publish(report: &Report, works: &[Work], args: &Args) -> Result<(), Trouble> {
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|error| Trouble::new(path.display(), error))
    };
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(report);
        write(path, json.map_err(|error| Trouble::new("json", error))? + "\n")?;
    }
    if let Some(path) = &args.plot {
        write(path, plot::draw(report, works))?;
    }
    show(&report::table(report, works, std::io::stdout().is_terminal()))
        .map_err(|error| Trouble::new("standard output", error))
}

/// No promise broken, and none unmeasured but those of what our daemon does not offer.
fn is_kept(report: &Report) -> bool {
    let optional = [HOST_CACHED, PASSTHROUGH];
    report.promises.iter().all(|promise| match promise.verdict {
        Verdict::Pass => true,
        Verdict::Fail => false,
        Verdict::Unmeasured => optional.contains(&promise.ours),
    })
}
