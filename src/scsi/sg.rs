//! SG_IO: the structure in the caller's memory that carries a command block, and its answer.
//!
//! `struct sg_io_hdr` of interface version 3 (scsi/sg.h), of 64-bit callers and of 32-bit ones. Its
//! pointers lead into the caller's memory too: to the command block, the data, the sense, and a
//! list of pieces of data where there is one.
//!
//! A command that has not ended when its `timeout` has passed, in machine time, is ended: the host
//! adapter says so (`DID_TIME_OUT`), and nothing else is known of it. What had come into the unit's
//! queue may still be done.

use super::cdb::Command;
use super::sense::Check;
use super::{Outcome, TRANSFER_BYTES_MAX, Unit};
use crate::disk::{Disk, Opening};
use crate::error::{Errno, Error, flags};
use crate::file::{Answer, Call, CallerMemory, IoctlAnswer, IoctlCall, Later};
use crate::own::Told;
use crate::sync::Arc;
use devices::engine::Engine;
use devices::{Clock, Interrupt, SimTime};
use std::sync::atomic::{AtomicBool, Ordering};

/// `SG_EMULATED_HOST`: whether the host adapter is emulated, as an `int`.
const SG_EMULATED_HOST: u32 = 0x2203;
/// `SG_GET_RESERVED_SIZE`: bytes of the longest transfer, as an `int`.
const SG_GET_RESERVED_SIZE: u32 = 0x2272;
/// `SG_GET_VERSION_NUM`: the version of this interface, as an `int`.
const SG_GET_VERSION_NUM: u32 = 0x2282;
/// `SG_IO`: a command block.
const SG_IO: u32 = 0x2285;
/// `SCSI_IOCTL_GET_IDLUN`: target, unit, channel and host in one `int`, and the host again.
const SCSI_IOCTL_GET_IDLUN: u32 = 0x5382;
/// `SCSI_IOCTL_GET_BUS_NUMBER`: the host, as an `int`.
const SCSI_IOCTL_GET_BUS_NUMBER: u32 = 0x5386;

/// The commands of this room: number and name, as in `proc/ioctls`.
pub const COMMANDS: &[(u32, &str)] = &[
    (SG_EMULATED_HOST, "SG_EMULATED_HOST"),
    (SG_GET_RESERVED_SIZE, "SG_GET_RESERVED_SIZE"),
    (SG_GET_VERSION_NUM, "SG_GET_VERSION_NUM"),
    (SG_IO, "SG_IO"),
    (SCSI_IOCTL_GET_IDLUN, "SCSI_IOCTL_GET_IDLUN"),
    (SCSI_IOCTL_GET_BUS_NUMBER, "SCSI_IOCTL_GET_BUS_NUMBER"),
];

/// The version that Linux's block devices tell.
const VERSION: u32 = 30_527;
/// The time of a command that names none, in milliseconds, as Linux's block devices have it.
const TIMEOUT_MILLIS: u32 = 60_000;
/// Longest command block.
const CDB_BYTES_MAX: usize = 32;
/// Most pieces of data.
const PIECES_MAX: usize = 1024;

/// Whether a command is of this room.
#[must_use]
pub fn is_ours(cmd: u32) -> bool {
    COMMANDS.iter().any(|(known, _)| *known == cmd)
}

/// A command of this room, on a disk or its raw twin.
///
/// # Errors
/// `ENOTTY` for a partition, unless the caller is root; `EINVAL` for a structure that makes no
/// sense; `EPERM` for a command that writes on a file not open for it; `EFAULT`; `EINTR`.
pub fn obey(
    open: &Opening,
    call: &Call,
    ioctl: &IoctlCall<'_>,
) -> Result<Answer<IoctlAnswer>, Error> {
    let is_whole = open.window.start == 0 && open.window.len == open.disk.geometry()?.bytes();
    if !is_whole && call.caller.uid != 0 {
        return Err(Error::new(Errno::ENOTTY, "a partition takes no SCSI commands"));
    }
    let number = match ioctl.cmd {
        SG_IO => return Header::fetch(ioctl)?.run(open, call, ioctl),
        SG_GET_VERSION_NUM => VERSION,
        SG_GET_RESERVED_SIZE => u32::try_from(TRANSFER_BYTES_MAX).unwrap_or(u32::MAX),
        _ => 0, // the only host, its only bus, target 0, unit 0; and it is no bridge to another
    };
    let mut data = number.to_ne_bytes().to_vec();
    if ioctl.cmd == SCSI_IOCTL_GET_IDLUN {
        data.extend([0; 4]);
    }
    ioctl.memory.write(ioctl.memory.argument()?, &data)?;
    Ok(Answer::Now((0, Vec::new())))
}

