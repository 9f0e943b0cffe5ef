//! The index: where each word is used. Built by a thread pool, each task with a map of its own, then merged.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use millpond::thread::{MapOptions, ThreadPool};
use serde::{Deserialize, Serialize};

use crate::error::TourError;
use crate::home::Home;
use crate::reading;
use crate::texts::Text;

/// Where a word is used: the number of the text, and the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Place {
    text: u32,
    line: u32,
}

/// Every word in lower case, with its places in order.
pub(crate) type Index = BTreeMap<String, Vec<Place>>;

/// One thread's part of it.
pub(crate) type Part = HashMap<String, Vec<Place>>;

/// Indexes the texts in a pool of so many threads.
pub(crate) fn build<H: Home>(texts: &[Text], threads: usize) -> Result<Index, TourError> {
    let next = AtomicUsize::new(0);
    let pool = ThreadPool::builder().workers(threads).name("index").build()?;
    let parts = pool.map_with(MapOptions::new().chunk_size(1), 0..threads, |_| index_some::<H>(texts, &next))?;
    Ok(merge(parts.into_iter().collect::<Result<_, _>>()?))
}

/// Indexes one text after the other, as long as there are any that no other thread took.
fn index_some<H: Home>(texts: &[Text], next: &AtomicUsize) -> Result<Part, TourError> {
    let mut part = Part::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(text) = texts.get(number) else { return Ok(part) };
        index_text::<H>(number, text, &mut part)?;
    }
}

/// Adds the words of one text.
pub(crate) fn index_text<H: Home>(number: usize, text: &Text, part: &mut Part) -> Result<(), TourError> {
    let mut place = Place { text: u32::try_from(number).unwrap_or(u32::MAX), line: 1 };
    let mut buffer = H::buffer()?;
    reading::pieces(&text.path, text.bytes, &mut buffer, |piece| {
        let piece = String::from_utf8_lossy(piece);
        for (number, line) in piece.split('\n').enumerate() {
            place.line += u32::from(number > 0);
            for word in reading::words(line) {
                part.entry(word.to_lowercase()).or_default().push(place);
            }
        }
    })
    .map_err(|error| TourError::Vanished { path: text.path.clone(), error })
}

pub(crate) fn merge(parts: Vec<Part>) -> Index {
    let mut index = Index::new();
    for (word, mut places) in parts.into_iter().flatten() {
        match index.entry(word) {
            Entry::Vacant(first) => {
                first.insert(places);
            }
            Entry::Occupied(mut so_far) => so_far.get_mut().append(&mut places),
        }
    }
    index.values_mut().for_each(|places| places.sort());
    index
}
