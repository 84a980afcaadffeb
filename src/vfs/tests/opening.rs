//! Opening, creating, closing; what lives on without a name; references.

use super::*;
use crate::vfs::fs::O_EXCL;

#[test]
fn an_unlinked_file_lives_until_it_is_closed_and_forgotten() {
    let vfs = tree();
    let (tmp, name) = (at(&vfs, "/tmp"), OsStr::new("f"));
    let free = vfs.statfs(tmp).unwrap();
    let (attr, file) = vfs.create(&USER, tmp, name, 0o644, 0, O_RDWR).unwrap();
    write(&file, USER, 0, b"hello").unwrap();
    unlink(&vfs, "/tmp/f").unwrap();
    assert_eq!(vfs.getattr(attr.ino).unwrap().nlink, 0);
    assert_eq!(read(&file, USER, 0, 10), b"hello");
    write(&file, USER, 5, b"!").unwrap();
    assert_eq!(vfs.getattr(attr.ino).unwrap().size, 6);
    vfs.forget(attr.ino, 1);
    assert_eq!(errno(vfs.getattr(attr.ino)), Errno::ESTALE);
    assert_eq!(read(&file, USER, 0, 10), b"hello!", "still open");
    vfs.close(file.handle);
    drop(file);
    assert_eq!(vfs.statfs(tmp).unwrap(), free);
}

#[test]
fn references_are_counted_and_numbers_do_not_come_again() {
    let vfs = tree();
    let (tmp, name) = (at(&vfs, "/tmp"), OsStr::new("f"));
    let known = vfs.known_inodes();
    touch(&vfs, "/tmp/f");
    let ino = vfs.lookup(&USER, tmp, name).unwrap().ino;
    assert_eq!(vfs.lookup(&USER, tmp, name).unwrap().ino, ino);
    unlink(&vfs, "/tmp/f").unwrap();
    let new = touch(&vfs, "/tmp/f");
    assert_ne!(new, ino);
    vfs.forget(ino, 1);
    assert!(vfs.getattr(ino).is_ok());
    vfs.forget(ino, 1);
    assert_eq!(errno(vfs.getattr(ino)), Errno::ESTALE);
    vfs.forget(ino, 1);
    vfs.forget(new, u64::MAX);
    assert!(vfs.getattr(new).is_ok(), "it has a name");
    assert_eq!(vfs.known_inodes(), known);
}

#[test]
fn truncation_at_open_is_obeyed_by_files_and_ignored_by_devices() {
    let vfs = tree();
    let ino = touch(&vfs, "/tmp/f");
    let file = vfs.open(&USER, ino, O_RDWR).unwrap();
    write(&file, USER, 0, b"hello").unwrap();
    vfs.open(&USER, ino, O_RDWR | O_TRUNC).unwrap();
    assert_eq!(vfs.getattr(ino).unwrap().size, 0);
    let node = mknod(&vfs, "/tmp/sd0", SD0);
    let disk = vfs.open(&USER, node, O_RDWR | O_TRUNC).unwrap();
    assert_eq!((disk.ops.kind(), vfs.getattr(node).unwrap().size), ("block", 1 << 20));
}

#[test]
fn the_open_file_table_knows_who_opened_what() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/a");
    mount_mem(&vfs, "/mnt/a").unwrap();
    mkdir(&vfs, "/mnt/a/d");
    let ino = touch(&vfs, "/mnt/a/d/f");
    let file = vfs.open(&OTHER, ino, O_RDWR).unwrap();
    assert_eq!(file.path, "/mnt/a/d/f");
    assert_eq!((file.ino, file.opener, file.flags), (ino.0, OTHER, O_RDWR));
    vfs.link(&USER, ino, at(&vfs, "/mnt/a"), OsStr::new("g")).unwrap();
    assert_eq!(vfs.open(&USER, at(&vfs, "/mnt/a/g"), 0).unwrap().path, "/mnt/a/g");
    assert_eq!(vfs.open(&USER, at(&vfs, "/mnt/a/d/f"), 0).unwrap().path, "/mnt/a/d/f");
    rename(&vfs, "/mnt/a/d", "/mnt/a/e", RenameMode::Replace).unwrap();
    assert_eq!(vfs.open(&USER, at(&vfs, "/mnt/a/e/f"), 0).unwrap().path, "/mnt/a/e/f");
    assert_eq!(vfs.files.list().len(), 4);
    for file in vfs.files.list() {
        vfs.close(file.handle);
    }
    vfs.close(99);
    assert!(vfs.files.list().is_empty());
}

#[test]
fn what_cannot_be_opened_says_why() {
    let vfs = tree();
    let tmp = at(&vfs, "/tmp");
    assert_eq!(errno(vfs.open(&USER, tmp, 0)), Errno::EISDIR);
    symlink(&vfs, "/tmp/l", "x");
    assert_eq!(errno(vfs.open(&USER, at(&vfs, "/tmp/l"), 0)), Errno::ELOOP);
    let fifo = vfs.mknod(&USER, tmp, OsStr::new("p"), Make::Fifo, 0o600, 0).unwrap();
    assert_eq!(errno(vfs.open(&USER, fifo.ino, 0)), Errno::ENXIO);
    let none = mknod(&vfs, "/tmp/x", device(DeviceKind::Char, 77, 0));
    assert_eq!(errno(vfs.open(&USER, none, 0)), Errno::ENXIO);
    for ino in [Ino(0), Ino(2_000_000), Ino(1 << 50), Ino(u64::MAX)] {
        assert_eq!(errno(vfs.open(&USER, ino, 0)), Errno::ESTALE);
        assert_eq!(errno(vfs.getattr(ino)), Errno::ESTALE);
        assert_eq!(errno(vfs.lookup(&USER, ino, OsStr::new("x"))), Errno::ESTALE);
    }
}

