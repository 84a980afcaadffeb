//! The spool without a mount and without printers: what it keeps, and what a crash leaves.

use super::control::QueueControl;
use super::job::{Job, Phase};
use super::journal::Journal;
use super::queue::Record;
use super::*;
use crate::file::{Answer, Call, Control, FileOps};
use crate::vfs::fs::{FileSystem, Local, O_RDONLY, O_TRUNC};
use crate::vfs::{Change, RenameMode};
use devices::engine::Time;
use devices::{Clock, Interrupt};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;

const ALICE: Caller = Caller { pid: 0, uid: 4001, gid: 1 };
const BOB: Caller = Caller { pid: 0, uid: 4002, gid: 1 };
const ROOT: Caller = Caller { pid: 0, uid: 0, gid: 0 };
const O_WRONLY: i32 = 1;

fn open(dir: &Path) -> Arc<Spool> {
    let queue = |name: &str| QueueSettings { name: name.into(), ..QueueSettings::default() };
    Spool::open(Settings {
        dir: dir.to_owned(),
        owner: (0, 0),
        queues: vec![
            queue("lp0"),
            queue("lp1"),
            QueueSettings { members: vec!["lp0".into(), "lp1".into()], ..queue("any") },
        ],
        printers: Vec::new(),
        engine: Engine::new(Time::Simulated),
    })
    .unwrap()
}

pub(super) fn finish<T>(answer: Result<Answer<T>, Error>) -> Result<T, Error> {
    match answer? {
        Answer::Now(value) => Ok(value),
        Answer::Later(rest) => rest(&Interrupt::default()),
        Answer::Blocked(rest) => rest.wait(&Interrupt::default()),
    }
}

fn call(caller: Caller) -> Call {
    Call { caller, flags: 0, id: 1 }
}

/// Submits `text` as a user would.
fn submit(spool: &Arc<Spool>, who: Caller, queue: &str, text: &str) -> u64 {
    let writer = spool.open_device(queue, &who, O_WRONLY).unwrap();
    finish(writer.write(&call(who), 0, text.as_bytes())).unwrap();
    finish(writer.flush(&call(who))).unwrap();
    writer.release();
    spool.core.lock().next_id - 1
}

fn ctl(spool: &Arc<Spool>, who: Caller, queue: &str, line: &str) -> Result<String, Error> {
    let control = QueueControl { spool: Arc::clone(spool), queue: queue.into() };
    finish(control.run(&who, line))
}

/// All that must come back: the jobs in their order, the flags.
fn state(spool: &Spool) -> String {
    let core = spool.core.lock();
    let mut text = String::new();
    for (name, queue) in &core.queues {
        text += &format!("{name} {:?}\n", queue.flags);
        for job in core.ranked(name) {
            let bytes = std::fs::read_to_string(spool.path_of(job)).unwrap_or_default();
            let name = job.file_name();
            text += &format!(
                "{name:?} {} {} {} {} {bytes}\n",
                job.uid, job.priority, job.is_held, job.copies
            );
        }
    }
    text
}

/// Adds what is in one directory of a spool to another, but for what is there.
fn add(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            add(&entry.path(), &to);
        } else if !to.exists() {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    add(from, to.path());
    to
}

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
fn a_refused_command_on_several_jobs_has_changed_none() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for text in ["a", "b", "c"] {
        submit(&spool, ALICE, "lp0", text);
    }
    let mut core = spool.core.lock();
    spool.change(&mut core, 2, |job| job.active = Some("lp0".into())).unwrap();
    drop(core);
    let before = state(&spool);
    let journal = std::fs::read(dir.path().join("journal")).unwrap();
    for line in ["hold 1 99", "rm 1 99", "top 1 99", "bottom 3 99", "release 1 x", "move * nosuch"]
    {
        assert!(ctl(&spool, ROOT, "lp0", line).is_err(), "{line}");
        assert_eq!(state(&spool), before, "{line}");
    }
    assert_eq!(std::fs::read(dir.path().join("journal")).unwrap(), journal);
    ctl(&spool, ROOT, "lp0", "move * lp1").unwrap();
    let ids = |queue: &str| -> Vec<u64> {
        spool.core.lock().ranked(queue).iter().map(|job| job.id).collect()
    };
    assert_eq!((ids("lp0"), ids("lp1")), (vec![2], vec![1, 3]));
}

/// Runs `act` on a thread while the host's disk does not answer; whether it has ended, before it
/// does and after.
fn on_a_stalled_disk(spool: &Arc<Spool>, act: impl FnOnce() + Send) -> (bool, bool) {
    use std::sync::atomic::{AtomicBool, Ordering};
    let ended = AtomicBool::new(false);
    let begun = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let stalled = spool.journal.stall();
        let records = || std::fs::metadata(spool.dir.join("journal")).unwrap().size();
        let old = records();
        scope.spawn(|| {
            begun.wait();
            act();
            ended.store(true, Ordering::Release);
        });
        begun.wait();
        while records() == old {
            std::thread::yield_now();
        }
        // It has written its record, and waits: nobody else does.
        let fs = SpoolFs::new(spool);
        let lp0 = dir_of(&fs, "lp0");
        assert!(fs.readdir(lp0, 0, 100).is_ok());
        assert!(!spool.view("lp0").short().is_empty());
        let before = ended.load(Ordering::Acquire);
        drop(stalled);
        while !ended.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        (before, true)
    })
}

