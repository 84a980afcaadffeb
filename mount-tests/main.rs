//! Checks on real mounts, with the tools a user would use; each names the row it proves.
//!
//! A check that cannot run here (no `/dev/fuse`, a tool missing, not root) is reported as ignored,
//! with the reason, never as passed. If you add something to Spindle, its check goes in the room
//! whose sentence fits:

#![allow(missing_docs)] // rooms of a test are read here, not in rustdoc
#![allow(clippy::unwrap_used)] // a test may fail at once
#![allow(clippy::disallowed_methods)] // a black-box test waits by the host's clock

/// Blocks: bytes through the cache, whole disks, real file systems and partition tables.
mod block;
/// The buffer cache as seen from outside: what is read once, what is written when.
mod cache;
/// Crashes: the daemon is killed at random moments, and nothing that was promised is lost.
mod crash;
/// `spindle devctl`: a node's own commands by name, and what it says of itself.
mod devctl;
/// The network door of the spool.
mod door;
/// The end of a machine: who writes at that moment, who has something open, who finds it dead.
mod end;
/// Disks that the host serves in part: its page cache, or the image itself.
mod host;
/// A machine of one's own for one check.
mod house;
/// Bad input: refused in words, nothing changed.
mod input;
/// Device commands: what real tools ask of a disk, and what nobody should.
mod ioctl;
/// Mounting, unmounting, dying and coming back.
mod life;
/// Names: the tree, mounts, nodes, numbers.
mod names;
/// What comes after a close(2), with several threads that read requests.
mod order;
/// Printers: what they print on, what can go wrong with them, banners, classes.
mod printers;
/// Queues and errors: requests held, ordered, retried, failed and told.
mod queues;
/// What the reports say.
mod reports;
/// Reservation: a unit for one session, waited for in order, freed when its holder is gone.
mod reserve;
/// SCSI commands: what sg3-utils asks of a disk, and what a program hears that asks for itself.
mod scsi;
/// Serial lines: line discipline, device commands, real tools across the null-modem cable.
mod serial;
/// The print spool: jobs, queues, printers, commands.
mod spool;
/// The print spool when its daemon is killed.
mod spool_kill;
/// The order of print queues across crashes, against a model.
mod spool_order;
/// Tapes: records, files, ends, and the programs that have used them for fifty years.
mod tape;
/// Waiting: blocked calls by the hundred, what ends them, who polls, who would not wait.
mod waiting;

use libtest_mimic::{Arguments, Trial};

/// A check: its name, what it needs, and itself.
pub struct Check {
    name: &'static str,
    needs: &'static [&'static str],
    run: fn(),
}

/// A check that needs these tools; the tool `root` means: to be root, and not of a name space.
pub const fn check(name: &'static str, needs: &'static [&'static str], run: fn()) -> Check {
    Check { name, needs, run }
}

fn trial(room: &str, check: &Check, cannot_mount: Option<&String>) -> Trial {
    let lacks = check.needs.iter().find(|&&need| match need {
        "root" => !house::is_true_root(),
        tool => !house::has(tool),
    });
    let needs = |tool: &&str| match tool.split_once("/target/clients/") {
        Some((_, client)) => format!("needs {client} (scripts/clients fetches it)"),
        None => format!("needs {tool}"),
    };
    let reason = cannot_mount.cloned().or_else(|| lacks.map(needs));
    let name = format!("{room}::{}", check.name);
    let run = check.run;
    if let Some(reason) = &reason {
        eprintln!("skipped {name}: {reason}");
    }
    let body = move || {
        run();
        Ok(())
    };
    Trial::test(name, body).with_ignored_flag(reason.is_some())
}

fn main() {
    house::hear_signals();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2)); // each check is a daemon or two
    let cannot_mount = house::cannot_mount();
    if let Some(reason) = &cannot_mount {
        eprintln!("NOTHING IS MOUNTED HERE: {reason}; every check on a mount is skipped");
    }
    let rooms: &[(&str, &[Check])] = &[
        ("block", block::CHECKS),
        ("cache", cache::CHECKS),
        ("crash", crash::CHECKS),
        ("devctl", devctl::CHECKS),
        ("door", door::CHECKS),
        ("end", end::CHECKS),
        ("host", host::CHECKS),
        ("input", input::CHECKS),
        ("ioctl", ioctl::CHECKS),
        ("life", life::CHECKS),
        ("names", names::CHECKS),
        ("order", order::CHECKS),
        ("printers", printers::CHECKS),
        ("queues", queues::CHECKS),
        ("reports", reports::CHECKS),
        ("reserve", reserve::CHECKS),
        ("scsi", scsi::CHECKS),
        ("serial", serial::CHECKS),
        ("spool", spool::CHECKS),
        ("spool_kill", spool_kill::CHECKS),
        ("spool_order", spool_order::CHECKS),
        ("tape", tape::CHECKS),
        ("waiting", waiting::CHECKS),
    ];
    let trials = rooms
        .iter()
        .flat_map(|(room, checks)| checks.iter().map(move |check| (room, check)))
        .map(|(room, check)| trial(room, check, cannot_mount.as_ref()))
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
