//! Loom's explorer, as the models beside the protocols call it.

use loom::model::Builder;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Steps of one order, at most: a model with more spins for ever.
const MOST_STEPS: usize = 10_000;

/// Explores `check` at so many preemptions (`LOOM_MAX_PREEMPTIONS` says otherwise); there must be more than `least` orders
/// to explore, or the model shows nothing.
pub(crate) fn explore(preemptions: usize, least: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = builder.max_branches.max(MOST_STEPS);
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        check();
    });
    let orders = orders.load(Ordering::Relaxed);
    println!("{orders} orders");
    assert!(orders > least, "only {orders} orders were explored");
}
