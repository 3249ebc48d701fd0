//! Making a grant: judged, compiled into database privileges, recorded, and only then handed out.
//!
//! The order is the promise. Policy is asked before anything is made in the target; the log's
//! record is durable before the credential leaves; the credential opens nothing until then.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::{Signature, VerifyingKey};
use tokio_postgres::Client;

use crate::core::api::{CatalogRelation, ErrorCode, GrantAnswer, GrantRequest, KeyProof, MaskedColumn, Principal};
use crate::core::approval::Spent;
use crate::core::audit::checkpoint::possession_text;
use crate::core::encoding;
use crate::core::grant::{Grant, GrantId, LONGEST, SessionId, USUAL};
use crate::core::identity::Identity;
use crate::core::policy::{Policy, Subject};
use crate::core::scope::Scope;
use crate::core::scope::catalog::Catalog;
use crate::core::secret::Secret;
use crate::core::time::Moment;
use crate::core::wire::scram;
use crate::server::grants::{Credential, LiveGrant, ahead, end, principal};
use crate::server::http::refusal::{Refusal, chain};
use crate::server::roles;
use crate::server::scopes::{Compiled, ScopeError, ScopeRole};
use crate::server::sessions::EndReason;
use crate::server::state::{ServedTarget, State};
use crate::sys::{clock, random};

/// Longest reason or ticket: they are read by people and recorded in one line.
const LONGEST_TEXT: usize = 1000;

fn unless_stopping(state: &State) -> Result<(), Refusal> {
    match state.is_stopping() {
        true => Err(Refusal::new(ErrorCode::Busy, "the broker is stopping")),
        false => Ok(()),
    }
}

/// Judges a request and, if policy allows it, makes the grant and its credential.
pub async fn issue(state: &State, identity: Identity, request: GrantRequest) -> Result<GrantAnswer, Refusal> {
    unless_stopping(state)?;
    let now = clock::now();
    let who = principal(&identity);
    let served = state.target(&request.target).ok_or_else(|| unknown_target(state, &identity, &request.target))?;
    let length = length(&request)?;
    texts(&request)?;
    let client_key = match &request.proof {
        Some(proof) => Some(prove(state, &who, proof, now).await?),
        None => None,
    };
    let database = served.choose_database(request.database.as_deref())?;
    let subject = subject(served, &database, &identity, &request);
    let policy = served.policy();
    let lifted = ahead::may_enter(state, &subject, &policy)?;
    let place = state.grants.place(&who).ok_or_else(|| {
        Refusal::new(ErrorCode::Busy, "you have as many grants as one principal may have; end one or wait")
    })?;

    // Until the grant is live, nothing else holds on to the scope.
    let making = served.making().await;
    let client = served.admin(&database).await?;
    let (Compiled { scope, digest }, scope_role) = prepare(served, &client, &subject, &policy).await?;
    // That took a while.
    unless_stopping(state)?;
    let session = SessionId::new(now, random::bytes());
    let admission = match lifted {
        Some(denial) => Some(ahead::admit(state, &subject, &policy, denial, &session).await?),
        None => None,
    };
    let length = admission.as_ref().map_or(length, |admission| length.min(admission.window));
    let password = Secret::new(encoding::base64url(&random::bytes::<32>()));
    let verifier = scram::Verifier::derive(&password, &random::bytes::<16>(), scram::ITERATIONS).to_string();
    let session_key = random::bytes::<32>();
    let id = GrantId::from_random(random::bytes());
    let grant = Grant {
        session,
        target: served.name().to_owned(),
        database,
        environment: served.environment().to_owned(),
        access: request.access,
        identity,
        declared: request.declared,
        reason: request.reason,
        ticket: request.ticket,
        not_before: now,
        expires: now.after(length),
        scope: digest.as_ref().to_owned(),
        policy: policy.digest().to_owned(),
        client_key,
        // A random name besides the random password: names of people are no business of a wire.
        user: id.as_str().to_ascii_lowercase(),
        id,
    };
    state.store.add_grant(&grant, &who, &verifier).await?;
    let recorded = match state.log.grant(&grant, request.proof.as_ref()).await {
        Ok(recorded) => recorded,
        Err(error) => {
            tracing::error!(grant = grant.id.as_str(), %error, "a grant could not be recorded, so it was not made");
            state.forget(&grant.id).await;
            return Err(Refusal::unrecorded());
        }
    };
    let answer =
        Answer { served, scope: &scope, password, session_key, line: recorded.line, receipt: recorded.receipt };
    let answer = answer.assemble(state, &grant);
    tracing::info!(grant = grant.id.as_str(), target = grant.target, access = grant.access.word(), "granted");
    if let Some(admission) = &admission {
        let spent = Spent::Committed { tag: format!("GRANT {}", grant.id.as_str()) };
        if let Err(error) = state.approvals.finish(admission.lift.request(), spent).await {
            tracing::error!(error = %chain(&error), "what came of an approved session could not be noted");
        }
    }
    let live = place.fill(
        grant,
        Credential { verifier, scope, scope_role, policy, admission, session_key, grant_leaf: recorded.leaf },
    );
    is_still_judged_so(state, served, &live).await?;
    make_role(served, client, &live).await;
    drop(making);
    Ok(answer)
}

