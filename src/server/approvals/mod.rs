//! Step 4, check: requests that wait for people, carried out.
//!
//! [`core::approval`](crate::core::approval) decides each step; here it is recorded, then stored,
//! then told. What must stay true: a step is in the log before it takes effect, and of two that
//! race one takes effect: changes are compare-and-set, and in this process they take turns.

mod refusal;
pub mod view;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::core::approval::{Admission, Asked, Binding, Decider, Lift, Refused, Request, RequestId, Spent, State};
use crate::core::identity::Identity;
use crate::core::time::Moment;
use crate::server::audit::{Log, LogError};
use crate::server::config::Approvals as Config;
use crate::server::http::refusal::chain;
use crate::server::store::requests::Versioned;
use crate::server::store::{Store, StoreError};
use crate::sys::clock;

/// How often what is overdue is looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// Requests that one principal may have open: whoever reviews should find those of others, too.
const MOST_OPEN: i64 = 50;

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    #[error("no such request, or it is not yours")]
    Missing,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("somebody else was faster")]
    Raced,
    #[error("{MOST_OPEN} of your requests are open already; withdraw some: dbgate request ls")]
    TooMany,
    #[error("it could not be recorded, so it was not done")]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who is told of every step that was taken.
pub trait Tell: Send + Sync {
    /// Must not wait: it stands between a decision and those who wait for it.
    fn told(&self, request: &Request, step: Step, url: &str);
}

/// What happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Asked,
    Decided,
    Remarked,
    /// Withdrawn, expired or void.
    Ended,
    /// Used, or its outcome is known.
    Spent,
    /// Somebody goes ahead without anybody's word.
    Glass,
    /// Somebody has looked at that.
    Reviewed,
}

impl Step {
    /// The word that messages use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Asked => "requested",
            Self::Decided => "decided",
            Self::Remarked => "remarked",
            Self::Ended => "ended",
            Self::Spent => "used",
            Self::Glass => "glass_broken",
            Self::Reviewed => "reviewed",
        }
    }
}

/// All requests of this gate.
pub struct Approvals {
    store: Store,
    log: Arc<Log>,
    config: Config,
    public_url: String,
    tell: Box<dyn Tell>,
    /// One step at a time: reading, recording and storing belong together.
    turn: tokio::sync::Mutex<()>,
    /// Counts steps, for those who wait for one.
    steps: watch::Sender<u64>,
    /// Principal and statement of what is approved and not used: asked before every statement, so
    /// kept in memory. What stands here is only looked at more closely, never believed.
    approved: Mutex<HashSet<(String, String)>>,
    /// The process is on its way out: nobody is kept waiting.
    is_closing: AtomicBool,
}

impl Approvals {
    /// With the requests that the store holds.
    pub async fn open(
        store: Store,
        log: Arc<Log>,
        config: Config,
        public_url: &str,
        tell: Box<dyn Tell>,
    ) -> Result<Self, StoreError> {
        let approved = store.approved_requests().await?.iter().map(|one| mark(&one.request.binding)).collect();
        Ok(Self {
            store,
            log,
            config,
            public_url: public_url.to_owned(),
            tell,
            turn: tokio::sync::Mutex::default(),
            steps: watch::Sender::new(0),
            approved: Mutex::new(approved),
            is_closing: AtomicBool::new(false),
        })
    }

    /// How requests are handled here.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The page of a request.
    pub fn url(&self, id: &RequestId) -> String {
        format!("{}/r/{}", self.public_url, id.as_str())
    }

    /// A signal that changes with every step.
    pub fn steps(&self) -> watch::Receiver<u64> {
        self.steps.subscribe()
    }

    /// Whether waiting is over, because the process ends.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Whether this statement of this principal may have been approved. Cheap, and no proof.
    pub fn may_be_approved(&self, principal: &str, statement: &str) -> bool {
        let approved = self.approved.lock().unwrap_or_else(PoisonError::into_inner);
        // Nearly always empty: then nothing is copied.
        !approved.is_empty() && approved.contains(&(principal.to_owned(), Binding::digest_of(statement)))
    }

