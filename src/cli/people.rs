//! Waiting for people, on the side of whoever asked.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::cli::exit::{Exit, Failure};
use crate::cli::workstation::Workstation;
use crate::client::render::{self, request};
use crate::core::api::request::RequestView;
use crate::core::text::escape;
use crate::core::wire::backend::ErrorFields;
use crate::sys::terminal;

/// One call waits this long at the most: what lies between takes longer silences for a dead link.
const ONE_CALL: Duration = Duration::from_secs(40);
/// How often the line that shows the time is written anew.
const TICK: Duration = Duration::from_secs(1);

/// What the gateway says in DETAIL of the errors that are about people.
#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    request_id: Option<String>,
}

/// The request that an error tells of, where the statement waits for people.
pub fn request_of(fields: &ErrorFields) -> Option<String> {
    if fields.sqlstate == "ZG001" { detail(fields)?.request_id } else { None }
}

/// The stable word of an error of the gateway.
pub fn code_of(fields: &ErrorFields) -> Option<String> {
    if fields.sqlstate.starts_with("ZG") { detail(fields)?.code } else { None }
}

fn detail(fields: &ErrorFields) -> Option<Detail> {
    serde_json::from_str(fields.detail.as_deref()?).ok()
}

/// Columns of a terminal that does not say how many it has.
const USUAL_WIDTH: usize = 80;

/// What Ctrl-C does to a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The statement's own session waits, and takes its request back.
    Withdraws,
    /// Somebody looks on; the request goes on waiting.
    StopsWaiting,
}

impl Interrupt {
    const fn words(self) -> &'static str {
        match self {
            Self::Withdraws => "Ctrl-C withdraws",
            Self::StopsWaiting => "Ctrl-C stops waiting",
        }
    }
}

/// How to wait for people.
#[derive(Clone, Copy)]
pub struct People<'a> {
    pub desk: &'a Workstation,
    /// How long at the most.
    pub patience: Duration,
    pub interrupt: Interrupt,
}

impl People<'_> {
    /// A request as it stands now.
    pub async fn look(&self, id: &str) -> Result<RequestView, Failure> {
        Ok(self.desk.broker.request(&self.desk.token().await?, id, 0).await?)
    }

    /// Waits for a decision, showing who is waited for and since when; at once where there is no patience.
    pub async fn wait(&self, id: &str) -> Result<RequestView, Failure> {
        let mut view = self.look(id).await?;
        let began = Instant::now();
        if self.patience.is_zero() || view.state != "pending" {
            return Ok(view);
        }
        let line = StatusLine { is_shown: terminal::is_watched(), interrupt: self.interrupt };
        eprint!("{}", if line.is_shown { request::asked(&view) } else { request::waiting(&view) });
        while view.state == "pending" && began.elapsed() < self.patience {
            let left = self.patience.saturating_sub(began.elapsed()).min(ONE_CALL);
            let asking = async {
                let token = self.desk.token().await?;
                let seconds = left.as_secs().max(1);
                Ok::<_, Failure>(self.desk.broker.request(&token, id, seconds).await?)
            };
            tokio::pin!(asking);
            view = loop {
                line.show(&view, began.elapsed());
                tokio::select! {
                    answer = &mut asking => break answer?,
                    () = tokio::time::sleep(TICK) => {}
                }
            };
        }
        Ok(view)
    }

    /// The same for whoever only looks on: Ctrl-C ends the wait and nothing else.
    pub async fn look_on(&self, id: &str) -> Result<RequestView, Failure> {
        tokio::select! {
            view = self.wait(id) => view,
            _ = tokio::signal::ctrl_c() => {
                let message = format!("Stopped waiting; {} was not withdrawn.", escape(id));
                let hint = format!("Wait again: dbgate request wait {0}. Take it back: dbgate request withdraw {0}", escape(id));
                Err(Failure::new(Exit::Interrupted, message).hint(hint))
            }
        }
    }

    /// Takes a request back, as whoever is interrupted wants.
    pub async fn withdraw(&self, id: &str) -> Result<(), Failure> {
        self.desk.broker.withdraw(&self.desk.token().await?, id).await?;
        eprintln!("{id} is withdrawn.");
        Ok(())
    }
}

/// One line at the bottom of a terminal; gone when the wait is over.
struct StatusLine {
    is_shown: bool,
    interrupt: Interrupt,
}

impl StatusLine {
    fn show(&self, view: &RequestView, waited: Duration) {
        if self.is_shown {
            let line = request::status(view, waited, self.interrupt.words());
            // A line as wide as the terminal would begin the next one, second by second.
            let width = terminal::width().unwrap_or(USUAL_WIDTH).saturating_sub(1);
            eprint!("\r\u{1b}[K{}", render::cut(&line, width));
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if self.is_shown {
            eprint!("\r\u{1b}[K");
        }
    }
}

/// The failure that a request without approval is.
pub fn not_approved(view: &RequestView) -> Failure {
    match view.is_open() {
        true => Failure::new(Exit::Pending, format!("{} still waits.", view.request_id)),
        false => Failure::new(Exit::Rejected, format!("{}.", request::verdict(view))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_of_waiting_names_a_request() {
        let mut fields = ErrorFields::error("ZG001", "it waits");
        assert_eq!(request_of(&fields), None);
        fields.detail = Some(r#"{"code":"impact_too_large","request_id":"apr_1"}"#.into());
        assert_eq!(request_of(&fields).as_deref(), Some("apr_1"));
        assert_eq!(code_of(&fields).as_deref(), Some("impact_too_large"));
        fields.sqlstate = "42501".into();
        assert_eq!((request_of(&fields), code_of(&fields)), (None, None));
    }
}
