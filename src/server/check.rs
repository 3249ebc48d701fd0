//! Step 4, check: from a text to what may be forwarded, and how it must be held.

mod filters;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::approval::Lift;
use crate::core::grant::Access;
use crate::core::mask;
use crate::core::policy::{Cleared, Denial, Policy, Subject, Verdict, text_runner};
use crate::core::scope::catalog::{Catalog, Relation, RelationKind};
use crate::core::scope::{RelationName, RelationScope, Scope};
use crate::core::statement::facts::{Effect, Facts, Name, RowAction, RowLocks, Touch};
use crate::core::statement::grammar::{Statement, TEMP_VIEW};
use crate::core::statement::lock_table;
use crate::core::statement::plain::{self, Columns};
use crate::core::statement::splice::{self, Masks, SpliceError, Spliced, Spot};

/// The code of a denial that says what PostgreSQL would say of a name it does not know.
pub const NOT_PREPARED: &str = "not_prepared";
/// The code of a refusal to keep yet another name.
pub const TOO_MANY: &str = "too_many_names";
/// The same as of a name it does not know, of bytes that are no text.
pub const NOT_TEXT: &str = "not_text";
/// The same of a relation of another kind than the statement takes.
pub const WRONG_KIND: &str = "wrong_kind";

/// How a statement is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// As it comes: nothing in it can change rows.
    Not,
    /// Behind a transaction that the server keeps read-only.
    ReadOnly,
    /// Held before commit and counted.
    Counted,
    /// Held and counted inside a transaction block of the gateway's own, so that it cannot commit by itself.
    OwnBlock,
}

impl Hold {
    /// Whether it may change rows, and so is counted before it is committed.
    pub const fn is_counted(self) -> bool {
        match self {
            Self::Counted | Self::OwnBlock => true,
            Self::Not | Self::ReadOnly => false,
        }
    }
}

/// A statement that may run.
#[derive(Clone, Debug)]
pub struct Planned {
    pub cleared: Cleared,
    /// What goes to the target: the client's text, or the verified splice.
    pub forward: String,
    /// Whether `forward` differs from what the client sent.
    pub is_spliced: bool,
    /// The client's text of a PREPARE, for when it is judged again.
    pub prepares: Option<Arc<str>>,
    pub hold: Hold,
    /// Masked relations that were spliced, to map result columns back.
    pub masked: Arc<[RelationName]>,
}

impl Planned {
    /// Whether it changes rows and returns none.
    pub fn returns_nothing(&self) -> bool {
        self.cleared.facts().returns_nothing
    }
}

/// What a session may do to temporary relations of its own, and to nothing else.
const OF_OWN: [&str; 14] = [
    "CREATE INDEX",
    "ALTER TABLE",
    "ALTER SEQUENCE",
    "RENAME",
    "TRUNCATE",
    "ANALYZE",
    "VACUUM",
    "VACUUM FULL",
    "REINDEX",
    "CLUSTER",
    "COMMENT",
    "GRANT",
    "REVOKE",
    "DROP",
];

/// Those that evaluate nothing.
const TAME_OF_OWN: [&str; 6] = ["RENAME", "TRUNCATE", "COMMENT", "GRANT", "REVOKE", "DROP"];

/// Names that only the gateway uses.
pub const RESERVED: &str = "dbgate_";

/// What the session knows when it checks a statement.
pub struct Check<'a> {
    pub policy: &'a Policy,
    pub subject: Subject<'a>,
    pub scope: &'a Scope,
    pub catalog: &'a Catalog,
    /// Schemas that unqualified names are looked for in, as the server reports them.
    pub search_path: &'a [String],
    /// Names of this session's temporary relations: they come before any schema.
    pub temporary: &'a [String],
    /// A temporary view may stand for any unqualified name.
    pub has_own_views: bool,
    /// What SQL PREPARE or a protocol Parse has made, by name.
    pub prepared: &'a BTreeMap<String, Arc<Planned>>,
    /// What people have let through of this statement.
    pub lift: Option<&'a Lift>,
}

