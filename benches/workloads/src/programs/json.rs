//! Parsing a large JSON document into a tree of values.

use std::fmt::Write;

use crate::random::Random;
use crate::{Sample, timed};

/// Parses 24 MiB of JSON with `serde_json` and drops the tree.
pub(crate) fn parse() -> Sample {
    let text = document(24 << 20);
    timed(text.len() as u64, || {
        let value: serde_json::Value = serde_json::from_str(&text).expect("the document is JSON");
        drop(value);
    })
}

/// A list of orders of a shop, about `size` bytes long.
fn document(size: usize) -> String {
    const WORDS: [&str; 8] = ["amber", "basalt", "cedar", "dune", "ember", "fjord", "granite", "heath"];
    let mut random = Random::new(6);
    let mut text = String::with_capacity(size + 4096);
    text.push('[');
    let mut id = 0;
    while text.len() < size {
        if id > 0 {
            text.push(',');
        }
        let mut word = || WORDS[random.below(WORDS.len())];
        let (first, last, city) = (word(), word(), word());
        write!(
            text,
            r#"{{"id":{id},"customer":{{"name":"{first} {last}","city":"{city}","vip":{},"mail":null}},"lines":["#,
            id % 7 == 0
        )
        .expect("a string takes everything");
        for line in 0..random.between(1, 8) {
            let comma = if line > 0 { "," } else { "" };
            let (item, note) = (WORDS[random.below(WORDS.len())], "n".repeat(random.between(0, 60)));
            let (count, price) = (random.below(20), random.below(100_000) as f64 / 100.0);
            write!(text, r#"{comma}{{"item":"{item}","count":{count},"price":{price:.2},"note":"{note}"}}"#)
                .expect("a string takes everything");
        }
        write!(text, r#"],"tags":["{first}","{last}"],"at":[{},{}]}}"#, random.below(180), random.below(90))
            .expect("a string takes everything");
        id += 1;
    }
    text.push(']');
    text
}