#[test]
fn who_removes_moves_or_commands_waits_for_the_disk_and_nobody_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for text in ["a", "b", "c", "d"] {
        submit(&spool, ALICE, "lp0", text);
    }
    let fs = SpoolFs::new(&spool);
    assert!(fs.waits(), "the door asks this, and takes a worker");
    let (lp0, lp1) = (dir_of(&fs, "lp0"), dir_of(&fs, "lp1"));
    let file = spool.data("lp0", 1);
    let removal = || {
        fs.unlink_by(&ALICE, lp0, "1-stdin".as_ref()).unwrap();
    };
    assert_eq!(on_a_stalled_disk(&spool, removal), (false, true));
    assert!(!file.exists());
    let (from, to) = ((lp0, OsStr::new("2-stdin")), (lp1, OsStr::new("2-stdin")));
    let renaming = || fs.rename_by(&ALICE, from, to, RenameMode::Replace).unwrap();
    assert_eq!(on_a_stalled_disk(&spool, renaming), (false, true));
    let command = || drop(ctl(&spool, ROOT, "lp0", "rm 3").unwrap());
    assert_eq!(on_a_stalled_disk(&spool, command), (false, true));
    let control = QueueControl { spool: Arc::clone(&spool), queue: "lp0".into() };
    let before = state(&spool);
    assert!(matches!(control.run(&ROOT, "rm 4"), Ok(Answer::Later(_))));
    assert_eq!(state(&spool), before, "nothing of a command is done where it would stall others");
}

#[test]
fn a_write_is_done_where_the_disk_stalls_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let writer = spool.open_device("lp0", &ALICE, O_WRONLY).unwrap();
    assert!(matches!(writer.write(&call(ALICE), 0, b"x"), Ok(Answer::Later(_))));
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
fn a_flush_before_the_first_write_queues_nothing_and_an_empty_job_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let writer = spool.open_device("lp0", &ALICE, O_WRONLY).unwrap();
    finish(writer.flush(&call(ALICE))).unwrap();
    assert!(spool.core.lock().ranked("lp0").is_empty());
    finish(writer.write(&call(ALICE), 0, b"hi\n")).unwrap();
    writer.release();
    assert_eq!(spool.core.lock().ranked("lp0").len(), 1);
    spool.open_device("lp0", &ALICE, O_WRONLY).unwrap().release();
    assert_eq!(spool.core.lock().jobs.len(), 1);
}

#[test]
fn a_write_beyond_the_limit_is_refused_and_its_job_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    spool.core.lock().queue_mut("lp0").bytes_max = Some(10);
    let writer = spool.open_device("lp0", &ALICE, O_WRONLY).unwrap();
    finish(writer.write(&call(ALICE), 0, b"12345678")).unwrap();
    let refusal = finish(writer.write(&call(ALICE), 0, b"12345678")).unwrap_err();
    assert_eq!(refusal.errno, Errno::EFBIG);
    assert!(finish(writer.flush(&call(ALICE))).is_err());
    writer.release();
    assert!(spool.core.lock().jobs.is_empty());
    assert!(spool.log_text("lp0").contains("dropped"));
}

#[test]
fn a_disabled_queue_refuses_at_open_and_reading_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    assert_eq!(spool.open_device("lp0", &ROOT, O_RDONLY).err().unwrap().errno, Errno::EACCES);
    ctl(&spool, ROOT, "lp0", "disable").unwrap();
    assert_eq!(spool.open_device("lp0", &ROOT, O_WRONLY).err().unwrap().errno, Errno::EACCES);
    ctl(&spool, ROOT, "lp0", "enable").unwrap();
    assert!(spool.open_device("lp0", &ROOT, O_WRONLY).is_ok());
}

#[test]
fn only_its_owner_and_the_operator_touch_a_job_and_a_refusal_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    submit(&spool, ALICE, "lp0", "a");
    submit(&spool, BOB, "lp0", "b");
    let before = state(&spool);
    for (who, line, errno) in [
        (BOB, "rm 1", Errno::EPERM),
        (BOB, "rm 2 1", Errno::EPERM),
        (BOB, "hold 1", Errno::EPERM),
        (BOB, "move 1 lp1", Errno::EPERM),
        (BOB, "stop", Errno::EPERM),
        (ALICE, "pri 1 90", Errno::EPERM),
        (ALICE, "rm 99", Errno::ENOENT),
        (ALICE, "move 1 nosuch", Errno::ENOENT),
        (ALICE, "pri 1 0", Errno::EINVAL),
        (ALICE, "wibble", Errno::EINVAL),
        (ROOT, "stop now", Errno::EINVAL),
        (ALICE, "hold x", Errno::EINVAL),
    ] {
        assert_eq!(ctl(&spool, who, "lp0", line).unwrap_err().errno, errno, "{line}");
        assert_eq!(state(&spool), before, "{line}");
    }
    ctl(&spool, ALICE, "lp0", "pri 1 10").unwrap();
    assert_eq!(ctl(&spool, ROOT, "lp0", "rm 1 2").unwrap(), "1-stdin dequeued\n2-stdin dequeued\n");
    assert!(spool.core.lock().jobs.is_empty());
}

