//! Step 1, login: from the claims of a verified token to an identity.
//!
//! The caller has checked signature, issuer, audience and times. Here is decided which claim
//! names the person. What cannot be read is refused: a principal is never guessed.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::core::identity::{Identity, Kind};
use crate::core::text::escape;
use crate::core::time::Moment;

/// Longest subject or group name: both go into role comments, policies and every record.
const LONGEST_NAME: usize = 256;
/// Most groups of one principal.
const MOST_GROUPS: usize = 1000;

/// One `[[identity.oidc]]` of the server's configuration: whose tokens are accepted, and how read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerRule {
    pub issuer: String,
    /// The client that people sign in with, and so the audience of their ID tokens. For an
    /// issuer of workload tokens: the audience that jobs ask for.
    pub client_id: String,
    /// A further audience to accept: that of JWT access tokens.
    #[serde(default)]
    pub audience: Option<String>,
    #[serde(default = "human")]
    pub kind: Kind,
    #[serde(default)]
    pub claims: ClaimNames,
    /// Certificate authority of the issuer, where it is not a public one.
    #[serde(default)]
    pub ca_file: Option<String>,
}

impl IssuerRule {
    /// People who sign in with `client_id` at `issuer`, claims named as usual.
    pub fn new(issuer: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            client_id: client_id.into(),
            audience: None,
            kind: human(),
            claims: ClaimNames::default(),
            ca_file: None,
        }
    }
}

fn human() -> Kind {
    Kind::Human
}

/// Which claims hold the name and the groups. A dot steps into an object, as in `realm_access.roles`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimNames {
    /// None: `email` where the token has one, else `sub`.
    #[serde(default)]
    pub subject: Option<String>,
    #[serde(default = "groups")]
    pub groups: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self { subject: None, groups: groups() }
    }
}

fn groups() -> String {
    "groups".into()
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    pub issuer: String,
    pub sub: String,
    pub expires: Moment,
    /// Every claim of the token, the above included.
    pub all: Map<String, Value>,
}

/// Why claims make no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    #[error("the token is of issuer `{found}`, not `{expected}`")]
    OtherIssuer { expected: String, found: String },
    #[error("the token has no claim `{0}`")]
    Missing(String),
    #[error("the claim `{0}` cannot be read as a name")]
    NotAName(String),
    #[error("the claim `{0}` cannot be read as a list of names")]
    NotAList(String),
    #[error("the claim `{0}` lists more than {MOST_GROUPS} names")]
    TooMany(String),
    #[error("the claim `{0}` cannot be read as a date")]
    NotADate(String),
    #[error("by its claim `act` somebody else acts for this person")]
    ActedFor,
    #[error("the issuer has not verified this e-mail address")]
    UnverifiedEmail,
}

/// The identity that `rule` reads from `claims`.
pub fn identity(claims: &Claims, rule: &IssuerRule) -> Result<Identity, ClaimsError> {
    if claims.issuer != rule.issuer {
        let (expected, found) = (rule.issuer.clone(), claims.issuer.clone());
        return Err(ClaimsError::OtherIssuer { expected, found });
    }
    // RFC 8693, section 4.1. Whoever acts is not the person whose name stands in the token, and decides nothing as
    // if they were. For programs there are rules of their own.
    if rule.kind == Kind::Human && claims.all.contains_key("act") {
        return Err(ClaimsError::ActedFor);
    }
    Ok(Identity {
        kind: rule.kind,
        subject: subject(claims, rule.claims.subject.as_deref())?,
        sub: name("sub", &claims.sub)?,
        issuer: claims.issuer.clone(),
        groups: read_groups(claims, &rule.claims.groups)?,
        expires: claims.expires,
    })
}

/// What is wrong with the claims that every token has (OpenID Connect Core, section 2), where they make
/// it unreadable. Nothing of it is verified: this finds words for a refusal.
pub fn malformed(all: &Map<String, Value>) -> Option<ClaimsError> {
    let found = |claim: &str| all.get(claim).filter(|value| !value.is_null());
    if let Some(missing) = ["iss", "sub", "aud", "exp", "iat"].iter().find(|claim| found(claim).is_none()) {
        return Some(ClaimsError::Missing((*missing).to_owned()));
    }
    if !found("sub").is_some_and(Value::is_string) {
        return Some(ClaimsError::NotAName("sub".to_owned()));
    }
    let date = ["exp", "iat"].into_iter().find(|claim| !found(claim).is_some_and(Value::is_number));
    date.map(|claim| ClaimsError::NotADate(claim.to_owned()))
}

