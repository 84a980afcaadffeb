//! `spindle devctl`: a node's own commands by name, and what it says of itself.

use crate::house::House;
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("if_07_commands_are_given_by_name", &[], by_name),
    check("if_08_what_is_no_command_is_refused_in_words", &[], refused),
    check("a_serial_line_is_set_and_polled", &[], serial),
    check("status_sense_and_reservation", &[], of_itself),
    check("if_08_every_listed_command_shows_or_refuses_in_words", &[], every_command),
    check("every_word_speaks_json", &["python3"], as_json),
    check("a_protected_disk_is_told_of_and_got_back", &["python3"], protected),
    check("rs_03_waits_in_order_and_is_called_away", &["setsid", "timeout"], waiting),
    check("rs_03_a_wait_ends_with_the_machine", &["setsid"], unmounted),
    check("rs_03_a_wait_by_the_node_does_too", &["root", "runuser", "setsid"], unmounted_user),
    check("rs_04_held_open_under_a_share_mode", &["timeout"], held),
    check("if_11_select_and_multiread_over_several", &["stty", "timeout"], several),
    check("if_19_pieces_go_in_one_call", &["cmp"], pieces),
    check("er_04_command_blocks_log_pages_and_sense", &[], command_blocks),
    check("an_ordinary_user_needs_no_ctl", &["root", "runuser"], ordinary_user),
];

/// `d` for short, and `not WORDS COMMAND...`: it must fail, and say so in these words.
const SHORT: &str = "d() { spindle --at $M devctl \"$@\"; }
    not() { local words=$1; shift; if \"$@\" >$T/o 2>$T/e; then echo \"no refusal: $*\"; exit 9; fi
        grep -qF -- \"$words\" $T/e || { echo \"$*: $(cat $T/e)\"; exit 9; }; }\n";

fn short(script: &str) -> String {
    let h = House::new();
    h.sh(&format!("{SHORT}{script}"))
}

/// All that `proc/ioctls` lists, on nodes of each kind: what only tells is
/// shown, what takes arguments asks for them by name.
fn every_command() {
    let h = House::new();
    h.sh("spindle --at $M lpc stop lp0");
    let listed = h.text("proc/ioctls");
    let mut tried = std::collections::BTreeSet::new();
    for node in ["null", "sd0", "rsd0", "fd0", "st0", "rlp0", "ttyS0"] {
        let said = |args: &str| h.try_sh(&format!("spindle --at $M devctl {node} {args}"));
        for line in said("list").out.lines() {
            let mut words = line.split_whitespace();
            let (name, number) = (words.next().unwrap(), words.next().unwrap());
            let number = u32::from_str_radix(number.trim_start_matches("0x"), 16).unwrap();
            tried.insert((number, name.to_owned()));
            let said = said(&format!("ioctl {name}"));
            let told = format!("{node} {line}: {said:?}");
            match words.next() {
                Some("tells") => assert!(said.status == 0 && !said.out.is_empty(), "{told}"),
                Some("see") => assert!(said.err.contains("cdb HEX"), "{told}"),
                Some(_) => assert!(said.status == 2 && said.err.contains(": wants "), "{told}"),
                None if name == "TIOCVHANGUP" && !crate::house::is_root() => {
                    assert!(said.err.contains("Operation not permitted"), "{told}");
                }
                None if name == "SPINDLE_DEALLOCATE" => assert_eq!(said.status, 1, "{told}"),
                None => assert!(said.status == 0 && said.out.is_empty(), "{told}"),
            }
        }
    }
    for line in listed.lines() {
        let (_, command) = line.split_once(' ').unwrap();
        let (number, name) = command.split_once(' ').unwrap();
        let name = name.split(' ').next().unwrap(); // the nodes that take it may follow
        let number = u32::from_str_radix(number.trim_start_matches("0x"), 16).unwrap();
        assert!(tried.contains(&(number, name.to_owned())), "{line} was tried on no node");
    }
    assert!(tried.len() > 70, "{}", tried.len());
}

fn as_json() {
    short(
        r#"j() { spindle --at $M devctl "$@" --json >$T/j; python3 -m json.tool <$T/j >/dev/null ||
              { echo "$*: $(cat $T/j)"; exit 9; }; }
          export SPINDLE_AT=$M; stty -F $M/dev/ttyS0 raw -echo; stty -F $M/dev/ttyS1 raw -echo
          j sd0; j sd0 list; j sd0 ioctl BLKGETSIZE64; j sd0 status; j sd0 sense; j sd0 log-page
          j sd0 log-page 3; j sd0 cdb 12 0 0 0 24 0; j sd0 poll; j sd0 ttyS0 select 0
          j sd0 readv 1 2; j nst0 writev a b; j ttyS0 serial; j sd1 open </dev/null
          exec 3<>$M/dev/ttyS1; printf 'ab\n' >$M/dev/ttyS0; j ttyS0 ttyS1 multiread 5
          j ttyS0 list; j null poll; j st0 sense; j ttyS0 ioctl TIOCMGET
          grep -q '"lines": 358' $T/j; tr -d ' \n' <$T/j | grep -qF '"names":["DTR","RTS","CTS",'
          j st0 status; grep -q '"file": 0' $T/j; grep -q '"medium": "' $T/j
          s=0; spindle devctl sd0 cdb ff 0 0 0 0 0 --json >$T/j 2>$T/e || s=$?; [ $s = 1 ]
          python3 -c 'import json; j = json.load(open("'$T/j'"));
assert (j["status"], j["sense"]["key"], j["sense"]["byte"], j["data"]) == (2, 5, 0, ""), j'
          grep -q 'sd0: cdb ff: illegal request' $T/e
          setsid -w bash -c 'spindle devctl st0 allocate --json | grep -q "reserved.*true" &&
              spindle devctl st0 wait 1 --json | grep -q "reserved.*true" &&
              spindle devctl st0 deallocate --json | grep -q "reserved.*false"'"#,
    );
}

