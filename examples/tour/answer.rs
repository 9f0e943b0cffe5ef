//! What a person wants to know of the index, as text: the same for every allocator, or something is wrong.

use std::cmp::Reverse;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::home::Home;
use crate::index::Index;
use crate::table::grouped;
use crate::trie::Node;

/// How many words and beginnings are named.
const NAMED: usize = 6;
/// Bytes of a beginning.
const BEGINNING: usize = 3;

/// The questions' answers. The checksum covers every word and every place.
pub(crate) fn answer<H: Home>(index: &Index, tree: &Node<H>) -> String {
    let mut hasher = DefaultHasher::new();
    index.hash(&mut hasher);
    let (words, uses) = tree.totals();
    let mut text = format!(
        "  {} words, used {} times; the index's checksum is {:016x}\n  most used:        ",
        grouped(words as usize),
        grouped(uses),
        hasher.finish()
    );

    let mut by_use: Vec<_> = index.iter().map(|(word, places)| (word, places.len())).collect();
    by_use.sort_by_key(|(word, uses)| (Reverse(*uses), *word));
    for (word, uses) in by_use.iter().take(NAMED) {
        let _ = write!(text, "  {word} {}", grouped(*uses));
    }

    text += "\n  begin most words: ";
    let mut beginnings = tree.beginnings(BEGINNING);
    beginnings.sort_by(|one, other| (other.words, &one.letters).cmp(&(one.words, &other.letters)));
    for beginning in beginnings.iter().take(NAMED) {
        let _ = write!(text, "  {}… {}", beginning.letters, grouped(beginning.words as usize));
    }
    text.push('\n');
    text
}
