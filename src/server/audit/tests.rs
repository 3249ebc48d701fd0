//! The log on disk: what survives a crash, what is refused, and what the evidence says.

use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};

use super::log::LINES;
use super::recover::CHECKPOINT;
use super::*;
use crate::core::api::KeyProof;
use crate::core::audit::checkpoint::possession_text;
use crate::core::audit::report::{Outcome, Severity, State};
use crate::core::audit::verify::verify;
use crate::core::audit::{VerifierKey, receipt};
use crate::core::encoding;
use crate::core::grant::{Access, Grant, GrantId, SessionId};
use crate::core::identity::{Declared, Identity, Kind as Who};
use crate::core::policy::{Cleared, Denial};
use crate::core::statement::facts::{Effect, Facts};
use crate::core::time::Moment;
use crate::core::transcript::{Domain, Event, Leaf, RowsDigest, SessionKey};
use crate::server::config::Durability;
use crate::sys::{clock, random};

pub const ORIGIN: &str = "gate.example.com/log";

/// A folder that goes with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        Self(std::env::temp_dir().join(format!("dbgate-log-{}", encoding::hex(&random::bytes::<8>()))))
    }

    fn lines(&self) -> Vec<u8> {
        std::fs::read(self.0.join(LINES)).expect("the log")
    }

    fn put(&self, bytes: &[u8]) {
        std::fs::write(self.0.join(LINES), bytes).expect("written");
    }

    fn kinds(&self) -> Vec<String> {
        let text = String::from_utf8(self.lines()).expect("text");
        text.lines().map(|line| Event::parse(line).expect("a line").kind).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub async fn open(folder: &Folder) -> Result<Arc<Log>, LogError> {
    Log::open(&folder.0, ORIGIN, &[1; 32]).await
}

/// Ends as a crash does: nothing more is written, and the file is free when this returns.
fn crash(log: Arc<Log>) {
    let log = Arc::into_inner(log).expect("the only one");
    drop(log);
}

pub fn grant(client_key: Option<String>) -> Grant {
    let identity = Identity {
        kind: Who::Human,
        subject: "ana@example.com".into(),
        sub: "u1".into(),
        issuer: "https://id.example.com".into(),
        groups: Vec::new(),
        expires: Moment::from_seconds(2_000_000_000),
    };
    Grant {
        id: GrantId::from_random(random::bytes()),
        session: SessionId::new(clock::now(), random::bytes()),
        target: "demo".into(),
        database: "shop".into(),
        environment: "dev".into(),
        access: Access::Read,
        identity,
        declared: Declared::default(),
        reason: Some("looking".into()),
        ticket: None,
        not_before: clock::now(),
        expires: Moment::from_seconds(2_000_000_000),
        scope: "s".into(),
        policy: "p".into(),
        client_key,
        user: "g_1".into(),
    }
}

/// The key that clients of these tests sign with.
pub fn client_key() -> SigningKey {
    SigningKey::from_bytes(&[10; 32])
}

pub fn client_public() -> String {
    encoding::hex(client_key().verifying_key().as_bytes())
}

/// A signature over `signed_nonce`, for a challenge that was `n-1`.
pub fn proof(client_key: String, signed_nonce: &str) -> KeyProof {
    let signature = self::client_key().sign(possession_text(signed_nonce, ORIGIN).as_bytes());
    KeyProof { client_key, nonce: "n-1".into(), signature: encoding::hex(&signature.to_bytes()) }
}

pub fn key() -> SessionKey {
    SessionKey::from_bytes([7; 32])
}

pub async fn session(log: &Arc<Log>, grant: &Grant) -> SessionRecord {
    let proof = grant.client_key.clone().map(|client_key| proof(client_key, "n-1"));
    let recorded = log.grant(grant, proof.as_ref()).await.expect("recorded");
    let about = SessionOpen {
        client_address: "127.0.0.1:1".into(),
        tls_version: "1.3".into(),
        application: "psql".into(),
        role: "dbgate_u_1".into(),
        server_version: "15".into(),
        level: u8::from(grant.client_key.is_some()),
        durability: Durability::Strict,
    };
    let leaf = Leaf(recorded.leaf);
    let opened = SessionRecord::open(log, grant, leaf, key(), about, grant.session.clone(), clock::now()).await;
    let (record, opening) = opened.expect("opened");
    opening.durable().await.expect("durable");
    record
}

fn cleared(verb: &str) -> Cleared {
    Cleared::assumed(Facts::plain(verb, Effect::Read))
}

pub async fn allowed(record: &mut SessionRecord, text: &str, parts: usize) -> u64 {
    let parts: Vec<Cleared> = (0..parts).map(|_| cleared("SELECT")).collect();
    let (parts, wording) = (parts.iter().collect::<Vec<_>>(), Wording::of(text));
    let said = Said { text, wording: &wording, forwarded: None, parameters: None, stands_at_commit: false };
    let recorded = record.allowed(&parts, said, Protocol::Simple, clock::now()).await;
    record.settled().await.expect("durable");
    recorded.expect("recorded").number()
}

pub fn seen(rows: u64) -> ResultRecord<'static> {
    static COLUMNS: std::sync::LazyLock<[String; 1]> = std::sync::LazyLock::new(|| ["id".into()]);
    let mut digest = RowsDigest::new(&key());
    (0..rows).for_each(|_| digest.row(b"\x00\x01\x00\x00\x00\x01a"));
    ResultRecord {
        tag: "SELECT",
        rows,
        bytes: digest.bytes(),
        columns: COLUMNS.as_slice(),
        masked: &[],
        rows_digest: digest.commitment(),
        micros: 5,
        transaction: 'I',
    }
}

