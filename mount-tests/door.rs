//! The spool's network door: RFC 1179 and port 9100, by real clients and by one of our own.

use crate::house::{House, wait_for};
use crate::spool::{drained, out, sh};
use crate::{Check, check};

pub const CHECKS: &[Check] = &[
    check("sp_the_network_door_speaks_rfc_1179", &["python3"], network_door),
    check("sp_rlpr_submits_lists_and_removes", &["rlpr"], rlpr),
];

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
    let h = House::unmounted(&[]);
    let port = sh(&h, &format!("{CLIENT}port"));
    let raw = sh(&h, &format!("{CLIENT}port"));
    sh(
        &h,
        &format!(
            "spindle --print-machine >$T/my.toml
             printf '[jetdirect]\\nlp1 = \"127.0.0.1:{raw}\"\\n' >>$T/my.toml
             spindle mount $M --state $S --set lpd.listen=127.0.0.1:{port} --machine $T/my.toml
             spindle lpc stop lp0; cd $T; cat >t.py <<'END'
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

fn rlpr() {
    let h = House::unmounted(&[]);
    let port = sh(&h, &format!("{CLIENT}port"));
    sh(
        &h,
        &format!(
            "spindle mount $M --state $S --set lpd.listen=127.0.0.1:{port}; spindle lpc stop lp0
             seq 100 >$T/f; rlpr --port={port} -Plp0@127.0.0.1 $T/f 2>/dev/null
             echo x | rlpr --port={port} -Plp0@127.0.0.1 2>/dev/null
             rlpq --port={port} -Plp0@127.0.0.1 2>/dev/null | grep -q '2nd'
             rlprm --port={port} -Plp0@127.0.0.1 2 2>/dev/null | grep -q dequeued
             spindle lpc start lp0"
        ),
    );
    drained(&h, "lp0");
    sh(&h, "cmp $T/f $S/lp0.out");
}
