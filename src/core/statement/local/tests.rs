//! Tables of what the quick look sees, and of what it leaves to the server.

use super::*;

fn one(sql: &str) -> Facts {
    match look(sql) {
        Look::Facts(mut all) if all.len() == 1 => all.remove(0),
        other => panic!("{sql}: {other:?}"),
    }
}

/// `action relation[!]` for each touch; `!` where no WHERE can leave rows out of a change.
fn touches(facts: &Facts) -> String {
    let shown: Vec<String> = facts
        .touches
        .iter()
        .map(|touch| {
            let bare = matches!(touch.action, RowAction::Update | RowAction::Delete) && !touch.has_predicate;
            format!("{} {}{}", touch.action.word(), touch.relation, if bare { "!" } else { "" })
        })
        .collect();
    shown.join(", ")
}

#[test]
fn effects_and_relations_are_seen() {
    let table = [
        ("select 1", Effect::Read, ""),
        ("select * from customers c join s.orders o on o.cid = c.id", Effect::Read, "read customers, read s.orders"),
        ("select (select max(id) from Orders) from \"Big\"", Effect::Read, "read orders, read Big"),
        ("with c as (select * from t) select * from c", Effect::Read, "read t"),
        ("with d as (delete from t returning *) select * from d", Effect::Write, "delete t!"),
        ("delete from orders", Effect::Write, "delete orders!"),
        ("delete from orders where true", Effect::Write, "delete orders!"),
        ("delete from orders where 1=1", Effect::Write, "delete orders!"),
        ("delete from orders where id = 3 or 'a' = 'a'", Effect::Write, "delete orders!"),
        ("delete from orders where id = 3", Effect::Write, "delete orders"),
        ("update orders set a = 1", Effect::Write, "update orders!"),
        ("update orders o set a = 1 from k where k.id = o.id", Effect::Write, "update orders, read k"),
        ("insert into t select * from u", Effect::Write, "insert t, read u"),
        ("copy t from stdin", Effect::Write, "insert t"),
        ("copy t to stdout", Effect::Read, "read t"),
        ("truncate t, u", Effect::Ddl, "delete t!, delete u!"),
        ("drop table t", Effect::Ddl, ""),
        ("create table t (id int)", Effect::Ddl, ""),
        ("explain delete from t", Effect::Read, ""),
        ("explain (analyze) delete from t", Effect::Write, "delete t!"),
        ("begin", Effect::Transaction, ""),
        ("set search_path = a", Effect::Session, ""),
        ("show timezone", Effect::Read, ""),
        ("call p()", Effect::Utility, ""),
        ("select * into x from y", Effect::Ddl, ""),
    ];
    for (sql, effect, expected) in table {
        let facts = one(sql);
        assert_eq!((facts.effect, touches(&facts).as_str()), (effect, expected), "{sql}");
    }
}

#[test]
fn functions_settings_and_verbs_are_seen() {
    let facts = one("select pg_catalog.now(), f(x) from g(1) where h(2)");
    let names: Vec<String> = facts.functions.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["pg_catalog.now", "f", "g", "h"]);
    assert_eq!(touches(&facts), "");
    assert_eq!(one("set TimeZone to 'UTC'").settings, ["timezone"]);
    assert_eq!(one("set role none").settings, ["role"]);
    assert_eq!(one("create or replace view v as select 1").verb, "CREATE VIEW");
    assert_eq!(one("/* x */ select 1").verb, "SELECT");
    assert_eq!(one("rollback to s").transaction, Some(TransactionVerb::RollbackTo));
    assert!(one("select 1 from t for update").locks);
}

#[test]
fn positions_are_bytes_also_after_wide_letters() {
    let sql = "select 'ä'\n from  kunden; delete from  x";
    let Look::Facts(all) = look(sql) else { panic!("parses") };
    let at = |facts: &Facts| facts.touches.first().and_then(|touch| touch.offset).expect("has a place");
    assert_eq!(all.iter().map(at).collect::<Vec<_>>(), [sql.find("kunden").expect("in"), sql.find('x').expect("in")]);
    assert_eq!(
        all.iter().map(|facts| sql.get(facts.start..facts.end)).collect::<Vec<_>>(),
        [Some("select 'ä'\n from  kunden"), Some("delete from  x"),]
    );
}

#[test]
fn what_is_not_read_here_is_left_to_the_server() {
    assert_eq!(
        look("selec 1"),
        Look::Unknown { why: "Expected: an SQL statement, found: selec".into(), at: Some((1, 1)) }
    );
    for sql in ["do $$ begin end $$", "reindex table t", "select U&\"s\\0073n\" from users", "vacuum (full) t"] {
        assert!(matches!(look(sql), Look::Unknown { .. }) || one(sql).effect == Effect::Unknown, "{sql}");
    }
    assert!(matches!(look(&" ".repeat(LONGEST + 1)), Look::Unknown { at: None, .. }));
}

#[test]
fn deep_and_long_texts_do_not_exhaust_the_stack() {
    for sql in [
        format!("select {}1", "1+".repeat(32_000)),
        format!("select {}1{}", "(".repeat(30_000), ")".repeat(30_000)),
        format!("select {}1", "- ".repeat(30_000)),
        format!("select 1{}", " or true".repeat(1000)),
        "select 1 union ".repeat(1300),
    ] {
        let _ = look(&sql);
    }
}

#[test]
fn a_backslash_before_a_quote_ends_nothing() {
    // The text that sqlparser would print back as a UNION: one literal, no relation.
    let facts = one(r"select 'x\'' union select ssn from users --'");
    assert_eq!(touches(&facts), "");
    assert_eq!(facts.effect, Effect::Read);
}
