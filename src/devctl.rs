//! `spindle devctl`: a node's own commands, as real system calls on its file.
//!
//! 1. It knows no device: what a driver takes is read from `proc/ioctls`, what a unit does from the
//!    other reports, and reservations go through `ctl`.
//! 2. A command is given by name or by number. Its arguments are numbers, in the order of its
//!    structure; of one without a known structure the bytes, in hexadecimal.

mod call;
mod line;
mod shape;

use crate::client::{self, Style};
use crate::words;
use call::{Argument, Memory};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde_json::json;
use shape::{Shape, Value, Way};
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `spindle devctl`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  spindle devctl sd0 ioctl BLKGETSIZE64\n  spindle devctl ttyS0 poll 5"
)]
pub struct DevctlArgs {
    /// A node: sd0, /dev/sd0, or a path under the mount point
    device: PathBuf,

    /// As JSON
    #[arg(long, global = true)]
    json: bool,

    /// What to do [default: list]
    #[command(subcommand)]
    operation: Option<Operation>,
}

/// What to do with a node.
#[derive(Debug, clap::Subcommand)]
enum Operation {
    /// List the commands that its driver takes, and their arguments
    List,
    /// Give one of them, and show what it tells
    Ioctl(IoctlArgs),
    /// Show what the unit is doing
    Status,
    /// Show what its last failures were
    Sense,
    /// Reserve it for this session
    Allocate {
        /// How long to wait for it: 10s, forever [default: not at all]
        timeout: Option<String>,
    },
    /// Give a reserved unit back
    Deallocate,
    /// Show whether it can be read and written
    Poll {
        /// Wait so many seconds until it can be read
        #[arg(default_value = "0")]
        seconds: f64,
    },
    /// Show or set a serial line: RATE[,BITS[,none|even|odd[,STOPS]]]
    Serial {
        /// As in 9600,7,even
        settings: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  spindle devctl nst0 ioctl MTIOCTOP 6 1")]
struct IoctlArgs {
    /// Its name or number: BLKGETSIZE64, 0x80081272
    command: String,

    /// Its arguments: 12, 0x5401, -1
    #[arg(allow_negative_numbers = true)]
    arguments: Vec<String>,

    /// The bytes that it is given, in hexadecimal, in place of arguments
    #[arg(long = "in", value_name = "HEX", conflicts_with = "arguments")]
    input: Option<String>,

    /// Show so many bytes of what it tells, in hexadecimal
    #[arg(long = "out", value_name = "BYTES")]
    output: Option<u16>,
}

/// A node of the machine at `point`.
struct Node<'a> {
    point: &'a Path,
    name: String,
    driver: String,
}

/// A line of `proc/ioctls`.
struct Command {
    number: u32,
    name: String,
}

/// Obeys; what is to be printed.
///
/// # Errors
/// In words that name the device and the command; the host's for what the node refuses.
pub fn run(point: &Path, args: &DevctlArgs) -> Result<String, String> {
    let node = Node::find(point, &args.device)?;
    match args.operation.as_ref().unwrap_or(&Operation::List) {
        Operation::List => node.list(args.json),
        Operation::Ioctl(ioctl) => node.ioctl(ioctl, args.json),
        Operation::Status => node.status(args.json),
        Operation::Sense => node.sense(args.json),
        Operation::Allocate { timeout } => {
            let timeout = timeout.as_deref().unwrap_or_default();
            client::ctl(point, format!("allocate {} {timeout}", node.name).trim_end())
        }
        Operation::Deallocate => client::ctl(point, &format!("deallocate {}", node.name)),
        Operation::Poll { seconds } => node.poll(*seconds, args.json),
        Operation::Serial { settings } => {
            let (flags, rate) = line::serial(&node.open()?, settings.as_deref())
                .map_err(|why| node.told(&format!("serial: {why}")))?;
            let text = line::shown(flags, rate);
            let shown = json!({ "device": node.name, "line": text });
            Ok(if args.json { format!("{shown:#}\n") } else { format!("{text}\n") })
        }
    }
}

impl Node<'_> {
    /// By its name, or a path as the user or the machine knows it.
    fn find<'a>(point: &'a Path, device: &Path) -> Result<Node<'a>, String> {
        let is_name = device.components().count() == 1 && !device.is_absolute();
        let path = if is_name { Path::new("/dev").join(device) } else { device.to_owned() };
        let text = client::resolve(point, &path)?;
        let line = |key: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            found.map(ToOwned::to_owned)
        };
        let shown = device.display();
        let none = || format!("devctl: {shown}: no node of a device ({})", text.trim_end());
        let path = line("device").ok_or_else(none)?;
        let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
        let driver = line("driver").ok_or_else(none)?;
        Ok(Node { point, name, driver })
    }

    fn told(&self, why: &str) -> String {
        format!("devctl: {}: {why}", self.name)
    }

    fn report(&self, name: &str) -> Result<String, String> {
        let path = self.point.join("proc").join(name);
        let told = |e: std::io::Error| format!("{}: {}", path.display(), words::of_host(&e));
        std::fs::read_to_string(&path).map_err(told)
    }

    /// The lines of a report whose first word is the node's name.
    fn lines_of(&self, name: &str) -> Result<Vec<String>, String> {
        let text = self.report(name)?;
        let own = text.lines().filter(|line| line.split(' ').next() == Some(&self.name));
        Ok(own.map(ToOwned::to_owned).collect())
    }

    fn commands(&self) -> Result<Vec<Command>, String> {
        let text = self.report("ioctls")?;
        let own = text.lines().filter_map(|line| {
            let (driver, rest) = line.split_once(' ')?;
            let (number, name) = rest.split_once(' ').filter(|_| driver == self.driver)?;
            let number = u32::from_str_radix(number.strip_prefix("0x")?, 16).ok()?;
            Some(Command { number, name: name.to_owned() })
        });
        Ok(own.collect())
    }

    fn list(&self, is_json: bool) -> Result<String, String> {
        let commands = self.commands()?;
        let line = |c: &Command| match shape::of(&c.name) {
            Some(shape) => {
                let way = match shape.way {
                    Way::None => "",
                    Way::Number | Way::In => "takes ",
                    Way::Out => "tells ",
                };
                (way, shape.names())
            }
            None => ("", String::new()),
        };
        if is_json {
            let object = |c: &Command| {
                let (way, names) = line(c);
                json!({ "name": c.name, "number": format!("{:#x}", c.number),
                        way.trim_end(): names.split_whitespace().collect::<Vec<_>>() })
            };
            let all: Vec<_> = commands.iter().map(object).collect();
            let all = json!({ "device": self.name, "driver": self.driver, "commands": all });
            return Ok(format!("{all:#}\n"));
        }
        if commands.is_empty() {
            return Err(self.told(&format!("its driver {} takes no commands", self.driver)));
        }
        let wide = commands.iter().map(|c| c.name.len()).max().unwrap_or(0);
        let lines = commands.iter().map(|c| {
            let (way, names) = line(c);
            let text = format!("{:wide$}  {:#010x}  {way}{names}", c.name, c.number);
            format!("{}\n", text.trim_end())
        });
        Ok(lines.collect())
    }

    /// The command of that name or number.
    fn command(&self, word: &str) -> Result<Command, String> {
        let mut commands = self.commands()?;
        if let Some(number) = shape::number(word) {
            let none = |_| self.told(&format!("{word}: a command's number has 32 bits"));
            let number = u32::try_from(number).map_err(none)?;
            let known = commands.into_iter().find(|c| c.number == number);
            return Ok(known.unwrap_or_else(|| Command { number, name: format!("{number:#x}") }));
        }
        if let Some(at) = commands.iter().position(|c| c.name.eq_ignore_ascii_case(word)) {
            return Ok(commands.swap_remove(at));
        }
        let hint = match words::closest(word, commands.iter().map(|c| c.name.as_str())) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("spindle devctl {} lists them", self.name),
        };
        Err(self.told(&format!("driver {} has no command {word:?} ({hint})", self.driver)))
    }

    fn ioctl(&self, args: &IoctlArgs, is_json: bool) -> Result<String, String> {
        let Command { number, name } = self.command(&args.command)?;
        let told = |why: &str| self.told(&format!("{name}: {why}"));
        let shape = shape::of(&name).filter(|_| args.input.is_none() && args.output.is_none());
        let given = match (&args.input, shape) {
            (Some(digits), _) => shape::unhex(digits)
                .ok_or_else(|| told("--in wants pairs of hexadecimal digits"))?,
            (None, Some(shape)) if shape.way == Way::Out && args.arguments.is_empty() => Vec::new(),
            (None, Some(Shape { way: Way::Out, .. })) => return Err(told("takes no arguments")),
            (None, Some(shape)) => shape.bytes(&args.arguments).map_err(|why| told(&why))?,
            (None, None) if args.arguments.is_empty() => Vec::new(),
            (None, None) => return Err(told("of unknown structure: give its bytes by --in")),
        };
        let mut memory = Memory::new(&given).ok_or_else(|| told("too many bytes"))?;
        let way = shape::of(&name).map(|shape| shape.way);
        let argument = match (way, args.arguments.first()) {
            (Some(Way::Number), Some(word)) => {
                let number = shape::number(word).unwrap_or(0).to_le_bytes();
                Argument::Number(number.first_chunk().map_or(0, |low| u64::from_le_bytes(*low)))
            }
            (Some(Way::Number), None) => return Err(told("its argument is a number, not bytes")),
            _ => Argument::Memory(&mut memory),
        };
        let result = call::ioctl(&self.open()?, number, argument)
            .map_err(|error| told(&words::of_host(&error)))?;
        let values = match (args.output, shape) {
            (Some(len), _) => vec![("bytes", Value::Bytes(memory.first(len.into()).to_vec()))],
            (None, Some(shape)) if shape.way == Way::Out => shape.values(memory.first(shape.len())),
            (None, Some(_)) => Vec::new(),
            (None, None) => {
                let len = if number >> 31 == 1 { call::size(number) } else { 0 };
                vec![("bytes", Value::Bytes(memory.first(len).to_vec()))]
            }
        };
        Ok(if is_json {
            let object = json!({ "device": self.name, "command": name, "result": result,
                "number": format!("{number:#x}"), "values": object_of(&values) });
            format!("{object:#}\n")
        } else {
            plain(&values)
        })
    }

    fn status(&self, is_json: bool) -> Result<String, String> {
        let lines = self.lines_of("status")?;
        if lines.is_empty() {
            let words = "no unit of the status table (a partition, a twin, or always ready)";
            return Err(self.told(words));
        }
        let style = if is_json { Style::Json } else { Style::Plain };
        Ok(client::status_of(&lines.join("\n"), style))
    }

    fn sense(&self, is_json: bool) -> Result<String, String> {
        let lines = self.lines_of("errors")?;
        if is_json {
            return Ok(format!("{:#}\n", json!({ "device": self.name, "errors": lines })));
        }
        Ok(lines.iter().map(|line| format!("{line}\n")).collect())
    }

    /// Its file: for both ways, else as it may be; no medium or carrier is waited for.
    fn open(&self) -> Result<File, String> {
        let path = self.point.join("dev").join(&self.name);
        let open = |reads: bool, writes: bool| {
            let mut options = OpenOptions::new();
            options.read(reads).write(writes);
            options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&path)
        };
        let opened = open(true, true).or_else(|_| open(true, false)).or_else(|first| {
            // What can only be written refuses to be read; any other refusal stands.
            if first.kind() == std::io::ErrorKind::PermissionDenied {
                open(false, true)
            } else {
                Err(first)
            }
        });
        opened.map_err(|error| self.told(&words::of_host(&error)))
    }

    fn poll(&self, seconds: f64, is_json: bool) -> Result<String, String> {
        let limit = Duration::try_from_secs_f64(seconds).ok();
        let timeout = limit.and_then(|limit| PollTimeout::try_from(limit).ok());
        let timeout = timeout.ok_or_else(|| self.told(&format!("poll: {seconds} seconds?")))?;
        let file = self.open()?;
        let look = |asked, timeout| {
            let mut fds = [PollFd::new(file.as_fd(), asked)];
            let told = |e: nix::Error| self.told(&format!("poll: {}", words::of_host(&e.into())));
            nix::poll::poll(&mut fds, timeout).map_err(told)?;
            Ok::<_, String>(fds[0].revents().unwrap_or(PollFlags::empty()))
        };
        look(PollFlags::POLLIN, timeout)?;
        let ready = look(PollFlags::POLLIN | PollFlags::POLLOUT, PollTimeout::ZERO)?;
        let table = [
            ("read", PollFlags::POLLIN),
            ("write", PollFlags::POLLOUT),
            ("hangup", PollFlags::POLLHUP),
            ("error", PollFlags::POLLERR),
        ];
        let is_so = table.map(|(name, flag)| (name, ready.contains(flag)));
        if is_json {
            let all: serde_json::Map<_, _> =
                is_so.iter().map(|(name, is_so)| ((*name).into(), json!(is_so))).collect();
            return Ok(format!("{:#}\n", json!({ "device": self.name, "ready": all })));
        }
        let words = is_so.map(|(name, is_so)| format!("{name}={}", u8::from(is_so)));
        Ok(format!("{}\n", words.join(" ")))
    }
}

