//! Open character nodes: straight to the driver, which never waits; here its callers do.
//!
//! 1. What would wait is tried again when the driver rings, with no thread held meanwhile.
//! 2. All tries of one call are framed by `begin` and one `end`, also when it is given up.
//! 3. With `O_NONBLOCK` there is one try, and EAGAIN; but a unit that takes its time (a tape) is
//!    waited for all the same, as st(4) does: half a record cannot be taken back.
//! 4. What a tape's write has begun when its caller is called away is brought to its end first, and
//!    answered as it ended: EINTR means that nothing was written.

use crate::error::{Errno, Error, flags};
use crate::file::{
    Answer, Blocked, Call, FileOps, IoctlAnswer, IoctlCall, Later, Nature, Polled, Seek, SyncKind,
    Turn,
};
use crate::holders::Claim;
use crate::own;
use crate::sync::{Arc, Mutex};
use devices::engine::Engine;
use devices::{
    CharDevice, DevId, Interrupt, IoError, Ioctl, Opening, Origin, UnitCommand, WaitQueue,
};
use std::collections::BTreeMap;

/// `POLLIN | POLLRDNORM`.
pub const POLL_READ: u32 = 0x41;
/// `POLLOUT | POLLWRNORM`.
pub const POLL_WRITE: u32 = 0x104;
/// `POLLHUP`.
pub const POLL_HUNG_UP: u32 = 0x10;

/// How long a call that was called away may still take to do what cannot be taken back.
const COMMITTED_NANOS_MAX: u64 = 1_000_000_000;

/// How many have each character unit open.
pub type Opens = Arc<Mutex<BTreeMap<DevId, u32>>>;

/// A unit of the character switch, as it was found.
#[derive(Clone)]
pub struct CharNode {
    /// Name of its node: `st0`.
    pub name: Arc<str>,
    /// Its number.
    pub id: DevId,
    /// The unit.
    pub unit: Arc<dyn CharDevice>,
}

impl CharNode {
    fn told(&self, error: IoError) -> Error {
        Error::device(&self.name, error.into())
    }
}

/// An open character node.
pub struct CharFile {
    node: CharNode,
    opens: Opens,
    engine: Arc<Engine>,
    claim: Option<Claim>,
}

/// What the flags of open(2) open for.
fn opening(flags: i32) -> Opening {
    let way = flags & flags::O_ACCMODE;
    Opening {
        reads: way != flags::O_WRONLY,
        writes: way != flags::O_RDONLY,
        waits: flags & flags::O_NONBLOCK == 0,
    }
}

fn is_impatient(call: &Call) -> bool {
    call.flags & flags::O_NONBLOCK != 0
}

/// A call under way at its unit: dropped, it is over.
struct Frame {
    unit: Arc<dyn CharDevice>,
    origin: Origin,
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.unit.end(&self.origin);
    }
}

impl Frame {
    /// One try, or several while there is work that takes no time. `Err`: it would wait, and the
    /// generation that the unit's queue had before the last try.
    fn attempt<T>(
        &self,
        engine: &Engine,
        mut attempt: impl FnMut(&dyn CharDevice) -> Result<T, IoError>,
    ) -> Result<Result<T, IoError>, u64> {
        loop {
            let seen = self.unit.waits().map_or(0, |queue| queue.generation());
            match self.unit.begin(&self.origin).and_then(|()| attempt(&*self.unit)) {
                // A unit without a timing model is served by whoever cranks.
                Err(IoError::WouldBlock) if engine.crank() => {}
                Err(IoError::WouldBlock) => return Err(seen),
                settled => return Ok(settled),
            }
        }
    }
}

