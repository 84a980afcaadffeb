//! The exam that every block driver takes: truth, bounds, alignment, faults, recovery.
//!
//! Each test boots a machine from a description, so that what is examined is the whole way from a
//! request to the medium: queue, driver, ports, memory bus, chip, line.

use crate::conf::attach_all;
use crate::contract::{
    BlockDevice, Class, Clock, Failure, IoError, Op, Origin, PropertyError, Request, Sector, Sense,
    UnitCommand, UnitConfig, Value, WaitQueue,
};
use crate::engine::{Engine, Time};
use crate::machine::Machine;
use crate::sync::{Arc, Mutex};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

const DRIVERS: [&str; 4] = ["sd", "hd", "fd", "ram"];
const SECTORS: u64 = 2880;

struct Bench {
    machine: Machine,
    unit: Arc<dyn BlockDevice>,
}

type Fate = Result<Vec<u8>, Failure>;

fn bench_with(driver: &str, values: &[(&str, Value)]) -> Bench {
    bench_in(Time::Simulated, driver, values)
}

fn bench_in(time: Time, driver: &str, values: &[(&str, Value)]) -> Bench {
    let mut config = UnitConfig { name: format!("{driver}0"), ..UnitConfig::default() };
    config.driver = driver.into();
    config.values.insert("size".into(), Value::Number(SECTORS * 512));
    let timing = match driver {
        "hd" => "disk7200",
        "fd" => "floppy",
        _ => "none",
    };
    config.values.insert("timing".into(), Value::Text(timing.into()));
    for (key, value) in values {
        config.values.insert((*key).into(), value.clone());
    }
    let machine = Machine::new(Engine::new(time), None, 1);
    let (switch, report) = attach_all(&machine, &[config.clone()]);
    assert_eq!(report.refusals().collect::<Vec<_>>(), Vec::<String>::new());
    let unit = switch.named(&config.name).unwrap().device;
    Bench { machine, unit }
}

fn bench(driver: &str) -> Bench {
    bench_with(driver, &[])
}

impl Bench {
    /// Submits what `make` builds and waits for its fate.
    fn run(&self, make: impl FnOnce(crate::contract::Done) -> Request) -> Fate {
        let fate = Arc::new(Mutex::new(None));
        let bell = Arc::new(WaitQueue::default());
        let (inner, ring) = (Arc::clone(&fate), Arc::clone(&bell));
        let request = make(Box::new(move |memory, result| {
            *inner.lock() = Some(result.map(|()| memory));
            ring.ring();
        }));
        if let Err(rejected) = self.unit.submit(request) {
            return Err(rejected.0);
        }
        self.machine.engine.wait(&bell, None, || fate.lock().is_some()).unwrap();
        fate.lock().take().unwrap()
    }

    fn read(&self, sector: u64, sectors: u64) -> Fate {
        let memory = vec![0xee; usize::try_from(sectors * 512).unwrap()];
        self.run(|done| Request::read(Sector(sector), memory, origin(7), done))
    }

    fn write(&self, sector: u64, data: Vec<u8>) -> Fate {
        self.run(|done| Request::write(Sector(sector), data, origin(7), done))
    }

    fn flush(&self) -> Fate {
        self.run(|done| Request::flush(origin(7), done))
    }

    fn discard(&self, sector: u64, sectors: u64) -> Fate {
        self.run(|done| Request::discard(Sector(sector), sectors, origin(7), done))
    }

    fn zero(&self, sector: u64, sectors: u64) -> Fate {
        self.run(|done| Request::zero(Sector(sector), sectors, origin(7), done))
    }

    fn fault(&self, rule: &str) {
        let words = rule.split_whitespace().collect::<Vec<_>>();
        self.machine.faults.command(&words).unwrap();
    }

    fn property(&self, name: &str) -> String {
        self.unit.properties().into_iter().find(|(known, _)| *known == name).unwrap().1
    }
}

