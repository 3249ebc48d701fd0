//! The rules of the house, as tests: who may import whom, which crate may be named where, how long
//! a file may be. Text is enough for that; no dependency, no parser, one `#[test]` a rule.

#![expect(clippy::panic, reason = "a broken rule is told with the list of places that break it")]

use std::fs;
use std::path::{Path, PathBuf};

/// Layer, and the layers it may import.
const LAYERS: [(&str, &[&str]); 6] = [
    ("core", &["core"]),
    ("sys", &["core", "sys"]),
    ("client", &["core", "sys", "client"]),
    ("server", &["core", "sys", "server"]),
    ("demo", &["core", "sys", "client", "server", "demo"]),
    ("cli", &["core", "sys", "client", "server", "demo", "cli"]),
];

/// Crates that bring I/O, a clock, a terminal or an async runtime: `core` does without.
const NOT_IN_CORE: [&str; 14] = [
    "tokio",
    "tokio_postgres",
    "clap",
    "rustyline",
    "keyring",
    "openidconnect",
    "comfy_table",
    "dirs",
    "sqlx",
    "axum",
    "reqwest",
    "rustls",
    "tracing",
    "anyhow",
];

/// What has I/O, time, threads or global state in the standard library.
const NOT_IN_CORE_STD: [&str; 12] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "SystemTime",
    "Instant::now",
    "async fn",
    "static mut",
    "thread_local!",
    "println!",
];

/// Crates with one home: `(crate, the only places that may name it)`.
const HOMES: [(&str, &[&str]); 6] = [
    ("pg_query", &["core/statement/grammar.rs", "core/statement/splice.rs", "core/statement/visit.rs"]),
    ("sqlparser", &["core/statement/local.rs"]),
    ("cedar_policy", &["core/policy/"]),
    ("sqlx", &["server/store/"]),
    ("rustyline", &["client/shell/", "cli/connect.rs"]),
    ("anyhow", &["cli/", "demo/"]),
];

/// The most lines a file may have before its tests.
const LONGEST_FILE: usize = 500;

struct Source {
    /// Relative to `src`, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn layer(&self) -> &str {
        self.path.split('/').next().unwrap_or("")
    }

    /// Numbered lines of code: without comments, and without the tests at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let before_tests = self.text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
        let numbered = before_tests.enumerate().map(|(index, line)| (index + 1, line.trim()));
        numbered.filter(|(_, line)| !line.starts_with("//"))
    }

    /// Every place where the code says `word` as a path of its own.
    fn naming<'a>(&'a self, word: &'a str) -> impl Iterator<Item = String> + 'a {
        let says = move |line: &str| line.match_indices(word).any(|(at, _)| stands_alone(line, at, word));
        self.code()
            .filter(move |(_, line)| says(line))
            .map(|(number, line)| format!("src/{}:{number}: {line}", self.path))
    }

    fn is_test_only(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

/// Whether the word at `at` is no part of a longer name.
fn stands_alone(line: &str, at: usize, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let before = line.get(..at).and_then(|text| text.chars().next_back());
    let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
    !before.is_some_and(|c| is_name(c) || c == '"') && !after.is_some_and(is_name)
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 20, "the sources were not found under {}", root.display());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            found.push(Source { path: relative, text: fs::read_to_string(&path).expect("UTF-8 source") });
        }
    }
}

fn none(rule: &str, broken: Vec<String>) {
    if !broken.is_empty() {
        panic!("{rule}\n  {}", broken.join("\n  "));
    }
}

#[test]
fn imports_point_one_way() {
    let names = LAYERS.map(|(name, _)| name);
    let mut broken = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == source.layer()) else { continue };
        for other in names.iter().filter(|name| !allowed.contains(name)) {
            broken.extend(source.naming(&format!("crate::{other}")));
        }
    }
    none("cli, demo -> client | server -> sys -> core; client and server never import each other", broken);
}

#[test]
fn core_names_no_crate_and_no_module_with_effects() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.layer() == "core" && !source.is_test_only()) {
        for word in NOT_IN_CORE.iter().chain(&NOT_IN_CORE_STD) {
            broken.extend(source.naming(word));
        }
    }
    none("core has no I/O, clock, randomness, thread, async or global state", broken);
}

