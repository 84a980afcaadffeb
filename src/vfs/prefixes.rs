//! Values by path, of which the one with the longest prefix of a path is found.
//!
//! 1. Prefixes go by whole components: `/mnt/a` is no prefix of `/mnt/ab`.
//! 2. Finding one costs a step per component of the path, however many there are. One table holds
//!    every (node, name) -> node, small and in one piece, so that it hardly misses the processor's
//!    caches more often when it is full.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

const ROOT: u32 = 0;
/// Names of so many bytes are kept in the table itself.
const SHORT_BYTES: usize = 15;

#[derive(Clone, PartialEq, Eq)]
enum Name {
    Short(u8, [u8; SHORT_BYTES]),
    Long(Box<[u8]>),
}

impl Name {
    fn of(name: &OsStr) -> Name {
        let bytes = name.as_bytes();
        match u8::try_from(bytes.len()) {
            Ok(len) if bytes.len() <= SHORT_BYTES => {
                let mut short = [0; SHORT_BYTES];
                short[..bytes.len()].copy_from_slice(bytes);
                Name::Short(len, short)
            }
            _ => Name::Long(bytes.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Name::Short(len, bytes) => &bytes[..usize::from(*len)],
            Name::Long(bytes) => bytes,
        }
    }
}

/// A name below a node.
#[derive(Clone, PartialEq, Eq)]
struct Step(u32, Name);

impl Hash for Step {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.1.bytes());
        state.write_u32(self.0);
    }
}

struct Node<T> {
    value: Option<T>,
    /// How many steps lead on from here.
    steps: u32,
}

/// See the head of this file.
pub(super) struct Prefixes<T> {
    below: HashMap<Step, u32>,
    nodes: Vec<Node<T>>,
    /// Nodes to be used again.
    free: Vec<u32>,
}

/// The names in a path.
fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

impl<T> Prefixes<T> {
    pub(super) fn new() -> Prefixes<T> {
        let root = Node { value: None, steps: 0 };
        Prefixes { below: HashMap::new(), nodes: vec![root], free: Vec::new() }
    }

    fn node(&self, node: u32) -> &Node<T> {
        &self.nodes[node as usize]
    }

    fn node_mut(&mut self, node: u32) -> &mut Node<T> {
        &mut self.nodes[node as usize]
    }