fn origin(pid: u32) -> Origin {
    Origin { pid, class: Class::Caller, id: 0 }
}

fn fails(fate: Fate) -> (IoError, Sense) {
    let failure = fate.unwrap_err();
    (failure.error, failure.sense)
}

#[test]
fn what_was_written_is_read_on_every_driver() {
    for driver in DRIVERS {
        let bench = bench(driver);
        assert_eq!(bench.unit.geometry().unwrap().sectors, SECTORS, "{driver}");
        let data = (0..8192u32).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<_>>();
        let back = bench.write(3, data.clone()).unwrap();
        assert_eq!(back, data, "{driver}: the memory of a write comes back");
        bench.flush().unwrap();
        assert!(bench.read(3, 16).unwrap() == data, "{driver}");
        assert_eq!(bench.read(2, 1).unwrap(), [0; 512], "{driver}");
        assert_eq!(bench.read(19, 1).unwrap(), [0; 512], "{driver}");
    }
}

#[test]
fn discarded_and_zeroed_sectors_read_as_zeros_on_every_driver() {
    for driver in DRIVERS {
        let bench = bench(driver);
        bench.write(0, vec![5; 512 * 36]).unwrap();
        bench.discard(8, 8).unwrap();
        bench.zero(20, 1).unwrap();
        let data = bench.read(0, 36).unwrap();
        let zeros = (0..36).filter(|sector| data[sector * 512] == 0).collect::<Vec<_>>();
        assert_eq!(zeros, [8, 9, 10, 11, 12, 13, 14, 15, 20], "{driver}");
        assert_eq!(bench.unit.stored_from(Sector(8)), Some((Sector(16), Sector(40))), "{driver}");
        assert_eq!(bench.unit.stored_from(Sector(40)), None, "{driver}");
    }
}

#[test]
fn past_the_end_is_refused_untouched_on_every_driver() {
    for driver in DRIVERS {
        let bench = bench(driver);
        bench.write(SECTORS - 1, vec![1; 512]).unwrap();
        for fate in [
            bench.read(SECTORS, 1),
            bench.write(SECTORS - 1, vec![0; 1024]),
            bench.discard(SECTORS - 1, 2),
            bench.zero(u64::MAX / 1024, 1),
        ] {
            assert_eq!(fails(fate).0, IoError::Range, "{driver}");
        }
        assert_eq!(bench.read(SECTORS - 1, 1).unwrap(), [1; 512], "{driver}");
    }
}

#[test]
fn sectors_of_4096_bytes_work_and_smaller_pieces_are_refused() {
    for driver in ["sd", "hd"] {
        let bench = bench_with(driver, &[("sector", Value::Number(4096))]);
        assert_eq!(bench.unit.geometry().unwrap().sector_bytes, 4096);
        bench.write(8, vec![3; 8192]).unwrap();
        assert_eq!(bench.read(16, 8).unwrap(), [3; 4096]);
        assert_eq!(fails(bench.read(1, 8)).0, IoError::Invalid);
        assert_eq!(fails(bench.write(8, vec![0; 512])).0, IoError::Invalid);
        bench.discard(8, 8).unwrap();
        assert_eq!(bench.read(8, 8).unwrap(), [0; 4096]);
    }
}

