//! What a small write changed, kept where policy wants that: its rows as they were, and as it left them.
//!
//! Until the commit every other connection still sees the rows as they were, each with the number of
//! the transaction that is changing it (PostgreSQL 5.5, system columns). What must stay true: exactly
//! the rows that were counted are kept, or none; nothing is kept of what is masked in this session.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_postgres::{Client, SimpleQueryMessage};

use super::relay::Mode;
use super::session::{End, Session};
use crate::core::mask::{identifier, literal};
use crate::core::policy::Impact;
use crate::core::policy::limit::Undo;
use crate::core::scope::{RelationName, RelationScope};
use crate::core::statement::facts::RowAction;
use crate::core::undo::{Cells, Change, Column, Image, Kept};
use crate::core::wire::frontend;
use crate::server::grants::LiveGrant;
use crate::server::http::refusal::chain;
use crate::server::state::State;
use crate::sys::clock;

/// Rows of the largest table that is looked through for those that a statement has changed.
const LARGEST: u64 = 200_000;

/// The transaction's number as rows carry it.
const NUMBER: &str = "select pg_catalog.pg_current_xact_id()::pg_catalog.xid::pg_catalog.text";

/// The columns that rows are kept by, and which of them are the primary key.
const COLUMNS: &str = "select a.attname::text, coalesce(a.attnum = any (i.indkey), false), \
     (with recursive under (type, modifier, depth) as (select a.atttypid, a.atttypmod, 0 union all \
        select t.typbasetype, t.typtypmod, depth + 1 from under join pg_catalog.pg_type t on t.oid = type \
        where t.typtype = 'd') \
      select case t.typtype when 'c' then null else pg_catalog.format_type(type, modifier) end \
      from under join pg_catalog.pg_type t on t.oid = type order by depth desc limit 1) \
     from pg_catalog.pg_attribute a \
     left join pg_catalog.pg_index i on i.indrelid = a.attrelid and i.indisprimary \
     where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum";

/// Bytes of rows that are kept.
const MOST_BYTES: usize = 200 * 1024;

/// Values are written out alike whatever the settings of roles and databases say. The write waits, with its locks.
const STEADY: &str = "begin transaction read only; set local statement_timeout = '1s'; set local lock_timeout = '1s'; \
     set local search_path = pg_catalog; set local DateStyle = 'ISO, YMD'; set local IntervalStyle = 'postgres'; \
     set local TimeZone = 'UTC'; set local extra_float_digits = 1; set local bytea_output = 'hex'; \
     set local lc_monetary = 'C'; ";

/// A write that is about to be committed.
pub struct Pending {
    statement: u64,
    undo: Undo,
    found: Result<Found, String>,
}

/// Its rows, as they were.
struct Found {
    number: String,
    action: RowAction,
    change: Change,
    /// What stands for the masked columns of each row: whether they change is all that is asked.
    marks: Vec<Option<String>>,
    /// Reads one row as the kept columns and that mark.
    list: String,
}

impl Session {
    /// Before the commit: reads the rows as everybody else still sees them. False where the target
    /// has failed, and the client has its error.
    pub(super) async fn keep_before(&mut self, mode: Mode) -> Result<bool, End> {
        let (Some(undo), Some((statement, _))) = (self.held.undo, self.last_held()) else { return Ok(true) };
        if self.held.impacts.is_empty() {
            return Ok(true);
        }
        let found = match self.small_change(undo) {
            Err(reason) => Err(reason),
            Ok((name, action, rows)) => {
                self.ask_fresh("dbgate_number", NUMBER, &[]);
                frontend::flush(&mut self.up);
                let drained = self.round(mode).await?;
                if drained.failed {
                    return Ok(false);
                }
                match drained.rows.into_iter().flatten().flatten().next() {
                    Some(number) => self.beside().rows_before(&name, action, rows, number).await,
                    None => return Err(End::Protocol),
                }
            }
        };
        self.held.image = Some(Box::new(Pending { statement, undo, found }));
        Ok(true)
    }

