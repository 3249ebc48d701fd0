//! Policy and catalog to privileges: asks the policy about every relation and every column.
//!
//! What comes out is the outer wall: PostgreSQL enforces it whatever the gateway makes of a
//! statement's text. So doubt closes: a view that could show what is masked is withheld, a mask
//! that does not fit its column's type becomes NULL, a forbidden column without a mask too.

mod bounds;
mod flow;
mod lent;
mod untold;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Against, Catalog, Column, Constraint, Relation, RelationKind};
use super::{BUILT_IN, ColumnMask, ColumnScope, RelationName, RelationScope, Scope};
use crate::core::grant::Access;
use crate::core::mask::{self, own_types::Types};
use crate::core::policy::engine::{About, Alike, Answer, Asking, DEFAULT_DENY};
use crate::core::policy::{Policy, Subject};
use crate::core::statement::grammar;

/// The longest definition that may stand in place of a view: views over views over views grow.
const LONGEST_REBUILT: usize = 64 * 1024;

/// What the policy decides about one relation, before views and inheritance are looked at.
struct Decision {
    scope: RelationScope,
    /// Why it cannot be granted although the policy allows reading it.
    withheld: Option<String>,
    /// It would be granted, if its bounds did not tell a masked column. Rows of it are read through its parents.
    is_told_by_bounds: bool,
}

/// The scope of a principal on a database.
///
/// The digest that names masking views is that of the scope *without* its views:
/// whether a relation has one follows from its columns, so both digests name the same scope.
pub fn compile(policy: &Policy, subject: &Subject<'_>, catalog: &Catalog) -> Scope {
    compile_without(policy, subject, catalog, &BTreeMap::new())
}

/// The same, without relations whose views the target has refused to make, each with its reason.
pub fn compile_without(
    policy: &Policy,
    subject: &Subject<'_>,
    catalog: &Catalog,
    refused: &BTreeMap<RelationName, String>,
) -> Scope {
    let asking = Asking::new(policy, subject);
    let tags = flow::tags(policy.classification(), catalog);
    let mut alike = Alike::new(&asking);
    let mut decisions: BTreeMap<u32, Decision> = BTreeMap::new();
    for relation in catalog.relations.values() {
        if is_system(&relation.name.schema) {
            continue;
        }
        let mut decision = decide(&mut alike, subject.access, relation, &tags, &catalog.types);
        if let (true, Some(reason)) = (decision.scope.read, refused.get(&relation.name)) {
            decision.withheld.get_or_insert_with(|| reason.clone());
        }
        decisions.insert(relation.oid, decision);
    }
    untold::keep_back(&mut alike, catalog, &tags, &mut decisions);
    bounds::keep_back(catalog, &mut decisions);
    view::settle(policy.classification(), catalog, &mut decisions);
    lent::keep_back(policy.classification(), catalog, &mut decisions);
    view::restrict_writes(catalog, &mut decisions);

    let (mut relations, mut withheld) = (BTreeMap::new(), BTreeMap::new());
    let mut schemas = BTreeSet::new();
    for (name, relation) in &catalog.relations {
        let Some(decision) = decisions.remove(&relation.oid) else { continue };
        if let Some(reason) = decision.withheld {
            withheld.insert(name.clone(), reason);
        } else if grants_something(&decision.scope) {
            schemas.insert(name.schema.clone());
            relations.insert(name.clone(), decision.scope);
        }
    }
    let mut scope = Scope {
        cluster: catalog.cluster.clone(),
        database: catalog.database.clone(),
        access: subject.access,
        schemas: schemas.into_iter().collect(),
        relations,
        withheld,
    };
    place_views(&mut scope, catalog);
    scope
}

fn decide<'c>(
    alike: &mut Alike<'_, 'c>,
    access: Access,
    relation: &'c Relation,
    tags: &'c flow::Tags,
    types: &Types,
) -> Decision {
    let mut questions = alike.questions(about(relation, tags));
    // A filter that cannot be told lets no row through.
    let filters = questions.filters();
    let revealed = questions.reveal();
    let mut allows = |action: &'static str| matches!(questions.on(action), Answer::Allow);
    let read = allows("read") && filters.is_ok();
    // A read session holds no write privilege whatever a rule says: read-only mode can be left.
    let may_write = access != Access::Read && is_writable(relation.kind);
    let columns = relation.columns.iter().zip(revealed);
    let columns: Vec<ColumnScope> = columns
        .map(|(column, answer)| ColumnScope {
            name: column.name.clone(),
            number: column.number,
            type_name: column.type_name.clone(),
            type_oid: column.type_oid,
            mask: mask_of(&answer, relation, column, types),
            is_generated: column.is_generated,
        })
        .collect();
    let insert = may_write && allows("insert");
    // Who may insert into a sequence by itself may draw from it.
    let draws = access != Access::Read && relation.kind == RelationKind::Sequence && allows("insert");
    let sequences = relation.sequences.iter().filter(|_| insert).chain(draws.then_some(&relation.name));
    let scope = RelationScope {
        oid: relation.oid,
        read,
        insert,
        update: may_write && allows("update"),
        delete: may_write && allows("delete"),
        columns,
        view: None,
        filter: filters.ok().flatten(),
        rebuilt: None,
        sequences: sequences.map(|sequence| (sequence.schema.clone(), sequence.name.clone())).collect(),
        untold: Vec::new(),
    };
    let withheld = unsafe_to_grant(relation, &scope);
    Decision { scope, withheld, is_told_by_bounds: false }
}

