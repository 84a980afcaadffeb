//! The network door: an RFC 1179 server, and printers that take a job a connection (port 9100).
//!
//! 1. A file is acknowledged when it is on disk; the one that completes a job, when the job is
//!    queued and durable.
//! 2. One connection may bring many jobs, control and data file in either order. What is not whole
//!    at its end is dropped.
//! 3. The name that a client tells is used to say whose a job is, and for nothing else: `root` is
//!    a name like any other.

use super::job::Job;
use super::text::QueueView;
use super::{Spool, journal};
use crate::error::{Errno, Error};
use crate::sync::{Arc, Mutex};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest line and longest control file, in bytes.
const LINE_BYTES_MAX: usize = 1024;
const CONTROL_BYTES_MAX: u64 = 64 << 10;
/// Most connections at once, and most data files that wait for their control file.
const CLIENTS_MAX: usize = 64;
const FILES_MAX: usize = 256;
/// User and group of what comes over the network: nobody's of this host.
const NOBODY: (u32, u32) = (65534, 65534);

/// A door that is open.
pub(super) struct Door {
    place: SocketAddr,
    is_closed: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Door {
    /// Takes no more clients.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        // Whoever accepts wakes up from this one.
        drop(TcpStream::connect_timeout(&self.place, Duration::from_secs(1)));
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            log::error!(target: "spool", "the door at {} panicked", self.place);
        }
    }
}

/// Opens a door: each client is served on a thread of its own; one at a time where `is_single`.
fn open(
    spool: &Arc<Spool>,
    listen: &str,
    is_single: bool,
    serve: impl Fn(&Arc<Spool>, &TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> Result<Door, Error> {
    let told = |error: std::io::Error| journal::host(Path::new(listen), &error);
    let listener = TcpListener::bind(listen).map_err(told)?;
    let place = listener.local_addr().map_err(told)?;
    let is_closed = Arc::new(AtomicBool::new(false));
    let (closed, owned, serve) = (Arc::clone(&is_closed), Arc::downgrade(spool), Arc::new(serve));
    let clients = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for client in listener.incoming() {
            let Some(spool) = owned.upgrade().filter(|_| !closed.load(Ordering::Acquire)) else {
                break;
            };
            let Ok(client) = client else { continue };
            if clients.load(Ordering::Acquire) >= CLIENTS_MAX {
                continue; // closed, which a client takes for "later"
            }
            let (serve, clients) = (Arc::clone(&serve), Arc::clone(&clients));
            let work = move || {
                let quiet = client
                    .set_read_timeout(Some(SILENCE_MAX))
                    .and_then(|()| client.set_write_timeout(Some(SILENCE_MAX)));
                if let Err(error) = quiet.and_then(|()| serve(&spool, &client)) {
                    log::info!(target: "spool", "a client of the network door: {error}");
                }
            };
            if is_single {
                work();
                continue;
            }
            clients.fetch_add(1, Ordering::AcqRel);
            let counted = Arc::clone(&clients);
            let thread = std::thread::Builder::new().name("lpd".into()).spawn(move || {
                work();
                counted.fetch_sub(1, Ordering::AcqRel);
            });
            if thread.is_err() {
                clients.fetch_sub(1, Ordering::AcqRel);
            }
        }
    };
    let thread = std::thread::Builder::new().name("door".into()).spawn(accept).map_err(told)?;
    log::info!(target: "spool", "the network door is open at {place}");
    Ok(Door { place, is_closed, thread: Mutex::new(Some(thread)) })
}

/// Serves RFC 1179 at an address.
pub(super) fn open_lpd(spool: &Arc<Spool>, listen: &str) -> Result<Door, Error> {
    open(spool, listen, false, |spool, client| Client { spool, stream: client }.serve())
}

/// Takes whatever comes over a connection for a job of `queue`.
pub(super) fn open_raw(spool: &Arc<Spool>, queue: &str, listen: &str) -> Result<Door, Error> {
    let queue = queue.to_owned();
    open(spool, listen, true, move |spool, mut client| {
        let order =
            Order { user: "remote".into(), name: String::new(), files: Vec::new(), copies: 1 };
        let job =
            spool.receive(&queue, &order, |file| std::io::copy(&mut client, file).map(|_| ()));
        job.map(|_| ()).map_err(|error| std::io::Error::other(error.to_string()))
    })
}

/// What a control file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Order {
    user: String,
    name: String,
    /// The data files, and their names for people.
    files: Vec<(String, String)>,
    copies: u32,
}

