//! probe
use millpond::process::Process;
use std::time::Instant;
fn nothing() {}
millpond::tasks![nothing];
fn main() {
    millpond::process::init();
    let n: u32 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1);
    let mut v = Vec::new();
    for _ in 0..n {
        let s = Instant::now();
        let p = Process::spawn(nothing, ()).unwrap();
        let a = s.elapsed();
        p.join().unwrap();
        v.push((s.elapsed(), a));
    }
    v.sort();
    println!("median join {:?} start {:?}, min {:?}", v[v.len() / 2].0, v[v.len() / 2].1, v[0]);
}
