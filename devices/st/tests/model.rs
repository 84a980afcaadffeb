//! The whole driver against a model: a row of records and marks, and a place between two of them.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write(u8, usize),
    Read(usize),
    Operate(i16, i32),
    Reopen,
    Rewinding,
}

fn step() -> impl Strategy<Value = Step> {
    let spacing = prop::sample::select(vec![FSF, BSF, FSR, BSR, FSFM, BSFM]);
    prop_oneof![
        6 => (1..255u8, 1..40usize).prop_map(|(fill, len)| Step::Write(fill, len)),
        8 => (1..60usize).prop_map(Step::Read),
        8 => (spacing, -2..4i32).prop_map(|(op, count)| Step::Operate(op, count)),
        3 => (1..3i32).prop_map(|count| Step::Operate(WEOF, count)),
        4 => prop::sample::select(vec![REW, EOM, RETEN, NOP]).prop_map(|op| Step::Operate(op, 1)),
        1 => Just(Step::Operate(ERASE, 1)),
        2 => (0..12i32).prop_map(|block| Step::Operate(SEEK, block)),
        2 => Just(Step::Reopen),
        1 => Just(Step::Rewinding),
    ]
}

type Items = Vec<Vec<u8>>;

/// Marks are empty records.
#[derive(Default)]
struct Model {
    items: Items,
    at: usize,
    is_writing: bool,
    /// The mark before the head was told: one more read may find nothing without an error.
    is_behind_mark: bool,
}

impl Model {
    fn put(&mut self, item: &[u8]) {
        self.items.truncate(self.at);
        self.items.push(item.to_vec());
        self.at += 1;
    }

    /// `None` stands for any error.
    fn read(&mut self, len: usize) -> Option<Vec<u8>> {
        self.is_writing = false;
        let was_behind_mark = std::mem::take(&mut self.is_behind_mark);
        let Some(item) = self.items.get(self.at).cloned() else {
            return was_behind_mark.then(Vec::new);
        };
        self.at += 1;
        match item.len() {
            0 => self.is_behind_mark = true,
            found if found > len => {
                // It did not fit: what was true of the place before is not looked at again.
                self.is_behind_mark = was_behind_mark;
                return None;
            }
            _ => {}
        }
        Some(item)
    }

    fn over_marks(&mut self, count: i32) -> bool {
        let mut left = count.unsigned_abs();
        while left > 0 {
            let next = if count > 0 { Some(self.at) } else { self.at.checked_sub(1) };
            let Some(item) = next.and_then(|next| self.items.get(next)) else { return false };
            left -= u32::from(item.is_empty());
            self.at = if count > 0 { self.at + 1 } else { self.at - 1 };
        }
        true
    }

    fn over_records(&mut self, count: i32) -> bool {
        for _ in 0..count.unsigned_abs() {
            let next = if count > 0 { Some(self.at) } else { self.at.checked_sub(1) };
            let Some(item) = next.and_then(|next| self.items.get(next)) else { return false };
            self.at = if count > 0 { self.at + 1 } else { self.at - 1 };
            if item.is_empty() {
                self.is_behind_mark = count > 0;
                return false;
            }
        }
        true
    }

    fn operate(&mut self, op: i16, count: i32) -> bool {
        let is_spacing = [FSF, BSF, FSR, BSR, FSFM, BSFM].contains(&op);
        if op == NOP || is_spacing && count == 0 {
            return true;
        }
        let (op, mut count) = match op {
            FSF if count < 0 => (BSF, -count),
            BSF if count < 0 => (FSF, -count),
            FSR if count < 0 => (BSR, -count),
            BSR if count < 0 => (FSR, -count),
            FSFM | BSFM if count < 0 => return false,
            _ => (op, count),
        };
        if self.is_writing && [REW, BSF, BSFM, SEEK].contains(&op) {
            self.put(&[]);
            count += i32::from(op == BSF || op == BSFM);
        }
        (self.is_writing, self.is_behind_mark) = (false, false);
        match op {
            FSF => {
                self.is_behind_mark = self.over_marks(count);
                self.is_behind_mark
            }
            BSF => self.over_marks(-count),
            FSFM => self.over_marks(count) && self.over_marks(-1),
            BSFM => {
                self.is_behind_mark = self.over_marks(-count) && self.over_marks(1);
                self.is_behind_mark
            }
            FSR => self.over_records(count),
            BSR => self.over_records(-count),
            WEOF => {
                (0..count).for_each(|_| self.put(&[]));
                true
            }
            EOM => {
                self.at = self.items.len();
                true
            }
            ERASE => {
                self.items.truncate(self.at);
                self.at = 0;
                true
            }
            SEEK => {
                let target = usize::try_from(count).unwrap();
                self.at = target.min(self.items.len());
                target <= self.items.len()
            }
            _ => {
                self.at = 0;
                true
            }
        }
    }

