//! Who is at the other end: what is left of a token once it has been verified.

use serde::{Deserialize, Serialize};

use crate::core::time::Moment;

/// What kind of principal a person's token, an agent's or a job's token makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A person.
    Human,
    /// A program that acts for a person.
    Agent,
    /// A job that acts for nobody, such as a pipeline.
    Workload,
}

impl Kind {
    /// The word used in JSON and in audit lines.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Agent => "agent",
            Self::Workload => "workload",
        }
    }
}

/// A verified principal. Only [`crate::core::claims`] makes one from a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub kind: Kind,
    /// The name that policies and records use: the e-mail address where there is one, else `sub`.
    pub subject: String,
    /// The issuer's own identifier of the principal, unique for that issuer.
    pub sub: String,
    pub issuer: String,
    pub groups: Vec<String>,
    /// When the token that proved this ends.
    pub expires: Moment,
}

impl Identity {
    /// Issuer and subject in one text: what tells one principal from another.
    pub fn principal(&self) -> String {
        format!("{} {}", self.issuer, self.sub)
    }
}

/// What an acting program says of itself. Recorded as `declared`: it grants nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}
