//! Questions to Cedar: entities and context in the words of the vocabulary, and the answer.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request};
use cedar_policy::{PolicySet, RestrictedExpression};

use super::{Policy, Rule, Sight, Subject};
use crate::core::identity::Kind;
use crate::core::policy::Limits;
use crate::core::scope::RelationName;
use crate::core::scope::catalog::{Catalog, Relation, RelationKind};

/// The type names of the vocabulary, parsed once.
pub struct Vocabulary {
    action: EntityTypeName,
    group: EntityTypeName,
    user: EntityTypeName,
    agent: EntityTypeName,
    workload: EntityTypeName,
    target: EntityTypeName,
    database: EntityTypeName,
    schema: EntityTypeName,
    relation: EntityTypeName,
    column: EntityTypeName,
}

impl Vocabulary {
    pub fn new() -> Self {
        let name = |text: &str| text.parse().expect("the vocabulary's own type names are well formed");
        Self {
            action: name("Action"),
            group: name("Group"),
            user: name("User"),
            agent: name("Agent"),
            workload: name("Workload"),
            target: name("Target"),
            database: name("Database"),
            schema: name("Schema"),
            relation: name("Relation"),
            column: name("Column"),
        }
    }
}

/// What the rules say to one question.
#[derive(Clone, Debug)]
#[must_use]
pub(crate) enum Answer<'p> {
    Allow,
    /// These rules forbid it; `permitted` tells whether it would be allowed without them.
    Forbidden {
        rules: Vec<&'p Rule>,
        permitted: bool,
    },
    /// No rule permits it.
    Unpermitted,
    /// A rule could not be evaluated. Cedar would skip it, and a skipped forbid allows too much.
    Broken(String),
}

/// A statement's facts as rules see them.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatementView {
    pub verb: String,
    pub effect: String,
    pub has_predicate: bool,
    pub functions: Vec<String>,
    pub settings: Vec<String>,
    pub locks: bool,
    pub holds: bool,
    pub locks_uncounted: bool,
    pub effects_per_row: bool,
    pub unbounded: bool,
}

/// A measured impact as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ImpactView {
    pub rows: i64,
    pub changed: i64,
    pub total: i64,
    pub percent: i64,
    pub direct: bool,
}

/// What a question is about beyond action and resource: made once, however many relations are asked about.
#[derive(Clone, Debug)]
pub(crate) struct Matter(Context);

/// One principal at one database, ready to be asked about.
pub(crate) struct Asking<'a> {
    policy: &'a Policy,
    subject: &'a Subject<'a>,
    principal: EntityUid,
    database: EntityUid,
    database_id: String,
    /// Principal, groups, target and database.
    base: Vec<Entity>,
}

/// A relation and its columns as entities, for several questions.
pub(crate) struct RelationEntities {
    entities: Entities,
    relation: EntityUid,
    columns: Vec<EntityUid>,
}

impl<'a> Asking<'a> {
    pub fn new(policy: &'a Policy, subject: &'a Subject<'a>) -> Self {
        let words = &policy.vocabulary;
        let kind = match subject.identity.kind {
            Kind::Human => &words.user,
            Kind::Agent => &words.agent,
            Kind::Workload => &words.workload,
        };
        let principal = uid(kind, &subject.identity.subject);
        let groups: HashSet<EntityUid> = subject.identity.groups.iter().map(|group| uid(&words.group, group)).collect();
        let target_id = escaped(subject.target);
        let database_id = format!("{target_id}/{}", escaped(subject.database));
        let (target, database) = (uid(&words.target, &target_id), uid(&words.database, &database_id));
        let mut base: Vec<Entity> =
            groups.iter().map(|group| Entity::new_no_attrs(group.clone(), HashSet::new())).collect();
        let who = [("name", text(&subject.identity.subject)), ("issuer", text(&subject.identity.issuer))];
        base.push(entity(principal.clone(), who, groups));
        let place = [("name", text(subject.target)), ("environment", text(subject.environment))];
        base.push(entity(target.clone(), place, HashSet::new()));
        base.push(entity(database.clone(), [("name", text(subject.database))], HashSet::from([target])));
        Self { policy, subject, principal, database, database_id, base }
    }

