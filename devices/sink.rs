//! What a printer is described to print on, and whether that can be had at all.
//!
//! A description that could only fail later is refused before anything is mounted.

use nix::unistd::{AccessFlags, access};
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a printer prints on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// One file for all jobs.
    File(PathBuf),
    /// A file a job: the directory, and its name with `%j` and `%n`.
    Files(PathBuf, String),
    /// A command of the shell, once a job.
    Command(String),
    /// Another printer: host and port.
    Tcp(String),
}

impl Sink {
    /// What is written as a sink; relative names are in `state_dir`.
    ///
    /// # Errors
    /// What is wrong with it and what would be right. Nothing of the host is looked at.
    pub fn parse(text: &str, state_dir: Option<&Path>) -> Result<Sink, String> {
        let inside = |path: &str| state_dir.map_or_else(|| path.into(), |dir| dir.join(path));
        if let Some(command) = text.strip_prefix('|') {
            return match command.trim() {
                "" => Err("no command behind the |; \"|cat >/tmp/out\" has one".into()),
                _ => Ok(Sink::Command(command.into())),
            };
        }
        if let Some(address) = text.strip_prefix("tcp://") {
            return match address.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && is_port(port) => {
                    Ok(Sink::Tcp(address.into()))
                }
                Some((host, port)) if !host.is_empty() && !port.ends_with(']') => {
                    Err(format!("{port:?} is no port; tcp://{host}:9100 has one"))
                }
                Some(("", _)) => Err("no host; tcp://HOST:9100 is right".into()),
                _ => Err(format!("no port; tcp://{address}:9100 has one")),
            };
        }
        let (dir, name) = text.rsplit_once('/').map_or((".", text), |(dir, name)| match dir {
            "" => ("/", name),
            _ => (dir, name),
        });
        if name.is_empty() {
            return Err(format!("{text} names a directory; {text}out is a file in it"));
        }
        if !text.contains('%') {
            return Ok(Sink::File(inside(text)));
        }
        if dir.contains('%') {
            return Err("%j and %n stand in the file's name, not in that of its directory".into());
        }
        match strange(name) {
            Some(word) => Err(format!("{word} stands for nothing; {LETTERS}")),
            None => Ok(Sink::Files(inside(dir), name.into())),
        }
    }

    /// Whether it can be had now; one whose name is relative is passed over without `state_dir`,
    /// for then nobody knows where it is. Commands and other printers may come later.
    ///
    /// # Errors
    /// What is in the way, and the way out.
    pub fn check(&self, state_dir: Option<&Path>) -> Result<(), String> {
        let is_known = |path: &Path| path.is_absolute() || state_dir.is_some();
        match self {
            Sink::File(path) if is_known(path) => {
                if path.is_dir() {
                    let shown = path.display();
                    return Err(format!("{shown} is a directory; {shown}/out is a file in it"));
                }
                if path.exists() {
                    return writable(path);
                }
                let dir = path.parent().unwrap_or(path);
                if !dir.is_dir() {
                    let shown = dir.display();
                    return Err(format!("there is no directory {shown}; mkdir {shown} makes it"));
                }
                writable(dir)
            }
            // Its directory is made when it is missing.
            Sink::Files(dir, _) if is_known(dir) => {
                let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
                if !there.is_dir() {
                    return Err(format!("{} is no directory; name another", there.display()));
                }
                writable(there).map_err(|why| match there == dir {
                    true => why,
                    false => format!("{} cannot be made: {why}", dir.display()),
                })
            }
            _ => Ok(()),
        }
    }

    /// What of it is not there now but may come, in words: a command, another printer's host. May
    /// wait for the host's names.
    #[must_use]
    pub fn absence(&self) -> Option<String> {
        match self {
            Sink::File(_) | Sink::Files(..) => None,
            Sink::Command(command) => {
                let word = command.split_whitespace().next()?;
                // What the shell takes apart is not looked at.
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
                if !word.chars().all(is_plain) {
                    return None;
                }
                let shell = Command::new("/bin/sh")
                    .args(["-c", "command -v -- \"$0\"", word])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
                match shell {
                    Ok(status) if status.success() => None,
                    Ok(_) => Some(format!("its command {word} is not to be found")),
                    Err(why) => Some(format!("its command {word} cannot be run: {why}")),
                }
            }
            Sink::Tcp(address) => {
                let (host, _) = address.rsplit_once(':')?;
                let why = address.to_socket_addrs().err()?;
                Some(format!("its host {host} is not known: {why}"))
            }
        }
    }
}

const LETTERS: &str = "%j is the job's number, %n its name";

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port != 0) && !text.starts_with('+')
}

