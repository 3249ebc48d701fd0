//! What people and agents type: one command a file, flags in [`args`], exit codes in [`exit`].

pub mod answer;
pub mod args;
pub mod audit;
pub mod check;
#[cfg(feature = "server")]
pub mod classify;
#[cfg(feature = "server")]
pub mod configured;
pub mod connect;
pub mod conninfo;
#[cfg(feature = "server")]
pub mod demo;
#[cfg(feature = "server")]
pub mod doctor;
pub mod exec;
pub mod exit;
pub mod failure;
pub mod generate;
pub mod interrupt;
pub mod login;
pub mod logout;
pub mod ls;
pub mod output;
pub mod people;
#[cfg(feature = "server")]
pub mod policy;
pub mod repeat;
pub mod request;
pub mod review;
#[cfg(feature = "server")]
pub mod serve;
pub mod session;
pub mod stdout;
pub mod stop;
#[cfg(feature = "server")]
pub mod target;
pub mod typed;
pub mod undo;
pub mod whoami;
pub mod workstation;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::cli::args::{AuditCommand, Cli, Command, Format};
use crate::cli::exit::{Exit, Failure};
use crate::cli::whoami::Form;
use crate::client::config::Config;
use crate::core::text;
use crate::sys::paths::Paths;
use crate::sys::tls;

const OVERVIEW: &str = "\
dbgate: just-in-time access and an audited SQL shell for PostgreSQL.

  dbgate login --server URL   sign in with your organisation's account
  dbgate ls                   list the databases you may use
  dbgate connect TARGET       open a session; statements are checked, masked and recorded
  dbgate exec TARGET -c SQL   run statements from a script or an agent
  dbgate demo                 see all of it on this machine

More: dbgate --help, dbgate COMMAND --help
";

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    leave_when_the_reader_leaves();
    tls::install_provider();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error).into(),
    };
    let Some(command) = cli.command else {
        print!("{OVERVIEW}");
        return if std::io::stdin().is_terminal() { Exit::Ok.into() } else { Exit::Usage.into() };
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::new(Exit::Failed, error.to_string())).into(),
    };
    // `exec`, and `connect` where it is no prompt, write a document of their own for every outcome.
    let has_document = matches!(command, Command::Exec(_) | Command::Connect { .. })
        || matches!(&command, Command::Undo(arguments) if arguments.apply);
    let is_document = cli.global.format == Format::Json && !has_document;
    let exit = runtime.block_on(run(command, cli.global)).unwrap_or_else(|failure| {
        if is_document {
            println!("{}", answer::failure_document(&failure));
        }
        fail(&failure)
    });
    // A task that reads standard input must not keep the program from ending.
    runtime.shutdown_background();
    exit.into()
}

/// Help and version go to stdout and are no failure; a wrong flag is one.
fn misused(error: &clap::Error) -> Exit {
    // Where stdout or stderr is closed there is nobody to tell; the exit code still does.
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Ok;
    }
    // The flags could not be read, so this one is looked for by hand.
    let words: Vec<_> = std::env::args().collect();
    let is_document = words.iter().any(|word| word == "--format=json")
        || words.windows(2).any(|pair| matches!(pair, [flag, value] if flag == "--format" && value == "json"));
    if is_document {
        let said = error.to_string();
        // What is wrong, and with which argument; how to use it right comes behind.
        let what = said.lines().map(str::trim).take_while(|line| !line.is_empty() && !line.starts_with("Usage:"));
        let what = what.collect::<Vec<_>>().join(" ");
        let failure = Failure::new(Exit::Usage, what.trim_start_matches("error: "))
            .hint(format!("Run: {} --help", command_of(&words)));
        println!("{}", answer::failure_document(&failure));
    }
    Exit::Usage
}

/// The command that was meant, as far as its words are known.
fn command_of(words: &[String]) -> String {
    let root = Cli::command();
    let (mut command, mut names) = (&root, vec![root.get_name()]);
    for word in words.iter().skip(1) {
        if let Some(known) = command.find_subcommand(word) {
            command = known;
            names.push(known.get_name());
        }
    }
    names.join(" ")
}

