//! A tree of all words by their letters: it answers how many words begin alike. Its nodes are what a pool is for: many
//! values of one size, each of them linked to others.

use std::panic::resume_unwind;
use std::sync::Mutex;
use std::thread;

use crate::home::Home;
use crate::index::Index;

/// What the words below a node have in common: their beginning.
#[derive(Debug)]
pub(crate) struct Node<H: Home> {
    /// The last byte of the beginning.
    byte: u8,
    /// How many words begin so.
    words: u32,
    /// How often they are used, all together.
    uses: usize,
    /// The first node one byte further, its siblings linked to it.
    child: Option<H::Link>,
    /// The next node with the same beginning but for the last byte.
    sibling: Option<H::Link>,
}

/// A beginning that words share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub(crate) letters: String,
    pub(crate) words: u32,
}

impl<H: Home> Node<H> {
    fn new(byte: u8) -> Self {
        Self { byte, words: 0, uses: 0, child: None, sibling: None }
    }

    /// The tree of the index's words. Each thread makes branches of the root; they meet in this one.
    pub(crate) fn build(index: &Index, threads: usize) -> Self {
        let words: Vec<(&[u8], usize)> = index.iter().map(|(word, places)| (word.as_bytes(), places.len())).collect();
        let branches = Mutex::new(words.chunk_by(|one, other| one.0.first() == other.0.first()));
        let next = || branches.lock().ok()?.next();
        let grow = || std::iter::from_fn(next).map(Self::branch).collect::<Vec<_>>();
        let mut root = Self::new(0);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(grow)).collect();
            for worker in workers {
                let branches = worker.join().unwrap_or_else(|panic| resume_unwind(panic));
                branches.into_iter().for_each(|branch| root.adopt(branch));
            }
        });
        root
    }

    /// The tree of some words, in order, that begin with the same byte.
    fn branch(words: &[(&[u8], usize)]) -> H::Link {
        let byte = words.first().and_then(|(word, _)| word.first()).copied().unwrap_or_default();
        let mut branch = H::link(Self::new(byte));
        for (word, uses) in words {
            branch.insert(&word[1..], *uses);
        }
        branch
    }

    /// Makes a whole branch the first child.
    fn adopt(&mut self, mut branch: H::Link) {
        self.words += branch.words;
        self.uses += branch.uses;
        branch.sibling = self.child.take();
        self.child = Some(branch);
    }

    fn insert(&mut self, rest: &[u8], uses: usize) {
        self.words += 1;
        self.uses += uses;
        let Some((&byte, rest)) = rest.split_first() else { return };
        // Words come in order: a node that is there already was the last to be made.
        if self.child.as_ref().is_none_or(|child| child.byte != byte) {
            self.adopt(H::link(Self::new(byte)));
        }
        if let Some(child) = &mut self.child {
            child.insert(rest, uses);
        }
    }

    /// How many words there are, and how often they are used.
    pub(crate) fn totals(&self) -> (u32, usize) {
        (self.words, self.uses)
    }

    /// All beginnings of so many bytes that are whole letters, in no order.
    pub(crate) fn beginnings(&self, bytes: usize) -> Vec<Beginning> {
        let mut found = Vec::new();
        self.walk(bytes, &mut Vec::new(), &mut found);
        found
    }

    fn walk(&self, more: usize, so_far: &mut Vec<u8>, found: &mut Vec<Beginning>) {
        if more == 0 {
            if let Ok(letters) = std::str::from_utf8(so_far) {
                found.push(Beginning { letters: letters.to_owned(), words: self.words });
            }
            return;
        }
        let mut at = self.child.as_ref();
        while let Some(child) = at {
            so_far.push(child.byte);
            child.walk(more - 1, so_far, found);
            so_far.pop();
            at = child.sibling.as_ref();
        }
    }
}

impl<H: Home> Drop for Node<H> {
    /// Siblings one by one: dropped by themselves, each would drop the next from within.
    fn drop(&mut self) {
        let mut at = self.sibling.take();
        while let Some(mut sibling) = at {
            at = sibling.sibling.take();
        }
    }
}
