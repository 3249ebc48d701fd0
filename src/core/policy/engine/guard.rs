//! What no policy can allow: statements that would loosen the session itself or leave the
//! privileges behind that everything else rests on.
//!
//! These walls stand in code because a rule that lifts one would not do what its writer thinks.

use std::collections::BTreeSet;

use super::judge::plain;
use crate::core::grant::Access;
use crate::core::policy::Denial;
use crate::core::policy::classification::Classification;
use crate::core::scope::catalog::Catalog;
use crate::core::scope::{BUILT_IN, RelationName, Scope};
use crate::core::statement::facts::{CopyDirection, Effect, Facts, Name, TransactionVerb};
use crate::core::statement::texts::RUNS_TEXT;

/// Settings that decide who the session is or how text is read, with the values that may be
/// set. The gateway reads statements as PostgreSQL does with these values and no others.
const PINNED: [(&str, &[&str]); 16] = [
    ("role", &[]),
    ("session_authorization", &[]),
    ("standard_conforming_strings", &["on", "true", "yes", "1"]),
    ("backslash_quote", &["safe_encoding", "off"]),
    ("client_encoding", &["utf8", "utf-8", "unicode"]),
    ("session_replication_role", &["origin"]),
    (DEFAULT_READ_ONLY, &["on", "true", "yes", "1"]),
    (READ_ONLY, &["on", "true", "yes", "1"]),
    // Without it the planner takes any memory for many relations.
    (GEQO, &["on", "true", "yes", "1"]),
    // Libraries loaded into the backend run with the server's rights.
    ("session_preload_libraries", &[]),
    ("local_preload_libraries", &[]),
    ("dynamic_library_path", &[]),
    // What they print, plans with estimates of rows that are hidden, is sent to who asks for it.
    ("debug_print_parse", &OFF),
    ("debug_print_raw_parse", &OFF),
    ("debug_print_rewritten", &OFF),
    ("debug_print_plan", &OFF),
];

/// Settings that keep one statement from using up the server's memory, and the most that a session may make of
/// them; with the bytes of one where they count memory. The planner's own is taken for as many relations as are
/// looked at in every order.
const BOUNDED: [(&str, Option<f64>, f64); 13] = [
    ("from_collapse_limit", None, 12.0),
    ("geqo_generations", None, 1_000.0),
    ("geqo_pool_size", None, 1_000.0),
    ("geqo_threshold", None, 12.0),
    ("hash_mem_multiplier", None, 8.0),
    ("join_collapse_limit", None, 12.0),
    ("logical_decoding_work_mem", Some(KIB), GIB),
    ("maintenance_work_mem", Some(KIB), 4.0 * GIB),
    // What PostgreSQL called them before, and takes still.
    ("sort_mem", Some(KIB), GIB),
    ("vacuum_mem", Some(KIB), 4.0 * GIB),
    ("temp_buffers", Some(8.0 * KIB), GIB),
    ("vacuum_buffer_usage_limit", Some(KIB), 4.0 * GIB),
    ("work_mem", Some(KIB), GIB),
];
const KIB: f64 = 1_024.0;
const GIB: f64 = 1_073_741_824.0;

/// By these a transaction may write. Nothing rests on them but the reads of those who may only read.
const READ_ONLY: &str = "transaction_read_only";
const DEFAULT_READ_ONLY: &str = "default_transaction_read_only";
const OFF: [&str; 4] = ["off", "false", "no", "0"];

const GEQO: &str = "geqo";

/// Pinned settings whose default is what the gateway made the session with: the scope's role, and
/// whether it may write; or what the target's own people have set. RESET and SET TO DEFAULT go back to that.
const MADE_SO: [&str; 4] = ["role", "session_authorization", DEFAULT_READ_ONLY, GEQO];

/// Settings of the gateway's own, by which the target can be asked about the session.
const OWN_SETTINGS: &str = "dbgate.";

const LARGE_OBJECT: &str = "changes a large object, which no rule covers";
const READS_FILES: &str = "reads files of the server";
const SERVER_LOG: &str = "writes the server's log";
const SLOT: &str = "changes replication slots";
const OTHER_CONNECTION: &str = "opens a connection of its own that nobody judges";

