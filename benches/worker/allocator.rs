//! The allocator of this worker: one cargo feature each, called as any Rust program calls it.

#[cfg(feature = "alloc-millpond")]
#[global_allocator]
static GLOBAL: millpond::Heap = millpond::Heap;

#[cfg(any(feature = "alloc-mimalloc3", feature = "alloc-mimalloc2"))]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "alloc-jemalloc")]
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(feature = "alloc-snmalloc")]
#[global_allocator]
static GLOBAL: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

#[cfg(feature = "alloc-rpmalloc")]
#[global_allocator]
static GLOBAL: rpmalloc::RpMalloc = rpmalloc::RpMalloc;

#[cfg(feature = "alloc-rallocator")]
rallocator::rallocator!();

// `alloc-system` names none: Rust's own choice.
