//! The settings of a serial line, as people write them: `9600,7,even,1,half`.

use super::call::{self, Argument, Memory};
use super::refusal::Refusal;
use crate::words;
use std::fs::File;

// asm-generic/termbits.h
const TCGETS2: u32 = 0x802c_542a;
const TCSETSW2: u32 = 0x402c_542c;
const BYTES: usize = 44;
const CFLAG_AT: usize = 8;
const RATES_AT: [usize; 2] = [36, 40];
const CBAUD: u32 = 0o10017;
const BOTHER: u32 = 0o10000;
const CSIZE: u32 = 0o60;
const CSTOPB: u32 = 0o100;
const PARENB: u32 = 0o400;
const PARODD: u32 = 0o1000;

// linux/serial.h: half duplex is a line of RS-485 that isn't heard while it sends.
const TIOCGRS485: u32 = 0x542e;
const TIOCSRS485: u32 = 0x542f;
const RS485_BYTES: usize = 32;
const RS485_ENABLED: u32 = 0x01;
const RS485_RX_DURING_TX: u32 = 0x10;

/// What a chip with a clock of 921,600 bits a second can divide down to.
const RATES: std::ops::RangeInclusive<u32> = 15..=921_600;

/// How a line is, besides its rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flags {
    /// As termios has them.
    control: u32,
    is_half_duplex: bool,
}

/// Sets a line, if `wanted`, once all is sent; its flags and rate afterwards.
///
/// # Errors
/// In words: a setting that is none; the host's, where the file is no terminal.
pub(super) fn serial(file: &File, wanted: Option<&str>) -> Result<(Flags, u32), Refusal> {
    let told = |error: std::io::Error| Refusal::Failed(words::of_host(&error));
    let mut memory = Memory::new(&[]).ok_or("no memory")?;
    call::ioctl(file, TCGETS2, Argument::Memory(&mut memory)).map_err(told)?;
    if let Some(wanted) = wanted {
        let mut bytes = memory.first(BYTES).to_vec();
        let parsed = parse(wanted, number(&bytes, CFLAG_AT)).map_err(Refusal::Usage)?;
        let Wanted { control, rate, is_half_duplex } = parsed;
        for at in RATES_AT {
            bytes[at..at + 4].copy_from_slice(&rate.to_ne_bytes());
        }
        bytes[CFLAG_AT..CFLAG_AT + 4].copy_from_slice(&control.to_ne_bytes());
        memory = Memory::new(&bytes).ok_or("no memory")?;
        call::ioctl(file, TCSETSW2, Argument::Memory(&mut memory)).map_err(told)?;
        call::ioctl(file, TCGETS2, Argument::Memory(&mut memory)).map_err(told)?;
        if let Some(is_half) = is_half_duplex {
            duplex(file, Some(is_half)).map_err(told)?;
        }
    }
    let is_half_duplex = duplex(file, None).map_err(told)?;
    let bytes = memory.first(BYTES);
    let flags = Flags { control: number(bytes, CFLAG_AT), is_half_duplex };
    Ok((flags, number(bytes, RATES_AT[1])))
}

/// Whether a line is half duplex, or, if `wanted`, from now on is.
fn duplex(file: &File, wanted: Option<bool>) -> std::io::Result<bool> {
    let mut bytes = [0; RS485_BYTES];
    bytes[0] = u8::from(wanted == Some(true)); // RS485_ENABLED
    let mut memory = Memory::new(&bytes).ok_or(std::io::ErrorKind::OutOfMemory)?;
    let cmd = if wanted.is_some() { TIOCSRS485 } else { TIOCGRS485 };
    call::ioctl(file, cmd, Argument::Memory(&mut memory))?;
    let flags = number(memory.first(RS485_BYTES), 0);
    Ok(flags & (RS485_ENABLED | RS485_RX_DURING_TX) == RS485_ENABLED)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk());
    four.map_or(0, |four| u32::from_ne_bytes(*four))
}

/// What somebody asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    control: u32,
    rate: u32,
    /// `None`: as it is.
    is_half_duplex: Option<bool>,
}

