//! Waiting for whichever of several files has something: poll, select, and the read that follows.

use super::hall::{Hall, Patience};
use super::node::{For, Node, Opened};
use super::shape::hex;
use crate::words;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde_json::json;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::Duration;

/// Longest record that is read at once, in bytes: what a tape's may have.
const RECORD_BYTES: usize = 1 << 20;
/// How long a line may stand without its end before it is shown as it is.
const LINE_WAIT: Duration = Duration::from_secs(1);
/// Longest line that is waited for, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

const FLAGS: [(&str, PollFlags); 4] = [
    ("read", PollFlags::POLLIN),
    ("write", PollFlags::POLLOUT),
    ("hangup", PollFlags::POLLHUP),
    ("error", PollFlags::POLLERR),
];

/// What holds of each file: at once, or at the end of `patience` of nothing.
fn look(
    files: &[&File],
    asked: PollFlags,
    patience: Patience,
) -> Result<Vec<PollFlags>, std::io::Error> {
    let mut fds: Vec<_> = files.iter().map(|file| PollFd::new(file.as_fd(), asked)).collect();
    loop {
        let slice = patience.slice();
        let timeout = PollTimeout::try_from(slice).unwrap_or(PollTimeout::MAX);
        let found = nix::poll::poll(&mut fds, timeout)?;
        if found > 0 || patience.is_over() {
            return Ok(fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect());
        }
    }
}

fn told(operation: &str, error: &std::io::Error) -> String {
    format!("devctl: {operation}: {}", words::of_host(error))
}

/// Whether a file can be read and written; it is waited until it can be read.
pub(super) fn poll(node: &Node<'_>, patience: Patience, hall: &mut Hall<'_>) -> Result<(), String> {
    let Opened { file, .. } = node.open()?;
    let look =
        |asked, patience| look(&[&file], asked, patience).map_err(|error| told("poll", &error));
    look(PollFlags::POLLIN, patience)?;
    let ready = look(PollFlags::POLLIN | PollFlags::POLLOUT, Patience::none())?;
    let ready = ready.first().copied().unwrap_or(PollFlags::empty());
    let is_so = FLAGS.map(|(name, flag)| (name, ready.contains(flag)));
    if hall.is_json {
        let all: serde_json::Map<_, _> =
            is_so.iter().map(|(name, is_so)| ((*name).into(), json!(is_so))).collect();
        return hall.object(&json!({ "device": node.name, "ready": all }));
    }
    let words = is_so.map(|(name, is_so)| format!("{name}={}", u8::from(is_so)));
    hall.text(&format!("{}\n", words.join(" ")))
}

/// Which of the files are ready, a line each, as soon as one is; none when time is over.
pub(super) fn select(
    nodes: &[Node<'_>],
    purpose: For,
    patience: Patience,
    hall: &mut Hall<'_>,
) -> Result<(), String> {
    let opened = nodes.iter().map(|node| node.open_for(purpose, false));
    let files: Vec<File> = opened.collect::<Result<_, _>>()?;
    let files: Vec<&File> = files.iter().collect();
    let asked = match purpose {
        For::Reading => PollFlags::POLLIN,
        For::Writing => PollFlags::POLLOUT,
        For::Both => PollFlags::POLLIN | PollFlags::POLLOUT,
    };
    let found = look(&files, asked, patience).map_err(|error| told("select", &error))?;
    let ready = nodes.iter().zip(found).filter(|(_, flags)| !flags.is_empty());
    let names = |flags: PollFlags| -> Vec<&str> {
        FLAGS.iter().filter(|(_, flag)| flags.contains(*flag)).map(|(name, _)| *name).collect()
    };
    if hall.is_json {
        let object =
            |(node, flags): (&Node<'_>, _)| json!({ "device": node.name, "ready": names(flags) });
        let all: Vec<_> = ready.map(object).collect();
        return hall.object(&json!({ "ready": all }));
    }
    let line =
        |(node, flags): (&Node<'_>, _)| format!("{} {}\n", node.name, names(flags).join(" "));
    hall.text(&ready.map(line).collect::<String>())
}

/// Data of one file on its way to whoever reads lines.
struct Source<'a> {
    name: &'a str,
    file: File,
    /// A line without its end yet.
    rest: Vec<u8>,
    is_over: bool,
}

impl Source<'_> {
    /// Reads once; whether something came. What is not there yet is none.
    fn read(&mut self, memory: &mut [u8], hall: &mut Hall<'_>) -> Result<bool, String> {
        match self.file.read(memory) {
            Ok(0) => {
                self.is_over = true;
                self.flush(hall)?;
                Ok(false)
            }
            Ok(len) if hall.is_json => {
                let bytes = hex(&memory[..len]);
                hall.line(&json!({ "device": self.name, "bytes": bytes }).to_string())?;
                Ok(true)
            }
            Ok(len) => {
                self.rest.extend(&memory[..len]);
                self.lines(hall)?;
                Ok(true)
            }
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) =>
            {
                Ok(false)
            }
            Err(error) => Err(format!("devctl: {}: {}", self.name, words::of_host(&error))),
        }
    }

    /// Shows the lines that are whole.
    fn lines(&mut self, hall: &mut Hall<'_>) -> Result<(), String> {
        if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.rest.split_off(end + 1);
            for line in std::mem::replace(&mut self.rest, rest).split_inclusive(|b| *b == b'\n') {
                hall.labelled(self.name, line)?;
            }
        }
        if self.rest.len() > LINE_BYTES_MAX { self.flush(hall) } else { Ok(()) }
    }

    /// Shows what has no end.
    fn flush(&mut self, hall: &mut Hall<'_>) -> Result<(), String> {
        let mut line = std::mem::take(&mut self.rest);
        if line.is_empty() {
            return Ok(());
        }
        line.push(b'\n');
        hall.labelled(self.name, &line)
    }
}

/// Reads what comes from any of the files: of those that are ready first, or, following, until
/// time is over or all have ended.
pub(super) fn read(
    nodes: &[Node<'_>],
    is_following: bool,
    patience: Patience,
    hall: &mut Hall<'_>,
) -> Result<(), String> {
    let mut sources = Vec::new();
    for node in nodes {
        let file = node.open_for(For::Reading, false)?;
        sources.push(Source { name: &node.name, file, rest: Vec::new(), is_over: false });
    }
    let mut memory = vec![0; RECORD_BYTES];
    while !sources.is_empty() && !hall.is_left {
        let files: Vec<&File> = sources.iter().map(|source| &source.file).collect();
        let has_rest = sources.iter().any(|source| !source.rest.is_empty());
        let wait = if has_rest { patience.at_most(LINE_WAIT) } else { patience };
        let found = look(&files, PollFlags::POLLIN, wait);
        let found = found.map_err(|error| told("multiread", &error))?;
        let mut has_come = false;
        for (source, flags) in sources.iter_mut().zip(&found) {
            if !flags.is_empty() {
                has_come |= source.read(&mut memory, hall)?;
            }
        }
        let is_silent = found.iter().all(|flags| flags.is_empty());
        let is_last = (has_come && !is_following) || (is_silent && patience.is_over());
        if is_silent || is_last {
            sources.iter_mut().try_for_each(|source| source.flush(hall))?;
        }
        if is_last {
            break;
        }
        sources.retain(|source| !source.is_over);
    }
    Ok(())
}
