//! The spool's network door: RFC 1179 and port 9100, by real clients and by one of our own.

use crate::house::{House, wait_for};
use crate::spool::{drained, out, sh};
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("sp_the_network_door_speaks_rfc_1179", &["python3"], network_door),
    check("sp_a_silent_client_holds_nobody_up", &["python3"], silent),
    check("sp_rlpr_submits_lists_and_removes", &["python3", RLPR], rlpr),
    check("sp_lprng_submits_lists_and_removes", &["root", "unshare", "python3", LPRNG], lprng),
    check("sp_bsd_lpr_submits_lists_and_removes", &["root", "unshare", "python3", BSD], bsd),
];

/// Where `scripts/clients` puts the clients.
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients");
const RLPR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/rlpr/usr/bin/rlpr");
const LPRNG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/lprng/usr/bin/lpr");
const BSD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/lpr/usr/sbin/lpd");

/// A client of RFC 1179 in a few lines, and a port that nobody has.
const CLIENT: &str = r#"cat >$T/lpd.py <<'END'
import socket, sys
port = int(sys.argv[1])
def talk(*parts, end=True):
    s = socket.create_connection(("127.0.0.1", port)); out = b""
    for part in parts:
        s.sendall(part)
        if end: out += s.recv(1)
    if not end:
        while True:
            got = s.recv(4096)
            if not got: break
            out += got
    s.close(); return out
def cf(n, user="alice", name="report"):
    return f"Hvm\nP{user}\nJ{name}\nfdfA{n:03}vm\nN{name}\n".encode()
def files(n, text, first="cf", **kw):
    c = cf(n, **kw)
    control = (b"\2%d cfA%03dvm\n" % (len(c), n), c + b"\0")
    data = (b"\3%d dfA%03dvm\n" % (len(text), n), text + b"\0")
    return control + data if first == "cf" else data + control
