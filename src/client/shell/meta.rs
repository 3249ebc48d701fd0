//! Backslash commands. Those that look into the catalog become queries that go through the
//! gateway like any other; an unknown one is an error here and is never sent.

use std::time::Duration;

/// What a backslash command means. Words that variables may stand in are read by whoever knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meta {
    Quit,
    Help,
    Expanded(Option<Expanded>),
    Timing(Option<bool>),
    Conninfo,
    Gate,
    /// `\d NAME`.
    Describe(String),
    /// A list, as one query.
    List(String),
    /// Runs what is typed so far, expanded for `\gx`.
    Go {
        expanded: bool,
    },
    /// Runs it and keeps the columns of its one row as variables, behind this prefix.
    Keep(String),
    /// Runs it again and again.
    Watch(String),
    Echo(String),
    Set(String),
    Unset(String),
    /// Shows what is typed so far.
    Print,
    /// Throws it away.
    Reset,
    Unknown(String),
}

/// How rows are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expanded {
    Off,
    On,
    /// Where a row is wider than the terminal.
    Auto,
}

pub const HELP: &str = "  \\gate             who, where, how long; what is masked
  \\d                list tables, views and sequences
  \\d NAME           describe a table or view
  \\dt \\dv \\dm \\ds   list tables, views, materialized views, sequences
  \\di \\dn           list indexes, schemas
  \\g \\gx            run what is typed, or the last statement again; \\gx expanded
  \\gset [PREFIX]    run it, keep the columns of its one row as variables
  \\watch [SECONDS] [c=TIMES]   run it every 2 seconds, or as said; Ctrl-C ends it
  \\p \\r             show, throw away what is typed
  \\set [NAME [VALUE]]   set a variable: :NAME, :'NAME' as text, :\"NAME\" as a name
  \\unset NAME       forget it
  \\echo TEXT        print a text, variables put in
  \\x [on|off|auto]  expanded display
  \\timing [on|off]  show how long statements take
  \\conninfo         what this session is connected to
  \\q                quit
Statements end with `;`. Ctrl-C cancels what runs; a line that begins with a blank is not kept.
";

/// Every command, for suggestions.
pub const COMMANDS: [&str; 23] = [
    "d", "dt", "dv", "dm", "ds", "di", "dn", "x", "timing", "conninfo", "gate", "g", "gx", "gset", "watch", "p", "r",
    "set", "unset", "echo", "q", "quit", "?",
];

/// How often `\watch` runs a statement, and how many times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watching {
    pub every: Duration,
    pub times: Option<u64>,
}

