//! What rules match, how often they fire, and how wrong ones are refused.

use super::*;
use proptest::prelude::*;

fn faults(rules: &[&str]) -> Faults {
    let faults = Faults::default();
    faults.register("sd0");
    faults.register("fd0");
    for rule in rules {
        let words = rule.split_whitespace().collect::<Vec<_>>();
        faults.add(parse(&words).unwrap()).unwrap();
    }
    faults
}

fn io(op: Op, sector: u64, sectors: u64) -> Command {
    Command { op, sector, sectors, pid: 1 }
}

fn outcome(faults: &Faults, command: Command) -> Option<End> {
    faults.consult("sd0", &command).end
}

fn refusal(line: &str) -> String {
    let words = line.split_whitespace().collect::<Vec<_>>();
    faults(&[]).command(&words).unwrap_err()
}

#[test]
fn a_rule_matches_device_operation_block_and_process() {
    let faults = faults(&["bad on sd0 op=read block=100-103 pid=7 do error EIO"]);
    let hit = |command| faults.consult("sd0", &command).end.is_some();
    let by = |command, pid| Command { pid, ..command };
    assert!(hit(by(io(Op::Read, 96, 8), 7)));
    assert!(hit(by(io(Op::Read, 103, 1), 7)));
    assert!(!hit(by(io(Op::Read, 104, 8), 7)));
    assert!(!hit(by(io(Op::Read, 92, 8), 7)));
    assert!(!hit(by(io(Op::Write, 100, 1), 7)));
    assert!(!hit(io(Op::Read, 100, 1)));
    assert_eq!(faults.consult("fd0", &by(io(Op::Read, 100, 1), 7)), Verdict::default());
    let line = faults.list();
    let rule = "rule=on sd0 op=read block=100-103 pid=7 do error EIO\n";
    assert_eq!(line, format!("bad armed=1 matched=2 fired=2 skipped=0 {rule}"));
}

#[test]
fn an_error_tells_the_first_sector_and_its_own_sense() {
    let faults = faults(&["a on sd0 block=100 do error EIO", "b on sd0 block=5 do error ENOSPC"]);
    let sense = Sense { key: 3, asc: 0x11, ascq: 0, info: Some(100) };
    assert_eq!(outcome(&faults, io(Op::Read, 96, 8)), Some(End::Fail { at: 100, sense }));
    let sense = Sense { key: 3, asc: 0x0c, ascq: 0, info: Some(100) };
    assert_eq!(outcome(&faults, io(Op::Write, 96, 8)), Some(End::Fail { at: 100, sense }));
    let sense = Sense { key: 7, asc: 0x27, ascq: 7, info: None };
    assert_eq!(outcome(&faults, io(Op::Write, 5, 1)), Some(End::Fail { at: 5, sense }));
}

#[test]
fn when_counts_matching_commands_from_one() {
    let table: [(&str, &[u64]); 5] = [
        ("3", &[3]),
        ("4+", &[4, 5, 6]),
        ("2-3", &[2, 3]),
        ("every:2", &[2, 4, 6]),
        ("every:1", &[1, 2, 3, 4, 5, 6]),
    ];
    for (when, fires) in table {
        let faults = faults(&[&format!("x on sd0 when={when} do hang")]);
        let fired = (1..=6).filter(|_| outcome(&faults, io(Op::Read, 0, 1)).is_some());
        assert_eq!(fired.collect::<Vec<u64>>(), fires, "when={when}");
    }
}

#[test]
fn a_transient_fault_ends_after_so_many_times() {
    let faults = faults(&["x on sd0 block=50 do transient 2"]);
    let fired = (0..5).filter(|_| outcome(&faults, io(Op::Read, 50, 1)).is_some()).count();
    assert_eq!(fired, 2);
    assert!(faults.list().contains("matched=5 fired=2 skipped=3"));
}

#[test]
fn a_permanent_fault_ends_with_the_repair() {
    let faults = faults(&["x on sd0 do permanent"]);
    faults.repair("sd0"); // it has not fired yet: nothing to repair
    let sense = Sense { key: 4, asc: 0x44, ascq: 0, info: None };
    for _ in 0..2 {
        assert_eq!(outcome(&faults, io(Op::Read, 9, 1)), Some(End::Fail { at: 9, sense }));
    }
    faults.repair("fd0");
    assert!(outcome(&faults, io(Op::Read, 9, 1)).is_some());
    faults.repair("sd0");
    assert_eq!(outcome(&faults, io(Op::Read, 9, 1)), None);
    assert!(faults.list().contains("armed=0"));
}

#[test]
fn delays_add_up_and_the_first_end_wins() {
    let faults = faults(&[
        "slow on sd0 do delay 8ms",
        "slower on sd0 do delay 250us",
        "first on sd0 do panic",
        "second on sd0 do hang",
        "worn on sd0 block=7-9 do badsector",
    ]);
    let verdict = faults.consult("sd0", &io(Op::Write, 0, 16));
    assert_eq!(verdict.delay_nanos, 8_250_000);
    assert_eq!(verdict.end, Some(End::Panic("first".into())));
    assert_eq!(verdict.bad_sectors, [7]);
    assert!(faults.list().contains("second armed=1 matched=1 fired=0 skipped=1"));
}

#[test]
fn the_countdown_fails_one_command_once() {
    let faults = faults(&[]);
    faults.fail_nth(3);
    let fired = (1..=6).filter(|_| outcome(&faults, io(Op::Write, 4, 1)).is_some());
    assert_eq!(fired.collect::<Vec<_>>(), [3]);
    assert_eq!(faults.countdown(), 0);
}