/// Which way data go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    None,
    FromCaller,
    ToCaller,
}

/// Where the members of the structure lie that differ with the size of a pointer.
struct Layout {
    word: usize,
    len: usize,
    /// `dxferp`; `cmdp` and `sbp` follow.
    pointers: usize,
    /// From `status` to the end.
    result: usize,
}

const LAYOUT_64: Layout = Layout { word: 8, len: 88, pointers: 16, result: 64 };
const LAYOUT_32: Layout = Layout { word: 4, len: 64, pointers: 16, result: 44 };

impl Layout {
    fn of(is_32_bit: bool) -> &'static Layout {
        if is_32_bit { &LAYOUT_32 } else { &LAYOUT_64 }
    }

    /// The pointer, or other word, number `which` from byte `at`.
    fn word(&self, bytes: &[u8], at: usize, which: usize) -> u64 {
        let at = at + which * self.word;
        let mut word = [0; 8];
        let Some(found) = bytes.get(at..at + self.word) else { return 0 };
        word[..self.word].copy_from_slice(found);
        u64::from_le_bytes(word)
    }
}

/// What the caller has put into its structure.
struct Header {
    /// Where it is.
    at: u64,
    layout: &'static Layout,
    way: Way,
    cdb: (u64, usize),
    sense: (u64, usize),
    /// Address and length of each piece.
    pieces: Vec<(u64, usize)>,
    len: usize,
    /// How long the command may take, in nanoseconds of machine time.
    nanos: u64,
}

fn invalid(what: &str) -> Error {
    Error::new(Errno::EINVAL, format!("SG_IO: {what}"))
}

fn int(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..at + 4).and_then(|found| found.try_into().ok());
    found.map_or(0, u32::from_ne_bytes)
}

impl Header {
    /// Reads it from the caller's memory.
    fn fetch(ioctl: &IoctlCall<'_>) -> Result<Header, Error> {
        let layout = Layout::of(ioctl.is_32_bit);
        let at = ioctl.memory.argument()?;
        let mut bytes = vec![0; layout.len];
        ioctl.memory.read(at, &mut bytes)?;
        let mut header = Header::parse(at, layout, &bytes)?;
        let list_len = usize::from(u16::from_ne_bytes([bytes[10], bytes[11]]));
        if list_len > 0 {
            header.scatter(&*ioctl.memory, list_len)?;
        }
        Ok(header)
    }

    fn parse(at: u64, layout: &'static Layout, bytes: &[u8]) -> Result<Header, Error> {
        if int(bytes, 0) != u32::from(b'S') {
            return Err(invalid("interface_id is not 'S'"));
        }
        let way = match int(bytes, 4).cast_signed() {
            -1 => Way::None,
            -2 => Way::FromCaller,
            -3 | -4 => Way::ToCaller,
            _ => return Err(invalid("no such dxfer_direction")),
        };
        let cdb_len = usize::from(bytes[8]);
        if !(6..=CDB_BYTES_MAX).contains(&cdb_len) {
            return Err(invalid("a command block has 6 to 32 bytes"));
        }
        let len = int(bytes, 12);
        if u64::from(len) > TRANSFER_BYTES_MAX {
            return Err(invalid("more than 16 MiB of data"));
        }
        let len = if way == Way::None { 0 } else { len as usize };
        let pointer = |which| layout.word(bytes, layout.pointers, which);
        let millis = match int(bytes, layout.pointers + 3 * layout.word) {
            0 => TIMEOUT_MILLIS,
            millis => millis,
        };
        Ok(Header {
            at,
            layout,
            way,
            cdb: (pointer(1), cdb_len),
            sense: (pointer(2), usize::from(bytes[9])),
            pieces: vec![(pointer(0), len)],
            len,
            nanos: u64::from(millis) * 1_000_000,
        })
    }