    /// A node that nothing leads to yet.
    fn new_node(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let node = u32::try_from(self.nodes.len()).expect("mounts are fewer than 2^22");
            self.nodes.push(Node { value: None, steps: 0 });
            node
        })
    }

    /// Puts a value at a path; what was there is returned.
    pub(super) fn insert(&mut self, path: &Path, value: T) -> Option<T> {
        let mut at = ROOT;
        for name in names(path) {
            let step = Step(at, Name::of(name));
            at = match self.below.get(&step) {
                Some(next) => *next,
                None => {
                    let next = self.new_node();
                    self.node_mut(at).steps += 1;
                    self.below.insert(step, next);
                    next
                }
            };
        }
        self.node_mut(at).value.replace(value)
    }

    /// Takes the value at just this path away, and what only led to it.
    pub(super) fn remove(&mut self, path: &Path) -> Option<T> {
        let mut way = Vec::new();
        let mut at = ROOT;
        for name in names(path) {
            let step = Step(at, Name::of(name));
            at = *self.below.get(&step)?;
            way.push((step, at));
        }
        let taken = self.node_mut(at).value.take();
        while let Some((step, node)) = way.pop() {
            if self.node(node).value.is_some() || self.node(node).steps > 0 {
                break;
            }
            self.below.remove(&step);
            self.free.push(node);
            self.node_mut(step.0).steps -= 1;
        }
        taken
    }

    /// The value of the longest prefix of a path that has one.
    pub(super) fn longest(&self, path: &Path) -> Option<&T> {
        let mut at = self.node(ROOT);
        let mut found = at.value.as_ref();
        let mut node = ROOT;
        for name in names(path) {
            if at.steps == 0 {
                break;
            }
            let Some(next) = self.below.get(&Step(node, Name::of(name))) else { break };
            node = *next;
            at = self.node(node);
            found = at.value.as_ref().or(found);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;

    fn prefixes(paths: &[&str]) -> Prefixes<String> {
        let mut all = Prefixes::new();
        for path in paths {
            all.insert(Path::new(path), (*path).to_owned());
        }
        all
    }

    fn longest<'a>(all: &'a Prefixes<String>, path: &str) -> Option<&'a str> {
        all.longest(Path::new(path)).map(String::as_str)
    }

    #[test]
    fn the_longest_prefix_wins_by_whole_components() {
        let all = prefixes(&["/", "/mnt/a", "/mnt/a/b"]);
        for (path, prefix) in [
            ("/mnt/a/b/f", "/mnt/a/b"),
            ("/mnt/a/b", "/mnt/a/b"),
            ("/mnt/a/bc", "/mnt/a"),
            ("/mnt/ab", "/"),
            ("/mnt", "/"),
            ("/", "/"),
        ] {
            assert_eq!(longest(&all, path), Some(prefix), "{path}");
        }
    }

    #[test]
    fn a_prefix_that_was_removed_leaves_its_neighbours_and_nothing_else() {
        let mut all = prefixes(&["/a/b/c", "/a"]);
        assert_eq!(all.remove(Path::new("/a/b")), None);
        assert_eq!(all.remove(Path::new("/a/b/c")).as_deref(), Some("/a/b/c"));
        assert_eq!(longest(&all, "/a/b/c/d"), Some("/a"));
        assert_eq!(all.remove(Path::new("/a")).as_deref(), Some("/a"));
        assert!(all.below.is_empty() && longest(&all, "/a").is_none());
        assert_eq!(all.free.len() + 1, all.nodes.len());
    }

    #[test]
    fn names_of_any_length_are_told_apart() {
        let long = |len| format!("/{}", "x".repeat(len));
        let paths: Vec<_> = [1, 14, 15, 16, 255].into_iter().map(long).collect();
        let all = prefixes(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        for path in &paths {
            assert_eq!(longest(&all, path), Some(path.as_str()));
        }
        assert_eq!(longest(&all, &long(17)), None);
        assert_eq!(longest(&all, "/x\0"), None);
    }

    /// Reads the whole list, as a table without an index would.
    fn naive<'a>(paths: &'a [PathBuf], path: &Path) -> Option<&'a PathBuf> {
        let prefixes = paths.iter().filter(|prefix| path.starts_with(prefix));
        prefixes.max_by_key(|prefix| prefix.components().count())
    }

    fn path() -> impl Strategy<Value = PathBuf> {
        prop::collection::vec("[ab]{1,2}", 0..6)
            .prop_map(|names| Path::new("/").join(names.iter().collect::<PathBuf>()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn ten_thousand_paths_find_what_a_scan_finds_in_both_orders(
            mounts in prop::collection::vec(path(), 1..40),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
            paths in prop::collection::vec(path(), 100),
        ) {
            let (mut there, mut back) = (Prefixes::new(), Prefixes::new());
            for mount in &mounts {
                there.insert(mount, mount.clone());
            }
            for mount in mounts.iter().rev() {
                back.insert(mount, mount.clone());
            }
            let mut list = mounts.clone();
            for index in removed {
                let gone = index.get(&mounts);
                there.remove(gone);
                back.remove(gone);
                list.retain(|mount| mount != gone);
            }
            for path in paths {
                let expected = naive(&list, &path);
                prop_assert_eq!(there.longest(&path), expected);
                prop_assert_eq!(back.longest(&path), expected);
            }
        }
    }

    /// The time in which `count` mounts answer some thousand questions for the longest prefix.
    #[allow(clippy::disallowed_methods)] // measures the host's own time
    fn lookup_time(count: usize) -> std::time::Duration {
        let mut all = Prefixes::new();
        for number in 0..count {
            all.insert(Path::new(&format!("/mnt/m{number:05}")), number);
        }
        // All over the table, in no order: 7919 is a prime.
        let paths = (0..10_000).map(|n| format!("/mnt/m{:05}/dir/file", n * 7919 % count));
        let paths: Vec<_> = paths.collect();
        let mut best = std::time::Duration::MAX;
        for _ in 0..50 {
            let begin = std::time::Instant::now();
            for path in &paths {
                std::hint::black_box(all.longest(std::hint::black_box(Path::new(path))));
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
}
