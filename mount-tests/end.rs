//! The end of a machine: who writes, prints or waits at that moment, and who finds it dead.

use crate::house::{Dice, House};
use crate::{Check, check};
use nix::fcntl::OFlag;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub const CHECKS: &[Check] = &[
    check("every_write_that_returned_before_the_unmount_is_in_the_image", &[], hammered),
    check("umount_with_open_files_says_whose_and_lets_them_fail", &[], still_open),
    check("every_command_says_that_the_daemon_has_died_and_the_way_out", &[], dead),
    check("umount_takes_a_dead_machine_away_and_says_so", &[], dead_umount),
    check("a_daemon_killed_while_it_unmounts_leaves_no_dead_mount", &[], killed_at_umount),
];

const DISK_BYTES: u64 = 64 << 20;
/// `O_DIRECT` wants its memory on a sector's edge.
const ALIGN: usize = 4096;

/// One who writes numbered records over his part of the disk, again and again.
#[derive(Clone, Copy)]
struct Writer {
    from: u64,
    record_bytes: usize,
    is_direct: bool,
}

const PART_BYTES: u64 = DISK_BYTES / 4;
const WRITERS: [Writer; 4] = [
    Writer { from: 0, record_bytes: 1 << 20, is_direct: false },
    Writer { from: PART_BYTES, record_bytes: 4096, is_direct: false },
    Writer { from: 2 * PART_BYTES, record_bytes: 64 << 10, is_direct: true },
    Writer { from: 3 * PART_BYTES, record_bytes: 256 << 10, is_direct: false },
];

impl Writer {
    fn slots(self) -> u64 {
        PART_BYTES / self.record_bytes as u64
    }

    fn place(self, number: u64) -> u64 {
        self.from + number % self.slots() * self.record_bytes as u64
    }

    /// Writes until a write fails; how many succeeded.
    fn write(self, disk: &Path, written: &AtomicU64) -> u64 {
        let flags = if self.is_direct { OFlag::O_DIRECT.bits() } else { 0 };
        let node = File::options().write(true).custom_flags(flags).open(disk).expect("sd0 opens");
        let mut memory = vec![0; self.record_bytes + ALIGN];
        let at = memory.as_ptr().align_offset(ALIGN);
        let bytes = &mut memory[at..at + self.record_bytes];
        for number in 1_u64.. {
            fill(bytes, number);
            // One write(2): the part of one that is cut short was written, and is not counted.
            match node.write_at(bytes, self.place(number)) {
                Ok(len) if len == bytes.len() => written.store(number, Ordering::Relaxed),
                _ => return number - 1,
            }
        }
        unreachable!("numbers do not end")
    }

    /// Whether every record of the last lap is whole in the image, but for the one that failed.
    fn check(self, image: &File, written: u64, round: u64) {
        let mut found = vec![0; self.record_bytes];
        let mut right = found.clone();
        for number in (written + 2).saturating_sub(self.slots()).max(1)..=written {
            image.read_exact_at(&mut found, self.place(number)).expect("the image is read");
            fill(&mut right, number);
            let (size, is_direct) = (self.record_bytes, self.is_direct);
            assert!(
                found == right,
                "round {round}: record {number} of {written} is lost ({size} bytes, direct \
                 {is_direct}); there is number {:?}",
                &found[..8]
            );
        }
    }
}

fn fill(bytes: &mut [u8], number: u64) {
    for word in bytes.chunks_exact_mut(8) {
        word.copy_from_slice(&number.to_le_bytes());
    }
}

fn hammered() {
    let mut dice = Dice::from_env(0xe4d);
    let rounds = std::env::var("SOAK_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let h = House::unmounted(&[]);
    for round in 0..rounds {
        h.mount();
        let disk = h.tree().join("dev/sd0");
        let moment = Duration::from_micros(dice.below(50_000));
        let begun: Vec<AtomicU64> = WRITERS.iter().map(|_| AtomicU64::new(0)).collect();
        let written: Vec<u64> = std::thread::scope(|scope| {
            let writers: Vec<_> = WRITERS
                .iter()
                .zip(&begun)
                .map(|(writer, begun)| scope.spawn(|| writer.write(&disk, begun)))
                .collect();
            crate::house::wait_for("the writers", || {
                begun.iter().all(|count| count.load(Ordering::Relaxed) > 0)
            });
            std::thread::sleep(moment); // the moment is random on purpose
            h.umount();
            writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
        });
        let image = File::open(h.state().join("sd0.img")).expect("the image");
        for (writer, written) in WRITERS.into_iter().zip(written) {
            writer.check(&image, written, round);
        }
    }
}

fn still_open() {
    let h = House::new();
    let node = File::options().write(true).open(h.tree().join("dev/sd0")).expect("sd0 opens");
    node.write_all_at(b"Z", 9000).expect("a write");
    let said = h.try_sh("spindle umount $M");
    let us = format!("was still open: /dev/sd0 is open by pid {}", std::process::id());
    assert!(said.status == 0 && said.err.contains(&us), "{said:?}");
    assert!(node.write_at(b"Y", 9000).is_err(), "a write after the end");
    h.sh("! mountpoint -q $M; [ \"$(piece $S/sd0.img 9000 1)\" = Z ]");
}

fn dead() {
    let h = House::new();
    h.kill();
    let commands = [
        "--at $M status",
        "--at $M status --json",
        "--at $M ctl help",
        "--at $M resolve /dev/sd0",
        "--at $M devctl sd0 list",
        "--at $M lpq",
        "--at $M lpstat -t",
        "--at $M lpr /etc/hostname",
        "--at $M lprm 1",
        "--at $M lpc status",
    ];
    for command in commands {
        let said = h.try_sh(&format!("spindle {command}"));
        assert!(said.status == 1 && said.out.is_empty(), "{command}: {said:?}");
        let way = "spindle mount";
        for told in ["its daemon has died", "fsync", "spindle umount", way, "the --state and"] {
            assert!(said.err.contains(told), "{command}: {said:?}");
        }
        assert!(said.err.lines().all(|line| line.starts_with("spindle: ")), "{said:?}");
    }
    let listed = h.sh("spindle list | grep \"$M \"");
    assert!(listed.contains("dead"), "{listed}");
}

fn dead_umount() {
    let h = House::new();
    h.sh("echo synced | dd of=$M/dev/sd0 conv=notrunc,fsync status=none");
    h.kill();
    let said = h.try_sh("spindle umount $M");
    assert!(said.status == 0 && said.err.contains("its daemon had died"), "{said:?}");
    h.sh("! mountpoint -q $M; [ -z \"$(ls $M)\" ]");
    h.mount();
    assert_eq!(h.sh("head -c 6 $M/dev/sd0"), "synced");
}

fn killed_at_umount() {
    let h = House::new();
    // The floppy takes half a minute for this.
    h.sh("dd if=/dev/urandom of=$M/dev/fd0 bs=64k count=8 conv=notrunc status=none");
    let pid = h.pid();
    let said = h.try_sh(&format!(
        "spindle umount $M & asked=$!
         until grep -q unmounting $S/log; do read -t 0.01 <> <(:) || true; done
         kill -9 {pid}; wait $asked"
    ));
    assert!(said.status == 1 && said.err.contains("ended without a word"), "{said:?}");
    h.sh("! mountpoint -q $M; [ -z \"$(ls $M)\" ]");
}
