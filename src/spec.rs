//! Special files: where a device inode becomes an open device (4.4BSD's specfs).
//!
//! open(2) asks once what a device is: which switch, which row, which unit, which way. After that
//! no read looks at a major number again; the open file's operations are the answer.

use crate::cache::{BufferCache, CachedDevice, ErrorCursor};
use crate::character::{CharFile, CharNode, Opens};
use crate::disk::{Disk, OnRescan, Opening, Window};
use crate::error::flags::O_DIRECT;
use crate::error::{Errno, Error};
use crate::file::{
    Answer, Call, Caller, Device, DeviceKind, FileOps, IoctlAnswer, IoctlCall, Nature, Seek,
    SpecialFiles, SyncKind,
};
use crate::holders::{Claim, Holders};
use crate::ioctl;
use crate::lent::Lent;
use crate::pages::{Forget, HostPages};
use crate::passage::Passage;
use crate::raw::{self, RawFile};
use crate::sync::{Arc, Mutex};
use crate::tty::Tty;
use devices::engine::Engine;
use devices::machine::Machine;
use devices::reserve::Reservation;
use devices::switch::{CharUnit, NoDevice, Switch, Table, UnitRow};
use devices::{DevId, Status, UnitConfig};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

/// The ways into the switches, and the disks behind them.
pub struct Special {
    switch: Arc<Switch>,
    disks: BTreeMap<String, Arc<Disk>>,
    ttys: BTreeMap<DevId, Arc<Tty>>,
    char_opens: Opens,
    holders: Arc<Holders>,
    /// By the name of the disk, and by the names of character units.
    reservations: BTreeMap<String, Arc<Reservation>>,
    engine: Arc<Engine>,
    served: Mutex<BTreeMap<DevId, Opener>>,
}

/// Opens a character device that no driver serves.
pub type Opener = Arc<dyn Fn(&Caller, i32) -> Result<Arc<dyn FileOps>, Error> + Send + Sync>;

/// Tells where a unit's key is described: `my.toml:7`.
pub type PlaceOf<'a> = &'a dyn Fn(&str, &str) -> String;

/// What a device inode leads to.
enum Way {
    Block(Arc<Disk>, Window, u32),
    Raw(Arc<Disk>, Window, u32),
    Char(CharNode),
}

impl Special {
    /// Puts every block unit of the switch behind the cache; `units` is what is described of them,
    /// and `place` where.
    ///
    /// # Errors
    /// `ENXIO` when a unit's geometry cannot be had, `EINVAL` where `passthrough` cannot be.
    pub fn new(
        switch: Arc<Switch>,
        cache: &Arc<BufferCache>,
        machine: &Machine,
        (units, place): (&[UnitConfig], PlaceOf<'_>),
    ) -> Result<Special, Error> {
        let mut disks = BTreeMap::new();
        cache.trace_into(&machine.trace);
        machine.irqs.trace_into(&machine.trace);
        for row in switch.units().iter().filter(|row| row.table == Table::Block) {
            let Ok(unit) = switch.block(row.dev) else { continue };
            let cached = cache.attach(&row.name, Arc::clone(&unit.device))?;
            let partitions_max = switch.minors(row.dev.major).unwrap_or(1) - 1;
            let mut disk = Disk::new(&row.name, unit.device, cached, machine, partitions_max);
            if let Some(unit) = units.iter().find(|unit| unit.name == row.name) {
                disk.pages = unit.flag("host_cache").then(HostPages::default);
                disk.passage = passage(unit, &disk, machine).map_err(|why| {
                    let place = place(&unit.name, "passthrough");
                    Error::new(why.errno, format!("{place}: {why}"))
                })?;
            }
            disks.insert(row.name.clone(), Arc::new(disk));
        }
        let (engine, served) = (Arc::clone(&machine.engine), Mutex::default());
        let holders = Arc::new(Holders::default());
        let reservations = reservations(&switch, &holders);
        let (char_opens, ttys) = (Opens::default(), ttys(&switch, &engine));
        Ok(Special { switch, disks, ttys, char_opens, holders, reservations, engine, served })
    }

    /// The disks, by name.
    pub fn disks(&self) -> impl Iterator<Item = &Arc<Disk>> {
        self.disks.values()
    }

    /// The terminals.
    pub fn ttys(&self) -> impl Iterator<Item = &Arc<Tty>> {
        self.ttys.values()
    }

    /// The disk of that name.
    #[must_use]
    pub fn disk(&self, name: &str) -> Option<&Arc<Disk>> {
        self.disks.get(name)
    }

    /// The character units, in the order in which they were attached; no raw twins.
    pub fn characters(&self) -> impl Iterator<Item = CharNode> + '_ {
        let rows = self.switch.units().iter().filter(|row| row.table == Table::Character);
        rows.filter_map(|row| match self.way(Device { kind: DeviceKind::Char, id: row.dev }) {
            Ok(Way::Char(node)) => Some(node),
            _ => None,
        })
    }

