//! What this computer lacks for mounting a machine, in plain words, with the command that mends it.
//!
//! Nothing is changed. A finding is `ok`, `lacks` (mounting will not work) or `note` (something
//! beside mounting will not).

use crate::words;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Something beside mounting will not work.
    Note,
    /// Mounting will not work.
    Lacks,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Lacks => "lacks",
        }
    }
}

/// One thing looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// How bad.
    pub verdict: Verdict,
    /// What was found, and what it means.
    pub words: String,
    /// The command that mends it; empty where there is none.
    pub mend: String,
}

/// The computer to be looked at: its files from a root, so that tests can bring their own.
pub struct Host {
    root: PathBuf,
    search: OsString,
    has_home: bool,
    is_root: bool,
    /// Whether a user name space can be made.
    can_unshare: bool,
}

impl Host {
    /// This computer.
    #[must_use]
    pub fn this() -> Host {
        let mut unshare = Command::new("unshare");
        unshare.args(["-Ur", "true"]).stdin(Stdio::null());
        let tried = unshare.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Host {
            root: "/".into(),
            search: std::env::var_os("PATH").unwrap_or_default(),
            has_home: is_set("HOME") || is_set("XDG_STATE_HOME"),
            is_root: std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0),
            can_unshare: tried.is_ok_and(|status| status.success()),
        }
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The text of a small file; empty when there is none.
    fn text(&self, absolute: &str) -> String {
        std::fs::read_to_string(self.path(absolute)).unwrap_or_default().trim().into()
    }

    fn number(&self, absolute: &str) -> Option<u64> {
        self.text(absolute).parse().ok()
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let mut all = std::env::split_paths(&self.search).map(|dir| dir.join(name));
        all.find(|path| path.is_file())
    }
}

/// Looks at everything that concerns us.
#[must_use]
pub fn examine(host: &Host) -> Vec<Finding> {
    vec![
        device(host),
        helper(host),
        processes(host),
        allow_other(host),
        kernel(host),
        user_name_spaces(host),
        ptrace(host),
        descriptors(host),
        home(host),
    ]
}

/// Whether mounting will work.
#[must_use]
pub fn can_mount(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.verdict != Verdict::Lacks)
}

/// A line a finding, and under it the command that mends it.
#[must_use]
pub fn show(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { what, verdict, words, mend } in findings {
        text += &format!("{:<5}  {what:width$}  {words}\n", verdict.name());
        if !mend.is_empty() {
            text += &format!("{:>width$}  mend it with: {mend}\n", "", width = width + 7);
        }
    }
    text
}

/// The same as JSON.
#[must_use]
pub fn show_json(findings: &[Finding]) -> String {
    let object = |finding: &Finding| {
        json!({
            "what": finding.what,
            "verdict": finding.verdict.name(),
            "words": finding.words,
            "mend": finding.mend,
        })
    };
    let all: serde_json::Value = findings.iter().map(object).collect();
    format!("{all:#}\n")
}

fn ok(what: &'static str, words: impl Into<String>) -> Finding {
    Finding { what, verdict: Verdict::Ok, words: words.into(), mend: String::new() }
}

fn found(
    what: &'static str,
    verdict: Verdict,
    words: impl Into<String>,
    mend: impl Into<String>,
) -> Finding {
    Finding { what, verdict, words: words.into(), mend: mend.into() }
}

fn device(host: &Host) -> Finding {
    const WHAT: &str = "/dev/fuse";
    let lacks = |words: String, mend: &str| found(WHAT, Verdict::Lacks, words, mend);
    let path = host.path(WHAT);
    let attr = match path.metadata() {
        Ok(attr) => attr,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mend = "sudo modprobe fuse (in a container: start it with --device /dev/fuse)";
            return lacks("is missing: the kernel offers no FUSE here".into(), mend);
        }
        Err(error) => return lacks(words::of_host(&error), ""),
    };
    if !attr.file_type().is_char_device() {
        let mend = "sudo rm /dev/fuse && sudo mknod -m 666 /dev/fuse c 10 229";
        return lacks("is no character device".into(), mend);
    }
    let mode = attr.mode() & 0o777;
    match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(_) => ok(WHAT, format!("can be opened (mode {mode:04o})")),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && !host.is_root => {
            let words = format!("its mode {mode:04o} does not let you open it");
            lacks(words, "sudo chmod 666 /dev/fuse")
        }
        Err(error) => {
            let words = format!("cannot be opened: {}", words::of_host(&error));
            lacks(words, "in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN")
        }
    }
}

