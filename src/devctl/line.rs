//! The settings of a serial line, as people write them: `9600,7,even,1`.

use super::call::{self, Argument, Memory};
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

/// What a chip with a clock of 921,600 bits a second can divide down to.
const RATES: std::ops::RangeInclusive<u32> = 15..=921_600;

/// Sets a line, if `wanted`, once all is sent; its control flags and rate afterwards.
///
/// # Errors
/// In words: a setting that is none; the host's, where the file is no terminal.
pub(super) fn serial(file: &File, wanted: Option<&str>) -> Result<(u32, u32), String> {
    let told = |error: std::io::Error| words::of_host(&error);
    let mut memory = Memory::new(&[]).ok_or("no memory")?;
    call::ioctl(file, TCGETS2, Argument::Memory(&mut memory)).map_err(told)?;
    if let Some(wanted) = wanted {
        let mut bytes = memory.first(BYTES).to_vec();
        let (flags, rate) = parse(wanted, number(&bytes, CFLAG_AT))?;
        for at in RATES_AT {
            bytes[at..at + 4].copy_from_slice(&rate.to_ne_bytes());
        }
        bytes[CFLAG_AT..CFLAG_AT + 4].copy_from_slice(&flags.to_ne_bytes());
        memory = Memory::new(&bytes).ok_or("no memory")?;
        call::ioctl(file, TCSETSW2, Argument::Memory(&mut memory)).map_err(told)?;
        call::ioctl(file, TCGETS2, Argument::Memory(&mut memory)).map_err(told)?;
    }
    let bytes = memory.first(BYTES);
    Ok((number(bytes, CFLAG_AT), number(bytes, RATES_AT[1])))
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk());
    four.map_or(0, |four| u32::from_ne_bytes(*four))
}

/// The control flags that come of `flags`, and the rate.
fn parse(wanted: &str, flags: u32) -> Result<(u32, u32), String> {
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
    match parts.next() {
        None => {}
        Some("1") => flags &= !CSTOPB,
        Some("2") => flags |= CSTOPB,
        Some(stops) => return Err(format!("{stops:?} is no number of stop bits: 1 or 2")),
    }
    match parts.next() {
        None => Ok((flags, rate)),
        Some(more) => Err(format!("{more:?}: RATE,BITS,PARITY,STOPS is all")),
    }
}

/// As [`serial`] reads it.
pub(super) fn shown(flags: u32, rate: u32) -> String {
    let bits = 5 + ((flags & CSIZE) >> 4);
    let parity = match flags & (PARENB | PARODD) {
        PARENB => "even",
        flags if flags & PARENB != 0 => "odd",
        _ => "none",
    };
    let stops = if flags & CSTOPB != 0 { 2 } else { 1 };
    format!("{rate},{bits},{parity},{stops}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_shown() {
        for line in ["9600,7,even,1", "115200,8,none,2", "300,5,odd,1"] {
            let (flags, rate) = parse(line, 0).unwrap();
            assert_eq!(shown(flags, rate), line);
        }
        let (flags, rate) = parse("1200", PARENB | 0o40).unwrap();
        assert_eq!(shown(flags, rate), "1200,7,even,1");
    }

    #[test]
    fn what_is_no_setting_is_refused_in_words() {
        let refused = |line| parse(line, 0).unwrap_err();
        assert_eq!(refused("x"), "\"x\" is no rate from 15 to 921600");
        assert!(refused("7").contains("no rate") && refused("921601").contains("no rate"));
        assert!(refused("9600,9").contains("5, 6, 7 or 8"));
        assert!(refused("9600,8,half").contains("no parity"));
        assert!(refused("9600,8,even,3").contains("stop bits"));
        assert!(refused("9600,8,even,1,half").contains("\"half\""));
    }
}