    /// The character unit of that name.
    #[must_use]
    pub fn character(&self, name: &str) -> Option<CharNode> {
        self.characters().find(|node| &*node.name == name)
    }

    /// Has a character device opened by `opener`, past the switch: that of a spooler.
    pub fn serve(&self, id: DevId, opener: Opener) {
        self.served.lock().insert(id, opener);
    }

    /// Whether a character device of this minor is opened past the switch.
    #[must_use]
    pub fn is_served(&self, minor: u32) -> bool {
        self.served.lock().keys().any(|id| id.minor == minor)
    }

    /// Who holds what.
    #[must_use]
    pub fn holders(&self) -> &Arc<Holders> {
        &self.holders
    }

    /// The reservation of the disk or character unit of that name, if it can be had alone.
    #[must_use]
    pub fn reservation(&self, name: &str) -> Option<&Arc<Reservation>> {
        self.reservations.get(name)
    }

    fn claim(&self, name: &str, caller: &Caller, flags: i32) -> Result<Claim, Error> {
        let found = self.reservation(name).ok_or_else(|| Error::plain(Errno::ENXIO))?;
        Claim::new(&self.holders, (name, found), caller, flags)
    }

    /// The switch.
    #[must_use]
    pub fn switch(&self) -> &Arc<Switch> {
        &self.switch
    }

    /// Why a device cannot be opened, in words; empty when it can.
    #[must_use]
    pub fn open_check(&self, device: Device) -> String {
        self.way(device).err().map_or_else(String::new, |error| error.to_string())
    }

    /// What a unit is doing.
    #[must_use]
    pub fn status(&self, device: Device) -> Option<Status> {
        match self.way(device).ok()? {
            Way::Block(disk, ..) | Way::Raw(disk, ..) => Some(disk.unit.status()),
            Way::Char(node) => Some(node.unit.status()),
        }
    }

    /// Has `hook` called whenever a disk's partitions were read again.
    pub fn set_on_rescan(&self, hook: impl Fn() -> OnRescan) {
        for disk in self.disks.values() {
            disk.set_on_rescan(hook());
        }
    }

    /// The disk and the partition number of a device, through either switch.
    ///
    /// # Errors
    /// `ENXIO`, with the words `no driver for major ..`, `driver ..: no unit ..`; `ENODEV` for
    /// what is no disk.
    pub fn disk_of(&self, device: Device) -> Result<(&Arc<Disk>, u32), Error> {
        let unit = match device.kind {
            DeviceKind::Block => self.switch.block(device.id).map_err(absent)?,
            DeviceKind::Char => match self.switch.character(device.id).map_err(absent)? {
                CharUnit::Raw(unit) => unit,
                CharUnit::Device(..) => return Err(Error::new(Errno::ENODEV, "not a disk")),
            },
        };
        let disk = self.disks.get(&*unit.name).ok_or_else(|| Error::plain(Errno::ENXIO))?;
        Ok((disk, unit.part))
    }

    fn way(&self, device: Device) -> Result<Way, Error> {
        if device.kind == DeviceKind::Char
            && let CharUnit::Device(name, _, unit) =
                self.switch.character(device.id).map_err(absent)?
        {
            return Ok(Way::Char(CharNode { name, id: device.id, unit }));
        }
        let (disk, part) = self.disk_of(device)?;
        let window = disk.window(part).ok_or_else(|| {
            Error::new(Errno::ENXIO, format!("{}: no partition {part}", disk.name))
        })?;
        let disk = Arc::clone(disk);
        Ok(match device.kind {
            DeviceKind::Block => Way::Block(disk, window, part),
            DeviceKind::Char => Way::Raw(disk, window, part),
        })
    }
}