/// A policy that came into force meanwhile has looked at every grant there was: not at this one.
async fn is_still_judged_so(state: &State, served: &ServedTarget, live: &LiveGrant) -> Result<(), Refusal> {
    if served.policy().digest() == live.grant.policy {
        return Ok(());
    }
    end::end(state, &live.grant.id, EndReason::Tightened).await?;
    Err(Refusal::new(ErrorCode::Busy, "the policy has just changed; ask again"))
}

/// Makes the login role of the first connection ahead of it, through a connection that is kept for it
/// as well. Where that fails, the connection makes its own.
async fn make_role(served: &ServedTarget, client: Client, live: &Arc<LiveGrant>) {
    let Some(mut lease) = live.lease() else { return };
    let made = async {
        let look = roles::look(&client, lease.name()).await?;
        roles::make_login(&client, &lease.purpose(&live.scope_role), &look, None).await
    };
    match made.await {
        Ok(as_made) => lease.made(as_made),
        Err(error) => tracing::warn!(role = lease.name(), error = %chain(&error), "no login role is made ahead"),
    }
    // The grant has ended meanwhile, or there is no role: then ending it is no work.
    if let Err(lease) = lease.give_back()
        && roles::end(&client, lease.name()).await.is_ok_and(|ended| ended.dropped)
    {
        lease.gone();
    }
    served.admins().keep(client, &live.grant.database);
}

/// Who asks, for what.
pub(super) fn subject<'a>(
    served: &'a ServedTarget,
    database: &'a str,
    identity: &'a Identity,
    request: &'a GrantRequest,
) -> Subject<'a> {
    Subject {
        identity,
        target: served.name(),
        environment: served.environment(),
        database,
        access: request.access,
        agent: request.declared.agent.as_deref(),
        reason: request.reason.as_deref(),
        ticket: request.ticket.as_deref(),
    }
}

/// Compiles the scope against what exists now, and makes its role in the target.
async fn prepare(
    served: &ServedTarget,
    client: &Client,
    subject: &Subject<'_>,
    policy: &Arc<Policy>,
) -> Result<(Compiled, ScopeRole), Refusal> {
    // What an earlier process left in this database goes first.
    served.sweep(client, subject.database).await?;
    let catalog = served.fresh_catalog(client, subject.database).await?;
    let (compiled, role) = made(served, subject, policy, client, &catalog).await?;
    if !role.missing.is_empty() {
        tracing::warn!(target = served.name(), count = role.missing.len(), "relations wait for: dbgate target init");
    }
    Ok((compiled, role))
}

/// Compiles and makes until the target takes every view: a relation whose view it refuses is
/// withheld with what PostgreSQL said.
async fn made(
    served: &ServedTarget,
    subject: &Subject<'_>,
    policy: &Arc<Policy>,
    client: &Client,
    catalog: &Arc<Catalog>,
) -> Result<(Compiled, ScopeRole), Refusal> {
    let mut last = None;
    loop {
        let compiled = served.compiler().compile(policy, subject, catalog).await;
        let compiled = compiled.map_err(|_| Refusal::new(ErrorCode::Busy, "the broker is stopping"))?;
        match served.complete().ensure(client, &compiled.scope, &compiled.digest).await {
            Ok(role) => return Ok((compiled, role)),
            // A relation that is withheld has no view, so each is refused once.
            Err(ScopeError::View { relation, reason }) if last.as_ref() != Some(&relation) => {
                tracing::warn!(target = served.name(), %relation, reason, "a masking view is refused by the target");
                served.compiler().refuse(&compiled.digest, relation.clone(), reason);
                last = Some(relation);
            }
            Err(error) => return Err(no_scope(served, &error)),
        }
    }
}

