//! A driver's commands: listed, and given by name or by number.

use super::IoctlArgs;
use super::call::{self, Argument, Memory};
use super::hall::Hall;
use super::node::{Node, Opened};
use super::refusal::Refusal;
use super::shape::{self, Shape, Value, Way};
use crate::words;
use serde_json::json;
use std::io::Error;

/// Its structure is one of addresses: `cdb` fills it.
const SG_IO: &str = "SG_IO";

/// A line of `proc/ioctls`.
pub(super) struct Command {
    pub(super) number: u32,
    pub(super) name: String,
}

/// The commands that the node takes.
pub(super) fn commands(node: &Node<'_>) -> Result<Vec<Command>, String> {
    let text = node.report("ioctls")?;
    let own = of_driver(&text, &node.driver).filter(|(_, takers)| {
        takers.is_none_or(|takers| takers.split(',').any(|taker| taker == node.name))
    });
    Ok(own.map(|(command, _)| command).collect())
}

/// What the report tells of a driver: its commands, each with the nodes that take it where not all
/// do.
fn of_driver<'a>(
    text: &'a str,
    driver: &'a str,
) -> impl Iterator<Item = (Command, Option<&'a str>)> {
    text.lines().filter_map(move |line| {
        let mut words = line.split(' ');
        words.next().filter(|word| *word == driver)?;
        let number = u32::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        Some((Command { number, name: words.next()?.to_owned() }, words.next()))
    })
}

pub(super) fn list(node: &Node<'_>, hall: &mut Hall<'_>) -> Result<(), String> {
    let commands = commands(node)?;
    let line = |c: &Command| match shape::of(&c.name) {
        Some(shape) => {
            let way = match shape.way {
                Way::None => "",
                Way::Number | Way::In => "takes ",
                Way::Out => "tells ",
                Way::Both => "takes and tells ",
            };
            (way, shape.names())
        }
        None if c.name == SG_IO => ("", "see cdb".into()),
        None => ("", "of unknown structure: --in, --out".into()),
    };
    if hall.is_json {
        let object = |c: &Command| {
            let (way, names) = line(c);
            let names: Vec<_> = names.split_whitespace().collect();
            let mut object = json!({ "name": c.name, "number": format!("{:#x}", c.number) });
            for way in way.split_whitespace().filter(|word| *word != "and") {
                object[way] = json!(names);
            }
            object
        };
        let all: Vec<_> = commands.iter().map(object).collect();
        let (device, driver) = (&node.name, &node.driver);
        return hall.object(&json!({ "device": device, "driver": driver, "commands": all }));
    }
    if commands.is_empty() {
        return Err(node.told(&takes_none(node)));
    }
    let wide = commands.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let lines = commands.iter().map(|c| {
        let (way, names) = line(c);
        let text = format!("{:wide$}  {:#010x}  {way}{names}", c.name, c.number);
        format!("{}\n", text.trim_end())
    });
    hall.text(&lines.collect::<String>())
}

fn takes_none(node: &Node<'_>) -> String {
    match node.driver.as_str() {
        "none" => "it takes no commands, having no driver of its own".into(),
        _ => "it takes no commands".into(),
    }
}

/// The command of that name or number.
fn command(node: &Node<'_>, word: &str) -> Result<Command, String> {
    let mut commands = commands(node)?;
    if let Some(number) = shape::number(word) {
        let none = |_| node.told(&format!("{word}: a command's number has 32 bits"));
        let number = u32::try_from(number).map_err(none)?;
        let known = commands.into_iter().find(|c| c.number == number);
        return Ok(known.unwrap_or_else(|| Command { number, name: format!("{number:#x}") }));
    }
    if let Some(at) = commands.iter().position(|c| c.name.eq_ignore_ascii_case(word)) {
        return Ok(commands.swap_remove(at));
    }
    let text = node.report("ioctls")?;
    let mut others = of_driver(&text, &node.driver);
    if let Some((command, Some(takers))) =
        others.find(|(command, _)| command.name.eq_ignore_ascii_case(word))
    {
        let (name, driver) = (command.name, &node.driver);
        return Err(node.told(&format!("{name}: of driver {driver} only {takers} takes it")));
    }
    if commands.is_empty() {
        return Err(node.told(&format!("{word}: {}", takes_none(node))));
    }
    let hint = match words::closest(word, commands.iter().map(|c| c.name.as_str())) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("spindle devctl {} lists them", node.name),
    };
    Err(node.told(&format!("driver {} has no command {word:?} ({hint})", node.driver)))
}

/// The words for a refusal. A command that changes something may want a file open for writing:
/// where that was refused, that refusal is the cause.
pub(super) fn refused(node: &Node<'_>, opened: &Opened, error: &Error) -> String {
    let wants_writing = [Some(libc::EBADF), Some(libc::EPERM)].contains(&error.raw_os_error());
    match opened.refusal.as_ref().filter(|_| wants_writing) {
        Some(refusal) => {
            let why = node.refused(refusal);
            format!("it cannot be opened for writing, as this wants: {why}")
        }
        None => node.refused(error),
    }
}

