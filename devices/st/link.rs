//! The driver's way to its controller: a command block and memory are lent, the doorbell is rung,
//! and the interrupt tells that it is over.
//!
//! One command at a time: the next is given when the one before was answered. A controller that
//! stays silent is reset by a watchdog, and the command ends as silent.

use crate::bus::dma::Segment;
use crate::bus::{BusAddress, DmaChannel, IrqLine, PortIo};
use crate::contract::{Failure, IoError, Sector, Sense, WaitQueue};
use crate::engine::{Engine, EventId};
use crate::sync::{Arc, Mutex};
use crate::tape_manual as manual;
use std::future::poll_fn;
use std::sync::Weak;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

/// How long a command may take, without and with a timing model: the longest motion of the slowest
/// drive known here (2 minutes) and some more.
const SILENCE_NANOS_MAX: [u64; 2] = [10_000_000_000, 300_000_000_000];

/// A command.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    pub(super) opcode: u8,
    pub(super) flags: u8,
    /// Length of records where it is fixed, else 0, in bytes.
    pub(super) fixed: u32,
    pub(super) count: i64,
}

impl Order {
    /// One without memory.
    pub(super) fn new(opcode: u8, count: i64) -> Order {
        Order { opcode, count, ..Order::default() }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reply {
    sense: Sense,
    flags: u8,
    pub(super) residual: i64,
    /// Bytes to or from memory.
    pub(super) moved: usize,
    /// Records and marks before the head.
    block: u64,
    is_silent: bool,
}

impl Reply {
    /// What a drive says of a write behind the early warning.
    pub(super) fn early_warning() -> Reply {
        let sense = Sense { ascq: 0x02, ..Sense::default() };
        Reply { sense, flags: manual::END_OF_TAPE, ..Reply::default() }
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_clear(&self) -> bool {
        self.sense == Sense::default() && self.flags == 0 && !self.is_silent
    }

    pub(super) fn has_filemark(&self) -> bool {
        self.flags & manual::FILEMARK != 0
    }

    pub(super) fn has_end_of_tape(&self) -> bool {
        self.flags & manual::END_OF_TAPE != 0
    }

    pub(super) fn has_wrong_length(&self) -> bool {
        self.flags & manual::WRONG_LENGTH != 0
    }

    /// Of a write: whether all of it is on the tape, be it behind the early warning.
    pub(super) fn is_written(&self) -> bool {
        let is_warning = self.has_end_of_tape() && self.sense.key == manual::NO_SENSE;
        self.is_clear() || is_warning && !self.is_silent
    }

    pub(super) fn is_blank(&self) -> bool {
        self.sense.key == manual::BLANK_CHECK
    }

    pub(super) fn is_overflow(&self) -> bool {
        self.sense.key == manual::VOLUME_OVERFLOW
    }

    /// The one word for its sense (SPC-4, tables of sense keys and of additional codes), and the
    /// sense itself.
    pub(super) fn failure(&self) -> Failure {
        let sense = self.sense;
        let error = match (sense.key, sense.asc, sense.ascq) {
            _ if self.is_silent => return IoError::Timeout.into(),
            (2, _, _) => IoError::NotReady,
            (4, _, _) => IoError::Hardware,
            (5, 0x53, _) => IoError::Busy, // the door is locked
            (5, _, _) => IoError::Invalid,
            (7, 0x27, 0x07) => IoError::NoSpace,
            (7, _, _) => IoError::WriteProtected,
            (0xb, 0x47, _) => IoError::Transient,
            _ => IoError::Media(Sector(sense.info.unwrap_or(self.block))),
        };
        Failure { error, sense }
    }
}

enum Slot {
    Idle,
    Running { watchdog: Option<EventId> },
    Done(Reply),
}

/// See the head of this file.
pub(super) struct Link {
    me: Weak<Link>,
    io: PortIo,
    channel: DmaChannel,
    engine: Arc<Engine>,
    /// Rung when a command is over.
    pub(super) waits: Arc<WaitQueue>,
    slot: Mutex<Slot>,
    /// On whose behalf commands are given: a process.
    pub(super) pid: AtomicU32,
    /// Last, so that the handler is gone before what it uses.
    line: Arc<IrqLine>,
}

impl Link {
    pub(super) fn new(
        io: PortIo,
        line: Arc<IrqLine>,
        channel: DmaChannel,
        engine: Arc<Engine>,
    ) -> Arc<Link> {
        Arc::new_cyclic(|me| Link {
            me: me.clone(),
            io,
            channel,
            engine,
            waits: Arc::default(),
            slot: Mutex::new(Slot::Idle),
            pid: AtomicU32::new(0),
            line,
        })
    }

    /// Where it is: `port 0x6000 irq 64 dma 64`.
    pub(super) fn address(&self) -> String {
        let (port, irq, dma) = (self.io.first(), self.line.number(), self.channel.number());
        format!("port {port:#x} irq {irq} dma {dma}")
    }

    /// The status register.
    pub(super) fn status(&self) -> u32 {
        self.io.inl(manual::STATUS)
    }

    /// Writes the control register.
    pub(super) fn control(&self, word: u32) {
        self.io.outl(manual::CONTROL, word);
    }

    /// The number of the timing model.
    pub(super) fn timing(&self) -> u32 {
        self.io.inl(manual::TIMING)
    }

    pub(super) fn set_timing(&self, number: u32) {
        self.io.outl(manual::TIMING, number);
    }

    /// Records and marks before the head.
    pub(super) fn position(&self) -> u64 {
        self.io.inq(manual::POSITION)
    }

    /// How much the tape holds, in bytes.
    pub(super) fn size_bytes(&self) -> u64 {
        self.io.inq(manual::SIZE)
    }

    /// Gives a command without memory and waits for its end.
    pub(super) async fn command(&self, order: Order) -> Reply {
        self.transfer(order, Vec::new(), 0, 0).await.0
    }

    /// Gives a command with `len` bytes of `memory` from byte `from`, waits for its end, and gives
    /// the memory back.
    pub(super) async fn transfer(
        &self,
        order: Order,
        memory: Vec<u8>,
        from: usize,
        len: usize,
    ) -> (Reply, Vec<u8>) {
        let failed = |error: IoError| Reply { sense: error.sense(), ..Reply::default() };
        let (Ok(bytes), true) = (u32::try_from(len), from + len <= memory.len()) else {
            return (failed(IoError::Invalid), memory);
        };
        let address = match self.channel.map(memory) {
            Ok(address) => address,
            Err(memory) => return (failed(IoError::NotReady), memory),
        };
        let segment = Segment { address: address.plus(from as u64), bytes };
        let block = self.channel.map(encode(order, segment, self.pid.load(Ordering::Relaxed)));
        let Ok(block) = block else {
            return (failed(IoError::NotReady), self.channel.unmap(address).unwrap_or_default());
        };
        self.start(block);
        let reply = poll_fn(|_| {
            let mut slot = self.slot.lock();
            let Slot::Done(reply) = *slot else { return Poll::Pending };
            *slot = Slot::Idle;
            Poll::Ready(reply)
        })
        .await;
        drop(self.channel.unmap(block));
        (reply, self.channel.unmap(address).unwrap_or_default())
    }

    fn start(&self, block: BusAddress) {
        *self.slot.lock() = Slot::Running { watchdog: None };
        self.io.outq(manual::BLOCK, block.0);
        self.io.outl(manual::DOORBELL, 1);
    }

    /// Whether the tape moves: there is time until the command is over.
    pub(super) fn is_moving(&self) -> bool {
        self.status() & (manual::BUSY | manual::MOVING) != manual::BUSY
    }

    /// Whether a command is over and nobody has taken its answer yet.
    pub(super) fn is_done(&self) -> bool {
        matches!(*self.slot.lock(), Slot::Done(_))
    }

    /// The command under way will take longer: somebody must see to it that it ends.
    pub(super) fn watch(&self) {
        let limit = SILENCE_NANOS_MAX[usize::from(self.timing() != 0)];
        let mut slot = self.slot.lock();
        let Slot::Running { watchdog } = &mut *slot else { return };
        if watchdog.is_none() {
            let me = self.me.clone();
            *watchdog = Some(self.engine.after(limit, move || {
                if let Some(link) = me.upgrade() {
                    log::error!(target: "st", "the controller is silent, it is reset");
                    link.abort();
                }
            }));
        }
    }

    /// Resets the controller; what was under way ends as silent.
    pub(super) fn abort(&self) {
        self.control(manual::RESET);
        self.finish(Reply { is_silent: true, ..Reply::default() });
    }

    /// The interrupt. Another's, on a shared line, changes nothing.
    pub(super) fn interrupt(&self) {
        if self.status() & manual::DONE == 0 {
            return;
        }
        let [ascq, asc, key, flags] = self.io.inl(manual::SENSE).to_le_bytes();
        let block = self.position();
        // Of what could not be read, the record before the head.
        let info = (key == 3).then(|| block.saturating_sub(1));
        let reply = Reply {
            sense: Sense { key, asc, ascq, info },
            flags,
            residual: i64::from_le_bytes(self.io.inq(manual::RESIDUAL).to_le_bytes()),
            moved: usize::try_from(self.io.inq(manual::MOVED)).unwrap_or(usize::MAX),
            block,
            is_silent: false,
        };
        self.control(manual::ACK);
        self.finish(reply);
    }

    fn finish(&self, reply: Reply) {
        let mut slot = self.slot.lock();
        let Slot::Running { watchdog } = &mut *slot else { return };
        let watchdog = watchdog.take();
        *slot = Slot::Done(reply);
        drop(slot);
        if let Some(event) = watchdog {
            self.engine.cancel(event);
        }
        self.waits.ring();
    }
}

fn encode(order: Order, memory: Segment, pid: u32) -> Vec<u8> {
    let mut block = Vec::with_capacity(manual::BLOCK_BYTES);
    block.extend([order.opcode, order.flags, 0, 0]);
    block.extend(order.fixed.to_le_bytes());
    block.extend(order.count.to_le_bytes());
    block.extend(memory.address.0.to_le_bytes());
    block.extend(memory.bytes.to_le_bytes());
    block.extend(pid.to_le_bytes());
    block
}
