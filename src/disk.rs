//! A disk as the kernel half sees it: its unit, its cache, its partitions, who has it open.

use crate::cache::CachedDevice;
use crate::error::{Errno, Error};
use crate::file::{Answer, Seek};
use crate::holders::Claim;
use crate::own::Told;
use crate::pages::HostPages;
use crate::partition::{self, Partition};
use crate::passage::Passage;
use crate::sync::{Arc, Mutex, RwLock};
use devices::engine::Engine;
use devices::machine::Machine;
use devices::trace::Trace;
use devices::{BlockDevice, Geometry, Interrupt, Origin, PropertyError, SECTOR_SIZE, Sector};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The part of a disk that a node shows, in bytes from the start of the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First byte.
    pub start: u64,
    /// How many.
    pub len: u64,
}

impl Window {
    /// How much of `len` bytes at `at` lies inside.
    #[must_use]
    pub fn clip(self, at: u64, len: usize) -> usize {
        let room = self.len.saturating_sub(at);
        usize::try_from(room).map_or(len, |room| room.min(len))
    }

    /// The same for a write, which may not begin at the end.
    ///
    /// # Errors
    /// `ENOSPC` at or past the end.
    pub fn clip_write(self, name: &str, at: u64, len: usize) -> Result<usize, Error> {
        match self.clip(at, len) {
            0 if len > 0 => {
                let words = format!("{name}: a write at {at}, past the end at {}", self.len);
                Err(Error::new(Errno::ENOSPC, words))
            }
            len => Ok(len),
        }
    }
}

/// How a disk works, as far as a command block may choose (MODE SELECT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Further tries after a failure that may pass.
    pub retries: u32,
    /// A write may wait in the cache; else it is on the medium when it returns.
    pub is_write_back: bool,
    /// The cache reads ahead of a sequential reader.
    pub reads_ahead: bool,
}

/// Called when the partitions of a disk were read again: the nodes follow.
pub type OnRescan = Box<dyn Fn(&Disk) + Send + Sync>;

/// What a reading of the table found.
#[derive(Default)]
struct Found {
    /// Which reading.
    reading: u64,
    partitions: Vec<Partition>,
}

/// See the head of this file.
pub struct Disk {
    /// Name of its node: `sd0`.
    pub name: String,
    /// Its unit of the block switch.
    pub unit: Arc<dyn BlockDevice>,
    /// Its blocks in the cache; every partition shares them.
    pub cached: Arc<CachedDevice>,
    /// The machine's engine: who waits for the unit turns it.
    pub engine: Arc<Engine>,
    /// What the host's page cache keeps of it; `None` without `host_cache`.
    pub pages: Option<HostPages>,
    /// Its image, where `passthrough` leads; `None` without.
    pub passage: Option<Passage>,
    trace: Arc<Trace>,
    /// Partitions it may have: 15, or none for a unit of one minor.
    pub partitions_max: u32,
    partitions: RwLock<Found>,
    /// Counts the readings of the table that were begun.
    readings: AtomicU64,
    on_rescan: RwLock<Option<OnRescan>>,
    /// Protected by command (`BLKROSET`), whatever the medium says.
    is_protected: AtomicBool,
    /// The last command block, where it was refused, and the unit's commands so far.
    told: Mutex<Option<(u64, Told)>>,
    /// How it worked at power-on, and how far it read ahead.
    at_power_on: (Modes, u64),
}

impl Disk {
    /// A disk without partitions; [`Disk::rescan`] finds them.
    #[must_use]
    pub fn new(
        name: &str,
        unit: Arc<dyn BlockDevice>,
        cached: Arc<CachedDevice>,
        machine: &Machine,
        partitions_max: u32,
    ) -> Disk {
        let at_power_on = (modes(&*unit, &cached), cached.read_ahead_max());
        Disk {
            at_power_on,
            name: name.to_owned(),
            unit,
            cached,
            engine: Arc::clone(&machine.engine),
            pages: None,
            passage: None,
            trace: Arc::clone(&machine.trace),
            partitions_max,
            partitions: RwLock::default(),
            readings: AtomicU64::new(0),
            on_rescan: RwLock::new(None),
            is_protected: AtomicBool::new(false),
            told: Mutex::new(None),
        }
    }

