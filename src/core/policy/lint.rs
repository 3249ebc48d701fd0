//! What is suspicious in a policy that loads: tags that no rule knows, rules that never decide,
//! masks that do not fit. Warnings with file and line; what is wrong does not load at all.

use std::collections::{BTreeMap, BTreeSet};

use super::classification::Classification;
use super::engine::{About, Alike, Answer, Asking};
use super::file::{Problem, Source};
use super::{Policy, Subject};
use crate::core::grant::Access;
use crate::core::identity::{Identity, Kind};
use crate::core::mask;
use crate::core::scope::catalog::{Catalog, Column, Relation};
use crate::core::scope::compile;
use crate::core::time::Moment;

/// What can be seen in the files alone.
pub fn files(policy: &Policy, sources: &[Source]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let given = policy.classification().tags();
    let known = known_tags(sources);
    for source in sources {
        for (offset, tag) in tags_of(source) {
            if !given.contains(tag) {
                let message = format!("no entry of classification.toml gives the tag `{tag}`, so this never matches");
                problems.push(Problem::at(source, offset, message));
            }
        }
    }
    for (tag, file, line) in policy.classification().places() {
        if !known.contains(tag) {
            let message = format!("no rule knows the tag `{tag}`, so it changes nothing");
            problems.push(Problem { file: file.to_owned(), line, message });
        }
    }
    problems
}

/// What can be seen with the database at hand. The policy is asked for a person of each group that it
/// names, and for one of all of them, with every access.
pub fn database(
    policy: &Policy,
    sources: &[Source],
    target: &str,
    environment: &str,
    catalog: &Catalog,
) -> Vec<Problem> {
    let mut problems = policy.classification().unmatched(catalog);
    let mut decided: BTreeSet<String> = BTreeSet::new();
    let mut unfit: BTreeMap<(String, String), String> = BTreeMap::new();
    let tagged = tagged(policy.classification(), catalog);
    for identity in people(policy) {
        for access in [Access::Read, Access::Write, Access::Admin] {
            let subject = asking(&identity, target, environment, &catalog.database, access);
            for (rule, mask, relation, column) in masked(policy, &subject, &tagged) {
                if let Err(error) = mask::expression(&mask, compile::masked(relation, column), &catalog.types) {
                    unfit.insert((rule.clone(), format!("{}.{}", relation.name, column.name)), error.to_string());
                }
                decided.insert(rule);
            }
        }
    }
    for rule in policy.rules().filter(|rule| rule.mask.is_some() && !decided.contains(&rule.id)) {
        let message = format!("the rule `{}` masks no column of database `{}`", rule.id, catalog.database);
        problems.extend(place_of(sources, &rule.id, message));
    }
    for ((rule, place), error) in unfit {
        let message = format!("{error}: {place} comes back as NULL");
        problems.extend(place_of(sources, &rule, message));
    }
    problems
}

/// A relation with the tags of the classification: those of the relation are its columns' too.
struct Tagged<'c> {
    relation: &'c Relation,
    own: BTreeSet<String>,
    columns: Vec<BTreeSet<String>>,
}

fn tagged<'c>(classification: &Classification, catalog: &'c Catalog) -> Vec<Tagged<'c>> {
    let tagged = |relation: &'c Relation| {
        let own = classification.relation_tags(&relation.name);
        let mut columns = classification.column_tags(relation);
        columns.iter_mut().for_each(|tags| tags.extend(own.iter().cloned()));
        Tagged { relation, own, columns }
    };
    catalog.relations.values().map(tagged).collect()
}

