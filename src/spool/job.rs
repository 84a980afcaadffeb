//! A job: what is known of it, and its line in the journal.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Priority where none is asked for; 100 comes first.
pub(super) const PRIORITY: u8 = 50;
/// Highest priority; the lowest is 1.
pub(super) const PRIORITY_MAX: u8 = 100;

/// How far a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Being written; `flushed` is what a close has made durable, to be queued after a crash.
    Spooling { flushed: Option<u64> },
    /// Whole, under a name that begins with a dot: to be submitted by renaming it.
    Staged,
    /// In the queue.
    Queued,
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// Its number: of no other job, ever.
    pub(super) id: u64,
    pub(super) queue: String,
    /// The queue in whose directory its file is: where it began, until the next start.
    pub(super) home: String,
    /// The name it was written under; empty for what came without one.
    pub(super) name: OsString,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The user's name as a client on the network told it; empty for one of this host.
    pub(super) agent: String,
    pub(super) phase: Phase,
    pub(super) is_held: bool,
    pub(super) priority: u8,
    /// Smaller comes first, whatever the priority: `lpc topq`, and jobs that were interrupted.
    pub(super) front: i64,
    /// Order of submission.
    pub(super) seq: u64,
    pub(super) copies: u32,
    /// Bytes of one copy.
    pub(super) size: u64,
    /// Names and bytes of the files it is made of, where there are several.
    pub(super) files: Vec<(String, u64)>,
    /// When it was submitted, in seconds since 1970.
    pub(super) time: u64,
    /// How often its printing began anew.
    pub(super) restarts: u32,
    /// The printer that prints it now.
    pub(super) active: Option<String>,
    /// Without a banner page, whatever its queue does.
    pub(super) is_plain: bool,
    /// What sort of job its user calls it, for the banner page.
    pub(super) class: String,
    /// Held until then, in seconds since 1970; 0: not for a time.
    pub(super) until: u64,
    /// The number that a client on the network gave it, which is no other's only on that client.
    pub(super) client: Option<u64>,
}

/// Where a job stands in its queue: smaller is printed first.
pub(super) type Place = (i64, u8, u64, u64);

impl Job {
    pub(super) fn new(id: u64, queue: &str, name: &OsStr, (uid, gid): (u32, u32)) -> Job {
        Job {
            id,
            queue: queue.to_owned(),
            home: queue.to_owned(),
            name: name.to_owned(),
            uid,
            gid,
            agent: String::new(),
            phase: Phase::Spooling { flushed: None },
            is_held: false,
            priority: PRIORITY,
            front: 0,
            seq: 0,
            copies: 1,
            size: 0,
            files: Vec::new(),
            time: 0,
            restarts: 0,
            active: None,
            is_plain: false,
            class: String::new(),
            until: 0,
            client: None,
        }
    }

    pub(super) fn place(&self) -> Place {
        (self.front, PRIORITY_MAX - self.priority.min(PRIORITY_MAX), self.seq, self.id)
    }

    /// Whether a name keeps a file from being submitted at its close.
    pub(super) fn is_staging_name(name: &OsStr) -> bool {
        name.as_bytes().first() == Some(&b'.')
    }

    /// Its name in the listing: `17-report.txt`; a staged one has the name it was given.
    pub(super) fn file_name(&self) -> OsString {
        if Job::is_staging_name(&self.name) {
            return self.name.clone();
        }
        let mut name = OsString::from(format!("{}-", self.id));
        name.push(if self.name.is_empty() { OsStr::new("stdin") } else { &self.name });
        name
    }

    /// Its name for people, on one line.
    pub(super) fn title(&self) -> String {
        if self.name.is_empty() {
            return "(standard input)".into();
        }
        let plain = |c: char| if c.is_control() { '?' } else { c };
        self.name.to_string_lossy().chars().map(plain).collect()
    }

