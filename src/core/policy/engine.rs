//! The policy itself: rules that were read and validated, and the questions they answer.
//!
//! One engine answers when privileges are compiled, when a statement is judged and when the
//! impact of a held write is known, so that the three cannot disagree. Deny by default, forbid
//! overrides; a rule that cannot be evaluated denies.

mod alike;
mod guard;
mod judge;
mod keys;
mod lent;
mod question;
mod story;

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Authorizer, Effect, PolicyId, PolicySet, Schema, Validator};

use super::classification::Classification;
use super::file::{self, Problem, Source};
use super::{Denial, Limits, pack, selftest};
use crate::core::grant::{Access, Grant};
use crate::core::identity::Identity;
use crate::core::time::Moment;

use alike::Sight;
pub(crate) use alike::{About, Alike};
pub use guard::text_runner;
pub use judge::{ImpactQuestion, ImpactRefusal};
pub(crate) use question::{Answer, Asking};

/// The vocabulary that every policy is validated against.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// The rule named in a denial where no rule permits.
pub const DEFAULT_DENY: &str = "default-deny";

/// Every access level, lowest first.
const LEVELS: [Access; 3] = [Access::Read, Access::Write, Access::Admin];

/// A policy folder that was read without a problem.
pub struct Policy {
    /// Every rule, under its `@id`.
    all: PolicySet,
    /// The permits alone: shows whether an approval would be of any use.
    permits: PolicySet,
    /// The rules with a limit, and those with a filter. They forbid nothing by themselves, so they
    /// are in none of the others.
    limits: PolicySet,
    filters: PolicySet,
    rules: BTreeMap<String, Rule>,
    classification: Classification,
    /// Groups that the rules name.
    groups: BTreeSet<String>,
    digest: String,
    authorizer: Authorizer,
    vocabulary: question::Vocabulary,
    /// What the rules can see of relations and columns.
    sight: Sight,
}

/// What the annotations of a rule say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub id: String,
    /// A stable word for programs.
    pub code: String,
    pub mask: Option<String>,
    /// The condition that rows must meet, in SQL.
    pub filter: Option<String>,
    /// How far a statement may go.
    pub limit: Option<Limits>,
    /// The group that may lift it.
    pub approval: Option<String>,
    /// The group that may go ahead at once.
    pub break_glass: Option<String>,
    pub reason: Option<String>,
    pub suggest: Option<String>,
}

/// Who asks, for which database, and how far they mean to go.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub identity: &'a Identity,
    pub target: &'a str,
    pub environment: &'a str,
    pub database: &'a str,
    pub access: Access,
    /// The program that the session says it acts through.
    pub agent: Option<&'a str>,
    pub reason: Option<&'a str>,
    pub ticket: Option<&'a str>,
}

/// A [`Subject`] that can be kept. Equal ones are answered alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedSubject {
    identity: Identity,
    target: String,
    environment: String,
    database: String,
    access: Access,
    agent: Option<String>,
    reason: Option<String>,
    ticket: Option<String>,
}

impl OwnedSubject {
    pub fn of(subject: &Subject<'_>) -> Self {
        Self {
            // No rule sees when a token ends.
            identity: Identity { expires: Moment::from_seconds(0), ..subject.identity.clone() },
            target: subject.target.to_owned(),
            environment: subject.environment.to_owned(),
            database: subject.database.to_owned(),
            access: subject.access,
            agent: subject.agent.map(str::to_owned),
            reason: subject.reason.map(str::to_owned),
            ticket: subject.ticket.map(str::to_owned),
        }
    }

    pub fn subject(&self) -> Subject<'_> {
        Subject {
            identity: &self.identity,
            target: &self.target,
            environment: &self.environment,
            database: &self.database,
            access: self.access,
            agent: self.agent.as_deref(),
            reason: self.reason.as_deref(),
            ticket: self.ticket.as_deref(),
        }
    }
}

impl<'a> Subject<'a> {
    /// Whom a grant was given to, and for what.
    pub fn of(grant: &'a Grant) -> Self {
        Self {
            identity: &grant.identity,
            target: &grant.target,
            environment: &grant.environment,
            database: &grant.database,
            access: grant.access,
            agent: grant.declared.agent.as_deref(),
            reason: grant.reason.as_deref(),
            ticket: grant.ticket.as_deref(),
        }
    }
}

/// The digest says it all and is short.
impl std::fmt::Debug for Policy {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Policy({})", self.digest)
    }
}

