//! Uploads that fit, and all that do not; the evidence that both sides' accounts make.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::*;
use crate::core::audit::checkpoint::session_origin;
use crate::core::audit::merkle::Frontier;
use crate::core::audit::note::NoteSigner;
use crate::core::audit::report::{Outcome, State};
use crate::core::audit::verify::verify;
use crate::core::encoding;
use crate::core::transcript::{Chain, Leaf, content};
use crate::server::audit::tests::{
    Folder, ORIGIN, allowed, client_key, client_public, denial, grant, key, open, proof, seen, session,
};
use crate::server::audit::{Protocol, RoleEnd, SessionRecord};

/// A client, as far as the wire shows.
struct Client {
    signing: SigningKey,
    session: SessionId,
    chain: Chain,
    lines: Vec<String>,
}

impl Client {
    fn new(record: &SessionRecord) -> Self {
        let opened = record.open_leaf();
        let session = record.session().clone();
        let chain = Chain::new(session.clone(), opened);
        let mut client = Self { signing: client_key(), session, chain, lines: Vec::new() };
        let check = key().check_value(client.session.as_str());
        client.write("begin", json!({"agent": "test", "open_h": opened.hex(), "key_c": check}));
        client
    }

    fn write(&mut self, kind: &str, members: Value) {
        let members = members.as_object().expect("members").clone().into_iter().collect();
        let line = self.chain.append(kind, clock::now(), Duration::ZERO, members).expect("a line");
        self.lines.push(line.as_str().to_owned());
    }

    fn statement(&mut self, number: u64, text: &str) {
        let commitment = content::statement_commitment(&key(), text);
        self.write("stmt", json!({"no": number, "stmt_c": commitment, "local": "allow"}));
    }

    fn upload(&self, from: usize, to: usize) -> TranscriptUpload {
        let mut tree = Frontier::default();
        self.lines[..to].iter().for_each(|line| tree.push(Leaf::of(line)));
        let origin = session_origin(ORIGIN, &self.session);
        let signer = NoteSigner::new(&origin, self.signing.clone()).expect("a name");
        let head = Checkpoint { origin, size: tree.size(), root: tree.root() }.sign(&signer);
        TranscriptUpload {
            from: from.try_into().expect("small"),
            lines: self.lines[from..to].to_vec(),
            head,
            done: false,
        }
    }

    fn whole(&self) -> TranscriptUpload {
        self.upload(0, self.lines.len())
    }
}

struct Stage {
    folder: Folder,
    log: Arc<Log>,
    transcripts: Transcripts,
    grant: Grant,
}

impl Stage {
    async fn new() -> Self {
        let folder = Folder::new();
        let log = open(&folder).await.expect("opened");
        let transcripts = Transcripts::open(&folder.0.join("transcripts"), log.clone()).expect("opened");
        Self { folder, log, transcripts, grant: grant(Some(client_public())) }
    }

    /// One session, told by both sides.
    async fn session(&self) -> (SessionRecord, Client) {
        let mut record = session(&self.log, &self.grant).await;
        let mut client = Client::new(&record);
        let now = clock::now();
        client.statement(1, "select 1");
        let number = allowed(&mut record, "select 1", 1).await;
        let result = seen(2);
        let (bytes, digest) = (result.bytes, encoding::hex(&result.rows_digest));
        record.result(number, 0, result, now).await.expect("recorded");
        client.write("result", json!({"no": 1, "part": 0, "rows": 2, "bytes": bytes, "rows_c": digest, "state": "00000", "cols": ["id"], "ncols": 1}));
        client.statement(2, "drop table t");
        record.denied(&denial(), "drop table t", Protocol::Simple, now).await.expect("recorded");
        client.write("error", json!({"no": 2, "state": "42501"}));
        (record, client)
    }

    async fn accept(&self, upload: &TranscriptUpload) -> Result<TranscriptReceipt, TranscriptError> {
        self.transcripts.accept(&self.grant, upload).await
    }

    async fn close(&self, record: &mut SessionRecord) {
        let head = self.transcripts.client_head(record.session());
        record.close("client", RoleEnd::Dropped, head, clock::now()).await.expect("closed");
    }

    async fn report(&self) -> crate::core::audit::Report {
        let key = VerifierKey::parse(&self.log.verifier_key()).expect("a key");
        verify(&self.transcripts.evidence(&self.grant).await.expect("evidence"), &[key])
    }
}

#[tokio::test]
async fn both_accounts_make_evidence_that_verifies() {
    let stage = Stage::new().await;
    let (mut record, mut client) = stage.session().await;
    client.write("end", json!({}));
    let receipt = stage.accept(&client.whole()).await.expect("taken in");
    assert_eq!(receipt.commit_point, 6);
    stage.close(&mut record).await;
    let report = stage.report().await;
    assert_eq!(report.outcome(), Outcome::Good, "{:#?}", report.findings);
    let table = [report.integrity, report.completeness, report.client_signed, report.reconciled];
    assert_eq!((table, report.level), ([State::Good; 4], 1));
    // The receipt is the log's word, bound to the client's head.
    let log = VerifierKey::parse(&stage.log.verifier_key()).expect("a key").with_algorithm(Algorithm::Cosignature);
    let origin = session_origin(ORIGIN, &client.session);
    let own = VerifierKey::new(&origin, Algorithm::Ed25519, client.signing.verifying_key().as_bytes()).expect("a key");
    assert_eq!(Note::parse(&receipt.head).expect("a note").open(&[log, own]).expect("signed by both").len(), 2);
}

