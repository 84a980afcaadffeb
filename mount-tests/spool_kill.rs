//! The print spool when its daemon is killed: at random moments, while jobs are submitted, removed,
//! moved, reordered, held and printed, all at once.
//!
//! `SOAK_ROUNDS` says how many times (200 by hand), `SEED` replays what is done, if not when.

use crate::house::{Dice, House, said};
use crate::{Check, check};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const CHECKS: &[Check] =
    &[check("sp_11_kill_9_at_random_moments_loses_and_doubles_nothing", &[], killed)];

const QUEUES: [&str; 3] = ["lp0", "lp1", "any"];
const PRINTERS: [&str; 2] = ["lp0", "lp1"];
const HANDS: u64 = 4;

/// What is known of a job from outside. A round is one life of the daemon.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    lines: u64,
    /// Either printer may take it.
    is_any: bool,
    is_answered: bool,
    /// Somebody asked for its removal.
    is_condemned: bool,
    /// The round in which a removal was answered.
    removed: Option<u64>,
    /// The last answer was that it is held; `None`: asked, not answered.
    is_held: Option<bool>,
    /// The last round in which it was held, so that it need not be first.
    touched: Option<u64>,
}

/// A piece of paper: the rest of a job, whole or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    job: u64,
    is_whole: bool,
}

struct Trial {
    house: House,
    jobs: Mutex<BTreeMap<u64, Known>>,
    ids: Mutex<BTreeMap<u64, u64>>,
    last: AtomicU64,
    round: AtomicU64,
    is_killing: AtomicBool,
}

fn text(job: u64, lines: u64) -> String {
    let body: String = (1..=lines).map(|line| format!("{job} {line}\n")).collect();
    format!("job {job} {lines}\n{body}end {job}\n")
}

impl Trial {
    fn is_over(&self) -> bool {
        self.is_killing.load(Ordering::SeqCst)
    }

    fn note(&self, job: u64, change: impl FnOnce(&mut Known)) {
        change(self.jobs.lock().unwrap().entry(job).or_default());
    }

    fn queue(&self, queue: &str) -> PathBuf {
        self.house.tree().join("spool").join(queue)
    }

    /// Runs a command of the machine; whether it said that it has done it.
    fn run(&self, words: &[&str]) -> bool {
        let mut command = self.house.spindle();
        command.arg("--at").arg(self.house.tree()).args(words);
        said(&mut command).status == 0
    }

    fn ctl(&self, queue: &str, line: &str) -> bool {
        let opened = OpenOptions::new().write(true).open(self.queue(queue).join(".ctl"));
        opened.and_then(|mut ear| ear.write(line.as_bytes())).is_ok()
    }

    /// Number and queue of a job that can be seen; numbers are never given twice.
    fn find(&self, job: u64) -> Option<(u64, &'static str)> {
        let name = format!("-n{job}");
        for queue in QUEUES {
            for entry in std::fs::read_dir(self.queue(queue)).ok()? {
                let file = entry.ok()?.file_name().into_string().unwrap();
                let Some(id) = file.strip_suffix(&name) else { continue };
                let id = id.parse().unwrap();
                let owner = *self.ids.lock().unwrap().entry(id).or_insert(job);
                assert_eq!(owner, job, "the number {id} was given twice");
                return Some((id, queue));
            }
        }
        None
    }

