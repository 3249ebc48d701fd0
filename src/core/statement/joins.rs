//! Which relations of a statement come together, and by what: enough to tell, with the keys that the
//! catalog knows, whether its rows are those of one relation or a product of several.
//!
//! Rows that are joined by a unique key add none. So a statement grows with one relation where every
//! other is met by a key of its own, from there or from constants; where two are left that nothing
//! determines, it may grow with both. Unsure counts as not determined.

use std::cell::Cell;

use super::facts::Name;

/// Rows that nobody minds, products of small relations.
const FEW_ROWS: u64 = 100_000;
/// By so many may rows be multiplied that are written out in the statement.
const WRITTEN: u64 = 100;
/// So many rows fit into a table of hashes, however little memory the session gives it.
const MOST_HASHED: u64 = 10_000;
/// So many links are followed for one statement. One that wants more is not looked through.
const MOST_STEPS: u32 = 100_000;

/// Something that rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A relation; where its columns go by other names, pairs of the new name and its own.
    Relation(Name, Option<Vec<(String, String)>>),
    /// No more than so many, written out.
    Rows(u64),
    /// A query of which each of these sets of columns is a key.
    Keyed(Vec<Vec<String>>),
}

/// A column as a statement names it: the sources that it may belong to, nearest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub sources: Vec<usize>,
    pub column: String,
}

/// One side of an equality.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// A column by itself.
    pub column: Option<Reference>,
    /// All that it needs.
    pub uses: Vec<Reference>,
}

/// What brings sources together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    Equal(Side, Side),
    /// All columns that both have.
    Natural(Vec<usize>, Vec<usize>),
}

/// Sources whose rows meet each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    pub sources: Vec<usize>,
    pub links: Vec<usize>,
    /// For a query inside of another: what it names. It meets the rows around it where any of that is theirs.
    pub inside: Option<(Vec<usize>, Vec<Reference>)>,
    /// For a query that is kept as a table of hashes as long as it fits: its sources.
    pub hashed: Vec<usize>,
}

/// All of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joins {
    pub sources: Vec<Source>,
    pub links: Vec<Link>,
    pub blocks: Vec<Block>,
    /// There are more than anybody looks through.
    pub are_too_many: bool,
}

/// What is known of a relation.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub columns: Vec<String>,
    pub keys: Vec<Vec<String>>,
    /// How many rows it has, where anybody has counted them.
    pub rows: Option<u64>,
}

impl Joins {
    /// Whether any part of the statement may grow with more than one relation.
    pub fn may_multiply(&self, relation: &dyn Fn(&Name) -> Option<Known>) -> bool {
        if self.are_too_many || self.blocks.is_empty() {
            return self.are_too_many;
        }
        let known: Vec<Option<Known>> = self.sources.iter().map(|source| known(source, relation)).collect();
        let steps = Cell::new(0);
        let may = |block| Closing { joins: self, known: &known, block, steps: &steps }.may_multiply();
        self.blocks.iter().any(may) || steps.get() > MOST_STEPS
    }

    /// Relations of these names are others than the catalog's.
    pub fn forget(&mut self, is_other: &dyn Fn(&Name) -> bool) {
        for source in &mut self.sources {
            if matches!(source, Source::Relation(name, _) if is_other(name)) {
                *source = Source::Keyed(Vec::new());
            }
        }
    }

    /// Takes up those of a text that the statement runs, or of a statement that it executes.
    pub fn add(&mut self, other: Self) {
        let (sources, links) = (self.sources.len(), self.links.len());
        let move_all = |places: Vec<usize>, by: usize| places.into_iter().map(|at| at + by).collect::<Vec<_>>();
        let reference = |one: Reference| Reference { sources: move_all(one.sources, sources), ..one };
        let side = |side: Side| Side {
            column: side.column.map(reference),
            uses: side.uses.into_iter().map(reference).collect(),
        };
        self.are_too_many |= other.are_too_many;
        self.sources.extend(other.sources);
        self.links.extend(other.links.into_iter().map(|link| match link {
            Link::Equal(left, right) => Link::Equal(side(left), side(right)),
            Link::Natural(left, right) => Link::Natural(move_all(left, sources), move_all(right, sources)),
        }));
        self.blocks.extend(other.blocks.into_iter().map(|block| {
            Block {
                sources: move_all(block.sources, sources),
                links: move_all(block.links, links),
                hashed: move_all(block.hashed, sources),
                inside: block
                    .inside
                    .map(|(around, names)| (move_all(around, sources), names.into_iter().map(reference).collect())),
            }
        }));
    }
}

fn known(source: &Source, relation: &dyn Fn(&Name) -> Option<Known>) -> Option<Known> {
    match source {
        Source::Rows(rows) => Some(Known { rows: Some(*rows), ..Known::default() }),
        Source::Keyed(keys) => Some(Known { columns: keys.concat(), keys: keys.clone(), rows: None })
            .filter(|known| !known.keys.is_empty()),
        Source::Relation(name, renamed) => {
            let known = relation(name)?;
            let Some(renamed) = renamed else { return Some(known) };
            let new = |column: &String| renamed.iter().find(|(_, own)| own == column).map(|(new, _)| new.clone());
            let keys = known.keys.iter().filter_map(|key| key.iter().map(new).collect());
            let columns = renamed.iter().map(|(new, _)| new.clone()).collect();
            Some(Known { columns, keys: keys.collect(), rows: known.rows })
        }
    }
}

