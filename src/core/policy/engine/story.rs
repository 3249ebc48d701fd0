//! What a held write did, in words and exact numbers.

use super::judge::changed;
use crate::core::policy::Impact;
use crate::core::statement::facts::{Effect, Facts, RowAction};
use crate::core::text::grouped;

/// What happened, in exact numbers: "DELETE would remove 10,000 of 20,000 rows (50 %) of
/// public.customers and 41,230 rows of public.orders by cascade".
pub(super) fn story(impacts: &[Impact], facts: Option<&Facts>) -> String {
    let mut sorted: Vec<&Impact> = changed(impacts).collect();
    sorted.sort_by_key(|impact| (!impact.direct, impact.action, std::cmp::Reverse(impact.rows)));
    let mut parts = Vec::new();
    let mut last = None;
    let only_locks = facts.is_some_and(|facts| (facts.locks || facts.verb == "FETCH") && facts.effect == Effect::Read);
    for impact in sorted {
        // The verb is said again only where it changes.
        let lead =
            if last == Some(impact.action) { String::new() } else { format!("{} ", verb(impact.action, only_locks)) };
        last = Some(impact.action);
        parts.push(format!("{lead}{}", part(impact)));
    }
    let who = facts.map_or("the transaction", |facts| facts.verb.as_str());
    match parts.split_last() {
        None => format!("{who} would change nothing"),
        Some((only, [])) => format!("{who} would {only}"),
        Some((end, start)) => format!("{who} would {} and {end}", start.join(", ")),
    }
}

fn verb(action: RowAction, only_locks: bool) -> &'static str {
    match action {
        RowAction::Update if only_locks => "lock",
        RowAction::Insert => "add",
        RowAction::Update => "change",
        RowAction::Delete => "remove",
        RowAction::Read => "read",
    }
}

fn part(impact: &Impact) -> String {
    let known = impact.of.filter(|of| *of >= impact.rows && impact.action != RowAction::Insert);
    let rows = match known {
        Some(of) => {
            // Rounded, as the pages and `dbgate review` show it.
            let percent = (impact.rows.saturating_mul(200).saturating_add(of)) / of.max(1).saturating_mul(2);
            format!("{} of {} rows ({percent} %)", grouped(impact.rows), grouped(of))
        }
        None if impact.rows == 1 => "1 row".to_owned(),
        None => format!("{} rows", grouped(impact.rows)),
    };
    let preposition = if impact.action == RowAction::Insert { "to" } else { "of" };
    let route = match (impact.direct, impact.action) {
        (true, _) => "",
        (false, RowAction::Delete) => " by cascade",
        (false, _) => " by cascade or trigger",
    };
    format!("{rows} {preposition} {}.{}{route}", impact.schema, impact.relation)
}
