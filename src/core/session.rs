//! Step 3, session: which answer belongs to which request, without a socket.
//!
//! The gateway weaves requests of its own (counts, settings) between the client's. PostgreSQL
//! answers strictly in order, so a queue of what was asked tells whose every answer is. After an
//! error the server skips to the next Sync, and so does the queue.

use std::collections::VecDeque;

use crate::core::statement::facts::{Effect, Facts};

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Client,
    Gateway,
}

/// One request that the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Parse,
    Bind,
    Describe,
    Execute,
    /// An Execute of a portal that holds no statement, or of none.
    Nothing,
    /// What the client has deferred to the end of its transaction, run at the gateway's word: what it says is
    /// said to the client.
    Deferred,
    Close,
    Sync,
    /// A Sync in a block that goes on, after everything has been answered: nobody waits for the answer to it.
    Ending,
    /// A simple Query of one statement: rows, tag and readiness answer it together.
    Query,
}

/// What an answer means for the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Part of the answer to the front request, which goes on.
    Part(Owner, Step),
    /// The end of the answer to this request.
    Done(Owner, Step),
    /// An error in this request; what followed it up to Sync is skipped.
    Failed(Owner, Step),
    /// Notice, parameter change or notification: belongs to no request. The owner is whose request was running.
    Aside(Owner),
}

/// The server sent something that no request asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the target sent message `{0}` out of turn")]
pub struct OutOfTurn(pub char);

/// Requests sent and not yet answered.
#[derive(Clone, Debug, Default)]
pub struct Pipeline {
    steps: VecDeque<(Step, Owner)>,
    /// Something was asked since the last Sync that was asked.
    is_open: bool,
}

impl Pipeline {
    /// Notes a request that is about to be sent.
    pub fn expect(&mut self, step: Step, owner: Owner) {
        self.is_open = !matches!(step, Step::Sync | Step::Ending | Step::Query);
        self.steps.push_back((step, owner));
    }

