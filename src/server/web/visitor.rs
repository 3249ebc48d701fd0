//! Who is at the desk: a session of the browser, known by a cookie that scripts cannot read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

use crate::core::encoding;
use crate::core::identity::Identity;
use crate::core::secret::Secret;
use crate::core::time::Moment;
use crate::sys::random;

/// How long somebody stays signed in at the desk.
pub const LONGEST: Duration = Duration::from_secs(8 * 60 * 60);
/// How long the issuer's word lets somebody read: who has lost a group, or the account, reads for no longer.
const READS: Duration = Duration::from_secs(60 * 60);
/// Most browsers at once.
const MOST: usize = 2_000;
/// Most browsers of one person: who signs in once more leaves the one that they signed in with first.
const MOST_OF_ONE: usize = 20;

/// Somebody who has signed in.
#[derive(Clone)]
pub struct Visitor {
    pub identity: Identity,
    /// When the issuer last vouched for the groups.
    pub vouched: Moment,
    pub refresh_token: Option<Secret>,
    /// What the forms of this session's pages carry.
    pub form_key: String,
    /// The issuer is asked once at a time: some take a refresh token that comes twice for a stolen one.
    pub asking: Arc<tokio::sync::Mutex<()>>,
    expires: Moment,
}

impl Visitor {
    pub fn new(identity: Identity, vouched: Moment, refresh_token: Option<Secret>, now: Moment) -> Self {
        let form_key = encoding::base64url(&random::bytes::<24>());
        Self { identity, vouched, refresh_token, form_key, asking: Arc::default(), expires: now.after(LONGEST) }
    }

    /// The same person, vouched for by nobody any more.
    pub fn without_proof(&self) -> Self {
        Self { vouched: Moment::from_micros(0), ..self.clone() }
    }

    /// Whether the issuer has vouched for them lately enough to be shown anything.
    pub fn may_read(&self, now: Moment) -> bool {
        now < self.vouched.after(READS)
    }

    /// Whether a form comes from a page of this session.
    pub fn is_own_form(&self, key: &str) -> bool {
        self.form_key.as_bytes().ct_eq(key.as_bytes()).into()
    }
}

/// Every browser that is signed in. In memory: after a restart people sign in again.
#[derive(Default)]
pub struct Visitors {
    open: Mutex<HashMap<String, Arc<Visitor>>>,
}

impl Visitors {
    /// Lets somebody in; the answer is the cookie's value.
    pub fn enter(&self, visitor: Visitor, now: Moment) -> Option<String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, visitor| visitor.expires > now);
        let is_theirs = |other: &Visitor| other.identity.principal() == visitor.identity.principal();
        let theirs = || open.iter().filter(|(_, other)| is_theirs(other));
        if theirs().count() >= MOST_OF_ONE
            && let Some(oldest) = theirs().min_by_key(|(_, other)| other.expires).map(|(id, _)| id.clone())
        {
            open.remove(&oldest);
        }
        let id = encoding::base64url(&random::bytes::<32>());
        (open.len() < MOST).then(|| {
            open.insert(id.clone(), Arc::new(visitor));
            id
        })
    }

    /// Who holds this cookie.
    pub fn find(&self, id: &str, now: Moment) -> Option<Arc<Visitor>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(id).filter(|visitor| visitor.expires > now).cloned()
    }

    /// Puts what the issuer says now in the place of what it said at sign-in. The form key stays.
    pub fn renew(
        &self,
        id: &str,
        identity: Identity,
        vouched: Moment,
        refresh_token: Option<Secret>,
    ) -> Option<Arc<Visitor>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let old = open.get(id)?;
        let refresh_token = refresh_token.or_else(|| old.refresh_token.clone());
        let next = Arc::new(Visitor { identity, vouched, refresh_token, ..Visitor::clone(old) });
        open.insert(id.to_owned(), next.clone());
        Some(next)
    }

    /// Shows somebody out.
    pub fn leave(&self, id: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// The value of a cookie.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    pairs(headers).find_map(|(own, value)| (own == name).then_some(value))
}

/// The names of those that begin like this.
pub fn cookies(headers: &HeaderMap, beginning: &str) -> Vec<String> {
    pairs(headers).filter(|(own, _)| own.starts_with(beginning)).map(|(own, _)| own.to_owned()).collect()
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::core::approval::tests::{at, person, raj};

    #[test]
    fn a_visitor_is_found_by_the_cookie_until_the_time_is_over_or_they_leave() {
        let visitors = Visitors::default();
        let id = visitors.enter(Visitor::new(raj(), at(0), None, at(0)), at(0)).expect("there is room");
        let visitor = visitors.find(&id, at(1)).expect("signed in");
        assert!(visitor.is_own_form(&visitor.form_key) && !visitor.is_own_form(""));
        assert!(visitors.find("x", at(1)).is_none() && visitors.find(&id, at(8 * 3600)).is_none());
        let renewed = visitors.renew(&id, raj(), at(50), None).expect("still there");
        assert_eq!((renewed.vouched, &renewed.form_key), (at(50), &visitor.form_key));
        // Who is no longer vouched for reads for an hour, not for as long as the cookie lasts.
        assert!(renewed.may_read(at(3649)) && !renewed.may_read(at(3650)) && !visitor.may_read(at(3600)));
        visitors.leave(&id);
        assert!(visitors.find(&id, at(1)).is_none());
    }

    #[test]
    fn one_person_does_not_take_the_places_of_everybody() {
        let visitors = Visitors::default();
        let enter = |who, seconds| visitors.enter(Visitor::new(who, at(seconds), None, at(seconds)), at(seconds));
        let other = enter(person("ana", &[]), 0).expect("there is room");
        let ids: Vec<_> = (1..=30).map(|seconds| enter(raj(), seconds).expect("there is room")).collect();
        let kept = ids.iter().map(|id| visitors.find(id, at(31)).is_some()).collect::<Vec<_>>();
        assert_eq!(kept, [vec![false; 10], vec![true; 20]].concat(), "the latest");
        assert!(visitors.find(&other, at(31)).is_some());
    }

    #[test]
    fn cookies_are_read_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("xdesk=1; desk=2"));
        assert_eq!((cookie(&headers, "desk"), cookie(&headers, "des")), (Some("2"), None));
    }
}
