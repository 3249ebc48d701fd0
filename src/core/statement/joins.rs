//! Which relations of a statement come together, and by what: enough to tell, with the keys that the
//! catalog knows, whether its rows are those of one relation or a product of several.
//!
//! Rows that are joined by a unique key add none. So a statement grows with one relation where every
//! other is met by a key of its own, from there or from constants; where two are left that nothing
//! determines, it may grow with both. Unsure counts as not determined.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::facts::Name;

/// Rows that nobody minds, products of small relations.
const FEW_ROWS: u64 = 100_000;
/// By so many may rows be multiplied that are written out in the statement.
const WRITTEN: u64 = 100;
/// By more than this, and over so many rows together, rows are multiplied like those of another relation.
const FEW_WRITTEN: u64 = 10;
const MANY_ROWS: u64 = 10_000_000;
/// So many rows of a query inside of another may refer to one row around it, on average.
const FEW_REFERRING: u64 = 100;
/// So many names are looked up and followed for one statement. One that wants more is not looked through.
const MOST_STEPS: usize = 2_000_000;

/// Something that rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A relation; where its columns go by other names, pairs of the new name and its own.
    Relation(Name, Option<Vec<(String, String)>>),
    /// No more than so many, written out.
    Rows(u64),
    /// The same, with the columns whose values are all different.
    Values(u64, Vec<String>),
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
    /// For a query inside of another: its place among [`Joins::levels`].
    pub inside: Option<usize>,
}

/// A query inside of another: what stands around it, and what it names. It is run for the rows around it
/// where any of that is theirs; else once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    pub around: Vec<usize>,
    pub names: Vec<Reference>,
    /// The level that it stands in.
    pub outer: Option<usize>,
}

/// All of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joins {
    pub sources: Vec<Source>,
    pub links: Vec<Link>,
    pub blocks: Vec<Block>,
    pub levels: Vec<Level>,
    /// There are more than anybody looks through.
    pub are_too_many: bool,
}

/// What is known of a relation.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub columns: BTreeSet<String>,
    pub keys: Vec<Vec<String>>,
    /// Columns that refer to a row of another relation, and how many rows of this one refer to the same
    /// on average.
    pub references: Vec<(Vec<String>, u64)>,
    /// How many rows it has, where anybody has counted them.
    pub rows: Option<u64>,
}

impl Joins {
    /// Whether any part of the statement may grow with more than one relation.
    pub fn may_multiply(&self, relation: &dyn Fn(&Name) -> Option<Known>) -> bool {
        if self.are_too_many || self.blocks.is_empty() {
            return self.are_too_many;
        }
        let mut by_name = HashMap::new();
        let mut known = |source| known(source, relation, &mut by_name);
        let known: Vec<Option<Rc<Known>>> = self.sources.iter().map(&mut known).collect();
        let steps = Steps(Cell::new(MOST_STEPS));
        let may = |block| Closing::of(block, self, &known, &steps).is_none_or(|closing| closing.may_multiply());
        self.blocks.iter().any(may) || steps.are_used_up()
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
        let (sources, links, levels) = (self.sources.len(), self.links.len(), self.levels.len());
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
        self.blocks.extend(other.blocks.into_iter().map(|block| Block {
            sources: move_all(block.sources, sources),
            links: move_all(block.links, links),
            inside: block.inside.map(|at| at + levels),
        }));
        self.levels.extend(other.levels.into_iter().map(|level| Level {
            around: move_all(level.around, sources),
            names: level.names.into_iter().map(reference).collect(),
            outer: level.outer.map(|at| at + levels),
        }));
    }
}

type ByName<'j> = HashMap<&'j Name, Option<Rc<Known>>>;

/// What is known of a source; a relation is asked about once.
fn known<'j>(
    source: &'j Source,
    relation: &dyn Fn(&Name) -> Option<Known>,
    by_name: &mut ByName<'j>,
) -> Option<Rc<Known>> {
    match source {
        Source::Rows(rows) => Some(Rc::new(Known { rows: Some(*rows), ..Known::default() })),
        Source::Values(rows, distinct) => {
            let keys = distinct.iter().map(|column| vec![column.clone()]).collect();
            Some(Rc::new(Known { rows: Some(*rows), keys, ..Known::default() }))
        }
        Source::Keyed(keys) if keys.is_empty() => None,
        Source::Keyed(keys) => {
            let columns = keys.iter().flatten().cloned().collect();
            Some(Rc::new(Known { columns, keys: keys.clone(), ..Known::default() }))
        }
        Source::Relation(name, renamed) => {
            let known = by_name.entry(name).or_insert_with(|| relation(name).map(Rc::new)).clone()?;
            Some(renamed.as_ref().map_or_else(|| known.clone(), |renamed| Rc::new(known.renamed(renamed))))
        }
    }
}

