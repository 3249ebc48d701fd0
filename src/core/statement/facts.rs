//! What is known of one statement. Unknown is a fact of its own, never "read".

use std::collections::HashSet;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::joins::Joins;

/// A name as written: the schema only where the statement gave one. Already folded and cut
/// as PostgreSQL folds and cuts identifiers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    pub schema: Option<String>,
    pub name: String,
}

impl Name {
    pub fn new(schema: Option<&str>, name: &str) -> Self {
        Self { schema: schema.map(str::to_owned), name: name.to_owned() }
    }

    /// Whether it may mean something temporary of the session's own.
    pub fn may_be_own(&self) -> bool {
        self.schema.as_deref().is_none_or(|schema| schema.starts_with("pg_temp"))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(out, "{schema}.{}", self.name),
            None => out.write_str(&self.name),
        }
    }
}

/// What running the statement does to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Reads rows or settings. May still call a function that writes: see [`Facts::functions`].
    Read,
    /// Changes rows by INSERT, UPDATE, DELETE, MERGE or COPY FROM, also inside a CTE or EXPLAIN ANALYZE.
    Write,
    /// Changes definitions or privileges: CREATE, ALTER, DROP, TRUNCATE, GRANT, COMMENT and kin.
    Ddl,
    /// Changes this session only: SET, RESET, PREPARE, DECLARE, LISTEN, DISCARD and kin.
    Session,
    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT and kin.
    Transaction,
    /// Runs code or maintenance whose effect the text does not show: DO, CALL, VACUUM, LOCK and kin.
    Utility,
    /// Not understood.
    Unknown,
}

impl Effect {
    /// The word used in JSON and in policies.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Ddl => "ddl",
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Utility => "utility",
            Self::Unknown => "unknown",
        }
    }
}

/// What is done to a relation's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowAction {
    Read,
    Insert,
    Update,
    Delete,
}

impl RowAction {
    /// The policy action of the same name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One relation that the statement names, what it does there, and where it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Touch {
    pub relation: Name,
    pub action: RowAction,
    /// Byte offset of the relation's name in the statement text.
    pub offset: Option<usize>,
    /// For an UPDATE or DELETE: whether its WHERE can leave rows out. Tautologies cannot.
    pub has_predicate: bool,
}

/// BEGIN and its kin, as far as the gateway must tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionVerb {
    Begin,
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
    TwoPhase,
}

/// Where COPY moves rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDirection {
    FromClient,
    ToClient,
    /// A file or program on the server.
    Server,
}

/// How many rows FOR UPDATE and its kin lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowLocks {
    None,
    /// So many for each row that the statement returns: one of every table that its clauses lock.
    Returned(u64),
    /// No more than a LIMIT lets through; all there are where that is a parameter.
    AtMost(u64),
    /// Nobody can tell from the text, and PostgreSQL does not count them.
    Uncounted,
}

impl RowLocks {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, one) | (one, Self::None) => one,
            (Self::AtMost(one), Self::AtMost(other)) => Self::AtMost(one.saturating_add(other)),
            (Self::Returned(one), Self::Returned(other)) => Self::Returned(one.max(other)),
            _ => Self::Uncounted,
        }
    }
}

/// Effects that no counter sees, as far as a statement has them: see `effects`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// It draws from a sequence, takes an advisory lock or notifies once a row of something.
    pub are_per_row: bool,
    /// It does so once a row that is counted where the relation is not the session's own.
    pub are_counted: bool,
    /// Functions in columns of a statement that does so: one that returns a set makes rows.
    pub beside: Vec<String>,
    /// Advisory locks that it takes at the most.
    pub locks: u64,
    /// It does so once a row only if each of these picks no more than one.
    pub keys: Vec<Key>,
    /// Relations whose defaults may do so, for rows that nobody counts.
    pub filled: Vec<Filled>,
}

/// The values that a query wants columns of its only relation to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub relation: Name,
    /// Columns that constants stand for, whose type is the column's.
    pub columns: Vec<String>,
    /// Those that parameters stand for: whoever binds one may give it another type.
    pub bound: Vec<String>,
}

/// A relation whose defaults are worked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    pub relation: Name,
    /// For rows that come with these columns; nothing where a table of the session's own takes the defaults
    /// over.
    pub given: Option<Vec<String>>,
}

impl Effects {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.are_per_row |= other.are_per_row;
        self.are_counted |= other.are_counted;
        self.beside.extend(other.beside);
        self.locks = self.locks.saturating_add(other.locks);
        self.keys.extend(other.keys);
        self.filled.extend(other.filled);
    }

    /// Of relations of these names nobody knows keys.
    pub fn forget(&mut self, is_other: &dyn Fn(&Name) -> bool) {
        self.are_per_row |= self.keys.iter().any(|key| is_other(&key.relation));
    }
}

