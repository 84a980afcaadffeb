//! Requests on open files: what may have to wait is handed to a worker with its reply.

use super::Door;
use super::argument::Asleep;
use super::backing::{self, Backings};
use super::gate::Inside;
use super::reply::{Refuse, call, caller, conclude, guarded};
use super::wire::RUNS_MAX;
use crate::error::{Errno, Error};
use crate::file::{
    Answer, Call, FileOps, IoctlAnswer, IoctlCall, Nature, OpenFile, Seek, SyncKind,
};
use crate::pages::Forget;
use crate::sync::Arc;
use crate::vfs::{Attr, Change, Ino, Vfs};
use fuser::{
    FileHandle, FopenFlags, INodeNo, IoctlFlags, PollEvents, PollFlags, PollNotifier, ReplyCreate,
    ReplyData, ReplyEmpty, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyWrite, Request,
    WriteFlags,
};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::time::Duration;

/// How long an open waits for a close that the host has begun but not yet told us of.
const RELEASE_WAIT: Duration = Duration::from_millis(50);
/// Most closes of other files heard in that time, before the device counts as busy.
const RELEASES_HEARD_MAX: u32 = 64;

/// Reads up to this size use one buffer, longer ones another: cutting and stretching a single one
/// from 4 KiB to 1 MiB and back would clear the difference each time.
const SMALL_READ_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static BUFFERS: RefCell<[Vec<u8>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Lends `run` a buffer of `size` bytes that this thread keeps from read to read.
fn with_buffer<T>(size: usize, run: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let class = usize::from(size > SMALL_READ_BYTES_MAX);
    let mut buf = BUFFERS.with_borrow_mut(|buffers| std::mem::take(&mut buffers[class]));
    buf.resize(size, 0);
    let result = run(&mut buf);
    BUFFERS.with_borrow_mut(|buffers| buffers[class] = buf);
    result
}

/// What open(2) has made.
type Made = (Attr, Arc<OpenFile>);

/// How the host is to treat an open file.
fn open_flags(nature: Nature) -> FopenFlags {
    let table = [
        (nature.is_direct, FopenFlags::FOPEN_DIRECT_IO),
        (nature.has_parallel_writes, FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES),
        // The offset of each system call begins at 0, which is how we tell a tape's records apart.
        (nature.is_stream, FopenFlags::FOPEN_STREAM),
        (nature.keeps_cache, FopenFlags::FOPEN_KEEP_CACHE),
    ];
    table.into_iter().filter(|(holds, _)| *holds).map(|(_, flag)| flag).collect()
}

/// Answers an open.
fn opened(file: &OpenFile, backings: &Backings, vfs: &Vfs, reply: ReplyOpen) {
    let flags = open_flags(file.ops.nature());
    match backings.enter(file, &reply) {
        Ok(None) => reply.opened(FileHandle(file.handle), flags),
        Ok(Some(id)) => backing::opened(file, flags, &id, reply),
        Err(error) => {
            log::warn!(target: "fuse", "{error}");
            vfs.close(file.handle);
            reply.refuse(super::reply::wire(error.errno));
        }
    }
}

fn done((): (), reply: ReplyEmpty) {
    reply.ok();
}

/// Refuses who did not come in, because the machine is being unmounted.
fn admit(inside: Option<&Inside<'_>>, errno: Errno) -> Result<(), Error> {
    inside.map(|_| ()).ok_or_else(|| Error::new(errno, "the machine is being unmounted"))
}

impl Door {
    fn file(&self, handle: FileHandle) -> Result<Arc<OpenFile>, Error> {
        self.files.get(handle.0)
    }

    /// The file that request `id` reads or writes. What a disk holds does not depend on who has
    /// closed what.
    fn file_in_order(&self, id: u64, handle: FileHandle) -> Result<Arc<OpenFile>, Error> {
        let file = self.file(handle);
        match &file {
            Ok(file) if file.ops.nature().has_parallel_writes => self.order.note(id),
            _ => self.order.fence(id),
        }
        file
    }

    pub(super) fn on_open(&self, req: &Request, node: INodeNo, flags: i32, reply: ReplyOpen) {
        begin!(self, req, "open {node} {flags:#o}");
        let inside = self.gate.enter();
        let (who, ino) = (caller(req), Ino(node.0));
        let host: Arc<dyn Forget> = Arc::clone(&self.pages) as _;
        let run = || {
            admit(inside.as_ref(), Errno::ENODEV)?;
            let open = move |vfs: &Vfs| {
                let file = vfs.open(&who, ino, flags)?;
                if file.ops.nature().keeps_cache {
                    file.ops.shown(file.ino, &host);
                }
                Ok::<_, Error>(file)
            };
            if self.vfs.opens_slowly(ino) {
                let vfs = Arc::clone(&self.vfs);
                return Ok(Answer::Later(Box::new(move |_| open(&vfs))));
            }
            // Before the first try: who is released after it is waited for in vain, and shortly.
            let closing = self.closing.snapshot();
            let busy = match open(&self.vfs) {
                Err(error) if error.errno == Errno::EBUSY => error,
                settled => return settled.map(Answer::Now),
            };
            // close(2) returns before we hear of it: whoever closed a device and opens it again
            // must not find himself in his own way. Readers hear of it, so a worker waits.
            if closing.is_empty() {
                return Err(busy);
            }
            let (vfs, all) = (Arc::clone(&self.vfs), Arc::clone(&self.closing));
            Ok(Answer::Later(Box::new(move |_| {
                all.wait_for(&closing, RELEASE_WAIT, RELEASES_HEARD_MAX);
                open(&vfs)
            })))
        };
        let (backings, vfs) = (Arc::clone(&self.backings), Arc::clone(&self.vfs));
        let answer = move |file: Arc<OpenFile>, reply| opened(&file, &backings, &vfs, reply);
        self.answer_or_wait(req, 0, reply, run, answer.clone(), answer);
    }

    pub(super) fn on_create(
        &self,
        req: &Request,
        (parent, name): (INodeNo, &OsStr),
        (mode, umask): (u32, u32),
        flags: i32,
        reply: ReplyCreate,
    ) {
        begin!(self, req, "create {parent} {name:?} {mode:o} {flags:#o}");
        let (by, name) = (caller(req), name.to_owned());
        let run =
            move |vfs: &Vfs, parent| vfs.create(&by, parent, &name, mode & 0o7777, umask, flags);
        let inside = self.gate.enter();
        let parent = admit(inside.as_ref(), Errno::ENODEV).map(|()| Ino(parent.0));
        let host: Arc<dyn Forget> = Arc::clone(&self.pages) as _;
        self.answer_at(req, parent, reply, run, move |(attr, file): Made, reply: ReplyCreate| {
            if file.ops.nature().keeps_cache {
                file.ops.shown(file.ino, &host);
            }
            let (ttl, shown) = (super::attr::ttl(&attr), super::attr::shown(&attr));
            let flags = open_flags(file.ops.nature());
            reply.created(&ttl, &shown, super::names::GENERATION, FileHandle(file.handle), flags);
        });
    }

    pub(super) fn on_read(
        &self,
        req: &Request,
        handle: FileHandle,
        (at, size): (u64, u32),
        flags: i32,
        reply: ReplyData,
    ) {
        tell!(req, "read {handle} {at} {size}");
        let (id, call, size) = (req.unique().0, call(req, flags), size as usize);
        let file = match self.file_in_order(id, handle) {
            Ok(file) => file,
            Err(error) => return conclude::<(), _>(id, Err(error), reply, |(), _| ()),
        };
        if size > SMALL_READ_BYTES_MAX
            && self.wire.is_open()
            && let Ok(Some(lent)) = guarded(id, || Ok(file.ops.lend(&call, at, size)))
            && lent.len() <= RUNS_MAX
        {
            file.moved_to(at + lent.iter().map(|run| run.bytes().len() as u64).sum::<u64>());
            return conclude(id, Ok(lent), reply, |lent, reply| self.wire.lent(id, &lent, reply));
        }
        with_buffer(size, |buf| {
            let read = guarded(id, || file.ops.read(&call, at, buf).map(|answer| (file, answer)));
            match read {
                Ok((file, Answer::Now(len))) => {
                    file.moved_to(at + len as u64);
                    let data = &buf[..len.min(buf.len())];
                    conclude(id, Ok(data), reply, |data, reply| reply.data(data));
                }
                Ok((file, Answer::Later(later))) => {
                    self.wait(id, req.pid(), later, reply, move |data: Vec<u8>, reply| {
                        file.moved_to(at + data.len() as u64);
                        reply.data(&data[..data.len().min(size)]);
                    });
                }
                Ok((file, Answer::Blocked(blocked))) => {
                    let call = (id, handle.0, req.pid());
                    self.block(call, blocked, reply, move |data: Vec<u8>, reply| {
                        file.moved_to(at + data.len() as u64);
                        reply.data(&data[..data.len().min(size)]);
                    });
                }
                Err(error) => conclude::<(), _>(id, Err(error), reply, |(), _| ()),
            }
        });
    }

    pub(super) fn on_write(
        &self,
        req: &Request,
        handle: FileHandle,
        (at, data): (u64, &[u8]),
        (kind, flags): (WriteFlags, i32),
        reply: ReplyWrite,
    ) {
        tell!(req, "write {handle} {at} {}", data.len());
        let call = call(req, flags);
        let inside = self.gate.enter();
        let found = guarded(call.id, || {
            let file = self.file_in_order(call.id, handle)?;
            // None may come once the last writing out has begun.
            admit(inside.as_ref(), Errno::EIO)?;
            if kind.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
                self.clear_set_id(&call, &file)?;
            }
            Ok(file)
        });
        let file = match found {
            Ok(file) => file,
            Err(error) => return conclude::<(), _>(call.id, Err(error), reply, |(), _| ()),
        };
        let id = call.id;
        let moved = move |file: &OpenFile, len: usize| {
            file.moved_to(at + len as u64);
            u32::try_from(len).unwrap_or(u32::MAX)
        };
        let later =
            |file: Arc<OpenFile>| move |len, reply: ReplyWrite| reply.written(moved(&file, len));
        match guarded(id, || file.ops.write(&call, at, data)) {
            Ok(Answer::Now(len)) => {
                let send = |len, reply| self.wire.written(id, len, reply);
                conclude(id, Ok(moved(&file, len)), reply, send);
            }
            Ok(Answer::Later(rest)) => self.wait(id, req.pid(), rest, reply, later(file)),
            Ok(Answer::Blocked(blocked)) => {
                self.block((id, handle.0, req.pid()), blocked, reply, later(file));
            }
            Err(error) => conclude::<(), _>(id, Err(error), reply, |(), _| ()),
        }
    }

    /// Who may not keep another's set-id bits takes them away by writing; the host leaves that to
    /// us (FUSE_HANDLE_KILLPRIV_V2), and says only that it might be due. Devices have none.
    fn clear_set_id(&self, call: &Call, file: &OpenFile) -> Result<(), Error> {
        if file.ops.kind() != "memory" {
            return Ok(());
        }
        let ino = Ino(file.ino);
        let mode = u32::from(self.vfs.getattr(ino)?.mode);
        let kept = without_set_id(mode);
        if kept != mode {
            self.vfs.setattr(
                &call.caller,
                ino,
                &Change { mode: Some(kept), ..Change::default() },
            )?;
        }
        Ok(())
    }

    pub(super) fn on_flush(&self, req: &Request, handle: FileHandle, reply: ReplyEmpty) {
        begin!(self, req, "flush {handle}");
        let run = |file: &dyn FileOps, call: &Call| {
            self.closing.insert(handle.0);
            self.call_away_closed(handle.0, call.caller.pid);
            file.flush(call)
        };
        self.on_file(req, handle, reply, run, done);
    }

    pub(super) fn on_release(&self, req: &Request, handle: FileHandle, reply: ReplyEmpty) {
        tell!(req, "release {handle}");
        let release = self.order.release(req.unique().0);
        let _long = self.readers.long(); // it waits for nobody (`order.rs`), but may write
        let _inside = self.gate.enter(); // refused by none, waited for if it came in time
        let run = || {
            if let Ok(file) = self.file(handle) {
                self.backings.leave(&file);
            }
            self.vfs.close(handle.0);
            Ok(())
        };
        // Before the answer: nobody waits for that.
        self.lobby.forget(handle.0);
        let released = guarded(req.unique().0, run);
        self.closing.remove(handle.0);
        drop(release);
        conclude(req.unique().0, released, reply, done);
    }

    /// A thread that closes a file ends the calls on it of its process's other threads: they are
    /// told EINTR, and find the descriptor gone when they try again. Another process that closes
    /// its own descriptor of the same open file ends nothing.
    fn call_away_closed(&self, handle: u64, closer: u32) {
        let waiting = self.lobby.waiting_on(handle);
        let process = if waiting.is_empty() { None } else { super::park::process_of(closer) };
        let is_theirs = |tid: &u32| {
            *tid != closer && process.is_some() && super::park::process_of(*tid) == process
        };
        let theirs: Vec<u32> = waiting.into_iter().filter(is_theirs).collect();
        if !theirs.is_empty() {
            self.lobby.call_away(handle, &theirs);
        }
    }

    pub(super) fn on_fsync(
        &self,
        req: &Request,
        handle: FileHandle,
        kind: SyncKind,
        reply: ReplyEmpty,
    ) {
        begin!(self, req, "fsync {handle} {kind:?}");
        self.on_file(req, handle, reply, |file, call| file.sync(call, kind), done);
    }

    pub(super) fn on_allocate(
        &self,
        req: &Request,
        handle: FileHandle,
        (at, len): (u64, u64),
        mode: i32,
        reply: ReplyEmpty,
    ) {
        begin!(self, req, "fallocate {handle} {mode:#x} {at} {len}");
        let inside = self.gate.enter();
        let run = |file: &dyn FileOps, call: &Call| {
            admit(inside.as_ref(), Errno::EIO)?;
            file.allocate(call, mode, at, len)
        };
        self.on_file(req, handle, reply, run, done);
    }

    pub(super) fn on_ioctl(
        &self,
        req: &Request,
        handle: FileHandle,
        flags: IoctlFlags,
        (cmd, input, out_size): (u32, &[u8], u32),
        reply: ReplyIoctl,
    ) {
        begin!(self, req, "ioctl {handle} {cmd:#x} {} in {out_size} out", input.len());
        let (out, inside) = (out_size as usize, self.gate.enter());
        let run = |file: &dyn FileOps, call: &Call| {
            admit(inside.as_ref(), Errno::EIO)?;
            if flags.contains(IoctlFlags::FUSE_IOCTL_DIR) {
                return Err(Errno::ENOTTY.into());
            }
            let ioctl = IoctlCall {
                cmd,
                input,
                out_bytes: out,
                is_32_bit: flags.contains(IoctlFlags::FUSE_IOCTL_32BIT),
                memory: Arc::new(Asleep { tid: call.caller.pid }),
            };
            match file.ioctl(call, &ioctl)? {
                // A command whose number carries no size leaves no room for data: an answer
                // without them would be taken for one with.
                Answer::Now((_, data)) if data.len() > out => Err(Errno::ENOTTY.into()),
                answer => Ok(answer),
            }
        };
        self.on_file(req, handle, reply, run, move |(result, data): IoctlAnswer, reply| {
            reply.ioctl(result, &data[..data.len().min(out)]);
        });
    }

    pub(super) fn on_poll(
        &self,
        req: &Request,
        handle: FileHandle,
        notifier: PollNotifier,
        (events, flags): (PollEvents, PollFlags),
        reply: ReplyPoll,
    ) {
        begin!(self, req, "poll {handle} {events:?} {flags:?}");
        let run = || {
            let file = self.file(handle)?;
            let call = call(req, file.flags);
            let polled = file.ops.poll(&call);
            if flags.contains(PollFlags::FUSE_POLL_SCHEDULE_NOTIFY) {
                let tell = Box::new(move || notifier.notify());
                self.lobby.watch_poll(handle.0, &file.ops, call, (events.bits(), polled), tell);
            }
            Ok(polled.ready)
        };
        self.answer(req, reply, run, |ready, reply| {
            reply.poll(PollEvents::from_bits_truncate(ready));
        });
    }

    pub(super) fn on_lseek(
        &self,
        req: &Request,
        handle: FileHandle,
        (offset, whence): (i64, i32),
        reply: ReplyLseek,
    ) {
        begin!(self, req, "lseek {handle} {offset} {whence}");
        let run = |file: &dyn FileOps, _: &Call| {
            let which = match whence {
                libc::SEEK_DATA => Seek::Data,
                libc::SEEK_HOLE => Seek::Hole,
                _ => return Err(Errno::EINVAL.into()),
            };
            file.seek(u64::try_from(offset).map_err(|_| Errno::ENXIO)?, which)
        };
        // No file of ours is longer than i64::MAX, as no offset of the host's is.
        self.on_file(req, handle, reply, run, |at: u64, reply: ReplyLseek| {
            reply.offset(i64::try_from(at).unwrap_or(i64::MAX));
        });
    }

    /// A call on an open file that needs nothing but the flags of its open(2).
    fn on_file<T: Send + 'static, R: Refuse>(
        &self,
        req: &Request,
        handle: FileHandle,
        reply: R,
        run: impl FnOnce(&dyn FileOps, &Call) -> Result<Answer<T>, Error>,
        send: impl Fn(T, R) + Clone + Send + 'static,
    ) {
        let run = || {
            let file = self.file(handle)?;
            run(file.ops.as_ref(), &call(req, file.flags))
        };
        self.answer_or_wait(req, handle.0, reply, run, send.clone(), send);
    }
}

