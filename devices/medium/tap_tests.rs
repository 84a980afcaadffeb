//! The tape format against images written by hand, a model, and files broken off anywhere.

use super::*;
use proptest::prelude::*;
use std::path::PathBuf;

const OPTIONS: TapOptions = TapOptions { size_bytes: 1 << 20, read_only: false, host_sync: false };

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("st0.tap");
    (dir, path)
}

fn open(path: &Path) -> Tap {
    Tap::open(path, OPTIONS).unwrap()
}

fn loaded(image: &[u8]) -> (tempfile::TempDir, Tap) {
    let (dir, path) = place();
    std::fs::write(&path, image).unwrap();
    let tap = open(&path);
    (dir, tap)
}

fn record(data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap().to_le_bytes();
    let pad = &[0][..data.len() % 2];
    [&len, data, pad, &len].concat()
}

/// All that stands on the tape from the beginning: records by their data, marks as empty.
fn all(tap: &mut Tap) -> Vec<Vec<u8>> {
    tap.rewind();
    let mut found = Vec::new();
    let mut into = vec![0xee; 1 << 20];
    while let Some(item) = tap.read(&mut into).unwrap() {
        found.push(match item {
            Item::Mark => Vec::new(),
            Item::Record { bytes, .. } => into[..usize::try_from(bytes).unwrap()].to_vec(),
        });
    }
    assert_eq!(tap.block(), found.len() as u64);
    found
}

fn ends(tap: &mut Tap) -> u64 {
    tap.to_end();
    tap.block()
}