/// Functions of `pg_catalog` that reach beyond rows, with what they do. PostgreSQL refuses most
/// of them to an ordinary role anyway; some it leaves to PUBLIC.
const DANGEROUS: [(&str, &str); 33] = [
    // Its limits, its count and its record are those of FETCH, and of the portal's Execute.
    ("cursor_to_xml", "runs what a cursor or a portal of the session stands for"),
    ("pg_terminate_backend", "ends other people's sessions"),
    ("pg_cancel_backend", "cancels other people's statements"),
    ("pg_reload_conf", "reloads the server's configuration"),
    ("pg_rotate_logfile", SERVER_LOG),
    ("pg_promote", "promotes a standby"),
    ("pg_switch_wal", SERVER_LOG),
    ("pg_create_restore_point", SERVER_LOG),
    ("pg_logical_emit_message", SERVER_LOG),
    ("pg_log_backend_memory_contexts", SERVER_LOG),
    ("pg_backup_start", "starts a backup"),
    ("pg_backup_stop", "ends a backup"),
    ("pg_start_backup", "starts a backup"),
    ("pg_stop_backup", "ends a backup"),
    ("pg_read_file", READS_FILES),
    ("pg_read_binary_file", READS_FILES),
    ("pg_stat_file", READS_FILES),
    ("pg_current_logfile", READS_FILES),
    ("lo_import", READS_FILES),
    ("lo_export", "writes files of the server"),
    ("lo_creat", LARGE_OBJECT),
    ("lo_create", LARGE_OBJECT),
    ("lo_from_bytea", LARGE_OBJECT),
    ("lo_put", LARGE_OBJECT),
    ("lo_unlink", LARGE_OBJECT),
    ("lo_truncate", LARGE_OBJECT),
    ("lo_truncate64", LARGE_OBJECT),
    ("lowrite", LARGE_OBJECT),
    ("pg_drop_replication_slot", SLOT),
    ("pg_create_physical_replication_slot", SLOT),
    ("pg_create_logical_replication_slot", SLOT),
    ("pg_copy_physical_replication_slot", SLOT),
    ("pg_copy_logical_replication_slot", SLOT),
];

/// Beginnings of further names, and whether they count in any schema: extensions live anywhere.
const DANGEROUS_STARTS: [(&str, &str, bool); 10] = [
    ("pg_ls_", READS_FILES, false),
    ("pg_file_", "changes files of the server", true),
    ("pg_logical_slot_", "reads everybody's changes from the replication stream", false),
    ("pg_replication_origin_", SLOT, false),
    ("pg_replication_slot_", SLOT, false),
    ("pg_stat_reset", "throws statistics away", false),
    ("pg_wal_replay_", "moves or stops a standby", false),
    ("dblink", OTHER_CONNECTION, true),
    ("postgres_fdw_", OTHER_CONNECTION, true),
    ("xslt_process", "runs a program that nothing ends", true),
];

/// The first function the statement calls that runs SQL given as text.
pub fn text_runner(facts: &Facts) -> Option<Name> {
    facts.calls().find(|call| RUNS_TEXT.contains(&call.name.as_str()))
}

/// Commands whose effect outlives the session although any role may give them for itself.
const OUTLIVES: [&str; 4] = ["ALTER ROLE", "ALTER USER", "ALTER DEFAULT PRIVILEGES", "ALTER SYSTEM"];

/// The first wall the statement runs into, if any.
pub(super) fn refuse(
    facts: &Facts,
    scope: &Scope,
    catalog: &Catalog,
    classification: &Classification,
) -> Option<Denial> {
    out_of_reach(facts)
        .or_else(|| facts.settings.iter().find_map(|setting| pinned(setting, scope.access)))
        .or_else(|| facts.calls().find_map(|call| dangerous(&call)))
        .or_else(|| unread(facts))
        .or_else(|| endless(facts))
        .or_else(|| definer(facts, scope, catalog, classification))
        .or_else(|| quoted(facts, scope, catalog, classification))
        .or_else(|| listens(facts, scope, classification))
}

fn out_of_reach(facts: &Facts) -> Option<Denial> {
    let verb = &facts.verb;
    if facts.effect == Effect::Unknown {
        return Some(wall("unknown_statement", format!("`{verb}` is not understood, so it is not run"), None));
    }
    if facts.transaction == Some(TransactionVerb::TwoPhase) {
        let message = "two-phase transactions outlive the session and its verdict".to_owned();
        return Some(wall("two_phase_refused", message, Some("use BEGIN and COMMIT")));
    }
    if facts.copy == Some(CopyDirection::Server) {
        let message = "COPY with a file or program of the server is refused".to_owned();
        return Some(wall("server_copy_refused", message, Some("use COPY ... FROM STDIN or TO STDOUT")));
    }
    let outlives = OUTLIVES.iter().any(|start| verb.starts_with(start));
    outlives.then(|| wall("role_change_refused", format!("`{verb}` changes what outlives the session"), None))
}

