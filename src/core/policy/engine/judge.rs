//! Judging a statement before it runs, and a held write by what it did.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashSet};

use super::keys::Keys;
use super::question::{ImpactView, Matter, StatementView, relation_tags};
use super::story::story;
use super::{Answer, Asking, DEFAULT_DENY, Policy, Subject, guard, lent};
use crate::core::approval::Lift;
use crate::core::grant::Access;
use crate::core::policy::{Cleared, Denial, Impact, Verdict};
use crate::core::scope::catalog::{Catalog, Relation, RelationKind};
use crate::core::scope::{BUILT_IN, RelationName, Scope};
use crate::core::statement::facts::{Effect, Facts, Filled, Key, Name, RowAction, RowLocks, Touch, distinct};

/// Why a held write is rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImpactRefusal {
    Deny(Denial),
    /// Every rule that stands in the way can be lifted by one group.
    NeedApproval(Denial),
}

/// The code of what no rule permits.
pub(super) const NOT_PERMITTED: &str = "not_permitted";

/// A refusal and whether a group may lift it.
type Refusal = (Denial, bool);

impl Policy {
    /// The verdict on one statement. The only maker of a [`Cleared`].
    ///
    /// Names resolve through the catalog under `search_path`. A relation that the catalog does
    /// not know (system catalogs, temporary and missing relations) is left to PostgreSQL, for
    /// writes too: the role holds no privilege on anything that was not compiled into its scope.
    pub fn judge(
        &self,
        subject: &Subject<'_>,
        facts: Facts,
        scope: &Scope,
        catalog: &Catalog,
        search_path: &[String],
    ) -> Verdict {
        self.judge_lifted(subject, facts, scope, catalog, search_path, None)
    }

    /// The same of a statement that people have approved: what their approval lifts stands in the
    /// way no more, everything else does.
    pub fn judge_lifted(
        &self,
        subject: &Subject<'_>,
        facts: Facts,
        scope: &Scope,
        catalog: &Catalog,
        search_path: &[String],
        lift: Option<&Lift>,
    ) -> Verdict {
        let facts = through_filters(through_views(facts, catalog, search_path), scope, catalog, search_path);
        let mut facts = through_effects(through_fields(facts, catalog, search_path), catalog, search_path);
        let keys = Keys::new(catalog, search_path);
        facts.unbounded |= facts.joins.may_multiply(&|name| keys.of(name));
        if let Some(denial) = guard::refuse(&facts, scope, catalog, self.classification()) {
            return Verdict::Deny(denial);
        }
        let is_lifted = |denial: &Denial| lift.is_some_and(|lift| lift.covers(denial, &self.digest));
        let asking = Asking::new(self, subject);
        let views = Views::new(&asking, &facts);
        match self.first_refusal(&views, subject, scope, catalog, search_path) {
            Some((denial, true)) if !is_lifted(&denial) => Verdict::NeedApproval(denial),
            None | Some((_, true)) => {
                let limits = asking.limits(views.whole());
                Verdict::Allow(Cleared::new(facts, &self.digest, limits))
            }
            Some((mut denial, false)) => {
                if denial.hint.is_none() && denial.code == NOT_PERMITTED {
                    denial.hint = self.wider(subject, &facts, scope, catalog, search_path);
                }
                Verdict::Deny(denial)
            }
        }
    }

    /// What stands in the way of a statement, if something does.
    fn first_refusal(
        &self,
        views: &Views<'_>,
        subject: &Subject<'_>,
        scope: &Scope,
        catalog: &Catalog,
        search_path: &[String],
    ) -> Option<Refusal> {
        let facts = views.facts;
        let mut refusals: Vec<Refusal> = whole(views.asking, subject, views).into_iter().collect();
        let mut seen = HashSet::new();
        for touch in &facts.touches {
            if !seen.insert((&touch.relation, touch.action, touch.has_predicate)) {
                continue;
            }
            let schema = touch.relation.schema.as_deref();
            let Some(relation) = catalog.resolve(schema, &touch.relation.name, search_path) else { continue };
            refusals.extend(self.touched(views, subject, touch, relation, catalog));
            refusals.extend(
                lent::refuse(self.classification(), facts, touch, relation, scope, catalog)
                    .map(|denial| (denial, false)),
            );
            // What runs as the owner of what it changes shows nothing of it.
            if let (Some(reason), None) = (scope.withheld.get(&relation.name), facts.upkeep) {
                refusals.push((withheld(touch, relation, reason), false));
            }
        }
        first(refusals)
    }

