//! What the known device commands pass: which way, and numbers of which sizes.

use std::fmt::Write;

/// Which way a structure goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing is passed.
    None,
    /// The third argument is the number itself.
    Number,
    /// To the driver.
    In,
    /// From the driver.
    Out,
    /// To the driver, and back as the driver made it.
    Both,
}

/// A command's structure: `name:letter` a number, letters as in Python's struct (B h H i I q Q);
/// `_:N` are N bytes without a meaning, `name:Nx` N bytes that are shown as they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) way: Way,
    fields: &'static str,
}

const fn shape(way: Way, fields: &'static str) -> Shape {
    Shape { way, fields }
}

const TERMIOS: &str = "iflag:I oflag:I cflag:I lflag:I line:B cc:19x";
const TERMIOS2: &str = "iflag:I oflag:I cflag:I lflag:I line:B cc:19x ispeed:I ospeed:I";
const WINDOW: &str = "rows:H columns:H _:4";
const RS485: &str = "flags:I before:I after:I _:20";

/// The shape of a command, by its name. `None`: its number says all that is known.
pub(super) fn of(name: &str) -> Option<Shape> {
    use Way::{Both, In, None, Number, Out};
    Some(match name {
        "BLKRRPART" | "BLKFLSBUF" | "TIOCEXCL" | "TIOCNXCL" | "TIOCSBRK" | "TIOCCBRK"
        | "TIOCVHANGUP" | "SPINDLE_DEALLOCATE" | "LPRESET" => shape(None, ""),
        "BLKRASET" | "BLKFRASET" => shape(Number, "sectors:q"),
        "TCSBRK" => shape(Number, "drains:i"),
        "TCSBRKP" => shape(Number, "tenths:i"),
        "TCXONC" => shape(Number, "action:i"),
        "TCFLSH" => shape(Number, "queue:i"),
        "TIOCMIWAIT" => shape(Number, "lines:i"),
        "BLKROSET" => shape(In, "flag:i"),
        "BLKROGET" => shape(Out, "flag:i"),
        "BLKGETSIZE" => shape(Out, "sectors:Q"),
        "BLKRAGET" | "BLKFRAGET" => shape(Out, "sectors:q"),
        "BLKSECTGET" => shape(Out, "sectors:H"),
        "BLKROTATIONAL" => shape(Out, "flag:H"),
        "BLKSSZGET" | "BLKALIGNOFF" => shape(Out, "bytes:i"),
        "BLKIOMIN" | "BLKIOOPT" | "BLKPBSZGET" => shape(Out, "bytes:I"),
        "BLKDISCARDZEROES" => shape(Out, "flag:I"),
        "BLKDISCARD" | "BLKZEROOUT" => shape(In, "start:Q length:Q"),
        "BLKBSZGET" => shape(Out, "bytes:I _:4"),
        "BLKBSZSET" => shape(In, "bytes:I _:4"),
        "BLKGETSIZE64" => shape(Out, "bytes:Q"),
        "SG_EMULATED_HOST" => shape(Out, "flag:i"),
        "SG_GET_RESERVED_SIZE" => shape(Out, "bytes:i"),
        "SG_GET_VERSION_NUM" => shape(Out, "version:i"),
        "SCSI_IOCTL_GET_IDLUN" => shape(Out, "target:B unit:B channel:B host:B number:i"),
        "SCSI_IOCTL_GET_BUS_NUMBER" => shape(Out, "host:i"),
        "SPINDLE_SENSE" => {
            shape(Out, "key:B code:B qualifier:B flags:B errno:i sector:Q byte:H bit:B _:5")
        }
        "SPINDLE_ALLOCATE" => shape(In, "milliseconds:Q"),
        "SPINDLE_SHARE" => shape(In, "access:I"),
        "NULL_REVERSE" => shape(Both, "bytes:1000x"),
        "LPGETIRQ" => shape(Out, "line:i"),
        "LPGETSTATUS" => shape(Out, "status:i"),
        "HDIO_GETGEO" => shape(Out, "heads:B sectors:B cylinders:H _:4 start:Q"),
        "MTIOCTOP" => shape(In, "operation:h _:2 count:i"),
        "MTIOCGET" => shape(Out, "type:q residue:q density:q status:q errors:q file:i block:i"),
        "MTIOCPOS" => shape(Out, "block:q"),
        "TCGETS" => shape(Out, TERMIOS),
        "TCSETS" | "TCSETSW" | "TCSETSF" => shape(In, TERMIOS),
        "TCGETS2" => shape(Out, TERMIOS2),
        "TCSETS2" | "TCSETSW2" | "TCSETSF2" => shape(In, TERMIOS2),
        "TIOCGWINSZ" => shape(Out, WINDOW),
        "TIOCSWINSZ" => shape(In, WINDOW),
        "TIOCOUTQ" | "TIOCINQ" => shape(Out, "characters:i"),
        "TIOCMGET" => shape(Out, "lines:I"),
        "TIOCMBIS" | "TIOCMBIC" | "TIOCMSET" => shape(In, "lines:I"),
        "TIOCGSOFTCAR" | "TIOCGEXCL" => shape(Out, "flag:i"),
        "TIOCSSOFTCAR" => shape(In, "flag:i"),
        "TIOCGETD" => shape(Out, "discipline:i"),
        "TIOCSETD" => shape(In, "discipline:i"),
        "TIOCGSERIAL" => {
            shape(Out, "type:i line:i port:I irq:i flags:i fifo:i divisor:i base:i _:40")
        }
        "TIOCGRS485" => shape(Out, RS485),
        "TIOCSRS485" => shape(In, RS485),
        "TIOCGICOUNT" => shape(
            Out,
            "cts:i dsr:i rng:i dcd:i rx:i tx:i frame:i overrun:i parity:i brk:i buf_overrun:i _:36",
        ),
        _ => return Option::None,
    })
}

