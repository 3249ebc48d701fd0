//! The account on disk: written before sending, signed, private, and still there after a crash.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::core::audit::note::NoteSigner;
use crate::core::transcript::Event;
use crate::sys::random;

const ORIGIN: &str = "gate.example.com/log";
const SESSION: &str = "01JD5Q3B8VZZZZZZZZZZZZZZZZ";

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("dbgate-transcript-{}", encoding::hex(&random::bytes::<8>()))))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn log() -> NoteSigner {
    NoteSigner::new(ORIGIN, SigningKey::from_bytes(&[1; 32])).expect("a name")
}

fn begin(folder: &Folder) -> ClientTranscript {
    let session = SessionId::parse(SESSION).expect("an id");
    let (signing, key) = (SigningKey::from_bytes(&[10; 32]), SessionKey::from_bytes([7; 32]));
    ClientTranscript::begin(&folder.0, session, ORIGIN, signing, key, Leaf::of("open"), "dbgate").expect("an account")
}

fn seen() -> Received<'static> {
    Received { rows: 1, bytes: 3, rows_digest: "00", columns: &[] }
}

fn receipt(upload: &TranscriptUpload) -> TranscriptReceipt {
    let note = Note::parse(&upload.head).expect("a note");
    let size = Checkpoint::parse(note.text()).expect("a head").size;
    TranscriptReceipt { commit_point: size, head: log().cosign(&note, 1_795_464_700), evidence: None }
}

fn kinds(upload: &TranscriptUpload) -> Vec<String> {
    upload.lines.iter().map(|line| Event::parse(line).expect("a line").kind).collect()
}

#[test]
fn an_account_is_chained_signed_and_private() {
    let folder = Folder::new();
    let mut account = begin(&folder);
    assert_eq!(account.statement("select 1", "allow").expect("written"), 1);
    // On disk, and nobody else's, before anything is sent.
    for name in ["pending", "head"] {
        let path = folder.0.join(format!("{SESSION}.{name}"));
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    let text = std::fs::read_to_string(spool::lines_of(&folder.0, SESSION)).expect("the file");
    assert_eq!(text.lines().count(), 2);
    account.result(1, 0, &seen()).expect("written");
    account.blocked("delete from t", "no_predicate").expect("written");
    assert_eq!(account.statement("selec", "unknown").expect("written"), 2);
    account.error(2, "42601").expect("written");
    let upload = account.end().expect("ended");
    assert_eq!(kinds(&upload), ["begin", "stmt", "result", "blocked", "stmt", "error", "end"]);
    let mut chain = Chain::new(SessionId::parse(SESSION).expect("an id"), Leaf::of("open"));
    let mut tree = Frontier::default();
    for line in &upload.lines {
        let event = Event::parse(line).expect("a line");
        chain.admit(&event).expect("the next line");
        tree.push(event.line.leaf());
    }
    let (head, _) = Checkpoint::open(&upload.head, &[account.signer.verifier()]).expect("a signed head");
    assert_eq!((head.size, head.root), (7, tree.root()));
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&account.spooled()), 0o600);
    assert_eq!(mode(&folder.0), 0o700);
    assert!(!text.contains("select 1"), "a commitment, never the text");
}

#[test]
fn uploads_go_on_where_the_last_one_was_acknowledged() {
    let folder = Folder::new();
    let mut account = begin(&folder);
    account.statement("select 1", "allow").expect("written");
    let first = account.pending();
    assert_eq!((first.from, first.lines.len(), first.done), (0, 2, false));
    account.cancel(1).expect("written");
    account.mark_uploaded(&receipt(&first), &log().verifier()).expect("acknowledged");
    let last = account.end().expect("ended");
    assert_eq!((last.from, kinds(&last).join(" "), last.done), (2, "cancel end".to_owned(), true));
    account.mark_uploaded(&receipt(&last), &log().verifier()).expect("acknowledged");
    assert!(account.pending().lines.is_empty());
}

