//! Faults on purpose: rules that say what goes wrong, on which device, where and when.
//!
//! A chip asks [`Faults::consult`] between its registers and its medium, once a command, so that
//! what a rule does comes up as it would from broken hardware: by status, sense and interrupt.
//!
//! 1. A rule is refused whole, in words that name the wrong one, or is armed whole.
//! 2. Rules are asked in the order in which they were added; the first that ends the command wins,
//!    the later ones count it as matched, not as fired.
//! 3. With no rule armed a command costs one look at a flag.

mod parse;

use crate::contract::{Op, Sense};
use crate::sync::Mutex;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use parse::parse;

/// Rules that can be armed at once.
pub const RULES_MAX: usize = 1024;

/// A command of a chip, as rules see it. Sectors are of 512 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// What.
    pub op: Op,
    /// First sector.
    pub sector: u64,
    /// How many.
    pub sectors: u64,
    /// On whose behalf.
    pub pid: u32,
}

/// What becomes of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// It takes so much longer, in nanoseconds.
    pub delay_nanos: u64,
    /// These sectors go bad before it starts.
    pub bad_sectors: Vec<u64>,
    /// How it ends, unless well.
    pub end: Option<End>,
}

/// How a command ends that does not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With this sense; the sectors before `at` have been transferred.
    Fail {
        /// First sector that was not.
        at: u64,
        /// What the chip tells.
        sense: Sense,
    },
    /// Not at all.
    Hang,
    /// The controller's program breaks down; the rule's name.
    Panic(String),
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fails with the sense that stands for an errno; `None`: an unrecovered read or write error.
    Error(Option<Sense>),
    /// Fails so many times as may succeed when tried again, then no more.
    Transient(u64),
    /// Fails as broken hardware does, until the device is repaired.
    Permanent,
    /// Nothing comes back.
    Hang,
    /// The controller's program breaks down.
    Panic,
    /// So many nanoseconds more.
    Delay(u64),
    /// The first sector goes bad.
    BadSector,
}

/// Which of the matching commands a rule is for, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// From the first to the second.
    Between(u64, u64),
    /// Every so many.
    Every(u64),
}

/// Which operations a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ops {
    /// All.
    Any,
    /// Reads.
    Read,
    /// Writes, discards and zeroing: whatever changes the medium.
    Write,
    /// Flushes.
    Flush,
}

/// One rule, as parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// On which device.
    pub device: String,
    /// For which operations.
    pub ops: Ops,
    /// First and last sector, of 512 bytes.
    pub blocks: Option<(u64, u64)>,
    /// For which of those that match.
    pub when: When,
    /// On whose behalf; `None`: anybody's.
    pub pid: Option<u32>,
    /// What it does.
    pub action: Action,
    /// As written, from `on` to the end.
    pub text: String,
}

struct Armed {
    rule: Rule,
    is_armed: bool,
    matched: u64,
    fired: u64,
}

/// See the head of this file.
#[derive(Default)]
pub struct Faults {
    is_any: AtomicBool,
    /// Commands until one fails without a rule; 0: none will. See [`Faults::fail_nth`].
    countdown: AtomicU64,
    rules: Mutex<Vec<Armed>>,
    devices: Mutex<BTreeSet<String>>,
}

const VERBS: &str = "add, list, remove or clear";

impl Faults {
    /// A device whose chip will consult these rules.
    pub fn register(&self, device: &str) {
        self.devices.lock().insert(device.into());
    }

    /// A device is gone; its rules stay, and match nothing.
    pub fn forget(&self, device: &str) {
        self.devices.lock().remove(device);
    }

    /// Does what stands behind `fault` in a `ctl` line, and answers.
    ///
    /// # Errors
    /// The refusal in words; nothing has changed then.
    pub fn command(&self, words: &[&str]) -> Result<String, String> {
        match words {
            [] => Err(format!("fault: wants {VERBS}")),
            ["add", rule @ ..] => self.add(parse(rule)?).map(|()| String::new()),
            ["list"] => Ok(self.list()),
            ["remove", name] => self.remove(name).map(|()| String::new()),
            ["clear"] => {
                self.clear(None);
                Ok(String::new())
            }
            ["clear", device] => {
                self.known(device)?;
                self.clear(Some(device));
                Ok(String::new())
            }
            ["remove", ..] => Err("fault remove: wants the name of one rule".into()),
            ["list" | "clear", _, word, ..] | ["list", word] => {
                Err(format!("fault {}: one word too many: `{word}`", words[0]))
            }
            [verb, ..] => Err(format!("fault: no such verb: `{verb}` ({VERBS})")),
        }
    }

    /// Arms a rule.
    ///
    /// # Errors
    /// In words: the name is taken, there is no such device, or [`RULES_MAX`] are armed.
    pub fn add(&self, rule: Rule) -> Result<(), String> {
        self.known(&rule.device)?;
        let mut rules = self.rules.lock();
        if rules.iter().any(|armed| armed.rule.name == rule.name) {
            return Err(format!("fault add: there is a rule `{}` already", rule.name));
        }
        if rules.len() >= RULES_MAX {
            return Err(format!("fault add: {RULES_MAX} rules are armed, remove one first"));
        }
        rules.push(Armed { rule, is_armed: true, matched: 0, fired: 0 });
        self.is_any.store(true, Ordering::Release);
        Ok(())
    }

    fn known(&self, device: &str) -> Result<(), String> {
        let devices = self.devices.lock();
        if devices.contains(device) {
            return Ok(());
        }
        let all = devices.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        Err(format!("fault: no such device: `{device}` (there are {all})"))
    }

