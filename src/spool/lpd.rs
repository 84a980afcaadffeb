//! The network door: an RFC 1179 server.
//!
//! 1. A file is acknowledged when it is on disk; the one that completes a job, when the job is
//!    queued and durable.
//! 2. One connection may bring many jobs, control and data file in either order. What is not whole
//!    at its end is dropped.
//! 3. The name that a client tells is used to say whose a job is, and for nothing else: `root` is
//!    a name like any other.

use super::Spool;
use super::job::Job;
use super::ops::Plan;
use super::order::Order;
use crate::error::{Errno, Error};
use crate::sync::Arc;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longest line and longest control file, in bytes.
const LINE_BYTES_MAX: usize = 1024;
const CONTROL_BYTES_MAX: u64 = 64 << 10;
/// Most files of a connection that wait for others of their job.
const FILES_MAX: usize = 256;

/// Serves a client to its end.
pub(super) fn serve(spool: &Arc<Spool>, stream: impl Read + Write) -> std::io::Result<()> {
    Client { spool, stream }.serve()
}

/// A client of the RFC 1179 server.
struct Client<'a, S> {
    spool: &'a Arc<Spool>,
    stream: S,
}

fn bad(words: &str) -> std::io::Error {
    std::io::Error::other(words.to_owned())
}

impl<S: Read + Write> Client<'_, S> {
    fn byte(&mut self) -> std::io::Result<Option<u8>> {
        let mut byte = [0];
        Ok(if self.stream.read(&mut byte)? == 0 { None } else { Some(byte[0]) })
    }

    /// The rest of a line.
    fn line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        while let Some(byte) = self.byte()? {
            if byte == b'\n' {
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            line.push(byte);
            if line.len() > LINE_BYTES_MAX {
                return Err(bad("a line without end"));
            }
        }
        Err(bad("it hung up in mid-line"))
    }

    fn say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    fn serve(mut self) -> std::io::Result<()> {
        let Some(command) = self.byte()? else { return Ok(()) };
        let line = self.line()?;
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let Some((queue, words)) = words.split_first() else { return self.say(b"\x01") };
        if !self.spool.has_queue(queue) {
            // Commands 1 and 2 are answered by a byte, what is listed by text.
            let refusal = if command <= 2 { "\x01" } else { "" };
            return self.say(format!("{refusal}{queue}: unknown printer\n").as_bytes());
        }
        match command {
            1 => {
                self.spool.ring();
                self.say(b"\0")
            }
            2 => self.receive(queue),
            3 => self.say(self.spool.view(queue).of(words).short().as_bytes()),
            4 => self.say(self.spool.view(queue).of(words).long().as_bytes()),
            5 => self.say(remove(self.spool, queue, words).as_bytes()),
            _ => Ok(()),
        }
    }

    fn receive(&mut self, queue: &str) -> std::io::Result<()> {
        if !self.spool.takes_jobs(queue) {
            return self.say(format!("\x01{queue}: spooling disabled\n").as_bytes());
        }
        self.say(b"\0")?;
        let room = tempfile_dir(&self.spool.dir)?;
        let mut bag = Bag { dir: room, ..Bag::default() };
        let outcome = self.files(queue, &mut bag);
        let _ = std::fs::remove_dir_all(&bag.dir); // what is left of it is nobody's job
        outcome
    }

    fn files(&mut self, queue: &str, bag: &mut Bag) -> std::io::Result<()> {
        loop {
            let Some(command) = self.byte()? else { return Ok(()) };
            if command == 0 {
                continue; // some send one too many
            }
            let line = self.line()?;
            if command == 1 {
                bag.clear(self.spool);
                self.say(b"\0")?;
                continue;
            }
            let (length, name) = line.split_once(' ').unwrap_or(("", ""));
            let length: u64 = length.parse().map_err(|_| bad("no length of a file"))?;
            let name = name.trim().to_owned();
            let is_name = name.starts_with(if command == 2 { "cf" } else { "df" });
            if !is_name || name.contains('/') || bag.data.len() + bag.orders.len() >= FILES_MAX {
                return self.say(b"\x01");
            }
            let is_control = command == 2;
            let limit = {
                let core = self.spool.core.lock();
                core.queues.get(queue).and_then(|queue| queue.bytes_max)
            };
            if (is_control && length > CONTROL_BYTES_MAX)
                || limit.is_some_and(|max| !is_control && length > max)
            {
                return self.say(b"\x02");
            }
            self.say(b"\0")?;
            bag.count += 1;
            let path = bag.dir.join(bag.count.to_string());
            if let Err(error) = self.file(&path, length, is_control) {
                let is_full = error.kind() == std::io::ErrorKind::StorageFull;
                self.say(if is_full { b"\x02" } else { b"\x01" })?;
                return Err(error);
            }
            if is_control {
                let text = std::fs::read(&path)?;
                self.spool.discard(&path);
                bag.orders.push(Order::parse(&String::from_utf8_lossy(&text)));
            } else {
                if let Some(path) = bag.data.insert(name, path) {
                    self.spool.discard(&path); // sent again: the last one counts
                }
            }
            match submit(self.spool, queue, bag) {
                Ok(()) => self.say(b"\0")?,
                Err(error) => {
                    log::warn!(target: "spool", "a job of the network: {error}");
                    return self.say(if error.errno == Errno::ENOSPC { b"\x02" } else { b"\x01" });
                }
            }
        }
    }

    /// Reads a file of `length` bytes and the zero behind it; 0 of a data file: to the end.
    fn file(&mut self, path: &Path, length: u64, is_control: bool) -> std::io::Result<()> {
        let mut file = File::create(path)?;
        let stream = &mut self.stream;
        if length == 0 && !is_control {
            std::io::copy(stream, &mut file)?;
            return Ok(());
        }
        if std::io::copy(&mut Read::by_ref(stream).take(length), &mut file)? < length {
            return Err(bad("it hung up in mid-file"));
        }
        match self.byte()? {
            Some(0) => Ok(()),
            _ => Err(bad("no zero behind a file")),
        }
    }
}

