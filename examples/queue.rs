//! A queue between processes, three ways.
//!
//! A: two writers and a reader. B: four consumers share the work of one producer, and each value is got once. C: a reader
//! is terminated while it waits, and nobody is harmed.
//!
//! ```text
//! cargo run --release --example queue
//! ```

use std::error::Error;
use std::time::Duration;

use millpond::ipc::{Event, Queue};
use millpond::process::{self, Process};

fn write(queue: Queue<String>, urls: Vec<String>) {
    println!("process {} writes", process::id());
    for url in urls {
        println!("  put {url}");
        queue.put(url).expect("the queue is open");
    }
}

fn read(queue: Queue<String>) -> Vec<String> {
    println!("process {} reads", process::id());
    std::iter::from_fn(|| queue.get().ok()).inspect(|url| println!("  got {url}")).collect()
}

fn add_up(queue: Queue<u64>) -> (u64, u64) {
    let (mut count, mut sum) = (0, 0);
    while let Ok(n) = queue.get() {
        count += 1;
        sum += n;
    }
    (count, sum)
}

fn wait_for_ever(queue: Queue<u64>, waiting: Event) {
    waiting.set();
    let _ = queue.get();
}

millpond::tasks![write, read, add_up, wait_for_ever];

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    println!("A: two writers, one reader");
    let queue = Queue::bounded(2)?;
    let reader = Process::spawn(read, (queue.clone(),))?;
    let urls = |names: [&str; 3]| names.map(str::to_owned).to_vec();
    let writers = [
        Process::spawn(write, (queue.clone(), urls(["url_1", "url_2", "url_3"])))?,
        Process::spawn(write, (queue.clone(), urls(["url_4", "url_5", "url_6"])))?,
    ];
    for writer in writers {
        writer.join()?;
    }
    queue.close();
    let mut got = reader.join()?;
    got.sort();
    assert_eq!(got, ["url_1", "url_2", "url_3", "url_4", "url_5", "url_6"]);

    println!("B: one producer, four consumers");
    let queue = Queue::bounded(100)?;
    let consumers: Vec<_> = (0..4).map(|_| Process::spawn(add_up, (queue.clone(),))).collect::<Result<_, _>>()?;
    for n in 1..=100_000 {
        queue.put(n)?;
    }
    queue.close();
    let mut total = (0, 0);
    for consumer in consumers {
        let (count, sum) = consumer.join()?;
        println!("process {} got {count} values", consumer.id());
        total = (total.0 + count, total.1 + sum);
    }
    println!("together {} values, sum {}", total.0, total.1);
    assert_eq!(total, (100_000, 5_000_050_000));

    println!("C: a reader is terminated while it waits");
    let (queue, waiting) = (Queue::bounded(4)?, Event::new()?);
    let reader = Process::spawn(wait_for_ever, (queue.clone(), waiting.clone()))?;
    waiting.wait()?;
    reader.terminate()?;
    let ended = reader.join_timeout(Duration::from_secs(10));
    println!("the reader: {}", ended.expect_err("it was terminated"));
    queue.put(7)?;
    let got = queue.get()?;
    println!("the queue works on: got {got}");
    assert_eq!(got, 7);
    Ok(())
}