    fn close(&mut self, rewinds: bool) {
        if std::mem::take(&mut self.is_writing) {
            self.put(&[]);
            self.is_behind_mark = true;
        }
        if rewinds {
            (self.at, self.is_behind_mark) = (0, false);
        }
    }

    /// File and block of the head.
    fn place(&self) -> (i32, i32) {
        let before = &self.items[..self.at];
        let files = before.iter().filter(|item| item.is_empty()).count();
        let blocks = before.iter().rev().take_while(|item| !item.is_empty()).count();
        (i32::try_from(files).unwrap(), i32::try_from(blocks).unwrap())
    }
}

fn apply(step: &Step, model: &mut Model, bench: &Bench) {
    match step {
        Step::Write(fill, len) => {
            let data = vec![*fill; *len];
            assert_eq!(bench.write(&data), Ok(*len));
            model.put(&data);
            (model.is_writing, model.is_behind_mark) = (true, false);
        }
        Step::Read(len) => assert_eq!(bench.read(*len).ok(), model.read(*len)),
        Step::Operate(op, count) => {
            assert_eq!(bench.mt(*op, *count).is_ok(), model.operate(*op, *count));
        }
        Step::Reopen => {
            bench.reopen();
            model.close(false);
        }
        Step::Rewinding => {
            bench.unit.close();
            bench.rewinding.open().unwrap();
            bench.rewinding.close();
            bench.unit.open().unwrap();
            model.close(false);
            model.close(true);
        }
    }
    assert_eq!(bench.tell(), model.at as u64);
    // Where the driver claims to know, it is right; and it knows at the beginning.
    let (told, place) = (bench.place(), model.place());
    assert!(told.0 == -1 || told.0 == place.0, "told {told:?}, is at {place:?}");
    assert!(told.1 == -1 || told.1 == place.1, "told {told:?}, is at {place:?}");
    assert!(model.at > 0 || told == (0, 0) || !matches!(step, Step::Operate(REW, _)));
}

fn run(values: &[(&str, Value)], steps: &[Step]) {
    let (bench, mut model) = (bench_with(values), Model::default());
    for step in steps {
        apply(step, &mut model, &bench);
    }
    bench.reopen();
    model.close(false);
    bench.mt(REW, 1).unwrap();
    let mut found = Items::new();
    while found.len() < model.items.len() {
        found.push(bench.read(100).unwrap());
    }
    assert_eq!(found, model.items);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn programs_see_a_row_of_records_and_marks(steps in prop::collection::vec(step(), 0..50)) {
        run(&[], &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn and_so_they_do_when_everything_takes_time(steps in prop::collection::vec(step(), 0..50)) {
        run(&[("timing", Value::Text("dlt8000".into()))], &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_command_at_all_makes_it_panic(
        calls in prop::collection::vec((any::<u32>(), -2..40i16, any::<i32>(), 0..70usize), 0..20),
        counts in prop::sample::select(vec![i32::MAX, i32::MIN, 0, 1, -1]),
    ) {
        let bench = bench_with(&[("size", number(4096)), ("block", number(4))]);
        for (cmd, op, count, len) in calls {
            let _ = bench.write(b"eight by");
            let _ = bench.ask(cmd, len);
            for count in [count, counts] {
                let _ = bench.mt(op, count);
                let _ = bench.read(len);
            }
            bench.told();
        }
        bench.reopen();
    }
}
