//! The exact SQL, as a reviewer would check it.

use std::collections::BTreeMap;

use super::*;
use crate::core::grant::Access;
use crate::core::mask;
use crate::core::scope::{ColumnMask, RelationScope};

fn column(name: &str, masked_by: Option<&str>) -> ColumnScope {
    let mask = masked_by.map(|mask_name| {
        let expression = mask::expression(
            mask_name,
            mask::Masked { schema: "public", relation: "customers", column: name, type_name: "text" },
            &mask::own_types::Types::new(),
        )
        .expect("fits text");
        ColumnMask {
            name: mask_name.into(),
            expression: expression.sql,
            discloses: expression.discloses,
            rule: "r".into(),
        }
    });
    ColumnScope { name: name.into(), number: 1, type_name: "text".into(), type_oid: 25, mask, is_generated: false }
}

fn scope() -> Scope {
    let relation = |oid, columns, view: Option<&str>| RelationScope {
        oid,
        read: true,
        insert: true,
        update: true,
        delete: true,
        columns,
        view: view.map(|name| ("dbgate_m_1_0".to_owned(), name.to_owned())),
        filter: None,
        rebuilt: None,
        sequences: vec![("public".into(), "s".into())],
        untold: Vec::new(),
    };
    let read_only = RelationScope {
        insert: false,
        update: false,
        delete: false,
        sequences: Vec::new(),
        ..relation(3, vec![column("id", None)], None)
    };
    let relations: BTreeMap<_, _> = [
        (RelationName::new("public", "orders"), relation(1, vec![column("id", None)], None)),
        (
            RelationName::new("public", "customers"),
            relation(
                2,
                vec![column("id", None), column("ssn", Some("null")), column("tax", Some("last4"))],
                Some("customers"),
            ),
        ),
        (RelationName::new("hr", "o'dd\"name"), read_only),
        (RelationName::new("lost", "not_ours"), relation(4, vec![column("id", None)], None)),
    ]
    .into_iter()
    .collect();
    Scope {
        cluster: "7".into(),
        database: "shop".into(),
        access: Access::Write,
        schemas: vec!["hr".into(), "public".into()],
        relations,
        withheld: BTreeMap::new(),
    }
}

fn grantable() -> Grantable {
    Grantable {
        relations: [1, 2, 3].into(),
        known: [1, 2, 3].into(),
        withheld: [RelationName::new("public", "notes")].into(),
        sequences: [RelationName::new("public", "s")].into(),
        stored: [1, 2, 3].into(),
    }
}

#[test]
fn privileges_are_granted_whole_without_masks_and_by_column_with_them() {
    assert_eq!(
        grant_scope("dbgate_s_1", &scope(), &grantable()),
        [
            "GRANT USAGE ON SCHEMA \"hr\", \"public\" TO \"dbgate_s_1\"",
            "GRANT SELECT ON \"hr\".\"o'dd\"\"name\", \"public\".\"orders\" TO \"dbgate_s_1\"",
            "GRANT INSERT ON \"public\".\"orders\" TO \"dbgate_s_1\"",
            "GRANT UPDATE ON \"public\".\"orders\" TO \"dbgate_s_1\"",
            "GRANT DELETE ON \"public\".\"customers\", \"public\".\"orders\" TO \"dbgate_s_1\"",
            "GRANT INSERT (\"id\", \"ssn\", \"tax\") ON \"public\".\"customers\" TO \"dbgate_s_1\"",
            "GRANT REFERENCES (\"ssn\", \"tax\") ON \"public\".\"customers\" TO \"dbgate_s_1\"",
            "GRANT SELECT (\"id\", \"ctid\") ON \"public\".\"customers\" TO \"dbgate_s_1\"",
            "GRANT UPDATE (\"id\") ON \"public\".\"customers\" TO \"dbgate_s_1\"",
            "GRANT REFERENCES ON \"public\".\"notes\" TO \"dbgate_s_1\"",
            "GRANT USAGE ON SEQUENCE \"public\".\"s\" TO \"dbgate_s_1\"",
        ]
    );
}

