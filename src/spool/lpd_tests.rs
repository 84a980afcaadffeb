//! Clients of RFC 1179 without a socket: what they may send, and what must come of it.

use super::*;
use crate::spool::{QueueSettings, Settings};
use devices::engine::{Engine, Time};
use proptest::prelude::*;

/// A client that has sent all it will, and what it was told.
struct Wire<'a> {
    input: &'a [u8],
    said: Vec<u8>,
    /// How much a read brings.
    piece: usize,
}

impl Read for Wire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let len = self.piece.min(buf.len());
        self.input.read(&mut buf[..len])
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.said.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Office {
    spool: Arc<Spool>,
    dir: tempfile::TempDir,
}

fn office() -> Office {
    let dir = tempfile::tempdir().unwrap();
    let lp0 = QueueSettings { name: "lp0".into(), bytes_max: Some(4096), ..Default::default() };
    let spool = Spool::open(Settings {
        dir: dir.path().to_owned(),
        owner: (0, 0),
        queues: vec![lp0],
        printers: Vec::new(),
        engine: Engine::new(Time::Simulated),
    });
    Office { spool: spool.unwrap(), dir }
}

impl Office {
    fn hear(&self, input: &[u8], piece: usize) -> (Vec<u8>, std::io::Result<()>) {
        let mut wire = Wire { input, said: Vec::new(), piece };
        let outcome = Client { spool: &self.spool, stream: &mut wire }.serve();
        (wire.said, outcome)
    }

    /// Jobs, in order: owner, name, bytes.
    fn jobs(&self) -> Vec<(String, String, String)> {
        let core = self.spool.core.lock();
        let bytes = |job: &Job| std::fs::read(self.spool.data("lp0", job.id)).unwrap();
        let shown = |job: &&Job| {
            let text = String::from_utf8_lossy(&bytes(job)).into_owned();
            (job.agent.clone(), job.title(), text)
        };
        core.ranked("lp0").iter().map(shown).collect()
    }

    /// Nothing of a connection that has ended is left but its jobs.
    fn is_clean(&self) -> bool {
        let names = std::fs::read_dir(self.dir.path()).unwrap();
        let no_rest = names.flatten().all(|e| !e.file_name().as_encoded_bytes().starts_with(b"."));
        let core = self.spool.core.lock();
        no_rest && core.written.is_empty() && core.jobs.values().all(|job| job.size > 0)
    }
}

fn cf(tag: &str, user: &str, files: &[&str]) -> Vec<u8> {
    let lines: String = files.iter().map(|file| format!("fdf{file}\nN{file}\n")).collect();
    let text = format!("Hvm\nP{user}\nJjob{tag}\n{lines}");
    [format!("\x02{} cf{tag}\n", text.len()).into_bytes(), text.into_bytes(), vec![0]].concat()
}

fn df(tag: &str, text: &str) -> Vec<u8> {
    format!("\x03{} df{tag}\n{text}\0", text.len()).into_bytes()
}

#[test]
fn files_of_several_jobs_may_come_in_any_order_and_keep_their_bytes() {
    let office = office();
    let parts = [
        b"\x02lp0\n".to_vec(),
        df("A1h", "one"),
        df("B1h", "two"),
        cf("A1h", "alice", &["A1h"]),
        df("C1h", "three"), // must not take the place of what waits
        cf("B1h", "bob", &["B1h"]),
        cf("C1h", "carol", &["C1h"]),
    ];
    let (said, outcome) = office.hear(&parts.concat(), usize::MAX);
    outcome.unwrap();
    assert_eq!(said, [0; 13]);
    let jobs = office.jobs();
    let bytes: Vec<&str> = jobs.iter().map(|(.., bytes)| bytes.as_str()).collect();
    assert_eq!(bytes, ["one", "two", "three"], "{jobs:?}");
    assert!(office.is_clean());
}

#[test]
fn a_job_of_two_files_shows_both_and_their_sizes() {
    let office = office();
    let parts = [
        b"\x02lp0\n".to_vec(),
        cf("A1h", "alice", &["A1h", "B1h"]),
        df("A1h", "one"),
        df("B1h", "three"),
    ];
    office.hear(&parts.concat(), 1).1.unwrap();
    let view = office.spool.view("lp0");
    assert_eq!(view.jobs[0].files, [("A1h".to_owned(), 3), ("B1h".to_owned(), 5)]);
    assert!(view.short().contains("A1h, B1h"), "{}", view.short());
}

