//! Boots of small machines: what is found, what is left out, what the switch then leads to.

use super::*;
use crate::contract::{DevId, Kind};
use crate::engine::{Engine, Time};
use crate::switch::{CharUnit, Table};

fn machine() -> Machine {
    Machine::new(Engine::new(Time::Simulated), None, 1)
}

fn unit(driver: &str, number: u32, values: &[(&str, u64)]) -> UnitConfig {
    let mut unit = UnitConfig {
        name: format!("{driver}{number}"),
        driver: driver.into(),
        unit: number,
        ..UnitConfig::default()
    };
    unit.values.insert("size".into(), Value::Number(1440 * 1024));
    for (key, value) in values {
        unit.values.insert((*key).into(), Value::Number(*value));
    }
    unit
}

fn default_units() -> Vec<UnitConfig> {
    [("sd", 0), ("sd", 1), ("hd", 0), ("fd", 0), ("ram", 0)].map(|(d, n)| unit(d, n, &[])).into()
}

fn lines(report: &ProbeReport) -> Vec<String> {
    report.probes.iter().map(ToString::to_string).collect()
}

#[test]
fn the_default_units_are_found_in_the_order_of_the_description() {
    let machine = machine();
    let (switch, report) = attach_all(&machine, &default_units());
    assert_eq!(
        lines(&report),
        [
            "sd0 sd found at port 0x4000 irq 32 dma 32",
            "sd1 sd found at port 0x4100 irq 33 dma 33",
            "hd0 hd found at port 0x2000 irq 14 dma 8",
            "fd0 fd found at port 0x1000 irq 6",
            "ram0 ram found at memory",
        ]
    );
    assert_eq!(report.refusals().count(), 0);
    let owners = machine.ports.list().into_iter().map(|range| range.owner).collect::<Vec<_>>();
    assert_eq!(owners, ["fd0", "hd0", "sd0", "sd1"]);
    let nodes = switch.units().iter().map(|u| format!("{} {}", u.name, u.dev)).collect::<Vec<_>>();
    let expected = [
        "null 1,3",
        "port 1,4",
        "zero 1,5",
        "full 1,7",
        "random 1,8",
        "urandom 1,9",
        "sd0 8,0",
        "rsd0 8,0",
        "sd1 8,16",
        "rsd1 8,16",
        "hd0 3,0",
        "rhd0 3,0",
        "fd0 2,0",
        "rfd0 2,0",
        "ram0 1,0",
        "rram0 162,0",
    ];
    assert_eq!(nodes, expected);
}

#[test]
fn numbers_lead_to_units_and_wrong_ones_say_why() {
    let (switch, _) = attach_all(&machine(), &default_units());
    let dev = |major, minor| DevId { major, minor };
    let found = switch.block(dev(8, 17)).unwrap();
    assert_eq!((&*found.name, found.part, found.driver), ("sd1", 1, "sd"));
    let CharUnit::Raw(raw) = switch.character(dev(8, 16)).ok().unwrap() else { panic!("raw") };
    assert!(std::sync::Arc::ptr_eq(&raw.device, &found.device));
    let CharUnit::Device(name, ..) = switch.character(dev(1, 7)).ok().unwrap() else {
        panic!("a character device")
    };
    assert_eq!(&*name, "full");
    let why = |refused: Result<(), NoDevice>| refused.unwrap_err().to_string();
    use crate::switch::NoDevice;
    assert_eq!(why(switch.block(dev(77, 0)).map(|_| ())), "no driver for major 77");
    assert_eq!(why(switch.block(dev(8, 9 * 16)).map(|_| ())), "driver sd: no unit 9");
    assert_eq!(why(switch.character(dev(1, 2)).map(|_| ())), "driver mem: no unit 2");
    assert_eq!(why(switch.character(dev(77, 0)).map(|_| ())), "no driver for major 77");
    assert_eq!(why(switch.character(dev(3, 64)).map(|_| ())), "driver hd: no unit 1");
    assert_eq!(&*switch.named("hd0").unwrap().name, "hd0");
    assert!(switch.named("rsd0").is_none());
}

#[test]
fn drivers_are_listed_by_table_and_major() {
    let (switch, _) = attach_all(&machine(), &[]);
    let rows = switch.drivers().iter().map(|row| (row.table, row.major, row.driver));
    use Table::{Block, Character};
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [
            (Character, 1, "mem"),
            (Character, 2, "fd"),
            (Character, 3, "hd"),
            (Character, 4, "ttyS"),
            (Character, 6, "spool"),
            (Character, 8, "sd"),
            (Character, 9, "st"),
            (Character, 66, "lp"),
            (Character, 162, "ram"),
            (Block, 1, "ram"),
            (Block, 2, "fd"),
            (Block, 3, "hd"),
            (Block, 8, "sd"),
        ]
    );
}