    /// Asks about the database as a whole.
    pub fn database(&self, action: &str, matter: Option<&Matter>) -> Answer<'a> {
        let entities = Entities::from_entities(self.base.iter().cloned(), None).expect("base entities are distinct");
        self.ask(action, self.database.clone(), &entities, matter)
    }

    /// Makes the entities of a relation that exists, with the tags of the policy's classification: those
    /// of the relation are its columns' too.
    pub fn existing(&self, relation: &Relation) -> RelationEntities {
        let classification = self.policy.classification();
        let own = classification.relation_tags(&relation.name);
        let mut tags = classification.column_tags(relation);
        tags.iter_mut().for_each(|tags| tags.extend(own.iter().cloned()));
        let columns: Vec<_> = relation
            .columns
            .iter()
            .zip(&tags)
            .map(|(column, tags)| (column.name.as_str(), column.type_name.as_str(), tags))
            .collect();
        self.relation(&relation.name, Some(relation.kind), &own, &columns)
    }

    /// Makes the entities of a relation; `columns` are name, type and tags.
    pub fn relation(
        &self,
        name: &RelationName,
        kind: Option<RelationKind>,
        tags: &BTreeSet<String>,
        columns: &[(&str, &str, &BTreeSet<String>)],
    ) -> RelationEntities {
        let words = &self.policy.vocabulary;
        let (schema_id, relation_id, _) = self.ids(name, None);
        let (schema, relation) = (uid(&words.schema, &schema_id), uid(&words.relation, &relation_id));
        let mut all = self.base.clone();
        all.push(entity(schema.clone(), [("name", text(&name.schema))], HashSet::from([self.database.clone()])));
        let attributes = [
            ("schema", text(&name.schema)),
            ("name", text(&name.name)),
            ("kind", text(kind.map_or("unknown", RelationKind::word))),
            ("tags", set(tags.iter())),
        ];
        all.push(entity(relation.clone(), attributes, HashSet::from([schema])));
        let mut uids = Vec::with_capacity(columns.len());
        for (column, type_name, tags) in columns {
            let column_uid = uid(&words.column, &column_id(&relation_id, column));
            let attributes = [
                ("schema", text(&name.schema)),
                ("relation", text(&name.name)),
                ("name", text(column)),
                ("kind", text(type_name)),
                ("tags", set(tags.iter())),
            ];
            all.push(entity(column_uid.clone(), attributes, HashSet::from([relation.clone()])));
            uids.push(column_uid);
        }
        let entities = Entities::from_entities(all, None).expect("PostgreSQL lets no two columns share a name");
        RelationEntities { entities, relation, columns: uids }
    }

    /// The ids of a relation's schema, of itself, and of one of its columns.
    pub fn ids(&self, name: &RelationName, column: Option<&str>) -> (String, String, Option<String>) {
        let schema = format!("{}/{}", self.database_id, escaped(&name.schema));
        let relation = format!("{schema}/{}", escaped(&name.name));
        let column = column.map(|column| column_id(&relation, column));
        (schema, relation, column)
    }

    /// What the policy's rules can see of relations and columns.
    pub const fn sight(&self) -> &Sight {
        &self.policy.sight
    }

    /// Asks about a relation as a whole.
    pub fn on(&self, action: &str, relation: &RelationEntities, matter: Option<&Matter>) -> Answer<'a> {
        self.ask(action, relation.relation.clone(), &relation.entities, matter)
    }

    /// Asks about one column, by its place.
    pub fn on_column(&self, action: &str, relation: &RelationEntities, at: usize) -> Answer<'a> {
        match relation.columns.get(at) {
            Some(column) => self.ask(action, column.clone(), &relation.entities, None),
            None => Answer::Unpermitted,
        }
    }

    /// Ids of the rules that decide about a relation or one of its columns: those that forbid, else
    /// those that permit; none where nothing permits.
    pub fn deciding(&self, action: &str, relation: &RelationEntities, column: Option<usize>) -> Vec<String> {
        let resource = column.and_then(|at| relation.columns.get(at)).unwrap_or(&relation.relation).clone();
        let action = uid(&self.policy.vocabulary.action, action);
        let request = Request::new(self.principal.clone(), action, resource, self.context(None), None)
            .expect("without a schema no request is refused");
        let response = self.decide(&self.policy.all, &request, &relation.entities);
        let mut ids: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        ids.sort();
        ids
    }

    /// How far a statement may go; nothing at all where a rule cannot be evaluated.
    pub fn limits(&self, statement: &Matter) -> Limits {
        let entities = Entities::from_entities(self.base.iter().cloned(), None).expect("base entities are distinct");
        let action = uid(&self.policy.vocabulary.action, "execute");
        let request = Request::new(self.principal.clone(), action, self.database.clone(), statement.0.clone(), None)
            .expect("without a schema no request is refused");
        let response = self.decide(&self.policy.limits, &request, &entities);
        let broken = response.diagnostics().errors().next().map(|_| Limits::least());
        let matching = response.diagnostics().reason();
        let found = matching.filter_map(|id| self.policy.rules.get(AsRef::<str>::as_ref(id))?.limit);
        found.chain(broken).fold(Limits::default(), Limits::and)
    }

    /// The condition that rows of a relation must meet, if there is one.
    ///
    /// # Errors
    /// Where a rule cannot be evaluated: then nobody knows which rows may be seen.
    pub fn filters(&self, relation: &RelationEntities) -> Result<Option<String>, String> {
        let action = uid(&self.policy.vocabulary.action, "read");
        let request = Request::new(self.principal.clone(), action, relation.relation.clone(), self.context(None), None)
            .expect("without a schema no request is refused");
        let response = self.decide(&self.policy.filters, &request, &relation.entities);
        if let Some(broken) = response.diagnostics().errors().next() {
            return Err(broken.to_string());
        }
        let matching = response.diagnostics().reason();
        let rules = matching.filter_map(|id| self.policy.rules.get(AsRef::<str>::as_ref(id))?.filter.as_deref());
        let conditions: BTreeSet<String> = rules.map(|condition| format!("({condition})")).collect();
        Ok((!conditions.is_empty()).then(|| conditions.into_iter().collect::<Vec<_>>().join(" AND ")))
    }

    /// What a statement is, as a matter of questions.
    pub fn statement(&self, view: &StatementView) -> Matter {
        Matter(self.context(Some(("statement", view.record()))))
    }

    /// The same of what a write did.
    pub fn impact(&self, view: ImpactView) -> Matter {
        Matter(self.context(Some(("impact", view.record()))))
    }

    fn ask(&self, action: &str, resource: EntityUid, entities: &Entities, matter: Option<&Matter>) -> Answer<'a> {
        let action = uid(&self.policy.vocabulary.action, action);
        let context = matter.map_or_else(|| self.context(None), |matter| matter.0.clone());
        let request = Request::new(self.principal.clone(), action, resource, context, None)
            .expect("without a schema no request is refused");
        let response = self.decide(&self.policy.all, &request, entities);
        if let Some(broken) = response.diagnostics().errors().next() {
            return Answer::Broken(broken.to_string());
        }
        if response.decision() == Decision::Allow {
            return Answer::Allow;
        }
        let deciding = response.diagnostics().reason();
        let mut rules: Vec<&Rule> = deciding.filter_map(|id| self.policy.rules.get(AsRef::<str>::as_ref(id))).collect();
        if rules.is_empty() {
            return Answer::Unpermitted;
        }
        // The rule a person is told of: one that nobody can lift comes first, then by id.
        rules.sort_by_key(|rule| (rule.approval.is_some(), rule.id.as_str()));
        let without = self.decide(&self.policy.permits, &request, entities);
        Answer::Forbidden { rules, permitted: without.decision() == Decision::Allow }
    }

    fn decide(&self, set: &PolicySet, request: &Request, entities: &Entities) -> cedar_policy::Response {
        self.policy.authorizer.is_authorized(request, set, entities)
    }

    fn context(&self, matter: Option<(&str, RestrictedExpression)>) -> Context {
        let mut pairs = vec![
            ("environment".to_owned(), text(self.subject.environment)),
            ("access".to_owned(), text(self.subject.access.word())),
        ];
        pairs.extend(self.subject.agent.map(|agent| ("agent".to_owned(), text(agent))));
        pairs.extend(self.subject.ticket.map(|ticket| ("ticket".to_owned(), text(ticket))));
        pairs.extend(self.subject.reason.map(|reason| ("reason".to_owned(), text(reason))));
        pairs.extend(matter.map(|(name, matter)| (name.to_owned(), matter)));
        Context::from_pairs(pairs).expect("context keys are distinct and values are literals")
    }
}