/// Reads a command with its backslash.
pub fn parse(text: &str) -> Meta {
    let whole = text.trim().trim_start_matches('\\');
    let said = whole.find(char::is_whitespace).and_then(|at| whole.get(at..)).unwrap_or_default().trim();
    let mut words = text.trim().trim_end_matches(';').trim_start_matches('\\').split_whitespace();
    let (command, argument) = (words.next().unwrap_or(""), words.next());
    match (command, argument) {
        ("q" | "quit", _) => Meta::Quit,
        ("?" | "h" | "help", _) => Meta::Help,
        ("x", setting) => expanded(setting),
        ("timing", setting) => on_or_off(setting),
        ("conninfo", _) => Meta::Conninfo,
        ("gate", None) => Meta::Gate,
        ("gate", Some(other)) => Meta::Unknown(format!(
            "\\gate takes no `{other}`: alone it shows who, where, how long, and what is masked. Outside of the \
             prompt there are: dbgate check TARGET -c SQL, dbgate request create TARGET, dbgate request ls --mine"
        )),
        ("g", None) => Meta::Go { expanded: false },
        ("gx", None) => Meta::Go { expanded: true },
        ("g" | "gx", Some(_)) => Meta::Unknown("output goes to the screen only: \\g takes no argument".into()),
        ("gset", prefix) => Meta::Keep(prefix.unwrap_or_default().to_owned()),
        ("watch", _) => Meta::Watch(said.to_owned()),
        ("echo", _) => Meta::Echo(said.to_owned()),
        ("set", _) => Meta::Set(said.to_owned()),
        ("unset", Some(_)) => Meta::Unset(said.to_owned()),
        ("unset", None) => Meta::Unknown("\\unset: missing required argument".into()),
        ("p", _) => Meta::Print,
        ("r", _) => Meta::Reset,
        ("d" | "d+", Some(name)) => Meta::Describe(name.to_owned()),
        ("d", None) => Meta::List(relations("'r','p','v','m','S','f'")),
        ("dt", None) => Meta::List(relations("'r','p'")),
        ("dv", None) => Meta::List(relations("'v'")),
        ("dm", None) => Meta::List(relations("'m'")),
        ("ds", None) => Meta::List(relations("'S'")),
        ("di", None) => Meta::List(INDEXES.to_owned()),
        ("dn", None) => Meta::List(SCHEMAS.to_owned()),
        ("password", _) => Meta::Unknown("no password exists to change: each grant has its own, and it ends".into()),
        (other, _) if COMMANDS.contains(&other) => {
            Meta::Unknown(format!("\\{other} takes no pattern here; \\d NAME describes one relation"))
        }
        (other, _) => {
            let near = nearest(other).map_or(String::new(), |known| format!(" Did you mean \\{known}?"));
            Meta::Unknown(format!("invalid command \\{other}.{near} (\\? lists all)"))
        }
    }
}

/// The command that begins like this one, else one that differs in one letter.
fn nearest(word: &str) -> Option<&'static str> {
    let begins =
        |known: &&&str| word.len() > 1 && (known.starts_with(word) || (known.len() > 1 && word.starts_with(**known)));
    let one_off = |known: &&&str| {
        known.len() == word.len() && known.chars().zip(word.chars()).filter(|(one, other)| one != other).count() == 1
    };
    COMMANDS.iter().find(begins).or_else(|| COMMANDS.iter().filter(|known| known.len() > 1).find(one_off)).copied()
}

/// Reads what stands behind `\watch`: seconds, `i=` seconds, `c=` times.
pub fn watching(words: &[String]) -> Result<Watching, String> {
    /// As psql: a person wants to see a change, not a flood.
    const USUAL: Duration = Duration::from_secs(2);
    const SHORTEST: f64 = 0.1;
    const LONGEST: f64 = 24.0 * 60.0 * 60.0;
    let mut watching = Watching { every: USUAL, times: None };
    for text in words {
        if let Some(times) = text.strip_prefix("c=") {
            let times = times.parse().ok().filter(|times| *times > 0);
            watching.times = Some(times.ok_or_else(|| format!("\\watch: `{text}` is no number of times"))?);
            continue;
        }
        let seconds = text.strip_prefix("i=").unwrap_or(text).trim_end_matches(';').parse().ok();
        let seconds = seconds.filter(|seconds| (SHORTEST..=LONGEST).contains(seconds));
        let wrong = || format!("\\watch: `{text}` is no number of seconds between {SHORTEST} and {LONGEST}");
        watching.every = Duration::from_secs_f64(seconds.ok_or_else(wrong)?);
    }
    Ok(watching)
}

fn expanded(word: Option<&str>) -> Meta {
    match word {
        None => Meta::Expanded(None),
        Some("on") => Meta::Expanded(Some(Expanded::On)),
        Some("off") => Meta::Expanded(Some(Expanded::Off)),
        Some("auto") => Meta::Expanded(Some(Expanded::Auto)),
        Some(other) => Meta::Unknown(format!("`{other}` is none of on, off, auto")),
    }
}

fn on_or_off(word: Option<&str>) -> Meta {
    match word {
        None => Meta::Timing(None),
        Some("on") => Meta::Timing(Some(true)),
        Some("off") => Meta::Timing(Some(false)),
        Some(other) => Meta::Unknown(format!("`{other}` is neither on nor off")),
    }
}

