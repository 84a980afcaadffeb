//! Printers on real mounts: what they print on, what can go wrong with them, banners, classes.

use crate::house::{House, wait_for};
use crate::spool::{drained, out, sh, try_sh};
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("sp_banners_tell_whose_a_job_is", &[], banners),
    check("sp_a_job_is_held_until_its_time", &[], held_until),
    check("sp_a_job_beyond_the_queues_limit_is_refused", &[], size_limit),
    check("sp_a_limit_of_the_hosts_files_ends_no_daemon", &["prlimit"], host_limit),
    check("sp_10_a_class_prefers_its_first_idle_printer", &[], class_order),
    check("sp_10_a_class_passes_over_what_cannot_print", &[], class_members),
    check("sp_a_ribbon_stops_it_between_two_letters", &[], ribbon),
    check("sp_linux_commands_of_the_hardware", &["python3"], lp_commands),
    check("rs_02_a_printer_is_one_openers", &[], one_opener),
    check("bu_06_what_is_written_is_copied", &[], copied),
    check("sp_a_file_a_job_and_its_directory_removed", &[], directory),
    check("sp_a_command_that_fails_or_never_ends", &["pgrep"], command),
    check("sp_a_command_that_fails_takes_no_job_in_virtual_time", &[], virtual_command),
    check("sp_a_printer_on_the_network_goes_and_comes", &["python3"], network),
    check("sp_a_full_journal_refuses_and_keeps", &["root"], full_journal),
    check("sp_lpstat_and_lpc_say_it_in_their_words", &[], words),
    check("sp_nothing_to_do_is_said", &[], nothing_to_do),
    check("sp_what_is_refused_leaves_nothing_behind", &[], refusals),
    check("sp_lpr_obeys_the_flags_of_its_manual", &["pr"], flags),
    check("sp_lprs_user_is_roots_to_name", &["root", "setpriv"], other_owner),
];

/// A machine described by the default one and `more`.
fn described(more: &str, args: &[&str]) -> House {
    let h = House::unmounted(&[]);
    sh(&h, &format!("spindle --print-machine >$T/my.toml; cat >>$T/my.toml <<'END'\n{more}\nEND"));
    let rest = args.join(" ");
    sh(&h, &format!("spindle mount $M --state $S --machine $T/my.toml {rest}"));
    h
}

/// No number, no line of the log, no trouble of a job that is gone.
fn refusals() {
    let h = House::with(&["--set", "lp1.sink=|no-such-thing --x"]);
    let absent = "lp1: its command no-such-thing is not to be found";
    wait_for("a warning", || {
        try_sh(&h, "spindle lpq -P lp1").out == format!("{absent}\nno entries")
    });
    sh(&h, &format!("grep -q 'WARN.*{absent}' $S/log"));
    sh(
        &h,
        "spindle lpc stop lp0; : >$T/empty
          for file in /nonexistent $T/empty $T; do ! spindle lpr $file 2>/dev/null; done
          ! spindle lpr </dev/null 2>/dev/null; ! spindle lpr -p </dev/null 2>/dev/null
          echo x | spindle lp | grep -q '^request id is lp0-1 '; [ ! -s $M/spool/lp0/.log ]
          spindle lpq | grep -q ' 1 *(standard input)'
          spindle lpc disable lp0; echo x >$T/full; spindle lpr $T/full 2>$T/e && exit 1
          grep -qx 'spindle: lpr: Printer queue is disabled' $T/e; [ ! -s $M/spool/lp0/.log ]",
    );
    sh(&h, "echo x | spindle lpr -P lp1");
    wait_for("its failure", || try_sh(&h, "spindle lpq -P lp1").out.contains("tried again"));
    sh(&h, "spindle lprm -P lp1 -; [ \"$(spindle lpq -P lp1)\" = 'no entries' ]");
}