#[test]
fn a_missing_tape_is_made_empty() {
    let (_dir, path) = place();
    let mut tap = open(&path);
    assert_eq!((tap.peek(), tap.backward()), (Ok(None), Ok(None)));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn what_is_written_stands_in_the_file_in_the_published_format() {
    let (_dir, path) = place();
    let mut tap = open(&path);
    tap.write(b"abc").unwrap();
    assert_eq!(tap.mark(1), Ok(1));
    tap.write(b"defg").unwrap();
    let image =
        b"\x03\0\0\0abc\0\x03\0\0\0\0\0\0\0\x04\0\0\0defg\x04\0\0\0\xff\xff\xff\xff".to_vec();
    assert_eq!(std::fs::read(&path).unwrap(), image);
    drop(tap);
    let mut tap = open(&path);
    assert_eq!(all(&mut tap), [b"abc".to_vec(), Vec::new(), b"defg".to_vec()]);
}

#[test]
fn an_image_without_an_end_marker_ends_with_its_file() {
    let image = [record(b"one"), vec![0; 4], record(b"two2"), vec![0; 8]].concat();
    let (_dir, mut tap) = loaded(&image);
    assert_eq!(ends(&mut tap), 5);
    assert_eq!(tap.end_byte(), image.len() as u64);
    tap.write(b"more").unwrap();
    assert_eq!(all(&mut tap)[5], b"more");
}

#[test]
fn gaps_private_records_and_private_markers_are_stepped_over_both_ways() {
    let gap = GAP.to_le_bytes().to_vec();
    let private = b"\x02\0\0\x30hi\x02\0\0\x30".to_vec();
    let marker = b"\x01\x02\x03\xe4".to_vec();
    let image = [
        gap.clone(),
        record(b"a"),
        [gap.clone(), gap.clone(), private, marker].concat(),
        record(b"bc"),
        gap.clone(),
        vec![0; 4],
        gap,
    ]
    .concat();
    let (_dir, mut tap) = loaded(&image);
    assert_eq!(all(&mut tap), [b"a".to_vec(), b"bc".to_vec(), Vec::new()]);
    assert_eq!(tap.backward(), Ok(Some(Item::Mark)));
    assert_eq!(tap.backward(), Ok(Some(Item::Record { bytes: 2, is_bad: false })));
    assert_eq!(tap.backward(), Ok(Some(Item::Record { bytes: 1, is_bad: false })));
    assert_eq!((tap.block(), tap.backward(), tap.byte()), (0, Ok(None), 0));
}

#[test]
fn half_a_gap_left_by_odd_words_is_stepped_over() {
    // A record of 2 bytes (10 in all) written over 12 bytes of gaps leaves half of the last.
    let gap = GAP.to_le_bytes();
    let image = [record(b"xy"), gap[2..].to_vec(), gap.to_vec(), vec![0; 4]].concat();
    let (_dir, mut tap) = loaded(&image);
    assert_eq!(all(&mut tap), [b"xy".to_vec(), Vec::new()]);
    assert_eq!(tap.backward(), Ok(Some(Item::Mark)));
    assert_eq!(tap.backward(), Ok(Some(Item::Record { bytes: 2, is_bad: false })));
}

#[test]
fn a_record_flagged_as_bad_says_so() {
    let (_dir, mut tap) = loaded(b"\x02\0\0\x80no\x02\0\0\x80\x02\0\0\0ok\x02\0\0\0");
    let mut into = [0; 8];
    assert_eq!(tap.read(&mut into), Ok(Some(Item::Record { bytes: 2, is_bad: true })));
    assert_eq!(tap.read(&mut into), Ok(Some(Item::Record { bytes: 2, is_bad: false })));
    assert_eq!(&into[..2], b"ok");
}

#[test]
fn nothing_behind_the_end_marker_is_on_the_tape() {
    let image = [record(b"in"), vec![0xff; 4], record(b"out")].concat();
    let (_dir, mut tap) = loaded(&image);
    assert_eq!(all(&mut tap), [b"in"]);
}

#[test]
fn a_file_that_breaks_off_anywhere_ends_with_the_last_whole_item() {
    let items: [&[u8]; 6] = [b"first", b"", b"second record", b"xx", b"", b"last"];
    let mut image = Vec::new();
    let mut borders = vec![0];
    for item in items {
        image.extend(if item.is_empty() { vec![0; 4] } else { record(item) });
        borders.push(image.len());
    }
    image.extend([0xff; 4]);
    for cut in (0..=image.len()).filter(|cut| !(1..borders[1]).contains(cut)) {
        let (_dir, mut tap) = loaded(&image[..cut]);
        let whole = borders.iter().filter(|&&border| border <= cut).count() - 1;
        assert_eq!(all(&mut tap), items[..whole], "cut at {cut}");
        tap.write(b"appended").unwrap();
        assert_eq!(tap.mark(1), Ok(1));
        assert_eq!(all(&mut tap)[whole..], [b"appended".to_vec(), Vec::new()], "cut at {cut}");
    }
}

#[test]
fn loading_changes_no_file_however_broken() {
    let image = [record(b"good"), b"\x10\0\0\0broken off".to_vec()].concat();
    let (dir, tap) = loaded(&image);
    drop(tap);
    assert_eq!(std::fs::read(dir.path().join("st0.tap")).unwrap(), image);
}

#[test]
fn a_file_that_is_no_tape_is_refused_and_stays_as_it_is() {
    let (_dir, path) = place();
    let files: [&[u8]; 7] = [
        b"Dear Sir,\nthis is a letter and no tape at all.\n",
        b"\x1f\x8b\x08\x00compressed",
        b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00",
        b"x",
        b"\x04\0\0\0four\x05\0\0\0",
        b"\x04\0\0\0fo",
        b"\0\0\0\x80",
    ];
    for file in files {
        std::fs::write(&path, file).unwrap();
        for read_only in [false, true] {
            let words = Tap::open(&path, TapOptions { read_only, ..OPTIONS }).err().unwrap();
            let wanted = "st0.tap is no tape image (SIMH .tap): its first record makes no sense; \
                          name another file, or empty it";
            assert!(words.ends_with(wanted), "{words}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), file);
    }
    std::fs::write(&path, "").unwrap();
    open(&path).write(b"new").unwrap();
    // An erased tape, a mark, gaps, and a tape that makes no sense further on are tapes.
    let gap = GAP.to_le_bytes();
    for whole in [&[0xff; 4][..], &[0; 4], &gap, b"\x02\0\0\0ab\x02\0\0\0garbage"] {
        std::fs::write(&path, whole).unwrap();
        open(&path);
    }
}

#[test]
fn no_bytes_at_all_make_it_panic() {
    proptest!(|(image in prop::collection::vec(
        prop_oneof![Just(0u8), Just(0xff), Just(0xfe), Just(2), any::<u8>()], 0..200))| {
        let mut tap = journal(image);
        let items = all(&mut tap).len() as u64;
        prop_assert_eq!(ends(&mut tap), items);
        while let Ok(Some(_)) = tap.backward() {}
        tap.to_end();
        tap.write(b"new").unwrap();
        prop_assert_eq!(tap.backward(), Ok(Some(Item::Record { bytes: 3, is_bad: false })));
    });
}

#[test]
fn a_write_ends_the_tape_there() {
    let (_dir, path) = place();
    let mut tap = open(&path);
    for data in [&b"a"[..], b"b", b"c"] {
        tap.write(data).unwrap();
    }
    tap.rewind();
    tap.forward().unwrap();
    tap.write(b"instead").unwrap();
    assert_eq!(tap.peek(), Ok(None));
    assert_eq!(all(&mut tap), [&b"a"[..], b"instead"]);
    drop(tap);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 10 + 16 + 4);
}

#[test]
fn writing_over_a_tape_keeps_its_room_until_it_is_let_go() {
    let (_dir, path) = place();
    let mut tap = open(&path);
    tap.write(&[1; 1000]).unwrap();
    tap.rewind();
    tap.write(&[2; 10]).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() > 1000);
    tap.trim().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 18 + 4);
}

