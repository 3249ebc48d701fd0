//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! Messages gather until Flush or Sync and travel together. A statement is judged at Parse,
//! recorded at Execute, and what is held is judged once per pipeline, before its Sync.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::refuse::denial_error;
use super::relay::Mode;
use super::session::{Bound, End, Parsed, Session};
use super::trial::only_tries;
use crate::core::policy::Denial;
use crate::core::session::{Owner, Step};
use crate::core::statement::facts::CopyDirection;
use crate::core::statement::grammar::{self, GrammarError};
use crate::core::wire::backend::ErrorFields;
use crate::core::wire::frame::Message;
use crate::core::wire::frontend::{self, Frontend, Named};
use crate::server::audit::Protocol;
use crate::server::check::refused;
use crate::sys::clock;

/// Requests that may gather before they are sent on without a Flush of the client's.
const LONGEST_GATHERED: usize = 1024 * 1024;
/// Names that only the gateway uses.
const RESERVED: &str = "dbgate_";

impl Session {
    /// Serves one message of the extended protocol.
    pub(super) async fn extended(&mut self, message: Message) -> Result<(), End> {
        let parsed = frontend::parse(&message)?;
        if self.is_skipping && parsed != Frontend::Sync {
            return Ok(());
        }
        match parsed {
            Frontend::Parse { name, sql } => self.on_parse(&message, name, sql).await?,
            Frontend::Bind { portal, statement, parameters } => {
                self.on_bind(&message, portal, statement, parameters).await?;
            }
            Frontend::Describe { name, .. } => match name.starts_with(RESERVED) {
                true => self.deny(&reserved(name), "").await?,
                false => self.pass(&message, Step::Describe),
            },
            Frontend::Execute { portal, .. } => self.on_execute(&message, portal).await?,
            Frontend::Close { what, name } => self.on_close(&message, what, name).await?,
            Frontend::Flush => self.on_flush().await?,
            Frontend::Sync => self.on_sync().await?,
            _ => return Err(End::Protocol),
        }
        if self.up.len() > LONGEST_GATHERED && !self.is_skipping {
            self.on_flush().await?;
        }
        Ok(())
    }

    async fn on_parse(&mut self, message: &Message, name: &str, sql: &str) -> Result<(), End> {
        if name.starts_with(RESERVED) {
            return self.deny(&reserved(name), sql).await;
        }
        if self.pipeline.is_empty() && self.up.is_empty() {
            self.refresh().await?;
        }
        self.prepared.remove(name);
        let statement = match grammar::parse(sql) {
            Ok(statements) if statements.len() == 1 => statements.into_iter().next(),
            // None: the server answers EmptyQueryResponse. Several: it refuses them by itself.
            // A syntax error: it says where. None of these can be executed through us, because
            // Execute asks for a statement that was planned.
            Ok(_) | Err(GrammarError::Syntax(_)) => None,
            Err(error) => return self.deny(&refused("unparseable", &error.to_string(), "simplify it"), sql).await,
        };
        let Some(statement) = statement else {
            self.pass(message, Step::Parse);
            return Ok(());
        };
        let known: BTreeMap<_, _> = self.prepared.iter().map(|(n, p)| (n.clone(), p.planned.clone())).collect();
        match self.plan(&statement, &known) {
            Err(denial) => self.deny(&denial, sql).await,
            Ok(planned) => {
                if planned.is_spliced {
                    let types = frontend::parse_types(message)?;
                    self.ask_parse(Owner::Client, name, &planned.forward, &types);
                } else {
                    self.pass(message, Step::Parse);
                }
                self.prepared.insert(name.to_owned(), Parsed { planned: Arc::new(planned), text: sql.into() });
                Ok(())
            }
        }
    }

    async fn on_bind(
        &mut self,
        message: &Message,
        portal: &str,
        statement: &str,
        parameters: &[u8],
    ) -> Result<(), End> {
        if portal.starts_with(RESERVED) || statement.starts_with(RESERVED) {
            return self.deny(&reserved(portal), "").await;
        }
        self.portals.remove(portal);
        if let Some(parsed) = self.prepared.get(statement) {
            let parameters = message.body.slice_ref(parameters);
            let bound = Bound { planned: parsed.planned.clone(), parameters, text: parsed.text.clone() };
            self.portals.insert(portal.to_owned(), bound);
        }
        self.pass(message, Step::Bind);
        Ok(())
    }

    async fn on_execute(&mut self, message: &Message, portal: &str) -> Result<(), End> {
        let Some(bound) = self.portals.get(portal).cloned() else {
            return self.execute_unknown(message, portal).await;
        };
        let planned = bound.planned;
        if self.people.trying.is_some() {
            return self.deny(&only_tries(), &bound.text).await;
        }
        if self.ends_block(&planned) && !self.answered_so_far().await? {
            return Ok(());
        }
        let (parameters, text) = (bound.parameters, bound.text);
        match self.is_alone(planned.cleared.facts()) {
            true => {
                self.claim(&text, planned.cleared.facts(), Some(&parameters), Mode::Extended).await?;
                self.people.begin(&planned, &text, Some(parameters.clone()), Mode::Extended);
            }
            // One approval lets one statement through, not what travels with it.
            false if self.people.lift.is_some() => return self.deny(&with_approved(), &text).await,
            false => self.people.forget(),
        }
        let forwarded = planned.is_spliced.then_some(planned.forward.as_str());
        let cleared = vec![planned.cleared.clone()];
        let recorded =
            self.record.allowed(cleared, &text, forwarded, Some(&parameters), Protocol::Extended, clock::now()).await?;
        if let Err(denial) = self.guard(&planned, recorded.number()) {
            return self.deny(&denial, &text).await;
        }
        self.begin(recorded.number(), 0, &planned, 0);
        self.is_dirty = true;
        self.pass(message, Step::Execute);
        if planned.cleared.facts().copy == Some(CopyDirection::FromClient) {
            // The data comes next, and nothing may stand between.
            let drained = self.flush_up(Mode::Extended).await?;
            self.is_skipping = drained.failed;
        }
        Ok(())
    }

