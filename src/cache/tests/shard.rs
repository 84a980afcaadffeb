//! Order of use, what gives way, and the books of a shard.

use crate::cache::books::{Admission, Counts, Key, Ledger};
use crate::cache::buffer::{BLOCK_BYTES, Buffer, Landing, Span};
use crate::cache::shard::{Fill, Place, Room, Shard, Stop, Taking, Victims};
use crate::sync::Arc;
use devices::SimTime;
use devices::engine::{Engine, Time};

struct Room8 {
    shard: Shard,
    ledger: Ledger,
    engine: Arc<Engine>,
}

impl Room8 {
    fn new() -> Room8 {
        let mut shard = Shard::new();
        shard.set_quota(8, 40, 60);
        let engine = Engine::new(Time::Simulated);
        Room8 { shard, ledger: Ledger::default(), engine }
    }

    fn fetch(&mut self, block: u64) -> Option<Room> {
        let fill = Fill { need: 1, full: 0xff, is_ahead: false, victims: Victims::InOrder };
        let (key, now) = (Key::new(0, block), SimTime(0));
        let ledger = &self.ledger;
        match self.shard.begin_fill(key, fill, now, ledger) {
            Ok(part) => {
                let land = |buffer: &mut Buffer| buffer.land_fill(part.unwrap(), Ok(()), now);
                self.shard.change(key, ledger, land);
                None
            }
            Err(room) => Some(room),
        }
    }

    fn write(&mut self, block: u64) -> Result<(), Stop> {
        let ledger = &self.ledger;
        let taking = Taking {
            unit_shift: 9,
            is_failing: false,
            copy: <[u8]>::copy_from_slice,
            victims: Victims::InOrder,
            engine: &self.engine,
            ledger,
        };
        let span = Span { from: 0, to: BLOCK_BYTES };
        self.shard.copy_in(Key::new(0, block), span, &[1; BLOCK_BYTES], Place::Unknown, &taking)
    }

    fn read(&mut self, block: u64) -> usize {
        self.shard.copy_out(Key::new(0, block), 0, &mut [0; BLOCK_BYTES], false).bytes
    }

    fn blocks(&self) -> Vec<u64> {
        self.shard.iter().map(|(key, _)| key.block()).collect()
    }
}

#[test]
fn in_a_large_shard_a_buffer_moves_only_when_enough_others_have_come_in() {
    let mut room = Room8::new();
    room.shard.set_quota(2048, 40, 60); // an eighth: 256
    let first = |room: &Room8| room.shard.iter().next().map(|(key, _)| key.block());
    (0..1024).for_each(|block| assert!(room.fetch(block).is_none()));
    (0..1024).for_each(|block| assert_eq!(room.read(block), BLOCK_BYTES)); // no longer fresh
    assert_eq!(first(&room), Some(1023));
    (0..100).for_each(|_| assert_eq!(room.read(5), BLOCK_BYTES));
    assert_eq!(first(&room), Some(1023), "nothing came in");
    (2000..2255).for_each(|block| assert!(room.fetch(block).is_none()));
    room.read(5);
    assert_eq!(first(&room), Some(2254), "255 came in");
    assert!(room.fetch(2255).is_none());
    room.read(5);
    assert_eq!(first(&room), Some(5));
    room.read(6);
    room.read(5);
    assert_eq!(room.blocks()[..2], [6, 5]);
}

#[test]
fn what_is_read_or_written_again_and_again_outlives_any_number_of_others() {
    let mut room = Room8::new();
    room.shard.set_quota(1024, 90, 95);
    for block in 0..20_000 {
        if let Some(Room::Push(_) | Room::Wait | Room::Full) = room.fetch(10 + block) {
            panic!("only one is dirty, and it is never the oldest");
        }
        if block == 0 {
            assert!(room.fetch(1).is_none());
        }
        assert!(room.write(2).is_ok());
        assert_eq!(room.read(1), BLOCK_BYTES, "after {block} others");
        assert_eq!(room.read(10 + block), BLOCK_BYTES);
    }
    assert_eq!(room.shard.misses, 20_001);
}

#[test]
fn what_was_not_used_for_longest_gives_way() {
    let mut room = Room8::new();
    for block in 0..8 {
        assert!(room.fetch(block).is_none());
    }
    room.shard.copy_out(Key::new(0, 0), 0, &mut [0; 10], false);
    assert!(room.fetch(8).is_none());
    assert_eq!(room.blocks(), [8, 0, 7, 6, 5, 4, 3, 2]);
    room.shard.copy_out(Key::new(0, 8), 0, &mut [0; 4096], true);
    assert_eq!(room.blocks().last(), Some(&8), "read to its end in a long scan: it sinks");
    room.shard.audit();
}

#[test]
fn a_dirty_one_that_would_be_next_is_to_be_pushed_with_its_neighbours() {
    let mut room = Room8::new();
    for block in [3, 1, 100] {
        assert!(room.write(block).is_ok());
    }
    for block in 200..205 {
        assert!(room.fetch(block).is_none());
    }
    let Some(Room::Push(keys)) = room.fetch(300) else { panic!("nothing to push") };
    assert_eq!(keys, [Key::new(0, 1), Key::new(0, 3)]);
    assert!(matches!(room.shard.make_room(Victims::Clean), Room::Memory(_)));
    assert!(!room.blocks().contains(&200), "the oldest clean one");
    room.shard.audit();
}

#[test]
fn busy_ones_stay_and_who_needs_room_waits() {
    let mut room = Room8::new();
    let fill = Fill { need: 1, full: 0xff, is_ahead: false, victims: Victims::InOrder };
    for block in 0..8 {
        let ledger = &room.ledger;
        let begun = room.shard.begin_fill(Key::new(0, block), fill, SimTime(0), ledger);
        assert!(begun.is_ok_and(|part| part.is_some()));
    }
    assert!(matches!(room.fetch(9), Some(Room::Wait)));
    assert!(!room.shard.may_make_room());
    assert_eq!(room.shard.counts.busy, 8);
}

#[test]
fn the_books_follow_every_change() {
    let mut room = Room8::new();
    for block in 0..4 {
        assert!(room.write(block).is_ok());
    }
    assert!(matches!(room.write(4), Err(Stop::Throttle(Admission::Wait))), "the high mark");
    assert!(room.write(2).is_ok(), "dirty already");
    assert_eq!(room.ledger.unsaved(), 4);
    let key = Key::new(0, 1);
    let ledger = &room.ledger;
    let mut parts = room.shard.change(key, ledger, |b| b.take_dirty(0xff)).unwrap();
    assert_eq!(room.shard.counts.writing, 1);
    let part = parts.pop().unwrap();
    let (since, now) = (SimTime(0), SimTime(9));
    let landing = room.shard.change(key, ledger, |b| b.land_write(part, Ok(()), since, now));
    assert_eq!(landing, Some(Landing::Saved));
    let unsaved: Vec<u64> = room.shard.unsaved(&Key::ALL).map(|(k, _)| k.block()).collect();
    assert_eq!(unsaved, [0, 2, 3]);
    let all = Key::new(0, 0)..Key::new(0, 100);
    let ledger = &room.ledger;
    room.shard.sweep(&all, ledger, |_, buffer| buffer.forget(0xff));
    assert_eq!((room.shard.used(), room.shard.counts), (0, Counts::default()));
    room.shard.audit();
}