impl Policy {
    /// Reads and validates the files of a policy folder, or says everything that is wrong.
    pub fn parse(sources: &[Source]) -> Result<Self, Vec<Problem>> {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("the vocabulary in the binary is well formed");
        let folder = file::read(sources, &Validator::new(schema))?;
        let (mut all, mut permits) = (PolicySet::new(), PolicySet::new());
        let (mut limits, mut filters) = (PolicySet::new(), PolicySet::new());
        let mut rules = BTreeMap::new();
        for (policy, rule) in folder.rules {
            let policy = policy.new_id(PolicyId::new(&rule.id));
            if policy.effect() == Effect::Permit {
                permits.add(policy.clone()).expect("ids are unique: the reader refuses a second one");
            }
            let set = match (&rule.limit, &rule.filter) {
                (Some(_), _) => &mut limits,
                (None, Some(_)) => &mut filters,
                (None, None) => &mut all,
            };
            set.add(policy).expect("ids are unique: the reader refuses a second one");
            rules.insert(rule.id.clone(), rule);
        }
        let sight = Sight::of(all.policies().chain(filters.policies()));
        let policy = Self {
            all,
            permits,
            limits,
            filters,
            rules,
            classification: folder.classification,
            groups: groups(sources),
            digest: file::digest(sources),
            authorizer: Authorizer::new(),
            vocabulary: question::Vocabulary::new(),
            sight,
        };
        // A folder whose own tests fail says something else than its author meant.
        selftest::hold(&policy, sources)?;
        Ok(policy)
    }

    /// A pack that ships in the binary, as it is.
    pub fn pack(name: &str) -> Option<Self> {
        let sources = pack::sources(name)?;
        Some(Self::parse(&sources).expect("packs in the binary are valid: a test loads each"))
    }

    /// SHA-256 of the files, hex. A record names the policy it was judged by with this.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The groups that the rules name.
    pub const fn groups(&self) -> &BTreeSet<String> {
        &self.groups
    }

    /// What the rules' annotations say, by id.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values()
    }

    /// Whether the rule of this id permits.
    pub fn is_permit(&self, id: &str) -> bool {
        self.permits.policy(&PolicyId::new(id)).is_some()
    }

    /// What the folder says is sensitive.
    pub fn classification(&self) -> &Classification {
        &self.classification
    }

    /// Whether the principal may have a session like this at all. Where no rule permits it, the denial names what
    /// they may have.
    pub fn may_connect(&self, subject: &Subject<'_>) -> Result<(), Denial> {
        self.connects(subject).map_err(|mut denial| {
            if denial.code == judge::NOT_PERMITTED {
                let Subject { identity, target, environment, database, .. } = *subject;
                let offered = self.access_offered(identity, target, environment, database);
                let words = offered.iter().map(|access| access.word()).collect::<Vec<_>>().join(", ");
                denial.hint = denial.hint.or((!offered.is_empty()).then(|| format!("--access may be: {words}")));
            }
            denial
        })
    }

    fn connects(&self, subject: &Subject<'_>) -> Result<(), Denial> {
        let asking = Asking::new(self, subject);
        let what = format!("connect to {} with {} access", subject.target, subject.access.word());
        match asking.database("connect", None) {
            Answer::Allow => Ok(()),
            refused => Err(judge::denial(subject, &refused, &what)),
        }
    }

    /// Whether somebody approves anything in a database, and so may see what goes on there.
    pub fn may_approve(&self, identity: &Identity, target: &str, environment: &str, database: &str) -> bool {
        let subject = plain(identity, target, environment, database, Access::Read);
        matches!(Asking::new(self, &subject).database("approve", None), Answer::Allow)
    }

    /// The access levels the principal may ask for, lowest first.
    pub fn access_offered(&self, identity: &Identity, target: &str, environment: &str, database: &str) -> Vec<Access> {
        let subject = |access: &Access| plain(identity, target, environment, database, *access);
        LEVELS.into_iter().filter(|access| self.may_come(&subject(access)).is_ok()).collect()
    }

    /// The access levels that people must agree to first, lowest first.
    pub fn access_by_approval(
        &self,
        identity: &Identity,
        target: &str,
        environment: &str,
        database: &str,
    ) -> Vec<Access> {
        let subject = |access: &Access| plain(identity, target, environment, database, *access);
        let asks = |access: &Access| self.may_come(&subject(access)).is_err_and(|denial| denial.approvers.is_some());
        LEVELS.into_iter().filter(asks).collect()
    }

    /// Whether the principal may have a session like this one, if need be with a reason and a ticket:
    /// those they can give.
    fn may_come(&self, subject: &Subject<'_>) -> Result<(), Denial> {
        let explained = Subject { reason: Some("-"), ticket: Some("-"), ..*subject };
        self.connects(subject).or_else(|_| self.connects(&explained))
    }
}

/// What stands in `Group::"…"`.
fn groups(sources: &[Source]) -> BTreeSet<String> {
    let mut groups = BTreeSet::new();
    for source in sources {
        for (at, start) in source.text.match_indices("Group::\"") {
            let rest = source.text.get(at + start.len()..).unwrap_or("");
            groups.extend(rest.split_once('"').map(|(name, _)| name.to_owned()));
        }
    }
    groups
}

/// A subject that says nothing of itself.
fn plain<'a>(
    identity: &'a Identity,
    target: &'a str,
    environment: &'a str,
    database: &'a str,
    access: Access,
) -> Subject<'a> {
    Subject { identity, target, environment, database, access, agent: None, reason: None, ticket: None }
}

#[cfg(test)]
mod tests;