    /// A portal that no Bind of this session made: an empty statement's, or a cursor's. Reading on
    /// from a cursor is FETCH, which is judged; here it is refused unless nothing can come of it.
    async fn execute_unknown(&mut self, message: &Message, portal: &str) -> Result<(), End> {
        if self.is_cursor(portal) {
            return self
                .deny(&refused("cursor_by_execute", "read from a cursor with FETCH", "FETCH ALL FROM cursor"), "")
                .await;
        }
        // Either the server refuses the name, or the statement was empty.
        self.pass(message, Step::Execute);
        Ok(())
    }

    fn is_cursor(&self, portal: &str) -> bool {
        !portal.is_empty() && !self.portals.contains_key(portal) && self.is_block
    }

    async fn on_close(&mut self, message: &Message, what: Named, name: &str) -> Result<(), End> {
        if name.starts_with(RESERVED) {
            return self.deny(&reserved(name), "").await;
        }
        match what {
            Named::Statement => drop(self.prepared.remove(name)),
            Named::Portal => drop(self.portals.remove(name)),
        }
        self.pass(message, Step::Close);
        Ok(())
    }

    /// The client wants what there is so far; held writes are judged first.
    async fn on_flush(&mut self) -> Result<(), End> {
        if self.answered_so_far().await? {
            self.release();
        }
        Ok(())
    }

    /// Gets everything asked so far answered and judged. False when it failed or was refused.
    async fn answered_so_far(&mut self) -> Result<bool, End> {
        let drained = self.flush_up(Mode::Extended).await?;
        if drained.failed {
            self.is_skipping = true;
            return Ok(false);
        }
        if let Some(tag) = drained.wrong_tag {
            return self.refuse_tag(&tag).await;
        }
        if !self.held.counts_pending() {
            return Ok(true);
        }
        match self.verdict(Mode::Extended).await? {
            super::held::Verdict::Stands => Ok(true),
            super::held::Verdict::Failed => {
                self.held_out.clear();
                self.is_skipping = true;
                Ok(false)
            }
            refused => {
                self.take_back(refused, Mode::Extended).await?;
                Ok(false)
            }
        }
    }

    async fn refuse_tag(&mut self, tag: &str) -> Result<bool, End> {
        let message = format!("the target answered `{tag}`, which is not what was judged");
        let denial = refused("wrong_tag", &message, "report this");
        self.record.denied(&denial, tag, Protocol::Extended, clock::now()).await?;
        self.veto(&denial, Mode::Extended).await?;
        Ok(false)
    }

    async fn on_sync(&mut self) -> Result<(), End> {
        self.sync_up().await?;
        self.people.forget();
        self.settle_account().await;
        Ok(())
    }

    async fn sync_up(&mut self) -> Result<(), End> {
        if self.is_skipping {
            self.is_skipping = false;
            return self.close_failed(Mode::Extended).await;
        }
        if self.is_holding() && !self.answered_so_far().await? {
            self.is_skipping = false;
            return self.close_failed(Mode::Extended).await;
        }
        if self.held.own_block {
            self.ask_own("dbgate_commit", &[]);
        }
        self.ask_sync(Owner::Client);
        let drained = self.round(Mode::Extended).await?;
        if self.stop.is_silent() {
            self.end_silence(Mode::Extended).await?;
        }
        self.after_sync();
        if drained.wrong_tag.is_some() { Err(End::WrongTag) } else { Ok(()) }
    }

    /// Refuses in the middle of a pipeline: what came before is answered first, what follows up to
    /// Sync is skipped, and the target is made to fail as well.
    async fn deny(&mut self, denial: &Denial, sql: &str) -> Result<(), End> {
        self.record.denied(denial, sql, Protocol::Extended, clock::now()).await?;
        if !self.up.is_empty() || !self.pipeline.is_empty() {
            let drained = self.flush_up(Mode::Extended).await?;
            if drained.failed {
                self.is_skipping = true;
                return Ok(());
            }
        }
        let error: ErrorFields = denial_error(denial, sql);
        self.held_out.clear();
        self.client.error(&error);
        self.is_skipping = true;
        if self.is_dirty || self.status == b'T' {
            self.ask_veto();
        }
        Ok(())
    }
}

fn with_approved() -> Box<Denial> {
    refused("approved_alone", "a statement that was approved runs alone", "send Sync first, then the next statement")
}

fn reserved(name: &str) -> Box<Denial> {
    refused(
        "reserved_name",
        &format!("names that start with `{RESERVED}` belong to the gateway"),
        &format!("rename `{name}`"),
    )
}