    /// Asks for approval. An open request for exactly the same is that request. One for the same
    /// text that is bound to something else is void, and the answer says what changed.
    pub async fn ask(&self, asked: Asked) -> Result<(Request, Vec<String>), ApprovalError> {
        let _turn = self.turn.lock().await;
        let now = clock::now();
        if let Some(open) = self.store.open_request(&asked.binding.digest()).await? {
            // One whose time is over may not have been swept up yet.
            let Some(next) = open.request.expire(now) else { return Ok((open.request, Vec::new())) };
            self.log.approval_ended(&next).await?;
            self.put(&next, open.version, Step::Ended).await?;
        }
        let mut changed = Vec::new();
        let digest = asked.binding.statement_digest();
        for old in self.store.open_requests_for(&asked.binding.principal, &digest).await? {
            let differences = old.request.binding.difference(&asked.binding);
            // Another agent or database is another request, not a change of this one.
            if old.request.binding.target == asked.binding.target && !is_other(&differences) {
                let next = old.request.void(&differences, now)?;
                self.log.approval_ended(&next).await?;
                self.put(&next, old.version, Step::Ended).await?;
                changed.extend(differences);
            }
        }
        if self.store.count_open_requests(&asked.binding.principal).await? >= MOST_OPEN {
            return Err(ApprovalError::TooMany);
        }
        let Some(request) = Request::new(asked) else { return Err(Refused::NotPermitted.into()) };
        self.log.approval_asked(&request).await?;
        if !self.store.add_request(&request).await? {
            return Err(ApprovalError::Raced);
        }
        self.stepped(&request, Step::Asked);
        Ok((request, changed))
    }

    /// Uses up the approval of exactly this, if there is one.
    pub async fn claim(&self, binding: &Binding, session: &str) -> Result<Option<Lift>, ApprovalError> {
        let _turn = self.turn.lock().await;
        let digest = binding.digest();
        let Some(open) = self.store.open_request(&digest).await? else { return Ok(None) };
        let (next, lift) = match open.request.execute(binding, session, clock::now()) {
            Ok(used) => used,
            Err(Refused::NotApproved | Refused::TooLate) => return Ok(None),
            Err(refused) => return Err(refused.into()),
        };
        self.log.approval_used(&lift, session, &digest).await?;
        self.put(&next, open.version, Step::Spent).await?;
        Ok(Some(lift))
    }

    /// Uses up the approval of a session like this, if there is one.
    pub async fn admit(&self, binding: &Binding, session: &str) -> Result<Option<Admission>, ApprovalError> {
        let _turn = self.turn.lock().await;
        for open in self.store.open_requests_for(&binding.principal, &binding.statement_digest()).await? {
            let Some(window) = open.request.binding.window() else { continue };
            // For how long is what people have said, not what is asked for now.
            let asked = Binding { settings: open.request.binding.settings.clone(), ..binding.clone() };
            let Ok((next, lift)) = open.request.execute(&asked, session, clock::now()) else { continue };
            self.log.approval_used(&lift, session, &asked.digest()).await?;
            self.put(&next, open.version, Step::Spent).await?;
            return Ok(Some(Admission { lift, window }));
        }
        Ok(None)
    }

    /// Whoever asked goes ahead at once; reviewers are told.
    pub async fn break_glass(
        &self,
        id: &RequestId,
        who: &Identity,
        reason: Option<&str>,
    ) -> Result<Request, ApprovalError> {
        let _turn = self.turn.lock().await;
        let read = self.read(id).await?;
        let next = read.request.break_glass(who, reason, clock::now())?;
        self.log.approval_glass(&next).await?;
        self.put(&next, read.version, Step::Glass).await?;
        Ok(next)
    }

    /// Notes what came of a use.
    pub async fn finish(&self, id: &RequestId, spent: Spent) -> Result<(), ApprovalError> {
        let _turn = self.turn.lock().await;
        let used = self.read(id).await?;
        let next = used.request.finish(spent, clock::now())?;
        if let Some(outcome) = &next.outcome {
            self.log.approval_outcome(id, outcome).await?;
        }
        self.put(&next, used.version, Step::Spent).await
    }