/// `mode` after a write by somebody who may not keep set-id bits: set-group-id without execution
/// by the group is no set-id bit, and stays.
fn without_set_id(mode: u32) -> u32 {
    let group = if mode & libc::S_IXGRP != 0 { libc::S_ISGID } else { 0 };
    mode & !libc::S_ISUID & !group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nature_becomes_the_flags_of_the_open() {
        assert_eq!(open_flags(Nature::default()), FopenFlags::empty());
        let disk = Nature { is_direct: true, has_parallel_writes: true, ..Nature::default() };
        assert_eq!(
            open_flags(disk),
            FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
        );
        let tape = Nature { is_direct: true, is_stream: true, ..Nature::default() };
        assert_eq!(open_flags(tape), FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_STREAM);
        let file = Nature { keeps_cache: true, ..Nature::default() };
        assert_eq!(open_flags(file), FopenFlags::FOPEN_KEEP_CACHE);
    }

    #[test]
    fn a_buffer_has_the_size_asked_for_and_survives_a_panic_inside() {
        for size in [4096, 1 << 20, 512, 0, 1 << 16] {
            with_buffer(size, |buf| assert_eq!(buf.len(), size));
        }
        let panics = || with_buffer(10, |_| panic!("on purpose"));
        assert!(std::panic::catch_unwind(panics).is_err());
        with_buffer(10, |buf| assert_eq!(buf.len(), 10));
    }

    #[test]
    fn a_write_takes_set_id_bits_away() {
        assert_eq!(without_set_id(0o4755), 0o755);
        assert_eq!(without_set_id(0o6775), 0o775);
        assert_eq!(without_set_id(0o2664), 0o2664);
        assert_eq!(without_set_id(0o1777), 0o1777);
    }
}
