//! Every flag, once: the parser, the help, the man pages and the completions come from here.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client::shell::meta;
use crate::core::grant::Access;

/// Just-in-time access and an audited SQL shell for PostgreSQL
#[derive(Debug, Parser)]
#[command(name = "dbgate", version, about, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Broker to use, as in https://gate.example.com
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// Broker of this name in config.toml, where several are known
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "server")]
    pub context: Option<String>,
    /// How the answer is written
    #[arg(long, global = true, value_enum, default_value_t = Format::Auto)]
    pub format: Format,
    /// Never ask and never open a prompt
    #[arg(long, global = true, env = "DBGATE_NO_INPUT", value_parser = FalseyValueParser::new())]
    pub no_input: bool,
    /// Say nothing but answers and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// No colours, as with NO_COLOR
    #[arg(long, global = true)]
    pub no_color: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Auto,
    Table,
    Json,
    Ndjson,
    Csv,
    Tsv,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sign in
    #[command(after_help = "Example:\n  dbgate login --server https://gate.example.com")]
    Login {
        /// PEM file of the authority that signed the broker's certificate
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        /// Do not open a browser; print address and code only
        #[arg(long)]
        no_open: bool,
    },
    /// Sign out and forget the token
    #[command(after_help = "Example:\n  dbgate logout")]
    Logout,
    /// Show who you are signed in as, and where the token is kept
    #[command(after_help = "Example:\n  dbgate whoami --format json")]
    Whoami,
    /// List the targets you may use
    #[command(after_help = "Example:\n  dbgate ls")]
    Ls,
    /// Open an interactive session
    #[command(after_help = connect_help())]
    Connect {
        /// Target, as `dbgate ls` shows it
        target: String,
        #[command(flatten)]
        ask: Asking,
        /// Do not read or write the history file
        #[arg(short = 'X')]
        no_history: bool,
    },
    /// Run statements and print what they answer
    #[command(
        after_help = "Examples:\n  dbgate exec demo -c 'select 1' --format json\n  dbgate exec demo -f report.sql\n  echo 'select 1;' | dbgate exec demo -\n\nEach statement commits by itself; BEGIN and COMMIT make several of them one.\nExit codes: dbgate help-exit-codes"
    )]
    Exec(ExecArgs),
    /// Ask for a verdict without running anything
    #[command(
        after_help = "Examples:\n  dbgate check demo -c 'delete from orders'\n  dbgate check demo --access write --impact trial -c \"delete from orders where id < 100\""
    )]
    Check {
        target: String,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        ask: Asking,
        /// Also say what a write would do: ask the planner, or run it and roll it back
        #[arg(long, value_enum, default_value_t = Impact::None)]
        impact: Impact,
    },
    /// Start psql on a target; the password never shows in its arguments
    #[command(after_help = "Example:\n  dbgate psql demo -- -c '\\dt'")]
    Psql {
        target: String,
        #[command(flatten)]
        ask: Asking,
        /// Passed on to psql
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Print how a native client connects; the password is in a file, not in the text
    #[command(after_help = "Example:\n  psql \"$(dbgate conninfo demo)\"")]
    Conninfo {
        target: String,
        #[command(flatten)]
        ask: Asking,
    },
    /// Give a grant back before its time
    #[command(after_help = "Example:\n  dbgate revoke gr_0123456789ABCDEF")]
    Revoke {
        /// As printed by `conninfo` and in the session's banner
        grant: String,
    },
    /// Look at requests that wait for people, wait for one, or take it back
    #[command(
        after_help = "Examples:\n  dbgate request ls --mine\n  dbgate request wait apr_0123456789ABCDEF --timeout 45s"
    )]
    Request {
        #[command(subcommand)]
        command: RequestCommand,
    },
    /// Take back a small write of yours, where policy keeps what it changed
    #[command(
        after_help = "Examples:\n  dbgate undo 01M8AK6MM9XM6330TYNETXAQS4\n  dbgate undo 01M8AK6MM9XM6330TYNETXAQS4 3\n  dbgate undo 01M8AK6MM9XM6330TYNETXAQS4 3 --apply\n\nWithout a statement it lists what is kept; without --apply it shows what would run."
    )]
    Undo(UndoArgs),
    /// Go through the requests that wait for your decision
    #[command(after_help = "Example:\n  dbgate review")]
    Review,
    /// Let what was asked for happen, once
    #[command(
        after_help = "Examples:\n  dbgate approve apr_0123456789ABCDEF -m 'ok, test orders only'\n  dbgate approve apr_0123456789ABCDEF --max-rows 500"
    )]
    Approve {
        /// As `dbgate request ls` shows it
        request: String,
        /// Why; recorded, and told to whoever asked
        #[arg(short, long, value_name = "TEXT")]
        message: Option<String>,
        /// Most rows it may change; without it, a tenth more than the trial changed
        #[arg(long, value_name = "N")]
        max_rows: Option<u64>,
    },
    /// Say no to a request, and why
    #[command(after_help = "Example:\n  dbgate reject apr_0123456789ABCDEF -m 'wrong table'")]
    Reject {
        /// As `dbgate request ls` shows it
        request: String,
        /// Why; recorded, and told to whoever asked
        #[arg(short, long, value_name = "TEXT")]
        message: String,
    },
    /// Check evidence offline
    #[command(after_help = "Example:\n  dbgate audit verify session.dbgt")]
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Run broker and gateway
    #[cfg(feature = "server")]
    #[command(after_help = "Example:\n  dbgate serve --config /etc/dbgate/server.toml")]
    Serve(crate::cli::serve::ServeArguments),
    /// Prepare the databases behind the gateway
    #[cfg(feature = "server")]
    #[command(after_help = "Example:\n  dbgate target init prod --config /etc/dbgate/server.toml")]
    Target(crate::cli::target::TargetArguments),
    /// Propose what is sensitive in a target, from names, types and values
    #[cfg(feature = "server")]
    #[command(
        after_help = "Examples:\n  dbgate classify prod\n  dbgate classify prod -o policy/classification.toml\n  dbgate classify prod --drift --format json\n\nExit: 0, or with --drift 8 where a column looks sensitive and no entry names it"
    )]
    Classify(crate::cli::classify::ClassifyArguments),
    /// Show every known hole of a target, and what closes it
    #[cfg(feature = "server")]
    #[command(
        after_help = "Examples:\n  dbgate doctor prod\n  dbgate doctor prod --superuser-dsn-file superuser.dsn --format json\n  dbgate doctor prod --sql | psql prod\n  dbgate doctor prod --accept createrole_before_16\n\nExit: 0 nothing found, 8 findings, 2 target unreachable"
    )]
    Doctor(crate::cli::doctor::DoctorArguments),
    /// Print a built-in policy to start from; lint, test and explain policies
    #[cfg(feature = "server")]
    #[command(
        after_help = "Examples:\n  dbgate policy production > policy/production.cedar\n  dbgate policy production -o policy/\n  dbgate policy lint policy/"
    )]
    Policy(crate::cli::policy::PolicyArguments),
    /// Run everything on this machine and walk through the main job
    #[cfg(feature = "server")]
    #[command(after_help = "Examples:\n  dbgate demo\n  dbgate demo --once | cat")]
    Demo {
        /// End after the walk, leaving nothing behind
        #[arg(long)]
        once: bool,
    },
    /// Print a completion script
    #[command(after_help = "Example:\n  dbgate completions bash > ~/.local/share/bash-completion/completions/dbgate")]
    Completions { shell: clap_complete::Shell },
    /// Write the man pages
    #[command(after_help = "Example:\n  dbgate man -o ~/.local/share/man/man1")]
    Man {
        /// Folder to write to
        #[arg(short, value_name = "DIR", default_value = "man")]
        output: PathBuf,
    },
    /// Explain the exit codes
    #[command(after_help = "Example:\n  dbgate help-exit-codes")]
    HelpExitCodes,
}

