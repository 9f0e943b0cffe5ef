//! The Rust sources that the parser parses: those of crates which this package itself depends on, so that they are
//! on every machine that builds it, in the versions of its lock file.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

const CRATES: &[&str] = &["memchr", "plotters", "proc-macro2", "serde_core", "serde_json", "syn"];

/// The source folders of [`CRATES`], sorted.
pub fn folders() -> Vec<PathBuf> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["metadata", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .args(["--format-version", "1", "--all-features", "--filter-platform", "host-tuple"])
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let mut folders: Vec<PathBuf> = packages.iter().filter_map(source_folder).collect();
    folders.sort();
    assert!(folders.len() >= CRATES.len(), "sources found: {folders:?}");
    folders
}

fn source_folder(package: &Value) -> Option<PathBuf> {
    let manifest = PathBuf::from(package["manifest_path"].as_str()?);
    let wanted = CRATES.contains(&package["name"].as_str()?);
    wanted.then(|| manifest.with_file_name("src"))
}