    fn submit(&self, dice: &mut Dice) -> u64 {
        let job = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        let lines = [1, 20, 200, 1500][usize::try_from(dice.below(4)).unwrap()];
        self.note(job, |known| (known.lines, known.is_held) = (lines, Some(false)));
        let queue = QUEUES[usize::try_from(dice.below(3)).unwrap()];
        self.note(job, |known| known.is_any = queue == "any");
        let source = self.house.scratch().join(format!("n{job}"));
        let target = self.queue(queue).join(format!("n{job}"));
        std::fs::write(&source, text(job, lines)).unwrap();
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.arg("-c").arg(script).arg("sh").arg(&source).arg(&target);
            said(&mut command).status == 0
        };
        let is_answered = match dice.below(6) {
            0 => shell("cp \"$1\" \"$2\""),
            // A shell does not tell what a close has answered: only what was before the end counts.
            1 => shell("cat \"$1\" >\"$2\"") && !self.is_over(),
            2 => self.run(&["lpr", "-P", queue, source.to_str().unwrap()]),
            3 => {
                let staged = self.queue(queue).join(format!(".n{job}"));
                std::fs::copy(&source, &staged).is_ok() && std::fs::rename(&staged, &target).is_ok()
            }
            _ => written(target, &text(job, lines)),
        };
        assert!(is_answered || self.is_over(), "job {job} was refused");
        self.note(job, |known| known.is_answered = is_answered);
        std::fs::remove_file(source).unwrap();
        job
    }

    fn remove(&self, dice: &mut Dice, job: u64) {
        let Some((id, queue)) = self.find(job) else { return };
        self.note(job, |known| known.is_condemned = true);
        let is_done = match dice.below(3) {
            0 => self.run(&["lprm", "-P", queue, &id.to_string()]),
            1 => self.ctl(queue, &format!("rm {id}")),
            _ => std::fs::remove_file(self.queue(queue).join(format!("{id}-n{job}"))).is_ok(),
        };
        let round = self.round.load(Ordering::SeqCst);
        self.note(job, |known| known.removed = is_done.then_some(round));
    }

    fn touch(&self, dice: &mut Dice, job: u64) {
        let Some((id, queue)) = self.find(job) else { return };
        let round = self.round.load(Ordering::SeqCst);
        let to = QUEUES[usize::try_from(dice.below(3)).unwrap()];
        let name = format!("{id}-n{job}");
        match dice.below(8) {
            kind @ 0..2 => {
                self.note(job, |known| (known.touched, known.is_held) = (Some(round), None));
                let is_done = self.ctl(queue, &format!("hold {id}"));
                self.note(job, |known| known.is_held = is_done.then_some(true));
                if kind == 0 {
                    return;
                }
                self.note(job, |known| known.is_held = None);
                let is_done = self.ctl(queue, &format!("release {id}"));
                self.note(job, |known| known.is_held = is_done.then_some(false));
            }
            2 => _ = self.ctl(queue, &format!("top {id}")),
            3 => _ = self.run(&["lpc", "topq", queue, &id.to_string()]),
            4 => _ = self.ctl(queue, &format!("bottom {id}")),
            5 => _ = self.ctl(queue, &format!("pri {id} {}", 1 + dice.below(100))),
            6 => {
                self.note(job, |known| known.is_any = true);
                _ = self.run(&["lpmove", &format!("{queue}-{id}"), to]);
            }
            _ => {
                self.note(job, |known| known.is_any = true);
                let _ = std::fs::rename(self.queue(queue).join(&name), self.queue(to).join(&name));
            }
        }
    }

    /// What one hand does until the daemon is gone, to jobs of its own.
    fn work(&self, dice: &mut Dice, own: &mut Vec<u64>) {
        while !self.is_over() {
            let pick = usize::try_from(dice.below(own.len().max(1) as u64)).unwrap();
            match dice.below(8) {
                0 if !own.is_empty() => self.remove(dice, own.swap_remove(pick)),
                1..4 if !own.is_empty() => self.touch(dice, own[pick]),
                _ => own.push(self.submit(dice)),
            }
        }
    }

    /// One life of the daemon, `stretch` times as long as most; the paper of each printer then.
    fn live(
        &self,
        (round, stretch): (u64, u64),
        dice: &mut Dice,
        own: &mut [Vec<u64>],
    ) -> [Vec<Print>; 2] {
        self.round.store(round, Ordering::SeqCst);
        self.is_killing.store(false, Ordering::SeqCst);
        self.house.mount();
        let moment = Duration::from_millis(stretch * (20 + dice.below(480)));
        let seed = dice.below(u64::MAX);
        std::thread::scope(|scope| {
            for (hand, own) in (1..).zip(own.iter_mut()) {
                let mut dice = Dice::new(seed.wrapping_add(hand));
                scope.spawn(move || self.work(&mut dice, own));
            }
            std::thread::sleep(moment);
            self.is_killing.store(true, Ordering::SeqCst);
            self.house.kill();
        });
        self.house.sh("fusermount3 -uz $M 2>/dev/null || true");
        PRINTERS.map(|printer| self.paper(printer))
    }

    /// Takes away what a printer has printed.
    fn paper(&self, printer: &str) -> Vec<Print> {
        let path = self.house.state().join(format!("{printer}.out"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text.split('\u{c}').flat_map(|sheet| self.prints(sheet)).collect()
    }

    /// The jobs on a sheet: one after another, none within another, only the last not whole.
    fn prints(&self, sheet: &str) -> Vec<Print> {
        let (mut rest, mut prints) = (sheet, Vec::new());
        while !rest.is_empty() {
            let number = rest.strip_prefix("job ").and_then(|rest| rest.split(' ').next());
            let job = number.and_then(|number| number.parse().ok());
            let known = job.and_then(|job| self.jobs.lock().unwrap().get(&job).copied());
            let (Some(job), Some(known)) = (job, known) else {
                let head: String = rest.chars().take(60).collect();
                assert!(rest.len() < 30, "no job begins with {head:?}"); // cut in its first line
                break;
            };
            let whole = text(job, known.lines);
            let is_whole = rest.starts_with(&whole);
            assert!(is_whole || whole.starts_with(rest), "job {job} is printed as something else");
            prints.push(Print { job, is_whole });
            rest = if is_whole { &rest[whole.len()..] } else { "" };
        }
        prints
    }
}

/// Writes a file as a program does that looks at what its close says.
fn written(path: PathBuf, text: &str) -> bool {
    let Ok(mut file) = File::create(path) else { return false };
    file.write_all(text.as_bytes()).is_ok() && nix::unistd::close(file).is_ok()
}

/// Who has read all paper so far.
#[derive(Default)]
struct Reader {
    /// Jobs that are done, by the round of it.
    done: BTreeMap<u64, u64>,
    /// Jobs that were on paper to the end when the daemon died: done, or to be printed again.
    whole: BTreeSet<u64>,
    /// What each printer was printing when the daemon died.
    interrupted: [Option<u64>; 2],
}

impl Reader {
    fn read(&mut self, round: u64, papers: &[Vec<Print>; 2], jobs: &BTreeMap<u64, Known>) {
        for (printer, paper) in papers.iter().enumerate() {
            for (at, print) in paper.iter().enumerate() {
                let known = jobs[&print.job];
                let name = format!("round {round}, {}: job {}", PRINTERS[printer], print.job);
                // In one round the other printer may have begun it before, and been cut short.
                let is_done =
                    self.done.get(&print.job).is_some_and(|when| print.is_whole || *when < round);
                assert!(!is_done, "{name} was done: {known:?}");
                let is_back = known.removed.is_some_and(|when| when < round);
                assert!(!is_back, "{name} was removed: {known:?}");
                if at + 1 < paper.len() && print.is_whole {
                    self.done.insert(print.job, round);
                } else if print.is_whole {
                    self.whole.insert(print.job);
                }
            }
            let first = paper.first().map(|print| print.job);
            if let (Some(job), Some(first)) = (self.interrupted[printer], first) {
                let known = jobs[&job];
                let is_excused = known.is_any
                    || known.is_condemned
                    || known.touched.is_some_and(|when| when + 1 >= round);
                let name = format!("round {round}, {}: {first}", PRINTERS[printer]);
                assert!(first == job || is_excused, "{name} is before {job}: {known:?}");
                self.interrupted[printer] = None;
            }
            if let Some(last) = paper.last().filter(|last| !last.is_whole) {
                self.interrupted[printer] = Some(last.job);
            }
        }
    }
}

fn killed() {
    let rounds = std::env::var("SOAK_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let mut dice = Dice::from_env(11);
    let rates = ["--set", "lp0.rate=300000/s", "--set", "lp1.rate=300000/s"];
    let trial = Trial {
        house: House::unmounted(&rates),
        jobs: Mutex::default(),
        ids: Mutex::default(),
        last: AtomicU64::new(0),
        round: AtomicU64::new(0),
        is_killing: AtomicBool::new(false),
    };
    let mut own: Vec<Vec<u64>> = (0..HANDS).map(|_| Vec::new()).collect();
    let mut reader = Reader::default();
    let mut round: u64 = 0;
    while round < rounds || (round < 5 * rounds && !is_tried(&trial, &reader)) {
        round += 1;
        // What could not be tried in so many lives is tried in longer ones.
        let stretch = 1 + 2 * round.saturating_sub(rounds);
        let papers = trial.live((round, stretch), &mut dice, &mut own);
        reader.read(round, &papers, &trial.jobs.lock().unwrap());
        if round.is_multiple_of(20) {
            let known = trial.jobs.lock().unwrap().len();
            eprintln!("{round} rounds, {known} jobs, {} done", reader.done.len());
        }
    }
    finish(&trial, &mut reader, round + 1);
}

/// Whether something was removed and something printed: on a slow machine lives may be too short.
fn is_tried(trial: &Trial, reader: &Reader) -> bool {
    let is_removed = trial.jobs.lock().unwrap().values().any(|known| known.removed.is_some());
    is_removed && !reader.done.is_empty()
}

/// Whoever is still held is let go, all is printed, and the books are closed.
fn finish(trial: &Trial, reader: &mut Reader, round: u64) {
    let h = &trial.house;
    h.mount();
    let jobs = trial.jobs.lock().unwrap().clone();
    for (job, known) in &jobs {
        if known.is_answered && !known.is_condemned && known.is_held == Some(true) {
            let (id, queue) =
                trial.find(*job).unwrap_or_else(|| panic!("{job} is held: {known:?}"));
            let shown = h.text(&format!("spool/{queue}/.status"));
            let is_row = |row: &str| row.starts_with("held") && row.contains(&format!("n{job} "));
            assert!(shown.lines().any(is_row), "{id} n{job} is not held in {queue}:\n{shown}");
        }
    }
    let begun = Instant::now();
    for queue in QUEUES {
        while h.text(&format!("spool/{queue}/.status")) != "no entries\n" {
            for entry in std::fs::read_dir(trial.queue(queue)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                trial.ctl(queue, &format!("release {}", name.split('-').next().unwrap()));
            }
            assert!(begun.elapsed() < Duration::from_secs(300), "{queue} does not end");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    // What is left is staged under a name: whoever has it may yet rename it.
    let count = |script: &str| h.sh(&format!("{{ {script}; }} | wc -l"));
    let spooled = count("find $S/spool -type f -name '[0-9]*'");
    let staged = count("find $M/spool -type f -name '.n*'");
    assert_eq!(spooled, staged, "files that are nobody's: {}", h.sh("ls -AR $S/spool $M/spool"));
    assert_eq!(count("find $M/spool $S/spool -name '.lpr-*' -o -name '.incoming-*'"), "0");
    h.umount();
    let papers = PRINTERS.map(|printer| trial.paper(printer));
    reader.read(round, &papers, &jobs);
    let (mut answered, mut removed) = (0, 0);
    for (job, known) in &jobs {
        let is_printed = reader.done.contains_key(job) || reader.whole.contains(job);
        let must = known.is_answered && !known.is_condemned;
        assert!(is_printed || !must, "job {job} was answered, and is lost: {known:?}");
        answered += u64::from(known.is_answered);
        removed += u64::from(known.removed.is_some());
    }
    let all = jobs.len();
    eprintln!("{all} jobs: {answered} answered, {removed} removed, {} done", reader.done.len());
    eprintln!("{spooled} files of staged jobs are left");
    assert!(answered > 0 && removed > 0 && !reader.done.is_empty(), "nothing was tried");
}
