//! What is known of the relations that a statement joins: their columns, keys and rows.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};

use crate::core::scope::RelationName;
use crate::core::scope::catalog::{Against, Catalog, Relation, RelationKind};
use crate::core::statement::facts::Name;
use crate::core::statement::grammar;
use crate::core::statement::joins::{Known, Source};

/// Keys of the system's own relations that are not `oid`, for what tools join them by.
const SYSTEM: [(&str, &[&str]); 26] = [
    ("columns", &["table_schema", "table_name", "column_name"]),
    ("schemata", &["schema_name"]),
    ("tables", &["table_schema", "table_name"]),
    ("views", &["table_schema", "table_name"]),
    ("pg_aggregate", &["aggfnoid"]),
    ("pg_attrdef", &["adrelid", "adnum"]),
    ("pg_attribute", &["attrelid", "attnum"]),
    ("pg_auth_members", &["roleid", "member"]),
    ("pg_database", &["datname"]),
    ("pg_description", &["objoid", "classoid", "objsubid"]),
    ("pg_foreign_table", &["ftrelid"]),
    ("pg_index", &["indexrelid"]),
    ("pg_inherits", &["inhrelid", "inhparent"]),
    ("pg_init_privs", &["objoid", "classoid", "objsubid"]),
    ("pg_namespace", &["nspname"]),
    ("pg_partitioned_table", &["partrelid"]),
    ("pg_range", &["rngtypid"]),
    ("pg_roles", &["rolname"]),
    ("pg_seclabel", &["objoid", "classoid", "objsubid", "provider"]),
    ("pg_sequence", &["seqrelid"]),
    ("pg_shdescription", &["objoid", "classoid"]),
    ("pg_stat_all_tables", &["relid"]),
    ("pg_stat_user_tables", &["relid"]),
    ("pg_statio_user_tables", &["relid"]),
    ("pg_subscription_rel", &["srsubid", "srrelid"]),
    ("pg_ts_config_map", &["mapcfg", "maptokentype", "mapseqno"]),
];

/// Views upon views are looked through so far.
const MOST_VIEWS: u8 = 8;
/// The system's own relations that have thousands of rows in any database, and grow with columns and
/// privileges rather than with relations.
const LARGE: [&str; 14] = [
    "pg_amop",
    "pg_amproc",
    "pg_attribute",
    "pg_collation",
    "pg_depend",
    "pg_description",
    "pg_operator",
    "pg_proc",
    "pg_shdepend",
    "pg_stat_statements",
    "pg_statistic",
    "pg_stats",
    "pg_timezone_names",
    "pg_type",
];
/// Those of `information_schema` that have not.
const SMALL: [&str; 13] = [
    "check_constraints",
    "constraint_column_usage",
    "constraint_table_usage",
    "domains",
    "enabled_roles",
    "key_column_usage",
    "referential_constraints",
    "schemata",
    "sequences",
    "table_constraints",
    "tables",
    "triggers",
    "views",
];
/// Rows of one of the system's own relations in a small database, and of a large one.
const FEW_SYSTEM_ROWS: usize = 300;
const MANY_SYSTEM_ROWS: usize = 10_000;

/// The relations of one catalog, as a statement names them.
pub(super) struct Keys<'c> {
    catalog: &'c Catalog,
    search_path: &'c [String],
    /// Made once: many relations are asked about, and it takes a look at all there are.
    links: OnceCell<Links>,
}

/// Tables that have children, and how many rows each relation has.
struct Links {
    parents: BTreeSet<u32>,
    rows: HashMap<u32, u64>,
}

impl<'c> Keys<'c> {
    pub(super) const fn new(catalog: &'c Catalog, search_path: &'c [String]) -> Self {
        Self { catalog, search_path, links: OnceCell::new() }
    }

