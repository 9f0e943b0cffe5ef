//! Collections of other crates live in a pool or on the heap, through allocator-api2.
#![cfg(feature = "allocator-api2")]

use std::collections::BTreeMap;
use std::hash::RandomState;

use allocator_api2::alloc::{Allocator, Global, Layout};
use allocator_api2::boxed::Box as BoxIn;
use allocator_api2::vec::Vec as VecIn;
use hashbrown::HashMap;
use millpond::{BlockPool, Heap};

#[test]
fn a_vec_lives_in_a_block_and_no_further() {
    let pool = &BlockPool::new(256, 16);
    let mut bytes: VecIn<u8, &BlockPool> = VecIn::with_capacity_in(200, pool);
    assert_eq!(pool.stats().live, 1);
    assert!(bytes.capacity() >= 200);
    bytes.extend(0..200);
    let address = bytes.as_ptr();
    bytes.try_reserve_exact(56).unwrap();
    assert_eq!(bytes.as_ptr(), address, "it grows within its block in place");
    bytes.extend(200..=255);
    assert_eq!(bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>(), 255 * 256 / 2);
    assert!(bytes.try_reserve(1).is_err(), "past the block is an error");
    assert_eq!((bytes.len(), pool.stats().live), (256, 1), "and nothing is lost");
    bytes.truncate(3);
    bytes.shrink_to_fit();
    assert_eq!((bytes.as_ptr(), bytes.as_slice()), (address, &[0, 1, 2][..]), "it shrinks in place");
    bytes.clear();
    bytes.shrink_to_fit();
    assert_eq!(pool.stats().live, 0, "an empty one takes no block");
    bytes.push(1);
    assert_eq!(pool.stats().live, 1);
    drop(bytes);
    assert_eq!(pool.stats().live, 0);
    assert!(VecIn::<u64, _>::new_in(pool).try_reserve(33).is_err());
}

#[test]
fn a_full_pool_is_an_error_to_a_vec() {
    let pool = &BlockPool::builder().block_size(64).limit(2).build().unwrap();
    let (a, b) = (VecIn::<u8, _>::with_capacity_in(10, pool), VecIn::<u8, _>::with_capacity_in(10, pool));
    assert!(VecIn::<u8, _>::new_in(pool).try_reserve(1).is_err());
    drop((a, b));
    assert!(VecIn::<u8, _>::new_in(pool).try_reserve(1).is_ok());
}

