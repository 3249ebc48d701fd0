//! Verdicts both ways: what a policy lets through, and what it stops.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::core::identity::Kind;
use crate::core::policy::{Impact, Verdict};
use crate::core::scope::catalog::{Catalog, Column, Relation, RelationKind};
use crate::core::scope::{RelationName, Scope, compile};
use crate::core::statement::facts::{CopyDirection, Effect, Facts, Name, RowAction, Touch, TransactionVerb};
use crate::core::time::Moment;

fn identity(groups: &[&str]) -> Identity {
    Identity {
        kind: Kind::Human,
        subject: "ana@acme.io".into(),
        sub: "1".into(),
        issuer: "https://id.acme.io".into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        expires: Moment::from_seconds(0),
    }
}

fn subject(identity: &Identity, access: Access) -> Subject<'_> {
    Subject {
        identity,
        target: "prod",
        environment: "production",
        database: "shop",
        access,
        agent: None,
        reason: None,
        ticket: None,
    }
}

fn catalog() -> Catalog {
    let column = |name: &str, number| Column {
        name: name.into(),
        number,
        type_name: "text".into(),
        type_oid: 25,
        not_null: false,
        has_default: false,
        is_generated: false,
        is_computed: false,
        generated_from: Vec::new(),
    };
    let relation = |oid, name: &str| Relation {
        oid,
        name: RelationName::new("public", name),
        kind: RelationKind::Table,
        columns: vec![column("id", 1), column("email", 2)],
        parents: Vec::new(),
        depends_on: Vec::new(),
        has_row_security: false,
        has_user_policies: false,
        definition: None,
        estimated_rows: 10,
        sequences: Vec::new(),
        unique_keys: Vec::new(),
        is_inert: false,
        constraints: Vec::new(),
    };
    let relations: BTreeMap<_, _> = [relation(1, "customers"), relation(2, "orders")]
        .map(|relation| (relation.name.clone(), relation))
        .into_iter()
        .collect();
    let definer_functions = BTreeSet::from([RelationName::new("public", "lookup_email")]);
    Catalog { cluster: "7".into(), database: "shop".into(), relations, definer_functions, ..Catalog::default() }
}

/// The verdict in one word, with the code where there is one.
fn judged(policy: &Policy, groups: &[&str], access: Access, facts: Facts) -> String {
    let (identity, catalog) = (identity(groups), catalog());
    let subject = subject(&identity, access);
    let scope: Scope = compile::compile(policy, &subject, &catalog);
    match policy.judge(&subject, facts, &scope, &catalog, &["public".to_owned()]) {
        Verdict::Allow(_) => "allow".to_owned(),
        Verdict::NeedApproval(denial) => format!("ask {} {}", denial.approvers.unwrap_or_default(), denial.code),
        Verdict::Deny(denial) => format!("deny {}", denial.code),
    }
}

fn touching(verb: &str, effect: Effect, action: RowAction, relation: &str, has_predicate: bool) -> Facts {
    let touch = Touch { relation: Name::new(None, relation), action, offset: Some(7), has_predicate };
    Facts { touches: vec![touch], ..Facts::plain(verb, effect) }
}

fn calling(schema: Option<&str>, name: &str) -> Facts {
    Facts { functions: vec![Name::new(schema, name)], ..Facts::plain("SELECT", Effect::Read) }
}

fn setting(text: &str) -> Facts {
    Facts { settings: vec![text.to_owned()], ..Facts::plain("SET", Effect::Session) }
}