/// Names of bits, as linux/tty.h and asm/termios.h have them.
const MODEM: &[(u32, &str)] = &[
    (0x0001, "LE"),
    (0x0002, "DTR"),
    (0x0004, "RTS"),
    (0x0008, "ST"),
    (0x0010, "SR"),
    (0x0020, "CTS"),
    (0x0040, "CAR"),
    (0x0080, "RNG"),
    (0x0100, "DSR"),
    (0x2000, "OUT1"),
    (0x4000, "OUT2"),
    (0x8000, "LOOP"),
];
/// Names of bits, as linux/lp.h has them.
const PRINTER: &[(u32, &str)] =
    &[(0x80, "PBUSY"), (0x40, "PACK"), (0x20, "POUTPA"), (0x10, "PSELECD"), (0x08, "PERRORP")];

/// The names of the bits that are set in what a command tells; `None`: its bits have none.
pub(super) fn bits_of(command: &str, values: &[(&str, Value)]) -> Option<Vec<String>> {
    let table = match command {
        "TIOCMGET" => MODEM,
        "LPGETSTATUS" => PRINTER,
        _ => return None,
    };
    let [(_, Value::Number(number))] = values else { return None };
    let mut rest = u32::try_from(*number).ok()?;
    let mut names = Vec::new();
    for (bit, name) in table.iter().filter(|(bit, _)| number & i128::from(*bit) != 0) {
        names.push((*name).to_owned());
        rest &= !bit;
    }
    names.extend((rest != 0).then(|| format!("{rest:#x}")));
    Some(names)
}

/// A number, or bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(i128),
    Bytes(Vec<u8>),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Number(number) => number.fmt(f),
            Value::Bytes(bytes) => f.write_str(&hex(bytes)),
        }
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that hexadecimal digits stand for.
pub(super) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    let pair = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
    let is_plain = digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit);
    is_plain.then(|| digits.chunks(2).map(pair).collect())?
}

