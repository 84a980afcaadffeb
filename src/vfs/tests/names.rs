//! Making, moving and removing names; attributes.

use super::*;

#[test]
fn names_may_have_255_bytes_and_no_more() {
    let vfs = tree();
    let tmp = at(&vfs, "/tmp");
    let (fits, long) = ("x".repeat(255), "x".repeat(256));
    touch(&vfs, &format!("/tmp/{fits}"));
    assert_eq!(names(&vfs, "/tmp"), [fits]);
    let long = OsStr::new(&long);
    assert_eq!(errno(vfs.lookup(&USER, tmp, long)), Errno::ENAMETOOLONG);
    assert_eq!(errno(vfs.mkdir(&USER, tmp, long, 0o755, 0)), Errno::ENAMETOOLONG);
    assert_eq!(errno(vfs.unlink(&USER, tmp, long)), Errno::ENAMETOOLONG);
    assert_eq!(
        errno(vfs.rename(&USER, tmp, OsStr::new("x"), tmp, long, RenameMode::Replace)),
        Errno::ENAMETOOLONG
    );
}

#[test]
fn names_that_are_none_are_refused() {
    let vfs = tree();
    let tmp = at(&vfs, "/tmp");
    for (name, refusal) in [
        ("", Errno::ENOENT),
        ("a/b", Errno::EINVAL),
        ("a\0b", Errno::EINVAL),
        (".", Errno::EEXIST),
        ("..", Errno::EEXIST),
    ] {
        assert_eq!(errno(vfs.mkdir(&USER, tmp, OsStr::new(name), 0o755, 0)), refusal, "{name:?}");
    }
    assert_eq!(errno(vfs.rmdir(&USER, tmp, OsStr::new("."))), Errno::EINVAL);
    assert_eq!(errno(vfs.rmdir(&USER, tmp, OsStr::new(".."))), Errno::ENOTEMPTY);
}

/// What a rename meets: nothing, a file, an empty directory, a full one.
const GOALS: [&str; 4] = ["none", "file", "empty", "full"];

fn rename_over(from: &str, goal: &str, mode: RenameMode) -> Result<(), Error> {
    let vfs = tree();
    touch(&vfs, "/tmp/file");
    touch(&vfs, "/tmp/file2");
    for dir in ["empty", "full", "dir2"] {
        mkdir(&vfs, &format!("/tmp/{dir}"));
    }
    touch(&vfs, "/tmp/full/x");
    rename(&vfs, &format!("/tmp/{from}"), &format!("/tmp/{goal}"), mode)?;
    let is_dir = |path: &str| vfs.getattr(at(&vfs, path)).unwrap().kind == FileKind::Directory;
    assert_eq!(is_dir(&format!("/tmp/{goal}")), from == "dir2");
    assert_eq!(exists(&vfs, &format!("/tmp/{from}")), mode == RenameMode::Exchange);
    let tmp = vfs.getattr(at(&vfs, "/tmp")).unwrap();
    let dirs = names(&vfs, "/tmp").iter().filter(|name| is_dir(&format!("/tmp/{name}"))).count();
    assert_eq!(tmp.nlink as usize, 2 + dirs);
    Ok(())
}

#[test]
fn rename_does_what_posix_says_to_every_pair() {
    use RenameMode::{Exchange, NoReplace, Replace};
    let table: [(&str, RenameMode, [Option<Errno>; 4]); 6] = [
        ("file2", Replace, [None, None, Some(Errno::EISDIR), Some(Errno::EISDIR)]),
        ("dir2", Replace, [None, Some(Errno::ENOTDIR), None, Some(Errno::ENOTEMPTY)]),
        ("file2", NoReplace, [None, Some(Errno::EEXIST), Some(Errno::EEXIST), Some(Errno::EEXIST)]),
        ("dir2", NoReplace, [None, Some(Errno::EEXIST), Some(Errno::EEXIST), Some(Errno::EEXIST)]),
        ("file2", Exchange, [Some(Errno::ENOENT), None, None, None]),
        ("dir2", Exchange, [Some(Errno::ENOENT), None, None, None]),
    ];
    for (from, mode, outcomes) in table {
        for (goal, expected) in GOALS.into_iter().zip(outcomes) {
            let outcome = match rename_over(from, goal, mode) {
                Ok(()) => None,
                Err(refusal) => Some(refusal.errno),
            };
            assert_eq!(outcome, expected, "{from} to {goal}, {mode:?}");
        }
    }
}

