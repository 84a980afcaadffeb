//! Runs of sectors, found by overlap and by neighbourhood.
//!
//! Runs are kept by where they begin, apart for each power of two of their length: a run of at
//! most 2^(n+1) sectors that overlaps a place begins less than that before it, so a search looks
//! at few runs that do not overlap, however different their lengths are.

use std::collections::BTreeMap;

/// See the head of this file. Runs carry the number of a request; all have at least one sector.
#[derive(Default)]
pub(super) struct Extents {
    /// Element `n`: runs of 2^n up to 2^(n+1)-1 sectors; first sector and number, and the end.
    classes: Vec<BTreeMap<(u64, u64), u64>>,
}

fn class(start: u64, end: u64) -> usize {
    usize::try_from((end - start).max(1).ilog2()).unwrap_or(0)
}

/// First sector at which a run of the class may begin that reaches beyond `at`.
fn reach(class: usize, at: u64) -> u64 {
    let longest = if class >= 63 { u64::MAX } else { (2 << class) - 1 };
    at.saturating_sub(longest - 1)
}

impl Extents {
    pub(super) fn insert(&mut self, start: u64, end: u64, id: u64) {
        let class = class(start, end);
        if self.classes.len() <= class {
            self.classes.resize_with(class + 1, BTreeMap::new);
        }
        self.classes[class].insert((start, id), end);
    }

    pub(super) fn remove(&mut self, start: u64, end: u64, id: u64) {
        if let Some(runs) = self.classes.get_mut(class(start, end)) {
            runs.remove(&(start, id));
        }
    }

    /// Some run that overlaps `start..end`; where several do so in the same way, the latest.
    pub(super) fn overlapping(&self, start: u64, end: u64) -> Option<u64> {
        self.of_classes(|class, runs| {
            let near = runs.range((reach(class, start), 0)..(end, 0)).rev();
            near.filter(|(_, e)| **e > start).map(|((_, id), _)| *id).next()
        })
        .max()
    }

    /// Some run that overlaps `start..end` and came before number `before`.
    pub(super) fn overlapping_before(&self, start: u64, end: u64, before: u64) -> Option<u64> {
        self.of_classes(|class, runs| {
            let mut from = (reach(class, start), 0);
            while from < (end, 0) {
                let ((first, id), last) = runs.range(from..(end, 0)).next()?;
                if *id < before && *last > start {
                    return Some(*id);
                }
                // Those that begin here and came later are stepped over at once.
                from = if *id < before { (*first, id + 1) } else { (first + 1, 0) };
            }
            None
        })
        .next()
    }

    /// The runs that begin at `at`.
    pub(super) fn starting_at(&self, at: u64) -> impl Iterator<Item = u64> {
        let runs = self.classes.iter().filter(|runs| !runs.is_empty());
        runs.flat_map(move |runs| runs.range((at, 0)..(at + 1, 0)).map(|((_, id), _)| *id))
    }

    /// The runs that end at `at`.
    pub(super) fn ending_at(&self, at: u64) -> impl Iterator<Item = u64> {
        let runs = self.classes.iter().enumerate().filter(|(_, runs)| !runs.is_empty());
        runs.flat_map(move |(class, runs)| {
            let near = runs.range((reach(class, at).saturating_sub(1), 0)..(at, 0));
            near.filter(move |(_, end)| **end == at).map(|((_, id), _)| *id)
        })
    }

    fn of_classes<'a>(
        &'a self,
        find: impl Fn(usize, &'a BTreeMap<(u64, u64), u64>) -> Option<u64> + 'a,
    ) -> impl Iterator<Item = u64> + 'a {
        let runs = self.classes.iter().enumerate().filter(|(_, runs)| !runs.is_empty());
        runs.filter_map(move |(class, runs)| find(class, runs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn searches_find_what_looking_at_all_finds(
            runs in prop::collection::vec((0..400u64, 1..80u64), 0..60),
            gone in prop::collection::vec(any::<bool>(), 60),
            (start, len) in (0..400u64, 1..80u64),
            before in 0..60u64,
        ) {
            let mut extents = Extents::default();
            let mut kept = Vec::new();
            for (id, (first, len)) in (0..).zip(&runs) {
                extents.insert(*first, first + len, id);
                kept.push((*first, first + len, id));
            }
            kept.retain(|(first, last, id)| {
                let goes = gone[usize::try_from(*id).unwrap()];
                if goes {
                    extents.remove(*first, *last, *id);
                }
                !goes
            });
            let end = start + len;
            let over: Vec<u64> =
                kept.iter().filter(|k| k.0 < end && k.1 > start).map(|k| k.2).collect();
            let found = extents.overlapping(start, end);
            prop_assert_eq!(found.is_some(), !over.is_empty());
            prop_assert!(found.is_none_or(|id| over.contains(&id)));
            let earlier = extents.overlapping_before(start, end, before);
            prop_assert_eq!(earlier.is_some(), over.iter().any(|id| *id < before));
            prop_assert!(earlier.is_none_or(|id| id < before && over.contains(&id)));
            let mut at: Vec<u64> = extents.starting_at(start).collect();
            at.sort_unstable();
            let want: Vec<u64> = kept.iter().filter(|k| k.0 == start).map(|k| k.2).collect();
            prop_assert_eq!(at, want);
            let mut at: Vec<u64> = extents.ending_at(start).collect();
            at.sort_unstable();
            let want: Vec<u64> = kept.iter().filter(|k| k.1 == start).map(|k| k.2).collect();
            prop_assert_eq!(at, want);
        }
    }

    #[test]
    fn the_longest_runs_there_are_do_not_overflow() {
        let mut extents = Extents::default();
        extents.insert(0, u64::MAX, 1);
        assert_eq!(extents.overlapping(u64::MAX - 2, u64::MAX - 1), Some(1));
        extents.remove(0, u64::MAX, 1);
        assert_eq!(extents.overlapping(5, 6), None);
    }
}
