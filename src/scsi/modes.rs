//! Mode pages: what MODE SENSE tells of how a disk works, and what MODE SELECT may change of it.
//!
//! 1. Changeable is what has a meaning here: the further tries (page 01), whether writes wait in
//!    the cache and whether the cache reads ahead (page 08). There is one number of tries; that of
//!    writes follows that of reads.
//! 2. A list that would change anything else is refused whole, at the byte and the bit.

use super::cdb::ModeQuery;
use super::pages::{ALL_SUBPAGES, Facts, byte, long, short};
use super::sense::Check;
use crate::disk::Modes;

const ERROR_RECOVERY: u8 = 0x01;
const FORMAT: u8 = 0x03;
const GEOMETRY: u8 = 0x04;
const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const PAGES: [u8; 5] = [ERROR_RECOVERY, FORMAT, GEOMETRY, CACHING, CONTROL];
/// The code for all of them.
const ALL: u8 = 0x3f;

// Places in the body of a page, behind its code and its length.
const READ_RETRIES: usize = 1;
const WRITE_RETRIES: usize = 6;
const WRITE_CACHE: usize = 0;
const WCE: u8 = 0x04;
const READ_AHEAD: usize = 10;
const DRA: u8 = 0x20;

/// Which values a page tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Control {
    Current,
    Changeable,
    Default,
}

fn retries(modes: Modes) -> u8 {
    byte(modes.retries)
}

/// The number of a byte's most significant bit that is set.
fn highest(bits: u8) -> Option<u8> {
    u8::try_from(bits.checked_ilog2()?).ok()
}

impl Facts {
    /// The body of a page; `None`: there is no such page.
    fn mode_page(&self, page: u8, control: Control) -> Option<Vec<u8>> {
        let len = match page {
            ERROR_RECOVERY | CONTROL => 10,
            FORMAT | GEOMETRY => 22,
            CACHING => 18,
            _ => return None,
        };
        let mut body = vec![0; len];
        match control {
            Control::Changeable => changeable(page, &mut body),
            Control::Current => self.put(page, self.modes, &mut body),
            Control::Default => self.put(page, self.defaults, &mut body),
        }
        Some(body)
    }

    fn put(&self, page: u8, modes: Modes, body: &mut [u8]) {
        let (heads, sectors) = self.tracks;
        match page {
            ERROR_RECOVERY => {
                body[0] = 0xc0; // bad sectors are replaced when written, and when read
                (body[READ_RETRIES], body[WRITE_RETRIES]) = (retries(modes), retries(modes));
            }
            FORMAT => {
                body[8..10].copy_from_slice(&short(sectors));
                body[10..12].copy_from_slice(&short(self.block));
                body[18] = if self.is_removable { 0x20 } else { 0 } | 0x40; // hard sectors
            }
            GEOMETRY => {
                let track = u64::from(heads) * u64::from(sectors);
                let cylinders = long(self.blocks * self.block / 512 / track.max(1));
                body[..3].copy_from_slice(&cylinders[1..]);
                body[3] = byte(heads);
                body[18..20].copy_from_slice(&self.turns.to_be_bytes());
            }
            CACHING => {
                body[WRITE_CACHE] = if modes.is_write_back { WCE } else { 0 };
                body[READ_AHEAD] = if modes.reads_ahead { 0 } else { DRA };
            }
            _ => {
                body[1] = 0x10; // commands are ordered as the unit likes
                body[2] = if self.is_protected { 0x08 } else { 0 }; // SWP
            }
        }
    }

