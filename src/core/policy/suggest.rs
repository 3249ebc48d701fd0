//! What a column probably holds, from its name and type; and the entry that would say so.
//!
//! A guess for a person to look at, never a decision: `dbgate classify` writes it down for review,
//! `dbgate doctor` reports columns that look sensitive and are named by no entry.

use serde::Serialize;

use crate::core::scope::RelationName;
use crate::core::scope::catalog::RelationKind;

/// What a column looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspicion {
    Secret,
    Card,
    Account,
    NationalId,
    Email,
    Phone,
    Birth,
    Address,
    Network,
    Person,
    Private,
}

impl Suspicion {
    /// For a person to read: "its name says …".
    pub fn word(self) -> &'static str {
        match self {
            Self::Secret => "a password or key",
            Self::Card => "a card number",
            Self::Account => "a bank account",
            Self::NationalId => "a national or tax number",
            Self::Email => "an e-mail address",
            Self::Phone => "a telephone number",
            Self::Birth => "a date of birth",
            Self::Address => "a postal address",
            Self::Network => "a network address",
            Self::Person => "a person's name",
            Self::Private => "something private",
        }
    }

    /// The tags that the built-in rules know.
    pub fn tags(self) -> &'static [&'static str] {
        match self {
            Self::Secret => &["secret"],
            Self::Email => &["pii", "email"],
            Self::Card
            | Self::Account
            | Self::NationalId
            | Self::Phone
            | Self::Birth
            | Self::Address
            | Self::Network
            | Self::Person
            | Self::Private => &["pii"],
        }
    }
}

/// What kind of values a type holds, as far as a guess needs it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Text,
    Number,
    Moment,
    Network,
    Other,
}

fn holds(type_name: &str) -> Holds {
    let base = type_name.split(['(', '[']).next().unwrap_or(type_name).trim();
    match base {
        "text" | "character varying" | "character" | "bpchar" | "name" | "bytea" | "uuid" | "json" | "jsonb" => {
            Holds::Text
        }
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" | "money" => Holds::Number,
        "inet" | "cidr" | "macaddr" | "macaddr8" => Holds::Network,
        other if other.starts_with("timestamp") || other == "date" => Holds::Moment,
        "boolean" | "interval" | "time without time zone" | "time with time zone" | "oid" | "tsvector" => Holds::Other,
        // Domains and types of the database's own are mostly made for such values.
        _ => Holds::Text,
    }
}

/// Words that, beside a telling one, say that the column holds something about it, not the thing.
const ABOUT: [&str; 22] = [
    "count",
    "type",
    "status",
    "verified",
    "enabled",
    "template",
    "subject",
    "kind",
    "format",
    "version",
    "length",
    "at",
    "required",
    "valid",
    "sent",
    "expires",
    "expiry",
    "confirmed",
    "policy",
    "limit",
    "id",
    "domain",
];

/// A run of words, the types it tells something about, and what.
type Telling = (&'static [&'static str], &'static [Holds], Suspicion);

const TEXT: &[Holds] = &[Holds::Text];
const TEXT_OR_NUMBER: &[Holds] = &[Holds::Text, Holds::Number];
const TEXT_OR_MOMENT: &[Holds] = &[Holds::Text, Holds::Moment];
const ANY_VALUE: &[Holds] = &[Holds::Text, Holds::Number, Holds::Moment];

