//! One small session with fixed keys, then everything that could be done to its evidence file.

use std::collections::BTreeMap;
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

use crate::core::audit::checkpoint::{Checkpoint, possession_text, session_origin};
use crate::core::audit::container::Parts;
use crate::core::audit::merkle::{Frontier, Nodes as _, Tree};
use crate::core::audit::note::{Note, NoteSigner, VerifierKey};
use crate::core::audit::proof::Proof;
use crate::core::audit::report::{Aspect, Outcome, Severity, State};
use crate::core::audit::verify::{verify, verify_bytes};
use crate::core::encoding::hex;
use crate::core::grant::SessionId;
use crate::core::time::Moment;
use crate::core::transcript::{Chain, Domain, Leaf, RowsDigest, SessionKey, content};

const ORIGIN: &str = "gate.example.com/log";
const SESSION: &str = "01JD5Q3B8VZZZZZZZZZZZZZZZZ";

type Entry = (&'static str, Value);

fn key() -> SessionKey {
    SessionKey::from_bytes([0x4d; 32])
}

fn log() -> NoteSigner {
    NoteSigner::new(ORIGIN, SigningKey::from_bytes(&[1; 32])).expect("a name")
}

fn client() -> SigningKey {
    SigningKey::from_bytes(&[10; 32])
}

fn trusted() -> Vec<VerifierKey> {
    vec![log().verifier()]
}

fn session() -> SessionId {
    SessionId::parse(SESSION).expect("an id")
}

/// What the two sides write, before it is chained and signed.
#[derive(Clone)]
struct Script {
    grant: Value,
    gateway: Vec<Entry>,
    client: Vec<Entry>,
}

fn script() -> Script {
    let public = hex(client().verifying_key().as_bytes());
    let nonce = "n-1";
    let signature = hex(&client().sign(possession_text(nonce, ORIGIN).as_bytes()).to_bytes());
    let identity = json!({"sub": "u1", "iss": "https://id.example.com", "target": "demo", "db": "shop", "cred": "g_1", "gr": "gr_A", "client_key": public});
    let with = |more: Value| {
        let mut all = identity.clone();
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let commit = |text: &str| content::statement_commitment(&key(), text);
    let mut digest = RowsDigest::new(&key());
    digest.values([Some(b"1".as_slice()), None].into_iter());
    let (rows, rows_c) = ((digest.rows(), digest.bytes()), digest.finish());
    let stmt = |no: u64, text: &str, dec: &str| json!({"no": no, "part": 0, "stmt_c": commit(text), "dec": dec, "proto": "simple", "who": "ana@example.com"});
    let result = |no: u64| json!({"no": no, "part": 0, "rows": rows.0, "bytes": rows.1, "rows_c": rows_c, "cols": ["id", "email"], "ncols": 2, "state": "00000", "masked": [1]});
    let signed = |no: u64, text: &str, local: &str| json!({"no": no, "stmt_c": commit(text), "local": local});
    let received = |no: u64| json!({"no": no, "part": 0, "rows": rows.0, "bytes": rows.1, "rows_c": rows_c, "cols": ["id", "email"], "ncols": 2, "state": "00000"});
    Script {
        grant: with(json!({"pop": {"nonce": nonce, "sig": signature}})),
        gateway: vec![
            (
                "session.open",
                with(
                    json!({"level": 1, "role": "dbgate_u_1", "who": "ana@example.com", "key_c": key().check_value(SESSION)}),
                ),
            ),
            ("stmt", stmt(1, "select id, email from customers", "allow")),
            ("result", result(1)),
            ("stmt", stmt(2, "drop table customers", "deny")),
            ("stmt", stmt(3, "selec", "allow")),
            ("error", json!({"no": 3, "state": "42601"})),
            (
                "session.close",
                json!({"reason": "client", "n_stmt": 3, "n_deny": 1, "n_err": 1, "rows": rows.0, "bytes_out": rows.1, "role_dropped": true}),
            ),
        ],
        client: vec![
            ("begin", json!({"agent": "dbgate", "key_c": key().check_value(SESSION)})),
            ("stmt", signed(1, "select id, email from customers", "allow")),
            ("result", received(1)),
            ("stmt", signed(2, "drop table customers", "warn")),
            ("error", json!({"no": 2, "state": "42501"})),
            ("stmt", signed(3, "selec", "unknown")),
            ("error", json!({"no": 3, "state": "42601"})),
            ("blocked", json!({"rule": "no_predicate"})),
            ("end", json!({})),
        ],
    }
}

/// Chained lines; `first` is added to the first line's members, `last` to the last one's.
fn chained(entries: &[Entry], mut chain: Chain, first: &Value, last: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, (kind, members)) in entries.iter().enumerate() {
        let mut all: BTreeMap<String, Value> = members.as_object().expect("members").clone().into_iter().collect();
        let extra = [(index == 0).then_some(first), (index + 1 == entries.len()).then_some(last)];
        extra.into_iter().flatten().for_each(|extra| all.extend(extra.as_object().expect("members").clone()));
        let step = u64::try_from(index).expect("small");
        let at = Moment::from_seconds(1_795_464_600).after(Duration::from_secs(step));
        lines.push(chain.append(kind, at, Duration::from_secs(step), all).expect("a line").as_str().to_owned());
    }
    lines
}

/// An evidence file in its parts.
#[derive(Clone)]
struct Evidence {
    grant: String,
    gateway: Vec<String>,
    client: Vec<String>,
    head: String,
    receipt: String,
}

impl Evidence {
    fn write(&self) -> String {
        Parts {
            grant: Some(&self.grant),
            gateway: &self.gateway,
            client: &self.client,
            head: Some(&self.head),
            receipt: &self.receipt,
        }
        .write()
    }

    fn outcome(&self) -> Outcome {
        verify(&self.write(), &trusted()).outcome()
    }
}

fn client_head(lines: &[String], signing: SigningKey, session: &SessionId) -> String {
    let mut tree = Frontier::default();
    lines.iter().for_each(|line| tree.push(Leaf::of(line)));
    let origin = session_origin(ORIGIN, session);
    let signer = NoteSigner::new(&origin, signing).expect("a name");
    Checkpoint { origin, size: tree.size(), root: tree.root() }.sign(&signer)
}

fn cosigned(head: &str) -> String {
    log().cosign(&Note::parse(head).expect("a note"), 1_795_464_700)
}

/// A log of a few lines around the session's, and the receipt of its last line.
fn receipt(signer: &NoteSigner, grant: &str, gateway: &[String]) -> String {
    let mut tree = Tree::default();
    ["start", grant].iter().for_each(|line| tree.push(Leaf::of(line)));
    gateway.iter().for_each(|line| tree.push(Leaf::of(line)));
    let index = tree.size() - 1;
    ["later", "much later"].iter().for_each(|line| tree.push(Leaf::of(line)));
    let size = tree.size();
    let head = Checkpoint { origin: signer.name().to_owned(), size, root: tree.root_at(size).expect("a root") };
    Proof { index, path: tree.inclusion(index, size).expect("a path"), checkpoint: head.sign(signer) }.write()
}

fn head_members(head: &str) -> Value {
    let head = Checkpoint::parse(Note::parse(head).expect("a note").text()).expect("a checkpoint");
    json!({"client_head": {"n": head.size, "root": head.root_hex()}})
}

fn grant_line(members: &Value) -> String {
    let chain = Chain::for_log("RUN1", Leaf::of("start"));
    chained(&[("grant", members.clone())], chain, &json!({}), &json!({})).remove(0)
}

fn gateway_lines(script: &Script, grant: &str, last: &Value) -> Vec<String> {
    let leaf = Leaf::of(grant);
    chained(&script.gateway, Chain::new(session(), leaf), &json!({"grant_h": leaf.hex()}), last)
}

fn client_lines(script: &Script, open: &str) -> Vec<String> {
    let leaf = Leaf::of(open);
    chained(&script.client, Chain::new(session(), leaf), &json!({"open_h": leaf.hex()}), &json!({}))
}

fn build(script: &Script) -> Evidence {
    let grant = grant_line(&script.grant);
    let draft = gateway_lines(script, &grant, &json!({}));
    let client = client_lines(script, &draft[0]);
    let head = cosigned(&client_head(&client, self::client(), &session()));
    let gateway = gateway_lines(script, &grant, &head_members(&head));
    let receipt = receipt(&log(), &grant, &gateway);
    Evidence { grant, gateway, client, head, receipt }
}

/// The gateway's operator rewrites its own account and signs the log anew; the client's stays.
fn operator(change: impl FnOnce(&mut Script)) -> Evidence {
    let honest = build(&script());
    let mut script = script();
    change(&mut script);
    let grant = grant_line(&script.grant);
    let gateway = gateway_lines(&script, &grant, &head_members(&honest.head));
    let receipt = receipt(&log(), &grant, &gateway);
    Evidence { grant, gateway, receipt, ..honest }
}

/// The client rewrites its own account and signs it anew; the gateway's stays.
fn cheat(change: impl FnOnce(&mut Script)) -> Evidence {
    let honest = build(&script());
    let mut script = script();
    change(&mut script);
    let client = client_lines(&script, &honest.gateway[0]);
    let head = client_head(&client, self::client(), &session());
    Evidence { client, head, ..honest }
}

/// Like `cheat`, but before the session closed: the gateway has taken the false account in.
fn cheat_in_time(change: impl FnOnce(&mut Script)) -> Evidence {
    let mut script = script();
    change(&mut script);
    build(&script)
}

fn set(entry: &mut Entry, name: &str, value: Value) {
    entry.1.as_object_mut().expect("members").insert(name.to_owned(), value);
}

fn drop_member(entry: &mut Entry, name: &str) {
    entry.1.as_object_mut().expect("members").remove(name).expect(name);
}

#[test]
fn an_honest_session_verifies() {
    let report = verify(&build(&script()).write(), &trusted());
    let bad: Vec<_> = report.findings.iter().filter(|f| f.severity != Severity::Note).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(report.outcome(), Outcome::Good);
    let table = [report.integrity, report.completeness, report.client_signed, report.reconciled];
    assert_eq!(table, [State::Good; 4]);
    assert_eq!((report.level, report.summary.statements, report.summary.denied), (1, 3, 1));
    assert_eq!((report.summary.log_index, report.summary.log_size), (8, 11));
}

#[test]
fn a_native_client_has_no_account_of_its_own() {
    let mut script = script();
    script.grant.as_object_mut().expect("members").remove("client_key");
    let open = script.gateway[0].1.as_object_mut().expect("members");
    open.remove("client_key");
    open.insert("level".into(), json!(0));
    let grant = grant_line(&script.grant);
    let gateway = gateway_lines(&script, &grant, &json!({"client": "none"}));
    let receipt = receipt(&log(), &grant, &gateway);
    let text = Parts { grant: Some(&grant), gateway: &gateway, client: &[], head: None, receipt: &receipt }.write();
    let report = verify(&text, &trusted());
    assert_eq!(report.outcome(), Outcome::Good, "{:#?}", report.findings);
    assert_eq!((report.client_signed, report.reconciled), (State::NotApplicable, State::NotApplicable));
}

#[test]
fn no_bit_can_be_flipped_unseen() {
    let (good, keys) = (build(&script()).write().into_bytes(), trusted());
    assert_eq!(verify_bytes(&good, &keys).outcome(), Outcome::Good);
    let mut bytes = good.clone();
    for place in 0..good.len() {
        for bit in 0..8 {
            bytes[place] ^= 1 << bit;
            let report = verify_bytes(&bytes, &keys);
            assert_eq!(report.outcome(), Outcome::Tampered, "byte {place}, bit {bit}");
            bytes[place] ^= 1 << bit;
        }
    }
}

#[test]
fn no_byte_can_be_dropped_and_no_tail_cut_unseen() {
    let (good, keys) = (build(&script()).write().into_bytes(), trusted());
    for place in 0..good.len() {
        assert_eq!(verify_bytes(&good[..place], &keys).outcome(), Outcome::Tampered, "cut at {place}");
        let mut bytes = good.clone();
        bytes.remove(place);
        assert_eq!(verify_bytes(&bytes, &keys).outcome(), Outcome::Tampered, "without byte {place}");
    }
}

#[test]
fn no_line_can_be_dropped_doubled_or_swapped_unseen() {
    let good = build(&script()).write();
    let lines: Vec<&str> = good.lines().collect();
    let check = |lines: &[&str], what: &str, allowed: bool| {
        let outcome = verify(&(lines.join("\n") + "\n"), &trusted()).outcome();
        assert!(outcome == Outcome::Tampered || allowed, "{what}: {outcome:?}");
    };
    for index in 0..lines.len() {
        let mut changed = lines.clone();
        let removed = changed.remove(index);
        // The grant's line and the cosignature are copies of what other lines already commit to.
        check(&changed, removed, removed.starts_with("a ") || removed.starts_with("h \u{2014} gate.example.com/log "));
        changed.insert(index, removed);
        changed.insert(index, removed);
        check(&changed, &format!("doubled {removed}"), false);
        if index > 0 {
            let mut swapped = lines.clone();
            swapped.swap(index - 1, index);
            check(&swapped, &format!("swapped {removed}"), removed.starts_with("h \u{2014}"));
        }
    }
}

#[test]
fn every_member_of_every_line_is_covered() {
    let honest = build(&script());
    for side in 0..2 {
        let lines = if side == 0 { &honest.gateway } else { &honest.client };
        for (index, line) in lines.iter().enumerate() {
            let members: serde_json::Map<String, Value> = serde_json::from_str(line).expect("a line");
            for (name, value) in &members {
                let mut changed = members.clone();
                let other = match value {
                    Value::String(text) => json!(format!("{text}x")),
                    Value::Number(number) => json!(number.as_i64().unwrap_or(0) + 1),
                    Value::Bool(flag) => json!(!flag),
                    _ => json!("other"),
                };
                changed.insert(name.clone(), other);
                let text = crate::core::transcript::canonical::object(&changed).expect("canonical");
                let mut evidence = honest.clone();
                let target = if side == 0 { &mut evidence.gateway } else { &mut evidence.client };
                target[index] = text;
                assert_eq!(evidence.outcome(), Outcome::Tampered, "side {side}, line {index}, `{name}`");
            }
        }
    }
}

#[test]
fn the_operator_cannot_rewrite_what_the_client_signed() {
    let cases: Vec<(&str, fn(&mut Script))> = vec![
        ("another text", |s| {
            set(&mut s.gateway[1], "stmt_c", json!(content::statement_commitment(&key(), "delete from customers")))
        }),
        ("other rows", |s| set(&mut s.gateway[2], "rows_c", json!("00"))),
        ("fewer rows", |s| {
            set(&mut s.gateway[2], "rows", json!(0));
            set(&mut s.gateway[6], "rows", json!(0));
        }),
        ("content left out", |s| drop_member(&mut s.gateway[2], "rows_c")),
        ("all of a result left out", |s| {
            ["rows", "bytes", "rows_c", "cols"].iter().for_each(|name| drop_member(&mut s.gateway[2], name));
            set(&mut s.gateway[6], "rows", json!(0));
            set(&mut s.gateway[6], "bytes_out", json!(0));
        }),
        ("a result that is not known", |s| {
            s.gateway[2] = ("result.unknown", json!({"no": 1, "part": 0}));
            set(&mut s.gateway[6], "rows", json!(0));
            set(&mut s.gateway[6], "bytes_out", json!(0));
        }),
        ("another error", |s| set(&mut s.gateway[5], "state", json!("00000"))),
        ("a statement dropped", |s| {
            s.gateway.drain(4..6);
            set(&mut s.gateway[4], "n_stmt", json!(2));
            set(&mut s.gateway[4], "n_err", json!(0));
        }),
        ("a statement invented", |s| {
            let mut extra = s.gateway[3].clone();
            set(&mut extra, "no", json!(4));
            s.gateway.insert(6, extra);
            set(&mut s.gateway[7], "n_stmt", json!(4));
            set(&mut s.gateway[7], "n_deny", json!(2));
        }),
        ("another person", |s| set(&mut s.gateway[0], "sub", json!("u2"))),
        ("another client key", |s| set(&mut s.gateway[0], "client_key", json!(hex(&[1; 32])))),
        ("another grant", |s| s.grant["sub"] = json!("u2")),
    ];
    for (what, change) in cases {
        assert_eq!(operator(change).outcome(), Outcome::Tampered, "{what}");
    }
    // What only the gateway can know, the client did not sign: a limit that the documentation states.
    assert_eq!(operator(|s| set(&mut s.gateway[1], "proto", json!("ext"))).outcome(), Outcome::Good);
}

#[test]
fn the_client_cannot_rewrite_its_account_after_the_session() {
    let cases: Vec<(&str, fn(&mut Script))> = vec![
        ("another text", |s| set(&mut s.client[1], "stmt_c", json!("00"))),
        ("a statement dropped", |s| drop(s.client.drain(5..7))),
        ("the tail dropped", |s| s.client.truncate(3)),
        ("a note added", |s| s.client.insert(7, ("note", json!({"text": "I did not"})))),
    ];
    for (what, change) in cases {
        assert_eq!(cheat(change).outcome(), Outcome::Tampered, "{what}");
    }
}

#[test]
fn an_account_that_was_false_from_the_start_differs_from_the_gateways() {
    let cases: Vec<(&str, fn(&mut Script))> = vec![
        ("a statement hidden", |s| drop(s.client.drain(5..7))),
        ("another text", |s| set(&mut s.client[1], "stmt_c", json!("00"))),
        ("other parameters", |s| set(&mut s.client[1], "par_c", json!("00"))),
        ("another order", |s| s.client.swap(1, 5)),
        ("other rows", |s| set(&mut s.client[2], "rows", json!(5))),
        ("an invented statement", |s| {
            let extra = s.client[5].clone();
            s.client.insert(7, extra);
            set(&mut s.client[7], "no", json!(9));
        }),
        ("another session key", |s| set(&mut s.client[0], "key_c", json!("00"))),
        ("an account begun twice", |s| s.client.insert(3, ("begin", json!({})))),
    ];
    for (what, change) in cases {
        assert_eq!(cheat_in_time(change).outcome(), Outcome::Tampered, "{what}");
    }
}

/// The client signs one statement more than the gateway has recorded, and is told that the session is over.
fn signs_once_more(script: &mut Script, reason: &str) {
    let mut extra = script.client[5].clone();
    set(&mut extra, "no", json!(4));
    script.client.insert(7, extra);
    script.client.insert(8, ("error", json!({"no": 4, "state": "57P01"})));
    set(&mut script.gateway[6], "reason", json!(reason));
}

#[test]
fn a_statement_that_met_the_end_of_its_session_is_no_tampering() {
    assert_eq!(cheat_in_time(|s| signs_once_more(s, "revoked")).outcome(), Outcome::Incomplete);
    // A session that its client has left had no reason not to record it; and what was answered has run.
    assert_eq!(cheat_in_time(|s| signs_once_more(s, "client")).outcome(), Outcome::Tampered);
    let answered = cheat_in_time(|s| {
        signs_once_more(s, "revoked");
        s.client[8] = s.client[2].clone();
        set(&mut s.client[8], "no", json!(4));
    });
    assert_eq!(answered.outcome(), Outcome::Tampered);
    let failed = cheat_in_time(|s| {
        signs_once_more(s, "revoked");
        set(&mut s.client[8], "state", json!("23505"));
    });
    assert_eq!(failed.outcome(), Outcome::Tampered);
}

#[test]
fn a_gateways_account_must_make_sense() {
    let cases: Vec<(&str, fn(&mut Script))> = vec![
        ("a result of a denied statement", |s| {
            let mut extra = s.gateway[2].clone();
            set(&mut extra, "no", json!(2));
            set(&mut extra, "rows", json!(0));
            set(&mut extra, "bytes", json!(0));
            s.gateway.insert(4, extra);
        }),
        ("a number left out", |s| set(&mut s.gateway[3], "no", json!(4))),
        ("a wrong total", |s| set(&mut s.gateway[6], "rows", json!(9))),
        ("an unknown decision", |s| set(&mut s.gateway[1], "dec", json!("perhaps"))),
        ("a line for several that says nothing of each", |s| set(&mut s.gateway[1], "times", json!(2))),
        ("a result of statements that were not recorded", |s| {
            set(&mut s.gateway[2], "times", json!(2));
            set(&mut s.gateway[2], "rows", json!(0));
        }),
        ("opened twice", |s| s.gateway.insert(1, s.gateway[0].clone())),
        ("closed twice", |s| s.gateway.insert(3, s.gateway[6].clone())),
        ("a result of nothing", |s| set(&mut s.gateway[2], "no", json!(7))),
        ("the proof of another key", |s| set_pop(s, &hex(&[3; 64]))),
        ("a second result", |s| {
            s.gateway.insert(3, s.gateway[2].clone());
            set(&mut s.gateway[7], "rows", json!(2));
            let bytes = s.gateway[2].1["bytes"].as_u64().expect("a number") * 2;
            set(&mut s.gateway[7], "bytes_out", json!(bytes));
        }),
        ("skipped, with a result", |s| s.gateway.insert(3, skipped(1))),
        ("a result of what was skipped", |s| s.gateway.insert(2, skipped(1))),
        ("an error of what was skipped", |s| s.gateway.insert(5, skipped(3))),
        ("skipped and denied", |s| s.gateway.insert(4, skipped(2))),
        ("undone without a result", |s| s.gateway.insert(6, undone(3))),
        ("undone before it had one", |s| s.gateway.insert(2, undone(1))),
    ];
    for (what, change) in cases {
        assert_eq!(cheat_in_time(change).outcome(), Outcome::Tampered, "{what}");
    }
    // Skipped and undone, as they should be; and an error that says which part it is of.
    let honest = cheat_in_time(|s| {
        s.gateway[5] = skipped(3);
        s.gateway.insert(6, undone(1));
        set(&mut s.gateway[7], "n_err", json!(0));
    });
    assert_eq!(honest.outcome(), Outcome::Good);
    let of_part = cheat_in_time(|s| set(&mut s.gateway[5], "part", json!(0)));
    assert_eq!(of_part.outcome(), Outcome::Good);
    let of_none = cheat_in_time(|s| set(&mut s.gateway[5], "part", json!(1)));
    assert_eq!(of_none.outcome(), Outcome::Tampered);
    let unanswered = cheat_in_time(|s| {
        s.gateway.remove(5);
        set(&mut s.gateway[5], "n_err", json!(0));
    });
    assert_eq!(unanswered.outcome(), Outcome::Incomplete);
}

fn skipped(no: u64) -> Entry {
    ("skipped", json!({"no": no, "part": 0, "state": "22012"}))
}

fn undone(no: u64) -> Entry {
    ("undone", json!({"no": no, "part": 0}))
}

fn set_pop(script: &mut Script, signature: &str) {
    script.grant["pop"]["sig"] = json!(signature);
}

#[test]
fn what_is_missing_is_incomplete_not_good() {
    let honest = build(&script());
    // An export in the middle of a session: real lines, a real receipt, no close.
    let mut open = honest.clone();
    open.gateway.truncate(6);
    open.receipt = receipt(&log(), &open.grant, &open.gateway);
    assert_eq!(open.outcome(), Outcome::Incomplete);
    // The client has not uploaded: the session closed without its head.
    let gateway = gateway_lines(&script(), &honest.grant, &json!({"client": "pending"}));
    let receipt = receipt(&log(), &honest.grant, &gateway);
    let pending = Parts { grant: Some(&honest.grant), gateway: &gateway, client: &[], head: None, receipt: &receipt };
    let report = verify(&pending.write(), &trusted());
    assert_eq!((report.outcome(), report.client_signed), (Outcome::Incomplete, State::Missing));
    // It came later, and the gateway cosigned it: good, with a remark.
    let late = Parts { client: &honest.client, head: Some(&honest.head), ..pending };
    let report = verify(&late.write(), &trusted());
    assert_eq!((report.outcome(), report.client_signed), (Outcome::Good, State::Good), "{:#?}", report.findings);
    assert!(report.findings.iter().any(|f| f.aspect == Aspect::ClientSigned && f.severity == Severity::Warning));
    // The same without the cosignature is not acknowledged by anybody.
    let head = client_head(&honest.client, client(), &session());
    assert_eq!(verify(&Parts { head: Some(&head), ..late }.write(), &trusted()).outcome(), Outcome::Incomplete);
}

#[test]
fn parts_of_other_files_and_other_keys_do_not_fit() {
    let honest = build(&script());
    let other_key = SigningKey::from_bytes(&[11; 32]);
    let other_log = NoteSigner::new(ORIGIN, SigningKey::from_bytes(&[2; 32])).expect("a name");
    let other_origin = NoteSigner::new("evil.example.com/log", SigningKey::from_bytes(&[1; 32])).expect("a name");
    let other_session = SessionId::parse("01JD5Q3B8VYYYYYYYYYYYYYYYY").expect("an id");
    let cases = [
        ("the client part absent", Evidence { client: Vec::new(), ..honest.clone() }),
        (
            "another session key",
            Evidence { head: client_head(&honest.client, other_key, &session()), ..honest.clone() },
        ),
        (
            "the head of another session",
            Evidence { head: client_head(&honest.client, client(), &other_session), ..honest.clone() },
        ),
        (
            "another log key",
            Evidence { receipt: receipt(&other_log, &honest.grant, &honest.gateway), ..honest.clone() },
        ),
        (
            "another origin",
            Evidence { receipt: receipt(&other_origin, &honest.grant, &honest.gateway), ..honest.clone() },
        ),
        (
            "a receipt of an earlier line",
            Evidence { receipt: receipt(&log(), &honest.grant, &honest.gateway[..6]), ..honest.clone() },
        ),
    ];
    for (what, evidence) in cases {
        assert_eq!(evidence.outcome(), Outcome::Tampered, "{what}");
    }
    assert_eq!(verify(&honest.write(), &[]).outcome(), Outcome::Tampered, "no key, no trust");
    let without_receipt: String =
        honest.write().lines().filter(|l| !l.starts_with("r ")).map(|l| format!("{l}\n")).collect();
    assert_eq!(verify(&without_receipt, &trusted()).outcome(), Outcome::Tampered);
    let without_client: String = honest
        .write()
        .lines()
        .filter(|l| !l.starts_with("c ") && !l.starts_with("h "))
        .map(|l| format!("{l}\n"))
        .collect();
    assert_eq!(verify(&without_client, &trusted()).outcome(), Outcome::Tampered, "the close names a client head");
}

#[test]
fn findings_name_the_line_and_what_is_wrong() {
    let good = build(&script()).write();
    let bad = good.replace("\"42601\"", "\"42602\"");
    let report = verify(&bad, &trusted());
    let place = good.lines().position(|line| line.starts_with("g ") && line.contains("42601")).expect("the line") + 1;
    // The line after it is the one that no longer links.
    let finding =
        report.findings.iter().find(|f| f.section == "gateway" && f.severity == Severity::Bad).expect("a finding");
    assert_eq!(finding.line, Some(place + 1));
    assert_eq!(finding.what, "it does not name the hash of the line before it");
    assert_ne!(report.integrity, State::Good);
}

#[test]
fn the_published_vectors_are_what_this_code_writes() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a vector");
    assert_eq!(read("good.dbgt"), build(&script()).write());
    assert_eq!(read("log.vkey"), format!("{}\n", log().verifier()));
}

