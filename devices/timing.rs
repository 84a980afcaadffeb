//! How long hardware takes: timing models, from what the mechanism did last, the time, and what is
//! asked.
//!
//! A model waits for nothing and asks no clock: the same questions at the same times get the same
//! answers, in real and in virtual time. Sectors are of 512 bytes.
//!
//! `disk7200` is the Seagate ST32550N (Barracuda 2LP), a disk of 7200 revolutions a minute, after
//! its Product Manual, Volume 1, publication 83328930, Rev. D (January 1996). The geometry is
//! scaled: tracks are as long as the drive's are on average, but there are 2 heads for its 11, and
//! as many cylinders as the described size needs (152 for 16 MiB). The arm crosses the same way in
//! fewer, wider steps, so that seeks over the same part of the disk take the same time.

use crate::contract::{Op, SimTime};

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;

/// What is known about a kind of hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Takes no time.
    None,
    /// A moving arm over a disk that turns; see the head of this file.
    Disk7200,
    /// A 3.5-inch diskette of 1.44 MB.
    Floppy,
    /// A solid-state disk.
    Ssd,
}

/// Their names, as in a description; in the order of [`Model::number`].
pub const NAMES: &[&str] = &["none", "disk7200", "floppy", "ssd"];

const MODELS: [Model; 4] = [Model::None, Model::Disk7200, Model::Floppy, Model::Ssd];

impl Model {
    /// The model of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Model> {
        NAMES.iter().position(|known| *known == name).map(|place| MODELS[place])
    }

    /// Its number in a timing register.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Model::None => 0,
            Model::Disk7200 => 1,
            Model::Floppy => 2,
            Model::Ssd => 3,
        }
    }

    /// The model of that number.
    #[must_use]
    pub fn numbered(number: u32) -> Option<Model> {
        MODELS.into_iter().find(|model| model.number() == number)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Model::None => "none",
            Model::Disk7200 => "disk7200",
            Model::Floppy => "floppy",
            Model::Ssd => "ssd",
        }
    }
}

/// The figures of a thing that turns and has an arm. Times in nanoseconds.
struct Figures {
    revolution: u64,
    sectors_per_track: u64,
    heads: u64,
    /// A seek to the next cylinder, for reading and for writing.
    track_to_track: [u64; 2],
    /// A seek over the whole way, less the former.
    sweep: [u64; 2],
    /// How the time grows with the way: in proportion, or with its root (an arm that speeds up).
    is_stepper: bool,
    settle: u64,
    head_switch: u64,
    /// By how many sectors a track begins later than the one before it.
    skew: u64,
    /// Part of a sector's place on the track that its header and data fill, in thousandths; the
    /// rest is gap, and leaves time to ask for the next.
    filled: u64,
    /// To get up to speed after it stood still, and how long it turns on unasked.
    spin_up: u64,
    spins_on: u64,
    /// Bytes a second out of the track cache; 0: there is none.
    cache_rate: u64,
}

/// Seeks: 0.6 ms (write 0.9 ms) track to track, 8.0 ms (9.0 ms) on average. The arm speeds up
/// half-way and slows down, so time grows with the root of the way; the mean of the root over
/// random pairs is 8/15, which gives the whole sweep. A head switch settles as a seek to the next
/// track does; the skew covers the longer. 10 Mbyte/s is the drive's synchronous SCSI bus.
const DISK_7200: Figures = Figures {
    revolution: 60_000 * MILLI / 7200,
    sectors_per_track: 108,
    heads: 2,
    track_to_track: [600 * MICRO, 900 * MICRO],
    sweep: [(8_000 - 600) * MICRO * 15 / 8, (9_000 - 900) * MICRO * 15 / 8],
    is_stepper: false,
    settle: 0,
    head_switch: 900 * MICRO,
    skew: 12,
    filled: 1000,
    spin_up: 0,
    spins_on: u64::MAX,
    cache_rate: 10_000_000,
};