    /// Why the last command block was refused; `None` when it was not, or the unit has obeyed a
    /// command since.
    #[must_use]
    pub fn told(&self) -> Option<Told> {
        let (commands, told) = (*self.told.lock())?;
        (commands == self.unit.counters().commands).then_some(told)
    }

    /// Keeps why a command block was refused; `None`: it was not.
    pub fn tell(&self, why: Option<Told>) {
        let commands = self.unit.counters().commands;
        *self.told.lock() = why.map(|told| (commands, told));
    }

    /// How it works now.
    #[must_use]
    pub fn modes(&self) -> Modes {
        modes(&*self.unit, &self.cached)
    }

    /// How it worked at power-on.
    #[must_use]
    pub fn default_modes(&self) -> Modes {
        self.at_power_on.0
    }

    /// Has it work otherwise from now on; what is dirty already waits for a sync.
    ///
    /// # Errors
    /// The unit's, of a number of tries that it does not know; nothing has changed then.
    pub fn set_modes(&self, wanted: Modes) -> Result<(), PropertyError> {
        let now = self.modes();
        if wanted.retries != now.retries {
            self.unit.set_property("retries", &wanted.retries.to_string())?;
        }
        if wanted.is_write_back != now.is_write_back {
            self.cached.set_synchronous(!wanted.is_write_back);
        }
        if wanted.reads_ahead != now.reads_ahead {
            let bytes = if wanted.reads_ahead { self.at_power_on.1 } else { 0 };
            self.cached.set_read_ahead_max(bytes);
        }
        Ok(())
    }

    /// Notes what a system call does here.
    pub fn note(&self, origin: Origin, event: &'static str, detail: impl FnOnce() -> String) {
        self.trace.note(origin, "spec", event, || format!("{} {}", self.name, detail()));
    }

    /// Size and nature.
    ///
    /// # Errors
    /// `ENXIO` when the unit is absent.
    pub fn geometry(&self) -> Result<Geometry, Error> {
        self.unit.geometry().map_err(|error| Error::device(&self.name, error.into()))
    }

    /// Protects the disk, or lets it be written again as far as its medium may.
    pub fn protect(&self, is_protected: bool) {
        self.is_protected.store(is_protected, Ordering::Release);
    }

    /// Whether writes are refused: by the medium, or by command.
    ///
    /// # Errors
    /// `ENOMEDIUM`, or the unit's own.
    pub fn is_read_only(&self) -> Result<bool, Error> {
        Ok(self.is_protected.load(Ordering::Acquire) || self.geometry()?.read_only)
    }

    /// At an open for writing: that neither medium nor command is against it.
    ///
    /// # Errors
    /// `EROFS`; as [`is_read_only`](Disk::is_read_only).
    pub fn check_writable(&self) -> Result<(), Error> {
        if self.is_read_only()? { Err(self.protected("the medium is read-only")) } else { Ok(()) }
    }

    /// At a write to a file that is open: that no command has protected the disk since.
    ///
    /// # Errors
    /// `EROFS`.
    pub fn check_unprotected(&self) -> Result<(), Error> {
        let is_protected = self.is_protected.load(Ordering::Acquire);
        if is_protected { Err(self.protected("protected by BLKROSET")) } else { Ok(()) }
    }

    fn protected(&self, why: &str) -> Error {
        Error::new(Errno::EROFS, format!("{}: {why}", self.name))
    }

    /// What the node of partition `part` shows; 0 is the whole disk.
    #[must_use]
    pub fn window(&self, part: u32) -> Option<Window> {
        if part == 0 {
            return Some(Window { start: 0, len: self.unit.geometry().ok()?.bytes() });
        }
        let last = self.partitions.read();
        let found = last.partitions.iter().find(|partition| partition.number == part)?;
        let sector = SECTOR_SIZE as u64;
        Some(Window { start: found.start_sector * sector, len: found.sectors * sector })
    }