fn banners() {
    let h = described(
        "[[queue]]\nname = \"lp0\"\nbanner = \"short\"\n\
         [[queue]]\nname = \"lp1\"\nbanner = \"long\"",
        &[],
    );
    sh(
        &h,
        "echo text | spindle lpr -C secret -J Quarterly; echo plain | spindle lpr -h
          echo text | spindle lpr -P lp1 -C urgent -J report; echo x >$M/spool/lp0/named",
    );
    drained(&h, "lp0");
    drained(&h, "lp1");
    let (text, me) = (out(&h, "lp0.out"), sh(&h, "id -un"));
    assert!(text.starts_with(&format!("secret:{me}  Job: Quarterly  Date: ")), "{text:?}");
    assert!(text.contains("\n\r\u{c}text\nplain\n"), "{text:?}");
    assert!(text.contains(&format!("\n{me}  Job: named  Date: ")), "{text:?}");
    let text = out(&h, "lp1.out");
    assert!(text.contains("\t\t\t\t\tJob:  report\n\r\t\t\t\t\tDate: "), "{text:?}");
    assert!(text.ends_with("\u{c}text\n") && text.lines().count() > 30, "{text:?}");
}

fn held_until() {
    let h = House::new();
    sh(
        &h,
        "spindle lpc stop lp0; echo a >$M/spool/lp0/a; echo b >$M/spool/lp0/b
          echo \"until 1 $(($(date +%s) + 2))\" >$M/spool/lp0/.ctl
          spindle lp -i lp0-2 -H 23:59; spindle lpq | grep -c '^held ' | grep -qx 2
          spindle lpc start lp0; [ ! -s $S/lp0.out ]",
    );
    wait_for("its time", || out(&h, "lp0.out") == "a\n");
    // On paper, and over: one that is called away before its end begins anew.
    wait_for("its end", || sh(&h, "ls $M/spool/lp0") == "2-b");
    // The time outlives the daemon.
    sh(
        &h,
        "echo \"until 2 $(($(date +%s) + 2))\" >$M/spool/lp0/.ctl; spindle umount $M
          spindle mount $M --state $S; spindle lpq | grep -q '^held .* 2 '",
    );
    wait_for("its time", || out(&h, "lp0.out") == "a\nb\n");
    let said = try_sh(&h, "echo x | spindle lp -H 25:00");
    assert!(said.status == 2 && said.err.contains("HH:MM"), "{said:?}");
    sh(&h, "echo now | spindle lp -H 23:58; spindle lp -i 3 -H resume");
    drained(&h, "lp0");
}

fn size_limit() {
    let h = described("[[queue]]\nname = \"lp0\"\nmax_size = \"64K\"", &[]);
    sh(&h, "fill x 65536 >$T/fits; fill x 65537 >$T/long");
    for submit in ["cp $T/long $M/spool/lp0/", "cat $T/long >$M/dev/lp0", "spindle lpr $T/long"] {
        let said = try_sh(&h, submit);
        assert!(said.status == 1 && said.err.contains("File too large"), "{submit}: {said:?}");
    }
    assert_eq!(sh(&h, "ls $M/spool/lp0"), "");
    sh(&h, "cp $T/fits $M/spool/lp0/");
    drained(&h, "lp0");
    sh(&h, "cmp $T/fits $S/lp0.out");
}

fn host_limit() {
    let h = House::new();
    sh(&h, "prlimit --pid $(cat $S/pid) --fsize=204800; head -c 1M /dev/zero >$T/f");
    let said = try_sh(&h, "cp $T/f $M/spool/lp0/");
    assert!(said.status == 1 && said.err.contains("File too large"), "{said:?}");
    // Its output reaches the limit: it waits there, and nobody else does.
    sh(
        &h,
        "head -c 150K /dev/zero >$T/g; cp $T/g $M/spool/lp0/; cp $T/g $M/spool/lp0/
          echo x >$M/spool/lp1/x",
    );
    drained(&h, "lp1");
    wait_for("the trouble to be told", || sh(&h, "spindle lpq").contains("no room for its output"));
    sh(&h, "[ $(stat -c %s $S/lp0.out) = 204800 ]; : >$S/lp0.out");
    drained(&h, "lp0");
    sh(&h, "[ $(stat -c %s $S/lp0.out) = 102400 ]");
}

fn class_order() {
    let h = House::new();
    for n in 0..20 {
        sh(&h, &format!("echo {n} >$M/spool/any/j"));
        drained(&h, "any");
    }
    assert_eq!((out(&h, "lp0.out").lines().count(), out(&h, "lp1.out")), (20, String::new()));
}

