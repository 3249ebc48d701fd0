//! Peers that mean harm: what they send is refused in time, and nobody else feels it.

use std::time::{Duration, Instant};

use bytes::{BufMut as _, BytesMut};
use dbgate::core::grant::Access;
use dbgate::core::wire::frame;
use dbgate::core::wire::frontend::{self, Named};
use dbgate::core::wire::startup;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::gate::{Gate, SHOP};
use crate::support::recorder::{Passed, recorder};
use crate::support::requests::ask;
use crate::support::wire::{Peer, error, message, rows, tags};

#[path = "../../fuzz/harness.rs"]
mod harness;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_from_outside_break_a_parser(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        harness::frames(&bytes);
        harness::frontend(&bytes);
        harness::backend(&bytes);
        harness::scram(&bytes);
        harness::balancer(&bytes);
        harness::line(&bytes);
        harness::contents(&bytes);
        harness::evidence(&bytes);
    }

    #[test]
    fn messages_that_are_nearly_right_break_no_parser(
        tag in proptest::sample::select(&b"QPBDECHSdcfXFp"[..]),
        texts in proptest::collection::vec("[a-z0-9 $]{0,12}", 0..4),
        numbers in proptest::collection::vec(any::<i16>(), 0..12),
    ) {
        let mut body = BytesMut::new();
        texts.iter().for_each(|text| frame::put_text(&mut body, text));
        numbers.iter().for_each(|number| body.put_i16(*number % 4));
        harness::frontend(&[&[tag], body.as_ref()].concat());
        harness::backend(&body);
        harness::frames(&message(tag, &body));
    }

    #[test]
    fn no_text_breaks_what_reads_statements(text in "[a-z0-9 '\"$;(),.*=~:/_-]{0,60}", tail in "\\PC{0,20}") {
        harness::statement(text.as_bytes());
        harness::statement(format!("select {text}{tail}").as_bytes());
    }
}

/// Sends bytes at the door and waits until the gate hangs up.
async fn at_the_door(gate: &Gate, bytes: &[u8]) -> usize {
    let grant = gate.running.wire_address();
    let mut tcp = TcpStream::connect(grant).await.expect("connects");
    // It may hang up before it has heard everything.
    let _ = tcp.write_all(bytes).await;
    let _ = tcp.shutdown().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), tcp.read_to_end(&mut answer)).await.expect("it hangs up");
    answer.len()
}

#[tokio::test]
async fn noise_at_the_door_is_not_answered_and_nobody_feels_it() {
    let gate = Gate::start(SHOP).await;
    let mut honest = Peer::through(&gate.grant(Access::Read).await).await;
    let mut cut = BytesMut::new();
    startup::write(&[("user", "a"), ("database", "b")], &mut cut);
    let cases: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0xff; 64],
        &[0, 0, 0, 4],
        &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        &[0, 0, 0, 8, 0, 2, 0, 0],
        cut.get(..cut.len() - 3).expect("longer"),
        &[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5],
        b"",
    ];
    for bytes in cases {
        // At most a TLS alert.
        assert!(at_the_door(&gate, bytes).await < 16, "{bytes:?}");
        assert_eq!(rows(&honest.query("select 1").await), [["1"]]);
    }
    drop(honest);
    gate.stop().await;
}

#[tokio::test]
async fn messages_out_of_turn_or_out_of_shape_end_their_own_session_only() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let mut honest = Peer::through(&grant).await;
    let huge = [b'Q', 0x7f, 0xff, 0xff, 0xff];
    let cases: [(&str, Vec<u8>); 8] = [
        ("longer than allowed", huge.to_vec()),
        ("a negative length", vec![b'Q', 0xff, 0xff, 0xff, 0xff]),
        ("a length below its own", vec![b'Q', 0, 0, 0, 3]),
        ("an unknown type", message(b'z', b"").to_vec()),
        ("a password, now", message(b'p', b"x\0").to_vec()),
        ("no end of text", message(b'Q', b"select 1").to_vec()),
        ("more than the message says", message(b'S', b"xxxx").to_vec()),
        ("values that are not there", message(b'B', b"\0\0\0\0\0\x05\0\0\0\x01").to_vec()),
    ];
    for (what, bytes) in cases {
        let mut peer = Peer::through(&grant).await;
        peer.send(&bytes).await;
        let told = peer.until_closed().await;
        let refused = error(&told).unwrap_or_else(|| panic!("{what}: {}", tags(&told)));
        assert_eq!((refused.severity.as_str(), refused.sqlstate.as_str()), ("FATAL", "08P01"), "{what}");
        assert_eq!(rows(&honest.query("select 1").await), [["1"]], "{what}");
    }
    // Half a message, and then nothing: the session waits, others go on, and its end is noticed.
    let mut half = Peer::through(&grant).await;
    half.send(&[b'Q', 0, 0, 1, 0, b's']).await;
    assert_eq!(rows(&honest.query("select 1").await), [["1"]]);
    drop((half, honest));
    gate.stop().await;
}

