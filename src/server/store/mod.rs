//! What the broker remembers across requests, in SQLite. `sqlx` is named in this folder only.
//!
//! State changes are compare-and-set (`update … where state = …`): two that race have one
//! winner, and the loser knows. A grant's state only ever goes live, ending, ended.

pub mod challenges;
pub mod grants;
pub mod images;
pub mod requests;

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use crate::sys::files::{self, FileError};

/// The migrations are part of the program, so that a binary and its store always fit.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("src/server/store/migrations");

/// How long a statement waits for another one's write.
const BUSY: Duration = Duration::from_secs(5);

/// The open store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
}

/// The store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store cannot be opened")]
    Open(#[source] sqlx::Error),
    #[error("the store cannot be brought to this version")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the store failed")]
    Query(#[from] sqlx::Error),
    #[error("the store holds a document that cannot be read")]
    Document(#[source] serde_json::Error),
}

impl StoreError {
    /// Whether the disk takes no more (SQLITE_IOERR, SQLITE_FULL): what must be remembered is not.
    pub fn is_disk(&self) -> bool {
        const PRIMARY: u32 = 0xff;
        let (Self::Open(sqlx::Error::Database(error)) | Self::Query(sqlx::Error::Database(error))) = self else {
            return false;
        };
        let code = error.code().and_then(|code| code.parse::<u32>().ok());
        code.is_some_and(|code| matches!(code & PRIMARY, 10 | 13))
    }
}

impl Store {
    /// Opens or makes `broker.sqlite` in a folder that only this program's user can read.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        let file = folder.join("broker.sqlite");
        // SQLite gives its other files the mode of this one, but keeps those that are there.
        files::make_private(&file)?;
        for beside in ["broker.sqlite-wal", "broker.sqlite-shm"].map(|name| folder.join(name)) {
            if beside.exists() {
                files::make_private(&beside)?;
            }
        }
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A grant that was handed out must be found again after a power cut, to be ended.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await.map_err(StoreError::Open)?;
        MIGRATIONS.run(&pool).await.map_err(StoreError::Migrate)?;
        Ok(Self { pool })
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Waits until everything is written and lets go of the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[cfg(test)]
pub mod tests {
    use super::Store;
    use crate::core::grant::{Access, Grant, GrantId, SessionId};
    use crate::core::identity::{Declared, Identity, Kind};
    use crate::core::time::Moment;
    use crate::sys::scratch::Scratch;

    #[tokio::test]
    async fn its_files_are_its_owners_alone_also_where_others_may_read_the_folder() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = Scratch::new();
        let open_to = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        };
        open_to(folder.path(), 0o755);
        let file = folder.path().join("broker.sqlite");
        std::fs::write(&file, b"").expect("an empty store");
        open_to(&file, 0o644);
        let store = Store::open(folder.path()).await.expect("a store opens");
        store.ping().await.expect("it answers");
        let mut files = 0;
        for one in std::fs::read_dir(folder.path()).expect("a folder").flatten() {
            assert_eq!(one.metadata().expect("a file").permissions().mode() & 0o077, 0, "{:?}", one.path());
            files += 1;
        }
        assert!(files >= 2, "the log beside it as well: {files}");
    }

    /// An empty store, and the folder it lives in for as long as the test does.
    pub async fn scratch() -> (Store, Scratch) {
        let folder = Scratch::new();
        (Store::open(folder.path()).await.expect("a store opens"), folder)
    }

    /// A grant whose ids come from `number`.
    pub fn grant(number: u8) -> Grant {
        let identity = Identity {
            kind: Kind::Human,
            subject: "alice@example.com".into(),
            sub: "alice".into(),
            issuer: "https://idp.example.com".into(),
            groups: vec!["engineers".into()],
            expires: Moment::from_seconds(10_000),
        };
        Grant {
            id: GrantId::from_random([number; 10]),
            session: SessionId::new(Moment::from_seconds(1), [number; 10]),
            target: "shop".into(),
            database: "shop".into(),
            environment: "production".into(),
            access: Access::Read,
            identity,
            declared: Declared::default(),
            reason: None,
            ticket: None,
            not_before: Moment::from_seconds(1),
            expires: Moment::from_seconds(1_000),
            scope: "00".into(),
            policy: "00".into(),
            client_key: None,
            user: format!("user{number}"),
        }
    }
}
