//! A machine of one's own for one check: started on a temporary directory, torn down whatever
//! happens, its log shown when the check fails.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The binary under test.
pub const SPINDLE: &str = env!("CARGO_BIN_EXE_spindle");

/// Longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mounted machine. Dropping it unmounts it.
pub struct House {
    dir: TempDir,
    args: Vec<String>,
}

/// What a shell said: standard output without its last newline, and the exit status.
#[derive(Debug)]
pub struct Said {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Exit status; 128 + n for a signal n, as the shell would say.
    pub status: i32,
}

impl House {
    /// The default machine.
    pub fn new() -> House {
        House::with(&[])
    }

    /// The machine of these further arguments of `spindle mount`.
    pub fn with(args: &[&str]) -> House {
        let house = House::unmounted(args);
        house.mount();
        house
    }

    /// A place for a machine; nothing is mounted yet.
    pub fn unmounted(args: &[&str]) -> House {
        House { dir: directory(), args: args.iter().map(|&arg| arg.to_owned()).collect() }
    }

    /// Where the tree is (`$M`).
    pub fn tree(&self) -> PathBuf {
        self.dir.path().join("m")
    }

    /// Where the state is (`$S`).
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// A directory of the check's own (`$T`).
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Mounts, and fails the check if that fails.
    pub fn mount(&self) {
        let mut command = self.spindle();
        command.arg("mount").arg(self.tree()).arg("--state").arg(self.state()).args(&self.args);
        let said = said(&mut command);
        assert!(said.status == 0, "spindle mount: {said:?}\n{}", self.log());
    }

    /// Unmounts, and fails the check if that fails.
    pub fn umount(&self) {
        let said = said(self.spindle().arg("umount").arg(self.tree()));
        assert!(said.status == 0, "spindle umount: {said:?}\n{}", self.log());
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        let text = std::fs::read_to_string(self.state().join("pid")).expect("a pid file");
        text.trim().parse().expect("a pid")
    }

    /// What the daemon has used of the processors since it began.
    pub fn processor_time(&self) -> Duration {
        let pid = nix::unistd::Pid::from_raw(self.pid().cast_signed());
        let clock = nix::time::ClockId::pid_cpu_clock_id(pid).expect("a clock");
        clock.now().expect("its time").into()
    }

    /// Ends the daemon as a crash would, and waits until it is gone. The dead mount stays.
    pub fn kill(&self) {
        let pid = self.pid();
        self.sh(&format!("kill -9 {pid}"));
        self.await_end(pid);
    }

    /// Waits until the daemon of that process id is gone.
    pub fn await_end(&self, pid: u32) {
        wait_for("the daemon's end", || !lives(pid));
    }

    /// Runs a script; it must succeed. Answers its output.
    pub fn sh(&self, script: &str) -> String {
        let said = self.try_sh(script);
        assert!(said.status == 0, "{script}\n{said:?}\n--- log\n{}", self.log());
        said.out
    }

    /// Runs a script with `$M`, `$S`, `$T` set and `spindle` in the path. Beside it are `ctl`, `val
    /// KEY REPORT`, `fill BYTE COUNT`, and `piece FILE OFFSET COUNT`.
    pub fn try_sh(&self, script: &str) -> Said {
        let prelude = "set -euo pipefail\nctl() { spindle --at \"$M\" ctl \"$*\"; }\n\
             val() { awk -v k=\"$1\" '$1==k{print $2}' \"$M/proc/$2\"; }\n\
             fill() { head -c \"$2\" /dev/zero | tr '\\0' \"$1\"; }\n\
             piece() { dd if=\"$1\" bs=64k skip=\"$2\" count=\"$3\" \
                 iflag=skip_bytes,count_bytes status=none; }\n";
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("{prelude}{script}"));
        self.furnish(&mut command);
        said(&mut command)
    }

    /// One command to `ctl`; its answer.
    pub fn ctl(&self, line: &str) -> String {
        let said = said(self.spindle().arg("--at").arg(self.tree()).arg("ctl").arg(line));
        assert!(said.status == 0, "ctl '{line}': {said:?}");
        said.out
    }

    /// One command to `ctl` that must be refused; the words of the refusal.
    pub fn refused(&self, line: &str) -> String {
        let said = said(self.spindle().arg("--at").arg(self.tree()).arg("ctl").arg(line));
        assert!(said.status == 1, "ctl '{line}' was not refused: {said:?}");
        said.err
    }

    /// The text of a file of the tree.
    pub fn text(&self, path: &str) -> String {
        let path = self.tree().join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The binary, in this house's surroundings.
    pub fn spindle(&self) -> Command {
        let mut command = Command::new(SPINDLE);
        self.furnish(&mut command);
        command
    }

    fn furnish(&self, command: &mut Command) {
        let bin = Path::new(SPINDLE).parent().expect("a directory of binaries");
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", bin.display()))
            .env("M", self.tree())
            .env("S", self.state())
            .env("T", self.dir.path())
            .env("HOME", self.dir.path())
            .env("LC_ALL", "C")
            .env_remove("SPINDLE_AT")
            .env_remove("XDG_STATE_HOME")
            .stdin(Stdio::null());
    }

    /// The daemon's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.state().join("log")).unwrap_or_default()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the machine\n{}", self.log());
        }
        for tree in self.mounts() {
            let _ = said(self.spindle().arg("umount").arg(&tree));
        }
        if let Ok(pid) = std::fs::read_to_string(self.state().join("pid")) {
            let pid = pid.trim();
            if pid.parse().is_ok_and(lives) {
                let _ = said(Command::new("kill").args(["-9", pid]));
            }
        }
        for tree in self.mounts() {
            let _ = said(Command::new("fusermount3").args(["-u", "-z"]).arg(&tree));
        }
    }
}

