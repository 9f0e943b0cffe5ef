//! Ranges of bits in a slice of words: finding, setting, clearing, counting.
//!
//! All positions are bit numbers from the slice's start. Complexity: one step for each word touched.

const BITS: usize = u64::BITS as usize;

/// The bits of word `word` that lie in `[start, end)`.
#[inline]
const fn mask(word: usize, start: usize, end: usize) -> u64 {
    let low = word * BITS;
    let from = start.saturating_sub(low);
    let to = if end < low + BITS { end - low } else { BITS };
    if from >= to { 0 } else { (u64::MAX << from) & (u64::MAX >> (BITS - to)) }
}

fn words(start: usize, end: usize) -> core::ops::Range<usize> {
    start / BITS..end.div_ceil(BITS)
}

/// Sets `[start, end)`.
pub(crate) fn set(map: &mut [u64], start: usize, end: usize) {
    for word in words(start, end) {
        map[word] |= mask(word, start, end);
    }
}

/// Clears `[start, end)`.
pub(crate) fn clear(map: &mut [u64], start: usize, end: usize) {
    for word in words(start, end) {
        map[word] &= !mask(word, start, end);
    }
}

/// How many of `[start, end)` are set.
pub(crate) fn count(map: &[u64], start: usize, end: usize) -> usize {
    words(start, end).map(|word| (map[word] & mask(word, start, end)).count_ones() as usize).sum()
}

/// The first set bit in `[start, end)`.
pub(crate) fn first_set(map: &[u64], start: usize, end: usize) -> Option<usize> {
    words(start, end).find_map(|word| {
        let hits = map[word] & mask(word, start, end);
        (hits != 0).then(|| word * BITS + hits.trailing_zeros() as usize)
    })
}

/// The first clear bit in `[start, end)`.
pub(crate) fn first_clear(map: &[u64], start: usize, end: usize) -> Option<usize> {
    words(start, end).find_map(|word| {
        let hits = !map[word] & mask(word, start, end);
        (hits != 0).then(|| word * BITS + hits.trailing_zeros() as usize)
    })
}

/// The last set bit in `[start, end)`.
pub(crate) fn last_set(map: &[u64], start: usize, end: usize) -> Option<usize> {
    words(start, end).rev().find_map(|word| {
        let hits = map[word] & mask(word, start, end);
        (hits != 0).then(|| word * BITS + BITS - 1 - hits.leading_zeros() as usize)
    })
}

/// The first place in `[from, end)`, a multiple of `align`, where `len` bits in a row are clear. One step for each word
/// and for each stretch of set bits.
pub(crate) fn find_clear(map: &[u64], from: usize, end: usize, len: usize, align: usize) -> Option<usize> {
    // Where the clear stretch that we are in starts.
    let mut start = from;
    for word in words(from, end) {
        let low = word * BITS;
        // Outside the range counts as set.
        let mut taken = map[word] | !mask(word, from, end);
        while taken != 0 {
            let first = taken.trailing_zeros() as usize;
            let place = start.next_multiple_of(align);
            if place + len <= low + first {
                return Some(place);
            }
            let after = first + (taken >> first).trailing_ones() as usize;
            start = start.max(low + after);
            taken = if after < BITS { taken & (u64::MAX << after) } else { 0 };
        }
        let place = start.next_multiple_of(align);
        if place + len <= low + BITS && place + len <= end {
            return Some(place);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_lies_outside_the_range_counts_as_set() {
        // Bits 10 to 19 are set, behind the range's end and before its start.
        let map = [0xF_FC00, 0];
        assert_eq!(find_clear(&map, 0, 10, 10, 1), Some(0));
        assert_eq!(find_clear(&map, 0, 10, 11, 1), None);
        assert_eq!(find_clear(&map, 12, 40, 20, 1), Some(20));
        assert_eq!(find_clear(&map, 12, 40, 21, 1), None);
        assert_eq!(find_clear(&map, 20, 128, 108, 4), Some(20));
        assert_eq!(find_clear(&map, 20, 128, 109, 1), None);
    }

    proptest! {
        #[test]
        fn agrees_with_one_bit_at_a_time(
            map in prop::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)], 5),
            a in 0_usize..=320, b in 0_usize..=320, len in prop_oneof![1_usize..150, 1_usize..6], shift in 0_u32..8,
        ) {
            let (start, end) = (a.min(b), a.max(b));
            let bits: Vec<bool> = (0..320).map(|i| map[i / 64] >> (i % 64) & 1 == 1).collect();
            let range = || start..end;
            prop_assert_eq!(count(&map, start, end), range().filter(|i| bits[*i]).count());
            prop_assert_eq!(first_set(&map, start, end), range().find(|i| bits[*i]));
            prop_assert_eq!(last_set(&map, start, end), range().rev().find(|i| bits[*i]));
            prop_assert_eq!(first_clear(&map, start, end), range().find(|i| !bits[*i]));
            let align = 1_usize << shift;
            let naive = range().find(|i| i % align == 0 && i + len <= end && bits[*i..i + len].iter().all(|bit| !bit));
            prop_assert_eq!(find_clear(&map, start, end, len, align), naive);
            let mut changed = map.clone();
            set(&mut changed, start, end);
            prop_assert!((0..320).all(|i| (changed[i / 64] >> (i % 64) & 1 == 1) == (bits[i] || range().contains(&i))));
            clear(&mut changed, start, end);
            prop_assert!((0..320).all(|i| (changed[i / 64] >> (i % 64) & 1 == 1) == (bits[i] && !range().contains(&i))));
        }
    }
}
