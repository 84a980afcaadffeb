//! The printers' driver on its chip.

use super::*;
use crate::contract::Value;
use crate::engine::{Engine, Time};

struct Office {
    machine: Machine,
    dir: tempfile::TempDir,
    unit: Arc<dyn CharDevice>,
}

fn office(keys: &[(&str, Value)]) -> Office {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::new(Time::Simulated);
    let machine = Machine::new(engine, Some(dir.path().to_owned()), 1);
    let places = [("port", 0x378), ("irq", 7), ("dma", 3)];
    let mut unit = UnitConfig { name: "lp0".into(), driver: "lp".into(), ..Default::default() };
    unit.values.extend(places.map(|(key, n)| (key.to_owned(), Value::Number(n))));
    unit.values.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    crate::chip::install_printer(&machine, &unit).unwrap();
    let attached = Lp.attach(&unit, &machine).unwrap();
    Office { machine, dir, unit: Arc::clone(&attached.character[0].2) }
}

impl Office {
    fn ioctl(&self, cmd: u32, input: &[u8]) -> Result<u64, IoError> {
        let mut output = [0; 8];
        self.unit.ioctl(&mut Ioctl { cmd, input, output: &mut output })?;
        Ok(u64::from_le_bytes(output))
    }

    fn settle(&self) -> Result<u64, IoError> {
        let mut outcome = Err(IoError::WouldBlock);
        let done = || {
            outcome = self.ioctl(commands::OUTCOME, &[]);
            outcome != Err(IoError::WouldBlock)
        };
        self.machine.engine.wait(&self.unit.waits().unwrap(), None, done).unwrap();
        outcome
    }

    fn out(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("lp0.out")).unwrap_or_default()
    }
}

#[test]
fn a_job_is_begun_printed_and_ended() {
    let office = office(&[]);
    office.ioctl(commands::BEGIN, b"1 x").unwrap();
    office.settle().unwrap();
    assert_eq!(office.unit.write(0, b"hello"), Ok(5));
    assert_eq!(office.unit.write(0, b"again"), Err(IoError::WouldBlock));
    assert_eq!(office.settle(), Ok(5));
    office.ioctl(commands::END, b"").unwrap();
    office.settle().unwrap();
    assert_eq!(office.out(), "hello");
}

#[test]
fn who_writes_without_a_job_gets_one_and_has_the_printer_alone() {
    let office = office(&[]);
    office.unit.open().unwrap();
    assert_eq!(office.unit.open(), Err(IoError::Busy));
    assert_eq!(office.unit.write(0, b"direct"), Ok(6));
    office.unit.close();
    office.settle().unwrap();
    assert_eq!(office.out(), "direct");
    office.unit.open().unwrap();
}

#[test]
fn the_panel_stops_it_and_lets_it_go_on() {
    let office = office(&[]);
    for (stop, words, go) in [
        ("jam", "paper jam", "unjam"),
        ("offline", "off line", "online"),
        ("cover open", "cover open", "cover closed"),
        ("paper 0", "out of paper", "paper 5"),
        ("ribbon 0", "out of ribbon", "ribbon endless"),
    ] {
        office.ioctl(commands::PANEL, stop.as_bytes()).unwrap();
        let mut output = [0];
        let mut call = Ioctl { cmd: commands::CONDITIONS, input: &[], output: &mut output };
        office.unit.ioctl(&mut call).unwrap();
        assert_eq!(conditions(output[0]), words);
        assert_eq!(office.unit.status().state, UnitState::Offline);
        office.ioctl(commands::PANEL, go.as_bytes()).unwrap();
        assert_eq!(office.unit.status().state, UnitState::Idle);
    }
    assert_eq!(office.ioctl(commands::PANEL, b"paper x"), Err(IoError::Invalid));
}

#[test]
fn linux_commands_tell_the_status_register_and_reset_it() {
    let office = office(&[("rate", Value::Number(1))]);
    let int = |cmd| {
        let mut output = [0; INT_BYTES];
        assert_eq!(office.unit.bare_answer(cmd), Some(INT_BYTES));
        office.unit.ioctl(&mut Ioctl { cmd, input: &[], output: &mut output }).unwrap();
        u32::from_ne_bytes(output)
    };
    assert_eq!(int(commands::LPGETSTATUS), 0xd8, "ready, selected, no error");
    assert_eq!(int(commands::LPGETIRQ), 7);
    office.ioctl(commands::PANEL, b"paper 0").unwrap();
    assert_eq!(int(commands::LPGETSTATUS), 0x70, "no paper, and an error");
    office.ioctl(commands::PANEL, b"paper endless").unwrap();
    office.ioctl(commands::BEGIN, b"1 x").unwrap();
    office.settle().unwrap();
    office.unit.write(0, b"long").unwrap();
    assert_eq!(office.unit.write(0, b"x"), Err(IoError::WouldBlock));
    office.unit.ioctl(&mut Ioctl { cmd: commands::LPRESET, input: &[], output: &mut [] }).unwrap();
    office.settle().unwrap();
    assert_eq!(int(commands::LPGETSTATUS), 0xd8);
    assert_eq!(office.unit.write(0, b"x"), Ok(1), "it takes a block again");
    assert_eq!(office.unit.bare_answer(0x0601), None);
}

