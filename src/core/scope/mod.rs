//! Step 2, credential: what the policy grants a principal, as database privileges.
//!
//! [`catalog`] is what exists; [`compile`] asks the policy about every relation and column of it;
//! the answer is a [`Scope`], whose canonical form has a digest that names the role made for it.
//! [`explain`] says what a scope grants; the GRANTs are written from the same answer. [`telling`] finds
//! the writes whose outcome would say something of what is masked.

pub mod catalog;
pub mod change;
pub mod compile;
pub mod explain;
pub mod telling;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::grant::Access;
use crate::core::mask::identifier;

/// Privileges, masks and refusals of one principal on one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// `pg_control_system().system_identifier` of the cluster: a digest never names two clusters.
    pub cluster: String,
    pub database: String,
    pub access: Access,
    /// Schemas with at least one granted relation.
    pub schemas: Vec<String>,
    /// By `(schema, name)`; relations that are not here are not granted at all.
    pub relations: BTreeMap<RelationName, RelationScope>,
    /// Relations that the policy allows but that cannot be made safe, with the reason.
    pub withheld: BTreeMap<RelationName, String>,
}

/// A relation's full name. Serialises as one string so that it can be a JSON key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct RelationName {
    pub schema: String,
    pub name: String,
}

impl RelationName {
    pub fn new(schema: &str, name: &str) -> Self {
        Self { schema: schema.to_owned(), name: name.to_owned() }
    }

    /// As SQL spells it, whatever is in it.
    pub fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }
}

impl std::fmt::Display for RelationName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}", self.schema, self.name)
    }
}

/// NUL cannot stand in a PostgreSQL name, so it separates without doubt.
impl From<RelationName> for String {
    fn from(name: RelationName) -> Self {
        format!("{}\0{}", name.schema, name.name)
    }
}

impl From<String> for RelationName {
    fn from(text: String) -> Self {
        let (schema, name) = text.split_once('\0').unwrap_or(("", &text));
        Self::new(schema, name)
    }
}

/// What may be done with one relation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationScope {
    pub oid: u32,
    pub read: bool,
    pub insert: bool,
    pub update: bool,
    pub delete: bool,
    /// Every column in order of its number.
    pub columns: Vec<ColumnScope>,
    /// The masking view that stands for the relation, where one is needed: `(schema, name)`.
    pub view: Option<(String, String)>,
    /// A condition that rows must meet to be seen or written, in SQL; then the view is the only door.
    pub filter: Option<String>,
    /// For a view over masked relations: its definition over what stands for them. It stands in each
    /// statement in place of the view, or in a masking view where the view has one.
    pub rebuilt: Option<String>,
    /// Sequences that a granted INSERT draws from, or the sequence itself; `(schema, name)`.
    pub sequences: Vec<(String, String)>,
    /// Writes that the policy allows by themselves, but not what their outcome would tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<Untold>,
}

/// The `@id` that stands for no rule of a policy.
pub const BUILT_IN: &str = "built-in";

/// A right to write that is not given, since whether a write goes through would tell something of a
/// masked column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Untold {
    pub right: explain::Right,
    /// None: whole rows.
    pub column: Option<String>,
    /// What PostgreSQL would look at, as in `unique index customers_email_key`.
    pub constraint: String,
    /// The masked column that it would tell of, as `schema.relation.column`, or what else it would show.
    pub of: String,
    /// The `@id` of the rule that forbids to guess at it; [`BUILT_IN`] where it would be shown.
    pub rule: String,
}

impl RelationScope {
    /// Whether a right that the policy allows is kept back on a column, or on whole rows.
    pub fn keeps_back(&self, right: explain::Right, column: Option<&str>) -> bool {
        self.untold.iter().any(|one| one.right == right && one.column.as_deref() == column)
    }

    /// Whether all of a right that the policy allows is given.
    pub fn gives_all(&self, right: explain::Right) -> bool {
        self.allows(right) && self.untold.iter().all(|one| one.right != right)
    }

    /// Whether a column of it may not be read as it is.
    pub fn is_masked(&self) -> bool {
        self.columns.iter().any(|column| column.mask.is_some())
    }

    /// Whether the role holds no right on the relation itself, only on its view.
    pub fn is_closed(&self) -> bool {
        self.filter.is_some() || self.rebuilt.is_some()
    }

    /// Whether reading it needs something spliced in its place.
    pub fn is_replaced(&self) -> bool {
        self.is_masked() || self.is_closed()
    }

    /// The view that takes new rows, where RETURNING could show a part of a masked column and where rows
    /// are filtered. It has the relation's columns in their order, to be written, and then those that show
    /// a part, to be read.
    ///
    /// Where rows are filtered nothing can be changed through it: ON CONFLICT DO UPDATE does not ask a
    /// view's condition about the row that is there already, so it would reach rows that are left out, and
    /// bring them into sight.
    pub fn rows_view(&self) -> Option<(String, String)> {
        let has_parts = self.columns.iter().any(|column| column.shown_by().is_some());
        let is_needed = self.filter.is_some() || (has_parts && !self.is_closed());
        let (schema, name) = self.view.as_ref().filter(|_| is_needed && self.insert && self.read)?;
        Some((schema.clone(), format!("{name}_rows")))
    }

    /// What the policy says, before masks and filters narrow it.
    pub fn allows(&self, right: explain::Right) -> bool {
        match right {
            explain::Right::Select => self.read,
            explain::Right::Insert => self.insert,
            explain::Right::Update => self.update,
            explain::Right::Delete => self.delete,
        }
    }
}

/// One column: readable as it is, or masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnScope {
    pub name: String,
    pub number: i16,
    /// `format_type` text, schema-qualified where needed: what the mask is cast to.
    pub type_name: String,
    pub type_oid: u32,
    pub mask: Option<ColumnMask>,
    /// Generated and identity-always columns take no value.
    pub is_generated: bool,
}

impl ColumnScope {
    /// The name of the column that shows a part of this one beside it, in the view that takes new rows.
    pub fn shown_by(&self) -> Option<String> {
        self.mask.as_ref().filter(|mask| mask.discloses).map(|_| format!("dbgate mask {}", self.number))
    }
}

/// How a column is masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnMask {
    /// The mask's name, as in `@mask("email")`.
    pub name: String,
    /// The SQL expression that stands for the column; refers to the column by its quoted name where it discloses.
    pub expression: String,
    /// Whether the expression has to stand in a masking view: it reads the column, or names types that
    /// the reader may not be able to name.
    pub discloses: bool,
    /// The `@id` of the rule that decided.
    pub rule: String,
}

impl Scope {
    /// Whether something of the database is kept from who has it.
    pub fn hides(&self) -> bool {
        !self.withheld.is_empty() || self.relations.values().any(RelationScope::is_replaced)
    }

    /// SHA-256 of the canonical JSON, hex.
    pub fn digest(&self) -> String {
        use sha2::Digest as _;
        let canonical = serde_json::to_vec(self).expect("a scope has string keys only and no floats");
        crate::core::encoding::hex(&sha2::Sha256::digest(&canonical))
    }
}
