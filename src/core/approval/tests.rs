use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::core::grant::Access;
use crate::core::identity::Kind;
use crate::core::statement::facts::RowAction;

pub fn at(seconds: i64) -> Moment {
    Moment::from_seconds(10_000 + seconds)
}

pub fn person(name: &str, groups: &[&str]) -> Identity {
    Identity {
        kind: Kind::Human,
        subject: format!("{name}@example.com"),
        sub: name.to_owned(),
        issuer: "https://idp.example.com".into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        expires: at(100_000),
    }
}

fn impact(rows: u64) -> Impact {
    let (schema, relation) = ("public".to_owned(), "orders".to_owned());
    Impact { schema, relation, action: RowAction::Update, rows, of: Some(20_000), direct: true, others: None }
}

fn denial(approvers: Option<&str>) -> Denial {
    Denial {
        code: "impact_too_large".into(),
        rule: "impact-limit".into(),
        message: "too many".into(),
        hint: None,
        objects: Vec::new(),
        approvers: approvers.map(str::to_owned),
        break_glass: None,
        offset: None,
    }
}

pub fn binding() -> Binding {
    Binding {
        principal: person("ana", &[]).principal(),
        agent: Some("refund-bot".into()),
        target: "prod".into(),
        database: "shop".into(),
        access: Access::Write,
        statement: "update orders set status = 'void'".into(),
        parameters: None,
        settings: BTreeMap::from([("search_path".into(), "public".into())]),
        relations: vec![BoundRelation { name: "orders".into(), oid: 7, definition: "d".into() }],
        reached: BTreeMap::from([("a function".to_owned(), "f1".to_owned())]),
        policy: "p1".into(),
    }
}

fn request_for(approvers: &str) -> Request {
    let trial = Trial { impacts: vec![impact(100)], ..Trial::default() };
    Request::new(Asked {
        id: RequestId::from_random([1; 10]),
        binding: binding(),
        values: Vec::new(),
        requester: person("ana", &["engineers", "dba"]),
        environment: "production".into(),
        reason: None,
        ticket: None,
        session: "s".into(),
        denial: denial(Some(approvers)),
        forecast: Forecast { trial: Some(trial), ..Forecast::default() },
        created: at(0),
        expires: at(3600),
    })
    .expect("a group may lift it")
}

pub fn request() -> Request {
    request_for("dba")
}

pub fn raj() -> Identity {
    person("raj", &["dba"])
}

fn decider(identity: &Identity, seconds: i64) -> Decider<'_> {
    Decider { identity, vouched: at(seconds) }
}

fn approved() -> Request {
    request().approve(&decider(&raj(), 10), None, None, at(10)).expect("approved")
}

#[test]
fn a_member_of_the_group_approves_and_the_cap_is_a_tenth_above_what_was_measured() {
    let next = request().approve(&decider(&raj(), 10), Some("fine"), None, at(10)).expect("approved");
    assert_eq!((next.state, next.cap, next.agreed()), (State::Approved, Some(110), 1));
    assert_eq!(
        next.decided().map(|one| (one.by.as_str(), one.comment.as_deref())),
        Some(("raj@example.com", Some("fine")))
    );
    let lower = request().approve(&decider(&raj(), 10), None, Some(50), at(10)).expect("approved");
    assert_eq!(lower.cap, Some(50));
    assert_eq!(request().approve(&decider(&raj(), 10), None, Some(0), at(10)), Err(Refused::Cap));
}

#[test]
fn nobody_decides_for_themselves_whatever_group_and_issuer_they_come_with() {
    let ana = person("ana", &["dba"]);
    let elsewhere = Identity { issuer: "https://other.example.com".into(), ..ana.clone() };
    let spelt =
        Identity { subject: format!(" {}", ana.subject.to_uppercase()), sub: "other".into(), ..elsewhere.clone() };
    for own in [&ana, &elsewhere, &spelt] {
        assert_eq!(request().approve(&decider(own, 10), None, None, at(10)), Err(Refused::SelfApproval));
        assert_eq!(request().reject(&decider(own, 10), "no", at(10)), Err(Refused::SelfApproval));
    }
}