fn helper(host: &Host) -> Finding {
    const WHAT: &str = "fusermount3";
    let verdict = if host.is_root { Verdict::Note } else { Verdict::Lacks };
    let Some(path) = host.program(WHAT) else {
        let words = match host.is_root {
            true => "is not installed: other users cannot mount (root needs it not)",
            false => "is not installed: only root can mount without it",
        };
        return found(WHAT, verdict, words, "sudo apt-get install fuse3");
    };
    let shown = path.display();
    match path.metadata() {
        Ok(attr) if attr.mode() & 0o4000 != 0 && attr.uid() == 0 => ok(WHAT, format!("is {shown}")),
        Ok(_) => {
            let mend = format!("sudo chown root {shown} && sudo chmod u+s {shown}");
            found(WHAT, verdict, format!("{shown} is not set-user-id root"), mend)
        }
        Err(error) => found(WHAT, verdict, words::of_host(&error), ""),
    }
}

/// Whether a `/proc/self` leads to this process by the number that it knows itself by: else it is
/// that of another pid name space.
///
/// # Errors
/// The host's, where there is no such link.
pub fn shows_us(link: &Path) -> std::io::Result<bool> {
    let found = std::fs::read_link(link)?;
    Ok(found.as_os_str() == OsStr::new(&std::process::id().to_string()))
}

fn processes(host: &Host) -> Finding {
    const WHAT: &str = "/proc";
    let lacks = |words: &str| found(WHAT, Verdict::Lacks, words, "mount -t proc proc /proc");
    match shows_us(&host.path("/proc/self")) {
        Ok(true) => ok(WHAT, "shows our processes"),
        Ok(false) => lacks("shows another pid name space than ours"),
        Err(error) => lacks(&words::of_host(&error)),
    }
}

fn allow_other(host: &Host) -> Finding {
    const WHAT: &str = "user_allow_other";
    let text = host.text("/etc/fuse.conf");
    if text.lines().any(|line| line.trim() == WHAT) {
        return ok(WHAT, "other users may use what you mount");
    }
    if host.is_root {
        return ok(WHAT, "is not in /etc/fuse.conf, and root needs it not");
    }
    let mend = "echo user_allow_other | sudo tee -a /etc/fuse.conf";
    let words = "is not in /etc/fuse.conf: --allow-other will be refused";
    found(WHAT, Verdict::Note, words, mend)
}

fn kernel(host: &Host) -> Finding {
    const WHAT: &str = "kernel";
    let release = host.text("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 6) {
        return ok(WHAT, release);
    }
    // FUSE: mmap(MAP_SHARED) of a file opened with FOPEN_DIRECT_IO came with 6.6.
    let words = format!("{release} is older than 6.6: mmap of a disk is refused");
    found(WHAT, Verdict::Note, words, "")
}

fn user_name_spaces(host: &Host) -> Finding {
    const WHAT: &str = "user name spaces";
    if host.can_unshare {
        return ok(WHAT, "can be made");
    }
    let mend = if host.number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    } else if host.number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else if host.number("/proc/sys/user/max_user_namespaces") == Some(0) {
        "sudo sysctl -w user.max_user_namespaces=10000"
    } else if host.program("unshare").is_none() {
        "sudo apt-get install util-linux"
    } else {
        ""
    };
    found(WHAT, Verdict::Note, "cannot be made: no private machines without root", mend)
}

fn ptrace(host: &Host) -> Finding {
    const WHAT: &str = "ptrace scope";
    let scope = host.number("/proc/sys/kernel/yama/ptrace_scope").unwrap_or(0);
    let is_enough = match scope {
        0 => true,
        1 | 2 => host.is_root,
        _ => false,
    };
    if host.is_root && is_enough && !has_ptrace(&host.text("/proc/self/status")) {
        let words = "root here is without CAP_SYS_PTRACE: device commands of other users whose \
                     number has no size (SG_IO) get ENOTTY";
        let mend = "in a container: start it with --cap-add SYS_PTRACE";
        return found(WHAT, Verdict::Note, words, mend);
    }
    if is_enough {
        return ok(WHAT, format!("{scope}: device commands reach their caller's memory"));
    }
    let words = format!("{scope}: device commands whose number has no size (BLKSSZGET) get ENOTTY");
    let mend = match scope {
        3.. => "sudo sysctl -w kernel.yama.ptrace_scope=0 (3 lasts until the next boot)",
        _ => "sudo sysctl -w kernel.yama.ptrace_scope=0",
    };
    found(WHAT, Verdict::Note, words, mend)
}

/// Whether the text of `/proc/self/status` has that capability among the effective ones; also where
/// it tells none.
fn has_ptrace(status: &str) -> bool {
    const CAP_SYS_PTRACE: u32 = 19;
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_none_or(|set| set >> CAP_SYS_PTRACE & 1 == 1)
}

/// Each call that waits keeps a descriptor.
fn descriptors(host: &Host) -> Finding {
    const WHAT: &str = "open files";
    let limits = host.text("/proc/self/limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    match soft.map(|soft| soft.parse::<u64>()) {
        Some(Ok(soft)) if soft < 1024 => {
            let words = format!("{soft}: a machine with many waiting callers wants 1024 or more");
            found(WHAT, Verdict::Note, words, "ulimit -n 1024")
        }
        _ => ok(WHAT, format!("up to {}", soft.unwrap_or("unlimited"))),
    }
}

