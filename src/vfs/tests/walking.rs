//! Paths: dots, links, mounts, permissions, and how a path becomes a device.

use super::*;

fn walk(vfs: &Vfs, path: &str) -> Result<Ino, Error> {
    vfs.walk(Path::new(path), Follow::Yes)
}

#[test]
fn dots_and_slashes_lead_where_they_should() {
    let vfs = tree();
    let dir = mkdir(&vfs, "/mnt/d");
    for path in ["/mnt/d", "/mnt/d/", "//mnt///d/.", "/mnt/x/../d", "mnt/d", "/../mnt/d"] {
        let found = walk(&vfs, path);
        match path {
            "/mnt/x/../d" => assert_eq!(errno(found), Errno::ENOENT),
            _ => assert_eq!(found.unwrap(), dir, "{path}"),
        }
    }
    touch(&vfs, "/mnt/f");
    for path in ["/mnt/f/", "/mnt/f/.", "/mnt/f/..", "/mnt/f/x"] {
        assert_eq!(errno(walk(&vfs, path)), Errno::ENOTDIR, "{path}");
    }
    assert_eq!(errno(walk(&vfs, "")), Errno::ENOENT);
    assert_eq!(errno(walk(&vfs, &"/a".repeat(2049))), Errno::ENAMETOOLONG);
    assert_eq!(errno(walk(&vfs, &format!("/{}", "a".repeat(256)))), Errno::ENAMETOOLONG);
    assert_eq!(walk(&vfs, &"/.".repeat(2048)).unwrap(), Ino::ROOT);
}

#[test]
fn a_walk_crosses_mounts_both_ways() {
    let vfs = tree();
    let below = mkdir(&vfs, "/mnt/a");
    mount_mem(&vfs, "/mnt/a").unwrap();
    mkdir(&vfs, "/mnt/a/b");
    mount_mem(&vfs, "/mnt/a/b").unwrap();
    touch(&vfs, "/mnt/a/b/f");
    assert_ne!(at(&vfs, "/mnt/a"), below);
    assert_eq!(at(&vfs, "/mnt/a/b/../../a/b/f"), at(&vfs, "/mnt/a/b/f"));
    let up = |ino| vfs.lookup(&USER, ino, OsStr::new("..")).unwrap().ino;
    assert_eq!(up(at(&vfs, "/mnt/a/b")), at(&vfs, "/mnt/a"));
    assert_eq!(up(at(&vfs, "/mnt/a")), at(&vfs, "/mnt"));
    assert_eq!(up(Ino::ROOT), Ino::ROOT);
}

#[test]
fn links_are_followed_across_mounts() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/a");
    mount_mem(&vfs, "/mnt/a").unwrap();
    let file = touch(&vfs, "/tmp/f");
    symlink(&vfs, "/mnt/a/up", "../../tmp");
    symlink(&vfs, "/mnt/a/there", "/mnt/a/up/f");
    assert_eq!(walk(&vfs, "/mnt/a/there").unwrap(), file);
    assert_eq!(walk(&vfs, "/mnt/a/up/f").unwrap(), file);
    assert_ne!(at(&vfs, "/mnt/a/there"), file, "the last is not followed unless asked");
    symlink(&vfs, "/tmp/slash", "/mnt/");
    let slash = vfs.walk(Path::new("/tmp/slash/"), Follow::No).unwrap();
    assert_eq!(slash, at(&vfs, "/mnt"), "with a slash behind it is");
}

#[test]
fn loops_of_links_end_also_across_mounts() {
    let vfs = tree();
    mkdir(&vfs, "/mnt/a");
    mount_mem(&vfs, "/mnt/a").unwrap();
    symlink(&vfs, "/tmp/here", "/mnt/a/there");
    symlink(&vfs, "/mnt/a/there", "../../tmp/here");
    symlink(&vfs, "/tmp/self", "self");
    for path in ["/tmp/here", "/tmp/self", "/mnt/a/there/x"] {
        assert_eq!(errno(walk(&vfs, path)), Errno::ELOOP, "{path}");
    }
    touch(&vfs, "/tmp/l0");
    for number in 1..=41 {
        symlink(&vfs, &format!("/tmp/l{number}"), &format!("l{}", number - 1));
    }
    assert!(walk(&vfs, "/tmp/l40").is_ok());
    assert_eq!(errno(walk(&vfs, "/tmp/l41")), Errno::ELOOP);
}

