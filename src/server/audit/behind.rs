//! Parts of a message that are judged after others of it have run: they follow in the record as they
//! are judged.

use serde_json::json;

use super::log::LogError;
use super::session::{Protocol, SessionRecord, count};
use super::settle::Due;
use crate::core::policy::{Cleared, Denial};
use crate::core::time::Moment;
use crate::core::transcript::content;

impl SessionRecord {
    /// Records further parts of a message whose first ones have run. They may be sent once
    /// [`SessionRecord::settled`] has returned.
    pub async fn allowed_behind(
        &mut self,
        (number, first): (u64, usize),
        cleared: &[&Cleared],
        forwarded: Option<&str>,
        now: Moment,
    ) -> Result<(), LogError> {
        self.written().await?;
        for (at, one) in cleared.iter().enumerate() {
            self.statement(number, first + at, one.facts(), Protocol::Simple);
            self.members.text("dec", "allow");
            if let Some(text) = forwarded.filter(|_| at == 0) {
                self.members.hex("fwd_c", &content::statement_digest(&self.key, text));
            }
            let line = self.queue("stmt", now).await?;
            self.unsettled.note(line, Due::Sent);
            self.outstanding.insert(number, count(first + at));
        }
        Ok(())
    }

    /// Records that a part was refused after those before it had run: of what follows it nothing is run.
    pub async fn denied_behind(
        &mut self,
        number: u64,
        part: usize,
        denial: &Denial,
        now: Moment,
    ) -> Result<(), LogError> {
        self.written().await?;
        self.given(json!({
            "no": number, "part": part, "proto": Protocol::Simple.word(), "who": self.who, "dec": "deny",
            "rules": [content::clip(&denial.rule, 256)], "code": content::clip(&denial.code, 256),
        }))?;
        let recorded = self.queue("stmt", now).await?;
        self.denied += 1;
        self.log.durable(recorded).await.map(drop)
    }
}
