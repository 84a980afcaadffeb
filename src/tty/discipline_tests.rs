//! The discipline by what is typed, read, echoed and sent.

use super::*;

struct Desk {
    discipline: Discipline,
    effects: Effects,
}

/// A terminal with the default settings, changed by `change`.
fn desk(change: impl FnOnce(&mut Termios)) -> Desk {
    let mut termios = Termios::default();
    change(&mut termios);
    let mut discipline = Discipline::default();
    discipline.set_termios(termios);
    Desk { discipline, effects: Effects::default() }
}

fn raw(change: impl FnOnce(&mut Termios)) -> Desk {
    desk(|t| {
        (t.iflag, t.oflag, t.lflag) = (0, 0, 0);
        change(t);
    })
}

impl Desk {
    fn kind(&mut self, text: &[u8], mark: Mark) {
        for byte in text {
            self.discipline.receive(Heard { byte: *byte, mark }, &mut self.effects);
        }
    }

    /// Types, and answers the echo.
    fn typed(&mut self, text: &[u8]) -> String {
        self.kind(text, Mark::Good);
        String::from_utf8(std::mem::take(&mut self.effects.echo)).unwrap()
    }

    fn read(&mut self) -> Vec<u8> {
        self.discipline.read(4096)
    }

    fn sent(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(self.discipline.write(text, 4096, &mut out), text.len());
        out
    }
}

#[test]
fn a_line_is_read_when_it_is_finished_and_not_more_than_one() {
    let mut desk = desk(|_| {});
    assert_eq!(desk.typed(b"one"), "one");
    assert!(!desk.discipline.has_input(1));
    assert_eq!(desk.typed(b"\rtwo\n"), "\r\ntwo\r\n");
    assert!(desk.discipline.has_input(1));
    assert_eq!(desk.discipline.read(2), b"on");
    assert_eq!(desk.read(), b"e\n");
    assert_eq!(desk.read(), b"two\n");
    assert_eq!(desk.read(), b"");
}

#[test]
fn an_end_of_file_ends_a_line_without_a_character() {
    let mut desk = desk(|_| {});
    desk.typed(b"no newline\x04");
    assert_eq!(desk.read(), b"no newline");
    assert!(!desk.discipline.has_input(1));
    desk.typed(b"\x04next\n");
    assert!(desk.discipline.has_input(1));
    assert_eq!(desk.read(), b"");
    assert_eq!(desk.read(), b"next\n");
    desk.typed(b"abc\x04");
    assert_eq!(desk.discipline.read(3), b"abc");
    assert!(!desk.discipline.has_input(1));
}

#[test]
fn a_line_can_be_edited() {
    let cases: [(&[u8], &[u8], &str); 8] = [
        (b"ab\x7f\x7fxyz\n", b"xyz\n", "ab\x08 \x08\x08 \x08xyz\r\n"),
        (b"\x7fa\n", b"a\n", "a\r\n"),
        (b"a\x01\x7f\n", b"a\n", "a^A\x08 \x08\x08 \x08\r\n"),
        (b"ab\x15c\n", b"c\n", "ab\x08 \x08\x08 \x08c\r\n"),
        (b"a b-c \x17d\n", b"a b-d\n", "a b-c \x08 \x08\x08 \x08d\r\n"),
        (b"\x16\x7f\n", b"\x7f\n", "^\x08^?\r\n"),
        (b"ab\x12c\n", b"abc\n", "ab^R\r\nabc\r\n"),
        (b"a\tb\x7f\x7fc\n", b"ac\n", "a\tb\x08 \x08\x08\x08\x08\x08\x08\x08\x08c\r\n"),
    ];
    for (typed, read, echo) in cases {
        let mut desk = desk(|_| {});
        assert_eq!(desk.typed(typed), echo, "{typed:?}");
        assert_eq!(desk.read(), read, "{typed:?}");
    }
}

#[test]
fn echo_has_its_variants() {
    let without = |flags: u32| move |t: &mut Termios| t.lflag &= !flags;
    assert_eq!(desk(without(ECHO)).typed(b"a\x7f\n"), "");
    assert_eq!(desk(|t| t.lflag = ICANON | ECHONL).typed(b"a\n"), "\r\n");
    assert_eq!(desk(without(ECHOE)).typed(b"ab\x7f"), "ab^?");
    assert_eq!(desk(without(ECHOKE)).typed(b"ab\x15"), "ab^U\r\n");
    assert_eq!(desk(without(ECHOKE | ECHOK)).typed(b"ab\x15"), "ab^U");
    assert_eq!(desk(without(ECHOCTL)).typed(b"\x01"), "\x01");
}

