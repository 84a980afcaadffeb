//! Device nodes, from one life of the machine to the next; `/nodes`; reports and `ctl`.

use super::*;
use crate::file::{Control, Report};
use crate::sync::Mutex;
use std::time::{Duration, SystemTime};

/// A machine with sd0 and sd1, on a state directory.
fn machine(state: &Path) -> Arc<Vfs> {
    let vfs = tree();
    vfs.load_nodes(state).unwrap();
    vfs.install_node("sd0", SD0, 0o660, USER.uid, USER.gid).unwrap();
    vfs.install_node("sd1", SD1, 0o660, USER.uid, USER.gid).unwrap();
    vfs
}

fn nodes(vfs: &Vfs) -> Vec<String> {
    let line = |node: &NodeLine| {
        let NodeLine { path, device, mode, uid, gid } = node;
        format!("{} {device} {mode:o} {uid} {gid}", path.display())
    };
    vfs.list_nodes().iter().map(line).collect()
}

#[test]
fn nodes_stand_as_the_machine_says_and_nothing_is_stored() {
    let state = tempfile::tempdir().unwrap();
    let vfs = machine(state.path());
    assert_eq!(nodes(&vfs), ["/dev/sd0 b 8 0 660 1000 1000", "/dev/sd1 b 8 16 660 1000 1000"]);
    touch(&vfs, "/dev/f");
    let cut = Change { size: Some(0), mtime: Some(SetTime::Now), ..Change::default() };
    let before = vfs.getattr(at(&vfs, "/dev/sd0")).unwrap();
    let after = vfs.setattr(&USER, at(&vfs, "/dev/sd0"), &cut).unwrap();
    assert_eq!(after, before, "truncating a device changes nothing");
    assert!(!state.path().join("nodes").exists());
    assert_eq!(errno(vfs.install_node("sd0", SD0, 0, 0, 0)), Errno::EEXIST);
    for name in ["", "/sd0", "..", "a/../b"] {
        assert_eq!(errno(vfs.install_node(name, SD0, 0, 0, 0)), Errno::EINVAL, "{name:?}");
    }
}

#[test]
fn what_a_user_changed_is_there_in_the_next_life() {
    let state = tempfile::tempdir().unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000, 5);
    {
        let vfs = machine(state.path());
        let change = Change {
            mode: Some(0o604),
            uid: Some(7),
            gid: Some(8),
            mtime: Some(SetTime::To(time)),
            ..Change::default()
        };
        vfs.setattr(&ROOT_USER, at(&vfs, "/dev/sd0"), &change).unwrap();
        unlink(&vfs, "/dev/sd1").unwrap();
        mkdir(&vfs, "/dev/by name");
        mknod(&vfs, "/dev/by name/100%", SD1);
        mknod(&vfs, "/dev/x", device(DeviceKind::Char, 77, 3));
        rename(&vfs, "/dev/x", "/dev/y", RenameMode::Replace).unwrap();
        mknod(&vfs, "/tmp/elsewhere", SD0);
    }
    let vfs = machine(state.path());
    let expected =
        ["/dev/by name/100% b 8 16 640 0 0", "/dev/sd0 b 8 0 604 7 8", "/dev/y c 77 3 640 0 0"];
    assert_eq!(nodes(&vfs), expected);
    assert_eq!(vfs.getattr(at(&vfs, "/dev/sd0")).unwrap().mtime, time);
    unlink(&vfs, "/dev/y").unwrap();
    mknod(&vfs, "/dev/sd1", SD1);
    let vfs = machine(state.path());
    assert_eq!(nodes(&vfs).len(), 3);
    assert!(exists(&vfs, "/dev/sd1") && !exists(&vfs, "/dev/y"));
}