fn home(host: &Host) -> Finding {
    const WHAT: &str = "state directory";
    if host.has_home {
        return ok(WHAT, "has a place under your home");
    }
    let words = "has no place: neither HOME nor XDG_STATE_HOME is set, so --state is needed";
    found(WHAT, Verdict::Note, words, "export HOME=/root, or mount with --state DIR")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn host(dir: &Path, is_root: bool) -> Host {
        let search = dir.join("bin").into_os_string();
        Host { root: dir.into(), search, has_home: true, is_root, can_unshare: false }
    }

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_bare_computer_lacks_fuse_and_its_helper() {
        let dir = tempfile::tempdir().unwrap();
        let findings = examine(&host(dir.path(), false));
        let lacks = |what| findings.iter().any(|f| f.what == what && f.verdict == Verdict::Lacks);
        assert!(lacks("/dev/fuse") && lacks("fusermount3") && !can_mount(&findings));
        let shown = show(&findings);
        assert!(shown.contains("mend it with: sudo apt-get install fuse3"), "{shown}");
    }

    #[test]
    fn processes_must_have_the_numbers_that_we_know() {
        let dir = tempfile::tempdir().unwrap();
        let verdict = || processes(&host(dir.path(), true)).verdict;
        assert_eq!(verdict(), Verdict::Lacks);
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        let link = dir.path().join("proc/self");
        let us = std::process::id();
        for (pid, wanted) in [(us + 1, Verdict::Lacks), (us, Verdict::Ok)] {
            std::os::unix::fs::symlink(pid.to_string(), &link).unwrap();
            assert_eq!(verdict(), wanted);
            std::fs::remove_file(&link).unwrap();
        }
    }

    #[test]
    fn root_needs_no_helper() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(helper(&host(dir.path(), true)).verdict, Verdict::Note);
    }

    #[test]
    fn a_helper_without_the_set_user_id_bit_is_told_how_to_get_it() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "bin/fusermount3", "");
        let finding = helper(&host(dir.path(), false));
        assert_eq!(finding.verdict, Verdict::Lacks);
        assert!(finding.mend.contains("chmod u+s"), "{}", finding.mend);
    }

    #[test]
    fn a_plain_file_is_no_device() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "dev/fuse", "");
        let path = dir.path().join("dev/fuse");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let finding = device(&host(dir.path(), true));
        assert_eq!(
            (finding.verdict, finding.words.as_str()),
            (Verdict::Lacks, "is no character device")
        );
    }

    #[test]
    fn user_allow_other_counts_only_when_it_is_no_comment() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "etc/fuse.conf", "#user_allow_other\n");
        assert_eq!(allow_other(&host(dir.path(), false)).verdict, Verdict::Note);
        write(dir.path(), "etc/fuse.conf", "mount_max = 9\n user_allow_other\n");
        assert_eq!(allow_other(&host(dir.path(), false)).verdict, Verdict::Ok);
    }

    #[test]
    fn the_cause_of_missing_name_spaces_is_named() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "proc/sys/user/max_user_namespaces", "0\n");
        let mend = user_name_spaces(&host(dir.path(), false)).mend;
        assert_eq!(mend, "sudo sysctl -w user.max_user_namespaces=10000");
    }

    #[test]
    fn kernels_and_ptrace_scopes_are_judged() {
        let dir = tempfile::tempdir().unwrap();
        for (release, verdict) in [("6.18.2-amd64", Verdict::Ok), ("5.10.0-9", Verdict::Note)] {
            write(dir.path(), "proc/sys/kernel/osrelease", release);
            assert_eq!(kernel(&host(dir.path(), false)).verdict, verdict);
        }
        for (scope, mine, roots) in [("0", true, true), ("1", false, true), ("3", false, false)] {
            write(dir.path(), "proc/sys/kernel/yama/ptrace_scope", scope);
            assert_eq!(ptrace(&host(dir.path(), false)).verdict == Verdict::Ok, mine);
            assert_eq!(ptrace(&host(dir.path(), true)).verdict == Verdict::Ok, roots);
        }
    }

    #[test]
    fn a_containers_root_may_lack_a_capability() {
        let dir = tempfile::tempdir().unwrap();
        for (set, verdict) in [("a82425fb", Verdict::Note), ("1ffffffffff", Verdict::Ok)] {
            let status = format!("Name:\tspindle\nCapEff:\t{set:0>16}\nCapBnd:\t0\n");
            write(dir.path(), "proc/self/status", &status);
            assert_eq!(ptrace(&host(dir.path(), true)).verdict, verdict);
            assert_eq!(ptrace(&host(dir.path(), false)).verdict, Verdict::Ok);
        }
    }

    #[test]
    fn findings_are_shown_as_json_too() {
        let findings = examine(&Host::this());
        let all: serde_json::Value = serde_json::from_str(&show_json(&findings)).unwrap();
        assert_eq!(all.as_array().map(Vec::len), Some(findings.len()));
    }
}
