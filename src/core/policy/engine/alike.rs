//! Which relations and columns no rule can tell apart, so that a database of ten thousand relations
//! is asked about a few times only.
//!
//! An answer depends on what the rules look at: some attributes of the resource, and whether it, or
//! what it is in, is one of those that they name by id. Where all of that is equal the answer is, too.
//! What cannot be told from a rule's form counts as looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cedar_policy::Policy as Rule;
use serde_json::Value;

use super::question::{Answer, Asking, RelationEntities};
use crate::core::scope::RelationName;
use crate::core::scope::catalog::RelationKind;

/// The actions that are asked about relations and columns.
const ACTIONS: [&str; 6] = ["read", "insert", "update", "delete", "reveal", "guess"];

/// What rules can see of the resources of each action.
pub struct Sight(BTreeMap<&'static str, Seen>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    attributes: BTreeSet<String>,
    /// Ids of schemas, relations and columns that are named, with their types.
    ids: BTreeSet<(String, String)>,
    /// A rule cannot be read: everything is seen.
    everything: bool,
}

impl Sight {
    pub fn of<'r>(rules: impl Iterator<Item = &'r Rule>) -> Self {
        let mut sight: BTreeMap<&'static str, Seen> = ACTIONS.map(|action| (action, Seen::default())).into();
        for rule in rules {
            let form = rule.to_json().ok();
            for (action, seen) in &mut sight {
                match &form {
                    None => seen.everything = true,
                    Some(form) if concerns(form, action) => seen.look(form),
                    Some(_) => {}
                }
            }
        }
        Self(sight)
    }
}

/// Whether the scope of a rule lets it decide about an action.
fn concerns(rule: &Value, action: &str) -> bool {
    let scope = &rule["action"];
    let is_it = |entity: &Value| entity["id"] == action;
    match scope["op"].as_str() {
        Some("==") => is_it(&scope["entity"]),
        Some("in") => match scope["entities"].as_array() {
            Some(entities) => entities.iter().any(is_it),
            // The vocabulary has no groups of actions, but this form is theirs.
            None => true,
        },
        Some(_) | None => true,
    }
}

impl Seen {
    /// Looks through a rule's form as JSON: every attribute that is asked for, of whatever is not
    /// plainly the principal or the context, and every entity that is named and may be a resource or
    /// what one is in. Databases and targets are the same for all.
    fn look(&mut self, form: &Value) {
        match form {
            Value::Array(items) => items.iter().for_each(|item| self.look(item)),
            Value::Object(members) => {
                if let (Some(Value::String(kind)), Some(Value::String(id))) = (members.get("type"), members.get("id"))
                    && matches!(kind.as_str(), "Schema" | "Relation" | "Column")
                {
                    self.ids.insert((kind.clone(), id.clone()));
                }
                for access in [".", "has"].iter().filter_map(|form| members.get(*form)) {
                    match access["attr"].as_str() {
                        Some(name) if !is_elsewhere(&access["left"]) => _ = self.attributes.insert(name.to_owned()),
                        Some(_) => {}
                        None => self.everything = true,
                    }
                }
                members.values().for_each(|member| self.look(member));
            }
            Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
        }
    }

    fn text<'c>(&self, attribute: &str, text: &'c str) -> &'c str {
        if self.everything || self.attributes.contains(attribute) { text } else { "" }
    }

    fn names(&self, kind: &str, id: &str) -> bool {
        self.everything || self.ids.contains(&(kind.to_owned(), id.to_owned()))
    }
}

/// Whether an expression is the principal, the context, or an attribute of theirs.
fn is_elsewhere(expression: &Value) -> bool {
    match expression["Var"].as_str() {
        Some(name) => matches!(name, "principal" | "context"),
        None => expression.get(".").is_some_and(|inner| is_elsewhere(&inner["left"])),
    }
}