impl Check<'_> {
    /// Judges a statement, splices what is masked in it, and says how to hold it.
    ///
    /// # Errors
    /// A denial, for the person.
    pub fn plan(&self, statement: &Statement) -> Result<Planned, Box<Denial>> {
        if let Some(denial) = out_of_bounds(&statement.facts).or_else(|| self.renames_settings(&statement.facts)) {
            return Err(denial);
        }
        let mut facts = self.own(self.with_prepared(&statement.facts)?);
        if let Some(denial) = self.writes_in_passing(statement, &facts) {
            return Err(denial);
        }
        if facts.locks && facts.touches.iter().any(|touch| self.may_be_own_view(&touch.relation)) {
            facts.row_locks = RowLocks::Uncounted;
        }
        // Nobody counts the rows of what is the session's own, or of what a view makes of them.
        let is_counted = |touch: &Touch| touch.action == RowAction::Read || self.is_counted(&touch.relation);
        facts.effects.are_per_row |=
            facts.effects.are_counted && (facts.effect == Effect::Session || !facts.touches.iter().all(is_counted));
        // Of its own relations nobody knows keys, and views of its own may go by any name.
        let is_other = |name: &Name| name.may_be_own() && (self.has_own_views || self.temporary.contains(&name.name));
        facts.joins.forget(&is_other);
        facts.effects.forget(&is_other);
        let hold = self.hold(&facts);
        // What FETCH and EXECUTE run has said so itself.
        facts.holds = hold != Hold::Not && !(facts.effect == Effect::Read && self.is_calm(&facts));
        if facts.verb == "DECLARE WITH HOLD" && hold != Hold::Not {
            return Err(refused(
                "cursor_with_hold",
                "a cursor WITH HOLD runs after the last count, so it may call only functions that cannot write",
                "declare it without WITH HOLD",
            ));
        }
        let verdict =
            self.policy.judge_lifted(&self.subject, facts, self.scope, self.catalog, self.search_path, self.lift);
        let cleared = match verdict {
            Verdict::Allow(cleared) => cleared,
            Verdict::NeedApproval(denial) | Verdict::Deny(denial) => return Err(Box::new(denial)),
        };
        let denial = self.goes_round_a_filter(cleared.facts());
        let denial = denial.or_else(|| self.measures_what_is_masked(cleared.facts()));
        if let Some(denial) = denial.or_else(|| self.is_newer(cleared.facts())) {
            return Err(denial);
        }
        let mut masked = Vec::new();
        for touch in &cleared.facts().touches {
            if let Some(name) = self.masked(touch.relation.schema.as_deref(), &touch.relation.name) {
                masked.push(name);
            }
        }
        if let Some(denial) = self.copies_no_table(statement).filter(|_| !masked.is_empty()) {
            return Err(denial);
        }
        let locked = lock_table::without(statement, &|schema, name| self.masked(schema, name).is_some());
        if locked.is_some() || (!masked.is_empty() && self.names_only_what_is_shown(statement)) {
            masked.clear();
        }
        // What runs as the owner of what it changes reads nothing.
        let spliced = match masked.is_empty() || cleared.facts().upkeep.is_some() {
            true => locked,
            false => self.splice(statement)?.map(|spliced| spliced.text),
        };
        let is_spliced = spliced.is_some();
        let prepares = (cleared.facts().verb == "PREPARE").then(|| statement.text.as_str().into());
        Ok(Planned {
            prepares,
            cleared,
            forward: spliced.unwrap_or_else(|| statement.text.clone()),
            is_spliced,
            hold,
            masked: masked.into(),
        })
    }

    /// A relation that was made after the scope: nobody has looked whether it shows what is masked, and
    /// PostgreSQL lets everybody read it where its owner has given it to PUBLIC.
    fn is_newer(&self, facts: &Facts) -> Option<Box<Denial>> {
        let is_own = |name: &Name| name.schema.is_none() && self.is_temporary(&name.name);
        let newer = facts.touches.iter().filter(|touch| !is_own(&touch.relation)).find_map(|touch| {
            let name = &touch.relation;
            let relation = self.resolve(name)?;
            let is_known = self.scope.relations.contains_key(&relation.name)
                || self.scope.withheld.contains_key(&relation.name)
                || matches!(relation.name.schema.as_str(), "pg_catalog" | "information_schema");
            (!is_known).then_some(&relation.name)
        });
        newer.filter(|_| self.scope.hides()).map(|name| {
            let what = format!("{name} was made after this access was given");
            refused("made_later", &what, "ask for access again")
        })
    }

    /// A relation of the session's own in the place of pg_settings could say that a setting has another name.
    fn renames_settings(&self, facts: &Facts) -> Option<Box<Denial>> {
        let is_own = |name: &Name| is_settings(name) && name.schema.is_none() && self.is_temporary(&name.name);
        let mut named = facts.touches.iter().map(|touch| &touch.relation);
        (!facts.settings.is_empty() && named.any(is_own))
            .then(|| refused("settings_by_update", "pg_settings is a temporary relation here", "use SET name = value"))
    }

    /// EXECUTE does what the prepared statement does, wherever it stands.
    fn with_prepared(&self, facts: &Facts) -> Result<Facts, Box<Denial>> {
        let Some(name) = facts.executed() else { return Ok(facts.clone()) };
        match self.prepared.get(name) {
            Some(planned) => Ok(planned.cleared.facts().run_by(facts)),
            None => {
                Err(refused(NOT_PREPARED, &format!("prepared statement \"{name}\" does not exist"), "prepare it first"))
            }
        }
    }

    /// Definitions of the session's own temporary relations concern nobody else, and neither does
    /// DROP of what nobody has: only an owner's role could drop what has come there meanwhile.
    fn own(&self, facts: Facts) -> Facts {
        let is_own = |name: &Name| match name.schema.as_deref() {
            None => self.is_temporary(&name.name),
            Some(schema) => schema == "pg_temp",
        };
        let is_absent = |name: &Name| facts.may_be_absent && self.resolve(name).is_none();
        // A lock on a view is one on what the view reads.
        let is_definition = OF_OWN.contains(&facts.verb.as_str()) || (facts.verb == "LOCK" && !self.has_own_views);
        let mut named = facts.touches.iter().map(|touch| &touch.relation).chain(&facts.objects).peekable();
        match is_definition && named.peek().is_some() && named.all(|name| is_own(name) || is_absent(name)) {
            true => Facts { effect: Effect::Session, upkeep: None, ..facts },
            false => facts,
        }
    }

    /// What PostgreSQL says to COPY of what is no plain table. The query that stands for a masked one
    /// would answer rows.
    fn copies_no_table(&self, statement: &Statement) -> Option<Box<Denial>> {
        let (schema, name) = statement.copied_out()?;
        let kind = match self.catalog.resolve(schema, name, self.search_path)?.kind {
            RelationKind::View => "view",
            RelationKind::Foreign => "foreign table",
            RelationKind::Partitioned => "partitioned table",
            // From PostgreSQL 18 on it takes materialized views as well.
            RelationKind::Table | RelationKind::MaterializedView | RelationKind::Sequence => return None,
        };
        let message = format!("cannot copy from {kind} \"{name}\"");
        Some(refused(WRONG_KIND, &message, "Try the COPY (SELECT ...) TO variant."))
    }

    /// Whether rows that are written to it are counted.
    fn is_counted(&self, name: &Name) -> bool {
        let is_temporary = match name.schema.as_deref() {
            None => self.is_temporary(&name.name),
            Some(schema) => schema.starts_with("pg_temp"),
        };
        let relation = self.resolve(name);
        let is_table = |one: &Relation| matches!(one.kind, RelationKind::Table | RelationKind::Partitioned);
        !is_temporary && relation.is_some_and(is_table)
    }

    /// The relation that a name means, unless it is the session's own.
    fn resolve(&self, name: &Name) -> Option<&Relation> {
        self.catalog.resolve(name.schema.as_deref(), &name.name, self.search_path)
    }

    /// Whether a name without a schema means a temporary relation of the session.
    fn is_temporary(&self, name: &str) -> bool {
        self.temporary.iter().any(|own| own == name) && !self.is_behind_another(name)
    }

    /// Whether it may be a view of the session's own: what such a view reads is locked.
    fn may_be_own_view(&self, name: &Name) -> bool {
        self.has_own_views && name.may_be_own() && (name.schema.is_some() || self.temporary.contains(&name.name))
    }

    /// Whether a search path that names pg_temp puts a schema with such a relation before it.
    fn is_behind_another(&self, name: &str) -> bool {
        let before = self.search_path.iter().take_while(|schema| !schema.starts_with("pg_temp"));
        let mut names = before.map(|schema| RelationName::new(schema, name));
        names.any(|name| self.catalog.relations.contains_key(&name))
    }

    /// The role may read these columns of the relation itself, and PostgreSQL knows more of it than
    /// of what would stand in its place.
    fn names_only_what_is_shown(&self, statement: &Statement) -> bool {
        let columns = |schema: Option<&str>, name: &str| {
            let scope = self.scope.relations.get(&self.masked(schema, name)?)?;
            if scope.is_closed() {
                return Some(Columns::default());
            }
            let named = |is_masked: bool| {
                let columns = scope.columns.iter().filter(move |column| column.mask.is_some() == is_masked);
                columns.map(|column| column.name.clone()).collect()
            };
            Some(Columns { shown: named(false), hidden: named(true) })
        };
        plain::names_only_what_is_shown(statement, &columns)
    }

    /// What stands for a statement that reads anything masked.
    ///
    /// # Errors
    /// Nothing can stand for it.
    pub fn splice(&self, statement: &Statement) -> Result<Option<Spliced>, Box<Denial>> {
        let stands_for = |schema: Option<&str>, name: &str, spot: Spot| {
            let full = self.masked(schema, name)?;
            let (scope, relation) = (self.scope.relations.get(&full)?, self.catalog.relations.get(&full)?);
            // A view shows the rows of children, too.
            if spot == Spot::RowsOfItself && scope.view.is_some() && self.catalog.has_children(relation) {
                return Some(Err(SpliceError::OnlyItself));
            }
            let text = match spot {
                Spot::Rows | Spot::RowsOfItself => Some(mask::splice_text(&full, scope, spot == Spot::RowsOfItself)),
                // Only where the relation itself is out of reach: else the role writes it directly.
                Spot::Target | Spot::NewRows | Spot::ShownTarget | Spot::ShownRows if scope.view.is_none() => None,
                Spot::ShownRows if !scope.is_closed() => mask::rows_view(scope),
                Spot::NewRows | Spot::ShownRows if scope.rows_view().is_some() && scope.is_closed() => {
                    mask::rows_view(scope)
                }
                Spot::ShownTarget => Some(mask::splice_text(&full, scope, false)),
                Spot::Target | Spot::NewRows | Spot::ShownRows => {
                    scope.is_closed().then(|| mask::splice_text(&full, scope, false))
                }
            };
            text.map(Ok)
        };
        let source = |schema: Option<&str>, name: &str, spot: Spot| stands_for(schema, name, spot).transpose();
        let copied = |schema: Option<&str>, name: &str| {
            let relation = self.catalog.relations.get(&self.masked(schema, name)?)?;
            let columns = relation.columns.iter().filter(|column| !column.is_computed);
            Some(columns.map(|column| column.name.clone()).collect())
        };
        let columns = |schema: Option<&str>, name: &str| {
            let full = self.masked(schema, name)?;
            // A view that stands for its relation returns masked values by itself; the one that takes new rows
            // has columns that are not to be read.
            let is_named = |scope: &&RelationScope| !scope.is_closed() || scope.rows_view().is_some();
            self.scope.relations.get(&full).filter(is_named).map(|scope| mask::returned(&full, scope))
        };
        let groups = |schema: Option<&str>, name: &str| {
            let full = self.masked(schema, name)?;
            let (scope, relation) = (self.scope.relations.get(&full)?, self.catalog.relations.get(&full)?);
            Some(mask::grouping(scope, relation, self.catalog))
        };
        splice::splice(statement, Masks { source: &source, copied: &copied, columns: &columns, groups: &groups })
            .map_err(|error| {
                refused(
                    "masked_form",
                    &format!("this statement reads a masked relation in a way that cannot be rewritten: {error}"),
                    "select from the relation in FROM, under an alias of its own",
                )
            })
    }

    /// What the query changes that fills a table as it is made: it commits with it, uncounted.
    fn writes_in_passing(&self, statement: &Statement, facts: &Facts) -> Option<Box<Denial>> {
        let may_write = || facts.functions.iter().any(|function| !self.catalog.is_calm(&function.name));
        let writes = facts.effect == Effect::Ddl && statement.is_filled() && (facts.writes() || may_write());
        writes.then(|| {
            let message = "what a query changes while it fills a new table cannot be counted";
            refused("write_in_definition", message, "make the table first, then write to it")
        })
    }

    /// The full name, if it means a relation that must be read through a splice.
    fn masked(&self, schema: Option<&str>, name: &str) -> Option<RelationName> {
        if schema.is_none() && self.is_temporary(name) {
            return None;
        }
        let relation = self.catalog.resolve(schema, name, self.search_path)?;
        let scope = self.scope.relations.get(&relation.name)?;
        (scope.read && scope.is_replaced()).then(|| relation.name.clone())
    }

    /// How much of an eye must be kept on it while it runs.
    fn hold(&self, facts: &Facts) -> Hold {
        match facts.effect {
            Effect::Write => Hold::Counted,
            // It runs in no block, and commits by its own word.
            Effect::Utility if facts.verb.starts_with("VACUUM") => Hold::Not,
            Effect::Utility => Hold::OwnBlock,
            // What was put off happens there and then.
            Effect::Session if facts.verb == "SET CONSTRAINTS" => Hold::Counted,
            // It runs in no transaction, and what is the session's own holds nothing to be counted.
            Effect::Session if facts.verb.starts_with("VACUUM") => Hold::Not,
            // Constraints and expressions that earlier statements have put there are evaluated.
            Effect::Session if OF_OWN.contains(&facts.verb.as_str()) && !TAME_OF_OWN.contains(&facts.verb.as_str()) => {
                Hold::Counted
            }
            Effect::Read | Effect::Session if !self.is_pure(facts) => match self.subject.access {
                // SQL in a text could lift the mode again.
                Access::Read if facts.effect == Effect::Read && text_runner(facts).is_none() => Hold::ReadOnly,
                _ => Hold::Counted,
            },
            // DDL that policy lets through commits by its own word; unknown never gets this far.
            Effect::Read | Effect::Session | Effect::Transaction | Effect::Ddl | Effect::Unknown => Hold::Not,
        }
    }

    /// Whether nothing the statement calls or reads can change a row: every function is known and
    /// not volatile, no field is a call in disguise, and every relation is a plain table. A view may
    /// call anything.
    fn is_pure(&self, facts: &Facts) -> bool {
        facts.verb != "FETCH" && !facts.executes && self.is_calm(facts)
    }

    /// The same of what a text says itself: it writes to nothing but the session's own.
    fn is_calm(&self, facts: &Facts) -> bool {
        !facts.locks
            && !self.catalog.has_volatile_operators
            && facts.functions.iter().all(|function| self.catalog.is_calm(&function.name))
            && !facts.fields.iter().any(|field| self.catalog.volatile_functions.contains(field))
            && facts.touches.iter().all(|touch| self.is_plain(&touch.relation))
            && !facts.written().any(|touch| self.is_counted(&touch.relation))
    }

    fn is_plain(&self, name: &Name) -> bool {
        if matches!(name.schema.as_deref(), Some("pg_catalog" | "information_schema")) {
            return true;
        }
        if self.has_own_views && name.may_be_own() {
            return false;
        }
        match self.resolve(name) {
            Some(relation) => {
                matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned | RelationKind::Sequence)
                    && !relation.has_row_security
            }
            // Unknown names are system catalogs on the path, temporary relations, or errors.
            None => name.schema.is_none() && (name.name.starts_with("pg_") || self.temporary.contains(&name.name)),
        }
    }
}

