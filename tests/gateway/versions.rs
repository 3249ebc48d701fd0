//! The same promises on every supported major version: prepare, grant, masks, views, and an end that
//! leaves nothing. Debian's own server is one of them; `tests/run` installs the others beside this
//! repository's tests, and where they are not installed there is nothing to run.

use std::path::{Path, PathBuf};

use dbgate::core::grant::Access;
use dbgate::core::mask;
use dbgate::core::scope::RelationName;
use dbgate::demo::postgres::{Cluster, Installation, Settings};
use dbgate::server::{roles, scopes};

use crate::support::bench::{Bench, answer, bench_on};
use crate::support::gate::{Gate, POLICY, Place, SHOP, column, refusal};

const SCHEMA: &str = "
    create domain mail as text;
    create domain code as varchar(20) not null check (value ~ '^K' and value in ('K-canary', 'K-***ry', 'K-1'));
    create type mood as enum ('low', 'high');
    create type place as (street text, code code);
    create table people (mood mood default 'low', codes code[], home place, shift interval, spans int4multirange,
        opens timetz, id int primary key, name text, email mail, card varchar(19), born date, salary int,
        network inet, about jsonb, token uuid, tags text[], note text generated always as (upper(name)) stored);
    insert into people (codes, home, shift, spans, opens, id, name, email, card, born, salary, network, about, token, tags)
    values
      ('{K-canary,K-1}', row('canary street', 'K-canary'), '3 days 10:11', '{[13,47)}', '10:11+02', 1, 'Ana Canary', 'canary@example.com', '4111111111111111', '1980-05-17', 51234, '10.1.2.3',
       '{\"home\": \"canary street\", \"n\": 1}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{canary}'),
      (null, null, null, null, null, 2, null, null, null, null, null, null, null, null, null);
    create table visits (id int primary key, person int references people, what text);
    insert into visits values (1, 1, 'came'), (2, 1, 'left');
    create view card_of as select p.id, p.card, v.what from people p join visits v on v.person = p.id;
    create view upper_mail as select id, upper(email) as mail from people;
    create table parts (id int, who text) partition by list (id);
    create table parts_1 partition of parts for values in (1);
    insert into parts values (1, 'canary part');
    create materialized view stale as select email from people;
    analyze";

const CLASSIFICATION: &str = "
[[column]]
match = \"public.parts_1.who\"
tags = [\"secret\"]
";

/// Each column with the mask it gets, and what of the first row is shown.
const MASKS: [(&str, &str, &str); 15] = [
    ("name", "partial", "An***ry"),
    ("email", "email", "c***@e******.com"),
    ("card", "last4", "***1111"),
    ("born", "year", "1980-01-01"),
    ("salary", "bucket:10000", "50000"),
    ("network", "partial", "10.1.2.0/24"),
    ("about", "json:home", "{\"n\": 1, \"home\": \"***\"}"),
    ("tags", "fixed:{}", "{}"),
    ("note", "null", "NULL"),
    ("mood", "fixed:high", "high"),
    ("codes", "partial", "{K-***ry,NULL}"),
    ("home", "partial", "(ca***et,K-***ry)"),
    ("shift", "day", "3 days"),
    ("spans", "bucket:10", "{[10,40)}"),
    ("opens", "hour", "10:00:00+02"),
];

fn rules() -> String {
    let rule = |(column, mask): (&str, &str)| {
        format!(
            "@id(\"m-{column}\") @mask(\"{mask}\")\nforbid (principal, action == Action::\"reveal\", resource)\n\
             when {{ resource.relation == \"people\" && resource.name == \"{column}\" }};\n"
        )
    };
    MASKS.iter().map(|(column, mask, _)| rule((column, mask))).chain([rule(("token", "hash"))]).collect()
}

/// Server programs of other versions that are installed beside the tests.
pub(super) fn others() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/postgres/node_modules");
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path().join("native/bin")).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

#[tokio::test]
async fn every_supported_version_keeps_the_same_promises() {
    let mut installations = vec![Installation::find().expect("PostgreSQL server programs")];
    installations.extend(others().into_iter().map(|folder| Installation::at(folder).expect("complete")));
    let mut seen = Vec::new();
    for installation in installations {
        let cluster = Cluster::start(&installation, "version", &Settings::default()).expect("a cluster");
        seen.push(one_version(&cluster).await);
    }
    println!("versions: {seen:?}");
    assert!(seen.iter().all(|version| (14..=18).contains(version)), "{seen:?}");
    if others().is_empty() {
        println!("other versions are not installed: run tests/run");
    } else {
        assert!([14, 16, 17, 18].iter().all(|version| seen.contains(version)), "{seen:?}");
    }
}

