//! Names that earlier statements of the same Query or pipeline give another meaning: what comes behind
//! them means that, to the gateway as to the target.

use dbgate::core::grant::Access;
use dbgate::core::wire::frame::Message;

use crate::support::gate::{Gate, SHOP};
use crate::support::requests::{Requests, ask};
use crate::support::wire::{Peer, error, rows};

const MORE: &str = "
create schema hr;
create table hr.persons (id int primary key, mail text);
insert into hr.persons select i, 'user' || i || '@example.com' from generate_series(1, 9) i;
create sequence numbers;
grant usage on sequence numbers to public;
create function shadow() returns int language plpgsql volatile
  as 'begin create temp table customers as select 9 as email; return 8; end';
grant execute on function shadow() to public;
";

const TAGS: &str = "
[[column]]
match = \"public.customers.email\"
tags = [\"pii\", \"email\"]

[[column]]
match = \"hr.persons.mail\"
tags = [\"pii\", \"email\"]
";

async fn gate() -> Gate {
    Gate::start_under(&format!("{SHOP}{MORE}"), &[("classification.toml", TAGS)]).await
}

/// All of them in one Query, and in one pipeline.
async fn at_once(gate: &Gate, texts: &[&str], access: Access) -> [Vec<Message>; 2] {
    let grant = gate.grant(access).await;
    let query = Peer::through(&grant).await.query(&texts.join("; ")).await;
    let pipeline = texts.iter().fold(ask(), |asked: Requests, text| asked.run(text));
    [query, pipeline.sync(&mut Peer::through(&grant).await).await]
}

fn state(messages: &[Message]) -> String {
    error(messages).map(|error| error.sqlstate).unwrap_or_default()
}

#[tokio::test]
async fn a_name_means_what_the_statements_before_it_made_of_it() {
    let gate = gate().await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let mut one = async |sql: &str| rows(&peer.query(sql).await).concat().concat();
    let masked = one("select email from customers where id = 3").await;
    let mail = one("select mail from hr.persons where id = 3").await;
    assert!(!masked.is_empty() && !mail.is_empty() && ![&masked, &mail].contains(&&"user3@example.com".to_owned()));
    let (masked, mail) = (masked.as_str(), mail.as_str());
    let cases: [(&[&str], &[&str]); 13] = [
        (&["create temp table customers as select 1 as a", "select * from customers"], &["1"]),
        (&["select 2 as a into temp customers", "table customers"], &["2"]),
        (&["create temp table n as select 3 as a", "alter table n rename to customers", "table customers"], &["3"]),
        (&["create temp view customers as select 4 as a", "select * from customers"], &["4"]),
        (&["create temp table customers as select 5 as a", "drop table customers", READ], &[masked]),
        (&["begin", "create temp table customers (a int)", "rollback", READ], &[masked]),
        (&["select shadow()", "select email from customers"], &["8", "9"]),
        (&["set search_path = hr", PERSON], &[mail]),
        (&["select set_config('search_path', 'hr', false)", PERSON], &["hr", mail]),
        (&["begin", "set local search_path = hr", PERSON, "commit", READ], &[mail, masked]),
        (&["set search_path = public, pg_temp", "create temp table customers as select 6 as a", READ], &[masked]),
        (&["create temp table q as select id from orders", "create index on q(id)", "analyze q", COUNT], &["3000"]),
        (&["create temp table orders as select 7 as a", "table orders", "drop table orders", ORDER], &["7", "5"]),
    ];
    for (texts, expected) in cases {
        for told in at_once(&gate, texts, Access::Write).await {
            assert_eq!(error(&told).map(|error| error.message), None, "{texts:?}");
            assert_eq!(rows(&told).concat(), *expected, "{texts:?}");
        }
    }
    gate.stop().await;
}

const READ: &str = "select email from customers where id = 3";
const PERSON: &str = "select mail from persons where id = 3";
const COUNT: &str = "select count(*) from q";
const ORDER: &str = "select id from orders where id = 5";

#[tokio::test]
async fn what_is_no_more_counted_than_the_session_counts_it_is_judged_so() {
    let gate = gate().await;
    let draws = "insert into audit_trail (n) select nextval('numbers') from generate_series(1, 20000) g";
    let texts = ["create temp table audit_trail (what text, n bigint)", draws];
    for told in at_once(&gate, &texts, Access::Write).await {
        assert_eq!(state(&told), "42501");
    }
    assert_eq!(gate.count("select last_value from numbers").await, 1);
    gate.stop().await;
}

#[tokio::test]
async fn a_refusal_behind_others_takes_them_back_and_the_record_says_so() {
    let gate = gate().await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    let told = peer.query("create temp table q as select 1 as a; select a from q; drop table orders; select 2").await;
    // What stands behind the change of names is judged before any of it runs.
    assert_eq!((state(&told).as_str(), rows(&told)), ("42501", Vec::new()));
    assert_eq!(rows(&peer.query("select to_regclass('pg_temp.q') is null").await), [["t"]]);
    let all = "create temp table q as select 1 as a; begin; update orders set amount = 0 where id = 1; commit; table q";
    assert_eq!(rows(&peer.query(all).await), [["1"]]);
    assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 1);
    drop(peer);
    let lines = gate.record(&grant).await;
    let first = lines.iter().filter(|line| line["no"] == 1).map(|line| {
        let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}{}", line["part"], word("k"), word("dec"), word("tag"))
    });
    let expected = ["0 stmt allow", "0 result SELECT 1", "1 stmt deny", "0 undone "];
    assert_eq!(first.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_was_prepared_is_judged_again_when_names_may_have_moved() {
    let gate = gate().await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let locks = "select id from orders where id = $1 for update";
    peer.query(&format!("prepare x(int) as {locks}")).await;
    for between in ["select 1", "create temp view v as select 1 as a", "select shadow()", "drop table customers"] {
        assert_eq!(state(&peer.query(between).await), "", "{between}");
        assert_eq!(rows(&peer.query("execute x(5)").await), [["5"]], "{between}");
        assert_eq!(rows(&ask().run("execute x(6)").sync(&mut peer).await), [["6"]], "{between}");
    }
    let all = format!("prepare y(int) as {locks}; execute y(7); select shadow(); execute y(8)");
    assert_eq!(rows(&peer.query(&all).await).concat(), ["7", "8", "8"]);
    // What would be forwarded as another text now is not run as the one that it was.
    assert_eq!(state(&peer.query("drop table customers").await), "");
    peer.query("prepare z as select email from customers where id = 3").await;
    assert_eq!(rows(&peer.query("execute z").await).len(), 1);
    let moved = peer.query("create temp table customers as select 3 as id, 'own' as email; execute z").await;
    assert_eq!(state(&moved), "42501");
    gate.stop().await;
}

#[tokio::test]
async fn a_temporary_view_makes_only_its_own_name_uncounted() {
    let gate = gate().await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    peer.query("create temp view v as select id from orders").await;
    peer.query("begin").await;
    assert_eq!(rows(&peer.query("select id from orders where id = 1 for update").await), [["1"]]);
    for own in ["v", "pg_temp.v"] {
        peer.query("savepoint a").await;
        assert_eq!(state(&peer.query(&format!("select id from {own} where id = 1 for update")).await), "42501");
        peer.query("rollback to a").await;
    }
    gate.stop().await;
}

#[tokio::test]
async fn a_transaction_is_set_behind_a_search_path_and_ahead_of_all_questions() {
    let gate = gate().await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let path = "set local search_path = hr";
    let isolation = "set transaction isolation level serializable";
    let asks = "select (select count(*) from persons) || current_setting('transaction_isolation')";
    for texts in [
        vec!["begin", path, isolation, "set local lock_timeout = 1000", asks, "rollback"],
        vec!["begin; set local search_path = hr", isolation, asks, "rollback"],
        vec!["begin; set local search_path = hr; set transaction isolation level serializable", asks, "rollback"],
    ] {
        let (mut simple, mut extended) = (Vec::new(), Vec::new());
        for text in &texts {
            let told = peer.query(text).await;
            assert_eq!(state(&told), "", "{text}: {texts:?}");
            simple.extend(rows(&told).concat());
        }
        for text in texts.iter().flat_map(|text| text.split("; ")) {
            let told = ask().run(text).sync(&mut peer).await;
            assert_eq!(state(&told), "", "{text}, extended");
            extended.extend(rows(&told).concat());
        }
        assert_eq!([simple, extended], [["9serializable"], ["9serializable"]], "{texts:?}");
    }
    gate.stop().await;
}

#[tokio::test]
async fn a_session_goes_on_where_the_target_would_not_say_what_names_mean() {
    let gate = gate().await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    for is_simple in [true, false] {
        // The question waits for a lock that somebody else has, until the session's own limit.
        let other = crate::support::gate::superuser(&gate.database).await;
        assert_eq!(state(&peer.query("set lock_timeout = 100; set search_path = hr").await), "");
        other.batch_execute("begin; lock pg_class").await.expect("locked");
        let sql = "select count(*) from persons";
        let told = match is_simple {
            true => peer.query(sql).await,
            false => ask().run(sql).sync(&mut peer).await,
        };
        assert_eq!(state(&told), "55P03", "{is_simple}");
        other.batch_execute("rollback").await.expect("free");
        assert_eq!(rows(&peer.query(sql).await).concat(), ["9"]);
        assert_eq!(rows(&ask().run(sql).sync(&mut peer).await).concat(), ["9"]);
        assert_eq!(state(&peer.query("reset search_path; reset lock_timeout").await), "");
    }
    gate.stop().await;
}
