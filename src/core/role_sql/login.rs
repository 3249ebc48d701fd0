//! The exact SQL of login roles: made once, opened for one connection after another, retired.

use super::{LOGIN_PREFIX, SESSIONS, identifier, literal};

/// The comment that marks a login role as ours.
pub fn login_comment(database: &str) -> String {
    format!("dbgate login in {database}")
}

/// What a login role is made of.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    /// See [`login_name`].
    pub name: &'a str,
    pub scope_role: &'a str,
    pub database: &'a str,
    /// RFC 3339.
    pub valid_until: &'a str,
    /// Starts in read-only mode. A comfort: the scope role of a read session cannot write anyway.
    pub read_only: bool,
}

/// `dbgate_u_<who>_<id>`: shows an administrator at a glance whose session it is.
pub fn login_name(who: &str, id: &str) -> String {
    let plain = |text: &str, most: usize| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).take(most).collect::<String>().to_ascii_lowercase()
    };
    let person = who.split('@').next().unwrap_or(who);
    // 9 + 16 + 1 + 32 letters: below the 63 that PostgreSQL keeps, so no two names are cut alike.
    format!("{LOGIN_PREFIX}{}_{}", plain(person, 16), plain(id, 32))
}

/// Makes a login role that becomes its scope role as soon as it is connected. Nobody can connect
/// with it before [`enable_login`].
pub fn make_login(login: &Login<'_>, server_version: u32) -> Vec<String> {
    let (name, scope, sessions) = (identifier(login.name), identifier(login.scope_role), identifier(SESSIONS));
    let mut sql = vec![
        format!("CREATE ROLE {name} NOLOGIN CONNECTION LIMIT 1 VALID UNTIL {}", literal(login.valid_until)),
        format!("COMMENT ON ROLE {name} IS {}", literal(&login_comment(login.database))),
    ];
    if server_version >= 160_000 {
        sql.push(format!("GRANT {scope} TO {name} WITH INHERIT FALSE, SET TRUE"));
        sql.push(format!("GRANT {sessions} TO {name} WITH INHERIT TRUE, SET FALSE"));
    } else {
        sql.push(format!("GRANT {scope} TO {name}"));
        sql.push(format!("GRANT {sessions} TO {name}"));
    }
    sql.push(format!("ALTER ROLE {name} SET role = {}", literal(login.scope_role)));
    if login.read_only {
        sql.push(format!("ALTER ROLE {name} SET default_transaction_read_only = on"));
    }
    sql
}

/// One row: the server's version, everything that makes the role what it is (NULL where it is not
/// there), and how many backends run as it.
///
/// Password and LOGIN are left out, since both are set anew for every connection. What the role owns
/// or was granted, in whatever database, stands in `pg_shdepend`: a role as it was made has no row there.
pub fn look_at_login(name: &str) -> String {
    format!(
        "SELECT pg_catalog.current_setting('server_version_num'), \
         CASE WHEN r.oid IS NOT NULL THEN pg_catalog.jsonb_build_array(pg_catalog.to_jsonb(r) - 'rolcanlogin', \
           pg_catalog.shobj_description(r.oid, 'pg_authid'), \
           ARRAY(SELECT pg_catalog.to_jsonb(m) FROM pg_catalog.pg_auth_members m \
             WHERE m.member = r.oid OR m.roleid = r.oid ORDER BY m.roleid, m.member, m.grantor), \
           ARRAY(SELECT pg_catalog.to_jsonb(s) FROM pg_catalog.pg_db_role_setting s \
             WHERE s.setrole = r.oid ORDER BY s.setdatabase), \
           (SELECT count(*) FROM pg_catalog.pg_shdepend d \
             WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = r.oid))::text END, \
         (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid), \
         s.serves, s.serves - (SELECT count(*) FROM pg_catalog.pg_stat_get_activity(NULL) a \
           WHERE a.datid IS NOT NULL AND a.usesysid IS NOT NULL) \
         FROM (SELECT pg_catalog.current_setting('max_connections')::pg_catalog.int8 \
             - pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int8 \
             - coalesce(pg_catalog.current_setting('reserved_connections', true)::pg_catalog.int8, 0)) s (serves) \
         LEFT JOIN pg_catalog.pg_roles r ON r.rolname = {}",
        literal(name)
    )
}

/// From now on the role can be connected as, with a new password. `verifier` is `SCRAM-SHA-256$…`:
/// PostgreSQL stores it as it is, so no clear password is ever in SQL.
pub fn enable_login(name: &str, verifier: &str) -> String {
    format!("ALTER ROLE {} LOGIN PASSWORD {}", identifier(name), literal(verifier))
}

/// From now on nobody can connect with it; a session that is open goes on.
pub fn disable_login(name: &str) -> String {
    format!("ALTER ROLE {} NOLOGIN", identifier(name))
}

/// Takes away what a login role could still do: to log in, and to become the roles it belongs to.
/// Sessions that are open have become them already and are ended next.
pub fn retire_login(name: &str, groups: &[String]) -> Vec<String> {
    let revoke = groups.iter().map(|group| format!("REVOKE {} FROM {}", identifier(group), identifier(name)));
    std::iter::once(disable_login(name)).chain(revoke).collect()
}

/// Ends every session of a login role; one row for each that was still there.
pub fn terminate(name: &str) -> String {
    format!(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE usename = {}",
        literal(name)
    )
}
