//! Step 4, check, on the workstation: a quick look before a statement is sent. Advice only: the
//! gateway's verdict is the one that counts.

use crate::core::statement::facts::{Effect, RowAction};
use crate::core::statement::local::{self, Look};

/// What the local look thinks of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Nothing stands out.
    Fine,
    /// The gateway will most likely refuse it; the offset is where to point.
    Doubtful { why: String, offset: Option<usize> },
    /// Not understood here.
    AskServer,
}

impl Advice {
    /// The word in the client's transcript.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Fine => "allow",
            Self::Doubtful { .. } => "warn",
            Self::AskServer => "unknown",
        }
    }
}

/// Looks at a text.
pub fn look(sql: &str) -> Advice {
    let Look::Facts(all) = local::look(sql) else { return Advice::AskServer };
    for facts in &all {
        let unbounded = facts
            .touches
            .iter()
            .find(|touch| matches!(touch.action, RowAction::Update | RowAction::Delete) && !touch.has_predicate);
        if let Some(touch) = unbounded {
            let why =
                format!("{} of every row of {}: there is no WHERE that leaves any out", facts.verb, touch.relation);
            return Advice::Doubtful { why, offset: touch.offset };
        }
    }
    Advice::Fine
}

/// Whether a text writes rows, as far as it shows.
pub fn writes_rows(sql: &str) -> bool {
    let Look::Facts(all) = local::look(sql) else { return false };
    all.iter().any(|facts| facts.effect == Effect::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unbounded_write_is_pointed_at_before_it_is_sent() {
        assert!(matches!(look("delete from orders"), Advice::Doubtful { .. }));
        assert_eq!(look("delete from orders where id = 1"), Advice::Fine);
        assert_eq!(look("selec 1").word(), "unknown");
    }

    #[test]
    fn a_write_of_rows_is_known_by_its_text() {
        for sql in ["delete from t where id < 10", "with gone as (delete from t returning 1) select * from gone"] {
            assert!(writes_rows(sql), "{sql}");
        }
        for sql in ["select 1", "explain delete from t", "drop table t", "selec 1"] {
            assert!(!writes_rows(sql), "{sql}");
        }
    }
}
