//! Listings, while names come and go.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// What a listing gives in steps of `step` entries, with something done between the steps.
fn in_steps(vfs: &Vfs, path: &str, step: usize, mut between: impl FnMut()) -> Vec<DirEntry> {
    let ino = at(vfs, path);
    let handle = vfs.opendir(ino).unwrap();
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let (before, from) = (all.len(), offset);
        let mut take = |entry: DirEntry| {
            if all.len() == before + step {
                return true;
            }
            offset = entry.next;
            all.push(entry);
            false
        };
        vfs.readdir(ino, handle, from, &mut take).unwrap();
        if all.len() == before {
            vfs.releasedir(handle);
            return all;
        }
        between();
    }
}

#[test]
fn a_listing_in_steps_is_the_whole_listing() {
    let vfs = tree();
    for number in 0..150 {
        touch(&vfs, &format!("/tmp/{number}"));
    }
    for step in [1, 2, 3, 63, 64, 65, 1000] {
        let listed = in_steps(&vfs, "/tmp", step, || {});
        assert_eq!(listed.len(), 152, "step {step}");
        assert!(listed[0].name == "." && listed[1].name == "..");
    }
}

#[test]
fn dots_and_mount_points_show_what_a_lookup_finds() {
    let vfs = tree();
    let listed = in_steps(&vfs, "/", 9, || {});
    for entry in listed {
        let name = entry.name.to_str().unwrap();
        let path = if name == ".." { "/".into() } else { format!("/{name}") };
        assert_eq!(entry.ino, at(&vfs, &path), "{name}");
        assert_eq!(entry.kind, FileKind::Directory);
    }
    let tmp = in_steps(&vfs, "/tmp", 9, || {});
    assert_eq!((tmp[0].ino, tmp[1].ino), (at(&vfs, "/tmp"), Ino::ROOT));
}

#[test]
fn a_directory_removed_while_listed_is_empty() {
    let vfs = tree();
    let ino = mkdir(&vfs, "/tmp/d");
    let handle = vfs.opendir(ino).unwrap();
    rmdir(&vfs, "/tmp/d").unwrap();
    let mut count = 0;
    let mut take = |_| {
        count += 1;
        false
    };
    vfs.readdir(ino, handle, 0, &mut take).unwrap();
    assert_eq!(count, 0);
    vfs.releasedir(handle);
    assert_eq!(errno(vfs.getattr(ino)), Errno::ESTALE);
}

#[test]
fn a_handle_is_good_for_its_directory_until_released() {
    let vfs = tree();
    let (tmp, mnt) = (at(&vfs, "/tmp"), at(&vfs, "/mnt"));
    let handle = vfs.opendir(tmp).unwrap();
    assert_eq!(errno(vfs.readdir(mnt, handle, 0, &mut |_| false)), Errno::EBADF);
    vfs.releasedir(handle);
    vfs.releasedir(handle);
    assert_eq!(errno(vfs.readdir(tmp, handle, 0, &mut |_| false)), Errno::EBADF);
    assert_eq!(errno(vfs.opendir(touch(&vfs, "/tmp/f"))), Errno::ENOTDIR);
    let handle = vfs.opendir(tmp).unwrap();
    vfs.readdir(tmp, handle, u64::MAX, &mut |_| panic!("nothing is behind the end")).unwrap();
}

/// Something done to a directory of the names `a0`..`a9` (that stay) and `0`..`9` (that do not).
#[derive(Clone, Debug)]
enum Deed {
    Make(u8),
    Remove(u8),
    Rename(u8, u8),
    /// A name that stays is given to another inode.
    Replace(u8, u8),
    Exchange(u8, u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    let name = 0..10_u8;
    prop_oneof![
        name.clone().prop_map(Deed::Make),
        name.clone().prop_map(Deed::Remove),
        (name.clone(), name.clone()).prop_map(|(a, b)| Deed::Rename(a, b)),
        (name.clone(), name.clone()).prop_map(|(a, b)| Deed::Replace(a, b)),
        (name.clone(), name).prop_map(|(a, b)| Deed::Exchange(a, b)),
    ]
}

fn perform(vfs: &Vfs, deed: &Deed) {
    let (come, stay) = (|n: &u8| format!("/tmp/{n}"), |n: &u8| format!("/tmp/a{n}"));
    // What fails (the name is not there, or is already) changes nothing.
    match deed {
        Deed::Make(n) if !exists(vfs, &come(n)) => drop(touch(vfs, &come(n))),
        Deed::Make(_) => {}
        Deed::Remove(n) => drop(unlink(vfs, &come(n))),
        Deed::Rename(a, b) => drop(rename(vfs, &come(a), &come(b), RenameMode::Replace)),
        Deed::Replace(a, b) => drop(rename(vfs, &come(a), &stay(b), RenameMode::Replace)),
        Deed::Exchange(a, b) => drop(rename(vfs, &stay(a), &stay(b), RenameMode::Exchange)),
    }
}

proptest! {
    #[test]
    fn names_that_stay_are_listed_exactly_once(
        deeds in prop::collection::vec(prop::collection::vec(deed(), 0..4), 1..30),
        step in 1..5_usize,
    ) {
        let vfs = tree();
        for n in 0..10 {
            touch(&vfs, &format!("/tmp/a{n}"));
            touch(&vfs, &format!("/tmp/{n}"));
        }
        let mut left = deeds.iter();
        let listed = in_steps(&vfs, "/tmp", step, || {
            for deed in left.next().into_iter().flatten() {
                perform(&vfs, deed);
            }
        });
        let staying: Vec<_> = listed.iter().filter(|entry| {
            entry.name.to_str().is_some_and(|name| name.starts_with('a'))
        }).collect();
        let names: BTreeSet<_> = staying.iter().map(|entry| entry.name.clone()).collect();
        prop_assert_eq!(names.len(), 10);
        prop_assert_eq!(staying.len(), 10);
        let dots = listed.iter().filter(|e| e.name == "." || e.name == "..").count();
        prop_assert_eq!(dots, 2);
    }
}

#[test]
fn names_that_stay_are_listed_while_threads_make_and_remove_others() {
    let vfs = tree();
    for n in 0..50 {
        touch(&vfs, &format!("/tmp/a{n}"));
    }
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (vfs, is_over) = (&vfs, &is_over);
            scope.spawn(move || {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    touch(vfs, &format!("/tmp/{thread}"));
                    unlink(vfs, &format!("/tmp/{thread}")).unwrap();
                }
            });
        }
        for step in 1..40 {
            let listed = in_steps(&vfs, "/tmp", step, || {});
            let staying = listed.iter().filter(|e| e.name.to_str().unwrap().starts_with('a'));
            let names: Vec<_> = staying.map(|entry| entry.name.clone()).collect();
            assert_eq!(names.len(), 50);
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 50);
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