fn class_members() {
    let h = House::new();
    for (nth, (hinder, cure)) in [
        ("ctl offline lp0", "ctl online lp0"),
        ("ctl paper lp0 0", "ctl paper lp0 endless"),
        ("spindle lpc stop lp0", "spindle lpc start lp0"),
        ("spindle lpc disable lp0", "spindle lpc enable lp0"),
        ("ctl jam lp0; echo x >$M/spool/lp0/mine", "ctl unjam lp0"),
    ]
    .into_iter()
    .enumerate()
    {
        sh(&h, &format!("{hinder}; echo {nth} >$M/spool/any/j"));
        drained(&h, "any");
        assert!(out(&h, "lp1.out").ends_with(&format!("{nth}\n")), "{hinder}");
        sh(&h, cure);
    }
    drained(&h, "lp0");
    // All are hindered: it waits, and the first that can has it.
    sh(&h, "ctl offline lp0; ctl offline lp1; echo late >$M/spool/any/j; spindle lpq -P any");
    assert!(sh(&h, "spindle lpq -P any").starts_with("lp0: off line; lp1: off line\n"));
    sh(&h, "ctl online lp1");
    drained(&h, "any");
    assert!(out(&h, "lp1.out").ends_with("late\n"));
    // One that fails gives the job to the others at once.
    let h = House::with(&["--set", "lp0.sink=o/%j"]);
    sh(&h, ": >$S/o; for n in 1 2 3; do echo $n >$M/spool/any/j; done");
    drained(&h, "any");
    // The first comes behind what lp1 has begun meanwhile.
    let printed = out(&h, "lp1.out");
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["1", "2", "3"]);
}

fn ribbon() {
    let h = House::with(&["--set", "lp0.ribbon=5"]);
    sh(&h, "echo 'ab cd ef gh' >$M/spool/lp0/x");
    wait_for("the worn ribbon", || sh(&h, "spindle lpq").starts_with("lp0: out of ribbon\n"));
    assert_eq!(out(&h, "lp0.out"), "ab cd e");
    assert_eq!(h.ctl("get lp0.ribbon"), "0");
    h.ctl("ribbon lp0 100");
    drained(&h, "lp0");
    assert_eq!(
        (out(&h, "lp0.out").as_str(), h.ctl("get lp0.ribbon").as_str()),
        ("ab cd ef gh\n", "97")
    );
    h.ctl("set lp0.rate 10K/s");
    assert_eq!(h.ctl("get lp0.rate"), "10K/s");
    assert!(h.refused("ribbon nosuch 3").contains("no printer"));
}

fn lp_commands() {
    let h = House::new();
    sh(&h, "spindle lpc stop lp0");
    wait_for("the printer to be free", || try_sh(&h, ": >$M/dev/rlp0").status == 0);
    sh(
        &h,
        "cat >$T/t.py <<'END'
import array, fcntl, os, subprocess, sys
m = sys.argv[1]
fd = os.open(m + '/dev/rlp0', os.O_WRONLY)
def status():
    a = array.array('i', [0]); fcntl.ioctl(fd, 0x060b, a); return a[0]
assert status() == 0xd8, hex(status())
def ctl(words): subprocess.run(['spindle', '--at', m, 'ctl', words], check=True)
ctl('paper lp0 0'); assert status() == 0x70, hex(status())
ctl('paper lp0 endless'); ctl('offline lp0'); assert status() == 0x40, hex(status())
os.write(fd, b'never printed')
fcntl.ioctl(fd, 0x060c)
ctl('online lp0'); assert status() == 0xd8, hex(status())
for unknown in 0x0601, 0x5401:
    try: fcntl.ioctl(fd, unknown, 1); sys.exit('it knows %x' % unknown)
    except OSError as e: assert e.errno == 25, e
END
          python3 $T/t.py $M; [ ! -s $S/lp0.out ]",
    );
    sh(&h, "spindle lpc start lp0; echo after >$M/dev/lp0");
    drained(&h, "lp0");
    assert_eq!(out(&h, "lp0.out"), "after\n");
}