/// 300 revolutions a minute, 500 kbit/s, 80 cylinders of 2 heads and 18 sectors: the IBM format
/// of 1.44 MB. 3 ms a step, 15 ms to settle, 400 ms for the motor: TEAC FD-235HF specification.
/// Of a sector's 694 bytes on the track about 574 are header and data, the rest is gap. The motor
/// is left on for 3 s, as PC BIOS and Linux do.
const DISKETTE: Figures = Figures {
    revolution: 200 * MILLI,
    sectors_per_track: 18,
    heads: 2,
    track_to_track: [3 * MILLI; 2],
    sweep: [78 * 3 * MILLI; 2],
    is_stepper: true,
    settle: 15 * MILLI,
    head_switch: 0,
    skew: 0,
    filled: 827,
    spin_up: 400 * MILLI,
    spins_on: 3_000 * MILLI,
    cache_rate: 0,
};

/// Intel SSD DC S3700, product specification: 50 us a read, 65 us a write, 500 and 460 MB/s.
const SSD_READ: (u64, u64) = (50 * MICRO, 500_000_000);
const SSD_WRITE: (u64, u64) = (65 * MICRO, 460_000_000);

/// What is asked of the mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// What.
    pub op: Op,
    /// First sector.
    pub sector: u64,
    /// How many; 0 for a flush.
    pub sectors: u64,
}

/// One mechanism: where it stands, and what it has done.
#[derive(Clone, Debug)]
pub struct Mechanism {
    model: Model,
    cylinders: u64,
    cylinder: u64,
    track: u64,
    /// Sector after the last one accessed.
    at: u64,
    turns_until: SimTime,
    cached: Option<Cached>,
    /// Cylinders the arm has crossed.
    pub travel: u64,
    /// Accesses that went to the medium.
    pub media_accesses: u64,
    /// Reads served from the track cache.
    pub cache_hits: u64,
}

/// The part of a track that the drive has read, or is reading, into its buffer.
#[derive(Clone, Copy, Debug)]
struct Cached {
    from: u64,
    /// The sectors before this one were there at `since`; after it one comes in each sector time.
    read: u64,
    end: u64,
    since: SimTime,
}

impl Mechanism {
    /// A mechanism of that kind with so many sectors, its arm at the first.
    #[must_use]
    pub fn new(model: Model, sectors: u64) -> Mechanism {
        let per_cylinder = figures(model).map_or(1, |f| f.sectors_per_track * f.heads);
        Mechanism {
            model,
            cylinders: sectors.div_ceil(per_cylinder).max(1),
            cylinder: 0,
            track: 0,
            at: 0,
            turns_until: SimTime(0),
            cached: None,
            travel: 0,
            media_accesses: 0,
            cache_hits: 0,
        }
    }

    /// Its model.
    #[must_use]
    pub fn model(&self) -> Model {
        self.model
    }

    /// Sector after the last one accessed: where the arm stands.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Does what is asked from `now` on, and says how many nanoseconds it takes.
    pub fn serve(&mut self, now: SimTime, access: Access) -> u64 {
        let Access { op, sector, sectors } = access;
        let nanos = match (figures(self.model), op) {
            (None, op) => {
                self.media_accesses += u64::from(op != Op::Flush);
                if self.model == Model::Ssd { solid_state(op, sectors) } else { 0 }
            }
            // Neither drive keeps writes back, so that a flush finds nothing to do.
            (Some(_), Op::Flush) => 0,
            (Some(f), Op::Read) => match self.cache_read(f, now, access) {
                Some(nanos) => nanos,
                None => self.turn(f, now, access),
            },
            // What is discarded is noted on the medium, at the place where it was.
            (Some(f), Op::Discard) => self.turn(f, now, Access { op, sector, sectors: 1 }),
            (Some(f), Op::Write | Op::Zero) => self.turn(f, now, access),
        };
        if op != Op::Flush {
            self.at = sector.saturating_add(sectors);
        }
        nanos
    }

    /// From the track cache, if all of it is there or on its way.
    fn cache_read(&mut self, f: &Figures, now: SimTime, access: Access) -> Option<u64> {
        let cached = self.cached?;
        let end = access.sector.saturating_add(access.sectors);
        if f.cache_rate == 0 || access.sector < cached.from || end > cached.end {
            return None;
        }
        let comes_in = cached.since.after(end.saturating_sub(cached.read) * f.sector_time());
        self.cache_hits += 1;
        Some(comes_in.since(now) + access.sectors * 512 * 1_000 * MILLI / f.cache_rate)
    }

