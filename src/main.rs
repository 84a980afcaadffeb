//! The daemon and its commands: parse, log, dispatch. What is decided is decided elsewhere.

use spindle::cli::{self, Cli, Command};
use spindle::client::{self, Style};
use spindle::{config, doctor};
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    // Start, stop and warnings; RUST_LOG=queue=debug shows one room's requests.
    let filter = env_logger::Env::default().default_filter_or("warn,daemon=info");
    env_logger::Builder::from_env(filter).init();
    match run(cli) {
        Ok(status) => status,
        Err(words) => {
            words.lines().for_each(|line| eprintln!("spindle: {line}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, String> {
    let at = cli.at.as_deref();
    let Some(command) = cli.command.filter(|_| !cli.print_machine) else {
        return print(config::print_machine(&[]));
    };
    match command {
        Command::Mount(args) if args.print_machine => print(config::print_machine(&[])),
        Command::Mount(_) | Command::Umount(_) | Command::List { .. } => {
            Err("mount: this build has no daemon".into())
        }
        Command::Status { json: true } => print(client::status(&client::find(at)?, Style::Json)?),
        Command::Status { json: false } => {
            let is_terminal = std::io::stdout().is_terminal();
            let style = if is_terminal { Style::Coloured } else { Style::Plain };
            print(client::status(&client::find(at)?, style)?)
        }
        Command::Resolve { path } => print(client::resolve(&client::find(at)?, &path)?),
        Command::Ctl { command } => print(client::ctl(&client::find(at)?, &command.join(" "))?),
        Command::Doctor { json } => {
            let findings = doctor::examine(&doctor::Host::this());
            print(if json { doctor::show_json(&findings) } else { doctor::show(&findings) })?;
            let can_mount = doctor::can_mount(&findings);
            Ok(if can_mount { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Completions { shell } => print(cli::completions(shell)),
        Command::Man => print(cli::manual()),
    }
}

/// Prints; that the reader has gone away (`| head`) is no failure.
fn print(text: impl AsRef<[u8]>) -> Result<ExitCode, String> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("standard output: {}", spindle::words::of_host(&error)))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