impl CharFile {
    /// Opens a unit with the flags of open(2); `opens` counts for all.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(
        node: CharNode,
        claim: Option<Claim>,
        flags: i32,
        opens: &Opens,
        engine: &Arc<Engine>,
    ) -> Result<CharFile, Error> {
        node.unit.open_for(opening(flags)).map_err(|error| node.told(error))?;
        *opens.lock().entry(node.id).or_default() += 1;
        Ok(CharFile { node, opens: Arc::clone(opens), engine: Arc::clone(engine), claim })
    }

    fn frame(&self, call: &Call) -> Frame {
        Frame { unit: Arc::clone(&self.node.unit), origin: call.origin() }
    }

    /// Whether a call that would wait is to be answered EAGAIN instead.
    fn gives_up(&self, call: &Call) -> bool {
        is_impatient(call) && !self.node.unit.takes_its_time()
    }

    /// Further tries, whenever the unit rings.
    fn blocked<T>(
        &self,
        (frame, seen): (Frame, u64),
        mut attempt: impl FnMut(&dyn CharDevice) -> Result<T, IoError> + Send + 'static,
    ) -> Result<Blocked<T>, Error> {
        let queue = self.node.unit.waits().ok_or_else(|| Error::plain(Errno::EAGAIN))?;
        let (engine, node) = (Arc::clone(&self.engine), self.node.clone());
        let mut frame = Some(frame);
        let retry = Box::new(move |_: Turn| {
            let result = frame.as_ref()?.attempt(&engine, &mut attempt).ok()?;
            frame = None; // over, before its caller hears of it
            Some(result.map_err(|error| node.told(error)))
        });
        Ok(Blocked { queue, seen, retry })
    }

    /// Further tries of a call of a unit that takes its time: called away, it is waited for while
    /// the unit is at work on the medium for it. One that does not end is ended by a reset, and
    /// answers what the unit then says.
    fn unhurried<T: Send + 'static>(
        &self,
        frame: Frame,
        mut attempt: impl FnMut(&dyn CharDevice) -> Result<T, IoError> + Send + 'static,
    ) -> Result<Later<T>, Error> {
        let queue = self.node.unit.waits().ok_or_else(|| Error::plain(Errno::EAGAIN))?;
        let (engine, node) = (Arc::clone(&self.engine), self.node.clone());
        Ok(Box::new(move |interrupt: &Interrupt| {
            let mut settled = None;
            let mut is_over = || {
                settled = settled.take().or_else(|| frame.attempt(&engine, &mut attempt).ok());
                settled.is_some()
            };
            let called_away = engine.wait(&queue, Some(interrupt), &mut is_over).is_err();
            if called_away && frame.unit.is_committed(&frame.origin) {
                let (unit, bell) = (Arc::clone(&frame.unit), Arc::clone(&queue));
                let alarm = engine.after(COMMITTED_NANOS_MAX, move || {
                    if let Err(refusal) = unit.command(UnitCommand::Reset) {
                        log::error!(target: "spec", "a unit that is stuck: {refusal}");
                    }
                    bell.ring();
                });
                // It is not called away twice, and ends by the alarm if by nothing else.
                let _ = engine.wait(&queue, None, &mut is_over);
                engine.cancel(alarm);
            }
            drop(frame); // over, before its caller hears of it
            let settled = settled.unwrap_or_else(|| Err(IoError::WouldBlock));
            settled.map_err(|error| match error {
                IoError::WouldBlock => Error::plain(Errno::EINTR),
                error => node.told(error),
            })
        }))
    }

    /// A call that waits, whatever `O_NONBLOCK` says.
    fn patient<T: Send + 'static>(
        &self,
        call: &Call,
        mut attempt: impl FnMut(&dyn CharDevice) -> Result<T, IoError> + Send + 'static,
    ) -> Result<Answer<T>, Error> {
        let frame = self.frame(call);
        match frame.attempt(&self.engine, &mut attempt) {
            Ok(result) => result.map(Answer::Now).map_err(|error| self.node.told(error)),
            Err(_) if self.node.unit.takes_its_time() => {
                self.unhurried(frame, attempt).map(Answer::Later)
            }
            Err(seen) => self.blocked((frame, seen), attempt).map(Answer::Blocked),
        }
    }
}

