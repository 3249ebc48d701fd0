//! Row policies that hold a masked column against something which the session chooses: how many rows there are
//! would tell the value.

use dbgate::core::grant::Access;

use crate::support::gate::{Gate, column, refusal};

/// Tables of one shape, each with a policy of its own.
const STAFF: &str = "
    create table scratch (num numeric);
    create function staffed(called text, condition text) returns void language plpgsql as $$ begin
      execute format('create table %I (id int primary key, name text, pay numeric, hired timestamptz, grade int)', called);
      execute format('insert into %I values (1, ''Ana'', 60100, ''2020-05-01 12:00Z'', 3), (2, ''Bo'', 70200, ''2021-06-01 12:00Z'', 4)', called);
      execute format('alter table %I enable row level security', called);
      execute format('create policy few on %I %s', called, condition);
    end $$;
    select staffed('by_setting', $$using (pay < coalesce(current_setting('app.max', true), '1000000')::numeric)$$);
    select staffed('by_rows', 'using (exists (select from scratch s where s.num > pay))');
    select staffed('by_address', 'using (pay > coalesce(inet_client_port(), 0))');
    select staffed('by_zone', $$using (hired::date >= '2020-05-01')$$);
    select staffed('by_path', $$using (pay > 0 or current_schema() = name)$$);
    select staffed('by_row', $$using (by_row::text > current_setting('app.max', true))$$);
    select staffed('restricted', $$as restrictive for delete using (pay < current_setting('app.max', true)::numeric)$$);
    create policy others on restricted using (true);
    select staffed('by_constant', 'using (pay > 65000)');
    select staffed('by_time', 'using (hired < now())');
    select staffed('by_grade', $$using (grade < coalesce(current_setting('app.max', true), '100')::int)$$);
    grant all on scratch to public;
    analyze";

const TAGS: &str = r#"
[[column]]
match = "public.*.pay"
tags = ["secret"]
[[column]]
match = "public.*.hired"
tags = ["secret"]
"#;

#[tokio::test]
async fn a_table_whose_row_policy_compares_what_is_masked_with_what_a_session_chooses_is_not_granted() {
    let gate = Gate::start_under(STAFF, &[("classification.toml", TAGS)]).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    for table in ["by_setting", "by_rows", "by_address", "by_zone", "by_path", "by_row", "restricted"] {
        for sql in [
            format!("select count(*) from {table}"),
            format!("update {table} set grade = 1 where id = 1"),
            format!("delete from {table} where id = 1"),
        ] {
            let (code, message) = refusal(&client, &sql).await;
            assert_eq!((code.as_str(), message.contains("row polic")), ("42501", true), "{sql}: {message}");
        }
    }
    for (table, expected) in [("by_constant", "1"), ("by_time", "2"), ("by_grade", "2")] {
        let seen = column(&client, &format!("set app.max = '60000'; select count(*) from {table}")).await;
        assert_eq!(seen.unwrap_or_else(|error| panic!("{table}: {error:?}")), [expected], "{table}");
    }
    drop(client);
    gate.stop().await;
}
