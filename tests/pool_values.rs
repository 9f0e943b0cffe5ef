//! What a pool of values promises: any `T`, whatever its size, alignment and drop; boxes that move between threads and
//! tasks; shared values; slices.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use millpond::{Block, BlockPool, MemoryError, OwnedBlock, OwnedPoolBox, Pool, PoolArc, PoolBox, Recycled, Recycler};

/// Counts its drops.
#[derive(Debug, Clone)]
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes over its number when it is dropped, and its first part counts that.
struct Wiped<'a>(#[expect(dead_code, reason = "it is dropped")] Counted<'a>, usize);

impl Drop for Wiped<'_> {
    fn drop(&mut self) {
        *std::hint::black_box(&mut self.1) = usize::MAX;
    }
}

/// Panics when it is dropped.
#[derive(Debug)]
struct Grudge;

impl Drop for Grudge {
    fn drop(&mut self) {
        panic!("a drop that panics");
    }
}

fn panics(action: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(action)).expect_err("it should have panicked");
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[test]
fn a_box_is_like_box() {
    let pool: Pool<String> = Pool::new();
    let mut one = pool.alloc("mill".to_owned());
    one.push_str("pond");
    assert_eq!(*one, "millpond");
    assert_eq!(format!("{one} {one:?}"), r#"millpond "millpond""#);
    let two = pool.alloc("a".to_owned());
    assert!(two < one && two != one);
    #[expect(clippy::mutable_key_type, reason = "a box hashes as its value, not as its pool")]
    let map: HashMap<PoolBox<'_, String>, u32> = [(two, 1)].into();
    let key = "a".to_owned();
    assert_eq!(map.get(&key), Some(&1), "found by its value");
    assert_eq!(one.as_ref() as &String, "millpond");
    assert_eq!(one.into_inner(), "millpond");
    drop(map);
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn a_value_is_dropped_once_and_its_block_comes_back() {
    let drops = AtomicUsize::new(0);
    let pool = Pool::new();
    for round in 1..=500 {
        let boxed = pool.alloc(Counted(&drops));
        assert_eq!((pool.stats().live, drops.load(Ordering::Relaxed)), (1, round - 1));
        drop(boxed);
        assert_eq!((pool.stats().live, drops.load(Ordering::Relaxed)), (0, round));
    }
    drop(pool.alloc(Counted(&drops)).into_inner());
    assert_eq!(drops.load(Ordering::Relaxed), 501, "into_inner moves, it drops nothing itself");
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn a_panicking_drop_still_gives_the_block_back() {
    let pool = Arc::new(Pool::builder().limit(2).build().unwrap());
    let blocks = BlockPool::builder().block_size(64).limit(1).build().unwrap();
    for _ in 0..5 {
        assert_eq!(panics(|| drop(pool.alloc(Grudge))), "a drop that panics");
        assert_eq!(panics(|| drop(pool.alloc_owned(Grudge))), "a drop that panics");
        assert_eq!(panics(|| drop(pool.alloc_arc(Grudge))), "a drop that panics");
        assert_eq!(panics(|| drop(blocks.alloc_slice(1, |_| Grudge).unwrap())), "a drop that panics");
        assert_eq!((pool.stats().live, pool.arc_stats().live, blocks.stats().live), (0, 0, 0));
        assert_eq!(Arc::strong_count(&pool), 1, "an owned box lets go of its pool");
    }
}

#[test]
fn zero_sized_values_work() {
    struct Nothing;
    thread_local!(static DROPS: Cell<usize> = const { Cell::new(0) });
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPS.set(DROPS.get() + 1);
        }
    }
    let pool: Pool<Nothing> = Pool::new();
    let boxes: Vec<_> = (0..100).map(|_| pool.alloc(Nothing)).collect();
    assert_eq!(pool.stats().live, 100);
    drop(boxes);
    assert_eq!((DROPS.get(), pool.stats().live), (100, 0));
    let units: Pool<()> = Pool::builder().limit(3).build().unwrap();
    let held: Vec<_> = (0..3).map(|_| units.alloc(())).collect();
    assert!(units.try_alloc(()).is_err(), "a value without a size takes a block too");
    drop(held);
    #[repr(align(4096))]
    struct Aligned;
    let aligned: Pool<Aligned> = Pool::new();
    let boxed = aligned.alloc(Aligned);
    assert_eq!((&raw const *boxed).addr() % 4096, 0);
    let shared = aligned.alloc_arc(Aligned);
    assert_eq!((&raw const *shared).addr() % 4096, 0);
}

#[test]
fn over_aligned_values_lie_where_they_must() {
    fn check<T: Send + Copy + PartialEq + std::fmt::Debug>(value: T) {
        let pool: Arc<Pool<T>> = Arc::new(Pool::new());
        let boxes: Vec<_> = (0..3).map(|_| pool.alloc(value)).collect();
        for boxed in &boxes {
            assert_eq!((&raw const **boxed).addr() % align_of::<T>(), 0);
        }
        let shared = pool.alloc_arc(value);
        assert_eq!((&raw const *shared).addr() % align_of::<T>(), 0);
        let owned = pool.alloc_owned(value);
        assert_eq!((&raw const *owned).addr() % align_of::<T>(), 0);
    }
    macro_rules! aligned {
        ($($name:ident $align:literal)*) => {$({
            #[repr(align($align))]
            #[derive(Debug, Clone, Copy, PartialEq)]
            struct $name(u8);
            check($name(7));
        })*};
    }
    // Debug builds copy such values often: it takes a large stack.
    let work = || {
        aligned!(A 32 B 64 C 128 D 4096 E 8192 F 65536);
    };
    std::thread::Builder::new().stack_size(64 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn values_aligned_to_mebibytes_lie_where_they_must() {
    #[repr(align(2097152))]
    struct Huge([u8; 16]);
    #[repr(align(8388608))]
    struct Giant(u8);
    // As blocks, and as values on a thread whose stack they fit.
    for align in [align_of::<Huge>(), align_of::<Giant>()] {
        let pool = BlockPool::new(size_of::<Huge>().min(align), align);
        let blocks: Vec<_> = (0..5).map(|_| pool.take().unwrap()).collect();
        assert!(blocks.iter().all(|block| block.as_ptr().addr() % align == 0));
    }
    let stack = std::thread::Builder::new().stack_size(128 << 20);
    let work = || {
        static HUGE: Pool<Huge> = Pool::new();
        let boxes: Vec<_> = (0..3).map(|n| HUGE.alloc(Huge([n; 16]))).collect();
        for (n, boxed) in (0..).zip(&boxes) {
            assert_eq!((&raw const **boxed).addr() % align_of::<Huge>(), 0);
            assert_eq!(boxed.0, [n; 16]);
        }
        static GIANT: Pool<Giant> = Pool::new();
        let giant = GIANT.alloc(Giant(9));
        assert_eq!(((&raw const *giant).addr() % align_of::<Giant>(), giant.0), (0, 9));
    };
    stack.spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_full_pool_gives_the_value_back_with_the_reason() {
    let pool: Arc<Pool<String>> = Arc::new(Pool::builder().limit(2).name("names").build().unwrap());
    let held = (pool.alloc("a".into()), pool.alloc("b".into()));
    let failed = pool.try_alloc("c".into()).unwrap_err();
    assert_eq!(failed.value, "c");
    assert_eq!(failed.error, MemoryError::LimitReached { limit: 2, block_size: 32 });
    let text = failed.to_string();
    assert!(text.contains("String") && text.contains("all 2 blocks of 32 bytes"), "{text}");
    assert!(format!("{failed:?}").contains("LimitReached"), "{failed:?}");
    assert!(std::error::Error::source(&failed).is_some());
    assert_eq!(pool.try_alloc_owned("d".into()).unwrap_err().value, "d");
    assert_eq!(Arc::strong_count(&pool), 1);
    let message = panics(|| drop(pool.alloc("e".into())));
    assert!(message.contains("String") && message.contains("all 2 blocks"), "{message}");
    let message = panics(|| drop(pool.alloc_owned("e".into())));
    assert!(message.contains("all 2 blocks"), "{message}");
    drop(held);
    assert_eq!(*pool.alloc("f".into()), "f");
    let shared = (pool.alloc_arc("a".into()), pool.alloc_arc("b".into()));
    assert_eq!(pool.try_alloc_arc("c".into()).unwrap_err().value, "c");
    assert!(panics(|| drop(pool.alloc_arc("e".into()))).contains("String"));
    drop(shared);
    assert_eq!((pool.stats().live, pool.arc_stats().live), (0, 0));
    assert_eq!(pool.stats().name.as_deref(), Some("names"));
}

#[test]
fn a_typed_pools_settings_are_refused_like_a_block_pools() {
    assert_eq!(
        Pool::<u64>::builder().reserve(5).limit(4).build().unwrap_err(),
        MemoryError::ReserveAboveLimit { reserve: 5, limit: 4 }
    );
    assert_eq!(
        Pool::<u64>::builder().magazine_size(0).build().unwrap_err(),
        MemoryError::BadMagazine { blocks: 0, max: 127 }
    );
    assert!(matches!(Pool::<[u8; 20 << 20]>::builder().build().unwrap_err(), MemoryError::TooLarge { .. }));
    // With the word of a `PoolArc`.
    const MOST: usize = (16 << 20) - size_of::<usize>();
    assert_eq!(Pool::<[u8; MOST]>::new().arc_stats().block_size, 16 << 20);
    assert!(Pool::<[u8; MOST]>::builder().build().is_ok());
    let error = Pool::<[u8; MOST + 1]>::builder().build().unwrap_err();
    assert!(matches!(error, MemoryError::TooLarge { max, .. } if max == 16 << 20), "{error}");
    assert!(panics(|| drop(Pool::<[u8; MOST + 1]>::new())).contains("at most 16 MiB"));
    let pool = Pool::<u64>::builder().reserve(100).exact_limit(true).magazine_size(5).build().unwrap();
    assert!(pool.stats().blocks >= 100);
    pool.reserve(9_000).unwrap();
    assert!(pool.stats().blocks >= 9_000);
    assert!(format!("{pool:?}").contains("u64"), "{pool:?}");
}

#[test]
fn a_shared_value_lives_until_its_last_owner() {
    let drops = AtomicUsize::new(0);
    let pool = Pool::new();
    let mut one = pool.alloc_arc(Counted(&drops));
    assert!(PoolArc::get_mut(&mut one).is_some());
    let two = one.clone();
    assert!(PoolArc::ptr_eq(&one, &two) && PoolArc::strong_count(&one) == 2);
    assert!(PoolArc::get_mut(&mut one).is_none());
    let one = PoolArc::try_unwrap(one).unwrap_err();
    drop(one);
    assert_eq!((drops.load(Ordering::Relaxed), pool.arc_stats().live, PoolArc::strong_count(&two)), (0, 1, 1));
    let value = PoolArc::try_unwrap(two).unwrap();
    assert_eq!((drops.load(Ordering::Relaxed), pool.arc_stats().live), (0, 0), "unwrapping drops nothing");
    drop(value);
    drop(pool.alloc_arc(Counted(&drops)));
    assert_eq!((drops.load(Ordering::Relaxed), pool.arc_stats().live), (2, 0));
    assert_eq!(pool.stats().blocks, 0, "shared values have blocks of their own");
}

#[test]
fn threads_that_race_to_drop_a_shared_value_drop_it_once() {
    let drops = AtomicUsize::new(0);
    let pool = Pool::new();
    for round in 1..=300 {
        // Whoever drops it writes to it, after the last look of all others: what ThreadSanitizer watches.
        let shared = pool.alloc_arc(Wiped(Counted(&drops), round));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let shared = shared.clone();
                scope.spawn(move || assert_eq!(shared.1, round));
            }
            drop(shared);
        });
        assert_eq!(drops.load(Ordering::Relaxed), round);
    }
    assert_eq!(pool.arc_stats().live, 0);
}

#[test]
fn a_slice_fills_a_block_with_as_many_as_fit() {
    let pool = BlockPool::new(256, 16);
    let words = pool.alloc_slice(16, |n| n.to_string()).err();
    assert_eq!(words, Some(MemoryError::TooLarge { size: 16 * 24, align: 8, max: 256 }));
    let words = pool.alloc_slice(10, |n| n.to_string()).unwrap();
    assert_eq!(words.join(","), "0,1,2,3,4,5,6,7,8,9");
    assert_eq!(pool.alloc_slice(256, |_| 1_u8).unwrap().iter().map(|n| usize::from(*n)).sum::<usize>(), 256);
    assert!(pool.alloc_slice(257, |_| 1_u8).is_err());
    assert!(pool.alloc_slice(usize::MAX, |_| 1_u64).is_err());
    assert!(pool.alloc_slice(0, |_| 1_u64).unwrap().is_empty());
    assert_eq!(pool.alloc_slice(1_000_000, |_| ()).unwrap().len(), 1_000_000);
    #[repr(align(64))]
    #[derive(Debug)]
    struct Line;
    assert!(pool.alloc_slice(1, |_| Line).is_err(), "an alignment that the pool does not have");
    drop(words);
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn a_slice_whose_making_panics_drops_what_it_has_and_loses_no_block() {
    let drops = AtomicUsize::new(0);
    let pool = BlockPool::builder().block_size(256).limit(1).build().unwrap();
    let message = panics(|| {
        let made = pool.alloc_slice(10, |n| {
            assert!(n < 7, "enough");
            Counted(&drops)
        });
        drop(made);
    });
    assert_eq!((message.as_str(), drops.load(Ordering::Relaxed), pool.stats().live), ("enough", 7, 0));
    assert_eq!(pool.alloc_slice(3, |n| n).unwrap().len(), 3);
}

#[test]
fn an_owned_box_keeps_its_pool_alive_in_other_threads() {
    let pool: Arc<Pool<Vec<u32>>> = Arc::new(Pool::new());
    let weak = Arc::downgrade(&pool);
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let boxed: OwnedPoolBox<Vec<u32>> = pool.alloc_owned(vec![n; 3]);
            std::thread::spawn(move || {
                assert_eq!(boxed.pool().stats().block_size, 32);
                boxed.into_inner()
            })
        })
        .collect();
    let last = pool.alloc_owned(vec![9]);
    drop(pool);
    for (n, thread) in (0..).zip(threads) {
        assert_eq!(thread.join().unwrap(), vec![n; 3]);
    }
    assert!(weak.upgrade().is_some());
    assert_eq!(*last, [9]);
    drop(last);
    assert!(weak.upgrade().is_none(), "the last box took the pool with it");
}