    /// The partitions found last.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        self.partitions.read().partitions.clone()
    }

    /// Who is told when the partitions were read again.
    pub fn set_on_rescan(&self, hook: OnRescan) {
        *self.on_rescan.write() = Some(hook);
    }

    /// Reads the partition table again, through the cache, and tells who follows it. An open
    /// partition keeps the range it had. Of several at once the one begun last counts.
    ///
    /// # Errors
    /// The device's; the partitions stay as they were.
    pub fn rescan(&self, interrupt: &Interrupt) -> Result<(), Error> {
        if self.partitions_max == 0 {
            return Ok(());
        }
        let reading = self.readings.fetch_add(1, Ordering::AcqRel) + 1;
        let source = TableSource { disk: self, interrupt };
        let geometry = self.geometry()?;
        let mut found = partition::read(&source, geometry.bytes(), geometry.sector_bytes)?;
        found.retain(|partition| partition.number <= self.partitions_max);
        log::info!(target: "spec", "{}: {} partitions", self.name, found.len());
        {
            let mut last = self.partitions.write();
            if last.reading > reading {
                return Ok(()); // somebody read it after us, and tells
            }
            *last = Found { reading, partitions: found };
        }
        if let Some(pages) = &self.pages {
            // Its nodes may show other bytes now.
            pages.changed_through(u32::MAX, &(0..geometry.bytes()));
        }
        if let Some(hook) = &*self.on_rescan.read() {
            hook(self);
        }
        Ok(())
    }

    /// Has the host forget what it keeps of a range, once `answer`, which changes it, is there:
    /// before it is given, where the range was changed past the host's pages; soon after, where
    /// it was written `through` those of a part.
    ///
    /// # Errors
    /// Those of the answer.
    pub fn and_forget<T: Send + 'static>(
        self: &Arc<Self>,
        range: Range<u64>,
        through: Option<u32>,
        answer: Result<Answer<T>, Error>,
    ) -> Result<Answer<T>, Error> {
        let Some(pages) = &self.pages else { return answer };
        if let (Ok(Answer::Now(_)), Some(part)) = (&answer, through) {
            pages.changed_through(part, &range);
            return answer;
        }
        let disk = Arc::clone(self);
        Ok(Answer::Later(Box::new(move |interrupt| {
            let result = answer.and_then(|answer| answer.finish(interrupt));
            // A change that failed may have happened in part.
            match (&disk.pages, through) {
                (Some(pages), Some(part)) => pages.changed_through(part, &range),
                (Some(pages), None) => pages.changed(&range),
                (None, _) => {}
            }
            result
        })))
    }

    /// Why nothing may be broken on purpose on this disk; `None`: it may.
    #[must_use]
    pub fn spares_faults(&self) -> Option<&'static str> {
        match (&self.pages, &self.passage) {
            (Some(_), _) => Some("host_cache: its blocks are also read from the host's pages"),
            (_, Some(_)) => Some("passthrough: its raw node is read and written by the host"),
            _ => None,
        }
    }

    /// fallocate(2) on a disk: punching a hole discards, zeroing a range zeroes; there is nothing
    /// to allocate.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for other modes, `EINVAL` off the sector or past the end, the device's.
    pub fn allocate(
        self: &Arc<Self>,
        window: Window,
        from: Origin,
        mode: i32,
        at: u64,
        len: u64,
    ) -> Result<Answer<()>, Error> {
        // linux/falloc.h
        const KEEP_SIZE: i32 = 0x01;
        const PUNCH_HOLE: i32 = 0x02;
        const ZERO_RANGE: i32 = 0x10;
        match mode & !KEEP_SIZE {
            PUNCH_HOLE => self.clear(window, from, Clearing::Discard, at, len),
            ZERO_RANGE => self.clear(window, from, Clearing::Zero, at, len),
            _ => Err(Error::plain(Errno::EOPNOTSUPP)),
        }
    }

    /// Discards or zeroes a range of the node, in the cache and on the medium.
    ///
    /// # Errors
    /// `EINVAL` off the sector or past the end, `EROFS`, the device's.
    pub fn clear(
        self: &Arc<Self>,
        window: Window,
        from: Origin,
        how: Clearing,
        at: u64,
        len: u64,
    ) -> Result<Answer<()>, Error> {
        self.check_unprotected()?;
        let sector = u64::from(self.geometry()?.sector_bytes);
        let is_inside = at.checked_add(len).is_some_and(|end| end <= window.len);
        if !is_inside || !at.is_multiple_of(sector) || !len.is_multiple_of(sector) {
            let words = format!("{}: {len} bytes at {at}: off the sector or the end", self.name);
            return Err(Error::new(Errno::EINVAL, words));
        }
        let range = window.start + at..window.start + at + len;
        let (cached, all) = (Arc::clone(&self.cached), range.clone());
        let cleared: Answer<()> = Answer::Later(Box::new(move |interrupt| match how {
            Clearing::Discard => cached.discard(from, all, interrupt),
            Clearing::Zero => cached.zero(from, all, interrupt),
        }));
        self.and_forget(range, None, Ok(cleared))
    }

    /// `SEEK_DATA` and `SEEK_HOLE` on the medium, in bytes of the node.
    ///
    /// # Errors
    /// `ENXIO` past the end, or when no data follows.
    pub fn seek(&self, window: Window, at: u64, which: Seek) -> Result<u64, Error> {
        if at >= window.len {
            return Err(Error::plain(Errno::ENXIO));
        }
        let sector = SECTOR_SIZE as u64;
        let mut from = window.start + at;
        let end = window.start + window.len;
        loop {
            let run = self.unit.stored_from(Sector(from / sector));
            let run = run.map(|(first, last)| (first.byte(), last.byte()));
            let found = match (which, run) {
                (Seek::Data, Some((first, _))) => first.max(from),
                (Seek::Data, None) => end,
                (Seek::Hole, Some((first, last))) if first <= from && last < end => {
                    from = last;
                    continue;
                }
                (Seek::Hole, Some((first, _))) if first <= from => end,
                (Seek::Hole, _) => from,
            };
            return match which {
                Seek::Data if found >= end => Err(Error::plain(Errno::ENXIO)),
                _ => Ok(found.min(end) - window.start),
            };
        }
    }
}