#[test]
fn what_is_known_of_an_absent_unit_waits_for_it() {
    let state = tempfile::tempdir().unwrap();
    {
        let vfs = machine(state.path());
        let change = Change { mode: Some(0o600), ..Change::default() };
        vfs.setattr(&ROOT_USER, at(&vfs, "/dev/sd1"), &change).unwrap();
    }
    let vfs = tree();
    vfs.load_nodes(state.path()).unwrap();
    vfs.install_node("sd0", SD0, 0o660, 0, 0).unwrap();
    assert_eq!(names(&vfs, "/dev"), ["sd0"]);
    unlink(&vfs, "/dev/sd0").unwrap();
    let vfs = machine(state.path());
    assert_eq!(nodes(&vfs), ["/dev/sd1 b 8 16 600 1000 1000"]);
    vfs.remove_node("sd1").unwrap();
    vfs.remove_node("sd0").unwrap();
    assert!(names(&vfs, "/dev").is_empty());
    vfs.install_node("sd1", SD1, 0o660, 0, 0).unwrap();
    assert_eq!(nodes(&vfs), ["/dev/sd1 b 8 16 600 1000 1000"], "also within one life");
    assert_eq!(errno(vfs.remove_node("sd9")), Errno::ENOENT);
}

#[test]
fn a_state_file_that_is_not_right_is_refused_in_words() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("nodes");
    {
        let vfs = machine(state.path());
        mknod(&vfs, "/dev/a", SD0);
        mknod(&vfs, "/dev/b", SD0);
    }
    let good = std::fs::read_to_string(&file).unwrap();
    let mut wrong = vec![
        (good.replacen("nodes 1", "nodes 2", 1), "another version"),
        (good.replacen("spindle", "spangle", 1), "missing"),
        (good.replacen(" b ", " q ", 1), "is no node"),
        (good.replacen(" 8 ", " 99999 ", 1), "is no node"),
        (good.replacen("node a", "node ../a", 1), "is no node"),
        (good.replacen("0640", "70640", 1), "is no node"),
        (String::new(), "missing"),
    ];
    for cut in 1..good.len() {
        wrong.push((good[..cut].to_owned(), ":"));
    }
    for (text, words) in wrong {
        std::fs::write(&file, &text).unwrap();
        let refusal = tree().load_nodes(state.path()).unwrap_err();
        assert_eq!(refusal.errno, Errno::EINVAL, "{text}");
        assert!(refusal.what.contains(words) && refusal.what.contains("nodes:"), "{refusal}");
    }
    std::fs::write(&file, b"\xff\0\x01").unwrap();
    assert_eq!(errno(tree().load_nodes(state.path())), Errno::EINVAL);
    std::fs::write(&file, good).unwrap();
    assert_eq!(nodes(&machine(state.path())).len(), 4);
}

#[test]
fn a_state_directory_that_takes_nothing_does_not_stop_chmod_and_is_told() {
    let state = tempfile::tempdir().unwrap();
    let vfs = machine(state.path());
    std::fs::create_dir(state.path().join("nodes.new")).unwrap();
    let change = Change { mode: Some(0o600), ..Change::default() };
    assert_eq!(vfs.setattr(&USER, at(&vfs, "/dev/sd0"), &change).unwrap().mode, 0o600);
    assert_eq!(errno(vfs.sync_nodes()), Errno::EISDIR);
    std::fs::remove_dir(state.path().join("nodes.new")).unwrap();
    vfs.sync_nodes().unwrap();
    let text = std::fs::read_to_string(state.path().join("nodes")).unwrap();
    assert!(text.starts_with("spindle nodes 1\nnode sd0 b 8 0 0600 1000 1000 "), "{text}");
    assert!(text.ends_with(" installed\nend 1\n"), "{text}");
}

#[test]
fn nodes_shows_the_devices_of_dev_as_what_they_are() {
    let vfs = tree();
    vfs.install_node("sd0", SD0, 0o660, 0, 0).unwrap();
    touch(&vfs, "/dev/plain");
    mkdir(&vfs, "/dev/sub");
    mknod(&vfs, "/dev/sub/x", SD1);
    assert_eq!(names(&vfs, "/nodes"), ["sd0", "sub"]);
    assert!(!exists(&vfs, "/nodes/plain") && exists(&vfs, "/nodes/sub/x"));
    let node = vfs.getattr(at(&vfs, "/nodes/sd0")).unwrap();
    assert_eq!((node.kind, node.shows_device), (FileKind::Device(SD0), true));
    assert_eq!((node.mode, node.size, node.may_be_remembered), (0o660, 0, false));
    assert_ne!(node.ino, at(&vfs, "/dev/sd0"));
    assert_eq!(vfs.getxattr(node.ino, OsStr::new("user.spindle.dev")).unwrap(), b"b 8 0");
    assert_eq!(errno(vfs.open(&ROOT_USER, node.ino, 0)), Errno::EACCES);
    assert_eq!(errno(unlink(&vfs, "/nodes/sd0")), Errno::EROFS);
    unlink(&vfs, "/dev/sd0").unwrap();
    assert!(!exists(&vfs, "/nodes/sd0"));
    assert_eq!(nodes(&vfs).len(), 1, "no device is listed twice");
}