impl House {
    /// The trees mounted beneath this house, also those that its checks mounted themselves.
    fn mounts(&self) -> Vec<String> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let beneath = format!("{}/", self.dir.path().display());
        let words = mounts.lines().map(|line| line.split(' ').skip(1));
        let trees = words.filter_map(|mut words| Some((words.next()?, words.next()?)));
        let ours = trees.filter(|(at, kind)| at.starts_with(&beneath) && kind.starts_with("fuse"));
        ours.map(|(at, _)| at.to_owned()).collect()
    }
}

/// Numbers from a seed (xorshift64*, Vigna 2016), so that a failure can be replayed.
pub struct Dice(u64);

impl Dice {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The stream of `$SEED`, or of `default`; says which.
    pub fn from_env(default: u64) -> Dice {
        let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(default);
        eprintln!("SEED={seed}");
        Dice::new(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

/// Runs a command to its end, at most [`PATIENCE`]; its process group is ended with it.
pub fn said(command: &mut Command) -> Said {
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let group = child.id();
    let (tell, told) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let _ = tell.send(child.wait_with_output());
    });
    let output = told.recv_timeout(PATIENCE * 5).unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-9", "--", &format!("-{group}")]).status();
        panic!("{command:?} did not end")
    });
    waiter.join().expect("the waiter ends");
    heard(&output.expect("its output"))
}

fn heard(output: &Output) -> Said {
    use std::os::unix::process::ExitStatusExt;
    let status = output.status;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    Said {
        out: text(&output.stdout),
        err: text(&output.stderr),
        status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
    }
}

/// Waits until `is_so`, looking often; fails the check when it does not come true.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process has not ended. One that has may stay in `/proc` (as a zombie) for as long as
/// the parent that it was left to does not ask: in a container often for ever.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A temporary directory: in `$TMPDIR`, unless its name would have to be quoted in scripts, or
/// leaves no room for that of a socket (107 bytes).
pub fn directory() -> TempDir {
    let place = std::env::temp_dir();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+".contains(&b);
    let bytes = place.as_os_str().as_encoded_bytes();
    let is_fit = bytes.len() < 60 && bytes.iter().all(|&b| is_plain(b));
    let place = if is_fit { &place } else { Path::new("/tmp") };
    tempfile::Builder::new().prefix("spindle-").tempdir_in(place).expect("a directory")
}

/// What a shell without job control starts in the background ignores SIGINT and SIGQUIT, what
/// nohup(1) starts SIGHUP, and so would all that the checks start: we start again without.
pub fn hear_signals() {
    const AGAIN: &str = "SPINDLE_TESTS_HEAR";
    const SIGPIPE: u64 = 1 << 12; // ignored by the standard library, but not by what it starts
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    if ignored.is_none_or(|set| set & !SIGPIPE == 0) || std::env::var_os(AGAIN).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut again = Command::new("env");
    again.arg("--default-signal").arg(program).args(std::env::args_os().skip(1)).env(AGAIN, "1");
    eprintln!("some signals stay ignored: env: {}", again.exec());
}

/// Whether a program of that name can be run.
pub fn has(tool: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').any(|dir| Path::new(dir).join(tool).exists())
}

/// Why nothing can be mounted here, if so.
pub fn cannot_mount() -> Option<String> {
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        return Some(format!("/dev/fuse: {error}"));
    }
    let is_root = is_root();
    (!is_root && !has("fusermount3")).then(|| "no fusermount3: install fuse3".to_owned())
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Whether the tests run as the root who may do everything, not as one of a user name space, who
/// has no other user to become and no device to make.
pub fn is_true_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}