#[test]
fn tables_that_are_full_say_so_and_leave_nothing_open() {
    let vfs = tree();
    let (tmp, ino) = (at(&vfs, "/tmp"), touch(&vfs, "/tmp/f"));
    let handles: Vec<_> = std::iter::from_fn(|| vfs.open(&USER, ino, 0).ok()).collect();
    assert_eq!(handles.len(), crate::file::OPEN_FILES_MAX);
    assert_eq!(errno(vfs.open(&USER, ino, 0)), Errno::ENFILE);
    let dirs: Vec<_> = std::iter::from_fn(|| vfs.opendir(tmp).ok()).collect();
    assert_eq!(errno(vfs.opendir(tmp)), Errno::ENFILE);
    let known = vfs.known_inodes();
    let made = vfs.create(&USER, tmp, OsStr::new("g"), 0o644, 0, O_RDWR);
    assert_eq!((errno(made), vfs.known_inodes()), (Errno::ENFILE, known));
    vfs.releasedir(dirs[0]);
    vfs.close(handles[0].handle);
    assert!(vfs.open(&USER, ino, 0).is_ok() && vfs.opendir(tmp).is_ok());
}

#[test]
fn create_makes_opens_and_refuses_as_open_2() {
    let vfs = tree();
    let (tmp, name) = (at(&vfs, "/tmp"), OsStr::new("f"));
    let (made, _) = vfs.create(&USER, tmp, name, 0o666, 0o027, O_RDWR).unwrap();
    assert_eq!((made.mode, made.uid, made.gid), (0o640, 1000, 1000));
    let (again, file) = vfs.create(&OTHER, tmp, name, 0o666, 0, O_RDWR).unwrap();
    assert_eq!((again.ino, again.mode, file.path.as_str()), (made.ino, 0o640, "/tmp/f"));
    assert_eq!(errno(vfs.create(&USER, tmp, name, 0, 0, O_RDWR | O_EXCL)), Errno::EEXIST);
    mkdir(&vfs, "/tmp/d");
    let dir = vfs.create(&USER, tmp, OsStr::new("d"), 0, 0, O_RDWR);
    assert_eq!(errno(dir), Errno::EISDIR);
    assert_eq!(vfs.files.list().len(), 2);
}

#[test]
fn a_read_only_mount_takes_nothing() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/r");
    let fs = MemFs::from_options("", (USER.uid, USER.gid)).unwrap();
    let kept: Arc<dyn FileSystem> = Arc::clone(&fs) as _;
    let new = fs::New { content: fs::Content::Regular, mode: 0o644, uid: 1, gid: 1 };
    kept.make(kept.root(), OsStr::new("f"), &new).unwrap();
    vfs.mounts().mount(fs, Path::new("/mnt/r"), "none", "mem", "ro").unwrap();
    let (dir, file) = (at(&vfs, "/mnt/r"), at(&vfs, "/mnt/r/f"));
    assert_eq!(errno(vfs.open(&USER, file, O_RDWR)), Errno::EROFS);
    assert_eq!(errno(vfs.open(&USER, file, O_TRUNC)), Errno::EROFS);
    assert!(vfs.open(&USER, file, 0).is_ok());
    assert_eq!(errno(vfs.mkdir(&USER, dir, OsStr::new("d"), 0o755, 0)), Errno::EROFS);
    assert_eq!(errno(unlink(&vfs, "/mnt/r/f")), Errno::EROFS);
    assert_eq!(errno(vfs.setattr(&USER, file, &Change::default())), Errno::EROFS);
    let set = vfs.setxattr(&USER, file, OsStr::new("user.a"), b"", XattrMode::Any);
    assert_eq!(errno(set), Errno::EROFS);
    assert_eq!(vfs.mounts().list().last().unwrap().options, "ro");
}

#[test]
fn holes_are_punched_found_and_cost_nothing() {
    let vfs = tree();
    let ino = touch(&vfs, "/tmp/f");
    let file = vfs.open(&USER, ino, O_RDWR).unwrap();
    write(&file, USER, 1 << 30, b"far").unwrap();
    let attr = vfs.getattr(ino).unwrap();
    assert_eq!((attr.size, attr.blocks), ((1 << 30) + 3, 8));
    let seek = |at, which| match file.ops.seek(at, which)? {
        Answer::Now(found) => Ok(found),
        Answer::Later(_) | Answer::Blocked(_) => panic!("memory makes nobody wait"),
    };
    assert_eq!(seek(0, Seek::Data).unwrap(), 1 << 30);
    assert_eq!(seek(0, Seek::Hole).unwrap(), 0);
    assert_eq!(errno(seek(1 << 31, Seek::Data)), Errno::ENXIO);
    let allocate = |mode, at, len| file.ops.allocate(&call(USER), mode, at, len).map(drop);
    allocate(3, 0, u64::MAX >> 1).unwrap();
    let attr = vfs.getattr(ino).unwrap();
    assert_eq!((attr.size, attr.blocks), ((1 << 30) + 3, 0));
    allocate(0, 1 << 30, 8192).unwrap();
    let attr = vfs.getattr(ino).unwrap();
    assert_eq!((attr.size, attr.blocks), ((1 << 30) + 8192, 16));
    assert_eq!(errno(allocate(0, 0, 0)), Errno::EINVAL);
    assert_eq!(errno(allocate(2, 0, 1)), Errno::EOPNOTSUPP);
    assert_eq!(errno(allocate(8, 0, 1)), Errno::EOPNOTSUPP);
    assert_eq!(errno(allocate(0, u64::MAX, 1)), Errno::EFBIG);
}
