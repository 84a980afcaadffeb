//! The command line as typed; what it means is decided elsewhere (`config`, `client`, `daemon`).
//!
//! Usage errors exit with 2 and are told as `spindle: what`, with the word that may be meant.

use crate::config::Sources;
use crate::devctl::DevctlArgs;
use crate::lpr::{
    self, CancelArgs, LpArgs, LpcArgs, LpmoveArgs, LpqArgs, LprArgs, LprmArgs, LpstatArgs,
};
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// A UNIX I/O subsystem that you can mount.
///
/// Mounts a UNIX-like tree whose dev/ holds simulated devices with real drivers, a buffer cache and
/// disk queues beneath, to be used with cat, dd, mkfs and every other tool.
#[derive(Debug, Parser)]
#[command(
    name = "spindle",
    version,
    arg_required_else_help = true,
    after_help = "Example:\n  spindle mount ./io && dd if=/etc/motd of=./io/dev/sd0 conv=notrunc"
)]
pub struct Cli {
    /// The machine meant [default: $SPINDLE_AT, else the only one that you mounted]
    #[arg(long, global = true, value_name = "MOUNTPOINT")]
    pub at: Option<PathBuf>,

    /// Print the default machine file, with every key explained
    #[arg(long)]
    pub print_machine: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount a machine; returns when its tree answers
    Mount(MountArgs),
    /// Write what is delayed, and unmount
    #[command(after_help = "Example:\n  spindle umount ./io")]
    Umount(UmountArgs),
    /// List the machines that you mounted
    #[command(after_help = "Example:\n  spindle list --json")]
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the device-status table
    #[command(after_help = "Example:\n  spindle status --at ./io")]
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how a path becomes a device, stage by stage
    #[command(after_help = "Example:\n  spindle resolve /dev/sd0")]
    Resolve {
        /// A path in the tree, with or without the mount point before it
        path: PathBuf,
    },
    /// Give the machine a command (`spindle ctl help` lists them)
    #[command(after_help = "Example:\n  spindle ctl 'set hd0.scheduler clook'")]
    Ctl {
        /// The command; several words are joined by blanks
        #[arg(required = true)]
        command: Vec<String>,
    },
    /// Give a node one of its driver's own commands; list them
    Devctl(DevctlArgs),
    /// Print files
    #[command(disable_help_flag = true)]
    Lpr(LprArgs),
    /// Show a print queue
    Lpq(LpqArgs),
    /// Remove jobs from a print queue
    Lprm(LprmArgs),
    /// Control printers and their queues
    Lpc(LpcArgs),
    /// Print files, or change a job
    Lp(LpArgs),
    /// Show printers, queues and jobs
    Lpstat(LpstatArgs),
    /// Remove jobs
    Cancel(CancelArgs),
    /// Move jobs to another queue
    Lpmove(LpmoveArgs),
    /// Say what this computer lacks for mounting, and how to mend it
    #[command(after_help = "Example:\n  spindle doctor || sudo apt-get install fuse3")]
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print completions for a shell
    #[command(after_help = "Example:\n  spindle completions fish | source")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = "Example:\n  spindle man | man -l -")]
    Man,
}

/// `spindle mount`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  spindle mount ./io --set cache.size=16M --disk sd2=/tmp/disk.img,ro"
)]
pub struct MountArgs {
    /// Where; made if it is missing
    #[arg(required_unless_present = "print_machine")]
    pub mountpoint: Option<PathBuf>,

    /// The machine's description [default: the machine as shipped]
    #[arg(long, value_name = "FILE")]
    pub machine: Option<PathBuf>,

    /// Where images and state are kept [default: ${XDG_STATE_HOME:-~/.local/state}/spindle/default]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,

    /// Add a disk on an existing image, or put the image under the disk of that name
    #[arg(long = "disk", value_name = "NAME=FILE[,ro]")]
    pub disks: Vec<String>,

    /// Set a key of the description: sd0.size=128M, cache.flush_age=5s
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,

    /// The clock: the host's, or one that never makes anybody wait for a device
    #[arg(long, value_name = "CLOCK", value_parser = ["real", "virtual"])]
    pub time: Option<String>,

    /// Stay, and log to standard error
    #[arg(long)]
    pub foreground: bool,

    /// Let other users use the tree (always so for root)
    #[arg(long)]
    pub allow_other: bool,

    /// Print the default machine file, with every key explained, and mount nothing
    #[arg(long)]
    pub print_machine: bool,
}

impl MountArgs {
    /// From where the machine's description comes.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources {
            machine: self.machine.clone(),
            disks: self.disks.clone(),
            sets: self.sets.clone(),
            time: self.time.clone(),
            allow_other: self.allow_other,
        }
    }
}

/// `spindle umount`.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct UmountArgs {
    /// Which machine
    pub mountpoint: Option<PathBuf>,

    /// All that you mounted
    #[arg(long)]
    pub all: bool,
}