/// The first that fits decides, so what weighs more stands first.
const TELLING: [Telling; 67] = [
    (&["password"], TEXT, Suspicion::Secret),
    (&["passwd"], TEXT, Suspicion::Secret),
    (&["pwd"], TEXT, Suspicion::Secret),
    (&["passphrase"], TEXT, Suspicion::Secret),
    (&["secret"], TEXT, Suspicion::Secret),
    (&["token"], TEXT, Suspicion::Secret),
    (&["api", "key"], TEXT, Suspicion::Secret),
    (&["apikey"], TEXT, Suspicion::Secret),
    (&["access", "key"], TEXT, Suspicion::Secret),
    (&["private", "key"], TEXT, Suspicion::Secret),
    (&["credential"], TEXT, Suspicion::Secret),
    (&["credentials"], TEXT, Suspicion::Secret),
    (&["otp"], TEXT_OR_NUMBER, Suspicion::Secret),
    (&["totp"], TEXT, Suspicion::Secret),
    (&["pin"], TEXT_OR_NUMBER, Suspicion::Secret),
    (&["cvv"], TEXT_OR_NUMBER, Suspicion::Secret),
    (&["cvc"], TEXT_OR_NUMBER, Suspicion::Secret),
    (&["jwt"], TEXT, Suspicion::Secret),
    (&["card", "number"], TEXT_OR_NUMBER, Suspicion::Card),
    (&["card", "no"], TEXT_OR_NUMBER, Suspicion::Card),
    (&["credit", "card"], TEXT_OR_NUMBER, Suspicion::Card),
    (&["creditcard"], TEXT_OR_NUMBER, Suspicion::Card),
    (&["cc", "number"], TEXT_OR_NUMBER, Suspicion::Card),
    (&["pan"], TEXT_OR_NUMBER, Suspicion::Card),
    (&["iban"], TEXT, Suspicion::Account),
    (&["account", "number"], TEXT_OR_NUMBER, Suspicion::Account),
    (&["bank", "account"], TEXT_OR_NUMBER, Suspicion::Account),
    (&["routing", "number"], TEXT_OR_NUMBER, Suspicion::Account),
    (&["sort", "code"], TEXT_OR_NUMBER, Suspicion::Account),
    (&["ssn"], TEXT_OR_NUMBER, Suspicion::NationalId),
    (&["social", "security"], TEXT_OR_NUMBER, Suspicion::NationalId),
    (&["national", "id"], TEXT_OR_NUMBER, Suspicion::NationalId),
    (&["tax", "id"], TEXT_OR_NUMBER, Suspicion::NationalId),
    (&["tax", "number"], TEXT_OR_NUMBER, Suspicion::NationalId),
    (&["passport"], TEXT_OR_NUMBER, Suspicion::NationalId),
    (&["driver", "license"], TEXT_OR_NUMBER, Suspicion::NationalId),
    (&["drivers", "license"], TEXT_OR_NUMBER, Suspicion::NationalId),
    (&["driving", "licence"], TEXT_OR_NUMBER, Suspicion::NationalId),
    (&["email"], TEXT, Suspicion::Email),
    (&["e", "mail"], TEXT, Suspicion::Email),
    (&["mail"], TEXT, Suspicion::Email),
    (&["phone"], TEXT_OR_NUMBER, Suspicion::Phone),
    (&["telephone"], TEXT_OR_NUMBER, Suspicion::Phone),
    (&["mobile"], TEXT_OR_NUMBER, Suspicion::Phone),
    (&["msisdn"], TEXT_OR_NUMBER, Suspicion::Phone),
    (&["fax"], TEXT_OR_NUMBER, Suspicion::Phone),
    (&["dob"], TEXT_OR_MOMENT, Suspicion::Birth),
    (&["birth"], ANY_VALUE, Suspicion::Birth),
    (&["birthday"], TEXT_OR_MOMENT, Suspicion::Birth),
    (&["birthdate"], TEXT_OR_MOMENT, Suspicion::Birth),
    (&["born"], TEXT_OR_MOMENT, Suspicion::Birth),
    (&["ip"], TEXT, Suspicion::Network),
    (&["street"], TEXT, Suspicion::Address),
    (&["address"], TEXT, Suspicion::Address),
    (&["postcode"], TEXT, Suspicion::Address),
    (&["postal", "code"], TEXT, Suspicion::Address),
    (&["first", "name"], TEXT, Suspicion::Person),
    (&["last", "name"], TEXT, Suspicion::Person),
    (&["full", "name"], TEXT, Suspicion::Person),
    (&["given", "name"], TEXT, Suspicion::Person),
    (&["family", "name"], TEXT, Suspicion::Person),
    (&["surname"], TEXT, Suspicion::Person),
    (&["salary"], TEXT_OR_NUMBER, Suspicion::Private),
    (&["religion"], TEXT, Suspicion::Private),
    (&["ethnicity"], TEXT, Suspicion::Private),
    (&["diagnosis"], TEXT, Suspicion::Private),
    (&["gender"], TEXT, Suspicion::Private),
];