impl FileOps for CharFile {
    fn kind(&self) -> &'static str {
        "char"
    }

    fn nature(&self) -> Nature {
        let is_stream = !self.node.unit.is_seekable();
        Nature { is_direct: true, is_stream, has_parallel_writes: !is_stream, keeps_cache: false }
    }

    fn read(
        &self,
        call: &Call,
        at: u64,
        buf: &mut Vec<u8>,
    ) -> Result<Answer<usize, Vec<u8>>, Error> {
        let (frame, len) = (self.frame(call), buf.len());
        match frame.attempt(&self.engine, |unit| unit.read_into(at, buf)) {
            Ok(result) => result.map(Answer::Now).map_err(|error| self.node.told(error)),
            Err(_) if self.gives_up(call) => Err(Error::plain(Errno::EAGAIN)),
            Err(seen) => {
                let attempt = move |unit: &dyn CharDevice| {
                    let mut memory = vec![0; len];
                    let got = unit.read_into(at, &mut memory)?;
                    memory.truncate(got);
                    Ok(memory)
                };
                self.blocked((frame, seen), attempt).map(Answer::Blocked)
            }
        }
    }

    fn write(&self, call: &Call, at: u64, data: &[u8]) -> Result<Answer<usize>, Error> {
        let frame = self.frame(call);
        match frame.attempt(&self.engine, |unit| unit.write(at, data)) {
            Ok(result) => result.map(Answer::Now).map_err(|error| self.node.told(error)),
            Err(_) if self.gives_up(call) => Err(Error::plain(Errno::EAGAIN)),
            Err(seen) => {
                let data = data.to_vec();
                let attempt = move |unit: &dyn CharDevice| unit.write(at, &data);
                if self.node.unit.takes_its_time() {
                    return self.unhurried(frame, attempt).map(Answer::Later);
                }
                self.blocked((frame, seen), attempt).map(Answer::Blocked)
            }
        }
    }

    fn sync(&self, call: &Call, _kind: SyncKind) -> Result<Answer<()>, Error> {
        self.patient(call, |unit| unit.sync())
    }

    fn release(&self) {
        let is_last = {
            let mut opens = self.opens.lock();
            let count = opens.entry(self.node.id).or_insert(1);
            *count -= 1;
            *count == 0
        };
        if is_last {
            self.node.unit.close();
        }
        if let Some(claim) = &self.claim {
            claim.give_up();
        }
    }

    fn ioctl(&self, call: &Call, ioctl: &IoctlCall<'_>) -> Result<Answer<IoctlAnswer>, Error> {
        if let Some(claim) = &self.claim {
            let last = || own::Last { failure: self.node.unit.sense(), refused: None };
            let unit = (&*self.node.name, claim);
            if let Some(answer) = own::obey(call, ioctl, unit, &self.engine, last) {
                return answer;
            }
        }
        if let Some(bytes) = self.node.unit.bare_answer(ioctl.cmd) {
            let mut output = vec![0; bytes];
            let mut command = Ioctl { cmd: ioctl.cmd, input: &[], output: &mut output };
            self.node.unit.ioctl(&mut command).map_err(|error| self.node.told(error))?;
            if bytes > 0 {
                ioctl.memory.write(ioctl.memory.argument()?, &output)?;
            }
            return Ok(Answer::Now((0, Vec::new())));
        }
        let (cmd, input, out_bytes) = (ioctl.cmd, ioctl.input.to_vec(), ioctl.out_bytes);
        let attempt = move |unit: &dyn CharDevice| {
            let mut output = vec![0; out_bytes];
            unit.ioctl(&mut Ioctl { cmd, input: &input, output: &mut output })?;
            Ok((0, output))
        };
        self.patient(call, attempt)
    }

    fn seek(&self, _at: u64, _which: Seek) -> Result<Answer<u64>, Error> {
        Err(Error::plain(Errno::ESPIPE))
    }

    fn poll_queues(&self) -> Vec<Arc<WaitQueue>> {
        self.node.unit.waits().into_iter().collect()
    }

    fn poll(&self, _call: &Call) -> Polled {
        // Before the look: news in between are told once more rather than never.
        let generation = self.node.unit.waits().map_or(0, |queue| queue.generation());
        let news = [generation; 2];
        if self.node.unit.takes_its_time() {
            return Polled { ready: POLL_READ | POLL_WRITE, news }; // it is begun at once
        }
        let ready = self.node.unit.poll();
        let table = [
            (ready.readable, POLL_READ),
            (ready.writable, POLL_WRITE),
            (ready.hung_up, POLL_HUNG_UP),
        ];
        let ready = table.iter().filter(|(holds, _)| *holds).map(|(_, events)| events).sum();
        Polled { ready, news }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Caller;
    use devices::engine::Time;
    use devices::{Interrupt, Ready};

    /// Bytes that come when they come.
    #[derive(Default)]
    struct Slow {
        store: Mutex<Vec<u8>>,
        queue: Arc<WaitQueue>,
        is_tape: bool,
        begun: Mutex<u32>,
        ended: Mutex<u32>,
    }

    impl CharDevice for Slow {
        fn begin(&self, _origin: &Origin) -> Result<(), IoError> {
            *self.begun.lock() += 1;
            Ok(())
        }

        fn end(&self, _origin: &Origin) {
            *self.ended.lock() += 1;
        }

        fn read(&self, _at: u64, buf: &mut [u8]) -> Result<usize, IoError> {
            let mut store = self.store.lock();
            let len = store.len().min(buf.len());
            if len == 0 {
                return Err(IoError::WouldBlock);
            }
            buf[..len].copy_from_slice(&store[..len]);
            store.drain(..len);
            Ok(len)
        }

        fn write(&self, _at: u64, _data: &[u8]) -> Result<usize, IoError> {
            Err(IoError::WouldBlock)
        }

        fn takes_its_time(&self) -> bool {
            self.is_tape
        }

        fn poll(&self) -> Ready {
            let readable = !self.store.lock().is_empty();
            Ready { readable, writable: false, hung_up: false }
        }

        fn waits(&self) -> Option<Arc<WaitQueue>> {
            Some(Arc::clone(&self.queue))
        }
    }

    fn open(unit: &Arc<Slow>, flags: i32) -> (CharFile, Call) {
        let id = DevId { major: 99, minor: 0 };
        let engine = Engine::new(Time::Simulated);
        let node = CharNode { name: "slow0".into(), id, unit: Arc::clone(unit) as _ };
        let file = CharFile::open(node, None, flags, &Arc::default(), &engine);
        let caller = Caller { pid: 1, uid: 0, gid: 0 };
        (file.unwrap(), Call { caller, flags, id: 1 })
    }

    #[test]
    fn a_blocked_read_is_tried_again_and_its_frame_ends_once() {
        let unit = Arc::new(Slow::default());
        let (file, call) = open(&unit, 0);
        let Ok(Answer::Blocked(mut blocked)) = file.read(&call, 0, &mut vec![0; 8]) else {
            panic!("it should block");
        };
        assert_eq!(file.poll(&call).ready, 0);
        assert!((blocked.retry)(Turn::Rung).is_none());
        unit.store.lock().extend(b"abc");
        assert_eq!(file.poll(&call).ready, POLL_READ);
        assert_eq!((blocked.retry)(Turn::Rung).unwrap().unwrap(), b"abc");
        assert_eq!((*unit.begun.lock(), *unit.ended.lock()), (3, 1));
        drop(blocked);
        assert_eq!(*unit.ended.lock(), 1);
    }

    #[test]
    fn a_call_given_up_is_over() {
        let unit = Arc::new(Slow::default());
        let (file, call) = open(&unit, 0);
        let Ok(Answer::Blocked(blocked)) = file.write(&call, 0, b"x") else {
            panic!("it should block");
        };
        let interrupt = Interrupt::default();
        interrupt.raise();
        assert_eq!(blocked.wait(&interrupt).unwrap_err().errno, Errno::EINTR);
        assert_eq!(*unit.ended.lock(), 1);
    }

    #[test]
    fn without_waiting_it_is_eagain_and_over_but_not_on_a_tape() {
        let unit = Arc::new(Slow::default());
        let (file, call) = open(&unit, flags::O_NONBLOCK);
        let read = file.read(&call, 0, &mut vec![0; 8]).err().unwrap();
        assert_eq!(read.errno, Errno::EAGAIN);
        assert_eq!(file.write(&call, 0, b"x").err().unwrap().errno, Errno::EAGAIN);
        assert_eq!(*unit.ended.lock(), 2);
        let tape = Arc::new(Slow { is_tape: true, ..Slow::default() });
        let (file, call) = open(&tape, flags::O_NONBLOCK);
        assert!(matches!(file.write(&call, 0, b"x"), Ok(Answer::Later(_))));
    }
}
