//! The policy packs that ship in the binary. They can be printed, copied and edited;
//! a policy folder never includes one silently.

use super::file::Source;

/// Names of the built-in packs.
pub const NAMES: [&str; 2] = ["production", "agents"];

/// The files of a built-in pack, exactly as they would lie in a policy folder.
pub fn sources(name: &str) -> Option<Vec<Source>> {
    let production = || Source::new("production.cedar", include_str!("packs/production/production.cedar"));
    let classification = || Source::new("classification.toml", include_str!("packs/production/classification.toml"));
    match name {
        "production" => Some(vec![
            production(),
            classification(),
            Source::new("production.test.toml", include_str!("packs/production/production.test.toml")),
        ]),
        // What people may do stays as it is: the tests of `production` hold here too.
        "agents" => Some(vec![
            production(),
            Source::new("agents.cedar", include_str!("packs/agents/agents.cedar")),
            classification(),
            Source::new("production.test.toml", include_str!("packs/production/production.test.toml")),
            Source::new("agents.test.toml", include_str!("packs/agents/agents.test.toml")),
        ]),
        _ => None,
    }
}

/// The rules of a built-in pack without its classification and its tests, which are about both, for a
/// target that brings its own.
pub fn rules(name: &str) -> Option<Vec<Source>> {
    let rules = sources(name)?.into_iter().filter(|source| source.name.ends_with(".cedar"));
    Some(rules.collect())
}

/// Whether a file is one of a built-in pack, unchanged: what it leaves unused is nobody's mistake.
pub fn is_built_in(source: &Source) -> bool {
    NAMES.iter().filter_map(|name| sources(name)).flatten().any(|built_in| built_in == *source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::policy::Policy;

    #[test]
    fn every_pack_that_is_named_ships_and_loads() {
        for name in NAMES {
            assert!(Policy::pack(name).is_some(), "{name}");
        }
        assert!(sources("no such pack").is_none());
        let rules = rules("production").expect("rules");
        assert!(rules.iter().all(is_built_in));
        assert!(!is_built_in(&Source::new("production.cedar", "")));
    }
}