    /// A relation by its name.
    pub(super) fn of(&self, name: &Name) -> Option<Known> {
        match self.catalog.resolve(name.schema.as_deref(), &name.name, self.search_path) {
            Some(relation) => Some(self.known(relation, MOST_VIEWS)),
            None => self.system(name),
        }
    }

    fn known(&self, relation: &Relation, views: u8) -> Known {
        let columns: BTreeSet<String> = relation.columns.iter().map(|column| column.name.clone()).collect();
        let numbered = |number: &i16| {
            relation.columns.iter().find(|column| column.number == *number).map(|column| column.name.clone())
        };
        let named = |numbers: &Vec<i16>| numbers.iter().map(numbered).collect::<Option<Vec<String>>>();
        let keys: Vec<Vec<String>> =
            relation.unique_keys.iter().filter(|key| !key.is_empty()).filter_map(named).collect();
        let has_children = || self.links().parents.contains(&relation.oid);
        let keys = if keys.is_empty() || relation.keys_hold(has_children) { keys } else { Vec::new() };
        let rows = rows(relation);
        let references = relation.constraints.iter().filter_map(|constraint| {
            let Against::Relation { oid, .. } = &constraint.against else { return None };
            let each = rows?.checked_div(*self.links().rows.get(oid)?)?;
            Some((named(&constraint.columns)?, each.saturating_add(1)))
        });
        let references = references.collect();
        match self.below(relation, views) {
            Some(below) => Known { columns, ..below },
            None => Known { columns, keys, references, rows },
        }
    }

    /// What is known of a view's rows from what it is made of.
    fn below(&self, view: &Relation, views: u8) -> Option<Known> {
        let definition = view.definition.as_ref().filter(|_| view.kind == RelationKind::View && views > 0)?;
        let parsed = grammar::parse(definition).ok()?;
        let [query] = parsed.as_slice() else { return None };
        match query.rows() {
            Source::Relation(name, renamed) => {
                let relation = self.catalog.relations.get(&RelationName::new(name.schema.as_deref()?, &name.name))?;
                let known = self.known(relation, views - 1);
                Some(renamed.map_or(known.clone(), |renamed| known.renamed(&renamed)))
            }
            Source::Keyed(keys) => Some(Known { keys, ..Known::default() }),
            Source::Rows(rows) | Source::Values(rows, _) => Some(Known { rows: Some(rows), ..Known::default() }),
        }
    }

    fn links(&self) -> &Links {
        self.links.get_or_init(|| {
            let relations = self.catalog.relations.values();
            let rows = relations.filter_map(|relation| Some((relation.oid, rows(relation)?))).collect();
            Links { parents: self.catalog.parents(), rows }
        })
    }

    /// The system's own: most are small where the database is.
    fn system(&self, name: &Name) -> Option<Known> {
        let (is_catalog, is_schema) = match name.schema.as_deref() {
            Some(schema) => (schema == "pg_catalog", schema == "information_schema"),
            None => (name.name.starts_with("pg_"), false),
        };
        let names = |key: &[&str]| key.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>();
        let more = SYSTEM.iter().filter(|(relation, _)| *relation == name.name).map(|(_, key)| names(key));
        let keys: Vec<Vec<String>> = match is_catalog {
            true => std::iter::once(names(&["oid"])).chain(more).collect(),
            false => more.collect(),
        };
        let is_among = |list: &[&str]| list.contains(&name.name.as_str());
        let is_large = if is_catalog { is_among(&LARGE) } else { !is_among(&SMALL) };
        let relations = self.catalog.relations.len();
        let rows = match is_large {
            true => relations.saturating_mul(20).max(MANY_SYSTEM_ROWS),
            false => relations.max(FEW_SYSTEM_ROWS),
        };
        let rows = u64::try_from(rows).ok();
        (is_catalog || is_schema).then(|| Known { keys, rows, ..Known::default() })
    }
}