/// PostgreSQL's own words for each, and nothing of the session is lost by it.
#[tokio::test]
async fn bytes_that_are_no_text_are_an_error_like_any_other() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    let query = message(b'Q', b"select '\xc3('\0");
    let parse = message(b'P', b"s\xff\0select 1\0\0\0");
    let text = message(b'P', b"\0select '\xe2\x82'\0\0\0");
    let describe = message(b'D', b"P\xff\0");
    for (bytes, said, needs_sync) in [
        (&query, "0xc3 0x28", false),
        (&parse, "0xff", true),
        (&text, "0xe2 0x82 0x27", true),
        (&describe, "0xff", true),
    ] {
        for (begin, ready) in [("select 1", b"I"), ("begin; update orders set amount = 0 where id = 1", b"E")] {
            assert!(error(&peer.query(begin).await).is_none(), "{begin}");
            peer.send(bytes).await;
            if needs_sync {
                // Skipped, all of it.
                peer.send(bytes).await;
                let mut rest = BytesMut::new();
                frontend::query("delete from orders", &mut rest);
                frontend::sync(&mut rest);
                peer.send(&rest).await;
            }
            let told = peer.until(b'Z').await;
            assert_eq!(tags(&told), "EZ", "{said}");
            let refused = error(&told).expect("an error");
            assert_eq!((refused.severity.as_str(), refused.sqlstate.as_str()), ("ERROR", "22021"), "{said}");
            assert_eq!(refused.message, format!("invalid byte sequence for encoding \"UTF8\": {said}"));
            assert_eq!(told.last().map(|last| &*last.body), Some(&ready[..]), "{said}");
            assert!(error(&peer.query("rollback").await).is_none());
            assert_eq!(rows(&peer.query("select amount::int from orders where id = 1").await), [["1"]]);
        }
    }
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_flood_of_messages_is_answered_in_order_or_refused() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let mut honest = Peer::through(&grant).await;
    let mut flood = Peer::through(&grant).await;
    let mut out = BytesMut::new();
    for _ in 0..2000 {
        frontend::sync(&mut out);
    }
    frontend::query("select 7", &mut out);
    flood.send(&out).await;
    let mut seen = 0;
    while seen < 2000 {
        seen += flood.until(b'Z').await.len();
    }
    assert_eq!(rows(&flood.until(b'Z').await), [["7"]]);
    // Statements that are prepared and never closed: the gate keeps so many and no more.
    out.clear();
    for number in 0..10_005 {
        frontend::parse_statement(&format!("s{number}"), "select 1", &mut out);
    }
    frontend::sync(&mut out);
    let (answers, began) = (tokio::join!(flood.send(&out), honest.query("select 8")), Instant::now());
    assert_eq!(rows(&answers.1), [["8"]]);
    assert!(began.elapsed() < Duration::from_secs(10));
    let told = flood.until(b'Z').await;
    assert_eq!(error(&told).expect("an error").sqlstate, "54000");
    assert_eq!(told.iter().filter(|message| message.tag == b'1').count(), 10_000);
    // One that is replaced takes no more room, and neither does SQL get more.
    assert_eq!(rows(&ask().run("select 9").sync(&mut flood).await), [["9"]]);
    assert_eq!(error(&flood.query("prepare one_more as select 1").await).expect("too many").sqlstate, "54000");
    drop((flood, honest));
    gate.stop().await;
}

#[tokio::test]
async fn names_and_what_they_keep_have_an_end() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    // Portals, with those of SQL among them.
    let mut peer = Peer::through(&grant).await;
    let many = |from: u32, to: u32| (from..to).fold(ask(), |asked, number| asked.bind(&format!("p{number}"), "s"));
    let begun = ask().run("begin").run("declare c cursor for select 1").sync(&mut peer).await;
    assert!(error(&begun).is_none());
    assert!(error(&ask().parse("s", "select 1").sync(&mut peer).await).is_none());
    let told = many(0, 1_005).sync(&mut peer).await;
    assert_eq!(error(&told).expect("too many").sqlstate, "54000");
    // The cursor and the portal that has declared it are two of them.
    assert_eq!(told.iter().filter(|message| message.tag == b'2').count(), 998);
    peer.query("rollback").await;
    assert!(error(&many(0, 1_000).sync(&mut peer).await).is_none());
    // Each of the same name takes the place of the one before it.
    let same = (0..2_000).fold(ask(), |asked, _| asked.bind("", "s").close(Named::Portal, "p").bind("p", "s"));
    assert!(error(&same.sync(&mut peer).await).is_none());
    // And what they keep, by its length.
    let mut out = BytesMut::new();
    let long = "x".repeat(1024 * 1024);
    frontend::parse_statement("long", "select length($1::text)", &mut out);
    for number in 0..70 {
        frontend::bind(&format!("l{number}"), "long", &[Some(&long)], &mut out);
    }
    frontend::sync(&mut out);
    peer.send(&out).await;
    let told = peer.until(b'Z').await;
    assert_eq!(error(&told).expect("too long").sqlstate, "54000");
    assert_eq!(told.iter().filter(|message| message.tag == b'2').count(), 63);
    assert_eq!(rows(&peer.query("select 1").await), [["1"]]);
    let texts = (0..300).fold(ask(), |asked, number| {
        asked.parse(&format!("t{number}"), &format!("select 1 /* {} */", "x".repeat(250_000)))
    });
    assert_eq!(error(&texts.sync(&mut peer).await).expect("too long").sqlstate, "54000");
    assert_eq!(rows(&peer.query("select 1").await), [["1"]]);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_up_nobody_else() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let mut deaf = Peer::through(&grant).await;
    let mut out = BytesMut::new();
    frontend::query("select repeat('x', 1000) from orders a join orders b on a.customer_id = b.customer_id", &mut out);
    deaf.send(&out).await;
    let mut honest = Peer::through(&grant).await;
    for _ in 0..50 {
        assert_eq!(rows(&honest.query("select 1").await), [["1"]]);
    }
    // Revoking the grant ends it all the same.
    drop(honest);
    gate.stop().await;
}