impl Order {
    fn parse(text: &str) -> Order {
        let mut order = Order { copies: 1, ..Order::default() };
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let (mut names, mut title) = (Vec::new(), String::new());
        for line in text.lines() {
            let Some(code) = line.chars().next() else { continue };
            let rest = &line[code.len_utf8()..];
            let plain: String =
                rest.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
            match code {
                'P' => order.user = plain,
                'J' => title = plain,
                'N' => names.push(rest.rsplit('/').next().unwrap_or("").trim().to_owned()),
                'a'..='z' => {
                    let count = counts.entry(rest.to_owned()).or_insert(0);
                    *count += 1;
                    if *count == 1 {
                        order.files.push((rest.to_owned(), String::new()));
                    }
                    order.copies = order.copies.max(*count);
                }
                _ => {}
            }
        }
        // A name before its file or behind it: either way the same order. One a copy, of some.
        names.dedup();
        for (file, name) in order.files.iter_mut().zip(&names) {
            name.as_str().clone_into(&mut file.1);
        }
        let is_stdin = |name: &str| matches!(name, "" | "(STDIN)" | "stdin");
        let first = names.into_iter().next().unwrap_or_default();
        let name = if title.is_empty() || title == "stdin" { first } else { title };
        order.name = if is_stdin(&name) { String::new() } else { name };
        order.name = order.name.trim_start_matches('.').to_owned();
        order
    }
}

impl Spool {
    /// Makes a job of what `fill` writes; durable on return. Its number.
    fn receive(
        &self,
        queue: &str,
        order: &Order,
        fill: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<u64, Error> {
        let begun = self.begin(queue, OsStr::new(&order.name), NOBODY, true)?;
        let (id, mut file) = (begun.id, begun.file);
        let told = |error: std::io::Error| journal::host(Path::new(queue), &error);
        let filled = fill(&mut file).and_then(|()| file.sync_data()).map_err(told);
        let size = file.metadata().map_or(0, |data| data.len());
        let mut core = self.core.lock();
        let limit = core.queues.get(queue).and_then(|queue| queue.bytes_max);
        let is_long = limit.is_some_and(|max| size > max);
        if filled.is_err() || size == 0 || is_long || !core.jobs.contains_key(&id) {
            self.drop_unfinished(&mut core, id);
            filled?;
            let errno = if is_long { Errno::EFBIG } else { Errno::EINVAL };
            return Err(Error::new(errno, format!("job {id}: empty, too long, or removed")));
        }
        core.written.remove(&id);
        let mut job = core.jobs.get(&id).cloned().ok_or_else(|| super::no_job(id))?;
        (job.agent, job.copies) = (order.user.clone(), order.copies);
        if job.agent.is_empty() {
            job.agent = "remote".into();
        }
        core.apply(&super::Record::Job(Box::new(job)));
        let mark = match self.queue_job(&mut core, id, size, None) {
            Ok(mark) => mark,
            Err(error) => {
                self.drop_unfinished(&mut core, id);
                return Err(error);
            }
        };
        drop(core);
        journal::sync_dir(&self.queue_dir(queue)?)?;
        self.journal.sync(mark)?;
        self.ring();
        Ok(id)
    }

    fn has_queue(&self, queue: &str) -> bool {
        self.core.lock().queues.contains_key(queue)
    }

    fn takes_jobs(&self, queue: &str) -> bool {
        let core = self.core.lock();
        core.queues.get(queue).is_some_and(|queue| !queue.flags.is_disabled)
    }
}

/// A client of the RFC 1179 server.
struct Client<'a> {
    spool: &'a Arc<Spool>,
    stream: &'a TcpStream,
}

