//! Runs one workload once on this program's allocator and prints what it cost.
//!
//! `heap-worker <workload> [folder of Rust sources …]`

use std::process::ExitCode;

#[path = "../allocator.rs"]
mod allocator;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some(workload) = workloads::find(&name) else {
        eprintln!("no workload is called \"{name}\"");
        return ExitCode::FAILURE;
    };
    let folders: Vec<_> = arguments.map(Into::into).collect();
    println!("{}", workload(&folders));
    ExitCode::SUCCESS
}