#[test]
fn properties_are_told_and_set() {
    let office = office(&[("buffer", Value::Number(64)), ("ribbon", Value::Number(3))]);
    let get = |name: &str| {
        let all = office.unit.properties();
        all.into_iter().find(|(known, _)| *known == name).unwrap().1
    };
    assert_eq!(
        (get("paper"), get("ribbon"), get("buffer")),
        ("endless".into(), "3".into(), "64".into())
    );
    for (name, value) in [("rate", "2K/s"), ("paper", "9"), ("ribbon", "endless")] {
        office.unit.set_property(name, value).unwrap();
        assert_eq!(get(name), value);
    }
    for (name, value) in [("rate", "fast"), ("paper", "x"), ("pages", "1")] {
        assert!(matches!(office.unit.set_property(name, value), Err(PropertyError::Value(_))));
    }
    assert_eq!(office.unit.set_property("colour", "red"), Err(PropertyError::Unknown));
}

#[test]
fn a_worn_ribbon_stops_it_between_two_letters() {
    let office = office(&[("ribbon", Value::Number(5))]);
    office.ioctl(commands::BEGIN, b"1 x").unwrap();
    office.settle().unwrap();
    office.unit.write(0, b"ab  cd\nefgh").unwrap();
    let is_worn = || office.unit.status().state == UnitState::Offline;
    office.machine.engine.wait(&office.unit.waits().unwrap(), None, is_worn).unwrap();
    assert_eq!(office.out(), "ab  cd\ne");
    office.ioctl(commands::PANEL, b"ribbon 100").unwrap();
    office.settle().unwrap();
    assert_eq!(office.out(), "ab  cd\nefgh");
}

#[test]
fn an_output_that_cannot_be_had_is_told() {
    // An address of its own: its port is nobody's once it is closed.
    let listener = std::net::TcpListener::bind("127.66.1.4:0").unwrap();
    let sink = format!("tcp://{}", listener.local_addr().unwrap());
    drop(listener);
    let office = office(&[("sink", Value::Text(sink))]);
    office.ioctl(commands::BEGIN, b"1 x").unwrap();
    assert_eq!(office.settle(), Err(IoError::Hardware));
}

#[test]
fn what_was_given_up_does_not_end_the_next_job() {
    let office = office(&[]);
    for _ in 0..100 {
        for (name, text) in [("1 x", "a"), ("2 y", "b")] {
            office.ioctl(commands::BEGIN, name.as_bytes()).unwrap();
            office.settle().unwrap();
            assert_eq!(office.unit.write(0, text.as_bytes()), Ok(1));
            assert_eq!(office.settle(), Ok(1));
            let cut: &[u8] = if text == "a" { b"cut" } else { b"" };
            office.ioctl(commands::END, cut).unwrap();
            if text == "a" {
                // Its end is under way on a thread, and nobody waits for it.
                while office.machine.engine.skip_to_next() {}
                office.ioctl(commands::RESET, &[]).unwrap();
            } else {
                office.settle().unwrap();
            }
        }
    }
    assert_eq!(office.out(), "ab".repeat(100));
}

#[test]
fn a_job_whose_output_could_not_be_had_does_not_end_well() {
    let office = office(&[("sink", Value::Text("|exit 3".into()))]);
    office.ioctl(commands::END, b"").unwrap();
    assert_eq!(office.settle(), Err(IoError::Hardware));
    office.ioctl(commands::END, b"cut").unwrap();
    assert_eq!(office.settle(), Ok(0));
}

#[test]
fn a_printer_with_a_speed_takes_its_time() {
    use crate::contract::Clock;
    let office = office(&[("rate", Value::Number(1000))]);
    office.ioctl(commands::BEGIN, b"1 x").unwrap();
    office.settle().unwrap();
    let begun = office.machine.engine.now();
    office.unit.write(0, &[b'x'; 2000]).unwrap();
    office.settle().unwrap();
    let seconds = office.machine.engine.now().since(begun) as f64 / 1e9;
    assert!((1.9..2.1).contains(&seconds), "{seconds}");
}
