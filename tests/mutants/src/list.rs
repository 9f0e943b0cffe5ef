//! The list of faults, and how it is written down.
//!
//! ```text
//! == a short name
//! in: src/sync/event.rs
//! by: loom sync::models::whoever_waits_goes_on
//! says: text that the failing check prints               (may be left out; "never ends" if it goes on for ever)
//! survives: why no check can or should notice it         (may be left out)
//! --
//! the text, once in the file
//! ++
//! what takes its place
//! ```

use std::fs;
use std::path::Path;

use crate::check::Check;

/// A fault, and the check that is to notice it.
#[derive(Debug)]
pub(crate) struct Mutant {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) check: Check,
    pub(crate) says: Option<String>,
    pub(crate) survives: Option<String>,
    pub(crate) old: String,
    pub(crate) new: String,
}

/// All faults of all files of a folder.
pub(crate) fn read(folder: &Path) -> Result<Vec<Mutant>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let mut mutants: Vec<Mutant> = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for part in format!("\n{text}").split("\n== ").skip(1) {
            let mutant = one(part).map_err(|error| format!("{}: {error} in\n{part}", path.display()))?;
            if mutants.iter().any(|other| other.name == mutant.name) {
                return Err(format!("two mutants are called '{}'", mutant.name));
            }
            mutants.push(mutant);
        }
    }
    Ok(mutants)
}

fn one(part: &str) -> Result<Mutant, String> {
    let (head, change) = part.split_once("\n--\n").ok_or("no '--' line")?;
    let (old, new) = format!("{}\n", change.trim_end())
        .split_once("\n++\n")
        .map(|(old, new)| (old.to_owned(), new.trim_end().to_owned()))
        .ok_or("no '++' line")?;
    let mut lines = head.lines();
    let name = lines.next().unwrap_or_default().trim().to_owned();
    let (mut file, mut check, mut says, mut survives) = (None, None, None, None);
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let (key, value) = line.split_once(": ").ok_or_else(|| format!("'{line}' is no 'key: value'"))?;
        let place = match key {
            "in" => &mut file,
            "by" => &mut check,
            "says" => &mut says,
            "survives" => &mut survives,
            _ => return Err(format!("there is no '{key}'")),
        };
        *place = Some(value.trim().to_owned());
    }
    let check = Check::parse(&check.ok_or("no 'by'")?)?;
    Ok(Mutant { name, file: file.ok_or("no 'in'")?, check, says, survives, old, new })
}
