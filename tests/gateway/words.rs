//! What errors and notices say: all of it where nothing masked can be quoted, and nothing of the gateway's own.

use bytes::BytesMut;
use dbgate::core::grant::Access;
use dbgate::core::wire::backend::{ErrorFields, error_fields};
use dbgate::core::wire::frame::Message;
use dbgate::core::wire::frontend;

use crate::support::gate::Gate;
use crate::support::requests::{ask, either_way};
use crate::support::wire::{Peer, error, message, rows};

const PEOPLE: &str = "
create table people (id int primary key, email text unique, level int check (level < 3));
insert into people select g, 'canary' || g || '@example.com', 1 from generate_series(1, 20) g;
create table orders (id int primary key, person int references people, amount int not null);
insert into orders select g, g, g from generate_series(1, 20) g;
create table logins (email text references people (email) deferrable initially deferred);
create function vet() returns trigger language plpgsql security definer as $$
  begin if new.level = 2 then raise exception 'no, ask %', (select email from people where id = 1); end if;
  return new; end $$;
create trigger vet before insert on people for each row execute function vet();
analyze";
const CLASSIFICATION: &str = "[[column]]\nmatch = \"public.people.email\"\ntags = [\"hidden\"]\n";
const RULES: &str = "@id(\"mask-hidden\") @mask(\"null\")\nforbid (principal, action == Action::\"reveal\", resource)\n\
                     when { resource.tags.contains(\"hidden\") };";

/// SQLSTATE, whether the message is the server's own, DETAIL and CONTEXT.
fn told(fields: &ErrorFields) -> (&str, bool, Option<&str>, Option<&str>) {
    let is_withheld = fields.message.contains("a function of the database said something");
    (&fields.sqlstate, !is_withheld, fields.detail.as_deref(), fields.context.as_deref())
}

#[tokio::test]
async fn an_error_tells_what_it_is_about_unless_something_masked_could_be_in_it() {
    let policy = [("classification.toml", CLASSIFICATION), ("masks.cedar", RULES)];
    let gate = Gate::start_under(PEOPLE, &policy).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let statements = [
        ("insert into orders values (1, 1, 1)", ("23505", true, Some("Key (id)=(1) already exists."), None)),
        (
            "insert into orders values (21, 99, 1)",
            ("23503", true, Some("Key (person)=(99) is not present in table \"people\"."), None),
        ),
        (
            "update orders set amount = null where id = 1",
            ("23502", true, Some("Failing row contains (1, 1, null)."), None),
        ),
        (
            "create temp table own (a int primary key); insert into own values (1); insert into own values (1)",
            ("23505", true, Some("Key (a)=(1) already exists."), None),
        ),
        // Of a masked relation no row is quoted, and no key with anything masked in it.
        ("insert into people (id, level) values (1, 1)", ("23505", true, Some("Key (id)=(1) already exists."), None)),
        ("update people set level = 3 where id = 1", ("23514", true, None, None)),
        (
            "delete from people where id = 1",
            ("23503", true, Some("Key (id)=(1) is still referenced from table \"orders\"."), None),
        ),
        (
            "insert into people values (21, 'canary1@example.com', 1) on conflict (id) do nothing",
            ("23505", true, None, None),
        ),
        ("insert into people values (21, 'canary1@example.com', 1)", ("23505", true, None, None)),
        ("insert into people values (21, 'x', 2)", ("P0001", false, None, None)),
    ];
    for (sql, expected) in statements {
        let fields = error(&peer.query(sql).await).expect(sql);
        assert_eq!(told(&fields), expected, "{sql}");
    }
    // The transaction wrote to a masked relation, and the constraint speaks at its end.
    peer.query("begin; insert into logins values ('nobody@example.com'); update people set level = 1 where id = 2")
        .await;
    let fields = error(&peer.query("commit").await).expect("no such person");
    assert_eq!(told(&fields), ("23503", true, None, None));
    let copies = [
        ("copy orders (id) from stdin", "21\t22\n", ("22P04", true, None, Some("COPY orders, line 1: \"21\t22\""))),
        (
            "copy orders from stdin",
            "1\t1\t1\n",
            ("23505", true, Some("Key (id)=(1) already exists."), Some("COPY orders, line 1")),
        ),
        ("copy people from stdin", "x\ta\t1\n", ("22P02", true, None, None)),
        ("copy people from stdin", "21\ta\t2\n", ("P0001", false, None, None)),
    ];
    for (sql, data, expected) in copies {
        let fields = copied(&mut peer, sql, &[message(b'd', data.as_bytes()), message(b'c', b"")].concat()).await;
        assert_eq!(told(&fields), expected, "{sql}");
    }
    let fields = copied(&mut peer, "copy orders from stdin", &message(b'f', b"changed my mind\0")).await;
    assert_eq!(fields.message, "COPY from stdin failed: changed my mind");
    drop(peer);
    gate.stop().await;
}