/// Writes the vectors that `tests/vectors/verify.py` reads. Run it after a change of the format.
#[test]
#[ignore = "writes tests/vectors; run it by name after a change of the format"]
fn write_vectors() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    std::fs::create_dir_all(&folder).expect("a folder");
    let honest = build(&script());
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file");
    write("good.dbgt", &honest.write());
    write("log.vkey", &format!("{}\n", log().verifier()));
    write("bad-text.dbgt", &operator(|s| set(&mut s.gateway[1], "stmt_c", json!("00"))).write());
    write("bad-edit.dbgt", &honest.write().replacen("\"42601\"", "\"42602\"", 1));
    let mut open = honest.clone();
    open.gateway.truncate(6);
    open.receipt = receipt(&log(), &open.grant, &open.gateway);
    write("open.dbgt", &open.write());
    write("bad-cut.dbgt", &honest.write().replace("end\n", ""));
    let mut tree = Tree::default();
    let mut roots = vec![hex(&tree.root_at(0).expect("a root"))];
    for index in 0..130u64 {
        tree.push(Leaf::of(&format!("entry {index}")));
        roots.push(hex(&tree.root_at(index + 1).expect("a root")));
    }
    let path = |index, size| tree.inclusion(index, size).expect("a path").iter().map(|h| hex(h)).collect::<Vec<_>>();
    let merkle = json!({
        "leaves": "entry 0, entry 1, …",
        "roots": roots,
        "inclusion": [{"index": 9, "size": 23, "path": path(9, 23)}, {"index": 129, "size": 130, "path": path(129, 130)}],
    });
    write("merkle.json", &format!("{}\n", serde_json::to_string_pretty(&merkle).expect("JSON")));
    let commit = |domain: Domain, text: &str| json!({"domain": domain.word(), "input": text, "hmac": key().commit(domain, text.as_bytes())});
    let commitments = json!({
        "key": hex(&[0x4d; 32]),
        "cases": [commit(Domain::Statement, "select 1"), commit(Domain::Parameters, ""), commit(Domain::Copy, "a\tb\n"), commit(Domain::Error, "ä")],
    });
    write("commitments.json", &format!("{}\n", serde_json::to_string_pretty(&commitments).expect("JSON")));
    let redactions: Vec<Value> =
        ["create role x password 'p'", "select 'a', 1 -- c", "do $$begin alter role x password 'p'; end$$"]
            .iter()
            .map(|sql| {
                let redacted = crate::core::transcript::redact::redact(sql);
                json!({"sql": sql, "redacted": redacted, "normalised": crate::core::transcript::redact::normalise(sql)})
            })
            .collect();
    write("redactions.json", &format!("{}\n", serde_json::to_string_pretty(&redactions).expect("JSON")));
}
