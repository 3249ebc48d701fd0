//! A native client waits while people decide: held on the wire, with nothing held in the target.

use tokio::sync::watch;
use tokio::time::Instant;

use super::session::{End, Session};
use crate::core::approval::{Decision, Request, RequestId, State};
use crate::core::wire::backend::{self, ErrorFields};
use crate::server::approvals::ApprovalError;
use crate::server::http::refusal::chain;
use crate::sys::clock;

/// What a client waits for. Made before the client hears of it: a cancel may come at once.
pub struct Waiting {
    pub id: RequestId,
    pub cancelled: watch::Receiver<u64>,
}

/// How a wait ended.
enum Waited {
    Decided(Box<Request>),
    /// Nobody has decided in the time that a client may be held.
    TimeIsUp,
    /// The client does not want it any more.
    Cancelled,
}

impl Session {
    /// Waits for an answer, then runs the statement or says why not.
    pub(super) async fn wait_for_people(&mut self, waiting: Waiting, sql: &str) -> Result<(), End> {
        let Waiting { id, mut cancelled } = waiting;
        let id = &id;
        let error = match self.waited(id, &mut cancelled).await? {
            Waited::Decided(request) if request.state == State::Approved => {
                // It may be another one by now.
                self.policy = self.grant.policy();
                return Box::pin(self.simple(sql)).await;
            }
            Waited::Decided(request) => self.not_approved(&request),
            Waited::TimeIsUp => match self.people.approvals.request(id).await {
                Ok(request) => self.pending(&request, &[]),
                Err(error) => unreadable(&error),
            },
            Waited::Cancelled => {
                let id_word = id.as_str();
                let became = match self.people.approvals.withdraw(id, self.people.principal()).await {
                    Ok(_) => format!("{id_word} is withdrawn"),
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "a request could not be withdrawn");
                        format!("{id_word} could not be withdrawn: dbgate request show {id_word}")
                    }
                };
                ErrorFields::error("57014", format!("canceled while waiting for approval; {became}"))
            }
        };
        self.client.error(&error);
        backend::write_ready(self.status, self.client.out());
        Ok(())
    }

    async fn waited(&mut self, id: &RequestId, cancelled: &mut watch::Receiver<u64>) -> Result<Waited, End> {
        let deadline = Instant::now() + self.people.hold.unwrap_or_default();
        let mut steps = self.people.approvals.steps();
        loop {
            steps.borrow_and_update();
            match self.people.approvals.request(id).await {
                Ok(request) if request.state != State::Pending => return Ok(Waited::Decided(Box::new(request))),
                Ok(_) => {}
                Err(error) => tracing::warn!(error = %chain(&error), "a request cannot be read"),
            }
            self.flush_client().await?;
            let left = self.grant.grant.expires.since(clock::now());
            tokio::select! {
                biased;
                reason = self.registered.handle().kill.told(true) => return Err(End::Killed(reason)),
                () = tokio::time::sleep(left) => return Err(End::Expired),
                Ok(()) = cancelled.changed() => return Ok(Waited::Cancelled),
                _ = steps.changed() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Waited::TimeIsUp),
                // The request stays: somebody may still approve it, and it can be resumed.
                () = self.client.gone() => return Err(End::ClientGone),
                more = self.target.exchange() => {
                    more.map_err(|_| End::TargetLost)?;
                    self.unasked().await?;
                }
            }
        }
    }

    fn not_approved(&self, request: &Request) -> ErrorFields {
        let id = request.id.as_str();
        let (sqlstate, message) = match request.state {
            State::Rejected => ("ZG002", format!("{id} was rejected by {}", words(request.decided()))),
            State::Withdrawn => ("ZG002", format!("{id} was withdrawn")),
            State::Executed => ("ZG004", format!("{id} was approved and used in another session")),
            State::Expired if let Some(why) = request.why_void() => ("ZG004", format!("{id} is {why}")),
            State::Expired | State::Pending | State::Approved => {
                ("ZG004", format!("{id} expired before anybody decided"))
            }
        };
        ErrorFields { detail: Some(self.detail(request)), ..ErrorFields::error(sqlstate, message) }
    }
}

fn words(decision: Option<&Decision>) -> String {
    let Some(decision) = decision else { return "nobody".to_owned() };
    match &decision.comment {
        Some(comment) => format!("{}: {comment}", decision.by),
        None => decision.by.clone(),
    }
}

fn unreadable(error: &ApprovalError) -> ErrorFields {
    tracing::error!(error = %chain(error), "a request cannot be read");
    ErrorFields::error("XX000", "the request cannot be read; try again")
}
