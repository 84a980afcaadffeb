//! The spool without a mount and without printers: what it refuses, and who waits.

mod crash;
mod files;

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
