//! The rounds: every work at every place by every target in turn, A B A B, round after round.
//!
//! Several callers who are free to move land here and there: one run differs by a third from the
//! next. They have [`PASSES`] passes in a round. With 15 runs the interval of their ratio to the
//! floor was 0.80 to 1.01, with 40 it is 0.94 to 1.05.

use crate::args::Args;
use crate::clock::{Trouble, go_on, now};
use crate::fio::{self, Outcome};
use crate::host::{self, Cores};
use crate::stand::Stand;
use crate::targets::{self, Setup, Target};
use crate::works::{HostCache, Place, RAW, SPINDLE, Work};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

/// How often in a round targets take turns at a work of several callers, free to move.
const PASSES: usize = 3;

/// One run of one target.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Counted from 1.
    pub round: usize,
    /// Which time in this round, counted from 1.
    pub pass: usize,
    /// Name of the work.
    pub work: &'static str,
    /// Where caller and daemon ran.
    pub place: Place,
    /// Whose file.
    pub target: &'static str,
    /// What was done.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Processor time of the daemon, in seconds.
    pub daemon_cpu_seconds: f64,
    /// Processors that others (neither daemon nor this bench) kept busy meanwhile.
    pub others_busy: f64,
    /// Reads that missed our cache; absent where nobody counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misses: Option<u64>,
}

impl Run {
    /// Whether both were measured in turn: what slowed one slowed the other.
    pub fn is_beside(&self, other: &Run) -> bool {
        (self.round, self.pass) == (other.round, other.pass)
    }

    /// Processor time of the daemon a call, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.daemon_cpu_seconds * 1e6 / self.outcome.calls as f64
    }
}

/// Everything that is up, and why the rest is not.
#[derive(Default)]
pub struct Field {
    targets: Vec<Target>,
    stands: Vec<(Stand, Vec<&'static str>)>,
    /// Name of a target, and why it is not there.
    pub absent: BTreeMap<&'static str, String>,
}

impl Field {
    /// Starts the target unless it is there already.
    pub fn start(&mut self, name: &'static str, setup: &Setup) -> Result<(), Trouble> {
        if self.target(name).is_some() || self.absent.contains_key(name) {
            return Ok(());
        }
        // The raw node is of the machine that has our disk: one stand, two targets.
        let stand = if name == RAW { SPINDLE } else { name };
        if stand != name && (self.target(stand).is_some() || self.absent.contains_key(stand)) {
            let why = self.absent.get(stand).map_or("there is no such node", String::as_str);
            self.absent.insert(name, why.to_owned());
            return Ok(());
        }
        match targets::start(stand, setup) {
            Ok((stand, targets)) => {
                self.stands.push((stand, targets.iter().map(|target| target.name).collect()));
                self.targets.extend(targets);
                if self.target(name).is_none() {
                    self.absent.insert(name, "there is no such node".into());
                }
                Ok(())
            }
            Err(Trouble::Stopped) => Err(Trouble::Stopped),
            Err(Trouble::Failed(why)) => {
                self.absent.insert(name, why);
                Ok(())
            }
        }
    }

    /// The target, if it is up.
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    /// Ends the targets of which a daemon is gone, or all that `name` names.
    fn bury(&mut self, name: &'static str, why: &str) {
        let Some(at) = self.stands.iter().position(|(_, names)| names.contains(&name)) else {
            return;
        };
        let (_stand, names) = self.stands.remove(at);
        self.targets.retain(|target| !names.contains(&target.name));
        self.absent.extend(names.into_iter().map(|name| (name, why.to_owned())));
    }

    fn has_ended(&mut self, name: &str) -> bool {
        let stand = self.stands.iter_mut().find(|(_, names)| names.contains(&name));
        stand.is_none_or(|(stand, _)| stand.has_ended())
    }
}

/// One turn of the plan.
struct Turn<'a> {
    work: &'a Work,
    place: Place,
    target: &'static str,
    pass: usize,
}

/// Measures all of it. What was measured before we were asked to stop is kept in `runs`.
pub fn measure(
    works: &[Work],
    args: &Args,
    cores: &Cores,
    field: &mut Field,
    runs: &mut Vec<Run>,
) -> Result<(), Trouble> {
    let turns = plan(works, args, field);
    let mut progress = Progress::new(turns.len() * args.rounds());
    for round in 1..=args.rounds() {
        for turn in &turns {
            go_on()?;
            progress.step(round, args.rounds(), turn);
            let Some(target) = field.target(turn.target) else { continue };
            match run(turn, target, args, cores) {
                Ok(run) => runs.push(Run { round, ..run }),
                Err(Trouble::Stopped) => return Err(Trouble::Stopped),
                Err(Trouble::Failed(why)) if field.has_ended(turn.target) => {
                    field.bury(turn.target, &format!("ended in {}: {why}", turn.work.name));
                }
                Err(Trouble::Failed(why)) => progress.say(&format!(
                    "bench: {} {} {}: {why}",
                    turn.work.name,
                    turn.place.name(),
                    turn.target
                )),
            }
        }
    }
    Ok(())
}