#[test]
fn an_error_comes_up_with_the_chips_own_sense() {
    let table = [
        ("error EIO", IoError::Media(Sector(5)), "3/11/00"),
        ("error EIO sense=3/15/01", IoError::Media(Sector(5)), "3/15/01"),
        ("error ENOSPC", IoError::NoSpace, "7/27/07"),
        ("error EROFS", IoError::WriteProtected, "7/27/00"),
        ("error ENXIO", IoError::NotReady, "2/3a/00"),
        ("error EINVAL", IoError::Invalid, "5/24/00"),
        ("panic", IoError::Media(Sector(4)), "b/44/00"),
    ];
    for driver in ["sd", "hd", "fd"] {
        for (action, error, sense) in table {
            let bench = bench(driver);
            bench.write(4, vec![1; 1024]).unwrap();
            bench.fault(&format!("add x on {driver}0 op=read block=5-5 pid=7 when=1 do {action}"));
            let (told, exactly) = fails(bench.read(4, 2));
            assert_eq!(
                (told, exactly.to_string()),
                (error, sense.to_string()),
                "{driver} {action}"
            );
            assert!(bench.unit.sense().is_some());
            assert_eq!(bench.read(4, 2).unwrap(), [1; 1024], "{driver}: {action} was once");
            assert!(bench.unit.sense().is_none(), "{driver}: cleared by the next good command");
        }
    }
}

#[test]
fn only_the_rules_process_meets_it() {
    let bench = bench("sd");
    bench.fault("add x on sd0 pid=8 do error EIO");
    bench.read(0, 1).unwrap();
    let memory = vec![0; 512];
    let fate = bench.run(|done| Request::read(Sector(0), memory, origin(8), done));
    assert_eq!(fails(fate).0, IoError::Media(Sector(0)));
}

#[test]
fn frozen_hardware_answers_nothing_until_thawed() {
    for driver in ["sd", "hd", "fd"] {
        let bench = bench(driver);
        bench.unit.command(UnitCommand::Freeze).unwrap();
        let over = Arc::new(Mutex::new(false));
        let inner = Arc::clone(&over);
        let done = Box::new(move |_, _| *inner.lock() = true);
        assert!(bench.unit.submit(Request::read(Sector(0), vec![0; 512], origin(1), done)).is_ok());
        while bench.machine.engine.skip_to_next() {}
        assert!(!*over.lock(), "{driver}");
        bench.unit.command(UnitCommand::Thaw).unwrap();
        while !*over.lock() {
            assert!(bench.machine.engine.skip_to_next(), "{driver}");
        }
    }
}

#[test]
fn a_masked_line_holds_the_completion_back() {
    for driver in ["sd", "hd", "fd"] {
        let bench = bench(driver);
        let line = bench.machine.irqs.line_of(&format!("{driver}0")).unwrap();
        bench.machine.irqs.mask(line, true);
        let over = Arc::new(Mutex::new(false));
        let inner = Arc::clone(&over);
        let done = Box::new(move |_, _| *inner.lock() = true);
        assert!(bench.unit.submit(Request::read(Sector(0), vec![0; 512], origin(1), done)).is_ok());
        assert!(bench.machine.engine.skip_to_next());
        assert!(!*over.lock() && bench.machine.irqs.list()[0].is_pending, "{driver}");
        bench.machine.irqs.mask(line, false);
        assert!(*over.lock(), "{driver}");
    }
}

#[test]
fn a_hang_is_over_after_a_reset() {
    for driver in ["sd", "hd", "fd"] {
        let bench = bench(driver);
        bench.fault(&format!("add x on {driver}0 when=1 do hang"));
        let over = Arc::new(Mutex::new(None));
        let inner = Arc::clone(&over);
        let done =
            Box::new(move |memory: Vec<u8>, fate| *inner.lock() = Some((memory.len(), fate)));
        assert!(bench.unit.submit(Request::read(Sector(0), vec![0; 512], origin(1), done)).is_ok());
        bench.machine.engine.crank();
        assert!(over.lock().is_none());
        bench.unit.command(UnitCommand::Reset).unwrap();
        while over.lock().is_none() && bench.machine.engine.skip_to_next() {}
        assert_eq!(*over.lock(), Some((512, Ok(()))), "{driver}: started again");
    }
}