    /// From or to the medium: arm, head, rotation and transfer, track by track.
    fn turn(&mut self, f: &Figures, now: SimTime, access: Access) -> u64 {
        let writes = usize::from(access.op != Op::Read);
        let mut time = now;
        if self.turns_until < now || (self.turns_until == SimTime(0) && f.spin_up > 0) {
            time = time.after(f.spin_up);
        }
        self.media_accesses += 1;
        self.stop_reading_ahead(f, now, access);
        let (mut sector, end) = (access.sector, access.sector.saturating_add(access.sectors));
        while sector < end {
            let track = sector / f.sectors_per_track;
            let part = ((track + 1) * f.sectors_per_track).min(end) - sector;
            time = time.after(self.move_to(f, track, writes));
            time = time.after(f.until_under_head(time, sector));
            sector += part;
            // The gap behind the last sector need not pass by.
            let gap = if sector == end { f.sector_time() * (1000 - f.filled) / 1000 } else { 0 };
            time = time.after(part * f.sector_time() - gap);
        }
        if access.op == Op::Read && f.cache_rate > 0 && end > access.sector {
            let track_end = end.next_multiple_of(f.sectors_per_track);
            let from = access.sector.max(track_end - f.sectors_per_track);
            self.cached = Some(Cached { from, read: end, end: track_end, since: time });
        }
        self.turns_until = time.after(f.spins_on);
        time.since(now)
    }

    /// What the drive was reading ahead ends here, and what is overwritten is forgotten.
    fn stop_reading_ahead(&mut self, f: &Figures, now: SimTime, access: Access) {
        let Some(mut cached) = self.cached.take() else { return };
        let came_in = now.since(cached.since) / f.sector_time();
        cached.end = cached.end.min(cached.read.saturating_add(came_in));
        let overlap = access.sector < cached.end && cached.from < access.sector + access.sectors;
        if !overlap && cached.from < cached.end {
            self.cached = Some(cached);
        }
    }

    /// Brings arm and head to a track.
    fn move_to(&mut self, f: &Figures, track: u64, writes: usize) -> u64 {
        let cylinder = track / f.heads;
        let way = cylinder.abs_diff(self.cylinder);
        let nanos = match (way, track == self.track) {
            (0, true) => 0,
            (0, false) => f.head_switch,
            _ => f.seek(way, self.cylinders, writes),
        };
        (self.cylinder, self.track) = (cylinder, track);
        self.travel += way;
        nanos
    }
}

impl Figures {
    fn sector_time(&self) -> u64 {
        self.revolution / self.sectors_per_track
    }

    /// A seek over `way` of `cylinders`, at least one.
    fn seek(&self, way: u64, cylinders: u64, writes: usize) -> u64 {
        let (way, whole) = (u128::from(way - 1), u128::from(cylinders.saturating_sub(2).max(1)));
        // The part of the whole way, or its root, in parts of 2^20.
        let part = match self.is_stepper {
            true => (way << 20) / whole,
            false => ((way << 40) / whole).isqrt(),
        };
        let sweep = (u128::from(self.sweep[writes]) * part) >> 20;
        let sweep = u64::try_from(sweep).unwrap_or(u64::MAX).min(self.sweep[writes]);
        self.track_to_track[writes] + sweep + self.settle
    }

    /// How long until `sector` begins to pass under the head.
    fn until_under_head(&self, now: SimTime, sector: u64) -> u64 {
        let track = sector / self.sectors_per_track;
        let place = (sector + track % self.sectors_per_track * self.skew) % self.sectors_per_track;
        let angle = place * self.sector_time();
        (angle + self.revolution - now.0 % self.revolution) % self.revolution
    }
}

fn figures(model: Model) -> Option<&'static Figures> {
    match model {
        Model::None | Model::Ssd => None,
        Model::Disk7200 => Some(&DISK_7200),
        Model::Floppy => Some(&DISKETTE),
    }
}

