//! Types that a database has made for itself, as far as masks must know them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
