//! Parsing Rust sources into syntax trees.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Sample, timed};

/// Parses the given folders' Rust files with `syn` and keeps all trees until the end, as a tool that looks at
/// a whole project does.
pub(crate) fn parse(folders: &[PathBuf]) -> Sample {
    assert!(!folders.is_empty(), "the parser needs folders with Rust sources");
    let mut paths = Vec::new();
    folders.iter().for_each(|folder| collect(folder, &mut paths));
    paths.sort();
    let sources: Vec<String> = paths.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let bytes: u64 = sources.iter().map(|source| source.len() as u64).sum();
    timed(bytes, || sources.iter().filter_map(|source| syn::parse_file(source).ok()).collect::<Vec<_>>())
}

/// All `.rs` files under a folder.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}