#[derive(Debug, Subcommand)]
pub enum RequestCommand {
    /// Ask people to let you in, where the policy says that they must agree
    #[command(
        after_help = "Example:\n  dbgate request create prod --access write --for 15m --reason 'refund stuck'\n\nExit: 6 it waits, 0 nobody need be asked. Once it is approved: dbgate connect prod --access write"
    )]
    Create {
        /// Target, as `dbgate ls` shows it
        target: String,
        #[command(flatten)]
        ask: Box<Asking>,
    },
    /// List requests that you made or may decide
    #[command(after_help = "Example:\n  dbgate request ls --reviewable")]
    Ls {
        /// Only your own
        #[arg(long, conflicts_with = "reviewable")]
        mine: bool,
        /// Only those that wait for your decision
        #[arg(long)]
        reviewable: bool,
    },
    /// Show one with all that is known of it
    #[command(after_help = "Example:\n  dbgate request show apr_0123456789ABCDEF")]
    Show { request: String },
    /// Wait until it is decided
    #[command(
        after_help = "Example:\n  dbgate request wait apr_0123456789ABCDEF --timeout 45s\n\nExit: 0 approved or used, 6 still waiting, 7 rejected, expired or withdrawn"
    )]
    Wait {
        request: String,
        /// How long at the most
        #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "15m")]
        timeout: u64,
    },
    /// Take your own request back
    #[command(after_help = "Example:\n  dbgate request withdraw apr_0123456789ABCDEF")]
    Withdraw { request: String },
    /// Ask back, or answer; the request stays as it is
    #[command(after_help = "Example:\n  dbgate request say apr_0123456789ABCDEF -m 'why all of them?'")]
    Say {
        request: String,
        #[arg(short, long, value_name = "TEXT")]
        message: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verify an evidence file with nothing but public keys
    #[command(
        after_help = "Example:\n  dbgate audit verify session.dbgt --key 'gate.example.com/log+1234abcd+AZ…'\n\nExit: 0 good, 1 tampered, 3 valid but incomplete"
    )]
    Verify {
        file: PathBuf,
        /// Public key of a log that is trusted; without it, the keys of brokers you signed in to
        #[arg(long = "key", value_name = "KEY")]
        keys: Vec<String>,
    },
}

