//! What small writes changed: sealed before it comes here, gone when it expires.

use sqlx::Row as _;

use crate::core::time::Moment;

use super::{Store, StoreError};

/// A sealed image of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub session: String,
    pub statement: i64,
    pub bytes: Vec<u8>,
}

/// Most images of one answer; later statements come first.
const MOST: i64 = 200;

impl Store {
    /// Keeps one, and forgets those whose time is over.
    pub async fn keep_image(&self, image: &Sealed, expires: Moment, now: Moment) -> Result<(), StoreError> {
        self.forget_images(now).await?;
        sqlx::query("insert into images (session, statement, expires, sealed) values ($1, $2, $3, $4)")
            .bind(&image.session)
            .bind(image.statement)
            .bind(expires.micros())
            .bind(&image.bytes)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Those of one session that have not expired.
    pub async fn images_of(&self, session: &str, now: Moment) -> Result<Vec<Sealed>, StoreError> {
        let sql = "select session, statement, sealed from images where session = $1 and expires > $2
                   order by statement desc limit $3";
        let rows = sqlx::query(sql).bind(session).bind(now.micros()).bind(MOST).fetch_all(&self.pool).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Sealed {
                session: row.try_get("session")?,
                statement: row.try_get("statement")?,
                bytes: row.try_get("sealed")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Forgets those whose time is over.
    pub async fn forget_images(&self, now: Moment) -> Result<(), StoreError> {
        sqlx::query("delete from images where expires <= $1").bind(now.micros()).execute(&self.pool).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::store::tests::scratch;

    #[tokio::test]
    async fn an_image_is_there_until_it_expires_and_then_gone_from_the_file() {
        let (store, _folder) = scratch().await;
        let image = |statement| Sealed { session: "ses_1".into(), statement, bytes: vec![1, 2] };
        let at = Moment::from_seconds;
        store.keep_image(&image(1), at(10), at(1)).await.expect("kept");
        store.keep_image(&image(2), at(20), at(1)).await.expect("kept");
        assert_eq!(store.images_of("ses_1", at(9)).await.expect("read"), [image(2), image(1)]);
        assert_eq!(store.images_of("ses_1", at(10)).await.expect("read"), [image(2)]);
        assert_eq!(store.images_of("ses_2", at(1)).await.expect("read"), []);
        store.forget_images(at(10)).await.expect("forgotten");
        assert_eq!(store.images_of("ses_1", at(1)).await.expect("read"), [image(2)]);
    }
}