fn protected() {
    short(
        r#"printf full | dd of=$M/dev/sd0 conv=notrunc status=none; d sd0 ioctl BLKROSET 1
          for c in BLKZEROOUT BLKDISCARD; do
              not "$c: it cannot be opened for writing, as this wants: Read-only" \
                  d sd0 ioctl $c 0 4096; done
          not 'as this wants: Read-only' d sd0 cdb 2a 0 0 0 0 0 0 0 0 0
          not 'sd0: Read-only file system' d sd0 writev x
          d sd0 ioctl BLKROSET 0; [ $(head -c 4 $M/dev/sd0) = full ]
          d sd0 ioctl BLKZEROOUT 0 4096; cmp -n 4096 $M/dev/sd0 /dev/zero
          cat > $T/p.py <<'END'
import errno, fcntl, os, struct, sys
fd = os.open(sys.argv[1] + '/dev/sd0', os.O_RDWR)
fcntl.ioctl(fd, 0x125d, struct.pack('i', 1))
for command, fd, why in ((0x127f, fd, 'EROFS'), (0x1277, fd, 'EROFS'),
        (0x127f, os.open(sys.argv[1] + '/dev/sd0', os.O_RDONLY), 'EBADF')):
    try: fcntl.ioctl(fd, command, struct.pack('QQ', 0, 4096))
    except OSError as e: assert errno.errorcode[e.errno] == why, e
    else: raise AssertionError(hex(command))
END
          python3 $T/p.py $M; d sd0 ioctl BLKROSET 0; d sd0 writev x"#,
    );
}

