//! The daemon and its commands: parse, log, dispatch. What is decided is decided elsewhere.

use spindle::error::{Errno, Error};
use spindle::{cli, commands};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    // Start, stop and warnings; RUST_LOG=queue=debug shows one room's requests.
    let filter = env_logger::Env::default().default_filter_or("warn,boot=info,life=info");
    env_logger::Builder::from_env(filter).init();
    let boot: commands::Boot = |_, _| Err(Error::new(Errno::ENODEV, "no machine to boot"));
    match commands::run(&cli, &[], boot) {
        Ok(status) => status,
        Err(words) => {
            commands::tell(&words);
            ExitCode::FAILURE
        }
    }
}