    /// The next step of whoever may do with write access what no rule permits with read access.
    fn wider(
        &self,
        subject: &Subject<'_>,
        facts: &Facts,
        scope: &Scope,
        catalog: &Catalog,
        search_path: &[String],
    ) -> Option<String> {
        let writing = Subject { access: Access::Write, ..*subject };
        if subject.access != Access::Read || self.may_come(&writing).is_err() {
            return None;
        }
        let asking = Asking::new(self, &writing);
        match self.first_refusal(&Views::new(&asking, facts), &writing, scope, catalog, search_path) {
            None => Some("a session with write access may: --access write".to_owned()),
            Some((_, true)) => {
                Some("in a session with write access people may let it through: --access write".to_owned())
            }
            Some((_, false)) => None,
        }
    }

    fn touched(
        &self,
        views: &Views<'_>,
        subject: &Subject<'_>,
        touch: &Touch,
        relation: &Relation,
        catalog: &Catalog,
    ) -> Option<Refusal> {
        // TRUNCATE has no WHERE to miss: that it takes every row is for the `ddl` rules to judge.
        let matter = views.of(touch.has_predicate || views.facts.effect == Effect::Ddl);
        let tags = relation_tags(self, catalog, relation);
        let entities = views.asking.relation(&relation.name, Some(relation.kind), &tags, &[]);
        let answer = views.asking.on(touch.action.word(), &entities, Some(matter));
        let what = format!("{} on {}", touch.action.word().to_uppercase(), relation.name);
        refused(subject, &answer, &what, vec![relation.name.to_string()], touch.offset)
    }

    /// The verdict on what a held write really did, before it is committed. `facts` is the
    /// statement where a single one did it.
    pub fn judge_impact(
        &self,
        subject: &Subject<'_>,
        impacts: &[Impact],
        facts: Option<&Facts>,
        catalog: &Catalog,
    ) -> Result<(), ImpactRefusal> {
        let asking = Asking::new(self, subject);
        let story = story(impacts, facts);
        let questions = ImpactQuestion::all(impacts, catalog);
        let refusals = questions.into_iter().filter_map(|ImpactQuestion { relation: name, action, view }| {
            let relation = catalog.relations.get(&name);
            let tags = match relation {
                Some(relation) => relation_tags(self, catalog, relation),
                None => self.classification.relation_tags(&name),
            };
            let entities = asking.relation(&name, relation.map(|relation| relation.kind), &tags, &[]);
            let answer = asking.on(action.word(), &entities, Some(&asking.impact(view)));
            refused(subject, &answer, &story, vec![name.to_string()], None)
        });
        match first(refusals.collect()) {
            None => Ok(()),
            Some((denial, true)) => Err(ImpactRefusal::NeedApproval(denial)),
            Some((denial, false)) => Err(ImpactRefusal::Deny(denial)),
        }
    }
}

/// A view may lock more than it shows.
fn through_views(mut facts: Facts, catalog: &Catalog, search_path: &[String]) -> Facts {
    let is_table = |touch: &Touch| {
        let relation = catalog.resolve(touch.relation.schema.as_deref(), &touch.relation.name, search_path);
        relation.is_none_or(|one| matches!(one.kind, RelationKind::Table | RelationKind::Partitioned))
    };
    if facts.row_locks != RowLocks::None && !facts.touches.iter().all(is_table) {
        facts.row_locks = RowLocks::Uncounted;
    }
    facts
}

/// Types whose equality is known to tell nothing, so that PostgreSQL asks it before a filter: int8, int2,
/// int4, text, varchar, uuid.
const LEAKPROOF: [u32; 6] = [20, 21, 23, 25, 1043, 2950];

/// Of a relation with a filter every row is locked that the filter lets through, before the statement's
/// own conditions are asked; but for the one that has a key.
fn through_filters(mut facts: Facts, scope: &Scope, catalog: &Catalog, search_path: &[String]) -> Facts {
    // Of a write they are what its own WHERE says, not that of the clause.
    let is_read = facts.effect == Effect::Read;
    let pinned: HashSet<&String> = facts.pinned.iter().filter(|_| is_read).collect();
    let is_free = |touch: &Touch| {
        let relation = catalog.resolve(touch.relation.schema.as_deref(), &touch.relation.name, search_path);
        let Some(relation) = relation else { return true };
        if scope.relations.get(&relation.name).is_none_or(|one| one.filter.is_none()) {
            return true;
        }
        let leakproof = relation.columns.iter().filter(|column| LEAKPROOF.contains(&column.type_oid));
        let pinned = leakproof.map(|column| &column.name).filter(|name| pinned.contains(name));
        catalog.is_unique(relation, &pinned.cloned().collect::<Vec<_>>())
    };
    // A conflict is found by the key.
    let locks = matches!(facts.row_locks, RowLocks::Returned(_) | RowLocks::AtMost(_)) && facts.verb != "INSERT";
    if locks && !facts.touches.iter().all(is_free) {
        facts.row_locks = RowLocks::Uncounted;
    }
    facts
}