fn one_opener() {
    let h = House::new();
    sh(&h, "spindle lpc stop lp0");
    wait_for("the printer to be free", || try_sh(&h, ": >$M/dev/rlp0").status == 0);
    sh(
        &h,
        "exec 4>$M/dev/rlp0; ! (echo x >$M/dev/rlp0) 2>$T/err; grep -q busy $T/err
          (echo child >&4); echo parent >&4
          spindle lpc start lp0; echo job >$M/dev/lp0; spindle lpq | grep -q job || true
          [ -z \"$(grep job $S/lp0.out)\" ]; exec 4>&-",
    );
    drained(&h, "lp0");
    assert_eq!(out(&h, "lp0.out"), "child\nparent\njob\n");
}

fn copied() {
    let h = House::with(&["--set", "lp0.rate=240/s"]);
    sh(&h, "spindle lpc stop lp0");
    wait_for("the printer to be free", || try_sh(&h, ": >$M/dev/rlp0").status == 0);
    // 240 bytes take a second, but not their writer's.
    sh(
        &h,
        "fill x 240 >$T/f; begun=$(date +%s%N); cat $T/f >$M/dev/rlp0
          [ $(($(date +%s%N) - begun)) -lt 700000000 ]; [ $(stat -c %s $S/lp0.out) -lt 240 ]",
    );
    wait_for("the bytes", || out(&h, "lp0.out").len() == 240);
}

fn directory() {
    let dir = crate::house::directory();
    let o = dir.path().join("o");
    let sink = format!("lp0.sink={}/%j-%n", o.display());
    let h = House::with(&["--set", &sink]);
    sh(&h, "echo a >$M/spool/lp0/report; echo b | spindle lpr -J ../../x; echo c >$M/dev/lp0");
    drained(&h, "lp0");
    let names = sh(&h, &format!("cd {}; ls; grep -qx a 1-report", o.display()));
    assert_eq!(names, "1-report\n2-_.._x\n3-(standard input)");
    // Removed in mid-job, the directory is made again, and the job is printed whole.
    sh(&h, "ctl set lp0.rate 20K/s; seq 4000 >$T/f; cp $T/f $M/spool/lp0/f");
    let printed = o.join("4-f");
    wait_for("some output", || printed.metadata().is_ok_and(|data| data.len() > 1000));
    std::fs::remove_dir_all(&o).unwrap();
    sh(&h, "ctl set lp0.rate 0/s");
    drained(&h, "lp0");
    sh(&h, &format!("cmp $T/f {}", printed.display()));
    // It cannot be had at all: the job waits, and says why; nothing is lost.
    std::fs::remove_dir_all(&o).unwrap();
    std::fs::write(&o, "in the way").unwrap();
    sh(&h, "cp $T/f $M/spool/lp0/g");
    wait_for("the trouble to be told", || {
        sh(&h, "spindle lpq").contains("failed; it is tried again")
    });
    sh(&h, "spindle lpc status lp0 | grep -q 'printing is enabled'");
    std::fs::remove_file(&o).unwrap();
    drained(&h, "lp0");
    sh(&h, &format!("cmp $T/f {}/5-g", o.display()));
}

fn command() {
    let dir = crate::house::directory();
    let d = dir.path().display();
    // It fails while there is a file `bad`, and hangs while there is one `slow`.
    let sink = format!(
        "lp0.sink=|cat >{d}/in; [ ! -e {d}/bad ] || exit 3; \
         while [ -e {d}/slow ]; do sleep 0.1; done; \
         cat {d}/in >>{d}/out; rm {d}/in"
    );
    let h = House::with(&["--set", &sink]);
    sh(
        &h,
        &format!("touch {d}/bad; seq 5000 >$T/f; cp $T/f $M/spool/lp0/f; cp $T/f $M/spool/lp0/g"),
    );
    wait_for("the trouble to be told", || {
        sh(&h, "spindle lpq").contains("failed; it is tried again")
    });
    sh(&h, &format!("rm {d}/bad; spindle lpc restart lp0"));
    drained(&h, "lp0");
    sh(&h, &format!("cat $T/f $T/f | cmp - {d}/out; rm {d}/out"));
    // A job whose command never ends can be removed, and the command ends with it.
    sh(&h, &format!("touch {d}/slow; cp $T/f $M/spool/lp0/h; echo next >$M/spool/lp0/i"));
    wait_for("it to hang", || {
        dir.path().join("in").metadata().is_ok_and(|data| data.len() > 20000)
    });
    sh(&h, &format!("spindle lprm -P lp0 3; rm {d}/slow"));
    drained(&h, "lp0");
    sh(&h, &format!("[ \"$(cat {d}/out)\" = next ]; ! pgrep -f '^/bin/sh -c cat >{d}'"));
    // And nobody waits for it at the end.
    sh(&h, &format!("touch {d}/slow; cp $T/f $M/spool/lp0/h"));
    wait_for("it to hang", || {
        dir.path().join("in").metadata().is_ok_and(|data| data.len() > 20000)
    });
    h.umount();
    wait_for("its end", || try_sh(&h, &format!("pgrep -f '^/bin/sh -c cat >{d}'")).status != 0);
}

fn virtual_command() {
    let h = House::with(&[
        "--time",
        "virtual",
        "--set",
        "lp0.sink=|exit 3",
        "--set",
        "lp1.sink=|/nonexistent/printer",
    ]);
    sh(
        &h,
        "head -c 51 /dev/zero | tr '\\0' x >$T/f
          for p in lp0 lp1; do spindle lpr -P $p $T/f; done",
    );
    for (queue, sink) in [("lp0", "|exit 3"), ("lp1", "|/nonexistent/printer")] {
        let told = format!("its output {sink} failed; it is tried again");
        wait_for("the tries", || h.log().matches(&told).count() >= 4);
        // The host gets its time between them, and nothing else went wrong.
        assert!(h.log().matches(&told).count() < 10, "{}", h.log());
        sh(
            &h,
            &format!(
                "spindle lpq -P {queue} | grep -q '51 bytes'
                 ! grep printed $M/spool/{queue}/.log"
            ),
        );
    }
    assert!(!h.log().contains("would wait"), "{}", h.log());
    // Gone at once, also while it waits to be tried again.
    sh(&h, "spindle lprm -P lp0 1; spindle lprm -P lp1 2");
    for queue in ["lp0", "lp1"] {
        wait_for("an empty queue", || {
            h.text(&format!("spool/{queue}/.status")).ends_with("no entries\n")
        });
    }
}

fn network() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sink = format!("lp0.sink=tcp://127.0.0.1:{port}");
    let h = House::with(&["--set", &sink]);
    sh(&h, "seq 200000 >$T/f; cp $T/f $M/spool/lp0/f");
    wait_for("the trouble to be told", || {
        sh(&h, "spindle lpq").contains("failed; it is tried again")
    });
    // The first that answers hangs up in mid-job, the second takes all.
    sh(
        &h,
        &format!(
            "cat >$T/t.py <<'END'
import socket, struct, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', {port})); s.listen()
for turn in range(2):
    c, _ = s.accept(); text = b''
    while True:
        got = c.recv(65536); text += got
        if not got: break
        if turn == 0 and len(text) > 100000:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); break
    c.close()
open(sys.argv[1], 'wb').write(text)
END
             timeout 60 python3 $T/t.py $T/got; cmp $T/f $T/got"
        ),
    );
    drained(&h, "lp0");
}