/// A terminal upon every serial port.
fn ttys(switch: &Switch, engine: &Arc<Engine>) -> BTreeMap<DevId, Arc<Tty>> {
    let mut all = BTreeMap::new();
    for row in switch.units().iter().filter(|row| row.table == Table::Character) {
        if let Ok(CharUnit::Device(name, _, unit)) = switch.character(row.dev)
            && let Some(port) = unit.serial()
        {
            all.insert(row.dev, Tty::new(&name, port, Arc::clone(engine)));
        }
    }
    all
}

/// One for each unit that somebody could want for himself; the rows of one drive share theirs.
fn reservations(switch: &Switch, holders: &Holders) -> BTreeMap<String, Arc<Reservation>> {
    let mut all: BTreeMap<String, Arc<Reservation>> = BTreeMap::new();
    let is_memory = |row: &&UnitRow| {
        let class = switch.drivers().iter().find(|d| d.driver == row.driver).map(|d| d.class);
        class == Some("memory")
    };
    let rows = || switch.units().iter().filter(|row| !row.is_raw && !is_memory(row));
    for row in rows() {
        let twin = |other: &&UnitRow| other.address == row.address && row.address != "memory";
        let twin = rows().filter(twin).find_map(|other| all.get(&other.name)).cloned();
        all.insert(row.name.clone(), twin.unwrap_or_else(|| holders.unit()));
    }
    all
}

fn absent(why: NoDevice) -> Error {
    Error::new(Errno::ENXIO, why.to_string())
}

impl SpecialFiles for Special {
    fn open(&self, device: Device, caller: &Caller, flags: i32) -> Result<Arc<dyn FileOps>, Error> {
        let opener = self.served.lock().get(&device.id).cloned();
        if let Some(opener) = opener.filter(|_| device.kind == DeviceKind::Char) {
            return opener(caller, flags);
        }
        let way = self.way(device).inspect_err(|error| {
            log::warn!(target: "spec", "open of {device} by pid {}: {error}", caller.pid);
        })?;
        match way {
            Way::Block(disk, window, part) => {
                check_writable(&disk, flags)?;
                let claim = self.claim(&disk.name, caller, flags)?;
                if let Some(passage) = &disk.passage {
                    passage.enter_block(&disk.name)?;
                }
                let errors = Arc::new(disk.cached.open_errors());
                Ok(Arc::new(BlockFile { open: Opening::new(disk, window, part, claim), errors }))
            }
            Way::Raw(disk, window, part) => {
                check_writable(&disk, flags)?;
                let claim = self.claim(&disk.name, caller, flags)?;
                let open = Opening::new(disk, window, part, claim);
                Ok(Arc::new(RawFile::new(open, is_writing(flags))?))
            }
            Way::Char(node) => {
                let is_held = self.reservations.contains_key(&*node.name);
                let claim = is_held.then(|| self.claim(&node.name, caller, flags)).transpose()?;
                if let Some(tty) = self.ttys.get(&device.id) {
                    return Ok(Arc::new(tty.open(caller.uid == 0, claim)?));
                }
                let file = CharFile::open(node, claim, flags, &self.char_opens, &self.engine)?;
                Ok(Arc::new(file))
            }
        }
    }

    fn may_be_remembered(&self, device: Device) -> bool {
        // Else each read of the host's pages would ask for the attributes first.
        let disk = self.disk_of(device).ok().filter(|_| device.kind == DeviceKind::Block);
        disk.is_some_and(|(disk, _)| disk.pages.is_some())
    }

    fn opens_slowly(&self, device: Device) -> bool {
        device.kind == DeviceKind::Char && self.served.lock().contains_key(&device.id)
    }

    fn size(&self, device: Device) -> u64 {
        if device.kind == DeviceKind::Char && self.ttys.contains_key(&device.id) {
            return crate::tty::SHOWN_BYTES;
        }
        let Ok((disk, part)) = self.disk_of(device) else { return 0 };
        disk.window(part).map_or(0, |window| window.len)
    }
}

/// The way to a disk's image, where the description wants it passed through.
fn passage(unit: &UnitConfig, disk: &Disk, machine: &Machine) -> Result<Option<Passage>, Error> {
    if !unit.flag("passthrough") {
        return Ok(None);
    }
    let refuse = |why: &str| {
        Err(Error::new(Errno::EINVAL, format!("\"passthrough\" of {}: {why}", disk.name)))
    };
    let Some(image) = machine.image(unit) else {
        return refuse("there is no image to pass through: leave it out");
    };
    if !std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
        return refuse(
            "the host lets only root pass files through: leave it out, or mount as root",
        );
    }
    let remaps = disk.unit.properties().into_iter().find(|(name, _)| *name == "remaps");
    if remaps.is_some_and(|(_, remaps)| remaps != "none") {
        return refuse("sectors of its medium are replaced by spares: leave it out");
    }
    Ok(Some(Passage::new(image, disk.geometry()?.read_only)))
}