/// Relations that a statement makes for its session alone: see `makes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Makes {
    /// As many as stand in the text.
    pub relations: u64,
    /// And as many more as another relation has indexes or parts; or they are defined by what that one is.
    pub takes_over: bool,
}

/// How definitions and maintenance get along with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Others wait for it.
    Blocking,
    /// It waits for others.
    Concurrent,
}

/// All that is known of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The leading words of the command in upper case, as in `SELECT`, `CREATE TABLE`, `ALTER ROLE`.
    pub verb: String,
    pub effect: Effect,
    pub touches: Vec<Touch>,
    /// Functions called anywhere in the statement, as written.
    pub functions: Vec<Name>,
    /// Operators used anywhere in it, as written: each is a function of its own or PostgreSQL's.
    pub operators: Vec<Name>,
    /// What is taken from a row by name, as in `x.name` and `(x).name`: where the row has no such
    /// column, PostgreSQL calls the function of that name.
    pub fields: Vec<String>,
    /// Types that something may be cast to, as written, columns and parameters among it: a cast may be a
    /// function, and a type may have a check that is one.
    pub casts: Vec<Name>,
    pub transaction: Option<TransactionVerb>,
    /// COMMIT or ROLLBACK that begins the next transaction at once.
    pub chains: bool,
    pub copy: Option<CopyDirection>,
    /// The setting that SET, RESET or `set_config('literal', …)` changes, in lower case.
    pub settings: Vec<String>,
    /// The relations that DROP and COMMENT ON name.
    pub objects: Vec<Name>,
    /// Of those that nobody has PostgreSQL says so, and does nothing: DROP with IF EXISTS, or of kinds
    /// that a catalog lists in full.
    pub may_be_absent: bool,
    /// The statement locks rows or tables beyond what its effect needs: FOR UPDATE, LOCK.
    pub locks: bool,
    /// It may keep others waiting until its transaction ends, by what it calls: told by who knows that.
    pub holds: bool,
    /// Rows that it locks by clauses of its own.
    pub row_locks: RowLocks,
    pub effects: Effects,
    pub makes: Makes,
    /// It names the row of a cursor, or an object by a text: see `leans`.
    pub leans: bool,
    /// It may run or grow without end in sight: see `shape`.
    pub unbounded: bool,
    /// It follows a path through XML that may take long, and which nothing ends: see `xpath`.
    pub endless_path: bool,
    /// Which relations come together, and by what: see `joins`.
    pub joins: Joins,
    /// It runs a text as SQL that nobody can read here: see `texts`.
    pub unread_text: bool,
    /// For an UPDATE or DELETE of one relation by itself: columns that its WHERE wants to be equal to
    /// one value each.
    pub pinned: Vec<String>,
    /// It is code of its own, or defines code of the session's own, that reads the DETAIL or CONTEXT of errors.
    pub reads_details: bool,
    /// EXPLAIN that runs what it explains and says how much that has logged.
    pub shows_wal: bool,
    /// What LISTEN listens to.
    pub channel: Option<String>,
    /// For PREPARE, EXECUTE, DECLARE and kin: the statement or cursor named.
    pub prepared: Option<String>,
    /// A FETCH that goes on in its cursor and returns no rows: MOVE.
    pub is_move: bool,
    /// The cursor it declares hands out its rows in their binary form.
    pub is_binary: bool,
    /// It changes rows and returns none: an INSERT, UPDATE, DELETE or MERGE without RETURNING.
    pub returns_nothing: bool,
    /// It may run as the owner of what it changes, once people have agreed: see `upkeep`.
    pub upkeep: Option<Upkeep>,
    /// It runs the prepared statement that it names, and so does what that does.
    pub executes: bool,
    /// Byte range of the statement in the text it came from.
    pub start: usize,
    pub end: usize,
}

/// Keeps the first of equal ones.
pub fn distinct<T: Clone + Eq + Hash>(all: &mut Vec<T>) {
    let mut seen = HashSet::with_capacity(all.len());
    all.retain(|one| seen.insert(one.clone()));
}