fn full_journal() {
    let h = House::unmounted(&[]);
    sh(&h, "mkdir $T/fs && mount -t tmpfs -o size=2m spool $T/fs; mkdir $T/fs/s; ln -s $T/fs/s $S");
    h.mount();
    sh(
        &h,
        "spindle lpc stop lp0; for n in 1 2 3; do echo $n >$M/spool/lp0/j; done
          dd if=/dev/zero of=$T/fs/fill bs=1k 2>/dev/null || true",
    );
    for refused in ["cp /etc/passwd $M/spool/lp0/", "spindle lpr /etc/passwd", "date >$M/dev/lp0"] {
        let said = try_sh(&h, refused);
        assert!(said.status != 0 && said.err.contains("No space left"), "{refused}: {said:?}");
    }
    // Whatever is answered now, it is true after a crash.
    let removed = try_sh(&h, "rm $M/spool/lp0/2-j").status == 0;
    h.kill();
    sh(&h, "rm $T/fs/fill; fusermount3 -uz $M 2>/dev/null || true");
    h.mount();
    let left = if removed { "1-j\n3-j" } else { "1-j\n2-j\n3-j" };
    assert_eq!(sh(&h, "ls $M/spool/lp0"), left);
    sh(&h, "spindle lpc start lp0");
    drained(&h, "lp0");
    h.umount();
    sh(&h, "umount $T/fs");
}

