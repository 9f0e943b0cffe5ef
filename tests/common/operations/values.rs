//! Values that know whether they are alive, in blocks of typed pools: each is to be dropped exactly once.

use core::borrow::Borrow;
use core::cmp;
use core::error::Error as _;
use core::fmt::{self, Debug, Display};
use core::hash::{Hash, Hasher};
use core::ops::Deref;
use core::pin::Pin;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use millpond::{OwnedPoolBox, Pool, PoolArc, PoolBox};

/// The values that are alive, by number.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    alive: Mutex<BTreeSet<u64>>,
}

impl Ledger {
    fn change<R>(&self, act: impl FnOnce(&mut BTreeSet<u64>) -> R) -> R {
        act(&mut self.alive.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn count(&self) -> usize {
        self.change(|alive| alive.len())
    }
}

/// Tells the ledger when it is dropped.
pub(crate) struct Mark {
    id: u64,
    ledger: Arc<Ledger>,
}

impl Mark {
    pub(crate) fn new(id: u64, ledger: &Arc<Ledger>) -> Self {
        assert!(ledger.change(|alive| alive.insert(id)), "every value has its own number");
        Self { id, ledger: Arc::clone(ledger) }
    }

    pub(crate) fn check(&self, id: u64) {
        assert_eq!(self.id, id, "another value lies here");
        assert!(self.ledger.change(|alive| alive.contains(&id)), "value {id} was dropped already");
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let alive = self.ledger.change(|alive| alive.remove(&self.id));
        assert!(alive, "value {} was dropped twice", self.id);
    }
}

/// What the pools of a program hold.
pub(crate) trait Value: Send + Sync + Sized + Debug + Display + Ord + Hash + 'static {
    /// One more, with a number that no other has.
    fn new(id: u64, ledger: &Arc<Ledger>) -> Self;
    /// Asserts that this is the value with that number, as it was made.
    fn check(&self, id: u64);
    /// The pool of this type that lives for ever.
    fn forever() -> &'static Pool<Self>;
}

/// An ordinary value.
pub(crate) struct Plain(Mark);

impl Value for Plain {
    fn new(id: u64, ledger: &Arc<Ledger>) -> Self {
        Self(Mark::new(id, ledger))
    }

    fn check(&self, id: u64) {
        self.0.check(id);
    }

    fn forever() -> &'static Pool<Self> {
        static POOL: Pool<Plain> = Pool::new();
        &POOL
    }
}

/// A large and over-aligned one.
#[repr(align(512))]
pub(crate) struct Wide {
    mark: Mark,
    bytes: [u64; 100],
}

impl Value for Wide {
    fn new(id: u64, ledger: &Arc<Ledger>) -> Self {
        Self { mark: Mark::new(id, ledger), bytes: [id; 100] }
    }

    fn check(&self, id: u64) {
        self.mark.check(id);
        assert!((&raw const *self).addr().is_multiple_of(512), "{:p} is not aligned", &raw const *self);
        assert_eq!(self.bytes, [id; 100], "somebody wrote into value {id}");
    }

    fn forever() -> &'static Pool<Self> {
        static POOL: Pool<Wide> = Pool::new();
        &POOL
    }
}

/// One of size zero.
pub(crate) struct Nothing;

static NOTHINGS: AtomicUsize = AtomicUsize::new(0);

impl Nothing {
    /// How many are alive in the whole process.
    pub(crate) fn count() -> usize {
        NOTHINGS.load(Ordering::Relaxed)
    }
}

impl Value for Nothing {
    fn new(_: u64, _: &Arc<Ledger>) -> Self {
        NOTHINGS.fetch_add(1, Ordering::Relaxed);
        Self
    }

    fn check(&self, _: u64) {}

    fn forever() -> &'static Pool<Self> {
        static POOL: Pool<Nothing> = Pool::new();
        &POOL
    }
}

impl Drop for Nothing {
    fn drop(&mut self) {
        assert!(NOTHINGS.fetch_sub(1, Ordering::Relaxed) > 0, "a value of size zero was dropped twice");
    }
}

/// Values are as their numbers are, or all the same.
macro_rules! like_its_number {
    ($name:ty, $number:expr) => {
        impl Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), $number(self))
            }
        }
        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Display::fmt(&$number(self), f)
            }
        }
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                $number(self) == $number(other)
            }
        }
        impl Eq for $name {}
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> cmp::Ordering {
                $number(self).cmp(&$number(other))
            }
        }
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                $number(self).hash(state);
            }
        }
    };
}

like_its_number!(Plain, |value: &Plain| value.0.id);
like_its_number!(Wide, |value: &Wide| value.mark.id);
like_its_number!(Nothing, |_: &Nothing| 0_u64);

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A box does what its value does.
fn is_like_its_value<T: Value, B>(owner: &B)
where
    B: Deref<Target = T> + AsRef<T> + Borrow<T> + Debug + Display + Ord + Hash,
{
    let value: &T = owner;
    assert!(ptr::eq(value, owner.as_ref()) && ptr::eq(value, owner.borrow()));
    let same = owner;
    assert!(owner == same && owner.partial_cmp(same) == Some(cmp::Ordering::Equal));
    assert_eq!((owner.cmp(owner), hash_of(owner)), (cmp::Ordering::Equal, hash_of(value)));
    assert_eq!(format!("{owner:?} {owner}"), format!("{value:?} {value}"));
}

