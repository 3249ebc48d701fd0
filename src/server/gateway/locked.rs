//! Rows that FOR UPDATE and its kin lock: PostgreSQL does not count them, so they are added up here, by table,
//! until the transaction ends.

use std::collections::BTreeSet;

use super::session::Session;
use crate::core::policy::Impact;
use crate::core::statement::facts::{Facts, Name, RowAction, RowLocks, TransactionVerb};

impl Session {
    /// The tables whose rows a statement may lock, and how many of all together for a row that it returns.
    pub(super) fn may_lock(&self, facts: &Facts) -> (Vec<Name>, u64) {
        let each = match facts.row_locks {
            RowLocks::None => return (Vec::new(), 0),
            RowLocks::Returned(each) => each,
            RowLocks::AtMost(_) | RowLocks::Uncounted => 1,
        };
        // Others may be of the session's own, or the server's.
        let mut seen = BTreeSet::new();
        let named = facts.touches.iter().map(|touch| &touch.relation).filter(|name| seen.insert(*name));
        let (mut tables, others): (Vec<_>, Vec<_>) = named.partition(|name| self.resolve(name).is_some());
        if tables.is_empty() {
            tables = others;
        }
        tables.truncate(usize::try_from(each).unwrap_or(usize::MAX));
        (tables.into_iter().cloned().collect(), each)
    }

    /// Adds up rows that are locked until the transaction ends. What is read on from a cursor counts where
    /// the cursor locks.
    pub(super) fn note_locks(&mut self, facts: &Facts, returned: u64) {
        if facts.transaction == Some(TransactionVerb::Begin) {
            // What was locked in front of it stays locked in the block: it is judged now.
            self.held.is_active |= !self.held.locked.is_empty();
        }
        let is_fetch = facts.verb == "FETCH";
        // A portal that it may go on in locks no rows.
        if self.portal_of(facts).is_some() {
            return;
        }
        let (tables, each) = match facts.prepared.as_ref().filter(|_| is_fetch) {
            Some(cursor) => match self.cursors.get(cursor) {
                Some(cursor) => cursor.locked.clone(),
                // Code has made it: it may be of whatever is locked already.
                None => (self.held.locked.keys().cloned().collect(), 1),
            },
            None if facts.locks => self.may_lock(facts),
            None => return,
        };
        // Of one table there may be as many as are left when every other one has had its row.
        let others = u64::try_from(tables.len().saturating_sub(1)).unwrap_or(u64::MAX);
        let most = each.saturating_sub(others).max(1);
        let (rows, tables) = match facts.row_locks {
            RowLocks::None => return,
            RowLocks::Returned(_) => (returned.saturating_mul(most), tables.as_slice()),
            RowLocks::AtMost(rows) if rows < u64::MAX => {
                let rows = rows.saturating_mul(most).max(if is_fetch { returned } else { 0 });
                // It is the bound of all together.
                (rows, if is_fetch { tables.as_slice() } else { tables.get(..1).unwrap_or_default() })
            }
            // A cursor that went to its end has locked all there is, and a parameter may say as much.
            RowLocks::AtMost(_) | RowLocks::Uncounted => {
                (self.most_locked(&tables).max(returned).saturating_mul(most), tables.as_slice())
            }
        };
        for name in tables.iter().filter(|_| rows > 0) {
            let locked = self.held.locked.entry(name.clone()).or_default();
            *locked = locked.saturating_add(rows);
        }
    }

    /// All rows there may be, by the target's statistics, of tables that a statement or its cursor locks.
    fn most_locked(&self, tables: &[Name]) -> u64 {
        let rows = tables.iter().map(|name| {
            let relation = self.resolve(name);
            // Nobody may have counted them.
            relation.map_or(0, |one| u64::try_from(one.estimated_rows).unwrap_or(u64::MAX))
        });
        rows.max().unwrap_or_default()
    }

    /// Locked rows, judged as rows that are about to be changed: that is what locks are taken for, so
    /// that those which were changed meanwhile do not count twice.
    pub(super) fn locked(&self, changed: &[Impact]) -> Vec<Impact> {
        // Outside of a block the locks are gone with the statement.
        let stays = self.is_block || self.held.is_kept_open;
        self.held
            .locked
            .iter()
            .filter(|_| stays)
            .filter_map(|(name, rows)| self.locked_of(name, *rows, changed))
            .collect()
    }

    fn locked_of(&self, name: &Name, rows: u64, changed: &[Impact]) -> Option<Impact> {
        let Some(relation) = self.resolve(name) else {
            // What the catalog does not know is the session's own, and so are its rows; but for a view,
            // whose rows are anybody's.
            let is_own = name.may_be_own() && !self.has_own_views;
            let (schema, relation, action) = (String::new(), name.name.clone(), RowAction::Update);
            let (of, direct, others) = (None, true, None);
            return (!is_own).then_some(Impact { schema, relation, action, rows, of, direct, others });
        };
        let is_of = |impact: &&Impact| {
            let is_change = matches!(impact.action, RowAction::Update | RowAction::Delete);
            is_change && impact.schema == relation.name.schema && impact.relation == relation.name.name
        };
        let changed: u64 = changed.iter().filter(is_of).map(|impact| impact.rows).sum();
        Some(Impact::expected(relation, RowAction::Update, rows.saturating_sub(changed)))
    }
}
