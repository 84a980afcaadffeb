//! Sense in words (SPC-4, annex D): the keys, and the codes that a disk, tape or printer gives.

const KEYS: [&str; 16] = [
    "no sense",
    "recovered error",
    "not ready",
    "medium error",
    "hardware error",
    "illegal request",
    "unit attention",
    "data protect",
    "blank check",
    "vendor specific",
    "copy aborted",
    "aborted command",
    "reserved",
    "volume overflow",
    "miscompare",
    "completed",
];

/// Code and qualifier.
const CODES: &[(u8, u8, &str)] = &[
    (0x00, 0x00, "nothing more is told"),
    (0x00, 0x01, "file mark"),
    (0x00, 0x02, "end of the medium"),
    (0x00, 0x04, "beginning of the medium"),
    (0x00, 0x05, "end of data"),
    (0x03, 0x00, "write fault"),
    (0x04, 0x00, "not ready, for no cause that is told"),
    (0x04, 0x01, "becoming ready"),
    (0x08, 0x00, "communication failure"),
    (0x08, 0x01, "communication time-out"),
    (0x0c, 0x00, "write error"),
    (0x11, 0x00, "unrecovered read error"),
    (0x14, 0x00, "record not found"),
    (0x15, 0x00, "positioning error"),
    (0x1a, 0x00, "length of the parameter list"),
    (0x20, 0x00, "no such command"),
    (0x21, 0x00, "block address out of range"),
    (0x24, 0x00, "invalid field in the command block"),
    (0x25, 0x00, "no such logical unit"),
    (0x26, 0x00, "invalid field in the parameter list"),
    (0x27, 0x00, "write protected"),
    (0x27, 0x07, "no space for what was to be written"),
    (0x28, 0x00, "the medium may have changed"),
    (0x29, 0x00, "reset"),
    (0x39, 0x00, "parameters cannot be saved"),
    (0x3a, 0x00, "no medium"),
    (0x3b, 0x00, "positioning error"),
    (0x3e, 0x03, "failed its self-test"),
    (0x44, 0x00, "internal failure"),
    (0x47, 0x00, "parity error"),
    (0x4b, 0x00, "data phase error"),
];

/// The name of a sense key; only its four bits count.
pub(super) fn key_of(key: u8) -> &'static str {
    KEYS[usize::from(key & 0xf)]
}

/// What a code and its qualifier say.
pub(super) fn code_of(code: u8, qualifier: u8) -> String {
    let find = |qualifier| CODES.iter().find(|(c, q, _)| (*c, *q) == (code, qualifier));
    match (code, find(qualifier).or_else(|| find(0))) {
        (0x40, _) if qualifier >= 0x80 => format!("self-test failed in part {qualifier:#04x}"),
        (_, Some((.., words))) => (*words).into(),
        (_, None) => "a code of its own".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_says_has_words() {
        use devices::{IoError, Sector};
        let all = [
            IoError::Media(Sector(1)),
            IoError::Hardware,
            IoError::Transient,
            IoError::Range,
            IoError::Invalid,
            IoError::WriteProtected,
            IoError::NotReady,
            IoError::Timeout,
            IoError::NoSpace,
            IoError::Unsupported,
        ];
        for error in all {
            let sense = error.sense();
            let words = code_of(sense.asc, sense.ascq);
            assert!(!words.contains("of its own") && !words.contains("nothing"), "{error}");
        }
    }

    #[test]
    fn an_unknown_code_is_no_panic() {
        assert_eq!(code_of(0xff, 0xff), "a code of its own");
        assert_eq!(code_of(0x40, 0x81), "self-test failed in part 0x81");
        assert_eq!((code_of(0x11, 9), key_of(0xff)), (code_of(0x11, 0), "completed"));
    }
}
