//! A person of the engineers at a workstation: a gate, the demo's issuer, the program as a
//! process, and an ID token in its environment.

use std::process::{Command, Output};
use std::time::Duration;

use dbgate::client::issuer::Issuer as Client;
use dbgate::demo::issuer::{CLIENT_ID, DemoUser, Issuer, SCOPES};

use super::dbgate::{Program, feed};
use super::gate::Gate;

/// A gate, and somebody who may use it.
pub struct Desk {
    pub gate: Gate,
    pub issuer: Issuer,
    pub program: Program,
    pub server: String,
    pub token: String,
}

impl Desk {
    /// In front of a database made by `sql`.
    pub async fn begin(sql: &str) -> Self {
        Self::begin_with(sql, "").await
    }

    /// The same, with more lines at the end of `server.toml`.
    pub async fn begin_with(sql: &str, more: &str) -> Self {
        let issuer = issuer().await;
        let more = format!("{more}\n{}", trust(&issuer, CLIENT_ID));
        let gate = Gate::start_with(sql, &more).await;
        let server = format!("http://{}", gate.running.api_address());
        let token = token(&issuer).await;
        Self { gate, issuer, program: Program::new(), server, token }
    }

    /// The program with these arguments, signed in.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program.command(arguments);
        command.env("DBGATE_SERVER", &self.server).env("DBGATE_ID_TOKEN", &self.token);
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.feed(arguments, "").await
    }

    pub async fn feed(&self, arguments: &[&str], input: &str) -> Output {
        feed(self.command(arguments), input).await
    }

    pub async fn end(self) {
        self.gate.stop().await;
        self.issuer.stop().await;
    }
}

/// The demo's issuer, and `ana` in it.
pub async fn issuer() -> Issuer {
    let users = [DemoUser::new("ana", "Ana", "ana@example.com", &["engineers"])];
    Issuer::start(&users, Duration::ZERO).await.expect("issuer")
}

/// The lines of `server.toml` that trust an issuer's tokens for `client`.
pub fn trust(issuer: &Issuer, client: &str) -> String {
    format!("\n[[identity.oidc]]\nissuer = \"{}\"\nclient_id = \"{client}\"\n", issuer.url())
}

/// An ID token of `ana`.
pub async fn token(issuer: &Issuer) -> String {
    let client = Client::discover(issuer.url(), CLIENT_ID, None).await.expect("discovered");
    let invitation = client.begin(&SCOPES.map(str::to_owned)).await.expect("a code");
    issuer.approve(&invitation.code, "ana").expect("approved");
    let tokens = client.wait(&invitation, |_| tokio::task::yield_now()).await.expect("tokens");
    tokens.id_token.expose().to_owned()
}
