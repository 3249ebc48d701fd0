//! The same sessions straight and through the gate: where nothing is masked and nothing refused,
//! a client cannot tell the two apart by a single byte.

use bytes::{BufMut as _, BytesMut};
use dbgate::core::grant::Access;
use dbgate::core::wire::frame::{self, Message};
use dbgate::core::wire::frontend::{self, Named};
use serde_json::Value;

use crate::support::gate::{self, Gate, Place};
use crate::support::wire::{Channel, Peer, message};

const SCHEMA: &str = "
create table items (id int primary key, name text);
insert into items select g, 'item ' || g from generate_series(1, 20) g;
create table parts (id int primary key, item int references items);
create table later (id int constraint later_once unique deferrable initially deferred);
create table guarded (id int primary key, secret text);
create schema other;
create table other.place (where_am_i text);
insert into other.place values ('other');
create table public.place (where_am_i text);
insert into public.place values ('public');
create function noisy(int) returns int language plpgsql stable as
  $$ begin raise notice 'told %', $1 using hint = 'listen'; return $1; end $$;
create function failing() returns int language plpgsql immutable as
  $$ begin raise exception 'no' using detail = 'because', errcode = 'P0042'; end $$;
create function pairs(int) returns table (a int, b text) language sql immutable as
  $$ select g, 'b' || g from generate_series(1, $1) g $$;
analyze;
";

/// One line of a session.
#[derive(Debug)]
enum Step {
    Send(Vec<u8>),
    Until(u8),
}

struct Session {
    name: String,
    steps: Vec<Step>,
}

#[tokio::test]
async fn a_session_through_the_gate_is_the_same_bytes() {
    same_bytes("wire_open", &[], |_| true).await;
}

/// What functions say is withheld where anything is masked, so sessions in which one speaks are left out.
#[tokio::test]
async fn what_is_masked_elsewhere_changes_no_byte() {
    let classification = "[[column]]\nmatch = \"public.guarded.secret\"\ntags = [\"hidden\"]\n";
    let rules = "@id(\"mask-hidden\") @mask(\"null\")\nforbid (principal, action == Action::\"reveal\", resource)\n\
                 when { resource.tags.contains(\"hidden\") };";
    let policy = [("classification.toml", classification), ("masks.cedar", rules)];
    same_bytes("wire_masked", &policy, |name| !["functions", "notices"].contains(&name)).await;
}

async fn same_bytes(database: &str, policy: &[(&str, &str)], counts: fn(&str) -> bool) {
    let sessions = read(include_str!("../corpus/wire.txt"));
    assert!(sessions.len() > 70, "{} sessions", sessions.len());
    let guard = gate::PREPARING.lock().await;
    let admin = gate::superuser("postgres").await;
    let (through, beside) = (format!("{database}_through"), format!("{database}_straight"));
    for (name, template) in [(through.as_str(), "template1"), (beside.as_str(), through.as_str())] {
        admin.batch_execute(&format!("create database {name} template {template}")).await.expect("database");
        if name == through {
            gate::superuser(name).await.batch_execute(SCHEMA).await.expect("schema");
        }
    }
    let place = Place { cluster: gate::cluster(), database: through, sql: "", target: "demo", policy };
    let gate = Gate::before(&place, "http://127.0.0.1:1", "").await;
    drop(guard);
    let grant = gate.grant(Access::Write).await;
    let mut differing = Vec::new();
    for session in sessions.iter().filter(|session| counts(&session.name)) {
        let mut straight = straight(&beside).await;
        let expected = play(&mut straight, &session.steps).await;
        let mut through = Peer::through(&grant).await;
        let found = play(&mut through, &session.steps).await;
        if expected != found {
            differing.push(difference(&session.name, &expected, &found));
        }
    }
    assert!(differing.is_empty(), "{} of {} differ\n{}", differing.len(), sessions.len(), differing.join("\n"));
    gate.stop().await;
}

async fn straight(database: &str) -> Peer {
    let cluster = gate::cluster();
    let mut peer = Peer::open("127.0.0.1", cluster.port(), None, Channel::Plain).await;
    peer.sign_in(&[("user", "postgres"), ("database", database)], cluster.password()).await;
    peer
}

async fn play(peer: &mut Peer, steps: &[Step]) -> Vec<Message> {
    let mut answers = Vec::new();
    for step in steps {
        match step {
            Step::Send(bytes) => peer.send(bytes).await,
            Step::Until(tag) => {
                let mut part = peer.until(*tag).await;
                let is_there = part.last().is_some_and(|last| last.tag == *tag);
                answers.append(&mut part);
                if !is_there {
                    // The connection has ended: a difference, unless it ended on the other side, too.
                    return answers;
                }
            }
        }
    }
    answers
}