#[test]
fn only_people_of_the_group_decide_and_their_membership_is_fresh() {
    let bot = Identity { kind: Kind::Agent, ..person("bot", &["dba"]) };
    assert_eq!(request().approve(&decider(&bot, 10), None, None, at(10)), Err(Refused::NotAPerson));
    let eve = person("eve", &["engineers"]);
    assert_eq!(request().approve(&decider(&eve, 10), None, None, at(10)), Err(Refused::NotAReviewer("dba".into())));
    assert!(request().approve(&decider(&raj(), 0), None, None, at(300)).is_ok());
    assert_eq!(request().approve(&decider(&raj(), 0), None, None, at(301)), Err(Refused::Stale));
    assert_eq!(request().approve(&decider(&raj(), 1000), None, None, at(10)), Err(Refused::Stale), "from the future");
}

#[test]
fn two_people_are_two_different_people_and_the_lower_cap_holds() {
    let both = request_for("2 of dba");
    assert_eq!((both.reviewers.needed, both.reviewers.group.as_str()), (2, "dba"));
    let one = both.approve(&decider(&raj(), 10), None, Some(90), at(10)).expect("the first");
    assert_eq!(one.state, State::Pending);
    assert_eq!(one.approve(&decider(&raj(), 11), None, None, at(11)), Err(Refused::Twice));
    let same_name = Identity { sub: "other".into(), ..raj() };
    let spelt = Identity { subject: raj().subject.to_uppercase(), ..same_name.clone() };
    assert_eq!(one.approve(&decider(&same_name, 11), None, None, at(11)), Err(Refused::Twice));
    assert_eq!(one.approve(&decider(&spelt, 11), None, None, at(11)), Err(Refused::Twice));
    let kim = person("kim", &["dba"]);
    let two = one.approve(&decider(&kim, 11), None, Some(500), at(11)).expect("the second");
    assert_eq!((two.state, two.cap), (State::Approved, Some(90)));
    // Who names no number has agreed to the one that was shown, and to no higher one.
    let shown = both.approve(&decider(&raj(), 10), None, None, at(10)).expect("the first");
    let more = shown.approve(&decider(&kim, 11), None, Some(500), at(11)).expect("the second");
    assert_eq!((more.state, more.cap), (State::Approved, Some(110)));
    let no = one.reject(&decider(&kim, 11), "no", at(11)).expect("one no is enough");
    assert_eq!(no.state, State::Rejected);
}

#[test]
fn a_rejection_says_why_and_is_final() {
    assert_eq!(request().reject(&decider(&raj(), 10), "  ", at(10)), Err(Refused::NoComment));
    assert_eq!(request().reject(&decider(&raj(), 10), "a\nb", at(10)), Err(Refused::Comment));
    let no = request().reject(&decider(&raj(), 10), "wrong table", at(10)).expect("rejected");
    assert_eq!(no.state, State::Rejected);
    let kim = person("kim", &["dba"]);
    assert_eq!(no.approve(&decider(&kim, 11), None, None, at(11)), Err(Refused::Closed(State::Rejected)));
    assert_eq!(no.withdraw(&binding().principal), Err(Refused::Closed(State::Rejected)));
}

#[test]
fn questions_and_answers_leave_it_pending() {
    let asked = request().ask(&decider(&raj(), 10), "why all of them?", at(10)).expect("asked");
    let answered = asked.reply(&binding().principal, "test orders", at(11)).expect("answered");
    assert_eq!((answered.state, answered.remarks.len()), (State::Pending, 2));
    assert_eq!(asked.reply("somebody else", "x", at(11)), Err(Refused::NotYours));
}

#[test]
fn it_is_withdrawn_by_its_requester_only() {
    assert_eq!(request().withdraw("https://idp.example.com raj"), Err(Refused::NotYours));
    assert_eq!(request().withdraw(&binding().principal).expect("withdrawn").state, State::Withdrawn);
    assert_eq!(approved().withdraw(&binding().principal).expect("withdrawn").state, State::Withdrawn);
}

#[test]
fn time_ends_what_is_open() {
    assert_eq!(request().expire(at(3599)), None);
    assert_eq!(request().expire(at(3600)).map(|next| next.state), Some(State::Expired));
    assert_eq!(approved().expire(at(3600)).map(|next| next.state), Some(State::Expired));
    assert_eq!(request().approve(&decider(&raj(), 3600), None, None, at(3600)), Err(Refused::TooLate));
    assert_eq!(approved().execute(&binding(), "s", at(3600)), Err(Refused::TooLate));
}

