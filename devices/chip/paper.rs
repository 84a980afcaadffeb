//! What a printer prints on: a file of the host, a file for each job, a command, another printer.
//!
//! Beginning and ending a job may wait; putting bytes never does.

use crate::sink::Sink;
use crate::sync::{Arc, Mutex};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// How long a printer on the network may take to answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long it may keep a connection whose job it has.
const TAKEN_MAX: Duration = Duration::from_secs(5);

/// Why bytes were not put.
#[derive(Debug)]
pub(super) enum Refused {
    /// Later they may be.
    NotYet,
    /// There is no room; what was put stands.
    NoSpace,
    /// What was put is lost, or may be.
    Broken(String),
}

enum Out {
    Nothing,
    File(File),
    Pipe(Child, Option<ChildStdin>),
    Tcp(TcpStream),
}

/// The command that is being printed on, so that it can be ended while its end is waited for.
#[derive(Default)]
pub(super) struct Running(Mutex<Option<(Pid, When)>>);

/// When a command is ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Its end is being waited for.
    Waited,
    /// In any case.
    Always,
}

impl Running {
    /// Ends the command that runs now, with all it has started.
    pub(super) fn end(&self, when: When) {
        let running = self.0.lock();
        if let Some((pid, is)) = *running
            && (when == When::Always || is == when)
        {
            let _ = killpg(pid, Signal::SIGKILL); // it may be gone
        }
    }

    fn set(&self, state: Option<(Pid, When)>) {
        *self.0.lock() = state;
    }
}

/// See the head of this file.
pub(super) struct Paper {
    sink: Sink,
    out: Out,
    running: Arc<Running>,
    /// The latest order that was obeyed.
    last: u64,
}

fn broken(what: &str, error: &std::io::Error) -> Refused {
    Refused::Broken(format!("{what}: {error}"))
}

impl Paper {
    /// Prints on that.
    pub(super) fn new(sink: Sink) -> Paper {
        Paper { sink, out: Out::Nothing, running: Arc::default(), last: 0 }
    }

    /// What ends its command.
    pub(super) fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running)
    }

    /// Whether the order of that number comes in its turn: one that was overtaken by a later one,
    /// for threads run as they like, has nothing to do with the job that is printed now.
    pub(super) fn is_due(&mut self, order: u64) -> bool {
        let is_due = order >= self.last;
        self.last = self.last.max(order);
        is_due
    }

    /// Whether a job has begun.
    pub(super) fn is_begun(&self) -> bool {
        !matches!(self.out, Out::Nothing)
    }

    /// A job begins; `job` is its number, a blank, and its name. One before it is cut short.
    pub(super) fn begin(&mut self, job: &str) -> Result<(), Refused> {
        let _ = self.end(false); // it has been given up
        self.out = match &self.sink {
            Sink::File(path) => Out::File(open(path, File::options().append(true).create(true))?),
            Sink::Files(dir, pattern) => {
                let (number, name) = job.split_once(' ').unwrap_or((job, "stdin"));
                let plain = |c: char| if c == '/' || c.is_control() { '_' } else { c };
                let name: String = name.chars().take(100).map(plain).collect();
                let name = pattern.replace("%j", number).replace("%n", &name);
                std::fs::create_dir_all(dir).map_err(|e| broken(&dir.to_string_lossy(), &e))?;
                let path = dir.join(name);
                Out::File(open(&path, File::options().write(true).create(true).truncate(true))?)
            }
            Sink::Command(command) => {
                let child = Command::new("/bin/sh")
                    .args(["-c", command])
                    .process_group(0)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn();
                let mut child = child.map_err(|e| broken(command, &e))?;
                self.running.set(group(&child).map(|group| (group, When::Always)));
                let stdin = child.stdin.take();
                if let Some(stdin) = &stdin {
                    never_wait(stdin).map_err(|e| broken(command, &e))?;
                }
                Out::Pipe(child, stdin)
            }
            Sink::Tcp(address) => Out::Tcp(connect(address).map_err(|e| broken(address, &e))?),
        };
        Ok(())
    }

    /// Puts what can be put at once; how many bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        let written = match &mut self.out {
            Out::Nothing => return Err(Refused::Broken("no job has begun".into())),
            Out::File(file) => file.write(bytes),
            Out::Tcp(stream) => stream.write(bytes),
            Out::Pipe(_, None) => return Err(Refused::Broken("its command is gone".into())),
            Out::Pipe(_, Some(pipe)) => pipe.write(bytes),
        };
        match written {
            Ok(0) => Err(Refused::NoSpace),
            Ok(len) => Ok(len),
            Err(error) => Err(match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Refused::NotYet,
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    Refused::NoSpace
                }
                _ => broken("its output", &error),
            }),
        }
    }

    /// The job is over; `is_whole` unless it was cut short.
    pub(super) fn end(&mut self, is_whole: bool) -> Result<(), Refused> {
        match std::mem::replace(&mut self.out, Out::Nothing) {
            // Nothing took what was to be printed.
            Out::Nothing if is_whole => Err(Refused::Broken("no job has begun".into())),
            Out::Nothing => Ok(()),
            Out::File(file) => match file.sync_data() {
                // A pipe or a terminal has nothing to keep.
                Err(error) if error.kind() != ErrorKind::InvalidInput => {
                    Err(broken("its output", &error))
                }
                _ if is_whole && is_removed(&file) => {
                    Err(Refused::Broken("its output was removed".into()))
                }
                _ => Ok(()),
            },
            Out::Tcp(stream) => {
                if is_whole {
                    return taken(stream).map_err(|e| broken("its connection", &e));
                }
                Ok(())
            }
            Out::Pipe(mut child, stdin) => {
                drop(stdin);
                if let Some(group) = group(&child) {
                    self.running.set(Some((group, When::Waited)));
                    if !is_whole {
                        self.running.end(When::Waited);
                    }
                    // Its number is its own until it is waited for below.
                    let _ = waitid(Id::Pid(group), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
                }
                self.running.set(None);
                let status = child.wait().map_err(|e| broken("its command", &e))?;
                if status.success() || !is_whole {
                    return Ok(());
                }
                Err(Refused::Broken(format!("its command ended with {status}")))
            }
        }
    }
}

