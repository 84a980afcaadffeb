//! The order of print queues, and what is said of their jobs, against a model: each command is
//! answered and has been done, or the daemon died in it and all of it has been done, or nothing.
//!
//! `SOAK_ROUNDS` says how many lives the daemon has (200 by hand), `SEED` replays the commands.

use crate::house::{Dice, House};
use crate::{Check, check};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub const CHECKS: &[Check] =
    &[check("sp_11_kill_9_keeps_order_priorities_and_holds", &[], kept_in_order)];

const QUEUES: [&str; 2] = ["lp0", "lp1"];
/// Most jobs at once: the shorter the queues, the more often each is touched.
const JOBS_MAX: usize = 30;

/// A job, and where it stands.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    id: u64,
    queue: usize,
    front: i64,
    priority: u8,
    seq: u64,
    is_held: bool,
}

/// What is seen of a job: its name, priority, and whether it is held.
type Seen = (String, u64, bool);

#[derive(Clone, Debug, Default)]
struct Model {
    rows: Vec<Row>,
    /// Before and behind everything so far.
    front: i64,
    seq: u64,
    /// How many jobs there have been.
    count: u64,
}

impl Model {
    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn seen(&self) -> [Vec<Seen>; 2] {
        [0, 1].map(|queue| {
            let mut rows: Vec<&Row> = self.rows.iter().filter(|row| row.queue == queue).collect();
            rows.sort_by_key(|row| (row.front, 100 - row.priority, row.seq));
            rows.iter().map(|r| (r.name.clone(), r.priority.into(), r.is_held)).collect()
        })
    }

    /// Some of a queue's jobs, in any order: where they are in `rows`, and the words for them.
    fn some(&self, dice: &mut Dice, queue: usize, most: u64) -> (Vec<usize>, String) {
        let mut all: Vec<usize> =
            (0..self.rows.len()).filter(|&at| self.rows[at].queue == queue).collect();
        let mut picked = Vec::new();
        for _ in 0..=dice.below(most) {
            if !all.is_empty() {
                let at = dice.below(all.len() as u64);
                picked.push(all.swap_remove(usize::try_from(at).unwrap()));
            }
        }
        let words: Vec<String> = picked.iter().map(|&at| self.rows[at].id.to_string()).collect();
        (picked, words.join(" "))
    }

    /// A command to `queue` that changes jobs which are there, done here; its words.
    fn change(&mut self, dice: &mut Dice, queue: usize) -> Option<String> {
        let kind = dice.below(8);
        let (picked, ids) = self.some(dice, queue, if matches!(kind, 0 | 1) { 1 } else { 4 });
        let first = *picked.first()?;
        let line = match kind {
            0 => {
                self.rows[first].priority = u8::try_from(1 + dice.below(100)).unwrap();
                format!("pri {ids} {}", self.rows[first].priority)
            }
            1 => {
                self.shift(&[first], 1 - queue);
                format!("move {ids} {}", QUEUES[1 - queue])
            }
            2 | 3 => {
                self.front -= i64::try_from(picked.len()).unwrap();
                for (front, &at) in (self.front..).zip(&picked) {
                    self.rows[at].front = front;
                }
                format!("top {ids}")
            }
            4 => {
                for at in picked {
                    (self.rows[at].front, self.rows[at].seq) = (0, self.next_seq());
                }
                format!("bottom {ids}")
            }
            5 | 6 => {
                picked.iter().for_each(|&at| self.rows[at].is_held = kind == 5);
                format!("{} {ids}", if kind == 5 { "hold" } else { "release" })
            }
            _ if dice.below(4) == 0 => {
                let all: Vec<usize> =
                    (0..self.rows.len()).filter(|&at| self.rows[at].queue == queue).collect();
                self.shift(&all, 1 - queue);
                format!("move * {}", QUEUES[1 - queue])
            }
            _ => {
                let mut at = 0;
                self.rows.retain(|_| {
                    at += 1;
                    !picked.contains(&(at - 1))
                });
                format!("rm {ids}")
            }
        };
        Some(line)
    }

    fn shift(&mut self, picked: &[usize], queue: usize) {
        for &at in picked {
            (self.rows[at].queue, self.rows[at].front) = (queue, 0);
        }
    }

    /// A new job of `queue`; the words that submit its staged file.
    fn add(&mut self, dice: &mut Dice, queue: usize) -> String {
        self.count += 1;
        let name = format!("n{}", self.count);
        let priority = u8::try_from(1 + dice.below(100)).unwrap();
        let (is_held, seq) = (dice.below(4) == 0, self.next_seq());
        let line =
            format!("submit .{name} name={name} priority={priority} hold={}", u8::from(is_held));
        self.rows.push(Row { name, id: 0, queue, front: 0, priority, seq, is_held });
        line
    }
}