fn is_writing(flags: i32) -> bool {
    flags & 3 != 0 // O_ACCMODE; O_RDONLY is 0
}

fn check_writable(disk: &Disk, flags: i32) -> Result<(), Error> {
    if is_writing(flags) { disk.check_writable() } else { Ok(()) }
}

/// An open block node of a disk or partition: bytes, through the cache.
struct BlockFile {
    open: Opening,
    errors: Arc<ErrorCursor>,
}

impl BlockFile {
    fn cached(&self) -> &Arc<CachedDevice> {
        &self.open.disk.cached
    }

    fn range(&self) -> std::ops::Range<u64> {
        let Window { start, len } = self.open.window;
        start..start + len
    }

    fn direct_read(
        &self,
        call: &Call,
        start: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Answer<usize, Vec<u8>>, Error> {
        let range = start..start + buf.len() as u64;
        if !self.cached().is_dirty(range.clone()) {
            return raw::read(&self.open.disk, call.origin(), start, buf);
        }
        let (disk, from, len) = (Arc::clone(&self.open.disk), call.origin(), buf.len());
        Ok(Answer::Later(Box::new(move |interrupt| {
            disk.cached.flush_range(range, interrupt)?;
            let mut memory = vec![0; len];
            match raw::read(&disk, from, start, &mut memory)? {
                Answer::Now(_) => Ok(memory),
                Answer::Later(rest) => rest(interrupt),
                Answer::Blocked(rest) => rest.wait(interrupt),
            }
        })))
    }

    fn direct_write(&self, call: &Call, start: u64, data: &[u8]) -> Result<Answer<usize>, Error> {
        let range = start..start + data.len() as u64;
        let (disk, from) = (Arc::clone(&self.open.disk), call.origin());
        let (data, is_durable) = (data.to_vec(), raw::is_durable(&disk, call));
        if !self.cached().is_dirty(range.clone()) {
            return raw::write(&disk, from, start, data, is_durable);
        }
        Ok(Answer::Later(Box::new(move |interrupt| {
            disk.cached.flush_range(range, interrupt)?;
            raw::write(&disk, from, start, data, is_durable)?.finish(interrupt)
        })))
    }

    /// Takes bytes into the cache.
    fn take(&self, call: &Call, start: u64, data: &[u8]) -> Result<Answer<usize>, Error> {
        let len = data.len();
        let from = call.origin();
        self.open.disk.note(from, "call step=1", || format!("write {len} at {start}"));
        if raw::is_durable(&self.open.disk, call) {
            let (cached, data) = (Arc::clone(self.cached()), data.to_vec());
            return Ok(Answer::Later(Box::new(move |interrupt| {
                cached.write_through(from, start, &data, interrupt)?;
                Ok(len)
            })));
        }
        let taken = self.cached().write(from, start, data)?;
        if taken == len {
            return Ok(Answer::Now(len));
        }
        let (cached, rest) = (Arc::clone(self.cached()), data[taken..].to_vec());
        Ok(Answer::Later(Box::new(move |interrupt| {
            let more = cached.write_wait(from, start + taken as u64, &rest, interrupt);
            // What was taken counts, also where the rest was not: the next call tells why.
            if taken > 0 { Ok(taken + more.unwrap_or(0)) } else { more }
        })))
    }
}

impl FileOps for BlockFile {
    fn kind(&self) -> &'static str {
        "block"
    }

    fn nature(&self) -> Nature {
        if self.open.disk.pages.is_some() {
            return Nature { keeps_cache: true, ..Nature::default() };
        }
        Nature { is_direct: true, has_parallel_writes: true, ..Nature::default() }
    }

    fn shown(&self, ino: u64, host: &Arc<dyn Forget>) {
        if let Some(pages) = &self.open.disk.pages {
            let window = self.open.window;
            pages.show(ino, self.open.part, window.start, window.len, host);
        }
    }