#[test]
fn an_owned_block_keeps_its_pool_alive() {
    let pool = Arc::new(BlockPool::new(64, 64));
    let mut block = pool.take_owned().unwrap();
    block[63].write(5);
    let weak = Arc::downgrade(&pool);
    drop(pool);
    let block = std::thread::spawn(move || block).join().unwrap();
    assert_eq!(block.pool().stats().live, 1);
    assert_eq!(block.len(), 64);
    drop(block);
    assert!(weak.upgrade().is_none());
}

/// Waits for one more poll.
struct Once(bool);

impl Future for Once {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[test]
fn owned_boxes_live_across_awaits_on_changing_threads() {
    let pool: Arc<Pool<String>> = Arc::new(Pool::builder().limit(50).build().unwrap());
    let blocks = Arc::new(BlockPool::new(32, 16));
    let task = |n: usize| {
        let (pool, blocks) = (Arc::clone(&pool), Arc::clone(&blocks));
        async move {
            let mut text = pool.alloc_owned(n.to_string());
            let mut block = blocks.take_owned().unwrap();
            block[0].write(1);
            Once(false).await;
            text.push('!');
            let pinned = pool.alloc_owned("pinned".to_owned()).into_pin();
            Once(false).await;
            assert_eq!(*pinned, "pinned");
            text.into_inner()
        }
    };
    fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'static) -> Pin<Box<dyn Future<Output = T> + Send + 'a>> {
        Box::pin(future)
    }
    let mut tasks: Vec<_> = (0..20).map(|n| (n, boxed(task(n)))).collect();
    let cancelled = tasks.split_off(15);
    let mut polls = 0;
    while let Some((n, mut future)) = tasks.pop() {
        // Each poll on a thread of its own.
        let (answer, future) = std::thread::spawn(move || {
            let answer = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            (answer, future)
        })
        .join()
        .unwrap();
        polls += 1;
        match answer {
            Poll::Pending => tasks.insert(0, (n, future)),
            Poll::Ready(text) => assert_eq!(text, format!("{n}!")),
        }
    }
    assert_eq!(polls, 15 * 3);
    for (_, mut future) in cancelled {
        assert!(pin!(&mut future).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!((pool.stats().live, blocks.stats().live), (0, 0), "finished or cancelled, all is back");
}

#[test]
fn a_pinned_value_stays_where_it_is() {
    static PINNED: Pool<[u64; 4]> = Pool::new();
    let pinned = PINNED.alloc_pin([7; 4]);
    let address = (&raw const *pinned).addr();
    let moved = std::thread::spawn(move || pinned).join().unwrap();
    assert_eq!(((&raw const *moved).addr(), *moved), (address, [7; 4]));
    let boxed: Pin<PoolBox<'static, _>> = PINNED.alloc([1; 4]).into_pin();
    assert_eq!(*boxed, [1; 4]);
}

#[test]
fn a_box_can_be_taken_apart_put_together_and_leaked() {
    static POOL: Pool<u32> = Pool::new();
    let (value, pool) = PoolBox::into_raw(POOL.alloc(5));
    assert_eq!(POOL.stats().live, 1);
    #[expect(unsafe_code, reason = "the raw interface")]
    // SAFETY: from `into_raw` just above, used once.
    let boxed = unsafe { PoolBox::from_raw(value, pool) };
    assert_eq!(*boxed, 5);
    drop(boxed);
    assert_eq!(POOL.stats().live, 0);
    let leaked: &'static mut u32 = PoolBox::leak(POOL.alloc(6));
    *leaked += 1;
    assert_eq!((*leaked, POOL.stats().live), (7, 1));
}

/// The lifetime of what a box holds may shrink, as with `Box`.
fn covariant<'short, 'p>(boxed: PoolBox<'p, &'static str>) -> PoolBox<'p, &'short str> {
    boxed
}

fn covariant_owned<'short>(boxed: OwnedPoolBox<&'static str>) -> OwnedPoolBox<&'short str> {
    boxed
}

fn covariant_arc<'short, 'p>(shared: PoolArc<'p, &'static str>) -> PoolArc<'p, &'short str> {
    shared
}

fn shorter_borrow<'short, 'long: 'short, T>(boxed: PoolBox<'long, T>) -> PoolBox<'short, T> {
    boxed
}