#[test]
fn a_directory_does_not_move_into_itself() {
    let vfs = tree();
    mkdir(&vfs, "/tmp/a");
    mkdir(&vfs, "/tmp/a/b");
    touch(&vfs, "/tmp/f");
    for mode in [RenameMode::Replace, RenameMode::NoReplace] {
        assert_eq!(errno(rename(&vfs, "/tmp/a", "/tmp/a/c", mode)), Errno::EINVAL);
        assert_eq!(errno(rename(&vfs, "/tmp/a", "/tmp/a/b/c", mode)), Errno::EINVAL);
    }
    assert_eq!(errno(rename(&vfs, "/tmp/a", "/tmp/a/b", RenameMode::Exchange)), Errno::EINVAL);
    assert_eq!(errno(rename(&vfs, "/tmp/a/b", "/tmp/a", RenameMode::Exchange)), Errno::EINVAL);
    assert_eq!(errno(rename(&vfs, "/tmp/a/b", "/tmp/a", RenameMode::Replace)), Errno::ENOTEMPTY);
    rename(&vfs, "/tmp/a", "/tmp/ab", RenameMode::Replace).unwrap();
    assert!(exists(&vfs, "/tmp/ab/b"));
}

#[test]
fn a_directory_that_moves_takes_its_parent_link_along() {
    let vfs = tree();
    mkdir(&vfs, "/tmp/a");
    mkdir(&vfs, "/tmp/b");
    let moved = mkdir(&vfs, "/tmp/a/d");
    let nlink = |path: &str| vfs.getattr(at(&vfs, path)).unwrap().nlink;
    assert_eq!((nlink("/tmp/a"), nlink("/tmp/b")), (3, 2));
    rename(&vfs, "/tmp/a/d", "/tmp/b/e", RenameMode::Replace).unwrap();
    assert_eq!((nlink("/tmp/a"), nlink("/tmp/b")), (2, 3));
    let up = vfs.lookup(&USER, moved, OsStr::new("..")).unwrap();
    assert_eq!(up.ino, at(&vfs, "/tmp/b"));
    touch(&vfs, "/tmp/a/f");
    rename(&vfs, "/tmp/b/e", "/tmp/a/f", RenameMode::Exchange).unwrap();
    assert_eq!((nlink("/tmp/a"), nlink("/tmp/b")), (3, 2));
    assert!(exists(&vfs, "/tmp/b/e"));
}

#[test]
fn renaming_one_link_over_another_of_the_same_inode_changes_nothing() {
    let vfs = tree();
    let file = touch(&vfs, "/tmp/a");
    vfs.link(&USER, file, at(&vfs, "/tmp"), OsStr::new("b")).unwrap();
    rename(&vfs, "/tmp/a", "/tmp/b", RenameMode::Replace).unwrap();
    assert_eq!(names(&vfs, "/tmp"), ["a", "b"]);
    assert_eq!(errno(rename(&vfs, "/tmp/a", "/tmp/b", RenameMode::NoReplace)), Errno::EEXIST);
}

#[test]
fn links_count_and_end_at_directories_and_mounts() {
    let vfs = tree();
    let file = touch(&vfs, "/tmp/a");
    let (tmp, root) = (at(&vfs, "/tmp"), Ino::ROOT);
    assert_eq!(vfs.link(&USER, file, tmp, OsStr::new("b")).unwrap().nlink, 2);
    assert_eq!(errno(vfs.link(&USER, file, tmp, OsStr::new("b"))), Errno::EEXIST);
    assert_eq!(errno(vfs.link(&USER, file, root, OsStr::new("c"))), Errno::EXDEV);
    let dir = mkdir(&vfs, "/tmp/d");
    assert_eq!(errno(vfs.link(&USER, dir, tmp, OsStr::new("e"))), Errno::EPERM);
    unlink(&vfs, "/tmp/a").unwrap();
    assert_eq!(vfs.getattr(file).unwrap().nlink, 1);
    assert_eq!(errno(rename(&vfs, "/tmp/b", "/b", RenameMode::Replace)), Errno::EXDEV);
}

