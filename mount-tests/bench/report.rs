//! What follows from the runs: medians, ratios, promises kept or not; as a table and as JSON.

use crate::measure::Run;
use crate::stats::{self, Ratio, median};
use crate::works::{Bound, Metric, Place, Work};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Others may use this much of a processor before the figures are called doubtful.
const OTHERS_BUSY_MAX: f64 = 0.15;

/// All that a JSON report holds.
#[derive(Serialize)]
pub struct Report {
    /// Of this format.
    pub version: u32,
    /// When it was made, in seconds since 1970.
    pub unix_seconds: u64,
    /// Kernel and processor.
    pub host: String,
    /// Processors that could be used.
    pub cores: usize,
    /// Rounds asked for.
    pub rounds: usize,
    /// Length of a run.
    pub run_milliseconds: u64,
    /// Length of each file.
    pub file_bytes: u64,
    /// Of the resampling behind the intervals.
    pub seed: u64,
    /// Whether it was interrupted before its end.
    pub is_partial: bool,
    /// Targets that were asked for and are not there, and why.
    pub absent: BTreeMap<&'static str, String>,
    /// Promises, in the order of the works.
    pub promises: Vec<Promise>,
    /// Medians of each target in each work and place.
    pub medians: Vec<Medians>,
    /// Every single run.
    pub runs: Vec<Run>,
}

/// The medians of one target.
#[derive(Clone, Debug, Serialize)]
pub struct Medians {
    /// Name of the work.
    pub work: &'static str,
    /// Where.
    pub place: Place,
    /// Whose.
    pub target: &'static str,
    /// Runs behind them.
    pub runs: usize,
    /// Calls a second.
    pub calls_per_second: f64,
    /// Mebibytes a second.
    pub mib_per_second: f64,
    /// Microseconds.
    pub p50_us: f64,
    /// Microseconds.
    pub p99_us: f64,
    /// Processor time of the daemon a call, in microseconds.
    pub cpu_us: f64,
    /// Reads that missed our cache, of all its runs.
    pub misses: u64,
    /// The rate of ours over this one's.
    pub ours_over_this: Option<Ratio>,
}

/// How a promise fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Kept.
    Pass,
    /// Not kept.
    Fail,
    /// One of the two was not there.
    Unmeasured,
}

/// A promise and how it fared.
#[derive(Clone, Debug, Serialize)]
pub struct Promise {
    /// Name of the work.
    pub work: &'static str,
    /// Where, if that matters.
    pub place: Option<Place>,
    /// `rate`, `cpu`, `time` or `bytes`.
    pub metric: &'static str,
    /// Whose promise.
    pub ours: &'static str,
    /// Beside whom or what.
    pub beside: &'static str,
    /// What was promised.
    pub bound: Bound,
    /// What was measured.
    pub ratio: Option<Ratio>,
    /// Kept or not.
    pub verdict: Verdict,
    /// Why it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Promise {
    /// Judges a ratio.
    pub fn judge(mut self, ratio: Option<Ratio>) -> Promise {
        self.ratio = ratio;
        self.verdict = match ratio {
            Some(ratio) if self.bound.holds(ratio.value) => Verdict::Pass,
            Some(_) => Verdict::Fail,
            None => Verdict::Unmeasured,
        };
        self
    }
}

fn of<'a>(runs: &'a [Run], work: &str, place: Place, target: &str) -> Vec<&'a Run> {
    let is_it = |run: &&Run| run.work == work && run.place == place && run.target == target;
    runs.iter().filter(is_it).collect()
}

/// The ratio of two targets in a work, over the rounds that both took part in.
pub fn ratio(
    runs: &[Run],
    (work, place): (&str, Place),
    (ours, beside): (&str, &str),
    metric: Metric,
) -> Option<Ratio> {
    let value = |run: &Run| match metric {
        Metric::Rate => run.outcome.calls_per_second,
        Metric::Cpu => run.cpu_us(),
    };
    let theirs = of(runs, work, place, beside);
    let pairs = of(runs, work, place, ours).into_iter().filter_map(|run| {
        let other = theirs.iter().find(|other| other.is_beside(run))?;
        Some((value(run), value(other)))
    });
    stats::ratio(&pairs.collect::<Vec<_>>())
}