#[tokio::test]
async fn a_grant_with_its_proof_verifies_and_a_false_proof_does_not() {
    for (nonce, outcome) in [("n-1", Outcome::Good), ("n-2", Outcome::Tampered)] {
        let stage = Stage::new().await;
        let proof = proof(client_public(), nonce);
        let recorded = stage.log.grant(&stage.grant, Some(&proof)).await.expect("recorded");
        let about = crate::server::audit::SessionOpen {
            client_address: String::new(),
            tls_version: String::new(),
            application: String::new(),
            role: String::new(),
            server_version: String::new(),
            level: 1,
            durability: crate::server::config::Durability::Writes,
        };
        let (leaf, id) = (Leaf(recorded.leaf), stage.grant.session.clone());
        let opened = SessionRecord::open(&stage.log, &stage.grant, leaf, key(), about, id, clock::now()).await;
        let (mut record, opening) = opened.expect("opened");
        opening.durable().await.expect("durable");
        let mut client = Client::new(&record);
        client.write("end", json!({}));
        stage.accept(&client.whole()).await.expect("taken in");
        stage.close(&mut record).await;
        assert_eq!(stage.report().await.outcome(), outcome, "{nonce}");
    }
}

#[tokio::test]
async fn an_account_can_come_in_pieces_again_and_after_a_restart() {
    let mut stage = Stage::new().await;
    let (mut record, mut client) = stage.session().await;
    assert_eq!(stage.accept(&client.upload(0, 3)).await.expect("the first piece").commit_point, 3);
    let again = stage.accept(&client.upload(0, 3)).await.expect("once more");
    assert_eq!(again.commit_point, 3);
    // As after a crash between the lines and the head: bytes that were never acknowledged.
    let path = stage.folder.0.join("transcripts").join(format!("{}.lines", client.session.as_str()));
    let stored = std::fs::read_to_string(&path).expect("lines");
    std::fs::write(&path, format!("{stored}half a li")).expect("written");
    stage.transcripts = Transcripts::open(&stage.folder.0.join("transcripts"), stage.log.clone()).expect("reopened");
    client.write("end", json!({}));
    assert_eq!(stage.accept(&client.upload(2, 6)).await.expect("overlapping").commit_point, 6);
    stage.close(&mut record).await;
    let report = stage.report().await;
    assert_eq!(report.outcome(), Outcome::Good, "{:#?}", report.findings);
}

#[tokio::test]
async fn an_account_that_comes_late_is_taken_and_said() {
    let stage = Stage::new().await;
    let (mut record, mut client) = stage.session().await;
    client.write("end", json!({}));
    stage.close(&mut record).await;
    assert_eq!(stage.report().await.outcome(), Outcome::Incomplete);
    stage.accept(&client.whole()).await.expect("taken in");
    let report = stage.report().await;
    assert_eq!((report.outcome(), report.client_signed), (Outcome::Good, State::Good), "{:#?}", report.findings);
    let log = std::fs::read_to_string(stage.folder.0.join("log.ndjson")).expect("the log");
    assert!(log.lines().last().is_some_and(|line| line.contains("\"k\":\"client.head\"")));
}

#[tokio::test]
async fn uploads_that_do_not_fit_are_refused() {
    let stage = Stage::new().await;
    let (_record, mut client) = stage.session().await;
    stage.accept(&client.upload(0, 4)).await.expect("the first four");
    let good = client.upload(0, 5);
    let mut other_key = Client { signing: SigningKey::from_bytes(&[11; 32]), ..Client::new(&_record) };
    other_key.lines.clone_from(&client.lines);
    let edited: Vec<String> = client.lines[..5].iter().map(|line| line.replace("select", "delete")).collect();
    let mut rewritten = Client::new(&_record);
    rewritten.statement(1, "select 2");
    (0..3).for_each(|_| rewritten.write("cancel", json!({"no": 1})));
    let refused = [
        ("a gap", TranscriptUpload { from: 5, lines: Vec::new(), ..good.clone() }),
        ("fewer lines than before", client.upload(0, 3)),
        ("another account", rewritten.upload(0, 5)),
        ("another head", TranscriptUpload { head: client.upload(0, 4).head, ..good.clone() }),
        ("another key", other_key.upload(0, 5)),
        ("a changed line", TranscriptUpload { from: 4, lines: vec![edited[4].clone() + " "], ..good.clone() }),
        (
            "a line that does not follow",
            TranscriptUpload { from: 4, lines: vec![client.lines[0].clone()], ..good.clone() },
        ),
        ("no head", TranscriptUpload { head: String::new(), ..good.clone() }),
    ];
    for (what, upload) in refused {
        assert!(stage.accept(&upload).await.is_err(), "{what}");
    }
    let elsewhere = grant(stage.grant.client_key.clone());
    assert!(matches!(stage.transcripts.accept(&elsewhere, &good).await, Err(TranscriptError::NoSession)));
    let native = Grant { client_key: None, ..stage.grant.clone() };
    assert!(stage.transcripts.accept(&native, &good).await.is_err(), "a session without a client key");
    assert_eq!(stage.accept(&good).await.expect("still good").commit_point, 5);
    client.write("end", json!({}));
    assert_eq!(stage.accept(&client.upload(5, 6)).await.expect("the rest").commit_point, 6);
}

#[tokio::test]
async fn a_statement_that_the_client_hides_is_found() {
    let stage = Stage::new().await;
    let (mut record, mut client) = stage.session().await;
    allowed(&mut record, "select secret from elsewhere", 1).await;
    client.write("end", json!({}));
    stage.accept(&client.whole()).await.expect("taken in");
    stage.close(&mut record).await;
    let report = stage.report().await;
    assert_eq!((report.integrity, report.reconciled), (State::Good, State::Bad));
    assert_eq!(report.outcome(), Outcome::Tampered);
}