#[test]
fn links_end_at_their_bound() {
    let vfs = tree();
    let tmp = at(&vfs, "/tmp");
    let file = touch(&vfs, "/tmp/0");
    for number in 1..fs::LINKS_MAX {
        vfs.link(&USER, file, tmp, OsStr::new(&number.to_string())).unwrap();
    }
    assert_eq!(errno(vfs.link(&USER, file, tmp, OsStr::new("x"))), Errno::EMLINK);
}

#[test]
fn removing_takes_the_right_kind_only() {
    let vfs = tree();
    touch(&vfs, "/tmp/f");
    mkdir(&vfs, "/tmp/d");
    touch(&vfs, "/tmp/d/f");
    assert_eq!(errno(unlink(&vfs, "/tmp/d")), Errno::EISDIR);
    assert_eq!(errno(rmdir(&vfs, "/tmp/f")), Errno::ENOTDIR);
    assert_eq!(errno(rmdir(&vfs, "/tmp/d")), Errno::ENOTEMPTY);
    assert_eq!(errno(rmdir(&vfs, "/tmp/x")), Errno::ENOENT);
    unlink(&vfs, "/tmp/d/f").unwrap();
    rmdir(&vfs, "/tmp/d").unwrap();
    assert_eq!(names(&vfs, "/tmp"), ["f"]);
}

#[test]
fn nothing_can_be_made_in_a_directory_that_was_removed() {
    let vfs = tree();
    mkdir(&vfs, "/tmp/d");
    let dir = vfs.lookup(&USER, at(&vfs, "/tmp"), OsStr::new("d")).unwrap().ino;
    let file = touch(&vfs, "/tmp/f");
    rmdir(&vfs, "/tmp/d").unwrap();
    let name = OsStr::new("x");
    assert_eq!(vfs.getattr(dir).unwrap().nlink, 0);
    assert_eq!(errno(vfs.mkdir(&USER, dir, name, 0o755, 0)), Errno::ENOENT);
    assert_eq!(errno(vfs.link(&USER, file, dir, name)), Errno::ENOENT);
    let tmp = at(&vfs, "/tmp");
    let moved = vfs.rename(&USER, tmp, OsStr::new("f"), dir, name, RenameMode::Replace);
    assert_eq!(errno(moved), Errno::ENOENT);
    vfs.forget(dir, 1);
    assert_eq!(errno(vfs.getattr(dir)), Errno::ESTALE);
}

#[test]
fn a_set_group_id_directory_gives_its_group() {
    let vfs = tree();
    let dir = mkdir(&vfs, "/tmp/d");
    let change = Change { mode: Some(0o2775), gid: Some(7), ..Change::default() };
    vfs.setattr(&ROOT_USER, dir, &change).unwrap();
    let file = vfs.mknod(&USER, dir, OsStr::new("f"), Make::Regular, 0o644, 0).unwrap();
    let sub = vfs.mkdir(&USER, dir, OsStr::new("s"), 0o755, 0o022).unwrap();
    assert_eq!((file.uid, file.gid, file.mode), (1000, 7, 0o644));
    assert_eq!((sub.uid, sub.gid, sub.mode), (1000, 7, 0o2755));
}