#[test]
fn a_record_grows_by_extension() {
    let (_dir, path) = place();
    let mut tap = open(&path);
    tap.write(b"odd").unwrap();
    tap.extend(b"+even").unwrap();
    tap.extend(b"!").unwrap();
    assert_eq!((tap.block(), tap.peek()), (1, Ok(None)));
    assert_eq!(tap.mark(1), Ok(1));
    assert_eq!(tap.extend(b"no"), Err(IoError::Invalid));
    assert_eq!(all(&mut open_again(tap, &path)), [b"odd+even!".to_vec(), Vec::new()]);
}

fn open_again(tap: Tap, path: &Path) -> Tap {
    drop(tap);
    open(path)
}

#[test]
fn only_the_record_just_written_can_be_extended() {
    let mut tap = Tap::in_memory(1 << 20);
    tap.write(b"a").unwrap();
    tap.rewind();
    tap.forward().unwrap();
    assert_eq!(tap.extend(b"b"), Err(IoError::Invalid));
    assert_eq!(all(&mut tap), [b"a"]);
}

#[test]
fn a_long_record_is_read_in_parts() {
    let mut tap = Tap::in_memory(1 << 20);
    tap.write(b"0123456789").unwrap();
    tap.write(b"next").unwrap();
    tap.rewind();
    let mut into = [0; 4];
    assert_eq!(tap.read(&mut into), Ok(Some(Item::Record { bytes: 10, is_bad: false })));
    assert_eq!((tap.read_more(4, &mut into), &into), (Ok(4), b"4567"));
    assert_eq!((tap.read_more(8, &mut into), &into[..2]), (Ok(2), &b"89"[..]));
    assert_eq!(tap.read_more(10, &mut into), Ok(0));
    assert_eq!(tap.read(&mut into), Ok(Some(Item::Record { bytes: 4, is_bad: false })));
}

#[test]
fn at_its_end_a_tape_takes_no_more_and_keeps_what_it_has() {
    let mut tap = Tap::in_memory(40);
    tap.write(&[1; 20]).unwrap();
    assert_eq!(tap.write(&[2; 6]), Err(IoError::Range));
    assert_eq!(tap.extend(&[2; 14]), Err(IoError::Range));
    tap.write(&[3; 4]).unwrap();
    assert_eq!(tap.mark(1), Err(IoError::Range));
    assert_eq!(all(&mut tap), [vec![1; 20], vec![3; 4]]);
}

#[test]
fn many_marks_go_at_once_as_far_as_they_fit() {
    let mut tap = Tap::in_memory(1 << 20);
    assert_eq!((tap.mark(10), tap.mark(1 << 30)), (Ok(10), Ok(16385)));
    assert_eq!(all(&mut tap).len(), 16395);
    let mut tap = Tap::in_memory(15);
    assert_eq!((tap.mark(9), tap.mark(9)), (Ok(3), Err(IoError::Range)));
}

#[test]
fn empty_and_endless_records_are_refused() {
    let mut tap = Tap::in_memory(1 << 30);
    assert_eq!(tap.write(&[]), Err(IoError::Invalid));
    assert_eq!(tap.write(&vec![0; 1 << 24]), Err(IoError::Invalid));
    assert_eq!(ends(&mut tap), 0);
}

#[test]
fn a_protected_tape_is_not_changed() {
    let (_dir, path) = place();
    std::fs::write(&path, record(b"kept")).unwrap();
    let mut tap = Tap::open(&path, TapOptions { read_only: true, ..OPTIONS }).unwrap();
    assert_eq!(tap.write(b"x"), Err(IoError::WriteProtected));
    assert_eq!(tap.mark(1), Err(IoError::WriteProtected));
    assert_eq!(tap.erase(), Err(IoError::WriteProtected));
    drop(tap);
    assert_eq!(std::fs::read(&path).unwrap(), record(b"kept"));
}

