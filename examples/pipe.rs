//! Pipes between processes, three ways.
//!
//! A: both ends send and receive. B: one way only. C: the other end goes, and this one is told.
//!
//! ```text
//! cargo run --release --example pipe
//! ```

use std::error::Error;
use std::time::Instant;

use millpond::ipc::{PipeEnd, PipeError, Sender, one_way, pipe};
use millpond::process::{self, Process};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
enum Command {
    Square(u64),
    Text(String),
    Stop,
}

fn serve(mut end: PipeEnd<String, Command>) -> u32 {
    let mut served = 0;
    loop {
        let answer = match end.recv() {
            Ok(Command::Square(n)) => format!("{n} squared is {}", n * n),
            Ok(Command::Text(text)) => format!("{} letters", text.chars().count()),
            Ok(Command::Stop) | Err(_) => return served,
        };
        served += 1;
        if end.send(answer).is_err() {
            return served;
        }
    }
}

fn count_down(mut tx: Sender<u32>) {
    for n in (0..3).rev() {
        let _ = tx.send(n);
    }
}

fn never_answers(end: PipeEnd<String, Command>) {
    let _end = end;
    std::thread::sleep(std::time::Duration::from_secs(60));
}

millpond::tasks![serve, count_down, never_answers];

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    println!("A: both ends send and receive");
    let (mut near, far) = pipe()?;
    let server = Process::spawn(serve, (far,))?;
    for command in [Command::Square(12), Command::Text("Mühlenteich".into())] {
        println!("  ask {command:?}");
        near.send(command)?;
        println!("  answer: {}", near.recv()?);
    }
    near.send(Command::Stop)?;
    assert_eq!(server.join()?, 2);

    println!("B: one way");
    let (tx, mut rx) = one_way()?;
    let counter = Process::spawn(count_down, (tx,))?;
    let got: Vec<u32> = std::iter::from_fn(|| rx.recv().ok()).collect();
    println!("  got {got:?}");
    assert_eq!(got, [2, 1, 0]);
    counter.join()?;

    println!("C: the process at the other end is killed while this one waits");
    let (mut near, far): (PipeEnd<Command, String>, _) = pipe()?;
    let child = Process::spawn(never_answers, (far,))?;
    near.send(Command::Square(3))?;
    let waiting = std::thread::spawn(move || near.recv());
    child.kill()?;
    let start = Instant::now();
    let told = waiting.join().expect("the thread ends");
    println!("  told after {:?}: {}", start.elapsed(), told.as_ref().expect_err("nobody answers"));
    assert_eq!(told, Err(PipeError::Disconnected));
    Ok(())
}
