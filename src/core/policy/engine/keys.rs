//! What is known of the relations that a statement joins: their columns, keys and rows.

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

/// A relation by its name in a statement.
pub(super) fn of(name: &Name, catalog: &Catalog, search_path: &[String]) -> Option<Known> {
    let Some(relation) = catalog.resolve(name.schema.as_deref(), &name.name, search_path) else {
        return system(name);
    };
    let columns: Vec<String> = relation.columns.iter().map(|column| column.name.clone()).collect();
    let numbered = |number: &i16| {
        relation.columns.iter().find(|column| column.number == *number).map(|column| column.name.clone())
    };
    let keys = relation.unique_keys.iter().filter_map(|key| key.iter().map(numbered).collect::<Option<Vec<_>>>());
    // One of a parent says nothing of its children.
    let keys = keys.filter(|key| !key.is_empty() && catalog.is_unique(relation, key)).collect();
    // One that was never analysed has any number of rows.
    Some(Known { columns, keys, rows: u64::try_from(relation.estimated_rows).ok().filter(|rows| *rows > 0) })
}

fn system(name: &Name) -> Option<Known> {
    let is_catalog = match name.schema.as_deref() {
        Some(schema) => schema == "pg_catalog",
        None => name.name.starts_with("pg_"),
    };
    let names = |key: &[&str]| key.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>();
    let more = SYSTEM.iter().filter(|(relation, _)| *relation == name.name).map(|(_, key)| names(key));
    let keys: Vec<Vec<String>> = std::iter::once(names(&["oid"])).chain(more).collect();
    is_catalog.then(|| Known { columns: Vec::new(), keys, rows: None })
}