/// What is asked of the broker for a session.
#[derive(Clone, Debug, Args)]
pub struct Asking {
    /// Database, where the target has several
    #[arg(short, long)]
    pub database: Option<String>,
    /// How far the session may go: read, write or admin
    #[arg(long, default_value = "read")]
    pub access: Access,
    /// For how long, as in 90s, 30m or 2h
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    pub seconds: Option<u64>,
    /// Why; recorded with the session
    #[arg(long, env = "DBGATE_REASON")]
    pub reason: Option<String>,
    /// Ticket; recorded with the session
    #[arg(long, env = "DBGATE_TICKET")]
    pub ticket: Option<String>,
    /// Name of the program that acts; recorded as declared, grants nothing
    #[arg(long, env = "DBGATE_AGENT")]
    pub agent: Option<String>,
    /// Its model
    #[arg(long, env = "DBGATE_AGENT_MODEL")]
    pub model: Option<String>,
    /// Its task
    #[arg(long, env = "DBGATE_TASK")]
    pub task: Option<String>,
}

/// Where statements come from.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// Statements; may be repeated
    #[arg(short = 'c', value_name = "SQL", allow_hyphen_values = true)]
    pub commands: Vec<String>,
    /// Files of statements, after -c; may be repeated
    #[arg(short = 'f', value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// `-` reads standard input
    #[arg(value_name = "-", value_parser = ["-"])]
    pub stdin: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    /// Target, as `dbgate ls` shows it
    #[arg(required_unless_present = "resume")]
    pub target: Option<String>,
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub ask: Asking,
    /// Value of $1, $2, … of the one statement, in this order; PostgreSQL reads it as the type it needs
    #[arg(short = 'p', value_name = "VALUE", conflicts_with = "resume", allow_hyphen_values = true)]
    pub values: Vec<String>,
    /// Run what a request was approved for, once; again: say what came of it
    #[arg(long, value_name = "REQUEST", conflicts_with_all = ["target", "commands", "files", "stdin"])]
    pub resume: Option<String>,
    /// How long to wait for people who must approve; 15m on a terminal, else 0
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub wait: Option<u64>,
    /// Ask nobody: what needs approval is denied
    #[arg(long, conflicts_with = "resume")]
    pub no_request: bool,
    /// Go ahead at once where a rule lets you, with --reason; it is recorded, told, and reviewed within a day
    #[arg(long, requires = "reason", conflicts_with_all = ["resume", "no_request"])]
    pub break_glass: bool,
    /// Most rows of a result; more are cut off, and that is said
    #[arg(long, value_name = "N")]
    pub max_rows: Option<u64>,
    /// Most bytes of a result's rows; more are cut off, and that is said
    #[arg(long, value_name = "N")]
    pub max_bytes: Option<u64>,
    /// Exit 8 when a result was cut off
    #[arg(long)]
    pub fail_on_truncate: bool,
    /// Go on after an error; the exit code still tells of it
    #[arg(long, value_enum, default_value_t = OnError::Stop)]
    pub on_error: OnError,
    /// For the whole call, as in 30s; then what runs is cancelled
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub timeout: Option<u64>,
}

