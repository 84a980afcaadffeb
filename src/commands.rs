//! What each command does: from the command line as typed to what is printed, and the exit status.

use crate::cli::{self, Cli, Command, MountArgs, UmountArgs};
use crate::client::{self, Style};
use crate::config::{self, Config};
use crate::daemon::{self, Booted, MountPlan, Mounted, Place};
use crate::devctl;
use crate::doctor;
use crate::error::Error;
use crate::fuse::os::hear_of_children;
use crate::fuse::session::Users;
use crate::lpr::{self, Office, Said};
use crate::words;
use devices::Driver;
use serde_json::json;
use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Boots a machine as described, with its state in a directory.
pub type Boot = fn(&Config, &Path) -> Result<Booted, Error>;

/// Obeys a command line, with the drivers that there are.
///
/// # Errors
/// What is to be told on standard error, a line for each mistake: `what: why`.
pub fn run(cli: &Cli, drivers: &[&'static dyn Driver], boot: Boot) -> Result<ExitCode, String> {
    hear_of_children();
    let meant = RefCell::new(None);
    let at = || {
        let point = daemon::find(cli.at.as_deref()).map_err(|error| error.to_string())?;
        meant.replace(Some(point.clone()));
        Ok(point)
    };
    let obeyed = obey(cli, drivers, boot, &at);
    // One whose daemon dies under it hears from the host of endpoints and connections.
    let death = || meant.borrow().as_deref().and_then(daemon::death);
    obeyed.map_err(|words| death().unwrap_or(words))
}

fn obey(
    cli: &Cli,
    drivers: &[&'static dyn Driver],
    boot: Boot,
    at: &dyn Fn() -> Result<PathBuf, String>,
) -> Result<ExitCode, String> {
    let Some(command) = cli.command.as_ref().filter(|_| !cli.print_machine) else {
        return print(config::print_machine(drivers));
    };
    match command {
        Command::Mount(args) if args.print_machine => print(config::print_machine(drivers)),
        Command::Mount(args) => mount(args, drivers, boot),
        Command::Umount(args) => umount(args),
        Command::List { json } => {
            let machines = daemon::list().map_err(|error| error.to_string())?;
            print(if *json { list_json(&machines) } else { list(&machines) })
        }
        Command::Status { json } => {
            let style = match (*json, std::io::stdout().is_terminal()) {
                (true, _) => Style::Json,
                (false, true) => Style::Coloured,
                (false, false) => Style::Plain,
            };
            print(client::status(&at()?, style)?)
        }
        Command::Resolve { path } => {
            let stages = client::resolve(&at()?, path)?;
            print(&stages)?;
            match client::is_missing(&stages) {
                true => Err(format!("resolve: {}: No such file or directory", path.display())),
                false => Ok(ExitCode::SUCCESS),
            }
        }
        Command::Ctl { command } => print(client::ctl(&at()?, &command.join(" "))?),
        Command::Devctl(args) => match devctl::run(&at()?, args, &mut std::io::stdout()) {
            Ok(status) => Ok(ExitCode::from(status)),
            Err(devctl::Refusal::Failed(words)) => Err(words),
            Err(devctl::Refusal::Usage(words)) => {
                tell(&words);
                Ok(ExitCode::from(2))
            }
        },
        Command::Lpr(_)
        | Command::Lpq(_)
        | Command::Lprm(_)
        | Command::Lpc(_)
        | Command::Lp(_)
        | Command::Lpstat(_)
        | Command::Cancel(_)
        | Command::Lpmove(_) => printing(command, &Office::at(&at()?)),
        Command::Doctor { json } => {
            let findings = doctor::examine(&doctor::Host::this());
            print(if *json { doctor::show_json(&findings) } else { doctor::show(&findings) })?;
            let can_mount = doctor::can_mount(&findings);
            Ok(if can_mount { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Completions { shell } => print(cli::completions(*shell)),
        Command::Man => print(cli::manual()),
    }
}

/// The spooler's commands. Called by its own name, one speaks as itself.
fn printing(command: &Command, office: &Office) -> Result<ExitCode, String> {
    let (name, said) = match command {
        Command::Lpr(args) => ("lpr", lpr::lpr(office, args)),
        Command::Lpq(args) => ("lpq", lpr::lpq(office, args)),
        Command::Lprm(args) => ("lprm", lpr::lprm(office, args)),
        Command::Lpc(args) => ("lpc", lpr::lpc(office, args)),
        Command::Lp(args) => ("lp", lpr::lp(office, args)),
        Command::Lpstat(args) => ("lpstat", lpr::lpstat(office, args)),
        Command::Cancel(args) => ("cancel", lpr::cancel(office, args)),
        Command::Lpmove(args) => ("lpmove", lpr::lpmove(office, args)),
        _ => return Err("no command of the spooler".into()),
    };
    let Said { out, wrong, notes } =
        said.unwrap_or_else(|words| Said { wrong: vec![words], ..Said::default() });
    print(out)?;
    let status = if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let is_called = std::env::args_os().next().is_some_and(|word| cli::called(&word).is_some());
    let lines = notes.iter().chain(&wrong).flat_map(|words| words.lines()).map(|line| match line {
        line if line.starts_with('?') => line.to_owned(),
        line => format!("{name}: {line}"),
    });
    let lines: Vec<String> = lines.collect();
    if is_called {
        complain(lines.iter().map(|line| format!("{line}\n")).collect());
    } else {
        tell(&lines.join("\n"));
    }
    Ok(status)
}

/// Prints; that the reader has gone away (`| head`) is no failure.
fn print(text: impl AsRef<[u8]>) -> Result<ExitCode, String> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("standard output: {}", words::of_host(&error)))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Tells on standard error, each line as `spindle: what: why`. Who has closed it is not told.
pub fn tell(words: &str) {
    complain(words.lines().map(|line| format!("spindle: {line}\n")).collect());
}

/// In one piece: what others tell of at the same time must not come in between.
fn complain(lines: String) {
    drop(std::io::stderr().write_all(lines.as_bytes()));
}

/// The daemon is this program started again with the same words: this runs in both, and the
/// mistakes of the description are told by the first.
fn mount(
    args: &MountArgs,
    drivers: &[&'static dyn Driver],
    boot: Boot,
) -> Result<ExitCode, String> {
    let config = config::load(&args.sources(), drivers).map_err(|wrong| wrong.to_string())?;
    let state = match &args.state {
        Some(state) => state.clone(),
        None => default_state(|name| std::env::var_os(name))?,
    };
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let plan = MountPlan {
        mountpoint: args.mountpoint.clone().ok_or("mount: no mount point")?,
        state,
        place: if args.foreground { Place::Foreground } else { Place::Background },
        users: if is_root || config.tree.allow_other { Users::All } else { Users::Owner },
    };
    let boot = Box::new(move |state: &Path| boot(&config, state));
    daemon::mount(&plan, boot).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// `${XDG_STATE_HOME:-~/.local/state}/spindle/default`.
fn default_state(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, String> {
    // A relative XDG_STATE_HOME is to be ignored, says the XDG Base Directory Specification.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".local/state"));
    let base = absolute("XDG_STATE_HOME").or_else(home);
    let base = base.ok_or("state directory: HOME is not set; --state DIR names one")?;
    Ok(base.join("spindle/default"))
}

fn umount(args: &UmountArgs) -> Result<ExitCode, String> {
    let points = match &args.mountpoint {
        Some(point) => vec![point.clone()],
        None => {
            let machines = daemon::list().map_err(|error| error.to_string())?;
            machines.into_iter().map(|machine| machine.mountpoint).collect()
        }
    };
    let mut wrong = Vec::new();
    for point in points {
        match daemon::umount(&point) {
            Ok(report) => {
                if report.was_dead {
                    tell(&format!(
                        "{}: its daemon had died; what was only delayed is lost",
                        point.display()
                    ));
                }
                for line in report.still_open {
                    tell(&format!("{}: was still open: {line}", point.display()));
                }
                wrong.extend(report.errors);
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(wrong.join("\n")) }
}

/// A line a machine, aligned under a heading.
fn list(machines: &[Mounted]) -> String {
    let mut rows = vec![["MOUNTED ON", "STATE", "PID", "SINCE"].map(String::from)];
    for machine in machines {
        let point = machine.mountpoint.display().to_string();
        rows.push(match &machine.daemon {
            Some(daemon) => {
                let state = daemon.state.display().to_string();
                [point, state, daemon.pid.to_string(), words::utc(daemon.since)]
            }
            None => [point, "-".into(), "dead".into(), "-".into()],
        });
    }
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let [point, state, pid] = [width(0), width(1), width(2)];
    let line = |[a, b, c, d]: &[String; 4]| format!("{a:point$}  {b:state$}  {c:pid$}  {d}\n");
    rows.iter().map(line).collect()
}

fn list_json(machines: &[Mounted]) -> String {
    let object = |machine: &Mounted| {
        let daemon = machine.daemon.as_ref();
        json!({
            "mountpoint": machine.mountpoint.display().to_string(),
            "state": daemon.map(|daemon| daemon.state.display().to_string()),
            "pid": daemon.map(|daemon| daemon.pid),
            "since": daemon.map(|daemon| words::utc(daemon.since)),
        })
    };
    let all: serde_json::Value = machines.iter().map(object).collect();
    format!("{all:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Daemon;
    use std::time::{Duration, SystemTime};

    fn machines() -> Vec<Mounted> {
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_248_000);
        let daemon = Daemon { pid: 7, state: "/s".into(), since };
        vec![
            Mounted { mountpoint: "/home/x/io".into(), daemon: Some(daemon) },
            Mounted { mountpoint: "/m".into(), daemon: None },
        ]
    }

    #[test]
    fn machines_are_listed_for_people_and_for_programs() {
        let lines = "\
MOUNTED ON  STATE  PID   SINCE
/home/x/io  /s     7     2026-11-21T08:00:00Z
/m          -      dead  -
";
        assert_eq!(list(&machines()), lines);
        let all: serde_json::Value = serde_json::from_str(&list_json(&machines())).unwrap();
        assert_eq!((&all[0]["pid"], &all[0]["state"]), (&json!(7), &json!("/s")));
        assert_eq!((&all[1]["mountpoint"], &all[1]["pid"]), (&json!("/m"), &json!(null)));
    }

    #[test]
    fn the_state_directory_is_where_xdg_says() {
        let place = |xdg: &str, home: &str| {
            let (xdg, home) = (xdg.to_owned(), home.to_owned());
            default_state(move |name| match name {
                "XDG_STATE_HOME" => Some(xdg.clone().into()),
                _ => Some(home.clone().into()),
            })
        };
        assert_eq!(place("/x", "/h").unwrap(), Path::new("/x/spindle/default"));
        for ignored in ["", "relative"] {
            let state = place(ignored, "/h").unwrap();
            assert_eq!(state, Path::new("/h/.local/state/spindle/default"));
        }
        assert!(place("", "").is_err());
    }
}
