//! The exact SQL that prepares a target, and that makes and unmakes just-in-time roles.
//!
//! Everything dbgate makes has a name with its own prefix *and* a comment of its own form; what
//! lacks either is not ours and is never changed or dropped. All text is built here, from quoted
//! names and literals only, so that one file shows what a target will ever be told.

pub mod login;
pub mod rebuild;
pub mod remove;

use std::collections::{BTreeMap, BTreeSet};

use crate::core::mask::{self, SALT_SCHEMA, SALT_TABLE, VIEWS_SCHEMA};
pub use crate::core::mask::{identifier, literal};
use crate::core::scope::explain::{self, Extent, Right};
use crate::core::scope::{ColumnMask, ColumnScope, RelationName, RelationScope, Scope};
pub use login::{
    Login, disable_login, enable_login, login_comment, login_name, look_at_login, make_login, retire_login, terminate,
};

/// The role the server connects as. Not a superuser.
pub const BROKER: &str = "dbgate_broker";
/// Marks the broker's role as one that `target init` made; another role of that name is never dropped.
pub const BROKER_COMMENT: &str = "dbgate broker";
/// Owns the masking views. Cannot log in and gets around no row policy.
pub const MASKER: &str = "dbgate_masker";
/// Every login role is a member, so that pg_hba can admit `+dbgate_sessions` from the gateway.
pub const SESSIONS: &str = "dbgate_sessions";
/// Scope roles: hold privileges, cannot log in.
pub const SCOPE_PREFIX: &str = "dbgate_s_";
/// Login roles: one for each connection to a target.
pub const LOGIN_PREFIX: &str = "dbgate_u_";
/// Schemas of masking views.
pub const MASK_PREFIX: &str = "dbgate_m_";
/// Guards making and dropping of scopes in one database.
pub const SCOPE_LOCK: i64 = 0x0064_6267_6174_6501;

/// How many relations one GRANT names: long lists are faster, endless ones unreadable in logs.
const GRANT_BATCH: usize = 200;

/// Schemas of a database that may be handed out.
pub const OWN_SCHEMAS: &str = "select nspname::text from pg_catalog.pg_namespace \
    where nspname <> 'information_schema' and nspname !~ '^(pg_|dbgate_)' order by 1";

/// What `target init` prepares.
#[derive(Clone, Debug)]
pub struct PrepareTarget<'a> {
    /// The role that gets the right to hand out privileges.
    pub broker: &'a str,
    pub database: &'a str,
    /// See [`OWN_SCHEMAS`].
    pub schemas: &'a [String],
    /// Owners whose rights may be lent.
    pub lend: &'a [String],
}

/// The SQL that prepares a target, to be run by a superuser in the database. Running it again
/// changes nothing, except that it covers what has been added since. Sets no password.
pub fn prepare_target(prepare: &PrepareTarget<'_>) -> Vec<String> {
    let (broker, database) = (identifier(prepare.broker), identifier(prepare.database));
    let mut sql = vec![
        SAFE_PATH.to_owned(),
        create_role(prepare.broker, "LOGIN CREATEROLE", Some(BROKER_COMMENT)),
        create_role(MASKER, "NOLOGIN", None),
        create_role(SESSIONS, "NOLOGIN", None),
        format!("COMMENT ON ROLE {} IS 'dbgate masking views'", identifier(MASKER)),
        format!("COMMENT ON ROLE {} IS 'dbgate sessions'", identifier(SESSIONS)),
        format!("GRANT {} TO {broker}", identifier(MASKER)),
        // From 16 on only who has ADMIN may add members.
        format!("GRANT {} TO {broker} WITH ADMIN OPTION", identifier(SESSIONS)),
        // Ends sessions of login roles even before the broker is made a member of them.
        format!("GRANT pg_signal_backend TO {broker}"),
        format!("GRANT CONNECT ON DATABASE {database} TO {broker}, {}", identifier(SESSIONS)),
    ];
    sql.extend(own_schema(VIEWS_SCHEMA, VIEWS_COMMENT));
    sql.extend(own_schema(SALT_SCHEMA, "dbgate salt of hashed columns"));
    let masker = identifier(MASKER);
    for schema in prepare.schemas {
        let name = identifier(schema);
        sql.push(format!("GRANT USAGE ON SCHEMA {name} TO {broker} WITH GRANT OPTION"));
        sql.push(format!("GRANT USAGE ON SCHEMA {name} TO {masker}"));
        let rows = |more: &str| format!("GRANT SELECT, INSERT, UPDATE, DELETE{more} ON ALL TABLES IN SCHEMA {name} TO");
        sql.push(format!("{} {broker} WITH GRANT OPTION", rows(", REFERENCES")));
        sql.push(format!("{} {masker}", rows("")));
        sql.push(format!("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {name} TO {broker} WITH GRANT OPTION"));
        sql.push(default_privileges(schema, &broker));
    }
    sql.extend(prepare.lend.iter().map(|owner| may_lend(owner, &broker)));
    sql.push(USUAL_PATH.to_owned());
    sql
}

