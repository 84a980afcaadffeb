//! `lpc`: the operator's commands, which may be shortened as long as they stay one.

use super::{Office, Said};
use std::io::BufRead;

/// `lpc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  spindle lpc stop lp0")]
pub struct LpcArgs {
    /// A command and its words (`lpc help` lists them); without any, lines of standard input
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// A command of `lpc`, what `.ctl` calls it, and what it does.
const VERBS: [(&str, &str, &str); 25] = [
    ("abort", "abort", "stop printing now; the job goes back to the queue, in front"),
    ("bottomq", "bottom", "put jobs behind all others"),
    ("clean", "clean", "remove staged files that nobody has touched for a minute"),
    ("disable", "disable", "take no new jobs"),
    ("down", "down", "stop and disable, and say why: lpc down lp0 paper jam"),
    ("enable", "enable", "take new jobs"),
    ("exit", "exit", "leave"),
    ("help", "help", "this list"),
    ("hold", "hold", "hold jobs: lpc hold lp0 17"),
    ("holdall", "holdall", "hold all new jobs"),
    ("move", "move", "move jobs: lpc move lp0 17 lp1"),
    ("msg", "msg", "say something of a queue"),
    ("noholdall", "noholdall", "no longer hold new jobs"),
    ("pri", "pri", "give a job a priority: lpc pri lp0 17 80"),
    ("quit", "exit", "leave"),
    ("redo", "redo", "print the active job from its beginning again"),
    ("release", "release", "let held jobs go"),
    ("restart", "restart", "abort and start"),
    ("setstatus", "msg", "say something of a queue"),
    ("start", "start", "print"),
    ("status", "status", "tell the state of queues"),
    ("stop", "stop", "stop printing after the current job"),
    ("tclean", "tclean", "tell what clean would remove"),
    ("topq", "top", "put jobs first: lpc topq lp0 17 18"),
    ("up", "up", "enable and start"),
];

/// The command meant by a word.
fn verb(word: &str) -> Result<&'static str, String> {
    if word == "?" {
        return Ok("help");
    }
    if let Some((_, verb, _)) = VERBS.iter().find(|(name, ..)| *name == word) {
        return Ok(verb);
    }
    let near: Vec<_> = VERBS.iter().filter(|(name, ..)| name.starts_with(word)).collect();
    match near.as_slice() {
        [(_, verb, _)] => Ok(verb),
        [] => Err("?Invalid command".into()),
        _ => Err("?Ambiguous command".into()),
    }
}

/// Obeys the words, or the lines of standard input.
///
/// # Errors
/// What is wrong with the command itself.
pub fn lpc(office: &Office, args: &LpcArgs) -> Result<Said, String> {
    let mut said = Said::default();
    if !args.words.is_empty() {
        obey(office, &args.words, &mut said)?;
        return Ok(said);
    }
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| crate::words::of_host(&error))?;
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match words.first().map(|word| verb(word)) {
            None => {}
            Some(Ok("exit")) => break,
            Some(_) => {
                if let Err(words) = obey(office, &words, &mut said) {
                    said.wrong.push(words);
                }
            }
        }
    }
    Ok(said)
}

fn obey(office: &Office, words: &[String], said: &mut Said) -> Result<(), String> {
    let verb = verb(&words[0])?;
    match verb {
        "help" => {
            for (name, _, help) in VERBS {
                said.out += &format!("{name:<10} {help}\n");
            }
            return Ok(());
        }
        "exit" => return Ok(()),
        _ => {}
    }
    let queues = match words.get(1).map(String::as_str) {
        Some("all") => office.queues()?,
        None if verb == "status" => office.queues()?,
        None => return Err(format!("{}: which queue? Or all", words[0])),
        Some(name) => vec![office.queue(Some(name))?],
    };
    let rest: Vec<&str> = words.iter().skip(2).map(String::as_str).collect();
    for queue in queues {
        match verb {
            "restart" => {
                said.add(told(office.ctl(&queue, &["abort"])));
                said.add(told(office.ctl(&queue, &["start"])));
            }
            _ => {
                let line: Vec<&str> = std::iter::once(verb).chain(rest.iter().copied()).collect();
                said.add(told(office.ctl(&queue, &line)));
            }
        }
    }
    Ok(())
}

/// A refusal as `lpc` tells it.
fn told(answer: Result<String, String>) -> Result<String, String> {
    answer.map_err(|words| match words.ends_with("Privileged command") {
        true => "?Privileged command".into(),
        false => words,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_may_be_shortened_while_they_stay_one() {
        assert_eq!(verb("sto"), Ok("stop"));
        assert_eq!(verb("topq"), Ok("top"));
        assert_eq!(verb("hold"), Ok("hold"), "a whole word is itself");
        assert_eq!(verb("?"), Ok("help"));
        assert_eq!(verb("st"), Err("?Ambiguous command".into()));
        assert_eq!(verb("wibble"), Err("?Invalid command".into()));
    }
}