pub(super) fn give(node: &Node<'_>, args: &IoctlArgs, hall: &mut Hall<'_>) -> Result<(), Refusal> {
    let Command { number, name } = command(node, &args.command)?;
    let told = |why: &str| node.told(&format!("{name}: {why}"));
    let mistake = |why: &str| Refusal::Usage(told(why));
    if name == SG_IO {
        let form = format!("spindle devctl {} cdb HEX...", node.name);
        return Err(mistake(&format!(
            "its structure is one of addresses; give its command by {form}"
        )));
    }
    let shape = shape::of(&name).filter(|_| args.input.is_none() && args.output.is_none());
    let given = given(args, shape).map_err(|why| mistake(&why))?;
    let mut memory = Memory::new(&given).ok_or_else(|| mistake("too many bytes"))?;
    let way = shape::of(&name).map(|shape| shape.way);
    let argument = match (way, args.arguments.first()) {
        (Some(Way::Number), Some(word)) => {
            let number = shape::number(word).unwrap_or(0).to_le_bytes();
            Argument::Number(number.first_chunk().map_or(0, |low| u64::from_le_bytes(*low)))
        }
        (Some(Way::Number), None) => return Err(mistake("its argument is a number, not bytes")),
        _ => Argument::Memory(&mut memory),
    };
    let opened = node.open()?;
    let result = call::ioctl(&opened.file, number, argument)
        .map_err(|error| told(&refused(node, &opened, &error)))?;
    let values = match (args.output, shape) {
        (Some(len), _) => vec![("bytes", Value::Bytes(memory.first(len.into()).to_vec()))],
        (None, Some(shape)) if matches!(shape.way, Way::Out | Way::Both) => {
            shape.values(memory.first(shape.len()))
        }
        (None, Some(_)) => Vec::new(),
        (None, None) => {
            let len = if number >> 31 == 1 { call::size(number) } else { 0 };
            vec![("bytes", Value::Bytes(memory.first(len).to_vec()))]
        }
    };
    let names = shape::bits_of(&name, &values);
    if hall.is_json {
        let mut object = json!({ "device": node.name, "command": name, "result": result,
            "number": format!("{number:#x}"), "values": object_of(&values) });
        if let Some(names) = names {
            object["names"] = json!(names);
        }
        return Ok(hall.object(&object)?);
    }
    let text = plain(&values);
    match names {
        Some(names) => Ok(hall.line(&format!("{} {}", text.trim_end(), names.join(" ")))?),
        None => Ok(hall.text(&text)?),
    }
}

/// The bytes that a command is given.
fn given(args: &IoctlArgs, shape: Option<Shape>) -> Result<Vec<u8>, String> {
    match (&args.input, shape) {
        (Some(digits), _) => {
            shape::unhex(digits).ok_or_else(|| "--in wants pairs of hexadecimal digits".into())
        }
        (None, Some(Shape { way: Way::Out, .. })) if args.arguments.is_empty() => Ok(Vec::new()),
        (None, Some(Shape { way: Way::Out, .. })) => Err("takes no arguments".into()),
        (None, Some(shape)) => shape.bytes(&args.arguments),
        (None, None) if args.arguments.is_empty() => Ok(Vec::new()),
        (None, None) => Err("of unknown structure: give its bytes by --in".into()),
    }
}

fn object_of(values: &[(&str, Value)]) -> serde_json::Value {
    let pair = |(name, value): &(&str, Value)| {
        let value = match value {
            Value::Number(number) => match i64::try_from(*number) {
                Ok(number) => json!(number),
                Err(_) => json!(u64::try_from(*number).unwrap_or(u64::MAX)),
            },
            Value::Bytes(bytes) => json!(shape::hex(bytes)),
        };
        ((*name).to_owned(), value)
    };
    serde_json::Value::Object(values.iter().map(pair).collect())
}

/// A single value alone, several with their names.
fn plain(values: &[(&str, Value)]) -> String {
    match values {
        [] => String::new(),
        [(_, Value::Bytes(bytes))] if bytes.is_empty() => String::new(),
        [(_, value)] => format!("{value}\n"),
        several => {
            let words = several.iter().map(|(name, value)| format!("{name}={value}"));
            format!("{}\n", words.collect::<Vec<_>>().join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_shown_alone_and_several_by_name() {
        assert_eq!(plain(&[]), "");
        assert_eq!(plain(&[("bytes", Value::Number(512))]), "512\n");
        let two = [("a", Value::Number(-1)), ("b", Value::Bytes(vec![1, 255]))];
        assert_eq!(plain(&two), "a=-1 b=01ff\n");
        assert_eq!(object_of(&two), json!({ "a": -1, "b": "01ff" }));
        let large = [("a", Value::Number(u64::MAX.into()))];
        assert_eq!(object_of(&large), json!({ "a": u64::MAX }));
    }
}