/// `setting` is `name` for RESET and SET TO DEFAULT, `name=value` otherwise. A name that is not
/// a constant arrives empty.
fn pinned(setting: &str, access: Access) -> Option<Denial> {
    let (name, value) = setting.split_once('=').map_or((setting, None), |(name, value)| (name, Some(value)));
    let is_letter = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '.' | '$' | '-');
    if name.is_empty() || !name.chars().all(is_letter) {
        let message = "set_config() with a name that is computed cannot be judged".to_owned();
        return Some(wall("setting_refused", message, Some("write the setting's name as a constant")));
    }
    if name.starts_with(OWN_SETTINGS) {
        return Some(wall("setting_refused", format!("the setting `{name}` tells who the session is"), None));
    }
    if let (Some(value), Some((name, unit, most))) = (value, BOUNDED.iter().find(|(bounded, ..)| *bounded == name)) {
        let is_more = amount(value, *unit).is_none_or(|amount| amount > *most);
        return is_more.then(|| {
            let most = unit.map_or_else(|| most.to_string(), |_| format!("{} GB", most / GIB));
            wall("setting_refused", format!("the setting `{name}` may be no more than {most} in a session"), None)
        });
    }
    let (name, allowed) = PINNED.iter().find(|(pinned, _)| *pinned == name)?;
    let may_write = access != Access::Read && [READ_ONLY, DEFAULT_READ_ONLY].contains(name);
    let is_let = match value {
        Some(value) => allowed.contains(&value) || (may_write && OFF.contains(&value)),
        None => may_write || MADE_SO.contains(name),
    };
    if is_let {
        return None;
    }
    Some(wall("setting_refused", format!("the setting `{name}` is fixed in this session"), None))
}

/// A number as settings have it, in lower case: in bytes where the setting counts memory in such units.
fn amount(value: &str, unit: Option<f64>) -> Option<f64> {
    let value = value.trim();
    let end = value.find(|letter: char| letter.is_alphabetic() && letter != 'e').unwrap_or(value.len());
    let number: f64 = value.get(..end)?.trim_end().parse().ok()?;
    let unit = match (value.get(end..)?, unit) {
        ("", unit) => unit.unwrap_or(1.0),
        (_, None) => return None,
        ("b", _) => 1.0,
        ("kb", _) => KIB,
        ("mb", _) => KIB * KIB,
        ("gb", _) => GIB,
        ("tb", _) => KIB * GIB,
        _ => return None,
    };
    Some(number * unit)
}

fn dangerous(function: &Name) -> Option<Denial> {
    let in_catalog = function.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
    let exact = DANGEROUS.iter().find(|(name, _)| in_catalog && *name == function.name).map(|(_, does)| does);
    let by_start = || {
        let counts = |anywhere: bool| in_catalog || anywhere;
        let mut starts = DANGEROUS_STARTS.iter();
        starts.find(|(start, _, any)| counts(*any) && function.name.starts_with(start)).map(|(_, does, _)| does)
    };
    let does = exact.or_else(by_start)?;
    let mut denial = wall("function_refused", format!("`{function}()` {does}"), None);
    denial.objects = vec![function.to_string()];
    Some(denial)
}

/// What a text calls that is put together while it runs is known to nobody before.
fn unread(facts: &Facts) -> Option<Denial> {
    let function = text_runner(facts).filter(|_| facts.unread_text)?;
    let message = format!("`{function}()` runs a text that is put together while it runs, so it cannot be judged");
    let hint = "write the text out, with format() and %I or %L where names and values come in";
    Some(Denial { objects: vec![function.to_string()], ..wall("text_refused", message, Some(hint)) })
}

/// No limit of time ends it, nor the end of the session.
fn endless(facts: &Facts) -> Option<Denial> {
    let message = "a path through XML that may take long is refused: nothing can end it".to_owned();
    let hint = "write the path out as a constant, step by step from the top: at most one `//`, no `|`, and conditions \
                that compare what stands below with a constant";
    facts.endless_path.then(|| wall("path_refused", message, Some(hint)))
}

