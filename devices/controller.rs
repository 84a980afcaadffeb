//! What the drivers of disk controllers share: keys, probing, sense, and the controller that lends
//! memory. Everything is said to the chip through its registers, as `manual.rs` has them.

use crate::bus::dma::Segment;
use crate::bus::irq::Sharing;
use crate::bus::{BusAddress, DmaChannel, IrqLine, PortIo};
use crate::contract::{
    AttachError, Attached, Failure, Geometry, IoError, Key, Kind, Op, PropertyError, Sector, Sense,
    UnitCommand, UnitConfig,
};
use crate::machine::Machine;
use crate::manual;
use crate::queue::{Controller, DiskQueue, Progress, QueueOptions, Transfer};
use crate::sync::Arc;
use crate::timing::{Model, NAMES};

const SCHEDULERS: &[&str] = &["fifo", "sstf", "scan", "clook", "deadline"];

/// The keys of a disk's unit, with what differs between drivers.
pub const fn keys(size: &'static str, timing: &'static str, longest: &'static str) -> [Key; 18] {
    const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
        Key { name, kind, default, doc }
    }
    [
        key("size", Kind::Size, size, "capacity; without it, that of the image"),
        key("image", Kind::Path, "", "raw image file, made sparse when missing; NAME.img"),
        key("port", Kind::Number, "", "first port of its controller; the driver's own places"),
        key("irq", Kind::Number, "", "interrupt line of its controller"),
        key("dma", Kind::Number, "", "channel on the memory bus; none for a diskette"),
        key("sector", Kind::Size, "512", "bytes in a sector: 512 or 4096"),
        key("read_only", Kind::Flag, "false", "the medium is write-protected"),
        key("timing", Kind::Choice(NAMES), timing, "how long it takes"),
        key("spares", Kind::Number, "64", "spare sectors for bad ones, at most 512"),
        key("host_sync", Kind::Flag, "true", "a flush asks the host to keep the image (fdatasync)"),
        key("transfer_max", Kind::Size, longest, "longest transfer of one command"),
        key("scheduler", Kind::Choice(SCHEDULERS), "clook", "order in which requests are served"),
        key("retries", Kind::Number, "5", "further tries after a transient failure"),
        key("timeout", Kind::Time, "5s", "silence after which the hardware is given up"),
        key("absent", Kind::Flag, "false", "described, but its controller is not on the bus"),
        key("host_cache", Kind::Flag, "false", "the host's page cache may keep its clean blocks"),
        key("passthrough", Kind::Flag, "false", "the host serves its raw node; root only"),
        key("id", Kind::Number, "", "what its identification register answers"),
    ]
}

/// A probed controller: the driver's claim on its registers, and how to talk to it.
pub(crate) struct Console {
    pub(crate) io: PortIo,
    pub(crate) line: Arc<IrqLine>,
    geometry: Geometry,
}

/// The number written for `key`, as small as it must be.
fn place<T: TryFrom<u64>>(unit: &UnitConfig, key: &str) -> Result<T, AttachError> {
    let name = &unit.name;
    let missing = || AttachError::Conflict(format!("{name}: {key} must be given"));
    let number = unit.number(key).ok_or_else(missing)?;
    T::try_from(number)
        .map_err(|_| AttachError::Conflict(format!("{name}: {key} = {number}: there is none")))
}

impl Console {
    /// Claims the described ports and line, and looks who answers there.
    ///
    /// # Errors
    /// `Absent`, `Unknown`, or `Conflict`; nothing is claimed then.
    pub(crate) fn probe(
        unit: &UnitConfig,
        machine: &Machine,
        id: u32,
    ) -> Result<Console, AttachError> {
        let port = place(unit, "port")?;
        let io = machine.ports.claim(&unit.name, port, manual::PORTS)?;
        match io.inl(manual::ID) {
            u32::MAX => return Err(AttachError::Absent),
            answer if answer != id => {
                let words = format!("port {port:#x} answers {answer:#010x}, and not {id:#010x}");
                return Err(AttachError::Unknown(words));
            }
            _ => {}
        }
        let line = machine.irqs.claim(&unit.name, place(unit, "irq")?, Sharing::Shared)?;
        let geometry = Geometry {
            sectors: io.inq(manual::SECTORS),
            sector_bytes: io.inl(manual::SECTOR_BYTES),
            transfer_max: io.inl(manual::TRANSFER_MAX),
            ordered: false,
            read_only: io.inl(manual::STATUS) & manual::WRITE_PROTECTED != 0,
        };
        Ok(Console { io, line, geometry })
    }

    /// Size and nature, as the registers told at the probe.
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn status(&self) -> u32 {
        self.io.inl(manual::STATUS)
    }

    pub(crate) fn control(&self, word: u32) {
        self.io.outl(manual::CONTROL, word);
    }

    /// Why the command failed that began at `first`: the sense registers, and what they mean.
    pub(crate) fn failure(&self, first: Sector) -> Failure {
        let [ascq, asc, key, _] = self.io.inl(manual::SENSE).to_le_bytes();
        let info = Some(self.io.inq(manual::INFO)).filter(|info| *info != manual::NO_INFO);
        let sense = Sense { key, asc, ascq, info };
        Failure { error: meaning(sense, first), sense }
    }