    /// The one kind of change there is, or why nothing is kept.
    fn small_change(&self, undo: Undo) -> Result<(RelationName, RowAction, u64), String> {
        let [impact] = self.held.impacts.as_slice() else {
            return Err("it changed more than one table, or one in more than one way".to_owned());
        };
        let reason = match impact.action {
            _ if self.net.is_some() => "what passes here is looked through, and kept rows would not be".to_owned(),
            _ if !impact.direct => "it reached the table by a cascade or a trigger".to_owned(),
            _ if !self.held.is_single_write() => "it was not the only write of its transaction".to_owned(),
            RowAction::Insert => "what was inserted is taken back by deleting it".to_owned(),
            RowAction::Read => "it did not change rows one by one".to_owned(),
            RowAction::Update | RowAction::Delete if impact.rows > undo.rows => {
                format!("it changed {} rows, and policy keeps at most {}", impact.rows, undo.rows)
            }
            RowAction::Update | RowAction::Delete if impact.of.is_none_or(|of| of > LARGEST) => {
                format!("the table may hold more than {LARGEST} rows, too many to look through")
            }
            RowAction::Update | RowAction::Delete if self.has_row_security(impact) => {
                "the table has row policies, and what is kept could be more than you may see".to_owned()
            }
            RowAction::Update | RowAction::Delete => {
                return Ok((RelationName::new(&impact.schema, &impact.relation), impact.action, impact.rows));
            }
        };
        Err(reason)
    }

    /// After the commit: reads what has become of the rows, and keeps both.
    pub(super) async fn keep_after(&mut self) {
        let Some(pending) = self.held.image.take() else { return };
        let Pending { statement, undo, found } = *pending;
        let kept = match found {
            Ok(found) => self.beside().rows_after(found).await,
            Err(reason) => Err(reason),
        };
        let (grant, at) = (&self.grant.grant, clock::now());
        let image = Image {
            session: self.record.session().as_str().to_owned(),
            statement,
            principal: self.people.principal().to_owned(),
            agent: grant.declared.agent.clone(),
            target: grant.target.clone(),
            database: grant.database.clone(),
            at,
            expires: at.after(undo.keep),
            kept: kept.map_or_else(Kept::Nothing, Kept::Change),
        };
        if let Err(error) = self.people.state.images.keep(&image).await {
            tracing::warn!(error = %chain(&error), "what a write changed could not be kept");
        }
    }

    fn has_row_security(&self, impact: &Impact) -> bool {
        let name = RelationName::new(&impact.schema, &impact.relation);
        self.catalog.relations.get(&name).is_none_or(|relation| relation.has_row_security)
    }

    /// Where rows are read beside the transaction.
    fn beside(&self) -> Beside {
        Beside { state: self.people.state.clone(), live: self.grant.clone() }
    }
}

/// Connections of the broker's own role.
struct Beside {
    state: Arc<State>,
    live: Arc<LiveGrant>,
}

impl Beside {
    async fn rows_before(
        &self,
        name: &RelationName,
        action: RowAction,
        rows: u64,
        number: String,
    ) -> Result<Found, String> {
        let scope = self.live.scope.relations.get(name).filter(|scope| scope.read && !scope.is_closed());
        let scope = scope.ok_or("the table is not open to you as it is: it is filtered, or reached by a cascade")?;
        self.with(async |admin| {
            let (columns, masked) = columns(admin, scope).await?;
            if action == RowAction::Delete && !masked.is_empty() {
                return Err("columns of the table are masked for you, so its rows cannot be put back whole".to_owned());
            }
            let list = list(&columns, &masked);
            let sql = format!("select {list} from only {} where xmax::text = {}", name.quoted(), literal(&number));
            let (before, marks) = split(read(admin, &sql).await?);
            if u64::try_from(before.len()).ok() != Some(rows) {
                return Err(
                    "its rows could not all be found: it wrote them behind a savepoint, others lock them, or they are too large".to_owned()
                );
            }
            let change = Change { relation: name.clone(), columns, before, after: None };
            Ok(Found { number, action, change, marks, list })
        })
        .await
    }

