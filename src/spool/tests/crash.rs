//! What a crash leaves, and what the next start makes of it.

use super::*;

type Step = fn(&Arc<Spool>);

const STEPS: &[Step] = &[
    |spool| assert_eq!(submit(spool, ALICE, "lp0", "one"), 1),
    |spool| assert_eq!(submit(spool, BOB, "lp0", "two"), 2),
    |spool| assert_eq!(submit(spool, ALICE, "lp0", "three"), 3),
    |spool| drop(ctl(spool, ALICE, "lp0", "hold 3").unwrap()),
    |spool| drop(ctl(spool, ROOT, "lp0", "pri 2 80").unwrap()),
    |spool| drop(ctl(spool, ROOT, "lp0", "top 3 1").unwrap()),
    |spool| drop(ctl(spool, ROOT, "lp0", "down paper jam, called").unwrap()),
    |spool| drop(ctl(spool, ALICE, "lp0", "move 1 lp1").unwrap()),
    |spool| assert_eq!(submit(spool, BOB, "lp1", "four"), 4),
    |spool| drop(ctl(spool, ROOT, "lp0", "bottom 3 2").unwrap()),
    |spool| drop(ctl(spool, BOB, "lp0", "rm 2").unwrap()),
    |spool| drop(ctl(spool, ALICE, "lp0", "release 3").unwrap()),
    |spool| drop(ctl(spool, ROOT, "lp0", "up").unwrap()),
    |spool| drop(ctl(spool, ROOT, "lp1", "hold 1 4").unwrap()),
    |spool| drop(ctl(spool, ROOT, "lp1", "move * any").unwrap()),
    |spool| drop(ctl(spool, ROOT, "any", "top 4 1").unwrap()),
    |spool| drop(ctl(spool, ROOT, "any", "move 1 lp0").unwrap()),
    |spool| {
        let fs = SpoolFs::new(spool);
        let any = dir_of(&fs, "any");
        write_file(&fs, ALICE, any, ".tmp", "five").release();
        ctl(spool, ALICE, "any", "submit .tmp name=five copies=3 hold=1").unwrap();
    },
    |spool| {
        let fs = SpoolFs::new(spool);
        let (any, lp1) = (dir_of(&fs, "any"), dir_of(&fs, "lp1"));
        let (from, to) = ((any, OsStr::new("5-five")), (lp1, OsStr::new("renamed")));
        fs.rename_by(&ALICE, from, to, RenameMode::Replace).unwrap();
    },
    |spool| drop(ctl(spool, ROOT, "lp0", "rm 1 3").unwrap()),
    |spool| drop(ctl(spool, ROOT, "lp0", "holdall").unwrap()),
    |spool| assert_eq!(submit(spool, BOB, "lp0", "six"), 6),
];

#[test]
fn whatever_was_answered_is_there_after_a_crash_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for (number, step) in STEPS.iter().enumerate() {
        let before = copy(dir.path());
        let (old_state, next) = (state(&spool), spool.core.lock().next_id);
        step(&spool);
        let crashed = copy(dir.path());
        let again = open(crashed.path());
        assert_eq!(state(&again), state(&spool), "after step {number}");
        drop(again);
        // Torn at any byte of what this step wrote: all of it was done, or nothing. Files go only
        // when the journal is durable, so until then they are there.
        add(before.path(), crashed.path());
        let new = std::fs::read(dir.path().join("journal")).unwrap();
        let old = std::fs::metadata(before.path().join("journal")).unwrap().size();
        let old = usize::try_from(old).unwrap();
        let mut was_undone = false;
        for cut in old..new.len() {
            let torn = copy(crashed.path());
            std::fs::write(torn.path().join("journal"), &new[..cut]).unwrap();
            let again = open(torn.path());
            let found = state(&again);
            was_undone |= found == old_state;
            let is_known = found == old_state || found == state(&spool);
            assert!(is_known, "step {number} cut {cut}:\n{found}\nof\n{old_state}");
            assert!(again.core.lock().next_id >= next, "a number is given once");
        }
        assert!(was_undone, "step {number} wrote nothing");
    }
}

