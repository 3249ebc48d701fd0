//! Durability `writes`: a write goes on while its record is on its way to the disk, and its commit is not asked for
//! before that is in the log.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use dbgate::core::grant::Access;
use dbgate::core::wire::frontend;
use serde_json::Value;

use super::again::is_of;
use crate::support::gate::{Gate, SHOP, cluster};
use crate::support::recorder::{Passed, recorder_that_looks};
use crate::support::requests::{ask, either_way};
use crate::support::wire::{Peer, error, tags};

const ROWS: u64 = 60;
const INSERT: &str = "insert into orders values ($1::int, 1, 1)";

/// Rows whose statements stand in the log.
fn recorded(log: &Path) -> u64 {
    let text = std::fs::read_to_string(log).expect("a log");
    // The last line may be half written.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| is_of(line, INSERT)).map(|line| line.get("times").and_then(Value::as_u64).unwrap_or(1)).sum()
}

#[tokio::test]
async fn all_that_a_commit_makes_stand_is_in_the_log_before_it_is_asked_for() {
    let log = Arc::new(OnceLock::<PathBuf>::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (known, noted) = (log.clone(), seen.clone());
    // What is sent with a Sync or as a Query may commit.
    let look = move |passed: &Passed| {
        if let (Passed::Asked(b'S' | b'Q', _), Some(log)) = (passed, known.get()) {
            noted.lock().expect("whole").push(recorded(log));
        }
    };
    let (port, _) = recorder_that_looks(cluster().port(), Arc::new(look)).await;
    let gate = Gate::start_recorded(SHOP, port).await.hurried().await;
    log.set(gate.folder.join("data/log/log.ndjson")).expect("set once");
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    assert_eq!(error(&ask().parse("s", INSERT).sync(&mut peer).await), None);
    let mut expected = 0;
    for (is_block, is_extended) in [(false, true), (true, false), (true, true)] {
        if is_block {
            peer.query("begin").await;
        }
        let first = 10_000 + expected;
        let rows = (first..first + ROWS).map(|id| id.to_string());
        let all = rows.fold(ask(), |all, id| all.bind_values("s", &[&id]).execute(""));
        assert_eq!(error(&all.sync(&mut peer).await), None);
        expected += ROWS;
        if is_block {
            assert_eq!(tags(&either_way(&mut peer, "commit", is_extended).await).replace(['1', '2'], ""), "CZ");
        }
        // The last Sync was the one that made them stand.
        assert_eq!(seen.lock().expect("whole").last(), Some(&expected), "{is_block} {is_extended}");
    }
    assert_eq!(
        gate.count("select count(*) from orders where id >= 10000").await,
        i64::try_from(expected).expect("few")
    );
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn what_has_ended_is_in_the_log_also_while_the_client_has_begun_more_and_says_nothing() {
    let gate = Gate::start(SHOP).await;
    let log = gate.folder.join("data/log/log.ndjson");
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let mut asked = BytesMut::new();
    frontend::parse_statement("", "begin", &mut asked);
    frontend::bind("", "", &[], &mut asked);
    frontend::execute("", 0, &mut asked);
    frontend::sync(&mut asked);
    frontend::parse_statement("later", "select 1", &mut asked);
    peer.send(&asked).await;
    assert_eq!(error(&peer.until(b'Z').await), None);
    let began = Instant::now();
    while !std::fs::read_to_string(&log).expect("a log").contains("\"tag\":\"BEGIN\"") {
        assert!(began.elapsed() < Duration::from_secs(20), "its outcome is not there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(peer);
    gate.stop().await;
}