    /// Whether it is kept from being printed, by somebody or until a time.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_held || self.until != 0
    }

    /// Bytes of all copies.
    pub(super) fn total(&self) -> u64 {
        self.size.saturating_mul(u64::from(self.copies))
    }

    /// Its line in the journal.
    pub(super) fn record(&self) -> String {
        let phase = match self.phase {
            Phase::Spooling { flushed: None } => "spooling".into(),
            Phase::Spooling { flushed: Some(bytes) } => format!("closing:{bytes}"),
            Phase::Staged => "staged".into(),
            Phase::Queued => "queued".into(),
        };
        let files: Vec<String> = self
            .files
            .iter()
            .map(|(name, size)| format!("{size}:{}", escape(name.as_bytes())))
            .collect();
        format!(
            "job {} {} {} {} {} {} {phase} {} {} {} {} {} {} {} {} {} {} {} {} {} {}",
            self.id,
            escape(self.queue.as_bytes()),
            escape(self.name.as_bytes()),
            self.uid,
            self.gid,
            escape(self.agent.as_bytes()),
            u8::from(self.is_held),
            self.priority,
            self.front,
            self.seq,
            self.copies,
            self.size,
            self.time,
            self.restarts,
            escape(self.active.as_deref().unwrap_or_default().as_bytes()),
            u8::from(self.is_plain),
            if files.is_empty() { "-".into() } else { files.join(",") },
            escape(self.class.as_bytes()),
            self.until,
            self.client.map_or_else(|| "-".into(), |number| number.to_string()),
        )
    }

    /// The job of a line of the journal, without its word `job`.
    pub(super) fn parse(words: &[&str]) -> Option<Job> {
        let [id, queue, name, uid, gid, agent, phase, held, priority, front, seq, rest @ ..] =
            words
        else {
            return None;
        };
        let [copies, size, time, restarts, active, plain, files, more @ ..] = rest else {
            return None;
        };
        let text = |word: &str| String::from_utf8(unescape(word)?).ok();
        let phase = match *phase {
            "spooling" => Phase::Spooling { flushed: None },
            "staged" => Phase::Staged,
            "queued" => Phase::Queued,
            other => {
                let bytes = other.strip_prefix("closing:")?.parse().ok()?;
                Phase::Spooling { flushed: Some(bytes) }
            }
        };
        let file = |word: &str| {
            let (size, name) = word.split_once(':')?;
            Some((text(name)?, size.parse().ok()?))
        };
        Some(Job {
            id: id.parse().ok()?,
            queue: text(queue)?,
            home: text(queue)?,
            name: OsString::from_vec(unescape(name)?),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            agent: text(agent)?,
            phase,
            is_held: *held == "1",
            priority: priority.parse().ok()?,
            front: front.parse().ok()?,
            seq: seq.parse().ok()?,
            copies: copies.parse().ok()?,
            size: size.parse().ok()?,
            time: time.parse().ok()?,
            restarts: restarts.parse().ok()?,
            active: text(active).map(|name| (!name.is_empty()).then_some(name))?,
            is_plain: *plain == "1",
            // The first journals had no more words than that.
            class: more.first().map_or_else(|| Some(String::new()), |word| text(word))?,
            until: more.get(1).map_or(Some(0), |word| word.parse().ok())?,
            client: more.get(2).and_then(|word| word.parse().ok()),
            files: match *files {
                "-" => Vec::new(),
                list => list.split(',').map(file).collect::<Option<_>>()?,
            },
        })
    }
}

/// Bytes as one word: what is neither letter, digit nor one of a few signs as `%20`; `-` is none.
pub(super) fn escape(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".into();
    }
    let mut word = String::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        if byte.is_ascii_alphanumeric() || b"._+=@/".contains(&byte) || byte == b'-' && at > 0 {
            word.push(char::from(byte));
        } else {
            word.push_str(&format!("%{byte:02x}"));
        }
    }
    word
}

/// The bytes of a word.
pub(super) fn unescape(word: &str) -> Option<Vec<u8>> {
    if word == "-" {
        return Some(Vec::new());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [*rest.next()?, *rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_job_comes_back_from_its_line(
            name in prop::collection::vec(1_u8.., 0..40),
            numbers in (any::<u64>(), any::<u32>(), any::<i64>(), 1_u8..=100),
            files in prop::collection::vec(("\\PC{1,9}", any::<u64>()), 0..3),
            flushed in prop::option::of(any::<u64>()),
            flags in any::<(bool, bool)>(),
            (class, until, client) in ("\\PC{0,9}", any::<u64>(), any::<Option<u64>>()),
        ) {
            let mut job = Job::new(numbers.0, "lp0", OsStr::from_bytes(&name), (numbers.1, 7));
            job.front = numbers.2;
            job.priority = numbers.3;
            job.files = files;
            job.phase = Phase::Spooling { flushed };
            job.is_held = flags.0;
            job.active = flags.1.then(|| "lp0".into());
            (job.class, job.until, job.client) = (class, until, client);
            let line = job.record();
            prop_assert!(!line.contains('\n'));
            let words: Vec<&str> = line.split(' ').skip(1).collect();
            prop_assert_eq!(Job::parse(&words), Some(job));
        }

        #[test]
        fn no_line_panics(line in "\\PC{0,80}") {
            let words: Vec<&str> = line.split(' ').collect();
            let _ = Job::parse(&words);
        }
    }

    #[test]
    fn the_listing_shows_number_and_name() {
        let mut job = Job::new(17, "lp0", "report.txt".as_ref(), (0, 0));
        assert_eq!(job.file_name(), "17-report.txt");
        job.name = "".into();
        assert_eq!((job.file_name(), job.title()), ("17-stdin".into(), "(standard input)".into()));
        job.name = ".tmp".into();
        assert_eq!(job.file_name(), ".tmp");
    }

    #[test]
    fn the_front_beats_the_priority_and_that_beats_the_order() {
        let job = |front, priority, seq| {
            let mut job = Job::new(seq, "lp0", "x".as_ref(), (0, 0));
            (job.front, job.priority, job.seq) = (front, priority, seq);
            job.place()
        };
        assert!(job(-1, 1, 9) < job(0, 100, 1));
        assert!(job(0, 60, 9) < job(0, 50, 1));
        assert!(job(0, 50, 1) < job(0, 50, 2));
    }
}