#[test]
fn a_crash_leaves_no_file_that_is_no_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    STEPS.iter().for_each(|step| step(&spool));
    let crashed = copy(dir.path());
    std::fs::write(crashed.path().join("lp1").join("77"), "nobody's").unwrap();
    let again = open(crashed.path());
    let core = again.core.lock();
    let mut files = Vec::new();
    for queue in ["any", "lp0", "lp1"] {
        for entry in std::fs::read_dir(crashed.path().join(queue)).unwrap() {
            let name = entry.unwrap().file_name();
            let id: u64 = name.to_str().unwrap().parse().unwrap();
            assert_eq!(core.jobs[&id].queue, queue, "each in the directory of its queue");
            files.push(id);
        }
    }
    files.sort_unstable();
    assert_eq!(files, core.jobs.keys().copied().collect::<Vec<_>>());
}

#[test]
fn the_jobs_of_a_queue_that_is_no_more_are_found_where_they_were_moved() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    submit(&spool, ALICE, "any", "text");
    ctl(&spool, ALICE, "any", "move 1 lp1").unwrap();
    let crashed = copy(dir.path());
    let again = Spool::open(Settings {
        dir: crashed.path().to_owned(),
        owner: (0, 0),
        queues: vec![QueueSettings { name: "lp1".into(), ..QueueSettings::default() }],
        printers: Vec::new(),
        engine: Engine::new(Time::Simulated),
    });
    assert!(state(&again.unwrap()).contains("text"));
}

#[test]
fn what_a_close_made_durable_is_queued_and_what_it_did_not_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let writers: Vec<_> =
        (0..3).map(|_| spool.open_device("lp0", &ALICE, O_WRONLY).unwrap()).collect();
    for writer in &writers {
        finish(writer.write(&call(ALICE), 0, b"text")).unwrap();
    }
    finish(writers[0].flush(&call(ALICE))).unwrap();
    finish(writers[1].flush(&call(ALICE))).unwrap();
    finish(writers[1].write(&call(ALICE), 0, b"more")).unwrap();
    let crashed = copy(dir.path());
    let again = open(crashed.path());
    let ids: Vec<u64> = again.core.lock().ranked("lp0").iter().map(|job| job.id).collect();
    assert_eq!(ids, [1], "the flushed one; not the one that grew, nor the one still open");
    assert_eq!(std::fs::read_dir(crashed.path().join("lp0")).unwrap().count(), 1, "no orphans");
    assert_eq!(submit(&again, ALICE, "lp0", "x"), 4, "numbers go on");
}

#[test]
fn what_was_printed_goes_first_and_whole_and_what_is_done_never_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for text in ["a", "b", "c", "d"] {
        submit(&spool, ALICE, "lp0", text);
    }
    let active = |id: u64| {
        let mut core = spool.core.lock();
        spool.change(&mut core, id, |job| job.active = Some("lp0".into())).unwrap();
    };
    active(1);
    spool.printed(1, "lp0").unwrap();
    active(3);
    let crashed = copy(dir.path());
    let again = open(crashed.path());
    let core = again.core.lock();
    let ids: Vec<u64> = core.ranked("lp0").iter().map(|job| job.id).collect();
    assert_eq!(ids, [3, 2, 4]);
    assert_eq!((core.jobs[&3].restarts, &core.jobs[&3].active), (1, &None));
}

#[test]
fn what_lpr_had_staged_ends_with_the_machine_and_what_a_user_staged_stays() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for name in [".lpr-1-0", ".mine"] {
        let begun = spool.begin("lp0", name.as_ref(), (0, 0), true).unwrap();
        let writer = spool.writer(begun.id, begun.file, false).unwrap();
        finish(writer.write(&call(ROOT), 0, b"text")).unwrap();
        finish(writer.flush(&call(ROOT))).unwrap();
        writer.release();
    }
    let crashed = copy(dir.path());
    let again = open(crashed.path());
    let names: Vec<_> = again.core.lock().jobs.values().map(|job| job.name.clone()).collect();
    assert_eq!(names, [".mine"]);
    assert_eq!(std::fs::read_dir(crashed.path().join("lp0")).unwrap().count(), 1);
}

