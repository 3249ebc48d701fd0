//! What is known of the relations that a statement joins: their columns, keys and rows.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use crate::core::scope::catalog::Catalog;
use crate::core::statement::facts::Name;
use crate::core::statement::joins::Known;

/// Keys of the system's own relations that are not `oid`, for what tools join them by.
const SYSTEM: [(&str, &[&str]); 22] = [
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

/// The relations of one catalog, as a statement names them.
pub(super) struct Keys<'c> {
    catalog: &'c Catalog,
    search_path: &'c [String],
    /// Tables that have children. Many relations are asked about, and it takes a look at all there are.
    parents: OnceCell<BTreeSet<u32>>,
}

impl<'c> Keys<'c> {
    pub(super) const fn new(catalog: &'c Catalog, search_path: &'c [String]) -> Self {
        Self { catalog, search_path, parents: OnceCell::new() }
    }

    /// A relation by its name.
    pub(super) fn of(&self, name: &Name) -> Option<Known> {
        let Some(relation) = self.catalog.resolve(name.schema.as_deref(), &name.name, self.search_path) else {
            return system(name);
        };
        let columns = relation.columns.iter().map(|column| column.name.clone()).collect();
        let numbered = |number: &i16| {
            relation.columns.iter().find(|column| column.number == *number).map(|column| column.name.clone())
        };
        let keys = relation.unique_keys.iter().filter(|key| !key.is_empty());
        let keys: Vec<Vec<String>> = keys.filter_map(|key| key.iter().map(numbered).collect()).collect();
        let has_children = || self.parents.get_or_init(|| self.catalog.parents()).contains(&relation.oid);
        let keys = if keys.is_empty() || relation.keys_hold(has_children) { keys } else { Vec::new() };
        // One that was never analysed has any number of rows.
        Some(Known { columns, keys, rows: u64::try_from(relation.estimated_rows).ok().filter(|rows| *rows > 0) })
    }
}

fn system(name: &Name) -> Option<Known> {
    let is_catalog = match name.schema.as_deref() {
        Some(schema) => schema == "pg_catalog",
        None => name.name.starts_with("pg_"),
    };
    let names = |key: &[&str]| key.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>();
    let more = SYSTEM.iter().filter(|(relation, _)| *relation == name.name).map(|(_, key)| names(key));
    let keys: Vec<Vec<String>> = std::iter::once(names(&["oid"])).chain(more).collect();
    is_catalog.then(|| Known { keys, ..Known::default() })
}