    /// Takes a rule away.
    ///
    /// # Errors
    /// In words, when there is none of that name.
    pub fn remove(&self, name: &str) -> Result<(), String> {
        let mut rules = self.rules.lock();
        let place = rules.iter().position(|armed| armed.rule.name == name);
        let place = place.ok_or_else(|| format!("fault remove: no such rule: `{name}`"))?;
        rules.remove(place);
        self.note(&rules);
        Ok(())
    }

    /// Takes all rules away, or those on one device.
    pub fn clear(&self, device: Option<&str>) {
        let mut rules = self.rules.lock();
        rules.retain(|armed| device.is_some_and(|device| armed.rule.device != device));
        self.note(&rules);
    }

    /// A line a rule: `NAME armed=1 matched=N fired=N skipped=N rule=...`.
    #[must_use]
    pub fn list(&self) -> String {
        let mut text = String::new();
        for Armed { rule, is_armed, matched, fired } in self.rules.lock().iter() {
            let armed = u8::from(*is_armed);
            let skipped = matched - fired;
            let counts = format!("armed={armed} matched={matched} fired={fired} skipped={skipped}");
            let _ = writeln!(text, "{} {counts} rule={}", rule.name, rule.text);
        }
        text
    }

    /// The device was repaired: `permanent` rules that have fired on it end.
    pub fn repair(&self, device: &str) {
        for armed in self.rules.lock().iter_mut() {
            let is_cause = armed.rule.action == Action::Permanent && armed.fired > 0;
            if is_cause && armed.rule.device == device {
                armed.is_armed = false;
            }
        }
    }

    /// For tests: the `nth` command from now, of whatever device, meets a bad spot, once.
    pub fn fail_nth(&self, nth: u64) {
        self.countdown.store(nth, Ordering::Release);
        let rules = self.rules.lock();
        self.note(&rules);
    }

    /// Commands until the one that fails; 0 when it has, or was never asked for.
    #[must_use]
    pub fn countdown(&self) -> u64 {
        self.countdown.load(Ordering::Acquire)
    }

    fn note(&self, rules: &[Armed]) {
        let is_any = !rules.is_empty() || self.countdown() > 0;
        self.is_any.store(is_any, Ordering::Release);
    }

    /// What becomes of a command of `device`'s chip. Does not wait.
    #[must_use]
    pub fn consult(&self, device: &str, command: &Command) -> Verdict {
        if !self.is_any.load(Ordering::Acquire) {
            return Verdict::default();
        }
        let mut verdict = Verdict::default();
        let mut rules = self.rules.lock();
        if self.countdown() > 0 && self.countdown.fetch_sub(1, Ordering::AcqRel) == 1 {
            verdict.end = Some(spoiled(command, command.sector, None));
        }
        for armed in rules.iter_mut() {
            armed.apply(device, command, &mut verdict);
        }
        verdict
    }
}

/// A failed command: with `sense`, or as a bad spot at `at` would fail it.
fn spoiled(command: &Command, at: u64, sense: Option<Sense>) -> End {
    let sense = sense.unwrap_or(match command.op {
        Op::Read => Sense { key: 3, asc: 0x11, ..Sense::default() }, // unrecovered read error
        _ => Sense { key: 3, asc: 0x0c, ..Sense::default() },        // write error
    });
    let info = if sense.key == 3 && command.op != Op::Flush { Some(at) } else { None };
    End::Fail { at, sense: Sense { info, ..sense } }
}

impl Armed {
    fn apply(&mut self, device: &str, command: &Command, verdict: &mut Verdict) {
        let Some(at) = self.rule.matches(device, command).filter(|_| self.is_armed) else { return };
        self.matched += 1;
        let is_turn = match self.rule.when {
            When::Between(first, last) => (first..=last).contains(&self.matched),
            When::Every(nth) => self.matched.is_multiple_of(nth),
        };
        let is_spent = matches!(self.rule.action, Action::Transient(times) if self.fired >= times);
        if !is_turn || is_spent {
            return;
        }
        let hardware = Sense { key: 4, asc: 0x44, ..Sense::default() }; // internal target failure
        let transient = Sense { key: 0xb, asc: 0x47, ..Sense::default() }; // parity error
        let end = match self.rule.action {
            Action::Delay(nanos) => {
                verdict.delay_nanos = verdict.delay_nanos.saturating_add(nanos);
                self.fired += 1;
                return;
            }
            Action::BadSector => {
                verdict.bad_sectors.push(at);
                self.fired += 1;
                return;
            }
            _ if verdict.end.is_some() => return,
            Action::Error(sense) => spoiled(command, at, sense),
            Action::Transient(_) => spoiled(command, at, Some(transient)),
            Action::Permanent => spoiled(command, command.sector, Some(hardware)),
            Action::Hang => End::Hang,
            Action::Panic => End::Panic(self.rule.name.clone()),
        };
        self.fired += 1;
        verdict.end = Some(end);
    }
}

impl Rule {
    /// The first sector at which the rule meets the command.
    fn matches(&self, device: &str, command: &Command) -> Option<u64> {
        let is_op = match self.ops {
            Ops::Any => true,
            Ops::Read => command.op == Op::Read,
            Ops::Write => matches!(command.op, Op::Write | Op::Discard | Op::Zero),
            Ops::Flush => command.op == Op::Flush,
        };
        if !is_op || self.device != device || self.pid.is_some_and(|pid| pid != command.pid) {
            return None;
        }
        let Some((first, last)) = self.blocks else { return Some(command.sector) };
        let end = command.sector.saturating_add(command.sectors);
        let at = command.sector.max(first);
        (at <= last && at < end).then_some(at)
    }
}

#[cfg(test)]
mod tests;