#[test]
fn a_character_of_several_bytes_is_erased_whole() {
    let mut desk = desk(|t| t.iflag |= IUTF8);
    assert_eq!(desk.typed("a\u{e9}\x7f".as_bytes()), "a\u{e9}\x08 \x08");
    desk.typed(b"\n");
    assert_eq!(desk.read(), b"a\n");
}

#[test]
fn input_is_mapped() {
    let cases: [(u32, &[u8], &[u8]); 7] = [
        (ICRNL, b"\r\n", b"\n\n"),
        (INLCR, b"\r\n", b"\r\r"),
        (IGNCR, b"\r\n", b"\n"),
        (IGNCR | ICRNL, b"\r\n", b"\n"),
        (ISTRIP, b"\xe1", b"a"),
        (PARMRK, b"\xff", b"\xff\xff"),
        (0, b"\xff\r\n\x03\x11\x13", b"\xff\r\n\x03\x11\x13"),
    ];
    for (flags, typed, read) in cases {
        let mut desk = raw(|t| t.iflag = flags);
        desk.typed(typed);
        assert_eq!(desk.read(), read, "{flags:o}");
    }
    let mut desk = raw(|t| (t.iflag, t.lflag) = (IUCLC, IEXTEN));
    desk.typed(b"AbC");
    assert_eq!(desk.read(), b"abc");
}

#[test]
fn output_is_mapped() {
    let cases: [(u32, &[u8], &[u8]); 7] = [
        (0, b"a\r\n\t", b"a\r\n\t"),
        (OPOST, b"a\r\n\t", b"a\r\n\t"),
        (OPOST | ONLCR, b"a\n", b"a\r\n"),
        (OPOST | OCRNL, b"a\r", b"a\n"),
        (OPOST | ONOCR, b"\ra\r", b"a\r"),
        (OPOST | OLCUC, b"aB\n", b"AB\n"),
        (OPOST | XTABS, b"ab\tc\t", b"ab      c       "),
    ];
    for (flags, written, sent) in cases {
        assert_eq!(raw(|t| t.oflag = flags).sent(written), sent, "{flags:o}");
    }
}

#[test]
fn a_write_stops_where_the_room_ends() {
    let mut desk = desk(|_| {});
    let mut out = Vec::new();
    let taken = desk.discipline.write(&[b'\n'; 100], 20, &mut out);
    assert!(taken > 0 && out.len() <= 20 && out.len() == 2 * taken, "{taken}");
    assert_eq!(desk.discipline.write(b"x", 0, &mut out), 0);
}

#[test]
fn stop_and_start_are_obeyed_and_not_read() {
    let mut desk = raw(|t| t.iflag = IXON);
    desk.typed(b"a\x13b");
    assert_eq!(desk.effects.stop.take(), Some(true));
    desk.typed(b"\x13");
    assert_eq!(desk.effects.stop, None);
    desk.typed(b"\x11");
    assert_eq!(desk.effects.stop.take(), Some(false));
    assert_eq!(desk.read(), b"ab");
    let mut desk = raw(|t| t.iflag = IXON | IXANY);
    desk.typed(b"\x13");
    assert_eq!(desk.effects.stop.take(), Some(true));
    desk.typed(b"x");
    assert_eq!((desk.effects.stop.take(), desk.read()), (Some(false), b"x".to_vec()));
}

#[test]
fn an_interrupt_flushes_unless_told_not_to() {
    let mut desk = desk(|_| {});
    assert_eq!(desk.typed(b"line\nabc\x03"), "^C");
    assert!(desk.effects.flushes_output && !desk.discipline.has_input(1));
    desk.typed(b"d\n");
    assert_eq!(desk.read(), b"d\n");
    let mut desk = self::desk(|t| t.lflag |= NOFLSH);
    desk.typed(b"abc\x03\n");
    assert_eq!(desk.read(), b"abc\n");
    let mut desk = self::desk(|t| t.cc[0] = 0);
    desk.typed(b"a\x03\n");
    assert_eq!(desk.read(), b"a\x03\n");
}

