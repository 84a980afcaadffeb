//! The daemon and its commands: parse, log, dispatch. What is decided is decided elsewhere.

mod allocator;

use spindle::{boot, cli, commands};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    // Start, stop and warnings; RUST_LOG=queue=debug shows one room's requests.
    let filter = env_logger::Env::default().default_filter_or("warn,boot=info,life=info");
    env_logger::Builder::from_env(filter).init();
    match commands::run(&cli, &devices::conf::drivers(), boot::booted) {
        Ok(status) => status,
        Err(words) => {
            commands::tell(&words);
            ExitCode::FAILURE
        }
    }
}