/// The process group of a command.
fn group(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().map(Pid::from_raw)
}

/// Whether nobody will find what was printed: its file has no name any more.
fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.nlink() == 0)
}

/// Waits until the other end has taken all and hangs up; one that stays is believed.
fn taken(mut stream: TcpStream) -> std::io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TAKEN_MAX))?;
    let mut said = [0; 512];
    loop {
        match stream.read(&mut said) {
            Ok(0) => return Ok(()),
            Ok(_) => {} // what it says of itself
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Opens a file; of a pipe or a terminal neither this nor a write waits for the other end.
fn open(path: &Path, how: &mut OpenOptions) -> Result<File, Refused> {
    let opened = how.custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    opened.map_err(|error| match error.kind() {
        ErrorKind::StorageFull => Refused::NoSpace,
        _ if error.raw_os_error() == Some(Errno::ENXIO as i32) => {
            Refused::Broken(format!("{}: nobody reads it", path.display()))
        }
        _ => broken(&path.to_string_lossy(), &error),
    })
}

fn connect(address: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(ErrorKind::AddrNotAvailable);
    for place in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, CONNECT_MAX) {
            Ok(stream) => {
                stream.set_nonblocking(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn never_wait(pipe: &ChildStdin) -> std::io::Result<()> {
    use nix::fcntl::{FcntlArg, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL)?);
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(sink: &str, state_dir: Option<&Path>) -> Paper {
        Paper::new(Sink::parse(sink, state_dir).unwrap())
    }

    #[test]
    fn jobs_follow_each_other_in_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut paper = on("lp0.out", Some(dir.path()));
        assert!(matches!(paper.put(b"x"), Err(Refused::Broken(_))));
        for text in ["one\n", "two\n"] {
            paper.begin("1 x").unwrap();
            assert_eq!(paper.put(text.as_bytes()).unwrap(), 4);
            paper.end(true).unwrap();
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("lp0.out")).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_pipe_without_a_reader_is_told_and_a_full_one_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for sink in ["pipe", "%n"] {
            let mut paper = on(sink, Some(dir.path()));
            let words = match paper.begin("1 pipe") {
                Err(Refused::Broken(words)) => words,
                other => panic!("{other:?}"),
            };
            assert!(words.ends_with("/pipe: nobody reads it"), "{words}");
            let mut how = File::options();
            let mut reader =
                how.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&pipe).unwrap();
            paper.begin("2 pipe").unwrap();
            assert_eq!(paper.put(b"hi").unwrap(), 2);
            let mut got = [0; 2];
            reader.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"hi");
            let piece = vec![0; 64 << 10];
            let full = (0..100).find_map(|_| paper.put(&piece).err());
            assert!(matches!(full, Some(Refused::NotYet)), "{full:?}");
            paper.end(true).unwrap();
        }
    }

    #[test]
    fn a_job_that_nothing_took_does_not_end_well() {
        let dir = tempfile::tempdir().unwrap();
        let mut paper = on("lp0.out", Some(dir.path()));
        assert!(matches!(paper.end(true), Err(Refused::Broken(_))));
        paper.end(false).unwrap();
        paper.begin("1 x").unwrap();
        paper.end(true).unwrap();
        assert!(matches!(paper.end(true), Err(Refused::Broken(_))));
    }

    #[test]
    fn an_order_that_was_overtaken_is_not_due() {
        let mut paper = on("|exit 3", None);
        let due = [1, 3, 2, 3, 4].map(|order| paper.is_due(order));
        assert_eq!(due, [true, true, false, true, true]);
    }

    #[test]
    fn the_command_of_a_job_that_was_given_up_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("copy");
        let mut paper = on(&format!("|cat >>'{}'; sleep 0.1; echo . >>'{0}'", out.display()), None);
        paper.begin("1 x").unwrap();
        paper.begin("2 y").unwrap();
        paper.put(b"y").unwrap();
        paper.end(true).unwrap();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "y.\n");
    }

    #[test]
    fn each_job_has_its_file_and_no_name_leaves_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut paper = on("out/%j-%n", Some(dir.path()));
        paper.begin("17 ../etc/x").unwrap();
        paper.put(b"hi").unwrap();
        paper.end(true).unwrap();
        let text = std::fs::read_to_string(dir.path().join("out/17-.._etc_x")).unwrap();
        assert_eq!(text, "hi");
    }

    #[test]
    fn a_command_gets_the_job_and_its_failure_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("copy");
        let mut paper = on(&format!("|cat >'{}'", out.display()), None);
        paper.begin("1 x").unwrap();
        paper.put(b"hello").unwrap();
        paper.end(true).unwrap();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "hello");
        let mut paper = on("|exit 3", None);
        paper.begin("1 x").unwrap();
        let Err(Refused::Broken(words)) = paper.end(true) else { panic!("no failure") };
        assert!(words.contains('3'), "{words}");
    }

    #[test]
    fn a_command_that_does_not_end_is_ended_with_all_it_has_started() {
        let mut paper = on("|cat >/dev/null; sleep 1000 | sleep 1000", None);
        paper.begin("1 x").unwrap();
        let running = paper.running();
        running.end(When::Waited);
        paper.put(b"it goes on until it is waited for").unwrap();
        let waiter = std::thread::spawn(move || paper.end(true));
        while !waiter.is_finished() {
            running.end(When::Waited);
            std::thread::yield_now();
        }
        assert!(matches!(waiter.join().unwrap(), Err(Refused::Broken(_))));
        running.end(When::Always); // nobody's process by now
    }

    #[test]
    fn output_that_was_removed_is_not_printed() {
        let dir = tempfile::tempdir().unwrap();
        let mut paper = on("o/%j", Some(dir.path()));
        paper.begin("1 x").unwrap();
        paper.put(b"x").unwrap();
        std::fs::remove_dir_all(dir.path().join("o")).unwrap();
        assert!(matches!(paper.end(true), Err(Refused::Broken(_))));
        paper.begin("1 x").unwrap();
        paper.put(b"x").unwrap();
        paper.end(true).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("o/1")).unwrap(), "x");
    }

    #[test]
    fn another_printer_gets_the_job_over_tcp() {
        // An address of its own: its port is nobody's when it is closed.
        let listener = std::net::TcpListener::bind("127.66.1.3:0").unwrap();
        let mut paper = on(&format!("tcp://{}", listener.local_addr().unwrap()), None);
        paper.begin("1 x").unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        paper.put(b"page").unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        paper.end(true).unwrap();
        assert_eq!(reader.join().unwrap(), "page");
        // One that hangs up on unread bytes has not taken them.
        paper.begin("1 x").unwrap();
        let (stream, _) = listener.accept().unwrap();
        paper.put(b"page").unwrap();
        let mut one = [0];
        (&stream).read_exact(&mut one).unwrap();
        drop(stream);
        assert!(matches!(paper.end(true), Err(Refused::Broken(_))));
        drop(listener);
        assert!(matches!(paper.begin("2 y"), Err(Refused::Broken(_))));
    }
}