    /// The data are in pieces: `dxferp` leads to a list of them.
    fn scatter(&mut self, memory: &dyn CallerMemory, list_len: usize) -> Result<(), Error> {
        if list_len > PIECES_MAX {
            return Err(invalid("too many pieces"));
        }
        let (word, at) = (self.layout.word, self.pieces[0].0);
        let mut list = vec![0; list_len * 2 * word];
        memory.read(at, &mut list)?;
        let mut left = self.len;
        self.pieces.clear();
        for which in 0..list_len {
            let len = self.layout.word(&list, 0, 2 * which + 1);
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(left);
            left -= len;
            self.pieces.push((self.layout.word(&list, 0, 2 * which), len));
        }
        self.len -= left;
        Ok(())
    }

    fn run(
        self,
        open: &Opening,
        call: &Call,
        ioctl: &IoctlCall<'_>,
    ) -> Result<Answer<IoctlAnswer>, Error> {
        let memory = Arc::clone(&ioctl.memory);
        let mut cdb = vec![0; self.cdb.1];
        memory.read(self.cdb.0, &mut cdb)?;
        let deed = Deed {
            disk: Arc::clone(&open.disk),
            begun: open.disk.engine.now(),
            header: self,
            memory,
        };
        match deed.begin(open, call, &cdb)? {
            Err(check) => deed.end(Some(Err(check))).map(Answer::Now),
            Ok(Answer::Later(rest)) => Ok(Answer::Later(Box::new(move |interrupt| {
                let outcome = in_time(&deed.disk.engine, deed.header.nanos, interrupt, rest)?;
                deed.end(outcome)
            }))),
            Ok(at_once) => at_once.map(move |outcome| deed.end(Some(outcome?))),
        }
    }
}

/// A command under way.
struct Deed {
    disk: Arc<Disk>,
    begun: SimTime,
    header: Header,
    memory: Arc<dyn CallerMemory>,
}

impl Deed {
    fn begin(
        &self,
        open: &Opening,
        call: &Call,
        cdb: &[u8],
    ) -> Result<Result<Answer<Outcome>, Check>, Error> {
        let (command, unit) = match (Command::decode(cdb), Unit::new(&self.disk, call.origin())) {
            (Ok(command), Ok(unit)) => (command, unit),
            (Err(check), _) | (_, Err(check)) => return Ok(Err(check)),
        };
        let is_reader = call.flags & flags::O_ACCMODE == flags::O_RDONLY;
        if command.is_for_writers() && is_reader {
            return Err(Error::new(Errno::EPERM, "SG_IO: the file is not open for writing"));
        }
        let takes = command.takes(unit.block);
        let has = if self.header.way == Way::FromCaller { self.header.len } else { 0 };
        if takes > has as u64 {
            return Ok(Err(Check::DATA_PHASE));
        }
        let data = self.fetch(usize::try_from(takes).unwrap_or(0))?;
        if command.is_writing() {
            open.note_write(0, open.window.len); // wherever it writes, the table may have changed
        }
        let room = if self.header.way == Way::ToCaller { self.header.len } else { 0 };
        Ok(Ok(unit.obey(command, data, room)))
    }

    fn fetch(&self, len: usize) -> Result<Vec<u8>, Error> {
        let mut data = vec![0; len];
        let mut rest = &mut data[..];
        for (at, piece) in &self.header.pieces {
            let (part, behind) = rest.split_at_mut((*piece).min(rest.len()));
            if !part.is_empty() {
                self.memory.read(*at, part)?;
            }
            rest = behind;
        }
        Ok(data)
    }