#[test]
fn a_permanent_fault_lasts_until_repaired() {
    for driver in ["sd", "fd"] {
        let bench = bench(driver);
        bench.fault(&format!("add x on {driver}0 do permanent"));
        assert_eq!(fails(bench.read(0, 1)).0, IoError::Hardware, "{driver}");
        assert_eq!(fails(bench.write(0, vec![0; 512])).0, IoError::Hardware, "{driver}");
        bench.unit.command(UnitCommand::Repair).unwrap();
        bench.read(0, 1).unwrap();
    }
}

#[test]
fn bad_sectors_are_remapped_while_spares_last() {
    let bench = bench_with("sd", &[("spares", Value::Number(2))]);
    bench.write(0, vec![9; 512 * 8]).unwrap();
    for sector in [1, 3, 5] {
        bench.unit.set_property("badsector", &sector.to_string()).unwrap();
    }
    assert_eq!(bench.read(0, 4).unwrap(), vec![9; 2048]);
    assert_eq!(bench.property("remaps"), "1 -> spare0, 3 -> spare1");
    let (error, sense) = fails(bench.read(4, 4));
    assert_eq!((error, sense.to_string()), (IoError::Media(Sector(5)), "3/11/04".into()));
    let refused = bench.unit.set_property("badsector", "2880");
    assert_eq!(refused, Err(PropertyError::Value("a sector below 2880".into())));
}

#[test]
fn the_timing_model_is_seen_and_changed() {
    let bench = bench("hd");
    let before = bench.machine.engine.now();
    bench.read(2800, 1).unwrap();
    let nanos = bench.machine.engine.now().since(before);
    assert!((600_000..25_000_000).contains(&nanos), "{nanos}");
    assert_eq!(
        (bench.property("timing"), bench.property("arm_travel")),
        ("disk7200".into(), "12".into())
    );
    bench.unit.set_property("timing", "none").unwrap();
    let before = bench.machine.engine.now();
    bench.read(0, 1).unwrap();
    assert_eq!(bench.machine.engine.now().since(before), 0);
    let refused = bench.unit.set_property("timing", "drum");
    assert_eq!(refused, Err(PropertyError::Value("one of none, disk7200, floppy, ssd".into())));
    assert_eq!(bench.unit.set_property("colour", "red"), Err(PropertyError::Unknown));
}

#[test]
fn a_diskette_moves_every_byte_through_its_data_register() {
    let bench = bench("fd");
    let reads = || bench.machine.ports.list()[0].reads;
    let before = reads();
    bench.read(0, 4).unwrap();
    let taken = reads() - before;
    assert!((2048..2100).contains(&taken), "{taken}");
    assert_eq!(bench.machine.irqs.list()[0].raised, 4);
}

#[test]
fn a_disk_is_told_a_command_in_few_port_writes() {
    let bench = bench("sd");
    let before = bench.machine.ports.list()[0].writes;
    bench.read(0, 128).unwrap();
    assert!(bench.machine.ports.list()[0].writes - before <= 16);
    let channel = &bench.machine.dma.list()[0];
    assert_eq!((channel.blocks, channel.to_memory, channel.mapped), (1, 65536, 0));
}

#[test]
fn the_image_is_a_plain_copy_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk.img");
    let path = Value::Text(image.to_str().unwrap().into());
    let bench = bench_with("sd", &[("image", path)]);
    bench.write(10, vec![0x5a; 1024]).unwrap();
    bench.unit.set_property("badsector", "100").unwrap();
    bench.write(100, vec![0x77; 512]).unwrap();
    bench.flush().unwrap();
    let bytes = std::fs::read(&image).unwrap();
    assert_eq!(bytes.len(), 2880 * 512);
    assert!(bytes[5120..6144].iter().all(|byte| *byte == 0x5a));
    assert!(bytes[6144..].iter().all(|byte| *byte == 0), "a remapped sector is not in the image");
    assert_eq!(bench.read(100, 1).unwrap(), [0x77; 512]);
}

