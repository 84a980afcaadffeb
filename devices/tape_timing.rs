//! How long a tape takes: a model, from where the tape stands and where it is to go.
//!
//! `dlt8000` is the Quantum DLT 8000 after its User's Guide, table B-4 (Timing Specifications), and
//! the table of cartridges below it: DLTtape IV, 541 m, 40 Gbytes native; 4267 mm/s reading and
//! writing, 4445 mm/s rewinding and searching; 37 s to load, 17 s to unload. It records 208 tracks,
//! 4 at a time, in 52 passes to and fro (serpentine), which makes 769 Mbytes a pass and 6.07 MB/s.
//! A tape of `size` bytes is the first that many of such a cartridge. The drive has 8 Mbytes of
//! buffer and adapts to its host: what it loses by stopping has no figure there, and is left out.

/// What is known about a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapeModel {
    /// Takes no time.
    None,
    /// See the head of this file.
    Dlt8000,
}

/// Their names, as in a description; in the order of [`TapeModel::number`].
pub const TAPE_NAMES: &[&str] = &["none", "dlt8000"];

const SECOND: u64 = 1_000_000_000;
const PASS_BYTES: u64 = 40_000_000_000 / 52;
const PASS_MILLIMETRES: u64 = 541_000;
const STREAM_MILLIMETRES: u64 = 4267;
const SEARCH_MILLIMETRES: u64 = 4445;

/// What the drive does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// Reads or writes from one byte of the tape to another.
    Stream {
        /// First byte.
        from: u64,
        /// Byte behind the last.
        to: u64,
    },
    /// Searches from one to another.
    Search {
        /// Where it stands.
        from: u64,
        /// Where it goes.
        to: u64,
    },
    /// Threads the tape and finds its beginning.
    Load,
    /// Rewinds from there and unthreads.
    Unload {
        /// Where it stands.
        from: u64,
    },
}

impl TapeModel {
    /// The model of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<TapeModel> {
        [TapeModel::None, TapeModel::Dlt8000].into_iter().find(|model| model.name() == name)
    }

    /// Its number in a timing register.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            TapeModel::None => 0,
            TapeModel::Dlt8000 => 1,
        }
    }

    /// The model of that number.
    #[must_use]
    pub fn numbered(number: u32) -> Option<TapeModel> {
        [TapeModel::None, TapeModel::Dlt8000].into_iter().find(|model| model.number() == number)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TapeModel::None => "none",
            TapeModel::Dlt8000 => "dlt8000",
        }
    }

    /// How many nanoseconds a motion takes.
    #[must_use]
    pub fn nanos(self, motion: Motion) -> u64 {
        match (self, motion) {
            (TapeModel::None, _) => 0,
            (_, Motion::Stream { from, to }) => {
                let nanos_a_pass = PASS_MILLIMETRES * SECOND / STREAM_MILLIMETRES;
                scaled(to.abs_diff(from), nanos_a_pass, PASS_BYTES)
            }
            (_, Motion::Search { from, to }) => wind(from, to),
            (_, Motion::Load) => 37 * SECOND,
            (_, Motion::Unload { from }) => wind(from, 0) + 17 * SECOND,
        }
    }
}

fn scaled(value: u64, by: u64, per: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(by) / u128::from(per)).unwrap_or(u64::MAX)
}

/// How far from its beginning a byte lies on the tape, in micrometres.
fn micrometres(byte: u64) -> u64 {
    let (pass, along) = (byte / PASS_BYTES, byte % PASS_BYTES);
    let along = if pass % 2 == 0 { along } else { PASS_BYTES - along };
    scaled(along, PASS_MILLIMETRES * 1000, PASS_BYTES)
}

fn wind(from: u64, to: u64) -> u64 {
    let way = micrometres(from).abs_diff(micrometres(to));
    scaled(way, SECOND, SEARCH_MILLIMETRES * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_name_the_same_models() {
        for (number, name) in (0..).zip(TAPE_NAMES) {
            let model = TapeModel::named(name).unwrap();
            assert_eq!((model.number(), model.name()), (number, *name));
            assert_eq!(TapeModel::numbered(number), Some(model));
        }
        assert_eq!((TapeModel::named("reel"), TapeModel::numbered(2)), (None, None));
    }

    #[test]
    fn it_streams_at_the_drives_native_rate() {
        let nanos = TapeModel::Dlt8000.nanos(Motion::Stream { from: 7, to: 60_000_007 });
        let rate = 60_000_000 * 1000 / (nanos / 1_000_000);
        assert!((5_900_000..6_200_000).contains(&rate), "{rate} bytes/s");
    }

    #[test]
    fn a_rewind_takes_two_minutes_at_most_and_one_on_average() {
        let rewind = |from| TapeModel::Dlt8000.nanos(Motion::Search { from, to: 0 }) / SECOND;
        assert!((115..=125).contains(&rewind(PASS_BYTES)), "{}", rewind(PASS_BYTES));
        assert!(rewind(2 * PASS_BYTES) == 0);
        let mean = (0..1000).map(|i| rewind(i * 40_000_000)).sum::<u64>() / 1000;
        assert!((55..=65).contains(&mean), "{mean}");
        assert_eq!(rewind(64 << 20), 10);
    }

    #[test]
    fn without_a_model_nothing_takes_time() {
        for motion in [Motion::Load, Motion::Stream { from: 0, to: 1 << 40 }] {
            assert_eq!(TapeModel::None.nanos(motion), 0);
        }
        assert!(TapeModel::Dlt8000.nanos(Motion::Unload { from: u64::MAX }) >= 17 * SECOND);
    }
}
