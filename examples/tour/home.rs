//! Where the parts of the program live that know their size: in Millpond's pools, or in boxes as without Millpond.

use std::ops::DerefMut;

use millpond::{BlockPool, MemoryError, Pool, PoolBox};

use crate::reading::BUFFER;
use crate::trie::Node;

/// A home for the tree's nodes and for reading buffers.
pub(crate) trait Home: Sized {
    /// Owns a node.
    type Link: DerefMut<Target = Node<Self>> + Send + Sync;
    /// Owns the bytes that are read into.
    type Buffer: DerefMut<Target = [u8]>;

    fn link(node: Node<Self>) -> Self::Link;
    fn buffer() -> Result<Self::Buffer, MemoryError>;
}

/// Millpond's pools.
#[derive(Debug)]
pub(crate) struct Pools;

pub(crate) static NODES: Pool<Node<Pools>> = Pool::new();
pub(crate) static BUFFERS: BlockPool = BlockPool::new(BUFFER, 64);

impl Home for Pools {
    type Link = PoolBox<'static, Node<Self>>;
    type Buffer = PoolBox<'static, [u8]>;

    fn link(node: Node<Self>) -> Self::Link {
        NODES.alloc(node)
    }

    fn buffer() -> Result<Self::Buffer, MemoryError> {
        BUFFERS.alloc_slice(BUFFER, |_| 0)
    }
}

/// The global allocator, for everything.
#[derive(Debug)]
pub(crate) struct Boxes;

impl Home for Boxes {
    type Link = Box<Node<Self>>;
    type Buffer = Box<[u8]>;

    fn link(node: Node<Self>) -> Self::Link {
        Box::new(node)
    }

    fn buffer() -> Result<Self::Buffer, MemoryError> {
        Ok(vec![0; BUFFER].into_boxed_slice())
    }
}