pub fn denial() -> Denial {
    Denial {
        code: "ddl".into(),
        rule: "no-ddl".into(),
        message: "no".into(),
        hint: None,
        objects: Vec::new(),
        approvers: None,
        break_glass: None,
        offset: None,
    }
}

/// A log with one whole session in it, closed in order.
async fn filled(folder: &Folder) -> Grant {
    let log = open(folder).await.expect("opened");
    let grant = grant(None);
    let mut record = session(&log, &grant).await;
    let number = allowed(&mut record, "select 1", 1).await;
    record.result(number, 0, seen(2), clock::now()).await.expect("recorded");
    record.close("client", RoleEnd::Dropped, None, clock::now()).await.expect("closed");
    drop(record);
    log.stop().await;
    grant
}

fn evidence(log: &Log, grant: &Grant) -> String {
    let (gateway, last) = log.session_lines(&grant.session).expect("read").expect("a session");
    let opened = Event::parse(&gateway[0]).expect("a line").previous;
    let granted = log.find_grant(opened).expect("read");
    let receipt = log.receipt(last).expect("a receipt");
    let parts = crate::core::audit::container::Parts {
        grant: granted.as_deref(),
        gateway: &gateway,
        client: &[],
        head: None,
        receipt: &receipt,
    };
    parts.write()
}

fn trusted(log: &Log) -> Vec<VerifierKey> {
    vec![VerifierKey::parse(&log.verifier_key()).expect("a key")]
}

#[tokio::test]
async fn a_grant_comes_with_a_receipt_that_anybody_can_check() {
    let folder = Folder::new();
    let log = open(&folder).await.expect("opened");
    let grant = grant(None);
    let recorded = log.grant(&grant, None).await.expect("recorded");
    let key = trusted(&log).remove(0);
    let (event, head) = receipt::open(&recorded.line, &recorded.receipt, &key).expect("proven");
    assert_eq!((event.kind.as_str(), event.text("ses")), ("grant", Some(grant.session.as_str())));
    assert_eq!((event.line.leaf().0, head.size), (recorded.leaf, 2));
    assert!(folder.lines().ends_with(format!("{}\n", recorded.line).as_bytes()), "on disk");
}

