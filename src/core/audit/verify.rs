//! Judges an evidence file with nothing but public keys.
//!
//! The order matters: bytes first (form, chains, receipt), then what the lines say. Every check
//! reports; none stops the others unless there is nothing left to look at.

use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::Value;

use crate::core::audit::checkpoint::{self, Checkpoint};
use crate::core::audit::container::{Container, Piece};
use crate::core::audit::merkle::{self, Frontier};
use crate::core::audit::note::{Algorithm, VerifierKey};
use crate::core::audit::proof::Proof;
use crate::core::audit::reconcile::reconcile;
use crate::core::audit::report::{Aspect, Finding, Report, Severity, Summary};
use crate::core::audit::semantics::{self, Placed};
use crate::core::encoding::unhex;
use crate::core::grant::SessionId;
use crate::core::transcript::{Chain, Event, Leaf};

/// Verifies an evidence file's text against the public keys of the logs one trusts.
pub fn verify(container: &str, keys: &[VerifierKey]) -> Report {
    let mut check = Check { findings: Vec::new(), summary: Summary::default(), level: 0 };
    match Container::parse(container) {
        Ok(container) => check.container(&container, keys),
        Err(error) => check.add(Aspect::Integrity, Severity::Bad, "file", Some(error.line), error.what),
    }
    Report::from_findings(check.findings, check.level, check.summary)
}

/// The same for bytes from a file; what is not UTF-8 is not evidence.
pub fn verify_bytes(container: &[u8], keys: &[VerifierKey]) -> Report {
    match std::str::from_utf8(container) {
        Ok(text) => verify(text, keys),
        Err(error) => {
            let good = container.get(..error.valid_up_to()).unwrap_or_default();
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            let finding = Finding {
                aspect: Aspect::Integrity,
                severity: Severity::Bad,
                section: "file",
                line: Some(line),
                what: "bytes that are not UTF-8".into(),
            };
            Report::from_findings(vec![finding], 0, Summary::default())
        }
    }
}

struct Check {
    findings: Vec<Finding>,
    summary: Summary,
    level: u64,
}

impl Check {
    fn add(
        &mut self,
        aspect: Aspect,
        severity: Severity,
        section: &'static str,
        line: Option<usize>,
        what: impl Into<String>,
    ) {
        self.findings.push(Finding { aspect, severity, section, line, what: what.into() });
    }

    fn bad(&mut self, section: &'static str, line: Option<usize>, what: impl Into<String>) {
        self.add(Aspect::Integrity, Severity::Bad, section, line, what);
    }

    fn container(&mut self, container: &Container, keys: &[VerifierKey]) {
        let gateway = self.events(&container.gateway, "gateway", Aspect::Integrity);
        let client = self.events(&container.client, "client", Aspect::ClientSigned);
        let Some(open) = gateway.first() else {
            self.bad("gateway", None, "there is no gateway line");
            return;
        };
        self.level = open.event.number("level").unwrap_or(0);
        self.summarise(&gateway, client.len());
        let log = self.receipt(container, &gateway, keys);
        self.chain(&gateway, "gateway", Aspect::Integrity, open.event.previous);
        self.grant(container.grant.as_ref(), open, log.as_ref());
        self.findings.extend(semantics::check(&gateway));
        self.client(container, &gateway, &client, log.as_ref());
    }

