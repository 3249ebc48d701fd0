//! Grants and how far they have come: live, ending, ended.

use sqlx::Row as _;

use crate::core::grant::{Grant, GrantId, SessionId};
use crate::core::time::Moment;

use super::{Store, StoreError};

impl Store {
    /// Remembers a new grant as live. `verifier` is the SCRAM verifier of its credential.
    pub async fn add_grant(&self, grant: &Grant, principal: &str, verifier: &str) -> Result<(), StoreError> {
        let document = serde_json::to_string(grant).map_err(StoreError::Document)?;
        sqlx::query(
            "insert into grants (id, session, principal, target, credential, verifier, expires, document)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(grant.id.as_str())
        .bind(grant.session.as_str())
        .bind(principal)
        .bind(&grant.target)
        .bind(&grant.user)
        .bind(verifier)
        .bind(grant.expires.micros())
        .bind(document)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Begins the end of a grant. True for the one caller that has to carry it out.
    pub async fn begin_end(&self, id: &GrantId, reason: &str) -> Result<bool, StoreError> {
        let changed = sqlx::query("update grants set state = 'ending', reason = $2 where id = $1 and state = 'live'")
            .bind(id.as_str())
            .bind(reason)
            .execute(&self.pool)
            .await?;
        Ok(changed.rows_affected() == 1)
    }

    /// Notes that nothing of a grant is left in its target. Its verifier is forgotten.
    pub async fn finish_end(&self, id: &GrantId, at: Moment) -> Result<(), StoreError> {
        sqlx::query("update grants set state = 'ended', ended = $2, verifier = '' where id = $1 and state = 'ending'")
            .bind(id.as_str())
            .bind(at.micros())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Forgets grants that ended before a moment.
    pub async fn forget_ended(&self, before: Moment) -> Result<(), StoreError> {
        let forgotten = sqlx::query("delete from grants where state = 'ended' and ended < $1").bind(before.micros());
        forgotten.execute(&self.pool).await?;
        Ok(())
    }

    /// Grants that have not come to their end: leftovers when a process starts.
    pub async fn unfinished_grants(&self) -> Result<Vec<Grant>, StoreError> {
        let rows = sqlx::query("select document from grants where state <> 'ended' order by id").fetch_all(&self.pool);
        rows.await?.iter().map(|row| read(row.try_get("document")?)).collect()
    }

    /// A grant by its id, in whatever state, with the principal it was made for.
    pub async fn grant(&self, id: &GrantId) -> Result<Option<(Grant, String)>, StoreError> {
        let row = sqlx::query("select document, principal from grants where id = $1").bind(id.as_str());
        self.one(row.fetch_optional(&self.pool).await?)
    }

    /// The grant whose recorded session this is, with the principal it was made for.
    pub async fn grant_of_session(&self, session: &SessionId) -> Result<Option<(Grant, String)>, StoreError> {
        let row = sqlx::query("select document, principal from grants where session = $1").bind(session.as_str());
        self.one(row.fetch_optional(&self.pool).await?)
    }

    fn one(&self, row: Option<sqlx::sqlite::SqliteRow>) -> Result<Option<(Grant, String)>, StoreError> {
        row.map(|row| Ok((read(row.try_get("document")?)?, row.try_get("principal")?))).transpose()
    }
}

fn read(document: &str) -> Result<Grant, StoreError> {
    serde_json::from_str(document).map_err(StoreError::Document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::store::tests::{grant, scratch};

    #[tokio::test]
    async fn a_grant_is_found_by_its_id_and_its_session() {
        let (store, _folder) = scratch().await;
        let grant = grant(1);
        store.add_grant(&grant, "alice", "SCRAM").await.expect("add");
        let (found, principal) = store.grant(&grant.id).await.expect("query").expect("grant");
        assert_eq!((found.user, principal.as_str()), (grant.user.clone(), "alice"));
        assert!(store.grant_of_session(&grant.session).await.expect("query").is_some());
        assert!(store.grant(&GrantId::from_random([9; 10])).await.expect("query").is_none());
    }

    #[tokio::test]
    async fn only_one_of_two_enders_carries_it_out() {
        let (store, _folder) = scratch().await;
        let grant = grant(1);
        store.add_grant(&grant, "alice", "SCRAM").await.expect("add");
        let (one, other) = tokio::join!(store.begin_end(&grant.id, "revoked"), store.begin_end(&grant.id, "expired"));
        assert_eq!(u8::from(one.expect("one")) + u8::from(other.expect("other")), 1);
        assert_eq!(store.unfinished_grants().await.expect("query").len(), 1);
        store.finish_end(&grant.id, Moment::from_seconds(5)).await.expect("finish");
        assert!(store.unfinished_grants().await.expect("query").is_empty());
        assert!(!store.begin_end(&grant.id, "again").await.expect("query"));
        store.forget_ended(Moment::from_seconds(5)).await.expect("query");
        assert!(store.grant(&grant.id).await.expect("query").is_some(), "it ended no earlier than that");
        store.forget_ended(Moment::from_seconds(6)).await.expect("query");
        assert!(store.grant(&grant.id).await.expect("query").is_none());
    }

    #[tokio::test]
    async fn what_was_written_is_there_when_the_store_is_opened_again() {
        let (store, folder) = scratch().await;
        store.add_grant(&grant(3), "alice", "SCRAM").await.expect("add");
        store.close().await;
        let store = Store::open(folder.path()).await.expect("open again");
        assert_eq!(store.unfinished_grants().await.expect("query").len(), 1);
    }
}
