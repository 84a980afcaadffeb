//! The printing thread upon a printer made of memory, with somebody at the queue at any moment.

use super::*;
use crate::file::{Answer, Caller, Control};
use crate::spool::control::QueueControl;
use crate::spool::{QueueSettings, Settings};

use devices::engine::{Engine, Time};

const ROOT: Caller = Caller { pid: 0, uid: 0, gid: 0 };
const TEXT: &str = "all of it";

/// Acts when the printer is told to do something, by how many times it was told before.
type Moment = Box<dyn FnMut(usize) + Send>;

/// Prints at once; `moment` comes before each block or command, when the printer is at it.
#[derive(Default)]
struct Memory {
    paper: Mutex<Vec<u8>>,
    told: Mutex<usize>,
    moment: Mutex<Option<Moment>>,
}

impl Memory {
    fn tell(&self) {
        let mut told = self.told.lock();
        if let Some(moment) = self.moment.lock().as_mut() {
            moment(*told);
        }
        *told += 1;
    }

    fn text(&self) -> String {
        String::from_utf8(self.paper.lock().clone()).unwrap()
    }
}

impl CharDevice for Memory {
    fn read(&self, _: u64, _: &mut [u8]) -> Result<usize, IoError> {
        Err(IoError::Invalid)
    }

    fn write(&self, _: u64, data: &[u8]) -> Result<usize, IoError> {
        // On paper first: a wish finds as much printed as there can be.
        self.paper.lock().extend_from_slice(data);
        self.tell();
        Ok(data.len())
    }

    fn ioctl(&self, call: &mut Ioctl<'_>) -> Result<(), IoError> {
        if matches!(call.cmd, commands::BEGIN | commands::END) {
            self.tell();
        }
        Ok(())
    }
}

fn ctl(spool: &Arc<Spool>, line: &str) -> Result<String, Error> {
    let ear = QueueControl { spool: Arc::clone(spool), queue: "lp0".into() };
    match ear.run(&ROOT, line)? {
        Answer::Now(text) => Ok(text),
        Answer::Later(rest) => rest(&Interrupt::default()),
        Answer::Blocked(rest) => rest.wait(&Interrupt::default()),
    }
}

/// What came of a job during whose printing somebody gave a command.
#[derive(Debug)]
struct Seen {
    answer: Result<String, Error>,
    paper: String,
    /// It is in the queue still.
    is_kept: bool,
}

/// Prints a job; `line` is given when the printer has been told `when` things. `None`: it was
/// never told so many.
fn interrupted(when: usize, line: &'static str) -> Option<Seen> {
    let dir = tempfile::tempdir().unwrap();
    let printer: Arc<Memory> = Arc::default();
    let unit: Arc<dyn CharDevice> = printer.clone();
    let spool = Spool::open(Settings {
        dir: dir.path().to_owned(),
        owner: (0, 0),
        queues: vec![QueueSettings { name: "lp0".into(), ..QueueSettings::default() }],
        printers: vec![PrinterUnit { name: "lp0".into(), unit, sink: "memory".into() }],
        engine: Engine::new(Time::Simulated),
    })
    .unwrap();
    let begun = spool.begin("lp0", "x".as_ref(), (0, 0), false).unwrap();
    let writer = spool.writer(begun.id, begun.file, false).unwrap();
    let call = crate::file::Call { caller: ROOT, flags: 0, id: 1 };
    crate::spool::tests::finish(writer.write(&call, 0, TEXT.as_bytes())).unwrap();
    writer.release();
    let answer: Arc<Mutex<Option<Result<String, Error>>>> = Arc::default();
    let (ear, said) = (Arc::downgrade(&spool), Arc::clone(&answer));
    *printer.moment.lock() = Some(Box::new(move |told| {
        if told == when {
            let spool = ear.upgrade().unwrap();
            *said.lock() = Some(ctl(&spool, line));
        }
    }));
    spool.start().unwrap();
    let clock = std::time::SystemTime::now();
    let is_over = || {
        let core = spool.core.lock();
        core.jobs.values().all(|job| job.active.is_none() && job.is_held || is_stopped(&core, job))
    };
    while !is_over() {
        assert!(clock.elapsed().unwrap().as_secs() < 20, "{}", printer.text());
        std::thread::yield_now();
    }
    let is_kept = !spool.core.lock().jobs.is_empty();
    spool.stop();
    let answer = answer.lock().take()?;
    Some(Seen { answer, paper: printer.text(), is_kept })
}

fn is_stopped(core: &Core, job: &Job) -> bool {
    job.active.is_none() && core.queues[&job.queue].flags.is_stopped
}

