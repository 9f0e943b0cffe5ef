//! A short life of a recycler, drawn from two bytes: who has what is counted, and every object that comes is as new.

use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millpond::{Recycled, Recycler, RecyclerError};

/// Steps of a life.
const STEPS: usize = 40;
/// What makes an object's reset panic.
const BROKEN: u8 = 13;

/// Objects that are alive.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct Object(Vec<u8>);

impl Object {
    fn new() -> Self {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Self(Vec::with_capacity(16))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

fn build(limit: usize, fails: bool) -> Recycler<Object> {
    let builder = Recycler::builder().limit(limit).reset(|object: &mut Object| {
        if object.0.first() == Some(&BROKEN) {
            // Past the hook, which would end a fuzz target.
            resume_unwind(Box::new("it can't be reset"));
        }
        object.0.clear();
    });
    assert!(format!("{builder:?}").contains(&limit.to_string()));
    if !fails {
        return builder.create(Object::new).build();
    }
    let made = AtomicUsize::new(0);
    let create = move || match made.fetch_add(1, Ordering::Relaxed) % 3 {
        2 => Err("the third fails"),
        _ => Ok(Object::new()),
    };
    builder.create(create).build()
}

/// Objects in use and idle, as the model has them.
struct Life {
    recycler: Arc<Recycler<Object>>,
    held: Vec<Recycled<'static, Object>>,
    idle: usize,
    limit: usize,
    fails: bool,
}

impl Life {
    fn got(&mut self, got: Result<Recycled<'static, Object>, RecyclerError>) {
        let full = self.held.len() >= self.limit;
        match got {
            Ok(object) => {
                assert!(!full && object.0.is_empty(), "{object:?} of at most {}", self.limit);
                self.idle = self.idle.saturating_sub(1);
                self.held.push(object);
            }
            Err(error @ (RecyclerError::LimitReached { .. } | RecyclerError::TimedOut { .. })) => {
                assert!(full && error.to_string().contains(&self.limit.to_string()) && error.source().is_none());
            }
            Err(error @ RecyclerError::Create(_)) => {
                assert!(self.fails && self.idle == 0 && !full, "{error}");
                assert!(error.source().is_some_and(|source| error.to_string().contains(&source.to_string())));
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn step(&mut self, what: u64) {
        let which = (what >> 8) as usize;
        match what % 8 {
            0..3 => {
                let got = self.recycler.get_owned();
                self.got(got);
            }
            3 => {
                let recycler = Arc::clone(&self.recycler);
                match recycler.get_timeout(Duration::ZERO) {
                    // It goes back at once; what was idle or new is idle.
                    Ok(mut object) => {
                        object.0.push(1);
                        assert!(self.held.len() < self.limit);
                        self.idle = self.idle.max(1);
                    }
                    Err(error) => self.got(Err(error)),
                }
            }
            4 | 5 if !self.held.is_empty() => {
                let mut object = self.held.swap_remove(which % self.held.len());
                object.0.push(7);
                drop(object);
                self.idle += 1;
            }
            6 if !self.held.is_empty() => {
                let mut object = self.held.swap_remove(which % self.held.len());
                if which.is_multiple_of(2) {
                    let object = object.detach();
                    assert!(object.0.is_empty());
                } else {
                    object.0.insert(0, BROKEN);
                    assert!(catch_unwind(AssertUnwindSafe(|| drop(object))).is_err(), "the panic goes on");
                }
            }
            _ if which.is_multiple_of(4) => {
                self.recycler.clear();
                self.idle = 0;
            }
            _ => {}
        }
        assert_eq!((self.recycler.in_use(), self.recycler.idle()), (self.held.len(), self.idle), "{:?}", self.recycler);
        assert_eq!(
            ALIVE.load(Ordering::Relaxed),
            self.held.len() + self.idle,
            "objects that are lost, or dropped twice"
        );
    }
}

/// A life with a limit, and steps that the two bytes say.
pub(crate) fn run(limit: usize, kind: u8, detail: u8) {
    let fails = kind & 16 != 0;
    let recycler = Arc::new(build(limit, fails));
    let mut life = Life { recycler, held: Vec::new(), idle: 0, limit, fails };
    // A generator of a linear congruence: any two bytes are a program.
    let mut drawn = u64::from(kind) << 8 | u64::from(detail);
    for _ in 0..STEPS {
        drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        life.step(drawn >> 33);
    }
    drop(life);
    assert_eq!(ALIVE.load(Ordering::Relaxed), 0, "objects that outlive their recycler");
}
