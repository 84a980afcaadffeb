//! One run of fio on one file, and its answer.

use crate::clock::{Trouble, go_on, wait};
use crate::host::Cores;
use crate::works::{HostCache, Job, Place};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long fio may take beyond its run time before it is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a run did.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Outcome {
    /// Calls finished.
    pub calls: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// How long it ran.
    pub seconds: f64,
    /// Calls a second.
    pub calls_per_second: f64,
    /// Half of the calls took no longer, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 calls took no longer, in microseconds.
    pub p99_us: f64,
}

#[derive(Deserialize)]
struct Answer {
    jobs: Vec<Report>,
}

#[derive(Deserialize)]
struct Report {
    error: i64,
    read: Direction,
    write: Direction,
}

#[derive(Deserialize)]
struct Direction {
    io_bytes: u64,
    iops: f64,
    total_ios: u64,
    runtime: f64,
    clat_ns: Latency,
}

#[derive(Deserialize)]
struct Latency {
    #[serde(default)]
    percentile: BTreeMap<String, f64>,
}

/// fio for `job` over the first `span_bytes` of `file`.
fn command(job: &Job, file: &Path, span_bytes: u64, milliseconds: u64) -> Command {
    let part = span_bytes / job.callers / job.block_bytes * job.block_bytes;
    let invalidate = u8::from(job.host_cache == HostCache::Emptied);
    let mut fio = Command::new("fio");
    fio.args(["--name=bench", "--ioengine=psync", "--thread", "--time_based", "--fallocate=none"]);
    fio.args(["--allow_file_create=0", "--group_reporting", "--output-format=json"]);
    // As dd does; calls of a mebibyte from other memory would be cut at its pages.
    fio.arg("--iomem_align=4096");
    fio.arg(format!("--filename={}", escaped(&file.display().to_string())));
    fio.arg(format!("--rw={}", job.shape.name()));
    fio.arg(format!("--bs={}", job.block_bytes));
    fio.arg(format!("--runtime={milliseconds}ms"));
    fio.arg(format!("--invalidate={invalidate}"));
    fio.arg(format!("--size={part}"));
    if job.callers > 1 {
        fio.arg(format!("--numjobs={}", job.callers)).arg(format!("--offset_increment={part}"));
    }
    fio
}

/// A colon separates file names for fio.
fn escaped(name: &str) -> String {
    name.replace(':', "\\:")
}

/// What a run needs beside its job.
pub struct Run<'a> {
    /// The file.
    pub file: &'a Path,
    /// How much of it, from its beginning.
    pub span_bytes: u64,
    /// How long.
    pub milliseconds: u64,
    /// Where the callers run.
    pub place: Place,
}

/// Does `job` once.
pub fn run(job: &Job, run: &Run, cores: &Cores) -> Result<Outcome, Trouble> {
    let mut command = command(job, run.file, run.span_bytes, run.milliseconds);
    let child = cores
        .start_in(run.place, || quiet(&mut command).spawn())
        .map_err(std::io::Error::from)
        .and_then(|started| started)
        .map_err(|error| Trouble::new("fio", error))?;
    let (out, err) = finish(child, Duration::from_millis(run.milliseconds) + PATIENCE)?;
    parse(&out, job).map_err(|why| {
        let said = err.lines().chain(out.lines()).find(|line| line.starts_with("fio:"));
        Trouble::new("fio", said.map_or(why, ToOwned::to_owned))
    })
}

/// Makes a command ready to be read from; its group is its own, so Ctrl-C reaches only us.
fn quiet(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0)
}

/// Waits for a child and reads what it said. Past the limit, or when we are to stop, it is killed.
fn finish(mut child: Child, limit: Duration) -> Result<(String, String), Trouble> {
    let out = child.stdout.take().map(drain);
    let err = child.stderr.take().map(drain);
    let mut stop = Ok(());
    let ended = wait(limit, || {
        stop = go_on();
        stop.is_err() || !matches!(child.try_wait(), Ok(None))
    });
    if !ended || stop.is_err() {
        let _ = child.kill();
        // One that hangs in a call of a dead mount ends when that is unmounted, not before.
        wait(Duration::from_secs(5), || !matches!(child.try_wait(), Ok(None)));
        stop?;
        return Err(Trouble::Failed(format!("no end within {} s", limit.as_secs())));
    }
    let text = |reader: Option<std::thread::JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    Ok((text(out), text(err)))
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes); // what was read until an error is good enough
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn parse(said: &str, job: &Job) -> Result<Outcome, String> {
    let json = said.find('{').map_or("", |at| &said[at..]);
    let answer: Answer = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let report = answer.jobs.into_iter().next().ok_or("no job in its answer")?;
    if report.error != 0 {
        return Err(format!("error {}", report.error));
    }
    let done = if job.shape.writes() { report.write } else { report.read };
    if done.total_ios == 0 {
        return Err("no call finished".into());
    }
    let percentile =
        |of: &str| done.clat_ns.percentile.get(of).copied().unwrap_or_default() / 1000.0;
    Ok(Outcome {
        calls: done.total_ios,
        bytes: done.io_bytes,
        seconds: done.runtime / 1000.0,
        calls_per_second: done.iops,
        p50_us: percentile("50.000000"),
        p99_us: percentile("99.000000"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::works::WORKS;

    #[test]
    fn callers_share_the_span_in_parts_of_whole_blocks() {
        let work = WORKS.iter().find(|work| work.job.callers == 4).unwrap();
        let fio = command(&work.job, Path::new("/a:b"), 100_000, 500);
        let args = fio.get_args().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>();
        for wanted in ["--filename=/a\\:b", "--size=24576", "--offset_increment=24576"] {
            assert!(args.contains(&wanted), "{wanted} in {args:?}");
        }
    }

    #[test]
    fn an_answer_is_read_behind_chatter_and_an_error_is_one() {
        let latency = r#"{"percentile":{"50.000000":9000,"99.000000":13000}}"#;
        let side = format!(
            r#"{{"io_bytes":8192,"iops":20.5,"total_ios":2,"runtime":100,"clat_ns":{latency}}}"#
        );
        let said = |error| {
            format!(r#"note: x {{"jobs":[{{"error":{error},"read":{side},"write":{side}}}]}}"#)
        };
        let outcome = parse(&said(0), &WORKS[0].job).unwrap();
        assert_eq!((outcome.calls, outcome.bytes), (2, 8192));
        assert_eq!((outcome.p50_us, outcome.p99_us, outcome.seconds), (9.0, 13.0, 0.1));
        assert_eq!(parse(&said(5), &WORKS[0].job).unwrap_err(), "error 5");
        assert!(parse("", &WORKS[0].job).is_err());
    }
}
