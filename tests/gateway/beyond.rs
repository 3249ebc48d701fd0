//! A role of a scope to which somebody else has given something is nobody's at the next connection: another
//! is made in its place. Every kind of right that PostgreSQL has, on whatever it is.

use dbgate::core::grant::Access;
use dbgate::core::mask;
use dbgate::core::scope::RelationName;
use dbgate::server::scopes::{self, Complete, ScopeError};

use crate::support::bench::{Bench, bench};
use crate::support::until::until;

const SHOP: &str = "
    create schema hr;
    create table customers (id serial primary key, name text, email text unique, born date);
    create table orders (id bigserial primary key, note text);
    create table hr.pay (id int primary key, iban text);
    create view directory as select id, email from customers;
    create function total() returns int language sql as 'select 1';
    create type pair as (a int, b int);
    create table kept (id int);
    create table given (id int);";

const TAGS: &str = "
[[column]]
match = \"public.customers.email\"
tags = [\"email\"]
[[column]]
match = \"hr.pay.iban\"
tags = [\"secret\"]
";

/// Nobody reads the one or changes the other.
const RULES: &str = "@id(\"kept\")
forbid (principal, action in [Action::\"read\", Action::\"insert\", Action::\"update\", Action::\"delete\"], resource)
when { resource.name == \"kept\" };
@id(\"fixed\")
forbid (principal, action in [Action::\"update\", Action::\"delete\"], resource) when { resource.name == \"orders\" };";

/// Everything that the role holds, as PostgreSQL's own catalogs have it.
async fn held(bench: &Bench<'_>, role: &str) -> Vec<String> {
    let sql = "select pg_describe_object(d.classid, d.objid, d.objsubid) || ' ' || d.deptype::text || ' ' || \
          coalesce((select string_agg(a.privilege_type || a.is_grantable, ',' order by 1) from aclexplode(case d.classid \
            when 'pg_class'::regclass then case d.objsubid when 0 then (select relacl from pg_class where oid = d.objid) \
              else (select attacl from pg_attribute where attrelid = d.objid and attnum = d.objsubid) end \
            when 'pg_namespace'::regclass then (select nspacl from pg_namespace where oid = d.objid) end) a \
            where a.grantee = d.refobjid), '') \
        from pg_shdepend d where d.refobjid = $1::text::regrole and d.dbid in (0, (select oid from pg_database \
          where datname = current_database())) order by 1";
    let rows = bench.superuser.query(sql, &[&role]).await.expect("dependencies");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn whatever_somebody_else_grants_is_not_in_the_role_that_sessions_get() {
    let bench = bench(SHOP, TAGS).await;
    let scope = bench.scope(Access::Write, RULES).await;
    let (complete, digest) = (Complete::default(), scope.digest());
    let ensure = async || complete.ensure(&bench.broker, &scope, &digest).await;
    let role = ensure().await.expect("made").name;
    let before = held(&bench, &role).await;
    assert!(before.len() > 8, "{before:#?}");
    let customers = scope.relations.get(&RelationName::new("public", "customers")).expect("granted");
    let (schema, view) = customers.view.clone().expect("it shows a part");
    let view = format!("{}.{}", mask::identifier(&schema), mask::identifier(&view));
    for by in ["postgres", "dbgate_broker"] {
        for what in [
            "select on customers",
            "select (email) on customers",
            "update (email) on customers",
            "select (iban) on hr.pay",
            "select on kept",
            "update on orders",
            "delete (nothing)",
            "truncate on orders",
            "trigger on customers",
            "select (id) on orders with grant option",
            "insert on customers with grant option",
            "usage, update on sequence customers_id_seq",
            "create on schema public",
            "usage on schema hr with grant option",
            "execute on function total()",
            "usage on type pair with grant option",
            "usage on language plpgsql with grant option",
            "create on database here",
            "insert on the view",
            "update (email) on the view",
        ] {
            let (what, option) =
                what.split_once(" with ").map_or((what, String::new()), |(a, b)| (a, format!(" with {b}")));
            let database = format!("on database {}", bench.database);
            let what = what.replace("on database here", &database).replace("on the view", &format!("on {view}"));
            let grant = format!("set role {by}; grant {what} to {role}{option}; reset role");
            if bench.superuser.batch_execute(&grant).await.is_err() {
                bench.superuser.batch_execute("reset role").await.expect("reset");
                // What the broker may not give, and what there is not.
                assert!(by != "postgres" || what.contains("nothing"), "{grant}");
                continue;
            }
            if held(&bench, &role).await == before {
                assert_eq!(by, "dbgate_broker", "{grant}");
                continue;
            }
            ensure().await.unwrap_or_else(|error| panic!("{grant}: {error}"));
            assert_eq!(held(&bench, &role).await, before, "{grant}");
        }
    }
    let privileges = format!("alter default privileges grant select on tables to {role}");
    bench.superuser.batch_execute(&privileges).await.expect("granted");
    ensure().await.expect("taken back");
    assert_eq!(held(&bench, &role).await, before);
    leave_nothing(&bench, &role).await;
}

#[tokio::test]
async fn what_the_role_is_made_of_is_no_other_and_its_sessions_end() {
    let bench = bench(SHOP, TAGS).await;
    let scope = bench.scope(Access::Read, RULES).await;
    let (complete, digest) = (Complete::default(), scope.digest());
    let ensure = async || complete.ensure(&bench.broker, &scope, &digest).await;
    let role = ensure().await.expect("made").name;
    let oid = format!("select oid::int8 from pg_roles where rolname = '{role}'");
    // A temporary table of an open session is no more than the session's own.
    let (name, client) = bench.login(&ensure().await.expect("whole"), "beyond").await;
    let client = client.expect("signed in");
    client.batch_execute("set default_transaction_read_only = off").await.expect("comfort only");
    client.batch_execute("create temp table mine (i int)").await.expect("its own");
    client.batch_execute("alter default privileges grant select on tables to public").await.expect("any role may");
    let before = bench.count(&oid).await;
    ensure().await.expect("no more than the policy gives");
    assert_eq!(bench.count(&oid).await, before);
    for give in [
        format!("grant pg_read_all_data to {role}"),
        format!("alter role {role} bypassrls"),
        format!("alter role {role} login createdb"),
        format!("alter table given owner to {role}"),
    ] {
        let before = bench.count(&oid).await;
        bench.superuser.batch_execute(&give).await.expect("given");
        ensure().await.unwrap_or_else(|error| panic!("{give}: {error}"));
        assert_ne!(bench.count(&oid).await, before, "{give}");
        assert_eq!(ensure().await.expect("whole").name, role);
    }
    let backends = format!("select count(*) from pg_stat_activity where usename = '{name}'");
    until("its sessions are over", async || bench.count(&backends).await == 0).await;
    assert_eq!(bench.count("select count(*) from given").await, 0, "nothing of others is dropped");
    // A superuser is beyond the broker: nobody gets this scope.
    bench.superuser.batch_execute(&format!("alter role {role} superuser")).await.expect("given");
    let refused = ensure().await.expect_err("refused");
    assert!(matches!(&refused, ScopeError::Widened { beyond, .. } if *beyond == ["SUPERUSER"]), "{refused}");
    bench.superuser.batch_execute(&format!("alter role {role} nosuperuser")).await.expect("taken");
    ensure().await.expect("whole");
    drop(client);
    dbgate::server::roles::end(&bench.broker, &name).await.expect("ended");
    leave_nothing(&bench, &role).await;
}

/// Roles that were set aside are dropped once nothing of others holds them.
async fn leave_nothing(bench: &Bench<'_>, role: &str) {
    scopes::drop_unused(&bench.broker, &[]).await.expect("what can be dropped");
    let ours = format!("select rolname::text from pg_roles where starts_with(rolname, '{role}')");
    for one in bench.superuser.query(&ours, &[]).await.expect("roles") {
        let name: String = one.get(0);
        let take = format!("reassign owned by {name} to postgres; drop owned by {name}");
        bench.superuser.batch_execute(&take).await.expect("taken");
    }
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
    assert!(bench.superuser.query(&ours, &[]).await.expect("roles").is_empty());
}
