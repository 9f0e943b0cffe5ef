//! P1: a function runs in a process of its own, with arguments and a value; ids, names, waiting, ending.

use millpond::process::{self, Process, ProcessError};

millpond::test_support!();

fn add(a: u32, b: u32) -> u32 {
    a + b
}
fn nested(n: u32) -> (u32, u32, Vec<u32>) {
    let child = Process::spawn(add, (n, 1)).unwrap();
    let children = process::children();
    (child.join().unwrap(), child.id(), children)
}
fn thread_and_args() -> (String, Vec<String>) {
    (std::thread::current().name().unwrap_or("").to_owned(), std::env::args().collect())
}
millpond::tasks![add, nested, thread_and_args];

#[test]
fn a_value_comes_back() {
    let child = Process::spawn(add, (1, 2)).unwrap();
    assert_eq!(child.join().unwrap(), 3);
    let child = Process::spawn(nested, (1,)).unwrap();
    let (value, pid, children) = child.join().unwrap();
    assert_eq!((value, children), (2, vec![pid]));
    println!("{:?}", Process::spawn(thread_and_args, ()).unwrap().join());
}
