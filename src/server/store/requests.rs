//! Requests that wait for people: kept whole, changed one version at a time.

use sqlx::Row as _;

use crate::core::approval::{Request, RequestId};
use crate::core::time::Moment;

use super::{Store, StoreError};

/// A request and the version of it that was read.
#[derive(Clone, Debug)]
pub struct Versioned {
    pub request: Request,
    pub version: i64,
}

/// Most requests of one list; older ones are in the log.
const MOST: i64 = 200;

/// The one query of this file, with what it looks for.
macro_rules! requests {
    ($tail:literal) => {
        concat!("select document, version from requests ", $tail)
    };
}

impl Store {
    /// Keeps a new request. False where the same statement is asked for already.
    pub async fn add_request(&self, request: &Request) -> Result<bool, StoreError> {
        let added = sqlx::query(
            "insert into requests (id, principal, target, binding, statement, state, created, expires, document)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing",
        )
        .bind(request.id.as_str())
        .bind(&request.binding.principal)
        .bind(&request.binding.target)
        .bind(request.binding.digest())
        .bind(request.binding.statement_digest())
        .bind(request.state.word())
        .bind(request.created.micros())
        .bind(request.expires.micros())
        .bind(document(request)?)
        .execute(&self.pool)
        .await?;
        Ok(added.rows_affected() == 1)
    }

    /// Puts the next state in the place of the version that was read. False for the loser of a race.
    pub async fn change_request(&self, next: &Request, version: i64) -> Result<bool, StoreError> {
        let changed = sqlx::query(
            "update requests set state = $3, document = $4, review = $5, version = version + 1
             where id = $1 and version = $2",
        )
        .bind(next.id.as_str())
        .bind(version)
        .bind(next.state.word())
        .bind(document(next)?)
        .bind(review(next))
        .execute(&self.pool)
        .await?;
        Ok(changed.rows_affected() == 1)
    }

    /// One request by its id.
    pub async fn request(&self, id: &RequestId) -> Result<Option<Versioned>, StoreError> {
        let row = sqlx::query(requests!("where id = $1")).bind(id.as_str()).fetch_optional(&self.pool);
        row.await?.as_ref().map(read).transpose()
    }

    /// The open request for exactly this.
    pub async fn open_request(&self, binding: &str) -> Result<Option<Versioned>, StoreError> {
        let sql = requests!("where binding = $1 and state in ('pending', 'approved')");
        let row = sqlx::query(sql).bind(binding).fetch_optional(&self.pool);
        row.await?.as_ref().map(read).transpose()
    }

    /// Open requests of a principal for this text, whatever else they are bound to.
    pub async fn open_requests_for(&self, principal: &str, statement: &str) -> Result<Vec<Versioned>, StoreError> {
        let sql = requests!("where principal = $1 and statement = $2 and state in ('pending', 'approved') order by id");
        let rows = sqlx::query(sql).bind(principal).bind(statement).fetch_all(&self.pool);
        rows.await?.iter().map(read).collect()
    }

    /// Open requests whose time is over.
    pub async fn overdue_requests(&self, now: Moment) -> Result<Vec<Versioned>, StoreError> {
        let sql = requests!("where state in ('pending', 'approved') and expires <= $1 order by id");
        sqlx::query(sql).bind(now.micros()).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// Requests whose glass was broken and that nobody has looked at in time. One that was told of is
    /// not found again.
    pub async fn overdue_reviews(&self, now: Moment) -> Result<Vec<Versioned>, StoreError> {
        let sql = requests!("where review <= $1 order by id");
        sqlx::query(sql).bind(now.micros()).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// What one principal asked for, the newest first.
    pub async fn requests_of(&self, principal: &str) -> Result<Vec<Versioned>, StoreError> {
        let sql = requests!("where principal = $1 order by created desc, id limit $2");
        sqlx::query(sql).bind(principal).bind(MOST).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// Every request that is approved and not used.
    pub async fn approved_requests(&self) -> Result<Vec<Versioned>, StoreError> {
        let sql = requests!("where state = 'approved' order by id");
        sqlx::query(sql).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// How many of a principal's requests are open.
    pub async fn count_open_requests(&self, principal: &str) -> Result<i64, StoreError> {
        let sql = "select count(*) from requests where principal = $1 and state in ('pending', 'approved')";
        Ok(sqlx::query_scalar(sql).bind(principal).fetch_one(&self.pool).await?)
    }

    /// Every request that waits for somebody, then the newest of the others.
    pub async fn requests(&self) -> Result<Vec<Versioned>, StoreError> {
        let sql = requests!(
            "where state = 'pending' or review is not null or id in (
                 select id from requests where state <> 'pending' and review is null order by created desc, id limit $1)
             order by state <> 'pending' and review is null, created desc, id"
        );
        sqlx::query(sql).bind(MOST).fetch_all(&self.pool).await?.iter().map(read).collect()
    }
}

/// When a review is due that was not made; far away once reviewers were reminded.
fn review(request: &Request) -> Option<i64> {
    let glass = request.glass.as_ref().filter(|_| request.awaits_review())?;
    Some(if glass.is_overdue { i64::MAX } else { glass.due.micros() })
}

fn document(request: &Request) -> Result<String, StoreError> {
    serde_json::to_string(request).map_err(StoreError::Document)
}

fn read(row: &sqlx::sqlite::SqliteRow) -> Result<Versioned, StoreError> {
    let request = serde_json::from_str(row.try_get("document")?).map_err(StoreError::Document)?;
    Ok(Versioned { request, version: row.try_get("version")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::approval::tests::{at, request};
    use crate::server::store::tests::scratch;

    #[tokio::test]
    async fn of_two_that_race_one_changes_it() {
        let (store, _folder) = scratch().await;
        let request = request();
        assert!(store.add_request(&request).await.expect("added"));
        let read = store.request(&request.id).await.expect("query").expect("there");
        let withdrawn = read.request.withdraw(&request.binding.principal).expect("own");
        let expired = read.request.expire(at(3600)).expect("over");
        let (one, other) =
            tokio::join!(store.change_request(&withdrawn, read.version), store.change_request(&expired, read.version));
        assert_eq!(u8::from(one.expect("one")) + u8::from(other.expect("other")), 1);
    }

    #[tokio::test]
    async fn the_same_statement_is_asked_for_once_at_a_time() {
        let (store, _folder) = scratch().await;
        let first = request();
        let second = Request { id: RequestId::from_random([2; 10]), ..first.clone() };
        assert!(store.add_request(&first).await.expect("added"));
        assert!(!store.add_request(&second).await.expect("refused"));
        let open = store.open_request(&first.binding.digest()).await.expect("query").expect("open");
        assert_eq!(open.request, first);
        let withdrawn = first.withdraw(&first.binding.principal).expect("own");
        assert!(store.change_request(&withdrawn, open.version).await.expect("changed"));
        assert!(store.add_request(&second).await.expect("added"), "the first is closed");
        assert_eq!(store.overdue_requests(at(3600)).await.expect("query").len(), 1);
        assert_eq!(store.requests_of(&first.binding.principal).await.expect("query").len(), 2);
        assert_eq!(store.requests().await.expect("query")[0].request.id, second.id, "what waits comes first");
    }
}
