//! Requests of the extended protocol, one behind the other.

use bytes::BytesMut;
use dbgate::core::wire::frame::Message;
use dbgate::core::wire::frontend::{self, Named};

use super::wire::Peer;

/// Requests of the extended protocol, gathered.
#[derive(Clone, Default)]
pub struct Requests(BytesMut);

impl Requests {
    pub fn parse(mut self, name: &str, sql: &str) -> Self {
        frontend::parse_statement(name, sql, &mut self.0);
        self
    }

    /// With types of the parameters, by their OIDs.
    pub fn parse_typed(mut self, name: &str, sql: &str, types: &[u32]) -> Self {
        frontend::parse_typed(name, sql, types, &mut self.0);
        self
    }

    pub fn bind(mut self, portal: &str, statement: &str) -> Self {
        frontend::bind(portal, statement, &[], &mut self.0);
        self
    }

    /// Binds values to the unnamed portal.
    pub fn bind_values(mut self, statement: &str, values: &[&str]) -> Self {
        let values: Vec<_> = values.iter().copied().map(Some).collect();
        frontend::bind("", statement, &values, &mut self.0);
        self
    }

    pub fn describe(mut self, portal: &str) -> Self {
        frontend::describe(Named::Portal, portal, &mut self.0);
        self
    }

    pub fn describe_statement(mut self, name: &str) -> Self {
        frontend::describe(Named::Statement, name, &mut self.0);
        self
    }

    pub fn execute(self, portal: &str) -> Self {
        self.execute_part(portal, 0)
    }

    /// Runs a portal for so many rows at most.
    pub fn execute_part(mut self, portal: &str, rows: i32) -> Self {
        frontend::execute(portal, rows, &mut self.0);
        self
    }

    pub fn close(mut self, what: Named, name: &str) -> Self {
        frontend::close(what, name, &mut self.0);
        self
    }

    /// A statement without a name, from Parse to Execute.
    pub fn run(self, sql: &str) -> Self {
        self.parse("", sql).bind("", "").execute("")
    }

    /// Runs what a name stands for.
    pub fn run_named(self, name: &str) -> Self {
        self.bind("", name).execute("")
    }

    /// A Query, which closes nothing that stands before it.
    pub fn query(mut self, sql: &str) -> Self {
        frontend::query(sql, &mut self.0);
        self
    }

    /// What stands before it is wanted now.
    pub fn and_flush(mut self) -> Self {
        frontend::flush(&mut self.0);
        self
    }

    /// Sends them with a Flush behind; no answer is read.
    pub async fn flush(self, peer: &mut Peer) {
        self.and_flush().send(peer).await;
    }

    /// Sends them as they are.
    pub async fn send(self, peer: &mut Peer) {
        peer.send(&self.0).await;
    }

    pub fn and_sync(mut self) -> Self {
        frontend::sync(&mut self.0);
        self
    }

    pub async fn sync(self, peer: &mut Peer) -> Vec<Message> {
        self.and_sync().send(peer).await;
        peer.until(b'Z').await
    }
}

/// One statement, as a Query or by Parse, Bind and Execute.
pub async fn either_way(peer: &mut Peer, sql: &str, is_extended: bool) -> Vec<Message> {
    match is_extended {
        true => ask().run(sql).sync(peer).await,
        false => peer.query(sql).await,
    }
}

pub fn ask() -> Requests {
    Requests::default()
}