impl Facts {
    /// Facts of a statement about which only the verb and the effect are known.
    pub fn plain(verb: &str, effect: Effect) -> Self {
        Self {
            verb: verb.to_owned(),
            effect,
            touches: Vec::new(),
            functions: Vec::new(),
            operators: Vec::new(),
            fields: Vec::new(),
            casts: Vec::new(),
            transaction: None,
            chains: false,
            copy: None,
            settings: Vec::new(),
            objects: Vec::new(),
            may_be_absent: false,
            locks: false,
            holds: false,
            row_locks: RowLocks::None,
            effects: Effects::default(),
            makes: Makes::default(),
            leans: false,
            unbounded: false,
            endless_path: false,
            joins: Joins::default(),
            unread_text: false,
            pinned: Vec::new(),
            reads_details: false,
            shows_wal: false,
            channel: None,
            prepared: None,
            is_move: false,
            is_binary: false,
            returns_nothing: false,
            upkeep: None,
            executes: false,
            start: 0,
            end: 0,
        }
    }

    /// Everything that may be the call of a function, whatever its spelling.
    pub fn calls(&self) -> impl Iterator<Item = Name> {
        let fields = self.fields.iter().map(|field| Name::new(None, field));
        self.functions.iter().chain(&self.operators).chain(&self.casts).cloned().chain(fields)
    }

    /// The facts of a statement that runs this one, which was prepared, with these facts of its own:
    /// its parameters may call functions, and its rows may go into a relation.
    #[must_use]
    pub fn run_by(&self, outer: &Self) -> Self {
        fn both<T: Clone + Eq + Hash>(inner: &[T], outer: &[T]) -> Vec<T> {
            let mut all = [inner, outer].concat();
            distinct(&mut all);
            all
        }
        let effect = match (outer.effect, self.effect) {
            // Of EXECUTE itself nothing is known; rows that go into a temporary table are read first.
            (Effect::Unknown | Effect::Read, inner) | (Effect::Session, inner @ Effect::Write) => inner,
            (outer, _) => outer,
        };
        Self {
            verb: outer.verb.clone(),
            effect,
            touches: both(&self.touches, &outer.touches),
            functions: both(&self.functions, &outer.functions),
            operators: both(&self.operators, &outer.operators),
            fields: both(&self.fields, &outer.fields),
            casts: both(&self.casts, &outer.casts),
            transaction: None,
            chains: false,
            copy: None,
            settings: both(&self.settings, &outer.settings),
            reads_details: self.reads_details || outer.reads_details,
            shows_wal: self.shows_wal || outer.shows_wal,
            objects: Vec::new(),
            may_be_absent: false,
            locks: self.locks || outer.locks,
            holds: self.holds || outer.holds,
            row_locks: match (self.row_locks, outer.verb.as_str()) {
                (RowLocks::None, _) => outer.row_locks,
                (inner, "EXECUTE") => inner.and(outer.row_locks),
                // Its rows go elsewhere, or nowhere.
                _ => RowLocks::Uncounted,
            },
            joins: {
                let mut joins = self.joins.clone();
                joins.add(outer.joins.clone());
                joins
            },
            effects: {
                let mut effects = self.effects.clone();
                effects.add(outer.effects.clone());
                effects
            },
            makes: outer.makes,
            leans: self.leans || outer.leans,
            unbounded: self.unbounded || outer.unbounded,
            endless_path: self.endless_path || outer.endless_path,
            unread_text: self.unread_text || outer.unread_text,
            pinned: self.pinned.clone(),
            channel: None,
            prepared: outer.prepared.clone(),
            is_move: outer.is_move,
            is_binary: outer.is_binary,
            returns_nothing: outer.returns_nothing,
            upkeep: None,
            executes: true,
            start: outer.start,
            end: outer.end,
        }
    }

    /// Whether a search path, or what the session has made for itself, decides what it touches.
    pub fn names_unqualified(&self) -> bool {
        self.touches.iter().any(|touch| touch.relation.may_be_own())
    }

    /// Whether it names nothing that a search path, or what the session has made for itself, decides on: settings
    /// and transactions.
    pub fn names_nothing(&self) -> bool {
        (matches!(self.effect, Effect::Session | Effect::Transaction) || self.verb == "SHOW")
            && self.touches.is_empty()
            && self.objects.is_empty()
            && self.functions.is_empty()
            && self.prepared.is_none()
    }

    /// The prepared statement that it runs.
    pub fn executed(&self) -> Option<&str> {
        self.prepared.as_deref().filter(|_| self.executes)
    }

    /// Whether rows can change by what the text itself says.
    pub fn writes(&self) -> bool {
        self.written().next().is_some()
    }

    /// What the text changes.
    pub fn written(&self) -> impl Iterator<Item = &Touch> {
        self.touches.iter().filter(|touch| touch.action != RowAction::Read)
    }
}