#[test]
fn masking_views_are_made_by_their_owner_under_a_safe_search_path() {
    let steps = make_views("dbgate_s_1", &scope(), &grantable());
    let sql: Vec<String> = steps.into_iter().map(|step| step.sql).collect();
    assert_eq!(sql.first().map(String::as_str), Some("SET LOCAL ROLE \"dbgate_masker\""));
    assert_eq!(sql.get(1).map(String::as_str), Some("SET LOCAL search_path = pg_catalog, pg_temp"));
    assert!(sql.contains(&"GRANT USAGE ON SCHEMA \"dbgate_m_views\" TO \"dbgate_s_1\"".to_owned()));
    let view = sql.iter().find(|text| text.starts_with("CREATE VIEW")).expect("a view");
    assert!(view.starts_with(
        "CREATE VIEW \"dbgate_m_1_0\".\"customers\" AS SELECT \"id\", null::text AS \"ssn\", \
         (case when length(\"tax\"::text) < 8"
    ));
    assert!(view.ends_with("AS \"tax\" FROM \"public\".\"customers\""), "{view}");
    assert!(sql.contains(&"GRANT UPDATE (\"id\") ON \"dbgate_m_1_0\".\"customers\" TO \"dbgate_s_1\"".to_owned()));
    assert_eq!(sql.last().map(String::as_str), Some("RESET ROLE"));
    assert!(make_views("dbgate_s_1", &scope(), &Grantable::default()).is_empty());
}

#[test]
fn a_login_role_says_in_each_version_what_membership_brings() {
    let login = Login {
        name: "dbgate_u_ana_1",
        scope_role: "dbgate_s_1",
        database: "shop",
        valid_until: "2026-11-23T20:10:00Z",
        read_only: true,
    };
    let old = make_login(&login, 150_018);
    assert_eq!(
        old,
        [
            "CREATE ROLE \"dbgate_u_ana_1\" NOLOGIN CONNECTION LIMIT 1 VALID UNTIL '2026-11-23T20:10:00Z'",
            "COMMENT ON ROLE \"dbgate_u_ana_1\" IS 'dbgate login in shop'",
            "GRANT \"dbgate_s_1\" TO \"dbgate_u_ana_1\"",
            "GRANT \"dbgate_sessions\" TO \"dbgate_u_ana_1\"",
            "ALTER ROLE \"dbgate_u_ana_1\" SET role = 'dbgate_s_1'",
            "ALTER ROLE \"dbgate_u_ana_1\" SET default_transaction_read_only = on",
        ]
    );
    let new = make_login(&Login { read_only: false, ..login }, 170_002);
    assert!(new.contains(&"GRANT \"dbgate_s_1\" TO \"dbgate_u_ana_1\" WITH INHERIT FALSE, SET TRUE".to_owned()));
    assert_eq!(new.len(), 5);
    assert_eq!(
        enable_login("dbgate_u_ana_1", "SCRAM-SHA-256$4096:c2FsdA==$a:b"),
        "ALTER ROLE \"dbgate_u_ana_1\" LOGIN PASSWORD 'SCRAM-SHA-256$4096:c2FsdA==$a:b'"
    );
    assert_eq!(
        drop_role("dbgate_u_ana_1", 170_002).first().map(String::as_str),
        Some("GRANT \"dbgate_u_ana_1\" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE")
    );
}

#[test]
fn login_names_show_the_person_and_never_grow_too_long() {
    assert_eq!(login_name("Ana.Silva@acme.io", "gr_0AB/1"), "dbgate_u_anasilva_gr0ab1");
    assert!(login_name(&"x".repeat(100), &"y".repeat(100)).len() <= 63);
}

#[test]
fn preparing_names_no_password_and_quotes_what_it_is_given() {
    let schemas = ["we\"ird".to_owned()];
    let sql = prepare_target(&PrepareTarget { broker: BROKER, database: "shop", schemas: &schemas, lend: &[] });
    assert!(sql.iter().all(|text| !text.contains("PASSWORD") && !text.contains(" SUPERUSER")));
    assert!(sql.contains(&"GRANT USAGE ON SCHEMA \"we\"\"ird\" TO \"dbgate_broker\" WITH GRANT OPTION".to_owned()));
}