/// A field is the call of a function where no relation has such a column: rules see it as one. What no
/// function is called is a column, whatever it looks like.
fn through_fields(mut facts: Facts, catalog: &Catalog, search_path: &[String]) -> Facts {
    if !catalog.known_functions.is_empty() {
        // The name of a type is the call of a cast, too.
        let definers: HashSet<&String> = catalog.definer_functions.iter().map(|known| &known.name).collect();
        facts.fields.retain(|field| catalog.known_functions.contains(field) || definers.contains(field));
    }
    let named: HashSet<&Name> = facts.touches.iter().map(|touch| &touch.relation).collect();
    let relations =
        named.into_iter().filter_map(|name| catalog.resolve(name.schema.as_deref(), &name.name, search_path));
    let columns: HashSet<&str> = relations.flat_map(|one| &one.columns).map(|column| column.name.as_str()).collect();
    let is_call = |field: &&String| catalog.known_functions.contains(*field) && !columns.contains(field.as_str());
    let calls = facts.fields.iter().filter(is_call).map(|field| Name::new(None, field));
    facts.functions.extend(calls);
    distinct(&mut facts.functions);
    facts
}

/// What calls that no counter sees depend on beside the text: functions that return sets make rows wherever
/// they stand, keys pick one, and defaults may make such calls.
fn through_effects(mut facts: Facts, catalog: &Catalog, search_path: &[String]) -> Facts {
    let relation = |name: &Name| catalog.resolve(name.schema.as_deref(), &name.name, search_path);
    let is_one = |key: &Key| relation(&key.relation).is_some_and(|relation| picks_one(relation, key, catalog));
    let effects = &facts.effects;
    let are_per_row = effects.beside.iter().any(|beside| catalog.set_functions.contains(beside))
        || !effects.keys.iter().all(is_one)
        || effects.filled.iter().any(|filled| relation(&filled.relation).is_some_and(|one| draws(one, filled)));
    facts.effects.are_per_row |= are_per_row;
    facts
}

/// Whether no more than one row has these values. A parameter is compared as its column is only where
/// that has a type of its own: int8, int2, int4, uuid.
fn picks_one(relation: &Relation, key: &Key, catalog: &Catalog) -> bool {
    let is_plain = |name: &&String| {
        let mut columns = relation.columns.iter().filter(|column| column.name == **name);
        columns.any(|column| matches!(column.type_oid, 20 | 21 | 23 | 2950))
    };
    let columns: Vec<String> = key.columns.iter().chain(key.bound.iter().filter(is_plain)).cloned().collect();
    catalog.is_unique(relation, &columns)
}

/// Whether a default that is worked out may draw from a sequence: int8, int2 and int4 may be identities.
fn draws(relation: &Relation, filled: &Filled) -> bool {
    let has_sequences = !relation.sequences.is_empty();
    let Some(given) = &filled.given else { return has_sequences };
    let mut left = relation.columns.iter().filter(|column| !given.is_empty() && !given.contains(&column.name));
    left.any(|column| column.has_default && (has_sequences || matches!(column.type_oid, 20 | 21 | 23)))
}

/// Questions about the statement as a whole rather than about one relation.
fn whole(asking: &Asking<'_>, subject: &Subject<'_>, views: &Views<'_>) -> Option<Refusal> {
    let facts = views.facts;
    let ask = |action: &str, what: &str| {
        let answer = asking.database(action, Some(views.whole()));
        refused(subject, &answer, what, Vec::new(), None)
    };
    let effect = match facts.effect {
        Effect::Ddl => ask("ddl", &facts.verb),
        // The walls have refused `Unknown` already; should it ever get here, it is refused again.
        Effect::Utility | Effect::Unknown => ask("admin", &facts.verb),
        // Rows are judged relation by relation; what stays in the session was judged at connect.
        Effect::Read | Effect::Write | Effect::Session | Effect::Transaction => None,
    };
    effect
        .or_else(|| if facts.functions.is_empty() { None } else { ask("execute", "a function call") })
        // What defaults call stands in no text.
        .or_else(
            || if locks_uncounted(facts) || facts.effects.are_per_row { ask("execute", &facts.verb) } else { None },
        )
}

