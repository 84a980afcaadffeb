//! States of one buffer, without a cache around it.

use crate::cache::buffer::{Buffer, Landing, Part, Span, hull, sectors};
use devices::{Clock, Failure, IoError, SimTime};

const COPY: fn(&mut [u8], &[u8]) = <[u8]>::copy_from_slice;
const NOW: SimTime = SimTime(5);

fn written(span: Span, byte: u8) -> Buffer {
    let clock = devices::engine::Engine::new(devices::engine::Time::Simulated);
    let mut buffer = Buffer::empty(Vec::new(), SimTime(0));
    let data = vec![byte; span.to - span.from];
    buffer.write_in(span, &data, span.touched(9), COPY, &*clock);
    buffer
}

fn ends(buffer: &mut Buffer, part: Part, fate: Result<(), Failure>) -> Landing {
    buffer.land_write(part, fate, SimTime(1), NOW)
}

#[test]
fn sectors_touched_and_covered_by_a_span() {
    let span = |from, to| Span { from, to };
    assert_eq!((span(0, 4096).touched(9), span(0, 4096).covered(9)), (0xff, 0xff));
    assert_eq!((span(511, 513).touched(9), span(511, 513).covered(9)), (0b11, 0));
    assert_eq!((span(512, 1600).touched(9), span(512, 1600).covered(9)), (0b1110, 0b110));
    assert_eq!((span(3584, 4096).touched(9), span(3584, 4096).covered(9)), (0x80, 0x80));
    assert_eq!((span(512, 1024).touched(12), span(512, 1024).covered(12)), (0xff, 0));
    assert_eq!((span(0, 4096).touched(12), span(0, 4096).covered(12)), (0xff, 0xff));
}

#[test]
fn a_run_of_sectors_and_the_hull_of_a_set() {
    assert_eq!((sectors(0, 8), sectors(3, 2), sectors(7, 1), sectors(2, 0)), (255, 24, 128, 0));
    assert_eq!((hull(0b0010_0100), hull(0x80), hull(0xff)), ((2, 4), (7, 1), (0, 8)));
}

#[test]
fn a_wholly_dirty_buffer_gives_its_memory_away_and_gets_it_back() {
    let mut buffer = written(Span { from: 0, to: 4096 }, 7);
    let part = buffer.take_dirty(0xff).pop().unwrap();
    assert!(buffer.is_away() && !buffer.holds(1) && buffer.is_unsaved());
    assert!(buffer.take_dirty(0xff).is_empty(), "one write-out at a time");
    assert_eq!(ends(&mut buffer, part, Ok(())), Landing::Saved);
    assert!(buffer.holds(0xff) && !buffer.is_unsaved() && !buffer.is_busy());
    assert_eq!(buffer.bytes(Span { from: 0, to: 4096 }), [7; 4096]);
}

#[test]
fn a_partly_dirty_buffer_stays_readable_and_may_become_dirty_again() {
    let mut buffer = written(Span { from: 512, to: 1024 }, 7);
    let part = buffer.take_dirty(0xff).pop().unwrap();
    assert_eq!((part.first, part.count, part.memory.len()), (1, 1, 512));
    assert!(buffer.holds(0b10));
    let clock = devices::engine::Engine::new(devices::engine::Time::Simulated);
    buffer.write_in(Span { from: 512, to: 1024 }, &[8; 512], 0b10, COPY, &*clock);
    assert_eq!(ends(&mut buffer, part, Ok(())), Landing::Saved);
    assert_eq!(buffer.state(), "dirty");
}

#[test]
fn what_fails_is_dirty_again_with_its_old_age() {
    let mut buffer = written(Span { from: 0, to: 512 }, 7);
    buffer.write_in(Span { from: 1024, to: 1536 }, &[7; 512], 0b100, COPY, &Later);
    let mut parts = buffer.take_dirty(0xff);
    let (second, first) = (parts.pop().unwrap(), parts.pop().unwrap());
    assert_eq!(ends(&mut buffer, first, Err(IoError::Transient.into())), Landing::Partly);
    assert_eq!(ends(&mut buffer, second, Ok(())), Landing::Failed { is_first: true });
    assert!(buffer.is_stuck());
    assert_eq!((buffer.state(), buffer.since()), ("failed", SimTime(1)));
    let part = buffer.take_dirty(0xff).pop().unwrap();
    assert_eq!((part.first, part.count), (0, 1), "only what failed");
    assert_eq!(ends(&mut buffer, part, Ok(())), Landing::Saved);
    assert!(buffer.unwritten().is_none() && buffer.failures() == 0);
}