/// The first `%x` of a pattern that is neither `%j` nor `%n`.
fn strange(pattern: &str) -> Option<String> {
    let mut rest = pattern;
    while let Some((_, behind)) = rest.split_once('%') {
        let letter = behind.chars().next();
        if !matches!(letter, Some('j' | 'n')) {
            return Some(format!("%{}", letter.map_or(String::new(), String::from)));
        }
        rest = &behind[1..];
    }
    None
}

fn writable(path: &Path) -> Result<(), String> {
    access(path, AccessFlags::W_OK)
        .map_err(|why| format!("{}: {}; name another", path.display(), why.desc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Sink, String> {
        Sink::parse(text, Some(Path::new("/s")))
    }

    #[test]
    fn what_is_written_is_a_file_a_file_a_job_a_command_or_another_printer() {
        let table = [
            ("lp0.out", Sink::File("/s/lp0.out".into())),
            ("/dev/null", Sink::File("/dev/null".into())),
            ("%j", Sink::Files("/s/.".into(), "%j".into())),
            ("o/%j-%n.txt", Sink::Files("/s/o".into(), "%j-%n.txt".into())),
            ("/%j", Sink::Files("/".into(), "%j".into())),
            ("| lpr -P x", Sink::Command(" lpr -P x".into())),
            ("tcp://[::1]:9100", Sink::Tcp("[::1]:9100".into())),
            ("tcp://printer:9100", Sink::Tcp("printer:9100".into())),
        ];
        for (text, sink) in table {
            assert_eq!(parsed(text), Ok(sink), "{text}");
        }
    }

    #[test]
    fn what_could_only_fail_later_is_refused_with_the_way_out() {
        let table = [
            ("|", "no command behind the |; \"|cat >/tmp/out\" has one"),
            ("| \t", "no command behind the |; \"|cat >/tmp/out\" has one"),
            ("tcp://x", "no port; tcp://x:9100 has one"),
            ("tcp://[::1]", "no port; tcp://[::1]:9100 has one"),
            ("tcp://:9100", "no host; tcp://HOST:9100 is right"),
            ("tcp://x:", "\"\" is no port; tcp://x:9100 has one"),
            ("tcp://x:ipp", "\"ipp\" is no port; tcp://x:9100 has one"),
            ("tcp://x:0", "\"0\" is no port; tcp://x:9100 has one"),
            ("tcp://x:65536", "\"65536\" is no port; tcp://x:9100 has one"),
            ("o/%z", "%z stands for nothing; %j is the job's number, %n its name"),
            ("%j%", "% stands for nothing; %j is the job's number, %n its name"),
            ("%\u{e9}", "%\u{e9} stands for nothing; %j is the job's number, %n its name"),
            ("%j/out", "%j and %n stand in the file's name, not in that of its directory"),
            ("out/", "out/ names a directory; out/out is a file in it"),
        ];
        for (text, words) in table {
            assert_eq!(parsed(text), Err(words.into()), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_yet_is_told() {
        let told = |text: &str| Sink::parse(text, None).unwrap().absence();
        for good in ["|cat >/dev/null", "|/bin/sh -c x", "|exec cat", "|$X cat", "|a=b cat", "out"]
        {
            assert_eq!(told(good), None, "{good}");
        }
        assert_eq!(told("tcp://127.0.0.1:9"), None);
        let words = "its command no-such-command is not to be found";
        assert_eq!(told("|no-such-command -x").unwrap(), words);
        assert!(told("|/nowhere/x").unwrap().contains("/nowhere/x is not to be found"));
        let words = told("tcp://no host.invalid:9100").unwrap();
        assert!(words.starts_with("its host no host.invalid is not known: "), "{words}");
    }

    #[test]
    fn places_that_the_host_cannot_give_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let shown = dir.path().display();
        let check = |text: &str| {
            let sink = Sink::parse(text, Some(dir.path())).unwrap();
            sink.check(Some(dir.path()))
        };
        for good in ["out", "file", "%j", "new/%j", "a/b/%j", "/dev/null", "|x", "tcp://x:1"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let table = [
            (
                "gone/out",
                format!("there is no directory {shown}/gone; mkdir {shown}/gone makes it"),
            ),
            (".", format!("{shown}/. is a directory; {shown}/./out is a file in it")),
            ("file/%j", format!("{shown}/file is no directory; name another")),
            ("file/a/%j", format!("{shown}/file is no directory; name another")),
        ];
        for (text, words) in table {
            assert_eq!(check(text), Err(words), "{text}");
        }
        // Without a state directory nobody knows where it is.
        assert_eq!(Sink::parse("gone/out", None).unwrap().check(None), Ok(()));
        assert!(Sink::parse("/gone/out", None).unwrap().check(None).is_err());
    }
}
