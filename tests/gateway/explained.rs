//! What the policy is said to give is what PostgreSQL holds: for every principal of a policy with
//! several groups, every level of access, every relation, column and sequence that PostgreSQL lists,
//! asked in the principal's own session.

use std::collections::BTreeSet;

use crate::support::bench::{Bench, bench, somebody};
use dbgate::core::grant::Access;
use dbgate::core::identity::{Identity, Kind};
use dbgate::core::policy::file::Source;
use dbgate::core::scope::explain::{self, Explanation, Extent, Right};
use dbgate::core::scope::{RelationName, Scope};
use dbgate::server::{roles, scopes};
use tokio_postgres::Client;

const SHOP: &str = "
    create schema hr; create schema desk;
    create table customers (id serial primary key, name text not null, email text unique, card text, region text,
        email_norm text generated always as (lower(email)) stored);
    create table orders (id bigserial primary key, customer_id int references customers, note text, total numeric);
    create table hr.persons (id int, iban text, born date);
    create table hr.employees (title text) inherits (hr.persons);
    create table events (id int, actor text, at date) partition by range (at);
    create table events_2025 partition of events for values from ('2025-01-01') to ('2026-01-01');
    create table desk.notes (id int, owner name, body text);
    alter table desk.notes enable row level security;
    create policy own on desk.notes using (owner = current_user);
    create view directory as select id, email, region from customers;
    create view order_list as select id, note from orders;
    create view whole as select id, to_jsonb(c) as j from customers c;
    create materialized view summary as select c.id, c.email as contact, count(o.id) as n
        from customers c left join orders o on o.customer_id = c.id group by c.id;
    create materialized view blurred as select distinct email from customers;
    create table invites (id int primary key, email text references customers (email), code text);
    create view invite_list as select id, email from invites;
    create table hr.reviews (id int primary key, customer int references customers, grade int, iban text unique, check (grade > 0 or iban is null));
    create sequence ticket_no;
    create extension postgres_fdw;
    create server other foreign data wrapper postgres_fdw;
    create foreign table far (id int, secret text) server other;";

const CLASSIFICATION: &str = r#"
[[column]]
match = "public.customers.email"
tags = ["pii"]
[[column]]
match = "public.customers.card"
tags = ["card"]
[[column]]
match = "public.events_2025.actor"
tags = ["pii"]
[[column]]
match = "hr.persons.*"
tags = ["hr"]
[[column]]
match = "hr.reviews.iban"
tags = ["pii"]
[[column]]
match = "hr.reviews.customer"
tags = ["pii"]
[[column]]
match = "public.far.secret"
tags = ["pii"]
"#;

const RULES: &str = r#"
@id("all-connect")
permit (principal, action == Action::"connect", resource);

@id("dba-all")
permit (principal in Group::"dba", action, resource);

@id("engineers-read")
permit (principal in Group::"engineers", action in [Action::"read", Action::"reveal"], resource);
@id("engineers-write")
permit (principal in Group::"engineers", action in [Action::"insert", Action::"update", Action::"delete"], resource)
when { context.access == "write" && resource.schema == "public" };

@id("support-read")
permit (principal in Group::"support", action == Action::"read", resource)
when { ["customers", "orders", "directory", "summary"].contains(resource.name) };
@id("support-sees")
permit (principal in Group::"support", action == Action::"reveal", resource)
when { resource.name != "total" };
@id("support-changes")
permit (principal in Group::"support", action == Action::"update", resource)
when { resource.name == "customers" };
@id("support-region")
@filter("region = 'north'")
forbid (principal in Group::"support", action == Action::"read", resource)
when { resource.name == "customers" };

@id("hr-read")
permit (principal in Group::"hr", action in [Action::"read", Action::"insert"], resource)
when { resource.schema == "hr" };
@id("hr-sees")
permit (principal in Group::"hr", action == Action::"reveal", resource)
when { resource.schema == "hr" };

@id("writers-append")
permit (principal in Group::"writers", action == Action::"insert", resource)
when { resource.name == "orders" };

@id("mask-pii")
@mask("null")
forbid (principal, action == Action::"reveal", resource)
when { resource.tags.contains("pii") } unless { principal in Group::"dba" };
@id("mask-card")
@mask("last4")
forbid (principal, action == Action::"reveal", resource)
when { resource.tags.contains("card") };
@id("mask-hr")
@mask("redact")
forbid (principal, action == Action::"reveal", resource)
when { resource.tags.contains("hr") } unless { principal in Group::"hr" };
@id("no-guessing")
forbid (principal, action == Action::"guess", resource)
when { principal is Agent };
"#;

/// Every person and program that the policy tells apart, and some that it does not know.
fn principals() -> Vec<Identity> {
    let program = Identity { kind: Kind::Workload, ..somebody("ci@acme.io", &["writers"]) };
    vec![
        somebody("dora@acme.io", &["dba"]),
        somebody("ana@acme.io", &["engineers"]),
        somebody("sam@acme.io", &["support"]),
        somebody("hal@acme.io", &["hr"]),
        somebody("kim@acme.io", &["support", "hr", "writers"]),
        somebody("eve@acme.io", &["engineers", "support"]),
        somebody("guest@acme.io", &[]),
        program,
        Identity { kind: Kind::Agent, ..somebody("bot@acme.io", &["engineers"]) },
        Identity { kind: Kind::Agent, ..somebody("hr-bot@acme.io", &["engineers", "hr"]) },
    ]
}

