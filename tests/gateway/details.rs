//! The DETAIL of errors, in which PostgreSQL quotes whole rows, and code of the database's own that reads it.

use dbgate::core::grant::Access;

use crate::support::gate::{Gate, column, refusal};

/// A row that is there already fails the check of the row that an upsert makes of it, and is quoted.
const PEOPLE: &str = "
    create table people (id int primary key, name text, email text, seen int check (seen < 100));
    insert into people values (1, 'Ana', 'canary@example.com', 1);
    create table plain (id int primary key, note text);
    insert into plain values (1, 'x');
    create function careful(text) returns text language plpgsql as $$
      declare d text; begin execute $1; return 'done';
      exception when others then Get  Stacked Diagnostics d = Pg_Exception_Detail; return d; end $$;
    create function placed(text) returns text language plpgsql as $$
      declare d text; begin execute $1; return 'done';
      exception when others then get stacked diagnostics d = pg_exception_context; return d; end $$;
    create function \"Odd one\"(text) returns text language sql as 'select careful($1)';
    create function around(text) returns text language plpgsql as 'begin return public.\"Odd one\"($1); end';
    create function joined(text, text) returns text language plpgsql as 'begin return careful($2); end';
    create operator !? (rightarg = text, function = careful);
    create aggregate tried(text) (sfunc = joined, stype = text, initcond = '');
    create procedure try(text, inout d text) language plpgsql as $$
      begin execute $1; exception when others then get stacked diagnostics d = pg_exception_detail; end $$;
    create view tries as select careful(note) as d from plain;
    create function plainly(text) returns text language plpgsql as $$
      declare m text; begin execute $1; return 'done';
      exception when others then get stacked diagnostics m = message_text; return m; end $$;
    create function says() returns text language sql as $$ select 'pg_exception_details are not read' $$;
    create function hushed(text) returns text language sql as 'select careful($1)';
    revoke execute on function hushed(text) from public;";

const TAGS: &str = "[[column]]\nmatch = \"public.people.email\"\ntags = [\"pii\"]";

/// People who may run code and define their own.
const FREE: &str = r#"
@id("all")
permit (principal, action, resource);
@id("mask") @mask("redact")
forbid (principal, action == Action::"reveal", resource)
when { resource.tags.contains("pii") };
"#;

const UPSERT: &str =
    "insert into people (id, email, seen) values (1, null, 1) on conflict (id) do update set seen = 100";

/// A block that reads the detail by itself.
fn block(what: &str) -> String {
    format!(
        "{what} as $$ declare d text; begin {UPSERT}; exception when others then \
         get stacked diagnostics d = pg_exception_detail; perform set_config('a.b', d, false); end $$"
    )
}

#[tokio::test]
async fn code_that_reads_what_an_error_quotes_is_refused_where_columns_are_masked() {
    let gate = Gate::without_pack("details", PEOPLE, &[("classification.toml", TAGS), ("free.cedar", FREE)]).await;
    let client = gate.connect(&gate.grant(Access::Admin).await).await;
    for call in [
        "select careful($u$UPSERT$u$)",
        "select placed($u$UPSERT$u$)",
        "select \"Odd one\"($u$UPSERT$u$)",
        "select around($u$UPSERT$u$)",
        "select !? $u$UPSERT$u$::text",
        "select tried($u$UPSERT$u$)",
        "select ($u$UPSERT$u$::text).careful",
        "call try($u$UPSERT$u$, '')",
        "select hushed($u$UPSERT$u$)",
        "select d from tries",
        "do $d$ begin perform set_config('a.b', careful($u$UPSERT$u$), false); end $d$",
    ] {
        let (code, message) = refusal(&client, &call.replace("UPSERT", UPSERT)).await;
        assert_eq!(code, "42501", "{call}: {message}");
    }
    let sql = block("do").replace(" as ", " ");
    let (code, message) = refusal(&client, &sql).await;
    assert_eq!((code.as_str(), message.contains("DETAIL")), ("42501", true), "{sql}: {message}");
    for (call, expected) in [
        ("select says()", "pg_exception_details are not read"),
        ("select plainly('select 1')", "done"),
        ("select note from plain", "x"),
    ] {
        assert_eq!(column(&client, call).await.unwrap_or_else(|error| panic!("{call}: {error:?}")), [expected]);
    }
    let seen = column(&client, &format!("select plainly($u${UPSERT}$u$)")).await.expect("the message alone");
    assert!(!seen.concat().contains("canary"), "{seen:?}");
    // Functions of the session's own.
    let made = client.simple_query(&block("create function pg_temp.own() returns void language plpgsql")).await;
    if made.is_ok() {
        let _ = client.simple_query("select pg_temp.own()").await;
    }
    let seen = column(&client, "select current_setting('a.b', true)").await.expect("a setting");
    assert!(!seen.concat().contains("canary"), "{seen:?}");
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn where_nothing_is_masked_it_is_called_as_ever() {
    let gate = Gate::without_pack(
        "details_open",
        PEOPLE,
        &[("all.cedar", "@id(\"all\")\npermit (principal, action, resource);")],
    )
    .await;
    let client = gate.connect(&gate.grant(Access::Admin).await).await;
    let seen = column(&client, &format!("select careful($u${UPSERT}$u$)")).await.expect("called");
    assert!(seen.concat().contains("canary@example.com"), "{seen:?}");
    client.simple_query(&block("do").replace(" as ", " ")).await.expect("run");
    drop(client);
    gate.stop().await;
}
