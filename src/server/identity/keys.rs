//! The issuer's public keys: fetched when needed, kept, and never asked for in a flood.
//!
//! A key id that is not among the cached keys makes one new request, at most one every ten
//! seconds, so that invented key ids cannot be turned on the issuer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openidconnect::core::{CoreJsonWebKeySet, CoreProviderMetadata};
use openidconnect::{DiscoveryError, IssuerUrl};

use crate::core::text;
use crate::core::time::Moment;
use crate::server::identity::IdentityError;
use crate::sys::http::Http;

/// After this long the keys are asked for again: a withdrawn key must not live on.
const KEYS_FRESH: Duration = Duration::from_secs(600);
/// Keys are used this long while the issuer does not answer.
const KEYS_USABLE: Duration = Duration::from_secs(3600);
/// The shortest time between two requests for keys.
const BETWEEN_REQUESTS: Duration = Duration::from_secs(10);
/// An issuer that takes longer is as good as down: requests wait for it meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// One issuer's keys.
pub struct KeyCache {
    issuer: IssuerUrl,
    http: Http,
    keys: Mutex<Keys>,
    /// Held while keys are fetched, so that many requests make one fetch. It guards no data:
    /// `keys` is never locked across an await.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Keys {
    set: Option<Arc<CoreJsonWebKeySet>>,
    fetched: Option<Moment>,
    asked: Option<Moment>,
    /// The outcome of the last request, where it failed.
    failure: Option<String>,
}

/// What the caller needs the keys for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Any keys that are fresh enough.
    Fresh,
    /// The cached ones lack the token's key.
    Newer,
}

impl KeyCache {
    /// An empty cache; the first token asks the issuer.
    pub fn new(issuer: IssuerUrl, http: Http) -> Self {
        Self { issuer, http, keys: Mutex::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// Whose keys these are.
    pub fn issuer(&self) -> &IssuerUrl {
        &self.issuer
    }

    /// Keys that serve `need`, from the cache or the issuer.
    pub async fn get(&self, need: Need, now: Moment) -> Result<Arc<CoreJsonWebKeySet>, IdentityError> {
        if let Some(keys) = self.cached(need, now)? {
            return Ok(keys);
        }
        let _one_at_a_time = self.fetching.lock().await;
        // Whoever was before us may have fetched what we need.
        if let Some(keys) = self.cached(need, now)? {
            return Ok(keys);
        }
        let outcome = tokio::time::timeout(PATIENCE, self.fetch()).await;
        let outcome = outcome.unwrap_or_else(|_| Err("it takes too long to answer".to_owned()));
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.asked = Some(now);
        match outcome {
            Ok(set) => {
                let set = Arc::new(set);
                *keys = Keys { set: Some(set.clone()), fetched: Some(now), asked: Some(now), failure: None };
                Ok(set)
            }
            Err(why) => {
                tracing::warn!(issuer = %*self.issuer, %why, "the issuer's keys cannot be fetched");
                keys.failure = Some(why);
                self.usable(&keys, now)
            }
        }
    }

    /// Keys that serve the need, `None` where the issuer must be asked.
    fn cached(&self, need: Need, now: Moment) -> Result<Option<Arc<CoreJsonWebKeySet>>, IdentityError> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = keys.fetched.is_some_and(|at| now.since(at) < KEYS_FRESH);
        let asked_just_now = keys.asked.is_some_and(|at| now.since(at) < BETWEEN_REQUESTS);
        match need {
            Need::Fresh if is_fresh => Ok(keys.set.clone()),
            _ if asked_just_now => self.usable(&keys, now).map(Some),
            _ => Ok(None),
        }
    }

    /// What there is, fresh or not, unless it is too old to be trusted.
    fn usable(&self, keys: &Keys, now: Moment) -> Result<Arc<CoreJsonWebKeySet>, IdentityError> {
        let in_use = keys.fetched.is_some_and(|at| now.since(at) < KEYS_USABLE);
        keys.set.clone().filter(|_| in_use).ok_or_else(|| IdentityError::IssuerDown {
            issuer: self.issuer.to_string(),
            why: keys.failure.clone().unwrap_or_else(|| "not asked yet".to_owned()),
        })
    }

    async fn fetch(&self) -> Result<CoreJsonWebKeySet, String> {
        // Discovery checks that the metadata names this very issuer, and brings the keys along.
        match CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await {
            Ok(metadata) => Ok(metadata.jwks().clone()),
            Err(DiscoveryError::Request(error)) => Err(error.to_string()),
            Err(error) => Err(text::escape(&error.to_string()).into_owned()),
        }
    }
}
