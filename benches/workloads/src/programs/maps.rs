//! Building and dropping the maps of the standard library.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::hint::black_box;

use crate::random::Random;
use crate::{Sample, timed};

/// A hash map whose order is the same on every run.
type FixedMap<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// A `BTreeMap<u64, String>` and a `HashMap<String, Vec<u32>>`, as an index of some text would be.
pub(crate) fn build() -> Sample {
    const ENTRIES: u64 = 250_000;
    const WORDS: usize = 60_000;
    timed(2 * ENTRIES, || {
        let mut random = Random::new(7);
        let mut tree: BTreeMap<u64, String> = BTreeMap::new();
        let mut index: FixedMap<String, Vec<u32>> = FixedMap::default();
        for place in 0..ENTRIES {
            let key = random.bits();
            tree.insert(key, format!("entry {key} at place {place}"));
            // Few words are frequent and many are rare, as in any text.
            let word = random.log_between(1, WORDS);
            index.entry(format!("word-{word}")).or_default().push(place as u32);
        }
        black_box((tree, index));
    })
}