/// One block, and what follows from what in it.
struct Closing<'j> {
    joins: &'j Joins,
    known: &'j [Option<Known>],
    block: &'j Block,
    steps: &'j Cell<u32>,
}

/// What is determined: whole sources, and single columns.
#[derive(Clone, Default)]
struct Found {
    sources: Vec<usize>,
    columns: Vec<(usize, String)>,
}

impl Closing<'_> {
    fn may_multiply(&self) -> bool {
        if let Some((around, names)) = &self.block.inside
            && !names.iter().any(|name| self.place(name).is_some_and(|at| around.contains(&at)))
        {
            return false;
        }
        let hashed = self.block.hashed.iter().map(|at| self.rows(*at)).fold(1, u64::saturating_mul);
        if !self.block.hashed.is_empty() && hashed <= MOST_HASHED {
            return false;
        }
        let mut found = Found::default();
        let mut written = 1_u64;
        for at in &self.block.sources {
            if let Some(Source::Rows(rows)) = self.joins.sources.get(*at) {
                let more = written.saturating_mul((*rows).max(1));
                if more <= WRITTEN {
                    written = more;
                    found.sources.push(*at);
                }
            }
        }
        self.close(&mut found);
        let mut roots = 0;
        let mut product = written;
        while let Some(next) = self.best(&found).filter(|_| self.steps.get() <= MOST_STEPS) {
            roots += 1;
            product = product.saturating_mul(self.rows(next));
            found.sources.push(next);
            self.close(&mut found);
        }
        roots > 1 && product > FEW_ROWS
    }

    /// The source from which most of what is left follows; of those the smallest.
    fn best(&self, found: &Found) -> Option<usize> {
        let left = self.block.sources.iter().filter(|at| !found.sources.contains(at));
        left.copied().max_by_key(|at| {
            let mut with = found.clone();
            with.sources.push(*at);
            self.close(&mut with);
            (with.sources.len(), std::cmp::Reverse(self.rows(*at)))
        })
    }

    fn rows(&self, at: usize) -> u64 {
        self.of(at).and_then(|known| known.rows).unwrap_or(u64::MAX)
    }

    fn of(&self, at: usize) -> Option<&Known> {
        self.known.get(at)?.as_ref()
    }

    /// Everything that follows from what is found.
    fn close(&self, found: &mut Found) {
        loop {
            let before = (found.sources.len(), found.columns.len());
            let links = u32::try_from(self.block.links.len() + self.block.sources.len()).unwrap_or(u32::MAX);
            self.steps.set(self.steps.get().saturating_add(links));
            if self.steps.get() > MOST_STEPS {
                return;
            }
            for link in self.block.links.iter().filter_map(|at| self.joins.links.get(*at)) {
                match link {
                    Link::Equal(left, right) => {
                        self.carry(left, right, found);
                        self.carry(right, left, found);
                    }
                    Link::Natural(left, right) => self.carry_natural(left, right, found),
                }
            }
            for at in &self.block.sources {
                let is_set = |column: &String| found.columns.iter().any(|(of, name)| of == at && name == column);
                let is_met = self.of(*at).is_some_and(|known| known.keys.iter().any(|key| key.iter().all(is_set)));
                if is_met && !found.sources.contains(at) {
                    found.sources.push(*at);
                }
            }
            if before == (found.sources.len(), found.columns.len()) {
                return;
            }
        }
    }

    /// A column is determined where what it must be equal to is.
    fn carry(&self, from: &Side, to: &Side, found: &mut Found) {
        let is_found = |name: &Reference| {
            let at = self.place(name);
            at.is_some_and(|at| {
                // What stands around the block is given.
                !self.block.sources.contains(&at)
                    || found.sources.contains(&at)
                    || found.columns.iter().any(|(of, column)| *of == at && *column == name.column)
            })
        };
        if !from.uses.iter().all(is_found) {
            return;
        }
        if let Some((at, name)) = to.column.as_ref().and_then(|name| Some((self.place(name)?, name))) {
            set(found, at, &name.column);
        }
    }

    fn carry_natural(&self, left: &[usize], right: &[usize], found: &mut Found) {
        for (from, to) in [(left, right), (right, left)] {
            for source in from {
                for column in self.of(*source).map_or(&[][..], |known| &known.columns) {
                    let is_found = found.sources.contains(source)
                        || found.columns.iter().any(|(of, name)| of == source && name == column);
                    let name = Reference { sources: to.to_vec(), column: column.clone() };
                    if let Some(at) = self.place(&name).filter(|at| is_found && self.has(*at, column)) {
                        set(found, at, column);
                    }
                }
            }
        }
    }

    /// The source that a column belongs to: the nearest that is known to have it, else the only one it
    /// can be of.
    fn place(&self, name: &Reference) -> Option<usize> {
        let mut sources = name.sources.iter().copied();
        if let [only] = name.sources.as_slice() {
            return Some(*only);
        }
        let is_unknown = |at: &usize| self.of(*at).is_none_or(|known| known.columns.is_empty());
        let mut unknown = name.sources.iter().copied().filter(is_unknown);
        sources.find(|at| self.has(*at, &name.column)).or_else(|| unknown.next())
    }

    fn has(&self, at: usize, column: &str) -> bool {
        self.of(at).is_some_and(|known| known.columns.iter().any(|one| one == column))
    }
}

fn set(found: &mut Found, at: usize, column: &str) {
    if !found.columns.iter().any(|(of, name)| *of == at && name == column) {
        found.columns.push((at, column.to_owned()));
    }
}