/// What the rules can see of a resource; equal ones get equal answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Looks<'c> {
    action: &'static str,
    /// Schema, relation, name and kind, as far as they are looked at.
    texts: [&'c str; 4],
    tags: Option<&'c BTreeSet<String>>,
    /// The schema's, relation's and column's ids, as far as they are named.
    ids: [Option<String>; 3],
}

/// Answers that were given about one principal and database.
pub(crate) struct Alike<'a, 'c> {
    asking: &'a Asking<'a>,
    answers: HashMap<Looks<'c>, Answer<'a>>,
    filters: HashMap<Looks<'c>, Result<Option<String>, String>>,
}

/// One relation with its columns: name, type, tags.
#[derive(Clone, Debug)]
pub(crate) struct About<'c> {
    pub name: &'c RelationName,
    pub kind: RelationKind,
    pub tags: &'c BTreeSet<String>,
    pub columns: Vec<(&'c str, &'c str, &'c BTreeSet<String>)>,
}

/// A relation that is asked about; made of entities only where an answer is not known.
pub(crate) struct Questions<'q, 'a, 'c> {
    alike: &'q mut Alike<'a, 'c>,
    about: About<'c>,
    entities: Option<RelationEntities>,
}

impl<'a, 'c> Alike<'a, 'c> {
    pub fn new(asking: &'a Asking<'a>) -> Self {
        Self { asking, answers: HashMap::new(), filters: HashMap::new() }
    }

    pub fn questions(&mut self, about: About<'c>) -> Questions<'_, 'a, 'c> {
        Questions { alike: self, about, entities: None }
    }
}

impl<'a, 'c> Questions<'_, 'a, 'c> {
    /// [`Asking::on`]
    pub fn on(&mut self, action: &'static str) -> Answer<'a> {
        let looks = self.looks(action, None);
        if let Some(answer) = self.alike.answers.get(&looks) {
            return answer.clone();
        }
        let asking = self.alike.asking;
        let answer = asking.on(action, self.entities(), None);
        self.alike.answers.insert(looks, answer.clone());
        answer
    }

    /// [`Asking::filters`]
    pub fn filters(&mut self) -> Result<Option<String>, String> {
        let looks = self.looks("read", None);
        if let Some(filter) = self.alike.filters.get(&looks) {
            return filter.clone();
        }
        let asking = self.alike.asking;
        let filter = asking.filters(self.entities());
        self.alike.filters.insert(looks, filter.clone());
        filter
    }

    /// [`Asking::on_column`] about being seen, in the order of the columns
    pub fn reveal(&mut self) -> Vec<Answer<'a>> {
        (0..self.about.columns.len()).map(|at| self.of_column("reveal", at)).collect()
    }

