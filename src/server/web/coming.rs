//! Sign-ins under way. Each is kept by the browser that began it, under the desk's seal: nobody fills the desk
//! with those that they never finish.
//!
//! What must stay true: what comes back is this desk's own work, unchanged, for this answer of the issuer's,
//! and not older than [`PATIENCE`].

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use openidconnect::{Nonce, PkceCodeVerifier};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::core::encoding;
use crate::core::time::Moment;
use crate::sys::random;

/// How long somebody may take at the issuer's page.
pub const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// What has to be known when the browser comes back from the issuer.
#[derive(Serialize, Deserialize)]
pub struct Coming {
    /// What the issuer gives back: it is the answer to this very question.
    pub state: String,
    pub verifier: PkceCodeVerifier,
    pub nonce: Nonce,
    /// The page to go on with.
    pub to: String,
    pub expires: Moment,
}

/// The desk's seal: a key that exists in this process alone, so after a restart people begin anew.
pub struct Seal(Hmac<Sha256>);

impl Default for Seal {
    fn default() -> Self {
        Self(Hmac::new(&random::bytes::<64>().into()))
    }
}

impl Seal {
    /// What the browser keeps.
    pub fn close(&self, coming: &Coming) -> Option<String> {
        let body = encoding::base64url(&serde_json::to_vec(coming).ok()?);
        let tag = self.0.clone().chain_update(&body).finalize().into_bytes();
        Some(format!("{body}.{}", encoding::base64url(&tag)))
    }

    /// What it has kept, if that is the question to this answer and not too old.
    pub fn open(&self, kept: &str, state: &str, now: Moment) -> Option<Coming> {
        let (body, tag) = kept.split_once('.')?;
        self.0.clone().chain_update(body).verify_slice(&encoding::unbase64url(tag)?).ok()?;
        let coming: Coming = serde_json::from_slice(&encoding::unbase64url(body)?).ok()?;
        (coming.state == state && coming.expires > now).then_some(coming)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coming(state: &str) -> Coming {
        Coming {
            state: state.to_owned(),
            verifier: PkceCodeVerifier::new("v".repeat(43)),
            nonce: Nonce::new("n".to_owned()),
            to: "/requests".to_owned(),
            expires: Moment::from_seconds(600),
        }
    }

    #[test]
    fn what_a_browser_keeps_counts_once_begun_here_and_unchanged() {
        let (seal, now) = (Seal::default(), Moment::from_seconds(1));
        let kept = seal.close(&coming("one")).expect("sealed");
        let opened = seal.open(&kept, "one", now).expect("its own");
        assert_eq!((opened.verifier.secret().len(), opened.to.as_str()), (43, "/requests"));
        assert!(seal.open(&kept, "two", now).is_none(), "an answer to something else");
        assert!(seal.open(&kept, "one", Moment::from_seconds(600)).is_none(), "too late");
        assert!(Seal::default().open(&kept, "one", now).is_none(), "another desk's");
        let other = seal.close(&Coming { to: "/elsewhere".to_owned(), ..coming("one") }).expect("sealed");
        let (body, tag) = (other.split_once('.').expect("two parts").0, kept.split_once('.').expect("two parts").1);
        for changed in [format!("{body}.{tag}"), body.to_owned(), format!("{body}."), String::new(), ".".to_owned()] {
            assert!(seal.open(&changed, "one", now).is_none(), "{changed}");
        }
    }
}
