//! Builds the worker programs, one for each allocator.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// How a worker is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `cargo build --release` as it is.
    Release,
    /// The release profile with `lto = "fat"`.
    FatLto,
}

impl Profile {
    /// What this profile is called in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Release => "default release profile",
            Self::FatLto => "fat LTO",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::FatLto => "release-lto",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Release => &["--release"],
            Self::FatLto => &["--profile", "release-lto"],
        }
    }
}

/// A program that was built, and the name of its contestant.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The name in tables.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Arguments that select the contestant, before those of the workload.
    pub arguments: Vec<String>,
}

/// Where workers are built: a target folder of its own, in which they share all dependencies.
#[derive(Debug)]
pub struct Workshop {
    target: PathBuf,
    profile: Profile,
    built: bool,
}

impl Workshop {
    /// A workshop in `folder` (Cargo's folder for temporary files of benchmarks).
    pub fn new(folder: &str, profile: Profile) -> Self {
        Self { target: Path::new(folder).join("workers"), profile, built: false }
    }

    /// One that takes what was built last, where there is something, if `built`.
    #[must_use]
    pub fn take_built(mut self, built: bool) -> Self {
        self.built = built;
        self
    }

    /// Builds one of this package's programs with these features; says what it was when it fails.
    pub fn build(&self, binary: &str, name: &str, features: &[&str]) -> Result<Worker, String> {
        let program = self.target.join(format!("{binary}-{name}-{}", self.profile.folder()));
        if self.built && program.is_file() {
            return Ok(Worker { name: name.to_owned(), program, arguments: vec![] });
        }
        eprintln!("building {binary} for {name} ({})", self.profile.title());
        let status = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["build", "--quiet", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
            .args(["--bin", binary, "--features", &features.join(",")])
            .args(self.profile.arguments())
            .arg("--target-dir")
            .arg(&self.target)
            .stdout(Stdio::null())
            .status()
            .map_err(|error| format!("cargo does not start: {error}"))?;
        if !status.success() {
            return Err(format!("{binary} does not build for {name}"));
        }
        let built = self.target.join(self.profile.folder()).join(binary);
        fs::copy(&built, &program).map_err(|error| format!("{}: {error}", built.display()))?;
        Ok(Worker { name: name.to_owned(), program, arguments: vec![] })
    }
}
