//! A host program seen from outside: this test program, run again for one case, in a process group of its own.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Which case a host plays.
pub(crate) const CASE: &str = "TEST_CASE";
/// Nothing here takes so long: a case that waits for it hangs.
pub(crate) const HANG: Duration = Duration::from_secs(60);

pub(crate) struct Host {
    pub(crate) child: Child,
    lines: BufReader<ChildStdout>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Drop for Host {
    fn drop(&mut self) {
        // A check that failed leaves nothing behind either.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Host {
    #[expect(unsafe_code, reason = "sets a signal's disposition before exec")]
    pub(crate) fn start_as(program: &Path, case: &str) -> Self {
        let mut command = Command::new(program);
        command.env(CASE, case).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A script's background jobs, these tests among them, ignore Ctrl-C, and so would whatever they start.
        let heed = || {
            // SAFETY: one system call, as is allowed between fork and exec.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
            Ok(())
        };
        // SAFETY: as above; it touches no memory.
        unsafe { command.pre_exec(heed) };
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { child, lines, stderr: Some(stderr) }
    }

    pub(crate) fn start(case: &str) -> Self {
        Self::start_as(&std::env::current_exe().unwrap(), case)
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// What a terminal does at Ctrl-C: the signal goes to the whole foreground group.
    #[expect(unsafe_code, reason = "sends a signal")]
    pub(crate) fn interrupt(&self) {
        let group = i32::try_from(self.child.id()).unwrap();
        // SAFETY: numbers only.
        assert_eq!(unsafe { libc::killpg(group, libc::SIGINT) }, 0);
    }

    /// All it and its children say until the last of them ends, how it ended, and what went wrong in words.
    pub(crate) fn rest(mut self) -> (String, ExitStatus, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < HANG, "the host hangs");
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut text = String::new();
        self.lines.read_to_string(&mut text).unwrap();
        (text, status, self.stderr.take().unwrap().join().unwrap())
    }
}

/// A process that exists and is no zombie.
pub(crate) fn alive(id: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { return false };
    let state = stat.rsplit(") ").next().unwrap_or_default().chars().next();
    !matches!(state, Some('Z' | 'X') | None)
}

/// How long it takes until none of these lives.
pub(crate) fn until_gone(ids: &BTreeSet<u32>) -> Duration {
    let started = Instant::now();
    while ids.iter().any(|id| alive(*id)) {
        assert!(started.elapsed() < HANG, "left behind: {:?}", ids.iter().filter(|id| alive(**id)).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(1));
    }
    started.elapsed()
}

/// The numbers in a line, each the id of a process.
pub(crate) fn numbers(line: &str) -> impl Iterator<Item = u32> + '_ {
    line.split_whitespace().filter_map(|word| word.parse().ok())
}

/// A new folder from which programs may be started: beside what was built, or, where that is somebody else's, in the
/// system's folder for such things.
pub(crate) fn own_folder() -> PathBuf {
    let name = format!("millpond-hosts-{}", std::process::id());
    let folders = [PathBuf::from(env!("CARGO_TARGET_TMPDIR")), std::env::temp_dir()];
    // One of the same number may have left its own when it failed.
    let new = |folder: &PathBuf| {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir(folder).is_ok()
    };
    let mut made = folders.iter().map(|folder| folder.join(&name)).filter(|folder| new(folder));
    made.next().unwrap_or_else(|| panic!("none of {folders:?} may be written"))
}