/// What a superuser runs first: what else it runs calls nothing but PostgreSQL's own.
pub const SAFE_PATH: &str = "SET search_path = pg_catalog, pg_temp";
/// And last.
pub const USUAL_PATH: &str = "RESET search_path";

/// The right to make others members of an owner, and no right of the owner's. Before 16 who makes
/// roles has it for every role that is no superuser.
fn may_lend(owner: &str, broker: &str) -> String {
    let grant = format!("GRANT {} TO {broker} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", identifier(owner));
    format!(
        "DO $dbgate$ BEGIN IF pg_catalog.current_setting('server_version_num')::int >= 160000 \
         THEN EXECUTE {}; END IF; END $dbgate$",
        literal(&grant)
    )
}

/// Makes a role unless there is one; only a role that is made here gets the comment.
fn create_role(name: &str, attributes: &str, comment: Option<&str>) -> String {
    let create = literal(&format!("CREATE ROLE {} {attributes}", identifier(name)));
    let comment = comment.map(|comment| {
        let sql = format!("COMMENT ON ROLE {} IS {}", identifier(name), literal(comment));
        format!(" EXECUTE {};", literal(&sql))
    });
    format!(
        "DO $dbgate$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) \
         THEN EXECUTE {create};{} END IF; END $dbgate$",
        literal(name),
        comment.unwrap_or_default()
    )
}

/// A schema of the owner of the masking views. What somebody else made under its name would be
/// somebody else's to read.
fn own_schema(name: &str, comment: &str) -> [String; 3] {
    let (schema, owner) = (identifier(name), identifier(MASKER));
    [
        format!("CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {owner}"),
        format!(
            "DO $dbgate$ BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {} \
             AND nspowner <> {}::pg_catalog.regrole) \
             THEN RAISE EXCEPTION 'the schema % is not dbgate''s own', {0}; END IF; END $dbgate$",
            literal(name),
            literal(MASKER)
        ),
        format!("COMMENT ON SCHEMA {schema} IS {}", literal(comment)),
    ]
}

/// What each owner makes from now on is covered too. Owners are found when it runs.
fn default_privileges(schema: &str, broker: &str) -> String {
    let alter = |what: String| {
        let text =
            format!("ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA {} {what}", identifier(schema).replace('%', "%%"));
        format!("EXECUTE pg_catalog.format({}, owner); ", literal(&text))
    };
    let broker = broker.replace('%', "%%");
    let rows = |more: &str| format!("GRANT SELECT, INSERT, UPDATE, DELETE{more} ON TABLES TO");
    format!(
        "DO $dbgate$ DECLARE owner name; BEGIN FOR owner IN \
         SELECT pg_catalog.pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace WHERE nspname = {schema} UNION \
         SELECT pg_catalog.pg_get_userbyid(relowner) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
         ON n.oid = c.relnamespace WHERE nspname = {schema} LOOP \
         {}{}{}END LOOP; END $dbgate$",
        alter(format!("{} {broker} WITH GRANT OPTION", rows(", REFERENCES"))),
        alter(format!("{} {}", rows(""), identifier(MASKER))),
        alter(format!("GRANT USAGE, SELECT ON SEQUENCES TO {broker} WITH GRANT OPTION")),
        schema = literal(schema),
    )
}

/// The name of the role that holds a scope's privileges.
pub fn scope_role(digest: &str) -> String {
    format!("{SCOPE_PREFIX}{}", digest.chars().take(16).collect::<String>())
}

/// The comment that marks a scope role as ours, and as that of this very scope and database.
pub fn scope_comment(digest: &str, database: &str) -> String {
    format!("dbgate scope {digest} in {database}")
}

/// The comment that marks the schema of masking views as ours.
pub const VIEWS_COMMENT: &str = "dbgate masks of every scope";

/// Makes a scope role without any privilege. The broker becomes a member, or it could neither
/// hand the role out nor clean up after it.
pub fn make_scope(digest: &str, database: &str, server_version: u32) -> Vec<String> {
    let role = identifier(&scope_role(digest));
    vec![
        format!("CREATE ROLE {role} NOLOGIN"),
        format!("COMMENT ON ROLE {role} IS {}", literal(&scope_comment(digest, database))),
        join_role(&role, server_version),
    ]
}