/// Queues each job whose files are all there.
fn submit(spool: &Spool, queue: &str, bag: &mut Bag) -> Result<(), Error> {
    let is_whole = |order: &Order, bag: &Bag| {
        !order.files.is_empty() && order.files.iter().all(|(name, _)| bag.data.contains_key(name))
    };
    while let Some(at) = bag.orders.iter().position(|order| is_whole(order, bag)) {
        let order = bag.orders.remove(at);
        spool.receive(queue, &order, |out| {
            let mut sizes = Vec::new();
            for (name, _) in &order.files {
                let Some(path) = bag.data.get(name) else { continue };
                sizes.push(std::io::copy(&mut File::open(path)?, out)?);
            }
            Ok(sizes)
        })?;
        for (name, _) in &order.files {
            if let Some(path) = bag.data.remove(name) {
                spool.discard(&path);
            }
        }
    }
    Ok(())
}

/// Removes jobs of the agent that asks; what was done, a line each.
fn remove(spool: &Spool, queue: &str, words: &[String]) -> String {
    let Some((agent, words)) = words.split_first() else { return String::new() };
    // BSD's `lprm -` of root, and LPRng's `lprm all`. Over the network root is a user like others.
    let is_all = agent == "-all" || words.iter().any(|word| word == "all");
    let agent = if agent == "-all" { "root" } else { agent };
    let mut core = spool.core.lock();
    let is_meant = |job: &&Job| {
        if is_all {
            return job.agent == agent;
        }
        if words.is_empty() {
            return job.active.is_some() && job.agent == agent;
        }
        words.iter().any(|word| *word == job.id.to_string() || *word == job.agent)
    };
    let all = core.ranked(queue);
    let mut jobs: Vec<Job> = all.iter().filter(|j| is_meant(j)).map(|&j| j.clone()).collect();
    // A number that is none of ours is one that the client gave: the newest of the agent's.
    for number in words.iter().filter_map(|word| word.parse::<u64>().ok()) {
        let own = all.iter().filter(|job| job.agent == agent && job.client == Some(number));
        if !all.iter().any(|job| job.id == number) {
            jobs.extend(own.max_by_key(|job| job.id).map(|&job| job.clone()));
        }
    }
    jobs.sort_by_key(|job| job.id);
    jobs.dedup_by_key(|job| job.id);
    let (mut text, mut plan) = (String::new(), Plan::default());
    for job in jobs {
        let name = job.file_name().to_string_lossy().into_owned();
        if job.agent != agent {
            text += &format!("{name}: Permission denied\n");
            continue;
        }
        match spool.plan_removal(&core, &mut plan, job.id, agent) {
            Ok(name) => text += &format!("{name} dequeued\n"),
            Err(error) => text += &format!("{name}: {error}\n"),
        }
    }
    let done = spool.carry_out(&mut core, plan);
    drop(core);
    match done.and_then(|done| spool.settle(done)) {
        Ok(()) => text,
        Err(error) => format!("{queue}: {error}\n"),
    }
}

/// What a connection has brought so far.
#[derive(Default)]
struct Bag {
    dir: PathBuf,
    /// How many files have come: each has its own name.
    count: u64,
    data: BTreeMap<String, PathBuf>,
    orders: Vec<Order>,
}

impl Bag {
    fn clear(&mut self, spool: &Spool) {
        self.orders.clear();
        for path in std::mem::take(&mut self.data).into_values() {
            spool.discard(&path);
        }
    }
}

/// A new directory for what a connection brings.
fn tempfile_dir(spool: &Path) -> std::io::Result<PathBuf> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = spool.join(format!(".incoming-{}-{number}", std::process::id()));
    std::fs::create_dir(&dir)?;
    Ok(dir)
}

#[cfg(test)]
#[path = "lpd_tests.rs"]
mod tests;
