//! P2: processes share nothing that they weren't given, and a child starts fresh.
#![cfg(feature = "process")]

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use millpond::process::Process;

millpond::test_support!();

static COUNTER: AtomicU32 = AtomicU32::new(1);
static ONCE: OnceLock<String> = OnceLock::new();
std::thread_local! {
    static LOCAL: Cell<u32> = const { Cell::new(1) };
}

/// Changes all that it can reach; what it found before.
fn change(to: u32) -> (u32, bool, u32) {
    let fresh = ONCE.set("the child's".to_owned()).is_ok();
    (COUNTER.swap(to, Ordering::Relaxed), fresh, LOCAL.replace(to))
}

fn grandchild(to: u32) -> ((u32, bool, u32), (u32, bool, u32)) {
    (change(to), Process::spawn(change, (to + 1,)).unwrap().join().unwrap())
}

fn directory_after(path: String) -> String {
    std::env::set_current_dir(path).unwrap();
    std::env::current_dir().unwrap().to_string_lossy().into_owned()
}

fn own_copy(mut list: Vec<u32>) -> Vec<u32> {
    list.push(4);
    list
}

millpond::tasks![change, grandchild, directory_after, own_copy];

#[test]
fn a_global_changed_in_one_is_unchanged_in_the_others() {
    COUNTER.store(100, Ordering::Relaxed);
    ONCE.set("the parent's".to_owned()).unwrap();
    LOCAL.set(100);
    let fresh = (1, true, 1);
    let children: Vec<_> = (0..4).map(|n| Process::spawn(change, (n + 10,)).unwrap()).collect();
    for child in children {
        assert_eq!(child.join().unwrap(), fresh);
    }
    assert_eq!(Process::spawn(grandchild, (50,)).unwrap().join().unwrap(), (fresh, fresh));
    assert_eq!((COUNTER.load(Ordering::Relaxed), LOCAL.get()), (100, 100));
    assert_eq!(ONCE.get().unwrap(), "the parent's");
}

#[test]
fn directories_and_arguments_are_copies() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(Process::spawn(directory_after, ("/".to_owned(),)).unwrap().join().unwrap(), "/");
    assert_eq!(std::env::current_dir().unwrap(), here);
    let list = vec![1, 2, 3];
    assert_eq!(Process::spawn(own_copy, (list.clone(),)).unwrap().join().unwrap(), [1, 2, 3, 4]);
    assert_eq!(list, [1, 2, 3]);
}
