//! Step 4, check: a look at a statement before it is sent. Comfort for the person who types:
//! the gateway's verdict is the one that counts, and nothing is kept from being sent here.

use crate::client::connect::Advice;
use crate::core::grant::Access;
use crate::core::statement::facts::{Effect, Facts, RowAction, Touch};
use crate::core::statement::local::{self, Look};

/// Something worth saying before a statement is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable word for it.
    pub code: &'static str,
    pub message: String,
    /// Where in the statement, in characters from 1.
    pub position: u32,
}

/// What the local look says of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    pub effect: Effect,
    pub advice: Advice,
    pub findings: Vec<Finding>,
    /// Where the local parser stopped, and why; only the server can tell whether that is an error.
    pub stumbled: Option<Finding>,
}

impl Outlook {
    /// One line for the person, as in `ok read`.
    pub fn line(&self) -> String {
        match (self.findings.first(), &self.stumbled) {
            (Some(finding), _) => format!("{}: {}", self.effect.word(), finding.message),
            (None, Some(stumble)) => format!("not understood here ({}): the gateway decides", stumble.message),
            (None, None) if self.effect == Effect::Unknown => "not understood here: the gateway decides".into(),
            (None, None) => format!("nothing to remark: {}", self.effect.word()),
        }
    }
}

/// Looks at one statement for a session of this access.
pub fn look(sql: &str, access: Access) -> Outlook {
    match local::look(sql) {
        Look::Facts(all) => judge(sql, &all, access),
        Look::Unknown { why, at } => {
            let position = at.map_or(1, |(line, column)| position(sql, line, column));
            let stumbled = Finding { code: "not_understood", message: why, position };
            Outlook { effect: Effect::Unknown, advice: Advice::Unknown, findings: Vec::new(), stumbled: Some(stumbled) }
        }
    }
}

fn judge(sql: &str, all: &[Facts], access: Access) -> Outlook {
    let effect = all.iter().map(|facts| facts.effect).max_by_key(|effect| weight(*effect)).unwrap_or(Effect::Unknown);
    let mut findings = Vec::new();
    for facts in all {
        if access == Access::Read && (facts.effect == Effect::Write || facts.effect == Effect::Ddl) {
            findings.push(Finding {
                code: "read_session",
                message: format!("{} in a read session needs write access", facts.verb),
                position: characters_before(sql, facts.start) + 1,
            });
        }
        // TRUNCATE has no WHERE to forget.
        let may_be_bounded = facts.effect == Effect::Write;
        findings.extend(facts.touches.iter().filter(|_| may_be_bounded).filter_map(|touch| unbounded(sql, facts, touch)));
    }
    let advice = match (findings.is_empty(), effect) {
        (false, _) => Advice::Warn,
        (true, Effect::Unknown) => Advice::Unknown,
        (true, _) => Advice::Allow,
    };
    Outlook { effect, advice, findings, stumbled: None }
}

/// An UPDATE or DELETE that no WHERE bounds.
fn unbounded(sql: &str, facts: &Facts, touch: &Touch) -> Option<Finding> {
    let verb = match touch.action {
        RowAction::Update => "UPDATE",
        RowAction::Delete => "DELETE",
        RowAction::Read | RowAction::Insert => return None,
    };
    (!touch.has_predicate).then(|| Finding {
        code: "write_without_predicate",
        message: format!("this {verb} has no WHERE that leaves rows out: it concerns every row of {}", touch.relation),
        position: characters_before(sql, touch.offset.unwrap_or(facts.start)) + 1,
    })
}

/// Of several statements the one with the larger effect names the whole.
const fn weight(effect: Effect) -> u8 {
    match effect {
        Effect::Transaction => 0,
        Effect::Session => 1,
        Effect::Read => 2,
        Effect::Write => 3,
        Effect::Utility => 4,
        Effect::Ddl => 5,
        Effect::Unknown => 6,
    }
}

fn characters_before(sql: &str, offset: usize) -> u32 {
    let before = sql.get(..offset).map_or(0, |before| before.chars().count());
    u32::try_from(before).unwrap_or(u32::MAX - 1)
}

/// A line and column, from 1, as one position in characters.
fn position(sql: &str, line: usize, column: usize) -> u32 {
    let before: usize = sql.split_inclusive('\n').take(line.saturating_sub(1)).map(|line| line.chars().count()).sum();
    u32::try_from(before + column).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(sql: &str, access: Access) -> Vec<(&'static str, u32)> {
        look(sql, access).findings.iter().map(|finding| (finding.code, finding.position)).collect()
    }

    #[test]
    fn unbounded_writes_and_writes_in_read_sessions_are_remarked() {
        assert_eq!(codes("delete from orders;", Access::Write), [("write_without_predicate", 13)]);
        assert_eq!(codes("delete from orders where id = 1;", Access::Write), []);
        assert_eq!(codes("update ä set x = 1 where true", Access::Write), [("write_without_predicate", 8)]);
        assert_eq!(codes("\n insert into t values (1)", Access::Read), [("read_session", 3)]);
        assert_eq!(codes("select 1", Access::Read), []);
        assert_eq!(codes("truncate t", Access::Admin), []);
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_gateway() {
        let outlook = look("select 1;\nselec 2;", Access::Read);
        assert_eq!(outlook.advice, Advice::Unknown);
        assert_eq!(outlook.stumbled.map(|stumble| stumble.position), Some(11));
        assert_eq!(look("do $$ begin end $$", Access::Read).findings, []);
    }
}
