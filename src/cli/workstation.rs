//! What every command that speaks to a broker begins with: paths, configuration, broker, sign-in.

use std::path::Path;

use crate::cli::exit::Failure;
use crate::client::broker::Broker;
use crate::client::config::{Config, Server};
use crate::client::login::SignedIn;
use crate::core::secret::Secret;
use crate::sys::paths::Paths;
use crate::sys::secrets::{Store, StoreChoice};

/// The workstation before anyone signs in.
pub struct Workstation {
    pub paths: Paths,
    pub config: Config,
    pub server: Server,
    pub broker: Broker,
    pub store: Store,
}

impl Workstation {
    /// Reads the configuration and picks the broker: the flag, `DBGATE_SERVER`, or the context.
    pub fn open(server: Option<&str>, ca_file: Option<&Path>) -> Result<Self, Failure> {
        let paths = Paths::from_environment();
        let config = Config::load(&paths)?;
        let server = config.server(server, ca_file)?;
        let broker = Broker::new(&server)?;
        let choice = StoreChoice::from_environment(config.credentials.store)?;
        let store = Store::new(choice, &paths, &server.url);
        Ok(Self { paths, config, server, broker, store })
    }

    /// The sign-in that is kept or given; fails with `Run: dbgate login` where there is none.
    pub fn signed_in(&self) -> Result<SignedIn, Failure> {
        Ok(SignedIn::load(&self.server, self.store.clone())?)
    }

    /// A token that the issuer has made just now, where it can be renewed: for decisions.
    pub async fn fresh_token(&self) -> Result<Secret, Failure> {
        Ok(self.signed_in()?.fresh_token().await?)
    }

    /// A token for the next request.
    pub async fn token(&self) -> Result<Secret, Failure> {
        Ok(self.signed_in()?.token().await?)
    }
}