/// Relations in view, with psql's headings.
fn relations(kinds: &str) -> String {
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

const INDEXES: &str = "select n.nspname as \"Schema\", c.relname as \"Name\", 'index' as \"Type\", \
     pg_catalog.pg_get_userbyid(c.relowner) as \"Owner\", t.relname as \"Table\" \
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
     join pg_catalog.pg_index i on i.indexrelid = c.oid join pg_catalog.pg_class t on t.oid = i.indrelid \
     where c.relkind in ('i','I') and n.nspname not in ('pg_catalog', 'information_schema') \
     and n.nspname !~ '^pg_toast' and pg_catalog.pg_table_is_visible(c.oid) order by 1, 2";

const SCHEMAS: &str = "select n.nspname as \"Name\", pg_catalog.pg_get_userbyid(n.nspowner) as \"Owner\" \
     from pg_catalog.pg_namespace n where n.nspname !~ '^(pg_|dbgate_m_)' and n.nspname <> 'information_schema' order by 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_an_error_and_never_a_query() {
        assert_eq!(parse("\\foo"), Meta::Unknown("invalid command \\foo. (\\? lists all)".into()));
        assert!(matches!(parse("\\timi"), Meta::Unknown(message) if message.contains("mean \\timing?")));
        assert!(matches!(parse("\\dq"), Meta::Unknown(message) if message.contains("mean \\dt?")));
        assert!(matches!(parse("\\password"), Meta::Unknown(message) if message.starts_with("no password")));
    }

    #[test]
    fn what_gate_does_not_know_is_said_and_not_taken_for_its_status() {
        assert_eq!(parse("\\gate"), Meta::Gate);
        for asked in ["why", "check delete from orders", "request write 15m \"why\""] {
            let Meta::Unknown(message) = parse(&format!("\\gate {asked}")) else { panic!("{asked}") };
            let word = asked.split(' ').next().unwrap_or_default();
            assert!(message.starts_with(&format!("\\gate takes no `{word}`: alone it shows")), "{message}");
            assert!(message.contains("dbgate check TARGET -c SQL"), "{message}");
        }
    }

    #[test]
    fn commands_are_read_with_their_arguments() {
        assert_eq!(parse("\\q"), Meta::Quit);
        assert_eq!(parse("\\x"), Meta::Expanded(None));
        assert_eq!(parse("\\x auto"), Meta::Expanded(Some(Expanded::Auto)));
        assert_eq!(parse("\\timing off;"), Meta::Timing(Some(false)));
        assert_eq!(parse("\\d customers"), Meta::Describe("customers".into()));
        assert_eq!(parse("\\gx"), Meta::Go { expanded: true });
        assert_eq!(parse("\\gset new_"), Meta::Keep("new_".into()));
        assert_eq!(parse("\\watch 1 c=3"), Meta::Watch("1 c=3".into()));
        assert_eq!(parse("\\echo  'a;  b' ;"), Meta::Echo("'a;  b' ;".into()));
        assert_eq!(parse("\\set"), Meta::Set(String::new()));
        assert!(matches!(parse("\\dt"), Meta::List(sql) if sql.contains("relkind in ('r','p')")));
    }

    #[test]
    fn watch_takes_seconds_and_a_number_of_times() {
        let read = |text: &str| watching(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let of = |every, times| Ok(Watching { every: Duration::from_millis(every), times });
        assert_eq!(read(""), of(2000, None));
        assert_eq!(read("0.5"), of(500, None));
        assert_eq!(read("i=1 c=3"), of(1000, Some(3)));
        for wrong in ["0", "-1", "often", "c=0", "c=x", "1e99", "NaN"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_help_names_every_command() {
        for command in COMMANDS.iter().filter(|command| !matches!(**command, "?" | "quit")) {
            assert!(HELP.contains(&format!("\\{command}")), "{command}");
        }
    }
}