#[test]
fn chown_takes_set_id_bits_and_so_does_anothers_write() {
    let vfs = tree();
    let ino = touch(&vfs, "/tmp/f");
    let mode = |mode| Change { mode: Some(mode), ..Change::default() };
    vfs.setattr(&USER, ino, &mode(0o6755)).unwrap();
    let owner = Change { uid: Some(5), ..Change::default() };
    assert_eq!(vfs.setattr(&ROOT_USER, ino, &owner).unwrap().mode, 0o755);

    vfs.setattr(&ROOT_USER, ino, &mode(0o6755)).unwrap();
    let file = vfs.open(&ROOT_USER, ino, O_RDWR).unwrap();
    write(&file, ROOT_USER, 0, b"x").unwrap();
    assert_eq!(vfs.getattr(ino).unwrap().mode, 0o6755, "user 0 may");
    write(&file, OTHER, 0, b"x").unwrap();
    assert_eq!(vfs.getattr(ino).unwrap().mode, 0o755);

    vfs.setattr(&ROOT_USER, ino, &mode(0o6745)).unwrap();
    let cut = Change { size: Some(0), ..Change::default() };
    let mode = vfs.setattr(&OTHER, ino, &cut).unwrap().mode;
    assert_eq!(mode, 0o2745, "without group execution the bit means locking");
}

#[test]
fn times_move_as_they_should() {
    let vfs = tree();
    let ino = touch(&vfs, "/tmp/f");
    let old = std::time::SystemTime::UNIX_EPOCH;
    let set = Change {
        atime: Some(SetTime::To(old)),
        mtime: Some(SetTime::To(old)),
        ..Change::default()
    };
    let times = |ino| {
        let attr = vfs.getattr(ino).unwrap();
        (attr.atime, attr.mtime, attr.ctime)
    };
    let (atime, mtime, ctime) = {
        vfs.setattr(&USER, ino, &set).unwrap();
        times(ino)
    };
    assert!(atime == old && mtime == old && ctime > old);
    let file = vfs.open(&USER, ino, O_RDWR).unwrap();
    read(&file, USER, 0, 1);
    assert!(times(ino).0 > old && times(ino).1 == old, "a read is noted");
    let noted = times(ino).0;
    read(&file, USER, 0, 1);
    assert_eq!(times(ino).0, noted, "but not again within a day");
    write(&file, USER, 0, b"x").unwrap();
    assert!(times(ino).1 > old && times(ino).1 == times(ino).2);
    let dir = mkdir(&vfs, "/tmp/d");
    vfs.setattr(&USER, dir, &set).unwrap();
    touch(&vfs, "/tmp/d/f");
    assert!(times(dir).1 > old);
}

#[test]
fn a_length_belongs_to_regular_files() {
    let vfs = tree();
    let cut = Change { size: Some(3), ..Change::default() };
    assert_eq!(vfs.setattr(&USER, touch(&vfs, "/tmp/f"), &cut).unwrap().size, 3);
    assert_eq!(errno(vfs.setattr(&USER, mkdir(&vfs, "/tmp/d"), &cut)), Errno::EISDIR);
    let node = mknod(&vfs, "/tmp/sd0", SD0);
    assert_eq!(vfs.setattr(&USER, node, &cut).unwrap().size, 1 << 20);
    let far = Change { size: Some(u64::MAX), ..Change::default() };
    assert_eq!(errno(vfs.setattr(&USER, at(&vfs, "/tmp/f"), &far)), Errno::EFBIG);
}

#[test]
fn symbolic_links_keep_their_target_and_its_length() {
    let vfs = tree();
    symlink(&vfs, "/tmp/l", "../any where");
    let ino = at(&vfs, "/tmp/l");
    assert_eq!(vfs.readlink(ino).unwrap(), "../any where");
    let attr = vfs.getattr(ino).unwrap();
    assert_eq!((attr.size, attr.mode), (12, 0o777));
    assert_eq!(errno(vfs.readlink(at(&vfs, "/tmp"))), Errno::EINVAL);
    let (tmp, name) = (at(&vfs, "/tmp"), OsStr::new("m"));
    let long = "x".repeat(4096);
    let made = vfs.symlink(&USER, tmp, name, OsStr::new(&long));
    assert_eq!(errno(made), Errno::ENAMETOOLONG);
    assert_eq!(errno(vfs.symlink(&USER, tmp, name, OsStr::new(""))), Errno::ENOENT);
}