#[test]
fn a_report_is_made_at_open_and_stays_as_it_was() {
    let vfs = tree();
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    let text = Box::new(move |caller: &Caller| {
        *counted.lock() += 1;
        format!("{} {}\n", caller.uid, *counted.lock())
    });
    vfs.set_reports(vec![
        Report { name: "count", text },
        Report { name: "empty", text: Box::new(|_| String::new()) },
    ]);
    assert_eq!(names(&vfs, "/proc"), ["count", "empty"]);
    let ino = at(&vfs, "/proc/count");
    let attr = vfs.getattr(ino).unwrap();
    assert_eq!((attr.size, attr.mode, attr.may_be_remembered), (0, 0o444, false));
    let first = vfs.open(&USER, ino, 0).unwrap();
    let second = vfs.open(&OTHER, ino, 0).unwrap();
    assert!(first.ops.nature().is_direct);
    assert_eq!(read(&second, OTHER, 0, 99), b"2000 2\n");
    assert_eq!(read(&first, USER, 0, 99), b"1000 1\n");
    assert_eq!(read(&first, USER, 5, 1), b"1");
    assert!(read(&first, USER, 7, 9).is_empty() && read(&first, USER, u64::MAX, 9).is_empty());
    assert_eq!(first.path, "/proc/count");
    assert_eq!(errno(vfs.open(&ROOT_USER, ino, O_RDWR)), Errno::EROFS);
    assert_eq!(errno(unlink(&vfs, "/proc/count")), Errno::EROFS);
    assert_eq!(errno(vfs.lookup(&USER, at(&vfs, "/proc"), OsStr::new("x"))), Errno::ENOENT);
    vfs.set_reports(vec![Report { name: "new", text: Box::new(|_| "n".into()) }]);
    assert_eq!(names(&vfs, "/proc"), ["new"]);
    assert_eq!(errno(vfs.getattr(ino)), Errno::ESTALE);
}

/// Answers what it was told; `later` a little later, `no` with a refusal.
struct Echo;

impl Control for Echo {
    fn run(&self, caller: &Caller, line: &str) -> Result<Answer<String>, Error> {
        let answer = format!("{} said {line}", caller.uid);
        match line {
            "no" => Err(Error::new(Errno::EPERM, "no: you may not")),
            "later" => Ok(Answer::Later(Box::new(move |_| Ok(answer)))),
            "never" => Ok(Answer::Later(Box::new(|_| unreachable!("nobody waits for it")))),
            "later no" => Ok(Answer::Later(Box::new(|_| Err(Errno::EBUSY.into())))),
            _ => Ok(Answer::Now(answer)),
        }
    }
}

fn controlled() -> (Arc<Vfs>, Ino) {
    let vfs = tree();
    vfs.set_control(Arc::new(Echo));
    let ctl = at(&vfs, "/ctl");
    (vfs, ctl)
}

#[test]
fn what_was_answered_before_is_no_answer_to_what_nobody_answers() {
    let (vfs, ctl) = controlled();
    let file = vfs.open(&USER, ctl, O_RDWR).unwrap();
    write(&file, USER, 0, b"no").unwrap_err();
    let file = vfs.open(&USER, ctl, O_RDWR).unwrap();
    assert_eq!(read(&file, USER, 0, 99), b"no: you may not\n");
    drop(file.ops.write(&call(USER), 0, b"never").unwrap());
    assert!(read(&file, USER, 0, 99).is_empty());
    let fresh = vfs.open(&USER, ctl, 0).unwrap();
    assert_eq!(read(&fresh, USER, 0, 99), b"no: you may not\n", "the last there was");
}