/// Whether something of the database is kept from whom this is decided for.
fn hides(decisions: &BTreeMap<u32, Decision>) -> bool {
    decisions.values().any(|one| one.withheld.is_some() || !one.scope.read || one.scope.is_replaced())
}

/// A relation as the policy is asked about it.
fn about<'c>(relation: &'c Relation, tags: &'c flow::Tags) -> About<'c> {
    let columns = relation
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| (column.name.as_str(), column.type_name.as_str(), tags.column(relation.oid, index)))
        .collect();
    About { name: &relation.name, kind: relation.kind, tags: tags.relation(relation.oid), columns }
}

/// Why a relation cannot be granted by itself.
fn unsafe_to_grant(relation: &Relation, scope: &RelationScope) -> Option<String> {
    if !relation.has_row_security {
        return None;
    }
    let is_masked = |constraint: &&Constraint| {
        let looks_at = |column: &ColumnScope| [0, column.number].iter().any(|at| constraint.columns.contains(at));
        scope.columns.iter().any(|column| column.mask.is_some() && looks_at(column))
    };
    // How many rows there are, to read or to change, would say how the two compare.
    if let Some(policy) = relation.constraints.iter().filter(|one| one.against == Against::Session).find(is_masked) {
        return Some(format!("its {} compares what is masked with what a session may choose", policy.name));
    }
    if !scope.read {
        return None;
    }
    if relation.has_user_policies {
        let reason =
            "its row policies look at who asks, or call functions that may, and here one role asks for many people";
        return Some(reason.to_owned());
    }
    // The view's owner would be judged by the row policies, not the person behind the session.
    needs_view(scope).then(|| {
        "it has row-level security, which a mask that shows a part of a column or a filter would get around; \
         use the mask `null` or `redact`"
            .to_owned()
    })
}

/// The mask of a column; none where it may be seen as it is.
///
/// Several rules may mask one column: the one that shows least wins, and two that show different
/// parts show none. A rule that forbids without saying how masks with NULL.
fn mask_of(answer: &Answer<'_>, relation: &Relation, column: &Column, types: &Types) -> Option<ColumnMask> {
    let (name, rule) = match answer {
        Answer::Allow => return None,
        Answer::Unpermitted => ("null", DEFAULT_DENY),
        Answer::Broken(_) => ("null", BUILT_IN),
        Answer::Forbidden { rules, .. } => {
            let named =
                |rule: &crate::core::policy::engine::Rule| rule.mask.clone().unwrap_or_else(|| "null".to_owned());
            let names: BTreeSet<String> = rules.iter().map(|rule| named(rule)).collect();
            let constant = |name: &&String| matches!(name.as_str(), "null" | "redact") || name.starts_with("fixed:");
            let chosen = if names.contains("null") {
                "null".to_owned()
            } else if let Some(name) = names.iter().find(constant) {
                name.clone()
            } else if let (1, Some(name)) = (names.len(), names.first()) {
                name.clone()
            } else {
                "redact".to_owned()
            };
            let rule = rules.iter().find(|rule| named(rule) == chosen).or(rules.first());
            return Some(made(&chosen, rule.map_or(DEFAULT_DENY, |rule| rule.id.as_str()), relation, column, types));
        }
    };
    Some(made(name, rule, relation, column, types))
}

/// A mask that does not fit the column's type shows nothing instead.
fn made(name: &str, rule: &str, relation: &Relation, column: &Column, types: &Types) -> ColumnMask {
    let place = masked(relation, column);
    let found = mask::expression(name, place, types).ok();
    // A constant that must stand in a view is not worth one where a view is out of the question.
    let found = found.filter(|found| found.discloses || !found.names_types || !relation.has_row_security);
    let (name, expression) = found.map_or_else(|| ("null", mask::null(place)), |found| (name, found));
    ColumnMask {
        name: name.to_owned(),
        expression: expression.sql,
        discloses: expression.discloses || expression.names_types,
        rule: rule.to_owned(),
    }
}

/// A column, as its mask must know it.
pub(crate) fn masked<'a>(relation: &'a Relation, column: &'a Column) -> mask::Masked<'a> {
    let (schema, name) = (relation.name.schema.as_str(), relation.name.name.as_str());
    mask::Masked { schema, relation: name, column: &column.name, type_name: &column.type_name }
}

