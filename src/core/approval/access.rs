//! Asking for access ahead of time: a request for a session rather than for a statement.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Binding, Lift};
use crate::core::policy::{Denial, Subject};

/// Under this name the binding holds for how many seconds the session may last.
const FOR: &str = "for";

impl Binding {
    /// What an approval of a session is bound to. It stands where a statement would, and no
    /// statement reads like it.
    pub fn of_access(subject: &Subject<'_>, length: Duration, policy: &str) -> Self {
        let Subject { identity, target, database, access, agent, .. } = *subject;
        Self {
            principal: identity.principal(),
            agent: agent.map(str::to_owned),
            target: target.to_owned(),
            database: database.to_owned(),
            access,
            statement: format!("a session on {target}/{database} with {} access", access.word()),
            parameters: None,
            settings: BTreeMap::from([(FOR.to_owned(), length.as_secs().to_string())]),
            relations: Vec::new(),
            reached: BTreeMap::new(),
            policy: policy.to_owned(),
        }
    }

    /// How long the session may last, where it is for one.
    pub fn window(&self) -> Option<Duration> {
        let is_access = self.relations.is_empty() && self.reached.is_empty() && self.settings.len() == 1;
        let seconds = self.settings.get(FOR).filter(|_| is_access)?;
        seconds.parse().ok().map(Duration::from_secs)
    }
}

/// That people have let somebody in.
#[derive(Clone, Debug)]
pub struct Admission {
    pub lift: Lift,
    /// For how long.
    pub window: Duration,
}

impl Admission {
    /// Whether it lifts this refusal to let them in.
    pub fn covers(&self, denial: &Denial, policy: &str) -> bool {
        self.lift.covers(denial, policy)
    }
}
