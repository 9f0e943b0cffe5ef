//! The allocators that are compared.

/// An allocator and the cargo feature that puts it into a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocator {
    /// The name in tables.
    pub name: &'static str,
    /// The feature of the worker's package.
    pub feature: &'static str,
}

/// The name of the allocator that is judged.
pub const MILLPOND: &str = "millpond";

/// Millpond, then its peers.
pub const ALLOCATORS: &[Allocator] = &[
    Allocator { name: MILLPOND, feature: "alloc-millpond" },
    Allocator { name: "system", feature: "alloc-system" },
    Allocator { name: "mimalloc3", feature: "alloc-mimalloc3" },
    Allocator { name: "mimalloc2", feature: "alloc-mimalloc2" },
    Allocator { name: "jemalloc", feature: "alloc-jemalloc" },
    Allocator { name: "snmalloc", feature: "alloc-snmalloc" },
    Allocator { name: "rpmalloc", feature: "alloc-rpmalloc" },
    Allocator { name: "rallocator", feature: "alloc-rallocator" },
];