#[test]
fn extended_attributes_follow_setxattr_2() {
    let vfs = tree();
    let ino = touch(&vfs, "/tmp/f");
    let name = OsStr::new("user.a");
    let set = |value: &[u8], mode| vfs.setxattr(&USER, ino, name, value, mode);
    assert_eq!(errno(vfs.getxattr(ino, name)), Errno::ENODATA);
    assert_eq!(errno(set(b"1", XattrMode::Replace)), Errno::ENODATA);
    set(b"1", XattrMode::Create).unwrap();
    assert_eq!(errno(set(b"2", XattrMode::Create)), Errno::EEXIST);
    set(b"", XattrMode::Replace).unwrap();
    assert_eq!(vfs.getxattr(ino, name).unwrap(), b"");
    assert_eq!(vfs.listxattr(ino).unwrap(), b"user.a\0");
    vfs.removexattr(&USER, ino, name).unwrap();
    assert_eq!(errno(vfs.removexattr(&USER, ino, name)), Errno::ENODATA);
    for foreign in ["security.capability", "trusted.a", "system.posix_acl_access", "a"] {
        let foreign = OsStr::new(foreign);
        assert_eq!(errno(vfs.getxattr(ino, foreign)), Errno::EOPNOTSUPP);
        let set = vfs.setxattr(&USER, ino, foreign, b"", XattrMode::Any);
        assert_eq!(errno(set), Errno::EOPNOTSUPP);
    }
    symlink(&vfs, "/tmp/l", "f");
    let link = at(&vfs, "/tmp/l");
    assert_eq!(errno(vfs.setxattr(&USER, link, name, b"", XattrMode::Any)), Errno::EPERM);
    assert_eq!(errno(set(&[0; 65537], XattrMode::Any)), Errno::E2BIG);
    assert_eq!(errno(set(&[0; 65536], XattrMode::Any)), Errno::ENOSPC);
}

#[test]
fn a_device_tells_its_numbers_in_an_attribute_that_nobody_sets() {
    let vfs = tree();
    let node = mknod(&vfs, "/tmp/disk", SD1);
    let name = OsStr::new("user.spindle.dev");
    assert_eq!(vfs.getxattr(node, name).unwrap(), b"b 8 16");
    assert_eq!(vfs.listxattr(node).unwrap(), b"user.spindle.dev\0");
    let set = vfs.setxattr(&ROOT_USER, node, name, b"b 8 0", XattrMode::Any);
    assert_eq!(errno(set), Errno::EPERM);
    assert_eq!(errno(vfs.removexattr(&ROOT_USER, node, name)), Errno::EPERM);
    let file = touch(&vfs, "/tmp/f");
    assert_eq!(errno(vfs.getxattr(file, name)), Errno::ENODATA);
}

#[test]
fn devices_are_made_by_user_0_and_the_owner() {
    let vfs = tree();
    let (tmp, make) = (at(&vfs, "/tmp"), Make::Device(SD0));
    let mknod = |by: &Caller, name| vfs.mknod(by, tmp, OsStr::new(name), make, 0o666, 0o022);
    assert_eq!(errno(mknod(&OTHER, "a")), Errno::EPERM);
    assert_eq!(mknod(&USER, "b").unwrap().mode, 0o644);
    let attr = mknod(&ROOT_USER, "c").unwrap();
    assert_eq!((attr.kind, attr.size, attr.blksize), (FileKind::Device(SD0), 1 << 20, 4096));
    assert!(attr.may_be_remembered && !attr.shows_device);
}

#[test]
fn a_full_file_system_says_so_and_has_room_again() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/m");
    mount_mem(&vfs, "/mnt/m").unwrap();
    let ino = touch(&vfs, "/mnt/m/f");
    let file = vfs.open(&USER, ino, O_RDWR).unwrap();
    let much = vec![1; 2 << 20];
    let stored = write(&file, USER, 0, &much).unwrap();
    assert!(stored < 1 << 20 && stored > 1_000_000);
    assert_eq!(errno(write(&file, USER, stored as u64, &much)), Errno::ENOSPC);
    assert_eq!(vfs.statfs(ino).unwrap().bfree, 0);
    let cut = Change { size: Some(0), ..Change::default() };
    vfs.setattr(&USER, ino, &cut).unwrap();
    assert!(vfs.statfs(ino).unwrap().bfree > 250);
    assert_eq!(write(&file, USER, 0, b"x").unwrap(), 1);
}