/// The turns of a round. A work without ours is not done at all.
fn plan<'a>(works: &'a [Work], args: &Args, field: &Field) -> Vec<Turn<'a>> {
    let mut turns = Vec::new();
    for work in works.iter().filter(|work| field.target(work.ours).is_some()) {
        for place in args.places() {
            for pass in 1..=passes(work, place, args.quick) {
                let there = work.all().filter(|name| field.target(name).is_some());
                turns.extend(there.map(|target| Turn { work, place, target, pass }));
            }
        }
    }
    turns
}

fn passes(work: &Work, place: Place, is_quick: bool) -> usize {
    let wanders = work.job.callers > 1 && place == Place::Free;
    if wanders && !is_quick { PASSES } else { 1 }
}

fn run(turn: &Turn, target: &Target, args: &Args, cores: &Cores) -> Result<Run, Trouble> {
    let (work, place) = (turn.work, turn.place);
    cores.pin(&target.pids, place);
    if work.job.host_cache == HostCache::Kept {
        // The host may have taken pages back since the last round; a repeated read is measured.
        target.warm()?;
    }
    let run = fio::Run {
        file: &target.file,
        span_bytes: target.bytes,
        milliseconds: args.milliseconds(),
        place,
    };
    let misses = target.misses();
    let (begin, cpu, busy) = (now(), host::cpu_seconds(&target.pids), host::busy_seconds());
    let own = host::children_seconds();
    let outcome = fio::run(&work.job, &run, cores)?;
    let (cpu, busy) = (host::cpu_seconds(&target.pids) - cpu, host::busy_seconds() - busy);
    let own = host::children_seconds() - own;
    let others = (busy - cpu - own).max(0.0) / begin.elapsed().as_secs_f64();
    let missed = misses.and_then(|before| Some(target.misses()?.saturating_sub(before)));
    if work.job.shape.writes() {
        target.settle()?;
    }
    Ok(Run {
        round: 0,
        pass: turn.pass,
        work: work.name,
        place,
        target: target.name,
        outcome,
        daemon_cpu_seconds: cpu,
        others_busy: others,
        misses: missed,
    })
}

/// The line on a terminal that says how far we are.
struct Progress {
    done: usize,
    all: usize,
    begin: std::time::Instant,
    is_shown: bool,
}

impl Progress {
    fn new(all: usize) -> Progress {
        Progress { done: 0, all, begin: now(), is_shown: std::io::stderr().is_terminal() }
    }

    fn step(&mut self, round: usize, rounds: usize, turn: &Turn) {
        let left = if self.done == 0 {
            String::new()
        } else {
            let each = self.begin.elapsed().as_secs_f64() / self.done as f64;
            format!(", {} left", minutes(each * (self.all - self.done) as f64))
        };
        self.done += 1;
        let (work, place, target) = (turn.work.name, turn.place.name(), turn.target);
        let at = format!("[{}/{}] round {round} of {rounds}", self.done, self.all);
        self.show(&format!("\r\x1b[K{at}: {work} {place} {target}{left}"));
    }

    /// Writes to the terminal, if it is one.
    fn show(&self, words: &str) {
        if self.is_shown {
            let _ = std::io::stderr().write_all(words.as_bytes()); // nobody looks: nothing lost
        }
    }

    /// A line that stays.
    fn say(&self, line: &str) {
        self.show("\r\x1b[K");
        crate::tell(line);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.show("\r\x1b[K");
    }
}

fn minutes(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::works::WORKS;

    #[test]
    fn only_several_callers_who_are_free_to_move_have_more_than_one_pass() {
        let work = |name: &str| WORKS.iter().find(|work| work.name == name).unwrap();
        let (one, four) = (work("randread-4k"), work("randread-4k-j4"));
        assert_eq!(passes(four, Place::Free, false), PASSES);
        assert_eq!(passes(four, Place::Free, true), 1);
        assert_eq!(passes(four, Place::Same, false), 1);
        assert_eq!(passes(one, Place::Free, false), 1);
    }
}
