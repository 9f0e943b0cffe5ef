//! The machinery of the pools as the program's global allocator: it serves any size and any alignment.
//!
//! `cargo run --release --example global_allocator`

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use millpond::Heap;

// These two lines are all that a program needs.
#[global_allocator]
static GLOBAL: Heap = Heap;

fn main() -> ExitCode {
    match run(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "global_allocator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    any_size(out)?;
    any_alignment(out)?;
    ordinary_program(out)?;
    writeln!(out, "\nThe heap's figures:\n{}", Heap::stats())?;
    Ok(())
}

fn any_size(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "{:>12}   {:>12}", "asked for", "got bytes")?;
    for size in [1, 20, 100, 1_000, 5_000, 30_000, 100_000, 1_000_000, 20_000_000, 200_000_000] {
        let before = Heap::stats().live_bytes;
        let bytes: Vec<u8> = Vec::with_capacity(size);
        let got = Heap::stats().live_bytes - before;
        writeln!(out, "{size:>12}   {got:>12}")?;
        expect(got >= bytes.capacity(), "what is handed out is large enough")?;
    }
    Ok(())
}

fn any_alignment(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    #[repr(align(64))]
    struct Line([u8; 64]);
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    #[repr(align(2097152))]
    struct HugePage([u8; 100]);

    let (line, page, huge) = (Box::new(Line([1; 64])), Box::new(Page([2; 4096])), Box::new(HugePage([3; 100])));
    writeln!(out, "\nAligned to 64 bytes:  {:p}", &raw const line.0)?;
    writeln!(out, "           4 KiB:     {:p}", &raw const page.0)?;
    writeln!(out, "           2 MiB:     {:p}", &raw const huge.0)?;
    let aligned = [(line.0.as_ptr(), 64), (page.0.as_ptr(), 4096), (huge.0.as_ptr(), 2 << 20)];
    expect(aligned.iter().all(|(at, align)| at.addr().is_multiple_of(*align)), "every alignment is met")
}

/// Strings, maps and threads: what is made on one thread is freed on another, and all of it comes back.
fn ordinary_program(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let before = Heap::stats().live_blocks;
    let maps: Vec<HashMap<String, usize>> = thread::scope(|scope| {
        let counters: Vec<_> = (0..4).map(|first| scope.spawn(move || count_digits(first * 25_000))).collect();
        counters.into_iter().map(|counter| counter.join().unwrap_or_default()).collect()
    });
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    for (word, count) in maps.into_iter().flatten() {
        *all.entry(word).or_default() += count;
    }
    let during = Heap::stats().live_blocks;
    writeln!(out, "\nFour threads filled maps of strings: {} blocks in use.", during - before)?;
    expect(all.values().sum::<usize>() == 100_000, "nothing is lost")?;
    drop(all);
    let after = Heap::stats().live_blocks;
    writeln!(out, "Dropped: {} of them are left.", after.saturating_sub(before))?;
    Ok(())
}

fn count_digits(first: usize) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for number in first..first + 25_000 {
        let digits: String = number.to_string().chars().rev().take(4).collect();
        *counts.entry(digits).or_default() += 1;
    }
    counts
}

fn expect(kept: bool, promise: &str) -> Result<(), Box<dyn Error>> {
    if kept { Ok(()) } else { Err(format!("a promise was broken: {promise}").into()) }
}
