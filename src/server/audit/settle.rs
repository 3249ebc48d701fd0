//! Recorded before it runs: what must be durable before anything more is sent.
//!
//! What must stay true: the log keeps the order of its lines, so when one is durable, so are all
//! before it. Nothing goes to a target behind a line that must be durable and is not.

use super::log::LogError;
use super::session::SessionRecord;
use super::writer::Pending;

impl SessionRecord {
    /// Waits until every recorded statement that must be durable before it runs is so.
    pub async fn settled(&mut self) -> Result<(), LogError> {
        self.grown().await?;
        match self.unsettled.take() {
            Some(last) => self.settled_to(last).await,
            None => Ok(()),
        }
    }

    /// The last line that must be durable and is not yet. It is on its way from here on: nobody has to wait.
    ///
    /// # Errors
    /// When the log takes nothing.
    pub async fn settling(&mut self) -> Result<Option<Pending>, LogError> {
        self.grown().await?;
        let last = self.unsettled.filter(|last| !self.is_settled(*last));
        if last.is_some() {
            self.log.hurry();
        }
        Ok(last)
    }

    /// Whether what was recorded up to this line may run.
    pub fn is_settled(&self, line: Pending) -> bool {
        self.log.is_durable(line)
    }

    /// Waits for that. Cancel safe.
    pub async fn settled_to(&self, line: Pending) -> Result<(), LogError> {
        self.log.durable(line).await.map(drop)
    }
}