/// The medians of every target that has runs.
pub fn medians(works: &[Work], runs: &[Run]) -> Vec<Medians> {
    let mut all = Vec::new();
    for work in works {
        for place in [Place::Same, Place::Free] {
            for target in work.all() {
                let runs_of_it = of(runs, work.name, place, target);
                let middle = |value: fn(&Run) -> f64| {
                    median(&runs_of_it.iter().map(|run| value(run)).collect::<Vec<_>>())
                };
                let Some(rate) = middle(|run| run.outcome.calls_per_second) else { continue };
                let pair = (work.ours, target);
                let ours = ratio(runs, (work.name, place), pair, Metric::Rate);
                all.push(Medians {
                    work: work.name,
                    place,
                    target,
                    runs: runs_of_it.len(),
                    calls_per_second: rate,
                    mib_per_second: rate * work.job.block_bytes as f64 / (1 << 20) as f64,
                    p50_us: middle(|run| run.outcome.p50_us).unwrap_or_default(),
                    p99_us: middle(|run| run.outcome.p99_us).unwrap_or_default(),
                    cpu_us: middle(Run::cpu_us).unwrap_or_default(),
                    misses: runs_of_it.iter().filter_map(|run| run.misses).sum(),
                    ours_over_this: ours.filter(|_| target != work.ours),
                });
            }
        }
    }
    all
}

/// Every promise of `works` in `places`, judged.
pub fn promises(
    works: &[Work],
    places: &[Place],
    runs: &[Run],
    absent: &BTreeMap<&'static str, String>,
) -> Vec<Promise> {
    let mut all = Vec::new();
    for work in works {
        let asked =
            |gate: &&crate::works::Gate| places.contains(&gate.place) && gate.beside != work.ours;
        for gate in work.gates.iter().filter(asked) {
            let why = [work.ours, gate.beside]
                .iter()
                .find(|name| absent.contains_key(*name))
                .map(|name| format!("{name} not offered"));
            let promise = Promise {
                work: work.name,
                place: Some(gate.place),
                metric: if gate.metric == Metric::Rate { "rate" } else { "cpu" },
                ours: work.ours,
                beside: gate.beside,
                bound: gate.bound,
                ratio: None,
                verdict: Verdict::Unmeasured,
                why,
            };
            let pair = (work.ours, gate.beside);
            all.push(promise.judge(ratio(runs, (work.name, gate.place), pair, gate.metric)));
        }
    }
    all
}

/// The table for people. With `colour`, verdicts are green and red.
pub fn table(report: &Report, works: &[Work], colour: bool) -> String {
    let mut text = String::new();
    for work in works {
        for place in [Place::Same, Place::Free] {
            let is_it = |median: &&Medians| median.work == work.name && median.place == place;
            let rows = report.medians.iter().filter(is_it).collect::<Vec<_>>();
            if rows.is_empty() {
                continue;
            }
            let _ = writeln!(text, "{}: {}, {}", work.name, work.title, in_words(place));
            for row in rows {
                let _ = writeln!(text, "  {}", figures(row, work));
            }
        }
    }
    if !report.promises.is_empty() {
        let _ = writeln!(text, "Promises (ours over the other, 95 % interval)");
    }
    for promise in &report.promises {
        let _ = writeln!(text, "  {}", verdict(promise, colour));
    }
    text + &remarks(report)
}

fn in_words(place: Place) -> &'static str {
    match place {
        Place::Same => "caller and daemon on one core",
        Place::Free => "free to move",
    }
}

fn figures(row: &Medians, work: &Work) -> String {
    let rate = match work.job.block_bytes >= 1 << 20 {
        true => format!("{:.0} MiB/s", row.mib_per_second),
        false => format!("{:.1} k/s", row.calls_per_second / 1000.0),
    };
    let ours = row.ours_over_this.map(|ratio| format!("  ours {}", show(ratio)));
    format!(
        "{:<20} {rate:>12}  p50 {:>7.1} us  p99 {:>7.1} us  daemon {:>6.1} us{}",
        row.target,
        row.p50_us,
        row.p99_us,
        row.cpu_us,
        ours.unwrap_or_default()
    )
}

fn show(ratio: Ratio) -> String {
    format!("{:>5.2} x [{:.2} {:.2}]", ratio.value, ratio.low, ratio.high)
}

fn verdict(promise: &Promise, colour: bool) -> String {
    let place = promise.place.map_or("", Place::name);
    let what =
        format!("{:<16} {place:<4} {:<5} {:<20}", promise.work, promise.metric, promise.beside);
    let bound = promise.bound.to_string();
    let Some(ratio) = promise.ratio else {
        let why = promise.why.as_deref().unwrap_or("no run");
        return format!("{what} {bound:>8}  -     {why}");
    };
    let (word, paint) = match promise.verdict {
        Verdict::Pass => ("PASS", "32"),
        _ => ("FAIL", "31"),
    };
    let word = if colour { format!("\x1b[{paint}m{word}\x1b[0m") } else { word.to_owned() };
    let is_close = promise.bound.holds(ratio.low) != promise.bound.holds(ratio.high);
    let close = if is_close { "  (the bound lies in the interval)" } else { "" };
    format!("{what} {bound:>8}  {word}  {}{close}", show(ratio))
}