/// The first message that is not the same, and the types of all of them.
fn difference(name: &str, expected: &[Message], found: &[Message]) -> String {
    let tags = |all: &[Message]| crate::support::wire::tags(all);
    let at = expected.iter().zip(found).take_while(|(one, other)| one == other).count();
    let show = |one: Option<&Message>| {
        one.map(|one| format!("{} {}", char::from(one.tag), String::from_utf8_lossy(&one.body).replace('\0', "·")))
    };
    format!(
        "{name}\n  straight {}\n  through  {}\n  at {at}: {:?}\n      not {:?}",
        tags(expected),
        tags(found),
        show(expected.get(at)),
        show(found.get(at))
    )
}

fn read(text: &str) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            sessions.push(Session { name: name.to_owned(), steps: Vec::new() });
        } else if let Some(session) = sessions.last_mut()
            && !line.is_empty()
        {
            session.steps.push(step(line));
        }
    }
    sessions
}

fn step(line: &str) -> Step {
    let (letter, rest) = line.split_at(1);
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let mut out = BytesMut::new();
    let name = |text: &str| if text == "-" { String::new() } else { text.to_owned() };
    let words: Vec<&str> = rest.splitn(3, ' ').collect();
    let word = |index: usize| words.get(index).copied().unwrap_or_default();
    match letter {
        ">" => return Step::Until(*rest.as_bytes().first().expect("a type")),
        "Q" => frontend::query(rest, &mut out),
        "P" => {
            let types: Vec<u32> = serde_json::from_str(word(1)).expect("type oids");
            frontend::parse_typed(&name(word(0)), word(2), &types, &mut out);
        }
        "B" => bind(&name(word(0)), &name(word(1)), &serde_json::from_str(word(2)).expect("JSON"), &mut out),
        "D" | "C" => {
            let what = if word(0) == "S" { Named::Statement } else { Named::Portal };
            match letter {
                "D" => frontend::describe(what, &name(word(1)), &mut out),
                _ => frontend::close(what, &name(word(1)), &mut out),
            }
        }
        "E" => frontend::execute(&name(word(0)), word(1).parse().expect("rows"), &mut out),
        "S" => frontend::sync(&mut out),
        "H" => frontend::flush(&mut out),
        "d" => frontend::copy_data(&unescaped(rest), &mut out),
        "c" => frontend::copy_done(&mut out),
        "f" => frontend::copy_fail(rest, &mut out),
        other => panic!("`{other}` is no step"),
    }
    Step::Send(out.to_vec())
}

fn bind(portal: &str, statement: &str, about: &Value, out: &mut BytesMut) {
    let list = |key: &str| about.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let count = |list: &[Value]| i16::try_from(list.len()).expect("few");
    frame::write(out, b'B', |body| {
        frame::put_text(body, portal);
        frame::put_text(body, statement);
        let formats = |body: &mut BytesMut, list: Vec<Value>| {
            body.put_i16(count(&list));
            list.iter().for_each(|f| body.put_i16(i16::try_from(f.as_i64().expect("0 or 1")).expect("small")));
        };
        formats(body, list("formats"));
        body.put_i16(count(&list("values")));
        for value in list("values") {
            let bytes = match &value {
                Value::Null => {
                    body.put_i32(-1);
                    continue;
                }
                Value::String(text) => text.as_bytes().to_vec(),
                other => hex(other.get("hex").and_then(Value::as_str).expect("hex")),
            };
            body.put_i32(i32::try_from(bytes.len()).expect("short"));
            body.put_slice(&bytes);
        }
        formats(body, list("results"));
    });
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().map(|digit| u8::try_from(digit.to_digit(16).expect("hex")).expect("4 bits")).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            (_, true) => match letters.next() {
                Some('n') => out.push(b'\n'),
                Some('t') => out.push(b'\t'),
                Some('\\') => out.push(b'\\'),
                other => panic!("`\\{other:?}` is no escape"),
            },
            (other, false) => out.extend(other.to_string().bytes()),
        }
    }
    out
}

#[test]
fn the_corpus_is_read_as_it_is_written() {
    let sessions = read("# comment\n== a\nQ select 1\n> Z\n\n== b\nd a\\tb\\n\n");
    assert_eq!(sessions.iter().map(|session| session.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let steps: Vec<&Step> = sessions.iter().flat_map(|session| &session.steps).collect();
    assert!(matches!(steps.as_slice(), [Step::Send(_), Step::Until(b'Z'), Step::Send(data)]
        if *data == message(b'd', b"a\tb\n")));
}
