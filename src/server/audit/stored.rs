//! What is durable in the log, as far as memory keeps it: the tree's peaks, and a few words for
//! every session and grant. What there is of every line is in the [`Index`].

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::index::{Index, Place};
use crate::core::audit::merkle::{Frontier, Hash, Nodes as _, verify_inclusion};
use crate::core::transcript::Leaf;

/// Index entries that gather before they are written, in bytes, while the log is read at start.
const GATHERED: usize = 1024 * 1024;

/// Kinds of lines that are looked for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Grant,
    Close,
    Other,
}

impl Kind {
    /// From the word in `k`.
    pub fn of(word: &str) -> Self {
        match word {
            "grant" => Self::Grant,
            "session.close" => Self::Close,
            _ => Self::Other,
        }
    }
}

/// A line as the index takes it in.
#[derive(Clone, Debug)]
pub struct Entry {
    pub leaf: Leaf,
    /// In bytes, without its line feed.
    pub length: u32,
    /// The name in `sid`.
    pub session: Arc<str>,
    pub kind: Kind,
}

/// The lines of one session.
#[derive(Clone, Copy, Debug)]
struct SessionLines {
    first: Leaf,
    last: u64,
    is_closed: bool,
}

/// What the tree and the file hold, shared with readers.
#[derive(Debug)]
pub struct Stored {
    frontier: Frontier,
    sessions: HashMap<Arc<str>, SessionLines>,
    /// Grants by the hash of their line.
    grants: HashMap<Leaf, u64>,
    /// Bytes in the file of lines.
    end: u64,
    index: Index,
}

impl Stored {
    /// Nothing yet; the index is made anew in `folder`.
    pub fn empty(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            frontier: Frontier::default(),
            sessions: HashMap::new(),
            grants: HashMap::new(),
            end: 0,
            index: Index::create(folder)?,
        })
    }

    /// Takes in a line that is durable; readers see it after [`Stored::write`].
    pub fn push(&mut self, entry: &Entry) {
        let at = self.frontier.size();
        let index = &mut self.index;
        self.frontier.push_to(entry.leaf, |hash| index.hash(hash));
        let known = self.sessions.get_mut(&entry.session);
        index.place(Place { offset: self.end, length: entry.length, previous: known.as_ref().map(|lines| lines.last) });
        let is_closed = entry.kind == Kind::Close;
        match known {
            Some(lines) => (lines.last, lines.is_closed) = (at, lines.is_closed || is_closed),
            None => {
                let lines = SessionLines { first: entry.leaf, last: at, is_closed };
                self.sessions.insert(entry.session.clone(), lines);
            }
        }
        if entry.kind == Kind::Grant {
            self.grants.insert(entry.leaf, at);
        }
        self.end += u64::from(entry.length) + 1;
    }

    /// The same for lines that are many and that nobody asks for meanwhile.
    pub fn push_many(&mut self, entry: &Entry) -> io::Result<()> {
        self.push(entry);
        if self.index.unwritten() > GATHERED { self.write() } else { Ok(()) }
    }

    /// Makes what was pushed readable.
    pub fn write(&mut self) -> io::Result<()> {
        self.index.write()
    }

    /// How many lines there are.
    pub const fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root over all lines.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The root over the first `size` lines; `None` if there were never as many.
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        self.index.tree(self.size()).root_at(size)
    }

    /// Proof that the line at `at` is under the root over all lines, if the index holds one that is right.
    pub fn inclusion(&self, at: u64) -> Option<Vec<Hash>> {
        let tree = self.index.tree(self.size());
        let (leaf, path) = (tree.leaf(at)?, tree.inclusion(at, self.size())?);
        verify_inclusion(at, self.size(), leaf, &path, &self.root()).then_some(path)
    }

    /// Where the line at `at` is.
    pub fn place(&self, at: u64) -> io::Result<Place> {
        self.index.find(at)
    }

    /// The hash of a session's first line, and whether its last one is written.
    pub fn session(&self, session: &str) -> Option<(Leaf, bool)> {
        self.sessions.get(session).map(|lines| (lines.first, lines.is_closed))
    }

    /// The index of a session's last line.
    pub fn last_of(&self, session: &str) -> Option<u64> {
        self.sessions.get(session).map(|lines| lines.last)
    }

    /// The index of the grant whose line has this hash.
    pub fn grant(&self, leaf: Leaf) -> Option<u64> {
        self.grants.get(&leaf).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::super::index::{HASHES, PLACES};
    use super::*;
    use crate::sys::scratch::Scratch;

    fn entry(number: u64, session: &str) -> Entry {
        Entry { leaf: Leaf::of(&number.to_string()), length: 9, session: session.into(), kind: Kind::Other }
    }

    fn filled(folder: &Scratch, lines: u64) -> Stored {
        let mut stored = Stored::empty(folder.path()).expect("an index");
        (0..lines).for_each(|number| stored.push(&entry(number, ["a", "b"][usize::from(number % 3 == 0)])));
        stored.write().expect("written");
        stored
    }

    #[test]
    fn every_line_of_a_session_is_found_from_its_last() {
        let folder = Scratch::new();
        let stored = filled(&folder, 100);
        let (mut at, mut found) = (stored.last_of("b"), Vec::new());
        while let Some(index) = at {
            let place = stored.place(index).expect("a place");
            assert_eq!((place.offset, place.length), (index * 10, 9));
            found.push(index);
            at = place.previous;
        }
        assert_eq!(found, (0..100).rev().filter(|number| number % 3 == 0).collect::<Vec<_>>());
        assert_eq!((stored.last_of("c"), stored.session("b")), (None, Some((Leaf::of("0"), false))));
    }

    #[test]
    fn a_proof_from_an_index_that_was_changed_is_not_given_out() {
        let folder = Scratch::new();
        let stored = filled(&folder, 70);
        assert!((0..70).all(|at| stored.inclusion(at).is_some()));
        let file = std::fs::OpenOptions::new().write(true).open(folder.path().join(HASHES)).expect("the file");
        file.write_all_at(&[7], 0).expect("changed");
        assert_eq!(stored.inclusion(0), None);
        assert_eq!(stored.inclusion(1), None, "its neighbour is part of its proof");
        assert!(stored.inclusion(2).is_some());
    }

    /// Memory holds what grows with sessions and grants; a line is in the files only.
    #[test]
    fn lines_take_no_memory() {
        let folder = Scratch::new();
        let mut stored = filled(&folder, 10);
        for number in 10..5_000 {
            stored.push(&entry(number, "a"));
            stored.write().expect("written");
        }
        assert_eq!((stored.sessions.len(), stored.grants.len(), stored.index.unwritten()), (2, 0, 0));
        let length = |name| std::fs::metadata(folder.path().join(name)).expect("a file").len();
        assert_eq!(length(PLACES), 5_000 * 20);
        assert!(length(HASHES) < 5_000 * 64);
    }
}
