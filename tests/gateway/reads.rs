//! Reading through the gate: what is masked comes back masked, everything else as it is.

use dbgate::core::grant::Access;

use crate::support::gate::{Gate, SHOP, column, refusal};
use crate::support::wire::{Peer, error};

#[tokio::test]
async fn masked_columns_come_back_masked_however_they_are_asked_for() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let client = gate.connect(&grant).await;
    let texts = [
        "select email from customers where id = 3",
        "select email from public.customers where id = 3",
        "select public.customers.ssn from public.customers where public.customers.id = 3",
        "select x from customers as c(a, b, x) where a = 3",
        "select c.ssn from (select * from customers) c where id = 3",
        "with c as (select * from customers) select ssn from c where id = 3",
        "select to_jsonb(c)::text from customers c where id = 3",
        "select c::text from customers c where id = 3",
        "table customers limit 3",
        "select string_agg(ssn, ',') from customers",
    ];
    for sql in texts {
        let rows = column(&client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let all = rows.join("\n");
        assert!(!all.contains("123-45-") && !all.contains("user3@example.com"), "{sql}: {all}");
    }
    assert_eq!(column(&client, "select name from customers where id = 3").await.expect("reads"), ["name 3"]);
    assert_eq!(column(&client, "select count(*) from customers where ssn is not null").await.expect("reads"), ["1000"]);
    assert_eq!(column(&client, "select shout('a')").await.expect("reads"), ["A"]);
    assert_eq!(column(&client, "select name from active_names order by id limit 1").await.expect("reads"), ["name 1"]);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn an_error_leaves_the_session_alive_and_says_where() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let client = gate.connect(&grant).await;
    let (state, message) = refusal(&client, "selec 1").await;
    assert_eq!((state.as_str(), message.as_str()), ("42601", "syntax error at or near \"selec\""));
    assert_eq!(refusal(&client, "select nothing from customers").await.0, "42703");
    assert_eq!(refusal(&client, "delete from orders where id = 1").await.0, "42501");
    assert_eq!(refusal(&client, "drop table orders").await.0, "42501");
    assert_eq!(column(&client, "select 1; select 2").await.expect("alive"), ["1", "2"]);
    assert_eq!(column(&client, "").await.expect("empty"), Vec::<String>::new());
    let row =
        client.query_one("select name, id + $1 from customers where id = $2", &[&1i32, &5i32]).await.expect("extended");
    assert_eq!((row.get::<_, String>(0).as_str(), row.get::<_, i32>(1)), ("name 5", 6));
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn what_sql_prepares_is_known_to_execute_and_forgotten_by_deallocate() {
    let gate = Gate::start(SHOP).await;
    let client = gate.connect(&gate.grant(Access::Read).await).await;
    client.simple_query("prepare one(int) as select email from customers where id = $1").await.expect("prepared");
    assert_eq!(column(&client, "execute one(7)").await.expect("masked").len(), 1);
    let shown = column(&client, "execute one(7)").await.expect("masked");
    assert!(!shown.concat().contains("user7@"), "{shown:?}");
    client.simple_query("deallocate one").await.expect("forgotten");
    assert_eq!(refusal(&client, "execute one(7)").await.0, "26000");
    client.simple_query("begin; declare c cursor for select id from orders order by id").await.expect("cursor");
    client.simple_query("move 5 in c").await.expect("moved");
    assert_eq!(column(&client, "fetch 1 from c").await.expect("the sixth"), ["6"]);
    client.simple_query("commit").await.expect("commit");
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn definitions_of_temporary_relations_are_the_sessions_own() {
    let gate = Gate::start(SHOP).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    client.simple_query("create temp table big as select g a from generate_series(1, 2000) g").await.expect("table");
    client.simple_query("create index on big (a)").await.expect("index");
    client.simple_query("create temp sequence numbers").await.expect("sequence");
    assert_eq!(column(&client, "select nextval('numbers')").await.expect("first"), ["1"]);
    assert_eq!(refusal(&client, "create index on orders (amount)").await.0, "42501");
    assert_eq!(refusal(&client, "alter table big inherit orders").await.0, "42501");
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn copy_of_a_view_is_what_postgresql_says_it_is() {
    let gate = Gate::start(SHOP).await;
    let mut peer = Peer::through(&gate.grant(Access::Read).await).await;
    for relation in ["active_names", "public.active_names (name)"] {
        let fields = error(&peer.query(&format!("copy {relation} to stdout")).await).expect("an error");
        assert_eq!(
            (fields.sqlstate.as_str(), fields.message.as_str()),
            ("42809", "cannot copy from view \"active_names\"")
        );
        assert_eq!(fields.hint.as_deref(), Some("Try the COPY (SELECT ...) TO variant."));
    }
    let copied = peer.query("copy (select * from active_names order by id limit 1) to stdout").await;
    assert!(copied.iter().any(|message| message.tag == b'd' && &message.body[..] == b"1\tname 1\n"));
    // The table that the view reads is masked, and stays what it is to COPY.
    assert_eq!(error(&peer.query("copy customers to stdout").await), None);
    gate.stop().await;
}
