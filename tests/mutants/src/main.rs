//! Puts known faults into a copy of the sources, one at a time, and requires that a named check notices each.
//!
//! `cargo run --release --manifest-path tests/mutants/Cargo.toml` (with words: only mutants whose name or file contains one)
//!
//! A fault is a piece of text and what takes its place: see `list.rs`. It fails if a piece of text is not in its file
//! exactly once, if a mutant does not compile, if its check passes without it being said why that is right, or if a check
//! fails or tests nothing without any fault.

mod check;
mod list;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use check::{Check, Outcome};
use list::Mutant;
use tree::Tree;

fn main() -> ExitCode {
    let start = Instant::now();
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(wrong) => {
            println!("{:.0} s", start.elapsed().as_secs_f64());
            if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The environment's name for: begin no new fault after so many seconds. On a slow machine some are not tried then, which is said.
const SECONDS: &str = "MUTANTS_SECONDS";

/// What a list says of a fault whose check is known to go on for ever.
const NEVER_ENDS: &str = "never ends";

/// How many mutants were not dealt with as they should be.
fn run(words: &[String]) -> Result<usize, String> {
    let begin_until = match std::env::var(SECONDS) {
        Ok(text) => {
            let seconds = text.parse().map_err(|error| format!("{SECONDS} is '{text}': {error}"))?;
            Some(Instant::now() + Duration::from_secs(seconds))
        }
        Err(_) => None,
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root: PathBuf = here.ancestors().nth(2).ok_or("no repository around this")?.to_owned();
    let mut mutants = list::read(&here.join("faults"))?;
    let chosen = |mutant: &Mutant, word: &str| mutant.name.contains(word) || mutant.file.contains(word);
    mutants.retain(|mutant| words.is_empty() || words.iter().any(|word| chosen(mutant, word)));
    if mutants.is_empty() {
        return Err("no mutant has such a name, or is in such a file".to_owned());
    }
    // Checks of one kind one after the other: fewer changes to what is built.
    mutants.sort_by(|a, b| (&a.check, &a.file, &a.name).cmp(&(&b.check, &b.file, &b.name)));
    println!("| mutant | in | is noticed by | how | s |\n|---|---|---|---|--:|");
    let lanes = ["models", "tests", "units"]
        .map(|name| (name, mutants.iter().filter(move |mutant| mutant.check.lane() == name)));
    let wrong = std::thread::scope(|scope| {
        let lanes = lanes.map(|(name, mutants)| {
            let (root, mutants) = (&root, mutants.collect::<Vec<_>>());
            scope.spawn(move || lane(root, name, &mutants, words.is_empty(), begin_until))
        });
        // All of them come to their end first.
        lanes
            .map(|lane| lane.join().unwrap_or_else(|_| Err("a lane panicked".to_owned())))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
    })?
    .concat();
    // Once more where they are seen: above are many lines.
    println!("\n{} mutants, {} not as they should be", mutants.len(), wrong.len());
    wrong.iter().for_each(|row| println!("{row}"));
    Ok(wrong.len())
}

/// Deals with the mutants of one lane: the rows of those that were not as they should be.
fn lane(
    root: &Path,
    name: &str,
    mutants: &[&Mutant],
    all: bool,
    begin_until: Option<Instant>,
) -> Result<Vec<String>, String> {
    if mutants.is_empty() {
        return Ok(Vec::new());
    }
    let tree = Tree::copy(root, name)?;
    let stale: Vec<_> = mutants.iter().filter_map(|mutant| tree.applied(mutant).err()).collect();
    if !stale.is_empty() {
        return Err(stale.join("\n"));
    }
    let allowed = sound(&tree, mutants)?;
    let mut wrong = Vec::new();
    for (tried, mutant) in mutants.iter().enumerate() {
        let began = Instant::now();
        if begin_until.is_some_and(|until| began > until) {
            println!("{} mutants of the {name} were not tried: no time left", mutants.len() - tried);
            break;
        }
        let outcome = tree.with(mutant, || mutant.check.run(&tree, allowed[&mutant.check]))?;
        let (good, how) = verdict(mutant, &outcome);
        let (name, file, check) = (&mutant.name, &mutant.file, &mutant.check);
        let row = format!("| {name} | `{file}` | {check} | {how} | {:.0} |", began.elapsed().as_secs_f64());
        println!("{row}");
        if !good {
            wrong.push(row);
        }
    }
    if all && name == "models" {
        for model in Check::models(&tree) {
            if !mutants.iter().any(|mutant| mutant.check.name() == model) {
                eprintln!("never seen to fail: {model}");
            }
        }
    }
    Ok(wrong)
}

/// Runs every check without any fault. How long each may take with one.
fn sound(tree: &Tree, mutants: &[&Mutant]) -> Result<BTreeMap<Check, Duration>, String> {
    let mut allowed = BTreeMap::new();
    for mutant in mutants {
        if allowed.contains_key(&mutant.check) {
            continue;
        }
        match mutant.check.run(tree, Duration::from_secs(300)) {
            Outcome::Passed(took) => allowed.insert(mutant.check.clone(), took * 5 + Duration::from_secs(30)),
            other => return Err(format!("without any fault, {} is {other:?}", mutant.check)),
        };
    }
    eprintln!("{} checks pass without a fault", allowed.len());
    Ok(allowed)
}

/// Whether that is as it should be, and how to say it.
fn verdict(mutant: &Mutant, outcome: &Outcome) -> (bool, String) {
    match (outcome, &mutant.survives) {
        (Outcome::Failed(said), None) => match &mutant.says {
            Some(text) if !said.contains(text) => (false, format!("**for another reason**: {}", check::reason(said))),
            _ => (true, check::reason(said)),
        },
        (Outcome::Hung, None) => match &mutant.says {
            Some(text) if text == NEVER_ENDS => (true, NEVER_ENDS.to_owned()),
            _ => (false, "**never ends**".to_owned()),
        },
        (Outcome::Passed(_), None) => (false, "**SURVIVES**".to_owned()),
        (Outcome::Passed(_), Some(why)) => (true, format!("survives: {why}")),
        (Outcome::Failed(_) | Outcome::Hung, Some(_)) => (false, "**is noticed after all**".to_owned()),
        (Outcome::Broken(said), _) => (false, format!("**does not build**: {}", check::reason(said))),
        (Outcome::Empty, _) => (false, "**its check tests nothing**".to_owned()),
    }
}