    /// [`Asking::on_column`] about guessing
    pub fn guess(&mut self, at: usize) -> Answer<'a> {
        self.of_column("guess", at)
    }

    fn of_column(&mut self, action: &'static str, at: usize) -> Answer<'a> {
        let looks = self.looks(action, Some(at));
        if let Some(answer) = self.alike.answers.get(&looks) {
            return answer.clone();
        }
        let asking = self.alike.asking;
        let answer = asking.on_column(action, self.entities(), at);
        self.alike.answers.insert(looks, answer.clone());
        answer
    }

    fn entities(&mut self) -> &RelationEntities {
        let (asking, about) = (self.alike.asking, &self.about);
        self.entities.get_or_insert_with(|| asking.relation(about.name, Some(about.kind), about.tags, &about.columns))
    }

    /// What the rules can see of the relation, or of one of its columns.
    fn looks(&self, action: &'static str, column: Option<usize>) -> Looks<'c> {
        let About { name, kind, tags, columns } = &self.about;
        let column = column.and_then(|at| columns.get(at));
        let sight = self.alike.asking.sight();
        let seen = sight.0.get(action).expect("only actions of the list are asked about");
        let (own, own_kind, own_tags) = match column {
            Some((own, type_name, tags)) => (*own, *type_name, *tags),
            None => (name.name.as_str(), kind.word(), *tags),
        };
        let texts = [
            seen.text("schema", &name.schema),
            if column.is_some() { seen.text("relation", &name.name) } else { "" },
            seen.text("name", own),
            seen.text("kind", own_kind),
        ];
        let is_named = seen.everything || !seen.ids.is_empty();
        let ids = if is_named { self.ids(seen, column.map(|_| own)) } else { [None, None, None] };
        Looks { action, texts, tags: (seen.everything || seen.attributes.contains("tags")).then_some(own_tags), ids }
    }

    fn ids(&self, seen: &Seen, column: Option<&str>) -> [Option<String>; 3] {
        let (schema, relation, column) = self.alike.asking.ids(self.about.name, column);
        let named = |kind: &str, id: Option<String>| id.filter(|id| seen.names(kind, id));
        [named("Schema", Some(schema)), named("Relation", Some(relation)), named("Column", column)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::grant::Access;
    use crate::core::identity::{Identity, Kind};
    use crate::core::policy::file::Source;
    use crate::core::policy::{Policy, Subject, pack};
    use crate::core::time::Moment;

    /// Rules that look at resources in every way there is.
    const RULES: [&str; 12] = [
        "permit (principal, action, resource);",
        "forbid (principal, action == Action::\"read\", resource) when { resource.name like \"a*\" };",
        "forbid (principal, action == Action::\"reveal\", resource) when { resource.tags.contains(\"pii\") };",
        "forbid (principal, action == Action::\"reveal\", resource) \
         when { resource.kind == \"text\" && resource.relation != \"b\" };",
        "forbid (principal, action in [Action::\"insert\", Action::\"update\"], resource in Schema::\"t/d/s1\");",
        "forbid (principal, action == Action::\"delete\", resource == Relation::\"t/d/s0/b\");",
        "forbid (principal, action == Action::\"reveal\", resource) \
         when { [Column::\"t/d/s0/a/x\", Column::\"t/d/s1/b/y\"].contains(resource) };",
        "forbid (principal, action == Action::\"reveal\", resource) when { resource in Relation::\"t/d/s1/c\" };",
        "forbid (principal, action == Action::\"read\", resource) when { resource[\"schema\"] == \"s1\" };",
        "forbid (principal, action == Action::\"update\", resource) \
         when { (if context.access == \"read\" then resource else resource).kind == \"view\" };",
        "@filter(\"true\")\nforbid (principal, action == Action::\"read\", resource) when { resource.tags.contains(\"own\") };",
        // An attribute that the vocabulary gives it in some sessions only.
        "forbid (principal, action == Action::\"delete\", resource) \
         when { context has ticket && resource.name == context.ticket };",
    ];

    fn policy(chosen: usize) -> Policy {
        let rules = RULES.iter().enumerate().filter(|(at, _)| chosen & (1 << at) != 0 || *at == 0);
        let text: String = rules.map(|(at, rule)| format!("@id(\"r{at}\")\n{rule}\n")).collect();
        Policy::parse(&[Source::new("rules.cedar", &text)]).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn person() -> Identity {
        Identity {
            kind: Kind::Human,
            subject: "ana".into(),
            sub: "ana".into(),
            issuer: "i".into(),
            groups: vec!["engineers".into()],
            expires: Moment::from_seconds(0),
        }
    }

    fn subject(identity: &Identity) -> Subject<'_> {
        Subject {
            identity,
            target: "t",
            environment: "production",
            database: "d",
            access: Access::Write,
            agent: None,
            reason: None,
            ticket: Some("a"),
        }
    }

    fn tags(at: usize) -> BTreeSet<String> {
        ["pii", "own", "other"]
            .iter()
            .enumerate()
            .filter(|(bit, _)| at & (1 << bit) != 0)
            .map(|(_, t)| (*t).into())
            .collect()
    }

    #[test]
    fn what_is_answered_alike_is_what_each_would_be_answered() {
        let identity = person();
        let all: Vec<BTreeSet<String>> = (0..8).map(tags).collect();
        let names: Vec<RelationName> = ["s0", "s1"]
            .iter()
            .flat_map(|schema| ["a", "ab", "b", "c"].map(|name| RelationName::new(schema, name)))
            .collect();
        // Each rule by itself, each pair, and all of them.
        let mut choices: Vec<usize> =
            (0..RULES.len()).flat_map(|a| (0..=a).map(move |b| (1 << a) | (1 << b))).collect();
        choices.push((1 << RULES.len()) - 1);
        for chosen in choices {
            let policy = policy(chosen);
            let subject = subject(&identity);
            let asking = Asking::new(&policy, &subject);
            let mut alike = Alike::new(&asking);
            for (at, name) in names.iter().chain(&names).enumerate() {
                let kind = if at % 3 == 0 { RelationKind::View } else { RelationKind::Table };
                let tags = |index: usize| all.get((at * 5 + index * 3) % 8).expect("eight");
                let columns = vec![("x", "text", tags(1)), ("y", "integer", tags(2)), ("z", "text", tags(3))];
                let entities = asking.relation(name, Some(kind), tags(0), &columns);
                let mut questions = alike.questions(About { name, kind, tags: tags(0), columns });
                for action in ["read", "insert", "update", "delete"] {
                    let alone = asking.on(action, &entities, None);
                    assert_eq!(
                        format!("{:?}", questions.on(action)),
                        format!("{alone:?}"),
                        "{chosen:b} {action} {name}"
                    );
                }
                let alone: Vec<Answer<'_>> = (0..3).map(|at| asking.on_column("reveal", &entities, at)).collect();
                assert_eq!(format!("{:?}", questions.reveal()), format!("{alone:?}"), "{chosen:b} {name}");
                let alone = asking.on_column("guess", &entities, 1);
                assert_eq!(format!("{:?}", questions.guess(1)), format!("{alone:?}"), "{chosen:b} {name}");
                assert_eq!(questions.filters(), asking.filters(&entities), "{chosen:b} {name}");
            }
        }
    }

    #[test]
    fn rules_about_tags_are_asked_about_tags_only() {
        let policy = Policy::pack("production").expect("a pack");
        assert!(pack::NAMES.contains(&"production"));
        let (identity, none) = (person(), BTreeSet::new());
        let subject = subject(&identity);
        let asking = Asking::new(&policy, &subject);
        let mut alike = Alike::new(&asking);
        let names: Vec<RelationName> = (0..500).map(|at| RelationName::new("public", &format!("m{at}"))).collect();
        for name in &names {
            let columns = vec![("id", "integer", &none), ("email", "text", &none)];
            let mut questions = alike.questions(About { name, kind: RelationKind::Table, tags: &none, columns });
            assert_eq!(questions.reveal().len(), 2);
            _ = questions.on("read");
        }
        assert_eq!(alike.answers.len(), 2, "{:?}", alike.answers.keys());
    }

    #[test]
    fn a_rule_is_seen_to_look_at_what_it_names() {
        let policy = policy((1 << RULES.len()) - 1);
        let seen = |action: &str| policy.sight.0.get(action).expect("an action").clone();
        let attributes = |action: &str| seen(action).attributes.into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(attributes("read"), "name schema tags");
        assert_eq!(attributes("reveal"), "kind relation tags");
        assert_eq!(
            (attributes("insert"), attributes("update"), attributes("delete")),
            ("".into(), "kind".into(), "name".into())
        );
        let ids: Vec<String> = seen("reveal").ids.into_iter().map(|(kind, id)| format!("{kind} {id}")).collect();
        assert_eq!(ids, ["Column t/d/s0/a/x", "Column t/d/s1/b/y", "Relation t/d/s1/c"]);
        assert!(!seen("reveal").everything);
    }
}