/// Reads the command line.
///
/// # Errors
/// What was asked of clap itself (help, version), or what is wrong, is printed; the exit status.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let parsed = Cli::try_parse_from(by_name(words)).and_then(|cli| match cli.command {
        None if !cli.print_machine => {
            let kind = clap::error::ErrorKind::MissingSubcommand;
            Err(Cli::command().error(kind, "what is to be done? `spindle --help` lists it"))
        }
        _ => Ok(cli),
    });
    parsed.map_err(|error| {
        if error.use_stderr() {
            let text = error.render().to_string();
            let _ = write!(std::io::stderr(), "{}", told_by_us(&text));
            return ExitCode::from(2);
        }
        // A reader that has gone away is no mistake of the caller.
        let _ = error.print();
        ExitCode::SUCCESS
    })
}

/// `lpq -a` is `spindle lpq -a` when the binary is called by that name.
fn by_name(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    if let Some(name) = words.first().and_then(|word| called(word)) {
        words[0] = "spindle".into();
        words.insert(1, name.into());
    }
    words
}

/// The command that the binary is called by, where it is one of the spooler's.
#[must_use]
pub fn called(word: &std::ffi::OsStr) -> Option<&'static str> {
    let name = std::path::Path::new(word).file_name()?;
    lpr::NAMES.into_iter().find(|known| name == *known)
}

/// `error: x` of clap is `spindle: x` of ours.
fn told_by_us(text: &str) -> String {
    match text.strip_prefix("error: ") {
        Some(words) => format!("spindle: {words}"),
        None => text.into(),
    }
}

/// The completions for a shell.
#[must_use]
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "spindle", &mut text);
    text
}

/// The manual page: the whole, then a section for each subcommand.
#[must_use]
pub fn manual() -> Vec<u8> {
    let mut page = Vec::new();
    let mut whole = Cli::command();
    whole.build();
    let man = clap_mangen::Man::new(whole.clone());
    let _ = man.render(&mut page); // a Vec takes all
    for command in whole.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = command.get_name().to_uppercase();
        let man = clap_mangen::Man::new(command.clone());
        let mut parts = Vec::new();
        let _ = man.render_synopsis_section(&mut parts);
        let _ = man.render_description_section(&mut parts);
        let _ = man.render_options_section(&mut parts);
        let _ = man.render_extra_section(&mut parts);
        let parts = String::from_utf8_lossy(&parts).replace(".SH ", ".SS ");
        page.extend(format!(".SH \"SPINDLE {name}\"\n{parts}").bytes());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn at_stands_before_or_after_the_subcommand() {
        for line in ["spindle --at /m status", "spindle status --at /m", "spindle ctl --at=/m help"]
        {
            assert_eq!(typed(line).unwrap().at, Some("/m".into()), "{line}");
        }
    }

    #[test]
    fn the_machine_can_be_printed_without_a_mount_point() {
        assert!(typed("spindle --print-machine").unwrap().print_machine);
        let Some(Command::Mount(args)) = typed("spindle mount --print-machine").unwrap().command
        else {
            panic!("no mount")
        };
        assert!(args.print_machine && args.mountpoint.is_none());
        assert!(typed("spindle mount").is_err());
    }

    #[test]
    fn options_of_mount_reach_the_description() {
        let line = "spindle mount m --set a.b=c --set d.e=f --disk sd2=x,ro --time virtual";
        let Some(Command::Mount(args)) = typed(line).unwrap().command else { panic!("no mount") };
        let sources = args.sources();
        assert_eq!(sources.sets, ["a.b=c", "d.e=f"]);
        assert_eq!(
            (sources.disks, sources.time),
            (vec!["sd2=x,ro".into()], Some("virtual".into()))
        );
    }

    #[test]
    fn usage_errors_are_ours_and_hint_at_the_word() {
        let told = |line| told_by_us(&typed(line).unwrap_err().render().to_string());
        let words = told("spindle mont /m");
        assert!(words.starts_with("spindle: ") && words.contains("'mount'"), "{words}");
        for line in ["spindle umount", "spindle umount /m --all", "spindle mount /m --time x"] {
            assert!(told(line).starts_with("spindle: "), "{line}");
        }
    }

    #[test]
    fn every_subcommand_shows_an_example() {
        let mut whole = Cli::command();
        for command in whole.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example:\n  spindle "), "{help}");
        }
        assert!(whole.render_long_help().to_string().contains("Example:"));
    }

    #[test]
    fn the_manual_and_the_completions_name_every_subcommand() {
        let manual = String::from_utf8(manual()).unwrap();
        for command in Cli::command().get_subcommands() {
            let heading = format!(".SH \"SPINDLE {}\"", command.get_name().to_uppercase());
            assert!(manual.contains(&heading), "{heading}");
            for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh] {
                let text = String::from_utf8(completions(shell)).unwrap();
                assert!(text.contains(command.get_name()));
            }
        }
    }
}
