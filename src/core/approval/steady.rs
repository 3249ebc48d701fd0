//! Whether a statement means in one session what it means in another: only then can people agree to it.
//!
//! What must stay true: what is not known to be the same everywhere is not asked about. Settings,
//! definitions and bodies are bound (see [`super::Binding`]); what is judged here is the rest of what
//! a session has to itself: temporary relations, what it drew from sequences, cursors, prepared
//! statements, seeds, and every view and function that tells of those.

use std::collections::BTreeSet;

use crate::core::scope::catalog::{Catalog, RelationKind};
use crate::core::statement::facts::{Facts, Name, RowAction};
use crate::core::statement::grammar;

/// How far views over views are followed.
const DEEPEST: usize = 16;

/// Functions of PostgreSQL's that are not IMMUTABLE and give every session the same at the same
/// moment, under the same settings; and those whose values nobody can choose.
const SETTLED: [&str; 72] = [
    "age",
    "array_to_json",
    "array_to_string",
    "array_to_tsvector",
    "clock_timestamp",
    "concat",
    "concat_ws",
    "date",
    "date_add",
    "date_bin",
    "date_part",
    "date_subtract",
    "date_trunc",
    "extract",
    "format",
    "gen_random_bytes",
    "gen_random_uuid",
    "gen_salt",
    "generate_series",
    "interval",
    "json_agg",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "json_populate_record",
    "json_populate_recordset",
    "json_to_record",
    "json_to_recordset",
    "json_to_tsvector",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "jsonb_path_exists_tz",
    "jsonb_path_match_tz",
    "jsonb_path_query_array_tz",
    "jsonb_path_query_first_tz",
    "jsonb_path_query_tz",
    "jsonb_populate_record",
    "jsonb_populate_recordset",
    "jsonb_to_record",
    "jsonb_to_recordset",
    "jsonb_to_tsvector",
    "length",
    "make_timestamptz",
    "money",
    "now",
    "overlaps",
    "phraseto_tsquery",
    "plainto_tsquery",
    "quote_literal",
    "quote_nullable",
    "row_to_json",
    "statement_timestamp",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
    "to_tsquery",
    "to_tsvector",
    "transaction_timestamp",
    "unaccent",
    "version",
    "websearch_to_tsquery",
];

/// The same of extensions.
const OF_EXTENSIONS: [&str; 4] = ["uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4", "pgp_sym_encrypt"];

/// What a statement takes from the session that runs it. Its text ends a hint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Leaning {
    #[error("`{0}` is no table of the database's own, and may be another one in every session")]
    Relation(Name),
    #[error("what `{0}` returns may depend on the session")]
    Function(Name),
    #[error("it names the row of a cursor, or an object by a text")]
    Words,
    #[error("it runs code of the database's own, which may use this session's temporary relations")]
    Code,
    #[error("`{0}` looks at what only its session knows")]
    Body(String),
    #[error("the session has set a seed, or more settings than are followed")]
    Session,
    #[error("the session has functions or types of its own")]
    Own,
    #[error("its code puts the names of settings together, and may be told by any")]
    Unnamed,
    #[error("a setting was changed after it was bound")]
    Settings,
    #[error("it sets `{0}` itself and looks at it, and has run already")]
    Moved(String),
    #[error("`search_path` puts another schema before pg_catalog, so that its operators could mean something else")]
    Path,
}

/// What is known of the session.
#[derive(Clone, Copy)]
pub struct Standing<'a> {
    pub catalog: &'a Catalog,
    /// Schemas that unqualified names are looked for in.
    pub search_path: &'a [String],
    /// Names of its temporary relations.
    pub temporary: &'a [String],
}