#[tokio::test]
async fn nothing_goes_out_behind_a_held_write_before_its_verdict() {
    let (port, passed) = recorder(crate::support::gate::cluster().port()).await;
    let gate = Gate::start_recorded(SHOP, port).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    let statement = |sql: &str, out: &mut BytesMut| {
        frontend::parse_statement("", sql, out);
        frontend::bind("", "", &[], out);
        frontend::describe(Named::Portal, "", out);
        frontend::execute("", 0, out);
    };
    // A commit smuggled behind a write that is too large, in one pipeline.
    let mut out = BytesMut::new();
    for sql in ["begin", "delete from orders where id > 5", "commit", "select 'behind'"] {
        statement(sql, &mut out);
    }
    frontend::sync(&mut out);
    peer.send(&out).await;
    let told = peer.until(b'Z').await;
    assert_eq!(error(&told).expect("a question").sqlstate, "ZG001");
    peer.query("rollback").await;
    // The same in one Query, and a small write that stands.
    let told = peer.query("delete from orders where id > 5; select 'behind'").await;
    assert_eq!((tags(&told).as_str(), error(&told).expect("a denial").sqlstate.as_str()), ("EZ", "42501"));
    assert_eq!(tags(&peer.query("delete from orders where id = 5; select 'behind'").await), "CTDCZ");
    drop(peer);

    // The gate has connections of its own, too.
    let is_write = |one: &Passed| matches!(one, Passed::Asked(b'P', text) if text.contains("delete from orders"));
    let connections = passed.lock().expect("whole").clone();
    let passed = connections.into_iter().find(|passed| passed.iter().any(is_write)).expect("the session's connection");
    let asked = |from: usize, what: &str| {
        let is_it = |one: &Passed| matches!(one, Passed::Asked(b'P', text) if text.contains(what));
        passed.iter().skip(from).position(is_it).map(|at| at + from)
    };
    let mut at = 0;
    let mut writes = 0;
    while let Some(write) = asked(at, "delete from orders") {
        writes += 1;
        // What executes next, or could commit, after the write itself; what the gate asks aside.
        let mut executed = passed.iter().enumerate().skip(write).filter(|(_, one)| match one {
            Passed::Asked(b'S' | b'Q', _) => true,
            Passed::Asked(b'E', portal) => !portal.contains("dbgate_portal"),
            Passed::Asked(..) | Passed::Answered(_) => false,
        });
        let (write, _) = executed.next().expect("the write is executed");
        let (behind, _) = executed.next().expect("something comes next");
        let next = |from: usize, is_it: &dyn Fn(&Passed) -> bool| {
            passed.iter().enumerate().skip(from).find(|(_, one)| is_it(one)).map(|(at, _)| at)
        };
        // Its tag has come before anything is sent that stands behind it.
        let told = next(write, &|one| *one == Passed::Answered(b'C')).expect("the write is answered");
        assert!(told < behind, "write {writes}: {:#?}", passed.get(write..behind + 1));
        // Before a Sync it is counted as well.
        let sync = next(write, &|one| matches!(one, Passed::Asked(b'S' | b'Q', _))).expect("a Sync");
        let is_count = |one: &Passed| matches!(one, Passed::Asked(b'B', text) if text.contains("dbgate_counts"));
        let counts = next(write, &is_count).expect("the write is counted");
        let answered = next(counts, &|one| *one == Passed::Answered(b'3')).expect("the count is answered");
        assert!(counts < answered && answered < sync, "write {writes}: {:#?}", passed.get(write..sync + 1));
        at = behind;
    }
    assert_eq!(writes, 3);
    assert_eq!(gate.count("select count(*) from orders").await, 2999);
    gate.stop().await;
}
