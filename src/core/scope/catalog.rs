//! A snapshot of what exists in a target database. Read by `server::catalog`; a value here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::RelationName;
use super::explain::Right;
use crate::core::mask::own_types::Types;

/// What `pg_class.relkind` says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    Table,
    Partitioned,
    View,
    MaterializedView,
    Foreign,
    Sequence,
}

/// One relation outside the system schemas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    pub oid: u32,
    pub name: RelationName,
    pub kind: RelationKind,
    pub columns: Vec<Column>,
    /// OIDs of the tables it inherits from or is a partition of.
    pub parents: Vec<u32>,
    /// For views and materialized views: `(relation oid, attribute)` pairs they depend on; attribute 0 is the whole row.
    pub depends_on: Vec<(u32, i16)>,
    pub has_row_security: bool,
    /// Its row policies are for some roles only, look at who asks, or call functions of the database's
    /// own, which may.
    pub has_user_policies: bool,
    /// For a view or materialized view: its query, every name outside `pg_catalog` with its schema.
    pub definition: Option<String>,
    /// `pg_class.reltuples`, an estimate; negative when never analysed.
    pub estimated_rows: i64,
    /// Sequences its column defaults draw from.
    pub sequences: Vec<RelationName>,
    /// Attribute numbers of each unique key that holds for all of its rows at any time.
    #[serde(default)]
    pub unique_keys: Vec<Vec<i16>>,
    /// Indexes, checks, foreign keys and the like that look at the values of a row as it is written.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    /// A table that calls no code but PostgreSQL's own when its rows are read or changed: a rollback takes back
    /// all that a change does.
    #[serde(default)]
    pub is_inert: bool,
}

impl Relation {
    /// Whether its unique keys hold for all rows that are read under its name: one of a parent says nothing
    /// of its children, one of a partitioned table does.
    pub fn keys_hold(&self, has_children: impl FnOnce() -> bool) -> bool {
        self.kind == RelationKind::Partitioned || !has_children()
    }
}

/// What PostgreSQL holds a written row against.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Constraint {
    /// Kind and name, as in `unique index customers_email_key`.
    pub name: String,
    /// Attribute numbers of the columns it looks at; 0 is the whole row.
    pub columns: Vec<i16>,
    pub against: Against,
}

/// Which values a row is compared with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// Those of other rows. `is_plain`: each column by itself, so that a row which leaves one out says
    /// nothing of it.
    Rows { is_plain: bool },
    /// Others of the same row.
    Itself,
    /// The bounds of its partitions.
    Bounds,
    /// What a session chooses: a setting, rows of another relation, its address.
    Session,
    /// Those of another relation's columns, by its OID, one for one.
    Relation { oid: u32, columns: Vec<i16> },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub number: i16,
    pub type_name: String,
    pub type_oid: u32,
    pub not_null: bool,
    pub has_default: bool,
    /// It takes no value: worked out, or an identity that is always the server's.
    pub is_generated: bool,
    /// Worked out from others, so that COPY leaves it out.
    #[serde(default)]
    pub is_computed: bool,
    /// For a generated column: the attribute numbers it is computed from.
    pub generated_from: Vec<i16>,
}

/// A default or a rule that a write runs, and for which it may be lent rights that the writer does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// Kind and name, as in `rule keeps_a_copy`.
    pub by: String,
    /// The write that runs it.
    pub right: Right,
    /// The column whose default it is.
    pub column: Option<i16>,
    /// What it calls of [`Catalog::definer_functions`].
    pub calls: BTreeSet<RelationName>,
    /// What a rule reads as the relation's owner: relation and attribute, 0 for the whole row, -1 for none of it.
    pub reads: BTreeSet<(u32, i16)>,
    /// What a rule writes to as the relation's owner.
    pub writes: BTreeSet<(u32, Right)>,
}

