//! Definitions and maintenance that people have approved: each runs once, by itself, as the owner
//! of what it changes.
//!
//! A session's own role holds no such right and gets none. A login role is made for the one
//! statement, becomes the owner as it connects, and is dropped behind it. What must stay true: such
//! a connection is sent the approved text and nothing else; only owners that the configuration
//! names are lent, and none that is more than an owner of tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::session::{End, Session};
use super::upstream;
use crate::core::approval::Trial;
use crate::core::mask::literal;
use crate::core::policy::{Denial, Impact};
use crate::core::role_sql;
use crate::core::statement::facts::{Facts, RowAction, Upkeep};
use crate::core::wire::backend::{self, ErrorFields, WITHHELD};
use crate::core::wire::frontend;
use crate::server::audit::ResultRecord;
use crate::server::check::{Planned, refused};
use crate::server::http::refusal::chain;
use crate::sys::clock;
use crate::sys::dial::{CancelHandle, Connection};

/// Owners of relations, and whether they are more than that. Without relations, the one role.
const OWNERS: &str = "select r.rolname::text, \
     r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls \
     from pg_catalog.pg_roles r \
     where r.oid in (select c.relowner from pg_catalog.pg_class c where c.oid = any ($1)) \
        or (pg_catalog.cardinality($1) = 0 and r.rolname = $2)";

/// What blocks others gives up waiting for its lock: those who come behind it would wait, too.
const LOCK_TIMEOUT: &str = "5s";
/// Settings that the connection as the owner has of its own, whatever the approval is bound to.
const OF_ITS_OWN: [&str; 8] = [
    "search_path",
    "role",
    "session_replication_role",
    "client_encoding",
    "statement_timeout",
    "lock_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
];
/// SQLSTATEs under which PostgreSQL's own words quote no value, whatever expression the definition evaluates over
/// rows.
const QUOTES_NOTHING: [&str; 18] = [
    "42804", "0A000", "25001", "2BP01", "40001", "40P01", "42501", "42701", "42703", "42710", "42P06", "42P07",
    "53100", "53200", "55000", "55006", "55P03", "57014",
];

/// What PostgreSQL says where `statement_timeout` ends a statement, whatever code it runs.
const TIME_IS_UP: &str = "canceling statement due to statement timeout";

impl Session {
    /// Whether a statement runs as the owner of what it changes: people have said so.
    pub(super) fn is_lent(&self, planned: &Planned) -> bool {
        planned.cleared.facts().upkeep.is_some() && self.people.lift.is_some()
    }

    /// The role that owns all of these relations, where it may be lent.
    pub(super) async fn owner_of(&mut self, oids: &[u32]) -> Result<String, Box<Denial>> {
        let not_lent = |message: &str| {
            refused("not_lent", message, "name the owner in `lend` of the target, or let the owner do it")
        };
        let Some(served) = self.people.state.target(&self.grant.grant.target) else {
            return Err(not_lent("the target is not configured any more"));
        };
        let lend = &served.target().config().lend;
        let only = if let [only] = lend.as_slice() { only.as_str() } else { "" };
        let database = &self.grant.grant.database;
        let asked = async {
            let admin = served.admins().borrow(served.target(), database).await.map_err(|error| chain(&error))?;
            let rows = admin.query(OWNERS, &[&oids, &only]).await.map_err(|error| chain(&error))?;
            served.admins().keep(admin, database);
            Ok::<_, String>(rows)
        };
        let rows = asked.await.map_err(|error| {
            tracing::warn!(error, "owners cannot be looked up");
            not_lent("the owner of what it changes cannot be looked up now")
        })?;
        let [row] = rows.as_slice() else {
            return Err(not_lent("it takes the rights of one owner that is lent, and there is not exactly one"));
        };
        let (owner, is_more): (String, bool) = (row.get(0), row.get(1));
        match (lend.contains(&owner), is_more) {
            (false, _) => Err(not_lent(&format!("it takes the rights of the owner `{owner}`, which is not lent"))),
            (true, true) => Err(not_lent(&format!("`{owner}` is more than an owner of tables, so it is not lent"))),
            (true, false) => Ok(owner),
        }
    }