#[test]
fn the_countdown_fails_each_command_in_turn_and_loses_nothing() {
    for driver in ["sd", "hd", "fd"] {
        for nth in 1..=5 {
            let bench = bench(driver);
            bench.write(0, vec![1; 2048]).unwrap();
            bench.machine.faults.fail_nth(nth);
            let steps =
                [bench.write(0, vec![2; 2048]), bench.flush(), bench.read(0, 4), bench.zero(2, 1)];
            let failed = (1..=4).filter(|step| steps[step - 1].is_err()).collect::<Vec<_>>();
            let expected = (1..=4).filter(|step| *step as u64 == nth).collect::<Vec<_>>();
            assert_eq!(failed, expected, "{driver}");
            assert_eq!(bench.machine.faults.countdown(), u64::from(nth == 5), "{driver}");
            bench.machine.faults.fail_nth(0);
            let data = bench.read(0, 4).unwrap();
            assert_eq!(data[0], if nth == 1 { 1 } else { 2 }, "{driver}");
            assert_eq!(data[1024] == 0, nth != 4, "{driver}");
        }
    }
}

#[test]
fn resets_and_stops_in_mid_work_lose_and_mix_up_nothing() {
    for driver in ["sd", "fd"] {
        // Real time: in simulated time a waiter would skip ahead of the operator at work.
        let bench = bench_in(Time::Real, driver, &[("timing", Value::Text("none".into()))]);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let callers = (0..3u64).map(|caller| {
                let bench = &bench;
                scope.spawn(move || {
                    for round in 0..60u64 {
                        let sector = caller * 900 + round * 13 % 800;
                        let fill = u8::try_from((caller * 60 + round) % 251).unwrap();
                        bench.write(sector, vec![fill; 4096]).unwrap();
                        assert!(bench.read(sector, 8).unwrap().iter().all(|byte| *byte == fill));
                    }
                })
            });
            let callers = callers.collect::<Vec<_>>();
            let operator = scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    bench.unit.command(UnitCommand::Reset).unwrap();
                    bench.unit.command(UnitCommand::Freeze).unwrap();
                    bench.unit.command(UnitCommand::Thaw).unwrap();
                    std::thread::yield_now();
                }
            });
            let outcomes = callers.into_iter().map(std::thread::ScopedJoinHandle::join);
            let outcomes = outcomes.collect::<Vec<_>>();
            is_over.store(true, Ordering::Release);
            operator.join().unwrap();
            assert!(outcomes.iter().all(Result::is_ok), "{driver}");
        });
        assert!(bench.machine.dma.list().iter().all(|channel| channel.mapped == 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_driver_is_an_array_of_sectors(
        which in 0..DRIVERS.len(),
        steps in prop::collection::vec((0..5u8, 0..SECTORS, 1..40u64, any::<u8>()), 1..40),
    ) {
        let bench = bench(DRIVERS[which]);
        let mut model = vec![0u8; usize::try_from(SECTORS).unwrap()];
        for (op, sector, sectors, fill) in steps {
            let sectors = sectors.min(SECTORS - sector);
            let len = usize::try_from(sectors).unwrap();
            let at = usize::try_from(sector).unwrap();
            let op = [Op::Read, Op::Write, Op::Flush, Op::Discard, Op::Zero][usize::from(op)];
            match op {
                Op::Read => {
                    let data = bench.read(sector, sectors).unwrap();
                    let found = data.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>();
                    prop_assert_eq!(&found, &model[at..at + len]);
                }
                Op::Write => {
                    bench.write(sector, vec![fill; len * 512]).unwrap();
                    model[at..at + len].fill(fill);
                }
                Op::Flush => drop(bench.flush().unwrap()),
                Op::Discard => {
                    bench.discard(sector, sectors).unwrap();
                    model[at..at + len].fill(0);
                }
                Op::Zero => {
                    bench.zero(sector, sectors).unwrap();
                    model[at..at + len].fill(0);
                }
            }
        }
    }
}