END
port() { python3 -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
"#;

fn network_door() {
    let (h, port, raw) = with_both_doors();
    sh(
        &h,
        &format!(
            "spindle lpc stop lp0; cd $T; cat >t.py <<'END'
from lpd import *
two = files(1, b'two\\n', first='df', name='second')
assert talk(b'\\2lp0\\n', *files(1, b'one\\n'), *two) == b'\\0' * 9
assert talk(b'\\2nosuch\\n') == b'\\1'
talk(b'\\2lp0\\n', *files(3, b'never')[:3])          # hung up in mid-job
text = talk(b'\\3lp0\\n', end=False).decode()
assert 'alice      1    report' in text and '2nd    alice      2    second' in text, text
assert 'never' not in text and text.count('alice') == 2, text
assert b'denied' in talk(b'\\5lp0 root 1\\n', end=False)
assert b'1-report dequeued' in talk(b'\\5lp0 alice 1\\n', end=False)
END
             python3 t.py {port}; spindle lpc disable lp0
             python3 -c \"from lpd import *; assert talk(b'\\2lp0\\n') == b'\\1'\" {port}
             spindle lpc enable lp0; spindle lpc start lp0
             [ -z \"$(ls -d $S/spool/.inc* 2>/dev/null)\" ]
             printf raw >/dev/tcp/127.0.0.1/{raw}"
        ),
    );
    drained(&h, "lp0");
    wait_for("the raw job", || out(&h, "lp1.out") == "raw");
    assert_eq!(out(&h, "lp0.out"), "two\n");
}

/// A machine whose two doors are open, and their ports: the line printer's, and the one that takes
/// lp1's jobs raw.
fn with_both_doors() -> (House, String, String) {
    let h = House::unmounted(&[]);
    let port = sh(&h, &format!("{CLIENT}port"));
    let raw = sh(&h, &format!("{CLIENT}port"));
    sh(
        &h,
        &format!(
            "spindle --print-machine >$T/my.toml
             printf '[jetdirect]\\nlp1 = \"127.0.0.1:{raw}\"\\n' >>$T/my.toml
             spindle mount $M --state $S --set lpd.listen=127.0.0.1:{port} --machine $T/my.toml"
        ),
    );
    (h, port, raw)
}

/// A machine whose door is open at `host`, lp0 stopped and a file to print; and the door's port.
fn with_door(host: &str) -> (House, String) {
    let h = House::unmounted(&[]);
    let port = sh(&h, &format!("{CLIENT}port"));
    sh(
        &h,
        &format!(
            "spindle mount $M --state $S --set lpd.listen={host}:{port}; spindle lpc stop lp0
             seq 100 >$T/f; seq 7 >$T/g"
        ),
    );
    (h, port)
}

fn rlpr() {
    let (h, port) = with_door("127.0.0.1");
    let at = format!("--port={port} -Plp0@127.0.0.1");
    sh(
        &h,
        &format!(
            "PATH=$PATH:{CLIENTS}/rlpr/usr/bin; exec 2>/dev/null
             rlpr {at} $T/f; echo x | rlpr {at}; rlpr {at} -J title -#2 $T/g
             rlpq {at} | grep -q '^3rd .* title .* 28 bytes'; rlpq -l {at} | grep -q '2  copies of'
             rlprm {at} 2 | grep -q dequeued; rlpq {at} | grep -q '^2nd .* title '
             spindle lpc start lp0"
        ),
    );
    drained(&h, "lp0");
    sh(&h, "cat $T/f $T/g $T/g | cmp - $S/lp0.out");
}

/// Runs a script as if the host had the configuration of the clients: its own /etc, the port of
/// the door as that of printers, and nothing left when it ends.
fn in_another_etc(h: &House, port: &str, script: &str) -> String {
    let script = format!(
        "set -eu; cp -a /etc $T/etc; mkdir -p $T/etc/lprng $T/spool; : >$T/etc/printcap
         cp {CLIENTS}/lprng/etc/lprng/* $T/etc/lprng/ 2>/dev/null || :
         grep -v '^printer' /etc/services >$T/etc/services || :
         echo 'printer {port}/tcp spooler' >>$T/etc/services
         mount --bind $T/etc /etc; mount -t tmpfs spool /var/spool; mount -t tmpfs run /run
         {script}"
    );
    std::fs::write(h.scratch().join("script"), script).unwrap();
    sh(h, "timeout 120 unshare -mpf --kill-child --mount-proc sh $T/script")
}

fn lprng() {
    let (h, port) = with_door("127.0.0.1");
    let at = format!("-Plp0@127.0.0.1%{port}");
    in_another_etc(
        &h,
        &port,
        &format!(
            "PATH={CLIENTS}/lprng/usr/bin:$PATH; cd $T
             lpr {at} f; lpr {at} -J title f g; echo stdin | lpr {at}; lpr {at} g
             lpq {at} >q; grep -q '^root: 2nd .*job 002' q; grep -q '(standard input) ' q
             lpq -s {at} | grep -q '^root: 3rd\\|^3rd '; lprm {at} 3 >q; grep -q dequeued q
             lpq {at} | grep -q '^root: 3rd .*job 004'; lpr {at} g; lprm {at} 5"
        ),
    );
    sh(&h, "spindle lpc start lp0");
    drained(&h, "lp0");
    sh(&h, "cat $T/f $T/f $T/g $T/g | cmp - $S/lp0.out; spindle lpc stop lp0");
    in_another_etc(
        &h,
        &port,
        &format!(
            "PATH={CLIENTS}/lprng/usr/bin:$PATH; cd $T; lpr {at} f; lpr {at} g; lprm {at} all >q
             [ $(grep -c dequeued q) = 2 ]; lpq {at} | grep -q 'no entries'"
        ),
    );
}

fn bsd() {
    // Any address of our own interfaces it would take for its own queue, but this one.
    let (h, port) = with_door("127.0.0.2");
    in_another_etc(
        &h,
        &port,
        &format!(
            "PATH={CLIENTS}/lpr/usr/bin:$PATH; cd $T
             mkdir -p /var/spool/lpd/lp0; chown lp:lp /var/spool/lpd /var/spool/lpd/lp0
             chmod 775 /var/spool/lpd/lp0
             echo 'lp0:rm=127.0.0.2:rp=lp0:sd=/var/spool/lpd/lp0:mx#0:' >/etc/printcap
             {CLIENTS}/lpr/usr/sbin/lpd -s
             trap 'kill $(cat /run/lpd.pid); rm -f /dev/printer' EXIT
             until [ -e /dev/printer ]; do sleep 0.01; done
             # Several jobs come in one connection; their order is its own affair.
             lpr -Plp0 -J first f; until lpq -Plp0 | grep -q ' first '; do sleep 0.05; done
             lpr -Plp0 -#2 g; until lpq -Plp0 | grep -q '^2nd .* 28 bytes'; do sleep 0.05; done
             lpr -Plp0 -J many f g; until lpq -Plp0 | grep -q '^3rd .* f, g '; do sleep 0.05; done
             for n in 1 2 3; do lpr -Plp0 -J n$n g; done
             until [ $(lpq -Plp0 | grep -c ' n[123] ') = 3 ]; do sleep 0.05; done
             lpq -Plp0 -l | grep -q '2  copies of'
             lprm -Plp0 3 | grep -q '3-many dequeued'; ! lpq -Plp0 | grep -q many
             lprm -Plp0 - | grep -c dequeued | grep -qx 5; lpq -Plp0 | grep -q 'no entries'
             lpr -Plp0 f; until lpq -Plp0 | grep -q '^1st .* 7    f '; do sleep 0.05; done"
        ),
    );
    sh(&h, "spindle lpc start lp0");
    drained(&h, "lp0");
    sh(&h, "cmp $T/f $S/lp0.out; [ ! -e /dev/printer ]");
}

fn silent() {
    let (h, port, raw) = with_both_doors();
    // One that hangs up in mid-job with a reset is no job; one after it is.
    let client = |port: &str| std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    sh(
        &h,
        &format!(
            "python3 -c \"
import socket, struct
s = socket.create_connection(('127.0.0.1', {raw})); s.sendall(b'torn' * 9999)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()\"
             printf whole >/dev/tcp/127.0.0.1/{raw}"
        ),
    );
    wait_for("the whole job", || out(&h, "lp1.out") == "whole");
    let _silent = [client(&raw), client(&port)];
    let begun = std::time::Instant::now();
    h.umount();
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}
