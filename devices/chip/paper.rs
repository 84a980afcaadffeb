//! What a printer prints on: a file of the host, a file for each job, a command, another printer.
//!
//! Beginning and ending a job may wait; putting bytes never does.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// How long a printer on the network may take to answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);

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

/// Where the output goes.
enum Place {
    File(PathBuf),
    /// A file a job: the directory, and its name with `%j` and `%n`.
    Files(PathBuf, String),
    Command(String),
    Tcp(String),
}

enum Out {
    Nothing,
    File(File),
    Pipe(Child, Option<ChildStdin>),
    Tcp(TcpStream),
}

/// See the head of this file.
pub(super) struct Paper {
    place: Place,
    out: Out,
}

fn broken(what: &str, error: &std::io::Error) -> Refused {
    Refused::Broken(format!("{what}: {error}"))
}

impl Paper {
    /// As described: `FILE`, `DIR/%j-%n`, `|COMMAND`, `tcp://HOST:PORT`.
    pub(super) fn new(sink: &str, state_dir: Option<&Path>) -> Paper {
        let inside = |path: &str| state_dir.map_or_else(|| path.into(), |dir| dir.join(path));
        let place = if let Some(command) = sink.strip_prefix('|') {
            Place::Command(command.into())
        } else if let Some(address) = sink.strip_prefix("tcp://") {
            Place::Tcp(address.into())
        } else if sink.contains('%') {
            let (dir, name) = sink.rsplit_once('/').unwrap_or((".", sink));
            Place::Files(inside(dir), name.into())
        } else {
            Place::File(inside(sink))
        };
        Paper { place, out: Out::Nothing }
    }

    /// Whether a job has begun.
    pub(super) fn is_begun(&self) -> bool {
        !matches!(self.out, Out::Nothing)
    }

    /// A job begins; `job` is its number, a blank, and its name.
    pub(super) fn begin(&mut self, job: &str) -> Result<(), Refused> {
        self.out = Out::Nothing;
        self.out = match &self.place {
            Place::File(path) => Out::File(open(path)?),
            Place::Files(dir, pattern) => {
                let (number, name) = job.split_once(' ').unwrap_or((job, "stdin"));
                let plain = |c: char| if c == '/' || c.is_control() { '_' } else { c };
                let name: String = name.chars().take(100).map(plain).collect();
                let name = pattern.replace("%j", number).replace("%n", &name);
                std::fs::create_dir_all(dir).map_err(|e| broken(&dir.to_string_lossy(), &e))?;
                let path = dir.join(name);
                let file = File::create(&path).map_err(|e| broken(&path.to_string_lossy(), &e))?;
                Out::File(file)
            }
            Place::Command(command) => {
                let child = Command::new("/bin/sh")
                    .args(["-c", command])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn();
                let mut child = child.map_err(|e| broken(command, &e))?;
                let stdin = child.stdin.take();
                if let Some(stdin) = &stdin {
                    never_wait(stdin).map_err(|e| broken(command, &e))?;
                }
                Out::Pipe(child, stdin)
            }
            Place::Tcp(address) => Out::Tcp(connect(address).map_err(|e| broken(address, &e))?),
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
            Out::Nothing => Ok(()),
            Out::File(file) => match file.sync_data() {
                // A pipe or a terminal has nothing to keep.
                Err(error) if error.kind() != ErrorKind::InvalidInput => {
                    Err(broken("its output", &error))
                }
                _ => Ok(()),
            },
            Out::Tcp(stream) => {
                stream.shutdown(Shutdown::Write).map_err(|e| broken("its connection", &e))
            }
            Out::Pipe(mut child, stdin) => {
                drop(stdin);
                if !is_whole {
                    let _ = child.kill(); // it may be gone
                }
                let status = child.wait().map_err(|e| broken("its command", &e))?;
                if status.success() || !is_whole {
                    return Ok(());
                }
                Err(Refused::Broken(format!("its command ended with {status}")))
            }
        }
    }
}

fn open(path: &Path) -> Result<File, Refused> {
    let opened = File::options().append(true).create(true).open(path);
    opened.map_err(|error| match error.kind() {
        ErrorKind::StorageFull => Refused::NoSpace,
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
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL)?);
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_follow_each_other_in_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut paper = Paper::new("lp0.out", Some(dir.path()));
        assert!(matches!(paper.put(b"x"), Err(Refused::Broken(_))));
        for text in ["one\n", "two\n"] {
            paper.begin("1 x").unwrap();
            assert_eq!(paper.put(text.as_bytes()).unwrap(), 4);
            paper.end(true).unwrap();
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("lp0.out")).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn each_job_has_its_file_and_no_name_leaves_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut paper = Paper::new("out/%j-%n", Some(dir.path()));
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
        let mut paper = Paper::new(&format!("|cat >{}", out.display()), None);
        paper.begin("1 x").unwrap();
        paper.put(b"hello").unwrap();
        paper.end(true).unwrap();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "hello");
        let mut paper = Paper::new("|exit 3", None);
        paper.begin("1 x").unwrap();
        let Err(Refused::Broken(words)) = paper.end(true) else { panic!("no failure") };
        assert!(words.contains('3'), "{words}");
    }

    #[test]
    fn another_printer_gets_the_job_over_tcp() {
        use std::io::Read;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut paper = Paper::new(&format!("tcp://{}", listener.local_addr().unwrap()), None);
        paper.begin("1 x").unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        paper.put(b"page").unwrap();
        paper.end(true).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "page");
        drop(listener);
        assert!(matches!(paper.begin("2 y"), Err(Refused::Broken(_))));
    }
}