fn words() {
    let h = House::new();
    sh(&h, "spindle lpc down lp0 paper jam, technician called; spindle lpc up lp0");
    assert_eq!(
        sh(&h, "spindle lpc down lp0 paper jam, technician called"),
        "lp0:\n\tprinter and queuing disabled"
    );
    let text = "Warning: lp0 is down: paper jam, technician called\n\
                Warning: lp0 queue is turned off\npaper jam, technician called\nno entries";
    assert_eq!(sh(&h, "spindle lpq"), text);
    let all = sh(&h, "spindle lpstat -p lp0 -a lp0");
    let mut lines = all.lines();
    assert!(lines.next().unwrap().starts_with("lp0 not accepting requests since "), "{all}");
    assert_eq!(lines.next(), Some("\tpaper jam, technician called"));
    assert!(lines.next().unwrap().starts_with("printer lp0 disabled since "), "{all}");
    assert_eq!(lines.next(), Some("\tpaper jam, technician called"));
    sh(&h, "spindle lpc up lp0");
    let block = "lp0:\n\tqueuing is enabled\n\tprinting is enabled\n\tno entries\n\tprinter idle";
    assert_eq!(sh(&h, "spindle lpc status lp0"), block);
    for (refused, words) in [
        ("spindle lpr /nonexistent", "lpr: cannot open /nonexistent: No such file or directory"),
        ("spindle lpr /etc", "lpr: /etc is a directory"),
        ("spindle lpr /dev/null", "lpr: /dev/null is not a regular file"),
        (": >$T/e; spindle lpr $T/e", "is an empty file"),
        ("spindle lprm 77", "lprm: Job #77 does not exist."),
        ("spindle cancel 77", "cancel: cancel-job failed: Job #77 does not exist."),
        ("spindle lpstat nosuch", "lpstat: Invalid destination name in list \"nosuch\"."),
        ("spindle lpc wibble", "?Invalid command"),
        ("spindle lpc st", "?Ambiguous command"),
        ("spindle lpc stop nosuch", "lpc: nosuch: unknown printer"),
    ] {
        let said = try_sh(&h, refused);
        assert!(said.status == 1 && said.err.contains(words), "{refused}: {said:?}");
    }
    for name in ["lpr", "lpq", "lprm", "lpc", "lp", "lpstat", "cancel", "lpmove"] {
        let help = sh(&h, &format!("spindle {name} --help"));
        assert!(help.contains("Example:"), "{help}");
        sh(&h, &format!("ln -s $(command -v spindle) $T/{name}; $T/{name} --help | grep -q Usage"));
        let said = try_sh(&h, &format!("$T/{name} --wibble"));
        let right = if name == "lpc" { 1 } else { 2 }; // all its words are a command's
        assert_eq!(said.status, right, "{said:?}");
    }
}