impl Known {
    /// The same of a query whose columns go by other names: pairs of the new name and its own.
    #[must_use]
    pub fn renamed(&self, names: &[(String, String)]) -> Self {
        let new = |column: &String| names.iter().find(|(_, own)| own == column).map(|(new, _)| new.clone());
        let all = |columns: &Vec<String>| columns.iter().map(new).collect::<Option<Vec<_>>>();
        Self {
            columns: names.iter().map(|(new, _)| new.clone()).collect(),
            keys: self.keys.iter().filter_map(all).collect(),
            references: self.references.iter().filter_map(|(from, each)| Some((all(from)?, *each))).collect(),
            rows: self.rows,
        }
    }
}

/// What is left of the work that one statement is worth.
struct Steps(Cell<usize>);

impl Steps {
    fn take(&self, number: usize) {
        self.0.set(self.0.get().saturating_sub(number));
    }

    fn are_used_up(&self) -> bool {
        self.0.get() == 0
    }
}

/// A column of a source.
type Column<'j> = (usize, &'j str);

/// A column that is determined where all of these are.
struct Rule<'j> {
    from: Vec<Column<'j>>,
    to: Column<'j>,
}

/// One block, and what follows from what in it.
struct Closing<'j> {
    block: &'j Block,
    /// Its sources.
    own: HashSet<usize>,
    joins: &'j Joins,
    known: &'j [Option<Rc<Known>>],
    rules: Vec<Rule<'j>>,
    steps: &'j Steps,
}

/// What is determined: whole sources, and single columns.
#[derive(Clone, Default)]
struct Found<'j> {
    sources: HashSet<usize>,
    columns: HashSet<Column<'j>>,
}

impl<'j> Closing<'j> {
    /// Looks up what the links of a block name. None where there is too much of it.
    fn of(block: &'j Block, joins: &'j Joins, known: &'j [Option<Rc<Known>>], steps: &'j Steps) -> Option<Self> {
        let own = block.sources.iter().copied().collect();
        let mut closing = Self { block, own, joins, known, rules: Vec::new(), steps };
        for link in block.links.iter().filter_map(|at| joins.links.get(*at)) {
            match link {
                Link::Equal(left, right) => {
                    let rules = [closing.rule(left, right), closing.rule(right, left)];
                    closing.rules.extend(rules.into_iter().flatten());
                }
                Link::Natural(left, right) => {
                    closing.all_columns(left, right);
                    closing.all_columns(right, left);
                }
            }
            if steps.are_used_up() {
                return None;
            }
        }
        Some(closing)
    }