#[tokio::test]
async fn a_session_of_everything_verifies() {
    let folder = Folder::new();
    let log = open(&folder).await.expect("opened");
    let grant = grant(None);
    let mut record = session(&log, &grant).await;
    let now = clock::now();
    let two = allowed(&mut record, "select 1; select 2", 2).await;
    record.result(two, 0, seen(1), now).await.expect("recorded");
    record.result(two, 1, seen(3), now).await.expect("recorded");
    let refused = record.denied(&denial(), "drop table t", Protocol::Simple, now).await.expect("recorded");
    record.nothing("-- only a comment", Protocol::Simple, now).await.expect("recorded");
    let failed = allowed(&mut record, "update t set a = 1; select 1/0; select 2", 3).await;
    record.has_changed(failed, 0);
    record.result(failed, 0, seen(1), now).await.expect("recorded");
    record.told("22012");
    record.error(failed, 1, "22012", now).await.expect("recorded");
    record.has_failed();
    record.skip_rest(now).await.expect("recorded");
    record.has_ended();
    assert!(record.is_undone());
    record.undone(now).await.expect("recorded");
    let vetoed = allowed(&mut record, "delete from t", 1).await;
    record.impact(vetoed, &[], false, now).await.expect("recorded");
    record.vetoed(vetoed, 0, "42501", &denial(), now).await.expect("recorded");
    let lost = allowed(&mut record, "select pg_sleep(9)", 1).await;
    record.cancel(lost, "client", now).await.expect("recorded");
    assert_eq!((two, refused, failed, vetoed, lost), (1, 2, 4, 5, 6));
    record.close("client", RoleEnd::Dropped, None, now).await.expect("closed");
    assert!(matches!(record.error(1, 0, "0", now).await, Err(LogError::Closed)));
    let kinds = folder.kinds();
    let told = ["result", "error", "skipped", "undone"];
    assert!(kinds.windows(4).any(|window| window == told), "{kinds:?}");
    let report = verify(&evidence(&log, &grant), &trusted(&log));
    let bad: Vec<_> = report.findings.iter().filter(|f| f.severity != Severity::Note).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!((report.summary.statements, report.summary.denied, report.summary.rows), (6, 1, 5));
    assert_eq!((report.completeness, report.level), (State::Good, 0));
    // The lost statement has no outcome that anybody saw; the record says so.
    assert!(report.findings.iter().any(|finding| finding.what.contains("statement 6")));
}

/// Says that a statement may run once more, with these values.
async fn again(record: &mut SessionRecord, one: &Cleared, text: &str, wording: &Wording, values: &str) -> u64 {
    let said = Said { text, wording, forwarded: None, parameters: Some(values.as_bytes()), stands_at_commit: false };
    record.allowed(&[one], said, Protocol::Extended, clock::now()).await.expect("recorded").number()
}

#[tokio::test]
async fn a_statement_that_is_run_many_times_has_a_line_for_many_of_them() {
    let folder = Folder::new();
    let log = open(&folder).await.expect("opened");
    let grant = grant(None);
    let mut record = session(&log, &grant).await;
    let (text, one) = ("insert into t values ($1)", cleared("INSERT"));
    let wording = Wording::of(text);
    for number in 1..=300 {
        assert_eq!(again(&mut record, &one, text, &wording, &number.to_string()).await, number);
    }
    // Another text of the same shape is another statement.
    let other = again(&mut record, &one, "insert  into t values ($1)", &wording, "301").await;
    record.settled().await.expect("durable");
    let stored = log.session_lines(&grant.session).expect("read").expect("a session").0;
    assert_eq!((other, stored.len()), (301, 4), "all is in the log before anything is sent");
    for number in 1..=299 {
        let nothing = ResultRecord { tag: "INSERT 0 1", columns: &[], ..seen(0) };
        if record.go_on(number, 0, &nothing, 1, clock::now()) == 0 {
            record.result_of_many(number, 0, nothing, clock::now()).await.expect("recorded");
        }
    }
    record.error(300, 0, "23505", clock::now()).await.expect("recorded");
    record.error(301, 0, "25P02", clock::now()).await.expect("recorded");
    record.close("client", RoleEnd::Dropped, None, clock::now()).await.expect("closed");
    let lines = log.session_lines(&grant.session).expect("read").expect("a session").0;
    let lines: Vec<Event> = lines.iter().map(|line| Event::parse(line).expect("a line")).collect();
    let told: Vec<_> = lines.iter().map(|line| (line.kind.as_str(), line.numbers(), line.number("times"))).collect();
    let most = lines[1].number("times").expect("many");
    assert!((200..300).contains(&most), "{most}");
    let expected = [
        ("session.open", 0..1, None),
        ("stmt", 1..1 + most, Some(most)),
        ("stmt", 1 + most..301, Some(300 - most)),
        ("stmt", 301..302, None),
        ("result", 1..300, Some(299)),
        ("error", 300..301, None),
        ("error", 301..302, None),
        ("session.close", 0..1, None),
    ];
    assert_eq!(told, expected);
    let bound = |number: u64| key().commit(Domain::Parameters, number.to_string().as_bytes());
    let expected: Vec<String> = (1 + most..=300).map(bound).collect();
    assert_eq!(lines[2].member("par_c"), Some(&serde_json::json!(expected)), "what each of them was bound to");
    let report = verify(&evidence(&log, &grant), &trusted(&log));
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!((report.summary.statements, report.completeness), (301, State::Good));
}