/// Every mask that the rules give to somebody: the rule, the mask, the relation, its column.
fn masked<'c>(
    policy: &Policy,
    subject: &Subject<'_>,
    tagged: &'c [Tagged<'c>],
) -> Vec<(String, String, &'c Relation, &'c Column)> {
    let asking = Asking::new(policy, subject);
    let mut alike = Alike::new(&asking);
    let mut found = Vec::new();
    for Tagged { relation, own, columns } in tagged {
        let columns = relation.columns.iter().zip(columns);
        let columns = columns.map(|(column, tags)| (column.name.as_str(), column.type_name.as_str(), tags)).collect();
        let about = About { name: &relation.name, kind: relation.kind, tags: own, columns };
        for (column, answer) in relation.columns.iter().zip(alike.questions(about).reveal()) {
            let Answer::Forbidden { rules, .. } = answer else { continue };
            for (rule, mask) in rules.iter().filter_map(|rule| Some((&rule.id, rule.mask.as_ref()?))) {
                found.push((rule.clone(), mask.clone(), *relation, column));
            }
        }
    }
    found
}

/// A person of every group that the rules name, one of all of them, and one of none.
pub(super) fn people(policy: &Policy) -> Vec<Identity> {
    let all: Vec<String> = policy.groups().iter().cloned().collect();
    let mut sets: Vec<Vec<String>> = all.iter().map(|group| vec![group.clone()]).collect();
    sets.extend([all, Vec::new()]);
    let person = |groups: Vec<String>, kind: Kind| Identity {
        kind,
        subject: "lint".to_owned(),
        sub: "lint".to_owned(),
        issuer: "lint".to_owned(),
        groups,
        expires: Moment::from_seconds(0),
    };
    let kinds = [Kind::Human, Kind::Agent, Kind::Workload];
    sets.iter().flat_map(|groups| kinds.map(|kind| person(groups.clone(), kind))).collect()
}

/// One of them who asks for a session.
pub(super) fn asking<'a>(
    identity: &'a Identity,
    target: &'a str,
    environment: &'a str,
    database: &'a str,
    access: Access,
) -> Subject<'a> {
    Subject {
        identity,
        target,
        environment,
        database,
        access,
        agent: (identity.kind == Kind::Agent).then_some("lint"),
        reason: Some("lint"),
        ticket: Some("lint"),
    }
}

/// Tags in `tags.contains("…")` and its kin, with the place of each.
fn tags_of(source: &Source) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    if !source.name.ends_with(".cedar") {
        return found;
    }
    for (at, start) in source.text.match_indices("tags.contains").filter(|(at, _)| !is_comment(&source.text, *at)) {
        let begin = at + start.len();
        let call = source.text.get(begin..).unwrap_or("");
        let call = call.split_once(')').map_or(call, |(call, _)| call);
        let mut offset = begin;
        for (index, piece) in call.split('"').enumerate() {
            if index % 2 == 1 {
                found.push((offset, piece));
            }
            offset += piece.len() + 1;
        }
    }
    found
}

/// Whether what stands there is behind `//` in its line, outside of quotes.
fn is_comment(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    let (mut is_quoted, mut letters) = (false, line.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if is_quoted => drop(letters.next()),
            '"' => is_quoted = !is_quoted,
            '/' if !is_quoted && letters.peek() == Some(&'/') => return true,
            _ => {}
        }
    }
    false
}

fn known_tags(sources: &[Source]) -> BTreeSet<&str> {
    sources.iter().flat_map(tags_of).map(|(_, tag)| tag).collect()
}

fn place_of(sources: &[Source], rule: &str, message: String) -> Option<Problem> {
    let id = format!("@id(\"{rule}\")");
    let source = sources.iter().find(|source| source.text.contains(&id))?;
    Some(Problem::at(source, source.text.find(&id)?, message))
}