    /// Whether anything was asked, answered or not, that no Sync has closed: the server keeps the locks
    /// of what it has only read.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether every request has been answered that anybody waits for.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|(step, _)| *step == Step::Ending)
    }

    /// Whether the answer to a Sync is still to come that nobody waits for.
    pub fn is_ending(&self) -> bool {
        self.steps.front().is_some_and(|(step, _)| *step == Step::Ending)
    }

    /// Whether the client's statement is running: rows may come.
    pub fn is_executing(&self) -> bool {
        matches!(self.steps.front(), Some((Step::Execute | Step::Query, Owner::Client)))
    }

    /// Whether what the client has deferred is running.
    pub fn is_deferred(&self) -> bool {
        matches!(self.steps.front(), Some((Step::Deferred, _)))
    }

    /// Whether what commits by itself was asked to: a Sync stands behind it, or it is a Query.
    pub fn is_closed(&self) -> bool {
        self.steps.iter().any(|(step, _)| matches!(step, Step::Sync | Step::Query))
    }

    /// Whether a simple Query is being answered.
    pub fn is_query(&self) -> bool {
        matches!(self.steps.front(), Some((Step::Query, _)))
    }

    /// Notes a Bind and an Execute of the client's, and what may stand between them.
    pub fn expect_run(&mut self, is_described: bool) {
        let describe = is_described.then_some(Step::Describe);
        for step in [Some(Step::Bind), describe, Some(Step::Execute)].into_iter().flatten() {
            self.expect(step, Owner::Client);
        }
    }

    /// Whether such a Bind and Execute are answered next: then, whether a Describe stands between them.
    pub fn is_run_next(&self) -> Option<bool> {
        let is = |place: usize, step| self.steps.get(place) == Some(&(step, Owner::Client));
        let is_described = is(1, Step::Describe);
        (is(0, Step::Bind) && is(1 + usize::from(is_described), Step::Execute)).then_some(is_described)
    }

    /// Both have been answered, and nothing else. False where something else is answered next.
    pub fn receive_run(&mut self, is_described: bool) -> bool {
        let is_next = self.is_run_next() == Some(is_described);
        if is_next {
            self.steps.drain(..2 + usize::from(is_described));
        }
        is_next
    }

    /// Takes in the type of the next message from the server.
    ///
    /// # Errors
    /// When it answers nothing that was asked: then nothing that follows can be trusted.
    pub fn receive(&mut self, tag: u8) -> Result<Answer, OutOfTurn> {
        let front = self.steps.front().copied();
        let owner = match front {
            None | Some((Step::Deferred, _)) => Owner::Client,
            Some((_, owner)) => owner,
        };
        match (tag, front) {
            (b'N' | b'S' | b'A', _) => Ok(Answer::Aside(owner)),
            (b'E', Some((step, owner))) => {
                // An error at Sync itself (a failed commit) leaves the Sync to be answered.
                while self
                    .steps
                    .front()
                    .is_some_and(|(step, _)| !matches!(step, Step::Sync | Step::Ending | Step::Query))
                {
                    self.steps.pop_front();
                }
                Ok(Answer::Failed(owner, step))
            }
            (b't', Some((Step::Describe, owner))) => Ok(Answer::Part(owner, Step::Describe)),
            (b'D' | b'd' | b'c' | b'G' | b'H' | b'W', Some((Step::Execute, owner))) => {
                Ok(Answer::Part(owner, Step::Execute))
            }
            (b'T' | b'D' | b'd' | b'c' | b'H' | b'C' | b'I', Some((Step::Query, owner))) => {
                Ok(Answer::Part(owner, Step::Query))
            }
            (b'Z', Some((step @ Step::Query, owner)))
            | (b'1', Some((step @ Step::Parse, owner)))
            | (b'2', Some((step @ Step::Bind, owner)))
            | (b'3', Some((step @ Step::Close, owner)))
            | (b'T' | b'n', Some((step @ Step::Describe, owner)))
            | (b'C' | b's', Some((step @ Step::Execute, owner)))
            | (b'I', Some((step @ Step::Nothing, owner)))
            | (b'C', Some((step @ Step::Deferred, owner)))
            | (b'Z', Some((step @ (Step::Sync | Step::Ending), owner))) => {
                self.steps.pop_front();
                Ok(Answer::Done(owner, step))
            }
            _ => Err(OutOfTurn(tag.into())),
        }
    }
}

/// The number of rows that a command tag ends with.
pub fn tag_rows(tag: &str) -> Option<u64> {
    tag.rsplit(' ').next()?.parse().ok()
}

/// What is done to the session's own temporary relations must be what was asked for.
const OF_OWN: [&str; 9] = ["DROP", "TRUNCATE", "VACUUM", "REINDEX", "CLUSTER", "COMMENT", "GRANT", "REVOKE", "LOCK"];