impl ExecArgs {
    /// Everything of `source`, without limits, up to the first error.
    pub fn of(target: &str, source: Source, ask: &Asking) -> Self {
        Self {
            target: Some(target.to_owned()),
            source,
            ask: ask.clone(),
            values: Vec::new(),
            resume: None,
            wait: None,
            no_request: false,
            break_glass: false,
            max_rows: None,
            max_bytes: None,
            fail_on_truncate: false,
            on_error: OnError::Stop,
            timeout: None,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct UndoArgs {
    /// The session, as `exec --format json` names it, or SHOW dbgate.session
    pub session: String,
    /// The statement's number in it
    pub statement: Option<u64>,
    /// Run it, in a session of its own with write access
    #[arg(long, requires = "statement")]
    pub apply: bool,
    /// Why; recorded with the session
    #[arg(long, env = "DBGATE_REASON")]
    pub reason: Option<String>,
    /// Ticket; recorded with the session
    #[arg(long, env = "DBGATE_TICKET")]
    pub ticket: Option<String>,
    /// Name of the program that acts; recorded as declared, grants nothing
    #[arg(long, env = "DBGATE_AGENT")]
    pub agent: Option<String>,
    /// How long to wait for people who must approve; 15m on a terminal, else 0
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub wait: Option<u64>,
}

/// How `check` finds out what a write would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Impact {
    /// It does not
    None,
    /// Asks the planner
    Estimate,
    /// Runs it under short time limits, counts, and rolls it back
    Trial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    Stop,
    Continue,
}

fn connect_help() -> String {
    let examples = "dbgate connect demo\n  dbgate connect prod --access write --reason \"refund stuck\"";
    format!("Examples:\n  {examples}\n\nAt the prompt:\n{}", meta::HELP)
}

/// `90s`, `30m`, `2h`, or plain seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no time; write 90s, 30m or 2h");
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 's')) => (text.get(..at), 1),
        Some((at, 'm')) => (text.get(..at), 60),
        Some((at, 'h')) => (text.get(..at), 3600),
        _ => (Some(text), 1),
    };
    let number: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
    number.checked_mul(factor).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("30m"), Ok(1800));
        assert_eq!(seconds("2h"), Ok(7200));
        assert_eq!(seconds("5"), Ok(5));
        assert!(seconds("m").is_err() && seconds("1d").is_err() && seconds("").is_err());
    }
}
