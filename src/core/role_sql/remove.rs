//! The SQL that takes everything of ours out of a database again.
//!
//! Privileges are revoked one by one rather than by DROP OWNED: that would also take away what our
//! roles hold on other databases of the cluster. A role is dropped only where it is ours and no
//! other database needs it.

use super::{SAFE_PATH, USUAL_PATH, identifier, terminate};

/// What there is of ours in a database.
#[derive(Clone, Debug, Default)]
pub struct Removal {
    pub database: String,
    /// The role that gave sessions their rights, where it still exists.
    pub broker: Option<String>,
    /// Login roles and scope roles of this database, in this order, with our comment.
    pub session_roles: Vec<String>,
    /// Masking schemas and the salt of hashes, with our comment.
    pub mask_schemas: Vec<String>,
    /// Broker, masker and the role that all sessions share, as far as they exist.
    pub roles: Vec<String>,
    /// Those of them that nothing else needs.
    pub droppable: Vec<String>,
    /// Schemas where any of them holds a privilege on the schema or on something in it.
    pub schemas: Vec<String>,
    /// `(owner, schema, TABLES or SEQUENCES)` of default privileges for any of them.
    pub defaults: Vec<(String, Option<String>, String)>,
}

/// To be run by a superuser in the database, in one transaction.
pub fn remove_target(removal: &Removal) -> Vec<String> {
    let mut sql = statements(removal);
    if !sql.is_empty() {
        sql.insert(0, SAFE_PATH.to_owned());
        sql.push(USUAL_PATH.to_owned());
    }
    sql
}

fn statements(removal: &Removal) -> Vec<String> {
    let mut sql = Vec::new();
    for role in &removal.session_roles {
        sql.push(terminate(role));
    }
    for schema in &removal.mask_schemas {
        sql.push(format!("DROP SCHEMA {} CASCADE", identifier(schema)));
    }
    for role in &removal.session_roles {
        let role = identifier(role);
        if let Some(broker) = &removal.broker {
            // Only who gave a right can take it back, and only a member may for a role.
            let broker = identifier(broker);
            sql.push(format!("GRANT {role} TO {broker}"));
            sql.push(format!("SET ROLE {broker}"));
            sql.push(format!("DROP OWNED BY {role}"));
            sql.push("RESET ROLE".to_owned());
        }
        sql.push(format!("DROP OWNED BY {role}"));
        sql.push(format!("DROP ROLE {role}"));
    }
    let roles: Vec<String> = removal.roles.iter().map(|role| identifier(role)).collect();
    if roles.is_empty() {
        return sql;
    }
    let roles = roles.join(", ");
    for (owner, schema, kind) in &removal.defaults {
        let place = schema.as_ref().map(|schema| format!(" IN SCHEMA {}", identifier(schema))).unwrap_or_default();
        sql.push(format!(
            "ALTER DEFAULT PRIVILEGES FOR ROLE {}{place} REVOKE ALL ON {kind} FROM {roles} CASCADE",
            identifier(owner)
        ));
    }
    for schema in &removal.schemas {
        let schema = identifier(schema);
        for kind in ["TABLES", "SEQUENCES", "ROUTINES"] {
            sql.push(format!("REVOKE ALL ON ALL {kind} IN SCHEMA {schema} FROM {roles} CASCADE"));
        }
        sql.push(format!("REVOKE ALL ON SCHEMA {schema} FROM {roles} CASCADE"));
    }
    sql.push(format!("REVOKE ALL ON DATABASE {} FROM {roles} CASCADE", identifier(&removal.database)));
    sql.extend(removal.droppable.iter().map(|role| format!("DROP ROLE {}", identifier(role))));
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_that_are_needed_elsewhere_lose_their_rights_here_and_stay() {
        let removal = Removal {
            database: "shop".into(),
            broker: Some("dbgate_broker".into()),
            session_roles: vec!["dbgate_u_ana_1".into()],
            mask_schemas: vec!["dbgate_m_1_0".into()],
            roles: vec!["dbgate_broker".into(), "dbgate_masker".into()],
            droppable: vec!["dbgate_masker".into()],
            schemas: vec!["app".into()],
            defaults: vec![("owner".into(), Some("app".into()), "TABLES".into())],
        };
        let sql = remove_target(&removal);
        assert!(sql.contains(&"DROP ROLE \"dbgate_masker\"".to_owned()), "{sql:?}");
        assert!(!sql.contains(&"DROP ROLE \"dbgate_broker\"".to_owned()), "{sql:?}");
        let both = "\"dbgate_broker\", \"dbgate_masker\"";
        assert!(sql.contains(&format!("REVOKE ALL ON DATABASE \"shop\" FROM {both} CASCADE")), "{sql:?}");
        assert!(sql.contains(&format!(
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"owner\" IN SCHEMA \"app\" REVOKE ALL ON TABLES FROM {both} CASCADE"
        )));
        assert!(sql.iter().all(|statement| !statement.contains("DROP OWNED BY \"dbgate_broker\"")));
    }

    #[test]
    fn nothing_of_ours_means_nothing_to_do() {
        assert!(remove_target(&Removal::default()).is_empty());
    }
}