/// Whether a command tag is of the class that was judged. A rule or a text read differently by
/// the server would show here.
pub fn tag_matches(facts: &Facts, tag: &str) -> bool {
    let word = tag.split(' ').next().unwrap_or("");
    match facts.effect {
        Effect::Read => {
            matches!(word, "SELECT" | "SHOW" | "EXPLAIN" | "FETCH" | "MOVE" | "COPY" | "DECLARE" | "PREPARE" | "LOCK")
        }
        Effect::Write => {
            matches!(word, "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY" | "SELECT" | "EXPLAIN" | "PREPARE")
        }
        Effect::Transaction => {
            matches!(word, "BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" | "PREPARE")
        }
        Effect::Session if OF_OWN.contains(&word) => facts.verb.split(' ').next() == Some(word),
        Effect::Session => !matches!(word, "INSERT" | "UPDATE" | "DELETE" | "MERGE"),
        // Judged by text and allowed by name; their tags are as many as their verbs.
        Effect::Ddl | Effect::Utility => true,
        Effect::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(steps: &[(Step, Owner)]) -> Pipeline {
        let mut pipeline = Pipeline::default();
        steps.iter().for_each(|(step, owner)| pipeline.expect(*step, *owner));
        pipeline
    }

    #[test]
    fn answers_find_the_request_they_belong_to() {
        use Owner::{Client, Gateway};
        let mut asked = pipeline(&[
            (Step::Bind, Gateway),
            (Step::Execute, Gateway),
            (Step::Parse, Client),
            (Step::Describe, Client),
            (Step::Execute, Client),
            (Step::Sync, Client),
        ]);
        let expected = [
            (b'2', Answer::Done(Gateway, Step::Bind)),
            (b'D', Answer::Part(Gateway, Step::Execute)),
            (b'N', Answer::Aside(Gateway)),
            (b'C', Answer::Done(Gateway, Step::Execute)),
            (b'1', Answer::Done(Client, Step::Parse)),
            (b't', Answer::Part(Client, Step::Describe)),
            (b'T', Answer::Done(Client, Step::Describe)),
            (b's', Answer::Done(Client, Step::Execute)),
            (b'Z', Answer::Done(Client, Step::Sync)),
        ];
        for (tag, answer) in expected {
            assert_eq!(asked.receive(tag), Ok(answer), "{}", char::from(tag));
        }
        assert!(asked.is_empty());
    }

    #[test]
    fn after_an_error_the_rest_up_to_sync_is_skipped() {
        let mut asked = pipeline(&[
            (Step::Parse, Owner::Client),
            (Step::Bind, Owner::Client),
            (Step::Execute, Owner::Gateway),
            (Step::Sync, Owner::Client),
            (Step::Parse, Owner::Client),
        ]);
        assert_eq!(asked.receive(b'E'), Ok(Answer::Failed(Owner::Client, Step::Parse)));
        assert_eq!(asked.receive(b'Z'), Ok(Answer::Done(Owner::Client, Step::Sync)));
        assert_eq!(asked.receive(b'1'), Ok(Answer::Done(Owner::Client, Step::Parse)));
    }

    #[test]
    fn nobody_waits_for_the_end_of_a_block_that_goes_on() {
        let mut asked = pipeline(&[(Step::Ending, Owner::Gateway)]);
        assert!(asked.is_empty() && asked.is_ending() && !asked.is_open());
        asked.expect(Step::Sync, Owner::Client);
        assert!(!asked.is_empty());
        assert_eq!(asked.receive(b'Z'), Ok(Answer::Done(Owner::Gateway, Step::Ending)));
        assert!(!asked.is_ending());
        assert_eq!(asked.receive(b'Z'), Ok(Answer::Done(Owner::Client, Step::Sync)));
        assert_eq!(asked.receive(b'Z'), Err(OutOfTurn('Z')));
    }

    #[test]
    fn an_answer_nobody_asked_for_is_an_error() {
        assert_eq!(pipeline(&[]).receive(b'D'), Err(OutOfTurn('D')));
        assert_eq!(pipeline(&[(Step::Bind, Owner::Client)]).receive(b'1'), Err(OutOfTurn('1')));
    }

    #[test]
    fn a_tag_of_another_class_is_noticed() {
        assert!(tag_matches(&Facts::plain("SELECT", Effect::Read), "SELECT 3"));
        assert!(tag_matches(&Facts::plain("FETCH", Effect::Read), "MOVE 3"));
        assert!(!tag_matches(&Facts::plain("SELECT", Effect::Read), "DELETE 3"));
        assert!(!tag_matches(&Facts::plain("UPDATE", Effect::Write), "DROP TABLE"));
        assert!(!tag_matches(&Facts::plain("TRUNCATE", Effect::Session), "DROP TABLE"));
        assert!(tag_matches(&Facts::plain("DROP", Effect::Session), "DROP TABLE"));
    }
}