fn no_scope(served: &ServedTarget, error: &ScopeError) -> Refusal {
    tracing::error!(target = served.name(), error = %chain(error), "no scope role");
    match error {
        ScopeError::TooMany => return Refusal::new(ErrorCode::Busy, error.to_string()),
        ScopeError::Exposed(_) | ScopeError::Widened { .. } => {
            let message = format!("target `{}` is not safe to give: {error}", served.name());
            return Refusal::new(ErrorCode::TargetDown, message)
                .hint(format!("Its operators can run: dbgate doctor {}", served.name()));
        }
        ScopeError::NotOurs(_) | ScopeError::Locked | ScopeError::View { .. } | ScopeError::Target(_) => {}
    }
    Refusal::new(ErrorCode::TargetDown, format!("target `{}` could not be prepared for this grant", served.name()))
        .hint("Its operators can run: dbgate target init")
}

/// How long the grant lasts: what was asked for, within the limit.
pub(super) fn length(request: &GrantRequest) -> Result<Duration, Refusal> {
    match request.seconds {
        None => Ok(USUAL),
        Some(0) => Err(Refusal::bad_request("`for` must be at least one second")),
        Some(seconds) => Ok(Duration::from_secs(seconds).min(LONGEST)),
    }
}

/// Refuses texts that do not fit a record of one line.
pub(super) fn texts(request: &GrantRequest) -> Result<(), Refusal> {
    let declared = &request.declared;
    for (name, text) in [
        ("reason", &request.reason),
        ("ticket", &request.ticket),
        ("declared.agent", &declared.agent),
        ("declared.model", &declared.model),
        ("declared.task", &declared.task),
    ] {
        if let Some(text) = text
            && (text.len() > LONGEST_TEXT || text.chars().any(char::is_control))
        {
            return Err(Refusal::bad_request(format!(
                "`{name}` must be one line of at most {LONGEST_TEXT} bytes without control characters"
            )));
        }
    }
    Ok(())
}

/// Checks that the caller holds the key it names; the answer is the key in hex. The nonce is used
/// up first, so that a failed attempt cannot be repeated with it.
async fn prove(state: &State, who: &str, proof: &KeyProof, now: Moment) -> Result<String, Refusal> {
    if !state.store.use_challenge(&proof.nonce, who, now).await? {
        return Err(Refusal::bad_request("the challenge is unknown, used or older than five minutes")
            .hint("Ask for a new one: POST /v1/challenges"));
    }
    if is_proof(proof, state.log.origin()) {
        Ok(proof.client_key.clone())
    } else {
        Err(Refusal::bad_request("the proof does not fit the key"))
    }
}

/// Ed25519 over `dbgate-pop/v1\n<nonce>\n<origin>\n`, strictly: no weak keys, one encoding only.
fn is_proof(proof: &KeyProof, origin: &str) -> bool {
    let Some(key) = encoding::unhex::<32>(&proof.client_key) else { return false };
    let Some(signature) = encoding::unhex::<64>(&proof.signature) else { return false };
    let Ok(key) = VerifyingKey::from_bytes(&key) else { return false };
    let message = possession_text(&proof.nonce, origin);
    key.verify_strict(message.as_bytes(), &Signature::from_bytes(&signature)).is_ok()
}

/// Names the nearest target that the caller may see: the others are not disclosed.
fn unknown_target(state: &State, identity: &Identity, asked: &str) -> Refusal {
    let visible = state.targets.values().filter(|served| !served.access_offered(identity).is_empty());
    let nearest = visible.map(|served| (distance(served.name(), asked), served.name())).min();
    let message = match nearest {
        Some((far, name)) if far <= 2 => format!("no target `{asked}`. Did you mean {name}?"),
        _ => format!("no target `{asked}`"),
    };
    Refusal::new(ErrorCode::UnknownTarget, message).hint("List: dbgate ls")
}

/// How many letters to insert, drop or change to make one word of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index.saturating_add(1);
        let mut next = vec![left];
        for (above, counterpart) in row.iter().skip(1).zip(other.chars()) {
            let change = diagonal.saturating_add(usize::from(letter != counterpart));
            left = change.min(above.saturating_add(1)).min(left.saturating_add(1));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// What the answer is made of, besides the grant.
struct Answer<'a> {
    served: &'a ServedTarget,
    scope: &'a Scope,
    password: Secret,
    session_key: [u8; 32],
    line: String,
    receipt: String,
}