#[test]
fn rules_about_functions_see_calls_in_every_spelling() {
    let rules = "@id(\"all\") permit(principal, action, resource);
        @id(\"no\") @code(\"no_purge\") forbid(principal, action == Action::\"execute\", resource)
        when { context has statement && context.statement.functions.contains(\"purge\") };";
    let policy = Policy::parse(&[crate::core::policy::file::Source::new("all.cedar", rules)]).expect("rules");
    let (identity, mut catalog) = (identity(&[]), catalog());
    catalog.known_functions = ["purge", "email", "dblink_connect"].map(str::to_owned).into();
    let subject = subject(&identity, Access::Write);
    let scope: Scope = compile::compile(&policy, &subject, &catalog);
    let code = |sql: &str| {
        let facts = crate::core::statement::grammar::parse(sql).expect(sql).remove(0).facts;
        match policy.judge(&subject, facts, &scope, &catalog, &["public".to_owned()]) {
            Verdict::Allow(cleared) => format!("{:?}", cleared.facts().functions.len()),
            Verdict::NeedApproval(denial) | Verdict::Deny(denial) => denial.code,
        }
    };
    assert_eq!(code("select dblink_connect('x')"), "function_refused");
    assert_eq!(code("select o.dblink_connect from orders o"), "function_refused");
    for sql in ["select purge(o) from orders o", "select o.purge from orders o", "select (o).purge from orders o"] {
        assert_eq!(code(sql), "no_purge", "{sql}");
    }
    // A type to which a cast with its owner's rights leads: no function is called so.
    let withheld = [(RelationName::new("public", "secrets"), "kept".to_owned())].into();
    let hiding = Scope { withheld, ..scope.clone() };
    let facts = crate::core::statement::grammar::parse("select (3).lookup_email").expect("parses").remove(0).facts;
    let verdict = policy.judge(&subject, facts, &hiding, &catalog, &["public".to_owned()]);
    assert!(matches!(verdict, Verdict::Deny(denial) if denial.code == "definer_function"));
    for sql in ["select o.dblink_name, (o).pg_file_read_date from orders o", "select (o.x).lo_created from orders o"] {
        assert_eq!(code(sql), "0", "{sql}");
    }
    // A column is one, whatever functions there are.
    assert_eq!(code("select o.email, o.id from orders o"), "0");
}

#[test]
fn production_lets_through_and_stops() {
    let policy = Policy::pack("production").expect("pack");
    let read = |name: &str| touching("SELECT", Effect::Read, RowAction::Read, name, true);
    let write = |action, bound| touching("X", Effect::Write, action, "orders", bound);
    let engineer = ["engineers"];
    let cases: Vec<(&[&str], Access, Facts, &str)> = vec![
        (&engineer, Access::Read, read("customers"), "allow"),
        (&engineer, Access::Read, read("pg_class"), "allow"),
        (&engineer, Access::Read, read("no_such_table"), "allow"),
        (&[], Access::Read, read("customers"), "deny not_permitted"),
        (&engineer, Access::Write, write(RowAction::Update, true), "allow"),
        (&engineer, Access::Write, write(RowAction::Delete, true), "allow"),
        (&engineer, Access::Write, write(RowAction::Insert, true), "allow"),
        (&engineer, Access::Read, write(RowAction::Insert, true), "deny not_permitted"),
        (&engineer, Access::Write, write(RowAction::Update, false), "deny write_without_predicate"),
        (&engineer, Access::Write, write(RowAction::Delete, false), "deny write_without_predicate"),
        (&engineer, Access::Write, Facts::plain("DROP", Effect::Ddl), "deny ddl_needs_admin"),
        (&engineer, Access::Admin, Facts::plain("DROP", Effect::Ddl), "deny ddl_needs_approval"),
        (&["dba"], Access::Admin, Facts::plain("DROP", Effect::Ddl), "ask dba ddl_needs_approval"),
        (
            &["dba"],
            Access::Admin,
            touching("TRUNCATE", Effect::Ddl, RowAction::Delete, "orders", false),
            "ask dba ddl_needs_approval",
        ),
        (&["dba"], Access::Admin, Facts::plain("VACUUM FULL", Effect::Utility), "ask dba maintenance_needs_approval"),
        (&engineer, Access::Write, Facts::plain("LOCK", Effect::Utility), "deny maintenance_refused"),
        (&engineer, Access::Read, Facts::plain("BEGIN", Effect::Transaction), "allow"),
        (&engineer, Access::Read, Facts::plain("LISTEN", Effect::Session), "allow"),
        (&engineer, Access::Read, Facts::plain("SELECT", Effect::Read), "allow"),
    ];
    for (groups, access, facts, expected) in cases {
        assert_eq!(judged(&policy, groups, access, facts.clone()), expected, "{groups:?} {access:?} {facts:?}");
    }
}

#[test]
fn walls_stand_whatever_the_policy_says() {
    let everything = "@id(\"all\")\npermit (principal, action, resource);\n\
                      @id(\"m\") @mask(\"null\")\nforbid (principal, action == Action::\"reveal\", resource)\n\
                      when { resource.name == \"email\" };";
    let vouched = Source::new("classification.toml", "[[channel]]\nmatch = \"jobs_*\"");
    let policy = Policy::parse(&[Source::new("all.cedar", everything), vouched]).expect("valid");
    let two_phase = Facts {
        transaction: Some(TransactionVerb::TwoPhase),
        ..Facts::plain("PREPARE TRANSACTION", Effect::Transaction)
    };
    let server_copy = Facts { copy: Some(CopyDirection::Server), ..Facts::plain("COPY", Effect::Utility) };
    let cases = vec![
        (Facts::plain("FROB", Effect::Unknown), "deny unknown_statement"),
        (two_phase, "deny two_phase_refused"),
        (server_copy, "deny server_copy_refused"),
        (Facts::plain("ALTER ROLE SET", Effect::Ddl), "deny role_change_refused"),
        (Facts::plain("ALTER SYSTEM", Effect::Ddl), "deny role_change_refused"),
        (Facts::plain("ALTER DEFAULT PRIVILEGES", Effect::Ddl), "deny role_change_refused"),
        (Facts::plain("ALTER TABLE", Effect::Ddl), "allow"),
        (setting("role=x"), "deny setting_refused"),
        (setting("role=none"), "deny setting_refused"),
        (setting("role="), "deny setting_refused"),
        (setting("role=default"), "deny setting_refused"),
        (setting("session_authorization=x"), "deny setting_refused"),
        (setting("standard_conforming_strings=off"), "deny setting_refused"),
        (setting("standard_conforming_strings=on"), "allow"),
        (setting("client_encoding=sjis"), "deny setting_refused"),
        (setting("client_encoding=utf8"), "allow"),
        // With it off PostgreSQL refuses what a row policy would filter: it shows nothing more.
        (setting("row_security=off"), "allow"),
        (setting("=x"), "deny setting_refused"),
        (setting("search_path=public"), "allow"),
        (setting("all"), "allow"),
        (calling(None, "pg_terminate_backend"), "deny function_refused"),
        (calling(Some("pg_catalog"), "pg_ls_dir"), "deny function_refused"),
        (calling(Some("app"), "pg_ls_dir"), "allow"),
        (calling(Some("ext"), "dblink_exec"), "deny function_refused"),
        (calling(None, "lo_from_bytea"), "deny function_refused"),
        (calling(None, "pg_sleep"), "allow"),
        (calling(None, "lookup_email"), "deny definer_function"),
        (calling(Some("public"), "lookup_email"), "deny definer_function"),
        (calling(Some("other"), "lookup_email"), "allow"),
        (calling(None, "query_to_xml"), "deny definer_function"),
        (Facts::plain("DO", Effect::Utility), "deny definer_function"),
        (Facts { channel: Some("rows".into()), ..Facts::plain("LISTEN", Effect::Session) }, "deny channel_refused"),
        (Facts { channel: Some("jobs_done".into()), ..Facts::plain("LISTEN", Effect::Session) }, "allow"),
    ];
    for (facts, expected) in cases {
        assert_eq!(judged(&policy, &[], Access::Admin, facts.clone()), expected, "{facts:?}");
    }
}

#[test]
fn pinned_settings_go_back_and_who_may_write_may_say_so() {
    let everything = "@id(\"all\")\npermit (principal, action, resource);";
    let policy = Policy::parse(&[Source::new("all.cedar", everything)]).expect("valid");
    let cases = [
        ("role", "allow", "allow"),
        ("session_authorization", "allow", "allow"),
        ("default_transaction_read_only", "allow", "allow"),
        ("default_transaction_read_only=off", "deny setting_refused", "allow"),
        ("default_transaction_read_only=on", "allow", "allow"),
        ("default_transaction_read_only=", "deny setting_refused", "deny setting_refused"),
        ("transaction_read_only", "deny setting_refused", "allow"),
        ("transaction_read_only=0", "deny setting_refused", "allow"),
        ("transaction_read_only=1", "allow", "allow"),
        ("session_replication_role", "deny setting_refused", "deny setting_refused"),
        ("standard_conforming_strings", "deny setting_refused", "deny setting_refused"),
    ];
    for (text, reading, writing) in cases {
        for (access, expected) in [(Access::Read, reading), (Access::Write, writing), (Access::Admin, writing)] {
            assert_eq!(judged(&policy, &[], access, setting(text)), expected, "{text} {access:?}");
        }
    }
}

#[test]
fn settings_by_which_one_statement_takes_all_memory_are_bounded() {
    let policy = Policy::parse(&[Source::new("all.cedar", "@id(\"all\")\npermit (principal, action, resource);")]);
    let policy = policy.expect("valid");
    for text in [
        "geqo=off",
        "geqo=",
        "geqo_threshold=100",
        "geqo_pool_size=1000000000",
        "join_collapse_limit=13",
        "from_collapse_limit=0x64",
        "from_collapse_limit=",
        "work_mem=1tb",
        "work_mem= 1.5 gb ",
        "work_mem=1e9",
        "work_mem=1048577",
        "work_mem=inf",
        "work_mem=1xb",
        "sort_mem=1tb",
        "temp_buffers=131073",
        "hash_mem_multiplier=1000",
        "hash_mem_multiplier=nan",
        "maintenance_work_mem=5gb",
        "vacuum_mem=5gb",
    ] {
        assert_eq!(judged(&policy, &[], Access::Admin, setting(text)), "deny setting_refused", "{text}");
    }
    for text in [
        "geqo=on",
        "geqo",
        "geqo_threshold=8",
        "join_collapse_limit=1",
        "from_collapse_limit=12",
        "work_mem",
        "work_mem=64",
        "work_mem=256mb",
        "work_mem= 1 gb",
        "work_mem=1e5",
        "work_mem=100000b",
        "hash_mem_multiplier=2.0",
        "temp_buffers=131072",
        "maintenance_work_mem=2gb",
        "enable_hashjoin=off",
    ] {
        assert_eq!(judged(&policy, &[], Access::Read, setting(text)), "allow", "{text}");
    }
}

#[test]
fn a_definer_function_that_is_vouched_for_may_be_called() {
    let everything = "@id(\"all\")\npermit (principal, action, resource);\n\
                      @id(\"m\") @mask(\"null\")\nforbid (principal, action == Action::\"reveal\", resource)\n\
                      when { resource.name == \"email\" };";
    let vouched = Source::new("classification.toml", "[[function]]\nmatch = \"public.lookup_email\"");
    let policy = Policy::parse(&[Source::new("all.cedar", everything), vouched]).expect("valid");
    for facts in [calling(None, "lookup_email"), Facts::plain("DO", Effect::Utility)] {
        assert_eq!(judged(&policy, &[], Access::Admin, facts.clone()), "allow", "{facts:?}");
    }
}

#[test]
fn definer_functions_are_harmless_where_nothing_is_hidden() {
    let policy = Policy::parse(&[Source::new("all.cedar", "@id(\"all\")\npermit (principal, action, resource);")]);
    let policy = policy.expect("valid");
    assert_eq!(judged(&policy, &[], Access::Read, calling(None, "lookup_email")), "allow");
}

fn impact(relation: &str, action: RowAction, rows: u64, of: Option<u64>, direct: bool) -> Impact {
    Impact { schema: "public".into(), relation: relation.into(), action, rows, of, direct, others: None }
}

#[test]
fn a_write_is_judged_by_what_it_did_cascades_included() {
    let policy = Policy::pack("production").expect("pack");
    let (identity, catalog) = (identity(&["engineers"]), catalog());
    let subject = subject(&identity, Access::Write);
    let facts = Facts::plain("DELETE", Effect::Write);
    let judge = |impacts: &[Impact]| policy.judge_impact(&subject, impacts, Some(&facts), &catalog);
    assert_eq!(judge(&[impact("orders", RowAction::Delete, 100, Some(1000), true)]), Ok(()));
    assert_eq!(judge(&[]), Ok(()));
    let temporary = Impact { schema: "pg_temp_3".into(), ..impact("t", RowAction::Insert, 5000, None, true) };
    assert_eq!(judge(&[temporary]), Ok(()));

    let big = [
        impact("orders", RowAction::Delete, 41_230, None, false),
        impact("customers", RowAction::Delete, 10_000, Some(20_000), true),
    ];
    let Err(ImpactRefusal::NeedApproval(denial)) = judge(&big) else { panic!("not stopped") };
    assert_eq!(
        denial.message,
        "DELETE would remove 10,000 of 20,000 rows (50 %) of public.customers and 41,230 rows of public.orders by \
         cascade: more than 100 rows in one transaction"
    );
    assert_eq!((denial.code.as_str(), denial.rule.as_str()), ("impact_too_large", "impact-limit"));
    assert_eq!(denial.approvers.as_deref(), Some("dba"));
    assert_eq!(denial.objects, ["public.orders", "public.customers"]);
    // What the session had put there itself is no share of what others have, whatever the size.
    let share = |rows, others, of| judge(&[Impact { others, ..impact("orders", RowAction::Delete, rows, of, true) }]);
    assert_eq!(share(30, Some(0), None), Ok(()));
    assert_eq!(share(30, Some(60), Some(60)), Ok(()));
    // Of those that are gone all of the others' may be among them.
    assert!(matches!(share(41, Some(41), Some(131)), Err(ImpactRefusal::NeedApproval(_))));
    assert!(matches!(share(50, None, Some(60)), Err(ImpactRefusal::NeedApproval(_))));
    assert!(matches!(share(50, None, None), Err(ImpactRefusal::NeedApproval(_))));
    assert!(matches!(share(101, Some(0), Some(1000)), Err(ImpactRefusal::NeedApproval(_))));
    // More than half is more than half, however little more.
    assert_eq!(share(60, None, Some(120)), Ok(()));
    assert!(matches!(share(61, None, Some(120)), Err(ImpactRefusal::NeedApproval(_))));
    // Rows that are updated and rows that are deleted are others.
    let both = |updated, deleted, others, of| {
        let deleted = Impact { others, ..impact("orders", RowAction::Delete, deleted, of, true) };
        judge(&[impact("orders", RowAction::Update, updated, of, true), deleted])
    };
    assert_eq!(both(10, 10, None, Some(40)), Ok(()));
    assert_eq!(both(20, 30, Some(0), Some(40)), Ok(()));
    for refused in [both(20, 20, None, Some(40)), both(20, 20, Some(40), Some(140)), both(8, 8, None, Some(16))] {
        assert!(matches!(refused, Err(ImpactRefusal::NeedApproval(denial)) if denial.rule == "impact-share"));
    }
    // A cascade alone is enough.
    let cascade = [
        impact("customers", RowAction::Delete, 1, Some(20_000), true),
        impact("orders", RowAction::Delete, 101, None, false),
    ];
    assert!(matches!(judge(&cascade), Err(ImpactRefusal::NeedApproval(_))));
}

#[test]
fn an_approval_helps_only_where_a_permit_stands_behind_it_and_one_group_can_give_it() {
    let ask = |id: &str, group: &str| {
        format!("@id(\"{id}\") @approval(\"{group}\")\nforbid (principal, action == Action::\"read\", resource);\n")
    };
    let permit = "@id(\"p\")\npermit (principal, action, resource);\n";
    let cases = [
        (format!("{permit}{}", ask("a", "dba")), "ask dba a"),
        (format!("{permit}{}{}", ask("a", "dba"), ask("b", "dba")), "ask dba a"),
        (format!("{permit}{}{}", ask("a", "dba"), ask("b", "legal")), "deny a"),
        (format!("{permit}{}@id(\"z\")\nforbid (principal, action, resource);", ask("a", "dba")), "deny z"),
        (
            format!("{}@id(\"q\")\npermit (principal, action == Action::\"connect\", resource);", ask("a", "dba")),
            "deny a",
        ),
    ];
    for (text, expected) in cases {
        let policy = Policy::parse(&[Source::new("x.cedar", &text)]).expect("valid");
        let facts = touching("SELECT", Effect::Read, RowAction::Read, "orders", true);
        assert_eq!(judged(&policy, &[], Access::Read, facts), expected, "{text}");
    }
}

#[test]
fn access_is_offered_as_far_as_rules_permit() {
    let policy = Policy::pack("production").expect("pack");
    let offered = |groups: &[&str]| policy.access_offered(&identity(groups), "prod", "production", "shop");
    assert_eq!(offered(&["engineers"]), [Access::Read, Access::Write]);
    assert_eq!(offered(&["dba"]), [Access::Read, Access::Write, Access::Admin]);
    assert!(offered(&["interns"]).is_empty());
    let identity = identity(&["interns"]);
    let denial = policy.may_connect(&subject(&identity, Access::Read)).expect_err("no rule");
    assert_eq!((denial.code.as_str(), denial.rule.as_str()), ("not_permitted", DEFAULT_DENY));
}

#[test]
fn whoever_may_with_other_access_is_told_so() {
    let policy = Policy::pack("production").expect("pack");
    let hint = |groups: &[&str], has_predicate: bool| {
        let (identity, catalog) = (identity(groups), catalog());
        let reading = subject(&identity, Access::Read);
        let scope = compile::compile(&policy, &reading, &catalog);
        let facts = touching("UPDATE", Effect::Write, RowAction::Update, "orders", has_predicate);
        match policy.judge(&reading, facts, &scope, &catalog, &["public".to_owned()]) {
            Verdict::Deny(denial) => (denial.rule, denial.hint),
            other => panic!("{other:?}"),
        }
    };
    let next = "a session with write access may: --access write".to_owned();
    assert_eq!(hint(&["engineers"], true), (DEFAULT_DENY.to_owned(), Some(next)));
    // Not of what would be refused again, nor to whom no rule permits writing.
    assert_eq!(hint(&["engineers"], false).1.filter(|hint| hint.contains("--access")), None);
    assert_eq!(hint(&["interns"], true), (DEFAULT_DENY.to_owned(), None));
    let at_the_door = |groups: &[&str]| {
        let identity = identity(groups);
        policy.may_connect(&subject(&identity, Access::Admin)).expect_err("no rule").hint
    };
    assert_eq!(at_the_door(&["engineers"]).as_deref(), Some("--access may be: read, write"));
    assert_eq!(at_the_door(&["interns"]), None);
}

#[test]
fn a_rule_that_cannot_be_evaluated_denies() {
    // Cedar skips such a rule; a skipped forbid would allow.
    let text = "@id(\"p\")\npermit (principal, action, resource);\n\
                @id(\"f\")\nforbid (principal, action == Action::\"delete\", resource)\n\
                when { context has impact && context.impact.rows * 9223372036854775807 > 5 };";
    let policy = Policy::parse(&[Source::new("x.cedar", text)]).expect("valid");
    let (identity, catalog) = (identity(&[]), catalog());
    let impacts = [impact("orders", RowAction::Delete, 2, None, true)];
    let refused = policy.judge_impact(&subject(&identity, Access::Write), &impacts, None, &catalog);
    assert!(matches!(refused, Err(ImpactRefusal::Deny(denial)) if denial.code == "policy_error"));
}
