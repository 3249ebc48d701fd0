//! Step 4, check: what a write did, from the server's own counters.
//!
//! The counters of a backend may still hold numbers of earlier, even rolled-back, transactions,
//! so only differences count. A counter that went down means it cannot be trusted.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::policy::Impact;
use crate::core::statement::facts::{Name, RowAction};

/// One relation's row of the count query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub oid: u32,
    pub schema: String,
    pub relation: String,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    /// Rows the relation holds by the server's statistics; none when it was never analysed.
    pub of: Option<u64>,
    /// Rows that are there now, where they were counted.
    pub there: Option<u64>,
    /// A lock that only DDL or TRUNCATE takes is held on it.
    pub is_locked_for_ddl: bool,
    /// The relation is temporary: this session's own.
    pub is_temporary: bool,
    /// Its rows are on another server, where nobody counts them.
    pub is_foreign: bool,
    /// Something of somebody's may run for it at the commit.
    pub may_defer: bool,
}

/// The counters of one relation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
}

impl Counters {
    /// Whether nothing lingers on.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Counters by relation OID. A relation that is missing has never been written by this backend.
pub type Baseline = BTreeMap<u32, Counters>;

/// Rows that a session has put into a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnRows {
    /// How many of them may be there still.
    pub rows: u64,
    /// How many rows others had there before, by the server's statistics.
    pub others: u64,
}

/// Rows that a session has put into relations, by OID.
pub type Own = BTreeMap<u32, OwnRows>;

/// What statements say that they write to, and how.
pub type Written = BTreeSet<(Name, RowAction)>;

/// Why counts cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    #[error("the counters of {0} went backwards; its changes cannot be counted")]
    Backwards(String),
    #[error("{0} was defined, truncated or locked whole in this transaction, so its rows cannot be counted")]
    Redefined(String),
    #[error("{0} is a foreign table, whose rows nobody counts")]
    Foreign(String),
    #[error("rows of a relation that was made after the transaction's snapshot changed, and cannot be counted")]
    Unseen,
    #[error("code has run that may have left a cursor WITH HOLD, whose query runs at the commit")]
    Kept,
    #[error("what is deferred to the commit defers more to it each time that it runs")]
    Restless,
}

impl CountError {
    /// What to do about it.
    pub const fn way_out(&self) -> &'static str {
        match self {
            Self::Unseen => "begin the transaction again",
            Self::Kept => "declare cursors WITH HOLD in a transaction that runs no code of the database's own",
            Self::Restless => "change fewer rows at a time, or have the trigger not defer what it does",
            Self::Backwards(_) | Self::Redefined(_) | Self::Foreign(_) => {
                "give definitions, TRUNCATE and LOCK TABLE a transaction without rows, outside functions"
            }
        }
    }
}

impl Counted {
    /// What its backend has done to it since.
    fn since(&self, before: &Baseline) -> Counters {
        let earlier = before.get(&self.oid).copied().unwrap_or_default();
        Counters {
            inserted: self.inserted.saturating_sub(earlier.inserted),
            updated: self.updated.saturating_sub(earlier.updated),
            deleted: self.deleted.saturating_sub(earlier.deleted),
        }
    }

    /// Rows that it had then: exactly where they were counted, else by the statistics.
    fn of(&self, before: &Baseline) -> Option<u64> {
        let since = self.since(before);
        let counted = |there: u64| there.saturating_add(since.deleted).saturating_sub(since.inserted);
        self.there.map(counted).or(self.of)
    }
}

/// What changed between the baseline and now. Rows of temporary relations are nobody else's.
///
/// # Errors
/// When a counter is lower than before, or a relation is locked as only DDL and TRUNCATE lock, or is a foreign
/// table that may have been written to.
pub fn difference(before: &Baseline, now: &[Counted], written: &Written, own: &Own) -> Result<Vec<Impact>, CountError> {
    let mut impacts = Vec::new();
    for relation in now.iter().filter(|relation| !relation.is_temporary) {
        let full_name = format!("{}.{}", relation.schema, relation.relation);
        if relation.is_foreign {
            return Err(CountError::Foreign(full_name));
        }
        if relation.is_locked_for_ddl {
            return Err(CountError::Redefined(full_name));
        }
        let earlier = before.get(&relation.oid).copied().unwrap_or_default();
        let of = relation.of(before);
        let changes = [
            (RowAction::Insert, relation.inserted, earlier.inserted),
            (RowAction::Update, relation.updated, earlier.updated),
            (RowAction::Delete, relation.deleted, earlier.deleted),
        ];
        for (action, after, before) in changes {
            let rows = after.checked_sub(before).ok_or_else(|| CountError::Backwards(full_name.clone()))?;
            if rows > 0 {
                impacts.push(Impact {
                    schema: relation.schema.clone(),
                    relation: relation.relation.clone(),
                    action,
                    rows,
                    of,
                    direct: written.iter().any(|(name, done)| *done == action && means(name, relation)),
                    others: match action {
                        // Of more than there are of both nobody knows what they were.
                        RowAction::Delete => {
                            let known = own.get(&relation.oid);
                            known.filter(|own| rows <= own.rows.saturating_add(own.others)).map(|own| own.others)
                        }
                        // Changing it uses nothing of it up.
                        RowAction::Read | RowAction::Insert | RowAction::Update => None,
                    },
                });
            }
        }
    }
    Ok(impacts)
}