fn object_of(values: &[(&str, Value)]) -> serde_json::Value {
    let pair = |(name, value): &(&str, Value)| {
        let value = match value {
            Value::Number(number) => match i64::try_from(*number) {
                Ok(number) => json!(number),
                Err(_) => json!(u64::try_from(*number).unwrap_or(u64::MAX)),
            },
            Value::Bytes(bytes) => json!(shape::hex(bytes)),
        };
        ((*name).to_owned(), value)
    };
    serde_json::Value::Object(values.iter().map(pair).collect())
}

/// A single value alone, several with their names.
fn plain(values: &[(&str, Value)]) -> String {
    match values {
        [] => String::new(),
        [(_, Value::Bytes(bytes))] if bytes.is_empty() => String::new(),
        [(_, value)] => format!("{value}\n"),
        several => {
            let words = several.iter().map(|(name, value)| format!("{name}={value}"));
            format!("{}\n", words.collect::<Vec<_>>().join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_shown_alone_and_several_by_name() {
        assert_eq!(plain(&[]), "");
        assert_eq!(plain(&[("bytes", Value::Number(512))]), "512\n");
        let two = [("a", Value::Number(-1)), ("b", Value::Bytes(vec![1, 255]))];
        assert_eq!(plain(&two), "a=-1 b=01ff\n");
        assert_eq!(object_of(&two), json!({ "a": -1, "b": "01ff" }));
        let large = [("a", Value::Number(u64::MAX.into()))];
        assert_eq!(object_of(&large), json!({ "a": u64::MAX }));
    }

    #[test]
    fn a_machine_that_is_not_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let args = DevctlArgs { device: "sd0".into(), json: false, operation: None };
        assert!(run(dir.path(), &args).unwrap_err().contains("ctl: No such file"));
    }
}