fn waiting() {
    short(
        r#"mkfifo $T/go; export M T SPINDLE_AT=$M
          setsid -w bash -c 'spindle devctl st0 allocate && touch $T/held; read -t 30 x <>$T/go
              spindle devctl st0 deallocate' >/dev/null & holder=$!
          until [ -e $T/held ]; do sleep 0.01; done
          not 'st0: held (reserved by session' d st0 allocate
          not 'still held (reserved by session' d st0 wait 0.2
          for s in TERM INT KILL; do
              if timeout -s $s 0.2 spindle devctl st0 wait; then exit 9; fi; done
          until ! grep -q waiting= $M/proc/status; do sleep 0.01; done
          pid=$(cat $S/pid); threads() { ls /proc/$pid/task | wc -l; }
          for i in 1 2 3; do
              setsid -w bash -c "spindle devctl st0 wait 30 && echo $i >>$T/order
                  spindle devctl st0 deallocate" >/dev/null &
              until grep -q " waiting=$i " $M/proc/status; do sleep 0.01; done; done
          [ $(grep -c 'ctl wait pid=' $M/proc/queues) = 3 ]
          echo >$T/go; wait; [ "$(tr -d '\n' <$T/order)" = 123 ]
          ! grep -q 'owner=\|waiting=' $M/proc/status"#,
    );
}

/// What was answered before is no answer to who waits when the machine goes.
fn unmounted() {
    short(
        r#"export M T S SPINDLE_AT=$M
          d sd0 allocate; d sd0 deallocate; not 'no such command' spindle ctl frobnicate
          setsid -w bash -c 'spindle devctl st0 allocate; touch $T/held
              until [ -e $T/go ] || [ ! -d $T ]; do sleep 0.01; done' >/dev/null &
          until [ -e $T/held ]; do sleep 0.01; done
          setsid -w spindle devctl st0 wait 2>$T/e >&2 & waiter=$!
          until grep -q ' waiting=1 ' $M/proc/status; do sleep 0.01; done
          not 'no such command' spindle ctl frobnicate
          spindle umount $M; s=0; wait $waiter || s=$?; touch $T/go; wait
          [ $s = 1 ]; grep -q "^spindle: ctl: $M: the machine was unmounted before" $T/e ||
              { cat $T/e; exit 9; }"#,
    );
}

/// Who may not write to `ctl` waits by a command to the node.
fn unmounted_user() {
    short(
        r#"export M T SPINDLE_AT=$M; chmod 755 $T; cp $(command -v spindle) $T/spindle
          chmod 755 $T/spindle; chmod 666 $M/dev/sd0
          setsid -w bash -c 'exec 3<>$M/dev/sd0; touch $T/held
              until [ -e $T/go ] || [ ! -d $T ]; do sleep 0.01; done' &
          until [ -e $T/held ]; do sleep 0.01; done
          setsid -w runuser -u nobody -- $T/spindle devctl sd0 wait 2>$T/e >&2 & waiter=$!
          until grep -q '^sd0 .*waiting=1 ' $M/proc/status; do sleep 0.01; done
          spindle umount $M 2>/dev/null; s=0; wait $waiter || s=$?; touch $T/go; wait
          [ $s = 1 ]; grep -q "^spindle: devctl: sd0: $M: the machine was unmounted before" $T/e ||
              { cat $T/e; exit 9; }"#,
    );
}

fn held() {
    short(
        r#"export SPINDLE_AT=$M; mkfifo $T/in
          d sd1 open --share none >$T/out <$T/in & holder=$!; exec 7>$T/in
          until grep -q 'sd1 for=rw share=none' $T/out; do sleep 0.01; done
          for n in sd1 rsd1; do not '(/dev/sd1 opened by process' d $n ioctl BLKGETSIZE64; done
          exec 7>&-; wait $holder; d sd1 ioctl BLKGETSIZE64
          s=0
          d sd1 open --share read --for read sh -c 'dd if=$M/dev/sd1 of=/dev/null count=1 2>&1 &&
              ! true 2>/dev/null >>$M/dev/sd1 && exit 7' || s=$?; [ $s = 7 ]
          exec 3>>$M/dev/sd1
          not 'open --share read: Device or resource busy (/dev/sd1 opened by' \
              d sd1 open --share read --for read true
          exec 3>&-; d sd1 open --share read --for read true
          not 'for everybody' d null open --share none true; d null open true
          not 'No such file' d sd1 open /nowhere/x
          s=0; d sd1 open sh -c 'kill -9 $$' || s=$?; [ $s = 137 ]
          not 'possible values' d sd1 open --share some; d sd1 open --share none </dev/null
          not 'spindle lpc stop lp0' d rlp0 ioctl LPGETSTATUS"#,
    );
}

