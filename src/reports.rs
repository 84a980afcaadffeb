//! The reports under `/proc`: one table of names and the text each makes when it is opened.

use crate::cache::BLOCK_BYTES;
use crate::disk::Disk;
use crate::file::{Caller, Device, Report};
use crate::kernel::{Kernel, kind_of};
use crate::own::{COMMANDS as OWN, HOLDING};
use crate::sync::Arc;
use devices::switch::Table;
use devices::{DevId, Direction, Status, Waiting};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// Makes the text of a report.
type Text = fn(&Kernel) -> String;

/// Every report of a machine.
#[must_use]
pub fn all(kernel: &Arc<Kernel>) -> Vec<Report> {
    const TABLE: &[(&str, Text)] = &[
        ("bufcache", bufcache),
        ("devices", devices),
        ("devtab", devtab),
        ("diskstats", diskstats),
        ("dma", dma),
        ("errors", errors),
        ("faults", |kernel| kernel.machine.faults.list()),
        ("files", files),
        ("interrupts", interrupts),
        ("ioports", ioports),
        ("ioctls", ioctls),
        ("mounts", mounts),
        ("nodes", nodes),
        ("perf", perf),
        ("policy", policy),
        ("probe", probe),
        ("queues", queues),
        ("serial", crate::serial::report),
        ("status", status),
        ("trace", |kernel| kernel.machine.trace.text()),
        ("version", version),
    ];
    let row = |&(name, make): &(&'static str, Text)| {
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
    for (title, table) in
        [("Character devices:", Table::Character), ("\nBlock devices:", Table::Block)]
    {
        let _ = writeln!(text, "{title}");
        for row in kernel.special.switch().drivers().iter().filter(|row| row.table == table) {
            let _ = writeln!(text, "{:3} {:8} {:6} loaded", row.major, row.driver, row.class);
        }
    }
    text
}

/// `driver minor address`, a line a unit.
fn devtab(kernel: &Kernel) -> String {
    let rows = kernel.special.switch().units().iter().filter(|row| !row.is_raw);
    rows.fold(String::new(), |mut text, row| {
        let _ = writeln!(text, "{} {} {}", row.driver, row.dev.minor, row.address);
        text
    })
}

/// `node access=.. data=.. service=..`, a line a node: who may have it, where its bytes rest on
/// their way, and how its controller is served.
fn policy(kernel: &Kernel) -> String {
    let (special, machine) = (&kernel.special, &kernel.machine);
    let class = |driver| special.switch().drivers().iter().find(|row| row.driver == driver);
    let dma: Vec<String> = machine.dma.list().into_iter().map(|row| row.owner).collect();
    let mut text = String::new();
    for row in special.switch().units() {
        let class = class(row.driver).map_or("", |row| row.class);
        let access = if ["tape", "printer"].contains(&class) { "dedicated" } else { "shared" };
        let data = match (row.table, class) {
            (Table::Block, _) => "cached",
            (_, "serial") => "buffered",
            _ => "direct",
        };
        let is_raw = row.is_raw || class == "printer";
        let unit = if is_raw { row.name.trim_start_matches('r') } else { &row.name };
        let service = match (machine.irqs.line_of(unit), dma.iter().any(|owner| owner == unit)) {
            (Some(_), true) => "interrupts,dma",
            (Some(_), false) => "interrupts",
            (None, _) => "calls",
        };
        let name = &row.name;
        let _ = writeln!(text, "{name} access={access} data={data} service={service}");
        if class == "printer" && special.is_served(row.dev.minor) {
            let spooled = name.trim_start_matches('r');
            let _ = writeln!(text, "{spooled} access=spooled data=spooled service={name}");
        }
    }
    text
}

/// `driver number name`, a line a command.
fn ioctls(kernel: &Kernel) -> String {
    let (mut lines, mut nodes) = (BTreeMap::new(), BTreeMap::new());
    for row in kernel.special.switch().units() {
        *nodes.entry(row.driver).or_insert(0) += 1;
        let is_held = row.is_raw || kernel.special.reservation(&row.name).is_some();
        let own = if is_held { OWN } else { &[] };
        let commands = match kernel.special.character(&row.name) {
            Some(node) if node.unit.serial().is_some() => [crate::tty::COMMANDS, HOLDING, &[]],
            Some(node) if row.table == Table::Character => [node.unit.commands(), &[], own],
            _ => [crate::ioctl::DISK_COMMANDS, crate::scsi::COMMANDS, own],
        };
        for (number, name) in commands.into_iter().flatten() {
            let line = (row.driver, format!("{number:#x} {name}"));
            lines.entry(line).or_insert_with(Vec::new).push(row.name.to_string());
        }
    }
    lines.into_iter().fold(String::new(), |mut text, ((driver, command), takers)| {
        let _ = write!(text, "{driver} {command}");
        if nodes.get(driver) != Some(&takers.len()) {
            let _ = write!(text, " {}", takers.join(","));
        }
        text.push('\n');
        text
    })
}

fn ioports(kernel: &Kernel) -> String {
    kernel.machine.ports.list().iter().fold(String::new(), |mut text, range| {
        let (first, last, owner) = (range.first, range.last, &range.owner);
        let _ = writeln!(text, "{first:04x}-{last:04x} : {owner} {} {}", range.reads, range.writes);
        text
    })
}

fn interrupts(kernel: &Kernel) -> String {
    kernel.machine.irqs.list().iter().fold(String::new(), |mut text, line| {
        let (number, vector, owners) = (line.line, line.vector, line.owners.join(","));
        let _ = write!(text, "{number} vector={vector} {owners} raised={}", line.raised);
        let _ = write!(text, " handled={} spurious={}", line.handled, line.spurious);
        text.push_str(if line.is_masked { " masked" } else { "" });
        text.push_str(if line.is_pending { " pending\n" } else { "\n" });
        text
    })
}

fn dma(kernel: &Kernel) -> String {
    kernel.machine.dma.list().iter().fold(String::new(), |mut text, channel| {
        let (number, owner, blocks) = (channel.channel, &channel.owner, channel.blocks);
        let (to, from) = (channel.to_memory, channel.from_memory);
        let _ = write!(text, "{number} {owner} blocks={blocks} to_memory={to} from_memory={from}");
        let _ = writeln!(text, " mapped={}", channel.mapped);
        text
    })
}

fn probe(kernel: &Kernel) -> String {
    kernel.probe.probes.iter().fold(String::new(), |mut text, probe| {
        let _ = writeln!(text, "{probe}");
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
        let _ = writeln!(
            text,
            "{handle} {pid} {path} {kind} {:#o} offset={offset} count=1",
            file.flags
        );
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
    for row in kernel.special.switch().units().iter().filter(|row| !row.is_raw) {
        let device = Device { kind: kind_of(row.table), id: row.dev };
        let Some(Status { state, current, queued }) = kernel.special.status(device) else {
            continue;
        };
        let (name, letter, DevId { major, minor }) = (&row.name, device.kind.letter(), row.dev);
        let (driver, address) = (row.driver, row.address.replace(' ', ","));
        let _ =
            write!(text, "{name} {letter} {major}:{minor} {driver} {address} {} ", state.name());
        if let Some(request) = current {
            waiting(&mut text, &request);
            text.push(' ');
        }
        if let Some(node) = kernel.special.character(name).filter(|_| row.table == Table::Character)
        {
            place(&mut text, &node.unit.properties());
        }
        if let Some(unit) = kernel.special.reservation(name) {
            if let Some(owner) = unit.owner() {
                let _ = write!(text, "owner={} ", owner.0);
            }
            if unit.waiting() > 0 {
                let _ = write!(text, "waiting={} ", unit.waiting());
            }
        }
        let _ = writeln!(text, "queue={queued}");
    }
    text
}

/// Where a tape stands, in the column of the request.
fn place(text: &mut String, properties: &[(&'static str, String)]) {
    for (name, value) in properties {
        if ["medium", "position", "file", "block", "density"].contains(name) {
            let _ = write!(text, "{name}={value} ");
        }
    }
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
    // Calls without a request: on a terminal, a tape, whatever answers when it does.
    for (file, tid) in kernel.files.blocked() {
        let _ = writeln!(
            text,
            "{} wait pid={tid}",
            file.path.strip_prefix("/dev/").unwrap_or(&file.path)
        );
    }
    text
}

/// The format of Linux's /proc/diskstats (Documentation/admin-guide/iostats.rst).
fn diskstats(kernel: &Kernel) -> String {
    let mut text = String::new();
    for row in kernel.special.switch().units().iter().filter(|row| row.table == Table::Block) {
        let Some(disk) = kernel.special.disk(&row.name) else { continue };
        let DevId { major, minor } = row.dev;
        let c = disk.unit.counters();
        let _ = write!(text, "{major:4} {minor:7} {}", disk.name);
        four(&mut text, c.read);
        four(&mut text, c.write);
        // As Linux reckons it (block/genhd.c), so that requests merged into one weigh as one.
        let all = [c.read, c.write, c.discard, c.flush].map(|direction| direction.nanos);
        let (busy, weighted) = (c.busy_nanos / 1_000_000, all.iter().sum::<u64>() / 1_000_000);
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
    let blocks = |bytes: u64| bytes / BLOCK_BYTES as u64;
    let pairs = [
        ("block_bytes", BLOCK_BYTES as u64),
        ("capacity", blocks(stats.capacity)),
        ("used", blocks(stats.used)),
        ("dirty", blocks(stats.dirty)),
        ("hits", stats.hits),
        ("misses", stats.misses),
        ("reads", stats.physical_reads),
        ("writes", stats.physical_writes),
        ("read_ahead", stats.read_ahead),
        ("bytes_per_write", stats.bytes_per_write()),
    ];
    for (key, value) in pairs {
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
        for e in disk.cached.write_errors() {
            let _ = writeln!(text, "{} {e}", disk.name);
        }
        for e in disk.unit.error_log() {
            let (op, sector, pid) = (e.op.name(), e.sector.0, e.origin.pid);
            let _ = write!(text, "{} {op} block={sector} pid={pid}", disk.name);
            let _ = writeln!(text, " at_ms={} {}", e.at.0 / 1_000_000, e.failure);
        }
        let retries = disk.unit.counters().retries;
        let _ = writeln!(text, "{} retries {retries}", disk.name);
    }
    for node in kernel.special.characters() {
        if let Some(failure) = node.unit.sense() {
            let _ = writeln!(text, "{} {failure}", node.name);
        }
    }
    text
}

fn perf(kernel: &Kernel) -> String {
    let mut text = String::new();
    for disk in kernel.special.disks() {
        latencies(&mut text, disk);
    }
    for node in kernel.special.characters() {
        for (name, value) in node.unit.properties() {
            let _ = writeln!(text, "{} {name} {value}", node.name);
        }
    }
    text
}

fn latencies(text: &mut String, disk: &Disk) {
    let l = disk.unit.latencies();
    let ops = [("read", l.read), ("write", l.write), ("discard", l.discard), ("flush", l.flush)];
    for (op, histogram) in ops {
        if histogram.iter().all(|count| *count == 0) {
            continue;
        }
        let _ = write!(text, "{} {op} latency_ns", disk.name);
        for (power, count) in histogram.iter().enumerate().filter(|(_, count)| **count > 0) {
            let _ = write!(text, " {}..{}:{count}", 1_u64 << power, 1_u64 << (power + 1));
        }
        text.push('\n');
    }
    let c = disk.unit.counters();
    let _ = writeln!(text, "{} commands {}", disk.name, c.commands);
    for (name, value) in disk.unit.properties() {
        let _ = writeln!(text, "{} {name} {value}", disk.name);
    }
}
