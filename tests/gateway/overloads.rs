//! Functions and operators of the database's own that fit better than PostgreSQL's, or stand before them: none
//! runs with the rights of the server, nor of the superuser who prepares the target.

use dbgate::core::grant::Access;

use crate::support::gate::{AT_MOST_100, Gate, SHOP, column, prepare_again, superuser};

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
        assert_eq!(column(&client, "select count(*) from public.orders").await.expect("read"), ["3000"]);
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
