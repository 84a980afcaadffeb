//! `spindle devctl`: a node's own commands, as real system calls on its file.
//!
//! 1. The nodes stand first, then what is to be done with them: `devctl NODE... WHAT`. What is done
//!    with one node refuses several.
//! 2. It knows no device: what a driver takes is read from `proc/ioctls`, what a unit does from the
//!    other reports, and reservations go through `ctl`.
//! 3. A command is given by name or by number. Its arguments are numbers, in the order of its
//!    structure; of one without a known structure the bytes, in hexadecimal.

mod call;
mod hall;
mod ioctl;
mod line;
mod node;
mod pieces;
mod refusal;
mod reserve;
mod scsi;
mod several;
mod shape;
mod words_of_sense;

use crate::client::{self, Style};
use crate::words;
use clap::Args;
use hall::{Hall, Patience, Wait};
use node::{For, Node};
pub use refusal::Refusal;
use reserve::Share;
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `spindle devctl`.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_precedence_over_arg = true,
    after_help = "What each does: spindle devctl help WHAT

Example:
  spindle devctl sd0 ioctl BLKGETSIZE64
  spindle devctl ttyS0 ttyS1 select 5
  spindle devctl sd1 open --share none -- e2fsck -fn disk.img"
)]
pub struct DevctlArgs {
    /// A node: sd0, /dev/sd0, or a path under the mount point; several for select and multiread
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<PathBuf>,

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
    /// Show why it failed last, and earlier failures
    #[command(after_help = "Example:\n  spindle devctl sd0 sense")]
    Sense,
    /// Show a page of its error counters; page 0 tells which there are
    #[command(after_help = "Example:\n  spindle devctl sd0 log-page 3")]
    LogPage {
        /// Its number, and that of a subpage: 3, 0,0xff
        #[arg(default_value = "0")]
        page: scsi::Page,
    },
    /// Have a disk obey a SCSI command block, and show the data that come of it
    #[command(after_help = "Example:\n  spindle devctl sd0 cdb 12 0 0 0 24 0")]
    Cdb {
        /// Its 6 to 32 bytes, in hexadecimal
        #[arg(required = true)]
        hex: Vec<String>,

        /// The data that go with it, in hexadecimal; - for those of standard input
        #[arg(long = "in", value_name = "HEX")]
        input: Option<String>,

        /// Most bytes that are to come of it
        #[arg(
            long = "out",
            value_name = "BYTES",
            default_value = "65536",
            conflicts_with = "input"
        )]
        output: u32,
    },
    /// Reserve it for this session
    #[command(after_help = "Example:\n  spindle devctl st0 allocate 10s")]
    Allocate {
        /// How long to wait for it: 10s, forever [default: not at all]
        timeout: Option<Wait>,
    },
    /// Give a reserved unit back
    Deallocate,
    /// Wait until nobody else has it, and reserve it for this session
    #[command(after_help = "Example:\n  spindle devctl st0 wait 30s && tar cf io/dev/st0 .")]
    Wait {
        /// How long: 10s, forever
        #[arg(default_value = "forever")]
        timeout: Wait,
    },
    /// Hold it open while a command runs, or until standard input ends
    #[command(after_help = "Example:\n  spindle devctl sd1 open --share read sleep 60")]
    Open {
        /// What others may do meanwhile
        #[arg(long, value_enum, default_value = "rw")]
        share: Share,

        /// What it is opened for
        #[arg(long = "for", value_enum, value_name = "ACCESS", default_value = "rw")]
        purpose: For,

        /// The command; its exit status is that of devctl
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Show whether it can be read and written
    Poll {
        /// Wait so many seconds until it can be read
        #[arg(default_value = "0")]
        seconds: Wait,
    },
    /// Wait until one of the nodes is ready; a line for each that is, none when time is over
    #[command(after_help = "Example:\n  spindle devctl ttyS0 ttyS1 select 2.5")]
    Select {
        /// How long: 5, 500ms, forever
        #[arg(default_value = "forever")]
        timeout: Wait,

        /// Ready for what
        #[arg(long = "for", value_enum, value_name = "ACCESS", default_value = "read")]
        purpose: For,
    },
    /// Read from whichever node has data first; each line with the node's name before it
    #[command(after_help = "Example:\n  spindle devctl ttyS0 ttyS1 multiread --follow")]
    Multiread {
        /// How long: 5, 500ms, forever
        #[arg(default_value = "forever")]
        timeout: Wait,

        /// Go on as data come, until time is over or all have ended
        #[arg(long, short)]
        follow: bool,
    },
    /// Read once into several pieces; a line for each, with its length
    #[command(after_help = "Example:\n  spindle devctl nst0 readv 4 512")]
    Readv {
        /// Bytes of each piece
        #[arg(required = true)]
        bytes: Vec<usize>,

        /// From this byte on
        #[arg(long)]
        offset: Option<u64>,
    },
    /// Write several pieces at once; tells how many bytes were taken
    #[command(after_help = "Example:\n  spindle devctl nst0 writev 'head ' 'and tail'")]
    Writev {
        /// The pieces
        #[arg(required = true)]
        pieces: Vec<String>,

        /// They are in hexadecimal
        #[arg(long)]
        hex: bool,

        /// From this byte on
        #[arg(long)]
        offset: Option<u64>,
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

/// Obeys, and prints to `out`; the exit status. Waits as long as what is asked for does.
///
/// # Errors
/// In words that name the device and the command; the host's for what the node refuses.
pub fn run(point: &Path, args: &DevctlArgs, out: &mut dyn Write) -> Result<u8, Refusal> {
    let hall = &mut Hall::new(out, args.json);
    let operation = args.operation.as_ref().unwrap_or(&Operation::List);
    if let Some(done) = on_files(point, &args.nodes, operation, hall) {
        return done.map(|()| 0);
    }
    if args.operation.is_none() {
        are_nodes(point, &args.nodes)?;
    }
    let node = Node::find(point, only(&args.nodes)?)?;
    if let Operation::Open { share, purpose, command } = operation {
        return Ok(reserve::open(&node, (*purpose, *share), command, hall)?);
    }
    on_node(&node, operation, hall).map(|()| 0)
}

/// What can be done with every file of the tree; `None`: it is something else.
fn on_files(
    point: &Path,
    paths: &[PathBuf],
    operation: &Operation,
    hall: &mut Hall<'_>,
) -> Option<Result<(), Refusal>> {
    let one = || -> Result<_, Refusal> { Ok(Node::find_file(point, only(paths)?)?) };
    let all =
        || paths.iter().map(|path| Node::find_file(point, path)).collect::<Result<Vec<_>, _>>();
    if let Operation::Writev { pieces, hex, offset } = operation {
        return Some(one().and_then(|node| {
            let given = pieces::given(pieces, *hex).map_err(Refusal::Usage)?;
            Ok(pieces::writev(&node, &given, *offset, hall)?)
        }));
    }
    let done = match operation {
        Operation::Poll { seconds } => {
            return Some(
                one().and_then(|node| Ok(several::poll(&node, Patience::of(*seconds), hall)?)),
            );
        }
        Operation::Select { timeout, purpose } => {
            all().and_then(|nodes| several::select(&nodes, *purpose, Patience::of(*timeout), hall))
        }
        Operation::Multiread { timeout, follow } => {
            all().and_then(|nodes| several::read(&nodes, *follow, Patience::of(*timeout), hall))
        }
        Operation::Readv { bytes, offset } => {
            return Some(one().and_then(|node| Ok(pieces::readv(&node, bytes, *offset, hall)?)));
        }
        _ => return None,
    };
    Some(done.map_err(Refusal::Failed))
}

fn on_node(node: &Node<'_>, operation: &Operation, hall: &mut Hall<'_>) -> Result<(), Refusal> {
    let done = match operation {
        Operation::Ioctl(command) => return ioctl::give(node, command, hall),
        Operation::Cdb { hex, input, output } => {
            return scsi::cdb(node, hex, (input.as_deref(), *output), hall);
        }
        Operation::Serial { settings } => return serial(node, settings.as_deref(), hall),
        Operation::Status => status(node, hall),
        Operation::Sense => scsi::sense(node, hall),
        Operation::LogPage { page } => scsi::log_page(node, *page, hall),
        Operation::Allocate { timeout } => {
            reserve::allocate(node, timeout.unwrap_or(Wait(Some(Duration::ZERO))), hall)
        }
        Operation::Wait { timeout } => reserve::allocate(node, *timeout, hall),
        Operation::Deallocate => reserve::deallocate(node, hall),
        // The rest was done before, for files of every kind.
        _ => ioctl::list(node, hall),
    };
    Ok(done?)
}

/// Refuses a word that is neither a node nor anything to do, with what there is to do.
fn are_nodes(point: &Path, nodes: &[PathBuf]) -> Result<(), Refusal> {
    let Some((first, rest)) = nodes.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return Ok(());
    };
    Node::find_file(point, first)?;
    for word in rest {
        if Node::find_file(point, word).is_ok() {
            continue;
        }
        let command = DevctlArgs::augment_args(clap::Command::new("devctl"));
        let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let word = word.display().to_string();
        let near = words::closest(&word, names.iter().copied());
        let near = near.map_or(String::new(), |near| format!(" (did you mean {near}?)"));
        let there = names.join(", ");
        return Err(Refusal::Usage(format!(
            "devctl: no such thing to do: {word}{near}; there are {there}"
        )));
    }
    Ok(())
}

/// The node, where it is one.
fn only(nodes: &[PathBuf]) -> Result<&Path, Refusal> {
    match nodes {
        [node] => Ok(node),
        [_, second, ..] => {
            let second = second.display();
            let words = "is it to be done with several nodes? only select and multiread take them";
            let words = format!("devctl: {second}: {words} (spindle help devctl)");
            Err(Refusal::Usage(words))
        }
        [] => Err("devctl: no node is named".into()),
    }
}

fn status(node: &Node<'_>, hall: &mut Hall<'_>) -> Result<(), String> {
    let lines = node.lines_of("status")?;
    if lines.is_empty() {
        let words = "no unit of the status table (a partition, a twin, or always ready)";
        return Err(node.told(words));
    }
    let style = if hall.is_json { Style::Json } else { Style::Plain };
    hall.text(&client::status_of(&lines.join("\n"), style))
}

fn serial(node: &Node<'_>, settings: Option<&str>, hall: &mut Hall<'_>) -> Result<(), Refusal> {
    let (flags, rate) = line::serial(&node.open()?.file, settings)
        .map_err(|why| why.map(|why| node.told(&format!("serial: {why}"))))?;
    let text = line::shown(flags, rate);
    if hall.is_json {
        return Ok(hall.object(&json!({ "device": node.name, "line": text }))?);
    }
    Ok(hall.line(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    fn typed(line: &str) -> Result<DevctlArgs, clap::Error> {
        let command = DevctlArgs::augment_args(Command::new("devctl"));
        let found = command.try_get_matches_from(line.split_whitespace())?;
        DevctlArgs::from_arg_matches(&found)
    }

    #[test]
    fn a_machine_that_is_not_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for line in ["devctl sd0", "devctl sd0 sd1 select", "devctl sd0 writev x"] {
            let told = run(dir.path(), &typed(line).unwrap(), &mut Vec::new()).unwrap_err();
            let Refusal::Failed(told) = told else { panic!("{told}") };
            assert!(told.contains("ctl: No such file"), "{told}");
        }
    }

    #[test]
    fn nodes_stand_first_then_what_to_do() {
        let args = typed("devctl ttyS0 /dev/ttyS1 select 2 --json").unwrap();
        assert_eq!(args.nodes, [Path::new("ttyS0"), Path::new("/dev/ttyS1")]);
        assert!(args.json && matches!(args.operation, Some(Operation::Select { .. })));
        let args = typed("devctl sd0 open --share none ls -l --share").unwrap();
        let Some(Operation::Open { command, share, .. }) = args.operation else { panic!("open") };
        assert_eq!((command.len(), share), (3, Share::None));
        assert!(typed("devctl sd0").unwrap().operation.is_none());
        assert!(typed("devctl select").is_err() && typed("devctl").is_err());
    }

    #[test]
    fn what_is_done_with_one_node_refuses_several() {
        let dir = tempfile::tempdir().unwrap();
        for what in ["status", "sense", "poll", "wait", "open", "readv 1", "cdb 0 0 0 0 0 0"] {
            let args = typed(&format!("devctl sd0 sd1 {what}")).unwrap();
            let told = run(dir.path(), &args, &mut Vec::new()).unwrap_err();
            let Refusal::Usage(told) = told else { panic!("{told}") };
            assert!(told.starts_with("devctl: sd1: ") && told.contains("several"), "{told}");
        }
    }

    #[test]
    fn every_word_shows_in_the_help_what_it_is_for() {
        let mut command = DevctlArgs::augment_args(Command::new("devctl"));
        for word in command.get_subcommands_mut() {
            assert!(word.get_about().is_some_and(|about| about.to_string().len() > 9));
        }
        let help = command.render_long_help().to_string();
        assert!(help.contains("select") && help.contains("spindle devctl ttyS0 ttyS1 select 5"));
    }
}