#[test]
fn the_absent_and_the_unknown_are_left_out_and_leave_nothing_claimed() {
    let machine = machine();
    let mut absent = unit("sd", 0, &[]);
    absent.values.insert("absent".into(), Value::Flag(true));
    let units = [absent, unit("sd", 1, &[("id", 0x1234)]), unit("sd", 2, &[])];
    let (switch, report) = attach_all(&machine, &units);
    assert_eq!(
        lines(&report),
        [
            "sd0 sd absent",
            "sd1 sd unknown: port 0x4100 answers 0x00001234, and not 0x44430001",
            "sd2 sd found at port 0x4200 irq 34 dma 34",
        ]
    );
    assert_eq!(report.refusals().count(), 0);
    let owners = |list: Vec<String>| assert_eq!(list, ["sd2"]);
    owners(machine.ports.list().into_iter().map(|range| range.owner).collect());
    owners(machine.irqs.list().into_iter().flat_map(|line| line.owners).collect());
    owners(machine.dma.list().into_iter().map(|channel| channel.owner).collect());
    assert!(switch.named("sd1").is_none() && switch.named("sd2").is_some());
}

#[test]
fn conflicts_are_refused_in_words_and_leave_nothing_claimed() {
    let machine = machine();
    let units = [
        unit("sd", 0, &[]),
        unit("sd", 1, &[("port", 0x4010)]),
        unit("sd", 2, &[("dma", 32)]),
        unit("sd", 3, &[("irq", 230)]),
        unit("sd", 4, &[("sector", 1000)]),
        unit("sd", 5, &[("size", 1000)]),
        unit("sd", 6, &[("port", 0x1_0000)]),
        unit("sd", 7, &[("spares", 513)]),
        unit("sd", 0, &[("port", 0x100)]),
        unit("xy", 0, &[]),
    ];
    let (_switch, report) = attach_all(&machine, &units);
    let refusals = report.refusals().collect::<Vec<_>>();
    let words = [
        "sd1: ports 0x4010-0x40a7 overlap 0x4000-0x4097 of sd0",
        "sd2: dma channel 32 is taken by sd0",
        "sd3: no irq 230: the last is 223",
        "sd4: sector = 1000: must be 512 or 4096",
        "\"size\" of sd5: 1000 is no multiple of 512",
        "sd6: no port 65536: the last is 65535",
        "sd7: spares = 513: must be from 0 to 512",
        "sd0: there is a unit 0 of driver sd already",
        "xy0: no driver xy (there are mem, spool, ram, fd, hd, sd, st, lp, ttyS)",
    ];
    assert_eq!(refusals, words);
    assert_eq!(machine.ports.list().len(), 1);
    assert_eq!(machine.irqs.list().len(), 1);
    assert_eq!(machine.dma.list().len(), 1);
}

#[test]
fn a_refused_image_is_free_for_others_and_a_dropped_machine_leaves_none_locked() {
    let dir = tempfile::tempdir().unwrap();
    let boot = |units: &[UnitConfig]| {
        let machine = Machine::new(Engine::new(Time::Simulated), Some(dir.path().into()), 1);
        let (switch, report) = attach_all(&machine, units);
        (machine, switch, report.refusals().collect::<Vec<_>>())
    };
    let (machine, switch, refusals) = boot(&[unit("sd", 0, &[("id", 7)])]);
    assert!(refusals.is_empty());
    let (_, _, none) = boot(&[unit("sd", 0, &[])]);
    assert!(none.is_empty(), "{none:?}");
    drop((machine, switch));
    let (machine, switch, none) = boot(&[unit("sd", 0, &[])]);
    assert!(none.is_empty(), "{none:?}");
    let (_, _, refusals) = boot(&[unit("sd", 0, &[])]);
    assert!(refusals[0].contains("in use by another unit or daemon"), "{refusals:?}");
    drop((machine, switch));
    assert!(boot(&[unit("sd", 0, &[])]).2.is_empty());
    let wrong = boot(&[unit("sd", 0, &[("size", 4096)])]).2;
    assert!(wrong[0].starts_with("\"size\" of sd0: image "), "{wrong:?}");
}

#[test]
fn every_driver_explains_its_keys_once() {
    for row in DRIVERS {
        let keys = row.driver.keys();
        for key in keys {
            assert!(!key.doc.is_empty() && key.doc.len() < 80, "{}", key.name);
            assert_eq!(keys.iter().filter(|other| other.name == key.name).count(), 1);
            if let Kind::Choice(words) = key.kind {
                assert!(words.contains(&key.default), "{}", key.name);
            }
        }
        assert!(driver(row.driver.name()).is_some());
    }
    assert!(driver("xy").is_none());
}