#[test]
fn a_receipt_must_be_the_logs_and_for_this_head() {
    let folder = Folder::new();
    let mut account = begin(&folder);
    let upload = account.end().expect("ended");
    let good = receipt(&upload);
    let note = Note::parse(&upload.head).expect("a note");
    let other = NoteSigner::new(ORIGIN, SigningKey::from_bytes(&[2; 32])).expect("a name");
    let bad = [
        TranscriptReceipt { head: upload.head.clone(), ..good.clone() },
        TranscriptReceipt { head: other.cosign(&note, 1), ..good.clone() },
        TranscriptReceipt { commit_point: 1, ..good.clone() },
        TranscriptReceipt { head: good.head.replace("\n2\n", "\n1\n"), ..good.clone() },
    ];
    for receipt in bad {
        assert!(account.mark_uploaded(&receipt, &log().verifier()).is_err(), "{receipt:?}");
    }
    assert!(account.mark_uploaded(&good, &log().verifier()).is_ok());
}

#[test]
fn what_a_crash_left_behind_waits_in_the_spool() {
    let folder = Folder::new();
    let mut account = begin(&folder);
    account.statement("select 1", "allow").expect("written");
    account.result(1, 0, &seen()).expect("written");
    account.statement("select 2", "allow").expect("written");
    assert!(spool(&folder.0).is_empty(), "a session that is still open is not touched");
    drop(account);
    let waiting = spool(&folder.0);
    let [(_, upload, path)] = waiting.as_slice() else { panic!("one account waits") };
    assert_eq!(kinds(upload), ["begin", "stmt", "result"], "signed up to the last complete statement");
    assert!(upload.done);
    files::remove(path).expect("handed in");
    assert!(spool(&folder.0).is_empty());
    assert!(std::fs::read_dir(&folder.0).expect("the folder").next().is_none(), "nothing is left behind");
}

#[test]
fn an_acknowledged_account_waits_until_its_evidence_is_fetched() {
    let folder = Folder::new();
    let mut account = begin(&folder);
    let upload = account.end().expect("ended");
    account.mark_uploaded(&receipt(&upload), &log().verifier()).expect("acknowledged");
    let spooled = account.spooled();
    drop(account);
    let waiting = spool(&folder.0);
    let [(session, again, path)] = waiting.as_slice() else { panic!("one account waits") };
    assert_eq!((session.as_str(), &again.head, path), (SESSION, &upload.head, &spooled));
    assert_eq!((again.from, again.lines.len()), (0, 2), "whole, whatever was acknowledged before");
}

#[test]
fn a_grant_that_names_another_key_is_refused() {
    use crate::core::audit::merkle::{Nodes as _, Tree};
    use crate::core::audit::proof::Proof;
    let ours = SigningKey::from_bytes(&[10; 32]);
    let grant = |key: &SigningKey| {
        let mut chain = Chain::for_log("RUN1", Leaf::NONE);
        let members = json!({"client_key": encoding::hex(key.verifying_key().as_bytes())});
        let members = members.as_object().expect("members").clone().into_iter().collect();
        chain.append("grant", clock::now(), Duration::ZERO, members).expect("a line")
    };
    let proof = |leaf: Leaf| {
        let mut tree = Tree::default();
        tree.push(leaf);
        let head = Checkpoint { origin: ORIGIN.into(), size: 1, root: tree.root_at(1).expect("a root") };
        Proof { index: 0, path: Vec::new(), checkpoint: head.sign(&log()) }.write()
    };
    let line = grant(&ours);
    let receipt = proof(line.leaf());
    assert_eq!(accept_grant(line.as_str(), &receipt, &log().verifier(), &ours).expect("ours").size, 1);
    let other = grant(&SigningKey::from_bytes(&[11; 32]));
    let refused = accept_grant(other.as_str(), &proof(other.leaf()), &log().verifier(), &ours);
    assert!(matches!(refused, Err(TranscriptError::OtherKey)));
    let refused = accept_grant(line.as_str(), &proof(other.leaf()), &log().verifier(), &ours);
    assert!(matches!(refused, Err(TranscriptError::Grant(ReceiptError::Inclusion))));
}