/// Commands that find nothing to do say so; a class that cannot print does too.
fn nothing_to_do() {
    let h = House::new();
    sh(&h, "spindle lpc stop lp0; echo a >$M/spool/lp0/a; spindle lpr -P any /etc/passwd");
    drained(&h, "any");
    for (refused, words) in [
        ("spindle lprm nosuchuser", "lprm: nosuchuser: no jobs of that user in lp0"),
        ("echo rm nosuchuser >$M/spool/lp0/.ctl", "No such file"),
        ("spindle cancel -u nosuchuser", "cancel: nosuchuser: no jobs of that user"),
        ("spindle cancel -u nosuchuser nosuch", "cancel: "),
        ("spindle cancel", "cancel: which job? "),
        ("spindle cancel lp1", "cancel: cancel-job failed: lp1: no job is being printed"),
        ("spindle lpr -m /etc/passwd", "lpr: -m: nobody here sends mail"),
        ("spindle lpr -i99999 /etc/passwd", "lpr: -i: 99999: at most"),
        ("spindle lpr - </dev/null", "lpr: standard input is empty"),
    ] {
        let said = try_sh(&h, refused);
        assert!(said.status == 1 && said.err.contains(words), "{refused}: {said:?}");
    }
    for misused in ["lpr -w 60 /etc/passwd", "lpr -l -p /etc/passwd", "lpstat -W soon"] {
        assert_eq!(try_sh(&h, &format!("spindle {misused}")).status, 2, "{misused}");
    }
    assert_eq!(sh(&h, "spindle lprm -P lp1 -"), "no jobs of yours in lp1");
    assert_eq!(sh(&h, "ls $M/spool/lp0"), "1-a", "what was refused has changed something");
    assert_eq!(sh(&h, "spindle cancel -u $(id -un); ls $M/spool/lp0"), "");
    sh(&h, "spindle lpc disable lp1; echo b >$M/spool/any/b");
    let first = sh(&h, "spindle lpq -P any");
    assert!(first.starts_with("lp0: printing disabled; lp1: queuing disabled\nRank"), "{first}");
    sh(&h, "spindle lpc up lp0");
    drained(&h, "any");
}

fn flags() {
    let h = described("[[queue]]\nname = \"lp0\"\nbanner = \"short\"", &[]);
    sh(
        &h,
        "printf 'one\\n\\ntwo\\n' >$T/f; cd $T; spindle lpr -Plp1 -i f; spindle lpr -Plp1 -i 2 f",
    );
    drained(&h, "lp1");
    assert_eq!(out(&h, "lp1.out"), "        one\n\n        two\n  one\n\n  two\n");
    sh(
        &h,
        "rm $S/lp1.out; echo x | spindle lp -d lp1 - | grep -qx 'request id is lp1-3 (0 file(s))'",
    );
    sh(&h, "cd $T; echo y | spindle lp -d lp1 f - f | grep -q '(2 file(s))'");
    drained(&h, "lp1");
    assert_eq!(out(&h, "lp1.out"), "x\none\n\ntwo\ny\none\n\ntwo\n");
    let said = try_sh(&h, "rm $S/lp1.out; spindle lpr -P lp1 -p -w 60 -T Quarterly -s $T/f");
    assert!(said.status == 0 && said.err.contains("-s: the files are copied"), "{said:?}");
    drained(&h, "lp1");
    assert_eq!(sh(&h, "grep -c . $S/lp1.out; grep -o Quarterly $S/lp1.out"), "3\nQuarterly");
    sh(&h, "spindle lpr -T Title $T/f");
    drained(&h, "lp0");
    assert!(out(&h, "lp0.out").contains("Job: Title  Date: "));
    // What is done is told.
    sh(&h, "spindle lpc stop lp0; spindle lpr $T/f; spindle lpr $T/f; spindle lprm 7");
    let done = sh(&h, "spindle lpstat -W completed -l lp0");
    let alerts = "\tAlerts: job-completed-successfully\n\tqueued for lp0";
    assert!(done.starts_with("lp0-7 ") && done.ends_with(alerts), "{done}");
    assert!(done.contains("\tStatus: removed by ") && done.contains("\tStatus: printed on lp0\n"));
    assert!(sh(&h, "spindle lpstat -W all lp0 | cut -d' ' -f1") == "lp0-7\nlp0-6\nlp0-8");
    assert!(sh(&h, "spindle lpstat -W not-completed lp0").starts_with("lp0-8 "));
}

fn other_owner() {
    let h = House::new();
    sh(&h, "chmod 755 $T; spindle lpc stop lp0; spindle lpr -U nobody /etc/passwd");
    sh(&h, "spindle lpr -U stranger /etc/passwd; spindle lpq -l | grep -q '^stranger: 2nd'");
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let lpr = format!("{nobody} spindle --at $M lpr -U root /etc/passwd");
    let said = try_sh(&h, &lpr);
    assert!(said.status == 1 && said.err.contains("only root prints for another"), "{said:?}");
    sh(&h, &format!("{nobody} spindle --at $M lprm 1 | grep -q dequeued; ls $M/spool/lp0"));
    assert_eq!(sh(&h, "ls $M/spool/lp0"), "2-passwd");
}