/// Relations and sequences the broker may hand out. The rest of a scope is left ungranted.
#[derive(Clone, Debug, Default)]
pub struct Grantable {
    /// OIDs.
    pub relations: BTreeSet<u32>,
    /// Those of them that may be made known by name: see [`known_by_name`]. OIDs.
    pub known: BTreeSet<u32>,
    /// What the scope withholds and may be made known by name.
    pub withheld: BTreeSet<RelationName>,
    pub sequences: BTreeSet<RelationName>,
    /// Those that hold rows themselves, and so have columns of the system's own. OIDs.
    pub stored: BTreeSet<u32>,
}

/// The column of the system's own that statements use to find rows again: it says where a row lies. Not
/// `tableoid`, which tells in which partition a row is, and so something of a masked key; nor `xmin` and
/// `xmax`, which tell who refers to whom: a new reference leaves its transaction's number in both rows.
pub const SYSTEM: [&str; 1] = ["ctid"];

/// Gives a scope role its privileges. Running it again changes nothing.
///
/// A relation without masks is granted as a whole, so that system columns and LOCK work as
/// usual; one with masks column by column, so that its other columns stay out of reach.
pub fn grant_scope(role: &str, scope: &Scope, grantable: &Grantable) -> Vec<String> {
    let role = identifier(role);
    let (mut schemas, mut whole, mut sequences) = (BTreeSet::new(), [vec![], vec![], vec![], vec![]], BTreeSet::new());
    // Relations with the same columns, such as partitions, share a statement.
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut known: Vec<String> = grantable.withheld.iter().map(|name| qualified(&name.schema, &name.name)).collect();
    for (name, relation) in &scope.relations {
        if !grantable.relations.contains(&relation.oid) {
            continue;
        }
        schemas.insert(identifier(&name.schema));
        let place = qualified(&name.schema, &name.name);
        let lists = whole.iter_mut().chain(std::iter::once(&mut known));
        for ((privilege, extent), list) in
            rights(relation, grantable.known.contains(&relation.oid)).into_iter().zip(lists)
        {
            match extent {
                Extent::Whole => list.push(place.clone()),
                Extent::Nothing => {}
                Extent::Columns(mut names) => {
                    if privilege == Right::Select.word() && grantable.stored.contains(&relation.oid) {
                        names.extend(SYSTEM.map(str::to_owned));
                    }
                    columns.entry(on_columns(privilege, &names)).or_default().push(place.clone());
                }
            }
        }
        let names = relation.sequences.iter().map(|(schema, name)| RelationName::new(schema, name));
        for sequence in names.filter(|name| grantable.sequences.contains(name)) {
            sequences.insert(qualified(&sequence.schema, &sequence.name));
        }
    }
    let batched = |privilege: &str, list: &[String]| -> Vec<String> {
        let batches = list.chunks(GRANT_BATCH);
        batches.map(|batch| format!("GRANT {privilege} {} TO {role}", batch.join(", "))).collect()
    };
    let schemas: Vec<String> = schemas.into_iter().collect();
    let sequences: Vec<String> = sequences.into_iter().collect();
    let mut sql = batched("USAGE ON SCHEMA", &schemas);
    for (right, list) in Right::ALL.into_iter().zip(&whole) {
        sql.extend(batched(&format!("{} ON", right.word()), list));
    }
    for (privilege, list) in &columns {
        sql.extend(batched(&format!("{privilege} ON"), list));
    }
    sql.extend(batched(&format!("{KNOWN} ON"), &known));
    // USAGE lets a default draw the next value; it does not let anyone set it.
    sql.extend(batched("USAGE ON SEQUENCE", &sequences));
    sql
}

/// The privilege that shows a name in `information_schema` and allows nothing to who may not make
/// tables: only a foreign key could use it.
pub const KNOWN: &str = "REFERENCES";

/// What a role is to hold on a relation itself, by privilege.
pub fn rights(relation: &RelationScope, is_known: bool) -> [(&'static str, Extent); 5] {
    let [select, insert, update, delete] =
        Right::ALL.map(|right| (right.word(), explain::on_relation(relation, right)));
    let known = if is_known { known_by_name(relation) } else { Extent::Nothing };
    [select, insert, update, delete, (KNOWN, known)]
}

/// What the role holds no right on, although the gateway shows something in its place or says why not.
/// Without any right `information_schema` would hide it from the tools that look there.
fn known_by_name(relation: &RelationScope) -> Extent {
    let masked = relation.columns.iter().filter(|column| column.mask.is_some()).map(|column| column.name.clone());
    match (relation.is_closed(), relation.is_masked()) {
        (true, _) => Extent::Whole,
        (false, true) => Extent::Columns(masked.collect()),
        (false, false) => Extent::Nothing,
    }
}

fn grant_columns(privilege: &str, names: &[String], place: &str, role: &str) -> String {
    format!("GRANT {} ON {place} TO {role}", on_columns(privilege, names))
}

/// A privilege on some columns, as GRANT spells it.
fn on_columns(privilege: &str, names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| identifier(name)).collect();
    format!("{privilege} ({})", names.join(", "))
}

