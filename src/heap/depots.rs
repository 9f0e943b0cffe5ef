//! The depots of the process's heap, one for each class.

use super::class::{self, CLASSES};
use crate::block::{RESERVE, Runs};
use crate::cache::{CAPACITY, Depot};

/// Bytes that a magazine may grow to.
pub(super) const LARGEST_MAGAZINE: usize = 16 * 1024;

const fn depot(class: usize) -> Depot<Runs> {
    let blocks = LARGEST_MAGAZINE / class::block_size(class);
    let magazine = if blocks > CAPACITY {
        CAPACITY
    } else if blocks < 1 {
        1
    } else {
        blocks
    };
    Depot::new(Runs::new(class::block_layout(class), &RESERVE, class + 1), magazine)
}

/// By class.
pub(super) static DEPOTS: [Depot<Runs>; CLASSES] = {
    let mut depots = [const { depot(0) }; CLASSES];
    let mut class = 1;
    while class < CLASSES {
        depots[class] = depot(class);
        class += 1;
    }
    depots
};

/// Called each tick: gives back what lay idle in them, or all, if the heap shrank.
pub(super) fn trim(shrank: bool) {
    DEPOTS.iter().for_each(|depot| depot.trim(shrank));
}
