//! What is known to be complete, so that a connection to a scope that nobody touched costs one look.
//!
//! Everything that [`ensure`](super::ensure) looks at, relation by relation, is in rows of the
//! target's catalogs that carry privileges. One number over the versions of these rows says whether
//! any was written since: then everything is looked at again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{ScopeError, ScopeRole, look_or_make};
use crate::core::mask::literal;
use crate::core::role_sql;
use crate::core::scope::Scope;

/// How many scopes are remembered.
const MOST: usize = 1000;

/// Scopes of one target that were found complete.
#[derive(Default)]
pub struct Complete {
    /// By database and digest of the scope.
    seen: Mutex<HashMap<(String, String), Seen>>,
}

struct Seen {
    mark: String,
    role: ScopeRole,
}

impl Complete {
    /// Makes the scope's role and views unless they exist: [`ensure`](super::ensure), without looking
    /// again at what has not changed. Nobody else may use the client meanwhile.
    pub async fn ensure(&self, client: &Client, scope: &Scope, digest: &str) -> Result<ScopeRole, ScopeError> {
        // Taken first: what changes while it is looked at is seen at the next look.
        let mark = mark(client, digest).await?;
        let place = (scope.database.clone(), digest.to_owned());
        if let Some(role) = self.known(&place, &mark) {
            return Ok(role);
        }
        let (role, is_as_found) = look_or_make(client, scope, digest).await?;
        if is_as_found {
            self.remember(place, Seen { mark, role: role.clone() });
        }
        Ok(role)
    }

    fn known(&self, place: &(String, String), mark: &str) -> Option<ScopeRole> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(place).filter(|seen| seen.mark == mark).map(|seen| seen.role.clone())
    }

    fn remember(&self, place: (String, String), found: Seen) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Scopes of policies and catalogs that are gone; looking once more costs little.
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(place, found);
    }
}

/// Says which database and role this is, and which version of every row that holds privileges there is.
/// A role that is not there has no mark of its own, so it is never taken for complete.
async fn mark(client: &Client, digest: &str) -> Result<String, ScopeError> {
    // A row that is written gets a new version, whichever row it is.
    let of = |table: &str, condition: &str| {
        format!(
            "(select sum(pg_catalog.hashtextextended(xmin::text, 0) / 4294967296) \
             from pg_catalog.{table} where {condition})"
        )
    };
    let sql = format!(
        "select concat_ws(' ', (select oid from pg_catalog.pg_database where datname = current_database()), \
         (select concat_ws(' ', r.oid, shobj_description(r.oid, 'pg_authid'), r.rolsuper, r.rolcreaterole, r.rolcreatedb, \
             r.rolcanlogin, r.rolreplication, r.rolbypassrls, \
             (select sum(m.roleid::int8) from pg_catalog.pg_auth_members m where m.member = r.oid), \
             (select sum(pg_catalog.hashtextextended(concat_ws(' ', d.dbid, d.classid, d.objid, d.deptype), 0) / 4294967296) \
               from pg_catalog.pg_shdepend d left join pg_catalog.pg_class t \
                 on d.classid = 'pg_catalog.pg_class'::regclass and t.oid = d.objid \
               where d.refclassid = 'pg_catalog.pg_authid'::regclass and d.refobjid = r.oid \
                 and (d.deptype = 'o' or d.classid <> 'pg_catalog.pg_class'::regclass) \
                 and t.relpersistence is distinct from 't')) \
           from pg_catalog.pg_roles r where r.rolname = {}), {}, {}, {})",
        literal(&role_sql::scope_role(digest)),
        of("pg_class", "relacl is not null"),
        of("pg_attribute", "attacl is not null"),
        of("pg_namespace", "true"),
    );
    let messages = client.simple_query(&sql).await?;
    let mark = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(mark.unwrap_or_default().to_owned())
}
