//! A pool of equal blocks: requested from the system beforehand, handed out and taken back, with a limit.
//!
//! `cargo run --release --example memory_pool`

use std::collections::HashSet;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;

use millpond::{Block, BlockPool, MemoryError};

const RESERVE: usize = 600;
const LIMIT: usize = 1_000;

fn main() -> ExitCode {
    match run(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "memory_pool: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let pool =
        BlockPool::builder().block_size(256).block_align(64).reserve(RESERVE).limit(LIMIT).name("frames").build()?;
    reserved_beforehand(&pool, out)?;
    last_in_first_out(&pool, out)?;
    grows_up_to_its_limit(&pool, out)?;
    limit_and_caches(out)
}

/// Blocks are requested from the system before first use, and kept ready.
fn reserved_beforehand(pool: &BlockPool, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let before = pool.stats();
    writeln!(out, "Requested before first use: {} blocks, {} bytes from the system.", before.blocks, before.committed)?;

    let blocks = take_all(pool, RESERVE)?;
    let during = pool.stats();
    writeln!(out, "  {} taken: {} bytes from the system, as before.", during.live, during.committed)?;

    drop(blocks);
    pool.purge();
    let after = pool.stats();
    writeln!(out, "  All given back, and what is free purged: {} blocks are kept ready.", after.blocks)?;
    expect(before.blocks >= RESERVE && after.blocks >= RESERVE, "the reserve is kept")?;
    expect(during.committed == before.committed, "the reserve serves the first blocks")
}

/// A request is carved from the pool; a freed block is the next to be handed out.
fn last_in_first_out(pool: &BlockPool, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let others = take_all(pool, 10)?;
    let mut block = pool.take()?;
    block[0].write(42);
    let first = block.as_ptr();
    writeln!(out, "Carved from the pool: a block of {} bytes at {first:p}.", block.len())?;

    drop(block);
    let block = pool.take()?;
    writeln!(out, "  Given back, it is the next to be handed out: {:p}.", block.as_ptr())?;
    expect(first == block.as_ptr(), "a freed block is the next to be handed out")?;
    expect(others.iter().all(|other| other.as_ptr() != first), "no block is handed out twice")
}

/// When the blocks run out the pool asks for more, up to its limit; past it there is an error, and nothing is lost.
fn grows_up_to_its_limit(pool: &BlockPool, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let before = pool.stats().blocks;
    let mut blocks = take_all(pool, LIMIT)?;
    writeln!(out, "The blocks ran out, the pool asked for more: {before} blocks became {}.", pool.stats().blocks)?;

    let Err(refused) = pool.take() else { return Err("the limit was passed".into()) };
    writeln!(out, "  One past the limit is an error: {refused}.")?;
    expect(matches!(refused, MemoryError::LimitReached { limit: LIMIT, .. }), "the error says that it is the limit")?;

    let distinct: HashSet<_> = blocks.iter().map(|block| block.as_ptr()).collect();
    expect(distinct.len() == LIMIT, "all blocks are different")?;
    blocks.pop();
    let again = pool.take()?;
    writeln!(out, "  One given back, one can be taken: {} are out.", pool.stats().live)?;
    drop(again);
    drop(blocks);
    writeln!(out, "  All given back: {} are out, and {LIMIT} can be taken again.", pool.stats().live)?;
    take_all(pool, LIMIT).map(drop)?;
    Ok(())
}

/// Under a small limit no thread keeps blocks, so that each can reach all; under a large one a few may be out of reach.
fn limit_and_caches(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    const MAGAZINE: usize = 16;
    let exact = BlockPool::builder().limit(LIMIT).build()?;
    let cached = BlockPool::builder().limit(LIMIT).exact_limit(false).magazine_size(MAGAZINE).build()?;
    writeln!(out, "Another thread took all {LIMIT} blocks, gave them back, and lives on:")?;
    for (pool, what, missing) in [(&exact, "with an exact limit", 0), (&cached, "with caches", 2 * MAGAZINE)] {
        let reached = reached_beside_another(pool)?;
        writeln!(out, "  {what:<19} this one reaches {reached}")?;
        expect(reached >= LIMIT - missing, "at most two magazines are out of reach")?;
    }
    Ok(())
}

/// How many blocks this thread can take while another, which had all of them, lives on.
fn reached_beside_another(pool: &BlockPool) -> Result<usize, Box<dyn Error>> {
    let meet = Barrier::new(2);
    let (others, ours) = thread::scope(|scope| {
        let other = scope.spawn(|| {
            let taken = take_all(pool, LIMIT).map(|blocks| blocks.len());
            meet.wait(); // All is given back.
            meet.wait(); // The other thread is done.
            taken
        });
        meet.wait();
        let ours: Vec<Block<'_>> = std::iter::from_fn(|| pool.take().ok()).collect();
        meet.wait();
        (other.join(), ours.len())
    });
    others.map_err(|_| "the other thread panicked")??;
    Ok(ours)
}

fn take_all(pool: &BlockPool, count: usize) -> Result<Vec<Block<'_>>, MemoryError> {
    (0..count).map(|_| pool.take()).collect()
}

fn expect(kept: bool, promise: &str) -> Result<(), Box<dyn Error>> {
    if kept { Ok(()) } else { Err(format!("a promise was broken: {promise}").into()) }
}
