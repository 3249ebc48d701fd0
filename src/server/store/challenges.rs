//! Nonces that prove freshness: made for one principal, used once, soon forgotten.

use crate::core::time::Moment;

use super::{Store, StoreError};

/// Most unused nonces of one principal. More than a handful of starts at once is not a person.
const MOST: i64 = 100;

impl Store {
    /// Remembers a nonce until `expires`. False: the principal has too many unused ones.
    pub async fn add_challenge(
        &self,
        nonce: &str,
        principal: &str,
        now: Moment,
        expires: Moment,
    ) -> Result<bool, StoreError> {
        sqlx::query("delete from challenges where expires <= $1").bind(now.micros()).execute(&self.pool).await?;
        let added = sqlx::query(
            "insert into challenges (nonce, principal, expires)
             select $1, $2, $3 where (select count(*) from challenges where principal = $2) < $4",
        )
        .bind(nonce)
        .bind(principal)
        .bind(expires.micros())
        .bind(MOST)
        .execute(&self.pool)
        .await?;
        Ok(added.rows_affected() == 1)
    }

    /// Uses a nonce up. True exactly once, for the principal it was made for, while it lasts.
    pub async fn use_challenge(&self, nonce: &str, principal: &str, now: Moment) -> Result<bool, StoreError> {
        let used = sqlx::query("delete from challenges where nonce = $1 and principal = $2 and expires > $3")
            .bind(nonce)
            .bind(principal)
            .bind(now.micros())
            .execute(&self.pool)
            .await?;
        Ok(used.rows_affected() == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::store::tests::scratch;

    #[tokio::test]
    async fn a_nonce_works_once_for_its_principal_and_not_after_its_time() {
        let (store, _folder) = scratch().await;
        let at = Moment::from_seconds;
        assert!(store.add_challenge("n1", "alice", at(100), at(400)).await.expect("add"));
        assert!(!store.use_challenge("n1", "mallory", at(101)).await.expect("another principal"));
        assert!(store.use_challenge("n1", "alice", at(102)).await.expect("first use"));
        assert!(!store.use_challenge("n1", "alice", at(103)).await.expect("second use"));
        assert!(store.add_challenge("n2", "alice", at(100), at(400)).await.expect("add"));
        assert!(!store.use_challenge("n2", "alice", at(400)).await.expect("too late"));
    }

    #[tokio::test]
    async fn unused_nonces_are_limited_for_each_principal_and_expire() {
        let (store, _folder) = scratch().await;
        let at = Moment::from_seconds;
        for number in 0..MOST {
            assert!(store.add_challenge(&format!("a{number}"), "alice", at(0), at(300)).await.expect("add"));
        }
        assert!(!store.add_challenge("one too many", "alice", at(1), at(301)).await.expect("refused"));
        assert!(store.add_challenge("b", "bob", at(1), at(301)).await.expect("another principal"));
        assert!(store.add_challenge("later", "alice", at(300), at(600)).await.expect("the old ones are gone"));
    }
}
