//! The reports under `/proc`: one table of names and the text each makes when it is opened.

use crate::disk::Disk;
use crate::file::{Caller, Device, DeviceKind, Report};
use crate::kernel::Kernel;
use crate::sync::Arc;
use devices::{Direction, Status, Waiting};
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// Every report of a machine.
#[must_use]
pub fn all(kernel: &Arc<Kernel>) -> Vec<Report> {
    const TABLE: &[(&str, fn(&Kernel) -> String)] = &[
        ("bufcache", bufcache),
        ("devices", devices),
        ("devtab", devtab),
        ("diskstats", diskstats),
        ("dma", |kernel| kernel.machine.dma.report()),
        ("errors", errors),
        ("faults", |kernel| kernel.machine.faults.report()),
        ("files", files),
        ("interrupts", |kernel| kernel.machine.irq.report()),
        ("ioports", |kernel| kernel.machine.ports.report()),
        ("mounts", mounts),
        ("nodes", nodes),
        ("perf", perf),
        ("probe", |kernel| kernel.probe.report()),
        ("queues", queues),
        ("status", status),
        ("trace", |kernel| kernel.machine.trace.text()),
        ("version", version),
    ];
    let row = |&(name, make): &(&'static str, fn(&Kernel) -> String)| {
        // Weak: the tree holds its reports, the kernel the tree.
        let kernel = Arc::downgrade(kernel);
        let text = move |_: &Caller| kernel.upgrade().map_or_else(String::new, |k| make(&k));
        Report { name, text: Box::new(text) }
    };
    TABLE.iter().map(row).collect()
}

fn version(_: &Kernel) -> String {
    format!("spindle {}\n", env!("CARGO_PKG_VERSION"))
}

/// The format of /proc/mounts.
fn mounts(kernel: &Kernel) -> String {
    kernel.vfs.mounts().list().iter().fold(String::new(), |mut text, line| {
        let (prefix, kind) = (line.prefix.display(), &line.kind);
        let _ = writeln!(text, "{} {prefix} {kind} {} 0 0", line.device, line.options);
        text
    })
}

fn devices(kernel: &Kernel) -> String {
    let mut text = String::new();
    for (title, is_block) in [("Character devices:", false), ("\nBlock devices:", true)] {
        let _ = writeln!(text, "{title}");
        for row in kernel.special.switch().rows(is_block) {
            let class = if is_block { "block" } else { "char" };
            let _ = writeln!(text, "{:3} {:8} {class:6} loaded", row.major, row.driver);
        }
    }
    text
}

fn devtab(kernel: &Kernel) -> String {
    kernel.special.switch().units().fold(String::new(), |mut text, unit| {
        let _ = writeln!(text, "{} {} {}", unit.driver, unit.first_minor, unit.address);
        text
    })
}

fn nodes(kernel: &Kernel) -> String {
    kernel.vfs.list_nodes().iter().fold(String::new(), |mut text, node| {
        let (path, device) = (node.path.display(), node.device);
        let _ = writeln!(text, "{path} {device} {:04o} {}", node.mode, node.uid);
        text
    })
}

fn files(kernel: &Kernel) -> String {
    let mut text = String::new();
    for file in kernel.files.list() {
        let (handle, pid, path) = (file.handle, file.opener.pid, &file.path);
        let offset = file.offset.load(Ordering::Relaxed);
        let kind = file.ops.kind();
        let _ = writeln!(text, "{handle} {pid} {path} {kind} {:#o} offset={offset} count=1", file.flags);
    }
    text
}

fn waiting(text: &mut String, w: &Waiting) {
    let (op, class) = (w.op.name(), w.origin.class.name());
    let (block, count, age) = (w.sector.0, w.sectors, w.age_nanos / 1_000_000);
    let _ = write!(text, "{op} block={block} count={count} age_ms={age} class={class}");
    let _ = write!(text, " pid={}", w.origin.pid);
}

