//! Random operations on a memory file system, against a model that is plainly right.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A path in a tree of a few names, as a list of them.
type Way = Vec<u8>;

#[derive(Clone, Debug)]
enum Step {
    Mkdir(Way),
    Touch(Way),
    Write(Way, u16, u16, u8),
    Truncate(Way, u16),
    Unlink(Way),
    Rmdir(Way),
    Rename(Way, Way, u8),
    Link(Way, Way),
}

/// What the model knows: directories and files by path; files by number, so that links share one.
#[derive(Default)]
struct Model {
    names: BTreeMap<Way, Option<usize>>,
    files: Vec<Vec<u8>>,
}

fn way() -> impl Strategy<Value = Way> {
    prop::collection::vec(0..3_u8, 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0..9000_u16;
    prop_oneof![
        4 => way().prop_map(Step::Mkdir),
        4 => way().prop_map(Step::Touch),
        3 => (way(), place.clone(), 0..5000_u16, any::<u8>())
            .prop_map(|(way, at, len, byte)| Step::Write(way, at, len, byte)),
        1 => (way(), place).prop_map(|(way, len)| Step::Truncate(way, len)),
        1 => way().prop_map(Step::Unlink),
        1 => way().prop_map(Step::Rmdir),
        3 => (way(), way(), 0..3_u8).prop_map(|(a, b, mode)| Step::Rename(a, b, mode)),
        2 => (way(), way()).prop_map(|(a, b)| Step::Link(a, b)),
    ]
}

fn is_beneath(way: &[u8], above: &[u8]) -> bool {
    way.len() > above.len() && way.starts_with(above)
}

impl Model {
    /// `Some(None)` is a directory, `Some(Some(file))` a file.
    fn get(&self, way: &[u8]) -> Option<Option<usize>> {
        if way.is_empty() { Some(None) } else { self.names.get(way).copied() }
    }

    /// The directory of a path: `ENOENT`, `ENOTDIR` at the first name that is not there or is none.
    fn check_dir(&self, way: &[u8]) -> Result<(), Errno> {
        for end in 1..way.len() {
            match self.get(&way[..end]) {
                None => return Err(Errno::ENOENT),
                Some(Some(_)) => return Err(Errno::ENOTDIR),
                Some(None) => {}
            }
        }
        Ok(())
    }

    fn file(&self, way: &[u8]) -> Result<usize, Errno> {
        self.check_dir(way)?;
        self.get(way).ok_or(Errno::ENOENT)?.ok_or(Errno::EISDIR)
    }

    fn add(&mut self, way: &[u8], what: Option<usize>) -> Result<(), Errno> {
        self.check_dir(way)?;
        if self.get(way).is_some() {
            return Err(Errno::EEXIST);
        }
        self.names.insert(way.to_vec(), what);
        Ok(())
    }

    fn is_empty(&self, dir: &[u8]) -> bool {
        !self.names.keys().any(|way| is_beneath(way, dir))
    }

    /// Takes a path with all beneath out, relative to it.
    fn cut(&mut self, root: &[u8]) -> BTreeMap<Way, Option<usize>> {
        let moved = self.names.iter().filter(|(way, _)| way.starts_with(root));
        let moved: BTreeMap<Way, _> =
            moved.map(|(way, what)| (way[root.len()..].to_vec(), *what)).collect();
        self.names.retain(|way, _| !way.starts_with(root));
        moved
    }

    fn paste(&mut self, root: &[u8], moved: BTreeMap<Way, Option<usize>>) {
        self.names.extend(moved.into_iter().map(|(way, what)| ([root, &way].concat(), what)));
    }

    fn rename(&mut self, from: &Way, to: &Way, mode: RenameMode) -> Result<(), Errno> {
        self.check_dir(from)?;
        self.check_dir(to)?;
        let moved = self.get(from).ok_or(Errno::ENOENT)?;
        let target = self.get(to);
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Errno::EEXIST),
            (RenameMode::Exchange, None) => return Err(Errno::ENOENT),
            _ => {}
        }
        if from == to || (moved.is_some() && target == Some(moved)) {
            return Ok(());
        }
        if is_beneath(to, from) || (mode == RenameMode::Exchange && is_beneath(from, to)) {
            return Err(Errno::EINVAL);
        }
        if mode == RenameMode::Exchange {
            let (there, back) = (self.cut(from), self.cut(to));
            self.paste(to, there);
            self.paste(from, back);
            return Ok(());
        }
        match (moved, target) {
            (None, Some(Some(_))) => return Err(Errno::ENOTDIR),
            (Some(_), Some(None)) => return Err(Errno::EISDIR),
            (None, Some(None)) if !self.is_empty(to) => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        let moved = self.cut(from);
        self.names.remove(to);
        self.paste(to, moved);
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> Result<(), Errno> {
        match step {
            Step::Mkdir(way) => self.add(way, None),
            Step::Touch(way) => {
                self.add(way, Some(self.files.len()))?;
                self.files.push(Vec::new());
                Ok(())
            }
            Step::Write(way, at, len, byte) => {
                let file = self.file(way)?;
                let (at, end) = (usize::from(*at), usize::from(*at) + usize::from(*len));
                let bytes = &mut self.files[file];
                if *len > 0 {
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[at..end].fill(*byte);
                }
                Ok(())
            }
            Step::Truncate(way, len) => {
                let file = self.file(way)?;
                self.files[file].resize(usize::from(*len), 0);
                Ok(())
            }
            Step::Unlink(way) => {
                self.file(way)?;
                self.names.remove(way);
                Ok(())
            }
            Step::Rmdir(way) => {
                self.check_dir(way)?;
                match self.get(way).ok_or(Errno::ENOENT)? {
                    Some(_) => Err(Errno::ENOTDIR),
                    None if !self.is_empty(way) => Err(Errno::ENOTEMPTY),
                    None => {
                        self.names.remove(way);
                        Ok(())
                    }
                }
            }
            Step::Rename(from, to, mode) => self.rename(from, to, rename_mode(*mode)),
            Step::Link(old, new) => {
                self.check_dir(old)?;
                self.check_dir(new)?;
                match self.get(old).ok_or(Errno::ENOENT)? {
                    None => Err(Errno::EPERM),
                    file => self.add(new, file),
                }
            }
        }
    }
}

fn rename_mode(number: u8) -> RenameMode {
    [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange][usize::from(number)]
}

fn path(way: &[u8]) -> String {
    let names: Vec<_> = way.iter().map(u8::to_string).collect();
    format!("/tmp/{}", names.join("/"))
}

fn dir_and_name(vfs: &Vfs, way: &[u8]) -> Result<(Ino, String), Error> {
    let (name, dir) = way.split_last().unwrap();
    // With a slash behind it, it has to be a directory.
    let dir = vfs.walk(Path::new(&(path(dir) + "/")), Follow::No)?;
    Ok((dir, name.to_string()))
}

/// The same, done to the tree; the errno if it fails.
fn perform(vfs: &Vfs, step: &Step) -> Result<(), Error> {
    let find = |way: &[u8]| vfs.walk(Path::new(&path(way)), Follow::No);
    match step {
        Step::Mkdir(way) => {
            let (dir, name) = dir_and_name(vfs, way)?;
            let made = vfs.mkdir(&USER, dir, OsStr::new(&name), 0o755, 0)?;
            vfs.forget(made.ino, 1);
        }
        Step::Touch(way) => {
            let (dir, name) = dir_and_name(vfs, way)?;
            let made = vfs.mknod(&USER, dir, OsStr::new(&name), Make::Regular, 0o644, 0)?;
            vfs.forget(made.ino, 1);
        }
        Step::Write(way, at, len, byte) => {
            let file = vfs.open(&USER, find(way)?, O_RDWR)?;
            let data = vec![*byte; usize::from(*len)];
            assert_eq!(write(&file, USER, u64::from(*at), &data)?, data.len());
            vfs.close(file.handle);
        }
        Step::Truncate(way, len) => {
            let cut = Change { size: Some(u64::from(*len)), ..Change::default() };
            vfs.setattr(&USER, find(way)?, &cut)?;
        }
        Step::Unlink(way) => {
            let (dir, name) = dir_and_name(vfs, way)?;
            vfs.unlink(&USER, dir, OsStr::new(&name))?;
        }
        Step::Rmdir(way) => {
            let (dir, name) = dir_and_name(vfs, way)?;
            vfs.rmdir(&USER, dir, OsStr::new(&name))?;
        }
        Step::Rename(from, to, mode) => {
            let (dir, name) = dir_and_name(vfs, from)?;
            let (to_dir, to) = dir_and_name(vfs, to)?;
            let mode = rename_mode(*mode);
            vfs.rename(&USER, dir, OsStr::new(&name), to_dir, OsStr::new(&to), mode)?;
        }
        Step::Link(old, new) => {
            dir_and_name(vfs, old)?;
            let (to_dir, name) = dir_and_name(vfs, new)?;
            let made = vfs.link(&USER, find(old)?, to_dir, OsStr::new(&name))?;
            vfs.forget(made.ino, 1);
        }
    }
    Ok(())
}

/// Compares the whole tree with the model: names, kinds, links, bytes.
fn compare(vfs: &Vfs, model: &Model) -> Result<(), TestCaseError> {
    let mut dirs: Vec<Way> = vec![Vec::new()];
    dirs.extend(model.names.iter().filter(|(_, what)| what.is_none()).map(|(way, _)| way.clone()));
    for dir in dirs {
        let mut listed = names(vfs, &path(&dir));
        listed.sort();
        let children =
            model.names.keys().filter(|way| is_beneath(way, &dir) && way.len() == dir.len() + 1);
        let expected: Vec<_> = children.clone().map(|way| way[dir.len()].to_string()).collect();
        prop_assert_eq!(listed, expected);
        let subdirs = children.filter(|way| model.names[*way].is_none()).count();
        let attr = vfs.getattr(at(vfs, &path(&dir))).unwrap();
        prop_assert_eq!(attr.nlink as usize, 2 + subdirs);
    }
    for (way, file) in model.names.iter().filter_map(|(way, what)| Some((way, (*what)?))) {
        let ino = at(vfs, &path(way));
        let links = model.names.values().filter(|what| **what == Some(file)).count();
        let attr = vfs.getattr(ino).unwrap();
        prop_assert_eq!(attr.nlink as usize, links);
        prop_assert_eq!(attr.size, model.files[file].len() as u64);
        let open = vfs.open(&USER, ino, 0).unwrap();
        prop_assert_eq!(&read(&open, USER, 0, 1 << 16), &model.files[file]);
        prop_assert!(exists(vfs, &open.path), "{}", open.path);
        vfs.close(open.handle);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_memory_file_system_behaves_like_its_model(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let vfs = tree();
        let empty = vfs.statfs(at(&vfs, "/tmp")).unwrap();
        let mut model = Model::default();
        for step in &steps {
            let outcome = perform(&vfs, step).map_err(|refusal| refusal.errno);
            prop_assert_eq!(outcome, model.perform(step), "{:?}", step);
        }
        compare(&vfs, &model)?;
        for way in model.names.keys().rev() {
            let gone = unlink(&vfs, &path(way)).or_else(|_| rmdir(&vfs, &path(way)));
            prop_assert!(gone.is_ok());
        }
        prop_assert_eq!(vfs.statfs(at(&vfs, "/tmp")).unwrap(), empty);
    }
}
