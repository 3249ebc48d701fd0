//! What an approval is for. Any difference makes it another statement.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::core::encoding;
use crate::core::grant::Access;

/// Everything that decides what the statement will do, as far as the gateway can know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Issuer and subject of whoever asks.
    pub principal: String,
    /// The program that says it acts for them.
    pub agent: Option<String>,
    pub target: String,
    pub database: String,
    pub access: Access,
    pub statement: String,
    /// Formats, values and result formats of a Bind message, base 64; none without one.
    pub parameters: Option<String>,
    /// Settings that change what a text means: search path, time zone, date style and kin.
    pub settings: BTreeMap<String, String>,
    /// What the names in the statement mean right now.
    pub relations: Vec<BoundRelation>,
    /// What it reaches, kind by kind, and a digest of how all of that is defined: functions, triggers,
    /// defaults, constraints, rules, relations that others lead to.
    #[serde(default)]
    pub reached: BTreeMap<String, String>,
    /// Digest of the policy it was judged by.
    pub policy: String,
}

/// A name, the relation it means, and a digest of how that is defined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BoundRelation {
    pub name: String,
    /// 0 where it means nothing.
    pub oid: u32,
    pub definition: String,
}

impl Binding {
    /// SHA-256, hex: equal bindings and only they have the same.
    pub fn digest(&self) -> String {
        let text = serde_json::to_string(self).expect("text, numbers and maps of text are always JSON");
        Self::digest_of(&text)
    }

    /// SHA-256 of the statement's text, hex.
    pub fn statement_digest(&self) -> String {
        Self::digest_of(&self.statement)
    }

    /// SHA-256 of a text, hex.
    pub fn digest_of(text: &str) -> String {
        encoding::hex(&Sha256::digest(text.as_bytes()))
    }

    /// OIDs of the relations that it names, as far as they exist.
    pub fn oids(&self) -> Vec<u32> {
        self.relations.iter().map(|relation| relation.oid).filter(|oid| *oid != 0).collect()
    }

    /// What is not the same in `other`, for the person; empty where all is.
    pub fn difference(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut differs = |is_same: bool, what: &str| {
            if !is_same {
                found.push(what.to_owned());
            }
        };
        differs(self.principal == other.principal, "the person");
        differs(self.agent == other.agent, "the agent");
        differs(self.target == other.target && self.database == other.database, "the database");
        differs(self.access == other.access, "the access");
        differs(self.statement == other.statement, "the statement");
        differs(self.parameters == other.parameters, "the parameters");
        differs(self.policy == other.policy, "the policy");
        for kind in either(&self.reached, &other.reached) {
            differs(self.reached.get(kind) == other.reached.get(kind), &format!("{kind} that it reaches"));
        }
        for name in either(&self.settings, &other.settings) {
            differs(self.settings.get(name) == other.settings.get(name), &format!("the setting {name}"));
        }
        for relation in &self.relations {
            let is_same = other.relations.contains(relation);
            differs(is_same, &format!("what {} is", relation.name));
        }
        found
    }
}

/// The names in one of them or in both.
fn either<'a>(one: &'a BTreeMap<String, String>, other: &'a BTreeMap<String, String>) -> BTreeSet<&'a String> {
    one.keys().chain(other.keys()).collect()
}