/// Nothing where the answer allows; else the denial, and whether a group may lift it.
fn refused(
    subject: &Subject<'_>,
    answer: &Answer<'_>,
    what: &str,
    objects: Vec<String>,
    offset: Option<usize>,
) -> Option<Refusal> {
    if matches!(answer, Answer::Allow) {
        return None;
    }
    let mut denial = denial(subject, answer, what);
    (denial.objects, denial.offset) = (objects, offset);
    let liftable = denial.approvers.is_some();
    Some((denial, liftable))
}

/// Puts an answer that does not allow into words.
pub(super) fn denial(subject: &Subject<'_>, answer: &Answer<'_>, what: &str) -> Denial {
    match answer {
        Answer::Forbidden { rules, permitted } => {
            let Some(rule) = rules.first() else { return plain("denied", DEFAULT_DENY, format!("{what} is refused")) };
            let reason = rule.reason.as_deref().unwrap_or("the policy forbids it");
            let mut denial = plain(&rule.code, &rule.id, format!("{what}: {reason}"));
            denial.hint.clone_from(&rule.suggest);
            // One request goes to one group; rules that name different ones cannot be lifted.
            let same = rules.iter().all(|other| other.approval == rule.approval);
            denial.approvers = if *permitted && same { rule.approval.clone() } else { None };
            let one_glass = denial.approvers.is_some() && rules.iter().all(|one| one.break_glass == rule.break_glass);
            denial.break_glass = rule.break_glass.clone().filter(|_| one_glass);
            denial
        }
        Answer::Broken(error) => plain("policy_error", BUILT_IN, format!("{what}: a rule failed: {error}")),
        Answer::Unpermitted | Answer::Allow => {
            let (who, access) = (&subject.identity.subject, subject.access.word());
            plain(NOT_PERMITTED, DEFAULT_DENY, format!("{what}: no rule permits it for {who} with {access} access"))
        }
    }
}

pub(super) fn plain(code: &str, rule: &str, message: String) -> Denial {
    Denial {
        code: code.to_owned(),
        rule: rule.to_owned(),
        message,
        hint: None,
        objects: Vec::new(),
        approvers: None,
        break_glass: None,
        offset: None,
    }
}

fn withheld(touch: &Touch, relation: &Relation, reason: &str) -> Denial {
    let mut denial = plain("withheld", BUILT_IN, format!("{} is not granted: {reason}", relation.name));
    denial.hint = Some("classify its own columns in classification.toml, or read the tables behind it".to_owned());
    denial.objects = vec![relation.name.to_string()];
    denial.offset = touch.offset;
    denial
}

/// One refusal for the person: what nobody can lift comes first; refusals that two different
/// groups would have to lift are final, since one request goes to one group.
fn first(refusals: Vec<Refusal>) -> Option<Refusal> {
    let objects: Vec<String> = refusals.iter().flat_map(|(denial, _)| denial.objects.iter().cloned()).collect();
    let groups: BTreeSet<_> = refusals.iter().map(|(denial, _)| denial.approvers.clone()).collect();
    let glasses: BTreeSet<_> = refusals.iter().map(|(denial, _)| denial.break_glass.clone()).collect();
    let (mut denial, liftable) =
        refusals.into_iter().reduce(|best, other| if best.1 && !other.1 { other } else { best })?;
    if liftable && groups.len() == 1 {
        // Approving it means approving all of them.
        denial.objects = objects;
        denial.break_glass = denial.break_glass.filter(|_| glasses.len() == 1);
        return Some((denial, true));
    }
    (denial.approvers, denial.break_glass) = (None, None);
    Some((denial, false))
}

/// Of FETCH only the session knows whether its cursor locks.
fn locks_uncounted(facts: &Facts) -> bool {
    facts.row_locks == RowLocks::Uncounted && facts.locks
}

/// A statement as rules see it: for relations from which its condition leaves rows out, and for others.
struct Views<'a> {
    asking: &'a Asking<'a>,
    facts: &'a Facts,
    excluding: OnceCell<Matter>,
    others: OnceCell<Matter>,
}

impl<'a> Views<'a> {
    const fn new(asking: &'a Asking<'a>, facts: &'a Facts) -> Self {
        Self { asking, facts, excluding: OnceCell::new(), others: OnceCell::new() }
    }