/// One statement of making views, and the relation whose view it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub relation: Option<RelationName>,
    pub sql: String,
}

/// Makes the masking views of a scope, as the role that owns them, and tries what is put in place of
/// other views. Needs a transaction: the role and the search path are set for it alone.
pub fn make_views(role: &str, scope: &Scope, grantable: &Grantable) -> Vec<Step> {
    let mine = || scope.relations.iter().filter(|(_, relation)| grantable.relations.contains(&relation.oid));
    let views: Vec<_> =
        mine().filter_map(|(name, relation)| relation.view.as_ref().map(|view| (name, relation, view))).collect();
    let tries = mine().filter(|(_, relation)| relation.rebuilt.is_some() && relation.view.is_none()).map(try_rebuilt);
    let mut steps = if views.is_empty() { Vec::new() } else { make(&identifier(role), views) };
    steps.extend(tries);
    steps
}

/// PostgreSQL looks at the text that will stand in statements, without running it: a view that
/// depends on a key of what is masked now is an error.
fn try_rebuilt((name, relation): (&RelationName, &RelationScope)) -> Step {
    let text = mask::splice_text(name, relation, false);
    let sql = format!("PREPARE dbgate_try AS SELECT FROM {text} AS one; DEALLOCATE dbgate_try");
    Step { relation: Some(name.clone()), sql }
}

fn make(role: &str, views: Vec<View<'_>>) -> Vec<Step> {
    // Under this path every function of a mask means PostgreSQL's own.
    let mut sql = vec![
        format!("SET LOCAL ROLE {}", identifier(MASKER)),
        "SET LOCAL search_path = pg_catalog, pg_temp".to_owned(),
    ];
    sql.push(format!("GRANT USAGE ON SCHEMA {} TO {role}", identifier(VIEWS_SCHEMA)));
    let is_salted = |mask: &ColumnMask| mask.expression.contains(SALT_SCHEMA);
    if views.iter().flat_map(|(_, one, _)| &one.columns).any(|column| column.mask.as_ref().is_some_and(is_salted)) {
        sql.extend(make_salt());
    }
    let plain = |sql: String| Step { relation: None, sql };
    let mut steps: Vec<Step> = sql.into_iter().map(plain).collect();
    for (name, relation, (schema, view)) in in_order(views) {
        let place = qualified(schema, view);
        steps.push(Step { relation: Some(name.clone()), sql: create_view(name, relation, &place) });
        for right in Right::ALL {
            match explain::on_view(relation, right) {
                Extent::Whole => steps.push(plain(format!("GRANT {} ON {place} TO {role}", right.word()))),
                Extent::Nothing => {}
                Extent::Columns(names) => steps.push(plain(grant_columns(right.word(), &names, &place, role))),
            }
        }
        if let Some((schema, view)) = relation.rows_view() {
            let place = qualified(&schema, &view);
            steps.push(Step { relation: Some(name.clone()), sql: create_rows_view(name, relation, &place) });
            let rights = explain::on_rows_view(relation).into_iter().filter(|(_, columns)| !columns.is_empty());
            steps.extend(rights.map(|(right, columns)| plain(grant_columns(right.word(), &columns, &place, role))));
        }
    }
    steps.push(plain("RESET ROLE".to_owned()));
    steps
}

type View<'s> = (&'s RelationName, &'s RelationScope, &'s (String, String));