    /// Somebody says yes; of what went ahead, that it was in order. Which of the two they mean, where they say it:
    /// the glass may have been broken since they looked.
    pub async fn approve(
        &self,
        id: &RequestId,
        decider: &Decider<'_>,
        comment: Option<&str>,
        cap: Option<u64>,
        is_review: Option<bool>,
    ) -> Result<Request, ApprovalError> {
        let step = |request: &Request, now| match request.awaits_review() {
            is_due if is_review.is_some_and(|is_review| is_review != is_due) => Err(Refused::Moved),
            true => request.review(decider, true, comment, now),
            false => request.approve(decider, comment, cap, now),
        };
        self.decide(id, decider, step).await
    }

    /// Somebody says no; of what went ahead, that it was not in order.
    pub async fn reject(&self, id: &RequestId, decider: &Decider<'_>, comment: &str) -> Result<Request, ApprovalError> {
        let step = |request: &Request, now| match request.awaits_review() {
            true => request.review(decider, false, Some(comment), now),
            false => request.reject(decider, comment, now),
        };
        self.decide(id, decider, step).await
    }

    async fn decide(
        &self,
        id: &RequestId,
        decider: &Decider<'_>,
        step: impl FnOnce(&Request, Moment) -> Result<Request, Refused>,
    ) -> Result<Request, ApprovalError> {
        let _turn = self.turn.lock().await;
        let read = self.read(id).await?;
        match step(&read.request, clock::now()) {
            Ok(next) if read.request.awaits_review() => {
                self.log.approval_reviewed(&next, decider.identity).await?;
                self.put(&next, read.version, Step::Reviewed).await?;
                Ok(next)
            }
            Ok(next) => {
                self.log.approval_decided(&next, decider.identity).await?;
                self.put(&next, read.version, Step::Decided).await?;
                Ok(next)
            }
            Err(refused) => {
                // Who tried to approve their own is as interesting as who did approve.
                self.log.approval_refused(id, decider.identity, &refused.to_string()).await?;
                Err(refused.into())
            }
        }
    }

    /// A reviewer asks back.
    pub async fn question(&self, id: &RequestId, decider: &Decider<'_>, text: &str) -> Result<Request, ApprovalError> {
        self.remark(id, |request, now| request.ask(decider, text, now)).await
    }

    /// The requester answers.
    pub async fn reply(&self, id: &RequestId, principal: &str, text: &str) -> Result<Request, ApprovalError> {
        self.remark(id, |request, now| request.reply(principal, text, now)).await
    }

    async fn remark(
        &self,
        id: &RequestId,
        step: impl FnOnce(&Request, Moment) -> Result<Request, Refused>,
    ) -> Result<Request, ApprovalError> {
        let _turn = self.turn.lock().await;
        let read = self.read(id).await?;
        let next = step(&read.request, clock::now())?;
        self.log.approval_remark(&next).await?;
        self.put(&next, read.version, Step::Remarked).await?;
        Ok(next)
    }

    /// The requester takes it back.
    pub async fn withdraw(&self, id: &RequestId, principal: &str) -> Result<Request, ApprovalError> {
        let _turn = self.turn.lock().await;
        let read = self.read(id).await?;
        let next = read.request.withdraw(principal)?;
        self.log.approval_ended(&next).await?;
        self.put(&next, read.version, Step::Ended).await?;
        Ok(next)
    }

    /// One request, as it stands now.
    pub async fn request(&self, id: &RequestId) -> Result<Request, ApprovalError> {
        Ok(self.read(id).await?.request)
    }

    /// What the identity asked for, or may decide, or both.
    pub async fn list(&self, identity: &Identity, which: Which) -> Result<Vec<Request>, ApprovalError> {
        let principal = identity.principal();
        let all = match which {
            Which::Mine => self.store.requests_of(&principal).await?,
            Which::Reviewable | Which::Visible => self.store.requests().await?,
        };
        let all = all.into_iter().map(|one| one.request);
        let shown = all.filter(|request| match which {
            Which::Mine => true,
            Which::Reviewable => {
                (request.state == State::Pending || request.awaits_review()) && self.is_reviewer(request, identity)
            }
            Which::Visible => self.is_visible(request, identity),
        });
        Ok(shown.collect())
    }

