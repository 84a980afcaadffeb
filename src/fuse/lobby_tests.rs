//! Blocked calls are served in order and once, and who polls is told of news only.

use super::super::park::Park;
use super::*;
use crate::error::Error;
use crate::file::{Answer, Caller, Nature, Seek};
use std::sync::mpsc::{Receiver, Sender, channel};

const LONG: Duration = Duration::from_secs(60);
/// A guest's number, and what it was answered.
type Told = (u32, Result<(), Errno>);

/// Is answered with a piece of `store`, one a call; tells its number and what it came to.
struct Reader {
    number: u32,
    store: Arc<Mutex<u32>>,
    tell: Sender<Told>,
}

impl Guest for Reader {
    fn try_again(&mut self, turn: Turn) -> bool {
        let mut store = self.store.lock();
        let result = if *store > 0 {
            *store -= 1;
            Ok(())
        } else if turn == Turn::Last {
            Err(Errno::EINTR)
        } else {
            return false;
        };
        self.tell.send((self.number, result)).unwrap();
        true
    }

    fn refuse(&mut self, errno: Errno) {
        self.tell.send((self.number, Err(errno))).unwrap();
    }
}

struct Scene {
    lobby: Lobby,
    park: Park,
    queue: Arc<WaitQueue>,
    store: Arc<Mutex<u32>>,
    tell: Sender<Told>,
}

impl Scene {
    fn enter(&self, number: u32, seen: u64) -> Arc<devices::Interrupt> {
        let parked = self.park.enter(0);
        let interrupt = Arc::clone(parked.interrupt());
        let (store, tell) = (Arc::clone(&self.store), self.tell.clone());
        let guest = Box::new(Reader { number, store, tell });
        let queue = Arc::clone(&self.queue);
        self.lobby.enter(Entry { queue, seen, handle: 1, tid: number, parked, guest });
        interrupt
    }
}

fn scene() -> (Scene, Receiver<Told>) {
    let (tell, told) = channel();
    let (queue, store) = Default::default();
    let (lobby, park) = (Lobby::default(), Park::new(|| {}));
    (Scene { lobby, park, queue, store, tell }, told)
}

#[test]
fn thousands_wait_without_a_thread_each_and_are_served_in_order() {
    let (scene, told) = scene();
    for number in 0..3000 {
        scene.enter(number, 0);
    }
    *scene.store.lock() = 3000;
    scene.queue.ring();
    for number in 0..3000 {
        assert_eq!(told.recv_timeout(LONG).unwrap(), (number, Ok(())));
    }
    assert!(scene.lobby.settle(LONG));
    assert!(scene.park.is_empty());
}

#[test]
fn a_ring_before_the_entry_is_not_missed() {
    let (scene, told) = scene();
    let seen = scene.queue.generation();
    *scene.store.lock() = 1;
    scene.queue.ring();
    scene.enter(7, seen);
    assert_eq!(told.recv_timeout(LONG).unwrap(), (7, Ok(())));
}

#[test]
fn who_is_called_away_is_answered_and_the_others_go_on_waiting() {
    let (scene, told) = scene();
    scene.enter(1, 0);
    let interrupt = scene.enter(2, 0);
    interrupt.raise();
    assert_eq!(told.recv_timeout(LONG).unwrap(), (2, Err(Errno::EINTR)));
    assert_eq!(scene.lobby.waiting_on(1), [1]);
    assert_eq!(scene.lobby.lister()(), [(1, 1)]);
    scene.lobby.call_away(1, &[1]);
    assert_eq!(told.recv_timeout(LONG).unwrap(), (1, Err(Errno::EINTR)));
}

#[test]
fn closing_the_park_answers_everybody_also_who_comes_later() {
    let (scene, told) = scene();
    for number in 0..10 {
        scene.enter(number, 0);
    }
    scene.park.close();
    scene.enter(10, 0);
    for _ in 0..=10 {
        assert_eq!(told.recv_timeout(LONG).unwrap().1, Err(Errno::EINTR));
    }
    assert!(scene.lobby.settle(LONG));
}

