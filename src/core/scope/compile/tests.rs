//! Scopes of a catalog made by hand: what flows, what is withheld, what is granted.

use std::collections::BTreeMap;

use super::*;
use crate::core::identity::{Identity, Kind};
use crate::core::policy::file::Source;
use crate::core::policy::pack;
use crate::core::scope::RelationName;
use crate::core::scope::catalog::Column;
use crate::core::time::Moment;

const CLASSIFICATION: &str = r#"
[[column]]
match = "public.customers.email"
tags = ["pii", "email"]
[[column]]
match = "public.customers.ssn"
tags = ["pii"]
[[column]]
match = "public.events_2025.actor"
tags = ["pii"]
[[column]]
match = "hr.persons.iban"
tags = ["secret"]
[[column]]
match = "public.directory.*"
tags = []
[[column]]
match = "public.directory.email"
tags = ["pii"]
[[column]]
match = "public.half.email"
tags = ["pii"]
[[column]]
match = "public.notes.body"
tags = ["email"]
"#;

fn column(number: i16, name: &str) -> Column {
    Column {
        name: name.into(),
        number,
        type_name: "text".into(),
        type_oid: 25,
        not_null: false,
        has_default: false,
        is_generated: false,
        is_computed: false,
        generated_from: Vec::new(),
    }
}

fn relation(oid: u32, full: &str, kind: RelationKind, columns: &[&str]) -> Relation {
    let (schema, name) = full.split_once('.').expect("schema.name");
    let columns = columns.iter().zip(1..).map(|(name, number)| column(number, name)).collect();
    Relation {
        oid,
        name: RelationName::new(schema, name),
        kind,
        columns,
        parents: Vec::new(),
        depends_on: Vec::new(),
        has_row_security: false,
        has_user_policies: false,
        definition: None,
        estimated_rows: -1,
        sequences: Vec::new(),
        unique_keys: Vec::new(),
        constraints: Vec::new(),
        is_inert: false,
    }
}

fn catalog() -> Catalog {
    use RelationKind::{MaterializedView, Partitioned, Sequence, Table, View};
    let mut customers = relation(1, "public.customers", Table, &["id", "email", "ssn", "email_norm"]);
    if let Some(generated) = customers.columns.get_mut(3) {
        generated.is_generated = true;
        generated.generated_from = vec![2];
    }
    let mut orders = relation(2, "public.orders", Table, &["id", "note"]);
    orders.sequences = vec![RelationName::new("public", "orders_id_seq")];
    let events = relation(3, "public.events", Partitioned, &["id", "actor"]);
    let part = |oid, name: &str| Relation { parents: vec![3], ..relation(oid, name, Table, &["actor", "id"]) };
    let view = |oid, name: &str, kind, columns: &[&str], depends_on: &[(u32, i16)]| Relation {
        depends_on: depends_on.to_vec(),
        ..relation(oid, name, kind, columns)
    };
    let all = vec![
        customers,
        orders,
        events,
        part(4, "public.events_2024"),
        part(5, "public.events_2025"),
        relation(6, "hr.persons", Table, &["id", "iban"]),
        Relation { parents: vec![6], ..relation(7, "hr.employees", Table, &["id", "iban", "title"]) },
        view(10, "public.order_list", View, &["id"], &[(2, 1)]),
        view(11, "public.emails", View, &["e"], &[(1, 2)]),
        view(12, "public.outer_emails", View, &["e"], &[(11, 1)]),
        view(13, "public.whole", View, &["j"], &[(1, 0)]),
        view(14, "public.ids", View, &["id"], &[(1, 1)]),
        view(15, "public.summary", MaterializedView, &["n"], &[(1, 4)]),
        view(16, "public.through_function", View, &["x"], &[(0, 0)]),
        view(17, "public.directory", View, &["id", "email"], &[(1, 1), (1, 2)]),
        view(18, "public.half", View, &["id", "email"], &[(1, 1), (1, 2)]),
        Relation { has_row_security: true, ..relation(19, "public.notes", Table, &["id", "body"]) },
        relation(20, "public.ticket_no", Sequence, &["last_value"]),
        relation(21, "pg_catalog.pg_class", Table, &["relname"]),
    ];
    let relations: BTreeMap<_, _> = all.into_iter().map(|relation| (relation.name.clone(), relation)).collect();
    Catalog { cluster: "7".into(), database: "shop".into(), relations, ..Catalog::default() }
}

fn compiled(access: Access, extra: &str) -> Scope {
    let mut sources = pack::rules("production").expect("pack");
    sources.push(Source::new("classification.toml", CLASSIFICATION));
    sources.push(Source::new("extra.cedar", extra));
    let policy = Policy::parse(&sources).expect("valid");
    let identity = Identity {
        kind: Kind::Human,
        subject: "ana@acme.io".into(),
        sub: "1".into(),
        issuer: "https://id.acme.io".into(),
        groups: vec!["engineers".into()],
        expires: Moment::from_seconds(0),
    };
    let subject = Subject {
        identity: &identity,
        target: "prod",
        environment: "production",
        database: "shop",
        access,
        agent: None,
        reason: None,
        ticket: None,
    };
    compile(&policy, &subject, &catalog())
}

fn masks(scope: &Scope, full: &str) -> Vec<String> {
    let (schema, name) = full.split_once('.').expect("schema.name");
    let relation = scope.relations.get(&RelationName::new(schema, name)).expect(full);
    let masked = relation.columns.iter().filter_map(|column| column.mask.as_ref().map(|mask| (column, mask)));
    masked.map(|(column, mask)| format!("{} {}", column.name, mask.name)).collect()
}

