//! The SQL that takes masking views away for the time of a migration and makes them again.

use super::{MASKER, identifier, literal, qualified};
use crate::core::scope::RelationName;

/// A masking view as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptView {
    pub name: RelationName,
    /// The SELECT, with every name in full.
    pub definition: String,
    /// As in `security_barrier=true`.
    pub options: Vec<String>,
    pub comment: Option<String>,
    pub grants: Vec<KeptGrant>,
}

/// A privilege on a masking view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptGrant {
    pub privilege: String,
    /// The one column it is for; none: the whole view.
    pub column: Option<String>,
    pub role: String,
}

/// All of them at once: they may stand on each other. Needs a transaction.
pub fn drop_kept(views: &[KeptView]) -> Vec<String> {
    if views.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = views.iter().map(|view| qualified(&view.name.schema, &view.name.name)).collect();
    vec![
        format!("SET LOCAL ROLE {}", identifier(MASKER)),
        format!("DROP VIEW {}", names.join(", ")),
        "RESET ROLE".to_owned(),
    ]
}

/// One of them, as the role that owns them. Needs a transaction.
pub fn make_kept(view: &KeptView) -> Vec<String> {
    let place = qualified(&view.name.schema, &view.name.name);
    let options = if view.options.is_empty() { String::new() } else { format!(" WITH ({})", view.options.join(", ")) };
    let mut sql = vec![
        format!("SET LOCAL ROLE {}", identifier(MASKER)),
        "SET LOCAL search_path = pg_catalog, pg_temp".to_owned(),
        format!("CREATE VIEW {place}{options} AS {}", view.definition.trim_end().trim_end_matches(';')),
    ];
    if let Some(comment) = &view.comment {
        sql.push(format!("COMMENT ON VIEW {place} IS {}", literal(comment)));
    }
    for grant in &view.grants {
        let column = grant.column.as_ref().map(|column| format!(" ({})", identifier(column))).unwrap_or_default();
        sql.push(format!("GRANT {}{column} ON {place} TO {}", grant.privilege, identifier(&grant.role)));
    }
    sql.push("RESET ROLE".to_owned());
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_made_again_with_its_options_and_grants() {
        let view = KeptView {
            name: RelationName::new("dbgate_m_1_0", "customers"),
            definition: " SELECT id FROM public.customers;".into(),
            options: vec!["security_barrier=true".into()],
            comment: None,
            grants: vec![
                KeptGrant { privilege: "SELECT".into(), column: None, role: "dbgate_s_1".into() },
                KeptGrant { privilege: "UPDATE".into(), column: Some("id".into()), role: "dbgate_s_1".into() },
            ],
        };
        let sql = make_kept(&view);
        let place = "\"dbgate_m_1_0\".\"customers\"";
        for expected in [
            format!("CREATE VIEW {place} WITH (security_barrier=true) AS  SELECT id FROM public.customers"),
            format!("GRANT SELECT ON {place} TO \"dbgate_s_1\""),
            format!("GRANT UPDATE (\"id\") ON {place} TO \"dbgate_s_1\""),
        ] {
            assert!(sql.contains(&expected), "{sql:?}");
        }
        assert!(drop_kept(&[]).is_empty());
        assert_eq!(drop_kept(&[view])[1], format!("DROP VIEW {place}"));
    }
}