fn solid_state(op: Op, sectors: u64) -> u64 {
    let (fixed, rate) = if op == Op::Read { SSD_READ } else { SSD_WRITE };
    let bytes = if matches!(op, Op::Read | Op::Write) { sectors * 512 } else { 0 };
    fixed + bytes * 1_000 * MILLI / rate
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB16: u64 = 32768;

    fn read(sector: u64, sectors: u64) -> Access {
        Access { op: Op::Read, sector, sectors }
    }

    /// Numbers that look random, the same every time.
    fn scattered(n: u64, below: u64) -> impl Iterator<Item = u64> {
        (0..n)
            .map(move |i| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20)
            .map(move |x| x % below)
    }

    /// Mean service time of reads that come one after another, in microseconds.
    fn mean(model: Model, op: Op, below: u64, sectors: u64) -> u64 {
        let (mut disk, mut now, n) = (Mechanism::new(model, below), SimTime(0), 2000);
        for sector in scattered(n, below / sectors) {
            now = now.after(disk.serve(now, Access { op, sector: sector * sectors, sectors }));
        }
        now.0 / n / 1000
    }

    #[test]
    fn names_and_numbers_name_the_same_models() {
        for (number, name) in (0..).zip(NAMES) {
            let model = Model::named(name).unwrap();
            assert_eq!((model.number(), model.name()), (number, *name));
            assert_eq!(Model::numbered(number), Some(model));
        }
        assert_eq!((Model::named("drum"), Model::numbered(4)), (None, None));
    }

    #[test]
    fn random_reads_take_the_drives_average_seek_and_half_a_turn() {
        // 8.0 ms + 4.17 ms + 8 sectors of 77 us.
        let micros = mean(Model::Disk7200, Op::Read, MIB16, 8);
        assert!((12_000..13_600).contains(&micros), "{micros} us");
        let written = mean(Model::Disk7200, Op::Write, MIB16, 8);
        assert!((13_000..14_600).contains(&written), "{written} us");
    }

    #[test]
    fn seeks_go_from_track_to_track_time_to_the_whole_sweep() {
        assert_eq!(DISK_7200.seek(1, 152, 0), 600 * MICRO);
        assert_eq!(DISK_7200.seek(1, 152, 1), 900 * MICRO);
        let whole = DISK_7200.seek(151, 152, 0);
        assert!((14_400 * MICRO..14_500 * MICRO).contains(&whole), "{whole}");
        let seeks = (1..152).map(|way| DISK_7200.seek(way, 152, 0)).collect::<Vec<_>>();
        assert!(seeks.is_sorted());
        assert_eq!(DISKETTE.seek(1, 80, 0), 18 * MILLI);
        let whole = DISKETTE.seek(79, 80, 0);
        assert!((251 * MILLI..=252 * MILLI).contains(&whole), "{whole}");
    }

    #[test]
    fn a_long_read_goes_at_the_rate_of_the_track() {
        let mut disk = Mechanism::new(Model::Disk7200, MIB16);
        let nanos = disk.serve(SimTime(0), read(0, 2048));
        // 108 sectors a turn would be 6.6 MB/s; a head switch costs the skew, 12 sectors of 108.
        let rate = 2048 * 512 * 1000 / (nanos / MICRO);
        assert!((5_700..6_200).contains(&rate), "{rate} kB/s");
        assert_eq!(disk.travel, 9);
    }

    #[test]
    fn the_track_cache_serves_what_follows() {
        let mut disk = Mechanism::new(Model::Disk7200, MIB16);
        let mut now = SimTime(0);
        for sector in 0..256 {
            now = now.after(disk.serve(now, read(sector, 1)));
        }
        assert!(disk.media_accesses <= 4, "{}", disk.media_accesses);
        assert_eq!(disk.media_accesses + disk.cache_hits, 256);
        let mut disk = Mechanism::new(Model::Disk7200, MIB16);
        let mut order = (0..256).collect::<Vec<u64>>();
        order.sort_by_key(|sector| (sector + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for sector in order {
            now = now.after(disk.serve(now, read(sector, 1)));
        }
        assert!(disk.media_accesses > 200, "{}", disk.media_accesses);
    }

    #[test]
    fn a_write_drops_what_it_overwrites_from_the_cache() {
        let mut disk = Mechanism::new(Model::Disk7200, MIB16);
        let mut now = SimTime(0).after(disk.serve(SimTime(0), read(0, 1)));
        now = now.after(disk.serve(now.after(20 * MILLI), read(50, 1)));
        assert_eq!(disk.cache_hits, 1);
        let write = Access { op: Op::Write, sector: 50, sectors: 1 };
        now = now.after(disk.serve(now, write));
        disk.serve(now, read(50, 1));
        assert_eq!((disk.cache_hits, disk.media_accesses), (1, 3));
    }

    #[test]
    fn the_angle_is_real() {
        let mut disk = Mechanism::new(Model::Disk7200, MIB16);
        let turn = DISK_7200.revolution;
        let under_head = DISK_7200.sector_time() * 10;
        assert_eq!(disk.serve(SimTime(under_head + turn * 7), read(10, 1)), turn / 108);
        let mut disk = Mechanism::new(Model::Disk7200, MIB16);
        let just_missed = SimTime(under_head + 1);
        assert_eq!(disk.serve(just_missed, read(10, 1)), turn - 1 + turn / 108);
    }

    #[test]
    fn a_diskette_is_read_at_its_real_speed() {
        let mut disk = Mechanism::new(Model::Floppy, 2880);
        let started = disk.serve(SimTime(0), read(0, 1));
        assert!((400 * MILLI..600 * MILLI).contains(&started), "{started}");
        // A track, sector by sector, each asked for 1 ms after the one before.
        let mut now = SimTime(started);
        for sector in 1..36 {
            now = now.after(MILLI);
            now = now.after(disk.serve(now, read(sector, 1)));
        }
        let two_turns = now.0 - started;
        assert!((380 * MILLI..420 * MILLI).contains(&two_turns), "{two_turns}");
        let stepped = disk.serve(now, read(36, 1));
        assert!((18 * MILLI..230 * MILLI).contains(&stepped), "{stepped}");
        assert_eq!(disk.travel, 1);
        let later = now.after(4_000 * MILLI);
        assert!(disk.serve(later, read(37, 1)) >= 400 * MILLI);
    }

    #[test]
    fn a_solid_state_disk_has_no_arm() {
        assert_eq!(mean(Model::Ssd, Op::Read, 1 << 20, 8), 58);
        assert_eq!(mean(Model::Ssd, Op::Write, 1 << 20, 8), 73);
        assert_eq!(mean(Model::None, Op::Read, 1 << 20, 8), 0);
        let mut disk = Mechanism::new(Model::Ssd, 1 << 20);
        disk.serve(SimTime(0), read(1 << 19, 1));
        assert_eq!((disk.travel, disk.media_accesses, disk.cache_hits), (0, 1, 0));
    }

    #[test]
    fn sorted_reads_move_the_arm_less() {
        let travel = |sectors: &[u64]| {
            let mut disk = Mechanism::new(Model::Disk7200, MIB16);
            let mut now = SimTime(0);
            for &sector in sectors {
                now = now.after(disk.serve(now, read(sector, 8)));
            }
            disk.travel
        };
        let mut sectors = scattered(200, MIB16 - 8).collect::<Vec<_>>();
        let unsorted = travel(&sectors);
        sectors.sort_unstable();
        assert!(travel(&sectors) * 10 < unsorted);
    }

    #[test]
    fn every_model_takes_any_access_without_overflow() {
        for model in MODELS {
            let mut disk = Mechanism::new(model, 1 << 50);
            for op in [Op::Read, Op::Write, Op::Flush, Op::Discard, Op::Zero] {
                disk.serve(SimTime(1 << 60), Access { op, sector: (1 << 50) - 100, sectors: 100 });
                disk.serve(SimTime(0), Access { op, sector: 0, sectors: 1 });
            }
        }
    }
}