    /// What reviewers are told of a definition: it cannot be tried. Rows are those of the statistics.
    pub(super) fn expected_of(&self, facts: &Facts) -> Trial {
        let emptied = facts.touches.iter().filter(|touch| touch.action == RowAction::Delete).filter_map(|touch| {
            let relation = self.resolve(&touch.relation)?;
            let rows = u64::try_from(relation.estimated_rows).ok()?;
            Some(Impact::expected(relation, RowAction::Delete, rows))
        });
        let skipped = Some("definitions and maintenance cannot be tried; rows are those of the statistics".to_owned());
        Trial { impacts: emptied.collect(), skipped, ..Trial::default() }
    }

    /// Runs an approved statement as the owner, and tells the client how it ended, short of
    /// ReadyForQuery. False when it failed.
    pub(super) async fn run_lent(&mut self, planned: &Arc<Planned>, number: u64) -> Result<bool, End> {
        self.record.settled().await?;
        let started = Instant::now();
        let tag = match self.as_owner(planned).await? {
            Ok(tag) => tag,
            Err(Unfinished { fields, is_known }) => {
                if is_known {
                    self.people.note_failure(&fields.sqlstate, &fields.message);
                    self.record.told(&fields.sqlstate);
                    self.record.error(number, 0, &fields.sqlstate, clock::now()).await?;
                } else {
                    // Its outcome stays open.
                    self.people.lift = None;
                    self.record.unknown(number, 0, clock::now()).await?;
                }
                self.client.error(&fields);
                return Ok(false);
            }
        };
        self.people.note_tag(planned.cleared.facts(), &tag);
        let result = ResultRecord {
            tag: &tag,
            columns: &[],
            masked: &[],
            rows: 0,
            bytes: 0,
            micros: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            rows_digest: self.record.key().no_rows(),
            transaction: 'I',
        };
        self.record.result(number, 0, result, clock::now()).await?;
        backend::write_command_complete(&tag, self.client.out());
        let (target, database) = (&self.grant.grant.target, &self.grant.grant.database);
        // What has just changed is known to the next grant; a failure is made up for by the timer.
        if self.people.state.refresh_catalog(target, database).await.is_err() {
            tracing::warn!(target, database, "the catalog is read anew later");
        }
        Ok(true)
    }

    /// The tag of the statement, or the error to tell. Whatever happens, the role is gone behind it.
    async fn as_owner(&mut self, planned: &Planned) -> Result<Result<String, Unfinished>, End> {
        let Some(lift) = &self.people.lift else { return Err(End::Protocol) };
        let (oids, settings) = (lift.binding().oids(), lift.binding().settings.clone());
        let owner = match self.owner_of(&oids).await {
            Ok(owner) => owner,
            Err(denial) => return Ok(Err(Unfinished::known(super::refuse::denial_error(&denial, "")))),
        };
        let (state, live) = (self.people.state.clone(), self.grant.clone());
        let Some(served) = state.target(&live.grant.target) else { return Err(End::TargetLost) };
        let path = path(&self.search_path);
        let longest = served.target().config().lend_for.as_millis().to_string();
        let mut parameters = vec![
            ("search_path", path.as_str()),
            ("application_name", "dbgate upkeep"),
            ("statement_timeout", longest.as_str()),
        ];
        if planned.cleared.facts().upkeep == Some(Upkeep::Blocking) {
            parameters.push(("lock_timeout", LOCK_TIMEOUT));
        }
        // Whoever ends the grant meanwhile ends this role, too.
        let Some(mut lease) = live.one_shot() else {
            return Err(self.registered.handle().kill.reason().map_or(End::Expired, End::Killed));
        };
        let outcome = match upstream::lend(served, &mut lease, &owner, &parameters).await {
            Ok(mut connection) => match self.alone(&mut connection, &as_agreed(&settings)).await? {
                Ok(_) => self.alone(&mut connection, &planned.forward).await,
                Err(unfinished) => Ok(Err(unfinished)),
            },
            Err(error) => {
                tracing::warn!(error = %chain(&error), owner, "an owner could not be lent");
                let message = "the target cannot be reached as the owner; nothing was run";
                Ok(Err(Unfinished::known(ErrorFields::error("08006", message))))
            }
        };
        upstream::end(served, lease).await;
        outcome
    }