/// `device b|c major:minor type address state [request] queue=N`.
fn status(kernel: &Kernel) -> String {
    let mut text = String::new();
    for unit in kernel.special.switch().units() {
        let Status { state, current, queued } = unit.status();
        let (letter, major) = match (unit.block_major, unit.char_major) {
            (Some(major), _) => ('b', major),
            (None, Some(major)) => ('c', major),
            (None, None) => continue,
        };
        let (name, minor, driver) = (&unit.name, unit.first_minor, &unit.driver);
        let address = unit.address.replace(' ', ",");
        let _ = write!(text, "{name} {letter} {major}:{minor} {driver} {address} {} ", state.name());
        if let Some(request) = current {
            waiting(&mut text, &request);
            text.push(' ');
        }
        let _ = writeln!(text, "queue={queued}");
    }
    text
}

fn queues(kernel: &Kernel) -> String {
    let mut text = String::new();
    for disk in kernel.special.disks() {
        for request in disk.unit.waiting() {
            let _ = write!(text, "{} ", disk.name);
            waiting(&mut text, &request);
            text.push('\n');
        }
    }
    text
}

/// The format of Linux's /proc/diskstats (Documentation/admin-guide/iostats.rst).
fn diskstats(kernel: &Kernel) -> String {
    let mut text = String::new();
    for disk in kernel.special.disks() {
        let Some(unit) = kernel.special.switch().unit_of(&disk.name) else { continue };
        let (Some(major), minor) = (unit.block_major, unit.first_minor) else { continue };
        let c = disk.unit.counters();
        let _ = write!(text, "{major:4} {minor:7} {}", disk.name);
        four(&mut text, c.read);
        four(&mut text, c.write);
        let (busy, weighted) = (c.busy_nanos / 1_000_000, c.queue_nanos / 1_000_000);
        let _ = write!(text, " {} {busy} {weighted}", c.in_flight);
        four(&mut text, c.discard);
        let _ = writeln!(text, " {} {}", c.flush.ios, c.flush.nanos / 1_000_000);
    }
    text
}

fn four(text: &mut String, d: Direction) {
    let _ = write!(text, " {} {} {} {}", d.ios, d.merges, d.sectors, d.nanos / 1_000_000);
}

fn bufcache(kernel: &Kernel) -> String {
    let stats = kernel.cache.stats();
    let mut text = String::new();
    for (key, value) in stats.pairs() {
        let _ = writeln!(text, "{key} {value}");
    }
    for b in kernel.cache.list() {
        let _ = writeln!(text, "{} {} {} {}", b.device, b.block, b.state, b.age_nanos / 1_000_000);
    }
    text
}

fn errors(kernel: &Kernel) -> String {
    let mut text = String::new();
    for disk in kernel.special.disks() {
        for line in disk.cached.error_log() {
            let _ = writeln!(text, "{} {line}", disk.name);
        }
        if let Some(failure) = disk.unit.sense() {
            let _ = writeln!(text, "{} last {failure}", disk.name);
        }
        let retries = disk.unit.counters().retries;
        let _ = writeln!(text, "{} retries {retries}", disk.name);
    }
    text
}

fn perf(kernel: &Kernel) -> String {
    let mut text = String::new();
    for disk in kernel.special.disks() {
        latencies(&mut text, disk);
    }
    text
}

fn latencies(text: &mut String, disk: &Disk) {
    for (op, histogram) in disk.unit.latencies() {
        let _ = write!(text, "{} {op} latency_us", disk.name);
        for (below_nanos, count) in histogram {
            let _ = write!(text, " <{}:{count}", below_nanos / 1000);
        }
        text.push('\n');
    }
    let c = disk.unit.counters();
    let _ = writeln!(text, "{} commands {}", disk.name, c.commands);
    for (name, value) in disk.unit.properties() {
        let _ = writeln!(text, "{} {name} {value}", disk.name);
    }
}

/// How a device is written in reports: `b 8 0`.
#[must_use]
pub fn shown(kind: DeviceKind, id: devices::DevId) -> String {
    Device { kind, id }.to_string()
}