/// `dbgate ls | head -1` is no bug: where the reader of stdout has gone, `println!` panics, and the
/// program ends quietly as one that SIGPIPE ends (128 + 13). On a full disk it ends with a word.
fn leave_when_the_reader_leaves() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if text.starts_with("failed printing to std") && text.contains("Broken pipe") {
            #[expect(clippy::disallowed_methods, reason = "nobody reads on; SIGPIPE would end the process here")]
            std::process::exit(i32::from(Exit::ClosedPipe.code()));
        }
        if let Some(reason) = text.strip_prefix("failed printing to stdout: ") {
            // A full disk is no bug either.
            let _ = writeln!(std::io::stderr(), "cannot write the answer: {reason}");
            #[expect(clippy::disallowed_methods, reason = "nothing more can be said there")]
            std::process::exit(i32::from(Exit::Failed.code()));
        }
        usual(panic);
    }));
}

/// Says what failed; text of a peer cannot move the cursor.
fn fail(failure: &Failure) -> Exit {
    // Where stderr is closed there is nobody to tell; the exit code still does.
    let _ = writeln!(std::io::stderr(), "{}", text::escape_keeping_lines(&failure.to_string()));
    failure.exit
}

/// A context stands for its broker's address: whoever has the address finds the rest of it.
fn address(global: args::Global) -> Result<args::Global, Failure> {
    let Some(name) = &global.context else { return Ok(global) };
    let server = Config::load(&Paths::from_environment())?.named(name)?;
    Ok(args::Global { server: Some(server.url), ..global })
}

async fn run(command: Command, global: args::Global) -> Result<Exit, Failure> {
    let global = &address(global)?;
    let server = global.server.as_deref();
    let form = if global.format == Format::Json { Form::Json } else { Form::Text };
    match command {
        Command::Login { ca_file, no_open } => {
            let browser = if no_open { login::Browser::Leave } else { login::Browser::Open };
            login::run(server, ca_file.as_deref(), browser).await.map(|()| Exit::Ok)
        }
        Command::Logout => logout::run(server).await.map(|()| Exit::Ok),
        Command::Whoami => whoami::run(server, form).await.map(|()| Exit::Ok),
        Command::Ls => ls::run(server, form).await.map(|()| Exit::Ok),
        Command::Connect { target, ask, no_history } => connect::run(global, &target, &ask, no_history).await,
        Command::Exec(arguments) => exec::run(global, &arguments, exec::Reading::First).await,
        Command::Check { target, source, ask, impact } => check::run(global, &target, &source, &ask, impact).await,
        Command::Psql { target, ask, arguments } => conninfo::psql(server, &target, &ask, &arguments).await,
        Command::Conninfo { target, ask } => conninfo::run(global, &target, &ask).await,
        Command::Revoke { grant } => session::revoke(server, &grant).await,
        Command::Request { command } => request::run(server, form, &command).await,
        Command::Review => review::run(server).await,
        Command::Approve { request, message, max_rows } => {
            review::approve(server, form, &request, message, max_rows).await
        }
        Command::Reject { request, message } => review::reject(server, form, &request, &message).await,
        Command::Undo(arguments) => undo::run(global, &arguments).await,
        Command::Audit { command: AuditCommand::Verify { file, keys } } => {
            audit::verify(&file, &keys, global.format == Format::Json, &mut std::io::stdout())
        }
        #[cfg(feature = "server")]
        Command::Serve(arguments) => serve::run(&arguments, global.no_color).await,
        #[cfg(feature = "server")]
        Command::Target(arguments) => target::run(&arguments, form).await,
        #[cfg(feature = "server")]
        Command::Classify(arguments) => classify::run(&arguments, form).await,
        #[cfg(feature = "server")]
        Command::Doctor(arguments) => doctor::run(&arguments, form).await,
        #[cfg(feature = "server")]
        Command::Policy(arguments) => policy::run(&arguments, form).await,
        #[cfg(feature = "server")]
        Command::Demo { once } => demo::run(once, global.no_color).await,
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { output } => generate::man(&output),
        Command::HelpExitCodes => generate::exit_codes(),
    }
}