/// A command to a queue; its answer, or `None` when nobody answered.
fn told(h: &House, queue: &str, line: &str) -> Option<String> {
    let path = h.tree().join("spool").join(queue).join(".ctl");
    let mut ear = OpenOptions::new().read(true).write(true).open(path).ok()?;
    ear.write_all(line.as_bytes()).ok()?;
    let mut answer = String::new();
    // Written is done; what it says is the number of a new job, which the listing tells, too.
    let _ = ear.read_to_string(&mut answer);
    Some(answer)
}

/// Commands until the daemon is killed. The last models: of what was answered, and of that and
/// the command that was not.
fn work(h: &House, dice: &mut Dice, model: Model, is_over: &AtomicBool) -> [Model; 2] {
    let mut model = model;
    loop {
        let (queue, mut next) = (usize::try_from(dice.below(2)).unwrap(), model.clone());
        let is_new = model.rows.len() < JOBS_MAX && dice.below(3) == 0;
        let line = if is_new {
            let line = next.add(dice, queue);
            let name = format!("spool/{}/.n{}", QUEUES[queue], next.count);
            if std::fs::write(h.tree().join(name), format!("n{}\n", next.count)).is_err() {
                assert!(is_over.load(Ordering::SeqCst), "a staged file is refused");
                model.count = next.count;
                return [model.clone(), model];
            }
            line
        } else {
            let Some(line) = next.change(dice, queue) else { continue };
            line
        };
        let Some(answer) = told(h, QUEUES[queue], &line) else {
            assert!(is_over.load(Ordering::SeqCst), "{line}: refused; {}", h.log());
            model.count = next.count;
            return [model, next];
        };
        if let Some(row) = next.rows.last_mut().filter(|row| row.id == 0) {
            row.id = answer.trim().parse().unwrap_or(0);
        }
        model = next;
    }
}

/// What the daemon shows, and the number of each job.
fn shown(h: &House) -> ([Vec<Seen>; 2], Vec<(String, u64)>) {
    let mut ids = Vec::new();
    let seen = QUEUES.map(|queue| {
        let text = h.text(&format!("spool/{queue}/.json"));
        let view: serde_json::Value = serde_json::from_str(&text).unwrap();
        let jobs = view["jobs"].as_array().unwrap().iter().map(|job| {
            let name = job["files"][0]["name"].as_str().unwrap().to_owned();
            ids.push((name.clone(), job["job"].as_u64().unwrap()));
            (name, job["priority"].as_u64().unwrap(), job["rank"] == "held")
        });
        jobs.collect()
    });
    (seen, ids)
}

fn kept_in_order() {
    let rounds = std::env::var("SOAK_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let mut dice = Dice::from_env(13);
    let h = House::new();
    QUEUES.iter().for_each(|queue| drop(told(&h, queue, "stop").unwrap()));
    let (mut model, mut done) = (Model::default(), 0);
    for round in 1..=rounds {
        let (is_over, moment) = (AtomicBool::new(false), Duration::from_millis(dice.below(400)));
        let begun = model.clone();
        let [answered, asked] = std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                std::thread::sleep(moment);
                is_over.store(true, Ordering::SeqCst);
                h.kill();
            });
            let models = work(&h, &mut dice, begun, &is_over);
            killer.join().unwrap();
            models
        });
        h.sh("fusermount3 -uz $M 2>/dev/null || true");
        h.mount();
        let (seen, ids) = shown(&h);
        let is_done = seen != answered.seen();
        assert!(
            !is_done || seen == asked.seen(),
            "round {round}: {seen:#?}\nis neither {answered:#?}\nnor {asked:#?}\n{}",
            h.log()
        );
        done += u64::from(is_done);
        model = if is_done { asked } else { answered };
        for row in &mut model.rows {
            let id = ids.iter().find(|(name, _)| *name == row.name).unwrap().1;
            assert!(row.id == 0 || row.id == id, "{}: {} was {id}", row.name, row.id);
            row.id = id;
        }
    }
    let all = model.count;
    eprintln!("{all} jobs, {rounds} deaths; in {done} of them all of a command was done");
    QUEUES.iter().for_each(|queue| drop(told(&h, queue, "start").unwrap()));
    for (queue, jobs) in QUEUES.iter().zip(model.seen()) {
        let free: String =
            jobs.iter().filter(|job| !job.2).map(|job| format!("{}\n", job.0)).collect();
        crate::house::wait_for("the last job on paper", || {
            let paper = std::fs::read_to_string(h.state().join(format!("{queue}.out")));
            paper.unwrap_or_default() == free
        });
    }
}