/// What each version can write more than the one before, through the gate, with its counts.
#[tokio::test]
async fn every_supported_version_writes_through_the_gate() {
    let mut installations = vec![Installation::find().expect("PostgreSQL server programs")];
    installations.extend(others().into_iter().map(|folder| Installation::at(folder).expect("complete")));
    for installation in installations {
        let cluster = Cluster::start(&installation, "through", &Settings::default()).expect("a cluster");
        let place =
            Place { cluster: &cluster, database: "postgres".into(), sql: SHOP, target: "demo", policy: &POLICY };
        let gate = Gate::before(&place, "http://127.0.0.1:1", "").await;
        let client = gate.connect(&gate.grant(Access::Write).await).await;
        let version =
            column(&client, "select current_setting('server_version_num')::int / 10000").await.expect("asked");
        let version: u32 = version.concat().parse().expect("a number");
        through_the_gate(&client, version).await;
        stays_who_it_is(&client, version).await;
        gate.stop().await;
    }
}

async fn through_the_gate(client: &tokio_postgres::Client, version: u32) {
    let email = column(client, "select email from customers where id = 1").await.expect("masked").concat();
    assert!(email.contains('@') && !email.contains("user1@"), "{version}: {email}");
    let mut cases = vec![
        ("update customers set name = 'n' where id = 1 returning email", email.as_str()),
        ("insert into orders values (9001, 1, 1) on conflict (id) do update set amount = 2 returning amount", "1.00"),
    ];
    let (mut refused, merge) =
        (vec!["update orders set amount = 3 where id > 0 returning id"], "merge into orders o using customers c");
    let too_many = format!("{merge} on o.customer_id = c.id when matched then update set amount = 5");
    let one = format!("{merge} on o.customer_id = c.id and o.id = 9001 when matched then update set amount = 4");
    let into_masked = "merge into customers c using orders o on o.customer_id = c.id and o.id = 9001 \
                       when matched then update set name = 'merged'";
    let shown = format!("{one} returning merge_action(), o.amount");
    let masked = format!("{one} returning c.email");
    let masked_target = format!("{into_masked} returning c.email");
    if version >= 15 {
        cases.extend([(one.as_str(), ""), (into_masked, "")]);
        refused.push(too_many.as_str());
    }
    if version >= 17 {
        // What is masked of the source is masked in what is shown; of the target nothing is shown.
        cases.extend([(shown.as_str(), "UPDATE"), (masked.as_str(), email.as_str()), (masked_target.as_str(), "-")]);
    }
    if version >= 18 {
        cases.push((
            "update orders set amount = 7 where id = 9001 returning old.amount || ' ' || new.amount",
            "4.00 7.00",
        ));
        cases.extend([
            ("update customers set name = 'o' where id = 1 returning old.email", email.as_str()),
            ("update customers set name = 'o' where id = 1 returning with (old as o) o.email", email.as_str()),
            ("with u as (update customers set name = 'p' where id = 1 returning old.*) select email from u", &email),
        ]);
        refused.push("update customers set name = 'o' where id = 1 returning old.ssn");
    }
    for (sql, expected) in cases {
        let shown = column(client, sql).await.unwrap_or_else(|error| panic!("{version}: {sql}: {error:?}"));
        assert_eq!(shown.join(","), expected, "{version}: {sql}");
    }
    for sql in refused {
        let (state, message) = refusal(client, sql).await;
        assert!(!message.contains("user1@"), "{version}: {sql}: {message}");
        assert!(state.starts_with("42"), "{version}: {sql}: {state} {message}");
    }
    let left = column(client, "select count(*) from orders where amount = 5 and id <> 5").await.expect("counted");
    assert_eq!(left, ["0"], "{version}");
}

/// However a session is told to be itself again, it is the scope's role.
async fn stays_who_it_is(client: &tokio_postgres::Client, version: u32) {
    let who = column(client, "select current_user").await.expect("asked");
    assert!(who.concat().starts_with("dbgate_s_"), "{version}: {who:?}");
    let resets = ["reset role", "set session authorization default", "reset session authorization", "discard all"];
    for reset in resets {
        client.batch_execute(reset).await.unwrap_or_else(|error| panic!("{version}: {reset}: {error:?}"));
        assert_eq!(column(client, "select current_user").await.expect("asked"), who, "{version}: {reset}");
    }
    let (state, _) = refusal(client, "set role none").await;
    assert_eq!(state, "42501", "{version}");
}