#[test]
fn what_is_submitted_before_the_host_tells_of_its_release_survives() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let begun = spool.begin("lp0", ".lpr-1-0".as_ref(), (0, 0), true).unwrap();
    let writer = spool.writer(begun.id, begun.file, false).unwrap();
    finish(writer.write(&call(ROOT), 0, b"text")).unwrap();
    finish(writer.flush(&call(ROOT))).unwrap();
    ctl(&spool, ROOT, "lp0", "submit .lpr-1-0 name=x priority=9").unwrap();
    let crashed = copy(dir.path());
    let again = open(crashed.path());
    let seen = |core: &Core| -> Vec<(u64, u8)> {
        core.ranked("lp0").iter().map(|job| (job.id, job.priority)).collect()
    };
    assert_eq!(seen(&again.core.lock()), [(1, 9)]);
    writer.release();
    assert_eq!(seen(&spool.core.lock()), [(1, 9)]);
}

#[test]
fn a_printer_first_ends_what_is_its_own_of_what_was_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for (queue, printer) in [("any", "lp0"), ("lp1", "lp1")] {
        let id = submit(&spool, ALICE, queue, "text");
        let mut core = spool.core.lock();
        spool.change(&mut core, id, |job| job.active = Some(printer.into())).unwrap();
    }
    let crashed = copy(dir.path());
    let again = open(crashed.path());
    let core = again.core.lock();
    assert_eq!(core.next_for("lp1", true).unwrap().id, 2);
    assert_eq!(core.next_for("lp0", true).unwrap().id, 1);
}

#[test]
fn ten_thousand_jobs_are_read_back_shown_and_listed_in_no_time() {
    const JOBS: u64 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let (journal, _) = Journal::open(dir.path()).unwrap();
    let mut lines = Vec::new();
    for id in 1..=JOBS {
        std::fs::write(dir.path().join("lp0").join(id.to_string()), "x").unwrap();
        let mut job = Job::new(id, "lp0", "report".as_ref(), (0, 0));
        (job.phase, job.seq, job.size) = (Phase::Queued, id, 1);
        lines.push(Record::Job(Box::new(job)).line());
    }
    journal.append(&lines).unwrap();
    drop(journal);
    let clock = Engine::new(Time::Real);
    let spool = open(dir.path());
    assert_eq!(spool.core.lock().ranked("lp0").len() as u64, JOBS);
    let view = spool.view("lp0");
    assert_eq!(view.short().lines().count() as u64, JOBS + 2);
    let fs = SpoolFs::new(&spool);
    let (lp0, mut offset, mut seen) = (dir_of(&fs, "lp0"), 0, 0);
    loop {
        let entries = fs.readdir(lp0, offset, 64).unwrap();
        let Some(last) = entries.last() else { break };
        offset = last.next;
        seen +=
            entries.iter().filter(|entry| !entry.name.to_string_lossy().starts_with('.')).count();
    }
    assert_eq!(seen as u64, JOBS);
    let seconds = clock.now().0 / 1_000_000_000;
    assert!(seconds < 10, "{seconds} s, unoptimised"); // the mount tests ask for the real bound
    assert!(std::fs::metadata(dir.path().join("journal")).unwrap().size() < 4 << 20);
}

#[test]
fn a_long_journal_is_compacted_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    submit(&spool, ALICE, "lp0", "kept");
    let filler = vec![Record::Next(1, 1).line(); 120_000];
    spool.journal.append(&filler).unwrap();
    let before = state(&spool);
    spool.tidy();
    let length = std::fs::metadata(dir.path().join("journal")).unwrap().len();
    assert!(length < 10_000, "{length}");
    submit(&spool, ALICE, "lp0", "more");
    ctl(&spool, ALICE, "lp0", "rm 2").unwrap();
    drop(spool);
    assert_eq!(state(&open(dir.path())), before);
}