/// An open file that holds what it is told to.
#[derive(Default)]
struct Shown {
    now: Mutex<Polled>,
    queue: Arc<WaitQueue>,
}

impl FileOps for Shown {
    fn kind(&self) -> &'static str {
        "char"
    }

    fn nature(&self) -> Nature {
        Nature::default()
    }

    fn read(&self, _: &Call, _: u64, _: &mut Vec<u8>) -> Result<Answer<usize, Vec<u8>>, Error> {
        Err(Errno::EIO.into())
    }

    fn write(&self, _: &Call, _: u64, _: &[u8]) -> Result<Answer<usize>, Error> {
        Err(Errno::EIO.into())
    }

    fn seek(&self, _: u64, _: Seek) -> Result<Answer<u64>, Error> {
        Err(Errno::ESPIPE.into())
    }

    fn poll_queues(&self) -> Vec<Arc<WaitQueue>> {
        vec![Arc::clone(&self.queue)]
    }

    fn poll(&self, _: &Call) -> Polled {
        *self.now.lock()
    }
}

const IN: u32 = 1;
const OUT: u32 = 4;

impl Shown {
    fn look(&self) -> Polled {
        *self.now.lock()
    }

    fn show(&self, ready: u32, news: [u64; 2]) {
        *self.now.lock() = Polled { ready, news };
    }
}

/// A file that shows `ready` at first, and how to poll it for `events`.
fn polled(ready: u32) -> (Lobby, Arc<Shown>, impl Fn(u32, Polled), Receiver<()>) {
    let (lobby, file) = (Lobby::default(), Arc::new(Shown::default()));
    file.show(ready, [1, 1]);
    let (tell, told) = channel();
    let (hall, ops) = (lobby.clone(), Arc::clone(&file) as Arc<dyn FileOps>);
    let caller = Caller { pid: 1, uid: 0, gid: 0 };
    let watch = move |events, looked| {
        let (call, tell) = (Call { caller, flags: 0, id: 1 }, tell.clone());
        let tell = Box::new(move || tell.send(()).map_err(io::Error::other));
        hall.watch_poll(1, &ops, call, (events, looked), tell);
    };
    (lobby, file, watch, told)
}

#[test]
fn a_poller_is_told_once_of_what_comes() {
    let (_lobby, file, watch, told) = polled(0);
    watch(IN, file.look());
    file.show(IN, [2, 1]);
    file.queue.ring();
    told.recv_timeout(LONG).unwrap();
    file.show(IN, [3, 1]);
    file.queue.ring();
    watch(IN, file.look());
    assert!(told.try_recv().is_err());
}

#[test]
fn a_poller_is_not_told_what_it_has_seen() {
    let (lobby, file, watch, told) = polled(IN);
    watch(IN, file.look());
    // The ring for what was seen comes late, and there is room to write.
    lobby.hall.tell(1);
    file.show(IN | OUT, [1, 2]);
    lobby.hall.tell(1);
    assert!(told.try_recv().is_err());
    file.show(IN | OUT, [2, 2]);
    lobby.hall.tell(1);
    told.try_recv().unwrap();
}

#[test]
fn a_poller_is_told_what_came_right_after_its_look() {
    let (_lobby, file, watch, told) = polled(0);
    let looked = file.look();
    file.show(IN, [2, 1]);
    watch(IN, looked);
    told.try_recv().unwrap();
}

#[test]
fn a_second_poller_takes_no_news_from_the_first() {
    let (lobby, file, watch, told) = polled(0);
    watch(IN, file.look());
    file.show(IN | OUT, [2, 2]);
    // It has seen the news that the first sleeps for.
    watch(OUT, file.look());
    told.try_recv().unwrap();
    // Who waits to write is not told again because another waits to read.
    watch(OUT, file.look());
    watch(IN, file.look());
    lobby.hall.tell(1);
    assert!(told.try_recv().is_err());
}