impl Standing<'_> {
    /// What a statement takes from the session, if anything.
    pub fn leaning(&self, facts: &Facts) -> Option<Leaning> {
        self.below(facts, DEEPEST, &mut BTreeSet::new())
    }

    fn below(&self, facts: &Facts, depth: usize, seen: &mut BTreeSet<u32>) -> Option<Leaning> {
        if facts.leans {
            return Some(Leaning::Words);
        }
        let function = facts.functions.iter().find_map(|name| self.of_function(name, facts));
        let is_own = |name: &&Name| name.schema.as_ref().is_some_and(|schema| schema.starts_with("pg_temp"));
        if let Some(own) = facts.functions.iter().chain(&facts.operators).chain(&facts.casts).find(is_own) {
            return Some(Leaning::Function(own.clone()));
        }
        // Where no function has its name, a field is a column.
        let is_function = |field: &&String| self.catalog.known_functions.contains(*field);
        let mut fields = facts.fields.iter().filter(is_function).map(|field| Name::new(None, field));
        // Upkeep names indexes, too, which the catalog does not list; the target says whose they are.
        let is_upkeep = facts.upkeep.is_some();
        let is_listed = |name: &Name| {
            !is_upkeep
                || self.temporary.contains(&name.name)
                || name.schema.as_ref().is_some_and(|schema| schema.starts_with("pg_"))
        };
        let mut touched = facts.touches.iter().map(|touch| &touch.relation).filter(|name| is_listed(name));
        let relation = || touched.find_map(|name| self.of_relation(name, depth, seen));
        function.or_else(|| fields.find_map(|name| self.of_function(&name, facts))).or_else(relation)
    }

    fn of_function(&self, name: &Name, facts: &Facts) -> Option<Leaning> {
        let word = name.name.as_str();
        // What is drawn may be stored; which rows are changed must not hang on it.
        let only_stores = facts.upkeep.is_some() || facts.touches.iter().all(|touch| touch.action == RowAction::Insert);
        let is_drawn = (word == "nextval" && only_stores && !facts.touches.is_empty()) || word == "setval";
        if is_drawn {
            return (!self.temporary.is_empty()).then_some(Leaning::Code);
        }
        let is_settled = !self.catalog.unsteady_functions.contains(word)
            || SETTLED.binary_search(&word).is_ok()
            || OF_EXTENSIONS.contains(&word);
        if !is_settled || !self.catalog.known_functions.contains(word) {
            return Some(Leaning::Function(name.clone()));
        }
        (self.catalog.own_functions.contains(word) && !self.temporary.is_empty()).then_some(Leaning::Code)
    }

    fn of_relation(&self, name: &Name, depth: usize, seen: &mut BTreeSet<u32>) -> Option<Leaning> {
        let leans = || Some(Leaning::Relation(name.clone()));
        if name.schema.is_none() && self.temporary.contains(&name.name) {
            return leans();
        }
        let Some(relation) = self.catalog.resolve(name.schema.as_deref(), &name.name, self.search_path) else {
            return leans();
        };
        match relation.kind {
            RelationKind::Table
            | RelationKind::Partitioned
            | RelationKind::MaterializedView
            | RelationKind::Sequence
            | RelationKind::Foreign => None,
            RelationKind::View if !seen.insert(relation.oid) => None,
            RelationKind::View => {
                let definition = relation.definition.as_deref().filter(|_| depth > 0);
                let Some(parsed) = definition.and_then(|sql| grammar::parse(sql).ok()) else { return leans() };
                parsed.iter().find_map(|one| self.below(&one.facts, depth - 1, seen))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::scope::RelationName;
    use crate::core::scope::catalog::Relation;

    fn relation(oid: u32, name: &str, kind: RelationKind, definition: Option<&str>) -> (RelationName, Relation) {
        let name = RelationName::new("public", name);
        let relation = Relation {
            oid,
            name: name.clone(),
            kind,
            columns: Vec::new(),
            parents: Vec::new(),
            depends_on: Vec::new(),
            has_row_security: false,
            constraints: Vec::new(),
            is_inert: false,
            has_user_policies: false,
            definition: definition.map(str::to_owned),
            estimated_rows: 0,
            sequences: Vec::new(),
            unique_keys: Vec::new(),
        };
        (name, relation)
    }

    fn leaning(sql: &str, temporary: &[String]) -> Option<Leaning> {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let catalog = Catalog {
            relations: [
                relation(1, "t", RelationKind::Table, None),
                relation(2, "good", RelationKind::View, Some("SELECT t.id FROM public.t WHERE now() > t.at")),
                relation(3, "bad", RelationKind::View, Some("SELECT good.id FROM public.good, pg_settings")),
                relation(4, "opaque", RelationKind::View, None),
            ]
            .into(),
            known_functions: texts(&[
                "now",
                "lower",
                "random",
                "currval",
                "nextval",
                "purge",
                "current_setting",
                "age",
            ]),
            unsteady_functions: texts(&["now", "random", "currval", "nextval", "current_setting", "age"]),
            own_functions: texts(&["purge"]),
            ..Catalog::default()
        };
        let facts = grammar::parse(sql).expect(sql).remove(0).facts;
        Standing { catalog: &catalog, search_path: &["public".to_owned()], temporary }.leaning(&facts)
    }

    #[test]
    fn what_means_the_same_everywhere_can_be_asked_about() {
        assert!(SETTLED.is_sorted());
        for sql in [
            "delete from t where lower(name) = 'a' and t.at < now() - interval '1 day'",
            "update public.t set at = current_timestamp where id in (select id from good limit 10)",
            "with a as (select id from t) delete from t using a where a.id = t.id and (t).age > 3",
            "insert into t values (nextval('s'), current_user)",
            "select purge(5)",
        ] {
            assert_eq!(leaning(sql, &[]), None, "{sql}");
        }
    }

    #[test]
    fn what_leans_on_the_session_cannot() {
        let function = |name| Some(Leaning::Function(Name::new(None, name)));
        let relation = |schema, name| Some(Leaning::Relation(Name::new(schema, name)));
        for (sql, expected) in [
            ("delete from t where id < current_setting('my.x')::int", function("current_setting")),
            ("delete from t where id < ('my.x'::text).current_setting::int", function("current_setting")),
            ("delete from t where id < currval('s')", function("currval")),
            ("delete from t where random() < 0.5", function("random")),
            ("delete from t where id = nextval('s')", function("nextval")),
            ("insert into t select * from t where id = nextval('s')", function("nextval")),
            ("delete from t where unheard_of()", function("unheard_of")),
            ("delete from t using pg_settings where name = 'x'", relation(None, "pg_settings")),
            (
                "delete from t where id = (select 1 from pg_catalog.pg_cursors)",
                relation(Some("pg_catalog"), "pg_cursors"),
            ),
            ("delete from t using bad where bad.id = t.id", relation(None, "pg_settings")),
            ("delete from t using opaque o where o.id = t.id", relation(None, "opaque")),
            ("delete from t where current of c", Some(Leaning::Words)),
            (
                "delete from t where pg_temp.lower(name) = 'a'",
                Some(Leaning::Function(Name::new(Some("pg_temp"), "lower"))),
            ),
            ("delete from t where name = 'a'::pg_temp_3.d", Some(Leaning::Function(Name::new(Some("pg_temp_3"), "d")))),
        ] {
            assert_eq!(leaning(sql, &[]), expected, "{sql}");
        }
        let own = ["mine".to_owned()];
        assert_eq!(leaning("delete from t using mine", &own), relation(None, "mine"));
        assert_eq!(leaning("select purge(5)", &own), Some(Leaning::Code));
        assert_eq!(leaning("insert into t values (nextval('s'))", &own), Some(Leaning::Code));
        assert_eq!(leaning("delete from t where id = 5", &own), None);
    }
}
