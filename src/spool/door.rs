//! The network's doors: where a spool listens, and the jobs that come in.
//!
//! A door knows its clients, so that closing it hangs up on them: nobody waits for a silent one.

use super::order::Order;
use super::{Spool, journal, lpd};
use crate::error::{Errno, Error};
use crate::sync::{Arc, Mutex};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Most connections at once.
const CLIENTS_MAX: usize = 64;
/// User and group of what comes over the network: nobody's of this host.
const NOBODY: (u32, u32) = (65534, 65534);

/// The clients that are being served, by number; none are taken any more once it is closed.
#[derive(Default)]
struct Clients {
    is_closed: AtomicBool,
    streams: Mutex<BTreeMap<u64, TcpStream>>,
}

impl Clients {
    /// Takes a client in; `false`: there are too many, or it is closed.
    fn enter(&self, number: u64, client: &TcpStream) -> bool {
        let Ok(handle) = client.try_clone() else { return false };
        let mut streams = self.streams.lock();
        if streams.len() >= CLIENTS_MAX || self.is_closed.load(Ordering::Acquire) {
            return false;
        }
        streams.insert(number, handle);
        true
    }

    fn leave(&self, number: u64) {
        self.streams.lock().remove(&number);
    }

    fn hang_up(&self) {
        self.is_closed.store(true, Ordering::Release);
        for stream in self.streams.lock().values() {
            let _ = stream.shutdown(Shutdown::Both); // it may have gone by itself
        }
    }
}

/// A door that is open.
pub(super) struct Door {
    place: SocketAddr,
    clients: Arc<Clients>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Door {
    /// Takes no more clients, and hangs up on those that are there.
    pub(super) fn close(&self) {
        self.clients.hang_up();
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
    let listener = TcpListener::bind(listen).map_err(|error| {
        let way_out = way_out(&error);
        let mut refused = told(error);
        refused.what.push_str(way_out);
        refused
    })?;
    let place = listener.local_addr().map_err(told)?;
    let clients: Arc<Clients> = Arc::default();
    let (known, owned, serve) = (Arc::clone(&clients), Arc::downgrade(spool), Arc::new(serve));
    let accept = move || {
        for (number, client) in (0..).zip(listener.incoming()) {
            let is_closed = known.is_closed.load(Ordering::Acquire);
            let Some(spool) = owned.upgrade().filter(|_| !is_closed) else { break };
            let Ok(client) = client else { continue };
            if !known.enter(number, &client) {
                continue; // closed, which a client takes for "later"
            }
            let (serve, clients) = (Arc::clone(&serve), Arc::clone(&known));
            let work = move || {
                let quiet = client
                    .set_read_timeout(Some(SILENCE_MAX))
                    .and_then(|()| client.set_write_timeout(Some(SILENCE_MAX)));
                if let Err(error) = quiet.and_then(|()| serve(&spool, &client)) {
                    log::info!(target: "spool", "a client of the network door: {error}");
                }
                // Here, not when the last descriptor goes: the list has one of them.
                let _ = client.shutdown(Shutdown::Both);
                clients.leave(number);
            };
            if is_single {
                work();
            } else if std::thread::Builder::new().name("lpd".into()).spawn(work).is_err() {
                known.leave(number);
            }
        }
    };
    let thread = std::thread::Builder::new().name("door".into()).spawn(accept).map_err(told)?;
    log::info!(target: "spool", "the network door is open at {place}");
    Ok(Door { place, clients, thread: Mutex::new(Some(thread)) })
}

/// What to do where the host refuses an address.
fn way_out(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => "; another program listens there, choose another port",
        ErrorKind::AddrNotAvailable => "; no address of this computer, 127.0.0.1 is one",
        ErrorKind::PermissionDenied => "; ports below 1024 are root's, choose a higher one",
        _ => "; name an address of this computer, 127.0.0.1 is one",
    }
}

/// Serves RFC 1179 at an address.
pub(super) fn open_lpd(spool: &Arc<Spool>, listen: &str) -> Result<Door, Error> {
    open(spool, listen, false, |spool, client| lpd::serve(spool, client))
}

/// Takes whatever comes over a connection for a job of `queue`.
pub(super) fn open_raw(spool: &Arc<Spool>, queue: &str, listen: &str) -> Result<Door, Error> {
    let queue = queue.to_owned();
    open(spool, listen, true, move |spool, mut client| {
        let order = Order { user: "remote".into(), copies: 1, ..Order::default() };
        let job = spool
            .receive(&queue, &order, |file| std::io::copy(&mut client, file).map(|_| Vec::new()));
        job.map(|_| ()).map_err(|error| std::io::Error::other(error.to_string()))
    })
}

impl Spool {
    /// Makes a job of what `fill` writes; durable on return. `fill` answers the bytes of each of
    /// the order's files. Its number.
    pub(super) fn receive(
        &self,
        queue: &str,
        order: &Order,
        fill: impl FnOnce(&mut File) -> std::io::Result<Vec<u64>>,
    ) -> Result<u64, Error> {
        let begun = self.begin(queue, OsStr::new(&order.name), NOBODY, true)?;
        let (id, mut file) = (begun.id, begun.file);
        let told = |error: std::io::Error| journal::host(Path::new(queue), &error);
        let filled = fill(&mut file)
            .and_then(|sizes| {
                file.sync_data()?;
                Ok(sizes)
            })
            .map_err(told);
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
        let sizes = filled?;
        let mut job = core.jobs.get(&id).cloned().ok_or_else(|| super::no_job(id))?;
        (job.agent, job.copies) = (order.user.clone(), order.copies);
        if job.agent.is_empty() {
            job.agent = "remote".into();
        }
        order.class.clone_into(&mut job.class);
        (job.is_plain, job.client) = (!order.has_banner, order.number);
        // One file is shown by the name of the job.
        if order.files.len() > 1 {
            let named = order.files.iter().zip(sizes);
            let shown = |name: &str| if name.is_empty() { "stdin".into() } else { name.to_owned() };
            job.files = named.map(|((_, name), bytes)| (shown(name), bytes)).collect();
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

    pub(super) fn has_queue(&self, queue: &str) -> bool {
        self.core.lock().queues.contains_key(queue)
    }

    pub(super) fn takes_jobs(&self, queue: &str) -> bool {
        let core = self.core.lock();
        core.queues.get(queue).is_some_and(|queue| !queue.flags.is_disabled)
    }
}