fn withheld<'s>(scope: &'s Scope, full: &str) -> Option<&'s str> {
    let (schema, name) = full.split_once('.').expect("schema.name");
    scope.withheld.get(&RelationName::new(schema, name)).map(String::as_str)
}

#[test]
fn tags_flow_to_generated_columns_partitions_their_parent_and_children() {
    let scope = compiled(Access::Read, "");
    assert_eq!(masks(&scope, "public.customers"), ["email email", "ssn redact", "email_norm email"]);
    assert_eq!(masks(&scope, "public.orders"), [""; 0]);
    for events in ["public.events", "public.events_2024", "public.events_2025"] {
        assert_eq!(masks(&scope, events), ["actor redact"], "{events}");
    }
    assert_eq!(masks(&scope, "hr.employees"), ["iban null"]);
}

#[test]
fn views_over_what_is_masked_are_withheld_unless_each_column_is_classified() {
    let scope = compiled(Access::Read, "");
    let cases = [
        ("public.order_list", None),
        ("public.ids", None),
        ("public.emails", Some("it shows public.customers.email, which is masked")),
        ("public.outer_emails", Some("it shows public.emails, which is not granted")),
        ("public.whole", Some("it shows public.customers.email, which is masked")),
        ("public.summary", Some("it shows public.customers.email_norm, which is masked")),
        ("public.through_function", Some("it reads through a function or relation that cannot be followed")),
        ("public.directory", None),
        // One classified column does not speak for the others.
        ("public.half", Some("it shows public.customers.email, which is masked")),
    ];
    for (name, reason) in cases {
        assert_eq!(withheld(&scope, name), reason, "{name}");
    }
    assert_eq!(masks(&scope, "public.directory"), ["email redact"]);
}

#[test]
fn a_disclosing_mask_needs_a_view_and_is_withheld_under_row_security() {
    let scope = compiled(Access::Read, "");
    let view = |name: &str| scope.relations.get(&RelationName::new("public", name)).and_then(|one| one.view.clone());
    let (schema, name) = view("customers").expect("email discloses");
    assert_eq!(schema, crate::core::mask::VIEWS_SCHEMA);
    assert!(
        name.split_once('_').is_some_and(|(digest, oid)| digest.len() == 16 && oid.parse::<u32>().is_ok()),
        "{name}"
    );
    assert_eq!(view("events"), None);
    assert!(withheld(&scope, "public.notes").is_some_and(|reason| reason.contains("row-level security")));
}

#[test]
fn a_parent_is_withheld_with_a_child_that_may_not_be_read() {
    let forbid = "@id(\"x\")\nforbid (principal, action == Action::\"read\", resource)\n\
                  when { resource.name == \"events_2024\" };";
    let scope = compiled(Access::Read, forbid);
    let reason = "it would show the rows of public.events_2024, which is not granted";
    assert_eq!(withheld(&scope, "public.events"), Some(reason));
    assert!(scope.relations.contains_key(&RelationName::new("public", "events_2025")));
}

#[test]
fn access_decides_about_writes_and_system_schemas_are_never_granted() {
    let orders = RelationName::new("public", "orders");
    let rights = |scope: &Scope| {
        let one = scope.relations.get(&orders).expect("orders");
        (one.insert, one.update, one.delete, one.sequences.len())
    };
    // Even a policy that permits everything gives a read session nothing to write with.
    let scope = compiled(Access::Read, "@id(\"all\")\npermit (principal, action, resource);");
    assert_eq!(rights(&scope), (false, false, false, 0));
    let scope = compiled(Access::Write, "");
    assert_eq!(rights(&scope), (true, true, true, 1));
    assert!(!scope.relations.contains_key(&RelationName::new("pg_catalog", "pg_class")));
    let view = |name: &str| scope.relations.get(&RelationName::new("public", name)).map(|one| one.update);
    assert_eq!(view("order_list"), Some(true));
    // Its owner's rights would write the masked table behind it.
    assert_eq!(view("ids"), Some(false));
}

#[test]
fn a_forbid_without_a_mask_hides_and_the_stricter_of_two_masks_wins() {
    let rule = |id: &str, mask: &str| {
        format!(
            "@id(\"{id}\") {mask}\nforbid (principal, action == Action::\"reveal\", resource)\n\
             when {{ resource.name == \"note\" }};\n"
        )
    };
    let cases = [
        (rule("a", ""), "note null"),
        (rule("a", "@mask(\"last4\")"), "note last4"),
        (rule("a", "@mask(\"last4\")") + &rule("b", "@mask(\"null\")"), "note null"),
        (rule("a", "@mask(\"last4\")") + &rule("b", "@mask(\"fixed:x\")"), "note fixed:x"),
        (rule("a", "@mask(\"last4\")") + &rule("b", "@mask(\"partial\")"), "note redact"),
        // A mask that does not fit the type hides everything.
        (rule("a", "@mask(\"year\")"), "note null"),
    ];
    for (extra, expected) in cases {
        assert_eq!(masks(&compiled(Access::Read, &extra), "public.orders"), [expected], "{extra}");
    }
}

#[test]
fn the_same_question_has_the_same_digest_and_access_is_part_of_it() {
    assert_eq!(compiled(Access::Read, "").digest(), compiled(Access::Read, "").digest());
    assert_ne!(compiled(Access::Read, "").digest(), compiled(Access::Write, "").digest());
}