/// Something masked, a table that takes JSON, and a function that fails at it.
const NOTES: &str = "
create table people (id int primary key, email text, name text);
create table notes (id int primary key, payload jsonb);
insert into people values (1, '{canary');
create function reads(text) returns jsonb language plpgsql stable as 'begin return $1::jsonb; end';
analyze";

#[tokio::test]
async fn what_cannot_be_read_as_json_is_told_as_it_is() {
    let policy = [("classification.toml", CLASSIFICATION), ("masks.cedar", RULES)];
    let gate = Gate::start_under(NOTES, &policy).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    const DETAIL: Option<&str> = Some("Token \"bad\" is invalid.");
    const JSON: &str = "JSON data, line 1: {bad";
    let parameter = format!("{JSON}\nunnamed portal parameter $1 = '...'");
    for sql in [
        "insert into notes (id, payload) values (1, $1)",
        "update notes set payload = $1 where id = 1",
        "select $1::jsonb",
        // What is written to matters nothing: nothing has run.
        "update people set name = name where id > 1 and $1::jsonb is null",
    ] {
        let fields =
            error(&ask().parse("", sql).bind_values("", &["{bad"]).execute("").sync(&mut peer).await).expect(sql);
        assert_eq!(told(&fields), ("22P02", true, DETAIL, Some(parameter.as_str())), "{sql}");
        // The same where nothing runs it yet.
        let fields = error(&ask().parse("", sql).bind_values("", &["{bad"]).sync(&mut peer).await).expect(sql);
        assert_eq!(told(&fields), ("22P02", true, DETAIL, Some(parameter.as_str())), "{sql}");
    }
    let data = [message(b'd', b"1\t{bad\n"), message(b'c', b"")].concat();
    let fields = copied(&mut peer, "copy notes from stdin", &data).await;
    let copy = format!("{JSON}\nCOPY notes, line 1, column payload: \"{{bad\"");
    assert_eq!(told(&fields), ("22P02", true, DETAIL, Some(copy.as_str())));
    let made = "prepare p (text) as insert into notes (id, payload) values (2, $1::jsonb); \
                prepare q (text) as update people set name = name where id = 1 and $1::jsonb is null";
    assert_eq!(error(&peer.query(made).await), None);
    let fields = error(&peer.query("execute p ('{bad')").await).expect("no JSON");
    assert_eq!(told(&fields), ("22P02", true, DETAIL, Some(JSON)));
    // It writes to what is masked, and a row of that might be what is quoted.
    let fields = error(&peer.query("execute q ('{bad')").await).expect("no JSON");
    assert_eq!(told(&fields), ("22P02", true, None, None));
    let fields = error(&peer.query("insert into notes values (3, reads('{bad'))").await).expect("no JSON");
    assert_eq!(told(&fields), ("22P02", false, None, None));
    drop(peer);
    gate.stop().await;
}

/// What a trigger puts into a new row that is not for this tenant.
const TENANTS: &str = "
create table vault (secret text);
insert into vault values ('canary@vault.example');
create table visits (id int primary key, tenant text, email text);
create function fills() returns trigger language plpgsql security definer as $$
  begin new.email := (select secret from vault); return new; end $$;
create trigger fills before insert on visits for each row execute function fills();
analyze";
const ONE_TENANT: &str = "@id(\"own-tenant\") @filter(\"tenant = 'a'\")\nforbid (principal, action == Action::\"read\", resource)\n\
                          when { resource.name == \"visits\" };";

#[tokio::test]
async fn a_row_that_a_filter_does_not_take_is_not_quoted() {
    let classification = "[[column]]\nmatch = \"public.visits.email\"\ntags = [\"hidden\"]\n[[column]]\nmatch = \"public.vault.secret\"\ntags = [\"hidden\"]\n";
    let policy = [("classification.toml", classification), ("masks.cedar", RULES), ("filter.cedar", ONE_TENANT)];
    let gate = Gate::start_under(TENANTS, &policy).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let fields =
        error(&peer.query("insert into visits (id, tenant, email) values (1, 'b', null)").await).expect("refused");
    assert_eq!(told(&fields), ("44000", true, None, None));
    assert!(error(&peer.query("insert into visits (id, tenant, email) values (1, 'a', null)").await).is_none());
    drop(peer);
    gate.stop().await;
}

