//! A check by name: built, then run with a time limit.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::tree::Tree;

/// Which tests to run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    /// A loom model.
    Loom(String),
    /// Long random schedules.
    Shuttle(String),
    /// A test of `tests/` by file and name.
    Test(String, String),
    /// A test beside the code.
    Unit(String),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed(Duration),
    Failed(String),
    Hung,
    /// It does not compile.
    Broken(String),
    /// No test has the name.
    Empty,
}

impl Check {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["loom", name] => Ok(Self::Loom(name.to_owned())),
            ["shuttle", name] => Ok(Self::Shuttle(name.to_owned())),
            ["unit", name] => Ok(Self::Unit(name.to_owned())),
            ["test", file, name] => Ok(Self::Test(file.to_owned(), name.to_owned())),
            _ => Err(format!("'{text}' is none of: loom NAME, shuttle NAME, unit NAME, test FILE NAME")),
        }
    }

    fn cargo(&self, tree: &Tree) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["test", "--locked"]).current_dir(&tree.sources);
        // The compiler of whoever runs this, not this program's settings.
        for (key, _) in std::env::vars_os() {
            if key.to_str().is_some_and(|key| key.starts_with("CARGO_PKG_") || key == "CARGO_MANIFEST_DIR") {
                cargo.env_remove(key);
            }
        }
        cargo.envs([("CARGO_TERM_COLOR", "never"), ("RUST_BACKTRACE", "0"), ("CARGO_INCREMENTAL", "1")]);
        cargo.envs([("CARGO_PROFILE_DEV_DEBUG", "0"), ("CARGO_PROFILE_RELEASE_DEBUG", "0")]);
        cargo.env_remove("RUSTFLAGS").env("CARGO_TARGET_DIR", tree.built.join(self.lane()));
        match self {
            Self::Loom(_) => {
                cargo.env("RUSTFLAGS", "--cfg millpond_loom").env("CARGO_TARGET_DIR", tree.built.join("loom"));
                // The explorer is what takes the time, and is built once; the crate is built for each fault, ten times as
                // fast like this.
                cargo.args(["--config", "profile.release.opt-level=0"]);
                cargo.args(["--config", "profile.release.package.'*'.opt-level=3"]);
                cargo.args(["--release", "--lib"])
            }
            Self::Shuttle(_) => {
                cargo.env("RUSTFLAGS", "--cfg millpond_loom --cfg millpond_shuttle");
                cargo.env("CARGO_TARGET_DIR", tree.built.join("shuttle"));
                cargo.args(["--release", "--lib", "--no-default-features", "--features", "thread"])
            }
            Self::Unit(_) => cargo.arg("--lib"),
            Self::Test(file, _) => cargo.args(["--test", file]),
        };
        cargo
    }

    /// The names of all loom models.
    pub(crate) fn models(tree: &Tree) -> Vec<String> {
        let listed = Self::Loom(String::new()).cargo(tree).args(["--", "--list"]).output();
        let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
        names.filter(|name| name.contains("models::")).map(str::to_owned).collect()
    }

    /// Checks of different lanes share nothing that is built, and run at the same time.
    pub(crate) fn lane(&self) -> &'static str {
        match self {
            Self::Loom(_) | Self::Shuttle(_) => "models",
            Self::Unit(_) => "units",
            Self::Test(..) => "tests",
        }
    }

    /// The name of its test.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Loom(name) | Self::Shuttle(name) | Self::Unit(name) | Self::Test(_, name) => name,
        }
    }

    /// Builds and runs it. The limit is for the run alone.
    pub(crate) fn run(&self, tree: &Tree, limit: Duration) -> Outcome {
        let said = match self.cargo(tree).arg("--no-run").output() {
            Ok(built) if built.status.success() => String::from_utf8_lossy(&built.stderr).into_owned(),
            Ok(built) => return Outcome::Broken(String::from_utf8_lossy(&built.stderr).into_owned()),
            Err(error) => return Outcome::Broken(error.to_string()),
        };
        // "Executable tests/a.rs (/…/a-0123)": run as it is, since another cargo may hold its lock for long.
        let mut programs = said.lines().filter(|line| line.trim_start().starts_with("Executable "));
        let Some(program) = programs.next_back().and_then(|line| line.split_once('(')?.1.strip_suffix(')')) else {
            return Outcome::Broken(said);
        };
        let mut run = Command::new(tree.sources.join(program));
        run.args([self.name(), "--test-threads", "2"]).current_dir(&tree.sources).env("RUST_BACKTRACE", "0");
        // Drawn programs are the same in every run: which fault they notice is not left to luck.
        if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
            run.env("PROPTEST_RNG_SEED", "1835625580");
        }
        match limited(run, tree, limit) {
            Ok((Some(passed), said, took)) => {
                let ran = said.lines().any(|line| line.starts_with("test ") && line.contains(" ... "));
                match (passed, ran) {
                    (true, true) => Outcome::Passed(took),
                    (true, false) => Outcome::Empty,
                    (false, _) => Outcome::Failed(said),
                }
            }
            Ok((None, ..)) => Outcome::Hung,
            Err(error) => Outcome::Broken(error.to_string()),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.name().rsplit("::").next().unwrap_or_default();
        match self {
            Self::Loom(_) => write!(f, "loom: `{last}`"),
            Self::Shuttle(_) => write!(f, "shuttle: `{last}`"),
            Self::Unit(_) => write!(f, "`{last}`"),
            Self::Test(file, _) => write!(f, "`{file}`: `{last}`"),
        }
    }
}

/// Runs a command in a process group of its own, which is killed when its time is up: whether it succeeded (nothing if it
/// was killed), what it said, and how long it took.
fn limited(mut command: Command, tree: &Tree, limit: Duration) -> io::Result<(Option<bool>, String, Duration)> {
    let said = File::create(&tree.said)?;
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).process_group(0);
    let start = Instant::now();
    let mut child = command.spawn()?;
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status.success());
        }
        if start.elapsed() > limit {
            Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Ok((ended, String::from_utf8_lossy(&std::fs::read(&tree.said)?).into_owned(), start.elapsed()))
}

/// The words of a failure that say why, short enough for a table.
pub(crate) fn reason(said: &str) -> String {
    let lines: Vec<_> = said.lines().map(str::trim).collect();
    let panicked = lines.iter().position(|line| line.contains("panicked at"));
    let told = panicked.and_then(|at| lines[at + 1..].iter().find(|line| !line.is_empty()));
    let told = told.or_else(|| lines.iter().find(|line| line.starts_with("error") || line.contains("millpond:")));
    let told = told.or_else(|| lines.iter().rev().find(|line| line.contains("signal")));
    let told = told.map_or("fails", |line| line).replace('|', "/");
    if told.chars().count() > 90 { told.chars().take(90).chain("…".chars()).collect() } else { told }
}
