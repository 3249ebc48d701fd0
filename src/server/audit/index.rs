//! Where the log's lines are and what the tree over them holds: two files beside the log, so that
//! memory does not grow with it.
//!
//! They say nothing that the log does not: made anew from it at every start, never synced. What is
//! read from them is not believed: a proof is checked against the root that memory holds.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::core::audit::merkle::{Hash, Nodes, stored_at};

/// Hashes of complete subtrees, in the order of [`stored_at`].
pub const HASHES: &str = "log.hashes";
/// A [`Place`] for every line.
pub const PLACES: &str = "log.places";

/// Where a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    pub length: u32,
    /// The line before it in the same session.
    pub previous: Option<u64>,
}

const PLACE: usize = 20;

impl Place {
    fn write(self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.offset.to_le_bytes());
        to.extend_from_slice(&self.length.to_le_bytes());
        to.extend_from_slice(&self.previous.unwrap_or(u64::MAX).to_le_bytes());
    }

    fn read(bytes: &[u8; PLACE]) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let previous = u64::from_le_bytes(*rest.first_chunk()?);
        Some(Self {
            offset: u64::from_le_bytes(*offset),
            length: u32::from_le_bytes(*length),
            previous: (previous != u64::MAX).then_some(previous),
        })
    }
}

/// The two files, and what is to be written to them.
#[derive(Debug)]
pub struct Index {
    hashes: File,
    places: File,
    more_hashes: Vec<u8>,
    more_places: Vec<u8>,
    /// Bytes that the files hold.
    end: (u64, u64),
}

impl Index {
    /// Empty files in `folder`, in the place of older ones.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let empty = |name: &str| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true).mode(0o600).open(folder.join(name))
        };
        let (hashes, places) = (empty(HASHES)?, empty(PLACES)?);
        Ok(Self { hashes, places, more_hashes: Vec::new(), more_places: Vec::new(), end: (0, 0) })
    }

    /// Notes the next hash; [`Index::write`] makes it readable.
    pub fn hash(&mut self, hash: &Hash) {
        self.more_hashes.extend_from_slice(hash);
    }

    /// Notes the next line's place.
    pub fn place(&mut self, place: Place) {
        place.write(&mut self.more_places);
    }

    /// How much was noted and is not written.
    pub fn unwritten(&self) -> usize {
        self.more_hashes.len() + self.more_places.len()
    }

    /// Writes what was noted.
    pub fn write(&mut self) -> io::Result<()> {
        self.hashes.write_all_at(&self.more_hashes, self.end.0)?;
        self.places.write_all_at(&self.more_places, self.end.1)?;
        let length = |bytes: &Vec<u8>| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.end = (self.end.0 + length(&self.more_hashes), self.end.1 + length(&self.more_places));
        self.more_hashes.clear();
        self.more_places.clear();
        Ok(())
    }

    /// Where the line at `index` is.
    pub fn find(&self, index: u64) -> io::Result<Place> {
        let mut bytes = [0; PLACE];
        let at = index.saturating_mul(u64::try_from(PLACE).unwrap_or(u64::MAX));
        self.places.read_exact_at(&mut bytes, at)?;
        Place::read(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The tree over the first `size` lines.
    pub const fn tree(&self, size: u64) -> KeptTree<'_> {
        KeptTree { index: self, size }
    }
}

/// The tree as the files have it.
pub struct KeptTree<'i> {
    index: &'i Index,
    size: u64,
}

impl Nodes for KeptTree<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn complete(&self, level: u32, index: u64) -> Option<Hash> {
        let mut hash = Hash::default();
        let at = stored_at(level, index).checked_mul(u64::try_from(hash.len()).ok()?)?;
        self.index.hashes.read_exact_at(&mut hash, at).ok()?;
        Some(hash)
    }
}