    fn of(&self, has_predicate: bool) -> &Matter {
        let kept = if has_predicate { &self.excluding } else { &self.others };
        kept.get_or_init(|| self.asking.statement(&view_of(self.facts, has_predicate)))
    }

    /// For questions about the statement as a whole.
    fn whole(&self) -> &Matter {
        self.of(self.facts.touches.iter().all(|touch| touch.has_predicate))
    }
}

fn view_of(facts: &Facts, has_predicate: bool) -> StatementView {
    let functions = facts.functions.iter().flat_map(|name| {
        let full = name.schema.is_some().then(|| name.to_string());
        full.into_iter().chain([name.name.clone()])
    });
    StatementView {
        verb: facts.verb.clone(),
        effect: facts.effect.word().to_owned(),
        has_predicate,
        functions: functions.collect(),
        settings: facts.settings.iter().map(|one| one.split('=').next().unwrap_or(one).to_owned()).collect(),
        locks: facts.locks,
        holds: facts.holds
            || facts.locks
            || !matches!(facts.effect, Effect::Read | Effect::Session | Effect::Transaction),
        locks_uncounted: locks_uncounted(facts),
        effects_per_row: facts.effects.are_per_row,
        unbounded: facts.unbounded,
    }
}

pub(super) fn changed(impacts: &[Impact]) -> impl Iterator<Item = &Impact> {
    impacts.iter().filter(|impact| impact.action != RowAction::Read && impact.rows > 0)
}

/// What rules are asked about the changes of one relation: equal questions of one principal under one policy and
/// catalog have equal answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImpactQuestion {
    relation: RelationName,
    action: RowAction,
    view: ImpactView,
}

impl ImpactQuestion {
    /// Those about a transaction. A temporary relation is the session's own and gone with it.
    pub fn all(impacts: &[Impact], catalog: &Catalog) -> Vec<Self> {
        let lasting: Vec<&Impact> = changed(impacts).filter(|impact| !impact.schema.starts_with("pg_temp")).collect();
        let question = |impact: &&Impact| Self {
            relation: RelationName::new(&impact.schema, &impact.relation),
            action: impact.action,
            view: measured(impact, &lasting, catalog),
        };
        lasting.iter().map(question).collect()
    }
}

/// Rows of partitions and of children add up: whoever names the table they are part of reaches all of them.
/// So do rows that were updated and rows that were deleted, which may be others.
fn measured(impact: &Impact, all: &[&Impact], catalog: &Catalog) -> ImpactView {
    let table = |impact: &Impact| catalog.roots(&RelationName::new(&impact.schema, &impact.relation));
    let roots = table(impact);
    let of_table: Vec<&Impact> = all.iter().copied().filter(|other| !table(other).is_disjoint(&roots)).collect();
    let sum = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
    ImpactView {
        rows: sum(rows(of_table.iter().filter(|other| other.action == impact.action))),
        changed: sum(rows(of_table.iter().filter(|other| is_change(other)))),
        total: sum(rows(all)),
        percent: percent(impact, &of_table),
        direct: impact.direct,
    }
}

fn rows<'i>(impacts: impl IntoIterator<Item = &'i &'i Impact>) -> u64 {
    impacts.into_iter().map(|impact| impact.rows).fold(0, u64::saturating_add)
}

const fn is_change(impact: &Impact) -> bool {
    matches!(impact.action, RowAction::Update | RowAction::Delete)
}

/// The share of the relation's own rows, which of a partition is no less than that of the table. Rounded up, so
/// that more than half is more than 50; where the size is not known it counts as whole.
fn percent(impact: &Impact, all: &[&Impact]) -> i64 {
    let is_alike = |other: &&&Impact| {
        let is_here = other.schema == impact.schema && other.relation == impact.relation;
        is_here && (other.action == impact.action || (is_change(other) && is_change(impact)))
    };
    let alike: Vec<&Impact> = all.iter().filter(is_alike).copied().collect();
    let share = |rows: u64, of: Option<u64>| match rows {
        0 => Some(0),
        rows => of.filter(|of| *of > 0).map(|of| rows.saturating_mul(100).div_ceil(of)),
    };
    // Rows that the session has put there itself may go; whatever else was changed might be theirs.
    let share = match alike.iter().find_map(|other| other.others) {
        Some(0) => share(rows(alike.iter().filter(|other| other.action != RowAction::Delete)), impact.of),
        Some(others) => share(rows(&alike).min(others), Some(others)),
        None => share(rows(&alike), impact.of),
    };
    share.map_or(100, |share| i64::try_from(share.min(100)).unwrap_or(100))
}
