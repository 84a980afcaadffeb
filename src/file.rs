//! An open file of whatever kind: all that the FUSE adapter ever calls, and the open-file table.
//!
//! A call answers at once ([`Answer::Now`]), hands back the rest of itself ([`Answer::Later`]) to
//! be run where waiting stalls nobody else, or says what must happen before another try makes
//! sense ([`Answer::Blocked`]). It never waits without bound before it returns.

use crate::error::{Errno, Error};
use crate::lent::Lent;
use crate::pages::Forget;
use crate::sync::{Arc, Mutex};
use devices::{Class, DevId, Interrupt, Origin, WaitQueue};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who makes a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Thread id on the host; 0 is the host's kernel.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// One system call on an open file.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Who.
    pub caller: Caller,
    /// The open file's `O_*` flags as they are now: `O_DIRECT`, `O_NONBLOCK`, `O_SYNC` may change.
    pub flags: i32,
    /// Number of the call in trace and log.
    pub id: u64,
}

impl Call {
    /// Who asks, as the machine's queues see it: the host's kernel alone asks for pages.
    #[must_use]
    pub fn origin(&self) -> Origin {
        let class = if self.caller.pid == 0 { Class::PageIn } else { Class::Caller };
        Origin { pid: self.caller.pid, class, id: self.id }
    }
}

/// The rest of a call that must wait: run on a thread that may; [`Interrupt`] ends it with EINTR.
pub type Later<T> = Box<dyn FnOnce(&Interrupt) -> Result<T, Error> + Send>;

/// What a call answers.
pub enum Answer<N, L = N> {
    /// Done.
    Now(N),
    /// Not without waiting, on a thread of its own meanwhile: for what ends soon.
    Later(Later<L>),
    /// Not before a queue is rung, which may be never: no thread waits with it.
    Blocked(Blocked<L>),
}

impl<T: 'static> Answer<T> {
    /// Runs the rest of the call here and now: for one that is already on a thread that may wait.
    ///
    /// # Errors
    /// The call's own.
    pub fn finish(self, interrupt: &Interrupt) -> Result<T, Error> {
        match self {
            Answer::Now(value) => Ok(value),
            Answer::Later(rest) => rest(interrupt),
            Answer::Blocked(rest) => rest.wait(interrupt),
        }
    }

    /// The same, and then `f` of what it comes to, whichever way that is.
    ///
    /// # Errors
    /// Those of `f`, where it runs at once.
    pub fn map<U>(
        self,
        f: impl FnOnce(Result<T, Error>) -> Result<U, Error> + Send + 'static,
    ) -> Result<Answer<U>, Error> {
        Ok(match self {
            Answer::Now(value) => Answer::Now(f(Ok(value))?),
            Answer::Later(rest) => Answer::Later(Box::new(move |interrupt| f(rest(interrupt)))),
            Answer::Blocked(Blocked { queue, seen, mut retry }) => {
                let mut f = Some(f);
                let retry = Box::new(move |turn| {
                    let result = retry(turn)?;
                    f.take().map(|f| f(result))
                });
                Answer::Blocked(Blocked { queue, seen, retry })
            }
        })
    }
}

/// Why a blocked call is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Its queue was rung.
    Rung,
    /// Its caller is wanted elsewhere: it answers what was done so far, or nothing.
    Last,
}

/// A call that waits for a queue. Dropped, it is given up.
pub struct Blocked<T> {
    /// Rung when another try makes sense.
    pub queue: Arc<WaitQueue>,
    /// The queue's generation, read before the try that found nothing.
    pub seen: u64,
    /// Tries again, without waiting. `None`: still nothing; at the last turn that is EINTR.
    pub retry: Box<dyn FnMut(Turn) -> Option<Result<T, Error>> + Send>,
}

impl<T> Blocked<T> {
    /// Waits on this thread, for callers that have one to spare.
    ///
    /// # Errors
    /// The call's own; `EINTR` when called away with nothing done.
    pub fn wait(mut self, interrupt: &Interrupt) -> Result<T, Error> {
        loop {
            interrupt.watch(&self.queue);
            let is_last = interrupt.is_raised();
            if !is_last {
                self.queue.wait(self.seen, None);
            }
            self.seen = self.queue.generation();
            let turn = if is_last { Turn::Last } else { Turn::Rung };
            match (self.retry)(turn) {
                Some(answer) => return answer,
                None if is_last => return Err(Errno::EINTR.into()),
                None => {}
            }
        }
    }
}

/// What an ioctl answers: the return value and the bytes for the caller.
pub type IoctlAnswer = (i32, Vec<u8>);

/// The memory of a caller that sleeps in ioctl(2), for commands whose number encodes no size.
pub trait CallerMemory: Send + Sync {
    /// The third argument of its ioctl(2): a number, or where a structure lies.
    ///
    /// # Errors
    /// `ENOTTY` where the host does not let us look.
    fn argument(&self) -> Result<u64, Error>;

    /// Fills `buf` from address `at`.
    ///
    /// # Errors
    /// `EFAULT` when it is not the caller's; `ENOTTY` where the host does not let us look.
    fn read(&self, at: u64, buf: &mut [u8]) -> Result<(), Error>;