#[test]
fn an_approval_is_used_once_for_exactly_what_it_is_for() {
    assert_eq!(request().execute(&binding(), "s", at(20)), Err(Refused::NotApproved));
    let (spent, lift) = approved().execute(&binding(), "s2", at(20)).expect("used");
    assert_eq!((spent.state, lift.request()), (State::Executed, &approved().id));
    assert_eq!(spent.execute(&binding(), "s2", at(21)), Err(Refused::Closed(State::Executed)));
    let done = spent.finish(Spent::Committed { tag: "UPDATE 100".into() }, at(22)).expect("noted");
    assert!(done.finish(Spent::Unknown, at(23)).is_err(), "the first word counts");
}

#[test]
fn whatever_differs_from_what_was_approved_voids_it() {
    type Change = fn(&mut Binding);
    let changes: [(&str, Change); 12] = [
        ("the person", |b| b.principal.push('x')),
        ("the agent", |b| b.agent = None),
        ("the database", |b| b.target.push('x')),
        ("the database", |b| b.database.push('x')),
        ("the access", |b| b.access = Access::Admin),
        ("the statement", |b| b.statement.push(' ')),
        ("the parameters", |b| b.parameters = Some("AA".into())),
        ("the setting search_path", |b| drop(b.settings.insert("search_path".into(), "evil".into()))),
        ("what orders is", |b| b.relations[0].oid = 8),
        ("a function that it reaches", |b| drop(b.reached.insert("a function".into(), "f2".into()))),
        ("a trigger that it reaches", |b| drop(b.reached.insert("a trigger".into(), "t1".into()))),
        ("the policy", |b| b.policy.push('x')),
    ];
    for (what, change) in changes {
        let mut other = binding();
        change(&mut other);
        assert_ne!(other.digest(), binding().digest(), "{what}");
        assert_eq!(approved().execute(&other, "s", at(20)), Err(Refused::Changed(vec![what.into()])));
    }
    let voided = approved().void(&["the policy".into()], at(20)).expect("voided");
    assert_eq!(voided.state, State::Expired);
}

#[test]
fn a_lift_covers_the_same_people_and_policy_up_to_the_cap() {
    let (_, lift) = approved().execute(&binding(), "s", at(20)).expect("used");
    let same = denial(Some("dba"));
    assert!(lift.covers(&same, "p1") && !lift.covers(&same, "p2"));
    assert!(!lift.covers(&denial(Some("security")), "p1") && !lift.covers(&denial(None), "p1"));
    assert_eq!(lift.covers_impact(&same, "p1", &[impact(110)]), Ok(true));
    assert_eq!(lift.covers_impact(&same, "p1", &[impact(60), impact(51)]), Err(OverCap { rows: 111, cap: 110 }));
    assert_eq!(lift.covers_impact(&denial(None), "p1", &[impact(500)]), Ok(false));
}

#[test]
fn rows_that_nobody_has_counted_are_not_approved() {
    let trial = Trial { skipped: Some("it would lock".into()), ..Trial::default() };
    let unseen = Request { forecast: Forecast { trial: Some(trial), ..Forecast::default() }, cap: None, ..request() };
    let (_, lift) = unseen
        .approve(&decider(&raj(), 10), None, None, at(10))
        .and_then(|next| next.execute(&binding(), "s", at(11)))
        .expect("used");
    assert_eq!(lift.covers_impact(&denial(Some("dba")), "p1", &[impact(1)]), Ok(false));
    assert!(lift.covers(&denial(Some("dba")), "p1"), "the text was approved");
}

#[test]
fn reviewers_are_named_by_group_and_number() {
    let parse = |text| Reviewers::parse(text).map(|found| (found.needed, found.group));
    assert_eq!(parse("dba"), Some((1, "dba".into())));
    assert_eq!(parse("2 of data owners"), Some((2, "data owners".into())));
    for wrong in ["", "0 of dba", "x of dba", "9 of dba", "2 of "] {
        assert_eq!(parse(wrong), None, "{wrong}");
    }
}

#[test]
fn ids_from_outside_are_checked() {
    let id = RequestId::from_random([7; 10]);
    assert_eq!(RequestId::parse(id.as_str()), Some(id));
    assert_eq!(RequestId::parse("apr_../../etc/passwd"), None);
    assert_eq!(Duration::from_secs(300), super::state::FRESH);
}