fn several() {
    short(
        r#"for t in 0 1; do stty -F $M/dev/ttyS$t raw -echo; done; export SPINDLE_AT=$M
          exec 3<>$M/dev/ttyS0 4<>$M/dev/ttyS1
          [ -z "$(d ttyS0 ttyS1 select 0)" ]; a=$(date +%s%N)
          [ -z "$(d ttyS0 ttyS1 select 1)" ]; t=$(((($(date +%s%N) - a)) / 1000000))
          [ $t -ge 1000 ] && [ $t -lt 1400 ]
          [ "$(d ttyS0 ttyS1 select --for write)" = $'ttyS0 write\nttyS1 write' ]
          d ttyS0 ttyS1 select 20 >$T/ready & job=$!
          opened() { until [ $(grep -c "dev/ttyS1" $M/proc/files) = 2 ]; do sleep 0.01; done; }
          opened; printf 'a\nb\n' >$M/dev/ttyS0; wait $job; [ "$(cat $T/ready)" = 'ttyS1 read' ]
          d ttyS1 ttyS0 multiread 20 >$T/lines; head -1 $T/lines | grep -qx 'ttyS1: a'
          d ttyS1 ttyS0 multiread 0.5 --follow >/dev/null
          d ttyS0 ttyS1 $M/dev/null multiread 20 --follow >$T/lines & job=$!
          opened; printf 'to one\n' >$M/dev/ttyS0; printf 'to nought\nno end' >$M/dev/ttyS1
          until grep -q 'no end' $T/lines; do sleep 0.01; done; kill $job
          [ "$(sort $T/lines)" = $'ttyS0: no end\nttyS0: to nought\nttyS1: to one' ]
          not 'several nodes' d ttyS0 ttyS1 status; not 'no node of a device' d ttyS0 ttyS9 select
          not 'no time such as' d ttyS0 select soon"#,
    );
}

fn pieces() {
    short(
        r#"echo >$M/tmp/f; [ $(d /tmp/f writev one '' two) = 6 ]; [ $(cat $M/tmp/f) = onetwo ]
          [ "$(d $M/tmp/f readv 1 2 99)" = $'1 o\n2 ne\n3 two' ]
          [ $(d nst0 writev head tail) = 8 ]; [ $(d nst0 writev --hex 00ff 0a) = 3 ]
          d st0 poll >/dev/null; [ "$(d nst0 readv 3 1 9)" = $'3 hea\n1 d\n4 tail' ]
          d nst0 ioctl MTIOCTOP 1 1; [ "$(d nst0 readv 2 8)" = $'2 \\x00\\xff\n1 \\n' ]
          [ $(d sd0 writev --offset 700 ab cd) = 4 ]; [ "$(d sd0 readv --offset 701 2)" = '2 bc' ]
          not 'Invalid argument' d rsd0 writev x; not 'pairs of hex' d sd0 writev --hex 0
          not 'at most 1024 pieces' d sd0 readv $(seq 1025); not 'Permission denied' d lp0 readv 1
          not 'no such file' d /tmp/none readv 1; not '64 MiB' d sd0 readv 99999999999"#,
    );
}