/// A trigger that is put off, and talks.
const TALKATIVE: &str = "
create function talks() returns trigger language plpgsql as $$
  begin raise notice 'row of %', new.email; raise exception 'never %', new.email using errcode = 'UE001'; end $$;
create constraint trigger talks after update on people deferrable initially deferred
  for each row execute function talks()";

#[tokio::test]
async fn what_is_put_off_says_no_more_when_it_is_called_in() {
    let policy = [("classification.toml", CLASSIFICATION), ("masks.cedar", RULES)];
    let gate = Gate::start_under(&format!("{PEOPLE}; {TALKATIVE}"), &policy).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    for called_in in ["set constraints all immediate", "set constraints talks immediate", "commit"] {
        peer.query("begin; update people set level = 1 where id = 1").await;
        let answered = peer.query(called_in).await;
        let fields = error(&answered).expect(called_in);
        assert_eq!(told(&fields), ("UE001", false, None, None), "{called_in}");
        assert!(!format!("{answered:?}").contains("canary"), "{called_in}: {answered:?}");
        peer.query("rollback").await;
    }
    drop(peer);
    gate.stop().await;
}

/// Triggers that are put off and only talk; one of them without end.
const CHATTY: &str = "
create table log (line text);
create table flood (line text);
create function chats() returns trigger language plpgsql as $$
  begin raise notice 'kept %', new.line; raise warning 'seen';
  if new.line = 'bad' then raise exception 'no'; end if; return new; end $$;
create function floods() returns trigger language plpgsql as $$
  begin for n in 1..2500 loop raise notice '%', repeat('x', 8000); end loop; return new; end $$;
create constraint trigger chats after insert on log deferrable initially deferred for each row execute function chats();
create constraint trigger floods after insert on flood deferrable initially deferred for each row execute function floods()";

/// The notices among these messages.
fn notices(messages: &[Message]) -> Vec<String> {
    let notices = messages.iter().filter(|message| message.tag == b'N');
    notices.map(|notice| error_fields(&notice.body).expect("fields").message).collect()
}

#[tokio::test]
async fn what_is_put_off_is_heard_at_the_commit_and_nothing_of_the_gateways_own_is() {
    let gate = Gate::start(CHATTY).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    for (sql, heard) in [
        ("insert into log values ('alone')", &["kept alone", "seen"][..]),
        ("begin; insert into log values ('in one'); commit", &["kept in one", "seen"]),
        ("begin", &[]),
        ("insert into log values ('in a block')", &[]),
        ("commit", &["kept in a block", "seen"]),
        ("begin; insert into log values ('never'); rollback", &[]),
    ] {
        let told = peer.query(sql).await;
        assert_eq!(error(&told).map(|fields| fields.message), None, "{sql}");
        assert_eq!(notices(&told), heard, "{sql}");
    }
    // What is said before it fails is heard as well.
    for sql in ["insert into log values ('bad')", "begin; insert into log values ('bad'); commit"] {
        let told = peer.query(sql).await;
        assert_eq!(error(&told).map(|fields| fields.message), Some("no".into()), "{sql}");
        assert_eq!(notices(&told), ["kept bad", "seen"], "{sql}");
    }
    let mut pipeline = BytesMut::new();
    frontend::parse_typed("", "insert into log values ('by parts')", &[], &mut pipeline);
    frontend::bind("", "", &[], &mut pipeline);
    frontend::execute("", 0, &mut pipeline);
    frontend::sync(&mut pipeline);
    peer.send(&pipeline).await;
    assert_eq!(notices(&peer.until(b'Z').await), ["kept by parts", "seen"]);
    // More than is kept: what is too much is not heard, and the row stands.
    let told = peer.query("insert into flood values ('one')").await;
    assert_eq!(error(&told).map(|fields| fields.message), None);
    assert!((1000..2500).contains(&notices(&told).len()), "{}", notices(&told).len());
    assert_eq!(rows(&peer.query("select count(*) from flood").await), [["1"]]);
    drop(peer);
    gate.stop().await;
}

