//! Processes that are killed at every numbered step, and at random instants, while they use what they share.

mod arrival;
#[expect(unsafe_code, reason = "children inherit a descriptor")]
mod child;
mod hostile;
mod left_behind;
mod part;
mod permits;
mod random;
mod refused;
mod roles;
mod skipped;
mod slow;
mod steps;

use super::stats;
use crate::shm::{self, ShmError, audit};

/// What is in use in the segment: the same before and after, or something has leaked. And what is free is as clean as it is
/// said to be.
pub(super) fn in_use() -> Result<[usize; 5], ShmError> {
    let stats = stats()?;
    assert_eq!(audit::unclean(shm::here()?.segment), 0, "free blocks are not as clean as the books say");
    Ok([stats.members, stats.objects, stats.owned, stats.queued, stats.tokens])
}
