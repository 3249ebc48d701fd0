//! Functions and operators of the database's own that fit better than PostgreSQL's, or stand before them: none
//! runs with the rights of the server, nor of the superuser who prepares the target.

use dbgate::core::grant::Access;

use crate::support::gate::{AT_MOST_100, Gate, SHOP, column, prepare_again, refusal, superuser};

/// Each notes that it has run for somebody with rights, and answers as PostgreSQL's own.
const HOSTILE: &str = r#"
create table ran (who text, what text);
grant insert on ran to public;
create function public.note(text) returns void language plpgsql volatile as $$ begin
  if current_user in ('dbgate_broker', 'dbgate_masker') or ($1 like 'init %' and current_user = 'postgres')
  then insert into public.ran values (current_user, $1); end if; end $$;
create function public.shobj_description(oid, text) returns text language plpgsql as
  $$ begin perform public.note('shobj_description'); return pg_catalog.shobj_description($1, $2::name); end $$;
create function public.starts_with(name, text) returns boolean language plpgsql as
  $$ begin perform public.note('starts_with'); return pg_catalog.starts_with($1::text, $2); end $$;
create function public.concat_ws(text, text, text) returns text language plpgsql as
  $$ begin perform public.note('concat_ws'); return pg_catalog.concat_ws($1, $2, $3); end $$;
create function public.minus(jsonb, jsonb) returns jsonb language plpgsql as
  $$ begin perform public.note('-'); return $1; end $$;
create operator public.- (leftarg = jsonb, rightarg = jsonb, function = public.minus);
create function public.differs(oid, regrole) returns boolean language plpgsql as
  $$ begin perform public.note('init <>'); return $1 operator(pg_catalog.<>) $2::oid; end $$;
create operator public.<> (leftarg = oid, rightarg = regrole, function = public.differs);
create function public.unlike(name, name) returns boolean language plpgsql as
  $$ begin perform public.note('init !~'); return $1 operator(pg_catalog.!~) $2::text; end $$;
create operator public.!~ (leftarg = name, rightarg = name, function = public.unlike);
create schema evil;
grant usage on schema evil to public;
create function evil.is_same(oid, oid) returns boolean language plpgsql as
  $$ begin perform public.note('='); return $1 operator(pg_catalog.=) $2; end $$;
create operator evil.= (leftarg = oid, rightarg = oid, function = evil.is_same);
create function evil.current_setting(text) returns text language plpgsql as
  $$ begin perform public.note('current_setting'); return pg_catalog.current_setting($1); end $$;
create function evil.has_schema_privilege(name, oid, text) returns boolean language plpgsql as
  $$ begin perform public.note('has_schema_privilege'); return pg_catalog.has_schema_privilege($1, $2, $3); end $$;
alter database overloads set search_path = evil, public, pg_catalog;
"#;

#[tokio::test]
async fn nothing_of_the_databases_own_runs_with_the_servers_rights() {
    let policy = [("classification.toml", ""), ("open.cedar", AT_MOST_100)];
    let gate = Gate::without_pack("overloads", &format!("{SHOP}{HOSTILE}"), &policy).await;
    prepare_again(&gate.folder).await;
    for access in [Access::Read, Access::Admin] {
        let client = gate.connect(&gate.grant(access).await).await;
        assert_eq!(
            column(&client, "set search_path = public; select count(*) from orders").await.expect("read"),
            ["3000"]
        );
    }
    // Until the roles are gone again, and the definitions have been looked at.
    let owner = superuser(&gate.database).await;
    owner.batch_execute("create table public.later (id int)").await.expect("made");
    let state = gate.running.state();
    state.refresh_catalog("demo", &gate.database).await.expect("read");
    let ran = "select who || ' ' || what from public.ran";
    let found = owner.query(ran, &[]).await.expect("rows");
    let found: Vec<String> = found.iter().map(|row| row.get(0)).collect();
    assert!(found.is_empty(), "{found:?}");
    gate.stop().await;
    let found = owner.query(ran, &[]).await.expect("rows");
    assert!(found.is_empty(), "{:?}", found.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>());
}

/// With it no backend is one's own, so that nothing would be counted.
const BLIND: &str = "create schema evil; grant usage on schema evil to public;
  create function evil.never(int, int) returns boolean language sql immutable as 'select false';
  create operator evil.= (leftarg = int, rightarg = int, function = evil.never);";

#[tokio::test]
async fn counts_that_an_operator_could_change_are_not_believed() {
    let policy = [("classification.toml", ""), ("open.cedar", AT_MOST_100)];
    let gate = Gate::without_pack("blind", &format!("{SHOP}{BLIND}"), &policy).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let before = "set search_path = evil, pg_catalog";
    let delete = "delete from public.orders where id > 1";
    for sql in [
        format!("{before}; {delete}"),
        format!("begin; {before}; {delete}; commit"),
        // The counters from before, and those of now.
        format!("begin; {delete}; {before}; commit"),
        format!(
            "begin; {before}; delete from public.orders where id > 2999; set search_path = public; {delete}; commit"
        ),
    ] {
        assert_eq!(refusal(&client, &sql).await.0, "42501", "{sql}");
        client.batch_execute("rollback; reset search_path").await.expect("the session goes on");
    }
    assert_eq!(gate.count("select count(*) from orders").await, 3000);
    let first = "set search_path = pg_catalog, evil; delete from public.orders where id > 2990";
    client.batch_execute(first).await.expect("nothing stands before PostgreSQL's own");
    client.batch_execute("set search_path = public, pg_catalog").await.expect("nothing there");
    client.batch_execute("delete from orders where id > 2980").await.expect("ten more");
    gate.stop().await;
}