fn dir_of(fs: &SpoolFs, queue: &str) -> Local {
    fs.lookup(Local(1), OsStr::new(queue)).unwrap().ino.into()
}

/// Writes a file into the spool's directory, as the tree would.
fn write_file(fs: &SpoolFs, who: Caller, dir: Local, name: &str, text: &str) -> Arc<dyn FileOps> {
    use crate::vfs::fs::{Content, New};
    let new = New { content: Content::Regular, mode: 0o644, uid: who.uid, gid: who.gid };
    let attr = fs.make(dir, name.as_ref(), &new).unwrap();
    let file = fs.open(&who, attr.ino.into(), O_WRONLY | O_TRUNC).unwrap();
    finish(file.write(&call(who), 0, text.as_bytes())).unwrap();
    finish(file.flush(&call(who))).unwrap();
    file
}

#[test]
fn a_file_is_a_job_and_a_dot_stages_it() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let fs = SpoolFs::new(&spool);
    let lp0 = dir_of(&fs, "lp0");
    let names = || -> Vec<String> {
        let all = fs.readdir(lp0, 0, 100).unwrap();
        let names = all.iter().map(|entry| entry.name.to_str().unwrap().to_owned());
        names.filter(|name| !name.starts_with('.')).collect()
    };
    write_file(&fs, ALICE, lp0, "report", "text").release();
    assert_eq!(names(), ["1-report"]);
    assert!(fs.lookup_by(&ALICE, lp0, "report".as_ref()).is_ok());
    assert!(fs.lookup_by(&BOB, lp0, "report".as_ref()).is_err(), "another's name");
    write_file(&fs, ALICE, lp0, ".tmp", "text").release();
    assert_eq!((names().len(), spool.core.lock().ranked("lp0").len()), (1, 1));
    let crashed = copy(dir.path());
    assert!(open(crashed.path()).core.lock().named("lp0", 1, ".tmp".as_ref()).is_some());
    let replace = RenameMode::Replace;
    fs.rename_by(&ALICE, (lp0, ".tmp".as_ref()), (lp0, "final".as_ref()), replace).unwrap();
    assert_eq!(names(), ["1-report", "2-final"]);
    let lp1 = dir_of(&fs, "lp1");
    let to = (lp1, OsStr::new("1-report"));
    fs.rename_by(&ALICE, (lp0, "1-report".as_ref()), to, replace).unwrap();
    assert_eq!(names(), ["2-final"]);
    assert_eq!(spool.core.lock().ranked("lp1")[0].title(), "report");
    fs.unlink_by(&ALICE, lp0, "2-final".as_ref()).unwrap();
    assert!(names().is_empty());
    assert_eq!(fs.unlink(lp0, ".ctl".as_ref()).unwrap_err().errno, Errno::EPERM);
}

#[test]
fn a_queued_job_is_not_changed_and_writing_its_name_again_makes_another() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let fs = SpoolFs::new(&spool);
    let lp0 = dir_of(&fs, "lp0");
    write_file(&fs, ALICE, lp0, "x", "first").release();
    let node: Local = fs.lookup_by(&ALICE, lp0, "x".as_ref()).unwrap().ino.into();
    assert_eq!(fs.open(&ALICE, node, O_WRONLY).err().unwrap().errno, Errno::EPERM);
    let cut = Change { size: Some(0), ..Change::default() };
    assert_eq!(fs.setattr(&ALICE, node, &cut).unwrap_err().errno, Errno::EPERM);
    let second = fs.open(&ALICE, node, O_WRONLY | O_TRUNC).unwrap();
    finish(second.write(&call(ALICE), 0, b"second")).unwrap();
    second.release();
    assert_eq!(std::fs::read_to_string(spool.data("lp0", 1)).unwrap(), "first");
    assert_eq!(std::fs::read_to_string(spool.data("lp0", 2)).unwrap(), "second");
    let reader = fs.open(&ALICE, node, O_RDONLY).unwrap();
    let mut buf = vec![0; 9];
    assert!(matches!(reader.read(&call(ALICE), 0, &mut buf), Ok(Answer::Now(5))));
}

#[test]
fn a_removed_job_takes_no_more_writes() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let writer = spool.open_device("lp0", &ALICE, O_WRONLY).unwrap();
    finish(writer.write(&call(ALICE), 0, b"x")).unwrap();
    ctl(&spool, ALICE, "lp0", "rm 1").unwrap();
    assert_eq!(finish(writer.write(&call(ALICE), 0, b"y")).unwrap_err().errno, Errno::EIO);
    writer.release();
    assert!(spool.core.lock().jobs.is_empty());
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
