//! Python's `multiprocessing`: `peers.py` beside this file, run by the `python3` that there is.

use std::process::Command;

/// Nanoseconds for each, as the script says.
pub fn run(workload: &str) -> f64 {
    let output = Command::new("python3")
        .args(["-c", include_str!("peers.py"), workload])
        .output()
        .expect("python3 is needed for this peer; leave it out by --peers");
    assert!(output.status.success(), "python: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a figure")
}