#[test]
fn rules_are_listed_removed_and_cleared() {
    let faults = faults(&["a on sd0 do hang", "b on fd0 do hang", "c on sd0 do hang"]);
    faults.command(&["remove", "a"]).unwrap();
    assert_eq!(faults.command(&["list"]).unwrap().lines().count(), 2);
    faults.command(&["clear", "sd0"]).unwrap();
    assert!(faults.list().starts_with("b "));
    faults.command(&["clear"]).unwrap();
    assert_eq!(faults.list(), "");
    assert_eq!(outcome(&faults, io(Op::Read, 0, 1)), None);
    let refused = faults.command(&["remove", "a"]).unwrap_err();
    assert_eq!(refused, "fault remove: no such rule: `a`");
}

#[test]
fn every_refusal_names_the_word() {
    let table = [
        ("add x on sd0 op=erase do hang", "op=erase"),
        ("add x on sd0 block=9-3 do hang", "block=9-3"),
        ("add x on sd0 block=a do hang", "block=a"),
        ("add x on sd0 block=+1 do hang", "block=+1"),
        ("add x on sd0 when=0 do hang", "when=0"),
        ("add x on sd0 when=every:0 do hang", "when=every:0"),
        ("add x on sd0 when=5-2 do hang", "when=5-2"),
        ("add x on sd0 pid=99999999999 do hang", "pid=99999999999"),
        ("add x on sd0 colour=red do hang", "colour=red"),
        ("add x on sd0 op=read op=write do hang", "op=write"),
        ("add x on sd0 sometimes do hang", "sometimes"),
        ("add x on sd0 do explode", "explode"),
        ("add x on sd0 do error EWHAT", "EWHAT"),
        ("add x on sd0 do error EIO sense=3/11", "sense=3/11"),
        ("add x on sd0 do error EIO sense=5/24/00", "sense=5/24/00"),
        ("add x on sd0 do error ENOSPC sense=3/11/00", "sense=3/11/00"),
        ("add x on sd0 do transient 0", "`0`"),
        ("add x on sd0 do transient", "`transient`"),
        ("add x on sd0 do delay 8", "`8`"),
        ("add x on sd0 do delay 99999999999999999s", "99999999999999999s"),
        ("add x on sd0 do hang now", "now"),
        ("add x at sd0 do hang", "`at`"),
        ("add x/y on sd0 do hang", "x/y"),
        ("add x on sd0", "`do`"),
        ("add x on sd0 do", "`do`"),
        ("add x on sd9 do hang", "sd9"),
        ("add x", "NAME on DEVICE"),
        ("clear sd9", "sd9"),
        ("list all", "all"),
        ("drop x", "drop"),
        ("", "add, list, remove or clear"),
    ];
    for (line, word) in table {
        let refused = refusal(line);
        assert!(refused.contains(word), "{line}: {refused}");
    }
}

#[test]
fn a_second_rule_of_the_same_name_and_too_many_are_refused() {
    let faults = faults(&["x on sd0 do hang"]);
    let again = faults.command(&["add", "x", "on", "sd0", "do", "panic"]).unwrap_err();
    assert!(again.contains("`x`"), "{again}");
    for n in 1..RULES_MAX {
        faults.add(parse(&[&format!("r{n}"), "on", "sd0", "do", "hang"]).unwrap()).unwrap();
    }
    let full = faults.command(&["add", "last", "on", "sd0", "do", "hang"]).unwrap_err();
    assert!(full.contains("1024"), "{full}");
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in "\\PC{0,200}") {
        let words = text.split_whitespace().collect::<Vec<_>>();
        let _ = faults(&[]).command(&words);
    }

    #[test]
    fn no_rule_of_right_and_wrong_words_breaks_the_parser(
        words in prop::collection::vec(
            prop_oneof![
                Just("add"), Just("x"), Just("on"), Just("sd0"), Just("do"), Just("op=read"),
                Just("block=1-"), Just("block=-"), Just("when=every:"), Just("when=+"),
                Just("pid="), Just("error"), Just("EIO"), Just("sense=//"), Just("sense=b/4/0"),
                Just("delay"),
                Just("ms"), Just("5ms"), Just("transient"), Just("3"), Just("="), Just("hang"),
                Just("\u{e9}ms"),
            ],
            0..12,
        )
    ) {
        let _ = faults(&[]).command(&words);
    }

    #[test]
    fn a_rule_fires_exactly_when_the_model_says(
        block in (0..40u64, 0..10u64),
        when in (1..6u64, 0..6u64),
        commands in prop::collection::vec((0..40u64, 1..8u64, any::<bool>()), 0..40),
    ) {
        let (first, last) = (block.0, block.0 + block.1);
        let (from, to) = (when.0, when.0 + when.1);
        let rule = format!("x on sd0 op=write block={first}-{last} when={from}-{to} do hang");
        let faults = faults(&[&rule]);
        let mut matched = 0;
        for (sector, sectors, writes) in commands {
            let op = if writes { Op::Write } else { Op::Read };
            let meets = writes && (sector..sector + sectors).any(|s| (first..=last).contains(&s));
            matched += u64::from(meets);
            let should = meets && (from..=to).contains(&matched);
            prop_assert_eq!(outcome(&faults, io(op, sector, sectors)).is_some(), should);
        }
    }
}