/// What was the session's own and what its transaction has inserted since the baseline.
pub fn own(earlier: &Own, before: &Baseline, now: &[Counted]) -> Own {
    let mut own = earlier.clone();
    for relation in now.iter().filter(|relation| !relation.is_temporary) {
        let inserted = relation.since(before).inserted;
        // Where nobody knows how many others there are, nothing is told apart from them.
        if let (1.., Some(others)) = (inserted, relation.of(before)) {
            let own = own.entry(relation.oid).or_insert(OwnRows { rows: 0, others });
            own.rows = own.rows.saturating_add(inserted);
        }
    }
    own
}

/// What is left of it: whatever was deleted, it might have been that.
pub fn own_left(own: &Own, before: &Baseline, now: &[Counted]) -> Own {
    let mut left = own.clone();
    for relation in now {
        let deleted = relation.since(before).deleted;
        if let Some(own) = left.get_mut(&relation.oid) {
            own.rows = own.rows.saturating_sub(deleted);
        }
    }
    left.retain(|_, own| own.rows > 0);
    left
}

fn means(name: &Name, relation: &Counted) -> bool {
    name.name == relation.relation && name.schema.as_ref().is_none_or(|schema| *schema == relation.schema)
}

/// The counters as the next baseline.
pub fn baseline(now: &[Counted]) -> Baseline {
    let counters = |relation: &Counted| Counters {
        inserted: relation.inserted,
        updated: relation.updated,
        deleted: relation.deleted,
    };
    now.iter().map(|relation| (relation.oid, counters(relation))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(deleted: u64) -> Counted {
        Counted {
            oid: 1,
            schema: "public".into(),
            relation: "orders".into(),
            inserted: 0,
            updated: 0,
            deleted,
            of: Some(1000),
            there: None,
            is_locked_for_ddl: false,
            is_temporary: false,
            is_foreign: false,
            may_defer: false,
        }
    }

    #[test]
    fn only_the_difference_counts() {
        let before = baseline(&[counted(60)]);
        let impacts = difference(&before, &[counted(100)], &Written::new(), &Own::new()).expect("countable");
        assert_eq!(
            impacts.iter().map(|i| (i.action, i.rows, i.direct)).collect::<Vec<_>>(),
            [(RowAction::Delete, 40, false)]
        );
        assert_eq!(difference(&before, &[counted(60)], &Written::new(), &Own::new()), Ok(vec![]));
    }

    #[test]
    fn rows_that_were_counted_count_more_than_statistics() {
        let of = |relation: Counted| {
            let before = Baseline::from([(1, Counters { inserted: 5, updated: 0, deleted: 20 })]);
            let impacts = difference(&before, &[relation], &Written::new(), &Own::new()).expect("countable");
            impacts.iter().map(|impact| (impact.rows, impact.of)).collect::<Vec<_>>()
        };
        let now = Counted { inserted: 5, of: Some(40), ..counted(40) };
        assert_eq!(of(now.clone()), [(20, Some(40))]);
        assert_eq!(of(Counted { there: Some(0), ..now.clone() }), [(20, Some(20))]);
        // What was inserted since was not there before.
        assert_eq!(of(Counted { there: Some(10), inserted: 15, ..now }), [(10, Some(20)), (20, Some(20))]);
    }

    #[test]
    fn what_a_session_has_put_there_is_its_own_until_as_much_is_deleted() {
        let inserted = |rows, of| Counted { inserted: rows, of, ..counted(0) };
        let put = |rows, others| Own::from([(1, OwnRows { rows, others })]);
        let earlier = own(&Own::new(), &baseline(&[inserted(5, Some(40))]), &[inserted(35, Some(40))]);
        assert_eq!(earlier, put(30, 40));
        // Later statistics have the session's own rows in them.
        assert_eq!(own(&earlier, &Baseline::new(), &[inserted(5, Some(70))]), put(35, 40));
        assert_eq!(own(&Own::new(), &Baseline::new(), &[inserted(5, None)]), Own::new());
        let others = |deleted| {
            let impacts =
                difference(&Baseline::new(), &[counted(deleted)], &Written::new(), &earlier).expect("countable");
            impacts.iter().map(|impact| (impact.rows, impact.others)).collect::<Vec<_>>()
        };
        assert_eq!(others(20), [(20, Some(40))]);
        assert_eq!(others(71), [(71, None)], "more than there are");
        let left = own_left(&earlier, &Baseline::new(), &[counted(20)]);
        assert_eq!(left, put(10, 40));
        assert_eq!(own_left(&left, &Baseline::new(), &[counted(20)]), Own::new());
    }

    #[test]
    fn what_cannot_be_counted_is_an_error() {
        let before = baseline(&[counted(60)]);
        assert!(matches!(
            difference(&before, &[counted(1)], &Written::new(), &Own::new()),
            Err(CountError::Backwards(_))
        ));
        let truncated = Counted { is_locked_for_ddl: true, ..counted(0) };
        let foreign = Counted { is_foreign: true, is_locked_for_ddl: false, ..truncated.clone() };
        let counted = difference(&Baseline::new(), &[foreign], &Written::new(), &Own::new());
        assert!(matches!(counted, Err(CountError::Foreign(_))));
        let own = Counted { is_temporary: true, ..truncated.clone() };
        assert!(matches!(
            difference(&Baseline::new(), &[truncated], &Written::new(), &Own::new()),
            Err(CountError::Redefined(_))
        ));
        assert_eq!(difference(&Baseline::new(), &[own], &Written::new(), &Own::new()), Ok(vec![]));
    }
}
