//! The life of workers and tasks as `tracing` tells it, and as `metrics` counts it.
#![cfg(all(feature = "tracing", feature = "metrics"))]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use millpond::process::ProcessPool;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};

millpond::test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn dies() {
    std::process::abort();
}

fn panics() {
    panic!("as it should");
}

/// In a worker: how many spans of tasks it has entered.
fn spans() -> Vec<String> {
    SEEN.lock().unwrap().iter().filter(|seen| seen.starts_with("span")).cloned().collect()
}

fn listen() {
    tracing::subscriber::set_global_default(Ear).unwrap();
}

fn not_three(n: u64) -> u64 {
    assert!(n != 3, "three");
    n
}

millpond::tasks![square, dies, panics, not_three, spans, listen];

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes down what it hears.
struct Ear;

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl tracing::Subscriber for Ear {
    fn enabled(&self, about: &tracing::Metadata<'_>) -> bool {
        about.target() == "millpond::process"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut words = Words(format!("span {}", span.metadata().name()));
        span.record(&mut words);
        SEEN.lock().unwrap().push(words.0);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        SEEN.lock().unwrap().push(words.0);
    }

    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Keeps what is counted.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Book {
    fn has(&self, name: &str) -> u64 {
        self.0.lock().unwrap().get(name).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl metrics::Recorder for Book {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(key.name().to_owned()).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn workers_and_tasks_tell_of_their_lives_and_are_counted() {
    let book = Book::default();
    metrics::set_global_recorder(book.clone()).map_err(|_| "there is one").unwrap();
    listen();
    let pool = ProcessPool::builder().workers(1).name("mill").retries(1).initializer(listen, ()).build().unwrap();
    assert_eq!(pool.apply(square, (7,)).unwrap(), 49);
    let spans = pool.apply(spans, ()).unwrap();
    assert!(spans.len() == 2 && spans[0].contains("square"), "one for each task, in the worker: {spans:?}");
    assert!(pool.apply(dies, ()).is_err());
    assert!(pool.apply(panics, ()).is_err());
    assert!(pool.map(not_three, 3..4).is_err());
    pool.close();
    pool.join().unwrap();

    let started = Instant::now();
    let count = |words: &[&str]| {
        let seen = SEEN.lock().unwrap();
        seen.iter().filter(|seen| words.iter().all(|word| seen.contains(word))).count()
    };
    while count(&["worker left"]) == 0 && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let seen = SEEN.lock().unwrap().join("\n");
    assert_eq!(count(&["worker started", "pool=\"mill\"", "worker=0"]), 3, "{seen}");
    assert_eq!(count(&["worker died", "SIGABRT"]), 2, "{seen}");
    assert_eq!(count(&["worker left"]), 1, "{seen}");
    assert_eq!(count(&["task runs again", "dies", "counted=true"]), 1, "{seen}");
    assert_eq!(count(&["task ended"]), 2, "{seen}");
    assert_eq!(count(&["task failed", "panics", "as it should"]), 1, "{seen}");
    assert_eq!(count(&["task failed", "dies"]), 1, "{seen}");
    assert_eq!(count(&["task failed", "not_three", "panicked"]), 1, "{seen}");
    for (name, expected) in [
        ("millpond_tasks_submitted_total", 5),
        ("millpond_tasks_finished_total", 5),
        ("millpond_tasks_panicked_total", 2),
        ("millpond_tasks_failed_total", 1),
        ("millpond_tasks_retried_total", 1),
        ("millpond_worker_deaths_total", 2),
        ("millpond_worker_restarts_total", 2),
    ] {
        assert_eq!(book.has(name), expected, "{name}");
    }
}