#[tokio::test]
async fn a_line_for_many_is_below_its_limit_whatever_its_text_is() {
    let folder = Folder::new();
    let log = open(&folder).await.expect("opened");
    let grant = grant(None);
    let mut record = session(&log, &grant).await;
    let one = cleared("INSERT");
    for (length, odd) in [(1900, '\u{1}'), (1900, '\\'), (2100, '\u{1}'), (10, 'x')] {
        let text = format!("insert into \"{}\" values ($1)", odd.to_string().repeat(length));
        let wording = Wording::of(&text);
        for number in 0..300 {
            again(&mut record, &one, &text, &wording, &number.to_string()).await;
        }
    }
    record.settled().await.expect("durable");
    record.close("client", RoleEnd::Dropped, None, clock::now()).await.expect("closed");
    let report = verify(&evidence(&log, &grant), &trusted(&log));
    assert_eq!((report.summary.statements, report.completeness), (1200, State::Good), "{:#?}", report.findings);
}

#[tokio::test]
async fn what_is_skipped_shares_lines_as_well() {
    let folder = Folder::new();
    let log = open(&folder).await.expect("opened");
    let grant = grant(None);
    let mut record = session(&log, &grant).await;
    let (text, one) = ("insert into t values ($1)", cleared("INSERT"));
    for number in 1..=100 {
        again(&mut record, &one, text, &Wording::of(text), &number.to_string()).await;
    }
    record.settled().await.expect("durable");
    record.told("23505");
    record.error(1, 0, "23505", clock::now()).await.expect("recorded");
    record.skip_rest(clock::now()).await.expect("recorded");
    record.close("client", RoleEnd::Dropped, None, clock::now()).await.expect("closed");
    let lines = log.session_lines(&grant.session).expect("read").expect("a session").0;
    let lines: Vec<Event> = lines.iter().map(|line| Event::parse(line).expect("a line")).collect();
    let skipped = lines.iter().filter(|line| line.kind == "skipped" && line.text("state") == Some("23505"));
    assert_eq!(skipped.map(Event::numbers).collect::<Vec<_>>(), vec![2..101]);
    let report = verify(&evidence(&log, &grant), &trusted(&log));
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

/// More of them than may wait to be written.
#[tokio::test]
async fn a_session_that_ends_with_many_open_statements_names_them_all() {
    let folder = Folder::new();
    let log = open(&folder).await.expect("opened");
    let grant = grant(None);
    let mut record = session(&log, &grant).await;
    let (text, one, most) = ("insert into t values ($1)", cleared("INSERT"), 9_000);
    for number in 1..=most {
        again(&mut record, &one, text, &Wording::of(text), &number.to_string()).await;
    }
    record.settled().await.expect("durable");
    record.close("client", RoleEnd::Dropped, None, clock::now()).await.expect("closed");
    let lines = log.session_lines(&grant.session).expect("read").expect("a session").0;
    let kinds = lines.iter().map(|line| Event::parse(line).expect("a line").kind);
    assert_eq!(kinds.filter(|kind| kind == "result.unknown").count(), most);
    assert!(lines.last().expect("the last").contains("\"reason\":\"client\""));
}

#[tokio::test]
async fn of_many_that_were_sent_those_without_an_outcome_are_named_after_a_crash() {
    let folder = Folder::new();
    let log = open(&folder).await.expect("opened");
    let grant = grant(None);
    let mut record = session(&log, &grant).await;
    let (text, one) = ("insert into t values ($1)", cleared("INSERT"));
    for number in 1..=3 {
        again(&mut record, &one, text, &Wording::of(text), &number.to_string()).await;
    }
    record.settled().await.expect("durable");
    record.result_of_many(1, 0, ResultRecord { columns: &[], ..seen(0) }, clock::now()).await.expect("recorded");
    // What was not written when it was given up is not counted: nothing of it was sent.
    record.written().await.expect("written");
    again(&mut record, &one, text, &Wording::of(text), "4").await;
    log.policy("demo", "digest").await.expect("recorded");
    let bytes = folder.lines();
    drop(record);
    log.closed(&grant.session).await;
    crash(log);
    folder.put(&bytes);
    assert!(recheck(&folder, &bytes) > 0);
    let log = open(&folder).await.expect("reopened");
    let lines = log.session_lines(&grant.session).expect("read").expect("a session").0;
    let lines: Vec<Event> = lines.iter().map(|line| Event::parse(line).expect("a line")).collect();
    let unknown: Vec<_> = lines.iter().filter(|line| line.kind == "result.unknown").map(Event::numbers).collect();
    assert_eq!(unknown, [2..3, 3..4]);
    assert_eq!(verify(&evidence(&log, &grant), &trusted(&log)).outcome(), Outcome::Good);
}

#[tokio::test]
async fn a_session_that_is_dropped_is_closed_in_the_record() {
    let folder = Folder::new();
    let log = open(&folder).await.expect("opened");
    let grant = grant(None);
    let mut record = session(&log, &grant).await;
    allowed(&mut record, "select 1", 1).await;
    drop(record);
    log.closed(&grant.session).await;
    assert_eq!(verify(&evidence(&log, &grant), &trusted(&log)).outcome(), Outcome::Good);
}

#[tokio::test]
async fn a_log_goes_on_where_it_stopped() {
    let folder = Folder::new();
    let grant = filled(&folder).await;
    let log = open(&folder).await.expect("reopened");
    assert_eq!(verify(&evidence(&log, &grant), &trusted(&log)).outcome(), Outcome::Good);
    log.policy("demo", "digest").await.expect("recorded");
    log.grant_end(&grant, "revoked", true).await.expect("recorded");
    log.stop().await;
    assert!(!log.is_accepting());
    assert!(matches!(log.grant_end(&grant, "revoked", true).await, Err(LogError::Stopped)));
    let tail = folder.kinds().split_off(folder.kinds().len() - 5);
    assert_eq!(tail, ["log.stop", "log.start", "log.policy", "grant.end", "log.stop"]);
}

#[tokio::test]
async fn what_a_crash_left_open_is_closed_at_the_next_start() {
    let folder = Folder::new();
    let log = open(&folder).await.expect("opened");
    let grant = grant(Some(client_public()));
    let mut record = session(&log, &grant).await;
    let done = allowed(&mut record, "select 1", 1).await;
    record.result(done, 0, seen(4), clock::now()).await.expect("recorded");
    let failed = allowed(&mut record, "select 1/0; select 1", 2).await;
    record.error(failed, 0, "22012", clock::now()).await.expect("recorded");
    allowed(&mut record, "update t set a = 1", 1).await;
    // The process is killed here: what is on disk now is all there is.
    let bytes = folder.lines();
    record.close("client", RoleEnd::Dropped, None, clock::now()).await.expect("closed");
    drop(record);
    crash(log);
    folder.put(&bytes);
    // The newest checkpoint may cover lines that this test took away again: put an older one back.
    let kept = recheck(&folder, &bytes);
    assert!(kept > 0);
    let log = open(&folder).await.expect("reopened");
    let lines = log.session_lines(&grant.session).expect("read").expect("a session").0;
    let kinds: Vec<String> = lines.iter().map(|line| Event::parse(line).expect("a line").kind).collect();
    let before = ["session.open", "stmt", "result", "stmt", "stmt", "error", "stmt"];
    assert_eq!(kinds, [&before[..], &["result.unknown", "result.unknown", "session.close"]].concat());
    let last = Event::parse(lines.last().expect("lines")).expect("a line");
    assert_eq!(
        (last.text("reason"), last.text("client"), last.number("rows")),
        (Some("crash"), Some("pending"), Some(4))
    );
    let report = verify(&evidence(&log, &grant), &trusted(&log));
    assert_eq!((report.integrity, report.outcome()), (State::Good, Outcome::Incomplete), "{:#?}", report.findings);
}

/// Signs a checkpoint over the whole lines of `bytes`, as the log would have; returns their number.
fn recheck(folder: &Folder, bytes: &[u8]) -> u64 {
    use crate::core::audit::checkpoint::Checkpoint;
    use crate::core::audit::merkle::Frontier;
    use crate::core::audit::note::NoteSigner;
    let mut tree = Frontier::default();
    let whole = bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    whole.for_each(|line| tree.push(Leaf::of(std::str::from_utf8(line).expect("text"))));
    let signer = NoteSigner::new(ORIGIN, SigningKey::from_bytes(&[1; 32])).expect("a name");
    let head = Checkpoint { origin: ORIGIN.into(), size: tree.size(), root: tree.root() };
    let note = head.sign(&signer);
    crate::sys::files::write_private(&folder.0.join(CHECKPOINT), note.as_bytes()).expect("written");
    head.size
}

#[tokio::test]
async fn a_log_cut_at_any_byte_of_its_last_line_opens_without_that_line() {
    let folder = Folder::new();
    filled(&folder).await;
    let whole = folder.lines();
    let before_last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("lines") + 1;
    let count = whole[..before_last].iter().filter(|byte| **byte == b'\n').count();
    for end in before_last..whole.len() {
        folder.put(&whole[..end]);
        recheck(&folder, &whole[..before_last]);
        let log = open(&folder).await.expect("reopened");
        log.stop().await;
        drop(log);
        let kinds = folder.kinds();
        let expected: &[&str] = match end - before_last {
            0 => &["log.start", "log.stop"],
            _ => &["log.start", "log.recovered", "log.stop"],
        };
        assert_eq!(&kinds[count..], expected, "cut at {end}");
        assert!(folder.lines().starts_with(&whole[..before_last]));
    }
    let torn = std::fs::read_dir(folder.0.join("torn")).expect("the cut bytes are kept").count();
    assert_eq!(torn, whole.len() - before_last - 1);
}

#[tokio::test]
async fn garbage_behind_the_last_checkpoint_is_cut_and_said() {
    let folder = Folder::new();
    filled(&folder).await;
    let whole = folder.lines();
    let lines = folder.kinds().len();
    folder.put(&[whole.as_slice(), &[0; 100], b"\n{}\n"].concat());
    let log = open(&folder).await.expect("reopened");
    log.stop().await;
    assert_eq!(folder.kinds().split_off(lines), ["log.start", "log.recovered", "log.stop"]);
}

#[tokio::test]
async fn a_log_that_was_changed_within_what_was_signed_does_not_open() {
    let folder = Folder::new();
    filled(&folder).await;
    let good = folder.lines();
    let ends: Vec<usize> = good.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    let refused = |what: String| {
        let folder = &folder;
        async move {
            let opened = open(folder).await;
            assert!(matches!(opened, Err(LogError::Tampered { .. })), "{what}");
        }
    };
    for (index, end) in ends.iter().enumerate() {
        let mut flipped = good.clone();
        flipped[end - 10] ^= 1;
        folder.put(&flipped);
        refused(format!("a bit of line {index}")).await;
        folder.put(&good[..end - 1]);
        refused(format!("cut in line {index}")).await;
        let start = if index == 0 { 0 } else { ends[index - 1] };
        folder.put(&[&good[..start], &good[*end..]].concat());
        refused(format!("line {index} dropped")).await;
        folder.put(&[&good[..*end], &good[start..]].concat());
        // Doubling the last line leaves the signed ones as they were: it is cut like any garbage.
        if index + 1 < ends.len() {
            refused(format!("line {index} doubled")).await;
        }
    }
    folder.put(&good);
    assert!(open(&folder).await.is_ok(), "unchanged, it opens");
}

#[tokio::test]
async fn the_checkpoint_is_part_of_the_log() {
    let folder = Folder::new();
    filled(&folder).await;
    let path = folder.0.join(CHECKPOINT);
    let good = std::fs::read_to_string(&path).expect("a checkpoint");
    let put = |text: &str| crate::sys::files::write_private(&path, text.as_bytes()).expect("written");
    std::fs::remove_file(&path).expect("there was one");
    assert!(matches!(open(&folder).await, Err(LogError::Tampered { .. })), "removed");
    put(&good.replacen(ORIGIN, "evil.example.com/log", 1));
    assert!(matches!(open(&folder).await, Err(LogError::Tampered { .. })), "of another log");
    put(&good);
    let other = Log::open(&folder.0, ORIGIN, &[2; 32]).await;
    assert!(matches!(other, Err(LogError::OtherKey)), "another key");
    let other = Log::open(&folder.0, "door.example.com/log", &[1; 32]).await;
    assert!(matches!(other, Err(LogError::OtherName { .. })), "another name");
    assert!(open(&folder).await.is_ok());
}

#[tokio::test]
async fn one_log_has_one_writer() {
    let folder = Folder::new();
    let first = open(&folder).await.expect("opened");
    assert!(matches!(open(&folder).await, Err(LogError::File(_))));
    first.stop().await;
    assert!(open(&folder).await.is_ok());
}

#[tokio::test]
async fn sessions_side_by_side_each_keep_their_chain() {
    let folder = Folder::new();
    let log = open(&folder).await.expect("opened");
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let log = log.clone();
        tasks.push(tokio::spawn(async move {
            let grant = grant(None);
            let mut record = session(&log, &grant).await;
            for _ in 0..10 {
                let number = allowed(&mut record, "select 1", 1).await;
                record.result(number, 0, seen(1), clock::now()).await.expect("recorded");
            }
            record.close("client", RoleEnd::Dropped, None, clock::now()).await.expect("closed");
            grant
        }));
    }
    for task in tasks {
        let grant = task.await.expect("finished");
        let report = verify(&evidence(&log, &grant), &trusted(&log));
        assert_eq!((report.outcome(), report.summary.statements), (Outcome::Good, 10), "{:#?}", report.findings);
    }
}

