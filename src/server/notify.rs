//! Step 4, check: telling people that a request waits, and what became of it.
//!
//! Telling is not deciding: a message that is lost costs time, never safety. So nothing waits for
//! a channel, and what a channel answers changes nothing. Literals of the statement stay at home:
//! the page shows them to those who may see them.

use std::time::Duration;

use openidconnect::HttpRequest;
use openidconnect::http::{Request as Post, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::core::approval::{Request, message};
use crate::core::encoding;
use crate::core::secret::Secret;
use crate::server::approvals::{Step, Tell, view};
use crate::server::config::Notify;
use crate::sys::files::{self, FileError};
use crate::sys::http::Http;
use crate::sys::{clock, random};

/// Messages that may wait for one channel; more are dropped, and that is logged.
const WAITING: usize = 256;
/// How often a message is tried.
const TRIES: u32 = 6;
/// Before the second try; doubled for each after it.
const PAUSE: Duration = Duration::from_millis(500);
/// In bytes. A key that is empty by mistake signs what anybody can sign.
const SHORTEST_KEY: usize = 16;

/// Why a channel cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{0}` holds no address that can be used: https, or http to this machine")]
    Address(String),
    #[error("`{0}` is not one line of text")]
    NotText(String),
    #[error("the key in `{0}` has fewer than {SHORTEST_KEY} bytes: anybody could sign")]
    ShortKey(String),
}

/// Every channel that is configured.
pub struct Notifier {
    channels: Vec<mpsc::Sender<Message>>,
}

/// Something to tell, the same for every channel.
#[derive(Clone)]
struct Message {
    /// The same however often it is tried: a receiver knows what it has had.
    id: String,
    step: Step,
    request: Box<Request>,
    url: String,
}

/// Where messages go.
pub struct Channel {
    http: Http,
    url: String,
    /// Signs them; none: it is Slack's own form.
    key: Option<Secret>,
}

impl Notifier {
    /// Begins to serve the channels.
    pub fn start(channels: Vec<Channel>) -> Self {
        let serve = |channel: Channel| {
            let (sender, receiver) = mpsc::channel(WAITING);
            tokio::spawn(channel.serve(receiver));
            sender
        };
        Self { channels: channels.into_iter().map(serve).collect() }
    }
}

impl Tell for Notifier {
    fn told(&self, request: &Request, step: Step, url: &str) {
        tracing::info!(request = request.id.as_str(), state = request.state.word(), ?step, "a request goes on");
        if self.channels.is_empty() {
            return;
        }
        let id = format!("msg_{}", encoding::crockford(&random::bytes::<10>()));
        let message = Message { id, step, request: Box::new(request.clone()), url: url.to_owned() };
        for channel in &self.channels {
            if channel.try_send(message.clone()).is_err() {
                tracing::warn!(request = request.id.as_str(), "a channel takes no more messages");
            }
        }
    }
}

impl Channel {
    /// Reads its secrets; sends nothing.
    pub fn open(channel: &Notify) -> Result<Self, NotifyError> {
        let (url_file, key_file) = match channel {
            Notify::Webhook { url_file, key_file } => (url_file, Some(key_file)),
            Notify::Slack { url_file } => (url_file, None),
        };
        let text = |file: &std::path::Path| {
            let bytes = files::read_private(file)?;
            let text = String::from_utf8(bytes).map_err(|_| NotifyError::NotText(file.display().to_string()))?;
            Ok::<_, NotifyError>(text.trim().to_owned())
        };
        let url = text(url_file)?;
        let key = |file: &std::path::Path| match text(file)? {
            key if key.len() < SHORTEST_KEY => Err(NotifyError::ShortKey(file.display().to_string())),
            key => Ok(Secret::new(key)),
        };
        let key = key_file.map(|file| key(file)).transpose()?;
        // The address is a secret, and the reason quotes it.
        let http = Http::new(&url, None).map_err(|_| NotifyError::Address(url_file.display().to_string()))?;
        Ok(Self { http, url, key })
    }

    /// One message after the other, so that a decision never comes before its question.
    async fn serve(self, mut messages: mpsc::Receiver<Message>) {
        while let Some(message) = messages.recv().await {
            let mut pause = PAUSE;
            for left in (0..TRIES).rev() {
                match self.send(&message).await {
                    Ok(()) => break,
                    Err(why) if left == 0 => tracing::error!(message = message.id, why, "a message is given up"),
                    Err(why) => {
                        tracing::warn!(message = message.id, why, "a message is tried again");
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                    }
                }
            }
        }
    }

    /// The address of a channel is a secret: it is in no message of ours.
    async fn send(&self, message: &Message) -> Result<(), String> {
        let request = self.request(message)?;
        let answer = self.http.send(request).await.map_err(|error| error.to_string())?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(format!("status {}", answer.status().as_u16())),
        }
    }

    fn request(&self, message: &Message) -> Result<HttpRequest, String> {
        let post = Post::builder().method("POST").uri(&self.url).header(header::CONTENT_TYPE, "application/json");
        let (post, body) = match &self.key {
            None => (post, slack(message).to_string()),
            Some(key) => {
                let body = webhook(message).to_string();
                let signature = message::signature(key.expose().as_bytes(), clock::now(), &body);
                (post.header("x-dbgate-signature", signature).header("x-dbgate-delivery", &message.id), body)
            }
        };
        post.body(body.into_bytes()).map_err(|error| error.to_string())
    }
}

/// `dbgate.request/1` with what happened, literals left out.
fn webhook(message: &Message) -> Value {
    let mut view = view::of(&message.request, &message.url, false);
    view.statement = message::without_literals(&view.statement);
    (view.parameters, view.binds.values) = (Vec::new(), None);
    // What the target said may quote a value; its SQLSTATE does not.
    if let Some(outcome) = &mut view.outcome {
        outcome.message = None;
    }
    json!({"id": message.id, "event": message.step.word(), "at": clock::now().rfc3339(), "request": view})
}

fn slack(message: &Message) -> Value {
    let text = message::slack(&message.request, message.step.word(), &message.url);
    json!({"text": text, "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text}}]})
}
