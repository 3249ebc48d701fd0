//! All tests that run the program or a server, in one binary: one link instead of thirty.
//!
//! A file that is not listed here is not compiled; [`every_file_is_listed`] refuses that.

mod support;

mod cli {
    mod classify;
    mod doctor;
    mod front;
    mod policy;
    mod script;
    mod secrets;
    mod serve;
    mod target;
    mod trouble;
}
mod broker {
    mod api;
    mod approvals;
}
mod gateway {
    mod again;
    mod attacks;
    mod beyond;
    mod corpus;
    mod details;
    mod differential;
    mod disguise;
    mod drivers;
    mod dynamic;
    mod ended;
    mod explained;
    mod failover;
    mod guesses;
    mod habit;
    mod holes;
    mod hostile;
    mod keys;
    mod lease_versions;
    mod leases;
    mod lent;
    mod life;
    mod lifecycle;
    mod limits;
    mod long_texts;
    mod mask_types;
    mod masks;
    mod misread;
    mod moved;
    mod names;
    mod net;
    mod new_rows;
    mod oracle;
    mod outcomes;
    mod overloads;
    mod own_things;
    mod portals;
    mod privileges;
    mod property;
    mod protocol;
    mod reads;
    mod room;
    mod row_policies;
    mod settled;
    mod shapes;
    mod told;
    mod tools;
    mod trips;
    mod upstream_tls;
    mod versions;
    mod words;
    mod writes;
}
mod journeys {
    mod approval;
    mod block;
    mod bound;
    mod demo;
    mod desk;
    mod first_day;
    mod glass;
    mod reach;
    mod sign_in;
    mod terminal;
    mod undo;
    mod upkeep;
}

/// A test file that nobody compiles passes for ever.
#[test]
fn every_file_is_listed() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let listed = |owner: &str, module: &str| {
        let text = std::fs::read_to_string(root.join(owner)).expect("a readable test file");
        text.lines().any(|line| line.trim().trim_start_matches("pub ") == format!("mod {module};"))
    };
    let mut missing = Vec::new();
    for folder in ["cli", "broker", "gateway", "journeys", "support"] {
        // `support` has a list of its own, the other folders are listed in this file.
        let owner = if folder == "support" { "support/mod.rs" } else { "main.rs" };
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten();
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            let module = name.strip_suffix(".rs").filter(|module| *module != "mod");
            if module.is_some_and(|module| !listed(owner, module)) {
                missing.push(format!("tests/{folder}/{name} is not listed in tests/{owner}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