    /// Whether somebody may see a request: whoever asked, and those who may be asked.
    pub fn is_visible(&self, request: &Request, identity: &Identity) -> bool {
        request.binding.principal == identity.principal() || identity.groups.contains(&request.reviewers.group)
    }

    fn is_reviewer(&self, request: &Request, identity: &Identity) -> bool {
        let now = clock::now();
        request.may_decide(&Decider { identity, vouched: now }, now).is_ok()
    }

    /// Waits until a request is in another state than `seen`, or the time is over.
    pub async fn wait(&self, id: &RequestId, seen: State, longest: Duration) -> Result<Request, ApprovalError> {
        let mut steps = self.steps();
        let deadline = tokio::time::Instant::now() + longest;
        loop {
            steps.borrow_and_update();
            let request = self.request(id).await?;
            // Of what was used the outcome is waited for as well.
            let is_settled = request.outcome.as_ref().is_none_or(|outcome| outcome.spent != Spent::Unknown);
            if (request.state != seen && is_settled) || self.is_closing() {
                return Ok(request);
            }
            tokio::select! {
                changed = steps.changed() => if changed.is_err() { return Ok(request) },
                () = tokio::time::sleep_until(deadline) => return Ok(request),
            }
        }
    }

    /// Ends what is overdue, until told to stop.
    pub async fn expire(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(SWEEP) => {}
            }
            if let Err(error) = self.expire_overdue().await {
                tracing::error!(error = %chain(&error), "requests that are overdue could not be ended");
            }
        }
        self.is_closing.store(true, Ordering::Release);
        self.steps.send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn expire_overdue(&self) -> Result<(), ApprovalError> {
        let now = clock::now();
        if self.store.overdue_requests(now).await?.is_empty() && self.store.overdue_reviews(now).await?.is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        for overdue in self.store.overdue_reviews(now).await? {
            if let Some(next) = overdue.request.remind(now) {
                self.log.approval_remark(&next).await?;
                self.put(&next, overdue.version, Step::Remarked).await?;
            }
        }
        for overdue in self.store.overdue_requests(now).await? {
            if let Some(next) = overdue.request.expire(now) {
                self.log.approval_ended(&next).await?;
                self.put(&next, overdue.version, Step::Ended).await?;
            }
        }
        Ok(())
    }

    async fn read(&self, id: &RequestId) -> Result<Versioned, ApprovalError> {
        self.store.request(id).await?.ok_or(ApprovalError::Missing)
    }

    async fn put(&self, next: &Request, version: i64, step: Step) -> Result<(), ApprovalError> {
        if !self.store.change_request(next, version).await? {
            return Err(ApprovalError::Raced);
        }
        // Another approval of the same text may be left, bound to other parameters.
        let (principal, statement) = mark(&next.binding);
        let open = self.store.open_requests_for(&principal, &statement).await?;
        let is_left = open.iter().any(|one| one.request.state == State::Approved);
        {
            let mut approved = self.approved.lock().unwrap_or_else(PoisonError::into_inner);
            let marked = (principal, statement);
            let _ = if is_left { approved.insert(marked) } else { approved.remove(&marked) };
        }
        self.stepped(next, step);
        Ok(())
    }

    fn stepped(&self, request: &Request, step: Step) {
        self.tell.told(request, step, &self.url(&request.id));
        self.steps.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Which requests are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// That one asked for oneself.
    Mine,
    /// That wait for one's decision.
    Reviewable,
    /// That one may see.
    Visible,
}

fn mark(binding: &Binding) -> (String, String) {
    (binding.principal.clone(), binding.statement_digest())
}

/// Differences that make it somebody's or something's other than a changed circumstance.
fn is_other(differences: &[String]) -> bool {
    let other = ["the agent", "the database", "the access", "the parameters"];
    differences.iter().any(|one| other.contains(&one.as_str()))
}