/// Something masked, and a table on which the planner is asked about a write first.
const LARGER: &str = "
create table people (id int primary key, email text, name text);
insert into people values (1, 'canary', 'one');
create table visits (id int primary key, person int, at date);
insert into visits select g, 1 from generate_series(1, 1500) g;
create function says(int) returns int language plpgsql immutable as $$
  begin raise exception 'he is %', $1 using detail = 'so it is', hint = 'see'; end $$;
analyze";

#[tokio::test]
async fn an_error_points_into_the_clients_own_text() {
    let policy = [("classification.toml", CLASSIFICATION), ("masks.cedar", RULES)];
    let gate = Gate::start_under(LARGER, &policy).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    for sql in [
        "select c.id, c.nosuch from people c where c.id = 1",
        "select * from people where nosuch = 1",
        "  select 'é', public.people.id, nosuch from public.people",
        "/* é */ select id from people where email = 'a' and nosuch = 1",
        "select id from people where email = 'abcdef' and nosuch = 1",
        "select id from people where email = 'ab' and nosuch = 1",
        "select name, nosuch from people",
        "update visits set at = now() from people where people.id = person and nosuch = 1",
        "update visits set at = now(), nosuch = 1 where person = 1",
        "insert into visits (id, person, nosuch) values (1, 1, 1), (2, 2, 2)",
        "insert into visits (id, person, nosuch) select id, id, 1 from people",
    ] {
        let before = sql.split("nosuch").next().expect("one");
        let expected = before.chars().count() + 1 - if before.ends_with("c.") { 2 } else { 0 };
        for way in [false, true] {
            let fields = error(&either_way(&mut peer, sql, way).await).expect(sql);
            assert_eq!(fields.position, u32::try_from(expected).ok(), "{sql} {way} {fields:?}");
        }
        // The same of one that is only prepared.
        let fields = error(&ask().parse("", sql).sync(&mut peer).await).expect(sql);
        assert_eq!(fields.position, u32::try_from(expected).ok(), "{sql} {fields:?}");
    }
    // Behind others, and where the name means another statement by then.
    for sql in
        ["select 'é'; select id, nosuch from people", "select 1 from people; select nosuch, id from people; select 2"]
    {
        let fields = error(&peer.query(sql).await).expect(sql);
        let expected = sql.split("nosuch").next().expect("one").chars().count() + 1;
        assert_eq!(fields.position, u32::try_from(expected).ok(), "{sql} {fields:?}");
    }
    let pipeline = ask().run("select id, nosuch from people").run("select 1 from people").run("select id from people");
    assert_eq!(error(&pipeline.sync(&mut peer).await).expect("no column").position, Some(12));
    // There is no such place.
    let fields = error(&peer.query("select name from people where id = (table people)").await).expect("columns");
    assert_eq!((fields.sqlstate.as_str(), fields.position.is_some_and(|at| at > 50)), ("42601", false));
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn what_the_planner_says_of_a_write_comes_as_it_is_said_and_hides_no_less() {
    let policy = [("classification.toml", CLASSIFICATION), ("masks.cedar", RULES)];
    let gate = Gate::start_under(LARGER, &policy).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    for way in [false, true] {
        let sql = "insert into visits (id, person) values ('bad', 1), (2, 2)";
        let answers = either_way(&mut peer, sql, way).await;
        let raw = answers.iter().find(|message| message.tag == b'E').expect(sql);
        let codes: String =
            raw.body.split(|byte| *byte == 0).filter_map(|field| field.first()).map(|code| char::from(*code)).collect();
        assert_eq!((codes.as_str(), error(&answers).expect(sql).position), ("SVCMPFLR", Some(41)));
        // A function says it, while the planner works it out.
        let answers = either_way(&mut peer, "update visits set person = says(5) where person = 1", way).await;
        let fields = error(&answers).expect("it fails");
        assert_eq!((told(&fields), fields.hint.as_deref()), (("P0001", false, None, None), None));
    }
    drop(peer);
    gate.stop().await;
}

/// The error of a COPY to which the client sends `messages`.
async fn copied(peer: &mut Peer, sql: &str, messages: &[u8]) -> ErrorFields {
    let mut query = BytesMut::new();
    frontend::query(sql, &mut query);
    peer.send(&query).await;
    peer.until(b'G').await;
    peer.send(messages).await;
    error(&peer.until(b'Z').await).expect(sql)
}