#[test]
fn what_cannot_be_a_tape_is_refused_in_words() {
    let (dir, path) = place();
    let refusal = |path: &Path, options| Tap::open(path, options).err().unwrap();
    assert!(refusal(dir.path(), OPTIONS).contains("not a plain file"));
    let read_only = TapOptions { read_only: true, ..OPTIONS };
    assert!(refusal(&path, read_only).contains("missing"));
    let first = open(&path);
    assert!(refusal(&path, OPTIONS).contains("in use by another"));
    drop(first);
    open(&path);
}

#[test]
fn erasing_leaves_what_is_before_the_head() {
    let (_dir, path) = place();
    let mut tap = open(&path);
    for _ in 0..3 {
        tap.write(&[7; 100]).unwrap();
    }
    tap.backward().unwrap();
    tap.backward().unwrap();
    tap.erase().unwrap();
    assert_eq!((tap.block(), tap.peek()), (1, Ok(None)));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 108 + 4);
}

/// A tape of `image` whose writes are noted.
fn journal(image: Vec<u8>) -> Tap {
    let mut tap = Tap::new(Backing::Journal(image, Vec::new()), OPTIONS);
    tap.survey().unwrap();
    tap
}

/// All states of the file that whatever kills the daemon in `work` can leave behind: after each
/// byte of each write, but that a word of 4 bytes is written whole.
fn killed_anywhere(image: &[u8], work: impl Fn(&mut Tap)) -> Vec<Vec<u8>> {
    let mut tap = journal(image.to_vec());
    work(&mut tap);
    let Backing::Journal(_, writes) = &tap.backing else { unreachable!() };
    let (mut now, mut states) = (image.to_vec(), vec![image.to_vec()]);
    for (at, bytes) in writes {
        let at = usize::try_from(*at).unwrap();
        let cuts = if bytes.len() == 4 { 4..5 } else { 1..bytes.len() + 1 };
        for cut in cuts {
            now.resize(now.len().max(at + cut), 0);
            now[at..at + cut].copy_from_slice(&bytes[..cut]);
            states.push(now.clone());
        }
    }
    states
}

fn found(image: Vec<u8>) -> Vec<Vec<u8>> {
    let mut tap = journal(image);
    assert!(!tap.is_foreign(), "it would be refused");
    all(&mut tap)
}

#[test]
fn a_death_in_any_write_leaves_what_was_finished_before() {
    let data = |fill: u8, len: usize| vec![fill; len];
    // Old records of the same length as the new ones, at which a careless writer would be fooled.
    let old = [data(1, 9), data(2, 9), Vec::new(), data(3, 20), Vec::new()];
    let image = old.iter().fold(Vec::new(), |image, item| {
        [image, if item.is_empty() { vec![0; 4] } else { record(item) }].concat()
    });
    for start in 0..=old.len() {
        let go = |tap: &mut Tap| {
            for _ in 0..start {
                tap.forward().unwrap();
            }
        };
        let before = old[..start].to_vec();
        let with = |item: &[u8]| [before.clone(), vec![item.to_vec()]].concat();
        let check = |what: &str, last: Vec<Vec<u8>>, work: &dyn Fn(&mut Tap)| {
            let states = killed_anywhere(&image, work);
            let (first, end) = (found(states[0].clone()), states.last().unwrap().clone());
            assert_eq!((&first[..], found(end)), (&old[..], last.clone()), "{what} at {start}");
            for state in states {
                let found = found(state);
                let is_right = found == old || found == before || found == last;
                assert!(is_right, "{what} at {start}: {found:?}");
            }
        };
        check("write", with(&data(7, 9)), &|tap| {
            go(tap);
            tap.write(&data(7, 9)).unwrap();
        });
        check("mark", with(&[]), &|tap| {
            go(tap);
            assert_eq!(tap.mark(1), Ok(1));
        });
        check("marks", [with(&[]), vec![Vec::new(); 2]].concat(), &|tap| {
            go(tap);
            assert_eq!(tap.mark(3), Ok(3));
        });
        check("erase", before.clone(), &|tap| {
            go(tap);
            // At the end of the data there is nothing to erase, but the file has no marker yet.
            tap.erase().unwrap();
        });
    }
}

