//! Heap as a program's allocator: collections, threads, strings, thread-local destructors and an arena on top.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use millpond::{Heap, Pool};

#[global_allocator]
static GLOBAL: Heap = Heap;

#[test]
fn collections_live_on_the_heap() {
    let words: Vec<String> = (0..50_000).map(|n| format!("word number {n}")).collect();
    assert!(Heap::stats().live_bytes >= 50_000 * 40, "they are counted, whatever other tests do");
    let index: HashMap<&str, usize> = words.iter().enumerate().map(|(n, word)| (word.as_str(), n)).collect();
    let sorted: BTreeMap<&str, usize> = index.iter().map(|(word, n)| (*word, *n)).collect();
    assert!(sorted.iter().all(|(word, n)| words[*n] == *word));
    let text: String = sorted.keys().copied().collect::<Vec<_>>().join(" ");
    assert_eq!(text.split(" word").count(), 50_000);
    let mut zeros = vec![0_u64; 1_000_000];
    assert!(zeros.iter().all(|n| *n == 0));
    zeros.fill(7);
    drop(zeros);
    assert!(vec![0_u64; 1_000_000].iter().all(|n| *n == 0), "zeroed again after it was dirty");
}

#[test]
fn an_arena_stands_on_the_heap() {
    let bump = bumpalo::Bump::new();
    let before = Heap::stats().live_bytes;
    let mut lists = bumpalo::collections::Vec::new_in(&bump);
    for n in 0..20_000_usize {
        lists.push(bumpalo::collections::Vec::from_iter_in(0..n % 30, &bump));
    }
    assert!(lists.iter().enumerate().all(|(n, list)| list.len() == n % 30 && list.iter().copied().eq(0..n % 30)));
    assert!(bump.allocated_bytes() > 1 << 20);
    // Other tests run beside this one: only what is surely the arena's is asked for.
    assert!(Heap::stats().live_bytes + (64 << 20) > before + bump.allocated_bytes());
    drop(lists);
    let mut bump = bump;
    bump.reset();
    assert_eq!(bump.alloc([1_u64; 100]).len(), 100);
}

#[test]
fn what_one_thread_makes_another_drops() {
    let (send, receive) = channel::<Vec<String>>();
    let consumer = std::thread::spawn(move || receive.into_iter().map(|words| words.len()).sum::<usize>());
    let producers: Vec<_> = (0..3)
        .map(|n: usize| {
            let send = send.clone();
            std::thread::spawn(move || {
                for round in 0..300 {
                    send.send((0..50).map(|m| "x".repeat(n + round + m)).collect()).unwrap();
                }
            })
        })
        .collect();
    drop(send);
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    assert_eq!(consumer.join().unwrap(), 3 * 300 * 50);
}

/// A destructor that allocates, in thread-locals that are registered before and after the heap's own.
struct Diary(Vec<String>, Option<Arc<Mutex<Vec<String>>>>);

impl Drop for Diary {
    fn drop(&mut self) {
        let mut words: VecDeque<String> = self.0.drain(..).collect();
        words.extend((0..500).map(|n| n.to_string()));
        words.drain(..250).for_each(drop);
        if let Some(out) = self.1.take() {
            out.lock().unwrap().extend(words);
        }
    }
}

thread_local! {
    static EARLY: RefCell<Diary> = const { RefCell::new(Diary(Vec::new(), None)) };
    static LATE: RefCell<Diary> = const { RefCell::new(Diary(Vec::new(), None)) };
}

#[test]
fn thread_local_destructors_allocate_and_what_they_made_lives_on() {
    let out = Arc::new(Mutex::new(Vec::new()));
    for round in 0..50 {
        let out = Arc::clone(&out);
        std::thread::spawn(move || {
            if round % 2 == 0 {
                EARLY.with_borrow(|_| ());
            }
            let text = "mill".repeat(100);
            LATE.with_borrow_mut(|diary| *diary = Diary(vec![text.clone()], Some(Arc::clone(&out))));
            EARLY.with_borrow_mut(|diary| *diary = Diary(vec![text], Some(out)));
        })
        .join()
        .unwrap();
    }
    let words = Arc::try_unwrap(out).unwrap().into_inner().unwrap();
    assert_eq!(words.len(), 50 * 2 * 251);
    assert!(words.iter().all(|word| !word.is_empty()));
}

#[test]
fn a_panic_carries_its_message_through_the_heap() {
    for n in 0..100 {
        let panic = std::panic::catch_unwind(|| panic!("message {n}")).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), &format!("message {n}"));
    }
}

#[test]
fn pools_and_the_heap_serve_the_same_program() {
    static NODES: Pool<Vec<u32>> = Pool::new();
    let threads: Vec<_> = (0..4)
        .map(|n| {
            std::thread::spawn(move || {
                let mut nodes = Vec::new();
                for m in 0..2_000 {
                    nodes.push(NODES.alloc(vec![n; m % 50]));
                }
                nodes.retain(|node| node.len() % 2 == 0);
                nodes
            })
        })
        .collect();
    let nodes: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!((nodes.len(), NODES.stats().live), (4_000, 4_000));
    drop(nodes);
    assert_eq!(NODES.stats().live, 0);
}