/// Names the view of every relation that needs one, by scope and OID, and puts what stands for masked
/// relations into the definitions of the views over them.
fn place_views(scope: &mut Scope, catalog: &Catalog) {
    let digest: String = scope.digest().chars().take(16).collect();
    for relation in scope.relations.values_mut() {
        if relation.read && needs_view(relation) {
            relation.view = Some((mask::VIEWS_SCHEMA.to_owned(), format!("{digest}_{}", relation.oid)));
        }
        for mask in relation.columns.iter_mut().filter_map(|column| column.mask.as_mut()) {
            mask.expression = mask.expression.replace(mask::SCOPE_MARK, &digest);
        }
    }
    let mut waiting: BTreeMap<u32, RelationName> = scope
        .relations
        .iter()
        .filter(|(_, relation)| relation.rebuilt.is_some())
        .map(|(name, relation)| (relation.oid, name.clone()))
        .collect();
    // A view after those it reads: until then their definitions show what is masked.
    while !waiting.is_empty() {
        let reads = |name: &RelationName| catalog.relations.get(name).map_or(&[][..], |view| &view.depends_on);
        let is_ready = |name: &RelationName| reads(name).iter().all(|(oid, _)| !waiting.contains_key(oid));
        let ready: Vec<(u32, RelationName)> =
            waiting.iter().filter(|(_, name)| is_ready(name)).map(|(oid, name)| (*oid, name.clone())).collect();
        if ready.is_empty() {
            // No view reads itself; should one seem to, none of them is granted.
            waiting.values().for_each(|name| withhold(scope, name));
            break;
        }
        for (oid, name) in ready {
            waiting.remove(&oid);
            rebuild(scope, &name, reads(&name));
        }
    }
}

/// Tried before the view was chosen to be rebuilt; should it fail now, nothing is granted.
fn rebuild(scope: &mut Scope, name: &RelationName, reads: &[(u32, i16)]) {
    let definition = scope.relations.get(name).and_then(|relation| relation.rebuilt.clone()).unwrap_or_default();
    let text = view::over_masks(&definition, |schema, name| splice_of(scope, schema, name, reads));
    match (text, scope.relations.get_mut(name)) {
        (Some(text), Some(relation)) if text.len() <= LONGEST_REBUILT => {
            relation.rebuilt = Some(text);
            // It will stand in statements, so it must be read there as it is here.
            let inline = format!("select from {} as one", mask::splice_text(name, relation, false));
            if grammar::parse(&inline).is_err() {
                withhold(scope, name);
            }
        }
        _ => withhold(scope, name),
    }
}

fn withhold(scope: &mut Scope, name: &RelationName) {
    scope.relations.remove(name);
    scope.withheld.insert(name.clone(), view::NOT_REWRITTEN.to_owned());
}

/// What stands in a rebuilt view for a relation: the columns that the view reads and no others, so
/// that it keeps its owner from changing only what the view itself does.
fn splice_of(scope: &Scope, schema: &str, name: &str, reads: &[(u32, i16)]) -> Option<String> {
    let name = RelationName::new(schema, name);
    let relation = scope.relations.get(&name).filter(|relation| relation.is_replaced())?;
    let is_read = |number: i16| reads.iter().any(|(oid, at)| *oid == relation.oid && (*at == 0 || *at == number));
    Some(mask::splice_columns(&name, relation, false, is_read))
}

/// Whether constants in place of columns are not enough: a part of a value is shown, rows are left
/// out, or no column is left that could be read.
fn needs_view(scope: &RelationScope) -> bool {
    let nothing_clear = !scope.columns.is_empty() && scope.columns.iter().all(|column| column.mask.is_some());
    scope.filter.is_some() || (nothing_clear && scope.rebuilt.is_none()) || scope.columns.iter().any(discloses)
}

fn discloses(column: &ColumnScope) -> bool {
    column.mask.as_ref().is_some_and(|mask| mask.discloses)
}

fn grants_something(scope: &RelationScope) -> bool {
    scope.read || scope.insert || scope.update || scope.delete || !scope.sequences.is_empty()
}

/// Foreign tables are left out: what happens there is neither counted nor rolled back with certainty.
fn is_writable(kind: RelationKind) -> bool {
    match kind {
        RelationKind::Table | RelationKind::Partitioned | RelationKind::View => true,
        RelationKind::MaterializedView | RelationKind::Foreign | RelationKind::Sequence => false,
    }
}

/// PostgreSQL's schemas and ours: never granted, whatever a catalog holds.
fn is_system(schema: &str) -> bool {
    schema == "information_schema" || schema.starts_with("pg_") || schema.starts_with("dbgate_")
}

#[cfg(test)]
mod tests;
