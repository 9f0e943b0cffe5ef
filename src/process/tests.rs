//! Faults that need a word from inside: children that are no children of ours.