fn remarks(report: &Report) -> String {
    let mut text = String::new();
    for (target, why) in &report.absent {
        let _ = writeln!(text, "{target}: not offered: {why}");
    }
    for row in report.medians.iter().filter(|row| row.misses > 0) {
        let (work, place, misses) = (row.work, row.place.name(), row.misses);
        let _ = writeln!(text, "{work} {place}: {misses} reads of {} were no hits", row.target);
    }
    let busy = report.runs.iter().map(|run| run.others_busy).collect::<Vec<_>>();
    if let Some(busy) = median(&busy).filter(|busy| *busy > OTHERS_BUSY_MAX) {
        let _ = writeln!(text, "Others kept {busy:.1} processors busy: the figures are doubtful.");
    }
    if report.is_partial {
        text += "Interrupted: fewer rounds than asked for.\n";
    }
    text
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::fio::Outcome;
    use crate::works::{FLOOR, SPINDLE, WORKS};

    /// Three rounds in which ours makes `ours` calls a second and the floor 100.
    pub fn runs(ours: f64) -> Vec<Run> {
        let run = |round: usize, target, rate: f64, cpu| Run {
            round,
            pass: 1,
            work: "randread-4k",
            place: Place::Same,
            target,
            outcome: Outcome {
                calls: 100,
                bytes: 409_600,
                seconds: 1.0,
                calls_per_second: rate + round as f64 / 100.0,
                p50_us: 9.0,
                p99_us: 13.0,
            },
            daemon_cpu_seconds: cpu,
            others_busy: 0.0,
            misses: None,
        };
        let both = |round| [run(round, SPINDLE, ours, 0.0006), run(round, FLOOR, 100.0, 0.0005)];
        (1..=3).flat_map(both).collect()
    }

    /// A report of those runs.
    pub fn report(ours: f64) -> Report {
        let runs = runs(ours);
        let absent = BTreeMap::from([(crate::works::QEMU, "not installed".to_owned())]);
        Report {
            version: 1,
            unix_seconds: 0,
            host: "Linux <test> & co".into(),
            cores: 2,
            rounds: 3,
            run_milliseconds: 200,
            file_bytes: 1 << 26,
            seed: stats::SEED,
            is_partial: false,
            promises: promises(&WORKS[..1], &[Place::Same], &runs, &absent),
            medians: medians(&WORKS[..1], &runs),
            absent,
            runs,
        }
    }

    fn judged(report: &Report, metric: &str, beside: &str) -> Verdict {
        let is_it = |promise: &&Promise| promise.metric == metric && promise.beside == beside;
        report.promises.iter().find(is_it).unwrap().verdict
    }

    #[test]
    fn runs_are_compared_with_those_of_the_same_pass() {
        let mut runs = runs(100.0);
        let both = ratio(&runs, ("randread-4k", Place::Same), (SPINDLE, FLOOR), Metric::Rate);
        let mut alone = runs[0].clone();
        (alone.pass, alone.outcome.calls_per_second) = (2, 900.0);
        runs.extend([alone.clone(), alone]);
        let still = ratio(&runs, ("randread-4k", Place::Same), (SPINDLE, FLOOR), Metric::Rate);
        assert_eq!(still.unwrap().value, both.unwrap().value);
    }

    #[test]
    fn a_promise_is_kept_broken_or_not_measured() {
        assert_eq!(judged(&report(95.0), "rate", FLOOR), Verdict::Pass);
        assert_eq!(judged(&report(80.0), "rate", FLOOR), Verdict::Fail);
        assert_eq!(judged(&report(95.0), "cpu", FLOOR), Verdict::Pass); // 6 us over 5 us
        assert_eq!(judged(&report(95.0), "rate", crate::works::QEMU), Verdict::Unmeasured);
    }

    #[test]
    fn the_table_is_plain_unless_colour_is_wanted_and_says_what_is_absent() {
        let report = report(95.0);
        let plain = table(&report, &WORKS[..1], false);
        assert!(plain.contains("PASS") && !plain.contains('\x1b'), "{plain}");
        assert!(plain.contains("qemu-storage-daemon: not offered: not installed"), "{plain}");
        assert!(table(&report, &WORKS[..1], true).contains("\x1b[32mPASS"));
    }

    #[test]
    fn json_holds_every_run_and_the_verdicts() {
        let json = serde_json::to_value(report(95.0)).unwrap();
        assert_eq!(json["runs"].as_array().unwrap().len(), 6);
        assert_eq!(json["runs"][0]["calls"], 100);
        assert_eq!(json["promises"][0]["verdict"], "PASS");
        assert_eq!(json["promises"][0]["bound"]["at_least"], 0.9);
    }
}