    /// Tells the caller what became of it; `None`: its time has passed.
    fn end(&self, outcome: Option<Outcome>) -> Result<IoctlAnswer, Error> {
        let nanos = self.disk.engine.now().since(self.begun);
        let header = &self.header;
        let result_at = header.at + header.layout.result as u64;
        let Some(outcome) = outcome else {
            let result = result(Status::TimedOut, header.len, nanos);
            self.memory.write(result_at, &result)?;
            self.disk.tell(None);
            return Ok((0, Vec::new()));
        };
        let (moved, sense) = match &outcome {
            Ok(data) if header.way == Way::ToCaller => {
                let data = &data[..data.len().min(header.len)];
                self.deliver(data)?;
                (data.len(), Vec::new())
            }
            Ok(_) => (header.len, Vec::new()),
            Err(check) => {
                let mut sense = check.fixed();
                sense.truncate(if header.sense.0 == 0 { 0 } else { header.sense.1 });
                if !sense.is_empty() {
                    self.memory.write(header.sense.0, &sense)?;
                }
                (0, sense)
            }
        };
        let status = if outcome.is_ok() { Status::Good } else { Status::Check(sense.len()) };
        let result = result(status, header.len - moved, nanos);
        self.memory.write(result_at, &result)?;
        let refused = outcome.err().filter(|check| !check.is_units);
        self.disk.tell(refused.map(|Check { sense, field, .. }| Told { sense, field }));
        Ok((0, Vec::new()))
    }

    fn deliver(&self, data: &[u8]) -> Result<(), Error> {
        let mut rest = data;
        for (at, piece) in &self.header.pieces {
            let (part, behind) = rest.split_at((*piece).min(rest.len()));
            if !part.is_empty() {
                self.memory.write(*at, part)?;
            }
            rest = behind;
        }
        Ok(())
    }
}

/// Does the rest of a command, unless it takes longer than `nanos` of machine time: `None`.
fn in_time<T>(
    engine: &Engine,
    nanos: u64,
    interrupt: &Interrupt,
    rest: Later<T>,
) -> Result<Option<T>, Error> {
    let own = Arc::new(Interrupt::default());
    interrupt.lead(&own);
    let has_passed = Arc::new(AtomicBool::new(false));
    let (flag, called) = (Arc::clone(&has_passed), Arc::clone(&own));
    let limit = engine.after(nanos, move || {
        flag.store(true, Ordering::Release);
        called.raise();
    });
    let result = rest(&own);
    engine.cancel(limit);
    let is_late = has_passed.load(Ordering::Acquire) && !interrupt.is_raised();
    match result {
        Err(error) if error.errno == Errno::EINTR && is_late => Ok(None),
        result => result.map(Some),
    }
}

/// How a command ended.
#[derive(Clone, Copy)]
enum Status {
    Good,
    /// With so many bytes of sense.
    Check(usize),
    TimedOut,
}