/// What a column's name and type say of it.
pub fn by_name(column: &str, type_name: &str) -> Option<Suspicion> {
    let words = words(column);
    let kind = holds(type_name);
    if kind == Holds::Network {
        return Some(Suspicion::Network);
    }
    let telling = TELLING.iter().find(|(run, types, _)| types.contains(&kind) && says(&words, run))?;
    // `tax_id` tells with a word that elsewhere only tells about: words of the run itself do not count.
    let is_about = words.iter().any(|word| ABOUT.contains(&word.as_str()) && !telling.0.contains(&word.as_str()));
    (!is_about).then_some(telling.2)
}

fn says(words: &[String], run: &[&str]) -> bool {
    words.windows(run.len()).any(|window| window.iter().zip(run).all(|(word, other)| word == other))
}

/// `homeEmail2`, `home_email` and `HOME-EMAIL` are the same words.
fn words(name: &str) -> Vec<String> {
    let (mut words, mut word, mut was_lower) = (Vec::new(), String::new(), false);
    for letter in name.chars() {
        let begins = !letter.is_alphabetic() || letter.is_uppercase() && was_lower;
        if begins && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if letter.is_alphabetic() {
            word.extend(letter.to_lowercase());
        }
        was_lower = letter.is_lowercase();
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Whether columns of such a relation can be classified to any effect.
pub fn holds_rows(kind: RelationKind) -> bool {
    match kind {
        RelationKind::Table | RelationKind::Partitioned | RelationKind::Foreign | RelationKind::MaterializedView => {
            true
        }
        // A view takes its columns' classes from what it reads; a sequence holds a number.
        RelationKind::View | RelationKind::Sequence => false,
    }
}

/// The lines of `classification.toml` for a column.
pub fn entry(relation: &RelationName, column: &str, tags: &[&str]) -> Vec<String> {
    let pattern = format!("{}.{}.{}", part(&relation.schema), part(&relation.name), part(column));
    let tags: Vec<String> = tags.iter().map(|tag| format!("\"{tag}\"")).collect();
    vec!["[[column]]".to_owned(), format!("match = {}", toml_text(&pattern)), format!("tags = [{}]", tags.join(", "))]
}

/// A part with a dot in it stands in quotes.
fn part(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}

fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_types_together_tell() {
        let cases = [
            ("email", "text", Some(Suspicion::Email)),
            ("workEmail", "character varying(80)", Some(Suspicion::Email)),
            ("email_verified", "boolean", None),
            ("email_sent_at", "timestamp with time zone", None),
            ("email_template", "text", None),
            ("password_hash", "text", Some(Suspicion::Secret)),
            ("token_count", "integer", None),
            ("refresh_token", "text", Some(Suspicion::Secret)),
            ("token_type", "text", None),
            ("tax_id", "public.us_tax_id", Some(Suspicion::NationalId)),
            ("ssn", "bigint", Some(Suspicion::NationalId)),
            ("date_of_birth", "date", Some(Suspicion::Birth)),
            ("born", "integer", None),
            ("ip_address", "inet", Some(Suspicion::Network)),
            ("ip_address", "text", Some(Suspicion::Network)),
            ("shipping_address", "jsonb", Some(Suspicion::Address)),
            ("address_id", "integer", None),
            ("phone2", "text", Some(Suspicion::Phone)),
            ("company", "text", None),
            ("span", "text", None),
            ("pan", "text", Some(Suspicion::Card)),
            ("first_name", "text", Some(Suspicion::Person)),
            ("name", "text", None),
            ("shipping", "text", None),
        ];
        for (name, type_name, expected) in cases {
            assert_eq!(by_name(name, type_name), expected, "{name} {type_name}");
        }
    }

    #[test]
    fn an_entry_is_read_back_as_the_column_it_was_made_for() {
        use crate::core::policy::classification::Classification;
        use crate::core::policy::file::Source;
        for column in ["email", "a.b", "it's", "back\\slash"] {
            let name = RelationName::new("public", "my.table");
            let text = entry(&name, column, &["pii"]).join("\n");
            let read = Classification::parse(&Source::new("classification.toml", &text)).expect(&text);
            assert!(read.names(&name, column), "{text}");
        }
    }
}