/// LISTEN needs no right in PostgreSQL and delivers what other sessions send: rows, as often as not.
/// What comes over a channel that nobody vouches for is held back as well, however it was listened to.
fn listens(facts: &Facts, scope: &Scope, classification: &Classification) -> Option<Denial> {
    let channel = facts.channel.as_ref().filter(|channel| scope.hides() && !classification.opens_channel(channel))?;
    let message = format!("what others send on the channel `{channel}` could show what is masked");
    let hint = "a [[channel]] of classification.toml can vouch for it";
    Some(Denial { objects: vec![channel.clone()], ..wall("channel_refused", message, Some(hint)) })
}

/// Those of which nobody says that they show nothing.
fn closed<'c>(all: &'c BTreeSet<RelationName>, classification: &Classification) -> Vec<&'c RelationName> {
    all.iter().filter(|known| !classification.opens_function(known)).collect()
}

/// Whether a name that stands in a statement may mean one of them.
fn is_among(all: &[&RelationName], name: &Name) -> bool {
    all.iter().any(|known| known.name == name.name && name.schema.as_ref().is_none_or(|schema| *schema == known.schema))
}

/// They make a value of a type that a text names.
const TRIES_TYPES: [&str; 2] = ["pg_input_is_valid", "pg_input_error_info"];

/// A SECURITY DEFINER function runs with its owner's rights and may read what is masked here.
fn definer(facts: &Facts, scope: &Scope, catalog: &Catalog, classification: &Classification) -> Option<Denial> {
    let closed = |all| closed(all, classification);
    let (functions, types) = (closed(&catalog.definer_functions), closed(&catalog.definer_types));
    if (functions.is_empty() && types.is_empty()) || !scope.hides() {
        return None;
    }
    let called = facts.calls().find(|name| is_among(&functions, name)).map(|name| {
        let message = format!("`{name}` runs with its owner's rights and could show masked columns");
        let hint = "revoke EXECUTE on it from PUBLIC, make it SECURITY INVOKER, or vouch for it in classification.toml";
        (name, message, hint)
    });
    // A type is called like a function, too; some functions are told its name.
    let mut named = facts.functions.iter().chain(&facts.casts);
    let checked = || {
        let tries = |name: &Name| !types.is_empty() && TRIES_TYPES.contains(&name.name.as_str());
        let name = named.find(|name| is_among(&types, name) || tries(name))?.clone();
        let message =
            format!("values of `{name}` are checked with the rights of an owner, which could tell of masked columns");
        Some((
            name,
            message,
            "revoke EXECUTE on what its CHECK calls from PUBLIC, or vouch for it in classification.toml",
        ))
    };
    if let Some((name, message, hint)) = called.or_else(checked) {
        let mut denial = wall("definer_function", message, Some(hint));
        denial.objects = vec![name.to_string()];
        return Some(denial);
    }
    let message = format!("`{}` could call a function that runs with its owner's rights", calls_anything(facts)?);
    Some(wall("definer_function", message, Some("write the query out")))
}

/// What of a statement calls functions that its text does not name, if anything does.
fn calls_anything(facts: &Facts) -> Option<String> {
    let verb = || matches!(facts.verb.as_str(), "DO" | "CALL").then(|| facts.verb.clone());
    text_runner(facts).map(|function| format!("{function}()")).or_else(verb)
}

/// The DETAIL of an error is kept from the session, but code that catches the error reads it.
fn quoted(facts: &Facts, scope: &Scope, catalog: &Catalog, classification: &Classification) -> Option<Denial> {
    let functions = closed(&catalog.detail_functions, classification);
    if !scope.hides() || (functions.is_empty() && !facts.reads_details) {
        return None;
    }
    let quotes = "the DETAIL of errors, where PostgreSQL could quote masked columns";
    if let Some(name) = facts.calls().find(|name| is_among(&functions, name)) {
        let hint = "leave PG_EXCEPTION_DETAIL and PG_EXCEPTION_CONTEXT out of it, revoke EXECUTE on it from PUBLIC, or \
                    vouch for it in classification.toml";
        let denial = wall("detail_function", format!("`{name}` reads {quotes}"), Some(hint));
        return Some(Denial { objects: vec![name.to_string()], ..denial });
    }
    if facts.reads_details {
        let hint = "leave PG_EXCEPTION_DETAIL and PG_EXCEPTION_CONTEXT out of it";
        return Some(wall("detail_function", format!("`{}` reads {quotes}", facts.verb), Some(hint)));
    }
    let message = format!("`{}` could call a function that reads {quotes}", calls_anything(facts)?);
    Some(wall("detail_function", message, Some("write the query out")))
}

fn wall(code: &str, message: String, hint: Option<&str>) -> Denial {
    Denial { hint: hint.map(str::to_owned), ..plain(code, BUILT_IN, message) }
}
