//! Programs of operations against a shadow model: one library, which the fuzz targets and the property tests replay.
//!
//! A program is a sequence of records of [`RECORD`] bytes, each read as one operation: any bytes are a program, and a
//! record that is left out or zeroed changes no other. [`heap`], [`pool`], [`handoff`], `tasks` and `config` say what the
//! operations are and run them; [`shadow`] knows what must be true of every live block; [`crew`] passes a program from
//! thread to thread.
//!
//! How this would fail: every promise is an `assert!`, in whichever thread it breaks. Runs share one process-wide heap,
//! so [`exclusive`] keeps them apart.

#[cfg(all(feature = "thread", feature = "process"))]
pub(crate) mod config;
pub(crate) mod crew;
pub(crate) mod draw;
mod forks;
pub(crate) mod handoff;
pub(crate) mod heap;
pub(crate) mod pool;
#[cfg(all(feature = "thread", feature = "process"))]
mod recycled;
pub(crate) mod shadow;
#[cfg(feature = "thread")]
pub(crate) mod tasks;
mod values;

use core::fmt::{self, Debug};
use core::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arbitrary::{Arbitrary, Unstructured};

/// Bytes that one operation is read from; what a record lacks reads as zero.
pub(crate) const RECORD: usize = 12;
/// The most operations of one program.
const LONGEST: usize = 600;

/// What programs are made of.
pub(crate) trait Operation: for<'a> Arbitrary<'a> + Debug + Send + Sync + 'static {
    /// Runs a program. Panics where the memory under test and the model disagree.
    fn run(program: Vec<Self>);
}

/// Any bytes, read as operations. Its `Debug` shows them.
pub(crate) struct Program<Op> {
    bytes: Vec<u8>,
    read_as: PhantomData<fn() -> Op>,
}

impl<Op: Operation> Program<Op> {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, read_as: PhantomData }
    }

    fn operations(&self) -> Vec<Op> {
        let read = |record: &[u8]| Op::arbitrary(&mut Unstructured::new(record)).ok();
        self.bytes.chunks(RECORD).take(LONGEST).filter_map(read).collect()
    }

    pub(crate) fn run(&self) {
        let _alone = exclusive();
        Op::run(self.operations());
    }
}

impl<Op: Operation> Debug for Program<Op> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, "{:#?}\nas a file, by `xxd -r -p`: {hex}", self.operations())
    }
}

/// The process's heap for one program alone.
fn exclusive() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