#[tokio::test]
async fn the_record_holds_no_literal_and_no_secret() {
    let folder = Folder::new();
    let log = open(&folder).await.expect("opened");
    let grant = grant(None);
    let mut record = session(&log, &grant).await;
    allowed(&mut record, "select * from t where ssn = '123-45-6789' -- hunter2", 1).await;
    allowed(&mut record, "alter role x password 'hunter2'", 1).await;
    record.close("client", RoleEnd::Dropped, None, clock::now()).await.expect("closed");
    let text = String::from_utf8(folder.lines()).expect("text");
    // With a part that no digest or time can hold by chance.
    assert!(text.contains("select * from t where ssn = $1") && !text.contains("45-6789") && !text.contains("hunter2"));
}

#[tokio::test]
async fn the_largest_statement_still_fits_a_line() {
    let folder = Folder::new();
    let log = open(&folder).await.expect("opened");
    let grant = grant(None);
    let mut record = session(&log, &grant).await;
    let name = "\u{1}".repeat(63);
    let text = format!("select * from {}", format!("\"{name}\", ").repeat(4000));
    let mut facts = Facts::plain("SELECT", Effect::Read);
    let touch = crate::core::statement::facts::Touch {
        relation: crate::core::statement::facts::Name::new(Some(&name), &name),
        action: crate::core::statement::facts::RowAction::Read,
        offset: None,
        has_predicate: false,
    };
    facts.touches = vec![touch; 4000];
    let (cleared, wording) = (Cleared::assumed(facts), Wording::of(&text));
    let said = Said { text: &text, wording: &wording, forwarded: None, parameters: None, stands_at_commit: false };
    let recorded = record.allowed(&[&cleared], said, Protocol::Simple, clock::now()).await;
    let number = recorded.expect("it fits").number();
    let (columns, masked) = (vec![name; 1600], Vec::from_iter(0..1600));
    let result = ResultRecord { columns: &columns, masked: &masked, ..seen(1) };
    record.result(number, 0, result, clock::now()).await.expect("it fits");
    record.close("client", RoleEnd::Dropped, None, clock::now()).await.expect("closed");
    assert_eq!(verify(&evidence(&log, &grant), &trusted(&log)).outcome(), Outcome::Good);
}