/// The same at every moment of a job's printing.
fn at_any_moment(line: &'static str) -> Vec<Seen> {
    let all: Vec<Seen> = (0..20).map_while(|when| interrupted(when, line)).collect();
    assert!(all.len() >= 3, "beginning, bytes and end: {all:?}");
    all
}

/// Its output always fails.
struct Broken(Arc<WaitQueue>);

impl CharDevice for Broken {
    fn read(&self, _: u64, _: &mut [u8]) -> Result<usize, IoError> {
        Err(IoError::Invalid)
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<usize, IoError> {
        Err(IoError::Hardware)
    }

    fn ioctl(&self, call: &mut Ioctl<'_>) -> Result<(), IoError> {
        if call.cmd == commands::OUTCOME { Err(IoError::Hardware) } else { Ok(()) }
    }

    fn waits(&self) -> Option<Arc<WaitQueue>> {
        Some(Arc::clone(&self.0))
    }
}

/// A started queue upon such a printer.
fn broken(dir: &std::path::Path, sink: &str) -> Arc<Spool> {
    let spool = Spool::open(Settings {
        dir: dir.to_owned(),
        owner: (0, 0),
        queues: vec![QueueSettings { name: "lp0".into(), ..QueueSettings::default() }],
        printers: vec![PrinterUnit {
            name: "lp0".into(),
            unit: Arc::new(Broken(Arc::default())),
            sink: sink.into(),
        }],
        engine: Engine::new(Time::Real),
    })
    .unwrap();
    spool.engine.start().unwrap();
    spool.start().unwrap();
    spool
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let clock = std::time::SystemTime::now();
    while !is_so() {
        assert!(clock.elapsed().unwrap().as_secs() < 20, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn the_trouble_of_a_job_is_forgotten_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let spool = broken(dir.path(), "out");
    let begun = spool.begin("lp0", "x".as_ref(), (0, 0), false).unwrap();
    let writer = spool.writer(begun.id, begun.file, false).unwrap();
    let call = crate::file::Call { caller: ROOT, flags: 0, id: 1 };
    crate::spool::tests::finish(writer.write(&call, 0, TEXT.as_bytes())).unwrap();
    writer.release();
    until("its failure", || spool.view("lp0").trouble.contains("out failed"));
    ctl(&spool, "rm 1").unwrap();
    assert_eq!(spool.view("lp0").short(), "no entries\n");
    spool.stop();
}

#[test]
fn an_output_that_is_not_there_is_told_before_there_is_a_job() {
    let dir = tempfile::tempdir().unwrap();
    let spool = broken(dir.path(), "|no-such-command");
    let words = "lp0: its command no-such-command is not to be found\nno entries\n";
    until("a warning", || spool.view("lp0").short() == words);
    spool.stop();
}

#[test]
fn what_is_held_is_not_on_paper_whole_and_what_is_on_paper_whole_is_not_held() {
    let all = at_any_moment("hold 1");
    for Seen { answer, paper, is_kept } in &all {
        assert_eq!(answer.is_ok(), *is_kept, "{all:?}");
        assert_eq!(answer.is_ok(), !paper.contains(TEXT), "{all:?}");
    }
    assert!(all[0].is_kept, "{all:?}");
    let last = all.last().unwrap();
    assert_eq!((last.paper.as_str(), last.is_kept), (TEXT, false));
    let refusal = last.answer.as_ref().unwrap_err().to_string();
    assert!(refusal.contains("can only be removed now"), "{refusal}");
}

#[test]
fn what_is_aborted_is_not_on_paper_whole_and_what_is_on_paper_whole_is_done() {
    let all = at_any_moment("abort");
    for Seen { answer, paper, is_kept } in &all {
        let goes_back = answer.as_ref().unwrap().contains("goes back to the queue");
        assert_eq!((goes_back, goes_back), (*is_kept, !paper.contains(TEXT)), "{all:?}");
    }
    assert!(all[0].is_kept && !all.last().unwrap().is_kept, "{all:?}");
}

#[test]
fn what_is_begun_anew_is_on_paper_whole_once() {
    // One that begins anew is told more, and is not interrupted again.
    for when in 0..3 {
        let Some(seen) = interrupted(when, "redo 1") else { break };
        assert_eq!(seen.paper.matches(TEXT).count(), 1, "{seen:?}");
        assert!(!seen.is_kept);
    }
}

#[test]
fn a_job_is_removed_at_any_moment() {
    for seen in at_any_moment("rm 1") {
        assert!(seen.answer.is_ok() && !seen.is_kept, "{seen:?}");
    }
}
