//! Mounting and unmounting at run time.

use super::*;

fn prefixes(vfs: &Vfs) -> Vec<String> {
    vfs.mounts().list().iter().map(|line| line.prefix.display().to_string()).collect()
}

#[test]
fn the_machine_comes_with_its_own_mounts() {
    let vfs = tree();
    assert_eq!(prefixes(&vfs), ["/", "/dev", "/nodes", "/proc", "/tmp"]);
    assert_eq!(names(&vfs, "/"), ["dev", "nodes", "proc", "tmp", "mnt", "spool"]);
    assert_eq!(vfs.getattr(at(&vfs, "/tmp")).unwrap().mode, 0o1777);
    assert_eq!(at(&vfs, "/"), Ino::ROOT);
    for own in ["/", "/dev", "/proc", "/tmp"] {
        assert_eq!(errno(umount(&vfs, own)), Errno::EBUSY, "{own}");
    }
}

#[test]
fn what_a_mount_hides_is_back_after_it() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/a");
    let hidden = touch(&vfs, "/mnt/a/hidden");
    mount_mem(&vfs, "/mnt/a").unwrap();
    assert!(names(&vfs, "/mnt/a").is_empty());
    let file = touch(&vfs, "/mnt/a/f");
    assert_eq!(prefixes(&vfs).last().unwrap(), "/mnt/a");
    umount(&vfs, "/mnt/a").unwrap();
    assert_eq!(at(&vfs, "/mnt/a/hidden"), hidden);
    assert_eq!(errno(vfs.getattr(file)), Errno::ESTALE, "its file system is gone");
    assert!(!exists(&vfs, "/mnt/a/f"));
    assert_eq!(errno(umount(&vfs, "/mnt/a")), Errno::EINVAL);
}

#[test]
fn a_file_system_mounted_again_has_its_files() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/a");
    let fs: Arc<dyn FileSystem> = memfs::MemFs::from_options("", (0, 0)).unwrap();
    let mount = || vfs.mounts().mount(Arc::clone(&fs), Path::new("/mnt/a"), "none", "mem", "");
    mount().unwrap();
    let file = touch(&vfs, "/mnt/a/f");
    umount(&vfs, "/mnt/a").unwrap();
    mount().unwrap();
    assert_ne!(at(&vfs, "/mnt/a/f"), file, "another mount, another number");
}

#[test]
fn a_mount_needs_a_free_directory_and_a_free_device() {
    let vfs = tree();
    vfs.install_node("sd0", SD0, 0o660, 0, 0).unwrap();
    mknod(&vfs, "/tmp/alias", SD0);
    touch(&vfs, "/mnt/f");
    mkdir(&vfs, "/mnt/a");
    mkdir(&vfs, "/mnt/b");
    assert_eq!(errno(mount_mem(&vfs, "/mnt/f")), Errno::ENOTDIR);
    assert_eq!(errno(mount_mem(&vfs, "/mnt/x")), Errno::ENOENT);
    assert_eq!(errno(mount_mem(&vfs, "/")), Errno::EBUSY);
    assert_eq!(errno(mount_mem(&vfs, "/proc")), Errno::EBUSY);
    let mount = |path: &str, device: &str| {
        let fs = memfs::MemFs::from_options("", (0, 0)).unwrap();
        vfs.mounts().mount(fs, Path::new(path), device, "mem", "")
    };
    mount("/mnt/a", "/dev/sd0").unwrap();
    assert_eq!(errno(mount("/mnt/a", "none")), Errno::EBUSY);
    assert_eq!(errno(mount("/mnt/b", "/dev/sd0")), Errno::EBUSY);
    assert_eq!(errno(mount("/mnt/b", "/tmp/alias")), Errno::EBUSY, "the same by another name");
    assert_eq!(vfs.mounts().of_device(SD0).unwrap(), Path::new("/mnt/a"));
    rename(&vfs, "/mnt/b", "/mnt/c", RenameMode::Replace).unwrap();
    mount("/mnt/c", "none").unwrap();
    assert_eq!(prefixes(&vfs).len(), 7);
}