/// What the session itself may do with every relation and column there is.
const HELD: &str = "
    select n.nspname::text, c.relname::text, a.attname::text,
      has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'INSERT'),
      has_table_privilege(c.oid, 'UPDATE'), has_table_privilege(c.oid, 'DELETE'),
      has_column_privilege(c.oid, a.attnum, 'SELECT'), has_column_privilege(c.oid, a.attnum, 'INSERT'),
      has_column_privilege(c.oid, a.attnum, 'UPDATE'),
      has_table_privilege(c.oid, 'TRUNCATE') or has_table_privilege(c.oid, 'TRIGGER')
    from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
    where n.nspname !~ '^(pg_|information_schema)' and c.relkind in ('r', 'p', 'v', 'm', 'f')
      and a.attnum > 0 and not a.attisdropped";

const SEQUENCES: &str = "
    select n.nspname::text, c.relname::text, has_sequence_privilege(c.oid, 'USAGE'),
      has_sequence_privilege(c.oid, 'UPDATE'), has_sequence_privilege(c.oid, 'SELECT')
    from (select * from pg_class where relkind = 'S' offset 0) c join pg_namespace n on n.oid = c.relnamespace";

#[tokio::test]
async fn the_explanation_is_what_postgresql_holds_for_every_principal() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    let policy = bench.policy(&[vec![Source::new("rules.cedar", RULES)]]);
    let (mut digests, mut compared) = (BTreeSet::new(), 0);
    for identity in principals() {
        for access in [Access::Read, Access::Write, Access::Admin] {
            let scope = bench.scope_of(&policy, &identity, access).await;
            digests.insert(scope.digest());
            let role = scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
            let (login, client) = bench.login(&role, "x").await;
            let client = client.expect("signed in");
            let who = format!("{} {}", identity.subject, access.word());
            compared += relations(&client, &scope, &who).await;
            sequences(&client, &scope, &who).await;
            nothing_else(&bench, &role.name, &who).await;
            drop(client);
            roles::end(&bench.broker, &login).await.expect("ended");
        }
    }
    // The principals do differ, and the list was not empty.
    assert!(digests.len() >= 16, "{}", digests.len());
    assert!(compared > 24 * 40, "{compared}");
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
}

/// Compares every relation and column; says how many columns there were.
async fn relations(client: &Client, scope: &Scope, who: &str) -> usize {
    let rows = client.query(HELD, &[]).await.expect("privileges");
    for row in &rows {
        let (schema, name, column): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let (table, columns) = said(scope, &schema, &name, &column);
        let place = format!("{who} on {schema}.{name}.{column}");
        let held_on_table: [bool; 4] = [row.get(3), row.get(4), row.get(5), row.get(6)];
        let held_on_column: [bool; 3] = [row.get(7), row.get(8), row.get(9)];
        assert_eq!(held_on_table, table, "{place}");
        assert_eq!(held_on_column, columns, "{place}");
        assert!(!row.get::<_, bool>(10), "{place}: TRUNCATE and TRIGGER are nobody's");
    }
    rows.len()
}

/// What is said of a relation, in the order of [`HELD`]; of a masking view through what it stands for.
fn said(scope: &Scope, schema: &str, name: &str, column: &str) -> ([bool; 4], [bool; 3]) {
    let behind = scope.relations.iter().find(|(_, one)| {
        one.view.as_ref().is_some_and(|(in_schema, view)| (in_schema.as_str(), view.as_str()) == (schema, name))
    });
    let covers = |extents: &[Extent; 4]| {
        let [select, insert, update, _] = extents;
        ([select, insert, update]).map(|extent| extent.covers(column))
    };
    if let Some((behind, _)) = behind {
        let Explanation::Granted(granted) = explain::explain(scope, behind) else { panic!("{behind} has a view") };
        return (granted.through_view.each_ref().map(Extent::is_whole), covers(&granted.through_view));
    }
    let taken = scope.relations.values().find(|one| one.rows_view() == Some((schema.to_owned(), name.to_owned())));
    if let Some(relation) = taken {
        let [select, insert, update] =
            explain::on_rows_view(relation).map(|(_, columns)| columns.contains(&column.to_owned()));
        return ([false; 4], [select, insert, update]);
    }
    let found = explain::explain(scope, &RelationName::new(schema, name));
    let table = Right::ALL.map(|right| found.has_table(right));
    let [select, insert, update, _] = Right::ALL.map(|right| found.has_column(column, right));
    (table, [select, insert, update])
}

async fn sequences(client: &Client, scope: &Scope, who: &str) {
    let drawn: BTreeSet<&(String, String)> = scope.relations.values().flat_map(|one| &one.sequences).collect();
    let rows = client.query(SEQUENCES, &[]).await.expect("sequences");
    assert!(rows.len() >= 3);
    for row in rows {
        let name: (String, String) = (row.get(0), row.get(1));
        let read = explain::explain(scope, &RelationName::new(&name.0, &name.1)).has_table(Right::Select);
        assert_eq!(row.get::<_, bool>(2), drawn.contains(&name), "{who} draws from {name:?}");
        assert!(!row.get::<_, bool>(3), "{who} sets {name:?}");
        assert_eq!(row.get::<_, bool>(4), read, "{who} reads {name:?}");
    }
}

/// The role owns nothing, belongs to nothing, and may make nothing but temporary tables.
async fn nothing_else(bench: &Bench<'_>, role: &str, who: &str) {
    let more = format!(
        "select (select count(*) from pg_class where relowner = r.oid) + (select count(*) from pg_proc where proowner = r.oid) \
         + (select count(*) from pg_auth_members where member = r.oid) + (select count(*) from pg_namespace n \
           where has_schema_privilege(r.oid, n.oid, 'CREATE')) + has_database_privilege(r.oid, current_database(), 'CREATE')::int \
         from pg_roles r where rolname = '{role}'"
    );
    assert_eq!(bench.count(&more).await, 0, "{who}");
}