    /// MODE SENSE.
    ///
    /// # Errors
    /// ILLEGAL REQUEST: INVALID FIELD IN CDB where there is no such page; SAVING PARAMETERS NOT
    /// SUPPORTED.
    pub fn modes(&self, query: &ModeQuery) -> Result<Vec<u8>, Check> {
        let control = match query.control {
            0 => Control::Current,
            1 => Control::Changeable,
            2 => Control::Default,
            _ => return Err(Check::NO_SAVING),
        };
        if ![0, ALL_SUBPAGES].contains(&query.subpage) {
            return Err(Check::field(3));
        }
        let wanted: &[u8] = if query.page == ALL { &PAGES } else { &[query.page] };
        let mut pages = Vec::new();
        for page in wanted {
            let body = self.mode_page(*page, control).ok_or(Check::field_bit(2, 5))?;
            pages.extend([*page, byte(body.len())]);
            pages.extend(body);
        }
        let descriptor = match (query.has_no_descriptor, query.is_long_lba) {
            (true, _) => Vec::new(),
            (false, false) => [long(self.blocks), long(self.block)].concat(),
            (false, true) => [&self.blocks.to_be_bytes()[..], &[0; 4], &long(self.block)].concat(),
        };
        // Write protected; force unit access is obeyed.
        let specific = if self.is_read_only { 0x80 } else { 0 } | 0x10;
        let rest = descriptor.len() + pages.len();
        let mut data = if query.is_long {
            let [a, b] = short(rest + 6);
            let [c, d] = short(descriptor.len());
            vec![a, b, 0, specific, u8::from(query.is_long_lba), 0, c, d]
        } else {
            vec![byte(rest + 3), 0, specific, byte(descriptor.len())]
        };
        data.extend(descriptor);
        data.extend(pages);
        Ok(data)
    }

    /// MODE SELECT: how a disk works that obeys this list.
    ///
    /// # Errors
    /// ILLEGAL REQUEST: INVALID FIELD IN PARAMETER LIST, with the place; PARAMETER LIST LENGTH
    /// ERROR for one that ends within something.
    pub fn selected(&self, list: &[u8], is_long: bool) -> Result<Modes, Check> {
        let mut modes = self.modes;
        if list.is_empty() {
            return Ok(modes);
        }
        let mut at = self.check_head(list, is_long)?;
        while at < list.len() {
            let code = list[at];
            let current = match code & 0xc0 {
                0 => self.mode_page(code, Control::Current),
                wrong => return Err(Check::parameter(at, highest(wrong))),
            };
            let current = current.ok_or(Check::parameter(at, Some(5)))?;
            let len = list.get(at + 1).ok_or(Check::PARAMETER_LENGTH)?;
            if usize::from(*len) != current.len() {
                return Err(Check::parameter(at + 1, None));
            }
            at += 2;
            let body = list.get(at..at + current.len()).ok_or(Check::PARAMETER_LENGTH)?;
            check_page(code, &current, body)
                .map_err(|(byte, bit)| Check::parameter(at + byte, bit))?;
            take(code, body, &mut modes);
            at += body.len();
        }
        Ok(modes)
    }

    /// Checks the header and the block descriptor; where the pages begin.
    fn check_head(&self, list: &[u8], is_long: bool) -> Result<usize, Check> {
        let header = if is_long { 8 } else { 4 };
        let head = list.get(..header).ok_or(Check::PARAMETER_LENGTH)?;
        let (medium_at, len_at) = if is_long { (2, 6) } else { (1, 3) };
        if head[medium_at] != 0 {
            return Err(Check::parameter(medium_at, None));
        }
        let len = head[len_at..].iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let is_long_lba = is_long && head[4] & 1 != 0;
        let whole = if is_long_lba { 16 } else { 8 };
        if len == 0 {
            return Ok(header);
        }
        if len != whole {
            return Err(Check::parameter(len_at, None));
        }
        let descriptor = list.get(header..header + len).ok_or(Check::PARAMETER_LENGTH)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        let blocks = number(&descriptor[..whole / 2]);
        // Blocks number what they number; 0 means the same. The high byte of what was 32 bits is
        // the density, which a disk has not.
        if ![0, self.blocks, self.blocks.min(u64::from(u32::MAX))].contains(&blocks) {
            return Err(Check::parameter(header, None));
        }
        match number(&descriptor[whole - 4..]) {
            block if block == self.block => Ok(header + len),
            _ => Err(Check::parameter(header + whole - 4, None)),
        }
    }
}