/// One that was never analysed has any number of rows.
fn rows(relation: &Relation) -> Option<u64> {
    u64::try_from(relation.estimated_rows).ok().filter(|rows| *rows > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::scope::catalog::{Column, Constraint};

    fn relation(oid: u32, name: &str, columns: &[&str], rows: i64) -> Relation {
        let column = |(at, name): (usize, &&str)| Column {
            name: (*name).to_owned(),
            number: i16::try_from(at + 1).expect("few"),
            type_name: "int".into(),
            type_oid: 23,
            not_null: true,
            has_default: false,
            is_generated: false,
            is_computed: false,
            generated_from: Vec::new(),
        };
        Relation {
            oid,
            name: RelationName::new("public", name),
            kind: RelationKind::Table,
            columns: columns.iter().enumerate().map(column).collect(),
            parents: Vec::new(),
            depends_on: Vec::new(),
            has_row_security: false,
            has_user_policies: false,
            definition: None,
            estimated_rows: rows,
            sequences: Vec::new(),
            unique_keys: vec![vec![1]],
            is_inert: false,
            constraints: Vec::new(),
        }
    }

    fn catalog() -> Catalog {
        let against = Against::Relation { oid: 1, columns: vec![1] };
        let refers = Constraint { name: "foreign key f".into(), columns: vec![2], against };
        let view = |oid, name, columns: &[&str], definition: &str| Relation {
            kind: RelationKind::View,
            definition: Some(definition.to_owned()),
            unique_keys: Vec::new(),
            is_inert: false,
            ..relation(oid, name, columns, 0)
        };
        let relations = [
            relation(1, "customers", &["id", "tier"], 1_000),
            Relation { constraints: vec![refers], ..relation(2, "orders", &["id", "customer"], 5_000) },
            relation(3, "parent", &["id"], 10),
            Relation { parents: vec![3], ..relation(4, "child", &["id"], 10) },
            view(
                5,
                "recent",
                &["number", "buyer"],
                "select id as number, customer as buyer from public.orders where id > 7",
            ),
            view(6, "latest", &["number"], "select number from public.recent"),
            view(7, "tiers", &["tier", "n"], "select tier, count(*) as n from public.customers group by tier"),
            view(8, "both", &["id"], "select o.id from public.orders o join public.customers c on true"),
            view(9, "itself", &["id"], "select id from public.itself"),
        ];
        let relations = relations.into_iter().map(|relation| (relation.name.clone(), relation)).collect();
        Catalog { relations, ..Catalog::default() }
    }

    fn known(schema: Option<&str>, name: &str) -> Option<Known> {
        let (catalog, path) = (catalog(), ["public".to_owned()]);
        Keys::new(&catalog, &path).of(&Name::new(schema, name))
    }

    #[test]
    fn views_have_the_keys_of_what_they_show() {
        let keys = |name: &str| known(None, name).expect(name).keys.concat();
        for (name, expected) in [
            ("orders", "id"),
            ("recent", "number"),
            ("latest", "number"),
            ("tiers", "tier"),
            ("child", "id"),
            ("both", ""),
            ("itself", ""),
            ("parent", ""),
        ] {
            assert_eq!(keys(name).join(","), expected, "{name}");
        }
        let recent = known(None, "recent").expect("a view");
        assert_eq!((recent.rows, recent.references), (Some(5_000), vec![(vec!["buyer".to_owned()], 6)]));
    }

    #[test]
    fn the_systems_own_relations_are_as_small_as_the_database() {
        assert_eq!(known(None, "pg_class").expect("known").rows, Some(300));
        assert_eq!(known(Some("information_schema"), "tables").expect("known").rows, Some(300));
        // But for those that are large in any.
        for (schema, name) in
            [(None, "pg_proc"), (Some("pg_catalog"), "pg_attribute"), (Some("information_schema"), "columns")]
        {
            assert_eq!(known(schema, name).expect("known").rows, Some(10_000), "{name}");
        }
        assert!(known(None, "columns").is_none());
    }
}