    fn read(
        &self,
        call: &Call,
        at: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Answer<usize, Vec<u8>>, Error> {
        let is_direct = call.flags & O_DIRECT != 0;
        if is_direct {
            raw::aligned(&self.open.disk, at, buf.len())?;
        }
        let len = self.open.window.clip(at, buf.len());
        let start = self.open.window.start + at;
        if len == 0 {
            return Ok(Answer::Now(0));
        }
        if is_direct {
            let whole = buf.len();
            buf.truncate(len);
            let answer = self.direct_read(call, start, buf);
            if !matches!(answer, Ok(Answer::Later(_))) {
                buf.resize(whole, 0);
            }
            return answer;
        }
        let from = call.origin();
        self.open.disk.note(from, "call step=1", || format!("read {len} at {start}"));
        if self.cached().read(from, start, &mut buf[..len])? {
            self.open.disk.note(from, "return step=10", || format!("{len} bytes"));
            return Ok(Answer::Now(len));
        }
        let disk = Arc::clone(&self.open.disk);
        Ok(Answer::Later(Box::new(move |interrupt| {
            let mut memory = vec![0; len];
            disk.cached.read_wait(from, start, &mut memory, interrupt)?;
            disk.note(from, "return step=10", || format!("{len} bytes"));
            Ok(memory)
        })))
    }

    fn lend(&self, call: &Call, at: u64, len: usize) -> Option<Vec<Lent>> {
        let len = self.open.window.clip(at, len);
        if call.flags & O_DIRECT != 0 || len == 0 {
            return None;
        }
        let (from, start) = (call.origin(), self.open.window.start + at);
        if !self.cached().holds(start, len) {
            return None;
        }
        self.open.disk.note(from, "call step=1", || format!("read {len} at {start}"));
        let lent = self.cached().lend(from, start, len).ok()??;
        self.open.disk.note(from, "return step=10", || format!("{len} bytes lent"));
        Some(lent)
    }

    fn write(&self, call: &Call, at: u64, data: &[u8]) -> Result<Answer<usize>, Error> {
        self.open.disk.check_unprotected()?;
        let is_direct = call.flags & O_DIRECT != 0;
        if is_direct {
            raw::aligned(&self.open.disk, at, data.len())?;
        }
        let len = self.open.window.clip_write(&self.open.disk.name, at, data.len())?;
        let start = self.open.window.start + at;
        self.open.note_write(start, len as u64);
        let range = start..start + len as u64;
        if is_direct {
            let written = self.direct_write(call, start, &data[..len]);
            return self.open.disk.and_forget(range, None, written);
        }
        let written = self.take(call, start, &data[..len]);
        self.open.disk.and_forget(range, Some(self.open.part), written)
    }

    fn sync(&self, _call: &Call, _kind: SyncKind) -> Result<Answer<()>, Error> {
        if !self.cached().has_unsynced() {
            return self.errors.take().map(Answer::Now);
        }
        let (cached, range, errors) =
            (Arc::clone(self.cached()), self.range(), Arc::clone(&self.errors));
        Ok(Answer::Later(Box::new(move |interrupt| {
            errors.after(cached.sync(Some(range), interrupt))
        })))
    }
    fn flush(&self, _call: &Call) -> Result<Answer<()>, Error> {
        let told = self.errors.take();
        self.open.reread_if_touched()?.map(|read| told.and(read))
    }

    fn release(&self) {
        if let Some(passage) = &self.open.disk.passage {
            passage.leave_block();
        }
        self.open.close();
    }

    fn ioctl(&self, call: &Call, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
        ioctl::disk(&self.open, call, ioctl)
    }

    fn allocate(&self, call: &Call, mode: i32, at: u64, len: u64) -> Result<Answer<()>, Error> {
        self.open.allocate(call.origin(), mode, at, len)
    }

    fn seek(&self, at: u64, which: Seek) -> Result<Answer<u64>, Error> {
        if !self.cached().is_dirty(self.range()) {
            return self.open.disk.seek(self.open.window, at, which).map(Answer::Now);
        }
        // What is dirty has no place on the medium yet, and so would pass for a hole.
        let (disk, window, range) = (Arc::clone(&self.open.disk), self.open.window, self.range());
        Ok(Answer::Later(Box::new(move |interrupt| {
            disk.cached.flush_range(range, interrupt)?;
            disk.seek(window, at, which)
        })))
    }
}

#[cfg(test)]
mod tests;
