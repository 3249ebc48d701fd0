//! Step 2, credential: asks the broker for a grant, and proves who will sign the transcript.
//!
//! The signing key is made here, for one grant, and never leaves this process. The proof binds
//! it to the broker's nonce and origin, so that nobody can have another's key recorded as theirs.

use ed25519_dalek::{Signer as _, SigningKey};

use crate::client::broker::{Broker, BrokerError};
use crate::core::api::{ApiErrorBody, ErrorCode, GrantAnswer, GrantRequest, KeyProof};
use crate::core::encoding;
use crate::core::grant::Access;
use crate::core::identity::Declared;
use crate::core::secret::Secret;
use crate::sys::random;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub target: String,
    pub database: Option<String>,
    pub access: Access,
    pub seconds: Option<u64>,
    pub reason: Option<String>,
    pub ticket: Option<String>,
    pub declared: Declared,
    /// Whether this program will keep a signed record; native clients cannot.
    pub sign: bool,
}

/// A grant and what is needed to use it.
pub struct Credential {
    pub answer: GrantAnswer,
    /// Signs the client's transcript; none where none was asked for.
    pub signing: Option<SigningKey>,
    /// The audit log's origin and verifier key, as the broker's discovery names them.
    pub origin: String,
    pub log_key: String,
}

/// Asks for a grant on a target. An unknown target is answered with the nearest one that is known.
pub async fn obtain(broker: &Broker, token: &Secret, ask: Ask) -> Result<Credential, BrokerError> {
    let (discovery, signing, proof) = if ask.sign {
        let (discovery, challenge) = tokio::try_join!(broker.discovery(), broker.challenge(token))?;
        let key = SigningKey::from_bytes(&random::bytes());
        let proof = proof(&key, &challenge.nonce, &discovery.origin);
        (discovery, Some(key), Some(proof))
    } else {
        (broker.discovery().await?, None, None)
    };
    let Ask { target, database, access, seconds, reason, ticket, declared, sign: _ } = ask;
    let request = GrantRequest { target, database, access, seconds, reason, ticket, declared, proof };
    match broker.grant(token, &request).await {
        Ok(answer) => Ok(Credential { answer, signing, origin: discovery.origin, log_key: discovery.log_key }),
        Err(BrokerError::Api(error)) if error.code == ErrorCode::UnknownTarget => {
            Err(BrokerError::Api(unknown_target(broker, token, &request.target, error).await))
        }
        Err(error) => Err(error),
    }
}

/// A signature over the broker's nonce and its log's origin, by the key that is to be recorded.
fn proof(key: &SigningKey, nonce: &str, origin: &str) -> KeyProof {
    let signature = key.sign(format!("dbgate-pop/v1\n{nonce}\n{origin}\n").as_bytes());
    KeyProof {
        client_key: encoding::hex(key.verifying_key().as_bytes()),
        nonce: nonce.to_owned(),
        signature: encoding::hex(&signature.to_bytes()),
    }
}

/// Says which target may have been meant. Only targets that the caller may see are looked at.
async fn unknown_target(broker: &Broker, token: &Secret, target: &str, error: ApiErrorBody) -> ApiErrorBody {
    let known = broker.targets(token).await.map(|answer| answer.targets).unwrap_or_default();
    let names = known.iter().map(|target| target.name.as_str());
    let meant = nearest(target, names).map(|name| format!(" Did you mean {name}?")).unwrap_or_default();
    let target = crate::core::text::escape(target);
    ApiErrorBody {
        message: format!("No target \"{target}\".{meant}"),
        hint: Some("List: dbgate ls".to_owned()),
        ..error
    }
}

/// The name that differs in the fewest letters, if that is not most of them.
fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 2).clamp(1, 3);
    names.map(|name| (difference(word, name), name)).filter(|(letters, _)| *letters <= most).min().map(|(_, name)| name)
}

/// How many letters must be added, dropped or changed (Levenshtein), row by row.
fn difference(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (cell, other) in row.iter_mut().zip(std::iter::once(None).chain(to.chars().map(Some))) {
            let above = *cell;
            *cell = match other {
                None => left,
                Some(other) => (diagonal + usize::from(other != letter)).min(above + 1).min(left + 1),
            };
            diagonal = above;
            left = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, VerifyingKey};

    use super::*;

    #[test]
    fn the_proof_holds_for_its_own_nonce_and_origin_only() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let proof = proof(&key, "n1", "gate.example.com/log");
        let public = encoding::unhex::<32>(&proof.client_key).expect("32 bytes of hex");
        let public = VerifyingKey::from_bytes(&public).expect("a key");
        let signature = Signature::from_bytes(&encoding::unhex::<64>(&proof.signature).expect("64 bytes of hex"));
        assert!(public.verify_strict(b"dbgate-pop/v1\nn1\ngate.example.com/log\n", &signature).is_ok());
        assert!(public.verify_strict(b"dbgate-pop/v1\nn2\ngate.example.com/log\n", &signature).is_err());
    }

    #[test]
    fn letters_are_counted_as_levenshtein_does() {
        for (from, to, letters) in
            [("", "", 0), ("a", "", 1), ("", "abc", 3), ("prd", "prod", 1), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(difference(from, to), letters, "{from} {to}");
        }
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let names = ["dev", "staging", "prod"];
        assert_eq!(nearest("prd", names.into_iter()), Some("prod"));
        assert_eq!(nearest("stagging", names.into_iter()), Some("staging"));
        assert_eq!(nearest("warehouse", names.into_iter()), None);
    }
}