    /// Sends the one text, and waits for its end.
    async fn alone(&mut self, connection: &mut Connection, sql: &str) -> Result<Result<String, Unfinished>, End> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out);
        if connection.send(&out).await.is_err() {
            return Ok(Err(lost()));
        }
        let mut cancelled = self.registered.handle().cancelled.subscribe();
        let (mut tag, mut failed) = (String::new(), None);
        loop {
            let message = tokio::select! {
                biased;
                reason = self.registered.handle().kill.told(false) => return Err(End::Killed(reason)),
                () = &mut self.expiry => return Err(End::Expired),
                Ok(()) = cancelled.changed() => {
                    cancel(&connection.cancel_handle()).await;
                    continue;
                }
                message = connection.receive() => message,
            };
            let Ok(message) = message else { return Ok(Err(lost())) };
            match message.tag {
                b'C' => backend::command_tag(&message.body)?.clone_into(&mut tag),
                b'E' => failed = Some(self.as_told(backend::error_fields(&message.body)?)),
                b'N' if !self.has_masks => message.write(self.client.out()),
                b'Z' => return Ok(failed.map_or(Ok(tag), |fields| Err(Unfinished::known(fields)))),
                _ => {}
            }
        }
    }

    /// An error of the owner's may quote values that are masked here; that its time is over says where
    /// that time comes from.
    fn as_told(&self, fields: ErrorFields) -> ErrorFields {
        // Code of the database's own, which has a context, may say what it likes under any of them.
        let quotes_nothing = fields.context.is_none() && QUOTES_NOTHING.contains(&fields.sqlstate.as_str());
        if fields.message == TIME_IS_UP {
            let hint = "`lend_for` of the target says how long an approved definition may run";
            return ErrorFields { hint: Some(hint.to_owned()), ..ErrorFields::error(&fields.sqlstate, TIME_IS_UP) };
        }
        match self.has_masks && !quotes_nothing {
            true => ErrorFields::error(&fields.sqlstate, WITHHELD),
            false => fields,
        }
    }
}

/// Sets what people have agreed to, as far as a session may set it: what else the approval is bound to says how
/// the server is, or whose the connection is.
fn as_agreed(settings: &BTreeMap<String, String>) -> String {
    let bound = settings.iter().filter(|(name, _)| !OF_ITS_OWN.contains(&name.as_str()));
    let rows: Vec<_> = bound.map(|(name, value)| format!("({}, {})", literal(name), literal(value))).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "select pg_catalog.set_config(b.name, b.value, false) from (values {}) b (name, value) \
         where not exists (select from pg_catalog.pg_settings s where s.name operator(pg_catalog.=) b.name \
           and s.context operator(pg_catalog.<>) 'user')",
        rows.join(", ")
    )
}

async fn cancel(running: &CancelHandle) {
    if let Err(error) = running.cancel().await {
        tracing::warn!(%error, "a cancel request did not reach the target");
    }
}

/// Why there is no command tag.
struct Unfinished {
    fields: ErrorFields,
    /// Whether it is certain that nothing was done.
    is_known: bool,
}

impl Unfinished {
    fn known(fields: ErrorFields) -> Self {
        Self { fields, is_known: true }
    }
}

fn lost() -> Unfinished {
    let message = "the connection to the target was lost; whether it happened is not known";
    Unfinished { fields: ErrorFields::error("08006", message), is_known: false }
}

/// The schemas that names are looked for in, as they are for the session: `"$user"` would be the owner.
fn path(schemas: &[String]) -> String {
    let own = schemas.iter().filter(|schema| !schema.starts_with("pg_"));
    let quoted: Vec<_> = own.map(|schema| role_sql::identifier(schema)).collect();
    // An empty list is no schema; an empty text would be refused.
    if quoted.is_empty() { "\"\"".to_owned() } else { quoted.join(", ") }
}