/// The structure from `status` to its end, without padding.
fn result(status: Status, left: usize, nanos: u64) -> [u8; 20] {
    const CHECK_CONDITION: u8 = 0x02;
    const DID_TIME_OUT: u16 = 0x03;
    const DRIVER_SENSE: u16 = 0x08;
    const SG_INFO_CHECK: u32 = 1;
    let mut bytes = [0; 20];
    match status {
        Status::Good => {}
        Status::Check(sense_len) => {
            bytes[0] = CHECK_CONDITION;
            bytes[1] = CHECK_CONDITION >> 1;
            bytes[3] = u8::try_from(sense_len).unwrap_or(u8::MAX);
            bytes[6..8].copy_from_slice(&DRIVER_SENSE.to_ne_bytes());
        }
        Status::TimedOut => bytes[4..6].copy_from_slice(&DID_TIME_OUT.to_ne_bytes()),
    }
    if !matches!(status, Status::Good) {
        bytes[16..20].copy_from_slice(&SG_INFO_CHECK.to_ne_bytes());
    }
    let millis = u32::try_from(nanos / 1_000_000).unwrap_or(u32::MAX);
    bytes[8..12].copy_from_slice(&u32::try_from(left).unwrap_or(u32::MAX).to_ne_bytes());
    bytes[12..16].copy_from_slice(&millis.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use devices::engine::Time;
    use proptest::prelude::*;

    fn bytes(layout: &Layout) -> Vec<u8> {
        let mut bytes = vec![0; layout.len];
        bytes[0] = b'S';
        bytes[4..8].copy_from_slice(&(-3_i32).to_ne_bytes());
        (bytes[8], bytes[9]) = (10, 32);
        bytes[12..16].copy_from_slice(&512_u32.to_ne_bytes());
        for (which, address) in [0x1000_u32, 0x2000, 0x3000].into_iter().enumerate() {
            let at = layout.pointers + which * layout.word;
            bytes[at..at + 4].copy_from_slice(&address.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn both_layouts_lead_to_the_same_places() {
        for layout in [&LAYOUT_32, &LAYOUT_64] {
            let header = Header::parse(7, layout, &bytes(layout)).unwrap();
            assert_eq!(header.cdb, (0x2000, 10));
            assert_eq!(header.sense, (0x3000, 32));
            assert_eq!(header.pieces, [(0x1000, 512)]);
            assert_eq!(layout.result + 20 + if layout.word == 8 { 4 } else { 0 }, layout.len);
        }
    }

    #[test]
    fn a_structure_that_makes_no_sense_is_refused() {
        for (at, wrong) in [(0, b'Q'), (4, 0), (8, 5), (8, 33), (15, 2)] {
            let mut bytes = bytes(&LAYOUT_64);
            bytes[at] = wrong;
            let refused = Header::parse(0, &LAYOUT_64, &bytes).err().unwrap();
            assert_eq!(refused.errno, Errno::EINVAL, "{at}");
        }
    }

    #[test]
    fn a_failure_is_a_check_condition_with_sense() {
        let bytes = result(Status::Check(18), 512, 3_000_000);
        assert_eq!(bytes[..8], [2, 1, 0, 18, 0, 0, 8, 0]);
        assert_eq!((int(&bytes, 8), int(&bytes, 12), int(&bytes, 16)), (512, 3, 1));
        assert_eq!(result(Status::Good, 0, 0), [0; 20]);
        let bytes = result(Status::TimedOut, 512, 0);
        assert_eq!((bytes[..8].to_vec(), int(&bytes, 16)), (vec![0, 0, 0, 0, 3, 0, 0, 0], 1));
    }

    #[test]
    fn a_time_of_none_is_the_default() {
        for layout in [&LAYOUT_32, &LAYOUT_64] {
            let mut bytes = bytes(layout);
            assert_eq!(Header::parse(0, layout, &bytes).unwrap().nanos, 60_000_000_000);
            bytes[layout.pointers + 3 * layout.word] = 250;
            assert_eq!(Header::parse(0, layout, &bytes).unwrap().nanos, 250_000_000);
        }
    }

    #[test]
    fn what_takes_longer_is_ended_and_what_is_called_away_is_not_late() {
        let engine = Engine::new(Time::Simulated);
        let for_ever = |engine: &Arc<Engine>| -> Later<()> {
            let engine = Arc::clone(engine);
            Box::new(move |interrupt| {
                let waited = engine.wait(&Arc::default(), Some(interrupt), || false);
                waited.map_err(|_| Error::plain(Errno::EINTR))
            })
        };
        let interrupt = Interrupt::default();
        let late = in_time(&engine, 5_000, &interrupt, for_ever(&engine));
        assert_eq!((late.unwrap(), engine.now()), (None, SimTime(5_000)));
        let soon = in_time(&engine, 5_000, &interrupt, Box::new(|_| Ok(7)));
        assert_eq!((soon.unwrap(), engine.skip_to_next()), (Some(7), false), "its limit is gone");
        interrupt.raise();
        let away = in_time(&engine, 5_000, &interrupt, for_ever(&engine));
        assert_eq!(away.unwrap_err().errno, Errno::EINTR);
    }

    proptest! {
        #[test]
        fn no_structure_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 88..89)) {
            for layout in [&LAYOUT_32, &LAYOUT_64] {
                if let Ok(header) = Header::parse(0, layout, &bytes) {
                    prop_assert!(header.len as u64 <= TRANSFER_BYTES_MAX);
                }
            }
        }
    }
}