/// Views of tables first, then rebuilt ones, each after those it reads.
fn in_order(views: Vec<View<'_>>) -> Vec<View<'_>> {
    let (mut waiting, mut ordered): (Vec<_>, Vec<_>) =
        views.into_iter().partition(|(_, relation, _)| relation.rebuilt.is_some());
    // Each round places at least the one that reads none of the others; were there a circle, what
    // is left is made in any order, and PostgreSQL says what is missing.
    for _ in 0..waiting.len() {
        let names: Vec<String> = waiting.iter().map(|(_, _, (schema, view))| qualified(schema, view)).collect();
        let is_ready = |(at, (_, relation, _)): (usize, &View<'_>)| {
            let text = relation.rebuilt.as_deref().unwrap_or("");
            !names.iter().enumerate().any(|(other, name)| other != at && text.contains(name.as_str()))
        };
        let ready: Vec<bool> = waiting.iter().enumerate().map(is_ready).collect();
        let mut flags = ready.into_iter();
        let (now, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|_| flags.next().unwrap_or(false));
        ordered.extend(now);
        waiting = later;
    }
    ordered.extend(waiting);
    ordered
}

fn create_view(name: &RelationName, relation: &RelationScope, place: &str) -> String {
    let columns: Vec<String> = relation.columns.iter().map(shown).collect();
    let source = match &relation.rebuilt {
        Some(definition) => mask::rebuilt(name, relation, definition),
        None => qualified(&name.schema, &name.name),
    };
    let (barrier, condition) = filtered(relation);
    format!("CREATE VIEW {place}{barrier} AS SELECT {} FROM {source}{condition}", columns.join(", "))
}

/// What stands before and behind the query of a view whose rows are filtered.
fn filtered(relation: &RelationScope) -> (&'static str, String) {
    let Some(filter) = &relation.filter else {
        // Without a filter there is nothing to see early: the columns are behind their masks wherever a
        // condition is moved.
        return ("", String::new());
    };
    // Without it a row could be written out of sight, or into the sight of others.
    let check = if relation.insert || relation.update { " WITH CASCADED CHECK OPTION" } else { "" };
    // Conditions of others must not see a row before the filter has.
    (" WITH (security_barrier)", format!(" WHERE {filter}{check}"))
}

/// The view that takes new rows and shows their masks. What is masked can be written in it and not
/// read: its columns have the rights of the relation's own.
fn create_rows_view(name: &RelationName, relation: &RelationScope, place: &str) -> String {
    let own = relation.columns.iter().map(|column| identifier(&column.name));
    let part = |column: &ColumnScope| {
        let mask = column.mask.as_ref()?;
        Some(format!("{} AS {}", mask.expression, identifier(&column.shown_by()?)))
    };
    let columns: Vec<String> = own.chain(relation.columns.iter().filter_map(part)).collect();
    let (barrier, condition) = filtered(relation);
    let source = qualified(&name.schema, &name.name);
    format!("CREATE VIEW {place}{barrier} AS SELECT {} FROM {source}{condition}", columns.join(", "))
}

/// Makes the salt of the database unless there is one. What somebody else made under its name
/// would be a salt that somebody else may read.
fn make_salt() -> Vec<String> {
    let table = qualified(SALT_SCHEMA, SALT_TABLE);
    vec![
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (one bool PRIMARY KEY DEFAULT true CHECK (one), value bytea NOT NULL)"
        ),
        format!(
            "INSERT INTO {table} (value) SELECT sha256((gen_random_uuid()::text || gen_random_uuid()::text)::bytea) \
             ON CONFLICT DO NOTHING"
        ),
    ]
}

fn shown(column: &ColumnScope) -> String {
    let name = identifier(&column.name);
    column.mask.as_ref().map_or_else(|| name.clone(), |mask| format!("{} AS {name}", mask.expression))
}

/// Drops the masking views of a scope, as the role that owns them: all at once, since they may stand
/// on each other. Needs a transaction.
pub fn drop_views(views: &[String]) -> Vec<String> {
    if views.is_empty() {
        return Vec::new();
    }
    let views: Vec<String> = views.iter().map(|view| qualified(VIEWS_SCHEMA, view)).collect();
    vec![
        format!("SET LOCAL ROLE {}", identifier(MASKER)),
        format!("DROP VIEW {} CASCADE", views.join(", ")),
        "RESET ROLE".to_owned(),
    ]
}

/// Gives the role of a scope another name, under which it is nobody's. Its comment stays.
pub fn set_aside(name: &str, oid: u32) -> String {
    format!("ALTER ROLE {} RENAME TO {}", identifier(name), identifier(&format!("{name}_{oid}")))
}

/// Drops a role and what it owns in this database. The broker joins it first: only a member may
/// drop what a role owns.
pub fn drop_role(name: &str, server_version: u32) -> Vec<String> {
    let name = identifier(name);
    vec![join_role(&name, server_version), format!("DROP OWNED BY {name}"), format!("DROP ROLE {name}")]
}

/// `role` is quoted already.
fn join_role(role: &str, server_version: u32) -> String {
    // Before 16 membership always brings both; from 16 on the maker of a role has ADMIN only.
    let with = if server_version >= 160_000 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    format!("GRANT {role} TO CURRENT_USER{with}")
}

fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

#[cfg(test)]
mod tests;