#[test]
fn crates_with_one_home_are_named_nowhere_else() {
    let mut broken = Vec::new();
    for source in sources() {
        for (word, homes) in HOMES {
            if !homes.iter().any(|home| source.path.starts_with(home)) {
                broken.extend(source.naming(&format!("{word}::")));
            }
        }
    }
    none("a crate that can leave its home cannot be replaced or reviewed in one place", broken);
}

#[test]
fn the_clock_and_randomness_have_one_door() {
    let mut broken = Vec::new();
    for source in sources() {
        if source.path != "sys/clock.rs" {
            broken.extend(source.naming("SystemTime::now"));
        }
        // Key generation takes the generator itself, not bytes.
        if source.path != "sys/random.rs" && source.path != "demo/issuer/signer.rs" {
            broken.extend(source.naming("SystemRandom"));
        }
    }
    none("time comes from sys/clock.rs, random bytes from sys/random.rs", broken);
}

#[test]
fn no_file_is_longer_than_a_reader_holds_in_mind() {
    let length = |source: &Source| source.text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
    let long = sources().into_iter().filter(|source| !source.is_test_only() && length(source) > LONGEST_FILE);
    none("500 lines at most before the tests", long.map(|s| format!("src/{}: {}", s.path, length(&s))).collect());
}

#[test]
fn every_file_begins_by_saying_what_it_is_for() {
    let silent = sources().into_iter().filter(|source| {
        let first = source.text.lines().next().unwrap_or("");
        // One word is a name, not a purpose; what a file of tests is for, its folder says.
        !source.is_test_only() && (!first.starts_with("//! ") || first.split_whitespace().count() < 3)
    });
    none("the first line is `//!` and says what the file is for", silent.map(|s| format!("src/{}", s.path)).collect());
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test_only()) {
        let unwraps = |line: &str| line.contains(".unwrap()");
        broken.extend(source.code().filter(|(_, l)| unwraps(l)).map(|(n, l)| format!("src/{}:{n}: {l}", source.path)));
    }
    none("an invariant that makes it safe is said with `expect`", broken);
}

#[test]
fn lints_are_lifted_with_a_reason_only() {
    let mut broken = Vec::new();
    for source in sources() {
        let lifts = |line: &str| line.starts_with("#[allow(") || line.starts_with("#![allow(");
        let lines = source.text.lines().enumerate().filter(|(_, line)| lifts(line.trim()));
        broken.extend(lines.map(|(n, line)| format!("src/{}:{}: {}", source.path, n + 1, line.trim())));
    }
    none("use #[expect(lint, reason = \"...\")]", broken);
}

#[test]
fn no_file_is_a_drawer() {
    let drawers = ["utils", "util", "helpers", "helper", "common", "misc", "manager", "types"];
    let is_drawer = |path: &str| path.split(['/', '.']).any(|part| drawers.contains(&part));
    let broken = sources().into_iter().filter(|source| is_drawer(&source.path));
    none("if it has no better name, it is not one thing", broken.map(|s| format!("src/{}", s.path)).collect());
}

/// What `cargo deny` holds, for machines without it.
#[test]
fn crates_that_are_banned_are_not_in_the_lock_file() {
    let read =
        |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a readable file");
    let (deny, lock) = (read("deny.toml"), read("Cargo.lock"));
    let name = |line: &str| Some(line.split_once("{ crate = \"")?.1.split_once('"')?.0.to_owned());
    let banned: Vec<String> = deny.lines().filter_map(name).collect();
    assert!(!banned.is_empty(), "deny.toml bans nothing");
    let is_there = |name: &String| lock.lines().any(|line| line == format!("name = \"{name}\""));
    none("banned in deny.toml", banned.into_iter().filter(is_there).collect());
}

#[test]
fn every_dependency_is_explained() {
    let read =
        |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a readable file");
    let (manifest, page) = (read("Cargo.toml") + &read("fuzz/Cargo.toml"), read("docs/dependencies.md"));
    let mut section = "";
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if ["[dependencies]", "[dev-dependencies]"].contains(&section)
            && let Some((name, _)) = line.split_once(" = ").filter(|(name, _)| *name != "dbgate")
        {
            names.push(name);
        }
    }
    let explained = |name: &str| page.contains(&format!("| `{name}` |"));
    let missing = names.iter().filter(|name| !explained(name)).map(|name| (*name).to_owned()).collect();
    none("docs/dependencies.md says of each dependency why it is here", missing);
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name));
    let gone = rows.filter(|name| !names.contains(name)).map(str::to_owned).collect();
    none("docs/dependencies.md explains what is not there any more", gone);
}