impl StatementView {
    fn record(&self) -> RestrictedExpression {
        record([
            ("verb", text(&self.verb)),
            ("effect", text(&self.effect)),
            ("has_predicate", RestrictedExpression::new_bool(self.has_predicate)),
            ("functions", set(self.functions.iter())),
            ("settings", set(self.settings.iter())),
            ("locks", RestrictedExpression::new_bool(self.locks)),
            ("holds", RestrictedExpression::new_bool(self.holds)),
            ("locks_uncounted", RestrictedExpression::new_bool(self.locks_uncounted)),
            ("effects_per_row", RestrictedExpression::new_bool(self.effects_per_row)),
            ("unbounded", RestrictedExpression::new_bool(self.unbounded)),
        ])
    }
}

impl ImpactView {
    fn record(self) -> RestrictedExpression {
        record([
            ("rows", RestrictedExpression::new_long(self.rows)),
            ("changed", RestrictedExpression::new_long(self.changed)),
            ("total", RestrictedExpression::new_long(self.total)),
            ("percent", RestrictedExpression::new_long(self.percent)),
            ("direct", RestrictedExpression::new_bool(self.direct)),
        ])
    }
}

/// The tags of a relation: its own and those of every table it inherits from or is a part of.
pub(crate) fn relation_tags(policy: &Policy, catalog: &Catalog, relation: &Relation) -> BTreeSet<String> {
    let (mut tags, mut seen, mut next) = (BTreeSet::new(), BTreeSet::new(), vec![relation]);
    while let Some(one) = next.pop() {
        if seen.insert(one.oid) {
            tags.extend(policy.classification.relation_tags(&one.name));
            next.extend(one.parents.iter().filter_map(|parent| catalog.by_oid(*parent)));
        }
    }
    tags
}

impl RelationKind {
    /// The word that rules use for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Partitioned => "partitioned",
            Self::View => "view",
            Self::MaterializedView => "materialized_view",
            Self::Foreign => "foreign",
            Self::Sequence => "sequence",
        }
    }
}

fn column_id(relation: &str, column: &str) -> String {
    format!("{relation}/{}", escaped(column))
}

/// A part of an id: `/` separates parts, so it cannot stand in one.
fn escaped(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn set<'v>(values: impl Iterator<Item = &'v String>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.map(|value| text(value)))
}

fn record<const N: usize>(fields: [(&str, RestrictedExpression); N]) -> RestrictedExpression {
    RestrictedExpression::new_record(fields.map(|(key, value)| (key.to_owned(), value)))
        .expect("keys of a record written here are distinct")
}

fn entity<const N: usize>(
    uid: EntityUid,
    attributes: [(&str, RestrictedExpression); N],
    parents: HashSet<EntityUid>,
) -> Entity {
    let attributes: HashMap<_, _> = attributes.map(|(key, value)| (key.to_owned(), value)).into_iter().collect();
    Entity::new(uid, attributes, parents).expect("attributes are literals")
}