#[test]
fn a_mount_point_and_what_is_above_it_stay_where_they_are() {
    let vfs = tree();
    for dir in ["/mnt/a", "/mnt/a/b", "/mnt/a/b/c", "/mnt/x"] {
        mkdir(&vfs, dir);
    }
    mount_mem(&vfs, "/mnt/a/b/c").unwrap();
    let all = [RenameMode::Replace, RenameMode::NoReplace];
    for (path, mode) in ["/mnt/a", "/mnt/a/b", "/mnt/a/b/c"].into_iter().zip(all.iter().cycle()) {
        assert_eq!(errno(rename(&vfs, path, "/mnt/new", *mode)), Errno::EBUSY, "{path}");
        assert_eq!(errno(rename(&vfs, "/mnt/x", path, RenameMode::Exchange)), Errno::EBUSY);
        assert_eq!(errno(rename(&vfs, "/mnt/x", path, RenameMode::Replace)), Errno::EBUSY);
        assert_eq!(errno(rmdir(&vfs, path)), Errno::EBUSY, "{path}");
    }
    umount(&vfs, "/mnt/a/b/c").unwrap();
    rename(&vfs, "/mnt/a", "/mnt/new", RenameMode::Replace).unwrap();
    rmdir(&vfs, "/mnt/new/b/c").unwrap();
}

#[test]
fn a_mount_with_a_mount_inside_is_busy() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/a");
    mount_mem(&vfs, "/mnt/a").unwrap();
    mkdir(&vfs, "/mnt/a/b");
    mount_mem(&vfs, "/mnt/a/b").unwrap();
    let refusal = umount(&vfs, "/mnt/a").unwrap_err();
    assert_eq!(refusal.errno, Errno::EBUSY);
    assert!(refusal.what.contains("/mnt/a/b"), "{refusal}");
    umount(&vfs, "/mnt/a/b").unwrap();
    umount(&vfs, "/mnt/a").unwrap();
}

#[test]
fn an_open_file_keeps_its_mount() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/a");
    mount_mem(&vfs, "/mnt/a").unwrap();
    let file = vfs.open(&USER, touch(&vfs, "/mnt/a/f"), O_RDWR).unwrap();
    let refusal = umount(&vfs, "/mnt/a").unwrap_err();
    assert_eq!(refusal.errno, Errno::EBUSY);
    assert!(refusal.what.contains("process 2 has /mnt/a/f open"), "{refusal}");
    vfs.close(file.handle);
    let dir = vfs.opendir(at(&vfs, "/mnt/a")).unwrap();
    assert_eq!(errno(umount(&vfs, "/mnt/a")), Errno::EBUSY);
    vfs.releasedir(dir);
    umount(&vfs, "/mnt/a").unwrap();
}

#[test]
fn a_close_under_way_is_waited_for() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/a");
    mount_mem(&vfs, "/mnt/a").unwrap();
    let file = vfs.open(&USER, touch(&vfs, "/mnt/a/f"), O_RDWR).unwrap();
    let Ok(Answer::Later(rest)) = vfs.mounts().umount(Path::new("/mnt/a"), Unmount::Polite) else {
        panic!("it should wait");
    };
    vfs.close(file.handle);
    rest(&Interrupt::default()).unwrap();
    assert!(!prefixes(&vfs).contains(&"/mnt/a".to_owned()));
}

#[test]
fn a_waiting_unmount_can_be_called_off() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/a");
    mount_mem(&vfs, "/mnt/a").unwrap();
    let _file = vfs.open(&USER, touch(&vfs, "/mnt/a/f"), O_RDWR).unwrap();
    let Ok(Answer::Later(rest)) = vfs.mounts().umount(Path::new("/mnt/a"), Unmount::Polite) else {
        panic!("it should wait");
    };
    let interrupt = Interrupt::default();
    interrupt.raise();
    assert_eq!(errno(rest(&interrupt)), Errno::EINTR);
}

