//! Types that a database has made for itself, as far as masks must know them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::shape::Shape;

/// By the name that `format_type` gives, with the schema where it is not PostgreSQL's own.
pub type Types = BTreeMap<String, OwnType>;

/// What a type is made of. Others are named as `format_type` names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnType {
    Enum {
        labels: Vec<String>,
    },
    /// A composite type, or the rows of a relation.
    Composite {
        fields: Vec<Field>,
    },
    Domain {
        over: String,
        condition: Condition,
        /// What `redact` puts in place of its values: see [`STAND_INS`].
        #[serde(default)]
        stand_in: Option<String>,
    },
    /// `is_usual`: its bounds have the order that their type has by default.
    Range {
        of: String,
        is_usual: bool,
    },
    Multirange {
        range: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub type_name: String,
}

/// What may stand for a text that is hidden, where a domain asks more of it than to be one: the first
/// that the domain takes. None of them could be taken for somebody's.
pub const STAND_INS: [&str; 13] = [
    "***",
    "***@***.***",
    "redacted@redacted.invalid",
    "https://redacted.invalid/",
    "redacted",
    "REDACTED",
    "xxx",
    "XXX",
    "XX",
    "000-00-0000",
    "+10000000000",
    "0000000000000000",
    "00000",
];

/// The domains of text whose conditions can be asked for a stand-in: name, type, condition. Where the
/// type below is another of the database's own, asking could fail.
pub fn guarded_texts(types: &Types) -> Vec<(&str, &str, &str)> {
    let mut found = Vec::new();
    for (name, own) in types {
        match own {
            OwnType::Domain { over, condition: Condition::Known(condition), .. } if is_text(over, types) => {
                found.push((name.as_str(), over.as_str(), condition.as_str()));
            }
            OwnType::Domain { .. }
            | OwnType::Enum { .. }
            | OwnType::Composite { .. }
            | OwnType::Range { .. }
            | OwnType::Multirange { .. } => {}
        }
    }
    found
}

fn is_text(type_name: &str, types: &Types) -> bool {
    let is_own = type_name.contains('.') || types.contains_key(type_name);
    !is_own && matches!(Shape::of(type_name, types), Shape::Text { .. })
}

/// What a domain asks of its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nothing, so that it takes what the type below takes.
    None,
    /// This, of `VALUE`; it never fails, whatever the value. NOT NULL alone is `true`.
    Known(String),
    /// Something that could fail on a mask's value, or calls what is not PostgreSQL's own.
    Unknown,
}
