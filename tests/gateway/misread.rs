//! Settings that say how texts are read are fixed in a session. Where code that nobody has read changes one
//! all the same, no statement is taken for another than the target takes it for.

use bytes::BytesMut;
use dbgate::core::grant::Access;
use dbgate::core::wire::frontend;

use crate::support::gate::{AT_MOST_100, Gate, SHOP, superuser};
use crate::support::requests::ask;
use crate::support::wire::{Peer, code, error, tags};

/// To the gate two texts; to a target in which a backslash escapes a quote one text, and a deletion.
const TWOFOLD: &str =
    "with a as (select '\\', '), d as (delete from orders returning 1) select 1 --') select 1 from a limit 1";

/// Code of the database's own that does what it is told.
const FLIP: &str = "create function flip(text) returns text language sql volatile
  as 'select set_config(''standard_'' || ''conforming_strings'', $1, false)'; grant execute on function flip(text) to public;";

fn set(value: &str) -> String {
    format!("select flip('{value}')")
}

async fn gate(database: &str) -> Gate {
    let policy = [("classification.toml", ""), ("open.cedar", AT_MOST_100)];
    Gate::without_pack(&format!("misread_{database}"), &format!("{SHOP}{FLIP}"), &policy).await
}

#[tokio::test]
async fn behind_code_that_nobody_has_read_no_text_is_read_in_two_ways() {
    let gate = gate("behind").await;
    let grant = gate.grant(Access::Admin).await;
    let mut peer = Peer::through(&grant).await;
    for sql in [
        format!("{}; {TWOFOLD}", set("off")),
        format!("{}; prepare w as {TWOFOLD}; {}; execute w", set("off"), set("on")),
        format!("begin; {}; {TWOFOLD}", set("off")),
    ] {
        let told = error(&peer.query(&sql).await).expect("refused");
        assert_eq!((told.sqlstate.as_str(), told.message.contains("how it is read")), ("42501", true), "{told:?}");
        peer.query("rollback").await;
    }
    let kept = ask().run(&set("off")).parse("w", TWOFOLD).run(&set("on")).sync(&mut peer).await;
    assert_eq!(error(&kept).expect("refused").sqlstate, "42501");
    // By themselves both are what they look like.
    let told = peer.query(&format!("{}; select 1", set("on"))).await;
    assert_eq!(tags(&told), "TDCTDCZ", "{:?}", error(&told));
    assert_eq!(code(&mut peer, &format!("{TWOFOLD}; select '\\'")).await, None);
    assert_eq!(gate.count("select count(*) from orders").await, 3000);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_database_that_reads_texts_in_the_old_way_reads_them_as_the_gate_does() {
    let gate = gate("old").await;
    let old = "alter database misread_old set standard_conforming_strings = off;
               alter database misread_old set client_encoding = latin1";
    superuser("postgres").await.batch_execute(old).await.expect("set");
    let grant = gate.grant(Access::Admin).await;
    let mut peer = Peer::through(&grant).await;
    for reset in ["reset standard_conforming_strings", "discard all", "select 1"] {
        peer.query(reset).await;
        let told = peer.query(TWOFOLD).await;
        assert_eq!(tags(&told), "TDCZ", "{reset}: {:?}", error(&told));
        assert_eq!(gate.count("select count(*) from orders").await, 3000, "{reset}");
    }
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_session_ends_when_code_has_changed_how_texts_are_read() {
    let gate = gate("ends").await;
    let grant = gate.grant(Access::Admin).await;
    for begin in ["select 1", "begin"] {
        for at_once in [false, true] {
            let mut peer = Peer::through(&grant).await;
            peer.query(begin).await;
            let mut asked = BytesMut::new();
            frontend::query(&set("off"), &mut asked);
            let mut told = Vec::new();
            if !at_once {
                peer.send(&std::mem::take(&mut asked)).await;
                told = peer.until(b'Z').await;
                // In a block the target's word on its settings comes behind that.
                if error(&told).is_none() {
                    told.extend(peer.receive().await);
                }
            }
            frontend::query(TWOFOLD, &mut asked);
            peer.send(&asked).await;
            told.extend(peer.until_closed().await);
            assert_eq!(error(&told).expect("an end").severity, "FATAL", "{begin} {at_once}");
            assert_eq!(gate.count("select count(*) from orders").await, 3000, "{begin} {at_once}");
        }
    }
    gate.stop().await;
}
