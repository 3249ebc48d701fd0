//! Backslash commands. Those that look into the catalog become queries that go through the
//! gateway like any other; an unknown one is an error here and is never sent.

/// What a backslash command means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meta {
    Quit,
    Help,
    Expanded(Option<bool>),
    Timing(Option<bool>),
    Conninfo,
    Gate,
    Queries(Vec<String>),
    Unknown(String),
}

pub const HELP: &str = "\
  \\d           list tables, views and sequences
  \\d NAME      describe a table or view
  \\dt          list tables
  \\x [on|off]  expanded display
  \\timing      show how long statements take
  \\conninfo    what this session is connected to
  \\gate        who, where, how long; what is masked
  \\q           quit
  Statements end with `;`. Ctrl-C cancels what runs.
";

const COMMANDS: [&str; 10] = ["d", "dt", "x", "timing", "conninfo", "gate", "q", "?", "quit", "d+"];

/// Reads a command with its backslash.
pub fn parse(text: &str) -> Meta {
    let mut words = text.trim().trim_end_matches(';').trim_start_matches('\\').split_whitespace();
    let (command, argument) = (words.next().unwrap_or(""), words.next());
    match (command, argument) {
        ("q" | "quit", _) => Meta::Quit,
        ("?" | "h" | "help", _) => Meta::Help,
        ("x", setting) => on_or_off(setting).map_or_else(|wrong| wrong, Meta::Expanded),
        ("timing", setting) => on_or_off(setting).map_or_else(|wrong| wrong, Meta::Timing),
        ("conninfo", _) => Meta::Conninfo,
        ("gate", _) => Meta::Gate,
        ("d" | "d+", Some(name)) => Meta::Queries(describe(name)),
        ("d", None) => Meta::Queries(vec![list("'r','p','v','m','S','f'")]),
        ("dt", _) => Meta::Queries(vec![list("'r','p'")]),
        (other, _) => {
            let near = COMMANDS.iter().find(|known| other.starts_with(*known) || known.starts_with(other));
            let hint = near.map_or(String::new(), |known| format!(" Did you mean \\{known}?"));
            Meta::Unknown(format!("invalid command \\{other}.{hint} (\\? lists all)"))
        }
    }
}

fn on_or_off(word: Option<&str>) -> Result<Option<bool>, Meta> {
    match word {
        None => Ok(None),
        Some("on") => Ok(Some(true)),
        Some("off") => Ok(Some(false)),
        Some(other) => Err(Meta::Unknown(format!("`{other}` is neither on nor off"))),
    }
}

/// Relations in view, with psql's headings.
fn list(kinds: &str) -> String {
    format!(
        "select n.nspname as \"Schema\", c.relname as \"Name\", \
         case c.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'v' then 'view' \
         when 'm' then 'materialized view' when 'S' then 'sequence' when 'f' then 'foreign table' end as \"Type\", \
         pg_catalog.pg_get_userbyid(c.relowner) as \"Owner\" \
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ({kinds}) and n.nspname not in ('pg_catalog', 'information_schema') \
         and n.nspname !~ '^pg_toast' and pg_catalog.pg_table_is_visible(c.oid) order by 1, 2"
    )
}

/// Columns, then indexes, of the relation a name means.
fn describe(name: &str) -> Vec<String> {
    let literal = format!("'{}'", name.replace('\'', "''"));
    vec![
        format!(
            "select a.attname as \"Column\", pg_catalog.format_type(a.atttypid, a.atttypmod) as \"Type\", \
             case when a.attnotnull then 'not null' else '' end as \"Nullable\", \
             coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') as \"Default\" \
             from pg_catalog.pg_attribute a \
             left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
             where a.attrelid = {literal}::pg_catalog.regclass and a.attnum > 0 and not a.attisdropped order by a.attnum"
        ),
        format!(
            "select i.relname as \"Index\", pg_catalog.pg_get_indexdef(x.indexrelid) as \"Definition\" \
             from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid \
             where x.indrelid = {literal}::pg_catalog.regclass order by 1"
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_an_error_and_never_a_query() {
        assert_eq!(parse("\\foo"), Meta::Unknown("invalid command \\foo. (\\? lists all)".into()));
        assert!(matches!(parse("\\timi"), Meta::Unknown(message) if message.contains("\\timing")));
        assert_eq!(parse("\\q"), Meta::Quit);
        assert_eq!(parse("\\x on"), Meta::Expanded(Some(true)));
        assert!(matches!(parse("\\d customers"), Meta::Queries(queries) if queries.len() == 2));
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        let Meta::Queries(queries) = parse("\\d x';drop") else { panic!("queries") };
        assert!(queries.iter().all(|sql| sql.contains("'x'';drop'")));
    }
}