fn command_blocks() {
    short(
        r#"[ "$(d sd0 log-page)" = $'0 supported pages\n2 write errors\n3 read errors' ]
          [ "$(d sd0 sense | head -1)" = 'sd0 last none' ]
          ctl fault add f on sd0 op=read block=8-15 do error EIO
          ! dd if=$M/dev/rsd0 of=/dev/null bs=4k skip=1 count=1 2>/dev/null
          d sd0 sense | head -1 | grep -q '^sd0 last key=3 code=11 qualifier=00 sector=8: medium'
          d sd0 log-page 3 | grep -qx '6 uncorrected [1-9]'
          d sd0 cdb 12 0 0 0 24 0 | grep -q ^0000; d sd0 cdb 120000002400 | grep -q ^0000
          not 'illegal request, invalid field in the command block (key=5 code=24 ' \
              d sd0 cdb 12 1 99 0 24 0
          d sd0 sense | grep -q '^sd0 last key=5 .* byte=2.*(Invalid argument)'
          not 'no such command' d sd0 cdb ff 0 0 0 0 0; d sd0 cdb 0 0 0 0 0 0
          d sd0 cdb 2a 0 0 0 0 64 0 0 1 0 --in $(printf '%0512d' 7)$(printf '%0512d' 9)
          [ $(d sd0 cdb 28 0 0 0 0 64 0 0 1 0 --out 512 | tail -c 5) = 0009 ]
          head -c 512 /dev/urandom >$T/x; d sd0 cdb 2a 0 0 0 0 64 0 0 1 0 --in - <$T/x
          first=$(od -An -tx1 -N8 $T/x | tr -d ' ')
          d rsd0 cdb 28 0 0 0 0 64 0 0 1 0 | grep -q ^$first
          not 'takes no SCSI commands' d st0 cdb 0 0 0 0 0 0; not '6 to 32 bytes' d sd0 cdb 0 0
          not 'hexadecimal digits' d sd0 cdb zz 0 0 0 0 0; not 'keeps none' d ttyS0 sense
          not 'byte=2 bit=5' d sd0 log-page 9; not 'a page is 0 to 63' d sd0 log-page 99
          cat $M/dev/nst0 >/dev/null & d st0 sense >$T/o || :; grep -q '^st0 last ' $T/o; wait"#,
    );
}

