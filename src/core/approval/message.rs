//! What is told of a request outside of this gate: signed, and with the literals of its statement
//! left out.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{Request, State};
use crate::core::encoding;
use crate::core::text::grouped;
use crate::core::time::Moment;
use crate::core::transcript::{content, redact};

/// Longest statement in a message.
const LONGEST: usize = 2_000;

/// `t=SECONDS,v1=HEX`: HMAC-SHA-256 over `SECONDS.BODY`. Who checks it refuses old moments too.
pub fn signature(key: &[u8], at: Moment, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{}.{body}", at.seconds()).as_bytes());
    format!("t={},v1={}", at.seconds(), encoding::hex(&mac.finalize().into_bytes()))
}

/// The statement with a mark in the place of every literal, and no longer than a message may be.
pub fn without_literals(statement: &str) -> String {
    content::clip(&redact::shape(statement), LONGEST).to_owned()
}

/// The card of a chat, in Slack's markup.
pub fn slack(request: &Request, event: &str, url: &str) -> String {
    let id = request.id.as_str();
    let requester = quoted(&request.requester.subject);
    let who = match &request.binding.agent {
        Some(agent) => format!("{} (agent) for {requester}", quoted(agent)),
        None => requester.clone(),
    };
    let place = format!("{} · {}", quoted(&request.binding.target), quoted(&request.environment));
    match (event, request.state) {
        ("requested", _) => {
            let rows = request.forecast.trial.as_ref().filter(|trial| trial.skipped.is_none());
            let rows = rows.map(|trial| format!("{} rows in a trial that was rolled back", grouped(trial.rows())));
            format!(
                "*{who}* asks {} on {place}\n```{}```\n{}\n{}\n<{url}|Review {id}>",
                quoted(&request.reviewers.to_string()),
                quoted(&without_literals(&request.binding.statement)).replace("```", "'''"),
                quoted(&request.denial.message),
                rows.unwrap_or_else(|| "Not tried".to_owned()),
            )
        }
        ("glass_broken", _) => {
            let reason = request.reason.as_deref().map(quoted).unwrap_or_default();
            format!(
                "<{url}|{id}> *{who}* broke the glass on {place}: {reason}. To be reviewed by {}",
                request.reviewers
            )
        }
        ("reviewed", _) => {
            let found = request.glass.as_ref().and_then(|glass| glass.found.as_ref());
            let (by, word) = found.map_or((String::new(), ""), |one| {
                (quoted(&one.by), if one.approves { "in order" } else { "not in order" })
            });
            format!("<{url}|{id}> was reviewed by *{by}*: {word}. {requester}, you broke the glass")
        }
        ("decided", state) => {
            let decision = request.decided();
            let by = decision.map_or_else(String::new, |decision| quoted(&decision.by));
            let comment = decision.and_then(|decision| decision.comment.as_deref());
            let comment = comment.map(|text| format!(": {}", quoted(text))).unwrap_or_default();
            let verb = match state {
                State::Rejected => "rejected",
                State::Pending | State::Approved | State::Expired | State::Withdrawn | State::Executed => "approved",
            };
            format!("<{url}|{id}> was {verb} by *{by}*{comment}. {requester}, it is yours.")
        }
        ("remarked", _) => {
            let remark = request.remarks.last();
            let (by, text) = remark.map_or((String::new(), String::new()), |one| (quoted(&one.by), quoted(&one.text)));
            format!("<{url}|{id}> {by}: {text}")
        }
        (_, state) => format!("<{url}|{id}> of {who} on {place} is {}", state.word()),
    }
}

/// What Slack would read as markup is text.
fn quoted(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::Decider;
    use super::super::tests::{at, raj, request};
    use super::*;

    #[test]
    fn a_signature_is_over_the_moment_and_the_body() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac key
        let expected = "t=1700000000,v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae";
        let signed = signature(b"key", Moment::from_seconds(1_700_000_000), "{}");
        assert_eq!(signed, expected);
        assert_ne!(signed, signature(b"key", Moment::from_seconds(1_700_000_001), "{}"));
        assert_ne!(signed, signature(b"other", Moment::from_seconds(1_700_000_000), "{}"));
    }

    #[test]
    fn a_card_names_who_and_the_counts_and_keeps_literals_at_home() {
        let card = slack(&request(), "requested", "https://gate.example.com/r/x");
        for part in
            ["refund-bot (agent) for ana@example.com", "100 rows", "one member of dba", "update orders set status"]
        {
            assert!(card.contains(part), "{part}: {card}");
        }
        assert!(!card.contains("void"), "{card}");
    }

    #[test]
    fn a_decision_says_who_and_why_and_cannot_forge_markup() {
        let raj = raj();
        let decider = Decider { identity: &raj, vouched: at(10) };
        let approved = request().approve(&decider, Some("ok <!channel>"), None, at(10)).expect("approved");
        let card = slack(&approved, "decided", "https://gate.example.com/r/x");
        assert!(card.contains("approved by *raj@example.com*: ok &lt;!channel&gt;. ana@example.com"), "{card}");
    }
}