fn bad(words: &str) -> std::io::Error {
    std::io::Error::other(words.to_owned())
}

impl Client<'_> {
    fn byte(&self) -> std::io::Result<Option<u8>> {
        let mut byte = [0];
        let mut stream = self.stream;
        Ok(if stream.read(&mut byte)? == 0 { None } else { Some(byte[0]) })
    }

    /// The rest of a line.
    fn line(&self) -> std::io::Result<String> {
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

    fn say(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(bytes)
    }

    fn serve(&self) -> std::io::Result<()> {
        let Some(command) = self.byte()? else { return Ok(()) };
        let line = self.line()?;
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let Some((queue, words)) = words.split_first() else { return self.say(b"\x01") };
        if !self.spool.has_queue(queue) {
            return self.say(format!("\x01{queue}: unknown printer\n").as_bytes());
        }
        match command {
            1 => {
                self.spool.ring();
                self.say(b"\0")
            }
            2 => self.receive(queue),
            3 => self.say(self.view(queue, words).short().as_bytes()),
            4 => self.say(self.view(queue, words).long().as_bytes()),
            5 => self.say(self.remove(queue, words).as_bytes()),
            _ => Ok(()),
        }
    }

    fn view(&self, queue: &str, words: &[String]) -> QueueView {
        self.spool.view(queue).of(words)
    }

    fn receive(&self, queue: &str) -> std::io::Result<()> {
        if !self.spool.takes_jobs(queue) {
            return self.say(format!("\x01{queue}: spooling disabled\n").as_bytes());
        }
        self.say(b"\0")?;
        let room = tempfile_dir(&self.spool.dir)?;
        let mut bag = Bag { dir: room, data: BTreeMap::new(), orders: Vec::new() };
        let outcome = self.files(queue, &mut bag);
        let _ = std::fs::remove_dir_all(&bag.dir); // what is left of it is nobody's job
        outcome
    }

    fn files(&self, queue: &str, bag: &mut Bag) -> std::io::Result<()> {
        loop {
            let Some(command) = self.byte()? else { return Ok(()) };
            if command == 0 {
                continue; // some send one too many
            }
            let line = self.line()?;
            if command == 1 {
                bag.orders.clear();
                bag.data.clear();
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
            let path =
                bag.dir.join(bag.data.len().to_string() + if is_control { "c" } else { "d" });
            if let Err(error) = self.file(&path, length, is_control) {
                let is_full = error.kind() == std::io::ErrorKind::StorageFull;
                self.say(if is_full { b"\x02" } else { b"\x01" })?;
                return Err(error);
            }
            if is_control {
                let text = std::fs::read(&path)?;
                bag.orders.push(Order::parse(&String::from_utf8_lossy(&text)));
            } else {
                bag.data.insert(name, path);
            }
            match self.submit(queue, bag) {
                Ok(()) => self.say(b"\0")?,
                Err(error) => {
                    log::warn!(target: "spool", "a job of the network: {error}");
                    return self.say(if error.errno == Errno::ENOSPC { b"\x02" } else { b"\x01" });
                }
            }
        }
    }

    /// Reads a file of `length` bytes and the zero behind it; 0 of a data file: to the end.
    fn file(&self, path: &Path, length: u64, is_control: bool) -> std::io::Result<()> {
        let mut file = File::create(path)?;
        let mut stream = self.stream;
        if length == 0 && !is_control {
            std::io::copy(&mut stream, &mut file)?;
            return Ok(());
        }
        if std::io::copy(&mut stream.take(length), &mut file)? < length {
            return Err(bad("it hung up in mid-file"));
        }
        match self.byte()? {
            Some(0) => Ok(()),
            _ => Err(bad("no zero behind a file")),
        }
    }

    /// Queues each job whose files are all there.
    fn submit(&self, queue: &str, bag: &mut Bag) -> Result<(), Error> {
        let is_whole = |order: &Order, bag: &Bag| {
            !order.files.is_empty()
                && order.files.iter().all(|(name, _)| bag.data.contains_key(name))
        };
        while let Some(at) = bag.orders.iter().position(|order| is_whole(order, bag)) {
            let order = bag.orders.remove(at);
            self.spool.receive(queue, &order, |out| {
                for (name, _) in &order.files {
                    let Some(path) = bag.data.get(name) else { continue };
                    std::io::copy(&mut File::open(path)?, out)?;
                }
                Ok(())
            })?;
            for (name, _) in &order.files {
                if let Some(path) = bag.data.remove(name) {
                    self.spool.discard(&path);
                }
            }
        }
        Ok(())
    }

    /// Removes jobs of the agent that asks; what was done, a line each.
    fn remove(&self, queue: &str, words: &[String]) -> String {
        let Some((agent, words)) = words.split_first() else { return String::new() };
        let mut core = self.spool.core.lock();
        let is_meant = |job: &&Job| {
            if words.is_empty() {
                return job.active.is_some() && job.agent == *agent;
            }
            words.iter().any(|word| *word == job.id.to_string() || *word == job.agent)
        };
        let jobs: Vec<Job> =
            core.ranked(queue).into_iter().filter(|j| is_meant(j)).cloned().collect();
        let (mut text, mut mark) = (String::new(), None);
        for job in jobs {
            let name = job.file_name().to_string_lossy().into_owned();
            if job.agent != *agent {
                text += &format!("{name}: Permission denied\n");
                continue;
            }
            match self.spool.remove(&mut core, job.id, agent) {
                Ok((name, at)) => {
                    mark = Some(at);
                    text += &format!("{name} dequeued\n");
                }
                Err(error) => text += &format!("{name}: {error}\n"),
            }
        }
        drop(core);
        if let Some(mark) = mark
            && let Err(error) = self.spool.journal.sync(mark)
        {
            return format!("{queue}: {error}\n");
        }
        self.spool.ring();
        text
    }
}

/// What a connection has brought so far.
struct Bag {
    dir: std::path::PathBuf,
    data: BTreeMap<String, std::path::PathBuf>,
    orders: Vec<Order>,
}

/// A new directory for what a connection brings.
fn tempfile_dir(spool: &Path) -> std::io::Result<std::path::PathBuf> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = spool.join(format!(".incoming-{}-{number}", std::process::id()));
    std::fs::create_dir(&dir)?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_files_of_all_clients_are_understood() {
        let bsd = "Hvm\nPalice\nJreport\nCvm\nLalice\nfdfA001vm\nUdfA001vm\nN/home/alice/report\n";
        let order = Order::parse(bsd);
        assert_eq!((order.user.as_str(), order.name.as_str()), ("alice", "report"));
        assert_eq!(order.files, [("dfA001vm".to_owned(), "report".to_owned())]);
        let lprng = "Hvm\nPbob\nJ(STDIN)\nN(STDIN)\nfdfA002vm\nfdfA002vm\n";
        let order = Order::parse(lprng);
        assert_eq!((order.copies, order.name.as_str(), order.files.len()), (2, "", 1));
        let order = Order::parse("P../x\nNa/../..\nldfA1h\nldfB1h\n");
        assert_eq!((order.user.as_str(), order.files.len()), (".._x", 2));
        assert_eq!(order.name, "", "a name never begins with a dot");
        assert_eq!(Order::parse("\u{0}\n\n"), Order { copies: 1, ..Order::default() });
    }
}