#[test]
fn by_force_a_mount_goes_and_its_open_files_go_on() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/a");
    mount_mem(&vfs, "/mnt/a").unwrap();
    let ino = touch(&vfs, "/mnt/a/f");
    let file = vfs.open(&USER, ino, O_RDWR).unwrap();
    wait(vfs.mounts().umount(Path::new("/mnt/a"), Unmount::Force).unwrap()).unwrap();
    write(&file, USER, 0, b"x").unwrap();
    assert_eq!(errno(vfs.open(&USER, ino, 0)), Errno::ESTALE);
    vfs.close(file.handle);
    mount_mem(&vfs, "/mnt/a").unwrap();
}

#[test]
fn options_of_a_memory_file_system_are_read_or_refused_in_words() {
    let fs = |options: &str| memfs::MemFs::from_options(options, (1, 2));
    let root = |options: &str| {
        let fs = fs(options).unwrap();
        fs.getattr(fs.root()).unwrap()
    };
    let attr = root("rw,mode=1777,uid=5,gid=6,size=2M");
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o1777, 5, 6));
    assert_eq!((root("").uid, root("").gid), (1, 2));
    assert_eq!(fs("size=2M").unwrap().statfs().blocks, 512);
    for wrong in ["sise=2M", "size=", "size=2X", "size=99999999T", "size=0", "mode=9", "uid=x"] {
        let refusal = fs(wrong).err().unwrap();
        assert_eq!(refusal.errno, Errno::EINVAL);
        assert!(refusal.what.contains(wrong), "{refusal}");
    }
}

#[test]
fn opens_and_unmounts_race_without_a_file_on_nothing() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/a");
    for _ in 0..200 {
        mount_mem(&vfs, "/mnt/a").unwrap();
        let ino = touch(&vfs, "/mnt/a/f");
        let opened = std::thread::scope(|scope| {
            let opener = scope.spawn(|| vfs.open(&USER, ino, 0));
            let gone = vfs.mounts().umount(Path::new("/mnt/a"), Unmount::Polite);
            let opened = opener.join().unwrap();
            match (&opened, gone) {
                (Ok(_), Ok(Answer::Now(()))) => panic!("open on what is mounted no longer"),
                (Err(refusal), Ok(Answer::Now(()))) => assert_eq!(refusal.errno, Errno::ESTALE),
                _ => {}
            }
            opened
        });
        if let Ok(file) = opened {
            vfs.close(file.handle);
        }
        if prefixes(&vfs).len() == 6 {
            umount(&vfs, "/mnt/a").unwrap();
        }
    }
}

/// The time in which `count` mounts answer some thousand questions for the longest prefix.
#[allow(clippy::disallowed_methods)] // measures the host's own time
fn lookup_time(count: usize) -> std::time::Duration {
    let mut all = crate::vfs::mounts::Prefixes::new();
    for number in 0..count {
        all.insert(Path::new(&format!("/mnt/m{number:05}")), number);
    }
    let paths: Vec<_> = (0..10).map(|n| format!("/mnt/m{:05}/dir/file", n * count / 10)).collect();
    let mut best = std::time::Duration::MAX;
    for _ in 0..50 {
        let begin = std::time::Instant::now();
        for _ in 0..200 {
            for path in &paths {
                std::hint::black_box(all.longest(std::hint::black_box(Path::new(path))));
            }
        }
        best = best.min(begin.elapsed());
    }
    best
}

#[test]
#[ignore = "measures time: run alone, with --release"]
fn a_lookup_costs_the_same_among_10_and_10000_mounts() {
    let (few, many) = (lookup_time(10), lookup_time(10_000));
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    println!("10 mounts: {few:?}, 10000 mounts: {many:?}, ratio {ratio:.2}");
    assert!(ratio <= 1.2, "{ratio}");
}