/// Everything the gateway knows of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    pub cluster: String,
    pub database: String,
    /// `server_version_num`, as in 150018.
    pub server_version: u32,
    /// `server_version`, as in `15.18`.
    pub server_version_text: String,
    pub relations: BTreeMap<RelationName, Relation>,
    /// What the database's own types are made of, as far as columns have them.
    #[serde(default)]
    pub types: Types,
    /// Names (without schema) of functions any overload of which is VOLATILE, `pg_catalog` included, or may call
    /// one that is.
    pub volatile_functions: BTreeSet<String>,
    /// Names of functions any overload of which returns a set.
    #[serde(default)]
    pub set_functions: BTreeSet<String>,
    /// Every function name there is; a call of another name is unknown and so unsafe.
    pub known_functions: BTreeSet<String>,
    /// Names of functions any overload of which is not IMMUTABLE, and is PostgreSQL's own or written in C:
    /// what they return may depend on the session.
    #[serde(default)]
    pub unsteady_functions: BTreeSet<String>,
    /// Names of functions that the database has by itself, written in another language than C.
    #[serde(default)]
    pub own_functions: BTreeSet<String>,
    /// What ends in code with its owner's rights although PUBLIC may call it, outside `pg_catalog`: SECURITY
    /// DEFINER functions, functions and aggregates over them, operators that call them, types that they cast to.
    pub definer_functions: BTreeSet<RelationName>,
    /// Types whose values such a function checks or fills in: domains, and what has one inside of it.
    #[serde(default)]
    pub definer_types: BTreeSet<RelationName>,
    /// What reads the DETAIL of errors, in which PostgreSQL quotes rows, and PUBLIC may call: functions, and
    /// what calls them.
    #[serde(default)]
    pub detail_functions: BTreeSet<RelationName>,
    /// Relations with a column of such a type, by OID.
    #[serde(default)]
    pub carried: BTreeMap<u32, RelationName>,
    /// By a relation's OID: what a write to it runs that may use other rights than the writer's.
    #[serde(default)]
    pub lent: BTreeMap<u32, Vec<Lent>>,
    /// OIDs of relations where reading or changing rows may run dynamic SQL: a text that is put together as it
    /// runs, in a trigger for instance.
    #[serde(default)]
    pub dynamic: BTreeSet<u32>,
    /// Operators, casts and domains outside `pg_catalog` exist that may call a function which writes.
    pub has_volatile_operators: bool,
}

impl Catalog {
    /// Whether every function of this name is known, and none can write.
    pub fn is_calm(&self, function: &str) -> bool {
        self.known_functions.contains(function) && !self.volatile_functions.contains(function)
    }

    /// Whether a relation, perhaps of another catalog, is the one that has its name here, and no dynamic SQL may run
    /// behind it.
    pub fn is_static(&self, relation: &Relation) -> bool {
        let is_it = |here: &Relation| here.oid == relation.oid && !self.dynamic.contains(&here.oid);
        self.relations.get(&relation.name).is_some_and(is_it)
    }

    /// The relation with this OID.
    pub fn by_oid(&self, oid: u32) -> Option<&Relation> {
        self.relations.values().find(|relation| relation.oid == oid)
    }

    /// The tables that the relation is part of in the end, by partitioning or inheritance; itself where
    /// it is part of none.
    pub fn roots(&self, name: &RelationName) -> BTreeSet<RelationName> {
        let (mut roots, mut seen, mut next) = (BTreeSet::new(), BTreeSet::new(), vec![name.clone()]);
        while let Some(name) = next.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let parents = self.relations.get(&name).map_or(&[][..], |relation| &relation.parents);
            match parents {
                [] => drop(roots.insert(name)),
                parents => next.extend(parents.iter().filter_map(|oid| self.by_oid(*oid)).map(|one| one.name.clone())),
            }
        }
        roots
    }

    /// Whether no more than one row of the relation, those of its children included, can have these
    /// values in these columns.
    pub fn is_unique(&self, relation: &Relation, columns: &[String]) -> bool {
        let number = |name: &String| relation.columns.iter().find(|column| column.name == *name);
        let pinned: BTreeSet<i16> = columns.iter().filter_map(number).map(|column| column.number).collect();
        let is_pinned =
            relation.unique_keys.iter().any(|key| !key.is_empty() && key.iter().all(|column| pinned.contains(column)));
        is_pinned && relation.keys_hold(|| self.has_children(relation))
    }

    /// Whether others inherit from it or are partitions of it.
    pub fn has_children(&self, relation: &Relation) -> bool {
        self.relations.values().any(|other| other.parents.contains(&relation.oid))
    }

    /// The OIDs of the tables that others inherit from or are partitions of.
    pub fn parents(&self) -> BTreeSet<u32> {
        self.relations.values().flat_map(|relation| &relation.parents).copied().collect()
    }

    /// The relation a name means under a search path; the first schema that has it wins.
    pub fn resolve(&self, schema: Option<&str>, name: &str, search_path: &[String]) -> Option<&Relation> {
        match schema {
            Some(schema) => self.relations.get(&RelationName::new(schema, name)),
            None => search_path.iter().find_map(|schema| self.relations.get(&RelationName::new(schema, name))),
        }
    }
}
