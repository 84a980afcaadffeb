//! The machines that the host has mounted, from its mount table.

use crate::words;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The type of our file system in the host's mount table.
const FS_TYPE: &str = "fuse.spindle";

/// A machine in the host's mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub point: PathBuf,
    /// Mounted by who asks.
    pub is_mine: bool,
}

/// All machines that are mounted here, in the order in which they were mounted.
///
/// # Errors
/// That the host does not show its mount table.
pub fn mounted() -> Result<Vec<Mounted>, String> {
    const TABLE: &str = "/proc/self/mountinfo";
    let told = |error: std::io::Error| format!("{TABLE}: {}", words::of_host(&error));
    let table = std::fs::read(TABLE).map_err(told)?;
    let me = std::fs::metadata("/proc/self").map_err(told)?.uid();
    Ok(machines(&String::from_utf8_lossy(&table), me))
}

/// The machines in a table of proc_pid_mountinfo(5).
fn machines(table: &str, me: u32) -> Vec<Mounted> {
    let mut found: Vec<Mounted> = Vec::new();
    for line in table.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let mut kind = kind.split(' ');
        if kind.next() != Some(FS_TYPE) {
            continue;
        }
        let options = kind.next_back().unwrap_or_default();
        let owner = options.split(',').find_map(|option| option.strip_prefix("user_id="));
        let is_mine = owner.and_then(|owner| owner.parse().ok()) == Some(me);
        let Some(point) = mount.split(' ').nth(4).map(unescaped) else { continue };
        found.retain(|other| other.point != point); // what lies below cannot be reached
        found.push(Mounted { point, is_mine });
    }
    found
}

/// A path of the table: blanks and the like are octal, `\040`.
fn unescaped(path: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match byte.filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:50 / /home/x/io rw,nosuid,nodev - fuse.spindle spindle rw,user_id=7,group_id=7
41 22 0:51 / /home/y/a\\040b rw,nodev master:2 - fuse.spindle s rw,user_id=8,group_id=7
42 22 0:52 / /mnt rw - fuse.sshfs s rw,user_id=7
43 22 0:53 / /home/x/io rw - fuse.spindle spindle rw,user_id=8,group_id=8
";

    #[test]
    fn machines_are_found_by_their_type_with_their_owner() {
        let all = machines(TABLE, 8);
        let points: Vec<_> = all.iter().map(|one| one.point.to_str().unwrap()).collect();
        assert_eq!(points, ["/home/y/a b", "/home/x/io"]);
        assert!(all.iter().all(|one| one.is_mine));
        assert!(machines(TABLE, 7).iter().all(|one| !one.is_mine));
    }

    #[test]
    fn this_hosts_table_can_be_read() {
        assert!(mounted().is_ok());
    }

    proptest! {
        #[test]
        fn no_table_is_strange(table in "(\\PC{0,9}( - |\\\\[0-7]{0,3}|fuse.spindle )){0,9}") {
            machines(&table, 0);
        }
    }
}