    /// See [`Controller::command`].
    pub(crate) fn command(&self, command: UnitCommand) -> Result<(), IoError> {
        match command {
            UnitCommand::Freeze => self.control(manual::FREEZE),
            UnitCommand::Thaw => self.control(manual::THAW),
            UnitCommand::Repair => self.control(manual::REPAIR),
            UnitCommand::Reset => {} // the queue resets the controller itself
            UnitCommand::Pause | UnitCommand::Resume => return Err(IoError::Unsupported),
        }
        Ok(())
    }

    /// See [`Controller::stored_from`].
    pub(crate) fn stored_from(&self, from: Sector) -> Option<(Sector, Sector)> {
        self.io.outq(manual::SECTOR, from.0);
        self.control(manual::QUERY);
        let run =
            (Sector(self.io.inq(manual::STORED_FIRST)), Sector(self.io.inq(manual::STORED_END)));
        (run.0 < run.1).then_some(run)
    }

    /// Timing model, arm, track cache and spares, as the registers tell.
    pub(crate) fn properties(&self) -> Vec<(&'static str, String)> {
        let timing = Model::numbered(self.io.inl(manual::TIMING)).map_or("unknown", Model::name);
        let remaps = (0..self.io.inl(manual::REMAPS)).map(|index| {
            self.io.outl(manual::REMAP_INDEX, index);
            let spare = self.io.inl(manual::REMAP_SPARE);
            format!("{} -> spare{spare}", self.io.inq(manual::REMAP_SECTOR))
        });
        let remaps = remaps.collect::<Vec<_>>().join(", ");
        vec![
            ("timing", timing.to_string()),
            ("arm_travel", self.io.inq(manual::TRAVEL).to_string()),
            ("media_accesses", self.io.inq(manual::ACCESSES).to_string()),
            ("cache_hits", self.io.inq(manual::HITS).to_string()),
            ("spares", self.io.inl(manual::SPARES).to_string()),
            ("remaps", if remaps.is_empty() { "none".into() } else { remaps }),
        ]
    }

    /// Sets `timing`; `badsector` makes a sector go bad.
    pub(crate) fn set_property(&self, name: &str, value: &str) -> Result<(), PropertyError> {
        match name {
            "timing" => {
                let model = Model::named(value)
                    .ok_or_else(|| PropertyError::Value(format!("one of {}", NAMES.join(", "))))?;
                self.io.outl(manual::TIMING, model.number());
            }
            "badsector" => {
                let sector = value.parse::<u64>().ok().filter(|at| *at < self.geometry.sectors);
                let sector = sector.ok_or_else(|| {
                    PropertyError::Value(format!("a sector below {}", self.geometry.sectors))
                })?;
                self.io.outq(manual::SECTOR, sector);
                self.control(manual::MARK_BAD);
            }
            _ => return Err(PropertyError::Unknown),
        }
        Ok(())
    }
}

/// The one word for a sense (SPC-4, tables of sense keys and of additional codes).
fn meaning(sense: Sense, first: Sector) -> IoError {
    match (sense.key, sense.asc, sense.ascq) {
        (2, _, _) => IoError::NotReady,
        (3, _, _) => IoError::Media(sense.info.map_or(first, Sector)),
        (5, 0x20, _) => IoError::Unsupported,
        (5, 0x21, 0x00) => IoError::Range,
        (5, _, _) => IoError::Invalid,
        (7, 0x27, 0x07) => IoError::NoSpace,
        (7, _, _) => IoError::WriteProtected,
        // Its program broke down over this command: no use to try the same again.
        (0xb, 0x44, _) => IoError::Media(first),
        (0xb, _, _) => IoError::Transient,
        _ => IoError::Hardware,
    }
}

/// The opcode of an operation.
pub(crate) fn opcode(op: Op) -> u8 {
    match op {
        Op::Read => manual::READ,
        Op::Write => manual::WRITE,
        Op::Flush => manual::FLUSH,
        Op::Discard => manual::DISCARD,
        Op::Zero => manual::ZERO,
    }
}

/// The row of a unit served by `controller`: a queue over it, that hears its line.
pub(crate) fn attached(
    unit: &UnitConfig,
    machine: &Machine,
    controller: Box<dyn Controller>,
    line: &Arc<IrqLine>,
    address: String,
) -> Attached {
    let trace = Some(Arc::clone(&machine.trace));
    let image = machine.image(unit);
    let mut options = QueueOptions { image, trace, ..QueueOptions::default() };
    if let Some(scheduler) = unit.text("scheduler") {
        options.scheduler = scheduler.into();
    }
    if let Some(retries) = unit.number("retries") {
        options.retries = u32::try_from(retries).unwrap_or(u32::MAX);
    }
    if let Some(nanos) = unit.number("timeout") {
        options.timeout_nanos = nanos;
    }
    let engine = Arc::clone(&machine.engine);
    let queue = DiskQueue::new(unit.name.clone(), engine, controller, options);
    let listener = Arc::downgrade(&queue);
    line.connect(move || {
        if let Some(queue) = listener.upgrade() {
            queue.interrupt();
        }
    });
    Attached { address, block: Some(queue), character: Vec::new() }
}