/// Who owns a value.
enum Owner<T> {
    Boxed(PoolBox<'static, T>),
    Owned(OwnedPoolBox<T>),
    Shared(PoolArc<'static, T>),
    Pinned(Pin<PoolBox<'static, T>>),
    OwnedPinned(Pin<OwnedPoolBox<T>>),
}

/// A value in a pool, with its number.
struct Kept<T> {
    id: u64,
    owner: Owner<T>,
}

/// A value of any type.
pub(crate) trait Keep: Send {
    fn check(&self);
    /// Where its block starts.
    fn at(&self) -> NonNull<u8>;
    /// Bytes of the value.
    fn size(&self) -> usize;
    /// Whether its block lies in the pool that a program made for itself.
    fn is_owned(&self) -> bool;
    /// Whether its block is a counted one.
    fn is_shared(&self) -> bool;
    /// Another owner, if the value can have several.
    fn share(&self) -> Option<Box<dyn Keep>>;
    /// Ends this owner in one of several ways. True if that was the end of the value.
    fn end(self: Box<Self>, how: usize) -> bool;
}

impl<T: Value> Kept<T> {
    fn value(&self) -> &T {
        match &self.owner {
            Owner::Boxed(owner) => owner,
            Owner::Owned(owner) => owner,
            Owner::Shared(owner) => owner,
            Owner::Pinned(owner) => owner.deref(),
            Owner::OwnedPinned(owner) => owner.deref(),
        }
    }
}

impl<T: Value> Keep for Kept<T> {
    fn check(&self) {
        self.value().check(self.id);
        match &self.owner {
            Owner::Boxed(owner) => is_like_its_value(owner),
            Owner::Owned(owner) => is_like_its_value(owner),
            Owner::Shared(owner) => {
                let value: &T = owner;
                assert!(ptr::eq(value, owner.as_ref()));
                assert_eq!(format!("{owner:?} {owner}"), format!("{value:?} {value}"));
            }
            Owner::Pinned(_) | Owner::OwnedPinned(_) => {}
        }
    }

    fn at(&self) -> NonNull<u8> {
        NonNull::from(self.value()).cast()
    }

    fn size(&self) -> usize {
        size_of::<T>()
    }

    fn is_owned(&self) -> bool {
        matches!(self.owner, Owner::Owned(_) | Owner::OwnedPinned(_))
    }

    fn is_shared(&self) -> bool {
        matches!(self.owner, Owner::Shared(_))
    }

    fn share(&self) -> Option<Box<dyn Keep>> {
        let Owner::Shared(owner) = &self.owner else { return None };
        let twin = owner.clone();
        assert!(PoolArc::ptr_eq(owner, &twin) && PoolArc::strong_count(&twin) >= 2);
        Some(Box::new(Self { id: self.id, owner: Owner::Shared(twin) }))
    }

    fn end(self: Box<Self>, how: usize) -> bool {
        let Self { id, owner } = *self;
        match (owner, how % 3) {
            (Owner::Boxed(owner), 0) => owner.into_inner().check(id),
            (Owner::Boxed(mut owner), 1) => {
                let value: *const T = &raw mut *owner;
                assert!(ptr::eq(value, owner.as_mut()));
                let (value, pool) = PoolBox::into_raw(owner);
                // SAFETY: both were just taken out of a box.
                drop(unsafe { PoolBox::from_raw(value, pool) });
            }
            (Owner::Owned(owner), 0) => owner.into_inner().check(id),
            (Owner::Shared(mut owner), how) => {
                let alone = PoolArc::strong_count(&owner) == 1;
                assert_eq!(PoolArc::get_mut(&mut owner).is_some(), alone);
                if how == 2 {
                    drop(owner);
                } else {
                    match PoolArc::try_unwrap(owner) {
                        Ok(value) if alone => value.check(id),
                        Err(owner) if !alone => drop(owner),
                        _ => panic!("value {id} comes out when its owner is alone, and only then"),
                    }
                }
                return alone;
            }
            (Owner::Owned(mut owner), 1) => {
                let value: *const T = &raw mut *owner;
                assert!(ptr::eq(value, owner.as_mut()));
                // Not `live`, which is close only, with other threads at it; these two are counted under one lock.
                let stats = owner.pool().stats();
                assert!(stats.free < stats.blocks, "the owner's block is not free: {stats}");
            }
            (owner, _) => drop(owner),
        }
        true
    }
}

/// Moves a new value into a block of a pool, in one of several ways. `None`: `owned` is at its limit.
pub(crate) fn keep<T: Value>(id: u64, ledger: &Arc<Ledger>, owned: &Arc<Pool<T>>, how: usize) -> Option<Box<dyn Keep>> {
    let value = T::new(id, ledger);
    let owner = match how % 6 {
        0 => Owner::Boxed(T::forever().alloc(value)),
        1 => Owner::Shared(T::forever().alloc_arc(value)),
        2 => Owner::Pinned(T::forever().alloc_pin(value)),
        3 => Owner::Boxed(T::forever().try_alloc(value).expect("a pool without a limit")),
        how => match owned.try_alloc_owned(value) {
            Ok(owner) if how == 4 => Owner::Owned(owner),
            Ok(owner) => Owner::OwnedPinned(owner.into_pin()),
            Err(failed) => {
                let says = failed.source().expect("a reason").to_string();
                assert!(failed.to_string().contains(&says) && !format!("{failed:?}").is_empty());
                failed.value.check(id);
                return None;
            }
        },
    };
    Some(Box::new(Kept { id, owner }))
}