/// The bits of a page that may be changed.
fn changeable(page: u8, body: &mut [u8]) {
    match page {
        ERROR_RECOVERY => body[READ_RETRIES] = u8::MAX,
        CACHING => (body[WRITE_CACHE], body[READ_AHEAD]) = (WCE, DRA),
        _ => {}
    }
}

/// That no other bit would change.
fn check_page(page: u8, current: &[u8], body: &[u8]) -> Result<(), (usize, Option<u8>)> {
    let mut mask = vec![0; body.len()];
    changeable(page, &mut mask);
    if page == ERROR_RECOVERY && body[WRITE_RETRIES] == body[READ_RETRIES] {
        mask[WRITE_RETRIES] = u8::MAX; // it is the same number
    }
    let pairs = current.iter().zip(body).zip(mask);
    let wrong = pairs.map(|((old, new), mask)| (old ^ new) & !mask).enumerate();
    let first = wrong.into_iter().find_map(|(at, bits)| Some((at, highest(bits)?)));
    first.map_or(Ok(()), |(at, bit)| Err((at, Some(bit))))
}

fn take(page: u8, body: &[u8], modes: &mut Modes) {
    match page {
        // More tries than a byte can tell stay unless another number is wanted.
        ERROR_RECOVERY if body[READ_RETRIES] != retries(*modes) => {
            modes.retries = body[READ_RETRIES].into();
        }
        CACHING => {
            modes.is_write_back = body[WRITE_CACHE] & WCE != 0;
            modes.reads_ahead = body[READ_AHEAD] & DRA == 0;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::pages::tests::facts;
    use super::*;
    use crate::own::Field;
    use proptest::prelude::*;

    fn query(page: u8, control: u8, is_long: bool) -> ModeQuery {
        ModeQuery {
            is_long,
            control,
            page,
            subpage: 0,
            has_no_descriptor: false,
            is_long_lba: false,
            room: 255,
        }
    }

    /// A list as MODE SENSE tells it, ready to be sent back.
    fn list(page: u8, is_long: bool) -> Vec<u8> {
        let mut list = facts().modes(&query(page, 0, is_long)).unwrap();
        list[..if is_long { 2 } else { 1 }].fill(0);
        list
    }

    #[test]
    fn every_page_tells_its_length() {
        let modes = facts().modes(&query(ALL, 0, false)).unwrap();
        assert_eq!(usize::from(modes[0]) + 1, modes.len());
        let mut at = 4 + usize::from(modes[3]);
        for page in PAGES {
            assert_eq!(modes[at], page);
            at += 2 + usize::from(modes[at + 1]);
        }
        assert_eq!(at, modes.len());
    }

    #[test]
    fn protection_is_told_where_it_is_looked_for() {
        let mut facts = facts();
        assert_eq!(facts.modes(&query(CONTROL, 0, false)).unwrap()[2], 0x10);
        (facts.is_read_only, facts.is_protected) = (true, true);
        let modes = facts.modes(&query(CONTROL, 0, false)).unwrap();
        assert_eq!((modes[2], modes[12 + 4]), (0x90, 0x08));
    }

    #[test]
    fn what_there_is_not_is_refused_at_its_place() {
        let facts = facts();
        assert_eq!(facts.modes(&query(CACHING, 3, false)), Err(Check::NO_SAVING));
        assert_eq!(facts.modes(&query(0x1c, 0, false)), Err(Check::field_bit(2, 5)));
    }

    #[test]
    fn what_is_told_may_be_sent_back() {
        for is_long in [false, true] {
            assert_eq!(facts().selected(&list(ALL, is_long), is_long), Ok(facts().modes));
        }
        assert_eq!(facts().selected(&[], false), Ok(facts().modes));
        assert_eq!(facts().selected(&[0; 4], false), Ok(facts().modes), "no page at all");
    }

    #[test]
    fn current_and_default_differ_in_what_was_changed() {
        let mut facts = facts();
        facts.modes = Modes { retries: 300, is_write_back: false, reads_ahead: false };
        let of = |page, control| facts.modes(&query(page, control, false)).unwrap()[14..].to_vec();
        assert_eq!((of(8, 0)[0], of(8, 0)[10]), (0, DRA));
        assert_eq!((of(8, 2)[0], of(8, 2)[10]), (WCE, 0));
        assert_eq!((of(1, 0)[1], of(1, 2)[1]), (255, 5));
    }

    /// What the mask says is so: each bit by itself is obeyed, or refused at its place.
    #[test]
    fn just_what_is_changeable_can_be_changed() {
        for is_long in [false, true] {
            let start = if is_long { 16 } else { 12 };
            for page in PAGES {
                let plain = list(page, is_long);
                let mask = facts().modes(&query(page, 1, is_long)).unwrap();
                for at in start + 2..plain.len() {
                    for bit in 0..8 {
                        let mut list = plain.clone();
                        list[at] ^= 1 << bit;
                        let outcome = facts().selected(&list, is_long);
                        if mask[at] & 1 << bit != 0 {
                            assert_ne!(outcome, Ok(facts().modes), "{page} {at} {bit}");
                            assert!(outcome.is_ok(), "{page} {at} {bit}");
                        } else {
                            let field = Some(Field { byte: at, bit: Some(bit), is_data: true });
                            let check = outcome.unwrap_err();
                            assert_eq!((check.sense.asc, check.field), (0x26, field));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn tries_of_reads_and_of_writes_are_one_number() {
        let with = |reads, writes| {
            let mut list = list(ERROR_RECOVERY, false);
            (list[12 + 3], list[12 + 8]) = (reads, writes);
            facts().selected(&list, false)
        };
        assert_eq!(with(9, 5).unwrap().retries, 9);
        assert_eq!(with(9, 9).unwrap().retries, 9);
        assert_eq!(with(5, 9), Err(Check::parameter(20, Some(3))));
        assert_eq!(with(7, 9), Err(Check::parameter(20, Some(3))));
    }

    #[test]
    fn a_list_that_is_none_is_refused_at_its_place() {
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut list = list(CACHING, false);
            change(&mut list);
            facts().selected(&list, false).unwrap_err()
        };
        let at = |byte| Check::parameter(byte, None);
        assert_eq!(refused(&|list| list[1] = 1), at(1), "medium type");
        assert_eq!(refused(&|list| list[3] = 9), at(3), "descriptor's length");
        assert_eq!(refused(&|list| list[7] ^= 1), at(4), "number of blocks");
        assert_eq!(refused(&|list| list[10] = 4), at(8), "length of a block");
        assert_eq!(refused(&|list| list[12] = 0x1c), Check::parameter(12, Some(5)), "page");
        assert_eq!(refused(&|list| list[12] = 0x48), Check::parameter(12, Some(6)), "subpage");
        assert_eq!(refused(&|list| list[13] = 10), at(13), "page's length");
        assert_eq!(refused(&|list| list.truncate(20)), Check::PARAMETER_LENGTH);
        assert_eq!(refused(&|list| list.truncate(13)), Check::PARAMETER_LENGTH);
        assert_eq!(refused(&|list| list.truncate(7)), Check::PARAMETER_LENGTH);
        assert_eq!(refused(&|list| list.truncate(3)), Check::PARAMETER_LENGTH);
    }

    proptest! {
        #[test]
        fn no_list_is_too_strange(list in prop::collection::vec(any::<u8>(), 0..60)) {
            for is_long in [false, true] {
                let _ = facts().selected(&list, is_long);
            }
        }
    }
}
