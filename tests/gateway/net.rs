//! The second net, through the gate: values that look sensitive in columns that nobody has classified.

use dbgate::core::grant::Access;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client};

use crate::support::gate::{Gate, column, refusal};

const NOTES: &str = r#"
create table notes (id int primary key, body text, doc jsonb, tags text[], known text);
insert into notes values
  (1, 'write to ana@acme.io', '{"card": 4111111111111111, "to": "ana@acme.io"}', '{ana@acme.io,plain}', 'open@acme.io'),
  (2, 'nothing here', '{"a": 1}', '{}', null);
analyze;
"#;

/// `known` was looked at, and may be seen by everybody.
const POLICY: [(&str, &str); 1] = [("classification.toml", "[[column]]\nmatch = \"public.notes.known\"\ntags = []\n")];

async fn gate(scan: &str) -> Gate {
    Gate::make(NOTES, "http://127.0.0.1:1", scan, &POLICY).await
}

/// A client, and what it is told beside its results.
async fn connect(gate: &Gate) -> (Client, mpsc::UnboundedReceiver<String>) {
    let (client, mut connection) = gate.open(&gate.grant(Access::Write).await).await;
    let (told, notices) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notice(notice) = message {
                // The test may have ended.
                let _ = told.send(notice.message().to_owned());
            }
        }
    });
    (client, notices)
}

#[tokio::test]
async fn what_looks_sensitive_is_hidden_in_every_protocol_and_format() {
    let gate = gate("content_scan = \"redact\"").await;
    let (client, mut notices) = connect(&gate).await;
    let hidden = "write to ***********";
    assert_eq!(column(&client, "select body from notes order by id").await.expect("rows"), [hidden, "nothing here"]);
    assert_eq!(
        notices.recv().await.as_deref(),
        Some("dbgate: values that look sensitive were hidden: 1 x e-mail address")
    );
    let doc = column(&client, "select doc from notes where id = 1").await.expect("rows");
    assert_eq!(doc, [r#"{"to": "***********", "card": 9999999999999999}"#]);
    assert_eq!(column(&client, "select tags from notes where id = 1").await.expect("rows"), ["{***********,plain}"]);
    // Somebody has classified it: no guess is needed.
    assert_eq!(column(&client, "select known from notes where id = 1").await.expect("rows"), ["open@acme.io"]);
    // What is made of it is nobody's column.
    assert_eq!(column(&client, "select lower(known) from notes where id = 1").await.expect("rows"), ["************"]);
    let returned = column(&client, "update notes set body = body where id = 1 returning body").await;
    assert_eq!(returned.expect("rows"), [hidden]);
    client.simple_query("begin; declare c cursor for select body from notes order by id").await.expect("a cursor");
    assert_eq!(column(&client, "fetch 1 from c").await.expect("rows"), [hidden]);
    client.simple_query("rollback").await.expect("over");
    // Binary, and executed twice after one description, with another statement between.
    let statement = client.prepare("select body, tags, known from notes where id = $1").await.expect("prepared");
    for _ in 0..2 {
        let row = client.query_one(&statement, &[&1]).await.expect("a row");
        let tags: Vec<String> = row.get(1);
        assert_eq!((row.get(0), tags, row.get(2)), (hidden, vec!["*".repeat(11), "plain".into()], "open@acme.io"));
        assert_eq!(
            client
                .query_one("select id, known from notes where id = $1", &[&1])
                .await
                .expect("a row")
                .get::<_, &str>(1),
            "open@acme.io"
        );
    }
    assert!(client.query("select id from notes where id = $1", &[&7]).await.expect("no rows").is_empty());
    // Rows within rows, arrays of them, statistics, words of a text, and what stands behind escapes.
    for (sql, shown) in [
        ("select row(id, body) from notes where id = 1", r#"(1,"write to ***********")"#),
        ("select array_agg((id, body)) from notes where id = 1", r#"{"(1,\"write to ***********\")"}"#),
        ("select array[doc] from notes where id = 1", r#"{"{\"to\": \"***********\", \"card\": ****************}"}"#),
        ("select to_tsvector('simple', 'ana@acme.io')", "'***********':1"),
        ("select E'x\\\\n4111111111111111'", r"x\n****************"),
    ] {
        assert_eq!(column(&client, sql).await.expect(sql), [shown], "{sql}");
    }
    // What PostgreSQL quotes of a value when it complains.
    let (code, message) = refusal(&client, "select body::int from notes where id = 1").await;
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("22P02", r#"invalid input syntax for type integer: "write to ***********""#)
    );
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn a_copy_is_looked_through_line_by_line() {
    let gate = gate("content_scan = \"redact\"").await;
    let (client, _notices) = connect(&gate).await;
    let lines: Vec<_> = client
        .copy_out("copy (select id, body from notes order by id) to stdout")
        .await
        .expect("a copy")
        .try_collect()
        .await
        .expect("lines");
    assert_eq!(lines.concat(), b"1\twrite to ***********\n2\tnothing here\n");
    let escaped = "copy (select E'line\\n4111 1111 1111 1111', 5, 'ana@acme.io') to stdout (delimiter '|')";
    let lines: Vec<_> = client.copy_out(escaped).await.expect("a copy").try_collect().await.expect("lines");
    assert_eq!(lines.concat(), b"line\\n*******************|5|***********\n");
    let binary = client.copy_out("copy notes (body) to stdout (format binary)").await;
    let error = match binary {
        Err(error) => error,
        Ok(stream) => stream.try_collect::<Vec<_>>().await.expect_err("cannot be looked through"),
    };
    assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{error:?}");
    assert_eq!(column(&client, "select 1").await.expect("goes on"), ["1"]);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn a_row_that_is_too_long_to_be_looked_through_is_not_shown() {
    let gate = gate("content_scan = \"redact\"").await;
    let (client, _notices) = connect(&gate).await;
    let long = "select length(repeat('x', 1000000)), repeat('x', 1000000) || ' ana@acme.io'";
    let row = client.query_one(long, &[]).await.expect("a row");
    assert!(row.get::<_, &str>(1).ends_with(" ***********"));
    assert_eq!(refusal(&client, "select repeat('x', 20000000)").await.0, "54000");
    assert_eq!(column(&client, "select 1").await.expect("goes on"), ["1"]);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn a_notice_changes_nothing_and_without_the_net_there_is_none() {
    for (scan, said) in [("content_scan = \"notice\"", 1), ("", 0)] {
        let gate = gate(scan).await;
        let (client, mut notices) = connect(&gate).await;
        let bodies = column(&client, "select body from notes order by id").await.expect("rows");
        assert_eq!(bodies, ["write to ana@acme.io", "nothing here"]);
        drop(client);
        // The connection has ended when there is nothing more to hear.
        let mut heard = Vec::new();
        while let Some(notice) = notices.recv().await {
            heard.push(notice);
        }
        assert_eq!(heard.len(), said, "{heard:?}");
        assert!(heard.iter().all(|notice| notice.contains("were shown")));
        gate.stop().await;
    }
}