/// Who may not write to `ctl` finds his nodes all the same.
fn ordinary_user() {
    let h = House::new();
    h.sh(&format!(
        "{SHORT}chmod 755 $T; cp $(command -v spindle) $T/spindle; chmod 755 $T/spindle
          export SPINDLE_AT=$M; u() {{ runuser -u nobody -- $T/spindle devctl \"$@\"; }}
          u sd0 | grep -q BLKGETSIZE64; u sd0 status | grep -q idle; u zero readv 2 >/dev/null
          not 'sd0: Permission denied' u sd0 ioctl BLKGETSIZE64
          not 'sd0: sense: Permission denied' u sd0 sense
          grep -q 'sd0 last unknown: Permission denied' $T/o
          not 'no node of a device' u sd9; not 'takes no commands' u lp0
          chmod 666 $M/dev/sd0 $M/dev/nst0; [ $(u sd0 ioctl BLKGETSIZE64) = 67108864 ]
          # Of another user's memory only CAP_SYS_PTRACE lets us fetch: 19, missing in containers.
          set=$(awk '/^CapEff/{{print $2}}' /proc/self/status)
          [ $((0x$set >> 19 & 1)) = 0 ] || u sd0 cdb 0 0 0 0 0 0
          u nst0 allocate; grep -q owner= $M/proc/status; u nst0 deallocate
          not 'not reserved by your session' u nst0 deallocate
          chmod 444 $M/dev/sd0; not 'as this wants: Permission denied' u sd0 ioctl BLKZEROOUT 0 512"
    ));
}

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
          d null | grep -qx 'NULL_REVERSE  0xc3e8b510  takes and tells bytes'
          x=$(printf '%01998d' 0); [ $(d null ioctl NULL_REVERSE a5$x) = ${x}a5 ]
          d null --json | tr -d ' \\n' | grep -qF '\"takes\":[\"bytes\"],\"tells\":[\"bytes\"]'
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
        ("sd0 ioctl 0x5401", "0x5401: Inappropriate ioctl for device"),
        ("sd0 serial", "serial: Inappropriate ioctl for device"),
        ("sd9 status", "no node of a device"),
        ("lp0", "takes no commands"),
        ("zero ioctl NULL_REVERSE --in 00", "NULL_REVERSE: of driver mem only null takes it"),
        ("zero", "devctl: zero: it takes no commands"),
        ("ctl", "devctl: ctl: no device, but what commands to the machine go to: spindle ctl help"),
        ("proc/status", "devctl: proc/status: no device, but a report: cat "),
        ("proc", "devctl: proc: no device, but a directory: ls "),
        ("lp0 ioctl 0x5401", "0x5401: Inappropriate ioctl for device"),
    ];
    for (words, told) in table {
        let said = h.try_sh(&format!("spindle --at $M devctl {words}"));
        assert!(said.status == 1 && said.err.contains(told), "{words}: {said:?}");
    }
    let mistakes = [
        ("sd0 ioctl", "required"),
        ("sd0 cdb zz", "cdb: its bytes are hexadecimal digits"),
        ("sd0 cdb 12 00 00", "cdb: a command block has 6 to 32 bytes, not 3"),
        ("sd0 cdb 12 0 0 0 24 0 --in x", "cdb: --in wants pairs of hexadecimal digits"),
        ("sd0 ioctl BLKROSET", "BLKROSET: wants 1 arguments: flag; got 0"),
        ("sd0 ioctl BLKDISCARD 1", "BLKDISCARD: wants 2 arguments: start length; got 1"),
        ("sd0 ioctl BLKGETSIZE 1", "BLKGETSIZE: takes no arguments"),
        ("sd0 ioctl 0xc0046d7f 1", "of unknown structure: give its bytes by --in"),
        ("sd0 ioctl BLKROSET x", "flag: a number of 4 bytes is wanted, not \"x\""),
        ("null ioctl NULL_REVERSE 00", "bytes: hexadecimal digits of 1000 bytes is wanted"),
        ("ttyS0 serial 9600,9", "serial: a character has 5, 6, 7 or 8 bits"),
        ("ttyS0 serial 9600,8,half", "\"half\" is no parity"),
        ("ttyS0 serial 7", "\"7\" is no rate from 15 to 921600"),
        ("sd0 writev --hex 0", "writev --hex: pairs of hexadecimal digits, not \"0\""),
        ("sd0 frobnicate", "no such thing to do: frobnicate; there are list, ioctl, status,"),
        ("sd0 statsu 1", "no such thing to do: statsu (did you mean status?); there are"),
        ("sd0 sd1", "is it to be done with several nodes?"),
    ];
    for (words, told) in mistakes {
        let said = h.try_sh(&format!("spindle --at $M devctl {words}"));
        assert!(said.status == 2 && said.err.contains(told), "{words}: {said:?}");
        assert!(said.err.starts_with("spindle: "), "{words}: {said:?}");
    }
}

fn serial() {
    let h = House::new();
    h.sh("d() { spindle --at $M devctl \"$@\"; }
          [ $(d ttyS0 serial) = 9600,8,none,1 ]
          [ $(d ttyS0 serial 1200,7,even) = 1200,7,even,1 ]; d ttyS1 serial 1200,7,even
          grep -q 'ttyS0 registers divisor=768 .*lcr=0x1a' $M/proc/serial
          d ttyS0 ioctl TIOCSWINSZ 24 80; [ \"$(d ttyS0 ioctl TIOCGWINSZ)\" = 'rows=24 columns=80' ]
          d ttyS0 ioctl TIOCMGET | grep -Eqx '[0-9]+ DTR RTS( [A-Z ]*)?'
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
