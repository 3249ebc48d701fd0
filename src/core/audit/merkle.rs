//! The Merkle tree of RFC 6962 section 2.1: roots, inclusion proofs, consistency proofs.
//!
//! Leaf hashes are made in [`crate::core::transcript::Leaf`] with prefix 0, inner nodes here with
//! prefix 1, so that a node can never pass for a leaf.

use sha2::{Digest as _, Sha256};

use crate::core::transcript::Leaf;

/// The hash of a node or a root.
pub type Hash = [u8; 32];

/// SHA-256 of a one byte and both children.
fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1u8]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// The root of a tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The root over all leaves.
pub fn root(leaves: &[Leaf]) -> Hash {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

/// What is needed to go on appending: the roots of the complete subtrees, largest first.
#[derive(Clone, Debug, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    pub fn push(&mut self, leaf: Leaf) {
        self.push_to(leaf, |_| ());
    }

    /// The same, and tells the leaf and the root of each subtree that it completes, in the order
    /// of [`stored_at`].
    pub fn push_to(&mut self, leaf: Leaf, mut store: impl FnMut(&Hash)) {
        let mut hash = leaf.0;
        store(&hash);
        // Each trailing one bit of the size is a complete subtree as large as the one in hand.
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("one peak for every one bit of the size");
            hash = node(&left, &hash);
            store(&hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    pub const fn size(&self) -> u64 {
        self.size
    }

    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => empty_root(),
            Some(last) => peaks.fold(*last, |right, left| node(left, &right)),
        }
    }
}

/// Where the root of a complete subtree stands when all are kept in one sequence as they are
/// completed: every leaf, and behind it what it completes, from small to large. (The order of Go's
/// checksum database.) The subtree is the one over leaves `index * 2^level ..`.
pub fn stored_at(level: u32, index: u64) -> u64 {
    // The subtree is completed by its last leaf, and stands `level` places behind it.
    let leaf = (index + 1).wrapping_shl(level) - 1;
    // Before a leaf stand all leaves before it, and all pairs of them, and all pairs of pairs ...
    (0..u64::BITS).map(|bits| leaf >> bits).sum::<u64>() + u64::from(level)
}

/// What proofs are made from: the roots of complete subtrees, wherever they are kept.
pub trait Nodes {
    /// How many leaves there are.
    fn size(&self) -> u64;

    /// The root over the leaves `index * 2^level ..`, if there are as many.
    fn complete(&self, level: u32, index: u64) -> Option<Hash>;

    /// The leaf at `index`.
    fn leaf(&self, index: u64) -> Option<Leaf> {
        self.complete(0, index).map(Leaf)
    }

    /// The root of the tree as it was with `size` leaves; `None` if it never had that many.
    fn root_at(&self, size: u64) -> Option<Hash> {
        match size {
            0 => Some(empty_root()),
            _ => self.range(0, size),
        }
    }

    /// Proof that the leaf at `index` is in the tree of `size` leaves.
    fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        if index >= size || size > self.size() {
            return None;
        }
        let mut path = Vec::new();
        let (mut start, mut end) = (0, size);
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                path.push(self.range(middle, end)?);
                end = middle;
            } else {
                path.push(self.range(start, middle)?);
                start = middle;
            }
        }
        path.reverse();
        Some(path)
    }

    /// Proof that the tree of `old` leaves is a prefix of the tree of `new` leaves.
    fn consistency(&self, old: u64, new: u64) -> Option<Vec<Hash>> {
        if old == 0 || old > new || new > self.size() {
            return None;
        }
        let mut path = Vec::new();
        let (mut start, mut end, mut is_known) = (0, new, true);
        // RFC 6962 section 2.1.2, SUBPROOF, from the root down.
        while old != end {
            let middle = start + split(end - start);
            if old <= middle {
                path.push(self.range(middle, end)?);
                end = middle;
            } else {
                path.push(self.range(start, middle)?);
                start = middle;
                is_known = false;
            }
        }
        if !is_known {
            path.push(self.range(start, end)?);
        }
        path.reverse();
        Some(path)
    }

    /// The root over leaves `start..end`, where `start` is a multiple of the range's rounded-up size.
    fn range(&self, start: u64, end: u64) -> Option<Hash> {
        let length = end.checked_sub(start).filter(|length| *length > 0)?;
        if length.is_power_of_two() {
            return self.complete(length.trailing_zeros(), start / length);
        }
        let middle = start + split(length);
        Some(node(&self.range(start, middle)?, &self.range(middle, end)?))
    }
}

/// A whole tree in memory: 64 bytes a leaf.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    frontier: Frontier,
    /// In the order of [`stored_at`].
    hashes: Vec<Hash>,
}

impl Tree {
    pub fn push(&mut self, leaf: Leaf) {
        self.frontier.push_to(leaf, |hash| self.hashes.push(*hash));
    }
}

impl Nodes for Tree {
    fn size(&self) -> u64 {
        self.frontier.size()
    }

    fn complete(&self, level: u32, index: u64) -> Option<Hash> {
        self.hashes.get(usize::try_from(stored_at(level, index)).ok()?).copied()
    }
}

/// The largest power of two smaller than `length`, which is at least 2.
const fn split(length: u64) -> u64 {
    1 << (63 - (length - 1).leading_zeros())
}

/// Checks an inclusion proof (RFC 9162 section 2.1.3.2).
#[must_use]
pub fn verify_inclusion(index: u64, size: u64, leaf: Leaf, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, leaf.0);
    for step in path {
        if last == 0 {
            return false;
        }
        if place % 2 == 1 || place == last {
            hash = node(step, &hash);
            while place % 2 == 0 && place != 0 {
                place /= 2;
                last /= 2;
            }
        } else {
            hash = node(&hash, step);
        }
        place /= 2;
        last /= 2;
    }
    last == 0 && hash == *root
}

/// Checks a consistency proof (RFC 9162 section 2.1.4.2).
#[must_use]
pub fn verify_consistency(old: u64, new: u64, old_root: &Hash, new_root: &Hash, path: &[Hash]) -> bool {
    if old == 0 || old > new {
        return false;
    }
    if old == new {
        return path.is_empty() && old_root == new_root;
    }
    // A tree of a power of two is itself the first step of the path.
    let mut steps = if old.is_power_of_two() { Some(old_root) } else { None }.into_iter().chain(path);
    let Some(first) = steps.next() else { return false };
    let (mut place, mut last) = (old - 1, new - 1);
    while place % 2 == 1 {
        place /= 2;
        last /= 2;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if place % 2 == 1 || place == last {
            old_hash = node(step, &old_hash);
            new_hash = node(step, &new_hash);
            while place % 2 == 0 && place != 0 {
                place /= 2;
                last /= 2;
            }
        } else {
            new_hash = node(&new_hash, step);
        }
        place /= 2;
        last /= 2;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}