    /// A column is determined where what it must be equal to is.
    fn rule(&self, from: &'j Side, to: &'j Side) -> Option<Rule<'j>> {
        let to = to.column.as_ref()?;
        let to = (self.place(to)?, to.column.as_str());
        let mut needs = BTreeSet::new();
        for name in &from.uses {
            let at = self.place(name)?;
            // What stands around the block is given.
            if self.own.contains(&at) {
                needs.insert((at, name.column.as_str()));
            }
        }
        Some(Rule { from: needs.into_iter().collect(), to })
    }

    /// The same of the columns that both have.
    fn all_columns(&mut self, from: &'j [usize], to: &[usize]) {
        let known = self.known;
        for source in from.iter().filter(|source| self.own.contains(source)) {
            for column in known.get(*source).and_then(Option::as_ref).into_iter().flat_map(|known| &known.columns) {
                let at = self.among(to, column).filter(|at| self.has(*at, column));
                self.rules.extend(at.map(|at| Rule { from: vec![(*source, column)], to: (at, column) }));
            }
        }
    }

    /// Whether a query is run for the rows around it.
    fn meets(&self, level: &Level) -> bool {
        self.steps.take(level.around.len() + level.names.len());
        let around: HashSet<usize> = level.around.iter().copied().collect();
        level.names.iter().any(|name| self.place(name).is_some_and(|at| around.contains(&at)))
    }

    /// What stands around a query that is run once, and so multiplies nothing in it.
    fn apart(&self, level: &Level) -> &'j [usize] {
        let mut outer = level.outer;
        while let Some(level) = outer.and_then(|at| self.joins.levels.get(at)) {
            if !self.meets(level) {
                return &level.around;
            }
            outer = level.outer;
        }
        &[]
    }

    /// A source inside of a query whose rows refer to what is found: few of them for each.
    fn referring(&self, found: &Found<'j>, most: u64) -> Option<(usize, u64)> {
        let around = &self.joins.levels.get(self.block.inside?)?.around;
        let left = self.block.sources.iter().filter(|at| !found.sources.contains(at) && !around.contains(at));
        left.copied().find_map(|at| {
            let references = self.of_source(at).map_or(&[][..], |known| &known.references);
            self.steps.take(1 + references.len());
            let is_set = |column: &String| found.columns.contains(&(at, column.as_str()));
            let each = references.iter().find(|(from, each)| *each <= most && from.iter().all(is_set));
            each.map(|(_, each)| (at, *each))
        })
    }

    fn may_multiply(&self) -> bool {
        match self.block.inside.and_then(|at| self.joins.levels.get(at)) {
            None => self.grows(Found::default(), &[]),
            Some(level) => {
                if !self.meets(level) {
                    return false;
                }
                let found = Found { sources: self.apart(level).iter().copied().collect(), ..Found::default() };
                // What stands around comes first where rows of the query refer to it.
                self.grows(found.clone(), &[]) && self.grows(found, &level.around)
            }
        }
    }

    /// Whether what is left grows with more than one source. Those that come `first` are taken before others.
    fn grows(&self, mut found: Found<'j>, first: &[usize]) -> bool {
        let mut written = 1_u64;
        let mut put_first = Vec::new();
        for at in &self.block.sources {
            if let Some(Source::Rows(rows) | Source::Values(rows, _)) = self.joins.sources.get(*at) {
                let more = written.saturating_mul((*rows).max(1));
                if more <= WRITTEN {
                    written = more;
                    found.sources.insert(*at);
                    put_first.push((*at, (*rows).max(1)));
                }
            }
        }
        self.close(&mut found);
        let mut roots = 0;
        let mut product = written;
        let mut referring = FEW_REFERRING;
        while !self.steps.are_used_up() {
            let next = match self.referring(&found, referring).filter(|_| !first.is_empty()) {
                Some((next, each)) => {
                    referring /= each.max(1);
                    next
                }
                None => {
                    let Some(next) = self.best(&found, first).or_else(|| self.best(&found, &self.block.sources)) else {
                        break;
                    };
                    roots += 1;
                    product = product.saturating_mul(self.rows(next));
                    next
                }
            };
            found.sources.insert(next);
            self.close(&mut found);
        }
        // Those of which the rest picks one row each multiply nothing.
        let picked = put_first.iter().filter(|(at, _)| self.is_picked(*at, &found)).map(|(_, rows)| rows);
        let picked = picked.fold(1, |all: u64, rows| all.saturating_mul(*rows));
        (roots > 1 && product > FEW_ROWS) || (written / picked > FEW_WRITTEN && product / picked > MANY_ROWS)
    }

    /// The source from which most of what is left follows; of those the smallest.
    fn best(&self, found: &Found<'j>, among: &[usize]) -> Option<usize> {
        let left = among.iter().filter(|at| !found.sources.contains(at));
        left.copied().max_by_key(|at| {
            let mut with = found.clone();
            self.steps.take(found.sources.len() + found.columns.len());
            with.sources.insert(*at);
            self.close(&mut with);
            (with.sources.len(), std::cmp::Reverse(self.rows(*at)))
        })
    }

    fn rows(&self, at: usize) -> u64 {
        self.of_source(at).and_then(|known| known.rows).unwrap_or(u64::MAX)
    }

    fn of_source(&self, at: usize) -> Option<&'j Known> {
        self.known.get(at)?.as_deref()
    }

    /// Everything that follows from what is found.
    fn close(&self, found: &mut Found<'j>) {
        let mut is_done = false;
        while !is_done && !self.steps.are_used_up() {
            is_done = true;
            for rule in &self.rules {
                self.steps.take(1 + rule.from.len());
                let is_found = |one: &Column<'j>| found.sources.contains(&one.0) || found.columns.contains(one);
                if rule.from.iter().all(is_found) && found.columns.insert(rule.to) {
                    is_done = false;
                }
            }
            for at in self.block.sources.iter().filter(|at| !found.sources.contains(at)).copied().collect::<Vec<_>>() {
                if self.is_picked(at, found) {
                    found.sources.insert(at);
                    is_done = false;
                }
            }
        }
    }

    /// Whether what is found picks one row of a source by a key.
    fn is_picked(&self, at: usize, found: &Found<'j>) -> bool {
        let keys = self.of_source(at).map_or(&[][..], |known| &known.keys);
        self.steps.take(1 + keys.iter().map(Vec::len).sum::<usize>());
        let is_set = |column: &String| found.columns.contains(&(at, column.as_str()));
        keys.iter().any(|key| key.iter().all(is_set))
    }

    /// The source that a column belongs to: the nearest that is known to have it, else the only one it
    /// can be of.
    fn place(&self, name: &Reference) -> Option<usize> {
        match name.sources.as_slice() {
            [only] => Some(*only),
            sources => self.among(sources, &name.column),
        }
    }

    fn among(&self, sources: &[usize], column: &str) -> Option<usize> {
        self.steps.take(1 + sources.len());
        if let [only] = sources {
            return Some(*only);
        }
        let is_unknown = |at: &usize| self.of_source(*at).is_none_or(|known| known.columns.is_empty());
        let known = sources.iter().copied().find(|at| self.has(*at, column));
        known.or_else(|| sources.iter().copied().find(is_unknown))
    }

    fn has(&self, at: usize, column: &str) -> bool {
        self.of_source(at).is_some_and(|known| known.columns.contains(column))
    }
}
