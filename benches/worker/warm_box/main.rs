//! The program whose instructions are counted: `warm-box-worker boxes|nothing <times>`.

use std::process::ExitCode;

#[path = "../allocator.rs"]
mod allocator;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, times] = arguments.as_slice() else { return ExitCode::FAILURE };
    match (what.as_str(), times.parse()) {
        ("boxes", Ok(times)) => warm_box::boxes(times),
        ("nothing", Ok(times)) => warm_box::nothing(times),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}
