//! What becomes of statements that were let through, beside a result or an error: skipped behind
//! one that failed, or undone with their transaction.
//!
//! What must stay true: whatever was let through has its outcome as soon as it is known; a result
//! that does not stand is said not to.

use serde_json::{Value, json};

use super::log::LogError;
use super::session::{LONGEST_NAME, MOST_OBJECTS, SessionRecord};
use crate::core::policy::{Denial, Impact};
use crate::core::time::Moment;
use crate::core::transcript::{LONGEST_RUN, content};

/// What the open transaction has done.
#[derive(Default)]
pub(super) struct Standing {
    /// The first part that has changed something, by number and part.
    first: Option<(u64, u32)>,
    /// The SQLSTATE that the client was told last.
    told: String,
    /// Why the transaction cannot commit any more.
    failed: Option<String>,
    /// It has ended without a commit, and that is not recorded yet.
    is_undone: bool,
}

impl SessionRecord {
    /// Notes that a part has done something that stands once its transaction commits.
    pub fn has_changed(&mut self, number: u64, part: u32) {
        self.standing.first.get_or_insert((number, part));
    }

    /// Notes which error the client was told.
    pub fn told(&mut self, state: &str) {
        content::clip(state, 64).clone_into(&mut self.standing.told);
    }

    /// The open transaction has failed, with the error that was told last. The first one counts.
    pub fn has_failed(&mut self) {
        let Standing { told, failed, .. } = &mut *self.standing;
        failed.get_or_insert_with(|| told.clone());
    }

    /// What failed was taken back to a savepoint: the transaction goes on.
    pub fn has_recovered(&mut self) {
        self.standing.failed = None;
    }

    /// The transaction has committed.
    pub fn has_committed(&mut self) {
        (self.standing.first, self.standing.failed) = (None, None);
    }

    /// The transaction was rolled back.
    pub fn has_rolled_back(&mut self) {
        self.standing.is_undone = self.standing.first.is_some();
        if !self.standing.is_undone {
            self.standing.failed = None;
        }
    }

    /// No transaction is open any more: what has failed is undone, anything else has committed.
    pub fn has_ended(&mut self) {
        match &self.standing.failed {
            Some(_) => self.has_rolled_back(),
            None => self.has_committed(),
        }
    }

    /// Whether the end of a transaction is to be recorded.
    pub fn is_undone(&self) -> bool {
        self.standing.is_undone
    }

    /// Records that the transaction was rolled back: nothing that it did stands.
    pub async fn undone(&mut self, now: Moment) -> Result<(), LogError> {
        let (first, failed) = (self.standing.first.take(), self.standing.failed.take());
        self.standing.is_undone = false;
        let Some((number, part)) = first else { return Ok(()) };
        self.written().await?;
        self.given(match failed {
            Some(state) => json!({"no": number, "part": part, "state": state}),
            None => json!({"no": number, "part": part}),
        })?;
        self.write("undone", now, false).await
    }

    /// Records that nothing of what has no outcome yet was run: the error that was told last came first.
    pub async fn skip_rest(&mut self, now: Moment) -> Result<(), LogError> {
        self.written().await?;
        while let Some((number, part, times)) = self.outstanding.first_run() {
            let times = times.min(LONGEST_RUN);
            let mut members = json!({"no": number, "part": part, "state": self.standing.told});
            if let (2.., Some(members)) = (times, members.as_object_mut()) {
                members.insert("times".to_owned(), times.into());
            }
            self.given(members)?;
            self.write("skipped", now, false).await?;
            match part {
                0 => self.outstanding.remove_run(number..number + times),
                _ => self.outstanding.remove(number, part),
            }
        }
        Ok(())
    }

    /// Records that a statement was cancelled: by `client`, `policy`, `timeout` or `admin`.
    pub async fn cancel(&mut self, number: u64, by: &str, now: Moment) -> Result<(), LogError> {
        self.written().await?;
        self.given(json!({"no": number, "by": by}))?;
        self.write("cancel", now, false).await
    }

    /// Records what a held write changed, and whether it was let stand.
    pub async fn impact(&mut self, number: u64, impacts: &[Impact], stands: bool, now: Moment) -> Result<(), LogError> {
        self.written().await?;
        let changes: Vec<Value> = impacts
            .iter()
            .take(MOST_OBJECTS)
            .map(|impact| {
                json!({"rel": content::clip(&format!("{}.{}", impact.schema, impact.relation), LONGEST_NAME),
                       "act": impact.action.word(), "rows": impact.rows, "direct": impact.direct})
            })
            .collect();
        let members = json!({"no": number, "n": impacts.len(), "changes": changes, "stands": stands});
        self.given(members)?;
        self.write("impact", now, false).await
    }

    /// Records that the gateway itself stopped a statement after it had let it through: by what it
    /// did, not by its text. Unlike [`SessionRecord::denied`] it is no new statement of the client's.
    pub async fn vetoed(
        &mut self,
        number: u64,
        part: u32,
        state: &str,
        denial: &Denial,
        now: Moment,
    ) -> Result<(), LogError> {
        self.written().await?;
        self.told(state);
        let members = json!({
            "no": number, "part": part, "state": state, "by": "gateway",
            "rules": [content::clip(&denial.rule, 256)], "code": content::clip(&denial.code, 256),
        });
        self.given(members)?;
        self.write("error", now, true).await?;
        self.errors += 1;
        self.outstanding.remove(number, part.into());
        Ok(())
    }

    /// Records that nobody can say how a part ended.
    pub async fn unknown(&mut self, number: u64, part: u32, now: Moment) -> Result<(), LogError> {
        self.written().await?;
        self.given(json!({"no": number, "part": part}))?;
        self.write("result.unknown", now, false).await?;
        self.outstanding.remove(number, part.into());
        Ok(())
    }
}