#[test]
fn bad_characters_and_breaks_are_marked_ignored_or_zero() {
    let cases: [(u32, Mark, &[u8]); 9] = [
        (0, Mark::Parity, b"A"),
        (INPCK, Mark::Parity, b"\0"),
        (INPCK | IGNPAR, Mark::Parity, b""),
        (INPCK | PARMRK, Mark::Parity, b"\xff\0A"),
        (INPCK | PARMRK, Mark::Framing, b"\xff\0A"),
        (0, Mark::Break, b"\0"),
        (IGNBRK, Mark::Break, b""),
        (PARMRK, Mark::Break, b"\xff\0\0"),
        (BRKINT, Mark::Break, b""),
    ];
    for (flags, mark, read) in cases {
        let mut desk = raw(|t| t.iflag = flags);
        desk.kind(b"A", mark);
        assert_eq!(desk.read(), read, "{flags:o} {mark:?}");
        assert_eq!(desk.effects.flushes_output, flags == BRKINT);
    }
}

#[test]
fn what_nobody_reads_is_bounded_and_counted() {
    let mut desk = desk(|t| t.lflag = ICANON);
    desk.typed(&[b'x'; LINE_MAX + 10]);
    desk.typed(b"\n");
    assert_eq!(desk.discipline.dropped(), 10);
    assert_eq!(desk.discipline.read(10_000).len(), LINE_MAX + 1);
    let mut desk = raw(|_| {});
    desk.typed(&[b'x'; KEPT_MAX + 7]);
    assert_eq!((desk.discipline.dropped(), desk.discipline.held()), (7, (KEPT_MAX, 0)));
}

#[test]
fn changing_the_mode_loses_nothing() {
    let mut desk = desk(|_| {});
    desk.typed(b"line\nhalf");
    desk.discipline.set_termios(raw(|_| {}).discipline.termios().clone());
    assert_eq!(desk.read(), b"line\nhalf");
    desk.typed(b"raw");
    desk.discipline.set_termios(Termios::default());
    assert!(desk.discipline.has_input(1));
    assert_eq!(desk.read(), b"raw");
}

mod model {
    use super::*;
    use proptest::prelude::*;

    /// A line as it should come out, by the plainest rules there are.
    fn edited(typed: &[u8]) -> Vec<Vec<u8>> {
        let (mut lines, mut line) = (Vec::new(), Vec::new());
        for byte in typed {
            match byte {
                0x7f => drop(line.pop()),
                0x15 => line.clear(),
                0x04 => lines.push(std::mem::take(&mut line)),
                b'\n' | b'\r' => {
                    line.push(b'\n');
                    lines.push(std::mem::take(&mut line));
                }
                byte => line.push(*byte),
            }
        }
        lines
    }

    proptest! {
        #[test]
        fn editing_agrees_with_the_plain_rules(
            typed in prop::collection::vec(
                prop::sample::select(b"ab \t\x7f\x15\x04\n\r".to_vec()), 0..60),
            echoes: bool,
        ) {
            let mut desk = desk(|t| if !echoes { t.lflag &= !ECHO });
            desk.typed(&typed);
            for line in edited(&typed) {
                prop_assert!(desk.discipline.has_input(1));
                prop_assert_eq!(desk.read(), line);
            }
            prop_assert!(!desk.discipline.has_input(1));
        }

        #[test]
        fn no_input_and_no_settings_break_it(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            flags: [u32; 3],
            cc: [u8; 19],
        ) {
            let mut desk = desk(|t| {
                [t.iflag, t.oflag, t.lflag] = flags;
                t.cc = cc;
            });
            for (number, byte) in bytes.iter().enumerate() {
                let mark = [Mark::Good, Mark::Parity, Mark::Framing, Mark::Break][number % 4];
                desk.kind(&[*byte], mark);
            }
            let mut out = Vec::new();
            desk.discipline.write(&bytes, 100, &mut out);
            prop_assert!(out.len() <= 100);
            let (kept, _) = desk.discipline.held();
            let mut got = 0;
            while desk.discipline.has_input(1) {
                got += desk.discipline.read(7).len();
            }
            prop_assert_eq!(got, kept);
        }
    }
}