/// A number as people write it: 12, -1, 0x5401, 0o17.
pub(super) fn number(word: &str) -> Option<i128> {
    let (is_negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    let radix = |prefix, radix| digits.strip_prefix(prefix).map(|rest| (rest, radix));
    let (digits, radix) = radix("0x", 16).or(radix("0o", 8)).unwrap_or((digits, 10));
    let number = i128::from(u64::from_str_radix(digits, radix).ok()?);
    Some(if is_negative { -number } else { number })
}

/// One field: its name, its bytes, whether it is a number and one with a sign.
struct Field {
    name: &'static str,
    len: usize,
    is_number: bool,
    has_sign: bool,
}

impl Field {
    fn is_shown(&self) -> bool {
        self.name != "_"
    }

    fn read(&self, bytes: &[u8]) -> Value {
        if !self.is_number {
            return Value::Bytes(bytes.to_vec());
        }
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        let number = u64::from_le_bytes(whole);
        let spare = 64 - 8 * bytes.len();
        Value::Number(if self.has_sign {
            i128::from((number << spare).cast_signed() >> spare)
        } else {
            i128::from(number)
        })
    }

    /// The bytes that `word` stands for; `None`: it does not fit.
    fn write(&self, word: &str) -> Option<Vec<u8>> {
        if !self.is_number {
            return unhex(word).filter(|bytes| bytes.len() == self.len);
        }
        let number = number(word)?;
        let bits = 8 * self.len;
        let lowest = if self.has_sign { -(1_i128 << (bits - 1)) } else { 0 };
        // A pattern with the sign's bit set is one that people write in hexadecimal.
        let is_fit = number >= lowest && number < 1_i128 << bits;
        is_fit.then(|| number.to_le_bytes()[..self.len].to_vec())
    }
}

impl Shape {
    fn fields(self) -> impl Iterator<Item = Field> {
        self.fields.split_whitespace().filter_map(|word| {
            let (name, kind) = word.split_once(':')?;
            let (len, is_number) = match kind {
                "B" => (1, true),
                "h" | "H" => (2, true),
                "i" | "I" => (4, true),
                "q" | "Q" => (8, true),
                bytes => (bytes.trim_end_matches('x').parse().ok()?, false),
            };
            let has_sign = is_number && kind.starts_with(|c: char| c.is_ascii_lowercase());
            Some(Field { name, len, is_number, has_sign })
        })
    }

    /// Bytes of the structure.
    pub(super) fn len(self) -> usize {
        self.fields().map(|field| field.len).sum()
    }

    /// The names of what is to be given, or is told.
    pub(super) fn names(self) -> String {
        let shown = self.fields().filter(Field::is_shown).map(|field| field.name);
        shown.collect::<Vec<_>>().join(" ")
    }

    /// The structure that `words` stand for.
    ///
    /// # Errors
    /// In words: there are more or fewer than are wanted, or one does not fit.
    pub(super) fn bytes(self, words: &[String]) -> Result<Vec<u8>, String> {
        let wanted = self.fields().filter(Field::is_shown).count();
        if words.len() != wanted {
            let got = words.len();
            let names = self.names();
            let blank = if names.is_empty() { "" } else { ": " };
            return Err(format!("wants {wanted} arguments{blank}{names}; got {got}"));
        }
        let mut words = words.iter();
        let mut all = Vec::new();
        for field in self.fields() {
            match if field.is_shown() { words.next() } else { Option::None } {
                None => all.resize(all.len() + field.len, 0),
                Some(word) => all.extend(field.write(word).ok_or_else(|| {
                    let (name, len) = (field.name, field.len);
                    let what = if field.is_number { "a number" } else { "hexadecimal digits" };
                    format!("{name}: {what} of {len} bytes is wanted, not {word:?}")
                })?),
            }
        }
        Ok(all)
    }

    /// What a structure tells, name by name.
    pub(super) fn values(self, bytes: &[u8]) -> Vec<(&'static str, Value)> {
        let mut rest = bytes;
        let mut all = Vec::new();
        for field in self.fields() {
            let (own, behind) = rest.split_at(field.len.min(rest.len()));
            rest = behind;
            if field.is_shown() {
                all.push((field.name, field.read(own)));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn a_structure_is_written_and_read_back() {
        let op = of("MTIOCTOP").unwrap();
        let bytes = op.bytes(&words("-1 0x10")).unwrap();
        assert_eq!(bytes, [0xff, 0xff, 0, 0, 16, 0, 0, 0]);
        let values = op.values(&bytes);
        assert_eq!(values, [("operation", Value::Number(-1)), ("count", Value::Number(16))]);
        let termios = of("TCSETS").unwrap();
        let line = format!("1 2 0xffffffff 4 0 {}", "0a".repeat(19));
        let bytes = termios.bytes(&words(&line)).unwrap();
        assert_eq!((bytes.len(), termios.len()), (36, 36));
        assert_eq!(termios.values(&bytes)[2], ("cflag", Value::Number(0xffff_ffff)));
        assert_eq!(termios.values(&bytes)[5].1.to_string(), "0a".repeat(19));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let refused = |name: &str, line: &str| of(name).unwrap().bytes(&words(line)).unwrap_err();
        assert_eq!(refused("BLKDISCARD", "1"), "wants 2 arguments: start length; got 1");
        assert_eq!(refused("BLKFLSBUF", "1"), "wants 0 arguments; got 1");
        let words = refused("TIOCSWINSZ", "1 65536");
        assert_eq!(words, "columns: a number of 2 bytes is wanted, not \"65536\"");
        assert!(refused("BLKDISCARD", "-1 0").starts_with("start: "));
        assert!(refused("BLKDISCARD", "x 0").starts_with("start: "));
    }

    #[test]
    fn every_shape_is_well_formed_and_as_long_as_its_number_says() {
        let disks = crate::ioctl::DISK_COMMANDS.iter().chain(crate::scsi::COMMANDS);
        let known = disks.chain(crate::tty::COMMANDS).chain(crate::own::COMMANDS);
        // Its structure is one of addresses: `cdb` fills it.
        for (number, name) in known.filter(|(_, name)| *name != "SG_IO") {
            let shape = of(name).unwrap_or_else(|| panic!("{name} has no shape"));
            let words = shape.fields.split_whitespace().count();
            assert_eq!(shape.fields().count(), words, "{name}");
            let size = super::super::call::size(*number);
            assert!(size == 0 || shape.len() == size, "{name} has {size} bytes");
            assert_eq!(shape.way == Way::None, words == 0, "{name}");
        }
        assert_eq!(of("NULL_REVERSE").unwrap().len(), super::super::call::size(0xc3e8_b510));
        assert_eq!(["MTIOCTOP", "MTIOCGET", "MTIOCPOS"].map(|n| of(n).unwrap().len()), [8, 48, 8]);
    }

    #[test]
    fn bits_have_their_names_and_one_without_is_not_lost() {
        let named = |name: &str, number| {
            bits_of(name, &[("x", Value::Number(number))]).map(|names| names.join(" "))
        };
        assert_eq!(named("TIOCMGET", 0x166).unwrap(), "DTR RTS CTS CAR DSR");
        assert_eq!(named("TIOCMGET", 0x1_0002).unwrap(), "DTR 0x10000");
        assert_eq!(named("LPGETSTATUS", 0xd8).unwrap(), "PBUSY PACK PSELECD PERRORP");
        assert_eq!(named("LPGETSTATUS", 0).unwrap(), "");
        assert_eq!(named("BLKROGET", 1), None);
    }

    #[test]
    fn numbers_and_digits_are_read_as_people_write_them() {
        let cases = [("12", Some(12)), ("-0x10", Some(-16)), ("0o17", Some(15)), ("", None)];
        for (word, meant) in cases {
            assert_eq!(number(word), meant, "{word}");
        }
        assert_eq!((unhex("00fF"), unhex("0"), unhex("zz")), (Some(vec![0, 255]), None, None));
        assert_eq!(unhex("\u{e9}\u{e9}"), None);
    }
}