#[test]
fn a_death_while_a_record_grows_leaves_it_short_or_takes_it_off() {
    let written = |tap: &mut Tap| {
        tap.write(b"done").unwrap();
        tap.write(b"growing").unwrap();
    };
    let mut tap = journal(Vec::new());
    written(&mut tap);
    let Backing::Journal(before, _) = &tap.backing else { unreachable!() };
    let count = killed_anywhere(&[], written).len();
    let states = killed_anywhere(&[], |tap| {
        written(tap);
        tap.extend(b" longer and longer").unwrap();
    });
    assert!(states[..count].contains(before));
    for state in &states[count..] {
        let found = found(state.clone());
        let whole: [&[u8]; 2] = [b"done", b"growing longer and longer"];
        let is_right = found == whole || found == [b"done"] || found == [&b"done"[..], b"growing"];
        assert!(is_right, "{found:?}");
    }
    assert_eq!(found(states.last().unwrap().clone()).len(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u8),
    Extend(usize, u8),
    Mark,
    Forward,
    Backward,
    Read(usize),
    Rewind,
    ToEnd,
    Erase,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..70usize, 1..255u8).prop_map(|(len, fill)| Step::Write(len, fill)),
        2 => (1..70usize, 1..255u8).prop_map(|(len, fill)| Step::Extend(len, fill)),
        2 => Just(Step::Mark),
        2 => Just(Step::Forward),
        3 => Just(Step::Backward),
        3 => (1..90usize).prop_map(Step::Read),
        1 => Just(Step::Rewind),
        1 => Just(Step::ToEnd),
        1 => Just(Step::Erase),
        1 => Just(Step::Reopen),
    ]
}

/// A tape is a row of items, and a place between two of them.
#[derive(Default)]
struct Model {
    items: Vec<Vec<u8>>,
    at: usize,
    is_extensible: bool,
}

impl Model {
    fn put(&mut self, item: Vec<u8>) {
        self.items.truncate(self.at);
        self.items.push(item);
        self.at += 1;
    }
}

fn kind(item: &[u8]) -> Item {
    match u32::try_from(item.len()).unwrap() {
        0 => Item::Mark,
        bytes => Item::Record { bytes, is_bad: false },
    }
}

fn apply(step: &Step, model: &mut Model, tap: &mut Tap) {
    let was_extensible = std::mem::take(&mut model.is_extensible);
    match step {
        Step::Write(len, fill) => {
            tap.write(&vec![*fill; *len]).unwrap();
            model.put(vec![*fill; *len]);
            model.is_extensible = true;
        }
        Step::Extend(len, fill) => {
            let done = tap.extend(&vec![*fill; *len]);
            assert_eq!(done.is_ok(), was_extensible);
            if was_extensible {
                model.items[model.at - 1].extend(vec![*fill; *len]);
                model.is_extensible = true;
            }
        }
        Step::Mark => {
            assert_eq!(tap.mark(1), Ok(1));
            model.put(Vec::new());
        }
        Step::Forward => {
            let ahead = model.items.get(model.at);
            assert_eq!(tap.forward(), Ok(ahead.map(|item| kind(item))));
            model.at += usize::from(ahead.is_some());
        }
        Step::Backward => {
            let behind = model.at.checked_sub(1).map(|at| kind(&model.items[at]));
            assert_eq!(tap.backward(), Ok(behind));
            model.at = model.at.saturating_sub(1);
        }
        Step::Read(len) => {
            let mut into = vec![0; *len];
            let ahead = model.items.get(model.at);
            assert_eq!(tap.read(&mut into), Ok(ahead.map(|item| kind(item))));
            if let Some(item) = ahead {
                let part = item.len().min(*len);
                assert_eq!(into[..part], item[..part]);
                model.at += 1;
            }
        }
        Step::Rewind => {
            tap.rewind();
            model.at = 0;
        }
        Step::ToEnd => {
            tap.to_end();
            model.at = model.items.len();
        }
        Step::Erase => {
            tap.erase().unwrap();
            model.items.truncate(model.at);
        }
        Step::Reopen => {}
    }
    assert_eq!(tap.block(), model.at as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_tape_is_a_row_of_records_and_marks(steps in prop::collection::vec(step(), 0..60)) {
        let (_dir, path) = place();
        let (mut tap, mut model) = (open(&path), Model::default());
        let (mut memory, mut shadow) = (Tap::in_memory(1 << 20), Model::default());
        for step in &steps {
            apply(step, &mut model, &mut tap);
            if matches!(step, Step::Reopen) {
                tap = open_again(tap, &path);
                model.at = 0;
            } else {
                apply(step, &mut shadow, &mut memory);
            }
            // Whatever has been answered stands in the file: the daemon may die now.
            let copy = path.with_extension("copy");
            std::fs::copy(&path, &copy).unwrap();
            prop_assert_eq!(&all(&mut open(&copy)), &model.items);
        }
        prop_assert_eq!(&all(&mut tap), &model.items);
        prop_assert_eq!(&all(&mut memory), &shadow.items);
    }
}
