//! The Python peers: where the interpreter is, and the packages that it does not bring.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use millpond_bench::Worker;

/// Those that come with Python, and those that are packages: name, version.
const OWN: [&str; 2] = ["multiprocessing", "concurrent.futures"];
const PACKAGES: [(&str, &str); 2] = [("loky", "3.4.1"), ("pebble", "5.0.7")];

/// The peers that can run here, each as the start of a command line, and those that can't, in words.
pub fn peers() -> (Vec<Worker>, Vec<String>) {
    let Some(python) =
        ["python3.11", "python3"].into_iter().find(|python| runs(python, "import multiprocessing", None))
    else {
        return (vec![], vec!["no python3 was found: its pools are absent".to_owned()]);
    };
    let folder = std::env::var_os("MILLPOND_BENCH_PYTHON")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-peers"), PathBuf::from);
    let (mut peers, mut absent) = (vec![], vec![]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/process_pool/peers.py");
    let mut add = |name: &str| {
        peers.push(Worker {
            name: name.to_owned(),
            program: "env".into(),
            arguments: vec![format!("PYTHONPATH={}", folder.display()), python.into(), script.into(), name.into()],
        });
    };
    OWN.into_iter().for_each(&mut add);
    for (name, version) in PACKAGES {
        let import = format!("import {name}");
        if runs(python, &import, Some(&folder))
            || (install(python, name, version, &folder) && runs(python, &import, Some(&folder)))
        {
            add(name);
        } else {
            absent.push(format!("{name} {version} is absent: neither found nor installed by pip"));
        }
    }
    (peers, absent)
}

fn runs(python: &str, code: &str, path: Option<&Path>) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", code]).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(path) = path {
        command.env("PYTHONPATH", path);
    }
    command.status().is_ok_and(|status| status.success())
}

fn install(python: &str, name: &str, version: &str, folder: &Path) -> bool {
    eprintln!("installing {name} {version} into {}", folder.display());
    let status = Command::new(python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "15"])
        .arg("--target")
        .arg(folder)
        .arg(format!("{name}=={version}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