    /// Reads the lines of one side; lines that cannot be read are reported and left out.
    fn events(&mut self, pieces: &[Piece], section: &'static str, aspect: Aspect) -> Vec<Placed> {
        let mut events = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match Event::parse(&piece.text) {
                Ok(event) => events.push(Placed { line: piece.line, event }),
                Err(error) => self.add(aspect, Severity::Bad, section, Some(piece.line), error.to_string()),
            }
        }
        events
    }

    fn chain(&mut self, events: &[Placed], section: &'static str, aspect: Aspect, first_prev: Leaf) {
        let Some(session) = events.first().and_then(|placed| SessionId::parse(&placed.event.session)) else {
            self.add(aspect, Severity::Bad, section, None, "the lines belong to no session");
            return;
        };
        let mut chain = Chain::new(session, first_prev);
        for placed in events {
            if let Err(what) = chain.admit(&placed.event) {
                // One finding is enough: after a break every later link is off as well.
                self.add(aspect, Severity::Bad, section, Some(placed.line), what);
                return;
            }
        }
    }

    /// The receipt ties the last gateway line, and through the chain every line, to the log.
    fn receipt(&mut self, container: &Container, gateway: &[Placed], keys: &[VerifierKey]) -> Option<VerifierKey> {
        let Some(receipt) = &container.receipt else {
            self.bad("receipt", None, "there is no receipt: nothing ties these lines to the log");
            return None;
        };
        let line = Some(receipt.line);
        let Some(proof) = Proof::parse(&receipt.text) else {
            self.bad("receipt", line, "not a tlog-proof");
            return None;
        };
        let origin = proof.checkpoint.lines().next().unwrap_or_default();
        let is_of_log = |key: &&VerifierKey| key.name() == origin && key.algorithm() == Algorithm::Ed25519;
        // A log has another key from some time on, and what the first has signed is none the worse.
        let mut opened = keys.iter().filter(is_of_log).map(|key| {
            let opened = Checkpoint::open(&proof.checkpoint, std::slice::from_ref(key));
            opened.map(|(checkpoint, _)| (key, checkpoint))
        });
        let Some(first) = opened.next() else {
            self.bad("receipt", line, format!("it is signed for the log `{origin}`, and no key was given for that"));
            return None;
        };
        let (key, checkpoint) = match first.or_else(|error| opened.find_map(Result::ok).ok_or(error)) {
            Ok(opened) => opened,
            Err(error) => {
                self.bad("receipt", line, format!("the log's checkpoint: {error}"));
                return None;
            }
        };
        if checkpoint.origin != key.name() {
            self.bad("receipt", line, "the checkpoint is of another log than its key");
        }
        let last = gateway.last().map_or(Leaf::NONE, |placed| placed.event.line.leaf());
        if !merkle::verify_inclusion(proof.index, checkpoint.size, last, &proof.path, &checkpoint.root) {
            self.bad("receipt", line, "the last gateway line is not in the log at the place the receipt names");
        }
        self.summary.origin = checkpoint.origin;
        self.summary.log_index = proof.index;
        self.summary.log_size = checkpoint.size;
        Some(key.clone())
    }

    /// The grant the session was opened with: `session.open` names its hash.
    fn grant(&mut self, grant: Option<&Piece>, open: &Placed, log: Option<&VerifierKey>) {
        if open.event.text("grant_h") != Some(open.event.previous.hex().as_str()) {
            self.bad("gateway", Some(open.line), "`grant_h` is not the hash the line is linked to");
        }
        let Some(piece) = grant else {
            self.add(Aspect::Completeness, Severity::Note, "grant", None, "the file does not hold the grant's line");
            return;
        };
        let line = Some(piece.line);
        let event = match Event::parse(&piece.text) {
            Ok(event) => event,
            Err(error) => return self.bad("grant", line, error.to_string()),
        };
        if event.line.leaf() != open.event.previous || event.kind != "grant" {
            return self.bad("grant", line, "this is not the grant that the session was opened with");
        }
        for name in ["sub", "iss", "target", "db", "cred", "client_key", "gr"] {
            // A session without a client key may use a grant that has one, never another key.
            let (granted, opened) = (event.text(name), open.event.text(name));
            if granted != opened && !(name == "client_key" && opened.is_none()) {
                self.bad("gateway", Some(open.line), format!("`{name}` is not what was granted"));
            }
        }
        let (Some(key), Some(log)) = (event.text("client_key"), log) else { return };
        if !proves_possession(&event, key, log.name()) {
            self.bad("grant", line, "the proof that the client held its key does not verify");
        }
    }

    fn client(&mut self, container: &Container, gateway: &[Placed], client: &[Placed], log: Option<&VerifierKey>) {
        let (Some(open), Some(last)) = (gateway.first(), gateway.last()) else { return };
        let has_client = !container.client.is_empty() || container.head.is_some();
        let promised = last.event.member("client_head");
        match (self.level, has_client) {
            (0, false) => return,
            (0, true) => {
                self.add(
                    Aspect::ClientSigned,
                    Severity::Bad,
                    "client",
                    None,
                    "a client's account in a session without a client key",
                );
                return;
            }
            (_, false) if promised.is_some() => {
                let what = "the session closed over a client's account, and the file lacks it";
                return self.add(Aspect::ClientSigned, Severity::Bad, "client", None, what);
            }
            (_, false) => {
                let what = "the client has not handed in its account";
                return self.add(Aspect::ClientSigned, Severity::Missing, "client", None, what);
            }
            (_, true) => {}
        }
        let is_readable = client.len() == container.client.len();
        self.chain(client, "client", Aspect::ClientSigned, open.event.line.leaf());
        self.client_frame(open, client);
        self.head(container, open, last, client, log);
        if is_readable {
            self.compare(gateway, client);
        }
    }

    /// What the first and the last client line must be.
    fn client_frame(&mut self, open: &Placed, client: &[Placed]) {
        let first_line = client.first().map(|placed| placed.line);
        let begins = client.first().is_some_and(|first| {
            first.event.kind == "begin"
                && first.event.session == open.event.session
                && first.event.text("open_h") == Some(open.event.line.leaf().hex().as_str())
        });
        if !begins {
            self.add(Aspect::ClientSigned, Severity::Bad, "client", first_line, "it does not begin with this session");
        }
        let key_check = |placed: &Placed| placed.event.text("key_c").map(str::to_owned);
        if client.first().and_then(key_check) != key_check(open) {
            let what = "client and gateway did not use the same key for commitments";
            self.add(Aspect::ClientSigned, Severity::Bad, "client", first_line, what);
        }
        let strays = client.iter().skip(1).filter(|placed| placed.event.kind == "begin");
        let early = client.iter().rev().skip(1).filter(|placed| placed.event.kind == "end");
        if let Some(stray) = strays.chain(early).next() {
            let what = format!("`{}` in the middle of the account", stray.event.kind);
            self.add(Aspect::ClientSigned, Severity::Bad, "client", Some(stray.line), what);
        }
        if client.last().is_some_and(|last| last.event.kind != "end") {
            let what = "the client's account has no `end`";
            self.add(Aspect::Completeness, Severity::Missing, "client", None, what);
        }
    }

    /// The head is signed by the key that the gateway recorded before the first statement.
    fn head(
        &mut self,
        container: &Container,
        open: &Placed,
        last: &Placed,
        client: &[Placed],
        log: Option<&VerifierKey>,
    ) {
        let Some(head) = &container.head else {
            return self.add(Aspect::ClientSigned, Severity::Bad, "head", None, "the client's account is not signed");
        };
        // Without a trusted log there is nothing to measure the head against: said already.
        let Some(log) = log else { return };
        let line = Some(head.line);
        let origin = SessionId::parse(&open.event.session).map(|id| checkpoint::session_origin(log.name(), &id));
        let key = open.event.text("client_key").and_then(unhex::<32>);
        let key =
            origin.as_deref().zip(key).and_then(|(name, key)| VerifierKey::new(name, Algorithm::Ed25519, &key).ok());
        let Some(key) = key else {
            return self.add(
                Aspect::ClientSigned,
                Severity::Bad,
                "gateway",
                Some(open.line),
                "`client_key` is not a key",
            );
        };
        let keys = [key, log.with_algorithm(Algorithm::Cosignature)];
        let (head, signed) = match Checkpoint::open(&head.text, &keys) {
            Ok(opened) => opened,
            Err(error) => {
                return self.add(
                    Aspect::ClientSigned,
                    Severity::Bad,
                    "head",
                    line,
                    format!("the client's head: {error}"),
                );
            }
        };
        let mut tree = Frontier::default();
        client.iter().for_each(|placed| tree.push(placed.event.line.leaf()));
        if Some(&head.origin) != origin.as_ref() || head.size != tree.size() || head.root != tree.root() {
            self.add(Aspect::ClientSigned, Severity::Bad, "head", line, "the head is not that of the client's lines");
        }
        self.promise(&head, last, line, signed.len() > 1);
    }

    /// `session.close` holds the client's head, unless the account came in later.
    fn promise(&mut self, head: &Checkpoint, last: &Placed, line: Option<usize>, is_cosigned: bool) {
        match last.event.member("client_head") {
            Some(promised) => {
                let is_same = promised.get("n").and_then(Value::as_u64) == Some(head.size)
                    && promised.get("root").and_then(Value::as_str) == Some(head.root_hex().as_str());
                if !is_same {
                    let what = "the session closed over another head of the client's account";
                    self.add(Aspect::ClientSigned, Severity::Bad, "head", line, what);
                }
            }
            None if last.event.kind != "session.close" => {}
            None if is_cosigned => {
                let what = "the client handed its account in after the session had closed";
                self.add(Aspect::ClientSigned, Severity::Warning, "head", line, what);
            }
            None => {
                let what = "the gateway has not acknowledged the client's account";
                self.add(Aspect::ClientSigned, Severity::Missing, "head", line, what);
            }
        }
    }

    fn compare(&mut self, gateway: &[Placed], client: &[Placed]) {
        let events = |side: &[Placed]| -> Vec<Event> { side.iter().map(|placed| placed.event.clone()).collect() };
        for difference in reconcile(&events(gateway), &events(client)) {
            let has_number = |placed: &&Placed| {
                placed.event.number("no") == Some(difference.number) && placed.event.kind != "cancel"
            };
            let (section, place) = match gateway.iter().find(has_number) {
                Some(placed) => ("gateway", Some(placed.line)),
                None => ("client", client.iter().find(has_number).map(|placed| placed.line)),
            };
            let what = match difference.number {
                0 => difference.what,
                number => format!("statement {number}: {}", difference.what),
            };
            self.add(Aspect::Reconciled, difference.severity, section, place, what);
        }
    }

    fn summarise(&mut self, gateway: &[Placed], client_lines: usize) {
        let (Some(open), Some(last)) = (gateway.first(), gateway.last()) else { return };
        let text = |name: &str| open.event.text(name).unwrap_or_default().to_owned();
        let total = |name: &str| last.event.number(name).unwrap_or(0);
        self.summary = Summary {
            session: open.event.session.clone(),
            subject: text("who"),
            target: text("target"),
            database: text("db"),
            role: text("role"),
            opened: open.event.at.rfc3339(),
            closed: if last.event.kind == "session.close" { last.event.at.rfc3339() } else { String::new() },
            statements: total("n_stmt"),
            denied: total("n_deny"),
            rows: total("rows"),
            gateway_lines: gateway.len(),
            client_lines,
            ..Summary::default()
        };
    }
}

/// Checks the signature by which the client proved its key when it asked for the grant.
fn proves_possession(grant: &Event, key: &str, origin: &str) -> bool {
    let member = |name: &str| grant.member("pop").and_then(|pop| pop.get(name)).and_then(Value::as_str);
    let Some((nonce, signature)) = member("nonce").zip(member("sig").and_then(unhex::<64>)) else { return false };
    let Some(key) = unhex::<32>(key).and_then(|key| VerifyingKey::from_bytes(&key).ok()) else { return false };
    let text = checkpoint::possession_text(nonce, origin);
    key.verify_strict(text.as_bytes(), &Signature::from_bytes(&signature)).is_ok()
}