#[test]
fn what_is_not_whole_is_dropped() {
    for cut in [3, 8, 30, 60, 70, 75] {
        let office = office();
        let all = [b"\x02lp0\n".to_vec(), cf("A1h", "a", &["A1h"]), df("A1h", "bytes")].concat();
        let _ = office.hear(&all[..cut.min(all.len() - 1)], usize::MAX);
        assert!(office.jobs().is_empty() && office.is_clean(), "cut at {cut} of {}", all.len());
    }
    let office = office();
    let all = [b"\x02lp0\n".to_vec(), df("A1h", "x"), b"\x01\n".to_vec(), cf("A1h", "a", &["A1h"])];
    office.hear(&all.concat(), usize::MAX).1.unwrap();
    assert!(office.jobs().is_empty(), "aborted by its client");
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    let office = office();
    assert_eq!(office.hear(b"\x02lp0\n\x035000 dfA1h\n", 9).0, [0, 2]);
    assert_eq!(office.hear(b"\x02lp0\n\x0270000 cfA1h\n", 9).0, [0, 2]);
    assert_eq!(office.hear(b"\x02lp0\n\x033 ../../etc/x\n", 9).0, [0, 1]);
    let line = [b"\x03lp0 ".to_vec(), vec![b'x'; 5000]].concat();
    assert!(office.hear(&line, 999).1.is_err(), "a line without end");
    assert!(office.is_clean());
}

#[test]
fn an_agent_removes_its_own_and_nobody_elses() {
    let office = office();
    for (tag, user) in [("A1h", "alice"), ("A2h", "bob"), ("A3h", "root")] {
        let all = [b"\x02lp0\n".to_vec(), cf(tag, user, &[tag]), df(tag, "x")].concat();
        office.hear(&all, usize::MAX).1.unwrap();
    }
    let said = |input: &[u8]| String::from_utf8(office.hear(input, 99).0).unwrap();
    assert_eq!(said(b"\x05lp0 root 1\n"), "1-jobA1h: Permission denied\n");
    assert_eq!(said(b"\x05lp0 alice all\n"), "1-jobA1h dequeued\n");
    assert_eq!(said(b"\x05lp0 -all\n"), "3-jobA3h dequeued\n", "root's own");
    assert_eq!(said(b"\x05lp0 alice\n"), "", "nothing is being printed");
    assert_eq!(said(b"\x05lp0 bob bob\n"), "2-jobA2h dequeued\n");
    assert_eq!(said(b"\x03nosuch\n"), "nosuch: unknown printer\n");
    assert_eq!(said(b"\x02nosuch\n"), "\x01nosuch: unknown printer\n");
}

#[test]
fn a_clients_own_number_is_understood_where_it_is_none_of_ours() {
    let office = office();
    for (tag, user) in [("A900vm", "alice"), ("A002vm", "alice"), ("A900vm", "bob")] {
        let all = [b"\x02lp0\n".to_vec(), cf(tag, user, &[tag]), df(tag, "x")].concat();
        office.hear(&all, usize::MAX).1.unwrap();
    }
    let said = |input: &[u8]| String::from_utf8(office.hear(input, 99).0).unwrap();
    let listed = said(b"\x03lp0 900\n");
    let rows: Vec<&str> = listed.lines().filter(|row| row.contains("bytes")).collect();
    assert_eq!(rows.len(), 2, "{listed}");
    assert!(rows[0].starts_with("1st    alice") && rows[1].starts_with("3rd    bob"), "{listed}");
    assert_eq!(said(b"\x03lp0 2\n").lines().count(), 3, "job 2 is ours, whatever a client says");
    assert_eq!(said(b"\x05lp0 alice 900\n"), "1-jobA900vm dequeued\n");
    assert_eq!(said(b"\x05lp0 alice 900\n"), "", "the other one is bob's");
    assert_eq!(said(b"\x05lp0 bob 900\n"), "3-jobA900vm dequeued\n");
}

/// What a client may send: mostly right, in every order, with anything in it.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop_oneof![Just("A1h"), Just("B1h"), Just("A999host")];
    let piece = prop_oneof![
        4 => (tag.clone(), "[a-z\n]{0,20}").prop_map(|(tag, text)| df(tag, &text)),
        4 => (tag.clone(), "[a-z]{0,5}").prop_map(|(tag, user)| cf(tag, &user, &[tag])),
        1 => (any::<u64>(), tag).prop_map(|(n, tag)| format!("\x03{n} df{tag}\n").into_bytes()),
        1 => Just(b"\x01\n".to_vec()),
        1 => Just(vec![0]),
        1 => prop::collection::vec(any::<u8>(), 0..30),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_client_breaks_the_door(
        command in prop_oneof![4 => Just(2_u8), 1 => any::<u8>()],
        queue in prop_oneof![4 => Just("lp0".to_owned()), 1 => "[ -~]{0,9}"],
        pieces in pieces(),
        piece in 1_usize..64,
    ) {
        let office = office();
        let input = [&[command], queue.as_bytes(), b"\n", &pieces].concat();
        let (said, _) = office.hear(&input, piece);
        prop_assert!(said.len() < 4096);
        prop_assert!(office.is_clean());
        // What was acknowledged is there after a crash.
        let before = office.jobs();
        let again = Spool::open(Settings {
            dir: office.dir.path().to_owned(),
            owner: (0, 0),
            queues: vec![QueueSettings { name: "lp0".into(), ..Default::default() }],
            printers: Vec::new(),
            engine: Engine::new(Time::Simulated),
        });
        let again = again.unwrap();
        prop_assert_eq!(again.core.lock().ranked("lp0").len(), before.len());
    }
}