#[test]
fn memory_that_does_not_come_back_is_not_taken_for_data() {
    let mut buffer = written(Span { from: 0, to: 4096 }, 7);
    let mut part = buffer.take_dirty(0xff).pop().unwrap();
    part.memory = Vec::new();
    let landing = ends(&mut buffer, part, Err(IoError::Timeout.into()));
    assert_eq!(landing, Landing::Failed { is_first: true });
    assert!(buffer.is_void() && !buffer.is_unsaved());
}

#[test]
fn a_fill_does_not_overwrite_what_was_written_meanwhile() {
    let mut buffer = Buffer::empty(Vec::new(), NOW);
    let part = buffer.begin_fill(1, 0xff).unwrap();
    assert!(buffer.begin_fill(1, 0xff).is_none(), "one fill at a time");
    buffer.write_in(Span { from: 512, to: 1024 }, &[9; 512], 0b10, COPY, &Later);
    buffer.land_fill(part, Ok(()), NOW);
    assert!(buffer.holds(0xff));
    assert_eq!(buffer.bytes(Span { from: 512, to: 1024 }), [9; 512]);
    assert_eq!(buffer.bytes(Span { from: 0, to: 512 }), [0; 512]);
}

#[test]
fn a_fill_overtaken_by_a_change_of_the_medium_is_not_used() {
    let mut buffer = Buffer::empty(Vec::new(), NOW);
    let part = buffer.begin_fill(1, 0xff).unwrap();
    buffer.drop_clean(0b11);
    buffer.land_fill(part, Ok(()), NOW);
    assert!(!buffer.holds(0b1) && !buffer.holds(0b10) && buffer.holds(0b1111_1100));
}

#[test]
fn a_failed_fill_is_told_to_those_it_concerns_and_then_narrowed() {
    let mut buffer = Buffer::empty(Vec::new(), NOW);
    let part = buffer.begin_fill(1, 0xff).unwrap();
    buffer.land_fill(part, Err(IoError::Media(devices::Sector(8 + 5)).into()), NOW);
    assert!(buffer.unread(0b1).is_none() && buffer.unread(1 << 5).is_some());
    let part = buffer.begin_fill(0b110, 0xff).unwrap();
    assert_eq!((part.first, part.count), (1, 2));
    assert!(buffer.unread(0xff).is_none(), "tried again");
}

#[test]
fn what_flies_while_it_is_forgotten_is_not_kept() {
    let mut buffer = written(Span { from: 0, to: 4096 }, 7);
    let part = buffer.take_dirty(0xff).pop().unwrap();
    buffer.forget(0x0f);
    assert_eq!(ends(&mut buffer, part, Ok(())), Landing::Saved);
    assert!(!buffer.holds(1) && buffer.holds(0xf0));
}

/// A clock that stands at 2.
struct Later;

impl Clock for Later {
    fn now(&self) -> SimTime {
        SimTime(2)
    }
}

#[test]
fn a_fill_that_lands_while_all_is_written_out_does_not_bring_old_bytes_back() {
    let mut buffer = Buffer::empty(Vec::new(), SimTime(0));
    let fill = buffer.begin_fill(0xff, 0xff).unwrap();
    let all = Span { from: 0, to: 4096 };
    buffer.write_in(
        all,
        &[2; 4096],
        0xff,
        COPY,
        &*devices::engine::Engine::new(devices::engine::Time::Simulated),
    );
    let mut parts = buffer.take_dirty(0xff);
    buffer.land_fill(Part { memory: vec![1; 4096], ..fill }, Ok(()), SimTime(1));
    let part = parts.pop().unwrap();
    assert!(part.memory == [2; 4096] && parts.is_empty());
    buffer.land_write(part, Ok(()), SimTime(0), SimTime(2));
    assert!(buffer.bytes(all) == [2; 4096]);
}