/// What is asked for, of a line with these control flags.
fn parse(wanted: &str, flags: u32) -> Result<Wanted, String> {
    let mut parts = wanted.split(',');
    let rate = parts.next().unwrap_or_default();
    let rate = rate.parse().ok().filter(|rate| RATES.contains(rate)).ok_or_else(|| {
        let (least, most) = (RATES.start(), RATES.end());
        format!("{rate:?} is no rate from {least} to {most}")
    })?;
    let mut flags = flags & !CBAUD | BOTHER;
    if let Some(bits) = parts.next() {
        let bits = bits.parse().ok().filter(|bits| (5..=8).contains(bits));
        let bits: u32 = bits.ok_or("a character has 5, 6, 7 or 8 bits")?;
        flags = flags & !CSIZE | (bits - 5) << 4;
    }
    if let Some(parity) = parts.next() {
        flags &= !(PARENB | PARODD);
        flags |= match parity {
            "none" => 0,
            "even" => PARENB,
            "odd" => PARENB | PARODD,
            _ => return Err(format!("{parity:?} is no parity: none, even or odd")),
        };
    }
    let mut parts = parts.peekable();
    match parts.peek() {
        None | Some(&("half" | "full")) => {}
        Some(&"1") => flags &= !CSTOPB,
        Some(&"2") => flags |= CSTOPB,
        Some(stops) => return Err(format!("{stops:?} is no number of stop bits: 1 or 2")),
    }
    parts.next_if(|part| ["1", "2"].contains(part));
    let is_half_duplex = match parts.collect::<Vec<_>>()[..] {
        [] => None,
        ["half"] => Some(true),
        ["full"] => Some(false),
        ["half" | "full", more, ..] => {
            return Err(format!("{more:?}: RATE,BITS,PARITY,STOPS,DUPLEX is all"));
        }
        [other, ..] => return Err(format!("{other:?} is no duplex: half or full")),
    };
    Ok(Wanted { control: flags, rate, is_half_duplex })
}

/// As [`serial`] reads it.
pub(super) fn shown(flags: Flags, rate: u32) -> String {
    let Flags { control: flags, is_half_duplex } = flags;
    let bits = 5 + ((flags & CSIZE) >> 4);
    let parity = match flags & (PARENB | PARODD) {
        PARENB => "even",
        flags if flags & PARENB != 0 => "odd",
        _ => "none",
    };
    let stops = if flags & CSTOPB != 0 { 2 } else { 1 };
    let duplex = if is_half_duplex { ",half" } else { "" };
    format!("{rate},{bits},{parity},{stops}{duplex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_shown() {
        let again = |line: &str, flags| {
            let Wanted { control, rate, is_half_duplex } = parse(line, flags).unwrap();
            let is_half_duplex = is_half_duplex.unwrap_or(false);
            shown(Flags { control, is_half_duplex }, rate)
        };
        for line in ["9600,7,even,1", "115200,8,none,2", "300,5,odd,1", "9600,7,even,2,half"] {
            assert_eq!(again(line, 0), line);
        }
        assert_eq!(again("1200", PARENB | 0o40), "1200,7,even,1");
        assert_eq!(again("9600,7,even,half", CSTOPB), "9600,7,even,2,half");
        assert_eq!(parse("9600,7,even,full", 0).unwrap().is_half_duplex, Some(false));
        assert_eq!(parse("9600,7,even,1", 0).unwrap().is_half_duplex, None);
    }

    #[test]
    fn what_is_no_setting_is_refused_in_words() {
        let refused = |line| parse(line, 0).unwrap_err();
        assert_eq!(refused("x"), "\"x\" is no rate from 15 to 921600");
        assert!(refused("7").contains("no rate") && refused("921601").contains("no rate"));
        assert!(refused("9600,9").contains("5, 6, 7 or 8"));
        assert!(refused("9600,8,half").contains("no parity"));
        assert!(refused("9600,8,even,3").contains("stop bits"));
        assert!(refused("9600,8,even,1,quarter").contains("\"quarter\" is no duplex"));
        assert!(refused("9600,8,even,half,1").contains("\"1\": RATE"));
        assert!(refused("9600,8,even,1,1").contains("\"1\""));
    }
}