#[test]
fn a_walk_on_behalf_of_somebody_searches_only_what_he_may() {
    let vfs = tree();
    let dir = mkdir(&vfs, "/tmp/d");
    touch(&vfs, "/tmp/d/f");
    let path = Path::new("/tmp/d/f");
    let as_who = |who: &Caller| vfs.walk_as(who, path, Follow::Yes);
    as_who(&OTHER).unwrap();
    let set = |mode| {
        vfs.setattr(&USER, dir, &Change { mode: Some(mode), ..Change::default() }).unwrap();
    };
    set(0o700);
    assert_eq!(errno(as_who(&OTHER)), Errno::EACCES);
    as_who(&USER).unwrap();
    set(0o007);
    assert_eq!(errno(as_who(&USER)), Errno::EACCES, "the owner's bits count, not the rest's");
    as_who(&OTHER).unwrap();
    as_who(&ROOT_USER).unwrap();
}

#[test]
fn permission_bits_say_who_may_what() {
    let vfs = tree();
    let ino = touch(&vfs, "/tmp/f");
    let set = |mode| {
        vfs.setattr(&USER, ino, &Change { mode: Some(mode), ..Change::default() }).unwrap();
    };
    set(0o640);
    let group = Caller { pid: 0, uid: 5, gid: USER.gid };
    let may = |who: &Caller, access| vfs.check(who, ino, access).is_ok();
    assert!(may(&USER, Access::Write) && !may(&USER, Access::Execute));
    assert!(may(&group, Access::Read) && !may(&group, Access::Write));
    assert!(!may(&OTHER, Access::Read));
    assert!(may(&ROOT_USER, Access::Write) && !may(&ROOT_USER, Access::Execute));
    set(0o001);
    assert!(may(&ROOT_USER, Access::Execute));
}

#[test]
fn walks_leave_no_references_behind() {
    let vfs = tree();
    mkdir(&vfs, "/tmp/d");
    symlink(&vfs, "/tmp/l", "d/f");
    let file = touch(&vfs, "/tmp/d/f");
    let known = vfs.known_inodes();
    walk(&vfs, "/tmp/l").unwrap();
    walk(&vfs, "/tmp/l/x").unwrap_err();
    vfs.resolve(Path::new("/tmp/d/f")).unwrap();
    vfs.walk_as(&USER, Path::new("/tmp/l"), Follow::Yes).unwrap();
    assert_eq!(vfs.known_inodes(), known);
    unlink(&vfs, "/tmp/d/f").unwrap();
    assert_eq!(errno(vfs.getattr(file)), Errno::ESTALE, "nobody holds it");
}

#[test]
fn a_path_resolves_to_prefix_device_inode_and_numbers() {
    let vfs = tree();
    vfs.install_node("sd0", SD0, 0o660, 0, 0).unwrap();
    mkdir(&vfs, "/mnt/a");
    let fs = memfs::MemFs::from_options("", (0, 0)).unwrap();
    vfs.mounts().mount(fs, Path::new("/mnt/a"), "/dev/sd0", "mem", "").unwrap();
    mkdir(&vfs, "/mnt/a/b");
    mount_mem(&vfs, "/mnt/a/b").unwrap();
    let node = at(&vfs, "/dev/sd0");
    let resolve = |path: &str| vfs.resolve(Path::new(path)).unwrap();

    let file = resolve("/mnt/a/nothing/../f");
    assert_eq!(file.path, Path::new("/mnt/a/f"));
    assert_eq!((file.prefix.as_path(), file.device.as_str()), (Path::new("/mnt/a"), "/dev/sd0"));
    assert_eq!((file.inode, file.special), (None, Some((node, SD0))));

    let disk = resolve("/mnt/../dev/sd0");
    assert_eq!((disk.prefix.as_path(), disk.device.as_str()), (Path::new("/dev"), "/dev/sd0"));
    assert_eq!(disk.inode, Some((node, FileKind::Device(SD0))));
    assert_eq!(disk.special, Some((node, SD0)));

    assert_eq!(resolve("/mnt/a/b/f").prefix, Path::new("/mnt/a/b"));
    let beside = resolve("/mnt/a/bc");
    assert_eq!((beside.prefix.as_path(), beside.kind.as_str()), (Path::new("/mnt/a"), "mem"));
    let root = resolve("/");
    assert_eq!((root.prefix.as_path(), root.special), (Path::new("/"), None));
}