/// Attaches a unit whose controller fetches commands and data from memory.
///
/// # Errors
/// See [`AttachError`]; nothing is claimed then.
pub fn attach(unit: &UnitConfig, machine: &Machine) -> Result<Attached, AttachError> {
    let console = Console::probe(unit, machine, manual::DISK_ID)?;
    let channel = machine.dma.claim(&unit.name, place(unit, "dma")?)?;
    let line = Arc::clone(&console.line);
    let (port, irq, dma) = (console.io.first(), line.number(), channel.number());
    let address = format!("port {port:#x} irq {irq} dma {dma}");
    let controller = DiskController::new(console, channel);
    Ok(attached(unit, machine, Box::new(controller), &line, address))
}

/// A controller that fetches its command block and moves the data by itself.
pub struct DiskController {
    console: Console,
    channel: DmaChannel,
    /// The command block, while it is not lent; kept for its room.
    block: Vec<u8>,
    block_at: Option<BusAddress>,
    /// Where the pieces of the transfer under way lie, in order.
    lent: Vec<BusAddress>,
}

impl DiskController {
    fn new(console: Console, channel: DmaChannel) -> DiskController {
        DiskController { console, channel, block: Vec::new(), block_at: None, lent: Vec::new() }
    }

    /// Lends the pieces' memory, and writes the command block.
    fn lend(&mut self, transfer: &mut Transfer) -> Result<(), IoError> {
        let count = u16::try_from(transfer.pieces.len()).map_err(|_| IoError::Invalid)?;
        let flags = if transfer.fua { manual::FUA } else { 0 };
        self.block.clear();
        self.block.extend([opcode(transfer.op), flags]);
        self.block.extend(count.to_le_bytes());
        self.block.extend(transfer.pid.to_le_bytes());
        self.block.extend(transfer.sector.0.to_le_bytes());
        self.block.extend(transfer.sectors.to_le_bytes());
        for piece in &mut transfer.pieces {
            let bytes = u32::try_from(piece.len).map_err(|_| IoError::Invalid)?;
            let address =
                self.channel.map(std::mem::take(&mut piece.memory)).map_err(|memory| {
                    piece.memory = memory;
                    IoError::NotReady
                })?;
            self.lent.push(address);
            let segment = Segment { address: address.plus(piece.from as u64), bytes };
            self.block.extend(segment.address.0.to_le_bytes());
            self.block.extend(u64::from(segment.bytes).to_le_bytes());
        }
        let block = self.channel.map(std::mem::take(&mut self.block));
        self.block_at = Some(block.map_err(|_| IoError::NotReady)?);
        Ok(())
    }

    /// Takes all that was lent back.
    fn take_back(&mut self, transfer: Option<&mut Transfer>) {
        if let Some(address) = self.block_at.take() {
            self.block = self.channel.unmap(address).unwrap_or_default();
        }
        let mut pieces = transfer.map(|transfer| transfer.pieces.iter_mut());
        for address in self.lent.drain(..) {
            let memory = self.channel.unmap(address).unwrap_or_default();
            if let Some(piece) = pieces.as_mut().and_then(Iterator::next) {
                piece.memory = memory;
            }
        }
    }
}

impl Drop for DiskController {
    fn drop(&mut self) {
        self.reset(None);
    }
}

impl Controller for DiskController {
    fn geometry(&self) -> Result<Geometry, IoError> {
        Ok(self.console.geometry())
    }

    fn start(&mut self, transfer: &mut Transfer) -> Result<(), Failure> {
        if let Err(error) = self.lend(transfer) {
            self.take_back(Some(transfer));
            return Err(error.into());
        }
        self.console.io.outq(manual::BLOCK, self.block_at.map_or(0, |address| address.0));
        self.console.io.outl(manual::DOORBELL, 1);
        Ok(())
    }

    fn interrupt(&mut self, transfer: &mut Transfer) -> Progress {
        let status = self.console.status();
        if status & manual::DONE == 0 {
            return Progress::Spurious;
        }
        let failed = status & manual::ERROR != 0;
        let failure = failed.then(|| self.console.failure(transfer.sector));
        self.console.control(manual::ACK);
        self.take_back(Some(transfer));
        Progress::Finished(failure.map_or(Ok(()), Err))
    }

    fn reset(&mut self, active: Option<&mut Transfer>) {
        self.console.control(manual::RESET);
        self.take_back(active);
    }

    fn stored_from(&self, from: Sector) -> Option<(Sector, Sector)> {
        self.console.stored_from(from)
    }

    fn command(&mut self, command: UnitCommand) -> Result<(), IoError> {
        self.console.command(command)
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        self.console.properties()
    }

    fn set_property(&mut self, name: &str, value: &str) -> Result<(), PropertyError> {
        self.console.set_property(name, value)
    }
}