    /// Writes `data` to address `at`.
    ///
    /// # Errors
    /// As for reading.
    fn write(&self, at: u64, data: &[u8]) -> Result<(), Error>;
}

/// A device command.
pub struct IoctlCall<'a> {
    /// Its number.
    pub cmd: u32,
    /// The bytes that the number sizes, from the caller.
    pub input: &'a [u8],
    /// How many bytes the number sizes for the caller.
    pub out_bytes: usize,
    /// Whether the caller's words are of 32 bits.
    pub is_32_bit: bool,
    /// The caller's memory.
    pub memory: Arc<dyn CallerMemory>,
}

/// How the host is to treat an open file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nature {
    /// Reads and writes come as they are made, past the host's page cache.
    pub is_direct: bool,
    /// Several writes may be under way at once.
    pub has_parallel_writes: bool,
    /// No offset: `lseek` gives ESPIPE, records keep their boundaries.
    pub is_stream: bool,
    /// The host's page cache may keep what was read across opens.
    pub keeps_cache: bool,
}

/// Which `lseek`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// How durable a sync makes a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    /// `fsync`.
    All,
    /// `fdatasync`.
    Data,
}

/// An open file of whatever kind.
pub trait FileOps: Send + Sync {
    /// As in `proc/files`: `memory`, `report`, `block`, `raw`, `char`.
    fn kind(&self) -> &'static str;

    /// How the host is to treat it.
    fn nature(&self) -> Nature;

    /// At most `buf.len()` bytes from byte `at`; 0 is end of file. A `Vec`, so that raw I/O may
    /// move it into a request and back; its length is the same on return. `Later` brings memory
    /// of its own, cut to what was read.
    ///
    /// # Errors
    /// Those of read(2).
    fn read(
        &self,
        call: &Call,
        at: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Answer<usize, Vec<u8>>, Error>;

    /// What [`FileOps::read`] of `len` bytes would answer at once, lent instead of copied: `None`
    /// where it cannot be had like that; then nothing was done. For long reads.
    fn lend(&self, _call: &Call, _at: u64, _len: usize) -> Option<Vec<Lent>> {
        None
    }

    /// The host may from now on keep pages of the file, which was opened by inode `ino`; `host`
    /// makes it forget them. Called before the open is answered, of files that keep the cache.
    fn shown(&self, _ino: u64, _host: &Arc<dyn Forget>) {}

    /// The file of the host's that stands in for this one: read and written without asking us.
    fn backing(&self) -> Option<&std::fs::File> {
        None
    }

    /// At most `data.len()` bytes at byte `at`.
    ///
    /// # Errors
    /// Those of write(2).
    fn write(&self, call: &Call, at: u64, data: &[u8]) -> Result<Answer<usize>, Error>;

    /// Durable on return.
    ///
    /// # Errors
    /// Those of fsync(2); also any error of a delayed write not yet told to this open file.
    fn sync(&self, _call: &Call, _kind: SyncKind) -> Result<Answer<()>, Error> {
        Ok(Answer::Now(()))
    }

    /// Every close(2) of a descriptor of this open file.
    ///
    /// # Errors
    /// Any error of a delayed write not yet told to this open file.
    fn flush(&self, _call: &Call) -> Result<Answer<()>, Error> {
        Ok(Answer::Now(()))
    }

    /// The last descriptor is gone. Runs once; what it does later nobody waits for.
    fn release(&self) {}

    /// A device command.
    ///
    /// # Errors
    /// `ENOTTY` unless the file knows the command.
    fn ioctl(&self, _call: &Call, _ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
        Err(Error::plain(Errno::ENOTTY))
    }

    /// fallocate(2) with `mode`.
    ///
    /// # Errors
    /// `EOPNOTSUPP` unless the file can.
    fn allocate(&self, _call: &Call, _mode: i32, _at: u64, _len: u64) -> Result<Answer<()>, Error> {
        Err(Error::plain(Errno::EOPNOTSUPP))
    }

    /// Where the next data, or the next hole, begins at or after `at`.
    ///
    /// # Errors
    /// `ENXIO` past the end; `ESPIPE` on a stream.
    fn seek(&self, at: u64, which: Seek) -> Result<Answer<u64>, Error>;

    /// What is rung when [`FileOps::poll`] may have something new to tell.
    fn poll_queues(&self) -> Vec<Arc<WaitQueue>> {
        Vec::new()
    }

    /// The `POLL*` events that hold now, and the news behind them.
    fn poll(&self, _call: &Call) -> Polled {
        // POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM: a file is always ready
        Polled { ready: 0x145, ..Polled::default() }
    }
}

/// What a look at an open file tells whoever polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// The `POLL*` events that hold.
    pub ready: u32,
    /// Counts that change with the news for who would read, and for who would write; of the same
    /// moment as `ready`, so that nobody is told of what he has seen.
    pub news: [u64; 2],
}

/// Which switch a special file enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceKind {
    /// `b`: through the buffer cache.
    Block,
    /// `c`: straight to the driver.
    Char,
}