#[test]
fn a_vec_of_what_is_too_aligned_is_an_error() {
    #[repr(align(64))]
    struct Line;
    #[repr(align(64))]
    struct Wide(#[expect(dead_code, reason = "gives it a size")] u8);
    let pool = &BlockPool::new(256, 16);
    assert!(VecIn::<Wide, _>::new_in(pool).try_reserve(1).is_err());
    assert!(VecIn::<Wide, _>::new_in(&BlockPool::new(256, 64)).try_reserve(4).is_ok());
    let mut nothings: VecIn<Line, _> = VecIn::new_in(pool);
    nothings.extend((0..1_000).map(|_| Line));
    assert_eq!((nothings.len(), pool.stats().blocks), (1_000, 0), "values without a size take no block");
}

#[test]
fn boxes_and_trees_of_them_live_in_a_pool() {
    struct Node<'p> {
        value: u32,
        children: [Option<BoxIn<Node<'p>, &'p BlockPool>>; 2],
    }
    fn grow<'p>(pool: &'p BlockPool, depth: u32) -> BoxIn<Node<'p>, &'p BlockPool> {
        let children = [(); 2].map(|()| (depth > 0).then(|| grow(pool, depth - 1)));
        BoxIn::new_in(Node { value: 1, children }, pool)
    }
    fn sum(node: &Node<'_>) -> u32 {
        node.value + node.children.iter().flatten().map(|child| sum(child)).sum::<u32>()
    }
    let pool = BlockPool::new(size_of::<Node<'_>>(), align_of::<Node<'_>>());
    let tree = grow(&pool, 10);
    assert_eq!((sum(&tree), pool.stats().live), (2_047, 2_047));
    drop(tree);
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn a_hash_map_lives_in_a_pool() {
    let pool = &BlockPool::new(64 * 1024, 64);
    let mut map: HashMap<u64, [u64; 2], RandomState, &BlockPool> = HashMap::with_hasher_in(RandomState::new(), pool);
    assert_eq!(pool.stats().live, 0);
    for n in 0..1_500 {
        map.insert(n, [n, n * n]);
    }
    assert_eq!(pool.stats().live, 1, "a table is one block");
    for n in (0..1_500).step_by(3) {
        assert_eq!(map.remove(&n), Some([n, n * n]));
    }
    assert!((0..1_500).all(|n| map.get(&n).copied() == (n % 3 != 0).then_some([n, n * n])));
    assert!(map.try_reserve(1_000_000).is_err(), "past the block is an error");
    assert_eq!(map.len(), 1_000, "and nothing is lost");
    drop(map);
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn a_hash_map_lives_on_the_heap() {
    let mut map: HashMap<String, VecIn<u32, Heap>, RandomState, Heap> = HashMap::default();
    let mut expected = BTreeMap::new();
    for n in 0..20_000_u32 {
        let key = (n % 1_000).to_string();
        map.entry(key.clone()).or_insert_with(|| VecIn::new_in(Heap)).push(n);
        expected.entry(key).or_insert_with(Vec::new).push(n);
    }
    assert_eq!(map.len(), expected.len());
    assert!(map.iter().all(|(key, numbers)| numbers.as_slice() == expected[key]));
    let mut borrowed: VecIn<u8, &Heap> = VecIn::new_in(&Heap);
    borrowed.extend(0..100);
    assert_eq!(borrowed.len(), 100);
}

#[test]
fn a_bump_arena_and_the_pools_take_the_same_collections() {
    let bump = bumpalo::Bump::new();
    let pool = BlockPool::new(16 * 1024, 64);
    fn fill<A: Allocator + Clone>(memory: A) -> u64 {
        let mut map = HashMap::with_hasher_in(RandomState::new(), memory.clone());
        let mut order = VecIn::new_in(memory);
        for n in 0..200_u64 {
            map.insert(n, n * 2);
            order.push(n);
        }
        order.iter().map(|n| map[n]).sum()
    }
    let sums = [fill(&bump), fill(&pool), fill(Heap), fill(Global)];
    assert_eq!(sums, [39_800; 4]);
}

/// Grows and shrinks by hand, across classes, with zeros where they are promised.
#[test]
#[expect(unsafe_code, reason = "the raw interface")]
fn the_traits_own_methods_keep_their_contracts() {
    fn check<A: Allocator>(memory: &A, sizes: &[usize], align: usize) {
        let layout = |size| Layout::from_size_align(size, align).unwrap();
        for pair in sizes.windows(2) {
            let (small, large) = (layout(pair[0]), layout(pair[1]));
            let dirt = memory.allocate(large).unwrap();
            assert!(dirt.len() >= large.size() && dirt.cast::<u8>().addr().get() % align == 0);
            // SAFETY: so many bytes were just allocated.
            unsafe { dirt.cast::<u8>().write_bytes(0xEE, large.size()) };
            // SAFETY: allocated above with this layout.
            unsafe { memory.deallocate(dirt.cast(), large) };
            let zeros = memory.allocate_zeroed(small).unwrap();
            // SAFETY: zeroed memory of that length.
            let bytes = unsafe { std::slice::from_raw_parts_mut(zeros.cast::<u8>().as_ptr(), small.size()) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(3);
            // SAFETY: allocated above with the smaller layout.
            let grown = unsafe { memory.grow_zeroed(zeros.cast(), small, large) }.unwrap();
            assert!(grown.len() >= large.size());
            // SAFETY: as long as the larger layout, all of it initialised.
            let bytes = unsafe { std::slice::from_raw_parts(grown.cast::<u8>().as_ptr(), large.size()) };
            assert!(bytes[..small.size()].iter().all(|byte| *byte == 3), "{small:?} to {large:?}");
            assert!(bytes[small.size()..].iter().all(|byte| *byte == 0), "{small:?} to {large:?}");
            // SAFETY: allocated with the larger layout.
            let shrunk = unsafe { memory.shrink(grown.cast(), large, small) }.unwrap();
            // SAFETY: as long as the smaller layout.
            let bytes = unsafe { std::slice::from_raw_parts(shrunk.cast::<u8>().as_ptr(), small.size()) };
            assert!(bytes.iter().all(|byte| *byte == 3));
            // SAFETY: allocated with the smaller layout, then.
            let grown = unsafe { memory.grow(shrunk.cast(), small, large) }.unwrap();
            // SAFETY: allocated with the larger layout.
            unsafe { memory.deallocate(grown.cast(), large) };
        }
    }
    check(&Heap, &[0, 1, 16, 100, 5_000, 40_000, 300_000, 20 << 20, 24 << 20], 8);
    check(&Heap, &[0, 1, 200, 5_000, 40_000, 300_000], 4096);
    let pool = BlockPool::new(4096, 64);
    check(&&pool, &[0, 1, 16, 100, 4096], 64);
    assert!(pool.allocate(Layout::new::<[u8; 4097]>()).is_err());
    assert_eq!(pool.stats().live, 0);
    // A change of alignment moves.
    let (from, to) = (Layout::from_size_align(64, 8).unwrap(), Layout::from_size_align(100, 4096).unwrap());
    let at = Heap.allocate(from).unwrap();
    // SAFETY: allocated with `from`.
    let grown = unsafe { Heap.grow(at.cast(), from, to) }.unwrap();
    assert_eq!(grown.cast::<u8>().addr().get() % 4096, 0);
    // SAFETY: allocated with `to` by then.
    unsafe { Heap.deallocate(grown.cast(), to) };
}
