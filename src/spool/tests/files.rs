//! The spool as a file system: names, staging, jobs that do not change.

use super::*;

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
fn what_lpr_takes_back_was_no_job_and_leaves_no_word() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let fs = SpoolFs::new(&spool);
    let lp0 = dir_of(&fs, "lp0");
    for (id, name) in [(1, ".lpr-9-0"), (2, ".mine"), (3, "job")] {
        write_file(&fs, ALICE, lp0, name, "text").release();
        ctl(&spool, ALICE, "lp0", &format!("rm {id}")).unwrap();
    }
    let log = spool.log_text("lp0");
    let ids: Vec<&str> = log.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(ids, ["2", "3"], "{log}");
}

#[test]
fn clean_removes_old_staged_files_and_nothing_that_may_be_submitted_right_now() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let fs = SpoolFs::new(&spool);
    let lp0 = dir_of(&fs, "lp0");
    write_file(&fs, ALICE, lp0, "job", "text").release();
    write_file(&fs, ALICE, lp0, ".left", "text").release();
    write_file(&fs, ALICE, lp0, ".new", "text").release();
    let writer = write_file(&fs, ALICE, lp0, ".open", "text");
    let old = SystemTime::now() - std::time::Duration::from_secs(61);
    for id in [1, 2, 4] {
        let file = std::fs::File::options().write(true).open(spool.data("lp0", id)).unwrap();
        file.set_modified(old).unwrap();
    }
    assert_eq!(ctl(&spool, BOB, "lp0", "tclean").unwrap(), "lp0:\n\twould remove .left\n");
    assert_eq!(ctl(&spool, BOB, "lp0", "clean").unwrap_err().errno, Errno::EPERM);
    assert_eq!(ctl(&spool, ROOT, "lp0", "clean").unwrap(), "lp0:\n\tremoved .left\n");
    assert_eq!(ctl(&spool, ROOT, "lp0", "clean").unwrap(), "lp0:\n");
    assert!(!spool.data("lp0", 2).exists() && spool.log_text("lp0").contains("removed by"));
    writer.release();
    let ids: Vec<u64> = spool.core.lock().jobs.keys().copied().collect();
    assert_eq!(ids, [1, 3, 4]);
}