fn subject(claims: &Claims, wanted: Option<&str>) -> Result<String, ClaimsError> {
    let claim = match wanted {
        Some(claim) => claim,
        None if claims.all.contains_key("email") => "email",
        None => "sub",
    };
    // Where people may enter any address, an unverified one is a way to be somebody else. Some issuers say so in
    // a string.
    let is_verified = |said: &Value| *said == Value::Bool(true) || said.as_str() == Some("true");
    if claim == "email" && !claims.all.get("email_verified").is_none_or(is_verified) {
        return Err(ClaimsError::UnverifiedEmail);
    }
    match find(&claims.all, claim) {
        Some(Value::String(text)) => name(claim, text),
        Some(_) => Err(ClaimsError::NotAName(claim.to_owned())),
        None => Err(ClaimsError::Missing(claim.to_owned())),
    }
}

/// No groups claim means no groups; one that cannot be read is refused, not skipped, for a
/// policy may forbid by group.
fn read_groups(claims: &Claims, claim: &str) -> Result<Vec<String>, ClaimsError> {
    let unreadable = || ClaimsError::NotAList(claim.to_owned());
    let members = match find(&claims.all, claim) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(single)) => return Ok(vec![name(claim, single)?]),
        Some(Value::Array(members)) if members.len() > MOST_GROUPS => {
            return Err(ClaimsError::TooMany(claim.to_owned()));
        }
        Some(Value::Array(members)) => members,
        Some(_) => return Err(unreadable()),
    };
    let mut groups = Vec::with_capacity(members.len());
    for member in members {
        groups.push(name(claim, member.as_str().ok_or_else(unreadable)?)?);
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

/// By its full name first: names with dots and colons exist (`https://example.com/groups`).
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

/// A name without control characters: it will stand in log lines and on terminals.
fn name(claim: &str, text: &str) -> Result<String, ClaimsError> {
    // A name with letters that nobody sees looks like another's.
    let is_readable = !text.trim().is_empty() && text.len() <= LONGEST_NAME && escape(text) == text;
    if is_readable { Ok(text.to_owned()) } else { Err(ClaimsError::NotAName(claim.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Claims {
        let all: Map<String, Value> = serde_json::from_str(json).expect("claims are an object");
        let sub = all.get("sub").and_then(Value::as_str).unwrap_or("248289").to_owned();
        Claims { issuer: "https://idp.example.com".into(), sub, expires: Moment::from_seconds(9), all }
    }

    fn rule(claims: &str) -> IssuerRule {
        let text = format!("issuer = \"https://idp.example.com\"\nclient_id = \"cli\"\nclaims = {claims}");
        toml::from_str(&text).expect("a rule")
    }

    fn read(json: &str, names: &str) -> Result<(String, Vec<String>), ClaimsError> {
        identity(&claims(json), &rule(names)).map(|identity| (identity.subject, identity.groups))
    }

    fn is(subject: &str, groups: &[&str]) -> Result<(String, Vec<String>), ClaimsError> {
        Ok((subject.to_owned(), groups.iter().map(|group| (*group).to_owned()).collect()))
    }

    #[test]
    fn the_subject_is_the_verified_address_else_sub() {
        assert_eq!(read(r#"{"email":"ana@example.com"}"#, "{}"), is("ana@example.com", &[]));
        assert_eq!(read(r#"{"sub":"x7"}"#, "{}"), is("x7", &[]));
        assert_eq!(read(r#"{"email":"a@b","email_verified":false}"#, "{}"), Err(ClaimsError::UnverifiedEmail));
        assert_eq!(read(r#"{"email":"a@b","email_verified":"false"}"#, "{}"), Err(ClaimsError::UnverifiedEmail));
        assert_eq!(read(r#"{"email":"a@b","email_verified":"true"}"#, "{}"), is("a@b", &[]));
        assert_eq!(read(r#"{"email":7}"#, "{}"), Err(ClaimsError::NotAName("email".into())));
    }

    #[test]
    fn the_configured_claim_must_be_there() {
        let names = r#"{ subject = "preferred_username" }"#;
        assert_eq!(read(r#"{"preferred_username":"ana","email":"x@y"}"#, names), is("ana", &[]));
        assert_eq!(read(r#"{"email":"x@y"}"#, names), Err(ClaimsError::Missing("preferred_username".into())));
    }

    #[test]
    fn groups_are_a_list_a_word_or_absent_and_nothing_else() {
        let names = r#"{ groups = "realm.roles" }"#;
        assert_eq!(read(r#"{"sub":"a","realm":{"roles":["b","a","b"]}}"#, names), is("a", &["a", "b"]));
        assert_eq!(read(r#"{"sub":"a","realm.roles":"dba"}"#, names), is("a", &["dba"]));
        assert_eq!(read(r#"{"sub":"a"}"#, names), is("a", &[]));
        for broken in [r#"{"sub":"a","realm":{"roles":[1]}}"#, r#"{"sub":"a","realm":{"roles":{}}}"#] {
            assert_eq!(read(broken, names), Err(ClaimsError::NotAList("realm.roles".into())));
        }
    }

    #[test]
    fn a_thousand_groups_are_read_and_more_are_said_to_be_too_many() {
        let listed = |count: usize| {
            let groups = (0..count).map(|number| format!("\"g{number:04}\"")).collect::<Vec<_>>().join(",");
            read(&format!(r#"{{"sub":"a","groups":[{groups}]}}"#), "{}")
        };
        assert_eq!(listed(1000).map(|(_, groups)| groups.len()), Ok(1000));
        assert_eq!(listed(1001), Err(ClaimsError::TooMany("groups".into())));
    }

    #[test]
    fn who_acts_for_a_person_is_not_the_person() {
        let acted = claims(r#"{"email":"ana@example.com","act":{"sub":"robot"}}"#);
        assert_eq!(identity(&acted, &rule("{}")), Err(ClaimsError::ActedFor));
        let agent = IssuerRule { kind: Kind::Agent, ..rule("{}") };
        assert_eq!(identity(&acted, &agent).map(|identity| identity.kind), Ok(Kind::Agent));
    }

    #[test]
    fn claims_that_every_token_has_are_named_where_they_are_wrong() {
        let whole = r#""iss":"i","sub":"s","aud":"a","exp":9,"iat":1"#;
        for (from, to, expected) in [
            ("", "", None),
            (r#""sub":"s","#, "", Some(ClaimsError::Missing("sub".into()))),
            (r#""s""#, "null", Some(ClaimsError::Missing("sub".into()))),
            (r#""s""#, "7", Some(ClaimsError::NotAName("sub".into()))),
            (r#","exp":9"#, "", Some(ClaimsError::Missing("exp".into()))),
            (":9", r#":"9""#, Some(ClaimsError::NotADate("exp".into()))),
            (":1", ":[1]", Some(ClaimsError::NotADate("iat".into()))),
        ] {
            let json = format!("{{{}}}", whole.replacen(from, to, 1));
            assert_eq!(malformed(&serde_json::from_str(&json).expect("an object")), expected, "{json}");
        }
    }

    #[test]
    fn names_that_could_forge_a_line_are_refused() {
        let forged =
            [r#"{"email":"a\nb"}"#, r#"{"email":"  "}"#, r#"{"email":"\u001b[2J"}"#, r#"{"email":"a\u200bna"}"#];
        for forged in forged {
            assert_eq!(read(forged, "{}"), Err(ClaimsError::NotAName("email".into())));
        }
        assert!(read(r#"{"sub":"a","groups":["x\ny"]}"#, "{}").is_err());
    }

    #[test]
    fn a_token_of_another_issuer_is_not_read() {
        let other = IssuerRule::new("https://other.example.com", "cli");
        assert!(matches!(identity(&claims("{}"), &other), Err(ClaimsError::OtherIssuer { .. })));
    }

    #[test]
    fn a_misspelt_key_of_a_rule_is_an_error() {
        let text = "issuer = \"https://a\"\nclient_id = \"c\"\naudiance = \"x\"\n";
        assert!(toml::from_str::<IssuerRule>(text).is_err());
    }
}
