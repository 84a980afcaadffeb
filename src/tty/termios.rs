//! The settings of a terminal, as the host's kernel lays them out (asm-generic/termbits.h).

use devices::{LineSettings, Parity};

/// Bytes of the kernel's `struct termios`, which TCGETS and TCSETS move.
pub const TERMIOS_BYTES: usize = 36;
/// Bytes of `struct termios2`, which has the two rates behind it.
pub const TERMIOS2_BYTES: usize = 44;
const CC_AT: usize = 17;

/// Number of special characters.
const NCCS: usize = 19;

macro_rules! flags {
    ($($name:ident $value:literal $doc:literal)*) => {
        $(#[doc = $doc] pub const $name: u32 = $value;)*
    };
}

flags! {
    IGNBRK 0o1 "Breaks are ignored."
    BRKINT 0o2 "A break flushes the queues (there is nobody to send SIGINT to)."
    IGNPAR 0o4 "Characters with errors are ignored."
    PARMRK 0o10 "Errors are marked by 0xff 0."
    INPCK 0o20 "Parity is looked at."
    ISTRIP 0o40 "The eighth bit is cut."
    INLCR 0o100 "NL becomes CR."
    IGNCR 0o200 "CR is ignored."
    ICRNL 0o400 "CR becomes NL."
    IUCLC 0o1000 "Upper case becomes lower."
    IXON 0o2000 "START and STOP are obeyed."
    IXANY 0o4000 "Any character starts again."
    IXOFF 0o10000 "START and STOP are sent."
    IMAXBEL 0o20000 "A full line rings the bell."
    IUTF8 0o40000 "Characters are UTF-8, for erasing."
    OPOST 0o1 "Output is processed."
    OLCUC 0o2 "Lower case becomes upper."
    ONLCR 0o4 "NL becomes CR NL."
    OCRNL 0o10 "CR becomes NL."
    ONOCR 0o20 "No CR at column 0."
    ONLRET 0o40 "NL does what CR does."
    XTABS 0o14000 "Tabs become blanks."
    CBAUD 0o10017 "The rate."
    BOTHER 0o10000 "The rate is a number (termios2)."
    CSIZE 0o60 "Data bits less 5."
    CSTOPB 0o100 "Two stop bits."
    CREAD 0o200 "Characters are taken in."
    PARENB 0o400 "A parity bit."
    PARODD 0o1000 "Odd, or mark."
    HUPCL 0o2000 "The last close drops DTR."
    CLOCAL 0o4000 "The carrier does not matter."
    CMSPAR 0o10000000000 "Mark or space."
    CRTSCTS 0o20000000000 "RTS and CTS hold up."
    ISIG 0o1 "INTR, QUIT and SUSP are obeyed."
    ICANON 0o2 "Line by line."
    ECHO 0o10 "Input is echoed."
    ECHOE 0o20 "ERASE rubs out."
    ECHOK 0o40 "KILL starts a new line."
    ECHONL 0o100 "NL is echoed in any case."
    NOFLSH 0o200 "INTR, QUIT and SUSP flush nothing."
    ECHOCTL 0o1000 "Control characters are echoed as ^X."
    ECHOKE 0o4000 "KILL rubs the line out."
    IEXTEN 0o100000 "WERASE, REPRINT, LNEXT and EOL2 are obeyed."
}

/// Places of the special characters.
pub mod cc {
    flags! {
        INTR 0 "Interrupt."
        QUIT 1 "Quit."
        ERASE 2 "Takes a character back."
        KILL 3 "Takes the line back."
        EOF 4 "Ends the line without a character."
        TIME 5 "Tenths of a second."
        MIN 6 "Characters."
        START 8 "Goes on."
        STOP 9 "Stops."
        SUSP 10 "Suspend."
        EOL 11 "Ends the line too."
        REPRINT 12 "Shows the line again."
        WERASE 14 "Takes a word back."
        LNEXT 15 "Takes the next character as it is."
        EOL2 16 "Ends the line too."
    }
}

/// Rates in the order of their numbers: below, then those with the extra bit.
const RATES: [u32; 16] =
    [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400];
const FAST_RATES: [u32; 16] = [
    0, 57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000,
    1_500_000, 2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
];

/// The place of a rate in one of the tables.
fn number_of(rates: &[u32; 16], rate: u32) -> Option<u32> {
    (1..).zip(&rates[1..]).find(|(_, known)| **known == rate).map(|(number, _)| number)
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termios {
    /// How input is changed.
    pub iflag: u32,
    /// How output is changed.
    pub oflag: u32,
    /// The line.
    pub cflag: u32,
    /// The discipline.
    pub lflag: u32,
    /// Its number; always kept, never looked at.
    pub line: u8,
    /// The special characters.
    pub cc: [u8; NCCS],
    /// Bits a second, in.
    pub ispeed: u32,
    /// Bits a second, out.
    pub ospeed: u32,
}

impl Default for Termios {
    /// Those of Linux for a serial line: 9600 8N1, cooked, echoing.
    fn default() -> Termios {
        let (nine_six, eight) = (0o15, CSIZE);
        Termios {
            iflag: ICRNL | IXON,
            oflag: OPOST | ONLCR,
            cflag: nine_six | eight | CREAD | HUPCL | CLOCAL,
            lflag: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
            line: 0,
            cc: [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0],
            ispeed: 9600,
            ospeed: 9600,
        }
    }
}

impl Termios {
    /// Of `TERMIOS_BYTES`, which leave the rates to the flags, or `TERMIOS2_BYTES`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Termios> {
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let mut termios = Termios {
            iflag: word(0)?,
            oflag: word(4)?,
            cflag: word(8)?,
            lflag: word(12)?,
            line: *bytes.get(16)?,
            cc: bytes.get(CC_AT..CC_AT + NCCS)?.try_into().ok()?,
            ispeed: 0,
            ospeed: 0,
        };
        let named = termios.named_rate();
        termios.ospeed = match named {
            Some(rate) => rate,
            None => word(40)?,
        };
        termios.ispeed = termios.ospeed;
        Some(termios)
    }

    /// As the kernel would lay it out in `len` bytes.
    #[must_use]
    pub fn to_bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = [self.iflag, self.oflag, self.cflag, self.lflag]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        bytes.push(self.line);
        bytes.extend(self.cc);
        bytes.extend(self.ispeed.to_ne_bytes());
        bytes.extend(self.ospeed.to_ne_bytes());
        bytes.truncate(len);
        bytes
    }

    /// The rate that the flags name; `None`: it is a number.
    fn named_rate(&self) -> Option<u32> {
        let number = usize::try_from(self.cflag & 0o17).unwrap_or(0);
        match self.cflag & CBAUD {
            BOTHER => None,
            flags if flags & BOTHER != 0 => FAST_RATES.get(number).copied(),
            _ => RATES.get(number).copied(),
        }
    }

    /// Writes down the rate that the port really has, where it is not the one asked for.
    pub fn set_rate(&mut self, rate: u32) {
        let is_near = |wanted: u32| wanted.abs_diff(rate) <= wanted / 50;
        if rate == 0 || is_near(self.ospeed) {
            return;
        }
        (self.ispeed, self.ospeed) = (rate, rate);
        let flags = match (number_of(&RATES, rate), number_of(&FAST_RATES, rate)) {
            (Some(number), _) => number,
            (None, Some(number)) => BOTHER | number,
            (None, None) => BOTHER,
        };
        self.cflag = self.cflag & !CBAUD | flags;
    }

    /// Whether a flag of `lflag` is set.
    #[must_use]
    pub fn has_local(&self, flag: u32) -> bool {
        self.lflag & flag != 0
    }

    /// Whether a flag of `iflag` is set.
    #[must_use]
    pub fn has_input(&self, flag: u32) -> bool {
        self.iflag & flag != 0
    }

    /// Whether a flag of `oflag` is set.
    #[must_use]
    pub fn has_output(&self, flag: u32) -> bool {
        self.oflag & flag != 0
    }

    /// Whether a flag of `cflag` is set.
    #[must_use]
    pub fn has_control(&self, flag: u32) -> bool {
        self.cflag & flag != 0
    }

    /// The special character at a place of [`cc`].
    #[must_use]
    pub fn special(&self, place: u32) -> u8 {
        usize::try_from(place).ok().and_then(|place| self.cc.get(place)).copied().unwrap_or(0)
    }

    /// Whether `byte` is the special character of that place; 0 disables it.
    #[must_use]
    pub fn is_special(&self, byte: u8, place: u32) -> bool {
        byte != 0 && byte == self.special(place)
    }

    /// What the port is told.
    #[must_use]
    pub fn settings(&self) -> LineSettings {
        let bits = [5, 6, 7, 8];
        let parity = match (self.has_control(PARENB), self.has_control(CMSPAR)) {
            (false, _) => Parity::None,
            (true, false) if self.has_control(PARODD) => Parity::Odd,
            (true, false) => Parity::Even,
            (true, true) if self.has_control(PARODD) => Parity::Mark,
            (true, true) => Parity::Space,
        };
        LineSettings {
            rate: self.ospeed,
            data_bits: bits[usize::try_from((self.cflag & CSIZE) >> 4).unwrap_or(3)],
            parity,
            two_stops: self.has_control(CSTOPB),
            obeys_cts: self.has_control(CRTSCTS),
            receives: self.has_control(CREAD),
        }
    }

    /// As people write it: `9600 8N1`.
    #[must_use]
    pub fn shown(&self) -> String {
        let settings = self.settings();
        let parity = match settings.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
            Parity::Mark => 'M',
            Parity::Space => 'S',
        };
        let stops = if settings.two_stops { 2 } else { 1 };
        format!("{} {}{parity}{stops}", self.ospeed, settings.data_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_layout_of_the_kernel() {
        let mut termios = Termios::default();
        for (flags, rate) in [(0o15, 9600), (0o10002, 115_200), (BOTHER, 12_345)] {
            termios.cflag = termios.cflag & !CBAUD | flags;
            (termios.ispeed, termios.ospeed) = (rate, rate);
            let bytes = termios.to_bytes(TERMIOS2_BYTES);
            assert_eq!(bytes.len(), TERMIOS2_BYTES);
            assert_eq!(Termios::from_bytes(&bytes).unwrap(), termios);
        }
        assert_eq!(termios.to_bytes(TERMIOS_BYTES).len(), TERMIOS_BYTES);
        assert!(Termios::from_bytes(&[0; 20]).is_none());
        assert!(Termios::from_bytes(&termios.to_bytes(TERMIOS_BYTES)).is_none());
    }

    #[test]
    fn a_rate_that_the_port_has_not_is_written_down_as_it_is() {
        let mut termios = Termios::default();
        termios.set_rate(9600);
        assert_eq!(termios, Termios::default());
        for (asked, got, flags) in
            [(1_000_000, 921_600, 0o10007), (500_000, 460_800, 0o10004), (7_000, 6_982, 0o15)]
        {
            (termios.ospeed, termios.cflag) = (asked, 0o15);
            termios.set_rate(got);
            let rate = if flags == 0o15 { asked } else { got };
            assert_eq!((termios.ospeed, termios.cflag), (rate, flags));
        }
    }

    #[test]
    fn the_line_is_shown_as_people_write_it() {
        let mut termios = Termios::default();
        assert_eq!(termios.shown(), "9600 8N1");
        termios.cflag = 0o10002 | 0o40 | PARENB | PARODD | CSTOPB;
        termios.ospeed = 115_200;
        assert_eq!(termios.shown(), "115200 7O2");
    }
}
