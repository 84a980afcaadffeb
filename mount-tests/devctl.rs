//! `spindle devctl`: a node's own commands by name, and what it says of itself.

use crate::house::House;
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("if_07_commands_are_given_by_name", &[], by_name),
    check("if_08_what_is_no_command_is_refused_in_words", &[], refused),
    check("a_serial_line_is_set_and_polled", &[], serial),
    check("status_sense_and_reservation", &[], of_itself),
];

fn by_name() {
    let h = House::new();
    h.sh("d() { spindle --at $M devctl \"$@\"; }
          [ $(d sd0 ioctl BLKGETSIZE64) = 67108864 ]; [ $(d /dev/rsd0 ioctl blksszget) = 512 ]
          [ $(d $M/dev/sd0 ioctl 0x1260) = 131072 ]
          [ \"$(d sd0 ioctl HDIO_GETGEO)\" = 'heads=16 sectors=63 cylinders=130 start=0' ]
          d sd0 ioctl BLKRASET 512; [ $(d sd0 ioctl BLKRAGET) = 512 ]
          head -c 8192 </dev/zero | tr '\\0' y | dd of=$M/dev/sd0 status=none; sync $M/dev/sd0
          d sd0 ioctl BLKZEROOUT 4096 4096; [ $(head -c 1 $M/dev/sd0) = y ]
          cmp -n 4096 /dev/zero <(tail -c +4097 $M/dev/sd0)
          d sd0 ioctl BLKROSET 1; [ $(d sd0 ioctl BLKROGET) = 1 ]; d sd0 ioctl BLKROSET 0
          d sd0 ioctl BLKFLSBUF; d sd0 | grep -q '^BLKDISCARD  *0x00001277  takes start length'
          printf record > $M/dev/nst0; d nst0 ioctl MTIOCTOP 6 1
          d nst0 ioctl MTIOCTOP 3 1; d nst0 ioctl MTIOCGET | grep -q 'file=0 block=1'
          d nst0 ioctl --in 0600000001000000 MTIOCTOP; [ $(d nst0 ioctl MTIOCPOS) = 0 ]
          [ $(d sd0 ioctl 0x80081272 --out 8) = 0000000400000000 ]
          d sd0 ioctl BLKGETSIZE64 --json | tr -d ' \\n' > $T/j
          grep -q '\"command\":\"BLKGETSIZE64\",\"device\":\"sd0\",\"number\":\"0x80081272\"' $T/j
          grep -q '\"result\":0,\"values\":{\"bytes\":67108864}' $T/j");
}

fn refused() {
    let h = House::new();
    let table = [
        (
            "sd0 ioctl BLKGETSIZ",
            "devctl: sd0: driver sd has no command \"BLKGETSIZ\" (did you mean",
        ),
        ("sd0 ioctl MTIOCTOP 6 1", "(spindle devctl sd0 lists them)"),
        ("sd0 ioctl BLKDISCARD 1", "BLKDISCARD: wants 2 arguments: start length; got 1"),
        ("sd0 ioctl BLKGETSIZE 1", "BLKGETSIZE: takes no arguments"),
        ("sd0 ioctl 0x5401", "0x5401: Inappropriate ioctl for device"),
        ("sd0 ioctl 0xc0046d7f 1", "of unknown structure: give its bytes by --in"),
        ("sd0 ioctl BLKROSET x", "flag: a number of 4 bytes is wanted, not \"x\""),
        ("sd0 serial", "serial: Inappropriate ioctl for device"),
        ("ttyS0 serial 9600,8,half", "\"half\" is no parity"),
        ("ttyS0 serial 7", "\"7\" is no rate from 15 to 921600"),
        ("sd9 status", "no node of a device"),
        ("null", "takes no commands"),
        ("lp0 ioctl 0x5401", "0x5401: Inappropriate ioctl for device"),
    ];
    for (words, told) in table {
        let said = h.try_sh(&format!("spindle --at $M devctl {words}"));
        assert!(said.status == 1 && said.err.contains(told), "{words}: {said:?}");
    }
    assert_eq!(h.try_sh("spindle --at $M devctl sd0 ioctl").status, 2);
}

fn serial() {
    let h = House::new();
    h.sh("d() { spindle --at $M devctl \"$@\"; }
          [ $(d ttyS0 serial) = 9600,8,none,1 ]
          [ $(d ttyS0 serial 1200,7,even) = 1200,7,even,1 ]; d ttyS1 serial 1200,7,even
          grep -q 'ttyS0 registers divisor=768 .*lcr=0x1a' $M/proc/serial
          d ttyS0 ioctl TIOCSWINSZ 24 80; [ \"$(d ttyS0 ioctl TIOCGWINSZ)\" = 'rows=24 columns=80' ]
          [ \"$(d ttyS0 poll)\" = 'read=0 write=1 hangup=0 error=0' ]
          exec 3<>$M/dev/ttyS1; printf 'x\\r' > $M/dev/ttyS0
          [ \"$(d ttyS1 poll 10)\" = 'read=1 write=1 hangup=0 error=0' ]; read x <&3; [ $x = x ]
          d ttyS1 poll 0.1 | grep -q read=0");
}

fn of_itself() {
    let h = House::new();
    h.sh(
        "d() { spindle --at $M devctl \"$@\"; }
          d sd0 status | grep -q '^sd0 .*idle'; d sd0 status --json | grep -q '\"sd0\"'
          ctl fault add f on sd0 op=read do error EIO
          ! dd if=$M/dev/rsd0 of=/dev/null bs=4k count=1 2>$T/e
          d sd0 sense | grep -q '^sd0 read block=0'
          setsid -w sh -c 'spindle --at $M devctl st0 allocate &&
              grep -q \"^st0 .*owner=\" $M/proc/status &&
              spindle --at $M devctl st0 deallocate && ! grep -q \"^st0 .*owner=\" $M/proc/status'",
    );
}