#[test]
fn boxes_are_covariant_in_their_value_and_their_pool() {
    static TEXTS: Pool<&'static str> = Pool::new();
    assert_eq!(*shorter_borrow(covariant(TEXTS.alloc("mill"))), "mill");
    assert_eq!(*covariant_owned(Arc::new(Pool::new()).alloc_owned("mill")), "mill");
    assert_eq!(*covariant_arc(TEXTS.alloc_arc("mill")), "mill");
    let local = "local".to_owned();
    let pool = Pool::new();
    let boxed: PoolBox<'_, &str> = pool.alloc(local.as_str());
    assert_eq!(*boxed, "local");
}

/// Whether a type has a trait, found by which of two methods is nearer: the inherent one is there only if it has.
macro_rules! has {
    ($type:ty: $trait:ident) => {{
        #[allow(dead_code, reason = "used only for the types that lack the trait")]
        trait Otherwise {
            const HAS: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Asked<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "used only for the types that have the trait")]
        impl<T: ?Sized + $trait> Asked<T> {
            const HAS: bool = true;
        }
        <Asked<$type>>::HAS
    }};
}

#[test]
fn what_may_cross_threads_does_and_nothing_else() {
    // A pool holds memory, not values: it crosses whatever `T` is.
    const {
        assert!(has!(Pool<Cell<u32>>: Sync) && has!(Pool<Cell<u32>>: Send));
        assert!(has!(Pool<Rc<u32>>: Sync) && has!(Pool<Rc<u32>>: Send));
        assert!(has!(Pool<*mut u8>: Sync) && has!(Arc<Pool<Rc<u32>>>: Send));
        assert!(has!(BlockPool: Sync) && has!(BlockPool: Send));
        // Boxes cross as their value does.
        assert!(has!(PoolBox<'static, u32>: Send) && has!(PoolBox<'static, u32>: Sync));
        assert!(has!(PoolBox<'static, Cell<u32>>: Send) && !has!(PoolBox<'static, Cell<u32>>: Sync));
        assert!(!has!(PoolBox<'static, Rc<u32>>: Send) && !has!(PoolBox<'static, Rc<u32>>: Sync));
        assert!(!has!(PoolBox<'static, [Rc<u32>]>: Send) && has!(PoolBox<'static, [u32]>: Send));
        assert!(has!(OwnedPoolBox<Cell<u32>>: Send) && !has!(OwnedPoolBox<Cell<u32>>: Sync));
        assert!(!has!(OwnedPoolBox<Rc<u32>>: Send) && has!(OwnedPoolBox<u32>: Sync));
        // Shared values cross if they may be used and dropped by any owner.
        assert!(has!(PoolArc<'static, u32>: Send) && has!(PoolArc<'static, u32>: Sync));
        assert!(!has!(PoolArc<'static, Cell<u32>>: Send) && !has!(PoolArc<'static, Cell<u32>>: Sync));
        assert!(!has!(PoolArc<'static, Rc<u32>>: Send));
        assert!(!has!(PoolArc<'static, std::sync::MutexGuard<'static, u32>>: Send));
        // Blocks are bytes.
        assert!(has!(Block<'static>: Send) && has!(Block<'static>: Sync));
        assert!(has!(OwnedBlock: Send) && has!(OwnedBlock: Sync));
        // Recycled objects as their object does.
        assert!(has!(Recycler<Cell<u32>>: Send) && has!(Recycler<Cell<u32>>: Sync));
        assert!(!has!(Recycler<Rc<u32>>: Sync) && !has!(Recycled<'static, Rc<u32>>: Send));
        assert!(has!(Recycled<'static, Cell<u32>>: Send) && !has!(Recycled<'static, Cell<u32>>: Sync));
    }
    // A pool of what may not cross is used from two threads: each with values of its own.
    let pool: Pool<Rc<u32>> = Pool::new();
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(**pool.alloc(Rc::new(1)), 1));
        assert_eq!(**pool.alloc(Rc::new(2)), 2);
    });
}
