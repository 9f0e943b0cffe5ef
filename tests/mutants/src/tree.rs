//! A copy of the sources, in which one file at a time is changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::list::Mutant;

/// The copy, beside what is built of it.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) sources: PathBuf,
    pub(crate) built: PathBuf,
    /// What the last check said.
    pub(crate) said: PathBuf,
}

impl Tree {
    /// The copy of one lane: lanes run at once, so each has its own. Copies what git knows of, or would. Files that are as
    /// before are left alone, so that little is built again.
    pub(crate) fn copy(root: &Path, lane: &str) -> Result<Self, String> {
        let built = root.join("target/mutants");
        let sources = built.join(format!("sources-{lane}"));
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(root)
            .output()
            .map_err(|error| format!("git ls-files: {error}"))?;
        let names = String::from_utf8(listed.stdout).map_err(|error| format!("git ls-files: {error}"))?;
        let names: BTreeSet<_> =
            names.split('\0').filter(|name| !name.is_empty() && root.join(name).is_file()).collect();
        if names.len() < 50 {
            return Err(format!("git knows of {} files only", names.len()));
        }
        for name in &names {
            let bytes = fs::read(root.join(name)).map_err(|error| format!("{name}: {error}"))?;
            write(&sources.join(name), &bytes)?;
        }
        // What is no more would still be built.
        for folder in ["src", "tests", "examples"] {
            let mut folders = vec![sources.join(folder)];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                    let path = entry.path();
                    let name = path.strip_prefix(&sources).ok().and_then(Path::to_str).unwrap_or_default();
                    if path.is_dir() {
                        folders.push(path);
                    } else if !names.contains(name) {
                        fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                    }
                }
            }
        }
        Ok(Self { sources, said: built.join(format!("said-{lane}.txt")), built })
    }

    /// The file with the fault in it.
    pub(crate) fn applied(&self, mutant: &Mutant) -> Result<String, String> {
        let Mutant { name, file, old, new, .. } = mutant;
        let text = fs::read_to_string(self.sources.join(file)).map_err(|error| format!("{name}: {file}: {error}"))?;
        match text.matches(old.as_str()).count() {
            1 => Ok(text.replacen(old.as_str(), new, 1)),
            times => Err(format!("{name}: {file} has this text {times} times, not once:\n{old}")),
        }
    }

    /// Does something while the fault is in.
    pub(crate) fn with<R>(&self, mutant: &Mutant, work: impl FnOnce() -> R) -> Result<R, String> {
        let path = self.sources.join(&mutant.file);
        let sound = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        write(&path, self.applied(mutant)?.as_bytes())?;
        let result = work();
        write(&path, &sound)?;
        Ok(result)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    let folder = path.parent().ok_or("a file lies in a folder")?;
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes));
    written.map_err(|error| format!("{}: {error}", path.display()))
}
