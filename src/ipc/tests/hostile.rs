//! A process that writes random bytes over the whole segment: the others get errors, and nothing worse.