impl DeviceKind {
    /// `b` or `c`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            DeviceKind::Block => 'b',
            DeviceKind::Char => 'c',
        }
    }
}

/// What a device inode holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// Which switch.
    pub kind: DeviceKind,
    /// Row and column.
    pub id: DevId,
}

impl std::fmt::Display for Device {
    /// `b 8 0`, as in the xattr `user.spindle.dev`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.kind.letter(), self.id.major, self.id.minor)
    }
}

/// Where device inodes lead: the names' only way to the devices (`spec.rs` is behind it).
pub trait SpecialFiles: Send + Sync {
    /// Opens a device with the `O_*` flags of the open(2).
    ///
    /// # Errors
    /// `ENXIO` for no driver or no unit; `EACCES` for the wrong direction; `EBUSY` where held;
    /// `EROFS` for writing a protected medium.
    fn open(&self, device: Device, caller: &Caller, flags: i32) -> Result<Arc<dyn FileOps>, Error>;

    /// Whether opening a device waits for something slow, such as the host's disk.
    fn opens_slowly(&self, _device: Device) -> bool {
        false
    }

    /// The size that stat(2) shows: the capacity of a disk, else 0. Does not wait.
    fn size(&self, device: Device) -> u64;

    /// Whether the host may remember its attributes for a second. Does not wait.
    fn may_be_remembered(&self, _device: Device) -> bool {
        false
    }
}

/// Takes lines written to `ctl`.
pub trait Control: Send + Sync {
    /// Obeys one line; the answer is what the same handle reads next.
    ///
    /// # Errors
    /// The errno of the write(2), and the words that a reader of `ctl` gets.
    fn run(&self, caller: &Caller, line: &str) -> Result<Answer<String>, Error>;
}

/// A file whose text is made when it is opened.
pub struct Report {
    /// Its name under `proc/`.
    pub name: &'static str,
    /// Makes the text. It may not wait.
    pub text: Box<dyn Fn(&Caller) -> String + Send + Sync>,
}

/// A line of the open-file table.
pub struct OpenFile {
    /// Its number: the FUSE file handle.
    pub handle: u64,
    /// Inode it was opened by.
    pub ino: u64,
    /// Who opened it.
    pub opener: Caller,
    /// By which name.
    pub path: String,
    /// The flags of its open(2).
    pub flags: i32,
    /// What it is.
    pub ops: Arc<dyn FileOps>,
    /// Where the last read or write ended.
    pub offset: AtomicU64,
}

impl OpenFile {
    /// Notes where a transfer ended.
    pub fn moved_to(&self, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
    }
}

/// Most files that may be open at once; then open(2) gives ENFILE.
pub const OPEN_FILES_MAX: usize = 65536;

/// The open-file table.
#[derive(Default)]
pub struct OpenFiles {
    table: Mutex<Table>,
    blocked: OnceLock<Blockage>,
}

/// Lists the calls that are blocked: the handle of the open file, and the thread.
type Blockage = Box<dyn Fn() -> Vec<(u64, u32)> + Send + Sync>;

#[derive(Default)]
struct Table {
    files: BTreeMap<u64, Arc<OpenFile>>,
    last_handle: u64,
}

impl OpenFiles {
    /// Enters a file; it stays until [`OpenFiles::remove`].
    ///
    /// # Errors
    /// `ENFILE` when the table is full.
    pub fn insert(&self, make: impl FnOnce(u64) -> OpenFile) -> Result<Arc<OpenFile>, Error> {
        let mut table = self.table.lock();
        if table.files.len() >= OPEN_FILES_MAX {
            return Err(Error::new(Errno::ENFILE, "the open-file table is full"));
        }
        table.last_handle += 1;
        let handle = table.last_handle;
        let file = Arc::new(make(handle));
        table.files.insert(handle, Arc::clone(&file));
        Ok(file)
    }

    /// The file of a handle.
    ///
    /// # Errors
    /// `EBADF` when there is none.
    pub fn get(&self, handle: u64) -> Result<Arc<OpenFile>, Error> {
        let found = self.table.lock().files.get(&handle).cloned();
        found.ok_or_else(|| Error::plain(Errno::EBADF))
    }

    /// Takes a file out.
    pub fn remove(&self, handle: u64) -> Option<Arc<OpenFile>> {
        self.table.lock().files.remove(&handle)
    }

    /// Says where blocked calls are listed: who serves the calls knows. The first one counts.
    pub fn list_blocked_by(&self, list: impl Fn() -> Vec<(u64, u32)> + Send + Sync + 'static) {
        let _ = self.blocked.set(Box::new(list));
    }

    /// The calls that wait for their device, which may be for ever: file and thread, in the order
    /// of their coming.
    #[must_use]
    pub fn blocked(&self) -> Vec<(Arc<OpenFile>, u32)> {
        let all = self.blocked.get().map_or_else(Vec::new, |list| list());
        let table = self.table.lock();
        let file = |(handle, tid)| Some((Arc::clone(table.files.get(&handle)?), tid));
        all.into_iter().filter_map(file).collect()
    }

    /// All lines, by handle.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<OpenFile>> {
        self.table.lock().files.values().cloned().collect()
    }
}