impl Classification {
    /// Every tag that is given.
    fn tags(&self) -> BTreeSet<&str> {
        self.places().into_iter().map(|(tag, _, _)| tag).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::policy::pack;
    use crate::core::scope::RelationName;
    use crate::core::scope::catalog::RelationKind;

    const RULES: &str = "@id(\"a\")\npermit (principal in Group::\"staff\", action, resource);\n\
        @id(\"m\") @mask(\"email\")\nforbid (principal, action == Action::\"reveal\", resource)\n\
        when { resource.tags.contains(\"mail\") };\n\
        @id(\"n\") @mask(\"null\")\nforbid (principal, action == Action::\"reveal\", resource)\n\
        when { resource.tags.containsAny([\"secret\", \"key\"]) };";

    fn sources(classification: &str) -> Vec<Source> {
        vec![Source::new("a.cedar", RULES), Source::new("classification.toml", classification)]
    }

    fn said(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tags_must_be_given_and_known() {
        let sources = sources("[[column]]\nmatch = \"a.b.c\"\ntags = [\"mail\", \"secret\", \"mial\"]");
        let policy = Policy::parse(&sources).expect("loads");
        assert_eq!(
            said(&files(&policy, &sources)),
            [
                "a.cedar:8: no entry of classification.toml gives the tag `key`, so this never matches",
                "classification.toml:2: no rule knows the tag `mial`, so it changes nothing",
            ]
        );
    }

    #[test]
    fn a_rule_in_a_comment_is_none() {
        let mut sources = sources("[[column]]\nmatch = \"a.b.c\"\ntags = [\"mail\", \"secret\", \"key\"]");
        let policy = Policy::parse(&sources).expect("loads");
        assert_eq!(said(&files(&policy, &sources)), Vec::<String>::new());
        for line in ["// when { resource.tags.contains(\"other\") }", "@note(\"//\") // tags.contains(\"other\")"] {
            assert!(is_comment(line, line.find("tags").expect("there")), "{line}");
        }
        assert!(!is_comment("@note(\"https://x\") tags.contains(\"a\")", 21));
        sources[0] = Source::new(
            "a.cedar",
            &RULES.replace("when { resource.tags.contains(\"mail\") }", "// tags.contains(\"mail\")\n"),
        );
        let found = said(&files(&policy, &sources));
        assert!(found.iter().any(|one| one.contains("no rule knows the tag `mail`")), "{found:?}");
    }

    #[test]
    fn with_the_database_at_hand_rules_that_mask_nothing_and_masks_that_do_not_fit_are_told() {
        let sources = sources(
            "[[column]]\nmatch = \"public.t.number\"\ntags = [\"mail\"]\n[[column]]\nmatch = \"public.u.*\"\ntags = [\"key\", \"secret\"]",
        );
        let policy = Policy::parse(&sources).expect("loads");
        let column = Column {
            name: "number".into(),
            number: 1,
            type_name: "integer".into(),
            type_oid: 23,
            not_null: false,
            has_default: false,
            is_generated: false,
            is_computed: false,
            generated_from: Vec::new(),
        };
        let relation = Relation {
            oid: 1,
            name: RelationName::new("public", "t"),
            kind: RelationKind::Table,
            columns: vec![column],
            parents: Vec::new(),
            depends_on: Vec::new(),
            has_row_security: false,
            has_user_policies: false,
            definition: None,
            estimated_rows: 0,
            sequences: Vec::new(),
            unique_keys: Vec::new(),
            is_inert: false,
            constraints: Vec::new(),
        };
        let catalog = Catalog {
            database: "shop".into(),
            relations: BTreeMap::from([(relation.name.clone(), relation)]),
            ..Catalog::default()
        };
        assert_eq!(
            said(&database(&policy, &sources, "prod", "production", &catalog)),
            [
                "classification.toml:5: `public.u.*` matches nothing in database `shop`",
                "a.cedar:6: the rule `n` masks no column of database `shop`",
                "a.cedar:3: the mask `email` cannot give a value of type `integer`: it takes text: public.t.number comes back as NULL",
            ]
        );
    }

    #[test]
    fn packs_have_no_warning_of_their_own() {
        for name in pack::NAMES {
            let (policy, sources) = (Policy::pack(name).expect("pack"), pack::sources(name).expect("pack"));
            assert_eq!(said(&files(&policy, &sources)), [""; 0], "{name}");
        }
    }
}