    async fn rows_after(&self, found: Found) -> Result<Change, String> {
        let Found { number, action, mut change, marks, list } = found;
        let keys = change.keys();
        let wanted: Vec<_> = change.before.iter().map(|row| change.key_values(row)).collect();
        let row_in = format!("({}) in ({})", keys.join(", "), wanted.join(", "));
        let name = change.relation.quoted();
        self.with(async |admin| {
            let is_deleted = action == RowAction::Delete;
            let newest = if is_deleted { String::new() } else { format!(" and xmin::text = {}", literal(&number)) };
            let sql = format!("select {list} from only {name} where {row_in}{newest}");
            let (after, marked) = split(read(admin, &sql).await?);
            let is_as_told = if is_deleted { after.is_empty() } else { after.len() == change.before.len() };
            if !is_as_told {
                return Err(
                    "its rows were not found again: it changed their primary keys, or others changed them at once"
                        .to_owned(),
                );
            }
            if !is_deleted {
                let mut by_key: BTreeMap<_, _> =
                    after.into_iter().zip(marked).map(|(row, mark)| (change.key_values(&row), (row, mark))).collect();
                let sorted: Option<Vec<_>> = wanted.iter().map(|key| by_key.remove(key)).collect();
                let (after, marked): (Vec<_>, Vec<_>) = sorted.ok_or("it changed primary keys")?.into_iter().unzip();
                if marked != marks {
                    return Err("it changed columns that are masked for you".to_owned());
                }
                change.after = Some(after);
            }
            Ok(change)
        })
        .await
    }

    /// Does something there; a failure is a reason to keep nothing.
    async fn with<T>(&self, work: impl AsyncFnOnce(&Client) -> Result<T, String>) -> Result<T, String> {
        let grant = &self.live.grant;
        let served = self.state.target(&grant.target).ok_or("the target is not configured any more")?;
        let database = &grant.database;
        let admin = served.admins().borrow(served.target(), database).await.map_err(|error| unread(&error))?;
        let done = work(&admin).await;
        // What has failed may have left its transaction open.
        if done.is_ok() {
            served.admins().keep(admin, database);
        }
        done
    }
}

/// The columns that are kept, and the names of those that are masked.
async fn columns(admin: &Client, scope: &RelationScope) -> Result<(Vec<Column>, Vec<String>), String> {
    let rows = admin.query(COLUMNS, &[&scope.oid]).await.map_err(|error| unread(&error))?;
    let (mut columns, mut masked) = (Vec::new(), Vec::new());
    for row in rows {
        let (name, is_key): (String, bool) = (row.get(0), row.get(1));
        // Rows are found again by the server itself: a check of a domain would run with its rights.
        let below: Option<String> = row.get(2);
        let known = scope.columns.iter().find(|column| column.name == name);
        let known = known.ok_or("the table's definition has just changed")?;
        match (&known.mask, is_key) {
            (Some(_), true) => return Err("its primary key is masked for you".to_owned()),
            (Some(_), false) => masked.push(identifier(&name)),
            (None, true) => {
                let type_name = below.ok_or("its primary key is of a type of the database's own")?;
                columns.push(Column { name, type_name, is_key });
            }
            (None, false) => columns.push(Column { name, type_name: known.type_name.clone(), is_key }),
        }
    }
    match columns.iter().any(|column| column.is_key) {
        true => Ok((columns, masked)),
        false => Err("the table has no primary key by which rows are found again".to_owned()),
    }
}

/// Every kept column as text, and a mark that stands for the masked ones.
fn list(columns: &[Column], masked: &[String]) -> String {
    // By the type's own output, which no cast of an owner's can take the place of.
    let text = |column: &Column| {
        let name = identifier(&column.name);
        format!("case when {name} is distinct from null then pg_catalog.format('%s', {name}) end")
    };
    let mut list: Vec<_> = columns.iter().map(text).collect();
    list.push(match masked {
        [] => "null".to_owned(),
        masked => format!("pg_catalog.md5(row({})::text)", masked.join(", ")),
    });
    list.join(", ")
}

async fn read(admin: &Client, sql: &str) -> Result<Vec<Cells>, String> {
    let all = format!(
        "{STEADY}with found as materialized ({sql}), \
         size as (select coalesce(sum(pg_catalog.octet_length(found::text)), 0) as bytes from found) \
         select found.* from found, size where size.bytes <= {MOST_BYTES}; rollback"
    );
    let answers = admin.simple_query(&all).await.map_err(|error| unread(&error))?;
    let cells = |answer: &SimpleQueryMessage| match answer {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
        _ => None,
    };
    Ok(answers.iter().filter_map(cells).collect())
}

/// The reason for whoever asks; the error is for the program's log.
fn unread(error: &(dyn std::error::Error + 'static)) -> String {
    tracing::warn!(error = chain(error), "what a write changed could not be read");
    "its rows could not be read beside it".to_owned()
}

/// The last cell of each row is its mark.
fn split(rows: Vec<Cells>) -> (Vec<Cells>, Vec<Option<String>>) {
    let parted = rows.into_iter().map(|mut row| {
        let mark = row.pop().flatten();
        (row, mark)
    });
    parted.unzip()
}
