//! Who is calling: the bearer token of a request, verified.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::core::identity::Identity;
use crate::core::time::Moment;
use crate::server::grants::keep;
use crate::server::http::refusal::Refusal;
use crate::server::identity::issued_at;
use crate::server::state::State;
use crate::sys::clock;

/// A verified caller. Only [`require`] makes one, so a handler that asks for it is never reached
/// without a good token.
#[derive(Clone, Debug)]
pub struct Caller {
    identity: Identity,
    vouched: Moment,
}

impl Caller {
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When the issuer made the token, and so when it last vouched for the groups in it.
    pub fn vouched(&self) -> Moment {
        self.vouched
    }
}

/// Longest token that is looked at.
const LONGEST_TOKEN: usize = 16 * 1024;

/// Lets a request through if its token is good, and notes who it is.
pub async fn require(Shared(state): Shared<Arc<State>>, mut request: Request, next: Next) -> Result<Response, Refusal> {
    let token = token(request.headers())?;
    let identity = state.verifier.verify(token, clock::now()).await.map_err(Refusal::from)?;
    // A token with fewer groups than a grant was made for takes back what they gave.
    keep::seen(&state, &identity).await;
    // Without a moment it is as old as can be: good for everything that need not be fresh.
    let vouched = issued_at(token).unwrap_or(Moment::from_micros(0));
    request.extensions_mut().insert(Caller { identity, vouched });
    Ok(next.run(request).await)
}

/// The token of an `Authorization: Bearer` header (RFC 6750 section 2.1).
fn token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let missing = || Refusal::sign_in("you are not signed in");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or_else(missing)?;
    // Two of them would let a proxy and the broker see different callers.
    if values.next().is_some() {
        return Err(Refusal::bad_request("more than one Authorization header"));
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(missing());
    }
    if token.len() > LONGEST_TOKEN {
        return Err(Refusal::bad_request("the token is too long"));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn exactly_one_bearer_token_is_read() {
        for (values, expected) in [
            (vec!["Bearer abc"], Some("abc")),
            (vec!["bearer abc"], Some("abc")),
            (vec!["Basic abc"], None),
            (vec!["Bearer "], None),
            (vec!["abc"], None),
            (vec![], None),
            (vec!["Bearer abc", "Bearer def"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a header"));
            }
            assert_eq!(token(&headers).ok(), expected, "{values:?}");
        }
    }
}