async fn one_version(cluster: &Cluster) -> i64 {
    let bench = bench_on(cluster, SCHEMA, CLASSIFICATION).await;
    let version = bench.count("select current_setting('server_version_num')::int8 / 10000").await;
    let names = "select 'role ' || rolname as name from pg_roles union all select 'schema ' || nspname from pg_namespace \
                 where nspname not like 'pg\\_%' order by 1";
    let before = answer(&bench.superuser, names).await;
    let scope = bench.scope(Access::Write, &rules()).await;
    let role = scopes::ensure(&bench.broker, &scope).await.unwrap_or_else(|error| panic!("{version}: {error:?}"));
    assert!(role.missing.is_empty(), "{version}");
    let (name, client) = bench.login(&role, "v").await;
    let client = client.unwrap_or_else(|error| panic!("{version}: {error:?}"));
    let from = |relation: &str| {
        let name = RelationName::new("public", relation);
        mask::splice_text(&name, scope.relations.get(&name).expect("granted"), false)
    };
    for (column, mask, expected) in MASKS {
        let shown = answer(&client, &format!("select {column} from {} p order by id", from("people"))).await;
        let last = if mask.starts_with("fixed") { expected } else { "NULL" };
        assert_eq!(shown, format!("{expected}\n{last}"), "{version}: {mask} on {column}");
        let past = answer(&client, &format!("select {column} from people")).await;
        assert!(past.contains("42501") && !past.contains("anary"), "{version}: {past}");
    }
    let token = answer(&client, &format!("select token from {} p where id = 1", from("people"))).await;
    assert!(token.len() == 36 && !token.starts_with("a0eebc99"), "{version}: {token}");
    assert_eq!(
        answer(&client, &format!("select card, what from {} c where id = 1 order by 2", from("card_of"))).await,
        "***1111|came\n***1111|left"
    );
    assert_eq!(
        answer(&client, &format!("select mail from {} m where id = 1", from("upper_mail"))).await,
        "C***@E******.COM"
    );
    assert_eq!(answer(&client, &format!("select who from {} p", from("parts"))).await, "NULL", "{version}");
    assert!(scope.withheld.contains_key(&RelationName::new("public", "stale")), "{version}");
    writes(&bench, &client, version).await;
    super::dynamic::is_found(&bench.superuser, &bench.broker, &bench.database).await;
    // What would keep a role from being dropped, and a session that is still there.
    client.batch_execute("alter default privileges grant select on tables to public").await.expect("any role may");
    let ended = roles::end(&bench.broker, &name).await.unwrap_or_else(|error| panic!("{version}: {error:?}"));
    assert_eq!(ended, roles::Ended { terminated: 1, dropped: true }, "{version}");
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
    assert_eq!(answer(&bench.superuser, names).await, before, "{version}");
    version
}

/// Writes beside masked columns, with what each version can do more than the one before.
async fn writes(bench: &Bench<'_>, client: &tokio_postgres::Client, version: i64) {
    let mut cases = vec![
        ("insert into people (id, email) values (3, 'x@example.com') returning id", "3"),
        (
            "insert into visits values (3, 3, 'new') on conflict (id) do update set what = excluded.what returning what",
            "new",
        ),
        (
            "insert into visits values (3, 3, 'old') on conflict (id) do update set what = excluded.what returning what",
            "old",
        ),
        ("delete from visits where id = 3 returning what", "old"),
        ("delete from people where id = 3 returning id", "3"),
    ];
    if version >= 15 {
        cases.push((
            "merge into visits v using people p on p.id = v.person when matched and v.id = 1 then update set what = 'merged'",
            "",
        ));
    }
    if version >= 17 {
        cases.push((
            "merge into visits v using people p on p.id = v.person when matched and v.id = 1 then update set what = 'again' \
             returning merge_action(), v.what",
            "UPDATE|again",
        ));
    }
    if version >= 18 {
        cases.push(("update visits set what = 'came' where id = 1 returning old.what, new.what", "again|came"));
        let old = answer(client, "update people set id = id where id = 1 returning old.email").await;
        assert!(old.contains("42501") && !old.contains("canary"), "{old}");
    }
    for (sql, expected) in cases {
        assert_eq!(answer(client, sql).await, expected, "{version}: {sql}");
    }
    let stolen = answer(client, "update visits set what = p.email from people p where p.id = 1 returning what").await;
    assert!(stolen.contains("42501") && !stolen.contains("canary"), "{version}: {stolen}");
    assert_eq!(bench.count("select count(*) from visits").await, 2);
}