fn modes(unit: &dyn BlockDevice, cached: &CachedDevice) -> Modes {
    let properties = unit.properties();
    let retries = properties.iter().find(|(name, _)| *name == "retries");
    Modes {
        retries: retries.and_then(|(_, value)| value.parse().ok()).unwrap_or(0),
        is_write_back: !cached.is_synchronous(),
        reads_ahead: cached.read_ahead_max() > 0,
    }
}

/// What every open file of a disk, its partition or its raw twin has in hand.
pub struct Opening {
    /// The disk.
    pub disk: Arc<Disk>,
    /// The part of it that the file shows.
    pub window: Window,
    /// The number of that part: 0 is the whole disk.
    pub part: u32,
    /// It has changed what may be the partition table, and the table was not read since.
    has_touched_table: Arc<AtomicBool>,
    /// Its claim on the unit.
    pub claim: Claim,
}

impl Opening {
    /// A file just opened, with its claim on the unit.
    #[must_use]
    pub fn new(disk: Arc<Disk>, window: Window, part: u32, claim: Claim) -> Opening {
        Opening { disk, window, part, has_touched_table: Arc::default(), claim }
    }

    /// At the last close: the unit is free of this file.
    pub fn close(&self) {
        self.claim.give_up();
    }

    /// Notes that `len` bytes at `at` of the unit change through this file.
    pub fn note_write(&self, at: u64, len: u64) {
        if self.window.start == 0 && partition::touches_table(at, len, self.window.len) {
            self.has_touched_table.store(true, Ordering::Release);
        }
    }

    /// At a close: reads the table again if this file changed it.
    ///
    /// # Errors
    /// The device's; the next close tries again.
    pub fn reread_if_touched(&self) -> Result<Answer<()>, Error> {
        if !self.has_touched_table.swap(false, Ordering::AcqRel) {
            return Ok(Answer::Now(()));
        }
        let (disk, touched) = (Arc::clone(&self.disk), Arc::clone(&self.has_touched_table));
        Ok(Answer::Later(Box::new(move |interrupt| {
            disk.rescan(interrupt).inspect_err(|_| touched.store(true, Ordering::Release))
        })))
    }

    /// fallocate(2): see [`Disk::allocate`].
    ///
    /// # Errors
    /// Its own.
    pub fn allocate(
        &self,
        from: Origin,
        mode: i32,
        at: u64,
        len: u64,
    ) -> Result<Answer<()>, Error> {
        self.note_write(self.window.start.saturating_add(at), len);
        self.disk.allocate(self.window, from, mode, at, len)
    }
}

/// How a range is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clearing {
    /// Its room is given back.
    Discard,
    /// Its room is kept.
    Zero,
}

struct TableSource<'a> {
    disk: &'a Disk,
    interrupt: &'a Interrupt,
}

impl partition::ReadAt for TableSource<'_> {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.disk.cached.read_wait(Origin::KERNEL, at, buf, self.interrupt)
    }
}