impl Answer<'_> {
    fn assemble(self, state: &State, grant: &Grant) -> GrantAnswer {
        let wire_database = if grant.database == self.served.database() {
            grant.target.clone()
        } else {
            format!("{}/{}", grant.target, grant.database)
        };
        GrantAnswer {
            grant_id: grant.id.as_str().to_owned(),
            principal: Principal {
                kind: grant.identity.kind.word().to_owned(),
                subject: grant.identity.subject.clone(),
                issuer: grant.identity.issuer.clone(),
            },
            session_id: grant.session.as_str().to_owned(),
            target: grant.target.clone(),
            environment: grant.environment.clone(),
            database: grant.database.clone(),
            access: grant.access,
            expires_at: grant.expires.rfc3339(),
            gateway: state.gateway.clone(),
            wire_database,
            user: grant.user.clone(),
            password: self.password,
            policy: grant.policy.clone(),
            session_key: Secret::new(encoding::hex(&self.session_key)),
            grant_line: self.line,
            receipt: self.receipt,
            masks: masks(self.scope),
            catalog: readable(self.scope),
        }
    }
}

/// The columns that come back masked.
fn masks(scope: &Scope) -> Vec<MaskedColumn> {
    let relations = scope.relations.iter().filter(|(_, relation)| relation.read);
    relations
        .flat_map(|(name, relation)| {
            relation.columns.iter().filter_map(move |column| {
                column.mask.as_ref().map(|mask| MaskedColumn {
                    schema: name.schema.clone(),
                    relation: name.name.clone(),
                    column: column.name.clone(),
                    mask: mask.name.clone(),
                    table_oid: relation.oid,
                    attribute: column.number,
                })
            })
        })
        .collect()
}

/// The relations that may be read, for completion.
fn readable(scope: &Scope) -> Vec<CatalogRelation> {
    let relations = scope.relations.iter().filter(|(_, relation)| relation.read);
    relations
        .map(|(name, relation)| CatalogRelation {
            schema: name.schema.clone(),
            name: name.name.clone(),
            columns: relation.columns.iter().map(|column| column.name.clone()).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    fn proof(nonce: &str, origin: &str) -> KeyProof {
        let key = SigningKey::from_bytes(&[3; 32]);
        let signature = key.sign(format!("dbgate-pop/v1\n{nonce}\n{origin}\n").as_bytes());
        KeyProof {
            client_key: encoding::hex(key.verifying_key().as_bytes()),
            nonce: nonce.to_owned(),
            signature: encoding::hex(&signature.to_bytes()),
        }
    }

    #[test]
    fn a_proof_is_bound_to_nonce_origin_and_key() {
        let good = proof("n", "gate.example.com/log");
        assert!(is_proof(&good, "gate.example.com/log"));
        assert!(!is_proof(&good, "other.example.com/log"));
        assert!(!is_proof(&KeyProof { nonce: "m".into(), ..good.clone() }, "gate.example.com/log"));
        assert!(!is_proof(&KeyProof { client_key: "00".repeat(32), ..good.clone() }, "gate.example.com/log"));
        assert!(!is_proof(&KeyProof { signature: "00".repeat(64), ..good }, "gate.example.com/log"));
    }

    #[test]
    fn a_grant_lasts_as_asked_within_the_limit() {
        let asked = |seconds| {
            length(&GrantRequest { seconds, ..serde_json::from_str(r#"{"target":"shop"}"#).expect("a request") }).ok()
        };
        assert_eq!(asked(None), Some(USUAL));
        assert_eq!(asked(Some(60)), Some(Duration::from_secs(60)));
        assert_eq!(asked(Some(u64::MAX)), Some(LONGEST));
        assert_eq!(asked(Some(0)), None);
    }

    #[test]
    fn texts_that_would_forge_lines_are_refused() {
        let request = |reason: &str| GrantRequest {
            reason: Some(reason.to_owned()),
            ..serde_json::from_str(r#"{"target":"shop"}"#).expect("a request")
        };
        assert!(texts(&request("fix order 42")).is_ok());
        assert!(texts(&request("fix\nreason: other")).is_err());
        assert!(texts(&request(&"x".repeat(LONGEST_TEXT + 1))).is_err());
    }

    #[test]
    fn near_names_are_near() {
        for (one, other, far) in [("prod", "prod", 0), ("prod", "prd", 1), ("prod", "porod", 1), ("", "abc", 3)] {
            assert_eq!(distance(one, other), far, "{one} {other}");
        }
    }
}
