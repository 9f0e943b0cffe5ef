//! What valgrind sees of pools and of the heap. A program of its own, since it has to be run under valgrind:
//! `.ci/valgrind` runs `clean`, which must be clean, and each of the others, which must be reported.
#![expect(unsafe_code, reason = "uses blocks that were given back")]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;
use std::sync::Arc;
use std::thread;

use millpond::{BlockPool, Heap, OwnedPoolBox, Pool, PoolArc, PoolBox, Recycler};

#[derive(Debug)]
struct Node {
    words: [u64; 6],
    next: Option<PoolBox<'static, Node>>,
}

static NODES: Pool<Node> = Pool::new();
static FRAMES: BlockPool = BlockPool::new(192, 64);

fn node(word: u64) -> PoolBox<'static, Node> {
    NODES.alloc(Node { words: [word; 6], next: None })
}

/// Reads a word in a way that nobody takes out.
fn read(at: *const u64) -> u64 {
    // SAFETY: not met where this is called with a block that was given back: that is the point.
    unsafe { at.read_volatile() }
}

/// Everything as it should be: many blocks, values, threads, and memory that goes from one use to the next.
fn clean() {
    for round in 0..3 {
        let list: Vec<_> = (0..3000).map(node).collect();
        let sum = thread::spawn(move || list.iter().map(|node| node.words[5]).sum::<u64>()).join().unwrap();
        assert_eq!(sum, 3000 * 2999 / 2);
        let shared: PoolArc<'_, Node> = NODES.alloc_arc(Node { words: [round; 6], next: Some(node(round)) });
        assert_eq!(shared.clone().next.as_ref().unwrap().words[0], round);
        drop(shared);
        // Runs that these pools leave serve others, and the heap.
        NODES.purge();
        let own = Arc::new(BlockPool::builder().block_size(4096).zeroed(true).build().unwrap());
        let mut blocks: Vec<_> = (0..300).map(|_| own.take_owned().unwrap()).collect();
        for block in &mut blocks {
            block[4095].write(1);
        }
        drop(blocks);
        let again = own.take().unwrap();
        // SAFETY: the pool's blocks are zeroed.
        assert_eq!(unsafe { again[4095].assume_init() }, 0);
        drop(again);
        drop(own);
        Heap::purge();
        let layouts = (1..400).map(|n| Layout::from_size_align(n * 61, 8).unwrap());
        let held: Vec<_> = layouts
            .map(|layout| {
                // SAFETY: the size is not zero.
                let at = unsafe { Heap.alloc_zeroed(layout) };
                // SAFETY: just allocated, with this size.
                let last = unsafe { at.add(layout.size() - 1) };
                // SAFETY: as above.
                unsafe { last.write(1) };
                (at, layout)
            })
            .collect();
        for (at, layout) in held {
            // SAFETY: allocated above with this layout.
            unsafe { Heap.dealloc(at, layout) };
        }
        let recycler: Recycler<Vec<u8>> = Recycler::builder().create(Vec::new).reset(Vec::clear).limit(4).build();
        recycler.get().unwrap().push(1);
    }
}

/// A value of a typed pool is read after its box was dropped.
fn value() {
    let held = node(7);
    let at = (&raw const held.words).cast();
    drop(held);
    println!("{}", read(at));
}

/// The same, after another thread dropped it.
fn elsewhere() {
    let pool = Arc::new(Pool::<Node>::builder().build().unwrap());
    let held: OwnedPoolBox<Node> = pool.alloc_owned(Node { words: [8; 6], next: None });
    let at = (&raw const held.words).cast();
    thread::spawn(move || drop(held)).join().unwrap();
    println!("{}", read(at));
}

/// The last owner of a counted value is gone.
fn counted() {
    let held = NODES.alloc_arc(Node { words: [9; 6], next: None });
    let at = (&raw const held.words).cast();
    drop(held.clone());
    drop(held);
    println!("{}", read(at));
}

/// A raw block is written to after it was given back.
fn block() {
    let at = FRAMES.take_raw().unwrap();
    // SAFETY: just taken; not given back before.
    unsafe { FRAMES.give_back(at) };
    // SAFETY: not met: that is the point.
    unsafe { at.cast::<u64>().write_volatile(1) };
}

/// Bytes of a block that nobody has written yet decide something.
fn fresh() {
    let at: NonNull<u64> = FRAMES.take_raw().unwrap().cast();
    if read(at.as_ptr()) == 11 {
        println!("eleven");
    }
    // SAFETY: taken above.
    unsafe { FRAMES.give_back(at.cast()) };
}

/// A block of the heap is read after it was freed.
fn heap() {
    let layout = Layout::new::<[u64; 5]>();
    // SAFETY: the size is not zero.
    let at = unsafe { Heap.alloc_zeroed(layout) };
    // SAFETY: allocated above with this layout.
    unsafe { Heap.dealloc(at, layout) };
    println!("{}", read(at.cast()));
}

const CASES: &[(&str, fn())] = &[
    ("clean", clean),
    ("value", value),
    ("elsewhere", elsewhere),
    ("counted", counted),
    ("block", block),
    ("fresh", fresh),
    ("heap", heap),
];

fn main() {
    let chosen = std::env::args().nth(1);
    match CASES.iter().find(|(name, _)| chosen.as_deref() == Some(*name)) {
        Some((_, case)) => case(),
        // As a test among others: what is right, is right without valgrind too.
        None => clean(),
    }
}