#[test]
fn ctl_answers_on_the_same_handle_and_a_fresh_one_of_the_same_user() {
    let (vfs, ctl) = controlled();
    assert_eq!(vfs.getattr(ctl).unwrap().mode, 0o600);
    let file = vfs.open(&USER, ctl, O_RDWR | O_TRUNC).unwrap();
    assert!(read(&file, USER, 0, 99).is_empty());
    assert_eq!(write(&file, USER, 0, b"help me\n\n").unwrap(), 9);
    assert_eq!(read(&file, USER, 9, 5), b"1000 ", "where the command ended");
    assert_eq!(read(&file, USER, 14, 99), b"said help me\n");
    assert!(read(&file, USER, 27, 99).is_empty());
    assert_eq!(read(&file, USER, 0, 99), b"1000 said help me\n", "or from the start");
    assert_eq!(read(&file, USER, 10, 99), b"help me\n", "and on from there");
    write(&file, USER, 27, b"later").unwrap();
    assert_eq!(read(&file, USER, 32, 99), b"1000 said later\n");
    let fresh = vfs.open(&USER, ctl, 0).unwrap();
    assert_eq!(read(&fresh, USER, 0, 99), b"1000 said later\n");
    let others = vfs.open(&ROOT_USER, ctl, 0).unwrap();
    assert!(read(&others, ROOT_USER, 0, 99).is_empty());
}

#[test]
fn what_is_no_command_is_refused_in_words_and_runs_nothing() {
    let (vfs, ctl) = controlled();
    let long = "x".repeat(4097);
    let table: [(&[u8], Errno, &str); 9] = [
        (b"no", Errno::EPERM, "no: you may not\n"),
        (b"later no", Errno::EBUSY, "EBUSY\n"),
        (b"", Errno::EINVAL, "no command; try help\n"),
        (b" \n", Errno::EINVAL, "no command; try help\n"),
        (b"a\nb\n", Errno::EINVAL, "one command a write"),
        (b"a\0b", Errno::EINVAL, "control characters"),
        (b"a\x1b[31m", Errno::EINVAL, "control characters"),
        (b"\xff\xfe", Errno::EINVAL, "UTF-8"),
        (long.as_bytes(), Errno::E2BIG, "at most 4096 bytes"),
    ];
    for (line, number, words) in table {
        let file = vfs.open(&USER, ctl, O_RDWR).unwrap();
        assert_eq!(errno(write(&file, USER, 0, line)), number, "{line:?}");
        let told = String::from_utf8(read(&file, USER, 0, 999)).unwrap();
        assert!(told.contains(words), "{line:?}: {told}");
        let fresh = vfs.open(&USER, ctl, 0).unwrap();
        assert_eq!(read(&fresh, USER, 0, 999), told.as_bytes());
    }
    let file = vfs.open(&USER, ctl, O_RDWR).unwrap();
    write(&file, USER, 0, &[&long.as_bytes()[1..], b"\n"].concat()).unwrap();
}

#[test]
fn ctl_belongs_to_the_machine() {
    let (vfs, ctl) = controlled();
    assert_eq!(errno(unlink(&vfs, "/ctl")), Errno::EPERM);
    assert_eq!(errno(rename(&vfs, "/ctl", "/x", RenameMode::Replace)), Errno::EPERM);
    assert_eq!(errno(vfs.link(&USER, ctl, Ino::ROOT, OsStr::new("x"))), Errno::EPERM);
    touch(&vfs, "/f");
    assert_eq!(errno(rename(&vfs, "/f", "/ctl", RenameMode::Replace)), Errno::EPERM);
    let cut = Change { size: Some(0), ..Change::default() };
    let size = vfs.getattr(ctl).unwrap().size;
    assert_eq!(vfs.setattr(&USER, ctl, &cut).unwrap().size, size);
    vfs.set_control(Arc::new(Echo));
    assert_eq!(names(&vfs, "/").iter().filter(|name| *name == "ctl").count(), 1);
}