/// What no policy lets through: names of the gateway's own, and settings that are changed behind its back.
fn out_of_bounds(facts: &Facts) -> Option<Box<Denial>> {
    if let Some(name) = facts.prepared.as_deref().filter(|name| name.starts_with(RESERVED)) {
        return Some(reserved(name));
    }
    // Through a view of the session's own, its rules would be those of pg_settings.
    let makes_view = facts.verb == TEMP_VIEW;
    let mut written = facts.touches.iter().filter(|touch| touch.action != RowAction::Read || makes_view);
    written.any(|touch| is_settings(&touch.relation)).then(|| {
        refused("settings_by_update", "settings are not changed by way of pg_settings", "use SET name = value")
    })
}

/// The view whose rows are the session's settings.
fn is_settings(name: &Name) -> bool {
    name.name == "pg_settings" && name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog")
}

/// A name that belongs to the gateway.
pub fn reserved(name: &str) -> Box<Denial> {
    refused(
        "reserved_name",
        &format!("names that start with `{RESERVED}` belong to the gateway"),
        &format!("rename `{name}`"),
    )
}

/// A denial that no policy rule made.
pub fn refused(code: &str, message: &str, hint: &str) -> Box<Denial> {
    Box::new(Denial {
        code: code.to_owned(),
        rule: "gateway".to_owned(),
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
        objects: Vec::new(),
        approvers: None,
        break_glass: None,
        offset: None,
    })
}
